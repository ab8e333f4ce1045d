//! `AUTO CDC`: a stream of changes becomes the rows of a table, whatever order the changes come in.
//!
//! ```text
//!   KeyedBatch ──by key, in order of their sequence──> changes of a key
//!        type 1   newest change known of the key: is it newer?            ──> the key's row, or that it is gone
//!        type 2   its history from the change before on: put them in,     ──> rows that are new or other than they
//!                 compare what is visible before and after                    were, and those that are gone
//! ```
//!
//! What comes out replaces and deletes rows of the target by key ([`crate::sink::DELETED`]); the target is never read.
//! What a change means when a later one is known already is decided by state alone: for type 1 the sequences of the
//! newest change of each key, for type 2 every change (`history.rs`). Like Spark's auxiliary tables it is kept for ever:
//! a delete is remembered, since an older change may still come.
//!
//! A change without a key or a sequence fails the batch, as in Spark (`AUTOCDC_MICROBATCH_VALIDATION`).

mod codec;
mod history;
mod latest;
mod rows;

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType, SchemaRef};

use super::keyed::{InputSpec, KeyedBatch};
use super::{Emit, Operator, OperatorCounts, OperatorSpec, Place, StateBound};
use crate::error::{EngineError, Result};
use crate::plan::auto_cdc::ScdType;
use crate::state::ChangeSet;
use codec::Codec;
use rows::Rows;

/// What one `AUTO CDC` does.
#[derive(Debug)]
pub(crate) struct CdcSpec {
    /// Its lasting name in the checkpoint.
    pub(crate) id: String,
    /// As columns the keys, the data (what is no key), the sequence and whether the row deletes.
    pub(crate) input: Arc<InputSpec>,
    pub(crate) scd_type: ScdType,
    /// The types of the data.
    pub(crate) data_types: Vec<DataType>,
    /// What the data columns are called.
    pub(crate) data_names: Vec<String>,
    /// Which of the data make a new row of the history.
    pub(crate) tracked: Vec<usize>,
    pub(crate) sequence_type: DataType,
    /// Each of the target's own columns: its place among keys and data.
    pub(crate) layout: Vec<usize>,
    /// The target's columns, those of the history among them, and whether the row is gone.
    pub(crate) schema: SchemaRef,
}

impl CdcSpec {
    /// Where the sequence stands among the columns; whether the row deletes stands after it.
    fn sequence_at(&self) -> usize {
        self.input.key_types.len() + self.data_types.len()
    }
}

impl OperatorSpec for CdcSpec {
    fn id(&self) -> &str {
        &self.id
    }

    /// Spark has no operator of its own for it: it merges each batch into the table.
    fn spark_name(&self) -> &'static str {
        "autoCdc"
    }

    fn fingerprint(&self) -> String {
        let (keys, sequence) = (&self.input.key_types, &self.sequence_type);
        match self.scd_type {
            ScdType::One => format!("v1 scd 1 keys {keys:?} sequence {sequence:?}"),
            ScdType::Two => {
                let data: Vec<_> = self.data_names.iter().zip(&self.data_types).collect();
                let tracked = &self.tracked;
                format!("v1 scd 2 keys {keys:?} sequence {sequence:?} data {data:?} tracked {tracked:?}")
            }
        }
    }

    fn decides_by(&self) -> Vec<super::PhysicalExprRef> {
        self.input.columns.get(self.sequence_at()).cloned().into_iter().collect()
    }

    fn inputs(&self) -> Vec<Arc<InputSpec>> {
        vec![Arc::clone(&self.input)]
    }

    fn bound(&self) -> StateBound {
        StateBound::Target(match self.scd_type {
            ScdType::One => "the newest sequence of every key there ever was",
            ScdType::Two => "every change of the history",
        })
    }

    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>> {
        let codec = Codec::new(&self)?;
        let rows = Rows::open(place)?;
        Ok(Box::new(CdcOperator { spec: self, codec, rows }))
    }
}

struct CdcOperator {
    spec: Arc<CdcSpec>,
    codec: Codec,
    rows: Rows,
}

impl CdcOperator {
    /// Refuses rows that belong to no row of the target or nowhere in its order.
    fn check(&self, rows: &KeyedBatch) -> Result<()> {
        let names = &self.spec.input.key_names;
        for (name, column) in names.iter().zip(&rows.columns) {
            if column.null_count() > 0 {
                return Err(EngineError::data(format!(
                    "[AUTOCDC_MICROBATCH_VALIDATION.NULL_KEY] {} changes have no key: their column '{name}' is null",
                    column.null_count()
                ))
                .help("leave them out: FROM (SELECT ... FROM STREAM t WHERE the key IS NOT NULL)"));
            }
        }
        let nulls = rows.columns[self.spec.sequence_at()].null_count();
        if nulls > 0 {
            return Err(EngineError::data(format!(
                "[AUTOCDC_MICROBATCH_VALIDATION.NULL_SEQUENCE] {nulls} changes have no place in the order of their \
                 keys: SEQUENCE BY gives null for them"
            ))
            .help("leave them out: FROM (SELECT ... FROM STREAM t WHERE the sequence IS NOT NULL)"));
        }
        Ok(())
    }
}

impl Operator for CdcOperator {
    fn process(&mut self, _: usize, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        self.check(rows)?;
        let deletes = deletes(rows, self.spec.sequence_at() + 1)?;
        match self.spec.scd_type {
            ScdType::One => latest::process(&self.codec, &mut self.rows, rows, &deletes, emit),
            ScdType::Two => history::process(&self.codec, &mut self.rows, rows, &deletes, emit),
        }
    }

    fn finish_batch(&mut self, _: Option<i64>, _: &mut Emit<'_>) -> Result<()> {
        self.rows.end_batch();
        Ok(())
    }

    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        self.rows.take_changes(&mut changes[0])
    }

    /// The store knows all rows once the batch has ended.
    fn take_unflushed(&mut self, _: &mut [ChangeSet]) -> Result<()> {
        Ok(())
    }

    fn counts(&self) -> OperatorCounts {
        self.rows.counts()
    }
}

/// Which rows delete: those for which the condition is true.
fn deletes(rows: &KeyedBatch, at: usize) -> Result<BooleanArray> {
    let column = rows.columns[at].as_boolean_opt();
    let column = column.ok_or_else(|| EngineError::internal("the delete condition is not BOOLEAN"))?;
    Ok(if column.null_count() > 0 { prep_null_mask_filter(column) } else { column.clone() })
}

/// The rows, those of a key together and in the order of their sequence; equals as they came.
fn in_order<'a>(rows: &KeyedBatch, sequence: impl Fn(usize) -> &'a [u8]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows.key(*a).cmp(rows.key(*b)).then_with(|| sequence(*a).cmp(sequence(*b))));
    order
}
