//! The partitions of one worker: those in use in memory, all others in the store.
//!
//! What a batch changes stays in memory until the batch ends or memory is short; then it goes to the store and is noted
//! for the changelog. The bucket of a partition is its event time, so that what the watermark has passed is one range; where
//! it has none, the stamp of the batch that brought it rows last (`aging.rs`).

use std::collections::BTreeMap;

use super::rows::{Ranking, TopRow, TopRows};
use crate::error::{EngineError, Result};
use crate::operator::keyed::{KeyedBatch, shard_of_hash};
use crate::operator::row_counts::RowCounts;
use crate::operator::ttl::Aging;
use crate::operator::{EMIT_ROWS, OperatorCounts, Place};
use crate::state::{ChangeSet, key};

/// Memory of a partition beside its key and rows.
const GROUP_BYTES: usize = 128;

/// Partitions by their keys in the store.
pub(super) struct Groups {
    /// The operator, for messages.
    owner: String,
    pub(super) place: Place,
    /// Whether somebody wants to hear what changed.
    tells: bool,
    pub(super) held: BTreeMap<Vec<u8>, Group>,
    pub(super) held_bytes: usize,
    /// Those of `held` that the store has otherwise.
    pub(super) dirty: Vec<Vec<u8>>,
    /// What was moved to the store before the batch ended, for the changelog.
    spilled: ChangeSet,
    /// Rows up to this time went in this batch.
    gone_us: Option<i64>,
    /// What a time to live needs; none for partitions that are kept by event time.
    pub(super) aging: Option<Aging>,
    pub(super) rows: RowCounts,
    /// What the batch has changed so far, and what the one before it had.
    pub(super) batch: OperatorCounts,
    last: OperatorCounts,
}

#[derive(Default)]
pub(super) struct Group {
    rows: TopRows,
    /// What was last told of it, if it changed since.
    told: Option<TopRows>,
    pub(super) is_dirty: bool,
}

impl Group {
    pub(super) fn of(rows: TopRows) -> Self {
        Self { rows, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        GROUP_BYTES + self.rows.memory_bytes()
    }
}

impl Groups {
    /// `by_time`: whether partitions are kept by event time.
    pub(super) fn open(owner: &str, tells: bool, by_time: bool, place: Place) -> Result<Self> {
        Ok(Self {
            owner: owner.to_owned(),
            rows: RowCounts::open(&place, place.first_table)?,
            spilled: place.change_set(),
            aging: if by_time { None } else { Some(Aging::open(&place)?) },
            place,
            tells,
            held: BTreeMap::new(),
            held_bytes: 0,
            dirty: Vec::new(),
            gone_us: None,
            batch: OperatorCounts::default(),
            last: OperatorCounts::default(),
        })
    }

    /// Brings into memory the partitions that rows belong to; gives the key of each row's.
    pub(super) fn load(&mut self, batch: &KeyedBatch) -> Result<Vec<Vec<u8>>> {
        let stamp_us = self.aging.as_ref().map(Aging::stamp_us);
        let keys: Vec<Vec<u8>> = (0..batch.len()).map(|row| state_key(batch, row, stamp_us)).collect();
        let mut missing: Vec<&Vec<u8>> = keys.iter().filter(|key| !self.held.contains_key(*key)).collect();
        missing.sort_unstable();
        missing.dedup();
        if let Some(stamp_us) = stamp_us {
            self.bring_forward(stamp_us, &mut missing)?;
        }
        let stored = self.place.store.multi_get(self.place.first_table, &missing)?;
        for (key, value) in missing.into_iter().zip(stored) {
            let rows = value.map_or_else(|| Ok(TopRows::default()), |value| self.decode(&value))?;
            let group = Group::of(rows);
            self.held_bytes += key.len() + group.memory_bytes();
            self.held.insert(key.clone(), group);
        }
        Ok(keys)
    }

    /// Offers a row, as its order and its columns, to its partition, which is loaded.
    pub(super) fn offer(
        &mut self,
        key: &[u8],
        (order, row): (&[u8], &[u8]),
        (ranking, limit): (Ranking, usize),
    ) -> Result<()> {
        let Some(group) = self.held.get_mut(key) else { return Ok(()) };
        let Some(at) = group.rows.position(order, row, ranking, limit) else { return Ok(()) };
        // Rows share their bytes, so that this copies no row.
        if self.tells && group.told.is_none() {
            group.told = Some(group.rows.clone());
        }
        let (len, bytes) = (group.rows.len(), group.rows.memory_bytes());
        group.rows.insert(at, TopRow::new(order, row), ranking, limit);
        self.held_bytes = (self.held_bytes + group.rows.memory_bytes()).saturating_sub(bytes);
        let (bucket, shard, _) = key::decode(key)?;
        match group.rows.len().checked_sub(len) {
            Some(0) => {}
            Some(more) => self.rows.add(bucket, shard, more as u64),
            None => self.rows.remove(bucket, shard, (len - group.rows.len()) as u64),
        }
        self.batch.rows_updated += 1;
        if !std::mem::replace(&mut group.is_dirty, true) {
            self.dirty.push(key.to_vec());
        }
        Ok(())
    }

    pub(super) fn is_over_budget(&self) -> bool {
        self.held_bytes > self.place.budget_bytes
    }

    /// What was told of each changed partition, and what is true now.
    pub(super) fn take_changed(&mut self) -> Vec<(TopRows, TopRows)> {
        let held = &mut self.held;
        let changed = self.dirty.iter().filter_map(|key| {
            let group = held.get_mut(key)?;
            Some((group.told.take()?, group.rows.clone()))
        });
        changed.collect()
    }

    /// Gives the rows of all partitions, or of those up to a time, some partitions at once.
    pub(super) fn each(&self, bound: Option<i64>, take: &mut dyn FnMut(Vec<TopRows>) -> Result<()>) -> Result<()> {
        let (from, to) = range(bound);
        let mut page: Vec<TopRows> =
            self.held.range(from.clone()..to.clone()).map(|(_, group)| group.rows.clone()).collect();
        self.place.store.scan(self.place.first_table, (&from, &to), |bytes, value| {
            let (bucket, shard, _) = key::decode(bytes)?;
            // What went in this batch leaves the store with the next commit.
            let is_gone = self.gone_us.is_some_and(|gone_us| bucket <= gone_us);
            if self.place.owns(shard) && !is_gone && !self.held.contains_key(bytes) {
                page.push(self.decode(value)?);
            }
            if page.len() < EMIT_ROWS { Ok(()) } else { take(std::mem::take(&mut page)) }
        })?;
        take(page)
    }

    pub(super) fn has_rows_up_to(&self, bound: i64) -> bool {
        self.rows.buckets().any(|(bucket, _)| bucket <= bound)
    }

    /// Forgets the partitions up to a time.
    pub(super) fn forget(&mut self, bound: i64) -> Result<()> {
        let (_, to) = range(Some(bound));
        let kept = self.held.split_off(&to);
        let gone = std::mem::replace(&mut self.held, kept);
        let bytes = |(key, group): (&Vec<u8>, &Group)| key.len() + group.memory_bytes();
        self.held_bytes = self.held_bytes.saturating_sub(gone.iter().map(bytes).sum());
        self.dirty.retain(|key| *key >= to);
        let mut spilled = self.place.change_set();
        spilled.append_puts(&self.spilled, |key| key >= to.as_slice())?;
        self.spilled = spilled;
        let gone = self.rows.buckets().filter(|(bucket, _)| *bucket <= bound);
        self.batch.rows_removed += gone.map(|(_, rows)| rows).sum::<u64>();
        self.rows.drop_below(bound.saturating_add(1));
        self.gone_us = Some(bound);
        Ok(())
    }

    /// Moves everything to the store, because memory is short.
    pub(super) fn spill(&mut self) -> Result<()> {
        let own = self.take_dirty();
        self.place.store.apply(self.place.first_table, &own)?;
        self.spilled.append(own);
        self.held.clear();
        self.held_bytes = 0;
        Ok(())
    }

    /// The changed partitions as the store should have them.
    fn take_dirty(&mut self) -> ChangeSet {
        let mut own = self.place.change_set();
        for key in std::mem::take(&mut self.dirty) {
            if let Some(group) = self.held.get_mut(&key) {
                group.is_dirty = false;
                own.push_put(&key, &group.rows.encode());
            }
        }
        own
    }

    /// What the batch changed goes to the changelog, and to the store, which has all rows from then on.
    pub(super) fn take_changes(&mut self, changes: &mut ChangeSet) -> Result<()> {
        let mut own = self.take_dirty();
        if let Some(aging) = &mut self.aging {
            aging.take_changes(&self.place, changes);
        }
        if let Some(bound) = self.gone_us.take() {
            let (from, to) = range(Some(bound));
            own.push_range_delete(&from, &to);
        }
        self.rows.take_changes(&mut own);
        self.place.store.apply(self.place.first_table, &own)?;
        changes.append(std::mem::replace(&mut self.spilled, self.place.change_set()));
        changes.append(own);
        if self.is_over_budget() {
            self.held.clear();
            self.held_bytes = 0;
        }
        self.last = std::mem::take(&mut self.batch);
        Ok(())
    }

    /// The store knows everything but what the counts note for themselves.
    pub(super) fn take_unflushed(&mut self, changes: &mut ChangeSet) {
        if let Some(aging) = &mut self.aging {
            aging.take_unflushed(&self.place, changes);
        }
        self.rows.take_unflushed(changes);
    }

    pub(super) fn counts(&self) -> OperatorCounts {
        OperatorCounts { rows_total: self.rows.total(), memory_bytes: self.held_bytes as u64, ..self.last }
    }

    pub(super) fn decode(&self, value: &[u8]) -> Result<TopRows> {
        TopRows::decode(value).ok_or_else(|| {
            EngineError::data(format!("the state of {} is damaged: the rows of a partition cannot be read", self.owner))
                .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
        })
    }
}

/// The keys of all partitions, or of those up to a time.
fn range(bound: Option<i64>) -> (Vec<u8>, Vec<u8>) {
    key::bucket_range(i64::MIN, bound.map_or(key::NEVER, |bound| bound.saturating_add(1)))
}

/// The key of a row's partition, in the bucket of its event time if `stamp_us` is none.
fn state_key(batch: &KeyedBatch, row: usize, stamp_us: Option<i64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(stamp_us.unwrap_or(batch.buckets[row]), shard_of_hash(batch.hashes[row]), batch.key(row), &mut bytes);
    bytes
}
