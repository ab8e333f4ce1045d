//! `approx_top_k`: the values that came most often.
//!
//! Counts are exact while there are no more different values than may be tracked. Beyond that the smaller half goes and
//! the others lose as much as the largest of it had, which is added to what is shown: counts are then too high by no
//! more than that. Source: Misra, Gries, "Finding Repeated Elements", 1982.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::Rows;

use super::{Reader, damaged};
use crate::error::Result;
use crate::operator::aggregate::accumulator::rows::{Codec, RowCounts, list_of};
use crate::operator::aggregate::accumulator::summary::Summary;

/// The kind of summary: how many values are shown, and how many are tracked.
pub(crate) struct TopK {
    codec: Codec,
    k: usize,
    tracked: usize,
}

/// The values of one group that are tracked.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    counts: RowCounts,
    /// What was taken away from every count.
    taken: i64,
}

impl TopK {
    pub(crate) fn new(data_type: &DataType, k: usize, tracked: usize) -> Result<Self> {
        Ok(Self { codec: Codec::of(data_type)?, k, tracked })
    }

    fn put(&self, state: &mut Tracked, row: &[u8], times: i64) {
        state.counts.add(row, times);
        if state.counts.len() <= self.tracked {
            return;
        }
        let mut counts: Vec<i64> = state.counts.iter().map(|(_, count)| count).collect();
        let middle = counts.len() / 2;
        let (_, less, _) = counts.select_nth_unstable(middle);
        let mut kept = RowCounts::default();
        for (row, count) in state.counts.iter().filter(|(_, count)| *count > *less) {
            kept.add(row, count - *less);
        }
        state.taken += *less;
        state.counts = kept;
    }

    /// Values and counts, the most frequent first; of equals the smaller value.
    fn top<'a>(&self, state: &'a Tracked) -> Vec<(&'a [u8], i64)> {
        let mut all = state.counts.sorted();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all.truncate(self.k);
        all.into_iter().map(|(row, count)| (row, count + state.taken)).collect()
    }
}

impl Summary for TopK {
    type State = Tracked;
    type Rows = Rows;

    fn keeps_nulls(&self) -> bool {
        true
    }

    fn prepare(&self, args: &[ArrayRef]) -> Result<Rows> {
        self.codec.encode(&args[..1])
    }

    fn add(&self, state: &mut Tracked, rows: &Rows, row: usize) -> Result<()> {
        self.put(state, rows.row(row).as_ref(), 1);
        Ok(())
    }

    fn merge(&self, state: &mut Tracked, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader(bytes);
        state.taken += reader.long()?;
        while !reader.0.is_empty() {
            let (count, length) = (reader.long()?, reader.int()?);
            let (row, rest) = reader.0.split_at_checked(length).ok_or_else(damaged)?;
            self.put(state, row, count);
            reader = Reader(rest);
        }
        Ok(())
    }

    /// What was taken away, then count, length and bytes of each value.
    fn bytes(&self, state: &Tracked) -> Vec<u8> {
        let mut bytes = state.taken.to_be_bytes().to_vec();
        for (row, count) in state.counts.iter() {
            bytes.extend(count.to_be_bytes());
            bytes.extend((row.len() as u32).to_be_bytes());
            bytes.extend_from_slice(row);
        }
        bytes
    }

    fn size_bytes(state: &Tracked) -> usize {
        state.counts.size_bytes()
    }

    fn answers(&self, states: &[Option<&Tracked>]) -> Result<ArrayRef> {
        let tops: Vec<Vec<(&[u8], i64)>> =
            states.iter().map(|state| state.map_or_else(Vec::new, |s| self.top(s))).collect();
        let mut columns = self.codec.decode(tops.iter().flatten().map(|(row, _)| *row))?;
        columns.push(Arc::new(Int64Array::from_iter_values(tops.iter().flatten().map(|(_, count)| *count))));
        let item = Field::new("item", self.codec.types()[0].clone(), true);
        let fields = Fields::from(vec![item, Field::new("count", DataType::Int64, true)]);
        let items = StructArray::try_new(fields, columns, None)?;
        list_of(tops.iter().map(Vec::len).collect(), Arc::new(items), None)
    }
}
