//! Arrow values as SQLite values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use highwater_engine::error::Result;
use rusqlite::types::Value;

/// A column of the SQLite table and where its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) sql_type: &'static str,
    /// The column of the batch, and for a flattened window the field of the struct.
    pub(super) from: (usize, Option<usize>),
}

/// The columns a schema becomes.
pub(super) fn targets(schema: &Schema) -> Vec<Target> {
    let mut targets = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        match field.data_type() {
            DataType::Struct(fields) if is_window(field) => {
                for (position, part) in fields.iter().enumerate() {
                    targets.push(Target {
                        name: format!("{}_{}", field.name(), part.name()),
                        sql_type: sql_type(part.data_type()),
                        from: (index, Some(position)),
                    });
                }
            }
            other => {
                targets.push(Target { name: field.name().clone(), sql_type: sql_type(other), from: (index, None) })
            }
        }
    }
    targets
}

/// What `window(...)` gives: a struct of a start and an end.
fn is_window(field: &Field) -> bool {
    let DataType::Struct(fields) = field.data_type() else { return false };
    let is_time = |field: &Field| matches!(field.data_type(), DataType::Timestamp(..));
    fields.len() == 2
        && fields[0].name() == "start"
        && fields[1].name() == "end"
        && fields.iter().all(|field| is_time(field))
}

fn sql_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "INTEGER",
        other if other.is_integer() => "INTEGER",
        other if other.is_floating() => "REAL",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BLOB",
        _ => "TEXT",
    }
}

/// The values of a batch, a column at a time.
pub(super) fn columns(rows: &RecordBatch, targets: &[Target]) -> Result<Vec<Vec<Value>>> {
    targets
        .iter()
        .map(|target| {
            let column = rows.column(target.from.0);
            match target.from.1 {
                None => values(column),
                Some(field) => {
                    let parent = column.as_struct();
                    let mut part = values(parent.column(field))?;
                    part.iter_mut()
                        .enumerate()
                        .filter(|(row, _)| parent.is_null(*row))
                        .for_each(|(_, value)| *value = Value::Null);
                    Ok(part)
                }
            }
        })
        .collect()
}

fn values(column: &ArrayRef) -> Result<Vec<Value>> {
    let or_null = |value: Option<Value>| value.unwrap_or(Value::Null);
    Ok(match column.data_type() {
        DataType::Boolean => {
            column.as_boolean().iter().map(|value| or_null(value.map(|value| Value::Integer(value.into())))).collect()
        }
        other if other.is_integer() => cast(column, &DataType::Int64)?
            .as_primitive::<Int64Type>()
            .iter()
            .map(|value| or_null(value.map(Value::Integer)))
            .collect(),
        other if other.is_floating() => cast(column, &DataType::Float64)?
            .as_primitive::<Float64Type>()
            .iter()
            .map(|value| or_null(value.map(Value::Real)))
            .collect(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let column = cast(column, &DataType::Binary)?;
            let binary: &BinaryArray = column.as_binary();
            binary.iter().map(|value| or_null(value.map(|value| Value::Blob(value.to_vec())))).collect()
        }
        DataType::Timestamp(..) => timestamps(column)?,
        other if other.is_nested() => json_texts(column)?,
        _ => {
            let column = cast(column, &DataType::Utf8)?;
            let texts: &StringArray = column.as_string();
            texts.iter().map(|value| or_null(value.map(|value| Value::Text(value.to_owned())))).collect()
        }
    })
}

/// Always with six digits, so that texts sort like times.
fn timestamps(column: &ArrayRef) -> Result<Vec<Value>> {
    let zoned = matches!(column.data_type(), DataType::Timestamp(_, Some(_)));
    let format = if zoned { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into())))?;
    let text = |micros| {
        chrono::DateTime::from_timestamp_micros(micros).map(|time| Value::Text(time.format(format).to_string()))
    };
    Ok(micros
        .as_primitive::<TimestampMicrosecondType>()
        .iter()
        .map(|value| value.and_then(text).unwrap_or(Value::Null))
        .collect())
}

fn json_texts(column: &ArrayRef) -> Result<Vec<Value>> {
    let schema = Arc::new(Schema::new(vec![Field::new("c", column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::clone(column)])?;
    let mut lines = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut lines);
    writer.write(&batch)?;
    writer.finish()?;
    let text = String::from_utf8_lossy(&lines);
    let value = |line: &str| {
        let inner = line.strip_prefix("{\"c\":").and_then(|line| line.strip_suffix('}'));
        inner.map_or(Value::Null, |json| Value::Text(json.to_owned()))
    };
    Ok(text.lines().map(value).collect())
}
