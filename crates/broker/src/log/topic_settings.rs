//! The settings a topic can have: Kafka's names, what they take, and what they mean here.
//!
//! Settings that only mean something between several brokers are taken in the values that ask for nothing a single
//! one does not do. A value that would be taken and then ignored is refused, with the reason.

use crate::settings::BrokerSettings;

/// How a value is described to clients (`DescribeConfigs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// A topic setting that is served.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) value_type: ValueType,
    /// Kafka's name of the broker's setting that gives the default.
    pub(crate) broker_name: &'static str,
    pub(crate) documentation: &'static str,
    default: fn(&BrokerSettings) -> String,
    check: fn(&str) -> Result<(), String>,
}

impl Known {
    /// The broker's default.
    pub(crate) fn default(&self, settings: &BrokerSettings) -> String {
        settings.topic_defaults.get(self.name).cloned().unwrap_or_else(|| (self.default)(settings))
    }

    /// What is wrong with a value, without the setting's name.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        (self.check)(value)
    }
}

pub(super) const CREATE_TIME: &str = "CreateTime";
pub(super) const LOG_APPEND_TIME: &str = "LogAppendTime";
pub(super) const DEFAULT_INDEX_INTERVAL_BYTES: u32 = 4096;
pub(super) const DEFAULT_SEGMENT_INDEX_BYTES: u32 = 10 * 1024 * 1024;
pub(super) const DEFAULT_FILE_DELETE_DELAY_MS: i64 = 60_000;
/// What `compression.type` calls the codecs.
pub(super) const CODECS: &[&str] = &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];

const INT: i64 = i32::MAX as i64;

const fn known(
    name: &'static str,
    value_type: ValueType,
    broker_name: &'static str,
    default: fn(&BrokerSettings) -> String,
    check: fn(&str) -> Result<(), String>,
    documentation: &'static str,
) -> Known {
    Known { name, value_type, broker_name, documentation, default, check }
}

/// Every topic setting that is served, by name.
pub(crate) const KNOWN: &[Known] = &[
    known(
        "cleanup.policy",
        ValueType::List,
        "log.cleanup.policy",
        |_| "delete".into(),
        |value| list(value, &["compact", "delete"]),
        "What becomes of old segments: delete removes them by retention, compact keeps the newest record of each key.",
    ),
    known(
        "compression.type",
        ValueType::String,
        "compression.type",
        |_| "producer".into(),
        |value| only(value, CODECS, "no other codec is known"),
        "The codec of stored batches; producer stores them as they arrive.",
    ),
    known(
        "delete.retention.ms",
        ValueType::Long,
        "log.cleaner.delete.retention.ms",
        |settings| settings.delete_retention_ms.to_string(),
        |value| between(value, 0, i64::MAX),
        "How long a tombstone stays in a compacted topic.",
    ),
    known(
        "file.delete.delay.ms",
        ValueType::Long,
        "log.segment.delete.delay.ms",
        |_| DEFAULT_FILE_DELETE_DELAY_MS.to_string(),
        |value| between(value, 0, i64::MAX),
        "How long the files of a segment that retention has deleted stay on the disk.",
    ),
    known(
        "flush.messages",
        ValueType::Long,
        "log.flush.interval.messages",
        |_| i64::MAX.to_string(),
        |value| between(value, 1, i64::MAX),
        "Records of a partition after which it is forced to the disk, before the last of them is acknowledged.",
    ),
    known(
        "flush.ms",
        ValueType::Long,
        "log.flush.interval.ms",
        |_| i64::MAX.to_string(),
        |value| between(value, 0, i64::MAX),
        "Time after which records are forced to the disk.",
    ),
    known(
        "follower.replication.throttled.replicas",
        ValueType::List,
        "follower.replication.throttled.replicas",
        |_| String::new(),
        throttled,
        "Replicas whose replication is slowed down; a single node replicates nothing.",
    ),
    known(
        "index.interval.bytes",
        ValueType::Int,
        "log.index.interval.bytes",
        |_| DEFAULT_INDEX_INTERVAL_BYTES.to_string(),
        |value| between(value, 0, INT),
        "Bytes of log between two entries of an index.",
    ),
    known(
        "leader.replication.throttled.replicas",
        ValueType::List,
        "leader.replication.throttled.replicas",
        |_| String::new(),
        throttled,
        "Replicas whose replication is slowed down; a single node replicates nothing.",
    ),
    known(
        "local.retention.bytes",
        ValueType::Long,
        "log.local.retention.bytes",
        |_| "-2".into(),
        |value| between(value, -2, i64::MAX),
        "Of use with remote storage only, which is not served.",
    ),
    known(
        "local.retention.ms",
        ValueType::Long,
        "log.local.retention.ms",
        |_| "-2".into(),
        |value| between(value, -2, i64::MAX),
        "Of use with remote storage only, which is not served.",
    ),
    known(
        "max.compaction.lag.ms",
        ValueType::Long,
        "log.cleaner.max.compaction.lag.ms",
        |settings| settings.max_compaction_lag_ms.to_string(),
        |value| between(value, 1, i64::MAX),
        "How long a record of a compacted topic may wait for compaction.",
    ),
    known(
        "max.message.bytes",
        ValueType::Int,
        "message.max.bytes",
        |settings| settings.max_message_bytes.to_string(),
        |value| between(value, 0, INT),
        "The largest record batch that is taken.",
    ),
    known(
        "message.timestamp.after.max.ms",
        ValueType::Long,
        "log.message.timestamp.after.max.ms",
        |_| i64::MAX.to_string(),
        |value| between(value, 0, i64::MAX),
        "How far a record's time may be ahead of the broker's.",
    ),
    known(
        "message.timestamp.before.max.ms",
        ValueType::Long,
        "log.message.timestamp.before.max.ms",
        |_| i64::MAX.to_string(),
        |value| between(value, 0, i64::MAX),
        "How far a record's time may be behind the broker's.",
    ),
    known(
        "message.timestamp.type",
        ValueType::String,
        "log.message.timestamp.type",
        |_| CREATE_TIME.into(),
        |value| only(value, &[CREATE_TIME, LOG_APPEND_TIME], "no other time is known"),
        "Whether records keep the time of their producer or get that of the broker.",
    ),
    known(
        "min.cleanable.dirty.ratio",
        ValueType::Double,
        "log.cleaner.min.cleanable.ratio",
        |settings| settings.min_cleanable_dirty_ratio.to_string(),
        ratio,
        "Share of a log that must be dirty before it is compacted.",
    ),
    known(
        "min.compaction.lag.ms",
        ValueType::Long,
        "log.cleaner.min.compaction.lag.ms",
        |settings| settings.min_compaction_lag_ms.to_string(),
        |value| between(value, 0, i64::MAX),
        "How long a record is safe from compaction.",
    ),
    known(
        "min.insync.replicas",
        ValueType::Int,
        "min.insync.replicas",
        |_| "1".into(),
        |value| between(value, 1, INT),
        "Replicas that must be in sync for acks=all; a single node has one, so more refuses such writes.",
    ),
    known(
        "preallocate",
        ValueType::Boolean,
        "log.preallocate",
        |_| "false".into(),
        |value| only(value, &["false"], "files grow as they are written"),
        "Whether the room of a segment is taken when it is made.",
    ),
    known(
        "remote.storage.enable",
        ValueType::Boolean,
        "remote.log.storage.system.enable",
        |_| "false".into(),
        |value| only(value, &["false"], "there is no remote storage"),
        "Whether segments are moved to remote storage.",
    ),
    known(
        "retention.bytes",
        ValueType::Long,
        "log.retention.bytes",
        |settings| settings.retention_bytes.to_string(),
        |value| between(value, -1, i64::MAX),
        "Bytes of a partition beyond which its oldest segments are deleted; -1 is no limit.",
    ),
    known(
        "retention.ms",
        ValueType::Long,
        "log.retention.ms",
        |settings| settings.retention_ms.to_string(),
        |value| between(value, -1, i64::MAX),
        "Age at which segments are deleted; -1 keeps them for ever.",
    ),
    known(
        "segment.bytes",
        ValueType::Int,
        "log.segment.bytes",
        |settings| settings.segment_bytes.to_string(),
        |value| between(value, 1024, INT),
        "The largest segment file.",
    ),
    known(
        "segment.index.bytes",
        ValueType::Int,
        "log.index.size.max.bytes",
        |_| DEFAULT_SEGMENT_INDEX_BYTES.to_string(),
        |value| between(value, 4, INT),
        "The largest index of a segment; a segment whose index is full is closed.",
    ),
    known(
        "segment.jitter.ms",
        ValueType::Long,
        "log.roll.jitter.ms",
        |_| "0".into(),
        |value| between(value, 0, i64::MAX),
        "By how much segments are closed before segment.ms at most, so that not all are at once.",
    ),
    known(
        "segment.ms",
        ValueType::Long,
        "log.roll.ms",
        |settings| settings.segment_ms.to_string(),
        |value| between(value, 1, i64::MAX),
        "Age at which a segment is closed though it is not full.",
    ),
    known(
        "unclean.leader.election.enable",
        ValueType::Boolean,
        "unclean.leader.election.enable",
        |_| "false".into(),
        |value| only(value, &["false", "true"], "it is a yes or no"),
        "Whether a replica that is behind may lead; a single node elects nobody.",
    ),
];

fn only(value: &str, allowed: &[&str], why: &str) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("is {value:?}, expected {}: {why}", allowed.join(" or ")))
}

fn between(value: &str, least: i64, most: i64) -> Result<(), String> {
    match value.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(()),
        _ => Err(format!("is {value:?}, expected a number from {least} to {most}")),
    }
}

fn ratio(value: &str) -> Result<(), String> {
    match value.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(()),
        _ => Err(format!("is {value:?}, expected a share from 0 to 1")),
    }
}

/// The items of a list.
pub(crate) fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn list(value: &str, allowed: &[&str]) -> Result<(), String> {
    let mut found = items(value).peekable();
    if found.peek().is_some() && found.all(|item| allowed.contains(&item)) {
        return Ok(());
    }
    Err(format!("is {value:?}, expected a list of {}", allowed.join(" and ")))
}

/// Partitions and brokers as `0:1,1:1`, or all of them.
fn throttled(value: &str) -> Result<(), String> {
    let number = |text: &str| text.trim().parse::<u32>().is_ok();
    let pair = |item: &str| item.split_once(':').is_some_and(|(partition, broker)| number(partition) && number(broker));
    if matches!(value.trim(), "" | "*" | "none") || items(value).all(pair) {
        return Ok(());
    }
    Err(format!("is {value:?}, expected * or a list of partition:broker"))
}
