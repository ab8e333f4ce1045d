//! `topic create | alter | list | delete`.
//!
//! librdkafka carries changes out, so that they work with every security setting it knows; it does not pass on why a
//! cluster refused, which is asked again through [`Direct`] where that can be.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, StringArray};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;

use super::client::{Cluster, Connection};
use super::direct::Direct;
use super::naming;
use crate::error::{Failure, Result};
use crate::output::Format;
use crate::output::columns::write_columns;

/// How long the cluster may take to carry a change out.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a cluster may take to show changed settings, and how often it is asked.
const PROPAGATION: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

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

/// Creates `topic`, or with `dry_run` only asks whether the cluster would; `false` if it is already there.
pub(crate) fn create(cluster: &Cluster, topic: &str, settings: &NewTopicSettings, dry_run: bool) -> Result<bool> {
    naming::check(topic).map_err(Failure::usage)?;
    // Asked first, because an admin client waits long for a broker that is not there.
    let metadata = cluster.metadata(&cluster.consumer(&[])?)?;
    if let Some(other) = naming::collision(topic, metadata.topics().iter().map(MetadataTopic::name)) {
        return Err(Failure::runtime(format!("topic '{topic}' collides with '{other}' on {}", cluster.bootstrap))
            .help(format!(
                "both are '{}' in Kafka's metrics: choose a name that differs in more than '.' and '_'",
                naming::metric_name(topic)
            )));
    }
    let mut new = NewTopic::new(topic, settings.partitions, TopicReplication::Fixed(settings.replication));
    for (key, value) in &settings.configs {
        new = new.set(key, value);
    }
    let results = futures::executor::block_on(admin(cluster)?.create_topics([&new], &options().validate_only(dry_run)))
        .map_err(|error| cluster.failure(&error))?;
    match results.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => {
            let reason = Direct::open(cluster, &metadata).why_not_create(topic, settings);
            let reason = reason.unwrap_or_else(|| code.to_string());
            Err(Failure::runtime(format!("topic '{topic}' cannot be created: {reason}")))
        }
        _ => Ok(true),
    }
}

/// What `topic alter` changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// The new number of partitions.
    pub(crate) partitions: Option<i32>,
    /// Settings to set.
    pub(crate) set: BTreeMap<String, String>,
    /// Settings that follow the cluster's defaults again.
    pub(crate) reset: Vec<String>,
}

/// Carries `changes` out, or with `dry_run` only asks whether the cluster would.
pub(crate) fn alter(cluster: &Cluster, topic: &str, changes: &Changes, dry_run: bool) -> Result<()> {
    let consumer = cluster.consumer(&[])?;
    let metadata = cluster.metadata(&consumer)?;
    let found = metadata.topics().iter().find(|known| known.name() == topic);
    let now = found.ok_or_else(|| cluster.missing_topic(topic))?.partitions().len();
    if let Some(wanted) = changes.partitions.and_then(|wanted| usize::try_from(wanted).ok()) {
        add_partitions(cluster, topic, now, wanted, dry_run)?;
    }
    if changes.set.is_empty() && changes.reset.is_empty() {
        return Ok(());
    }
    // The request replaces all settings of a topic, so that those it keeps are said again.
    let mut all = own_configs(cluster, topic)?;
    all.retain(|key, _| !changes.reset.contains(key));
    all.extend(changes.set.clone());
    let refused = |why: &str| Failure::runtime(format!("topic '{topic}' cannot be altered: {why}"));
    match Direct::open(cluster, &metadata).why_not_alter(topic, &all) {
        Some(None) if dry_run => return Ok(()),
        Some(Some(why)) => return Err(refused(&why)),
        None if dry_run => {
            return Err(refused("no broker could be asked without doing it").within("--dry-run").help(
                "the check is made with TLS, PLAIN and SCRAM; leave --dry-run out where the cluster wants more",
            ));
        }
        Some(None) | None => {}
    }
    let mut altered = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in &all {
        altered = altered.set(key, value);
    }
    futures::executor::block_on(admin(cluster)?.alter_configs([&altered], &options()))
        .map_err(|error| cluster.failure(&error))?;
    // The client does not pass on what the cluster thought of it, so the settings are read again. A cluster of
    // several may take a moment to tell all of its brokers.
    let deadline = Instant::now() + PROPAGATION;
    while own_configs(cluster, topic)? != all {
        if Instant::now() > deadline {
            return Err(refused("the cluster did not take the settings")
                .help("its log says why; see what is in force: highwater topic describe"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn add_partitions(cluster: &Cluster, topic: &str, now: usize, wanted: usize, dry_run: bool) -> Result<()> {
    if wanted < now {
        return Err(Failure::runtime(format!("topic '{topic}' has {now} partitions, which cannot become {wanted}"))
            .help("partitions can only be added; for fewer, copy the records to a new topic"));
    }
    if wanted == now {
        return Ok(());
    }
    let options = options().validate_only(dry_run);
    let new = NewPartitions::new(topic, wanted);
    let results = futures::executor::block_on(admin(cluster)?.create_partitions([&new], &options))
        .map_err(|error| cluster.failure(&error))?;
    for result in results {
        result.map_err(|(_, code)| Failure::runtime(format!("topic '{topic}' cannot be altered: {code}")))?;
    }
    if !dry_run {
        tracing::warn!(topic, from = now, to = wanted, "records of one key go to another partition from now on");
    }
    Ok(())
}

/// What a topic sets itself.
fn own_configs(cluster: &Cluster, topic: &str) -> Result<BTreeMap<String, String>> {
    let own = configs(cluster, topic)?.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
    Ok(own.filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

/// All settings in force for a topic.
pub(super) fn configs(cluster: &Cluster, topic: &str) -> Result<Vec<ConfigEntry>> {
    let resource = [ResourceSpecifier::Topic(topic)];
    let results = futures::executor::block_on(admin(cluster)?.describe_configs(&resource, &options()))
        .map_err(|error| cluster.failure(&error))?;
    match results.into_iter().next() {
        Some(Ok(resource)) => Ok(resource.entries),
        Some(Err(code)) => Err(Failure::runtime(format!("the settings of topic '{topic}' cannot be read: {code}"))),
        None => Ok(Vec::new()),
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

/// A partition and the offsets it has.
pub(super) struct PartitionOffsets {
    pub(super) id: i32,
    pub(super) leader: i32,
    pub(super) low: i64,
    pub(super) high: i64,
}

/// The offsets of all partitions of `topic`, in order.
pub(super) fn partition_offsets(
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

/// A column of texts.
pub(super) fn strings(values: Vec<&str>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

/// A column of numbers.
pub(super) fn numbers(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}
