//! DeleteTopics: by name, or from version 6 on by id; with the offsets groups committed in them.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};

use super::{Context, blocking, text};

const STATES_SINCE: i16 = 6;

pub(super) async fn handle(ctx: &Arc<Context>, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let asked = if version >= STATES_SINCE {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState::default().with_name(Some(name));
        request.topic_names.into_iter().map(by_name).collect()
    };
    let ctx = Arc::clone(ctx);
    let responses = blocking(move || asked.into_iter().map(|topic| delete(&ctx, topic)).collect()).await;
    DeleteTopicsResponse::default().with_responses(responses)
}

fn delete(ctx: &Context, asked: DeleteTopicState) -> DeletableTopicResult {
    let name = asked.name.clone().unwrap_or_default();
    let result = DeletableTopicResult::default().with_name(asked.name).with_topic_id(asked.topic_id);
    let refuse = |result: DeletableTopicResult, error: ResponseError, reason: String| {
        result.with_error_code(error.code()).with_error_message(Some(text(reason)))
    };
    let topic = match ctx.topic(&name, asked.topic_id) {
        Ok(topic) => topic,
        Err(error) => return refuse(result, error, "there is no such topic".to_owned()),
    };
    let result = result.with_name(Some(TopicName(text(&*topic.name)))).with_topic_id(topic.id);
    if let Err(error) = ctx.topics.delete(&topic.name) {
        return refuse(result, error.code(), error.to_string());
    }
    if let Err(error) = ctx.groups.offsets().remove_topic(&topic.name, ctx.clock.wall_ms()) {
        tracing::error!(topic = %topic.name, %error, "committed offsets of a deleted topic not removed");
    }
    result
}
