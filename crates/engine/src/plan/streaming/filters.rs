//! Takes away conditions that the filter below has asked already.
//!
//! The optimiser infers conditions (that a join's key is not null) at each of its passes, and moves them down as far as
//! they go. Where a watermark stops them they meet their like of the pass before: each batch would ask the same thing
//! several times of every row. Filters are not made one: what is below may guard what is above from failing.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};

use crate::error::Result;

/// The plan with each condition asked once in filters that stand upon each other.
pub(super) fn each_once(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::no(node)) };
        let below = asked_below(&filter.input);
        let is_new = |part: &&Expr| part.is_volatile() || !below.contains(part);
        let parts = split_conjunction(&filter.predicate);
        let new: Vec<Expr> = parts.iter().copied().filter(is_new).cloned().collect();
        if new.len() == parts.len() {
            return Ok(Transformed::no(node));
        }
        Ok(Transformed::yes(match conjunction(new) {
            None => filter.input.as_ref().clone(),
            Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, filter.input.clone())?),
        }))
    })?;
    Ok(plan.data)
}

/// The conditions of the filters that a plan begins with.
fn asked_below(mut plan: &LogicalPlan) -> Vec<&Expr> {
    let mut asked = Vec::new();
    while let LogicalPlan::Filter(filter) = plan {
        asked.extend(split_conjunction(&filter.predicate));
        plan = &filter.input;
    }
    asked
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit, table_scan};

    use super::*;

    fn check(filters: &[Expr], expected: &[&str]) {
        let schema = Schema::new(["a", "b"].map(|name| Field::new(name, DataType::Int32, true)).to_vec());
        let scan = table_scan(Some("t"), &schema, None).expect("a scan");
        let plan = filters.iter().try_fold(scan, |plan: LogicalPlanBuilder, filter| plan.filter(filter.clone()));
        let plan = plan.expect("filters").build().expect("a plan");
        let text = each_once(plan).expect("a plan").display_indent().to_string();
        let found: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(found[..found.len() - 1], *expected, "from the last filter down");
    }

    #[test]
    fn a_condition_is_asked_once() {
        let (a, b) = (col("a").is_not_null(), col("b").gt(lit(1)));
        check(&[a.clone(), a.clone(), a.clone()], &["Filter: t.a IS NOT NULL"]);
        check(&[a.clone(), b.clone().and(a.clone())], &["Filter: t.b > Int32(1)", "Filter: t.a IS NOT NULL"]);
        check(&[b.clone(), a.clone(), b], &["Filter: t.a IS NOT NULL", "Filter: t.b > Int32(1)"]);
    }
}
