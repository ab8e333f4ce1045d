//! `FROM t |> WHERE ... |> AGGREGATE ...`: each operator as the clause of a query over the one before.
//!
//! ```text
//!   FROM a |> WHERE v > 0 |> SELECT k |> LIMIT 5      SELECT k FROM a WHERE v > 0 LIMIT 5, nested where it must be
//! ```

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExceptSelectItem, Expr, ExprWithAliasAndOrderBy, GroupByExpr, Ident, LimitClause, Offset,
    OffsetRows, OrderBy, OrderByExpr, OrderByKind, PipeOperator, Query, Select, SelectItem, SetExpr, SetOperator,
    SetQuantifier, TableAlias, TableFactor, TableWithJoins, WildcardAdditionalOptions,
};

use super::{alone, derived, query_of, select_from};
use crate::error::{EngineError, Result};

/// Takes the pipe operators out of a query.
pub(super) fn unpiped(query: &mut Query) -> Result<()> {
    let operators = std::mem::take(&mut query.pipe_operators);
    if operators.is_empty() {
        return Ok(());
    }
    let with = query.with.take();
    let mut rows = Rows::of(query.clone());
    for operator in operators {
        rows = rows.through(operator)?;
    }
    *query = rows.into_query()?;
    // What was named in front can be read by every operator.
    if query.with.is_none() {
        query.with = with;
    }
    Ok(())
}

/// The rows so far.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Rows {
    /// Relations and a condition, whose columns still have their tables' names.
    Plain {
        from: Vec<TableWithJoins>,
        selection: Option<Expr>,
    },
    Query(Box<Query>),
}

impl Rows {
    fn of(query: Query) -> Self {
        match *query.body {
            SetExpr::Select(select)
                if is_plain(&select) && query.order_by.is_none() && query.limit_clause.is_none() =>
            {
                Self::Plain { from: select.from, selection: select.selection }
            }
            body => Self::Query(Box::new(Query { body: Box::new(body), ..query })),
        }
    }

    fn into_query(self) -> Result<Query> {
        match self {
            Self::Query(query) => Ok(*query),
            plain @ Self::Plain { .. } => query_of(plain.into_select(None)?),
        }
    }

    /// `SELECT items` over the rows.
    fn into_select(self, items: Option<Vec<SelectItem>>) -> Result<Select> {
        let (from, selection) = match self {
            Self::Plain { from, selection } => (from, selection),
            Self::Query(query) => (vec![alone(derived(*query))], None),
        };
        let mut select = select_from(items, from)?;
        select.selection = selection;
        Ok(select)
    }

    fn selecting(self, items: Vec<SelectItem>) -> Result<Self> {
        Ok(Self::Query(Box::new(query_of(self.into_select(Some(items))?)?)))
    }

    /// The rows as relations that have no condition.
    fn into_from(self) -> Result<Vec<TableWithJoins>> {
        match self {
            Self::Plain { from, selection: None } => Ok(from),
            other => Ok(vec![alone(derived(other.into_query()?))]),
        }
    }

    fn through(self, operator: PipeOperator) -> Result<Self> {
        match operator {
            PipeOperator::Where { expr } => Ok(match self {
                Self::Plain { from, selection } => Self::Plain { from, selection: Some(both(selection, expr)) },
                other => Self::Plain { from: other.into_from()?, selection: Some(expr) },
            }),
            PipeOperator::Select { exprs } => self.selecting(exprs),
            PipeOperator::Extend { exprs } => {
                let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
                self.selecting(std::iter::once(all).chain(exprs).collect())
            }
            PipeOperator::Drop { columns } => self.selecting(vec![all_but(columns)]),
            PipeOperator::As { alias } => {
                let alias = TableAlias { explicit: true, name: alias, columns: Vec::new(), at: None };
                let factor = match derived(self.into_query()?) {
                    TableFactor::Derived { lateral, subquery, sample, .. } => {
                        TableFactor::Derived { lateral, subquery, alias: Some(alias), sample }
                    }
                    other => other,
                };
                Ok(Self::Plain { from: vec![alone(factor)], selection: None })
            }
            PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
                self.aggregated(full_table_exprs, group_by_expr)
            }
            PipeOperator::Join(join) => {
                let mut from = self.into_from()?;
                match from.as_mut_slice() {
                    [only] => only.joins.push(join),
                    _ => {
                        let nested = query_of(select_from(None, from)?)?;
                        from = vec![TableWithJoins { relation: derived(nested), joins: vec![join] }];
                    }
                }
                Ok(Self::Plain { from, selection: None })
            }
            PipeOperator::Pivot { aggregate_functions, value_column, value_source, alias } => {
                let alias = alias.map(|name| TableAlias { explicit: true, name, columns: Vec::new(), at: None });
                let value_column = vec![match value_column.as_slice() {
                    [name] => Expr::Identifier(name.clone()),
                    _ => Expr::CompoundIdentifier(value_column),
                }];
                let table = Box::new(derived(self.into_query()?));
                let default_on_null = None;
                let pivot = TableFactor::Pivot {
                    table,
                    aggregate_functions,
                    value_column,
                    value_source,
                    default_on_null,
                    alias,
                };
                Ok(Self::Plain { from: vec![alone(pivot)], selection: None })
            }
            PipeOperator::OrderBy { exprs } => self.ordered(exprs),
            PipeOperator::Limit { expr, offset } => self.limited(expr, offset),
            PipeOperator::Union { set_quantifier, queries } => self.set(SetOperator::Union, set_quantifier, queries),
            PipeOperator::Intersect { set_quantifier, queries } => {
                self.set(SetOperator::Intersect, set_quantifier, queries)
            }
            PipeOperator::Except { set_quantifier, queries } => self.set(SetOperator::Except, set_quantifier, queries),
            other => {
                let text = other.to_string();
                let name = text.split_whitespace().next().unwrap_or_default().to_owned();
                Err(EngineError::query(format!("the pipe operator |> {name} is not supported"))
                    .help("there are WHERE, SELECT, EXTEND, DROP, AS, AGGREGATE, PIVOT, JOIN, ORDER BY, LIMIT, UNION, INTERSECT and EXCEPT"))
            }
        }
    }

    /// The keys come first, then the aggregates.
    fn aggregated(self, values: Vec<ExprWithAliasAndOrderBy>, keys: Vec<ExprWithAliasAndOrderBy>) -> Result<Self> {
        let item = |expr: &ExprWithAliasAndOrderBy| match expr.expr.alias.clone() {
            Some(alias) => SelectItem::ExprWithAlias { expr: expr.expr.expr.clone(), alias },
            None => SelectItem::UnnamedExpr(expr.expr.expr.clone()),
        };
        let items = keys.iter().chain(&values).map(item).collect();
        let mut select = self.into_select(Some(items))?;
        select.group_by = GroupByExpr::Expressions(keys.into_iter().map(|key| key.expr.expr).collect(), Vec::new());
        Ok(Self::Query(Box::new(query_of(select)?)))
    }

    fn ordered(self, exprs: Vec<OrderByExpr>) -> Result<Self> {
        let mut query = query_of(self.into_select(None)?)?;
        query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(exprs), interpolate: None });
        Ok(Self::Query(Box::new(query)))
    }

    fn limited(self, limit: Expr, offset: Option<Expr>) -> Result<Self> {
        // An order holds only for the limit that follows it at once.
        let mut query = match self {
            Self::Query(query) if query.limit_clause.is_none() => *query,
            other => query_of(other.into_select(None)?)?,
        };
        let offset = offset.map(|value| Offset { value, rows: OffsetRows::None });
        query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(limit), offset, limit_by: Vec::new() });
        Ok(Self::Query(Box::new(query)))
    }

    fn set(self, op: SetOperator, set_quantifier: SetQuantifier, others: Vec<Query>) -> Result<Self> {
        let mut query = query_of(self.into_select(None)?)?;
        for other in others {
            let (left, right) = (query.body, Box::new(SetExpr::Query(Box::new(other))));
            query.body = Box::new(SetExpr::SetOperation { op, set_quantifier, left, right });
        }
        Ok(Self::Query(Box::new(query)))
    }
}

/// Whether a `SELECT` is `FROM` on its own, perhaps with a condition.
fn is_plain(select: &Select) -> bool {
    let all = match select.projection.as_slice() {
        [] => true,
        [SelectItem::Wildcard(options)] => *options == WildcardAdditionalOptions::default(),
        _ => false,
    };
    let no_groups = matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
    all && no_groups && select.distinct.is_none() && select.lateral_views.is_empty() && select.having.is_none()
}

fn both(first: Option<Expr>, second: Expr) -> Expr {
    let Some(first) = first else { return second };
    let nested = |expr| Box::new(Expr::Nested(Box::new(expr)));
    Expr::BinaryOp { left: nested(first), op: BinaryOperator::And, right: nested(second) }
}

fn all_but(mut columns: Vec<Ident>) -> SelectItem {
    let mut options = WildcardAdditionalOptions::default();
    if !columns.is_empty() {
        let first_element = columns.remove(0);
        options.opt_except = Some(ExceptSelectItem { first_element, additional_elements: columns });
    }
    SelectItem::Wildcard(options)
}
