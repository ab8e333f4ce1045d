//! What is known of a cluster, as plain values: what the brokers said, in their words, and nothing made of it.

use std::collections::BTreeMap;

use serde::Serialize;

/// A cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Where it was asked.
    pub(crate) address: String,
    /// The node that manages topics.
    pub(crate) controller: Option<i32>,
    /// Its brokers, by id.
    pub(crate) brokers: Vec<Broker>,
    /// The topics that are looked at.
    pub(crate) topics: Vec<Topic>,
    /// Groups that read them.
    pub(crate) groups: Vec<Group>,
    /// What could not be asked, and why.
    pub(crate) unanswered: Vec<String>,
}

/// A broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Broker {
    /// Its id.
    pub(crate) id: i32,
    /// Its settings; empty if it did not say.
    pub(crate) configs: Configs,
    /// Versions of each request it knows, by the request's number.
    pub(crate) apis: BTreeMap<i16, (i16, i16)>,
    /// The level of the cluster's metadata in force, and the newest this broker knows; only KRaft has them.
    pub(crate) metadata_level: Option<(i16, i16)>,
}

/// A topic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topic {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is Kafka's own.
    pub(crate) internal: bool,
    /// Its partitions, by number.
    pub(crate) partitions: Vec<Partition>,
    /// Its settings in force; empty if nobody said.
    pub(crate) configs: Configs,
}

/// A partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partition {
    /// Its number.
    pub(crate) id: i32,
    /// The node that leads it.
    pub(crate) leader: Option<i32>,
    /// The nodes that have a copy; the first is the preferred leader.
    pub(crate) replicas: Vec<i32>,
    /// Those of them that are up to date.
    pub(crate) in_sync: Vec<i32>,
    /// Bytes on the leader's disk.
    pub(crate) size_bytes: Option<i64>,
    /// How fast it grew while it was looked at.
    pub(crate) growth: Option<Growth>,
}

/// How fast something grew.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Growth {
    /// Records a second.
    pub(crate) records_per_s: f64,
    /// Bytes a second; none where sizes are not told.
    pub(crate) bytes_per_s: Option<f64>,
}

/// A group of readers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: String,
    /// Stable, Empty and so on, as the broker calls it.
    pub(crate) state: String,
    /// Where it stands.
    pub(crate) lags: Vec<Lag>,
}

/// How far a group is behind in one partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lag {
    /// The topic.
    pub(crate) topic: String,
    /// Records it has not read.
    pub(crate) records: i64,
    /// How long the oldest of them has been there.
    pub(crate) seconds: Option<i64>,
}

/// Settings by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Configs(pub(crate) BTreeMap<String, String>);

impl Configs {
    /// A setting as it is.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A setting that is a number.
    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.text(key)?.trim().parse().ok()
    }

    /// Whether a setting is `true`.
    pub(crate) fn is_on(&self, key: &str) -> Option<bool> {
        self.text(key).map(|text| text.trim().eq_ignore_ascii_case("true"))
    }
}

impl Topic {
    /// How many copies its partitions have: the least of them, since that is what is lost first.
    pub(crate) fn replication(&self) -> usize {
        self.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or(0)
    }

    /// Whether only the newest record of a key is kept, perhaps for a time.
    pub(crate) fn is_compacted(&self) -> bool {
        self.configs.text("cleanup.policy").is_some_and(|policy| policy.contains("compact"))
    }

    /// How fast all its partitions grow together; none if that was not measured.
    pub(crate) fn growth(&self) -> Option<Growth> {
        let mut measured = self.partitions.iter().filter_map(|partition| partition.growth).peekable();
        measured.peek()?;
        Some(measured.fold(Growth::default(), |sum, one| Growth {
            records_per_s: sum.records_per_s + one.records_per_s,
            bytes_per_s: one.bytes_per_s.map_or(sum.bytes_per_s, |bytes| Some(sum.bytes_per_s.unwrap_or(0.0) + bytes)),
        }))
    }
}
