//! One worker's share of a `GROUP BY`: takes keyed rows, keeps the groups, emits them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::AggregateSpec;
use super::aging::Aging;
use super::output::GroupRows;
use super::states::GroupStates;
use super::table::{Bucket, too_many_keys};
use crate::error::Result;
use crate::operator::keyed::{KeyedBatch, key_hash, shard_of_hash, worker_of};
use crate::operator::layout::History;
use crate::operator::layout::codec::KeyCodec;
use crate::operator::row_counts::RowCounts;
use crate::operator::{EMIT_ROWS, Emit, NO_EXPIRY, Operator, OperatorCounts, Place};
use crate::sink::OutputMode;
use crate::state::{Change, ChangeSet, key};

/// One worker's groups.
pub(crate) struct AggregateOperator {
    pub(super) spec: Arc<AggregateSpec>,
    pub(super) place: Place,
    pub(super) rows: GroupRows,
    pub(super) states: GroupStates,
    pub(super) buckets: BTreeMap<i64, Bucket>,
    /// Groups by bucket and shard, as the table has them.
    pub(super) stored_counts: RowCounts,
    /// Changes of groups that were moved out of memory before the batch ended.
    spilled: ChangeSet,
    /// Every bucket below was dropped since the last commit.
    expired_below: Option<i64>,
    /// Every bucket below was dropped since the state store last heard of it.
    expired_unflushed: Option<i64>,
    /// What a time to live needs.
    pub(super) aging: Aging,
    pub(super) counts: OperatorCounts,
}

impl AggregateOperator {
    /// A worker with the groups that the store has for its shards.
    pub(super) fn open(spec: Arc<AggregateSpec>, place: Place) -> Result<Self> {
        let history = History::of(place.history.as_ref(), spec.as_ref())?;
        let aging = Aging::open(&place)?;
        let mut operator = Self {
            rows: GroupRows::new(spec.output_layout(), KeyCodec::new(&history)?),
            states: GroupStates::new(&spec, &history)?,
            spec,
            stored_counts: RowCounts::open(&place, place.first_table)?,
            place,
            buckets: BTreeMap::new(),
            aging,
            spilled: ChangeSet::default(),
            expired_below: None,
            expired_unflushed: None,
            counts: OperatorCounts::default(),
        };
        // Known from the start, so that they expire in time even if no row comes for them.
        for (bucket, keys) in operator.stored_counts.buckets() {
            operator.counts.rows_total += keys;
            operator.buckets.insert(bucket, Bucket::stored(keys));
        }
        Ok(operator)
    }

    /// Finds or makes the group of each row, marks it as changed, and fetches from the store what memory lacks.
    fn resolve(&mut self, batch: &KeyedBatch, slots: &mut Vec<u32>) -> Result<()> {
        let mut missing: Vec<(i64, u32)> = Vec::new();
        let mut row = 0;
        while row < batch.len() {
            let of_rows = batch.buckets[row];
            let time = self.place_of(of_rows);
            let bucket = self.buckets.entry(time).or_default();
            while row < batch.len() && batch.buckets[row] == of_rows {
                let (hash, key) = (batch.hashes[row], batch.key(row));
                let entry = match bucket.find(hash, key) {
                    Some(entry) => entry,
                    None => {
                        if !bucket.has_room(key.len()) {
                            return Err(too_many_keys());
                        }
                        let entry = bucket.insert(hash, key, self.states.take_slot());
                        if bucket.on_disk {
                            missing.push((time, entry));
                        } else {
                            bucket.keys += 1;
                            self.counts.rows_total += 1;
                            self.stored_counts.add(time, shard_of_hash(hash), 1);
                        }
                        entry
                    }
                };
                bucket.touch(entry);
                slots.push(bucket.entries[entry as usize].slot);
                row += 1;
            }
        }
        self.states.grow();
        if missing.is_empty() { Ok(()) } else { self.fetch(&missing) }
    }

    /// Reads the states of entries that are new in memory but may be in the store.
    fn fetch(&mut self, missing: &[(i64, u32)]) -> Result<()> {
        let keys: Vec<Vec<u8>> = missing.iter().map(|(time, entry)| self.stored_key(*time, *entry)).collect();
        let values = self.place.store.multi_get(self.place.first_table, &keys)?;
        let mut found_slots = Vec::new();
        let mut found = Vec::new();
        for ((time, entry), value) in missing.iter().zip(values) {
            let Some(bucket) = self.buckets.get_mut(time) else { continue };
            match value {
                Some(value) => {
                    found_slots.push(bucket.entries[*entry as usize].slot);
                    found.push(value);
                }
                None => {
                    bucket.keys += 1;
                    self.counts.rows_total += 1;
                    self.stored_counts.add(*time, shard_of_hash(bucket.entries[*entry as usize].hash), 1);
                }
            }
        }
        self.states.decode(&found, &found_slots)
    }

    fn stored_key(&self, time: i64, entry: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(bucket) = self.buckets.get(&time) {
            key::encode(time, shard_of_hash(bucket.entries[entry as usize].hash), bucket.key(entry), &mut bytes);
        }
        bytes
    }

    /// Without grouping columns there is one group from the start, even when no row came.
    fn touch_global_group(&mut self) -> Result<()> {
        let is_global = self.spec.input.keys.is_empty() && self.spec.window.is_none();
        if !is_global || worker_of(key_hash(&[]), self.place.workers) != self.place.worker {
            return Ok(());
        }
        let mut row = KeyedBatch::default();
        row.buckets.push(NO_EXPIRY);
        row.hashes.push(key_hash(&[]));
        row.key_ends.push(0);
        self.resolve(&row, &mut Vec::new())
    }

    fn expired(&self, watermark_us: Option<i64>) -> Vec<i64> {
        let Some(watermark_us) = watermark_us else { return Vec::new() };
        let is_over = |time: &&i64| self.spec.expires_at(**time).is_some_and(|end| end <= watermark_us);
        self.buckets.keys().take_while(is_over).copied().collect()
    }

    pub(super) fn drop_bucket(&mut self, time: i64) {
        self.forget_bucket(time);
        self.expired_below = self.expired_below.max(Some(time + 1));
        self.stored_counts.drop_below(time + 1);
    }

    /// Takes a bucket out of memory, whose groups are no more.
    pub(super) fn forget_bucket(&mut self, time: i64) {
        let Some(bucket) = self.buckets.remove(&time) else { return };
        let slots = bucket.slots(&bucket.all());
        self.states.free(&slots);
        self.counts.rows_total -= bucket.keys;
        self.counts.rows_removed += bucket.keys;
    }

    /// Emits every group of a bucket, those in the store too.
    fn emit_bucket(&mut self, time: i64, emit: &mut Emit<'_>) -> Result<()> {
        let Some(bucket) = self.buckets.get(&time) else { return Ok(()) };
        let (all, on_disk) = (bucket.all(), bucket.on_disk);
        self.emit_entries(time, &all, emit)?;
        if on_disk { self.emit_stored(time, emit) } else { Ok(()) }
    }

    fn emit_entries(&mut self, time: i64, entries: &[u32], emit: &mut Emit<'_>) -> Result<()> {
        for entries in entries.chunks(EMIT_ROWS) {
            let Some(bucket) = self.buckets.get(&time) else { return Ok(()) };
            let results = self.states.evaluate(&bucket.slots(entries))?;
            let keys = entries.iter().map(|entry| bucket.key(*entry));
            emit(self.rows.of_bucket(time, keys, results)?)?;
        }
        Ok(())
    }

    /// Emits the groups of a bucket that only the store has, a few thousand at a time.
    fn emit_stored(&mut self, time: i64, emit: &mut Emit<'_>) -> Result<()> {
        let (from, to) = key::bucket_range(time, time + 1);
        let store = Arc::clone(&self.place.store);
        let mut page = StoredPage::default();
        store.scan(self.place.first_table, (&from, &to), |stored_key, value| {
            let (_, shard, group_key) = key::decode(stored_key)?;
            let in_memory =
                self.buckets.get(&time).is_some_and(|bucket| bucket.find(key_hash(group_key), group_key).is_some());
            if in_memory || !self.place.owns(shard) {
                return Ok(());
            }
            page.push(group_key, value);
            if page.keys.len() == EMIT_ROWS { self.emit_page(time, &mut page, emit) } else { Ok(()) }
        })?;
        self.emit_page(time, &mut page, emit)
    }

    fn emit_page(&self, time: i64, page: &mut StoredPage, emit: &mut Emit<'_>) -> Result<()> {
        let page = std::mem::take(page);
        if page.keys.is_empty() {
            return Ok(());
        }
        let results = self.states.results_of(&page.values)?;
        emit(self.rows.of_bucket(time, page.keys.iter().map(Vec::as_slice), results)?)
    }

    /// Emits the groups that the batch changed, each once, with its last value.
    fn emit_dirty(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let times: Vec<i64> = self.buckets.iter().filter(|(_, b)| !b.dirty.is_empty()).map(|(time, _)| *time).collect();
        for time in times {
            let dirty = self.buckets.get(&time).map(|bucket| bucket.dirty.clone()).unwrap_or_default();
            self.emit_entries(time, &dirty, emit)?;
        }
        self.emit_spilled(emit)
    }

    /// Emits the groups that the batch changed and then moved to disk, from what was written of them last; those that
    /// came back are in memory, and were changed again.
    fn emit_spilled(&self, emit: &mut Emit<'_>) -> Result<()> {
        let mut rows: Vec<(&[u8], &[u8])> = Vec::with_capacity(self.spilled.len());
        for change in self.spilled.iter() {
            if let Change::Put(stored_key, value) = change {
                rows.push((stored_key, value));
            }
        }
        // Of two of one key the later one counts: the sort keeps their order.
        rows.sort_by_key(|(stored_key, _)| *stored_key);
        let mut page = StoredPage::default();
        let mut time = NO_EXPIRY;
        for of_key in rows.chunk_by(|a, b| a.0 == b.0) {
            let Some((stored_key, value)) = of_key.last() else { continue };
            let (bucket, _, group_key) = key::decode(stored_key)?;
            if bucket != time || page.keys.len() == EMIT_ROWS {
                self.emit_page(time, &mut page, emit)?;
                time = bucket;
            }
            let of_time = self.buckets.get(&bucket);
            if of_time.is_none_or(|bucket| bucket.find(key_hash(group_key), group_key).is_none()) {
                page.push(group_key, value);
            }
        }
        self.emit_page(time, &mut page, emit)
    }

    fn put_entries(&mut self, time: i64, entries: &[u32], changes: &mut ChangeSet) -> Result<()> {
        let (mut stored_key, mut buffer) = (Vec::new(), Vec::new());
        for entries in entries.chunks(EMIT_ROWS) {
            let Some(bucket) = self.buckets.get(&time) else { return Ok(()) };
            let values = self.states.encode(&bucket.slots(entries))?;
            for (row, entry) in entries.iter().enumerate() {
                stored_key.clear();
                key::encode(
                    time,
                    shard_of_hash(bucket.entries[*entry as usize].hash),
                    bucket.key(*entry),
                    &mut stored_key,
                );
                changes.push_put(&stored_key, values.as_ref().map_or(&[][..], |values| values.get(row, &mut buffer)));
            }
        }
        Ok(())
    }

    /// Puts entries in the order of the store, which takes them faster then.
    fn sort_by_stored_key(&self, time: i64, entries: &mut [u32]) {
        let Some(bucket) = self.buckets.get(&time) else { return };
        let shard = |entry: &u32| shard_of_hash(bucket.entries[*entry as usize].hash);
        entries.sort_unstable_by(|a, b| (shard(a), bucket.key(*a)).cmp(&(shard(b), bucket.key(*b))));
    }

    /// Moves groups to the store until half of the budget is free, the oldest windows first.
    fn spill(&mut self) -> Result<()> {
        let times: Vec<i64> = self.buckets.keys().copied().collect();
        let mut flushed = ChangeSet::default();
        for time in times {
            let Some(bucket) = self.buckets.get_mut(&time) else { continue };
            let (dirty, mut unflushed) = (bucket.take_dirty(), bucket.take_unflushed());
            let mut spilled = std::mem::take(&mut self.spilled);
            self.put_entries(time, &dirty, &mut spilled)?;
            self.spilled = spilled;
            self.sort_by_stored_key(time, &mut unflushed);
            for entries in unflushed.chunks(EMIT_ROWS) {
                self.put_entries(time, entries, &mut flushed)?;
                self.place.store.apply(self.place.first_table, &flushed)?;
                flushed.clear();
            }
            let Some(bucket) = self.buckets.get_mut(&time) else { continue };
            let slots = bucket.slots(&bucket.all());
            *bucket = Bucket::stored(bucket.keys);
            self.states.free(&slots);
            if self.memory_bytes() < self.place.budget_bytes / 2 {
                break;
            }
        }
        // Accumulators give memory back only when no group is left in them.
        if self.buckets.values().all(|bucket| bucket.entries.is_empty()) { self.states.keep(&[]) } else { Ok(()) }
    }

    fn memory_bytes(&self) -> usize {
        let buckets: usize = self.buckets.values().map(Bucket::size_bytes).sum();
        buckets + self.states.size_bytes()
    }
}

impl Operator for AggregateOperator {
    fn begin_batch(&mut self, time_us: i64) -> Result<()> {
        self.counts.rows_removed = 0;
        self.age(time_us)
    }

    fn process(&mut self, _: usize, batch: &KeyedBatch, _: &mut Emit<'_>) -> Result<()> {
        let mut slots = Vec::with_capacity(batch.len());
        self.bring_forward(batch)?;
        self.resolve(batch, &mut slots)?;
        self.states.update(&batch.columns, &slots)?;
        if self.memory_bytes() > self.place.budget_bytes {
            self.spill()?;
        }
        Ok(())
    }

    fn emit_early(&mut self, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        if self.spec.output_mode != OutputMode::Update {
            return Ok(());
        }
        let mut touched: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in rows.buckets.iter().enumerate() {
            // A group that was moved to disk meanwhile comes out at the end of the batch.
            let time = self.place_of(*time);
            if let Some(entry) = self.buckets.get(&time).and_then(|b| b.find(rows.hashes[row], rows.key(row))) {
                touched.entry(time).or_default().push(entry);
            }
        }
        for (time, mut entries) in touched {
            entries.sort_unstable();
            entries.dedup();
            self.emit_entries(time, &entries, emit)?;
        }
        Ok(())
    }

    fn finish_batch(&mut self, watermark_us: Option<i64>, emit: &mut Emit<'_>) -> Result<()> {
        self.touch_global_group()?;
        let expired: Vec<i64> = self.expired(watermark_us);
        self.counts.rows_updated =
            self.buckets.values().map(|bucket| bucket.dirty.len() as u64).sum::<u64>() + self.spilled.len() as u64;
        match self.spec.output_mode {
            OutputMode::Append => expired.iter().try_for_each(|time| self.emit_bucket(*time, emit))?,
            OutputMode::Complete => {
                let all: Vec<i64> = self.buckets.keys().copied().collect();
                all.iter().try_for_each(|time| self.emit_bucket(*time, emit))?;
            }
            OutputMode::Update => self.emit_dirty(emit)?,
        }
        if self.spec.output_mode != OutputMode::Complete {
            expired.into_iter().for_each(|time| self.drop_bucket(time));
        }
        self.counts.memory_bytes = self.memory_bytes() as u64;
        Ok(())
    }

    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        let changes = &mut changes[0];
        let below = self.expired_below.take();
        if below.is_none() && changes.is_empty() {
            // Nothing of it can have expired: it is handed on as it is, because there is no room to have it twice.
            *changes = std::mem::take(&mut self.spilled);
        }
        if let Some(below) = below {
            let (from, to) = key::bucket_range(i64::MIN, below);
            changes.push_range_delete(&from, &to);
            self.expired_unflushed = self.expired_unflushed.max(Some(below));
        }
        self.aging.take_changes(&self.place, changes);
        self.stored_counts.take_changes(changes);
        for change in std::mem::take(&mut self.spilled).iter() {
            // What expired after it was spilled must not come back.
            if let Change::Put(stored_key, value) = change
                && below.is_none_or(|below| key::decode(stored_key).is_ok_and(|(bucket, ..)| bucket >= below))
            {
                changes.push_put(stored_key, value);
            }
        }
        let times: Vec<i64> = self.buckets.keys().copied().collect();
        for time in times {
            let dirty = self.buckets.get_mut(&time).map(Bucket::take_dirty).unwrap_or_default();
            self.put_entries(time, &dirty, changes)?;
        }
        Ok(())
    }

    fn take_unflushed(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        let changes = &mut changes[0];
        if let Some(below) = self.expired_unflushed.take() {
            let (from, to) = key::bucket_range(i64::MIN, below);
            changes.push_range_delete(&from, &to);
        }
        self.aging.take_unflushed(&self.place, changes);
        self.stored_counts.take_unflushed(changes);
        let times: Vec<i64> = self.buckets.keys().copied().collect();
        for time in times {
            let mut unflushed = self.buckets.get_mut(&time).map(Bucket::take_unflushed).unwrap_or_default();
            self.sort_by_stored_key(time, &mut unflushed);
            // In pieces: all of memory may be unflushed, and there is no room to have it twice.
            for entries in unflushed.chunks(EMIT_ROWS) {
                self.put_entries(time, entries, changes)?;
                self.place.store.apply(self.place.first_table, changes)?;
                changes.clear();
            }
        }
        Ok(())
    }

    fn counts(&self) -> OperatorCounts {
        self.counts
    }
}

/// Groups read from the store, to be emitted together.
#[derive(Default)]
struct StoredPage {
    keys: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
}

impl StoredPage {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.keys.push(key.to_vec());
        self.values.push(value.to_vec());
    }
}
