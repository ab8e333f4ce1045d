//! What each request of and about share groups needs.

use kafka_protocol::messages::*;

use super::rights::Resource::{self, Group, Topic};
use super::rights::{ALLOW, DELETE, DESCRIBE, READ, World, rule};
use crate::client::{Client, text, topic_name};

const TABLE: &[(&str, &[(i8, Resource)])] = &[
    ("ShareGroupHeartbeat", &[(READ, Group), (DESCRIBE, Topic)]),
    ("ShareGroupDescribe", &[(DESCRIBE, Group)]),
    ("ShareFetch", &[(READ, Group), (READ, Topic)]),
    ("ShareAcknowledge", &[(READ, Group), (READ, Topic)]),
    ("ShareOffsetsDescribe", &[(DESCRIBE, Group), (DESCRIBE, Topic)]),
    ("ShareOffsetsAlter", &[(READ, Group), (READ, Topic)]),
    ("ShareOffsetsDelete", &[(DELETE, Group), (READ, Topic)]),
];

fn group() -> GroupId {
    GroupId(text("g"))
}

fn fetch(id: uuid::Uuid) -> ShareFetchRequest {
    let partition = share_fetch_request::FetchPartition::default();
    let topic = share_fetch_request::FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    ShareFetchRequest::default()
        .with_group_id(Some(group()))
        .with_member_id(Some(text("m")))
        .with_max_bytes(1000)
        .with_max_records(1)
        .with_topics(vec![topic])
}

fn beat() -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("m"))
        .with_subscribed_topic_names(Some(vec![topic_name("t")]))
}

/// Makes a request; answers the error of the whole, or of the first item.
pub(super) async fn ask(client: &mut Client, what: &str, id: uuid::Uuid) -> i16 {
    let (whole, first) = match what {
        // Nobody's epoch is 9, which comes after the rights: the group stays empty.
        "ShareGroupHeartbeat" => (client.call(&beat().with_member_epoch(9), 1).await.error_code, None),
        "ShareGroupDescribe" => {
            let request = ShareGroupDescribeRequest::default().with_group_ids(vec![group()]);
            (client.call(&request, 1).await.groups[0].error_code, None)
        }
        "ShareFetch" => {
            let response = client.call(&fetch(id), 1).await;
            (response.error_code, response.responses.first().map(|topic| topic.partitions[0].error_code))
        }
        "ShareAcknowledge" => {
            client.call(&fetch(id), 1).await;
            let partition = share_acknowledge_request::AcknowledgePartition::default();
            let topic = share_acknowledge_request::AcknowledgeTopic::default()
                .with_topic_id(id)
                .with_partitions(vec![partition]);
            let request = ShareAcknowledgeRequest::default()
                .with_group_id(Some(group()))
                .with_member_id(Some(text("m")))
                .with_share_session_epoch(1)
                .with_topics(vec![topic]);
            let response = client.call(&request, 1).await;
            (response.error_code, response.responses.first().map(|topic| topic.partitions[0].error_code))
        }
        "ShareOffsetsDescribe" => {
            let topic = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name("t"))
                .with_partitions(vec![0]);
            let asked = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
                .with_group_id(group())
                .with_topics(Some(vec![topic]));
            let request = DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked]);
            let told = client.call(&request, 0).await.groups.remove(0);
            (told.error_code, told.topics.first().map(|topic| topic.partitions[0].error_code))
        }
        "ShareOffsetsAlter" => {
            let partition = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestPartition::default();
            let topic = alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name("t"))
                .with_partitions(vec![partition]);
            let request = AlterShareGroupOffsetsRequest::default().with_group_id(group()).with_topics(vec![topic]);
            let response = client.call(&request, 0).await;
            (response.error_code, response.responses.first().map(|topic| topic.partitions[0].error_code))
        }
        "ShareOffsetsDelete" => {
            let topic = delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name("t"));
            let request = DeleteShareGroupOffsetsRequest::default().with_group_id(group()).with_topics(vec![topic]);
            let response = client.call(&request, 0).await;
            (response.error_code, response.responses.first().map(|topic| topic.error_code))
        }
        _ => panic!("{what}"),
    };
    if whole != 0 { whole } else { first.unwrap_or(0) }
}

/// A world whose group is a share group.
async fn with_share_group() -> World {
    let mut world = World::new().await;
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    assert_eq!(world.root.call(&delete, 2).await.results[0].error_code, 0);
    let id = uuid::Uuid::nil();
    assert_eq!(ask(&mut world.root, "ShareOffsetsAlter", id).await, 0);
    world
}

#[tokio::test]
async fn each_request_needs_what_the_table_says_and_nothing_else() {
    let mut world = with_share_group().await;
    for (what, needs) in TABLE {
        world.check(what, needs).await;
    }
}

#[tokio::test]
async fn a_right_that_is_taken_ends_what_a_session_reads_and_hides_the_group() {
    let mut world = with_share_group().await;
    world.rules(vec![rule(ALLOW, READ, Group, "g"), rule(ALLOW, READ, Topic, "t")]).await;
    assert_eq!(world.alice.call(&beat(), 1).await.error_code, 0);
    assert_eq!(world.ask("ShareFetch").await, 0);
    let goes_on = |epoch| fetch(uuid::Uuid::nil()).with_share_session_epoch(epoch).with_topics(vec![]);
    assert!(world.alice.call(&goes_on(1), 1).await.responses.is_empty());
    world.rules(vec![rule(ALLOW, READ, Group, "g")]).await;
    let response = world.alice.call(&goes_on(2), 1).await;
    assert_eq!(response.responses[0].partitions[0].error_code, Topic.denied());
    assert!(response.responses[0].partitions[0].acquired_records.is_empty());
    // Members are told to those who may see all their topics, and offsets of those they may see.
    assert_eq!(world.ask("ShareGroupDescribe").await, Topic.denied());
    let asked = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(group())
        .with_topics(None);
    let all = DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked]);
    assert!(world.alice.call(&all, 0).await.groups[0].topics.is_empty());
    world.rules(vec![rule(ALLOW, DESCRIBE, Group, "g"), rule(ALLOW, DESCRIBE, Topic, "t")]).await;
    assert_eq!(world.alice.call(&all, 0).await.groups[0].topics.len(), 1);
    assert_eq!(world.ask("ShareGroupDescribe").await, 0);
}
