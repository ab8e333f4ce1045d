//! Session windows: what rows say, whatever the batches, the memory and the workers. What Spark says of the same
//! queries is in `tests/oracle/streams/sessions.golden`.

use proptest::prelude::*;

use super::{complete, flow, row, rows};
use crate::progress::StateOperatorProgress;
use crate::testing::StreamScript;

const EV: &str = "STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS";
const SESSIONS: &str = "SELECT k, session_window.start AS s, session_window.end AS e, count(*) AS n, sum(v) AS t";

fn sessions(gap: &str) -> StreamScript {
    flow(&format!("{SESSIONS} FROM {EV} GROUP BY k, session_window(ts, {gap})"))
}

fn state(script: &StreamScript) -> StateOperatorProgress {
    script.progress().last().and_then(|progress| progress.state_operators.first().cloned()).unwrap()
}

#[test]
fn sessions_grow_join_and_close_over_batches_and_restarts() {
    let mut script = sessions("'5 seconds'")
        .add("ev", &rows(&[("x", 1, 0), ("x", 2, 4), ("x", 3, 10), ("y", 4, 2)]))
        .process()
        .check("out", &[]);
    assert_eq!(state(&script).num_rows_total, 3);
    // A row at the very end of the gap joins, and one between two sessions makes one of them.
    script.settings.query.parallelism = 3;
    let script = script.add("ev", &rows(&[("x", 5, 9), ("y", 6, 7)])).process().check("out", &[]);
    assert_eq!(state(&script).num_rows_total, 2);
    let script = script
        .add("ev", &rows(&[("x", 7, 25)]))
        .process()
        .check("out", &["x 00:00:00 00:00:15 4 11", "y 00:00:02 00:00:12 2 10"]);
    assert_eq!(
        (state(&script).operator_name.as_str(), state(&script).num_rows_total),
        ("sessionWindowStateStoreSaveExec", 1)
    );
    script
        .add("ev", &rows(&[("z", 0, 100)]))
        .process()
        .check("out", &["x 00:00:00 00:00:15 4 11", "x 00:00:25 00:00:30 1 7", "y 00:00:02 00:00:12 2 10"]);
}

#[test]
fn a_row_is_late_by_the_end_of_the_session_it_makes_alone() {
    let script = flow(
        "SELECT k, session_window AS w, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS
         GROUP BY k, session_window(ts, '10 seconds')",
    )
    .add("ev", &rows(&[("x", 1, 60)]))
    .process()
    .check("out", &[])
    .forget_progress()
    // The watermark is at 60: what ends at 60 is late, even where the session of 60 would reach.
    .add("ev", &rows(&[("x", 2, 49), ("x", 3, 50), ("x", 4, 51), ("x", 5, 55)]))
    .process();
    let late: u64 = script.progress().iter().map(|p| p.state_operators[0].num_rows_dropped_by_watermark).sum();
    assert_eq!(late, 2);
    script.add("ev", &rows(&[("q", 0, 120)])).process().check("out", &["x {start: 00:00:51, end: 00:01:10} 3"]);
}

#[test]
fn each_row_may_have_its_own_gap() {
    let by_value =
        "CASE WHEN v > 10 THEN '20 seconds' WHEN v = 0 THEN '0 seconds' WHEN v < 0 THEN 'never' ELSE '5 seconds' END";
    sessions(by_value)
        .add("ev", &rows(&[("x", 12, 0), ("x", 1, 3), ("x", 0, 4), ("y", -1, 4)]))
        .process()
        .add("ev", &rows(&[("x", 2, 20), ("y", 3, 26)]))
        .process()
        .add("ev", &rows(&[("end", 0, 100)]))
        .process()
        .check("out", &["x 00:00:00 00:00:25 3 15", "y 00:00:26 00:00:31 1 3"]);
    let from_text = "concat(CAST(v AS STRING), ' seconds')";
    sessions(from_text)
        .add("ev", &rows(&[("x", 3, 0), ("x", 9, 3), ("x", 1, 13)]))
        .process()
        .add("ev", &rows(&[("end", 1, 100)]))
        .process()
        .check("out", &["x 00:00:00 00:00:12 2 12", "x 00:00:13 00:00:14 1 1"]);
    // Spark takes no interval here; it means what it says.
    sessions("CASE WHEN v > 10 THEN INTERVAL 20 SECONDS ELSE INTERVAL '0 00:00:05' DAY TO SECOND END")
        .add("ev", &rows(&[("x", 12, 0), ("x", 1, 21), ("end", 1, 100)]))
        .process()
        .check("out", &["x 00:00:00 00:00:20 1 12", "x 00:00:21 00:00:26 1 1"]);
}

#[test]
fn rows_without_time_are_left_out_and_null_keys_are_a_key() {
    sessions("'5 seconds'")
        .add("ev", r#"{"k": "x", "v": 1}"#)
        .add("ev", &format!("{}{}", r#"{"v": 2, "ts": "2024-01-01T00:00:00Z"}"#, row("x", 3, 1)))
        .process()
        .add("ev", &rows(&[("end", 0, 100)]))
        .process()
        .check("out", &["null 00:00:00 00:00:05 1 2", "x 00:00:01 00:00:06 1 3"]);
}

#[test]
fn sessions_of_all_rows_need_no_key() {
    flow(&format!("SELECT session_window AS w, count(*) AS n FROM {EV} GROUP BY session_window(ts, '5 seconds')"))
        .add("ev", &rows(&[("x", 1, 0), ("y", 1, 3), ("z", 1, 20)]))
        .process()
        .add("ev", &rows(&[("end", 0, 100)]))
        .process()
        .check("out", &["{start: 00:00:00, end: 00:00:08} 2", "{start: 00:00:20, end: 00:00:25} 1"]);
}

#[test]
fn names_numbers_and_having_work_as_for_windows() {
    flow(&format!(
        "SELECT session_window(ts, '5 seconds'), k, count(*) AS n FROM {EV} GROUP BY 1, k HAVING count(*) > 1"
    ))
    .add("ev", &rows(&[("x", 1, 0), ("x", 2, 4), ("y", 1, 0), ("end", 0, 100)]))
    .process()
    .check("out", &["{start: 00:00:00, end: 00:00:09} x 2"]);
    flow(&format!("SELECT DISTINCT k, session_window(ts, '5 seconds') AS w FROM {EV}"))
        .add("ev", &rows(&[("x", 1, 0), ("x", 2, 4), ("end", 0, 100)]))
        .process()
        .check("out", &["x {start: 00:00:00, end: 00:00:09}"]);
    flow("SELECT k, session_window(ts, '5 seconds') AS w FROM STREAM ev")
        .add("ev", r#"{"k": "nothing", "v": 1}"#)
        .add("ev", &rows(&[("x", 1, 0)]))
        .process()
        .check("out", &["x {start: 00:00:00, end: 00:00:05}"]);
}

#[test]
fn complete_mode_keeps_and_shows_every_session_and_takes_late_rows() {
    for budget in [1, 64 << 20] {
        let mut script =
            complete(&format!("{SESSIONS} FROM {EV} GROUP BY k, session_window(ts, '5 seconds') ORDER BY s"));
        script.settings.query.state_memory_bytes = budget;
        script
            .add("ev", &rows(&[("x", 1, 0), ("y", 2, 100)]))
            .process()
            .check("out", &["x 00:00:00 00:00:05 1 1", "y 00:01:40 00:01:45 1 2"])
            .add("ev", &rows(&[("x", 3, 10)]))
            .process()
            .add("ev", &rows(&[("x", 4, 5)]))
            .process()
            .check("out", &["x 00:00:00 00:00:15 3 8", "y 00:01:40 00:01:45 1 2"]);
    }
}

#[test]
fn what_joins_a_session_joins_it_by_time() {
    flow(&format!(
        "SELECT k, array_agg(v) AS l, session_window.end AS e FROM {EV} GROUP BY k, session_window(ts, '5 seconds')"
    ))
    .add("ev", &rows(&[("x", 1, 10), ("x", 2, 3)]))
    .process()
    .add("ev", &rows(&[("x", 3, 1), ("x", 4, 12), ("x", 5, 6)]))
    .process()
    .add("ev", &rows(&[("end", 0, 100)]))
    .process()
    .check("out", &["x [3, 2, 5, 1, 4] 00:00:17"]);
}

#[test]
fn sessions_are_event_time_for_what_comes_after() {
    let inner =
        format!("(SELECT k, v, session_window(ts, '5 seconds') AS w, count(*) AS n FROM {EV} GROUP BY k, v, 3)");
    for time in ["w", "window_time(w)"] {
        flow(&format!(
            "SELECT window.start AS s, count(*) AS c, sum(n) AS n FROM {inner} GROUP BY window({time}, '1 minute')"
        ))
        .add("ev", &rows(&[("x", 1, 0), ("x", 1, 4), ("y", 1, 30), ("x", 1, 57), ("x", 1, 75)]))
        .process()
        .check("out", &["00:00:00 2 3"])
        .add("ev", &rows(&[("end", 0, 200)]))
        .process()
        .check("out", &["00:00:00 2 3", "00:01:00 2 2"]);
    }
    // Rows that a join gives may be older than the watermark; their sessions wait for them.
    StreamScript::new(&format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE TABLE other (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out SELECT k, session_window.start AS s, session_window.end AS e, count(w) AS n FROM (
           SELECT a.k, a.ts AS t, b.v AS w FROM {EV} AS a LEFT JOIN STREAM other WATERMARK ts DELAY OF INTERVAL 0 SECONDS AS b
           ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL 20 SECONDS) GROUP BY k, session_window(t, '5 seconds')"
    ))
    .add("ev", &rows(&[("x", 1, 0), ("x", 2, 4), ("x", 3, 8), ("end", 0, 100)]))
    .add("other", &rows(&[("x", 1, 20), ("x", 1, 28), ("x", 1, 100)]))
    .process()
    .check("out", &["x 00:00:00 00:00:13 4"]);
    // A column of sessions is joined again, by fewer keys.
    flow(&format!("SELECT k, w.start AS s, w.end AS e, count(*) AS c, sum(n) AS n FROM {inner} GROUP BY k, w"))
        .add("ev", &rows(&[("x", 1, 0), ("x", 2, 4), ("y", 1, 4), ("end", 0, 100)]))
        .process()
        .check("out", &["x 00:00:00 00:00:09 2 2", "y 00:00:04 00:00:09 1 1"]);
    flow(&format!(
        "SELECT session_window(w, '30 seconds').start AS s, count(*) AS c FROM
           (SELECT window(ts, '10 seconds') AS w, k FROM {EV} GROUP BY 1, 2) GROUP BY session_window(w, '30 seconds')"
    ))
    .add("ev", &rows(&[("x", 1, 0), ("x", 2, 14), ("y", 1, 55), ("end", 0, 200)]))
    .process()
    .check("out", &["00:00:09 2", "00:00:59 1"]);
}

#[test]
fn what_cannot_be_said_is_refused() {
    let flow = |mode: &str, group: &str| {
        let sql = format!(
            "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test;
             CREATE SINK out USING test OPTIONS (outputMode '{mode}');
             CREATE FLOW f AS INSERT INTO out SELECT k, count(*) AS n FROM {EV} GROUP BY k, {group}"
        );
        StreamScript::refusal(&sql).unwrap_or_else(|| "accepted".to_owned())
    };
    let check = |mode, group: &str, part: &str| {
        let found = flow(mode, group);
        assert!(found.contains(part), "{mode} {group}: {found}");
    };
    check("append", "session_window(ts, '5 seconds')", "accepted");
    check("update", "session_window(ts, '5 seconds')", "output mode update is not possible for session_window");
    check("append", "session_window(ts, 'often')", "the gap of session_window is 'often', expected");
    check("append", "session_window(ts, 5)", "the gap of session_window is INT, expected");
    let distinct = StreamScript::refusal(
        "CREATE TABLE ev (k STRING, ts TIMESTAMP) USING test; CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out SELECT DISTINCT k, session_window(ts, '5 seconds') AS w FROM STREAM ev",
    );
    assert!(distinct.is_some_and(|refusal| refusal.contains("without a watermark")));
    check("append", "session_window(ts)", "session_window takes a time and a gap");
    check("append", "session_window(v, '5 seconds')", "session_window takes a TIMESTAMP");
    check("append", "session_window(ts + INTERVAL 1 SECOND, '5 seconds')", "without a watermark");
    check("append", "session_window(ts, '5 seconds'), window(ts, '1 minute')", "and by another time");
}

#[test]
fn a_query_without_streams_joins_the_same_sessions() {
    let view = |query: &str| {
        StreamScript::new(&format!(
            "CREATE TABLE ev (k STRING, v BIGINT, g STRING, ts TIMESTAMP) USING test;
             CREATE MATERIALIZED VIEW out USING test AS {query}"
        ))
        .add(
            "ev",
            r#"{"k": "a", "v": 1, "g": "5 seconds", "ts": "2024-01-01T00:00:00Z"}
               {"k": "a", "v": 2, "g": "2 seconds", "ts": "2024-01-01T00:00:05Z"}
               {"k": "a", "v": 3, "g": "-1 seconds", "ts": "2024-01-01T00:00:08Z"}
               {"k": "b", "v": 4, "g": "0 seconds", "ts": "2024-01-01T00:00:01Z"}
               {"k": "b", "v": 5, "ts": "2024-01-01T00:00:02Z"}
               {"k": "b", "v": 6, "g": "3 seconds"}
               {"v": 7, "g": "1 month", "ts": "2024-01-01T00:00:02Z"}
               {"v": 8, "g": "1 day", "ts": "2024-01-31T00:00:02Z"}"#,
        )
        .process()
    };
    // What Spark 4.3 gives.
    view("SELECT k, session_window.start AS s, session_window.end AS e, count(*) AS n, sum(v) AS t FROM ev GROUP BY k, session_window(ts, '3 seconds')")
        .check(
            "out",
            &[
                "a 00:00:00 00:00:03 1 1",
                "a 00:00:05 00:00:11 2 5",
                "b 00:00:01 00:00:05 2 9",
                "null 00:00:02 00:00:05 1 7",
                "null 00:00:02 00:00:05 1 8",
            ],
        );
    view("SELECT k, session_window, count(*) AS n FROM ev GROUP BY k, session_window(ts, g)")
        .check("out", &["a {start: 00:00:00, end: 00:00:07} 2", "null {start: 00:00:02, end: 00:00:02} 2"]);
    view("SELECT session_window, count(DISTINCT k) AS n, sum(v) AS t FROM ev GROUP BY session_window(ts, '5 seconds')")
        .check("out", &["{start: 00:00:00, end: 00:00:13} 2 22", "{start: 00:00:02, end: 00:00:07} 0 8"]);
    view("SELECT w, count(*) AS n FROM (SELECT k, session_window(ts, '5 seconds') AS w FROM ev GROUP BY 1, 2) GROUP BY w")
        .check("out", &["{start: 00:00:00, end: 00:00:13} 3", "{start: 00:00:02, end: 00:00:07} 1"]);
    view("SELECT DISTINCT k, session_window(ts, '5 seconds') AS w FROM ev WHERE k = 'a'")
        .check("out", &["a {start: 00:00:00, end: 00:00:13}"]);
    view("SELECT v, session_window(ts, '5 seconds').end AS e FROM ev WHERE k = 'b'")
        .check("out", &["4 00:00:06", "5 00:00:07"]);
    view("SELECT k, session_window(ts, '0 seconds') AS w, count(*) AS n FROM ev GROUP BY 1, 2").check("out", &[]);
}

/// A row of the model: key, value, second, and its gap in seconds.
type ModelRow = (u8, i64, u32, u32);

/// The sessions of all rows, without late rows.
fn model(rows: &[ModelRow]) -> Vec<String> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|(key, _, second, _)| (*key, *second));
    let mut sessions: Vec<(u8, u32, u32, u32, i64)> = Vec::new();
    for (key, value, second, gap) in rows {
        match sessions.last_mut() {
            Some(last) if last.0 == key && second <= last.2 => {
                last.2 = last.2.max(second + gap);
                (last.3, last.4) = (last.3 + 1, last.4 + value);
            }
            _ => sessions.push((key, second, second + gap, 1, value)),
        }
    }
    let time = |second: u32| format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let mut texts: Vec<String> = sessions
        .iter()
        .map(|(key, start, end, n, total)| format!("{key} {} {} {n} {total}", time(*start), time(*end)))
        .collect();
    texts.sort();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the batches, the memory, the workers and the snapshots, sessions are what the rows say.
    #[test]
    fn sessions_agree_with_a_naive_model(
        steps in prop::collection::vec(
            prop::collection::vec(prop::collection::vec((0_u8..5, 0_u32..30, 1_i64..5), 1..8), 1..4),
            1..8,
        ),
        budget in prop::sample::select(vec![1_usize, 6000, 64 << 20]),
        snapshot_every in 1_u64..4,
    ) {
        // The gap of a row is twice its value.
        let mut script = flow(
            "SELECT k, session_window.start AS s, session_window.end AS e, count(*) AS n, sum(v) AS t
             FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 40 SECONDS
             GROUP BY k, session_window(ts, concat(CAST(v * 2 AS STRING), ' seconds'))",
        );
        script.settings.query.state_memory_bytes = budget;
        script.settings.query.state.snapshot_every_batches = snapshot_every;
        let mut all: Vec<ModelRow> = Vec::new();
        for (at, batches) in (0_u32..).zip(&steps) {
            for batch in batches {
                let batch: Vec<ModelRow> = batch
                    .iter()
                    .map(|(key, second, value)| (*key, *value, at * 10 + second, u32::try_from(value * 2).unwrap()))
                    .collect();
                let text: String =
                    batch.iter().map(|(key, value, second, _)| row(&key.to_string(), *value, *second) + "\n").collect();
                all.extend(batch);
                script = script.add("ev", &text);
            }
            script.settings.query.parallelism = 1 + (at as usize) % 3;
            script = script.process();
        }
        let script = script.add("ev", &row("end", 1, 3500)).process();
        let dropped: u64 =
            script.progress().iter().flat_map(|p| &p.state_operators).map(|s| s.num_rows_dropped_by_watermark).sum();
        prop_assert_eq!(dropped, 0);
        prop_assert_eq!(script.rows("out"), model(&all));
        prop_assert_eq!(state(&script).num_rows_total, 1);
    }
}
