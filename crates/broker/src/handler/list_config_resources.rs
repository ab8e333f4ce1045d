//! ListConfigResources: what has settings that can be described: topics, the broker, and groups with some of their own.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::describe_configs::{BROKER, GROUP, TOPIC};
use super::{Context, NODE_ID, text};

/// Loggers of a broker and subscriptions to client metrics, of which none has settings here.
const WITHOUT_SETTINGS: [i8; 2] = [8, 16];

pub(super) fn handle(ctx: &Context, request: &ListConfigResourcesRequest, version: i16) -> ListConfigResourcesResponse {
    // Version 0 asks for subscriptions to client metrics only.
    if version == 0 {
        return ListConfigResourcesResponse::default();
    }
    let asked = &request.resource_types;
    let is_known = |kind: &i8| [TOPIC, BROKER, GROUP].contains(kind) || WITHOUT_SETTINGS.contains(kind);
    if !asked.iter().all(is_known) {
        return ListConfigResourcesResponse::default().with_error_code(ResponseError::UnsupportedVersion.code());
    }
    let wanted = |kind| asked.is_empty() || asked.contains(&kind);
    let resource = |kind, name: &str| ConfigResource::default().with_resource_type(kind).with_resource_name(text(name));
    let mut resources = Vec::new();
    if wanted(TOPIC) {
        resources.extend(ctx.topics.all().iter().map(|topic| resource(TOPIC, &topic.name)));
    }
    if wanted(BROKER) {
        resources.push(resource(BROKER, &NODE_ID.to_string()));
    }
    if wanted(GROUP) {
        resources.extend(ctx.configs.groups().iter().map(|(group, _)| resource(GROUP, group)));
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}
