//! The rules, in one table: what is expected of a cluster, why, and how bad it is otherwise.
//!
//! A rule is a function of the facts. It answers with what it found wrong, or that it could not know.

mod brokers;
mod groups;
mod topics;

use super::facts::{Facts, Topic};
use super::plural;

/// How bad it is when a rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Data is lost, or writing stops, at the next trouble: the check fails.
    Failure,
    /// Worth a change; fails with `--strict` only.
    Warning,
}

impl Severity {
    /// Its word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Warning => "warning",
        }
    }
}

/// What the user wishes to have compared with.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Workers that read a topic at once.
    pub(crate) parallelism: usize,
    /// Records a group may be behind.
    pub(crate) max_lag_records: i64,
    /// Seconds a group may be behind.
    pub(crate) max_lag_s: i64,
    /// Whether names are looked at.
    pub(crate) names: bool,
    /// Topics that hold state, beside those whose names say so.
    pub(crate) state_topics: Vec<glob::Pattern>,
}

/// What a rule looks at.
pub(crate) struct View<'a> {
    /// The cluster.
    pub(crate) facts: &'a Facts,
    /// What it is compared with.
    pub(crate) limits: &'a Limits,
}

/// What is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Finding {
    /// A topic, brokers, a group.
    pub(crate) object: String,
    /// How it is.
    pub(crate) found: String,
    /// How it should be.
    pub(crate) expected: String,
    /// What to do, in words.
    pub(crate) change: String,
    /// The command that does it, where there is one.
    pub(crate) command: Option<String>,
}

/// What a rule says: everything that is wrong, or why it cannot know.
pub(crate) type Answer = Result<Vec<Finding>, &'static str>;

/// One rule.
pub(crate) struct Rule {
    /// Its name, for `--skip` and for programs.
    pub(crate) id: &'static str,
    /// How bad it is when it is broken.
    pub(crate) severity: Severity,
    /// What is expected.
    pub(crate) what: &'static str,
    /// What happens otherwise.
    pub(crate) why: &'static str,
    /// Looks.
    pub(crate) check: fn(&View<'_>) -> Answer,
}

/// How many copies a partition should have, where there are brokers enough.
const COPIES: usize = 3;

use Severity::{Failure, Warning};

/// All rules, in the order in which they are told.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "controller",
        severity: Failure,
        what: "one broker is the active controller",
        why: "without it no leader is elected and no topic is made or changed",
        check: brokers::controller,
    },
    Rule {
        id: "offline-partitions",
        severity: Failure,
        what: "every partition has a leader",
        why: "a partition without one can be neither read nor written",
        check: topics::offline,
    },
    Rule {
        id: "under-min-isr",
        severity: Failure,
        what: "every partition has min.insync.replicas copies that are up to date",
        why: "with fewer, writers with acks=all are refused",
        check: topics::under_min_isr,
    },
    Rule {
        id: "under-replicated",
        severity: Failure,
        what: "every copy of every partition is up to date",
        why: "what one broker has alone is lost with it; a broker is down, slow, or cut off",
        check: topics::under_replicated,
    },
    Rule {
        id: "broker-count",
        severity: Warning,
        what: "three brokers or more",
        why: "with fewer no record survives the loss of a broker while writing goes on",
        check: brokers::count,
    },
    Rule {
        id: "replication-factor",
        severity: Failure,
        what: "three copies of every partition, or as many as there are brokers",
        why: "with two, the loss of one broker leaves a single copy or stops writers; with one it loses the data",
        check: topics::replication_factor,
    },
    Rule {
        id: "default-replication",
        severity: Failure,
        what: "default.replication.factor is that of the rule before",
        why: "topics that sinks, Connect and streams make on their own take it",
        check: brokers::default_replication,
    },
    Rule {
        id: "internal-topics",
        severity: Failure,
        what: "offsets.topic.replication.factor and transaction.state.log.replication.factor are 3, \
               transaction.state.log.min.isr is 2, and the topics themselves are compacted",
        why: "positions of groups and the outcome of transactions, exactly once with them, are lost with the broker that had them",
        check: brokers::internal_topics,
    },
    Rule {
        id: "min-insync",
        severity: Failure,
        what: "min.insync.replicas is 2 or more where there are three copies",
        why: "with 1, acks=all is acknowledged by a leader alone, and lost with it",
        check: topics::min_insync,
    },
    Rule {
        id: "min-insync-trap",
        severity: Failure,
        what: "min.insync.replicas is less than the number of copies",
        why: "when it equals it, every restart of a broker stops the writers; above it nothing can be written with acks=all",
        check: topics::min_insync_trap,
    },
    Rule {
        id: "unclean-election",
        severity: Failure,
        what: "unclean.leader.election.enable is false",
        why: "a copy that is behind may become leader, and acknowledged records are gone",
        check: topics::unclean_election,
    },
    Rule {
        id: "leader-balance",
        severity: Warning,
        what: "partitions are led by their preferred leaders, and no broker leads half as many again as its share",
        why: "the leader does the work of a partition; after failures it gathers on the brokers that stayed",
        check: topics::leader_balance,
    },
    Rule {
        id: "partition-count",
        severity: Warning,
        what: "topics that are written to have a partition for each worker and for each 10 MB/s, and a broker has at most 4000",
        why: "a partition is read by one worker and written by one broker; each costs memory and time at failover",
        check: topics::partition_count,
    },
    Rule {
        id: "partition-skew",
        severity: Warning,
        what: "no partition of a topic above 100 MB has more than twice its share",
        why: "the largest partition decides when a batch ends: a key is too frequent, or a producer names partitions",
        check: topics::partition_skew,
    },
    Rule {
        id: "retention",
        severity: Warning,
        what: "what is not compacted is kept for a day or more, and not without end",
        why: "a query that rests longer loses what it has not read; without a limit the disk fills",
        check: topics::retention,
    },
    Rule {
        id: "segment-size",
        severity: Warning,
        what: "segment.bytes is 1 MB or more and at most half of retention.bytes, segment.ms is at most retention.ms",
        why: "only whole segments are removed: large ones are kept past the limits, tiny ones use up file handles",
        check: topics::segment_size,
    },
    Rule {
        id: "compaction",
        severity: Failure,
        what: "changelogs and the topics of Connect and the schema registry are compacted (by their names), and so are those of --state-topic",
        why: "deletion by age removes the newest value of a key that has not changed for long",
        check: topics::compaction,
    },
    Rule {
        id: "compression",
        severity: Warning,
        what: "compression.type is producer, lz4 or zstd",
        why: "uncompressed costs network and disk; where it differs from the producers' the brokers unpack and pack every batch",
        check: topics::compression,
    },
    Rule {
        id: "message-size",
        severity: Warning,
        what: "replica.fetch.max.bytes and replica.fetch.response.max.bytes hold the largest max.message.bytes",
        why: "larger batches are replicated one at a time, and copies fall behind",
        check: topics::message_size,
    },
    Rule {
        id: "threads",
        severity: Warning,
        what: "num.network.threads is 3 or more and num.io.threads 8 or more",
        why: "with fewer, requests wait while processors and disks are idle",
        check: brokers::threads,
    },
    Rule {
        id: "auto-create",
        severity: Warning,
        what: "auto.create.topics.enable is false",
        why: "a mistyped name becomes a topic with default settings, and its reader waits for ever",
        check: brokers::auto_create,
    },
    Rule {
        id: "transaction-timeout",
        severity: Failure,
        what: "transaction.max.timeout.ms is 300000 or more",
        why: "Highwater's sinks ask for five minutes, and are refused where less is allowed",
        check: brokers::transaction_timeout,
    },
    Rule {
        id: "offsets-retention",
        severity: Warning,
        what: "offsets.retention.minutes is 10080 (a week) or more",
        why: "positions, and the tokens of exactly-once sinks, are forgotten when a query rests longer",
        check: brokers::offsets_retention,
    },
    Rule {
        id: "broker-versions",
        severity: Warning,
        what: "all brokers are of one version, on KRaft, and its metadata level is in force",
        why: "a cluster half upgraded has neither the old nor the new; a level that was not raised keeps new features off",
        check: brokers::versions,
    },
    Rule {
        id: "consumer-lag",
        severity: Warning,
        what: "no group is further behind than --max-lag records and --max-lag-time",
        why: "what is not read within the topic's retention is lost to the group",
        check: groups::lag,
    },
    Rule {
        id: "topic-names",
        severity: Warning,
        what: "topics are named domain.entity.action (--lint off switches it off)",
        why: "a topic cannot be renamed, and names that differ in . and _ only are one in metrics",
        check: topics::names,
    },
];

impl View<'_> {
    /// How many copies a partition should have here.
    fn copies(&self) -> usize {
        COPIES.min(self.facts.brokers.len())
    }

    /// Topics that are the user's.
    fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.facts.topics.iter().filter(|topic| !topic.internal)
    }

    /// A finding about a topic whose setting is to be changed.
    fn topic_setting(&self, topic: &Topic, key: &str, found: &str, expected: &str, value: &str) -> Finding {
        let command = if topic.internal {
            let (address, name) = (&self.facts.address, &topic.name);
            format!(
                "kafka-configs.sh --bootstrap-server {address} --alter --entity-type topics --entity-name {name} \
                 --add-config {key}={value}"
            )
        } else {
            self.alter(&topic.name, &format!("--config {key}={value}"))
        };
        Finding {
            object: object(topic),
            found: format!("{key}={found}"),
            expected: expected.to_owned(),
            change: format!("set {key}={value}"),
            command: Some(command),
        }
    }

    /// `highwater topic alter` with its arguments.
    fn alter(&self, topic: &str, what: &str) -> String {
        format!("highwater topic alter {topic} {what} --bootstrap {}", self.facts.address)
    }

    /// A finding for each value of a broker's setting that is not `fine`, with the brokers that have it; that nobody told
    /// it is an answer of its own.
    fn broker_setting(&self, key: &str, expected: &str, fine: impl Fn(&str) -> bool, change: Change<'_>) -> Answer {
        let mut by_value: Vec<(&str, Vec<String>)> = Vec::new();
        for broker in &self.facts.brokers {
            let Some(value) = broker.configs.text(key) else { continue };
            match by_value.iter_mut().find(|(known, _)| *known == value) {
                Some((_, ids)) => ids.push(broker.id.to_string()),
                None => by_value.push((value, vec![broker.id.to_string()])),
            }
        }
        if by_value.is_empty() {
            return Err("no broker tells the setting");
        }
        let wrong = by_value.into_iter().filter(|(value, _)| !fine(value));
        let finding = |(value, ids): (&str, Vec<String>)| {
            let (words, command) = match change {
                Change::Dynamic(value) => {
                    let address = &self.facts.address;
                    let command = format!(
                        "kafka-configs.sh --bootstrap-server {address} --alter --entity-type brokers --entity-default \
                         --add-config {key}={value}"
                    );
                    (format!("set {key}={value} on all brokers"), Some(command))
                }
                Change::Restart(value) => {
                    (format!("set {key}={value} in the brokers' server.properties and restart them in turn"), None)
                }
            };
            Finding {
                object: format!("{} {}", plural(ids.len(), "broker"), ids.join(", ")),
                found: format!("{key}={value}"),
                expected: expected.to_owned(),
                change: words,
                command,
            }
        };
        Ok(wrong.map(finding).collect())
    }
}

/// How a broker's setting is changed, and to what.
#[derive(Clone, Copy)]
enum Change<'a> {
    /// While it runs.
    Dynamic(&'a str),
    /// In its file.
    Restart(&'a str),
}

/// A topic as findings name it.
fn object(topic: &Topic) -> String {
    format!("topic {}", topic.name)
}

/// The numbers of a list, as people read them.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether a setting's text is a number that is `at_least` so much.
fn is_at_least(least: i64) -> impl Fn(&str) -> bool {
    move |text| text.trim().parse::<i64>().is_ok_and(|number| number >= least)
}
