//! The example projects on both engines, from the same topic or the same files.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{difference, run_on_both, run_on_spark, server, spark_rows, unique};
use crate::broker::TestBroker;
use crate::examples::{access_log, examples, generate};
use crate::program::{run, succeed};

/// The rows of a table of an example here.
fn here(folder: &Path, example: &str, table: &str) -> Vec<String> {
    let (sql, storage) = (format!("SELECT * FROM {table}"), format!("examples/{example}/data"));
    let found = succeed(folder, &["sql", &sql, "--storage", &storage, "--output", "json"]);
    let mut rows: Vec<String> = found.lines().map(super::canonical).collect();
    rows.sort();
    rows
}

/// Gives tables of an example names of this run alone.
fn rename(folder: &Path, example: &str, tables: &[&str]) -> Vec<String> {
    let project = folder.join("examples").join(example);
    let names: Vec<String> = tables.iter().map(|table| unique(table)).collect();
    let mut files: Vec<_> =
        fs::read_dir(project.join("transformations")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(project.join("highwater.yml"));
    for path in files {
        let mut text = fs::read_to_string(&path).unwrap();
        for (table, name) in tables.iter().zip(&names) {
            text = text.replace(&format!("TABLE {table} AS"), &format!("TABLE {name} AS"));
            text = text.replace(&format!("\n  {table}:"), &format!("\n  {name}:"));
        }
        fs::write(path, text).unwrap();
    }
    names
}

fn check(folder: &Path, example: &str, tables: &[&str], params: &[&str]) {
    let names = rename(folder, example, tables);
    let mut params = params.to_vec();
    params.push("spark.sql.sources.default=json");
    run_on_both(folder, &format!("examples/{example}"), &params);
    for (table, name) in tables.iter().zip(&names) {
        let (ours, spark) = (here(folder, example, name), spark_rows(name));
        assert!(!ours.is_empty(), "{table} has no rows");
        assert!(ours == spark, "{example}, {table}:\n{}", difference(&ours, &spark));
    }
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn windows_over_a_topic_are_the_same() {
    let folder = examples();
    let broker = TestBroker::start(folder.path());
    generate(folder.path(), &broker, "sensors", "iot.sensor.measured");
    check(folder.path(), "iot", &["device_windows"], &[&format!("bootstrap={}", broker.address)]);
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn records_of_a_sink_are_the_same() {
    let folder = examples();
    let broker = TestBroker::start(folder.path());
    generate(folder.path(), &broker, "payments", "payments.card.authorized");
    let bootstrap = format!("bootstrap={}", broker.address);
    let consume = || {
        let arguments = ["topic", "consume", "payments.fraud.suspected", "-e", "--bootstrap", &broker.address];
        let mut rows: Vec<String> = succeed(folder.path(), &arguments).lines().map(super::canonical).collect();
        rows.sort();
        rows
    };
    succeed(folder.path(), &["run", "examples/fraud", "--trigger", "available-now", "--param", &bootstrap]);
    let here = consume();
    assert!(here.len() > 1, "the payments have no bursts");
    let finished = run_on_spark(folder.path(), "examples/fraud", &["--param", &bootstrap]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let mut twice: Vec<String> = here.iter().chain(&here).cloned().collect();
    twice.sort();
    let both = consume();
    assert!(both == twice, "{}", difference(&twice, &both));
    // A second run has nothing to do: offsets are where the first left them.
    assert_eq!(run_on_spark(folder.path(), "examples/fraud", &["--param", &bootstrap]).code, 0);
    assert_eq!(consume(), twice);
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn a_sink_of_ours_alone_is_drained_from_a_topic() {
    let folder = examples();
    let broker = TestBroker::start(folder.path());
    generate(folder.path(), &broker, "clicks", "web.page.viewed");
    let bootstrap = format!("bootstrap={}", broker.address);
    let rows = |database: &str| {
        let sql = "SELECT * FROM page_traffic ORDER BY window_start, page";
        let found = Command::new("sqlite3").arg(folder.path().join(database)).arg(sql).output().expect("sqlite3 runs");
        String::from_utf8(found.stdout).unwrap()
    };
    let here = ["run", "examples/user-behaviour", "--trigger", "available-now", "--param", &bootstrap];
    succeed(folder.path(), &[&here[..], &["--param", "sqlite=here.db"]].concat());
    let expected = rows("here.db");
    assert!(expected.lines().count() > 10, "{expected}");
    // A second run finds nothing new on Spark, and nothing to drain.
    for _ in 0..2 {
        let routed = ["--param", &bootstrap, "--param", "sqlite=spark.db", "--route-through", &broker.address];
        let finished = run_on_spark(folder.path(), "examples/user-behaviour", &routed);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        assert_eq!(rows("spark.db"), expected);
    }
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn tables_that_are_replaced_are_the_same() {
    let folder = examples();
    let readings = folder.path().join("readings");
    fs::create_dir(&readings).unwrap();
    let csv = "timestamp,value\n2024-01-01 00:10:00,20\n2024-01-01 00:50:00,22\n2024-01-01 01:00:00,30\n";
    fs::write(readings.join("kitchen.csv"), csv).unwrap();
    fs::write(readings.join("notes.txt"), "2024-01-01 00:10:00,99\n").unwrap();
    check(folder.path(), "sensor-readings", &["hourly"], &["path=readings"]);
    fs::write(folder.path().join("access.log"), access_log()).unwrap();
    check(folder.path(), "access-log", &["traffic_per_path", "traffic_per_hour", "visits"], &["path=access.log"]);
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn a_server_looks_at_a_project_and_starts_nothing() {
    let folder = examples();
    let server = server();
    let validate =
        |project: &str| run(folder.path(), &["validate", project, "--engine", &server, "--param", "path=/x"]);
    let finished = validate("examples/iot");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let sql = folder.path().join("examples/iot/transformations/2_devices.sql");
    let text = fs::read_to_string(&sql).unwrap();
    // Taken by Highwater, and not by Spark: a gap that is an interval.
    let more = "CREATE STREAMING TABLE visits AS SELECT\n  site, count(*) AS n\nFROM STREAM readings WATERMARK ts DELAY OF \
                INTERVAL 2 SECONDS\nGROUP BY session_window(ts, INTERVAL 5 SECONDS), site;";
    fs::write(&sql, format!("{text}\n{more}\n")).unwrap();
    let finished = validate("examples/iot");
    assert_eq!(finished.code, 3, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("2_devices.sql:") && finished.stderr.contains("flow 'visits'"),
        "{}",
        finished.stderr
    );
}
