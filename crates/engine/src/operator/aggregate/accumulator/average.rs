//! `avg` and `try_avg`: a sum and a count, divided when they are read.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};

use super::Accumulator;
use super::number::{Count, sum, try_sum};
use crate::error::{EngineError, Result};
use crate::plan::functions::{Mode, average};

/// The accumulator of both.
pub(crate) struct Average {
    sums: Box<dyn Accumulator>,
    counts: Count,
    result: DataType,
    mode: Mode,
}

impl Average {
    /// `sum_type` is the type of the sum; with [`Mode::Try`] what overflows is NULL.
    pub(crate) fn new(sum_type: &DataType, result: DataType, mode: Mode) -> Result<Self> {
        let sums = if mode == Mode::Try { try_sum(sum_type) } else { sum(sum_type) };
        let sums = sums.ok_or_else(|| EngineError::internal(format!("there is no sum of {sum_type}")))?;
        Ok(Self { sums, counts: Count::default(), result, mode })
    }
}

impl Accumulator for Average {
    fn grow(&mut self, slots: usize) {
        self.sums.grow(slots);
        self.counts.grow(slots);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.sums.update(args, slots)?;
        self.counts.update(args, slots)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let (counts, sums) = state.split_last().ok_or_else(|| EngineError::internal("an average without state"))?;
        self.sums.merge(sums, slots)?;
        self.counts.merge(std::slice::from_ref(counts), slots)
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut state = self.sums.state(slots)?;
        state.extend(self.counts.state(slots)?);
        Ok(state)
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let (sums, counts) = (self.sums.evaluate(slots)?, self.counts.evaluate(slots)?);
        Ok(average(&sums, counts.as_primitive::<Int64Type>(), &self.result, self.mode)?)
    }

    fn reset(&mut self, slots: &[u32]) {
        self.sums.reset(slots);
        self.counts.reset(slots);
    }

    fn state_types(&self) -> Vec<DataType> {
        let mut types = self.sums.state_types();
        types.extend(self.counts.state_types());
        types
    }

    fn size_bytes(&self) -> usize {
        self.sums.size_bytes() + self.counts.size_bytes()
    }
}
