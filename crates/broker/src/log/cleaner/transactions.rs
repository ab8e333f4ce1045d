//! What compaction has to know of transactions while it walks over a log.
//!
//! ```text
//!  batch of an aborted transaction ─> its records go
//!  marker ─> a batch of its transaction was met before it in this walk ─> it stays
//!         └> none ─> without data: it gets a delete horizon, and goes when that has passed
//! ```
//!
//! A marker that aborts goes only when its transaction is no longer in the list of aborted ones. Were it still there,
//! a reader that has met no marker would take everything the producer wrote later for aborted too.

use std::collections::{HashMap, HashSet};

use super::super::batch::BatchHeader;
use super::super::control::{Marker, Outcome};
use super::super::producer_state::Ended;

/// What a walk has met of transactions.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// By producer, in the order of their markers.
    aborted: HashMap<i64, Vec<Ended>>,
    /// Markers of aborted transactions of which a batch was met.
    aborted_met: HashSet<i64>,
    /// Producers of which a batch was met that was not aborted, and no marker since.
    committed_met: HashSet<i64>,
    /// Aborted transactions whose markers were met, and before them none of their batches.
    without_data: Vec<Ended>,
}

/// What a batch is to its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// No transaction, one that was committed, or a marker that is still needed.
    Needed,
    /// Records of an aborted transaction.
    Aborted,
    /// A marker nothing is left before. It may go unless its transaction is still listed as aborted.
    MarkerWithoutData { listed: bool },
}

impl Transactions {
    pub(super) fn new(aborted: &[Ended]) -> Self {
        let mut known = Self::default();
        for &transaction in aborted {
            known.aborted.entry(transaction.producer_id).or_default().push(transaction);
        }
        known.aborted.values_mut().for_each(|of_one| of_one.sort_unstable_by_key(|aborted| aborted.marker_offset));
        known
    }

    /// Takes the next batch of the walk into account.
    pub(super) fn meet(&mut self, header: &BatchHeader, batch: &[u8]) -> Role {
        if header.is_control() {
            return self.meet_marker(header, batch);
        }
        if !header.is_transactional() {
            return Role::Needed;
        }
        match self.aborted_at(header.producer_id, header.base_offset) {
            Some(aborted) => {
                self.aborted_met.insert(aborted.marker_offset);
                Role::Aborted
            }
            None => {
                self.committed_met.insert(header.producer_id);
                Role::Needed
            }
        }
    }

    fn meet_marker(&mut self, header: &BatchHeader, batch: &[u8]) -> Role {
        if header.record_count == 0 {
            // It was without data before, and is only kept for its epoch.
            return Role::MarkerWithoutData { listed: false };
        }
        match Marker::read(header, batch).map(|marker| marker.outcome) {
            Some(Outcome::Abort) if !self.aborted_met.contains(&header.base_offset) => {
                let listed = self.aborted_at(header.producer_id, header.base_offset);
                self.without_data.extend(listed);
                Role::MarkerWithoutData { listed: listed.is_some() }
            }
            Some(Outcome::Commit) if !self.committed_met.remove(&header.producer_id) => {
                Role::MarkerWithoutData { listed: false }
            }
            _ => Role::Needed,
        }
    }

    /// The aborted transaction of a producer that goes over this offset, up to its marker.
    fn aborted_at(&self, producer_id: i64, offset: i64) -> Option<Ended> {
        let of_one = self.aborted.get(&producer_id)?;
        let at = of_one.partition_point(|aborted| aborted.marker_offset < offset);
        of_one.get(at).copied().filter(|aborted| aborted.first_offset <= offset)
    }

    /// The aborted transactions that no reader has to be told of any more.
    pub(super) fn without_data(&self) -> &[Ended] {
        &self.without_data
    }
}
