//! SCD type 2: every row a key ever had, with the time it was there.
//!
//! ```text
//!   changes of a key   5 Ann   10 Ann   12 Bob    15 (delete)      20 Ann
//!   visible            Ann [5, 12)      Bob [12, 15)               Ann [20, )
//!                      values of 10
//! ```
//!
//! Changes that follow each other without a difference in the tracked columns are one run and one visible row: it is
//! there from the run's first change to whatever comes next, with the values of its last. A delete ends a row and is none
//! itself. What is visible follows from the changes alone, so their order of arrival is of no account; of two changes
//! with the same sequence a delete stays, else the one that came last (Spark leaves that open).
//!
//! A change is a state row behind its key: `key · sequence -> [start of its run, tracked, values]`, empty for a delete.
//! A change that comes touches the change before it, which is read for it, and those after it, until a run is as it was.

use arrow::array::BooleanArray;

use super::codec::{Codec, Outgoing};
use super::in_order;
use super::rows::{Row, Rows, row_key};
use crate::error::{EngineError, Result};
use crate::operator::keyed::KeyedBatch;
use crate::operator::{EMIT_ROWS, Emit};

/// Bytes of what tells runs apart.
const TRACKED_BYTES: usize = size_of::<u128>();

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) sequence: Vec<u8>,
    /// The values it gave the key; none for a delete.
    pub(super) row: Option<ChangedRow>,
}

/// What a change that is no delete gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChangedRow {
    /// The sequence of the first change of its run.
    pub(super) start: Vec<u8>,
    pub(super) tracked: u128,
    pub(super) data: Vec<u8>,
}

/// A row of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visible<'a> {
    pub(super) start: &'a [u8],
    pub(super) end: Option<&'a [u8]>,
    pub(super) sequence: &'a [u8],
    pub(super) data: &'a [u8],
}

/// Puts changes into the histories of their keys.
pub(super) fn process(
    codec: &Codec,
    rows: &mut Rows,
    batch: &KeyedBatch,
    deletes: &BooleanArray,
    emit: &mut Emit<'_>,
) -> Result<()> {
    let (sequences, data, tracked) = (codec.sequences(batch)?, codec.data(batch)?, codec.tracked(batch)?);
    let sequence = |row: usize| sequences.row(row).data();
    let order = in_order(batch, sequence);
    let mut out = Outgoing::default();
    for of_key in order.chunk_by(|a, b| batch.key(*a) == batch.key(*b)) {
        let new = of_key.iter().map(|row| {
            let sequence = sequence(*row).to_vec();
            let data = data.as_ref().map_or_else(Vec::new, |data| data.row(*row).data().to_vec());
            let values = ChangedRow { start: sequence.clone(), tracked: tracked[*row], data };
            Change { sequence, row: (!deletes.value(*row)).then_some(values) }
        });
        let (hash, key) = (batch.hashes[of_key[0]], batch.key(of_key[0]));
        put_in(rows, hash, key, &new.collect::<Vec<_>>(), &mut out)?;
        if out.deleted.len() >= EMIT_ROWS {
            emit(codec.rows_out(&std::mem::take(&mut out))?)?;
        }
    }
    if out.deleted.is_empty() { Ok(()) } else { emit(codec.rows_out(&out)?) }
}

/// Puts changes of one key, in the order of their sequence, into its history.
fn put_in(rows: &mut Rows, hash: u64, key: &[u8], new: &[Change], out: &mut Outgoing) -> Result<()> {
    let prefix = row_key(hash, &[key]);
    let first = row_key(hash, &[key, &new[0].sequence]);
    let (before, later) = rows.around(&prefix, &first)?;
    let decode = |(stored_key, value): &Row| decode(&stored_key[prefix.len()..], value);
    let before = before.iter().map(decode).collect::<Result<Vec<_>>>()?;
    let old: Vec<Change> = before.into_iter().chain(later.iter().map(decode).collect::<Result<Vec<_>>>()?).collect();
    let changed = merged(&old, new);
    for change in &changed {
        let known = old.binary_search_by(|known| known.sequence.cmp(&change.sequence)).ok().map(|at| &old[at]);
        if known != Some(change) {
            rows.put(row_key(hash, &[key, &change.sequence]), encode(change), known.is_none());
        }
    }
    let (was, is) = (visible(&old), visible(&changed));
    let differs = |row: &&Visible<'_>, others: &[Visible<'_>]| {
        others.binary_search_by(|other| other.start.cmp(row.start)).map_or(true, |at| others[at] != **row)
    };
    let gone = was.iter().filter(|row| is.binary_search_by(|other| other.start.cmp(row.start)).is_err());
    gone.for_each(|row| out.push(key, row, true));
    is.iter().filter(|row| differs(row, &was)).for_each(|row| out.push(key, row, false));
    Ok(())
}

/// A history with changes put in, and the runs as they are then; both are in the order of their sequences.
pub(super) fn merged(old: &[Change], new: &[Change]) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::with_capacity(old.len() + new.len());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let next = match (old.peek(), new.peek()) {
            (Some(a), Some(b)) if b.sequence < a.sequence => new.next(),
            (Some(_), _) => old.next(),
            (None, _) => new.next(),
        };
        let Some(next) = next else { break };
        match changes.last_mut().filter(|last| last.sequence == next.sequence) {
            // A delete stays.
            Some(same) if same.row.is_none() => {}
            Some(same) => {
                let start = same.row.take().map(|row| row.start);
                same.row = next.row.clone().map(|row| ChangedRow { start: start.unwrap_or_default(), ..row });
            }
            None => changes.push(next.clone()),
        }
    }
    // The first one is no new change unless it begins the history; its run may begin further back.
    for at in 1..changes.len() {
        let (before, rest) = changes.split_at_mut(at);
        let (Some(before), Some(change)) = (before.last(), rest.first_mut()) else { continue };
        let Some(row) = &mut change.row else { continue };
        row.start = match &before.row {
            Some(previous) if previous.tracked == row.tracked => previous.start.clone(),
            _ => change.sequence.clone(),
        };
    }
    changes
}

/// The visible rows of a history, in the order of their starts.
pub(super) fn visible(changes: &[Change]) -> Vec<Visible<'_>> {
    let mut found = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        let Some(row) = &change.row else { continue };
        let next = changes.get(at + 1);
        let goes_on = next.and_then(|next| next.row.as_ref()).is_some_and(|next| next.tracked == row.tracked);
        if !goes_on {
            let end = next.map(|next| next.sequence.as_slice());
            found.push(Visible { start: &row.start, end, sequence: &change.sequence, data: &row.data });
        }
    }
    found
}

impl Outgoing {
    fn push(&mut self, key: &[u8], row: &Visible<'_>, deleted: bool) {
        self.keys.push(key);
        self.data.push(row.data);
        let [start, end, sequence] = &mut self.sequences;
        start.push(row.start);
        end.push(row.end.unwrap_or_default());
        sequence.push(row.sequence);
        self.deleted.push(deleted);
    }
}

/// `[length of start: u32][start][tracked: u128][data]`, or nothing for a delete.
fn encode(change: &Change) -> Vec<u8> {
    let Some(row) = &change.row else { return Vec::new() };
    let length = u32::try_from(row.start.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &row.start, &row.tracked.to_be_bytes(), &row.data].concat()
}

fn decode(sequence: &[u8], value: &[u8]) -> Result<Change> {
    let row = if value.is_empty() { None } else { Some(decode_row(value).ok_or_else(damaged)?) };
    Ok(Change { sequence: sequence.to_vec(), row })
}

fn decode_row(value: &[u8]) -> Option<ChangedRow> {
    let (length, rest) = value.split_first_chunk::<4>()?;
    let (start, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (tracked, data) = rest.split_first_chunk::<TRACKED_BYTES>()?;
    Some(ChangedRow { start: start.to_vec(), tracked: u128::from_be_bytes(*tracked), data: data.to_vec() })
}

fn damaged() -> EngineError {
    EngineError::data("the state of an AUTO CDC flow is damaged: a change in it is too short")
        .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
}
