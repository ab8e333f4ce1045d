//! ListGroups: groups with members, and groups that only have committed offsets.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::group::member::GroupState;

/// The type of every group here, as opposed to KIP-848's "consumer".
const TYPE: &str = "classic";

pub(super) fn handle(ctx: &Context, request: &ListGroupsRequest) -> ListGroupsResponse {
    let only_offsets = ctx.groups.offsets().group_names().into_iter();
    let mut groups: BTreeMap<String, (String, GroupState)> =
        only_offsets.map(|name| (name, (String::new(), GroupState::Empty))).collect();
    ctx.groups.look(|coordinator| {
        for (name, group) in coordinator.groups() {
            groups.insert(name.clone(), (group.protocol_type.clone(), group.state));
        }
    });
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let listed = groups.into_iter().filter_map(|(name, (protocol_type, state))| {
        let state = state.to_string();
        let wanted = passes(&request.states_filter, &state) && passes(&request.types_filter, TYPE);
        wanted.then(|| {
            ListedGroup::default()
                .with_group_id(GroupId(text(name)))
                .with_protocol_type(text(protocol_type))
                .with_group_state(text(state))
                .with_group_type(text(TYPE))
        })
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}
