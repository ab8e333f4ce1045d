//! Rights over where partitions are: topics described in pages, leaders, replicas and their folders.

use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic;
use kafka_protocol::messages::elect_leaders_response::ReplicaElectionResult;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, ElectLeadersRequest,
    ElectLeadersResponse, ListConfigResourcesRequest, ListConfigResourcesResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, TopicName, alter_replica_log_dirs_response, elect_leaders_response,
};
use kafka_protocol::protocol::StrBytes;

use super::{Access, CLUSTER_DENIED, Guard, TOPIC_DENIED, Verdict, admitted, take_out, untouched};
use crate::security::acl::{Operation, ResourceType};

impl Guard for DescribeTopicPartitionsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        // Who asks for all is answered as if it had named those it may see: pages and their
        // cursors tell of no others.
        if self.topics.is_empty() {
            let all = access.ctx.topics.all();
            let seen =
                all.iter().filter(|topic| access.can_quietly(Operation::Describe, ResourceType::Topic, &topic.name));
            let named = |name: &str| TopicName(StrBytes::from_string(name.to_owned()));
            self.topics = seen.map(|topic| TopicRequest::default().with_name(named(&topic.name))).collect();
            if self.topics.is_empty() {
                return Verdict::Refused(DescribeTopicPartitionsResponse::default().with_next_cursor(None));
            }
        }
        let denied =
            take_out(&mut self.topics, |topic| !access.can(Operation::Describe, ResourceType::Topic, &topic.name));
        let from = self.cursor.as_ref().map(|cursor| cursor.topic_name.clone()).unwrap_or_default();
        let denied: Vec<_> = denied.into_iter().filter(|topic| *topic.name >= *from).map(topic_denied).collect();
        if self.topics.is_empty() {
            let response = DescribeTopicPartitionsResponse::default().with_next_cursor(None);
            return Verdict::Refused(response.with_topics(denied));
        }
        admitted(move |access, response: &mut DescribeTopicPartitionsResponse| {
            for topic in response.topics.iter_mut().filter(|topic| topic.error_code == 0) {
                let name = topic.name.as_deref().map_or("", |name| name);
                topic.topic_authorized_operations = access.operations(ResourceType::Topic, name);
            }
            response.topics.extend(denied);
        })
    }
}

fn topic_denied(topic: TopicRequest) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(TOPIC_DENIED)
        .with_name(Some(topic.name))
        .with_topic_authorized_operations(i32::MIN)
}

/// Requests about the whole broker, allowed or denied as one.
macro_rules! of_cluster {
    ($($request:ident, $operation:ident, $denied:expr;)*) => {$(
        impl Guard for $request {
            fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
                if access.can_cluster(Operation::$operation) {
                    return untouched();
                }
                let denied: fn(&Self) -> Self::Response = $denied;
                Verdict::Refused(denied(self))
            }
        }
    )*};
}

of_cluster!(
    ElectLeadersRequest, Alter, elections_denied;
    AlterPartitionReassignmentsRequest, Alter,
        |_| AlterPartitionReassignmentsResponse::default().with_error_code(CLUSTER_DENIED);
    ListPartitionReassignmentsRequest, Describe,
        |_| ListPartitionReassignmentsResponse::default().with_error_code(CLUSTER_DENIED);
    AlterReplicaLogDirsRequest, Alter, folders_denied;
    ListConfigResourcesRequest, DescribeConfigs,
        |_| ListConfigResourcesResponse::default().with_error_code(CLUSTER_DENIED);
);

/// Told for the whole from version 1 on, and of each partition in every version.
fn elections_denied(request: &ElectLeadersRequest) -> ElectLeadersResponse {
    let denied = |index: &i32| {
        elect_leaders_response::PartitionResult::default()
            .with_partition_id(*index)
            .with_error_code(CLUSTER_DENIED)
            .with_error_message(None)
    };
    let topics = request.topic_partitions.iter().flatten().map(|topic| {
        ReplicaElectionResult::default()
            .with_topic(topic.topic.clone())
            .with_partition_result(topic.partitions.iter().map(denied).collect())
    });
    ElectLeadersResponse::default().with_error_code(CLUSTER_DENIED).with_replica_election_results(topics.collect())
}

/// There is no place for an error of the whole: each partition has it.
fn folders_denied(request: &AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let denied = |index: &i32| {
        alter_replica_log_dirs_response::AlterReplicaLogDirPartitionResult::default()
            .with_partition_index(*index)
            .with_error_code(CLUSTER_DENIED)
    };
    let topics = request.dirs.iter().flat_map(|folder| &folder.topics).map(|topic| {
        alter_replica_log_dirs_response::AlterReplicaLogDirTopicResult::default()
            .with_topic_name(topic.name.clone())
            .with_partitions(topic.partitions.iter().map(denied).collect())
    });
    AlterReplicaLogDirsResponse::default().with_results(topics.collect())
}
