//! JoinGroup: into the coordinator, and out when the join phase ends.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Peer, kept, text};
use crate::group::message::Join;
use crate::group::service::Groups;
use crate::protocol::frame::Frame;

/// First version whose clients join with an id they were given before.
const KNOWN_MEMBER_SINCE: i16 = 4;
/// First version whose leader can be told not to assign.
const SKIP_ASSIGNMENT_SINCE: i16 = 9;
/// First version in which the protocol may be null.
const NULL_PROTOCOL_SINCE: i16 = 7;

pub(super) async fn handle(ctx: &Context, peer: &Peer, frame: &Frame, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = frame.version;
    let size: usize = request.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
    if size > ctx.settings.max_member_metadata_bytes {
        return refuse(ResponseError::InvalidRequest, request.member_id, version);
    }
    let instance = request.group_instance_id.as_deref().map(str::to_owned);
    let prefix = instance.as_deref().unwrap_or(&frame.client_id);
    let join = Join {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        new_member: Groups::new_member_id(prefix),
        client_id: frame.client_id.clone(),
        client_host: peer.host.clone(),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 has one timeout for both.
        rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(|p| (p.name.to_string(), kept(&p.metadata))).collect(),
        must_know_member: version >= KNOWN_MEMBER_SINCE,
        can_skip_assignment: version >= SKIP_ASSIGNMENT_SINCE,
        instance,
    };
    match ctx.groups.join(join).await {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|(id, instance, metadata)| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(id))
                    .with_group_instance_id(instance.map(text))
                    .with_metadata(metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(Some(text(joined.protocol_type)))
                .with_protocol_name(Some(text(joined.protocol)))
                .with_leader(text(joined.leader))
                .with_skip_assignment(joined.skip_assignment)
                .with_member_id(text(joined.member))
                .with_members(members.collect())
        }
        Err(refused) => refuse(refused.error, text(refused.member), version),
    }
}

fn refuse(error: ResponseError, member: StrBytes, version: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name((version < NULL_PROTOCOL_SINCE).then(|| text("")))
        .with_member_id(member)
}
