//! Rewrites Spark's expressions, before they are planned, into calls whose meaning is Spark's.
//!
//! ```text
//!   1                       typed_literal('1')              an INT, not a BIGINT
//!   CAST(x AS STRING)       cast(x, 'STRING')               Spark's text for dates and doubles
//!   if(c, a, b), nvl(a, b)  case(...), coalesce(...)        with Spark's common type
//!   INTERVAL 10 SECONDS     INTERVAL '0 months 10.000000 seconds'
//! ```
//!
//! Names must be resolved first: this pass changes what expressions look like. Operators are left alone, their types
//! decide ([`super::planner`]). Numbers that are places (`GROUP BY 1`) or counts (`LIMIT 5`) stay as they are.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType, DuplicateTreatment, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, Interval, LimitClause,
    NullTreatment, ObjectName, OrderByKind, Query, Select, Subscript, TrimWhereField, TypedString, UnaryOperator,
    Value, ValueWithSpan, VisitMut, VisitorMut, WindowFrameBound, WindowType,
};

use super::calls;
use super::grouping;
use super::interval::SparkInterval;
use crate::error::{EngineError, Result};

/// Rewrites every expression of a query.
pub(crate) fn lower(query: &mut Query) -> Result<()> {
    finish(VisitMut::visit(query, &mut Lowering))
}

/// Rewrites one expression, for clauses that stand outside of queries.
pub fn lower_expr(expr: &mut Expr) -> Result<()> {
    finish(VisitMut::visit(expr, &mut Lowering))
}

fn finish(flow: ControlFlow<EngineError>) -> Result<()> {
    match flow {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// `int(x)` is `CAST(x AS INT)`: the type of such a function.
pub(crate) fn type_of_function(name: &str) -> Option<&'static str> {
    let types = [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INT",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
        "DATE",
        "TIMESTAMP",
        "BINARY",
        "STRING",
    ];
    types.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

struct Lowering;

impl VisitorMut for Lowering {
    type Break = EngineError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<EngineError> {
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::Expressions(items) = &mut order_by.kind
        {
            items.iter_mut().for_each(|item| keep(&mut item.expr));
        }
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit.iter_mut().for_each(keep);
                offset.iter_mut().for_each(|offset| keep(&mut offset.value));
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => [offset, limit].into_iter().for_each(keep),
            None => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<EngineError> {
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            exprs.iter_mut().for_each(keep);
        }
        match grouping::prepare(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<EngineError> {
        let result = match expr {
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                if let Expr::Value(value) = &mut **inner
                    && let Value::Number(text, _) = &mut value.value
                {
                    text.insert(0, '-');
                    *expr = (**inner).clone();
                }
                Ok(())
            }
            Expr::Interval(interval) => normal_interval(interval),
            Expr::Function(function) => {
                keep_frame(function);
                calls::units_as_text(function);
                calls::asserted_text(function);
                Ok(())
            }
            _ => Ok(()),
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<EngineError> {
        let taken = std::mem::replace(expr, Expr::value(Value::Null));
        match lowered(taken) {
            Ok(lowered) => {
                *expr = lowered;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Marks a number to be kept; the flag has no other use once suffixes stand in the text.
fn keep(expr: &mut Expr) {
    if let Expr::Value(value) = expr
        && let Value::Number(_, kept) = &mut value.value
    {
        *kept = true;
    }
}

fn keep_frame(function: &mut Function) {
    let Some(WindowType::WindowSpec(spec)) = &mut function.over else { return };
    let Some(frame) = &mut spec.window_frame else { return };
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if let WindowFrameBound::Preceding(Some(expr)) | WindowFrameBound::Following(Some(expr)) = bound {
            keep(expr);
        }
    }
}

fn normal_interval(interval: &mut Interval) -> Result<()> {
    let read = SparkInterval::from_ast(interval)
        .map_err(|error| EngineError::query(format!("the interval {interval} cannot be read: {error}")))?;
    let sign = if read.micros < 0 { "-" } else { "" };
    let micros = read.micros.unsigned_abs();
    let text = format!("{} months {sign}{}.{:06} seconds", read.months, micros / 1_000_000, micros % 1_000_000);
    *interval = Interval {
        value: Box::new(text_literal(text)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    };
    Ok(())
}

/// An expression whose parts have been lowered already.
fn lowered(expr: Expr) -> Result<Expr> {
    Ok(match expr {
        Expr::Value(value) => match value.value {
            Value::Number(text, true) => Expr::value(Value::Number(text, false)),
            Value::Number(text, false) => number(&text)?,
            Value::DoubleQuotedString(text) => text_literal(text),
            _ => Expr::Value(value),
        },
        Expr::TypedString(TypedString { data_type, value, .. }) => {
            cast(text_literal(value.into_string().unwrap_or_default()), &data_type, CastKind::Cast)?
        }
        Expr::Cast { kind, expr, data_type, .. } => cast(*expr, &data_type, kind)?,
        Expr::Function(function) => calls::lowered(function)?,
        Expr::UnaryOp { op, expr } => unary(op, *expr),
        Expr::Between { expr, negated, low, high } => negate(negated, between(*expr, *low, *high)),
        Expr::IsDistinctFrom(a, b) => negate(true, binary(*a, BinaryOperator::Spaceship, *b)),
        Expr::IsNotDistinctFrom(a, b) => binary(*a, BinaryOperator::Spaceship, *b),
        Expr::RLike { negated, expr, pattern, .. } => negate(negated, call("rlike", [*expr, *pattern])),
        Expr::Like { negated, any, expr, pattern, escape_char } => {
            let pattern = Box::new(escaped_by_backslash(*pattern, escape_char)?);
            Expr::Like { negated, any, expr, pattern, escape_char: None }
        }
        Expr::ILike { negated, any, expr, pattern, escape_char } => {
            let pattern = Box::new(escaped_by_backslash(*pattern, escape_char)?);
            Expr::ILike { negated, any, expr, pattern, escape_char: None }
        }
        Expr::InList { expr, list, negated } => negate(negated, call("in_list", std::iter::once(*expr).chain(list))),
        Expr::Case { operand, conditions, else_result, .. } => case(operand, conditions, else_result),
        other => keyword_call(other)?,
    })
}

/// Functions of the SQL standard that are written with keywords.
fn keyword_call(expr: Expr) -> Result<Expr> {
    Ok(match expr {
        Expr::Extract { field, expr, .. } => call("date_part", [text_literal(field.to_string()), *expr]),
        Expr::Ceil { expr, field } => rounding("ceil", *expr, field)?,
        Expr::Floor { expr, field } => rounding("floor", *expr, field)?,
        Expr::Position { expr, r#in } => call("locate", [*expr, *r#in]),
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            let Some(from) = substring_from else {
                return Err(EngineError::query(
                    "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] `substring` takes 2 to 3 arguments, found 1",
                ));
            };
            call("substring", [*expr, *from].into_iter().chain(substring_for.map(|length| *length)))
        }
        Expr::Trim { expr, trim_where, trim_what, .. } => {
            let name = match trim_where {
                Some(TrimWhereField::Leading) => "ltrim_chars",
                Some(TrimWhereField::Trailing) => "rtrim_chars",
                _ => "btrim",
            };
            call(name, [*expr].into_iter().chain(trim_what.map(|what| *what)))
        }
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            call("overlay", [*expr, *overlay_what, *overlay_from].into_iter().chain(overlay_for.map(|length| *length)))
        }
        Expr::CompoundFieldAccess { root, access_chain } => access_chain.into_iter().try_fold(*root, field_access)?,
        Expr::Struct { values, .. } => calls::structure(values),
        other => other,
    })
}

/// `LIKE ... ESCAPE '$'` with the backslash as escape, which is all that DataFusion has.
fn escaped_by_backslash(pattern: Expr, escape: Option<ValueWithSpan>) -> Result<Expr> {
    let Some(escape) = escape.and_then(|escape| escape.into_string()) else { return Ok(pattern) };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = &pattern else {
        return Err(EngineError::query("LIKE with ESCAPE takes a constant pattern").help("use rlike"));
    };
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if escape.starts_with(c) => {
                out.push('\\');
                out.extend(chars.next());
            }
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    Ok(text_literal(out))
}

fn field_access(root: Expr, access: AccessExpr) -> Result<Expr> {
    match access {
        AccessExpr::Dot(Expr::Identifier(name)) => Ok(call("get_field", [root, text_literal(name.value)])),
        AccessExpr::Subscript(Subscript::Index { index }) => Ok(call("get_item", [root, index])),
        AccessExpr::Dot(other) => Err(EngineError::query(format!("`.{other}` is no field of a struct"))),
        AccessExpr::Subscript(slice) => {
            Err(EngineError::query(format!("[{slice}] is no index of an array"))
                .help("use slice(array, start, length)"))
        }
    }
}

fn rounding(name: &str, expr: Expr, field: CeilFloorKind) -> Result<Expr> {
    let scale = match field {
        CeilFloorKind::Scale(scale) => Some(lowered(Expr::Value(scale))?),
        CeilFloorKind::DateTimeField(_) => None,
    };
    Ok(call(name, [expr].into_iter().chain(scale.map(|scale| calls::plain_number(&scale)))))
}

fn unary(op: UnaryOperator, expr: Expr) -> Expr {
    match op {
        UnaryOperator::Minus => call("negative", [expr]),
        UnaryOperator::Plus => call("positive", [expr]),
        UnaryOperator::BitwiseNot => call("bitwise_not", [expr]),
        UnaryOperator::BangNot => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) },
        op => Expr::UnaryOp { op, expr: Box::new(expr) },
    }
}

fn between(expr: Expr, low: Expr, high: Expr) -> Expr {
    let above = binary(expr.clone(), BinaryOperator::GtEq, low);
    binary(above, BinaryOperator::And, binary(expr, BinaryOperator::LtEq, high))
}

fn case(operand: Option<Box<Expr>>, conditions: Vec<CaseWhen>, otherwise: Option<Box<Expr>>) -> Expr {
    let branch = |CaseWhen { condition, result }| {
        let condition = match &operand {
            Some(operand) => binary((**operand).clone(), BinaryOperator::Eq, condition),
            None => condition,
        };
        [condition, result]
    };
    let branches: Vec<Expr> = conditions.into_iter().flat_map(branch).collect();
    call("case", branches.into_iter().chain(otherwise.map(|otherwise| *otherwise)))
}

/// A cast as a call, with the type as text.
fn cast(expr: Expr, data_type: &DataType, kind: CastKind) -> Result<Expr> {
    let arrow = super::types::from_ast(data_type)?;
    let name = if matches!(kind, CastKind::Cast | CastKind::DoubleColon) { "cast" } else { "try_cast" };
    Ok(call(name, [expr, text_literal(crate::plan::ddl::type_name(&arrow))]))
}

/// A number of the type its spelling gives it.
pub(super) fn number(text: &str) -> Result<Expr> {
    if super::literal::NumberLiteral::parse(text).is_none() {
        return Err(EngineError::query(format!("the number {text} does not fit in its type"))
            .help("write it without suffix, or as a string and cast it"));
    }
    Ok(call("typed_literal", [text_literal(text.to_owned())]))
}

pub(crate) fn text_literal(text: String) -> Expr {
    Expr::value(Value::SingleQuotedString(text))
}

pub(super) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}

pub(super) fn negate(negated: bool, expr: Expr) -> Expr {
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) } } else { expr }
}

/// A call of a function.
pub(crate) fn call(name: &str, args: impl IntoIterator<Item = Expr>) -> Expr {
    Expr::Function(plain_call(name, args))
}

pub(crate) fn plain_call(name: &str, args: impl IntoIterator<Item = Expr>) -> Function {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None::<DuplicateTreatment>,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None::<NullTreatment>,
        over: None,
        within_group: Vec::new(),
    }
}
