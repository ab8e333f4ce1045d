//! Our accumulators in DataFusion's frames: one group, many groups, and frames of rows that move.

use std::collections::VecDeque;
use std::fmt;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::concat;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{Accumulator as RowAccumulator, EmitTo, GroupsAccumulator};

use crate::error::{EngineError, Result as EngineResult};
use crate::operator::aggregate::accumulator::{Accumulator, filtered};

/// An error of ours as DataFusion's; it comes back as ours.
pub(super) fn outward<T>(result: EngineResult<T>) -> Result<T> {
    result.map_err(|error: EngineError| DataFusionError::External(Box::new(error)))
}

/// A single group.
pub(super) struct One {
    inner: Box<dyn Accumulator>,
    inputs: usize,
}

impl One {
    pub(super) fn new(mut inner: Box<dyn Accumulator>, inputs: usize) -> Self {
        inner.grow(1);
        Self { inner, inputs }
    }
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("One")
    }
}

impl RowAccumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let slots = vec![0; values[0].len()];
        outward(self.inner.update(&values[..self.inputs], &slots))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let slots = vec![0; states[0].len()];
        outward(self.inner.merge(states, &slots))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&outward(self.inner.evaluate(&[0]))?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        outward(self.inner.state(&[0]))?.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size_bytes()
    }
}

/// Makes an accumulator without groups.
pub(super) type Make = Box<dyn Fn() -> EngineResult<Box<dyn Accumulator>> + Send + Sync>;

/// Many groups; the slots of groups that were given out are used again.
pub(super) struct Grouped {
    make: Make,
    inner: Box<dyn Accumulator>,
    inputs: usize,
    /// The slot of each group.
    slots: VecDeque<u32>,
    free: Vec<u32>,
    used: u32,
}

impl Grouped {
    pub(super) fn new(make: Make, inputs: usize) -> Result<Self> {
        let inner = outward(make())?;
        Ok(Self { make, inner, inputs, slots: VecDeque::new(), free: Vec::new(), used: 0 })
    }

    fn slots_of(&mut self, groups: &[usize], total: usize) -> Vec<u32> {
        while self.slots.len() < total {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.used += 1;
                self.used - 1
            });
            self.slots.push_back(slot);
        }
        self.inner.grow(self.used as usize);
        groups.iter().map(|group| self.slots[*group]).collect()
    }

    /// Gives out what `read` makes of the groups asked for, and forgets them.
    fn emit<T>(&mut self, emit_to: EmitTo, read: fn(&mut dyn Accumulator, &[u32]) -> EngineResult<T>) -> Result<T> {
        let count = match emit_to {
            EmitTo::All => self.slots.len(),
            EmitTo::First(count) => count,
        };
        let slots: Vec<u32> = self.slots.drain(..count).collect();
        let result = outward(read(self.inner.as_mut(), &slots))?;
        self.inner.reset(&slots);
        self.free.extend(slots);
        Ok(result)
    }
}

impl GroupsAccumulator for Grouped {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let slots = self.slots_of(group_indices, total_num_groups);
        let values = &values[..self.inputs];
        let Some(filter) = opt_filter else { return outward(self.inner.update(values, &slots)) };
        let (values, slots) = outward(filtered(filter, values, &slots))?;
        outward(self.inner.update(&values, &slots))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        let slots = self.slots_of(group_indices, total_num_groups);
        outward(self.inner.merge(values, &slots))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emit(emit_to, |inner, slots| inner.evaluate(slots))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.emit(emit_to, |inner, slots| inner.state(slots))
    }

    /// Each row as the state of a group of its own.
    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let slots: Vec<u32> = (0..u32::try_from(rows).unwrap_or(u32::MAX)).collect();
        let mut groups = outward((self.make)())?;
        groups.grow(rows);
        let inputs = &values[..self.inputs];
        outward(match opt_filter {
            None => groups.update(inputs, &slots),
            Some(filter) => filtered(filter, inputs, &slots).and_then(|(inputs, of)| groups.update(&inputs, &of)),
        })?;
        outward(groups.state(&slots))
    }

    fn size(&self) -> usize {
        self.inner.size_bytes() + (self.slots.capacity() + self.free.capacity()) * size_of::<u32>()
    }
}

/// The rows of a window's frame, computed anew when asked: few functions can take a row back.
pub(super) struct Sliding {
    make: Make,
    inputs: usize,
    rows: VecDeque<Vec<ArrayRef>>,
}

impl Sliding {
    pub(super) fn new(make: Make, inputs: usize) -> Self {
        Self { make, inputs, rows: VecDeque::new() }
    }

    fn current(&self) -> Result<One> {
        let mut one = One::new(outward((self.make)())?, self.inputs);
        if let Some(first) = self.rows.front() {
            let column = |at: usize| {
                let parts: Vec<&dyn Array> = self.rows.iter().map(|rows| rows[at].as_ref()).collect();
                concat(&parts)
            };
            let columns = (0..first.len()).map(column).collect::<Result<Vec<_>, _>>()?;
            one.update_batch(&columns)?;
        }
        Ok(one)
    }
}

impl fmt::Debug for Sliding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sliding")
    }
}

impl RowAccumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.push_back(values.to_vec());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut rest = values[0].len();
        while rest > 0
            && let Some(rows) = self.rows.front_mut()
        {
            let count = rows[0].len();
            if count > rest {
                rows.iter_mut().for_each(|column| *column = column.slice(rest, count - rest));
                return Ok(());
            }
            rest -= count;
            self.rows.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        Err(DataFusionError::Internal("a window's frame has no partial states".to_owned()))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.current()?.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.current()?.state()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows.iter().flatten().map(|column| column.get_array_memory_size()).sum::<usize>()
    }
}
