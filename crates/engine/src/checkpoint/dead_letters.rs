//! Dead letters: the records of a batch that could not be read, with their bytes and the reason.
//!
//! ```text
//!   dead_letters/N.jsonl:
//!     {"origin":"payments","partition":3,"offset":17,"reason":"..","value":"<base64>","text":"<if UTF-8>"}
//!     ...
//!     {"end":{"records":2,"total":9,"crc32c":"1a2b3c4d"}}     of every byte above and both counts
//! ```
//!
//! `total` counts the earlier batches too. A file is written whole and under its batch id: a replayed batch finds the same records and writes the same file, so
//! nothing is counted twice. Every line is JSON, so that any tool reads it. Retention leaves the files alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

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

#[derive(Serialize, Deserialize)]
struct End {
    records: u64,
    total: u64,
    crc32c: String,
}

impl DeadLetters {
    /// Opens the folder and reads the totals.
    pub fn open(checkpoint: &CheckpointDir) -> Result<Self> {
        let letters = Self { checkpoint: checkpoint.clone(), totals: Mutex::new(Vec::new()) };
        let batches = letters.batches()?;
        let mut totals = Vec::new();
        for batch_id in batches.iter().rev().take(2).rev() {
            totals.push((*batch_id, letters.decode(*batch_id)?.1.total));
        }
        *letters.totals.lock() = totals;
        Ok(letters)
    }

    /// Writes the dead letters of a batch, durable when this returns; no file if there are none.
    pub fn write(&self, batch_id: BatchId, letters: &[DeadLetter]) -> Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut totals = self.totals.lock();
        let earlier = totals.iter().rev().find(|(batch, _)| *batch < batch_id).map_or(0, |(_, total)| *total);
        let total = earlier + letters.len() as u64;
        let bytes = encode(letters, total).map_err(|error| EngineError::internal(DEAD_LETTERS).caused_by(error))?;
        self.checkpoint.writable()?.replace(&file_name(batch_id), &bytes)?;
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
        let entries = self.checkpoint.store().list(DEAD_LETTERS)?;
        let names = entries.iter().filter_map(|entry| entry.name.strip_suffix(".jsonl"));
        let mut batches: Vec<BatchId> = names.filter_map(|stem| stem.parse().ok()).collect();
        batches.sort_unstable();
        Ok(batches)
    }

    /// The dead letters of a batch; empty if it has none.
    pub fn read(&self, batch_id: BatchId) -> Result<Vec<DeadLetter>> {
        self.decode(batch_id).map(|(letters, _)| letters)
    }

    fn decode(&self, batch_id: BatchId) -> Result<(Vec<DeadLetter>, End)> {
        let name = file_name(batch_id);
        let address = self.checkpoint.store().address(&name);
        match self.checkpoint.store().read(&name)? {
            Some(bytes) => decode(&bytes).map_err(|found| text::damaged(&address, &found)),
            None => Ok((Vec::new(), End { records: 0, total: 0, crc32c: String::new() })),
        }
    }
}

fn file_name(batch_id: BatchId) -> String {
    format!("{DEAD_LETTERS}/{batch_id}.jsonl")
}

fn encode(letters: &[DeadLetter], total: u64) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for letter in letters {
        let line = Line {
            origin: letter.origin.clone(),
            partition: letter.partition,
            offset: letter.offset,
            reason: letter.reason.clone(),
            value: BASE64.encode(&letter.value),
            text: std::str::from_utf8(&letter.value).ok().map(str::to_owned),
        };
        serde_json::to_writer(&mut bytes, &line)?;
        bytes.push(b'\n');
    }
    let records = letters.len() as u64;
    let crc32c = checksum(&bytes, records, total);
    serde_json::to_writer(&mut bytes, &LastLine { end: End { records, total, crc32c } })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn checksum(body: &[u8], records: u64, total: u64) -> String {
    format!("{:08x}", crc32c::crc32c_append(crc32c::crc32c(body), format!("{records} {total}").as_bytes()))
}

fn decode(bytes: &[u8]) -> Result<(Vec<DeadLetter>, End), String> {
    let torn = || format!("it is torn: {} bytes without an end line", bytes.len());
    let (newline, rest) = bytes.split_last().ok_or_else(torn)?;
    let start = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (body, last) = rest.split_at(start);
    let LastLine { end } = serde_json::from_slice(last).map_err(|_| torn())?;
    if *newline != b'\n' || end.crc32c != checksum(body, end.records, end.total) {
        return Err("its content does not match its checksum".to_owned());
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let letters: Vec<DeadLetter> = lines.map(decode_line).collect::<Result<_, _>>()?;
    if letters.len() as u64 != end.records {
        return Err(format!("it has {} records, expected {}", letters.len(), end.records));
    }
    Ok((letters, end))
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

    #[test]
    fn a_replayed_batch_counts_once() {
        let (dir, checkpoint) = checkpoint();
        let letters = DeadLetters::open(&checkpoint).unwrap();
        letters.write(3, &[letter(1, b"{"), letter(2, &[0xff, 0])]).unwrap();
        letters.write(4, &[]).unwrap();
        letters.write(5, &[letter(9, b"x\n")]).unwrap();
        letters.write(5, &[letter(9, b"x\n")]).unwrap();
        assert_eq!(letters.total(), 3);
        drop((letters, checkpoint));
        let letters = DeadLetters::open(&open(dir.path())).unwrap();
        letters.write(5, &[letter(9, b"x\n")]).unwrap();
        assert_eq!(letters.total(), 3);
        letters.write(6, &[letter(10, b"y")]).unwrap();
        assert_eq!(letters.total(), 4);
        assert_eq!(letters.batches().unwrap(), [3, 5, 6]);
        assert_eq!(letters.read(3).unwrap(), [letter(1, b"{"), letter(2, &[0xff, 0])]);
        assert_eq!(letters.read(4).unwrap(), []);
    }

    #[test]
    fn every_line_is_json_with_the_text_beside_the_bytes() {
        let (dir, checkpoint) = checkpoint();
        DeadLetters::open(&checkpoint).unwrap().write(0, &[letter(1, b"{\"a")]).unwrap();
        let written = std::fs::read_to_string(dir.path().join("dead_letters/0.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["text"], "{\"a");
        assert_eq!(lines[0]["value"], "eyJh");
        assert_eq!(lines[1]["end"]["records"], 1);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let whole = encode(&[letter(1, b"{"), letter(2, &[0xff, 0])], 2).unwrap();
        assert!(decode(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_err(), "{end}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "{bit}");
        }
        let (dir, checkpoint) = checkpoint();
        std::fs::write(dir.path().join("dead_letters/4.jsonl"), &whole[..9]).unwrap();
        let error = DeadLetters::open(&checkpoint).unwrap_err();
        assert!(error.to_string().contains("dead_letters/4.jsonl is damaged: it is torn"), "{error}");
    }
}
