//! Rows that are kept as they are: found by key, forgotten by time, in memory as far as there is room for them.
//!
//! ```text
//!   index: hash -> entry { key bytes, first row } ─> row ─> row ─> ...      row { chunk, place in it, time, flags }
//!   buckets  12:00:00 ─> its rows; how many lie in the store only           chunk: columns of rows that came together
//!            12:00:30 ─> ...
//! ```
//!
//! In the store a row is `bucket · shard · key, time, sequence -> matched, columns`, so that what is too old is one
//! range, and the rows of a key in a bucket are one. A row that is too old in a bucket that is not stays there and is
//! passed over: the moment up to which rows are gone is kept beside them.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::DataType;
use arrow::row::RowConverter;
use hashbrown::HashTable;

use super::keyed::{KeyedBatch, key_hash, row_converter, shard_of_hash};
use super::{EMIT_ROWS, NO_EXPIRY, OperatorCounts, Place};
use crate::error::{EngineError, Result};
use crate::state::{Change, ChangeSet, key};

const NONE: u32 = u32::MAX;

/// Bytes behind the join key in a stored key: time and sequence.
const SUFFIX_BYTES: usize = 16;

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
    codec: RowConverter,
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free_entries: Vec<u32>,
    rows: Vec<Row>,
    free_rows: Vec<u32>,
    chunks: Vec<Option<Chunk>>,
    free_chunks: Vec<u32>,
    buckets: BTreeMap<i64, Bucket>,
    sequence: u64,
    dirty: Vec<RowRef>,
    unflushed: Vec<RowRef>,
    /// Changes of rows that were moved out of memory before the batch ended.
    spilled: ChangeSet,
    /// Rows at or before this time are gone.
    gone_us: i64,
    /// Whether the changelog and the store know `gone_us`.
    gone_is_dirty: bool,
    gone_is_unflushed: bool,
    key_bytes: usize,
    chunk_bytes: usize,
    updated: u64,
    removed: u64,
}

impl KeptRows {
    /// The rows that table `at` of the operator has for this worker.
    pub(crate) fn open(spec: KeptRowsSpec, at: usize, place: Place) -> Result<Self> {
        let mut kept = Self {
            table: place.first_table + at,
            // Sequences of later batches are larger than those of earlier ones.
            sequence: place.store.version().map_or(0, |batch| (batch + 1) << 32),
            place,
            codec: row_converter(&spec.types)?,
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
            spilled: ChangeSet::default(),
            gone_us: i64::MIN,
            gone_is_dirty: false,
            gone_is_unflushed: false,
            key_bytes: 0,
            chunk_bytes: 0,
            updated: 0,
            removed: 0,
        };
        kept.find_gone()?;
        kept.find_buckets()?;
        Ok(kept)
    }

    fn find_gone(&mut self) -> Result<()> {
        let keys: Vec<Vec<u8>> = (0..=u8::MAX).map(gone_key).collect();
        for value in self.place.store.multi_get(self.table, &keys)?.into_iter().flatten() {
            let bytes = value.as_slice().try_into().map_err(|_| self.damaged("the moment rows are gone by"))?;
            self.gone_us = self.gone_us.max(i64::from_be_bytes(bytes));
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> EngineError {
        EngineError::data(format!("the state of {} is damaged: {what} cannot be read", self.spec.owner))
            .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
    }

    /// Learns which buckets the store has, and brings back what there is room for, the newest first.
    fn find_buckets(&mut self) -> Result<()> {
        let mut sizes: BTreeMap<i64, usize> = BTreeMap::new();
        let (from, to) = key::bucket_range(i64::MIN, key::NEVER);
        let (place, gone_us) = (self.place.clone(), self.gone_us);
        let buckets = &mut self.buckets;
        place.store.scan(self.table, (&from, &to), |bytes, value| {
            let (bucket, shard, rest) = key::decode(bytes)?;
            if place.owns(shard) && split_key(rest).is_some_and(|(_, time, _)| time > gone_us) {
                buckets.entry(bucket).or_default().stored += 1;
                *sizes.entry(bucket).or_default() += 2 * (bytes.len() + value.len()) + size_of::<Row>();
            }
            Ok(())
        })?;
        let mut room = self.place.budget_bytes / 4;
        for (bucket, size) in sizes.into_iter().rev() {
            let Some(left) = room.checked_sub(size) else { break };
            room = left;
            self.load_bucket(bucket)?;
        }
        Ok(())
    }

    /// The bucket of a time.
    fn bucket_of(&self, time: i64) -> i64 {
        if time == NO_EXPIRY { NO_EXPIRY } else { time.saturating_sub(time.rem_euclid(self.spec.bucket_us)) }
    }

    /// Brings back the rows of a bucket that only the store has.
    fn load_bucket(&mut self, bucket: i64) -> Result<()> {
        let range = key::bucket_range(bucket, bucket + 1);
        self.load(bucket, &[range])?;
        if let Some(bucket) = self.buckets.get_mut(&bucket) {
            bucket.loaded = HashSet::new();
            bucket.stored = 0;
        }
        Ok(())
    }

    /// Brings back what the store has in ranges of keys of one bucket and memory has not.
    fn load(&mut self, bucket: i64, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let known: HashSet<u64> =
            self.buckets.get(&bucket).into_iter().flat_map(|b| &b.rows).map(|row| row.1).collect();
        let mut found: Vec<(Vec<u8>, i64, u64, bool)> = Vec::new();
        let mut values: Vec<Vec<u8>> = Vec::new();
        let (place, gone_us) = (self.place.clone(), self.gone_us);
        for (from, to) in ranges {
            place.store.scan(self.table, (from, to), |bytes, value| {
                let (_, shard, rest) = key::decode(bytes)?;
                let (Some((key, time, sequence)), Some((flags, columns))) = (split_key(rest), value.split_first())
                else {
                    return Err(EngineError::data("a kept row in the state store is too short")
                        .help("restore the checkpoint from a backup"));
                };
                if place.owns(shard) && time > gone_us && !known.contains(&sequence) {
                    found.push((key.to_vec(), time, sequence, *flags != 0));
                    values.push(columns.to_vec());
                }
                Ok(())
            })?;
        }
        if found.is_empty() {
            return Ok(());
        }
        let parser = self.codec.parser();
        let columns = if self.spec.types.is_empty() {
            Vec::new()
        } else {
            self.codec.convert_rows(values.iter().map(|value| parser.parse(value)))?
        };
        let chunk = self.add_chunk(columns, found.len());
        for ((key, time, sequence, is_matched), at) in found.into_iter().zip(0_u32..) {
            let entry = self.entry(key_hash(&key), &key);
            let row = Row {
                entry,
                next: NONE,
                previous: NONE,
                chunk,
                at,
                time,
                sequence: Some(sequence),
                is_matched,
                is_dirty: false,
                is_unflushed: false,
            };
            self.link(bucket, row, sequence);
            if let Some(bucket) = self.buckets.get_mut(&bucket) {
                bucket.stored = bucket.stored.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Brings back what rows may meet that only the store has.
    pub(crate) fn load_for(&mut self, rows: &KeyedBatch, candidates: &[u32], reach: Reach) -> Result<()> {
        if self.buckets.values().all(|bucket| bucket.stored == 0) {
            return Ok(());
        }
        let mut missing: BTreeMap<i64, HashSet<Box<[u8]>>> = BTreeMap::new();
        for row in candidates {
            let (key, time) = (rows.key(*row as usize), rows.buckets[*row as usize]);
            let (from, to) = window_of(time, reach);
            let from = self.bucket_of(from).min(to);
            for (bucket, held) in self.buckets.range(from..=to) {
                if held.stored > 0 && !held.loaded.contains(key) {
                    missing.entry(*bucket).or_default().insert(key.into());
                }
            }
            // Rows without a time may meet any.
            if let Some(held) = self.buckets.get(&NO_EXPIRY)
                && to < NO_EXPIRY
                && held.stored > 0
                && !held.loaded.contains(key)
            {
                missing.entry(NO_EXPIRY).or_default().insert(key.into());
            }
        }
        for (bucket, keys) in missing {
            let mut ranges: Vec<(Vec<u8>, Vec<u8>)> = keys.iter().map(|key| range_of(bucket, key)).collect();
            ranges.sort();
            self.load(bucket, &ranges)?;
            if let Some(held) = self.buckets.get_mut(&bucket) {
                held.loaded.extend(keys);
            }
        }
        Ok(())
    }

    fn add_chunk(&mut self, columns: Vec<ArrayRef>, rows: usize) -> u32 {
        let bytes = columns.iter().map(|column| column.get_array_memory_size()).sum();
        self.chunk_bytes += bytes;
        let chunk = Chunk { columns, live: u32::try_from(rows).unwrap_or(u32::MAX), bytes };
        place_in(&mut self.chunks, &mut self.free_chunks, Some(chunk))
    }

    /// The entry of a key, made if it is not there.
    fn entry(&mut self, hash: u64, key: &[u8]) -> u32 {
        let entries = &self.entries;
        let found =
            self.index.find(hash, |at| entries[*at as usize].hash == hash && *entries[*at as usize].key == *key);
        if let Some(found) = found {
            return *found;
        }
        self.key_bytes += key.len();
        let entry = Entry { hash, key: key.into(), first: NONE };
        let at = place_in(&mut self.entries, &mut self.free_entries, entry);
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |at| entries[*at as usize].hash);
        at
    }

    /// Adds a row to its key and its bucket.
    fn link(&mut self, bucket: i64, mut row: Row, sequence: u64) -> u32 {
        let first = self.entries[row.entry as usize].first;
        row.next = first;
        let number = place_in(&mut self.rows, &mut self.free_rows, row);
        if first != NONE {
            self.rows[first as usize].previous = number;
        }
        self.entries[row.entry as usize].first = number;
        self.buckets.entry(bucket).or_default().rows.push((number, sequence));
        number
    }

    /// Takes a row out of memory.
    fn unlink(&mut self, number: u32) {
        let row = self.rows[number as usize];
        match row.previous {
            NONE => self.entries[row.entry as usize].first = row.next,
            previous => self.rows[previous as usize].next = row.next,
        }
        if row.next != NONE {
            self.rows[row.next as usize].previous = row.previous;
        }
        if self.entries[row.entry as usize].first == NONE {
            self.drop_entry(row.entry);
        }
        self.rows[number as usize].sequence = None;
        self.free_rows.push(number);
        let chunk = &mut self.chunks[row.chunk as usize];
        if let Some(held) = chunk {
            held.live -= 1;
            if held.live == 0 {
                self.chunk_bytes -= held.bytes;
                *chunk = None;
                self.free_chunks.push(row.chunk);
            }
        }
    }

    fn drop_entry(&mut self, at: u32) {
        let hash = self.entries[at as usize].hash;
        if let Ok(found) = self.index.find_entry(hash, |found| *found == at) {
            found.remove();
        }
        self.key_bytes -= self.entries[at as usize].key.len();
        self.entries[at as usize].key = Box::default();
        self.free_entries.push(at);
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
            let (time, sequence) = (rows.buckets[from], self.sequence);
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
            let number = self.link(self.bucket_of(time), row, sequence);
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

    /// Notes that a row met one; tells whether it is the first time.
    pub(crate) fn mark(&mut self, number: u32) -> bool {
        let row = &mut self.rows[number as usize];
        let Some(sequence) = row.sequence.filter(|_| !row.is_matched) else { return false };
        row.is_matched = true;
        if !row.is_dirty {
            row.is_dirty = true;
            self.dirty.push((number, sequence));
            self.updated += 1;
        }
        if !row.is_unflushed {
            row.is_unflushed = true;
            self.unflushed.push((number, sequence));
        }
        true
    }

    /// The columns of some rows.
    pub(crate) fn columns(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        // Few chunks are met by one call: they are numbered anew.
        let mut local: BTreeMap<u32, usize> = BTreeMap::new();
        let mut chunks: Vec<&Chunk> = Vec::new();
        let mut places = Vec::with_capacity(numbers.len());
        for number in numbers {
            let row = &self.rows[*number as usize];
            let Some(chunk) = &self.chunks[row.chunk as usize] else {
                return Err(EngineError::internal("a kept row has lost its columns"));
            };
            let at = *local.entry(row.chunk).or_insert_with(|| {
                chunks.push(chunk);
                chunks.len() - 1
            });
            places.push((at, row.at as usize));
        }
        let width = self.spec.types.len();
        (0..width)
            .map(|column| {
                let arrays: Vec<&dyn arrow::array::Array> =
                    chunks.iter().map(|chunk| chunk.columns[column].as_ref()).collect();
                Ok(interleave(&arrays, &places)?)
            })
            .collect()
    }

    /// Up to which time rows are forgotten under a watermark, if that is further than before.
    pub(crate) fn bound(&self, watermark_us: Option<i64>) -> Option<i64> {
        let bound = self.spec.expiry?.of(watermark_us?);
        (bound > self.gone_us).then_some(bound)
    }

    /// Whether rows would be forgotten under a watermark.
    pub(crate) fn has_expired(&self, watermark_us: Option<i64>) -> bool {
        let Some(bound) = self.bound(watermark_us) else { return false };
        self.buckets.range(..=bound).any(|(start, bucket)| {
            *start != NO_EXPIRY && (bucket.stored > 0 || bucket.rows.iter().any(|row| self.is_over(*row, bound)))
        })
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
            if unmatched.is_some() && self.buckets.get(&start).is_some_and(|bucket| bucket.stored > 0) {
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
            over.into_iter().for_each(|(number, _)| self.unlink(number));
            if start.saturating_add(self.spec.bucket_us - 1) <= bound {
                let dropped = self.buckets.remove(&start);
                self.removed += dropped.map_or(0, |bucket| bucket.stored);
            } else if let Some(bucket) = self.buckets.get_mut(&start) {
                bucket.rows = kept;
            }
        }
        self.gone_us = bound;
        (self.gone_is_dirty, self.gone_is_unflushed) = (true, true);
        Ok(())
    }

    /// Writes the changes since the last commit.
    pub(crate) fn take_changes(&mut self, changes: &mut ChangeSet) -> Result<()> {
        if std::mem::take(&mut self.gone_is_dirty) {
            self.put_gone(changes);
        }
        let first_kept = self.first_kept();
        for change in std::mem::take(&mut self.spilled).iter() {
            // What expired after it was spilled must not come back.
            if let Change::Put(stored_key, value) = change
                && key::decode(stored_key).is_ok_and(|(bucket, ..)| bucket >= first_kept)
            {
                changes.push_put(stored_key, value);
            }
        }
        let dirty = std::mem::take(&mut self.dirty);
        self.put_rows(&dirty, changes)?;
        dirty.into_iter().for_each(|(number, sequence)| {
            let row = &mut self.rows[number as usize];
            if row.sequence == Some(sequence) {
                row.is_dirty = false;
            }
        });
        (self.updated, self.removed) = (0, 0);
        let batch = self.place.store.version().map_or(0, |batch| batch + 1);
        self.sequence = self.sequence.max((batch + 1) << 32);
        Ok(())
    }

    /// Writes what the store does not know yet, ahead of a snapshot.
    pub(crate) fn take_unflushed(&mut self, changes: &mut ChangeSet) -> Result<()> {
        if std::mem::take(&mut self.gone_is_unflushed) {
            self.put_gone(changes);
        }
        let unflushed = std::mem::take(&mut self.unflushed);
        self.put_rows(&unflushed, changes)?;
        unflushed.into_iter().for_each(|(number, sequence)| {
            let row = &mut self.rows[number as usize];
            if row.sequence == Some(sequence) {
                row.is_unflushed = false;
            }
        });
        Ok(())
    }

    /// The first bucket that may have rows.
    fn first_kept(&self) -> i64 {
        if self.gone_us == i64::MIN { i64::MIN } else { self.bucket_of(self.gone_us.saturating_add(1)) }
    }

    fn put_gone(&self, changes: &mut ChangeSet) {
        let (from, to) = key::bucket_range(i64::MIN, self.first_kept());
        changes.push_range_delete(&from, &to);
        let first_shard = (0..=u8::MAX).find(|shard| self.place.owns(*shard)).unwrap_or_default();
        changes.push_put(&gone_key(first_shard), &self.gone_us.to_be_bytes());
    }

    fn put_rows(&self, rows: &[RowRef], changes: &mut ChangeSet) -> Result<()> {
        let is_live = |(number, sequence): &&RowRef| self.rows[*number as usize].sequence == Some(*sequence);
        let live: Vec<u32> = rows.iter().filter(is_live).map(|row| row.0).collect();
        let (mut stored_key, mut value) = (Vec::new(), Vec::new());
        for numbers in live.chunks(EMIT_ROWS) {
            let columns = self.columns(numbers)?;
            let encoded = if columns.is_empty() { None } else { Some(self.codec.convert_columns(&columns)?) };
            for (at, number) in numbers.iter().enumerate() {
                let row = &self.rows[*number as usize];
                let entry = &self.entries[row.entry as usize];
                key::encode(self.bucket_of(row.time), shard_of_hash(entry.hash), &entry.key, &mut stored_key);
                stored_key.extend_from_slice(&row.time.to_be_bytes());
                stored_key.extend_from_slice(&row.sequence.unwrap_or_default().to_be_bytes());
                value.clear();
                value.push(u8::from(row.is_matched));
                if let Some(encoded) = &encoded {
                    value.extend_from_slice(encoded.row(at).as_ref());
                }
                changes.push_put(&stored_key, &value);
            }
        }
        Ok(())
    }

    /// Moves rows to the store, the oldest first, until memory is below `goal_bytes`.
    pub(crate) fn spill(&mut self, goal_bytes: usize) -> Result<()> {
        let starts: Vec<i64> = self.buckets.keys().copied().collect();
        for start in starts {
            if self.memory_bytes() <= goal_bytes {
                break;
            }
            let rows = self.buckets.get_mut(&start).map(|bucket| std::mem::take(&mut bucket.rows)).unwrap_or_default();
            let is_dirty = |row: &&RowRef| self.rows[row.0 as usize].is_dirty;
            let dirty: Vec<RowRef> = rows.iter().filter(is_dirty).copied().collect();
            let is_unflushed = |row: &&RowRef| self.rows[row.0 as usize].is_unflushed;
            let unflushed: Vec<RowRef> = rows.iter().filter(is_unflushed).copied().collect();
            let mut spilled = std::mem::take(&mut self.spilled);
            self.put_rows(&dirty, &mut spilled)?;
            self.spilled = spilled;
            let mut flushed = ChangeSet::new();
            self.put_rows(&unflushed, &mut flushed)?;
            self.place.store.apply(self.table, &flushed)?;
            let count = rows.len() as u64;
            rows.into_iter().for_each(|(number, _)| self.unlink(number));
            if let Some(bucket) = self.buckets.get_mut(&start) {
                bucket.stored += count;
                bucket.loaded = HashSet::new();
            }
        }
        Ok(())
    }

    /// What the batch changed, and what there is.
    pub(crate) fn counts(&self) -> OperatorCounts {
        OperatorCounts {
            rows_total: self.total(),
            rows_updated: self.updated,
            rows_removed: self.removed,
            memory_bytes: self.memory_bytes() as u64,
        }
    }

    /// Rows there are, in memory and in the store.
    fn total(&self) -> u64 {
        self.buckets.values().map(|bucket| bucket.rows.len() as u64 + bucket.stored).sum()
    }

    /// Memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.chunk_bytes
            + self.key_bytes
            + (self.rows.len() - self.free_rows.len()) * (size_of::<Row>() + 3 * size_of::<RowRef>())
            + (self.entries.len() - self.free_entries.len()) * (size_of::<Entry>() + 2 * size_of::<u32>())
    }
}

/// Puts a value into a free place, or a new one.
fn place_in<T>(places: &mut Vec<T>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(at) => {
            places[at as usize] = value;
            at
        }
        None => {
            places.push(value);
            u32::try_from(places.len() - 1).unwrap_or(NONE)
        }
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

fn gone_key(shard: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(key::NEVER, shard, b"gone", &mut bytes);
    bytes
}

/// Join key, time and sequence of what stands behind bucket and shard.
fn split_key(rest: &[u8]) -> Option<(&[u8], i64, u64)> {
    let (key, suffix) = rest.split_at_checked(rest.len().checked_sub(SUFFIX_BYTES)?)?;
    let (time, sequence) = suffix.split_at(8);
    Some((key, i64::from_be_bytes(time.try_into().ok()?), u64::from_be_bytes(sequence.try_into().ok()?)))
}

/// All rows of a key in a bucket: keys are in a format in which none begins another.
fn range_of(bucket: i64, key_bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut from = Vec::new();
    key::encode(bucket, shard_of_hash(key_hash(key_bytes)), key_bytes, &mut from);
    let mut to = from.clone();
    to.extend_from_slice(&[0xff; SUFFIX_BYTES + 1]);
    (from, to)
}
