//! Records deleted by hand, and how much room the rest takes.

use kafka_protocol::messages::{
    DeleteRecordsRequest, DescribeLogDirsRequest, delete_records_request, describe_log_dirs_request,
};

use crate::batch::Batch;
use crate::client::{Client, fetch_request, topic_name};
use crate::{settings, start, start_with};

/// Deletes what lies before `offset`: the error and where the log begins.
async fn delete(client: &mut Client, topic: &str, offset: i64) -> (i16, i64) {
    let partition = delete_records_request::DeleteRecordsPartition::default().with_offset(offset);
    let topic = delete_records_request::DeleteRecordsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let response = client.call(&DeleteRecordsRequest::default().with_topics(vec![topic]), 2).await;
    let result = &response.topics[0].partitions[0];
    (result.error_code, result.low_watermark)
}

async fn fetch_code(client: &mut Client, offset: i64) -> i16 {
    client.fetch(&fetch_request("t", offset, 0, 1)).await.responses[0].partitions[0].error_code
}

#[tokio::test]
async fn deleted_records_are_gone_and_stay_gone() {
    for clean in [true, false] {
        let (dir, broker, mut client) = start().await;
        client.create("t").await;
        client.append("t", Batch::of(["a", "b", "c"]).at([100, 300, 200]).bytes()).await;
        client.append("t", Batch::of(["d", "e"]).at([250, 400]).bytes()).await;
        assert_eq!(delete(&mut client, "t", 2).await, (0, 2));
        for (offset, expected) in [(1, (0, 2)), (6, (1, -1)), (-2, (1, -1))] {
            assert_eq!(delete(&mut client, "t", offset).await, expected, "offset {offset}");
        }
        assert_eq!(delete(&mut client, "nowhere", 0).await, (3, -1));
        // Restarted, the log still begins in the middle of a batch.
        if clean {
            broker.shutdown().await.unwrap()
        } else {
            drop(broker)
        }
        let broker = highwater_broker::Broker::start(settings(dir.path())).await.unwrap();
        let mut client = Client::connect(broker.local_addr()).await;
        assert_eq!((fetch_code(&mut client, 1).await, fetch_code(&mut client, 2).await), (1, 0));
        // The first record not older than the time, of those that are left.
        for (time, expected) in [(-2, (2, -1)), (0, (2, 200)), (201, (3, 250)), (301, (4, 400)), (-3, (4, 400))] {
            assert_eq!(client.list_offset("t", time).await, expected, "time {time}");
        }
        assert_eq!(delete(&mut client, "t", -1).await, (0, 5));
        assert_eq!((client.list_offset("t", -2).await, client.list_offset("t", -1).await), ((5, -1), (5, -1)));
        assert_eq!(client.list_offset("t", 0).await, (-1, -1));
        assert_eq!(client.append("t", Batch::of(["f"]).bytes()).await, 5);
        assert_eq!(client.read_all("t", 5).await, ["f"]);
    }
}

#[tokio::test]
async fn records_of_a_topic_that_is_only_compacted_are_not_deleted() {
    let (_dir, _broker, mut client) = start().await;
    for (topic, policy, expected) in [("t", "compact", (44, -1)), ("u", "compact,delete", (0, 1))] {
        crate::topics::create_with(&mut client, topic, &[("cleanup.policy", policy)]).await;
        client.append(topic, Batch::keyed([("a", Some("1"))]).bytes()).await;
        assert_eq!(delete(&mut client, topic, 1).await, expected, "{policy}");
    }
}

/// A crash of the machine takes records that were deleted but never on the disk: those that come after it count.
#[tokio::test]
async fn records_behind_a_lost_end_are_not_taken_for_deleted() {
    let (dir, broker, mut client) = start().await;
    client.create("t").await;
    for value in ["a", "b", "c"] {
        client.append("t", Batch::of([value]).bytes()).await;
    }
    assert_eq!(delete(&mut client, "t", 3).await, (0, 3));
    drop(broker);
    let log = dir.path().join("t-0").join(format!("{:020}.log", 0));
    std::fs::OpenOptions::new().write(true).open(log).unwrap().set_len(0).unwrap();
    for expected in [&["d"][..], &["d", "e"]] {
        let broker = highwater_broker::Broker::start(settings(dir.path())).await.unwrap();
        let mut client = Client::connect(broker.local_addr()).await;
        client.append("t", Batch::of([*expected.last().unwrap()]).bytes()).await;
        assert_eq!(client.list_offset("t", -2).await, (0, -1));
        assert_eq!(client.read_all("t", 0).await, expected);
    }
}

async fn sizes(client: &mut Client, topics: Option<&[&str]>) -> Vec<(String, Vec<i64>)> {
    let asked = |topic: &&str| {
        describe_log_dirs_request::DescribableLogDirTopic::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![0, 7])
    };
    let asked = topics.map(|topics| topics.iter().map(asked).collect());
    let response = client.call(&DescribeLogDirsRequest::default().with_topics(asked), 4).await;
    let folder = &response.results[0];
    assert_eq!((response.results.len(), folder.error_code, folder.total_bytes), (1, 0, -1));
    let sizes = folder.topics.iter().map(|topic| {
        (topic.name.to_string(), topic.partitions.iter().map(|partition| partition.partition_size).collect())
    });
    sizes.collect()
}

#[tokio::test]
async fn the_size_of_each_partition_is_told_and_shrinks_by_whole_segments() {
    let (dir, _broker, mut client) = start_with(|settings| settings.max_partitions_per_topic = 1).await;
    crate::topics::create_with(&mut client, "t", &[("segment.bytes", "1024")]).await;
    client.create("u").await;
    let batch = Batch::of(["x".repeat(600)]).bytes();
    let one = batch.len() as i64;
    for _ in 0..4 {
        client.append("t", batch.clone()).await;
    }
    let all = vec![("t".to_owned(), vec![4 * one]), ("u".to_owned(), vec![0])];
    assert_eq!(sizes(&mut client, None).await, all);
    assert_eq!(sizes(&mut client, Some(&["t", "nowhere"])).await, all[..1]);
    let files = || std::fs::read_dir(dir.path().join("t-0")).unwrap().count();
    let before = files();
    assert_eq!(delete(&mut client, "t", 2).await, (0, 2));
    assert_eq!(sizes(&mut client, Some(&["t"])).await, [("t".to_owned(), vec![2 * one])]);
    assert!(files() < before);
}
