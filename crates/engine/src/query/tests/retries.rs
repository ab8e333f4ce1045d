//! Queries that are started again after errors that may pass.

use std::collections::BTreeSet;

use super::{row, rows};
use crate::query::RetryAttempts;
use crate::testing::StreamScript;

/// A join with a table that does not answer the reads of these numbers, over three batches of input.
fn script(failing_reads: &str, attempts: u32) -> StreamScript {
    let mut script = StreamScript::new(&format!(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE TABLE names (id STRING, name STRING) USING test OPTIONS ('failingReads' = '{failing_reads}');
         CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out SELECT k, v, name FROM STREAM ev JOIN names ON k = id"
    ));
    script.settings.retry.attempts = RetryAttempts::Most(attempts);
    script = script.add("names", r#"{"id": "a", "name": "Ann"}"#);
    (1..4).fold(script, |script, v| script.add("ev", &rows(&[("a", v, 0)])))
}

const ALL: [&str; 3] = ["a 1 Ann", "a 2 Ann", "a 3 Ann"];

fn runs(script: &StreamScript) -> usize {
    script.progress().iter().map(|batch| batch.run_id.clone()).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_query_goes_on_where_it_failed() {
    let script = script("2,3", 2).process().check("out", &ALL);
    assert_eq!(runs(&script), 2, "before the failures, and after them");
    let batches: Vec<u64> = script.progress().iter().map(|batch| batch.batch_id).collect();
    assert_eq!(batches, [0, 1, 2], "no batch is lost and none is done twice");
}

#[test]
fn a_batch_begins_the_count_of_failures_anew() {
    // One failure ahead of each batch: more in all than there may be in a row.
    script("1,3,5", 1).process().check("out", &ALL);
}

#[test]
fn a_query_that_fails_too_often_has_failed() {
    let script = script("2,3", 1).process_fails("f: the table does not answer").check("out", &ALL[..1]);
    // The next start goes on from there, whoever makes it.
    script.process().check("out", &ALL);
}

#[test]
fn what_does_not_pass_is_not_tried_again() {
    let mut script = StreamScript::new(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE SINK out USING test;
         CREATE FLOW f AS INSERT INTO out SELECT k, 10 / v AS part FROM STREAM ev",
    );
    script.settings.retry.attempts = RetryAttempts::Unlimited;
    script.add("ev", &row("a", 0, 0)).process_fails("DIVIDE_BY_ZERO");
}

#[test]
fn siblings_and_views_are_not_held_up_and_come_through_themselves() {
    let mut script = StreamScript::new(
        "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
         CREATE TABLE names (id STRING, name STRING) USING test OPTIONS ('failingReads' = '1,2');
         CREATE SINK named USING test;
         CREATE SINK copied USING test;
         CREATE FLOW f AS INSERT INTO named SELECT k, v, name FROM STREAM ev JOIN names ON k = id;
         CREATE FLOW g AS INSERT INTO copied SELECT k, v FROM STREAM ev;
         CREATE MATERIALIZED VIEW counts USING test AS SELECT count(*) AS n FROM names;",
    );
    script.settings.retry.attempts = RetryAttempts::Most(3);
    let script = script.add("names", r#"{"id": "a", "name": "Ann"}"#).add("ev", &rows(&[("a", 1, 0)]));
    script.process().check("named", &["a 1 Ann"]).check("copied", &["a 1"]).check("counts", &["1"]);
}
