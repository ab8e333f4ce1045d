//! Groups of rows that may be taken back, and groups whose own rows are taken back by whoever reads them.
//!
//! ```text
//!   a batch of rows ──> groups it changes first ──(Tells::Changes)──> their rows so far, taken back
//!        │ taken_back: retract, else update
//!        ▼
//!   end of the batch ──> rows of changed groups; groups without rows are gone, from the answer and from the state
//! ```
//!
//! A group is known to be without rows by a function that counts them (`AggregateSpec::rows_counted_by`); where no group
//! can lose all its rows there is none. A changed group is told before it leaves memory, so that what comes after finds in
//! the store what was told.

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::Int64Type;

use super::operator::AggregateOperator;
use super::table::FETCH_KEYS;
use crate::error::Result;
use crate::operator::changes::{Tells, marked};
use crate::operator::keyed::shard_of_hash;
use crate::operator::{EMIT_ROWS, Emit};
use crate::state::{ChangeSet, key};

/// What a batch has changed of groups that are told as changes.
#[derive(Default)]
pub(super) struct Changing {
    /// Groups that were told before and are about to change, by bucket and entry.
    pub(super) renewed: Vec<(i64, u32)>,
    /// Stored keys of groups that lost all their rows since the last commit; they may have come back.
    gone: BTreeSet<Vec<u8>>,
}

impl AggregateOperator {
    /// Takes back what was told of the groups that are about to change.
    pub(super) fn take_back(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let mut renewed = std::mem::take(&mut self.changing.renewed);
        renewed.sort_unstable();
        for of_time in renewed.chunk_by(|a, b| a.0 == b.0) {
            let time = of_time[0].0;
            let entries: Vec<u32> = of_time.iter().map(|(_, entry)| *entry).collect();
            for entries in entries.chunks(EMIT_ROWS) {
                let Some(rows) = self.rows_of(time, entries)? else { continue };
                emit(marked(&rows, true)?)?;
            }
        }
        Ok(())
    }

    /// The rows of entries.
    pub(super) fn rows_of(&mut self, time: i64, entries: &[u32]) -> Result<Option<RecordBatch>> {
        let Some(bucket) = self.buckets.get(&time) else { return Ok(None) };
        let results = self.states.evaluate(&bucket.slots(entries))?;
        let keys = entries.iter().map(|entry| bucket.key(*entry));
        self.rows.of_bucket(time, keys, results).map(Some)
    }

    /// Emits rows as whoever takes them wants them told; those of groups that have no rows any more are gone.
    pub(super) fn tell(&self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<()> {
        let gone = self.are_gone(&rows);
        let (here, gone) = match &gone {
            Some(gone) => (filter_record_batch(&rows, &not(gone)?)?, Some(filter_record_batch(&rows, gone)?)),
            None => (rows, None),
        };
        let has_mark = self.spec.tells.has_mark();
        // Deletes first: the order within a batch is that of the sink.
        if let Some(gone) = gone.filter(|gone| gone.num_rows() > 0 && self.spec.tells == Tells::Gone) {
            emit(marked(&gone, true)?)?;
        }
        match here.num_rows() {
            0 => Ok(()),
            _ if has_mark => emit(marked(&here, false)?),
            _ => emit(here),
        }
    }

    fn are_gone(&self, rows: &RecordBatch) -> Option<BooleanArray> {
        let function = self.spec.rows_counted_by?;
        let first = rows.num_columns() - self.spec.functions.len();
        are_zero(rows.column(first + function))
    }

    /// The stored keys of groups that are gone since the last commit and did not come back. Of these no row may be written:
    /// a set of changes deletes before it puts, whatever was said first.
    pub(super) fn take_gone(&mut self) -> Result<BTreeSet<Vec<u8>>> {
        let mut absent = Vec::new();
        for stored_key in std::mem::take(&mut self.changing.gone) {
            let (time, _, group_key) = key::decode(&stored_key)?;
            if !self.has_in_memory(time, group_key) {
                absent.push(stored_key);
            }
        }
        let mut gone = BTreeSet::new();
        for keys in absent.chunks(FETCH_KEYS) {
            let stored = self.place.store.multi_get(self.place.first_table, keys)?;
            gone.extend(keys.iter().zip(stored).filter(|(_, value)| value.is_none()).map(|(key, _)| key.clone()));
        }
        Ok(gone)
    }

    /// Forgets the groups among the changed ones that have no rows any more.
    pub(super) fn forget_gone(&mut self) -> Result<()> {
        if self.spec.rows_counted_by.is_none() {
            return Ok(());
        }
        let times: Vec<i64> = self.buckets.iter().filter(|(_, b)| !b.dirty.is_empty()).map(|(time, _)| *time).collect();
        times.into_iter().try_for_each(|time| self.forget_gone_of(time))
    }

    /// The same for those of one bucket.
    pub(super) fn forget_gone_of(&mut self, time: i64) -> Result<()> {
        let Some(function) = self.spec.rows_counted_by else { return Ok(()) };
        let dirty = self.buckets.get(&time).map(|bucket| bucket.dirty.clone()).unwrap_or_default();
        let mut gone = Vec::new();
        for entries in dirty.chunks(EMIT_ROWS) {
            let Some(bucket) = self.buckets.get(&time) else { return Ok(()) };
            // That function alone: others may have to go through all values of a group.
            let counts = self.states.evaluate_one(function, &bucket.slots(entries))?;
            let Some(are_gone) = are_zero(&counts) else { return Ok(()) };
            gone.extend(entries.iter().zip(are_gone.values()).filter(|(_, is_gone)| *is_gone).map(|(entry, _)| *entry));
        }
        let keys: Vec<Vec<u8>> = gone.iter().map(|entry| self.stored_key(time, *entry)).collect();
        let Some(bucket) = self.buckets.get_mut(&time) else { return Ok(()) };
        let slots: Vec<u32> = gone.iter().map(|entry| bucket.take(*entry)).collect();
        bucket.forget_taken();
        for entry in &gone {
            self.stored_counts.remove(time, shard_of_hash(bucket.entries[*entry as usize].hash), 1);
        }
        bucket.compact();
        self.states.free(&slots);
        let count = slots.len() as u64;
        self.counts.rows_total -= count;
        self.counts.rows_removed += count;
        // At once, so that nothing is brought back from there.
        let mut left = ChangeSet::new();
        keys.iter().for_each(|stored_key| left.push_delete(stored_key));
        self.place.store.apply(self.place.first_table, &left)?;
        self.changing.gone.extend(keys);
        Ok(())
    }
}

/// Which of some counts are 0.
fn are_zero(counts: &ArrayRef) -> Option<BooleanArray> {
    let counts = counts.as_primitive_opt::<Int64Type>()?;
    Some(counts.iter().map(|count| Some(count == Some(0))).collect())
}
