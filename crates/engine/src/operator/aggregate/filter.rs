//! Which keys a bucket may have on the disk: a filter in memory, so that keys that are nowhere are not looked for there.
//!
//! ```text
//!   layers   [1 Ki keys] [1 Ki] [2 Ki] [4 Ki] ...      each as large as all before it: a bucket of n keys has log n
//!   a key    eight bits of a layer, from its hash      all set in any layer: may be there     else: is not
//! ```
//!
//! A filter knows every key of its bucket that was moved to the disk, and keys that have left since: it may send for a
//! key in vain, once in a hundred times, and never keeps from one. Fourteen bits a key.

/// Bits for each key a layer has room for, and how many of them are set.
const BITS_PER_KEY: usize = 14;
const BITS_SET: u64 = 8;

/// Keys of the smallest layer.
const SMALLEST: usize = 1024;

/// Memory for each key, in bytes, about.
pub(super) const BYTES_PER_KEY: u64 = 2;

/// The keys of one bucket.
#[derive(Debug, Default)]
pub(super) struct KeyFilter {
    layers: Vec<Layer>,
    keys: usize,
}

#[derive(Debug)]
struct Layer {
    /// A power of two of them.
    words: Vec<u64>,
    room: usize,
}

impl KeyFilter {
    /// Adds the key of a hash.
    pub(super) fn add(&mut self, hash: u64) {
        if self.may_have(hash) {
            return;
        }
        if self.layers.last().is_none_or(|layer| layer.room == 0) {
            self.layers.push(Layer::new(self.keys.max(SMALLEST)));
        }
        self.keys += 1;
        if let Some(layer) = self.layers.last_mut() {
            layer.add(hash);
        }
    }

    /// Whether the key of a hash may be there.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.layers.iter().any(|layer| layer.bits(hash).all(|bit| (layer.words[bit / 64] >> (bit % 64)) & 1 == 1))
    }

    /// Memory, in bytes.
    pub(super) fn size_bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.words.capacity() * 8).sum()
    }
}

impl Layer {
    fn new(room: usize) -> Self {
        let words = (room * BITS_PER_KEY).div_ceil(64).next_power_of_two();
        Self { words: vec![0; words], room: words * 64 / BITS_PER_KEY }
    }

    fn add(&mut self, hash: u64) {
        for bit in self.bits(hash) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
        self.room -= 1;
    }

    /// The bits of a key. The hash has chosen shard and worker before, so that its bits are mixed once more.
    fn bits(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mixed = (hash ^ (hash >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (first, step) = (mixed >> 32, mixed | 1);
        let mask = self.words.len() as u64 * 64 - 1;
        (0..BITS_SET).map(move |n| usize::try_from(first.wrapping_add(n.wrapping_mul(step)) & mask).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::keyed::key_hash;

    fn hash(n: u32) -> u64 {
        key_hash(&n.to_be_bytes())
    }

    #[test]
    fn keys_are_never_missed_and_others_seldom_found() {
        let mut filter = KeyFilter::default();
        assert!(!filter.may_have(hash(0)));
        for n in 0..100_000 {
            filter.add(hash(n));
            filter.add(hash(n));
        }
        assert!((0..100_000).all(|n| filter.may_have(hash(n))));
        let in_vain = (100_000..200_000).filter(|n| filter.may_have(hash(*n))).count();
        assert!(in_vain < 5000, "{in_vain} of 100,000");
        assert!(filter.layers.len() < 10, "{}", filter.layers.len());
        let bytes = filter.size_bytes() as u64;
        assert!(bytes <= 100_000 * BYTES_PER_KEY * 2, "{bytes}");
    }
}
