//! Rights over transactional ids and producer ids, and over coordinators.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, BrokerId,
    DescribeProducersRequest, DescribeTransactionsRequest, EndTxnRequest, EndTxnResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest, ProducerId,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};

use super::{
    Access, CLUSTER_DENIED, GROUP_DENIED, Guard, TOPIC_DENIED, TRANSACTION_DENIED, Verdict, admitted, take_out,
    untouched,
};
use crate::security::acl::{CLUSTER, Operation, ResourceType};

const TRANSACTION: i8 = 1;

impl Guard for FindCoordinatorRequest {
    fn guard(&mut self, access: Access<'_>, version: i16) -> Verdict<Self::Response> {
        let (resource_type, error) = match self.key_type {
            TRANSACTION => (ResourceType::TransactionalId, TRANSACTION_DENIED),
            _ => (ResourceType::Group, GROUP_DENIED),
        };
        let denied = |key: &str| !access.can(Operation::Describe, resource_type, key);
        if version < 4 {
            if !denied(&self.key) {
                return untouched();
            }
            let response = FindCoordinatorResponse::default().with_node_id(BrokerId(-1)).with_port(-1);
            return Verdict::Refused(response.with_error_code(error).with_error_message(None));
        }
        let denied = take_out(&mut self.coordinator_keys, |key| denied(key));
        admitted(move |_, response: &mut Self::Response| {
            response.coordinators.extend(denied.into_iter().map(|key| {
                Coordinator::default()
                    .with_key(key)
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(error)
                    .with_error_message(None)
            }));
        })
    }
}

impl Guard for InitProducerIdRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let refuse = |error: i16| {
            let response = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
            Verdict::Refused(response.with_error_code(error))
        };
        match &self.transactional_id {
            Some(id) if !access.can(Operation::Write, ResourceType::TransactionalId, id) => {
                return refuse(TRANSACTION_DENIED);
            }
            Some(_) => {}
            None if access.can_any(Operation::Write, ResourceType::Topic) => {}
            None if access.can(Operation::IdempotentWrite, ResourceType::Cluster, CLUSTER) => {}
            None => return refuse(CLUSTER_DENIED),
        }
        untouched()
    }
}

impl Guard for AddPartitionsToTxnRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let may_write = |topic: &str| access.can(Operation::Write, ResourceType::Topic, topic);
        let id = &self.v3_and_below_transactional_id;
        let whole = (!access.can(Operation::Write, ResourceType::TransactionalId, id)).then_some(TRANSACTION_DENIED);
        let topics = &self.v3_and_below_topics;
        let allowed: Vec<bool> = topics.iter().map(|topic| whole.is_none() && may_write(&topic.name)).collect();
        if allowed.iter().all(|allowed| *allowed) && whole.is_none() {
            return untouched();
        }
        // All partitions or none: those that are allowed are not tried.
        let topics = topics.iter().zip(allowed).map(|(topic, allowed)| {
            let error =
                if allowed { ResponseError::OperationNotAttempted.code() } else { whole.unwrap_or(TOPIC_DENIED) };
            let partitions = topic.partitions.iter().map(|partition| {
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(*partition)
                    .with_partition_error_code(error)
            });
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(partitions.collect())
        });
        let response = AddPartitionsToTxnResponse::default();
        Verdict::Refused(response.with_results_by_topic_v3_and_below(topics.collect()))
    }
}

impl Guard for AddOffsetsToTxnRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let refuse = |error: i16| Verdict::Refused(AddOffsetsToTxnResponse::default().with_error_code(error));
        if !access.can(Operation::Write, ResourceType::TransactionalId, &self.transactional_id) {
            return refuse(TRANSACTION_DENIED);
        }
        if !access.can(Operation::Read, ResourceType::Group, &self.group_id) {
            return refuse(GROUP_DENIED);
        }
        untouched()
    }
}

impl Guard for TxnOffsetCommitRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let whole = if !access.can(Operation::Write, ResourceType::TransactionalId, &self.transactional_id) {
            Some(TRANSACTION_DENIED)
        } else if !access.can(Operation::Read, ResourceType::Group, &self.group_id) {
            Some(GROUP_DENIED)
        } else {
            None
        };
        if let Some(error) = whole {
            let topics = self.topics.iter().map(|topic| commit_denied(topic, error));
            return Verdict::Refused(TxnOffsetCommitResponse::default().with_topics(topics.collect()));
        }
        let denied = take_out(&mut self.topics, |topic| !access.can(Operation::Read, ResourceType::Topic, &topic.name));
        admitted(move |_, response: &mut Self::Response| {
            response.topics.extend(denied.iter().map(|topic| commit_denied(topic, TOPIC_DENIED)));
        })
    }
}

fn commit_denied(topic: &TxnOffsetCommitRequestTopic, error: i16) -> TxnOffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        TxnOffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(error)
    });
    TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
}

impl Guard for EndTxnRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        if access.can(Operation::Write, ResourceType::TransactionalId, &self.transactional_id) {
            return untouched();
        }
        Verdict::Refused(EndTxnResponse::default().with_error_code(TRANSACTION_DENIED))
    }
}

impl Guard for WriteTxnMarkersRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        // An administrator's tool sends it as well as nodes do.
        if access.can_quietly(Operation::Alter, ResourceType::Cluster, CLUSTER)
            || access.can_cluster(Operation::ClusterAction)
        {
            return untouched();
        }
        let markers = self.markers.iter().map(|marker| {
            let topics = marker.topics.iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|partition| {
                    WritableTxnMarkerPartitionResult::default()
                        .with_partition_index(*partition)
                        .with_error_code(CLUSTER_DENIED)
                });
                let partitions = partitions.collect();
                WritableTxnMarkerTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
            });
            WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
        });
        Verdict::Refused(WriteTxnMarkersResponse::default().with_markers(markers.collect()))
    }
}

impl Guard for DescribeTransactionsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let denied = take_out(&mut self.transactional_ids, |id| {
            !access.can(Operation::Describe, ResourceType::TransactionalId, id)
        });
        admitted(|access, response: &mut Self::Response| {
            for state in &mut response.transaction_states {
                state.topics.retain(|topic| access.can_quietly(Operation::Describe, ResourceType::Topic, &topic.topic));
            }
            response.transaction_states.extend(
                denied.into_iter().map(|id| {
                    TransactionState::default().with_transactional_id(id).with_error_code(TRANSACTION_DENIED)
                }),
            );
        })
    }
}

impl Guard for ListTransactionsRequest {
    fn guard(&mut self, _: Access<'_>, _: i16) -> Verdict<Self::Response> {
        admitted(|access, response: &mut Self::Response| {
            response.transaction_states.retain(|state| {
                access.can_quietly(Operation::Describe, ResourceType::TransactionalId, &state.transactional_id)
            });
        })
    }
}

impl Guard for DescribeProducersRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let denied = take_out(&mut self.topics, |topic| !access.can(Operation::Read, ResourceType::Topic, &topic.name));
        admitted(|_, response: &mut Self::Response| {
            response.topics.extend(denied.into_iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|partition| {
                    PartitionResponse::default()
                        .with_partition_index(*partition)
                        .with_error_code(TOPIC_DENIED)
                        .with_error_message(None)
                });
                TopicResponse::default().with_name(topic.name).with_partitions(partitions.collect())
            }));
        })
    }
}
