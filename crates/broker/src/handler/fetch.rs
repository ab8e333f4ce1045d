//! Fetch: whole batches, read from the file into the response; a long poll when there are too few.
//!
//! Fetch sessions (KIP-227) are declined by answering session id 0, as the protocol allows: they
//! save request bytes between many brokers, and here there is one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchResponse, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{ProducerId, TopicName};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{Context, blocking, check_leader_epoch};
use crate::log::partition::{Batches, Isolation, Partition, ReadError, ReadLimits};

/// Longest long poll, whatever the client asks for.
const LONGEST_WAIT_MS: i32 = 60_000;

/// One partition of a fetch, with what it was resolved to.
#[derive(Debug)]
struct Wanted {
    index: i32,
    offset: i64,
    max_bytes: usize,
    partition: Result<Arc<Partition>, ResponseError>,
}

#[derive(Debug)]
struct WantedTopic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<Wanted>,
}

pub(super) async fn handle(ctx: &Arc<Context>, request: FetchRequest, version: i16) -> FetchResponse {
    if request.session_id != 0 {
        return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let isolation = ctx.isolation(request.isolation_level);
    let wait_ms = request.max_wait_ms.clamp(0, LONGEST_WAIT_MS).unsigned_abs();
    let max_bytes = unsigned(request.max_bytes).min(ctx.settings.max_fetch_bytes);
    let min_bytes = unsigned(request.min_bytes).min(max_bytes.max(1)) as u64;
    let topics: Vec<WantedTopic> = request
        .topics
        .into_iter()
        .map(|topic| {
            let found = ctx.topic(&topic.topic, topic.topic_id);
            let want = |asked: FetchPartition| {
                let partition = found.clone().and_then(|found| {
                    check_leader_epoch(asked.current_leader_epoch)?;
                    found.partition(asked.partition).ok_or(ResponseError::UnknownTopicOrPartition)
                });
                Wanted {
                    index: asked.partition,
                    offset: asked.fetch_offset,
                    max_bytes: unsigned(asked.partition_max_bytes),
                    partition,
                }
            };
            let partitions = topic.partitions.into_iter().map(want).collect();
            WantedTopic { name: topic.topic, id: topic.topic_id, partitions }
        })
        .collect();
    if wait_ms > 0 {
        wait_for_bytes(&topics, isolation, min_bytes, Duration::from_millis(wait_ms.into())).await;
    }
    let ctx = Arc::clone(ctx);
    let responses = blocking(move || read_all(&ctx, topics, max_bytes, isolation, version)).await;
    FetchResponse::default().with_responses(responses)
}

fn unsigned(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// Returns when a read would give enough, or an error, or when time is up.
async fn wait_for_bytes(topics: &[WantedTopic], isolation: Isolation, min_bytes: u64, wait: Duration) {
    let deadline = Instant::now() + wait;
    let waiter = Arc::new(Notify::new());
    while !has_enough(topics, isolation, min_bytes) {
        for wanted in all(topics) {
            if let Ok(partition) = &wanted.partition {
                partition.register(&waiter);
            }
        }
        // What came between the look and the registering woke nobody.
        if has_enough(topics, isolation, min_bytes) || timeout_at(deadline, waiter.notified()).await.is_err() {
            return;
        }
    }
}

fn all(topics: &[WantedTopic]) -> impl Iterator<Item = &Wanted> {
    topics.iter().flat_map(|topic| &topic.partitions)
}

fn has_enough(topics: &[WantedTopic], isolation: Isolation, min_bytes: u64) -> bool {
    let mut bytes = 0u64;
    for wanted in all(topics) {
        let Ok(partition) = &wanted.partition else { return true };
        if partition.is_deleted() || partition.is_out_of_range(wanted.offset) {
            return true;
        }
        let available = partition.available_bytes(wanted.offset, isolation);
        bytes = bytes.saturating_add(available.min(wanted.max_bytes.max(1) as u64));
        if bytes >= min_bytes && bytes > 0 {
            return true;
        }
    }
    bytes >= min_bytes
}

fn read_all(
    ctx: &Context,
    topics: Vec<WantedTopic>,
    max_bytes: usize,
    isolation: Isolation,
    version: i16,
) -> Vec<FetchableTopicResponse> {
    let mut left = max_bytes;
    let mut first = true;
    let mut read_topic = |topic: WantedTopic| {
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let limits = ReadLimits {
                max_bytes: left.min(wanted.max_bytes),
                // A client whose limit is below its next batch would never get past it.
                at_least_one: first,
                verify: ctx.settings.verify_on_fetch,
                isolation,
            };
            let data = read(&wanted, limits);
            let bytes = data.records.as_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(bytes);
            first &= bytes == 0;
            data
        });
        let response = FetchableTopicResponse::default().with_partitions(partitions.collect());
        if version >= 13 { response.with_topic_id(topic.id) } else { response.with_topic(topic.name) }
    };
    topics.into_iter().map(&mut read_topic).collect()
}

fn read(wanted: &Wanted, limits: ReadLimits) -> PartitionData {
    let data = PartitionData::default().with_partition_index(wanted.index).with_records(Some(Bytes::new()));
    let refuse = |data: PartitionData, error: ResponseError| {
        data.with_error_code(error.code()).with_high_watermark(-1).with_last_stable_offset(-1)
    };
    let partition = match &wanted.partition {
        Ok(partition) if partition.is_deleted() => return refuse(data, ResponseError::UnknownTopicOrPartition),
        Ok(partition) => partition,
        Err(error) => return refuse(data, *error),
    };
    let data = data.with_log_start_offset(partition.start_offset());
    match partition.read(wanted.offset, limits) {
        Ok(batches) => data
            .with_high_watermark(batches.high_watermark)
            .with_last_stable_offset(batches.last_stable_offset)
            .with_aborted_transactions(aborted(&batches, limits.isolation))
            .with_records(Some(batches.bytes)),
        Err(error) => refuse(data, refusal(partition, wanted.offset, &error)),
    }
}

/// Told to readers of committed records only; the others get null and not an empty list.
fn aborted(batches: &Batches, isolation: Isolation) -> Option<Vec<AbortedTransaction>> {
    let told = batches.aborted.iter().map(|ended| {
        AbortedTransaction::default()
            .with_producer_id(ProducerId(ended.producer_id))
            .with_first_offset(ended.first_offset)
    });
    (isolation == Isolation::Committed).then(|| told.collect())
}

fn refusal(partition: &Partition, offset: i64, error: &ReadError) -> ResponseError {
    let (topic, partition) = (partition.topic(), partition.index());
    match error {
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::Corrupt { .. } => {
            tracing::error!(topic, partition, offset, %error, "records cannot be read");
            ResponseError::CorruptMessage
        }
        ReadError::Io(_) => {
            tracing::error!(topic, partition, offset, %error, "records cannot be read");
            ResponseError::KafkaStorageError
        }
    }
}
