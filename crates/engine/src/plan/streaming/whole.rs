//! Complete mode: what stands on aggregates and on the first rows of partitions runs as an ordinary query over their whole
//! results.
//!
//! ```text
//!   Sort                       Sort
//!   └ Union                    └ Union                 one batch query, after each batch
//!     ├ Aggregate    ──>         ├ (relation 0)
//!     │ └ stream a               └ (relation 1)
//!     └ Aggregate              Aggregate └ stream a    operators, each of which gives all its groups
//!       └ stream b             Aggregate └ stream b
//! ```
//!
//! The cut is below everything that can be recomputed: an aggregate over an aggregate, or a join of two, needs no state
//! of its own. A stream that comes to the query above without such an operator would have to be kept whole, and is refused.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Limit, LogicalPlan, lit};

use super::nodes::{DeduplicateNode, LimitNode};
use super::refuse::unsupported;
use super::row_ids::RowIdsNode;
use super::top::Top;
use crate::error::{EngineError, Result};
use crate::plan::batch::BatchPlan;
use crate::plan::logical::{WatermarkNode, is_streaming};

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

/// The nodes that give whole results: aggregates and first rows of partitions that stand on no other of them.
pub(super) fn wholes(plan: &LogicalPlan) -> Vec<&LogicalPlan> {
    let below: Vec<&LogicalPlan> =
        plan.inputs().into_iter().filter(|input| is_streaming(input)).flat_map(wholes).collect();
    if below.is_empty() && is_whole(plan) { vec![plan] } else { below }
}

fn is_whole(node: &LogicalPlan) -> bool {
    (matches!(node, LogicalPlan::Aggregate(_)) && is_streaming(node)) || Top::of(node).is_some()
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

/// The plan above [`wholes`], over their rows: a relation for each, in their order.
pub(super) fn whole_result(plan: &LogicalPlan, session: SessionState) -> Result<BatchPlan> {
    // What has one schema may stand in several places: each place is a relation of its own.
    let relations: Vec<_> = wholes(plan).into_iter().map(|whole| Arc::new(whole.schema().as_ref().clone())).collect();
    let mut left = relations.iter();
    let opened = plan.clone().transform_down(|node| {
        if is_whole(&node) && node.inputs().into_iter().all(|input| wholes(input).is_empty()) {
            let Some(relation) = left.next() else { return internal_err!("more relations than were counted") };
            return Ok(Transformed::new(BatchPlan::open_relation(relation), true, TreeNodeRecursion::Jump));
        }
        as_in_a_table(node)
    })?;
    check_above(&opened.data)?;
    Ok(BatchPlan::new(opened.data, relations, session))
}

/// A `LIMIT` above whole results counts the rows of the result, and not those of all batches; rows are known by their
/// values.
fn as_in_a_table(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    if let Some(node) = RowIdsNode::of(&node) {
        return Ok(Transformed::yes(node.as_projection()?));
    }
    let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
    let Some(limit) = extension.node.as_any().downcast_ref::<LimitNode>() else { return Ok(Transformed::no(node)) };
    let fetch = Some(Box::new(lit(i64::try_from(limit.limit).unwrap_or(i64::MAX))));
    let limit = Limit { skip: None, fetch, input: Arc::new(limit.input.clone()) };
    Ok(Transformed::yes(LogicalPlan::Limit(limit)))
}

/// Refuses what stands above whole results and is no ordinary query.
fn check_above(plan: &LogicalPlan) -> Result<()> {
    match plan {
        LogicalPlan::TableScan(scan) if is_streaming(plan) => Err(EngineError::query(format!(
            "output mode complete is not possible with the rows of stream '{}' as they are, beside groups (or first rows of \
             partitions): the result would be the whole stream",
            scan.table_name
        ))
        .help("group them too, or write each result to a streaming table of its own")),
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<DeduplicateNode>() => {
            Err(unsupported("DISTINCT ON over a GROUP BY", "write row_number() OVER (...) = 1 in output mode complete"))
        }
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<WatermarkNode>() => {
            Err(unsupported("a WATERMARK on the result of a GROUP BY", "put it on the streams that are read"))
        }
        other => other.inputs().into_iter().try_for_each(check_above),
    }
}
