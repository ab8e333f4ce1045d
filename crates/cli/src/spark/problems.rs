//! Spark's errors with the user's file, line and column in the place of Spark's.
//!
//! ```text
//!   Failed to resolve flow: 'spark_catalog.default.t'.
//!   Error: [UNRESOLVED_COLUMN...] A column ... cannot be resolved. SQLSTATE: 42703; line 4 pos 10;
//!                                                                   of the statement that was sent for t
//! ```

use std::collections::BTreeMap;

use highwater_engine::plan::ScriptFile;

use super::translate::{Element, ElementKind, SentText};
use crate::error::{Failure, Place};

/// Which part of the project each flow is, by the last part of its name in lower case.
pub(crate) struct Origins<'a> {
    files: &'a [ScriptFile],
    elements: BTreeMap<String, &'a Element>,
}

impl<'a> Origins<'a> {
    /// Of all that is sent.
    pub(crate) fn new(files: &'a [ScriptFile], elements: &'a [Element]) -> Self {
        let named = elements.iter().map(|element| (name_of(element).to_lowercase(), element));
        Self { files, elements: named.collect() }
    }

    /// What Spark says of a flow that failed, or of none, as a failure that points into the project.
    pub(crate) fn failure(&self, flow: Option<&str>, text: &str) -> Failure {
        let element = flow.and_then(|flow| self.elements.get(&last_part(flow).to_lowercase()).copied());
        let failure = Failure::invalid(match flow {
            Some(flow) => format!("flow '{}': {}", last_part(flow), sentence(text)),
            None => sentence(text),
        });
        match element {
            Some(element) => failure.at(self.place(element, text)),
            None => failure,
        }
    }

    /// What Spark says of a part that it does not take.
    pub(crate) fn refusal(&self, element: &Element, text: &str) -> Failure {
        Failure::invalid(format!("Spark does not take '{}': {}", name_of(element), sentence(text)))
            .at(self.place(element, text))
    }

    fn place(&self, element: &Element, text: &str) -> Place {
        let file = &self.files[element.file];
        let sent = match &element.kind {
            ElementKind::Sql { text, .. } | ElementKind::SinkFlow { query: text, .. } => Some(text),
            ElementKind::Source { .. } | ElementKind::Sink { .. } => None,
        };
        let at = |sent: &SentText| {
            let (line, position) = position(text)?;
            sent.origin(line, position)
        };
        match sent.and_then(at) {
            Some(offset) => Place::at_offset(&file.name, &file.text, offset, word_length(&file.text, offset)),
            None => Place::in_text(&file.name, &file.text, element.span),
        }
    }
}

fn name_of(element: &Element) -> &str {
    match &element.kind {
        ElementKind::Source { name, .. }
        | ElementKind::Sink { name, .. }
        | ElementKind::SinkFlow { name, .. }
        | ElementKind::Sql { name, .. } => name,
    }
}

/// `t` of `spark_catalog.default.t`.
pub(crate) fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name).trim_matches('`')
}

/// The flow an event or error speaks of, which is the first name after the word, and what stands behind it.
pub(crate) fn at_flow(text: &str) -> Option<(&str, &str)> {
    let rest = &text[text.to_ascii_lowercase().find("flow")?..];
    let rest = rest.split_once(['\'', ' '])?.1.trim_start_matches(['\'', ' ', ':']);
    let rest = rest.strip_prefix('\'').unwrap_or(rest);
    let end = rest.find(|letter: char| letter == '\'' || letter.is_whitespace()).unwrap_or(rest.len());
    let (flow, behind) = rest.split_at(end);
    (end > 0).then(|| (flow, behind.strip_prefix('\'').unwrap_or(behind)))
}

/// The first sentence of an error: without the plan, the stack and Spark's place.
fn sentence(text: &str) -> String {
    let text = text.split_once("Error: ").map_or(text, |(_, error)| error).trim();
    // An error of a query names the one that ended it behind its own.
    let text = text.split_once("terminated with exception: ").map_or(text, |(_, cause)| cause);
    let ends = [
        " SQLSTATE:",
        "; line ",
        "\n== SQL",
        "\n'",
        "\n+-",
        "\n=== Streaming Query",
        "\nJVM stacktrace",
        "\n\nOffending query:",
    ];
    let end = ends.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    text[..end].trim().trim_end_matches(';').replace('\n', " ")
}

/// Spark's place: `line 4 pos 10`, counted from 1 and from 0, or `== SQL (line 1, position 38) ==`, both from 1.
fn position(text: &str) -> Option<(usize, usize)> {
    let number = |text: &str| -> Option<usize> {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let after = |mark: &str| text.find(mark).map(|at| &text[at + mark.len()..]);
    if let Some(rest) = after("(line ") {
        let position = rest.split_once("position ")?.1;
        return Some((number(rest)?, number(position)?.checked_sub(1)?));
    }
    let rest = after("line ")?;
    Some((number(rest)?, number(rest.split_once("pos ")?.1)?))
}

fn word_length(text: &str, offset: usize) -> usize {
    let rest = text.get(offset..).unwrap_or_default();
    rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').count().max(1)
}

#[cfg(test)]
mod tests {
    use highwater_engine::error::Span;

    use super::*;

    const FILE: &str = "-- first\nCREATE STREAMING TABLE t AS\n  SELECT kk, 1 / v FROM STREAM s;\n";

    #[track_caller]
    fn check(flow: Option<&str>, text: &str, expected: &str) {
        let files = [ScriptFile { name: "t.sql".to_owned(), text: FILE.to_owned() }];
        let sent = SentText::new(FILE, 9..FILE.len() - 2, &[]);
        let kind = ElementKind::Sql { name: "t".to_owned(), text: sent };
        let elements = [Element { file: 0, span: Span { line: 2, column: 1, length: 6 }, kind }];
        assert_eq!(Origins::new(&files, &elements).failure(flow, text).render(false), expected);
    }

    #[test]
    fn errors_point_at_the_users_text() {
        check(
            Some("spark_catalog.default.t"),
            "Failed to resolve flow: 'spark_catalog.default.t'.\nError: [UNRESOLVED_COLUMN.WITH_SUGGESTION] A column with \
             name `kk` cannot be resolved. SQLSTATE: 42703; line 2 pos 9;\n'Project ['kk]\n+- x",
            "error: flow 't': [UNRESOLVED_COLUMN.WITH_SUGGESTION] A column with name `kk` cannot be resolved.\n  --> \
             t.sql:3:10\n   |\n 3 |   SELECT kk, 1 / v FROM STREAM s;\n   |          ^^\n",
        );
        check(
            Some("t"),
            "Flow 't' has FAILED.\nError: [STREAM_FAILED] Query [id = 1] terminated with exception: [DIVIDE_BY_ZERO] \
             Division by zero. SQLSTATE: 22012\n== SQL (line 2, position 14) ==\n SELECT\n",
            "error: flow 't': [DIVIDE_BY_ZERO] Division by zero.\n  --> t.sql:3:14\n   |\n 3 |   SELECT kk, 1 / v FROM \
             STREAM s;\n   |              ^\n",
        );
        check(
            Some("t"),
            "it broke",
            "error: flow 't': it broke\n  --> t.sql:2:1\n   |\n 2 | CREATE STREAMING TABLE t AS\n   | ^^^^^^\n",
        );
        check(None, "all is lost", "error: all is lost\n");
    }

    #[test]
    fn events_say_which_flow_they_are_of() {
        for (text, expected) in [
            ("Flow spark_catalog.default.st5 is QUEUED.", Some(("spark_catalog.default.st5", " is QUEUED."))),
            (
                "Failed to resolve flow: 'spark_catalog.default.t'.\nError",
                Some(("spark_catalog.default.t", ".\nError")),
            ),
            ("Flow 'a.b' has FAILED more than 2 times", Some(("a.b", " has FAILED more than 2 times"))),
            ("Run is COMPLETED.", None),
        ] {
            assert_eq!(at_flow(text), expected, "{text}");
        }
    }
}
