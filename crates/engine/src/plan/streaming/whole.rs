//! Complete mode: what lies above the last aggregate runs as an ordinary query over its whole result.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource};

use crate::error::Result;
use crate::plan::batch::collect;
use crate::plan::logical::is_streaming;

/// A query over the whole result of the last aggregate.
pub(crate) struct WholeResult {
    pub(super) plan: LogicalPlan,
    pub(super) session: SessionState,
    pub(super) input: SchemaRef,
}

impl WholeResult {
    /// Runs the query over all rows of the aggregate.
    pub(crate) fn run(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let table = Arc::new(MemTable::try_new(Arc::clone(&self.input), vec![rows])?);
        let plan = replace_aggregate(&self.plan, &provider_as_source(table))?;
        collect(&self.session, plan)
    }
}

const RESULT_TABLE: &str = "__aggregate";

/// The topmost aggregate.
pub(super) fn last_aggregate(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Aggregate(_) => Some(plan),
        other => match other.inputs().as_slice() {
            [input] => last_aggregate(input),
            inputs => inputs.iter().filter(|input| is_streaming(input)).find_map(|input| last_aggregate(input)),
        },
    }
}

/// The same plan over a table that holds the aggregate's rows.
fn replace_aggregate(plan: &LogicalPlan, rows: &Arc<dyn TableSource>) -> Result<LogicalPlan> {
    let replaced = plan.clone().transform_down(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        let columns: Vec<Expr> = (0..aggregate.schema.fields().len())
            .map(|at| {
                let (qualifier, field) = aggregate.schema.qualified_field(at);
                Expr::Column(Column::new(Some(RESULT_TABLE), field.name()))
                    .alias_qualified(qualifier.cloned(), field.name())
            })
            .collect();
        let scan = LogicalPlanBuilder::scan(RESULT_TABLE, Arc::clone(rows), None)?.project(columns)?.build()?;
        Ok(Transformed::new(scan, true, TreeNodeRecursion::Jump))
    })?;
    Ok(replaced.data)
}
