//! `SELECT DISTINCT ON (k) ... ORDER BY k, ts DESC`: the first row of each `k`, as a filter on its number.
//!
//! ```text
//!   DistinctOn: k, ORDER BY k, ts DESC      Projection
//!   └ input                         ──>     └ Sort: k
//!                                             └ Filter: row_number() = 1
//!                                               └ Window: row_number() PARTITION BY k ORDER BY ts DESC
//! ```
//!
//! DataFusion makes an aggregate of `first_value` of it, which is not Spark's and not there. On streams it is deduplication
//! or an operator of first rows, and is written so before this rule sees it (`plan/streaming`).

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{Distinct, DistinctOn, Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::optimizer::AnalyzerRule;

/// The rule; see the module's head.
#[derive(Debug)]
pub(crate) struct FirstRows;

impl AnalyzerRule for FirstRows {
    fn name(&self) -> &str {
        "first_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let written = plan.transform_up_with_subqueries(|node| match &node {
            LogicalPlan::Distinct(Distinct::On(distinct)) => Ok(Transformed::yes(ordered(distinct)?)),
            _ => Ok(Transformed::no(node)),
        })?;
        Ok(written.data)
    }
}

/// The first rows in the order of what they are the first of.
fn ordered(distinct: &DistinctOn) -> Result<LogicalPlan> {
    let mut order = distinct.sort_expr.clone().unwrap_or_default();
    let first = first_rows(distinct, order.clone())?;
    order.truncate(distinct.on_expr.len());
    let first = if order.is_empty() { first } else { first.sort(order)? };
    first.project(distinct.select_expr.clone())?.build()
}

/// The first rows by an order, with all columns of the input.
pub(crate) fn first_rows(distinct: &DistinctOn, order: Vec<Sort>) -> Result<LogicalPlanBuilder> {
    let mut function = WindowFunction::new(row_number_udwf(), Vec::new());
    function.params.partition_by.clone_from(&distinct.on_expr);
    // What is the same for all rows of a partition orders nothing.
    function.params.order_by = order.into_iter().filter(|key| !distinct.on_expr.contains(&key.expr)).collect();
    let numbered = LogicalPlanBuilder::from(distinct.input.as_ref().clone())
        .window([Expr::WindowFunction(Box::new(function))])?
        .build()?;
    let number = Expr::Column(numbered.schema().qualified_field(numbered.schema().fields().len() - 1).into());
    LogicalPlanBuilder::from(numbered).filter(number.eq(lit(1_u64)))
}
