//! State of queries that get wider types, other functions or other columns between two starts: each part of it is kept.

use std::sync::Arc;

use super::{kept, kept_since, rows};
use crate::checkpoint::RemoteSettings;
use crate::testing::{Fault, FaultyStore, StreamScript};

fn sql(mode: &str, query: &str) -> String {
    format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE TABLE other (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test OPTIONS (outputMode '{mode}'); CREATE FLOW f AS INSERT INTO out {query}"
    )
}

/// A query with its rows, and then the changed one, with what dry-run says of the change.
struct Change<'a> {
    mode: &'a str,
    before: &'a str,
    rows: &'a [(&'a str, i64, u32)],
    after: &'a str,
    then: &'a [(&'a str, i64, u32)],
    outlook: &'a str,
    /// All rows that came out.
    out: &'a [&'a str],
}

/// Runs the change in memory and from disk, with another number of workers after it, and once more after a restart.
fn check(change: &Change<'_>) {
    for memory in [1, 1 << 28] {
        let Change { mode, before, after, .. } = change;
        let mut script = StreamScript::new(&sql(mode, before));
        script.settings.query.state_memory_bytes = memory;
        script.settings.query.state.snapshot_every_batches = 1;
        let mut script = script.add("ev", &rows(change.rows)).process().change(&sql(mode, after));
        assert_eq!(script.outlook("f")[1..], [change.outlook], "{after}");
        script.settings.query.parallelism = 3;
        let script = script.add("ev", &rows(change.then)).process();
        let script = script.check("out", change.out);
        assert!(script.outlook("f")[1].ends_with("Kept"), "{after}");
    }
}

#[test]
fn functions_come_and_go_and_the_others_keep_their_state() {
    let (before, then) = (&[("a", 1, 0), ("b", 2, 0)][..], &[("a", 5, 0), ("c", 7, 0)][..]);
    check(&Change {
        mode: "update",
        before: "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k",
        rows: before,
        after: "SELECT k, sum(v) AS s, count(*) AS n FROM STREAM ev GROUP BY k",
        then,
        outlook: "aggregate-0 Migrated sum(v) begins with batch 1; count(1) keeps its state",
        out: &["a 1", "a 5 2", "b 1", "c 7 1"],
    });
    check(&Change {
        mode: "complete",
        before: "SELECT k, count(*) AS n, max(v) AS m FROM STREAM ev GROUP BY k",
        rows: before,
        after: "SELECT k, max(v) AS m, count(DISTINCT v) AS d FROM STREAM ev GROUP BY k",
        then,
        outlook: "aggregate-0 Migrated max(v) keeps its state; count(DISTINCT v) begins with batch 1; count(1) is dropped",
        out: &["a 5 1", "b 2 0", "c 7 1"],
    });
    // Nothing but the keys is left.
    check(&Change {
        mode: "update",
        before: "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k",
        rows: before,
        after: "SELECT k FROM STREAM ev GROUP BY k",
        then,
        outlook: "aggregate-0 Migrated count(1) is dropped",
        out: &["a", "a 1", "b 1", "c"],
    });
}

#[test]
fn functions_are_found_by_what_they_are() {
    let before = "SELECT k, sum(v) AS a, sum(v * 10) AS b, count(*) AS n FROM STREAM ev GROUP BY k";
    let script = StreamScript::new(&sql("update", before)).add("ev", &rows(&[("a", 1, 0)])).process();
    let turned = "SELECT k, count(*) AS n, sum(v * 10) AS b, sum(v) AS a FROM STREAM ev GROUP BY k";
    let script = script.change(&sql("update", turned)).add("ev", &rows(&[("a", 2, 0)])).process();
    script.check("out", &["a 1 10 1", "a 2 30 3"]);
}

#[test]
fn wider_types_are_the_same_values() {
    check(&Change {
        mode: "update",
        before: "SELECT CAST(v AS INT) AS v, k, count(CAST(v AS INT)) AS n, min(CAST(v AS SMALLINT)) AS m, avg(CAST(v AS DECIMAL(8,1))) AS mean \
                 FROM STREAM ev GROUP BY CAST(v AS INT), k",
        rows: &[("a", 5, 0), ("b", -1, 0)],
        after: "SELECT v, k, count(v) AS n, min(v) AS m, avg(CAST(v AS DECIMAL(18,2))) AS mean \
                FROM STREAM ev GROUP BY v, k",
        then: &[("a", 5, 0), ("a", 5_000_000_000, 0), ("b", -1, 0), ("b", -5_000_000_000, 0), ("a", 5_000_000_000, 0)],
        outlook: "aggregate-0 Migrated key v INT to BIGINT; count(cast(v, 'INT')) goes on as count(v); min(cast(v, 'SMALLINT')) goes on as min(v); \
                  avg(cast(v, 'DECIMAL(8,1)')) goes on as avg(cast(v, 'DECIMAL(18,2)')); min(v) SMALLINT to BIGINT; \
                  avg(cast(v, 'DECIMAL(18,2)')) DECIMAL(8,1) to DECIMAL(18,2)",
        out: &[
            "-1 b 1 -1 -1.00000",
            "-1 b 2 -1 -1.000000",
            "-5000000000 b 1 -5000000000 -5000000000.000000",
            "5 a 1 5 5.00000",
            "5 a 2 5 5.000000",
            "5000000000 a 2 5000000000 5000000000.000000",
        ],
    });
}

#[test]
fn keys_of_distinct_rows_and_of_windows_widen() {
    check(&Change {
        mode: "append",
        before: "SELECT DISTINCT CAST(v AS INT) AS v FROM STREAM ev",
        rows: &[("a", 5, 0), ("b", 6, 0)],
        after: "SELECT DISTINCT v FROM STREAM ev",
        then: &[("a", 5, 0), ("a", 5_000_000_000, 0), ("b", 7, 0), ("a", 5_000_000_000, 0)],
        outlook: "distinct-0 Migrated key v INT to BIGINT",
        out: &["5", "5000000000", "6", "7"],
    });
    let windows = |key: &str, function: &str| {
        format!(
            "SELECT window.start AS w, {key} AS v, {function} AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS \
             GROUP BY window(ts, '10 seconds'), {key}"
        )
    };
    check(&Change {
        mode: "append",
        before: &windows("CAST(v AS INT)", "count(*)"),
        rows: &[("a", 1, 1), ("a", 2, 2), ("a", 1, 12)],
        after: &windows("v", "count(*)"),
        then: &[("a", 1, 13), ("a", 1 << 40, 14), ("a", 1, 31)],
        outlook: "aggregate-0 Migrated key v INT to BIGINT",
        out: &["00:00:00 1 1", "00:00:00 2 1", "00:00:10 1 2", "00:00:10 1099511627776 1"],
    });
}

#[test]
fn sessions_get_functions() {
    let query = |functions: &str| {
        format!(
            "SELECT session_window.start AS s, k, {functions} FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS \
             GROUP BY session_window(ts, '10 seconds'), k"
        )
    };
    check(&Change {
        mode: "append",
        before: &query("count(*) AS n"),
        rows: &[("a", 1, 0), ("b", 2, 1)],
        after: &query("count(*) AS n, collect_list(v) AS vs"),
        then: &[("a", 3, 5), ("z", 0, 60), ("z", 0, 61)],
        outlook: "session-0 Migrated count(1) keeps its state; collect_list(v) begins with batch 2",
        out: &["00:00:00 a 2 [3]", "00:00:01 b 1 []"],
    });
}

#[test]
fn rows_of_a_join_have_null_where_they_have_no_column() {
    for memory in [1, 1 << 28] {
        let join = |columns: &str| {
            sql("append", &format!("SELECT a.k, {columns} FROM STREAM ev AS a JOIN STREAM other AS b ON a.k = b.k"))
        };
        let mut script = StreamScript::new(&join("CAST(b.v AS STRING) AS w"));
        script.settings.query.state_memory_bytes = memory;
        let script =
            script.add("ev", &rows(&[("x", 1, 1), ("y", 2, 2)])).process().change(&join("a.v, b.v AS w, b.ts"));
        let told = "join-0 Migrated column v is NULL in rows from before batch 1; column ts is NULL in rows from before batch 1";
        assert_eq!(script.outlook("f")[1..], [told]);
        let script = script.add("other", &rows(&[("x", 10, 5), ("y", 20, 6)])).process();
        let script = script.check("out", &["x null 10 00:00:05", "y null 20 00:00:06"]);
        let mut script = script.add("ev", &rows(&[("x", 3, 0)])).process();
        script.settings.query.parallelism = 1;
        // A column less: the others stay what they were.
        let script = script.change(&join("b.ts, a.v")).add("other", &rows(&[("x", 30, 7)])).process();
        let first = ["x null 10 00:00:05", "y null 20 00:00:06", "x 3 10 00:00:05"];
        script.check("out", &[&first[..], &["x 00:00:07 null", "x 00:00:07 3"]].concat());
    }
}

#[test]
fn rows_that_wait_for_their_partition_have_null_where_they_have_no_column() {
    let over = |columns: &str| {
        let from = "FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS";
        format!("SELECT {columns}, sum(v) OVER (PARTITION BY ts) AS s {from}")
    };
    check(&Change {
        mode: "append",
        before: &over("v"),
        rows: &[("a", 1, 5), ("b", 2, 5)],
        after: &over("k, v"),
        then: &[("c", 4, 9), ("z", 0, 20)],
        outlook: "over-0 Migrated column k is NULL in rows from before batch 2",
        out: &["c 4 4", "null 1 3", "null 2 3"],
    });
}

#[test]
fn state_is_read_in_the_columns_of_now_at_any_batch() {
    let script = StreamScript::new(&sql("update", "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k"));
    let script = script.add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)])).process();
    let after = "SELECT k, sum(v) AS s, count(*) AS n FROM STREAM ev GROUP BY k";
    let script = script.change(&sql("update", after)).add("ev", &rows(&[("a", 5, 0)])).process();
    let read =
        |batch: &str| script.select(&format!("SELECT k, `sum(v)`, `count(1)` FROM state('f', '0'{batch})")).unwrap();
    assert_eq!(read(""), ["a 5 2", "b null 1"]);
    assert_eq!(read(", 0"), ["a null 1", "b null 1"]);
}

#[test]
fn what_cannot_be_told_is_refused_with_the_reason() {
    let refused = |mode: &str, before: &str, after: &str, why: &str| {
        let script = StreamScript::new(&sql(mode, before)).add("ev", &rows(&[("a", 1, 0)])).process();
        let script = script.change(&sql(mode, after));
        assert!(script.outlook("f")[2].ends_with(why), "{:?}", script.outlook("f"));
        script.process_fails(why).change(&sql(mode, before)).add("ev", &rows(&[("a", 1, 0)])).process();
    };
    refused(
        "update",
        "SELECT k, v, count(*) AS n FROM STREAM ev GROUP BY k, v",
        "SELECT v, k, count(*) AS n FROM STREAM ev GROUP BY v, k",
        "does not fit: its keys k, v are in another order, v, k",
    );
    refused(
        "update",
        "SELECT k, sum(v) AS a FROM STREAM ev GROUP BY k",
        "SELECT k, sum(v + 1) AS a, sum(v + 2) AS b FROM STREAM ev GROUP BY k",
        "cannot be told: change them one after the other",
    );
    refused(
        "update",
        "SELECT k, min(v) AS a FROM STREAM ev GROUP BY k",
        "SELECT k, min(CAST(v AS INT)) AS a FROM STREAM ev GROUP BY k",
        "min(cast(v, 'INT')) was of BIGINT and is of INT, which is not wider",
    );
    refused(
        "update",
        "SELECT k, approx_count_distinct(CAST(v AS INT)) AS a FROM STREAM ev GROUP BY k",
        "SELECT k, approx_count_distinct(v) AS a FROM STREAM ev GROUP BY k",
        "and its state cannot be cast",
    );
}

/// Says of a change whether it is refused, and sees that the query as it was goes on then.
fn check_keys(mode: &str, (before, after): (&str, &str), why: Option<&str>) {
    let script = StreamScript::new(&sql(mode, before)).add("ev", &rows(&[("a", 1, 0)])).process();
    let script = script.change(&sql(mode, after));
    let outlook = script.outlook("f").join("\n");
    match why {
        Some(why) => {
            assert!(outlook.contains(why), "{after}: {outlook}");
            script.process_fails(why).change(&sql(mode, before)).add("ev", &rows(&[("b", 1, 0)])).process();
        }
        None => drop(script.add("ev", &rows(&[("b", 1, 0)])).process()),
    }
}

/// Equal names and types are not enough: a group would go on as another one.
#[test]
fn keys_are_made_of_what_they_were_made_of() {
    let check = |before: &str, after: &str, why: Option<&str>| check_keys("append", (before, after), why);
    let counts = |key: &str, rest: &str| {
        format!(
            "SELECT k, w.start AS at, n FROM (SELECT {key} AS k, window(ts, '1 minute') AS w, count(*) AS n FROM STREAM ev \
             WATERMARK ts DELAY OF INTERVAL 1 SECOND {rest} GROUP BY {key}, window(ts, '1 minute'))"
        )
    };
    let other = "it goes by ";
    check(&counts("k", ""), &counts("upper(k)", ""), Some("it goes by upper(k) of ev, and went by k of ev"));
    check(&counts("v % 10", ""), &counts("v % 100", ""), Some(other));
    check(&counts("upper(k)", ""), &counts("upper(k)", "WHERE v > 0"), None);
    check(&counts("v", ""), &counts("v", "WHERE k <> 'z'"), None);
    check(&counts("concat(k, 'v')", ""), &counts("concat(k, v)", ""), Some(other));
    check(&counts("CAST(CAST(v / 2 AS INT) AS DOUBLE)", ""), &counts("v / 2", ""), Some(other));
    check(&counts("hour(ts)", ""), &counts("hour(ts)", "WHERE v > 0"), None);
    let distinct = |key: &str| format!("SELECT DISTINCT {key} AS k FROM STREAM ev");
    check(&distinct("k"), &distinct("concat(k, k)"), Some(other));
    let first = |key: &str| {
        format!(
            "SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY {key}, window(ts, '1 minute') ORDER BY v) AS rn FROM \
             STREAM ev WATERMARK ts DELAY OF INTERVAL 1 SECOND) WHERE rn <= 2"
        )
    };
    check(&first("k"), &first("upper(k)"), Some("the state of operator 'top-0' does not fit"));
    let joined =
        |a: &str, b: &str| format!("SELECT a.k AS x, b.k AS y FROM STREAM ev AS a JOIN STREAM other AS b ON {a} = {b}");
    check(&joined("a.k", "b.k"), &joined("upper(a.k)", "b.k"), Some(other));
    let both = |a: &str, b: &str| {
        format!("SELECT DISTINCT k FROM (SELECT {a} AS k FROM STREAM ev UNION ALL SELECT {b} AS k FROM STREAM other)")
    };
    check(&both("k", "k"), &both("upper(k)", "k"), Some(other));
    let sessions = |of: &str| {
        format!(
            "SELECT k, s.start AS at, n FROM (SELECT k, session_window({of}) AS s, count(*) AS n FROM STREAM ev \
             WATERMARK ts DELAY OF INTERVAL 1 SECOND GROUP BY k, session_window({of}))"
        )
    };
    check(&sessions("ts, '5 minutes'"), &sessions("ts, '10 minutes'"), None);
}

/// Through everything that passes columns on.
#[test]
fn keys_are_followed_to_where_they_come_from() {
    let check = |before: &str, after: &str, why: Option<&str>| check_keys("update", (before, after), why);
    let other = Some("it goes by ");
    let grouped = |by: &str| format!("SELECT count(*) AS n, max(v) AS m FROM STREAM ev GROUP BY {by}");
    check(&grouped("ROLLUP(k)"), &grouped("ROLLUP(upper(k))"), other);
    check(&grouped("ROLLUP(k, v)"), &grouped("CUBE(k, v)"), other);
    check(&grouped("ROLLUP(k, v)"), &format!("{} HAVING count(*) > 1", grouped("ROLLUP(k, v)")), None);
    let tags =
        |of: &str| format!("SELECT tag, count(*) AS n FROM (SELECT explode({of}) AS tag FROM STREAM ev) GROUP BY tag");
    check(&tags("array(k, 'x')"), &tags("array(k, 'y')"), other);
    check(&tags("array(k)"), &tags("array(k)").replace("count(*)", "count(tag)"), None);
    let looked_up = |key: &str| {
        format!(
            "SELECT k, count(*) AS n FROM (SELECT {key} AS k, v AS id FROM STREAM ev) AS e JOIN \
             (SELECT 1 AS id) AS dim ON e.id = dim.id GROUP BY k"
        )
    };
    check(&looked_up("upper(k)"), &looked_up("lower(k)"), other);
    // What is computed from itself over and over is no endless text.
    let levels = (0..10).fold("SELECT k, v AS x FROM STREAM ev".to_owned(), |inner, _| {
        format!("SELECT k, x % 1000 + x % 1000 AS x FROM ({inner})")
    });
    let deep = |inner: &str| format!("SELECT x, count(*) AS n FROM ({inner}) GROUP BY x");
    check(&deep(&levels), &deep(&levels), None);
    check(&deep(&levels), &deep(&levels.replace("v AS x", "v + 1 AS x")), other);
}

/// The rebuild itself says what the keys are made of: the file of the metadata may be older.
#[test]
fn keys_are_known_after_a_rebuild() {
    let counts = |key: &str| sql("update", &format!("SELECT {key} AS k, count(*) AS n FROM STREAM ev GROUP BY {key}"));
    let mut script = StreamScript::new(&counts("k")).add("ev", &rows(&[("a", 1, 0)])).process();
    script = script.change(&counts("upper(k)"));
    script.settings.changes.rebuild.insert("f".to_owned());
    script = script.process();
    script.settings.changes.rebuild.clear();
    script = script.change(&counts("lower(k)"));
    let why = "it goes by lower(k) of ev, and went by upper(k) of ev";
    assert!(script.outlook("f").join("\n").contains(why), "{:?}", script.outlook("f"));
    script.process_fails(why);
}

/// Rows are kept by columns, and by what decides which of them are the last.
#[test]
fn kept_rows_are_of_the_same_columns() {
    let first = |column: &str| {
        format!(
            "SELECT k, rn, {column} FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM \
             (SELECT k, ts, v, length(k) + v AS w FROM STREAM ev)) WHERE rn <= 2"
        )
    };
    check_keys("update", (&first("v"), &first("w")), Some("its keys, functions or types are others"));
    let follow = |sequence: &str| {
        format!(
            "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test; CREATE STREAMING TABLE f \
             FLOW AUTO CDC FROM STREAM ev KEYS (k) SEQUENCE BY {sequence}"
        )
    };
    let script = StreamScript::new(&follow("v")).add("ev", &rows(&[("a", 1, 0)])).process();
    let script = script.change(&follow("-v"));
    script.process_fails("it goes by negative(v) of ev, and went by v of ev");
}

/// A day is another one elsewhere, a window of time is not.
#[test]
fn keys_go_by_the_time_zone_they_went_by() {
    let moved = |key: &str| {
        let query = sql("update", &format!("SELECT {key} AS k, count(*) AS n FROM STREAM ev GROUP BY {key}"));
        let mut script = StreamScript::new(&query).add("ev", &rows(&[("a", 1, 0)])).process();
        script.settings.configuration.insert("spark.sql.session.timeZone".to_owned(), "Asia/Tokyo".to_owned());
        script.add("ev", &rows(&[("a", 1, 0)]))
    };
    moved("k").process();
    moved("window(ts, '1 day')").process();
    moved("to_date(ts)")
        .process_fails("it goes by to_date(ts, in Asia/Tokyo) of ev, and went by to_date(ts, in UTC) of ev");
}

/// A row is taken back with the values it was given with, or the group above is wrong for ever.
#[test]
fn what_rows_are_taken_back_by_is_not_changed() {
    const NEWEST: &str = "SELECT k, v, ts FROM (
        SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM STREAM ev) WHERE rn <= 2";
    const COUNTS: &str = "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k";
    let first = [("a", 1, 0), ("a", 9, 1), ("a", 2, 2), ("b", 5, 0), ("c", 1, 0), ("c", 2, 1), ("c", 3, 2)];
    let then = [("a", 7, 3), ("b", 1, 3), ("b", 2, 4), ("d", 1, 0)];
    let refused = |before: &str, after: &str, why: &str| {
        let before = sql("update", &before.replace("{newest}", NEWEST).replace("{counts}", COUNTS));
        let after = sql("update", &after.replace("{newest}", NEWEST).replace("{counts}", COUNTS));
        let script = StreamScript::new(&before).add("ev", &rows(&first)).process().change(&after);
        let outlook = script.outlook("f");
        assert!(outlook.last().unwrap().contains(why), "{after}: {outlook:?}");
        let mut script = script.process_fails(why);
        let pieces = script.written("out").len();
        script.settings.changes.rebuild.insert("f".to_owned());
        let script = script.add("ev", &rows(&then)).process();
        let anew = StreamScript::new(&after).add("ev", &rows(&first)).process().add("ev", &rows(&then)).process();
        assert_eq!(kept_since(&script, "out", pieces), kept(&anew, "out"), "{after}");
    };
    let means = "SELECT k, count(v) AS n FROM ({newest}) GROUP BY k";
    let sizes = "SELECT n, count(*) AS keys FROM ({counts}) GROUP BY n";
    // Groups that could not go and can now.
    refused(means, "SELECT k, count(v) AS n FROM ({newest}) WHERE v < 3 GROUP BY k", "would be taken back by");
    // A condition between the two, wider and narrower.
    let of_large = |least: u32| sizes.replace("{counts}", &format!("{COUNTS} HAVING count(*) >= {least}"));
    refused(&of_large(3), &of_large(2), "would be taken back by");
    refused(&of_large(2), &of_large(3), "would be taken back by");
    // Another key of the same type, another argument, another filter of a function.
    refused(sizes, "SELECT n % 2 AS n, count(*) AS keys FROM ({counts}) GROUP BY n % 2", "would be taken back by");
    let sums = "SELECT k, sum(v) AS s FROM ({newest}) GROUP BY k";
    refused(sums, "SELECT k, sum(v * 2) AS s FROM ({newest}) GROUP BY k", "begin without the rows there are");
    let filtered = "SELECT k, sum(v) FILTER (WHERE v > 2) AS s FROM ({newest}) GROUP BY k";
    refused(sums, filtered, "begin without the rows there are");
    // A function more, and a GROUP BY more.
    refused(
        sums,
        "SELECT k, sum(v) AS s, count(*) AS n FROM ({newest}) GROUP BY k",
        "begin without the rows there are",
    );
    let numbered = "SELECT k, rn, v FROM (
        SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM STREAM ev) WHERE rn <= 2";
    refused(numbered, "SELECT k, count(*) AS n FROM ({newest}) GROUP BY k", "of 'top-0' that it was never given");
}

/// What lies below the operators, and what is left out, changes as everywhere else.
#[test]
fn what_rows_are_given_by_below_may_change() {
    let groups = |functions: &str, least: u32| {
        let counts = format!("SELECT k, count(*) AS n FROM STREAM ev WHERE v > {least} GROUP BY k");
        sql("update", &format!("SELECT n, {functions} FROM ({counts}) GROUP BY n"))
    };
    for memory in [1, 1 << 28] {
        let mut script = StreamScript::new(&groups("count(*) AS keys, sum(n) AS s", 1));
        script.settings.query.state_memory_bytes = memory;
        let script = script.add("ev", &rows(&[("a", 1, 0), ("a", 2, 1), ("b", 2, 0)])).process();
        assert_eq!(kept(&script, "out"), ["1 2 2"]);
        let (pieces, script) = (script.written("out").len(), script.change(&groups("count(*) AS keys", 0)));
        let outlook = script.outlook("f");
        let migrated = "aggregate-0 Migrated count(1) keeps its state; count(true) keeps its state; sum(n) is dropped";
        assert_eq!(outlook[1..], ["aggregate-1 Kept", migrated]);
        let script = script.add("ev", &rows(&[("a", 1, 0)])).process();
        assert_eq!(kept_since(&script, "out", pieces), ["1 1", "2 1"]);
    }
}

/// A process that ends at any call of the first start after a change leaves state that both queries go on with.
#[test]
fn a_change_that_is_cut_off_is_made_by_the_next_start() {
    const COUNT: &str = "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k";
    const COUNT_AND_SUM: &str = "SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k";
    let last = |script: &StreamScript| {
        let rows = script.rows_as_written("out");
        let of = |k: &str| rows.iter().rfind(|row| row.starts_with(k)).cloned().unwrap_or_default();
        [of("a"), of("b")]
    };
    let run = |fault: Option<(usize, Fault)>, goes_back: bool| {
        let objects = FaultyStore::default();
        let mut script = StreamScript::new(&sql("update", COUNT));
        script.settings.query.state.snapshot_every_batches = 2;
        script.settings.checkpoints.remote = RemoteSettings { request_timeout_ms: 200, ..RemoteSettings::default() };
        let script = script.checkpoints_in("memory://bucket/checkpoints", Arc::new(objects.clone()));
        let script = (0..3).fold(script, |script, n| script.add("ev", &rows(&[("a", n, 0), ("b", 1, 0)]))).process();
        let script = script.change(&sql("update", COUNT_AND_SUM));
        let script = (0..2).fold(script, |script, _| script.add("ev", &rows(&[("a", 10, 0)])));
        objects.heal();
        if let Some((call, fault)) = fault {
            objects.fail_at(call, fault);
        }
        let script = script.process_if_it_can();
        let calls = objects.heal();
        let query = if goes_back { COUNT } else { COUNT_AND_SUM };
        let script = script.change(&sql("update", query)).add("ev", &rows(&[("a", 100, 0), ("b", 3, 0)]));
        (last(&script.process().process()), calls)
    };
    let (expected, calls) = run(None, false);
    assert_eq!(expected, ["a 6 120", "b 4 3"]);
    assert!(calls > 15, "{calls}");
    // Each run takes a moment: over both faults every call but few has its turn, in turns with each of the queries.
    for (fault, first) in [(Fault::CutOff, 0), (Fault::CutOffAfter, 1)] {
        for call in (first..calls).step_by(3) {
            let goes_back = call % 2 == 1;
            let expected = if goes_back { ["a 6", "b 4"].map(str::to_owned) } else { expected.clone() };
            assert_eq!(run(Some((call, fault)), goes_back).0, expected, "{fault:?} at call {call}");
        }
    }
}
