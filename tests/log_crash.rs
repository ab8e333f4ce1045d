//! `kill -9` of the broker at any moment, and power cuts: what was acknowledged is there, once, in order, and no reader
//! of committed records ever sees one that was not.
//!
//! ```text
//!   idempotent producer ──────┐                     ┌──> reader of committed records, all the time
//!   transactions, zombies ────┴──> broker ─ kill ───┤
//!        │                           ▲        │     └──> reader at the end
//!        └──> ledger <── compared    └ restart┴ cut what was not synced, append garbage
//! ```
//!
//! A killed process loses nothing that it has written; a machine that stops does. A small library in the broker's
//! process (`shim/fsync.c`) notes what each fsync covered, and after a kill every log is cut to a random length that
//! is not below that, often with garbage behind it. Every [`Fault`] must be found by the same checks, or they would
//! mean nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::own_port;
use crate::program::{PATIENCE, Running, highwater, succeed};
use crate::random::Random;

/// How many kills; more by `HIGHWATER_LOG_KILLS`.
const KILLS: usize = 15;

/// At most so many kills until a fault must have been found.
const KILLS_OF_A_FAULT: usize = 15;

const PARTITIONS: i32 = 3;
const TOPICS: [&str; 2] = ["plain", "txn"];

/// Records of the idempotent producer that may be under way.
const IN_FLIGHT: u64 = 300;

/// How long one call of a client may take before it is made again.
const CALL: Duration = Duration::from_secs(5);

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// No fsync reaches the disk.
    NoFsync,
    /// The broker lets producers that were replaced go on.
    NoFencing,
    /// The broker shows every record to readers of committed ones.
    NoIsolation,
    /// The broker does not recognise a batch that is sent again: the producer gives it no numbers.
    NoIdempotence,
}

/// How a transaction ended, as its producer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Its commit was acknowledged.
    Committed,
    /// No commit was asked for, or it was refused.
    Aborted,
    /// A commit was asked for, and its producer does not know what became of it.
    Unknown,
}

/// Where a record is.
type Place = (String, i32, i64);

/// What the clients know.
#[derive(Debug, Default)]
struct Ledger {
    /// Acknowledged records of the idempotent producer: where they are, and their values.
    acknowledged: BTreeMap<Place, String>,
    /// Transactions: their outcome, and their values.
    transactions: Vec<(Outcome, Vec<String>)>,
    /// What the reader of committed records has seen.
    seen: BTreeMap<Place, String>,
    /// What must not have happened, as soon as somebody knows.
    violations: Vec<String>,
    /// Logs that a power cut left shorter, and longer, than the broker had written them.
    cut: usize,
    torn: usize,
}

/// One run.
struct Harness {
    folder: tempfile::TempDir,
    fault: Fault,
    address: String,
    shim: PathBuf,
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    reader_stop: AtomicBool,
}

impl Harness {
    fn new(fault: Fault) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let shim = folder.path().join("fsync.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/shim/fsync.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).args([source, "-ldl"]).status();
        assert!(built.is_ok_and(|status| status.success()), "cc builds {source}");
        fs::create_dir(folder.path().join("marks")).unwrap();
        let address = format!("127.0.0.1:{}", own_port());
        // Small segments, so that kills fall on the moment a new one begins as well.
        let sabotage = match fault {
            Fault::NoFencing => "no_fencing",
            Fault::NoIsolation => "no_isolation",
            Fault::None | Fault::NoFsync | Fault::NoIdempotence => "",
        };
        // A segment that is cut and has others behind it is found by the broker, which does not start: what the checks
        // find is looked for where that cannot be.
        let segment_bytes = if fault == Fault::NoFsync { 1 << 30 } else { 20_000 };
        let settings = format!(
            "listen: {address}\ndata_dir: data\nfsync: always\nsegment_bytes: {segment_bytes}\nsabotage: [{sabotage}]\n"
        );
        fs::write(folder.path().join("broker.yml"), settings).unwrap();
        let (ledger, stop, reader_stop) = Default::default();
        Arc::new(Self { folder, fault, address, shim, ledger, stop, reader_stop })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn violation(&self, text: impl Into<String>) {
        self.ledger().violations.push(text.into());
    }

    fn start_broker(&self) -> Running {
        let mut command = highwater(self.folder.path(), &["broker", "--config", "broker.yml"]);
        command.env("LD_PRELOAD", &self.shim).env("FSYNC_MARKS", self.folder.path().join("marks"));
        if self.fault == Fault::NoFsync {
            command.env("FSYNC_SKIP", "1");
        }
        let mut broker = Running::spawn(command);
        broker.wait_for("bootstrap address ");
        broker
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

    /// After a kill: each log as a machine that stopped may have left it.
    fn cut_unsynced(&self, random: &mut Random) {
        let mut logs = Vec::new();
        find_logs(&self.folder.path().join("data"), &mut logs);
        for log in logs {
            let metadata = fs::metadata(&log).unwrap();
            let mark = self.folder.path().join(format!("marks/{}", metadata.ino()));
            let noted = fs::read(&mark).ok().and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
            let synced = noted.unwrap_or(0).min(metadata.len());
            if synced == metadata.len() && random.next(4) > 0 {
                continue;
            }
            let kept = synced + random.next(metadata.len() - synced + 1);
            let mut file = OpenOptions::new().write(true).open(&log).unwrap();
            file.set_len(kept).unwrap();
            self.ledger().cut += usize::from(kept < metadata.len());
            if noted.is_some() {
                fs::write(&mark, synced.to_ne_bytes()).unwrap();
            }
            // A closed segment is not written to any more, so nothing can be torn behind it.
            if is_active(&log) && random.next(2) == 0 {
                std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
                let garbage: Vec<u8> = (0..1 + random.next(200)).map(|_| random.next(256) as u8).collect();
                file.write_all(&garbage).unwrap();
                self.ledger().torn += 1;
            }
        }
    }
}

/// All files that are only appended to.
fn find_logs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_logs(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
}

/// Whether a log is the last of its partition; the broker's own journals have no others.
fn is_active(log: &Path) -> bool {
    let segments = |folder: &Path| {
        let mut segments = Vec::new();
        find_logs(folder, &mut segments);
        segments.into_iter().max()
    };
    log.parent().is_some_and(|folder| folder.ends_with("data") || segments(folder).as_deref() == Some(log))
}

/// Takes down what was acknowledged.
struct Acks {
    harness: Arc<Harness>,
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
                let other = self.harness.ledger().acknowledged.insert(place.clone(), text(message));
                if let Some(other) = other.filter(|_| place.2 >= 0) {
                    self.harness.violation(format!("{place:?} was acknowledged twice, before for {other}"));
                }
            }
            Err((error, message)) => {
                self.harness.violation(format!("{} of the idempotent producer was refused: {error}", text(message)));
            }
        }
    }
}

fn text(message: &impl Message) -> String {
    String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()
}

/// Sends numbers to each partition until it is told to stop, then waits for the last acknowledgement.
fn produce_plain(harness: &Arc<Harness>) {
    let idempotent = if harness.fault == Fault::NoIdempotence { "false" } else { "true" };
    let config = harness.config(&[
        ("enable.idempotence", idempotent),
        ("acks", "all"),
        ("linger.ms", "1"),
        ("batch.num.messages", "20"),
        ("message.timeout.ms", "600000"),
        ("message.send.max.retries", "100000"),
    ]);
    let acks = Acks { harness: harness.clone(), settled: AtomicU64::new(0) };
    let producer: ThreadedProducer<Acks> = config.create_with_context(acks).unwrap();
    let mut sent = 0_u64;
    while !harness.stop.load(Ordering::SeqCst) {
        if sent - producer.context().settled.load(Ordering::SeqCst) >= IN_FLIGHT {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let partition = (sent % PARTITIONS as u64) as i32;
        let value = format!("{partition}:{sent:09}");
        let record = BaseRecord::<(), str>::to("plain").partition(partition).payload(&value);
        if let Err((error, _)) = producer.send(record) {
            harness.violation(format!("the idempotent producer cannot go on: {error}"));
            return;
        }
        sent += 1;
        if sent.is_multiple_of(10) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    if producer.flush(PATIENCE).is_err() {
        harness.violation(format!("{} records were never acknowledged", producer.in_flight_count()));
    }
}

/// Runs one transaction after the other, some of them beside a zombie.
struct Transactions {
    harness: Arc<Harness>,
    random: Random,
    next: usize,
}

impl Transactions {
    fn run(mut self) {
        let mut producer = self.open("txn");
        while !self.harness.stop.load(Ordering::SeqCst) {
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
            self.harness.config(&[("transactional.id", id), ("linger.ms", "1"), ("transaction.timeout.ms", "60000")]);
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
            self.harness.ledger().transactions.push((Outcome::Aborted, values));
            return self.settle(|| producer.abort_transaction(CALL)) == Some(Outcome::Committed);
        }
        // Known only when its outcome is; a reader may see it before, which is compared at the end.
        let outcome = self.settle(|| producer.commit_transaction(CALL));
        self.harness.ledger().transactions.push((outcome.unwrap_or(Outcome::Unknown), values));
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
        self.harness.violation("a transaction does not end");
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
        self.harness.ledger().transactions.push((Outcome::Aborted, values));
        let new = self.open("txn");
        // Its own transaction is open when the other one comes back.
        if new.begin_transaction().is_ok() {
            let values = self.send(&new);
            let _ = new.flush(CALL);
            self.harness.ledger().transactions.push((Outcome::Unknown, values));
        }
        if self.settle(|| zombie.commit_transaction(CALL)) == Some(Outcome::Committed) {
            self.harness.violation("a producer that was replaced has committed");
        }
        drop((zombie, new));
        self.open("txn")
    }
}

fn reader(harness: &Harness, topics: &[&str], isolation: &str) -> BaseConsumer {
    let config = harness.config(&[
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
fn read_on(harness: &Harness) {
    let consumer = reader(harness, &TOPICS, "read_committed");
    let mut last: BTreeMap<(String, i32), i64> = BTreeMap::new();
    while !harness.reader_stop.load(Ordering::SeqCst) {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let (topic, partition, offset) = (message.topic().to_owned(), message.partition(), message.offset());
                let before = last.insert((topic.clone(), partition), offset);
                if before.is_some_and(|before| before >= offset) {
                    harness.violation(format!("{topic}-{partition}: offset {offset} came after {before:?}"));
                }
                harness.ledger().seen.insert((topic, partition, offset), text(&message));
            }
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::BadMessage),
            ))) => {
                harness.violation(format!("what the reader has seen is gone, or damaged: {code}"));
                return;
            }
            // Nobody answers, or there is nothing new.
            Some(Err(_)) | None => {}
        }
    }
}

/// All there is, once every partition is at its end.
fn read_all(harness: &Harness, isolation: &str) -> BTreeMap<Place, String> {
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    for topic in TOPICS {
        let consumer = reader(harness, &[topic], isolation);
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

/// Runs everything with so many kills; the ledger, with its violations, after it was compared.
fn crash(fault: Fault, kills: usize, seed: u64) -> Ledger {
    let harness = Harness::new(fault);
    let mut random = Random(seed);
    let mut broker = harness.start_broker();
    for topic in TOPICS {
        let partitions = PARTITIONS.to_string();
        let create = ["topic", "create", topic, "-b", &harness.address, "--partitions", &partitions, "--lint", "off"];
        succeed(harness.folder.path(), &create);
    }
    let transactions = Transactions { harness: harness.clone(), random: Random(seed ^ 1), next: 0 };
    let mut producers = Vec::new();
    producers.push(thread::spawn({
        let harness = harness.clone();
        move || produce_plain(&harness)
    }));
    producers.push(thread::spawn(move || transactions.run()));
    let reading = thread::spawn({
        let harness = harness.clone();
        move || read_on(&harness)
    });
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(100 + random.next(700)));
        broker.signal("KILL");
        broker.wait();
        if random.next(3) > 0 {
            harness.cut_unsynced(&mut random);
        }
        broker = harness.start_broker();
        if fault != Fault::None && !harness.ledger().violations.is_empty() {
            break;
        }
    }
    harness.stop.store(true, Ordering::SeqCst);
    for producer in producers {
        producer.join().unwrap();
    }
    let found = read_all(&harness, "read_committed");
    let stored = read_all(&harness, "read_uncommitted");
    harness.reader_stop.store(true, Ordering::SeqCst);
    reading.join().unwrap();
    assert!(broker.is_running(), "the broker has ended by itself");
    drop(broker);
    let mut ledger = std::mem::take(&mut *harness.ledger());
    compare(&mut ledger, &found, &stored);
    if fault == Fault::None && !ledger.violations.is_empty() {
        // For whoever looks for the cause.
        let kept = std::env::temp_dir().join(format!("log-crash-{seed}"));
        let copied = Command::new("cp").arg("-r").args([&harness.folder.path().join("data"), &kept]).status();
        ledger.violations.push(format!("the broker's data is in {}: {copied:?}", kept.display()));
    }
    ledger
}

fn seed() -> u64 {
    let given = std::env::var("HIGHWATER_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or(u64::from(std::process::id()))
}

#[test]
#[expect(clippy::print_stdout, reason = "what a long run has done is told to whoever asked for it")]
fn acknowledged_records_survive_crashes_of_the_broker() {
    let kills = std::env::var("HIGHWATER_LOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let seed = seed();
    let ledger = crash(Fault::None, kills, seed);
    let count = |outcome: Outcome| ledger.transactions.iter().filter(|(found, _)| *found == outcome).count();
    let (committed, aborted) = (count(Outcome::Committed), count(Outcome::Aborted));
    let (acknowledged, seen) = (ledger.acknowledged.len(), ledger.seen.len());
    let (cut, torn) = (ledger.cut, ledger.torn);
    println!(
        "{kills} kills, HIGHWATER_SEED={seed}: {acknowledged} records acknowledged, {committed} transactions committed, \
         {aborted} aborted, {seen} records seen; {cut} logs cut, {torn} with garbage behind them"
    );
    let violations = &ledger.violations[..ledger.violations.len().min(20)];
    assert!(violations.is_empty(), "HIGHWATER_SEED={seed}, {kills} kills:\n  {}", violations.join("\n  "));
    for (what, number) in
        [("acknowledged", acknowledged), ("committed", committed), ("aborted", aborted), ("seen", seen), ("torn", torn)]
    {
        assert!(number > kills / 5, "{number} {what} are too few to mean anything, HIGHWATER_SEED={seed}");
    }
}

/// What the checks are worth: each fault must be found, and in the words that fit it.
fn finds(fault: Fault, expected: &[&str]) {
    let seed = seed();
    let found = crash(fault, KILLS_OF_A_FAULT, seed).violations;
    let fits = |violation: &String| expected.iter().any(|part| violation.contains(part));
    let shown = found.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(found.iter().any(fits), "{fault:?} was not found, HIGHWATER_SEED={seed}; found:\n  {shown}");
}

#[test]
fn a_crash_check_finds_that_nothing_is_synced() {
    finds(Fault::NoFsync, &["was acknowledged at", "is gone", "was acknowledged twice", "records can be read"]);
}

#[test]
fn a_crash_check_finds_that_zombies_are_not_fenced() {
    finds(Fault::NoFencing, &["has committed"]);
}

#[test]
fn a_crash_check_finds_that_aborted_records_are_read() {
    finds(Fault::NoIsolation, &["Aborted"]);
}

#[test]
fn a_crash_check_finds_that_records_are_stored_twice() {
    finds(Fault::NoIdempotence, &["is there 2 times"]);
}
