//! The newest offset of each key in the dirty part of a log, within a given memory.
//!
//! Keys are held whole. Kafka holds 16 bytes of hash instead, which lets more keys fit and loses the newest value of a
//! key when two hashes are equal; here keys are compared byte by byte and a long key costs memory, which means more
//! passes and nothing else. The map's own hash is keyed with random bytes, so that nobody can choose keys that collide.

use std::collections::HashMap;

/// What an entry takes beside its key, at most: its place in a table that has just doubled while the old one is still
/// there (25 bytes, at worst 7/16 full, and half as much again), and the header of the key's own allocation.
const ENTRY_BYTES: usize = 104;

/// Keys and their newest offsets.
#[derive(Debug)]
pub(super) struct Keys {
    newest: HashMap<Box<[u8]>, i64>,
    used_bytes: usize,
    limit_bytes: usize,
}

impl Keys {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { newest: HashMap::new(), used_bytes: 0, limit_bytes }
    }

    /// Notes a record; `false` if there is no room for its key. There always is for the first one: a pass that takes
    /// none would never end.
    pub(super) fn insert(&mut self, key: &[u8], offset: i64) -> bool {
        if let Some(newest) = self.newest.get_mut(key) {
            *newest = offset;
            return true;
        }
        let bytes = key.len() + ENTRY_BYTES;
        if !self.newest.is_empty() && self.used_bytes + bytes > self.limit_bytes {
            return false;
        }
        self.used_bytes += bytes;
        self.newest.insert(key.into(), offset);
        true
    }

    /// Whether a later record of this key is known.
    pub(super) fn replaces(&self, key: &[u8], offset: i64) -> bool {
        self.newest.get(key).is_some_and(|&newest| newest > offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_each_key_is_known_within_the_memory_given() {
        let mut keys = Keys::new(2 * (ENTRY_BYTES + 1));
        assert!(keys.insert(b"a", 1) && keys.insert(b"b", 2) && keys.insert(b"a", 5));
        assert!(!keys.insert(b"c", 6), "no room");
        assert!(keys.insert(b"b", 7), "no new room needed");
        for (key, offset, expected) in [(b"a", 4, true), (b"a", 5, false), (b"b", 2, true), (b"c", 0, false)] {
            assert_eq!(keys.replaces(key, offset), expected, "{key:?} {offset}");
        }
    }

    #[test]
    fn a_single_key_always_fits() {
        let mut keys = Keys::new(0);
        assert!(keys.insert(&[0; 1000], 1));
        assert!(!keys.insert(b"", 2));
    }
}
