//! Subqueries that are a value, `(SELECT max(n) FROM t)`, over static tables: as the static side of a join, which is read
//! anew for each batch. Those that refer to the row around them the optimiser makes joins of.
//!
//! ```text
//!   Projection: k, (<subquery>)        Projection: k, `(subquery 0)`.n
//!   └ stream                           └ Left Join
//!                                        ├ stream
//!                                        └ subquery
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as DfResult, internal_err};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{EngineError, Result};
use crate::plan::logical::is_streaming;

/// Joins the value of each subquery in the select lists and conditions of a stream.
pub(super) fn join(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut refused = None;
    let mut count = 0;
    let joined = plan.transform_up(|node| {
        if !is_streaming(&node) {
            return Ok(Transformed::no(node));
        }
        match joined(node, &mut count) {
            Ok(joined) => Ok(joined),
            Err(error) => {
                refused = Some(error);
                internal_err!("refused")
            }
        }
    });
    match (refused, joined) {
        (Some(error), _) => Err(error),
        (None, joined) => Ok(joined?.data),
    }
}

fn joined(node: LogicalPlan, count: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let input = match &node {
        LogicalPlan::Projection(projection) => &projection.input,
        LogicalPlan::Filter(filter) => &filter.input,
        _ => return Ok(Transformed::no(node)),
    };
    let mut values: Vec<(Arc<LogicalPlan>, Column)> = Vec::new();
    let mut replaced = |expr: Expr| -> DfResult<Transformed<Expr>> {
        match expr {
            Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => {
                let (_, field) = subquery.subquery.schema().qualified_field(0);
                let column = Column::new(Some(format!("(subquery {count})")), field.name());
                *count += 1;
                values.push((Arc::clone(&subquery.subquery), column.clone()));
                Ok(Transformed::yes(Expr::Column(column)))
            }
            other => Ok(Transformed::no(other)),
        }
    };
    let mut exprs = Vec::new();
    for expr in node.expressions() {
        let (qualifier, name) = expr.qualified_name();
        let expr = expr.transform_up(&mut replaced)?;
        // A column keeps the name the subquery gave it.
        let is_named = !expr.transformed || matches!(node, LogicalPlan::Filter(_));
        exprs.push(if is_named { expr.data } else { expr.data.alias_qualified(qualifier, name) });
    }
    if values.is_empty() {
        return Ok(Transformed::no(node));
    }
    let columns: Vec<Expr> = input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
    let mut with_values = LogicalPlanBuilder::from(Arc::clone(input));
    for (subquery, column) in values {
        let value = one_value(&subquery, &column)?;
        with_values = with_values.join_on(value, JoinType::Left, [lit(true)])?;
    }
    let with_values = with_values.build()?;
    let plan = match &node {
        LogicalPlan::Filter(_) => {
            LogicalPlanBuilder::from(node.with_new_exprs(exprs, vec![with_values])?).project(columns)?.build()?
        }
        _ => node.with_new_exprs(exprs, vec![with_values])?,
    };
    Ok(Transformed::new(plan, true, TreeNodeRecursion::Continue))
}

/// The subquery under a name of its own, if it has one row for sure.
fn one_value(subquery: &LogicalPlan, column: &Column) -> Result<LogicalPlan> {
    if is_streaming(subquery) {
        return Err(EngineError::query("a subquery that is a value reads a stream, which never has one value")
            .help("join the two streams, or write the value to a table first"));
    }
    if subquery.max_rows().is_none_or(|rows| rows > 1) {
        return Err(EngineError::query("a subquery that is a value can have several rows")
            .help("make it an aggregate: (SELECT max(n) FROM t)"));
    }
    let name = column.relation.as_ref().map_or("(subquery)", |relation| relation.table()).to_owned();
    Ok(LogicalPlanBuilder::from(subquery.clone()).alias(name)?.build()?)
}
