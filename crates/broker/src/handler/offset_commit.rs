//! OffsetCommit: checked by the coordinator, then kept.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequest;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, blocking, code};
use crate::group::message::Caller;
use crate::group::offsets::{At, Committed};
use crate::settings::FsyncMode;

/// First version whose clients know the epochs of the consumer protocol.
const MEMBER_EPOCHS_SINCE: i16 = 9;

pub(super) async fn handle(ctx: &Arc<Context>, request: OffsetCommitRequest, version: i16) -> OffsetCommitResponse {
    let caller = Caller {
        group: &request.group_id,
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let mut allowed = ctx.groups.check_commit(caller, version >= MEMBER_EPOCHS_SINCE);
    let mut commits: Vec<(At, Committed)> = Vec::new();
    let mut results: Vec<Result<(), ResponseError>> = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let at = (topic.name.to_string(), partition.partition_index);
            let committed = committed(
                partition.committed_offset,
                partition.committed_leader_epoch,
                partition.committed_metadata.as_ref(),
            );
            let checked = allowed.and_then(|()| check(ctx, at, committed));
            results.push(checked.map(|commit| commits.push(commit)));
        }
    }
    if allowed.is_ok() && !commits.is_empty() {
        allowed = store(ctx, request.group_id.to_string(), commits).await;
    }
    let mut results = results.into_iter().map(|result| allowed.and(result));
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(results.next().unwrap_or(Ok(()))))
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Whether an offset can be committed for a partition.
pub(super) fn check(ctx: &Context, at: At, committed: Committed) -> Result<(At, Committed), ResponseError> {
    if committed.metadata.len() > ctx.settings.max_offset_metadata_bytes {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    if ctx.topics.partition(&at.0, at.1).is_none() {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    Ok((at, committed))
}

/// What a commit asks for, in a transaction or not.
pub(super) fn committed(offset: i64, leader_epoch: i32, metadata: Option<&StrBytes>) -> Committed {
    Committed { offset, leader_epoch, metadata: metadata.map(ToString::to_string).unwrap_or_default() }
}

async fn store(ctx: &Arc<Context>, group: String, commits: Vec<(At, Committed)>) -> Result<(), ResponseError> {
    let ctx = Arc::clone(ctx);
    blocking(move || {
        let offsets = ctx.groups.offsets();
        let stored = offsets.commit(&group, commits, ctx.clock.wall_ms());
        let durable =
            stored.and_then(|()| if ctx.settings.fsync == FsyncMode::Always { offsets.sync() } else { Ok(()) });
        durable.map_err(|error| {
            tracing::error!(group, %error, "offsets not committed");
            ResponseError::CoordinatorNotAvailable
        })
    })
    .await
}
