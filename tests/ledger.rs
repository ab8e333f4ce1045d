//! Clients that take down what they know, and the comparison of that with what is there.
//!
//! ```text
//!   idempotent producer ──────┐                        ┌──> reader of committed records, all the time
//!   transactions, zombies ────┴──> broker or cluster ──┤
//!        │                                             └──> reader at the end
//!        └──> ledger <── compared
//! ```
//!
//! Who disturbs the broker meanwhile is the test's own: `log_crash.rs` kills ours, `cluster/` Apache Kafka's. The records of
//! the idempotent producer are numbers in order for each partition; a transaction's carry its number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::program::{PATIENCE, succeed};
use crate::random::Random;

const PARTITIONS: i32 = 3;
/// The topics of the idempotent producer, and of the transactions.
pub(crate) const TOPICS: [&str; 2] = ["plain", "txn"];

/// Records of the idempotent producer that may be under way.
const IN_FLIGHT: u64 = 300;

/// How long one call of a client may take before it is made again.
const CALL: Duration = Duration::from_secs(5);

/// How a transaction ended, as its producer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its commit was acknowledged.
    Committed,
    /// No commit was asked for, or it was refused.
    Aborted,
    /// A commit was asked for, and its producer does not know what became of it.
    Unknown,
}

/// Where a record is.
pub(crate) type Place = (String, i32, i64);

/// What the clients know.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Acknowledged records of the idempotent producer: where they are, and their values.
    pub(crate) acknowledged: BTreeMap<Place, String>,
    /// Transactions: their outcome, and their values.
    pub(crate) transactions: Vec<(Outcome, Vec<String>)>,
    /// What the reader of committed records has seen.
    pub(crate) seen: BTreeMap<Place, String>,
    /// What must not have happened, as soon as somebody knows.
    pub(crate) violations: Vec<String>,
}

/// What all clients share.
struct Shared {
    address: String,
    /// Whether the first producer gives its batches numbers.
    is_idempotent: bool,
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    reader_stop: AtomicBool,
}

/// Clients that run until they are told to stop.
pub(crate) struct Load {
    shared: Arc<Shared>,
    producers: Vec<JoinHandle<()>>,
    reader: JoinHandle<()>,
}

impl Load {
    /// Makes the topics and starts the clients.
    pub(crate) fn start(folder: &std::path::Path, address: &str, is_idempotent: bool, seed: u64) -> Self {
        for topic in TOPICS {
            let partitions = PARTITIONS.to_string();
            let create = ["topic", "create", topic, "-b", address, "--partitions", &partitions, "--lint", "off"];
            succeed(folder, &create);
        }
        let (ledger, stop, reader_stop) = Default::default();
        let shared = Arc::new(Shared { address: address.to_owned(), is_idempotent, ledger, stop, reader_stop });
        let transactions = Transactions { shared: shared.clone(), random: Random(seed ^ 1), next: 0 };
        let plain = thread::spawn({
            let shared = shared.clone();
            move || produce_plain(&shared)
        });
        let producers = vec![plain, thread::spawn(move || transactions.run())];
        let reader = thread::spawn({
            let shared = shared.clone();
            move || read_on(&shared)
        });
        Self { shared, producers, reader }
    }

    /// Whether something is known to be wrong already.
    pub(crate) fn has_violations(&self) -> bool {
        !self.shared.ledger().violations.is_empty()
    }

    /// How many records the idempotent producer knows to be there, and how many transactions have ended.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let ledger = self.shared.ledger();
        (ledger.acknowledged.len(), ledger.transactions.len())
    }

    /// Lets the producers end; then everything is compared. Also gives what can be read of both topics, committed.
    pub(crate) fn stop(self) -> (Ledger, BTreeMap<Place, String>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for producer in self.producers {
            producer.join().unwrap();
        }
        let found = read_all(&self.shared, "read_committed");
        let stored = read_all(&self.shared, "read_uncommitted");
        self.shared.reader_stop.store(true, Ordering::SeqCst);
        self.reader.join().unwrap();
        let mut ledger = std::mem::take(&mut *self.shared.ledger());
        compare(&mut ledger, &found, &stored);
        (ledger, found)
    }
}

impl Ledger {
    /// How many transactions ended so.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.transactions.iter().filter(|(found, _)| *found == outcome).count()
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn violation(&self, text: impl Into<String>) {
        self.ledger().violations.push(text.into());
    }

    fn config(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        let common = [
            ("reconnect.backoff.ms", "20"),
            ("reconnect.backoff.max.ms", "200"),
            ("retry.backoff.ms", "50"),
            ("retry.backoff.max.ms", "200"),
            ("topic.metadata.refresh.interval.ms", "1000"),
        ];
        config.set("bootstrap.servers", &self.address);
        for (key, value) in common.iter().chain(settings) {
            config.set(*key, *value);
        }
        config
    }
}

/// Takes down what was acknowledged.
struct Acks {
    shared: Arc<Shared>,
    settled: AtomicU64,
}

impl ClientContext for Acks {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        self.settled.fetch_add(1, Ordering::SeqCst);
        match result {
            Ok(message) => {
                let place = (message.topic().to_owned(), message.partition(), message.offset());
                // -1 for a batch the broker had already, whose offset it does not remember.
                let other = self.shared.ledger().acknowledged.insert(place.clone(), text(message));
                if let Some(other) = other.filter(|_| place.2 >= 0) {
                    self.shared.violation(format!("{place:?} was acknowledged twice, before for {other}"));
                }
            }
            Err((error, message)) => {
                self.shared.violation(format!("{} of the idempotent producer was refused: {error}", text(message)));
            }
        }
    }
}

fn text(message: &impl Message) -> String {
    String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()
}

/// Sends numbers to each partition until it is told to stop, then waits for the last acknowledgement.
fn produce_plain(shared: &Arc<Shared>) {
    let idempotent = if shared.is_idempotent { "true" } else { "false" };
    let config = shared.config(&[
        ("enable.idempotence", idempotent),
        ("acks", "all"),
        ("linger.ms", "1"),
        ("batch.num.messages", "20"),
        ("message.timeout.ms", "600000"),
        ("message.send.max.retries", "100000"),
    ]);
    let acks = Acks { shared: shared.clone(), settled: AtomicU64::new(0) };
    let producer: ThreadedProducer<Acks> = config.create_with_context(acks).unwrap();
    let mut sent = 0_u64;
    while !shared.stop.load(Ordering::SeqCst) {
        if sent - producer.context().settled.load(Ordering::SeqCst) >= IN_FLIGHT {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let partition = (sent % PARTITIONS as u64) as i32;
        let value = format!("{partition}:{sent:09}");
        let record = BaseRecord::<(), str>::to("plain").partition(partition).payload(&value);
        if let Err((error, _)) = producer.send(record) {
            shared.violation(format!("the idempotent producer cannot go on: {error}"));
            return;
        }
        sent += 1;
        if sent.is_multiple_of(10) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    if producer.flush(PATIENCE).is_err() {
        shared.violation(format!("{} records were never acknowledged", producer.in_flight_count()));
    }
}

/// Runs one transaction after the other, some of them beside a zombie.
struct Transactions {
    shared: Arc<Shared>,
    random: Random,
    next: usize,
}

impl Transactions {
    fn run(mut self) {
        let mut producer = self.open("txn");
        while !self.shared.stop.load(Ordering::SeqCst) {
            let dance = self.random.next(8) == 0;
            if dance {
                producer = self.beside_a_zombie(producer);
            } else if !self.transact(&producer) {
                producer = self.open("txn");
            }
        }
    }

    /// A producer whose transactions may begin.
    fn open(&self, id: &str) -> ThreadedProducer<rdkafka::producer::DefaultProducerContext> {
        let config =
            self.shared.config(&[("transactional.id", id), ("linger.ms", "1"), ("transaction.timeout.ms", "60000")]);
        loop {
            let producer: ThreadedProducer<_> = config.create().unwrap();
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                match producer.init_transactions(CALL) {
                    Ok(()) => return producer,
                    Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
                    Err(_) => break,
                }
            }
            assert!(Instant::now() < deadline, "a transactional producer does not start");
        }
    }

    /// Sends the records of a new transaction; their values.
    fn send(&mut self, producer: &ThreadedProducer<rdkafka::producer::DefaultProducerContext>) -> Vec<String> {
        let id = self.next;
        self.next += 1;
        let count = 1 + self.random.next(20);
        // What could not even be queued is in no transaction, and the commit of the others is none the worse for it.
        (0..count)
            .filter_map(|n| {
                let value = format!("{id}:{n}");
                let partition = self.random.next(PARTITIONS as u64) as i32;
                let record = BaseRecord::<(), str>::to("txn").partition(partition).payload(&value);
                producer.send(record).is_ok().then_some(value)
            })
            .collect()
    }

    /// One transaction; `false` if its producer cannot go on.
    fn transact(&mut self, producer: &ThreadedProducer<rdkafka::producer::DefaultProducerContext>) -> bool {
        if producer.begin_transaction().is_err() {
            return false;
        }
        let values = self.send(producer);
        if self.random.next(3) == 0 {
            // Some of them only when they are on the disk.
            if self.random.next(2) == 0 {
                let _ = producer.flush(CALL);
            }
            self.shared.ledger().transactions.push((Outcome::Aborted, values));
            return self.settle(|| producer.abort_transaction(CALL)) == Some(Outcome::Committed);
        }
        // Known only when its outcome is; a reader may see it before, which is compared at the end.
        let outcome = self.settle(|| producer.commit_transaction(CALL));
        self.shared.ledger().transactions.push((outcome.unwrap_or(Outcome::Unknown), values));
        match outcome {
            Some(Outcome::Committed) => true,
            Some(_) => self.settle(|| producer.abort_transaction(CALL)) == Some(Outcome::Committed),
            None => false,
        }
    }

    /// Ends a transaction: `Committed` if it was done, `Aborted` if it must be aborted, none if nobody knows.
    fn settle(&self, end: impl Fn() -> Result<(), KafkaError>) -> Option<Outcome> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match end() {
                Ok(()) => return Some(Outcome::Committed),
                Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => return Some(Outcome::Aborted),
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
                Err(_) => return None,
            }
        }
        self.shared.violation("a transaction does not end");
        None
    }

    /// A producer with an open transaction is replaced by another one, and comes back: it must not commit.
    fn beside_a_zombie(
        &mut self,
        zombie: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
    ) -> ThreadedProducer<rdkafka::producer::DefaultProducerContext> {
        if zombie.begin_transaction().is_err() {
            return self.open("txn");
        }
        let values = self.send(&zombie);
        let _ = zombie.flush(CALL);
        self.shared.ledger().transactions.push((Outcome::Aborted, values));
        let new = self.open("txn");
        // Its own transaction is open when the other one comes back.
        if new.begin_transaction().is_ok() {
            let values = self.send(&new);
            let _ = new.flush(CALL);
            self.shared.ledger().transactions.push((Outcome::Unknown, values));
        }
        if self.settle(|| zombie.commit_transaction(CALL)) == Some(Outcome::Committed) {
            self.shared.violation("a producer that was replaced has committed");
        }
        drop((zombie, new));
        self.open("txn")
    }
}

fn reader(shared: &Shared, topics: &[&str], isolation: &str) -> BaseConsumer {
    let config = shared.config(&[
        ("group.id", "reader"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", isolation),
        ("enable.partition.eof", "true"),
        ("check.crcs", "true"),
        ("fetch.wait.max.ms", "50"),
    ]);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Offset(0)).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    consumer
}

/// Reads on through all restarts; what it has seen must stay.
fn read_on(shared: &Shared) {
    let consumer = reader(shared, &TOPICS, "read_committed");
    let mut last: BTreeMap<(String, i32), i64> = BTreeMap::new();
    while !shared.reader_stop.load(Ordering::SeqCst) {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let (topic, partition, offset) = (message.topic().to_owned(), message.partition(), message.offset());
                let before = last.insert((topic.clone(), partition), offset);
                if before.is_some_and(|before| before >= offset) {
                    shared.violation(format!("{topic}-{partition}: offset {offset} came after {before:?}"));
                }
                shared.ledger().seen.insert((topic, partition, offset), text(&message));
            }
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::BadMessage),
            ))) => {
                shared.violation(format!("what the reader has seen is gone, or damaged: {code}"));
                return;
            }
            // Nobody answers, or there is nothing new.
            Some(Err(_)) | None => {}
        }
    }
}

/// All there is, once every partition is at its end.
fn read_all(shared: &Shared, isolation: &str) -> BTreeMap<Place, String> {
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    for topic in TOPICS {
        let consumer = reader(shared, &[topic], isolation);
        let mut ended = BTreeSet::new();
        while ended.len() < PARTITIONS as usize {
            assert!(Instant::now() < deadline, "{topic} cannot be read to its end");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    found.insert((message.topic().to_owned(), message.partition(), message.offset()), text(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(_)) | None => {}
            }
        }
    }
    found
}

/// Compares what is there with what the clients know; every difference is a violation.
fn compare(ledger: &mut Ledger, found: &BTreeMap<Place, String>, stored: &BTreeMap<Place, String>) {
    let mut violations = Vec::new();
    let values = |topic: &str| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for ((found_in, ..), value) in found {
            if found_in == topic {
                *counts.entry(value.as_str()).or_default() += 1;
            }
        }
        counts
    };
    let (plain, transactional) = (values("plain"), values("txn"));
    for (place, value) in &ledger.acknowledged {
        let there = if place.2 >= 0 {
            found.get(place).map(String::as_str)
        } else {
            plain.get_key_value(value.as_str()).map(|(key, _)| *key)
        };
        if there != Some(value) {
            violations.push(format!("{value} was acknowledged at {place:?}, where {there:?} is"));
        }
    }
    for (value, times) in plain.iter().chain(&transactional).filter(|(_, times)| **times > 1) {
        violations.push(format!("{value} is there {times} times"));
    }
    let mut last: BTreeMap<i32, &str> = BTreeMap::new();
    for ((_, partition, _), value) in found.iter().filter(|((topic, ..), _)| topic == "plain") {
        if let Some(before) = last.insert(*partition, value).filter(|before| *before >= value.as_str()) {
            violations.push(format!("{value} stands behind {before}"));
        }
    }
    for (id, (outcome, values)) in ledger.transactions.iter().enumerate() {
        let there = values.iter().filter(|value| transactional.contains_key(value.as_str())).count();
        let allowed = match outcome {
            Outcome::Committed => there == values.len(),
            Outcome::Aborted => there == 0,
            Outcome::Unknown => there == 0 || there == values.len(),
        };
        if !allowed {
            let (of, value) = (values.len(), |place: &Place| format!("{}-{}@{}", place.0, place.1, place.2));
            let places = stored.iter().filter(|(_, found)| values.contains(*found));
            let places: Vec<String> = places.map(|(place, _)| value(place)).collect();
            violations.push(format!(
                "of transaction {id}, {outcome:?}, {there} of {of} records can be read; stored: {}",
                places.join(" ")
            ));
        }
    }
    for (place, value) in &ledger.seen {
        let there = found.get(place);
        if there != Some(value) {
            violations.push(format!("a reader has seen {value} at {place:?}, where {there:?} is now"));
        }
    }
    ledger.violations.extend(violations);
}
