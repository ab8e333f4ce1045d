//! Rows that are kept as they are: found by key, forgotten by time, in memory as far as there is room for them.
//!
//! ```text
//!   index: hash -> entry { key bytes, first row } ─> row ─> row ─> ...      row { chunk, place in it, time, flags }
//!   buckets  12:00:00 ─> its rows; how many lie in the store only           chunk: columns of rows that came together
//!            12:00:30 ─> ...
//! ```
//!
//! In the store a row is `bucket · shard · key, time, sequence -> layout and matched, columns`, so that what is too old is one
//! range, and the rows of a key in a bucket are one. A row that is too old in a bucket that is not stays there and is
//! passed over: the moment up to which rows are gone is kept beside them.
//!
//! `memory.rs` has the chains and chunks, `stored.rs` what goes to the store and comes back.

mod memory;
pub(crate) mod stored;

use std::collections::{BTreeMap, HashSet};

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use hashbrown::HashTable;

use super::keyed::{KeyedBatch, shard_of_hash};
use super::layout::codec::ValueCodec;
use super::row_counts::RowCounts;
use super::ttl::Unstamped;
use super::{EMIT_ROWS, NO_EXPIRY, OperatorCounts, Place};
use crate::error::Result;
use crate::state::ChangeSet;

const NONE: u32 = u32::MAX;

/// A row by its number and, because numbers are used again, its sequence.
type RowRef = (u32, u64);

/// Up to which time rows meet nothing any more, from the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// From the watermark to the bound.
    pub(crate) offset_us: i64,
    /// Whether a row at the bound may still be wanted.
    pub(crate) may_be_equal: bool,
}

impl Expiry {
    /// Rows whose time the watermark has reached.
    pub(crate) const AT_WATERMARK: Self = Self { offset_us: 0, may_be_equal: false };

    /// The bound itself: rows at or before it are forgotten. Spark computes it in milliseconds, and so do we.
    pub(crate) fn of(self, watermark_us: i64) -> i64 {
        let bound_ms = watermark_us.saturating_add(self.offset_us) / 1000;
        (bound_ms - i64::from(self.may_be_equal)).saturating_mul(1000)
    }
}

/// How far the time of a kept row can be from that of a row that looks for it: no bound where none is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) from_us: Option<i64>,
    pub(crate) to_us: Option<i64>,
}

/// What is kept, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct KeptRowsSpec {
    /// The operator that keeps them, for messages.
    pub(crate) owner: String,
    /// The columns of a row.
    pub(crate) types: Vec<DataType>,
    /// When rows are forgotten; never without one.
    pub(crate) expiry: Option<Expiry>,
    /// How much event time is kept together; part of the state's format.
    pub(crate) bucket_us: i64,
}

/// Takes the columns of rows that are forgotten, and how many they are.
pub(crate) type Forgotten<'a> = dyn FnMut(Vec<ArrayRef>, usize) -> Result<()> + 'a;

struct Entry {
    hash: u64,
    key: Box<[u8]>,
    first: u32,
}

#[derive(Clone, Copy)]
struct Row {
    entry: u32,
    next: u32,
    previous: u32,
    chunk: u32,
    at: u32,
    time: i64,
    /// Tells it from all other rows that there ever were; none when the number is free.
    sequence: Option<u64>,
    is_matched: bool,
    is_dirty: bool,
    is_unflushed: bool,
}

struct Chunk {
    columns: Vec<ArrayRef>,
    live: u32,
    bytes: usize,
}

#[derive(Default)]
struct Bucket {
    rows: Vec<RowRef>,
    /// Rows that only the store has.
    stored: u64,
    /// Keys whose rows were brought back from the store.
    loaded: HashSet<Box<[u8]>>,
}

/// One worker's rows.
pub(crate) struct KeptRows {
    spec: KeptRowsSpec,
    place: Place,
    table: usize,
    codec: ValueCodec,
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free_entries: Vec<u32>,
    rows: Vec<Row>,
    free_rows: Vec<u32>,
    chunks: Vec<Option<Chunk>>,
    free_chunks: Vec<u32>,
    buckets: BTreeMap<i64, Bucket>,
    /// Rows by bucket and shard, as the table has them.
    counts: RowCounts,
    sequence: u64,
    dirty: Vec<RowRef>,
    unflushed: Vec<RowRef>,
    /// Changes of rows that were moved out of memory before the batch ended.
    spilled: ChangeSet,
    /// Stored keys of rows that earlier changelogs or `spilled` have and that were dropped since.
    dropped: HashSet<Vec<u8>>,
    /// Rows at or before this time are gone.
    gone_us: i64,
    /// What rows of this batch are kept by that have no time of their own; none without a ttl.
    stamp_us: Option<i64>,
    unstamped: Unstamped,
    /// Whether the changelog and the store know `gone_us`.
    gone_is_dirty: bool,
    gone_is_unflushed: bool,
    key_bytes: usize,
    chunk_bytes: usize,
    /// Memory of the keys noted in [`Bucket::loaded`].
    loaded_bytes: usize,
    updated: u64,
    removed: u64,
}

impl KeptRows {
    /// The rows that table `at` of the operator has for this worker.
    pub(crate) fn open(spec: KeptRowsSpec, at: usize, place: Place) -> Result<Self> {
        let mut kept = Self {
            table: place.first_table + at,
            counts: RowCounts::open(&place, place.first_table + at)?,
            // Sequences of later batches are larger than those of earlier ones.
            sequence: place.store.version().map_or(0, |batch| (batch + 1) << 32),
            spilled: place.change_set(),
            unstamped: Unstamped::open(&place, place.first_table + at)?,
            codec: match &place.history {
                Some(history) => ValueCodec::new(history, at)?,
                None => ValueCodec::plain(spec.types.iter().map(|kind| vec![kind.clone()]).collect())?,
            },
            place,
            spec,
            index: HashTable::new(),
            entries: Vec::new(),
            free_entries: Vec::new(),
            rows: Vec::new(),
            free_rows: Vec::new(),
            chunks: Vec::new(),
            free_chunks: Vec::new(),
            buckets: BTreeMap::new(),
            dirty: Vec::new(),
            unflushed: Vec::new(),
            dropped: HashSet::new(),
            gone_us: i64::MIN,
            stamp_us: None,
            gone_is_dirty: false,
            gone_is_unflushed: false,
            key_bytes: 0,
            chunk_bytes: 0,
            loaded_bytes: 0,
            updated: 0,
            removed: 0,
        };
        kept.find_gone()?;
        kept.find_buckets();
        Ok(kept)
    }

    /// The bucket of a time.
    fn bucket_of(&self, time: i64) -> i64 {
        if time == NO_EXPIRY { NO_EXPIRY } else { time.saturating_sub(time.rem_euclid(self.spec.bucket_us)) }
    }

    /// Keeps rows that came; `matched` are those that met one already.
    pub(crate) fn insert(
        &mut self,
        rows: &KeyedBatch,
        columns: &[ArrayRef],
        chosen: &[u32],
        matched: &[bool],
    ) -> Result<()> {
        if chosen.is_empty() {
            return Ok(());
        }
        let columns = if chosen.len() == rows.len() {
            columns.to_vec()
        } else {
            let chosen = UInt32Array::from(chosen.to_vec());
            columns.iter().map(|column| take(column, &chosen, None)).collect::<Result<_, _>>()?
        };
        let chunk = self.add_chunk(columns, chosen.len());
        for (from, at) in chosen.iter().zip(0_u32..) {
            let from = *from as usize;
            let time = self.stamp_us.filter(|_| rows.buckets[from] == NO_EXPIRY).unwrap_or(rows.buckets[from]);
            let sequence = self.sequence;
            self.sequence += 1;
            let row = Row {
                entry: self.entry(rows.hashes[from], rows.key(from)),
                next: NONE,
                previous: NONE,
                chunk,
                at,
                time,
                sequence: Some(sequence),
                is_matched: matched[from],
                is_dirty: true,
                is_unflushed: true,
            };
            let bucket = self.bucket_of(time);
            self.counts.add(bucket, shard_of_hash(rows.hashes[from]), 1);
            let number = self.link(bucket, row, sequence);
            self.dirty.push((number, sequence));
            self.unflushed.push((number, sequence));
        }
        self.updated += chosen.len() as u64;
        Ok(())
    }

    /// The rows of a key that a row at `time` may meet.
    pub(crate) fn find(&self, hash: u64, key: &[u8], time: i64, reach: Reach, mut take: impl FnMut(u32)) {
        let entries = &self.entries;
        let found =
            self.index.find(hash, |at| entries[*at as usize].hash == hash && *entries[*at as usize].key == *key);
        let Some(found) = found else { return };
        let (from, to) = window_of(time, reach);
        let mut number = entries[*found as usize].first;
        while number != NONE {
            let row = &self.rows[number as usize];
            if row.time > self.gone_us && (row.time == NO_EXPIRY || (row.time >= from && row.time <= to)) {
                take(number);
            }
            number = row.next;
        }
    }

    /// Notes for this batch alone that a row met one; tells whether it is the first time.
    pub(crate) fn mark(&mut self, number: u32) -> bool {
        !std::mem::replace(&mut self.rows[number as usize].is_matched, true)
    }

    /// Notes for ever that a row met one.
    pub(crate) fn keep_mark(&mut self, number: u32) {
        let row = &mut self.rows[number as usize];
        let Some(sequence) = row.sequence else { return };
        if !row.is_dirty {
            row.is_dirty = true;
            self.dirty.push((number, sequence));
            self.updated += 1;
        }
        if !row.is_unflushed {
            row.is_unflushed = true;
            self.unflushed.push((number, sequence));
        }
    }

    /// Forgets rows before their time, because nobody can want them any more.
    pub(crate) fn drop_rows(&mut self, numbers: &[u32]) -> Result<()> {
        let mut by_bucket: BTreeMap<i64, HashSet<u32>> = BTreeMap::new();
        let mut stored = ChangeSet::new();
        for number in numbers {
            let row = self.rows[*number as usize];
            by_bucket.entry(self.bucket_of(row.time)).or_default().insert(*number);
            let mut stored_key = Vec::new();
            self.stored_key(&row, &mut stored_key);
            self.uncount(&row);
            if !row.is_unflushed {
                stored.push_delete(&stored_key);
            }
            if !row.is_dirty {
                self.dropped.insert(stored_key);
            }
        }
        // At once, so that it is not brought back from there.
        self.place.store.apply(self.table, &stored)?;
        for (bucket, gone) in by_bucket {
            if let Some(bucket) = self.buckets.get_mut(&bucket) {
                bucket.rows.retain(|(number, _)| !gone.contains(number));
            }
        }
        numbers.iter().for_each(|number| self.unlink(*number));
        self.removed += numbers.len() as u64;
        Ok(())
    }

    /// Begins a batch of this processing time: forgets the rows whose time to live is over.
    pub(crate) fn begin_batch(&mut self, time_us: i64) -> Result<()> {
        let Some(ttl) = self.place.ttl else { return Ok(()) };
        let bound = ttl.bound(time_us);
        // A clock that was set back makes no rows that are gone already.
        let stamp_us = ttl.stamp(time_us).max(self.gone_us.saturating_add(1));
        self.stamp_us = Some(stamp_us);
        if bound > self.gone_us && self.buckets.range(..=bound).next().is_some() {
            self.expire(bound, None)?;
        }
        if self.buckets.contains_key(&NO_EXPIRY) && self.unstamped.begin(stamp_us, bound) {
            self.drop_unstamped()?;
        }
        Ok(())
    }

    fn drop_unstamped(&mut self) -> Result<()> {
        let Some(bucket) = self.buckets.remove(&NO_EXPIRY) else { return Ok(()) };
        let is_live = |row: &&RowRef| self.rows[row.0 as usize].sequence == Some(row.1);
        let live: Vec<u32> = bucket.rows.iter().filter(is_live).map(|row| row.0).collect();
        self.removed += live.len() as u64 + bucket.stored;
        live.into_iter().for_each(|number| self.unlink(number));
        self.counts.set(NO_EXPIRY, &BTreeMap::new());
        Unstamped::remove_stored(&self.place, self.table)
    }

    /// Up to which time rows are forgotten under a watermark, if that is further than before.
    pub(crate) fn bound(&self, watermark_us: Option<i64>) -> Option<i64> {
        let bound = self.spec.expiry?.of(watermark_us?);
        (bound > self.gone_us).then_some(bound)
    }

    /// Whether every row of a bucket is up to `bound`.
    fn is_whole(&self, start: i64, bound: i64) -> bool {
        start.saturating_add(self.spec.bucket_us - 1) <= bound
    }

    /// Takes a row out of the counts.
    fn uncount(&mut self, row: &Row) {
        let shard = shard_of_hash(self.entries[row.entry as usize].hash);
        self.counts.remove(self.bucket_of(row.time), shard, 1);
    }

    fn is_over(&self, (number, sequence): RowRef, bound: i64) -> bool {
        let row = &self.rows[number as usize];
        row.sequence == Some(sequence) && row.time <= bound
    }

    /// Forgets the rows up to `bound`; those that met nothing go to `unmatched` first, if anybody wants them.
    pub(crate) fn expire(&mut self, bound: i64, mut unmatched: Option<&mut Forgotten<'_>>) -> Result<()> {
        let starts: Vec<i64> =
            self.buckets.range(..=bound).map(|(start, _)| *start).filter(|s| *s != NO_EXPIRY).collect();
        for start in starts {
            let stored = self.buckets.get(&start).map_or(0, |bucket| bucket.stored);
            // In a bucket of which a part stays, rows that only the store has cannot be told apart. Few are looked at;
            // many are counted until the bucket is gone.
            let is_small_part = !self.is_whole(start, bound) && stored <= EMIT_ROWS as u64;
            if stored > 0 && (unmatched.is_some() || is_small_part) {
                self.load_bucket(start)?;
            }
            let Some(bucket) = self.buckets.get_mut(&start) else { continue };
            let rows = std::mem::take(&mut bucket.rows);
            let (over, kept): (Vec<RowRef>, Vec<RowRef>) = rows.into_iter().partition(|row| self.is_over(*row, bound));
            if let Some(unmatched) = &mut unmatched {
                let lonely: Vec<u32> =
                    over.iter().map(|row| row.0).filter(|number| !self.rows[*number as usize].is_matched).collect();
                for numbers in lonely.chunks(EMIT_ROWS) {
                    unmatched(self.columns(numbers)?, numbers.len())?;
                }
            }
            self.removed += over.len() as u64;
            over.iter().for_each(|(number, _)| {
                let row = self.rows[*number as usize];
                self.uncount(&row);
            });
            over.into_iter().for_each(|(number, _)| self.unlink(number));
            if self.is_whole(start, bound) {
                let dropped = self.buckets.remove(&start);
                self.removed += dropped.map_or(0, |bucket| bucket.stored);
            } else if let Some(bucket) = self.buckets.get_mut(&start) {
                bucket.rows = kept;
            }
        }
        self.gone_us = bound;
        self.counts.drop_below(self.first_kept());
        (self.gone_is_dirty, self.gone_is_unflushed) = (true, true);
        Ok(())
    }

    /// What the batch changed, and what there is.
    pub(crate) fn counts(&self) -> OperatorCounts {
        OperatorCounts {
            rows_total: self.total(),
            rows_updated: self.updated,
            rows_removed: self.removed,
            memory_bytes: self.memory_bytes() as u64,
            ..OperatorCounts::default()
        }
    }

    /// Rows there are, in memory and in the store.
    fn total(&self) -> u64 {
        self.buckets.values().map(|bucket| bucket.rows.len() as u64 + bucket.stored).sum()
    }
}

/// The times of rows that a row at `time` may meet.
fn window_of(time: i64, reach: Reach) -> (i64, i64) {
    if time == NO_EXPIRY {
        return (i64::MIN, NO_EXPIRY);
    }
    let from = reach.from_us.map_or(i64::MIN, |from| time.saturating_add(from));
    let to = reach.to_us.map_or(NO_EXPIRY, |to| time.saturating_add(to));
    (from, to)
}
