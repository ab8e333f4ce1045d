//! Sends records as fast as the cluster takes them, and knows at the end that each one arrived.
//!
//! Idempotent with acks from all replicas: a record is in the topic once, or it is counted as refused and the command
//! fails at its end. A refusal that is about one record (too large, no such partition) does not hold up the others; one
//! that is about the cluster ends the sending. The queue is bounded; when it is full, sending waits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::admin::{self, NewTopicSettings};
use super::client::Cluster;
use crate::error::{Failure, Result};
use crate::signals::Interrupt;

/// How long the last records may take to be acknowledged, and how often waiting looks for a second Ctrl-C.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// A record to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its key, if it has one.
    pub(crate) key: Option<Vec<u8>>,
    /// Its value; none deletes the key from a compacted topic.
    pub(crate) value: Option<Vec<u8>>,
    /// Its headers.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its partition; chosen by the key, or at random, if none.
    pub(crate) partition: Option<i32>,
    /// Its time, in milliseconds since 1970; now if none.
    pub(crate) timestamp_ms: Option<i64>,
}

/// The compression of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compression {
    /// As they are.
    None,
    /// zlib.
    Gzip,
    /// Fast, and small enough: the default.
    Snappy,
    /// Fast.
    Lz4,
    /// Smallest.
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Counts what was acknowledged and refused, and keeps the first refusal.
#[derive(Debug, Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    /// A refusal was about more than one record.
    hopeless: AtomicBool,
    first_error: Mutex<Option<KafkaError>>,
}

impl Deliveries {
    fn refuse(&self, error: &KafkaError) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if !is_about_one_record(error) {
            self.hopeless.store(true, Ordering::Relaxed);
        }
        if let Ok(mut first) = self.first_error.lock()
            && first.is_none()
        {
            tracing::debug!(%error, "the first refusal");
            *first = Some(error.clone());
        }
    }
}

fn is_about_one_record(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, message)) => {
                tracing::debug!(%error, topic = message.topic(), "record refused");
                self.refuse(error);
            }
        }
    }
}

/// Sends to one topic.
pub(crate) struct TopicProducer {
    producer: ThreadedProducer<Deliveries>,
    cluster: Cluster,
    topic: String,
    headers: Option<OwnedHeaders>,
}

impl TopicProducer {
    /// A producer to `topic`, which is created with `partitions` if it is missing (`None`: it must be there).
    pub(crate) fn open(
        cluster: &Cluster,
        topic: &str,
        compression: Compression,
        partitions: Option<i32>,
    ) -> Result<Self> {
        ensure_topic(cluster, topic, partitions)?;
        let config = cluster.config(&[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.type", compression.name()),
            ("linger.ms", "5"),
            ("batch.size", "1000000"),
            ("batch.num.messages", "100000"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "262144"),
        ]);
        let producer = config.create_with_context(Deliveries::default()).map_err(|error| cluster.failure(&error))?;
        Ok(Self { producer, cluster: cluster.clone(), topic: topic.to_owned(), headers: None })
    }

    /// The same producer with headers on every record.
    #[must_use]
    pub(crate) fn with_headers(mut self, headers: &[(String, String)]) -> Self {
        if !headers.is_empty() {
            let with_all = headers
                .iter()
                .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
            self.headers = Some(with_all);
        }
        self
    }

    /// Queues a record of key and value; waits while the queue is full.
    pub(crate) fn send(&self, key: Option<&[u8]>, value: &[u8]) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).payload(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        self.queue(record, &[])
    }

    /// Queues a record with all it has; waits while the queue is full.
    pub(crate) fn send_record(&self, record: &Record) -> Result<()> {
        let mut queued = BaseRecord::<[u8], [u8]>::to(&self.topic);
        queued.key = record.key.as_deref();
        queued.payload = record.value.as_deref();
        queued.partition = record.partition;
        queued.timestamp = record.timestamp_ms;
        self.queue(queued, &record.headers)
    }

    fn queue(&self, mut record: BaseRecord<'_, [u8], [u8]>, headers: &[(String, Option<Vec<u8>>)]) -> Result<()> {
        if self.headers.is_some() || !headers.is_empty() {
            let common = self.headers.clone().unwrap_or_default();
            let all =
                headers.iter().fold(common, |all, (key, value)| all.insert(Header { key, value: value.as_ref() }));
            record = record.headers(all);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return self.check(),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.check()?;
                    record = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((error, _)) => {
                    self.producer.context().refuse(&error);
                    return self.check();
                }
            }
        }
    }

    /// Fails if there is no sense in sending more.
    fn check(&self) -> Result<()> {
        if self.producer.context().hopeless.load(Ordering::Relaxed) { Err(self.refused()) } else { Ok(()) }
    }

    /// Waits until every record is acknowledged; gives how many were.
    pub(crate) fn finish(self) -> Result<u64> {
        self.finish_unless(&Interrupt::default())
    }

    /// The same, until the user insists on the end.
    pub(crate) fn finish_unless(self, interrupt: &Interrupt) -> Result<u64> {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let mut flushed = self.producer.flush(LOOK);
        while flushed.is_err() && Instant::now() < deadline && !interrupt.insisted() {
            flushed = self.producer.flush(LOOK);
        }
        let deliveries = self.producer.context();
        if deliveries.refused.load(Ordering::Relaxed) > 0 {
            return Err(self.refused());
        }
        flushed.map_err(|_| {
            let (left, topic, at) = (self.producer.in_flight_count(), &self.topic, &self.cluster.bootstrap);
            let unacknowledged = format!("{left} records to topic '{topic}' were not acknowledged by {at}");
            let failure = if interrupt.insisted() {
                Failure::aborted(format!("{unacknowledged} when the command was ended"))
            } else {
                Failure::runtime(format!("{unacknowledged} within {} s", FLUSH_TIMEOUT.as_secs()))
            };
            failure.help("see whether the broker is still up; what was acknowledged before is in the topic")
        })?;
        Ok(deliveries.acknowledged.load(Ordering::Relaxed))
    }

    /// The refusals so far, with the words of the first.
    fn refused(&self) -> Failure {
        let deliveries = self.producer.context();
        let (refused, topic) = (deliveries.refused.load(Ordering::Relaxed), &self.topic);
        let acknowledged = deliveries.acknowledged.load(Ordering::Relaxed);
        let first = deliveries.first_error.lock().ok().and_then(|first| first.clone());
        let code = first.as_ref().and_then(KafkaError::rdkafka_error_code);
        let words = match (code, &first) {
            (Some(code), _) => code.to_string(),
            (None, first) => first.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let records = if refused == 1 { "1 record".to_owned() } else { format!("{refused} records") };
        let were = if refused == 1 { "was" } else { "were" };
        let refusal = Failure::runtime(format!(
            "{records} to topic '{topic}' {were} refused, {acknowledged} acknowledged: {words}"
        ));
        match code {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                refusal.help("send smaller records, or raise message.max.bytes here (-X) and max.message.bytes of the topic")
            }
            Some(RDKafkaErrorCode::UnknownPartition) => {
                refusal.help(format!("see which partitions there are: highwater topic describe {topic}"))
            }
            Some(RDKafkaErrorCode::MessageTimedOut) => Failure::runtime(format!(
                "{records} to topic '{topic}' {were} not acknowledged by {} in time, {acknowledged} {}",
                self.cluster.bootstrap,
                if acknowledged == 1 { "was" } else { "were" },
            ))
            .help("see whether the broker is still up and what its log says; what was acknowledged before is in the topic"),
            _ => refusal,
        }
    }
}

fn ensure_topic(cluster: &Cluster, topic: &str, partitions: Option<i32>) -> Result<()> {
    let consumer = cluster.consumer(&[])?;
    if cluster.partitions(&consumer, topic)?.is_some() {
        return Ok(());
    }
    let Some(partitions) = partitions else { return Err(cluster.missing_topic(topic)) };
    let settings = NewTopicSettings { partitions, replication: -1, configs: Vec::new() };
    if admin::create(cluster, topic, &settings, false)? {
        tracing::info!(topic, partitions, "created the topic");
    }
    Ok(())
}
