//! Settings of a pipeline and of single flows: plain values, each with its default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::comparison::QueryChanges;
use super::retry::RetrySettings;
use super::trigger::Trigger;
use super::ttl::{StateTtl, TtlSettings};
use super::watermark::{WATERMARK_POLICY, WatermarkPolicy};
use crate::checkpoint::{Durability, RemoteSettings, Retention};
use crate::error::{EngineError, Result};
use crate::plan::catalog::Options;
use crate::plan::interval::parse_duration_us;
use crate::sink::OutputMode;
use crate::state::StateSettings;

/// Settings of a pipeline.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// Where checkpoints, status and tables without a path are kept.
    pub storage: PathBuf,
    /// The tables that other programs find in the storage folder; all if none are named.
    pub stored_tables: Option<BTreeSet<String>>,
    /// The format of streaming tables that name none.
    pub default_format: String,
    /// Spark configuration keys, e.g. `spark.sql.session.timeZone`.
    pub configuration: BTreeMap<String, String>,
    /// How queries run, unless a flow says otherwise.
    pub query: QuerySettings,
    /// By flow.
    pub flows: BTreeMap<String, FlowSettings>,
    /// Where checkpoints are kept, if not in the storage folder.
    pub checkpoints: CheckpointSettings,
    /// What may happen to the state of queries that were changed.
    pub changes: QueryChanges,
    /// How long state is kept that nothing else bounds, unless a flow says otherwise.
    pub ttl: StateTtl,
    /// How a query is started again after an error that may pass.
    pub retry: RetrySettings,
}

/// How a query runs; nothing of it changes a result.
#[derive(Debug, Clone)]
pub struct QuerySettings {
    /// When batches start.
    pub trigger: Trigger,
    /// Threads for reading, and threads for groups.
    pub parallelism: usize,
    /// Memory for the state of the query, with RocksDB's share of it; what it has no room for is on disk.
    pub state_memory_bytes: usize,
    /// RocksDB and snapshots.
    pub state: StateSettings,
    /// Whether files of the checkpoint are forced to disk.
    pub durability: Durability,
    /// How long the checkpoint remembers.
    pub retention: Retention,
    /// How several watermarks become one.
    pub watermark_policy: WatermarkPolicy,
    /// How long a partition without new rows holds the watermark back.
    pub idle_timeout: Duration,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            trigger: Trigger::default(),
            parallelism: std::thread::available_parallelism().map_or(1, usize::from),
            state_memory_bytes: 512 << 20,
            state: StateSettings::default(),
            durability: Durability::Fsync,
            retention: Retention::default(),
            watermark_policy: WatermarkPolicy::default(),
            idle_timeout: Duration::ZERO,
        }
    }
}

/// Where the checkpoints of a pipeline are kept.
#[derive(Debug, Clone, Default)]
pub struct CheckpointSettings {
    /// A path or the URL of an object store; each query has a folder of its name there. In the storage folder if none.
    pub location: Option<String>,
    /// Options of the object store; secrets by reference.
    pub options: Options,
    /// How patiently an object store is spoken to.
    pub remote: RemoteSettings,
}

/// Settings of one flow.
#[derive(Debug, Clone, Default)]
pub struct FlowSettings {
    /// When its batches start.
    pub trigger: Option<Trigger>,
    /// What it emits.
    pub output_mode: Option<OutputMode>,
    /// How long its state is kept.
    pub ttl: TtlSettings,
}

impl PipelineSettings {
    /// The defaults, in a storage folder.
    pub fn new(storage: impl Into<PathBuf>) -> Self {
        Self {
            storage: storage.into(),
            stored_tables: None,
            default_format: "delta".to_owned(),
            configuration: BTreeMap::new(),
            query: QuerySettings::default(),
            flows: BTreeMap::new(),
            checkpoints: CheckpointSettings::default(),
            changes: QueryChanges::default(),
            ttl: StateTtl::default(),
            retry: RetrySettings::default(),
        }
    }

    /// Takes over what the Spark configuration says that is a setting here.
    pub(super) fn follow_configuration(&mut self) -> Result<()> {
        if let Some(policy) = self.configuration.get(WATERMARK_POLICY) {
            self.query.watermark_policy = policy.parse()?;
        }
        if let Some(batches) = self.batches(BATCHES_TO_RETAIN)? {
            self.query.retention.min_batches_to_retain = batches;
        }
        if let Some(batches) = self.batches(BATCHES_TO_SNAPSHOT)? {
            self.query.state.snapshot_every_batches = batches;
        }
        Ok(())
    }

    /// A number of batches in the Spark configuration.
    fn batches(&self, key: &str) -> Result<Option<u64>> {
        let Some(text) = self.configuration.get(key) else { return Ok(None) };
        let batches = text.trim().parse().ok().filter(|batches| *batches > 0);
        batches.map(Some).ok_or_else(|| {
            EngineError::config(format!("{key} is '{text}', expected a whole number of batches, at least 1"))
        })
    }
}

/// How many committed batches a checkpoint keeps.
const BATCHES_TO_RETAIN: &str = "spark.sql.streaming.minBatchesToRetain";

/// How many batches of changes there are at the most before state is written whole.
const BATCHES_TO_SNAPSHOT: &str = "spark.sql.streaming.stateStore.minDeltasForSnapshot";

/// A length of time in a setting, as in `30 seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        let length_us = parse_duration_us(text, "the length of time").ok();
        match length_us.and_then(|length_us| u64::try_from(length_us).ok()).filter(|length_us| *length_us > 0) {
            Some(length_us) => Ok(Self(Duration::from_micros(length_us))),
            None => Err(EngineError::config(format!("'{text}' is no length of time above 0"))
                .help("write for example 30 seconds")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, value: &str, expected: Result<(u64, u64), &str>) {
        let mut settings = PipelineSettings::new("nowhere");
        settings.configuration.insert(key.to_owned(), value.to_owned());
        let found = settings.follow_configuration().map_err(|error| error.to_string());
        let query = &settings.query;
        let found = found.map(|()| (query.retention.min_batches_to_retain, query.state.snapshot_every_batches));
        assert_eq!(found, expected.map_err(str::to_owned), "{key}={value}");
    }

    #[test]
    fn keys_of_spark_are_settings_here() {
        check("spark.sql.streaming.minBatchesToRetain", "7", Ok((7, 50)));
        check("spark.sql.streaming.stateStore.minDeltasForSnapshot", " 3 ", Ok((100, 3)));
        check("spark.sql.shuffle.partitions", "many", Ok((100, 50)));
        for value in ["0", "-1", "many", ""] {
            let expected = format!(
                "spark.sql.streaming.minBatchesToRetain is '{value}', expected a whole number of batches, at least 1"
            );
            check("spark.sql.streaming.minBatchesToRetain", value, Err(&expected));
        }
    }

    #[test]
    fn periods_have_a_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(text.parse::<Period>().ok(), expected.map(|secs| Period(Duration::from_secs(secs))), "{text}");
        };
        check("30 seconds", Some(30));
        check("2 minutes", Some(120));
        for text in ["", "soon", "0 seconds", "-1 day"] {
            check(text, None);
        }
    }
}
