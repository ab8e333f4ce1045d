//! One worker's share of a `GROUP BY` with `session_window`: groups whose time is not known until they end.
//!
//! ```text
//!   KeyedBatch ──resolve──> keys ──join──> sessions ──update, add──> states
//!                            │ watermark: keys that are due ──> sessions that ended ──> RecordBatch
//!                            ▼
//!   store   key ──> its sessions with their states        (table 0)
//!           due ──> key                                   (table 1)
//! ```
//!
//! Other groups are found by key and time; sessions cannot be, because the time that a session is kept by moves with
//! every row. So all sessions of a key are one state row. When the watermark has come far enough to look at a key is
//! a second table, ordered by time: a hint, never later than the end of the key's first session, that is written when
//! the first session begins and anew only when it has come and the session still goes on.
//!
//! A key in memory is the whole truth about its sessions; those that memory has no room for are in the store, and are
//! read when a row or the watermark needs them.

mod aging;
mod join;
mod keys;
pub(super) mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::TimestampMicrosecondType;

use super::AggregateSpec;
use super::output::GroupRows;
use super::states::GroupStates;
use super::table::too_many_keys;
use crate::error::{EngineError, Result};
use crate::operator::keyed::{KeyedBatch, key_hash, shard_of_hash};
use crate::operator::layout::History;
use crate::operator::layout::codec::KeyCodec;
use crate::operator::row_counts::RowCounts;
use crate::operator::{AtEnd, EMIT_ROWS, Emit, NO_EXPIRY, Operator, OperatorCounts, Place};
use crate::sink::OutputMode;
use crate::state::{ChangeSet, key};
use aging::SessionAging;
use join::{Round, RowSession, Session};
use keys::{Keys, NEVER};

/// Takes a state row of the first table: its key, how many sessions it has, and them; nothing if it is to go.
type PutRow<'a> = dyn FnMut(&[u8], usize, Option<&[u8]>) -> Result<()> + 'a;

/// One worker's sessions.
pub(super) struct SessionOperator {
    spec: Arc<AggregateSpec>,
    place: Place,
    rows: GroupRows,
    states: GroupStates,
    keys: Keys,
    /// Sessions by shard, as the table has them.
    stored_counts: RowCounts,
    /// Sessions in memory.
    sessions: usize,
    /// Whether the store may have keys that are not in memory.
    on_disk: bool,
    /// What was moved out of memory before the batch ended: state rows, with their sessions counted, or that they are
    /// gone; and when keys are due.
    spilled: BTreeMap<Vec<u8>, (usize, Option<Vec<u8>>)>,
    spilled_due: Vec<Vec<u8>>,
    /// No key in the store is due before.
    stored_due_us: i64,
    /// Every moment below has come: since the last commit, and since the store heard of it.
    passed: Option<i64>,
    passed_unflushed: Option<i64>,
    /// What a time to live needs.
    aging: SessionAging,
    at_end: AtEnd,
    counts: OperatorCounts,
}

impl SessionOperator {
    /// A worker with the sessions that the store has for its shards.
    pub(super) fn open(spec: Arc<AggregateSpec>, place: Place) -> Result<Self> {
        let history = History::of(place.history.as_ref(), spec.as_ref())?;
        let aging = SessionAging::new(place.ttl);
        let mut operator = Self {
            rows: GroupRows::new(spec.output_layout(), KeyCodec::new(&history)?),
            states: GroupStates::new(&spec, &history)?,
            spec,
            stored_counts: RowCounts::open(&place, place.first_table)?,
            place,
            keys: Keys::default(),
            sessions: 0,
            on_disk: false,
            spilled: BTreeMap::new(),
            spilled_due: Vec::new(),
            stored_due_us: NEVER,
            passed: None,
            passed_unflushed: None,
            aging,
            at_end: AtEnd::default(),
            counts: OperatorCounts::default(),
        };
        operator.counts.rows_total = operator.stored_counts.total();
        operator.on_disk = operator.counts.rows_total > 0;
        operator.settle_due()?;
        operator.find_stored_due(i64::MIN)?;
        Ok(operator)
    }

    fn due_table(&self) -> usize {
        self.place.first_table + 1
    }

    /// Learns when the store's next key is due, at `from_us` or later.
    fn find_stored_due(&mut self, from_us: i64) -> Result<()> {
        if !self.on_disk {
            return Ok(());
        }
        let (from, to) = key::bucket_range(from_us, NEVER);
        self.stored_due_us = match self.place.store.first_key(self.due_table(), (&from, &to))? {
            Some(first) => key::decode(&first)?.0,
            None => NEVER,
        };
        Ok(())
    }

    /// The entry of each row's key, read from the store where memory lacks it.
    fn resolve(&mut self, rows: &KeyedBatch) -> Result<Vec<u32>> {
        let mut missing = Vec::new();
        let mut entries = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let (hash, key) = (rows.hashes[row], rows.key(row));
            let entry = match self.keys.table.find(hash, key) {
                Some(entry) => entry,
                None if !self.keys.table.has_room(key.len()) => return Err(too_many_keys()),
                None => {
                    let entry = self.keys.insert(hash, key);
                    missing.push(entry);
                    entry
                }
            };
            entries.push(entry);
        }
        if self.on_disk {
            self.fetch(&missing)?;
        }
        Ok(entries)
    }

    /// Reads the sessions of entries that are new in memory.
    fn fetch(&mut self, missing: &[u32]) -> Result<()> {
        let keys: Vec<Vec<u8>> = missing.iter().map(|entry| self.stored_key(NO_EXPIRY, *entry)).collect();
        let values = self.place.store.multi_get(self.place.first_table, &keys)?;
        let (mut slots, mut stored) = (Vec::new(), Vec::new());
        for (entry, value) in missing.iter().zip(&values) {
            for session in value.iter().flat_map(|value| value::sessions(value)) {
                let session = session?;
                let slot = self.states.take_slot();
                let value::StoredSession { start_us, end_us, written_us, .. } = session;
                self.keys.of[*entry as usize].sessions.push(Session { start_us, end_us, written_us, slot });
                slots.push(slot);
                stored.push(session.state);
            }
            self.keys.loaded(*entry);
        }
        self.sessions += slots.len();
        self.states.grow();
        self.states.decode(&stored, &slots)
    }

    fn stored_key(&self, bucket: i64, entry: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let hash = self.keys.table.entries[entry as usize].hash;
        key::encode(bucket, shard_of_hash(hash), self.keys.table.key(entry), &mut bytes);
        bytes
    }

    /// Joins rows to the sessions of their keys; what is left to do is to give them to the states, round by round.
    fn join(&mut self, rows: &KeyedBatch, entries: &[u32]) -> Result<(Vec<Round>, bool)> {
        let starts = rows.columns.last().and_then(|starts| starts.as_primitive_opt::<TimestampMicrosecondType>());
        let starts = starts.ok_or_else(|| EngineError::internal("rows come without the start of their sessions"))?;
        let mut order: Vec<u32> = (0_u32..).zip(entries).map(|(row, _)| row).collect();
        order.sort_by_key(|row| (entries[*row as usize], starts.value(*row as usize)));
        let (mut rounds, mut in_order) = (Vec::new(), true);
        let mut of_key: Vec<RowSession> = Vec::new();
        for rows_of_key in order.chunk_by(|a, b| entries[*a as usize] == entries[*b as usize]) {
            in_order &= rows_of_key.is_sorted();
            of_key.clear();
            of_key.extend(rows_of_key.iter().map(|row| {
                let at = *row as usize;
                RowSession { row: *row, start_us: starts.value(at), end_us: rows.buckets[at] }
            }));
            let entry = entries[rows_of_key[0] as usize];
            let sessions = &mut self.keys.of[entry as usize].sessions;
            let before = sessions.len();
            join::join(sessions, &of_key, self.aging.stamp_us, &mut || self.states.take_slot(), &mut rounds);
            self.sessions = self.sessions + sessions.len() - before;
            self.counts.rows_total = self.counts.rows_total + sessions.len() as u64 - before as u64;
            let shard = shard_of_hash(self.keys.table.entries[entry as usize].hash);
            self.stored_counts.add(NO_EXPIRY, shard, sessions.len() as u64);
            self.stored_counts.remove(NO_EXPIRY, shard, before as u64);
            self.keys.touch(entry);
        }
        self.states.grow();
        Ok((rounds, in_order))
    }

    fn update(&mut self, rows: &KeyedBatch, rounds: &[Round], in_order: bool) -> Result<()> {
        for round in rounds {
            if in_order && round.rows.len() == rows.len() {
                let mut slots = vec![0; rows.len()];
                round.rows.iter().zip(&round.slots).for_each(|(row, slot)| slots[*row as usize] = *slot);
                self.states.update(&rows.columns, &slots)?;
            } else if !round.rows.is_empty() {
                let indices = UInt32Array::from(round.rows.clone());
                let columns =
                    rows.columns.iter().map(|column| take(column, &indices, None)).collect::<Result<Vec<_>, _>>()?;
                self.states.update(&columns, &round.slots)?;
            }
            self.states.add(&round.from, &round.into)?;
        }
        rounds.iter().for_each(|round| self.states.free(&round.from));
        Ok(())
    }

    /// Emits and forgets the sessions that ended at the watermark or before.
    fn expire(&mut self, watermark_us: i64, emit: &mut Emit<'_>) -> Result<()> {
        let due = self.keys.take_due(watermark_us);
        self.end_sessions(&due, watermark_us, emit)?;
        let below = watermark_us.saturating_add(1);
        if self.stored_due_us < below {
            let (from, to) = key::bucket_range(self.stored_due_us, below);
            let (store, table) = (Arc::clone(&self.place.store), self.due_table());
            let mut page = KeyedBatch::default();
            store.scan(table, (&from, &to), |due, _| {
                let (_, shard, key) = key::decode(due)?;
                if !self.place.owns(shard) {
                    return Ok(());
                }
                page.push(NO_EXPIRY, key_hash(key), key);
                if page.len() < EMIT_ROWS {
                    return Ok(());
                }
                self.look_at(&std::mem::take(&mut page), watermark_us, emit)
            })?;
            self.look_at(&page, watermark_us, emit)?;
            self.find_stored_due(below)?;
        }
        self.passed = self.passed.max(Some(below));
        self.passed_unflushed = self.passed_unflushed.max(Some(below));
        Ok(())
    }

    /// Ends sessions of keys that the store says are due.
    fn look_at(&mut self, page: &KeyedBatch, watermark_us: i64, emit: &mut Emit<'_>) -> Result<()> {
        if page.is_empty() {
            return Ok(());
        }
        let mut entries = self.resolve(page)?;
        entries.sort_unstable();
        entries.dedup();
        self.end_sessions(&entries, watermark_us, emit)?;
        // What the store has said is forgotten with the moments that have come.
        entries.into_iter().for_each(|entry| self.keys.store_due(entry));
        self.spill_if_large()
    }

    fn end_sessions(&mut self, entries: &[u32], watermark_us: i64, emit: &mut Emit<'_>) -> Result<()> {
        let mut ended: Vec<(u32, Session)> = Vec::new();
        for entry in entries {
            ended.extend(self.keys.take_ended(*entry, watermark_us).into_iter().map(|session| (*entry, session)));
        }
        self.emit_sessions(&ended, emit)?;
        let slots: Vec<u32> = ended.iter().map(|(_, session)| session.slot).collect();
        self.states.free(&slots);
        for (entry, _) in &ended {
            let shard = shard_of_hash(self.keys.table.entries[*entry as usize].hash);
            self.stored_counts.remove(NO_EXPIRY, shard, 1);
        }
        self.sessions -= ended.len();
        self.counts.rows_total -= ended.len() as u64;
        self.counts.rows_removed += ended.len() as u64;
        Ok(())
    }

    fn emit_sessions(&mut self, sessions: &[(u32, Session)], emit: &mut Emit<'_>) -> Result<()> {
        for sessions in sessions.chunks(EMIT_ROWS) {
            let slots: Vec<u32> = sessions.iter().map(|(_, session)| session.slot).collect();
            let times: Vec<(i64, i64)> = sessions.iter().map(|(_, s)| (s.start_us, s.end_us)).collect();
            let results = self.states.evaluate(&slots)?;
            let keys = sessions.iter().map(|(entry, _)| self.keys.table.key(*entry));
            emit(self.rows.of_sessions(keys, &times, results)?)?;
        }
        Ok(())
    }

    /// Emits every session there is, those in the store too.
    fn emit_all(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let of_entry = |(entry, key): (u32, &keys::KeySessions)| {
            key.sessions.iter().map(|session| (entry, *session)).collect::<Vec<_>>()
        };
        let sessions: Vec<(u32, Session)> = (0_u32..).zip(&self.keys.of).flat_map(of_entry).collect();
        self.emit_sessions(&sessions, emit)?;
        if !self.on_disk {
            return Ok(());
        }
        let (from, to) = all_keys();
        let store = Arc::clone(&self.place.store);
        let mut page = StoredPage::default();
        store.scan(self.place.first_table, (&from, &to), |stored_key, value| {
            let (_, shard, key) = key::decode(stored_key)?;
            if !self.place.owns(shard) || self.keys.table.find(key_hash(key), key).is_some() {
                return Ok(());
            }
            for session in value::sessions(value) {
                page.push(key, session?);
                if page.times.len() == EMIT_ROWS {
                    self.emit_page(&std::mem::take(&mut page), emit)?;
                }
            }
            Ok(())
        })?;
        self.emit_page(&page, emit)
    }

    fn emit_page(&self, page: &StoredPage, emit: &mut Emit<'_>) -> Result<()> {
        if page.times.is_empty() {
            return Ok(());
        }
        let results = self.states.results_of(&page.states)?;
        emit(self.rows.of_sessions(page.keys.iter().map(Vec::as_slice), &page.times, results)?)
    }

    /// Gives the state row of each entry to `put`.
    fn state_rows(&mut self, entries: &[u32], put: &mut PutRow<'_>) -> Result<()> {
        for entries in entries.chunks(EMIT_ROWS) {
            let sessions: Vec<Session> = entries.iter().flat_map(|entry| self.keys.sessions(*entry)).copied().collect();
            let slots: Vec<u32> = sessions.iter().map(|session| session.slot).collect();
            let states = self.states.encode(&slots)?;
            let (mut at, mut buffer) = (0, Vec::new());
            for entry in entries {
                let stored_key = self.stored_key(NO_EXPIRY, *entry);
                let mut value = Vec::new();
                let count = self.keys.sessions(*entry).len();
                for session in self.keys.sessions(*entry) {
                    let Session { start_us, end_us, written_us, .. } = *session;
                    let state = states.as_ref().map_or(&[][..], |states| states.get(at, &mut buffer));
                    value::push(value::StoredSession { start_us, end_us, written_us, state }, &mut value)?;
                    at += 1;
                }
                put(&stored_key, count, (count > 0).then_some(value.as_slice()))?;
            }
        }
        Ok(())
    }

    /// When some entries are due, as keys of the second table; with a ttl none is.
    fn due_keys(&self, entries: &[u32]) -> Vec<Vec<u8>> {
        if self.aging.is_on() {
            return Vec::new();
        }
        let live = entries.iter().filter(|entry| !self.keys.sessions(**entry).is_empty());
        live.map(|entry| self.stored_key(self.keys.of[*entry as usize].due_us, *entry)).collect()
    }

    fn spill_if_large(&mut self) -> Result<()> {
        if self.memory_bytes() <= self.place.budget_bytes {
            return Ok(());
        }
        let keep = self.keys.newer_half();
        self.move_out(&keep)?;
        if self.memory_bytes() > self.place.budget_bytes / 2 {
            self.move_out(&vec![false; self.keys.of.len()])?;
        }
        Ok(())
    }

    /// Moves the entries that are not to be kept to the store.
    fn move_out(&mut self, keep: &[bool]) -> Result<()> {
        let leaves = |entry: &u32| !keep[*entry as usize];
        let taken = |entries: Vec<u32>| -> Vec<u32> { entries.into_iter().filter(leaves).collect() };
        let dirty = taken(self.keys.table.dirty.clone());
        let unflushed = taken(self.keys.table.unflushed.clone());
        let mut spilled = std::mem::take(&mut self.spilled);
        self.state_rows(&dirty, &mut |stored_key, count, value| {
            spilled.insert(stored_key.to_vec(), (count, value.map(<[u8]>::to_vec)));
            Ok(())
        })?;
        self.spilled = spilled;
        self.flush(&unflushed)?;
        let due_dirty = taken(self.keys.due_dirty().to_vec());
        let due_unflushed = taken(self.keys.due_unflushed().to_vec());
        self.spilled_due.extend(self.due_keys(&due_dirty));
        let mut due = ChangeSet::default();
        self.due_keys(&due_unflushed).iter().for_each(|key| due.push_put(key, &[]));
        self.place.store.apply(self.due_table(), &due)?;
        for (key, keep) in self.keys.of.iter().zip(keep) {
            if !keep && !key.sessions.is_empty() {
                self.stored_due_us = self.stored_due_us.min(key.due_us);
                self.on_disk = true;
            }
        }
        self.keys.only(keep);
        self.renumber()
    }

    /// Writes the state rows of entries to the store, in pieces: all of memory may be unflushed, and there is no room to
    /// have it twice.
    fn flush(&mut self, entries: &[u32]) -> Result<()> {
        let mut flushed = ChangeSet::new();
        for entries in entries.chunks(EMIT_ROWS) {
            self.state_rows(entries, &mut |stored_key, _, value| put_or_delete(&mut flushed, stored_key, value))?;
            self.place.store.apply(self.place.first_table, &flushed)?;
            flushed.clear();
        }
        Ok(())
    }

    /// Gives the memory of states back that no session has any more.
    fn renumber(&mut self) -> Result<()> {
        let sessions = self.keys.of.iter_mut().flat_map(|key| &mut key.sessions);
        let mut slots = Vec::new();
        for (slot, session) in (0_u32..).zip(sessions) {
            slots.push(std::mem::replace(&mut session.slot, slot));
        }
        self.sessions = slots.len();
        self.states.keep(&slots)
    }

    fn memory_bytes(&self) -> usize {
        self.keys.size_bytes(self.sessions) + self.states.size_bytes()
    }

    /// Sessions that the batch changed.
    fn updated(&self) -> u64 {
        let in_memory: usize = self.keys.table.dirty.iter().map(|entry| self.keys.sessions(*entry).len()).sum();
        let spilled: usize = self.spilled.values().map(|(sessions, _)| sessions).sum();
        (in_memory + spilled) as u64
    }
}

impl Operator for SessionOperator {
    fn begin_batch(&mut self, time_us: i64) -> Result<()> {
        self.counts.rows_removed = 0;
        self.age(time_us)
    }

    fn set_at_end(&mut self, at_end: AtEnd) {
        self.at_end = at_end;
    }

    fn process(&mut self, _: usize, rows: &KeyedBatch, _: &mut Emit<'_>) -> Result<()> {
        self.keys.next_call();
        let entries = self.resolve(rows)?;
        let (rounds, in_order) = self.join(rows, &entries)?;
        self.update(rows, &rounds, in_order)?;
        self.spill_if_large()
    }

    fn finish_batch(&mut self, watermark_us: Option<i64>, emit: &mut Emit<'_>) -> Result<()> {
        self.counts.rows_updated = self.updated();
        match (self.spec.output_mode, watermark_us.filter(|_| self.spec.input.has_watermark)) {
            (OutputMode::Complete, _) if self.at_end == AtEnd::Nothing => {}
            (OutputMode::Complete, _) => self.emit_all(emit)?,
            (OutputMode::Append, Some(watermark_us)) => self.expire(watermark_us, emit)?,
            (OutputMode::Append, None) => {}
            (OutputMode::Update, _) => return Err(EngineError::internal("sessions were planned in update mode")),
        }
        self.counts.memory_bytes = self.memory_bytes() as u64;
        Ok(())
    }

    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        let passed = self.passed.take();
        if let Some(below) = passed {
            let (from, to) = key::bucket_range(i64::MIN, below);
            changes[1].push_range_delete(&from, &to);
        }
        self.aging.take_changes(&mut changes[1]);
        self.stored_counts.take_changes(&mut changes[0]);
        let dirty = self.keys.table.take_dirty();
        let mut spilled = std::mem::take(&mut self.spilled);
        self.state_rows(&dirty, &mut |stored_key, _, value| {
            // What was moved out in this batch and came back is written as it is now.
            spilled.remove(stored_key);
            put_or_delete(&mut changes[0], stored_key, value)
        })?;
        for (stored_key, (_, value)) in &spilled {
            put_or_delete(&mut changes[0], stored_key, value.as_deref())?;
        }
        let due = self.keys.take_due_dirty();
        for due in self.due_keys(&due).iter().chain(&std::mem::take(&mut self.spilled_due)) {
            // A moment that has come since must not come back.
            if passed.is_none_or(|below| key::decode(due).is_ok_and(|(due_us, ..)| due_us >= below)) {
                changes[1].push_put(due, &[]);
            }
        }
        if self.keys.is_sparse() {
            let keep: Vec<bool> = self.keys.of.iter().map(|key| !key.sessions.is_empty()).collect();
            self.move_out(&keep)?;
        }
        Ok(())
    }

    fn take_unflushed(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        if let Some(below) = self.passed_unflushed.take() {
            let (from, to) = key::bucket_range(i64::MIN, below);
            changes[1].push_range_delete(&from, &to);
        }
        self.aging.take_unflushed(&mut changes[1]);
        self.stored_counts.take_unflushed(&mut changes[0]);
        let unflushed = self.keys.table.take_unflushed();
        self.flush(&unflushed)?;
        let due = self.keys.take_due_unflushed();
        self.due_keys(&due).iter().for_each(|due| changes[1].push_put(due, &[]));
        Ok(())
    }

    fn counts(&self) -> OperatorCounts {
        self.counts
    }
}

/// Sessions read from the store, to be emitted together.
#[derive(Default)]
struct StoredPage {
    keys: Vec<Vec<u8>>,
    times: Vec<(i64, i64)>,
    states: Vec<Vec<u8>>,
}

impl StoredPage {
    fn push(&mut self, key: &[u8], session: value::StoredSession<'_>) {
        self.keys.push(key.to_vec());
        self.times.push((session.start_us, session.end_us));
        self.states.push(session.state.to_vec());
    }
}

/// The range of the first table's keys.
fn all_keys() -> (Vec<u8>, Vec<u8>) {
    key::bucket_range(NO_EXPIRY, key::NEVER)
}

fn put_or_delete(changes: &mut ChangeSet, stored_key: &[u8], value: Option<&[u8]>) -> Result<()> {
    match value {
        Some(value) => changes.push_put(stored_key, value),
        None => changes.push_delete(stored_key),
    }
    Ok(())
}
