//! Functions of rows that may be taken back.
//!
//! | function | how a row is taken back | state of a group |
//! |---|---|---|
//! | `count` | one less | one number |
//! | `sum` of whole numbers, decimals and intervals | subtracted | a sum, and how many values are in it |
//! | others | the value comes once less often; the function is computed anew from those that are left | every different value, and how often |
//!
//! What is computed anew sees the values in pieces of bounded size, each as often as it is there, or once where repeats
//! change nothing: a group of millions of rows is never in memory as rows.
//!
//! Sums of doubles are among the others: what was added cannot be subtracted without a rest, and infinity not at all.
//! Refused are functions whose result depends on which row came first: nothing says which one is first when rows leave.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray, StructArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Fields, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};

use super::number::overflow;
use super::rows::{Codec, Sized, list_of, of_groups};
use super::{Accumulator, for_each_valid, list_type};
use crate::error::{EngineError, Result};
use crate::operator::EMIT_ROWS;
use crate::plan::functions::sum::{add_decimal, add_interval};

/// Makes an accumulator of the function as it is for rows that stay.
pub(crate) type Make = Arc<dyn Fn() -> Result<Option<Box<dyn Accumulator>>> + Send + Sync>;

/// Functions that give what came first or last, or all in the order in which it came.
const BY_ARRIVAL: &[&str] = &["first", "last", "collect_list", "listagg"];

/// Functions that give the same however often a value is there; those with `DISTINCT` do, too.
const IGNORE_REPEATS: &[&str] = &[
    "min",
    "max",
    "min_by",
    "max_by",
    "bit_and",
    "bit_or",
    "collect_set",
    "approx_count_distinct",
    "bitmap_construct_agg",
    "bitmap_and_agg",
    "bitmap_or_agg",
];

/// The accumulator of a function of `types`, those of the arguments that are no constants; none if it has none.
pub(crate) fn that_takes_back(
    function: &str,
    is_distinct: bool,
    (types, result): (&[DataType], &DataType),
    make: Make,
) -> Result<Option<Box<dyn Accumulator>>> {
    if BY_ARRIVAL.contains(&function) {
        return Err(EngineError::query(format!(
            "{function} is not possible over groups, or over the first rows of partitions, in output mode update: it depends \
             on which row came first, and its rows are replaced by others"
        ))
        .help("use min, max, min_by, max_by or collect_set, or output mode complete"));
    }
    let plain = match (function, is_distinct) {
        ("count", false) => make()?,
        ("sum", false) => sum(result),
        _ => None,
    };
    if plain.is_some() {
        return Ok(plain);
    }
    if make()?.is_none() {
        return Ok(None);
    }
    let (codec, groups) = (Codec::new(types)?, Sized::new(|group: &Values| group.bytes));
    let ignores_repeats = is_distinct || IGNORE_REPEATS.contains(&function);
    Ok(Some(Box::new(Recomputed { codec, groups, ignores_repeats, make })))
}

fn sum(result: &DataType) -> Option<Box<dyn Accumulator>> {
    match result {
        DataType::Int64 => Some(Sum::<Int64Type>::boxed(result, i64::checked_add, i64::checked_sub)),
        DataType::Decimal128(..) => {
            Some(Sum::<Decimal128Type>::boxed(result, add_decimal, |a, b| add_decimal(a, b.checked_neg()?)))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Some(Sum::<IntervalMonthDayNanoType>::boxed(result, add_interval, subtract_interval))
        }
        _ => None,
    }
}

fn subtract_interval(a: IntervalMonthDayNano, b: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let (months, days) = (a.months.checked_sub(b.months)?, a.days.checked_sub(b.days)?);
    Some(IntervalMonthDayNano::new(months, days, a.nanoseconds.checked_sub(b.nanoseconds)?))
}

/// A value into a sum, or out of it; none if the result does not fit.
type Step<T> = fn(T, T) -> Option<T>;

/// A sum and how many values are in it; without any it is NULL.
struct Sum<T: ArrowPrimitiveType> {
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    data_type: DataType,
    add: Step<T::Native>,
    /// Not the negative added: the smallest number has none.
    subtract: Step<T::Native>,
}

impl<T: ArrowPrimitiveType> Sum<T> {
    fn boxed(data_type: &DataType, add: Step<T::Native>, subtract: Step<T::Native>) -> Box<dyn Accumulator> {
        Box::new(Self { sums: Vec::new(), counts: Vec::new(), data_type: data_type.clone(), add, subtract })
    }

    /// Takes values in by `step`, each counted as `count(row)`.
    fn take(
        &mut self,
        step: Step<T::Native>,
        values: &PrimitiveArray<T>,
        slots: &[u32],
        count: impl Fn(usize) -> i64,
    ) -> Result<()> {
        let mut overflowed = false;
        for_each_valid(values.nulls(), slots, |row, slot| {
            match step(self.sums[slot], values.value(row)) {
                Some(sum) => self.sums[slot] = sum,
                None => overflowed = true,
            }
            self.counts[slot] += count(row);
        });
        if overflowed { Err(overflow(&self.data_type)) } else { Ok(()) }
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Sum<T> {
    fn grow(&mut self, slots: usize) {
        let slots = slots.max(self.sums.len());
        self.sums.resize(slots, T::Native::default());
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.take(self.add, args[0].as_primitive::<T>(), slots, |_| 1)
    }

    fn retract(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.take(self.subtract, args[0].as_primitive::<T>(), slots, |_| -1)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let counts = state[1].as_primitive::<Int64Type>();
        self.take(self.add, state[0].as_primitive::<T>(), slots, |row| counts.value(row))
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let counts = Int64Array::from_iter_values(slots.iter().map(|slot| self.counts[*slot as usize]));
        Ok(vec![self.evaluate(slots)?, Arc::new(counts)])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let of = |slot: &u32| (self.counts[*slot as usize] > 0).then(|| self.sums[*slot as usize]);
        let sums: PrimitiveArray<T> = slots.iter().map(of).collect();
        Ok(Arc::new(sums.with_data_type(self.data_type.clone())))
    }

    fn reset(&mut self, slots: &[u32]) {
        for slot in slots {
            self.sums[*slot as usize] = T::Native::default();
            self.counts[*slot as usize] = 0;
        }
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.data_type.clone(), DataType::Int64]
    }

    fn size_bytes(&self) -> usize {
        size_of_val(self.sums.as_slice()) + size_of_val(self.counts.as_slice())
    }
}

/// Memory of a value beside its bytes.
const VALUE_BYTES: usize = 48;

/// The different values of a group, and how often each is there.
#[derive(Default)]
struct Values {
    counts: BTreeMap<Box<[u8]>, i64>,
    bytes: usize,
}

impl Values {
    fn add(&mut self, value: &[u8], times: i64) {
        let Some(count) = self.counts.get_mut(value) else {
            self.bytes += value.len() + VALUE_BYTES;
            self.counts.insert(value.into(), times);
            return;
        };
        *count += times;
        if *count == 0 {
            self.bytes -= value.len() + VALUE_BYTES;
            self.counts.remove(value);
        }
    }
}

/// A function that is computed anew from the values that are there.
struct Recomputed {
    codec: Codec,
    groups: Sized<Values>,
    /// Whether it is enough to see each value once.
    ignores_repeats: bool,
    make: Make,
}

/// Bytes of values that are given to a function at a time: far below what the offsets of an array can say.
const PIECE_BYTES: usize = 16 << 20;

/// Values on their way to a function, and which group each is of.
#[derive(Default)]
struct Piece<'a> {
    values: Vec<&'a [u8]>,
    places: Vec<u32>,
    bytes: usize,
}

impl<'a> Piece<'a> {
    /// Adds a value so many times, or as often as there is room; gives how often it is left.
    fn push(&mut self, value: &'a [u8], place: u32, times: usize) -> usize {
        let by_bytes = PIECE_BYTES.saturating_sub(self.bytes) / value.len().max(1);
        let added = times.min(EMIT_ROWS.saturating_sub(self.values.len())).min(by_bytes.max(1));
        self.values.extend(std::iter::repeat_n(value, added));
        self.places.extend(std::iter::repeat_n(place, added));
        self.bytes += added * value.len();
        times - added
    }

    fn is_full(&self) -> bool {
        self.values.len() >= EMIT_ROWS || self.bytes >= PIECE_BYTES
    }

    /// Gives the values to the function.
    fn flush(&mut self, codec: &Codec, function: &mut dyn Accumulator) -> Result<()> {
        if !self.values.is_empty() {
            function.update(&codec.decode(self.values.drain(..))?, &self.places)?;
        }
        self.places.clear();
        self.bytes = 0;
        Ok(())
    }
}

impl Recomputed {
    fn add(&mut self, args: &[ArrayRef], slots: &[u32], times: impl Fn(usize) -> i64) -> Result<()> {
        let rows = self.codec.encode_exactly(args)?;
        for (row, slot) in slots.iter().enumerate() {
            self.groups.change(*slot as usize, |group| group.add(rows.row(row).as_ref(), times(row)));
        }
        Ok(())
    }

    fn fields(&self) -> Fields {
        let field = |(at, data_type): (usize, &DataType)| Field::new(at.to_string(), data_type.clone(), true);
        let values = self.codec.types().iter().enumerate().map(field);
        values.chain([Field::new("count", DataType::Int64, true)]).collect()
    }
}

impl Accumulator for Recomputed {
    of_groups!(groups);

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.add(args, slots, |_| 1)
    }

    fn retract(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.add(args, slots, |_| -1)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let lists = state[0].as_list::<i32>();
        for (row, slot) in slots.iter().enumerate() {
            let items = lists.value(row);
            let columns = items.as_struct().columns();
            let Some((counts, values)) = columns.split_last() else { continue };
            let counts = counts.as_primitive::<Int64Type>();
            self.add(values, &vec![*slot; items.len()], |row| counts.value(row))?;
        }
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let groups = || slots.iter().map(|slot| &self.groups.get(*slot).counts);
        let mut columns = self.codec.decode(groups().flat_map(|group| group.keys().map(|value| &**value)))?;
        let counts = Int64Array::from_iter_values(groups().flat_map(|group| group.values().copied()));
        columns.push(Arc::new(counts));
        let items = StructArray::try_new(self.fields(), columns, None)?;
        Ok(vec![list_of(groups().map(BTreeMap::len).collect(), Arc::new(items), None)?])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let mut function = (self.make)()?.ok_or_else(|| EngineError::internal("a function without an accumulator"))?;
        function.grow(slots.len());
        let mut piece = Piece::default();
        for (place, slot) in (0_u32..).zip(slots) {
            for (value, count) in &self.groups.get(*slot).counts {
                let times = usize::try_from(*count).unwrap_or(0);
                let mut left = if self.ignores_repeats { times.min(1) } else { times };
                while left > 0 {
                    left = piece.push(value, place, left);
                    if piece.is_full() {
                        piece.flush(&self.codec, function.as_mut())?;
                    }
                }
            }
        }
        piece.flush(&self.codec, function.as_mut())?;
        function.evaluate(&(0_u32..).zip(slots).map(|(place, _)| place).collect::<Vec<_>>())
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![list_type(&DataType::Struct(self.fields()))]
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{IntervalMonthDayNanoArray, StringArray};
    use parking_lot::Mutex;

    use super::super::by_hand;
    use super::*;

    fn accumulator(function: &'static str, data_type: &DataType, is_distinct: bool) -> Box<dyn Accumulator> {
        let (of, result) = (vec![data_type.clone()], data_type.clone());
        let make: Make = Arc::new(move || Ok(by_hand(function, &of, &result)));
        that_takes_back(function, is_distinct, (std::slice::from_ref(data_type), data_type), make).unwrap().unwrap()
    }

    /// Values that are there `count` times, as state has them.
    fn stored(values: ArrayRef, counts: Vec<i64>) -> Vec<ArrayRef> {
        let fields = Fields::from(vec![
            Field::new("0", values.data_type().clone(), true),
            Field::new("count", DataType::Int64, true),
        ]);
        let length = values.len();
        let items = StructArray::try_new(fields, vec![values, Arc::new(Int64Array::from(counts))], None).unwrap();
        vec![list_of(vec![length], Arc::new(items), None).unwrap()]
    }

    #[test]
    fn the_smallest_numbers_are_taken_out_of_a_sum() {
        let check = |values: ArrayRef| {
            let mut sum = accumulator("sum", &values.data_type().clone(), false);
            sum.grow(1);
            let args = [Arc::clone(&values)];
            sum.update(&args, &[0]).unwrap();
            sum.retract(&args, &[0]).unwrap();
            assert_eq!(sum.evaluate(&[0]).unwrap().null_count(), 1, "{values:?}");
        };
        check(Arc::new(Int64Array::from(vec![i64::MIN])));
        check(Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(i32::MIN, i32::MIN, i64::MIN)])));
    }

    #[test]
    fn what_ignores_repeats_sees_a_value_once() {
        for (function, expected) in [("min", -3), ("max", 7), ("bit_and", -3 & 7), ("bit_or", -3 | 7)] {
            let mut function = accumulator(function, &DataType::Int64, false);
            function.grow(1);
            let values = Arc::new(Int64Array::from(vec![-3, 7]));
            function.merge(&stored(values, vec![1 << 60, 1 << 61]), &[0]).unwrap();
            assert_eq!(function.evaluate(&[0]).unwrap().as_primitive::<Int64Type>().value(0), expected);
        }
    }

    /// Counts what it is given, and how much at a time.
    #[derive(Clone, Default)]
    struct Probe(Arc<Mutex<Vec<(usize, usize)>>>);

    impl Accumulator for Probe {
        fn grow(&mut self, _: usize) {}

        fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
            assert_eq!(args[0].len(), slots.len());
            let bytes = args[0].as_string::<i32>().value_data().len();
            self.0.lock().push((slots.len(), bytes));
            Ok(())
        }

        fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
            Ok(Arc::new(Int64Array::from(vec![0; slots.len()])))
        }

        fn reset(&mut self, _: &[u32]) {}

        fn state_types(&self) -> Vec<DataType> {
            vec![DataType::Int64]
        }

        fn size_bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_function_is_computed_anew_piece_by_piece() {
        let check = |values: &[(usize, i64)]| {
            let probe = Probe::default();
            let made = probe.clone();
            let make: Make = Arc::new(move || Ok(Some(Box::new(made.clone()) as Box<dyn Accumulator>)));
            let mut function =
                that_takes_back("avg", false, (&[DataType::Utf8], &DataType::Int64), make).unwrap().unwrap();
            function.grow(1);
            let texts = StringArray::from_iter_values(values.iter().map(|(length, _)| "x".repeat(*length)));
            let counts = values.iter().map(|(_, count)| *count).collect();
            function.merge(&stored(Arc::new(texts), counts), &[0]).unwrap();
            function.evaluate(&[0]).unwrap();
            let pieces = probe.0.lock().clone();
            let rows: usize = pieces.iter().map(|(rows, _)| rows).sum();
            assert_eq!(rows as i64, values.iter().map(|(_, count)| count).sum::<i64>());
            assert!(pieces.iter().all(|(rows, bytes)| *rows <= EMIT_ROWS && *bytes <= 2 * PIECE_BYTES), "{pieces:?}");
        };
        check(&[]);
        check(&[(1, 1), (2, EMIT_ROWS as i64 - 1)]);
        check(&[(0, 3 * EMIT_ROWS as i64 + 1), (3, 2), (5, 100_000)]);
        check(&[(1000, 3), (PIECE_BYTES / 3, 20), (PIECE_BYTES - 1, 2)]);
    }
}
