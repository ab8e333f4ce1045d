//! Functions in streaming queries: those whose answer could be another one when a batch is run again are refused, those
//! that raise errors end the query, and the others give a stream what they give a table.

use super::{EVENTS, flow, rows};
use crate::testing::StreamScript;

fn refusal(query: &str) -> String {
    let sql = format!("{EVENTS} CREATE FLOW f AS INSERT INTO out {query}");
    StreamScript::refusal(&sql).unwrap_or_else(|| "accepted".to_owned())
}

#[test]
fn what_could_be_answered_otherwise_when_a_batch_is_run_again_is_refused() {
    for (call, part) in [
        ("version()", "version() is not possible in a streaming query"),
        ("upper(current_user())", "current_user() is not possible in a streaming query"),
        ("monotonically_increasing_id()", "Spark has the function monotonically_increasing_id, Highwater has not"),
    ] {
        let found = refusal(&format!("SELECT k, {call} AS x FROM STREAM ev"));
        assert!(found.contains(part), "{call}: {found}");
    }
    assert_eq!(refusal("SELECT k, current_database() AS x FROM STREAM ev"), "accepted");
}

#[test]
fn an_error_is_raised_by_the_row_that_it_is_about() {
    flow("SELECT k, if(v < 0, raise_error(concat('negative: ', k)), v) AS v FROM STREAM ev")
        .add("ev", &rows(&[("a", 1, 0)]))
        .process()
        .check("out", &["a 1"])
        .add("ev", &rows(&[("b", -1, 0)]))
        .process_fails("[USER_RAISED_EXCEPTION] negative: b");
}

#[test]
fn a_stream_has_raw_strings_patterns_and_tuples() {
    flow(
        r"SELECT to_char(v, 'S099') AS n, t.a, t.b FROM STREAM ev
           LATERAL VIEW json_tuple(regexp_replace(k, r'\d+', '7'), 'a', 'b') t AS a, b",
    )
    .add("ev", &rows(&[("{'a':12}", 5, 0)]).replace('\'', "\\\""))
    .process()
    .check("out", &["+005 7 null"]);
}
