//! ShareAcknowledge: what a member of a share group has done with records it was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::share_acknowledge_request::AcknowledgeTopic;
use kafka_protocol::messages::share_acknowledge_response::{PartitionData, ShareAcknowledgeTopicResponse};
use kafka_protocol::messages::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};

use super::{Context, Peer, blocking, guard, text};
use crate::group::share::coordinator::not_found;
use crate::group::share::partition::{Ack, AckBatch};
use crate::group::share::session::At;
use crate::protocol::frame::{AnswerTo, Frame, FrameError};
use crate::protocol::share::{Extras, decode_acknowledge, encode_acknowledged};
use crate::security::authorizer::Access;
use crate::security::guard::Verdict;

/// Longest id of a member in a session: clients have ids of 22 or 36 characters.
const MAX_MEMBER_ID_BYTES: usize = 256;

/// Why a request is refused as a whole.
pub(super) type Refused = (ResponseError, String);

/// What is acknowledged of a partition, or why it cannot be.
pub(super) type Asked = Vec<(At, Result<Vec<AckBatch>, ResponseError>)>;

pub(super) async fn answer(ctx: &Arc<Context>, peer: &Peer, frame: &Frame) -> Result<Bytes, FrameError> {
    let to = AnswerTo { key: frame.key, version: frame.version, correlation_id: frame.correlation_id };
    let (mut request, extras) = decode_acknowledge(frame)?;
    let group = request.group_id.clone().unwrap_or_default();
    let (response, lock_ms) = match guard(&mut request, Access::new(ctx, peer), frame.version) {
        Verdict::Refused(response) => (response, 0),
        Verdict::Admitted(finish) => {
            let mut response = handle(ctx, request, extras).await.unwrap_or_else(|(error, message)| {
                ShareAcknowledgeResponse::default()
                    .with_error_code(error.code())
                    .with_error_message(Some(text(message)))
            });
            finish(Access::new(ctx, peer), &mut response);
            (response, ctx.groups.shares().config(&group).lock_duration_ms)
        }
    };
    encode_acknowledged(to, &response, lock_ms)
}

async fn handle(
    ctx: &Arc<Context>,
    request: ShareAcknowledgeRequest,
    extras: Extras,
) -> Result<ShareAcknowledgeResponse, Refused> {
    let group = request.group_id.map(|id| id.to_string());
    let (group, member) = check_names(ctx, group, request.member_id.as_deref())?;
    let asked = asked(request.topics, extras);
    let now_ms = ctx.clock.monotonic_ms();
    let epoch = request.share_session_epoch;
    let opened = ctx.groups.shares().sessions.lock().acknowledge(now_ms, &group, &member, epoch);
    let is_over = opened.map_err(|error| (error, session_refusal(&group, &member, epoch)))?;
    let ctx = Arc::clone(ctx);
    let results = blocking(move || {
        let results = acknowledge(&ctx, &group, &member, asked);
        if is_over {
            ctx.groups.shares().give_back(&group, &member);
        }
        results
    })
    .await;
    let mut topics: BTreeMap<_, Vec<PartitionData>> = BTreeMap::new();
    for ((topic, partition), result) in results {
        let data = PartitionData::default().with_partition_index(partition);
        topics.entry(topic).or_default().push(data.with_error_code(super::code(result)));
    }
    let told = topics.into_iter().map(|(topic, partitions)| {
        ShareAcknowledgeTopicResponse::default().with_topic_id(topic).with_partitions(partitions)
    });
    Ok(ShareAcknowledgeResponse::default().with_responses(told.collect()))
}

fn asked(topics: Vec<AcknowledgeTopic>, extras: Extras) -> Asked {
    let of_topic = |topic: AcknowledgeTopic| {
        topic.partitions.into_iter().map(move |partition| {
            let batches = partition.acknowledgement_batches.iter();
            let batches =
                batches.map(|batch| ack_batch(batch.first_offset, batch.last_offset, &batch.acknowledge_types, extras));
            ((topic.topic_id, partition.partition_index), batches.collect())
        })
    };
    topics.into_iter().flat_map(of_topic).collect()
}

/// Acknowledgements as they stand in a request.
pub(super) fn ack_batch(first: i64, last: i64, types: &[i8], extras: Extras) -> Result<AckBatch, ResponseError> {
    let types = types.iter().map(|kind| match kind {
        0 => Ok(Ack::Gap),
        1 => Ok(Ack::Accept),
        2 => Ok(Ack::Release),
        3 => Ok(Ack::Reject),
        4 if extras.is_renew => Ok(Ack::Renew),
        _ => Err(ResponseError::InvalidRequest),
    });
    Ok(AckBatch { first, last, types: types.collect::<Result<_, _>>()? })
}

/// Group and member of a request, which have to be there.
pub(super) fn check_names(
    ctx: &Context,
    group: Option<String>,
    member: Option<&str>,
) -> Result<(String, String), Refused> {
    let invalid = |message: &str| (ResponseError::InvalidRequest, message.to_owned());
    let group = group.filter(|group| !group.is_empty()).ok_or_else(|| invalid("GroupId can't be empty."))?;
    let member = member.filter(|member| !member.is_empty()).ok_or_else(|| invalid("MemberId can't be empty."))?;
    if member.len() > MAX_MEMBER_ID_BYTES {
        let message = format!("MemberId has {} bytes, expected at most {MAX_MEMBER_ID_BYTES}.", member.len());
        return Err(invalid(&message));
    }
    if ctx.groups.look_shares(|shares, _| shares.group(&group).is_none()) {
        let refused = not_found(&group);
        return Err((refused.error, refused.message));
    }
    Ok((group, member.to_owned()))
}

/// What a client is told that does not know where its session is.
pub(super) fn session_refusal(group: &str, member: &str, epoch: i32) -> String {
    format!("member {member} of share group {group} has no session at epoch {epoch}; begin one with epoch 0")
}

/// Takes acknowledgements partition by partition. Blocks on the disk.
pub(super) fn acknowledge(
    ctx: &Context,
    group: &str,
    member: &str,
    asked: Asked,
) -> Vec<(At, Result<(), ResponseError>)> {
    let taken = asked.into_iter().map(|(at, batches)| {
        let result = batches.and_then(|batches| {
            ctx.topics.by_id(at.0).ok_or(ResponseError::UnknownTopicId)?;
            ctx.groups.shares().acknowledge(group, member, at, &batches, ctx.clock.monotonic_ms())
        });
        (at, result)
    });
    taken.collect()
}
