//! How fast a filled topic is read: `cargo run --release --example read_topic -- localhost:9092 events`.
//!
//! Reads the whole topic several times on one thread and says what a record costs: the walk alone, the value as
//! bytes, and the JSON decode of all and of some of the columns of the benchmark's events.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use highwater_connectors::kafka::KafkaConnector;
use highwater_connectors::kafka::client::cluster::{Client, ClientSettings, Position, TopicPartition};
use highwater_connectors::kafka::client::error::ClientError;
use highwater_connectors::kafka::client::fetch::PartitionFetcher;
use highwater_engine::checkpoint::{CheckpointDir, Durability};
use highwater_engine::clock::{Clock, SystemClock};
use highwater_engine::plan::catalog::{Connector, TableDefinition};
use highwater_engine::source::{OffsetRange, SourceRequest};

const ROUNDS: usize = 3;
const COLUMNS: [&str; 7] = ["event_id", "user_id", "event_type", "amount", "ts", "device", "country"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(servers), Some(topic)) = (args.next(), args.next()) else {
        return Err("expected two arguments: host:port and a topic".into());
    };
    for _ in 0..ROUNDS {
        timed("walk", || walk(&servers, &topic))?;
        timed("value as bytes", || read(&servers, &topic, None, vec![1]))?;
        timed("JSON, 3 of 7", || read(&servers, &topic, Some(events()), vec![1, 2, 3]))?;
        timed("JSON, 7 of 7", || read(&servers, &topic, Some(events()), (0..7).collect()))?;
    }
    Ok(())
}

fn timed(what: &str, run: impl FnOnce() -> Result<u64, Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let clock = SystemClock;
    let (start_ns, start_cpu_ns) = (clock.monotonic_ns(), cpu_ns());
    let records = run()?.max(1);
    let (wall_ns, used_ns) = (clock.monotonic_ns() - start_ns, cpu_ns() - start_cpu_ns);
    println!(
        "{what:16} {records:>9} records, a record: {:>5} ns of time, {:>5} ns of CPU",
        wall_ns / records,
        used_ns / records
    );
    Ok(())
}

/// CPU time of this process, in steps of 10 ms (`/proc/self/stat`, fields 14 and 15).
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}

fn walk(servers: &str, topic: &str) -> Result<u64, Box<dyn Error>> {
    let settings = ClientSettings { bootstrap: vec![servers.to_owned()], ..ClientSettings::default() };
    let client = Client::new(settings, Arc::new(SystemClock));
    let topics = client.topics(&[Arc::from(topic)])?;
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    let partitions: Vec<_> = partitions.map(|partition| TopicPartition::new(topic, partition.partition)).collect();
    let starts = client.positions(partitions.clone(), Position::Earliest)?;
    let ends = client.positions(partitions, Position::Latest)?;
    let mut records = 0;
    for (partition, end) in ends {
        let start = starts[&partition];
        let mut fetcher = PartitionFetcher::new(client.clone(), partition, start, end);
        fetcher.read::<ClientError>(|record| {
            records += u64::from(std::hint::black_box(record).value.is_some());
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(records)
}

fn read(
    servers: &str,
    topic: &str,
    schema: Option<Arc<Schema>>,
    projection: Vec<usize>,
) -> Result<u64, Box<dyn Error>> {
    let options = [("kafka.bootstrap.servers", servers), ("subscribe", topic), ("startingOffsets", "earliest")];
    let definition = TableDefinition {
        name: topic.to_owned(),
        format: "kafka".to_owned(),
        schema,
        options: options.into_iter().collect(),
        partition_columns: Vec::new(),
    };
    let table = KafkaConnector.table(&definition)?;
    // A topic keeps nothing in the checkpoint.
    let metadata = CheckpointDir::open("none", Durability::None)?.source_metadata(0);
    let mut source =
        table.source(SourceRequest { projection, members: Vec::new(), metadata, may_be_missing: false })?;
    let range = OffsetRange { start: source.initial_offset()?, end: source.latest_offset()? };
    let mut records = 0;
    for mut reader in source.read(&range)? {
        while let Some(batch) = reader.next_batch()? {
            std::hint::black_box(&batch);
        }
        records += reader.report().records;
    }
    Ok(records)
}

fn events() -> Arc<Schema> {
    let data_type = |name: &str| match name {
        "user_id" => DataType::Int64,
        "amount" => DataType::Float64,
        _ => DataType::Utf8,
    };
    Arc::new(Schema::new(COLUMNS.map(|name| Field::new(name, data_type(name), true)).to_vec()))
}
