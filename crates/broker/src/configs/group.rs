//! The settings a group can have of its own: Kafka's names, what they take, and the broker's settings beneath them.
//!
//! Those of share groups stand in `group/share/settings.rs`. Another kind of group adds a table of its settings to
//! [`known`], and heeds them where `Groups::configure` hands out what was altered.

use super::broker::number;
use crate::group::share::settings as share;
use crate::log::config::{Overrides, ValueType};
use crate::settings::BrokerSettings;

/// A setting of groups.
pub(crate) struct GroupConfig {
    pub(crate) name: &'static str,
    pub(crate) value_type: ValueType,
    /// The broker's setting that gives the default, if it has one.
    pub(crate) broker_name: Option<&'static str>,
    pub(crate) default: fn(&BrokerSettings) -> String,
    /// What is wrong with a value, of a broker with these settings.
    pub(crate) check: fn(&str, &BrokerSettings) -> Result<(), String>,
    pub(crate) documentation: &'static str,
}

pub(crate) const HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";
pub(crate) const SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";

/// Settings of groups of the consumer protocol.
const CONSUMER: &[GroupConfig] = &[
    GroupConfig {
        name: HEARTBEAT_INTERVAL,
        value_type: ValueType::Int,
        broker_name: Some("group.consumer.heartbeat.interval.ms"),
        default: |settings| settings.group_consumer_heartbeat_interval_ms.to_string(),
        check: |value, settings| {
            let least = settings.group_consumer_min_heartbeat_interval_ms;
            number(value, least, settings.group_consumer_max_heartbeat_interval_ms).map(drop)
        },
        documentation: "How often members of the group are told to heartbeat.",
    },
    GroupConfig {
        name: SESSION_TIMEOUT,
        value_type: ValueType::Int,
        broker_name: Some("group.consumer.session.timeout.ms"),
        default: |settings| settings.group_consumer_session_timeout_ms.to_string(),
        check: |value, settings| {
            let least = settings.group_consumer_min_session_timeout_ms;
            number(value, least, settings.group_consumer_max_session_timeout_ms).map(drop)
        },
        documentation: "How long a member of the group may be silent.",
    },
];

/// Every setting of groups.
pub(crate) fn known() -> impl Iterator<Item = &'static GroupConfig> {
    CONSUMER.iter().chain(share::KNOWN)
}

/// A setting of groups by its name.
pub(crate) fn find(name: &str) -> Result<&'static GroupConfig, String> {
    let unknown = || {
        let names: Vec<_> = known().map(|known| known.name).collect();
        format!("group setting {name:?} is not served; served are {}", names.join(", "))
    };
    known().find(|known| known.name == name).ok_or_else(unknown)
}

/// Checks one setting; the error names it, what was found and what is expected.
pub(crate) fn check(name: &str, value: &str, settings: &BrokerSettings) -> Result<(), String> {
    (find(name)?.check)(value, settings).map_err(|reason| format!("group setting {name} {reason}"))
}

/// Checks what settings must be together.
pub(crate) fn check_together(own: &Overrides, settings: &BrokerSettings) -> Result<(), String> {
    let Times { heartbeat_interval_ms, session_timeout_ms } = Times::of(own, settings);
    check_times((SESSION_TIMEOUT, session_timeout_ms), (HEARTBEAT_INTERVAL, heartbeat_interval_ms))?;
    share::check_together(own, settings)
}

/// A member that heartbeats as it is told must not be late: refuses a timeout that is no longer than the interval.
pub(crate) fn check_times(timeout: (&str, i32), interval: (&str, i32)) -> Result<(), String> {
    let ((timeout, timeout_ms), (interval, interval_ms)) = (timeout, interval);
    if timeout_ms > interval_ms {
        return Ok(());
    }
    Err(format!("group setting {timeout} is {timeout_ms}, expected more than {interval}, which is {interval_ms}"))
}

/// When members of one group of the consumer protocol have to be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) heartbeat_interval_ms: i32,
    pub(crate) session_timeout_ms: i32,
}

impl Times {
    /// The times in force for a group. What the broker's limits do not allow any more is the nearest they do.
    pub(crate) fn of(own: &Overrides, settings: &BrokerSettings) -> Self {
        let within = |name: &str, default: i32, least: i32, most: i32| {
            let own = own.get(name).and_then(|value| value.parse().ok());
            own.map_or(default, |own: i32| own.max(least).min(most))
        };
        Self {
            heartbeat_interval_ms: within(
                HEARTBEAT_INTERVAL,
                settings.group_consumer_heartbeat_interval_ms,
                settings.group_consumer_min_heartbeat_interval_ms,
                settings.group_consumer_max_heartbeat_interval_ms,
            ),
            session_timeout_ms: within(
                SESSION_TIMEOUT,
                settings.group_consumer_session_timeout_ms,
                settings.group_consumer_min_session_timeout_ms,
                settings.group_consumer_max_session_timeout_ms,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::broker;

    #[test]
    fn settings_of_groups_lie_within_the_brokers_limits() {
        let settings = BrokerSettings::default();
        for (name, value, expected) in [
            (SESSION_TIMEOUT, "50000", None),
            (SESSION_TIMEOUT, "45000", None),
            (SESSION_TIMEOUT, "44999", Some("is \"44999\", expected a number from 45000 to 60000")),
            (SESSION_TIMEOUT, "soon", Some("is \"soon\"")),
            (HEARTBEAT_INTERVAL, "15001", Some("expected a number from 5000 to 15000")),
            ("consumer.session.timeout", "1", Some("served are consumer.heartbeat.interval.ms, consumer.session")),
        ] {
            match (check(name, value, &settings), expected) {
                (Err(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => assert_eq!((found, expected), (Ok(()), None), "{name}={value}"),
            }
        }
        assert!(known().all(|known| check(known.name, &(known.default)(&settings), &settings).is_ok()));
        assert!(known().map(|known| known.name).is_sorted());
        let of_broker =
            |known: &GroupConfig| known.broker_name.map(|name| broker::find(name).map(|it| it.value(&settings)));
        for known in known() {
            assert_eq!(of_broker(known).unwrap_or(Ok((known.default)(&settings))), Ok((known.default)(&settings)));
        }
    }

    #[test]
    fn a_group_that_is_outside_of_new_limits_gets_the_nearest_time() {
        let own = Overrides::from([(SESSION_TIMEOUT.to_owned(), "50000".to_owned())]);
        let settings = BrokerSettings {
            group_consumer_min_session_timeout_ms: 7000,
            group_consumer_max_session_timeout_ms: 9000,
            group_consumer_session_timeout_ms: 8000,
            ..BrokerSettings::default()
        };
        assert_eq!(Times::of(&own, &settings), Times { heartbeat_interval_ms: 5000, session_timeout_ms: 9000 });
        assert_eq!(Times::of(&Overrides::new(), &settings).session_timeout_ms, 8000);
        check_together(&own, &settings).expect("9000 is more than 5000");
        let settings = BrokerSettings { group_consumer_heartbeat_interval_ms: 9000, ..settings };
        let error = check_together(&own, &settings).expect_err("late");
        assert!(error.contains("is 9000, expected more than consumer.heartbeat.interval.ms, which is 9000"), "{error}");
    }
}
