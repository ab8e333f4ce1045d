//! A file of tests.
//!
//! ```yaml
//! now: 2024-01-01 00:00:00           # what the clock shows at first; times without a zone are UTC
//! parameters: {bootstrap: unused}    # for ${name} in the SQL text; --param wins
//! columns:                           # of tables that declare none: nothing is looked for outside
//!   lines: value STRING
//! tests:
//!   - name: a burst is an alert
//!     given:                         # rows that are there before the first step
//!       cards: cards.csv             # a file of the project: .csv with a header, .json with an object a line
//!     steps:
//!       - advance: 10 seconds        # moves the clock
//!         input:
//!           payments:                # rows as mappings, or as text in CSV
//!             - {card_id: c1, amount: 500.0, ts: 2024-01-01 00:00:01}
//!         emits: {alerts: []}        # what this step wrote
//!         expect: {totals: [{n: 1}]} # the table after this step
//!       - fails: DIVIDE_BY_ZERO      # the step's run fails with an error that has this text
//!     expect:                        # the table at the end
//!       alerts: {ordered: true, rows: [{card_id: c1, payments: 4}]}
//! ```
//!
//! Without `steps` the test is one run over what is given. Unknown keys are errors with their place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use chrono::{DateTime, NaiveDateTime};
use highwater_engine::error::Span;
use highwater_engine::plan::ddl;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use crate::config::yaml;
use crate::duration;
use crate::error::{Failure, Place, Result};

/// What the clock shows when the file does not say: 2024-01-01 00:00:00.
const DEFAULT_NOW_MS: i64 = 1_704_067_200_000;

/// A file of tests.
#[derive(Debug)]
pub(crate) struct TestFile {
    pub(crate) source: Source,
    pub(crate) now_ms: i64,
    pub(crate) parameters: BTreeMap<String, String>,
    /// By table in lower case.
    pub(crate) columns: BTreeMap<String, SchemaRef>,
    pub(crate) tests: Vec<Test>,
}

/// A file's name and text, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: String,
    text: Arc<str>,
}

/// One test.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    /// The line its name stands in.
    pub(crate) line: u64,
    pub(crate) steps: Vec<Step>,
    /// The tables at the end.
    pub(crate) expect: Vec<TableRows>,
}

/// One start of the pipeline.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) advance: Duration,
    pub(crate) input: Vec<TableRows>,
    pub(crate) emits: Vec<TableRows>,
    pub(crate) expect: Vec<TableRows>,
    pub(crate) fails: Option<String>,
}

/// Rows of a table as the file has them.
#[derive(Debug, Clone)]
pub(crate) struct TableRows {
    pub(crate) table: String,
    pub(crate) place: Place,
    pub(crate) rows: Rows,
    /// Whether their order matters.
    pub(crate) ordered: bool,
}

/// Rows, wherever they are.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// Each with its place.
    Inline(Vec<(BTreeMap<String, Value>, Place)>),
    /// A file of the project.
    File(String),
    /// CSV with a header.
    Csv(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    now: Option<Spanned<String>>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    #[serde(default)]
    columns: BTreeMap<String, Spanned<String>>,
    tests: Vec<TestYml>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestYml {
    name: Spanned<String>,
    #[serde(default)]
    given: Tables,
    steps: Option<Vec<StepYml>>,
    #[serde(default)]
    expect: Tables,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StepYml {
    advance: Option<Spanned<String>>,
    input: Tables,
    emits: Tables,
    expect: Tables,
    fails: Option<String>,
}

type Tables = BTreeMap<String, Spanned<RowsYml>>;

/// Rows in one of their spellings.
#[derive(Debug, Default)]
struct RowsYml {
    ordered: bool,
    rows: RowsOf,
}

#[derive(Debug)]
enum RowsOf {
    Inline(Vec<Spanned<BTreeMap<String, Value>>>),
    Text(String),
}

impl Default for RowsOf {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

impl<'de> Deserialize<'de> for RowsYml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RowsVisitor { may_nest: true })
    }
}

struct RowsVisitor {
    may_nest: bool,
}

impl<'de> Visitor<'de> for RowsVisitor {
    type Value = RowsYml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows: a list of mappings, the name of a file, or CSV text")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RowsYml, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = seq.next_element()? {
            rows.push(row);
        }
        Ok(RowsYml { ordered: false, rows: RowsOf::Inline(rows) })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RowsYml, E> {
        Ok(RowsYml { ordered: false, rows: RowsOf::Text(text.to_owned()) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RowsYml, A::Error> {
        const KEYS: &[&str] = &["ordered", "rows"];
        if !self.may_nest {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        }
        let mut found = RowsYml::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "ordered" => found.ordered = map.next_value()?,
                "rows" => found.rows = map.next_value::<InnerRows>()?.0.rows,
                other => return Err(de::Error::unknown_field(other, KEYS)),
            }
        }
        Ok(found)
    }
}

/// Rows without options around them.
struct InnerRows(RowsYml);

impl<'de> Deserialize<'de> for InnerRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RowsVisitor { may_nest: false }).map(Self)
    }
}

impl TestFile {
    /// Reads a file of tests.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::runtime(format!("{file} cannot be read: {error}")))?;
        Self::parse(&file, &text)
    }

    /// The tests in `text`, the content of `file`.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self> {
        let parsed: File = yaml::parse(file, text)?;
        let source = Source { file: file.to_owned(), text: text.into() };
        let now_ms = parsed.now.as_ref().map_or(Ok(DEFAULT_NOW_MS), |now| {
            let message = || format!("'{}' is not a time such as 2024-01-01 00:00:00", now.value);
            time_ms(&now.value).ok_or_else(|| source.failure(now.referenced, message(), &now.value))
        })?;
        let mut columns = BTreeMap::new();
        for (table, ddl) in &parsed.columns {
            let schema: Schema = ddl::parse_schema(&ddl.value)
                .map_err(|error| source.failure(ddl.referenced, error.to_string(), &ddl.value))?;
            columns.insert(table.to_lowercase(), Arc::new(schema));
        }
        let tests: Vec<Test> = parsed.tests.into_iter().map(|test| source.test(test)).collect::<Result<_>>()?;
        Ok(Self { now_ms, parameters: parsed.parameters, columns, tests, source })
    }
}

impl Source {
    fn failure(&self, location: Location, message: String, value: &str) -> Failure {
        yaml::failure_at(&self.file, &self.text, location, message, value.chars().count())
    }

    fn test(&self, test: TestYml) -> Result<Test> {
        let given = self.tables(test.given);
        let steps = test.steps.unwrap_or_else(|| vec![StepYml::default()]);
        let mut steps: Vec<Step> = steps.into_iter().map(|step| self.step(step)).collect::<Result<_>>()?;
        match steps.first_mut() {
            // What is given stands before the first step's own rows.
            Some(first) => first.input = given.into_iter().chain(std::mem::take(&mut first.input)).collect(),
            None => {
                let message = format!("test '{}' has no steps", test.name.value);
                return Err(self
                    .failure(test.name.referenced, message, &test.name.value)
                    .help("leave 'steps' out to run once over what is given"));
            }
        }
        let line = test.name.referenced.line();
        Ok(Test { name: test.name.value, line, steps, expect: self.tables(test.expect) })
    }

    fn step(&self, step: StepYml) -> Result<Step> {
        let advance = match &step.advance {
            None => Duration::ZERO,
            Some(text) => {
                duration::parse(&text.value).map_err(|message| self.failure(text.referenced, message, &text.value))?
            }
        };
        Ok(Step {
            advance,
            input: self.tables(step.input),
            emits: self.tables(step.emits),
            expect: self.tables(step.expect),
            fails: step.fails,
        })
    }

    fn tables(&self, tables: Tables) -> Vec<TableRows> {
        let rows = |(table, rows): (String, Spanned<RowsYml>)| {
            let place = self.key_place(&table, rows.referenced);
            let RowsYml { ordered, rows } = rows.value;
            let rows = match rows {
                RowsOf::Inline(rows) => {
                    Rows::Inline(rows.into_iter().map(|row| (row.value, self.place(row.referenced, 1))).collect())
                }
                RowsOf::Text(text) if text.contains('\n') => Rows::Csv(text),
                RowsOf::Text(text) => Rows::File(text),
            };
            TableRows { table, place, rows, ordered }
        };
        tables.into_iter().map(rows).collect()
    }

    fn place(&self, location: Location, length: usize) -> Place {
        if location == Location::UNKNOWN {
            return Place::file(self.file.clone());
        }
        let span = Span { line: location.line(), column: location.column(), length: length.max(1) as u64 };
        Place::in_text(self.file.clone(), &self.text, span)
    }

    /// The place of the key whose value stands at `value`: the last line up to there that has it.
    fn key_place(&self, key: &str, value: Location) -> Place {
        let line = usize::try_from(value.line()).unwrap_or(usize::MAX);
        let lines: Vec<&str> = self.text.lines().take(line).collect();
        let found = lines.iter().enumerate().rev().find_map(|(at, line)| {
            let column = line.find(&format!("{key}:")).or_else(|| line.find(&format!("{key}\":")))?;
            Some((at as u64 + 1, line[..column].chars().count() as u64 + 1))
        });
        match found {
            Some((line, column)) => {
                let span = Span { line, column, length: key.chars().count() as u64 };
                Place::in_text(self.file.clone(), &self.text, span)
            }
            None => self.place(value, 1),
        }
    }
}

fn time_ms(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let time = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || NaiveDateTime::parse_from_str(&format!("{text} 00:00:00"), formats[0]).ok();
    Some(time.or_else(day)?.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\
now: 2024-05-01T10:00:00Z
columns: {lines: value STRING}
tests:
  - name: first
    given:
      pages: pages.csv
    steps:
      - input:
          ev:
            - {k: a, n: 1}
            - {k: b}
      - advance: 10 seconds
        emits: {out: []}
    expect:
      out: {ordered: true, rows: [{k: a}]}
  - name: second
    given:
      ev: |
        k,n
        a,1
";

    #[test]
    fn every_spelling_is_read() {
        let file = TestFile::parse("t.yml", WHOLE).map_err(|failure| failure.render(false)).unwrap();
        assert_eq!(file.now_ms, 1_714_557_600_000);
        assert_eq!(file.columns["lines"].field(0).name(), "value");
        let [first, second] = file.tests.as_slice() else { panic!("{:?}", file.tests) };
        assert_eq!((first.name.as_str(), first.line, first.steps.len()), ("first", 4, 2));
        let inputs: Vec<&str> = first.steps[0].input.iter().map(|rows| rows.table.as_str()).collect();
        assert_eq!(inputs, ["pages", "ev"]);
        assert!(matches!(&first.steps[0].input[0].rows, Rows::File(name) if name == "pages.csv"));
        assert!(matches!(&first.steps[0].input[1].rows, Rows::Inline(rows) if rows.len() == 2));
        assert_eq!(first.steps[1].advance, Duration::from_secs(10));
        assert!(first.expect[0].ordered);
        assert!(matches!(&second.steps[0].input[0].rows, Rows::Csv(text) if text.starts_with("k,n\n")));
    }

    fn mistake(text: &str) -> String {
        TestFile::parse("t.yml", text).unwrap_err().render(false)
    }

    #[test]
    fn mistakes_have_their_place() {
        assert_eq!(
            mistake("tests:\n  - name: a\n    expct: {}\n"),
            "error: unknown key 'expct'\n  --> t.yml:3:5\n   |\n 3 |     expct: {}\n   |     ^^^^^\nhelp: did you mean \
             'expect'?\n"
        );
        assert_eq!(
            mistake("now: soon\ntests: []\n"),
            "error: 'soon' is not a time such as 2024-01-01 00:00:00\n  --> t.yml:1:6\n   |\n 1 | now: soon\n   |      \
             ^^^^\n"
        );
        assert_eq!(
            mistake("tests:\n  - name: a\n    steps:\n      - advance: 3 parsecs\n"),
            "error: '3 parsecs' is not a duration such as 500ms, 10s, '5 minutes', 1h\n  --> t.yml:4:18\n   |\n 4 |       - \
             advance: 3 parsecs\n   |                  ^^^^^^^^^\n"
        );
        let kind = mistake("tests:\n  - name: a\n    given: {ev: 5}\n");
        assert!(kind.contains("t.yml:3:13") && kind.contains("a list of mappings, the name of a file"), "{kind}");
        assert!(mistake("columns: {t: a NUMBR}\ntests: []\n").contains("t.yml:1:14"));
    }
}
