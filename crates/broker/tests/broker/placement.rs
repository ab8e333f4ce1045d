//! Where partitions are: described a page at a time, and kept on the only node whatever is asked.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, BrokerId, CreateTopicsRequest,
    DescribeTopicPartitionsRequest, ElectLeadersRequest, ListConfigResourcesRequest, ListPartitionReassignmentsRequest,
    alter_partition_reassignments_request, alter_replica_log_dirs_request, elect_leaders_request,
};

use crate::client::{Client, text, topic_name};
use crate::{start, start_with};

async fn create(client: &mut Client, topics: &[(&str, i32)]) {
    let topic = |(name, partitions): &(&str, i32)| {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(*partitions)
            .with_replication_factor(1)
    };
    let request = CreateTopicsRequest::default().with_topics(topics.iter().map(topic).collect());
    let response = client.call(&request, 7).await;
    assert!(response.topics.iter().all(|topic| topic.error_code == 0));
}

/// Topics with their error and partitions, and where the next page begins.
type Described = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

async fn describe(client: &mut Client, names: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> Described {
    let asked = names.iter().map(|name| TopicRequest::default().with_name(topic_name(name)));
    let cursor =
        cursor.map(|(name, index)| Cursor::default().with_topic_name(topic_name(name)).with_partition_index(index));
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(asked.collect())
        .with_response_partition_limit(limit)
        .with_cursor(cursor);
    let response = client.call(&request, 0).await;
    let topics = response.topics.into_iter().map(|topic| {
        assert!(topic.partitions.iter().all(|partition| partition.leader_id == BrokerId(0)));
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        (topic.name.unwrap().to_string(), topic.error_code, partitions)
    });
    let next = response.next_cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
    (topics.collect(), next)
}

#[tokio::test]
async fn topics_are_described_a_page_at_a_time() {
    let (_dir, _broker, mut client) = start_with(|settings| settings.max_described_partitions = 4).await;
    let client = &mut client;
    create(client, &[("a", 2), ("b", 3), ("c", 1)]).await;
    let topic = |name: &str, partitions: &[i32]| (name.to_owned(), 0, partitions.to_vec());
    let next = |name: &str, index| Some((name.to_owned(), index));
    let cases = [
        // The broker's own limit counts too.
        (10, None, vec![topic("a", &[0, 1]), topic("b", &[0, 1])], next("b", 2)),
        (10, Some(("b", 2)), vec![topic("b", &[2]), topic("c", &[0])], None),
        (2, None, vec![topic("a", &[0, 1])], next("b", 0)),
        (0, None, vec![topic("a", &[0])], next("a", 1)),
        // The topic may be gone, or have fewer partitions than the cursor says.
        (10, Some(("bb", 7)), vec![topic("c", &[0])], None),
        (10, Some(("c", 7)), vec![topic("c", &[])], None),
    ];
    for (limit, cursor, topics, next) in cases {
        assert_eq!(describe(client, &[], limit, cursor).await, (topics, next), "{limit} from {cursor:?}");
    }
    let (topics, next) = describe(client, &["c", "nowhere", "no/slash", "c"], 10, None).await;
    assert_eq!(next, None);
    let codes: Vec<_> = topics.iter().map(|(name, code, _)| (&**name, *code)).collect();
    assert_eq!(codes, [("c", 0), ("no/slash", 17), ("nowhere", 3)]);
    assert_eq!(describe(client, &["a"], 10, Some(("a", -1))).await, (vec![("a".into(), 42, vec![])], None));
}

#[tokio::test]
async fn the_only_node_leads_every_partition() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    let asked =
        elect_leaders_request::TopicPartitions::default().with_topic(topic_name("t")).with_partitions(vec![0, 1]);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![asked]));
    let response = client.call(&request, 2).await;
    let results = &response.replica_election_results[0].partition_result;
    let codes: Vec<_> = results.iter().map(|result| (result.partition_id, result.error_code)).collect();
    assert_eq!((response.error_code, codes), (0, vec![(0, 84), (1, 3)]));
    let all = client.call(&ElectLeadersRequest::default().with_topic_partitions(None), 2).await;
    assert_eq!((all.error_code, all.replica_election_results.len()), (0, 0));
    assert_eq!(client.call(&request.with_election_type(2), 2).await.error_code, 42);
}

#[tokio::test]
async fn partitions_stay_on_the_only_node() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    let nodes = |nodes: &[i32]| Some(nodes.iter().map(|node| BrokerId(*node)).collect());
    let cases = [
        (0, nodes(&[0]), 0),
        (0, nodes(&[1]), 39),
        (0, nodes(&[0, 1]), 39),
        (0, nodes(&[]), 39),
        (0, None, 85),
        (1, nodes(&[0]), 3),
    ];
    for (index, replicas, expected) in cases {
        let said = format!("partition {index} on {replicas:?}");
        let partition = alter_partition_reassignments_request::ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas);
        let topic = alter_partition_reassignments_request::ReassignableTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let response = client.call(&AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]), 1).await;
        let result = &response.responses[0].partitions[0];
        assert_eq!((result.error_code, result.error_message.is_some()), (expected, expected != 0), "{said}");
    }
    let response = client.call(&ListPartitionReassignmentsRequest::default().with_topics(None), 0).await;
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
}

#[tokio::test]
async fn partitions_stay_in_the_only_folder() {
    let (dir, _broker, mut client) = start().await;
    client.create("t").await;
    let ours = dir.path().display().to_string();
    for (path, index, expected) in [(&*ours, 0, 0), (&*ours, 1, 3), ("/elsewhere", 0, 57)] {
        let topic = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![index]);
        let folder = alter_replica_log_dirs_request::AlterReplicaLogDir::default()
            .with_path(text(path))
            .with_topics(vec![topic]);
        let response = client.call(&AlterReplicaLogDirsRequest::default().with_dirs(vec![folder]), 2).await;
        assert_eq!(response.results[0].partitions[0].error_code, expected, "{path} {index}");
    }
}

#[tokio::test]
async fn what_has_settings_is_listed() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    let (topic, broker) = ((2, "t".to_owned()), (4, "0".to_owned()));
    let cases = [
        (vec![], 0, vec![topic.clone(), broker.clone()]),
        (vec![2], 0, vec![topic]),
        (vec![4, 8, 16, 32], 0, vec![broker]),
        (vec![2, 7], 35, vec![]),
    ];
    for (kinds, code, expected) in cases {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds.clone());
        let response = client.call(&request, 1).await;
        let resources = response.config_resources.iter();
        let listed: Vec<_> =
            resources.map(|resource| (resource.resource_type, resource.resource_name.to_string())).collect();
        assert_eq!((response.error_code, listed), (code, expected), "{kinds:?}");
    }
    assert!(client.call(&ListConfigResourcesRequest::default(), 0).await.config_resources.is_empty());
}
