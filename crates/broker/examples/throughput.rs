//! How fast a broker takes and gives record batches over loopback, client included:
//! `cargo run --release -p highwater-broker --example throughput -- [data dir]`.
//!
//! One connection, five produces in flight, batches built before; fetches ask for 1 MiB at a time.
//! The figures are of one run on one machine and good for comparing changes, no more.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use highwater_broker::{Broker, BrokerSettings, FsyncMode};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
    fetch_request, metadata_request, produce_request,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Outcome<T> = Result<T, Box<dyn Error>>;

const IN_FLIGHT: usize = 5;
const TOTAL_BYTES: usize = 1 << 30;
const MIB: f64 = (1 << 20) as f64;

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("highwater-throughput");
    println!("{:>10} {:>12} {:>14} {:>14}", "fsync", "batch bytes", "produce MiB/s", "fetch MiB/s");
    for fsync in [FsyncMode::Interval { interval_ms: 1000 }, FsyncMode::Always] {
        for batch_bytes in [4096, 16 * 1024, 128 * 1024, 1 << 20] {
            let (produced, fetched) = measure(&dir, fsync, batch_bytes).await?;
            println!("{:>10} {batch_bytes:>12} {produced:>14.0} {fetched:>14.0}", fsync.to_string());
        }
    }
    Ok(())
}

/// MiB/s produced and fetched.
async fn measure(dir: &Path, fsync: FsyncMode, batch_bytes: usize) -> Outcome<(f64, f64)> {
    let _ = std::fs::remove_dir_all(dir);
    let settings = BrokerSettings { listen: ([127, 0, 0, 1], 0).into(), fsync, ..BrokerSettings::new(dir) };
    let broker = Broker::start(settings).await?;
    let mut stream = TcpStream::connect(broker.local_addr()).await?;
    stream.set_nodelay(true)?;
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name()));
    stream.write_all(&frame(&MetadataRequest::default().with_topics(Some(vec![topic])), 9)?).await?;
    read_frame(&mut stream).await?;
    // What waits for every fsync moves less in the same time.
    let total = if fsync == FsyncMode::Always { TOTAL_BYTES / 8 } else { TOTAL_BYTES };
    let count = (total / batch_bytes).min(20_000);
    let megabytes = (count * batch_bytes) as f64 / MIB;
    let started = Instant::now();
    produce(&mut stream, batch_bytes, count).await?;
    let produced = megabytes / started.elapsed().as_secs_f64();
    let started = Instant::now();
    fetch(&mut stream, count as i64).await?;
    let fetched = megabytes / started.elapsed().as_secs_f64();
    drop(stream);
    broker.shutdown().await?;
    std::fs::remove_dir_all(dir)?;
    Ok((produced, fetched))
}

async fn produce(stream: &mut TcpStream, batch_bytes: usize, count: usize) -> Outcome<()> {
    let data = produce_request::PartitionProduceData::default().with_records(Some(batch(batch_bytes)));
    let topic = produce_request::TopicProduceData::default().with_name(topic_name()).with_partition_data(vec![data]);
    let request = frame(&ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]), 9)?;
    for sent in 0..count + IN_FLIGHT {
        if sent < count {
            stream.write_all(&request).await?;
        }
        if sent >= IN_FLIGHT {
            read_frame(stream).await?;
        }
    }
    Ok(())
}

async fn fetch(stream: &mut TcpStream, end: i64) -> Outcome<()> {
    let mut offset = 0;
    while offset < end {
        let partition =
            fetch_request::FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
        let topic = fetch_request::FetchTopic::default().with_topic(topic_name()).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_topics(vec![topic]);
        stream.write_all(&frame(&request, 12)?).await?;
        let mut answer = read_frame(stream).await?;
        ResponseHeader::decode(&mut answer, ApiKey::Fetch.response_header_version(12))?;
        let response = FetchResponse::decode(&mut answer, 12)?;
        let records = response.responses[0].partitions[0].records.clone().unwrap_or_default();
        let mut rest = &records[..];
        // Each batch has one record.
        while rest.len() >= 12 {
            let length = i32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]);
            rest = &rest[usize::try_from(length)? + 12..];
            offset += 1;
        }
    }
    Ok(())
}

fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

/// A batch of that many bytes with one record, whose content no broker looks at.
fn batch(bytes: usize) -> Bytes {
    let mut tail = vec![0; bytes - 21];
    tail[22..30].copy_from_slice(&(-1i64).to_be_bytes());
    tail[30..32].copy_from_slice(&(-1i16).to_be_bytes());
    tail[32..36].copy_from_slice(&(-1i32).to_be_bytes());
    tail[36..40].copy_from_slice(&1i32.to_be_bytes());
    let mut out = BytesMut::with_capacity(bytes);
    out.extend_from_slice(&0i64.to_be_bytes());
    out.extend_from_slice(&((bytes - 12) as i32).to_be_bytes());
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.extend_from_slice(&[2]);
    out.extend_from_slice(&crc32c::crc32c(&tail).to_be_bytes());
    out.extend_from_slice(&tail);
    out.freeze()
}

fn frame<R: Request>(request: &R, version: i16) -> Outcome<Bytes> {
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version))?;
    request.encode(&mut body, version)?;
    let size = i32::try_from(body.len())?;
    Ok([&size.to_be_bytes()[..], &body].concat().into())
}

async fn read_frame(stream: &mut TcpStream) -> Outcome<Bytes> {
    let size = usize::try_from(stream.read_i32().await?)?;
    let mut frame = vec![0; size];
    stream.read_exact(&mut frame).await?;
    Ok(frame.into())
}
