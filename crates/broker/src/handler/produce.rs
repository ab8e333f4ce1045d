//! Produce: batches checked once, appended in the order they came, acknowledged when they are
//! safe.
//!
//! In two steps. [`admit`] appends and decides everything but one thing; [`Admitted::finish`]
//! waits for the fsync, if acks do. A connection admits the next produce while an earlier one
//! waits, so that one fsync answers for all of them.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};

use super::{Context, blocking, text};
use crate::log::admission::{self, Inadmissible, Refusal};
use crate::log::batch::{BatchError, Codec, ProducedBatch};
use crate::log::config::LogConfig;
use crate::log::partition::Partition;
use crate::log::partition_log::{AppendError, Appended};
use crate::log::producer_state::SequenceError;
use crate::log::topics::{Topic, is_internal};
use crate::txn::coordinator::Producer;

/// First version in which a partition joins the transaction by what is written to it (KIP-890).
const JOINS_SINCE: i16 = 12;
/// First version that names topics by their ids.
const TOPIC_IDS_SINCE: i16 = 13;
/// First version in which clients may send zstd.
const ZSTD_SINCE: i16 = 7;
/// Acks of all replicas that are in sync.
const ALL_IN_SYNC: i16 = -1;
/// Replicas in sync there are of everything.
const REPLICAS: i32 = 1;

/// A produce whose batches are in the log.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) response: ProduceResponse,
    /// Acks of 0: the client expects no answer.
    pub(crate) silent: bool,
    pub(crate) failed: bool,
    waits: Vec<Wait>,
}

/// A partition response that holds once everything below an offset is on the disk.
#[derive(Debug)]
struct Wait {
    topic: usize,
    partition: usize,
    log: Arc<Partition>,
    offset: i64,
}

#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: ResponseError,
    reason: String,
    /// The records it is about, where it is not about all of them.
    records: Vec<Refusal>,
}

impl Refused {
    fn new(error: ResponseError, reason: impl Into<String>) -> Self {
        Self { error, reason: reason.into(), records: Vec::new() }
    }
}

/// Appends everything in the request.
pub(crate) async fn admit(ctx: &Arc<Context>, request: ProduceRequest, version: i16) -> Admitted {
    let ctx = Arc::clone(ctx);
    blocking(move || append_all(&ctx, request, version)).await
}

fn append_all(ctx: &Context, request: ProduceRequest, version: i16) -> Admitted {
    let whole = check_request(&request);
    let acks = request.acks;
    let silent = acks == 0;
    let transactional_id = request.transactional_id.as_ref().map(|id| id.as_str());
    let mut admitted = Admitted { response: ProduceResponse::default(), silent, failed: false, waits: Vec::new() };
    for (topic_at, topic) in request.topic_data.into_iter().enumerate() {
        let found = if version >= TOPIC_IDS_SINCE {
            ctx.topics.by_id(topic.topic_id).ok_or(ResponseError::UnknownTopicId)
        } else {
            ctx.topics.get(&topic.name).ok_or(ResponseError::UnknownTopicOrPartition)
        };
        let mut response = TopicProduceResponse::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        for (partition_at, data) in topic.partition_data.into_iter().enumerate() {
            let index = data.index;
            let appended = match &whole {
                Ok(()) => append(ctx, found.as_deref().map_err(|error| *error), data, transactional_id, version, acks),
                Err((error, reason)) => Err(Refused::new(*error, *reason)),
            };
            admitted.failed |= appended.is_err();
            if let Ok((log, appended)) = &appended {
                let wait = Wait {
                    topic: topic_at,
                    partition: partition_at,
                    log: Arc::clone(log),
                    offset: appended.next_offset,
                };
                admitted.waits.push(wait);
            }
            response.partition_responses.push(describe(index, appended));
        }
        admitted.response.responses.push(response);
    }
    admitted
}

fn check_request(request: &ProduceRequest) -> Result<(), (ResponseError, &'static str)> {
    if !(-1..=1).contains(&request.acks) {
        return Err((ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or all"));
    }
    if request.transactional_id.is_some() && request.acks != -1 {
        return Err((ResponseError::InvalidRequiredAcks, "acks must be all in a transaction"));
    }
    Ok(())
}

fn append(
    ctx: &Context,
    topic: Result<&Topic, ResponseError>,
    data: PartitionProduceData,
    transactional_id: Option<&str>,
    version: i16,
    acks: i16,
) -> Result<(Arc<Partition>, Appended), Refused> {
    let unknown = |error| Refused::new(error, format!("there is no such topic with a partition {}", data.index));
    let topic = topic.map_err(unknown)?;
    let partition = topic.partition(data.index).ok_or_else(|| unknown(ResponseError::UnknownTopicOrPartition))?;
    let topic: &str = &topic.name;
    if is_internal(topic) {
        return Err(Refused::new(ResponseError::InvalidTopicException, format!("only the broker writes to {topic}")));
    }
    let records = data.records.unwrap_or_default();
    let batch = ProducedBatch::check(&records).map_err(refuse_batch)?;
    let in_transaction = transactional_id.filter(|_| batch.header.is_transactional());
    if batch.header.is_transactional() && in_transaction.is_none() {
        let reason = "a transactional batch without a transactional id".to_owned();
        return Err(Refused::new(ResponseError::InvalidRequest, reason));
    }
    if version < ZSTD_SINCE && batch.header.codec() == Ok(Codec::Zstd) {
        let reason = format!("zstd needs Produce version {ZSTD_SINCE}");
        return Err(Refused::new(ResponseError::UnsupportedCompressionType, reason));
    }
    let now_ms = ctx.clock.wall_ms();
    let repacked = check_topic(topic, &partition.config(), &batch, acks, now_ms)?;
    let batch = match &repacked {
        Some(bytes) => ProducedBatch::check(bytes).map_err(refuse_batch)?,
        None => batch,
    };
    let producer = Producer { id: batch.header.producer_id, epoch: batch.header.producer_epoch };
    let at = (topic.to_owned(), data.index);
    if let Some(id) = in_transaction
        && version >= JOINS_SINCE
    {
        let joined = ctx.transactions.add(id, producer, std::slice::from_ref(&at), None);
        joined.map_err(|error| refuse_append(topic, data.index, AppendError::NotAdmitted(error)))?;
    }
    let admit = || in_transaction.map_or(Ok(()), |id| ctx.transactions.check_produce(id, producer, &at));
    let appended = partition.append(&batch, now_ms, admit);
    if partition.is_deleted() {
        let reason = format!("topic {topic} is being deleted");
        return Err(Refused::new(ResponseError::UnknownTopicOrPartition, reason));
    }
    match appended {
        Ok(appended) => Ok((partition, appended)),
        Err(error) => Err(refuse_append(topic, data.index, error)),
    }
}

/// What the settings of a topic say to a batch; answers it in the codec of the topic, if that is another one.
fn check_topic(
    topic: &str,
    config: &LogConfig,
    batch: &ProducedBatch<'_>,
    acks: i16,
    now_ms: i64,
) -> Result<Option<Vec<u8>>, Refused> {
    if acks == ALL_IN_SYNC && config.min_insync_replicas > REPLICAS {
        let reason = format!(
            "topic {topic} has min.insync.replicas={}, but a single node has {REPLICAS} replica in sync; lower it, or \
             produce with acks=1",
            config.min_insync_replicas
        );
        return Err(Refused::new(ResponseError::NotEnoughReplicas, reason));
    }
    admission::admit(batch, config, now_ms).map_err(|error| {
        let reason = error.to_string();
        let (error, records) = match error {
            Inadmissible::Unreadable(_) => (ResponseError::InvalidRecord, Vec::new()),
            Inadmissible::Key(records) => (ResponseError::InvalidRecord, records),
            Inadmissible::Timestamp(records) => (ResponseError::InvalidTimestamp, records),
        };
        Refused { error, reason, records }
    })
}

fn refuse_batch(error: BatchError) -> Refused {
    let kind = match error {
        BatchError::Crc { .. } | BatchError::Cut { .. } | BatchError::Length { .. } => ResponseError::CorruptMessage,
        BatchError::Field { what: "the compression codec", .. } => ResponseError::UnsupportedCompressionType,
        _ => ResponseError::InvalidRecord,
    };
    Refused::new(kind, error.to_string())
}

pub(super) fn refuse_append(topic: &str, partition: i32, error: AppendError) -> Refused {
    let kind = match &error {
        AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
        AppendError::Sequence(SequenceError::OutOfOrder { .. }) => ResponseError::OutOfOrderSequenceNumber,
        AppendError::Sequence(SequenceError::Fenced { .. }) => ResponseError::InvalidProducerEpoch,
        AppendError::Sequence(SequenceError::NotTransactional { .. }) => ResponseError::InvalidTxnState,
        // What a producer that was replaced has always been told here.
        AppendError::NotAdmitted(ResponseError::ProducerFenced) => ResponseError::InvalidProducerEpoch,
        AppendError::NotAdmitted(error) => *error,
        AppendError::Failed | AppendError::Io(_) => ResponseError::KafkaStorageError,
    };
    if kind == ResponseError::KafkaStorageError {
        tracing::error!(topic, partition, %error, "records cannot be stored: check the disk of the data folder");
    }
    Refused::new(kind, error.to_string())
}

fn describe(index: i32, appended: Result<(Arc<Partition>, Appended), Refused>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match appended {
        Ok((log, appended)) => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms)
            .with_log_start_offset(log.start_offset()),
        Err(refused) => response
            .with_error_code(refused.error.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_record_errors(refused.records.into_iter().map(describe_record).collect())
            .with_error_message(Some(text(refused.reason))),
    }
}

fn describe_record(refusal: Refusal) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage::default()
        .with_batch_index(refusal.index)
        .with_batch_index_error_message(Some(text(refusal.reason)))
}

impl Admitted {
    /// Waits until everything that was appended is safe. A wait that fails becomes the error of
    /// its partition.
    pub(crate) async fn finish(mut self) -> ProduceResponse {
        for wait in std::mem::take(&mut self.waits) {
            if wait.log.flushed(wait.offset).await.is_ok() {
                continue;
            }
            let partitions = self.response.responses.get_mut(wait.topic).map(|topic| &mut topic.partition_responses);
            if let Some(partition) = partitions.and_then(|partitions| partitions.get_mut(wait.partition)) {
                partition.error_code = ResponseError::KafkaStorageError.code();
                partition.base_offset = -1;
            }
        }
        self.response
    }
}
