//! Random functions on streams, made functions of a row's id, so that a batch that is run again gives the same rows.
//!
//! ```text
//!   Filter: rand() < 0.1            Projection: k, v
//!   └ stream                        └ Filter: rand_of_row(seed(), `(row 0)`) < 0.1
//!                                     └ RowIds: `(row 0)`
//!                                       └ stream
//! ```
//!
//! The node is a step of its stage, which knows where its rows come from ([`crate::operator::draws`]). Relations without
//! streams in the same query, static tables and what runs over whole results, have no stages: there a projection gives
//! the ids, by the columns.
//!
//! Refused where a row is not one of the input: in the condition of a join, and in a lambda, which would draw the same
//! for each element.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};

use super::compiler::{Compiler, prepend};
use super::nodes::only;
use super::{StageOutput, unqualified};
use crate::error::{EngineError, Result};
use crate::operator::draws::{Draws, ROW_ID};
use crate::operator::stateless::Step;
use crate::plan::functions::random::{Drawn, Seed, of_row, row_ids};
use crate::plan::logical::is_streaming;

/// The plan with its random functions replaced. Columns keep their names.
pub(super) fn put_into(plan: LogicalPlan, draws: &Arc<Draws>) -> Result<LogicalPlan> {
    let (mut sites, mut calls) = (0, 0);
    let drawn = plan.transform_up_with_subqueries(|node| {
        if !any(&node.expressions(), &is_draw)? {
            return Ok(Transformed::no(node));
        }
        let site = sites;
        sites += 1;
        replaced(node, draws, site, &mut calls).map(Transformed::yes)
    })?;
    Ok(drawn.data)
}

fn is_draw(expr: &Expr) -> bool {
    Drawn::of(expr).is_some()
}

/// Whether one of the expressions, or a part of one, is such a one.
fn any(exprs: &[Expr], is: &dyn Fn(&Expr) -> bool) -> DfResult<bool> {
    exprs.iter().try_fold(false, |found, expr| Ok(found || expr.exists(|inner| Ok(is(inner)))?))
}

fn replaced(node: LogicalPlan, draws: &Arc<Draws>, site: usize, calls: &mut u64) -> DfResult<LogicalPlan> {
    refuse(&node)?;
    let exprs = node.expressions();
    let input = node.inputs().into_iter().next().cloned().unwrap_or_default();
    let columns: Vec<Expr> = node.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
    // What passes its rows on would pass their ids on too.
    let passes_on = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Window(_));
    let names = NamePreserver::new(&node);
    let mut draw = |expr: Expr| -> DfResult<Transformed<Expr>> {
        let Some((drawn, call)) = Drawn::of(&expr) else { return Ok(Transformed::no(expr)) };
        *calls += 1;
        of_row(drawn, call, Seed::new(draws, *calls), Expr::Column(row_column(site))).map(Transformed::yes)
    };
    let exprs = exprs.into_iter().map(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(&mut draw)?.update_data(|expr| name.restore(expr)).data)
    });
    let exprs = exprs.collect::<DfResult<Vec<_>>>()?;
    let node = node.with_new_exprs(exprs, vec![with_ids(input, draws, site)?])?;
    match passes_on {
        true => LogicalPlanBuilder::from(node).project(columns)?.build(),
        false => Ok(node),
    }
}

fn refuse(node: &LogicalPlan) -> DfResult<()> {
    let in_lambda = |expr: &Expr| match expr {
        Expr::Lambda(lambda) => any(std::slice::from_ref(lambda.body.as_ref()), &is_draw).unwrap_or(true),
        _ => false,
    };
    let error = if any(&node.expressions(), &in_lambda)? {
        EngineError::query("on a stream a lambda cannot draw random numbers: it would draw the same for every element")
            .help("draw one number for the row outside of the lambda, or explode the array and draw for each row")
    } else {
        match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Window(_) => return Ok(()),
            _ => EngineError::query(
                "on a stream random numbers can be drawn in a select list, WHERE, HAVING, GROUP BY, ORDER BY and functions \
                 over groups, and not in the condition of a join or in DISTINCT ON",
            )
            .help("draw them in a subquery: (SELECT *, rand() AS r FROM ...)"),
        }
    };
    Err(DataFusionError::External(Box::new(error)))
}

fn with_ids(input: LogicalPlan, draws: &Arc<Draws>, site: usize) -> DfResult<LogicalPlan> {
    let node = RowIdsNode::new(input, site, draws)?;
    if is_streaming(&node.input) {
        return Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }));
    }
    node.as_projection()
}

fn row_column(site: usize) -> Column {
    Column::new_unqualified(format!("(row {site})"))
}

/// Rows with one more column, the last: their ids.
#[derive(Debug, Clone)]
pub(crate) struct RowIdsNode {
    pub(super) input: LogicalPlan,
    schema: DFSchemaRef,
    /// Which of the places in the plan that give ids it is.
    site: usize,
    draws: Arc<Draws>,
}

impl RowIdsNode {
    fn new(input: LogicalPlan, site: usize, draws: &Arc<Draws>) -> DfResult<Self> {
        let id = Field::new(row_column(site).name, ROW_ID, false);
        let id = DFSchema::from_unqualified_fields(vec![id].into(), Default::default())?;
        let schema = Arc::new(input.schema().join(&id)?);
        Ok(Self { input, schema, site, draws: Arc::clone(draws) })
    }

    /// The node that a plan is.
    pub(super) fn of(plan: &LogicalPlan) -> Option<&Self> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        extension.node.as_any().downcast_ref()
    }

    /// The same in an ordinary query.
    pub(super) fn as_projection(&self) -> DfResult<LogicalPlan> {
        let columns: Vec<Expr> = self.input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
        let ids = row_ids(&self.draws, self.site, columns.clone()).alias(row_column(self.site).name);
        LogicalPlanBuilder::from(self.input.clone()).project(columns.into_iter().chain([ids]))?.build()
    }
}

impl Compiler {
    pub(super) fn row_ids(&mut self, node: &RowIdsNode, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        let schema = Arc::new(unqualified(&node.schema));
        self.node(&node.input, prepend(Step::RowIds { site: node.site, schema }, steps), output)
    }
}

impl PartialEq for RowIdsNode {
    fn eq(&self, other: &Self) -> bool {
        self.site == other.site && self.input == other.input
    }
}

impl Eq for RowIdsNode {}

impl Hash for RowIdsNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.site.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for RowIdsNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.site.partial_cmp(&other.site)
    }
}

impl UserDefinedLogicalNodeCore for RowIdsNode {
    fn name(&self) -> &str {
        "RowIds"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// A filter on what was drawn stays above.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::from([row_column(self.site).name])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowIds: {}", row_column(self.site).name)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        Self::new(only(inputs)?, self.site, &self.draws)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let columns = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < columns).collect()])
    }
}
