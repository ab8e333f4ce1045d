//! The log of a Delta table: snapshots through `deltalake`, commits by create-if-absent.
//!
//! A commit is one file named by its version; whoever links it first has that version (durable.rs), and everybody
//! else must look again at what the winner did. The token check and the commit are therefore one step: the token is
//! read at version v, and the commit is only valid as v + 1.

use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Field, Schema, SchemaRef};
use deltalake::kernel::transaction::PROTOCOL;
use deltalake::{DeltaTableBuilder, DeltaTableError};
use futures::TryStreamExt;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::sink::BatchId;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::file::durable::{self, Created, io_error};
use crate::file::listing::unescape;
use crate::file::parquet::engine_type;

/// A data file of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataFile {
    /// Below the table, decoded.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) modified_ms: i64,
    pub(super) partition_values: HashMap<String, Option<String>>,
    /// As the log has them: JSON.
    pub(super) stats: Option<String>,
}

/// Tells one file of a commit from another of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitFile {
    inode: u64,
    size_bytes: u64,
    modified_ns: i128,
}

/// A version of the table.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) schema: SchemaRef,
    pub(super) partition_columns: Vec<String>,
    pub(super) files: Vec<DataFile>,
    pub(super) append_only: bool,
    state: Arc<deltalake::DeltaTable>,
}

/// The log in its folder.
#[derive(Debug, Clone)]
pub(super) struct DeltaLog {
    root: PathBuf,
}

impl DeltaLog {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self) -> PathBuf {
        self.root.join("_delta_log")
    }

    fn commit_path(&self, version: u64) -> PathBuf {
        self.folder().join(format!("{version:020}.json"))
    }

    /// Whether there is any version.
    pub(super) fn exists(&self) -> bool {
        self.latest_version().is_ok_and(|version| version.is_some())
    }

    /// The newest version.
    pub(super) fn latest_version(&self) -> Result<Option<u64>> {
        let names = durable::file_names(&self.folder())?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).max())
    }

    /// A version of the table, or the newest; none if there is no table.
    pub(super) fn snapshot(&self, version: Option<u64>) -> Result<Option<Snapshot>> {
        if !self.exists() {
            return Ok(None);
        }
        let uri = self.root.to_string_lossy().into_owned();
        let loaded: Result<_, DeltaTableError> = block_on(async move {
            let mut builder = DeltaTableBuilder::from_url(deltalake::ensure_table_uri(uri)?)?;
            if let Some(version) = version {
                builder = builder.with_version(version);
            }
            let table = builder.load().await?;
            let views: Vec<_> =
                table.snapshot()?.snapshot().file_views(&*table.log_store(), None).try_collect().await?;
            Ok((table, views))
        });
        let (table, views) = loaded.map_err(|error| self.failed("read", error))?;
        let snapshot = table.snapshot().map_err(|error| self.failed("read", error))?;
        let eager = snapshot.snapshot();
        PROTOCOL.can_read_from(eager).map_err(|error| self.failed("read", error.into()))?;
        let configuration = snapshot.metadata().configuration();
        if configuration.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
            return Err(self.refused("column mapping"));
        }
        let mut files = Vec::with_capacity(views.len());
        for view in &views {
            if view.deletion_vector_descriptor().is_some() {
                return Err(self.refused("deletion vectors"));
            }
            files.push(DataFile {
                path: view.path().into_owned(),
                size: u64::try_from(view.size()).unwrap_or_default(),
                modified_ms: view.modification_time(),
                partition_values: view.partition_values_map(),
                stats: view.stats(),
            });
        }
        let fields: Vec<Field> = eager
            .arrow_schema()
            .fields()
            .iter()
            .map(|field| Field::new(field.name(), engine_type(field.data_type()), field.is_nullable()))
            .collect();
        Ok(Some(Snapshot {
            version: snapshot.version(),
            schema: Arc::new(Schema::new(fields)),
            partition_columns: snapshot.metadata().partition_columns().to_vec(),
            append_only: configuration.get("delta.appendOnly").is_some_and(|value| value == "true"),
            files,
            state: Arc::new(table),
        }))
    }

    /// Publishes a commit as `version`, unless another writer has it.
    pub(super) fn commit(&self, version: u64, actions: &[Value]) -> Result<Created> {
        let mut bytes = Vec::new();
        for action in actions {
            serde_json::to_writer(&mut bytes, action)
                .map_err(|error| EngineError::internal("a Delta action has no JSON").caused_by(error))?;
            bytes.push(b'\n');
        }
        durable::create_dir(&self.folder())?;
        durable::write_new(&self.commit_path(version), &bytes)
    }

    /// The file of a commit, if it is there.
    pub(super) fn commit_file(&self, version: u64) -> Option<CommitFile> {
        let found = std::fs::metadata(self.commit_path(version)).ok()?;
        let modified_ns = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        Some(CommitFile { inode: found.ino(), size_bytes: found.len(), modified_ns })
    }

    /// The actions of a commit.
    pub(super) fn actions(&self, version: u64) -> Result<Vec<Value>> {
        let path = self.commit_path(version);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => EngineError::data(format!(
                "version {version} of the Delta table '{}' is no longer in its log",
                self.root.display()
            ))
            .help("the log was cleaned before the stream read it: start with a new checkpoint, and keep logs longer (delta.logRetentionDuration)"),
            _ => io_error("read", &path, error),
        })?;
        text.lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_str(line).map_err(|error| {
                    EngineError::data(format!("the Delta commit '{}' has a line that is not JSON", path.display()))
                        .caused_by(error)
                        .help("restore the file from a backup")
                })
            })
            .collect()
    }

    /// Writes a checkpoint of a version. Best effort: it only makes reading faster.
    pub(super) fn checkpoint(&self, version: u64) {
        let uri = self.root.to_string_lossy().into_owned();
        let written: Result<(), DeltaTableError> = block_on(async move {
            let url = deltalake::ensure_table_uri(uri)?;
            let table = DeltaTableBuilder::from_url(url)?.with_version(version).load().await?;
            deltalake::checkpoints::create_checkpoint(&table, None).await
        });
        if let Err(error) = written {
            tracing::warn!(%error, version, table = %self.root.display(), "the Delta checkpoint could not be written");
        }
    }

    fn failed(&self, verb: &str, error: DeltaTableError) -> EngineError {
        EngineError::data(format!("cannot {verb} the Delta table '{}'", self.root.display())).caused_by(error)
    }

    fn refused(&self, feature: &str) -> EngineError {
        EngineError::config(format!(
            "the Delta table '{}' uses {feature}, which Highwater cannot read",
            self.root.display()
        ))
        .help("rewrite the table without the feature (REORG TABLE ... APPLY (PURGE), or a copy)")
    }
}

impl Snapshot {
    /// The newest batch of a query that was committed up to this version.
    pub(super) fn token(&self, query_id: &str) -> Result<Option<BatchId>> {
        let (table, query_id) = (Arc::clone(&self.state), query_id.to_owned());
        let version = block_on(async move {
            let log_store = table.log_store();
            table.snapshot()?.transaction_version(&*log_store, query_id).await
        });
        let version =
            version.map_err(|error| EngineError::data("cannot read the Delta table's tokens").caused_by(error))?;
        Ok(version.and_then(|version| BatchId::try_from(version).ok()))
    }

    /// Refuses tables whose rules this writer does not know.
    pub(super) fn refuse_unwritable(&self) -> Result<()> {
        let snapshot =
            self.state.snapshot().map_err(|error| EngineError::internal("a snapshot is empty").caused_by(error))?;
        PROTOCOL.can_write_to(snapshot.snapshot()).map_err(|error| {
            EngineError::config("the Delta table needs features Highwater cannot write")
                .caused_by(error)
                .help("write to a table without these features")
        })
    }
}

/// A data file of an `add` action.
pub(super) fn data_file(add: &Value) -> Option<DataFile> {
    let values = add.get("partitionValues").and_then(Value::as_object);
    let partition_values =
        values.into_iter().flatten().map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned)));
    Some(DataFile {
        path: unescape(add.get("path")?.as_str()?),
        size: add.get("size").and_then(Value::as_u64).unwrap_or_default(),
        modified_ms: add.get("modificationTime").and_then(Value::as_i64).unwrap_or_default(),
        partition_values: partition_values.collect(),
        stats: add.get("stats").and_then(Value::as_str).map(str::to_owned),
    })
}

static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("delta").build()
});

/// Runs an asynchronous call to its end, also from within another runtime's task.
fn block_on<T: Send>(future: impl Future<Output = Result<T, DeltaTableError>> + Send) -> Result<T, DeltaTableError> {
    let runtime = RUNTIME.as_ref().map_err(|error| DeltaTableError::Generic(error.to_string()))?;
    let ended = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
    ended.unwrap_or_else(|_| Err(DeltaTableError::Generic("the Delta library panicked".to_owned())))
}
