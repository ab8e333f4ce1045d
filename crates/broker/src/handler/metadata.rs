//! Metadata: the one broker, and the topics asked for, created on the way where that is allowed.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};

use super::{Context, NO_OPERATIONS, NODE_ID, blocking, once, text};
use crate::log::batch::LEADER_EPOCH;
use crate::log::config::Overrides;
use crate::log::topics::{Topic, TopicError, is_internal, is_valid_name};

/// First version in which a topic that was asked for by its id may have no name.
const NULL_NAME_SINCE: i16 = 12;

pub(super) async fn handle(ctx: &Arc<Context>, request: MetadataRequest, version: i16) -> MetadataResponse {
    let mut topics = Vec::new();
    match request.topics {
        // Version 0 has no null: there an empty list asks for every topic.
        None => topics.extend(ctx.topics.all().iter().map(|topic| describe(topic))),
        Some(asked) if asked.is_empty() && version == 0 => {
            topics.extend(ctx.topics.all().iter().map(|topic| describe(topic)));
        }
        Some(asked) => {
            let create = ctx.settings.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
            for topic in once(asked, |topic| (topic.name.clone(), topic.topic_id)) {
                topics.push(answer(ctx, topic, create, version).await);
            }
        }
    }
    let broker =
        MetadataResponseBroker::default().with_node_id(NODE_ID).with_host(text(&*ctx.host)).with_port(ctx.port.into());
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(&*ctx.identity.cluster_id)))
        .with_controller_id(NODE_ID)
        .with_topics(topics)
        .with_cluster_authorized_operations(NO_OPERATIONS)
}

async fn answer(ctx: &Arc<Context>, asked: MetadataRequestTopic, create: bool, version: i16) -> MetadataResponseTopic {
    let name = asked.name.clone().unwrap_or_default();
    let found = match ctx.topic(&name, asked.topic_id) {
        Err(ResponseError::UnknownTopicOrPartition) if !is_valid_name(&name) => {
            Err(ResponseError::InvalidTopicException)
        }
        Err(ResponseError::UnknownTopicOrPartition) if create => create_topic(ctx, name.to_string()).await,
        found => found,
    };
    match found {
        Ok(topic) => describe(&topic),
        Err(error) => MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(if version < NULL_NAME_SINCE { Some(name) } else { asked.name })
            .with_topic_id(asked.topic_id)
            .with_topic_authorized_operations(NO_OPERATIONS),
    }
}

async fn create_topic(ctx: &Arc<Context>, name: String) -> Result<Arc<Topic>, ResponseError> {
    let ctx = Arc::clone(ctx);
    blocking(move || match ctx.topics.create(&name, ctx.settings.default_partitions, Overrides::new()) {
        // Another client was faster.
        Err(TopicError::Exists { name }) => ctx.topics.get(&name).ok_or(ResponseError::UnknownTopicOrPartition),
        created => created.map_err(|error| {
            tracing::warn!(topic = name, %error, "topic not created");
            error.code()
        }),
    })
    .await
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.partition_count()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE_ID])
            .with_isr_nodes(vec![NODE_ID])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&*topic.name))))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(NO_OPERATIONS)
}
