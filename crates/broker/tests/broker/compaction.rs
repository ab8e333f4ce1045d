//! Compacted topics over the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_broker::{Broker, BrokerSettings, ManualClock};
use tempfile::TempDir;

use crate::batch::Batch;
use crate::client::{Client, fetch_request, produce_request};
use crate::topics::create_with;
use crate::transactions::{Producer, read_committed};
use crate::{settings, start};

/// A broker with a compacted topic `t` of small segments, whose time is the test's.
async fn compacted(more: &[(&str, &str)]) -> (TempDir, Broker, Client, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let (broker, mut client) = restart(&dir, &clock).await;
    let mut configs = vec![
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0"),
        ("segment.ms", "100"),
        ("delete.retention.ms", "1000"),
    ];
    configs.extend_from_slice(more);
    create_with(&mut client, "t", &configs).await;
    (dir, broker, client, clock)
}

async fn restart(dir: &TempDir, clock: &Arc<ManualClock>) -> (Broker, Client) {
    let settings = BrokerSettings { log_cleaner_enable: false, ..settings(dir.path()) };
    let broker = Broker::start_with_clock(settings, clock.clone()).await.unwrap();
    let client = Client::connect(broker.local_addr()).await;
    (broker, client)
}

/// Ends the segment, and compacts.
async fn compact(broker: &Broker, clock: &ManualClock) {
    clock.advance(100);
    broker.enforce_retention().await;
    broker.compact().await;
}

/// Every record as offset, key and value.
async fn read(client: &mut Client) -> Vec<(i64, String, String)> {
    let mut found = Vec::new();
    let mut offset = client.list_offset("t", -2).await.0;
    let end = client.list_offset("t", -1).await.0;
    while offset < end {
        let response = client.fetch(&fetch_request("t", offset, 0, 1)).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let batches = crate::batch::parse(partition.records.as_ref().unwrap());
        assert!(!batches.is_empty(), "something is behind offset {offset}");
        for batch in batches {
            offset = batch.base_offset + i64::from(batch.last_offset_delta) + 1;
            let records = batch.offsets.iter().zip(&batch.keys).zip(&batch.values);
            found.extend(records.map(|((&offset, key), value)| (offset, key.clone(), value.clone())));
        }
    }
    found
}

fn own(records: &[(i64, &str, &str)]) -> Vec<(i64, String, String)> {
    records.iter().map(|&(offset, key, value)| (offset, key.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn a_compacted_topic_keeps_the_newest_of_each_key_through_restarts() {
    let (dir, broker, mut client, clock) = compacted(&[]).await;
    client.append("t", Batch::keyed([("a", Some("1")), ("b", Some("2")), ("a", Some("3"))]).bytes()).await;
    client.append("t", Batch::keyed([("c", Some("4")), ("b", None)]).bytes()).await;
    compact(&broker, &clock).await;
    let expected = own(&[(2, "a", "3"), (3, "c", "4"), (4, "b", "-")]);
    assert_eq!(read(&mut client).await, expected);
    // Reads begin anywhere, also where nothing is left.
    for offset in 0..5 {
        let response = client.fetch(&fetch_request("t", offset, 0, 1)).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 5));
        assert!(!partition.records.as_ref().unwrap().is_empty());
    }
    drop(broker);
    let (broker, mut client) = restart(&dir, &clock).await;
    assert_eq!(read(&mut client).await, expected);
    clock.advance(1000);
    client.append("t", Batch::keyed([("a", Some("5"))]).bytes()).await;
    compact(&broker, &clock).await;
    assert_eq!(read(&mut client).await, own(&[(3, "c", "4"), (5, "a", "5")]));
    assert_eq!((client.list_offset("t", -2).await.0, client.list_offset("t", -1).await.0), (0, 6));
}

#[tokio::test]
async fn the_codec_of_a_batch_survives_compaction() {
    let (_dir, broker, mut client, clock) = compacted(&[]).await;
    let zstd = |plain: Vec<u8>| zstd::encode_all(&plain[..], 3).unwrap();
    client.append("t", Batch::keyed([("a", Some("1")), ("b", Some("2"))]).packed(4, zstd)).await;
    client.append("t", Batch::keyed([("a", Some("3"))]).bytes()).await;
    compact(&broker, &clock).await;
    let response = client.fetch(&fetch_request("t", 0, 0, 1)).await;
    let batches = crate::batch::parse(response.responses[0].partitions[0].records.as_ref().unwrap());
    let found: Vec<_> = batches.iter().map(|batch| (batch.base_offset, batch.count, batch.attributes & 7)).collect();
    assert_eq!(found, [(0, 1, 4), (2, 1, 0)]);
}

#[tokio::test]
async fn sequences_go_on_after_everything_of_a_producer_was_replaced() {
    let (dir, broker, mut client, clock) = compacted(&[]).await;
    for sequence in 0..3 {
        client.append("t", Batch::keyed([("a", Some("x"))]).by_producer(7, 0, sequence).bytes()).await;
    }
    client.append("t", Batch::keyed([("a", Some("last"))]).bytes()).await;
    compact(&broker, &clock).await;
    assert_eq!(read(&mut client).await, own(&[(3, "a", "last")]));
    broker.shutdown().await.unwrap();
    for entry in std::fs::read_dir(dir.path().join("t-0")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snapshot") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (_broker, mut client) = restart(&dir, &clock).await;
    let send = |sequence| Batch::keyed([("a", Some("y"))]).by_producer(7, 0, sequence).bytes();
    assert_eq!(client.append("t", send(2)).await, 2, "known again");
    assert_eq!(client.produce("t", send(5)).await.error_code, 45);
    assert_eq!(client.append("t", send(3)).await, 4);
}

#[tokio::test]
async fn records_without_a_key_or_out_of_time_are_refused_each_by_its_place() {
    let (_dir, _broker, mut client, _clock) =
        compacted(&[("message.timestamp.before.max.ms", "500"), ("message.timestamp.after.max.ms", "500")]).await;
    let now = [1_000_000; 3];
    let refused = client.produce("t", Batch::of(["no key"]).at([now[0]]).bytes()).await;
    assert_eq!((refused.error_code, refused.base_offset), (87, -1));
    assert_eq!(refused.record_errors.len(), 1);
    let reason = refused.record_errors[0].batch_index_error_message.as_ref().unwrap();
    assert_eq!(reason.as_str(), "a compacted topic takes no record without a key");
    let late = Batch::keyed([("a", None), ("b", None), ("c", None)]).at([now[0], now[1] - 501, now[2] + 501]);
    let refused = client.produce("t", late.bytes()).await;
    let places: Vec<i32> = refused.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!((refused.error_code, places), (32, vec![1, 2]));
    let fine = Batch::keyed([("a", None), ("b", None)]).at([now[0] - 500, now[1] + 500]);
    assert_eq!(client.append("t", fine.bytes()).await, 0);
}

#[tokio::test]
async fn compact_and_delete_together_do_both() {
    let (_dir, broker, mut client, clock) =
        compacted(&[("cleanup.policy", "compact,delete"), ("retention.ms", "5000")]).await;
    client.append("t", Batch::keyed([("a", Some("1")), ("a", Some("2"))]).at([1_000_000; 2]).bytes()).await;
    compact(&broker, &clock).await;
    assert_eq!(read(&mut client).await, own(&[(1, "a", "2")]));
    clock.advance(6000);
    client.append("t", Batch::keyed([("b", Some("3"))]).at([1_006_000]).bytes()).await;
    broker.enforce_retention().await;
    assert_eq!(read(&mut client).await, own(&[(2, "b", "3")]));
    assert_eq!(client.list_offset("t", -2).await.0, 2);
}

#[tokio::test]
async fn a_record_within_the_lag_is_left_alone_and_one_beyond_it_is_not() {
    let (_dir, broker, mut client, clock) = compacted(&[("min.compaction.lag.ms", "5000")]).await;
    client.append("t", Batch::keyed([("a", Some("1")), ("a", Some("2"))]).at([1_000_000; 2]).bytes()).await;
    compact(&broker, &clock).await;
    assert_eq!(read(&mut client).await.len(), 2);
    clock.advance(5000);
    broker.compact().await;
    assert_eq!(read(&mut client).await.len(), 1);
    // A log that is hardly dirty is compacted when its records have waited for long enough.
    let (_dir, broker, mut client, clock) =
        compacted(&[("min.cleanable.dirty.ratio", "1"), ("max.compaction.lag.ms", "5000")]).await;
    client.append("t", Batch::keyed([("a", Some("1")), ("a", Some("2"))]).at([1_000_000; 2]).bytes()).await;
    compact(&broker, &clock).await;
    assert_eq!(read(&mut client).await.len(), 2);
    clock.advance(5000);
    broker.compact().await;
    assert_eq!(read(&mut client).await.len(), 1);
}

#[tokio::test]
async fn writers_and_readers_go_on_while_the_log_is_compacted() {
    let (_dir, broker, mut client, clock) = compacted(&[("segment.bytes", "2048")]).await;
    let broker = Arc::new(broker);
    let mut newest = BTreeMap::new();
    for round in 0..30 {
        let compacting = tokio::spawn({
            let broker = Arc::clone(&broker);
            async move { broker.compact().await }
        });
        for at in 0..10 {
            let (key, value) = (format!("k{}", (round * 7 + at) % 13), format!("{round}-{at}"));
            client.append("t", Batch::keyed([(key.as_str(), Some(value.as_str()))]).bytes()).await;
            newest.insert(key, value);
        }
        let found: BTreeMap<_, _> = read(&mut client).await.into_iter().map(|(_, key, value)| (key, value)).collect();
        assert_eq!(found, newest);
        compacting.await.unwrap();
    }
    compact(&broker, &clock).await;
    assert_eq!(read(&mut client).await.len(), newest.len());
}

/// Offsets of the markers there are.
async fn markers(client: &mut Client) -> Vec<i64> {
    let response = client.fetch(&fetch_request("t", 0, 0, 1)).await;
    let batches = crate::batch::parse(response.responses[0].partitions[0].records.as_ref().unwrap());
    batches.iter().filter(|batch| batch.attributes & 0x20 != 0).map(|batch| batch.base_offset).collect()
}

#[tokio::test]
async fn what_was_aborted_goes_what_is_open_stays_and_markers_go_when_nobody_needs_them() {
    let (dir, broker, mut client, clock) = compacted(&[]).await;
    let mut producer = Producer::start(&mut client, "p").await;
    for (value, committed) in [("1", false), ("2", true)] {
        producer.write_keyed(&mut client, "t", "a", value).await;
        assert_eq!(producer.end(&mut client, committed).await, 0);
    }
    producer.write_keyed(&mut client, "t", "a", "3").await;
    // Behind the oldest open transaction nothing is decided: "2" may yet turn out to be the newest.
    compact(&broker, &clock).await;
    assert_eq!(read(&mut client).await, own(&[(2, "a", "2"), (4, "a", "3")]));
    assert_eq!(read_committed(&mut client, "t", 0).await, (vec!["2".to_owned()], 4));
    assert_eq!(markers(&mut client).await, [1, 3]);

    assert_eq!(producer.end(&mut client, false).await, 0);
    client.append("t", Batch::keyed([("b", Some("x"))]).bytes()).await;
    compact(&broker, &clock).await;
    // The aborted batch holds the last sequence of its producer: it is empty now, and keeps its marker.
    assert_eq!(read(&mut client).await, own(&[(2, "a", "2"), (6, "b", "x")]));
    assert_eq!(markers(&mut client).await, [1, 3, 5]);

    producer.write_keyed(&mut client, "t", "a", "4").await;
    assert_eq!(producer.end(&mut client, true).await, 0);
    let mut expected = vec!["4".to_owned(), String::new()];
    for round in ["5", "6", "7"] {
        clock.advance(1000);
        client.append("t", Batch::keyed([("b", Some(round))]).bytes()).await;
        compact(&broker, &clock).await;
        expected[1] = round.to_owned();
        assert_eq!(read_committed(&mut client, "t", 0).await.0, expected);
    }
    // The newest marker that aborted says how far the index of aborted transactions goes.
    assert_eq!(markers(&mut client).await, [5, 8]);
    drop(broker);
    let (broker, mut client) = restart(&dir, &clock).await;
    assert_eq!(read_committed(&mut client, "t", 0).await.0, expected);
    // Whatever the producer writes now is no part of what it aborted once.
    let mut producer = Producer::start(&mut client, "p").await;
    producer.write_keyed(&mut client, "t", "a", "8").await;
    assert_eq!(producer.end(&mut client, true).await, 0);
    expected.push("8".to_owned());
    assert_eq!(read_committed(&mut client, "t", 0).await.0, expected);
    compact(&broker, &clock).await;
    assert_eq!(read_committed(&mut client, "t", 0).await.0, expected[1..]);
}

#[tokio::test]
async fn more_replicas_than_there_are_refuse_acks_of_all() {
    let (_dir, _broker, mut client) = start().await;
    create_with(&mut client, "t", &[("min.insync.replicas", "2")]).await;
    assert_eq!(client.produce("t", Batch::of(["v"]).bytes()).await.error_code, 19);
    let one = client.call(&produce_request("t", Batch::of(["v"]).bytes(), 1), 9).await;
    assert_eq!(one.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test]
async fn a_topic_with_a_codec_recompresses() {
    let (_dir, _broker, mut client) = start().await;
    create_with(&mut client, "t", &[("compression.type", "uncompressed")]).await;
    let zstd = |plain: Vec<u8>| zstd::encode_all(&plain[..], 3).unwrap();
    client.append("t", Batch::of(["v"]).packed(4, zstd)).await;
    assert_eq!(client.read_all("t", 0).await, ["v"]);
}

#[tokio::test]
async fn files_of_deleted_segments_stay_for_their_delay_and_no_restart() {
    let (dir, broker, mut client, clock) =
        compacted(&[("cleanup.policy", "delete"), ("retention.ms", "5000"), ("file.delete.delay.ms", "2000")]).await;
    let doomed = || {
        let names = std::fs::read_dir(dir.path().join("t-0")).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|extension| extension == "deleted")).count()
    };
    for (restarts, left) in [(false, 1), (true, 0)] {
        client.append("t", Batch::of(["v"]).bytes()).await;
        clock.advance(6000);
        broker.enforce_retention().await;
        assert!(doomed() > 0);
        clock.advance(1999);
        broker.enforce_retention().await;
        assert!(doomed() > 0);
        if restarts {
            break;
        }
        clock.advance(left);
        broker.enforce_retention().await;
        assert_eq!(doomed(), 0);
    }
    drop(broker);
    restart(&dir, &clock).await;
    assert_eq!(doomed(), 0);
}
