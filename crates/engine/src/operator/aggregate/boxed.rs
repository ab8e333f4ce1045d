//! Every aggregate function DataFusion has, one boxed accumulator a group.
//!
//! The way for functions that [`super::accumulator`] does not have by hand (`approx_count_distinct`, `stddev`,
//! percentiles, ...): the result is DataFusion's, the cost is a dynamic call for each group and batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Accumulator as RowAccumulator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::accumulator::Accumulator;
use crate::error::Result;

/// One DataFusion accumulator a slot, made when the slot is first used.
pub(super) struct Boxed {
    function: Arc<AggregateFunctionExpr>,
    state_types: Vec<DataType>,
    result: DataType,
    slots: Vec<Option<Box<dyn RowAccumulator>>>,
}

impl Boxed {
    pub(super) fn new(function: Arc<AggregateFunctionExpr>) -> Result<Self> {
        let state_types = function.state_fields()?.iter().map(|field| field.data_type().clone()).collect();
        let result = function.field().data_type().clone();
        Ok(Self { function, state_types, result, slots: Vec::new() })
    }

    fn slot(&mut self, slot: u32) -> Result<&mut Box<dyn RowAccumulator>> {
        let place = &mut self.slots[slot as usize];
        if place.is_none() {
            *place = Some(self.function.create_accumulator()?);
        }
        place.as_mut().ok_or_else(|| crate::error::EngineError::internal("an accumulator is missing"))
    }

    /// Calls `f` once a slot with the rows of the columns that belong to it.
    fn by_slot(
        &mut self,
        columns: &[ArrayRef],
        slots: &[u32],
        f: fn(&mut dyn RowAccumulator, &[ArrayRef]) -> datafusion::common::Result<()>,
    ) -> Result<()> {
        let mut order: Vec<u32> = (0..u32::try_from(slots.len()).unwrap_or(u32::MAX)).collect();
        order.sort_by_key(|row| slots[*row as usize]);
        for rows in order.chunk_by(|a, b| slots[*a as usize] == slots[*b as usize]) {
            let indices = UInt32Array::from(rows.to_vec());
            let taken = columns.iter().map(|column| take(column, &indices, None)).collect::<Result<Vec<_>, _>>()?;
            f(self.slot(slots[rows[0] as usize])?.as_mut(), &taken)?;
        }
        Ok(())
    }
}

impl Accumulator for Boxed {
    fn grow(&mut self, slots: usize) {
        self.slots.resize_with(slots.max(self.slots.len()), || None);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.by_slot(args, slots, |accumulator, rows| accumulator.update_batch(rows))
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.by_slot(state, slots, |accumulator, rows| accumulator.merge_batch(rows))
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(slots.len()); self.state_types.len()];
        for slot in slots {
            for (column, value) in columns.iter_mut().zip(self.slot(*slot)?.state()?) {
                column.push(value);
            }
        }
        columns.into_iter().zip(&self.state_types).map(|(values, data_type)| array_of(values, data_type)).collect()
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let values = slots.iter().map(|slot| Ok(self.slot(*slot)?.evaluate()?)).collect::<Result<Vec<_>>>()?;
        array_of(values, &self.result.clone())
    }

    fn reset(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.slots[*slot as usize] = None);
    }

    fn state_types(&self) -> Vec<DataType> {
        self.state_types.clone()
    }

    fn size_bytes(&self) -> usize {
        let accumulators: usize = self.slots.iter().flatten().map(|accumulator| accumulator.size()).sum();
        accumulators + size_of_val(self.slots.as_slice())
    }
}

fn array_of(values: Vec<ScalarValue>, data_type: &DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(arrow::array::new_empty_array(data_type));
    }
    Ok(ScalarValue::iter_to_array(values)?)
}
