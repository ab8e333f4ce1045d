//! Which partitions a table has now, and where reading them begins and ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_engine::error::{EngineError, Result, nearest};

use super::client::cluster::{Client, Position, TopicMetadata, TopicPartition};
use super::offsets::{EARLIEST, LATEST, PartitionOffsets};
use super::options::{KafkaOptions, Selection, StartingPoint, TimestampStrategy};

/// The partitions the selection names that are there now. A topic that is not there is left out.
pub fn partitions(client: &Client, selection: &Selection) -> Result<Vec<TopicPartition>> {
    let of_topic = |topic: TopicMetadata| {
        let name = topic.name.clone();
        topic.partitions.into_iter().map(move |partition| TopicPartition::new(name.clone(), partition.partition))
    };
    let mut found: Vec<TopicPartition> = match selection {
        Selection::Subscribe(topics) => client.topics(topics)?.into_iter().flat_map(of_topic).collect(),
        Selection::Pattern(pattern) => {
            let all = client.all_topics()?.into_iter();
            all.filter(|topic| !topic.internal && pattern.is_match(&topic.name)).flat_map(of_topic).collect()
        }
        Selection::Assign(partitions) => {
            let there = client.topics(&topics_of(partitions))?.into_iter().flat_map(of_topic);
            there.filter(|partition| partitions.contains(partition)).collect()
        }
    };
    found.sort_unstable();
    Ok(found)
}

/// The same, but everything that is named must be there: for the first look at a table.
pub fn partitions_that_must_exist(client: &Client, options: &KafkaOptions) -> Result<Vec<TopicPartition>> {
    let selection = options.selection.as_ref().ok_or_else(|| not_readable(options))?;
    let found = partitions(client, selection)?;
    match selection {
        Selection::Subscribe(topics) => {
            if let Some(missing) = topics.iter().find(|topic| !found.iter().any(|there| there.topic == **topic)) {
                return Err(missing_topic(client, missing));
            }
        }
        Selection::Assign(wanted) => {
            if let Some(missing) = wanted.iter().find(|partition| !found.contains(partition)) {
                if !found.iter().any(|there| there.topic == missing.topic) {
                    return Err(missing_topic(client, &missing.topic));
                }
                return Err(EngineError::config(format!(
                    "{}: option 'assign' names partition {missing}, which does not exist",
                    options.object
                ))
                .help(format!("see which there are: highwater topic describe {}", missing.topic)));
            }
        }
        Selection::Pattern(_) => {}
    }
    Ok(found)
}

/// What is there of a table's topics, in a few words; as a target only the topic it writes to.
pub fn found(client: &Client, options: &KafkaOptions, as_target: bool) -> Result<String> {
    if as_target {
        let Some(topic) = &options.topic else { return Ok("the broker answers".to_owned()) };
        let there = client.topics(&[Arc::from(topic.as_str())])?;
        return Ok(match there.first() {
            Some(found) => format!("topic {topic}: {} partitions", found.partitions.len()),
            None => format!("topic {topic} will be created"),
        });
    }
    let partitions = partitions_that_must_exist(client, options)?;
    let first = client.positions(partitions.clone(), Position::Earliest)?;
    let next = client.positions(partitions.clone(), Position::Latest)?;
    let records: i64 = next.iter().map(|(partition, next)| next - first.get(partition).copied().unwrap_or(*next)).sum();
    Ok(format!("{} partitions, {records} records", partitions.len()))
}

/// An error for a topic that is not there, with the nearest one that is.
pub fn missing_topic(client: &Client, topic: &str) -> EngineError {
    let topics = client.all_topics().unwrap_or_default();
    let near = nearest(topic, topics.iter().filter(|topic| !topic.internal).map(|topic| &*topic.name));
    let bootstrap = client.settings().bootstrap.join(",");
    let create = format!("create it: highwater topic create {topic} --bootstrap {bootstrap}");
    EngineError::config(format!("Kafka topic '{topic}' does not exist on {bootstrap}")).help(match near {
        Some(near) => format!("did you mean '{near}'? Otherwise {create}"),
        None => create,
    })
}

/// An error for a table without a topic to read.
pub fn not_readable(options: &KafkaOptions) -> EngineError {
    EngineError::config(format!("{} names no topic to read", options.object))
        .help("add one of the options 'subscribe', 'subscribePattern', 'assign'")
}

/// Refuses to read a table as it is from its last record on, as Spark does: there is nothing.
pub fn refuse_no_rows(options: &KafkaOptions) -> Result<()> {
    let found = match &options.starting {
        Some(StartingPoint::Latest) => "is 'latest'".to_owned(),
        Some(StartingPoint::Offsets(offsets)) => match offsets.iter().find(|(_, offset)| **offset == LATEST) {
            Some((partition, _)) => format!("has {LATEST} for {partition}"),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let message = format!(
        "{}: option 'startingOffsets' {found}, and a table read without STREAM has no rows there",
        options.object
    );
    Err(EngineError::config(message)
        .help("read it with STREAM, or make a second table without the option, which is read from the first record on"))
}

/// The offsets a point stands for in these partitions.
pub fn resolve(
    client: &Client,
    options: &KafkaOptions,
    partitions: &[TopicPartition],
    point: &StartingPoint,
    key: &str,
) -> Result<PartitionOffsets> {
    let wanted = match point {
        StartingPoint::Earliest => all(partitions, |_| Position::Earliest),
        StartingPoint::Latest => all(partitions, |_| Position::Latest),
        StartingPoint::Timestamp(timestamp) => all(partitions, |_| Position::AtTimestamp(*timestamp)),
        StartingPoint::Timestamps(timestamps) => {
            must_cover(options, partitions, timestamps, &format!("{key}ByTimestamp"))?;
            all(partitions, |partition| Position::AtTimestamp(timestamps[partition]))
        }
        StartingPoint::Offsets(offsets) => {
            must_cover(options, partitions, offsets, key)?;
            return resolve_offsets(client, offsets);
        }
    };
    resolve_positions(client, options, wanted)
}

fn all(
    partitions: &[TopicPartition],
    position: impl Fn(&TopicPartition) -> Position,
) -> Vec<(TopicPartition, Position)> {
    partitions.iter().map(|partition| (partition.clone(), position(partition))).collect()
}

fn resolve_positions(
    client: &Client,
    options: &KafkaOptions,
    wanted: Vec<(TopicPartition, Position)>,
) -> Result<PartitionOffsets> {
    if wanted.is_empty() {
        return Ok(PartitionOffsets::new());
    }
    let found = client.offsets(&wanted)?;
    let mut offsets: PartitionOffsets =
        found.iter().filter_map(|(partition, offset)| Some((partition.clone(), (*offset)?))).collect();
    let behind: Vec<TopicPartition> = wanted
        .iter()
        .map(|(partition, _)| partition)
        .filter(|partition| !offsets.contains_key(partition))
        .cloned()
        .collect();
    if let Some(partition) = behind.first()
        && options.timestamp_strategy == TimestampStrategy::Error
    {
        return Err(EngineError::config(format!(
            "{}: partition {partition} has no record as new as the timestamp asked for",
            options.object
        ))
        .help("choose an earlier timestamp, or set 'startingOffsetsByTimestampStrategy' = 'latest'"));
    }
    offsets.extend(client.positions(behind, Position::Latest)?);
    Ok(offsets)
}

/// Looks up the -2 and -1 among given offsets.
fn resolve_offsets(client: &Client, offsets: &PartitionOffsets) -> Result<PartitionOffsets> {
    let special = |number: i64| offsets.iter().filter(move |(_, offset)| **offset == number).map(|(p, _)| p.clone());
    let mut resolved: PartitionOffsets =
        offsets.iter().filter(|(_, offset)| **offset >= 0).map(|(p, offset)| (p.clone(), *offset)).collect();
    resolved.extend(client.positions(special(EARLIEST), Position::Earliest)?);
    resolved.extend(client.positions(special(LATEST), Position::Latest)?);
    Ok(resolved)
}

/// As in Spark, offsets must name exactly the partitions there are.
fn must_cover(
    options: &KafkaOptions,
    partitions: &[TopicPartition],
    offsets: &PartitionOffsets,
    key: &str,
) -> Result<()> {
    let object = &options.object;
    if let Some(missing) = partitions.iter().find(|partition| !offsets.contains_key(partition)) {
        return Err(EngineError::config(format!("{object}: option '{key}' says nothing of partition {missing}"))
            .help("name every partition; -2 stands for the earliest offset, -1 for the latest"));
    }
    if let Some(unknown) = offsets.keys().find(|partition| !partitions.contains(partition)) {
        return Err(EngineError::config(format!(
            "{object}: option '{key}' names partition {unknown}, which is not read"
        ))
        .help("remove it, or check the topic's name"));
    }
    if let Some((partition, offset)) = offsets.iter().find(|(_, offset)| **offset < EARLIEST) {
        return Err(EngineError::config(format!(
            "{object}: option '{key}' has {offset} for {partition}, expected -2 or more"
        )));
    }
    Ok(())
}

fn topics_of(partitions: &[TopicPartition]) -> Vec<Arc<str>> {
    let mut topics: Vec<Arc<str>> = partitions.iter().map(|partition| partition.topic.clone()).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

fn missing_partition(partition: &TopicPartition, read_to: i64, selection: &Selection) -> String {
    let (option, is_named) = match selection {
        Selection::Subscribe(topics) => ("subscribe", topics.contains(&partition.topic)),
        Selection::Pattern(pattern) => ("subscribePattern", pattern.is_match(&partition.topic)),
        Selection::Assign(partitions) => ("assign", partitions.contains(partition)),
    };
    if is_named {
        return format!("partition {partition} is gone, it was read up to offset {read_to}");
    }
    format!("partition {partition} was read up to offset {read_to}, and option '{option}' no longer names it")
}

/// What the range from `start` to `latest` lost, in words; none if nothing.
///
/// Partitions may be gone (the topic was deleted, or the table names others now) or end before the place we were (the
/// topic was made anew).
pub fn losses(start: &PartitionOffsets, latest: &PartitionOffsets, selection: &Selection) -> Option<String> {
    let mut lost: BTreeMap<&TopicPartition, String> = BTreeMap::new();
    for (partition, from) in start {
        match latest.get(partition) {
            None => lost.insert(partition, missing_partition(partition, *from, selection)),
            Some(end) if end < from => lost.insert(
                partition,
                format!("partition {partition} ends at offset {end}, it was read up to offset {from}"),
            ),
            Some(_) => None,
        };
    }
    let more = lost.len().saturating_sub(1);
    let first = lost.into_values().next()?;
    Some(if more == 0 { first } else { format!("{first}, and {more} more partitions lost records") })
}
