//! Small tables made of columns: what the verbs that look at things print.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use serde::Serialize;

use super::{Format, stdout_failure, write_rows};
use crate::error::{Failure, Result};

/// A column of texts.
pub(crate) fn texts(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

/// A column of counts.
pub(crate) fn counts(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<UInt64Array>())
}

/// A column of times in milliseconds since 1970.
pub(crate) fn times(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

/// A column of yes and no.
pub(crate) fn flags(values: impl IntoIterator<Item = Option<bool>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<BooleanArray>())
}

/// Writes columns of one length as a table.
pub(crate) fn write_columns<const N: usize>(
    format: Format,
    columns: [(&str, ArrayRef); N],
    out: &mut impl Write,
) -> Result<()> {
    let columns = columns.map(|(name, array)| (name, array, true));
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| Failure::runtime(error.to_string()))?;
    write_rows(format, &batch.schema(), &[batch], out)
}

/// Writes a value as one line of JSON.
pub(crate) fn write_json<T: Serialize>(value: &T, out: &mut impl Write) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Failure::runtime(error.to_string()))?;
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(stdout_failure)
}

/// Writes each value as a line of JSON.
pub(crate) fn write_json_lines<T: Serialize>(values: &[T], out: &mut impl Write) -> Result<()> {
    values.iter().try_for_each(|value| write_json(value, out))
}
