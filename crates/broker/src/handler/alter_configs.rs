//! AlterConfigs: the old way to set a topic's settings. What a request does not name goes back to its default.

use std::sync::Arc;

use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use kafka_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

use super::group_configs::{self, GROUP};
use super::incremental_alter_configs::{Refused, SET, apply, outcome, store, topic_overrides};
use super::{Context, blocking};
use crate::log::config::Overrides;

pub(super) async fn handle(ctx: &Arc<Context>, request: AlterConfigsRequest) -> AlterConfigsResponse {
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
    AlterConfigsResponse::default().with_responses(responses)
}

fn alter(ctx: &Context, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refused> {
    if resource.resource_type == GROUP {
        let settings = resource.configs.iter().map(|config| (config.name.as_str(), config.value.as_deref()));
        return group_configs::replace(ctx, &resource.resource_name, settings, validate_only);
    }
    topic_overrides(ctx, resource.resource_type, &resource.resource_name)?;
    let mut overrides = Overrides::default();
    for config in &resource.configs {
        apply(&mut overrides, &config.name, SET, config.value.as_deref())?;
    }
    store(ctx, &resource.resource_name, overrides, validate_only)
}
