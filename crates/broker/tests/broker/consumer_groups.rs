//! Groups of the consumer protocol (KIP-848) over the wire; the coordinator's own tables of cases
//! stand in `src/group/consumer`.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    CreatePartitionsRequest, DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, TxnOffsetCommitRequest, consumer_group_describe_response, consumer_group_heartbeat_request,
    create_partitions_request, join_group_request, leave_group_request, offset_commit_request, offset_delete_request,
    offset_fetch_request, txn_offset_commit_request,
};
use uuid::Uuid;

use crate::client::{Client, text, topic_name};
use crate::{settings, start, start_with};
use highwater_broker::Broker;

/// Topic ids with their partitions.
type Assignment = BTreeMap<Uuid, Vec<i32>>;

const LATEST: i16 = 1;

fn group() -> GroupId {
    GroupId(text("g"))
}

fn beat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
        .with_rebalance_timeout_ms(-1)
}

fn join(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    beat(member, 0)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| topic_name(topic)).collect()))
        .with_topic_partitions(Some(Vec::new()))
        .with_rebalance_timeout_ms(30_000)
}

fn owning(request: ConsumerGroupHeartbeatRequest, owned: &Assignment) -> ConsumerGroupHeartbeatRequest {
    let owned = owned.iter().map(|(topic, partitions)| {
        consumer_group_heartbeat_request::TopicPartitions::default()
            .with_topic_id(*topic)
            .with_partitions(partitions.clone())
    });
    request.with_topic_partitions(Some(owned.collect()))
}

fn told(response: &ConsumerGroupHeartbeatResponse) -> Assignment {
    let assignment = response.assignment.as_ref().expect("an assignment");
    assignment.topic_partitions.iter().map(|topic| (topic.topic_id, topic.partitions.clone())).collect()
}

async fn say(client: &mut Client, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    client.call(&request, LATEST).await
}

async fn code(client: &mut Client, request: ConsumerGroupHeartbeatRequest) -> i16 {
    say(client, request).await.error_code
}

async fn describe(client: &mut Client) -> consumer_group_describe_response::DescribedGroup {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
    client.call(&request, LATEST).await.groups.remove(0)
}

/// Name, state and type of every group.
async fn list(client: &mut Client, types: &[&str]) -> Vec<(String, String, String)> {
    let request = ListGroupsRequest::default().with_types_filter(types.iter().map(|kind| text(kind)).collect());
    let response = client.call(&request, 5).await;
    let groups = response.groups.iter();
    groups.map(|g| (g.group_id.to_string(), g.group_state.to_string(), g.group_type.to_string())).collect()
}

fn commit(member: &str, epoch: i32) -> OffsetCommitRequest {
    let partition = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(0);
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(epoch)
        .with_member_id(text(member))
        .with_topics(vec![topic])
}

async fn commit_code(client: &mut Client, request: OffsetCommitRequest, version: i16) -> i16 {
    client.call(&request, version).await.topics[0].partitions[0].error_code
}

async fn fetch_code(client: &mut Client, member: Option<&str>, epoch: i32) -> i16 {
    let asked = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_member_id(member.map(text))
        .with_member_epoch(epoch)
        .with_topics(None);
    client.call(&OffsetFetchRequest::default().with_groups(vec![asked]), 9).await.groups[0].error_code
}

async fn grow(client: &mut Client, topic: &str, count: i32) {
    let wanted =
        create_partitions_request::CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(count);
    let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(10_000);
    assert_eq!(client.call(&request, 3).await.results[0].error_code, 0);
}

async fn topic_id(client: &mut Client, topic: &str) -> Uuid {
    let metadata = client.call(&MetadataRequest::default().with_topics(None), 12).await;
    metadata.topics.iter().find(|found| found.name.as_ref() == Some(&topic_name(topic))).unwrap().topic_id
}

fn classic_join() -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"topics"));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

#[tokio::test]
async fn two_members_share_a_topic_and_one_takes_over() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    grow(client, "t", 4).await;
    let id = topic_id(client, "t").await;

    let alone = say(client, join("a", &["t"])).await;
    assert_eq!((alone.error_code, alone.member_epoch, alone.heartbeat_interval_ms), (0, 1, 5000));
    assert_eq!(alone.member_id, Some(text("a")));
    assert_eq!(told(&alone), [(id, vec![0, 1, 2, 3])].into());
    assert_eq!(say(client, beat("a", 1)).await.assignment, None, "what a member knows it is not told again");

    let second = say(client, join("b", &["t"])).await;
    assert_eq!((second.member_epoch, told(&second)), (2, Assignment::new()));
    let less = told(&say(client, beat("a", 1)).await);
    assert_eq!(less, [(id, vec![0, 1])].into());
    assert_eq!(describe(client).await.group_state, text("Reconciling"));
    assert_eq!(say(client, owning(beat("a", 1), &less)).await.member_epoch, 2);
    assert_eq!(told(&say(client, beat("b", 2)).await), [(id, vec![2, 3])].into());

    let described = describe(client).await;
    assert_eq!((described.group_state, described.group_epoch, described.assignment_epoch), (text("Stable"), 2, 2));
    assert_eq!(described.assignor_name, text("uniform"));
    let member = &described.members[1];
    assert_eq!((&*member.member_id, &*member.client_id, &*member.client_host), ("b", "test", "/127.0.0.1"));
    assert_eq!((member.member_epoch, member.member_type), (2, 1));
    assert_eq!(member.subscribed_topic_names, [topic_name("t")]);
    let has = &member.assignment.topic_partitions[0];
    assert_eq!((has.topic_id, &*has.topic_name, &*has.partitions), (id, &text("t"), &[2, 3][..]));
    assert_eq!(member.assignment, member.target_assignment);

    assert_eq!(say(client, beat("a", -1)).await.member_epoch, -1);
    assert_eq!(told(&say(client, beat("b", 2)).await), [(id, vec![0, 1, 2, 3])].into());
    grow(client, "t", 5).await;
    let grown = say(client, beat("b", 3)).await;
    assert_eq!((grown.member_epoch, told(&grown)), (4, [(id, vec![0, 1, 2, 3, 4])].into()));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let (_dir, _broker, mut client) = start_with(|settings| {
        settings.max_member_metadata_bytes = 100;
        settings.max_subscription_regex_bytes = 10;
    })
    .await;
    let client = &mut client;
    let pattern =
        |regex: &str| join("a", &[]).with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text(regex)));
    let long = "x".repeat(101);
    let cases = [
        (beat("a", 1), ResponseError::GroupIdNotFound),
        (join("a", &[]).with_server_assignor(Some(text("mine"))), ResponseError::UnsupportedAssignor),
        (pattern("("), ResponseError::InvalidRegularExpression),
        (pattern("0123456789a"), ResponseError::InvalidRegularExpression),
        (join("a", &[&long]), ResponseError::InvalidRequest),
        (join("", &["t"]), ResponseError::InvalidRequest),
    ];
    for (request, error) in cases {
        let response = say(client, request.clone()).await;
        assert_eq!((response.error_code, response.member_id), (error.code(), None), "{request:?}");
        assert!(response.error_message.is_some_and(|message| !message.is_empty()));
    }
    // An old client is given its id.
    let named = client.call(&join("", &["t"]), 0).await;
    assert!(named.error_code == 0 && named.member_id.is_some_and(|id| !id.is_empty()));
}

#[tokio::test]
async fn topics_are_found_by_pattern_as_they_come() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    let by_pattern = join("a", &[]).with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text("t.*")));
    assert_eq!(told(&say(client, by_pattern).await), Assignment::new());
    client.create("t1").await;
    client.create("other").await;
    let id = topic_id(client, "t1").await;
    assert_eq!(told(&say(client, beat("a", 1)).await), [(id, vec![0])].into());
    assert_eq!(describe(client).await.members[0].subscribed_topic_regex, Some(text("t.*")));
}

#[tokio::test]
async fn offsets_are_committed_and_fetched_with_the_epoch_a_member_has() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    let epoch = say(client, join("a", &["t"])).await.member_epoch;
    let (stale, unknown) = (ResponseError::StaleMemberEpoch.code(), ResponseError::UnknownMemberId.code());
    assert_eq!(commit_code(client, commit("a", epoch), 9).await, 0);
    assert_eq!(commit_code(client, commit("a", epoch - 1), 9).await, stale);
    assert_eq!(commit_code(client, commit("b", epoch), 9).await, unknown);
    assert_eq!(commit_code(client, commit("", -1), 9).await, unknown, "from outside, while there are members");
    assert_eq!(commit_code(client, commit("a", epoch), 8).await, ResponseError::UnsupportedVersion.code());
    assert_eq!(fetch_code(client, Some("a"), epoch).await, 0);
    assert_eq!(fetch_code(client, Some("a"), epoch + 1).await, stale);
    assert_eq!(fetch_code(client, Some("b"), epoch).await, unknown);
    assert_eq!(fetch_code(client, None, -1).await, 0, "a tool need not be a member");

    // Transactions do not know the word.
    let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
    let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let in_transaction = TxnOffsetCommitRequest::default()
        .with_group_id(group())
        .with_member_id(text("a"))
        .with_generation_id(epoch - 1)
        .with_topics(vec![topic]);
    let response = client.call(&in_transaction, 4).await;
    assert_eq!(response.topics[0].partitions[0].error_code, ResponseError::IllegalGeneration.code());
}

#[tokio::test]
async fn a_group_is_of_one_protocol_at_a_time() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    let named = |state: &str, kind: &str| vec![("g".to_owned(), state.to_owned(), kind.to_owned())];
    say(client, join("a", &["t"])).await;
    assert_eq!(list(client, &[]).await, named("Stable", "consumer"));
    assert_eq!(list(client, &["Consumer"]).await, named("Stable", "consumer"));
    assert_eq!(list(client, &["classic"]).await, []);
    let refused = client.call(&classic_join(), 9).await;
    assert_eq!(refused.error_code, ResponseError::InconsistentGroupProtocol.code());
    let classic_beat =
        HeartbeatRequest::default().with_group_id(group()).with_member_id(text("a")).with_generation_id(1);
    assert_eq!(client.call(&classic_beat, 4).await.error_code, ResponseError::UnknownMemberId.code());

    // It is described as what it is only.
    let asked = DescribeGroupsRequest::default().with_groups(vec![group()]);
    let described = client.call(&asked, 6).await.groups.remove(0);
    assert_eq!((described.error_code, &*described.group_state), (ResponseError::GroupIdNotFound.code(), "Dead"));
    assert_eq!(&*described.error_message.unwrap(), "Group g is not a classic group.");
    assert_eq!(client.call(&asked, 5).await.groups[0].error_code, 0);

    // Without members it becomes the other one, there and back.
    say(client, beat("a", -1)).await;
    assert_eq!(list(client, &[]).await, named("Empty", "consumer"));
    let first = client.call(&classic_join(), 9).await;
    let joined = client.call(&classic_join().with_member_id(first.member_id.clone()), 9).await;
    assert_eq!(joined.error_code, 0);
    assert_eq!(list(client, &["classic"]).await.len(), 1);
    assert_eq!(code(client, join("b", &["t"])).await, ResponseError::GroupIdNotFound.code());
    assert_eq!(describe(client).await.error_code, ResponseError::GroupIdNotFound.code());
    let leaving = kafka_protocol::messages::leave_group_request::MemberIdentity::default()
        .with_member_id(joined.member_id.clone());
    let leave =
        kafka_protocol::messages::LeaveGroupRequest::default().with_group_id(group()).with_members(vec![leaving]);
    assert_eq!(client.call(&leave, 5).await.members[0].error_code, 0);
    let back = say(client, join("b", &["t"])).await;
    assert_eq!(back.error_code, 0);
    assert!(back.member_epoch > 1, "{} is above any epoch before", back.member_epoch);
}

#[tokio::test]
async fn groups_are_deleted_and_their_offsets_too_when_nobody_is_in_them() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    client.create("u").await;
    let epoch = say(client, join("a", &["t"])).await.member_epoch;
    assert_eq!(commit_code(client, commit("a", epoch), 9).await, 0);
    let forget = |topic: &str| {
        let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
        let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic])
    };
    let in_use = client.call(&forget("t"), 0).await.topics[0].partitions[0].error_code;
    assert_eq!(in_use, ResponseError::GroupSubscribedToTopic.code());
    assert_eq!(client.call(&forget("u"), 0).await.topics[0].partitions[0].error_code, 0);

    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    assert_eq!(client.call(&delete, 2).await.results[0].error_code, ResponseError::NonEmptyGroup.code());
    say(client, beat("a", -1)).await;
    assert_eq!(client.call(&delete, 2).await.results[0].error_code, 0);
    assert_eq!(client.call(&delete, 2).await.results[0].error_code, ResponseError::GroupIdNotFound.code());
    assert_eq!(list(client, &[]).await, []);
    assert_eq!(say(client, join("a", &["t"])).await.member_epoch, 1, "it is forgotten altogether");
}

fn taking_out(member: &str, instance: Option<&str>) -> LeaveGroupRequest {
    let identity = leave_group_request::MemberIdentity::default()
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text));
    LeaveGroupRequest::default().with_group_id(group()).with_members(vec![identity])
}

#[tokio::test]
async fn administrators_take_out_members_by_id_and_by_instance() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    say(client, join("a", &["t"]).with_instance_id(Some(text("i")))).await;
    say(client, join("b", &["t"])).await;
    let cases = [
        (taking_out("stranger", None), Some(ResponseError::UnknownMemberId)),
        (taking_out("", Some("j")), Some(ResponseError::UnknownMemberId)),
        (taking_out("b", Some("i")), Some(ResponseError::FencedInstanceId)),
        (taking_out("", Some("i")), None),
        (taking_out("b", None), None),
        (taking_out("b", None), Some(ResponseError::UnknownMemberId)),
    ];
    for (at, (request, error)) in cases.into_iter().enumerate() {
        let code = client.call(&request, 5).await.members[0].error_code;
        assert_eq!(code, error.map_or(0, |error| error.code()), "case {at}");
    }
    assert_eq!(code(client, beat("a", 1)).await, ResponseError::UnknownMemberId.code());
    assert_eq!(describe(client).await.members, []);
}

#[tokio::test]
async fn a_group_that_has_become_classic_stays_so_over_a_restart() {
    let (dir, broker, mut client) = start().await;
    client.create("t").await;
    let epoch = say(&mut client, join("a", &["t"])).await.member_epoch;
    assert_eq!(commit_code(&mut client, commit("a", epoch), 9).await, 0);
    say(&mut client, beat("a", -1)).await;
    assert_eq!(client.call(&classic_join(), 9).await.error_code, ResponseError::MemberIdRequired.code());
    broker.enforce_retention().await;
    drop(broker);
    let broker = Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    let named = |kind: &str| vec![("g".to_owned(), "Empty".to_owned(), kind.to_owned())];
    assert_eq!(list(&mut client, &[]).await, named("classic"), "its offsets are what is left of it");
    // One that has not changed over is of this protocol still, for its offsets.
    say(&mut client, join("a", &["t"])).await;
    say(&mut client, beat("a", -1)).await;
    broker.enforce_retention().await;
    drop(broker);
    let broker = Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(list(&mut client, &[]).await, named("consumer"));
}

#[tokio::test]
async fn after_a_restart_members_join_again_above_the_epochs_they_had() {
    for clean in [true, false] {
        let (dir, broker, mut client) = start().await;
        client.create("t").await;
        let before = say(&mut client, join("a", &["t"])).await.member_epoch;
        if clean {
            broker.shutdown().await.unwrap();
        } else {
            drop(broker);
        }
        let broker = Broker::start(settings(dir.path())).await.unwrap();
        let client = &mut Client::connect(broker.local_addr()).await;
        assert_eq!(code(client, beat("a", before)).await, ResponseError::UnknownMemberId.code());
        assert_eq!(commit_code(client, commit("a", before), 9).await, ResponseError::UnknownMemberId.code());
        let again = say(client, join("a", &["t"])).await;
        assert!(again.member_epoch > before, "{} is above {before}", again.member_epoch);
        assert_eq!(told(&again).len(), 1);
        assert_eq!(commit_code(client, commit("a", before), 9).await, ResponseError::StaleMemberEpoch.code());
    }
}

#[tokio::test]
async fn a_member_that_is_silent_is_thrown_out() {
    let clock = std::sync::Arc::new(highwater_broker::ManualClock::at(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with_clock(settings(dir.path()), clock.clone()).await.unwrap();
    let client = &mut Client::connect(broker.local_addr()).await;
    client.create("t").await;
    say(client, join("a", &["t"])).await;
    clock.advance(45_001);
    // The timer looks at the clock in its own time.
    while describe(client).await.group_state != text("Empty") {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(client, beat("a", 1)).await, ResponseError::UnknownMemberId.code());
}

#[tokio::test]
async fn the_consumer_protocol_is_a_feature_that_is_on() {
    let (_dir, _broker, mut client) = start().await;
    let response = client.call(&ApiVersionsRequest::default(), 3).await;
    let feature = response.finalized_features.iter().find(|feature| &*feature.name == "group.version").unwrap();
    assert_eq!((feature.min_version_level, feature.max_version_level), (1, 1));
}
