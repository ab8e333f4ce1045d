//! From rows to keyed rows: evaluates the grouping and argument expressions and sends each row to the worker that
//! owns its key.
//!
//! ```text
//!   RecordBatch ──> window starts (a sliding window copies the row) ──> late rows out ──> key bytes, hash, shard
//!                                                          ──> one KeyedBatch a worker
//! ```
//!
//! Keys are compared and stored as bytes (Arrow's row format, which keeps their order); the window is not part of
//! them, because state is kept a window at a time. Doubles are made normal first, so that equal keys are equal bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{filter, filter_record_batch, is_not_null, take, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::row::{RowConverter, SortField};

use super::{AggregateSpec, NO_EXPIRY};
use crate::error::{EngineError, Result};
use crate::operator::evaluate;
use crate::operator::normal::normalized;

/// Rows of one worker's keys, ready to be looked up.
#[derive(Debug, Default)]
pub(crate) struct KeyedBatch {
    /// The bucket each row belongs to.
    pub(super) buckets: Vec<i64>,
    /// Each row's key hash.
    pub(super) hashes: Vec<u64>,
    /// Where each row's key ends in `key_bytes`.
    pub(super) key_ends: Vec<usize>,
    /// The keys, one after another.
    pub(super) key_bytes: Vec<u8>,
    /// The columns the accumulators read.
    pub(super) columns: Vec<ArrayRef>,
}

impl KeyedBatch {
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    pub(super) fn key(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.key_ends[row - 1] };
        &self.key_bytes[start..self.key_ends[row]]
    }

    fn push(&mut self, bucket: i64, hash: u64, key: &[u8]) {
        self.buckets.push(bucket);
        self.hashes.push(hash);
        self.key_bytes.extend_from_slice(key);
        self.key_ends.push(self.key_bytes.len());
    }
}

/// Keys rows for one aggregate; each task has its own.
pub(crate) struct Keyer {
    spec: Arc<AggregateSpec>,
    converter: RowConverter,
    workers: usize,
}

/// What keying one batch gave.
pub(crate) struct Keyed {
    /// One entry a worker; empty ones are to be skipped.
    pub(crate) batches: Vec<KeyedBatch>,
    /// Rows left out because their window had closed.
    pub(crate) late_rows: u64,
}

impl Keyer {
    pub(crate) fn new(spec: Arc<AggregateSpec>, workers: usize) -> Result<Self> {
        let converter = spec.key_converter()?;
        Ok(Self { spec, converter, workers })
    }

    /// Keys the rows of `batch`; rows whose bucket expires at or before `late_us` are late.
    pub(crate) fn key(&mut self, batch: &RecordBatch, late_us: Option<i64>) -> Result<Keyed> {
        let Some((batch, buckets)) = self.buckets(batch)? else {
            return self.partition(batch, None, 0);
        };
        let size = self.spec.window.as_ref().map_or(0, |window| window.window.size_us);
        let Some(late_us) = late_us else { return self.partition(&batch, Some(&buckets), 0) };
        let late = buckets.values().iter().filter(|start| **start + size <= late_us).count();
        if late == 0 {
            return self.partition(&batch, Some(&buckets), 0);
        }
        let on_time: arrow::array::BooleanArray = buckets.iter().map(|start| Some(start? + size > late_us)).collect();
        let batch = filter_record_batch(&batch, &on_time)?;
        let buckets = filter(&buckets, &on_time)?;
        self.partition(&batch, Some(buckets.as_primitive()), late as u64)
    }

    /// The rows with the start of their window; none if the keys have no window. Rows without a time are left out,
    /// as in Spark; rows in several windows are there several times.
    fn buckets(&self, batch: &RecordBatch) -> Result<Option<(RecordBatch, TimestampMicrosecondArray)>> {
        let Some(window) = &self.spec.window else { return Ok(None) };
        let times = window.time.evaluate(batch)?.into_array(batch.num_rows())?;
        let (batch, times) = if times.null_count() > 0 {
            let present = is_not_null(&times)?;
            (filter_record_batch(batch, &present)?, filter(&times, &present)?)
        } else {
            (batch.clone(), times)
        };
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| {
            EngineError::internal(format!("event time is {} and not TIMESTAMP in microseconds", times.data_type()))
        })?;
        if window.window.is_tumbling() {
            let starts = times.unary(|time| window.window.last_start(time));
            return Ok(Some((batch, starts)));
        }
        let mut rows = Vec::with_capacity(times.len() * 2);
        let mut starts = Vec::with_capacity(times.len() * 2);
        for (row, time) in (0_u32..).zip(times.values()) {
            for start in window.window.starts(*time) {
                rows.push(row);
                starts.push(start);
            }
        }
        Ok(Some((take_record_batch(&batch, &UInt32Array::from(rows))?, starts.into())))
    }

    fn partition(
        &mut self,
        batch: &RecordBatch,
        buckets: Option<&TimestampMicrosecondArray>,
        late_rows: u64,
    ) -> Result<Keyed> {
        let rows = batch.num_rows();
        let keys = normalized(evaluate(&self.spec.keys, batch)?)?;
        let columns = evaluate(&self.spec.columns, batch)?;
        let keys = if keys.is_empty() { None } else { Some(self.converter.convert_columns(&keys)?) };
        let mut batches: Vec<KeyedBatch> = (0..self.workers).map(|_| KeyedBatch::default()).collect();
        let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); self.workers];
        for (index, row) in (0_u32..).zip(0..rows) {
            let bucket = buckets.map_or(NO_EXPIRY, |starts| starts.value(row));
            let key = keys.as_ref().map(|keys| keys.row(row));
            let key = key.as_ref().map_or(&[][..], |key| key.as_ref());
            let hash = key_hash(key);
            let worker = worker_of(hash, self.workers);
            batches[worker].push(bucket, hash, key);
            if self.workers > 1 {
                rows_of[worker].push(index);
            }
        }
        for (batch, rows) in batches.iter_mut().zip(rows_of) {
            batch.columns = if batch.len() == columns.first().map_or(0, Array::len) {
                columns.clone()
            } else {
                let rows = UInt32Array::from(rows);
                columns.iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?
            };
        }
        Ok(Keyed { batches, late_rows })
    }
}

/// The hash keys are found and spread by; never changes, because shards on disk follow from it.
pub(super) fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The shard of a key by its hash: [`crate::state::key::shard_of`] without hashing again.
pub(super) fn shard_of_hash(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// The worker that owns a key: shards are dealt out in equal runs.
pub(crate) fn worker_of(hash: u64, workers: usize) -> usize {
    usize::from(shard_of_hash(hash)) * workers / 256
}

/// A converter between key columns and key bytes.
pub(super) fn row_converter(types: &[arrow::datatypes::DataType]) -> Result<RowConverter> {
    Ok(RowConverter::new(types.iter().map(|data_type| SortField::new(data_type.clone())).collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_agree_with_the_state_store() {
        for key in [&b""[..], b"a", b"user-1"] {
            assert_eq!(shard_of_hash(key_hash(key)), crate::state::key::shard_of(key));
        }
    }
}
