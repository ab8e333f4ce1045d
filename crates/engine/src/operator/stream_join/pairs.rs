//! Which rows meet: pairs of a row that came and a row that is kept, and the columns that come of them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::SchemaRef;

use super::{LEFT, RIGHT, StreamJoinSpec};
use crate::error::{EngineError, Result};
use crate::operator::PhysicalExprRef;

/// Pairs of a row of a batch and the number of a kept row.
#[derive(Default)]
pub(super) struct Pairs {
    pub(super) came: Vec<u32>,
    pub(super) kept: Vec<u32>,
}

impl Pairs {
    pub(super) fn push(&mut self, came: u32, kept: u32) {
        self.came.push(came);
        self.kept.push(kept);
    }

    pub(super) fn len(&self) -> usize {
        self.came.len()
    }

    /// Keeps the pairs that `keep` has true.
    pub(super) fn retain(&mut self, keep: &BooleanArray) {
        let chosen = |values: &[u32]| -> Vec<u32> {
            values.iter().zip(keep).filter(|(_, keep)| *keep == Some(true)).map(|(value, _)| *value).collect()
        };
        (self.came, self.kept) = (chosen(&self.came), chosen(&self.kept));
    }
}

/// Chosen rows of a batch's columns.
pub(super) fn take_columns(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows.to_vec());
    columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect()
}

pub(super) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// For which rows a condition is true.
pub(super) fn condition(condition: &PhysicalExprRef, rows: &RecordBatch) -> Result<BooleanArray> {
    let keep = condition.evaluate(rows)?.into_array(rows.num_rows())?;
    let keep = keep.as_boolean_opt().ok_or_else(|| EngineError::internal("a join condition is not BOOLEAN"))?;
    Ok(keep.clone())
}

impl StreamJoinSpec {
    /// The columns of both sides, in their order, from those of the side rows came in by and those of the other.
    fn in_order(input: usize, mut came: Vec<ArrayRef>, mut kept: Vec<ArrayRef>) -> Vec<ArrayRef> {
        if input == LEFT {
            came.append(&mut kept);
            came
        } else {
            kept.append(&mut came);
            kept
        }
    }

    /// Pairs as rows, and which of them pass the condition.
    pub(super) fn filtered(
        &self,
        input: usize,
        came: Vec<ArrayRef>,
        kept: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<(RecordBatch, Option<BooleanArray>)> {
        let pairs = batch_of(&self.pair_schema, Self::in_order(input, came, kept), rows)?;
        let Some(filter) = &self.filter else { return Ok((pairs, None)) };
        let keep = condition(filter, &pairs)?;
        Ok((filter_record_batch(&pairs, &keep)?, Some(keep)))
    }

    /// Pairs as what comes out.
    pub(super) fn output(&self, pairs: &RecordBatch) -> Result<RecordBatch> {
        batch_of(&self.schema, pairs.columns().to_vec(), pairs.num_rows())
    }

    /// Rows of one side as what comes out: alone, or with nulls in the place of the other side.
    pub(super) fn alone(&self, side: usize, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        if !self.kind.gives_pairs() {
            return batch_of(&self.schema, columns, rows);
        }
        let other = if side == LEFT { RIGHT } else { LEFT };
        let fields = self.sides[other].schema.fields().iter();
        let nulls = fields.map(|field| new_null_array(field.data_type(), rows)).collect();
        batch_of(&self.schema, Self::in_order(side, columns, nulls), rows)
    }
}

/// Which rows of a batch have their flag set in its last column.
pub(super) fn flagged(column: &ArrayRef) -> Result<BooleanArray> {
    column.as_boolean_opt().cloned().ok_or_else(|| {
        EngineError::internal(format!("the null flag of a join key is {} and not BOOLEAN", column.data_type()))
    })
}
