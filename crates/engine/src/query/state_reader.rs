//! The state of a query read by somebody else: from its checkpoint, at a batch, also while the query runs.
//!
//! ```text
//!   state/tables ──> operators, their tables      snapshot + changelogs ──restore──> a folder of its own, removed after
//!        └────────────────────────────────> columns <── rows ──────────────────────────────┘
//! ```
//!
//! Only what is committed can be seen: the reader takes the newest committed batch unless it is told another. It takes
//! no lock and writes nothing into the checkpoint. A running query may remove, while it is being read, what it needs no
//! more, and a query that is changed and started says that its tables mean something else; then reading begins again with
//! what is the newest by then.
//!
//! What the tables mean is one file, so that columns and the layouts of rows are always of one query. A rebuild makes
//! tables of another meaning: they are described as from its first batch on, and the older description stays beside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointDir, CommitLog, Metadata, STATE, text};
use crate::error::{EngineError, Result, nearest};
use crate::operator::layout::History;
use crate::operator::row_counts::rows_of_table;
use crate::operator::state_table::{StateLayout, StateTable};
use crate::plan::streaming::OperatorStage;
use crate::sink::BatchId;
use crate::state::key::SHARDS;
use crate::state::{StateSettings, StateStore, StateVersions};

const FILE: &str = "tables";

/// How often reading begins again when a running query removed what was being read.
const ATTEMPTS: usize = 3;

/// An operator as the checkpoint describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredOperator {
    id: String,
    operator_name: String,
    tables: Vec<StateTable>,
    /// The first batch whose state this is; later lines of the file are of later batches.
    #[serde(default, skip_serializing_if = "is_zero")]
    since_batch: BatchId,
    /// The layouts its rows may be in, if there are several kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layouts: Option<History>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(batch: &BatchId) -> bool {
    *batch == 0
}

/// Writes down what the tables of a query's operators mean, if the checkpoint does not say so yet: from a batch on, or in
/// place of what the newest description says.
pub(super) fn write_tables(
    stages: &[OperatorStage],
    histories: &BTreeMap<String, History>,
    since: Option<BatchId>,
    checkpoint: &CheckpointDir,
) -> Result<()> {
    let name = file_name();
    let known = checkpoint.store().read(&name)?;
    let mut operators = match &known {
        Some(bytes) => parse_tables(&checkpoint.store().address(&name), bytes)?,
        None => Vec::new(),
    };
    let newest = operators.last().map_or(0, |operator| operator.since_batch);
    let since_batch = since.unwrap_or(newest);
    operators.retain(|operator| operator.since_batch < since_batch);
    keep_newest(&mut operators);
    for stage in stages {
        let (id, tables) = (stage.spec.id().to_owned(), stage.spec.state_tables()?);
        let (operator_name, layouts) = (stage.spec.spark_name().to_owned(), histories.get(&id).cloned());
        operators.push(StoredOperator { id, operator_name, tables, since_batch, layouts });
    }
    let lines = operators.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
    let lines = lines.map_err(|error| EngineError::internal("the tables of the state").caused_by(error))?;
    let bytes = text::encode(&lines);
    if known.is_some_and(|known| known == bytes) {
        return Ok(());
    }
    checkpoint.writable()?.replace(&name, &bytes)
}

/// Leaves what the newest few descriptions say: of older batches there is no state any more.
fn keep_newest(operators: &mut Vec<StoredOperator>) {
    const DESCRIPTIONS: usize = 4;
    let since: BTreeSet<BatchId> = operators.iter().map(|operator| operator.since_batch).collect();
    let oldest = since.iter().rev().nth(DESCRIPTIONS - 1).copied().unwrap_or(0);
    operators.retain(|operator| operator.since_batch >= oldest);
}

fn parse_tables(address: &str, bytes: &[u8]) -> Result<Vec<StoredOperator>> {
    let operator =
        |line: &String| serde_json::from_str(line).map_err(|error| text::damaged(address, &error.to_string()));
    text::decode(address, bytes)?.iter().map(operator).collect()
}

/// What a checkpoint says of its tables; compared, to see whether it is still the same.
#[derive(PartialEq, Eq)]
struct Description(Option<Vec<u8>>);

impl Description {
    fn read(checkpoint: &CheckpointDir) -> Result<Self> {
        checkpoint.store().read(&file_name()).map(Self)
    }

    fn none(checkpoint: &CheckpointDir, query: &str) -> EngineError {
        EngineError::config(format!("query '{query}' has no state in checkpoint '{}'", checkpoint.location()))
            .help("only queries that group, join, deduplicate or limit keep state; see highwater explain")
    }

    /// The operators whose state there is after a batch.
    fn operators(&self, checkpoint: &CheckpointDir, query: &str, batch: BatchId) -> Result<Vec<StoredOperator>> {
        let Some(bytes) = &self.0 else { return Err(Self::none(checkpoint, query)) };
        let mut operators = parse_tables(&checkpoint.store().address(&file_name()), bytes)?;
        let since = operators.iter().map(|operator| operator.since_batch).filter(|since| *since <= batch).max();
        let Some(since) = since else {
            let message = format!("the state of query '{query}' after batch {batch} is that of an earlier query");
            return Err(EngineError::config(message).help("read that of a later batch"));
        };
        operators.retain(|operator| operator.since_batch == since);
        // Earlier versions wrote the layouts down elsewhere only.
        if operators.iter().any(|operator| operator.layouts.is_none()) {
            let known = Metadata::read(checkpoint)?.map(|metadata| metadata.layouts).unwrap_or_default();
            for operator in operators.iter_mut().filter(|operator| operator.layouts.is_none()) {
                operator.layouts = known.get(&operator.id).cloned();
            }
        }
        for operator in &mut operators {
            let history = operator.layouts.clone().map(Arc::new);
            for (at, table) in operator.tables.iter_mut().enumerate() {
                table.history = history.clone().map(|history| (history, at));
            }
        }
        Ok(operators)
    }
}

fn file_name() -> String {
    format!("{STATE}/{FILE}")
}

/// A table of state in one line; the names are those of Spark's `state-metadata`, where it has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateTableSummary {
    /// The place of the operator in the query.
    pub operator_id: u64,
    /// The operator's lasting name.
    pub operator: String,
    /// What Spark calls such an operator.
    pub operator_name: String,
    /// The table's lasting name.
    pub state_store_name: String,
    /// Into how many parts its keys are dealt.
    pub num_partitions: u64,
    /// The oldest batch whose state can be read.
    pub min_batch_id: BatchId,
    /// The newest.
    pub max_batch_id: BatchId,
    /// Rows after the batch that is read.
    pub rows: u64,
    /// Their bytes in files, compressed.
    pub size_bytes: u64,
}

/// The state of a query after a batch.
pub struct StateReader {
    query: String,
    operators: Vec<StoredOperator>,
    batch: BatchId,
    readable: (BatchId, BatchId),
    store: StateStore,
    _folder: Folder,
}

/// Where the state is restored to; removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(folder = %self.0.display(), %error, "restored state was not removed");
        }
    }
}

impl StateReader {
    /// The state of `query` after `batch`, or after its newest committed batch.
    pub fn open(checkpoint: &CheckpointDir, query: &str, batch: Option<BatchId>) -> Result<Self> {
        Self::open_while(checkpoint, query, batch, &mut || {})
    }

    /// The same; `meanwhile` is what others do after the tables were described and before their rows are there.
    pub(super) fn open_while(
        checkpoint: &CheckpointDir,
        query: &str,
        batch: Option<BatchId>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let description = Description::read(checkpoint)?;
            meanwhile();
            let read = Self::restore(checkpoint, query, batch, &description);
            let is_moved = matches!(read, Err(EngineError::Data(_))) && batch.is_none();
            // What was read is of the query that was described only if that is still the one.
            if attempt < ATTEMPTS && (is_moved || Description::read(checkpoint)? != description) {
                attempt += 1;
                continue;
            }
            return read;
        }
    }

    fn restore(
        checkpoint: &CheckpointDir,
        query: &str,
        batch: Option<BatchId>,
        description: &Description,
    ) -> Result<Self> {
        if description.0.is_none() {
            return Err(Description::none(checkpoint, query));
        }
        let (batch, readable) = choose(checkpoint, query, batch)?;
        let operators = description.operators(checkpoint, query, batch)?;
        let folder = Folder(std::env::temp_dir().join(format!("highwater-state-{}", uuid::Uuid::new_v4().simple())));
        let tables = operators.iter().flat_map(|operator| &operator.tables).map(|table| table.store.clone());
        let tables: Vec<String> = tables.collect();
        let (store, _) = StateStore::open(&StateSettings::default(), checkpoint, &folder.0, &tables, Some(batch))?;
        Ok(Self { query: query.to_owned(), operators, batch, readable, store, _folder: folder })
    }

    /// The batch after which.
    pub fn batch(&self) -> BatchId {
        self.batch
    }

    fn tables(&self) -> impl Iterator<Item = (usize, &StoredOperator, &StateTable)> {
        self.operators
            .iter()
            .enumerate()
            .flat_map(|(at, operator)| operator.tables.iter().map(move |table| (at, operator, table)))
    }

    /// The tables there are.
    pub fn list(&self) -> Result<Vec<StateTableSummary>> {
        self.store.flush()?;
        let sizes = self.store.metrics().operators;
        let mut summaries = Vec::new();
        for (at, (id, operator, table)) in self.tables().enumerate() {
            let mut rows = rows_of_table(&self.store, at)?;
            if matches!(table.layout, StateLayout::Count) {
                table.read(&self.store, at, None, |batch| rows += batch.num_rows() as u64)?;
            }
            summaries.push(StateTableSummary {
                operator_id: id as u64,
                operator: operator.id.clone(),
                operator_name: operator.operator_name.clone(),
                state_store_name: table.store.clone(),
                num_partitions: SHARDS as u64,
                min_batch_id: self.readable.0,
                max_batch_id: self.readable.1,
                rows,
                size_bytes: sizes.get(at).map_or(0, |size| size.size_bytes),
            });
        }
        Ok(summaries)
    }

    /// The columns of a table, and its rows, at most `limit` of them. A table is named as in the list, by its own name,
    /// or by its operator where that has one alone.
    pub fn read(&self, name: &str, limit: Option<usize>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let at = self.find(name)?;
        let Some((_, _, table)) = self.tables().nth(at) else { return Err(EngineError::internal("a table of state")) };
        let mut batches = Vec::new();
        if limit != Some(0) {
            table.read(&self.store, at, limit, |rows| batches.push(rows))?;
        }
        Ok((table.schema(), batches))
    }

    fn find(&self, name: &str) -> Result<usize> {
        if let Some(at) = self.tables().position(|(_, _, table)| table.store.eq_ignore_ascii_case(name)) {
            return Ok(at);
        }
        let is_of = |(id, operator, _): &(usize, &StoredOperator, &StateTable)| {
            operator.id.eq_ignore_ascii_case(name) || id.to_string() == name
        };
        let of_operator: Vec<usize> =
            self.tables().enumerate().filter(|(_, table)| is_of(table)).map(|(at, _)| at).collect();
        let stores: Vec<&str> = self.tables().map(|(_, _, table)| table.store.as_str()).collect();
        match of_operator.as_slice() {
            [at] => Ok(*at),
            [] => {
                let error = EngineError::config(format!("query '{}' has no operator '{name}' with state", self.query));
                Err(match nearest(name, stores.iter().copied()) {
                    Some(near) => error.help(format!("did you mean '{near}'?")),
                    None if stores.is_empty() => error.help("none of its operators has state that can be shown"),
                    None => error.help(format!("there are: {}", stores.join(", "))),
                })
            }
            several => {
                let names: Vec<&str> = several.iter().filter_map(|at| stores.get(*at).copied()).collect();
                Err(EngineError::config(format!("operator '{name}' of query '{}' has several tables", self.query))
                    .help(format!("name one of them: {}", names.join(", "))))
            }
        }
    }

    /// For `state('query', 'operator')`: a table of state, or the list of tables.
    pub(super) fn provider(reader: Arc<Self>, operator: Option<&str>) -> Result<Arc<dyn TableProvider>> {
        let Some(operator) = operator else {
            let rows = list_rows(&reader.list()?)?;
            return Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?));
        };
        let (schema, _) = reader.read(operator, Some(0))?;
        Ok(Arc::new(StateProvider { reader, operator: operator.to_owned(), schema }))
    }
}

/// The list of tables as rows.
fn list_rows(list: &[StateTableSummary]) -> Result<RecordBatch> {
    let text =
        |of: fn(&StateTableSummary) -> &str| Arc::new(StringArray::from_iter_values(list.iter().map(of))) as ArrayRef;
    let number = |of: fn(&StateTableSummary) -> u64| {
        let numbers = list.iter().map(|table| i64::try_from(of(table)).unwrap_or(i64::MAX));
        Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef
    };
    let columns = [
        ("operatorId", number(|table| table.operator_id)),
        ("operator", text(|table| &table.operator)),
        ("operatorName", text(|table| &table.operator_name)),
        ("stateStoreName", text(|table| &table.state_store_name)),
        ("numPartitions", number(|table| table.num_partitions)),
        ("minBatchId", number(|table| table.min_batch_id)),
        ("maxBatchId", number(|table| table.max_batch_id)),
        ("rows", number(|table| table.rows)),
        ("sizeBytes", number(|table| table.size_bytes)),
    ];
    let kind = |column: &ArrayRef| -> DataType { column.data_type().clone() };
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, kind(column), false)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())?)
}

/// The batch to read, and the first and the last that can be.
fn choose(checkpoint: &CheckpointDir, query: &str, batch: Option<BatchId>) -> Result<(BatchId, (BatchId, BatchId))> {
    let versions = StateVersions::read(checkpoint)?;
    let committed = CommitLog::open(checkpoint)?.latest_id();
    let known = versions.changelogs.keys().chain(versions.snapshots.keys());
    let is_readable = |version: &BatchId| Some(*version) <= committed && versions.restore_path(*version).is_ok();
    let readable: BTreeSet<BatchId> = known.copied().filter(is_readable).collect();
    let (Some(first), Some(last)) = (readable.first().copied(), readable.last().copied()) else {
        let location = checkpoint.location();
        return Err(EngineError::config(format!("query '{query}' has committed no batch in checkpoint '{location}'"))
            .help("its state can be read after its first batch"));
    };
    match batch {
        Some(batch) if !readable.contains(&batch) => Err(EngineError::config(format!(
            "the state of query '{query}' after batch {batch} is not in checkpoint '{}'",
            checkpoint.location()
        ))
        .help(format!("there is that of batches {first} to {last}"))),
        batch => Ok((batch.unwrap_or(last), (first, last))),
    }
}

/// A table of state as DataFusion sees it: read when it is asked for, no further than it is asked for.
struct StateProvider {
    reader: Arc<StateReader>,
    operator: String,
    schema: SchemaRef,
}

impl fmt::Debug for StateProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateProvider").field("operator", &self.operator).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for StateProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        // A limit counts what passes the filters, which are not looked at here.
        let limit = limit.filter(|_| filters.is_empty());
        let (schema, rows) =
            self.reader.read(&self.operator, limit).map_err(|error| DataFusionError::External(Box::new(error)))?;
        MemTable::try_new(schema, vec![rows])?.scan(state, projection, filters, limit).await
    }
}
