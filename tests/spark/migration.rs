//! A query that moves from Spark to Highwater and back: no event is read twice, and none is missed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{json_rows, run_on_spark, server, spark_rows, spark_table, unique};
use crate::broker::TestBroker;
use crate::program::{Running, highwater, run, succeed};

/// Events in the topic.
const EVENTS: usize = 6000;

/// A project that copies a topic into a table, in batches of a few events.
pub(super) fn project(folder: &Path, name: &str, table: &str, address: &str, starting: &str) -> PathBuf {
    let project = folder.join(name);
    fs::create_dir_all(project.join("transformations")).unwrap();
    let yml = format!(
        "name: {name}\nstorage: file://{}/storage\nlibraries: [{{glob: {{include: transformations/**}}}}]\n",
        project.display()
    );
    fs::write(project.join("spark-pipeline.yml"), yml).unwrap();
    fs::write(project.join("highwater.yml"), "default_format: json\n").unwrap();
    let sql = format!(
        "CREATE TABLE numbers (n BIGINT) USING kafka OPTIONS ('kafka.bootstrap.servers' = '{address}', subscribe = \
         'numbers', 'value.format' = 'json', startingOffsets = '{starting}', maxOffsetsPerTrigger = '300');\nCREATE \
         STREAMING TABLE {table} USING json AS SELECT n FROM STREAM numbers;\n"
    );
    fs::write(project.join("transformations/copy.sql"), sql).unwrap();
    project
}

fn counted(rows: &[String]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let row: Value = serde_json::from_str(row).unwrap();
        *counts.entry(row["n"].as_u64().unwrap()).or_default() += 1;
    }
    counts
}

/// Whether rows are the numbers of a range, each once.
#[track_caller]
pub(super) fn each_once(rows: &[String], from: usize, to: usize) {
    let expected: BTreeMap<u64, usize> = (from..to).map(|n| (n as u64, 1)).collect();
    let found = counted(rows);
    let missing: Vec<_> = expected.keys().filter(|n| !found.contains_key(n)).take(5).collect();
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count > 1).take(5).collect();
    assert!(found == expected, "missing {missing:?}, more than once {twice:?}, {} of {}", found.len(), expected.len());
}

pub(super) fn produce(broker: &TestBroker, from: usize, to: usize) {
    let lines: String = (from..to).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    broker.produce("numbers", &lines);
}

/// The offsets in `startingOffsets = '...'`.
fn offsets(printed: &str) -> String {
    printed.split('\'').nth(1).unwrap_or_else(|| panic!("no offsets in {printed}")).to_owned()
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn a_query_moves_to_highwater_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    succeed(folder.path(), &["topic", "create", "numbers", "--partitions", "3", "--bootstrap", &broker.address]);
    produce(&broker, 0, EVENTS);
    let (first, second, third) = (unique("first"), unique("second"), unique("third"));
    let on_spark = project(folder.path(), "on-spark", &first, &broker.address, "earliest");
    let checkpoint = on_spark.join(format!("storage/_checkpoints/spark_catalog/default/{first}/{first}/0"));
    stop_half_way(folder.path(), &on_spark, &checkpoint);

    let from_spark = move_from_spark(folder.path(), &checkpoint, &first);
    let here = project(folder.path(), "here", &second, &broker.address, &from_spark);
    let run_here = ["run", here.to_str().unwrap(), "--trigger", "available-now"];
    succeed(folder.path(), &run_here);
    let mut rows = spark_rows(&first);
    let of_spark = rows.len();
    assert!(of_spark > 0 && of_spark < EVENTS, "Spark was not stopped half-way: {of_spark} rows");
    rows.extend(json_rows(&here.join("storage/tables").join(&second)));
    each_once(&rows, 0, EVENTS);

    // And back: what comes later is Spark's again.
    produce(&broker, EVENTS, EVENTS + 500);
    let query = here.join("storage/checkpoints").join(&second);
    let to_spark = offsets(&succeed(folder.path(), &["migrate", "to-spark", query.to_str().unwrap()]));
    let back = project(folder.path(), "back", &third, &broker.address, &to_spark);
    let finished = run_on_spark(folder.path(), back.to_str().unwrap(), &[]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    each_once(&spark_rows(&third), EVENTS, EVENTS + 500);
}

/// Runs on Spark until a few batches are there, and ends it as Ctrl-C does.
fn stop_half_way(folder: &Path, project: &Path, checkpoint: &Path) {
    let server = server();
    let arguments = ["run", project.to_str().unwrap(), "--trigger", "available-now", "--engine", &server];
    let process = Running::spawn(highwater(folder, &arguments));
    crate::program::eventually("three batches on Spark", || checkpoint.join("commits/2").exists().then_some(()));
    let finished = process.interrupt();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}

/// Where Highwater goes on. A last batch without its commit is in Spark's table if its file log has it.
fn move_from_spark(folder: &Path, checkpoint: &Path, table: &str) -> String {
    let arguments = ["migrate", "from-spark", checkpoint.to_str().unwrap()];
    let finished = run(folder, &arguments);
    if finished.code == 0 {
        return offsets(&finished.stdout);
    }
    assert!(finished.code == 4 && finished.stderr.contains("begun and not committed"), "{}", finished.stderr);
    let batch = fs::read_dir(checkpoint.join("offsets"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok())
        .max()
        .unwrap();
    let is_there = spark_table(table).join("_spark_metadata").join(batch.to_string()).exists();
    let what = if is_there { "skip" } else { "repeat" };
    offsets(&succeed(folder, &[&arguments[..], &["--uncommitted", what]].concat()))
}
