//! One file of batches and the two indexes beside it.
//!
//! ```text
//! 00000000000000004711.log         batches, whole, one after the other; 4711 is the base offset
//! 00000000000000004711.index       where offsets are      (see index.rs)
//! 00000000000000004711.timeindex   where times are
//! ```
//!
//! A segment that was compacted has offsets missing: between its batches, and from its last batch to
//! the base offset of the next segment.
//!
//! Only the newest segment of a log, the active one, is written; only it keeps its file open. The
//! others are opened when they are read, so a broker's open files grow with its partitions and
//! not with its data.
//!
//! A segment trusts what is in it: checks of what arrives are made before [`Segment::append`], and
//! checks of what a crash left are made by `recovery.rs` while it is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{BatchHeader, HEADER_SIZE};
use super::index::{Index, OffsetEntry, TimeEntry};
use super::records;
use super::scan::{Found, ScanError, Scanner};

/// Positions in an index have 32 bits; this leaves room for the batch that crosses the limit.
const MAX_SIZE_BYTES: u64 = i32::MAX as u64;

/// What the name of a file that is to be removed ends with.
pub(crate) const DOOMED: &str = "deleted";

/// A record by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOffset {
    pub(crate) timestamp: i64,
    pub(crate) offset: i64,
}

/// One segment of a log.
#[derive(Debug)]
pub(crate) struct Segment {
    base_offset: i64,
    path: PathBuf,
    /// Open while this is the active segment.
    file: Option<Arc<File>>,
    size_bytes: u64,
    next_offset: i64,
    offsets: Index<OffsetEntry>,
    times: Index<TimeEntry>,
    /// Newest timestamp and the base offset of the batch that has it.
    newest: Option<TimedOffset>,
    since_index_bytes: u64,
    created_ms: i64,
    /// Up to this position the file was compacted.
    holes_until: u64,
}

/// Where the bytes of a read come from.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    pub(crate) position: u64,
    pub(crate) end: u64,
}

/// The path of a segment's file with this extension.
pub(crate) fn file_path(dir: &Path, base_offset: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base_offset:020}.{extension}"))
}

impl Segment {
    /// A new, empty, active segment.
    pub(crate) fn create(dir: &Path, base_offset: i64, now_ms: i64) -> io::Result<Self> {
        let segment = Self::create_at(file_path(dir, base_offset, "log"), base_offset, now_ms)?;
        File::open(dir)?.sync_all()?;
        Ok(segment)
    }

    /// A new, empty segment with its log at `path` and its indexes beside it. It is to be filled by compaction.
    pub(crate) fn create_compacted(path: PathBuf, base_offset: i64, created_ms: i64) -> io::Result<Self> {
        Ok(Self { holes_until: u64::MAX, ..Self::create_at(path, base_offset, created_ms)? })
    }

    fn create_at(path: PathBuf, base_offset: i64, now_ms: i64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        file.set_len(0)?;
        Ok(Self {
            base_offset,
            file: Some(Arc::new(file)),
            size_bytes: 0,
            next_offset: base_offset,
            offsets: Index::create(&path.with_extension("index"))?,
            times: Index::create(&path.with_extension("timeindex"))?,
            path,
            newest: None,
            since_index_bytes: 0,
            created_ms: now_ms,
            holes_until: 0,
        })
    }

    /// The segment in `dir` up to the last indexed batch below `offset`; the caller adds the
    /// batches behind it with [`Segment::adopt`].
    ///
    /// An index entry is believed only if a batch with its offset stands at its position. Up to
    /// `holes_until` the file was compacted.
    pub(crate) fn open_before(
        dir: &Path,
        base_offset: i64,
        offset: i64,
        holes_until: u64,
        now_ms: i64,
    ) -> io::Result<Self> {
        let path = file_path(dir, base_offset, "log");
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        let file_bytes = file.metadata()?.len();
        let mut offsets = Index::<OffsetEntry>::open(&file_path(dir, base_offset, "index"))?;
        let mut times = Index::<TimeEntry>::open(&file_path(dir, base_offset, "timeindex"))?;
        let below = |entry: &OffsetEntry| base_offset + i64::from(entry.relative_offset) <= offset;
        let start = offsets.last_where(below)?.filter(|entry| {
            let found = Scanner::headers(&file, entry.position.into(), file_bytes).next();
            let expected = base_offset + i64::from(entry.relative_offset);
            matches!(found, Ok(Some(found)) if found.header.base_offset == expected)
        });
        let start = start.unwrap_or(OffsetEntry { relative_offset: 0, position: 0 });
        // The batch of the start entry is adopted again, and its entries with it.
        offsets.retain_prefix(|entry| entry.position < start.position)?;
        times.retain_prefix(|entry| entry.relative_offset < start.relative_offset)?;
        let newest = times.last().map(|entry| TimedOffset {
            timestamp: entry.timestamp,
            offset: base_offset + i64::from(entry.relative_offset),
        });
        Ok(Self {
            base_offset,
            path,
            file: Some(Arc::new(file)),
            size_bytes: start.position.into(),
            next_offset: base_offset + i64::from(start.relative_offset),
            offsets,
            times,
            newest,
            since_index_bytes: u64::MAX,
            created_ms: now_ms,
            holes_until,
        })
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// When its newest record was written, or itself if its records carry no time.
    pub(crate) fn newest_ms(&self) -> i64 {
        self.newest.map(|newest| newest.timestamp).filter(|&timestamp| timestamp >= 0).unwrap_or(self.created_ms)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn newest(&self) -> Option<TimedOffset> {
        self.newest
    }

    pub(crate) fn holes_until(&self) -> u64 {
        self.holes_until
    }

    /// Whether the index of offsets has reached `segment.index.bytes`.
    pub(crate) fn index_is_full(&self, limit_bytes: usize) -> bool {
        self.offsets.size_bytes() >= limit_bytes
    }

    /// Moves the indexes to where those of the log at `path` are, which the log itself has been moved to.
    pub(crate) fn moved_to(&mut self, path: PathBuf) -> io::Result<()> {
        self.offsets.move_to(path.with_extension("index"))?;
        self.times.move_to(path.with_extension("timeindex"))?;
        self.path = path;
        Ok(())
    }

    /// The file, opened if this is not the active segment.
    pub(crate) fn file(&self) -> io::Result<Arc<File>> {
        match &self.file {
            Some(file) => Ok(Arc::clone(file)),
            None => File::open(&self.path).map(Arc::new),
        }
    }

    /// Whether a batch must go to a new segment: the indexes could not point at it here.
    pub(crate) fn cannot_hold(&self, batch: &BatchHeader) -> bool {
        let last_offset = self.next_offset.saturating_add(batch.last_offset_delta.into());
        self.size_bytes + batch.size_bytes as u64 > MAX_SIZE_BYTES
            || last_offset - self.base_offset > i64::from(i32::MAX)
    }

    /// Writes one batch, in one write. On an error the file is cut back to what it was; if even
    /// that fails the second error is returned and the segment must not be written again.
    pub(crate) fn append(
        &mut self,
        stamped: &[u8; HEADER_SIZE],
        records: &[u8],
        index_interval_bytes: u32,
    ) -> Result<BatchHeader, AppendFailure> {
        let header = BatchHeader::parse(stamped).map_err(|error| AppendFailure::clean(io::Error::other(error)))?;
        let file = self.file().map_err(AppendFailure::clean)?;
        if let Err(error) = write_both(&file, stamped, records) {
            let torn = file.set_len(self.size_bytes).is_err();
            return Err(AppendFailure { error, torn });
        }
        let found = Found { position: self.size_bytes, header };
        self.adopt(found, index_interval_bytes).map_err(AppendFailure::clean)?;
        Ok(header)
    }

    /// Takes a batch that stands at the end of the file into account.
    pub(crate) fn adopt(&mut self, found: Found, index_interval_bytes: u32) -> io::Result<()> {
        let Found { position, header } = found;
        // A batch that compaction has emptied holds no record that could be found by its time.
        if header.record_count != 0 && self.newest.is_none_or(|newest| header.max_timestamp > newest.timestamp) {
            self.newest = Some(TimedOffset { timestamp: header.max_timestamp, offset: header.base_offset });
        }
        self.next_offset = header.next_offset();
        self.size_bytes = position + header.size_bytes as u64;
        if self.since_index_bytes > index_interval_bytes.into() {
            let relative_offset = (header.base_offset - self.base_offset) as u32;
            self.offsets.push(OffsetEntry { relative_offset, position: position as u32 })?;
            self.index_newest()?;
            self.since_index_bytes = 0;
        }
        self.since_index_bytes = self.since_index_bytes.saturating_add(header.size_bytes as u64);
        Ok(())
    }

    fn index_newest(&mut self) -> io::Result<()> {
        let Some(newest) = self.newest else { return Ok(()) };
        if self.times.last().is_none_or(|last| newest.timestamp > last.timestamp) {
            let relative_offset = (newest.offset - self.base_offset) as u32;
            self.times.push(TimeEntry { timestamp: newest.timestamp, relative_offset })?;
        }
        Ok(())
    }

    /// Makes the indexes durable, whole up to now.
    pub(crate) fn sync_indexes(&mut self) -> io::Result<()> {
        self.index_newest()?;
        self.offsets.sync()?;
        self.times.sync()
    }

    /// Ends the writing of this segment; returns its file, which still has to be fsynced.
    pub(crate) fn close(&mut self) -> io::Result<Option<Arc<File>>> {
        self.sync_indexes()?;
        Ok(self.file.take())
    }

    /// Removes the files. A reader that holds the log file open can finish.
    pub(crate) fn delete(self) -> io::Result<()> {
        for extension in ["log", "index", "timeindex"] {
            match fs::remove_file(self.path.with_extension(extension)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sets the files aside, to be removed later; answers their paths. A start removes them too.
    pub(crate) fn doom(self) -> io::Result<Vec<PathBuf>> {
        let mut doomed = Vec::new();
        for extension in ["log", "index", "timeindex"] {
            let aside = self.path.with_extension(format!("{extension}.{DOOMED}"));
            match fs::rename(self.path.with_extension(extension), &aside) {
                Ok(()) => doomed.push(aside),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(doomed)
    }

    /// Where the batch that holds `offset`, or the first behind it, starts.
    pub(crate) fn span_from(&self, offset: i64) -> Result<Span, ScanError> {
        let file = self.file()?;
        let position = self.position_of(&file, offset)?;
        Ok(Span { file, path: self.path.clone(), position, end: self.size_bytes })
    }

    /// A walk over the headers from a position on.
    pub(crate) fn headers<'a>(&self, file: &'a File, position: u64) -> Scanner<'a> {
        Scanner::headers(file, position, self.size_bytes).with_holes_until(self.holes_until)
    }

    fn position_of(&self, file: &File, offset: i64) -> Result<u64, ScanError> {
        if offset >= self.next_offset {
            return Ok(self.size_bytes);
        }
        let base = self.base_offset;
        let entry = self.offsets.last_where(|entry| base + i64::from(entry.relative_offset) <= offset)?;
        let start = entry.map_or(0, |entry| entry.position.into());
        let mut scanner = self.headers(file, start);
        while let Some(found) = scanner.next()? {
            if found.header.last_offset() >= offset {
                return Ok(found.position);
            }
        }
        Ok(self.size_bytes)
    }

    /// Bytes from `offset` to the end, up to an index interval too many.
    pub(crate) fn bytes_from(&self, offset: i64) -> io::Result<u64> {
        if offset >= self.next_offset {
            return Ok(0);
        }
        let base = self.base_offset;
        let entry = self.offsets.last_where(|entry| base + i64::from(entry.relative_offset) <= offset)?;
        Ok(self.size_bytes - entry.map_or(0, |entry| u64::from(entry.position)))
    }

    /// The first record that is not older than `timestamp` and not before `from`.
    pub(crate) fn find_time(&self, timestamp: i64, from: i64) -> Result<Option<TimedOffset>, ScanError> {
        let file = self.file()?;
        let entry = self.times.last_where(|entry| entry.timestamp < timestamp)?;
        let start = entry.map_or(self.base_offset, |entry| self.base_offset + i64::from(entry.relative_offset));
        let mut scanner = self.headers(&file, self.position_of(&file, start)?);
        while let Some(found) = scanner.next()? {
            if found.header.max_timestamp < timestamp || found.header.last_offset() < from {
                continue;
            }
            let mut batch = vec![0; found.header.size_bytes];
            file.read_exact_at(&mut batch, found.position)?;
            if let Some(record) = records::first_not_older(&found.header, &batch, timestamp, from) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// An append that failed; `torn` when bytes of it may be left in the file.
#[derive(Debug)]
pub(crate) struct AppendFailure {
    pub(crate) error: io::Error,
    pub(crate) torn: bool,
}

impl AppendFailure {
    fn clean(error: io::Error) -> Self {
        Self { error, torn: false }
    }
}

fn write_both(mut file: &File, header: &[u8], records: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(header), IoSlice::new(records)];
    let mut left: &mut [IoSlice<'_>] = &mut slices;
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
