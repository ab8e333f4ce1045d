//! State as tables: what operators keep, at a batch, after restarts, spilled or not.

use super::{complete, flow, rows, update, update_sql};
use crate::checkpoint::{CheckpointDir, Durability};
use crate::query::StateReader;
use crate::testing::StreamScript;

fn check(script: &StreamScript, sql: &str, expected: &[&str]) {
    assert_eq!(script.select(sql).unwrap(), expected, "{sql}");
}

#[test]
fn groups_are_read_at_any_batch_whatever_the_memory_and_the_workers() {
    for (memory, workers) in [(1, 3), (1 << 30, 1)] {
        let mut script = update("SELECT k, count(*) AS n, avg(v) AS mean FROM STREAM ev GROUP BY k");
        script.settings.query.state_memory_bytes = memory;
        script = script.add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)])).process();
        script.settings.query.parallelism = workers;
        let script = script.add("ev", &rows(&[("a", 2, 0), ("c", 5, 0)])).process();
        check(
            &script,
            "SELECT k, `count(1)`, `avg(v)`, _expiry FROM state('f', 'aggregate-0')",
            &["a 2 1.5 null", "b 1 2.0 null", "c 1 5.0 null"],
        );
        check(&script, "SELECT `count(1)`, k FROM state('f', 'aggregate-0', 0) AS s WHERE s.k = 'a'", &["1 a"]);
        check(&script, "SELECT count(*) FROM (SELECT * FROM state('f', '0') LIMIT 2)", &["2"]);
        check(
            &script,
            "SELECT operatorId, operator, operatorName, stateStoreName, numPartitions, minBatchId, maxBatchId, rows FROM state('f')",
            &["0 aggregate-0 stateStoreSave aggregate-0 256 0 1 3"],
        );
    }
}

#[test]
fn windows_say_when_they_go() {
    let script = update(
        "SELECT k, window(ts, '1 minute') AS w, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS
         GROUP BY k, window(ts, '1 minute')",
    )
    .add("ev", &rows(&[("a", 1, 5), ("a", 1, 65), ("b", 1, 69)]))
    .process();
    check(
        &script,
        "SELECT k, window.start, `count(1)`, _expiry FROM state('f', 'aggregate-0')",
        &["a 00:00:00 1 00:01:00", "a 00:01:00 1 00:02:00", "b 00:01:00 1 00:02:00"],
    );
    // The watermark passed the first window; another start finds the others.
    let script = script.add("ev", &rows(&[("c", 1, 80)])).process().add("ev", &rows(&[("c", 1, 81)])).process();
    check(&script, "SELECT k, `count(1)` FROM state('f', 'aggregate-0')", &["a 1", "b 1", "c 2"]);
    check(&script, "SELECT rows FROM state('f')", &["3"]);
}

#[test]
fn sessions_and_limits_are_read() {
    let script = flow(
        "SELECT k, session_window.end AS e, sum(v) AS s FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 1 MINUTE
         GROUP BY k, session_window(ts, '10 seconds')",
    )
    .add("ev", &rows(&[("a", 1, 0), ("a", 2, 5), ("a", 4, 30), ("b", 8, 0)]))
    .process();
    check(
        &script,
        "SELECT k, session_window.end, `sum(v)`, _expiry FROM state('f', 'session-0')",
        &["a 00:00:15 3 00:00:15", "a 00:00:40 4 00:00:40", "b 00:00:10 8 00:00:10"],
    );
    check(&script, "SELECT stateStoreName, rows FROM state('f')", &["session-0 3"]);
    let script = complete("SELECT count(*) AS n FROM STREAM ev").add("ev", &rows(&[("a", 1, 0)])).process();
    check(&script, "SELECT `count(1)`, _expiry FROM state('f', 'aggregate-0')", &["1 null"]);
    let script = flow("SELECT k FROM STREAM ev LIMIT 2").add("ev", &rows(&[("a", 1, 0)])).process();
    check(&script, "SELECT rows_passed FROM state('f', 'limit-0')", &["1"]);
    check(&script, "SELECT rows FROM state('f')", &["1"]);
}

#[test]
fn kept_rows_are_read_with_their_times() {
    for memory in [1, 1 << 30] {
        let mut script = flow("SELECT DISTINCT k, v FROM STREAM ev");
        script.settings.query.state_memory_bytes = memory;
        let script = script.add("ev", &rows(&[("a", 1, 0), ("a", 1, 5), ("b", 2, 0)])).process();
        check(
            &script,
            "SELECT k, v, _time, _expiry FROM state('f', 'distinct-0')",
            &["a 1 null null", "b 2 null null"],
        );
        check(&script, "SELECT rows FROM state('f')", &["2"]);
    }
    let mut script = StreamScript::new(
        "CREATE TABLE a (k STRING, v BIGINT, ts TIMESTAMP) USING test; CREATE TABLE b (k STRING, v BIGINT, ts TIMESTAMP) USING test;
         CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out SELECT a.k, a.v, b.v AS w
         FROM STREAM a WATERMARK ts DELAY OF INTERVAL 20 SECONDS AS a
         LEFT JOIN STREAM b WATERMARK ts DELAY OF INTERVAL 20 SECONDS AS b
         ON a.k = b.k AND b.ts >= a.ts AND b.ts <= a.ts + INTERVAL 10 SECONDS",
    );
    script.settings.query.state_memory_bytes = 1;
    let script = script.add("a", &rows(&[("x", 1, 40), ("y", 2, 41)])).add("b", &rows(&[("x", 3, 45)])).process();
    check(
        &script,
        "SELECT k, v, _time, _matched FROM state('f', 'join-0-left')",
        &["x 1 00:00:40 true", "y 2 00:00:41 false"],
    );
    check(&script, "SELECT k, v, _time FROM state('f', 'join-0-right')", &["x 3 00:00:45"]);
    check(&script, "SELECT stateStoreName, rows FROM state('f')", &["join-0-left 2", "join-0-right 1"]);
}

#[test]
fn what_cannot_be_read_is_told_with_a_way_out() {
    let script = update("SELECT k, count(*) AS n FROM STREAM ev GROUP BY k").add("ev", &rows(&[("a", 1, 0)])).process();
    let check = |sql: &str, expected: &str| {
        let found = script.select(sql).unwrap_err();
        assert!(found.contains(expected), "{sql}: {found}");
    };
    check(
        "SELECT * FROM state('f', 'agregate-0')",
        "1:15: query 'f' has no operator 'agregate-0' with state; help: did you mean 'aggregate-0'?",
    );
    check("SELECT * FROM state('f', 'join')", "has no operator 'join' with state; help: there are: aggregate-0");
    check("SELECT * FROM state('f', 'aggregate-0', 7)", "the state of query 'f' after batch 7 is not in checkpoint");
    check("SELECT * FROM state('f', 'aggregate-0', 7)", "help: there is that of batches 0 to 0");
    check("SELECT * FROM state('none')", "query 'none' has no state in checkpoint");
    check("SELECT * FROM state(f)", "expected the name of a query in quotes");
    let refusal = StreamScript::refusal(
        "CREATE TABLE ev (k STRING) USING test; CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out SELECT ev.k FROM STREAM ev JOIN state('g', 'aggregate-0') s ON s.k = ev.k",
    );
    assert!(refusal.is_some_and(|refusal| refusal.contains("help: state(...) is for highwater sql")));
}

#[test]
fn a_query_that_starts_changed_while_its_state_is_read_is_read_as_it_is_then() {
    let before = "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k";
    // Migrated, and rebuilt.
    for (after, rebuilds, columns) in [
        (
            "SELECT k, sum(v) AS s, count(*) AS n FROM STREAM ev GROUP BY k",
            false,
            "k, sum(v), count(1), _expiry, _shard",
        ),
        ("SELECT v, count(*) AS n FROM STREAM ev GROUP BY v", true, "v, count(1), _expiry, _shard"),
    ] {
        let script = update(before).add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)])).process();
        let folder = script.storage().join("checkpoints/f").display().to_string();
        let checkpoint = CheckpointDir::open(&folder, Durability::None).unwrap();
        let (mut before, mut changed) = (Some(script), None);
        let mut starts_changed = || {
            let Some(mut script) = before.take() else { return };
            script.settings.changes.rebuild.extend(rebuilds.then(|| "f".to_owned()));
            changed = Some(script.change(&update_sql(after)).add("ev", &rows(&[("a", 5, 0)])).process());
        };
        let reader = StateReader::open_while(&checkpoint, "f", None, &mut starts_changed).unwrap();
        let (schema, found) = reader.read("aggregate-0", None).unwrap();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names.join(", "), columns);
        assert_eq!(found.iter().map(|rows| rows.num_rows()).sum::<usize>(), if rebuilds { 3 } else { 2 });
    }
}

#[test]
fn state_from_before_a_rebuild_is_read_as_what_it_was() {
    let script = update("SELECT k, count(*) AS n FROM STREAM ev GROUP BY k");
    let script = script.add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)])).process();
    let mut script = script.add("ev", &rows(&[("a", 3, 0)])).process();
    script.settings.changes.rebuild.insert("f".to_owned());
    let script = script.change(&update_sql("SELECT v, max(k) AS m, count(*) AS n FROM STREAM ev GROUP BY v")).process();
    let read = |columns: &str, batch: u64| {
        script.select(&format!("SELECT {columns} FROM state('f', 'aggregate-0', {batch})")).unwrap()
    };
    assert_eq!(read("k, `count(1)`", 0), ["a 1", "b 1"]);
    assert_eq!(read("k, `count(1)`", 1), ["a 2", "b 1"]);
    // The parts of the rebuild.
    assert_eq!(read("v, `max(k)`, `count(1)`", 2), ["1 a 1", "2 b 1"]);
    assert_eq!(read("v, `max(k)`, `count(1)`", 3), ["1 a 1", "2 b 1", "3 a 1"]);
}

#[test]
fn the_first_rows_of_keys_are_read() {
    let mut script = update(
        "SELECT k, v, rn FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS rn FROM STREAM ev)
         WHERE rn <= 2",
    );
    script.settings.query.state_memory_bytes = 1;
    let script = script
        .add("ev", &rows(&[("a", 1, 0), ("a", 2, 0), ("a", 3, 0), ("b", 4, 0)]))
        .process()
        .add("ev", &rows(&[("a", 9, 0)]))
        .process();
    let sql = "SELECT k, v, `row_number`, _expiry FROM state('f', 'top-0'";
    check(&script, &format!("{sql})"), &["a 3 2 null", "a 9 1 null", "b 4 1 null"]);
    check(&script, &format!("{sql}, 0)"), &["a 2 2 null", "a 3 1 null", "b 4 1 null"]);
    check(&script, "SELECT operatorName, rows FROM state('f')", &["windowGroupLimit 3"]);
    let window = flow(
        "SELECT k, rn FROM (SELECT k, ts, row_number() OVER (PARTITION BY ts, k ORDER BY v) AS rn
                            FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 10 SECONDS) WHERE rn = 1",
    )
    .add("ev", &rows(&[("a", 1, 5), ("a", 2, 5), ("b", 3, 7)]))
    .process();
    check(&window, "SELECT k, v, _expiry FROM state('f', 'top-0')", &["a 1 00:00:05", "b 3 00:00:07"]);
}
