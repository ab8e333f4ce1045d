//! Consumer groups over the wire; the coordinator's own tables of cases stand beside it.

use bytes::Bytes;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, SyncGroupRequest, join_group_request, leave_group_request, metadata_request,
    offset_commit_request, offset_delete_request, offset_fetch_request, sync_group_request,
};
use kafka_protocol::protocol::StrBytes;

use crate::batch::Batch;
use crate::client::{Client, fetch_request, text, topic_name};
use crate::{settings, start};

fn group() -> GroupId {
    GroupId(text("g"))
}

fn join_request(member: &StrBytes) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"topics"));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Joins as clients do: once for an id, once with it.
async fn join(client: &mut Client) -> JoinGroupResponse {
    let first = client.call(&join_request(&text("")), 9).await;
    assert_eq!(first.error_code, 79, "member id required");
    client.call(&join_request(&first.member_id), 9).await
}

async fn sync(client: &mut Client, joined: &JoinGroupResponse, assign: &[(&StrBytes, &'static str)]) -> (i16, Bytes) {
    let assignments = assign.iter().map(|(member, assignment)| {
        sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id((*member).clone())
            .with_assignment(Bytes::from_static(assignment.as_bytes()))
    });
    let request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.collect());
    let response = client.call(&request, 5).await;
    (response.error_code, response.assignment)
}

fn commit(generation: i32, member: &StrBytes, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_leader_epoch(0)
        .with_committed_metadata(Some(text("note")));
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member.clone())
        .with_topics(vec![topic])
}

async fn commit_code(client: &mut Client, request: OffsetCommitRequest) -> i16 {
    client.call(&request, 8).await.topics[0].partitions[0].error_code
}

async fn committed(client: &mut Client) -> Vec<(String, i64)> {
    let asked = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
    let response = client.call(&OffsetFetchRequest::default().with_groups(vec![asked]), 8).await;
    let topics = &response.groups[0].topics;
    topics.iter().map(|topic| (topic.name.to_string(), topic.partitions[0].committed_offset)).collect()
}

#[tokio::test]
async fn two_members_share_a_group_and_one_takes_over() {
    let (_dir, broker, mut one) = start().await;
    let mut two = Client::connect(broker.local_addr()).await;
    let alone = join(&mut one).await;
    assert_eq!((alone.error_code, alone.generation_id, alone.members.len()), (0, 1, 1));
    assert_eq!(sync(&mut one, &alone, &[(&alone.member_id, "all")]).await, (0, Bytes::from_static(b"all")));

    let first = two.call(&join_request(&text("")), 9).await;
    two.send(&join_request(&first.member_id), 9).await;
    let heartbeat = |joined: &JoinGroupResponse| {
        HeartbeatRequest::default()
            .with_group_id(group())
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
    };
    // The first member learns of the rebalance by its heartbeat; until the second's join has
    // arrived there is none.
    while one.call(&heartbeat(&alone), 4).await.error_code == 0 {}
    let again = one.call(&join_request(&alone.member_id), 9).await;
    let joined = two.receive::<JoinGroupRequest>(9).await;
    assert_eq!((again.generation_id, joined.generation_id), (2, 2));
    assert_eq!((again.leader.clone(), again.members.len(), joined.members.len()), (again.member_id.clone(), 2, 0));

    let assign = [(&again.member_id, "half"), (&joined.member_id, "other half")];
    assert_eq!(sync(&mut one, &again, &assign).await.1, "half");
    assert_eq!(sync(&mut two, &joined, &[]).await.1, "other half");
    assert_eq!(one.call(&heartbeat(&alone), 4).await.error_code, 22, "the old generation is over");
    assert_eq!(one.call(&heartbeat(&again), 4).await.error_code, 0);

    let described = one.call(&DescribeGroupsRequest::default().with_groups(vec![group()]), 5).await;
    let described = &described.groups[0];
    assert_eq!((&*described.group_state, described.members.len()), ("Stable", 2));
    assert_eq!(&*described.members[0].client_host, "/127.0.0.1");

    let leaving = leave_group_request::MemberIdentity::default().with_member_id(again.member_id.clone());
    let leave = LeaveGroupRequest::default().with_group_id(group()).with_members(vec![leaving]);
    assert_eq!(one.call(&leave, 5).await.members[0].error_code, 0);
    assert_eq!(two.call(&heartbeat(&joined), 4).await.error_code, 27);
    let last = two.call(&join_request(&joined.member_id), 9).await;
    assert_eq!((last.generation_id, last.leader.clone()), (3, joined.member_id));
}

#[tokio::test]
async fn committed_offsets_are_checked_kept_and_deleted() {
    let (dir, broker, mut client) = start().await;
    client.create("t").await;
    let nobody = text("");
    assert_eq!(commit_code(&mut client, commit(-1, &nobody, "t", 5)).await, 0);
    assert_eq!(commit_code(&mut client, commit(-1, &nobody, "nowhere", 5)).await, 3);
    assert_eq!(commit_code(&mut client, commit(3, &text("stranger"), "t", 6)).await, 22);
    let long = {
        let mut request = commit(-1, &nobody, "t", 7);
        request.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(5000)));
        request
    };
    assert_eq!(commit_code(&mut client, long).await, 12);

    let joined = join(&mut client).await;
    assert_eq!(commit_code(&mut client, commit(-1, &nobody, "t", 8)).await, 25, "the group has members");
    assert_eq!(commit_code(&mut client, commit(1, &joined.member_id, "t", 8)).await, 27, "not assigned yet");
    sync(&mut client, &joined, &[]).await;
    assert_eq!(commit_code(&mut client, commit(0, &joined.member_id, "t", 8)).await, 22);
    assert_eq!(commit_code(&mut client, commit(1, &joined.member_id, "t", 9)).await, 0);
    assert_eq!(committed(&mut client).await, [("t".to_owned(), 9)]);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    assert_eq!(client.call(&delete, 2).await.results[0].error_code, 68, "not empty");
    broker.shutdown().await.unwrap();

    let broker = highwater_broker::Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(committed(&mut client).await, [("t".to_owned(), 9)]);
    let listed = client.call(&ListGroupsRequest::default(), 4).await;
    assert_eq!((&*listed.groups[0].group_id.0, &*listed.groups[0].group_state), ("g", "Empty"));
    assert_eq!(client.call(&delete, 2).await.results[0].error_code, 0);
    assert_eq!(client.call(&delete, 2).await.results[0].error_code, 69);
    assert!(committed(&mut client).await.is_empty());
}

/// Deletes the group's offset of partition 0 of each topic: the error of the group, or of each.
async fn delete_offsets(client: &mut Client, topics: &[&str]) -> (i16, Vec<i16>) {
    let topic = |name: &&str| {
        offset_delete_request::OffsetDeleteRequestTopic::default()
            .with_name(topic_name(name))
            .with_partitions(vec![offset_delete_request::OffsetDeleteRequestPartition::default()])
    };
    let request = OffsetDeleteRequest::default().with_group_id(group()).with_topics(topics.iter().map(topic).collect());
    let response = client.call(&request, 0).await;
    (response.error_code, response.topics.iter().map(|topic| topic.partitions[0].error_code).collect())
}

#[tokio::test]
async fn offsets_of_topics_that_nobody_reads_are_deleted() {
    let (dir, broker, mut client) = start().await;
    assert_eq!(delete_offsets(&mut client, &["t"]).await, (69, vec![]), "there is no such group");
    for topic in ["t", "u"] {
        client.create(topic).await;
        assert_eq!(commit_code(&mut client, commit(-1, &text(""), topic, 5)).await, 0);
    }
    // A member that reads t, in the form consumers use.
    let mut request = join_request(&text(""));
    request.protocols[0].metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
    request.member_id = client.call(&request, 9).await.member_id;
    let joined = client.call(&request, 9).await;
    sync(&mut client, &joined, &[]).await;
    assert_eq!(delete_offsets(&mut client, &["t", "u", "nowhere"]).await, (0, vec![86, 0, 3]));
    assert_eq!(committed(&mut client).await, [("t".to_owned(), 5)]);
    let leaving = leave_group_request::MemberIdentity::default().with_member_id(joined.member_id);
    client.call(&LeaveGroupRequest::default().with_group_id(group()).with_members(vec![leaving]), 5).await;
    assert_eq!(delete_offsets(&mut client, &["t"]).await, (0, vec![0]));
    drop(broker);
    let broker = highwater_broker::Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert!(committed(&mut client).await.is_empty());
}

#[tokio::test]
async fn a_silent_member_is_thrown_out() {
    let (_dir, broker, mut one) = crate::start_with(|settings| settings.group_min_session_timeout_ms = 1).await;
    let mut request = join_request(&text(""));
    request.session_timeout_ms = 50;
    let first = one.call(&request, 9).await;
    request.member_id = first.member_id;
    let joined = one.call(&request, 9).await;
    sync(&mut one, &joined, &[]).await;
    // Another member's join is answered only once the silent one is gone.
    let mut two = Client::connect(broker.local_addr()).await;
    let next = join(&mut two).await;
    assert_eq!(next.members.len(), 1);
    assert!(next.generation_id >= 2);
}

#[tokio::test]
async fn committed_offsets_can_be_read_as_a_topic_that_only_the_broker_writes() {
    const INTERNAL: &str = "__consumer_offsets";
    const INVALID_TOPIC: i16 = 17;
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    let describe = || {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(INTERNAL)));
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let early = client.call(&describe(), 9).await;
    assert_eq!(early.topics[0].error_code, INVALID_TOPIC, "no client makes it");
    // Who asks for a group's coordinator may want to look at it next.
    client.call(&FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]), 4).await;
    while client.call(&describe(), 9).await.topics[0].error_code != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(commit_code(&mut client, commit(-1, &text(""), "t", 0x0102)).await, 0);
    assert!(client.call(&describe(), 9).await.topics[0].is_internal);

    let response = client.fetch(&fetch_request(INTERNAL, 0, 20_000, 1)).await;
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    // Version 1, the group, the topic, the partition; then version 3, the offset.
    let key = b"\0\x01\0\x01g\0\x01t\0\0\0\0";
    let value = b"\0\x03\0\0\0\0\0\0\x01\x02";
    let has = |bytes: &[u8]| records.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(key) && has(value), "{records:?}");

    assert_eq!(client.produce(INTERNAL, Batch::of(["v"]).bytes()).await.error_code, INVALID_TOPIC);
    assert_eq!(delete_offsets(&mut client, &["t"]).await, (0, vec![0]));
    let response = client.fetch(&fetch_request(INTERNAL, 1, 20_000, 1)).await;
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    assert!(records.windows(key.len() + 1).any(|window| &window[..key.len()] == key && window[key.len()] == 1), "null");
}
