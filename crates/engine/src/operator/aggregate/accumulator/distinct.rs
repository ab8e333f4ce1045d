//! `f(DISTINCT ...)` of any function: the different arguments seen are kept, and each is given on once.
//!
//! Spark refuses this on streams. It is exact, and its state is every different argument of the group; where a few
//! percent do not matter, `approx_count_distinct` costs half a kilobyte. What the function itself keeps is not stored:
//! it follows from the arguments.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields};

use super::rows::{Codec, RowSet, Sized, list_of};
use super::{Accumulator, any_null, for_each_valid, list_type};
use crate::error::Result;

/// A function that is given each argument once.
pub(crate) struct Distinct {
    inner: Box<dyn Accumulator>,
    codec: Codec,
    seen: Sized<RowSet>,
    /// Whether a row counts in which an argument is NULL.
    keep_nulls: bool,
}

impl Distinct {
    /// `types` are those of all arguments.
    pub(crate) fn new(inner: Box<dyn Accumulator>, types: &[DataType], keep_nulls: bool) -> Result<Self> {
        Ok(Self { inner, codec: Codec::new(types)?, seen: Sized::new(RowSet::size_bytes), keep_nulls })
    }

    /// The types of the state columns of a function of `types`.
    pub(crate) fn state_of(types: &[DataType]) -> Vec<DataType> {
        vec![list_type(&DataType::Struct(fields(types)))]
    }
}

fn fields(types: &[DataType]) -> Fields {
    let field = |(at, data_type): (usize, &DataType)| Field::new(format!("{at}"), data_type.clone(), true);
    types.iter().enumerate().map(field).collect()
}

impl Accumulator for Distinct {
    fn grow(&mut self, slots: usize) {
        self.inner.grow(slots);
        self.seen.grow(slots);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let args = &args[..self.codec.types().len()];
        let rows = self.codec.encode(args)?;
        let (mut new_rows, mut new_slots) = (Vec::new(), Vec::new());
        let nulls = any_null(args).filter(|_| !self.keep_nulls);
        for_each_valid(nulls.as_ref(), slots, |row, slot| {
            if self.seen.change(slot, |seen| seen.insert(rows.row(row).as_ref()).1) {
                new_rows.push(u32::try_from(row).unwrap_or(u32::MAX));
                new_slots.push(slots[row]);
            }
        });
        let new_rows = UInt32Array::from(new_rows);
        let args = args.iter().map(|arg| take(arg, &new_rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.inner.update(&args, &new_slots)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let lists = state[0].as_list::<i32>();
        for (row, slot) in slots.iter().enumerate() {
            let items = lists.value(row);
            self.update(items.as_struct().columns(), &vec![*slot; items.len()])?;
        }
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let lengths = slots.iter().map(|slot| self.seen.get(*slot).list().len()).collect();
        let columns = self.codec.decode(slots.iter().flat_map(|slot| self.seen.get(*slot).list().iter()))?;
        let items = StructArray::try_new(fields(self.codec.types()), columns, None)?;
        Ok(vec![list_of(lengths, Arc::new(items), None)?])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        self.inner.evaluate(slots)
    }

    fn reset(&mut self, slots: &[u32]) {
        self.inner.reset(slots);
        self.seen.reset(slots);
    }

    fn state_types(&self) -> Vec<DataType> {
        Self::state_of(self.codec.types())
    }

    fn size_bytes(&self) -> usize {
        self.inner.size_bytes() + self.seen.size_bytes()
    }
}
