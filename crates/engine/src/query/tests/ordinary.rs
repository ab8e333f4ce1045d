//! Queries outside of streams that Spark has no words for, or whose order is seen; the others are compared with Spark
//! (`plan/functions/tests`).

use super::check_refusal;
use crate::testing::StreamScript;

#[track_caller]
fn check(sql: &str, expected: &[&str]) {
    let found = StreamScript::new("SELECT 1").select(sql).unwrap();
    assert_eq!(found, expected, "{sql}");
}

const T: &str = "VALUES ('a', 1), ('b', 2), ('a', 3), (NULL, 4), (NULL, 5), ('c', NULL) AS t(k, v)";

#[test]
fn distinct_on_gives_the_first_row_of_each_key() {
    check(&format!("SELECT DISTINCT ON (k) k, v FROM {T} ORDER BY k, v DESC"), &["a 3", "b 2", "c null", "null 5"]);
    check(&format!("SELECT DISTINCT ON (k) v * 10 AS w FROM {T} ORDER BY k, v"), &["10", "20", "40", "null"]);
    check(&format!("SELECT count(*) AS n FROM (SELECT DISTINCT ON (k) k, v FROM {T})"), &["4"]);
}

#[test]
fn the_order_of_a_subquery_holds_above_it() {
    check(&format!("SELECT v FROM (SELECT * FROM {T} ORDER BY v DESC NULLS LAST) LIMIT 2"), &["4", "5"]);
    check_refusal(
        "CREATE FLOW f AS INSERT INTO out SELECT k FROM (SELECT * FROM STREAM ev ORDER BY v)",
        "ORDER BY is not supported on streams; help: use it on a GROUP BY in output mode complete, or order when you read the \
         result",
    );
}

#[test]
fn copies_are_not_counted_on_streams() {
    for kind in ["EXCEPT ALL", "INTERSECT ALL"] {
        check_refusal(
            &format!("CREATE FLOW f AS INSERT INTO out SELECT k FROM STREAM ev {kind} SELECT 'a'"),
            &format!(
                "{kind} is not possible with a stream: how often a row comes is never final; help: leave ALL out, or write the \
                 stream to a table first"
            ),
        );
    }
}

#[test]
fn a_seed_draws_the_same_over_many_rows() {
    let many = "SELECT sum(r) AS s FROM (SELECT rand(1) AS r FROM (SELECT explode(sequence(1, 50000)) AS i))";
    let run = || StreamScript::new("SELECT 1").select(many).unwrap();
    assert_eq!(run(), run());
    let two =
        StreamScript::new("SELECT 1").select("SELECT rand() AS a, rand() AS b, uuid() AS c, uuid() AS d").unwrap();
    let words: std::collections::BTreeSet<&str> = two[0].split(' ').collect();
    assert_eq!(words.len(), 4, "{two:?}");
}
