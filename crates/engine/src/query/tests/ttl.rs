//! State with a time to live, by a clock that the tests move.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{complete, flow, rows, update};
use crate::query::{StateTtl, Trigger};
use crate::testing::StreamScript;

/// Sixteen seconds: a batch at a whole second writes stamps of that second.
const TTL: Duration = Duration::from_secs(16);

fn with_ttl(mut script: StreamScript, ttl: Duration) -> StreamScript {
    script.settings.ttl = StateTtl::of(ttl);
    script
}

/// A step of a script: seconds that pass, then rows of one batch.
type Step<'a> = (u64, &'a [(&'a str, i64, u32)]);

/// Runs the steps in memory and from disk, each after a restart with other workers, and compares what the last one gave.
fn check(script: impl Fn() -> StreamScript, steps: &[Step<'_>], expected: &[&str]) {
    for memory in [1, 1 << 28] {
        let mut script = with_ttl(script(), TTL);
        script.settings.query.state_memory_bytes = memory;
        script.settings.query.state.snapshot_every_batches = 2;
        for (at, (seconds, batch)) in steps.iter().enumerate() {
            script.settings.query.parallelism = at % 3 + 1;
            script = script.advance(Duration::from_secs(*seconds)).add("ev", &rows(batch)).process();
        }
        script.check("out", expected);
    }
}

const COUNT: &str = "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k";

#[test]
fn a_group_begins_anew_when_its_last_row_is_too_old() {
    let count = || update(COUNT);
    check(count, &[(0, &[("a", 1, 0)]), (15, &[("a", 1, 0)])], &["a 1", "a 2"]);
    check(count, &[(0, &[("a", 1, 0)]), (16, &[("a", 1, 0)])], &["a 1", "a 1"]);
    // Each row begins the time anew, and other groups are none of its business.
    let steps: [Step<'_>; 4] = [
        (0, &[("a", 1, 0), ("b", 1, 0)]),
        (10, &[("a", 1, 0)]),
        (10, &[("a", 1, 0), ("b", 1, 0)]),
        (15, &[("b", 1, 0)]),
    ];
    check(count, &steps, &["a 1", "a 2", "a 3", "b 1", "b 1", "b 2"]);
}

#[test]
fn a_group_that_is_over_leaves_the_answer_of_complete_mode() {
    let steps: [Step<'_>; 3] = [(0, &[("a", 1, 0), ("b", 2, 0)]), (10, &[("a", 3, 0)]), (6, &[("c", 4, 0)])];
    check(|| complete("SELECT k, sum(v) AS s FROM STREAM ev GROUP BY k"), &steps, &["a 4", "c 4"]);
    // One that nobody wrote goes with the next batch, whatever that brings.
    check(
        || complete("SELECT k, v, sum(v) AS s FROM STREAM ev GROUP BY k, v"),
        &steps[..2],
        &["a 1 1", "a 3 3", "b 2 2"],
    );
}

#[test]
fn a_distinct_row_comes_again_when_it_is_forgotten() {
    let steps: [Step<'_>; 4] =
        [(0, &[("a", 1, 0), ("b", 1, 0)]), (10, &[("a", 2, 0)]), (6, &[("a", 3, 0)]), (1, &[("a", 4, 0), ("b", 4, 0)])];
    check(|| flow("SELECT DISTINCT k FROM STREAM ev"), &steps, &["a", "a", "b", "b"]);
    check(|| flow("SELECT DISTINCT ON (k) k, v FROM STREAM ev"), &steps, &["a 1", "a 3", "b 1", "b 4"]);
}

#[test]
fn a_row_of_a_join_meets_none_that_comes_too_late() {
    for memory in [1, 1 << 28] {
        let tables =
            ["a", "b"].map(|name| format!("CREATE TABLE {name} (k STRING, v BIGINT, ts TIMESTAMP) USING test;"));
        let query = "CREATE SINK out USING test;
                     CREATE FLOW f AS INSERT INTO out SELECT a.k, a.v, b.v AS w FROM STREAM a JOIN STREAM b ON a.k = b.k";
        let mut script = with_ttl(StreamScript::new(&format!("{} {query}", tables.concat())), TTL);
        script.settings.query.state_memory_bytes = memory;
        let mut script = script.add("a", &rows(&[("x", 1, 0)])).process().advance(Duration::from_secs(10));
        script.settings.query.parallelism = 3;
        let script = script.add("a", &rows(&[("x", 2, 0)])).add("b", &rows(&[("x", 10, 0)])).process();
        let script = script.check("out", &["x 1 10", "x 2 10"]).advance(Duration::from_secs(6));
        let script = script.add("b", &rows(&[("x", 20, 0)])).process();
        script.check("out", &["x 1 10", "x 2 10", "x 2 20"]);
    }
}

const FIRST_TWO: &str = "SELECT k, rn, v FROM (
     SELECT *, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS rn FROM STREAM ev) WHERE rn <= 2";

#[test]
fn the_first_rows_of_a_key_begin_anew_when_its_last_row_is_too_old() {
    let first = || update(FIRST_TWO);
    // A row that is not among the first begins the time anew too.
    let steps: [Step<'_>; 4] = [
        (0, &[("a", 9, 0), ("a", 8, 0), ("b", 7, 0)]),
        (10, &[("a", 1, 0)]),
        (10, &[("a", 2, 0), ("b", 3, 0)]),
        (15, &[("a", 10, 0)]),
    ];
    check(first, &steps, &["a 1 10", "a 1 9", "a 2 8", "a 2 9", "b 1 3", "b 1 7"]);
    let steps: [Step<'_>; 3] = [(0, &[("a", 9, 0), ("b", 7, 0)]), (10, &[("a", 1, 0)]), (6, &[("c", 4, 0)])];
    check(|| complete(FIRST_TWO), &steps, &["a 1 9", "a 2 1", "c 1 4"]);
    check(|| complete(FIRST_TWO), &[steps[0], (16, &[("b", 1, 0)])], &["b 1 1"]);
}

#[test]
fn first_rows_from_before_there_was_a_ttl_count_from_its_first_batch() {
    for memory in [1, 1 << 28] {
        let day = Duration::from_secs(86_400);
        let mut script = complete(FIRST_TWO);
        script.settings.query.state_memory_bytes = memory;
        script.settings.query.state.snapshot_every_batches = 2;
        let script = script.add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)])).process();
        let script = with_ttl(script.advance(day), TTL).add("ev", &rows(&[("a", 3, 0)])).process();
        let script = script.check("out", &["a 1 3", "a 2 1", "b 1 2"]).advance(Duration::from_secs(10));
        let mut script = script.add("ev", &rows(&[("a", 4, 0)])).process().check("out", &["a 1 4", "a 2 3", "b 1 2"]);
        script.settings.query.parallelism = 3;
        let script = script.advance(Duration::from_secs(6)).add("ev", &rows(&[("c", 5, 0)])).process();
        let mut script = script.check("out", &["a 1 4", "a 2 3", "c 1 5"]);
        // Without one what there is stays, and is found.
        script.settings.ttl = StateTtl::default();
        let script = script.advance(day).add("ev", &rows(&[("a", 9, 0), ("d", 1, 0)])).process();
        script.check("out", &["a 1 9", "a 2 4", "c 1 5", "d 1 1"]);
    }
}

#[test]
fn state_from_before_there_was_a_ttl_counts_from_its_first_batch() {
    for (memory, query) in
        [(1, COUNT), (1 << 28, COUNT), (1, "SELECT k, count(*) AS n, max(v) AS m FROM STREAM ev GROUP BY k")]
    {
        let last = |script: &StreamScript| script.rows_as_written("out").last().cloned().unwrap_or_default();
        let mut script = update(query);
        script.settings.query.state_memory_bytes = memory;
        let script = script.add("ev", &rows(&[("a", 1, 0), ("b", 1, 0), ("c", 1, 0)])).process();
        let day = Duration::from_secs(86_400);
        let script = with_ttl(script.advance(day), TTL).add("ev", &rows(&[("a", 1, 0)])).process();
        assert!(last(&script).starts_with("a 2"), "{}", last(&script));
        let mut script = script.advance(Duration::from_secs(15)).add("ev", &rows(&[("b", 1, 0)])).process();
        assert!(last(&script).starts_with("b 2"), "{}", last(&script));
        script.settings.query.parallelism = 5;
        let script = script.advance(Duration::from_secs(1)).add("ev", &rows(&[("c", 1, 0)])).process();
        assert!(last(&script).starts_with("c 1"), "{}", last(&script));
        let script = script.add("ev", &rows(&[("b", 1, 0)])).process();
        assert!(last(&script).starts_with("b 3"), "{}", last(&script));
        // Without one what there is stays, and another one counts from its own first batch.
        let mut script = script;
        script.settings.ttl = StateTtl::default();
        let script = script.advance(day).add("ev", &rows(&[("b", 1, 0), ("d", 1, 0)])).process();
        assert!(script.rows("out").iter().any(|row| row.starts_with("b 4")), "{:?}", script.rows("out"));
        let script = with_ttl(script, day).add("ev", &rows(&[("e", 1, 0)])).process();
        let script = script.advance(Duration::from_secs(80_000)).add("ev", &rows(&[("d", 1, 0)])).process();
        assert!(last(&script).starts_with("d 2"), "{}", last(&script));
    }
}

#[test]
fn distinct_rows_from_before_there_was_a_ttl_are_forgotten_with_it() {
    for memory in [1, 1 << 28] {
        let mut script = flow("SELECT DISTINCT k FROM STREAM ev");
        script.settings.query.state_memory_bytes = memory;
        let script = script.add("ev", &rows(&[("a", 1, 0), ("b", 1, 0)])).process();
        let script = with_ttl(script.advance(Duration::from_secs(86_400)), TTL);
        let script = script.add("ev", &rows(&[("a", 1, 0), ("c", 1, 0)])).process().check("out", &["a", "b", "c"]);
        let script = script.advance(Duration::from_secs(16)).add("ev", &rows(&[("a", 1, 0)])).process();
        script.add("ev", &rows(&[("a", 1, 0), ("b", 1, 0)])).process().check("out", &["a", "a", "b", "b", "c"]);
    }
}

#[test]
fn a_batch_that_is_run_again_forgets_what_it_forgot() {
    let failing = "SELECT k, count(*) AS n FROM STREAM ev WHERE 1 / v > 0 GROUP BY k";
    let script = with_ttl(update(failing), TTL).add("ev", &rows(&[("a", 1, 0)])).process();
    // Planned while the group lives, run again when its time is long over.
    let script = script.advance(Duration::from_secs(15)).add("ev", &rows(&[("a", 1, 0), ("a", 0, 0)]));
    let script = script.process_fails("DIVIDE_BY_ZERO").advance(Duration::from_secs(86_400));
    let events = "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
                  CREATE SINK out USING test OPTIONS (outputMode 'update');";
    script
        .change(&format!("{events} CREATE FLOW f AS INSERT INTO out {COUNT}"))
        .process()
        .check("out", &["a 1", "a 3"]);
}

#[test]
fn the_real_time_way_forgets_by_the_time_of_its_batches() {
    let mut script = with_ttl(update(COUNT), TTL);
    script.settings.query.trigger = Trigger::RealTime(Duration::from_millis(5));
    for (seconds, batches) in [(0, 1), (15, 2), (16, 3)] {
        script = script.advance(Duration::from_secs(seconds)).add("ev", &rows(&[("a", 1, 0)]));
        script
            .process_until(|progress| progress.iter().filter(|batch| batch.num_input_rows > 0).count() >= batches)
            .unwrap();
    }
    script.check("out", &["a 1", "a 1", "a 2"]);
}

#[test]
fn a_new_key_is_hardly_looked_for_where_old_ones_are() {
    const KEYS: u32 = 1000;
    let names =
        |batch: u32| -> Vec<String> { (0..KEYS).map(|key| format!("a rather long key {batch:02} {key}")).collect() };
    let add = |script: StreamScript, batch: u32| {
        let names = names(batch);
        let batch: Vec<(&str, i64, u32)> = names.iter().map(|name| (name.as_str(), 1, 0)).collect();
        script.advance(Duration::from_secs(1)).add("ev", &rows(&batch)).process()
    };
    let lookups = |script: &StreamScript| {
        let last = script.progress().last().map(|last| last.state_operators[0].clone()).unwrap_or_default();
        (last.num_lookups, last.num_rows_total)
    };
    let in_one_run = |script: StreamScript, batches: std::ops::Range<u32>| {
        let script = batches.fold(script, |script, batch| {
            let names = names(batch);
            let batch: Vec<(&str, i64, u32)> = names.iter().map(|name| (name.as_str(), 1, 0)).collect();
            script.add("ev", &rows(&batch))
        });
        script.process()
    };
    let mut script = with_ttl(update(COUNT), TTL);
    script.settings.query.parallelism = 1;
    script.settings.query.state_memory_bytes = 3 << 20;
    script = script.advance_with_each_batch(Duration::from_secs(1));
    // Several buckets of keys that nobody writes again, most of them on the disk.
    script = in_one_run(script, 0..14);
    let (_, rows_total) = lookups(&script);
    assert_eq!(rows_total, u64::from(14 * KEYS));
    // In the same run, new keys.
    let told: Vec<u64> = script.progress().iter().map(|batch| batch.state_operators[0].num_lookups).collect();
    assert!(told.iter().all(|lookups| *lookups < u64::from(KEYS / 2)), "{told:?}");
    // After a restart nobody knows, until as many were looked for in a bucket as it has, which is at once here.
    script = add(script, 20);
    let (first, _) = lookups(&script);
    assert!(first < u64::from(KEYS / 2), "{first}");
    // Old keys are there: each is looked for, and hardly any twice.
    let (old, _) = lookups(&add(script, 3));
    assert!((u64::from(KEYS)..u64::from(KEYS + KEYS / 2)).contains(&old), "{old}");
}

#[test]
fn a_ttl_is_for_what_nothing_else_bounds() {
    let own = |query: &str, operator: &str| {
        let mut script = update(query);
        let settings = script.settings.flows.entry("f".to_owned()).or_default();
        settings.ttl.operators.insert(operator.to_owned(), StateTtl::of(TTL));
        script.try_process().err().unwrap_or_default()
    };
    let windows = "SELECT window.start AS w, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS \
                   GROUP BY window(ts, '10 seconds')";
    assert_eq!(own(COUNT, "aggregate-0"), "");
    assert!(
        own(windows, "aggregate-0")
            .contains("operator 'aggregate-0' has a ttl, and it cannot forget rows by their age")
    );
    assert!(own(COUNT, "agregate-0").contains("flow 'f' has no operator 'agregate-0', which has a ttl"));
}

/// Milliseconds before a start, the keys of its batches, and how it runs: workers, whether memory is short, its ttl in
/// units of eight seconds.
type Run = (i64, Vec<Vec<u8>>, (usize, bool, i64));

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let batches = proptest::collection::vec(proptest::collection::vec(0_u8..12, 1..6), 1..6);
    proptest::collection::vec((0_i64..9_000, batches, (1_usize..5, any::<bool>(), 1_i64..4)), 1..8)
}

/// When the time to live of a row that is written at a time begins.
fn stamp_of(now_ms: i64, ttl_ms: i64) -> i64 {
    let grain_ms = ttl_ms / 16;
    (now_ms + grain_ms - 1) / grain_ms * grain_ms
}

/// Runs the batches, telling `model` the time, the ttl and the keys of each; `compare` looks at the script after each run.
fn drive(
    script: StreamScript,
    runs: Vec<Run>,
    mut model: impl FnMut(i64, i64, &[u8]) -> Vec<String>,
    compare: impl Fn(&StreamScript, Vec<String>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    const BETWEEN_MS: i64 = 1_700;
    let mut script = script.advance_with_each_batch(Duration::from_millis(BETWEEN_MS.unsigned_abs()));
    script.settings.query.state.snapshot_every_batches = 3;
    let mut now_ms = 1_700_000_000_000_i64;
    for (wait_ms, batches, (workers, is_small, ttl)) in runs {
        let ttl_ms = ttl * 8_000;
        script.settings.query.parallelism = workers;
        script.settings.query.state_memory_bytes = if is_small { 1 } else { 1 << 28 };
        let [wait, ttl] = [wait_ms, ttl_ms].map(|ms| Duration::from_millis(ms.unsigned_abs()));
        script = with_ttl(script.advance(wait), ttl);
        now_ms += wait_ms;
        let mut expected = Vec::new();
        for keys in &batches {
            expected = model(now_ms, ttl_ms, keys);
            now_ms += BETWEEN_MS;
            let names: Vec<String> = keys.iter().map(|key| format!("k{key:02}")).collect();
            script = script.add("ev", &rows(&names.iter().map(|name| (name.as_str(), 1, 0)).collect::<Vec<_>>()));
        }
        script = script.process();
        compare(&script, expected)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// Any rows at any times, with restarts, workers and memory as they come, and a ttl that may change at a restart,
    /// give what a table of all keys gives.
    #[test]
    fn groups_are_those_of_a_table_that_is_looked_through_at_each_batch(runs in runs()) {
        // When a key was written last, and how often since it began.
        let mut table: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
        let model = |now_ms: i64, ttl_ms: i64, keys: &[u8]| {
            table.retain(|_, (stamp_ms, _)| now_ms - ttl_ms < *stamp_ms);
            for key in keys {
                let known = table.entry(*key).or_insert((0, 0));
                *known = (stamp_of(now_ms, ttl_ms), known.1 + 1);
            }
            table.iter().map(|(key, (_, count))| format!("k{key:02} {count}")).collect()
        };
        drive(complete(COUNT), runs, model, |script, expected| {
            prop_assert_eq!(&script.rows("out"), &expected);
            let operators = script.progress().last().map(|last| last.state_operators.clone()).unwrap_or_default();
            let total: u64 = operators.iter().map(|operator| operator.num_rows_total).sum();
            prop_assert_eq!(total, expected.len() as u64);
            Ok(())
        })?;
    }

    /// A key passes when it is not there, and is there for the ttl.
    #[test]
    fn distinct_keys_are_those_of_such_a_table(runs in runs()) {
        let (mut table, mut passed): (BTreeMap<u8, i64>, Vec<String>) = (BTreeMap::new(), Vec::new());
        let model = |now_ms: i64, ttl_ms: i64, keys: &[u8]| {
            table.retain(|_, stamp_ms| now_ms - ttl_ms < *stamp_ms);
            for key in keys {
                table.entry(*key).or_insert_with(|| {
                    passed.push(format!("k{key:02}"));
                    stamp_of(now_ms, ttl_ms)
                });
            }
            passed.sort();
            passed.clone()
        };
        drive(flow("SELECT DISTINCT k FROM STREAM ev"), runs, model, |script, expected| {
            prop_assert_eq!(script.rows("out"), expected);
            Ok(())
        })?;
    }
}
