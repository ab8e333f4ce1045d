//! The life of a transaction, request by request.

use super::coordinator::*;
use crate::group::offsets::At;
use crate::log::control::Outcome;
use kafka_protocol::ResponseError;

const LIMITS: Limits = Limits { max_timeout_ms: 60_000, max_ids: 3, max_partitions: 4, fences: true };

/// A coordinator whose changes are applied at once.
struct Driver {
    coordinator: Coordinator,
    next_id: i64,
}

fn at(partition: i32) -> At {
    ("orders".to_owned(), partition)
}

fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id, epoch }
}

impl Driver {
    fn new() -> Self {
        Self { coordinator: Coordinator::new(LIMITS), next_id: 100 }
    }

    fn init(&mut self, known: Option<Producer>) -> Result<Producer, ResponseError> {
        self.init_as("a", known)
    }

    fn init_as(&mut self, id: &str, known: Option<Producer>) -> Result<Producer, ResponseError> {
        let fresh = || {
            self.next_id += 1;
            Ok(self.next_id)
        };
        match self.coordinator.init(id, known, 1000, 0, fresh)? {
            Init::Ready(producer, change) => {
                change.into_iter().for_each(|change| self.coordinator.apply(change));
                Ok(producer)
            }
            Init::AbortFirst(change) => {
                self.coordinator.apply(change);
                self.finish();
                self.init_as(id, None)
            }
        }
    }

    fn add(&mut self, producer: Producer, partition: i32) -> Result<(), ResponseError> {
        let change = self.coordinator.add("a", producer, &[at(partition)], None, 0)?;
        change.into_iter().for_each(|change| self.coordinator.apply(change));
        Ok(())
    }

    /// Decides the end, without finishing it.
    fn decide(&mut self, producer: Producer, outcome: Outcome, renews_epoch: bool) -> Result<bool, ResponseError> {
        let fresh = || {
            self.next_id += 1;
            Ok(self.next_id)
        };
        let change = self.coordinator.end("a", End { producer, outcome, renews_epoch }, 0, fresh)?;
        let decided = change.is_some();
        change.into_iter().for_each(|change| self.coordinator.apply(change));
        Ok(decided)
    }

    fn finish(&mut self) {
        if let Some(change) = self.coordinator.finish("a", 0) {
            self.coordinator.apply(change);
        }
    }

    fn state(&self) -> State {
        self.transaction().state
    }

    fn transaction(&self) -> &Transaction {
        self.coordinator.get("a").expect("known")
    }
}

#[test]
fn from_start_to_commit_and_on_to_the_next() {
    let mut driver = Driver::new();
    let me = driver.init(None).expect("started");
    assert_eq!((me, driver.state()), (producer(101, 0), State::Empty));
    for _ in 0..2 {
        driver.add(me, 0).expect("added");
        driver.add(me, 1).expect("added");
        assert_eq!(driver.coordinator.check_produce("a", me, &at(1)), Ok(()));
        assert_eq!(driver.coordinator.check_produce("a", me, &at(2)), Err(ResponseError::InvalidTxnState));
        assert_eq!(driver.decide(me, Outcome::Commit, false), Ok(true));
        assert_eq!(driver.state(), State::Ending(Outcome::Commit));
        assert_eq!(driver.transaction().partitions.len(), 2);
        // Until the markers are written nothing else goes.
        assert_eq!(driver.add(me, 0), Err(ResponseError::ConcurrentTransactions));
        assert_eq!(driver.init(None), Err(ResponseError::ConcurrentTransactions));
        assert_eq!(driver.decide(me, Outcome::Commit, false), Err(ResponseError::ConcurrentTransactions));
        assert_eq!(driver.decide(me, Outcome::Abort, false), Err(ResponseError::InvalidTxnState));
        assert_eq!(driver.coordinator.check_produce("a", me, &at(1)), Err(ResponseError::ConcurrentTransactions));
        driver.finish();
        assert_eq!(driver.state(), State::Ended(Outcome::Commit));
        assert!(driver.transaction().partitions.is_empty());
        // An answer that was lost is given again; another end was not decided.
        assert_eq!(driver.decide(me, Outcome::Commit, false), Ok(false));
        assert_eq!(driver.decide(me, Outcome::Abort, false), Err(ResponseError::InvalidTxnState));
        assert_eq!(driver.coordinator.check_produce("a", me, &at(1)), Err(ResponseError::InvalidTxnState));
    }
}

#[test]
fn a_new_producer_fences_the_one_before_and_aborts_its_transaction() {
    let mut driver = Driver::new();
    let old = driver.init(None).expect("started");
    driver.add(old, 0).expect("added");
    let new = driver.init(None).expect("started");
    assert!(new.id == old.id && new.epoch > old.epoch, "{new:?}");
    assert_eq!(driver.state(), State::Empty);
    assert_eq!(driver.add(old, 0), Err(ResponseError::ProducerFenced));
    assert_eq!(driver.decide(old, Outcome::Commit, false), Err(ResponseError::ProducerFenced));
    assert_eq!(driver.coordinator.check_produce("a", old, &at(0)), Err(ResponseError::ProducerFenced));
    assert_eq!(driver.init(Some(old)), Err(ResponseError::ProducerFenced));
    driver.add(new, 0).expect("added");
    // One who was never told of the id.
    assert_eq!(driver.add(producer(9, 0), 0), Err(ResponseError::InvalidProducerIdMapping));
}

#[test]
fn a_producer_that_says_who_it_was_gets_one_new_epoch_however_often_it_asks() {
    let mut driver = Driver::new();
    let first = driver.init(None).expect("started");
    let second = driver.init(Some(first)).expect("its own");
    assert_eq!(second, producer(first.id, first.epoch + 1));
    assert_eq!(driver.init(Some(first)), Ok(second), "the same request again");
    driver.add(second, 0).expect("added");
    assert_eq!(driver.init(Some(first)), Err(ResponseError::ProducerFenced), "no repetition any more");
}

#[test]
fn with_the_newer_protocol_every_transaction_has_an_epoch_of_its_own() {
    let mut driver = Driver::new();
    let first = driver.init(None).expect("started");
    driver.add(first, 0).expect("added");
    assert_eq!(driver.decide(first, Outcome::Commit, true), Ok(true));
    assert_eq!(driver.decide(first, Outcome::Commit, true), Err(ResponseError::ConcurrentTransactions));
    let second = driver.transaction().successor();
    assert_eq!(second, producer(first.id, first.epoch + 1));
    driver.finish();
    assert_eq!(driver.decide(first, Outcome::Commit, true), Ok(false), "the same request again");
    assert_eq!(driver.add(first, 0), Err(ResponseError::ProducerFenced), "a request that comes late");
    assert_eq!(driver.decide(second, Outcome::Commit, true), Err(ResponseError::InvalidTxnState));
    // An abort of nothing.
    assert_eq!(driver.decide(second, Outcome::Abort, true), Ok(true));
    driver.finish();
    let third = driver.transaction().successor();
    assert_eq!(third, producer(first.id, first.epoch + 2));
    driver.add(third, 0).expect("added");
    assert_eq!(driver.decide(second, Outcome::Abort, true), Err(ResponseError::ProducerFenced));
}

#[test]
fn used_up_epochs_make_a_new_producer_id() {
    let mut driver = Driver::new();
    let mut me = driver.init(None).expect("started");
    let first = me.id;
    while me.id == first {
        driver.add(me, 0).expect("added");
        driver.decide(me, Outcome::Commit, true).expect("ended");
        let fencing = driver.transaction().producer;
        assert!(fencing.id == me.id && fencing.epoch > me.epoch, "the marker fences: {fencing:?} after {me:?}");
        driver.finish();
        me = driver.transaction().successor();
    }
    assert_eq!(me.epoch, 0);
    driver.add(me, 0).expect("added");
    // The same where a producer starts.
    let mut me = driver.init_as("b", None).expect("started");
    let first = me.id;
    while me.id == first {
        let next = driver.init_as("b", None).expect("started");
        assert!(next.id != me.id || next.epoch == me.epoch + 1);
        me = next;
    }
}

#[test]
fn what_takes_too_long_is_aborted_against_its_producer() {
    let mut driver = Driver::new();
    let me = driver.init(None).expect("started");
    driver.add(me, 0).expect("added");
    assert_eq!(driver.coordinator.timed_out(1000), []);
    let late = driver.coordinator.timed_out(1001);
    assert_eq!(late.len(), 1);
    late.into_iter().for_each(|change| driver.coordinator.apply(change));
    assert_eq!(driver.coordinator.ending(), ["a"]);
    driver.finish();
    assert_eq!(driver.decide(me, Outcome::Commit, false), Err(ResponseError::ProducerFenced));
    assert_eq!(driver.coordinator.timed_out(i64::MAX), []);
}

#[test]
fn what_is_not_allowed_is_refused() {
    let mut driver = Driver::new();
    let refused = |driver: &Driver, id: &str, timeout_ms| {
        driver.coordinator.init(id, None, timeout_ms, 0, || Ok(1)).expect_err("refused")
    };
    assert_eq!(refused(&driver, "", 1000), ResponseError::InvalidRequest);
    for timeout_ms in [0, -1, LIMITS.max_timeout_ms + 1] {
        assert_eq!(refused(&driver, "a", timeout_ms), ResponseError::InvalidTransactionTimeout);
    }
    let me = driver.init(None).expect("started");
    for id in ["b", "c"] {
        driver.init_as(id, None).expect("started");
    }
    assert_eq!(refused(&driver, "d", 1000), ResponseError::PolicyViolation);
    for partition in 0..LIMITS.max_partitions as i32 {
        driver.add(me, partition).expect("added");
    }
    assert_eq!(driver.add(me, 100), Err(ResponseError::PolicyViolation));
    assert_eq!(driver.decide(producer(me.id, 7), Outcome::Abort, false), Err(ResponseError::ProducerFenced));
}

#[test]
fn an_id_nobody_uses_is_forgotten_unless_its_transaction_is_open() {
    let mut driver = Driver::new();
    let me = driver.init(None).expect("started");
    driver.init_as("b", None).expect("started");
    driver.add(me, 0).expect("added");
    let unused = driver.coordinator.unused_since(1);
    assert_eq!(unused, [Change { id: "b".to_owned(), transaction: None }]);
    unused.into_iter().for_each(|change| driver.coordinator.apply(change));
    assert!(driver.coordinator.get("b").is_none() && driver.coordinator.get("a").is_some());
}

#[test]
fn logs_that_know_more_than_the_coordinator_end_its_transaction_and_fence_its_producer() {
    let seen = |epoch: i16, open: &[i32], groups: &[&str]| Seen {
        epoch,
        open: open.iter().map(|partition| at(*partition)).collect(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let abort = State::Ending(Outcome::Abort);
    // (decided before the crash, what the logs know, the state and epoch after it, and who comes next)
    for (decided, seen, expected) in [
        (None, seen(0, &[0], &[]), None),
        (None, seen(-1, &[], &[]), None),
        (None, seen(1, &[], &[]), Some((abort, 2, None))),
        (None, seen(0, &[0, 1], &[]), Some((abort, 1, None))),
        (None, seen(0, &[0], &["g"]), Some((abort, 1, None))),
        (Some(Outcome::Commit), seen(0, &[0], &[]), None),
        (Some(Outcome::Commit), seen(0, &[1], &[]), Some((State::Ending(Outcome::Commit), 0, Some(1)))),
        (Some(Outcome::Commit), seen(4, &[], &[]), Some((State::Ending(Outcome::Commit), 0, Some(5)))),
    ] {
        let mut driver = Driver::new();
        let first = driver.init(None).expect("started");
        driver.add(first, 0).expect("added");
        if let Some(outcome) = decided {
            driver.decide(first, outcome, false).expect("decided");
        }
        let known = [(first.id, seen.clone()), (7, seen.clone())].into();
        let changes = driver.coordinator.catch_up(&known, 5);
        let found = changes.first().and_then(|change| change.transaction.clone()).inspect(|transaction| {
            assert!(decided.is_some() || seen.open.is_subset(&transaction.partitions));
            assert!(decided.is_some() || seen.groups.is_subset(&transaction.groups));
        });
        let told = found.map(|transaction| {
            let next = (transaction.successor() != transaction.producer).then(|| transaction.successor().epoch);
            (transaction.state, transaction.producer.epoch, next)
        });
        assert_eq!(told, expected, "{decided:?} {seen:?}");
        assert!(changes.len() < 2, "nobody else is concerned");
        changes.into_iter().for_each(|change| driver.coordinator.apply(change));
        assert_eq!(driver.coordinator.catch_up(&known, 5).len(), usize::from(decided.is_some() && expected.is_some()));
        driver.finish();
        if expected.is_some() {
            assert_eq!(driver.decide(first, Outcome::Commit, false), Err(ResponseError::ProducerFenced));
        }
    }
}
