//! Kept rows in the state store: what is read back from it, and what is written to it and to the changelog.

use std::collections::{BTreeMap, HashSet};

use super::{KeptRows, NONE, Reach, Row, RowRef, window_of};
use crate::error::{EngineError, Result};
use crate::operator::keyed::{KeyedBatch, key_hash, shard_of_hash};
use crate::operator::{EMIT_ROWS, NO_EXPIRY};
use crate::state::{Change, ChangeSet, key};

/// Bytes behind the row's key in a stored key: time and sequence.
const SUFFIX_BYTES: usize = 16;

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

    /// Learns which buckets the store has, and brings back what there is room for, the newest first.
    pub(super) fn find_buckets(&mut self) -> Result<()> {
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

    /// Brings back the rows of a bucket that only the store has.
    pub(super) fn load_bucket(&mut self, bucket: i64) -> Result<()> {
        let range = key::bucket_range(bucket, bucket + 1);
        self.load(bucket, &[range])?;
        if let Some(bucket) = self.buckets.get_mut(&bucket) {
            bucket.loaded = HashSet::new();
            bucket.stored = 0;
        }
        Ok(())
    }

    /// Brings back what the store has in ranges of keys of one bucket and memory has not.
    pub(super) fn load(&mut self, bucket: i64, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
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

    /// Writes the changes since the last commit.
    pub(crate) fn take_changes(&mut self, changes: &mut ChangeSet) -> Result<()> {
        if std::mem::take(&mut self.gone_is_dirty) {
            self.put_gone(changes);
        }
        let (first_kept, dropped) = (self.first_kept(), std::mem::take(&mut self.dropped));
        for change in std::mem::take(&mut self.spilled).iter() {
            // What expired or was dropped after it was spilled must not come back.
            if let Change::Put(stored_key, value) = change
                && !dropped.contains(stored_key)
                && key::decode(stored_key).is_ok_and(|(bucket, ..)| bucket >= first_kept)
            {
                changes.push_put(stored_key, value);
            }
        }
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
            let encoded = if columns.is_empty() { None } else { Some(self.codec.convert_columns(&columns)?) };
            for (at, number) in numbers.iter().enumerate() {
                let row = &self.rows[*number as usize];
                self.stored_key(row, &mut stored_key);
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
