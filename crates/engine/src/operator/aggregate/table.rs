//! The groups of one worker: found by key, a bucket for each window, their states in shared columns.
//!
//! ```text
//!   buckets  12:00 ─> Bucket { index: hash -> entry, entry: key bytes, slot, flags }
//!            12:01 ─> Bucket ...                                  │
//!   accumulators    count [ . . 7 . ]  sum [ . . 3.5 . ]   <──── slot 2
//! ```
//!
//! A bucket is dropped whole when the watermark passes it, and its slots are used again. What the query's memory
//! budget has no room for lies in the state store: a bucket that is marked `on_disk` looks there for keys it does
//! not have. An entry in memory is always the whole truth about its key.

use hashbrown::HashTable;

use super::filter::KeyFilter;
use crate::error::EngineError;
use crate::operator::keyed::shard_of_hash;

/// What to say when a table has no room for another key.
pub(super) fn too_many_keys() -> EngineError {
    EngineError::unavailable("one window has more than 4 GiB of keys in memory on one worker")
        .help("give the query a smaller memory budget, so that groups move to disk, or more workers")
}

/// Tables of fewer entries are in the cache as they are.
const FETCH_FROM: usize = 1 << 18;

/// How many keys are brought into the cache at a time.
pub(super) const FETCH_KEYS: usize = 256;

/// The entry of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) key_end: u32,
    pub(super) slot: u32,
    /// Changed since the last commit.
    pub(super) is_dirty: bool,
    /// Changed since it was last written to the state store.
    pub(super) is_unflushed: bool,
    /// Its group is in another bucket now.
    pub(super) is_gone: bool,
}

/// The keys of one window.
#[derive(Default)]
pub(super) struct Bucket {
    pub(super) index: HashTable<u32>,
    pub(super) entries: Vec<Entry>,
    pub(super) key_bytes: Vec<u8>,
    /// So many entries, the first ones, are in the order of the store; see `order.rs`.
    pub(super) settled: usize,
    /// Entries changed since the last commit.
    pub(super) dirty: Vec<u32>,
    /// Entries changed since they were last written to the state store.
    pub(super) unflushed: Vec<u32>,
    /// Whether the state store may have keys that are not here.
    pub(super) on_disk: bool,
    /// Which keys it may have there; none if nobody knows, and each has to be looked for.
    pub(super) filter: Option<KeyFilter>,
    /// Keys that were looked for there while nobody knew.
    pub(super) looked_for: u64,
    /// Keys of this bucket, here and in the state store.
    pub(super) keys: u64,
    /// Entries whose groups are in another bucket now.
    pub(super) gone: usize,
}

impl Bucket {
    /// A bucket whose keys are all in the state store, and known to a filter or not.
    pub(super) fn stored(keys: u64, filter: Option<KeyFilter>) -> Self {
        Self { on_disk: true, keys, filter, ..Self::default() }
    }

    /// Whether the state store may have a key that is not here.
    #[inline]
    pub(super) fn may_be_on_disk(&self, hash: u64) -> bool {
        self.on_disk && self.filter.as_ref().is_none_or(|filter| filter.may_have(hash))
    }

    /// What the filter has to know when all entries are moved to the disk; none if it cannot know all that is there.
    pub(super) fn filter_with_entries(&mut self) -> Option<KeyFilter> {
        let known = self.filter.take();
        let mut filter = if self.on_disk { known? } else { KeyFilter::default() };
        self.entries.iter().filter(|entry| !entry.is_gone).for_each(|entry| filter.add(entry.hash));
        Some(filter)
    }

    /// The entry of a key.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(hash, |entry| self.entries[*entry as usize].hash == hash && self.key(*entry) == key).copied()
    }

    /// Brings what [`Bucket::find`] needs for so many keys into the cache, if that is worth it; see [`Bucket::fetch`].
    pub(super) fn fetch_for(&self, hashes: &[u64]) {
        if self.entries.len() < FETCH_FROM {
            return;
        }
        let first = |hash: &u64| {
            let found = self.index.find(*hash, |entry| self.entries[*entry as usize].hash == *hash);
            found.and_then(|entry| self.key(*entry).first().copied()).unwrap_or(0)
        };
        std::hint::black_box(hashes.iter().fold(0, |bits, hash| bits ^ first(hash)));
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, hash: u64, key: &[u8], slot: u32) -> u32 {
        let entry = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.key_bytes.extend_from_slice(key);
        let key_end = u32::try_from(self.key_bytes.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry { hash, key_end, slot, is_dirty: false, is_unflushed: false, is_gone: false });
        let entries = &self.entries;
        self.index.insert_unique(hash, entry, |entry| entries[*entry as usize].hash);
        entry
    }

    /// Whether another key of `length` bytes fits: offsets are 32 bits wide.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.key_bytes.len() + length < u32::MAX as usize && self.entries.len() < u32::MAX as usize - 1
    }

    /// The bytes of an entry's key.
    #[inline]
    pub(super) fn key(&self, entry: u32) -> &[u8] {
        let start = if entry == 0 { 0 } else { self.entries[entry as usize - 1].key_end };
        &self.key_bytes[start as usize..self.entries[entry as usize].key_end as usize]
    }

    /// Brings keys that are scattered over millions of others into the cache: a loop that does nothing else waits for
    /// many of them at a time, and who reads them one after the other for each alone.
    pub(super) fn fetch(&self, entries: &[u32]) {
        let first = |entry: &u32| self.key(*entry).first().copied().unwrap_or(0);
        std::hint::black_box(entries.iter().fold(0, |bits, entry| bits ^ first(entry)));
    }

    /// Notes that an entry's state changed.
    #[inline]
    pub(super) fn touch(&mut self, entry: u32) {
        let place = &mut self.entries[entry as usize];
        if !place.is_dirty {
            place.is_dirty = true;
            self.dirty.push(entry);
        }
        if !place.is_unflushed {
            place.is_unflushed = true;
            self.unflushed.push(entry);
        }
    }

    /// Gives an entry the marks it had in another table.
    pub(super) fn restore_flags(&mut self, entry: u32, from: Entry) {
        let place = &mut self.entries[entry as usize];
        (place.is_dirty, place.is_unflushed) = (from.is_dirty, from.is_unflushed);
        self.dirty.extend(from.is_dirty.then_some(entry));
        self.unflushed.extend(from.is_unflushed.then_some(entry));
    }

    /// Takes the entries changed since the last commit.
    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|entry| self.entries[*entry as usize].is_dirty = false);
        dirty
    }

    /// Whether these are half or more of all keys, none of which is in the state store alone.
    pub(super) fn is_mostly(&self, entries: &[u32]) -> bool {
        let here = self.entries.len() - self.gone;
        here as u64 == self.keys && entries.len() * 2 >= here
    }

    /// Takes the entries the state store does not know yet.
    pub(super) fn take_unflushed(&mut self) -> Vec<u32> {
        let mut unflushed = std::mem::take(&mut self.unflushed);
        unflushed.iter().for_each(|entry| self.entries[*entry as usize].is_unflushed = false);
        unflushed.retain(|entry| !self.entries[*entry as usize].is_gone);
        unflushed
    }

    pub(super) fn shard(&self, entry: u32) -> u8 {
        shard_of_hash(self.entries[entry as usize].hash)
    }

    /// The slots of some entries.
    pub(super) fn slots(&self, entries: &[u32]) -> Vec<u32> {
        entries.iter().map(|entry| self.entries[*entry as usize].slot).collect()
    }

    /// All entries.
    pub(super) fn all(&self) -> Vec<u32> {
        let all = 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        all.filter(|entry| !self.entries[*entry as usize].is_gone).collect()
    }

    /// Takes an entry out of the bucket; its slot is the caller's now. If it changed in this batch,
    /// [`Bucket::forget_taken`] has to follow.
    pub(super) fn take(&mut self, entry: u32) -> u32 {
        let place = &mut self.entries[entry as usize];
        place.is_gone = true;
        let (hash, slot) = (place.hash, place.slot);
        if let Ok(found) = self.index.find_entry(hash, |found| *found == entry) {
            found.remove();
        }
        self.gone += 1;
        self.keys -= 1;
        slot
    }

    /// Forgets the changes of entries that were taken out.
    pub(super) fn forget_taken(&mut self) {
        let entries = &self.entries;
        self.dirty.retain(|entry| !entries[*entry as usize].is_gone);
    }

    /// Gives the memory of entries back that are gone, if they are most of those there are.
    pub(super) fn compact(&mut self) {
        if self.gone <= 1024 || self.gone * 2 <= self.entries.len() {
            return;
        }
        let (filter, looked_for) = (self.filter.take(), self.looked_for);
        let mut live = Self { on_disk: self.on_disk, filter, looked_for, keys: self.keys, ..Self::default() };
        let all = self.all();
        live.settled = all.partition_point(|entry| (*entry as usize) < self.settled);
        for entry in all {
            let from = self.entries[entry as usize];
            let to = live.insert(from.hash, self.key(entry), from.slot);
            live.restore_flags(to, from);
        }
        *self = live;
    }

    /// Memory, in bytes, without the accumulators.
    pub(super) fn size_bytes(&self) -> usize {
        self.index.allocation_size()
            + self.entries.capacity() * size_of::<Entry>()
            + self.key_bytes.capacity()
            + self.filter.as_ref().map_or(0, KeyFilter::size_bytes)
            + (self.dirty.capacity() + self.unflushed.capacity()) * size_of::<u32>()
    }

    /// Memory that it takes beyond [`Bucket::size_bytes`] if `rows` more rows come: what is full doubles.
    pub(super) fn growth_bytes(&self, rows: usize) -> usize {
        let index = if self.index.len() + rows > self.index.capacity() { self.index.allocation_size() } else { 0 };
        let key_bytes = rows * self.key_bytes.len() / self.entries.len().max(1);
        index
            + growth(&self.entries, rows)
            + growth(&self.key_bytes, key_bytes)
            + growth(&self.dirty, rows)
            + growth(&self.unflushed, rows)
    }
}

fn growth<T>(of: &Vec<T>, more: usize) -> usize {
    if of.len() + more > of.capacity() { of.capacity() * size_of::<T>() } else { 0 }
}

/// Hands out slots, and takes them back.
#[derive(Debug, Default)]
pub(super) struct Slots {
    free: Vec<u32>,
    used: u32,
}

impl Slots {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        })
    }

    pub(super) fn give_back(&mut self, slots: &[u32]) {
        self.free.extend_from_slice(slots);
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// How many slots there are, free ones too.
    pub(super) fn len(&self) -> usize {
        self.used as usize
    }

    /// Memory, in bytes.
    pub(super) fn size_bytes(&self) -> usize {
        self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_again_and_changes_are_noted_once() {
        let mut bucket = Bucket::default();
        let mut slots = Slots::default();
        let a = bucket.insert(1, b"a", slots.take());
        let b = bucket.insert(1, b"bb", slots.take());
        let empty = bucket.insert(2, b"", slots.take());
        assert_eq!(bucket.find(1, b"a"), Some(a));
        assert_eq!(bucket.find(1, b"bb"), Some(b));
        assert_eq!(bucket.find(2, b""), Some(empty));
        assert_eq!(bucket.find(1, b"b"), None);
        bucket.touch(b);
        bucket.touch(b);
        assert_eq!(bucket.take_dirty(), [b]);
        assert!(bucket.take_dirty().is_empty());
        assert_eq!(bucket.take_unflushed(), [b]);
        slots.give_back(&bucket.slots(&[a]));
        assert_eq!(slots.take(), 0);
    }

    #[test]
    fn keys_that_left_are_gone_and_give_their_memory_back() {
        let (mut bucket, mut slots) = (Bucket::default(), Slots::default());
        let name = |n: u32| n.to_be_bytes();
        for n in 0..4000 {
            let entry = bucket.insert(u64::from(n), &name(n), slots.take());
            bucket.keys += 1;
            if n % 5 == 0 {
                bucket.touch(entry);
            }
        }
        bucket.take_dirty();
        let bytes = bucket.size_bytes();
        for n in (0..4000).filter(|n| n % 4 != 0) {
            let entry = bucket.find(u64::from(n), &name(n)).unwrap();
            assert_eq!(bucket.take(entry), n);
            bucket.compact();
        }
        assert!(bucket.keys == 1000 && bucket.size_bytes() < bytes * 2 / 3, "{} of {bytes}", bucket.size_bytes());
        for n in 0..4000 {
            let slot = bucket.find(u64::from(n), &name(n)).map(|entry| bucket.entries[entry as usize].slot);
            assert_eq!(slot, (n % 4 == 0).then_some(n));
        }
        let unflushed = bucket.take_unflushed();
        assert_eq!(bucket.slots(&unflushed), (0..4000).filter(|n| n % 20 == 0).collect::<Vec<_>>());
        assert_eq!(bucket.all().len(), bucket.entries.iter().filter(|entry| !entry.is_gone).count());
    }
}
