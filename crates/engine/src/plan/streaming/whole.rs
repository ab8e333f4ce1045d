//! Complete mode: what lies above the last aggregate, or else above the first rows of partitions, runs as an ordinary
//! query over the whole result of that.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, internal_err};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::top::{self, Top};
use crate::error::{EngineError, Result};
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

/// What gives the whole result: the topmost aggregate, or else the topmost first rows of partitions.
pub(super) fn last_whole(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    last_aggregate(plan).or_else(|| top::topmost(plan))
}

/// Whether a node stands above the last aggregate no more.
fn is_last(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Aggregate(_)) || (Top::of(node).is_some() && last_aggregate(node).is_none())
}

/// The plan with what lies below its last aggregate changed by `change`.
pub(super) fn below_last_aggregate(
    plan: LogicalPlan,
    change: &dyn Fn(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<LogicalPlan> {
    let mut refused = None;
    let changed = plan.transform_down(|node| {
        let input = match &node {
            LogicalPlan::Aggregate(aggregate) => &aggregate.input,
            LogicalPlan::Window(window) if is_streaming(&node) && last_aggregate(&node).is_none() => &window.input,
            _ => return Ok(Transformed::no(node)),
        };
        match change(input.as_ref().clone()) {
            Ok(input) => {
                let changed = node.with_new_exprs(node.expressions(), vec![input])?;
                Ok(Transformed::new(changed, true, TreeNodeRecursion::Jump))
            }
            Err(error) => {
                refused = Some(error);
                internal_err!("refused")
            }
        }
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(changed?.data),
    }
}

/// The plan above its last aggregate, over that aggregate's rows.
pub(super) fn whole_result(plan: &LogicalPlan, rows: &DFSchemaRef, session: SessionState) -> Result<BatchPlan> {
    let mut results = 0;
    let opened = plan.clone().transform_down(|node| match &node {
        node if is_last(node) => {
            results += usize::from(is_streaming(node));
            Ok(Transformed::new(BatchPlan::open_relation(rows), true, TreeNodeRecursion::Jump))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    if results > 1 || is_streaming(&opened.data) {
        return Err(EngineError::query(
            "output mode complete is not possible with several GROUP BY (or first rows of partitions) side by side",
        )
        .help("use output mode append or update, or write each result to a streaming table of its own"));
    }
    Ok(BatchPlan::new(opened.data, Arc::clone(rows), session))
}
