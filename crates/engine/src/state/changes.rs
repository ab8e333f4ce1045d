//! What a batch changed in the state of one operator: range deletes, then deletes, then puts.
//!
//! ```text
//!   arena of a kind:   varint key length │ key │ [varint value length │ value] │ next row ...
//!                      └── cut ──────────────────┘ about every 256 KiB, always between rows
//! ```
//!
//! Rows are kept in the bytes the changelog stores, so that writing it is compressing slices; the cuts say where.
//! The order of the three kinds is fixed, the order inside a kind is the order of the calls: a key that is deleted and
//! put ends up put, a key put twice has the later value.

use crate::error::{EngineError, Result};

/// A slice between cuts is about this long: large enough to compress well, small enough to check and apply at once.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;

/// The kind of a change, in the order kinds are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    RangeDelete,
    Delete,
    Put,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::RangeDelete, Self::Delete, Self::Put];

    /// Whether a row has a second byte string: the range's end or the value.
    fn has_value(self) -> bool {
        self != Self::Delete
    }
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Removes the keys from the first up to but not with the second.
    RangeDelete(&'a [u8], &'a [u8]),
    /// Removes a key.
    Delete(&'a [u8]),
    /// Sets a key to a value.
    Put(&'a [u8], &'a [u8]),
}

/// The changes of one operator.
#[derive(Debug, Clone, Default)]
pub struct ChangeSet {
    arenas: [Arena; 3],
}

#[derive(Debug, Clone, Default)]
struct Arena {
    bytes: Vec<u8>,
    cuts: Vec<usize>,
    rows: usize,
}

impl ChangeSet {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes that leave nothing of what was.
    pub fn of_everything_gone() -> Self {
        let mut changes = Self::new();
        // Longer than any key that begins with nothing else.
        changes.push_range_delete(&[], &[0xff; 256]);
        changes
    }

    /// Sets a key to a value.
    pub fn push_put(&mut self, key: &[u8], value: &[u8]) {
        self.arenas[Kind::Put as usize].push(key, Some(value));
    }

    /// Removes a key.
    pub fn push_delete(&mut self, key: &[u8]) {
        self.arenas[Kind::Delete as usize].push(key, None);
    }

    /// Removes the keys from `from` up to but not with `to`. An empty range is no change.
    pub fn push_range_delete(&mut self, from: &[u8], to: &[u8]) {
        if from < to {
            self.arenas[Kind::RangeDelete as usize].push(from, Some(to));
        }
    }

    /// Adds the changes of another set, made by another worker for other keys.
    pub fn append(&mut self, other: &Self) {
        for (mine, theirs) in self.arenas.iter_mut().zip(&other.arenas) {
            mine.append(theirs);
        }
    }

    /// The changes in the order they are applied.
    pub fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        // What `push` encoded decodes: the errors of `Rows` are for bytes from a disk.
        Kind::ALL
            .into_iter()
            .flat_map(|kind| Rows { kind, bytes: &self.arenas[kind as usize].bytes }.map_while(Result::ok))
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.arenas.iter().map(|arena| arena.rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held by keys and values.
    pub fn size_bytes(&self) -> usize {
        self.arenas.iter().map(|arena| arena.bytes.len()).sum()
    }

    /// Forgets the changes and keeps the memory.
    pub fn clear(&mut self) {
        for arena in &mut self.arenas {
            arena.bytes.clear();
            arena.cuts.clear();
            arena.rows = 0;
        }
    }

    /// The rows of a kind in pieces of about [`BLOCK_BYTES`], in order.
    pub(crate) fn blocks(&self, kind: Kind) -> impl Iterator<Item = &[u8]> {
        self.arenas[kind as usize].blocks()
    }
}

impl Arena {
    fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        push_bytes(&mut self.bytes, key);
        if let Some(value) = value {
            push_bytes(&mut self.bytes, value);
        }
        self.rows += 1;
        self.cut_if_long();
    }

    fn cut_if_long(&mut self) {
        if self.bytes.len() - self.cuts.last().copied().unwrap_or(0) >= BLOCK_BYTES {
            self.cuts.push(self.bytes.len());
        }
    }

    fn append(&mut self, other: &Self) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.cuts.extend(other.cuts.iter().map(|cut| base + cut));
        self.rows += other.rows;
        self.cut_if_long();
    }

    fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.cuts.iter().copied().chain([self.bytes.len()]);
        let starts = [0].into_iter().chain(self.cuts.iter().copied());
        starts.zip(ends).map(|(start, end)| &self.bytes[start..end]).filter(|block| !block.is_empty())
    }
}

/// Decodes the rows of a block; ends after the first error.
pub(crate) struct Rows<'a> {
    pub(crate) kind: Kind,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Rows<'a> {
    fn row(&mut self) -> Option<Change<'a>> {
        let key = take_bytes(&mut self.bytes)?;
        let value = if self.kind.has_value() { take_bytes(&mut self.bytes)? } else { &[] };
        Some(match self.kind {
            Kind::RangeDelete => Change::RangeDelete(key, value),
            Kind::Delete => Change::Delete(key),
            Kind::Put => Change::Put(key, value),
        })
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Change<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let row = self.row();
        if row.is_none() {
            self.bytes = &[];
        }
        Some(row.ok_or_else(|| EngineError::internal("a block of state rows ends inside a row")))
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len() as u64;
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (bytes, rest) = input.split_at_checked(usize::try_from(length).ok()?)?;
            *input = rest;
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kinds_come_in_their_order_whatever_the_calls_were() {
        let mut changes = ChangeSet::new();
        changes.push_put(b"a", b"1");
        changes.push_delete(b"a");
        changes.push_range_delete(b"a", b"c");
        changes.push_range_delete(b"c", b"c");
        changes.push_put(b"b", b"");
        let expected =
            [Change::RangeDelete(b"a", b"c"), Change::Delete(b"a"), Change::Put(b"a", b"1"), Change::Put(b"b", b"")];
        assert_eq!(changes.iter().collect::<Vec<_>>(), expected);
        assert_eq!((changes.len(), changes.size_bytes()), (4, 13));
        changes.clear();
        assert!(changes.is_empty() && changes.iter().next().is_none());
    }

    #[test]
    fn blocks_are_cut_between_rows() {
        let mut changes = ChangeSet::new();
        let mut other = ChangeSet::new();
        (0..300u32).for_each(|n| changes.push_put(&n.to_be_bytes(), &[7; 3000]));
        (0..300u32).for_each(|n| other.push_put(&n.to_le_bytes(), &[8; 5000]));
        changes.append(&other);
        let mut rows = 0;
        for bytes in changes.blocks(Kind::Put) {
            assert!(bytes.len() < 2 * BLOCK_BYTES + 5100, "{}", bytes.len());
            rows += Rows { kind: Kind::Put, bytes }.map(Result::unwrap).count();
        }
        assert_eq!(rows, 600);
        assert!(changes.blocks(Kind::Put).count() >= 8);
    }

    #[test]
    fn a_cut_row_is_an_error_not_a_panic() {
        let mut changes = ChangeSet::new();
        changes.push_put(&[1; 200], &[2; 200]);
        let (kind, whole) = (Kind::Put, changes.blocks(Kind::Put).next().unwrap());
        for end in 1..whole.len() {
            assert!(Rows { kind, bytes: &whole[..end] }.any(|row| row.is_err()), "{end}");
        }
        assert!(Rows { kind, bytes: &[0xff; 12] }.next().unwrap().is_err());
    }

    proptest! {
        #[test]
        fn rows_come_back(puts: Vec<(Vec<u8>, Vec<u8>)>, deletes: Vec<Vec<u8>>) {
            let mut changes = ChangeSet::new();
            puts.iter().for_each(|(key, value)| changes.push_put(key, value));
            deletes.iter().for_each(|key| changes.push_delete(key));
            let deleted = deletes.iter().map(|key| Change::Delete(key));
            let expected: Vec<_> = deleted.chain(puts.iter().map(|(key, value)| Change::Put(key, value))).collect();
            prop_assert_eq!(changes.iter().collect::<Vec<_>>(), expected);
        }
    }
}
