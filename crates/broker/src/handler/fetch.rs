//! Fetch: whole batches, read from the file into what is sent; a long poll when there are too few.
//!
//! ```text
//! look (enough? how much?) ─> wait ─> memory ─> read into buffers ─> session ─> frame in pieces ─> socket
//! ```
//!
//! What a fetch in a session reads, and what of it is told, is decided in `fetch_session.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchResponse, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{ProducerId, TopicName};
use kafka_protocol::protocol::Encodable;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{Answer, Context, Peer, blocking, check_leader_epoch, guard};
use crate::budget::Charge;
use crate::buffers::Buffers;
use crate::fetch_session::Asked;
use crate::log::partition::{Batches, Isolation, Partition, ReadError, ReadLimits};
use crate::protocol::fetch_response;
use crate::protocol::frame::{AnswerTo, Frame, FrameError};
use crate::quota::entity::Key;
use crate::security::authorizer::Access;
use crate::security::guard::Verdict;

/// Longest long poll, whatever the client asks for.
const LONGEST_WAIT_MS: i32 = 60_000;
/// A fetch gets memory for this much, or waits: most batches are smaller.
const LEAST_SHARE: usize = 1024 * 1024 + 12;
/// How long a fetch that wants no waiting waits for memory.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(500);

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

/// A fetch and everything around its reading: its session, its quota, its memory.
pub(super) async fn answer(ctx: &Arc<Context>, peer: &Peer, frame: &Frame) -> Result<Answer, FrameError> {
    let to = AnswerTo { key: frame.key, version: frame.version, correlation_id: frame.correlation_id };
    let client = peer.quota_client(&frame.client_id);
    let plain =
        |response: &FetchResponse| Ok(Answer { frame: to.encode(response)?.into(), muted_until_ms: 0, _memory: None });
    let mut request: FetchRequest = frame.decode()?;
    let asked = Asked {
        session_id: request.session_id,
        epoch: request.session_epoch,
        by_id: frame.version >= 13,
        topics: std::mem::take(&mut request.topics),
        forgotten: std::mem::take(&mut request.forgotten_topics_data),
    };
    let opened = ctx.fetch_sessions.lock().open(ctx.clock.monotonic_ms(), asked);
    let (scope, topics) = match opened {
        Ok(opened) => opened,
        Err(error) => return plain(&FetchResponse::default().with_error_code(error.code())),
    };
    // A session reads what it was told of before, so its client's rights are asked for each time.
    let mut request = request.with_topics(topics);
    let finish = match guard(&mut request, Access::new(ctx, peer), frame.version) {
        Verdict::Refused(response) => return plain(&response),
        Verdict::Admitted(finish) => finish,
    };
    let most = i32::try_from(ctx.quotas.most_at_once(Key::ConsumerByteRate, client)).unwrap_or(i32::MAX);
    request.max_bytes = request.max_bytes.min(most);
    let (responses, mut memory) = fetch(ctx, request, frame.version).await;
    let mut read = FetchResponse::default().with_responses(responses);
    finish(Access::new(ctx, peer), &mut read);

    let size = read.compute_size(frame.version).unwrap_or(0);
    let throttle_ms = ctx.quotas.count(Key::ConsumerByteRate, client, size);
    if throttle_ms > 0 {
        // Nothing is sent, so nothing counts; the client asks again when the time is over.
        ctx.quotas.uncount(Key::ConsumerByteRate, client, size);
        let throttled = FetchResponse::default()
            .with_throttle_time_ms(i32::try_from(throttle_ms).unwrap_or(i32::MAX))
            .with_session_id(scope.session_id());
        return Ok(Answer { muted_until_ms: ctx.muted_until_ms(throttle_ms), ..plain(&throttled)? });
    }
    let fresh_id = || (Uuid::new_v4().as_u128() & 0x7fff_ffff) as i32;
    let finished = ctx.fetch_sessions.lock().finish(ctx.clock.monotonic_ms(), scope, read.responses, fresh_id);
    let response = match finished {
        Ok(answer) => FetchResponse::default().with_session_id(answer.session_id).with_responses(answer.responses),
        Err((id, error)) => FetchResponse::default().with_session_id(id).with_error_code(error.code()),
    };
    let frame = fetch_response::encode(to, response)?;
    memory.settle(frame.remaining());
    Ok(Answer { frame, muted_until_ms: 0, _memory: Some(memory) })
}

/// Reads what a request asks for, as far as there is memory for it.
async fn fetch(ctx: &Arc<Context>, request: FetchRequest, version: i16) -> (Vec<FetchableTopicResponse>, Charge) {
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
    let wait = Duration::from_millis(wait_ms.into());
    let wanted = wait_for_bytes(&topics, isolation, min_bytes, wait).await.min(max_bytes.max(1));
    let patience = wait.max(SHORTEST_PATIENCE);
    let memory = ctx.fetch_memory.share(wanted, LEAST_SHARE.min(ctx.settings.max_fetch_memory_bytes), patience).await;
    let (ctx, room) = (Arc::clone(ctx), memory.size());
    let responses = blocking(move || read_all(&ctx, topics, room, isolation, version)).await;
    (responses, memory)
}

fn unsigned(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// Waits until a read would give enough, or an error, or time is up; answers the bytes a read of everything could give.
async fn wait_for_bytes(topics: &[WantedTopic], isolation: Isolation, min_bytes: u64, wait: Duration) -> usize {
    let deadline = Instant::now() + wait;
    let waiter = Arc::new(Notify::new());
    let mut is_late = wait.is_zero();
    loop {
        let found = look(topics, isolation, min_bytes);
        if found.is_enough || is_late {
            return found.bytes;
        }
        for wanted in all(topics) {
            if let Ok(partition) = &wanted.partition {
                partition.register(&waiter);
            }
        }
        // What came between the look and the registering woke nobody.
        let found = look(topics, isolation, min_bytes);
        if found.is_enough {
            return found.bytes;
        }
        is_late = timeout_at(deadline, waiter.notified()).await.is_err();
    }
}

/// What partitions have for a fetch.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// An answer need not wait: there are records enough, or an error.
    is_enough: bool,
    /// Bytes a read of everything could give.
    bytes: usize,
}

fn all(topics: &[WantedTopic]) -> impl Iterator<Item = &Wanted> {
    topics.iter().flat_map(|topic| &topic.partitions)
}

/// One look at every partition, which may be in a file: for the waiting, and for the memory. An error comes at once,
/// but not one for what is not there: as in Kafka it comes with the answer to the rest, since a client that keeps asking
/// would be answered without a pause. Where nothing else is asked for there is no rest.
fn look(topics: &[WantedTopic], isolation: Isolation, min_bytes: u64) -> Found {
    let (mut has_error, mut waits, mut within_limits, mut bytes) = (false, false, 0_u64, 0_usize);
    for wanted in all(topics) {
        let partition = match &wanted.partition {
            Err(ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId) => continue,
            Err(_) => None,
            Ok(partition) => Some(partition).filter(|partition| !partition.is_deleted()),
        };
        waits = true;
        let Some(available) = partition.and_then(|partition| partition.available_bytes(wanted.offset, isolation))
        else {
            has_error = true;
            continue;
        };
        within_limits = within_limits.saturating_add(available.min(wanted.max_bytes.max(1) as u64));
        // The first batch is always whole, whatever a client's limit is.
        let readable = usize::try_from(available).unwrap_or(usize::MAX).min(wanted.max_bytes.max(LEAST_SHARE));
        bytes = bytes.saturating_add(readable);
    }
    Found { is_enough: has_error || !waits || within_limits >= min_bytes, bytes }
}

fn read_all(
    ctx: &Context,
    topics: Vec<WantedTopic>,
    max_bytes: usize,
    isolation: Isolation,
    version: i16,
) -> Vec<FetchableTopicResponse> {
    let mut left = max_bytes;
    // Without any memory not even one batch is read.
    let mut first = max_bytes > 0;
    let mut read_topic = |topic: WantedTopic| {
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let limits = ReadLimits {
                max_bytes: left.min(wanted.max_bytes),
                // A client whose limit is below its next batch would never get past it.
                at_least_one: first,
                verify: ctx.settings.verify_on_fetch,
                isolation,
            };
            let data = read(&wanted, limits, &ctx.buffers);
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

fn read(wanted: &Wanted, limits: ReadLimits, buffers: &Arc<Buffers>) -> PartitionData {
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
    match partition.read(wanted.offset, limits, buffers) {
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
