//! `GROUP BY`: groups kept from batch to batch, emitted when they are final, when they change, or all of them.
//!
//! ```text
//!   task:    RecordBatch ──Keyer──> KeyedBatch ┐ by shard
//!   worker:                    AggregateOperator ──update──> groups ──finish_batch──> RecordBatch
//!                                                     └── changes ──> changelog, state store
//! ```
//!
//! With a watermark, a row whose window ended at or before the watermark of the batch before is late and left out;
//! groups whose window ended at or before this batch's watermark are final: they are emitted in append mode and
//! forgotten in append and update mode. This is Spark's rule; see the SQL reference on event time.

pub(crate) mod accumulator;
mod keyed;
mod operator;
mod table;

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::RowConverter;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

pub(crate) use keyed::{KeyedBatch, Keyer};
pub(crate) use operator::AggregateOperator;

use crate::error::{EngineError, Result};
use crate::plan::functions::aggregates;
use crate::plan::window::TimeWindow;
use crate::sink::OutputMode;
use crate::state::key;
use accumulator::Accumulator;

/// The bucket of groups that have no time; below [`key::NEVER`], so that ranges of buckets can hold it.
pub(crate) const NO_EXPIRY: i64 = key::NEVER - 1;

pub(crate) type PhysicalExprRef = Arc<dyn PhysicalExpr>;

/// What one `GROUP BY` does, as the planner found it.
#[derive(Debug)]
pub(crate) struct AggregateSpec {
    /// Its lasting name in the checkpoint.
    pub(crate) id: String,
    /// The grouping expressions but for the window.
    pub(crate) keys: Vec<PhysicalExprRef>,
    /// The types of `keys`.
    pub(crate) key_types: Vec<DataType>,
    /// The window or event time among the grouping expressions.
    pub(crate) window: Option<WindowKey>,
    /// Arguments and filters of all functions, each once.
    pub(crate) columns: Vec<PhysicalExprRef>,
    /// The aggregate functions.
    pub(crate) functions: Vec<FunctionSpec>,
    /// Grouping columns in the query's order, then the functions' results.
    pub(crate) output_schema: SchemaRef,
    /// What is emitted, and when.
    pub(crate) output_mode: OutputMode,
    /// Whether groups expire by the watermark.
    pub(crate) has_watermark: bool,
}

/// Time as part of the key.
#[derive(Debug)]
pub(crate) struct WindowKey {
    /// Where it stands among the grouping columns.
    pub(crate) position: usize,
    /// The event time.
    pub(crate) time: PhysicalExprRef,
    /// The window.
    pub(crate) window: TimeWindow,
}

/// One aggregate function.
#[derive(Debug)]
pub(crate) struct FunctionSpec {
    /// The function, from which accumulators are made.
    pub(crate) function: Arc<AggregateFunctionExpr>,
    /// Its arguments, as indices into [`AggregateSpec::columns`].
    pub(crate) args: Vec<usize>,
    /// The types of the arguments.
    pub(crate) arg_types: Vec<DataType>,
    /// Its `FILTER (WHERE ...)`, as an index into [`AggregateSpec::columns`].
    pub(crate) filter: Option<usize>,
}

impl AggregateSpec {
    fn key_converter(&self) -> Result<RowConverter> {
        keyed::row_converter(&self.key_types)
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>> {
        self.functions.iter().map(FunctionSpec::accumulator).collect()
    }

    /// Everything the state rows depend on: equal fingerprints can read each other's state.
    pub(crate) fn fingerprint(&self) -> String {
        let functions: Vec<String> = self
            .functions
            .iter()
            .map(|FunctionSpec { function, arg_types, .. }| {
                let more = aggregates::fingerprint(function, arg_types);
                format!("{}{arg_types:?}{more}", function.fun().name())
            })
            .collect();
        let window = self.window.as_ref().map(|window| (window.position, window.window));
        format!("v1 keys {:?} window {window:?} functions [{}]", self.key_types, functions.join(", "))
    }

    /// The moment the groups of a bucket are final; never for groups without a watermark.
    fn expires_at(&self, bucket: i64) -> Option<i64> {
        let window = self.window.as_ref().filter(|_| self.has_watermark)?;
        Some(bucket.saturating_add(window.window.size_us))
    }
}

impl FunctionSpec {
    /// An accumulator without groups; fails where the call's constants are none, or out of range.
    pub(crate) fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        aggregates::accumulator(&self.function, &self.arg_types)?.ok_or_else(|| {
            let name = self.function.fun().name();
            EngineError::query(format!("{name} of {:?} cannot be kept from batch to batch", self.arg_types))
                .help("docs/sql/aggregates.md lists what can")
        })
    }

    /// Gives the rows of a keyed batch to this function's accumulator.
    fn update(
        &self,
        accumulator: &mut dyn Accumulator,
        columns: &[arrow::array::ArrayRef],
        slots: &[u32],
    ) -> Result<()> {
        let args: Vec<_> = self.args.iter().map(|at| Arc::clone(&columns[*at])).collect();
        let Some(filter) = self.filter else { return accumulator.update(&args, slots) };
        let filter: &BooleanArray = arrow::array::AsArray::as_boolean(&columns[filter]);
        let (args, slots) = accumulator::filtered(filter, &args, slots)?;
        accumulator.update(&args, &slots)
    }
}
