//! DeleteShareGroupOffsets: a share group without members forgets topics, and begins in them as its settings say.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use kafka_protocol::messages::{DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse};

use super::{Context, blocking, text};
use crate::group::share::store::ShareStore;

pub(super) async fn handle(
    ctx: &Arc<Context>,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let ctx = Arc::clone(ctx);
    blocking(move || {
        let group = request.group_id.to_string();
        let deleted = ctx.groups.with_empty_share_group(&group, |store| {
            request.topics.into_iter().map(|topic| delete(&ctx, store, &group, topic)).collect()
        });
        match deleted {
            Ok(responses) => DeleteShareGroupOffsetsResponse::default().with_responses(responses),
            Err(refused) => DeleteShareGroupOffsetsResponse::default()
                .with_error_code(refused.error.code())
                .with_error_message(Some(text(refused.message))),
        }
    })
    .await
}

fn delete(
    ctx: &Context,
    store: &ShareStore,
    group: &str,
    asked: DeleteShareGroupOffsetsRequestTopic,
) -> DeleteShareGroupOffsetsResponseTopic {
    let told = DeleteShareGroupOffsetsResponseTopic::default();
    let refuse = |told: DeleteShareGroupOffsetsResponseTopic, error: ResponseError, message: &str| {
        told.with_error_code(error.code()).with_error_message(Some(text(message)))
    };
    let told = match ctx.topics.get(&asked.topic_name) {
        None => refuse(told, ResponseError::UnknownTopicOrPartition, "there is no such topic"),
        Some(topic) => match store.remove(group, Some(topic.id)) {
            Ok(()) => told.with_topic_id(topic.id),
            Err(error) => {
                tracing::error!(group, %error, "offsets not deleted: check the disk of the data folder");
                refuse(told, ResponseError::CoordinatorNotAvailable, "the disk refused")
            }
        },
    };
    told.with_topic_name(asked.topic_name)
}
