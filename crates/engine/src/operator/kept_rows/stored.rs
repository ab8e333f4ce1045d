//! Kept rows in the state store: what is read back from it, and what is written to it and to the changelog.

use std::collections::{BTreeMap, HashSet};

use super::{KeptRows, NONE, Reach, Row, RowRef, window_of};
use crate::error::{EngineError, Result};
use crate::operator::keyed::{KeyedBatch, key_hash, shard_of_hash};
use crate::operator::{EMIT_ROWS, NO_EXPIRY};
use crate::state::{ChangeSet, StateStore, key};

/// Bytes behind the row's key in a stored key: time and sequence.
const SUFFIX_BYTES: usize = 16;

/// A bucket comes back whole when it has at most so many rows for each key that is asked for: reading them in one go
/// costs less than looking for the keys one by one.
const WHOLE_BUCKET: u64 = 16;

/// What a key in a set of keys needs beside its bytes.
const LOADED_KEY_BYTES: usize = 24;

impl KeptRows {
    pub(super) fn find_gone(&mut self) -> Result<()> {
        let keys: Vec<Vec<u8>> = (0..=u8::MAX).map(gone_key).collect();
        for value in self.place.store.multi_get(self.table, &keys)?.into_iter().flatten() {
            let bytes = value.as_slice().try_into().map_err(|_| self.damaged("the moment rows are gone by"))?;
            self.gone_us = self.gone_us.max(i64::from_be_bytes(bytes));
        }
        Ok(())
    }

    pub(super) fn damaged(&self, what: &str) -> EngineError {
        EngineError::data(format!("the state of {} is damaged: {what} cannot be read", self.spec.owner))
            .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
    }

    /// Learns which buckets the store has. Their rows come back when somebody asks for them.
    pub(super) fn find_buckets(&mut self) {
        let first_kept = self.first_kept();
        for (bucket, rows) in self.counts.buckets().filter(|(bucket, _)| *bucket >= first_kept) {
            self.buckets.entry(bucket).or_default().stored = rows;
        }
    }

    /// Brings back the rows of a bucket that only the store has.
    pub(super) fn load_bucket(&mut self, bucket: i64) -> Result<()> {
        let known: HashSet<u64> =
            self.buckets.get(&bucket).into_iter().flat_map(|held| &held.rows).map(|row| row.1).collect();
        self.load(bucket, &[key::bucket_range(bucket, bucket + 1)], &known)?;
        // Rows in the store whose time is over were counted until now.
        let mut rows: BTreeMap<u8, u64> = BTreeMap::new();
        if let Some(held) = self.buckets.get_mut(&bucket) {
            for (number, _) in &held.rows {
                let entry = self.rows[*number as usize].entry;
                *rows.entry(shard_of_hash(self.entries[entry as usize].hash)).or_default() += 1;
            }
            (held.loaded, held.stored) = (HashSet::new(), 0);
        }
        self.counts.set(bucket, &rows);
        Ok(())
    }

    /// Brings back what the store has of some keys in a bucket.
    fn load_keys(&mut self, bucket: i64, keys: HashSet<Box<[u8]>>) -> Result<()> {
        let held = self.buckets.get(&bucket).map_or(0, |held| held.stored);
        if held <= (keys.len() as u64 * WHOLE_BUCKET).max(WHOLE_BUCKET * WHOLE_BUCKET) {
            return self.load_bucket(bucket);
        }
        let mut ranges: Vec<(Vec<u8>, Vec<u8>)> = keys.iter().map(|key| range_of(bucket, key)).collect();
        ranges.sort();
        let mut known = HashSet::new();
        for key in &keys {
            self.find(key_hash(key), key, NO_EXPIRY, Reach::default(), |number| {
                known.extend(self.rows[number as usize].sequence);
            });
        }
        self.load(bucket, &ranges, &known)?;
        self.loaded_bytes += keys.iter().map(|key| key.len() + LOADED_KEY_BYTES).sum::<usize>();
        if let Some(held) = self.buckets.get_mut(&bucket) {
            held.loaded.extend(keys);
        }
        Ok(())
    }

    /// Brings back what the store has in ranges of keys of one bucket and memory, which has `known`, has not.
    fn load(&mut self, bucket: i64, ranges: &[(Vec<u8>, Vec<u8>)], known: &HashSet<u64>) -> Result<()> {
        let mut found: Vec<(Vec<u8>, i64, u64, bool)> = Vec::new();
        let mut values: Vec<(u8, Vec<u8>)> = Vec::new();
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
                    let (layout, is_matched) = split_flags(*flags);
                    found.push((key.to_vec(), time, sequence, is_matched));
                    values.push((layout, columns.to_vec()));
                }
                Ok(())
            })?;
        }
        if found.is_empty() {
            return Ok(());
        }
        let columns = self.codec.decode_rows(values.iter().map(|(layout, columns)| (*layout, columns.as_slice())))?;
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
            self.load_keys(bucket, keys)?;
        }
        Ok(())
    }

    /// Writes the changes since the last commit.
    pub(crate) fn take_changes(&mut self, changes: &mut ChangeSet) -> Result<()> {
        if std::mem::take(&mut self.gone_is_dirty) {
            self.put_gone(changes);
        }
        self.unstamped.take_changes(&self.place, changes);
        self.counts.take_changes(changes);
        let (first_kept, dropped) = (self.first_kept(), std::mem::take(&mut self.dropped));
        let spilled = std::mem::replace(&mut self.spilled, self.place.change_set());
        // What expired or was dropped after it was spilled must not come back.
        changes.append_puts(&spilled, |stored_key| {
            !dropped.contains(stored_key) && key::decode(stored_key).is_ok_and(|(bucket, ..)| bucket >= first_kept)
        })?;
        dropped.iter().for_each(|stored_key| changes.push_delete(stored_key));
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
        self.unstamped.take_unflushed(&self.place, changes);
        self.counts.take_unflushed(changes);
        let unflushed = std::mem::take(&mut self.unflushed);
        self.flush(&unflushed)?;
        unflushed.into_iter().for_each(|(number, sequence)| {
            let row = &mut self.rows[number as usize];
            if row.sequence == Some(sequence) {
                row.is_unflushed = false;
            }
        });
        Ok(())
    }

    /// The first bucket that may have rows.
    pub(super) fn first_kept(&self) -> i64 {
        if self.gone_us == i64::MIN { i64::MIN } else { self.bucket_of(self.gone_us.saturating_add(1)) }
    }

    pub(super) fn put_gone(&self, changes: &mut ChangeSet) {
        let (from, to) = key::bucket_range(i64::MIN, self.first_kept());
        changes.push_range_delete(&from, &to);
        let first_shard = (0..=u8::MAX).find(|shard| self.place.owns(*shard)).unwrap_or_default();
        changes.push_put(&gone_key(first_shard), &self.gone_us.to_be_bytes());
    }

    /// The key a row has in the store.
    pub(super) fn stored_key(&self, row: &Row, out: &mut Vec<u8>) {
        let entry = &self.entries[row.entry as usize];
        key::encode(self.bucket_of(row.time), shard_of_hash(entry.hash), &entry.key, out);
        out.extend_from_slice(&row.time.to_be_bytes());
        out.extend_from_slice(&row.sequence.unwrap_or_default().to_be_bytes());
    }

    pub(super) fn put_rows(&self, rows: &[RowRef], changes: &mut ChangeSet) -> Result<()> {
        let is_live = |(number, sequence): &&RowRef| self.rows[*number as usize].sequence == Some(*sequence);
        let live: Vec<u32> = rows.iter().filter(is_live).map(|row| row.0).collect();
        let (mut stored_key, mut value) = (Vec::new(), Vec::new());
        for numbers in live.chunks(EMIT_ROWS) {
            let columns = self.columns(numbers)?;
            let encoded = self.codec.encode(&columns)?;
            for (at, number) in numbers.iter().enumerate() {
                let row = &self.rows[*number as usize];
                self.stored_key(row, &mut stored_key);
                value.clear();
                value.push(self.codec.version() << 1 | u8::from(row.is_matched));
                if let Some(encoded) = &encoded {
                    value.extend_from_slice(encoded.columns_of(at));
                }
                changes.push_put(&stored_key, &value);
            }
        }
        Ok(())
    }

    /// Writes rows to the store, in pieces: all of memory may be unflushed, and there is no room to have it twice.
    fn flush(&self, rows: &[RowRef]) -> Result<()> {
        let mut flushed = ChangeSet::new();
        for rows in rows.chunks(EMIT_ROWS) {
            self.put_rows(rows, &mut flushed)?;
            self.place.store.apply(self.table, &flushed)?;
            flushed.clear();
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
            self.flush(&unflushed)?;
            let count = rows.len() as u64;
            rows.into_iter().for_each(|(number, _)| self.unlink(number));
            if let Some(bucket) = self.buckets.get_mut(&start) {
                bucket.stored += count;
                bucket.loaded = HashSet::new();
            }
        }
        // What was noted of keys that are still in memory is read again when it is wanted.
        self.buckets.values_mut().for_each(|bucket| bucket.loaded = HashSet::new());
        self.loaded_bytes = 0;
        Ok(())
    }
}

/// The moment up to which the rows of a table are gone, whoever owns them.
pub(crate) fn gone_us(store: &StateStore, table: usize) -> Result<i64> {
    let keys: Vec<Vec<u8>> = (0..=u8::MAX).map(gone_key).collect();
    let known = store.multi_get(table, &keys)?.into_iter().flatten();
    Ok(known.filter_map(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?))).max().unwrap_or(i64::MIN))
}

fn gone_key(shard: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(key::NEVER, shard, b"gone", &mut bytes);
    bytes
}

/// Join key, time and sequence of what stands behind bucket and shard.
pub(crate) fn split_key(rest: &[u8]) -> Option<(&[u8], i64, u64)> {
    let (key, suffix) = rest.split_at_checked(rest.len().checked_sub(SUFFIX_BYTES)?)?;
    let (time, sequence) = suffix.split_at(8);
    Some((key, i64::from_be_bytes(time.try_into().ok()?), u64::from_be_bytes(sequence.try_into().ok()?)))
}

/// The layout of a row's columns, and whether it met one.
pub(crate) fn split_flags(flags: u8) -> (u8, bool) {
    (flags >> 1, flags & 1 != 0)
}

/// All rows of a key in a bucket: keys are in a format in which none begins another.
fn range_of(bucket: i64, key_bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut from = Vec::new();
    key::encode(bucket, shard_of_hash(key_hash(key_bytes)), key_bytes, &mut from);
    let mut to = from.clone();
    to.extend_from_slice(&[0xff; SUFFIX_BYTES + 1]);
    (from, to)
}
