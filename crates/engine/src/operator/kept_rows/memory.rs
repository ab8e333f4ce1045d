//! Kept rows in memory: chunks of columns, and the chains that rows of one key are in.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::compute::interleave;

use super::{Chunk, Entry, KeptRows, NONE, Row, RowRef};
use crate::error::{EngineError, Result};

impl KeptRows {
    pub(super) fn add_chunk(&mut self, columns: Vec<ArrayRef>, rows: usize) -> u32 {
        let bytes = columns.iter().map(|column| column.get_array_memory_size()).sum();
        self.chunk_bytes += bytes;
        let chunk = Chunk { columns, live: u32::try_from(rows).unwrap_or(u32::MAX), bytes };
        place_in(&mut self.chunks, &mut self.free_chunks, Some(chunk))
    }

    /// The entry of a key, made if it is not there.
    pub(super) fn entry(&mut self, hash: u64, key: &[u8]) -> u32 {
        let entries = &self.entries;
        let found =
            self.index.find(hash, |at| entries[*at as usize].hash == hash && *entries[*at as usize].key == *key);
        if let Some(found) = found {
            return *found;
        }
        self.key_bytes += key.len();
        let entry = Entry { hash, key: key.into(), first: NONE };
        let at = place_in(&mut self.entries, &mut self.free_entries, entry);
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |at| entries[*at as usize].hash);
        at
    }

    /// Adds a row to its key and its bucket.
    pub(super) fn link(&mut self, bucket: i64, mut row: Row, sequence: u64) -> u32 {
        let first = self.entries[row.entry as usize].first;
        row.next = first;
        let number = place_in(&mut self.rows, &mut self.free_rows, row);
        if first != NONE {
            self.rows[first as usize].previous = number;
        }
        self.entries[row.entry as usize].first = number;
        self.buckets.entry(bucket).or_default().rows.push((number, sequence));
        number
    }

    /// Takes a row out of memory.
    pub(super) fn unlink(&mut self, number: u32) {
        let row = self.rows[number as usize];
        match row.previous {
            NONE => self.entries[row.entry as usize].first = row.next,
            previous => self.rows[previous as usize].next = row.next,
        }
        if row.next != NONE {
            self.rows[row.next as usize].previous = row.previous;
        }
        if self.entries[row.entry as usize].first == NONE {
            self.drop_entry(row.entry);
        }
        self.rows[number as usize].sequence = None;
        self.free_rows.push(number);
        let chunk = &mut self.chunks[row.chunk as usize];
        if let Some(held) = chunk {
            held.live -= 1;
            if held.live == 0 {
                self.chunk_bytes -= held.bytes;
                *chunk = None;
                self.free_chunks.push(row.chunk);
            }
        }
    }

    pub(super) fn drop_entry(&mut self, at: u32) {
        let hash = self.entries[at as usize].hash;
        if let Ok(found) = self.index.find_entry(hash, |found| *found == at) {
            found.remove();
        }
        self.key_bytes -= self.entries[at as usize].key.len();
        self.entries[at as usize].key = Box::default();
        self.free_entries.push(at);
    }

    /// The columns of some rows.
    pub(crate) fn columns(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        // Few chunks are met by one call: they are numbered anew.
        let mut local: BTreeMap<u32, usize> = BTreeMap::new();
        let mut chunks: Vec<&Chunk> = Vec::new();
        let mut places = Vec::with_capacity(numbers.len());
        for number in numbers {
            let row = &self.rows[*number as usize];
            let Some(chunk) = &self.chunks[row.chunk as usize] else {
                return Err(EngineError::internal("a kept row has lost its columns"));
            };
            let at = *local.entry(row.chunk).or_insert_with(|| {
                chunks.push(chunk);
                chunks.len() - 1
            });
            places.push((at, row.at as usize));
        }
        let width = self.spec.types.len();
        (0..width)
            .map(|column| {
                let arrays: Vec<&dyn arrow::array::Array> =
                    chunks.iter().map(|chunk| chunk.columns[column].as_ref()).collect();
                Ok(interleave(&arrays, &places)?)
            })
            .collect()
    }

    /// Memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.chunk_bytes
            + self.key_bytes
            + self.loaded_bytes
            + (self.rows.len() - self.free_rows.len()) * (size_of::<Row>() + 3 * size_of::<RowRef>())
            + (self.entries.len() - self.free_entries.len()) * (size_of::<Entry>() + 2 * size_of::<u32>())
    }
}

/// Puts a value into a free place, or a new one.
pub(super) fn place_in<T>(places: &mut Vec<T>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(at) => {
            places[at as usize] = value;
            at
        }
        None => {
            places.push(value);
            u32::try_from(places.len() - 1).unwrap_or(NONE)
        }
    }
}
