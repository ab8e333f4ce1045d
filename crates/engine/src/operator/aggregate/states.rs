//! The states of all groups of one worker: an accumulator for each function, a slot for each group.
//!
//! ```text
//!             slot 0    slot 1    slot 2
//!   count       7         .         3          what is at one slot together is a group's state; stored, it is
//!   sum        3.5        .        0.5         one row, see operator/layout/codec.rs
//! ```

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::AggregateSpec;
use super::accumulator::Accumulator;
use super::table::Slots;
use crate::error::Result;
use crate::operator::layout::History;
use crate::operator::layout::codec::{Decoded, Encoded, ValueCodec};

/// The accumulators of one worker.
pub(super) struct GroupStates {
    spec: Arc<AggregateSpec>,
    accumulators: Vec<Box<dyn Accumulator>>,
    slots: Slots,
    /// Slots that the accumulators have room for.
    room: usize,
    codec: ValueCodec,
    /// How many state columns each accumulator has.
    widths: Vec<usize>,
}

impl GroupStates {
    pub(super) fn new(spec: &Arc<AggregateSpec>, history: &History) -> Result<Self> {
        let accumulators = spec.accumulators()?;
        Ok(Self {
            spec: Arc::clone(spec),
            widths: accumulators.iter().map(|accumulator| accumulator.state_types().len()).collect(),
            accumulators,
            slots: Slots::default(),
            room: 0,
            codec: ValueCodec::new(history, 0)?,
        })
    }

    /// The results of groups that are stored, of each function a column.
    pub(super) fn results_of(&self, stored: &[impl AsRef<[u8]>]) -> Result<Vec<ArrayRef>> {
        results_of(self.spec.accumulators()?, &self.codec, stored)
    }

    /// A slot for a new group, usable after [`GroupStates::grow`].
    pub(super) fn take_slot(&mut self) -> u32 {
        self.slots.take()
    }

    /// Makes room for the slots taken.
    pub(super) fn grow(&mut self) {
        if self.slots.len() > self.room {
            // As a `Vec` does it.
            self.room = self.slots.len().max(self.room * 2);
        }
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.grow(self.slots.len()));
    }

    /// Takes rows: row `i` belongs to `slots[i]`.
    pub(super) fn update(&mut self, columns: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let functions = self.spec.functions.iter().zip(&mut self.accumulators);
        functions
            .into_iter()
            .try_for_each(|(function, accumulator)| function.update(accumulator.as_mut(), columns, slots))
    }

    /// Takes rows back that it was given before: row `i` belongs to `slots[i]`.
    pub(super) fn retract(&mut self, columns: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let functions = self.spec.functions.iter().zip(&mut self.accumulators);
        functions
            .into_iter()
            .try_for_each(|(function, accumulator)| function.retract(accumulator.as_mut(), columns, slots))
    }

    /// The results of `slots`, a column a function.
    pub(super) fn evaluate(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.accumulators.iter_mut().map(|accumulator| accumulator.evaluate(slots)).collect()
    }

    /// The results of `slots` of one function.
    pub(super) fn evaluate_one(&mut self, function: usize, slots: &[u32]) -> Result<ArrayRef> {
        self.accumulators[function].evaluate(slots)
    }

    /// The states of `slots` as they are stored; none if no function has a state.
    pub(super) fn encode(&mut self, slots: &[u32]) -> Result<Option<Encoded>> {
        let columns = self.columns(slots)?;
        self.codec.encode(&columns)
    }

    /// Adds stored states to `slots`.
    pub(super) fn decode(&mut self, values: &[impl AsRef<[u8]>], slots: &[u32]) -> Result<()> {
        if values.is_empty() || self.widths.is_empty() {
            Ok(())
        } else {
            merge(&mut self.accumulators, &self.codec, values, slots)
        }
    }

    /// Adds the states of `from` to `to`, one by one.
    pub(super) fn add(&mut self, from: &[u32], to: &[u32]) -> Result<()> {
        let columns = self.columns(from)?;
        self.merge(&columns, to)
    }

    /// Empties slots for new groups.
    pub(super) fn free(&mut self, slots: &[u32]) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.reset(slots));
        self.slots.give_back(slots);
    }

    /// Keeps the groups of `slots` alone, at the slots from 0 on in that order, and gives the memory of others back.
    pub(super) fn keep(&mut self, slots: &[u32]) -> Result<()> {
        let columns = self.columns(slots)?;
        self.accumulators = self.spec.accumulators()?;
        (self.slots, self.room) = (Slots::default(), 0);
        let renumbered: Vec<u32> = slots.iter().map(|_| self.slots.take()).collect();
        self.grow();
        self.merge(&columns, &renumbered)
    }

    /// Memory, in bytes.
    pub(super) fn size_bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.size_bytes()).sum();
        accumulators + self.slots.size_bytes()
    }

    /// Memory that they take beyond [`GroupStates::size_bytes`] if there are `groups` more: what is full doubles.
    pub(super) fn growth_bytes(&self, groups: usize) -> usize {
        if self.slots.len() + groups > self.room + self.slots.free() { self.size_bytes() } else { 0 }
    }

    fn columns(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let states = self.accumulators.iter_mut().map(|accumulator| accumulator.state(slots));
        Ok(states.collect::<Result<Vec<_>>>()?.concat())
    }

    fn merge(&mut self, columns: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let mut rest = columns;
        for (accumulator, width) in self.accumulators.iter_mut().zip(&self.widths) {
            let (own, others) = rest.split_at(*width);
            if !slots.is_empty() {
                accumulator.merge(own, slots)?;
            }
            rest = others;
        }
        Ok(())
    }
}

/// What accumulators show of groups that are stored.
pub(super) fn results_of(
    mut accumulators: Vec<Box<dyn Accumulator>>,
    codec: &ValueCodec,
    stored: &[impl AsRef<[u8]>],
) -> Result<Vec<ArrayRef>> {
    let slots: Vec<u32> = (0_u32..).zip(stored).map(|(slot, _)| slot).collect();
    accumulators.iter_mut().for_each(|accumulator| accumulator.grow(slots.len()));
    merge(&mut accumulators, codec, stored, &slots)?;
    accumulators.iter_mut().map(|accumulator| accumulator.evaluate(&slots)).collect()
}

/// Adds stored states to slots. A function that a row is older than finds nothing there and stays as it is.
fn merge(
    accumulators: &mut [Box<dyn Accumulator>],
    codec: &ValueCodec,
    stored: &[impl AsRef<[u8]>],
    slots: &[u32],
) -> Result<()> {
    for Decoded { rows, parts } in codec.decode(stored)? {
        let slots: Vec<u32> = rows.iter().map(|row| slots[*row as usize]).collect();
        for (accumulator, columns) in accumulators.iter_mut().zip(parts) {
            if let Some(columns) = columns {
                accumulator.merge(&columns, &slots)?;
            }
        }
    }
    Ok(())
}
