//! What happens to rows between source and sink.
//!
//! ```text
//!   stateless steps (project, filter, watermark, static join) ──Keyer──> KeyedBatch ┐ by shard
//!                                                          one worker: Operator ────┴─ state ─> RecordBatch ─> steps
//! ```
//!
//! An [`OperatorSpec`] is what the planner found out about a stateful operator; it opens an [`Operator`] for each
//! worker, which owns the state of the shards of that worker. A query is a graph of such operators with stateless
//! steps between them; how batches pass through it stands in `query/batch.rs`.

pub(crate) mod aggregate;
pub(crate) mod cdc;
pub(crate) mod changes;
pub(crate) mod dedup;
pub(crate) mod draws;
pub(crate) mod expand;
pub(crate) mod join;
pub(crate) mod kept_rows;
pub(crate) mod keyed;
pub(crate) mod layout;
pub(crate) mod limit;
pub(crate) mod normal;
pub(crate) mod over;
pub(crate) mod row_counts;
pub(crate) mod state_table;
pub(crate) mod stateless;
pub(crate) mod static_side;
pub(crate) mod stream_join;
pub(crate) mod top;
pub(crate) mod ttl;

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::physical_expr::PhysicalExpr;

use crate::error::Result;
use crate::state::{ChangeSet, StateStore, key};
use changes::Tells;
use keyed::{InputSpec, KeyedBatch};
use layout::{History, Layout};
use state_table::StateTable;
use ttl::Ttl;

pub(crate) type PhysicalExprRef = Arc<dyn PhysicalExpr>;

/// Rows of an emitted batch.
pub(crate) const EMIT_ROWS: usize = 8192;

/// The bucket of state rows that have no time; below [`key::NEVER`], so that ranges of buckets can hold it.
pub(crate) const NO_EXPIRY: i64 = key::NEVER - 1;

/// Takes emitted rows.
pub(crate) type Emit<'a> = dyn FnMut(RecordBatch) -> Result<()> + 'a;

/// What one stateful operator does, as the planner found it.
pub(crate) trait OperatorSpec: fmt::Debug + Send + Sync {
    /// Its lasting name in the checkpoint.
    fn id(&self) -> &str;

    /// What Spark's progress calls such an operator.
    fn spark_name(&self) -> &'static str;

    /// Everything its state rows depend on: equal fingerprints can read each other's state.
    fn fingerprint(&self) -> String;

    /// What its state rows are made of, if they may be in several layouts; without one only an equal fingerprint fits.
    fn layout(&self) -> Result<Option<Layout>> {
        Ok(None)
    }

    /// Its tables in the state store, by lasting name.
    fn stores(&self) -> Vec<String> {
        vec![self.id().to_owned()]
    }

    /// What beside its keys decides which of its rows are kept, as expressions over the rows of its only input.
    fn decides_by(&self) -> Vec<PhysicalExprRef> {
        Vec::new()
    }

    /// How the rows of each input find their state.
    fn inputs(&self) -> Vec<Arc<InputSpec>>;

    /// What keeps its state from growing for ever.
    fn bound(&self) -> StateBound;

    /// Whether a watermark that moves makes it emit or forget rows. As in Spark a batch then follows each move, with
    /// rows or without: rows are late by the watermark of the batch before.
    fn heeds_watermark(&self) -> bool {
        matches!(self.bound(), StateBound::Watermark(_))
    }

    /// Whether it can forget rows by their age: nothing else bounds it, and its rows are kept by no other time.
    fn takes_ttl(&self) -> bool {
        false
    }

    /// Whether it may take back rows it has given, in output mode update.
    fn revises(&self) -> bool {
        false
    }

    /// Whether it can be given rows that are taken back later.
    fn takes_back(&self) -> bool {
        false
    }

    /// What of its rows is told.
    fn tells(&self) -> Tells {
        Tells::Rows
    }

    /// Those of its tables that people can read, and how; none if it keeps that to itself.
    fn state_tables(&self) -> Result<Vec<StateTable>> {
        Ok(Vec::new())
    }

    /// The operator of one worker, with the state that the store has for its shards.
    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>>;
}

/// What keeps the state of an operator from growing for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StateBound {
    /// Rows leave when the watermark has passed them; the text says which moment counts.
    Watermark(String),
    /// It never has more than so many rows.
    Rows(u64),
    /// It keeps for ever what its target needs; the text says what that is.
    Target(&'static str),
    /// Nothing does: it has a row for each key there ever was.
    None,
}

/// Where an operator keeps its state, and which part of it is its own.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) store: Arc<StateStore>,
    /// Its first table in the store; the others follow.
    pub(crate) first_table: usize,
    pub(crate) worker: usize,
    pub(crate) workers: usize,
    /// Memory for the state of this worker, in bytes.
    pub(crate) budget_bytes: usize,
    /// The layouts its rows may be in; none for the one of now alone.
    pub(crate) history: Option<Arc<History>>,
    /// How long its rows are kept.
    pub(crate) ttl: Option<Ttl>,
}

impl Place {
    /// Whether a shard belongs to this worker.
    pub(crate) fn owns(&self, shard: u8) -> bool {
        usize::from(shard) * self.workers / 256 == self.worker
    }

    /// The first and the last shard of this worker, of which there are no more than shards.
    pub(crate) fn shards(&self) -> (u8, u8) {
        let of_worker = |worker: usize| (worker * key::SHARDS).div_ceil(self.workers);
        let last = of_worker(self.worker + 1).saturating_sub(1);
        (u8::try_from(of_worker(self.worker)).unwrap_or(u8::MAX), u8::try_from(last).unwrap_or(u8::MAX))
    }

    /// A set for changes of a batch; what there is no room for is on the disk.
    pub(crate) fn change_set(&self) -> ChangeSet {
        self.store.change_set(self.budget_bytes / CHANGES_PART)
    }
}

/// Which part of the memory for state a set of changes may take beside it.
pub(crate) const CHANGES_PART: usize = 16;

/// What the end of a batch tells, of an operator whose rows may be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum AtEnd {
    /// What the output mode asks for.
    #[default]
    Changes,
    /// All rows there are, in output modes update and complete.
    Everything,
    /// Nothing: all of it is told at the end of a later batch.
    Nothing,
}

/// One worker's share of a stateful operator.
pub(crate) trait Operator: Send {
    /// Begins a batch of this processing time, the offset log's: forgets what is over by then.
    fn begin_batch(&mut self, time_us: i64) -> Result<()> {
        let _ = time_us;
        Ok(())
    }

    /// Says what the end of the batch that begins now is to tell; asked of operators that take back rows alone.
    fn set_at_end(&mut self, at_end: AtEnd) {
        let _ = at_end;
    }

    /// Takes rows of one input; what is final at once is emitted.
    fn process(&mut self, input: usize, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()>;

    /// Emits what rows that were processed have changed, as it is now, ahead of the end of the batch: for sinks that
    /// show rows before they are committed. Only output mode update has such rows.
    fn emit_early(&mut self, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        let _ = (rows, emit);
        Ok(())
    }

    /// Ends a batch: emits what the output mode asks for, then forgets what the watermark has passed.
    fn finish_batch(&mut self, watermark_us: Option<i64>, emit: &mut Emit<'_>) -> Result<()>;

    /// Writes the changes since the last commit, to one set for each table.
    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()>;

    /// Writes what the store does not know yet, ahead of a snapshot, to one set for each table.
    fn take_unflushed(&mut self, changes: &mut [ChangeSet]) -> Result<()>;

    /// Counts of the last batch.
    fn counts(&self) -> OperatorCounts;
}

/// Counts of one batch, and the state after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OperatorCounts {
    /// State rows now.
    pub(crate) rows_total: u64,
    /// State rows changed.
    pub(crate) rows_updated: u64,
    /// State rows removed.
    pub(crate) rows_removed: u64,
    /// Memory of the state rows, in bytes.
    pub(crate) memory_bytes: u64,
    /// Keys of groups that were looked for in the store.
    pub(crate) lookups: u64,
}

impl OperatorCounts {
    /// Those of two parts of an operator together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            rows_total: self.rows_total + other.rows_total,
            rows_updated: self.rows_updated + other.rows_updated,
            rows_removed: self.rows_removed + other.rows_removed,
            memory_bytes: self.memory_bytes + other.memory_bytes,
            lookups: self.lookups + other.lookups,
        }
    }
}

/// The columns that expressions give for a batch.
pub(crate) fn evaluate(exprs: &[PhysicalExprRef], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|expr| Ok(expr.evaluate(batch)?.into_array(batch.num_rows())?)).collect()
}

/// Expressions as text, one after another.
pub(crate) fn listed(exprs: &[PhysicalExprRef]) -> String {
    exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
