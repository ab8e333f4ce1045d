//! Rights over records: what is written, read and looked up in topics.

use std::mem::take;

use bytes::Bytes;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};

use super::{Access, Guard, TOPIC_DENIED, TRANSACTION_DENIED, Verdict, admitted, take_out};
use crate::security::acl::{CLUSTER, Operation, ResourceType};

impl Guard for ProduceRequest {
    fn guard(&mut self, access: Access<'_>, version: i16) -> Verdict<ProduceResponse> {
        if let Some(id) = &self.transactional_id
            && !access.can(Operation::Write, ResourceType::TransactionalId, id)
        {
            let topics = take(&mut self.topic_data).into_iter();
            let topics = topics.map(|topic| produce_denied(topic, TRANSACTION_DENIED, version));
            return Verdict::Refused(ProduceResponse::default().with_responses(topics.collect()));
        }
        let denied = take_out(&mut self.topic_data, |topic| {
            // An id nobody has is for the handler to say so.
            let Some(name) = access.topic_name(&topic.name, topic.topic_id) else { return false };
            !access.can(Operation::Write, ResourceType::Topic, &name)
        });
        admitted(move |_, response: &mut ProduceResponse| {
            response.responses.extend(denied.into_iter().map(|topic| produce_denied(topic, TOPIC_DENIED, version)));
        })
    }
}

fn produce_denied(topic: TopicProduceData, error: i16, version: i16) -> TopicProduceResponse {
    let partitions = topic.partition_data.iter().map(|partition| {
        PartitionProduceResponse::default()
            .with_index(partition.index)
            .with_error_code(error)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message(None)
    });
    let denied = TopicProduceResponse::default().with_partition_responses(partitions.collect());
    if version >= 13 { denied.with_topic_id(topic.topic_id) } else { denied.with_name(topic.name) }
}

impl Guard for FetchRequest {
    fn guard(&mut self, access: Access<'_>, version: i16) -> Verdict<Self::Response> {
        let replica = if version >= 15 { self.replica_state.replica_id } else { self.replica_id };
        let is_follower = *replica >= 0;
        let may_follow = is_follower && access.can(Operation::ClusterAction, ResourceType::Cluster, CLUSTER);
        let denied = take_out(&mut self.topics, |topic| {
            // An id nobody has is for the handler to say so.
            let Some(name) = access.topic_name(&topic.topic, topic.topic_id) else { return false };
            !if is_follower { may_follow } else { access.can(Operation::Read, ResourceType::Topic, &name) }
        });
        admitted(move |_, response: &mut Self::Response| {
            let denied = denied.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    PartitionData::default()
                        .with_partition_index(partition.partition)
                        .with_error_code(TOPIC_DENIED)
                        .with_high_watermark(-1)
                        .with_last_stable_offset(-1)
                        .with_log_start_offset(-1)
                        .with_records(Some(Bytes::new()))
                });
                let denied = FetchableTopicResponse::default().with_partitions(partitions.collect());
                if version >= 13 { denied.with_topic_id(topic.topic_id) } else { denied.with_topic(topic.topic) }
            });
            response.responses.extend(denied);
        })
    }
}

impl Guard for ListOffsetsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let denied =
            take_out(&mut self.topics, |topic| !access.can(Operation::Describe, ResourceType::Topic, &topic.name));
        admitted(|_, response: &mut Self::Response| {
            response.topics.extend(denied.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    ListOffsetsPartitionResponse::default()
                        .with_partition_index(partition.partition_index)
                        .with_error_code(TOPIC_DENIED)
                        .with_timestamp(-1)
                        .with_offset(-1)
                        .with_leader_epoch(-1)
                });
                ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions.collect())
            }));
        })
    }
}

impl Guard for OffsetForLeaderEpochRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        // Followers ask as well, by another right.
        let is_node = access.can_quietly(Operation::ClusterAction, ResourceType::Cluster, CLUSTER);
        let denied = take_out(&mut self.topics, |topic| {
            !is_node && !access.can(Operation::Describe, ResourceType::Topic, &topic.topic)
        });
        admitted(|_, response: &mut Self::Response| {
            response.topics.extend(denied.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    EpochEndOffset::default()
                        .with_partition(partition.partition)
                        .with_error_code(TOPIC_DENIED)
                        .with_leader_epoch(-1)
                        .with_end_offset(-1)
                });
                OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions.collect())
            }));
        })
    }
}

impl Guard for DeleteRecordsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let denied =
            take_out(&mut self.topics, |topic| !access.can(Operation::Delete, ResourceType::Topic, &topic.name));
        admitted(|_, response: &mut Self::Response| {
            response.topics.extend(denied.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    DeleteRecordsPartitionResult::default()
                        .with_partition_index(partition.partition_index)
                        .with_error_code(TOPIC_DENIED)
                        .with_low_watermark(-1)
                });
                DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions.collect())
            }));
        })
    }
}
