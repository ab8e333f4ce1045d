//! The shapes against the codec: what it encodes must be walked exactly to its end, and what the
//! walk lets through must never hurt the decoder.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::super::api::{SERVED, Served};
use super::super::share::{codec_version, to_known};
use super::*;

const LIMIT: usize = 1000;

fn encode<T: Encodable>(body: &T, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    body.encode(&mut bytes, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
    bytes.freeze()
}

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// A request of version 1 as this version has it, with what is new in version 2 at its place.
fn share_request(known: &Bytes, version: i16, at: usize, new: &[u8]) -> Bytes {
    if version < 2 { known.clone() } else { [&known[..at], new, &known[at..]].concat().into() }
}

/// A request of this API with two of everything that repeats, in this version.
fn full(key: ApiKey, v: i16) -> Bytes {
    match key {
        ApiKey::Produce => {
            let partition = produce_request::PartitionProduceData::default()
                .with_index(1)
                .with_records(Some(Bytes::from_static(b"records")));
            let topic = produce_request::TopicProduceData::default()
                .with_partition_data(vec![partition.clone(), partition.with_records(None)]);
            let topic = if v >= 13 { topic.with_topic_id(Uuid::from_u128(1)) } else { topic.with_name(name("t")) };
            let body = ProduceRequest::default()
                .with_transactional_id(Some(TransactionalId(text("tx"))))
                .with_topic_data(vec![topic.clone(), topic]);
            encode(&body, v)
        }
        ApiKey::Fetch => {
            let mut partition = fetch_request::FetchPartition::default();
            if v >= 17 {
                partition.replica_directory_id = Uuid::from_u128(7);
            }
            let (mut topic, mut gone) =
                (fetch_request::FetchTopic::default(), fetch_request::ForgottenTopic::default());
            if v >= 13 {
                (topic.topic_id, gone.topic_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
            } else {
                (topic.topic, gone.topic) = (name("t"), name("gone"));
            }
            topic.partitions = vec![partition.clone(), partition];
            gone.partitions = vec![1, 2];
            let mut body = FetchRequest::default().with_topics(vec![topic.clone(), topic]);
            if v >= 7 {
                body.forgotten_topics_data = vec![gone];
            }
            if v >= 12 {
                body.cluster_id = Some(text("cluster"));
            }
            if v >= 15 {
                body.replica_state = fetch_request::ReplicaState::default().with_replica_epoch(5);
            }
            encode(&body, v)
        }
        ApiKey::ListOffsets => {
            let partition = list_offsets_request::ListOffsetsPartition::default();
            let topic = list_offsets_request::ListOffsetsTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition.clone(), partition]);
            encode(&ListOffsetsRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::AlterConfigs => {
            let config = alter_configs_request::AlterableConfig::default().with_name(text("a"));
            let resource =
                alter_configs_request::AlterConfigsResource::default().with_configs(vec![config.clone(), config]);
            encode(&AlterConfigsRequest::default().with_resources(vec![resource.clone(), resource]), v)
        }
        ApiKey::DeleteRecords => {
            let partition = delete_records_request::DeleteRecordsPartition::default();
            let topic = delete_records_request::DeleteRecordsTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition.clone(), partition]);
            encode(&DeleteRecordsRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::DescribeLogDirs => {
            let topic = describe_log_dirs_request::DescribableLogDirTopic::default()
                .with_topic(name("t"))
                .with_partitions(vec![1, 2]);
            encode(&DescribeLogDirsRequest::default().with_topics(Some(vec![topic.clone(), topic])), v)
        }
        ApiKey::DescribeTopicPartitions => {
            let topic = describe_topic_partitions_request::TopicRequest::default().with_name(name("t"));
            let cursor = describe_topic_partitions_request::Cursor::default().with_topic_name(name("t"));
            let request = DescribeTopicPartitionsRequest::default().with_topics(vec![topic.clone(), topic]);
            encode(&request.with_cursor(Some(cursor)), v)
        }
        ApiKey::ElectLeaders => {
            let topic =
                elect_leaders_request::TopicPartitions::default().with_topic(name("t")).with_partitions(vec![1, 2]);
            encode(&ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic.clone(), topic])), v)
        }
        ApiKey::AlterPartitionReassignments => {
            let partition = alter_partition_reassignments_request::ReassignablePartition::default()
                .with_replicas(Some(vec![BrokerId(0), BrokerId(1)]));
            let topic = alter_partition_reassignments_request::ReassignableTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition.clone(), partition.with_replicas(None)]);
            encode(&AlterPartitionReassignmentsRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::ListPartitionReassignments => {
            let topic = list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
                .with_name(name("t"))
                .with_partition_indexes(vec![1, 2]);
            encode(&ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic.clone(), topic])), v)
        }
        ApiKey::AlterReplicaLogDirs => {
            let topic = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![1, 2]);
            let dir = alter_replica_log_dirs_request::AlterReplicaLogDir::default()
                .with_path(text("d"))
                .with_topics(vec![topic.clone(), topic]);
            encode(&AlterReplicaLogDirsRequest::default().with_dirs(vec![dir.clone(), dir]), v)
        }
        ApiKey::ListConfigResources => {
            let kinds = if v == 0 { vec![] } else { vec![2, 4] };
            encode(&ListConfigResourcesRequest::default().with_resource_types(kinds), v)
        }
        ApiKey::OffsetDelete => {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
            let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition.clone(), partition]);
            encode(&OffsetDeleteRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::Metadata => {
            let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(name("t")));
            encode(&MetadataRequest::default().with_topics(Some(vec![topic.clone(), topic])), v)
        }
        ApiKey::OffsetCommit => {
            let partition =
                offset_commit_request::OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("m")));
            let topic = offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition.clone(), partition]);
            let body = OffsetCommitRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![topic]);
            encode(&body, v)
        }
        ApiKey::OffsetFetch if v >= 8 => {
            let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
                .with_name(name("t"))
                .with_partition_indexes(vec![1, 2]);
            let group = offset_fetch_request::OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text("g")))
                .with_topics(Some(vec![topic]));
            encode(&OffsetFetchRequest::default().with_groups(vec![group.clone(), group.with_topics(None)]), v)
        }
        ApiKey::OffsetFetch => {
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(name("t"))
                .with_partition_indexes(vec![1, 2]);
            let body = OffsetFetchRequest::default().with_group_id(GroupId(text("g"))).with_topics(Some(vec![topic]));
            encode(&body, v)
        }
        ApiKey::FindCoordinator if v >= 4 => {
            encode(&FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]), v)
        }
        ApiKey::FindCoordinator => encode(&FindCoordinatorRequest::default().with_key(text("a")), v),
        ApiKey::JoinGroup => {
            let protocol = join_group_request::JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"metadata"));
            let mut body = JoinGroupRequest::default().with_protocols(vec![protocol.clone(), protocol]);
            if v >= 5 {
                body.group_instance_id = Some(text("i"));
            }
            encode(&body, v)
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let topic = consumer_group_heartbeat_request::TopicPartitions::default().with_partitions(vec![1, 2]);
            let mut body = ConsumerGroupHeartbeatRequest::default()
                .with_member_id(text("m"))
                .with_instance_id(Some(text("i")))
                .with_rack_id(Some(text("r")))
                .with_server_assignor(Some(text("uniform")))
                .with_subscribed_topic_names(Some(vec![name("a"), name("b")]))
                .with_topic_partitions(Some(vec![topic.clone(), topic]));
            if v >= 1 {
                body.subscribed_topic_regex = Some(text("a.*"));
            }
            encode(&body, v)
        }
        ApiKey::ConsumerGroupDescribe => {
            let ids = vec![GroupId(text("a")), GroupId(text("b"))];
            encode(&ConsumerGroupDescribeRequest::default().with_group_ids(ids), v)
        }
        ApiKey::ShareGroupHeartbeat => {
            let body = ShareGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text("g")))
                .with_member_id(text("m"))
                .with_rack_id(Some(text("r")))
                .with_subscribed_topic_names(Some(vec![name("a"), name("b")]));
            encode(&body, v)
        }
        ApiKey::ShareGroupDescribe => {
            let ids = vec![GroupId(text("a")), GroupId(text("b"))];
            encode(&ShareGroupDescribeRequest::default().with_group_ids(ids), v)
        }
        ApiKey::ShareFetch => {
            let batch = share_fetch_request::AcknowledgementBatch::default().with_acknowledge_types(vec![1, 2]);
            let partition =
                share_fetch_request::FetchPartition::default().with_acknowledgement_batches(vec![batch.clone(), batch]);
            let topic = share_fetch_request::FetchTopic::default().with_partitions(vec![partition.clone(), partition]);
            let gone = share_fetch_request::ForgottenTopic::default().with_partitions(vec![1, 2]);
            let body = ShareFetchRequest::default()
                .with_group_id(Some(GroupId(text("g"))))
                .with_member_id(Some(text("m")))
                .with_topics(vec![topic.clone(), topic])
                .with_forgotten_topics_data(vec![gone.clone(), gone]);
            // Group and member, two bytes each, and six numbers stand before what is new.
            share_request(&encode(&body, 1), v, 4 + 6 * 4, &[1, 1])
        }
        ApiKey::ShareAcknowledge => {
            let batch = share_acknowledge_request::AcknowledgementBatch::default().with_acknowledge_types(vec![1, 2]);
            let partition = share_acknowledge_request::AcknowledgePartition::default()
                .with_acknowledgement_batches(vec![batch.clone(), batch]);
            let topic = share_acknowledge_request::AcknowledgeTopic::default()
                .with_partitions(vec![partition.clone(), partition]);
            let body = ShareAcknowledgeRequest::default()
                .with_group_id(Some(GroupId(text("g"))))
                .with_member_id(Some(text("m")))
                .with_topics(vec![topic.clone(), topic]);
            share_request(&encode(&body, 1), v, 4 + 4, &[1])
        }
        ApiKey::DescribeShareGroupOffsets => {
            let topic = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(name("t"))
                .with_partitions(vec![1, 2]);
            let group = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
                .with_topics(Some(vec![topic.clone(), topic]));
            let groups = vec![group.clone(), group.with_topics(None)];
            encode(&DescribeShareGroupOffsetsRequest::default().with_groups(groups), v)
        }
        ApiKey::AlterShareGroupOffsets => {
            let partition = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestPartition::default();
            let topic = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(name("t"))
                .with_partitions(vec![partition.clone(), partition]);
            encode(&AlterShareGroupOffsetsRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::DeleteShareGroupOffsets => {
            let topic = delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default()
                .with_topic_name(name("t"));
            encode(&DeleteShareGroupOffsetsRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::Heartbeat => encode(&HeartbeatRequest::default().with_member_id(text("m")), v),
        ApiKey::LeaveGroup if v >= 3 => {
            let member = leave_group_request::MemberIdentity::default().with_member_id(text("m"));
            encode(&LeaveGroupRequest::default().with_members(vec![member.clone(), member]), v)
        }
        ApiKey::LeaveGroup => encode(&LeaveGroupRequest::default().with_member_id(text("m")), v),
        ApiKey::SyncGroup => {
            let assignment = sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(text("m"))
                .with_assignment(Bytes::from_static(b"assignment"));
            encode(&SyncGroupRequest::default().with_assignments(vec![assignment.clone(), assignment]), v)
        }
        ApiKey::DescribeGroups => {
            encode(&DescribeGroupsRequest::default().with_groups(vec![GroupId(text("a")), GroupId(text("b"))]), v)
        }
        ApiKey::ListGroups => {
            let mut body = ListGroupsRequest::default();
            if v >= 4 {
                body.states_filter = vec![text("Stable"), text("Empty")];
            }
            encode(&body, v)
        }
        ApiKey::ApiVersions => encode(&ApiVersionsRequest::default(), v),
        ApiKey::CreateTopics => {
            let assignment = create_topics_request::CreatableReplicaAssignment::default()
                .with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
            let config = create_topics_request::CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1")));
            let topic = create_topics_request::CreatableTopic::default()
                .with_name(name("t"))
                .with_assignments(vec![assignment.clone(), assignment])
                .with_configs(vec![config.clone(), config.with_value(None)]);
            encode(&CreateTopicsRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::DeleteTopics if v >= 6 => {
            let topic = delete_topics_request::DeleteTopicState::default();
            encode(&DeleteTopicsRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::DeleteTopics => encode(&DeleteTopicsRequest::default().with_topic_names(vec![name("a"), name("b")]), v),
        ApiKey::InitProducerId => encode(&InitProducerIdRequest::default(), v),
        ApiKey::AddPartitionsToTxn => {
            let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![1, 2]);
            let body = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(TransactionalId(text("tx")))
                .with_v3_and_below_topics(vec![topic.clone(), topic]);
            encode(&body, v)
        }
        ApiKey::AddOffsetsToTxn => encode(&AddOffsetsToTxnRequest::default().with_group_id(GroupId(text("g"))), v),
        ApiKey::TxnOffsetCommit => {
            let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()
                .with_committed_metadata(Some(text("m")));
            let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition.clone(), partition]);
            encode(&TxnOffsetCommitRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::EndTxn => encode(&EndTxnRequest::default().with_transactional_id(TransactionalId(text("tx"))), v),
        ApiKey::WriteTxnMarkers => {
            let topic = write_txn_markers_request::WritableTxnMarkerTopic::default()
                .with_name(name("t"))
                .with_partition_indexes(vec![1, 2]);
            let marker =
                write_txn_markers_request::WritableTxnMarker::default().with_topics(vec![topic.clone(), topic]);
            encode(&WriteTxnMarkersRequest::default().with_markers(vec![marker.clone(), marker]), v)
        }
        ApiKey::ListTransactions => {
            let body = ListTransactionsRequest::default()
                .with_state_filters(vec![text("Empty"), text("Ongoing")])
                .with_producer_id_filters(vec![ProducerId(1), ProducerId(2)]);
            encode(&body, v)
        }
        ApiKey::DescribeTransactions => {
            let ids = vec![TransactionalId(text("a")), TransactionalId(text("b"))];
            encode(&DescribeTransactionsRequest::default().with_transactional_ids(ids), v)
        }
        ApiKey::DescribeProducers => {
            let topic = describe_producers_request::TopicRequest::default()
                .with_name(name("t"))
                .with_partition_indexes(vec![1, 2]);
            encode(&DescribeProducersRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_partitions(vec![partition.clone(), partition]);
            encode(&OffsetForLeaderEpochRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::DescribeConfigs => {
            let resource = describe_configs_request::DescribeConfigsResource::default()
                .with_configuration_keys(Some(vec![text("a"), text("b")]));
            encode(&DescribeConfigsRequest::default().with_resources(vec![resource.clone(), resource]), v)
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = incremental_alter_configs_request::AlterableConfig::default();
            let resource = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_configs(vec![config.clone(), config]);
            encode(&IncrementalAlterConfigsRequest::default().with_resources(vec![resource]), v)
        }
        ApiKey::CreatePartitions => {
            let assignment = create_partitions_request::CreatePartitionsAssignment::default()
                .with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
            let topic = create_partitions_request::CreatePartitionsTopic::default()
                .with_assignments(Some(vec![assignment.clone(), assignment]));
            encode(&CreatePartitionsRequest::default().with_topics(vec![topic.clone(), topic]), v)
        }
        ApiKey::DeleteGroups => {
            encode(&DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("a")), GroupId(text("b"))]), v)
        }
        ApiKey::DescribeCluster => encode(&DescribeClusterRequest::default(), v),
        ApiKey::DescribeClientQuotas => {
            let component = describe_client_quotas_request::ComponentData::default()
                .with_entity_type(text("user"))
                .with_match(Some(text("u")));
            let components = vec![component.clone(), component.with_match(None)];
            encode(&DescribeClientQuotasRequest::default().with_components(components), v)
        }
        ApiKey::AlterClientQuotas => {
            let part = alter_client_quotas_request::EntityData::default()
                .with_entity_type(text("user"))
                .with_entity_name(Some(text("u")));
            let op =
                alter_client_quotas_request::OpData::default().with_key(text("producer_byte_rate")).with_value(1.0);
            let entry = alter_client_quotas_request::EntryData::default()
                .with_entity(vec![part.clone(), part.with_entity_name(None)])
                .with_ops(vec![op.clone(), op]);
            encode(&AlterClientQuotasRequest::default().with_entries(vec![entry.clone(), entry]), v)
        }
        ApiKey::SaslHandshake => encode(&SaslHandshakeRequest::default().with_mechanism(text("PLAIN")), v),
        ApiKey::SaslAuthenticate => {
            encode(&SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"token")), v)
        }
        ApiKey::CreateAcls => {
            let acl = create_acls_request::AclCreation::default()
                .with_resource_name(text("t"))
                .with_principal(text("User:a"))
                .with_host(text("*"));
            encode(&CreateAclsRequest::default().with_creations(vec![acl.clone(), acl]), v)
        }
        ApiKey::DescribeAcls => {
            let body = DescribeAclsRequest::default().with_resource_name_filter(Some(text("t")));
            encode(&body.with_principal_filter(None).with_host_filter(Some(text("*"))), v)
        }
        ApiKey::DeleteAcls => {
            let filter = delete_acls_request::DeleteAclsFilter::default()
                .with_resource_name_filter(Some(text("t")))
                .with_principal_filter(None)
                .with_host_filter(Some(text("*")));
            encode(&DeleteAclsRequest::default().with_filters(vec![filter.clone(), filter]), v)
        }
        ApiKey::AlterUserScramCredentials => {
            let deletion =
                alter_user_scram_credentials_request::ScramCredentialDeletion::default().with_name(text("a"));
            let upsertion = alter_user_scram_credentials_request::ScramCredentialUpsertion::default()
                .with_name(text("b"))
                .with_salt(Bytes::from_static(b"salt"))
                .with_salted_password(Bytes::from_static(b"salted"));
            let body = AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion.clone(), deletion]);
            encode(&body.with_upsertions(vec![upsertion.clone(), upsertion]), v)
        }
        ApiKey::DescribeUserScramCredentials => {
            let user = describe_user_scram_credentials_request::UserName::default().with_name(text("a"));
            encode(&DescribeUserScramCredentialsRequest::default().with_users(Some(vec![user.clone(), user])), v)
        }
        key => panic!("{key:?} is served but has no example here"),
    }
}

/// Decodes as the dispatcher would; whether it succeeds is not the question.
fn decode(key: ApiKey, version: i16, bytes: Bytes) {
    let (mut bytes, _) = to_known(key, version, &bytes).expect("it has passed the walk");
    let version = codec_version(key, version);
    macro_rules! decode_one_of {
        ($($api:ident => $request:ident),* $(,)?) => {
            match key {
                $(ApiKey::$api => drop($request::decode(&mut bytes, version)),)*
                key => panic!("{key:?} is served but not decoded here"),
            }
        };
    }
    decode_one_of!(
        ShareGroupHeartbeat => ShareGroupHeartbeatRequest, ShareGroupDescribe => ShareGroupDescribeRequest,
        ShareFetch => ShareFetchRequest, ShareAcknowledge => ShareAcknowledgeRequest,
        DescribeShareGroupOffsets => DescribeShareGroupOffsetsRequest,
        AlterShareGroupOffsets => AlterShareGroupOffsetsRequest,
        DeleteShareGroupOffsets => DeleteShareGroupOffsetsRequest,
        ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest,
        ConsumerGroupDescribe => ConsumerGroupDescribeRequest,
        Produce => ProduceRequest, Fetch => FetchRequest, ListOffsets => ListOffsetsRequest,
        DeleteRecords => DeleteRecordsRequest, DescribeLogDirs => DescribeLogDirsRequest,
        DescribeTopicPartitions => DescribeTopicPartitionsRequest, ElectLeaders => ElectLeadersRequest,
        AlterPartitionReassignments => AlterPartitionReassignmentsRequest,
        ListPartitionReassignments => ListPartitionReassignmentsRequest,
        AlterReplicaLogDirs => AlterReplicaLogDirsRequest, ListConfigResources => ListConfigResourcesRequest,
        OffsetDelete => OffsetDeleteRequest, AlterConfigs => AlterConfigsRequest,
        Metadata => MetadataRequest, OffsetCommit => OffsetCommitRequest, OffsetFetch => OffsetFetchRequest,
        FindCoordinator => FindCoordinatorRequest, JoinGroup => JoinGroupRequest, Heartbeat => HeartbeatRequest,
        LeaveGroup => LeaveGroupRequest, SyncGroup => SyncGroupRequest, DescribeGroups => DescribeGroupsRequest,
        ListGroups => ListGroupsRequest, ApiVersions => ApiVersionsRequest, CreateTopics => CreateTopicsRequest,
        DeleteTopics => DeleteTopicsRequest, InitProducerId => InitProducerIdRequest,
        OffsetForLeaderEpoch => OffsetForLeaderEpochRequest, DescribeConfigs => DescribeConfigsRequest,
        IncrementalAlterConfigs => IncrementalAlterConfigsRequest, CreatePartitions => CreatePartitionsRequest,
        AddPartitionsToTxn => AddPartitionsToTxnRequest, AddOffsetsToTxn => AddOffsetsToTxnRequest,
        TxnOffsetCommit => TxnOffsetCommitRequest, EndTxn => EndTxnRequest, WriteTxnMarkers => WriteTxnMarkersRequest,
        ListTransactions => ListTransactionsRequest, DescribeTransactions => DescribeTransactionsRequest,
        DescribeProducers => DescribeProducersRequest,
        DescribeClientQuotas => DescribeClientQuotasRequest, AlterClientQuotas => AlterClientQuotasRequest,
        DeleteGroups => DeleteGroupsRequest, DescribeCluster => DescribeClusterRequest,
        SaslHandshake => SaslHandshakeRequest, SaslAuthenticate => SaslAuthenticateRequest,
        CreateAcls => CreateAclsRequest, DescribeAcls => DescribeAclsRequest, DeleteAcls => DeleteAclsRequest,
        AlterUserScramCredentials => AlterUserScramCredentialsRequest,
        DescribeUserScramCredentials => DescribeUserScramCredentialsRequest,
    );
}

fn every_version() -> impl Iterator<Item = (&'static Served, i16)> {
    SERVED.iter().flat_map(|served| (served.min..=served.max).map(move |version| (served, version)))
}

#[test]
fn every_request_is_walked_exactly_to_its_end() {
    for (served, version) in every_version() {
        let bytes = full(served.key, version);
        check(served.key, version, &bytes, LIMIT)
            .unwrap_or_else(|error| panic!("{:?} version {version}: {error}", served.key));
        let mut longer = bytes.to_vec();
        longer.push(0);
        let walked = walk(served.key, version, &longer, LIMIT).map(|walked| walked.length);
        assert_eq!(walked, Ok(bytes.len()), "a byte behind the body");
        for length in 0..bytes.len() {
            check(served.key, version, &bytes[..length], LIMIT).expect_err("bytes too few");
        }
    }
}

#[test]
fn a_hostile_array_length_is_refused_before_the_decoder_sees_it() {
    for count in [i32::MAX, 1_000_000, 100, -2] {
        let mut body = count.to_be_bytes().to_vec();
        body.extend([0; 8]);
        check(ApiKey::Metadata, 4, &body, LIMIT).expect_err("more elements than bytes");
    }
    let found = check(ApiKey::Metadata, 4, &[0, 0, 0, 9, 0, 0], LIMIT);
    assert_eq!(found, Err(ShapeError::Array { at: 4, wanted: 9, left: 2 }));
    // 0xffffffff - 1 elements as a compact length.
    let compact = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0];
    check(ApiKey::Metadata, 9, &compact, LIMIT).expect_err("more elements than bytes");
    // Elements that are all there, but too many of them.
    let mut many = (LIMIT as i32 + 1).to_be_bytes().to_vec();
    many.extend(vec![0; (LIMIT + 1) * 2 + 1]);
    assert_eq!(check(ApiKey::Metadata, 4, &many, LIMIT), Err(ShapeError::Elements { limit: LIMIT }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Bytes changed anywhere in any request either fail the walk or are safe to decode.
    #[test]
    fn what_the_walk_lets_through_does_not_hurt_the_decoder(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let versions: Vec<_> = every_version().collect();
        let (served, version) = versions[pick.index(versions.len())];
        let mut bytes = full(served.key, version).to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(bytes.len().max(1)));
        }
        if check(served.key, version, &bytes, LIMIT).is_ok() {
            decode(served.key, version, bytes.into());
        }
    }
}

#[test]
fn bytes_behind_the_body_are_left_alone() {
    // Metadata of all topics as librdkafka 2.12 sends it: four bytes of body, three of nothing.
    assert_eq!(check(ApiKey::Metadata, 13, &[0; 7], LIMIT), Ok(()));
}

/// Writes every example as a seed for `make fuzz`: as a whole frame, and as api key, version and bare body.
#[test]
#[ignore = "writes files; `make fuzz` runs it"]
fn write_the_examples_as_seeds_for_fuzzing() {
    let directory = std::env::var("FUZZ_SEEDS").expect("FUZZ_SEEDS names a directory");
    let directory = std::path::Path::new(&directory);
    std::fs::create_dir_all(directory).expect("created");
    for (served, version) in every_version() {
        let body = full(served.key, version);
        let header = RequestHeader::default()
            .with_request_api_key(served.key as i16)
            .with_request_api_version(version)
            .with_client_id(Some(text("seed")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, served.key.request_header_version(version)).expect("encoded");
        frame.extend_from_slice(&body);
        let start = [(served.key as i16).to_be_bytes(), version.to_be_bytes()].concat();
        let name = format!("{:?}-{version}", served.key);
        std::fs::write(directory.join(format!("{name}-frame")), frame).expect("written");
        std::fs::write(directory.join(format!("{name}-body")), [&start[..], &body].concat()).expect("written");
    }
}

#[test]
fn tagged_fields_count_as_elements() {
    // Heartbeat 4: two empty strings, a generation, no instance, then many tagged fields of no bytes.
    let mut body = vec![1, 0, 0, 0, 0, 1, 0];
    let count = LIMIT as u32 + 1;
    body.extend([(count & 0x7f) as u8 | 0x80, (count >> 7) as u8]);
    for tag in 0..count {
        body.extend([(tag & 0x7f) as u8 | 0x80, (tag >> 7) as u8, 0]);
    }
    assert_eq!(check(ApiKey::Heartbeat, 4, &body, LIMIT), Err(ShapeError::Elements { limit: LIMIT }));
    let walked = walk(ApiKey::Heartbeat, 4, &body, LIMIT + 1).expect("one more is allowed");
    assert_eq!((walked.length, walked.elements), (body.len(), LIMIT + 1));
}

#[test]
fn a_compact_string_is_no_longer_than_an_old_one() {
    let body = |length: usize| {
        let claimed = length as u32 + 1;
        let varint = [(claimed & 0x7f) as u8 | 0x80, (claimed >> 7 & 0x7f) as u8 | 0x80, (claimed >> 14) as u8];
        // Heartbeat 4, whose group has this name.
        [&varint[..], &vec![b'x'; length], &[0, 0, 0, 0, 1, 0, 0]].concat()
    };
    check(ApiKey::Heartbeat, 4, &body(0x7fff), LIMIT).expect("as long as a string can be");
    check(ApiKey::Heartbeat, 4, &body(0x8000), LIMIT).expect_err("longer");
}
