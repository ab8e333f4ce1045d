//! Walks the batches of a segment file from header to header.
//!
//! The one reader behind recovery, lookups and the rebuild of producer state. It never trusts a
//! length: a batch must lie whole inside the range given, start at the offset the one before it
//! ends at, and (when asked) fit its checksum. Where a file was compacted offsets are missing: there
//! a batch must not start before the end of the one before it. The first that does not ends the walk with its
//! position and the reason; what that means is decided by the caller.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use thiserror::Error;

use super::batch::{BatchError, BatchHeader, HEADER_SIZE, verify_crc};

/// Bytes read at once when whole batches are needed.
const BATCH_CHUNK: usize = 1024 * 1024;
/// Bytes read at once when only headers are.
const HEADER_CHUNK: usize = 4096;

/// A batch found by the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

/// Why a walk ended before the end of its range.
#[derive(Debug, Error)]
pub(crate) enum ScanError {
    #[error("at position {position}: {reason}")]
    Invalid { position: u64, reason: BatchError },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A walk over the batches in one range of a segment file.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    file: &'a File,
    position: u64,
    end: u64,
    expected_offset: Option<i64>,
    /// Up to this position offsets may be missing between batches.
    holes_until: u64,
    verify: bool,
    chunk: Vec<u8>,
    chunk_position: u64,
}

impl<'a> Scanner<'a> {
    /// Reads headers only.
    pub(crate) fn headers(file: &'a File, position: u64, end: u64) -> Self {
        let (chunk, holes_until) = (Vec::new(), 0);
        Self { file, position, end, expected_offset: None, holes_until, verify: false, chunk, chunk_position: 0 }
    }

    /// Reads whole batches and verifies their checksums; the first must start at `offset`.
    pub(crate) fn verifying(file: &'a File, position: u64, end: u64, offset: i64) -> Self {
        Self { verify: true, expected_offset: Some(offset), ..Self::headers(file, position, end) }
    }

    /// Offsets may be missing between the batches before this position: the file was compacted up to there.
    pub(crate) fn with_holes_until(self, position: u64) -> Self {
        Self { holes_until: position, ..self }
    }

    /// The whole of the batch found last, if the walk verifies.
    pub(crate) fn batch(&self, found: &Found) -> &[u8] {
        let start = (found.position - self.chunk_position) as usize;
        &self.chunk[start..start + found.header.size_bytes]
    }

    /// The next batch; `None` at the end of the range.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let header = self.judge_next()?;
        let found = Found { position: self.position, header };
        self.position += header.size_bytes as u64;
        self.expected_offset = Some(header.next_offset());
        Ok(Some(found))
    }

    fn judge_next(&mut self) -> Result<BatchHeader, ScanError> {
        let position = self.position;
        let invalid = |reason| ScanError::Invalid { position, reason };
        let left = self.end - position;
        if left < HEADER_SIZE as u64 {
            return Err(invalid(BatchError::Short { found: left as usize }));
        }
        let header = BatchHeader::parse(self.bytes(HEADER_SIZE)?).map_err(invalid)?;
        if header.size_bytes as u64 > left {
            return Err(invalid(BatchError::Cut { size_bytes: header.size_bytes as u64, found: left }));
        }
        if header.last_offset() == i64::MAX {
            return Err(invalid(BatchError::Field { what: "the last offset", found: i64::MAX }));
        }
        let holes = position < self.holes_until;
        if let Some(expected) = self.expected_offset
            && (header.base_offset < expected || (header.base_offset > expected && !holes))
        {
            return Err(invalid(BatchError::Offset { found: header.base_offset, expected }));
        }
        if self.verify {
            verify_crc(&header, self.bytes(header.size_bytes)?).map_err(invalid)?;
        }
        Ok(header)
    }

    /// The next `count` bytes, which lie inside the range.
    fn bytes(&mut self, count: usize) -> io::Result<&[u8]> {
        let have = self.chunk_position + self.chunk.len() as u64;
        if self.position < self.chunk_position || self.position + count as u64 > have {
            let ahead = if self.verify { BATCH_CHUNK } else { HEADER_CHUNK };
            let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            self.chunk.resize(ahead.max(count).min(left), 0);
            self.file.read_exact_at(&mut self.chunk, self.position)?;
            self.chunk_position = self.position;
        }
        let start = (self.position - self.chunk_position) as usize;
        Ok(&self.chunk[start..start + count])
    }
}

/// The first position from `start` on where a whole, valid batch with at least `offset` starts.
///
/// This tells a torn end (nothing valid behind it) from damage in the middle. It tries every
/// byte, which is slow and only ever done on a damaged file.
pub(crate) fn find_valid(file: &File, mut start: u64, end: u64, offset: i64) -> io::Result<Option<u64>> {
    let mut chunk = vec![0; BATCH_CHUNK];
    while start + HEADER_SIZE as u64 <= end {
        let length = chunk.len().min(usize::try_from(end - start).unwrap_or(usize::MAX));
        file.read_exact_at(&mut chunk[..length], start)?;
        let last = length - HEADER_SIZE;
        for at in 0..=last {
            if looks_like_batch(&chunk[at..length], offset) && is_valid_at(file, start + at as u64, end)? {
                return Ok(Some(start + at as u64));
            }
        }
        start += last as u64 + 1;
    }
    Ok(None)
}

fn looks_like_batch(bytes: &[u8], offset: i64) -> bool {
    BatchHeader::parse(bytes).is_ok_and(|header| header.base_offset >= offset)
}

fn is_valid_at(file: &File, position: u64, end: u64) -> io::Result<bool> {
    let mut scanner = Scanner { verify: true, ..Scanner::headers(file, position, end) };
    match scanner.next() {
        Ok(found) => Ok(found.is_some()),
        Err(ScanError::Invalid { .. }) => Ok(false),
        Err(ScanError::Io(error)) => Err(error),
    }
}
