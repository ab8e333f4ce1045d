//! Lets `from_json` decode only the fields that a query uses, straight from the bytes a topic holds.
//!
//! ```text
//!   Projection j.a, j.b                                        Projection j.a, j.b
//!   └ Projection from_json(CAST(value AS STRING), 'a INT, ...') AS j   ─>  └ Projection from_json(value, 'a INT, ...',
//!     └ TableScan value                                                        fields ["a", "b"]) AS j
//! ```
//!
//! The call keeps its type, so that nothing else of the plan changes: the function gives null for fields that nobody
//! reads. Its last argument names the others; it is a `LargeUtf8` constant, a type that no SQL text has, and its
//! value is a JSON array of names, or null for all fields. What the function makes of it is its own affair.
//!
//! A node this does not know is taken to use everything.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinType, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::logical::WatermarkNode;
use super::streaming::row_ids::RowIdsNode;

/// The function that decodes documents; connectors bring it.
const DECODE: &str = "from_json";

/// What is used of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use {
    Nothing,
    Fields(BTreeSet<String>),
    Whole,
}

impl Use {
    pub(super) fn field(name: &str) -> Self {
        Self::Fields(BTreeSet::from([name.to_owned()]))
    }

    pub(super) fn add(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Whole, _) | (_, Self::Nothing) => {}
            (Self::Fields(known), Self::Fields(more)) => known.extend(more.iter().cloned()),
            _ => *self = other.clone(),
        }
    }

    /// The last argument of the call.
    fn argument(&self) -> Expr {
        let names = match self {
            Self::Fields(names) => serde_json::to_string(names).ok(),
            Self::Nothing | Self::Whole => None,
        };
        Expr::Literal(ScalarValue::LargeUtf8(names), None)
    }
}

/// The rule; see the module's head.
#[derive(Debug, Default)]
pub(crate) struct JsonFields;

impl OptimizerRule for JsonFields {
    fn name(&self) -> &str {
        "json_fields"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let any = |found: fn(&Expr) -> bool| {
            plan.exists(|node| {
                let mut exprs = node.expressions().into_iter();
                exprs.try_fold(false, |any, expr| Ok(any || expr.exists(|inner| Ok(found(inner)))?))
            })
        };
        if !any(|expr| decode_call(expr).is_some())? || any(is_subquery)? {
            return Ok(Transformed::no(plan));
        }
        let uses = vec![Use::Whole; plan.schema().fields().len()];
        rewrite(plan, &uses)
    }
}

fn rewrite(plan: LogicalPlan, uses: &[Use]) -> Result<Transformed<LogicalPlan>> {
    let mut changed = false;
    let inner = input_uses(&plan, uses)?;
    let mut inputs = Vec::with_capacity(inner.len());
    for (input, uses) in plan.inputs().into_iter().zip(&inner) {
        let input = rewrite(input.clone(), uses)?;
        changed |= input.transformed;
        inputs.push(input.data);
    }
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let mut exprs = Vec::new();
    for (at, expr) in plan.expressions().into_iter().enumerate() {
        let own = match (&plan, uses.get(at)) {
            (LogicalPlan::Projection(_), Some(own)) => own,
            _ => &Use::Whole,
        };
        let name = names.save(&expr);
        let expr = rewrite_expr(expr, own, &schema)?;
        changed |= expr.transformed;
        exprs.push(if expr.transformed { name.restore(expr.data) } else { expr.data });
    }
    if !changed {
        return Ok(Transformed::no(plan));
    }
    plan.with_new_exprs(exprs, inputs).map(Transformed::yes)
}

/// What a node uses of the columns of its inputs, when so much of its own columns is used.
fn input_uses(plan: &LogicalPlan, uses: &[Use]) -> Result<Vec<Vec<Use>>> {
    let inputs = plan.inputs();
    let all = |of: Use| -> Vec<Vec<Use>> {
        inputs.iter().map(|input| vec![of.clone(); input.schema().fields().len()]).collect()
    };
    let passes_on = match plan {
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::SubqueryAlias(_) => true,
        LogicalPlan::Extension(extension) => {
            let any = extension.node.as_any();
            any.is::<WatermarkNode>() || any.is::<RowIdsNode>()
        }
        _ => false,
    };
    Ok(match plan {
        LogicalPlan::Union(_) => vec![uses.to_vec(); inputs.len()],
        LogicalPlan::Projection(projection) => {
            let mut used = all(Use::Nothing);
            for (expr, own) in projection.expr.iter().zip(uses) {
                let own = if *own == Use::Nothing { &Use::Whole } else { own };
                collect(expr, own, projection.input.schema(), &mut used[0])?;
            }
            used
        }
        LogicalPlan::Aggregate(aggregate) => {
            let mut used = all(Use::Nothing);
            for expr in aggregate.group_expr.iter().chain(&aggregate.aggr_expr) {
                collect(expr, &Use::Whole, aggregate.input.schema(), &mut used[0])?;
            }
            used
        }
        LogicalPlan::Join(join)
            if matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) =>
        {
            let mut used = uses.to_vec();
            let schema = merge_schema(&inputs);
            for expr in plan.expressions() {
                collect(&expr, &Use::Whole, &schema, &mut used)?;
            }
            let right = used.split_off(join.left.schema().fields().len());
            vec![used, right]
        }
        _ if passes_on && inputs.len() == 1 => {
            let mut used = uses.to_vec();
            for expr in plan.expressions() {
                collect(&expr, &Use::Whole, inputs[0].schema(), &mut used)?;
            }
            vec![used]
        }
        _ => all(Use::Whole),
    })
}

/// Notes what an expression uses of the columns, when so much of its value is used.
fn collect(expr: &Expr, own: &Use, schema: &DFSchema, used: &mut [Use]) -> Result<()> {
    match expr {
        Expr::Column(column) => {
            if let Some(used) = schema.maybe_index_of_column(column).and_then(|at| used.get_mut(at)) {
                used.add(own);
            }
            Ok(())
        }
        Expr::Alias(alias) => collect(&alias.expr, own, schema, used),
        _ => match field_access(expr) {
            Some((base, name)) => collect(base, &Use::field(name), schema, used),
            None => {
                let mut children = Vec::new();
                expr.apply_children(|child| {
                    children.push(child);
                    Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
                })?;
                children.into_iter().try_for_each(|child| collect(child, &Use::Whole, schema, used))
            }
        },
    }
}

fn rewrite_expr(expr: Expr, own: &Use, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Some(call) = decode_call(&expr) {
        let narrowed = narrowed(call, own, schema);
        return Ok(Transformed::new_transformed(narrowed.clone(), narrowed != expr));
    }
    let inner = match &expr {
        Expr::Alias(_) => own.clone(),
        _ => field_access(&expr).map_or(Use::Whole, |(_, name)| Use::field(name)),
    };
    expr.map_children(|child| rewrite_expr(child, &inner, schema))
}

/// The call with the fields it is to decode, reading bytes where it can.
fn narrowed(call: &ScalarFunction, own: &Use, schema: &DFSchema) -> Expr {
    let mut args = call.args.clone();
    if args.last().is_some_and(is_field_list) {
        args.pop();
    }
    if let Some(bytes) = args.first().and_then(|text| bytes_of(text, schema)) {
        args[0] = bytes;
    }
    args.push(own.argument());
    Expr::ScalarFunction(ScalarFunction { func: call.func.clone(), args })
}

/// What `CAST(bytes AS STRING)` casts.
fn bytes_of(text: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::ScalarFunction(call) = text else { return None };
    let [value, Expr::Literal(to, _)] = call.args.as_slice() else { return None };
    let is_text = call.name() == "cast" && to.try_as_str().flatten() == Some("STRING");
    (is_text && matches!(value.get_type(schema), Ok(DataType::Binary))).then(|| value.clone())
}

fn decode_call(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == DECODE => Some(call),
        _ => None,
    }
}

fn is_field_list(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::LargeUtf8(_), _))
}

fn field_access(expr: &Expr) -> Option<(&Expr, &str)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match call.args.as_slice() {
        [base, Expr::Literal(name, _)] if call.name() == "get_field" => Some((base, name.try_as_str().flatten()?)),
        _ => None,
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..))
}
