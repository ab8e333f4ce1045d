//! `first`, `last` and their like, `min_by` and `max_by`: one value a group, chosen by its place or by another value.
//!
//! Rows come in the order in which the source has them, within one partition of it. Of rows that `min_by` compares as
//! equal the last one is taken, as Spark does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::take;
use arrow::datatypes::DataType;
use hashbrown::HashMap;

use super::rows::{Codec, Sized, of_groups, winners};
use super::{Accumulator, for_each_valid};
use crate::error::Result;

/// Which row of a group gives the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    First,
    Last,
}

/// `first` and `last`: state is whether there was a row, and its value.
pub(crate) struct Chosen {
    which: Which,
    ignore_nulls: bool,
    codec: Codec,
    values: Values,
}

type Values = Sized<Option<Box<[u8]>>>;

fn boxes() -> Values {
    Sized::new(|row: &Option<Box<[u8]>>| row.as_deref().map_or(0, <[u8]>::len))
}

impl Chosen {
    pub(crate) fn new(which: Which, ignore_nulls: bool, data_type: &DataType) -> Result<Self> {
        Ok(Self { which, ignore_nulls, codec: Codec::of(data_type)?, values: boxes() })
    }

    /// Takes the chosen row of each slot; `counts` tells which rows may be chosen.
    fn choose(&mut self, column: &ArrayRef, counts: impl Fn(usize) -> bool, slots: &[u32]) -> Result<()> {
        let mut chosen: HashMap<u32, u32> = HashMap::new();
        for (row, slot) in (0_u32..).zip(slots) {
            if counts(row as usize) && (self.which == Which::Last || self.values.get(*slot).is_none()) {
                match self.which {
                    Which::First => _ = chosen.entry(*slot).or_insert(row),
                    Which::Last => _ = chosen.insert(*slot, row),
                }
            }
        }
        let (slots, rows): (Vec<u32>, Vec<u32>) = chosen.into_iter().unzip();
        let taken = take(column, &arrow::array::UInt32Array::from(rows), None)?;
        let rows = self.codec.encode_exactly(&[taken])?;
        for (row, slot) in rows.iter().zip(slots) {
            self.values.change(slot as usize, |value| *value = Some(row.as_ref().into()));
        }
        Ok(())
    }
}

impl Accumulator for Chosen {
    of_groups!(values);

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let nulls = args[0].logical_nulls().filter(|_| self.ignore_nulls);
        self.choose(&args[0], |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)), slots)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let is_set = state[1].as_boolean();
        self.choose(&state[0], |row| is_set.value(row), slots)
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let is_set: BooleanArray = slots.iter().map(|slot| Some(self.values.get(*slot).is_some())).collect();
        Ok(vec![self.evaluate(slots)?, Arc::new(is_set)])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        self.codec.one_or_null(slots.iter().map(|slot| self.values.get(*slot).as_deref()))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.codec.types()[0].clone(), DataType::Boolean]
    }
}

/// `min_by` and `max_by`: state is the value and what it was chosen by, NULL before the first row that has one.
pub(crate) struct ByOrder {
    is_max: bool,
    value: Codec,
    order: Codec,
    values: Values,
    orders: Values,
}

impl ByOrder {
    pub(crate) fn new(is_max: bool, value: &DataType, order: &DataType) -> Result<Self> {
        let (value, order) = (Codec::of(value)?, Codec::of(order)?);
        Ok(Self { is_max, value, order, values: boxes(), orders: boxes() })
    }
}

impl Accumulator for ByOrder {
    fn grow(&mut self, slots: usize) {
        self.values.grow(slots);
        self.orders.grow(slots);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let is_max = self.is_max;
        let replaces = |old: &[u8], new: &[u8]| if is_max { new >= old } else { new <= old };
        let orders = self.order.encode(&args[1..2])?;
        let best: Vec<(usize, usize)> = winners(&orders, args[1].logical_nulls().as_ref(), slots, replaces)
            .into_iter()
            .filter(|(slot, row)| {
                let old = self.orders.get(u32::try_from(*slot).unwrap_or(u32::MAX)).as_deref();
                old.is_none_or(|old| replaces(old, orders.row(*row).as_ref()))
            })
            .collect();
        let rows = best.iter().map(|(_, row)| u32::try_from(*row).unwrap_or(u32::MAX)).collect::<Vec<_>>();
        let taken = take(&args[0], &arrow::array::UInt32Array::from(rows), None)?;
        let values = self.value.encode_exactly(&[taken])?;
        for ((slot, row), value) in best.into_iter().zip(values.iter()) {
            self.values.change(slot, |place| *place = Some(value.as_ref().into()));
            self.orders.change(slot, |place| *place = Some(orders.row(row).as_ref().into()));
        }
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let orders = self.order.one_or_null(slots.iter().map(|slot| self.orders.get(*slot).as_deref()))?;
        Ok(vec![self.evaluate(slots)?, orders])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        self.value.one_or_null(slots.iter().map(|slot| self.values.get(*slot).as_deref()))
    }

    fn reset(&mut self, slots: &[u32]) {
        self.values.reset(slots);
        self.orders.reset(slots);
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.value.types()[0].clone(), self.order.types()[0].clone()]
    }

    fn size_bytes(&self) -> usize {
        self.values.size_bytes() + self.orders.size_bytes()
    }
}

/// `min_by(x, y, k)` and `max_by(x, y, k)`: the values of the `k` best rows, best first.
pub(crate) struct BestByOrder {
    is_max: bool,
    k: usize,
    value: Codec,
    order: Codec,
    groups: Sized<Best>,
}

/// Rows of a group, best first.
#[derive(Debug, Default)]
struct Best {
    orders: Vec<Box<[u8]>>,
    values: Vec<Box<[u8]>>,
}

impl Best {
    fn size_bytes(&self) -> usize {
        self.orders.iter().chain(&self.values).map(|row| row.len() + size_of::<Box<[u8]>>()).sum()
    }

    /// Puts a row in its place, before those that are as good.
    fn put(&mut self, is_max: bool, k: usize, order: &[u8], value: &[u8]) {
        let is_better = |old: &[u8]| if is_max { old > order } else { old < order };
        let at = self.orders.partition_point(|old| is_better(old));
        if at < k {
            self.orders.insert(at, order.into());
            self.values.insert(at, value.into());
            self.orders.truncate(k);
            self.values.truncate(k);
        }
    }
}

impl BestByOrder {
    pub(crate) fn new(is_max: bool, k: usize, value: &DataType, order: &DataType) -> Result<Self> {
        let (value, order) = (Codec::of(value)?, Codec::of(order)?);
        Ok(Self { is_max, k, value, order, groups: Sized::new(Best::size_bytes) })
    }

    fn lists(&self, slots: &[u32], codec: &Codec, rows: fn(&Best) -> &[Box<[u8]>]) -> Result<ArrayRef> {
        codec.lists(slots.iter().map(|slot| rows(self.groups.get(*slot)).iter().map(AsRef::as_ref)), None)
    }
}

impl Accumulator for BestByOrder {
    of_groups!(groups);

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let values = self.value.encode_exactly(&args[..1])?;
        let orders = self.order.encode(&args[1..2])?;
        let (is_max, k) = (self.is_max, self.k);
        for_each_valid(args[1].logical_nulls().as_ref(), slots, |row, slot| {
            self.groups.change(slot, |best| {
                best.put(is_max, k, orders.row(row).as_ref(), values.row(row).as_ref());
            });
        });
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let (values, orders) = (state[0].as_list::<i32>(), state[1].as_list::<i32>());
        for (row, slot) in slots.iter().enumerate() {
            // Last first, so that of equals the one that came later stays before the other.
            let count = u32::try_from(values.value(row).len()).unwrap_or(u32::MAX);
            let reversed = arrow::array::UInt32Array::from_iter_values((0..count).rev());
            let columns = [take(&values.value(row), &reversed, None)?, take(&orders.value(row), &reversed, None)?];
            self.update(&columns, &vec![*slot; count as usize])?;
        }
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let orders = self.lists(slots, &self.order, |best| &best.orders)?;
        Ok(vec![self.lists(slots, &self.value, |best| &best.values)?, orders])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let validity = slots.iter().map(|slot| !self.groups.get(*slot).values.is_empty()).collect::<Vec<bool>>();
        let rows = slots.iter().map(|slot| self.groups.get(*slot).values.iter().map(AsRef::as_ref));
        self.value.lists(rows, Some(validity.into()))
    }

    fn state_types(&self) -> Vec<DataType> {
        [&self.value, &self.order].map(|codec| super::list_type(&codec.types()[0])).to_vec()
    }
}
