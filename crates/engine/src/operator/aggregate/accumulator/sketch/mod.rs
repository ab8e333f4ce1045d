//! The sketches, one file each, and what several of them need.

mod bitmap;
mod count_min;
mod histogram;
mod hll;
mod hyperloglog;
mod quantiles;
mod top;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};

pub(crate) use bitmap::{Bitmap, BitmapInput};
pub(crate) use count_min::CountMin;
pub(crate) use histogram::Histogram;
pub(crate) use hll::{HllUnions, HllValues, hll_bytes, hll_sketch, hll_unite};
pub(crate) use hyperloglog::{HyperLogLog, precision};
pub(crate) use quantiles::Quantiles;
pub(crate) use top::TopK;

use crate::error::{EngineError, Result};

/// Values as sketches hash them.
pub(crate) enum Values {
    Longs(Int64Array),
    Bytes(BinaryArray),
}

impl Values {
    /// Texts and bytes as they are, and whole numbers of any width.
    fn of(values: &ArrayRef) -> Result<Self> {
        Ok(match values.data_type() {
            DataType::Utf8 | DataType::Binary => {
                Self::Bytes(cast(values, &DataType::Binary)?.as_binary::<i32>().clone())
            }
            _ => Self::Longs(cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        })
    }
}

/// Numbers, dates and times as doubles.
fn doubles(column: &ArrayRef) -> Result<Float64Array> {
    let numbers = match column.data_type() {
        DataType::Date32 => cast(column, &DataType::Int32)?,
        DataType::Timestamp(..) => cast(column, &DataType::Int64)?,
        _ => std::sync::Arc::clone(column),
    };
    Ok(cast(&numbers, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// Doubles as the type they came from: whole numbers are cut, decimals rounded.
fn from_doubles(values: Float64Array, to: &DataType) -> Result<ArrayRef> {
    let values: ArrayRef = std::sync::Arc::new(values);
    Ok(match to {
        DataType::Date32 => cast(&cast(&values, &DataType::Int32)?, to)?,
        DataType::Timestamp(..) => cast(&cast(&values, &DataType::Int64)?, to)?,
        _ => cast(&values, to)?,
    })
}

/// Reads stored bytes front to back.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*first)
    }

    fn long(&mut self) -> Result<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn double(&mut self) -> Result<f64> {
        self.take().map(f64::from_be_bytes)
    }

    fn int(&mut self) -> Result<usize> {
        self.take().map(|bytes| u32::from_be_bytes(bytes) as usize)
    }
}

fn damaged() -> EngineError {
    EngineError::internal("the stored state of a sketch is shorter than it says")
}

/// Java's `java.util.Random`: what Spark's sketches draw from follows from their seed.
struct JavaRandom(u64);

impl JavaRandom {
    const MASK: u64 = (1 << 48) - 1;

    fn new(seed: i64) -> Self {
        Self((seed.cast_unsigned() ^ 0x5_DEEC_E66D) & Self::MASK)
    }

    fn next(&mut self, bits: u32) -> i32 {
        self.0 = (self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB)) & Self::MASK;
        (self.0 >> (48 - bits)) as i32
    }

    /// A whole number from 0 up to `bound`, which is no power of two.
    fn below(&mut self, bound: i32) -> i32 {
        loop {
            let bits = self.next(31);
            let value = bits % bound;
            if bits.checked_sub(value).and_then(|low| low.checked_add(bound - 1)).is_some() {
                return value;
            }
        }
    }

    /// A double from 0 up to 1.
    fn double(&mut self) -> f64 {
        let (high, low) = (i64::from(self.next(26)), i64::from(self.next(27)));
        ((high << 27) + low) as f64 / (1_i64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_javas() {
        let mut random = JavaRandom::new(42);
        assert_eq!(random.next(32), -1_170_105_035);
        assert_eq!(random.next(32), 234_785_527);
        assert_eq!(JavaRandom::new(42).double().to_string(), "0.7275636800328681");
    }
}
