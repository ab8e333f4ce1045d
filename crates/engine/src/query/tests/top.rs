//! The first rows of each partition: against a naive model, in each output mode, and what is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{check_refusal, complete, flow, rows, update};
use crate::progress::StreamingQueryProgress;
use crate::query::Trigger;
use crate::testing::StreamScript;

/// What was written last for each key, which is the first `keys` columns, sorted.
fn newest(script: &StreamScript, keys: usize) -> Vec<String> {
    let mut kept: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for row in script.rows_as_written("out") {
        kept.insert(row.split(' ').take(keys).map(str::to_owned).collect(), row);
    }
    kept.into_values().collect()
}

const FIRST_TWO: &str = "SELECT k, rn, v FROM (
     SELECT *, row_number() OVER (PARTITION BY k ORDER BY v DESC NULLS LAST, ts) AS rn FROM STREAM ev) WHERE rn <= 2";

#[test]
fn update_mode_gives_the_places_that_another_row_takes() {
    let script = update(FIRST_TWO)
        .add("ev", &rows(&[("a", 1, 0), ("a", 5, 0), ("b", 2, 0)]))
        .process()
        .check("out", &["a 1 5", "a 2 1", "b 1 2"])
        // The first of 'a' stays, the second is another; 1 and 3 are no more than third.
        .add("ev", &rows(&[("a", 3, 0), ("a", 4, 0)]))
        .process()
        .check("out", &["a 1 5", "a 2 1", "a 2 4", "b 1 2"])
        .add("ev", &rows(&[("a", 2, 0)]))
        .process()
        .check("out", &["a 1 5", "a 2 1", "a 2 4", "b 1 2"])
        .add("ev", r#"{"k": "b", "ts": "2024-01-01T00:00:00Z"} {"k": "a", "v": 9, "ts": "2024-01-01T00:00:00Z"}"#)
        .process();
    assert_eq!(newest(&script, 2), ["a 1 9", "a 2 5", "b 1 2", "b 2 null"]);
    let request = script.table("out").request().unwrap();
    assert_eq!((request.key_columns, request.deletes), (vec!["k".to_owned(), "rn".to_owned()], false));
    let operator = &script.progress().last().unwrap().state_operators[0].clone();
    assert_eq!((operator.operator_name.as_str(), operator.num_rows_total), ("windowGroupLimit", 4));
}

#[test]
fn the_newest_row_of_each_key_in_all_its_spellings() {
    let outer = |condition: &str| {
        format!(
            "SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM STREAM ev)
             WHERE {condition}"
        )
    };
    let spellings = [
        outer("rn = 1"),
        outer("rn <= 1"),
        outer("rn < 2"),
        outer("1 >= rn"),
        outer("rn BETWEEN 0 AND 1"),
        outer("rn IN (1)"),
        "SELECT k, v FROM STREAM ev QUALIFY row_number() OVER (PARTITION BY k ORDER BY ts DESC) = 1".to_owned(),
        "SELECT DISTINCT ON (k) k, v FROM STREAM ev ORDER BY k, ts DESC".to_owned(),
    ];
    for query in spellings {
        let script = update(&query)
            .add("ev", &rows(&[("a", 1, 5), ("a", 2, 3), ("b", 3, 0)]))
            .process()
            .add("ev", &rows(&[("a", 4, 4), ("b", 5, 1)]))
            .process();
        assert_eq!(newest(&script, 1), ["a 1", "b 5"], "{query}");
        assert_eq!(script.table("out").request().unwrap().key_columns, ["k"], "{query}");
        complete(&query)
            .add("ev", &rows(&[("a", 1, 5), ("a", 2, 3), ("b", 3, 0)]))
            .process()
            .add("ev", &rows(&[("a", 4, 4), ("b", 5, 1)]))
            .process()
            .check("out", &["a 1", "b 5"]);
    }
}

#[test]
fn append_mode_gives_a_partition_once_when_the_watermark_has_passed_it() {
    let query = "SELECT w.start AS s, k, v, rn FROM (
           SELECT w, k, v, row_number() OVER (PARTITION BY w, k ORDER BY v DESC) AS rn FROM (
             SELECT window(ts, '1 minute') AS w, k, v, ts FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS))
         WHERE rn <= 2";
    let script = flow(query)
        .add("ev", &rows(&[("a", 1, 1), ("a", 2, 2), ("a", 3, 3), ("b", 1, 4), ("a", 9, 61)]))
        .process()
        .check("out", &["00:00:00 a 2 2", "00:00:00 a 3 1", "00:00:00 b 1 1"])
        .forget_progress()
        // The first window is over: its row is late.
        .add("ev", &rows(&[("a", 99, 5), ("a", 8, 62), ("a", 7, 63), ("z", 1, 130)]))
        .process()
        .check("out", &["00:00:00 a 2 2", "00:00:00 a 3 1", "00:00:00 b 1 1", "00:01:00 a 8 2", "00:01:00 a 9 1"]);
    let operators: Vec<_> = script.progress().iter().map(|progress| progress.state_operators[0].clone()).collect();
    assert_eq!(operators.iter().map(|operator| operator.num_rows_dropped_by_watermark).sum::<u64>(), 1);
    assert_eq!(operators.iter().map(|operator| operator.num_rows_removed).sum::<u64>(), 2);
    assert_eq!(operators.last().unwrap().num_rows_total, 1);
}

#[test]
fn ranks_keep_all_rows_of_a_tie() {
    for (function, expected) in [("rank", ["a 5 1", "a 5 1"].as_slice()), ("dense_rank", &["a 4 2", "a 5 1", "a 5 1"])]
    {
        complete(&format!(
            "SELECT k, v, r FROM (SELECT k, v, {function}() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM STREAM ev)
             WHERE r <= 2 AND v > 1"
        ))
        .add("ev", &rows(&[("a", 5, 0), ("a", 3, 0), ("b", 1, 0), ("a", 4, 0)]))
        .process()
        .add("ev", &rows(&[("a", 5, 0)]))
        .process()
        .check("out", expected);
    }
}

#[test]
fn what_stands_above_is_an_ordinary_query_in_complete_mode() {
    complete(&format!(
        "SELECT k, sum_of FROM (SELECT k, v + rn AS sum_of FROM ({FIRST_TWO})) ORDER BY sum_of DESC LIMIT 2"
    ))
    .add("ev", &rows(&[("a", 1, 0), ("a", 5, 0), ("b", 2, 0), ("a", 3, 0)]))
    .process()
    .check("out", &["a 5", "a 6"]);
}

#[test]
fn columns_of_two_relations_may_have_one_name() {
    flow(
        "SELECT k, v, bv, n FROM (
           SELECT a.*, b.v AS bv, count(*) OVER (PARTITION BY a.ts, a.k) AS n
           FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS AS a
           JOIN STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS AS b ON a.k = b.k AND a.ts = b.ts)",
    )
    .add("ev", &rows(&[("a", 1, 1), ("a", 2, 1), ("a", 3, 50)]))
    .process()
    .check("out", &["a 1 1 4", "a 1 2 4", "a 2 1 4", "a 2 2 4", "a 3 3 1"]);
}

#[test]
fn what_no_target_could_follow_is_refused() {
    let refusal = |mode: &str, query: &str| {
        let sql = format!(
            "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test;
             CREATE SINK out USING test OPTIONS (outputMode '{mode}');
             CREATE FLOW f AS INSERT INTO out {query}"
        );
        StreamScript::refusal(&sql).unwrap_or_else(|| "accepted".to_owned())
    };
    let check = |mode: &str, query: &str, expected: &str| {
        let found = refusal(mode, query);
        assert!(found.contains(expected), "{query}: {found}");
    };
    check_refusal(
        &format!("CREATE FLOW f AS INSERT INTO out {FIRST_TWO}"),
        "append output mode is not possible for the first rows of each k: a row that comes later may take their place; help: \
         use output mode update or complete, or put a window of event time into PARTITION BY",
    );
    check("update", &FIRST_TWO.replace("SELECT k, rn, v", "SELECT k, v"), "tell rows apart: k, the number");
    check("update", &FIRST_TWO.replace("SELECT k, rn, v", "SELECT rn, v"), "tell rows apart: k, the number");
    check(
        "update",
        &FIRST_TWO.replace("PARTITION BY k", "PARTITION BY upper(k)"),
        "tell rows apart: upper(k), the number",
    );
    let one = "SELECT v FROM (SELECT v, row_number() OVER (ORDER BY v) AS rn FROM STREAM ev) WHERE rn = 1";
    check("update", one, "tell rows apart: the number; help: select them all");
    check("update", &format!("{FIRST_TWO} AND v > 1"), "with the condition v > 1 beside the one on the number");
    check("update", &FIRST_TWO.replace("row_number", "rank"), "not possible for rank() and dense_rank()");
    check("complete", "SELECT k FROM STREAM ev", "(row_number() OVER (...) <= n)");
}

#[test]
fn another_order_or_number_is_another_state() {
    for changed in [FIRST_TWO.replace("<= 2", "<= 3"), FIRST_TWO.replace("DESC NULLS LAST", "ASC")] {
        let mut script =
            update(FIRST_TWO).add("ev", &rows(&[("a", 1, 0), ("a", 5, 0), ("a", 3, 0)])).process().change(&format!(
                "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
                 CREATE SINK out USING test OPTIONS (outputMode 'update');
                 CREATE FLOW f AS INSERT INTO out {changed}"
            ));
        let error = script.try_process().unwrap_err();
        assert!(error.contains("the state of operator 'top-0' does not fit"), "{error}");
        script.settings.changes.rebuild.insert("f".to_owned());
        script.try_process().unwrap();
        assert_eq!(newest(&script, 2)[0], if changed.contains("<= 3") { "a 1 5" } else { "a 1 1" });
    }
}

/// A row: key, what it is ordered by, something else, and the minute of its time.
type Row = (u8, Option<u8>, u8, u8);

const MODEL_EVENTS: &str =
    "CREATE TABLE ev (k INT, v INT, x INT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');";

/// All rows in order, by a sort of everything there is: the first `limit` of each key and minute.
fn model(all: &[Row], limit: usize, by_minute: bool, descending: bool) -> Vec<String> {
    let mut partitions: BTreeMap<(u8, u8), Vec<Row>> = BTreeMap::new();
    for row in all {
        partitions.entry((row.0, if by_minute { row.3 } else { 0 })).or_default().push(*row);
    }
    let mut out = Vec::new();
    for mut rows in partitions.into_values() {
        // Nulls are smallest; what the order leaves equal is in the order of all columns.
        rows.sort_by(|a, b| {
            let order = if descending { b.1.cmp(&a.1) } else { a.1.cmp(&b.1) };
            order.then((a.2, a.3).cmp(&(b.2, b.3)))
        });
        out.extend(rows.into_iter().take(limit).enumerate().map(|(at, (k, v, x, minute))| {
            let v = v.map_or_else(|| "null".to_owned(), |v| v.to_string());
            format!("{k} 00:{minute:02}:00 {} {v} {x}", at + 1)
        }));
    }
    out.sort();
    out
}

fn json(row: &Row) -> String {
    let (k, v, x, minute) = row;
    serde_json::json!({"k": k, "v": v, "x": x, "ts": format!("2024-01-01T00:{minute:02}:00Z")}).to_string()
}

fn model_script(mode: &str, limit: usize, descending: bool) -> StreamScript {
    let way = if descending { "DESC" } else { "ASC" };
    let (watermark, partition) = match mode {
        // Nothing is late, and only the row that ends the stream is never passed.
        "append" => ("WATERMARK ts DELAY OF INTERVAL 30 MINUTES", "k, ts"),
        _ => ("", "k"),
    };
    StreamScript::new(&format!(
        "{MODEL_EVENTS} CREATE SINK out USING test OPTIONS (outputMode '{mode}');
         CREATE FLOW f AS INSERT INTO out SELECT k, ts, rn, v, x FROM (
           SELECT *, row_number() OVER (PARTITION BY {partition} ORDER BY v {way}) AS rn FROM STREAM ev {watermark})
         WHERE rn <= {limit}"
    ))
}

fn check_model(mode: &str, all: &[Row], limit: usize, batches: &[usize], descending: bool) {
    let mut script = model_script(mode, limit, descending);
    let (mut left, mut seen) = (all.to_vec(), Vec::new());
    for (at, size) in batches.iter().chain(&[usize::MAX]).enumerate() {
        let batch: Vec<Row> = left.drain(..left.len().min(*size)).collect();
        seen.extend_from_slice(&batch);
        // Several partitions, so that several threads send their rows at once.
        for (partition, rows) in batch.chunks(4).enumerate() {
            let lines: Vec<String> = rows.iter().map(json).collect();
            script = script.add_to("ev", &(partition % 2).to_string(), &lines.join("\n"));
        }
        script.settings.query.parallelism = 1 + at % 3;
        script.settings.query.state_memory_bytes = if at % 2 == 0 { 1 } else { 1 << 30 };
        script.settings.query.state.snapshot_every_batches = 1 + at as u64 % 2;
        script.settings.query.state.snapshot_min_bytes = 0;
        script = script.process();
        if mode != "append" {
            let found = if mode == "update" { newest_by(&script) } else { script.rows("out") };
            assert_eq!(found, model(&seen, limit, false, descending), "{mode}, after batch {at}");
        }
    }
    if mode == "append" {
        let end = json(&(250, Some(0), 0, 59));
        script = script.add("ev", &end).process();
        assert_eq!(script.rows("out"), model(all, limit, true, descending), "{mode}");
    }
}

#[test]
fn real_time_gives_the_same() {
    let all: Vec<Row> = (0..60_u8).map(|n| (n % 3, (n % 7 > 0).then_some(n * 3 % 11), n, n % 25)).collect();
    for mode in ["append", "update", "complete"] {
        let mut script = model_script(mode, 3, true);
        script.settings.query.trigger = Trigger::RealTime(Duration::from_millis(5));
        for row in &all {
            script = script.add("ev", &json(row));
        }
        let end = json(&(250, Some(0), 0, 59));
        let (mut script, inputs) = if mode == "append" { (script.add("ev", &end), 61) } else { (script, 60) };
        let read = |progress: &StreamingQueryProgress| progress.sources[0].end_offset.as_u64();
        script.process_until(|progress| progress.last().and_then(read) >= Some(inputs)).unwrap();
        script.settings.query.trigger = Trigger::AvailableNow;
        let script = script.process();
        let found = if mode == "update" { newest_by(&script) } else { script.rows("out") };
        assert_eq!(found, model(&all, 3, mode == "append", true), "{mode}");
    }
}

/// By key and number, which are the first column and the third.
fn newest_by(script: &StreamScript) -> Vec<String> {
    let mut kept: BTreeMap<(String, String), String> = BTreeMap::new();
    for row in script.rows_as_written("out") {
        let columns: Vec<&str> = row.split(' ').collect();
        kept.insert((columns[0].to_owned(), columns[2].to_owned()), row.clone());
    }
    let mut rows: Vec<String> = kept.into_values().collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn the_rows_are_those_of_a_batch_query_after_each_batch(
        all in prop::collection::vec((0_u8..4, prop::option::weighted(0.9, 0_u8..6), 0_u8..3, 0_u8..25), 1..60),
        limit in 1_usize..5,
        batches in prop::collection::vec(1_usize..15, 0..6),
        descending: bool,
    ) {
        for mode in ["append", "update", "complete"] {
            check_model(mode, &all, limit, &batches, descending);
        }
    }
}
