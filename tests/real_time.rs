//! The real-time trigger through `kill -9`: what is committed is what micro-batches commit, once.

use std::collections::BTreeMap;
use std::fs;

use crate::broker::TestBroker;
use crate::outage::{events, expected};
use crate::program::{Running, eventually, run, succeed};
use crate::random::Random;

/// How many kills; more by `HIGHWATER_KILLS`.
const KILLS: u64 = 12;
/// Events before each kill.
const EVENTS: u64 = 400;

#[test]
fn every_event_comes_out_once_through_kills() {
    let kills = std::env::var("HIGHWATER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let seed =
        std::env::var("HIGHWATER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(u64::from(std::process::id()));
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let broker = TestBroker::start(folder);
    let created = ["topic", "create", "ev", "--partitions", "3", "--lint", "off", "--bootstrap", &broker.address];
    succeed(folder, &created);
    let sql = format!(
        "CREATE TABLE ev (k STRING, v BIGINT) USING kafka OPTIONS (kafka.bootstrap.servers '{0}', subscribe 'ev',
            startingOffsets 'earliest', 'value.format' = 'json');
         CREATE SINK out USING kafka OPTIONS (kafka.bootstrap.servers '{0}', topic 'out', 'value.format' = 'json');
         CREATE FLOW out_flow AS INSERT INTO out SELECT v FROM STREAM ev;
         CREATE SINK totals USING sqlite OPTIONS (path 'out.db', table 'totals', outputMode 'update');
         CREATE FLOW totals_flow AS INSERT INTO totals SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k;",
        broker.address
    );
    fs::write(folder.join("q.sql"), sql).unwrap();
    for round in 0..kills {
        let trigger = if random.next(4) == 0 { "20 milliseconds" } else { "real-time 10 milliseconds" };
        let query = Running::start(folder, &["run", "q.sql", "--storage", "st", "--trigger", trigger]);
        for part in 0..4 {
            broker.produce("ev", &events(round * EVENTS + part * EVENTS / 4, EVENTS / 4));
            std::thread::sleep(std::time::Duration::from_millis(random.next(200)));
        }
        query.signal("KILL");
    }
    // The last run reads what is left as it comes, and ends in good order.
    let query = Running::start(folder, &["run", "q.sql", "--storage", "st", "--trigger", "real-time"]);
    let expected = expected(kills * EVENTS);
    let totals = ["sql", "SELECT k, n, s FROM totals ORDER BY k", "--storage", "st", "--output", "csv"];
    eventually("the totals", || (run(folder, &totals).stdout == expected).then_some(()));
    let consume = ["topic", "consume", "out", "-e", "--bootstrap", &broker.address];
    eventually("all events", || (run(folder, &consume).stdout.lines().count() as u64 >= kills * EVENTS).then_some(()));
    let ended = query.interrupt();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    succeed(folder, &consume).lines().for_each(|line| *seen.entry(line.to_owned()).or_default() += 1);
    let wrong: Vec<_> = seen.iter().filter(|(_, count)| **count != 1).collect();
    assert!(wrong.is_empty(), "HIGHWATER_SEED={seed}: not once: {wrong:?}");
    assert_eq!(seen.len() as u64, kills * EVENTS, "HIGHWATER_SEED={seed}: events are lost");
    assert_eq!(succeed(folder, &totals), expected, "HIGHWATER_SEED={seed}");
}
