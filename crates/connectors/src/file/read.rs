//! Reads files: a [`FileReader`] takes parts of files one after the other and gives batches.
//!
//! ```text
//!   InputFile* ──split at newlines──> FilePart* ──dealt by size──> FileReader (one thread each)
//!   FilePart ──lines──> decoder ──┐
//!            ──parquet────────────┴──> Layout::assemble ──> RecordBatch
//! ```
//!
//! A part of a text file owns the lines that begin in its range of bytes. Compressed files and Parquet are one part.
//! What does not parse becomes a dead letter with its bytes, file and line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{DeadLetter, PartitionReader, ReadReport};

use super::codec::{Line, LineDecoder};
use super::durable::io_error;
use super::layout::Layout;
use super::listing::InputFile;
use super::options::{FileFormat, FileOptions, Mode};
use super::parquet::ParquetFile;

/// Rows of one batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Bytes of lines that could not be read, after which a batch is handed on so that somebody takes them.
const UNREAD_BYTES: usize = 4 << 20;
/// Parts of text files are between these sizes: enough of them for all readers, and not more seeks than that takes.
const SPLIT_BYTES: RangeInclusive<u64> = 4 << 20..=64 << 20;
/// Bytes asked of a file at once.
const READ_BYTES: usize = 1 << 17;
/// A longer line is an error: whatever it is, it is no file of lines.
const LONGEST_LINE_BYTES: usize = 256 << 20;

/// All that is the same for the files of one read.
#[derive(Debug, Clone)]
pub(crate) struct ReadPlan {
    pub(crate) format: FileFormat,
    pub(crate) options: Arc<FileOptions>,
    pub(crate) layout: Layout,
}

/// A range of bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FilePart {
    file: InputFile,
    start: u64,
    end: u64,
}

/// Readers for `files`, at most `parallelism` of them.
///
/// They all carry the same partition name: files are not a partition that could fall silent and hold back a watermark.
pub(crate) fn readers(plan: &ReadPlan, files: Vec<InputFile>, parallelism: usize) -> Vec<Box<dyn PartitionReader>> {
    let size: u64 = files.iter().map(|file| file.size).sum();
    let part_bytes = (size / parallelism.max(1) as u64 + 1).clamp(*SPLIT_BYTES.start(), *SPLIT_BYTES.end());
    let parts: Vec<FilePart> = files.into_iter().flat_map(|file| split(plan.format, file, part_bytes)).collect();
    let mut groups: Vec<(u64, VecDeque<FilePart>)> =
        vec![(0, VecDeque::new()); parts.len().clamp(1, parallelism.max(1))];
    for part in parts {
        if let Some((size, group)) = groups.iter_mut().min_by_key(|(size, _)| *size) {
            *size += part.end.min(part.file.size).saturating_sub(part.start).max(1);
            group.push_back(part);
        }
    }
    groups
        .into_iter()
        .filter(|(_, parts)| !parts.is_empty())
        .map(|(_, parts)| Box::new(FileReader::new(plan.clone(), parts)) as Box<dyn PartitionReader>)
        .collect()
}

fn split(format: FileFormat, file: InputFile, part_bytes: u64) -> Vec<FilePart> {
    if format == FileFormat::Parquet || compressed(&file.path) || file.size <= part_bytes {
        return vec![FilePart { start: 0, end: u64::MAX, file }];
    }
    let parts = file.size.div_ceil(part_bytes);
    (0..parts)
        .map(|part| FilePart {
            start: part * part_bytes,
            // The file may have grown since it was listed: the last part has no end.
            end: if part + 1 == parts { u64::MAX } else { (part + 1) * part_bytes },
            file: file.clone(),
        })
        .collect()
}

fn compressed(path: &str) -> bool {
    path.ends_with(".gz")
}

struct FileReader {
    plan: ReadPlan,
    parts: VecDeque<FilePart>,
    current: Option<(FilePart, OpenPart)>,
    /// The name of the part that the last batch came from.
    stretch: String,
    decoder: Option<LineDecoder>,
    report: ReadReport,
    dead_letters: Vec<DeadLetter>,
}

enum OpenPart {
    Lines(Lines),
    Parquet(ParquetFile),
}

impl FileReader {
    fn new(plan: ReadPlan, parts: VecDeque<FilePart>) -> Self {
        let (current, stretch, decoder) = (None, String::new(), None);
        Self { plan, parts, current, stretch, decoder, report: ReadReport::default(), dead_letters: Vec::new() }
    }

    /// Opens the next part; none at the end.
    fn open_next(&mut self) -> Result<Option<(FilePart, OpenPart)>> {
        while let Some(part) = self.parts.pop_front() {
            match self.open(&part) {
                Ok(open) => return Ok(Some((part, open))),
                Err(Failure::Missing) if self.plan.options.ignore_missing_files => {
                    tracing::warn!(file = part.file.path, "a source file is gone and is skipped (ignoreMissingFiles)");
                }
                Err(Failure::Missing) => {
                    return Err(EngineError::data(format!(
                        "source file '{}' belongs to this batch but is gone, expected it to stay until the batch is committed",
                        part.file.path
                    ))
                    .help("put the file back, or set 'ignoreMissingFiles' = 'true' to go on without its rows"));
                }
                Err(Failure::Other(error)) if self.plan.options.ignore_corrupt_files => {
                    tracing::warn!(%error, "a source file cannot be read and is skipped (ignoreCorruptFiles)");
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn open(&self, part: &FilePart) -> Result<OpenPart, Failure> {
        let path = Path::new(&part.file.path);
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::Missing,
            _ => Failure::Other(io_error("open", path, error)),
        })?;
        match self.plan.format {
            FileFormat::Parquet => {
                let stored = &self.plan.layout.stored;
                Ok(OpenPart::Parquet(ParquetFile::open(file, &part.file.path, stored).map_err(Failure::Other)?))
            }
            _ => Ok(OpenPart::Lines(Lines::open(file, part).map_err(Failure::Other)?)),
        }
    }

    fn next_parquet(&mut self, file: &mut ParquetFile, path: &str) -> Result<Option<RecordBatch>> {
        let Some(stored) = file.next_batch()? else {
            self.report.size_bytes += file.size_bytes();
            return Ok(None);
        };
        self.report.records += stored.num_rows() as u64;
        self.plan.layout.assemble(&stored, path).map(Some)
    }

    /// Decodes lines until a batch is full or the part ends. Lines that could not be read make it full, too.
    fn next_lines(&mut self, lines: &mut Lines, part: &FilePart) -> Result<Option<RecordBatch>> {
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => LineDecoder::new(&self.plan)?,
        };
        let (mut unread, mut unread_bytes) = (0, 0);
        while decoder.len() + unread < BATCH_ROWS && unread_bytes < UNREAD_BYTES {
            if !lines.advance(part)? {
                break;
            }
            if self.skips(lines) {
                continue;
            }
            self.report.size_bytes += lines.stored_bytes as u64;
            match decoder.append(lines.text())? {
                Line::Rows(rows) => self.report.records += rows as u64,
                Line::Malformed { gave_row, reason } => {
                    (unread, unread_bytes) = (unread + 1, unread_bytes + lines.text().len());
                    self.malformed(lines, part, gave_row, reason)?;
                }
            }
        }
        let batch = if decoder.len() + unread == 0 { None } else { Some(decoder.flush()?) };
        self.decoder = Some(decoder);
        batch.map(|stored| self.plan.layout.assemble(&stored, &part.file.path)).transpose()
    }

    /// Blank lines, comments and the header are no records.
    fn skips(&self, lines: &Lines) -> bool {
        let text = lines.text();
        let record = &self.plan.options.record;
        match self.plan.format {
            FileFormat::Text | FileFormat::Parquet => false,
            FileFormat::Json => text.trim_ascii().is_empty(),
            FileFormat::Csv => {
                let comment = record.comment.as_deref().is_some_and(|comment| text.starts_with(comment.as_bytes()));
                text.trim_ascii().is_empty() || comment || (record.header && lines.at_first_record())
            }
        }
    }

    fn malformed(&mut self, lines: &Lines, part: &FilePart, gave_row: bool, reason: String) -> Result<()> {
        let line = lines.line_number(part)?;
        if self.plan.options.record.mode == Mode::FailFast {
            return Err(EngineError::data(format!("'{}', line {line} does not parse: {reason}", part.file.path))
                .help("repair the line, or set 'mode' to PERMISSIVE or DROPMALFORMED"));
        }
        self.report.records += 1;
        self.report.malformed += 1;
        self.report.dropped += u64::from(!gave_row);
        self.dead_letters.push(DeadLetter {
            origin: part.file.path.clone(),
            partition: None,
            offset: i64::try_from(line).unwrap_or(i64::MAX),
            reason,
            value: lines.text().to_vec(),
        });
        Ok(())
    }
}

impl PartitionReader for FileReader {
    fn partition(&self) -> &str {
        "files"
    }

    fn stretch(&self) -> &str {
        &self.stretch
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let (part, mut open) = match self.current.take() {
                Some(current) => current,
                None => match self.open_next()? {
                    Some((part, open)) => {
                        self.stretch = format!("{}@{}", part.file.path, part.start);
                        (part, open)
                    }
                    None => return Ok(None),
                },
            };
            let batch = match &mut open {
                OpenPart::Parquet(file) => self.next_parquet(file, &part.file.path),
                OpenPart::Lines(lines) => self.next_lines(lines, &part),
            };
            match batch {
                Ok(Some(batch)) => {
                    self.current = Some((part, open));
                    return Ok(Some(batch));
                }
                Ok(None) => {}
                Err(error @ EngineError::Data(_)) if self.plan.options.ignore_corrupt_files => {
                    tracing::warn!(%error, file = part.file.path, "the rest of a source file is skipped (ignoreCorruptFiles)");
                    self.decoder = None;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn report(&self) -> ReadReport {
        self.report
    }

    fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.dead_letters)
    }
}

enum Failure {
    Missing,
    Other(EngineError),
}

/// The lines of a part, one at a time, where they lie in the buffer.
struct Lines {
    reader: Box<dyn Read + Send>,
    /// What was read and may not be used up yet: `unread` of it.
    buffer: Vec<u8>,
    unread: Range<usize>,
    /// The current line in the buffer, with its end.
    line: Range<usize>,
    /// Where the next line begins, in bytes of the (uncompressed) file.
    next_start: u64,
    /// Lines of this part so far.
    count: u64,
    stored_bytes: usize,
    /// The first line of the file that is no comment and not blank was seen before the current one.
    first_record_seen: bool,
    at_first_record: bool,
}

impl Lines {
    fn open(mut file: File, part: &FilePart) -> Result<Self> {
        let path = Path::new(&part.file.path);
        // One byte back, so that a line that begins exactly at `start` is ours.
        let from = part.start.saturating_sub(1);
        file.seek(SeekFrom::Start(from)).map_err(|error| io_error("read", path, error))?;
        let reader: Box<dyn Read + Send> = if compressed(&part.file.path) {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        let mut lines = Self {
            reader,
            buffer: vec![0; READ_BYTES],
            unread: 0..0,
            line: 0..0,
            next_start: from,
            count: 0,
            stored_bytes: 0,
            first_record_seen: part.start > 0,
            at_first_record: false,
        };
        if part.start > 0 {
            lines.read_line(part)?;
            lines.count = 0;
        }
        Ok(lines)
    }

    /// Reads the next line of the part; false at its end.
    fn advance(&mut self, part: &FilePart) -> Result<bool> {
        if self.next_start >= part.end || !self.read_line(part)? {
            return Ok(false);
        }
        self.at_first_record = !self.first_record_seen && !self.text().trim_ascii().is_empty();
        self.first_record_seen |= self.at_first_record;
        Ok(true)
    }

    fn read_line(&mut self, part: &FilePart) -> Result<bool> {
        let mut searched = 0;
        let length = loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(newline) = memchr::memchr(b'\n', &unread[searched..]) {
                break searched + newline + 1;
            }
            searched = unread.len();
            if !self.fill(part)? {
                break searched;
            }
        };
        self.line = self.unread.start..self.unread.start + length;
        self.unread.start += length;
        self.stored_bytes = length;
        self.next_start += length as u64;
        self.count += u64::from(length > 0);
        Ok(length > 0)
    }

    /// Reads more behind what is unread; false at the end.
    fn fill(&mut self, part: &FilePart) -> Result<bool> {
        let path = &part.file.path;
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == LONGEST_LINE_BYTES {
            return Err(EngineError::data(format!(
                "'{path}' has a line of more than {LONGEST_LINE_BYTES} bytes at byte {}",
                self.next_start
            ))
            .help("expected one record a line: write the file with line ends"));
        }
        if self.unread.end == self.buffer.len() {
            self.buffer.resize((self.buffer.len() * 2).min(LONGEST_LINE_BYTES), 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.unread.end..]) {
                Ok(read) => {
                    self.unread.end += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match error.kind() {
                        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                            EngineError::data(format!("'{path}' is not a whole gzip file")).caused_by(error)
                        }
                        _ => io_error("read", Path::new(path), error),
                    });
                }
            }
        }
    }

    /// The line without its end.
    fn text(&self) -> &[u8] {
        let line = &self.buffer[self.line.clone()];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    fn at_first_record(&self) -> bool {
        self.at_first_record
    }

    /// The 1-based number of the line; for a later part the lines before it are counted now.
    fn line_number(&self, part: &FilePart) -> Result<u64> {
        if part.start == 0 {
            return Ok(self.count);
        }
        let path = Path::new(&part.file.path);
        let file = File::open(path).map_err(|error| io_error("open", path, error))?;
        let mut before = BufReader::with_capacity(1 << 17, file.take(self.next_start - self.stored_bytes as u64));
        let mut newlines = 0;
        loop {
            let buffer = before.fill_buf().map_err(|error| io_error("read", path, error))?;
            if buffer.is_empty() {
                return Ok(newlines + 1);
            }
            newlines += memchr::memchr_iter(b'\n', buffer).count() as u64;
            let used = buffer.len();
            before.consume(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(path: &Path, start: u64, end: u64) -> Vec<(u64, String)> {
        let file = InputFile { path: path.to_string_lossy().into_owned(), modified_ms: 0, size: 0 };
        let part = FilePart { file, start, end };
        let mut lines = Lines::open(File::open(path).expect("open"), &part).expect("opened");
        let mut found = Vec::new();
        while lines.advance(&part).expect("read") {
            let number = lines.line_number(&part).expect("number");
            found.push((number, String::from_utf8_lossy(lines.text()).into_owned()));
        }
        found
    }

    #[test]
    fn wherever_a_file_is_cut_each_line_has_one_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        let text = "one\r\n\ntwo\nthree three\nfour";
        std::fs::write(&path, text).expect("written");
        let whole = lines_of(&path, 0, u64::MAX);
        assert_eq!(whole.last(), Some(&(5, "four".to_owned())));
        for cut in 1..text.len() as u64 {
            let mut both = lines_of(&path, 0, cut);
            both.extend(lines_of(&path, cut, u64::MAX));
            assert_eq!(both, whole, "cut at {cut}");
        }
    }
}
