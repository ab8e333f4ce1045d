//! Queries from SQL to rows, by script.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::BooleanArray;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::sink::{OutputMode, split_deleted};
use crate::testing::StreamScript;

mod auto_cdc;
mod changes;
mod changing;
mod evolution;
mod functions;
mod joins;
mod ordinary;
mod random;
mod rebuild;
mod retries;
mod sessions;
mod state;
mod stateful;
mod static_tables;
mod top;
mod ttl;
mod whole;

const EVENTS: &str = "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
CREATE SINK out USING test;
";

fn flow(query: &str) -> StreamScript {
    StreamScript::new(&format!("{EVENTS} CREATE FLOW f AS INSERT INTO out {query}"))
}

fn update(query: &str) -> StreamScript {
    StreamScript::new(&update_sql(query))
}

fn update_sql(query: &str) -> String {
    format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test OPTIONS (outputMode 'update');
         CREATE FLOW f AS INSERT INTO out {query}"
    )
}

fn complete(query: &str) -> StreamScript {
    StreamScript::new(&format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test OPTIONS (outputMode 'complete');
         CREATE FLOW f AS INSERT INTO out {query}"
    ))
}

/// One row: key, value, second of the hour.
fn row(k: &str, v: i64, second: u32) -> String {
    format!(r#"{{"k": "{k}", "v": {v}, "ts": "2024-01-01T00:{:02}:{:02}Z"}}"#, second / 60, second % 60)
}

fn rows(rows: &[(&str, i64, u32)]) -> String {
    rows.iter().map(|(k, v, second)| row(k, *v, *second) + "\n").collect()
}

/// The rows of a table after all that was written to it replaced and deleted rows by key, as text and in its order.
fn kept(script: &StreamScript, table: &str) -> Vec<String> {
    kept_since(script, table, 0)
}

/// The same of an empty table after what was written from so many pieces on.
fn kept_since(script: &StreamScript, table: &str, pieces: usize) -> Vec<String> {
    let Some(request) = script.table(table).request() else { return Vec::new() };
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    for batch in script.written(table).into_iter().skip(pieces) {
        let nothing = BooleanArray::from(vec![false; batch.num_rows()]);
        let (rows, deleted) = if request.deletes { split_deleted(&batch).unwrap() } else { (batch, nothing) };
        assert_eq!(rows.schema_ref().fields().len(), request.schema.fields().len());
        let options = FormatOptions::default().with_null("null");
        let columns: Vec<_> =
            rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let places = request.key_columns.iter().map(|key| rows.schema_ref().index_of(key).unwrap());
        let places: Vec<usize> = places.collect();
        for row in 0..rows.num_rows() {
            let text = |at: usize| columns[at].value(row).to_string();
            let key = places.iter().map(|at| text(*at)).collect::<Vec<_>>().join("|");
            match deleted.value(row) {
                true => kept.remove(&key),
                false => kept.insert(key, (0..columns.len()).map(text).collect::<Vec<_>>().join(" ")),
            };
        }
    }
    let mut rows: Vec<String> = kept.into_values().collect();
    rows.sort();
    rows
}

#[test]
fn filters_and_projects() {
    flow("SELECT upper(k) AS key, v * 2 AS twice FROM STREAM ev WHERE v > 1")
        .add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)]))
        .process()
        .check("out", &["B 4"])
        .add("ev", &rows(&[("c", 3, 0)]))
        .process()
        .check("out", &["B 4", "C 6"])
        .process()
        .check("out", &["B 4", "C 6"]);
}

#[test]
fn tumbling_windows_in_append_mode_come_when_the_watermark_passes_them() {
    flow(
        "SELECT window.start AS w, k, count(*) AS n, sum(v) AS total FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS
         GROUP BY window(ts, '1 minute'), k",
    )
    .add("ev", &rows(&[("a", 1, 5), ("a", 2, 59), ("b", 3, 30)]))
    .process()
    .check("out", &[])
    .add("ev", &rows(&[("a", 4, 65), ("b", 5, 69)]))
    .process()
    .check("out", &[])
    .add("ev", &rows(&[("c", 6, 70)]))
    .process()
    .check("out", &["00:00:00 a 2 3", "00:00:00 b 1 3"])
    // The window that closed takes nothing any more; the row is counted as late.
    .forget_progress()
    .add("ev", &rows(&[("a", 100, 1), ("z", 0, 130)]))
    .process()
    .check("out", &["00:00:00 a 2 3", "00:00:00 b 1 3", "00:01:00 a 1 4", "00:01:00 b 1 5", "00:01:00 c 1 6"]);
}

#[test]
fn late_rows_are_left_out_and_counted() {
    let script = flow("SELECT window, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP BY window(ts, '10 seconds')")
        .add("ev", &rows(&[("a", 1, 25)]))
        .process()
        .add("ev", &rows(&[("a", 1, 26)]))
        .process()
        .forget_progress()
        .add("ev", &rows(&[("late", 1, 3), ("late", 1, 4), ("a", 1, 27)]))
        .process();
    let dropped: u64 =
        script.progress().iter().flat_map(|p| &p.state_operators).map(|s| s.num_rows_dropped_by_watermark).sum();
    assert_eq!(dropped, 2);
    script.add("ev", &rows(&[("a", 1, 30)])).process().check("out", &["{start: 00:00:20, end: 00:00:30} 3"]);
}

#[test]
fn sliding_windows_count_a_row_in_each_window() {
    flow(
        "SELECT window.start AS s, window.end AS e, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS
         GROUP BY window(ts, '20 seconds', '10 seconds')",
    )
    .add("ev", &rows(&[("a", 1, 5), ("a", 1, 15), ("a", 1, 60)]))
    .process()
    .check("out", &["00:00:00 00:00:20 2", "00:00:10 00:00:30 1", "23:59:50 00:00:10 1"]);
}

#[test]
fn update_mode_gives_the_groups_that_changed() {
    update("SELECT k, count(*) AS n, max(v) AS m, min(v) AS l, avg(v) AS a FROM STREAM ev GROUP BY k")
        .add("ev", &rows(&[("a", 1, 0), ("b", 2, 0), ("a", 5, 0)]))
        .process()
        .check("out", &["a 2 5 1 3.0", "b 1 2 2 2.0"])
        .add("ev", &rows(&[("a", 0, 0)]))
        .process()
        .check("out", &["a 2 5 1 3.0", "b 1 2 2 2.0", "a 3 5 0 2.0"]);
}

#[test]
fn complete_mode_gives_the_whole_table_sorted_and_limited() {
    complete("SELECT k, sum(v) AS total FROM STREAM ev GROUP BY k ORDER BY total DESC LIMIT 2")
        .add("ev", &rows(&[("a", 1, 0), ("b", 2, 0), ("c", 3, 0)]))
        .process()
        .check("out", &["b 2", "c 3"])
        .add("ev", &rows(&[("a", 9, 0)]))
        .process()
        .check("out", &["a 10", "c 3"]);
}

#[test]
fn a_query_without_groups_has_one() {
    update("SELECT count(*) AS n, sum(v) AS s FROM STREAM ev WHERE v > 10")
        .add("ev", &rows(&[("a", 1, 0)]))
        .process()
        .check("out", &["0 null"])
        .add("ev", &rows(&[("a", 11, 0)]))
        .process()
        .check("out", &["0 null", "1 11"]);
}

#[test]
fn approximate_and_filtered_functions_go_on_from_batch_to_batch() {
    update("SELECT k, approx_count_distinct(v) AS d, stddev_pop(v) AS s, count(*) FILTER (WHERE v > 1) AS big FROM STREAM ev GROUP BY k")
        .add("ev", &rows(&[("a", 1, 0), ("a", 1, 0), ("a", 4, 0)]))
        .process()
        .add("ev", &rows(&[("a", 4, 0)]))
        .process()
        .check("out", &["a 2 1.4142135623730951 1", "a 2 1.5 2"]);
}

#[test]
fn results_do_not_depend_on_threads_or_memory() {
    let input: Vec<String> = (0..40)
        .map(|batch: i64| {
            (0..50)
                .map(|n: i64| {
                    row(&format!("k{}", (batch * 7 + n * 13) % 97), n, u32::try_from(batch * 20 + n).unwrap()) + "\n"
                })
                .collect()
        })
        .collect();
    let run = |parallelism: usize, memory: usize| {
        let mut script = flow(
            "SELECT window.start AS w, k, count(*) AS n, sum(v) AS s, max(k) AS m, stddev(v) AS d FROM STREAM ev
             WATERMARK ts DELAY OF INTERVAL 5 SECONDS GROUP BY window(ts, '1 minute', '30 seconds'), k",
        );
        for (step, batch) in input.iter().enumerate() {
            script.settings.query.parallelism = if step % 2 == 0 { parallelism } else { 1 };
            script.settings.query.state_memory_bytes = memory;
            script = script.add("ev", batch);
            if step % 7 == 0 {
                script = script.process();
            }
        }
        script.process().rows("out")
    };
    let expected = run(1, 1 << 30);
    assert!(expected.len() > 1000, "{}", expected.len());
    assert_eq!(run(3, 1 << 30), expected, "three threads");
    assert_eq!(run(2, 1), expected, "no memory at all");
}

#[test]
fn update_mode_survives_groups_on_disk() {
    let mut script = update("SELECT k, sum(v) AS s FROM STREAM ev GROUP BY k");
    script.settings.query.state_memory_bytes = 1;
    script
        .add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)]))
        .process()
        .add("ev", &rows(&[("a", 10, 0)]))
        .process()
        .check("out", &["a 1", "b 2", "a 11"]);
}

/// Snapshots that write a table as a whole, and drop what it was, keep each group's newest state, through restarts too.
#[test]
fn groups_that_are_written_again_as_a_whole_are_all_there() {
    let mut script = update(
        "SELECT k, sum(v) AS s FROM (SELECT explode(sequence(1, CAST(k AS INT))) AS k, v FROM STREAM ev) GROUP BY k",
    );
    script.settings.query.parallelism = 2;
    script.settings.query.state.snapshot_every_batches = 1;
    script.settings.query.state.snapshot_min_bytes = 0;
    let batches = [("80000", 1), ("80000", 10), ("60000", 100)];
    let script = batches.iter().fold(script, |script, (keys, v)| script.add("ev", &rows(&[(*keys, *v, 0)])));
    let script = script.process().add("ev", &rows(&[("80000", 1000, 0)])).process();
    let script = script.add("ev", &rows(&[("80000", 10_000, 0)])).process();
    let mut last = script.rows_as_written("out").split_off(80_000 * 3 + 60_000);
    let mut expected: Vec<String> =
        (1..=80_000).map(|k| format!("{k} {}", if k <= 60_000 { 11_111 } else { 11_011 })).collect();
    last.sort_unstable();
    expected.sort_unstable();
    assert!(last == expected, "{} rows, {:?} ...", last.len(), &last[..3]);
}

#[test]
fn a_static_table_is_joined_as_it_is_in_each_batch() {
    StreamScript::new(&format!(
        "{EVENTS} CREATE TABLE names (id STRING, name STRING) USING test;
         CREATE FLOW f AS INSERT INTO out SELECT e.k, n.name FROM STREAM ev e LEFT JOIN names n ON e.k = n.id"
    ))
    .add("names", r#"{"id": "a", "name": "Anna"}"#)
    .add("ev", &rows(&[("a", 1, 0), ("b", 1, 0)]))
    .process()
    .check("out", &["a Anna", "b null"])
    .add("names", r#"{"id": "b", "name": "Bert"}"#)
    .add("ev", &rows(&[("b", 1, 0)]))
    .process()
    .check("out", &["a Anna", "b null", "b Bert"]);
}

#[test]
fn streams_can_be_united_and_named() {
    StreamScript::new(&format!(
        "{EVENTS} CREATE TEMPORARY VIEW big AS SELECT k, v FROM STREAM ev WHERE v >= 10;
         CREATE FLOW f AS INSERT INTO out SELECT k FROM STREAM big UNION ALL SELECT k FROM STREAM ev WHERE v < 3"
    ))
    .add("ev", &rows(&[("a", 1, 0), ("b", 5, 0), ("c", 10, 0)]))
    .process()
    .check("out", &["a", "c"]);
}

#[test]
fn a_chain_of_tables_is_run_to_its_end() {
    StreamScript::new(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test;
         CREATE FLOW f AS INSERT INTO out SELECT k FROM STREAM ev;
         CREATE FLOW g AS INSERT INTO out BY NAME SELECT v AS n, upper(k) AS k FROM STREAM ev;
         CREATE STREAMING TABLE out (k STRING, n BIGINT) USING test;"
            .replace("SELECT k FROM", "SELECT k, 0 FROM")
            .as_str(),
    )
    .add("ev", &rows(&[("a", 7, 0)]))
    .process()
    .check("out", &["a 0", "A 7"]);
}

#[test]
fn partitions_with_a_backlog_hold_the_watermark() {
    let script = flow("SELECT window.start AS w, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP BY window(ts, '10 seconds')")
        .add_to("ev", "0", &rows(&[("a", 1, 5), ("a", 1, 300)]))
        .add_to("ev", "0", &rows(&[("a", 1, 310)]))
        .add_to("ev", "1", &rows(&[("b", 1, 6)]))
        .add_to("ev", "1", &rows(&[("b", 1, 305)]))
        .process();
    // Partition 1 was read after partition 0 and yet nothing of it is late.
    script.check("out", &["00:00:00 2", "00:05:00 2"]);
}

#[test]
fn time_moves_results_only_through_the_watermark() {
    flow("SELECT window.start AS w, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS GROUP BY window(ts, '10 seconds')")
        .add("ev", &rows(&[("a", 1, 5)]))
        .process()
        .advance(Duration::from_secs(3600))
        .process()
        .check("out", &[]);
}

/// Line, column and message, then the help.
fn check_refusal(sql: &str, expected: &str) {
    let found = StreamScript::refusal(&format!("{EVENTS}{sql}")).unwrap_or_else(|| "accepted".to_owned());
    assert_eq!(found, expected, "{sql}");
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_a_way_out() {
    check_refusal(
        "CREATE STREAMING TABLE t AS SELECT k, v, k FROM STREAM ev",
        "3:36: two columns of a select list are called 'k'; help: give one of them another name with AS: tables know their \
         columns by name",
    );
    check_refusal(
        "CREATE STREAMING TABLE t AS SELECT a.*, b.* FROM STREAM ev AS a JOIN STREAM ev AS b ON a.k = b.k",
        "3:1: the query of 't' gives two columns 'k', and tables know their columns by name; help: select the columns one by \
         one, one of the two with another name: SELECT a.k, b.k AS other_k",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT amuont, vv FROM STREAM ev",
        "3:41: column 'amuont' cannot be resolved; help: there are: k, v, ts",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k FROM STREAM evv",
        "3:55: table or view 'evv' is not defined; help: did you mean 'ev'?",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO outt SELECT k FROM STREAM ev",
        "3:30: flow 'f' writes to 'outt', which is not defined; help: did you mean 'out'?",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k FROM STREAM ev WATERMRK ts DELAY OF INTERVAL 1 SECOND",
        "3:67: expected the end of the query, found 'ts'",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k, count(*) FROM STREAM ev GROUP BY k",
        "append output mode is not possible for a GROUP BY without a watermark on its window or event time: no group is \
         ever final; help: add a watermark (FROM STREAM t WATERMARK ts DELAY OF INTERVAL 10 SECONDS, GROUP BY \
         window(ts, ...)), or use output mode update or complete",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k FROM STREAM ev WATERMARK k DELAY OF INTERVAL 1 SECOND",
        "3:68: the event time 'k' is STRING, expected TIMESTAMP; help: convert it, for example WATERMARK \
         to_timestamp(text) AS event_time DELAY OF ...",
    );
    check_refusal("CREAT TABLE t", "3:1: expected a statement, found 'CREAT'; help: did you mean CREATE?");
    check_refusal(
        "CREATE TABLE t (a INT) USNG json",
        "3:24: expected one of USING, OPTIONS, TBLPROPERTIES, PARTITIONED, LOCATION, COMMENT, AS, FLOW, found 'USNG'; \
         help: did you mean USING?",
    );
    check_refusal(
        "CREATE TABLE t (a INT) USING tst",
        "there is no connector for USING tst; help: did you mean 'test'?",
    );
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k FROM ev",
        "3:30: flow 'f' reads no stream; help: read a table with STREAM: FROM STREAM t; or make the target a MATERIALIZED VIEW",
    );
}

#[test]
fn a_checkpoint_of_another_query_is_refused() {
    let mut script =
        update("SELECT k, count(*) AS n FROM STREAM ev GROUP BY k").add("ev", &rows(&[("a", 1, 0)])).process();
    script = script.change(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test;
         CREATE SINK out USING test OPTIONS (outputMode 'update');
         CREATE FLOW f AS INSERT INTO out SELECT v, count(*) AS n FROM STREAM ev GROUP BY v",
    );
    script.process_fails("does not fit: key k STRING is v BIGINT now, which is not wider");
}

#[test]
fn a_flow_may_choose_its_output_mode() {
    let mut script = flow("SELECT k, v FROM STREAM ev");
    script.settings.flows.entry("f".to_owned()).or_default().output_mode = Some(OutputMode::Update);
    script.add("ev", &rows(&[("a", 1, 0)])).process().check("out", &["a 1"]);
}

#[test]
fn the_current_time_is_that_of_the_batch() {
    // The clock of the script begins at 2023-11-14T22:13:20Z.
    flow("SELECT k, now() AS n, current_timestamp() AS t, CAST(current_date() AS STRING) AS d FROM STREAM ev WHERE ts < now()")
        .add("ev", &rows(&[("late", 1, 0)]).replace("2024", "2023"))
        .add("ev", &rows(&[("early", 1, 0)]))
        .process()
        .check("out", &["late 22:13:20 22:13:20 2023-11-14"])
        .advance(Duration::from_secs(2 * 3600))
        .add("ev", &rows(&[("later", 1, 0)]).replace("2024", "2023"))
        .process()
        .check("out", &["late 22:13:20 22:13:20 2023-11-14", "later 00:13:20 00:13:20 2023-11-15"]);
}

#[test]
fn the_whole_result_is_computed_at_the_time_of_its_batch() {
    complete("SELECT k, count(*) AS n, current_timestamp() AS t FROM STREAM ev GROUP BY k ORDER BY k")
        .add("ev", &rows(&[("a", 1, 0)]))
        .process()
        .check("out", &["a 1 22:13:20"])
        .advance(Duration::from_secs(60))
        .add("ev", &rows(&[("a", 1, 0)]))
        .process()
        .check("out", &["a 2 22:14:20"]);
}

#[test]
fn a_batch_that_is_run_again_has_the_time_it_had() {
    let sql = |value: &str| {
        format!(
            "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test; CREATE SINK out USING test;
             CREATE FLOW f AS INSERT INTO out SELECT k, {value} AS x, current_timestamp() AS t FROM STREAM ev"
        )
    };
    let mut script = StreamScript::new(&sql("1 / v")).add("ev", &rows(&[("a", 0, 0)]));
    script = script.process_fails("DIVIDE_BY_ZERO").advance(Duration::from_secs(3600));
    script
        .change(&sql("v"))
        .process()
        .check("out", &["a 0 22:13:20"])
        .add("ev", &rows(&[("b", 1, 0)]))
        .process()
        .check("out", &["a 0 22:13:20", "b 1 23:13:20"]);
}

const DOUBLES: &str = "CREATE TABLE ev (k STRING, d DOUBLE) USING test;
CREATE TABLE names (x DOUBLE, name STRING) USING test;
CREATE SINK out USING test OPTIONS (outputMode 'update');
";

/// Spark 4.3: one group `0.0` and one `NaN`.
#[test]
fn zeros_of_either_sign_and_all_nans_are_one_key_each() {
    for (key, shown) in [("d", "{}"), ("array(d)", "[{}]"), ("named_struct('x', d)", "{x: {}}")] {
        let value = "CASE WHEN k = 'n' THEN CAST('NaN' AS DOUBLE) WHEN k = 'm' THEN -CAST('NaN' AS DOUBLE) ELSE d END";
        let query = format!(
            "SELECT key, count(*) AS n FROM (SELECT {key} AS key FROM (SELECT k, {value} AS d FROM STREAM ev)) GROUP BY key"
        );
        StreamScript::new(&format!("{DOUBLES} CREATE FLOW f AS INSERT INTO out {query}"))
            .add(
                "ev",
                "{\"k\":\"z\",\"d\":0.0}\n{\"k\":\"z\",\"d\":-0.0}\n{\"k\":\"n\",\"d\":1.0}\n{\"k\":\"m\",\"d\":1.0}",
            )
            .process()
            .check("out", &[&format!("{} 2", shown.replace("{}", "0.0")), &format!("{} 2", shown.replace("{}", "NaN"))])
            .add("ev", "{\"k\":\"z\",\"d\":-0.0}")
            .process()
            .check(
                "out",
                &[
                    &format!("{} 2", shown.replace("{}", "0.0")),
                    &format!("{} 2", shown.replace("{}", "NaN")),
                    &format!("{} 3", shown.replace("{}", "0.0")),
                ],
            );
    }
}

#[test]
fn zeros_of_either_sign_and_all_nans_join() {
    StreamScript::new(&format!(
        "{DOUBLES} CREATE FLOW f AS INSERT INTO out SELECT e.k, n.name FROM
         (SELECT k, CASE WHEN k = 'n' THEN -CAST('NaN' AS DOUBLE) ELSE d END AS d FROM STREAM ev) e
         JOIN (SELECT CASE WHEN name = 'nan' THEN CAST('NaN' AS DOUBLE) ELSE x END AS x, name FROM names) n ON e.d = n.x"
    ))
    .add("names", "{\"x\":0.0,\"name\":\"zero\"}\n{\"x\":1.0,\"name\":\"nan\"}")
    .add("ev", "{\"k\":\"z\",\"d\":-0.0}\n{\"k\":\"n\",\"d\":2.0}")
    .process()
    .check("out", &["n nan", "z zero"]);
}

#[test]
fn a_sum_that_overflows_ends_the_query() {
    let overflow = "[ARITHMETIC_OVERFLOW] sum overflows BIGINT; use try_sum to get NULL";
    for memory in [1 << 30, 1] {
        let mut script = update("SELECT k, sum(v) AS s FROM STREAM ev GROUP BY k");
        script.settings.query.state_memory_bytes = memory;
        let mut script = script
            .add("ev", &rows(&[("a", i64::MAX, 0), ("b", i64::MIN, 0)]))
            .process()
            .check("out", &["a 9223372036854775807", "b -9223372036854775808"])
            .add("ev", &rows(&[("a", 1, 0)]));
        // Starting again changes nothing: the batch is the same.
        script = script.process_fails(overflow).process_fails(overflow);
        script.check("out", &["a 9223372036854775807", "b -9223372036854775808"]);
    }
    update("SELECT k, try_sum(v) AS s FROM STREAM ev GROUP BY k")
        .add("ev", &rows(&[("a", i64::MAX, 0), ("b", 1, 0)]))
        .process()
        .add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)]))
        .process()
        .check("out", &["a 9223372036854775807", "a null", "b 1", "b 3"]);
    let smaller = "SELECT CAST(sum(CAST(v AS INT)) AS STRING) AS s FROM STREAM ev";
    update(smaller).add("ev", &rows(&[("a", 2_147_483_647, 0), ("a", 1, 0)])).process().check("out", &["2147483648"]);
}
