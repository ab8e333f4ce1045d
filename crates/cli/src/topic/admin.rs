//! `topic create | list | describe | delete`.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;

use super::client::{Cluster, Connection};
use crate::error::{Failure, Result};
use crate::output::{self, Format};

/// How long the cluster may take to carry a change out.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a new topic is like.
#[derive(Debug, Clone)]
pub(crate) struct NewTopicSettings {
    /// How many partitions.
    pub(crate) partitions: i32,
    /// Copies of each; -1 leaves it to the cluster.
    pub(crate) replication: i32,
    /// Settings of the topic, such as `retention.ms`.
    pub(crate) configs: Vec<(String, String)>,
}

/// Creates `topic`; `false` if it is already there.
pub(crate) fn create(cluster: &Cluster, topic: &str, settings: &NewTopicSettings) -> Result<bool> {
    // Asked first, because an admin client waits long for a broker that is not there.
    cluster.metadata(&cluster.consumer(&[])?)?;
    let mut new = NewTopic::new(topic, settings.partitions, TopicReplication::Fixed(settings.replication));
    for (key, value) in &settings.configs {
        new = new.set(key, value);
    }
    let results = futures::executor::block_on(admin(cluster)?.create_topics([&new], &options()))
        .map_err(|error| cluster.failure(&error))?;
    match results.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(Failure::runtime(format!("topic '{topic}' cannot be created: {code}"))),
        _ => Ok(true),
    }
}

/// Deletes `topic` and what is in it.
pub(crate) fn delete(cluster: &Cluster, topic: &str) -> Result<()> {
    cluster.existing_partitions(&cluster.consumer(&[])?, topic)?;
    let results = futures::executor::block_on(admin(cluster)?.delete_topics(&[topic], &options()))
        .map_err(|error| cluster.failure(&error))?;
    match results.into_iter().next() {
        Some(Err((_, code))) => Err(Failure::runtime(format!("topic '{topic}' cannot be deleted: {code}"))),
        _ => Ok(()),
    }
}

fn admin(cluster: &Cluster) -> Result<AdminClient<Connection>> {
    cluster.config(&[]).create_with_context(Connection::default()).map_err(|error| cluster.failure(&error))
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(CHANGE_TIMEOUT)).request_timeout(Some(CHANGE_TIMEOUT))
}

/// Writes the topics there are; Kafka's own (`__...`) only if asked for.
pub(crate) fn list(cluster: &Cluster, internal: bool, format: Format, out: &mut impl Write) -> Result<()> {
    let consumer = cluster.consumer(&[])?;
    let metadata = cluster.metadata(&consumer)?;
    let mut topics: Vec<&MetadataTopic> =
        metadata.topics().iter().filter(|topic| internal || !topic.name().starts_with("__")).collect();
    topics.sort_by_key(|topic| topic.name());
    let mut names: Vec<&str> = Vec::new();
    let (mut partitions, mut records) = (Vec::new(), Vec::new());
    for topic in topics {
        let offsets = partition_offsets(cluster, &consumer, topic)?;
        names.push(topic.name());
        partitions.push(i64::try_from(offsets.len()).unwrap_or(i64::MAX));
        records.push(offsets.iter().map(|partition| partition.high - partition.low).sum());
    }
    let columns = [("topic", strings(names)), ("partitions", numbers(partitions)), ("records", numbers(records))];
    write_columns(format, columns, out)
}

/// Writes the partitions of `topic`: leader, first and next offset, records between them.
pub(crate) fn describe(cluster: &Cluster, topic: &str, format: Format, out: &mut impl Write) -> Result<()> {
    let consumer = cluster.consumer(&[])?;
    let metadata = cluster.metadata(&consumer)?;
    let Some(found) = metadata.topics().iter().find(|known| known.name() == topic) else {
        return Err(cluster.missing_topic(topic));
    };
    let partitions = partition_offsets(cluster, &consumer, found)?;
    let column = |value: fn(&PartitionOffsets) -> i64| numbers(partitions.iter().map(value).collect());
    let columns = [
        ("partition", column(|partition| i64::from(partition.id))),
        ("leader", column(|partition| i64::from(partition.leader))),
        ("first_offset", column(|partition| partition.low)),
        ("next_offset", column(|partition| partition.high)),
        ("records", column(|partition| partition.high - partition.low)),
    ];
    write_columns(format, columns, out)
}

struct PartitionOffsets {
    id: i32,
    leader: i32,
    low: i64,
    high: i64,
}

fn partition_offsets(
    cluster: &Cluster,
    consumer: &BaseConsumer<Connection>,
    topic: &MetadataTopic,
) -> Result<Vec<PartitionOffsets>> {
    topic
        .partitions()
        .iter()
        .map(|partition| {
            let (low, high) = consumer
                .fetch_watermarks(topic.name(), partition.id(), CHANGE_TIMEOUT)
                .map_err(|error| cluster.failure(&error))?;
            Ok(PartitionOffsets { id: partition.id(), leader: partition.leader(), low, high })
        })
        .collect()
}

fn strings(values: Vec<&str>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn numbers(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn write_columns<const N: usize>(format: Format, columns: [(&str, ArrayRef); N], out: &mut impl Write) -> Result<()> {
    let batch = RecordBatch::try_from_iter(columns).map_err(|error| Failure::runtime(error.to_string()))?;
    output::write_rows(format, &batch.schema(), &[batch], out)
}
