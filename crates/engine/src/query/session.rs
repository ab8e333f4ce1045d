//! Queries of an interactive session: over what its statements define, and over the tables of a storage folder.
//!
//! ```text
//!   statements (CREATE TABLE, CREATE VIEW) ─┐
//!   storage folder: tables of flows ────────┴─> names ─> one query ─> columns, plan, rows
//! ```
//!
//! Nothing is kept between two queries: a session is the text of its statements. A name that the statements define hides the
//! table of the storage folder. Streams have no end and are not collected; they run as flows of a
//! [`Pipeline`](super::Pipeline).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::ScalarUDF;

use super::settings::PipelineSettings;
use super::storage::Storage;
use super::tables::Tables;
use crate::error::{EngineError, Result};
use crate::plan::analysis::{Found, Lookup, PlannedQuery};
use crate::plan::batch::{Cancellation, collect_unless_cancelled};
use crate::plan::cache::CacheSettings;
use crate::plan::catalog::{ConnectorRegistry, TableDefinition};
use crate::plan::logical::is_streaming;
use crate::plan::program::{Program, ScriptError, ScriptFile};
use crate::plan::session;
use crate::plan::statement::{Statement, StatementKind};
use crate::plan::streaming::event_times;
use crate::plan::token::TokenStream;

/// What the queries of a session can name, and how they are read.
#[derive(Clone)]
pub struct SessionScope {
    /// Its statements, each a text of its own.
    pub statements: Vec<String>,
    /// The folder of tables and checkpoints.
    pub storage: PathBuf,
    /// Spark configuration keys, e.g. `spark.sql.session.timeZone`.
    pub configuration: BTreeMap<String, String>,
    /// The connectors.
    pub connectors: ConnectorRegistry,
}

/// A query of a session, planned.
pub struct SessionQuery {
    planned: PlannedQuery,
}

/// What a statement does to the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionStatement {
    /// It is a query, and does nothing.
    Query,
    /// It gives a name to a table or view.
    Definition(String),
    /// It sets a key of the configuration.
    Set(String, String),
    /// It is understood and of no consequence.
    Nothing,
}

impl SessionScope {
    /// Plans a query.
    pub fn plan(&self, query: &str) -> Result<SessionQuery, ScriptError> {
        let mut files: Vec<ScriptFile> = self.statements.iter().map(|text| script("session", text)).collect();
        let file = files.len();
        files.push(script("query", query));
        let program = Program::parse(&files)?;
        let [flow] = program.flows.as_slice() else {
            return Err(program.locate(file, EngineError::query("expected one query")));
        };
        let (flow, located) = (flow.clone(), program.clone());
        let mut settings = PipelineSettings::new(&self.storage);
        settings.configuration.clone_from(&self.configuration);
        let stored = Storage::new(&self.storage).tables()?;
        let names = SessionNames {
            tables: Tables::new(program, &settings, self.connectors.clone()),
            stored,
            connectors: &self.connectors,
        };
        let planned = names.tables.plan_among(&flow, &names).map_err(|error| located.locate(flow.file, error))?;
        Ok(SessionQuery { planned })
    }
}

impl SessionQuery {
    /// The columns of its rows.
    pub fn columns(&self) -> SchemaRef {
        Arc::new(self.planned.plan.schema().as_arrow().clone())
    }

    /// Whether it reads a stream.
    pub fn is_streaming(&self) -> bool {
        is_streaming(&self.planned.plan)
    }

    /// The names of its columns that are event time.
    pub fn event_times(&self) -> Vec<String> {
        let (plan, times) = (&self.planned.plan, event_times(&self.planned.plan));
        let columns = plan.schema().fields().iter().zip(times);
        columns.filter(|(_, is_event_time)| *is_event_time).map(|(field, _)| field.name().clone()).collect()
    }

    /// Its plan, optimised unless it reads a stream.
    pub fn explain(&self) -> Result<String> {
        if self.is_streaming() {
            return Ok(self.planned.plan.display_indent().to_string());
        }
        let plan = self.planned.context.state().optimize(&self.planned.plan)?;
        Ok(plan.display_indent().to_string())
    }

    /// Its rows; none if somebody cancels it.
    pub fn collect(self, cancellation: &Cancellation) -> Result<Option<Vec<RecordBatch>>> {
        if self.is_streaming() {
            return Err(EngineError::query("a stream has no end to show")
                .help("start it as a streaming query, with writeStream, or read the table without STREAM"));
        }
        collect_unless_cancelled(&self.planned.context.state(), self.planned.plan, cancellation)
    }
}

impl SessionStatement {
    /// Reads one statement.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let file = script("statement", text);
        let parsed = || -> Result<Self> {
            let tokens = TokenStream::new(text, session::dialect().as_ref())?;
            let mut statements = tokens.statements().into_iter();
            let (Some(cursor), None) = (statements.next(), statements.next()) else {
                return Err(EngineError::query("expected one statement").help("send statements one by one"));
            };
            let statement = Statement::parse(cursor)?;
            Ok(match statement.kind {
                StatementKind::Query(_) => Self::Query,
                StatementKind::CreateView { name, .. } => Self::Definition(name),
                StatementKind::CreateTable(table) if table.query.is_none() => Self::Definition(table.name),
                StatementKind::Set { key, value } => Self::Set(key, value),
                StatementKind::Use => Self::Nothing,
                StatementKind::CreateTable(_) | StatementKind::CreateFlow { .. } => {
                    return Err(EngineError::query_at(statement.span, "a statement of a session writes no table")
                        .help("start a streaming query with writeStream, or run the statement with highwater run"));
                }
            })
        };
        parsed().map_err(|error| ScriptError { file: file.name.clone(), text: file.text.clone(), error })
    }
}

fn script(name: &str, text: &str) -> ScriptFile {
    ScriptFile { name: name.to_owned(), text: text.to_owned() }
}

/// Names of statements first, then those of the storage folder.
struct SessionNames<'a> {
    tables: Tables,
    stored: Vec<TableDefinition>,
    connectors: &'a ConnectorRegistry,
}

impl Lookup for SessionNames<'_> {
    fn lookup(&self, name: &str) -> Result<Option<Found>> {
        if let Some(found) = self.tables.lookup(name)? {
            return Ok(Some(found));
        }
        let Some(definition) = self.stored.iter().find(|table| table.name.eq_ignore_ascii_case(name)) else {
            return Ok(None);
        };
        let table = self.connectors.open(definition)?;
        Ok(Some(Found::Table { table, may_be_missing: false, cache: CacheSettings::default() }))
    }

    fn names(&self) -> Vec<String> {
        let stored = self.stored.iter().map(|table| table.name.clone());
        self.tables.names().into_iter().chain(stored).filter(|name| !name.starts_with("__")).collect()
    }

    fn functions(&self) -> Vec<Arc<ScalarUDF>> {
        self.connectors.functions().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<SessionStatement, &str>) {
        let found = SessionStatement::parse(text).map_err(|script| script.error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn statements_of_a_session_are_told_apart() {
        check("SELECT 1", Ok(SessionStatement::Query));
        check("CREATE TEMPORARY VIEW v AS SELECT 1", Ok(SessionStatement::Definition("v".to_owned())));
        check("CREATE TABLE t USING json OPTIONS (path '/x')", Ok(SessionStatement::Definition("t".to_owned())));
        check("SET a.b = c", Ok(SessionStatement::Set("a.b".to_owned(), "c".to_owned())));
        check("INSERT INTO t SELECT 1", Err("a statement of a session writes no table"));
        check("SELECT 1; SELECT 2", Err("expected one statement"));
    }

    #[test]
    fn a_query_sees_the_views_and_has_rows() {
        let scope = SessionScope {
            statements: vec!["CREATE TEMPORARY VIEW v AS SELECT 1 AS a UNION ALL SELECT 2".to_owned()],
            storage: PathBuf::from("no-such-folder"),
            configuration: BTreeMap::new(),
            connectors: ConnectorRegistry::default(),
        };
        let query = scope.plan("SELECT sum(a) AS s FROM v").unwrap();
        assert!(!query.is_streaming());
        assert_eq!(query.columns().field(0).name(), "s");
        let rows = query.collect(&Cancellation::default()).unwrap().unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        let Err(error) = scope.plan("SELECT b FROM v") else { panic!("there is no column b") };
        assert!(error.error.to_string().contains('b'), "{error}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    fn rows_that_are_cancelled_are_not_waited_for() {
        let scope = SessionScope {
            statements: vec!["CREATE TEMPORARY VIEW n AS SELECT explode(sequence(1, 1000000)) AS n".to_owned()],
            storage: PathBuf::from("no-such-folder"),
            configuration: BTreeMap::new(),
            connectors: ConnectorRegistry::default(),
        };
        // A million times a million rows: hours.
        let endless = "SELECT sum(a.n * b.n % 7) AS s FROM n AS a CROSS JOIN n AS b";
        let before = Cancellation::default();
        before.cancel();
        assert!(scope.plan(endless).unwrap().collect(&before).unwrap().is_none(), "it was cancelled before it began");
        let meanwhile = Cancellation::default();
        let query = scope.plan(endless).unwrap();
        let rows = std::thread::scope(|threads| {
            let running = threads.spawn(|| query.collect(&meanwhile));
            meanwhile.cancel();
            running.join().unwrap()
        });
        assert!(rows.unwrap().is_none());
    }
}
