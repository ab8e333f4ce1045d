//! Topics: created, grown, configured, deleted.

use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    AlterConfigsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest, alter_configs_request,
    create_partitions_request, describe_configs_request,
};

use crate::batch::Batch;
use crate::client::{Client, text, topic_name};
use crate::{settings, start, start_with};

fn topic(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(partitions).with_replication_factor(1)
}

async fn create(client: &mut Client, topics: Vec<CreatableTopic>, validate_only: bool) -> Vec<(i16, i32)> {
    let request = CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate_only);
    let response = client.call(&request, 7).await;
    for topic in &response.topics {
        assert_eq!(topic.error_code != 0, topic.error_message.is_some());
    }
    response.topics.iter().map(|topic| (topic.error_code, topic.num_partitions)).collect()
}

/// Creates a topic with settings of its own.
pub(crate) async fn create_with(client: &mut Client, name: &str, configs: &[(&str, &str)]) {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
    let created = create(client, vec![topic(name, 1).with_configs(configs.collect())], false).await;
    assert_eq!(created[0].0, 0);
}

async fn names(client: &mut Client) -> Vec<(String, usize)> {
    let response = client.call(&MetadataRequest::default().with_topics(None), 12).await;
    response.topics.iter().map(|t| (t.name.as_ref().unwrap().to_string(), t.partitions.len())).collect()
}

#[tokio::test]
async fn topics_are_created_and_refused_each_by_itself() {
    let (_dir, _broker, mut client) = start_with(|settings| settings.max_partitions_per_topic = 10).await;
    let assigned = |broker| {
        let one = |index| {
            CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(vec![BrokerId(broker)])
        };
        topic(&format!("assigned-{broker}"), -1).with_assignments(vec![one(0), one(1)])
    };
    let config = |value: Option<&str>| {
        vec![CreatableTopicConfig::default().with_name(text("cleanup.policy")).with_value(value.map(text))]
    };
    let cases = [
        (topic("a", 3), (0, 3)),
        (topic("b", -1), (0, 1)),
        (topic("no/slash", 1), (17, -1)),
        (topic("..", 1), (17, -1)),
        (topic("none", 0), (37, -1)),
        (topic("many", 11), (37, -1)),
        (topic("replicated", 1).with_replication_factor(3), (38, -1)),
        (topic("composted", 1).with_configs(config(Some("compost"))), (40, -1)),
        (topic("valueless", 1).with_configs(config(None)), (40, -1)),
        (assigned(0), (0, 2)),
        (assigned(7), (39, -1)),
    ];
    let (topics, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    assert_eq!(create(&mut client, topics, false).await, expected);
    assert_eq!(create(&mut client, vec![topic("a", 1)], false).await, [(36, -1)]);
    assert_eq!(create(&mut client, vec![topic("twice", 1), topic("twice", 1)], false).await, [(42, -1), (42, -1)]);
    assert_eq!(create(&mut client, vec![topic("only-asked", 2)], true).await, [(0, 2)]);
    assert_eq!(names(&mut client).await, [("a".into(), 3), ("assigned-0".into(), 2), ("b".into(), 1)]);
}

#[tokio::test]
async fn metadata_creates_topics_only_when_both_sides_allow_it() {
    let asked = |name: &str| vec![MetadataRequestTopic::default().with_name(Some(topic_name(name)))];
    for (broker_allows, client_allows, expected) in [(true, true, 0), (true, false, 3), (false, true, 3)] {
        let (_dir, _broker, mut client) = start_with(|settings| settings.auto_create_topics = broker_allows).await;
        let request =
            MetadataRequest::default().with_topics(Some(asked("t"))).with_allow_auto_topic_creation(client_allows);
        assert_eq!(client.call(&request, 9).await.topics[0].error_code, expected);
    }
    let (_dir, _broker, mut client) = start().await;
    let bad = MetadataRequest::default().with_topics(Some(asked("no good")));
    assert_eq!(client.call(&bad, 9).await.topics[0].error_code, 17);
}

#[tokio::test]
async fn partitions_are_added_and_kept_and_deleted_topics_are_gone() {
    let (dir, broker, mut client) = start().await;
    create(&mut client, vec![topic("t", 2), topic("doomed", 1)], false).await;
    client.append("t", Batch::of(["kept"]).bytes()).await;
    let grow = |count| {
        let topic = create_partitions_request::CreatePartitionsTopic::default()
            .with_name(topic_name("t"))
            .with_count(count)
            .with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![topic])
    };
    for (count, expected) in [(2, 37), (1, 37), (4, 0)] {
        assert_eq!(client.call(&grow(count), 3).await.results[0].error_code, expected, "{count}");
    }
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("doomed"), topic_name("nowhere")]);
    let deleted: Vec<i16> = client.call(&delete, 5).await.responses.iter().map(|r| r.error_code).collect();
    assert_eq!(deleted, [0, 3]);
    assert!(!dir.path().join("doomed-0").exists());
    broker.shutdown().await.unwrap();

    let broker = highwater_broker::Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(names(&mut client).await, [("t".into(), 4)]);
    assert_eq!(client.read_all("t", 0).await, ["kept"]);
    // A topic of the same name is another topic.
    create(&mut client, vec![topic("doomed", 1)], false).await;
    assert_eq!(client.list_offset("doomed", -1).await.0, 0);
}

#[tokio::test]
async fn a_long_poll_learns_that_its_topic_is_gone() {
    let (_dir, broker, mut client) = start().await;
    client.create("t").await;
    let mut consumer = Client::connect(broker.local_addr()).await;
    consumer.send(&crate::client::fetch_request("t", 0, 25_000, 1), 12).await;
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]);
    assert_eq!(client.call(&delete, 5).await.responses[0].error_code, 0);
    let response = consumer.receive::<kafka_protocol::messages::FetchRequest>(12).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 3);
}

#[tokio::test]
async fn settings_of_a_topic_are_described_altered_and_survive() {
    let (dir, broker, mut client) = start().await;
    create_with(&mut client, "t", &[("retention.ms", "5000")]).await;
    let change = |name: &str, operation: i8, value: Option<&str>| {
        let config = AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    };
    for (request, expected) in [
        (change("max.message.bytes", 0, Some("100")), 0),
        (change("retention.ms", 1, None), 0),
        (change("cleanup.policy", 0, Some("compost")), 40),
        (change("nonsense", 0, Some("1")), 40),
    ] {
        assert_eq!(client.call(&request, 1).await.responses[0].error_code, expected);
    }
    assert_eq!(client.produce("t", Batch::sized(200).bytes()).await.error_code, 10);
    broker.shutdown().await.unwrap();
    let broker = highwater_broker::Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(client.produce("t", Batch::sized(200).bytes()).await.error_code, 10);

    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(None);
    let response = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource]), 4).await;
    let value = |name: &str| {
        let config = response.results[0].configs.iter().find(|config| *config.name == *name).unwrap();
        (config.value.as_ref().unwrap().to_string(), config.config_source)
    };
    assert_eq!(value("max.message.bytes"), ("100".to_owned(), 1));
    assert_eq!(value("retention.ms"), ("604800000".to_owned(), 5));

    // The old request replaces all settings: what it does not name is the default again.
    let old = |name: &str, topic: &str| {
        let config = alter_configs_request::AlterableConfig::default().with_name(text(name));
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(topic))
            .with_configs(vec![config.with_value(Some(text("1000")))]);
        AlterConfigsRequest::default().with_resources(vec![resource])
    };
    for (request, expected) in [(old("nonsense", "t"), 40), (old("retention.ms", "nowhere"), 3)] {
        assert_eq!(client.call(&request, 2).await.responses[0].error_code, expected);
    }
    assert_eq!(client.produce("t", Batch::sized(200).bytes()).await.error_code, 10, "nothing changed");
    assert_eq!(client.call(&old("retention.ms", "t"), 2).await.responses[0].error_code, 0);
    assert_eq!(client.produce("t", Batch::sized(200).bytes()).await.error_code, 0);
}
