//! DescribeConfigs: the settings of topics, and those of the broker under the names Kafka has for them.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::broker_configs::BROKER_CONFIGS;
use super::group_configs::{self, GROUP};
use super::{Context, NODE_ID, once, text};
use crate::log::config::{KNOWN, Known, Overrides, ValueType};
use crate::settings::BrokerSettings;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Where a value comes from.
const FROM_TOPIC: i8 = 1;
const FROM_BROKER_FILE: i8 = 4;
const FROM_DEFAULT: i8 = 5;
const FROM_GROUP: i8 = 8;

/// Where a topic's value comes from.
pub(super) fn source(known: &Known, overrides: &Overrides, settings: &BrokerSettings) -> i8 {
    if overrides.contains_key(known.name) {
        FROM_TOPIC
    } else {
        broker_source(&known.default(settings), &known.default(&BrokerSettings::default()))
    }
}

fn broker_source(value: &str, default: &str) -> i8 {
    if value == default { FROM_DEFAULT } else { FROM_BROKER_FILE }
}

/// What beside the values is asked for.
#[derive(Debug, Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

pub(super) fn handle(ctx: &Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let resources = once(request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let results = resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default().with_resource_type(resource.resource_type);
        let result = match describe(ctx, &resource, detail) {
            Ok(configs) => result.with_error_message(None).with_configs(only_asked(configs, &resource)),
            Err((error, reason)) => result.with_error_code(error.code()).with_error_message(Some(text(reason))),
        };
        result.with_resource_name(resource.resource_name)
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

type Configs = Vec<DescribeConfigsResourceResult>;

fn describe(
    ctx: &Context,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Configs, (ResponseError, String)> {
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            let unknown = || (ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}"));
            let overrides = ctx.topics.get(name).ok_or_else(unknown)?.overrides();
            Ok(KNOWN.iter().map(|known| topic_config(known, &overrides, &ctx.settings, detail)).collect())
        }
        // Without a name it is about what was altered for all brokers while they run, and here nothing can be.
        BROKER if name.is_empty() => Ok(Configs::new()),
        BROKER if *name == NODE_ID.to_string() => Ok(broker_configs(&ctx.settings, detail)),
        GROUP => Ok(group_configs(ctx, name, detail)),
        BROKER => Err((ResponseError::InvalidRequest, format!("there is no broker {name}, only {}", *NODE_ID))),
        other => Err((ResponseError::InvalidRequest, format!("resource type {other} has no settings here"))),
    }
}

fn only_asked(configs: Configs, resource: &DescribeConfigsResource) -> Configs {
    // Null and empty both ask for everything.
    let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) else { return configs };
    configs.into_iter().filter(|config| keys.contains(&config.name)).collect()
}

fn topic_config(
    known: &Known,
    overrides: &Overrides,
    settings: &BrokerSettings,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let own = overrides.get(known.name).map(|value| synonym(known.name, value, FROM_TOPIC));
    let broker =
        broker_synonyms(known.broker_name, &known.default(settings), &known.default(&BrokerSettings::default()));
    config(known.name, known.value_type, known.documentation, detail, own.into_iter().chain(broker).collect())
}

fn broker_configs(settings: &BrokerSettings, detail: Detail) -> Configs {
    let default = BrokerSettings::default();
    let own = BROKER_CONFIGS.iter().map(|known| {
        let synonyms = broker_synonyms(known.name, &(known.value)(settings), &(known.value)(&default));
        config(known.name, known.value_type, known.documentation, detail, synonyms)
    });
    let of_topics = KNOWN.iter().map(|known| {
        let synonyms = broker_synonyms(known.broker_name, &known.default(settings), &known.default(&default));
        config(known.broker_name, known.value_type, known.documentation, detail, synonyms)
    });
    let mut configs: Configs = own.chain(of_topics).map(|config| config.with_read_only(true)).collect();
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    configs
}

fn group_configs(ctx: &Context, group: &str, detail: Detail) -> Configs {
    let described = group_configs::described(ctx, group).into_iter().map(|(known, own, default)| {
        let own = own.map(|value| synonym(known.name, &value, FROM_GROUP));
        let synonyms = own.into_iter().chain([synonym(known.name, &default, FROM_DEFAULT)]).collect();
        config(known.name, known.value_type, known.documentation, detail, synonyms)
    });
    described.collect()
}

/// Where the broker has a value from: its start, and beneath that the default.
fn broker_synonyms(name: &str, value: &str, default: &str) -> Vec<DescribeConfigsSynonym> {
    let set = (value != default).then(|| synonym(name, value, FROM_BROKER_FILE));
    set.into_iter().chain([synonym(name, default, FROM_DEFAULT)]).collect()
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default().with_name(text(name)).with_value(Some(text(value))).with_source(source)
}

/// A setting with the values it has, of which the first is in force.
fn config(
    name: &str,
    value_type: ValueType,
    documentation: &str,
    detail: Detail,
    synonyms: Vec<DescribeConfigsSynonym>,
) -> DescribeConfigsResourceResult {
    let in_force = synonyms.first().cloned().unwrap_or_default();
    DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(in_force.value)
        .with_config_source(in_force.source)
        .with_config_type(value_type as i8)
        .with_synonyms(if detail.synonyms { synonyms } else { Vec::new() })
        .with_documentation(detail.documentation.then(|| text(documentation)))
}
