//! `USING delta OPTIONS (path '...')`: Delta Lake tables on this machine's file system.
//!
//! ```text
//!   <table>/_delta_log/00000000000000000007.json     one commit: add, remove, txn (query id, batch id), metaData
//!           part-00000-<nonce>-c000.snappy.parquet   data; day=2025-01-01/part-... in partitioned tables
//!           _highwater/<query>/<nonce>.json          a batch that is being written (sink.rs)
//! ```
//!
//! Checkpoints, protocol rules and log replay are `deltalake`'s; the commit itself is ours (log.rs), so that the token
//! is checked against exactly the version the commit follows. Deletion vectors and column mapping are refused.

mod batch;
mod log;
mod merge;
mod sink;
mod source;
mod stats;
#[cfg(test)]
mod tests;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Role, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, Sink, SinkRequest};
use highwater_engine::source::{Source, SourceRequest};
use highwater_engine::writable::refuse_unwritable;
use parquet::basic::Compression;

use self::log::DeltaLog;
use crate::file::listing::absolute;
use crate::file::options::{local_path, parquet_compression, size};
use crate::noop::ALL_MODES;

/// The connector of `USING delta`.
#[derive(Debug)]
pub struct DeltaConnector;

/// Where a stream over the table begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Starting {
    /// With the rows the table has, then what is added.
    Snapshot,
    /// With what is added after the newest version.
    Latest,
    /// With this version's commit.
    Version(u64),
}

/// The options of a Delta table.
#[derive(Debug, Clone)]
struct DeltaOptions {
    root: PathBuf,
    starting: Starting,
    max_files_per_trigger: usize,
    max_bytes_per_trigger: u64,
    ignore_deletes: bool,
    ignore_changes: bool,
    skip_change_commits: bool,
    compression: Compression,
    checkpoint_interval: u64,
    target_file_size: u64,
}

impl DeltaOptions {
    fn read(definition: &TableDefinition) -> Result<Self> {
        let object = format!("table {} (USING delta)", definition.name);
        let mut reader = definition.options.reader(&object);
        let path = local_path(&object, reader.required("path", "/data/alerts")?)?;
        let starting = match reader.text("startingVersion") {
            None => Starting::Snapshot,
            Some(text) if text.eq_ignore_ascii_case("latest") => Starting::Latest,
            Some(text) => Starting::Version(text.parse().map_err(|_| {
                EngineError::config(format!(
                    "{object}: option 'startingVersion' is '{text}', expected latest or a version number"
                ))
            })?),
        };
        let options = Self {
            root: absolute(&PathBuf::from(path))?,
            starting,
            max_files_per_trigger: reader
                .parsed("maxFilesPerTrigger", "a whole number above 0")?
                .map_or(1000, NonZeroUsize::get),
            max_bytes_per_trigger: size(&object, &mut reader, "maxBytesPerTrigger")?.unwrap_or(u64::MAX),
            ignore_deletes: reader.flag("ignoreDeletes", false)?,
            ignore_changes: reader.flag("ignoreChanges", false)?,
            skip_change_commits: reader.flag("skipChangeCommits", false)?,
            compression: parquet_compression(
                &object,
                reader.text("compression").map(str::to_ascii_lowercase).as_deref(),
            )?,
            checkpoint_interval: reader
                .parsed("checkpointInterval", "a whole number above 0")?
                .map_or(10, NonZeroU64::get),
            target_file_size: size(&object, &mut reader, "targetFileSize")?.unwrap_or(128 << 20),
        };
        reader.finish()?;
        Ok(options)
    }
}

impl Connector for DeltaConnector {
    fn format(&self) -> &str {
        "delta"
    }

    fn finds_columns(&self, _definition: &TableDefinition) -> bool {
        true
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let options = DeltaOptions::read(definition)?;
        let log = DeltaLog::new(&options.root);
        let (schema, partition_columns) = match &definition.schema {
            Some(schema) => (SchemaRef::clone(schema), definition.partition_columns.clone()),
            None => match log.snapshot(None)? {
                Some(snapshot) => (snapshot.schema, snapshot.partition_columns),
                None => (Arc::new(Schema::empty()), definition.partition_columns.clone()),
            },
        };
        Ok(Arc::new(DeltaTable { name: definition.name.clone(), options, schema, partition_columns }))
    }
}

struct DeltaTable {
    name: String,
    options: DeltaOptions,
    schema: SchemaRef,
    partition_columns: Vec<String>,
}

impl DeltaTable {
    fn refuse_missing(&self) -> Result<()> {
        if DeltaLog::new(&self.options.root).exists() {
            return Ok(());
        }
        Err(EngineError::data(format!(
            "table {} (USING delta): '{}' is no Delta table, it has no _delta_log",
            self.name,
            self.options.root.display()
        ))
        .help("check the path; a table is created by the first batch that is written to it"))
    }
}

impl Table for DeltaTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn source(&self, request: SourceRequest) -> Result<Box<dyn Source>> {
        if !request.may_be_missing {
            self.refuse_missing()?;
        }
        let columns = (self.schema.as_ref(), self.partition_columns.as_slice());
        Ok(Box::new(source::DeltaSource::open(self.options.clone(), columns, &request.projection)?))
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        Ok(Box::new(sink::DeltaSink::open(self.options.clone(), self.partition_columns.clone(), request)?))
    }

    fn output_modes(&self) -> &[OutputMode] {
        ALL_MODES
    }

    fn takes_deletes(&self) -> bool {
        true
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        self.refuse_missing()?;
        batch::provider(&self.name, &self.options.root)
    }

    fn check_sink(&self, request: &SinkRequest) -> Result<()> {
        sink::check_columns(&request.schema, &self.partition_columns)
    }

    fn probe_sink(&self, request: &SinkRequest) -> Result<Option<String>> {
        sink::DeltaSink::open(self.options.clone(), self.partition_columns.clone(), request.clone())?;
        refuse_unwritable("the folder of the table", &self.options.root, "choose a path that can be written to")?;
        self.probe(Role::Sink)
    }

    fn probe(&self, role: Role) -> Result<Option<String>> {
        if role != Role::Sink {
            self.refuse_missing()?;
        }
        let version = DeltaLog::new(&self.options.root).latest_version()?;
        Ok(Some(version.map_or_else(|| "will be created".to_owned(), |version| format!("version {version}"))))
    }
}
