//! Lengths of time between two times, and parts and multiples of them.
//!
//! An interval is months and nanoseconds; days are always 24 hours, so that intervals without months compare by
//! length.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::Result;

use super::super::cast::{instant_micros, naive_micros, naive_of};
use super::super::failure;
use super::super::udf::{Arguments, Invocation, Spec, each, function};

const DAY: i64 = 86_400_000_000;

pub(super) const TABLE: &[Spec] = &[
    function("move_time", (2, 3), super::shift::moved_type, move_time),
    function("time_difference", (2, 2), interval, difference),
    function("multiply_interval", (2, 2), interval, |c| scale(c, |part, by| part * by)),
    function("divide_interval", (2, 2), interval, |c| scale(c, |part, by| part / by)),
];

pub(super) fn interval(_: &Arguments<'_>) -> Result<DataType> {
    Ok(DataType::Interval(IntervalUnit::MonthDayNano))
}

/// A time moved by an interval as clocks in the session's zone show it: months and whole days are steps on the
/// calendar, the rest is a length of time. A third argument of true moves back.
fn move_time(call: &Invocation<'_>) -> Result<ArrayRef> {
    let times = super::locals(call, 0)?;
    let raw = call.raw(1)?;
    let intervals = raw.as_primitive::<IntervalMonthDayNanoType>();
    let sign = if call.len() > 2 && call.booleans(2)?.iter().flatten().any(|back| back) { -1 } else { 1 };
    let (local, zone) = (super::is_local(call.return_type()), call.zone);
    let out: Int64Array = each!(call.rows, (time = times, interval = *intervals) => {
        let overflow = || failure::data("DATETIME_OVERFLOW", "a time moved by an interval is out of range");
        let micros = interval.nanoseconds / 1000 * sign;
        let days = i64::from(interval.days) * sign + micros / DAY;
        let moment = naive_of(time);
        let date = super::shift::month_step(moment.date(), i64::from(interval.months) * sign).ok_or_else(overflow)?;
        let local_time = naive_micros(date.and_time(moment.time()));
        let local_time = days.checked_mul(DAY).and_then(|by| local_time.checked_add(by)).ok_or_else(overflow)?;
        let start = if local { local_time } else { instant_micros(local_time, zone) };
        start.checked_add(micros % DAY).map(Some).ok_or_else(overflow)
    })?;
    if local { super::as_local(out) } else { Ok(super::instants(out)) }
}

/// From the second time to the first, by what clocks show.
fn difference(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (to, from) = (super::locals(call, 0)?, super::locals(call, 1)?);
    let out: IntervalMonthDayNanoArray = each!(call.rows, (to = to, from = from) => {
        let nanos = to.checked_sub(from).and_then(|micros| micros.checked_mul(1000));
        nanos.map(|nanos| Some(IntervalMonthDayNano::new(0, 0, nanos))).ok_or_else(|| failure::overflow("INTERVAL"))
    })?;
    Ok(Arc::new(out))
}

fn scale(call: &Invocation<'_>, f: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let raw = call.raw(0)?;
    let (intervals, by) = (raw.as_primitive::<IntervalMonthDayNanoType>(), call.doubles(1)?);
    let out: IntervalMonthDayNanoArray = each!(call.rows, (interval = *intervals, by = by) => {
        let months = f(f64::from(interval.months), by).round();
        let micros = f(interval.nanoseconds as f64 / 1000.0, by).round();
        if !months.is_finite() || !micros.is_finite() {
            return Err(failure::data("INTERVAL_DIVIDED_BY_ZERO", "an interval is divided by zero"));
        }
        Ok(Some(IntervalMonthDayNano::new(months as i32, 0, micros as i64 * 1000)))
    })?;
    Ok(Arc::new(out))
}
