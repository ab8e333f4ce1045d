//! The cases of `tests/oracle/streams/` and the answers of real Spark beside them, read from their text files.
//!
//! What the files look like is said in `tests/oracle/streams.py`, which reads the same cases to ask Spark. Cells become
//! JSON here as they do there, so that both engines are given the same rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::sink::OutputMode;

/// A query, what it reads and how it is asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) name: String,
    /// Streams: name and columns in SQL.
    pub(super) tables: BTreeMap<String, String>,
    /// Tables that are no streams: name, columns, rows as JSON lines.
    pub(super) fixed: BTreeMap<String, (String, String)>,
    pub(super) conf: BTreeMap<String, String>,
    pub(super) modes: Vec<OutputMode>,
    /// By step, table and rows as JSON lines.
    pub(super) steps: Vec<Vec<(String, String)>>,
    pub(super) query: String,
    /// Whether the answer depends on which rows come in which batch.
    pub(super) depends_on_batches: bool,
}

/// What Spark said.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// It does not run such a query in this mode.
    Refused(String),
    /// It ran it.
    Ran(Ran),
}

/// What came out.
#[derive(Debug, Clone, Default)]
pub(super) struct Ran {
    /// Names and types, as `k string, n bigint`.
    pub(super) columns: String,
    pub(super) steps: Vec<Step>,
    /// The error condition of the step after the last, if that failed.
    pub(super) failed: Option<String>,
}

/// What came out of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Watermark, state and late rows, as `watermark 2024-01-01T12:00:00Z, state 3, dropped 1`.
    pub(super) note: String,
    pub(super) rows: Vec<String>,
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/streams")
}

pub(super) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Steps as they are written: `table: cells` by step.
type RawSteps = Vec<Vec<String>>;

/// What lines with `@` have said so far, and the case that is being read.
#[derive(Clone, Default)]
struct Scope {
    case: Case,
    steps: RawSteps,
    query: Vec<String>,
    named: BTreeMap<String, RawSteps>,
    /// The named steps that lines add to, if not to the case's own.
    adding: Option<String>,
}

/// The cases of a family.
pub(super) fn cases(family: &str) -> Vec<Case> {
    let text = read(&folder().join(format!("{family}.txt")));
    let mut head = Scope::default();
    head.case.modes = vec![OutputMode::Append, OutputMode::Update, OutputMode::Complete];
    let mut current: Option<Scope> = None;
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some(name) = line.strip_prefix("=== ") {
            found.extend(current.take().map(Scope::finish));
            let mut scope = head.clone();
            name.trim().clone_into(&mut scope.case.name);
            scope.adding = None;
            current = Some(scope);
        } else {
            current.as_mut().unwrap_or(&mut head).line(line);
        }
    }
    found.extend(current.map(Scope::finish));
    found
}

impl Scope {
    fn line(&mut self, line: &str) {
        if line.starts_with('@') {
            self.directive(line);
        } else if let Some(step) = line.strip_prefix('>') {
            let step = step.trim();
            let parts = if step.is_empty() { Vec::new() } else { vec![step.to_owned()] };
            self.raw_steps().push(parts);
        } else if line.starts_with(' ') && is_part(line.trim()) && !self.raw_steps().is_empty() {
            let part = line.trim().to_owned();
            if let Some(step) = self.raw_steps().last_mut() {
                step.push(part);
            }
        } else {
            self.query.push(line.to_owned());
        }
    }

    fn raw_steps(&mut self) -> &mut RawSteps {
        match &self.adding {
            Some(name) => self.named.entry(name.clone()).or_default(),
            None => &mut self.steps,
        }
    }

    fn directive(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "@table" => {
                let (name, columns) = rest.split_once(' ').unwrap();
                self.case.tables.insert(name.to_owned(), columns.trim().to_owned());
            }
            "@static" => {
                let (definition, rows) = rest.split_once("):").unwrap();
                let (name, columns) = definition.split_once(' ').unwrap();
                let columns = format!("{})", columns.trim());
                let rows = json_lines(&columns, rows);
                self.case.fixed.insert(name.to_owned(), (columns, rows));
            }
            "@conf" => {
                let (key, value) = rest.split_once(' ').unwrap();
                self.case.conf.insert(key.to_owned(), value.trim().to_owned());
            }
            "@modes" => self.case.modes = rest.split(' ').map(|mode| mode.parse().unwrap()).collect(),
            "@steps" => self.adding = Some(rest.to_owned()),
            "@use" => self.steps.extend(self.named[rest].clone()),
            "@boundaries" => self.case.depends_on_batches = true,
            other => panic!("{other} is not known; lines with @ are explained in streams.py"),
        }
        if word != "@steps" {
            self.adding = None;
        }
    }

    fn finish(self) -> Case {
        let mut case = self.case;
        case.query = self.query.join("\n");
        let part = |part: &String| {
            let (table, cells) = part.split_once(':').unwrap();
            (table.to_owned(), json_lines(&case.tables[table], cells))
        };
        case.steps = self.steps.iter().map(|step| step.iter().map(part).collect()).collect();
        case
    }
}

/// Whether a line goes on with a step: `table: cells`.
fn is_part(line: &str) -> bool {
    let Some((table, rest)) = line.split_once(':') else { return false };
    !table.is_empty()
        && table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && (rest.is_empty() || rest.starts_with(' '))
}

/// Names and types of `(a INT, b STRUCT<x: INT, y: INT>)`.
fn columns(schema: &str) -> Vec<(&str, &str)> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 1);
    for (at, c) in schema.char_indices() {
        match c {
            '(' | '<' => depth += 1,
            ')' | '>' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            let (name, kind) = schema[start..at].trim().split_once(' ').unwrap();
            found.push((name, kind.trim()));
            start = at + 1;
        }
    }
    found
}

/// Rows of cells: words, or JSON up to the bracket or quote that ends it.
fn cells(text: &str) -> Vec<Vec<&str>> {
    let (mut rows, mut row, mut rest) = (Vec::new(), Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        if first == ';' {
            rows.push(std::mem::take(&mut row));
            rest = rest[1..].trim_start();
            continue;
        }
        let end = if matches!(first, '"' | '{' | '[') {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
            values.next().unwrap().unwrap();
            values.byte_offset()
        } else {
            rest.find([' ', ';']).unwrap_or(rest.len())
        };
        row.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    if !row.is_empty() {
        rows.push(row);
    }
    rows
}

fn as_json(cell: &str, kind: &str) -> String {
    if cell == "null" || cell.starts_with(['"', '{', '[']) {
        return cell.to_owned();
    }
    let base: String = kind.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let base = base.to_ascii_uppercase();
    let is_number = ["TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN"];
    if is_number.contains(&base.as_str()) && serde_json::from_str::<serde_json::Value>(cell).is_ok() {
        return cell.to_owned();
    }
    let is_short = cell.len() >= 5 && cell.as_bytes()[2] == b':' && !cell.contains('-');
    if base.starts_with("TIMESTAMP") && is_short {
        let zone = if base == "TIMESTAMP_NTZ" { "" } else { "Z" };
        return format!("\"2024-01-01T12:{cell}{zone}\"");
    }
    serde_json::Value::from(cell).to_string()
}

fn json_lines(schema: &str, text: &str) -> String {
    let columns = columns(schema);
    let line = |row: Vec<&str>| {
        assert_eq!(row.len(), columns.len(), "{row:?} is no row of {schema}");
        let field = |(cell, (name, kind)): (&str, &(&str, &str))| format!("\"{name}\": {}", as_json(cell, kind));
        format!("{{{}}}\n", row.into_iter().zip(&columns).map(field).collect::<Vec<_>>().join(", "))
    };
    cells(text).into_iter().map(line).collect()
}

/// The answers of a family, by `name [mode]`.
pub(super) fn answers(family: &str) -> BTreeMap<String, Answer> {
    let text = read(&folder().join(format!("{family}.golden")));
    let mut found = BTreeMap::new();
    let mut title = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(next) = line.strip_prefix("=== ") {
            title = next;
            continue;
        }
        if let Some(reason) = line.strip_prefix("refused ") {
            found.insert(title.to_owned(), Answer::Refused(reason.to_owned()));
            continue;
        }
        let answer = found.entry(title.to_owned()).or_insert_with(|| Answer::Ran(Ran::default()));
        if let Answer::Ran(ran) = answer {
            ran.line(line);
        }
    }
    found
}

impl Ran {
    fn line(&mut self, line: &str) {
        if let Some(columns) = line.strip_prefix("columns ") {
            columns.clone_into(&mut self.columns);
        } else if let Some(row) = line.strip_prefix("  ") {
            if let Some(step) = self.steps.last_mut() {
                step.rows.push(row.to_owned());
            }
        } else if let Some((_, reason)) = line.split_once(" failed ") {
            self.failed = reason.split(' ').next().map(str::to_owned);
        } else {
            let note = line.split_once(", ").map_or("", |(_, note)| note);
            self.steps.push(Step { note: note.to_owned(), rows: Vec::new() });
        }
    }

    /// Whether Spark dropped a row as late.
    pub(super) fn dropped(&self) -> bool {
        self.steps.iter().any(|step| step.note.contains("dropped"))
    }
}

/// A differences file: what differs, and why.
pub(super) fn known(name: &str) -> BTreeMap<String, String> {
    let text = read(&folder().with_file_name(name));
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter_map(|line| line.split_once('\t')).map(|(what, why)| (what.to_owned(), why.to_owned())).collect()
}
