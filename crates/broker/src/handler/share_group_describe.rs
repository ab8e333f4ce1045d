//! ShareGroupDescribe: the members of share groups and what they read.

use kafka_protocol::messages::share_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions};
use kafka_protocol::messages::{GroupId, ShareGroupDescribeRequest, ShareGroupDescribeResponse, TopicName};

use super::{Context, NO_OPERATIONS, once, text};
use crate::group::consumer::topics::TopicImage;
use crate::group::share::assignor;
use crate::group::share::coordinator::{self, Group, not_found};

pub(super) fn handle(ctx: &Context, request: ShareGroupDescribeRequest) -> ShareGroupDescribeResponse {
    let groups = once(request.group_ids, Clone::clone).into_iter().map(|id| describe(ctx, id));
    ShareGroupDescribeResponse::default().with_groups(groups.collect())
}

fn describe(ctx: &Context, id: GroupId) -> DescribedGroup {
    let found = ctx.groups.look_shares(|shares, image| shares.group(&id).map(|group| fill(group, image)));
    let described = found.unwrap_or_else(|| {
        let refused = not_found(&id);
        DescribedGroup::default().with_error_code(refused.error.code()).with_error_message(Some(text(refused.message)))
    });
    described.with_group_id(id).with_authorized_operations(NO_OPERATIONS)
}

fn fill(group: &Group, image: &TopicImage) -> DescribedGroup {
    let members = group.members.iter().map(|(id, member)| describe_member(id, member, image));
    DescribedGroup::default()
        .with_members(members.collect())
        .with_group_state(text(group.state()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.epoch)
        .with_assignor_name(text(assignor::NAME))
}

/// Topics that are gone have no name to be told by.
fn describe_member(id: &str, member: &coordinator::Member, image: &TopicImage) -> Member {
    let assigned = member.assigned.iter().filter_map(|(topic, partitions)| {
        let name = TopicName(text(image.name(*topic)?));
        let partitions = partitions.iter().copied().collect();
        Some(TopicPartitions::default().with_topic_id(*topic).with_topic_name(name).with_partitions(partitions))
    });
    Member::default()
        .with_member_id(text(id))
        .with_rack_id(member.rack.as_deref().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&*member.client_id))
        .with_client_host(text(&*member.client_host))
        .with_subscribed_topic_names(member.topics.iter().map(|name| TopicName(text(&**name))).collect())
        .with_assignment(Assignment::default().with_topic_partitions(assigned.collect()))
}
