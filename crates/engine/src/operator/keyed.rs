//! From rows to keyed rows: evaluates key and value expressions and sends each row to the worker that owns its key.
//!
//! ```text
//!   RecordBatch ──> buckets (a sliding window copies the row) ──> late rows out ──> key bytes, hash, shard
//!                                                          ──> one KeyedBatch a worker
//! ```
//!
//! Keys are compared and stored as bytes (Arrow's row format, which keeps their order); the time a row is kept by is
//! not part of them, because state is kept a bucket of time at a time. Doubles are made normal first, so that equal
//! keys are equal bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{filter, filter_record_batch, is_not_null, take, take_record_batch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};

use super::layout::History;
use super::layout::codec::KeyCodec;
use super::normal::normalized;
use super::state_table::shown_name;
use super::{NO_EXPIRY, PhysicalExprRef, evaluate};
use crate::error::{EngineError, Result};
use crate::plan::window::TimeWindow;

/// How the rows of one input of an operator find their state.
#[derive(Debug)]
pub(crate) struct InputSpec {
    /// The expressions that make up the key, but for time.
    pub(crate) keys: Vec<PhysicalExprRef>,
    /// The types of `keys`.
    pub(crate) key_types: Vec<DataType>,
    /// What the keys are called, time included, for people.
    pub(crate) key_names: Vec<String>,
    /// The bucket of time a row belongs to.
    pub(crate) bucket: Bucketing,
    /// What the operator reads of a row.
    pub(crate) columns: Vec<PhysicalExprRef>,
    /// Whether rows behind the watermark are late.
    pub(crate) has_watermark: bool,
}

impl InputSpec {
    /// The keys with what they are called.
    pub(crate) fn named_keys(&self) -> Vec<(String, DataType)> {
        self.key_names.iter().map(|name| shown_name(name)).zip(self.key_types.iter().cloned()).collect()
    }
}

/// The bucket of time a row belongs to.
#[derive(Debug)]
pub(crate) enum Bucketing {
    /// All rows are in one that never expires.
    None,
    /// That of each window its time is in, by the window's start. Rows without a time are left out, as in Spark.
    Window { time: PhysicalExprRef, window: TimeWindow },
    /// That of its time. Rows without a time are in the one that never expires.
    Instant { time: PhysicalExprRef },
    /// That of the end of its own session, with the session's start as one more column. Rows without a session are
    /// left out.
    Session { session: PhysicalExprRef },
}

impl Bucketing {
    /// From a bucket to the moment the watermark has to reach for its rows to be late.
    pub(crate) fn size_us(&self) -> i64 {
        match self {
            Self::Window { window, .. } => window.size_us,
            Self::None | Self::Instant { .. } | Self::Session { .. } => 0,
        }
    }
}

/// Rows of one worker's keys, ready to be looked up.
#[derive(Debug, Default)]
pub(crate) struct KeyedBatch {
    /// The bucket each row belongs to.
    pub(crate) buckets: Vec<i64>,
    /// Each row's key hash.
    pub(crate) hashes: Vec<u64>,
    /// Where each row's key ends in `key_bytes`.
    pub(crate) key_ends: Vec<usize>,
    /// The keys, one after another.
    pub(crate) key_bytes: Vec<u8>,
    /// The columns the operator reads.
    pub(crate) columns: Vec<ArrayRef>,
    /// Whether the rows were given before and hold no more.
    pub(crate) taken_back: bool,
}

impl KeyedBatch {
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    pub(crate) fn key(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.key_ends[row - 1] };
        &self.key_bytes[start..self.key_ends[row]]
    }

    pub(crate) fn push(&mut self, bucket: i64, hash: u64, key: &[u8]) {
        self.buckets.push(bucket);
        self.hashes.push(hash);
        self.key_bytes.extend_from_slice(key);
        self.key_ends.push(self.key_bytes.len());
    }
}

/// Keys the rows of one input; each task has its own.
pub(crate) struct Keyer {
    spec: Arc<InputSpec>,
    codec: KeyCodec,
    workers: usize,
}

/// What keying one batch gave.
pub(crate) struct Keyed {
    /// One entry a worker; empty ones are to be skipped.
    pub(crate) batches: Vec<KeyedBatch>,
    /// Rows left out because the watermark had passed them.
    pub(crate) late_rows: u64,
}

impl Keyer {
    /// `history` are the layouts that the operator's keys may be in; none for the one of `spec` alone.
    pub(crate) fn new(spec: Arc<InputSpec>, history: Option<&History>, workers: usize) -> Result<Self> {
        let codec = KeyCodec::of_input(&spec.key_types, history)?;
        Ok(Self { spec, codec, workers })
    }

    /// Keys the rows of `batch`; rows whose bucket expires at or before `late_us` are late.
    pub(crate) fn key(&mut self, batch: &RecordBatch, late_us: Option<i64>) -> Result<Keyed> {
        let Some(timed) = self.buckets(batch)? else {
            return self.partition(batch, None, 0);
        };
        let Some(late_us) = late_us.filter(|_| self.spec.has_watermark) else {
            return self.partition(&timed.batch, Some(&timed), 0);
        };
        let size = self.spec.bucket.size_us();
        let is_late = |bucket: i64| bucket.saturating_add(size) <= late_us;
        let late = timed.buckets.values().iter().filter(|bucket| is_late(**bucket)).count();
        if late == 0 {
            return self.partition(&timed.batch, Some(&timed), 0);
        }
        let on_time: BooleanArray = timed.buckets.values().iter().map(|bucket| Some(!is_late(*bucket))).collect();
        let timed = timed.only(&on_time)?;
        self.partition(&timed.batch, Some(&timed), late as u64)
    }

    /// The rows with their buckets; none if all are in one. Rows in several windows are there several times.
    fn buckets(&self, batch: &RecordBatch) -> Result<Option<Timed>> {
        let (time, window) = match &self.spec.bucket {
            Bucketing::None => return Ok(None),
            Bucketing::Instant { time } => {
                let times = evaluate_time(time, batch)?;
                let buckets = times.iter().map(|time| time.unwrap_or(NO_EXPIRY));
                let buckets = TimestampMicrosecondArray::from_iter_values(buckets);
                return Ok(Some(Timed { batch: batch.clone(), buckets, starts: None }));
            }
            Bucketing::Session { session } => return sessions(session, batch).map(Some),
            Bucketing::Window { time, window } => (time, window),
        };
        let times = evaluate_time(time, batch)?;
        let (batch, times) = if times.null_count() > 0 {
            let present = is_not_null(&times)?;
            (filter_record_batch(batch, &present)?, filter(&times, &present)?.as_primitive().clone())
        } else {
            (batch.clone(), times)
        };
        if window.is_tumbling() {
            let buckets = times.unary(|time| window.last_start(time));
            return Ok(Some(Timed { batch, buckets, starts: None }));
        }
        let mut rows = Vec::with_capacity(times.len() * 2);
        let mut starts = Vec::with_capacity(times.len() * 2);
        for (row, time) in (0_u32..).zip(times.values()) {
            for start in window.starts(*time) {
                rows.push(row);
                starts.push(start);
            }
        }
        let batch = take_record_batch(&batch, &UInt32Array::from(rows))?;
        Ok(Some(Timed { batch, buckets: starts.into(), starts: None }))
    }

    fn partition(&mut self, batch: &RecordBatch, timed: Option<&Timed>, late_rows: u64) -> Result<Keyed> {
        let rows = batch.num_rows();
        let keys = normalized(evaluate(&self.spec.keys, batch)?)?;
        let mut columns = evaluate(&self.spec.columns, batch)?;
        columns.extend(timed.and_then(|timed| timed.starts.clone()));
        let keys = self.codec.encode(&keys)?;
        let mut batches: Vec<KeyedBatch> = (0..self.workers).map(|_| KeyedBatch::default()).collect();
        let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); self.workers];
        for (index, row) in (0_u32..).zip(0..rows) {
            let bucket = timed.map_or(NO_EXPIRY, |timed| timed.buckets.value(row));
            let key = keys.as_ref().map_or(&[][..], |keys| keys.get(row));
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

/// Rows and the buckets they belong to.
struct Timed {
    batch: RecordBatch,
    buckets: TimestampMicrosecondArray,
    /// Where the sessions of the rows begin, if they have some.
    starts: Option<ArrayRef>,
}

impl Timed {
    fn only(self, keep: &BooleanArray) -> Result<Self> {
        Ok(Self {
            batch: filter_record_batch(&self.batch, keep)?,
            buckets: filter(&self.buckets, keep)?.as_primitive().clone(),
            starts: self.starts.map(|starts| filter(&starts, keep)).transpose()?,
        })
    }
}

/// The rows that have a session, by its end.
fn sessions(session: &PhysicalExprRef, batch: &RecordBatch) -> Result<Timed> {
    let sessions = session.evaluate(batch)?.into_array(batch.num_rows())?;
    let (Some(found), present) = (sessions.as_struct_opt(), is_not_null(&sessions)?) else {
        return Err(EngineError::internal(format!("a session is {} and not a STRUCT of times", sessions.data_type())));
    };
    let time = |at: usize| found.column(at).as_primitive::<TimestampMicrosecondType>().clone();
    // State is by microseconds, whatever the zone they are shown in.
    let (starts, ends) = (time(0).with_timezone_opt(None::<&str>), time(1).with_timezone_opt(None::<&str>));
    let timed = Timed { batch: batch.clone(), buckets: ends, starts: Some(Arc::new(starts)) };
    if sessions.null_count() > 0 { timed.only(&present) } else { Ok(timed) }
}

fn evaluate_time(time: &PhysicalExprRef, batch: &RecordBatch) -> Result<TimestampMicrosecondArray> {
    let times = time.evaluate(batch)?.into_array(batch.num_rows())?;
    times.as_primitive_opt::<TimestampMicrosecondType>().cloned().ok_or_else(|| {
        EngineError::internal(format!("event time is {} and not TIMESTAMP in microseconds", times.data_type()))
    })
}

/// The hash keys are found and spread by; never changes, because shards on disk follow from it.
pub(crate) fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The shard of a key by its hash: [`crate::state::key::shard_of`] without hashing again.
pub(crate) fn shard_of_hash(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// The worker that owns a key: shards are dealt out in equal runs.
pub(crate) fn worker_of(hash: u64, workers: usize) -> usize {
    usize::from(shard_of_hash(hash)) * workers / 256
}

/// A converter between key columns and key bytes.
pub(crate) fn row_converter(types: &[DataType]) -> Result<RowConverter> {
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
