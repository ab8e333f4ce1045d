//! What a grouping by sessions means where no stream is read: a rewrite into windows and groups that DataFusion has.
//!
//! ```text
//!   GROUP BY k, session_window(ts, gap)
//!
//!   rows with start and end of their own session
//!     reach    the latest end of the rows of the same key that begin earlier
//!     number   how many rows up to this one begin after what was reached, so that a session begins with them
//!   GROUP BY k, number: the session is from the first start to the last end
//! ```
//!
//! The rule also leaves out the rows of a projection that have no session, on streams too, as Spark does. Groupings on
//! streams stay as they are: there it is the session operator that joins sessions.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue, plan_err};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Distinct, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, Projection, WindowFrame,
    WindowFrameBound, WindowFrameUnits, ident, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use super::{JoinedSessionFunction, grouping_session, session_call};
use crate::plan::logical::is_streaming;

const SESSION: &str = "__session";
const START: &str = "__session_start";
const END: &str = "__session_end";
const REACH: &str = "__session_reach";
const BEGINS: &str = "__session_begins";
const NUMBER: &str = "__session_number";

/// The rule; see the module.
#[derive(Debug)]
pub(crate) struct MergeSessions;

impl AnalyzerRule for MergeSessions {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }

    fn name(&self) -> &str {
        "merge_sessions"
    }
}

fn rewrite(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    match &plan {
        LogicalPlan::Projection(projection) => match without_null_sessions(projection)? {
            Some(filtered) => Ok(Transformed::yes(filtered)),
            None => Ok(Transformed::no(plan)),
        },
        LogicalPlan::Aggregate(aggregate) if is_streaming(&aggregate.input) => Ok(Transformed::no(plan)),
        LogicalPlan::Aggregate(aggregate) => {
            if aggregate.group_expr.iter().any(holds_session_in_a_set) {
                return plan_err!("session_window cannot be one of the sets of ROLLUP, CUBE or GROUPING SETS");
            }
            match grouping_session(&aggregate.group_expr, &aggregate.input) {
                Some(position) => Ok(Transformed::yes(merged(aggregate, position)?)),
                None => Ok(Transformed::no(plan)),
            }
        }
        LogicalPlan::Distinct(Distinct::All(input)) if !is_streaming(input) => {
            let columns = columns_of(input.schema());
            let Some(position) = grouping_session(&columns, input) else { return Ok(Transformed::no(plan)) };
            let aggregate = Aggregate::try_new(Arc::clone(input), columns, Vec::new())?;
            Ok(Transformed::yes(merged(&aggregate, position)?))
        }
        _ => Ok(Transformed::no(plan)),
    }
}

fn columns_of(schema: &DFSchema) -> Vec<Expr> {
    schema.iter().map(|column| Expr::Column(Column::from(column))).collect()
}

fn holds_session_in_a_set(expr: &Expr) -> bool {
    matches!(expr, Expr::GroupingSet(_)) && !calls_in(expr).is_empty()
}

/// The calls of `session_window` in an expression.
fn calls_in(expr: &Expr) -> Vec<Expr> {
    let mut calls = Vec::new();
    let _ = expr.apply(|inner| {
        if matches!(inner, Expr::ScalarFunction(_)) && session_call(inner).is_some() && !calls.contains(inner) {
            calls.push(inner.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    calls
}

/// The projection over those rows only that have every session it computes.
fn without_null_sessions(projection: &Projection) -> DfResult<Option<LogicalPlan>> {
    let present = projection.expr.iter().flat_map(calls_in).map(Expr::is_not_null).reduce(Expr::and);
    let Some(present) = present else { return Ok(None) };
    // A plan may be analysed more than once.
    if matches!(projection.input.as_ref(), LogicalPlan::Filter(filter) if filter.predicate == present) {
        return Ok(None);
    }
    let input = LogicalPlanBuilder::new_from_arc(Arc::clone(&projection.input)).filter(present)?.build()?;
    let schema = Arc::clone(&projection.schema);
    Ok(Some(LogicalPlan::Projection(Projection::try_new_with_schema(projection.expr.clone(), input.into(), schema)?)))
}

/// The same grouping with sessions joined.
fn merged(aggregate: &Aggregate, position: usize) -> DfResult<LogicalPlan> {
    let keys: Vec<Expr> = (0..aggregate.group_expr.len()).filter(|at| *at != position).map(key).collect();
    let numbered = numbered(rows_with_sessions(aggregate, position)?, &keys)?;
    let mut aggregates = vec![min_udaf().call(vec![ident(START)]), max_udaf().call(vec![ident(END)])];
    aggregates.extend(aggregate.aggr_expr.iter().cloned());
    let groups = keys.into_iter().chain([ident(NUMBER)]);
    let grouped = LogicalPlanBuilder::from(numbered).aggregate(groups, aggregates)?.build()?;
    let columns = columns_of(grouped.schema());
    let number = aggregate.group_expr.len() - 1;
    let session = JoinedSessionFunction::udf().call(columns[number + 1..number + 3].to_vec());
    let mut keys = columns[..number].iter().cloned();
    let mut output: Vec<Expr> = Vec::new();
    for at in 0..aggregate.group_expr.len() {
        output.extend(if at == position { Some(session.clone()) } else { keys.next() });
    }
    output.extend(columns[number + 3..].iter().cloned());
    let named = output
        .into_iter()
        .zip(aggregate.schema.iter())
        .map(|(expr, (qualifier, field))| expr.alias_qualified(qualifier.cloned(), field.name()));
    LogicalPlanBuilder::from(grouped).project(named)?.build()
}

fn key(at: usize) -> Expr {
    ident(format!("__session_key_{at}"))
}

/// The rows that have a session, with its start and end and the other grouping expressions as columns.
fn rows_with_sessions(aggregate: &Aggregate, position: usize) -> DfResult<LogicalPlan> {
    let mut columns = columns_of(aggregate.input.schema());
    let mut computed = columns.clone();
    for (at, expr) in aggregate.group_expr.iter().enumerate() {
        let name = if at == position { SESSION.to_owned() } else { format!("__session_key_{at}") };
        computed.push(expr.clone().unalias().alias(name));
        if at != position {
            columns.push(key(at));
        }
    }
    let field = |name: &str| datafusion::functions::core::get_field().call(vec![ident(SESSION), lit(name)]);
    columns.push(field("start").alias(START));
    columns.push(field("end").alias(END));
    LogicalPlanBuilder::new_from_arc(Arc::clone(&aggregate.input))
        .project(computed)?
        .filter(ident(SESSION).is_not_null())?
        .project(columns)?
        .build()
}

/// The rows with the number of their session within their key.
fn numbered(rows: LogicalPlan, keys: &[Expr]) -> DfResult<LogicalPlan> {
    let earlier = WindowFrame::new_bounds(WindowFrameUnits::Rows, FIRST, WindowFrameBound::Preceding(count(1)));
    // Rows that begin together count together: one of them begins the session, whichever it is.
    let up_to_here = WindowFrame::new_bounds(WindowFrameUnits::Range, FIRST, WindowFrameBound::CurrentRow);
    let reached = over(rows, REACH, (max_udaf(), END), keys, earlier)?;
    let begins = when(ident(REACH).is_null().or(ident(START).gt(ident(REACH))), lit(1_i64)).otherwise(lit(0_i64))?;
    let mut columns = columns_of(reached.schema());
    columns.push(begins.alias(BEGINS));
    let marked = LogicalPlanBuilder::from(reached).project(columns)?.build()?;
    over(marked, NUMBER, (sum_udaf(), BEGINS), keys, up_to_here)
}

const FIRST: WindowFrameBound = WindowFrameBound::Preceding(ScalarValue::UInt64(None));

fn count(rows: u64) -> ScalarValue {
    ScalarValue::UInt64(Some(rows))
}

/// The rows with one more column: a function of another column over a frame of the same key's rows in their order.
fn over(
    rows: LogicalPlan,
    name: &str,
    (function, column): (Arc<AggregateUDF>, &str),
    keys: &[Expr],
    frame: WindowFrame,
) -> DfResult<LogicalPlan> {
    let mut columns = columns_of(rows.schema());
    let value = Expr::from(WindowFunction::new(function, vec![ident(column)]))
        .partition_by(keys.to_vec())
        .order_by(vec![ident(START).sort(true, true)])
        .window_frame(frame)
        .build()?;
    let windowed = LogicalPlanBuilder::from(rows).window([value])?.build()?;
    columns.extend(columns_of(windowed.schema()).pop().map(|value| value.alias(name)));
    LogicalPlanBuilder::from(windowed).project(columns)?.build()
}
