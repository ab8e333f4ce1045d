//! Joins of two streams.

use proptest::prelude::*;

use super::{flow, rows};
use crate::testing::StreamScript;

const TABLES: &str = "CREATE TABLE a (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
CREATE TABLE b (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
CREATE SINK out USING test;
";

const A: &str = "STREAM a WATERMARK ts DELAY OF INTERVAL 0 SECONDS";
const B: &str = "STREAM b WATERMARK ts DELAY OF INTERVAL 0 SECONDS";
const WITHIN: &str = "a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL 10 SECONDS";

fn join(query: &str) -> StreamScript {
    StreamScript::new(&format!("{TABLES} CREATE FLOW f AS INSERT INTO out {query}"))
}

fn refusal(query: &str) -> String {
    let sql = format!("{TABLES} CREATE FLOW f AS INSERT INTO out {query}");
    StreamScript::refusal(&sql).unwrap_or_else(|| "accepted".to_owned())
}

/// One step: rows of both sides in one batch.
fn step(script: StreamScript, a: &[(&str, i64, u32)], b: &[(&str, i64, u32)]) -> StreamScript {
    let script = if a.is_empty() { script } else { script.add("a", &rows(a)) };
    let script = if b.is_empty() { script } else { script.add("b", &rows(b)) };
    script.process()
}

#[test]
fn rows_meet_across_batches_and_restarts() {
    let script = join("SELECT a.k, a.v, b.v AS w FROM STREAM a JOIN STREAM b ON a.k = b.k");
    let script = step(script, &[("x", 1, 0), ("y", 2, 0)], &[("x", 10, 0)]).check("out", &["x 1 10"]);
    let script = step(script, &[], &[("y", 20, 0), ("x", 11, 0), ("z", 30, 0)]);
    let mut script = script.check("out", &["x 1 10", "x 1 11", "y 2 20"]);
    script.settings.query.parallelism = 3;
    let script = step(script, &[("z", 3, 0), ("x", 4, 0)], &[]);
    script.check("out", &["x 1 10", "x 1 11", "x 4 10", "x 4 11", "y 2 20", "z 3 30"]);
}

#[test]
fn unmatched_left_rows_come_when_the_watermark_passes_their_range() {
    let script = join(&format!("SELECT a.k, a.v, b.v AS w FROM {A} AS a LEFT JOIN {B} AS b ON {WITHIN}"));
    let script = step(script, &[("x", 1, 0), ("y", 2, 0)], &[("x", 10, 5)]).check("out", &["x 1 10"]);
    let script = step(script, &[("z", 3, 10)], &[("q", 0, 10)]).check("out", &["x 1 10"]);
    // Under a watermark of 11 seconds rows up to 0.999 meet nothing any more.
    let script = step(script, &[("z", 3, 11)], &[("q", 0, 11)]).check("out", &["x 1 10", "y 2 null"]);
    // Late rows on either side meet nothing and are counted.
    let script = step(script.forget_progress(), &[("y", 9, 3)], &[("z", 9, 11)]);
    let late: u64 =
        script.progress().iter().flat_map(|p| &p.state_operators).map(|s| s.num_rows_dropped_by_watermark).sum();
    assert_eq!(late, 2);
    let script = step(script, &[("far", 5, 100)], &[("far", 5, 100)]);
    script.check("out", &["far 5 5", "x 1 10", "y 2 null", "z 3 null", "z 3 null"]);
}

#[test]
fn a_condition_on_the_outer_side_alone_is_decided_at_once() {
    let script = join(&format!("SELECT a.k, a.v, b.v AS w FROM {A} AS a LEFT JOIN {B} AS b ON {WITHIN} AND a.v > 5"));
    step(script, &[("x", 1, 0), ("x", 6, 0)], &[("x", 10, 5)]).check("out", &["x 1 null", "x 6 10"]);
}

#[test]
fn keys_with_nulls_meet_nothing() {
    let nulls = r#"{"v": 1, "ts": "2024-01-01T00:00:00Z"}"#;
    let script = join(&format!("SELECT a.v, b.v AS w FROM {A} AS a LEFT JOIN {B} AS b ON {WITHIN}"));
    let script = script.add("a", nulls).add("b", nulls).process().check("out", &[]);
    step(script, &[("q", 0, 100)], &[("q", 0, 100)]).check("out", &["0 0", "1 null"]);
}

#[test]
fn right_and_full_joins_keep_their_sides() {
    let query = |kind: &str| {
        join(&format!("SELECT a.k AS x, b.k AS y, a.v, b.v AS w FROM {A} AS a {kind} JOIN {B} AS b ON {WITHIN}"))
    };
    let run = |kind: &str| {
        let script = step(query(kind), &[("x", 1, 0), ("l", 2, 0)], &[("x", 10, 5), ("r", 20, 5)]);
        step(script, &[("q", 0, 100)], &[("q", 0, 100)])
    };
    run("RIGHT").check("out", &["q q 0 0", "null r null 20", "x x 1 10"]);
    run("FULL OUTER").check("out", &["l null 2 null", "null r null 20", "q q 0 0", "x x 1 10"]);
}

#[test]
fn semi_joins_give_a_row_once_and_anti_joins_when_it_is_known() {
    let semi = join(&format!("SELECT a.k, a.v FROM {A} AS a LEFT SEMI JOIN {B} AS b ON {WITHIN}"));
    let semi = step(semi, &[("x", 1, 0), ("y", 2, 0)], &[("x", 10, 5), ("x", 11, 5)]).check("out", &["x 1"]);
    let semi = step(semi, &[("x", 3, 2)], &[("y", 20, 6), ("x", 12, 7)]).check("out", &["x 1", "x 3", "y 2"]);
    step(semi, &[("q", 0, 100)], &[("q", 0, 100)]).check("out", &["q 0", "x 1", "x 3", "y 2"]);
    let anti = join(&format!("SELECT a.k, a.v FROM {A} AS a LEFT ANTI JOIN {B} AS b ON {WITHIN}"));
    let anti = step(anti, &[("x", 1, 0), ("y", 2, 0)], &[("x", 10, 5)]).check("out", &[]);
    step(anti, &[("q", 0, 100)], &[("q", 0, 100)]).check("out", &["y 2"]);
}

#[test]
fn a_join_on_event_time_forgets_by_key() {
    let script =
        join(&format!("SELECT a.k, a.v, b.v AS w FROM {A} AS a FULL JOIN {B} AS b ON a.ts = b.ts AND a.k = b.k"));
    let script = step(script, &[("x", 1, 5), ("y", 2, 6)], &[("x", 10, 5)]).check("out", &["x 1 10"]);
    let script = step(script, &[("z", 3, 30)], &[("z", 3, 30)]);
    script.check("out", &["x 1 10", "y 2 null", "z 3 3"]);
}

#[test]
fn windows_over_joined_rows_wait_for_rows_the_join_may_still_give() {
    let script = join(&format!(
        "SELECT window.start AS s, count(*) AS n FROM (SELECT a.ts AS t FROM {A} AS a LEFT JOIN {B} AS b ON {WITHIN})
         GROUP BY window(t, '10 seconds')"
    ));
    let script = step(script, &[("x", 1, 1), ("y", 1, 2), ("z", 1, 9)], &[("x", 10, 5)]).check("out", &[]);
    let script = step(script, &[("q", 0, 15)], &[("q", 0, 15)]).check("out", &[]);
    step(script, &[("q", 0, 25)], &[("q", 0, 25)]).check("out", &["00:00:00 3"]);
}

#[test]
fn what_would_never_end_is_refused() {
    let bound = "JOIN of two streams without a bound on time";
    let left = refusal("SELECT a.v FROM STREAM a LEFT JOIN STREAM b ON a.k = b.k");
    assert!(left.starts_with(&format!("LEFT {bound}")), "{left}");
    let anti = refusal("SELECT a.v FROM STREAM a LEFT ANTI JOIN STREAM b ON a.k = b.k");
    assert!(anti.starts_with(&format!("ANTI {bound}")), "{anti}");
    let cross = refusal("SELECT a.v FROM STREAM a JOIN STREAM b ON a.v < b.v");
    assert!(cross.contains("two streams are joined without an equality"), "{cross}");
    assert_eq!(refusal(&format!("SELECT a.v FROM STREAM a LEFT JOIN {B} AS b ON {WITHIN}")), "accepted");
}

/// A row of the model: key, value, second.
type ModelRow = (u8, i64, u32);

/// What a join of all rows gives, without late rows.
fn model(kind: &str, a: &[ModelRow], b: &[ModelRow]) -> Vec<String> {
    let meets = |x: &ModelRow, y: &ModelRow| x.0 == y.0 && y.2 >= x.2 && y.2 <= x.2 + 10;
    let mut out = Vec::new();
    for x in a {
        for y in b.iter().filter(|y| meets(x, y)) {
            out.push(format!("{} {}", x.1, y.1));
        }
        if matches!(kind, "LEFT" | "FULL") && !b.iter().any(|y| meets(x, y)) {
            out.push(format!("{} null", x.1));
        }
    }
    if matches!(kind, "RIGHT" | "FULL") {
        out.extend(b.iter().filter(|y| !a.iter().any(|x| meets(x, y))).map(|y| format!("null {}", y.1)));
    }
    out.sort();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever the batches, the memory and the workers, a join gives what the rows say.
    #[test]
    fn joins_agree_with_a_naive_model(
        steps in prop::collection::vec(
            (prop::collection::vec((0_u8..4, 0_u32..12), 0..6), prop::collection::vec((0_u8..4, 0_u32..12), 0..6)),
            1..6,
        ),
        kind in prop::sample::select(vec!["INNER", "LEFT", "RIGHT", "FULL"]),
        budget in prop::sample::select(vec![1_usize, 64 << 20]),
    ) {
        let mut script = join(&format!(
            "SELECT a.v, b.v AS w FROM STREAM a WATERMARK ts DELAY OF INTERVAL 20 SECONDS AS a
             {kind} JOIN STREAM b WATERMARK ts DELAY OF INTERVAL 20 SECONDS AS b ON {WITHIN}"
        ));
        script.settings.query.state_memory_bytes = budget;
        let (mut all_a, mut all_b): (Vec<ModelRow>, Vec<ModelRow>) = (Vec::new(), Vec::new());
        let mut next = 0;
        for (at, (a, b)) in (0_u32..).zip(&steps) {
            let mut number = |side: &mut Vec<ModelRow>, rows: &[(u8, u32)]| -> Vec<ModelRow> {
                let numbered: Vec<ModelRow> = rows.iter().map(|(key, second)| { next += 1; (*key, next, at * 10 + second) }).collect();
                side.extend(&numbered);
                numbered
            };
            let (a, b) = (number(&mut all_a, a), number(&mut all_b, b));
            let text = |rows: &[ModelRow]| rows.iter().map(|(key, v, s)| super::row(&key.to_string(), *v, *s) + "\n").collect::<String>();
            if !a.is_empty() { script = script.add("a", &text(&a)); }
            if !b.is_empty() { script = script.add("b", &text(&b)); }
            script.settings.query.parallelism = 1 + (at as usize) % 3;
            script = script.process();
        }
        let last = [("end", -1, 3000)];
        let script = step(script, &last, &last);
        let found: Vec<String> = script.rows("out").into_iter().filter(|row| row != "-1 -1").collect();
        prop_assert_eq!(found, model(kind, &all_a, &all_b));
    }
}

/// The auctions with most bids in each sliding window, as a join of two aggregates by the window.
#[test]
fn aggregates_of_sliding_windows_are_joined_by_their_window() {
    let counts = "SELECT k, count(*) AS num, window.start AS starttime, window.end AS endtime
         FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP BY k, window(ts, '20 seconds', '10 seconds')";
    flow(&format!(
        "SELECT a.k, a.num, a.starttime FROM ({counts}) AS a
         JOIN (SELECT max(num) AS maxn, starttime, endtime FROM (
             SELECT count(*) AS num, window.start AS starttime, window.end AS endtime, window
             FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS
             GROUP BY k, window(ts, '20 seconds', '10 seconds')) GROUP BY window, starttime, endtime) AS m
         ON a.starttime = m.starttime AND a.endtime = m.endtime AND a.num >= m.maxn"
    ))
    .add("ev", &rows(&[("a", 1, 11), ("b", 1, 12), ("b", 1, 13), ("a", 1, 25), ("c", 1, 200)]))
    .process()
    .check("out", &["a 1 00:00:20", "a 2 00:00:10", "b 2 00:00:00", "b 2 00:00:10"]);
}

#[test]
fn a_condition_on_a_sliding_window_or_a_session_is_asked_of_the_group() {
    flow(
        "SELECT window.start AS s, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS
         GROUP BY window(ts, '20 seconds', '10 seconds') HAVING window.start >= TIMESTAMP '2024-01-01 00:00:10Z'",
    )
    .add("ev", &rows(&[("a", 1, 5), ("a", 1, 15), ("a", 1, 25), ("a", 1, 100)]))
    .process()
    .check("out", &["00:00:10 2", "00:00:20 1"]);
    flow(
        "SELECT session_window.start AS s, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS
         GROUP BY session_window(ts, '10 seconds'), k HAVING session_window.end > TIMESTAMP '2024-01-01 00:00:30Z'",
    )
    .add("ev", &rows(&[("a", 1, 5), ("a", 1, 14), ("a", 1, 22), ("b", 1, 2), ("c", 1, 100)]))
    .process()
    .check("out", &["00:00:05 3"]);
}
