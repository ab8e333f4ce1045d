//! SyncGroup: the leader's assignment in, each member's own out.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{Context, kept, text};
use crate::group::message::Sync;

pub(super) async fn handle(ctx: &Context, request: SyncGroupRequest) -> SyncGroupResponse {
    let longest = request.assignments.iter().map(|assignment| assignment.assignment.len()).max();
    if longest.is_some_and(|longest| longest > ctx.settings.max_member_metadata_bytes) {
        return SyncGroupResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    let owned = |text: Option<kafka_protocol::protocol::StrBytes>| text.map(|text| text.to_string());
    let sync = Sync {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        instance: owned(request.group_instance_id),
        generation: request.generation_id,
        protocol_type: owned(request.protocol_type),
        protocol: owned(request.protocol_name),
        assignments: request.assignments.into_iter().map(|a| (a.member_id.to_string(), kept(&a.assignment))).collect(),
    };
    match ctx.groups.sync(sync).await {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}
