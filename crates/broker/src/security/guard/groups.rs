//! Rights over consumer groups and the offsets they commit.

use std::collections::BTreeMap;
use std::mem::take;

use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup as ConsumerDescribed;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DeleteGroupsRequest,
    DescribeGroupsRequest, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, OffsetCommitRequest, OffsetCommitResponse,
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Access, GROUP_DENIED, Guard, TOPIC_DENIED, Verdict, admitted, take_out, untouched};
use crate::security::acl::{CLUSTER, Operation, ResourceType};

/// Whether a client may see every topic that members of a group have or want.
fn may_see_topics(access: Access<'_>, group: &ConsumerDescribed) -> bool {
    let may_see = |topic: &str| access.can_quietly(Operation::Describe, ResourceType::Topic, topic);
    group.members.iter().all(|member| {
        let assigned = [&member.assignment, &member.target_assignment].into_iter().flat_map(|it| &it.topic_partitions);
        member.subscribed_topic_names.iter().all(|topic| may_see(topic))
            && assigned.into_iter().all(|topic| may_see(&topic.topic_name))
    })
}

pub(super) const UNSEEN_TOPICS: &str = "the group's members have topics that the client may not describe";

/// What members of a group say to its coordinator.
macro_rules! of_members {
    ($($request:ident => $response:ident),* $(,)?) => {$(
        impl Guard for $request {
            fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<$response> {
                if access.can(Operation::Read, ResourceType::Group, &self.group_id) {
                    return untouched();
                }
                Verdict::Refused($response::default().with_error_code(GROUP_DENIED))
            }
        }
    )*};
}

of_members!(
    SyncGroupRequest => SyncGroupResponse,
    HeartbeatRequest => HeartbeatResponse,
    LeaveGroupRequest => LeaveGroupResponse,
);

impl Guard for JoinGroupRequest {
    fn guard(&mut self, access: Access<'_>, version: i16) -> Verdict<Self::Response> {
        if access.can(Operation::Read, ResourceType::Group, &self.group_id) {
            return untouched();
        }
        // The protocol may be null from version 7 on.
        let protocol = (version < 7).then(StrBytes::default);
        let response = JoinGroupResponse::default().with_generation_id(-1).with_protocol_name(protocol);
        Verdict::Refused(response.with_error_code(GROUP_DENIED).with_member_id(take(&mut self.member_id)))
    }
}

/// The error of a member the broker assigns to, if it may not read in the group or not see a topic it names. As a
/// whole: a member reads all it subscribes to.
pub(super) fn member_error(access: Access<'_>, group: &GroupId, topics: Option<&Vec<TopicName>>) -> Option<i16> {
    if !access.can(Operation::Read, ResourceType::Group, group) {
        return Some(GROUP_DENIED);
    }
    let is_denied = |topic: &TopicName| !access.can(Operation::Describe, ResourceType::Topic, topic);
    topics.into_iter().flatten().any(is_denied).then_some(TOPIC_DENIED)
}

impl Guard for ConsumerGroupHeartbeatRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        // What a pattern finds is filtered when it is looked up.
        match member_error(access, &self.group_id, self.subscribed_topic_names.as_ref()) {
            Some(error) => Verdict::Refused(ConsumerGroupHeartbeatResponse::default().with_error_code(error)),
            None => untouched(),
        }
    }
}

/// A request that describes groups with their topics, told to those who may see all of these.
macro_rules! of_described {
    ($request:ident, $described:ident, $may_see_topics:ident) => {
        impl Guard for $request {
            fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
                let tell = self.include_authorized_operations;
                let denied =
                    take_out(&mut self.group_ids, |group| !access.can(Operation::Describe, ResourceType::Group, group));
                admitted(move |access, response: &mut Self::Response| {
                    for group in &mut response.groups {
                        if !$may_see_topics(access, group) {
                            *group = $described::default()
                                .with_group_id(group.group_id.clone())
                                .with_authorized_operations(group.authorized_operations)
                                .with_error_code(TOPIC_DENIED)
                                .with_error_message(Some(StrBytes::from_static_str(UNSEEN_TOPICS)));
                        } else if tell && group.error_code == 0 {
                            group.authorized_operations = access.operations(ResourceType::Group, &group.group_id);
                        }
                    }
                    let denied = denied.into_iter();
                    response.groups.extend(
                        denied.map(|group| $described::default().with_group_id(group).with_error_code(GROUP_DENIED)),
                    );
                })
            }
        }
    };
}
pub(super) use of_described;

of_described!(ConsumerGroupDescribeRequest, ConsumerDescribed, may_see_topics);

impl Guard for OffsetCommitRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        if !access.can(Operation::Read, ResourceType::Group, &self.group_id) {
            let topics = take(&mut self.topics).into_iter().map(|topic| commit_denied(topic, GROUP_DENIED));
            return Verdict::Refused(OffsetCommitResponse::default().with_topics(topics.collect()));
        }
        let denied = take_out(&mut self.topics, |topic| !access.can(Operation::Read, ResourceType::Topic, &topic.name));
        admitted(|_, response: &mut Self::Response| {
            response.topics.extend(denied.into_iter().map(|topic| commit_denied(topic, TOPIC_DENIED)));
        })
    }
}

fn commit_denied(topic: OffsetCommitRequestTopic, error: i16) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index).with_error_code(error)
    });
    OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
}

impl Guard for OffsetFetchRequest {
    fn guard(&mut self, access: Access<'_>, version: i16) -> Verdict<Self::Response> {
        if version < 8 { one_group(self, access, version) } else { several_groups(self, access) }
    }
}

fn one_group(request: &mut OffsetFetchRequest, access: Access<'_>, version: i16) -> Verdict<OffsetFetchResponse> {
    let denied_topic = |name: TopicName, partitions: Vec<i32>, error: i16| {
        let partitions = partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition)
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(StrBytes::default()))
                .with_error_code(error)
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    };
    if !access.can(Operation::Describe, ResourceType::Group, &request.group_id) {
        // Before version 2 there is no error of the whole.
        let topics = request.topics.take().filter(|_| version < 2).unwrap_or_default();
        let topics = topics.into_iter().map(|topic| denied_topic(topic.name, topic.partition_indexes, GROUP_DENIED));
        return Verdict::Refused(
            OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(if version < 2 {
                0
            } else {
                GROUP_DENIED
            }),
        );
    }
    let asks_all = request.topics.is_none();
    let may_see =
        |access: Access<'_>, name: &TopicName| access.can_quietly(Operation::Describe, ResourceType::Topic, name);
    let denied = request
        .topics
        .as_mut()
        .map(|topics| take_out(topics, |topic| !access.can(Operation::Describe, ResourceType::Topic, &topic.name)))
        .unwrap_or_default();
    admitted(move |access, response: &mut OffsetFetchResponse| {
        if asks_all {
            response.topics.retain(|topic| may_see(access, &topic.name));
        }
        let denied = denied.into_iter().map(|topic| denied_topic(topic.name, topic.partition_indexes, TOPIC_DENIED));
        response.topics.extend(denied);
    })
}

fn several_groups(request: &mut OffsetFetchRequest, access: Access<'_>) -> Verdict<OffsetFetchResponse> {
    let may_see =
        |access: Access<'_>, name: &TopicName| access.can_quietly(Operation::Describe, ResourceType::Topic, name);
    let denied_groups =
        take_out(&mut request.groups, |group| !access.can(Operation::Describe, ResourceType::Group, &group.group_id));
    // Of each group: the topics that were taken out, or `None` where all were asked for.
    let mut asked: BTreeMap<GroupId, Option<Vec<(TopicName, Vec<i32>)>>> = BTreeMap::new();
    for group in &mut request.groups {
        let denied = group.topics.as_mut().map(|topics| {
            let denied = take_out(topics, |topic| !access.can(Operation::Describe, ResourceType::Topic, &topic.name));
            denied.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
        });
        asked.insert(group.group_id.clone(), denied);
    }
    admitted(move |access, response: &mut OffsetFetchResponse| {
        for group in &mut response.groups {
            match asked.remove(&group.group_id).flatten() {
                None => group.topics.retain(|topic| may_see(access, &topic.name)),
                Some(denied) => group.topics.extend(denied.into_iter().map(|(name, partitions)| {
                    let partitions = partitions.into_iter().map(|partition| {
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(partition)
                            .with_committed_offset(-1)
                            .with_committed_leader_epoch(-1)
                            .with_metadata(Some(StrBytes::default()))
                            .with_error_code(TOPIC_DENIED)
                    });
                    OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
                })),
            }
        }
        response.groups.extend(denied_groups.into_iter().map(|group| {
            OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(GROUP_DENIED)
        }));
    })
}

impl Guard for ListGroupsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        if access.can_quietly(Operation::Describe, ResourceType::Cluster, CLUSTER) {
            return untouched();
        }
        admitted(|access, response: &mut Self::Response| {
            response
                .groups
                .retain(|group| access.can_quietly(Operation::Describe, ResourceType::Group, &group.group_id));
        })
    }
}

impl Guard for DescribeGroupsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let tell = self.include_authorized_operations;
        let denied = take_out(&mut self.groups, |group| !access.can(Operation::Describe, ResourceType::Group, group));
        admitted(move |access, response: &mut Self::Response| {
            for group in response.groups.iter_mut().filter(|group| tell && group.error_code == 0) {
                group.authorized_operations = access.operations(ResourceType::Group, &group.group_id);
            }
            response.groups.extend(denied.into_iter().map(|group| {
                DescribedGroup::default().with_group_id(group).with_error_code(GROUP_DENIED).with_error_message(None)
            }));
        })
    }
}

impl Guard for DeleteGroupsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let denied =
            take_out(&mut self.groups_names, |group| !access.can(Operation::Delete, ResourceType::Group, group));
        admitted(|_, response: &mut Self::Response| {
            response.results.extend(
                denied
                    .into_iter()
                    .map(|group| DeletableGroupResult::default().with_group_id(group).with_error_code(GROUP_DENIED)),
            );
        })
    }
}

impl Guard for OffsetDeleteRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        if !access.can(Operation::Delete, ResourceType::Group, &self.group_id) {
            return Verdict::Refused(OffsetDeleteResponse::default().with_error_code(GROUP_DENIED));
        }
        let denied = take_out(&mut self.topics, |topic| !access.can(Operation::Read, ResourceType::Topic, &topic.name));
        admitted(|_, response: &mut Self::Response| {
            // An error of the whole stands alone.
            if response.error_code != 0 {
                return;
            }
            response.topics.extend(denied.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    OffsetDeleteResponsePartition::default()
                        .with_partition_index(partition.partition_index)
                        .with_error_code(TOPIC_DENIED)
                });
                OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
            }));
        })
    }
}
