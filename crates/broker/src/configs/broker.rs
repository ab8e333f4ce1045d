//! The broker's settings under Kafka's names: what they are, which of them can be altered while it runs, and how. Those
//! that are the defaults of topic settings stand in `log/topic_settings.rs`.

use std::fmt::Display;
use std::str::FromStr;

use crate::handler::NODE_ID;
use crate::log::config::{KNOWN, Known, ValueType};
use crate::settings::BrokerSettings;

/// A setting of the broker under the name it has in Kafka.
pub(crate) struct BrokerConfig {
    name: &'static str,
    value_type: ValueType,
    value: fn(&BrokerSettings) -> String,
    /// How it is altered; `None` if it can only be given at the start.
    set: Option<Set>,
    documentation: &'static str,
}

/// Takes a value into the settings, or says what is wrong with it.
type Set = fn(&mut BrokerSettings, &str) -> Result<(), String>;

/// Defaults of topic settings that are not altered: Kafka has no such setting of brokers, or not while they run.
const NOT_ALTERED: [&str; 3] = [
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "remote.log.storage.system.enable",
];

/// A setting of the broker, of whichever table.
#[derive(Clone, Copy)]
pub(crate) enum Setting {
    Own(&'static BrokerConfig),
    /// The default of a topic setting.
    OfTopics(&'static Known),
}

impl Setting {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Own(config) => config.name,
            Self::OfTopics(known) => known.broker_name,
        }
    }

    pub(crate) fn value_type(self) -> ValueType {
        match self {
            Self::Own(config) => config.value_type,
            Self::OfTopics(known) => known.value_type,
        }
    }

    pub(crate) fn documentation(self) -> &'static str {
        match self {
            Self::Own(config) => config.documentation,
            Self::OfTopics(known) => known.documentation,
        }
    }

    /// What settings say it is.
    pub(crate) fn value(self, settings: &BrokerSettings) -> String {
        match self {
            Self::Own(config) => (config.value)(settings),
            Self::OfTopics(known) => known.default(settings),
        }
    }

    /// Whether it can be altered while the broker runs.
    pub(crate) fn is_dynamic(self) -> bool {
        match self {
            Self::Own(config) => config.set.is_some(),
            Self::OfTopics(known) => !NOT_ALTERED.contains(&known.broker_name),
        }
    }

    fn set(self, settings: &mut BrokerSettings, value: &str) -> Result<(), String> {
        let name = self.name();
        let wrong = |reason: String| format!("broker setting {name} {reason}");
        match self {
            Self::Own(BrokerConfig { set: Some(set), .. }) => set(settings, value).map_err(wrong),
            Self::OfTopics(known) if self.is_dynamic() => {
                known.check(value).map_err(wrong)?;
                settings.topic_defaults.insert(known.name.to_owned(), value.to_owned());
                Ok(())
            }
            _ => Err(wrong("cannot be altered while the broker runs; give it at the start".to_owned())),
        }
    }
}

/// Every setting, by name.
pub(crate) fn all() -> Vec<Setting> {
    let of_topics = KNOWN.iter().map(Setting::OfTopics);
    let mut all: Vec<Setting> = BROKER_CONFIGS.iter().map(Setting::Own).chain(of_topics).collect();
    all.sort_unstable_by_key(|setting| setting.name());
    all
}

/// A setting by its name.
pub(crate) fn find(name: &str) -> Result<Setting, String> {
    let unknown = || {
        let names: Vec<_> = all().into_iter().filter(|found| found.is_dynamic()).map(Setting::name).collect();
        format!("broker setting {name:?} is not served; those that can be altered are {}", names.join(", "))
    };
    all().into_iter().find(|setting| setting.name() == name).ok_or_else(unknown)
}

/// Takes the value of a setting into settings; the error names it, what was found and what is expected.
pub(super) fn set(settings: &mut BrokerSettings, name: &str, value: &str) -> Result<(), String> {
    find(name)?.set(settings, value)
}

/// Checks one setting as [`set`] would.
pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    set(&mut BrokerSettings::default(), name, value)
}

/// A number within limits, or what is wrong with the text.
pub(crate) fn number<T: FromStr + PartialOrd + Display>(value: &str, least: T, most: T) -> Result<T, String> {
    match value.parse::<T>() {
        Ok(number) if (&least..=&most).contains(&&number) => Ok(number),
        _ => Err(format!("is {value:?}, expected a number from {least} to {most}")),
    }
}

const INT: usize = i32::MAX as usize;

const fn config(
    name: &'static str,
    value_type: ValueType,
    value: fn(&BrokerSettings) -> String,
    documentation: &'static str,
) -> BrokerConfig {
    BrokerConfig { name, value_type, value, set: None, documentation }
}

const fn dynamic(
    name: &'static str,
    value_type: ValueType,
    value: fn(&BrokerSettings) -> String,
    set: Set,
    documentation: &'static str,
) -> BrokerConfig {
    BrokerConfig { name, value_type, value, set: Some(set), documentation }
}

/// What has a name in Kafka and is not the default of a topic setting.
const BROKER_CONFIGS: &[BrokerConfig] = &[
    config(
        "advertised.listeners",
        ValueType::String,
        |settings| match &settings.advertised {
            Some((host, port)) => format!("PLAINTEXT://{host}:{port}"),
            None => format!("PLAINTEXT://{}", settings.listen),
        },
        "The address that clients are told.",
    ),
    config(
        "auto.create.topics.enable",
        ValueType::Boolean,
        |settings| settings.auto_create_topics.to_string(),
        "Whether a topic is created when a client that allows it asks for it.",
    ),
    dynamic(
        "background.threads",
        ValueType::Int,
        |settings| settings.background_threads.to_string(),
        |settings, value| number(value, 1, 1024).map(|found| settings.background_threads = found),
        "Threads, at most, that look at partitions in the background: for retention and flush.ms.",
    ),
    config("broker.id", ValueType::Int, |_| NODE_ID.to_string(), "The id of the only node."),
    config(
        "connections.max.idle.ms",
        ValueType::Long,
        |settings| settings.idle_connection_timeout_ms.to_string(),
        "How long a silent connection stays open.",
    ),
    config(
        "connections.max.reauth.ms",
        ValueType::Long,
        |settings| settings.security.max_reauthentication_ms.to_string(),
        "How long a SASL session lasts before its client has to authenticate again; 0 is for ever.",
    ),
    config("default.replication.factor", ValueType::Int, |_| "1".into(), "Replicas of a partition."),
    config("delete.topic.enable", ValueType::Boolean, |_| "true".into(), "Whether topics can be deleted."),
    config(
        "fetch.max.bytes",
        ValueType::Int,
        |settings| settings.max_fetch_bytes.to_string(),
        "Record bytes in one answer to a fetch.",
    ),
    config(
        "group.consumer.heartbeat.interval.ms",
        ValueType::Int,
        |settings| settings.group_consumer_heartbeat_interval_ms.to_string(),
        "How often members of the consumer protocol are told to heartbeat.",
    ),
    config(
        "group.consumer.max.heartbeat.interval.ms",
        ValueType::Int,
        |settings| settings.group_consumer_max_heartbeat_interval_ms.to_string(),
        "The longest heartbeat interval a group of the consumer protocol can have.",
    ),
    config(
        "group.consumer.max.session.timeout.ms",
        ValueType::Int,
        |settings| settings.group_consumer_max_session_timeout_ms.to_string(),
        "The longest session timeout a group of the consumer protocol can have.",
    ),
    config(
        "group.consumer.max.size",
        ValueType::Int,
        |settings| settings.max_group_members.to_string(),
        "Members of one group of the consumer protocol.",
    ),
    config(
        "group.consumer.min.heartbeat.interval.ms",
        ValueType::Int,
        |settings| settings.group_consumer_min_heartbeat_interval_ms.to_string(),
        "The shortest heartbeat interval a group of the consumer protocol can have.",
    ),
    config(
        "group.consumer.min.session.timeout.ms",
        ValueType::Int,
        |settings| settings.group_consumer_min_session_timeout_ms.to_string(),
        "The shortest session timeout a group of the consumer protocol can have.",
    ),
    config(
        "group.consumer.session.timeout.ms",
        ValueType::Int,
        |settings| settings.group_consumer_session_timeout_ms.to_string(),
        "How long a member of the consumer protocol may be silent.",
    ),
    config(
        "group.initial.rebalance.delay.ms",
        ValueType::Int,
        |settings| settings.group_initial_rebalance_delay_ms.to_string(),
        "How long the first rebalance of an empty group waits for more members.",
    ),
    config(
        "group.max.session.timeout.ms",
        ValueType::Int,
        |settings| settings.group_max_session_timeout_ms.to_string(),
        "The longest session timeout of a group's member.",
    ),
    config(
        "group.max.size",
        ValueType::Int,
        |settings| settings.max_group_members.to_string(),
        "Members of one group.",
    ),
    config(
        "group.min.session.timeout.ms",
        ValueType::Int,
        |settings| settings.group_min_session_timeout_ms.to_string(),
        "The shortest session timeout of a group's member.",
    ),
    config(
        "group.share.heartbeat.interval.ms",
        ValueType::Int,
        |settings| settings.group_share_heartbeat_interval_ms.to_string(),
        "How often members of share groups are told to heartbeat.",
    ),
    config(
        "group.share.session.timeout.ms",
        ValueType::Int,
        |settings| settings.group_share_session_timeout_ms.to_string(),
        "How long a member of a share group may be silent.",
    ),
    config(
        "listeners",
        ValueType::String,
        |settings| format!("PLAINTEXT://{}", settings.listen),
        "The address that is listened on.",
    ),
    dynamic(
        "log.cleaner.backoff.ms",
        ValueType::Long,
        |settings| settings.log_cleaner_interval_ms.to_string(),
        |settings, value| number(value, 1, u64::MAX >> 1).map(|found| settings.log_cleaner_interval_ms = found),
        "How often compaction is looked at.",
    ),
    dynamic(
        "log.cleaner.dedupe.buffer.size",
        ValueType::Long,
        |settings| settings.log_cleaner_dedupe_buffer_bytes.to_string(),
        |settings, value| {
            number(value, 1024, usize::MAX >> 1).map(|found| settings.log_cleaner_dedupe_buffer_bytes = found)
        },
        "Memory for the keys of one pass of compaction.",
    ),
    config(
        "log.cleaner.enable",
        ValueType::Boolean,
        |settings| settings.log_cleaner_enable.to_string(),
        "Whether compacted topics are compacted in the background.",
    ),
    dynamic(
        "log.cleaner.io.max.bytes.per.second",
        ValueType::Double,
        |settings| match settings.log_cleaner_io_max_bytes_per_second {
            Some(bytes) => format!("{bytes}.0"),
            // The largest double, as Java writes it: what Kafka has for no limit.
            None => "1.7976931348623157E308".into(),
        },
        |settings, value| {
            let found = number(value, 1024.0, f64::MAX)?;
            let limited = found < u64::MAX as f64;
            settings.log_cleaner_io_max_bytes_per_second = limited.then_some(found as u64);
            Ok(())
        },
        "Bytes a second that compaction reads and writes.",
    ),
    config("log.cleaner.threads", ValueType::Int, |_| "1".into(), "Threads that compact."),
    config("log.dirs", ValueType::String, |settings| settings.data_dir.display().to_string(), "Where data is kept."),
    config(
        "log.flush.scheduler.interval.ms",
        ValueType::Long,
        |settings| settings.flush_check_interval_ms.to_string(),
        "How often flush.ms of the topics is looked at.",
    ),
    config(
        "log.retention.check.interval.ms",
        ValueType::Long,
        |settings| settings.retention_check_interval_ms.to_string(),
        "How often retention is looked at.",
    ),
    dynamic(
        "max.connections",
        ValueType::Int,
        |settings| settings.max_connections.to_string(),
        |settings, value| number(value, 1, INT).map(|found| settings.max_connections = found),
        "Connections that may be open.",
    ),
    dynamic(
        "max.connections.per.ip",
        ValueType::Int,
        |settings| settings.max_connections_per_ip.to_string(),
        |settings, value| number(value, 1, INT).map(|found| settings.max_connections_per_ip = found),
        "Connections that may be open from one address.",
    ),
    config("node.id", ValueType::Int, |_| NODE_ID.to_string(), "The id of the only node."),
    config(
        "num.partitions",
        ValueType::Int,
        |settings| settings.default_partitions.to_string(),
        "Partitions of a topic that is created without a number.",
    ),
    config(
        "offset.metadata.max.bytes",
        ValueType::Int,
        |settings| settings.max_offset_metadata_bytes.to_string(),
        "The longest metadata beside a committed offset.",
    ),
    config(
        "offsets.retention.minutes",
        ValueType::Int,
        |settings| (settings.offsets_retention_ms / 60_000).to_string(),
        "How long the offsets of an empty group are kept.",
    ),
    dynamic(
        "producer.id.expiration.ms",
        ValueType::Int,
        |settings| settings.producer_id_expiration_ms.to_string(),
        |settings, value| number(value, 1, i64::from(i32::MAX)).map(|found| settings.producer_id_expiration_ms = found),
        "How long a silent producer is remembered.",
    ),
    dynamic(
        "sasl.kerberos.min.time.before.relogin",
        ValueType::Long,
        |_| "60000".into(),
        |_, value| number(value, 0, i64::MAX).map(drop),
        "Of use with Kerberos only, which is not served.",
    ),
    config(
        "socket.request.max.bytes",
        ValueType::Int,
        |settings| settings.max_request_bytes.to_string(),
        "The largest request.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_stands_once() {
        assert!(BROKER_CONFIGS.is_sorted_by_key(|config| config.name));
        let mut seen = HashSet::new();
        all().into_iter().for_each(|setting| assert!(seen.insert(setting.name()), "{}", setting.name()));
        assert!(NOT_ALTERED.iter().all(|name| seen.contains(name)));
    }

    #[test]
    fn what_can_be_altered_takes_its_own_value_and_what_is_taken_is_in_force() {
        let defaults = BrokerSettings::default();
        for setting in all().into_iter().filter(|setting| setting.is_dynamic()) {
            check(setting.name(), &setting.value(&defaults)).expect("its default");
        }
        for (name, value) in [
            ("background.threads", "3"),
            ("compression.type", "lz4"),
            ("log.cleaner.backoff.ms", "77"),
            ("log.cleaner.dedupe.buffer.size", "4096"),
            ("log.cleaner.io.max.bytes.per.second", "5000.0"),
            ("log.cleanup.policy", "compact"),
            ("log.retention.ms", "1"),
            ("max.connections", "9"),
            ("max.connections.per.ip", "8"),
            ("message.max.bytes", "2000"),
            ("producer.id.expiration.ms", "60"),
        ] {
            let mut settings = BrokerSettings::default();
            set(&mut settings, name, value).expect(name);
            assert_eq!(find(name).expect(name).value(&settings), value, "{name}");
            settings.check().expect(name);
        }
    }

    #[test]
    fn what_cannot_be_altered_is_refused_with_the_reason() {
        for (name, value, expected) in [
            ("background.threads", "0", "broker setting background.threads is \"0\", expected a number from 1 to 1024"),
            (
                "broker.id",
                "1",
                "broker setting broker.id cannot be altered while the broker runs; give it at the start",
            ),
            ("log.cleaner.io.max.bytes.per.second", "NaN", "is \"NaN\", expected a number from 1024 to"),
            ("log.cleanup.policy", "compost", "broker setting log.cleanup.policy is \"compost\", expected a list"),
            ("log.retention.sm", "1", "is not served; those that can be altered are background.threads, compression"),
            ("max.connections", "many", "is \"many\", expected a number from 1 to 2147483647"),
            ("remote.log.storage.system.enable", "false", "cannot be altered"),
        ] {
            let error = check(name, value).expect_err(name);
            assert!(error.contains(expected), "{error}");
        }
    }
}
