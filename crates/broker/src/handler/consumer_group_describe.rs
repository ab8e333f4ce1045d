//! ConsumerGroupDescribe: the members of groups of the consumer protocol, what they have and what
//! they should have.

use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment as ToldAssignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId, TopicName};

use super::{Context, NO_OPERATIONS, once, text};
use crate::group::consumer::coordinator::not_found;
use crate::group::consumer::group::Group;
use crate::group::consumer::member::Member;
use crate::group::consumer::message::Assignment;
use crate::group::consumer::topics::TopicImage;

/// A member that speaks the consumer protocol itself; all do here.
const CONSUMER_MEMBER: i8 = 1;

pub(super) fn handle(
    ctx: &Context,
    request: ConsumerGroupDescribeRequest,
    version: i16,
) -> ConsumerGroupDescribeResponse {
    let groups = once(request.group_ids, Clone::clone).into_iter().map(|id| describe(ctx, id, version));
    ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}

fn describe(ctx: &Context, id: GroupId, version: i16) -> DescribedGroup {
    let found =
        ctx.groups.look_consumers(|coordinator, image| coordinator.group(&id).map(|group| fill(group, image, version)));
    let described = found.unwrap_or_else(|| {
        let refused = not_found(&id);
        DescribedGroup::default().with_error_code(refused.error.code()).with_error_message(Some(text(refused.message)))
    });
    described.with_group_id(id).with_authorized_operations(NO_OPERATIONS)
}

fn fill(group: &Group, image: &TopicImage, version: i16) -> DescribedGroup {
    let members = group.members.iter().map(|(id, member)| {
        let described = describe_member(member, image)
            .with_member_id(text(&**id))
            .with_target_assignment(told(group.target_of(id), image));
        if version >= 1 { described.with_member_type(CONSUMER_MEMBER) } else { described }
    });
    DescribedGroup::default()
        .with_members(members.collect())
        .with_group_state(text(group.state().to_string()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.target_epoch)
        .with_assignor_name(text(group.assignor().name()))
}

fn describe_member(member: &Member, image: &TopicImage) -> DescribedMember {
    DescribedMember::default()
        .with_instance_id(member.instance.as_deref().map(text))
        .with_rack_id(member.rack.as_deref().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&*member.client_id))
        .with_client_host(text(&*member.client_host))
        .with_subscribed_topic_names(member.topics.iter().map(|name| TopicName(text(&**name))).collect())
        .with_subscribed_topic_regex(member.pattern.as_ref().map(|pattern| text(pattern.text())))
        .with_assignment(told(Some(&member.assigned), image))
}

/// Topics that are gone have no name to be told by.
fn told(assignment: Option<&Assignment>, image: &TopicImage) -> ToldAssignment {
    let told = assignment.into_iter().flatten().filter_map(|(topic, partitions)| {
        let name = image.name(*topic)?;
        Some(
            TopicPartitions::default()
                .with_topic_id(*topic)
                .with_topic_name(TopicName(text(name)))
                .with_partitions(partitions.iter().copied().collect()),
        )
    });
    ToldAssignment::default().with_topic_partitions(told.collect())
}
