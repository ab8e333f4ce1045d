//! The newest version of the table for `SELECT`: its data files through Parquet scans with filters.
//!
//! ```text
//!   a query ─> is the version that is known the newest? ─> its files ─filter: partition values, statistics─> Parquet
//!                     │ no: the commits since then, or all of it where they are gone or change the table
//! ```
//!
//! What is known is kept from query to query, because who looks up keys asks often and changes little.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use highwater_engine::error::{EngineError, Result};
use parking_lot::Mutex;
use serde_json::Value;

use super::log::{CommitFile, DataFile, DeltaLog, Snapshot, data_file};
use super::stats::bounds;
use crate::file::layout::partition_scalar;
use crate::file::listing::unescape;
use crate::file::provider::{ParquetTable, TableFile};

/// A provider that looks at the newest version each time a query is planned.
pub(super) fn provider(name: &str, root: &Path) -> Result<Arc<dyn TableProvider>> {
    let log = DeltaLog::new(root);
    let known = Version::read(&log)?;
    let (schema, partitions) = (SchemaRef::clone(&known.schema), known.partition_columns.clone());
    let known = Mutex::new(known);
    let list = move || {
        let mut known = known.lock();
        known.advance(&log)?;
        known.table_files(&log)
    };
    Ok(Arc::new(ParquetTable::new(name, schema, &partitions, list)?))
}

/// A version of the table, as far as reading it needs.
pub(super) struct Version {
    version: u64,
    /// Tells whether the commit of that version is still the one that was read: the table may have been made anew.
    commit: Option<CommitFile>,
    schema: SchemaRef,
    partition_columns: Vec<String>,
    /// By path.
    files: BTreeMap<String, DataFile>,
    /// The files as they are read, while the version is the newest.
    listed: Option<Arc<Vec<TableFile>>>,
    /// How often the whole table was read from its log.
    pub(super) reads: usize,
}

impl Version {
    /// The newest version.
    pub(super) fn read(log: &DeltaLog) -> Result<Self> {
        let missing = || EngineError::data(format!("'{}' is no Delta table", log.root().display()));
        let Snapshot { version, schema, partition_columns, files, .. } = log.snapshot(None)?.ok_or_else(missing)?;
        let files = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        let commit = log.commit_file(version);
        Ok(Self { version, commit, schema, partition_columns, files, listed: None, reads: 1 })
    }

    /// The paths of its files, in order.
    #[cfg(test)]
    pub(super) fn paths(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// Goes on to the newest version.
    pub(super) fn advance(&mut self, log: &DeltaLog) -> Result<()> {
        let is_same = self.commit.is_some() && log.commit_file(self.version) == self.commit;
        while is_same && let Some(commit) = log.commit_file(self.version + 1) {
            let actions = log.actions(self.version + 1)?;
            if !self.apply(&actions) {
                return self.read_anew(log);
            }
            (self.version, self.commit, self.listed) = (self.version + 1, Some(commit), None);
        }
        if is_same { Ok(()) } else { self.read_anew(log) }
    }

    fn read_anew(&mut self, log: &DeltaLog) -> Result<()> {
        let reads = self.reads + 1;
        *self = Self { reads, ..Self::read(log)? };
        Ok(())
    }

    /// Takes in a commit; false if it is one that says more than which files there are.
    fn apply(&mut self, actions: &[Value]) -> bool {
        let has_vector = |add: &Value| add.get("deletionVector").is_some_and(|vector| !vector.is_null());
        let is_more = |action: &Value| {
            action.get("metaData").is_some()
                || action.get("protocol").is_some()
                || action.get("add").is_some_and(has_vector)
        };
        if actions.iter().any(is_more) {
            return false;
        }
        let paths = actions.iter().filter_map(|action| action.get("remove")?.get("path")?.as_str());
        paths.for_each(|path| drop(self.files.remove(&unescape(path))));
        for file in actions.iter().filter_map(|action| data_file(action.get("add")?)) {
            self.files.insert(file.path.clone(), file);
        }
        true
    }

    fn table_files(&mut self, log: &DeltaLog) -> Result<Arc<Vec<TableFile>>> {
        if let Some(listed) = &self.listed {
            return Ok(Arc::clone(listed));
        }
        let files = self.files.values().map(|file| self.table_file(log, file)).collect::<Result<Vec<_>>>()?;
        let files = Arc::new(files);
        self.listed = Some(Arc::clone(&files));
        Ok(files)
    }

    fn table_file(&self, log: &DeltaLog, file: &DataFile) -> Result<TableFile> {
        let value = |column: &String| {
            let value = file.partition_values.get(column).and_then(Option::as_deref);
            partition_scalar(value, self.schema.field_with_name(column)?.data_type())
        };
        Ok(TableFile {
            path: log.root().join(&file.path).to_string_lossy().into_owned(),
            size: file.size,
            partition_values: self.partition_columns.iter().map(value).collect::<Result<Vec<_>>>()?,
            bounds: file.stats.as_deref().and_then(|stats| bounds(stats, &self.schema)),
        })
    }
}
