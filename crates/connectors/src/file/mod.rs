//! Tables of files: `USING json | csv | parquet | text OPTIONS (path '...')`.
//!
//! ```text
//!   options.rs   what the definition says, checked        infer.rs     columns, if it gives none
//!   listing.rs   which files there are                    manifest.rs  which of them are committed
//!   log.rs       which files a log offset stands for      source.rs    new files as batches
//!   read.rs      files to rows  (codec.rs, parquet.rs, layout.rs: lines, Parquet, partition columns)
//!   sink.rs      rows to files  (partition.rs, part.rs: folders, one file)
//!   provider.rs  the table as it is now                   durable.rs   files that are there whole or not at all
//! ```
//!
//! The table reads and writes this machine's file system only; object stores are refused by name.

mod bounds;
pub(crate) mod codec;
pub(crate) mod durable;
mod infer;
pub(crate) mod layout;
pub(crate) mod listing;
mod log;
pub(crate) mod manifest;
pub(crate) mod options;
pub(crate) mod parquet;
pub(crate) mod part;
pub(crate) mod partition;
pub(crate) mod provider;
mod read;
pub(crate) mod sink;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Role, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, Sink, SinkRequest};
use highwater_engine::source::{Source, SourceRequest};
use highwater_engine::writable::refuse_unwritable;

use self::layout::{FILE_COLUMN, Layout, partition_scalar};
use self::listing::{InputFile, partition_values};
use self::options::{FileFormat, FileOptions};
use self::provider::{ParquetTable, ReadersTable, TableFile};
use self::read::ReadPlan;

/// Files of one format.
#[derive(Debug)]
pub struct FileConnector(FileFormat);

impl FileConnector {
    /// One connector for each format.
    pub fn all() -> impl Iterator<Item = Self> {
        FileFormat::ALL.into_iter().map(Self)
    }
}

impl Connector for FileConnector {
    fn format(&self) -> &str {
        self.0.name()
    }

    fn finds_columns(&self, definition: &TableDefinition) -> bool {
        self.0 != FileFormat::Text || !definition.partition_columns.is_empty()
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let options = Arc::new(FileOptions::read(definition, self.0)?);
        let (schema, partition_columns) = match &definition.schema {
            Some(schema) => (layout::nullable(schema), definition.partition_columns.clone()),
            None => columns_found(self.0, &options, &definition.partition_columns)?,
        };
        Ok(Arc::new(FileTable {
            name: definition.name.clone(),
            format: self.0,
            options,
            schema,
            declared: definition.schema.is_some(),
            partition_columns,
        }))
    }
}

/// The columns the files have now; none for a folder that is empty or not there yet.
fn columns_found(
    format: FileFormat,
    options: &FileOptions,
    partition_columns: &[String],
) -> Result<(SchemaRef, Vec<String>)> {
    if format == FileFormat::Text && partition_columns.is_empty() {
        return Ok((Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true)])), Vec::new()));
    }
    match infer::infer(format, options, &listing::list(options)?)? {
        Some((schema, partitions)) => Ok((Arc::new(schema), partitions)),
        None => Ok((Arc::new(Schema::empty()), partition_columns.to_vec())),
    }
}

struct FileTable {
    name: String,
    format: FileFormat,
    options: Arc<FileOptions>,
    schema: SchemaRef,
    declared: bool,
    partition_columns: Vec<String>,
}

impl FileTable {
    fn plan(&self, projection: &[usize]) -> ReadPlan {
        ReadPlan {
            format: self.format,
            options: Arc::clone(&self.options),
            layout: Layout::new(&self.schema, &self.partition_columns, projection),
        }
    }

    /// A stream's columns must not depend on the files that lie there when it starts.
    fn refuse_inferred(&self) -> Result<()> {
        if self.declared
            || (!self.schema.fields().is_empty() && matches!(self.format, FileFormat::Parquet | FileFormat::Text))
        {
            return Ok(());
        }
        Err(EngineError::config(format!(
            "table {} (USING {}): the schema must be specified when a table of files is read as a stream",
            self.name,
            self.format.name()
        ))
        .help(format!(
            "give the columns: CREATE TABLE {} (id BIGINT, ...) USING {} OPTIONS (...); without STREAM they are inferred",
            self.name,
            self.format.name()
        )))
    }
}

impl Table for FileTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn source(&self, request: SourceRequest) -> Result<Box<dyn Source>> {
        self.refuse_inferred()?;
        Ok(Box::new(source::FileSource::open(self.plan(&request.projection), request.metadata)?))
    }

    fn check_source(&self) -> Result<()> {
        self.refuse_inferred()
    }

    fn check_sink(&self, request: &SinkRequest) -> Result<()> {
        if request.output_mode != OutputMode::Append {
            return Err(EngineError::config(format!(
                "table {} (USING {}) takes output mode append, found {}",
                self.name,
                self.format.name(),
                request.output_mode
            ))
            .help("use a table that can change rows (delta, sqlite), or a query in append mode"));
        }
        if self.format == FileFormat::Text && request.schema.fields().len() != 1 + self.partition_columns.len() {
            return Err(EngineError::config(format!(
                "table {} (USING text) takes one string column, found {} columns",
                self.name,
                request.schema.fields().len()
            ))
            .help("use USING json or csv, or select one column"));
        }
        partition::Splitter::new(&request.schema, &self.partition_columns).map(drop)
    }

    fn probe_sink(&self, request: &SinkRequest) -> Result<Option<String>> {
        let options = Arc::clone(&self.options);
        sink::FileSink::open(self.format, options, &self.partition_columns, request.clone())?;
        let path = listing::absolute(Path::new(&self.options.path))?;
        refuse_unwritable("the folder of the table", &path, "choose a path that can be written to")?;
        self.probe(Role::Sink)
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        self.check_sink(&request)?;
        let options = Arc::clone(&self.options);
        Ok(Box::new(sink::FileSink::open(self.format, options, &self.partition_columns, request)?))
    }

    fn output_modes(&self) -> &[OutputMode] {
        &[OutputMode::Append]
    }

    fn probe(&self, role: Role) -> Result<Option<String>> {
        if role == Role::Sink && !Path::new(&self.options.path).exists() {
            return Ok(Some("the folder will be created".to_owned()));
        }
        let files = listing::list(&self.options)?;
        let size_bytes: u64 = files.iter().map(|file| file.size).sum();
        let files = if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) };
        Ok(Some(format!("{files}, {size_bytes} bytes")))
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        if self.schema.fields().is_empty() {
            return Err(EngineError::data(format!(
                "table {} (USING {}) has no columns: '{}' has no files to infer them from",
                self.name,
                self.format.name(),
                self.options.path
            ))
            .help("check the path, or give the columns in CREATE TABLE"));
        }
        let plain_parquet = self.format == FileFormat::Parquet
            && self.schema.index_of(FILE_COLUMN).is_err()
            && !self.options.ignore_missing_files
            && !self.options.ignore_corrupt_files;
        if plain_parquet { self.parquet_provider() } else { Ok(self.readers_provider()) }
    }
}

impl FileTable {
    fn readers_provider(&self) -> Arc<dyn TableProvider> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let (table, options) = (self.plan(&all), Arc::clone(&self.options));
        let (schema, partitions) = (SchemaRef::clone(&self.schema), self.partition_columns.clone());
        let open = move |projection: &[usize]| {
            let layout = Layout::new(&schema, &partitions, projection);
            let plan = ReadPlan { layout, ..table.clone() };
            let parallelism = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            Ok(read::readers(&plan, listing::list(&options)?, parallelism))
        };
        Arc::new(ReadersTable::new(&self.name, SchemaRef::clone(&self.schema), open))
    }

    fn parquet_provider(&self) -> Result<Arc<dyn TableProvider>> {
        let (options, schema) = (Arc::clone(&self.options), SchemaRef::clone(&self.schema));
        let partitions = self.partition_columns.clone();
        let list = move || {
            let files = listing::list(&options)?.into_iter().map(|file| table_file(file, &schema, &partitions));
            files.collect::<Result<_>>().map(Arc::new)
        };
        let schema = SchemaRef::clone(&self.schema);
        Ok(Arc::new(ParquetTable::new(&self.name, schema, &self.partition_columns, list)?))
    }
}

fn table_file(file: InputFile, schema: &Schema, partitions: &[String]) -> Result<TableFile> {
    let values = partitions
        .iter()
        .map(|column| {
            let value = partition_values(&file.path).find(|(name, _)| name == column).and_then(|(_, value)| value);
            partition_scalar(value.as_deref(), schema.field_with_name(column)?.data_type())
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(TableFile { path: file.path, size: file.size, partition_values: values, bounds: None })
}
