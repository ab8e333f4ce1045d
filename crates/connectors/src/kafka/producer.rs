//! librdkafka's producer, set up for whole batches: idempotent, compressed, bounded, and with its errors collected.
//!
//! The queue inside is limited; when it is full the caller waits, so that memory stays bounded and a slow broker
//! slows the query. A record the broker refused is remembered and fails the batch at the next flush. Of an outage the
//! user is told once, and once of its end; librdkafka's own words, a line for each try, are for debugging.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater_engine::error::{EngineError, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::types::RDKafkaConfRes;

/// How long one call waits for a place in the queue before it looks for errors again.
const QUEUE_WAIT: Duration = Duration::from_millis(100);
/// How long is waited for the last acknowledgements at a time.
const FLUSH_STEP: Duration = Duration::from_millis(1);
/// How often delivery reports are handled while records are sent.
const RECORDS_PER_POLL: u64 = 1024;

const DEFAULTS: [(&str, &str); 10] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("compression.type", "lz4"),
    ("linger.ms", "2"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "100000"),
    ("queue.buffering.max.messages", "500000"),
    ("queue.buffering.max.kbytes", "131072"),
    ("delivery.report.only.error", "true"),
    // A broker that is back is not left waiting for ten seconds.
    ("reconnect.backoff.max.ms", "1000"),
];

/// The keys of Java clients that mean nothing here; Spark refuses most of them, too.
const IGNORED: [&str; 5] =
    ["key.serializer", "value.serializer", "key.deserializer", "value.deserializer", "isolation.level"];

/// The settings of a client by librdkafka's names: our defaults, then what the table's options pass through.
pub fn client_config(servers: &str, client_id: &str, passed_through: &[(String, String)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    DEFAULTS.iter().for_each(|(key, value)| {
        config.set(*key, *value);
    });
    config.set("client.id", client_id);
    for (key, value) in passed_through.iter().filter(|(key, _)| !IGNORED.contains(&key.as_str())) {
        config.set(key.as_str(), value.as_str());
    }
    config.set("bootstrap.servers", servers);
    config
}

/// Makes a client; options librdkafka does not know are left out with a warning, as other Kafka clients do.
pub fn create<C, T>(mut config: ClientConfig, object: &str, context: impl Fn() -> C) -> Result<T>
where
    C: ClientContext,
    T: FromClientConfigAndContext<C>,
{
    loop {
        match T::from_config_and_context(&config, context()) {
            Ok(client) => return Ok(client),
            Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, key, _))
                if config.get(&key).is_some() =>
            {
                tracing::warn!(table = object, option = format!("kafka.{key}"), "unknown to the Kafka client, ignored");
                config.remove(&key);
            }
            Err(error) => {
                return Err(
                    EngineError::config(format!("{object}: the Kafka client refuses its options")).caused_by(error)
                );
            }
        }
    }
}

/// Sends records and knows which of them failed.
pub struct RecordProducer {
    producer: Arc<BaseProducer<Deliveries>>,
    object: String,
    limit: Duration,
    sent: u64,
}

/// What the client says beside its work.
#[derive(Default)]
pub struct Deliveries {
    /// The first record the broker refused since the last look.
    failed: Mutex<Option<(String, KafkaError)>>,
    /// The user was told that no broker answers.
    is_outage_told: AtomicBool,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown) if !self.is_outage_told.swap(true, Ordering::Relaxed) => {
                tracing::warn!("no Kafka broker answers; trying again until the batch is written or takes too long");
            }
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut) => {
                tracing::debug!(%error, reason, "librdkafka");
            }
            _ => tracing::error!("the Kafka client fails: {error}: {reason}"),
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
    }
}

impl RecordProducer {
    /// A producer that waits at most `limit` for a batch to be acknowledged.
    pub fn new(config: ClientConfig, object: &str, limit: Duration) -> Result<Self> {
        let producer = Arc::new(create(config, object, Deliveries::default)?);
        Ok(Self { producer, object: object.to_owned(), limit, sent: 0 })
    }

    /// The client underneath, for transactions.
    pub fn inner(&self) -> &Arc<BaseProducer<Deliveries>> {
        &self.producer
    }

    /// Queues a record, waiting while the queue is full.
    pub fn send(&mut self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        self.sent += 1;
        if self.sent.is_multiple_of(RECORDS_PER_POLL) {
            self.producer.poll(Duration::ZERO);
            self.check_deliveries()?;
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    record = returned;
                    self.producer.poll(QUEUE_WAIT);
                    self.check_deliveries()?;
                }
                Err((error, record)) => {
                    let topic = record.topic.to_owned();
                    return Err(self.failed(&topic, error));
                }
            }
        }
    }

    /// Waits until the broker has all records.
    pub fn flush(&self) -> Result<()> {
        let had_records = self.producer.in_flight_count() > 0;
        let flushed = self.wait_for_all();
        self.check_deliveries()?;
        let told = &self.producer.context().is_outage_told;
        if had_records && flushed.is_ok() && told.swap(false, Ordering::Relaxed) {
            tracing::info!("Kafka answers again");
        }
        flushed.map_err(|error| {
            EngineError::unavailable(format!(
                "{}: Kafka did not acknowledge the batch within {:?}",
                self.object, self.limit
            ))
            .caused_by(error)
            .help("check the broker's health, then start the query again")
        })
    }

    /// Waits until nothing is under way. The client's own wait sleeps for 100 ms at a time, because successful deliveries
    /// are not reported: that would be most of the time a small batch takes.
    fn wait_for_all(&self) -> Result<(), KafkaError> {
        let began = Instant::now();
        loop {
            match self.producer.flush(Duration::ZERO) {
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) if began.elapsed() < self.limit => {
                    self.producer.poll(FLUSH_STEP);
                }
                done => return done,
            }
        }
    }

    /// Forgets what is queued.
    pub fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.producer.poll(Duration::ZERO);
        let _ = self.take_failure();
    }

    fn check_deliveries(&self) -> Result<()> {
        match self.take_failure() {
            Some((topic, error)) => Err(self.failed(&topic, error)),
            None => Ok(()),
        }
    }

    fn take_failure(&self) -> Option<(String, KafkaError)> {
        self.producer.context().failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn failed(&self, topic: &str, error: KafkaError) -> EngineError {
        use RDKafkaErrorCode as Code;
        let message = format!("{}: a record could not be written to topic '{topic}'", self.object);
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => EngineError::data(message).help(
                "raise the topic's max.message.bytes and the option 'kafka.message.max.bytes', or write smaller rows",
            ),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                EngineError::config(message).help(format!("create it: highwater topic create {topic}"))
            }
            Some(Code::UnknownPartition) => EngineError::data(message).help("check the column 'partition' of the rows"),
            Some(Code::TopicAuthorizationFailed) => {
                EngineError::config(message).help("grant this client WRITE on the topic")
            }
            _ => EngineError::unavailable(message).help("check the broker's health, then start the query again"),
        }
        .caused_by(error)
    }
}

/// Makes a call that may never return, and waits so long for it. A call that is given up goes on in its thread and keeps what
/// it uses; its result is of no interest any more.
pub fn within(
    limit: Duration,
    call: impl FnOnce() -> Result<(), KafkaError> + Send + 'static,
) -> Result<(), KafkaError> {
    let (sender, result) = sync_channel(1);
    let thread = std::thread::Builder::new().name("kafka-call".to_owned());
    thread
        .spawn(move || drop(sender.send(call())))
        .map_err(|_| KafkaError::Global(RDKafkaErrorCode::CriticalSystemResource))?;
    match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(KafkaError::Global(RDKafkaErrorCode::OperationTimedOut)),
        // It has panicked.
        Err(RecvTimeoutError::Disconnected) => Err(KafkaError::Global(RDKafkaErrorCode::Fail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_return_is_given_up() {
        let refused = || KafkaError::Global(RDKafkaErrorCode::Fenced);
        let long = Duration::from_secs(60);
        assert_eq!(within(long, || Ok(())), Ok(()));
        assert_eq!(within(long, move || Err(refused())), Err(refused()));
        let (end, ended) = sync_channel::<()>(0);
        let hangs = move || {
            let _ = ended.recv();
            Ok(())
        };
        let given_up = within(Duration::from_millis(20), hangs);
        assert_eq!(given_up, Err(KafkaError::Global(RDKafkaErrorCode::OperationTimedOut)));
        drop(end);
    }
}
