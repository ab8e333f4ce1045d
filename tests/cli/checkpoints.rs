//! `highwater checkpoint`: what is told of a checkpoint, how damage is named, what pruning leaves.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program::{Finished, Running, run, succeed};

const SQL: &str = "CREATE TABLE ev (kind STRING, ts TIMESTAMP) USING json OPTIONS (path 'in', maxFilesPerTrigger '1');
    CREATE SINK out USING sqlite OPTIONS (path 'out.db', table 't', outputMode 'update');
    CREATE FLOW counts AS INSERT INTO out SELECT kind, count(*) AS n FROM STREAM ev GROUP BY kind;
    CREATE STREAMING TABLE copies AS SELECT kind FROM STREAM ev;";

const RUN: [&str; 6] = ["run", "q.sql", "--storage", "st", "--trigger", "available-now"];

/// A folder with a storage `st`, in which `counts` (with state) and `copies` (without) have done five batches each.
fn five_batches() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    for number in 0..5 {
        let row = format!("{{\"kind\":\"k{number}\",\"ts\":\"2024-01-01T00:00:0{number}Z\"}}\n");
        fs::write(folder.path().join(format!("in/{number}.json")), row).unwrap();
    }
    fs::write(folder.path().join("q.sql"), SQL).unwrap();
    succeed(folder.path(), &RUN);
    folder
}

fn checkpoint(folder: &Path, arguments: &[&str]) -> Finished {
    run(folder, &[&["checkpoint"], arguments, &["--storage", "st"]].concat())
}

fn json(finished: &Finished) -> Vec<Value> {
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_list_has_every_query() {
    let folder = five_batches();
    let listed = json(&checkpoint(folder.path(), &["list", "--output", "json"]));
    let rows: Vec<_> = listed
        .iter()
        .map(|row| (row["query"].as_str().unwrap(), row["first_batch"].as_u64(), row["last_commit"].as_u64()))
        .collect();
    assert_eq!(rows, [("copies", Some(0), Some(4)), ("counts", Some(0), Some(4))]);
    assert_eq!(listed[0]["state_bytes"], 0);
    assert!(listed[1]["state_bytes"].as_u64().unwrap() > 100, "{}", listed[1]);
    assert_eq!(listed[1]["problem"], Value::Null);
    fs::write(folder.path().join("st/checkpoints/counts/commits/4"), "torn").unwrap();
    let listed = json(&checkpoint(folder.path(), &["list", "--output", "json"]));
    let problem = listed[1]["problem"].as_str().unwrap();
    assert!(problem.contains("commits/4 is damaged: it is torn"), "{problem}");
    assert_eq!(listed[0]["problem"], Value::Null, "the others are still listed");
}

#[test]
fn an_inspection_shows_batches_operators_and_one_batch() {
    let folder = five_batches();
    let inspected = json(&checkpoint(folder.path(), &["inspect", "counts", "--output", "json"]));
    let batches: Vec<_> = inspected[0]["batches"].as_array().unwrap().iter().map(|batch| &batch["batch"]).collect();
    assert_eq!(batches, [0, 1, 2, 3, 4]);
    assert_eq!(inspected[0]["operators"].as_object().unwrap().keys().collect::<Vec<_>>(), ["aggregate-0"]);
    assert_eq!(inspected[0]["target"], "sink out (USING sqlite)");
    let batch = json(&checkpoint(folder.path(), &["inspect", "counts", "--batch", "2", "--output", "json"]));
    assert_eq!(batch[0]["sources"][0]["name"], "ev");
    assert_eq!(batch[0]["state_changes"]["aggregate-0"], 1);
    let report = checkpoint(folder.path(), &["inspect", "copies"]).stdout;
    assert!(report.starts_with("query copies ("), "{report}");
    assert!(report.contains("\nstate: the query keeps none\n"), "{report}");
    let runs = checkpoint(folder.path(), &["inspect", "counts", "--section", "runs", "--output", "csv"]).stdout;
    assert!(runs.starts_with("run,started,process,run_id\n1,"), "{runs}");
    let csv = checkpoint(folder.path(), &["inspect", "counts", "--output", "csv"]).stdout;
    assert!(
        csv.starts_with("batch,committed,started,watermark,changelog_bytes,snapshot,restorable,dead_letters\n0,true,")
    );
    // By its location, without a storage folder.
    let location = folder.path().join("st/checkpoints/counts").display().to_string();
    let by_location = run(folder.path(), &["checkpoint", "inspect", "--location", &location, "--output", "json"]);
    assert_eq!(json(&by_location), inspected);
}

#[test]
fn mistakes_name_what_there_is() {
    let folder = five_batches();
    let check = |arguments: &[&str], code: i32, stderr: &str| {
        let finished = checkpoint(folder.path(), arguments);
        assert_eq!((finished.code, finished.stderr.as_str()), (code, stderr));
    };
    check(
        &["inspect", "count"],
        2,
        "error: there is no checkpoint of a query 'count' in st\nhelp: did you mean 'counts'?\n",
    );
    let location = folder.path().join("st/checkpoints/counts").canonicalize().unwrap();
    let found = checkpoint(folder.path(), &["inspect", "counts", "--batch", "9"]);
    assert_eq!(found.code, 3);
    assert!(found.stderr.contains("has no batch 9\nhelp: it has the batches 0 to 4\n"), "{}", found.stderr);
    let nowhere = run(folder.path(), &["checkpoint", "verify", "--location", "nowhere"]);
    assert_eq!(
        (nowhere.code, nowhere.stderr.as_str()),
        (
            3,
            "error: there is no checkpoint at 'nowhere': nowhere/metadata does not exist\nhelp: name the checkpoint location \
             of a query, the folder in which its 'metadata' and 'offsets' are\n"
        )
    );
    assert_eq!(run(folder.path(), &["checkpoint", "inspect"]).code, 2);
    assert!(location.is_dir());
}

#[test]
fn damage_is_named_with_a_way_out() {
    let folder = five_batches();
    let whole = checkpoint(folder.path(), &["verify", "--output", "csv"]);
    assert_eq!((whole.code, whole.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = whole.stdout.lines().collect();
    assert_eq!(lines[0], "query,files,size_bytes,damaged,restorable,next_start");
    assert!(lines[1].ends_with(",0,0-4,runs batch 5"), "{}", lines[1]);
    assert!(lines[2].ends_with(",0,0-4,\"runs batch 5, from the state after batch 4\""), "{}", lines[2]);
    let changelog = folder.path().join("st/checkpoints/counts/state/2.changelog");
    let mut bytes = fs::read(&changelog).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&changelog, bytes).unwrap();
    let damaged = checkpoint(folder.path(), &["verify", "counts", "--output", "json"]);
    assert_eq!(damaged.code, 4, "{}", damaged.stderr);
    let told: Value = serde_json::from_str(&damaged.stdout).unwrap();
    assert_eq!(told["restorable"], serde_json::json!([0, 1]));
    let problem = "the state after batch 4 cannot be restored: state/2.changelog is missing";
    assert_eq!(told["next_start"], format!("is refused: {problem}"));
    let location = changelog.canonicalize().unwrap().display().to_string();
    let expected = format!(
        "error: state changelog {location} is damaged: its content does not match its checksum\nhelp: restore this file \
         from a backup, or give the query a new checkpoint location to start over\n"
    );
    assert_eq!(damaged.stderr, expected);
    // What is damaged is not made smaller: an older file may be all that helps.
    let pruned = checkpoint(folder.path(), &["prune", "counts", "--keep", "1"]);
    assert_eq!(pruned.code, 1);
    assert!(pruned.stderr.contains("is damaged, so nothing of it is removed: state changelog "), "{}", pruned.stderr);
}

#[test]
fn pruning_says_what_goes_and_the_query_goes_on() {
    let folder = five_batches();
    let expected = "removed,files,batches\noffset log,3,0-2\ncommit log,3,0-2\nchangelogs,0,\"\"\nsnapshots,0,\"\"\ncontent \
                    files,0,\n";
    let prune = ["prune", "counts", "--keep", "2", "--output", "csv"];
    let planned = checkpoint(folder.path(), &[&prune[..], &["--dry-run"]].concat());
    assert_eq!((planned.code, planned.stdout.as_str()), (0, expected), "{}", planned.stderr);
    assert!(planned.stderr.contains("dry run: would remove 6 files, "), "{}", planned.stderr);
    let done = checkpoint(folder.path(), &prune);
    assert_eq!((done.code, done.stdout.as_str()), (0, expected), "{}", done.stderr);
    assert!(done.stderr.contains("removed 6 files, "), "{}", done.stderr);
    let left = checkpoint(folder.path(), &["verify", "counts", "--output", "csv"]).stdout;
    assert!(left.contains(",0,3-4,"), "{left}");
    fs::write(folder.path().join("in/5.json"), "{\"kind\":\"k0\",\"ts\":\"2024-01-01T00:00:09Z\"}\n").unwrap();
    succeed(folder.path(), &RUN);
    let query = ["sql", "SELECT n FROM out WHERE kind = 'k0'", "--storage", "st", "--output", "csv"];
    assert_eq!(succeed(folder.path(), &query), "n\n2\n");
    assert_eq!(checkpoint(folder.path(), &["prune", "counts", "--keep", "0"]).code, 2);
}

#[test]
fn a_running_query_is_looked_at_and_not_pruned() {
    let folder = five_batches();
    let running = Running::start(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", "100 milliseconds"]);
    crate::program::eventually("a second run", || {
        let runs = checkpoint(folder.path(), &["inspect", "counts", "--section", "runs", "--output", "csv"]).stdout;
        (runs.lines().count() == 3).then_some(())
    });
    assert_eq!(checkpoint(folder.path(), &["verify"]).code, 0);
    let refused = checkpoint(folder.path(), &["prune", "counts", "--keep", "1"]);
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.starts_with("error: query 'counts' is already running as process "), "{}", refused.stderr);
    assert_eq!(running.interrupt().code, 0);
}
