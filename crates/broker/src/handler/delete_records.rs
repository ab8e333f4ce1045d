//! DeleteRecords: moves the start of a partition's log forward; what lies before it is gone.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use super::{Context, blocking};
use crate::log::partition::DeleteError;

/// Asks for everything there is.
const ALL: i64 = -1;
/// The answer where nothing was done.
const NO_OFFSET: i64 = -1;

pub(super) async fn handle(ctx: &Arc<Context>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let ctx = Arc::clone(ctx);
    let topics = blocking(move || {
        let of_topic = |topic: kafka_protocol::messages::delete_records_request::DeleteRecordsTopic| {
            let partitions = topic.partitions.iter().map(|asked| delete(&ctx, &topic.name, asked)).collect();
            DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
        };
        request.topics.into_iter().map(of_topic).collect()
    })
    .await;
    DeleteRecordsResponse::default().with_topics(topics)
}

fn delete(ctx: &Context, topic: &str, asked: &DeleteRecordsPartition) -> DeleteRecordsPartitionResult {
    let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
    let deleted = match ctx.topics.partition(topic, asked.partition_index) {
        None => Err(ResponseError::UnknownTopicOrPartition),
        // What is left of a compacted topic is the newest of each key, which nobody may delete by its age.
        Some(partition) if !partition.config().delete => Err(ResponseError::PolicyViolation),
        Some(partition) => {
            let before = if asked.offset == ALL { partition.high_watermark() } else { asked.offset };
            partition.delete_before(before).map_err(|error| refusal(topic, asked.partition_index, &error))
        }
    };
    match deleted {
        Ok(start) => result.with_low_watermark(start),
        Err(error) => result.with_low_watermark(NO_OFFSET).with_error_code(error.code()),
    }
}

fn refusal(topic: &str, partition: i32, error: &DeleteError) -> ResponseError {
    match error {
        DeleteError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        DeleteError::Failed(_) => {
            tracing::error!(topic, partition, %error, "records not deleted: check the disk of the data folder");
            ResponseError::KafkaStorageError
        }
    }
}
