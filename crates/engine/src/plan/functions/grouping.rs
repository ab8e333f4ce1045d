//! `GROUP BY a, b WITH ROLLUP`, `grouping(a)` and `grouping_id()` in DataFusion's forms.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, GroupByExpr, GroupByWithModifier, Select, VisitMut, VisitorMut,
};

use super::lower::{call, plain_call, text_literal};
use crate::error::{EngineError, Result};

/// Puts modifiers of `GROUP BY` into its expressions, and the grouping expressions into `grouping_id()`.
pub(super) fn prepare(select: &mut Select) -> Result<()> {
    let mut grouped: Vec<Expr> = Vec::new();
    if let GroupByExpr::Expressions(exprs, modifiers) = &mut select.group_by {
        for modifier in std::mem::take(modifiers) {
            let each = std::mem::take(exprs).into_iter().map(|expr| vec![expr]).collect();
            *exprs = vec![match modifier {
                GroupByWithModifier::Rollup => Expr::Rollup(each),
                GroupByWithModifier::Cube => Expr::Cube(each),
                GroupByWithModifier::GroupingSets(sets) => sets,
                GroupByWithModifier::Totals => {
                    return Err(EngineError::query("GROUP BY ... WITH TOTALS is not Spark's").help("use WITH ROLLUP"));
                }
            }];
        }
        let sets = exprs.iter().filter_map(|expr| match expr {
            Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => Some(sets),
            _ => None,
        });
        for expr in sets.flatten().flatten() {
            if !grouped.contains(expr) {
                grouped.push(expr.clone());
            }
        }
    }
    let mut calls = Calls { grouped: &grouped };
    let mut flow = ControlFlow::Continue(());
    for item in &mut select.projection {
        if flow.is_continue() {
            flow = VisitMut::visit(item, &mut calls);
        }
    }
    if let (ControlFlow::Continue(()), Some(having)) = (&flow, &mut select.having) {
        flow = VisitMut::visit(having, &mut calls);
    }
    match flow {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Calls<'a> {
    grouped: &'a [Expr],
}

impl VisitorMut for Calls<'_> {
    type Break = EngineError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<EngineError> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_lowercase();
        if !matches!(name.as_str(), "grouping" | "grouping_id") {
            return ControlFlow::Continue(());
        }
        if self.grouped.is_empty() {
            return ControlFlow::Break(
                EngineError::query(format!("[UNSUPPORTED_GROUPING_EXPRESSION] {name} stands without grouping sets"))
                    .help("group by ROLLUP(...), CUBE(...) or GROUPING SETS (...)"),
            );
        }
        if is_empty(function) {
            function.args = plain_call("", self.grouped.iter().cloned()).args;
        }
        ControlFlow::Continue(())
    }
}

fn is_empty(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list) if list.args.is_empty())
}

/// `grouping` and `grouping_id` with Spark's types; nothing for other functions.
pub(super) fn lowered(name: &str, args: &[Expr]) -> Option<Expr> {
    let data_type = match (name, args) {
        ("grouping", [_]) => "TINYINT",
        ("grouping_id", [_, ..]) => "BIGINT",
        _ => return None,
    };
    Some(call("cast", [call("grouping", args.iter().cloned()), text_literal(data_type.to_owned())]))
}
