//! The SQLite sink: rows are staged in a table only this connection sees, then go over in one transaction.
//!
//! ```text
//!   write    temp.stage += rows              no lock on the database, spills to a temporary file
//!   prepare  nothing more: SQLite has no prepared state another process could find
//!   commit   BEGIN IMMEDIATE; token >= batch? ROLLBACK, done
//!            append    INSERT INTO t SELECT FROM stage
//!            update    INSERT ... ON CONFLICT (keys) DO UPDATE, the last row of a key wins
//!            deletes   DELETE FROM t the staged keys; INSERT the last row of each that is not gone
//!            complete  DELETE FROM t; INSERT ...
//!            token; COMMIT
//! ```
//!
//! A batch that was staged and not committed is gone with its connection: it is replayed, as the engine does with any
//! batch whose token is missing. Null keys are equal to each other here, which a unique index does not know, so rows
//! with a null key are deleted before they are inserted again.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use highwater_engine::clock::{Clock, SystemClock};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::sink::{BatchId, CommitReport, DELETED, OutputMode, Sink, SinkRequest, SinkToken};
use highwater_engine::writable::refuse_unwritable;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter};

use super::value::{Target, columns, targets};
use super::{SqliteOptions, quoted};

/// The way out where rows of one key cannot replace each other.
const SEVERAL_OF_A_KEY: &str = "the table has several rows with one key: remove them, or write to another table";

/// A SQLite table as the target of a query.
pub(super) struct SqliteSink {
    options: SqliteOptions,
    request: SinkRequest,
    connection: Connection,
    /// The columns of the table, and behind them whether the row is gone, if rows can go.
    staged: Vec<Target>,
    /// SQLite columns of the keys; a window key is two.
    keys: Vec<String>,
    batch: Option<(BatchId, u64)>,
}

impl SqliteSink {
    pub(super) fn open(options: SqliteOptions, request: SinkRequest) -> Result<Self> {
        let connection = options.connect()?;
        let staged = if request.deletes {
            let gone = Arc::new(Field::new(DELETED, DataType::Boolean, false));
            let fields: Vec<FieldRef> = request.schema.fields().iter().cloned().chain([gone]).collect();
            targets(&Schema::new(fields))
        } else {
            targets(&request.schema)
        };
        let keys = key_names(&request, &staged)?;
        let sink = Self { options, request, connection, staged, keys, batch: None };
        sink.create_tables()?;
        Ok(sink)
    }

    /// The columns of the table.
    fn targets(&self) -> &[Target] {
        &self.staged[..self.staged.len() - usize::from(self.request.deletes)]
    }

    fn create_tables(&self) -> Result<()> {
        let failed = |error| self.options.failed("create", error);
        let table = quoted(&self.options.table);
        let declared = |targets: &[Target]| {
            let columns = targets.iter().map(|target| format!("{} {}", quoted(&target.name), target.sql_type));
            columns.collect::<Vec<_>>().join(", ")
        };
        let (columns, staged) = (declared(self.targets()), declared(&self.staged));
        let script = format!(
            "CREATE TABLE IF NOT EXISTS _highwater_batches (query_id TEXT NOT NULL, table_name TEXT NOT NULL, \
             batch_id INTEGER NOT NULL, rows INTEGER NOT NULL, committed_at TEXT NOT NULL, \
             PRIMARY KEY (query_id, table_name)); \
             CREATE TABLE IF NOT EXISTS {table} ({columns}); \
             CREATE TEMP TABLE IF NOT EXISTS stage ({staged});"
        );
        self.connection.execute_batch(&script).map_err(failed)?;
        let known = super::read::names(&self.connection, &self.options)?;
        refuse_missing_columns(&self.options, &known, self.targets())?;
        if !self.keys.is_empty() {
            let index = quoted(&key_index(&self.options));
            let script = format!("CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {table} ({})", list(&self.keys));
            self.connection
                .execute_batch(&script)
                .map_err(|error| self.options.failed("create the key index of", error).help(SEVERAL_OF_A_KEY))?;
        }
        Ok(())
    }

    fn insert_staged(&self, rows: &RecordBatch) -> Result<()> {
        let values = columns(rows, &self.staged)?;
        let marks = vec!["?"; self.staged.len()].join(", ");
        let stage = || -> rusqlite::Result<()> {
            let transaction = self.connection.unchecked_transaction()?;
            {
                let mut insert = transaction.prepare_cached(&format!("INSERT INTO temp.stage VALUES ({marks})"))?;
                for row in 0..rows.num_rows() {
                    insert.execute(params_from_iter(values.iter().map(|column| &column[row])))?;
                }
            }
            transaction.commit()
        };
        stage().map_err(|error| self.options.failed("stage rows of", error))
    }

    fn stored_token(
        connection: &Connection,
        request: &SinkRequest,
        options: &SqliteOptions,
    ) -> rusqlite::Result<Option<BatchId>> {
        let sql = "SELECT batch_id FROM _highwater_batches WHERE query_id = ? AND table_name = ?";
        let token: Option<i64> =
            connection.query_row(sql, params![request.query_id, options.table], |row| row.get(0)).optional()?;
        Ok(token.and_then(|token| BatchId::try_from(token).ok()))
    }

    /// The statements that move the staged rows.
    fn statements(&self) -> Vec<String> {
        let table = quoted(&self.options.table);
        let names: Vec<String> = self.targets().iter().map(|target| target.name.clone()).collect();
        let columns = list(&names);
        let insert = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM temp.stage");
        match self.request.output_mode {
            OutputMode::Append => vec![insert],
            OutputMode::Complete => vec![format!("DELETE FROM main.{table}"), insert],
            OutputMode::Update if self.keys.is_empty() => vec![insert],
            OutputMode::Update if self.request.deletes => self.replacement(&columns),
            OutputMode::Update => {
                let any_null = self.keys.iter().map(|key| format!("t.{} IS NULL", quoted(key)));
                let same = self.keys.iter().map(|key| format!("s.{0} IS t.{0}", quoted(key)));
                let delete = format!(
                    "DELETE FROM main.{table} AS t WHERE ({}) AND EXISTS (SELECT 1 FROM temp.stage AS s WHERE {})",
                    any_null.collect::<Vec<_>>().join(" OR "),
                    same.collect::<Vec<_>>().join(" AND ")
                );
                let set = names
                    .iter()
                    .filter(|name| !self.keys.contains(name))
                    .map(|name| format!("{0} = excluded.{0}", quoted(name)));
                let set = set.collect::<Vec<_>>().join(", ");
                let action = if set.is_empty() { "DO NOTHING".to_owned() } else { format!("DO UPDATE SET {set}") };
                let upsert = format!(
                    "{insert} WHERE true ORDER BY temp.stage.rowid ON CONFLICT ({}) {action}",
                    list(&self.keys)
                );
                vec![delete, upsert]
            }
        }
    }

    /// The staged keys go, and the last row of each comes, unless it says that the row is gone.
    fn replacement(&self, columns: &str) -> Vec<String> {
        let (table, keys) = (quoted(&self.options.table), list(&self.keys));
        let same = self.keys.iter().map(|key| format!("t.{0} IS s.{0}", quoted(key))).collect::<Vec<_>>().join(" AND ");
        let delete = format!(
            "DELETE FROM main.{table} WHERE rowid IN \
             (SELECT t.rowid FROM temp.stage AS s CROSS JOIN main.{table} AS t ON {same})"
        );
        let insert = format!(
            "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM \
             (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY rowid DESC) AS _highwater_age FROM temp.stage) \
             WHERE _highwater_age = 1 AND NOT {}",
            quoted(DELETED)
        );
        vec![delete, insert]
    }

    /// One transaction with rows and token; false if the token was there already.
    fn transfer(&mut self, batch_id: BatchId, rows: u64) -> rusqlite::Result<bool> {
        let statements = self.statements();
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        if Self::stored_token(&transaction, &self.request, &self.options)?.is_some_and(|known| known >= batch_id) {
            return Ok(false);
        }
        for statement in &statements {
            transaction.execute(statement, [])?;
        }
        let now = chrono::DateTime::from_timestamp_millis(SystemClock.now_ms()).unwrap_or_default();
        transaction.execute(
            "INSERT INTO _highwater_batches (query_id, table_name, batch_id, rows, committed_at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (query_id, table_name) DO UPDATE SET batch_id = excluded.batch_id, rows = excluded.rows, \
             committed_at = excluded.committed_at",
            params![
                self.request.query_id,
                self.options.table,
                i64::try_from(batch_id).unwrap_or(i64::MAX),
                i64::try_from(rows).unwrap_or(i64::MAX),
                now.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
            ],
        )?;
        transaction.commit()?;
        Ok(true)
    }

    fn clear_stage(&self) -> Result<()> {
        self.connection
            .execute_batch("DELETE FROM temp.stage")
            .map_err(|error| self.options.failed("stage rows of", error))
    }
}

#[cfg(test)]
impl SqliteSink {
    /// Makes the database full at so many pages.
    pub(super) fn limit_pages(&self, pages: Option<u32>) {
        let pages = pages.unwrap_or(1_000_000);
        self.connection.pragma_update(None, "max_page_count", pages).expect("a limit");
    }
}

/// What [`SqliteSink::open`] would refuse, asked without changing anything; tells how many columns the table has, none if
/// it is still to be made.
pub(super) fn probe(options: &SqliteOptions, request: &SinkRequest) -> Result<usize> {
    if let Some(folder) = options.path.parent() {
        refuse_unwritable("the folder of the database", folder, "choose a path that can be written to")?;
    }
    if !options.path.exists() {
        return Ok(0);
    }
    // Opened for writing and not written to: what the system does not allow it says here.
    let opened = std::fs::OpenOptions::new().write(true).open(&options.path);
    opened.map_err(|error| {
        let message = format!("the database '{}' cannot be written to", options.path.display());
        EngineError::config(message).caused_by(error).help("check the path and its permissions")
    })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&options.path, flags);
    let connection = connection.map_err(|error| options.failed("open", error))?;
    connection.busy_timeout(options.busy_timeout).map_err(|error| options.failed("open", error))?;
    let (known, targets) = (super::read::names(&connection, options)?, targets(&request.schema));
    if known.is_empty() {
        return Ok(0);
    }
    refuse_missing_columns(options, &known, &targets)?;
    refuse_several_of_a_key(options, &connection, &key_names(request, &targets)?)?;
    Ok(known.len())
}

/// SQLite columns of the keys; none where rows do not replace each other.
fn key_names(request: &SinkRequest, targets: &[Target]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if request.output_mode == OutputMode::Update {
        for key in &request.key_columns {
            let index = request.schema.index_of(key)?;
            names.extend(targets.iter().filter(|target| target.from.0 == index).map(|target| target.name.clone()));
        }
    }
    Ok(names)
}

fn refuse_missing_columns(options: &SqliteOptions, known: &[String], targets: &[Target]) -> Result<()> {
    let is_missing = |target: &&Target| !known.iter().any(|name| name.eq_ignore_ascii_case(&target.name));
    let Some(missing) = targets.iter().find(is_missing) else { return Ok(()) };
    let (table, path) = (&options.table, options.path.display());
    Err(EngineError::config(format!("table '{table}' of '{path}' has no column '{}'", missing.name))
        .help(format!("its columns are {}: add the column, or write to another table", known.join(", "))))
}

/// A table that others filled may have rows that a unique index does not take.
fn refuse_several_of_a_key(options: &SqliteOptions, connection: &Connection, keys: &[String]) -> Result<()> {
    let index = key_index(options);
    let is_there = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?";
    let is_there = connection.query_row(is_there, [index], |_| Ok(())).optional();
    if keys.is_empty() || is_there.map_err(|error| options.failed("read", error))?.is_some() {
        return Ok(());
    }
    let present = keys.iter().map(|key| format!("{} IS NOT NULL", quoted(key))).collect::<Vec<_>>().join(" AND ");
    let (table, keys) = (quoted(&options.table), list(keys));
    let several = format!("SELECT 1 FROM {table} WHERE {present} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1");
    let found = connection.query_row(&several, [], |_| Ok(())).optional();
    match found.map_err(|error| options.failed("read", error))? {
        None => Ok(()),
        Some(()) => {
            let (table, path) = (&options.table, options.path.display());
            let message = format!("table '{table}' of '{path}' has several rows with the same {keys}");
            Err(EngineError::data(message).help(SEVERAL_OF_A_KEY))
        }
    }
}

/// The name of the index that keeps keys apart.
fn key_index(options: &SqliteOptions) -> String {
    format!("_highwater_{}_keys", options.table)
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

impl Sink for SqliteSink {
    fn description(&self) -> String {
        format!("SqliteSink[{}, {}]", self.options.path.display(), self.options.table)
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        let token = Self::stored_token(&self.connection, &self.request, &self.options);
        let token = token.map_err(|error| self.options.failed("read the token of", error))?;
        Ok(token.map_or(SinkToken::None, SinkToken::Committed))
    }

    fn begin(&mut self, batch_id: BatchId) -> Result<()> {
        self.clear_stage()?;
        self.batch = Some((batch_id, 0));
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let Some((_, count)) = &mut self.batch else {
            return Err(EngineError::internal("the SQLite sink was called outside of a batch"));
        };
        *count += rows.num_rows() as u64;
        self.insert_staged(rows)
    }

    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        let Some((batch_id, rows)) = self.batch.take() else {
            return Err(EngineError::internal("the SQLite sink was called outside of a batch"));
        };
        match self.transfer(batch_id, rows) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(batch_id, "the batch was committed by another run of this query: its rows are dropped")
            }
            Err(error) => return Err(self.options.failed("write", error)),
        }
        self.clear_stage()?;
        Ok(CommitReport { rows })
    }

    fn abort(&mut self) -> Result<()> {
        self.batch = None;
        self.clear_stage()
    }
}
