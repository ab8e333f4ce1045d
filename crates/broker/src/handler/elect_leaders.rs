//! ElectLeaders: the only node leads every partition already.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use kafka_protocol::messages::elect_leaders_response::{ElectLeadersResponse, PartitionResult, ReplicaElectionResult};

use super::{Context, text};

/// The preferred replica, or any that is alive: here the same.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

pub(super) fn handle(ctx: &Context, request: ElectLeadersRequest) -> ElectLeadersResponse {
    if !ELECTION_TYPES.contains(&request.election_type) {
        return ElectLeadersResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    // Who asks about all partitions is told only of those that were in need of an election: none.
    let asked = request.topic_partitions.unwrap_or_default();
    let results = asked.into_iter().map(|topic| elect(ctx, topic));
    ElectLeadersResponse::default().with_replica_election_results(results.collect())
}

fn elect(ctx: &Context, asked: TopicPartitions) -> ReplicaElectionResult {
    let topic = ctx.topics.get(&asked.topic);
    let result = |index: i32| {
        let (error, reason) = match topic.as_ref().and_then(|topic| topic.partition(index)) {
            Some(_) => (ResponseError::ElectionNotNeeded, "the only node is the leader already".to_owned()),
            None => {
                let name = &*asked.topic;
                (ResponseError::UnknownTopicOrPartition, format!("there is no partition {index} of a topic {name}"))
            }
        };
        PartitionResult::default()
            .with_partition_id(index)
            .with_error_code(error.code())
            .with_error_message(Some(text(reason)))
    };
    let results = asked.partitions.iter().map(|index| result(*index)).collect();
    ReplicaElectionResult::default().with_topic(asked.topic).with_partition_result(results)
}
