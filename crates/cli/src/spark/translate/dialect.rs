//! What Highwater runs and Spark refuses, found in the words of a statement: the superset of `docs/spark-differences.md`.
//!
//! Only what is certain is told here. The rest Spark's own analysis tells, before a run begins.

use highwater_engine::plan::outline::{OutlineStatement, OutlineWord, WordKind};
use highwater_engine::sink::OutputMode;

use super::{FlowMode, Problem};

/// Functions that a query can name here and not in Spark 4.3: the planner's own, mostly. A test compares the two lists.
pub(super) const OURS: [&str; 42] = [
    "add",
    "addend",
    "as_binary",
    "as_boolean",
    "as_counted",
    "as_double",
    "as_hashable",
    "as_integral",
    "as_long",
    "as_measure",
    "as_normal",
    "as_ordered",
    "as_sketched",
    "as_text",
    "average",
    "bitwise_not",
    "divide",
    "divide_interval",
    "get_field",
    "get_item",
    "hash_for_count",
    "in_list",
    "integral_divide",
    "ltrim_chars",
    "map_of",
    "max_by_several",
    "min_by_several",
    "move_time",
    "multiply",
    "multiply_interval",
    "rand_of_row",
    "randn_of_row",
    "randstr_of_row",
    "remainder",
    "rtrim_chars",
    "shuffle_of_row",
    "subtract",
    "summand",
    "time_difference",
    "typed_literal",
    "uniform_between",
    "uuid_of_row",
];

/// Everything of ours alone in a statement. `flow` is what its query does, if it is one that runs as a stream.
pub(super) fn problems(statement: &OutlineStatement, flow: Option<&FlowMode>) -> Vec<Problem> {
    let words = &statement.words;
    let is =
        |at: usize, text: &str| words.get(at).is_some_and(|word| word.kind == WordKind::Plain && word.text == text);
    let sign =
        |at: usize, text: &str| words.get(at).is_some_and(|word| word.kind == WordKind::Other && word.text == text);
    let reads_streams = flow.is_some();
    let mut problems = Vec::new();
    for (at, word) in words.iter().enumerate().filter(|(_, word)| word.kind == WordKind::Plain) {
        let before = at.wrapping_sub(1);
        let found = match word.text.as_str() {
            "DISTINCT" if is(at + 1, "ON") => Some((
                "DISTINCT ON (...) is Highwater's; Spark's SQL has no deduplication by key",
                "group by the key and take min_by or max_by of the other columns, or run this flow on Highwater",
            )),
            "DISTINCT" if reads_streams && sign(before, "(") => Some((
                "Spark has no DISTINCT in aggregates over streams",
                "use approx_count_distinct, or a materialized view, which Spark computes whole",
            )),
            "DISTINCT" if is(before, "SELECT") && flow.is_some_and(FlowMode::has_no_watermark) => Some((
                "Spark takes SELECT DISTINCT over a stream only with a watermark",
                "add one: FROM STREAM t WATERMARK ts DELAY OF INTERVAL ..., and select its column",
            )),
            "OVER" if reads_streams && (sign(at + 1, "(") || sign(before, ")")) => Some((
                "Spark has no window functions (OVER) over streams",
                "aggregate over window(ts, '...'), or make it a materialized view",
            )),
            "ANTI" if reads_streams && joins_stream(statement, at) => Some((
                "Spark has no anti join of two streams",
                "use a LEFT JOIN with a bound on time and keep the rows whose other side is null",
            )),
            "STATE" if sign(at + 1, "(") && (is(before, "FROM") || is(before, "JOIN")) => Some((
                "state(...) is Highwater's: it reads the state of a query of its own",
                "leave it out; Spark reads state with its format 'statestore'",
            )),
            name if sign(at + 1, "(") && OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) => {
                Some(("Spark has no function of this name", "use a function of Spark's"))
            }
            _ => None,
        };
        problems.extend(found.map(|(message, help)| problem(word, message, help)));
    }
    problems
}

fn problem(word: &OutlineWord, message: &str, help: &str) -> Problem {
    Problem { message: message.to_owned(), help: help.to_owned(), place: super::ProblemPlace::Span(word.span) }
}

/// Whether the relation after the word at `at` is a stream.
fn joins_stream(statement: &OutlineStatement, at: usize) -> bool {
    let next = statement.reads.iter().find(|read| read.word > at);
    next.is_some_and(|read| read.stream.is_some())
}

impl FlowMode {
    fn has_no_watermark(&self) -> bool {
        self.mode == OutputMode::Append && !self.has_watermark
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use highwater_engine::plan::ScriptFile;
    use highwater_engine::plan::functions::{SessionSettings, session_state};
    use highwater_engine::plan::outline::outline;

    use super::*;

    fn check(query: &str, has_watermark: bool, expected: &[&str]) {
        let text = format!("CREATE STREAMING TABLE t AS {query}");
        let Ok(statements) = outline(&[ScriptFile { name: "a.sql".to_owned(), text }]) else { panic!("{query}") };
        let flow = FlowMode {
            name: "t".to_owned(),
            mode: OutputMode::Append,
            has_watermark,
            target: None,
            columns: std::sync::Arc::new(arrow::datatypes::Schema::empty()),
            given_columns: Vec::new(),
        };
        let found = problems(&statements[0], Some(&flow));
        let words: Vec<&str> = found.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(words, expected, "{query}");
    }

    #[test]
    fn what_spark_refuses_is_found() {
        check("SELECT k, count(*) FROM STREAM s GROUP BY k", true, &[]);
        check("SELECT DISTINCT k FROM STREAM s", true, &[]);
        check(
            "SELECT DISTINCT k FROM STREAM s",
            false,
            &["Spark takes SELECT DISTINCT over a stream only with a watermark"],
        );
        check(
            "SELECT DISTINCT ON (k) k FROM STREAM s",
            true,
            &["DISTINCT ON (...) is Highwater's; Spark's SQL has no deduplication by key"],
        );
        check("SELECT count(DISTINCT k) FROM STREAM s", true, &["Spark has no DISTINCT in aggregates over streams"]);
        check(
            "SELECT row_number() OVER (PARTITION BY k ORDER BY ts) FROM STREAM s",
            true,
            &["Spark has no window functions (OVER) over streams"],
        );
        check("SELECT a.k FROM STREAM a LEFT ANTI JOIN b ON a.k = b.k", true, &[]);
        check(
            "SELECT a.k FROM STREAM a LEFT ANTI JOIN STREAM b ON a.k = b.k",
            true,
            &["Spark has no anti join of two streams"],
        );
        check(
            "SELECT * FROM state('q', 'o')",
            true,
            &["state(...) is Highwater's: it reads the state of a query of its own"],
        );
    }

    /// `functions.txt` is what SHOW FUNCTIONS of Spark 4.3 answers.
    #[test]
    fn functions_that_spark_does_not_have_are_listed() {
        let session = session_state(&SessionSettings::default()).unwrap();
        let ours: BTreeSet<String> = session
            .scalar_functions()
            .keys()
            .chain(session.aggregate_functions().keys())
            .map(|name| name.to_lowercase())
            .collect();
        let sparks: BTreeSet<&str> = include_str!("functions.txt").lines().collect();
        // Words of Spark's grammar, and names that no query can write.
        let is_syntax = |name: &str| ["timestampadd", "timestampdiff", "try_cast"].contains(&name);
        let callable = |name: &&String| {
            name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') && !is_syntax(name)
        };
        let alone: Vec<&String> = ours.iter().filter(|name| !sparks.contains(name.as_str())).filter(callable).collect();
        assert_eq!(alone, OURS.iter().collect::<Vec<_>>());
    }
}
