//! Which transactions of a partition were aborted, so that readers of committed records know what
//! to leave out.
//!
//! ```text
//! <partition>/aborted.index: an entry an aborted transaction, in the order of their markers
//!   | crc u32 | producer id i64 | first offset i64 | marker offset i64 |
//! ```
//!
//! The log is the truth and this file a short way to it. What stands in it below the newest
//! snapshot of the producers was on the disk before that snapshot was; everything above is found
//! again in the markers when the log is opened ([`AbortedIndex::open`]), so a torn end costs
//! nothing. The entries are held in memory, 24 bytes each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::producer_state::Ended;

const ENTRY_SIZE: usize = 28;
/// Entries of deleted records that are worth a new file.
const REWRITE_AT_LEAST: usize = 1000;

/// The aborted transactions of one partition, by their markers.
#[derive(Debug)]
pub(crate) struct AbortedIndex {
    path: PathBuf,
    /// Open once there is anything to write: most partitions never see an abort.
    file: Option<File>,
    entries: Vec<Ended>,
    /// Entries in the file, also those no longer needed.
    in_file: usize,
    unsynced: bool,
    /// How often compaction has made it forget.
    generation: u64,
}

impl AbortedIndex {
    /// The entries with markers below `offset`; `None` if the file does not have them all. The
    /// caller adds those from `offset` on with [`AbortedIndex::push`].
    pub(crate) fn open(dir: &Path, offset: i64) -> io::Result<Option<Self>> {
        let mut index = Self::new(dir);
        let bytes = match fs::read(&index.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for chunk in bytes.chunks(ENTRY_SIZE) {
            match decode(chunk) {
                Some(entry) if entry.marker_offset < offset => index.entries.push(entry),
                Some(_) => break,
                None => return Ok(None),
            }
        }
        index.in_file = index.entries.len();
        let known_bytes = index.in_file * ENTRY_SIZE;
        if bytes.len() > known_bytes {
            index.file()?.set_len(known_bytes as u64)?;
        }
        Ok(Some(index))
    }

    /// An index of a log whose every marker is about to be read.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let index = Self::new(dir);
        match fs::remove_file(&index.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(index),
        }
    }

    /// An index that has looked at nothing yet.
    pub(crate) fn new(dir: &Path) -> Self {
        let path = dir.join("aborted.index");
        Self { path, file: None, entries: Vec::new(), in_file: 0, unsynced: false, generation: 0 }
    }

    /// Adds a transaction, whose marker is behind all others.
    pub(crate) fn push(&mut self, ended: Ended) -> io::Result<()> {
        // In memory first: whatever happens to the file, no reader may take it for committed.
        self.entries.push(ended);
        self.unsynced = true;
        self.file()?.write_all(&encode(ended))?;
        self.in_file += 1;
        Ok(())
    }

    /// Offset of the newest marker.
    pub(crate) fn last_marker(&self) -> Option<i64> {
        self.entries.last().map(|entry| entry.marker_offset)
    }

    /// The transactions with records or markers from `from` on and records before `to`.
    pub(crate) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = Ended> {
        let first = self.entries.partition_point(|entry| entry.marker_offset < from);
        self.entries[first..].iter().filter(move |entry| entry.first_offset < to).copied()
    }

    /// Forgets transactions that ended before `start`, where the log begins now.
    pub(crate) fn forget_before(&mut self, start: i64) -> io::Result<()> {
        let gone = self.entries.partition_point(|entry| entry.marker_offset < start);
        self.entries.drain(..gone);
        let outdated = self.in_file - self.entries.len().min(self.in_file);
        if outdated < REWRITE_AT_LEAST || outdated < self.entries.len() {
            return Ok(());
        }
        self.rewrite()
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let content: Vec<u8> = self.entries.iter().flat_map(|&entry| encode(entry)).collect();
        let mut file = File::create(&temporary)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        self.file = None;
        self.in_file = self.entries.len();
        self.unsynced = true;
        Ok(())
    }

    /// Forgets transactions of which compaction has left nothing but their markers, durably: once their markers go too
    /// an entry would make what the producer wrote later look aborted. The newest stays, it says how far the index goes.
    pub(crate) fn forget(&mut self, gone: &[Ended]) -> io::Result<()> {
        let (newest, before) = (self.last_marker(), self.entries.len());
        self.entries.retain(|entry| Some(entry.marker_offset) == newest || !gone.contains(entry));
        if self.entries.len() == before {
            return Ok(());
        }
        self.generation += 1;
        self.rewrite()?;
        self.sync()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes every entry durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unsynced) {
            self.file()?.sync_all()?;
            if let Some(dir) = self.path.parent() {
                File::open(dir)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().create(true).append(true).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

fn encode(entry: Ended) -> [u8; ENTRY_SIZE] {
    let mut bytes = [0; ENTRY_SIZE];
    bytes[4..12].copy_from_slice(&entry.producer_id.to_be_bytes());
    bytes[12..20].copy_from_slice(&entry.first_offset.to_be_bytes());
    bytes[20..].copy_from_slice(&entry.marker_offset.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Ended> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let (producer_id, rest) = rest.split_first_chunk::<8>()?;
    let (first_offset, rest) = rest.split_first_chunk::<8>()?;
    let (marker_offset, rest) = rest.split_first_chunk::<8>()?;
    let valid = rest.is_empty() && u32::from_be_bytes(*crc) == crc32c::crc32c(&bytes[4..]);
    valid.then(|| Ended {
        producer_id: i64::from_be_bytes(*producer_id),
        first_offset: i64::from_be_bytes(*first_offset),
        marker_offset: i64::from_be_bytes(*marker_offset),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(first_offset: i64, marker_offset: i64) -> Ended {
        Ended { producer_id: 7, first_offset, marker_offset }
    }

    fn between(index: &AbortedIndex, from: i64, to: i64) -> Vec<i64> {
        index.between(from, to).map(|entry| entry.marker_offset).collect()
    }

    #[test]
    fn a_reader_is_told_what_overlaps_its_range() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut index = AbortedIndex::create(dir.path()).expect("created");
        for (first, marker) in [(0, 10), (12, 20), (5, 30), (40, 50)] {
            index.push(ended(first, marker)).expect("pushed");
        }
        assert_eq!(between(&index, 0, 100), [10, 20, 30, 50]);
        assert_eq!(between(&index, 11, 13), [20, 30]);
        assert_eq!(between(&index, 30, 40), [30]);
        assert_eq!(between(&index, 51, 100), [] as [i64; 0]);
    }

    #[test]
    fn what_a_snapshot_covers_is_read_back_and_the_rest_is_left_to_the_markers() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut index = AbortedIndex::create(dir.path()).expect("created");
        for (first, marker) in [(0, 10), (12, 20), (25, 30)] {
            index.push(ended(first, marker)).expect("pushed");
        }
        index.sync().expect("synced");
        let mut index = AbortedIndex::open(dir.path(), 25).expect("opened").expect("whole");
        assert_eq!(between(&index, 0, 100), [10, 20]);
        index.push(ended(25, 31)).expect("pushed");
        let index = AbortedIndex::open(dir.path(), 100).expect("opened").expect("whole");
        assert_eq!(between(&index, 0, 100), [10, 20, 31]);
    }

    #[test]
    fn damage_below_the_snapshot_is_noticed_and_a_torn_end_too() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut index = AbortedIndex::create(dir.path()).expect("created");
        index.push(ended(0, 10)).expect("pushed");
        index.push(ended(12, 20)).expect("pushed");
        let path = dir.path().join("aborted.index");
        let whole = fs::read(&path).expect("read");
        for damaged in [&whole[..ENTRY_SIZE + 5], &[&whole[..9], &[!whole[9]], &whole[10..]].concat()] {
            fs::write(&path, damaged).expect("written");
            assert!(AbortedIndex::open(dir.path(), 25).expect("read").is_none());
        }
    }

    #[test]
    fn what_compaction_has_emptied_is_forgotten_in_the_file_but_never_the_newest() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut index = AbortedIndex::create(dir.path()).expect("created");
        for (first, marker) in [(0, 10), (12, 20), (25, 30)] {
            index.push(ended(first, marker)).expect("pushed");
        }
        index.forget(&[ended(0, 10), ended(12, 21), ended(25, 30)]).expect("forgotten");
        index.push(ended(35, 40)).expect("pushed");
        let index = AbortedIndex::open(dir.path(), i64::MAX).expect("opened").expect("whole");
        assert_eq!(between(&index, 0, i64::MAX), [20, 30, 40]);
    }

    #[test]
    fn what_is_deleted_is_forgotten_in_the_file_too() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut index = AbortedIndex::create(dir.path()).expect("created");
        let count = 2 * REWRITE_AT_LEAST as i64;
        for at in 0..count {
            index.push(ended(at * 10, at * 10 + 5)).expect("pushed");
        }
        index.forget_before(count * 10 - 20).expect("forgotten");
        assert_eq!(between(&index, 0, i64::MAX).len(), 2);
        index.push(ended(count * 10, count * 10 + 5)).expect("pushed");
        let index = AbortedIndex::open(dir.path(), i64::MAX).expect("opened").expect("whole");
        assert_eq!(between(&index, 0, i64::MAX).len(), 3);
    }
}
