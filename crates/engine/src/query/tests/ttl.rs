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

#[test]
fn a_window_without_a_watermark_begins_anew_when_its_last_row_is_too_old() {
    let windows = "SELECT window.start AS w, k, sum(v) AS s FROM STREAM ev GROUP BY window(ts, '10 seconds'), k";
    let steps: [Step<'_>; 4] = [
        (0, &[("a", 1, 5), ("a", 2, 15), ("b", 3, 5)]),
        (10, &[("a", 10, 6)]),
        (10, &[("a", 20, 7), ("a", 30, 16), ("b", 40, 5)]),
        (15, &[("b", 100, 9)]),
    ];
    let expected = [
        "00:00:00 a 1",
        "00:00:00 a 11",
        "00:00:00 a 31",
        "00:00:00 b 140",
        "00:00:00 b 3",
        "00:00:00 b 40",
        "00:00:10 a 2",
        "00:00:10 a 30",
    ];
    check(|| update(windows), &steps, &expected);
    // A row is in two windows, and one without a time in none.
    let sliding = "SELECT w.start AS s, w.end AS e, count(*) AS n FROM (
        SELECT window(CASE WHEN v > 0 THEN ts END, '20 seconds', '10 seconds') AS w FROM STREAM ev) GROUP BY w";
    let grouped = "SELECT window.start AS s, window.end AS e, count(*) AS n FROM STREAM ev
        GROUP BY window(CASE WHEN v > 0 THEN ts END, '20 seconds', '10 seconds')";
    let steps: [Step<'_>; 3] = [(0, &[("a", 1, 15), ("a", 0, 15)]), (10, &[("a", 1, 25)]), (6, &[("a", 1, 45)])];
    let expected = ["00:00:10 00:00:30 2", "00:00:20 00:00:40 1", "00:00:30 00:00:50 1", "00:00:40 00:01:00 1"];
    check(|| complete(grouped), &steps, &expected);
    check(|| complete(sliding), &steps, &expected);
    // In complete mode a watermark lets nothing go.
    let marked = windows.replace("ev GROUP", "ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP");
    let steps: [Step<'_>; 3] = [(0, &[("a", 1, 5), ("b", 1, 5)]), (10, &[("a", 2, 5)]), (6, &[("c", 3, 500)])];
    check(|| complete(&marked), &steps, &["00:00:00 a 3", "00:08:20 c 3"]);
}

#[test]
fn windows_that_are_given_a_ttl_have_other_state() {
    let windows = "SELECT window.start AS w, count(*) AS n FROM STREAM ev GROUP BY window(ts, '10 seconds')";
    let mut script = with_ttl(update(windows).add("ev", &rows(&[("a", 1, 5)])).process(), TTL);
    let refused = script.try_process().err().unwrap_or_default();
    assert!(refused.contains("aggregate-0"), "{refused}");
    script.settings.ttl = StateTtl::default();
    script.add("ev", &rows(&[("a", 1, 6)])).process().check("out", &["00:00:00 1", "00:00:00 2"]);
}

#[test]
fn a_session_without_a_watermark_goes_when_its_last_row_is_too_old() {
    let sessions =
        "SELECT k, session_window.start AS s, sum(v) AS n FROM STREAM ev GROUP BY session_window(ts, '10 seconds'), k";
    let steps: [Step<'_>; 4] = [
        (0, &[("a", 1, 5), ("a", 2, 50), ("b", 4, 5)]),
        (10, &[("a", 8, 12)]),
        (6, &[("c", 16, 0)]),
        (10, &[("a", 32, 52)]),
    ];
    let check_up_to = |steps: &[Step<'_>], expected: &[&str]| check(|| complete(sessions), steps, expected);
    check_up_to(&steps[..2], &["a 00:00:05 9", "a 00:00:50 2", "b 00:00:05 4"]);
    check_up_to(&steps[..3], &["a 00:00:05 9", "c 00:00:00 16"]);
    check_up_to(&steps, &["a 00:00:52 32", "c 00:00:00 16"]);
}

#[test]
fn sessions_from_before_there_was_a_ttl_count_from_its_first_batch() {
    let sessions = |mode: &str| {
        format!(
            "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
             CREATE SINK out USING test OPTIONS (outputMode '{mode}');
             CREATE FLOW f AS INSERT INTO out SELECT k, sum(v) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS
             GROUP BY session_window(ts, '10 seconds'), k"
        )
    };
    for memory in [1, 1 << 28] {
        let day = Duration::from_secs(86_400);
        let mut script = StreamScript::new(&sessions("complete"));
        script.settings.query.state_memory_bytes = memory;
        script.settings.query.state.snapshot_every_batches = 2;
        let script = script.add("ev", &rows(&[("a", 1, 0), ("b", 2, 0), ("d", 3, 0)])).process();
        let script = with_ttl(script.advance(day), TTL).add("ev", &rows(&[("a", 1, 1)])).process();
        let mut script = script.check("out", &["a 2", "b 2", "d 3"]).advance(Duration::from_secs(10));
        script.settings.query.parallelism = 3;
        let script = script.add("ev", &rows(&[("b", 2, 2)])).process().check("out", &["a 2", "b 4", "d 3"]);
        let mut script = script.advance(Duration::from_secs(6)).add("ev", &rows(&[("c", 5, 0)])).process();
        script = script.check("out", &["b 4", "c 5"]);
        // Without one what there is stays; and where a watermark ends sessions, it ends these.
        script.settings.ttl = StateTtl::default();
        let script = script.advance(day).add("ev", &rows(&[("e", 6, 3)])).process();
        let script = script.check("out", &["b 4", "c 5", "e 6"]).change(&sessions("append"));
        let script = script.add("ev", &rows(&[("z", 0, 300)])).process();
        // Beside what complete mode has left there.
        script.check("out", &["b 4", "b 4", "c 5", "c 5", "e 6", "e 6"]);
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

/// The rows are those that are expected, and the state has one for each.
fn each_row_is_kept(script: &StreamScript, expected: Vec<String>) -> Result<(), TestCaseError> {
    prop_assert_eq!(&script.rows("out"), &expected);
    let operators = script.progress().last().map(|last| last.state_operators.clone()).unwrap_or_default();
    let total: u64 = operators.iter().map(|operator| operator.num_rows_total).sum();
    prop_assert_eq!(total, expected.len() as u64);
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
        drive(complete(COUNT), runs, model, each_row_is_kept)?;
    }

    /// The same of windows, of which a row is in two.
    #[test]
    fn windows_are_those_of_such_a_table(runs in runs()) {
        let query = "SELECT unix_timestamp(window.start) AS s, count(*) AS n FROM STREAM ev
            GROUP BY window(timestamp_seconds(CAST(substring(k, 2) AS BIGINT) * 20), '60 seconds', '30 seconds')";
        let mut table: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        let model = |now_ms: i64, ttl_ms: i64, keys: &[u8]| {
            table.retain(|_, (stamp_ms, _)| now_ms - ttl_ms < *stamp_ms);
            for key in keys {
                let last = i64::from(*key) * 20 / 30 * 30;
                for start in [last - 30, last] {
                    let known = table.entry(start).or_insert((0, 0));
                    *known = (stamp_of(now_ms, ttl_ms), known.1 + 1);
                }
            }
            let mut rows: Vec<String> = table.iter().map(|(start, (_, count))| format!("{start} {count}")).collect();
            rows.sort();
            rows
        };
        drive(complete(query), runs, model, each_row_is_kept)?;
    }

    /// The same of sessions, which rows join.
    #[test]
    fn sessions_are_those_of_such_a_table(runs in runs()) {
        let query = "SELECT n % 2 AS p, unix_timestamp(session_window.start) AS s, unix_timestamp(session_window.end) AS e, count(*) AS c
            FROM (SELECT CAST(substring(k, 2) AS BIGINT) AS n FROM STREAM ev)
            GROUP BY session_window(timestamp_seconds(n * 20), '50 seconds'), n % 2";
        // By key: start and end, when it was written last, and its rows.
        let mut table: BTreeMap<i64, Vec<(i64, i64, i64, u64)>> = BTreeMap::new();
        let model = |now_ms: i64, ttl_ms: i64, keys: &[u8]| {
            for sessions in table.values_mut() {
                sessions.retain(|(.., stamp_ms, _)| now_ms - ttl_ms < *stamp_ms);
            }
            for key in keys.iter().map(|key| i64::from(*key)) {
                let sessions = table.entry(key % 2).or_default();
                let mut own = (key * 20, key * 20 + 50, stamp_of(now_ms, ttl_ms), 1);
                sessions.retain(|(start, end, _, rows)| {
                    let is_apart = *end < own.0 || own.1 < *start;
                    if !is_apart {
                        own = (own.0.min(*start), own.1.max(*end), own.2, own.3 + rows);
                    }
                    is_apart
                });
                sessions.push(own);
            }
            let row = |(p, sessions): (&i64, &Vec<(i64, i64, i64, u64)>)| {
                sessions.iter().map(|(start, end, _, rows)| format!("{p} {start} {end} {rows}")).collect::<Vec<_>>()
            };
            let mut rows: Vec<String> = table.iter().flat_map(row).collect();
            rows.sort();
            rows
        };
        drive(complete(query), runs, model, each_row_is_kept)?;
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
