//! The transactions of a broker as a pure state machine: no disk, no clock, no waiting.
//!
//! Every request answers a [`Change`] or why there is none; nothing has happened until the change
//! is applied with [`Coordinator::apply`], which its caller does once it is on the disk.
//!
//! A producer is known by its id and its epoch. Whoever starts with a transactional id gets a newer
//! epoch and so fences the one before. A producer that tells it understands the second version of
//! the protocol (KIP-890) gets a new epoch with every transaction, so that a request that comes late
//! can never join the next one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};

use crate::group::offsets::At;
use crate::log::control::Outcome;

/// The last epoch is kept for the marker that fences its producer.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// Who writes: a producer id in one of its epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// No transaction since its producer started.
    Empty,
    Ongoing,
    /// Decided; the markers are being written.
    Ending(Outcome),
    /// Every marker is written.
    Ended(Outcome),
}

/// What is known under a transactional id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transaction {
    pub(crate) producer: Producer,
    /// Whom it replaced at its own request: a repetition of that request is answered as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Producer>,
    /// Who it will be when the transaction has ended and its epochs are used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Producer>,
    pub(crate) timeout_ms: i32,
    pub(crate) state: State,
    pub(crate) partitions: BTreeSet<At>,
    pub(crate) groups: BTreeSet<String>,
    /// When the ongoing transaction began, by the wall clock.
    pub(crate) started_ms: i64,
    pub(crate) updated_ms: i64,
}

/// What has to be stored, and then applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    pub(crate) id: String,
    /// `None` forgets the id.
    pub(crate) transaction: Option<Transaction>,
}

/// What may be asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_timeout_ms: i32,
    pub(crate) max_ids: usize,
    /// Partitions of one transaction.
    pub(crate) max_partitions: usize,
    /// Whether a producer that was replaced is refused; only sabotage says no.
    pub(crate) fences: bool,
}

/// What starting a producer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Init {
    /// The change makes it this producer.
    Ready(Producer, Option<Change>),
    /// Its predecessor has a transaction open: apply this, write the markers, ask again.
    AbortFirst(Change),
}

/// Who ends a transaction, how, and what it understands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) producer: Producer,
    pub(crate) outcome: Outcome,
    /// The producer takes a new epoch with the answer.
    pub(crate) renews_epoch: bool,
}

/// What the partitions and groups know of a producer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The newest epoch in any partition; -1 in none.
    pub(crate) epoch: i16,
    /// Where it has a transaction open.
    pub(crate) open: BTreeSet<At>,
    /// Groups with offsets that wait for its transaction.
    pub(crate) groups: BTreeSet<String>,
}

/// The transactions of a broker.
#[derive(Debug)]
pub(crate) struct Coordinator {
    limits: Limits,
    transactions: BTreeMap<String, Transaction>,
}

impl Coordinator {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, transactions: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change.transaction {
            Some(transaction) => self.transactions.insert(change.id, transaction),
            None => self.transactions.remove(&change.id),
        };
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Transaction> {
        self.transactions.get(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Every transaction by its transactional id.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Transaction)> {
        self.transactions.iter()
    }

    /// Starts a producer. `known` is who it says it is, if it has been somebody; `fresh` makes a
    /// producer id nobody has had.
    pub(crate) fn init(
        &self,
        id: &str,
        known: Option<Producer>,
        timeout_ms: i32,
        now_ms: i64,
        fresh: impl FnOnce() -> Result<i64, ResponseError>,
    ) -> Result<Init, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        if !(1..=self.limits.max_timeout_ms).contains(&timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let empty = |producer, previous| Transaction {
            producer,
            previous,
            next: None,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            started_ms: -1,
            updated_ms: now_ms,
        };
        let ready = |transaction: Transaction| Init::Ready(transaction.producer, Some(change(id, transaction)));
        let Some(found) = self.transactions.get(id) else {
            if self.transactions.len() >= self.limits.max_ids {
                return Err(ResponseError::PolicyViolation);
            }
            return Ok(ready(empty(Producer { id: fresh()?, epoch: 0 }, None)));
        };
        let repeats = known.is_some() && known != Some(found.producer) && known == found.previous;
        if known.is_some_and(|known| known != found.producer) && !repeats {
            return Err(ResponseError::ProducerFenced);
        }
        match found.state {
            State::Ending(_) => Err(ResponseError::ConcurrentTransactions),
            State::Ongoing => Ok(Init::AbortFirst(self.fence(id, found, now_ms))),
            State::Empty | State::Ended(_) if repeats => Ok(Init::Ready(found.producer, None)),
            State::Empty | State::Ended(_) => {
                let producer = match found.producer.epoch {
                    epoch if epoch < LAST_EPOCH => Producer { epoch: epoch + 1, ..found.producer },
                    _ => Producer { id: fresh()?, epoch: 0 },
                };
                // Only who proves to be the last one may repeat itself: others are told apart by nothing.
                Ok(ready(empty(producer, known)))
            }
        }
    }

    /// Ends an ongoing transaction against its producer, which finds itself fenced.
    fn fence(&self, id: &str, found: &Transaction, now_ms: i64) -> Change {
        let mut ending = found.ending(Outcome::Abort, now_ms);
        ending.producer.epoch = found.producer.epoch.saturating_add(1);
        ending.previous = None;
        change(id, ending)
    }

    /// Adds partitions and groups to the transaction of a producer, which begins with the first;
    /// `None` when all of them are in it.
    pub(crate) fn add(
        &self,
        id: &str,
        producer: Producer,
        partitions: &[At],
        group: Option<&str>,
        now_ms: i64,
    ) -> Result<Option<Change>, ResponseError> {
        let found = self.of_producer(id, producer)?;
        let has = |at| found.partitions.contains(at);
        let mut grown = match found.state {
            State::Ongoing if partitions.iter().all(has) && group.is_none_or(|group| found.groups.contains(group)) => {
                return Ok(None);
            }
            State::Ending(_) => return Err(ResponseError::ConcurrentTransactions),
            State::Ongoing => found.clone(),
            State::Empty | State::Ended(_) => Transaction {
                state: State::Ongoing,
                partitions: BTreeSet::new(),
                groups: BTreeSet::new(),
                started_ms: now_ms,
                previous: None,
                ..found.clone()
            },
        };
        grown.partitions.extend(partitions.iter().cloned());
        grown.groups.extend(group.map(str::to_owned));
        if grown.partitions.len() > self.limits.max_partitions {
            return Err(ResponseError::PolicyViolation);
        }
        Ok(Some(change(id, Transaction { updated_ms: now_ms, ..grown })))
    }

    /// Whether a producer may write to a partition in its transaction now.
    pub(crate) fn check_produce(&self, id: &str, producer: Producer, at: &At) -> Result<(), ResponseError> {
        self.check_member(id, producer, |ongoing| ongoing.partitions.contains(at))
    }

    /// Whether a producer may commit offsets of a group in its transaction now.
    pub(crate) fn check_commit(&self, id: &str, producer: Producer, group: &str) -> Result<(), ResponseError> {
        self.check_member(id, producer, |ongoing| ongoing.groups.contains(group))
    }

    fn check_member(
        &self,
        id: &str,
        producer: Producer,
        is_in: impl FnOnce(&Transaction) -> bool,
    ) -> Result<(), ResponseError> {
        let found = self.of_producer(id, producer)?;
        match found.state {
            State::Ongoing if is_in(found) => Ok(()),
            State::Ending(_) => Err(ResponseError::ConcurrentTransactions),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Ends a transaction. `Ok(None)`: that was done before, and this is the repetition.
    pub(crate) fn end(
        &self,
        id: &str,
        end: End,
        now_ms: i64,
        fresh: impl FnOnce() -> Result<i64, ResponseError>,
    ) -> Result<Option<Change>, ResponseError> {
        let End { producer, outcome, renews_epoch } = end;
        let found = self.transactions.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        let repeats = renews_epoch && found.previous == Some(producer);
        if !repeats {
            self.of_producer(id, producer)?;
        }
        match found.state {
            State::Ending(decided) if decided == outcome => Err(ResponseError::ConcurrentTransactions),
            State::Ended(decided) if decided == outcome && (repeats || !renews_epoch) => Ok(None),
            State::Ongoing if !repeats => found.ended_by(id, end, now_ms, fresh).map(Some),
            // An abort of nothing may be sent by who does not know whether anything was begun.
            State::Empty | State::Ended(_) if renews_epoch && outcome == Outcome::Abort && !repeats => {
                let nothing = Transaction { partitions: BTreeSet::new(), groups: BTreeSet::new(), ..found.clone() };
                nothing.ended_by(id, end, now_ms, fresh).map(Some)
            }
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// The transaction of a producer, if it still is the one who writes under the id.
    fn of_producer(&self, id: &str, producer: Producer) -> Result<&Transaction, ResponseError> {
        match self.transactions.get(id) {
            Some(found) if found.producer == producer => Ok(found),
            Some(found) if found.producer.id == producer.id && !self.limits.fences => Ok(found),
            Some(found) if found.producer.id == producer.id => Err(ResponseError::ProducerFenced),
            _ => Err(ResponseError::InvalidProducerIdMapping),
        }
    }

    /// What is left to do once every marker of an ending transaction is written.
    pub(crate) fn finish(&self, id: &str, now_ms: i64) -> Option<Change> {
        let found = self.transactions.get(id)?;
        let State::Ending(outcome) = found.state else { return None };
        let ended = Transaction {
            producer: found.next.unwrap_or(found.producer),
            next: None,
            state: State::Ended(outcome),
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            updated_ms: now_ms,
            ..found.clone()
        };
        Some(change(id, ended))
    }

    /// What has to change after a start for the transactions to fit what the logs know, by producer id.
    ///
    /// Changes are stored before anything is written in a partition, so logs that know more than the coordinator tell
    /// that a crash of the machine has taken the end of what it had stored. What was decided then is not known: the
    /// transaction is aborted as a whole, and its producer fenced, or it would be told that it has committed what is
    /// aborted. A transaction that is known to be decided ends as it was decided.
    pub(crate) fn catch_up(&self, seen: &HashMap<i64, Seen>, now_ms: i64) -> Vec<Change> {
        let changes = self.transactions.iter().filter_map(|(id, known)| {
            let seen = seen.get(&known.producer.id)?;
            let fits = seen.epoch <= known.producer.epoch
                && seen.open.is_subset(&known.partitions)
                && seen.groups.is_subset(&known.groups);
            if fits {
                return None;
            }
            let epoch = seen.epoch.max(known.producer.epoch).saturating_add(1);
            let fenced = Producer { epoch, ..known.producer };
            if let State::Ending(_) = known.state {
                return Some(change(id, Transaction { next: known.next.or(Some(fenced)), ..known.clone() }));
            }
            let mut lost = Transaction { producer: fenced, previous: None, ..known.ending(Outcome::Abort, now_ms) };
            lost.partitions.extend(seen.open.iter().cloned());
            lost.groups.extend(seen.groups.iter().cloned());
            Some(change(id, lost))
        });
        changes.collect()
    }

    /// Transactions that have taken longer than their producers said they would.
    pub(crate) fn timed_out(&self, now_ms: i64) -> Vec<Change> {
        let late = self.transactions.iter().filter(|(_, found)| {
            found.state == State::Ongoing && now_ms.saturating_sub(found.started_ms) > found.timeout_ms.into()
        });
        late.map(|(id, found)| self.fence(id, found, now_ms)).collect()
    }

    /// Ids whose transaction is decided but not ended.
    pub(crate) fn ending(&self) -> Vec<String> {
        let ending = self.transactions.iter().filter(|(_, found)| matches!(found.state, State::Ending(_)));
        ending.map(|(id, _)| id.clone()).collect()
    }

    /// Ids nobody has used since then.
    pub(crate) fn unused_since(&self, oldest_ms: i64) -> Vec<Change> {
        let idle = |found: &Transaction| matches!(found.state, State::Empty | State::Ended(_));
        let unused = self.transactions.iter().filter(|(_, found)| idle(found) && found.updated_ms < oldest_ms);
        unused.map(|(id, _)| Change { id: id.clone(), transaction: None }).collect()
    }
}

impl Transaction {
    fn ending(&self, outcome: Outcome, now_ms: i64) -> Self {
        Self { state: State::Ending(outcome), updated_ms: now_ms, ..self.clone() }
    }

    fn ended_by(
        &self,
        id: &str,
        end: End,
        now_ms: i64,
        fresh: impl FnOnce() -> Result<i64, ResponseError>,
    ) -> Result<Change, ResponseError> {
        let mut ending = self.ending(end.outcome, now_ms);
        if end.renews_epoch {
            ending.previous = Some(self.producer);
            ending.producer.epoch = self.producer.epoch.saturating_add(1);
            if ending.producer.epoch > LAST_EPOCH {
                ending.next = Some(Producer { id: fresh()?, epoch: 0 });
            }
        }
        Ok(change(id, ending))
    }

    /// Who the producer is from the end of the transaction on.
    pub(crate) fn successor(&self) -> Producer {
        self.next.unwrap_or(self.producer)
    }
}

fn change(id: &str, transaction: Transaction) -> Change {
    Change { id: id.to_owned(), transaction: Some(transaction) }
}
