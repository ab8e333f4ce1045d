//! One partition as a share group reads it: which records are with whom, how often each was handed out, and where the
//! group begins. A pure state machine.
//!
//! What is in flight is kept as runs of records in the same state, so what it takes depends on how members acknowledge
//! and not on how they fetch; the runs cover everything from the start to the end without a hole. How far the end may be
//! from the start is bounded by the group's setting, exactly.
//!
//! What changes durably is first asked for as [`Change`]s, then stored by the caller, then [applied](SharePartition::apply).
//! A restart applies the same changes to the same effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Available,
    Acquired {
        /// Who has it.
        member: Arc<str>,
        /// Until when, unless it is acknowledged or renewed.
        deadline_ms: i64,
    },
    Acknowledged,
    Archived,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    last: i64,
    state: State,
    deliveries: i16,
}

/// A run of records that goes into another state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) state: State,
    pub(crate) deliveries: i16,
}

/// Records that were acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acquired {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) deliveries: i16,
}

/// What a member says about a record it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    /// There is no record at this offset.
    Gap,
    Accept,
    Release,
    Reject,
    /// It needs more time.
    Renew,
}

/// Acknowledgements of offsets that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AckBatch {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// One for all, or one for each.
    pub(crate) types: Vec<Ack>,
}

/// A stretch of the log that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Whether there are records in it for members to see.
    pub(crate) is_data: bool,
}

/// How much is acquired, for whom and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) member: Arc<str>,
    pub(crate) deadline_ms: i64,
    pub(crate) max_records: i64,
    /// Exactly that many at most; else the batch that reaches the number is taken whole.
    pub(crate) is_strict: bool,
    /// Records that may be in flight, at most.
    pub(crate) max_in_flight: i64,
}

/// The state of one partition in one share group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharePartition {
    start: i64,
    /// The first offset that was never handed out.
    end: i64,
    runs: BTreeMap<i64, Run>,
}

impl SharePartition {
    pub(crate) fn new(start: i64) -> Self {
        Self { start, end: start, runs: BTreeMap::new() }
    }

    /// The first offset that is not finished.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    pub(crate) fn in_flight(&self) -> i64 {
        self.end - self.start
    }

    /// The first offset that could be acquired; `None` if there can be none for now.
    pub(crate) fn next_offset(&self, max_in_flight: i64) -> Option<i64> {
        let released = self.runs.iter().find(|(_, run)| run.state == State::Available).map(|(first, _)| *first);
        released.or((self.in_flight() < max_in_flight).then_some(self.end))
    }

    /// Acquires records of what was read from `from` on; offsets that were passed over have none and are done with.
    pub(crate) fn acquire(&mut self, order: &Order, from: i64, read: &[Stretch]) -> Vec<Acquired> {
        let mut acquired = Vec::new();
        let (mut at, mut taken) = (from, 0);
        for stretch in read {
            if taken >= order.max_records {
                break;
            }
            if stretch.first > at {
                self.pass_over(at, stretch.first - 1);
            }
            at = at.max(stretch.first);
            if !stretch.is_data {
                self.pass_over(at, stretch.last);
            } else {
                let limit = if order.is_strict { order.max_records - taken } else { i64::MAX };
                taken += self.acquire_between(order, at, stretch.last, limit, &mut acquired);
            }
            at = stretch.last.saturating_add(1).max(at);
        }
        self.tidy();
        acquired
    }

    /// Acquires what can be of some offsets, `limit` records at most; answers how many.
    fn acquire_between(&mut self, order: &Order, first: i64, last: i64, limit: i64, out: &mut Vec<Acquired>) -> i64 {
        let mut pieces: Vec<Acquired> = self
            .overlapping(first, last)
            .filter(|(_, _, run)| run.state == State::Available)
            .map(|(first, last, run)| Acquired { first, last, deliveries: run.deliveries.saturating_add(1) })
            .collect();
        // What was never handed out, as far as there may be more in flight.
        let (first, last) = (first.max(self.end), last.min(self.start.saturating_add(order.max_in_flight - 1)));
        pieces.extend((first <= last).then_some(Acquired { first, last, deliveries: 1 }));
        let mut taken = 0;
        for mut piece in pieces {
            piece.last = piece.last.min(piece.first.saturating_add(limit - taken - 1));
            if piece.last < piece.first {
                break;
            }
            taken += piece.last - piece.first + 1;
            let state = State::Acquired { member: Arc::clone(&order.member), deadline_ms: order.deadline_ms };
            self.set(Change { first: piece.first, last: piece.last, state, deliveries: piece.deliveries });
            match out.last_mut() {
                Some(before) if before.last + 1 == piece.first && before.deliveries == piece.deliveries => {
                    before.last = piece.last;
                }
                _ => out.push(piece),
            }
        }
        taken
    }

    /// Offsets at which there is nothing to read are done with, unless somebody has them.
    fn pass_over(&mut self, first: i64, last: i64) {
        let available = self.overlapping(first, last).filter(|(_, _, run)| run.state == State::Available);
        let mut pieces: Vec<(i64, i64)> = available.map(|(first, last, _)| (first, last)).collect();
        pieces.extend((self.end.max(first) <= last).then_some((self.end.max(first), last)));
        for (first, last) in pieces {
            self.set(Change { first, last, state: State::Archived, deliveries: 0 });
        }
    }

    /// What acknowledgements of a member come to: all of them, or none.
    pub(crate) fn acknowledge(
        &self,
        member: &str,
        batches: &[AckBatch],
        renewed_ms: i64,
        max_deliveries: i16,
    ) -> Result<Vec<Change>, ResponseError> {
        let mut changes = Vec::new();
        let mut at = i64::MIN;
        for (first, last, ack) in runs_of(batches)? {
            if first < at {
                return Err(ResponseError::InvalidRequest);
            }
            at = last.saturating_add(1);
            // What is finished needs no acknowledgement: the answer to the first may have been lost.
            let mut covered = first.max(self.start);
            for (first, last, run) in self.overlapping(covered, last) {
                if !run.is_with(member) {
                    return Err(ResponseError::InvalidRecordState);
                }
                let state = match ack {
                    Ack::Accept => State::Acknowledged,
                    Ack::Gap | Ack::Reject => State::Archived,
                    Ack::Release => given_back(run.deliveries, max_deliveries),
                    Ack::Renew => State::Acquired { member: member.into(), deadline_ms: renewed_ms },
                };
                covered = last + 1;
                changes.push(Change { first, last, state, deliveries: run.deliveries });
            }
            if covered <= last {
                return Err(ResponseError::InvalidRecordState);
            }
        }
        Ok(changes)
    }

    /// What the time comes to: locks that have run out are given back.
    pub(crate) fn expired(&self, now_ms: i64, max_deliveries: i16) -> Vec<Change> {
        let late = self.runs.iter().filter(|(_, run)| run.deadline_ms().is_some_and(|deadline| deadline <= now_ms));
        late.map(|(first, run)| run.turned(*first, given_back(run.deliveries, max_deliveries))).collect()
    }

    /// What the end of a member's session comes to: what it still has it was not really given.
    pub(crate) fn returned(&self, member: &str) -> Vec<Change> {
        let held = self.runs.iter().filter(|(_, run)| run.is_with(member));
        held.map(|(first, run)| Change {
            deliveries: (run.deliveries - 1).max(0),
            ..run.turned(*first, State::Available)
        })
        .collect()
    }

    /// When the next lock runs out.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.runs.values().filter_map(Run::deadline_ms).min()
    }

    /// The log begins here now: what was before can be read by nobody.
    pub(crate) fn begin_at(&mut self, start: i64) {
        if start >= self.end {
            *self = Self::new(start.max(self.start));
        } else if start > self.start {
            self.split_at(start);
            self.runs = self.runs.split_off(&start);
            self.start = start;
            self.tidy();
        }
    }

    /// The log ends here, before what is known of it: a crash of the machine took what was not on the disk.
    pub(crate) fn end_at(&mut self, end: i64) {
        if end <= self.start {
            *self = Self::new(end);
        } else if end < self.end {
            self.split_at(end);
            self.runs.split_off(&end);
            self.end = end;
            self.tidy();
        }
    }

    /// Changes the state of records.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|change| self.set(change));
        self.tidy();
    }

    /// What has to be stored to have the same state again, but for who has what.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let stored = self.runs.iter().map(|(first, run)| match run.state {
            // Handed out and not answered: as if it had not been.
            State::Acquired { .. } => {
                Change { deliveries: (run.deliveries - 1).max(0), ..run.turned(*first, State::Available) }
            }
            _ => run.turned(*first, run.state.clone()),
        });
        stored.filter(|change| change.state != State::Available || change.deliveries > 0).collect()
    }

    fn set(&mut self, change: Change) {
        let (first, last) = (change.first.max(self.start), change.last);
        if last < first {
            return;
        }
        if first > self.end {
            let (state, deliveries) = (State::Available, 0);
            self.runs.insert(self.end, Run { last: first - 1, state, deliveries });
        }
        self.split_at(first);
        self.split_at(last.saturating_add(1));
        let inside: Vec<i64> = self.runs.range(first..=last).map(|(first, _)| *first).collect();
        inside.iter().for_each(|first| drop(self.runs.remove(first)));
        self.runs.insert(first, Run { last, state: change.state, deliveries: change.deliveries });
        self.end = self.end.max(last.saturating_add(1));
        self.merge_at(first);
        self.merge_at(last.saturating_add(1));
    }

    /// Makes a run begin at an offset, if one goes over it.
    fn split_at(&mut self, at: i64) {
        let Some((_, run)) = self.runs.range_mut(..at).next_back() else { return };
        if run.last >= at {
            let rest = run.clone();
            run.last = at - 1;
            self.runs.insert(at, rest);
        }
    }

    /// Makes one run of those before and from an offset, if they are alike.
    fn merge_at(&mut self, at: i64) {
        let Some(run) = self.runs.get(&at) else { return };
        let (last, state, deliveries) = (run.last, run.state.clone(), run.deliveries);
        let Some((_, before)) = self.runs.range_mut(..at).next_back() else { return };
        if before.state == state && before.deliveries == deliveries {
            before.last = last;
            self.runs.remove(&at);
        }
    }

    /// Moves the start over what is finished.
    fn tidy(&mut self) {
        while let Some(first) = self.runs.first_entry() {
            if !matches!(first.get().state, State::Acknowledged | State::Archived) {
                return;
            }
            self.start = first.get().last + 1;
            first.remove();
        }
    }

    /// The runs over some offsets, cut to them.
    fn overlapping(&self, first: i64, last: i64) -> impl Iterator<Item = (i64, i64, &Run)> {
        let begin = self.runs.range(..=first).next_back().map_or(first, |(begin, _)| *begin);
        let runs = self.runs.range(begin..).take_while(move |(begin, _)| **begin <= last);
        runs.filter(move |(_, run)| run.last >= first)
            .map(move |(begin, run)| ((*begin).max(first), run.last.min(last), run))
    }
}

impl Run {
    fn is_with(&self, member: &str) -> bool {
        matches!(&self.state, State::Acquired { member: holder, .. } if **holder == *member)
    }

    fn deadline_ms(&self) -> Option<i64> {
        match self.state {
            State::Acquired { deadline_ms, .. } => Some(deadline_ms),
            _ => None,
        }
    }

    fn turned(&self, first: i64, state: State) -> Change {
        Change { first, last: self.last, state, deliveries: self.deliveries }
    }
}

/// Where a record goes that was not processed: to the next member, until there were enough.
fn given_back(deliveries: i16, max_deliveries: i16) -> State {
    if deliveries >= max_deliveries { State::Archived } else { State::Available }
}

/// Acknowledgements as runs of the same kind.
fn runs_of(batches: &[AckBatch]) -> Result<Vec<(i64, i64, Ack)>, ResponseError> {
    let mut runs: Vec<(i64, i64, Ack)> = Vec::new();
    for batch in batches {
        let count = batch.last.checked_sub(batch.first).and_then(|count| count.checked_add(1));
        let count = count.filter(|count| *count > 0 && batch.first >= 0).ok_or(ResponseError::InvalidRequest)?;
        match batch.types.as_slice() {
            [ack] => runs.push((batch.first, batch.last, *ack)),
            types if usize::try_from(count) == Ok(types.len()) => {
                for (offset, ack) in (batch.first..=batch.last).zip(types) {
                    match runs.last_mut() {
                        Some((_, last, same)) if *last + 1 == offset && same == ack => *last = offset,
                        _ => runs.push((offset, offset, *ack)),
                    }
                }
            }
            _ => return Err(ResponseError::InvalidRequest),
        }
    }
    Ok(runs)
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
