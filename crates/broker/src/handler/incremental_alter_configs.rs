//! IncrementalAlterConfigs: sets and unsets settings of topics, of the broker and of groups; all of one or none.

use std::sync::Arc;

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use super::altered_configs::{Alteration, Change, alter};
use super::{Context, blocking};

pub(super) async fn handle(
    ctx: &Arc<Context>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let ctx = Arc::clone(ctx);
    let validate_only = request.validate_only;
    let answer = move |resource: AlterConfigsResource| {
        let changes = resource.configs.into_iter().map(|config| Change {
            name: config.name,
            value: config.value,
            operation: config.config_operation,
        });
        let (kind, name) = (resource.resource_type, &*resource.resource_name);
        let (code, message) =
            alter(&ctx, Alteration { kind, name, changes: changes.collect(), keeps: true, validate_only });
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(kind)
            .with_resource_name(resource.resource_name)
    };
    let responses = blocking(move || request.resources.into_iter().map(answer).collect()).await;
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}
