//! CreateTopics: each topic of the request by itself, or none of them when only asked to validate.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use uuid::Uuid;

use super::{Context, NODE_ID, blocking, text};
use crate::log::config::{KNOWN, Overrides};

/// Takes the broker's default, where a number of partitions or replicas is asked for.
const DEFAULT: i32 = -1;

type Refused = (ResponseError, String);

pub(super) async fn handle(ctx: &Arc<Context>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let ctx = Arc::clone(ctx);
    let topics = blocking(move || {
        let mut named: BTreeMap<String, usize> = BTreeMap::new();
        request.topics.iter().for_each(|topic| *named.entry(topic.name.to_string()).or_default() += 1);
        let answer = |topic: CreatableTopic| {
            let created = match named.get(&*topic.name.0) {
                Some(1) => create(&ctx, &topic, request.validate_only),
                _ => Err((ResponseError::InvalidRequest, "the request names this topic twice".to_owned())),
            };
            describe(&ctx, topic, created)
        };
        request.topics.into_iter().map(answer).collect()
    })
    .await;
    CreateTopicsResponse::default().with_topics(topics)
}

fn create(ctx: &Context, topic: &CreatableTopic, validate_only: bool) -> Result<(Uuid, i32), Refused> {
    let partitions = partition_count(ctx, topic)?;
    if let Some(config) = topic.configs.iter().find(|config| config.value.is_none()) {
        let reason = format!("topic setting {} has no value", config.name.as_str());
        return Err((ResponseError::InvalidConfig, reason));
    }
    let overrides = overrides(topic);
    let refuse = |error: crate::log::topics::TopicError| (error.code(), error.to_string());
    if validate_only {
        ctx.topics.check_new(&topic.name, partitions, &overrides).map_err(refuse)?;
        return Ok((Uuid::nil(), partitions));
    }
    let created = ctx.topics.create(&topic.name, partitions, overrides).map_err(refuse)?;
    Ok((created.id, partitions))
}

fn partition_count(ctx: &Context, topic: &CreatableTopic) -> Result<i32, Refused> {
    if topic.assignments.is_empty() {
        if !matches!(topic.replication_factor, -1 | 1) {
            let found = topic.replication_factor;
            let reason = format!("replication factor {found} asked for, but a single node has one replica");
            return Err((ResponseError::InvalidReplicationFactor, reason));
        }
        return Ok(if topic.num_partitions == DEFAULT {
            ctx.settings.default_partitions
        } else {
            topic.num_partitions
        });
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    let consecutive = indexes.iter().zip(0..).all(|(found, expected)| *found == expected);
    let here = topic.assignments.iter().all(|assignment| assignment.broker_ids == [NODE_ID]);
    if !consecutive || !here {
        let reason = "each partition from 0 on must be assigned to the only node, 0".to_owned();
        return Err((ResponseError::InvalidReplicaAssignment, reason));
    }
    i32::try_from(indexes.len()).map_err(|_| (ResponseError::InvalidPartitions, "too many partitions".to_owned()))
}

fn overrides(topic: &CreatableTopic) -> Overrides {
    let set = topic.configs.iter().filter_map(|config| {
        let value = config.value.as_ref()?;
        Some((config.name.to_string(), value.to_string()))
    });
    set.collect()
}

fn describe(ctx: &Context, topic: CreatableTopic, created: Result<(Uuid, i32), Refused>) -> CreatableTopicResult {
    let own = overrides(&topic);
    let result = CreatableTopicResult::default().with_name(topic.name);
    match created {
        Ok((id, partitions)) => {
            let configs = KNOWN.iter().map(|known| {
                let in_force = super::describe_configs::of_topic(&ctx.configs, known, &own);
                CreatableTopicConfigs::default()
                    .with_name(text(known.name))
                    .with_value(in_force.value)
                    .with_config_source(in_force.source)
            });
            result
                .with_error_message(None)
                .with_topic_id(id)
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(Some(configs.collect()))
        }
        Err((error, reason)) => result
            .with_error_code(error.code())
            .with_error_message(Some(text(reason)))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(Some(Vec::new())),
    }
}
