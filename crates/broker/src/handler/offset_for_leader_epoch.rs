//! OffsetForLeaderEpoch: where an epoch ended. There is one epoch here, and it has not ended.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use super::{Context, check_leader_epoch};
use crate::log::batch::LEADER_EPOCH;

pub(super) fn handle(ctx: &Context, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| answer(ctx, &topic.topic, asked)).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn answer(ctx: &Context, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let response = EpochEndOffset::default().with_partition(asked.partition).with_leader_epoch(-1).with_end_offset(-1);
    let found = ctx.topics.partition(topic, asked.partition).ok_or(ResponseError::UnknownTopicOrPartition);
    match found.and_then(|partition| check_leader_epoch(asked.current_leader_epoch).map(|()| partition)) {
        Ok(partition) if asked.leader_epoch == LEADER_EPOCH => {
            response.with_leader_epoch(LEADER_EPOCH).with_end_offset(partition.high_watermark())
        }
        // An epoch nobody has led in: its end is unknown, which is no error.
        Ok(_) => response,
        Err(error) => response.with_error_code(error.code()),
    }
}
