//! `PIVOT`, `UNPIVOT` and `TABLESAMPLE (n ROWS)` as plainer queries, when the columns below are known and before anything is
//! made of their expressions.
//!
//! ```text
//!   t PIVOT (sum(v) FOR q IN (1, 2 AS b))      SELECT k, CASE WHEN count(*) FILTER (WHERE q <=> 1) > 0
//!                                                             THEN sum(v) FILTER (WHERE q <=> 1) END AS `1`, ... AS b
//!                                              FROM t GROUP BY k
//!   t UNPIVOT (v FOR n IN (a, b))              SELECT k, n, v FROM t LATERAL VIEW stack(2, 'a', a, 'b', b) u AS n, v
//!                                              WHERE v IS NOT NULL
//! ```
//!
//! `k` is every column that the clause does not name. A value that no row has gives NULL, as in Spark, where a count would
//! be 0; lists are empty. Refused are values of `PIVOT` that are found by a query, which would decide the columns.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, ExprWithAlias, Function, GroupByExpr, Ident, LateralView, LimitClause, NullInclusion,
    ObjectName, PivotValueSource, SelectItem, TableAlias, TableFactor, TableSample, TableSampleKind, TableSampleUnit,
    UnaryOperator, Value, Visit, Visitor,
};

use super::{alone, derived, query_of, quoted, select_from};
use crate::error::{EngineError, Result};
use crate::plan::functions::lower::{call, plain_call};
use crate::plan::functions::naming::spark_column_name;

/// Functions that give a list, which is empty and not NULL where there is no row.
const LISTS: [&str; 4] = ["collect_list", "array_agg", "collect_set", "histogram_numeric"];

/// `PIVOT` or `UNPIVOT` over a relation of these columns as a query; nothing for another relation.
pub(crate) fn as_query(factor: &TableFactor, columns: &[String]) -> Result<Option<TableFactor>> {
    let (query, alias) = match factor {
        TableFactor::Pivot { table, aggregate_functions, value_column, value_source, default_on_null, alias } => {
            if default_on_null.is_some() {
                return Err(EngineError::query("PIVOT with DEFAULT ON NULL is not supported")
                    .help("choose the value above it: coalesce(column, 0)"));
            }
            let PivotValueSource::List(values) = value_source else {
                return Err(EngineError::query("PIVOT takes a list of values, found a query or ANY")
                    .help("write the values: FOR column IN ('a', 'b'); they decide which columns there are"));
            };
            (pivot(table, aggregate_functions, value_column, values, columns)?, alias)
        }
        TableFactor::Unpivot { table, value, name, columns: turned, null_inclusion, alias } => {
            let with_nulls = matches!(null_inclusion, Some(NullInclusion::IncludeNulls));
            (unpivot(table, (value, name), turned, with_nulls, columns)?, alias)
        }
        _ => return Ok(None),
    };
    Ok(Some(named(query, alias.clone())))
}

/// The relation that `PIVOT` or `UNPIVOT` is over.
pub(crate) fn below(factor: &TableFactor) -> Option<&TableFactor> {
    match factor {
        TableFactor::Pivot { table, .. } | TableFactor::Unpivot { table, .. } => Some(table),
        _ => None,
    }
}

fn named(factor: TableFactor, name: Option<TableAlias>) -> TableFactor {
    match factor {
        TableFactor::Derived { lateral, subquery, sample, .. } => {
            TableFactor::Derived { lateral, subquery, alias: name, sample }
        }
        other => other,
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// The columns that some expressions do not name.
fn others(columns: &[String], exprs: &[&Expr]) -> Vec<Ident> {
    struct Names(Vec<String>);
    impl Visitor for Names {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> std::ops::ControlFlow<()> {
            match expr {
                Expr::Identifier(ident) => self.0.push(ident.value.clone()),
                // Of a table or of a struct: either may be the column.
                Expr::CompoundIdentifier(parts) => self.0.extend(parts.iter().map(|part| part.value.clone())),
                _ => {}
            }
            std::ops::ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    exprs.iter().for_each(|expr| {
        let _ = expr.visit(&mut names);
    });
    let is_other = |column: &&String| !names.0.iter().any(|name| same(name, column));
    columns.iter().filter(is_other).map(|column| quoted(column)).collect()
}

fn pivot(
    table: &TableFactor,
    functions: &[ExprWithAlias],
    of: &[Expr],
    values: &[ExprWithAlias],
    columns: &[String],
) -> Result<TableFactor> {
    let named_columns: Vec<&Expr> = functions.iter().map(|function| &function.expr).chain(of).collect();
    let keys = others(columns, &named_columns);
    let mut items: Vec<SelectItem> =
        keys.iter().map(|key| SelectItem::UnnamedExpr(Expr::Identifier(key.clone()))).collect();
    for value in values {
        let is_value = condition(of, &value.expr)?;
        let name = match &value.alias {
            Some(alias) => alias.value.clone(),
            None => text_of(&value.expr)?,
        };
        for function in functions {
            let own =
                function.alias.as_ref().map_or_else(|| spark_column_name(&function.expr), |alias| alias.value.clone());
            let alias = if functions.len() == 1 { name.clone() } else { format!("{name}_{own}") };
            items.push(SelectItem::ExprWithAlias { expr: cell(&function.expr, &is_value)?, alias: quoted(&alias) });
        }
    }
    let mut select = select_from(Some(items), vec![alone(table.clone())])?;
    let keys = keys.into_iter().map(Expr::Identifier).collect();
    select.group_by = GroupByExpr::Expressions(keys, Vec::new());
    Ok(derived(query_of(select)?))
}

/// Whether a row has a value.
fn condition(of: &[Expr], value: &Expr) -> Result<Expr> {
    let values = match (of, value) {
        ([_], value) => std::slice::from_ref(value),
        (_, Expr::Tuple(values)) => values.as_slice(),
        (_, value) => std::slice::from_ref(value),
    };
    if values.len() != of.len() {
        return Err(EngineError::query(format!("PIVOT is FOR {} columns, found the value {value}", of.len()))
            .help("write a value for each of the columns: IN ((1, 'a'), (2, 'b'))"));
    }
    let mut all: Option<Expr> = None;
    for (column, value) in of.iter().zip(values) {
        let one = binary(
            Expr::Nested(Box::new(column.clone())),
            BinaryOperator::Spaceship,
            Expr::Nested(Box::new(value.clone())),
        );
        all = Some(match all {
            None => one,
            Some(before) => binary(before, BinaryOperator::And, one),
        });
    }
    all.ok_or_else(|| EngineError::query("PIVOT is FOR no column"))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// A function over the rows that have a value; NULL where there are none.
fn cell(function: &Expr, is_value: &Expr) -> Result<Expr> {
    let Expr::Function(function) = function else {
        return Err(EngineError::query(format!("PIVOT takes aggregate functions, found {function}"))
            .help("compute with them above: SELECT a * 2 FROM t PIVOT (sum(v) FOR k IN ('a'))"));
    };
    let of_value = Expr::Function(filtered(function.clone(), is_value));
    if LISTS.iter().any(|list| same(list, &function.name.to_string())) {
        return Ok(of_value);
    }
    let one = || Expr::value(Value::Number("1".to_owned(), false));
    let count = Expr::Function(filtered(plain_call("count", [one()]), is_value));
    let is_there = binary(count, BinaryOperator::Gt, Expr::value(Value::Number("0".to_owned(), false)));
    Ok(call("if", [is_there, of_value, Expr::value(Value::Null)]))
}

fn filtered(mut function: Function, condition: &Expr) -> Function {
    let condition = match function.filter.take() {
        Some(own) => binary(Expr::Nested(own), BinaryOperator::And, Expr::Nested(Box::new(condition.clone()))),
        None => condition.clone(),
    };
    function.filter = Some(Box::new(condition));
    function
}

/// What the column of a value is called that has no name.
fn text_of(value: &Expr) -> Result<String> {
    Ok(match value {
        Expr::Nested(inner) => text_of(inner)?,
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => text.clone(),
            Value::Boolean(value) => value.to_string(),
            Value::Null => "null".to_owned(),
            other => other.clone().into_string().unwrap_or_else(|| other.to_string()),
        },
        Expr::TypedString(typed) => typed.value.clone().into_string().unwrap_or_else(|| typed.value.to_string()),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => format!("-{}", text_of(expr)?),
        Expr::Tuple(values) => {
            let texts = values.iter().map(text_of).collect::<Result<Vec<_>>>()?;
            format!("{{{}}}", texts.join(", "))
        }
        other => {
            return Err(EngineError::query(format!(
                "[NON_LITERAL_PIVOT_VALUES] a value of PIVOT is {other}, expected a literal"
            ))
            .help("write the value itself"));
        }
    })
}

fn unpivot(
    table: &TableFactor,
    (value, name): (&Expr, &Ident),
    turned: &[ExprWithAlias],
    with_nulls: bool,
    columns: &[String],
) -> Result<TableFactor> {
    let values: Vec<Ident> = parts(value).into_iter().map(ident).collect::<Result<_>>()?;
    let mut exprs: Vec<&Expr> = Vec::new();
    let mut args = vec![Expr::value(Value::Number(turned.len().to_string(), false))];
    for set in turned {
        let of_set = parts(&set.expr);
        if of_set.len() != values.len() {
            let (found, expected) = (of_set.len(), values.len());
            return Err(EngineError::query(format!(
                "UNPIVOT makes {expected} columns of values, found {found}: {}",
                set.expr
            ))
            .help("write as many columns in each bracket behind IN as there are before FOR"));
        }
        let names = of_set.iter().map(|expr| Ok(ident(expr)?.value)).collect::<Result<Vec<_>>>()?;
        let own = set.alias.as_ref().map_or_else(|| names.join("_"), |alias| alias.value.clone());
        args.push(Expr::value(Value::SingleQuotedString(own)));
        args.extend(of_set.iter().map(|expr| (*expr).clone()));
        exprs.extend(of_set);
    }
    let keys = others(columns, &exprs);
    let made: Vec<Ident> = std::iter::once(name.clone()).chain(values.iter().cloned()).collect();
    let items =
        keys.into_iter().chain(made.iter().cloned()).map(|column| SelectItem::UnnamedExpr(Expr::Identifier(column)));
    let mut select = select_from(Some(items.collect()), vec![alone(table.clone())])?;
    select.lateral_views = vec![LateralView {
        lateral_view: Expr::Function(plain_call("stack", args)),
        lateral_view_name: ObjectName::from(vec![quoted("(unpivot)")]),
        lateral_col_alias: made,
        outer: false,
    }];
    if !with_nulls {
        let is_there = |column: &Ident| Expr::IsNotNull(Box::new(Expr::Identifier(column.clone())));
        select.selection = values.iter().map(is_there).reduce(|a, b| binary(a, BinaryOperator::Or, b));
    }
    Ok(derived(query_of(select)?))
}

/// The parts of a tuple, or the one expression.
fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Tuple(parts) => parts.iter().collect(),
        Expr::Nested(inner) => parts(inner),
        other => vec![other],
    }
}

fn ident(expr: &Expr) -> Result<Ident> {
    match expr {
        Expr::Identifier(ident) => Ok(ident.clone()),
        Expr::CompoundIdentifier(parts) if !parts.is_empty() => Ok(parts[parts.len() - 1].clone()),
        other => Err(EngineError::query(format!("UNPIVOT takes columns, found {other}"))
            .help("compute it below: FROM (SELECT ..., a + 1 AS b FROM t) UNPIVOT (v FOR n IN (b))")),
    }
}

/// A relation of which a sample is taken: its first rows, where the sample says how many.
pub(super) fn sampled(factor: &mut TableFactor) -> Result<()> {
    let sample = match factor {
        TableFactor::Table { sample, .. } | TableFactor::Derived { sample, .. } => sample.take(),
        _ => None,
    };
    let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample else {
        return Ok(());
    };
    let TableSample { quantity: Some(quantity), bucket: None, .. } = *sample else { return Err(refused()) };
    if quantity.unit != Some(TableSampleUnit::Rows) {
        return Err(refused());
    }
    let alias = match factor {
        TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } => alias.clone(),
        _ => None,
    };
    let mut query = query_of(select_from(None, vec![alone(factor.clone())])?)?;
    query.limit_clause =
        Some(LimitClause::LimitOffset { limit: Some(quantity.value), offset: None, limit_by: Vec::new() });
    *factor = named(derived(query), alias);
    Ok(())
}

fn refused() -> EngineError {
    EngineError::query("TABLESAMPLE takes a number of rows here: TABLESAMPLE (10 ROWS)")
        .help("keep a part of the rows with a condition, for example WHERE rand() < 0.1")
}
