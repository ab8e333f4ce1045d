//! `highwater demo`: results from all three pipelines, a clean end, and a second start that goes on.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{Finished, Running, run, succeed};

/// What the pipelines have written, by query: a row's key and the row.
type Results = BTreeMap<&'static str, BTreeMap<String, Value>>;

/// Runs the demo until every pipeline has shown something, then presses Ctrl-C.
fn run_demo(folder: &Path) -> Finished {
    let mut demo = Running::start(folder, &["demo", "--listen", "127.0.0.1:0", "--rate", "300"]);
    let mut queries: Vec<String> = (0..3).map(|_| demo.wait_for("first result after ")).collect();
    queries.sort_by_key(|line| line.split("query=").nth(1).map(str::to_owned));
    for (line, query) in queries.iter().zip(["device_windows", "page_traffic_flow", "suspected_fraud"]) {
        assert!(line.contains(query), "{line}");
    }
    demo.interrupt()
}

/// Rows by key; two rows of one key are one window twice.
fn rows(lines: &str, keys: &[&str]) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for line in lines.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let key: Vec<&str> = keys.iter().map(|key| row[key].as_str().unwrap()).collect();
        assert!(found.insert(key.join(" "), row.clone()).is_none(), "twice: {line}");
    }
    found
}

fn results(folder: &Path) -> Results {
    let table = |table: &str, storage: &str, keys: &[&str]| {
        let sql = format!("SELECT * FROM {table}");
        rows(&succeed(folder, &["sql", &sql, "--storage", storage, "--output", "json"]), keys)
    };
    let devices = table("device_windows", "highwater-demo/iot/data", &["window_start", "device_id", "site"]);
    let traffic = table("page_traffic", "highwater-demo/user-behaviour/data", &["window_start", "page"]);
    let broker = TestBroker::over(folder, "highwater-demo/broker");
    let consume = ["topic", "consume", "payments.fraud.suspected", "-e", "--bootstrap", &broker.address];
    let alerts = rows(&succeed(folder, &consume), &["window_start", "card_id"]);
    BTreeMap::from([("alerts", alerts), ("devices", devices), ("traffic", traffic)])
}

#[test]
fn the_demo_shows_results_ends_cleanly_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run_demo(folder.path());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for said in [
        "everything is kept in highwater-demo; look at the results:",
        "  alerts   highwater broker --data highwater-demo/broker, then highwater topic consume payments.fraud.suspected",
        "  traffic  sqlite3 -box highwater-demo/page-traffic.db 'SELECT",
        "--storage highwater-demo/iot/data",
        "'highwater demo --data highwater-demo' goes on from here",
    ] {
        assert!(ended.stderr.contains(said), "'{said}' is not in\n{}", ended.stderr);
    }
    let first = results(folder.path());
    let again = run_demo(folder.path());
    assert_eq!(again.code, 0, "{}", again.stderr);
    let second = results(folder.path());
    for (query, before) in &first {
        assert!(!before.is_empty(), "{query} has no result");
        let after = &second[query];
        assert!(after.len() > before.len(), "{query} had {} rows and has {}", before.len(), after.len());
        // A window that was shown is final.
        for (key, row) in before {
            assert_eq!(after.get(key), Some(row), "{query}: {key}");
        }
    }
}

#[test]
fn a_demo_that_is_running_is_not_started_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Running::start(folder.path(), &["demo", "--listen", "127.0.0.1:0", "--rate", "1"]);
    demo.wait_for("Ctrl-C ends the demo");
    let second = run(folder.path(), &["demo", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains("highwater-demo/broker is in use by another broker; stop that one"),
        "{}",
        second.stderr
    );
    assert_eq!(demo.interrupt().code, 0);
}
