//! Dead letters: the records of a batch that could not be read, with their bytes and the reason.
//!
//! ```text
//!   dead_letters/N.jsonl:
//!     {"origin":"payments","partition":3,"offset":17,"reason":"..","value":"<base64>","text":"<if UTF-8>"}
//!     ...
//!     {"end":{"records":2,"total":9,"crc32c":"1a2b3c4d"}}     of every byte above and both counts
//! ```
//!
//! `total` counts the earlier batches too. A file appears whole and under its batch id: a replayed batch finds the same
//! records and writes the same, so that nothing is counted twice. Every line is JSON, so that any tool reads it. Retention
//! leaves the files alone.
//!
//! Letters are written while the batch is read and read back line by line: a topic in the wrong format is one letter a
//! record, which no memory has room for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::store::{Entry, ObjectWriter};
use super::{CheckpointDir, DEAD_LETTERS, text};
use crate::error::{EngineError, Result};
use crate::sink::BatchId;
use crate::source::DeadLetter;

/// The dead letters of a query.
#[derive(Debug)]
pub struct DeadLetters {
    checkpoint: CheckpointDir,
    /// The newest batches with letters and the totals up to them: one batch back is enough for a replay.
    totals: Mutex<Vec<(BatchId, u64)>>,
}

/// The dead letters of the batch under way; dropped before [`DeadLetters::keep`] they leave nothing.
pub(crate) struct BatchLetters {
    checkpoint: CheckpointDir,
    batch_id: BatchId,
    /// Begun with the first letter.
    open: Mutex<Option<OpenFile>>,
}

struct OpenFile {
    out: Box<dyn ObjectWriter>,
    records: u64,
    /// Of the lines so far.
    crc: u32,
}

/// Lines that are handed to the file at a time, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// More than the last line of a file ever has.
const END_BYTES: u64 = 256;

#[derive(Serialize, Deserialize)]
struct Line {
    origin: String,
    partition: Option<i32>,
    offset: i64,
    reason: String,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct LastLine {
    end: End,
}

#[derive(Default, Serialize, Deserialize)]
struct End {
    records: u64,
    total: u64,
    crc32c: String,
}

impl DeadLetters {
    /// Opens the folder and reads the totals, which are in the last lines of the newest files: those may be large.
    pub fn open(checkpoint: &CheckpointDir) -> Result<Self> {
        let letters = Self { checkpoint: checkpoint.clone(), totals: Mutex::new(Vec::new()) };
        let files = letters.files()?;
        let mut totals = Vec::new();
        for (batch_id, size_bytes) in files.iter().rev().take(2).rev() {
            totals.push((*batch_id, letters.end(*batch_id, *size_bytes)?.total));
        }
        *letters.totals.lock() = totals;
        Ok(letters)
    }

    /// A place for the dead letters of a batch.
    pub(crate) fn of_batch(&self, batch_id: BatchId) -> BatchLetters {
        BatchLetters { checkpoint: self.checkpoint.clone(), batch_id, open: Mutex::new(None) }
    }

    /// Ends the file of a batch, durable when this returns; no file if there are no letters.
    pub(crate) fn keep(&self, letters: BatchLetters) -> Result<()> {
        let BatchLetters { checkpoint, batch_id, open } = letters;
        let Some(OpenFile { mut out, records, crc }) = open.into_inner() else { return Ok(()) };
        let mut totals = self.totals.lock();
        let earlier = totals.iter().rev().find(|(batch, _)| *batch < batch_id).map_or(0, |(_, total)| *total);
        let total = earlier + records;
        let mut line = Vec::new();
        let end = End { records, total, crc32c: checksum(crc, records, total) };
        write_line(&LastLine { end }, &mut line)?;
        // A newer run may have come since the file was begun.
        checkpoint.writable()?;
        out.write_all(&line).map_err(|error| cannot_write(&checkpoint, batch_id, error))?;
        out.finish()?;
        totals.retain(|(batch, _)| *batch < batch_id);
        totals.push((batch_id, total));
        let surplus = totals.len().saturating_sub(2);
        totals.drain(..surplus);
        Ok(())
    }

    /// How many records became dead letters in the life of the checkpoint.
    pub fn total(&self) -> u64 {
        self.totals.lock().last().map_or(0, |(_, total)| *total)
    }

    /// The batches that have dead letters, in order.
    pub fn batches(&self) -> Result<Vec<BatchId>> {
        Ok(self.files()?.into_keys().collect())
    }

    /// The size of each batch's file.
    fn files(&self) -> Result<BTreeMap<BatchId, u64>> {
        let entries = self.checkpoint.store().list(DEAD_LETTERS)?;
        let file = |entry: &Entry| Some((entry.name.strip_suffix(".jsonl")?.parse().ok()?, entry.size_bytes));
        Ok(entries.iter().filter_map(file).collect())
    }

    /// Gives the dead letters of a batch to `f`, one by one, and says how many there are. What `f` has seen is only certain
    /// with the answer: the checksum comes last.
    pub fn read(&self, batch_id: BatchId, mut f: impl FnMut(DeadLetter)) -> Result<u64> {
        self.each(batch_id, &mut |line| decode_line(line).map(&mut f)).map(|end| end.records)
    }

    /// The last line of a file. Whether the others are whole is found by those who read them.
    fn end(&self, batch_id: BatchId, size_bytes: u64) -> Result<End> {
        let name = file_name(batch_id);
        let from = size_bytes.saturating_sub(END_BYTES);
        let Some(input) = self.checkpoint.store().open_at(&name, from)? else { return Ok(End::default()) };
        let mut last = Vec::new();
        let read = input.take(END_BYTES).read_to_end(&mut last).map_err(|error| error.to_string());
        let end = read.and_then(|_| {
            let line = last.strip_suffix(b"\n").and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next());
            let end = line.and_then(|line| serde_json::from_slice::<LastLine>(line).ok());
            end.map(|line| line.end).ok_or_else(|| torn(size_bytes))
        });
        end.map_err(|found| text::damaged(&self.checkpoint.store().address(&name), &found))
    }

    fn each(&self, batch_id: BatchId, f: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<End> {
        let name = file_name(batch_id);
        let address = self.checkpoint.store().address(&name);
        match self.checkpoint.store().open(&name)? {
            Some(input) => decode(input, f).map_err(|found| text::damaged(&address, &found)),
            None => Ok(End::default()),
        }
    }
}

impl BatchLetters {
    /// Writes letters. Threads that do so at once write theirs one after another.
    pub(crate) fn add(&self, letters: &[DeadLetter]) -> Result<()> {
        let (mut lines, mut records) = (Vec::new(), 0);
        for letter in letters {
            encode_line(letter, &mut lines)?;
            records += 1;
            if lines.len() >= CHUNK_BYTES {
                self.write(&lines, records)?;
                lines.clear();
                records = 0;
            }
        }
        if records > 0 { self.write(&lines, records) } else { Ok(()) }
    }

    fn write(&self, lines: &[u8], records: u64) -> Result<()> {
        let mut open = self.open.lock();
        let file = match open.take() {
            Some(file) => open.insert(file),
            None => {
                let out = self.checkpoint.writable()?.writer(&file_name(self.batch_id))?;
                open.insert(OpenFile { out, records: 0, crc: 0 })
            }
        };
        file.out.write_all(lines).map_err(|error| cannot_write(&self.checkpoint, self.batch_id, error))?;
        file.crc = crc32c::crc32c_append(file.crc, lines);
        file.records += records;
        Ok(())
    }
}

fn cannot_write(checkpoint: &CheckpointDir, batch_id: BatchId, error: std::io::Error) -> EngineError {
    EngineError::unavailable(format!("cannot write {}", checkpoint.store().address(&file_name(batch_id))))
        .caused_by(error)
        .help("check the free space of that disk, then start the query again")
}

fn file_name(batch_id: BatchId) -> String {
    format!("{DEAD_LETTERS}/{batch_id}.jsonl")
}

fn encode_line(letter: &DeadLetter, lines: &mut Vec<u8>) -> Result<()> {
    let line = Line {
        origin: letter.origin.clone(),
        partition: letter.partition,
        offset: letter.offset,
        reason: letter.reason.clone(),
        value: BASE64.encode(&letter.value),
        text: std::str::from_utf8(&letter.value).ok().map(str::to_owned),
    };
    write_line(&line, lines)
}

fn write_line(line: &impl Serialize, lines: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(&mut *lines, line).map_err(|error| EngineError::internal(DEAD_LETTERS).caused_by(error))?;
    lines.push(b'\n');
    Ok(())
}

fn torn(bytes: impl std::fmt::Display) -> String {
    format!("it is torn: {bytes} bytes without an end line")
}

/// `crc` is that of the lines.
fn checksum(crc: u32, records: u64, total: u64) -> String {
    format!("{:08x}", crc32c::crc32c_append(crc, format!("{records} {total}").as_bytes()))
}

/// Gives each line but the last to `f`; the last says whether they are whole.
fn decode(input: impl Read, f: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<End, String> {
    let mut input = BufReader::with_capacity(1 << 18, input);
    let (mut line, mut next) = (Vec::new(), Vec::new());
    let (mut crc, mut records, mut bytes) = (0, 0, 0);
    loop {
        next.clear();
        bytes += input.read_until(b'\n', &mut next).map_err(|error| error.to_string())?;
        if next.is_empty() {
            break;
        }
        if !line.is_empty() {
            crc = crc32c::crc32c_append(crc, &line);
            f(line.trim_ascii_end())?;
            records += 1;
        }
        std::mem::swap(&mut line, &mut next);
    }
    let last = line.strip_suffix(b"\n").ok_or_else(|| torn(bytes))?;
    let LastLine { end } = serde_json::from_slice(last).map_err(|_| torn(bytes))?;
    if end.crc32c != checksum(crc, end.records, end.total) {
        return Err("its content does not match its checksum".to_owned());
    }
    if records != end.records {
        return Err(format!("it has {records} records, expected {}", end.records));
    }
    Ok(end)
}

fn decode_line(line: &[u8]) -> Result<DeadLetter, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let value = BASE64.decode(&line.value).map_err(|error| error.to_string())?;
    let Line { origin, partition, offset, reason, .. } = line;
    Ok(DeadLetter { origin, partition, offset, reason, value })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{checkpoint, open};
    use super::*;

    fn letter(offset: i64, value: &[u8]) -> DeadLetter {
        let reason = "expected `,` at column 7".to_owned();
        DeadLetter { origin: "payments".to_owned(), partition: Some(3), offset, reason, value: value.to_vec() }
    }

    fn write(to: &DeadLetters, batch_id: BatchId, letters: &[DeadLetter]) {
        let of_batch = to.of_batch(batch_id);
        of_batch.add(letters).unwrap();
        to.keep(of_batch).unwrap();
    }

    fn read(from: &DeadLetters, batch_id: BatchId) -> Vec<DeadLetter> {
        let mut letters = Vec::new();
        assert_eq!(from.read(batch_id, |letter| letters.push(letter)).unwrap(), letters.len() as u64);
        letters
    }

    #[test]
    fn a_replayed_batch_counts_once() {
        let (dir, checkpoint) = checkpoint();
        let letters = DeadLetters::open(&checkpoint).unwrap();
        write(&letters, 3, &[letter(1, b"{"), letter(2, &[0xff, 0])]);
        write(&letters, 4, &[]);
        write(&letters, 5, &[letter(9, b"x\n")]);
        write(&letters, 5, &[letter(9, b"x\n")]);
        assert_eq!(letters.total(), 3);
        drop((letters, checkpoint));
        let letters = DeadLetters::open(&open(dir.path())).unwrap();
        write(&letters, 5, &[letter(9, b"x\n")]);
        assert_eq!(letters.total(), 3);
        write(&letters, 6, &[letter(10, b"y")]);
        assert_eq!(letters.total(), 4);
        assert_eq!(letters.batches().unwrap(), [3, 5, 6]);
        assert_eq!(read(&letters, 3), [letter(1, b"{"), letter(2, &[0xff, 0])]);
        assert_eq!(read(&letters, 4), []);
    }

    #[test]
    fn every_line_is_json_with_the_text_beside_the_bytes() {
        let (dir, checkpoint) = checkpoint();
        write(&DeadLetters::open(&checkpoint).unwrap(), 0, &[letter(1, b"{\"a")]);
        let written = std::fs::read_to_string(dir.path().join("dead_letters/0.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["text"], "{\"a");
        assert_eq!(lines[0]["value"], "eyJh");
        assert_eq!(lines[1]["end"]["records"], 1);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let (dir, checkpoint) = checkpoint();
        write(&DeadLetters::open(&checkpoint).unwrap(), 2, &[letter(1, b"{"), letter(2, &[0xff, 0])]);
        let whole = std::fs::read(dir.path().join("dead_letters/2.jsonl")).unwrap();
        let decode = |bytes: &[u8]| decode(bytes, &mut |line| decode_line(line).map(drop));
        assert!(decode(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_err(), "{end}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "{bit}");
        }
        for end in [0, 9, whole.len() - 1] {
            std::fs::write(dir.path().join("dead_letters/4.jsonl"), &whole[..end]).unwrap();
            let error = DeadLetters::open(&checkpoint).unwrap_err().to_string();
            let expected = format!("dead_letters/4.jsonl is damaged: it is torn: {end} bytes");
            assert!(error.contains(&expected), "{error}");
        }
    }

    /// Several threads write them, bit by bit; of a batch that fails nothing is left.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "joined by the scope")]
    fn letters_are_written_as_they_come() {
        let (dir, checkpoint) = checkpoint();
        let letters = DeadLetters::open(&checkpoint).unwrap();
        let all: Vec<DeadLetter> = (0..300).map(|offset| letter(offset, &[b'x'; 5000])).collect();
        let failed = letters.of_batch(7);
        failed.add(&all).unwrap();
        let on_disk = || {
            let files = std::fs::read_dir(dir.path().join("dead_letters")).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
        };
        assert!(on_disk() > 1 << 20, "{}", on_disk());
        drop(failed);
        assert_eq!((on_disk(), letters.batches().unwrap().len()), (0, 0));
        let again = letters.of_batch(7);
        std::thread::scope(|scope| {
            for part in all.chunks(100) {
                let again = &again;
                scope.spawn(move || part.chunks(30).for_each(|letters| again.add(letters).unwrap()));
            }
        });
        assert!(letters.batches().unwrap().is_empty(), "not before the batch is done");
        letters.keep(again).unwrap();
        let mut found = read(&letters, 7);
        found.sort_by_key(|letter| letter.offset);
        assert!(found == all && letters.total() == 300);
    }
}
