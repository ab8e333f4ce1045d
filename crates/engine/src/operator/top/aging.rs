//! Partitions with a time to live: their bucket is the stamp of the batch that brought them rows last, and goes whole.
//!
//! As groups do (`aggregate/aging.rs`), a partition moves to the newest bucket when a row of its comes, whether that is among
//! the first or not: sixteen times in its life if rows come all the time. It is in one bucket only; whoever looks for it asks
//! those there are. Without a ttl all are in one bucket, and those that an earlier ttl has put elsewhere come back to it.

use std::collections::BTreeMap;

use super::groups::{Group, Groups};
use crate::error::Result;
use crate::operator::NO_EXPIRY;
use crate::operator::ttl::Unstamped;
use crate::state::{ChangeSet, key};

impl Groups {
    /// Begins a batch of this processing time: forgets the partitions whose time to live is over.
    pub(super) fn age(&mut self, time_us: i64) -> Result<()> {
        let Some(aging) = &mut self.aging else { return Ok(()) };
        let Some(bound) = aging.begin(time_us) else { return Ok(()) };
        let has_unstamped = self.rows.buckets().any(|(bucket, _)| bucket == NO_EXPIRY);
        let are_over = has_unstamped && aging.unstamped_are_over(bound);
        if are_over {
            self.forget_unstamped()?;
        }
        if self.has_rows_up_to(bound) { self.forget(bound) } else { Ok(()) }
    }

    fn forget_unstamped(&mut self) -> Result<()> {
        let (from, _) = key::bucket_range(NO_EXPIRY, key::NEVER);
        let gone = self.held.split_off(&from);
        let bytes: usize = gone.iter().map(|(key, group)| key.len() + group.memory_bytes()).sum();
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        let rows = self.rows.buckets().filter(|(bucket, _)| *bucket == NO_EXPIRY).map(|(_, rows)| rows);
        self.batch.rows_removed += rows.sum::<u64>();
        self.rows.set(NO_EXPIRY, &BTreeMap::new());
        Unstamped::remove_stored(&self.place, self.place.first_table)
    }

    /// Moves the partitions of `missing`, keys in the bucket of the batch, from the buckets they are in; leaves the keys of
    /// those that are in no other.
    pub(super) fn bring_forward(&mut self, stamp_us: i64, missing: &mut Vec<&Vec<u8>>) -> Result<()> {
        let mut others: Vec<i64> = self.rows.buckets().map(|(bucket, _)| bucket).collect();
        others.retain(|bucket| *bucket != stamp_us);
        for bucket in others.into_iter().rev() {
            if missing.is_empty() {
                break;
            }
            let old_keys = missing.iter().map(|key| in_bucket(key, bucket)).collect::<Result<Vec<_>>>()?;
            let stored = self.place.store.multi_get(self.place.first_table, &old_keys)?;
            let mut left = ChangeSet::new();
            let mut absent = Vec::new();
            for ((key, old_key), stored) in missing.drain(..).zip(old_keys).zip(stored) {
                let held = self.held.remove(&old_key);
                let group = match (held, stored) {
                    (Some(group), _) => {
                        self.held_bytes = self.held_bytes.saturating_sub(old_key.len() + group.memory_bytes());
                        group
                    }
                    (None, Some(value)) => Group::of(self.decode(&value)?),
                    (None, None) => {
                        absent.push(key);
                        continue;
                    }
                };
                self.arrive(key, group, (bucket, stamp_us))?;
                left.push_delete(&old_key);
                if let Some(aging) = &mut self.aging {
                    aging.leave(old_key);
                }
            }
            // At once, so that nothing is brought back from there.
            self.place.store.apply(self.place.first_table, &left)?;
            *missing = absent;
        }
        Ok(())
    }

    /// Puts a partition that left a bucket into that of the batch.
    fn arrive(&mut self, key: &[u8], mut group: Group, (from, to): (i64, i64)) -> Result<()> {
        let (_, shard, _) = key::decode(key)?;
        let rows = group.len() as u64;
        self.rows.remove(from, shard, rows);
        self.rows.add(to, shard, rows);
        if !std::mem::replace(&mut group.is_dirty, true) {
            self.dirty.push(key.to_vec());
        }
        self.held_bytes += key.len() + group.memory_bytes();
        self.held.insert(key.to_vec(), group);
        Ok(())
    }
}

/// The same key in another bucket.
fn in_bucket(stored_key: &[u8], bucket: i64) -> Result<Vec<u8>> {
    let (_, shard, rest) = key::decode(stored_key)?;
    let mut bytes = Vec::new();
    key::encode(bucket, shard, rest, &mut bytes);
    Ok(bytes)
}
