//! Dates and instants: taken apart, cut off, moved, read and written. The session's zone says what clocks show.

mod fields;
mod intervals;
mod making;
mod patterns;
mod shift;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, PrimitiveArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Date32Type};
use chrono::{DateTime, Utc};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Expr, Volatility};

pub(super) use patterns::date_format;

use super::cast::{days_of, local_of};
use super::types;
use super::udf::{self, Invocation, Spec, function};

/// The functions of this module and of those below it.
pub(super) fn tables() -> impl Iterator<Item = &'static Spec> {
    [TABLE, fields::TABLE, intervals::TABLE, making::TABLE, patterns::TABLE, shift::TABLE].into_iter().flatten()
}

const TABLE: &[Spec] = &[
    function("current_timestamp", (0, 0), udf::timestamp, not_constant)
        .volatility(Volatility::Stable)
        .simplified_by(now),
    function("current_date", (0, 1), udf::date, not_constant).volatility(Volatility::Stable).simplified_by(today),
    function("current_timezone", (0, 0), udf::string, not_constant).simplified_by(zone_name),
    function("unix_date", (1, 1), udf::int, |c| Ok(Arc::new(c.dates(0)?))),
    function("date_from_unix_date", (1, 1), udf::date, |c| Ok(dates(c.ints(0)?))),
];

/// A column of dates by their days since 1970.
pub(super) fn dates(days: Int32Array) -> ArrayRef {
    Arc::new(days.reinterpret_cast::<Date32Type>())
}

/// A column of instants by their microseconds since 1970.
pub(super) fn instants(micros: Int64Array) -> ArrayRef {
    let instants: TimestampMicrosecondArray = micros.reinterpret_cast();
    Arc::new(instants.with_timezone("UTC"))
}

/// The moment a query sees as now is decided when its plan is optimized, once for all its rows.
fn not_constant(call: &Invocation<'_>) -> Result<ArrayRef> {
    exec_err!("a function of the current time, of type {}, has not been made constant", call.return_type())
}

fn moment(info: &SimplifyContext) -> Option<DateTime<Utc>> {
    info.query_execution_start_time()
}

fn now(args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let Some(moment) = moment(info) else { return Ok(ExprSimplifyResult::Original(args)) };
    let value = ScalarValue::TimestampMicrosecond(Some(moment.timestamp_micros()), Some("UTC".into()));
    Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
}

fn today(args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let Some(moment) = moment(info) else { return Ok(ExprSimplifyResult::Original(args)) };
    let zone = udf::session_zone(info.config_options().execution.time_zone.as_deref())?;
    let days = days_of(local_of(moment.timestamp_micros(), zone).date());
    Ok(ExprSimplifyResult::Simplified(Expr::Literal(ScalarValue::Date32(Some(days)), None)))
}

fn zone_name(_: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let name = info.config_options().execution.time_zone.clone().unwrap_or_else(|| "UTC".to_owned());
    Ok(ExprSimplifyResult::Simplified(Expr::Literal(ScalarValue::from(name), None)))
}

/// A column of local times.
pub(super) fn as_local(micros: Int64Array) -> Result<ArrayRef> {
    let micros: ArrayRef = Arc::new(micros);
    Ok(arrow::compute::cast(&micros, &types::timestamp_ntz())?)
}

/// Argument `i` as local times, in microseconds as if clocks showed UTC: instants by the session's zone, dates at
/// midnight, local times and texts as they are.
pub(super) fn locals(call: &Invocation<'_>, i: usize) -> Result<Int64Array> {
    let local = call.array(i, &types::timestamp_ntz())?;
    let typed: &PrimitiveArray<arrow::datatypes::TimestampMicrosecondType> =
        arrow::array::AsArray::as_primitive(&local);
    Ok(typed.reinterpret_cast())
}

/// A constant text as a column of itself, to be compiled once by those who can.
pub(super) fn texts(call: &Invocation<'_>, i: usize, default: &str) -> Result<StringArray> {
    if call.len() > i { call.strings(i) } else { Ok(StringArray::from(vec![default; call.rows])) }
}

/// Whether argument `i` is a local time, whose results are local too.
pub(super) fn is_local(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None))
}
