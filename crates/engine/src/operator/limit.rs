//! `LIMIT n` on a stream: the first n rows there ever were, counted over all batches.
//!
//! All rows go to the worker of the empty key. Which of the rows of one batch come first is open, as in Spark.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::keyed::{InputSpec, KeyedBatch, key_hash, shard_of_hash, worker_of};
use super::state_table::{StateLayout, StateTable};
use super::{Emit, NO_EXPIRY, Operator, OperatorCounts, OperatorSpec, Place, StateBound};
use crate::error::{EngineError, Result};
use crate::state::{ChangeSet, key};

/// What one `LIMIT` does.
#[derive(Debug)]
pub(crate) struct LimitSpec {
    /// Its lasting name in the checkpoint.
    pub(crate) id: String,
    /// No keys; as columns the whole row.
    pub(crate) input: Arc<InputSpec>,
    /// How many rows pass.
    pub(crate) limit: u64,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
}

impl OperatorSpec for LimitSpec {
    fn id(&self) -> &str {
        &self.id
    }

    fn spark_name(&self) -> &'static str {
        "globalLimit"
    }

    /// The number is no part of it: rows that passed stay passed when it changes.
    fn fingerprint(&self) -> String {
        "v1".to_owned()
    }

    fn inputs(&self) -> Vec<Arc<InputSpec>> {
        vec![Arc::clone(&self.input)]
    }

    fn bound(&self) -> StateBound {
        StateBound::Rows(1)
    }

    fn state_tables(&self) -> Result<Vec<StateTable>> {
        Ok(vec![StateTable::new(&self.id, StateLayout::Count)])
    }

    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>> {
        let mut operator =
            LimitOperator { spec: self, passed: 0, is_dirty: false, is_unflushed: false, is_stored: false };
        if worker_of(key_hash(&[]), place.workers) == place.worker {
            operator.load(&place)?;
        }
        Ok(Box::new(operator))
    }
}

struct LimitOperator {
    spec: Arc<LimitSpec>,
    /// Rows that passed, over all batches.
    passed: u64,
    is_dirty: bool,
    is_unflushed: bool,
    is_stored: bool,
}

impl LimitOperator {
    fn load(&mut self, place: &Place) -> Result<()> {
        let stored = place.store.multi_get(place.first_table, &[state_key()])?.pop().flatten();
        let Some(bytes) = stored else { return Ok(()) };
        let bytes = bytes.as_slice().try_into().map_err(|_| {
            EngineError::data(format!(
                "the state of {} is damaged: its count has {} bytes, expected 8",
                self.spec.id,
                bytes.len()
            ))
            .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
        })?;
        (self.passed, self.is_stored) = (u64::from_be_bytes(bytes), true);
        Ok(())
    }

    fn put(&self, changes: &mut [ChangeSet]) {
        changes[0].push_put(&state_key(), &self.passed.to_be_bytes());
    }
}

impl Operator for LimitOperator {
    fn process(&mut self, _: usize, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        let left = self.spec.limit.saturating_sub(self.passed);
        let taken = rows.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if taken == 0 {
            return Ok(());
        }
        self.passed += taken as u64;
        (self.is_dirty, self.is_unflushed, self.is_stored) = (true, true, true);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.spec.schema), rows.columns.clone(), &options)?;
        emit(batch.slice(0, taken))
    }

    fn finish_batch(&mut self, _: Option<i64>, _: &mut Emit<'_>) -> Result<()> {
        Ok(())
    }

    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        if std::mem::take(&mut self.is_dirty) {
            self.put(changes);
        }
        Ok(())
    }

    fn take_unflushed(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        if std::mem::take(&mut self.is_unflushed) {
            self.put(changes);
        }
        Ok(())
    }

    fn counts(&self) -> OperatorCounts {
        OperatorCounts {
            rows_total: u64::from(self.is_stored),
            rows_updated: u64::from(self.is_dirty),
            ..OperatorCounts::default()
        }
    }
}

fn state_key() -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(NO_EXPIRY, shard_of_hash(key_hash(&[])), &[], &mut bytes);
    bytes
}
