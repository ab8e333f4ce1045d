//! `mode`, `percentile`, `median` and their like: every different value of a group and how often it came.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};

use super::rows::{Codec, RowCounts, Sized, list_of, of_groups};
use super::{Accumulator, any_null, for_each_valid, list_type};
use crate::error::{EngineError, Result};

/// Values with their counts, for all groups; the state of both functions.
struct Counted {
    codec: Codec,
    groups: Sized<RowCounts>,
}

impl Counted {
    fn new(data_type: &DataType) -> Result<Self> {
        Ok(Self { codec: Codec::of(data_type)?, groups: Sized::new(RowCounts::size_bytes) })
    }

    fn fields(&self) -> Fields {
        let value = Field::new("value", self.codec.types()[0].clone(), true);
        Fields::from(vec![value, Field::new("count", DataType::Int64, true)])
    }

    /// Adds values, each as often as `times` has it.
    fn take(&mut self, values: &ArrayRef, times: Option<&Int64Array>, slots: &[u32]) -> Result<()> {
        let rows = self.codec.encode(std::slice::from_ref(values))?;
        for_each_valid(values.logical_nulls().as_ref(), slots, |row, slot| {
            let times = times.map_or(1, |times| times.value(row));
            self.groups.change(slot, |group| group.add(rows.row(row).as_ref(), times));
        });
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let lists = state[0].as_list::<i32>();
        for (row, slot) in slots.iter().enumerate() {
            let items = lists.value(row);
            let columns = items.as_struct().columns();
            self.take(&columns[0], Some(columns[1].as_primitive::<Int64Type>()), &vec![*slot; items.len()])?;
        }
        Ok(())
    }

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let groups = || slots.iter().map(|slot| self.groups.get(*slot));
        let mut columns = self.codec.decode(groups().flat_map(|group| group.iter().map(|(row, _)| row)))?;
        let counts = Int64Array::from_iter_values(groups().flat_map(|group| group.iter().map(|(_, count)| count)));
        columns.push(Arc::new(counts));
        let items = StructArray::try_new(self.fields(), columns, None)?;
        Ok(vec![list_of(groups().map(RowCounts::len).collect(), Arc::new(items), None)?])
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![list_type(&DataType::Struct(self.fields()))]
    }
}

/// `mode`: the value that came most often; of several the largest or the smallest.
pub(crate) struct MostOften {
    counted: Counted,
    largest: bool,
}

impl MostOften {
    pub(crate) fn new(data_type: &DataType, largest: bool) -> Result<Self> {
        Ok(Self { counted: Counted::new(data_type)?, largest })
    }
}

impl Accumulator for MostOften {
    of_groups!(counted.groups);

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.counted.take(&args[0], None, slots)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.counted.merge(state, slots)
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.counted.state(slots)
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let better = |a: &(&[u8], i64), b: &(&[u8], i64)| {
            let by_value = if self.largest { a.0.cmp(b.0) } else { b.0.cmp(a.0) };
            a.1.cmp(&b.1).then(by_value)
        };
        let mode = |slot: &u32| self.counted.groups.get(*slot).iter().max_by(better).map(|(row, _)| row);
        self.counted.codec.one_or_null(slots.iter().map(mode))
    }

    fn state_types(&self) -> Vec<DataType> {
        self.counted.state_types()
    }
}

/// Which places of the sorted values are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Fractions {
    pub(crate) fractions: Vec<f64>,
    /// Whether the answer is an array.
    pub(crate) is_list: bool,
    /// From the largest value down.
    pub(crate) reversed: bool,
    /// One of the values, where `percentile` goes between two of them.
    pub(crate) is_discrete: bool,
}

/// `percentile`, `median`, `percentile_cont`, `percentile_disc` of doubles, each with a frequency.
pub(crate) struct Percentile {
    counted: Counted,
    asked: Fractions,
}

impl Percentile {
    pub(crate) fn new(asked: Fractions) -> Result<Self> {
        Ok(Self { counted: Counted::new(&DataType::Float64)?, asked })
    }

    /// The answers of a group; none if it has no values.
    fn answers(&self, group: &RowCounts) -> Result<Option<Vec<f64>>> {
        let mut sorted = group.sorted();
        sorted.retain(|(_, count)| *count > 0);
        if sorted.is_empty() || self.asked.fractions.is_empty() {
            return Ok(None);
        }
        if self.asked.reversed {
            sorted.reverse();
        }
        let values = self.counted.codec.decode(sorted.iter().map(|(row, _)| *row))?;
        let values = values[0].as_primitive::<Float64Type>();
        let ends: Vec<i64> = sorted
            .iter()
            .scan(0_i64, |end, (_, count)| {
                *end += count;
                Some(*end)
            })
            .collect();
        Ok(Some(self.asked.fractions.iter().map(|fraction| self.place(values, &ends, *fraction)).collect()))
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "places are far below 2^53")]
    fn place(&self, values: &Float64Array, ends: &[i64], fraction: f64) -> f64 {
        let total = ends.last().copied().unwrap_or(0);
        let at = |place: i64| values.value(ends.partition_point(|end| *end <= place).min(values.len() - 1));
        if self.asked.is_discrete {
            let place = (total as f64 * fraction).ceil() as i64 - 1;
            return at(place.max(0));
        }
        let place = (total - 1) as f64 * fraction;
        let (lower, higher) = (place.floor() as i64, place.ceil() as i64);
        let (low, high) = (at(lower), at(higher));
        if low == high || lower == higher {
            return low;
        }
        (higher as f64 - place) * low + (place - lower as f64) * high
    }
}

impl Accumulator for Percentile {
    of_groups!(counted.groups);

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let times = args[1].as_primitive::<Int64Type>();
        let nulls = any_null(&args[..2]);
        let counts = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        if (0..times.len()).any(|row| counts(row) && times.value(row) < 0) {
            return Err(EngineError::data("[INVALID_PARAMETER] a frequency of percentile is negative")
                .help("give percentile only frequencies of 0 and more"));
        }
        let values = args[0].as_primitive::<Float64Type>();
        let values: ArrayRef = Arc::new(Float64Array::new(values.values().clone(), nulls));
        self.counted.take(&values, Some(times), slots)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.counted.merge(state, slots)
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.counted.state(slots)
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let answers = slots.iter().map(|slot| self.answers(self.counted.groups.get(*slot)));
        let answers = answers.collect::<Result<Vec<Option<Vec<f64>>>>>()?;
        if !self.asked.is_list {
            return Ok(Arc::new(answers.iter().map(|all| Some(*all.as_ref()?.first()?)).collect::<Float64Array>()));
        }
        let validity: Vec<bool> = answers.iter().map(Option::is_some).collect();
        let lengths = answers.iter().map(|all| all.as_ref().map_or(0, Vec::len)).collect();
        let values = Float64Array::from_iter_values(answers.into_iter().flatten().flatten());
        list_of(lengths, Arc::new(values), Some(validity.into()))
    }

    fn state_types(&self) -> Vec<DataType> {
        self.counted.state_types()
    }
}
