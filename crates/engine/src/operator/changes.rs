//! Rows that are taken back: how an operator tells the next one, or a sink, that a row it gave before holds no more.
//!
//! ```text
//!   top, GROUP BY ──rows, (taken back)──> Exit: rows that are back, rows that hold ──steps──> KeyedBatch { taken_back }
//!                                                                            └──steps──> sink: rows, DELETED
//! ```
//!
//! In output mode update a group or a place may have another row than before. Where an operator reads them, each batch of
//! rows that the first one emits has one more column, which is the same for all of its rows; it never reaches the steps
//! between the two. A row is taken back with the very values it was given with, before the one that takes its place.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

use crate::error::{EngineError, Result};
use crate::sink::DELETED;

const TAKEN_BACK: &str = "(taken back)";

/// What of an operator's rows is told to whoever takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tells {
    /// The rows.
    #[default]
    Rows,
    /// Also which of them hold no more: another operator reads them.
    Changes,
    /// Also which of them are gone: a sink deletes them.
    Gone,
}

impl Tells {
    /// Whether emitted rows have the column that says so.
    pub(crate) fn has_mark(self) -> bool {
        self != Self::Rows
    }
}

/// Rows with the column that says whether they are taken back.
pub(crate) fn marked(rows: &RecordBatch, taken_back: bool) -> Result<RecordBatch> {
    with_column(rows, TAKEN_BACK, taken_back)
}

/// Rows without that column, and what it said.
pub(crate) fn unmarked(mut rows: RecordBatch) -> Result<(RecordBatch, bool)> {
    let last = rows.num_columns().checked_sub(1).filter(|at| rows.schema_ref().field(*at).name() == TAKEN_BACK);
    let last = last.ok_or_else(|| EngineError::internal("rows do not say whether they are taken back"))?;
    let mark = rows.remove_column(last);
    let taken_back = mark.as_boolean_opt().is_some_and(|mark| !mark.is_empty() && mark.value(0));
    Ok((rows, taken_back))
}

/// Rows for a sink that deletes.
pub(crate) fn for_deletes(rows: &RecordBatch, gone: bool) -> Result<RecordBatch> {
    with_column(rows, DELETED, gone)
}

fn with_column(rows: &RecordBatch, name: &str, value: bool) -> Result<RecordBatch> {
    let mut fields: Vec<Arc<Field>> = rows.schema_ref().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(name, DataType::Boolean, false)));
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns.push(Arc::new(BooleanArray::from(vec![value; rows.num_rows()])));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
