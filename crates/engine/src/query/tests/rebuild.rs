//! Rebuilds of state: in parts, restarted in the middle, and always with the answer of a query that was never rebuilt.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{kept, kept_since, rows};
use crate::checkpoint::RemoteSettings;
use crate::progress::{RebuildProgress, StreamingQueryProgress};
use crate::query::QueryChanges;
use crate::testing::{Fault, FaultyStore, StreamScript};

/// A query in an output mode, over a stream that gives one batch of input at a time, or all there is.
fn sql(in_parts: bool, mode: &str, query: &str) -> String {
    let limit = if in_parts { "OPTIONS (batchesPerTrigger '1')" } else { "" };
    format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test {limit};
         CREATE TABLE names (id STRING, name STRING) USING test;
         CREATE SINK out USING test OPTIONS (outputMode '{mode}'); CREATE FLOW f AS INSERT INTO out {query}"
    )
}

const COUNT: &str = "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k";
const KEYED_TWICE: &str = "SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k, v < 1000";

fn rebuilding(mut script: StreamScript) -> StreamScript {
    script.settings.changes.rebuild.insert("f".to_owned());
    script
}

fn not_rebuilding(mut script: StreamScript) -> StreamScript {
    script.settings.changes = QueryChanges::default();
    script
}

/// What the rows leave in a table that is keyed by the first column.
fn last_by_key(script: &StreamScript) -> Vec<String> {
    let rows = script.rows_as_written("out");
    let by_key = rows.iter().map(|row| (row.split(' ').next(), row));
    by_key.collect::<BTreeMap<_, _>>().into_values().cloned().collect()
}

/// The progress of the batches that were parts of rebuilds.
fn parts(progress: &[StreamingQueryProgress]) -> Vec<RebuildProgress> {
    progress.iter().filter_map(|batch| batch.rebuild.clone()).collect()
}

/// Batch `n` of the input, none of whose rows is late; one key comes back, others do not.
fn batch(n: u32) -> String {
    let (own, at) = (format!("k{n}"), n * 7);
    rows(&[("a", i64::from(n), at), (&own, 1, at + 1), ("b", i64::from(n * n % 5), at + 2), (&own, 3, at + 3)])
}

fn add(script: StreamScript, batches: std::ops::Range<u32>) -> StreamScript {
    batches.fold(script, |script, n| script.add("ev", &batch(n)))
}

#[test]
fn a_rebuild_of_the_query_as_it_is_changes_nothing() {
    const WINDOWS: &str = "SELECT window.start AS w, count(*) AS n, sum(v) AS s FROM STREAM ev WATERMARK ts DELAY OF \
                           INTERVAL 3 SECONDS GROUP BY window(ts, '10 seconds')";
    let queries = [
        ("append", WINDOWS.to_owned()),
        ("update", WINDOWS.to_owned()),
        ("complete", COUNT.to_owned()),
        ("complete", format!("{COUNT} ORDER BY n DESC, k LIMIT 3")),
        ("update", COUNT.to_owned()),
        ("update", "SELECT 'all' AS k, count(*) AS n, min(v) AS m FROM STREAM ev".to_owned()),
        ("append", "SELECT DISTINCT k, v FROM STREAM ev".to_owned()),
        ("append", "SELECT k FROM STREAM ev LIMIT 13".to_owned()),
        (
            "append",
            "SELECT k, session_window.end AS e, sum(v) AS s FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 2 SECONDS
             GROUP BY k, session_window(ts, '8 seconds')"
                .to_owned(),
        ),
        (
            "complete",
            "SELECT k, session_window.end AS e, sum(v) AS s FROM STREAM ev GROUP BY k, session_window(ts, '8 seconds')"
                .to_owned(),
        ),
        (
            "update",
            "SELECT k, rn, v FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v DESC, ts) AS rn
             FROM STREAM ev) WHERE rn <= 1"
                .to_owned(),
        ),
        (
            "append",
            "SELECT a.k, a.v, b.v AS w FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 1 SECOND AS a
             LEFT JOIN STREAM ev WATERMARK ts DELAY OF INTERVAL 1 SECOND AS b
             ON a.k = b.k AND b.ts > a.ts AND b.ts <= a.ts + INTERVAL 9 SECONDS"
                .to_owned(),
        ),
        (
            "append",
            "SELECT window.start AS w, count(*) AS keys FROM (
               SELECT window_time(window) AS ts, k, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 3 SECONDS
               GROUP BY window(ts, '5 seconds'), k) GROUP BY window(ts, '20 seconds')"
                .to_owned(),
        ),
    ];
    for (mode, query) in &queries {
        // The order of rows that compare equal decides nothing here.
        let table = |script: &StreamScript| if *mode == "update" { last_by_key(script) } else { script.rows("out") };
        let run = |rebuilds: bool, in_parts: bool, memory: usize| {
            let mut script = StreamScript::new(&sql(in_parts, mode, query));
            script.settings.query.state_memory_bytes = memory;
            script.settings.query.state.snapshot_every_batches = 2;
            let mut script = add(script, 0..6).process();
            let written = script.rows("out").len();
            if rebuilds {
                script = not_rebuilding(rebuilding(script).process());
                if *mode == "append" {
                    assert_eq!(script.rows("out").len(), written, "{query}");
                }
                let told = parts(&script.progress());
                assert_eq!(told.last().and_then(|last| last.done_share), Some(1.0), "{query}");
                assert!(told.len() >= if in_parts { 6 } else { 1 }, "{query}: {told:?}");
            }
            script.settings.query.parallelism = 3;
            table(&add(script, 6..11).process())
        };
        let expected = run(false, true, 1 << 28);
        for (in_parts, memory) in [(true, 1 << 28), (true, 1), (false, 1 << 28)] {
            assert_eq!(run(true, in_parts, memory), expected, "{mode}, in parts: {in_parts}, {memory}: {query}");
        }
    }
}

/// Groups that lose all of their rows: the last part tells those that have some, whether memory has them or the disk alone,
/// and none that went in a part before.
#[test]
fn a_rebuild_of_groups_that_may_go_tells_those_there_are() {
    let queries = [
        "SELECT n, count(*) AS keys, max(s) AS m FROM (SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k)
         GROUP BY n",
        "SELECT v, count(*) AS n FROM (
           SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM STREAM ev) WHERE rn <= 1 GROUP BY v",
    ];
    for query in queries {
        let sql = sql(true, "update", query);
        let straight = add(StreamScript::new(&sql), 0..6).process();
        let at_rebuild = kept(&straight, "out");
        let at_end = kept(&add(straight, 6..9).process(), "out");
        for (memory, restarts) in [(1 << 28, false), (1 << 28, true), (1, false), (1, true)] {
            let what = format!("{query}, {memory} bytes, restarts: {restarts}");
            let mut script = StreamScript::new(&sql);
            script.settings.query.state_memory_bytes = memory;
            let script = add(script, 0..6).process().forget_progress();
            let before = script.written("out").len();
            let mut script = rebuilding(script);
            if restarts {
                script.process_until(|progress| parts(progress).len() >= 3).unwrap();
                script = not_rebuilding(script);
            }
            let script = not_rebuilding(script.process());
            assert!(parts(&script.progress()).len() >= 6, "{what}");
            assert_eq!(kept_since(&script, "out", before), at_rebuild, "{what}");
            assert_eq!(kept_since(&add(script, 6..9).process(), "out", before), at_end, "{what}");
        }
    }
}

#[test]
fn parts_say_how_far_they_are_and_the_last_tells_all_groups_once() {
    let script = add(StreamScript::new(&sql(true, "update", COUNT)), 0..4).process();
    let before = script.rows_as_written("out").len();
    let script = rebuilding(script.change(&sql(true, "update", KEYED_TWICE))).process();
    let told = parts(&script.progress());
    let shares: Vec<Option<f64>> = told.iter().map(|part| part.done_share).collect();
    assert_eq!(shares, [Some(0.25), Some(0.5), Some(0.75), Some(1.0)]);
    assert_eq!(told.iter().map(|part| part.num_input_rows).collect::<Vec<_>>(), [4, 8, 12, 16]);
    assert!(told.iter().all(|part| part.first_batch_id == 4), "{told:?}");
    let after = script.rows_as_written("out")[before..].to_vec();
    assert_eq!(after.len(), 6, "each group once: {after:?}");
    let json = serde_json::to_value(&told[0]).unwrap();
    assert_eq!(json, serde_json::json!({"firstBatchId": 4, "numInputRows": 4, "doneShare": 0.25}));
}

/// A process that ends at any call of a rebuild leaves state that is the old one or a part of the new one, and the next
/// start goes on there.
#[test]
fn a_rebuild_that_is_cut_off_goes_on_where_it_was() {
    const BATCHES: usize = 5;
    let run = |objects: &FaultyStore, fault: Option<(usize, Fault)>| {
        let mut script = StreamScript::new(&sql(true, "update", COUNT));
        script.settings.query.state.snapshot_every_batches = 2;
        script.settings.query.retention.min_batches_to_retain = 2;
        script.settings.checkpoints.remote = RemoteSettings { request_timeout_ms: 200, ..RemoteSettings::default() };
        let script = script.checkpoints_in("memory://bucket/checkpoints", Arc::new(objects.clone()));
        let batch = |n: usize| rows(&[("a", i64::try_from(n).unwrap(), 0), ("b", 1, 0)]);
        let script = (0..BATCHES).fold(script, |script, n| script.add("ev", &batch(n))).process().forget_progress();
        objects.heal();
        if let Some((call, fault)) = fault {
            objects.fail_at(call, fault);
        }
        let script = rebuilding(script.change(&sql(true, "update", KEYED_TWICE))).process_if_it_can();
        let calls = objects.heal();
        // One that was begun is finished without being asked for; one that was not must be asked for again.
        let mut script = not_rebuilding(script);
        if script.try_process().is_err() {
            script = not_rebuilding(rebuilding(script).process());
        }
        let told = parts(&script.progress());
        // No part that was committed is read again; the progress of one whose process died may be missing.
        let ends: Vec<u64> = told.iter().map(|part| part.num_input_rows).collect();
        assert!(ends.is_sorted_by(|a, b| a < b) && told.len() <= BATCHES, "{fault:?}: {ends:?}");
        assert!(told.len() + 1 >= BATCHES, "{fault:?}: {ends:?}");
        // And the start after that finds what it has written down.
        let script = script.add("ev", &rows(&[("a", 10, 0)])).process().add("ev", &rows(&[("b", 2, 0)])).process();
        (last_by_key(&script), calls)
    };
    let (expected, calls) = run(&FaultyStore::default(), None);
    assert_eq!(expected, ["a 6 20", "b 6 7"]);
    assert!(calls > 40, "{calls}");
    // Each run takes a moment: over both faults and all offsets every call has its turn once.
    for (fault, first) in [(Fault::CutOff, 0), (Fault::CutOffAfter, 1)] {
        for call in (first..calls).step_by(2) {
            assert_eq!(run(&FaultyStore::default(), Some((call, fault))).0, expected, "{fault:?} at call {call}");
        }
    }
}

#[test]
fn asking_for_it_again_goes_on_and_does_not_begin_anew() {
    let failing = "SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev e JOIN names n ON e.k = n.id GROUP BY k";
    let script = StreamScript::new(&sql(true, "update", COUNT)).add("names", r#"{"id": "a", "name": "x"}"#);
    let script = add(script, 0..5).process().forget_progress();
    let mut script = rebuilding(script.change(&sql(true, "update", failing)));
    // Stopped after the second part, as a service is that is started with the option each time.
    script.process_until(|progress| parts(progress).len() >= 2).unwrap();
    let done = parts(&script.progress()).len();
    let script = script.process();
    assert_eq!(parts(&script.progress()).len(), 5, "{done} before the restart");
    assert_eq!(last_by_key(&script), ["a 5 10", "b 5", "k0 2", "k1 2", "k2 2", "k3 2", "k4 2"]);
    // One that is whole is made again.
    let script = script.forget_progress().process();
    assert_eq!(parts(&script.progress()).len(), 5);
}

#[test]
fn a_query_that_is_changed_meanwhile_begins_its_rebuild_anew() {
    let failing = "SELECT k, count(*) AS n, sum(10 / v) AS s FROM STREAM ev GROUP BY k";
    let right = "SELECT k, count(*) AS n, sum(10 / (v + 1)) AS s FROM STREAM ev GROUP BY k";
    for asks_again in [false, true] {
        let script = StreamScript::new(&sql(
            true,
            "update",
            "SELECT k, v < 9 AS x, count(*) AS n FROM STREAM ev GROUP BY k, v < 9",
        ));
        let values = [4, 9, 0, 1];
        let script = values.iter().fold(script, |script, v| script.add("ev", &rows(&[("a", *v, 0)]))).process();
        let script = rebuilding(script.change(&sql(true, "update", failing))).process_fails("DIVIDE_BY_ZERO");
        // Two parts are done, and the third is under way.
        assert_eq!(parts(&script.progress()).len(), 2);
        let script = if asks_again { script } else { not_rebuilding(script) };
        let again = "runs batch 6 again, from the state after batch 5, which goes on computing its state anew";
        assert_eq!(script.outlook("f"), [again, "aggregate-0 Rebuilt"]);
        let script = script.change(&sql(true, "update", right));
        assert_eq!(script.outlook("f"), ["gives up batch 6 and computes its state anew", "aggregate-0 Rebuilt"]);
        let script = not_rebuilding(script.forget_progress().process());
        assert_eq!(last_by_key(&script), ["a 4 18.0"]);
        let told = parts(&script.progress());
        // The part that was given up, and four of the new one.
        assert_eq!(told.iter().map(|part| part.first_batch_id).collect::<Vec<_>>(), [4, 7, 7, 7, 7]);
        assert_eq!(script.outlook("f"), ["runs batch 11, from the state after batch 10", "aggregate-0 Kept"]);
        let script = script.add("ev", &rows(&[("a", 4, 0)])).process();
        assert_eq!(last_by_key(&script), ["a 5 20.0"]);
    }
}

#[test]
fn a_part_that_was_given_up_is_never_gone_on_from() {
    let run = |objects: &FaultyStore, call: Option<usize>| {
        let mut script = StreamScript::new(&sql(true, "update", COUNT));
        script.settings.checkpoints.remote = RemoteSettings { request_timeout_ms: 200, ..RemoteSettings::default() };
        let script = script.checkpoints_in("memory://bucket/checkpoints", Arc::new(objects.clone()));
        let values = [4, 9, 0, 1];
        let script = values.iter().fold(script, |script, v| script.add("ev", &rows(&[("a", *v, 0)]))).process();
        let failing = "SELECT k, count(*) AS n, sum(10 / v) AS s FROM STREAM ev WHERE v <> 99 GROUP BY k, v < 9";
        let script = rebuilding(script.change(&sql(true, "update", failing))).process_fails("DIVIDE_BY_ZERO");
        objects.heal();
        if let Some(call) = call {
            objects.fail_at(call, Fault::CutOff);
        }
        // Cut off while the part is given up, or just after: whoever comes next begins anew, the query before as well.
        let keyed = sql(true, "update", KEYED_TWICE);
        let script = not_rebuilding(script).change(&keyed).process_if_it_can();
        let calls = objects.heal();
        let back = failing.replace("10 / v", "v");
        let script = script.change(&sql(true, "update", &back)).process_if_it_can();
        (script.rows_as_written("out").split_off(4), calls)
    };
    let (rows, calls) = run(&FaultyStore::default(), None);
    assert_eq!(rows, ["a 4 14"]);
    for call in 0..calls {
        let (rows, _) = run(&FaultyStore::default(), Some(call));
        let last: Vec<&str> = rows.iter().rev().take(2).map(String::as_str).collect();
        // Unless the rebuild was whole by then: its state is of other keys, and the query is refused.
        let is_whole = last == ["a 4 14"];
        assert!(is_whole || (last.contains(&"a 3 5") && last.contains(&"a 1 9")), "cut off at call {call}: {rows:?}");
    }
}

/// Queries whose operators take rows back, all of which lose groups on the way, or have one that is always told.
fn taking_back() -> [String; 4] {
    let histogram = format!("SELECT n, count(*) AS c FROM ({COUNT}) GROUP BY n");
    let newest = "SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM STREAM ev)
                  WHERE rn <= 1";
    [
        format!("SELECT v, count(*) AS c, max(k) AS m FROM ({newest}) GROUP BY v"),
        format!("SELECT max(n) AS m, sum(n) AS s FROM ({COUNT})"),
        format!("SELECT c, count(*) AS d FROM ({histogram}) GROUP BY c"),
        histogram,
    ]
}

/// The rows of the target, and how many each operator keeps.
type Left = (Vec<String>, Vec<u64>);

fn left(script: &StreamScript) -> Left {
    let operators = script.progress().last().map(|last| last.state_operators.clone()).unwrap_or_default();
    (kept(script, "out"), operators.iter().map(|operator| operator.num_rows_total).collect())
}

/// A query that ran as `before`, was rebuilt as `after` with a fault at a call of its object store, and went on.
fn rebuilt_with_a_fault(before: &str, after: &str, memory: usize, fault: Option<(usize, Fault)>) -> (Vec<Left>, usize) {
    let objects = FaultyStore::default();
    let mut script = StreamScript::new(&sql(true, "update", before));
    script.settings.query.state_memory_bytes = memory;
    script.settings.query.state.snapshot_every_batches = 2;
    script.settings.checkpoints.remote = RemoteSettings { request_timeout_ms: 200, ..RemoteSettings::default() };
    let script = script.checkpoints_in("memory://bucket/checkpoints", Arc::new(objects.clone()));
    let script = add(script, 0..5).process();
    objects.heal();
    if let Some((call, fault)) = fault {
        objects.fail_at(call, fault);
    }
    let mut script = rebuilding(script.change(&sql(true, "update", after))).process_if_it_can();
    let calls = objects.heal();
    script = not_rebuilding(script);
    if script.try_process().is_err() {
        script = not_rebuilding(rebuilding(script).process());
    }
    let rebuilt = kept(&script, "out");
    script.settings.query.parallelism = 3;
    let script = add(script, 5..7).process();
    (vec![(rebuilt, Vec::new()), left(&script)], calls)
}

/// Parts of a rebuild tell nothing, and what operators take back meanwhile must not be lost or told twice: whatever happens
/// between the parts, target and state are those of a query that was never rebuilt.
#[test]
fn rows_that_are_taken_back_while_state_is_rebuilt_in_parts() {
    for (at, query) in taking_back().iter().enumerate() {
        let script = add(StreamScript::new(&sql(true, "update", query)), 0..5).process();
        let whole = kept(&script, "out");
        let expected = vec![(whole, Vec::new()), left(&add(script, 5..7).process())];
        assert!(expected[1].1.len() >= 2, "{query}: {expected:?}");
        // The same query, and one that groups by something more, of which there is one value.
        let as_before = query.replace("GROUP BY k)", "GROUP BY k, v < 1000)");
        for before in [query, &as_before] {
            for memory in [1 << 28, 1] {
                let (found, calls) = rebuilt_with_a_fault(before, query, memory, None);
                assert_eq!(found, expected, "{before} -> {query}, memory {memory}");
                // Over all queries, faults and offsets calls of every kind have their turn.
                let faults = [(Fault::CutOff, at), (Fault::CutOffAfter, at + 4)];
                for (fault, first) in faults {
                    for call in (first..calls).step_by(41) {
                        let (found, _) = rebuilt_with_a_fault(before, query, memory, Some((call, fault)));
                        assert_eq!(found, expected, "{before} -> {query}, memory {memory}, {fault:?} at call {call}");
                    }
                }
            }
        }
    }
}
