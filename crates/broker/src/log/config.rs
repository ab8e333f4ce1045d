//! The settings of a topic: Kafka's names and values, the broker's defaults beneath.
//!
//! A topic stores only what its creator set. What it does not set follows the broker's settings,
//! also when those change later. A name that is not served, or a value that cannot be honoured
//! (compaction, recompression), is refused when it is set: nothing is accepted and then ignored.

use std::collections::BTreeMap;

use crate::settings::{BrokerSettings, Sabotage};

/// What a topic sets itself, as it was written.
pub(crate) type Overrides = BTreeMap<String, String>;

/// The settings in force for the log of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogConfig {
    pub(crate) retention_ms: i64,
    pub(crate) retention_bytes: i64,
    pub(crate) segment_bytes: u32,
    pub(crate) segment_ms: i64,
    pub(crate) max_message_bytes: usize,
    pub(crate) index_interval_bytes: u32,
    pub(crate) log_append_time: bool,
    /// Whether a producer that was replaced is refused; only sabotage says no.
    pub(crate) fences: bool,
}

/// How a value is described to clients (`DescribeConfigs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// A topic setting that is served.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) value_type: ValueType,
    default: fn(&BrokerSettings) -> String,
    check: fn(&str) -> Result<(), String>,
}

/// Every topic setting that is served, by name.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        name: "cleanup.policy",
        value_type: ValueType::List,
        default: |_| "delete".into(),
        check: |value| only(value, &["delete"], "compaction is not served"),
    },
    Known {
        name: "compression.type",
        value_type: ValueType::String,
        default: |_| "producer".into(),
        check: |value| only(value, &["producer"], "batches are stored as they arrive"),
    },
    Known {
        name: "index.interval.bytes",
        value_type: ValueType::Int,
        default: |_| DEFAULT_INDEX_INTERVAL_BYTES.to_string(),
        check: |value| between(value, 0, i32::MAX.into()),
    },
    Known {
        name: "max.message.bytes",
        value_type: ValueType::Int,
        default: |settings| settings.max_message_bytes.to_string(),
        check: |value| between(value, 0, i32::MAX.into()),
    },
    Known {
        name: "message.timestamp.type",
        value_type: ValueType::String,
        default: |_| CREATE_TIME.into(),
        check: |value| only(value, &[CREATE_TIME, LOG_APPEND_TIME], "no other time is known"),
    },
    Known {
        name: "min.insync.replicas",
        value_type: ValueType::Int,
        default: |_| "1".into(),
        check: |value| only(value, &["1"], "a single node has one replica"),
    },
    Known {
        name: "retention.bytes",
        value_type: ValueType::Long,
        default: |settings| settings.retention_bytes.to_string(),
        check: |value| between(value, -1, i64::MAX),
    },
    Known {
        name: "retention.ms",
        value_type: ValueType::Long,
        default: |settings| settings.retention_ms.to_string(),
        check: |value| between(value, -1, i64::MAX),
    },
    Known {
        name: "segment.bytes",
        value_type: ValueType::Int,
        default: |settings| settings.segment_bytes.to_string(),
        check: |value| between(value, 1024, i32::MAX.into()),
    },
    Known {
        name: "segment.ms",
        value_type: ValueType::Long,
        default: |settings| settings.segment_ms.to_string(),
        check: |value| between(value, 1, i64::MAX),
    },
    Known {
        name: "unclean.leader.election.enable",
        value_type: ValueType::Boolean,
        default: |_| "false".into(),
        check: |value| only(value, &["false"], "a single node elects nobody"),
    },
];

const CREATE_TIME: &str = "CreateTime";
const LOG_APPEND_TIME: &str = "LogAppendTime";
const DEFAULT_INDEX_INTERVAL_BYTES: u32 = 4096;

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

impl Known {
    /// The value in force: the topic's own, or the broker's default.
    pub(crate) fn value(&self, overrides: &Overrides, settings: &BrokerSettings) -> String {
        overrides.get(self.name).cloned().unwrap_or_else(|| (self.default)(settings))
    }
}

/// Checks one setting; the error names it, what was found and what is expected.
pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
        let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
        return Err(format!("topic setting {name:?} is not served; served are {}", names.join(", ")));
    };
    (known.check)(value).map_err(|reason| format!("topic setting {name} {reason}"))
}

impl LogConfig {
    /// The settings in force for a topic. The overrides have passed [`check`]; one that no longer
    /// does (a file of an older version) falls back to the default.
    pub(crate) fn resolve(overrides: &Overrides, settings: &BrokerSettings) -> Self {
        let number = |name: &str, default: i64| -> i64 {
            overrides.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
        };
        let unsigned =
            |name: &str, default: u32| -> u32 { u32::try_from(number(name, default.into())).unwrap_or(default) };
        let max_message_bytes = unsigned("max.message.bytes", settings.max_message_bytes.max(0).unsigned_abs());
        Self {
            retention_ms: number("retention.ms", settings.retention_ms),
            retention_bytes: number("retention.bytes", settings.retention_bytes),
            segment_bytes: unsigned("segment.bytes", settings.segment_bytes.max(0).unsigned_abs()),
            segment_ms: number("segment.ms", settings.segment_ms),
            max_message_bytes: usize::try_from(max_message_bytes).unwrap_or(usize::MAX),
            index_interval_bytes: unsigned("index.interval.bytes", DEFAULT_INDEX_INTERVAL_BYTES),
            log_append_time: overrides.get("message.timestamp.type").is_some_and(|value| value == LOG_APPEND_TIME),
            fences: !settings.sabotage.contains(&Sabotage::NoFencing),
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
    fn every_default_passes_its_own_check() {
        for known in KNOWN {
            let value = known.value(&Overrides::new(), &BrokerSettings::default());
            check(known.name, &value).expect(known.name);
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_the_reason() {
        for (name, value, expected) in [
            ("cleanup.policy", "compact", "compaction is not served"),
            ("retention.ms", "-2", "expected a number from -1"),
            ("segment.bytes", "lots", "\"lots\""),
            ("message.timestamp.type", "Whenever", "CreateTime or LogAppendTime"),
            ("retention.sm", "1", "served are cleanup.policy"),
        ] {
            let error = check(name, value).expect_err(name);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_topic_overrides_the_broker() {
        let overrides: Overrides = [("retention.ms", "5"), ("message.timestamp.type", "LogAppendTime")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let config = LogConfig::resolve(&overrides, &BrokerSettings::default());
        assert_eq!((config.retention_ms, config.log_append_time), (5, true));
        assert_eq!(config.segment_ms, BrokerSettings::default().segment_ms);
    }
}
