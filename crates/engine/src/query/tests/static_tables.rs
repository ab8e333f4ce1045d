//! Static sides of joins: when they are read, and what a batch sees of them.

use std::sync::Arc;
use std::time::Duration;

use super::rows;
use crate::checkpoint::RemoteSettings;
use crate::progress::StreamingQueryProgress;
use crate::query::Trigger;
use crate::testing::{Fault, FaultyStore, StreamScript};

/// A stream joined with a table whose reads each see one row more: `a0`, `a1`, ... of key `a`.
fn growing(options: &str) -> StreamScript {
    let mut script = StreamScript::new(&format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE TABLE names (id STRING, name STRING) USING test OPTIONS (growsOnRead 'true', {options});
         CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out SELECT e.v, n.name FROM STREAM ev e LEFT JOIN names n ON e.k = n.id"
    ));
    // The clock shows 40 seconds before a full minute.
    script.settings.query.trigger = Trigger::ProcessingTime(Duration::from_secs(60));
    for name in 0..6 {
        script = script.add("names", &format!(r#"{{"id": "a", "name": "a{name}"}}"#));
    }
    script
}

/// Runs a batch of one row at the start, and one at each of the full minutes that follow.
fn run(mut script: StreamScript, batches: i64) -> StreamScript {
    for batch in 0..batches {
        script = script.add("ev", &rows(&[("a", batch, 0)]));
    }
    let wanted = usize::try_from(batches).unwrap();
    script.process_until(|progress| progress.len() >= wanted).unwrap();
    script
}

/// How many static rows each batch saw.
fn seen(script: &StreamScript) -> Vec<u64> {
    script.progress().iter().map(|progress| progress.static_tables[0].num_rows).collect()
}

fn ages_s(progress: &[StreamingQueryProgress]) -> Vec<u64> {
    progress.iter().map(|progress| progress.static_tables[0].age_ms / 1000).collect()
}

#[test]
fn without_options_each_batch_reads_the_table() {
    let script = run(growing("'lookup' = 'auto'"), 3);
    assert_eq!(seen(&script), [1, 2, 3]);
    script.check("out", &["0 a0", "1 a0", "1 a1", "2 a0", "2 a1", "2 a2"]);
}

#[test]
fn rows_are_kept_until_they_are_due() {
    let script = run(growing("'cache.refresh' = '2 minutes'"), 5);
    assert_eq!(seen(&script), [1, 1, 1, 2, 2]);
    assert_eq!(ages_s(&script.progress()), [0, 40, 100, 0, 60]);
    assert_eq!(script.table("names").reads(), 2);
    let names = script.progress()[4].static_tables[0].tables.clone();
    assert_eq!(names, ["names"]);
}

#[test]
fn rows_are_read_beside_a_batch_before_they_are_due() {
    // The batch at 100 s begins in the last tenth of the time; it ends while the table still keeps its reader waiting.
    let mut script = growing("'cache.refresh' = '110 seconds', 'heldReads' = '2'");
    for batch in 0..5 {
        script = script.add("ev", &rows(&[("a", batch, 0)]));
    }
    let names = script.table("names");
    let release = |progress: &[StreamingQueryProgress]| {
        if progress.len() >= 3 {
            names.release();
        }
        progress.len() >= 5
    };
    script.process_until(release).unwrap();
    // The batch at 160 s has what was read beside the one at 100 s, and that is how old it is.
    assert_eq!(seen(&script), [1, 1, 1, 2, 3]);
    assert_eq!(ages_s(&script.progress()), [0, 40, 100, 60, 0]);
    assert_eq!(names.reads(), 3);
}

#[test]
fn what_was_read_beside_a_batch_is_not_used_when_it_is_too_old() {
    let mut script = growing("'cache.refresh' = '42 seconds'");
    for batch in 0..3 {
        script = script.add("ev", &rows(&[("a", batch, 0)]));
    }
    script.process_until(|progress| progress.len() >= 3).unwrap();
    // Read for the batches at 0 s and 100 s; what was read beside the one at 40 s is 60 s old by then.
    assert_eq!(ages_s(&script.progress()), [0, 40, 0]);
}

#[test]
fn a_read_beside_a_batch_that_fails_leaves_the_old_rows_for_a_while() {
    let script = run(growing("'cache.refresh' = '110 seconds', 'failingReads' = '2'"), 5);
    let failures: Vec<bool> =
        script.progress().iter().map(|progress| progress.static_tables[0].failure.is_some()).collect();
    assert_eq!(failures, [false, false, false, true, false]);
    assert_eq!(ages_s(&script.progress()), [0, 40, 100, 160, 0]);
}

#[test]
fn keys_are_asked_for_by_several_threads_at_once() {
    let options = format!("{LOOKED_UP}, 'cache.refresh' = '1 day', 'heldReads' = '1'");
    let mut script = names(&options, LEFT).change(
        &"CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '2');
          CREATE TABLE names (id STRING, name STRING, n BIGINT) USING test OPTIONS ({options});
          CREATE SINK out USING test; CREATE FLOW f AS INSERT INTO out {LEFT}"
            .replace("{options}", &options)
            .replace("{LEFT}", LEFT),
    );
    script.settings.query.parallelism = 2;
    script.settings.query.trigger = Trigger::AvailableNow;
    // The first to ask is answered only when another thread asks as well, for keys of its own.
    let script = script.add_to("ev", "0", &rows(&[("a", 0, 0), ("c", 0, 0)]));
    let script = script.add_to("ev", "1", &rows(&[("b", 0, 0), ("c", 0, 0), ("d", 0, 0)])).process();
    assert_eq!(asked(&script), [4]);
    script.check("out", &["a Anna", "a Anton", "b Bert", "c Cleo", "c Cleo", "d Dora"]);
}

#[test]
fn real_time_keeps_rows_for_a_second_unless_it_is_told() {
    // The clock stands still: what is kept for a second is kept for good.
    let check = |options: &str, reads_each_batch: bool| {
        let mut script = growing(options).add("ev", &rows(&[("a", 1, 0)]));
        script.settings.query.trigger = Trigger::RealTime(Duration::from_millis(5));
        let stream = script.table("ev");
        let first = stream.input(0);
        script
            .process_until(|progress| {
                stream.add("0", first.clone());
                progress.len() >= 4
            })
            .unwrap();
        let batches = script.progress().iter().filter(|progress| progress.num_input_rows > 0).count();
        let reads = script.table("names").reads();
        assert_eq!(reads, if reads_each_batch { batches } else { 1 }, "{options}");
    };
    check("'lookup' = 'auto'", false);
    check("'cache.refresh' = '0 seconds'", true);
}

#[test]
fn a_restart_reads_the_table() {
    let script = run(growing("'cache.refresh' = '1 day'"), 2).forget_progress();
    let script = run(script, 1);
    assert_eq!(seen(&script), [2]);
}

#[test]
fn a_failed_refresh_leaves_the_old_rows_for_a_while() {
    // Read at 0 s, due at 100 s: fails, and again at 160 s; then the table answers.
    let script = run(growing("'cache.refresh' = '90 seconds', 'failingReads' = '2,3'"), 5);
    assert_eq!(seen(&script), [1, 1, 1, 1, 4]);
    let failures: Vec<bool> =
        script.progress().iter().map(|progress| progress.static_tables[0].failure.is_some()).collect();
    assert_eq!(failures, [false, false, true, true, false]);
    assert_eq!(ages_s(&script.progress()), [0, 40, 100, 160, 0]);
}

#[test]
fn rows_that_are_too_old_are_not_used() {
    let options = "'cache.refresh' = '90 seconds', 'cache.maxAge' = '2 minutes', 'failingReads' = '2,3'";
    let mut script = growing(options);
    for batch in 0..5 {
        script = script.add("ev", &rows(&[("a", batch, 0)]));
    }
    let error = script.process_until(|progress| progress.len() >= 5).unwrap_err();
    assert!(error.contains("the table does not answer"), "{error}");
    // The batch that failed is there after a restart, once.
    script.process_until(|progress| progress.len() >= 5).unwrap();
    assert_eq!(seen(&script), [1, 1, 1, 4, 4]);
}

#[test]
fn a_first_read_that_fails_is_an_error() {
    let mut script = growing("'cache.refresh' = '1 minute', 'failingReads' = '1'").add("ev", &rows(&[("a", 1, 0)]));
    script.settings.query.trigger = Trigger::AvailableNow;
    script.process_fails("the table does not answer");
}

#[test]
fn a_table_without_room_is_an_error_with_a_way_out() {
    let mut script = growing("'cache.refresh' = '1 minute', 'cache.maxBytes' = '20'").add("ev", &rows(&[("a", 1, 0)]));
    script.settings.query.trigger = Trigger::AvailableNow;
    script.process_fails("the static side of a join, 'names', does not fit into its cache of 20 bytes");
}

#[test]
fn joins_of_the_same_table_see_the_same_rows() {
    let mut script = StreamScript::new(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE TABLE names (id STRING, name STRING) USING test OPTIONS ('cache.refresh' = '2 minutes', 'failingReads' = '4');
         CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out SELECT e.v, n.name FROM STREAM ev e JOIN names n ON e.k = n.id
         WHERE e.v IN (SELECT length(name) FROM names)",
    );
    script.settings.query.trigger = Trigger::ProcessingTime(Duration::from_secs(60));
    let script = run(script.add("names", r#"{"id": "a", "name": "x"}"#), 5);
    // Two reads at the start; of the two at 160 s the second fails, so that neither counts.
    let failures: Vec<usize> = script
        .progress()
        .iter()
        .map(|progress| progress.static_tables.iter().filter(|table| table.failure.is_some()).count())
        .collect();
    assert_eq!(failures, [0, 0, 0, 2, 0]);
    assert_eq!(script.table("names").reads(), 6);
    script.check("out", &["1 x"]);
}

/// Whatever call a process is cut off at: a batch sees one state of the table, that of the attempt that was committed, and
/// is there once.
#[test]
fn a_batch_that_was_cut_off_sees_one_state_of_the_table() {
    const EVENTS: i64 = 3;
    let run = |options: &str, objects: &FaultyStore, fault: Option<(usize, Fault)>| {
        let mut script = growing(options);
        script.settings.query.trigger = Trigger::AvailableNow;
        script.settings.checkpoints.remote = RemoteSettings { request_timeout_ms: 200, ..RemoteSettings::default() };
        let mut script = script.checkpoints_in("memory://bucket/checkpoints", Arc::new(objects.clone()));
        for v in 0..EVENTS {
            script = script.add("ev", &rows(&[("a", v, 0), ("a", v + 100, 0)]));
        }
        objects.heal();
        if let Some((call, fault)) = fault {
            objects.fail_at(call, fault);
        }
        let script = script.process_if_it_can();
        let calls = objects.heal();
        (script.process().rows("out"), calls)
    };
    for options in ["'lookup' = 'auto'", "'cache.refresh' = '1 day'", "'filters' = 'true', 'lookup' = 'always'"] {
        let (undisturbed, calls) = run(options, &FaultyStore::default(), None);
        assert!(undisturbed.len() >= 6 && calls > 20, "{calls}: {undisturbed:?}");
        for call in (0..calls).step_by(3) {
            let (found, _) = run(options, &FaultyStore::default(), Some((call, Fault::CutOff)));
            for v in 0..EVENTS {
                let of = |v: i64| -> Vec<&str> {
                    found.iter().filter_map(|row| row.strip_prefix(&format!("{v} "))).collect()
                };
                let (one, other) = (of(v), of(v + 100));
                assert!(!one.is_empty() && one == other, "{options}, cut off at {call}: {found:?}");
                let expected: Vec<String> = (0..one.len()).map(|name| format!("a{name}")).collect();
                assert_eq!(one, expected, "{options}, cut off at {call}: each row once");
            }
        }
    }
}

/// What is said of a table with these options, which is joined to a stream.
fn check_refusal(options: &str, expected: &str) {
    let refusal = StreamScript::refusal(&format!(
        "CREATE TABLE ev (k STRING) USING test; CREATE TABLE n (id STRING) USING test OPTIONS ({options});
         CREATE SINK out USING test; CREATE FLOW f AS INSERT INTO out SELECT k FROM STREAM ev JOIN n ON k = id",
    ));
    let refusal = refusal.unwrap();
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn options_that_are_wrong_are_refused() {
    check_refusal(
        "'cache.refersh' = '1 s'",
        "table n has no option of the name 'cache.refersh'; help: did you mean 'cache.refresh'?",
    );
}

const LOOKED_UP: &str = "'lookup' = 'always', 'filters' = 'true'";

/// A stream joined with a table of `b`, `c`, `d` and two rows of `a`.
fn names(options: &str, query: &str) -> StreamScript {
    let mut script = StreamScript::new(&format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE TABLE names (id STRING, name STRING, n BIGINT) USING test OPTIONS ({options});
         CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out {query}"
    ));
    script.settings.query.trigger = Trigger::ProcessingTime(Duration::from_secs(60));
    let rows = [("a", "Anna", 1), ("a", "Anton", 2), ("b", "Bert", 2), ("c", "Cleo", 3), ("d", "Dora", 4)];
    let rows: String =
        rows.iter().map(|(id, name, n)| format!("{{\"id\": \"{id}\", \"name\": \"{name}\", \"n\": {n}}}\n")).collect();
    script.add("names", &rows)
}

const LEFT: &str = "SELECT e.k, n.name FROM STREAM ev e LEFT JOIN names n ON e.k = n.id";

/// Runs so many batches with all the same keys.
fn repeat(mut script: StreamScript, keys: &[&str], batches: usize) -> StreamScript {
    let batch: Vec<(&str, i64, u32)> = keys.iter().zip(0..).map(|(key, v)| (*key, v, 0)).collect();
    for _ in 0..batches {
        script = script.add("ev", &rows(&batch));
    }
    let all = script.table("ev").input_len();
    script.process_until(|progress| progress.len() >= all).unwrap();
    script
}

fn asked(script: &StreamScript) -> Vec<u64> {
    script.progress().iter().map(|progress| progress.static_tables[0].lookup.unwrap().num_keys_asked).collect()
}

#[test]
fn only_the_keys_of_a_batch_are_asked_for() {
    let script = repeat(names(LOOKED_UP, LEFT), &["a", "x", "a", "e", "f"], 2);
    assert_eq!(asked(&script), [4, 4]);
    let told = &script.progress()[1].static_tables[0];
    assert_eq!((told.num_rows, told.lookup.unwrap().num_keys, told.age_ms), (2, 4, 0));
    let mut filters = script.table("names").filters();
    filters.retain(|filter| filter.contains(" IN "));
    assert_eq!(filters, vec!["id IN a, e, f, x"; 2]);
    let once = ["a Anna", "a Anna", "a Anton", "a Anton", "e null", "f null", "x null"];
    let expected: Vec<&str> = once.iter().chain(&once).copied().collect();
    script.check("out", &expected);
}

#[test]
fn found_and_missing_keys_are_kept_until_they_are_due() {
    let options = format!("{LOOKED_UP}, 'cache.refresh' = '2 minutes'");
    let script = repeat(names(&options, LEFT), &["a", "x", "b"], 4);
    assert_eq!(asked(&script), [3, 0, 0, 3]);
    assert_eq!(ages_s(&script.progress()), [0, 40, 100, 0]);
}

#[test]
fn known_keys_stand_in_while_the_table_does_not_answer() {
    let options = format!("{LOOKED_UP}, 'cache.refresh' = '90 seconds', 'failingReads' = '2'");
    let script = repeat(names(&options, LEFT), &["a", "x"], 4);
    assert_eq!(asked(&script), [2, 0, 2, 2]);
    let failures: Vec<bool> =
        script.progress().iter().map(|progress| progress.static_tables[0].failure.is_some()).collect();
    assert_eq!(failures, [false, false, true, false]);
    assert_eq!(ages_s(&script.progress()), [0, 40, 100, 0]);
    // A key that was never asked for has nothing to stand in.
    let mut script = names(&options, LEFT).add("ev", &rows(&[("a", 1, 0)])).add("ev", &rows(&[("b", 1, 0)]));
    let error = script.process_until(|progress| progress.len() >= 2).unwrap_err();
    assert!(error.contains("the table does not answer"), "{error}");
}

#[test]
fn a_table_without_room_is_looked_up_and_gives_the_same_rows() {
    let queries = [
        LEFT,
        "SELECT e.k, e.v, n.name FROM STREAM ev e JOIN names n ON e.k = n.id",
        "SELECT e.k, e.v, n.name FROM names n RIGHT JOIN STREAM ev e ON e.k = n.id AND n.n > 1",
        "SELECT e.k, n.name FROM STREAM ev e LEFT JOIN names n ON e.k = n.id AND e.v = n.n",
        "SELECT e.k, n.name FROM STREAM ev e JOIN names n ON e.k = n.id AND e.v + 1 < n.n",
        "SELECT e.k, e.v FROM STREAM ev e LEFT SEMI JOIN names n ON e.k = n.id",
        "SELECT e.k, e.v FROM STREAM ev e LEFT ANTI JOIN names n ON e.k = n.id",
        "SELECT e.k, c.most FROM STREAM ev e LEFT JOIN (SELECT id, max(n) AS most FROM names GROUP BY id) c ON e.k = c.id",
    ];
    for query in queries {
        let run = |options: &str| {
            let script = names(options, query).add("ev", r#"{"k": null, "v": 7}"#);
            repeat(script, &["a", "b", "x", "d", "a"], 2)
        };
        let whole = run("'lookup' = 'never'");
        let looked_up = run("'cache.refresh' = '1 day', 'cache.maxBytes' = '400', 'filters' = 'true'");
        assert_eq!(whole.rows("out"), looked_up.rows("out"), "{query}");
        assert!(looked_up.progress()[2].static_tables[0].lookup.is_some(), "{query}");
        assert!(whole.progress()[2].static_tables[0].lookup.is_none(), "{query}");
    }
}

#[test]
fn what_depends_on_other_keys_is_not_looked_up() {
    for condition in ["e.k <=> n.id", "e.v > n.n"] {
        let query = format!("SELECT e.k FROM STREAM ev e JOIN names n ON {condition}");
        let options = "'cache.refresh' = '1 day', 'cache.maxBytes' = '20', 'filters' = 'true'";
        let mut script = names(options, &query).add("ev", &rows(&[("a", 1, 0)]));
        script.settings.query.trigger = Trigger::AvailableNow;
        script.process_fails("does not fit into its cache of 20 bytes");
    }
    let expected = "the static side of a join, 'n', cannot be asked for the rows of single keys";
    check_refusal("'lookup' = 'always'", expected);
}

#[test]
fn kept_keys_have_a_limit() {
    let options = format!("{LOOKED_UP}, 'cache.refresh' = '1 day', 'cache.maxBytes' = '2000'");
    let mut script = names(&options, LEFT);
    for batch in 0..6 {
        let keys: Vec<String> = (0..5).map(|key| format!("key {batch} {key}")).collect();
        let keys: Vec<(&str, i64, u32)> = keys.iter().map(|key| (key.as_str(), 0, 0)).collect();
        script = script.add("ev", &rows(&keys));
    }
    let mut script = script.add("ev", &rows(&[("key 5 0", 0, 0), ("key 0 0", 0, 0)]));
    script.process_until(|progress| progress.len() >= 7).unwrap();
    let told: Vec<_> = script.progress().iter().map(|progress| progress.static_tables[0].clone()).collect();
    assert!(told.iter().all(|told| told.size_bytes <= 2000), "{told:?}");
    // The newest keys are still known, the oldest are asked for anew.
    assert_eq!(asked(&script), [5, 5, 5, 5, 5, 5, 1]);
}
