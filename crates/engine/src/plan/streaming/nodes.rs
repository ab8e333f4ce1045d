//! What must mean the same on a stream as the user wrote it, put out of the optimiser's reach: `LIMIT`, which counts
//! over all batches, and `DISTINCT ON`, which is deduplication.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, Result as DfResult, internal_err};
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, Extension, FetchType, LogicalPlan, LogicalPlanBuilder, SkipType,
    UserDefinedLogicalNodeCore,
};

use super::event_time::event_times;
use crate::error::Result;
use crate::plan::logical::is_streaming;

/// Puts each `LIMIT n` and `DISTINCT ON (...)` of a stream into a node of its own.
pub(super) fn keep(plan: LogicalPlan) -> Result<LogicalPlan> {
    let kept = plan.transform_up(|node| {
        if !is_streaming(&node) {
            return Ok(Transformed::no(node));
        }
        match node {
            LogicalPlan::Limit(limit) => {
                let (SkipType::Literal(0), FetchType::Literal(Some(fetch))) =
                    (limit.get_skip_type()?, limit.get_fetch_type()?)
                else {
                    return Ok(Transformed::no(LogicalPlan::Limit(limit)));
                };
                let node = LimitNode { input: limit.input.as_ref().clone(), limit: fetch as u64 };
                Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
            }
            LogicalPlan::Distinct(Distinct::On(distinct)) => Ok(Transformed::yes(deduplicate(&distinct)?)),
            other => Ok(Transformed::no(other)),
        }
    });
    Ok(kept?.data)
}

fn deduplicate(distinct: &DistinctOn) -> DfResult<LogicalPlan> {
    let input = distinct.input.as_ref().clone();
    let time = event_times(&input).iter().position(|is_time| *is_time);
    let time = time.map(|at| Expr::Column(input.schema().qualified_field(at).into()));
    let node = DeduplicateNode { input, keys: distinct.on_expr.clone(), time };
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    LogicalPlanBuilder::from(plan).project(distinct.select_expr.clone())?.build()
}

/// `LIMIT` on a stream. Below a join or a union it would count other rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(super) struct LimitNode {
    /// The rows.
    pub(super) input: LogicalPlan,
    /// How many of them pass.
    pub(super) limit: u64,
}

impl UserDefinedLogicalNodeCore for LimitNode {
    fn name(&self) -> &str {
        "StreamingLimit"
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

    /// A filter above counts only rows that passed.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        all_names(&self.input)
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamingLimit: {}", self.limit)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        Ok(Self { input: only(inputs)?, limit: self.limit })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// The first row of each key that comes, and no other while the key is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(super) struct DeduplicateNode {
    /// The rows.
    pub(super) input: LogicalPlan,
    /// What makes two rows the same.
    pub(super) keys: Vec<Expr>,
    /// The event time, which says how long a key is remembered.
    pub(super) time: Option<Expr>,
}

impl UserDefinedLogicalNodeCore for DeduplicateNode {
    fn name(&self) -> &str {
        "Deduplicate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().chain(&self.time).cloned().collect()
    }

    /// A filter above sees only the first rows.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        all_names(&self.input)
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(|key| key.human_display().to_string()).collect();
        write!(f, "Deduplicate: {}", keys.join(", "))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let time = if self.time.is_some() { exprs.pop() } else { None };
        Ok(Self { input: only(inputs)?, keys: exprs, time })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let mut columns: Vec<usize> = output_columns.to_vec();
        for expr in self.expressions() {
            columns.extend(expr.column_refs().into_iter().filter_map(|column| schema.maybe_index_of_column(column)));
        }
        columns.sort_unstable();
        columns.dedup();
        Some(vec![columns])
    }
}

fn all_names(input: &LogicalPlan) -> HashSet<String> {
    input.schema().fields().iter().map(|field| field.name().clone()).collect()
}

pub(super) fn only(mut inputs: Vec<LogicalPlan>) -> DfResult<LogicalPlan> {
    match (inputs.pop(), inputs.is_empty()) {
        (Some(input), true) => Ok(input),
        _ => internal_err!("a node of one input has another number of them"),
    }
}
