//! What a partition remembers of idempotent producers, so that a retried batch is stored once.
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

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::batch::{BatchHeader, add_sequence};

const REMEMBERED_BATCHES: usize = 5;

/// The idempotent producers of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ProducerState {
    producers: HashMap<i64, Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    last_seen_ms: i64,
    batches: VecDeque<Sequenced>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Sequenced {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp: i64,
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
}

impl ProducerState {
    /// Decides what to do with a batch of an idempotent producer.
    pub(crate) fn judge(&self, batch: &BatchHeader) -> Result<Judgement, SequenceError> {
        // A producer that is not known here may have been silent for longer than it is
        // remembered, so any first sequence is taken, as Kafka does.
        let Some(known) = self.producers.get(&batch.producer_id) else { return Ok(Judgement::Append) };
        if batch.producer_epoch < known.epoch {
            return Err(SequenceError::Fenced {
                producer_id: batch.producer_id,
                found: batch.producer_epoch,
                current: known.epoch,
            });
        }
        let expected = if batch.producer_epoch > known.epoch {
            0
        } else {
            if let Some(stored) = known.find(batch) {
                return Ok(Judgement::Duplicate { base_offset: stored.base_offset, timestamp: stored.timestamp });
            }
            known.next_sequence()
        };
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
        let fresh = Producer { epoch: batch.producer_epoch, last_seen_ms: now_ms, batches: VecDeque::new() };
        let producer = self.producers.entry(batch.producer_id).or_insert(fresh);
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.last_seen_ms = now_ms;
        producer.batches.push_back(Sequenced {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
            timestamp: batch.max_timestamp,
        });
    }

    /// Forgets producers last seen before `oldest_ms`, and then the longest silent
    /// ones until no more than `limit` are left.
    pub(crate) fn expire(&mut self, oldest_ms: i64, limit: usize) {
        self.producers.retain(|_, producer| producer.last_seen_ms >= oldest_ms);
        if self.producers.len() <= limit {
            return;
        }
        let mut by_age: Vec<(i64, i64)> = self.producers.iter().map(|(id, p)| (p.last_seen_ms, *id)).collect();
        by_age.sort_unstable();
        for (_, id) in by_age.iter().take(self.producers.len() - limit) {
            self.producers.remove(id);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }
}

impl Producer {
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
