//! Time windows: what `window(ts, size[, slide[, start]])` means, as numbers, as a function and in a query's text.
//!
//! A window is the half-open interval `[start, end)` of event time, its start a whole number of slides away from
//! `start` (Spark's fourth argument) after the epoch. With `slide = size` each time is in exactly one window; with a
//! shorter slide in several.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result as DfResult, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{self, AccessExpr, Expr as SqlExpr, SelectItem, SetExpr};
use serde::{Deserialize, Serialize};

use super::interval::parse_duration_us;
use super::session_window::SessionWindowFunction;
use crate::error::{EngineError, Result};

/// Size, slide and start offset of time windows, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeWindow {
    /// Length of a window.
    pub size_us: i64,
    /// Distance between the starts of neighbouring windows; at most `size_us`.
    pub slide_us: i64,
    /// Where the starts are counted from, relative to the epoch.
    pub start_us: i64,
}

impl TimeWindow {
    /// Checks the lengths as Spark does: both positive, slide at most the size, |start| less than the slide.
    pub fn new(size_us: i64, slide_us: i64, start_us: i64) -> Result<Self> {
        if size_us <= 0 || slide_us <= 0 {
            return Err(EngineError::query("the window's size and slide must be longer than zero"));
        }
        if slide_us > size_us {
            return Err(EngineError::query(
                "the window's slide is longer than its size, so that rows would fall between windows",
            )
            .help("make the slide at most as long as the size"));
        }
        if start_us.abs() >= slide_us {
            return Err(EngineError::query("the window's start offset must be shorter than its slide"));
        }
        Ok(Self { size_us, slide_us, start_us })
    }

    /// The time itself as a window without length: what `GROUP BY ts` groups by.
    pub fn instant() -> Self {
        Self { size_us: 0, slide_us: 1, start_us: 0 }
    }

    /// Whether each time is in exactly one window.
    pub fn is_tumbling(&self) -> bool {
        self.size_us <= self.slide_us
    }

    /// The start of the latest window that `time_us` is in.
    #[inline]
    pub fn last_start(&self, time_us: i64) -> i64 {
        time_us - (time_us - self.start_us).rem_euclid(self.slide_us)
    }

    /// The starts of all windows that `time_us` is in, latest first.
    pub fn starts(&self, time_us: i64) -> impl Iterator<Item = i64> {
        let (last, slide, size) = (self.last_start(time_us), self.slide_us, self.size_us);
        (0..).map(move |n| last - n * slide).take_while(move |start| time_us < start + size)
    }
}

/// The type of a window column whose times are of type `time`: `STRUCT<start, end>`.
pub(crate) fn window_type(time: &DataType) -> DataType {
    DataType::Struct(Fields::from(vec![Field::new("start", time.clone(), true), Field::new("end", time.clone(), true)]))
}

/// A window column from its starts.
pub(crate) fn window_array(starts: &TimestampMicrosecondArray, size_us: i64) -> ArrayRef {
    let ends: TimestampMicrosecondArray = starts.unary(|start| start + size_us);
    let ends = ends.with_timezone_opt(starts.timezone().map(Arc::<str>::from));
    let DataType::Struct(fields) =
        window_type(&DataType::Timestamp(TimeUnit::Microsecond, starts.timezone().map(Into::into)))
    else {
        unreachable!("a window is a struct")
    };
    Arc::new(StructArray::new(fields, vec![Arc::new(starts.clone()), Arc::new(ends)], starts.nulls().cloned()))
}

/// The event time and the window of a call of `window`, if `expr` is one.
pub(crate) fn window_call(expr: &Expr) -> Option<Result<(&Expr, TimeWindow)>> {
    let Expr::ScalarFunction(function) = without_alias(expr) else { return None };
    if function.func.name() != WindowFunction::NAME {
        return None;
    }
    let (time, lengths) = function.args.split_first()?;
    let texts: Option<Vec<&str>> = lengths
        .iter()
        .map(|length| match length {
            Expr::Literal(value, _) => value.try_as_str().flatten(),
            _ => None,
        })
        .collect();
    Some(match texts {
        Some(texts) => time_window(&texts).map(|window| (time, window)),
        None => Err(EngineError::query("the lengths of window(...) must be literals such as '1 minute'")),
    })
}

pub(super) fn without_alias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => without_alias(&alias.expr),
        other => other,
    }
}

/// The window of the lengths as text: size, slide, start.
pub(crate) fn time_window(lengths: &[&str]) -> Result<TimeWindow> {
    let size = parse_duration_us(lengths.first().copied().unwrap_or(""), "the window's size")?;
    let slide = lengths.get(1).map_or(Ok(size), |text| parse_duration_us(text, "the window's slide"))?;
    let start = lengths.get(2).map_or(Ok(0), |text| parse_duration_us(text, "the window's start offset"))?;
    TimeWindow::new(size, slide, start)
}

/// `window(ts, size[, slide[, start]])` as a function of one row. Only tumbling windows are one value a row; sliding
/// ones are taken out by the planner before anything is evaluated.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowFunction {
    signature: Signature,
}

impl WindowFunction {
    pub(crate) const NAME: &'static str = "window";

    pub(crate) fn udf() -> ScalarUDF {
        ScalarUDF::from(Self { signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(window_type(end_type(&arg_types[0]).unwrap_or(&arg_types[0])))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        if !(2..=4).contains(&arg_types.len()) {
            return plan_err!(
                "window takes a time, a size and optionally a slide and a start, e.g. window(ts, '1 minute')"
            );
        }
        let mut types = vec![time_type(Self::NAME, &arg_types[0])?];
        types.resize(arg_types.len(), DataType::Utf8);
        Ok(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let lengths: Vec<String> = args.args[1..].iter().map(literal_text).collect::<DfResult<_>>()?;
        let lengths: Vec<&str> = lengths.iter().map(String::as_str).collect();
        let window =
            time_window(&lengths).map_err(|error| datafusion::error::DataFusionError::Plan(error.to_string()))?;
        if !window.is_tumbling() {
            return exec_err!("a sliding window(...) gives several rows; use it in GROUP BY");
        }
        let times = args.args[0].to_array(args.number_rows)?;
        let times = if end_type(times.data_type()).is_some() { last_moments(&times) } else { times };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let starts: TimestampMicrosecondArray = times.unary(|time| window.last_start(time));
        let starts = starts.with_timezone_opt(times.timezone().map(Arc::<str>::from));
        Ok(ColumnarValue::Array(window_array(&starts, window.size_us)))
    }
}

/// `window_time(window)`: the last microsecond in the window, which is its event time.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowTimeFunction {
    signature: Signature,
}

impl WindowTimeFunction {
    pub(crate) const NAME: &'static str = "window_time";

    pub(crate) fn udf() -> ScalarUDF {
        ScalarUDF::from(Self { signature: Signature::any(1, Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for WindowTimeFunction {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        match end_type(&arg_types[0]) {
            Some(time) => Ok(time.clone()),
            None => plan_err!("window_time takes a window column, STRUCT<start, end>, found {}", arg_types[0]),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Ok(ColumnarValue::Array(last_moments(&args.args[0].to_array(args.number_rows)?)))
    }
}

/// The type of the times of a window column, if it is one.
pub(super) fn end_type(window: &DataType) -> Option<&DataType> {
    match window {
        DataType::Struct(fields) if fields.len() == 2 && fields[0].name() == "start" && fields[1].name() == "end" => {
            Some(fields[1].data_type())
        }
        _ => None,
    }
}

/// The last microsecond in each window.
pub(super) fn last_moments(windows: &ArrayRef) -> ArrayRef {
    let windows = windows.as_struct();
    let ends = windows.column(1).as_primitive::<TimestampMicrosecondType>();
    let times: TimestampMicrosecondArray = ends.unary(|end| end - 1);
    let times = times.with_timezone_opt(ends.timezone().map(Arc::<str>::from));
    // A window that is null has no time, whatever its fields say.
    match windows.nulls() {
        None => Arc::new(times),
        Some(nulls) => {
            let both = arrow::buffer::NullBuffer::union(times.nulls(), Some(nulls));
            let zone = times.timezone().map(Arc::<str>::from);
            let times = TimestampMicrosecondArray::new(times.values().clone(), both);
            Arc::new(times.with_timezone_opt(zone))
        }
    }
}

/// The end of a window column, as an expression.
pub(crate) fn window_end(window: Expr) -> Expr {
    datafusion::functions::core::get_field().call(vec![window, datafusion::logical_expr::lit("end")])
}

/// The type in which `function` takes its time.
pub(super) fn time_type(function: &str, found: &DataType) -> DfResult<DataType> {
    match found {
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Date32 | DataType::Utf8 | DataType::Utf8View | DataType::Null => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        // A window of windows: each counts by its last moment.
        window @ DataType::Struct(_) if end_type(window).is_some() => Ok(window.clone()),
        other => plan_err!("{function} takes a TIMESTAMP as its first argument, found {other}"),
    }
}

fn literal_text(value: &ColumnarValue) -> DfResult<String> {
    match value {
        ColumnarValue::Scalar(value) => Ok(scalar_text(value).unwrap_or_default()),
        ColumnarValue::Array(_) => exec_err!("the lengths of window(...) must be literals such as '1 minute'"),
    }
}

fn scalar_text(value: &ScalarValue) -> Option<String> {
    value.try_as_str().flatten().map(str::to_owned)
}

/// Makes `window` a column of queries that group by `window(...)`, as in Spark: `SELECT window.start ... GROUP BY
/// window(ts, '1 minute')`; likewise `session_window`.
pub(crate) fn name_windows(query: &mut ast::Query) {
    if let Some(with) = &mut query.with {
        with.cte_tables.iter_mut().for_each(|cte| name_windows(&mut cte.query));
    }
    let window = name_windows_in_body(&mut query.body);
    if let (Some(window), Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(keys), .. })) =
        (window, &mut query.order_by)
    {
        keys.iter_mut().for_each(|key| window.substitute(&mut key.expr));
    }
}

/// The call a `SELECT` groups by, and the column it gives the query: each function's is called as it is.
struct GroupingWindow {
    call: SqlExpr,
    name: &'static str,
}

fn name_windows_in_body(body: &mut SetExpr) -> Option<GroupingWindow> {
    match body {
        SetExpr::Select(select) => {
            select.from.iter_mut().for_each(name_windows_in_from);
            name_windows_in_select(select)
        }
        SetExpr::Query(query) => {
            name_windows(query);
            None
        }
        SetExpr::SetOperation { left, right, .. } => {
            name_windows_in_body(left);
            name_windows_in_body(right);
            None
        }
        _ => None,
    }
}

fn name_windows_in_from(from: &mut ast::TableWithJoins) {
    let joins = from.joins.iter_mut().map(|join| &mut join.relation);
    for relation in std::iter::once(&mut from.relation).chain(joins) {
        match relation {
            ast::TableFactor::Derived { subquery, .. } => name_windows(subquery),
            ast::TableFactor::NestedJoin { table_with_joins, .. } => name_windows_in_from(table_with_joins),
            _ => {}
        }
    }
}

fn name_windows_in_select(select: &mut ast::Select) -> Option<GroupingWindow> {
    let window = grouping_window(select)?;
    if let ast::GroupByExpr::Expressions(keys, _) = &mut select.group_by {
        keys.iter_mut().for_each(|key| window.substitute(key));
    }
    for item in &mut select.projection {
        let alias = match item {
            SelectItem::UnnamedExpr(expr) => window.alias(expr),
            _ => None,
        };
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => window.substitute(expr),
            _ => {}
        }
        if let (Some(alias), SelectItem::UnnamedExpr(expr)) = (alias, &*item) {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: ast::Ident::with_quote('`', alias) };
        }
    }
    if let Some(having) = &mut select.having {
        window.substitute(having);
    }
    Some(window)
}

/// The call that a `SELECT` groups by, directly, by number or by alias.
fn grouping_window(select: &ast::Select) -> Option<GroupingWindow> {
    let ast::GroupByExpr::Expressions(keys, _) = &select.group_by else { return None };
    keys.iter().flat_map(of_sets).find_map(|key| {
        let key = match key {
            SqlExpr::Value(value) => match &value.value {
                ast::Value::Number(number, _) => selected(select, number.parse::<usize>().ok()?.checked_sub(1)?)?,
                _ => key,
            },
            SqlExpr::Identifier(ident) => aliased(select, &ident.value).unwrap_or(key),
            _ => key,
        };
        Some(GroupingWindow { name: called_window(key)?, call: key.clone() })
    })
}

/// The expressions of grouping sets; any other key is its own.
fn of_sets(key: &SqlExpr) -> Vec<&SqlExpr> {
    match key {
        SqlExpr::GroupingSets(sets) | SqlExpr::Rollup(sets) | SqlExpr::Cube(sets) => sets.iter().flatten().collect(),
        other => vec![other],
    }
}

fn selected(select: &ast::Select, at: usize) -> Option<&SqlExpr> {
    match select.projection.get(at)? {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

fn aliased<'a>(select: &'a ast::Select, name: &str) -> Option<&'a SqlExpr> {
    select.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if alias.value.eq_ignore_ascii_case(name) => Some(expr),
        _ => None,
    })
}

/// The function that makes windows or sessions which an expression calls.
fn called_window(expr: &SqlExpr) -> Option<&'static str> {
    let SqlExpr::Function(function) = expr else { return None };
    let name = function.over.is_none().then(|| function.name.to_string())?;
    [WindowFunction::NAME, SessionWindowFunction::NAME].into_iter().find(|known| name.eq_ignore_ascii_case(known))
}

impl GroupingWindow {
    fn is_named(&self, ident: &ast::Ident) -> bool {
        ident.value.eq_ignore_ascii_case(self.name)
    }

    /// The column name Spark gives an unnamed `window`, `window.start` or `window(...)`.
    fn alias(&self, expr: &SqlExpr) -> Option<String> {
        match expr {
            SqlExpr::Identifier(ident) if self.is_named(ident) => Some(self.name.to_owned()),
            SqlExpr::CompoundIdentifier(parts) if parts.first().is_some_and(|part| self.is_named(part)) => {
                parts.last().map(|part| part.value.clone())
            }
            expr if *expr == self.call => Some(self.name.to_owned()),
            _ => None,
        }
    }

    /// Puts the call in the place of the name.
    fn substitute(&self, expr: &mut SqlExpr) {
        let _: std::ops::ControlFlow<()> = ast::visit_expressions_mut(expr, |inner| {
            match inner {
                SqlExpr::Identifier(ident) if self.is_named(ident) => *inner = self.call.clone(),
                SqlExpr::CompoundIdentifier(parts) if parts.first().is_some_and(|part| self.is_named(part)) => {
                    let fields = parts.drain(1..).map(|part| AccessExpr::Dot(SqlExpr::Identifier(part))).collect();
                    *inner = SqlExpr::CompoundFieldAccess { root: Box::new(self.call.clone()), access_chain: fields };
                }
                _ => {}
            }
            std::ops::ControlFlow::Continue(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn check(size: i64, slide: i64, start: i64, time: i64, expected: &[i64]) {
        let window = TimeWindow::new(size * SECOND, slide * SECOND, start * SECOND).unwrap();
        let starts: Vec<i64> = window.starts(time * SECOND).map(|start| start / SECOND).collect();
        assert_eq!(starts, expected, "window({size}s, {slide}s, {start}s) at {time}s");
    }

    #[test]
    fn a_time_is_in_every_window_that_covers_it() {
        check(60, 60, 0, 59, &[0]);
        check(60, 60, 0, 60, &[60]);
        check(60, 60, 5, 64, &[5]);
        check(60, 60, 0, -1, &[-60]);
        check(60, 30, 0, 70, &[60, 30]);
        check(60, 25, 0, 70, &[50, 25]);
        check(60, 25, 0, 80, &[75, 50, 25]);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(TimeWindow::new(0, 1, 0).is_err());
        assert!(TimeWindow::new(1, 2, 0).is_err());
        assert!(TimeWindow::new(2, 1, 1).is_err());
    }
}
