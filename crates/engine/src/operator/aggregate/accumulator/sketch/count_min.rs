//! `count_min_sketch`: how often each value came, at least; the bytes are those of Spark's `CountMinSketch`.
//!
//! ```text
//!   version 1 (4 bytes) | rows (8) | depth (4) | width (4) | depth hash factors (8 each) | depth * width counts (8 each)
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};

use super::{JavaRandom, Reader, Values, damaged};
use crate::error::Result;
use crate::operator::aggregate::accumulator::summary::Summary;
use crate::plan::functions::hash_bytes;

/// The kind of sketch: its size, and the factors it hashes whole numbers with.
pub(crate) struct CountMin {
    depth: usize,
    width: usize,
    factors: Vec<i64>,
}

/// The counts of one group, row by row.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    rows: i64,
    counts: Vec<i64>,
}

const PRIME: i64 = (1 << 31) - 1;

impl CountMin {
    pub(crate) fn new(error: f64, confidence: f64, seed: i64) -> Self {
        let width = (2.0 / error).ceil() as usize;
        let depth = (-(1.0 - confidence).ln() / 2_f64.ln()).ceil() as usize;
        let mut random = JavaRandom::new(seed);
        let factors = (0..depth).map(|_| random.below(i32::MAX).into()).collect();
        Self { depth, width, factors }
    }

    fn buckets(&self, values: &Values, row: usize) -> Vec<usize> {
        match values {
            Values::Longs(values) => {
                let bucket = |factor: &i64| {
                    let hash = factor.wrapping_mul(values.value(row));
                    let hash = hash.wrapping_add(hash >> 32) & PRIME;
                    hash as usize % self.width
                };
                self.factors.iter().map(bucket).collect()
            }
            Values::Bytes(values) => {
                let first = hash_bytes(values.value(row), 0);
                let second = hash_bytes(values.value(row), first);
                let bucket = |at: usize| {
                    let hash = first.wrapping_add(second.wrapping_mul(at as i32));
                    (hash % self.width as i32).unsigned_abs() as usize
                };
                (0..self.depth).map(bucket).collect()
            }
        }
    }
}

impl Summary for CountMin {
    type State = Counts;
    type Rows = Values;

    fn prepare(&self, args: &[ArrayRef]) -> Result<Values> {
        Values::of(&args[0])
    }

    fn add(&self, state: &mut Counts, rows: &Values, row: usize) -> Result<()> {
        state.counts.resize(self.depth * self.width, 0);
        state.rows += 1;
        for (at, bucket) in self.buckets(rows, row).into_iter().enumerate() {
            state.counts[at * self.width + bucket] += 1;
        }
        Ok(())
    }

    fn merge(&self, state: &mut Counts, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader(bytes);
        reader.int()?;
        state.rows += reader.long()?;
        if (reader.int()?, reader.int()?) != (self.depth, self.width) {
            return Err(damaged());
        }
        for _ in 0..self.depth {
            reader.long()?;
        }
        state.counts.resize(self.depth * self.width, 0);
        state.counts.iter_mut().try_for_each(|count| {
            *count += reader.long()?;
            Ok(())
        })
    }

    fn bytes(&self, state: &Counts) -> Vec<u8> {
        let mut bytes = 1_i32.to_be_bytes().to_vec();
        bytes.extend(state.rows.to_be_bytes());
        bytes.extend((self.depth as i32).to_be_bytes());
        bytes.extend((self.width as i32).to_be_bytes());
        bytes.extend(self.factors.iter().flat_map(|factor| factor.to_be_bytes()));
        let count = |at: usize| state.counts.get(at).copied().unwrap_or(0);
        bytes.extend((0..self.depth * self.width).flat_map(|at| count(at).to_be_bytes()));
        bytes
    }

    fn size_bytes(state: &Counts) -> usize {
        state.counts.capacity() * size_of::<i64>()
    }

    fn answers(&self, states: &[Option<&Counts>]) -> Result<ArrayRef> {
        let empty = Counts::default();
        let bytes = states.iter().map(|state| self.bytes(state.unwrap_or(&empty)));
        Ok(Arc::new(BinaryArray::from_iter_values(bytes)))
    }
}
