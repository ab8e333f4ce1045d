//! Keeps the order that a subquery gives its rows where functions over groups take them in it.
//!
//! ```text
//!   SELECT k, collect_list(v) FROM (SELECT * FROM t ORDER BY v) GROUP BY k
//!   AggregateExec ─> ProjectionExec ─> [requirement] ─> SortExec
//! ```
//!
//! DataFusion drops a sort that nothing above asks for, and no function asks. So before its rule looks, the sort gets a
//! requirement of its own, which the rule that ends requirements takes away again. As in Spark sorts stay out where no
//! function can tell the order: counts, extremes, sums that are exact. It does nothing for plans in several partitions:
//! [`super::batch`] runs plans with such an order in one.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{Distribution, OrderingRequirements};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::output_requirements::OutputRequirementExec;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

/// Puts a requirement over the sorts whose order a function takes.
#[derive(Debug)]
pub(super) struct KeepOrder;

impl PhysicalOptimizerRule for KeepOrder {
    fn name(&self) -> &str {
        "keep_order"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let keep = |node: Arc<dyn ExecutionPlan>| {
            let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return Ok(Transformed::no(node)) };
            if !aggregate.aggr_expr().iter().any(|function| takes_order(function)) {
                return Ok(Transformed::no(node));
            }
            match kept(aggregate.input())? {
                Some(input) => replace_children_if_necessary(node, vec![input]).map(Transformed::yes),
                None => Ok(Transformed::no(node)),
            }
        };
        Ok(plan.transform_up(keep)?.data)
    }
}

/// Whether the order of the rows changes what the function gives.
fn takes_order(function: &AggregateFunctionExpr) -> bool {
    let is_exact = !matches!(function.field().data_type(), DataType::Float32 | DataType::Float64);
    match function.fun().name() {
        "count" | "min" | "max" | "bit_and" | "bit_or" | "bit_xor" | "approx_count_distinct" => false,
        "sum" | "try_sum" | "avg" | "try_avg" => !is_exact,
        _ => true,
    }
}

/// The plan with its order required, if it comes from a sort.
fn kept(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(sort) = plan.downcast_ref::<SortExec>() {
        let order = OrderingRequirements::from(sort.expr().clone());
        let plan = Arc::clone(plan);
        let required = OutputRequirementExec::new(plan, Some(order), Distribution::UnspecifiedDistribution, None);
        return Ok(Some(Arc::new(required)));
    }
    match (plan.children().as_slice(), plan.maintains_input_order().as_slice()) {
        ([input], [true]) => match kept(input)? {
            Some(input) => replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}
