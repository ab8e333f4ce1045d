//! OffsetDelete: forgets committed offsets of a group, of topics that none of its members reads.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequest, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::{Context, blocking};
use crate::group::offsets::At;

pub(super) async fn handle(ctx: &Arc<Context>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let ctx = Arc::clone(ctx);
    blocking(move || match delete(&ctx, &request) {
        Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    })
    .await
}

fn delete(ctx: &Context, request: &OffsetDeleteRequest) -> Result<Vec<OffsetDeleteResponseTopic>, ResponseError> {
    let group = &request.group_id;
    let topics = request.topics.iter().map(|topic| topic.name.as_str());
    let in_use = ctx.groups.topics_in_use(group, topics)?;
    let refused = |topic: &OffsetDeleteRequestTopic, partition: i32| {
        if ctx.topics.partition(&topic.name, partition).is_none() {
            return Some(ResponseError::UnknownTopicOrPartition);
        }
        in_use.contains(topic.name.as_str()).then_some(ResponseError::GroupSubscribedToTopic)
    };
    let mut doomed: Vec<At> = Vec::new();
    let mut answers = Vec::new();
    for topic in &request.topics {
        let mut partitions = Vec::new();
        for partition in topic.partitions.iter().map(|partition| partition.partition_index) {
            let refused = refused(topic, partition);
            if refused.is_none() {
                doomed.push((topic.name.to_string(), partition));
            }
            let code = refused.map_or(0, |error| error.code());
            partitions
                .push(OffsetDeleteResponsePartition::default().with_partition_index(partition).with_error_code(code));
        }
        answers.push(OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    ctx.groups.forget_offsets(group, doomed)?;
    Ok(answers)
}
