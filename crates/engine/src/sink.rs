//! Where results go: a [`Sink`] takes the rows of a batch and makes them visible in one step.
//!
//! ```text
//!   begin(N) ── write* ── prepare (durable, invisible) ── [state, changelog N] ── commit (visible, with token N)
//! ```
//!
//! The sink is the authority on what happened: it stores (query id, batch id) atomically with the data and is asked
//! for that token at every start. A batch whose token is there is never written again; a batch that is replayed has
//! the same rows. A sink never decides which batch is next.

use std::fmt;
use std::str::FromStr;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};

/// The number of a batch within a query: 0, 1, 2, ... It stands for one fixed set of offset ranges for ever.
pub type BatchId = u64;

/// What the rows of a batch mean, in Spark's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputMode {
    /// Rows that will never change.
    Append,
    /// New values of the keys that changed.
    Update,
    /// The whole result table.
    Complete,
}

impl fmt::Display for OutputMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::Update => "update",
            Self::Complete => "complete",
        })
    }
}

impl FromStr for OutputMode {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "append" => Ok(Self::Append),
            "update" => Ok(Self::Update),
            "complete" => Ok(Self::Complete),
            _ => Err(EngineError::config(format!("output mode '{text}' is not one of append, update, complete"))),
        }
    }
}

/// What the planner tells a table when it opens it as a sink.
#[derive(Debug, Clone)]
pub struct SinkRequest {
    /// The query's lasting identity (from the checkpoint's `metadata`), the first half of the token.
    pub query_id: String,
    /// The query's name, for messages and for what readers of the sink see.
    pub query_name: String,
    /// Columns of every batch that will be written.
    pub schema: SchemaRef,
    /// How rows replace each other.
    pub output_mode: OutputMode,
    /// The columns that identify a row in update mode (the query's grouping columns); empty if there are none.
    pub key_columns: Vec<String>,
    /// Whether rows can also go: batches then have one more column, [`DELETED`], behind those of `schema`. Only asked
    /// of a table that [takes deletes](crate::plan::catalog::Table::takes_deletes), in update mode with keys.
    pub deletes: bool,
}

/// A BOOLEAN column: whether the row of these keys is gone. It is no column of the table.
pub const DELETED: &str = "__highwater_deleted";

/// The rows of a batch of a request with `deletes`, without the column that says which of them are gone; and which.
pub fn split_deleted(batch: &RecordBatch) -> Result<(RecordBatch, BooleanArray)> {
    let at = batch.schema_ref().index_of(DELETED)?;
    let deleted = batch
        .column(at)
        .as_boolean_opt()
        .cloned()
        .ok_or_else(|| EngineError::internal(format!("column {DELETED} is not BOOLEAN")))?;
    let mut rows = batch.clone();
    rows.remove_column(at);
    Ok((rows, deleted))
}

/// The rows of a batch that are not gone.
pub fn without_deleted(batch: &RecordBatch) -> Result<RecordBatch> {
    let (rows, deleted) = split_deleted(batch)?;
    Ok(filter_record_batch(&rows, &not(&deleted)?)?)
}

/// What a sink knows of the batches of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkToken {
    /// The sink keeps tokens and has none of this query yet.
    None,
    /// The sink keeps tokens for a time, and has none of this query: it has none yet, or the query rested for longer.
    NoneLeft,
    /// The newest batch of this query that is visible in the sink.
    Committed(BatchId),
    /// The sink keeps no tokens (console, memory of a process that is gone): the commit log decides, and a replayed
    /// batch appears again.
    Unsupported,
}

/// What a commit made visible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Rows of the batch.
    pub rows: u64,
}

/// A place results go to. Calls come in the order of the module's diagram, from one thread, and block.
pub trait Sink: Send {
    /// Name for progress and logs, e.g. `DeltaSink[/data/alerts]`.
    fn description(&self) -> String;

    /// Whether written rows are seen before their batch is committed: at least once, for the lowest latency.
    fn is_immediate(&self) -> bool {
        false
    }

    /// The newest batch of this query that is already visible. Asked once at start; a sink cleans up what an
    /// earlier run left half written when it is asked.
    fn last_committed(&mut self) -> Result<SinkToken>;

    /// Starts a batch; whatever was written and not committed before is forgotten.
    fn begin(&mut self, batch_id: BatchId) -> Result<()>;

    /// Takes rows of the batch.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// Makes the rows durable but not visible, as far as the outside system can.
    fn prepare(&mut self) -> Result<()>;

    /// Makes the rows and the token visible in one step.
    fn commit(&mut self) -> Result<CommitReport>;

    /// Gives the batch up; nothing of it may ever be seen.
    fn abort(&mut self) -> Result<()>;
}
