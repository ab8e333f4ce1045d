//! Tables as they are now, for joins with static tables and for `SELECT` outside of streams.
//!
//! ```text
//!   ReadersTable   partition readers (json, csv, text, memory, sqlite) ──one thread each──> StreamingTableExec
//!   ParquetTable   files with partition values ──ParquetSource: projection, filters, row groups──> DataSourceExec
//! ```
//!
//! Both look at their files when a query is planned, so that a table registered once is never stale.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow::datatypes::{Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, DataFusionError, Result as PlanResult, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use highwater_engine::error::Result;
use highwater_engine::source::PartitionReader;
use object_store::path::Path as StorePath;
use parking_lot::Mutex;

use super::bounds::with_ranges;

type OpenReaders = dyn Fn(&[usize], &[Expr]) -> Result<Vec<Box<dyn PartitionReader>>> + Send + Sync;

/// A table that is read by partition readers.
pub(crate) struct ReadersTable {
    name: String,
    schema: SchemaRef,
    open: Arc<OpenReaders>,
    /// Which filters its readers heed. Rows are filtered again above.
    heeds: Arc<dyn Fn(&Expr) -> bool + Send + Sync>,
}

impl ReadersTable {
    /// A table of `schema`; `open` gives readers for the columns of a projection.
    pub(crate) fn new(
        name: impl Into<String>,
        schema: SchemaRef,
        open: impl Fn(&[usize]) -> Result<Vec<Box<dyn PartitionReader>>> + Send + Sync + 'static,
    ) -> Self {
        Self::filtered(name, schema, |_| false, move |projection, _| open(projection))
    }

    /// The same, where readers get the filters that `heeds` says yes to.
    pub(crate) fn filtered(
        name: impl Into<String>,
        schema: SchemaRef,
        heeds: impl Fn(&Expr) -> bool + Send + Sync + 'static,
        open: impl Fn(&[usize], &[Expr]) -> Result<Vec<Box<dyn PartitionReader>>> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), schema, open: Arc::new(open), heeds: Arc::new(heeds) }
    }

    fn partition(&self, schema: &SchemaRef, reader: Option<Box<dyn PartitionReader>>) -> ReaderPartition {
        ReaderPartition { table: self.name.clone(), schema: Arc::clone(schema), reader: Mutex::new(reader) }
    }
}

impl fmt::Debug for ReadersTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadersTable").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for ReadersTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match (self.heeds)(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&projection)?);
        let readers = (self.open)(&projection, filters).map_err(external)?;
        let mut partitions: Vec<Arc<dyn PartitionStream>> = readers
            .into_iter()
            .map(|reader| Arc::new(self.partition(&schema, Some(reader))) as Arc<dyn PartitionStream>)
            .collect();
        if partitions.is_empty() {
            partitions.push(Arc::new(self.partition(&schema, None)));
        }
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?))
    }
}

/// A reader that is run once.
struct ReaderPartition {
    table: String,
    schema: SchemaRef,
    reader: Mutex<Option<Box<dyn PartitionReader>>>,
}

impl fmt::Debug for ReaderPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReaderPartition")
    }
}

impl PartitionStream for ReaderPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let output = builder.tx();
        if let Some(mut reader) = self.reader.lock().take() {
            let schema = Arc::clone(&self.schema);
            let table = self.table.clone();
            builder.spawn_blocking(move || {
                let mut unread = Unread::default();
                while let Some(batch) = reader.next_batch().map_err(external)? {
                    unread.take(reader.as_mut());
                    let batch = batch.with_schema(Arc::clone(&schema))?;
                    if output.blocking_send(Ok::<RecordBatch, DataFusionError>(batch)).is_err() {
                        break;
                    }
                }
                unread.take(reader.as_mut());
                unread.tell(&table);
                Ok(())
            });
        }
        builder.build()
    }
}

/// Records of one reader that did not parse. No checkpoint could keep them: they are counted, and the first is told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unread {
    count: u64,
    first: Option<String>,
}

impl Unread {
    /// Takes what a reader has found since, so that it does not keep it until the end of the table.
    fn take(&mut self, reader: &mut dyn PartitionReader) {
        for letter in reader.take_dead_letters() {
            self.count += 1;
            self.first.get_or_insert_with(|| format!("{} at {}: {}", letter.origin, letter.offset, letter.reason));
        }
    }

    fn tell(&self, table: &str) {
        if let Some(first) = &self.first {
            tracing::warn!(table, records = self.count, first, "records of the table do not parse");
        }
    }
}

/// An error of ours inside DataFusion's.
pub(crate) fn external(error: highwater_engine::error::EngineError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A Parquet file of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableFile {
    pub(crate) path: String,
    pub(crate) size: u64,
    /// One value for each partition column, in their order.
    pub(crate) partition_values: Vec<ScalarValue>,
    /// What is known of its rows without opening it.
    pub(crate) bounds: Option<Arc<Bounds>>,
}

/// What the rows of a file lie between.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bounds {
    pub(crate) rows: Option<u64>,
    /// By name.
    pub(crate) columns: HashMap<String, ColumnBounds>,
}

/// What the values of a column lie between; none where it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ColumnBounds {
    pub(crate) least: Option<ScalarValue>,
    pub(crate) greatest: Option<ScalarValue>,
    pub(crate) nulls: Option<u64>,
}

type ListFiles = dyn Fn() -> Result<Arc<Vec<TableFile>>> + Send + Sync;

/// A table of Parquet files.
pub(crate) struct ParquetTable {
    name: String,
    /// The table's columns in their declared order.
    schema: SchemaRef,
    /// Positions in `schema` of the columns in the files, then of the partition columns.
    order: Vec<usize>,
    table_schema: TableSchema,
    list: Arc<ListFiles>,
}

impl ParquetTable {
    /// A table of `schema`; `list` gives its files when a query is planned.
    pub(crate) fn new(
        name: impl Into<String>,
        schema: SchemaRef,
        partition_columns: &[String],
        list: impl Fn() -> Result<Arc<Vec<TableFile>>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let partition =
            partition_columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<usize>, _>>()?;
        let stored: Vec<usize> = (0..schema.fields().len()).filter(|index| !partition.contains(index)).collect();
        let fields: Vec<_> = stored.iter().map(|index| Arc::clone(&schema.fields()[*index])).collect();
        let partition_fields: Vec<_> = partition.iter().map(|index| Arc::clone(&schema.fields()[*index])).collect();
        let table_schema =
            TableSchema::builder(Arc::new(Schema::new(fields))).with_table_partition_cols(partition_fields).build();
        let order = stored.into_iter().chain(partition).collect();
        Ok(Self { name: name.into(), schema, order, table_schema, list: Arc::new(list) })
    }
}

impl fmt::Debug for ParquetTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetTable").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        // They leave out files and row groups; the rows are filtered again above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let files = (self.list)().map_err(external)?;
        let mut source = ParquetSource::new(self.table_schema.clone());
        let mut keep = vec![true; files.len()];
        if let Some(filter) = conjunction(filters.iter().cloned()) {
            let columns = DFSchema::try_from(Arc::clone(self.table_schema.table_schema()))?;
            let predicate = state.create_physical_expr(with_ranges(filter)?, &columns)?;
            keep = self.may_match(&files, &predicate)?;
            source = source.with_predicate(predicate);
        }
        let wanted = files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone());
        let files = wanted.map(partitioned_file).collect::<PlanResult<Vec<_>>>()?;
        let wanted = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let positions = wanted.iter().filter_map(|column| self.order.iter().position(|at| at == column)).collect();
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(positions))?
            .with_limit(limit.filter(|_| filters.is_empty()))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl ParquetTable {
    /// Which files may have rows that a filter lets through, as far as it is known without opening them.
    fn may_match(&self, files: &[TableFile], predicate: &Arc<dyn PhysicalExpr>) -> PlanResult<Vec<bool>> {
        let schema = self.table_schema.table_schema();
        let pruning = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
        let Some(pruning) = pruning.build(Arc::clone(predicate)) else { return Ok(vec![true; files.len()]) };
        let partitions = self.table_schema.table_partition_cols();
        pruning.prune(&FileStatistics { files, schema, partitions })
    }
}

/// What is known of files, as DataFusion asks for it.
struct FileStatistics<'a> {
    files: &'a [TableFile],
    schema: &'a Schema,
    partitions: &'a Fields,
}

impl FileStatistics<'_> {
    /// A value of each file; null where it is not known.
    fn values(&self, column: &Column, of_bounds: impl Fn(&ColumnBounds) -> Option<&ScalarValue>) -> Option<ArrayRef> {
        let data_type = self.schema.field_with_name(column.name()).ok()?.data_type();
        let unknown = ScalarValue::try_from(data_type).ok()?;
        let partition = self.partitions.iter().position(|field| field.name() == column.name());
        let value = |file: &TableFile| match partition {
            Some(at) => file.partition_values.get(at).cloned(),
            None => file.bounds.as_ref()?.columns.get(column.name()).and_then(&of_bounds).cloned(),
        };
        ScalarValue::iter_to_array(self.files.iter().map(|file| value(file).unwrap_or_else(|| unknown.clone()))).ok()
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |bounds| bounds.least.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |bounds| bounds.greatest.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = |file: &TableFile| file.bounds.as_ref()?.columns.get(column.name())?.nulls;
        Some(Arc::new(self.files.iter().map(nulls).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = |file: &TableFile| file.bounds.as_ref()?.rows;
        Some(Arc::new(self.files.iter().map(rows).collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

fn partitioned_file(file: TableFile) -> PlanResult<PartitionedFile> {
    let location = StorePath::from_absolute_path(Path::new(&file.path))?;
    let mut partitioned = PartitionedFile::new(String::new(), file.size);
    partitioned.object_meta.location = location;
    Ok(partitioned.with_partition_values(file.partition_values))
}

#[cfg(test)]
mod tests {
    use highwater_engine::source::{DeadLetter, ReadReport};

    use super::*;

    /// Says of each batch that two of its records do not parse.
    struct Broken {
        batches: i64,
        letters: Vec<DeadLetter>,
    }

    impl PartitionReader for Broken {
        fn partition(&self) -> &str {
            "p"
        }

        fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
            self.batches += 1;
            for line in [0, 1] {
                let offset = 10 * self.batches + line;
                let (origin, reason) = ("f".to_owned(), "no JSON".to_owned());
                self.letters.push(DeadLetter { origin, partition: None, offset, reason, value: vec![0; 100] });
            }
            Ok((self.batches < 4).then(|| RecordBatch::new_empty(Arc::new(Schema::empty()))))
        }

        fn report(&self) -> ReadReport {
            ReadReport::default()
        }

        fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
            std::mem::take(&mut self.letters)
        }
    }

    #[test]
    fn records_that_do_not_parse_are_counted_and_not_kept() {
        let (mut reader, mut unread) = (Broken { batches: 0, letters: Vec::new() }, Unread::default());
        while reader.next_batch().expect("a batch").is_some() {
            unread.take(&mut reader);
            assert_eq!(reader.letters, []);
        }
        unread.take(&mut reader);
        assert_eq!((unread.count, unread.first.as_deref()), (8, Some("f at 10: no JSON")));
    }
}
