//! AlterShareGroupOffsets: where a share group without members begins in its partitions from now on.
//!
//! A group that is not there comes to be, so that it can be told where to begin before anybody reads.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};
use uuid::Uuid;

use super::share_acknowledge::Refused;
use super::{Context, blocking, text};
use crate::group::share::service::refusal;
use crate::group::share::store::ShareStore;

pub(super) async fn handle(
    ctx: &Arc<Context>,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let ctx = Arc::clone(ctx);
    blocking(move || {
        let group = request.group_id.to_string();
        let altered = ctx.groups.make_share_group(&group).and_then(|()| {
            ctx.groups.with_empty_share_group(&group, |store| {
                request.topics.into_iter().map(|topic| alter_topic(&ctx, store, &group, topic)).collect()
            })
        });
        match altered {
            Ok(responses) => AlterShareGroupOffsetsResponse::default().with_responses(responses),
            Err(refused) => AlterShareGroupOffsetsResponse::default()
                .with_error_code(refused.error.code())
                .with_error_message(Some(text(refused.message))),
        }
    })
    .await
}

fn alter_topic(
    ctx: &Context,
    store: &ShareStore,
    group: &str,
    asked: AlterShareGroupOffsetsRequestTopic,
) -> AlterShareGroupOffsetsResponseTopic {
    let id = ctx.topics.get(&asked.topic_name).map(|topic| topic.id).unwrap_or_default();
    let partitions = asked.partitions.iter().map(|partition| {
        let told = AlterShareGroupOffsetsResponsePartition::default().with_partition_index(partition.partition_index);
        match alter(ctx, store, group, (id, partition.partition_index), partition.start_offset) {
            Ok(()) => told,
            Err((error, message)) => told.with_error_code(error.code()).with_error_message(Some(text(message))),
        }
    });
    let partitions = partitions.collect();
    AlterShareGroupOffsetsResponseTopic::default()
        .with_topic_name(asked.topic_name)
        .with_topic_id(id)
        .with_partitions(partitions)
}

fn alter(ctx: &Context, store: &ShareStore, group: &str, at: (Uuid, i32), start: i64) -> Result<(), Refused> {
    let partition = ctx.topics.by_id(at.0).and_then(|topic| topic.partition(at.1));
    let partition =
        partition.ok_or_else(|| (ResponseError::UnknownTopicOrPartition, "there is no such partition".to_owned()))?;
    let end = partition.high_watermark();
    if !(0..=end).contains(&start) {
        let message = format!("the start offset is {start}, expected 0 to {end}, where the partition ends");
        return Err((ResponseError::OffsetOutOfRange, message));
    }
    store.begin_anew(group, at, start).map(drop).map_err(|error| (refusal(group, &error), error.to_string()))
}
