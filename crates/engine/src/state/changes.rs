//! What a batch changed in the state of one operator: range deletes, then deletes, then puts.
//!
//! ```text
//!   rows of a kind:   piece │ piece │ piece │ tail        a piece has about 256 KiB and ends between rows
//!                     └── in a file, compressed ──┘
//!   a row:            varint key length │ key │ [varint value length │ value]
//! ```
//!
//! Rows are kept in the bytes the changelog stores, so that writing it is compressing pieces, or copying those that are
//! compressed already: a set that was made with a place on the disk keeps no more in memory than it is told to.
//!
//! The order of the three kinds is fixed, the order inside a kind is the order of the calls: a key that is deleted and
//! put ends up put, a key put twice has the later value.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::spill_file::{SpillFile, SpilledBlock};
use crate::error::{EngineError, Result};

/// A piece is about this long: large enough to compress well, small enough to check and apply at once.
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
    kinds: [Rope; 3],
    disk: Option<Disk>,
}

/// Where pieces go that memory has no room for.
#[derive(Debug, Clone)]
struct Disk {
    file: Arc<SpillFile>,
    /// Bytes of a kind that may stay in memory.
    memory_bytes: usize,
}

/// The rows of one kind.
#[derive(Debug, Clone, Default)]
struct Rope {
    pieces: Vec<Piece>,
    /// The pieces before this one are on the disk.
    in_memory: usize,
    memory_bytes: usize,
    tail: Vec<u8>,
    rows: usize,
    size_bytes: usize,
    /// Where runs of sorted rows end, in pieces.
    run_ends: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Piece {
    Memory(Vec<u8>),
    File(Arc<SpillFile>, SpilledBlock),
}

/// Rows as they are written to a changelog.
pub(crate) struct StoredBlock<'a> {
    pub(crate) raw_bytes: usize,
    /// Compressed with LZ4.
    pub(crate) stored: &'a [u8],
}

impl ChangeSet {
    /// No changes; what will be pushed stays in memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// No changes; beyond `memory_bytes` they go to a file without a name in `folder`, which ends with the set.
    pub(crate) fn on_disk(folder: &Path, memory_bytes: usize) -> Self {
        let disk = Disk { file: Arc::new(SpillFile::new(folder)), memory_bytes };
        Self { disk: Some(disk), ..Self::default() }
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
        self.push(Kind::Put, key, Some(value));
    }

    /// Removes a key.
    pub fn push_delete(&mut self, key: &[u8]) {
        self.push(Kind::Delete, key, None);
    }

    /// Removes the keys from `from` up to but not with `to`. An empty range is no change.
    pub fn push_range_delete(&mut self, from: &[u8], to: &[u8]) {
        if from < to {
            self.push(Kind::RangeDelete, from, Some(to));
        }
    }

    fn push(&mut self, kind: Kind, key: &[u8], value: Option<&[u8]>) {
        let rope = &mut self.kinds[kind as usize];
        rope.push(key, value);
        self.bound(kind);
    }

    /// Moves pieces of a kind out of memory if they take too much of it. What cannot be written stays there, and all that
    /// comes after it: memory is the smaller harm, and a disk that takes nothing is told of by whatever must be written next.
    fn bound(&mut self, kind: Kind) {
        let rope = &mut self.kinds[kind as usize];
        let Some(disk) = self.disk.as_ref().filter(|disk| rope.memory_bytes > disk.memory_bytes) else { return };
        if let Err(error) = rope.move_to(&disk.file) {
            tracing::warn!(%error, "changes of the batch stay in memory: their file cannot be written");
            self.disk = None;
        }
    }

    /// Adds the changes of another set after these, made by another worker for other keys or later.
    pub(crate) fn append(&mut self, other: Self) {
        for (kind, theirs) in Kind::ALL.into_iter().zip(other.kinds) {
            self.kinds[kind as usize].append(theirs);
            self.bound(kind);
        }
    }

    /// Adds the puts of another set whose keys are still wanted, in their order.
    pub(crate) fn append_puts(&mut self, other: &Self, is_wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
        other.visit(|change| {
            if let Change::Put(key, value) = change
                && is_wanted(key)
            {
                self.push_put(key, value);
            }
            Ok(())
        })
    }

    /// Says that the puts since the last call have ascending keys, each once: see [`ChangeSet::merge_puts`].
    pub(crate) fn end_run(&mut self) {
        let rope = &mut self.kinds[Kind::Put as usize];
        rope.end_piece();
        if rope.run_ends.last().copied().unwrap_or(0) < rope.pieces.len() {
            rope.run_ends.push(rope.pieces.len());
        }
    }

    /// Gives the puts in the order of their keys, each key once with its latest value, if every put belongs to a run
    /// that was ended. Takes the memory of a piece a run.
    pub(crate) fn merge_puts(&self, mut f: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let rope = &self.kinds[Kind::Put as usize];
        let starts = [0].into_iter().chain(rope.run_ends.iter().copied());
        let mut heap = BinaryHeap::new();
        for (run, (start, end)) in starts.zip(&rope.run_ends).enumerate() {
            let mut cursor = Cursor::new(&rope.pieces[start..*end], run);
            if cursor.advance()? {
                heap.push(Reverse(cursor));
            }
        }
        let mut last: Option<Vec<u8>> = None;
        while let Some(mut first) = heap.peek_mut() {
            let cursor = &mut first.0;
            // Of equal keys the latest run's comes first.
            if last.as_deref() != Some(cursor.key()) {
                f(cursor.key(), cursor.value())?;
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(cursor.key());
            }
            if !cursor.advance()? {
                PeekMut::pop(first);
            }
        }
        Ok(())
    }

    /// Gives the changes in the order they are applied.
    pub fn visit(&self, mut f: impl FnMut(Change<'_>) -> Result<()>) -> Result<()> {
        for kind in Kind::ALL {
            let rope = &self.kinds[kind as usize];
            let mut scratch = Vec::new();
            let pieces = (0..rope.pieces.len()).map(Some).chain([None]);
            for piece in pieces {
                let bytes = match piece {
                    Some(at) => rope.pieces[at].raw(&mut scratch)?,
                    None => &rope.tail,
                };
                Rows { kind, bytes }.try_for_each(|row| f(row?))?;
            }
        }
        Ok(())
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.kinds.iter().map(|rope| rope.rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys and values, wherever they are.
    pub fn size_bytes(&self) -> usize {
        self.kinds.iter().map(|rope| rope.size_bytes).sum()
    }

    /// Forgets the changes.
    pub fn clear(&mut self) {
        for rope in &mut self.kinds {
            let mut tail = std::mem::take(&mut rope.tail);
            tail.clear();
            *rope = Rope { tail, ..Rope::default() };
        }
    }

    /// Gives the rows of a kind as a changelog stores them, in order.
    pub(crate) fn stored_blocks(
        &self,
        kind: Kind,
        mut f: impl FnMut(StoredBlock<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let rope = &self.kinds[kind as usize];
        let mut stored = Vec::new();
        for piece in &rope.pieces {
            let raw_bytes = match piece {
                Piece::File(file, block) => {
                    file.read(block, &mut stored)?;
                    block.raw_bytes
                }
                Piece::Memory(raw) => {
                    super::spill_file::compress(raw, &mut stored)?;
                    raw.len()
                }
            };
            f(StoredBlock { raw_bytes, stored: &stored })?;
        }
        if rope.tail.is_empty() {
            return Ok(());
        }
        super::spill_file::compress(&rope.tail, &mut stored)?;
        f(StoredBlock { raw_bytes: rope.tail.len(), stored: &stored })
    }
}

impl Rope {
    fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let before = self.tail.len();
        push_bytes(&mut self.tail, key);
        if let Some(value) = value {
            push_bytes(&mut self.tail, value);
        }
        self.rows += 1;
        self.size_bytes += self.tail.len() - before;
        if self.tail.len() >= BLOCK_BYTES {
            self.end_piece();
        }
    }

    fn end_piece(&mut self) {
        if !self.tail.is_empty() {
            self.memory_bytes += self.tail.len();
            self.pieces.push(Piece::Memory(std::mem::take(&mut self.tail)));
        }
    }

    /// Moves all whole pieces out of memory.
    fn move_to(&mut self, file: &Arc<SpillFile>) -> io::Result<()> {
        for piece in &mut self.pieces[self.in_memory..] {
            if let Piece::Memory(raw) = piece {
                let block = file.write(raw)?;
                self.memory_bytes -= raw.len();
                *piece = Piece::File(Arc::clone(file), block);
            }
            self.in_memory += 1;
        }
        Ok(())
    }

    fn append(&mut self, mut other: Self) {
        if other.rows == 0 {
            return;
        }
        self.end_piece();
        let base = self.pieces.len();
        self.pieces.append(&mut other.pieces);
        self.run_ends.extend(other.run_ends.iter().map(|end| base + end));
        self.memory_bytes += other.memory_bytes;
        self.tail = other.tail;
        self.rows += other.rows;
        self.size_bytes += other.size_bytes;
    }
}

impl Piece {
    fn raw<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        match self {
            Self::Memory(raw) => Ok(raw),
            Self::File(file, block) => {
                file.read_raw(block, scratch).map_err(|error| {
                    EngineError::unavailable("cannot read back a batch's changes from the state folder")
                        .caused_by(error)
                        .help("check that disk, then start the query again: the batch is run again")
                })?;
                Ok(scratch)
            }
        }
    }
}

/// The next row of a sorted run.
struct Cursor<'a> {
    pieces: std::slice::Iter<'a, Piece>,
    run: usize,
    raw: Vec<u8>,
    at: usize,
    key: Range<usize>,
    value: Range<usize>,
}

impl<'a> Cursor<'a> {
    fn new(pieces: &'a [Piece], run: usize) -> Self {
        Self { pieces: pieces.iter(), run, raw: Vec::new(), at: 0, key: 0..0, value: 0..0 }
    }

    fn key(&self) -> &[u8] {
        &self.raw[self.key.clone()]
    }

    fn value(&self) -> &[u8] {
        &self.raw[self.value.clone()]
    }

    /// Goes to the next row; false at the end.
    fn advance(&mut self) -> Result<bool> {
        while self.at == self.raw.len() {
            let Some(piece) = self.pieces.next() else { return Ok(false) };
            let mut scratch = std::mem::take(&mut self.raw);
            if let Piece::Memory(raw) = piece {
                scratch.clear();
                scratch.extend_from_slice(raw);
            } else {
                piece.raw(&mut scratch)?;
            }
            (self.raw, self.at) = (scratch, 0);
        }
        self.key = self.take()?;
        self.value = self.take()?;
        Ok(true)
    }

    /// Where the next byte string is; it is passed.
    fn take(&mut self) -> Result<Range<usize>> {
        let mut rest = &self.raw[self.at..];
        let length = take_bytes(&mut rest).ok_or_else(torn)?.len();
        self.at = self.raw.len() - rest.len();
        Ok(self.at - length..self.at)
    }
}

/// By key; of equal keys the later run comes first.
impl Ord for Cursor<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key()).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for Cursor<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cursor<'_> {}

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
        Some(row.ok_or_else(torn))
    }
}

fn torn() -> EngineError {
    EngineError::internal("a block of state rows ends inside a row")
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

    fn rows(changes: &ChangeSet) -> Vec<String> {
        let mut rows = Vec::new();
        changes
            .visit(|change| {
                rows.push(format!("{change:?}"));
                Ok(())
            })
            .unwrap();
        rows
    }

    /// The same rows as a changelog would give them back.
    fn stored_rows(changes: &ChangeSet) -> Vec<String> {
        let mut rows = Vec::new();
        for kind in Kind::ALL {
            let read = changes.stored_blocks(kind, |block| {
                let mut raw = vec![0; block.raw_bytes];
                assert_eq!(lz4_flex::block::decompress_into(block.stored, &mut raw).unwrap(), raw.len());
                rows.extend(Rows { kind, bytes: &raw }.map(|row| format!("{:?}", row.unwrap())));
                Ok(())
            });
            read.unwrap();
        }
        rows
    }

    fn merged(changes: &ChangeSet) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut merged = Vec::new();
        changes
            .merge_puts(|key, value| {
                merged.push((key.to_vec(), value.to_vec()));
                Ok(())
            })
            .unwrap();
        merged
    }

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
        assert_eq!(rows(&changes), expected.map(|change| format!("{change:?}")));
        assert_eq!((changes.len(), changes.size_bytes()), (4, 13));
        changes.clear();
        assert!(changes.is_empty() && rows(&changes).is_empty());
    }

    #[test]
    fn a_set_on_the_disk_has_the_rows_of_one_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = [ChangeSet::new(), ChangeSet::on_disk(folder.path(), BLOCK_BYTES)];
        for changes in &mut changes {
            (0..300u32).for_each(|n| changes.push_put(&n.to_be_bytes(), &[7; 3000]));
            (0..300u32).for_each(|n| changes.push_delete(&n.to_be_bytes()));
            let mut other = ChangeSet::new();
            (0..300u32).for_each(|n| other.push_put(&n.to_le_bytes(), &[8; 5000]));
            changes.append(other);
            changes.push_put(b"last", b"");
        }
        let [memory, disk] = &changes;
        let on_disk = disk.kinds[2].pieces.iter().filter(|piece| matches!(piece, Piece::File(..))).count();
        assert!(on_disk >= 3, "{on_disk}");
        assert_eq!((memory.len(), memory.size_bytes()), (disk.len(), disk.size_bytes()));
        assert_eq!(memory.len(), 901);
        assert!(rows(memory) == rows(disk) && rows(memory) == stored_rows(memory) && rows(memory) == stored_rows(disk));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn a_disk_that_takes_nothing_leaves_the_rows_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = ChangeSet::on_disk(&folder.path().join("not there"), 0);
        (0..300u32).for_each(|n| changes.push_put(&n.to_be_bytes(), &[7; 3000]));
        assert_eq!(rows(&changes).len(), 300);
        assert!(changes.disk.is_none(), "it is not asked again for each row");
        // What another set has on its disk stays readable.
        let mut other = ChangeSet::on_disk(folder.path(), 0);
        (300..600u32).for_each(|n| other.push_delete(&n.to_be_bytes().repeat(1000)));
        changes.append(other);
        assert_eq!(rows(&changes), stored_rows(&changes));
        assert_eq!(rows(&changes).len(), 600);
    }

    #[test]
    fn a_cut_row_is_an_error_not_a_panic() {
        let mut changes = ChangeSet::new();
        changes.push_put(&[1; 200], &[2; 200]);
        let (kind, whole) = (Kind::Put, changes.kinds[Kind::Put as usize].tail.as_slice());
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
            let expected = deleted.chain(puts.iter().map(|(key, value)| Change::Put(key, value)));
            prop_assert_eq!(rows(&changes), expected.map(|change| format!("{change:?}")).collect::<Vec<_>>());
            prop_assert_eq!(rows(&changes), stored_rows(&changes));
        }

        #[test]
        fn runs_are_merged_to_the_latest_value_of_each_key(
            runs in prop::collection::vec(prop::collection::btree_map(0u16..300, 0u8..=255, 0..300), 0..8),
            memory_bytes in prop_oneof![Just(0usize), Just(usize::MAX)],
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut changes = ChangeSet::on_disk(folder.path(), memory_bytes);
            let mut model = std::collections::BTreeMap::new();
            for run in runs {
                for (key, value) in run {
                    // Long enough that a run has several pieces.
                    changes.push_put(&key.to_be_bytes(), &[value; 2000]);
                    model.insert(key.to_be_bytes().to_vec(), vec![value; 2000]);
                }
                changes.end_run();
            }
            prop_assert!(merged(&changes) == model.into_iter().collect::<Vec<_>>());
        }
    }
}
