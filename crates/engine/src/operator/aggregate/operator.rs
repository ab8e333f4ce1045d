//! One worker's share of a `GROUP BY`: takes keyed rows, keeps the groups, emits them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::AggregateSpec;
use super::changing::Changing;
use super::output::GroupRows;
use super::states::GroupStates;
use super::table::{Bucket, Entry, FETCH_KEYS, too_many_keys};
use crate::error::Result;
use crate::operator::changes::Tells;
use crate::operator::keyed::{KeyedBatch, key_hash, shard_of_hash, worker_of};
use crate::operator::layout::History;
use crate::operator::layout::codec::KeyCodec;
use crate::operator::row_counts::RowCounts;
use crate::operator::ttl::Aging;
use crate::operator::{AtEnd, EMIT_ROWS, Emit, NO_EXPIRY, Operator, OperatorCounts, Place};
use crate::sink::OutputMode;
use crate::state::{ChangeSet, key};

/// A bucket that has changed in more groups than this, and in half of those it has, is written as a whole.
const REPLACE_FROM: usize = 1 << 15;

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
    /// What rows that are taken back need.
    pub(super) changing: Changing,
    at_end: AtEnd,
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
            spilled: place.change_set(),
            place,
            buckets: BTreeMap::new(),
            aging,
            changing: Changing::default(),
            at_end: AtEnd::default(),
            expired_below: None,
            expired_unflushed: None,
            counts: OperatorCounts::default(),
        };
        // Known from the start, so that they expire in time even if no row comes for them.
        for (bucket, keys) in operator.stored_counts.buckets() {
            operator.counts.rows_total += keys;
            operator.buckets.insert(bucket, Bucket::stored(keys, None));
        }
        Ok(operator)
    }

    /// Finds or makes the group of each row, marks it as changed, and fetches from the store what memory lacks.
    fn resolve(&mut self, batch: &KeyedBatch, slots: &mut Vec<u32>) -> Result<()> {
        let mut missing: Vec<(i64, u32)> = Vec::new();
        let notes = self.spec.tells == Tells::Changes;
        let mut row = 0;
        while row < batch.len() {
            let of_rows = batch.buckets[row];
            let time = self.place_of(of_rows);
            let bucket = self.buckets.entry(time).or_default();
            let run = batch.buckets[row..].iter().take(FETCH_KEYS).take_while(|bucket| **bucket == of_rows).count();
            bucket.fetch_for(&batch.hashes[row..row + run]);
            for row in row..row + run {
                let (hash, key) = (batch.hashes[row], batch.key(row));
                let entry = match bucket.find(hash, key) {
                    Some(entry) => {
                        if notes && !bucket.entries[entry as usize].is_dirty {
                            self.changing.renewed.push((time, entry));
                        }
                        entry
                    }
                    None => {
                        if !bucket.has_room(key.len()) {
                            return Err(too_many_keys());
                        }
                        let entry = bucket.insert(hash, key, self.states.take_slot());
                        if bucket.may_be_on_disk(hash) {
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
            }
            row += run;
        }
        self.states.grow();
        if missing.is_empty() { Ok(()) } else { self.fetch(&missing) }
    }

    /// Reads the states of entries that are new in memory but may be in the store.
    fn fetch(&mut self, missing: &[(i64, u32)]) -> Result<()> {
        let keys: Vec<Vec<u8>> = missing.iter().map(|(time, entry)| self.stored_key(*time, *entry)).collect();
        self.counts.lookups += keys.len() as u64;
        let values = self.place.store.multi_get(self.place.first_table, &keys)?;
        let mut found_slots = Vec::new();
        let mut found = Vec::new();
        for ((time, entry), value) in missing.iter().zip(values) {
            let Some(bucket) = self.buckets.get_mut(time) else { continue };
            match value {
                Some(value) => {
                    found_slots.push(bucket.entries[*entry as usize].slot);
                    found.push(value);
                    if self.spec.tells == Tells::Changes {
                        self.changing.renewed.push((*time, *entry));
                    }
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

    pub(super) fn stored_key(&self, time: i64, entry: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(bucket) = self.buckets.get(&time) {
            key::encode(time, shard_of_hash(bucket.entries[entry as usize].hash), bucket.key(entry), &mut bytes);
        }
        bytes
    }

    /// Without grouping columns there is one group from the start, even when no row came.
    fn touch_global_group(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let is_global = self.spec.input.keys.is_empty() && self.spec.window.is_none();
        if !is_global || worker_of(key_hash(&[]), self.place.workers) != self.place.worker {
            return Ok(());
        }
        let mut row = KeyedBatch::default();
        row.buckets.push(NO_EXPIRY);
        row.hashes.push(key_hash(&[]));
        row.key_ends.push(0);
        self.resolve(&row, &mut Vec::new())?;
        self.take_back(emit)
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
            let Some(rows) = self.rows_of(time, entries)? else { return Ok(()) };
            self.tell(rows, emit)?;
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
            if self.has_in_memory(time, group_key) || !self.place.owns(shard) {
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
        self.tell(self.rows.of_bucket(time, page.keys.iter().map(Vec::as_slice), results)?, emit)
    }

    /// Whether a group is in memory.
    pub(super) fn has_in_memory(&self, time: i64, group_key: &[u8]) -> bool {
        self.buckets.get(&time).is_some_and(|bucket| bucket.find(key_hash(group_key), group_key).is_some())
    }

    /// Emits the groups that the batch changed, each once, with its last value.
    fn emit_dirty(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let times: Vec<i64> = self.buckets.iter().filter(|(_, b)| !b.dirty.is_empty()).map(|(time, _)| *time).collect();
        for time in times {
            let dirty = self.buckets.get(&time).map(|bucket| bucket.dirty.clone()).unwrap_or_default();
            self.emit_entries(time, &dirty, emit)?;
        }
        // Those that are told as changes were told when they left memory.
        if self.spec.is_told_early() { Ok(()) } else { self.emit_spilled(emit) }
    }

    /// Emits the groups that the batch changed and then moved to disk, from what was written of them last; those that
    /// came back are in memory, and were changed again.
    fn emit_spilled(&self, emit: &mut Emit<'_>) -> Result<()> {
        let mut page = StoredPage::default();
        let mut time = NO_EXPIRY;
        self.spilled.merge_puts(|stored_key, value| {
            let (bucket, _, group_key) = key::decode(stored_key)?;
            if bucket != time || page.keys.len() == EMIT_ROWS {
                self.emit_page(time, &mut page, emit)?;
                time = bucket;
            }
            if !self.has_in_memory(bucket, group_key) {
                page.push(group_key, value);
            }
            Ok(())
        })?;
        self.emit_page(time, &mut page, emit)
    }

    /// Gives entries as the store keeps them.
    fn encode(
        &mut self,
        time: i64,
        entries: &[u32],
        put: &mut dyn FnMut(&Entry, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut stored_key, mut buffer) = (Vec::new(), Vec::new());
        for entries in entries.chunks(EMIT_ROWS) {
            let Some(bucket) = self.buckets.get(&time) else { return Ok(()) };
            let values = self.states.encode(&bucket.slots(entries))?;
            for (row, at) in entries.iter().enumerate() {
                if row % FETCH_KEYS == 0 {
                    bucket.fetch(&entries[row..entries.len().min(row + FETCH_KEYS)]);
                }
                let entry = &bucket.entries[*at as usize];
                stored_key.clear();
                key::encode(time, shard_of_hash(entry.hash), bucket.key(*at), &mut stored_key);
                put(entry, &stored_key, values.as_ref().map_or(&[][..], |values| values.get(row, &mut buffer)))?;
            }
        }
        Ok(())
    }

    /// Writes a bucket's groups to the store that it does not know yet, and those that no changelog has to `spilled` too.
    fn flush(&mut self, time: i64, mut spilled: Option<&mut ChangeSet>) -> Result<()> {
        let used = self.memory_bytes();
        let Some(bucket) = self.buckets.get_mut(&time) else { return Ok(()) };
        let mut unflushed = bucket.take_unflushed();
        let store = Arc::clone(&self.place.store);
        if unflushed.len() > REPLACE_FROM && bucket.is_mostly(&unflushed) {
            let (first, last) = self.place.shards();
            let (from, to) = key::shards_range(time, first, last);
            store.clear_range(self.place.first_table, (&from, &to))?;
            unflushed = bucket.all();
            bucket.sort_as_stored(&mut unflushed);
            if bucket.may_settle() && used + bucket.settle_bytes() <= self.place.budget_bytes {
                unflushed = bucket.settle(&unflushed);
            }
        } else {
            bucket.sort_as_stored(&mut unflushed);
        }
        let mut writer = store.sorted_writer(self.place.first_table, unflushed.len())?;
        self.encode(time, &unflushed, &mut |entry, stored_key, value| {
            if let Some(spilled) = spilled.as_mut().filter(|_| entry.is_dirty) {
                spilled.push_put(stored_key, value);
            }
            writer.put(stored_key, value)
        })?;
        writer.finish()
    }

    /// Moves groups to the store until half of the budget is free, the oldest windows first.
    fn spill(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let times: Vec<i64> = self.buckets.keys().copied().collect();
        let keeps_filters = self.has_room_for_filters();
        let mut spilled = std::mem::take(&mut self.spilled);
        for time in times {
            if self.spec.is_told_early() {
                let dirty = self.buckets.get(&time).map(|bucket| bucket.dirty.clone()).unwrap_or_default();
                self.emit_entries(time, &dirty, emit)?;
                self.forget_gone_of(time)?;
            }
            self.flush(time, Some(&mut spilled))?;
            let Some(bucket) = self.buckets.get_mut(&time) else { continue };
            let slots = bucket.slots(&bucket.all());
            let filter = if keeps_filters { bucket.filter_with_entries() } else { None };
            *bucket = Bucket::stored(bucket.keys, filter);
            self.states.free(&slots);
            if self.memory_bytes() < self.place.budget_bytes / 2 {
                break;
            }
        }
        spilled.end_run();
        self.spilled = spilled;
        // Accumulators give memory back only when no group is left in them.
        if self.buckets.values().all(|bucket| bucket.entries.is_empty()) { self.states.keep(&[]) } else { Ok(()) }
    }

    /// Whether memory has no room for `rows` more rows: tables double when they are full, which is known before. A
    /// table that is half of the budget may.
    fn is_full(&self, rows: usize) -> bool {
        let (budget, used) = (self.place.budget_bytes, self.memory_bytes());
        let growth = || {
            let largest = self.buckets.values().max_by_key(|bucket| bucket.entries.len());
            largest.map_or(0, |bucket| bucket.growth_bytes(rows)) + self.states.growth_bytes(rows)
        };
        used > budget || (used > budget / 2 && used + growth() > budget)
    }

    fn memory_bytes(&self) -> usize {
        let buckets: usize = self.buckets.values().map(Bucket::size_bytes).sum();
        buckets + self.states.size_bytes()
    }
}

impl Operator for AggregateOperator {
    fn begin_batch(&mut self, time_us: i64) -> Result<()> {
        (self.counts.rows_removed, self.counts.lookups) = (0, 0);
        self.age(time_us)
    }

    fn set_at_end(&mut self, at_end: AtEnd) {
        self.at_end = at_end;
    }

    fn process(&mut self, _: usize, batch: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        // Before anything of this batch is in memory, which is not marked as changed until the end.
        if self.is_full(batch.len()) {
            self.spill(emit)?;
        }
        self.bring_forward(batch)?;
        let mut slots = Vec::with_capacity(batch.len());
        self.resolve(batch, &mut slots)?;
        self.take_back(emit)?;
        if batch.taken_back {
            self.states.retract(&batch.columns, &slots)
        } else {
            self.states.update(&batch.columns, &slots)
        }
    }

    fn emit_early(&mut self, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        // What is taken back is followed by what holds instead.
        if self.spec.output_mode != OutputMode::Update || self.spec.tells == Tells::Changes || rows.taken_back {
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
        self.touch_global_group(emit)?;
        let expired: Vec<i64> = self.expired(watermark_us);
        self.counts.rows_updated =
            self.buckets.values().map(|bucket| bucket.dirty.len() as u64).sum::<u64>() + self.spilled.len() as u64;
        match (self.spec.output_mode, self.at_end) {
            (_, AtEnd::Nothing) => {}
            (OutputMode::Append, _) => expired.iter().try_for_each(|time| self.emit_bucket(*time, emit))?,
            (OutputMode::Update, AtEnd::Changes) => self.emit_dirty(emit)?,
            (OutputMode::Complete, _) | (OutputMode::Update, AtEnd::Everything) => {
                let all: Vec<i64> = self.buckets.keys().copied().collect();
                all.iter().try_for_each(|time| self.emit_bucket(*time, emit))?;
            }
        }
        // Whatever is told of this batch: state never has a group without rows.
        self.forget_gone()?;
        if self.spec.output_mode != OutputMode::Complete {
            expired.into_iter().for_each(|time| self.drop_bucket(time));
        }
        self.counts.memory_bytes = self.memory_bytes() as u64;
        Ok(())
    }

    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        let changes = &mut changes[0];
        let below = self.expired_below.take();
        if let Some(below) = below {
            let (from, to) = key::bucket_range(i64::MIN, below);
            changes.push_range_delete(&from, &to);
            self.expired_unflushed = self.expired_unflushed.max(Some(below));
        }
        self.aging.take_changes(&self.place, changes);
        self.stored_counts.take_changes(changes);
        let (gone, spilled) = (self.take_gone()?, std::mem::replace(&mut self.spilled, self.place.change_set()));
        if below.is_none() && gone.is_empty() {
            changes.append(spilled);
        } else {
            // What expired or went after it was spilled must not come back.
            let is_over = |bucket: i64| below.is_some_and(|below| bucket < below);
            changes.append_puts(&spilled, |stored_key| {
                !gone.contains(stored_key) && key::decode(stored_key).is_ok_and(|(bucket, ..)| !is_over(bucket))
            })?;
        }
        gone.iter().for_each(|stored_key| changes.push_delete(stored_key));
        let times: Vec<i64> = self.buckets.keys().copied().collect();
        for time in times {
            let dirty = self.buckets.get_mut(&time).map(Bucket::take_dirty).unwrap_or_default();
            self.encode(time, &dirty, &mut |_, stored_key, value| {
                changes.push_put(stored_key, value);
                Ok(())
            })?;
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
        times.into_iter().try_for_each(|time| self.flush(time, None))
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
