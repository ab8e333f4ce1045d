//! Tables in memory: a list of batches to read as a stream, and what a query wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::datasource::{MemTable, TableType};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::{Condvar, Mutex};

use crate::error::{EngineError, Result};
use crate::plan::catalog::{Connector, Table, TableDefinition};
use crate::sink::{BatchId, CommitReport, OutputMode, Sink, SinkRequest, SinkToken};
use crate::source::{
    Offset, OffsetRange, PartitionReader, ReadReport, Source, SourceRequest, TailReader, TailRows, Unread,
};

/// The connector `test`: one table for each name, shared by all that ask for it.
#[derive(Debug, Default, Clone)]
pub struct MemoryConnector {
    tables: Arc<Mutex<BTreeMap<String, MemoryTable>>>,
}

/// A table in memory.
#[derive(Debug, Clone)]
pub struct MemoryTable {
    schema: SchemaRef,
    content: Arc<Mutex<Content>>,
    /// Rung when there is more input.
    added: Arc<Condvar>,
    /// Batches of the source in one micro-batch; all there are if none.
    batches_per_trigger: Option<usize>,
    /// Rows of the source in one batch in real time; any number if none.
    rows_in_real_time: Option<u64>,
    reading: StaticReading,
}

/// How a table answers when it is read as a static one.
#[derive(Debug, Clone, Default)]
struct StaticReading {
    /// Each read sees one batch more than the one before it, beginning with one.
    grows: bool,
    /// Which reads fail, counted from 1.
    fails: Vec<usize>,
    /// Whether filters are heeded, as by a database.
    filters: bool,
    /// Which reads wait, counted from 1: until the next one has begun, or the table is told to release them.
    held: Vec<usize>,
}

#[derive(Debug, Default)]
struct Content {
    /// The batches of the source: partition and rows.
    input: Vec<(String, RecordBatch)>,
    /// Committed rows with the batch they came with.
    output: Vec<(BatchId, RecordBatch)>,
    tokens: BTreeMap<String, BatchId>,
    /// What the newest query that writes here asked for.
    request: Option<SinkRequest>,
    /// How often it was read as a static table.
    reads: usize,
    /// How often it was asked for what there is to read.
    asked: usize,
    /// Whether reads that wait may go on.
    is_released: bool,
    /// The filters of these reads.
    filters: Vec<String>,
}

impl MemoryConnector {
    /// The table of that name, once a program has named it.
    pub fn get(&self, name: &str) -> Option<MemoryTable> {
        self.tables.lock().get(name).cloned()
    }
}

impl Connector for MemoryConnector {
    fn format(&self) -> &str {
        "test"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let mut reader = definition.options.reader(format!("table {} (USING test)", definition.name));
        let batches_per_trigger = reader.parsed("batchesPerTrigger", "a whole number")?;
        let rows_in_real_time = reader.parsed("rowsInRealTime", "a whole number")?;
        let reading = StaticReading {
            grows: reader.flag("growsOnRead", false)?,
            fails: numbers(reader.text("failingReads")),
            filters: reader.flag("filters", false)?,
            held: numbers(reader.text("heldReads")),
        };
        reader.finish()?;
        let mut tables = self.tables.lock();
        let known = tables.get(&definition.name);
        let content = known.map(|table| Arc::clone(&table.content)).unwrap_or_default();
        // Whoever has the table from before wakes those that wait on it now.
        let added = known.map(|table| Arc::clone(&table.added)).unwrap_or_default();
        let schema = definition.schema.clone().unwrap_or_else(|| Arc::new(Schema::empty()));
        let table = MemoryTable { schema, content, added, batches_per_trigger, rows_in_real_time, reading };
        tables.insert(definition.name.clone(), table.clone());
        Ok(Arc::new(table))
    }
}

/// Whole numbers between commas.
fn numbers(text: Option<&str>) -> Vec<usize> {
    text.unwrap_or_default().split(',').filter_map(|number| number.trim().parse().ok()).collect()
}

/// How long a read is held before it says that nothing happened.
const HELD: Duration = Duration::from_secs(30);

impl MemoryTable {
    /// Lets go the reads that wait.
    pub fn release(&self) {
        self.content.lock().is_released = true;
        self.added.notify_all();
    }

    /// Waits if the read of this number is held; an error if nothing ends that.
    fn hold(&self, number: usize) -> DfResult<()> {
        let mut content = self.content.lock();
        while self.reading.held.contains(&number) && content.reads == number && !content.is_released {
            if self.added.wait_for(&mut content, HELD).timed_out() {
                let error = EngineError::unavailable("a read was held, and nothing else went on meanwhile");
                return Err(DataFusionError::External(Box::new(error)));
            }
        }
        Ok(())
    }

    /// Takes back what a batch wrote, as if its commit had not come to pass.
    pub fn take_back(&self, batch: BatchId) {
        let mut content = self.content.lock();
        content.output.retain(|(of, _)| *of != batch);
        let is_of = |newest: &BatchId| *newest == batch;
        match batch.checked_sub(1) {
            Some(before) => {
                content.tokens.values_mut().filter(|newest| is_of(newest)).for_each(|newest| *newest = before)
            }
            None => content.tokens.retain(|_, newest| !is_of(newest)),
        }
    }

    /// Adds rows to the source.
    pub fn add(&self, partition: &str, rows: RecordBatch) {
        self.content.lock().input.push((partition.to_owned(), rows));
        self.added.notify_all();
    }

    /// How many batches were added.
    pub fn input_len(&self) -> usize {
        self.content.lock().input.len()
    }

    /// A batch that was added.
    pub fn input(&self, at: usize) -> RecordBatch {
        self.content.lock().input[at].1.clone()
    }

    /// The columns.
    pub fn columns(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// What was written, with the batch it came with.
    pub fn written(&self) -> Vec<(BatchId, RecordBatch)> {
        self.content.lock().output.clone()
    }

    /// How often it was read as a static table.
    pub fn reads(&self) -> usize {
        self.content.lock().reads
    }

    /// How often it was asked for what there is to read.
    pub fn asked(&self) -> usize {
        self.content.lock().asked
    }

    /// The filters that the reads as a static table came with.
    pub fn filters(&self) -> Vec<String> {
        self.content.lock().filters.clone()
    }

    /// What the newest query that writes here asked for.
    pub fn request(&self) -> Option<SinkRequest> {
        self.content.lock().request.clone()
    }
}

impl Table for MemoryTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn source(&self, request: SourceRequest) -> Result<Box<dyn Source>> {
        Ok(Box::new(MemorySource { table: self.clone(), projection: request.projection }))
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        self.content.lock().request = Some(request.clone());
        Ok(Box::new(MemorySink { table: self.clone(), request, staged: Vec::new(), batch: 0 }))
    }

    fn output_modes(&self) -> &[OutputMode] {
        &[OutputMode::Append, OutputMode::Update, OutputMode::Complete]
    }

    fn takes_deletes(&self) -> bool {
        true
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(StaticMemory(self.clone())))
    }
}

/// A table as it is when it is read.
#[derive(Debug)]
struct StaticMemory(MemoryTable);

#[async_trait]
impl TableProvider for StaticMemory {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let answer = if self.0.reading.filters {
            TableProviderFilterPushDown::Inexact
        } else {
            TableProviderFilterPushDown::Unsupported
        };
        Ok(vec![answer; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (number, rows): (usize, Vec<RecordBatch>) = {
            let mut content = self.0.content.lock();
            content.reads += 1;
            self.0.added.notify_all();
            content.filters.extend(filters.iter().map(|filter| filter.human_display().to_string()));
            if self.0.reading.fails.contains(&content.reads) {
                let error = EngineError::unavailable("the table does not answer");
                return Err(DataFusionError::External(Box::new(error)));
            }
            let seen = if self.0.reading.grows { content.reads } else { usize::MAX };
            (content.reads, content.input.iter().take(seen).map(|(_, rows)| rows.clone()).collect())
        };
        self.0.hold(number)?;
        let table = MemTable::try_new(Arc::clone(&self.0.schema), vec![rows])?;
        table.scan(state, projection, &[], limit).await
    }
}

struct MemorySource {
    table: MemoryTable,
    projection: Vec<usize>,
}

fn position(offset: &Offset) -> usize {
    offset.0.as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or(0)
}

fn offset(at: usize) -> Offset {
    Offset(serde_json::json!(at))
}

impl Source for MemorySource {
    fn description(&self) -> String {
        "MemorySource".to_owned()
    }

    fn initial_offset(&mut self) -> Result<Offset> {
        Ok(offset(0))
    }

    fn latest_offset(&mut self) -> Result<Offset> {
        Ok(offset(self.table.content.lock().input.len()))
    }

    fn plan_batch(&mut self, start: &Offset, until: Option<&Offset>) -> Result<Offset> {
        let end = until.map_or_else(|| self.table.content.lock().input.len(), position);
        let limit = self.table.batches_per_trigger.map_or(end, |limit| position(start) + limit);
        Ok(offset(end.min(limit)))
    }

    fn amount(&mut self, range: &OffsetRange) -> Result<Option<u64>> {
        Ok(Some((position(&range.end) - position(&range.start)) as u64))
    }

    fn read(&mut self, range: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>> {
        let content = self.table.content.lock();
        let rows = content.input.get(position(&range.start)..position(&range.end)).ok_or_else(|| {
            EngineError::data(format!("the test source has no range {} to {}", range.start, range.end))
        })?;
        let mut readers: BTreeMap<String, MemoryReader> = BTreeMap::new();
        for (partition, rows) in rows {
            let new = || MemoryReader { partition: partition.clone(), rows: Vec::new(), report: ReadReport::default() };
            readers.entry(partition.clone()).or_insert_with(new).rows.push(rows.project(&self.projection)?);
        }
        readers.values_mut().for_each(|reader| reader.rows.reverse());
        Ok(readers.into_values().map(|reader| Box::new(reader) as Box<dyn PartitionReader>).collect())
    }

    fn follow(&mut self, start: &Offset, known: &BTreeSet<String>) -> Result<Option<Vec<Box<dyn TailReader>>>> {
        if self.table.content.lock().input.iter().any(|(partition, _)| partition != TAIL) {
            return Ok(None);
        }
        let tail = MemoryTail { table: self.table.clone(), projection: self.projection.clone(), next: position(start) };
        Ok(Some(if known.is_empty() { vec![Box::new(tail)] } else { Vec::new() }))
    }

    fn follow_limit(&self) -> Option<u64> {
        self.table.rows_in_real_time
    }

    fn followed(&mut self, start: &Offset, ends: &BTreeMap<String, i64>) -> Result<Offset> {
        Ok(ends.get(TAIL).map_or_else(|| start.clone(), |end| Offset(serde_json::json!(end))))
    }

    fn unread(&mut self, from: &Offset) -> Result<Unread> {
        let mut content = self.table.content.lock();
        content.asked += 1;
        let partitions = content.input.iter().skip(position(from)).map(|(partition, _)| partition.clone()).collect();
        Ok(Unread { partitions, backlog: None })
    }
}

/// The only partition a table may have that is followed: all partitions share one position.
const TAIL: &str = "0";

struct MemoryTail {
    table: MemoryTable,
    projection: Vec<usize>,
    next: usize,
}

impl TailReader for MemoryTail {
    fn partition(&self) -> &str {
        TAIL
    }

    fn next(&mut self) -> Result<Option<TailRows>> {
        let mut content = self.table.content.lock();
        if content.input.len() <= self.next {
            self.table.added.wait_for(&mut content, Duration::from_millis(10));
        }
        let Some((partition, rows)) = content.input.get(self.next) else { return Ok(None) };
        if partition != TAIL {
            return Err(EngineError::internal("a test table that is followed has got a second partition"));
        }
        self.next += 1;
        let report = ReadReport { records: rows.num_rows() as u64, ..ReadReport::default() };
        let end = i64::try_from(self.next).unwrap_or(i64::MAX);
        Ok(Some(TailRows { rows: rows.project(&self.projection)?, end, report, dead_letters: Vec::new() }))
    }
}

struct MemoryReader {
    partition: String,
    /// Last first.
    rows: Vec<RecordBatch>,
    report: ReadReport,
}

impl PartitionReader for MemoryReader {
    fn partition(&self) -> &str {
        &self.partition
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let rows = self.rows.pop();
        self.report.records += rows.as_ref().map_or(0, |rows| rows.num_rows() as u64);
        Ok(rows)
    }

    fn report(&self) -> ReadReport {
        self.report
    }
}

struct MemorySink {
    table: MemoryTable,
    request: SinkRequest,
    staged: Vec<RecordBatch>,
    batch: BatchId,
}

impl Sink for MemorySink {
    fn description(&self) -> String {
        "MemorySink".to_owned()
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        let content = self.table.content.lock();
        Ok(content.tokens.get(&self.request.query_id).map_or(SinkToken::None, |batch| SinkToken::Committed(*batch)))
    }

    fn begin(&mut self, batch_id: BatchId) -> Result<()> {
        self.staged.clear();
        self.batch = batch_id;
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.staged.push(rows.clone());
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        let mut content = self.table.content.lock();
        if self.request.output_mode == OutputMode::Complete {
            content.output.clear();
        }
        let rows = self.staged.iter().map(|rows| rows.num_rows() as u64).sum();
        content.output.extend(self.staged.drain(..).map(|rows| (self.batch, rows)));
        content.tokens.insert(self.request.query_id.clone(), self.batch);
        Ok(CommitReport { rows })
    }

    fn abort(&mut self) -> Result<()> {
        self.staged.clear();
        Ok(())
    }
}

/// The console of a script: keeps what queries on their own would show, by their name.
pub(super) struct Console(pub(super) MemoryConnector);

impl Connector for Console {
    fn format(&self) -> &str {
        "console"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        self.0.table(definition)
    }
}
