//! DescribeGroups: the members of groups and what they are assigned.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::{Context, NO_OPERATIONS, once, text};
use crate::group::member::{Group, GroupState};

/// First version that says that a group does not exist; before, it is described as dead.
const NOT_FOUND_SINCE: i16 = 6;

pub(super) fn handle(ctx: &Context, request: DescribeGroupsRequest, version: i16) -> DescribeGroupsResponse {
    let groups = once(request.groups, Clone::clone).into_iter().map(|id| describe(ctx, id, version));
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe(ctx: &Context, id: GroupId, version: i16) -> DescribedGroup {
    let described = DescribedGroup::default().with_authorized_operations(NO_OPERATIONS);
    let found = ctx.groups.look(|coordinator| coordinator.group(&id).map(|group| fill(described.clone(), group)));
    let is_consumer = ctx.groups.look_consumers(|coordinator, _| coordinator.group(&id).is_some())
        || ctx.groups.look_shares(|coordinator, _| coordinator.group(&id).is_some());
    let described = match found {
        Some(described) => described,
        // It has members and states of another kind: ConsumerGroupDescribe or ShareGroupDescribe tells them.
        None if is_consumer && version >= NOT_FOUND_SINCE => described
            .with_group_state(text("Dead"))
            .with_error_code(ResponseError::GroupIdNotFound.code())
            .with_error_message(Some(text(format!("Group {} is not a classic group.", &*id)))),
        None if is_consumer => described.with_group_state(text("Dead")),
        None if ctx.groups.offsets().has_group(&id) => described.with_group_state(text(GroupState::Empty.to_string())),
        None if version >= NOT_FOUND_SINCE => described
            .with_group_state(text("Dead"))
            .with_error_code(ResponseError::GroupIdNotFound.code())
            .with_error_message(Some(text(format!("there is no group {}", &*id)))),
        None => described.with_group_state(text("Dead")),
    };
    described.with_group_id(id)
}

/// What members follow and were assigned is told while it is settled, as Kafka does.
fn fill(described: DescribedGroup, group: &Group) -> DescribedGroup {
    let settled = group.protocol.clone().filter(|_| group.state == GroupState::Stable);
    let members = group.members.iter().map(|(id, member)| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(&**id))
            .with_group_instance_id(member.instance.as_deref().map(text))
            .with_client_id(text(&*member.client_id))
            .with_client_host(text(&*member.client_host));
        match &settled {
            Some(protocol) => described
                .with_member_metadata(member.metadata(protocol))
                .with_member_assignment(member.assignment.clone()),
            None => described,
        }
    });
    let members = members.collect();
    described
        .with_group_state(text(group.state.to_string()))
        .with_protocol_type(text(&*group.protocol_type))
        .with_protocol_data(text(settled.unwrap_or_default()))
        .with_members(members)
}
