//! A project as a pipeline of Spark's: pure functions over its statements, which open nothing.
//!
//! ```text
//!   CREATE TABLE ... USING         ─> a temporary view (sources.rs)
//!   CREATE SINK, flows into it     ─> a sink and its flows (sinks.rs)
//!   streaming tables, views, flows ─> the statement as it stands, and where Spark takes it otherwise, edited (text.rs)
//!   what has no like in Spark      ─> a problem with its place and the way out
//! ```
//!
//! A table whose query is computed whole (output mode complete) is a materialized view there: the same rows after each
//! run. What such a query reads is then read whole too, so that a table or view may be there twice, once as a stream.

mod avro;
pub(crate) mod dialect;
mod flavour;
mod options;
mod sinks;
mod sources;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use highwater_engine::error::Span;
use highwater_engine::plan::ScriptFile;
use highwater_engine::plan::ddl::schema_ddl;
use highwater_engine::plan::outline::{OutlineKind, OutlineStatement, OutlineTable, WordKind};
use highwater_engine::sink::OutputMode;

use super::route::{Route, RoutedSink};
use flavour::{Flavour, Flavours};
pub(crate) use sinks::SparkSink;
pub(crate) use sources::SourceRelation;
use text::Edit;
pub(crate) use text::SentText;

/// What Highwater's own planner knows of a flow.
#[derive(Debug, Clone)]
pub(crate) struct FlowMode {
    /// Its name.
    pub(crate) name: String,
    /// What it emits.
    pub(crate) mode: OutputMode,
    /// Whether it has a watermark.
    pub(crate) has_watermark: bool,
    /// The table it fills.
    pub(crate) target: Option<String>,
    /// The columns of its rows.
    pub(crate) columns: SchemaRef,
    /// Those of them that its query gives, in its order.
    pub(crate) given_columns: Vec<String>,
}

/// What cannot run on Spark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Object, found, expected.
    pub(crate) message: String,
    /// The way out.
    pub(crate) help: String,
    place: ProblemPlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ProblemPlace {
    Span(Span),
    /// The word or literal of this text in the statement, in any case.
    Word(String),
}

/// A problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file's place in the list.
    pub(crate) file: usize,
    /// Where in it.
    pub(crate) span: Span,
    /// Object, found, expected.
    pub(crate) message: String,
    /// The way out.
    pub(crate) help: String,
}

/// A part of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// The file's place in the list.
    pub(crate) file: usize,
    /// Where its statement begins.
    pub(crate) span: Span,
    /// What is sent.
    pub(crate) kind: ElementKind,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ElementKind {
    /// A temporary view of something outside.
    Source { name: String, relation: SourceRelation, is_streaming: bool },
    /// A sink.
    Sink { name: String, sink: SparkSink },
    /// A flow into a sink.
    SinkFlow { name: String, target: String, query: SentText },
    /// A statement, with the name Spark tells events and errors by.
    Sql { name: String, text: SentText },
}

/// A project as Spark gets it.
#[derive(Debug, Default)]
pub(crate) struct Translation {
    /// In the order they are sent.
    pub(crate) elements: Vec<Element>,
    /// What cannot run there.
    pub(crate) findings: Vec<Finding>,
    /// What is other than here, though it runs.
    pub(crate) notes: Vec<String>,
    /// Sinks that are drained here.
    pub(crate) routed: Vec<RoutedSink>,
}

impl Problem {
    fn of(word: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), place: ProblemPlace::Word(word.to_owned()) }
    }

    fn at_option(key: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::of(key, message, help)
    }

    fn at_format(table: &OutlineTable, format: &str, help: impl Into<String>) -> Self {
        Self::of(format, format!("Spark has no format '{format}', which table '{}' is of", table.name), help)
    }
}

/// Translates the statements of a project; `flows` is what Highwater's planner says of its queries.
/// With a `route`, sinks that Spark does not have are written through topics.
pub(crate) fn translate(
    files: &[ScriptFile],
    statements: &[OutlineStatement],
    flows: &[FlowMode],
    route: Option<&Route>,
) -> Translation {
    let mut translator = Translator {
        files,
        statements,
        flows,
        route,
        flavours: Flavours::of(statements, |statement| batch_names(statement, flows)),
        names: Vec::new(),
        routed: BTreeMap::new(),
        out: Translation::default(),
    };
    for statement in statements {
        translator.statement(statement);
    }
    // What others name is sent first.
    let rank = |element: &Element| match element.kind {
        ElementKind::Source { .. } | ElementKind::Sink { .. } => 0,
        ElementKind::Sql { .. } | ElementKind::SinkFlow { .. } => 1,
    };
    translator.out.elements.sort_by_key(rank);
    translator.out
}

/// Whether a statement's query is computed whole on Spark.
fn batch_names(statement: &OutlineStatement, flows: &[FlowMode]) -> bool {
    match &statement.kind {
        OutlineKind::MaterializedView(_) => true,
        OutlineKind::StreamingTable(table) if table.has_query => {
            let flow = flows.iter().find(|flow| flow.name.eq_ignore_ascii_case(&table.name));
            flow.is_some_and(|flow| flow.mode == OutputMode::Complete)
        }
        _ => false,
    }
}

struct Translator<'a> {
    files: &'a [ScriptFile],
    statements: &'a [OutlineStatement],
    flows: &'a [FlowMode],
    route: Option<&'a Route>,
    flavours: Flavours,
    /// The names of flows so far.
    names: Vec<String>,
    /// Which flow was the first into each sink that is drained here, by the sink's name in lower case.
    routed: BTreeMap<String, FlowMode>,
    out: Translation,
}

impl Translator<'_> {
    fn statement(&mut self, statement: &OutlineStatement) {
        match &statement.kind {
            OutlineKind::Source(table) => self.source(statement, table),
            OutlineKind::Sink(table) => self.sink(statement, table),
            OutlineKind::View { name } => self.view(statement, name),
            OutlineKind::StreamingTable(table) | OutlineKind::MaterializedView(table) => self.table(statement, table),
            OutlineKind::Flow { name, target, follows_changes, query } => {
                let name = name.clone().unwrap_or_else(|| self.free_name(target));
                self.names.push(name.clone());
                self.flow(statement, &name, target, *follows_changes, query.clone());
            }
            OutlineKind::Set { key } => self.sql(statement, key, &[]),
            OutlineKind::Use => {
                let help = "leave it out, and name catalog and database in spark-pipeline.yml";
                self.report(statement, vec![Problem::of("USE", "Spark's pipelines take no USE", help)]);
            }
            OutlineKind::Query => {
                let help = "write CREATE MATERIALIZED VIEW name AS ..., or a flow into a sink USING console";
                let message = "a query on its own shows its rows in a terminal, which Spark's pipelines do not have";
                let first = statement.words.first().map(|word| word.text.clone()).unwrap_or_default();
                self.report(statement, vec![Problem::of(&first, message, help)]);
            }
        }
    }

    fn source(&mut self, statement: &OutlineStatement, table: &OutlineTable) {
        let relation = match sources::relation(table) {
            Ok(relation) => relation,
            Err(problems) => return self.report(statement, problems),
        };
        for flavour in self.flavours.wanted(&table.name) {
            let name = self.flavours.sent_name(&table.name, flavour);
            let is_streaming = flavour == Flavour::Stream;
            self.push(statement, ElementKind::Source { name, relation: relation.clone(), is_streaming });
        }
    }

    fn sink(&mut self, statement: &OutlineStatement, table: &OutlineTable) {
        let into =
            |flow: &&FlowMode| flow.target.as_ref().is_some_and(|target| target.eq_ignore_ascii_case(&table.name));
        match sinks::sink(table, self.route, self.flows.iter().find(into)) {
            Ok(mut sink) => {
                self.out.notes.append(&mut sink.notes);
                if let Some(topic) = sink.routed_through.clone() {
                    let text = &self.files[statement.file].text[statement.bytes.clone()];
                    self.out.routed.push(RoutedSink { name: table.name.clone(), topic, statement: text.to_owned() });
                }
                self.push(statement, ElementKind::Sink { name: table.name.clone(), sink });
            }
            Err(problems) => self.report(statement, problems),
        }
    }

    fn view(&mut self, statement: &OutlineStatement, name: &str) {
        let mut edits = Vec::new();
        let word =
            |text: &str| statement.words.iter().position(|word| word.kind == WordKind::Plain && word.text == text);
        let is_temporary =
            word("TEMPORARY").or(word("TEMP")) < word("VIEW") && word("TEMPORARY").or(word("TEMP")).is_some();
        if let (false, Some(view)) = (is_temporary, word("VIEW")) {
            edits.push(Edit::insert(statement.words[view].bytes.start, "TEMPORARY "));
        }
        for flavour in self.flavours.wanted(name) {
            let sent = self.flavours.sent_name(name, flavour);
            let mut edits = edits.clone();
            let named = word("AS")
                .and_then(|at| statement.words[..at].iter().find(|word| word.text.eq_ignore_ascii_case(name)));
            if let (true, Some(named)) = (sent != name, named) {
                edits.push(Edit::replace(named.bytes.clone(), sources::quoted(&sent)));
            }
            edits.extend(self.flavours.edits(statement, flavour));
            self.push_sql(statement, &sent, &edits);
        }
        // A view that nothing reads is sent as it is: Spark's analysis looks at it too.
        if self.flavours.wanted(name).is_empty() {
            self.sql(statement, name, &edits);
        }
    }

    fn table(&mut self, statement: &OutlineStatement, table: &OutlineTable) {
        let flow = self.flows.iter().find(|flow| flow.name.eq_ignore_ascii_case(&table.name)).cloned();
        let mut problems = self.problems_of_table(table);
        let is_materialized = matches!(statement.kind, OutlineKind::MaterializedView(_));
        let is_whole = batch_names(statement, self.flows);
        let streaming = flow.as_ref().filter(|_| !is_whole);
        problems.extend(dialect::problems(statement, streaming));
        if table.has_query {
            self.names.push(table.name.clone());
            // Changes replace rows by their keys, on Spark too.
            let appending = streaming.filter(|_| !table.follows_changes);
            problems.extend(appending.and_then(|flow| problem_of_mode(flow, &table.name)));
        }
        if !problems.is_empty() {
            return self.report(statement, problems);
        }
        let flavour = if is_whole { Flavour::Batch } else { Flavour::Stream };
        let mut edits = if table.has_query { self.flavours.edits(statement, flavour) } else { Vec::new() };
        if is_whole && !is_materialized {
            let kind = statement.words.windows(2).find(|two| two[0].text == "STREAMING" && two[1].text == "TABLE");
            edits.extend(kind.map(|two| Edit::replace(two[0].bytes.start..two[1].bytes.end, "MATERIALIZED VIEW")));
            self.out.notes.push(format!(
                "table '{}' is a materialized view on Spark: it is computed whole in each run (output mode complete)",
                table.name
            ));
        }
        self.sql(statement, &table.name, &edits);
    }

    fn problems_of_table(&self, table: &OutlineTable) -> Vec<Problem> {
        let mut problems = Vec::new();
        if table.options.get("path").is_some() {
            let message =
                format!("table '{}' says where it lies, which Spark's pipelines choose themselves", table.name);
            let help = "leave the path out, or write to a sink: CREATE SINK ... USING, CREATE FLOW ... AS INSERT INTO";
            let word = if self.says(table, "LOCATION") { "LOCATION" } else { "path" };
            problems.push(Problem::of(word, message, help));
        }
        let format = table.format.as_deref().unwrap_or_default();
        if matches!(format, "kafka" | "sqlite" | "postgres" | "memory" | "console" | "noop") {
            let message = format!("a table of Spark's pipelines cannot be stored USING {format}");
            problems.push(Problem::of(format, message, "make it a sink: CREATE SINK ... USING, and a flow into it"));
        }
        problems
    }

    fn says(&self, table: &OutlineTable, word: &str) -> bool {
        self.statements.iter().any(|statement| {
            let is_it = matches!(&statement.kind, OutlineKind::StreamingTable(t) | OutlineKind::MaterializedView(t) if t.name == table.name);
            is_it && statement.words.iter().any(|w| w.kind == WordKind::Plain && w.text == word)
        })
    }

    fn flow(
        &mut self,
        statement: &OutlineStatement,
        name: &str,
        target: &str,
        follows_changes: bool,
        query: std::ops::Range<usize>,
    ) {
        let flow = self.flows.iter().find(|flow| flow.name.eq_ignore_ascii_case(name)).cloned();
        let mut problems = dialect::problems(statement, flow.as_ref());
        let appending = flow.as_ref().filter(|_| !follows_changes);
        problems.extend(appending.and_then(|flow| problem_of_mode(flow, target)));
        let sink = self.statements.iter().find_map(|other| match &other.kind {
            OutlineKind::Sink(table) if table.name.eq_ignore_ascii_case(target) => Some(table),
            _ => None,
        });
        if sink.is_some() && follows_changes {
            let help =
                "write the changes into a streaming table, which Spark stores in a format that can merge (Delta)";
            problems.push(Problem::of("CDC", "Spark's AUTO CDC writes into tables, not into sinks", help));
        }
        if !problems.is_empty() {
            return self.report(statement, problems);
        }
        let edits = self.flavours.edits(statement, Flavour::Stream);
        match sink.map(|table| sinks::sink(table, self.route, flow.as_ref())) {
            Some(Ok(sink)) => {
                let around = match flow {
                    Some(flow) if sink.routed_through.is_some() => {
                        if let Some(problem) = self.problem_of_routed(&flow, target) {
                            return self.report(statement, vec![problem]);
                        }
                        sinks::routed_around(&flow)
                    }
                    _ => sink.around,
                };
                let file = &self.files[statement.file].text;
                let inside: Vec<Edit> = edits.into_iter().filter(|edit| edit.bytes.start >= query.start).collect();
                let query = SentText::new(file, query, &inside).within(&around.0, &around.1);
                self.push(statement, ElementKind::SinkFlow { name: name.to_owned(), target: target.to_owned(), query });
            }
            // Told where the sink stands.
            Some(Err(_)) => {}
            None => {
                let mut edits = edits;
                if statement.words.first().is_some_and(|word| word.text == "INSERT") {
                    edits.push(Edit::insert(
                        statement.bytes.start,
                        format!("CREATE FLOW {} AS ", sources::quoted(name)),
                    ));
                }
                self.sql(statement, name, &edits);
            }
        }
    }

    /// The rows that go through one topic have the same columns, whichever flow they are of.
    fn problem_of_routed(&mut self, flow: &FlowMode, target: &str) -> Option<Problem> {
        let first = self.routed.entry(target.to_lowercase()).or_insert_with(|| flow.clone());
        if first.columns == flow.columns {
            return None;
        }
        let message = format!(
            "flow '{}' gives sink '{target}' the columns {}, and flow '{}' gives it {}: what goes through one topic has the \
             same columns",
            flow.name,
            schema_ddl(&flow.columns),
            first.name,
            schema_ddl(&first.columns)
        );
        Some(Problem::of(target, message, "declare the sink's columns: CREATE SINK name (column TYPE, ...) USING ..."))
    }

    /// As `Program` names a flow without a name.
    fn free_name(&self, stem: &str) -> String {
        let taken = |name: &str| self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        (1..).map(|n| format!("{stem}_{n}")).find(|name| !taken(name)).unwrap_or_default()
    }

    fn sql(&mut self, statement: &OutlineStatement, name: &str, edits: &[Edit]) {
        self.push_sql(statement, name, edits);
    }

    fn push_sql(&mut self, statement: &OutlineStatement, name: &str, edits: &[Edit]) {
        let text = SentText::new(&self.files[statement.file].text, statement.bytes.clone(), edits);
        self.push(statement, ElementKind::Sql { name: name.to_owned(), text });
    }

    fn push(&mut self, statement: &OutlineStatement, kind: ElementKind) {
        self.out.elements.push(Element { file: statement.file, span: first_span(statement), kind });
    }

    fn report(&mut self, statement: &OutlineStatement, problems: Vec<Problem>) {
        for problem in problems {
            let span = match &problem.place {
                ProblemPlace::Span(span) => *span,
                ProblemPlace::Word(text) => place_of(statement, text),
            };
            let Problem { message, help, .. } = problem;
            self.out.findings.push(Finding { file: statement.file, span, message, help });
        }
    }
}

/// Spark's pipelines append; what is replaced must be computed whole.
fn problem_of_mode(flow: &FlowMode, target: &str) -> Option<Problem> {
    if flow.mode == OutputMode::Append {
        return None;
    }
    let message = format!("flow '{}' has output mode {}, and flows of Spark's pipelines append", flow.name, flow.mode);
    let help = "aggregate over windows of a stream with a WATERMARK, or write CREATE MATERIALIZED VIEW name AS ... without STREAM";
    Some(Problem::of(target, message, help))
}

fn first_span(statement: &OutlineStatement) -> Span {
    statement.words.first().map_or(Span { line: 1, column: 1, length: 1 }, |word| word.span)
}

/// The word of this text, or several that make it up with dots: `kafka.group.id`.
fn place_of(statement: &OutlineStatement, text: &str) -> Span {
    let words = &statement.words;
    let whole = words.iter().find(|word| word.text.eq_ignore_ascii_case(text));
    let first = text.split('.').next().unwrap_or(text);
    let part = || words.iter().find(|word| text.contains('.') && word.text.eq_ignore_ascii_case(first));
    whole.or_else(part).map_or_else(|| first_span(statement), |word| word.span)
}

/// A path as the cluster must see it too: what is relative here is made absolute.
fn absolute_path(path: &str) -> String {
    if path.contains(':') {
        return path.to_owned();
    }
    std::path::absolute(Path::new(path)).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests;
