//! Counts, sums and bits: one number a group.
//!
//! The way most rows of most queries go, so nothing here allocates or calls per row. `avg` is a sum and a count; what
//! it divides is decided when the query is planned.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit,
};

use super::{Accumulator, any_null, for_each_valid};
use crate::error::{EngineError, Result};
use crate::plan::functions::sum::{self, add_decimal, add_interval};

/// `count(*)` and `count(x, ...)`: rows whose arguments are all there.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots.max(self.counts.len()), 0);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        for_each_valid(any_null(args).as_ref(), slots, |_, slot| self.counts[slot] += 1);
        Ok(())
    }

    fn retract(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        for_each_valid(any_null(args).as_ref(), slots, |_, slot| self.counts[slot] -= 1);
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let counts = state[0].as_primitive::<Int64Type>();
        for_each_valid(None, slots, |row, slot| self.counts[slot] += counts.value(row));
        Ok(())
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| self.counts[*slot as usize]))))
    }

    fn reset(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.counts[*slot as usize] = 0);
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn size_bytes(&self) -> usize {
        size_of_val(self.counts.as_slice())
    }
}

/// `sum`, `min` and `max` of numbers: one value a group, null until the first row.
pub(super) struct Fold<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    seen: Vec<bool>,
    data_type: DataType,
    step: fn(T::Native, T::Native) -> Result<T::Native>,
}

impl<T: ArrowPrimitiveType> Fold<T> {
    /// `step` puts a new value into an old one; it must not care about order or grouping.
    pub(super) fn new(data_type: DataType, step: fn(T::Native, T::Native) -> Result<T::Native>) -> Self {
        Self { values: Vec::new(), seen: Vec::new(), data_type, step }
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Fold<T> {
    fn grow(&mut self, slots: usize) {
        let slots = slots.max(self.values.len());
        self.values.resize(slots, T::Native::default());
        self.seen.resize(slots, false);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let values = args[0].as_primitive::<T>();
        let mut failed = None;
        for_each_valid(values.nulls(), slots, |row, slot| {
            let value = values.value(row);
            if !self.seen[slot] {
                self.seen[slot] = true;
                self.values[slot] = value;
                return;
            }
            match (self.step)(self.values[slot], value) {
                Ok(folded) => self.values[slot] = folded,
                Err(error) => failed = Some(error),
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let array: PrimitiveArray<T> = slots
            .iter()
            .map(|slot| self.seen[*slot as usize].then(|| self.values[*slot as usize]))
            .collect::<PrimitiveArray<T>>();
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn reset(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.seen[*slot as usize] = false);
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.data_type.clone()]
    }

    fn size_bytes(&self) -> usize {
        size_of_val(self.values.as_slice()) + self.seen.len()
    }
}

/// `sum` of a type that has a sum.
pub(super) fn sum(data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    match data_type {
        DataType::Int64 => {
            Some(fold::<Int64Type>(data_type, |a, b| i64::checked_add(a, b).ok_or_else(|| overflow(&DataType::Int64))))
        }
        DataType::Decimal128(..) => {
            Some(fold::<Decimal128Type>(data_type, |a, b| add_decimal(a, b).ok_or_else(|| overflow(&WIDEST))))
        }
        DataType::Float64 => Some(fold::<Float64Type>(data_type, |a, b| Ok(a + b))),
        interval @ DataType::Interval(IntervalUnit::MonthDayNano) => {
            Some(fold::<IntervalMonthDayNanoType>(interval, |a, b| {
                add_interval(a, b).ok_or_else(|| overflow(&DataType::Interval(IntervalUnit::MonthDayNano)))
            }))
        }
        _ => None,
    }
}

/// `bit_and`, `bit_or` or `bit_xor` of whole numbers.
pub(super) fn bits(function: &str, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    macro_rules! table {
        ($($pattern:pat => $t:ty),+ $(,)?) => {
            match data_type {
                $($pattern => Some(match function {
                    "bit_and" => fold::<$t>(data_type, |a, b| Ok(a & b)),
                    "bit_or" => fold::<$t>(data_type, |a, b| Ok(a | b)),
                    _ => fold::<$t>(data_type, |a, b| Ok(a ^ b)),
                }),)+
                _ => None,
            }
        };
    }
    table! {
        DataType::Int8 => Int8Type,
        DataType::Int16 => Int16Type,
        DataType::Int32 => Int32Type,
        DataType::Int64 => Int64Type,
    }
}

pub(super) fn fold<T: ArrowPrimitiveType>(
    data_type: &DataType,
    step: fn(T::Native, T::Native) -> Result<T::Native>,
) -> Box<dyn Accumulator> {
    Box::new(Fold::<T>::new(data_type.clone(), step))
}

/// `try_sum`: a sum that is null for good once it has overflowed.
struct TrySum<T: ArrowPrimitiveType> {
    sums: Fold<T>,
    overflowed: Vec<bool>,
    add: fn(T::Native, T::Native) -> Option<T::Native>,
}

/// `try_sum` of a type that has a sum.
pub(crate) fn try_sum(data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    match data_type {
        DataType::Int64 => Some(TrySum::<Int64Type>::boxed(data_type, i64::checked_add)),
        DataType::Decimal128(..) => Some(TrySum::<Decimal128Type>::boxed(data_type, add_decimal)),
        DataType::Float64 => Some(TrySum::<Float64Type>::boxed(data_type, |a, b| Some(a + b))),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Some(TrySum::<IntervalMonthDayNanoType>::boxed(data_type, add_interval))
        }
        _ => None,
    }
}

impl<T: ArrowPrimitiveType> TrySum<T> {
    fn boxed(data_type: &DataType, add: fn(T::Native, T::Native) -> Option<T::Native>) -> Box<dyn Accumulator> {
        let sums = Fold::new(data_type.clone(), |_, new| Ok(new));
        Box::new(Self { sums, overflowed: Vec::new(), add })
    }
}

impl<T: ArrowPrimitiveType> Accumulator for TrySum<T> {
    fn grow(&mut self, slots: usize) {
        self.sums.grow(slots);
        self.overflowed.resize(slots.max(self.overflowed.len()), false);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let values = args[0].as_primitive::<T>();
        for_each_valid(values.nulls(), slots, |row, slot| {
            let value = values.value(row);
            let sum = if self.sums.seen[slot] { (self.add)(self.sums.values[slot], value) } else { Some(value) };
            self.sums.seen[slot] = true;
            match sum {
                Some(sum) => self.sums.values[slot] = sum,
                None => self.overflowed[slot] = true,
            }
        });
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let overflowed = state[1].as_boolean();
        for_each_valid(None, slots, |row, slot| self.overflowed[slot] |= overflowed.value(row));
        self.update(&state[..1], slots)
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let overflowed: BooleanArray = slots.iter().map(|slot| Some(self.overflowed[*slot as usize])).collect();
        Ok(vec![self.sums.evaluate(slots)?, Arc::new(overflowed)])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let sums = self.sums.evaluate(slots)?;
        let overflowed: BooleanArray = slots.iter().map(|slot| Some(self.overflowed[*slot as usize])).collect();
        Ok(arrow::compute::nullif(&sums, &overflowed)?)
    }

    fn reset(&mut self, slots: &[u32]) {
        self.sums.reset(slots);
        slots.iter().for_each(|slot| self.overflowed[*slot as usize] = false);
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.sums.data_type.clone(), DataType::Boolean]
    }

    fn size_bytes(&self) -> usize {
        self.sums.size_bytes() + self.overflowed.len()
    }
}

/// The decimal that has most digits.
const WIDEST: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

pub(super) fn overflow(data_type: &DataType) -> EngineError {
    EngineError::data(sum::overflow(data_type))
        .help("cast the argument to a wider type, for example sum(CAST(x AS DECIMAL(38, 0)))")
}
