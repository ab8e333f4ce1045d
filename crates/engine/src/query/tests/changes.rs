//! Queries that are changed between two starts: what is kept, what begins anew, what is refused.

use std::collections::BTreeMap;

use super::rows;
use crate::query::QueryChanges;
use crate::testing::StreamScript;

fn sql(mode: &str, query: &str) -> String {
    format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test OPTIONS (outputMode '{mode}'); CREATE FLOW f AS INSERT INTO out {query}"
    )
}

const COUNT: &str = "SELECT k, count(*) AS n FROM STREAM ev GROUP BY k";
const COUNT_AND_SUM: &str = "SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k";
/// The same groups by other keys, so that state of [`COUNT`] does not fit.
const KEYED_TWICE: &str = "SELECT k, count(*) AS n, sum(v) AS s FROM STREAM ev GROUP BY k, v < 1000";
const WINDOWS: &str = "SELECT window.start AS w, count(*) AS n FROM STREAM ev WATERMARK ts DELAY OF INTERVAL 0 SECONDS \
                       GROUP BY window(ts, '10 seconds')";

fn rebuilding(mut script: StreamScript) -> StreamScript {
    script.settings.changes.rebuild.insert("f".to_owned());
    script
}

fn dropping(mut script: StreamScript) -> StreamScript {
    script.settings.changes.drop_state.insert("f".to_owned());
    script
}

/// The rows that an update gave last for each key, as a table keyed by the first column has them.
fn last_by_key(script: &StreamScript) -> Vec<String> {
    let rows = script.rows_as_written("out");
    let by_key = rows.iter().map(|row| (row.split(' ').next(), row));
    by_key.collect::<BTreeMap<_, _>>().into_values().cloned().collect()
}

#[test]
fn filters_and_expressions_hold_from_the_next_batch_on() {
    StreamScript::new(&sql("update", COUNT_AND_SUM))
        .add("ev", &rows(&[("a", 1, 0), ("b", 2, 0)]))
        .process()
        .check("out", &["a 1 1", "b 1 2"])
        .change(&sql("update", "SELECT k, count(*) AS n, sum(v * 10) AS s FROM STREAM ev WHERE v <> 3 GROUP BY k"))
        .add("ev", &rows(&[("a", 3, 0), ("a", 4, 0)]))
        .process()
        .check("out", &["a 1 1", "b 1 2", "a 2 41"]);
}

#[test]
fn a_new_operator_begins_empty_and_the_others_keep_what_they_have() {
    // No state at all before.
    StreamScript::new(&sql("append", "SELECT k, v FROM STREAM ev"))
        .add("ev", &rows(&[("a", 1, 0)]))
        .process()
        .change(&sql("append", "SELECT DISTINCT k, v FROM STREAM ev"))
        .add("ev", &rows(&[("a", 1, 0), ("a", 1, 0)]))
        .process()
        .check("out", &["a 1", "a 1"])
        .add("ev", &rows(&[("a", 1, 0), ("b", 1, 0)]))
        .process()
        .check("out", &["a 1", "a 1", "b 1"]);
    // A limit behind what is distinct.
    StreamScript::new(&sql("append", "SELECT DISTINCT k FROM STREAM ev"))
        .add("ev", &rows(&[("a", 1, 0), ("b", 1, 0)]))
        .process()
        .change(&sql("append", "SELECT DISTINCT k FROM STREAM ev LIMIT 1"))
        .add("ev", &rows(&[("a", 1, 0), ("c", 1, 0)]))
        .add("ev", &rows(&[("d", 1, 0)]))
        .process()
        .check("out", &["a", "b", "c"]);
}

#[test]
fn state_that_would_be_lost_is_not_lost_without_asking() {
    let script = StreamScript::new(&sql("update", COUNT)).add("ev", &rows(&[("a", 1, 0)])).process();
    let script = script
        .change(&sql("update", KEYED_TWICE))
        .process_fails(
            "query 'f' was changed: the state of operator 'aggregate-0' does not fit: its keys were k, and are k, v <",
        )
        .change(&sql("update", "SELECT k, v FROM STREAM ev"))
        .process_fails("the checkpoint has state of operator 'aggregate-0', which the query no longer has");
    // Nothing has happened to it.
    let script = script.change(&sql("update", COUNT)).add("ev", &rows(&[("a", 1, 0)])).process();
    let script = script.check("out", &["a 1", "a 2"]);
    // Dropped is dropped: who comes back begins empty.
    let script = dropping(script.change(&sql("update", "SELECT k, v AS n FROM STREAM ev")));
    let mut script = script.add("ev", &rows(&[("a", 7, 0)])).process().check("out", &["a 1", "a 2", "a 7"]);
    script.settings.changes = QueryChanges::default();
    script
        .change(&sql("update", COUNT))
        .add("ev", &rows(&[("a", 1, 0)]))
        .process()
        .check("out", &["a 1", "a 2", "a 7", "a 1"]);
}

#[test]
fn rebuilt_state_is_that_of_a_run_from_scratch() {
    let first = rows(&[("a", 1, 0), ("b", 2, 0), ("a", 3, 0)]);
    let (second, third) = (rows(&[("c", 4, 0)]), rows(&[("a", 5, 0), ("d", 6, 0)]));
    let scratch = StreamScript::new(&sql("update", COUNT_AND_SUM));
    let scratch = scratch.add("ev", &first).add("ev", &second).process().add("ev", &third).process();
    let changed = StreamScript::new(&sql("update", COUNT)).add("ev", &first).add("ev", &second).process();
    let mut changed = rebuilding(changed.change(&sql("update", COUNT_AND_SUM))).process();
    // All groups come out, as they are now.
    assert_eq!(last_by_key(&changed), ["a 2 4", "b 1 2", "c 1 4"]);
    changed.settings.changes = QueryChanges::default();
    let changed = changed.add("ev", &third).process();
    assert_eq!(last_by_key(&changed), last_by_key(&scratch));
}

#[test]
fn what_was_final_is_not_written_again_and_what_is_open_is_whole() {
    let second = |at: u32| rows(&[("a", 1, at), ("b", 2, at)]);
    let script = StreamScript::new(&sql("append", WINDOWS));
    let script = script.add("ev", &second(1)).add("ev", &second(12)).process().check("out", &["00:00:00 2"]);
    let by_key = WINDOWS.replace("count(*)", "sum(v)");
    rebuilding(script.change(&sql("append", &by_key)))
        .process()
        .check("out", &["00:00:00 2"])
        .add("ev", &second(13))
        .add("ev", &second(25))
        .process()
        // Both rows of the open window that came before, and both that came after.
        .check("out", &["00:00:00 2", "00:00:10 6"]);
}

#[test]
fn a_rebuild_waits_for_the_batch_that_is_under_way() {
    let failing = "SELECT k, count(*) AS n FROM STREAM ev WHERE 1 / v > 0 GROUP BY k";
    let script = StreamScript::new(&sql("update", failing)).add("ev", &rows(&[("a", 1, 0)])).process();
    let script = script.add("ev", &rows(&[("a", 0, 0)])).process_fails("DIVIDE_BY_ZERO");
    let script = rebuilding(script.change(&sql("update", COUNT_AND_SUM)));
    let mut script = script.process_fails("it cannot be rebuilt while a batch of it is under way");
    // Its state fits this one, which finishes the batch.
    script.settings.changes = QueryChanges::default();
    let script = script.change(&sql("update", COUNT)).process();
    let script = rebuilding(script.change(&sql("update", COUNT_AND_SUM))).process();
    assert_eq!(last_by_key(&script), ["a 2 1"]);
}

#[test]
fn dry_run_says_what_a_start_does() {
    let failing = "SELECT k, count(*) AS n, sum(1 / v) AS s FROM STREAM ev GROUP BY k";
    let script = StreamScript::new(&sql("update", COUNT)).add("ev", &rows(&[("a", 0, 0)])).process();
    assert_eq!(script.outlook("f"), ["runs batch 1, from the state after batch 0", "aggregate-0 Kept"]);
    // A rebuild that ends in an error is under way: the next start finishes it, whether it is asked for or not.
    let script = rebuilding(script.change(&sql("update", failing)));
    assert_eq!(script.outlook("f")[1], "aggregate-0 Rebuilt");
    let mut script = script.process_fails("DIVIDE_BY_ZERO");
    script.settings.changes = QueryChanges::default();
    let again = "runs batch 1 again, from the state after batch 0, which computes its state anew";
    assert_eq!(script.outlook("f"), [again, "aggregate-0 Rebuilt"]);
    // Another query's state is made anew, whether it would fit or not.
    let mut script = script;
    for other in ["SELECT v, min(v) AS n FROM STREAM ev GROUP BY v", &failing.replace("AS s", "AS s, max(v) AS m")] {
        script = script.change(&sql("update", other));
        assert_eq!(script.outlook("f"), ["gives up batch 1 and computes its state anew", "aggregate-0 Rebuilt"]);
    }
    let script = script.change(&sql("update", &failing.replace("1 / v", "v / 1"))).process();
    assert_eq!(script.outlook("f"), ["runs batch 3, from the state after batch 2", "aggregate-0 Kept"]);
    assert_eq!(last_by_key(&script), ["a 1 0.0"]);
    // A batch that is under way, and no rebuild.
    let script = script.change(&sql("update", failing)).add("ev", &rows(&[("a", 0, 0)]));
    let script = rebuilding(script.process_fails("DIVIDE_BY_ZERO").change(&sql("update", COUNT)));
    assert_eq!(script.outlook("f")[2], "it cannot be rebuilt while a batch of it is under way");
}
