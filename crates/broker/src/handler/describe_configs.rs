//! DescribeConfigs: the settings of topics, of groups, and of the broker under the names Kafka has for them; each with
//! where its value is from, and what would be in force without.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::{Context, NODE_ID, once, text};
use crate::configs::broker::{self, Setting};
use crate::configs::group::{self, GroupConfig};
use crate::configs::store::{Configs, Scope};
use crate::log::config::{KNOWN, Known, Overrides, ValueType};
use crate::settings::BrokerSettings;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const GROUP: i8 = 32;

/// Where a value comes from.
const FROM_TOPIC: i8 = 1;
const FROM_BROKER: i8 = 2;
const FROM_ALL_BROKERS: i8 = 3;
const FROM_START: i8 = 4;
const FROM_DEFAULT: i8 = 5;
const FROM_GROUP: i8 = 8;

/// What is in force for a topic with these settings of its own.
pub(super) fn of_topic(configs: &Configs, known: &'static Known, own: &Overrides) -> DescribeConfigsSynonym {
    Layers::of(configs).of_topic(known, own).swap_remove(0)
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

type Described = Vec<DescribeConfigsResourceResult>;

fn describe(
    ctx: &Context,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Described, (ResponseError, String)> {
    let name = &*resource.resource_name;
    let layers = Layers::of(&ctx.configs);
    match resource.resource_type {
        TOPIC => {
            let unknown = || (ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}"));
            let own = ctx.topics.get(name).ok_or_else(unknown)?.overrides();
            let described = KNOWN.iter().map(|known| {
                let synonyms = layers.of_topic(known, &own);
                config(known.name, known.value_type, known.documentation, detail, synonyms)
            });
            Ok(described.collect())
        }
        // Without a name it is about what was altered for all brokers.
        BROKER if name.is_empty() => {
            let altered = broker::all().into_iter().filter(|setting| layers.all_brokers.contains_key(setting.name()));
            Ok(altered.map(|setting| broker_config(setting, detail, layers.of_all_brokers(setting))).collect())
        }
        BROKER if *name == NODE_ID.to_string() => {
            let all = broker::all().into_iter();
            Ok(all.map(|setting| broker_config(setting, detail, layers.of_broker(setting))).collect())
        }
        BROKER => Err((ResponseError::InvalidRequest, format!("there is no broker {name}, only {}", *NODE_ID))),
        GROUP if name.is_empty() => Err((ResponseError::InvalidRequest, "a group needs a name".to_owned())),
        // Also one that is not there: it may come to be, and would have these.
        GROUP => {
            let own = ctx.configs.of_group(name);
            let described = group::known().map(|known| {
                let synonyms = layers.of_group(known, &own);
                config(known.name, known.value_type, known.documentation, detail, synonyms)
            });
            Ok(described.collect())
        }
        other => Err((ResponseError::InvalidRequest, format!("resource type {other} has no settings here"))),
    }
}

fn only_asked(configs: Described, resource: &DescribeConfigsResource) -> Described {
    // Null and empty both ask for everything.
    let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) else { return configs };
    configs.into_iter().filter(|config| keys.contains(&config.name)).collect()
}

fn broker_config(
    setting: Setting,
    detail: Detail,
    synonyms: Vec<DescribeConfigsSynonym>,
) -> DescribeConfigsResourceResult {
    config(setting.name(), setting.value_type(), setting.documentation(), detail, synonyms)
        .with_read_only(!setting.is_dynamic())
}

/// Where values can be from.
struct Layers {
    broker: Overrides,
    all_brokers: Overrides,
    start: Arc<BrokerSettings>,
    default: BrokerSettings,
}

impl Layers {
    fn of(configs: &Configs) -> Self {
        Self {
            broker: configs.of(Scope::Broker),
            all_brokers: configs.of(Scope::AllBrokers),
            start: Arc::clone(configs.start()),
            default: BrokerSettings::default(),
        }
    }

    fn of_topic(&self, known: &'static Known, own: &Overrides) -> Vec<DescribeConfigsSynonym> {
        let own = altered(own, known.name, FROM_TOPIC);
        own.chain(self.of_broker(Setting::OfTopics(known))).collect()
    }

    fn of_group(&self, known: &GroupConfig, own: &Overrides) -> Vec<DescribeConfigsSynonym> {
        let own = altered(own, known.name, FROM_GROUP);
        match known.broker_name.and_then(|name| broker::find(name).ok()) {
            Some(setting) => own.chain(self.of_broker(setting)).collect(),
            // The broker has no setting of it, only a default.
            None => own.chain([synonym(known.name, &(known.default)(&self.start), FROM_DEFAULT)]).collect(),
        }
    }

    fn of_broker(&self, setting: Setting) -> Vec<DescribeConfigsSynonym> {
        let name = setting.name();
        let (given, default) = (setting.value(&self.start), setting.value(&self.default));
        let given = (given != default).then(|| synonym(name, &given, FROM_START));
        let beneath =
            self.of_all_brokers(setting).into_iter().chain(given).chain([synonym(name, &default, FROM_DEFAULT)]);
        altered(&self.broker, name, FROM_BROKER).chain(beneath).collect()
    }

    /// What was altered for all brokers.
    fn of_all_brokers(&self, setting: Setting) -> Vec<DescribeConfigsSynonym> {
        altered(&self.all_brokers, setting.name(), FROM_ALL_BROKERS).collect()
    }
}

fn altered<'a>(own: &'a Overrides, name: &'a str, source: i8) -> impl Iterator<Item = DescribeConfigsSynonym> + 'a {
    own.get(name).into_iter().map(move |value| synonym(name, value, source))
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
