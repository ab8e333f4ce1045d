//! AlterConfigs: the old way to alter settings. What a request does not name goes back to its default.

use std::sync::Arc;

use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use kafka_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

use super::altered_configs::{Alteration, Change, SET, alter};
use super::{Context, blocking};

pub(super) async fn handle(ctx: &Arc<Context>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let ctx = Arc::clone(ctx);
    let validate_only = request.validate_only;
    let answer = move |resource: AlterConfigsResource| {
        let changes = resource.configs.into_iter().map(|config| Change {
            name: config.name,
            value: config.value,
            operation: SET,
        });
        let (kind, name) = (resource.resource_type, &*resource.resource_name);
        let (code, message) =
            alter(&ctx, Alteration { kind, name, changes: changes.collect(), keeps: false, validate_only });
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(kind)
            .with_resource_name(resource.resource_name)
    };
    let responses = blocking(move || request.resources.into_iter().map(answer).collect()).await;
    AlterConfigsResponse::default().with_responses(responses)
}
