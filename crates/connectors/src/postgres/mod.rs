//! `USING postgres OPTIONS (url '...', dbtable '...')`: a table or a query of a PostgreSQL database, to be read.
//!
//! ```text
//!   scan ─> connection (kept, if one is free) ─> SELECT columns FROM dbtable WHERE ... ─> rows ─> batches of 8192
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `url` | `postgresql://host[:5432]/database`, also with `jdbc:` before it as Spark has it |
//! | `user`, `password` | the login; the password is a reference, and never stands in the url |
//! | `dbtable` | a table, `schema.table`, or `(SELECT ...) AS name` |
//! | `query` | instead of `dbtable`: a query |
//! | `connectTimeout`, `queryTimeout` | seconds: 10 to connect; a query may take any time unless it is told |
//! | `sslmode`, `sslrootcert` | how connections are encrypted, and whose certificate is taken: `tls.rs` |
//!
//! Sessions are read-only. Streams over PostgreSQL and writing to it are refused.

mod columns;
mod connection;
mod filter;
mod read;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(test)]
mod tls_tests;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, OptionReader, Role, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, Sink, SinkRequest};
use highwater_engine::source::{Source, SourceRequest};

use self::connection::Database;
use self::filter::may_heed;
use crate::file::provider::ReadersTable;

/// The connector of `USING postgres`.
#[derive(Debug)]
pub struct PostgresConnector;

/// What is read.
#[derive(Debug, Clone)]
struct PostgresOptions {
    url: String,
    user: Option<String>,
    password: Option<String>,
    /// What stands behind `FROM`.
    relation: String,
    /// As the options have them; the url may have them too.
    ssl_mode: Option<String>,
    ssl_root_cert: Option<String>,
    connect_timeout: Duration,
    query_timeout: Option<Duration>,
}

impl Connector for PostgresConnector {
    fn format(&self) -> &str {
        "postgres"
    }

    fn finds_columns(&self, _definition: &TableDefinition) -> bool {
        true
    }

    fn secret_options(&self) -> &[&str] {
        &["password"]
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let object = format!("table {} (USING postgres)", definition.name);
        let mut reader = definition.options.reader(&object);
        let options = PostgresOptions {
            url: reader.required("url", "postgresql://localhost:5432/shop")?.to_owned(),
            user: reader.text("user").map(str::to_owned),
            password: reader.text("password").map(str::to_owned),
            relation: relation(&object, &definition.name, &mut reader)?,
            ssl_mode: reader.text("sslmode").map(str::to_owned),
            ssl_root_cert: reader.text("sslrootcert").map(str::to_owned),
            connect_timeout: Duration::from_secs(reader.parsed("connectTimeout", "whole seconds")?.unwrap_or(10)),
            query_timeout: reader.parsed("queryTimeout", "whole seconds")?.map(Duration::from_secs),
        };
        reader.finish()?;
        if !definition.partition_columns.is_empty() {
            return Err(EngineError::config(format!("{object} has PARTITIONED BY, which it does not need to be read"))
                .help("leave it out"));
        }
        let database = Arc::new(Database::new(&object, options)?);
        let schema = match &definition.schema {
            Some(schema) => SchemaRef::clone(schema),
            None => columns::schema(&database.columns()?),
        };
        Ok(Arc::new(PostgresTable { name: definition.name.clone(), database, schema }))
    }
}

/// What stands behind `FROM`: a table's quoted name, or a query in parentheses with a name of its own.
fn relation(object: &str, name: &str, reader: &mut OptionReader<'_>) -> Result<String> {
    let (table, query) = (reader.text("dbtable"), reader.text("query"));
    match (table.map(str::trim), query.map(str::trim)) {
        (Some(_), Some(_)) => Err(EngineError::config(format!("{object} has both 'dbtable' and 'query'"))
            .help("keep the one that says what is read")),
        (None, Some(query)) => Ok(format!("({}) AS q", query.trim_end_matches(';'))),
        (Some(table), None) if table.starts_with('(') => Ok(table.to_owned()),
        (Some(table), None) => Ok(quoted_path(table)),
        (None, None) => Ok(quoted_path(name)),
    }
}

/// `schema.table` as SQL; names that are quoted already stay as they are.
fn quoted_path(path: &str) -> String {
    if path.contains('"') {
        return path.to_owned();
    }
    path.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

/// A name in SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

struct PostgresTable {
    name: String,
    database: Arc<Database>,
    schema: SchemaRef,
}

impl PostgresTable {
    fn refused(&self, what: &str, help: &str) -> EngineError {
        EngineError::query(format!("table {} (USING postgres) cannot be {what}", self.name)).help(help)
    }

    fn no_stream(&self) -> EngineError {
        self.refused("read as a stream", "read it without STREAM; it is then joined as it is when a batch runs")
    }
}

impl Table for PostgresTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn source(&self, _request: SourceRequest) -> Result<Box<dyn Source>> {
        Err(self.no_stream())
    }

    fn check_source(&self) -> Result<()> {
        Err(self.no_stream())
    }

    fn sink(&self, _request: SinkRequest) -> Result<Box<dyn Sink>> {
        Err(self.refused("written to", "write to a topic, a delta or a sqlite table"))
    }

    fn output_modes(&self) -> &[OutputMode] {
        &[]
    }

    fn probe(&self, _role: Role) -> Result<Option<String>> {
        let columns = self.database.columns()?.len();
        Ok(Some(format!("{} with {columns} columns", self.database)))
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        let (database, schema) = (Arc::clone(&self.database), SchemaRef::clone(&self.schema));
        let open = move |projection: &[usize], filters: &[Expr]| -> Result<Vec<_>> {
            let columns = Arc::new(schema.project(projection)?);
            Ok(vec![read::reader(Arc::clone(&database), columns, filters.to_vec())])
        };
        Ok(Arc::new(ReadersTable::filtered(&self.name, SchemaRef::clone(&self.schema), may_heed, open)))
    }
}
