//! Several stateful operators in one query, and those that are not `GROUP BY`.

use super::{check_refusal, flow, rows, update};

#[test]
fn windows_of_windows_are_final_in_the_same_batch_as_the_windows_they_count() {
    let query = |time: &str| {
        format!(
            "SELECT w2.start AS s, n, big FROM (
               SELECT window({time}, '2 minutes') AS w2, sum(n) AS n, max(n) AS big FROM (
                 SELECT window(ts, '1 minute') AS w, k, count(*) AS n
                 FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS GROUP BY 1, 2)
               GROUP BY 1)"
        )
    };
    for time in ["window_time(w)", "w"] {
        flow(&query(time))
            .add("ev", &rows(&[("a", 1, 5), ("a", 1, 6), ("b", 1, 7), ("a", 1, 65)]))
            .process()
            .check("out", &[])
            .add("ev", &rows(&[("a", 1, 131)]))
            .process()
            .check("out", &["00:00:00 4 2"])
            // Late for the inner window.
            .add("ev", &rows(&[("a", 1, 70), ("a", 1, 250)]))
            .process()
            .check("out", &["00:00:00 4 2", "00:02:00 1 1"]);
    }
}

#[test]
fn a_window_column_of_an_inner_query_is_event_time_to_group_by() {
    flow(
        "SELECT w.start AS s, count(*) AS keys FROM (
           SELECT window(ts, '1 minute') AS w, k, count(*) AS n
           FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP BY 1, 2)
         GROUP BY w",
    )
    .add("ev", &rows(&[("a", 1, 5), ("b", 1, 6), ("c", 1, 65)]))
    .process()
    .check("out", &["00:00:00 2"])
    .add("ev", &rows(&[("d", 1, 190)]))
    .process()
    .check("out", &["00:00:00 2", "00:01:00 1"]);
}

#[test]
fn a_limit_counts_over_all_batches_and_restarts() {
    flow("SELECT k FROM STREAM ev WHERE v > 0 LIMIT 3")
        .add("ev", &rows(&[("a", 1, 0), ("x", 0, 0), ("b", 1, 0)]))
        .process()
        .check("out", &["a", "b"])
        .add("ev", &rows(&[("c", 1, 0)]))
        .add("ev", &rows(&[("d", 1, 0)]))
        .process()
        .check("out", &["a", "b", "c"])
        .add("ev", &rows(&[("e", 1, 0)]))
        .process()
        .check("out", &["a", "b", "c"]);
    flow("SELECT k FROM STREAM ev LIMIT 0").add("ev", &rows(&[("a", 1, 0)])).process().check("out", &[]);
}

#[test]
fn a_limit_over_a_union_counts_both_sides() {
    flow("SELECT k FROM STREAM ev UNION ALL SELECT upper(k) AS k FROM STREAM ev LIMIT 3")
        .add("ev", &rows(&[("a", 1, 0), ("b", 1, 0)]))
        .process()
        .add("ev", &rows(&[("c", 1, 0), ("d", 1, 0)]))
        .process()
        .check_count("out", 3);
}

#[test]
fn what_needs_append_mode_says_so() {
    let refusal = |query: &str| {
        let sql = format!(
            "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test;
             CREATE SINK out USING test OPTIONS (outputMode 'update');
             CREATE FLOW f AS INSERT INTO out {query}"
        );
        crate::testing::StreamScript::refusal(&sql).unwrap_or_else(|| "accepted".to_owned())
    };
    assert!(refusal("SELECT k FROM STREAM ev LIMIT 3").contains("LIMIT is not possible in output mode update"));
    let whole = crate::testing::StreamScript::refusal(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test;
         CREATE SINK out USING test OPTIONS (outputMode 'complete');
         CREATE FLOW f AS INSERT INTO out SELECT k FROM STREAM ev",
    );
    assert!(whole.is_some_and(|whole| whole.contains("output mode complete is only possible with GROUP BY")));
    update("SELECT k, count(*) AS n FROM STREAM ev GROUP BY k");
}

#[test]
fn a_watermark_belongs_to_a_source() {
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k, count(*) AS n FROM (SELECT DISTINCT k, ts FROM STREAM ev)
           WATERMARK ts DELAY OF INTERVAL 1 SECOND GROUP BY k, window(ts, '1 minute')",
        "WATERMARK ts stands on the result of a GROUP BY, join, DISTINCT or LIMIT; help: put it on the streams they \
         read: the watermark goes on through window_time(window) and joined columns",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k FROM (SELECT * FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 1 SECOND)
           WATERMARK ts DELAY OF INTERVAL 2 SECONDS",
        "4:12: a stream that has a watermark is given a second one; help: keep one of the two WATERMARK clauses",
    );
}

#[test]
fn distinct_gives_each_row_once_when_it_first_comes() {
    let mut script = flow("SELECT DISTINCT k, v FROM STREAM ev")
        .add("ev", &rows(&[("a", 1, 0), ("a", 1, 5), ("b", 1, 0)]))
        .process()
        .check("out", &["a 1", "b 1"]);
    script.settings.query.state_memory_bytes = 1;
    script.settings.query.parallelism = 3;
    script
        .add("ev", &rows(&[("a", 1, 9), ("a", 2, 9), ("c", 1, 9)]))
        .add("ev", &rows(&[("a", 2, 9), ("c", 1, 9), ("d", 1, 9)]))
        .process()
        .check("out", &["a 1", "a 2", "b 1", "c 1", "d 1"]);
}

#[test]
fn distinct_with_event_time_waits_for_the_watermark_as_in_spark() {
    flow("SELECT DISTINCT k, ts FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS")
        .add("ev", &rows(&[("a", 1, 0), ("a", 2, 0), ("b", 1, 5)]))
        .process()
        .check("out", &[])
        .add("ev", &rows(&[("c", 1, 14)]))
        .process()
        .check("out", &["a 00:00:00"]);
}

#[test]
fn distinct_on_forgets_a_key_the_delay_after_its_first_row() {
    flow("SELECT DISTINCT ON (k) k, v FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS")
        .add("ev", &rows(&[("a", 1, 0), ("b", 3, 1)]))
        .process()
        .check("out", &["a 1", "b 3"])
        .add("ev", &rows(&[("a", 4, 8), ("c", 5, 20)]))
        .process()
        .check("out", &["a 1", "b 3", "c 5"])
        // The watermark is 10: 'a' is forgotten, 'b' is not.
        .add("ev", &rows(&[("a", 6, 15), ("b", 7, 15)]))
        .process()
        .check("out", &["a 1", "a 6", "b 3", "c 5"]);
}

#[test]
fn ranks_within_a_window_come_when_the_window_is_whole() {
    flow(
        "SELECT w.start AS s, k, n, rn FROM (
           SELECT w, k, n, row_number() OVER (PARTITION BY w ORDER BY n DESC) AS rn FROM (
             SELECT window(ts, '1 minute') AS w, k, count(*) AS n
             FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP BY 1, 2))
         WHERE rn <= 2",
    )
    .add("ev", &rows(&[("a", 1, 1), ("b", 1, 2), ("b", 1, 3), ("c", 1, 4), ("c", 1, 5), ("c", 1, 6)]))
    .process()
    .check("out", &[])
    .add("ev", &rows(&[("a", 1, 61), ("z", 1, 125)]))
    .process()
    .check("out", &["00:00:00 b 2 2", "00:00:00 c 3 1", "00:01:00 a 1 1"]);
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k, row_number() OVER (PARTITION BY k ORDER BY ts) AS rn FROM STREAM ev",
        "row_number(...) OVER (...) on a stream: the rows of a partition never end; help: put a window of event time into \
         PARTITION BY and use output mode append: FROM STREAM t WATERMARK ts DELAY OF INTERVAL 10 SECONDS, OVER (PARTITION \
         BY window, ... ORDER BY ...); or keep the first rows alone: SELECT ... FROM (SELECT ..., row_number() OVER (...) \
         AS rn ...) WHERE rn <= 10, in output mode update or complete",
    );
}
