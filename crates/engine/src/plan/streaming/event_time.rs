//! Which columns of a relation are event time: those a watermark is on, as far as they come through unchanged.
//!
//! A column stays event time when it is selected, renamed, grouped by or joined; a window or session of event time is
//! event time too, and so is `window_time` of such a window. What an expression makes of it is not, as in Spark.

use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::plan::lineage::{Mark, is_marked, marked_columns};
use crate::plan::logical::WatermarkNode;
use crate::plan::session_window::session_call;
use crate::plan::window::{WindowTimeFunction, window_call};

struct IsEventTime;

impl Mark for IsEventTime {
    fn of_node(&self, plan: &LogicalPlan) -> Option<Vec<bool>> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        let node = extension.node.as_any().downcast_ref::<WatermarkNode>()?;
        Some(node.input.schema().fields().iter().map(|field| field.name() == &node.column).collect())
    }

    fn of_expr(&self, expr: &Expr, is_event_time: &dyn Fn(&Expr) -> bool) -> bool {
        match expr {
            Expr::ScalarFunction(function) if function.func.name() == WindowTimeFunction::NAME => {
                function.args.iter().any(is_event_time)
            }
            expr => match (window_call(expr), session_call(expr)) {
                (Some(Ok((time, _))), _) | (_, Some(time)) => is_event_time(time),
                _ => false,
            },
        }
    }
}

/// For each column of the plan's output whether it is event time.
pub(crate) fn event_times(plan: &LogicalPlan) -> Vec<bool> {
    marked_columns(plan, &IsEventTime)
}

/// Whether an expression over the columns of `input` is event time; `times` are those of its columns that are.
pub(super) fn is_event_time(expr: &Expr, input: &LogicalPlan, times: &[bool]) -> bool {
    is_marked(expr, input, times, &IsEventTime)
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
