//! The settings of a topic in force: what it sets itself, the broker's defaults beneath.
//!
//! A topic stores only what its creator set. What it does not set follows the broker's settings,
//! also when those change later. A name that is not served, or a value that cannot be honoured, is
//! refused when it is set: nothing is accepted and then ignored.

use std::collections::BTreeMap;

use super::batch::Codec;
use super::topic_settings::{
    DEFAULT_FILE_DELETE_DELAY_MS, DEFAULT_INDEX_INTERVAL_BYTES, DEFAULT_SEGMENT_INDEX_BYTES, LOG_APPEND_TIME, items,
};
pub(crate) use super::topic_settings::{KNOWN, Known, ValueType};
use crate::settings::{BrokerSettings, FsyncMode, Sabotage};

/// What a topic sets itself, as it was written.
pub(crate) type Overrides = BTreeMap<String, String>;

/// The settings in force for the log of a partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LogConfig {
    /// Whether segments go by age and size.
    pub(crate) delete: bool,
    pub(crate) compact: bool,
    pub(crate) delete_retention_ms: i64,
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) max_compaction_lag_ms: i64,
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) retention_ms: i64,
    pub(crate) retention_bytes: i64,
    pub(crate) segment_bytes: u32,
    pub(crate) segment_ms: i64,
    pub(crate) segment_jitter_ms: i64,
    pub(crate) segment_index_bytes: usize,
    pub(crate) file_delete_delay_ms: i64,
    pub(crate) flush_messages: i64,
    pub(crate) flush_ms: i64,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_unpacked_bytes: usize,
    pub(crate) min_insync_replicas: i32,
    pub(crate) index_interval_bytes: u32,
    pub(crate) log_append_time: bool,
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
    /// What batches are recompressed to; absent where they stay as they arrive.
    pub(crate) codec: Option<Codec>,
    /// Whether a producer that was replaced is refused; only sabotage says no.
    pub(crate) fences: bool,
    /// Whether a segment is on the disk before the next one is written to.
    pub(crate) syncs_closed: bool,
}

/// Checks one setting; the error names it, what was found and what is expected.
pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    let known = find(name)?;
    known.check(value).map_err(|reason| format!("topic setting {name} {reason}"))
}

/// A setting that is served.
pub(crate) fn find(name: &str) -> Result<&'static Known, String> {
    let unknown = || {
        let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
        format!("topic setting {name:?} is not served; served are {}", names.join(", "))
    };
    KNOWN.iter().find(|known| known.name == name).ok_or_else(unknown)
}

/// A list with items added that it does not have, or without those taken away.
pub(crate) fn alter_list(value: &str, changed: &str, add: bool) -> String {
    let mut list: Vec<&str> = items(value).collect();
    for item in items(changed) {
        let position = list.iter().position(|&found| found == item);
        match (position, add) {
            (None, true) => list.push(item),
            (Some(position), false) => {
                list.remove(position);
            }
            _ => {}
        }
    }
    list.join(",")
}

impl LogConfig {
    /// The settings in force for a topic. The overrides have passed [`check`]; one that no longer
    /// does (a file of an older version) falls back to the default.
    pub(crate) fn resolve(overrides: &Overrides, settings: &BrokerSettings) -> Self {
        let text = |name: &str| overrides.get(name).or_else(|| settings.topic_defaults.get(name)).map(String::as_str);
        let number =
            |name: &str, default: i64| -> i64 { text(name).and_then(|value| value.parse().ok()).unwrap_or(default) };
        let unsigned =
            |name: &str, default: u32| -> u32 { u32::try_from(number(name, default.into())).unwrap_or(default) };
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let policy: Vec<&str> = items(text("cleanup.policy").unwrap_or("delete")).collect();
        let compact = policy.contains(&"compact");
        let max_compaction_lag_ms = number("max.compaction.lag.ms", settings.max_compaction_lag_ms);
        let segment_ms = number("segment.ms", settings.segment_ms);
        Self {
            delete: policy.contains(&"delete"),
            compact,
            delete_retention_ms: number("delete.retention.ms", settings.delete_retention_ms),
            min_compaction_lag_ms: number("min.compaction.lag.ms", settings.min_compaction_lag_ms),
            max_compaction_lag_ms,
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio")
                .and_then(|value| value.parse().ok())
                .unwrap_or(settings.min_cleanable_dirty_ratio),
            retention_ms: number("retention.ms", settings.retention_ms),
            retention_bytes: number("retention.bytes", settings.retention_bytes),
            segment_bytes: unsigned("segment.bytes", settings.segment_bytes.max(0).unsigned_abs()),
            // What is still written cannot be compacted.
            segment_ms: if compact { segment_ms.min(max_compaction_lag_ms) } else { segment_ms },
            segment_jitter_ms: number("segment.jitter.ms", 0),
            segment_index_bytes: size(unsigned("segment.index.bytes", DEFAULT_SEGMENT_INDEX_BYTES)),
            file_delete_delay_ms: number("file.delete.delay.ms", DEFAULT_FILE_DELETE_DELAY_MS),
            flush_messages: number("flush.messages", i64::MAX),
            flush_ms: number("flush.ms", i64::MAX),
            max_message_bytes: size(unsigned("max.message.bytes", settings.max_message_bytes.max(0).unsigned_abs())),
            max_unpacked_bytes: settings.max_unpacked_batch_bytes,
            min_insync_replicas: i32::try_from(number("min.insync.replicas", 1)).unwrap_or(i32::MAX),
            index_interval_bytes: unsigned("index.interval.bytes", DEFAULT_INDEX_INTERVAL_BYTES),
            log_append_time: text("message.timestamp.type") == Some(LOG_APPEND_TIME),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms", i64::MAX),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms", i64::MAX),
            codec: match text("compression.type") {
                Some("uncompressed") => Some(Codec::None),
                Some("gzip") => Some(Codec::Gzip),
                Some("snappy") => Some(Codec::Snappy),
                Some("lz4") => Some(Codec::Lz4),
                Some("zstd") => Some(Codec::Zstd),
                _ => None,
            },
            fences: !settings.sabotage.contains(&Sabotage::NoFencing),
            syncs_closed: settings.fsync == FsyncMode::Always,
        }
    }
}

#[cfg(test)]
impl Default for LogConfig {
    fn default() -> Self {
        Self::resolve(&Overrides::new(), &BrokerSettings::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check_and_the_list_is_in_order() {
        for known in KNOWN {
            let value = known.default(&BrokerSettings::default());
            check(known.name, &value).expect(known.name);
        }
        assert!(KNOWN.is_sorted_by_key(|known| known.name));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_the_reason() {
        for (name, value, expected) in [
            ("cleanup.policy", "compost", "a list of compact and delete"),
            ("cleanup.policy", "", "a list of compact and delete"),
            ("compression.type", "brotli", "producer or uncompressed"),
            ("min.cleanable.dirty.ratio", "2", "a share from 0 to 1"),
            ("preallocate", "true", "files grow"),
            ("leader.replication.throttled.replicas", "all", "partition:broker"),
            ("retention.ms", "-2", "expected a number from -1"),
            ("segment.bytes", "lots", "\"lots\""),
            ("message.timestamp.type", "Whenever", "CreateTime or LogAppendTime"),
            ("retention.sm", "1", "served are cleanup.policy"),
        ] {
            let error = check(name, value).expect_err(name);
            assert!(error.contains(expected), "{error}");
        }
        for (name, value) in [
            ("cleanup.policy", "compact, delete"),
            ("min.insync.replicas", "3"),
            ("follower.replication.throttled.replicas", "0:0,1:0"),
            ("leader.replication.throttled.replicas", "*"),
        ] {
            check(name, value).expect(name);
        }
    }

    #[test]
    fn a_topic_overrides_the_broker() {
        let overrides: Overrides = [
            ("retention.ms", "5"),
            ("message.timestamp.type", "LogAppendTime"),
            ("cleanup.policy", "compact"),
            ("max.compaction.lag.ms", "70"),
            ("compression.type", "zstd"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let config = LogConfig::resolve(&overrides, &BrokerSettings::default());
        assert_eq!((config.retention_ms, config.log_append_time), (5, true));
        assert_eq!((config.compact, config.delete, config.segment_ms), (true, false, 70));
        assert_eq!(config.codec, Some(Codec::Zstd));
        let defaults = [("retention.ms", "6"), ("cleanup.policy", "delete"), ("flush.messages", "3")];
        let topic_defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = BrokerSettings { topic_defaults, ..BrokerSettings::default() };
        let config = LogConfig::resolve(&overrides, &settings);
        assert_eq!((config.retention_ms, config.compact, config.flush_messages), (5, true, 3));
        assert_eq!(LogConfig::resolve(&Overrides::new(), &settings).retention_ms, 6);
        let default = LogConfig::default();
        assert_eq!((default.compact, default.delete, default.codec), (false, true, None));
        assert_eq!(default.segment_ms, BrokerSettings::default().segment_ms);
    }

    #[test]
    fn items_of_a_list_are_added_and_taken_away_once() {
        for (value, changed, add, expected) in [
            ("delete", "compact", true, "delete,compact"),
            ("delete", "delete, compact", true, "delete,compact"),
            ("delete,compact", "delete", false, "compact"),
            ("delete", "compact", false, "delete"),
            ("", "compact", true, "compact"),
        ] {
            assert_eq!(alter_list(value, changed, add), expected);
        }
    }
}
