//! The key of a state row: bytes whose order is the order of expiry.
//!
//! ```text
//!   ┌ bucket: 8 bytes ──────────────────┬ shard: 1 byte ────────┬ group key ┐
//!   │ i64, sign bit flipped, big endian │ top byte of xxh3(key) │ as it is  │
//!   └───────────────────────────────────┴───────────────────────┴───────────┘
//! ```
//!
//! The bucket is the row's expiry time ([`NEVER`] for rows that do not expire). It comes first, so that everything a
//! watermark makes obsolete is one range for all shards together. The shard says which worker owns a group key; it
//! must be the same for ever, since state is read back by a later build. What a group key means is the operator's.

use crate::error::{EngineError, Result};

/// The bucket of rows that never expire.
pub const NEVER: i64 = i64::MAX;

/// How many shards there are, for ever.
pub const SHARDS: usize = 256;

/// The bytes before the group key.
pub const PREFIX_BYTES: usize = 9;

/// The shard of a group key.
pub fn shard_of(group_key: &[u8]) -> u8 {
    // The top byte: the low bits are the ones a hash table of the same hash uses.
    (xxhash_rust::xxh3::xxh3_64(group_key) >> 56) as u8
}

/// Replaces the content of `out` by a key.
pub fn encode(bucket: i64, shard: u8, group_key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(PREFIX_BYTES + group_key.len());
    out.extend_from_slice(&encode_bucket(bucket));
    out.push(shard);
    out.extend_from_slice(group_key);
}

/// Bucket, shard and group key of a key.
pub fn decode(key: &[u8]) -> Result<(i64, u8, &[u8])> {
    let Some((bucket, rest)) = key.split_first_chunk::<8>() else { return Err(too_short(key)) };
    let Some((shard, group_key)) = rest.split_first() else { return Err(too_short(key)) };
    Ok((decode_bucket(*bucket), *shard, group_key))
}

/// The range of keys with a bucket from `from` up to but not with `to`: first key, and the first key after it.
pub fn bucket_range(from: i64, to: i64) -> (Vec<u8>, Vec<u8>) {
    (encode_bucket(from).to_vec(), encode_bucket(to).to_vec())
}

/// A range of keys of one bucket and some shards, in which every key lies but for some of the last shard.
pub(crate) fn shards_range(bucket: i64, first: u8, last: u8) -> (Vec<u8>, Vec<u8>) {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    encode(bucket, first, &[], &mut from);
    encode(bucket, last, &[u8::MAX], &mut to);
    (from, to)
}

fn encode_bucket(bucket: i64) -> [u8; 8] {
    (bucket as u64 ^ (1 << 63)).to_be_bytes()
}

fn decode_bucket(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

fn too_short(key: &[u8]) -> EngineError {
    EngineError::data(format!("a state key has {} bytes, expected at least {PREFIX_BYTES}", key.len()))
        .help("the state was not written by this query; restore the checkpoint from a backup")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// State on disk depends on these: a change here makes every checkpoint unreadable.
    #[test]
    fn shards_are_the_same_for_ever() {
        let shards = [&b""[..], b"a", b"user-1", b"user-2", &[0; 16], &[0xff; 300]].map(shard_of);
        assert_eq!(shards, [45, 230, 124, 32, 208, 166]);
    }

    #[test]
    fn shards_are_spread_evenly() {
        let mut rows = [0u32; SHARDS];
        (0..256_000u32).for_each(|n| rows[usize::from(shard_of(&n.to_be_bytes()))] += 1);
        assert!(rows.iter().all(|rows| (800..1200).contains(rows)), "{rows:?}");
    }

    #[test]
    fn a_key_that_is_too_short_is_refused() {
        assert_eq!(decode(&[1; 8]).unwrap_err().to_string(), "a state key has 8 bytes, expected at least 9");
        assert_eq!(decode(&[0x80, 0, 0, 0, 0, 0, 0, 7, 3]).unwrap(), (7, 3, &b""[..]));
    }

    proptest! {
        #[test]
        fn keys_come_back_and_sort_by_bucket(a: (i64, u8, Vec<u8>), b: (i64, u8, Vec<u8>)) {
            let (mut key_a, mut key_b) = (Vec::new(), Vec::new());
            encode(a.0, a.1, &a.2, &mut key_a);
            encode(b.0, b.1, &b.2, &mut key_b);
            prop_assert_eq!(decode(&key_a).unwrap(), (a.0, a.1, &a.2[..]));
            prop_assert_eq!(key_a.cmp(&key_b), a.cmp(&b));
        }

        #[test]
        fn a_bucket_range_holds_its_buckets(bucket: i64, from: i64, to: i64, shard: u8, group: Vec<u8>) {
            let mut key = Vec::new();
            encode(bucket, shard, &group, &mut key);
            let (low, high) = bucket_range(from, to);
            prop_assert_eq!((from..to).contains(&bucket), low <= key && key < high);
        }
    }
}
