//! Topics as the target of a query: one Kafka transaction a batch, with the batch's token inside it.
//!
//! ```text
//!   begin(N)            begin transaction
//!   write*              records of the batch, invisible to read_committed readers
//!   prepare             every record acknowledged
//!   commit              offset N for the private group `highwater-<query id>-<table>`, then end the transaction
//!   last_committed      init transactions (fences older runs, aborts what they left), then read the group's offset
//! ```
//!
//! The token is a committed offset of a group nobody joins, whose value is the batch id: it becomes visible in the
//! same step as the records. With `visibility = immediate` rows are sent as they come, in no transaction, and a batch
//! that is replayed appears again. A broker without transactions gets an idempotent producer instead: every row arrives at
//! least once, and a batch replayed after a crash appears again; the sink says so once and reports no token.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::sink::{BatchId, CommitReport, Sink, SinkRequest, SinkToken, split_deleted};
use kafka_protocol::messages::ApiKey;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer};

use super::admin::Admin;
use super::client::cluster::Client;
use super::encode::RowEncoder;
use super::options::{KafkaOptions, Transactional};
use super::producer::{RecordProducer, client_config, create, within};
use super::token;

/// Requests a broker must know for a transaction with a token.
const TRANSACTION_APIS: [ApiKey; 5] = [
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
];
/// Time for the slowest batch; the broker ends the transaction of a query that died after it. Brokers allow up to
/// 15 minutes unless told otherwise.
const TRANSACTION_TIMEOUT_MS: &str = "300000";
/// How long a record that is to be seen at once may wait for others.
const IMMEDIATE_LINGER_MS: &str = "0.5";
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long the call that adds the token to a transaction may take. librdkafka forgets its limit where the coordinator that it
/// knows of is gone for good (its issues 5456 and 5511), and would wait for ever.
const TOKEN_LIMIT: Duration = Duration::from_secs(75);

/// Topics as the target of one query.
pub struct KafkaSink {
    object: String,
    is_immediate: bool,
    client: Client,
    encoder: RowEncoder,
    topic: Option<String>,
    known_topics: HashSet<String>,
    producer: RecordProducer,
    transactions: Option<Transactions>,
    batch: Option<BatchId>,
    rows: u64,
    /// Whether rows can go: they become tombstones.
    deletes: bool,
}

/// What a transactional sink needs beside its producer.
struct Transactions {
    group: String,
    /// Never subscribed; it stands for the group when offsets join a transaction.
    consumer: BaseConsumer<Silent>,
    initialized: bool,
    open: bool,
    token_topic: Option<String>,
}

/// A client whose state is of no interest: it neither reads nor writes.
#[derive(Debug, Default)]
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Silent {}

impl KafkaSink {
    /// A sink for one query. Makes the table's topic if it is not there; fails soon if nobody answers.
    pub fn open(
        client: Client,
        options: &KafkaOptions,
        table: &str,
        declared: Option<&SchemaRef>,
        request: &SinkRequest,
    ) -> Result<Self> {
        let object = options.object.clone();
        let encoder = RowEncoder::of(request, options, declared)?;
        client.check()?;
        if let Some(topic) = &options.topic {
            Admin::new(client.clone()).ensure_topic(topic)?;
        }
        let servers = client.settings().bootstrap.join(",");
        let mut config = client_config(&servers, &client.settings().connection.client_id, &options.passed_through);
        let id = format!("highwater-{}-{table}", request.query_id);
        let transactions = if uses_transactions(&client, options)? {
            config.set("transactional.id", &id);
            if config.get("transaction.timeout.ms").is_none() {
                config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
            }
            let mut group = client_config(&servers, "highwater", &options.security.librdkafka());
            group.set("group.id", &id).set("enable.auto.commit", "false");
            let consumer = create(group, &object, Silent::default)?;
            Some(Transactions {
                group: id,
                consumer,
                initialized: false,
                open: false,
                token_topic: options.topic.clone(),
            })
        } else {
            None
        };
        if options.is_immediate && !options.passed_through.iter().any(|(key, _)| key == "linger.ms") {
            config.set("linger.ms", IMMEDIATE_LINGER_MS);
        }
        let producer = RecordProducer::new(config, &object, CALL_LIMIT)?;
        let known_topics = options.topic.iter().cloned().collect();
        let topic = options.topic.clone();
        let is_immediate = options.is_immediate;
        Ok(Self {
            object,
            is_immediate,
            client,
            encoder,
            topic,
            known_topics,
            producer,
            transactions,
            batch: None,
            rows: 0,
            deletes: request.deletes,
        })
    }

    /// Fences older runs of the query and ends what they left open.
    fn init_transactions(&mut self) -> Result<()> {
        let object = &self.object;
        if let Some(transactions) = self.transactions.as_mut().filter(|transactions| !transactions.initialized) {
            retrying(|| self.producer.inner().init_transactions(CALL_LIMIT))
                .map_err(|error| transaction_failed(object, "begin writing in transactions", error))?;
            transactions.initialized = true;
        }
        Ok(())
    }

    /// Makes topics the rows name, as far as that is allowed.
    fn ensure_topic(&mut self, topic: &str) -> Result<()> {
        if !self.known_topics.contains(topic) {
            Admin::new(self.client.clone()).ensure_topic(topic)?;
            self.known_topics.insert(topic.to_owned());
        }
        if let Some(transactions) = &mut self.transactions {
            transactions.token_topic.get_or_insert_with(|| topic.to_owned());
        }
        Ok(())
    }

    fn commit_transaction(&mut self, batch: BatchId) -> Result<()> {
        let Some(transactions) = self.transactions.as_mut().filter(|transactions| transactions.open) else {
            return Ok(());
        };
        let failed = |error| transaction_failed(&self.object, &format!("commit batch {batch}"), error);
        let producer = self.producer.inner();
        if let Some(topic) = &transactions.token_topic {
            let offsets = token::offsets(topic, batch).map_err(failed)?;
            let group = transactions.consumer.group_metadata();
            let group = Arc::new(
                group.ok_or_else(|| EngineError::internal("a consumer with a group id has no group metadata"))?,
            );
            let sent = retrying(|| {
                let (producer, offsets, group) = (Arc::clone(producer), offsets.clone(), Arc::clone(&group));
                within(TOKEN_LIMIT, move || producer.send_offsets_to_transaction(&offsets, &group, CALL_LIMIT))
            });
            // A call that does not return keeps its producer: the transaction is ended by whoever tries the batch again.
            transactions.open = !matches!(sent, Err(KafkaError::Global(_)));
            sent.map_err(failed)?;
        }
        retrying(|| producer.commit_transaction(CALL_LIMIT)).map_err(failed)?;
        transactions.open = false;
        Ok(())
    }
}

impl Sink for KafkaSink {
    fn description(&self) -> String {
        match &self.topic {
            Some(topic) => format!("KafkaSink[{topic}]"),
            None => "KafkaSink".to_owned(),
        }
    }

    fn is_immediate(&self) -> bool {
        self.is_immediate
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        self.init_transactions()?;
        match &self.transactions {
            Some(transactions) => token::read(&self.client, &transactions.group),
            None => Ok(SinkToken::Unsupported),
        }
    }

    fn begin(&mut self, batch_id: BatchId) -> Result<()> {
        self.abort()?;
        self.init_transactions()?;
        if let Some(transactions) = &mut self.transactions {
            let begun = self.producer.inner().begin_transaction();
            begun.map_err(|error| transaction_failed(&self.object, &format!("begin batch {batch_id}"), error))?;
            transactions.open = true;
        }
        self.batch = Some(batch_id);
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let (rows, deleted) = match self.deletes.then(|| split_deleted(rows)).transpose()? {
            Some((rows, deleted)) => (rows, Some(deleted)),
            None => (rows.clone(), None),
        };
        let encoded = self.encoder.encode(&rows, deleted)?;
        for row in 0..encoded.len() {
            let named = if self.topic.is_none() { encoded.topic(row) } else { None };
            if let Some(topic) = named {
                self.ensure_topic(topic)?;
            }
            let Some(topic) = self.topic.as_deref().or(named) else {
                let message = format!("{}: a row has no topic (its column 'topic' is null)", self.object);
                return Err(EngineError::data(message).help("set the option 'topic', or fill the column"));
            };
            let mut record = BaseRecord::<[u8], [u8]>::to(topic);
            record.key = encoded.key(row);
            record.payload = encoded.value(row);
            record.partition = encoded.partition(row);
            record.headers = encoded.headers(row);
            self.producer.send(record)?;
        }
        self.rows += encoded.len() as u64;
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        self.producer.flush()
    }

    fn commit(&mut self) -> Result<CommitReport> {
        let Some(batch) = self.batch else {
            return Err(EngineError::internal("a Kafka sink was told to commit before a batch began"));
        };
        self.producer.flush()?;
        self.commit_transaction(batch)?;
        self.batch = None;
        Ok(CommitReport { rows: std::mem::take(&mut self.rows) })
    }

    fn abort(&mut self) -> Result<()> {
        (self.batch, self.rows) = (None, 0);
        match self.transactions.as_mut().filter(|transactions| transactions.open) {
            Some(transactions) => {
                // What is under way is given up first: the abort waits for all of it, and nobody would take it there.
                self.producer.purge();
                let aborted = retrying(|| self.producer.inner().abort_transaction(CALL_LIMIT));
                transactions.open = false;
                aborted.map_err(|error| transaction_failed(&self.object, "give a batch up", error))?;
                self.producer.purge();
            }
            None => self.producer.purge(),
        }
        Ok(())
    }
}

/// Whether to write in transactions, by the option and by what the broker can do.
pub(super) fn uses_transactions(client: &Client, options: &KafkaOptions) -> Result<bool> {
    if options.transactional == Transactional::Never || options.is_immediate {
        return Ok(false);
    }
    if client.supports(&TRANSACTION_APIS)? {
        return Ok(true);
    }
    let object = &options.object;
    if options.transactional == Transactional::Always {
        return Err(EngineError::config(format!(
            "{object}: option 'transactional' is 'true', but the broker has no transactions"
        ))
        .help("use a broker that has, or set 'transactional' = 'auto' to write at least once"));
    }
    tracing::warn!(
        table = object,
        "the broker has no transactions: rows are written at least once, a batch replayed after a crash appears again"
    );
    Ok(false)
}

/// Calls again while librdkafka says that the same call may succeed.
fn retrying(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    const TRIES: u32 = 3;
    let mut tries = 1;
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

fn transaction_failed(object: &str, what: &str, error: KafkaError) -> EngineError {
    use rdkafka::error::RDKafkaErrorCode as Code;
    let message = format!("{object}: Kafka did not let the query {what}");
    let fenced =
        matches!(error.rdkafka_error_code(), Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch));
    let error = if fenced {
        EngineError::config(message).caused_by(error).help("another run of this query has taken over; stop one of them")
    } else {
        EngineError::unavailable(message).caused_by(error)
    };
    error.help("check the broker's health, then start the query again: it goes on from its checkpoint")
}
