//! How many rows a table of an operator has, by bucket and shard: kept in the table itself, so that opening it asks
//! what is there without reading the rows.
//!
//! ```text
//!   NEVER · shard 0 · "rows" bucket shard  ->  rows: u64, big endian     one record for each shard of a bucket
//! ```
//!
//! A record belongs to one shard, as rows do: whatever the number of workers at the next start, each adds up those of
//! its own shards. The bucket stands before the shard, so that the records of buckets that expired are one range too.
//! A record is written with the rows it counts, never without them.

use std::collections::BTreeMap;

use super::Place;
use crate::error::{EngineError, Result};
use crate::state::{ChangeSet, key};

const NAME: &[u8] = b"rows";

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct RowCounts {
    buckets: BTreeMap<i64, Vec<ShardRows>>,
    /// Records that the changelog does not have as they are.
    dirty: Vec<(i64, u8)>,
    /// Records that the store does not have as they are.
    unflushed: Vec<(i64, u8)>,
    /// Every bucket below is gone, and the changelog, the store do not know it yet.
    gone_below: Option<i64>,
    gone_below_unflushed: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct ShardRows {
    shard: u8,
    is_dirty: bool,
    is_unflushed: bool,
    rows: u64,
}

impl RowCounts {
    /// What the table has for the shards of a worker.
    pub(crate) fn open(place: &Place, table: usize) -> Result<Self> {
        let mut counts = Self::default();
        let (from, to) = (record_key(i64::MIN, 0), record_key(key::NEVER, u8::MAX));
        place.store.scan(table, (&from, &to), |bytes, value| {
            let (bucket, shard) = split_record_key(bytes).ok_or_else(damaged)?;
            let rows = u64::from_be_bytes(value.try_into().map_err(|_| damaged())?);
            if place.owns(shard) {
                let shards = counts.buckets.entry(bucket).or_default();
                shards.push(ShardRows { shard, is_dirty: false, is_unflushed: false, rows });
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// The buckets that have rows, with how many.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (i64, u64)> {
        let rows = |shards: &Vec<ShardRows>| shards.iter().map(|shard| shard.rows).sum::<u64>();
        self.buckets.iter().map(move |(bucket, shards)| (*bucket, rows(shards))).filter(|(_, rows)| *rows > 0)
    }

    /// Rows of all buckets.
    pub(crate) fn total(&self) -> u64 {
        self.buckets().map(|(_, rows)| rows).sum()
    }

    /// Counts rows that came.
    pub(crate) fn add(&mut self, bucket: i64, shard: u8, rows: u64) {
        let known = self.record(bucket, shard);
        known.rows += rows;
    }

    /// Counts rows that went.
    pub(crate) fn remove(&mut self, bucket: i64, shard: u8, rows: u64) {
        let known = self.record(bucket, shard);
        known.rows = known.rows.saturating_sub(rows);
    }

    /// Says what a bucket has, after it was counted anew.
    pub(crate) fn set(&mut self, bucket: i64, rows: &BTreeMap<u8, u64>) {
        let known: Vec<u8> = self.buckets.get(&bucket).into_iter().flatten().map(|known| known.shard).collect();
        for shard in known.iter().chain(rows.keys()) {
            let rows = rows.get(shard).copied().unwrap_or(0);
            if self.live(bucket, *shard).map_or(0, |record| record.rows) != rows {
                self.record(bucket, *shard).rows = rows;
            }
        }
    }

    /// The record of a shard, which is about to be changed.
    fn record(&mut self, bucket: i64, shard: u8) -> &mut ShardRows {
        let shards = self.buckets.entry(bucket).or_default();
        let at = shards.binary_search_by_key(&shard, |known| known.shard).unwrap_or_else(|at| {
            shards.insert(at, ShardRows { shard, is_dirty: false, is_unflushed: false, rows: 0 });
            at
        });
        let record = &mut shards[at];
        if !std::mem::replace(&mut record.is_dirty, true) {
            self.dirty.push((bucket, shard));
        }
        if !std::mem::replace(&mut record.is_unflushed, true) {
            self.unflushed.push((bucket, shard));
        }
        record
    }

    /// Forgets the buckets before `below`, whose rows are gone.
    pub(crate) fn drop_below(&mut self, below: i64) {
        self.buckets = self.buckets.split_off(&below);
        self.gone_below = self.gone_below.max(Some(below));
        self.gone_below_unflushed = self.gone_below_unflushed.max(Some(below));
    }

    /// Writes the changes since the last commit.
    pub(crate) fn take_changes(&mut self, changes: &mut ChangeSet) {
        delete_below(self.gone_below.take(), changes);
        for (bucket, shard) in std::mem::take(&mut self.dirty) {
            if let Some(record) = self.live(bucket, shard) {
                record.is_dirty = false;
                put(bucket, record, changes);
            }
        }
    }

    /// Writes what the store does not know yet.
    pub(crate) fn take_unflushed(&mut self, changes: &mut ChangeSet) {
        delete_below(self.gone_below_unflushed.take(), changes);
        for (bucket, shard) in std::mem::take(&mut self.unflushed) {
            if let Some(record) = self.live(bucket, shard) {
                record.is_unflushed = false;
                put(bucket, record, changes);
            }
        }
    }

    fn live(&mut self, bucket: i64, shard: u8) -> Option<&mut ShardRows> {
        let shards = self.buckets.get_mut(&bucket)?;
        let at = shards.binary_search_by_key(&shard, |known| known.shard).ok()?;
        Some(&mut shards[at])
    }
}

/// All rows that a table counts, whoever owns them.
pub(crate) fn rows_of_table(store: &crate::state::StateStore, table: usize) -> Result<u64> {
    let (from, to) = (record_key(i64::MIN, 0), record_key(key::NEVER, u8::MAX));
    let mut total = 0;
    store.scan(table, (&from, &to), |_, value| {
        total += u64::from_be_bytes(value.try_into().map_err(|_| damaged())?);
        Ok(())
    })?;
    Ok(total)
}

fn delete_below(below: Option<i64>, changes: &mut ChangeSet) {
    if let Some(below) = below {
        changes.push_range_delete(&record_key(i64::MIN, 0), &record_key(below, 0));
    }
}

fn put(bucket: i64, record: &ShardRows, changes: &mut ChangeSet) {
    let key = record_key(bucket, record.shard);
    if record.rows == 0 {
        changes.push_delete(&key);
    } else {
        changes.push_put(&key, &record.rows.to_be_bytes());
    }
}

fn record_key(bucket: i64, shard: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(key::NEVER, 0, NAME, &mut bytes);
    let (bucket, _) = key::bucket_range(bucket, bucket);
    bytes.extend_from_slice(&bucket);
    bytes.push(shard);
    bytes
}

fn split_record_key(bytes: &[u8]) -> Option<(i64, u8)> {
    let (_, _, rest) = key::decode(bytes).ok()?;
    // Behind the name stands what begins as a key does.
    let (bucket, shard, rest) = key::decode(rest.strip_prefix(NAME)?).ok()?;
    rest.is_empty().then_some((bucket, shard))
}

fn damaged() -> EngineError {
    EngineError::data("a count of state rows is damaged: it is not a bucket, a shard and a number")
        .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::checkpoint::testing::checkpoint;
    use crate::state::{StateSettings, StateStore};

    fn place(store: &Arc<StateStore>, worker: usize, workers: usize) -> Place {
        Place { store: Arc::clone(store), first_table: 0, worker, workers, budget_bytes: 0, history: None, ttl: None }
    }

    fn shown(counts: &RowCounts) -> Vec<(i64, u64)> {
        counts.buckets().collect()
    }

    #[test]
    fn other_workers_add_up_what_their_shards_have() {
        let (dir, checkpoint) = checkpoint();
        let open = |version| {
            let (settings, folder) = (StateSettings::default(), dir.path().join("local"));
            Arc::new(StateStore::open(&settings, &checkpoint, &folder, &["a".to_owned()], version).unwrap().0)
        };
        let store = open(None);
        let mut workers: Vec<RowCounts> =
            (0..2).map(|worker| RowCounts::open(&place(&store, worker, 2), 0).unwrap()).collect();
        for (bucket, shard, rows) in [(5, 0, 3), (5, 100, 1), (7, 127, 2), (i64::MAX - 1, 1, 9)] {
            workers[0].add(bucket, shard, rows);
        }
        workers[1].add(5, 128, 10);
        workers[1].add(9, 255, 4);
        workers[1].remove(9, 255, 4);
        let mut changes = ChangeSet::new();
        workers.iter_mut().for_each(|worker| worker.take_changes(&mut changes));
        store.commit(0, &[changes], json!(0)).unwrap();
        drop(store);

        let store = open(Some(0));
        let of = |worker, workers| shown(&RowCounts::open(&place(&store, worker, workers), 0).unwrap());
        assert_eq!(of(0, 1), [(5, 14), (7, 2), (i64::MAX - 1, 9)]);
        assert_eq!(of(0, 3), [(5, 3), (i64::MAX - 1, 9)]);
        assert_eq!(of(1, 3), [(5, 11), (7, 2)]);
        assert_eq!(of(2, 3), []);
        assert_eq!(rows_of_table(&store, 0).unwrap(), 25);
    }

    #[test]
    fn buckets_that_are_gone_do_not_come_back() {
        let (dir, checkpoint) = checkpoint();
        let folder = dir.path().join("local");
        let operators = ["a".to_owned()];
        let (store, _) = StateStore::open(&StateSettings::default(), &checkpoint, &folder, &operators, None).unwrap();
        let place = place(&Arc::new(store), 0, 1);
        let mut counts = RowCounts::open(&place, 0).unwrap();
        let flush = |counts: &mut RowCounts| {
            let mut changes = ChangeSet::new();
            counts.take_unflushed(&mut changes);
            place.store.apply(0, &changes).unwrap();
            shown(&RowCounts::open(&place, 0).unwrap())
        };
        counts.add(5, 1, 3);
        counts.add(6, 1, 4);
        assert_eq!(flush(&mut counts), [(5, 3), (6, 4)]);
        counts.add(5, 2, 1);
        counts.drop_below(6);
        counts.set(6, &BTreeMap::from([(2, 8)]));
        assert_eq!((flush(&mut counts), counts.total()), (vec![(6, 8)], 8));
    }
}
