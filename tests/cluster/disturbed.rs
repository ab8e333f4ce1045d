//! Brokers are killed, restarted in turn and cut off under clients and pipelines that write exactly once.
//!
//! ```text
//!   clients ──> plain, txn ──> highwater run ──> topic copied   (one transaction a batch)
//!      │                                    └──> SQLite kept
//!      └─> ledger <── compared ── all of them
//! ```
//!
//! What can be read of the clients' topics is compared with what the clients know (`ledger.rs`); what the pipeline wrote
//! must then be exactly what can be read: nothing lost, nothing twice. After each disturbance rows must go on to arrive.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::{BROKERS, Cluster};
use crate::ledger::{Load, Outcome, TOPICS};
use crate::program::{Running, eventually, run, succeed};

const COUNT: [&str; 6] = ["sql", "SELECT count(*) FROM kept", "--storage", "st", "--output", "csv"];

/// Rows that have to arrive after a disturbance before the next one.
const ROWS: u64 = 500;

fn write_project(folder: &Path, address: &str) {
    let sql = format!(
        "CREATE TABLE ev USING kafka OPTIONS (kafka.bootstrap.servers '{address}', subscribe 'plain,txn',
            startingOffsets 'earliest');
         CREATE SINK copied USING kafka OPTIONS (kafka.bootstrap.servers '{address}', topic 'copied', transactional 'true');
         CREATE FLOW copy AS INSERT INTO copied SELECT value FROM STREAM ev;
         CREATE SINK kept USING sqlite OPTIONS (path 'out.db', table 'kept');
         CREATE FLOW keep AS INSERT INTO kept SELECT CAST(value AS STRING) AS v FROM STREAM ev;"
    );
    fs::write(folder.join("q.sql"), sql).unwrap();
}

/// Rows that have arrived in SQLite.
fn rows(folder: &Path) -> u64 {
    run(folder, &COUNT).stdout.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0)
}

fn wait_for_rows(what: &str, folder: &Path) {
    let before = rows(folder);
    eventually(&format!("rows after {what}"), || (rows(folder) >= before + ROWS).then_some(()));
}

/// The records of a topic that are committed.
fn consumed(folder: &Path, cluster: &Cluster, topic: &str) -> Vec<String> {
    let consume = ["topic", "consume", topic, "-e", "--bootstrap", &cluster.address];
    let mut lines: Vec<String> = succeed(folder, &consume).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Runs clients and pipeline, disturbs the cluster, and compares.
#[expect(clippy::print_stdout, reason = "what a long run has done is told to whoever asked for it")]
fn nothing_is_lost(what: &str, disturb: impl FnOnce(&Cluster, &dyn Fn(&str), &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cluster = Cluster::take(folder);
    let seed = u64::from(std::process::id());
    cluster.create(folder, "copied", "3");
    let load = Load::start(folder, &cluster.address, true, seed);
    write_project(folder, &cluster.address);
    // librdkafka can wait for ever for a coordinator that is gone: the sink gives such a batch up, and the query is tried again.
    let arguments = ["run", "q.sql", "--storage", "st", "--trigger", "200 milliseconds", "--retries", "5"];
    let mut query = Running::start(folder, &arguments);
    wait_for_rows("the start", folder);
    let (began, before) = (Instant::now(), load.progress());
    let recovers = |what: &str| {
        let (at, before) = (Instant::now(), load.progress());
        wait_for_rows(what, folder);
        eventually("records of the clients", || {
            let now = load.progress();
            (now.0 > before.0 && now.1 > before.1).then_some(())
        });
        println!("{what}: {ROWS} more rows after {:.1} s", at.elapsed().as_secs_f64());
    };
    disturb(&cluster, &recovers, folder);
    TOPICS.iter().for_each(|topic| cluster.wait_until_whole(folder, topic));
    let disturbed_s = began.elapsed().as_secs_f64();
    let acknowledged = load.progress().0 - before.0;
    let (ledger, found) = load.stop();
    let shown = &ledger.violations[..ledger.violations.len().min(20)];
    assert!(shown.is_empty(), "{what}, seed {seed}:\n  {}", shown.join("\n  "));
    let mut truth: Vec<String> = found.into_values().collect();
    truth.sort();
    query.wait_until("the last rows", || rows(folder) >= truth.len() as u64);
    query.wait_until("the last records", || consumed(folder, &cluster, "copied").len() >= truth.len());
    assert!(query.is_running(), "{what}: the query ended: {}", query.wait().stderr);
    let ended = query.interrupt();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let kept = succeed(folder, &["sql", "SELECT v FROM kept", "--storage", "st", "--output", "csv"]);
    let mut kept: Vec<String> = kept.lines().skip(1).map(str::to_owned).collect();
    kept.sort();
    assert!(kept == truth, "{what}, SQLite: {}", difference(&kept, &truth));
    let copied = consumed(folder, &cluster, "copied");
    assert!(copied == truth, "{what}, topic: {}", difference(&copied, &truth));
    let (committed, aborted) = (ledger.count(Outcome::Committed), ledger.count(Outcome::Aborted));
    println!(
        "{what}: {} rows, {acknowledged} records acknowledged in {disturbed_s:.0} s of trouble, {committed} transactions \
         committed, {aborted} aborted",
        truth.len()
    );
    assert!(committed > 10 && aborted > 3, "too few transactions to mean anything: {committed}, {aborted}");
}

/// The first rows of two sorted lists that differ.
fn difference(found: &[String], expected: &[String]) -> String {
    let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
    let near = |rows: &[String]| rows[at.min(rows.len())..(at + 3).min(rows.len())].join(", ");
    format!(
        "{} rows, expected {}; from {at} on {} instead of {}",
        found.len(),
        expected.len(),
        near(found),
        near(expected)
    )
}

#[test]
#[ignore = "needs a Kafka cluster: make kafka-test"]
fn the_leader_is_killed() {
    nothing_is_lost("kill -9 of leaders", |cluster, recovers, folder| {
        for topic in TOPICS {
            let leader = cluster.leader(folder, topic);
            cluster.script("kill", leader);
            recovers(&format!("kill -9 of broker {leader}, which led {topic}-0"));
            cluster.restart(folder, leader, &TOPICS);
        }
    });
}

#[test]
#[ignore = "needs a Kafka cluster: make kafka-test"]
fn brokers_are_restarted_in_turn() {
    nothing_is_lost("a rolling restart", |cluster, recovers, folder| {
        for broker in BROKERS {
            cluster.restart(folder, broker, &TOPICS);
            recovers(&format!("the restart of broker {broker}"));
        }
    });
}

#[test]
#[ignore = "needs a Kafka cluster: make kafka-test"]
fn the_leader_is_cut_off_and_comes_back() {
    nothing_is_lost("a broker that is cut off", |cluster, recovers, folder| {
        let leader = cluster.leader(folder, TOPICS[1]);
        cluster.script("pause", leader);
        // Its connections stay open and nobody answers: the others must notice by themselves.
        eventually("another leader", || {
            let now = cluster.partitions(folder, TOPICS[1]).first()?["leader"].as_i64();
            now.filter(|now| *now != leader)
        });
        recovers(&format!("SIGSTOP of broker {leader}"));
        cluster.script("resume", leader);
        TOPICS.iter().for_each(|topic| cluster.wait_until_whole(folder, topic));
        recovers(&format!("SIGCONT of broker {leader}"));
    });
}
