//! DescribeConfigs: the settings of topics, and the broker's that clients ask about.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
};

use super::{Context, NODE_ID, text};
use crate::log::config::{KNOWN, Overrides, ValueType};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Where a value comes from.
const FROM_TOPIC: i8 = 1;
const FROM_BROKER_FILE: i8 = 4;
const FROM_DEFAULT: i8 = 5;

/// Where a topic's value comes from.
pub(super) fn source(name: &str, overrides: &Overrides) -> i8 {
    if overrides.contains_key(name) { FROM_TOPIC } else { FROM_DEFAULT }
}

pub(super) fn handle(ctx: &Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default().with_resource_type(resource.resource_type);
        let result = match describe(ctx, &resource) {
            Ok(configs) => result.with_error_message(None).with_configs(only_asked(configs, &resource)),
            Err((error, reason)) => result.with_error_code(error.code()).with_error_message(Some(text(reason))),
        };
        result.with_resource_name(resource.resource_name)
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

type Configs = Vec<DescribeConfigsResourceResult>;

fn describe(ctx: &Context, resource: &DescribeConfigsResource) -> Result<Configs, (ResponseError, String)> {
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            let unknown = || (ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}"));
            Ok(topic_configs(ctx, &ctx.topics.get(name).ok_or_else(unknown)?.overrides()))
        }
        BROKER if name.is_empty() || *name == NODE_ID.to_string() => Ok(broker_configs(ctx)),
        BROKER => Err((ResponseError::InvalidRequest, format!("there is no broker {name}, only {}", *NODE_ID))),
        other => Err((ResponseError::InvalidRequest, format!("resource type {other} has no settings here"))),
    }
}

fn only_asked(configs: Configs, resource: &DescribeConfigsResource) -> Configs {
    // Null and empty both ask for everything.
    let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) else { return configs };
    configs.into_iter().filter(|config| keys.contains(&config.name)).collect()
}

fn topic_configs(ctx: &Context, overrides: &Overrides) -> Configs {
    let config = |known: &crate::log::config::Known| {
        DescribeConfigsResourceResult::default()
            .with_name(text(known.name))
            .with_value(Some(text(known.value(overrides, &ctx.settings))))
            .with_config_source(source(known.name, overrides))
            .with_config_type(known.value_type as i8)
            .with_documentation(None)
    };
    KNOWN.iter().map(config).collect()
}

fn broker_configs(ctx: &Context) -> Configs {
    let settings = &ctx.settings;
    let known = [
        ("auto.create.topics.enable", ValueType::Boolean, settings.auto_create_topics.to_string()),
        ("log.retention.bytes", ValueType::Long, settings.retention_bytes.to_string()),
        ("log.retention.ms", ValueType::Long, settings.retention_ms.to_string()),
        ("log.segment.bytes", ValueType::Int, settings.segment_bytes.to_string()),
        ("message.max.bytes", ValueType::Int, settings.max_message_bytes.to_string()),
        ("num.partitions", ValueType::Int, settings.default_partitions.to_string()),
        ("default.replication.factor", ValueType::Int, "1".to_owned()),
    ];
    let config = |(name, value_type, value): (&'static str, ValueType, String)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(FROM_BROKER_FILE)
            .with_config_type(value_type as i8)
            .with_documentation(None)
    };
    known.into_iter().map(config).collect()
}
