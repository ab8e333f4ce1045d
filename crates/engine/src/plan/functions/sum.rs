//! `sum` with Spark's check: a BIGINT or DECIMAL sum that overflows is an error. DataFusion's own wraps around.
//!
//! Every other type, `DISTINCT` and moving windows are DataFusion's.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, NullBufferBuilder, PrimitiveArray, PrimitiveBuilder,
};
use arrow::datatypes::{
    DataType, Decimal128Type, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature};

/// The function `sum`.
pub(super) fn sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(CheckedSum { unchecked: Sum::new() }))
}

/// Adds one to another; none where the sum does not fit its type.
type Add<T> = fn(T, T) -> Option<T>;

/// The sum of two decimals of one scale, if it has no more than 38 digits. A sum has ten digits more than what it
/// adds up, so that a narrower one cannot overflow.
pub(crate) fn add_decimal(a: i128, b: i128) -> Option<i128> {
    const LIMIT: u128 = 10_u128.pow(38);
    a.checked_add(b).filter(|sum| sum.unsigned_abs() < LIMIT)
}

/// The sum of two intervals, part by part.
pub(crate) fn add_interval(a: IntervalMonthDayNano, b: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    Some(IntervalMonthDayNano::new(
        a.months.checked_add(b.months)?,
        a.days.checked_add(b.days)?,
        a.nanoseconds.checked_add(b.nanoseconds)?,
    ))
}

/// An interval by a count, rounded half up to months and microseconds; a day has 24 hours.
pub(crate) fn divide_interval(sum: IntervalMonthDayNano, count: i64) -> IntervalMonthDayNano {
    let half_up = |value: i128| {
        let count = i128::from(count);
        (value * 2 + value.signum() * count) / (count * 2)
    };
    let micros = i128::from(sum.days) * 86_400_000_000 + i128::from(sum.nanoseconds / 1000);
    let nanoseconds = i64::try_from(half_up(micros) * 1000).unwrap_or(i64::MAX);
    IntervalMonthDayNano::new(i32::try_from(half_up(sum.months.into())).unwrap_or(i32::MAX), 0, nanoseconds)
}

/// What to say of a sum that does not fit its type.
pub(crate) fn overflow(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Decimal128(..) => "DECIMAL",
        DataType::Interval(_) => "INTERVAL",
        _ => "BIGINT",
    };
    format!("[ARITHMETIC_OVERFLOW] sum overflows {name}; use try_sum to get NULL")
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    unchecked: Sum,
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.unchecked.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [interval @ DataType::Interval(_)] => Ok(interval.clone()),
            _ => self.unchecked.return_type(arg_types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type().clone();
        match &data_type {
            _ if args.is_distinct => super::aggregates::distinct(&args, "sum"),
            DataType::Int64 => Ok(Box::new(Groups::<Int64Type>::one(data_type, i64::checked_add))),
            DataType::Decimal128(..) => Ok(Box::new(Groups::<Decimal128Type>::one(data_type, add_decimal))),
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Ok(Box::new(Groups::<IntervalMonthDayNanoType>::one(data_type, add_interval)))
            }
            _ => self.unchecked.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if args.is_distinct {
            return super::aggregates::distinct_state(&args);
        }
        if let DataType::Interval(_) = args.return_type() {
            return Ok(vec![Arc::new(args.return_field.as_ref().clone().with_name(format!("{}[sum]", args.name)))]);
        }
        self.unchecked.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
            && (matches!(args.return_type(), DataType::Interval(_))
                || self.unchecked.groups_accumulator_supported(args))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type().clone();
        match &data_type {
            DataType::Int64 => Ok(Box::new(Groups::<Int64Type>::new(data_type, i64::checked_add))),
            DataType::Decimal128(..) => Ok(Box::new(Groups::<Decimal128Type>::new(data_type, add_decimal))),
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Ok(Box::new(Groups::<IntervalMonthDayNanoType>::new(data_type, add_interval)))
            }
            _ => self.unchecked.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.unchecked.create_sliding_accumulator(args)
    }
}

/// The sums of all groups; as a plain accumulator it has one group.
#[derive(Debug)]
struct Groups<T: ArrowPrimitiveType> {
    data_type: DataType,
    add: Add<T::Native>,
    sums: Vec<T::Native>,
    /// Whether the group had a row: without one its sum is null.
    seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Groups<T> {
    fn new(data_type: DataType, add: Add<T::Native>) -> Self {
        Self { data_type, add, sums: Vec::new(), seen: Vec::new() }
    }

    fn one(data_type: DataType, add: Add<T::Native>) -> Self {
        let mut groups = Self::new(data_type, add);
        groups.grow(1);
        groups
    }

    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups.max(self.sums.len()), T::Native::default());
        self.seen.resize(groups.max(self.seen.len()), false);
    }

    fn put(&mut self, group: usize, value: T::Native) -> Result<()> {
        self.sums[group] = match self.seen[group] {
            true => (self.add)(self.sums[group], value)
                .ok_or_else(|| DataFusionError::Execution(overflow(&self.data_type)))?,
            false => value,
        };
        self.seen[group] = true;
        Ok(())
    }

    fn array(&self, sums: Vec<T::Native>, seen: &[bool]) -> ArrayRef {
        let mut nulls = NullBufferBuilder::new(seen.len());
        seen.iter().for_each(|seen| nulls.append(*seen));
        Arc::new(PrimitiveArray::<T>::new(sums.into(), nulls.finish()).with_data_type(self.data_type.clone()))
    }
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for Groups<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let values = values[0].as_primitive::<T>();
        let counts = |row: usize| {
            values.is_valid(row) && opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
        };
        let rows = group_indices.iter().enumerate().filter(|(row, _)| counts(*row));
        rows.map(|(row, group)| (*group, values.value(row))).try_for_each(|(group, value)| self.put(group, value))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        GroupsAccumulator::update_batch(self, values, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (sums, seen) = (emit_to.take_needed(&mut self.sums), emit_to.take_needed(&mut self.seen));
        Ok(self.array(sums, &seen))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![GroupsAccumulator::evaluate(self, emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let mut state = PrimitiveBuilder::<T>::with_capacity(values.len());
        for (row, value) in values.iter().enumerate() {
            let counts = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            state.append_option(value.filter(|_| counts));
        }
        Ok(vec![Arc::new(state.finish().with_data_type(self.data_type.clone()))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.seen.capacity()
    }
}

impl<T: ArrowPrimitiveType + Debug> Accumulator for Groups<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<T>().iter().flatten().try_for_each(|value| self.put(0, value))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        Accumulator::update_batch(self, states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.array(self.sums.clone(), &self.seen), 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![Accumulator::evaluate(self)?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + GroupsAccumulator::size(self)
    }
}
