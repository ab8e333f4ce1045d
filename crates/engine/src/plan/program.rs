//! A program: the statements of all files of a project, checked for what can be checked without opening anything.

use std::collections::BTreeMap;
use std::fmt;

use super::auto_cdc::AutoCdc;
use super::session;
use super::statement::{CreateTable, Insert, Statement, StatementKind, TableKind};
use super::token::{Cursor, TokenStream};
use crate::error::{EngineError, Result, Span};

/// A file of SQL.
#[derive(Debug, Clone)]
pub struct ScriptFile {
    /// Its name, for messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// An error and the file it is in.
#[derive(Debug)]
pub struct ScriptError {
    /// The file's name; empty if the error is not about a file.
    pub file: String,
    /// The file's text.
    pub text: String,
    /// The error.
    pub error: EngineError,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error.span() {
            Some(span) => write!(f, "{}:{}:{}: {}", self.file, span.line, span.column, self.error),
            None if self.file.is_empty() => write!(f, "{}", self.error),
            None => write!(f, "{}: {}", self.file, self.error),
        }
    }
}

impl std::error::Error for ScriptError {}

impl From<EngineError> for ScriptError {
    fn from(error: EngineError) -> Self {
        Self { file: String::new(), text: String::new(), error }
    }
}

/// A query that fills a table.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) name: String,
    /// The table it fills; none for a query on its own, whose rows are shown.
    pub(crate) target: Option<String>,
    pub(crate) query: Cursor,
    /// Whether columns are matched to the target's by name and not by place.
    pub(crate) by_name: bool,
    /// The rows are changes, to be applied as this says.
    pub(crate) cdc: Option<AutoCdc>,
    pub(crate) file: usize,
    pub(crate) span: Span,
}

/// The statements of a project.
#[derive(Debug, Clone, Default)]
pub struct Program {
    pub(crate) files: Vec<ScriptFile>,
    /// By name in lower case, with the file.
    pub(crate) tables: BTreeMap<String, (CreateTable, usize)>,
    /// By name in lower case, with the name as it was written.
    pub(crate) views: BTreeMap<String, (String, Cursor)>,
    pub(crate) flows: Vec<Flow>,
    /// `SET key = value`.
    pub(crate) configuration: BTreeMap<String, String>,
}

impl Program {
    /// Reads the statements of all files; names may be used before they are defined.
    pub fn parse(files: &[ScriptFile]) -> Result<Self, ScriptError> {
        let mut program = Self { files: files.to_vec(), ..Self::default() };
        for (file, script) in files.iter().enumerate() {
            program.add_file(file, &script.text).map_err(|error| program.locate(file, error))?;
        }
        for at in 0..program.flows.len() {
            let flow = &program.flows[at];
            program.check_target(flow).map_err(|error| program.locate(flow.file, error))?;
        }
        Ok(program)
    }

    /// An error with the file it is in.
    pub(crate) fn locate(&self, file: usize, error: EngineError) -> ScriptError {
        let script = self.files.get(file);
        ScriptError {
            file: script.map(|script| script.name.clone()).unwrap_or_default(),
            text: script.map(|script| script.text.clone()).unwrap_or_default(),
            error,
        }
    }

    fn add_file(&mut self, file: usize, text: &str) -> Result<()> {
        let tokens = TokenStream::new(text, session::dialect().as_ref())?;
        tokens.statements().into_iter().try_for_each(|cursor| self.add(file, Statement::parse(cursor)?))
    }

    fn add(&mut self, file: usize, statement: Statement) -> Result<()> {
        let span = statement.span;
        match statement.kind {
            StatementKind::CreateTable(table) => self.add_table(file, span, table),
            StatementKind::CreateView { name, query } => {
                self.check_new(&name, span)?;
                self.views.insert(name.to_lowercase(), (name, query));
                Ok(())
            }
            StatementKind::CreateFlow { name, insert } => {
                let Insert { target, target_span, by_name, query, cdc } = insert;
                let name = name.unwrap_or_else(|| self.free_flow_name(&target));
                self.add_flow(Flow { name, target: Some(target), query, by_name, cdc, file, span: target_span })
            }
            StatementKind::Set { key, value } => {
                self.configuration.insert(key, value);
                Ok(())
            }
            StatementKind::Use => Ok(()),
            StatementKind::Query(query) => {
                let name = self.free_flow_name("query");
                self.add_flow(Flow { name, target: None, query, by_name: true, cdc: None, file, span })
            }
        }
    }

    fn add_table(&mut self, file: usize, span: Span, mut table: CreateTable) -> Result<()> {
        let key = table.name.to_lowercase();
        if table.if_not_exists && self.tables.contains_key(&key) {
            return Ok(());
        }
        self.check_new(&table.name, span)?;
        if let Some(query) = table.query.take() {
            if table.kind == TableKind::External {
                return Err(EngineError::query_at(
                    span,
                    format!("CREATE TABLE {} AS SELECT runs once, not as a stream", table.name),
                )
                .help("write CREATE STREAMING TABLE ... AS SELECT, or CREATE MATERIALIZED VIEW ... AS SELECT"));
            }
            let (name, target) = (table.name.clone(), Some(table.name.clone()));
            let cdc = table.cdc.take();
            self.add_flow(Flow { name, target, query, by_name: true, cdc, file, span })?;
        }
        if matches!(table.kind, TableKind::External | TableKind::Sink) && table.format.is_none() {
            return Err(EngineError::query_at(
                span,
                format!("table '{}' says nothing of where its rows are", table.name),
            )
            .help("add USING kafka, delta, json, ... and its OPTIONS"));
        }
        self.tables.insert(key, (table, file));
        Ok(())
    }

    /// Whether an `AUTO CDC` flow fills the table: it then has columns that no statement declares.
    pub(crate) fn follows_changes(&self, table: &str) -> bool {
        let fills = |flow: &Flow| flow.target.as_ref().is_some_and(|target| target.eq_ignore_ascii_case(table));
        self.flows.iter().any(|flow| flow.cdc.is_some() && fills(flow))
    }

    fn add_flow(&mut self, flow: Flow) -> Result<()> {
        if self.flows.iter().any(|known| known.name.eq_ignore_ascii_case(&flow.name)) {
            return Err(EngineError::query_at(flow.span, format!("flow '{}' is defined twice", flow.name))
                .help("give one of them another name: its checkpoint is kept by it"));
        }
        self.flows.push(flow);
        Ok(())
    }

    fn free_flow_name(&self, stem: &str) -> String {
        let taken = |name: &str| self.flows.iter().any(|flow| flow.name.eq_ignore_ascii_case(name));
        (1..).map(|n| format!("{stem}_{n}")).find(|name| !taken(name)).unwrap_or_default()
    }

    fn check_new(&self, name: &str, span: Span) -> Result<()> {
        let key = name.to_lowercase();
        if self.tables.contains_key(&key) || self.views.contains_key(&key) {
            return Err(EngineError::query_at(span, format!("'{name}' is defined twice"))
                .help("give one of the two another name"));
        }
        Ok(())
    }

    fn check_target(&self, flow: &Flow) -> Result<()> {
        let Some(target) = &flow.target else { return Ok(()) };
        if self.tables.contains_key(&target.to_lowercase()) {
            return Ok(());
        }
        let message = format!("flow '{}' writes to '{target}', which is not defined", flow.name);
        let error = EngineError::query_at(flow.span, message);
        let names = self.tables.values().map(|(table, _)| table.name.as_str());
        Err(match crate::error::nearest(target, names) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None => error.help(format!("define it: CREATE STREAMING TABLE {target} or CREATE SINK {target} USING ...")),
        })
    }
}
