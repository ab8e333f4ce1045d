//! Reads a SQLite table: a thread steps through one `SELECT` and hands over batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{PartitionReader, ReadReport};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::{SqliteOptions, quoted};

const BATCH_ROWS: usize = 8192;

/// The names of the table's columns; none if there is no such table.
pub(super) fn names(connection: &Connection, options: &SqliteOptions) -> Result<Vec<String>> {
    Ok(declared(connection, options)?.into_iter().map(|(name, _)| name).collect())
}

/// The columns of the table by SQLite's rules of affinity; none if there is no such table.
pub(super) fn columns(options: &SqliteOptions) -> Result<SchemaRef> {
    if !options.path.exists() {
        return Ok(Arc::new(Schema::empty()));
    }
    let fields: Vec<Field> = declared(&options.connect()?, options)?
        .into_iter()
        .map(|(name, declared)| Field::new(name, affinity(&declared), true))
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The affinity of each column that declares a type.
pub(super) fn affinities(options: &SqliteOptions) -> Result<HashMap<String, DataType>> {
    if !options.path.exists() {
        return Ok(HashMap::new());
    }
    let columns = declared(&options.connect()?, options)?.into_iter();
    Ok(columns
        .filter(|(_, declared)| !declared.is_empty())
        .map(|(name, declared)| (name, affinity(&declared)))
        .collect())
}

fn declared(connection: &Connection, options: &SqliteOptions) -> Result<Vec<(String, String)>> {
    let read = || -> rusqlite::Result<Vec<(String, String)>> {
        let mut statement = connection.prepare("SELECT name, type FROM pragma_table_info(?)")?;
        let rows = statement.query_map([&options.table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    read().map_err(|error| options.failed("read", error))
}

/// Section 3.1 of SQLite's datatype page.
fn affinity(declared: &str) -> DataType {
    let upper = declared.to_ascii_uppercase();
    if upper.contains("INT") {
        DataType::Int64
    } else if upper.contains("CHAR") || upper.contains("CLOB") || upper.contains("TEXT") {
        DataType::Utf8
    } else if upper.contains("BLOB") {
        DataType::Binary
    } else if upper.contains("REAL") || upper.contains("FLOA") || upper.contains("DOUB") {
        DataType::Float64
    } else {
        DataType::Utf8
    }
}

/// A reader of the columns of `schema`; the condition is a `WHERE` clause with the values of its parameters.
pub(super) fn reader(
    options: SqliteOptions,
    schema: SchemaRef,
    condition: (String, Vec<Value>),
) -> Result<Box<dyn PartitionReader>> {
    let (sender, batches) = sync_channel(2);
    let wanted = Arc::clone(&schema);
    let thread = std::thread::Builder::new().name("sqlite-read".to_owned());
    let started = thread.spawn(move || {
        if let Err(error) = step(&options, &wanted, condition, &sender) {
            // A reader that is gone does not want the error either.
            let _ = sender.send(Err(error));
        }
    });
    started.map_err(|error| EngineError::unavailable("cannot start a reader of SQLite").caused_by(error))?;
    Ok(Box::new(SqliteReader { batches, report: ReadReport::default() }))
}

fn step(
    options: &SqliteOptions,
    schema: &SchemaRef,
    (condition, params): (String, Vec<Value>),
    output: &SyncSender<Result<RecordBatch>>,
) -> Result<()> {
    let connection = options.connect()?;
    let failed = |error| options.failed("read", error);
    let names: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
    let list = if names.is_empty() { "NULL".to_owned() } else { names.join(", ") };
    let mut statement =
        connection.prepare(&format!("SELECT {list} FROM {}{condition}", quoted(&options.table))).map_err(failed)?;
    let mut rows = statement.query(params_from_iter(params)).map_err(failed)?;
    loop {
        let mut columns: Vec<Vec<Value>> = vec![Vec::new(); names.len()];
        let mut count = 0;
        while count < BATCH_ROWS {
            let Some(row) = rows.next().map_err(failed)? else { break };
            for (index, column) in columns.iter_mut().enumerate() {
                column.push(row.get(index).map_err(failed)?);
            }
            count += 1;
        }
        if count == 0 || output.send(batch(schema, columns, count)).is_err() {
            return Ok(());
        }
    }
}

fn batch(schema: &SchemaRef, columns: Vec<Vec<Value>>, rows: usize) -> Result<RecordBatch> {
    let arrays = columns.into_iter().zip(schema.fields()).map(|(values, field)| array(values, field));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays.collect::<Result<_>>()?, &options)?)
}

/// SQLite values in the column's type: numbers as numbers, everything else by way of its text.
fn array(values: Vec<Value>, field: &Field) -> Result<ArrayRef> {
    let found: ArrayRef = match field.data_type() {
        other if other.is_integer() || *other == DataType::Boolean => {
            Arc::new(values.iter().map(integer).collect::<Int64Array>())
        }
        other if other.is_floating() => Arc::new(values.iter().map(float).collect::<Float64Array>()),
        DataType::Binary => Arc::new(values.iter().map(bytes).collect::<BinaryArray>()),
        _ => Arc::new(values.iter().map(text).collect::<StringArray>()),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&found, field.data_type(), &options).map_err(|error| {
        EngineError::data(format!("column '{}' has a value that is no {}", field.name(), field.data_type()))
            .caused_by(error)
            .help("declare the column as STRING")
    })
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Real(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Blob(bytes) => Some(bytes.clone()),
        Value::Text(text) => Some(text.clone().into_bytes()),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Integer(number) => Some(number.to_string()),
        Value::Real(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.clone()),
        Value::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

struct SqliteReader {
    batches: Receiver<Result<RecordBatch>>,
    report: ReadReport,
}

impl PartitionReader for SqliteReader {
    fn partition(&self) -> &str {
        "sqlite"
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let batch = self.batches.recv().ok().transpose()?;
        self.report.records += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        Ok(batch)
    }

    fn report(&self) -> ReadReport {
        self.report
    }
}
