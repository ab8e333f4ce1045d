//! `topic describe`: the partitions of a topic, the settings it has of its own, and who reads it how far behind.
//!
//! | shown | asked with | absent where |
//! |---|---|---|
//! | offsets, settings, groups, lag | librdkafka | it is not allowed |
//! | sizes, newest records | [`Direct`] | it is not allowed; Kafka before 3.0 has no newest record |
//!
//! `records` counts offsets: what was compacted away, and the marks of transactions, count as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use chrono::{DateTime, SecondsFormat};
use rdkafka::admin::ConfigSource;
use rdkafka::consumer::Consumer;
use rdkafka::groups::GroupInfo;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use super::admin::{self, numbers, strings};
use super::client::Cluster;
use super::direct::Direct;
use crate::error::Result;
use crate::output::columns::{write_columns, write_json, write_json_lines};
use crate::output::{Format, stdout_failure};
use crate::progress::board::{bytes, number};

/// How long the cluster may take to say what groups there are and where they stand.
const GROUPS_TIMEOUT: Duration = Duration::from_secs(10);

/// A part of the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Section {
    /// Offsets, sizes and times, a row for each partition.
    Partitions,
    /// Settings that differ from the defaults.
    Configs,
    /// Groups with their lag, a row for each partition.
    Groups,
}

/// All there is to say about a topic.
#[derive(Debug, Serialize)]
struct Description {
    topic: String,
    totals: Totals,
    partitions: Vec<PartitionRow>,
    configs: Vec<ConfigRow>,
    groups: Vec<GroupRow>,
}

#[derive(Debug, Serialize)]
struct Totals {
    partitions: usize,
    records: i64,
    size_bytes: Option<i64>,
    #[serde(serialize_with = "as_time")]
    newest: Option<i64>,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    partition: i32,
    leader: Option<i32>,
    replicas: usize,
    in_sync: usize,
    first_offset: i64,
    next_offset: i64,
    records: i64,
    size_bytes: Option<i64>,
    #[serde(serialize_with = "as_time")]
    newest: Option<i64>,
}

#[derive(Debug, Serialize)]
struct ConfigRow {
    name: String,
    value: Option<String>,
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct GroupRow {
    group: String,
    state: String,
    members: usize,
    lag: i64,
    partitions: Vec<GroupPartition>,
}

#[derive(Debug, Serialize)]
struct GroupPartition {
    partition: i32,
    committed_offset: Option<i64>,
    lag: Option<i64>,
    client: Option<String>,
}

fn as_time<S: serde::Serializer>(millis: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    millis.and_then(time).serialize(serializer)
}

fn time(millis: i64) -> Option<String> {
    DateTime::from_timestamp_millis(millis).map(|moment| moment.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Writes what is known of `topic`; with `section` only that part.
pub(crate) fn describe(
    cluster: &Cluster,
    topic: &str,
    format: Format,
    section: Option<Section>,
    out: &mut impl Write,
) -> Result<()> {
    let description = ask(cluster, topic)?;
    match (format, section) {
        (Format::Json, None) => write_json(&description, out),
        (Format::Json, Some(Section::Partitions)) => write_json_lines(&description.partitions, out),
        (Format::Json, Some(Section::Configs)) => write_json_lines(&description.configs, out),
        (Format::Json, Some(Section::Groups)) => write_json_lines(&description.groups, out),
        (Format::Table, None) => write_report(&description, out),
        (_, Some(Section::Configs)) => write_configs(&description.configs, format, out),
        (_, Some(Section::Groups)) => write_groups(&description.groups, format, out),
        (_, Some(Section::Partitions) | None) => write_partitions(&description.partitions, format, out),
    }
}

fn ask(cluster: &Cluster, topic: &str) -> Result<Description> {
    let consumer = cluster.consumer(&[])?;
    let metadata = cluster.metadata(&consumer)?;
    let Some(found) = metadata.topics().iter().find(|known| known.name() == topic) else {
        return Err(cluster.missing_topic(topic));
    };
    let mut direct = Direct::open(cluster, &metadata);
    let offsets = admin::partition_offsets(cluster, &consumer, found)?;
    let partitions = partition_rows(found, &offsets, &mut direct);
    let configs = admin::configs(cluster, topic).map(config_rows).unwrap_or_else(|failure| {
        tracing::warn!("{}", failure.render(false).trim_end());
        Vec::new()
    });
    let groups = match consumer.fetch_group_list(None, GROUPS_TIMEOUT) {
        Ok(list) => {
            let states = direct.group_states();
            let next: BTreeMap<i32, i64> = partitions.iter().map(|row| (row.partition, row.next_offset)).collect();
            list.groups().iter().filter_map(|group| group_row(cluster, topic, group, &states, &next)).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "the groups of the cluster cannot be listed");
            Vec::new()
        }
    };
    let totals = Totals {
        partitions: partitions.len(),
        records: partitions.iter().map(|row| row.records).sum(),
        size_bytes: partitions.iter().map(|row| row.size_bytes).sum(),
        newest: partitions.iter().filter_map(|row| row.newest).max(),
    };
    Ok(Description { topic: topic.to_owned(), totals, partitions, configs, groups })
}

fn partition_rows(
    topic: &MetadataTopic,
    offsets: &[admin::PartitionOffsets],
    direct: &mut Direct,
) -> Vec<PartitionRow> {
    let led: Vec<(i32, i32)> = offsets.iter().map(|offsets| (offsets.id, offsets.leader)).collect();
    let (sizes, newest) = (direct.sizes(topic.name(), &led), direct.newest(topic.name(), &led));
    let mut rows: Vec<PartitionRow> = topic
        .partitions()
        .iter()
        .zip(offsets)
        .map(|(partition, offsets)| PartitionRow {
            partition: offsets.id,
            leader: Some(offsets.leader).filter(|leader| *leader >= 0),
            replicas: partition.replicas().len(),
            in_sync: partition.isr().len(),
            first_offset: offsets.low,
            next_offset: offsets.high,
            records: offsets.high - offsets.low,
            size_bytes: sizes.get(&offsets.id).copied(),
            newest: newest.get(&offsets.id).copied(),
        })
        .collect();
    rows.sort_by_key(|row| row.partition);
    rows
}

fn config_rows(entries: Vec<rdkafka::admin::ConfigEntry>) -> Vec<ConfigRow> {
    let row = |entry: rdkafka::admin::ConfigEntry| {
        let source = match entry.source {
            ConfigSource::DynamicTopic => "topic",
            ConfigSource::DynamicBroker | ConfigSource::DynamicDefaultBroker | ConfigSource::StaticBroker => "broker",
            ConfigSource::Unknown if !entry.is_default => "unknown",
            ConfigSource::Unknown | ConfigSource::Default => return None,
        };
        Some(ConfigRow { name: entry.name, value: entry.value, source })
    };
    let mut rows: Vec<ConfigRow> = entries.into_iter().filter_map(row).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// Where a group stands in `topic`; nothing if it neither has committed offsets there nor is reading it.
fn group_row(
    cluster: &Cluster,
    topic: &str,
    group: &GroupInfo,
    states: &BTreeMap<String, String>,
    next: &BTreeMap<i32, i64>,
) -> Option<GroupRow> {
    let committed = committed(cluster, topic, group.name(), next)?;
    let readers = readers(topic, group);
    let with_either: BTreeSet<i32> = committed.keys().chain(readers.keys()).copied().collect();
    if with_either.is_empty() {
        return None;
    }
    let row = |partition: i32| {
        let offset = committed.get(&partition).copied();
        let lag = offset.and_then(|offset| Some((next.get(&partition)? - offset).max(0)));
        GroupPartition { partition, committed_offset: offset, lag, client: readers.get(&partition).cloned() }
    };
    let partitions: Vec<GroupPartition> = with_either.into_iter().map(row).collect();
    Some(GroupRow {
        group: group.name().to_owned(),
        state: states.get(group.name()).cloned().unwrap_or_else(|| group.state().to_owned()),
        members: group.members().len(),
        lag: partitions.iter().filter_map(|partition| partition.lag).sum(),
        partitions,
    })
}

/// The committed offsets of a group, by partition.
fn committed(cluster: &Cluster, topic: &str, group: &str, next: &BTreeMap<i32, i64>) -> Option<BTreeMap<i32, i64>> {
    let mut list = TopicPartitionList::new();
    for partition in next.keys() {
        list.add_partition(topic, *partition);
    }
    let asked = cluster.consumer(&[("group.id", group)]).ok()?.committed_offsets(list, GROUPS_TIMEOUT);
    let answered = asked.inspect_err(|error| tracing::warn!(group, %error, "committed offsets cannot be read")).ok()?;
    let offset = |offset: Offset| match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Some(answered.elements().iter().filter_map(|one| Some((one.partition(), offset(one.offset())?))).collect())
}

/// Which member reads which partition of `topic`, as `client@host`.
fn readers(topic: &str, group: &GroupInfo) -> BTreeMap<i32, String> {
    let mut readers = BTreeMap::new();
    for member in group.members() {
        let client = format!("{}@{}", member.client_id(), member.client_host().trim_start_matches('/'));
        for partition in member.assignment().map(|bytes| assigned(bytes, topic)).unwrap_or_default() {
            readers.insert(partition, client.clone());
        }
    }
    readers
}

/// The partitions of `topic` in a consumer's assignment. Any member of a group may have written the bytes, so they are
/// read step by step and nothing is made as large as they claim:
///
/// ```text
///   version i16 | topics i32 { name length i16, name, partitions i32 { partition i32 } } | user data
/// ```
fn assigned(assignment: &[u8], topic: &str) -> Vec<i32> {
    fn read<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (read, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(read)
    }
    let int = |bytes: &mut &[u8]| Some(i32::from_be_bytes(read(bytes, 4)?.try_into().ok()?));
    let parse = || {
        let mut bytes = assignment;
        let mut found = Vec::new();
        read(&mut bytes, 2)?;
        for _ in 0..int(&mut bytes)? {
            let length = u16::from_be_bytes(read(&mut bytes, 2)?.try_into().ok()?);
            let name = read(&mut bytes, length.into())?;
            for _ in 0..int(&mut bytes)? {
                let partition = int(&mut bytes)?;
                if name == topic.as_bytes() {
                    found.push(partition);
                }
            }
        }
        Some(found)
    };
    parse().unwrap_or_default()
}

/// All sections as tables, for people.
fn write_report(description: &Description, out: &mut impl Write) -> Result<()> {
    let totals = &description.totals;
    let mut summary = format!(
        "topic {}: {} partition{}, {} records",
        description.topic,
        totals.partitions,
        if totals.partitions == 1 { "" } else { "s" },
        number(totals.records as f64)
    );
    if let Some(size) = totals.size_bytes {
        summary += &format!(", {}", bytes(size.unsigned_abs()));
    }
    if let Some(newest) = totals.newest.and_then(time) {
        summary += &format!(", newest record {newest}");
    }
    let line = |text: &str, out: &mut dyn Write| writeln!(out, "{text}").map_err(stdout_failure);
    line(&summary, out)?;
    write_partitions(&description.partitions, Format::Table, out)?;
    if description.configs.is_empty() {
        line("\nsettings: the cluster's defaults", out)?;
    } else {
        line("\nsettings that differ from the defaults:", out)?;
        write_configs(&description.configs, Format::Table, out)?;
    }
    if description.groups.is_empty() {
        return line("\ngroups: none reads this topic", out);
    }
    line("\ngroups:", out)?;
    write_groups(&description.groups, Format::Table, out)
}

fn write_partitions(rows: &[PartitionRow], format: Format, out: &mut impl Write) -> Result<()> {
    let column = |value: fn(&PartitionRow) -> i64| numbers(rows.iter().map(value).collect());
    let newest = TimestampMillisecondArray::from_iter(rows.iter().map(|row| row.newest)).with_timezone("UTC");
    let columns = [
        ("partition", column(|row| i64::from(row.partition))),
        ("leader", optional(rows.iter().map(|row| row.leader.map(i64::from)))),
        ("replicas", column(|row| i64::try_from(row.replicas).unwrap_or(i64::MAX))),
        ("in_sync", column(|row| i64::try_from(row.in_sync).unwrap_or(i64::MAX))),
        ("first_offset", column(|row| row.first_offset)),
        ("next_offset", column(|row| row.next_offset)),
        ("records", column(|row| row.records)),
        ("size_bytes", optional(rows.iter().map(|row| row.size_bytes))),
        ("newest", Arc::new(newest) as ArrayRef),
    ];
    write_columns(format, columns, out)
}

fn write_configs(rows: &[ConfigRow], format: Format, out: &mut impl Write) -> Result<()> {
    let columns = [
        ("name", strings(rows.iter().map(|row| row.name.as_str()).collect())),
        ("value", texts(rows.iter().map(|row| row.value.as_deref()))),
        ("source", strings(rows.iter().map(|row| row.source).collect())),
    ];
    write_columns(format, columns, out)
}

fn write_groups(groups: &[GroupRow], format: Format, out: &mut impl Write) -> Result<()> {
    let rows: Vec<(&GroupRow, &GroupPartition)> =
        groups.iter().flat_map(|group| group.partitions.iter().map(move |partition| (group, partition))).collect();
    let columns = [
        ("group", strings(rows.iter().map(|(group, _)| group.group.as_str()).collect())),
        ("state", strings(rows.iter().map(|(group, _)| group.state.as_str()).collect())),
        ("members", numbers(rows.iter().map(|(group, _)| i64::try_from(group.members).unwrap_or(i64::MAX)).collect())),
        ("partition", numbers(rows.iter().map(|(_, row)| i64::from(row.partition)).collect())),
        ("committed_offset", optional(rows.iter().map(|(_, row)| row.committed_offset))),
        ("lag", optional(rows.iter().map(|(_, row)| row.lag))),
        ("client", texts(rows.iter().map(|(_, row)| row.client.as_deref()))),
    ];
    write_columns(format, columns, out)
}

fn optional(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_garbage_is_none() {
        // Version 0; one topic "t" with partitions 0 and 3; no user data.
        let bytes =
            [&[0, 0, 0, 0, 0, 1, 0, 1, b't'][..], &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3], &[0xff, 0xff, 0xff, 0xff]]
                .concat();
        assert_eq!(assigned(&bytes, "t"), [0, 3]);
        assert!(assigned(&bytes, "other").is_empty());
        for length in 0..bytes.len() - 4 {
            assert!(assigned(&bytes[..length], "t").is_empty(), "{length}");
        }
        assert!(assigned(&[0, 0, 0x7f, 0xff, 0xff, 0xff], "t").is_empty());
    }
}
