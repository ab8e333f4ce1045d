//! Accumulators: the state of one aggregate function for all groups, a column at a time.
//!
//! Groups are numbered by *slot*; every method takes the slots it is about, so that one call works on a whole batch
//! and nothing is called per row. Unlike DataFusion's `GroupsAccumulator`, reading a value leaves it in place: a
//! streaming group is read after every batch and goes on.
//!
//! | module | functions | state of a group |
//! |---|---|---|
//! | [`number`] | `count`, `sum`, `try_sum`, `bit_*`, `min` and `max` of numbers | one number |
//! | [`average`] | `avg`, `try_avg` | a sum and a count |
//! | [`extreme`] | `min` and `max` of everything else | one value |
//! | [`chosen`] | `first`, `last`, `min_by`, `max_by` | one value, and what it is compared by |
//! | [`moments`], [`covariance`] | `stddev`, `skewness`, `corr`, `regr_*` | up to six doubles |
//! | [`collect`], [`distinct`] | `collect_list`, `listagg`, `f(DISTINCT ...)` | every value |
//! | [`frequency`] | `mode`, `percentile`, `median` | every different value, and how often |
//! | [`taken_back`] | any function, of rows that may be taken back | a number, or every different value |
//! | [`summary`] and below it | sketches: `approx_count_distinct`, `percentile_approx`, ... | bounded bytes |
//!
//! Queries outside of streams run on these too: see `plan/functions/aggregates`.

mod average;
mod chosen;
mod collect;
mod covariance;
mod distinct;
mod extreme;
mod frequency;
mod moments;
mod number;
mod rows;
mod sketch;
mod summary;
mod taken_back;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};

pub(crate) use average::Average;
pub(crate) use chosen::{BestByOrder, ByOrder, Chosen, Which};
pub(crate) use collect::{Collect, ListAgg};
pub(crate) use covariance::{Covariance, Joint};
pub(crate) use distinct::Distinct;
pub(crate) use frequency::{Fractions, MostOften, Percentile};
pub(crate) use moments::{Moment, Moments};
pub(crate) use number::try_sum;
pub(crate) use sketch::{
    Bitmap, BitmapInput, CountMin, Histogram, HllUnions, HllValues, HyperLogLog, Quantiles, TopK, hll_bytes,
    hll_sketch, hll_unite, precision,
};
pub(crate) use summary::Summaries;
pub(crate) use taken_back::that_takes_back;

use crate::error::{EngineError, Result};

/// The state of one aggregate function for all groups.
pub(crate) trait Accumulator: Send + Sync {
    /// Makes room so that all slots below `slots` exist, new ones empty.
    fn grow(&mut self, slots: usize);

    /// Takes rows: row `i` of each argument belongs to `slots[i]`.
    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()>;

    /// Takes back rows that it was given before; only accumulators for [`that_takes_back`] can.
    fn retract(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let _ = (args, slots);
        Err(EngineError::internal("an aggregate function was asked to take rows back that it cannot take back"))
    }

    /// Adds stored states: row `i` of each state column belongs to `slots[i]`. A state is like a row of its own, if
    /// nothing else is said.
    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.update(state, slots)
    }

    /// The states of `slots`, one column a state field: the results, if nothing else is said.
    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    /// The results of `slots`.
    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef>;

    /// Empties `slots` for new groups.
    fn reset(&mut self, slots: &[u32]);

    /// Types of the state columns.
    fn state_types(&self) -> Vec<DataType>;

    /// Memory of all slots, in bytes.
    fn size_bytes(&self) -> usize;
}

/// The accumulator of a function by DataFusion's name, if it is here.
pub(crate) fn by_hand(function: &str, args: &[DataType], result: &DataType) -> Option<Box<dyn Accumulator>> {
    let arg = args.first();
    match (function, arg, result) {
        ("count", _, DataType::Int64) => Some(Box::<number::Count>::default()),
        ("sum", Some(arg), result) if arg == result || decimals(arg, result) => number::sum(result),
        ("bit_and" | "bit_or" | "bit_xor", Some(arg), result) if arg == result => number::bits(function, result),
        ("min" | "max", Some(arg), result) if arg == result => extreme::extreme(function == "max", result),
        _ => None,
    }
}

/// A sum of decimals has more digits than what it adds up, and the same scale.
fn decimals(arg: &DataType, result: &DataType) -> bool {
    matches!((arg, result), (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) if a == b)
}

/// `ARRAY<item>`.
fn list_type(item: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item.clone(), true)))
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

/// The rows in which any of the columns is null.
fn any_null(columns: &[ArrayRef]) -> Option<NullBuffer> {
    columns.iter().fold(None, |nulls: Option<NullBuffer>, column| {
        NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
    })
}

/// Keeps only the rows a `FILTER (WHERE ...)` lets through.
pub(crate) fn filtered(filter: &BooleanArray, args: &[ArrayRef], slots: &[u32]) -> Result<(Vec<ArrayRef>, Vec<u32>)> {
    let args = args.iter().map(|arg| arrow::compute::filter(arg, filter)).collect::<Result<_, _>>()?;
    let keep = |row: usize| filter.is_valid(row) && filter.value(row);
    let slots = slots.iter().enumerate().filter(|(row, _)| keep(*row)).map(|(_, slot)| *slot).collect();
    Ok((args, slots))
}
