//! The broker's settings under Kafka's names, for clients that ask for them. Those that are the defaults of topic
//! settings stand in `topic_settings.rs`.

use super::NODE_ID;
use crate::log::config::ValueType;
use crate::settings::BrokerSettings;

/// A setting of the broker as it is described to clients.
pub(super) struct BrokerConfig {
    pub(super) name: &'static str,
    pub(super) value_type: ValueType,
    pub(super) value: fn(&BrokerSettings) -> String,
    pub(super) documentation: &'static str,
}

const fn config(
    name: &'static str,
    value_type: ValueType,
    value: fn(&BrokerSettings) -> String,
    documentation: &'static str,
) -> BrokerConfig {
    BrokerConfig { name, value_type, value, documentation }
}

/// What has a name in Kafka and is not the default of a topic setting.
pub(super) const BROKER_CONFIGS: &[BrokerConfig] = &[
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
    config("broker.id", ValueType::Int, |_| NODE_ID.to_string(), "The id of the only node."),
    config(
        "connections.max.idle.ms",
        ValueType::Long,
        |settings| settings.idle_connection_timeout_ms.to_string(),
        "How long a silent connection stays open.",
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
        "group.consumer.max.size",
        ValueType::Int,
        |settings| settings.max_group_members.to_string(),
        "Members of one group of the consumer protocol.",
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
        "listeners",
        ValueType::String,
        |settings| format!("PLAINTEXT://{}", settings.listen),
        "The address that is listened on.",
    ),
    config(
        "log.cleaner.backoff.ms",
        ValueType::Long,
        |settings| settings.log_cleaner_interval_ms.to_string(),
        "How often compaction is looked at.",
    ),
    config(
        "log.cleaner.dedupe.buffer.size",
        ValueType::Long,
        |settings| settings.log_cleaner_dedupe_buffer_bytes.to_string(),
        "Memory for the keys of one pass of compaction.",
    ),
    config(
        "log.cleaner.enable",
        ValueType::Boolean,
        |settings| settings.log_cleaner_enable.to_string(),
        "Whether compacted topics are compacted in the background.",
    ),
    config(
        "log.cleaner.io.max.bytes.per.second",
        ValueType::Double,
        |settings| match settings.log_cleaner_io_max_bytes_per_second {
            Some(bytes) => format!("{bytes}.0"),
            // The largest double, as Java writes it: what Kafka has for no limit.
            None => "1.7976931348623157E308".into(),
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
    config(
        "max.connections",
        ValueType::Int,
        |settings| settings.max_connections.to_string(),
        "Connections that may be open.",
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
    config(
        "producer.id.expiration.ms",
        ValueType::Int,
        |settings| settings.producer_id_expiration_ms.to_string(),
        "How long a silent producer is remembered.",
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
    use crate::log::config::KNOWN;

    #[test]
    fn every_name_stands_once() {
        assert!(BROKER_CONFIGS.is_sorted_by_key(|config| config.name));
        let names = BROKER_CONFIGS.iter().map(|config| config.name).chain(KNOWN.iter().map(|known| known.broker_name));
        let mut seen = HashSet::new();
        names.for_each(|name| assert!(seen.insert(name), "{name}"));
    }
}
