//! The order of the store: by shard, then by key. What is written to the store as a whole is written in that order.
//!
//! ```text
//!   entries   [ a c f k m | d b ]          a bucket that was written as a whole before, and two new keys
//!               settled ──┘  └─ sorted by themselves, merged with those before them
//! ```
//!
//! To sort millions of scattered keys, and to read them in that order, costs more than writing them does. So the entries
//! themselves are moved into it when they are written, where there is room for a second table meanwhile: next time
//! their numbers tell the order, and their keys lie one after the other.

use super::table::{Bucket, Entry, FETCH_KEYS};
use crate::state::key::SHARDS;

/// An eighth of the entries may be new before the others are moved again.
const NEW_ENTRIES: usize = 8;

impl Bucket {
    /// Puts entries in the order of the store.
    pub(super) fn sort_as_stored(&self, entries: &mut [u32]) {
        let is_settled = |entry: &u32| (*entry as usize) < self.settled;
        if !entries.is_sorted() {
            entries.sort_unstable();
        }
        let (settled, new) = entries.split_at_mut(entries.partition_point(is_settled));
        self.sort_new(new);
        if !settled.is_empty() && !new.is_empty() {
            let merged = self.merge(settled, new);
            entries.copy_from_slice(&merged);
        }
    }

    /// Both are in the order of the store.
    fn merge(&self, mut a: &[u32], mut b: &[u32]) -> Vec<u32> {
        let mut merged = Vec::with_capacity(a.len() + b.len());
        let stored = |entry: u32| (self.shard(entry), self.key(entry));
        while let ([first_a, rest_a @ ..], [first_b, rest_b @ ..]) = (a, b) {
            if stored(*first_a) <= stored(*first_b) {
                merged.push(*first_a);
                a = rest_a;
            } else {
                merged.push(*first_b);
                b = rest_b;
            }
        }
        merged.extend_from_slice(a);
        merged.extend_from_slice(b);
        merged
    }

    /// Sorts entries that are in no order: dealt out to their shards, each of which is sorted by itself. Most keys are told
    /// apart by their first bytes, and few are looked up twice: millions of them are not in any cache.
    fn sort_new(&self, entries: &mut [u32]) {
        let mut ends = [0_usize; SHARDS];
        entries.iter().for_each(|entry| ends[usize::from(self.shard(*entry))] += 1);
        let mut end = 0;
        for count in &mut ends {
            end += std::mem::replace(count, end);
        }
        // So far they are where each shard begins; each entry moves its own on.
        let unsorted = entries.to_vec();
        for entry in unsorted {
            let place = &mut ends[usize::from(self.shard(entry))];
            entries[*place] = entry;
            *place += 1;
        }
        let (mut start, mut with_keys) = (0, Vec::new());
        for end in ends {
            self.sort_by_key(&mut entries[start..end], &mut with_keys);
            start = end;
        }
    }

    fn sort_by_key(&self, entries: &mut [u32], with_keys: &mut Vec<(u128, u32)>) {
        with_keys.clear();
        for entries in entries.chunks(FETCH_KEYS) {
            self.fetch(entries);
            with_keys.extend(entries.iter().map(|entry| (first_bytes(self.key(*entry)), *entry)));
        }
        with_keys.sort_unstable_by(|(a_first, a), (b_first, b)| {
            a_first.cmp(b_first).then_with(|| self.key(*a).cmp(self.key(*b)))
        });
        entries.iter_mut().zip(with_keys).for_each(|(place, (_, entry))| *place = *entry);
    }

    /// Memory that [`Bucket::settle`] needs until it is done.
    pub(super) fn settle_bytes(&self) -> usize {
        self.entries.len() * (size_of::<Entry>() + size_of::<u32>()) + self.key_bytes.len()
    }

    /// Whether [`Bucket::settle`] pays, and may be: nobody has to find an entry by its number.
    pub(super) fn may_settle(&self) -> bool {
        let new = self.entries.len() - self.settled;
        new * NEW_ENTRIES > self.entries.len() && self.dirty.is_empty() && self.unflushed.is_empty()
    }

    /// Moves all entries into the order of the store, which `sorted` has them in. Gives them as they are numbered now.
    pub(super) fn settle(&mut self, sorted: &[u32]) -> Vec<u32> {
        let mut entries = Vec::with_capacity(self.entries.capacity());
        let mut key_bytes = Vec::with_capacity(self.key_bytes.capacity());
        let mut renumbered = vec![u32::MAX; self.entries.len()];
        for of_all in sorted.chunks(FETCH_KEYS) {
            self.fetch(of_all);
            for entry in of_all {
                key_bytes.extend_from_slice(self.key(*entry));
                renumbered[*entry as usize] = number(entries.len());
                entries.push(Entry { key_end: number(key_bytes.len()), ..self.entries[*entry as usize] });
            }
        }
        self.index.iter_mut().for_each(|entry| *entry = renumbered[*entry as usize]);
        (self.entries, self.key_bytes) = (entries, key_bytes);
        (self.settled, self.gone) = (self.entries.len(), 0);
        self.all()
    }
}

/// The first bytes of a key as a number that sorts as they do.
fn first_bytes(key: &[u8]) -> u128 {
    let mut first = [0; 16];
    let length = key.len().min(16);
    first[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(first)
}

/// A number of entries or key bytes: a bucket has no more than fit into 32 bits, see [`Bucket::has_room`].
fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::operator::keyed::key_hash;

    /// Numbered from 0 on, with a slot of that number.
    fn add(bucket: &mut Bucket, keys: impl IntoIterator<Item = Vec<u8>>) {
        for key in keys {
            if bucket.find(key_hash(&key), &key).is_none() {
                let slot = number(bucket.entries.len());
                bucket.insert(key_hash(&key), &key, slot);
                bucket.keys += 1;
            }
        }
    }

    fn stored(bucket: &Bucket, entries: &[u32]) -> Vec<(u8, Vec<u8>)> {
        entries.iter().map(|entry| (bucket.shard(*entry), bucket.key(*entry).to_vec())).collect()
    }

    proptest! {
        #[test]
        fn entries_are_sorted_as_stored_whatever_was_settled_before(
            rounds in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..80), 1..5),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            some in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let mut bucket = Bucket::default();
            for keys in rounds {
                add(&mut bucket, keys);
                for gone in &gone {
                    let all = bucket.all();
                    if all.len() > 1 {
                        bucket.take(*gone.get(&all));
                    }
                }
                let mut all = bucket.all();
                let mut expected = stored(&bucket, &all);
                expected.sort();
                bucket.sort_as_stored(&mut all);
                prop_assert_eq!(stored(&bucket, &all), expected.clone());

                let mut part: Vec<u32> = some.iter().map(|some| *some.get(&all)).collect();
                part.sort_unstable_by_key(|entry| entry.reverse_bits());
                part.dedup();
                let mut expected_part = stored(&bucket, &part);
                expected_part.sort();
                bucket.sort_as_stored(&mut part);
                prop_assert_eq!(stored(&bucket, &part), expected_part);

                let slots = bucket.slots(&all);
                let settled = bucket.settle(&all);
                prop_assert_eq!(stored(&bucket, &settled), expected);
                prop_assert_eq!(bucket.slots(&settled), slots, "each key keeps its slot");
                for entry in settled {
                    let key = bucket.key(entry).to_vec();
                    prop_assert_eq!(bucket.find(key_hash(&key), &key), Some(entry));
                }
                prop_assert!(!bucket.may_settle(), "nothing is new");
            }
        }
    }
}
