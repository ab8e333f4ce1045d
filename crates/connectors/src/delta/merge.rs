//! Reads data files in the table's columns, and finds those an upsert must rewrite.
//!
//! ```text
//!   each file ──key columns──> touched? ──no──> stays
//!                                 └─yes──> all columns ──without the new keys──> new file, the old one is removed
//! ```

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use highwater_engine::error::{EngineError, Result};

use super::log::DataFile;
use crate::file::durable::io_error;
use crate::file::layout::partition_scalar;
use crate::file::parquet::ParquetFile;
use crate::memory::Keys;

/// One data file, read in the columns of `schema`.
pub(super) struct DataReader {
    file: ParquetFile,
    data: DataFile,
    schema: SchemaRef,
    partition_columns: Vec<String>,
}

impl DataReader {
    pub(super) fn open(root: &Path, data: &DataFile, schema: &SchemaRef, partition_columns: &[String]) -> Result<Self> {
        let path = root.join(&data.path);
        let file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                EngineError::data(format!("data file '{}' of the Delta table is gone", path.display()))
                    .help("it may have been vacuumed: start with a new checkpoint, or restore the file")
            }
            _ => io_error("open", &path, error),
        })?;
        let stored: Vec<Field> = schema
            .fields()
            .iter()
            .filter(|field| !partition_columns.contains(field.name()))
            .map(|field| field.as_ref().clone())
            .collect();
        let file = ParquetFile::open(file, &path.to_string_lossy(), &Arc::new(Schema::new(stored)))?;
        Ok(Self { file, data: data.clone(), schema: Arc::clone(schema), partition_columns: partition_columns.to_vec() })
    }

    /// The next rows.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(stored) = self.file.next_batch()? else { return Ok(None) };
        let mut next_stored = 0;
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| {
                if self.partition_columns.contains(field.name()) {
                    let value = self.data.partition_values.get(field.name()).and_then(Option::as_deref);
                    return Ok(partition_scalar(value, field.data_type())?.to_array_of_size(stored.num_rows())?);
                }
                next_stored += 1;
                Ok(Arc::clone(stored.column(next_stored - 1)))
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }
}

/// The last row of each key, in the order they came.
pub(super) fn last_of_each(
    batches: &[RecordBatch],
    key_columns: &[String],
    keys: &mut Keys,
) -> Result<Vec<RecordBatch>> {
    let mut kept = Vec::with_capacity(batches.len());
    for batch in batches.iter().rev() {
        kept.push(keys.keep_unknown(batch, key_columns, true)?);
    }
    kept.reverse();
    Ok(kept)
}

/// Whether a file has a row with one of the keys.
pub(super) fn touches(
    root: &Path,
    data: &DataFile,
    schema: &SchemaRef,
    partition_columns: &[String],
    key_columns: &[String],
    keys: &mut Keys,
) -> Result<bool> {
    let indices = key_columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let key_schema = Arc::new(schema.project(&indices)?);
    let mut reader = DataReader::open(root, data, &key_schema, partition_columns)?;
    while let Some(batch) = reader.next_batch()? {
        if keys.unknown(&batch, key_columns, false)?.true_count() < batch.num_rows() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rows of a batch whose keys are not among `keys`.
pub(super) fn without(batch: &RecordBatch, key_columns: &[String], keys: &mut Keys) -> Result<RecordBatch> {
    let mask = keys.unknown(batch, key_columns, false)?;
    Ok(filter_record_batch(batch, &mask)?)
}
