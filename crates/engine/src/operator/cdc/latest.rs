//! SCD type 1: the newest row of each key.
//!
//! The state row of a key has the sequence of its newest change, and whether that was a delete. An older change does
//! nothing; of two with the same sequence the one that comes last counts, where Spark leaves open which.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::take;

use super::codec::Codec;
use super::in_order;
use super::rows::{Rows, row_key};
use crate::error::{EngineError, Result};
use crate::operator::Emit;
use crate::operator::keyed::KeyedBatch;

/// What is known of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// Whether the newest change was a delete.
    is_deleted: bool,
    /// The sequence of the newest change.
    sequence: Vec<u8>,
}

/// Finds the changes that are newer than what is known, and passes on the newest of each key.
pub(super) fn process(
    codec: &Codec,
    rows: &mut Rows,
    batch: &KeyedBatch,
    deletes: &BooleanArray,
    emit: &mut Emit<'_>,
) -> Result<()> {
    let sequences = codec.sequences(batch)?;
    let sequence = |row: usize| sequences.row(row).data();
    let order = in_order(batch, sequence);
    // The last of each key is its newest.
    let newest = order.chunk_by(|a, b| batch.key(*a) == batch.key(*b)).filter_map(|of_key| of_key.last().copied());
    let mut asked: Vec<(Vec<u8>, usize)> =
        newest.map(|row| (row_key(batch.hashes[row], &[batch.key(row)]), row)).collect();
    asked.sort_unstable();
    let (keys, newest): (Vec<Vec<u8>>, Vec<usize>) = asked.into_iter().unzip();
    let known = rows.get(&keys)?;
    let (mut passed, mut gone) = (Vec::new(), Vec::new());
    for ((key, row), value) in keys.into_iter().zip(newest).zip(known) {
        let known = value.as_deref().map(decode).transpose()?;
        let change = Known { is_deleted: deletes.value(row), sequence: sequence(row).to_vec() };
        if known.as_ref().is_some_and(|known| known.sequence > change.sequence) {
            continue;
        }
        // Nobody needs to hear that a row that is not there has gone.
        let was_there = known.as_ref().is_some_and(|known| !known.is_deleted);
        if !change.is_deleted || was_there {
            passed.push(u32::try_from(row).map_err(|_| EngineError::internal("a batch has too many rows"))?);
            gone.push(change.is_deleted);
        }
        rows.put(key, encode(&change), known.is_none());
    }
    if passed.is_empty() {
        return Ok(());
    }
    let passed = UInt32Array::from(passed);
    let columns = batch.columns[..codec.spec.sequence_at()].iter();
    let columns = columns.map(|column| take(column, &passed, None)).collect::<Result<Vec<ArrayRef>, _>>()?;
    let upserts = take(&codec.sequence_column(batch)?, &passed, None)?;
    let deletes: ArrayRef = Arc::new(new_null_array(upserts.data_type(), passed.len()));
    emit(codec.batch(&columns, vec![deletes, upserts], BooleanArray::from(gone))?)
}

fn encode(known: &Known) -> Vec<u8> {
    [&[u8::from(known.is_deleted)], known.sequence.as_slice()].concat()
}

fn decode(value: &[u8]) -> Result<Known> {
    let (deleted, sequence) = value.split_first().ok_or_else(|| {
        EngineError::data("the state of an AUTO CDC flow is damaged: what it knows of a key is empty")
            .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
    })?;
    Ok(Known { is_deleted: *deleted != 0, sequence: sequence.to_vec() })
}
