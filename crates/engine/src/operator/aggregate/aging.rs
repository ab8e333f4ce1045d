//! Groups with a time to live: their bucket is the stamp of the batch that changed them last, and goes whole.
//!
//! ```text
//!   row of a key ──> the bucket of this batch's stamp? ──> one of the others, in memory or in the store? ──> a new group
//!                                                               └── moved: sixteen times in the life of a key
//! ```
//!
//! Without a ttl groups without a window are in one bucket, that of rows without a time; those that are there when a ttl is
//! set stay in it until a row of theirs comes, and those that a ttl has put elsewhere come back when there is none any more.
//! A key is in one bucket only: whoever looks for it asks those that there are, at most about sixteen, and those that memory
//! has no room for in the store. A filter of each says which it need not ask there (`filter.rs`), so that a new key costs
//! hardly any look. Filters are made when a bucket is moved to the disk; after a restart, once as many keys were looked for
//! in a bucket as it has. They take a part of the memory and no more.

use std::collections::BTreeMap;

use hashbrown::HashTable;

use super::filter::{BYTES_PER_KEY, KeyFilter};
use super::operator::AggregateOperator;
use super::table::{Bucket, too_many_keys};
use crate::error::Result;
use crate::operator::NO_EXPIRY;
use crate::operator::keyed::{Bucketing, KeyedBatch, key_hash, shard_of_hash};
use crate::operator::ttl::Unstamped;
use crate::state::{ChangeSet, key};

/// Which part of the memory for state the filters of all buckets may take.
const FILTERS_PART: usize = 8;

impl AggregateOperator {
    /// The bucket of groups that rows of bucket `time` change.
    pub(super) fn place_of(&self, time: i64) -> i64 {
        self.aging.place_of(time)
    }

    /// Begins a batch of this processing time: forgets the groups whose time to live is over.
    pub(super) fn age(&mut self, time_us: i64) -> Result<()> {
        let Some(bound) = self.aging.begin(time_us) else { return Ok(()) };
        let over: Vec<i64> = self.buckets.range(..=bound).map(|(stamp, _)| *stamp).collect();
        over.into_iter().for_each(|stamp| self.drop_bucket(stamp));
        let has_unstamped = self.buckets.contains_key(&NO_EXPIRY);
        if has_unstamped && self.aging.unstamped_are_over(bound) {
            self.forget_bucket(NO_EXPIRY);
            self.stored_counts.set(NO_EXPIRY, &BTreeMap::new());
            Unstamped::remove_stored(&self.place, self.place.first_table)?;
        }
        Ok(())
    }

    /// Moves the groups of a batch's rows from the buckets they are in to that of the batch.
    pub(super) fn bring_forward(&mut self, batch: &KeyedBatch) -> Result<()> {
        // Windows are buckets of their own. Without a ttl there are others only if there was one before.
        if !matches!(self.spec.input.bucket, Bucketing::None) {
            return Ok(());
        }
        let stamp_us = self.aging.stamp_us();
        let others: Vec<i64> = self.buckets.keys().rev().filter(|time| **time != stamp_us).copied().collect();
        if others.is_empty() {
            return Ok(());
        }
        let mut left = ChangeSet::new();
        let mut missing = Vec::new();
        for row in self.absent_keys(batch) {
            let (hash, key) = (batch.hashes[row], batch.key(row));
            let found = others.iter().find_map(|time| Some((*time, self.buckets.get(time)?.find(hash, key)?)));
            match found {
                Some((time, entry)) => {
                    let slot = self.buckets.get_mut(&time).map_or(0, |bucket| bucket.take(entry));
                    self.arrive(time, batch, row, slot, &mut left)?;
                }
                None => missing.push(row),
            }
        }
        self.fetch_from(&others, batch, missing, &mut left)?;
        // At once, so that nothing is brought back from there.
        self.place.store.apply(self.place.first_table, &left)?;
        self.buckets.retain(|_, bucket| bucket.keys > 0);
        self.buckets.values_mut().for_each(Bucket::compact);
        Ok(())
    }

    /// A row for each key that is not in the batch's bucket in memory.
    fn absent_keys(&self, batch: &KeyedBatch) -> Vec<usize> {
        let bucket = self.buckets.get(&self.aging.stamp_us());
        let mut seen: HashTable<usize> = HashTable::new();
        for row in 0..batch.len() {
            let (hash, key) = (batch.hashes[row], batch.key(row));
            let is_here = bucket.is_some_and(|bucket| bucket.find(hash, key).is_some());
            if !is_here && seen.find(hash, |other| batch.key(*other) == key).is_none() {
                seen.insert_unique(hash, row, |other| batch.hashes[*other]);
            }
        }
        let mut rows: Vec<usize> = seen.into_iter().collect();
        rows.sort_unstable();
        rows
    }

    /// Looks for keys that are not in memory in what the store has of buckets, the newest first.
    fn fetch_from(&mut self, times: &[i64], batch: &KeyedBatch, rows: Vec<usize>, left: &mut ChangeSet) -> Result<()> {
        let mut missing = rows;
        let (mut slots, mut found) = (Vec::new(), Vec::new());
        for time in times {
            if missing.is_empty() {
                break;
            }
            self.make_filter(*time, missing.len() as u64)?;
            let Some(bucket) = self.buckets.get(time) else { continue };
            let (asked, mut others): (Vec<usize>, Vec<usize>) =
                missing.into_iter().partition(|row| bucket.may_be_on_disk(batch.hashes[*row]));
            let keys: Vec<Vec<u8>> = asked.iter().map(|row| stored_key(*time, batch, *row)).collect();
            self.counts.lookups += keys.len() as u64;
            let values = self.place.store.multi_get(self.place.first_table, &keys)?;
            for (row, value) in asked.into_iter().zip(values) {
                let Some(value) = value else {
                    others.push(row);
                    continue;
                };
                let slot = self.states.take_slot();
                if let Some(bucket) = self.buckets.get_mut(time) {
                    bucket.keys -= 1;
                }
                self.arrive(*time, batch, row, slot, left)?;
                slots.push(slot);
                found.push(value);
            }
            missing = others;
        }
        self.states.grow();
        self.states.decode(&found, &slots)
    }

    /// Whether memory has room for the filters of all groups there are.
    pub(super) fn has_room_for_filters(&self) -> bool {
        let bytes = self.counts.rows_total.saturating_mul(BYTES_PER_KEY);
        self.place.ttl.is_some() && bytes <= (self.place.budget_bytes / FILTERS_PART) as u64
    }

    /// Makes the filter of a bucket from the keys it has, if there is none and about as many were looked for there.
    fn make_filter(&mut self, time: i64, looked_for: u64) -> Result<()> {
        let has_room = self.has_room_for_filters();
        let Some(bucket) = self.buckets.get_mut(&time).filter(|bucket| bucket.on_disk) else { return Ok(()) };
        bucket.looked_for = bucket.looked_for.saturating_add(looked_for);
        if bucket.filter.is_some() || bucket.looked_for < bucket.keys || !has_room {
            return Ok(());
        }
        let mut filter = KeyFilter::default();
        let (from, to) = key::bucket_range(time, time + 1);
        let place = &self.place;
        place.store.scan(place.first_table, (&from, &to), |stored_key, _| {
            let (_, shard, group_key) = key::decode(stored_key)?;
            if place.owns(shard) {
                filter.add(key_hash(group_key));
            }
            Ok(())
        })?;
        bucket.filter = Some(filter);
        Ok(())
    }

    /// Puts a group that left bucket `time` into that of the batch.
    fn arrive(&mut self, time: i64, batch: &KeyedBatch, row: usize, slot: u32, left: &mut ChangeSet) -> Result<()> {
        let (hash, key) = (batch.hashes[row], batch.key(row));
        let bucket: &mut Bucket = self.buckets.entry(self.aging.stamp_us()).or_default();
        if !bucket.has_room(key.len()) {
            return Err(too_many_keys());
        }
        bucket.insert(hash, key, slot);
        bucket.keys += 1;
        let shard = shard_of_hash(hash);
        self.stored_counts.remove(time, shard, 1);
        self.stored_counts.add(self.aging.stamp_us(), shard, 1);
        let stored_key = stored_key(time, batch, row);
        left.push_delete(&stored_key);
        self.aging.leave(stored_key);
        Ok(())
    }
}

fn stored_key(time: i64, batch: &KeyedBatch, row: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(time, shard_of_hash(batch.hashes[row]), batch.key(row), &mut bytes);
    bytes
}
