//! Every API in every version it is served in gets an answer its client can read.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;

use crate::batch::Batch;
use crate::client::{Client, produce_request, text, topic_name};
use crate::start;

/// Versions a client would use: what both the table and the codec have.
async fn served(client: &mut Client, key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let response = client.call(&ApiVersionsRequest::default(), 3).await;
    let api = response.api_keys.iter().find(|api| api.api_key == key as i16).expect("served");
    api.min_version.max(key.valid_versions().min)..=api.max_version.min(key.valid_versions().max)
}

async fn check<R: Request>(client: &mut Client, request: impl Fn(i16) -> R) {
    let key = ApiKey::try_from(R::KEY).unwrap();
    for version in served(client, key).await {
        client.call(&request(version), version).await;
    }
}

#[tokio::test]
async fn every_version_is_answered_with_data_and_with_errors() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    client.append("t", Batch::of(["v"]).bytes()).await;
    let metadata = client.call(&MetadataRequest::default().with_topics(None), 12).await;
    let id = metadata.topics[0].topic_id;
    let group = || GroupId(text("g"));

    for name in ["t", "no good"] {
        check(client, |version| {
            let mut request = produce_request(name, Batch::of(["v"]).bytes(), 1);
            if version >= 13 {
                request.topic_data[0].name = topic_name("");
                request.topic_data[0].topic_id = if name == "t" { id } else { uuid::Uuid::from_u128(9) };
            }
            request
        })
        .await;
        check(client, |version| {
            let mut request = crate::client::fetch_request(name, 0, 0, 1);
            request.isolation_level = 1;
            if version >= 13 {
                request.topics[0].topic = topic_name("");
                request.topics[0].topic_id = if name == "t" { id } else { uuid::Uuid::from_u128(9) };
            }
            request
        })
        .await;
        check(client, |_| {
            let at = |time| list_offsets_request::ListOffsetsPartition::default().with_timestamp(time);
            let topic = list_offsets_request::ListOffsetsTopic::default()
                .with_name(topic_name(name))
                .with_partitions(vec![at(-1), at(-2), at(-3), at(0), at(i64::MAX), at(-9)]);
            ListOffsetsRequest::default().with_topics(vec![topic])
        })
        .await;
        check(client, |version| {
            let mut topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            if version >= 12 && name != "t" {
                topic = topic.with_name(None).with_topic_id(uuid::Uuid::from_u128(9));
            }
            MetadataRequest::default().with_topics(Some(vec![topic]))
        })
        .await;
        check(client, |_| {
            let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(topic_name(name))
                .with_partitions(vec![partition]);
            OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
        })
        .await;
        check(client, |_| {
            let partition = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(3);
            let topic = offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(vec![partition]);
            OffsetCommitRequest::default()
                .with_group_id(group())
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![topic])
        })
        .await;
        check(client, |_| {
            let resource = describe_configs_request::DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(name));
            DescribeConfigsRequest::default().with_resources(vec![resource])
        })
        .await;
        check(client, |_| {
            let topic = create_topics_request::CreatableTopic::default()
                .with_name(topic_name(name))
                .with_num_partitions(1)
                .with_replication_factor(1);
            let fresh = topic.clone().with_name(topic_name("fresh"));
            CreateTopicsRequest::default().with_topics(vec![topic, fresh]).with_validate_only(true)
        })
        .await;
        check(client, |_| {
            let topic =
                create_partitions_request::CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(5);
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(true)
        })
        .await;
        check(client, |_| {
            let resource = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(name));
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
        })
        .await;
    }
    check(client, |_| MetadataRequest::default()).await;
    check(client, |version| {
        let known = offset_fetch_request::OffsetFetchRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![0, 9]);
        if version < 8 {
            return OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![known]));
        }
        let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![0, 9]);
        let one = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(group())
            .with_topics(Some(vec![topic]));
        OffsetFetchRequest::default().with_groups(vec![one.clone(), one.with_topics(None)])
    })
    .await;
    for key_type in [0, 1] {
        check(client, |version| match version {
            0 => FindCoordinatorRequest::default().with_key(text("g")),
            1..=3 => FindCoordinatorRequest::default().with_key(text("g")).with_key_type(key_type),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]).with_key_type(key_type),
        })
        .await;
    }
    check(client, |_| HeartbeatRequest::default().with_group_id(group())).await;
    check(client, |_| SyncGroupRequest::default().with_group_id(group())).await;
    check(client, |_| JoinGroupRequest::default().with_group_id(group())).await;
    check(client, |_| {
        let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
        JoinGroupRequest::default()
            .with_group_id(GroupId(text(&uuid::Uuid::new_v4().to_string())))
            .with_session_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    })
    .await;
    check(client, |version| match version {
        0..=2 => LeaveGroupRequest::default().with_group_id(group()).with_member_id(text("m")),
        _ => LeaveGroupRequest::default()
            .with_group_id(group())
            .with_members(vec![leave_group_request::MemberIdentity::default().with_member_id(text("m"))]),
    })
    .await;
    check(client, |_| ListGroupsRequest::default()).await;
    check(client, |_| DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("nobody"))])).await;
    check(client, |_| DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("nobody"))])).await;
    for member in ["m", ""] {
        check(client, |_| {
            ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text("new")))
                .with_member_id(text(member))
                .with_rebalance_timeout_ms(1000)
                .with_subscribed_topic_names(Some(vec![topic_name("t")]))
                .with_topic_partitions(Some(Vec::new()))
        })
        .await;
    }
    check(client, |_| {
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("new")), GroupId(text("nobody"))])
    })
    .await;
    for member in ["m", ""] {
        check(client, |_| {
            ShareGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text("share")))
                .with_member_id(text(member))
                .with_subscribed_topic_names(Some(vec![topic_name("t")]))
        })
        .await;
    }
    for group in ["share", "nobody"] {
        let group = || GroupId(text(group));
        check(client, |_| ShareGroupDescribeRequest::default().with_group_ids(vec![group()])).await;
        check(client, |_| {
            let partition = share_fetch_request::FetchPartition::default();
            let of = |id| {
                share_fetch_request::FetchTopic::default().with_topic_id(id).with_partitions(vec![partition.clone()])
            };
            ShareFetchRequest::default()
                .with_group_id(Some(group()))
                .with_member_id(Some(text("m")))
                .with_max_bytes(1000)
                .with_max_records(1)
                .with_topics(vec![of(id), of(uuid::Uuid::from_u128(9))])
        })
        .await;
        check(client, |_| {
            let partition = share_acknowledge_request::AcknowledgePartition::default();
            let topic = share_acknowledge_request::AcknowledgeTopic::default()
                .with_topic_id(id)
                .with_partitions(vec![partition]);
            ShareAcknowledgeRequest::default()
                .with_group_id(Some(group()))
                .with_member_id(Some(text("m")))
                .with_share_session_epoch(1)
                .with_topics(vec![topic])
        })
        .await;
        check(client, |_| {
            let asked = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
                .with_group_id(group())
                .with_topics(None);
            DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked])
        })
        .await;
        check(client, |_| {
            let partition = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestPartition::default();
            let topic = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name("t"))
                .with_partitions(vec![partition]);
            AlterShareGroupOffsetsRequest::default().with_group_id(group()).with_topics(vec![topic])
        })
        .await;
        check(client, |_| {
            let topic = delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name("t"));
            DeleteShareGroupOffsetsRequest::default().with_group_id(group()).with_topics(vec![topic])
        })
        .await;
    }
    check(client, |_| InitProducerIdRequest::default().with_transactional_id(None)).await;
    check(client, |_| InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("tx"))))).await;
    check(client, |_| {
        let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![0, 9]);
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text("tx")))
            .with_v3_and_below_topics(vec![topic])
    })
    .await;
    check(client, |_| AddOffsetsToTxnRequest::default().with_group_id(group())).await;
    check(client, |_| {
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
        let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic])
    })
    .await;
    check(client, |_| EndTxnRequest::default().with_transactional_id(TransactionalId(text("tx")))).await;
    check(client, |_| WriteTxnMarkersRequest::default().with_markers(vec![Default::default()])).await;
    check(client, |_| ListTransactionsRequest::default()).await;
    check(client, |_| DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(text("no"))]))
        .await;
    check(client, |_| DescribeProducersRequest::default().with_topics(vec![Default::default()])).await;
    check(client, |_| {
        let partitions = vec![delete_records_request::DeleteRecordsPartition::default()];
        let topic = |name| {
            let topic = delete_records_request::DeleteRecordsTopic::default().with_name(topic_name(name));
            topic.with_partitions(partitions.clone())
        };
        DeleteRecordsRequest::default().with_topics(vec![topic("t"), topic("nowhere")])
    })
    .await;
    check(client, |_| {
        let resource = |kind| alter_configs_request::AlterConfigsResource::default().with_resource_type(kind);
        AlterConfigsRequest::default().with_resources(vec![resource(2), resource(4)])
    })
    .await;
    check(client, |_| DescribeLogDirsRequest::default().with_topics(None)).await;
    check(client, |_| OffsetDeleteRequest::default().with_group_id(GroupId(text("nobody")))).await;
    check(client, |_| DescribeClusterRequest::default()).await;
    for kind in ["client-id", "planet"] {
        check(client, |_| {
            let part = alter_client_quotas_request::EntityData::default().with_entity_type(text(kind));
            let op =
                alter_client_quotas_request::OpData::default().with_key(text("consumer_byte_rate")).with_value(1e9);
            let entry = alter_client_quotas_request::EntryData::default()
                .with_entity(vec![part.with_entity_name(Some(text("c")))])
                .with_ops(vec![op]);
            AlterClientQuotasRequest::default().with_entries(vec![entry])
        })
        .await;
        check(client, |_| {
            let component = describe_client_quotas_request::ComponentData::default()
                .with_entity_type(text(kind))
                .with_match_type(2)
                .with_match(None);
            DescribeClientQuotasRequest::default().with_components(vec![component])
        })
        .await;
    }
    check_security(client).await;
    check(client, |_| DescribeTopicPartitionsRequest::default()).await;
    check(client, |_| ElectLeadersRequest::default().with_topic_partitions(None)).await;
    check(client, |_| AlterPartitionReassignmentsRequest::default()).await;
    check(client, |_| ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    check(client, |_| AlterReplicaLogDirsRequest::default()).await;
    check(client, |_| ListConfigResourcesRequest::default()).await;
    check(client, |_| ApiVersionsRequest::default()).await;
    check(client, |version| match version {
        0..=5 => DeleteTopicsRequest::default().with_topic_names(vec![topic_name("nowhere")]),
        _ => {
            let by_id = delete_topics_request::DeleteTopicState::default().with_topic_id(uuid::Uuid::from_u128(9));
            let by_name = delete_topics_request::DeleteTopicState::default().with_name(Some(topic_name("nowhere")));
            DeleteTopicsRequest::default().with_topics(vec![by_id, by_name])
        }
    })
    .await;
}

/// On a broker that asks nobody who they are.
async fn check_security(client: &mut Client) {
    check(client, |_| SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))).await;
    check(client, |_| SaslAuthenticateRequest::default()).await;
    check(client, |_| {
        let acl = create_acls_request::AclCreation::default().with_resource_name(text("t"));
        CreateAclsRequest::default().with_creations(vec![acl])
    })
    .await;
    check(client, |_| DescribeAclsRequest::default()).await;
    check(client, |_| DeleteAclsRequest::default().with_filters(vec![Default::default()])).await;
    check(client, |_| {
        let nobody = alter_user_scram_credentials_request::ScramCredentialDeletion::default().with_name(text("nobody"));
        AlterUserScramCredentialsRequest::default().with_deletions(vec![nobody])
    })
    .await;
    check(client, |_| {
        let nobody = describe_user_scram_credentials_request::UserName::default().with_name(text("nobody"));
        DescribeUserScramCredentialsRequest::default().with_users(Some(vec![nobody]))
    })
    .await;
}
