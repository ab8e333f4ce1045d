//! Parquet files: read with the table's columns and types, written with the table's options.
//!
//! Columns are found by name (then without case, as Spark does), a column the file does not have is null, and other
//! types are cast. Files of other writers carry other Arrow types for the same Parquet type; the table's types win.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use highwater_engine::error::{EngineError, Result};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::durable::io_error;
use super::read::BATCH_ROWS;

/// One open file.
pub(crate) struct ParquetFile {
    reader: ParquetRecordBatchReader,
    path: String,
    schema: SchemaRef,
    /// For each column of `schema`, its position in what the reader gives.
    positions: Vec<Option<usize>>,
    size_bytes: u64,
}

impl ParquetFile {
    /// Opens a file for the columns of `schema`.
    pub(crate) fn open(file: File, path: &str, schema: &SchemaRef) -> Result<Self> {
        let size_bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(path, error))?;
        let in_file = Arc::clone(builder.schema());
        let roots: Vec<Option<usize>> = schema.fields().iter().map(|field| find(&in_file, field.name())).collect();
        let mut wanted: Vec<usize> = roots.iter().flatten().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
        let reader =
            builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(|error| damaged(path, error))?;
        let positions = roots.iter().map(|root| root.and_then(|root| wanted.binary_search(&root).ok())).collect();
        Ok(Self { reader, path: path.to_owned(), schema: Arc::clone(schema), positions, size_bytes })
    }

    /// The next rows, in the table's types.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.reader.next() else { return Ok(None) };
        let batch = batch.map_err(|error| damaged(&self.path, error))?;
        let columns = self
            .positions
            .iter()
            .zip(self.schema.fields())
            .map(|(position, field)| match position {
                Some(position) => self.cast(batch.column(*position), field),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }

    /// The size of the file.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn cast(&self, column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(column, field.data_type(), &options).map_err(|error| {
            EngineError::data(format!(
                "column '{}' of '{}' is a {}, expected a {}",
                field.name(),
                self.path,
                column.data_type(),
                field.data_type()
            ))
            .caused_by(error)
            .help("declare the column with the type the files have")
        })
    }
}

/// The columns of a file, in the types the engine works with.
pub(crate) fn file_schema(path: &Path) -> Result<Schema> {
    let file = File::open(path).map_err(|error| io_error("open", path, error))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(&path.to_string_lossy(), error))?;
    let fields: Vec<Field> = builder.schema().fields().iter().map(|field| engine_field(field)).collect();
    Ok(Schema::new(fields))
}

/// A Parquet writer of one file.
pub(crate) fn writer(
    path: &Path,
    file: File,
    schema: SchemaRef,
    compression: Compression,
) -> Result<ArrowWriter<File>> {
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_created_by(concat!("highwater ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    ArrowWriter::try_new(file, schema, Some(properties)).map_err(|error| write_error(path, error))
}

/// What the Parquet writer says of a file, by what to do about it: what the system refused comes through it wrapped.
pub(crate) fn write_error(path: &Path, error: ParquetError) -> EngineError {
    match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(error) => io_error("write", path, *error),
            Err(cause) => EngineError::unavailable(format!("cannot write '{}'", path.display())).caused_by(cause),
        },
        error => EngineError::data(format!("cannot write '{}'", path.display())).caused_by(error),
    }
}

fn engine_field(field: &Field) -> Field {
    Field::new(field.name(), engine_type(field.data_type()), field.is_nullable())
}

/// The type the engine uses for what a file holds: one string type, one list type, microseconds.
pub(crate) fn engine_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, values) => engine_type(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(engine_field(item)))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| engine_field(field)).collect()),
        DataType::Map(entries, sorted) => DataType::Map(Arc::new(engine_field(entries)), *sorted),
        other => other.clone(),
    }
}

fn find(schema: &Schema, name: &str) -> Option<usize> {
    let fields = schema.fields();
    fields
        .iter()
        .position(|field| field.name() == name)
        .or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name)))
}

fn damaged(path: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::data(format!("'{path}' is not a whole Parquet file"))
        .caused_by(cause)
        .help("remove or replace the file, or set 'ignoreCorruptFiles' = 'true' to go on without its rows")
}
