//! The keys of one worker that are in memory, their sessions, and when to look at them again.
//!
//! ```text
//!   keys   hash ─> entry ─> [ session, session, ... ]   by start, apart from each other
//!   due    12:00:05 ─> [ entry, entry ]                 not after the end of the entry's first session
//! ```
//!
//! A session's end moves with every row. The moment a key is due does not move with it: it is found again when it
//! has come, and set anew if the key's first session still goes on. Moments that an earlier one replaced stay in the
//! list and mean nothing.

use std::collections::BTreeMap;

use super::join::Session;
use crate::operator::aggregate::table::Bucket;

/// When nothing is due.
pub(super) const NEVER: i64 = i64::MAX;

/// The sessions of one key.
#[derive(Debug)]
pub(super) struct KeySessions {
    pub(super) sessions: Vec<Session>,
    /// When to look at the key; not after the end of its first session.
    pub(super) due_us: i64,
    /// The call that touched it last.
    touched: u32,
    is_due_dirty: bool,
    is_due_unflushed: bool,
}

impl Default for KeySessions {
    fn default() -> Self {
        Self { sessions: Vec::new(), due_us: NEVER, touched: 0, is_due_dirty: false, is_due_unflushed: false }
    }
}

/// The keys in memory.
#[derive(Default)]
pub(super) struct Keys {
    /// Finds the entry of a key, and knows which have changed. A key without sessions is one whose state row, if
    /// there is one, is to go.
    pub(super) table: Bucket,
    /// By entry.
    pub(super) of: Vec<KeySessions>,
    due: BTreeMap<i64, Vec<u32>>,
    due_dirty: Vec<u32>,
    due_unflushed: Vec<u32>,
    /// Keys that lost their last session since the table was made; some may have got a new one.
    emptied: usize,
    calls: u32,
}

impl Keys {
    /// Begins a call, for [`Keys::newer_half`].
    pub(super) fn next_call(&mut self) {
        self.calls = self.calls.wrapping_add(1);
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, hash: u64, key: &[u8]) -> u32 {
        self.of.push(KeySessions { touched: self.calls, ..KeySessions::default() });
        self.table.insert(hash, key, 0)
    }

    pub(super) fn sessions(&self, entry: u32) -> &[Session] {
        &self.of[entry as usize].sessions
    }

    /// Notes that the sessions of an entry changed.
    pub(super) fn touch(&mut self, entry: u32) {
        self.table.touch(entry);
        let key = &mut self.of[entry as usize];
        key.touched = self.calls;
        if key.sessions.is_empty() {
            key.due_us = NEVER;
            self.emptied += 1;
        }
        self.arm(entry);
    }

    /// Sees to it that an entry is due in time.
    fn arm(&mut self, entry: u32) {
        let key = &mut self.of[entry as usize];
        let Some(first) = key.sessions.first().filter(|first| first.end_us < key.due_us) else { return };
        key.due_us = first.end_us;
        self.due.entry(first.end_us).or_default().push(entry);
        self.store_due(entry);
    }

    /// Notes that the store may have nothing that says when the entry is due.
    pub(super) fn store_due(&mut self, entry: u32) {
        let key = &mut self.of[entry as usize];
        if !std::mem::replace(&mut key.is_due_dirty, true) {
            self.due_dirty.push(entry);
        }
        if !std::mem::replace(&mut key.is_due_unflushed, true) {
            self.due_unflushed.push(entry);
        }
    }

    /// Notes that an entry came from the store, which says when it is due.
    pub(super) fn loaded(&mut self, entry: u32) {
        let key = &mut self.of[entry as usize];
        if let Some(first) = key.sessions.first() {
            key.due_us = first.end_us;
            self.due.entry(first.end_us).or_default().push(entry);
        }
    }

    /// Takes the entries due at `now_us` or before.
    pub(super) fn take_due(&mut self, now_us: i64) -> Vec<u32> {
        let later = self.due.split_off(&now_us.saturating_add(1));
        let mut taken = Vec::new();
        for (due, entries) in std::mem::replace(&mut self.due, later) {
            for entry in entries {
                if self.of[entry as usize].due_us == due {
                    taken.push(entry);
                }
            }
        }
        taken
    }

    /// Takes the sessions of an entry that end at `now_us` or before, and sees to the others.
    pub(super) fn take_ended(&mut self, entry: u32, now_us: i64) -> Vec<Session> {
        let key = &mut self.of[entry as usize];
        if key.due_us <= now_us {
            key.due_us = NEVER;
        }
        let ended = key.sessions.partition_point(|session| session.end_us <= now_us);
        let taken: Vec<Session> = key.sessions.drain(..ended).collect();
        if taken.is_empty() {
            self.arm(entry);
        } else {
            self.touch(entry);
        }
        taken
    }

    /// The entries whose due moments are not in the changelog.
    pub(super) fn due_dirty(&self) -> &[u32] {
        &self.due_dirty
    }

    /// The entries whose due moments are not in the store.
    pub(super) fn due_unflushed(&self) -> &[u32] {
        &self.due_unflushed
    }

    /// Takes the entries whose due moments are not in the changelog.
    pub(super) fn take_due_dirty(&mut self) -> Vec<u32> {
        let taken = std::mem::take(&mut self.due_dirty);
        taken.iter().for_each(|entry| self.of[*entry as usize].is_due_dirty = false);
        taken
    }

    /// Takes the entries whose due moments are not in the store.
    pub(super) fn take_due_unflushed(&mut self) -> Vec<u32> {
        let taken = std::mem::take(&mut self.due_unflushed);
        taken.iter().for_each(|entry| self.of[*entry as usize].is_due_unflushed = false);
        taken
    }

    /// Whether most of the entries may have no sessions.
    pub(super) fn is_sparse(&self) -> bool {
        self.emptied > 1024 && self.emptied > self.of.len() / 2
    }

    /// For each entry whether it is one of those touched last, about half of them, and has sessions.
    pub(super) fn newer_half(&self) -> Vec<bool> {
        let mut ages: Vec<u32> = self.of.iter().map(|key| self.calls.wrapping_sub(key.touched)).collect();
        let middle = ages.len() / 2;
        let median = if ages.is_empty() { 0 } else { *ages.select_nth_unstable(middle).1 };
        let is_newer = |key: &KeySessions| self.calls.wrapping_sub(key.touched) < median;
        self.of.iter().map(|key| is_newer(key) && !key.sessions.is_empty()).collect()
    }

    /// The same keys without those for which `keep` is false.
    pub(super) fn only(&mut self, keep: &[bool]) {
        let old = std::mem::take(self);
        self.calls = old.calls;
        for ((entry, key), keep) in (0_u32..).zip(old.of).zip(keep) {
            if !keep {
                continue;
            }
            let place = old.table.entries[entry as usize];
            let new = self.table.insert(place.hash, old.table.key(entry), 0);
            if key.due_us != NEVER {
                self.due.entry(key.due_us).or_default().push(new);
            }
            self.table.restore_flags(new, place);
            self.due_dirty.extend(key.is_due_dirty.then_some(new));
            self.due_unflushed.extend(key.is_due_unflushed.then_some(new));
            self.of.push(key);
        }
    }

    /// Memory, in bytes, without the states.
    pub(super) fn size_bytes(&self, sessions: usize) -> usize {
        self.table.size_bytes()
            + self.of.capacity() * size_of::<KeySessions>()
            + sessions * size_of::<Session>()
            + self.due.len() * size_of::<(i64, Vec<u32>)>()
            + (self.of.len() + self.due_dirty.capacity() + self.due_unflushed.capacity()) * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keys {
        /// The moment the next entry is due, or later.
        fn next_due_us(&self) -> i64 {
            self.due.first_key_value().map_or(NEVER, |(due, _)| *due)
        }
    }

    fn with_sessions(ends: &[&[i64]]) -> Keys {
        let mut keys = Keys::default();
        for (key, ends) in ends.iter().enumerate() {
            keys.next_call();
            let entry = keys.insert(key as u64, &[u8::try_from(key).unwrap()]);
            keys.of[entry as usize].sessions =
                ends.iter().map(|end| Session { start_us: end - 1, end_us: *end, written_us: 0, slot: 0 }).collect();
            keys.touch(entry);
        }
        keys
    }

    #[test]
    fn a_key_whose_session_went_on_is_looked_at_again() {
        let mut keys = with_sessions(&[&[5, 9], &[7]]);
        assert_eq!(keys.next_due_us(), 5);
        keys.of[0].sessions[0].end_us = 6;
        keys.touch(0);
        assert_eq!(keys.take_due(5), [0]);
        assert!(keys.take_ended(0, 5).is_empty());
        assert_eq!((keys.of[0].due_us, keys.next_due_us()), (6, 6));
        assert_eq!(keys.take_due(8), [0, 1]);
        assert_eq!(keys.take_ended(0, 8).len(), 1);
        assert_eq!(keys.take_ended(1, 8).len(), 1);
        assert_eq!(keys.next_due_us(), 9);
    }

    #[test]
    fn a_key_from_the_store_is_due_again_for_its_later_sessions() {
        let mut keys = with_sessions(&[&[5, 9]]);
        keys.only(&[false]);
        let entry = keys.insert(0, &[0]);
        keys.of[0].sessions =
            [5, 9].map(|end_us| Session { start_us: end_us - 1, end_us, written_us: 0, slot: 0 }).to_vec();
        keys.loaded(entry);
        assert_eq!((keys.next_due_us(), keys.take_due_dirty()), (5, Vec::new()));
        assert_eq!(keys.take_ended(entry, 6).len(), 1);
        assert_eq!((keys.of[0].due_us, keys.take_due_dirty()), (9, vec![0]));
        assert!(keys.take_due(6).is_empty());
    }

    #[test]
    fn an_earlier_session_makes_a_key_due_earlier_and_once() {
        let mut keys = with_sessions(&[&[9]]);
        keys.of[0].sessions.insert(0, Session { start_us: 1, end_us: 3, written_us: 0, slot: 1 });
        keys.touch(0);
        assert_eq!(keys.take_due(20), [0]);
        assert_eq!(keys.take_ended(0, 20).len(), 2);
        assert_eq!((keys.take_due_dirty(), keys.next_due_us()), (vec![0], NEVER));
    }

    #[test]
    fn the_newer_half_keeps_what_is_to_be_written() {
        let mut keys = with_sessions(&[&[1], &[2], &[3], &[4]]);
        let keep = keys.newer_half();
        assert_eq!(keep, [false, false, true, true]);
        assert_eq!(keys.table.take_dirty().len(), 4);
        keys.touch(3);
        keys.only(&keep);
        assert_eq!((keys.of.len(), keys.next_due_us()), (2, 3));
        assert_eq!((keys.table.take_dirty(), keys.table.take_unflushed()), (vec![1], vec![0, 1]));
        assert_eq!(keys.take_due_unflushed(), [0, 1]);
        assert_eq!(keys.table.find(3, &[3]), Some(1));
    }
}
