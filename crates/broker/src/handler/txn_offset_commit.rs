//! TxnOffsetCommit: offsets that count once the transaction they belong to commits.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequest;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};

use super::{Context, blocking, code, fenced_before, offset_commit};
use crate::group::message::Caller;
use crate::group::offsets::{At, Committed};
use crate::txn::coordinator::Producer;

/// First version in which the group joins the transaction by the commit itself.
const JOINS_SINCE: i16 = 5;

pub(super) async fn handle(
    ctx: &Arc<Context>,
    request: TxnOffsetCommitRequest,
    version: i16,
) -> TxnOffsetCommitResponse {
    let ctx = Arc::clone(ctx);
    blocking(move || commit(&ctx, &request, version)).await
}

fn commit(ctx: &Context, request: &TxnOffsetCommitRequest, version: i16) -> TxnOffsetCommitResponse {
    let mut allowed = check_member(ctx, request);
    let mut commits: Vec<(At, Committed)> = Vec::new();
    let mut results = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let at = (topic.name.to_string(), partition.partition_index);
            let committed = offset_commit::committed(
                partition.committed_offset,
                partition.committed_leader_epoch,
                partition.committed_metadata.as_ref(),
            );
            let checked = allowed.and_then(|()| offset_commit::check(ctx, at, committed));
            results.push(checked.map(|commit| commits.push(commit)));
        }
    }
    if allowed.is_ok() && !commits.is_empty() {
        // Its versions know a producer that was replaced by its epoch only.
        allowed = store(ctx, request, commits, version).map_err(|error| fenced_before(i16::MAX, version, error));
    }
    let mut results = results.into_iter().map(|result| allowed.and(result));
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(results.next().unwrap_or(Ok(()))))
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// A producer that says which member it commits for must be right; one that does not need not be a member.
fn check_member(ctx: &Context, request: &TxnOffsetCommitRequest) -> Result<(), ResponseError> {
    let caller = Caller {
        group: &request.group_id,
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let says_who = caller.generation >= 0 || !caller.member.is_empty() || caller.instance.is_some();
    if says_who { ctx.groups.check_txn_commit(caller) } else { ctx.groups.check_new(caller.group) }
}

fn store(
    ctx: &Context,
    request: &TxnOffsetCommitRequest,
    commits: Vec<(At, Committed)>,
    version: i16,
) -> Result<(), ResponseError> {
    let (id, group) = (&request.transactional_id, &request.group_id);
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    if version >= JOINS_SINCE {
        ctx.transactions.add(id, producer, &[], Some(group))?;
    }
    ctx.transactions.commit_offsets(id, producer, group, commits)
}
