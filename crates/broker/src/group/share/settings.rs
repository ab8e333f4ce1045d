//! The settings of share groups: Kafka's names, what they take, and where a group's own are kept.
//!
//! A group stores only what was set for it, in `share-groups.json`, also before the group is there: who starts a group
//! wants its first member to find them. A name or a value that cannot be honoured is refused when it is set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::error::BrokerError;
use crate::log::config::ValueType;
use crate::log::sealed::{self, Kind};

const KIND: Kind = Kind { name: "share-groups", holds: "the settings of share groups" };

const OFFSET_RESET: &str = "share.auto.offset.reset";
const LOCK_DURATION: &str = "share.record.lock.duration.ms";
const ISOLATION: &str = "share.isolation.level";
const DELIVERIES: &str = "share.delivery.count.limit";
const IN_FLIGHT: &str = "share.partition.max.record.locks";
const HEARTBEAT: &str = "share.heartbeat.interval.ms";
const SESSION: &str = "share.session.timeout.ms";
const BY_DURATION: &str = "by_duration:";

/// A setting that is served.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) value_type: ValueType,
    pub(crate) default: fn(&Defaults) -> String,
    check: Check,
    pub(crate) documentation: &'static str,
}

enum Check {
    Between(i64, i64),
    OneOf(&'static [&'static str]),
    OffsetReset,
}

/// What holds for groups that set nothing else, from the broker's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) heartbeat_interval_ms: i32,
    pub(crate) session_timeout_ms: i32,
}

/// Every setting that is served.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        name: OFFSET_RESET,
        value_type: ValueType::String,
        default: |_| "latest".to_owned(),
        check: Check::OffsetReset,
        documentation: "Where a group begins in a partition it has not read: latest, earliest, or by_duration:PT1H.",
    },
    Known {
        name: DELIVERIES,
        value_type: ValueType::Int,
        default: |_| "5".to_owned(),
        check: Check::Between(2, 10),
        documentation: "How often a record is handed out before it is given up.",
    },
    Known {
        name: HEARTBEAT,
        value_type: ValueType::Int,
        default: |defaults| defaults.heartbeat_interval_ms.to_string(),
        check: Check::Between(1, 15_000),
        documentation: "How often members are told to heartbeat.",
    },
    Known {
        name: ISOLATION,
        value_type: ValueType::String,
        default: |_| "read_uncommitted".to_owned(),
        check: Check::OneOf(&["read_uncommitted", "read_committed"]),
        documentation: "Whether records of transactions are seen before these end, and of those that were aborted.",
    },
    Known {
        name: IN_FLIGHT,
        value_type: ValueType::Int,
        default: |_| "2000".to_owned(),
        check: Check::Between(100, 10_000),
        documentation: "Offsets of a partition between the first that is not finished and the last handed out.",
    },
    Known {
        name: LOCK_DURATION,
        value_type: ValueType::Int,
        default: |_| "30000".to_owned(),
        check: Check::Between(1000, 3_600_000),
        documentation: "How long a member has a record before it is available to others again.",
    },
    Known {
        name: SESSION,
        value_type: ValueType::Int,
        default: |defaults| defaults.session_timeout_ms.to_string(),
        check: Check::Between(1000, 3_600_000),
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

/// What a group sets itself, as it was written.
pub(crate) type Overrides = BTreeMap<String, String>;

/// A setting that is served.
pub(crate) fn find(name: &str) -> Result<&'static Known, String> {
    KNOWN.iter().find(|known| known.name == name).ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        format!("group setting {name:?} is not served; served are {}", names.join(", "))
    })
}

/// Checks one setting; the error names it, what was found and what is expected.
pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    let expected = match find(name)?.check {
        Check::Between(least, most) if value.parse().is_ok_and(|number| (least..=most).contains(&number)) => {
            return Ok(());
        }
        Check::OneOf(values) if values.contains(&value) => return Ok(()),
        Check::OffsetReset if offset_reset(value).is_some() => return Ok(()),
        Check::Between(least, most) => format!("a number from {least} to {most}"),
        Check::OneOf(values) => format!("one of {}", values.join(", ")),
        Check::OffsetReset => "latest, earliest, or by_duration: with an ISO 8601 duration such as PT1H".to_owned(),
    };
    Err(format!("group setting {name} is {value:?}, expected {expected}"))
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
    /// The settings in force. Overrides have passed [`check`]; one that no longer does falls back to the default.
    fn resolve(overrides: &Overrides, defaults: &Defaults) -> Self {
        let text = |name: &str| overrides.get(name).map(String::as_str);
        let number = |name: &str, default: i32| text(name).and_then(|value| value.parse().ok()).unwrap_or(default);
        Self {
            offset_reset: text(OFFSET_RESET).and_then(offset_reset).unwrap_or(OffsetReset::Latest),
            lock_duration_ms: number(LOCK_DURATION, 30_000),
            is_committed_only: text(ISOLATION) == Some("read_committed"),
            max_deliveries: i16::try_from(number(DELIVERIES, 5)).unwrap_or(i16::MAX),
            max_in_flight: number(IN_FLIGHT, 2000).into(),
            heartbeat_interval_ms: number(HEARTBEAT, defaults.heartbeat_interval_ms),
            session_timeout_ms: number(SESSION, defaults.session_timeout_ms),
        }
    }
}

/// What share groups set themselves, kept in `share-groups.json`.
#[derive(Debug)]
pub(crate) struct ShareSettings {
    path: PathBuf,
    pub(crate) defaults: Defaults,
    max_groups: usize,
    stored: RwLock<Stored>,
    /// Held by whoever changes the file, so that changes follow each other.
    changing: Mutex<()>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Stored {
    groups: BTreeMap<String, Overrides>,
}

/// Why settings were not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("{limit} groups have settings of their own, the most there may be (max_groups)")]
    TooMany { limit: usize },
    #[error("the disk refused: {0}")]
    Storage(#[from] BrokerError),
}

impl ShareSettings {
    pub(crate) fn open(data_dir: &Path, defaults: Defaults, max_groups: usize) -> Result<Self, BrokerError> {
        let path = data_dir.join("share-groups.json");
        let stored = RwLock::new(sealed::read(&path, KIND)?.unwrap_or_default());
        Ok(Self { path, defaults, max_groups, stored, changing: Mutex::default() })
    }

    /// The settings in force for a group.
    pub(crate) fn config(&self, group: &str) -> ShareConfig {
        ShareConfig::resolve(&self.overrides(group), &self.defaults)
    }

    /// Refuses settings that each make sense and together do not.
    pub(crate) fn check_together(&self, overrides: &Overrides) -> Result<(), String> {
        let config = ShareConfig::resolve(overrides, &self.defaults);
        let (timeout_ms, interval_ms) = (config.session_timeout_ms, config.heartbeat_interval_ms);
        if timeout_ms > interval_ms {
            return Ok(());
        }
        Err(format!("group setting {SESSION} is {timeout_ms}, expected more than {HEARTBEAT}, which is {interval_ms}"))
    }

    /// What a group sets itself.
    pub(crate) fn overrides(&self, group: &str) -> Overrides {
        self.stored.read().groups.get(group).cloned().unwrap_or_default()
    }

    /// Every group that sets something itself.
    pub(crate) fn groups(&self) -> Vec<String> {
        self.stored.read().groups.keys().cloned().collect()
    }

    /// Changes what a group sets itself, which has been checked. Blocks on the disk.
    pub(crate) fn alter(&self, group: &str, alter: impl FnOnce(&mut Overrides)) -> Result<(), StoreError> {
        let _changing = self.changing.lock();
        let mut changed = self.stored.read().clone();
        let mut overrides = changed.groups.remove(group).unwrap_or_default();
        alter(&mut overrides);
        if !overrides.is_empty() {
            if changed.groups.len() >= self.max_groups {
                return Err(StoreError::TooMany { limit: self.max_groups });
            }
            changed.groups.insert(group.to_owned(), overrides);
        }
        sealed::write(&self.path, KIND, &changed)?;
        *self.stored.write() = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults { heartbeat_interval_ms: 5000, session_timeout_ms: 45_000 };

    #[test]
    fn every_default_passes_its_own_check_and_is_what_is_in_force() {
        let mut described = Overrides::new();
        for known in KNOWN {
            let value = (known.default)(&DEFAULTS);
            check(known.name, &value).expect(known.name);
            described.insert(known.name.to_owned(), value);
        }
        let resolved = ShareConfig::resolve(&described, &DEFAULTS);
        assert_eq!(resolved, ShareConfig::resolve(&Overrides::new(), &DEFAULTS));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (name, value, expected) in [
            ("share.unknown", "1", "served are share.auto.offset.reset"),
            (DELIVERIES, "1", "share.delivery.count.limit is \"1\", expected a number from 2 to 10"),
            (LOCK_DURATION, "soon", "expected a number from 1000 to 3600000"),
            (ISOLATION, "serializable", "expected one of read_uncommitted, read_committed"),
            (OFFSET_RESET, "by_duration:1h", "expected latest, earliest, or by_duration:"),
        ] {
            let error = check(name, value).expect_err(name);
            assert!(error.contains(expected), "{error}");
        }
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

    #[test]
    fn settings_survive_and_groups_that_have_some_are_limited() {
        let dir = tempfile::tempdir().expect("tempdir");
        let open = || ShareSettings::open(dir.path(), DEFAULTS, 2).expect("open");
        let set = |settings: &ShareSettings, group: &str, value: &str| {
            settings.alter(group, |overrides| drop(overrides.insert(DELIVERIES.to_owned(), value.to_owned())))
        };
        let settings = open();
        set(&settings, "a", "3").expect("set");
        set(&settings, "b", "4").expect("set");
        assert!(matches!(set(&settings, "c", "4"), Err(StoreError::TooMany { limit: 2 })));
        set(&settings, "a", "2").expect("no more groups than before");
        settings.alter("b", Overrides::clear).expect("unset");
        let settings = open();
        assert_eq!((settings.config("a").max_deliveries, settings.config("b").max_deliveries), (2, 5));
        assert_eq!(settings.groups(), ["a"]);
    }
}
