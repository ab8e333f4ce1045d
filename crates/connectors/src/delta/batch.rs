//! The newest version of the table for `SELECT`: its data files through Parquet scans with filters.

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use highwater_engine::error::{EngineError, Result};

use super::log::{DeltaLog, Snapshot};
use crate::file::layout::partition_scalar;
use crate::file::provider::{ParquetTable, TableFile};

/// A provider that looks at the newest version each time a query is planned.
pub(super) fn provider(name: &str, root: &Path) -> Result<Arc<dyn TableProvider>> {
    let log = DeltaLog::new(root);
    let now = snapshot(&log)?;
    let (schema, partitions) = (now.schema, now.partition_columns);
    let list = move || {
        let now = snapshot(&log)?;
        now.files.iter().map(|file| table_file(&log, &now, file)).collect::<Result<Vec<_>>>()
    };
    Ok(Arc::new(ParquetTable::new(name, schema, &partitions, list)?))
}

fn snapshot(log: &DeltaLog) -> Result<Snapshot> {
    log.snapshot(None)?.ok_or_else(|| EngineError::data(format!("'{}' is no Delta table", log.root().display())))
}

fn table_file(log: &DeltaLog, now: &Snapshot, file: &super::log::DataFile) -> Result<TableFile> {
    let values = now
        .partition_columns
        .iter()
        .map(|column| {
            let value = file.partition_values.get(column).and_then(Option::as_deref);
            partition_scalar(value, now.schema.field_with_name(column)?.data_type())
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(TableFile {
        path: log.root().join(&file.path).to_string_lossy().into_owned(),
        size: file.size,
        partition_values: values,
    })
}
