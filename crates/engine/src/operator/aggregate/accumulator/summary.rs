//! Sketches: functions whose state is a summary of bounded size, stored as bytes.
//!
//! A [`Summary`] says how rows change it, how two become one and what it answers; [`Summaries`] keeps one for each
//! slot. A slot without rows has none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::datatypes::DataType;

use super::rows::{Sized, of_groups};
use super::{Accumulator, any_null, for_each_valid};
use crate::error::Result;

/// A kind of summary: its parameters, and what is done with one.
pub(crate) trait Summary: Send + Sync {
    /// The summary of one group.
    type State: Send + Sync + Default;
    /// The argument in a form that is quick to read row by row.
    type Rows;

    /// Whether a row counts whose argument is NULL.
    fn keeps_nulls(&self) -> bool {
        false
    }

    fn prepare(&self, args: &[ArrayRef]) -> Result<Self::Rows>;

    fn add(&self, state: &mut Self::State, rows: &Self::Rows, row: usize) -> Result<()>;

    /// Adds a stored summary.
    fn merge(&self, state: &mut Self::State, bytes: &[u8]) -> Result<()>;

    fn bytes(&self, state: &Self::State) -> Vec<u8>;

    fn size_bytes(state: &Self::State) -> usize;

    /// The answers, `None` for groups without rows.
    fn answers(&self, states: &[Option<&Self::State>]) -> Result<ArrayRef>;
}

/// The summaries of all groups.
pub(crate) struct Summaries<S: Summary> {
    kind: S,
    groups: Sized<Option<S::State>>,
}

impl<S: Summary> Summaries<S> {
    pub(crate) fn new(kind: S) -> Self {
        let size = |state: &Option<S::State>| state.as_ref().map_or(0, S::size_bytes);
        Self { kind, groups: Sized::new(size) }
    }
}

impl<S: Summary> Accumulator for Summaries<S> {
    of_groups!(groups);

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let rows = self.kind.prepare(args)?;
        let nulls = any_null(args).filter(|_| !self.kind.keeps_nulls());
        let mut failed = None;
        for_each_valid(nulls.as_ref(), slots, |row, slot| {
            let kind = &self.kind;
            let added = self.groups.change(slot, |state| kind.add(state.get_or_insert_default(), &rows, row));
            failed = failed.take().or(added.err());
        });
        failed.map_or(Ok(()), Err)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let stored = state[0].as_binary::<i32>();
        for (row, slot) in slots.iter().enumerate().filter(|(row, _)| stored.is_valid(*row)) {
            let kind = &self.kind;
            self.groups.change(*slot as usize, |state| kind.merge(state.get_or_insert_default(), stored.value(row)))?;
        }
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let bytes = |slot: &u32| self.groups.get(*slot).as_ref().map(|state| self.kind.bytes(state));
        Ok(vec![Arc::new(slots.iter().map(bytes).collect::<BinaryArray>())])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let states: Vec<Option<&S::State>> = slots.iter().map(|slot| self.groups.get(*slot).as_ref()).collect();
        self.kind.answers(&states)
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Binary]
    }
}
