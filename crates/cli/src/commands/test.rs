//! `highwater test`: runs a project's tests and tells what is not as they say.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::run::Subject;
use crate::error::{Failure, Result};
use crate::output::Format;
use crate::output::columns::{counts, texts, write_columns, write_json_lines};
use crate::project::Project;
use crate::rehearsal::{self, Outcome, Problem, TestFile};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    subject: Subject,
    /// A file of tests, or a folder of them; the project's folder tests if not given
    #[arg(long, value_name = "PATH")]
    tests: Option<PathBuf>,
    /// Only tests whose name or file has this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How the result is printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

const EXAMPLES: &str = "\
Examples:
  highwater test shop                          # exit code 4 if a test fails
  highwater test shop --filter alerts
  highwater test totals.sql --tests totals.test.yml --output json

A test gives rows and expects rows; nothing outside is touched (tests/totals.yml):
  tests:
    - name: payments are summed
      given:
        payments:
          - {card_id: a, amount: 1.5, ts: 2024-01-01 00:00:01}
          - {card_id: a, amount: 2.5, ts: 2024-01-01 00:00:02}
      expect:
        totals:
          - {card_id: a, amount: 4.0}";

/// A finished test, as JSON has it.
#[derive(Serialize)]
struct Finished {
    test: String,
    file: String,
    line: u64,
    result: &'static str,
    problems: Vec<Told>,
}

/// A problem, as JSON has it.
#[derive(Serialize)]
struct Told {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unexpected: Option<Vec<Vec<String>>>,
}

/// Runs the tests.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let project = arguments.subject.load_for_tests()?;
    let mut finished = Vec::new();
    for path in test_files(&project, arguments.tests.as_deref())? {
        let file = TestFile::load(&path)?;
        let project = arguments.subject.load_with(&file.parameters)?;
        for test in &file.tests {
            let wanted = |text: &String| test.name.contains(text) || file.source.file.contains(text);
            if !arguments.filter.as_ref().is_none_or(wanted) {
                continue;
            }
            let outcome = rehearsal::run(&project, &file, test)?;
            let done = Finished::of(&test.name, &file.source.file, test.line, &outcome);
            tell(&done, &outcome);
            finished.push(done);
        }
    }
    if finished.is_empty() {
        return Err(match &arguments.filter {
            Some(text) => Failure::usage(format!("no test has '{text}' in its name or file"))
                .help("see the tests there are: highwater test without --filter"),
            None => Failure::invalid("the files have no tests").help("see highwater test --help for one"),
        });
    }
    report(&finished, arguments.output)
}

fn report(finished: &[Finished], format: Format) -> Result<ExitCode> {
    let out = &mut std::io::stdout().lock();
    if format == Format::Json {
        write_json_lines(finished, out)?;
    } else {
        let place = |test: &Finished| Some(format!("{}:{}", test.file, test.line));
        let columns = [
            ("test", texts(finished.iter().map(|test| Some(test.test.clone())))),
            ("file", texts(finished.iter().map(place))),
            ("result", texts(finished.iter().map(|test| Some(test.result.to_owned())))),
            ("problems", counts(finished.iter().map(|test| Some(test.problems.len() as u64)))),
        ];
        write_columns(format, columns, out)?;
    }
    let failed = finished.iter().filter(|test| test.result != PASSED).count();
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::check(format!("{failed} of {} tests failed", finished.len())))
}

const PASSED: &str = "passed";

/// The files of tests there are.
fn test_files(project: &Project, given: Option<&Path>) -> Result<Vec<PathBuf>> {
    let folder = given.map_or_else(|| project.root.join("tests"), Path::to_owned);
    if folder.is_file() {
        return Ok(vec![folder]);
    }
    let pattern = format!("{}/**/*.yml", glob::Pattern::escape(&folder.display().to_string()));
    let also = pattern.replace("*.yml", "*.yaml");
    let mut files: Vec<PathBuf> = [pattern, also]
        .iter()
        .filter_map(|pattern| glob::glob(pattern).ok())
        .flat_map(|paths| paths.filter_map(Result::ok))
        .collect();
    files.sort();
    if files.is_empty() {
        let failure =
            Failure::invalid(format!("{} has no tests: there is no file {}/*.yml", project.name, folder.display()));
        return Err(failure.help("write one, see highwater test --help, or name a file with --tests"));
    }
    Ok(files)
}

impl Finished {
    fn of(name: &str, file: &str, line: u64, outcome: &Outcome) -> Self {
        let result = if outcome.problems.is_empty() { PASSED } else { "failed" };
        let problems = outcome.problems.iter().map(Told::of).collect();
        Self { test: name.to_owned(), file: file.to_owned(), line, result, problems }
    }
}

impl Told {
    fn of(problem: &Problem) -> Self {
        let mut told = Self { message: message(problem), table: None, columns: None, missing: None, unexpected: None };
        if let Problem::Rows { table, difference, .. } = problem {
            told.table = Some(table.clone());
            told.columns = Some(difference.columns.clone());
            told.missing = Some(difference.missing.clone());
            told.unexpected = Some(difference.unexpected.clone());
        }
        told
    }
}

fn message(problem: &Problem) -> String {
    match problem {
        Problem::Rows { table, when, difference } => format!("table {table} {when}: {}", difference.summary()),
        Problem::Failed { step, failure } => format!("step {step} failed: {}", failure.message()),
        Problem::DidNotFail { step, expected, found: None } => {
            format!("step {step} did not fail, expected an error with '{expected}'")
        }
        Problem::DidNotFail { step, expected, found: Some(found) } => {
            format!("step {step} failed with '{found}', expected an error with '{expected}'")
        }
    }
}

/// A failed test for people, with its rows.
fn tell(test: &Finished, outcome: &Outcome) {
    if outcome.problems.is_empty() {
        return;
    }
    let mut text = format!("failed: {} ({}:{})\n", test.test, test.file, test.line);
    for problem in &outcome.problems {
        text += &format!("  {}\n", message(problem));
        if let Problem::Rows { difference, .. } = problem {
            text += &difference.rows();
        }
    }
    // Nowhere is left to say that stderr is gone.
    let _ = std::io::stderr().lock().write_all(crate::config::secrets::redact(&text).as_bytes());
}
