//! ListGroups: groups with members, and groups that only have committed offsets.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::group::member::GroupState;

/// The type of groups whose members assign, and of those that only have offsets.
const CLASSIC: &str = "classic";
/// The type of groups that are assigned by the broker (KIP-848), and what these call their protocol.
const CONSUMER: &str = "consumer";
/// The same of share groups (KIP-932).
const SHARE: &str = "share";

pub(super) fn handle(ctx: &Context, request: &ListGroupsRequest) -> ListGroupsResponse {
    let only_offsets = ctx.groups.offsets().group_names().into_iter();
    // Protocol, state and type of each.
    let mut groups: BTreeMap<String, (String, String, &str)> =
        only_offsets.map(|name| (name, (String::new(), GroupState::Empty.to_string(), CLASSIC))).collect();
    ctx.groups.look(|coordinator| {
        for (name, group) in coordinator.groups() {
            groups.insert(name.clone(), (group.protocol_type.clone(), group.state.to_string(), CLASSIC));
        }
    });
    ctx.groups.look_consumers(|coordinator, _| {
        for (name, group) in coordinator.groups() {
            groups.insert(name.clone(), (CONSUMER.to_owned(), group.state().to_string(), CONSUMER));
        }
    });
    ctx.groups.look_shares(|coordinator, _| {
        for (name, group) in coordinator.groups() {
            groups.insert(name.clone(), (SHARE.to_owned(), group.state().to_owned(), SHARE));
        }
    });
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let listed = groups.into_iter().filter_map(|(name, (protocol_type, state, kind))| {
        let wanted = passes(&request.states_filter, &state) && passes(&request.types_filter, kind);
        wanted.then(|| {
            ListedGroup::default()
                .with_group_id(GroupId(text(name)))
                .with_protocol_type(text(protocol_type))
                .with_group_state(text(state))
                .with_group_type(text(kind))
        })
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}
