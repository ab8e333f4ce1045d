//! `bitmap_construct_agg`, `bitmap_or_agg`, `bitmap_and_agg`: bitmaps of 32,768 bits, as bytes with the lowest bit first.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use crate::error::{EngineError, Result};
use crate::operator::aggregate::accumulator::summary::Summary;

/// Bytes of a bitmap.
const BYTES: usize = 4096;

/// What the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BitmapInput {
    /// Positions of bits to be set.
    Positions,
    /// Bitmaps, any of whose bits are set.
    Or,
    /// Bitmaps, whose bits must all be set.
    And,
}

/// The kind of bitmap.
pub(crate) struct Bitmap(pub(crate) BitmapInput);

pub(crate) enum Rows {
    Positions(Int64Array),
    Bitmaps(BinaryArray),
}

impl Bitmap {
    fn combine(&self, state: &mut Vec<u8>, bitmap: &[u8]) {
        if state.is_empty() {
            state.resize(BYTES, if self.0 == BitmapInput::And { 0xff } else { 0 });
        }
        for (at, byte) in state.iter_mut().enumerate() {
            let other = bitmap.get(at).copied().unwrap_or(0);
            *byte = if self.0 == BitmapInput::And { *byte & other } else { *byte | other };
        }
    }
}

impl Summary for Bitmap {
    type State = Vec<u8>;
    type Rows = Rows;

    fn prepare(&self, args: &[ArrayRef]) -> Result<Rows> {
        Ok(match self.0 {
            BitmapInput::Positions => {
                Rows::Positions(cast(&args[0], &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            _ => Rows::Bitmaps(args[0].as_binary::<i32>().clone()),
        })
    }

    fn add(&self, state: &mut Vec<u8>, rows: &Rows, row: usize) -> Result<()> {
        let positions = match rows {
            Rows::Bitmaps(bitmaps) => {
                self.combine(state, bitmaps.value(row));
                return Ok(());
            }
            Rows::Positions(positions) => positions,
        };
        let position = positions.value(row);
        let place = usize::try_from(position).ok().filter(|place| *place < BYTES * 8).ok_or_else(|| {
            EngineError::data(format!("[INVALID_BITMAP_POSITION] a bitmap has no bit {position}"))
                .help("use bitmap_bit_position(x), and group by bitmap_bucket_number(x)")
        })?;
        state.resize(BYTES, 0);
        state[place / 8] |= 1 << (place % 8);
        Ok(())
    }

    fn merge(&self, state: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
        self.combine(state, bytes);
        Ok(())
    }

    /// The bitmap without the zeros at its end.
    fn bytes(&self, state: &Vec<u8>) -> Vec<u8> {
        let used = state.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        state[..used].to_vec()
    }

    fn size_bytes(state: &Vec<u8>) -> usize {
        state.capacity()
    }

    fn answers(&self, states: &[Option<&Vec<u8>>]) -> Result<ArrayRef> {
        let empty = vec![if self.0 == BitmapInput::And { 0xff } else { 0 }; BYTES];
        let bitmap = |state: &Option<&Vec<u8>>| state.map_or_else(|| empty.clone(), Clone::clone);
        Ok(Arc::new(BinaryArray::from_iter_values(states.iter().map(bitmap))))
    }
}
