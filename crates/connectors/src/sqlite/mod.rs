//! `USING sqlite OPTIONS (path 'file.db', table 'name')`: a table in a SQLite database.
//!
//! ```text
//!   file.db   <table>               the rows
//!             _highwater_batches    query_id, table_name, batch_id, rows: written in the same transaction as the rows
//! ```
//!
//! | column | SQLite type and form |
//! |---|---|
//! | integers, booleans | INTEGER (0 and 1) |
//! | floats | REAL |
//! | strings, decimals | TEXT |
//! | timestamps | TEXT, `2025-01-01T10:00:00.123456Z` in UTC |
//! | dates | TEXT, `2025-01-01` |
//! | binary | BLOB |
//! | `window` STRUCT<start, end> | two columns, `window_start` and `window_end` |
//! | other structs, lists, maps | TEXT, JSON |
//!
//! Filters on columns of SQLite's affinities INTEGER and TEXT are SQLite's to apply, so that an index is used (filter.rs).
//! The database is in WAL mode, so that readers and the writer do not wait for each other. Streams over SQLite are
//! refused: it keeps no history.

mod filter;
mod read;
mod sink;
#[cfg(test)]
mod tests;
mod value;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Role, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, Sink, SinkRequest};
use highwater_engine::source::{Source, SourceRequest};
use rusqlite::{Connection, ErrorCode};

use crate::condition::where_clause;
use crate::file::durable::{CHECK_DISK, FREE_SPACE};
use crate::file::options::local_path;
use crate::file::provider::ReadersTable;
use crate::noop::ALL_MODES;

/// The connector of `USING sqlite`.
#[derive(Debug)]
pub struct SqliteConnector;

#[derive(Debug, Clone)]
struct SqliteOptions {
    path: PathBuf,
    table: String,
    busy_timeout: Duration,
}

impl Connector for SqliteConnector {
    fn format(&self) -> &str {
        "sqlite"
    }

    fn finds_columns(&self, _definition: &TableDefinition) -> bool {
        true
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let object = format!("table {} (USING sqlite)", definition.name);
        let mut reader = definition.options.reader(&object);
        let path = local_path(&object, reader.required("path", "/data/app.db")?)?;
        let table = reader.text("table").unwrap_or(&definition.name).to_owned();
        let busy_ms = reader.parsed("busyTimeoutMs", "milliseconds")?.unwrap_or(30_000);
        reader.finish()?;
        if !definition.partition_columns.is_empty() {
            return Err(
                EngineError::config(format!("{object} has PARTITIONED BY, which SQLite has not")).help("leave it out")
            );
        }
        let path = crate::file::listing::absolute(Path::new(&path))?;
        let options = SqliteOptions { path, table, busy_timeout: Duration::from_millis(busy_ms) };
        let schema = match &definition.schema {
            Some(schema) => SchemaRef::clone(schema),
            None => read::columns(&options)?,
        };
        Ok(Arc::new(SqliteTable { name: definition.name.clone(), options, schema }))
    }
}

struct SqliteTable {
    name: String,
    options: SqliteOptions,
    schema: SchemaRef,
}

impl SqliteTable {
    fn missing(&self) -> EngineError {
        EngineError::data(format!("'{}' has no table '{}'", self.options.path.display(), self.options.table))
            .help("check the options 'path' and 'table'")
    }

    fn found(&self, columns: usize) -> String {
        match columns {
            0 => format!("table {} will be created", self.options.table),
            columns => format!("table {} with {columns} columns", self.options.table),
        }
    }

    fn no_stream(&self) -> EngineError {
        EngineError::query(format!("table {} (USING sqlite) cannot be read as a stream", self.name))
            .help("read it without STREAM; it is then joined as it is when a batch runs")
    }
}

impl Table for SqliteTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn source(&self, _request: SourceRequest) -> Result<Box<dyn Source>> {
        Err(self.no_stream())
    }

    fn check_source(&self) -> Result<()> {
        Err(self.no_stream())
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        Ok(Box::new(sink::SqliteSink::open(self.options.clone(), request)?))
    }

    fn output_modes(&self) -> &[OutputMode] {
        ALL_MODES
    }

    fn takes_deletes(&self) -> bool {
        true
    }

    fn probe(&self, role: Role) -> Result<Option<String>> {
        let columns = read::columns(&self.options)?.fields().len();
        match columns {
            0 if role != Role::Sink => Err(self.missing()),
            columns => Ok(Some(self.found(columns))),
        }
    }

    fn probe_sink(&self, request: &SinkRequest) -> Result<Option<String>> {
        Ok(Some(self.found(sink::probe(&self.options, request)?)))
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        if self.schema.fields().is_empty() {
            return Err(self.missing());
        }
        let (options, schema) = (self.options.clone(), SchemaRef::clone(&self.schema));
        // Nothing is opened to plan a query: what SQLite is trusted with is decided when the rows are read.
        let heeds = |filter: &Expr| filter::SqliteFilter::planned().heeds(filter);
        let open = move |projection: &[usize], wanted: &[Expr]| -> Result<Vec<_>> {
            let columns: Arc<Schema> = Arc::new(schema.project(projection)?);
            let condition = if wanted.is_empty() {
                Default::default()
            } else {
                where_clause(wanted, &mut filter::SqliteFilter::new(read::affinities(&options)?))
            };
            Ok(vec![read::reader(options.clone(), columns, condition)?])
        };
        Ok(Arc::new(ReadersTable::filtered(&self.name, SchemaRef::clone(&self.schema), heeds, open)))
    }
}

impl SqliteOptions {
    fn connect(&self) -> Result<Connection> {
        if let Some(parent) = self.path.parent() {
            crate::file::durable::create_dir(parent)?;
        }
        let connection = Connection::open(&self.path).map_err(|error| self.failed("open", error))?;
        connection.busy_timeout(self.busy_timeout).map_err(|error| self.failed("open", error))?;
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = FILE;";
        connection.execute_batch(pragmas).map_err(|error| self.failed("open", error))?;
        Ok(connection)
    }

    fn failed(&self, verb: &str, error: rusqlite::Error) -> EngineError {
        let message = format!("cannot {verb} table '{}' of '{}'", self.table, self.path.display());
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => EngineError::unavailable(message).caused_by(error).help(FREE_SPACE),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => EngineError::unavailable(message)
                .caused_by(error)
                .help("another program holds the database: let it finish, or raise 'busyTimeoutMs'"),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::FileLockingProtocolFailed) => {
                EngineError::unavailable(message).caused_by(error).help(CHECK_DISK)
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::NotADatabase) => {
                EngineError::config(message).caused_by(error).help("check the path and its permissions")
            }
            _ => EngineError::data(message).caused_by(error),
        }
    }
}

/// A name in SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
