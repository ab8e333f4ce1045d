//! What a broker can be told: plain serialisable values, each with its unit and default.
//!
//! Settings are not components: nothing here holds a socket, a file or a clock, so a set of
//! settings can be printed, compared and read from a file. [`BrokerSettings::check`] refuses what
//! cannot work before anything is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::BrokerError;
use crate::log::config;
use crate::security::settings::{self as security, ListenerSettings, SecuritySettings};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// When an appended batch is forced to the disk.
///
/// A crash of the process alone loses nothing in any mode: the operating system has the bytes. The
/// modes differ in what a crash of the machine can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FsyncMode {
    /// A produce is acknowledged, and its records become readable, after an fsync that covers
    /// them. Concurrent produces to one partition share an fsync. Loses nothing.
    Always,
    /// Dirty partitions are fsynced this often. A machine crash loses at most about this much.
    Interval {
        /// Time between two fsyncs of a partition that is being written.
        interval_ms: u64,
    },
    /// Flushing is left to the operating system, as Kafka does by default. Segments are still
    /// fsynced when they are closed.
    Os,
}

impl fmt::Display for FsyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval { interval_ms } => write!(f, "{interval_ms}ms"),
            Self::Os => f.write_str("os"),
        }
    }
}

impl FromStr for FsyncMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => return Ok(Self::Always),
            "os" => return Ok(Self::Os),
            _ => {}
        }
        let interval = text.strip_suffix("ms").and_then(|number| number.parse().ok());
        match interval {
            Some(interval_ms) if interval_ms > 0 => Ok(Self::Interval { interval_ms }),
            _ => Err(format!("fsync mode is {text:?}, expected `always`, `os`, or an interval such as `1000ms`")),
        }
    }
}

impl TryFrom<String> for FsyncMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<FsyncMode> for String {
    fn from(mode: FsyncMode) -> Self {
        mode.to_string()
    }
}

/// What to do at start with a log that is damaged before its end.
///
/// A torn *end* of the newest segment is what a crash leaves and is always cut off; this is about
/// damage with good data behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorruptLogPolicy {
    /// Refuse to start and name the topic, the partition, the file and the position.
    #[default]
    Refuse,
    /// Give up everything of that partition from the damage onwards, and log what was dropped.
    Truncate,
}

/// A fault that is built in on request, to prove that a test would notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sabotage {
    /// A producer that was replaced may go on writing and ending transactions.
    NoFencing,
    /// Readers of committed records get every record.
    NoIsolation,
}

/// Everything a [`Broker`](crate::Broker) can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerSettings {
    /// Address to listen on, in the clear and without authentication, and therefore on loopback
    /// only. Port 0 takes a free one. Without effect where there are `listeners`.
    pub listen: SocketAddr,
    /// Host and port told to clients of `listen`; the listening address when absent.
    pub advertised: Option<(String, u16)>,
    /// Addresses to listen on in the place of `listen`, each with its protocol: TLS, SASL, both.
    pub listeners: Vec<ListenerSettings>,
    /// Users, their rights, and the limits of those who are not known yet.
    pub security: SecuritySettings,
    /// Where everything is kept. One broker process at a time.
    pub data_dir: PathBuf,
    /// Partitions of a topic that is created without a number.
    pub default_partitions: i32,
    /// Whether a metadata request of a client that allows it creates the topics it names.
    pub auto_create_topics: bool,
    /// When appended batches are forced to the disk.
    pub fsync: FsyncMode,
    /// What to do with a log that is damaged before its end.
    pub corrupt_log: CorruptLogPolicy,

    /// Default of the topic setting `retention.ms`; -1 keeps for ever.
    pub retention_ms: i64,
    /// Default of the topic setting `retention.bytes` (of a partition); -1 is no limit.
    pub retention_bytes: i64,
    /// Default of the topic setting `segment.bytes`.
    pub segment_bytes: i32,
    /// Default of the topic setting `segment.ms`.
    pub segment_ms: i64,
    /// Default of the topic setting `max.message.bytes`: the largest record batch.
    pub max_message_bytes: i32,
    /// Default of the topic setting `delete.retention.ms`: how long a tombstone stays in a compacted topic.
    pub delete_retention_ms: i64,
    /// Default of the topic setting `min.compaction.lag.ms`: how long a record is safe from compaction.
    pub min_compaction_lag_ms: i64,
    /// Default of the topic setting `max.compaction.lag.ms`: how long a record may wait for compaction.
    pub max_compaction_lag_ms: i64,
    /// Default of the topic setting `min.cleanable.dirty.ratio`: share of the log that must be dirty, from 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// Defaults of topic settings by Kafka's names, such as `cleanup.policy`. A name here wins over the field above that
    /// means the same.
    pub topic_defaults: BTreeMap<String, String>,
    /// Whether topics with `cleanup.policy=compact` are compacted in the background.
    pub log_cleaner_enable: bool,
    /// How often compaction is looked at, in milliseconds.
    pub log_cleaner_interval_ms: u64,
    /// Memory for the keys of one pass of compaction, in bytes; more passes are made when there are more keys.
    pub log_cleaner_dedupe_buffer_bytes: usize,
    /// Bytes a second that compaction reads and writes, together; no limit when absent.
    pub log_cleaner_io_max_bytes_per_second: Option<u64>,
    /// Bytes of one batch, unpacked, where its records have to be looked at: in compacted topics, and where a topic
    /// limits timestamps or recompresses. A larger batch is refused.
    pub max_unpacked_batch_bytes: usize,
    /// How often `flush.ms` of the topics is looked at, in milliseconds.
    pub flush_check_interval_ms: u64,
    /// Threads, at most, that look at partitions in the background, for retention and `flush.ms`; Kafka's
    /// `background.threads`. Few partitions need but one.
    pub background_threads: usize,
    /// How often retention is looked at.
    pub retention_check_interval_ms: u64,
    /// How long a silent producer's sequence numbers are remembered.
    pub producer_id_expiration_ms: i64,
    /// Producers remembered in one partition; the longest silent is forgotten beyond it.
    pub max_producers_per_partition: usize,
    /// Whether the checksum of each batch is verified again when it is read from the disk.
    pub verify_on_fetch: bool,

    /// Largest request frame; a larger one closes the connection before anything is allocated.
    pub max_request_bytes: usize,
    /// Array elements and tagged fields in one request, summed.
    pub max_request_elements: usize,
    /// Longest client id, and longest name a quota can be for; a longer client id closes the connection.
    pub max_client_id_bytes: usize,
    /// Request bytes held by all connections together (Kafka's `queued.max.request.bytes`); beyond it all but one
    /// wait to be read on.
    pub max_request_memory_bytes: usize,
    /// Bytes of fetch responses held by all connections together, from before they are read until the system has
    /// taken them; beyond it fetches are answered without records. Buffers that are used again take 16 MiB beside it.
    pub max_fetch_memory_bytes: usize,
    /// Record bytes in one fetch response (the first batch is always whole).
    pub max_fetch_bytes: usize,
    /// Fetch sessions kept (KIP-227; Kafka's `max.incremental.fetch.session.cache.slots`); a fetch beyond it goes on
    /// without. 0 keeps none.
    pub max_fetch_sessions: usize,
    /// Partitions in all fetch sessions together; a session that would go beyond it is not kept.
    pub max_fetch_session_partitions: usize,
    /// Open connections; one more is closed at once.
    pub max_connections: usize,
    /// Open connections from one address; one more is closed at once.
    pub max_connections_per_ip: usize,
    /// Request bytes of one connection that wait for their answer; beyond it the connection is
    /// not read.
    pub max_in_flight_bytes: usize,
    /// A connection that is silent for this long is closed.
    pub idle_connection_timeout_ms: u64,
    /// A connection whose request has begun and is not whole after this long is closed.
    pub request_read_timeout_ms: u64,
    /// A connection that takes nothing of its answer for this long is closed.
    pub slow_reader_timeout_ms: u64,
    /// Windows a quota's rate is measured over (Kafka's `quota.window.num`).
    pub quota_window_count: usize,
    /// Length of such a window (Kafka's `quota.window.size.seconds`).
    pub quota_window_ms: i64,
    /// Users and clients that have quotas.
    pub max_quota_entities: usize,
    /// Users and clients whose rates are known at a time; beyond it the silent are forgotten, then all.
    pub max_quota_rates: usize,
    /// Topics of this broker.
    pub max_topics: usize,
    /// Partitions of one topic.
    pub max_partitions_per_topic: i32,
    /// Partitions of all topics together: each costs files, and memory for what is known of it.
    pub max_partitions: usize,
    /// Partitions in one answer to DescribeTopicPartitions; a client may ask for fewer and goes on where it ended.
    pub max_described_partitions: i32,
    /// Consumer groups, and groups with committed offsets.
    pub max_groups: usize,
    /// Members of one consumer group.
    pub max_group_members: usize,

    /// Shortest session timeout a member may ask for.
    pub group_min_session_timeout_ms: i32,
    /// Longest session timeout a member may ask for.
    pub group_max_session_timeout_ms: i32,
    /// How long the first rebalance of an empty group waits for more members.
    pub group_initial_rebalance_delay_ms: i32,
    /// How long a member's first join may wait for a rebalance to end, in milliseconds.
    pub group_new_member_join_timeout_ms: i32,
    /// How often members of the consumer protocol (KIP-848) are told to heartbeat, in milliseconds;
    /// Kafka's `group.consumer.heartbeat.interval.ms`.
    pub group_consumer_heartbeat_interval_ms: i32,
    /// How long a member of the consumer protocol may be silent, in milliseconds; Kafka's
    /// `group.consumer.session.timeout.ms`.
    pub group_consumer_session_timeout_ms: i32,
    /// Shortest heartbeat interval a group of the consumer protocol can have, in milliseconds.
    pub group_consumer_min_heartbeat_interval_ms: i32,
    /// Longest heartbeat interval a group of the consumer protocol can have, in milliseconds.
    pub group_consumer_max_heartbeat_interval_ms: i32,
    /// Shortest session timeout a group of the consumer protocol can have, in milliseconds.
    pub group_consumer_min_session_timeout_ms: i32,
    /// Longest session timeout a group of the consumer protocol can have, in milliseconds.
    pub group_consumer_max_session_timeout_ms: i32,
    /// Longest regular expression a member may subscribe with, in bytes.
    pub max_subscription_regex_bytes: usize,
    /// Memory a compiled regular expression may take, in bytes.
    pub max_compiled_regex_bytes: usize,
    /// How often members of share groups (KIP-932) are told to heartbeat, in milliseconds; Kafka's
    /// `group.share.heartbeat.interval.ms`.
    pub group_share_heartbeat_interval_ms: i32,
    /// How long a member of a share group may be silent, in milliseconds; Kafka's
    /// `group.share.session.timeout.ms`.
    pub group_share_session_timeout_ms: i32,
    /// How often locks on records of share groups are looked at that may have run out, in milliseconds.
    pub share_lock_check_interval_ms: u64,
    /// Sessions of members of share groups; Kafka's `group.share.max.share.sessions`.
    pub max_share_sessions: usize,
    /// Partitions in all sessions of share groups together.
    pub max_share_session_partitions: usize,
    /// Partitions share groups have read, each counted for each group.
    pub max_share_partitions: usize,
    /// Records of all share groups between the first that is not finished and the last handed out.
    pub max_share_in_flight_records: usize,
    /// How long the offsets of an empty group are kept.
    pub offsets_retention_ms: i64,
    /// How soon a committed offset can be read in the topic `__consumer_offsets`.
    pub offsets_publish_interval_ms: u64,
    /// What a member of a group says of itself in all its protocols, and what it is assigned, each at most.
    pub max_member_metadata_bytes: usize,
    /// Longest metadata string beside a committed offset.
    pub max_offset_metadata_bytes: usize,

    /// Longest timeout a transactional producer may ask for.
    pub transaction_max_timeout_ms: i32,
    /// How often transactions that take too long are looked for.
    pub transaction_check_interval_ms: u64,
    /// How long a transactional id that nobody uses is remembered.
    pub transactional_id_expiration_ms: i64,
    /// Transactional ids of this broker.
    pub max_transactional_ids: usize,
    /// Partitions of one transaction.
    pub max_transaction_partitions: usize,

    /// Faults to build in, for tests of tests. A broker that keeps anything of worth has none.
    pub sabotage: Vec<Sabotage>,
}

impl BrokerSettings {
    /// The defaults, with everything kept under `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), ..Self::default() }
    }

    /// Refuses what cannot work, naming the setting, what was found and what is expected.
    pub fn check(&self) -> Result<(), BrokerError> {
        security::check(self)?;
        at_least("default_partitions", self.default_partitions.into(), 1)?;
        at_least("max_partitions", self.max_partitions as i128, 1)?;
        at_least("max_partitions_per_topic", self.max_partitions_per_topic.into(), 1)?;
        at_least("max_described_partitions", self.max_described_partitions.into(), 1)?;
        at_least("segment_bytes", self.segment_bytes.into(), 1024)?;
        at_least("segment_ms", self.segment_ms.into(), 1)?;
        at_least("retention_ms", self.retention_ms.into(), -1)?;
        at_least("retention_bytes", self.retention_bytes.into(), -1)?;
        at_least("max_message_bytes", self.max_message_bytes.into(), 1)?;
        at_least("max_request_bytes", self.max_request_bytes as i128, 1024)?;
        at_least("max_connections", self.max_connections as i128, 1)?;
        at_least("max_group_members", self.max_group_members as i128, 1)?;
        at_least("max_transactional_ids", self.max_transactional_ids as i128, 1)?;
        at_least("max_transaction_partitions", self.max_transaction_partitions as i128, 1)?;
        at_least("transaction_max_timeout_ms", self.transaction_max_timeout_ms.into(), 1)?;
        at_least("transaction_check_interval_ms", self.transaction_check_interval_ms.into(), 1)?;
        at_least("offsets_publish_interval_ms", self.offsets_publish_interval_ms.into(), 1)?;
        at_least("max_groups", self.max_groups as i128, 1)?;
        at_least("retention_check_interval_ms", self.retention_check_interval_ms.into(), 1)?;
        at_least("max_connections_per_ip", self.max_connections_per_ip as i128, 1)?;
        at_least("max_request_memory_bytes", self.max_request_memory_bytes as i128, 1024)?;
        at_least("max_fetch_memory_bytes", self.max_fetch_memory_bytes as i128, 1024)?;
        at_least("request_read_timeout_ms", self.request_read_timeout_ms.into(), 1)?;
        at_least("slow_reader_timeout_ms", self.slow_reader_timeout_ms.into(), 1)?;
        at_least("quota_window_count", self.quota_window_count as i128, 1)?;
        at_least("quota_window_ms", self.quota_window_ms.into(), 1)?;
        at_least("max_quota_rates", self.max_quota_rates as i128, 1)?;
        at_least("delete_retention_ms", self.delete_retention_ms.into(), 0)?;
        at_least("min_compaction_lag_ms", self.min_compaction_lag_ms.into(), 0)?;
        at_least("max_compaction_lag_ms", self.max_compaction_lag_ms.into(), 1)?;
        at_least("log_cleaner_interval_ms", self.log_cleaner_interval_ms.into(), 1)?;
        at_least("log_cleaner_dedupe_buffer_bytes", self.log_cleaner_dedupe_buffer_bytes as i128, 1024)?;
        at_least(
            "log_cleaner_io_max_bytes_per_second",
            self.log_cleaner_io_max_bytes_per_second.map_or(i128::MAX, i128::from),
            1024,
        )?;
        at_least("max_unpacked_batch_bytes", self.max_unpacked_batch_bytes as i128, 1024)?;
        at_least("flush_check_interval_ms", self.flush_check_interval_ms.into(), 1)?;
        if !(0.0..=1.0).contains(&self.min_cleanable_dirty_ratio) {
            return Err(BrokerError::InvalidSetting {
                name: "min_cleanable_dirty_ratio",
                found: self.min_cleanable_dirty_ratio.to_string(),
                expected: "a share from 0 to 1".to_owned(),
            });
        }
        at_least("idle_connection_timeout_ms", self.idle_connection_timeout_ms.into(), 1)?;
        at_least("background_threads", self.background_threads as i128, 1)?;
        self.check_topic_defaults()?;
        self.check_groups()
    }

    /// Whether the times of groups, of whichever kind, fit each other.
    fn check_groups(&self) -> Result<(), BrokerError> {
        at_least("group_min_session_timeout_ms", self.group_min_session_timeout_ms.into(), 1)?;
        at_least("group_new_member_join_timeout_ms", self.group_new_member_join_timeout_ms.into(), 1)?;
        self.check_consumer_groups()?;
        at_least("group_share_heartbeat_interval_ms", self.group_share_heartbeat_interval_ms.into(), 1)?;
        at_least(
            "group_share_session_timeout_ms",
            self.group_share_session_timeout_ms.into(),
            i128::from(self.group_share_heartbeat_interval_ms) + 1,
        )?;
        at_least("share_lock_check_interval_ms", self.share_lock_check_interval_ms.into(), 1)?;
        at_least(
            "group_max_session_timeout_ms",
            self.group_max_session_timeout_ms.into(),
            self.group_min_session_timeout_ms.into(),
        )
    }

    /// Whether the times of groups of the consumer protocol fit each other.
    fn check_consumer_groups(&self) -> Result<(), BrokerError> {
        let within = |name, found: i32, least: i32, most: i32| match (least..=most).contains(&found) {
            true => Ok(()),
            false => {
                let expected = format!("from {least} to {most}, the limits of groups");
                Err(BrokerError::InvalidSetting { name, found: found.to_string(), expected })
            }
        };
        let (least, most) =
            (self.group_consumer_min_heartbeat_interval_ms, self.group_consumer_max_heartbeat_interval_ms);
        within("group_consumer_min_heartbeat_interval_ms", least, 1, i32::MAX)?;
        let interval_ms = self.group_consumer_heartbeat_interval_ms;
        within("group_consumer_heartbeat_interval_ms", interval_ms, least, most)?;
        let (least, most) = (self.group_consumer_min_session_timeout_ms, self.group_consumer_max_session_timeout_ms);
        within("group_consumer_min_session_timeout_ms", least, 1, i32::MAX)?;
        let timeout_ms = self.group_consumer_session_timeout_ms;
        within("group_consumer_session_timeout_ms", timeout_ms, least, most)?;
        if timeout_ms <= interval_ms {
            return Err(BrokerError::InvalidSetting {
                name: "group_consumer_session_timeout_ms",
                found: timeout_ms.to_string(),
                // A member that heartbeats as it is told must not be late.
                expected: format!("more than group_consumer_heartbeat_interval_ms, which is {interval_ms}"),
            });
        }
        Ok(())
    }

    fn check_topic_defaults(&self) -> Result<(), BrokerError> {
        for (name, value) in &self.topic_defaults {
            config::check(name, value).map_err(|reason| BrokerError::InvalidSetting {
                name: "topic_defaults",
                found: format!("{name}: {value}"),
                expected: format!("defaults of topic settings: {reason}"),
            })?;
        }
        Ok(())
    }
}

fn at_least(name: &'static str, found: i128, least: i128) -> Result<(), BrokerError> {
    if found >= least {
        return Ok(());
    }
    Err(BrokerError::InvalidSetting { name, found: found.to_string(), expected: format!("at least {least}") })
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertised: None,
            listeners: Vec::new(),
            security: SecuritySettings::default(),
            data_dir: PathBuf::from("data"),
            default_partitions: 1,
            auto_create_topics: true,
            fsync: FsyncMode::Interval { interval_ms: 1000 },
            corrupt_log: CorruptLogPolicy::Refuse,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            segment_bytes: 1024 * 1024 * 1024,
            segment_ms: 7 * DAY_MS,
            max_message_bytes: 1024 * 1024 + 12,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
            topic_defaults: BTreeMap::new(),
            log_cleaner_enable: true,
            log_cleaner_interval_ms: 15_000,
            log_cleaner_dedupe_buffer_bytes: 128 * 1024 * 1024,
            log_cleaner_io_max_bytes_per_second: None,
            max_unpacked_batch_bytes: 128 * 1024 * 1024,
            flush_check_interval_ms: 1000,
            background_threads: 10,
            retention_check_interval_ms: 60_000,
            producer_id_expiration_ms: DAY_MS,
            max_producers_per_partition: 100_000,
            verify_on_fetch: true,
            max_request_bytes: 100 * 1024 * 1024,
            max_request_elements: 1_000_000,
            max_client_id_bytes: 1024,
            max_request_memory_bytes: 512 * 1024 * 1024,
            max_fetch_memory_bytes: 512 * 1024 * 1024,
            max_fetch_bytes: 55 * 1024 * 1024,
            max_fetch_sessions: 1000,
            max_fetch_session_partitions: 250_000,
            max_connections: 1000,
            max_connections_per_ip: 1000,
            max_in_flight_bytes: 64 * 1024 * 1024,
            idle_connection_timeout_ms: 10 * 60 * 1000,
            request_read_timeout_ms: 60_000,
            slow_reader_timeout_ms: 30_000,
            quota_window_count: 11,
            quota_window_ms: 1000,
            max_quota_entities: 10_000,
            max_quota_rates: 10_000,
            max_topics: 10_000,
            max_partitions_per_topic: 1000,
            max_partitions: 100_000,
            max_described_partitions: 2000,
            max_groups: 10_000,
            max_group_members: 1000,
            group_min_session_timeout_ms: 6000,
            group_max_session_timeout_ms: 30 * 60 * 1000,
            group_initial_rebalance_delay_ms: 100,
            group_new_member_join_timeout_ms: 5 * 60 * 1000,
            group_consumer_heartbeat_interval_ms: 5000,
            group_consumer_session_timeout_ms: 45_000,
            group_consumer_min_heartbeat_interval_ms: 5000,
            group_consumer_max_heartbeat_interval_ms: 15_000,
            group_consumer_min_session_timeout_ms: 45_000,
            group_consumer_max_session_timeout_ms: 60_000,
            group_share_heartbeat_interval_ms: 5000,
            group_share_session_timeout_ms: 45_000,
            share_lock_check_interval_ms: 200,
            max_share_sessions: 2000,
            max_share_session_partitions: 250_000,
            max_share_partitions: 100_000,
            max_share_in_flight_records: 1_000_000,
            max_subscription_regex_bytes: 1024,
            max_compiled_regex_bytes: 1024 * 1024,
            offsets_retention_ms: 7 * DAY_MS,
            offsets_publish_interval_ms: 100,
            max_member_metadata_bytes: 1024 * 1024,
            max_offset_metadata_bytes: 4096,
            transaction_max_timeout_ms: 15 * 60 * 1000,
            transaction_check_interval_ms: 1000,
            transactional_id_expiration_ms: 7 * DAY_MS,
            max_transactional_ids: 100_000,
            max_transaction_partitions: 10_000,
            sabotage: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fsync_mode_reads_what_it_prints() {
        for mode in [FsyncMode::Always, FsyncMode::Os, FsyncMode::Interval { interval_ms: 50 }] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for wrong in ["", "never", "ms", "0ms", "-1ms", "5s"] {
            let error = wrong.parse::<FsyncMode>().expect_err(wrong);
            assert!(error.contains("always"), "{error}");
        }
    }

    #[test]
    fn every_limit_is_documented_with_its_default_and_a_test_that_exists() {
        let document = include_str!("../../../docs/operations/broker-limits.md");
        let rows: Vec<Vec<&str>> = document
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let defaults = serde_json::to_value(BrokerSettings::default()).expect("serialisable");
        let own = defaults.as_object().expect("an object").iter().map(|(name, value)| (String::new(), name, value));
        let security = defaults["security"].as_object().expect("an object").iter();
        let security = security.map(|(name, value)| ("security.".to_owned(), name, value));
        let limits = own.chain(security).filter(|(_, name, _)| {
            let timeouts = ["idle_connection", "request_read", "slow_reader", "authentication"];
            let is_timeout = timeouts.iter().any(|it| name.starts_with(it));
            is_timeout || (name.starts_with("max_") && !name.ends_with("_ms"))
        });
        let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for (part, name, default) in limits {
            let name = part + name;
            let row = rows.iter().find(|row| row[1] == format!("`{name}`"));
            let row = row.unwrap_or_else(|| panic!("{name} has no row in docs/operations/broker-limits.md"));
            assert_eq!(row[2], default.to_string(), "the default of {name}");
            let mut tests = 0;
            let mut file = String::new();
            for word in row[4].split([' ', ',']).filter(|word| !word.is_empty()) {
                if let Some(path) = word.strip_prefix('`').and_then(|word| word.strip_suffix('`')) {
                    file = std::fs::read_to_string(package.join(path)).expect(path);
                } else {
                    tests += 1;
                    assert!(file.contains(&format!("fn {word}()")), "{name}: there is no test {word}");
                }
            }
            assert!(tests > 0, "{name} has no test");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let check = |settings: BrokerSettings, expected: &str| {
            let error = settings.check().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        let base = BrokerSettings::default;
        check(BrokerSettings { listen: ([0, 0, 0, 0], 9092).into(), ..base() }, "0.0.0.0:9092");
        check(BrokerSettings { default_partitions: 0, ..base() }, "default_partitions");
        check(BrokerSettings { segment_bytes: 10, ..base() }, "segment_bytes");
        check(BrokerSettings { retention_ms: -2, ..base() }, "retention_ms");
        check(BrokerSettings { max_partitions: 0, ..base() }, "max_partitions");
        check(BrokerSettings { max_connections_per_ip: 0, ..base() }, "max_connections_per_ip");
        check(BrokerSettings { max_request_memory_bytes: 1, ..base() }, "max_request_memory_bytes");
        check(BrokerSettings { max_fetch_memory_bytes: 1, ..base() }, "max_fetch_memory_bytes");
        check(BrokerSettings { request_read_timeout_ms: 0, ..base() }, "request_read_timeout_ms");
        check(BrokerSettings { slow_reader_timeout_ms: 0, ..base() }, "slow_reader_timeout_ms");
        check(BrokerSettings { quota_window_count: 0, ..base() }, "quota_window_count");
        check(BrokerSettings { quota_window_ms: 0, ..base() }, "quota_window_ms");
        check(BrokerSettings { max_quota_rates: 0, ..base() }, "max_quota_rates");
        check(BrokerSettings { delete_retention_ms: -1, ..base() }, "delete_retention_ms");
        check(BrokerSettings { min_compaction_lag_ms: -1, ..base() }, "min_compaction_lag_ms");
        check(BrokerSettings { max_compaction_lag_ms: 0, ..base() }, "max_compaction_lag_ms");
        check(BrokerSettings { min_cleanable_dirty_ratio: 1.5, ..base() }, "min_cleanable_dirty_ratio");
        check(BrokerSettings { min_cleanable_dirty_ratio: f64::NAN, ..base() }, "min_cleanable_dirty_ratio");
        check(BrokerSettings { log_cleaner_interval_ms: 0, ..base() }, "log_cleaner_interval_ms");
        check(BrokerSettings { log_cleaner_dedupe_buffer_bytes: 1, ..base() }, "log_cleaner_dedupe_buffer_bytes");
        check(BrokerSettings { log_cleaner_io_max_bytes_per_second: Some(1), ..base() }, "io_max_bytes_per_second");
        check(BrokerSettings { max_unpacked_batch_bytes: 1, ..base() }, "max_unpacked_batch_bytes");
        check(BrokerSettings { flush_check_interval_ms: 0, ..base() }, "flush_check_interval_ms");
        check(BrokerSettings { max_described_partitions: 0, ..base() }, "max_described_partitions");
        check(BrokerSettings { group_new_member_join_timeout_ms: 0, ..base() }, "group_new_member_join_timeout_ms");
        check(BrokerSettings { background_threads: 0, ..base() }, "background_threads");
        check(BrokerSettings { group_share_heartbeat_interval_ms: 0, ..base() }, "group_share_heartbeat_interval_ms");
        check(BrokerSettings { group_share_session_timeout_ms: 5000, ..base() }, "is 5000, expected at least 5001");
        check(BrokerSettings { share_lock_check_interval_ms: 0, ..base() }, "share_lock_check_interval_ms");
        check(
            BrokerSettings { group_consumer_heartbeat_interval_ms: 0, ..base() },
            "is 0, expected from 5000 to 15000",
        );
        check(BrokerSettings { group_consumer_min_session_timeout_ms: 0, ..base() }, "min_session_timeout_ms` is 0");
        check(
            BrokerSettings { group_consumer_max_session_timeout_ms: 1, ..base() },
            "is 45000, expected from 45000 to 1",
        );
        check(
            BrokerSettings {
                group_consumer_min_session_timeout_ms: 1000,
                group_consumer_session_timeout_ms: 5000,
                ..base()
            },
            "group_consumer_session_timeout_ms` is 5000, expected more than group_consumer_heartbeat_interval_ms",
        );
        let topic_defaults = BTreeMap::from([("cleanup.policy".to_owned(), "compost".to_owned())]);
        check(BrokerSettings { topic_defaults, ..base() }, "topic_defaults` is cleanup.policy: compost, expected");
        base().check().expect("the defaults work");
    }
}
