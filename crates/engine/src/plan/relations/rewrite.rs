//! Puts our relations into the tree, from the innermost query outwards.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExceptSelectItem, Expr, ExprWithAlias, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator,
    LateralView, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier, TableAlias, TableFactor,
    TableWithJoins, Value, VisitMut, VisitorMut, WildcardAdditionalOptions, visit_expressions, visit_expressions_mut,
};

use super::planner::{EXCEPT_ALL, EXPAND, GENERATE, INTERSECT_ALL, UNION, UNION_ALL};
use super::{STAR, alone, derived, everything, generator, query_of, quoted, select_from};
use crate::error::{EngineError, Result};
use crate::plan::functions::generators::{OR_NULLS, ROWS_OF};
use crate::plan::functions::lower::call;
use crate::plan::functions::{plain_number, positional};
use crate::plan::window::WindowFunction;

/// Puts our relations into a query whose names are resolved and whose expressions are lowered.
pub(crate) fn rewrite(query: &mut Query) -> Result<()> {
    match VisitMut::visit(query, &mut Rewriter) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = EngineError;

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<EngineError> {
        match rewrite_select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<EngineError> {
        match set_operations(&mut query.body) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn rewrite_select(select: &mut Select) -> Result<()> {
    select.from = table_functions(std::mem::take(&mut select.from))?;
    for view in std::mem::take(&mut select.lateral_views) {
        let left = nested(std::mem::take(&mut select.from))?;
        select.from = vec![alone(lateral_view(left, view)?)];
    }
    windows(select)?;
    expansions(select)?;
    let misplaced = visit_expressions(select, |expr| match generator(expr) {
        Some(name) => ControlFlow::Break(name),
        None => ControlFlow::Continue(()),
    });
    match misplaced {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(name) => Err(EngineError::query(format!(
            "[UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS] {name} makes rows and cannot stand inside an expression or a condition"
        ))
        .help(format!("give its result a name first: LATERAL VIEW {name}(...) t AS column"))),
    }
}

/// Generators as relations: each takes the rows of what stands left of it.
fn table_functions(from: Vec<TableWithJoins>) -> Result<Vec<TableWithJoins>> {
    let mut out: Vec<TableWithJoins> = Vec::new();
    for item in from {
        let mut current = match item.relation {
            TableFactor::TableFunction { expr, alias } if out.is_empty() => alone(rows_alone(&expr, alias)?),
            TableFactor::TableFunction { expr, alias } => {
                alone(generate(nested(std::mem::take(&mut out))?, &expr, alias, false)?)
            }
            relation => alone(relation),
        };
        for join in item.joins {
            let Join { relation: TableFactor::TableFunction { expr, alias }, join_operator, .. } = join else {
                current.joins.push(join);
                continue;
            };
            let outer = is_outer(&join_operator)?;
            current = alone(generate(nested(vec![current])?, &expr, alias, outer)?);
        }
        out.push(current);
    }
    Ok(out)
}

/// Whether a join with a generator keeps rows that it makes none of.
fn is_outer(operator: &JoinOperator) -> Result<bool> {
    let (constraint, outer) = match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => (c, false),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (c, true),
        _ => return Err(EngineError::query("a generator is joined by another join than INNER, CROSS and LEFT")),
    };
    let is_true = |on: &Expr| matches!(on, Expr::Value(value) if value.value == Value::Boolean(true));
    match constraint {
        JoinConstraint::None => Ok(outer),
        JoinConstraint::On(on) if is_true(on) => Ok(outer),
        _ => Err(EngineError::query("a generator is joined by a condition").help("put the condition into WHERE")),
    }
}

/// Several relations as one, each with its own name still.
fn nested(mut from: Vec<TableWithJoins>) -> Result<TableFactor> {
    if from.is_empty() {
        return Ok(derived(one_row()?));
    }
    let mut first = from.remove(0);
    for item in from {
        let relation = match item.joins.is_empty() {
            true => item.relation,
            false => TableFactor::NestedJoin { table_with_joins: Box::new(item), alias: None },
        };
        let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
        first.joins.push(Join { relation, global: false, join_operator });
    }
    Ok(TableFactor::NestedJoin { table_with_joins: Box::new(first), alias: None })
}

/// `SELECT 1`, for generators that stand under no `FROM`.
fn one_row() -> Result<Query> {
    let one = SelectItem::UnnamedExpr(Expr::value(Value::Number("1".to_owned(), false)));
    query_of(select_from(Some(vec![one]), Vec::new())?)
}

fn lateral_view(left: TableFactor, view: LateralView) -> Result<TableFactor> {
    if generator(&view.lateral_view).is_none() {
        return Err(EngineError::query(format!("LATERAL VIEW {} is no function that makes rows", view.lateral_view))
            .help("use explode, posexplode, inline or stack"));
    }
    let name = view.lateral_view_name.0.last().and_then(|part| part.as_ident()).cloned();
    let columns = view.lateral_col_alias.into_iter().map(ast_column).collect();
    let alias = name.map(|name| TableAlias { explicit: true, name, columns, at: None });
    generate(left, &view.lateral_view, alias, view.outer)
}

fn ast_column(name: Ident) -> datafusion::sql::sqlparser::ast::TableAliasColumnDef {
    datafusion::sql::sqlparser::ast::TableAliasColumnDef { name, data_type: None }
}

/// The rows of `left`, each with the rows that a generator makes of it.
fn generate(left: TableFactor, expr: &Expr, alias: Option<TableAlias>, outer: bool) -> Result<TableFactor> {
    let columns = alias.iter().flat_map(|alias| &alias.columns).map(|column| named(column.name.clone())).collect();
    Ok(TableFactor::Unpivot {
        table: Box::new(left),
        value: rows_of(expr, outer)?,
        name: quoted(GENERATE),
        columns,
        null_inclusion: None,
        alias,
    })
}

fn named(name: Ident) -> ExprWithAlias {
    ExprWithAlias { expr: Expr::Identifier(name), alias: None }
}

/// A generator that is a relation on its own.
fn rows_alone(expr: &Expr, alias: Option<TableAlias>) -> Result<TableFactor> {
    let (name, columns) = match alias {
        Some(alias) => (Some(alias.name), alias.columns.into_iter().map(|column| column.name).collect()),
        None => (None, Vec::new()),
    };
    let item = SelectItem::ExprWithAlias { expr: rows_of(expr, false)?, alias: quoted(&expanded_name(0)) };
    let rows = query_of(select_from(Some(vec![item]), Vec::new())?)?;
    let alias = name.map(|name| TableAlias { explicit: true, name, columns: Vec::new(), at: None });
    Ok(expand(derived(rows), vec![(expanded_name(0), columns)], alias))
}

/// A generator's rows as an array.
fn rows_of(expr: &Expr, outer: bool) -> Result<Expr> {
    let (Some(name), Expr::Function(function)) = (generator(expr), expr) else {
        return Err(EngineError::query(format!("{expr} is no function that makes rows"))
            .help("use explode, posexplode, inline or stack"));
    };
    let mut args = positional(function)
        .ok_or_else(|| EngineError::query(format!("the arguments of {name} are expressions without names")))?;
    if name == "stack"
        && let Some(rows) = args.first_mut()
    {
        *rows = plain_number(rows);
    }
    let plain = name.trim_end_matches("_outer");
    let rows = call(&format!("{ROWS_OF}{plain}"), args);
    Ok(if outer || plain != name { call(OR_NULLS, [rows]) } else { rows })
}

fn expanded_name(at: usize) -> String {
    format!("expanded {at}")
}

fn expand(rows: TableFactor, columns: Vec<(String, Vec<Ident>)>, alias: Option<TableAlias>) -> TableFactor {
    let column = |(name, aliases): (String, Vec<Ident>)| {
        let names = std::iter::once(quoted(&name)).chain(aliases);
        ExprWithAlias { expr: Expr::Tuple(names.map(Expr::Identifier).collect()), alias: None }
    };
    TableFactor::Unpivot {
        table: Box::new(rows),
        value: Expr::value(Value::Null),
        name: quoted(EXPAND),
        columns: columns.into_iter().map(column).collect(),
        null_inclusion: None,
        alias,
    }
}

/// Select items that become several columns, or several rows: the `SELECT` gives each as one column, which the relation
/// around it takes apart at its place.
fn expansions(select: &mut Select) -> Result<()> {
    let mut columns = Vec::new();
    let mut generators = 0;
    for item in &mut select.projection {
        let (expr, aliases) = match &*item {
            SelectItem::UnnamedExpr(expr) => (expr, Vec::new()),
            SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.clone()]),
            SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
            _ => continue,
        };
        let one = match expr {
            Expr::Function(function) if function.name.to_string() == STAR => {
                positional(function).and_then(|args| args.into_iter().next())
            }
            expr if generator(expr).is_some() => {
                generators += 1;
                Some(rows_of(expr, false)?)
            }
            _ => None,
        };
        let Some(expr) = one else { continue };
        let name = expanded_name(columns.len());
        *item = SelectItem::ExprWithAlias { expr, alias: quoted(&name) };
        columns.push((name, aliases));
    }
    if generators > 1 {
        return Err(EngineError::query(
            "[UNSUPPORTED_GENERATOR.MULTI_GENERATOR] a SELECT has one function that makes rows",
        )
        .help("write the others as LATERAL VIEW explode(...) t AS column"));
    }
    if columns.is_empty() {
        return Ok(());
    }
    let mut outer = select_from(None, Vec::new())?;
    outer.distinct = select.distinct.take();
    let inner = std::mem::replace(select, outer);
    select.from = vec![alone(expand(derived(query_of(inner)?), columns, None))];
    Ok(())
}

/// `window(...)` in a `SELECT` that groups by nothing: a time that is null has no window, and one that is in several has
/// a row for each.
fn windows(select: &mut Select) -> Result<()> {
    if !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty()) {
        return Ok(());
    }
    let mut calls: Vec<Expr> = Vec::new();
    let _: ControlFlow<()> = visit_expressions(&select.projection, |expr| {
        if is_window(expr) && !calls.contains(expr) {
            calls.push(expr.clone());
        }
        ControlFlow::Continue(())
    });
    for (at, window) in calls.into_iter().enumerate() {
        let Expr::Function(function) = &window else { continue };
        let Some(args) = positional(function) else { continue };
        let is_tumbling = args.len() == 2 || (args.len() > 2 && args[1] == args[2]);
        if is_tumbling {
            let known = Expr::IsNotNull(Box::new(Expr::Nested(Box::new(args[0].clone()))));
            select.selection = Some(match select.selection.take() {
                Some(selection) => Expr::BinaryOp {
                    left: Box::new(known),
                    op: BinaryOperator::And,
                    right: Box::new(Expr::Nested(Box::new(selection))),
                },
                None => known,
            });
            continue;
        }
        let name = quoted(&format!("window {at}"));
        let left = nested(std::mem::take(&mut select.from))?;
        select.from = vec![alone(TableFactor::Unpivot {
            table: Box::new(left),
            value: call(&format!("{ROWS_OF}{}", WindowFunction::NAME), args),
            name: quoted(GENERATE),
            columns: vec![named(name.clone())],
            null_inclusion: None,
            alias: None,
        })];
        put_in_place(select, &window, &name);
    }
    Ok(())
}

fn is_window(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function)
        if function.over.is_none() && function.name.to_string().eq_ignore_ascii_case(WindowFunction::NAME))
}

/// The column of windows in the place of the call; `*` does not show it.
fn put_in_place(select: &mut Select, window: &Expr, name: &Ident) {
    let replace = |expr: &mut Expr| -> ControlFlow<()> {
        if expr == window {
            *expr = Expr::Identifier(name.clone());
        }
        ControlFlow::Continue(())
    };
    let _: ControlFlow<()> = visit_expressions_mut(&mut select.projection, replace);
    let _: ControlFlow<()> = visit_expressions_mut(&mut select.selection, replace);
    for item in &mut select.projection {
        let SelectItem::Wildcard(options) = item else { continue };
        match &mut options.opt_except {
            Some(except) => except.additional_elements.push(name.clone()),
            None => {
                options.opt_except =
                    Some(ExceptSelectItem { first_element: name.clone(), additional_elements: Vec::new() });
            }
        }
    }
}

/// Set operations by place: the types of both sides are widened, which the planner of the relation does. DataFusion plans
/// those that give each row once.
fn set_operations(body: &mut SetExpr) -> Result<()> {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return Ok(()) };
    set_operations(left)?;
    set_operations(right)?;
    // Another word for the same.
    if *op == SetOperator::Minus {
        *op = SetOperator::Except;
    }
    let kind = match (op, set_quantifier) {
        (SetOperator::Union, SetQuantifier::All) => UNION_ALL,
        (SetOperator::Union, SetQuantifier::Distinct | SetQuantifier::None) => UNION,
        (SetOperator::Except, SetQuantifier::All) => EXCEPT_ALL,
        (SetOperator::Intersect, SetQuantifier::All) => INTERSECT_ALL,
        _ => return Ok(()),
    };
    let side = |side: &mut Box<SetExpr>| -> Result<Query> {
        let mut query = everything()?;
        std::mem::swap(&mut query.body, side);
        Ok(query)
    };
    let (left, right) = (side(left)?, side(right)?);
    let relation = TableFactor::Unpivot {
        table: Box::new(derived(left)),
        value: Expr::value(Value::Null),
        name: quoted(kind),
        columns: vec![ExprWithAlias { expr: Expr::Subquery(Box::new(right)), alias: None }],
        null_inclusion: None,
        alias: None,
    };
    let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    *body = SetExpr::Select(Box::new(select_from(Some(vec![all]), vec![alone(relation)])?));
    Ok(())
}
