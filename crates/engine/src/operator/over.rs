//! Functions with `OVER (PARTITION BY ...)` whose partitions contain event time: rows wait until the watermark says
//! that their partition is whole, then the functions are computed over it and the rows come out with them.
//!
//! This is more than Spark runs on streams; the rows that come are those Spark gives for the same rows in a batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::kept_rows::{Expiry, KeptRows, KeptRowsSpec};
use super::keyed::{InputSpec, KeyedBatch};
use super::layout::{Layout, Part};
use super::state_table::StateTable;
use super::{Emit, Operator, OperatorCounts, OperatorSpec, Place, StateBound};
use crate::error::Result;
use crate::plan::batch::BatchPlan;
use crate::state::ChangeSet;

/// Event time that is kept together.
const BUCKET_US: i64 = 60_000_000;

/// What functions over whole partitions do.
pub(crate) struct OverSpec {
    /// Its lasting name in the checkpoint.
    pub(crate) id: String,
    /// The partition, and as columns the whole row.
    pub(crate) input: Arc<InputSpec>,
    /// The columns of a row.
    pub(crate) schema: SchemaRef,
    /// The functions, over rows of whole partitions.
    pub(crate) plan: BatchPlan,
}

impl std::fmt::Debug for OverSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OverSpec").field("id", &self.id).field("input", &self.input).finish_non_exhaustive()
    }
}

impl OperatorSpec for OverSpec {
    fn id(&self) -> &str {
        &self.id
    }

    fn spark_name(&self) -> &'static str {
        "window"
    }

    fn fingerprint(&self) -> String {
        format!("v1 keys {:?} rows {:?} bucket {BUCKET_US}", self.input.key_types, self.types())
    }

    fn layout(&self) -> Result<Option<Layout>> {
        let kind = format!("rows by {BUCKET_US} us");
        Ok(Some(Layout::new(kind, self.input.named_keys(), vec![Part::columns(&self.schema)])))
    }

    fn inputs(&self) -> Vec<Arc<InputSpec>> {
        vec![Arc::clone(&self.input)]
    }

    fn bound(&self) -> StateBound {
        StateBound::Watermark("the event time of its partition".to_owned())
    }

    fn state_tables(&self) -> Result<Vec<StateTable>> {
        Ok(vec![StateTable::rows(&self.id, &self.input, Some(&self.schema), Some(Expiry::AT_WATERMARK), false)])
    }

    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>> {
        let budget_bytes = place.budget_bytes;
        let kept = KeptRowsSpec {
            owner: self.id.clone(),
            types: self.types(),
            expiry: Some(Expiry::AT_WATERMARK),
            bucket_us: BUCKET_US,
        };
        let kept = KeptRows::open(kept, 0, place)?;
        let counts = kept.counts();
        Ok(Box::new(OverOperator { kept, spec: self, budget_bytes, counts }))
    }
}

impl OverSpec {
    fn types(&self) -> Vec<arrow::datatypes::DataType> {
        self.schema.fields().iter().map(|field| field.data_type().clone()).collect()
    }
}

struct OverOperator {
    spec: Arc<OverSpec>,
    kept: KeptRows,
    budget_bytes: usize,
    counts: OperatorCounts,
}

impl Operator for OverOperator {
    fn process(&mut self, _: usize, rows: &KeyedBatch, _: &mut Emit<'_>) -> Result<()> {
        let all: Vec<u32> = (0..u32::try_from(rows.len()).unwrap_or(u32::MAX)).collect();
        self.kept.insert(rows, &rows.columns, &all, &vec![false; rows.len()])?;
        if self.kept.memory_bytes() > self.budget_bytes {
            self.kept.spill(self.budget_bytes / 2)?;
        }
        Ok(())
    }

    fn finish_batch(&mut self, watermark_us: Option<i64>, emit: &mut Emit<'_>) -> Result<()> {
        if let Some(bound) = self.kept.bound(watermark_us) {
            let mut whole = Vec::new();
            let schema = &self.spec.schema;
            self.kept.expire(
                bound,
                Some(&mut |columns, _| {
                    whole.push(RecordBatch::try_new(Arc::clone(schema), columns)?);
                    Ok(())
                }),
            )?;
            if !whole.is_empty() {
                self.spec.plan.run(vec![whole])?.into_iter().filter(|rows| rows.num_rows() > 0).try_for_each(emit)?;
            }
        }
        self.counts = self.kept.counts();
        Ok(())
    }

    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        self.kept.take_changes(&mut changes[0])
    }

    fn take_unflushed(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        self.kept.take_unflushed(&mut changes[0])
    }

    fn counts(&self) -> OperatorCounts {
        self.counts
    }
}
