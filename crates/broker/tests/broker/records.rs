//! Produce, fetch and list offsets.

use std::io::Write;
use std::time::{Duration, Instant};

use highwater_broker::FsyncMode;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};

use crate::batch::{Batch, parse};
use crate::client::{Client, fetch_request, produce_request};
use crate::{start, start_with};

const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const OUT_OF_ORDER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;

#[tokio::test]
async fn what_is_produced_is_fetched_in_order_whatever_the_fsync_mode() {
    for fsync in [FsyncMode::Always, FsyncMode::Os, FsyncMode::Interval { interval_ms: 5 }] {
        let (_dir, broker, mut client) = start_with(|settings| settings.fsync = fsync).await;
        client.create("t").await;
        assert_eq!(client.append("t", Batch::of(["a", "b"]).bytes()).await, 0);
        assert_eq!(client.append("t", Batch::of(["c"]).bytes()).await, 2);
        assert_eq!(client.read_all("t", 0).await, ["a", "b", "c"], "{fsync}");
        // A fetch from inside a batch gets the whole batch; the client skips.
        assert_eq!(client.read_all("t", 1).await, ["a", "b", "c"]);
        broker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn batches_come_back_byte_for_byte_but_for_offset_and_epoch() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    client.append("t", Batch::of(["first"]).bytes()).await;
    let sent = Batch::of(["x", "y"]).bytes();
    client.append("t", sent.clone()).await;
    let response = client.fetch(&fetch_request("t", 1, 0, 1)).await;
    let got = response.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(got[..8], 1i64.to_be_bytes());
    assert_eq!(got[16..], sent[16..]);
}

#[tokio::test]
async fn a_batch_that_is_not_right_is_refused_with_the_right_error() {
    let (_dir, _broker, mut client) = start_with(|settings| settings.max_message_bytes = 1000).await;
    client.create("t").await;
    let good = Batch::of(["value"]).bytes();
    let damaged = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        bytes.into()
    };
    let two = [&good[..], &good[..]].concat();
    for (batch, expected) in [
        (damaged(70), CORRUPT_MESSAGE),
        (damaged(16), 87),
        (Batch::sized(1000).bytes(), MESSAGE_TOO_LARGE),
        (two.into(), 87),
        (good.slice(..good.len() - 1), CORRUPT_MESSAGE),
        (good.slice(..20), 87),
        (bytes::Bytes::new(), 87),
        (Batch::of(["v"]).packed(5, |records| records), 76),
    ] {
        let response = client.produce("t", batch).await;
        assert_eq!((response.error_code, response.base_offset), (expected, -1), "{:?}", response.error_message);
        assert!(response.error_message.is_some());
    }
    let with_acks = |acks| produce_request("t", Batch::of(["v"]).bytes(), acks);
    let refused = client.call(&with_acks(5), 9).await;
    assert_eq!(refused.responses[0].partition_responses[0].error_code, 21);
    let transactional_id = kafka_protocol::messages::TransactionalId(crate::client::text("tx"));
    let transactional = with_acks(1).with_transactional_id(Some(transactional_id));
    let refused = client.call(&transactional, 9).await;
    assert_eq!(refused.responses[0].partition_responses[0].error_code, 21);
    let unknown = client.produce("nowhere", Batch::of(["v"]).bytes()).await;
    assert_eq!(unknown.error_code, 3);
    assert_eq!(client.append("t", good).await, 0, "nothing of that was stored");
}

#[tokio::test]
async fn a_retried_batch_is_stored_once_and_a_gap_is_refused() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    let id = client.call(&InitProducerIdRequest::default().with_transactional_id(None), 4).await;
    assert_eq!(id.error_code, 0);
    let send = |epoch, sequence| Batch::of(["v"]).by_producer(id.producer_id.0, epoch, sequence).bytes();
    for sequence in 0..7 {
        assert_eq!(client.append("t", send(0, sequence)).await, i64::from(sequence));
    }
    for sequence in 2..7 {
        assert_eq!(client.append("t", send(0, sequence)).await, i64::from(sequence), "answered again");
    }
    assert_eq!(client.produce("t", send(0, 9)).await.error_code, OUT_OF_ORDER);
    assert_eq!(client.append("t", send(1, 0)).await, 7, "a newer epoch starts at zero");
    assert_eq!(client.produce("t", send(0, 7)).await.error_code, INVALID_PRODUCER_EPOCH);
    assert_eq!(client.read_all("t", 0).await.len(), 8);
}

#[tokio::test]
async fn produces_in_flight_are_answered_in_order() {
    let (_dir, _broker, mut client) = start_with(|settings| settings.fsync = FsyncMode::Always).await;
    client.create("t").await;
    for value in 0..100 {
        let acks = if value % 2 == 0 { 1 } else { -1 };
        client.send(&produce_request("t", Batch::of([value.to_string()]).bytes(), acks), 9).await;
    }
    for expected in 0..100 {
        let response = client.receive::<ProduceRequest>(9).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, expected);
    }
    // Without acks there is no answer: the next one belongs to the next request.
    client.send(&produce_request("t", Batch::of(["silent"]).bytes(), 0), 9).await;
    assert_eq!(client.append("t", Batch::of(["loud"]).bytes()).await, 101);
}

#[tokio::test]
async fn a_long_poll_is_answered_by_the_append_it_waits_for() {
    for fsync in [FsyncMode::Os, FsyncMode::Always] {
        let (_dir, broker, mut producer) = start_with(|settings| settings.fsync = fsync).await;
        producer.create("t").await;
        let mut consumer = Client::connect(broker.local_addr()).await;
        let started = Instant::now();
        let request = fetch_request("t", 0, 25_000, 1);
        consumer.send(&request, 12).await;
        producer.append("t", Batch::of(["now"]).bytes()).await;
        let response = consumer.receive::<kafka_protocol::messages::FetchRequest>(12).await;
        let records = response.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(parse(&records)[0].values, ["now"]);
        assert!(started.elapsed() < Duration::from_secs(20), "not woken, but timed out");
    }
}

#[tokio::test]
async fn a_long_poll_gives_up_empty_and_an_error_does_not_wait() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    let empty = client.fetch(&fetch_request("t", 0, 50, 1)).await;
    assert_eq!(empty.responses[0].partitions[0].records.as_deref(), Some(&b""[..]));
    let started = Instant::now();
    let outside = client.fetch(&fetch_request("t", 5, 25_000, 1)).await;
    assert_eq!(outside.responses[0].partitions[0].error_code, 1);
    let unknown = client.fetch(&fetch_request("nowhere", 0, 25_000, 1)).await;
    assert_eq!(unknown.responses[0].partitions[0].error_code, 3);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn limits_of_a_fetch_are_kept_but_the_first_batch_is_always_whole() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    for _ in 0..10 {
        client.append("t", Batch::sized(1000).bytes()).await;
    }
    let fetch = |partition_bytes: i32, bytes: i32| {
        let mut request = fetch_request("t", 0, 0, 1);
        request.max_bytes = bytes;
        request.topics[0].partitions[0].partition_max_bytes = partition_bytes;
        request
    };
    for (partition_bytes, bytes, batches) in [(1, 1 << 20, 1), (2500, 1 << 20, 2), (1 << 20, 3500, 3), (0, 0, 1)] {
        let response = client.fetch(&fetch(partition_bytes, bytes)).await;
        let records = response.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(parse(&records).len(), batches, "{partition_bytes} {bytes}");
    }
    // Only the first partition of a response may go over its limit.
    let mut request = fetch(1, 1);
    let again = request.topics[0].partitions[0].clone();
    request.topics[0].partitions.push(again);
    let response = client.fetch(&request).await;
    let sizes: Vec<usize> =
        response.responses[0].partitions.iter().map(|p| parse(p.records.as_ref().unwrap()).len()).collect();
    assert_eq!(sizes, [1, 0]);
}

#[tokio::test]
async fn log_append_time_replaces_the_producers_time() {
    let (_dir, _broker, mut client) = start().await;
    crate::topics::create_with(&mut client, "t", &[("message.timestamp.type", "LogAppendTime")]).await;
    let response = client.produce("t", Batch::of(["a"]).at([5]).bytes()).await;
    assert!(response.log_append_time_ms > 1_600_000_000_000);
    let fetched = client.fetch(&fetch_request("t", 0, 0, 1)).await;
    let batch = &parse(fetched.responses[0].partitions[0].records.as_ref().unwrap())[0];
    assert_eq!((batch.attributes & 8, batch.max_timestamp), (8, response.log_append_time_ms));
}

type Pack = fn(Vec<u8>) -> Vec<u8>;

#[tokio::test]
async fn offsets_are_found_by_time_to_the_record_in_every_codec() {
    let packs: [(i16, Pack); 6] = [(0, |r| r), (1, gzip), (2, snappy_raw), (2, snappy_xerial), (3, lz4), (4, zstd)];
    let (_dir, _broker, mut client) = start().await;
    for (at, (codec, pack)) in packs.into_iter().enumerate() {
        let topic = format!("t{at}");
        client.create(&topic).await;
        // Out of order on purpose: the first record not older than the time is asked for.
        client.append(&topic, Batch::of(["a", "b", "c"]).at([100, 300, 200]).packed(codec, pack)).await;
        client.append(&topic, Batch::of(["d", "e"]).at([250, 400]).packed(codec, pack)).await;
        for (time, expected) in [
            (0, (0, 100)),
            (100, (0, 100)),
            (101, (1, 300)),
            (300, (1, 300)),
            (301, (4, 400)),
            (401, (-1, -1)),
            (-1, (5, -1)),
            (-2, (0, -1)),
            (-3, (4, 400)),
        ] {
            assert_eq!(client.list_offset(&topic, time).await, expected, "codec {codec}, time {time}");
        }
    }
}

fn gzip(records: Vec<u8>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&records).unwrap();
    encoder.finish().unwrap()
}

fn lz4(records: Vec<u8>) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(&records).unwrap();
    encoder.finish().unwrap()
}

fn zstd(records: Vec<u8>) -> Vec<u8> {
    zstd::encode_all(&records[..], 1).unwrap()
}

fn snappy_raw(records: Vec<u8>) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&records).unwrap()
}

fn snappy_xerial(records: Vec<u8>) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in records.chunks(7) {
        let block = snappy_raw(block.to_vec());
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    out
}
