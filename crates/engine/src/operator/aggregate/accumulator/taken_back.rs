//! Functions of rows that may be taken back.
//!
//! | function | how a row is taken back | state of a group |
//! |---|---|---|
//! | `count` | one less | one number |
//! | `sum` of whole numbers, decimals and intervals | subtracted | a sum, and how many values are in it |
//! | others | the value comes once less often; the function is computed anew from those that are left | every different value, and how often |
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
use crate::plan::functions::sum::{add_decimal, add_interval};

/// Makes an accumulator of the function as it is for rows that stay.
pub(crate) type Make = Arc<dyn Fn() -> Result<Option<Box<dyn Accumulator>>> + Send + Sync>;

/// Functions that give what came first or last, or all in the order in which it came.
const BY_ARRIVAL: &[&str] = &["first", "last", "collect_list", "listagg"];

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
    Ok(Some(Box::new(Recomputed { codec: Codec::new(types)?, groups: Sized::new(|group: &Values| group.bytes), make })))
}

fn sum(result: &DataType) -> Option<Box<dyn Accumulator>> {
    match result {
        DataType::Int64 => Some(Sum::<Int64Type>::boxed(result, i64::checked_add, i64::checked_neg)),
        DataType::Decimal128(..) => Some(Sum::<Decimal128Type>::boxed(result, add_decimal, i128::checked_neg)),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Some(Sum::<IntervalMonthDayNanoType>::boxed(result, add_interval, |interval| {
                let (months, days) = (interval.months.checked_neg()?, interval.days.checked_neg()?);
                Some(IntervalMonthDayNano::new(months, days, interval.nanoseconds.checked_neg()?))
            }))
        }
        _ => None,
    }
}

/// A sum and how many values are in it; without any it is NULL.
struct Sum<T: ArrowPrimitiveType> {
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    data_type: DataType,
    add: fn(T::Native, T::Native) -> Option<T::Native>,
    negate: fn(T::Native) -> Option<T::Native>,
}

impl<T: ArrowPrimitiveType> Sum<T> {
    fn boxed(
        data_type: &DataType,
        add: fn(T::Native, T::Native) -> Option<T::Native>,
        negate: fn(T::Native) -> Option<T::Native>,
    ) -> Box<dyn Accumulator> {
        Box::new(Self { sums: Vec::new(), counts: Vec::new(), data_type: data_type.clone(), add, negate })
    }

    /// Adds values, each counted as `count(row)`.
    fn add(
        &mut self,
        values: &PrimitiveArray<T>,
        slots: &[u32],
        count: impl Fn(usize) -> i64,
        back: bool,
    ) -> Result<()> {
        let mut overflowed = false;
        for_each_valid(values.nulls(), slots, |row, slot| {
            let value = if back { (self.negate)(values.value(row)) } else { Some(values.value(row)) };
            match value.and_then(|value| (self.add)(self.sums[slot], value)) {
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
        self.add(args[0].as_primitive::<T>(), slots, |_| 1, false)
    }

    fn retract(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.add(args[0].as_primitive::<T>(), slots, |_| -1, true)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let counts = state[1].as_primitive::<Int64Type>();
        self.add(state[0].as_primitive::<T>(), slots, |row| counts.value(row), false)
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
    make: Make,
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
        let (mut values, mut places): (Vec<&[u8]>, Vec<u32>) = (Vec::new(), Vec::new());
        for (place, slot) in (0_u32..).zip(slots) {
            for (value, count) in &self.groups.get(*slot).counts {
                let times = usize::try_from(*count).unwrap_or(0);
                values.extend(std::iter::repeat_n(&**value, times));
                places.extend(std::iter::repeat_n(place, times));
            }
        }
        if !values.is_empty() {
            function.update(&self.codec.decode(values)?, &places)?;
        }
        function.evaluate(&(0_u32..).zip(slots).map(|(place, _)| place).collect::<Vec<_>>())
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![list_type(&DataType::Struct(self.fields()))]
    }
}
