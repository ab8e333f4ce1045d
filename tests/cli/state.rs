//! `highwater state read` and `state(...)` in `highwater sql`: what is shown of a checkpoint, and what is refused.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program::{Finished, run, succeed};

const SQL: &str = "CREATE TABLE ev (kind STRING, v BIGINT) USING json OPTIONS (path 'in', maxFilesPerTrigger '1');
    CREATE SINK out USING sqlite OPTIONS (path 'out.db', table 't', outputMode 'update');
    CREATE FLOW counts AS INSERT INTO out SELECT kind, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY kind;
    CREATE STREAMING TABLE copies AS SELECT kind FROM STREAM ev;";

/// A folder with a storage `st`, in which `counts` has done three batches.
fn three_batches() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    for (number, kind) in ["a", "b", "a"].iter().enumerate() {
        let row = format!("{{\"kind\":\"{kind}\",\"v\":{number}}}\n");
        fs::write(folder.path().join(format!("in/{number}.json")), row).unwrap();
    }
    fs::write(folder.path().join("q.sql"), SQL).unwrap();
    succeed(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", "available-now"]);
    folder
}

fn read(folder: &Path, arguments: &[&str]) -> Finished {
    run(folder, &[&["state", "read", "--storage", "st"], arguments].concat())
}

#[test]
fn the_tables_of_a_query_are_listed_and_read() {
    let folder = three_batches();
    let list = read(folder.path(), &["--query", "counts", "--output", "json"]);
    assert_eq!((list.code, list.stderr.as_str()), (0, ""));
    let table: Value = serde_json::from_str(list.stdout.trim()).unwrap();
    assert_eq!((&table["stateStoreName"], &table["rows"]), (&"aggregate-0".into(), &2.into()));
    assert_eq!((&table["operatorName"], &table["maxBatchId"]), (&"stateStoreSave".into(), &2.into()));
    assert!(table["sizeBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{table}");
    let check = |arguments: &[&str], expected: &[&str]| {
        let found = read(folder.path(), arguments);
        assert_eq!((found.code, found.stderr.as_str()), (0, ""), "{arguments:?}");
        let mut lines: Vec<&str> = found.stdout.lines().collect();
        lines[1..].sort_unstable();
        assert_eq!(lines, expected, "{arguments:?}");
    };
    let header = "kind,count(1),sum(v),_expiry,_shard";
    let all = ["--query", "counts", "--operator", "aggregate-0", "--output", "csv"];
    check(&all, &[header, "a,2,2,,93", "b,1,1,,44"]);
    check(&[&all[..], &["--batch", "0"]].concat(), &[header, "a,1,0,,93"]);
    check(&[&all[..], &["--limit", "0"]].concat(), &[header]);
    let location = folder.path().join("st/checkpoints/counts").display().to_string();
    check(&["--checkpoint", &location, "--operator", "0", "--output", "csv"], &[header, "a,2,2,,93", "b,1,1,,44"]);
}

#[test]
fn sql_reads_state_beside_tables() {
    let folder = three_batches();
    let sql = "SELECT kind, `count(1)` AS n FROM state('counts', 'aggregate-0') ORDER BY kind";
    let found = run(folder.path(), &["sql", sql, "--storage", "st", "--output", "csv"]);
    assert_eq!((found.code, found.stdout.as_str()), (0, "kind,n\na,2\nb,1\n"), "{}", found.stderr);
    let wrong = run(folder.path(), &["sql", "SELECT * FROM state('count')", "--storage", "st"]);
    assert_eq!(wrong.code, 3, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("there is no checkpoint of a query 'count' in st"), "{}", wrong.stderr);
    assert!(wrong.stderr.ends_with("help: did you mean 'counts'?\n"), "{}", wrong.stderr);
}

#[test]
fn what_is_not_there_is_told_with_a_way_out() {
    let folder = three_batches();
    let check = |arguments: &[&str], message: &str, help: &str| {
        let found = read(folder.path(), arguments);
        assert_ne!(found.code, 0, "{arguments:?}");
        assert!(found.stderr.contains(message), "{arguments:?}: {}", found.stderr);
        assert!(found.stderr.ends_with(&format!("help: {help}\n")), "{arguments:?}: {}", found.stderr);
    };
    check(
        &["--query", "counts", "--operator", "aggregate-1"],
        "query 'counts' has no operator 'aggregate-1' with state",
        "did you mean 'aggregate-0'?",
    );
    check(
        &["--query", "counts", "--batch", "9"],
        "after batch 9 is not in checkpoint",
        "there is that of batches 0 to 2",
    );
    check(
        &["--query", "copies"],
        "query 'copies' has no state in checkpoint",
        "only queries that group, join, deduplicate or limit keep state; see highwater explain",
    );
    check(
        &["--checkpoint", "nowhere"],
        "there is no checkpoint at nowhere",
        "name the folder or the URL that has the file 'metadata'",
    );
}
