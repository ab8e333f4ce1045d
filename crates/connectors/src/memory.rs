//! `USING memory`: rows in this process under the table's name, for tests and for looking at a query's result.
//!
//! ```text
//!   sink of table t ──commit──> process-wide map: t -> rows <──batch()── SELECT * FROM t
//! ```
//!
//! The rows and the tokens live as long as the process, so a restarted query in the same process is exactly-once and
//! one in a new process starts empty. In complete mode a batch replaces the table, in update mode it replaces the rows
//! with its keys (Spark's memory table appends them). There is no limit but the machine's memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::catalog::TableProvider;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Table, TableDefinition};
use highwater_engine::sink::{BatchId, CommitReport, OutputMode, Sink, SinkRequest, SinkToken};
use highwater_engine::source::{PartitionReader, ReadReport, Source, SourceRequest};
use parking_lot::Mutex;

use crate::file::provider::ReadersTable;
use crate::noop::{ALL_MODES, write_only};

#[derive(Default)]
struct Stored {
    schema: Option<SchemaRef>,
    batches: Vec<RecordBatch>,
    tokens: BTreeMap<String, BatchId>,
}

static TABLES: LazyLock<Mutex<HashMap<String, Arc<Mutex<Stored>>>>> = LazyLock::new(Mutex::default);

fn stored(name: &str) -> Arc<Mutex<Stored>> {
    Arc::clone(TABLES.lock().entry(name.to_owned()).or_default())
}

/// Forgets a table of this process.
pub fn forget(name: &str) {
    TABLES.lock().remove(name);
}

/// The connector of `USING memory`.
#[derive(Debug)]
pub struct MemoryConnector;

impl Connector for MemoryConnector {
    fn format(&self) -> &str {
        "memory"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        definition.options.reader(format!("table {} (USING memory)", definition.name)).finish()?;
        Ok(Arc::new(MemoryTable { name: definition.name.clone(), declared: definition.schema.clone() }))
    }
}

struct MemoryTable {
    name: String,
    declared: Option<SchemaRef>,
}

impl Table for MemoryTable {
    fn schema(&self) -> SchemaRef {
        let written = || stored(&self.name).lock().schema.clone();
        self.declared.clone().or_else(written).unwrap_or_else(|| Arc::new(Schema::empty()))
    }

    fn source(&self, _request: SourceRequest) -> Result<Box<dyn Source>> {
        Err(write_only(&self.name, "memory").help("read it without STREAM"))
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        let table = stored(&self.name);
        {
            let mut table = table.lock();
            let differs = table.schema.as_ref().is_some_and(|known| !same_columns(known, &request.schema));
            if differs && !table.batches.is_empty() {
                return Err(EngineError::config(format!(
                    "table {} (USING memory) has rows with other columns",
                    self.name
                ))
                .help("choose another name for the result"));
            }
            table.schema = Some(SchemaRef::clone(&request.schema));
        }
        Ok(Box::new(MemorySink { name: self.name.clone(), table, request, batch: None }))
    }

    fn output_modes(&self) -> &[OutputMode] {
        ALL_MODES
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        let table = stored(&self.name);
        let open = move |projection: &[usize]| {
            let batches =
                table.lock().batches.iter().map(|batch| batch.project(projection)).collect::<Result<Vec<_>, _>>()?;
            let reader: Box<dyn PartitionReader> =
                Box::new(MemoryReader { batches: batches.into_iter(), report: ReadReport::default() });
            Ok(vec![reader])
        };
        Ok(Arc::new(ReadersTable::new(&self.name, self.schema(), open)))
    }
}

fn same_columns(a: &Schema, b: &Schema) -> bool {
    let types = |schema: &Schema| -> Vec<_> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    types(a) == types(b)
}

struct MemoryReader {
    batches: std::vec::IntoIter<RecordBatch>,
    report: ReadReport,
}

impl PartitionReader for MemoryReader {
    fn partition(&self) -> &str {
        "memory"
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let batch = self.batches.next();
        self.report.records += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        Ok(batch)
    }

    fn report(&self) -> ReadReport {
        self.report
    }
}

struct MemorySink {
    name: String,
    table: Arc<Mutex<Stored>>,
    request: SinkRequest,
    batch: Option<(BatchId, Vec<RecordBatch>)>,
}

impl Sink for MemorySink {
    fn description(&self) -> String {
        format!("MemorySink[{}]", self.name)
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        let token = self.table.lock().tokens.get(&self.request.query_id).copied();
        // A new process has no rows: the commit log alone knows what happened.
        Ok(token.map_or(SinkToken::Unsupported, SinkToken::Committed))
    }

    fn begin(&mut self, batch_id: BatchId) -> Result<()> {
        self.batch = Some((batch_id, Vec::new()));
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let batch = self.batch.as_mut();
        let (_, batches) =
            batch.ok_or_else(|| EngineError::internal("the memory sink was called outside of a batch"))?;
        batches.push(rows.clone());
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        let Some((batch_id, batches)) = self.batch.take() else { return Ok(CommitReport::default()) };
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut table = self.table.lock();
        if table.tokens.get(&self.request.query_id).is_some_and(|known| *known >= batch_id) {
            return Ok(CommitReport { rows });
        }
        match self.request.output_mode {
            OutputMode::Append => table.batches.extend(batches),
            OutputMode::Complete => table.batches = batches,
            OutputMode::Update => table.batches = upsert(&table.batches, &batches, &self.request.key_columns)?,
        }
        table.tokens.insert(self.request.query_id.clone(), batch_id);
        Ok(CommitReport { rows })
    }

    fn abort(&mut self) -> Result<()> {
        self.batch = None;
        Ok(())
    }
}

/// `old` without the keys of `new`, then the last row of each key of `new`. Without keys all rows are kept.
fn upsert(old: &[RecordBatch], new: &[RecordBatch], key_columns: &[String]) -> Result<Vec<RecordBatch>> {
    if key_columns.is_empty() {
        return Ok(old.iter().chain(new).cloned().collect());
    }
    let mut kept: Vec<RecordBatch> = Vec::new();
    let mut keys = Keys::default();
    for batch in new.iter().rev() {
        kept.push(keys.keep_unknown(batch, key_columns, true)?);
    }
    kept.reverse();
    let mut result = Vec::new();
    for batch in old {
        result.push(keys.keep_unknown(batch, key_columns, false)?);
    }
    result.extend(kept);
    result.retain(|batch| batch.num_rows() > 0);
    Ok(result)
}

/// The keys seen so far, as comparable bytes.
#[derive(Default)]
pub(crate) struct Keys {
    converter: Option<(Vec<DataType>, RowConverter)>,
    known: std::collections::HashSet<OwnedRow>,
}

impl Keys {
    /// The rows whose keys are not known, the last of each key; with `learn` they are known from then on.
    pub(crate) fn keep_unknown(
        &mut self,
        batch: &RecordBatch,
        key_columns: &[String],
        learn: bool,
    ) -> Result<RecordBatch> {
        let mask = self.unknown(batch, key_columns, learn)?;
        if mask.true_count() == batch.num_rows() {
            return Ok(batch.clone());
        }
        Ok(filter_record_batch(batch, &mask)?)
    }

    /// Which rows have keys that are not known.
    pub(crate) fn unknown(&mut self, batch: &RecordBatch, key_columns: &[String], learn: bool) -> Result<BooleanArray> {
        let columns = key_columns
            .iter()
            .map(|name| Ok(Arc::clone(batch.column(batch.schema_ref().index_of(name)?))))
            .collect::<Result<Vec<_>>>()?;
        let (types, converter) = match &mut self.converter {
            Some(converter) => converter,
            empty => {
                let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
                let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
                empty.insert((types, RowConverter::new(fields)?))
            }
        };
        // Files may hold the same type with other nullability inside.
        let columns = columns.iter().zip(&*types).map(|(column, data_type)| cast(column, data_type));
        let rows = converter.convert_columns(&columns.collect::<Result<Vec<_>, _>>()?)?;
        let mut mask = vec![true; batch.num_rows()];
        for (row, keep) in mask.iter_mut().enumerate().rev() {
            let key = rows.row(row).owned();
            *keep = if learn { self.known.insert(key) } else { !self.known.contains(&key) };
        }
        Ok(BooleanArray::from(mask))
    }
}
