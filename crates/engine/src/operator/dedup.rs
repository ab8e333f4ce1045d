//! Deduplication: the first row of each key passes at once, later ones do not while the key is remembered.
//!
//! Without event time a key is remembered for ever, or for a time to live from its first row on. With event time among the keys it is forgotten when the watermark
//! reaches it (Spark's `dropDuplicates`); with event time beside them, when the watermark is the delay beyond it
//! (`dropDuplicatesWithinWatermark`).

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;

use super::kept_rows::{Expiry, KeptRows, KeptRowsSpec, Reach};
use super::keyed::{InputSpec, KeyedBatch};
use super::layout::Layout;
use super::state_table::StateTable;
use super::{Emit, Operator, OperatorCounts, OperatorSpec, Place, StateBound};
use crate::error::Result;
use crate::state::ChangeSet;

/// What one deduplication does.
#[derive(Debug)]
pub(crate) struct DedupSpec {
    /// Its lasting name in the checkpoint.
    pub(crate) id: String,
    /// What makes two rows the same, and as columns what comes out.
    pub(crate) input: Arc<InputSpec>,
    /// When a key is forgotten; never without one.
    pub(crate) expiry: Option<Expiry>,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
}

/// Event time that is kept together.
const BUCKET_US: i64 = 60_000_000;

impl OperatorSpec for DedupSpec {
    fn id(&self) -> &str {
        &self.id
    }

    fn spark_name(&self) -> &'static str {
        "dedupe"
    }

    fn fingerprint(&self) -> String {
        format!("v1 keys {:?} bucket {BUCKET_US}", self.input.key_types)
    }

    fn layout(&self) -> Result<Option<Layout>> {
        Ok(Some(Layout::new(format!("keys by {BUCKET_US} us"), self.input.named_keys(), vec![Vec::new()])))
    }

    fn inputs(&self) -> Vec<Arc<InputSpec>> {
        vec![Arc::clone(&self.input)]
    }

    fn bound(&self) -> StateBound {
        match self.expiry {
            Some(expiry) => StateBound::Watermark(match -expiry.offset_us / 1000 {
                0 => "its event time".to_owned(),
                delay_ms => format!("its event time and {delay_ms} ms more"),
            }),
            None => StateBound::None,
        }
    }

    fn takes_ttl(&self) -> bool {
        self.expiry.is_none()
    }

    fn state_tables(&self) -> Result<Vec<StateTable>> {
        Ok(vec![StateTable::rows(&self.id, &self.input, None, self.expiry, false)])
    }

    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>> {
        let budget_bytes = place.budget_bytes;
        let kept =
            KeptRowsSpec { owner: self.id.clone(), types: Vec::new(), expiry: self.expiry, bucket_us: BUCKET_US };
        let mut operator = DedupOperator {
            kept: KeptRows::open(kept, 0, place)?,
            spec: self,
            budget_bytes,
            counts: OperatorCounts::default(),
        };
        operator.counts = operator.kept.counts();
        Ok(Box::new(operator))
    }
}

struct DedupOperator {
    spec: Arc<DedupSpec>,
    /// The keys; their rows have no columns.
    kept: KeptRows,
    budget_bytes: usize,
    counts: OperatorCounts,
}

impl DedupOperator {
    /// The rows whose key was not there, each key once.
    fn first_rows(&self, rows: &KeyedBatch) -> Vec<u32> {
        let mut chosen: Vec<u32> = Vec::new();
        let mut here: HashTable<u32> = HashTable::new();
        for (row, number) in (0..rows.len()).zip(0_u32..) {
            let (hash, key) = (rows.hashes[row], rows.key(row));
            if here.find(hash, |at| rows.key(*at as usize) == key).is_some() {
                continue;
            }
            here.insert_unique(hash, number, |at| rows.hashes[*at as usize]);
            let mut is_known = false;
            self.kept.find(hash, key, rows.buckets[row], Reach::default(), |_| is_known = true);
            if !is_known {
                chosen.push(number);
            }
        }
        chosen
    }
}

impl Operator for DedupOperator {
    fn begin_batch(&mut self, time_us: i64) -> Result<()> {
        self.kept.begin_batch(time_us)
    }

    fn process(&mut self, _: usize, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        let all: Vec<u32> = (0..u32::try_from(rows.len()).unwrap_or(u32::MAX)).collect();
        self.kept.load_for(rows, &all, Reach::default())?;
        let chosen = self.first_rows(rows);
        if chosen.is_empty() {
            return Ok(());
        }
        self.kept.insert(rows, &[], &chosen, &vec![false; rows.len()])?;
        if self.kept.memory_bytes() > self.budget_bytes {
            self.kept.spill(self.budget_bytes / 2)?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(chosen.len()));
        let chosen = UInt32Array::from(chosen);
        let columns = rows.columns.iter().map(|column| take(column, &chosen, None)).collect::<Result<_, _>>()?;
        emit(RecordBatch::try_new_with_options(Arc::clone(&self.spec.schema), columns, &options)?)
    }

    fn finish_batch(&mut self, watermark_us: Option<i64>, _: &mut Emit<'_>) -> Result<()> {
        if let Some(bound) = self.kept.bound(watermark_us) {
            self.kept.expire(bound, None)?;
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
