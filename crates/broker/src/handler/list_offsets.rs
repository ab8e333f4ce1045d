//! ListOffsets: the ends of a partition, and the first record of a time.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};

use super::{Context, blocking, check_leader_epoch};
use crate::log::batch::LEADER_EPOCH;
use crate::log::partition::Isolation;
use crate::log::segment::TimedOffset;

/// First version whose answer has a leader epoch.
const LEADER_EPOCH_SINCE: i16 = 4;

/// Stand-ins for a timestamp.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST_RECORD: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub(super) async fn handle(ctx: &Arc<Context>, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let ctx = Arc::clone(ctx);
    let isolation = ctx.isolation(request.isolation_level);
    // A search by time reads files.
    let topics = blocking(move || {
        let answer_topic = |topic: kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
            let partitions =
                topic.partitions.iter().map(|asked| answer(&ctx, &topic.name, asked, isolation, version)).collect();
            ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
        };
        request.topics.into_iter().map(answer_topic).collect()
    })
    .await;
    ListOffsetsResponse::default().with_topics(topics)
}

fn answer(
    ctx: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    match find(ctx, topic, asked, isolation) {
        Ok(found) => response
            .with_timestamp(found.timestamp)
            .with_offset(found.offset)
            .with_leader_epoch(if found.offset >= 0 && version >= LEADER_EPOCH_SINCE { LEADER_EPOCH } else { -1 }),
        Err(error) => response.with_error_code(error.code()).with_timestamp(-1).with_offset(-1).with_leader_epoch(-1),
    }
}

fn find(
    ctx: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<TimedOffset, ResponseError> {
    let partition = ctx.topics.partition(topic, asked.partition_index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_leader_epoch(asked.current_leader_epoch)?;
    let at = |offset| Ok(Some(TimedOffset { timestamp: -1, offset }));
    let found = match asked.timestamp {
        LATEST => at(partition.end_offset(isolation)),
        EARLIEST | EARLIEST_LOCAL => at(partition.start_offset()),
        NEWEST_RECORD => partition.newest(),
        LATEST_TIERED => Ok(None),
        timestamp if timestamp < 0 => return Err(ResponseError::InvalidRequest),
        timestamp => partition.find_time(timestamp, isolation),
    };
    let nothing = TimedOffset { timestamp: -1, offset: -1 };
    match found {
        Ok(found) => Ok(found.unwrap_or(nothing)),
        Err(error) => {
            tracing::error!(topic, partition = asked.partition_index, %error, "search by time failed");
            Err(ResponseError::KafkaStorageError)
        }
    }
}
