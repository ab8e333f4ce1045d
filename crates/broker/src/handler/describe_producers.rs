//! DescribeProducers: who writes to a partition, and since which offset in an open transaction.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, ProducerId};

use super::Context;
use crate::log::producer_state::Described;

pub(super) fn handle(ctx: &Context, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut seen = HashSet::new();
    let topics = request.topics.into_iter().map(|mut topic| {
        // Each once, however often it is named: it can have many thousand producers.
        topic.partition_indexes.retain(|&index| seen.insert((topic.name.clone(), index)));
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let response = PartitionResponse::default().with_partition_index(index);
            match ctx.topics.partition(&topic.name, index) {
                Some(partition) => {
                    let producers = partition.describe_producers();
                    response.with_active_producers(producers.into_iter().map(describe).collect())
                }
                None => response.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn describe(producer: Described) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(producer.epoch.into())
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_seen_ms)
        .with_coordinator_epoch(0)
        .with_current_txn_start_offset(producer.open_since.unwrap_or(-1))
}
