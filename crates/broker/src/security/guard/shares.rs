//! Rights over share groups, what they read and where they stand.

use std::collections::HashSet;

use bytes::Bytes;
use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use kafka_protocol::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::share_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse, DescribeShareGroupOffsetsRequest, GroupId, ShareAcknowledgeRequest,
    ShareAcknowledgeResponse, ShareFetchRequest, ShareFetchResponse, ShareGroupDescribeRequest,
    ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, TopicName, share_acknowledge_response,
    share_fetch_response,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::groups::{UNSEEN_TOPICS, member_error, of_described};
use super::{Access, GROUP_DENIED, Guard, TOPIC_DENIED, Verdict, admitted, take_out, untouched};
use crate::security::acl::{Operation, ResourceType};

impl Guard for ShareGroupHeartbeatRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        match member_error(access, &self.group_id, self.subscribed_topic_names.as_ref()) {
            Some(error) => Verdict::Refused(ShareGroupHeartbeatResponse::default().with_error_code(error)),
            None => untouched(),
        }
    }
}

of_described!(ShareGroupDescribeRequest, DescribedGroup, may_see_topics);

/// Whether a client may see every topic that members of a group have or want.
fn may_see_topics(access: Access<'_>, group: &DescribedGroup) -> bool {
    let may_see = |topic: &str| access.can_quietly(Operation::Describe, ResourceType::Topic, topic);
    group.members.iter().all(|member| {
        member.subscribed_topic_names.iter().all(|topic| may_see(topic))
            && member.assignment.topic_partitions.iter().all(|topic| may_see(&topic.topic_name))
    })
}

/// Those of some topics that a client may not read. An id nobody has is for the handler to say so.
pub(crate) fn unreadable(access: Access<'_>, topics: &HashSet<Uuid>) -> HashSet<Uuid> {
    let nameless = TopicName::default();
    let is_denied = |id: &Uuid| {
        let name = access.topic_name(&nameless, *id);
        name.is_some_and(|name| !access.can(Operation::Read, ResourceType::Topic, &name))
    };
    topics.iter().copied().filter(is_denied).collect()
}

/// A request without a group names none that a client could have a right to.
fn name_of(group: Option<&GroupId>) -> &str {
    group.map_or("", |group| group)
}

impl Guard for ShareFetchRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        if !access.can(Operation::Read, ResourceType::Group, name_of(self.group_id.as_ref())) {
            return Verdict::Refused(ShareFetchResponse::default().with_error_code(GROUP_DENIED));
        }
        let unreadable = unreadable(access, &self.topics.iter().map(|topic| topic.topic_id).collect());
        let denied = take_out(&mut self.topics, |topic| unreadable.contains(&topic.topic_id));
        if !denied.is_empty() {
            // There is something to say already.
            self.max_wait_ms = 0;
        }
        admitted(|_, response: &mut Self::Response| {
            // An error of the whole stands alone.
            if response.error_code != 0 {
                return;
            }
            response.responses.extend(denied.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    share_fetch_response::PartitionData::default()
                        .with_partition_index(partition.partition_index)
                        .with_error_code(TOPIC_DENIED)
                        .with_records(Some(Bytes::new()))
                });
                share_fetch_response::ShareFetchableTopicResponse::default()
                    .with_topic_id(topic.topic_id)
                    .with_partitions(partitions.collect())
            }));
        })
    }
}

impl Guard for ShareAcknowledgeRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        if !access.can(Operation::Read, ResourceType::Group, name_of(self.group_id.as_ref())) {
            return Verdict::Refused(ShareAcknowledgeResponse::default().with_error_code(GROUP_DENIED));
        }
        let unreadable = unreadable(access, &self.topics.iter().map(|topic| topic.topic_id).collect());
        let denied = take_out(&mut self.topics, |topic| unreadable.contains(&topic.topic_id));
        admitted(|_, response: &mut Self::Response| {
            if response.error_code != 0 {
                return;
            }
            response.responses.extend(denied.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    share_acknowledge_response::PartitionData::default()
                        .with_partition_index(partition.partition_index)
                        .with_error_code(TOPIC_DENIED)
                });
                share_acknowledge_response::ShareAcknowledgeTopicResponse::default()
                    .with_topic_id(topic.topic_id)
                    .with_partitions(partitions.collect())
            }));
        })
    }
}

impl Guard for DescribeShareGroupOffsetsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let denied_groups =
            take_out(&mut self.groups, |group| !access.can(Operation::Describe, ResourceType::Group, &group.group_id));
        let mut denied_topics = Vec::new();
        for group in &mut self.groups {
            let topics = group.topics.iter_mut();
            let denied = topics.flat_map(|topics| {
                take_out(topics, |topic| !access.can(Operation::Describe, ResourceType::Topic, &topic.topic_name))
            });
            denied_topics.extend(denied.map(|topic| (group.group_id.clone(), topic)));
        }
        admitted(move |access, response: &mut Self::Response| {
            for group in &mut response.groups {
                // Also of those that all were asked for.
                let may_see = |topic: &str| access.can_quietly(Operation::Describe, ResourceType::Topic, topic);
                group.topics.retain(|topic| may_see(&topic.topic_name));
                let denied = denied_topics.extract_if(.., |(id, _)| *id == group.group_id && group.error_code == 0);
                group.topics.extend(denied.map(|(_, topic)| {
                    let partitions = topic.partitions.iter().map(|partition| {
                        DescribeShareGroupOffsetsResponsePartition::default()
                            .with_partition_index(*partition)
                            .with_start_offset(-1)
                            .with_error_code(TOPIC_DENIED)
                    });
                    DescribeShareGroupOffsetsResponseTopic::default()
                        .with_topic_name(topic.topic_name.clone())
                        .with_partitions(partitions.collect())
                }));
            }
            response.groups.extend(denied_groups.into_iter().map(|group| {
                DescribeShareGroupOffsetsResponseGroup::default()
                    .with_group_id(group.group_id)
                    .with_error_code(GROUP_DENIED)
            }));
        })
    }
}

impl Guard for AlterShareGroupOffsetsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        if !access.can(Operation::Read, ResourceType::Group, &self.group_id) {
            return Verdict::Refused(AlterShareGroupOffsetsResponse::default().with_error_code(GROUP_DENIED));
        }
        let denied =
            take_out(&mut self.topics, |topic| !access.can(Operation::Read, ResourceType::Topic, &topic.topic_name));
        admitted(|_, response: &mut Self::Response| {
            if response.error_code != 0 {
                return;
            }
            response.responses.extend(denied.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    AlterShareGroupOffsetsResponsePartition::default()
                        .with_partition_index(partition.partition_index)
                        .with_error_code(TOPIC_DENIED)
                });
                AlterShareGroupOffsetsResponseTopic::default()
                    .with_topic_name(topic.topic_name)
                    .with_partitions(partitions.collect())
            }));
        })
    }
}

impl Guard for DeleteShareGroupOffsetsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        if !access.can(Operation::Delete, ResourceType::Group, &self.group_id) {
            return Verdict::Refused(DeleteShareGroupOffsetsResponse::default().with_error_code(GROUP_DENIED));
        }
        let denied =
            take_out(&mut self.topics, |topic| !access.can(Operation::Read, ResourceType::Topic, &topic.topic_name));
        admitted(|_, response: &mut Self::Response| {
            if response.error_code != 0 {
                return;
            }
            response.responses.extend(denied.into_iter().map(|topic| {
                DeleteShareGroupOffsetsResponseTopic::default()
                    .with_topic_name(topic.topic_name)
                    .with_error_code(TOPIC_DENIED)
            }));
        })
    }
}
