//! Which columns of a result identify its rows, for sinks that replace rows.

use datafusion::logical_expr::{Expr, LogicalPlan};

use super::whole::last_aggregate;
use crate::plan::logical::is_streaming;
use crate::plan::session_window::SessionWindowFunction;
use crate::plan::window::WindowFunction;

/// The output columns that are grouping columns of the last aggregate, if every grouping column comes out.
pub(super) fn key_columns(plan: &LogicalPlan) -> Vec<String> {
    let Some(LogicalPlan::Aggregate(aggregate)) = last_aggregate(plan) else { return Vec::new() };
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let mut names: Vec<(usize, String)> =
        aggregate.schema.fields().iter().take(groups).map(|field| field.name().clone()).enumerate().collect();
    follow(plan, &mut names);
    names.into_iter().map(|(_, name)| name).collect()
}

/// Renames grouping columns on their way from the aggregate up to `plan`.
fn follow(plan: &LogicalPlan, names: &mut Vec<(usize, String)>) {
    if matches!(plan, LogicalPlan::Aggregate(_)) {
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
                let is_key = matches!(expr.clone().unalias(), Expr::Column(column) if column.name == name);
                (is_key || is_start_of(expr, &name)).then(|| field.name().clone())
            });
            if let Some(above) = above {
                names.push((key, above));
            }
        }
    }
}

/// `window.start` identifies a window as well as the window does, and so does the start of a session.
fn is_start_of(expr: &Expr, window: &str) -> bool {
    let Expr::ScalarFunction(function) = expr.clone().unalias() else { return false };
    function.func.name() == "get_field"
        && [WindowFunction::NAME, SessionWindowFunction::NAME].iter().any(|call| window.starts_with(call))
        && matches!(function.args.first(), Some(Expr::Column(column)) if column.name == window)
        && matches!(function.args.get(1), Some(Expr::Literal(field, _)) if field.try_as_str().flatten() == Some("start"))
}
