//! What each request needs: with exactly that it is served, with everything but that it is denied.

use std::collections::BTreeSet;

use highwater_broker::Broker;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::*;
use tempfile::TempDir;

use super::{log_in, share_rights, start_scram};
use crate::batch::Batch;
use crate::client::{Client, fetch_request, produce_request, text, topic_name};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Topic,
    Group,
    Cluster,
    TransactionalId,
}

impl Resource {
    fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Group => 3,
            Self::Cluster => 4,
            Self::TransactionalId => 5,
        }
    }

    /// Its name in these tests.
    fn name(self) -> &'static str {
        match self {
            Self::Topic => "t",
            Self::Group => "g",
            Self::Cluster => "kafka-cluster",
            Self::TransactionalId => "tx",
        }
    }

    /// The error of being denied it.
    pub(super) fn denied(self) -> i16 {
        match self {
            Self::Topic => 29,
            Self::Group => 30,
            Self::Cluster => 31,
            Self::TransactionalId => 53,
        }
    }
}

const ALL: i8 = 2;
pub(super) const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
pub(super) const DELETE: i8 = 6;
const ALTER: i8 = 7;
pub(super) const DESCRIBE: i8 = 8;
const CLUSTER_ACTION: i8 = 9;
const DESCRIBE_CONFIGS: i8 = 10;
const ALTER_CONFIGS: i8 = 11;
const IDEMPOTENT_WRITE: i8 = 12;
const DENY: i8 = 2;
pub(super) const ALLOW: i8 = 3;

use Resource::{Cluster, Group, Topic, TransactionalId};

/// A request and everything it needs.
const TABLE: &[(&str, &[(i8, Resource)])] = &[
    ("Produce", &[(WRITE, Topic)]),
    ("ProduceById", &[(WRITE, Topic)]),
    ("ProduceInTransaction", &[(WRITE, TransactionalId)]),
    ("Fetch", &[(READ, Topic)]),
    ("FetchById", &[(READ, Topic)]),
    ("ListOffsets", &[(DESCRIBE, Topic)]),
    ("OffsetForLeaderEpoch", &[(DESCRIBE, Topic)]),
    ("Metadata", &[(DESCRIBE, Topic)]),
    ("MetadataById", &[(DESCRIBE, Topic)]),
    ("DeleteRecords", &[(DELETE, Topic)]),
    ("OffsetCommit", &[(READ, Group), (READ, Topic)]),
    ("OffsetFetch7", &[(DESCRIBE, Group), (DESCRIBE, Topic)]),
    ("OffsetFetch8", &[(DESCRIBE, Group), (DESCRIBE, Topic)]),
    ("OffsetFetch1", &[(DESCRIBE, Group), (DESCRIBE, Topic)]),
    ("FindCoordinator3", &[(DESCRIBE, Group)]),
    ("FindCoordinator4", &[(DESCRIBE, Group)]),
    ("FindTransactionCoordinator", &[(DESCRIBE, TransactionalId)]),
    ("JoinGroup", &[(READ, Group)]),
    ("JoinGroup0", &[(READ, Group)]),
    ("SyncGroup", &[(READ, Group)]),
    ("Heartbeat", &[(READ, Group)]),
    ("LeaveGroup", &[(READ, Group)]),
    ("DescribeGroups", &[(DESCRIBE, Group)]),
    ("ConsumerGroupHeartbeat", &[(READ, Group), (DESCRIBE, Topic)]),
    ("ConsumerGroupDescribe", &[(DESCRIBE, Group)]),
    ("DeleteGroups", &[(DELETE, Group)]),
    ("OffsetDelete", &[(DELETE, Group), (READ, Topic)]),
    ("DeleteTopics5", &[(DELETE, Topic)]),
    ("DeleteTopics6", &[(DELETE, Topic)]),
    ("CreatePartitions", &[(ALTER, Topic)]),
    ("DescribeTopicConfigs", &[(DESCRIBE_CONFIGS, Topic)]),
    ("DescribeBrokerConfigs", &[(DESCRIBE_CONFIGS, Cluster)]),
    ("AlterTopicConfigs", &[(ALTER_CONFIGS, Topic)]),
    ("AlterBrokerConfigs", &[(ALTER_CONFIGS, Cluster)]),
    ("DescribeConfigsOfAGroup", &[(DESCRIBE_CONFIGS, Group)]),
    ("AlterConfigsOfAGroup", &[(ALTER_CONFIGS, Group)]),
    ("IncrementalAlterBrokerConfigs", &[(ALTER_CONFIGS, Cluster)]),
    ("IncrementalAlterConfigsOfAGroup", &[(ALTER_CONFIGS, Group)]),
    ("IncrementalAlterTopicConfigs", &[(ALTER_CONFIGS, Topic)]),
    ("InitProducerIdInTransaction", &[(WRITE, TransactionalId)]),
    ("AddPartitionsToTxn", &[(WRITE, TransactionalId), (WRITE, Topic)]),
    ("AddOffsetsToTxn", &[(WRITE, TransactionalId), (READ, Group)]),
    ("TxnOffsetCommit", &[(WRITE, TransactionalId), (READ, Group), (READ, Topic)]),
    ("EndTxn", &[(WRITE, TransactionalId)]),
    ("WriteTxnMarkers", &[(ALTER, Cluster)]),
    ("DescribeTransactions", &[(DESCRIBE, TransactionalId)]),
    ("DescribeProducers", &[(READ, Topic)]),
    ("DescribeLogDirs", &[(DESCRIBE, Cluster)]),
    ("CreateAcls", &[(ALTER, Cluster)]),
    ("DescribeAcls", &[(DESCRIBE, Cluster)]),
    ("DeleteAcls", &[(ALTER, Cluster)]),
    ("DescribeClientQuotas", &[(DESCRIBE_CONFIGS, Cluster)]),
    ("AlterClientQuotas", &[(ALTER_CONFIGS, Cluster)]),
    ("AlterUserScramCredentials", &[(ALTER, Cluster)]),
    ("DescribeUserScramCredentials", &[(DESCRIBE, Cluster)]),
    ("DescribeTopicPartitions", &[(DESCRIBE, Topic)]),
    ("ElectLeaders", &[(ALTER, Cluster)]),
    ("AlterPartitionReassignments", &[(ALTER, Cluster)]),
    ("ListPartitionReassignments", &[(DESCRIBE, Cluster)]),
    ("AlterReplicaLogDirs", &[(ALTER, Cluster)]),
    ("ListConfigResources", &[(DESCRIBE_CONFIGS, Cluster)]),
];

/// Makes a request; answers its error, of the first item where it has several.
async fn ask(client: &mut Client, what: &str, id: uuid::Uuid) -> i16 {
    match what {
        _ if what.contains("Txn") || what == "DescribeTransactions" => ask_for_transactions(client, what).await,
        _ if what.starts_with("Share") => share_rights::ask(client, what, id).await,
        _ if what.starts_with("Offset") => ask_for_offsets(client, what).await,
        _ if what.contains("Configs") => ask_for_configs(client, what).await,
        _ if what.contains("Group") || what.contains("Heartbeat") => ask_for_groups(client, what).await,
        "DescribeTopicPartitions" | "ElectLeaders" | "AlterReplicaLogDirs" | "ListConfigResources" => {
            ask_for_places(client, what).await
        }
        _ if what.contains("Reassignments") => ask_for_places(client, what).await,
        _ if what.contains("Acls") || what.contains("Scram") || what.contains("Quotas") => {
            ask_for_rights(client, what).await
        }
        _ if what.contains("Coordinator") || what.contains("InitProducerId") => {
            ask_for_coordinators(client, what).await
        }
        _ => ask_for_topics(client, what, id).await,
    }
}

async fn ask_for_places(client: &mut Client, what: &str) -> i16 {
    match what {
        "DescribeTopicPartitions" => {
            let topic = describe_topic_partitions_request::TopicRequest::default().with_name(topic_name("t"));
            let request = DescribeTopicPartitionsRequest::default().with_topics(vec![topic]);
            client.call(&request, 0).await.topics[0].error_code
        }
        "ElectLeaders" => client.call(&ElectLeadersRequest::default().with_topic_partitions(None), 2).await.error_code,
        "AlterPartitionReassignments" => {
            client.call(&AlterPartitionReassignmentsRequest::default(), 0).await.error_code
        }
        "ListPartitionReassignments" => {
            client.call(&ListPartitionReassignmentsRequest::default().with_topics(None), 0).await.error_code
        }
        "AlterReplicaLogDirs" => {
            let topic = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![7]);
            let folder = alter_replica_log_dirs_request::AlterReplicaLogDir::default().with_topics(vec![topic]);
            let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![folder]);
            client.call(&request, 2).await.results[0].partitions[0].error_code
        }
        _ => client.call(&ListConfigResourcesRequest::default(), 1).await.error_code,
    }
}

async fn ask_for_topics(client: &mut Client, what: &str, id: uuid::Uuid) -> i16 {
    match what {
        "Produce" => client.produce("t", Batch::of(["v"]).bytes()).await.error_code,
        "ProduceById" => {
            let mut request = produce_request("", Batch::of(["v"]).bytes(), 1);
            request.topic_data[0].topic_id = id;
            let response = client.call(&request, 13).await;
            assert_eq!(response.responses[0].topic_id, id);
            response.responses[0].partition_responses[0].error_code
        }
        "ProduceInTransaction" => {
            let request = produce_request("t", Batch::of(["v"]).bytes(), 1);
            let request = request.with_transactional_id(Some(text("tx").into()));
            client.call(&request, 9).await.responses[0].partition_responses[0].error_code
        }
        "Fetch" => client.fetch(&fetch_request("t", 0, 0, 0)).await.responses[0].partitions[0].error_code,
        "FetchById" => {
            let mut request = fetch_request("", 0, 0, 0);
            request.topics[0].topic_id = id;
            let response = client.call(&request, 13).await;
            assert_eq!(response.responses[0].topic_id, id);
            response.responses[0].partitions[0].error_code
        }
        "ListOffsets" => {
            let topic = list_offsets_request::ListOffsetsTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1)]);
            let response = client.call(&ListOffsetsRequest::default().with_topics(vec![topic]), 7).await;
            response.topics[0].partitions[0].error_code
        }
        "Metadata" | "MetadataById" => {
            let topic = metadata_request::MetadataRequestTopic::default();
            let topic = if what == "Metadata" {
                topic.with_name(Some(topic_name("t")))
            } else {
                topic.with_name(None).with_topic_id(id)
            };
            let response = client.call(&MetadataRequest::default().with_topics(Some(vec![topic])), 12).await;
            response.topics[0].error_code
        }
        "DescribeProducers" => {
            let topic = describe_producers_request::TopicRequest::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![0]);
            let response = client.call(&DescribeProducersRequest::default().with_topics(vec![topic]), 0).await;
            response.topics[0].partitions[0].error_code
        }
        "DeleteRecords" => {
            let topic = delete_records_request::DeleteRecordsTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![delete_records_request::DeleteRecordsPartition::default()]);
            let response = client.call(&DeleteRecordsRequest::default().with_topics(vec![topic]), 2).await;
            response.topics[0].partitions[0].error_code
        }
        "DeleteTopics5" => {
            let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]);
            client.call(&request, 5).await.responses[0].error_code
        }
        "DeleteTopics6" => {
            let topic = delete_topics_request::DeleteTopicState::default().with_name(Some(topic_name("t")));
            client.call(&DeleteTopicsRequest::default().with_topics(vec![topic]), 6).await.responses[0].error_code
        }
        "CreatePartitions" => {
            let topic = create_partitions_request::CreatePartitionsTopic::default()
                .with_name(topic_name("t"))
                .with_count(5)
                .with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(true);
            client.call(&request, 3).await.results[0].error_code
        }
        "DescribeLogDirs" => client.call(&DescribeLogDirsRequest::default().with_topics(None), 4).await.error_code,
        _ => panic!("{what}"),
    }
}

async fn ask_for_transactions(client: &mut Client, what: &str) -> i16 {
    let (id, group) = (|| text("tx").into(), || GroupId(text("g")));
    match what {
        "AddPartitionsToTxn" => {
            let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![0]);
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(id())
                .with_v3_and_below_topics(vec![topic]);
            let response = client.call(&request, 3).await;
            response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        }
        "AddOffsetsToTxn" => {
            let request = AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(group());
            client.call(&request, 3).await.error_code
        }
        "TxnOffsetCommit" => {
            let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
            let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![partition]);
            let request = TxnOffsetCommitRequest::default()
                .with_transactional_id(id())
                .with_group_id(group())
                .with_topics(vec![topic]);
            client.call(&request, 3).await.topics[0].partitions[0].error_code
        }
        "EndTxn" => client.call(&EndTxnRequest::default().with_transactional_id(id()), 3).await.error_code,
        "WriteTxnMarkers" => {
            let topic = write_txn_markers_request::WritableTxnMarkerTopic::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![9]);
            let marker = write_txn_markers_request::WritableTxnMarker::default().with_topics(vec![topic]);
            let response = client.call(&WriteTxnMarkersRequest::default().with_markers(vec![marker]), 1).await;
            response.markers[0].topics[0].partitions[0].error_code
        }
        "DescribeTransactions" => {
            let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]);
            client.call(&request, 0).await.transaction_states[0].error_code
        }
        _ => panic!("{what}"),
    }
}

async fn ask_for_offsets(client: &mut Client, what: &str) -> i16 {
    let group = || GroupId(text("g"));
    match what {
        "OffsetForLeaderEpoch" => {
            let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(topic_name("t"))
                .with_partitions(vec![offset_for_leader_epoch_request::OffsetForLeaderPartition::default()]);
            let response = client.call(&OffsetForLeaderEpochRequest::default().with_topics(vec![topic]), 4).await;
            response.topics[0].partitions[0].error_code
        }
        "OffsetCommit" => {
            let partition = offset_commit_request::OffsetCommitRequestPartition::default();
            let topic = offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![partition]);
            let request = OffsetCommitRequest::default()
                .with_group_id(group())
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![topic]);
            client.call(&request, 8).await.topics[0].partitions[0].error_code
        }
        "OffsetFetch1" | "OffsetFetch7" => {
            let version = if what == "OffsetFetch1" { 1 } else { 7 };
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![0]);
            let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
            let response = client.call(&request, version).await;
            if response.error_code != 0 { response.error_code } else { response.topics[0].partitions[0].error_code }
        }
        "OffsetFetch8" => {
            let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![0]);
            let asked = offset_fetch_request::OffsetFetchRequestGroup::default()
                .with_group_id(group())
                .with_topics(Some(vec![topic]));
            let response = client.call(&OffsetFetchRequest::default().with_groups(vec![asked]), 8).await;
            let group = &response.groups[0];
            if group.error_code != 0 { group.error_code } else { group.topics[0].partitions[0].error_code }
        }
        "OffsetDelete" => {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
            let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![partition]);
            let request = OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic]);
            let response = client.call(&request, 0).await;
            if response.error_code != 0 { response.error_code } else { response.topics[0].partitions[0].error_code }
        }
        _ => panic!("{what}"),
    }
}

/// A member of the consumer protocol that joins the group, and subscribes to nothing yet.
fn consumer_join(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(Some(Vec::new()))
}

async fn ask_for_groups(client: &mut Client, what: &str) -> i16 {
    let group = || GroupId(text("g"));
    match what {
        "JoinGroup" | "JoinGroup0" => {
            // Without protocols nobody joins, which comes after the rights.
            let version = if what == "JoinGroup" { 9 } else { 0 };
            client.call(&JoinGroupRequest::default().with_group_id(group()), version).await.error_code
        }
        "SyncGroup" => client.call(&SyncGroupRequest::default().with_group_id(group()), 5).await.error_code,
        "Heartbeat" => client.call(&HeartbeatRequest::default().with_group_id(group()), 4).await.error_code,
        "LeaveGroup" => client.call(&LeaveGroupRequest::default().with_group_id(group()), 5).await.error_code,
        "DescribeGroups" => {
            client.call(&DescribeGroupsRequest::default().with_groups(vec![group()]), 5).await.groups[0].error_code
        }
        "ConsumerGroupHeartbeat" => {
            // With an assignor nobody has nobody joins, which comes after the rights.
            let request = consumer_join("m").with_server_assignor(Some(text("nobody's")));
            client.call(&request.with_subscribed_topic_names(Some(vec![topic_name("t")])), 1).await.error_code
        }
        "ConsumerGroupDescribe" => {
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
            client.call(&request, 1).await.groups[0].error_code
        }
        "DeleteGroups" => {
            // Also a group there is not has to be allowed.
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
            client.call(&request, 2).await.results[0].error_code
        }
        _ => panic!("{what}"),
    }
}

async fn ask_for_configs(client: &mut Client, what: &str) -> i16 {
    let (kind, name) = match what {
        _ if what.contains("Topic") => (2, text("t")),
        _ if what.contains("Broker") => (4, text("0")),
        _ => (32, text("g")),
    };
    if what.starts_with("Describe") {
        let resource = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(name);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        return client.call(&request, 4).await.results[0].error_code;
    }
    if what.starts_with("Incremental") {
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(name);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        return client.call(&request, 1).await.responses[0].error_code;
    }
    let resource =
        alter_configs_request::AlterConfigsResource::default().with_resource_type(kind).with_resource_name(name);
    client.call(&AlterConfigsRequest::default().with_resources(vec![resource]), 2).await.responses[0].error_code
}

async fn ask_for_rights(client: &mut Client, what: &str) -> i16 {
    match what {
        "CreateAcls" => {
            let request = CreateAclsRequest::default().with_creations(vec![AclCreation::default()]);
            client.call(&request, 3).await.results[0].error_code
        }
        "AlterClientQuotas" => {
            let entry = alter_client_quotas_request::EntryData::default();
            let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
            client.call(&request, 1).await.entries[0].error_code
        }
        "DescribeClientQuotas" => client.call(&DescribeClientQuotasRequest::default(), 1).await.error_code,
        "DescribeAcls" => client.call(&DescribeAclsRequest::default(), 3).await.error_code,
        "DeleteAcls" => {
            let request = DeleteAclsRequest::default().with_filters(vec![DeleteAclsFilter::default()]);
            client.call(&request, 3).await.filter_results[0].error_code
        }
        "AlterUserScramCredentials" => {
            let nobody = alter_user_scram_credentials_request::ScramCredentialDeletion::default();
            let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![nobody]);
            client.call(&request, 0).await.results[0].error_code
        }
        "DescribeUserScramCredentials" => {
            client.call(&DescribeUserScramCredentialsRequest::default(), 0).await.error_code
        }
        _ => panic!("{what}"),
    }
}

async fn ask_for_coordinators(client: &mut Client, what: &str) -> i16 {
    match what {
        "FindCoordinator3" => client.call(&FindCoordinatorRequest::default().with_key(text("g")), 3).await.error_code,
        "FindCoordinator4" => {
            let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
            client.call(&request, 4).await.coordinators[0].error_code
        }
        "FindTransactionCoordinator" => {
            let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("tx")]).with_key_type(1);
            client.call(&request, 4).await.coordinators[0].error_code
        }
        "InitProducerIdInTransaction" => {
            let id = Some(text("tx").into());
            let request = InitProducerIdRequest::default().with_transactional_id(id).with_transaction_timeout_ms(1000);
            client.call(&request, 4).await.error_code
        }
        "InitProducerId" => {
            client.call(&InitProducerIdRequest::default().with_transactional_id(None), 4).await.error_code
        }
        _ => panic!("{what}"),
    }
}

pub(super) fn rule(permission: i8, operation: i8, resource: Resource, name: &str) -> AclCreation {
    AclCreation::default()
        .with_resource_type(resource.code())
        .with_resource_name(text(name))
        .with_resource_pattern_type(3)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(operation)
        .with_permission_type(permission)
}

/// Root and alice, who has no rights yet; and a topic with a group that reads it.
pub(super) struct World {
    pub(super) root: Client,
    pub(super) alice: Client,
    /// Of the topic.
    id: uuid::Uuid,
    _broker: Broker,
    _dir: TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let (dir, broker) = start_scram(&["root", "alice"]).await;
        let (root, alice) = (log_in(&broker, "root").await, log_in(&broker, "alice").await);
        let mut world = Self { root, alice, id: uuid::Uuid::nil(), _broker: broker, _dir: dir };
        world.restore().await;
        world
    }

    /// The topic and the group, if the last request took them away.
    async fn restore(&mut self) {
        self.root.create("t").await;
        assert_eq!(ask_for_offsets(&mut self.root, "OffsetCommit").await, 0);
        let all = self.root.call(&MetadataRequest::default().with_topics(None), 12).await;
        self.id = all.topics.iter().find(|topic| topic.name == Some(topic_name("t"))).unwrap().topic_id;
    }

    /// Exactly these rules.
    pub(super) async fn rules(&mut self, rules: Vec<AclCreation>) {
        let all = DeleteAclsFilter::default()
            .with_resource_type_filter(1)
            .with_resource_name_filter(None)
            .with_pattern_type_filter(1)
            .with_principal_filter(None)
            .with_host_filter(None)
            .with_operation(1)
            .with_permission_type(1);
        self.root.call(&DeleteAclsRequest::default().with_filters(vec![all]), 3).await;
        let created = self.root.call(&CreateAclsRequest::default().with_creations(rules), 3).await;
        assert!(created.results.iter().all(|result| result.error_code == 0), "{created:?}");
    }

    pub(super) async fn ask(&mut self, what: &str) -> i16 {
        ask(&mut self.alice, what, self.id).await
    }

    /// A request is denied without any one of what it needs, and served with exactly that.
    pub(super) async fn check(&mut self, what: &str, needs: &[(i8, Resource)]) {
        let denials = BTreeSet::from([Topic, Group, Cluster, TransactionalId].map(Resource::denied));
        for &(operation, resource) in needs {
            let everything = [Topic, Group, Cluster, TransactionalId].map(|resource| {
                let name = if resource == Cluster { resource.name() } else { "*" };
                rule(ALLOW, ALL, resource, name)
            });
            let mut rules = everything.to_vec();
            rules.push(rule(DENY, operation, resource, resource.name()));
            // What nodes of a cluster may do to each other is another way in.
            rules.push(rule(DENY, CLUSTER_ACTION, Cluster, Cluster.name()));
            self.rules(rules).await;
            assert_eq!(self.ask(what).await, resource.denied(), "{what} without {operation} of {resource:?}");
        }
        // The topic of a transaction is not what this is about.
        let extra = (what == "ProduceInTransaction").then(|| rule(ALLOW, WRITE, Topic, "t"));
        let exactly = needs.iter().map(|(operation, resource)| rule(ALLOW, *operation, *resource, resource.name()));
        self.rules(exactly.chain(extra).collect()).await;
        let code = self.ask(what).await;
        assert!(!denials.contains(&code), "{what} with all it needs: {code}");
    }
}

#[tokio::test]
async fn each_request_needs_what_the_table_says_and_nothing_else() {
    let mut world = World::new().await;
    for (what, needs) in TABLE {
        world.check(what, needs).await;
        world.restore().await;
    }
}

#[tokio::test]
async fn without_any_rule_nothing_is_allowed_and_nothing_is_seen() {
    let mut world = World::new().await;
    assert_eq!(ask_for_coordinators(&mut world.root, "InitProducerIdInTransaction").await, 0);
    for (what, needs) in TABLE {
        assert_eq!(world.ask(what).await, needs[0].1.denied(), "{what}");
    }
    let alice = &mut world.alice;
    assert!(alice.call(&MetadataRequest::default().with_topics(None), 12).await.topics.is_empty());
    assert!(alice.call(&MetadataRequest::default().with_topics(Some(vec![])), 0).await.topics.is_empty());
    assert!(alice.call(&ListGroupsRequest::default(), 4).await.groups.is_empty());
    assert_eq!(world.root.call(&ListTransactionsRequest::default(), 1).await.transaction_states.len(), 1);
    assert!(alice.call(&ListTransactionsRequest::default(), 1).await.transaction_states.is_empty());
    // In version 0 nothing left of a request would mean everything.
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let response = alice.call(&MetadataRequest::default().with_topics(Some(vec![topic])), 0).await;
    assert_eq!(response.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [29]);
    // Where there are only acks to withhold, the connection ends.
    alice.send(&produce_request("t", Batch::of(["v"]).bytes(), 0), 9).await;
    assert!(alice.receive_frame().await.is_none());
    assert!(world.root.read_all("t", 0).await.is_empty());
}

#[tokio::test]
async fn what_is_not_named_is_filtered() {
    let mut world = World::new().await;
    world.root.create("u").await;
    let commit = |group: &'static str| {
        let partition = offset_commit_request::OffsetCommitRequestPartition::default();
        let of = |name| {
            offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(vec![partition.clone()])
        };
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![of("t"), of("u")])
    };
    for group in ["g", "h"] {
        world.root.call(&commit(group), 8).await;
    }
    world.rules(vec![rule(ALLOW, DESCRIBE, Topic, "t"), rule(ALLOW, DESCRIBE, Group, "g")]).await;
    let alice = &mut world.alice;
    let topics = alice.call(&MetadataRequest::default().with_topics(None), 12).await.topics;
    assert_eq!(topics.iter().map(|topic| topic.name.clone()).collect::<Vec<_>>(), [Some(topic_name("t"))]);
    let groups = alice.call(&ListGroupsRequest::default(), 4).await.groups;
    assert_eq!(groups.iter().map(|group| group.group_id.clone()).collect::<Vec<_>>(), [GroupId(text("g"))]);
    let asked = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g")));
    let request = OffsetFetchRequest::default().with_groups(vec![asked.with_topics(None)]);
    let found = alice.call(&request, 8).await.groups.remove(0).topics;
    assert_eq!(found.iter().map(|topic| topic.name.clone()).collect::<Vec<_>>(), [topic_name("t")]);
    let request = OffsetFetchRequest::default().with_group_id(GroupId(text("g"))).with_topics(None);
    assert_eq!(alice.call(&request, 7).await.topics.len(), 1);
    // Who may describe the cluster sees every group.
    world.rules(vec![rule(ALLOW, DESCRIBE, Cluster, "kafka-cluster")]).await;
    assert_eq!(world.alice.call(&ListGroupsRequest::default(), 4).await.groups.len(), 2);
}

#[tokio::test]
async fn a_pattern_finds_the_topics_its_reader_may_see() {
    let mut world = World::new().await;
    world.root.create("t2").await;
    world.rules(vec![rule(ALLOW, DESCRIBE, Topic, "t2"), rule(ALLOW, READ, Group, "g")]).await;
    let by_pattern = |member| consumer_join(member).with_subscribed_topic_regex(Some(text("t.*")));
    let topics = |response: ConsumerGroupHeartbeatResponse| response.assignment.unwrap().topic_partitions;
    let all = topics(world.root.call(&by_pattern("root"), 1).await);
    assert_eq!(all.len(), 2);
    let leave = consumer_join("root").with_member_epoch(-1);
    world.root.call(&leave, 1).await;
    let found = topics(world.alice.call(&by_pattern("alice"), 1).await);
    assert_eq!(found.len(), 1);
    assert_ne!(found[0].topic_id, world.id, "the other one");

    // A group is described to those who may see all its topics.
    let ask = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("g"))]);
    let ask = ask.with_include_authorized_operations(true);
    let described = world.alice.call(&ask, 1).await.groups.remove(0);
    assert_eq!((described.error_code, described.members.len()), (0, 1));
    assert_eq!(described.authorized_operations, 1 << READ | 1 << DESCRIBE);
    world.root.call(&by_pattern("root"), 1).await;
    let described = world.alice.call(&ask, 1).await.groups.remove(0);
    assert_eq!((described.error_code, described.members.len()), (Topic.denied(), 0));
    assert!(described.error_message.is_some_and(|message| message.contains("may not describe")));
}

#[tokio::test]
async fn a_part_of_a_request_is_denied_and_the_rest_is_done() {
    let mut world = World::new().await;
    world.root.create("u").await;
    world.rules(vec![rule(ALLOW, WRITE, Topic, "t"), rule(ALLOW, READ, Topic, "t")]).await;
    let mut request = produce_request("u", Batch::of(["denied"]).bytes(), -1);
    request.topic_data.extend(produce_request("t", Batch::of(["done"]).bytes(), -1).topic_data);
    let mut codes: Vec<(String, i16)> = world
        .alice
        .call(&request, 9)
        .await
        .responses
        .iter()
        .map(|topic| (topic.name.to_string(), topic.partition_responses[0].error_code))
        .collect();
    codes.sort();
    assert_eq!(codes, [("t".to_owned(), 0), ("u".to_owned(), 29)]);
    assert_eq!(world.root.read_all("t", 0).await, ["done"]);
    assert!(world.root.read_all("u", 0).await.is_empty());
    let mut request = fetch_request("u", 0, 60_000, 1);
    request.topics.extend(fetch_request("t", 0, 0, 0).topics);
    let response = world.alice.fetch(&request).await;
    let found: Vec<(&str, i16)> =
        response.responses.iter().map(|topic| (topic.topic.as_str(), topic.partitions[0].error_code)).collect();
    assert_eq!(found, [("t", 0), ("u", 29)]);
}

#[tokio::test]
async fn topics_are_created_by_those_who_may() {
    let mut world = World::new().await;
    let create = |name: &str| {
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(1)
            .with_replication_factor(1);
        CreateTopicsRequest::default().with_topics(vec![topic])
    };
    let by_metadata = |name: &str| {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    assert_eq!(world.alice.call(&create("a"), 7).await.topics[0].error_code, 29);
    world.rules(vec![rule(ALLOW, DESCRIBE, Topic, "*")]).await;
    assert_eq!(world.alice.call(&by_metadata("a"), 9).await.topics[0].error_code, 29);
    assert!(world.root.call(&MetadataRequest::default().with_topics(None), 9).await.topics.len() == 1);
    for (at, right) in
        [rule(ALLOW, CREATE, Topic, "*"), rule(ALLOW, CREATE, Cluster, "kafka-cluster")].into_iter().enumerate()
    {
        world.rules(vec![right, rule(ALLOW, DESCRIBE, Topic, "*")]).await;
        let created = world.alice.call(&create(&format!("created{at}")), 7).await.topics.remove(0);
        assert_eq!((created.error_code, created.topic_config_error_code, created.num_partitions), (0, 29, -1));
        assert_eq!(world.alice.call(&by_metadata(&format!("named{at}")), 9).await.topics[0].error_code, 0);
    }
    world.rules(vec![rule(ALLOW, CREATE, Topic, "b"), rule(ALLOW, DESCRIBE_CONFIGS, Topic, "b")]).await;
    let created = world.alice.call(&create("b"), 7).await.topics.remove(0);
    assert_eq!((created.error_code, created.topic_config_error_code, created.num_partitions), (0, 0, 1));
}

#[tokio::test]
async fn producer_ids_are_for_those_who_write_anything() {
    let mut world = World::new().await;
    for (rules, expected) in [
        (vec![], 31),
        (vec![rule(ALLOW, READ, Topic, "*")], 31),
        (vec![rule(ALLOW, WRITE, Topic, "some")], 0),
        (vec![rule(ALLOW, WRITE, Topic, "some"), rule(DENY, WRITE, Topic, "*")], 31),
        (vec![rule(ALLOW, IDEMPOTENT_WRITE, Cluster, "kafka-cluster")], 0),
    ] {
        world.rules(rules.clone()).await;
        assert_eq!(world.ask("InitProducerId").await, expected, "{rules:?}");
    }
}

#[tokio::test]
async fn operations_are_told_as_bits_to_those_who_ask() {
    let mut world = World::new().await;
    let bits = |operations: &[i8]| operations.iter().fold(0, |bits, operation| bits | 1 << operation);
    world
        .rules(vec![
            rule(ALLOW, WRITE, Topic, "t"),
            rule(ALLOW, READ, Group, "g"),
            rule(ALLOW, ALTER, Cluster, "kafka-cluster"),
        ])
        .await;
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    for asked in [true, false] {
        let told = |operations: i32| if asked { operations } else { i32::MIN };
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic.clone()]))
            .with_include_topic_authorized_operations(asked)
            .with_include_cluster_authorized_operations(asked);
        let metadata = world.alice.call(&request, 10).await;
        assert_eq!(metadata.topics[0].topic_authorized_operations, told(bits(&[WRITE, DESCRIBE])));
        assert_eq!(metadata.cluster_authorized_operations, told(bits(&[ALTER, DESCRIBE])));
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(asked);
        let cluster = world.alice.call(&request, 0).await;
        assert_eq!(cluster.cluster_authorized_operations, told(bits(&[ALTER, DESCRIBE])));
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![GroupId(text("g"))])
            .with_include_authorized_operations(asked);
        let groups = world.alice.call(&request, 5).await;
        assert_eq!(groups.groups[0].authorized_operations, told(bits(&[READ, DESCRIBE])));
    }
    // The cluster's are for those who may describe it; where there are no rules, they are all there are.
    world.rules(vec![]).await;
    let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    assert_eq!(world.alice.call(&request, 0).await.cluster_authorized_operations, 0);
    let (_dir, _broker, mut anybody) = crate::start().await;
    let all = bits(&[CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE]);
    assert_eq!(anybody.call(&request, 0).await.cluster_authorized_operations, all);
}
