//! The settings of share groups: Kafka's names, what they take, and what is in force for a group.
//!
//! A group can have them before it is there: who starts a group wants its first member to find them. A name or a value
//! that cannot be honoured is refused when it is set. They are altered and kept as those of other groups are
//! (`configs/group.rs`).

use crate::configs::broker::number;
use crate::configs::group::{GroupConfig, check_times};
use crate::log::config::{Overrides, ValueType};
use crate::settings::BrokerSettings;

const OFFSET_RESET: &str = "share.auto.offset.reset";
const LOCK_DURATION: &str = "share.record.lock.duration.ms";
const ISOLATION: &str = "share.isolation.level";
const DELIVERIES: &str = "share.delivery.count.limit";
const IN_FLIGHT: &str = "share.partition.max.record.locks";
const HEARTBEAT: &str = "share.heartbeat.interval.ms";
const SESSION: &str = "share.session.timeout.ms";
const BY_DURATION: &str = "by_duration:";
const COMMITTED: &str = "read_committed";
const UNCOMMITTED: &str = "read_uncommitted";

/// Every setting of share groups.
pub(crate) const KNOWN: &[GroupConfig] = &[
    GroupConfig {
        name: OFFSET_RESET,
        value_type: ValueType::String,
        broker_name: None,
        default: |_| "latest".to_owned(),
        check: |value, _| {
            let expected = "latest, earliest, or by_duration: with an ISO 8601 duration such as PT1H";
            offset_reset(value).map(drop).ok_or_else(|| format!("is {value:?}, expected {expected}"))
        },
        documentation: "Where a group begins in a partition it has not read: latest, earliest, or by_duration:PT1H.",
    },
    GroupConfig {
        name: DELIVERIES,
        value_type: ValueType::Int,
        broker_name: None,
        default: |_| "5".to_owned(),
        check: |value, _| number(value, 2, 10).map(drop),
        documentation: "How often a record is handed out before it is given up.",
    },
    GroupConfig {
        name: HEARTBEAT,
        value_type: ValueType::Int,
        broker_name: Some("group.share.heartbeat.interval.ms"),
        default: |settings| settings.group_share_heartbeat_interval_ms.to_string(),
        check: |value, _| number(value, 1, 15_000).map(drop),
        documentation: "How often members are told to heartbeat.",
    },
    GroupConfig {
        name: ISOLATION,
        value_type: ValueType::String,
        broker_name: None,
        default: |_| UNCOMMITTED.to_owned(),
        check: |value, _| match value {
            COMMITTED | UNCOMMITTED => Ok(()),
            _ => Err(format!("is {value:?}, expected one of {UNCOMMITTED}, {COMMITTED}")),
        },
        documentation: "Whether records of transactions are seen before these end, and of those that were aborted.",
    },
    GroupConfig {
        name: IN_FLIGHT,
        value_type: ValueType::Int,
        broker_name: None,
        default: |_| "2000".to_owned(),
        check: |value, _| number(value, 100, 10_000).map(drop),
        documentation: "Offsets of a partition between the first that is not finished and the last handed out.",
    },
    GroupConfig {
        name: LOCK_DURATION,
        value_type: ValueType::Int,
        broker_name: None,
        default: |_| "30000".to_owned(),
        check: |value, _| number(value, 1000, 3_600_000).map(drop),
        documentation: "How long a member has a record before it is available to others again.",
    },
    GroupConfig {
        name: SESSION,
        value_type: ValueType::Int,
        broker_name: Some("group.share.session.timeout.ms"),
        default: |settings| settings.group_share_session_timeout_ms.to_string(),
        check: |value, _| number(value, 1000, 3_600_000).map(drop),
        documentation: "How long a member may be silent.",
    },
];

/// Where a group begins in a partition it has not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetReset {
    Latest,
    Earliest,
    /// At the first record that is not older than this.
    Ago {
        /// The age, in milliseconds.
        duration_ms: i64,
    },
}

/// The settings in force for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareConfig {
    pub(crate) offset_reset: OffsetReset,
    pub(crate) lock_duration_ms: i32,
    pub(crate) is_committed_only: bool,
    pub(crate) max_deliveries: i16,
    pub(crate) max_in_flight: i64,
    pub(crate) heartbeat_interval_ms: i32,
    pub(crate) session_timeout_ms: i32,
}

fn offset_reset(value: &str) -> Option<OffsetReset> {
    match value {
        "latest" => Some(OffsetReset::Latest),
        "earliest" => Some(OffsetReset::Earliest),
        _ => duration_ms(value.strip_prefix(BY_DURATION)?).map(|duration_ms| OffsetReset::Ago { duration_ms }),
    }
}

/// An ISO 8601 duration of days, hours, minutes and seconds, as Java writes them.
fn duration_ms(text: &str) -> Option<i64> {
    const SECOND_MS: i64 = 1000;
    let rest = text.strip_prefix('P')?;
    let (days, time) = rest.split_once('T').map_or((rest, None), |(days, time)| (days, Some(time)));
    if (days.is_empty() && time.is_none()) || time == Some("") {
        return None;
    }
    let days = sum_ms(days, &[('D', 24 * 60 * 60 * SECOND_MS)])?;
    let units = [('H', 60 * 60 * SECOND_MS), ('M', 60 * SECOND_MS), ('S', SECOND_MS)];
    days.checked_add(sum_ms(time.unwrap_or_default(), &units)?)
}

/// Numbers with their units, each once and in order.
fn sum_ms(mut text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut sum_ms = 0_i64;
    for (unit, unit_ms) in units {
        if let Some((number, rest)) = text.split_once(*unit) {
            let number: u32 = number.parse().ok()?;
            sum_ms = sum_ms.checked_add(i64::from(number).checked_mul(*unit_ms)?)?;
            text = rest;
        }
    }
    text.is_empty().then_some(sum_ms)
}

impl ShareConfig {
    /// The settings in force for a group with these of its own, each of which has passed its check; one that no longer
    /// does falls back to the default.
    pub(crate) fn of(own: &Overrides, settings: &BrokerSettings) -> Self {
        let text = |name: &str| own.get(name).map(String::as_str);
        let number = |name: &str, default: i32| text(name).and_then(|value| value.parse().ok()).unwrap_or(default);
        Self {
            offset_reset: text(OFFSET_RESET).and_then(offset_reset).unwrap_or(OffsetReset::Latest),
            lock_duration_ms: number(LOCK_DURATION, 30_000),
            is_committed_only: text(ISOLATION) == Some(COMMITTED),
            max_deliveries: i16::try_from(number(DELIVERIES, 5)).unwrap_or(i16::MAX),
            max_in_flight: number(IN_FLIGHT, 2000).into(),
            heartbeat_interval_ms: number(HEARTBEAT, settings.group_share_heartbeat_interval_ms),
            session_timeout_ms: number(SESSION, settings.group_share_session_timeout_ms),
        }
    }
}

/// Refuses settings that each make sense and together do not.
pub(crate) fn check_together(own: &Overrides, settings: &BrokerSettings) -> Result<(), String> {
    let ShareConfig { session_timeout_ms, heartbeat_interval_ms, .. } = ShareConfig::of(own, settings);
    check_times((SESSION, session_timeout_ms), (HEARTBEAT, heartbeat_interval_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::group::check;

    #[test]
    fn every_default_is_what_is_in_force() {
        let settings = BrokerSettings::default();
        let described = KNOWN.iter().map(|known| (known.name.to_owned(), (known.default)(&settings)));
        let resolved = ShareConfig::of(&described.collect(), &settings);
        assert_eq!(resolved, ShareConfig::of(&Overrides::new(), &settings));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (name, value, expected) in [
            ("share.unknown", "1", "share.auto.offset.reset, share.delivery"),
            (DELIVERIES, "1", "share.delivery.count.limit is \"1\", expected a number from 2 to 10"),
            (LOCK_DURATION, "soon", "expected a number from 1000 to 3600000"),
            (ISOLATION, "serializable", "expected one of read_uncommitted, read_committed"),
            (OFFSET_RESET, "by_duration:1h", "expected latest, earliest, or by_duration:"),
        ] {
            let error = check(name, value, &BrokerSettings::default()).expect_err(name);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_member_that_heartbeats_as_it_is_told_is_not_late() {
        let settings = BrokerSettings::default();
        let own = |timeout: &str| Overrides::from([(SESSION.to_owned(), timeout.to_owned())]);
        check_together(&own("5001"), &settings).expect("more than 5000");
        let error = check_together(&own("5000"), &settings).expect_err("late");
        let expected =
            "share.session.timeout.ms is 5000, expected more than share.heartbeat.interval.ms, which is 5000";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn durations_are_read_as_java_writes_them() {
        for (text, expected) in [
            ("PT1H", Some(3_600_000)),
            ("P1DT2H3M4S", Some(93_784_000)),
            ("P2D", Some(172_800_000)),
            ("PT0S", Some(0)),
            ("P", None),
            ("PT", None),
            ("PT1M1H", None),
            ("PT-1S", None),
            ("1H", None),
        ] {
            assert_eq!(duration_ms(text), expected, "{text}");
        }
    }
}
