//! AlterPartitionReassignments: a partition can be assigned to the only node, where it is; nothing moves.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::{Context, NODE_ID, text};

pub(super) fn handle(
    ctx: &Context,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let topics = request.topics.into_iter().map(|topic| reassign(ctx, topic));
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None)
        .with_responses(topics.collect())
}

fn reassign(ctx: &Context, asked: ReassignableTopic) -> ReassignableTopicResponse {
    let topic = ctx.topics.get(&asked.name);
    let answer = |partition: &ReassignablePartition| {
        let index = partition.partition_index;
        let result = match topic.as_ref().and_then(|topic| topic.partition(index)) {
            Some(_) => check(partition),
            None => Err((
                ResponseError::UnknownTopicOrPartition,
                format!("there is no partition {index} of a topic {}", &*asked.name),
            )),
        };
        let response = ReassignablePartitionResponse::default().with_partition_index(index);
        match result {
            Ok(()) => response.with_error_message(None),
            Err((error, reason)) => response.with_error_code(error.code()).with_error_message(Some(text(reason))),
        }
    };
    let partitions = asked.partitions.iter().map(answer).collect();
    ReassignableTopicResponse::default().with_name(asked.name).with_partitions(partitions)
}

fn check(partition: &ReassignablePartition) -> Result<(), (ResponseError, String)> {
    match &partition.replicas {
        // Null takes back a reassignment that is under way.
        None => Err((ResponseError::NoReassignmentInProgress, "no reassignment is under way".to_owned())),
        Some(nodes) if *nodes == [NODE_ID] => Ok(()),
        Some(nodes) => {
            let found: Vec<i32> = nodes.iter().map(|node| **node).collect();
            let reason = format!("replicas on nodes {found:?} asked for, but there is only node {}", *NODE_ID);
            Err((ResponseError::InvalidReplicaAssignment, reason))
        }
    }
}
