//! What a command fails with, and how a person reads it.
//!
//! ```text
//! error: column 'amuont' is not in payments
//!   --> fraud.sql:4:12
//!    |
//!  4 | SELECT sum(amuont) FROM STREAM payments
//!    |            ^^^^^^
//! help: did you mean 'amount'?
//! ```
//!
//! The kind of a [`Failure`] is its exit code: 1 something failed at run time, 2 the command line is wrong, 3 the
//! project, the configuration or the SQL is wrong, 4 data is not what it must be, 130 the user insisted on the end. Secrets that were resolved for this process never reach the text.

use std::fmt::Write as _;
use std::process::ExitCode;

use highwater_engine::error::{EngineError, Span};
use highwater_engine::plan::ScriptError;

use crate::config::secrets::redact;
use crate::run::ABORTED;

/// The result of everything in the command line that can fail.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure(Box<Report>);

#[derive(Debug)]
struct Report {
    kind: Kind,
    message: String,
    place: Option<Place>,
    help: Option<String>,
    also: Vec<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Runtime,
    Usage,
    Invalid,
    Check,
    Aborted,
}

/// A place in a text file, with the text to show it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: String,
    span: Option<Span>,
    line_text: Option<String>,
}

impl Place {
    /// A whole file.
    pub(crate) fn file(file: impl Into<String>) -> Self {
        Self { file: file.into(), span: None, line_text: None }
    }

    /// A place in `text`, which is the content of `file`.
    pub(crate) fn in_text(file: impl Into<String>, text: &str, span: Span) -> Self {
        let index = usize::try_from(span.line).unwrap_or(usize::MAX).saturating_sub(1);
        Self { file: file.into(), span: Some(span), line_text: text.lines().nth(index).map(str::to_owned) }
    }

    /// The place of the byte `offset` of `text`.
    pub(crate) fn at_offset(file: impl Into<String>, text: &str, offset: usize, length: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() as u64 + 1;
        let column = before[line_start..].chars().count() as u64 + 1;
        Self::in_text(file, text, Span { line, column, length: length.max(1) as u64 })
    }
}

/// A whole line.
pub(crate) fn line_span(line: usize) -> Span {
    Span { line: line as u64, column: 1, length: u64::from(u32::MAX) }
}

impl Failure {
    /// Something failed while it ran: exit code 1.
    pub(crate) fn runtime(message: impl Into<String>) -> Self {
        Self::new(Kind::Runtime, message)
    }

    /// The command line is wrong: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The project, the configuration or the SQL is wrong: exit code 3.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// Data was checked and is not what it must be: exit code 4.
    pub(crate) fn check(message: impl Into<String>) -> Self {
        Self::new(Kind::Check, message)
    }

    /// The user pressed Ctrl-C a second time: exit code 130.
    pub(crate) fn aborted(message: impl Into<String>) -> Self {
        Self::new(Kind::Aborted, message)
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Report { kind, message: message.into(), place: None, help: None, also: Vec::new() }))
    }

    /// What happened, without its place and next step.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The same failure with its next step.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// The same failure with the place it is about.
    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// The same failure with what it happened to in front: `query 'q': ...`.
    #[must_use]
    pub(crate) fn within(mut self, object: &str) -> Self {
        if !self.0.message.starts_with(object) {
            self.0.message = format!("{object}: {}", self.0.message);
        }
        self
    }

    /// The same failure with others that happened beside it.
    #[must_use]
    pub(crate) fn and(mut self, others: impl IntoIterator<Item = Failure>) -> Self {
        self.0.also.extend(others);
        self
    }

    /// Whether it failed while it ran, so that another start may do better.
    pub(crate) fn is_runtime(&self) -> bool {
        self.0.kind == Kind::Runtime
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.0.kind {
            Kind::Runtime => 1,
            Kind::Usage => 2,
            Kind::Invalid => 3,
            Kind::Check => 4,
            Kind::Aborted => ABORTED,
        })
    }

    /// The failure as it is printed, with a newline at the end; coloured for a terminal.
    pub(crate) fn render(&self, coloured: bool) -> String {
        let paint = Paint { coloured };
        let mut text = String::new();
        self.0.render(&paint, &mut text);
        for other in &self.0.also {
            text.push('\n');
            other.0.render(&paint, &mut text);
        }
        text
    }
}

impl Report {
    fn render(&self, paint: &Paint, out: &mut String) {
        let _ = writeln!(out, "{} {}", paint.bold_red("error:"), redact(&self.message));
        if let Some(place) = &self.place {
            render_place(place, paint, out);
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "{} {}", paint.bold("help:"), redact(help));
        }
    }
}

fn render_place(place: &Place, paint: &Paint, out: &mut String) {
    let Some(Span { line, column, length }) = place.span else {
        let _ = writeln!(out, "  {} {}", paint.dim("-->"), place.file);
        return;
    };
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let _ = writeln!(out, " {gutter}{} {}:{line}:{column}", paint.dim("-->"), place.file);
    let Some(text) = &place.line_text else { return };
    let before: String = text.chars().take(usize::try_from(column).unwrap_or(1).saturating_sub(1)).collect();
    let rest: String = text.chars().skip(before.chars().count()).collect();
    let (before, rest) = (plain(&before), plain(&rest));
    let marks = usize::try_from(length).unwrap_or(1).clamp(1, rest.trim_end().chars().count().max(1));
    let _ = writeln!(out, " {gutter} {}", paint.dim("|"));
    let _ = writeln!(out, " {} {} {before}{}", paint.dim(&number), paint.dim("|"), rest.trim_end());
    let indent = " ".repeat(before.chars().count());
    let _ = writeln!(out, " {gutter} {} {indent}{}", paint.dim("|"), paint.bold_red(&"^".repeat(marks)));
}

/// One column a character, so that the carets stand under what they mean; no secrets.
fn plain(text: &str) -> String {
    redact(text).replace('\t', " ")
}

/// Terminal colours, or none.
struct Paint {
    coloured: bool,
}

impl Paint {
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn bold_red(&self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    fn dim(&self, text: &str) -> String {
        self.wrap("2", text)
    }
}

/// What to fix decides the exit code: the query and the configuration are the user's, the rest happened while running.
impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::Query(_) | EngineError::Config(_) => Kind::Invalid,
            EngineError::Unavailable(_) | EngineError::Data(_) | EngineError::Internal(_) => Kind::Runtime,
        };
        let failure = Self::new(kind, error.to_string());
        match error.next_step() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

/// An error in a script points at its line.
impl From<ScriptError> for Failure {
    fn from(script: ScriptError) -> Self {
        let span = script.error.span();
        let failure = Self::from(script.error);
        match span {
            Some(span) if !script.text.is_empty() => failure.at(Place::in_text(script.file, &script.text, span)),
            _ if !script.file.is_empty() => failure.at(Place::file(script.file)),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_with_its_line_and_carets() {
        let text = "-- totals\nSELECT sum(amuont)\nFROM STREAM payments\n";
        let failure = Failure::invalid("column 'amuont' is not in payments")
            .at(Place::at_offset("fraud.sql", text, text.find("amuont").unwrap(), 6))
            .help("did you mean 'amount'?");
        let expected = "error: column 'amuont' is not in payments\n  --> fraud.sql:2:12\n   |\n 2 | SELECT \
                        sum(amuont)\n   |            ^^^^^^\nhelp: did you mean 'amount'?\n";
        assert_eq!(failure.render(false), expected);
    }

    #[test]
    fn carets_keep_their_place_after_tabs_and_wide_letters() {
        let text = "\tSELECT 'é', x FROM t";
        let failure = Failure::invalid("no column x").at(Place::at_offset("q.sql", text, text.find('x').unwrap(), 99));
        let shown = failure.render(false);
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[4].find('^').unwrap();
        assert_eq!(lines[3].chars().nth(caret), Some('x'), "{shown}");
        assert!(lines[4].ends_with("^^^^^^^^"), "the carets end with the line: {shown}");
    }

    #[test]
    fn the_kind_of_an_engine_error_is_the_exit_code() {
        let code = |error: EngineError| format!("{:?}", Failure::from(error).exit_code());
        assert_eq!(code(EngineError::query("no")), format!("{:?}", ExitCode::from(3)));
        assert_eq!(code(EngineError::config("no")), format!("{:?}", ExitCode::from(3)));
        assert_eq!(code(EngineError::unavailable("no")), format!("{:?}", ExitCode::from(1)));
    }
}
