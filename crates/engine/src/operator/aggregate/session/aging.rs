//! Sessions with a time to live: those that no watermark ends are forgotten when their last row is too old.
//!
//! ```text
//!   batch begins ──> oldest stamp over? ──no──> nothing to do
//!                          │ yes: at most sixteen times in a ttl
//!                          ▼
//!   keys in memory, then keys in the store that have such a session, a page at a time ──> their sessions are gone
//! ```
//!
//! All sessions of a key are one state row, so that none can go with a bucket: each has its stamp in the row. Complete mode
//! alone has sessions without an end, and gives all of them after each batch, so that looking through them now and then is
//! no more work than that. Sessions from before there was a ttl get the stamp of its first batch.
//!
//! No key is ever due then, and what says when goes as a whole, once: it would outlive its keys. A note says so, by which
//! it is made anew when the same sessions are to end by a watermark again: `NEVER · shard 0 · "no due"` in the second table.

use std::sync::Arc;

use super::{SessionOperator, all_keys, value};
use crate::error::Result;
use crate::operator::keyed::{KeyedBatch, key_hash, shard_of_hash};
use crate::operator::ttl::Ttl;
use crate::operator::{EMIT_ROWS, NO_EXPIRY};
use crate::state::{ChangeSet, key};

/// The stamps of one worker's sessions.
pub(super) struct SessionAging {
    ttl: Option<Ttl>,
    /// What sessions are kept by that this batch writes; [`NO_EXPIRY`] without a ttl.
    pub(super) stamp_us: i64,
    /// No session has an older stamp.
    oldest_us: i64,
    /// What the changelog, and the store, have to be told of the note.
    note: Option<Note>,
    note_unflushed: Option<Note>,
}

/// What becomes of the moments at which keys are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// All of them go.
    Gone,
    /// They are there again.
    Back,
}

impl Note {
    fn write(self, due: &mut ChangeSet) {
        match self {
            Self::Gone => {
                let (from, to) = key::bucket_range(i64::MIN, key::NEVER);
                due.push_range_delete(&from, &to);
                due.push_put(&note_key(), &[]);
            }
            Self::Back => due.push_delete(&note_key()),
        }
    }
}

fn note_key() -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(key::NEVER, 0, b"no due", &mut bytes);
    bytes
}

impl SessionAging {
    pub(super) fn new(ttl: Option<Ttl>) -> Self {
        // What there is is looked at once: some of it may have no stamp.
        Self { ttl, stamp_us: NO_EXPIRY, oldest_us: i64::MIN, note: None, note_unflushed: None }
    }

    /// Whether sessions are forgotten by their age.
    pub(super) fn is_on(&self) -> bool {
        self.ttl.is_some()
    }

    fn tell(&mut self, note: Note) {
        (self.note, self.note_unflushed) = (Some(note), Some(note));
    }

    /// Writes the changes since the last commit, before those of moments.
    pub(super) fn take_changes(&mut self, due: &mut ChangeSet) {
        self.note.take().into_iter().for_each(|note| note.write(due));
    }

    /// Writes what the store does not know yet.
    pub(super) fn take_unflushed(&mut self, due: &mut ChangeSet) {
        self.note_unflushed.take().into_iter().for_each(|note| note.write(due));
    }
}

impl SessionOperator {
    /// Makes the moments at which keys are due what they have to be: gone with a ttl, and there without one.
    pub(super) fn settle_due(&mut self) -> Result<()> {
        let are_gone = !self.place.store.multi_get(self.due_table(), &[note_key()])?.iter().all(Option::is_none);
        match (self.aging.is_on(), are_gone) {
            (true, false) => self.aging.tell(Note::Gone),
            (false, true) => {
                self.aging.tell(Note::Back);
                self.make_due()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes when each stored key is due.
    fn make_due(&mut self) -> Result<()> {
        let (from, to) = all_keys();
        let store = Arc::clone(&self.place.store);
        let mut made = ChangeSet::new();
        store.scan(self.place.first_table, (&from, &to), |stored_key, stored| {
            let (_, shard, key) = key::decode(stored_key)?;
            let Some(first) = value::sessions(stored).next().filter(|_| self.place.owns(shard)) else { return Ok(()) };
            let mut due_key = Vec::new();
            key::encode(first?.end_us, shard, key, &mut due_key);
            made.push_put(&due_key, &[]);
            self.spilled_due.push(due_key);
            Ok(())
        })?;
        store.apply(self.due_table(), &made)
    }

    /// Begins a batch of this processing time: forgets the sessions whose time to live is over.
    pub(super) fn age(&mut self, time_us: i64) -> Result<()> {
        let Some(ttl) = self.aging.ttl else { return Ok(()) };
        let bound = ttl.bound(time_us);
        // A clock that was set back writes no sessions that are over already.
        self.aging.stamp_us = ttl.stamp(time_us).max(bound.saturating_add(1));
        if self.aging.oldest_us > bound {
            return Ok(());
        }
        self.keys.next_call();
        let mut oldest_us = self.aging.stamp_us;
        let in_memory: Vec<u32> = (0_u32..).zip(&self.keys.of).map(|(entry, _)| entry).collect();
        self.forget(&in_memory, bound, &mut oldest_us)?;
        if self.on_disk {
            self.forget_stored(bound, &mut oldest_us)?;
        }
        self.aging.oldest_us = oldest_us;
        Ok(())
    }

    /// The same for keys that only the store has.
    fn forget_stored(&mut self, bound: i64, oldest_us: &mut i64) -> Result<()> {
        let (from, to) = all_keys();
        let store = Arc::clone(&self.place.store);
        let mut page = KeyedBatch::default();
        store.scan(self.place.first_table, (&from, &to), |stored_key, stored| {
            let (_, shard, key) = key::decode(stored_key)?;
            if !self.place.owns(shard) || self.keys.table.find(key_hash(key), key).is_some() {
                return Ok(());
            }
            let mut has_to_change = false;
            for session in value::sessions(stored) {
                let written_us = session?.written_us;
                if written_us <= bound || written_us == NO_EXPIRY {
                    has_to_change = true;
                } else {
                    *oldest_us = (*oldest_us).min(written_us);
                }
            }
            if has_to_change {
                page.push(NO_EXPIRY, key_hash(key), key);
            }
            if page.len() < EMIT_ROWS { Ok(()) } else { self.forget_page(&std::mem::take(&mut page), bound, oldest_us) }
        })?;
        self.forget_page(&page, bound, oldest_us)
    }

    fn forget_page(&mut self, page: &KeyedBatch, bound: i64, oldest_us: &mut i64) -> Result<()> {
        if page.is_empty() {
            return Ok(());
        }
        let entries = self.resolve(page)?;
        self.forget(&entries, bound, oldest_us)?;
        self.spill_if_large()
    }

    /// Forgets the sessions of entries that are over, and gives those without a stamp that of the batch.
    fn forget(&mut self, entries: &[u32], bound: i64, oldest_us: &mut i64) -> Result<()> {
        let (mut slots, mut changed) = (Vec::new(), Vec::new());
        for entry in entries {
            let stamp_us = self.aging.stamp_us;
            let sessions = &mut self.keys.of[*entry as usize].sessions;
            let before = sessions.len();
            let mut is_stamped = false;
            sessions.retain_mut(|session| {
                if session.written_us == NO_EXPIRY {
                    (session.written_us, is_stamped) = (stamp_us, true);
                }
                let is_over = session.written_us <= bound;
                if is_over {
                    slots.push(session.slot);
                } else {
                    *oldest_us = (*oldest_us).min(session.written_us);
                }
                !is_over
            });
            let gone = before - sessions.len();
            if gone > 0 || is_stamped {
                changed.push(*entry);
            }
            if gone > 0 {
                let shard = shard_of_hash(self.keys.table.entries[*entry as usize].hash);
                self.stored_counts.remove(NO_EXPIRY, shard, gone as u64);
            }
        }
        changed.into_iter().for_each(|entry| self.keys.touch(entry));
        self.states.free(&slots);
        self.sessions -= slots.len();
        self.counts.rows_total -= slots.len() as u64;
        self.counts.rows_removed += slots.len() as u64;
        Ok(())
    }
}
