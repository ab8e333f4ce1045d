//! IncrementalAlterConfigs: sets and unsets settings of topics, all of a topic's or none.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::TOPIC;
use super::group_configs::{self, GROUP};
use super::{Context, blocking, text};
use crate::log::config::{self, Overrides};
use crate::log::topics::TopicError;

/// Why settings are not altered.
pub(super) type Refused = (ResponseError, String);

pub(super) const SET: i8 = 0;
pub(super) const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) async fn handle(
    ctx: &Arc<Context>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let ctx = Arc::clone(ctx);
    let validate_only = request.validate_only;
    let answer = move |resource: AlterConfigsResource| {
        let (code, message) = outcome(alter(&ctx, &resource, validate_only));
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    };
    let responses = blocking(move || request.resources.into_iter().map(answer).collect()).await;
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn alter(ctx: &Context, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refused> {
    if resource.resource_type == GROUP {
        return group_configs::alter(ctx, resource, validate_only);
    }
    let mut overrides = topic_overrides(ctx, resource.resource_type, &resource.resource_name)?;
    let mut named = HashSet::new();
    for change in &resource.configs {
        if !named.insert(&*change.name) {
            let reason = format!("the request names topic setting {} twice", change.name.as_str());
            return Err((ResponseError::InvalidRequest, reason));
        }
        match change.config_operation {
            operation @ (APPEND | SUBTRACT) => {
                let value = change.value.as_deref();
                apply_to_list(ctx, &mut overrides, &change.name, operation == APPEND, value)?;
            }
            operation => apply(&mut overrides, &change.name, operation, change.value.as_deref())?,
        }
    }
    store(ctx, &resource.resource_name, overrides, validate_only)
}

/// The settings a topic has of its own.
pub(super) fn topic_overrides(ctx: &Context, resource_type: i8, name: &str) -> Result<Overrides, Refused> {
    if resource_type != TOPIC {
        let reason =
            "only settings of topics and groups can be altered; the broker's are given at its start".to_owned();
        return Err((ResponseError::InvalidRequest, reason));
    }
    let unknown = || refuse(&TopicError::Unknown { name: name.to_owned() });
    ctx.topics.get(name).ok_or_else(unknown).map(|topic| topic.overrides())
}

/// Gives a topic its settings, unless they were only to be checked.
pub(super) fn store(ctx: &Context, name: &str, overrides: Overrides, validate_only: bool) -> Result<(), Refused> {
    if validate_only { Ok(()) } else { ctx.topics.set_overrides(name, overrides).map_err(|error| refuse(&error)) }
}

/// The result as both responses say it.
pub(super) fn outcome(result: Result<(), Refused>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(()) => (0, None),
        Err((error, reason)) => (error.code(), Some(text(reason))),
    }
}

fn refuse(error: &TopicError) -> Refused {
    (error.code(), error.to_string())
}

/// Adds items to a list, or takes them away. A topic without a list of its own begins with the broker's.
fn apply_to_list(
    ctx: &Context,
    overrides: &mut Overrides,
    name: &str,
    add: bool,
    items: Option<&str>,
) -> Result<(), Refused> {
    let invalid = |reason| (ResponseError::InvalidConfig, reason);
    let before = config::find(name).map_err(invalid)?.value(overrides, &ctx.settings);
    let after = config::alter_list(name, &before, items.unwrap_or_default(), add).map_err(invalid)?;
    apply(overrides, name, SET, items.map(|_| after.as_str()))
}

/// Sets or unsets one setting.
pub(super) fn apply(overrides: &mut Overrides, name: &str, operation: i8, value: Option<&str>) -> Result<(), Refused> {
    match (operation, value) {
        (SET, Some(value)) => {
            config::check(name, value).map_err(|reason| (ResponseError::InvalidConfig, reason))?;
            overrides.insert(name.to_owned(), value.to_owned());
        }
        (SET, None) => {
            let reason = format!("topic setting {name} has no value; to go back to the default delete it");
            return Err((ResponseError::InvalidRequest, reason));
        }
        (DELETE, _) => {
            config::find(name).map_err(|reason| (ResponseError::InvalidConfig, reason))?;
            overrides.remove(name);
        }
        (other, _) => {
            let reason = format!("operation {other} on topic setting {name} is not known");
            return Err((ResponseError::InvalidRequest, reason));
        }
    }
    Ok(())
}
