//! From a logical plan to what a streaming query runs.
//!
//! ```text
//!   LogicalPlan                      StreamingPlan
//!   Projection                       OperatorStage { spec: aggregate, steps: [project], output: Sink }
//!   └ Aggregate                         ▲ shuffle by key
//!     └ Filter                       SourceStage { source, steps: [watermark, filter], output: Operator 0 }
//!       └ Watermark
//!         └ TableScan (stream)
//! ```
//!
//! The optimised plan is cut at its stateful operators: what lies between two cuts is a run of stateless steps on
//! single batches. In complete mode what lies above the first aggregates runs as an ordinary query over their whole
//! results, so that it may sort, limit, join and aggregate.
//!
//! ```text
//!   nodes.rs       what the optimiser must not touch     fence.rs       conditions that stay above windows
//!   compiler.rs    the walk down the plan        aggregate.rs   GROUP BY and DISTINCT
//!   changing.rs    GROUP BY over rows that may be taken back
//!   over.rs        functions with OVER (...)            cdc.rs         AUTO CDC
//!   top.rs         the first rows of each partition event_time.rs  which columns a watermark is on
//!   join.rs        joins of two streams          time_bounds.rs what their condition says about time
//!   whole.rs       complete mode                 key_columns.rs what identifies a row of the result
//!   aged_windows.rs  windows that only a ttl bounds
//!   scalar.rs      subqueries that are a value
//!   row_ids.rs     random numbers
//!   refuse.rs      what cannot run, and why
//! ```

mod aged_windows;
mod aggregate;
mod changing;
pub(crate) mod cdc;
mod compiler;
mod event_time;
mod fence;
mod filters;
mod join;
mod key_columns;
mod made_of;
mod members;
mod nodes;
mod over;
mod refuse;
pub(super) mod row_ids;
mod scalar;
mod time_bounds;
mod top;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;

use super::analysis::{PlannedQuery, PlannedSource};
use super::batch::BatchPlan;
use super::functions::batch_time::BatchTime;
use super::functions::session_facts;
use crate::error::{EngineError, Result};
use crate::operator::OperatorSpec;
use crate::operator::draws::Draws;
use crate::operator::join::StaticJoin;
use crate::operator::layout::History;
use crate::operator::stateless::Step;
use crate::operator::ttl::Ttl;
use crate::sink::OutputMode;
use cdc::CdcNode;
use compiler::Compiler;
pub(crate) use event_time::event_times;
use key_columns::{key_columns, tells_rows_apart};
use whole::{whole_result, wholes};

/// Where the rows of a stage go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StageOutput {
    /// To the workers of a stateful operator, as one of its inputs.
    Operator { at: usize, input: usize },
    /// Out of the query.
    Sink,
    /// To the query over the whole result, as the rows of one of its relations.
    Whole { relation: usize },
}

/// The rows of one source on their way to the first stateful operator or the sink.
#[derive(Debug, Clone)]
pub(crate) struct SourceStage {
    /// Which source.
    pub(crate) source: usize,
    /// The columns read, as indices into the table's schema.
    pub(crate) projection: Vec<usize>,
    /// The members read of those that are structs; see [`members`].
    pub(crate) members: Vec<Option<BTreeSet<String>>>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: StageOutput,
}

/// A stateful operator and what happens to its results.
#[derive(Debug, Clone)]
pub(crate) struct OperatorStage {
    pub(crate) spec: Arc<dyn OperatorSpec>,
    /// How far its watermark is behind that of the query, because operators before it hold rows back.
    pub(crate) lag_us: i64,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: StageOutput,
    /// The layouts its state may be in, once its checkpoint is open.
    pub(crate) history: Option<Arc<History>>,
    /// How long its rows are kept, if nothing else bounds them.
    pub(crate) ttl: Option<Ttl>,
}

/// A watermark of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatermarkSpec {
    pub(crate) id: usize,
    pub(crate) column: String,
    pub(crate) delay_us: i64,
}

/// What a streaming query runs.
pub(crate) struct StreamingPlan {
    pub(crate) sources: Vec<PlannedSource>,
    pub(crate) source_stages: Vec<SourceStage>,
    /// Each only sends rows to those after it.
    pub(crate) operators: Vec<OperatorStage>,
    pub(crate) watermarks: Vec<WatermarkSpec>,
    /// Static sides to be read again for each batch.
    pub(crate) joins: Vec<Arc<StaticJoin>>,
    /// The time of the batch under way, for its expressions.
    pub(crate) batch_time: Arc<BatchTime>,
    /// What its random numbers are drawn by.
    pub(crate) draws: Arc<Draws>,
    /// What runs over the whole result in complete mode.
    pub(crate) whole_result: Option<BatchPlan>,
    pub(crate) output_mode: OutputMode,
    /// Columns of the result.
    pub(crate) schema: SchemaRef,
    /// The result's columns that are grouping columns, for sinks that replace rows.
    pub(crate) key_columns: Vec<String>,
    /// Whether in output mode update a target that replaces rows by `key_columns` has the whole result.
    pub(crate) replaces_by_key: bool,
    /// Whether rows of the result can also go.
    pub(crate) deletes: bool,
    /// The optimised plan as text.
    pub(crate) explain: String,
}

/// Which operators are to forget rows by their age, where nothing else bounds them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ages {
    /// Single ones, by their lasting names.
    pub(crate) of: BTreeMap<String, bool>,
    /// All others.
    pub(crate) others: bool,
}

impl Ages {
    fn has(&self, id: &str) -> bool {
        self.of.get(id).copied().unwrap_or(self.others)
    }
}

/// Makes the streaming plan of a query. Changes of a table are taken as they come and replace its rows, whatever
/// `output_mode` says.
pub(crate) fn streaming_plan(query: PlannedQuery, output_mode: OutputMode, ages: &Ages) -> Result<StreamingPlan> {
    let Some(keys) = CdcNode::of(&query.plan).map(CdcNode::key_columns) else {
        return plan_in(query, output_mode, ages);
    };
    let plan = plan_in(query, OutputMode::Append, ages)?;
    let replaces_by_key = true;
    Ok(StreamingPlan { output_mode: OutputMode::Update, key_columns: keys, replaces_by_key, deletes: true, ..plan })
}

fn plan_in(query: PlannedQuery, output_mode: OutputMode, ages: &Ages) -> Result<StreamingPlan> {
    let session = query.context.state();
    let batch_time = Arc::new(BatchTime::default());
    session_facts::check_stream(&query.plan)?;
    let draws = Arc::new(Draws::default());
    let plan = row_ids::put_into(batch_time.put_into(query.plan)?, &draws)?;
    let mut plan = top::of_distinct_on(scalar::join(plan)?)?;
    plan = match output_mode {
        OutputMode::Complete => whole::below_last_aggregate(plan, &nodes::keep)?,
        OutputMode::Append | OutputMode::Update => nodes::keep(plan)?,
    };
    let schema = Arc::new(unqualified(plan.schema()));
    let optimized = filters::each_once(fence::take_away(session.optimize(&fence::put(plan)?)?)?)?;
    let mut compiler = Compiler::new(session.clone(), output_mode, ages.clone());
    let mut whole = None;
    let explain = optimized.display_indent().to_string();
    let key_columns = key_columns(&optimized);
    let replaces_by_key = output_mode == OutputMode::Update && tells_rows_apart(&optimized, &key_columns);
    if output_mode == OutputMode::Update {
        top::check_update(&optimized, &key_columns)?;
    }
    if output_mode == OutputMode::Complete {
        let wholes = wholes(&optimized);
        if wholes.is_empty() {
            return Err(EngineError::query(
                "output mode complete is only possible with GROUP BY, or for the first rows of each key (row_number() OVER (...) <= n): without them the result is the whole stream",
            )
            .help("use output mode append"));
        }
        let outputs = (0..).map(|relation| StageOutput::Whole { relation });
        compiler.compile(wholes.into_iter().zip(outputs), query.sources.len())?;
        whole = Some(whole_result(&optimized, session)?);
    } else {
        compiler.compile([(&optimized, StageOutput::Sink)], query.sources.len())?;
    }
    if compiler.deletes && !replaces_by_key {
        return Err(changing::cannot_go());
    }
    Ok(StreamingPlan {
        sources: query.sources,
        source_stages: compiler.source_stages,
        operators: compiler.operators,
        watermarks: compiler.watermarks,
        joins: compiler.joins,
        batch_time,
        draws,
        whole_result: whole,
        output_mode,
        schema,
        key_columns,
        replaces_by_key,
        deletes: compiler.deletes,
        explain,
    })
}

/// The columns without the tables they come from.
fn unqualified(schema: &DFSchema) -> Schema {
    Schema::new(schema.fields().clone())
}

/// The columns, any of which may be null: those of kept rows, which may come out without the other side.
fn nullable(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>())
}
