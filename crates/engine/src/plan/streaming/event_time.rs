//! Which columns of a relation are event time: those a watermark is on, as far as they come through unchanged.
//!
//! A column stays event time when it is selected, renamed, grouped by or joined; a window of event time is event time
//! too, and so is `window_time` of such a window. What an expression makes of it is not, as in Spark.

use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::plan::logical::WatermarkNode;
use crate::plan::window::{WindowTimeFunction, window_call};

/// For each column of the plan's output whether it is event time.
pub(super) fn event_times(plan: &LogicalPlan) -> Vec<bool> {
    match plan {
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WatermarkNode>() {
            Some(node) => node.input.schema().fields().iter().map(|field| field.name() == &node.column).collect(),
            None => extension.node.inputs().first().map(|input| event_times(input)).unwrap_or_default(),
        },
        LogicalPlan::Projection(projection) => through(&projection.expr, &projection.input),
        LogicalPlan::Aggregate(aggregate) => {
            let mut times = through(&aggregate.group_expr, &aggregate.input);
            times.resize(aggregate.schema.fields().len(), false);
            times
        }
        LogicalPlan::Join(join) => {
            let mut times = event_times(&join.left);
            times.extend(event_times(&join.right));
            // A semi join gives the columns of one side.
            times.truncate(join.schema.fields().len());
            times
        }
        LogicalPlan::TableScan(scan) => vec![false; scan.projected_schema.fields().len()],
        other => match other.inputs().first() {
            Some(input) => event_times(input),
            None => vec![false; other.schema().fields().len()],
        },
    }
}

fn through(exprs: &[Expr], input: &LogicalPlan) -> Vec<bool> {
    let times = event_times(input);
    exprs.iter().map(|expr| is_event_time(expr, input, &times)).collect()
}

/// Whether an expression over the columns of `input` is event time; `times` are those of its columns that are.
pub(super) fn is_event_time(expr: &Expr, input: &LogicalPlan, times: &[bool]) -> bool {
    match expr {
        Expr::Alias(alias) => is_event_time(&alias.expr, input, times),
        Expr::Column(column) => {
            input.schema().maybe_index_of_column(column).is_some_and(|at| times.get(at).copied().unwrap_or(false))
        }
        Expr::ScalarFunction(function) if function.func.name() == WindowTimeFunction::NAME => {
            function.args.iter().any(|arg| is_event_time(arg, input, times))
        }
        expr => match window_call(expr) {
            Some(Ok((time, _))) => is_event_time(time, input, times),
            _ => false,
        },
    }
}

/// How late rows may be by the watermarks below; the longest of several.
pub(super) fn watermark_delay_us(plan: &LogicalPlan) -> Option<i64> {
    if let LogicalPlan::Extension(extension) = plan
        && let Some(node) = extension.node.as_any().downcast_ref::<WatermarkNode>()
    {
        return Some(node.delay_us);
    }
    plan.inputs().into_iter().filter_map(watermark_delay_us).max()
}
