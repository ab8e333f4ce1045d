//! Complete mode over several aggregates: side by side, joined, and above one another.

use super::{complete, rows};
use crate::testing::StreamScript;

const TWO_TABLES: &str = "CREATE TABLE a (k STRING, v BIGINT) USING test OPTIONS (batchesPerTrigger '1');
CREATE TABLE b (k STRING, v BIGINT) USING test OPTIONS (batchesPerTrigger '1');
CREATE SINK out USING test OPTIONS (outputMode 'complete');
";

const COUNTS: &str = "SELECT k, count(*) AS n FROM STREAM a GROUP BY k";
const SUMS: &str = "SELECT k, sum(v) AS s FROM STREAM b GROUP BY k";

/// What stands after each of three batches, each in a run of its own.
fn check(query: &str, expected: [&[&str]; 3]) {
    let mut script = StreamScript::new(&format!("{TWO_TABLES} CREATE FLOW f AS INSERT INTO out {query}"));
    let batches = [
        ("a", r#"{"k": "x", "v": 1} {"k": "y", "v": 2}"#),
        ("b", r#"{"k": "x", "v": 7} {"k": "z", "v": 8}"#),
        ("a", r#"{"k": "x", "v": 3} {"k": "w", "v": 4}"#),
    ];
    for (at, ((table, json), expected)) in batches.into_iter().zip(expected).enumerate() {
        script.settings.query.parallelism = 1 + at % 2;
        script.settings.query.state_memory_bytes = if at % 2 == 0 { 1 } else { 1 << 30 };
        script = script.add(table, json).process().check("out", expected);
    }
}

#[test]
fn aggregates_side_by_side() {
    check(
        &format!("{COUNTS} UNION ALL {SUMS}"),
        [&["x 1", "y 1"], &["x 1", "x 7", "y 1", "z 8"], &["w 1", "x 2", "x 7", "y 1", "z 8"]],
    );
    check(
        &format!("{COUNTS} UNION ALL SELECT 'all', sum(v) FROM STREAM b UNION ALL {SUMS}"),
        [
            &["all null", "x 1", "y 1"],
            &["all 15", "x 1", "x 7", "y 1", "z 8"],
            &["all 15", "w 1", "x 2", "x 7", "y 1", "z 8"],
        ],
    );
}

#[test]
fn an_aggregate_that_is_read_twice() {
    check(
        &format!("WITH c AS ({COUNTS}) SELECT k, n FROM c UNION ALL SELECT 'all', sum(n) FROM c"),
        [&["all 2", "x 1", "y 1"], &["all 2", "x 1", "y 1"], &["all 4", "w 1", "x 2", "y 1"]],
    );
}

#[test]
fn aggregates_that_are_joined() {
    check(
        &format!("SELECT c.k, n, s FROM ({COUNTS}) c LEFT JOIN ({SUMS}) t ON c.k = t.k"),
        [&["x 1 null", "y 1 null"], &["x 1 7", "y 1 null"], &["w 1 null", "x 2 7", "y 1 null"]],
    );
}

#[test]
fn aggregates_over_aggregates() {
    check(&format!("SELECT n, count(*) AS keys FROM ({COUNTS}) GROUP BY n"), [&["1 2"], &["1 2"], &["1 2", "2 1"]]);
    check(
        &format!("SELECT k, sum(n) AS n FROM ({COUNTS} UNION ALL {SUMS}) GROUP BY k"),
        [&["x 1", "y 1"], &["x 8", "y 1", "z 8"], &["w 1", "x 9", "y 1", "z 8"]],
    );
    check(
        &format!("SELECT sum(n) AS n FROM (SELECT n FROM ({COUNTS}) ORDER BY n DESC, k LIMIT 1)"),
        [&["1"], &["1"], &["2"]],
    );
}

#[test]
fn an_aggregate_over_first_rows_and_first_rows_beside_it() {
    let first = "SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS rn FROM STREAM a)
                 WHERE rn = 1";
    check(&format!("SELECT sum(v) AS v FROM ({first})"), [&["3"], &["3"], &["9"]]);
    check(
        &format!("{first} UNION ALL {SUMS}"),
        [&["x 1", "y 2"], &["x 1", "x 7", "y 2", "z 8"], &["w 4", "x 3", "x 7", "y 2", "z 8"]],
    );
}

#[test]
fn what_would_be_the_whole_stream_is_refused() {
    let refusal = |query: &str| {
        let sql = format!("{TWO_TABLES} CREATE FLOW f AS INSERT INTO out {query}");
        StreamScript::refusal(&sql).unwrap_or_else(|| "accepted".to_owned())
    };
    let beside = refusal(&format!("{COUNTS} UNION ALL SELECT k, v FROM STREAM b"));
    assert!(beside.contains("with the rows of stream 'b' as they are, beside groups"), "{beside}");
    let joined = refusal(&format!("SELECT c.k, n, v FROM ({COUNTS}) c JOIN STREAM b ON c.k = b.k"));
    assert!(joined.contains("with the rows of stream 'b' as they are, beside groups"), "{joined}");
}

#[test]
fn the_states_of_aggregates_side_by_side_are_told_apart() {
    let script =
        complete("SELECT k, count(*) AS n FROM STREAM ev GROUP BY k UNION ALL SELECT 'all', sum(v) FROM STREAM ev")
            .add("ev", &rows(&[("a", 1, 0), ("b", 5, 0)]))
            .process()
            .add("ev", &rows(&[("a", 2, 1)]))
            .process()
            .check("out", &["a 2", "all 8", "b 1"]);
    let operators = script.progress().last().unwrap().state_operators.clone();
    let mut totals: Vec<u64> = operators.iter().map(|operator| operator.num_rows_total).collect();
    totals.sort_unstable();
    assert_eq!(totals, [1, 2]);
}
