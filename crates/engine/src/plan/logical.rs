//! What streams add to a logical plan: a scan that is fed batch by batch, and the watermark.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DfResult, internal_err, plan_err};
use datafusion::datasource::{TableType, source_as_provider};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;

/// The rows of source `index` of the query: a leaf that only a streaming query can run.
#[derive(Debug)]
pub(crate) struct StreamScan {
    /// Which source of the query it is.
    pub(crate) index: usize,
    /// The table's name, for messages.
    pub(crate) name: String,
    /// All columns of the table.
    pub(crate) schema: SchemaRef,
}

impl StreamScan {
    /// The stream scan that a table scan reads, if it reads one.
    pub(crate) fn of(scan: &TableScan) -> Option<(usize, String)> {
        let provider = source_as_provider(&scan.source).ok()?;
        let any: &dyn std::any::Any = provider.as_ref();
        any.downcast_ref::<Self>().map(|stream| (stream.index, stream.name.clone()))
    }
}

#[async_trait]
impl TableProvider for StreamScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        plan_err!("'{}' is read as a stream, which only a streaming table, a flow or a sink can do", self.name)
    }
}

/// Whether any leaf of the plan is a stream.
pub(crate) fn is_streaming(plan: &LogicalPlan) -> bool {
    let mut found = matches!(plan, LogicalPlan::TableScan(scan) if StreamScan::of(scan).is_some());
    for input in plan.inputs() {
        found = found || is_streaming(input);
    }
    found
}

/// Marks the event time column and says how late its rows may be; passes every row on.
#[derive(Debug, Clone)]
pub(crate) struct WatermarkNode {
    /// Numbers the watermarks of a query; the tracker and the offset log know them by it.
    pub(crate) id: usize,
    /// The rows.
    pub(crate) input: LogicalPlan,
    /// The event time column's name in the input.
    pub(crate) column: String,
    /// How late rows may be.
    pub(crate) delay_us: i64,
}

impl WatermarkNode {
    fn key(&self) -> (usize, &str, i64) {
        (self.id, &self.column, self.delay_us)
    }
}

impl PartialEq for WatermarkNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key() && self.input == other.input
    }
}

impl Eq for WatermarkNode {}

impl Hash for WatermarkNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for WatermarkNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl UserDefinedLogicalNodeCore for WatermarkNode {
    fn name(&self) -> &str {
        "EventTimeWatermark"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &datafusion::common::DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// A filter on the event time itself must see the rows after they have moved the watermark, as in Spark.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::from([self.column.clone()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventTimeWatermark: {} delay {} ms", self.column, self.delay_us / 1000)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input, ..self.clone() }),
            _ => internal_err!("a watermark has one input"),
        }
    }

    /// The event time column is read whether or not anything above needs it.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut columns = output_columns.to_vec();
        let event_time = self.input.schema().fields().iter().position(|field| field.name() == &self.column)?;
        if !columns.contains(&event_time) {
            columns.push(event_time);
            columns.sort_unstable();
        }
        Some(vec![columns])
    }
}
