//! What a partition remembers of idempotent producers, so that a retried batch is stored once, and
//! which of them have a transaction open here, so that nobody reads it before its end.
//!
//! For each producer id: its epoch and its last five batches (first and last sequence number, base
//! offset). A batch that repeats one of them is a retry whose answer was lost and is answered with
//! the offset it already has; five is the number of requests a Kafka producer keeps in flight.
//!
//! ```text
//!   batch ──> judge ──┬─> Append            the next in sequence, or a producer not known here
//!                     ├─> Duplicate{offset} one of the last five again
//!                     └─> SequenceError     a gap, or an epoch that was replaced
//! ```
//!
//! [`ProducerState::judge`] only looks; [`ProducerState::record`] is called once the batch is in
//! the log, and again for each batch header when the state is rebuilt after a restart. So the
//! state is always what the log says.
//!
//! A transaction is open in a partition from its first batch until its marker. Everything from the
//! oldest open one on is not yet decided.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::batch::{BatchHeader, add_sequence};
use super::control::{Marker, Outcome};

const REMEMBERED_BATCHES: usize = 5;

/// The idempotent producers of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ProducerState {
    producers: HashMap<i64, Producer>,
    /// First offset of each open transaction, and whose it is.
    #[serde(default)]
    open: BTreeMap<i64, i64>,
    /// Offset of the newest marker that aborted one: what the index of aborted transactions ends with.
    #[serde(default)]
    last_abort: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    last_seen_ms: i64,
    batches: VecDeque<Sequenced>,
    /// First offset of the transaction it has open here.
    #[serde(default)]
    open_since: Option<i64>,
}

/// A producer as it is described to those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// -1 when it has written nothing in its epoch.
    pub(crate) last_sequence: i32,
    pub(crate) last_seen_ms: i64,
    pub(crate) open_since: Option<i64>,
}

/// A transaction that has ended in this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// Offset of its marker.
    pub(crate) marker_offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Sequenced {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp: i64,
}

/// What the log must not lose of a producer, so that its state can be read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastBatch {
    /// Last offset of its newest batch; `None` when it has written nothing but a marker in its epoch.
    pub(crate) offset: Option<i64>,
    pub(crate) epoch: i16,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Store it.
    Append,
    /// It is stored already.
    Duplicate { base_offset: i64, timestamp: i64 },
}

/// Why a batch must not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SequenceError {
    #[error("producer {producer_id} sent sequence {found}, expected {expected}")]
    OutOfOrder { producer_id: i64, found: i32, expected: i32 },
    #[error("producer {producer_id} has epoch {found}, but epoch {current} is in use")]
    Fenced { producer_id: i64, found: i16, current: i16 },
    #[error("producer {producer_id} has a transaction open, expected a batch that belongs to it")]
    NotTransactional { producer_id: i64 },
}

impl ProducerState {
    /// Decides what to do with a batch of an idempotent producer.
    pub(crate) fn judge(&self, batch: &BatchHeader) -> Result<Judgement, SequenceError> {
        // A producer that is not known here may have been silent for longer than it is
        // remembered, so any first sequence is taken, as Kafka does.
        let Some(known) = self.producers.get(&batch.producer_id) else { return Ok(Judgement::Append) };
        known.check_epoch(batch.producer_id, batch.producer_epoch)?;
        let expected = if batch.producer_epoch > known.epoch {
            0
        } else {
            if let Some(stored) = known.find(batch) {
                return Ok(Judgement::Duplicate { base_offset: stored.base_offset, timestamp: stored.timestamp });
            }
            known.next_sequence()
        };
        if known.open_since.is_some() && !batch.is_transactional() {
            return Err(SequenceError::NotTransactional { producer_id: batch.producer_id });
        }
        if batch.base_sequence == expected {
            return Ok(Judgement::Append);
        }
        Err(SequenceError::OutOfOrder { producer_id: batch.producer_id, found: batch.base_sequence, expected })
    }

    /// Remembers a batch that is in the log at `base_offset`. The time is the broker's: a producer
    /// that replays old records is not silent.
    pub(crate) fn record(&mut self, batch: &BatchHeader, base_offset: i64, now_ms: i64) {
        if !batch.is_idempotent() {
            return;
        }
        let producer = self.producer(batch.producer_id, batch.producer_epoch, now_ms);
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Sequenced {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
            timestamp: batch.max_timestamp,
        });
        if batch.is_transactional() && producer.open_since.is_none() {
            producer.open_since = Some(base_offset);
            self.open.insert(base_offset, batch.producer_id);
        }
    }

    /// Whether a marker may be written: not if its epoch was replaced.
    pub(crate) fn judge_marker(&self, marker: Marker) -> Result<(), SequenceError> {
        match self.producers.get(&marker.producer_id) {
            Some(known) => known.check_epoch(marker.producer_id, marker.producer_epoch),
            None => Ok(()),
        }
    }

    /// Remembers a marker that is in the log at `offset`; answers the transaction it ended, if one
    /// was open here.
    pub(crate) fn end(&mut self, marker: Marker, offset: i64, now_ms: i64) -> Option<Ended> {
        let producer = self.producer(marker.producer_id, marker.producer_epoch, now_ms);
        let first_offset = producer.open_since.take()?;
        self.open.remove(&first_offset);
        if marker.outcome == Outcome::Abort {
            self.last_abort = Some(offset);
        }
        Some(Ended { producer_id: marker.producer_id, first_offset, marker_offset: offset })
    }

    /// The producer, known from now on by this epoch.
    fn producer(&mut self, id: i64, epoch: i16, now_ms: i64) -> &mut Producer {
        let fresh = Producer { epoch, last_seen_ms: now_ms, batches: VecDeque::new(), open_since: None };
        let producer = self.producers.entry(id).or_insert(fresh);
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.last_seen_ms = now_ms;
        producer
    }

    pub(crate) fn last_abort(&self) -> Option<i64> {
        self.last_abort
    }

    /// First offset of the oldest open transaction.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.keys().next().copied()
    }

    /// Producers with a transaction open here, and their epochs.
    pub(crate) fn open(&self) -> impl Iterator<Item = (i64, i16)> {
        self.open.values().filter_map(|id| Some((*id, self.producers.get(id)?.epoch)))
    }

    /// Every producer, by id.
    pub(crate) fn describe(&self) -> Vec<Described> {
        let described = |(&producer_id, known): (&i64, &Producer)| Described {
            producer_id,
            epoch: known.epoch,
            last_sequence: known.batches.back().map_or(-1, |last| last.last_sequence),
            last_seen_ms: known.last_seen_ms,
            open_since: known.open_since,
        };
        let mut found: Vec<_> = self.producers.iter().map(described).collect();
        found.sort_unstable_by_key(|producer| producer.producer_id);
        found
    }

    /// Forgets producers last seen before `oldest_ms`, and then the longest silent
    /// ones until no more than `limit` are left. Never one that has a transaction open: the marker
    /// that ends it would end nothing.
    pub(crate) fn expire(&mut self, oldest_ms: i64, limit: usize) {
        self.producers.retain(|_, producer| producer.open_since.is_some() || producer.last_seen_ms >= oldest_ms);
        if self.producers.len() <= limit {
            return;
        }
        let idle = self.producers.iter().filter(|(_, producer)| producer.open_since.is_none());
        let mut by_age: Vec<(i64, i64)> = idle.map(|(id, producer)| (producer.last_seen_ms, *id)).collect();
        by_age.sort_unstable();
        for (_, id) in by_age.iter().take(self.producers.len() - limit) {
            self.producers.remove(id);
        }
    }

    /// The newest batch of each producer.
    pub(crate) fn last_batches(&self) -> HashMap<i64, LastBatch> {
        let last = |(&id, producer): (&i64, &Producer)| {
            let offset = producer.batches.back().map(Sequenced::last_offset);
            (id, LastBatch { offset, epoch: producer.epoch })
        };
        self.producers.iter().map(last).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }
}

impl Sequenced {
    fn last_offset(&self) -> i64 {
        // Sequence numbers wrap to 0.
        let records = i64::from(self.last_sequence) - i64::from(self.first_sequence);
        self.base_offset + records.rem_euclid(i64::from(i32::MAX) + 1)
    }
}

impl Producer {
    fn check_epoch(&self, producer_id: i64, found: i16) -> Result<(), SequenceError> {
        if found >= self.epoch {
            return Ok(());
        }
        Err(SequenceError::Fenced { producer_id, found, current: self.epoch })
    }

    fn find(&self, batch: &BatchHeader) -> Option<&Sequenced> {
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        self.batches.iter().find(|stored| stored.first_sequence == first && stored.last_sequence == last)
    }

    fn next_sequence(&self) -> i32 {
        self.batches.back().map_or(0, |last| add_sequence(last.last_sequence, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::testing::{Spec, batch};
    use super::*;

    fn header(epoch: i16, sequence: i32, records: i32) -> BatchHeader {
        let bytes = batch(Spec { records, producer: Some((7, epoch, sequence)), ..Spec::default() });
        BatchHeader::parse(&bytes).expect("valid")
    }

    /// Stores each (epoch, sequence, records) in turn, then judges `next`.
    fn check(stored: &[(i16, i32, i32)], next: (i16, i32, i32), expected: Result<Judgement, &str>) {
        let mut state = ProducerState::default();
        let mut offset = 100;
        for &(epoch, sequence, records) in stored {
            let batch = header(epoch, sequence, records);
            state.record(&batch, offset, 0);
            offset += i64::from(records);
        }
        let found = state.judge(&header(next.0, next.1, next.2));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{found}"),
            (found, expected) => panic!("found {found:?}, expected {expected:?}"),
        }
    }

    fn duplicate_at(base_offset: i64) -> Result<Judgement, &'static str> {
        Ok(Judgement::Duplicate { base_offset, timestamp: 1000 })
    }

    #[test]
    fn batches_of_one_epoch_follow_each_other() {
        check(&[], (0, 0, 2), Ok(Judgement::Append));
        check(&[], (0, 900, 2), Ok(Judgement::Append));
        check(&[(0, 0, 2)], (0, 2, 1), Ok(Judgement::Append));
        check(&[(0, 0, 2)], (0, 3, 1), Err("sent sequence 3, expected 2"));
        check(&[(0, 0, 2)], (0, 1, 1), Err("sent sequence 1, expected 2"));
        check(&[(0, i32::MAX - 1, 2)], (0, 0, 1), Ok(Judgement::Append));
        check(&[(0, i32::MAX, 2)], (0, 1, 1), Ok(Judgement::Append));
    }

    #[test]
    fn the_last_five_batches_are_answered_again() {
        let six = [(0, 0, 1), (0, 1, 2), (0, 3, 1), (0, 4, 1), (0, 5, 1), (0, 6, 1)];
        check(&six, (0, 6, 1), duplicate_at(106));
        check(&six, (0, 1, 2), duplicate_at(101));
        check(&six, (0, 0, 1), Err("sent sequence 0, expected 7"));
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_starts_at_zero() {
        check(&[(3, 0, 1)], (2, 1, 1), Err("epoch 3 is in use"));
        check(&[(3, 0, 1)], (4, 0, 1), Ok(Judgement::Append));
        check(&[(3, 0, 1)], (4, 1, 1), Err("sent sequence 1, expected 0"));
    }

    #[test]
    fn a_transaction_is_open_from_its_first_batch_to_its_marker() {
        use super::super::batch::TRANSACTIONAL_BIT;

        let mut state = ProducerState::default();
        for (producer_id, sequence, offset) in [(7, 0, 10), (8, 0, 12), (7, 1, 15)] {
            let producer = Some((producer_id, 0, sequence));
            let spec = Spec { producer, attributes: TRANSACTIONAL_BIT, ..Spec::default() };
            state.record(&BatchHeader::parse(&batch(spec)).expect("valid"), offset, 0);
        }
        assert_eq!(state.first_open(), Some(10));
        state.expire(100, 0);
        assert_eq!(state.len(), 2, "a producer with an open transaction is not forgotten");

        let marker = Marker { producer_id: 7, producer_epoch: 1, outcome: Outcome::Abort };
        state.judge_marker(marker).expect("a newer epoch");
        let ended = Ended { producer_id: 7, first_offset: 10, marker_offset: 20 };
        assert_eq!(state.end(marker, 20, 0), Some(ended));
        assert_eq!(state.end(marker, 21, 0), None, "a marker again ends nothing");
        assert_eq!(state.first_open(), Some(12));
        assert_eq!(state.open().collect::<Vec<_>>(), [(8, 0)]);
        let late = state.judge_marker(Marker { producer_epoch: 0, ..marker }).expect_err("fenced");
        assert!(late.to_string().contains("epoch 1 is in use"), "{late}");
        let zombie = state.judge(&header(0, 2, 1)).expect_err("fenced by the marker");
        assert!(zombie.to_string().contains("epoch 1 is in use"), "{zombie}");
        assert_eq!(state.judge(&header(1, 0, 1)), Ok(Judgement::Append));
    }

    #[test]
    fn silent_producers_are_forgotten_first() {
        let mut state = ProducerState::default();
        for (producer_id, seen_ms) in [(1, 10), (2, 30), (3, 20), (4, 5)] {
            let spec = Spec { producer: Some((producer_id, 0, 0)), ..Spec::default() };
            state.record(&BatchHeader::parse(&batch(spec)).expect("valid"), 0, seen_ms);
        }
        state.expire(10, 2);
        let mut left: Vec<_> = state.producers.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3]);
        assert_eq!(state.len(), 2);
    }
}
