//! ShareFetch: records for one member of a share group alone, with acknowledgements of those it had before.
//!
//! ```text
//! acknowledgements ─> session: which partitions ─> (wait) ─> read and acquire ─> answer
//! ```
//!
//! A request with acknowledgements does not wait for records: its client waits for what became of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::share_fetch_request::FetchTopic;
use kafka_protocol::messages::share_fetch_response::{AcquiredRecords, PartitionData, ShareFetchableTopicResponse};
use kafka_protocol::messages::{ShareFetchRequest, ShareFetchResponse};
use kafka_protocol::protocol::Encodable;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::share_acknowledge::{self as acks, Asked, Refused};
use super::{Answer, Context, Peer, blocking, code, guard, text};
use crate::budget::Charge;
use crate::group::share::partition::Order;
use crate::group::share::read::{self, Fetched, PIECE_BYTES, Room};
use crate::group::share::service::refusal;
use crate::group::share::session::{self, At, FINAL_EPOCH, INITIAL_EPOCH, Opened};
use crate::group::share::settings::ShareConfig;
use crate::group::share::store::Shared;
use crate::log::partition::{Partition, ReadError};
use crate::protocol::frame::{AnswerTo, Frame, FrameError};
use crate::protocol::share::{Extras, codec_version, decode_fetch};
use crate::quota::entity::Key;
use crate::security::authorizer::Access;
use crate::security::guard::{Verdict, unreadable};

/// Longest long poll, whatever the client asks for.
const LONGEST_WAIT_MS: i32 = 60_000;
/// How long a fetch that wants no waiting waits for memory.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(500);

/// A partition of a session, with what it was resolved to.
#[derive(Debug, Clone)]
struct Wanted {
    at: At,
    found: Result<(Arc<Shared>, Arc<Partition>), ResponseError>,
}

/// What is read for whom.
#[derive(Debug, Clone)]
struct Task {
    group: String,
    member: Arc<str>,
    config: ShareConfig,
    max_bytes: usize,
    max_records: i64,
    is_strict: bool,
    wait: Duration,
}

type Parts = Vec<(At, PartitionData)>;

/// A fetch and everything around its reading: its rights, its quota, its memory.
pub(super) async fn answer(ctx: &Arc<Context>, peer: &Peer, frame: &Frame) -> Result<Answer, FrameError> {
    let version = codec_version(frame.key, frame.version);
    let to = AnswerTo { key: frame.key, version, correlation_id: frame.correlation_id };
    let (mut request, extras) = decode_fetch(frame)?;
    let client = peer.quota_client(&frame.client_id);
    let most = match ctx.quotas.count(Key::ConsumerByteRate, client, 0) {
        0 => i32::try_from(ctx.quotas.most_at_once(Key::ConsumerByteRate, client)).unwrap_or(i32::MAX),
        // Over its quota: what it acknowledges is taken, and it gets nothing.
        _ => 0,
    };
    request.max_bytes = request.max_bytes.min(most);
    let group = request.group_id.clone().unwrap_or_default();
    let config = ctx.groups.shares().config(&group);
    let mut memory = ctx.fetch_memory.charge();
    let response = match guard(&mut request, Access::new(ctx, peer), version) {
        Verdict::Refused(response) => response,
        Verdict::Admitted(finish) => {
            let handled = handle(ctx, peer, request, extras, &mut memory).await;
            let mut response = match handled {
                Ok(parts) => ShareFetchResponse::default().with_responses(by_topic(parts)),
                Err((error, message)) => {
                    ShareFetchResponse::default().with_error_code(error.code()).with_error_message(Some(text(message)))
                }
            };
            finish(Access::new(ctx, peer), &mut response);
            response.with_acquisition_lock_timeout_ms(config.lock_duration_ms)
        }
    };
    // Records that are acquired are sent: who goes over its quota with them waits afterwards.
    let size = response.compute_size(version).unwrap_or(0);
    let throttle_ms = ctx.quotas.count(Key::ConsumerByteRate, client, size);
    let frame = to.encode(&response.with_throttle_time_ms(i32::try_from(throttle_ms).unwrap_or(i32::MAX)))?;
    memory.settle(frame.len());
    Ok(Answer { frame: frame.into(), muted_until_ms: ctx.muted_until_ms(throttle_ms), _memory: Some(memory) })
}

async fn handle(
    ctx: &Arc<Context>,
    peer: &Peer,
    mut request: ShareFetchRequest,
    extras: Extras,
    memory: &mut Charge,
) -> Result<Parts, Refused> {
    let group = request.group_id.take().map(|id| id.to_string());
    let (group, member) = acks::check_names(ctx, group, request.member_id.as_deref())?;
    let (added, asked) = named(&request.topics, extras);
    check(&request, extras, &asked)?;
    let epoch = request.share_session_epoch;
    let forgotten = request.forgotten_topics_data.iter();
    let forgotten = forgotten.flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition)));
    let named = session::Asked { group: &group, member: &member, epoch, added, forgotten: forgotten.collect() };
    let opened = ctx.groups.shares().sessions.lock().fetch(ctx.clock.monotonic_ms(), &named);
    let opened = opened.map_err(|error| (error, acks::session_refusal(&group, &member, epoch)))?;
    let has_acks = !asked.is_empty();
    let acknowledged = take_acks(ctx, &group, &member, asked, opened == Opened::Ended).await;
    let Opened::Reads(reads) = opened else { return Ok(with_acks(Vec::new(), acknowledged)) };
    let config = ctx.groups.shares().config(&group);
    let wait_ms = if has_acks { 0 } else { request.max_wait_ms.clamp(0, LONGEST_WAIT_MS) };
    let task = Task {
        group,
        member: member.into(),
        config,
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(ctx.settings.max_fetch_bytes),
        max_records: request.max_records.max(0).into(),
        is_strict: extras.is_strict,
        wait: Duration::from_millis(wait_ms.unsigned_abs().into()),
    };
    let (parts, taken) = fetch(ctx, peer, task, reads).await;
    *memory = taken;
    let is_news = |data: &PartitionData| data.error_code != 0 || !data.acquired_records.is_empty();
    let parts = parts.into_iter().filter(|(_, data)| epoch == INITIAL_EPOCH || is_news(data)).collect();
    Ok(with_acks(parts, acknowledged))
}

/// The partitions a request names, and what it acknowledges in them.
fn named(topics: &[FetchTopic], extras: Extras) -> (Vec<At>, Asked) {
    let (mut added, mut asked) = (Vec::new(), Asked::new());
    let all = topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, partition)));
    for (topic, partition) in all {
        let at = (topic, partition.partition_index);
        added.push(at);
        let batches = partition.acknowledgement_batches.iter();
        let batches = batches.map(|it| acks::ack_batch(it.first_offset, it.last_offset, &it.acknowledge_types, extras));
        if batches.len() > 0 {
            asked.push((at, batches.collect()));
        }
    }
    (added, asked)
}

/// Whether a request makes sense by itself.
fn check(request: &ShareFetchRequest, extras: Extras, asked: &Asked) -> Result<(), Refused> {
    let invalid = |message: &str| Err((ResponseError::InvalidRequest, message.to_owned()));
    if request.share_session_epoch == INITIAL_EPOCH && !asked.is_empty() {
        return invalid("Acknowledgements need a session, and epoch 0 begins one.");
    }
    if request.share_session_epoch == FINAL_EPOCH && !request.forgotten_topics_data.is_empty() {
        return invalid("The session ends, so no partition can be forgotten.");
    }
    let fetches = request.max_bytes > 0 || request.min_bytes > 0 || request.max_records > 0 || request.max_wait_ms > 0;
    if extras.is_renew && fetches {
        return invalid("A request that renews locks fetches nothing: all its limits must be 0.");
    }
    Ok(())
}

async fn take_acks(
    ctx: &Arc<Context>,
    group: &str,
    member: &str,
    asked: Asked,
    is_over: bool,
) -> HashMap<At, Result<(), ResponseError>> {
    if asked.is_empty() && !is_over {
        return HashMap::new();
    }
    let (ctx, group, member) = (Arc::clone(ctx), group.to_owned(), member.to_owned());
    blocking(move || {
        let results = acks::acknowledge(&ctx, &group, &member, asked);
        if is_over {
            ctx.groups.shares().give_back(&group, &member);
        }
        results.into_iter().collect()
    })
    .await
}

/// Reads the partitions of a session, as far as there is memory for it, and waits if there is nothing.
async fn fetch(ctx: &Arc<Context>, peer: &Peer, task: Task, reads: Vec<At>) -> (Parts, Charge) {
    let denied = unreadable(Access::new(ctx, peer), &reads.iter().map(|at| at.0).collect());
    let resolved = Arc::clone(ctx);
    let group = task.group.clone();
    let config = task.config;
    let wanted: Vec<Wanted> = blocking(move || {
        let resolve = |at: At| match denied.contains(&at.0) {
            true => Wanted { at, found: Err(ResponseError::TopicAuthorizationFailed) },
            false => Wanted { at, found: find(&resolved, &group, &config, at) },
        };
        reads.into_iter().map(resolve).collect()
    })
    .await;
    let wanted = Arc::new(wanted);
    let deadline = Instant::now() + task.wait;
    let mut memory = ctx.fetch_memory.charge();
    loop {
        // A new one each time, because old ones are not taken out of the lists of partitions where nothing comes; and before
        // the look, so that what comes after it wakes the waiter.
        let waiter = Arc::new(Notify::new());
        for (shared, partition) in wanted.iter().filter_map(|wanted| wanted.found.as_ref().ok()) {
            read::register(shared, partition, &waiter);
        }
        let can_read = task.max_records > 0 && task.max_bytes > 0;
        let is_worth = |wanted: &Wanted| match &wanted.found {
            Ok((shared, partition)) => can_read && read::has_more(shared, partition, &config),
            Err(_) => true,
        };
        let is_last = Instant::now() >= deadline || !can_read;
        let worth = wanted.iter().filter(|wanted| is_worth(wanted)).count();
        if worth > 0 || is_last {
            if worth > 0 && can_read {
                let most = task.max_bytes.min(worth.saturating_mul(PIECE_BYTES));
                let least = PIECE_BYTES.min(ctx.settings.max_fetch_memory_bytes);
                memory = ctx.fetch_memory.share(most, least, task.wait.max(SHORTEST_PATIENCE)).await;
            }
            let (reader, of, all, room) = (Arc::clone(ctx), task.clone(), Arc::clone(&wanted), memory.size());
            let parts = blocking(move || read_all(&reader, &of, &all, room)).await;
            let is_news = |(_, data): &(At, PartitionData)| data.error_code != 0 || !data.acquired_records.is_empty();
            if is_last || parts.iter().any(is_news) {
                return (parts, memory);
            }
            memory.settle(0);
        }
        // Woken or out of time, it is looked once more.
        drop(timeout_at(deadline, waiter.notified()).await);
    }
}

/// A partition with what the group has read of it, which begins now if there is nothing. Blocks on the disk.
fn find(
    ctx: &Context,
    group: &str,
    config: &ShareConfig,
    at: At,
) -> Result<(Arc<Shared>, Arc<Partition>), ResponseError> {
    let partition = ctx.topic("", at.0)?.partition(at.1).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let store = &ctx.groups.shares().store;
    if let Some(shared) = store.get(group, at) {
        return Ok((shared, partition));
    }
    let start = config.first_offset(&partition, ctx.clock.wall_ms()).map_err(|error| damage(&partition, &error))?;
    let shared = store.begin(group, at, start).map_err(|error| refusal(group, &error))?;
    Ok((shared, partition))
}

/// Reads everything that is wanted, in its order. Blocks on the disk.
fn read_all(ctx: &Context, task: &Task, wanted: &[Wanted], max_bytes: usize) -> Parts {
    let mut left_bytes = max_bytes;
    let mut left_records = task.max_records;
    let mut parts = Parts::new();
    for Wanted { at, found } in wanted {
        let data = PartitionData::default().with_partition_index(at.1).with_records(Some(Bytes::new()));
        let order = Order {
            member: Arc::clone(&task.member),
            deadline_ms: ctx.clock.monotonic_ms() + i64::from(task.config.lock_duration_ms),
            max_records: left_records,
            is_strict: task.is_strict,
            max_in_flight: task.config.max_in_flight,
        };
        // A member whose limit is below the next batch would never get past it.
        let at_least_one = max_bytes > 0 && left_bytes == max_bytes;
        let room =
            Room { max_bytes: left_bytes, at_least_one, verify: ctx.settings.verify_on_fetch, buffers: &ctx.buffers };
        let read = found.clone().and_then(|(shared, partition)| {
            if partition.is_deleted() {
                return Err(ResponseError::UnknownTopicOrPartition);
            }
            read::fetch(&ctx.groups.shares().store, &shared, &partition, &task.config, order, room)
                .map_err(|error| damage(&partition, &error))
        });
        let data = match read {
            Ok(fetched) => {
                left_bytes = left_bytes.saturating_sub(fetched.records.len());
                left_records -= fetched.acquired.iter().map(|it| it.last - it.first + 1).sum::<i64>();
                fill(data, fetched)
            }
            Err(error) => data.with_error_code(error.code()),
        };
        parts.push((*at, data));
    }
    parts
}

fn fill(data: PartitionData, fetched: Fetched) -> PartitionData {
    let acquired = fetched.acquired.iter().map(|it| {
        AcquiredRecords::default()
            .with_first_offset(it.first)
            .with_last_offset(it.last)
            .with_delivery_count(it.deliveries)
    });
    data.with_acquired_records(acquired.collect()).with_records(Some(fetched.records))
}

fn damage(partition: &Partition, error: &ReadError) -> ResponseError {
    tracing::error!(topic = partition.topic(), partition = partition.index(), %error, "records cannot be read");
    match error {
        ReadError::Corrupt { .. } => ResponseError::CorruptMessage,
        _ => ResponseError::KafkaStorageError,
    }
}

/// Adds what became of acknowledgements to what was read.
fn with_acks(mut parts: Parts, mut acknowledged: HashMap<At, Result<(), ResponseError>>) -> Parts {
    for (at, data) in &mut parts {
        if let Some(result) = acknowledged.remove(at) {
            data.acknowledge_error_code = code(result);
        }
    }
    parts.extend(acknowledged.into_iter().map(|(at, result)| {
        let data = PartitionData::default().with_partition_index(at.1).with_records(Some(Bytes::new()));
        (at, data.with_acknowledge_error_code(code(result)))
    }));
    parts
}

fn by_topic(parts: Parts) -> Vec<ShareFetchableTopicResponse> {
    let mut topics: BTreeMap<Uuid, Vec<PartitionData>> = BTreeMap::new();
    for ((topic, _), data) in parts {
        topics.entry(topic).or_default().push(data);
    }
    let told = topics.into_iter().map(|(topic, partitions)| {
        ShareFetchableTopicResponse::default().with_topic_id(topic).with_partitions(partitions)
    });
    told.collect()
}
