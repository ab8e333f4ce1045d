//! Complete mode: what lies above the last aggregate runs as an ordinary query over its whole result.

use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;

use crate::error::Result;
use crate::plan::batch::BatchPlan;
use crate::plan::logical::is_streaming;

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

/// The plan above its last aggregate, over that aggregate's rows.
pub(super) fn whole_result(plan: &LogicalPlan, rows: &DFSchemaRef, session: SessionState) -> Result<BatchPlan> {
    let opened = plan.clone().transform_down(|node| match &node {
        LogicalPlan::Aggregate(_) => {
            Ok(Transformed::new(BatchPlan::open_relation(rows), true, TreeNodeRecursion::Jump))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(BatchPlan::new(opened.data, Arc::clone(rows), session))
}
