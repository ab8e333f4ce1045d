//! What clients can make the broker hold is bounded, whatever they do.

use std::process::{Command, Stdio};

use highwater_broker::Broker;
use kafka_protocol::messages::*;

use crate::batch::Batch;
use crate::client::{Client, fetch_request, produce_request, text, topic_name};
use crate::{settings, start_with};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn readers_that_take_nothing_cost_no_more_than_the_budget_and_are_closed() {
    let (_dir, broker, mut client) = start_with(|settings| {
        settings.max_fetch_memory_bytes = 4 * MIB;
        settings.slow_reader_timeout_ms = 300;
    })
    .await;
    client.create("t").await;
    for _ in 0..4 {
        client.append("t", Batch::sized(900_000).bytes()).await;
    }
    // Each asks for 3.6 MB a hundred times and takes none of it.
    let mut greedy = Vec::new();
    for _ in 0..20 {
        let mut reader = Client::connect(broker.local_addr()).await;
        for _ in 0..60 {
            reader.send(&fetch_request("t", 0, 0, 1), 12).await;
        }
        greedy.push(reader);
    }
    // Others are served: their writes at once, their reads when somebody slow has been closed.
    client.append("t", Batch::of(["others write"]).bytes()).await;
    while client.read_all("t", 4).await != ["others write"] {}
    let used = broker.fetch_memory();
    // The records fit; what is around them in a response is little.
    assert!(used.peak > MIB && used.peak <= 4 * MIB + 20 * 1024, "{used:?}");
    drop(greedy);
    while broker.fetch_memory().now > 0 {
        client.call(&MetadataRequest::default(), 9).await;
    }
}

#[tokio::test]
async fn a_fetch_without_memory_is_answered_without_records() {
    let (_dir, broker, mut client) = start_with(|settings| settings.max_fetch_memory_bytes = MIB).await;
    client.create("t").await;
    client.append("t", Batch::sized(700_000).bytes()).await;
    // Fills what the system's sockets take, and then holds memory.
    let mut greedy = Client::connect(broker.local_addr()).await;
    for _ in 0..60 {
        greedy.send(&fetch_request("t", 0, 0, 1), 12).await;
    }
    loop {
        let response = client.fetch(&fetch_request("t", 0, 0, 1)).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 1));
        if partition.records.as_ref().is_none_or(|records| records.is_empty()) {
            break;
        }
    }
    assert!(broker.fetch_memory().peak <= MIB + 4096);
}

#[tokio::test]
async fn requests_that_never_end_cost_no_more_than_the_budget() {
    let (_dir, broker, mut client) = start_with(|settings| {
        settings.max_request_memory_bytes = 2 * MIB;
        settings.max_request_bytes = MIB + 1024;
        settings.request_read_timeout_ms = 300;
    })
    .await;
    client.create("t").await;
    // Each sends all but the last byte of a megabyte, so that none is ever whole. The system's sockets take what the
    // broker does not read.
    let mut halves = Vec::new();
    for _ in 0..8 {
        let mut half = Client::connect(broker.local_addr()).await;
        half.send_raw(&(MIB as i32).to_be_bytes()).await;
        half.send_raw(&vec![0; MIB - 1]).await;
        halves.push(half);
    }
    // Each is closed when its time is over, and then there is room for whoever means it.
    client.append("t", Batch::sized(500_000).bytes()).await;
    for half in &mut halves {
        assert!(half.receive_frame().await.is_none(), "still connected");
    }
    let used = broker.request_memory();
    assert!(used.peak > MIB && used.peak <= 4 * MIB, "{used:?}");
    while broker.request_memory().now > 0 {
        Client::connect(broker.local_addr()).await.call(&MetadataRequest::default(), 9).await;
    }
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let (_dir, broker, mut first) = start_with(|settings| settings.max_connections_per_ip = 1).await;
    first.call(&MetadataRequest::default(), 9).await;
    assert!(Client::connect(broker.local_addr()).await.receive_frame().await.is_none());
    drop(first);
    loop {
        let mut again = Client::connect(broker.local_addr()).await;
        again.send(&MetadataRequest::default(), 9).await;
        if again.receive_frame().await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn a_line_of_requests_is_limited_by_its_bytes() {
    let (_dir, broker, mut client) = start_with(|settings| settings.max_in_flight_bytes = 100_000).await;
    client.create("t").await;
    // A long poll is at the head of the line: what is behind it waits, and no more is read than may be in the line.
    client.send(&fetch_request("t", 0, 60_000, 1), 12).await;
    let behind = produce_request("t", Batch::sized(60_000).bytes(), 1);
    for _ in 0..10 {
        client.send(&behind, 7).await;
    }
    let mut other = Client::connect(broker.local_addr()).await;
    other.append("t", Batch::of(["wakes the poll"]).bytes()).await;
    client.receive::<kafka_protocol::messages::FetchRequest>(12).await;
    for _ in 0..10 {
        client.receive::<kafka_protocol::messages::ProduceRequest>(7).await;
    }
    // One in the line, one that waits to enter it, and the poll.
    assert!(broker.request_memory().peak < 200_000, "{:?}", broker.request_memory());
}

#[tokio::test]
async fn what_is_named_many_times_is_answered_once() {
    let (_dir, _broker, mut client) = start_with(|_| {}).await;
    client.create("t").await;
    let many = 1000;
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let metadata = client.call(&MetadataRequest::default().with_topics(Some(vec![topic; many])), 9).await;
    assert_eq!(metadata.topics.len(), 1);
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"));
    let configs = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource; many]), 4).await;
    assert_eq!(configs.results.len(), 1);
    let groups = vec![GroupId(text("g")); many];
    let described = client.call(&DescribeGroupsRequest::default().with_groups(groups), 5).await;
    assert_eq!(described.groups.len(), 1);
    let topics = |partitions: usize| {
        let topic = offset_fetch_request::OffsetFetchRequestTopics::default().with_name(topic_name("t"));
        vec![topic.with_partition_indexes(vec![0; partitions]); 2]
    };
    let group = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g")));
    let asked = vec![group.with_topics(Some(topics(many))); 2];
    let offsets = client.call(&OffsetFetchRequest::default().with_groups(asked), 8).await;
    let counts: Vec<usize> = offsets.groups[0].topics.iter().map(|topic| topic.partitions.len()).collect();
    assert_eq!((offsets.groups.len(), counts), (1, vec![1, 0]));
    let topic = describe_producers_request::TopicRequest::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0; many]);
    let producers = client.call(&DescribeProducersRequest::default().with_topics(vec![topic; 2]), 0).await;
    assert_eq!(producers.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 1);
}

#[tokio::test]
async fn topics_and_partitions_are_limited_over_the_whole_broker() {
    let (_dir, _broker, mut client) = start_with(|settings| {
        settings.max_topics = 3;
        settings.max_partitions = 5;
        settings.max_partitions_per_topic = 4;
    })
    .await;
    const POLICY_VIOLATION: i16 = 44;
    const INVALID_PARTITIONS: i16 = 37;
    assert_eq!(client.create_with("five", 5).await.0, INVALID_PARTITIONS);
    assert_eq!(client.create_with("four", 4).await.0, 0);
    let (code, reason) = client.create_with("two", 2).await;
    assert!(code == POLICY_VIOLATION && reason.contains("max_partitions"), "{code} {reason}");
    assert_eq!(client.create_with("one", 1).await.0, 0);
    let more = create_partitions_request::CreatePartitionsTopic::default().with_name(topic_name("one")).with_count(2);
    let grown = client.call(&CreatePartitionsRequest::default().with_topics(vec![more]), 3).await;
    assert_eq!(grown.results[0].error_code, POLICY_VIOLATION);
    let (_dir, _broker, mut client) = start_with(|settings| settings.max_topics = 1).await;
    assert_eq!(client.create_with("a", 1).await.0, 0);
    let (code, reason) = client.create_with("b", 1).await;
    assert!(code == POLICY_VIOLATION && reason.contains("max_topics"), "{code} {reason}");
}

#[tokio::test]
async fn requests_beyond_their_limits_close_the_connection() {
    let (_dir, broker, mut honest) = start_with(|settings| {
        settings.max_request_bytes = 2000;
        settings.max_request_elements = 10;
        settings.max_client_id_bytes = 3;
    })
    .await;
    // The client of the tests calls itself "test", which is too long here.
    honest.send(&MetadataRequest::default(), 9).await;
    assert!(honest.receive_frame().await.is_none());
    // Api 3 (Metadata), version 4, correlation id, no client id: topics, all named "", and whether to create them.
    let metadata = |topics: i32| {
        let head = [0, 3, 0, 4, 0, 0, 0, 7, 0xff, 0xff];
        [&head[..], &topics.to_be_bytes(), &vec![0; topics as usize * 2], &[0]].concat()
    };
    for (topics, answered) in [(10, true), (11, false), (1000, false)] {
        let mut client = Client::connect(broker.local_addr()).await;
        client.send_frame(&metadata(topics)).await;
        assert_eq!(client.receive_frame().await.is_some(), answered, "{topics} topics");
    }
}

#[tokio::test]
async fn groups_and_the_metadata_of_offsets_are_limited() {
    let (_dir, _broker, mut client) = start_with(|settings| {
        settings.max_groups = 1;
        settings.max_offset_metadata_bytes = 5;
    })
    .await;
    client.create("t").await;
    let commit = |group: &str, metadata: &str| {
        let partition = offset_commit_request::OffsetCommitRequestPartition::default()
            .with_committed_offset(1)
            .with_committed_metadata(Some(text(metadata)));
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    };
    const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    for (group, metadata, expected) in
        [("a", "123456", OFFSET_METADATA_TOO_LARGE), ("a", "12345", 0), ("b", "", 44), ("a", "", 0)]
    {
        let response = client.call(&commit(group, metadata), 8).await;
        assert_eq!(response.topics[0].partitions[0].error_code, expected, "{group} {metadata}");
    }
}

#[tokio::test]
async fn what_members_say_of_themselves_is_limited() {
    let (_dir, _broker, mut client) = start_with(|settings| settings.max_member_metadata_bytes = 100).await;
    const INVALID_REQUEST: i16 = 42;
    let join = |metadata: usize| {
        let protocol = join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(vec![0; metadata].into());
        JoinGroupRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    };
    assert_eq!(client.call(&join(96), 3).await.error_code, INVALID_REQUEST);
    let joined = client.call(&join(95), 3).await;
    assert_eq!(joined.error_code, 0);
    for (size, expected) in [(101, INVALID_REQUEST), (100, 0)] {
        let assignment = sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(vec![0; size].into());
        let sync = SyncGroupRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assignment]);
        assert_eq!(client.call(&sync, 3).await.error_code, expected, "{size} bytes");
    }
}

/// Run by the next test in a process of its own, which may open few files.
#[tokio::test]
#[ignore = "a part of another test"]
async fn broker_with_few_files() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(settings(dir.path())).await.unwrap();
    std::fs::write(std::env::var("ADDRESS_FILE").unwrap(), broker.local_addr().to_string()).unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_broker_out_of_file_descriptors_goes_on_when_there_are_some_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, program) = (dir.path().join("address"), std::env::current_exe().unwrap());
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 60; exec \"$0\" --ignored --exact limits::broker_with_few_files"])
        .arg(program)
        .env("ADDRESS_FILE", &file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let address = loop {
        if let Some(address) = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()) {
            break address;
        }
        assert!(child.try_wait().unwrap().is_none(), "the broker did not start");
        tokio::task::yield_now().await;
    };
    let mut first = Client::connect(address).await;
    first.create("t").await;
    let mut many = Vec::new();
    for _ in 0..100 {
        many.push(Client::connect(address).await);
    }
    // No file is left for a new topic, which is said; what is open goes on.
    let answer = first.create_with("another", 1).await.0;
    assert_eq!(answer, 56, "KAFKA_STORAGE_ERROR");
    first.append("t", Batch::of(["still here"]).bytes()).await;
    drop(many);
    let mut late = Client::connect(address).await;
    assert_eq!(late.read_all("t", 0).await, ["still here"]);
    while late.create_with("another", 1).await.0 != 0 {}
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "the broker ended badly");
}
