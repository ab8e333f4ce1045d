//! Which columns of a result identify its rows, for sinks that replace rows.

use datafusion::logical_expr::{Expr, LogicalPlan};

use super::row_ids::RowIdsNode;
use super::top;
use super::whole::last_aggregate;
use crate::plan::logical::is_streaming;
use crate::plan::session_window::SessionWindowFunction;
use crate::plan::window::WindowFunction;

/// The output columns that are grouping columns of the last aggregate, or that tell the first rows of partitions apart.
pub(super) fn key_columns(plan: &LogicalPlan) -> Vec<String> {
    if let Some(mut names) = top::key_names(plan) {
        follow(plan, &mut names);
        names.dedup_by_key(|(key, _)| *key);
        return names.into_iter().map(|(_, name)| name).collect();
    }
    let Some(LogicalPlan::Aggregate(aggregate)) = last_aggregate(plan) else { return Vec::new() };
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let mut names: Vec<(usize, String)> =
        aggregate.schema.fields().iter().take(groups).map(|field| field.name().clone()).enumerate().collect();
    follow(plan, &mut names);
    names.into_iter().map(|(_, name)| name).collect()
}

/// Whether every row of a result is one of `keys`, and stays one: nothing above the rows that change hides some of them.
pub(super) fn tells_rows_apart(plan: &LogicalPlan, keys: &[String]) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => tells_rows_apart(&projection.input, keys),
        LogicalPlan::SubqueryAlias(alias) => tells_rows_apart(&alias.input, keys),
        LogicalPlan::Aggregate(aggregate) => {
            let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
            groups > 0 && keys.len() == groups
        }
        other => match RowIdsNode::of(other) {
            Some(node) => tells_rows_apart(&node.input, keys),
            None => top::Top::of(other).is_some(),
        },
    }
}

/// Renames grouping columns on their way from the aggregate up to `plan`.
fn follow(plan: &LogicalPlan, names: &mut Vec<(usize, String)>) {
    if matches!(plan, LogicalPlan::Aggregate(_)) || top::Top::of(plan).is_some() {
        return;
    }
    for input in plan.inputs() {
        if is_streaming(input) {
            follow(input, names);
        }
    }
    if let LogicalPlan::Projection(projection) = plan {
        let inner = std::mem::take(names);
        for (key, name) in inner {
            let above = projection.expr.iter().zip(projection.schema.fields()).find_map(|(expr, field)| {
                let is_key = matches!(without_casts(expr), Expr::Column(column) if column.name == name);
                (is_key || is_start_of(expr, &name)).then(|| field.name().clone())
            });
            if let Some(above) = above {
                names.push((key, above));
            }
        }
    }
}

/// What is given a name or another integer type: numbers of rows are cast to Spark's type.
pub(super) fn without_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => without_casts(&alias.expr),
        Expr::Cast(cast) if cast.field.data_type().is_integer() => without_casts(&cast.expr),
        Expr::ScalarFunction(function) if function.func.name() == "cast" => match function.args.as_slice() {
            [inner, Expr::Literal(name, _)] if is_integer(name.try_as_str().flatten()) => without_casts(inner),
            _ => expr,
        },
        other => other,
    }
}

fn is_integer(type_name: Option<&str>) -> bool {
    matches!(type_name, Some("INT" | "BIGINT"))
}

/// `window.start` identifies a window as well as the window does, and so does the start of a session.
fn is_start_of(expr: &Expr, window: &str) -> bool {
    let Expr::ScalarFunction(function) = expr.clone().unalias() else { return false };
    function.func.name() == "get_field"
        && [WindowFunction::NAME, SessionWindowFunction::NAME].iter().any(|call| window.starts_with(call))
        && matches!(function.args.first(), Some(Expr::Column(column)) if column.name == window)
        && matches!(function.args.get(1), Some(Expr::Literal(field, _)) if field.try_as_str().flatten() == Some("start"))
}
