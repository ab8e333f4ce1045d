//! Accumulators: the state of one aggregate function for all groups, a column at a time.
//!
//! Groups are numbered by *slot*; every method takes the slots it is about, so that one call works on a whole batch
//! and nothing is called per row. Unlike DataFusion's `GroupsAccumulator`, reading a value leaves it in place: a
//! streaming group is read after every batch and goes on.
//!
//! The functions met most are here by hand; every other one runs on DataFusion's own row accumulators
//! ([`super::boxed`]), slower and with the same result.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray, StringArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float64Type, Int64Type};

use crate::error::{EngineError, Result};
use crate::plan::functions::sum::{self, add_decimal};

/// The state of one aggregate function for all groups.
pub(crate) trait Accumulator: Send {
    /// Makes room so that all slots below `slots` exist, new ones empty.
    fn grow(&mut self, slots: usize);

    /// Takes rows: row `i` of each argument belongs to `slots[i]`.
    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()>;

    /// Adds stored states: row `i` of each state column belongs to `slots[i]`.
    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()>;

    /// The states of `slots`, one column a state field.
    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>>;

    /// The results of `slots`.
    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef>;

    /// Empties `slots` for new groups.
    fn reset(&mut self, slots: &[u32]);

    /// Types of the state columns.
    fn state_types(&self) -> Vec<DataType>;

    /// Memory of all slots, in bytes.
    fn size_bytes(&self) -> usize;
}

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
        let nulls = args.iter().fold(None, |nulls: Option<NullBuffer>, arg| {
            NullBuffer::union(nulls.as_ref(), arg.logical_nulls().as_ref())
        });
        for_each_valid(nulls.as_ref(), slots, |_, slot| self.counts[slot] += 1);
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let counts = state[0].as_primitive::<Int64Type>();
        for_each_valid(None, slots, |row, slot| self.counts[slot] += counts.value(row));
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
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

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.update(state, slots)
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
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

/// `avg` of doubles: sum and count.
#[derive(Default)]
pub(super) struct AverageDouble {
    sums: Vec<f64>,
    counts: Vec<i64>,
}

impl Accumulator for AverageDouble {
    fn grow(&mut self, slots: usize) {
        let slots = slots.max(self.sums.len());
        self.sums.resize(slots, 0.0);
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let values = args[0].as_primitive::<Float64Type>();
        for_each_valid(values.nulls(), slots, |row, slot| {
            self.sums[slot] += values.value(row);
            self.counts[slot] += 1;
        });
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let (sums, counts) = (state[0].as_primitive::<Float64Type>(), state[1].as_primitive::<Int64Type>());
        for_each_valid(None, slots, |row, slot| {
            self.sums[slot] += sums.value(row);
            self.counts[slot] += counts.value(row);
        });
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let sums = Float64Array::from_iter_values(slots.iter().map(|slot| self.sums[*slot as usize]));
        let counts = Int64Array::from_iter_values(slots.iter().map(|slot| self.counts[*slot as usize]));
        Ok(vec![Arc::new(sums), Arc::new(counts)])
    }

    #[expect(clippy::cast_precision_loss, reason = "an average of more than 2^53 rows is as exact as a double is")]
    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let averages = slots.iter().map(|slot| {
            let count = self.counts[*slot as usize];
            (count > 0).then(|| self.sums[*slot as usize] / count as f64)
        });
        Ok(Arc::new(averages.collect::<Float64Array>()))
    }

    fn reset(&mut self, slots: &[u32]) {
        for slot in slots {
            self.sums[*slot as usize] = 0.0;
            self.counts[*slot as usize] = 0;
        }
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Float64, DataType::Int64]
    }

    fn size_bytes(&self) -> usize {
        size_of_val(self.sums.as_slice()) * 2
    }
}

/// `min` and `max` of text: the text itself, null until the first row.
pub(super) struct ExtremeText {
    values: Vec<Option<Box<str>>>,
    /// Whether the first is to be replaced by the second.
    replaces: fn(&str, &str) -> bool,
    bytes: usize,
}

impl ExtremeText {
    pub(super) fn new(replaces: fn(&str, &str) -> bool) -> Self {
        Self { values: Vec::new(), replaces, bytes: 0 }
    }
}

impl Accumulator for ExtremeText {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots.max(self.values.len()), None);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let texts = args[0].as_string::<i32>();
        for_each_valid(texts.nulls(), slots, |row, slot| {
            let text = texts.value(row);
            if self.values[slot].as_deref().is_none_or(|old| (self.replaces)(old, text)) {
                self.bytes += text.len();
                self.bytes -= self.values[slot].as_deref().map_or(0, str::len);
                self.values[slot] = Some(text.into());
            }
        });
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.update(state, slots)
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(slots.iter().map(|slot| self.values[*slot as usize].as_deref()).collect::<StringArray>()))
    }

    fn reset(&mut self, slots: &[u32]) {
        for slot in slots {
            if let Some(text) = self.values[*slot as usize].take() {
                self.bytes -= text.len();
            }
        }
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Utf8]
    }

    fn size_bytes(&self) -> usize {
        self.bytes + size_of_val(self.values.as_slice())
    }
}

/// The accumulator written by hand for a function of these types, if there is one.
pub(super) fn by_hand(function: &str, args: &[DataType], result: &DataType) -> Option<Box<dyn Accumulator>> {
    let arg = args.first();
    match (function, arg, result) {
        ("count", _, DataType::Int64) => Some(Box::<Count>::default()),
        ("avg", Some(DataType::Float64), DataType::Float64) => Some(Box::<AverageDouble>::default()),
        ("sum", Some(DataType::Int64), DataType::Int64) => {
            Some(fold::<Int64Type>(result, |a, b| i64::checked_add(a, b).ok_or_else(|| overflow(&DataType::Int64))))
        }
        ("sum", Some(DataType::Decimal128(..)), DataType::Decimal128(..)) => {
            Some(fold::<Decimal128Type>(result, |a, b| add_decimal(a, b).ok_or_else(|| overflow(&WIDEST))))
        }
        ("sum", Some(DataType::Float64), DataType::Float64) => Some(fold::<Float64Type>(result, |a, b| Ok(a + b))),
        ("min" | "max", Some(arg), result) if arg == result => extreme(function == "max", result),
        _ => None,
    }
}

fn fold<T: ArrowPrimitiveType>(
    data_type: &DataType,
    step: fn(T::Native, T::Native) -> Result<T::Native>,
) -> Box<dyn Accumulator> {
    Box::new(Fold::<T>::new(data_type.clone(), step))
}

/// `min` or `max` of any ordered type.
fn extreme(is_max: bool, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    match data_type {
        DataType::Utf8 if is_max => Some(Box::new(ExtremeText::new(|old, new| new > old))),
        DataType::Utf8 => Some(Box::new(ExtremeText::new(|old, new| new < old))),
        data_type => extreme_number(is_max, data_type),
    }
}

/// `min` or `max` of a number or a time. Doubles compare as Spark's do: NaN is larger than every number.
fn extreme_number(is_max: bool, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    use arrow::array::ArrowNativeTypeOp;
    use arrow::datatypes::{
        Date32Type, Float32Type, Int8Type, Int16Type, Int32Type, TimeUnit, TimestampMicrosecondType,
    };
    macro_rules! table {
        ($($pattern:pat => $t:ty),+ $(,)?) => {
            match data_type {
                $($pattern => Some(if is_max {
                    fold::<$t>(data_type, |a, b| Ok(if b.is_gt(a) { b } else { a }))
                } else {
                    fold::<$t>(data_type, |a, b| Ok(if b.is_lt(a) { b } else { a }))
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
        DataType::Float32 => Float32Type,
        DataType::Float64 => Float64Type,
        DataType::Date32 => Date32Type,
        DataType::Decimal128(..) => Decimal128Type,
        DataType::Timestamp(TimeUnit::Microsecond, _) => TimestampMicrosecondType,
    }
}

/// The decimal that has most digits.
const WIDEST: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

fn overflow(data_type: &DataType) -> EngineError {
    EngineError::data(sum::overflow(data_type))
        .help("cast the argument to a wider type, for example sum(CAST(x AS DECIMAL(38, 0)))")
}

/// Calls `f(row, slot)` for the rows that are not null.
#[inline]
fn for_each_valid(nulls: Option<&NullBuffer>, slots: &[u32], mut f: impl FnMut(usize, usize)) {
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => slots.iter().enumerate().for_each(|(row, slot)| f(row, *slot as usize)),
        Some(nulls) => slots.iter().enumerate().filter(|(row, _)| nulls.is_valid(*row)).for_each(|(row, slot)| {
            f(row, *slot as usize);
        }),
    }
}

/// Keeps only the rows a `FILTER (WHERE ...)` lets through.
pub(super) fn filtered(filter: &BooleanArray, args: &[ArrayRef], slots: &[u32]) -> Result<(Vec<ArrayRef>, Vec<u32>)> {
    let args = args.iter().map(|arg| arrow::compute::filter(arg, filter)).collect::<Result<_, _>>()?;
    let keep = |row: usize| filter.is_valid(row) && filter.value(row);
    let slots = slots.iter().enumerate().filter(|(row, _)| keep(*row)).map(|(_, slot)| *slot).collect();
    Ok((args, slots))
}

#[cfg(test)]
mod tests {
    use arrow::array::Decimal128Array;

    use super::*;

    fn ints(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<Int64Array>())
    }

    /// Updates groups 0 and 1, carries the state over to a fresh accumulator, and compares results.
    fn check(function: &str, arg: &ArrayRef, result: &DataType, expected: &str) {
        let types = [arg.data_type().clone()];
        let mut first = by_hand(function, &types, result).unwrap();
        first.grow(3);
        let slots: Vec<u32> = (0..arg.len()).map(|row| u32::try_from(row % 2).unwrap()).collect();
        first.update(&[Arc::clone(arg)], &slots).unwrap();
        let state = first.state(&[0, 1, 2]).unwrap();
        let mut second = by_hand(function, &types, result).unwrap();
        second.grow(3);
        second.merge(&state, &[2, 1, 0]).unwrap();
        let results = second.evaluate(&[2, 1, 0]).unwrap();
        assert_eq!(results.data_type(), result);
        let text: Vec<String> =
            (0..3).map(|row| arrow::util::display::array_value_to_string(&results, row).unwrap()).collect();
        assert_eq!(text.join(" "), expected, "{function}");
        second.reset(&[2]);
        let empty = second.evaluate(&[2]).unwrap();
        assert!(function == "count" || empty.is_null(0));
    }

    #[test]
    fn state_carries_over() {
        let numbers = ints(&[Some(1), Some(2), None, Some(4), Some(5)]);
        check("count", &numbers, &DataType::Int64, "2 2 0");
        check("sum", &numbers, &DataType::Int64, "6 6 ");
        check("min", &numbers, &DataType::Int64, "1 2 ");
        check("max", &numbers, &DataType::Int64, "5 4 ");
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, f64::NAN, 4.0]));
        check("avg", &doubles, &DataType::Float64, "NaN 3.0 ");
        check("max", &doubles, &DataType::Float64, "NaN 4.0 ");
        check("min", &doubles, &DataType::Float64, "1.0 2.0 ");
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("c")]));
        check("min", &texts, &DataType::Utf8, "a c ");
        check("max", &texts, &DataType::Utf8, "b c ");
        let decimals: ArrayRef =
            Arc::new(Decimal128Array::from(vec![150, 250]).with_precision_and_scale(10, 2).unwrap());
        check("max", &decimals, &DataType::Decimal128(10, 2), "1.50 2.50 ");
        check("sum", &decimals, &DataType::Decimal128(20, 2), "1.50 2.50 ");
    }

    #[test]
    fn a_sum_that_overflows_is_an_error() {
        let mut sum = by_hand("sum", &[DataType::Int64], &DataType::Int64).unwrap();
        sum.grow(1);
        let error = sum.update(&[ints(&[Some(i64::MAX), Some(1)])], &[0, 0]).unwrap_err();
        assert_eq!(error.to_string(), "[ARITHMETIC_OVERFLOW] sum overflows BIGINT; use try_sum to get NULL");

        let (arg, result) = (DataType::Decimal128(38, 0), DataType::Decimal128(38, 0));
        let most: ArrayRef =
            Arc::new(Decimal128Array::from(vec![10_i128.pow(38) - 1, 1]).with_precision_and_scale(38, 0).unwrap());
        let mut sum = by_hand("sum", &[arg], &result).unwrap();
        sum.grow(1);
        let error = sum.update(&[most], &[0, 0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "[NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION] sum overflows DECIMAL; use try_sum to get NULL"
        );
    }
}
