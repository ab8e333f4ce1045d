//! Sends records as fast as the cluster takes them, and knows at the end that each one arrived.
//!
//! Idempotent with acks from all replicas: a record is in the topic once, or the command fails. The queue is bounded;
//! when it is full, sending waits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::admin::{self, NewTopicSettings};
use super::client::Cluster;
use crate::error::{Failure, Result};

/// How long the last records may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

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

/// Counts what was acknowledged and keeps the first refusal.
#[derive(Debug, Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    first_error: Mutex<Option<KafkaError>>,
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
                if let Ok(mut first) = self.first_error.lock() {
                    first.get_or_insert_with(|| error.clone());
                }
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

    /// Queues a record; waits while the queue is full.
    pub(crate) fn send(&self, key: Option<&[u8]>, value: &[u8]) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).payload(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(headers) = &self.headers {
            record = record.headers(headers.clone());
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.check()?;
                    record = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((error, _)) => return Err(self.refused(&error)),
            }
        }
    }

    /// Fails if a record was refused since the producer was opened.
    pub(crate) fn check(&self) -> Result<()> {
        let first = self.producer.context().first_error.lock().ok().and_then(|first| first.clone());
        first.map_or(Ok(()), |error| Err(self.refused(&error)))
    }

    /// Waits until every record is acknowledged; gives how many were.
    pub(crate) fn finish(self) -> Result<u64> {
        let flushed = self.producer.flush(FLUSH_TIMEOUT);
        self.check()?;
        flushed.map_err(|_| {
            Failure::runtime(format!(
                "{} records to topic '{}' were not acknowledged by {} within {} s",
                self.producer.in_flight_count(),
                self.topic,
                self.cluster.bootstrap,
                FLUSH_TIMEOUT.as_secs()
            ))
            .help("see whether the broker is still up; what was acknowledged before is in the topic")
        })?;
        Ok(self.producer.context().acknowledged.load(Ordering::Relaxed))
    }

    fn refused(&self, error: &KafkaError) -> Failure {
        let words = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        let failure = Failure::runtime(format!("a record to topic '{}' was refused: {words}", self.topic));
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                failure.help("send smaller records, or raise message.max.bytes here (-X) and on the topic")
            }
            Some(RDKafkaErrorCode::MessageTimedOut) => Failure::runtime(format!(
                "a record to topic '{}' was not acknowledged by {} in time",
                self.topic, self.cluster.bootstrap
            ))
            .help("see whether the broker is still up and what its log says; what was acknowledged before is in the topic"),
            _ => failure,
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
    if admin::create(cluster, topic, &settings)? {
        tracing::info!(topic, partitions, "created the topic");
    }
    Ok(())
}
