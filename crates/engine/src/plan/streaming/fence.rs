//! Keeps conditions on windows above the `GROUP BY` that makes them.
//!
//! The optimiser takes a condition on a grouping column for one on the rows below, and moves it there. A row may be in
//! several sliding windows, and in a session whose bounds only its group knows: below, there is nothing to ask. So a
//! fence stands on such a group while the plan is optimised, and is taken away again.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, Result as DfResult};
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::nodes::only;
use crate::error::Result;
use crate::plan::logical::is_streaming;
use crate::plan::session_window::session_call;
use crate::plan::window::window_call;

/// A group whose windows conditions may not pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
struct FenceNode {
    input: LogicalPlan,
    windows: Vec<String>,
}

/// Puts a fence on each group of a stream that is by sliding windows or sessions.
pub(super) fn put(plan: LogicalPlan) -> Result<LogicalPlan> {
    let fenced = plan.transform_up(|node| {
        let windows = match &node {
            LogicalPlan::Aggregate(aggregate) if is_streaming(&node) => windows(aggregate),
            _ => Vec::new(),
        };
        if windows.is_empty() {
            return Ok(Transformed::no(node));
        }
        let node = Arc::new(FenceNode { input: node, windows });
        Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })))
    })?;
    Ok(fenced.data)
}

/// Takes the fences away.
pub(super) fn take_away(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| match &node {
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<FenceNode>() {
            Some(fence) => Ok(Transformed::yes(fence.input.clone())),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

/// The grouping columns that are windows which a row alone does not tell.
fn windows(aggregate: &Aggregate) -> Vec<String> {
    let fields = aggregate.group_expr.iter().zip(aggregate.schema.fields());
    let fenced = fields.filter(|(expr, _)| {
        let is_sliding = matches!(window_call(expr), Some(Ok((_, window))) if !window.is_tumbling());
        is_sliding || session_call(expr).is_some()
    });
    fenced.map(|(_, field)| field.name().clone()).collect()
}

impl UserDefinedLogicalNodeCore for FenceNode {
    fn name(&self) -> &str {
        "Fence"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.windows.iter().cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence: {}", self.windows.join(", "))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        Ok(Self { input: only(inputs)?, windows: self.windows.clone() })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
