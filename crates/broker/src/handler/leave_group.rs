//! LeaveGroup: one member, or from version 3 on several.

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{Context, code};

const MEMBERS_SINCE: i16 = 3;

pub(super) fn handle(ctx: &Context, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let group = &*request.group_id;
    if version < MEMBERS_SINCE {
        let result = ctx.groups.leave(group, &request.member_id, None);
        return LeaveGroupResponse::default().with_error_code(code(result));
    }
    let members = request.members.into_iter().map(|member| {
        let result = ctx.groups.leave(group, &member.member_id, member.group_instance_id.as_deref());
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(result))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
