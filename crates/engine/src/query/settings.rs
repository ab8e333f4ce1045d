//! Settings of a pipeline and of single flows: plain values, each with its default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::comparison::QueryChanges;
use super::execution::QuerySettings;
use super::trigger::Trigger;
use super::ttl::{StateTtl, TtlSettings};
use crate::checkpoint::RemoteSettings;
use crate::plan::catalog::Options;
use crate::sink::OutputMode;

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
        }
    }
}
