//! Heartbeat: a member lives, and learns of a rebalance.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{Context, code};
use crate::group::message::Caller;

pub(super) fn handle(ctx: &Context, request: &HeartbeatRequest) -> HeartbeatResponse {
    let caller = Caller {
        group: &request.group_id,
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    HeartbeatResponse::default().with_error_code(code(ctx.groups.heartbeat(caller)))
}
