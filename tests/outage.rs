//! The broker dies under a query that runs: the query waits and goes on, or ends when it is told to; nothing is lost
//! and nothing counted twice.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::broker::TestBroker;
use crate::program::{Running, eventually, run, succeed};

const TOTALS: [&str; 6] = ["sql", "SELECT k, n, s FROM totals ORDER BY k", "--storage", "st", "--output", "csv"];

fn write_query(folder: &Path, broker: &TestBroker) {
    let sql = format!(
        "CREATE TABLE ev (k STRING, v BIGINT) USING kafka OPTIONS (kafka.bootstrap.servers '{}', subscribe 'ev',
            startingOffsets 'earliest', 'value.format' = 'json', maxOffsetsPerTrigger '300');
         CREATE SINK totals USING sqlite OPTIONS (path 'out.db', table 'totals', outputMode 'update');
         CREATE FLOW totals_flow AS INSERT INTO totals SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k;",
        broker.address
    );
    fs::write(folder.join("q.sql"), sql).unwrap();
}

/// So many events, with the numbers from `first` on.
pub(crate) fn events(first: u64, count: u64) -> String {
    (first..first + count).fold(String::new(), |mut lines, v| {
        writeln!(lines, r#"{{"k":"k{}","v":{v}}}"#, v % 3).unwrap();
        lines
    })
}

/// The totals of the numbers below `end`.
pub(crate) fn expected(end: u64) -> String {
    let mut text = "k,n,s\n".to_owned();
    for k in 0..3 {
        let values = (0..end).filter(|v| v % 3 == k);
        writeln!(text, "k{k},{},{}", values.clone().count(), values.sum::<u64>()).unwrap();
    }
    text
}

fn wait_for_totals(folder: &Path, end: u64) {
    let expected = expected(end);
    eventually("the totals", || (run(folder, &TOTALS).stdout == expected).then_some(()));
}

fn start_query(folder: &Path) -> Running {
    Running::start(folder, &["run", "q.sql", "--storage", "st", "--trigger", "100 milliseconds"])
}

/// A query that has read a thousand events, and its broker, which crashed with a thousand more; what the query says of it.
fn crash_under_a_query(folder: &Path) -> (TestBroker, Running, String) {
    let mut broker = TestBroker::start_on_own_port(folder);
    write_query(folder, &broker);
    broker.produce("ev", &events(0, 1000));
    let mut query = start_query(folder);
    wait_for_totals(folder, 1000);
    broker.produce("ev", &events(1000, 1000));
    broker.crash();
    let told = query.wait_for("trying again for up to 60 s");
    (broker, query, told)
}

#[test]
fn a_query_goes_on_when_the_broker_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut broker, mut query, told) = crash_under_a_query(folder.path());
    assert!(told.contains(&format!("Kafka broker {}", broker.address)), "{told}");
    broker.restart();
    query.wait_for("Kafka answers again");
    broker.produce("ev", &events(2000, 1000));
    wait_for_totals(folder.path(), 3000);
    let ended = query.interrupt();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // Nothing is left to do, and nothing is done again.
    succeed(folder.path(), &["run", "q.sql", "--storage", "st", "--trigger", "available-now"]);
    assert_eq!(succeed(folder.path(), &TOTALS), expected(3000));
}

#[test]
fn a_query_without_a_broker_ends_when_it_is_told_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (mut broker, mut query, _) = crash_under_a_query(folder.path());
    query.signal("INT");
    query.wait_for("finishing the current batch; Ctrl-C again aborts it");
    query.signal("INT");
    query.wait_for("aborting; the next start repeats the unfinished batch");
    let ended = query.wait();
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    // Without a broker a start fails at once and says so.
    let again = ["run", "q.sql", "--storage", "st", "--trigger", "available-now"];
    let refused = run(folder.path(), &again);
    let error = format!(
        "error: query 'totals_flow': Kafka broker {} cannot be reached: Connection refused (os error 111)\n",
        broker.address
    );
    assert!(refused.code == 1 && refused.stderr.contains(&error), "{}", refused.stderr);
    broker.restart();
    succeed(folder.path(), &again);
    assert_eq!(succeed(folder.path(), &TOTALS), expected(2000));
}

#[test]
fn a_query_is_started_again_until_its_broker_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = TestBroker::start_on_own_port(folder.path());
    write_query(folder.path(), &broker);
    broker.produce("ev", &events(0, 1000));
    broker.crash();
    let run_it = ["run", "q.sql", "--storage", "st", "--trigger", "100 milliseconds"];
    // Two starts more that fail as the first did, and then it is given up.
    let given_up = run(folder.path(), &[&run_it[..], &["--retries", "2"]].concat());
    let restarts = given_up.stderr.matches("failed, and is started again: Kafka broker ").count();
    assert_eq!((given_up.code, restarts), (1, 2), "{}", given_up.stderr);
    assert!(given_up.stderr.contains("attempt=2 of=2 in_ms=2000"), "{}", given_up.stderr);

    // It rests between two starts: told to stop it ends at once, and its exit code says that it was not well.
    let unlimited = [&run_it[..], &["--retries", "unlimited"]].concat();
    let mut query = Running::start(folder.path(), &unlimited);
    query.wait_for("attempt=3 of=unlimited in_ms=4000");
    let ended = query.interrupt();
    assert!(ended.code == 1 && ended.stderr.contains("error: query 'totals_flow': Kafka broker "), "{}", ended.stderr);

    let mut query = Running::start(folder.path(), &unlimited);
    query.wait_for("failed, and is started again: ");
    let check = ["query", "check", "--storage", "st"];
    assert_eq!(run(folder.path(), &check).code, 0, "it is not given up");
    let listed = succeed(folder.path(), &["query", "list", "--storage", "st", "--output", "csv"]);
    assert!(listed.contains("totals_flow,restarting,"), "{listed}");
    let checked = run(folder.path(), &[&check[..], &["--restarting", "0s"]].concat());
    let fault = "error: query 'totals_flow' has been started again since ";
    assert!(checked.code == 4 && checked.stderr.contains(fault), "{}", checked.stderr);
    broker.restart();
    wait_for_totals(folder.path(), 1000);
    let shown = succeed(folder.path(), &["query", "show", "totals_flow", "--storage", "st"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(run(folder.path(), &[&check[..], &["--restarting", "0s"]].concat()).code, 0, "{shown}");
    assert!(shown["restarts"].as_u64() > Some(0), "{shown}");
    assert!(shown["lastError"].as_str().is_some_and(|error| error.contains("cannot be reached")), "{shown}");
    let ended = query.interrupt();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn a_query_that_writes_to_kafka_goes_on_when_the_broker_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = TestBroker::start_on_own_port(folder.path());
    let sql = format!(
        "CREATE TABLE numbers USING rate OPTIONS (rowsPerSecond '100');
         CREATE SINK out USING kafka OPTIONS (
            kafka.bootstrap.servers '{}', topic 'out', 'value.format' = 'json');
         CREATE FLOW f AS INSERT INTO out SELECT value FROM STREAM numbers;",
        broker.address
    );
    fs::write(folder.path().join("q.sql"), sql).unwrap();
    let mut query = start_query(folder.path());
    let values = |broker: &TestBroker| -> Vec<u64> {
        let consume = ["topic", "consume", "out", "-e", "--bootstrap", &broker.address];
        let lines = run(folder.path(), &consume).stdout;
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].as_u64().unwrap();
        lines.lines().map(value).collect()
    };
    let before = eventually("rows in the topic", || Some(values(&broker)).filter(|values| !values.is_empty()));
    broker.crash();
    query.wait_for("no Kafka broker answers; trying again");
    broker.restart();
    query.wait_for("Kafka answers again");
    let more = || Some(values(&broker)).filter(|values| values.iter().max() > before.iter().max());
    eventually("more rows in the topic", more);
    let ended = query.interrupt();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!ended.stderr.contains("librdkafka"), "{}", ended.stderr);
    let mut found = values(&broker);
    found.sort_unstable();
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
}
