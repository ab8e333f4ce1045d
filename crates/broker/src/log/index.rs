//! Sparse indexes: where in a segment to start looking for an offset or a time.
//!
//! ```text
//! .index      | relative offset u32 | position u32 |            8 bytes an entry, rising
//! .timeindex  | newest timestamp i64 | relative offset u32 |   12 bytes an entry, rising
//! ```
//!
//! About one entry for every `index.interval.bytes` of log. An offset entry says "the batch with
//! this base offset starts here"; a time entry says "the newest batch so far has this time and this
//! base offset". Both are hints that can be rebuilt from the segment, so they are fsynced only
//! when the segment is closed, and after a crash those of the active segment are rebuilt.
//!
//! An index is searched in its file: a broker with terabytes of log keeps none of it in memory but
//! the last few entries, which are written in runs because one small write a batch would cost as
//! much as the batch.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Entries kept in memory before they are written.
const RUN_LENGTH: usize = 256;

/// One entry of an index, with its form on the disk.
pub(crate) trait Entry: Copy + PartialEq {
    const SIZE: usize;
    fn encode(self, out: &mut Vec<u8>);
    fn decode(bytes: &[u8]) -> Self;
}

/// "The batch with this base offset starts here."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
}

/// "The newest batch so far has this time and this base offset."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    pub(crate) relative_offset: u32,
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Entry for OffsetEntry {
    const SIZE: usize = 8;

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        Self { relative_offset: read_u32(bytes, 0), position: read_u32(bytes, 4) }
    }
}

impl Entry for TimeEntry {
    const SIZE: usize = 12;

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        let timestamp = (i64::from(read_u32(bytes, 0)) << 32) | i64::from(read_u32(bytes, 4));
        Self { timestamp, relative_offset: read_u32(bytes, 8) }
    }
}

/// A rising list of entries: most in a file, the newest in memory.
#[derive(Debug)]
pub(crate) struct Index<E> {
    path: PathBuf,
    written: usize,
    pending: Vec<E>,
    last: Option<E>,
}

impl<E: Entry> Index<E> {
    /// An index without entries; a file left at `path` is removed.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { path: path.to_owned(), written: 0, pending: Vec::new(), last: None })
    }

    /// The index in the file at `path`, which may be absent. A cut last entry is ignored and
    /// overwritten later.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(error),
        };
        let written = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX) / E::SIZE;
        let mut index = Self { path: path.to_owned(), written, pending: Vec::new(), last: None };
        if written > 0 {
            index.last = Some(read_entry(&file, written - 1)?);
        }
        Ok(index)
    }

    /// Moves the file, if there is one, to another path.
    pub(crate) fn move_to(&mut self, path: PathBuf) -> io::Result<()> {
        if self.written > 0 {
            fs::rename(&self.path, &path)?;
        }
        self.path = path;
        Ok(())
    }

    /// Bytes of all entries, also of those not yet written.
    pub(crate) fn size_bytes(&self) -> usize {
        (self.written + self.pending.len()) * E::SIZE
    }

    pub(crate) fn last(&self) -> Option<E> {
        self.last
    }

    pub(crate) fn push(&mut self, entry: E) -> io::Result<()> {
        self.pending.push(entry);
        self.last = Some(entry);
        if self.pending.len() >= RUN_LENGTH {
            self.write_pending()?;
        }
        Ok(())
    }

    /// Hands the entries in memory to the file.
    pub(crate) fn write_pending(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.pending.len() * E::SIZE);
        self.pending.iter().for_each(|entry| entry.encode(&mut bytes));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        file.write_all_at(&bytes, (self.written * E::SIZE) as u64)?;
        self.written += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    /// Makes every entry durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write_pending()?;
        if self.written > 0 { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    /// The last entry for which `before` holds; it must hold for a prefix of the entries.
    pub(crate) fn last_where(&self, before: impl Fn(&E) -> bool) -> io::Result<Option<E>> {
        let in_memory = self.pending.partition_point(&before);
        if in_memory > 0 {
            return Ok(Some(self.pending[in_memory - 1]));
        }
        if self.written == 0 {
            return Ok(None);
        }
        let file = File::open(&self.path)?;
        let (mut low, mut high, mut found) = (0, self.written, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = read_entry(&file, middle)?;
            if before(&entry) {
                found = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    /// Drops the entries for which `keep` does not hold; it must hold for a prefix.
    pub(crate) fn retain_prefix(&mut self, keep: impl Fn(&E) -> bool) -> io::Result<()> {
        self.write_pending()?;
        let file = match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        while self.written > 0 && !keep(&read_entry(&file, self.written - 1)?) {
            self.written -= 1;
        }
        file.set_len((self.written * E::SIZE) as u64)?;
        self.last = if self.written > 0 { Some(read_entry(&file, self.written - 1)?) } else { None };
        Ok(())
    }
}

fn read_entry<E: Entry>(file: &File, at: usize) -> io::Result<E> {
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..E::SIZE];
    file.read_exact_at(bytes, (at * E::SIZE) as u64)?;
    Ok(E::decode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: u32) -> OffsetEntry {
        OffsetEntry { relative_offset: at * 10, position: at * 100 }
    }

    #[test]
    fn finds_the_same_in_memory_in_the_file_and_across() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.index");
        // Fewer than a run, exactly one, and a run and a bit.
        for count in [0, 1, 5, RUN_LENGTH as u32, RUN_LENGTH as u32 + 7] {
            let mut index = Index::create(&path).expect("create");
            (0..count).for_each(|at| index.push(entry(at)).expect("push"));
            let check = |index: &Index<OffsetEntry>| {
                for wanted in 0..count * 10 + 20 {
                    let found = index.last_where(|e| e.relative_offset <= wanted).expect("search");
                    let expected = (count > 0).then(|| entry((wanted / 10).min(count - 1)));
                    assert_eq!(found, expected, "count {count}, wanted {wanted}");
                }
            };
            check(&index);
            index.write_pending().expect("write");
            check(&index);
            check(&Index::open(&path).expect("open"));
        }
    }

    #[test]
    fn a_cut_entry_is_ignored_and_a_suffix_can_be_dropped() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.index");
        let mut index = Index::create(&path).expect("create");
        (0..10).for_each(|at| index.push(entry(at)).expect("push"));
        index.write_pending().expect("write");
        OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(9 * 8 + 3)).expect("cut");
        let mut index = Index::<OffsetEntry>::open(&path).expect("open");
        assert_eq!(index.last(), Some(entry(8)));
        index.retain_prefix(|e| e.position < 300).expect("retain");
        assert_eq!(index.last(), Some(entry(2)));
        index.push(entry(3)).expect("push");
        index.write_pending().expect("write");
        assert_eq!(Index::<OffsetEntry>::open(&path).expect("open").last(), Some(entry(3)));
    }

    #[test]
    fn time_entries_keep_negative_timestamps() {
        for timestamp in [-1, 0, i64::MAX, i64::MIN, 1_700_000_000_000] {
            let mut bytes = Vec::new();
            let entry = TimeEntry { timestamp, relative_offset: 9 };
            entry.encode(&mut bytes);
            assert_eq!(TimeEntry::decode(&bytes), entry);
        }
    }
}
