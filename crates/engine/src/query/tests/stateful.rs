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
    let nested = refusal("SELECT n, count(*) AS c FROM (SELECT k, count(*) AS n FROM STREAM ev GROUP BY k) GROUP BY n");
    assert!(nested.contains("several stateful operators in one query (aggregate-1, aggregate-0)"), "{nested}");
    update("SELECT k, count(*) AS n FROM STREAM ev GROUP BY k");
}

#[test]
fn a_watermark_belongs_to_a_source() {
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k, count(*) AS n FROM (
           SELECT k, window_time(w) AS t FROM (SELECT window(ts, '1 minute') AS w, k FROM
             STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP BY 1, 2)) WATERMARK t DELAY OF INTERVAL 1 SECOND
         GROUP BY k, window(t, '1 minute')",
        "WATERMARK t stands on the result of a GROUP BY, join, DISTINCT or LIMIT; help: put it on the streams they read: the watermark goes on through window_time(window) and joined columns",
    );
}
