//! Aggregates in streams: state over restarts, other numbers of workers and a small memory; sets of grouping columns.

use crate::testing::StreamScript;

fn script(mode: &str, query: &str) -> StreamScript {
    StreamScript::new(&format!(
        "CREATE TABLE ev (k STRING, j STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test OPTIONS (outputMode '{mode}');
         CREATE FLOW f AS INSERT INTO out {query}"
    ))
}

fn row(k: &str, j: &str, v: i64, second: u32) -> String {
    format!(r#"{{"k": "{k}", "j": "{j}", "v": {v}, "ts": "2024-01-01T00:00:{second:02}Z"}}"#) + "\n"
}

/// Every function with a state of its own kind.
const ALL: &str =
    "SELECT k, count(DISTINCT v), sum(DISTINCT v), try_sum(v), avg(v), min(array(v)), max(ts), first(j), last(v),
    min_by(j, v), max_by(v, j, 2), bool_or(v > 3), bit_xor(v), skewness(v), corr(v, v * v), collect_list(v),
    array_sort(collect_set(j)), listagg(j, '-') WITHIN GROUP (ORDER BY v DESC), mode(j, true), median(v),
    percentile_approx(v, array(0.1, 0.9)), approx_count_distinct(v), histogram_numeric(v, 3),
    hex(count_min_sketch(v, 0.9D, 0.5D, 7)), bitmap_count(bitmap_construct_agg(v)), approx_top_k(j, 1)
    FROM STREAM ev GROUP BY k";

/// The rows of all groups after 6 batches of rows, with one start for each `together` of them.
fn run(parallelism: &[usize], memory: usize, together: usize) -> Vec<String> {
    let mut script = script("complete", ALL);
    script.settings.query.state_memory_bytes = memory;
    let batches: Vec<String> = (0..6)
        .map(|batch| {
            let one = |i: i64| row(&format!("k{}", i % 13), &format!("j{}", (i + batch) % 3), (i * batch) % 50, 1);
            (0..40).map(one).collect()
        })
        .collect();
    for (step, batches) in batches.chunks(together).enumerate() {
        script.settings.query.parallelism = parallelism[step % parallelism.len()];
        for batch in batches {
            script = script.add("ev", batch);
        }
        script = script.process();
    }
    script.rows("out")
}

#[test]
fn groups_are_the_same_after_restarts_with_other_workers_and_little_memory() {
    let straight = run(&[1], 1 << 30, 6);
    assert_eq!(straight.len(), 13);
    assert_eq!(run(&[2], 1 << 30, 1), straight);
    assert_eq!(run(&[3, 1, 2], 1 << 30, 1), straight);
    assert_eq!(run(&[2, 1], 1, 1), straight);
    assert_eq!(run(&[1], 1, 3), straight);
}

#[test]
fn the_state_of_every_function_shows_what_would_come_out() {
    // What is computed above the aggregates is not in the state.
    let above = [("array_sort(collect_set(j))", "collect_set(j)"), ("hex(", "("), ("bitmap_count(", "(")];
    let query = above.iter().fold(ALL.to_owned(), |query, (from, to)| query.replace(from, to));
    let mut script = script("complete", &query);
    let rows: String = (0..40).map(|i| row(&format!("k{}", i % 5), &format!("j{}", i % 3), (i * 7) % 50, 1)).collect();
    script = script.add("ev", &rows).process();
    let shown = script.select("SELECT * EXCEPT (_expiry, _shard) FROM state('f', 'aggregate-0')").unwrap();
    assert_eq!((shown.len(), shown), (5, script.rows("out")));
}

#[test]
fn rollup_and_cube_keep_a_group_for_each_set() {
    script(
        "update",
        "SELECT k, j, sum(v) AS s, grouping(k) AS g, grouping_id() AS id FROM STREAM ev GROUP BY ROLLUP (k, j)",
    )
    .add("ev", &(row("a", "x", 1, 1) + &row("b", "x", 2, 1)))
    .process()
    .check("out", &["a x 1 0 0", "a null 1 0 1", "b x 2 0 0", "b null 2 0 1", "null null 3 1 3"])
    .add("ev", r#"{"k": "a", "v": 5}"#)
    .process()
    .check(
        "out",
        &[
            "a x 1 0 0",
            "a null 1 0 1",
            "b x 2 0 0",
            "b null 2 0 1",
            "null null 3 1 3",
            "a null 5 0 0",
            "a null 6 0 1",
            "null null 8 1 3",
        ],
    );
    script("complete", "SELECT k, j, sum(v) AS s FROM STREAM ev GROUP BY CUBE (k, j)")
        .add("ev", &(row("a", "x", 1, 1) + &row("b", "x", 2, 1)))
        .process()
        .add("ev", &row("a", "y", 3, 1))
        .process()
        .check("out", &["a x 1", "a y 3", "b x 2", "a null 4", "b null 2", "null x 3", "null y 3", "null null 6"]);
    script("complete", "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k WITH ROLLUP")
        .add("ev", &(row("a", "x", 1, 1) + &row("b", "x", 2, 1)))
        .process()
        .check("out", &["a 1", "b 1", "null 2"]);
    script("complete", "SELECT k, j, sum(v) AS s FROM STREAM ev GROUP BY GROUPING SETS ((k), (j), ())")
        .add("ev", &(row("a", "x", 1, 1) + &row("b", "x", 2, 1)))
        .process()
        .check("out", &["a null 1", "b null 2", "null x 3", "null null 3"]);
}

#[test]
fn windows_with_grouping_sets_end_by_the_watermark() {
    script(
        "append",
        "SELECT window.start AS w, k, sum(v) AS s FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 1 SECOND
         GROUP BY window(ts, '10 seconds'), ROLLUP (k)",
    )
    .add("ev", &(row("a", "x", 1, 1) + &row("b", "x", 2, 9)))
    .process()
    .check("out", &[])
    .add("ev", &row("a", "x", 4, 30))
    .process()
    .check("out", &["00:00:00 a 1", "00:00:00 b 2", "00:00:00 null 3"]);
}

#[test]
fn sessions_that_join_count_each_value_once() {
    let mut script = script(
        "append",
        "SELECT k, count(DISTINCT v) AS d, collect_list(v) AS l FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 20 SECONDS
         GROUP BY k, session_window(ts, '5 seconds')",
    );
    // Two sessions of `a`, which the last row joins after a restart.
    for rows in [row("a", "", 1, 0) + &row("a", "", 2, 8), row("a", "", 1, 9), row("a", "", 2, 4)] {
        script = script.add("ev", &rows).process();
    }
    let after = r#"{"k": "b", "v": 1, "ts": "2024-01-01T00:02:00Z"}"#;
    let rows = script.add("ev", after).process().rows("out");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].starts_with("a 2 [") && rows[0].matches(['1', '2']).count() == 5, "{rows:?}");
}

#[test]
fn what_is_wrong_with_constants_is_said_when_the_query_is_planned() {
    let check = |call: &str, expected: &str| {
        let refusal = StreamScript::refusal(&format!(
            "CREATE TABLE ev (v BIGINT) USING test; CREATE SINK out USING test OPTIONS (outputMode 'update');
             CREATE FLOW f AS INSERT INTO out SELECT {call} AS x FROM STREAM ev"
        ));
        let refusal = refusal.unwrap_or_default();
        assert!(refusal.contains(expected), "{call}: {refusal}");
    };
    check("percentile(v, 1.5)", "the percentage is 1.5, which is not 0.0 to 1.0");
    check("percentile_approx(v, v)", "the percentage is not constant; help: give a literal");
    check(
        "approx_count_distinct(v, 0.5)",
        "cannot have a standard error of 0.5; help: give an error from 0.0003 to 0.39",
    );
    check("percentile_cont(0.5)", "percentile_cont needs WITHIN GROUP (ORDER BY ...)");
    check("sum(v, v)", "`sum` takes 1 arguments, found 2");
    check("grouping(v)", "grouping stands without grouping sets; help: group by ROLLUP(...)");
}
