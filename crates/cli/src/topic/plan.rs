//! What a new topic will be like: flags over `--for` over the cluster's defaults, each choice with its reason.
//!
//! | `--for` | partitions | cleanup | kept |
//! |---|---|---|---|
//! | `events` | 4 | delete | 7 days |
//! | `state` | 4 | compact | the newest record of each key; every change for an hour, deletions for a day |
//! | `dead-letters` | 1 | delete | 30 days |
//!
//! Decides only: what is planned here is shown by `--dry-run` and sent by `admin`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::naming::Strictness;
use super::sizing::{self, PARTITION_RATE};
use crate::error::{Failure, Result};
use crate::quantity::{self, Throughput};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// Things that happened: kept for a week, then deleted.
    Events,
    /// The newest record of each key is kept for ever.
    State,
    /// Records that could not be processed: few, and kept until somebody looks.
    DeadLetters,
}

/// Arguments of `topic create` that say what the topic is like.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Wishes {
    /// What the topic is for; chooses partitions, cleanup and retention, over which the flags below win
    #[arg(long = "for", value_enum, value_name = "PURPOSE")]
    pub(crate) purpose: Option<Purpose>,
    /// How many partitions; 1 if neither --throughput nor --for says otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: Option<i32>,
    /// Choose the partitions for this rate, such as 20MB/s, or 50k/s with --record-size
    #[arg(long, value_name = "RATE", value_parser = quantity::throughput, conflicts_with = "partitions")]
    pub(crate) throughput: Option<Throughput>,
    /// Size of a record, for --throughput in records
    #[arg(long, value_name = "SIZE", value_parser = quantity::size, requires = "throughput")]
    pub(crate) record_size: Option<u64>,
    /// What one partition is planned with, for --throughput; 10MB/s if not given
    #[arg(long, value_name = "RATE", value_parser = quantity::throughput, requires = "throughput")]
    pub(crate) partition_rate: Option<Throughput>,
    /// How settings are named by people
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    /// What to do with a name that does not follow domain.entity.action
    #[arg(long, value_enum, default_value_t = Strictness::Warn, env = "HIGHWATER_LINT", value_name = "HOW")]
    pub(crate) lint: Strictness,
}

/// Settings of a topic, as people name them; for `topic create` and `topic alter`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Keeping {
    /// How long records are kept, such as 7d, or forever (retention.ms)
    #[arg(long, value_name = "TIME", value_parser = retention)]
    pub(crate) retention: Option<Limit>,
    /// How many bytes of each partition are kept, such as 10GB, or unlimited (retention.bytes)
    #[arg(long, value_name = "SIZE", value_parser = retention_size)]
    pub(crate) retention_size: Option<Limit>,
    /// Keep the newest record of each key (cleanup.policy=compact; with --retention compact,delete)
    #[arg(long)]
    pub(crate) compact: bool,
    /// How long every change stays before it may be compacted away (min.compaction.lag.ms)
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) min_compaction_lag: Option<Duration>,
    /// When a change is compacted at the latest (max.compaction.lag.ms)
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) max_compaction_lag: Option<Duration>,
    /// How long a deletion (a null value) stays visible to slow readers (delete.retention.ms)
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) delete_retention: Option<Duration>,
    /// Size at which a partition begins a new file (segment.bytes)
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) segment_size: Option<u64>,
    /// Largest batch of records that is taken (max.message.bytes)
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) max_record_size: Option<u64>,
    /// Any setting of the topic by its Kafka name, such as retention.ms=86400000
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = super::client::key_value)]
    pub(crate) configs: Vec<(String, String)>,
}

/// A limit or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Milliseconds or bytes.
    At(u64),
    /// -1, in Kafka's words.
    None,
}

impl Limit {
    fn text(self) -> String {
        match self {
            Self::At(value) => value.to_string(),
            Self::None => "-1".to_owned(),
        }
    }
}

fn retention(text: &str) -> Result<Limit, String> {
    if text == "forever" {
        return Ok(Limit::None);
    }
    crate::duration::parse(text).map(|time| Limit::At(millis(time))).map_err(|error| format!("{error}, or forever"))
}

fn retention_size(text: &str) -> Result<Limit, String> {
    if text == "unlimited" {
        return Ok(Limit::None);
    }
    quantity::size(text).map(Limit::At).map_err(|error| format!("{error}, or unlimited"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A setting and why it has its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Its value.
    pub(crate) value: String,
    /// The flag, or the sentence of the preset.
    pub(crate) reason: String,
}

/// What a new topic will be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many partitions.
    pub(crate) partitions: i32,
    /// Why so many.
    pub(crate) partitions_reason: String,
    /// Settings by their Kafka names.
    pub(crate) configs: BTreeMap<String, Choice>,
}

impl Plan {
    /// What `wishes` come to.
    pub(crate) fn of(wishes: &Wishes) -> Result<Self> {
        let preset = wishes.purpose.map(Purpose::preset);
        let (partitions, partitions_reason) = partitions(wishes, preset.as_ref())?;
        let mut configs: BTreeMap<String, Choice> = BTreeMap::new();
        let wished = wishes.keeping.settings()?;
        if let Some(preset) = preset {
            let made_to_be_compacted = wished.get("cleanup.policy").is_some_and(|choice| choice.value != "delete");
            for (key, value, reason) in preset.configs {
                // What one preset says about deletion means nothing to a topic that is compacted by a flag.
                if !(made_to_be_compacted && key == "retention.ms") {
                    configs.insert(key.to_owned(), Choice { value, reason: reason.to_owned() });
                }
            }
        }
        configs.extend(wished);
        Ok(Self { partitions, partitions_reason, configs })
    }
}

fn partitions(wishes: &Wishes, preset: Option<&Preset>) -> Result<(i32, String)> {
    if let Some(partitions) = wishes.partitions {
        return Ok((partitions, "--partitions".to_owned()));
    }
    if let Some(throughput) = wishes.throughput {
        let rate = match wishes.partition_rate {
            None => PARTITION_RATE,
            Some(Throughput::Bytes(rate)) => rate,
            Some(Throughput::Records(records)) => match wishes.record_size {
                Some(size) => records * size as f64,
                None => return Err(Failure::usage("--partition-rate in records needs --record-size")),
            },
        };
        let suggestion = sizing::suggest(throughput, wishes.record_size, rate).map_err(Failure::usage)?;
        return Ok((suggestion.partitions, suggestion.arithmetic));
    }
    Ok(match preset {
        Some(preset) => (preset.partitions, preset.partitions_reason.to_owned()),
        None => (1, "default".to_owned()),
    })
}

impl Keeping {
    /// The settings that the flags ask for; a setting that is asked for twice is refused.
    pub(crate) fn settings(&self) -> Result<BTreeMap<String, Choice>> {
        let time = |time: Option<Duration>| time.map(|time| millis(time).to_string());
        let policy = self.compact.then(|| if self.retention.is_some() { "compact,delete" } else { "compact" });
        let by_flag = [
            ("cleanup.policy", "--compact", policy.map(str::to_owned)),
            ("retention.ms", "--retention", self.retention.map(Limit::text)),
            ("retention.bytes", "--retention-size", self.retention_size.map(Limit::text)),
            ("min.compaction.lag.ms", "--min-compaction-lag", time(self.min_compaction_lag)),
            ("max.compaction.lag.ms", "--max-compaction-lag", time(self.max_compaction_lag)),
            ("delete.retention.ms", "--delete-retention", time(self.delete_retention)),
            ("segment.bytes", "--segment-size", self.segment_size.map(|size| size.to_string())),
            ("max.message.bytes", "--max-record-size", self.max_record_size.map(|size| size.to_string())),
        ];
        let mut settings: BTreeMap<String, Choice> = BTreeMap::new();
        for (key, flag, value) in by_flag {
            if let Some(value) = value {
                settings.insert(key.to_owned(), Choice { value, reason: flag.to_owned() });
            }
        }
        for (key, value) in &self.configs {
            let choice = Choice { value: value.clone(), reason: "--config".to_owned() };
            if let Some(other) = settings.insert(key.clone(), choice) {
                return Err(Failure::usage(format!("'{key}' is set twice: by {} and by --config", other.reason))
                    .help("keep one of the two"));
            }
        }
        Ok(settings)
    }
}

/// What a purpose chooses.
struct Preset {
    partitions: i32,
    partitions_reason: &'static str,
    configs: Vec<(&'static str, String, &'static str)>,
}

impl Purpose {
    fn preset(self) -> Preset {
        let ms = |time: Duration| millis(time).to_string();
        match self {
            Self::Events => Preset {
                partitions: 4,
                partitions_reason: "events: up to 4 readers side by side",
                configs: vec![
                    ("cleanup.policy", "delete".to_owned(), "events: old ones are deleted"),
                    ("retention.ms", ms(7 * DAY), "events: 7 days, to read again after a long weekend"),
                ],
            },
            Self::State => Preset {
                partitions: 4,
                partitions_reason: "state: up to 4 readers side by side",
                configs: vec![
                    ("cleanup.policy", "compact".to_owned(), "state: the newest record of each key stays"),
                    ("min.compaction.lag.ms", ms(HOUR), "state: readers less than 1 hour behind see every change"),
                    ("delete.retention.ms", ms(DAY), "state: readers less than 1 day behind see deletions"),
                ],
            },
            Self::DeadLetters => Preset {
                partitions: 1,
                partitions_reason: "dead-letters: few records, in order",
                configs: vec![
                    ("cleanup.policy", "delete".to_owned(), "dead-letters: deleted when nobody came"),
                    ("retention.ms", ms(30 * DAY), "dead-letters: 30 days, until somebody looks"),
                ],
            },
        }
    }

    /// What is odd about the name of a topic with this purpose.
    pub(crate) fn naming(self, topic: &str) -> Option<String> {
        let dead = topic.ends_with(".dlq");
        match self {
            Self::DeadLetters if !dead => Some(format!("names of dead letters end in '.dlq', better: {topic}.dlq")),
            Self::Events | Self::State if dead => {
                Some("its name ends in '.dlq', which says --for dead-letters".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        wishes: Wishes,
    }

    /// The plan of a command line, as `partitions key=value ...`.
    fn plan(arguments: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from(["x"].iter().chain(arguments)).map_err(|error| error.to_string())?;
        let plan = Plan::of(&line.wishes).map_err(|failure| failure.render(false))?;
        let configs: String = plan.configs.iter().map(|(key, choice)| format!(" {key}={}", choice.value)).collect();
        Ok(format!("{}{configs}", plan.partitions))
    }

    #[test]
    fn nothing_said_is_one_partition_with_the_clusters_settings() {
        assert_eq!(plan(&[]), Ok("1".to_owned()));
    }

    #[test]
    fn purposes_choose_and_flags_win() {
        let check = |arguments: &[&str], expected: &str| assert_eq!(plan(arguments).as_deref(), Ok(expected));
        check(&["--for", "events"], "4 cleanup.policy=delete retention.ms=604800000");
        check(
            &["--for", "state"],
            "4 cleanup.policy=compact delete.retention.ms=86400000 min.compaction.lag.ms=3600000",
        );
        check(&["--for", "dead-letters"], "1 cleanup.policy=delete retention.ms=2592000000");
        check(
            &["--for", "events", "--retention", "1d", "--partitions", "2"],
            "2 cleanup.policy=delete retention.ms=86400000",
        );
        check(&["--for", "events", "--compact"], "4 cleanup.policy=compact");
        check(&["--for", "dead-letters", "--config", "retention.ms=5"], "1 cleanup.policy=delete retention.ms=5");
    }

    #[test]
    fn flags_are_kafkas_settings() {
        let check = |arguments: &[&str], expected: &str| assert_eq!(plan(arguments).as_deref(), Ok(expected));
        check(&["--retention", "forever", "--retention-size", "10GB"], "1 retention.bytes=10000000000 retention.ms=-1");
        check(&["--compact", "--retention", "7d"], "1 cleanup.policy=compact,delete retention.ms=604800000");
        check(
            &["--compact", "--min-compaction-lag", "1m", "--delete-retention", "2h"],
            "1 cleanup.policy=compact delete.retention.ms=7200000 min.compaction.lag.ms=60000",
        );
        check(
            &["--segment-size", "64MiB", "--max-record-size", "2MB", "--config", "a.b=c"],
            "1 a.b=c max.message.bytes=2000000 segment.bytes=67108864",
        );
        check(&["--throughput", "20MB/s"], "4");
        check(&["--throughput", "50k/s", "--record-size", "500", "--partition-rate", "25MB/s"], "2");
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |arguments: &[&str], expected: &str| {
            let error = plan(arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        refused(
            &["--retention", "1d", "--config", "retention.ms=5"],
            "'retention.ms' is set twice: by --retention and by --config",
        );
        refused(&["--throughput", "1MB/s", "--partitions", "3"], "cannot be used with");
        refused(&["--throughput", "1k/s"], "--record-size");
        refused(&["--retention", "soon"], "or forever");
        refused(&["--for", "logs"], "dead-letters");
    }

    #[test]
    fn dead_letters_are_known_by_their_names() {
        assert!(Purpose::DeadLetters.naming("a.b.c").unwrap().contains("a.b.c.dlq"));
        assert!(Purpose::Events.naming("a.b.c.dlq").is_some());
        assert_eq!(Purpose::DeadLetters.naming("a.b.c.dlq"), None);
    }
}
