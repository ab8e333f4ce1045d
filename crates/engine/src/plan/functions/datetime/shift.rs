//! Moving in time: days, months, zones, and the distance between two times.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array};
use arrow::datatypes::DataType;
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime};
use datafusion::common::Result;

use super::super::cast::{
    date_of, days_of, instant_micros, instant_of, local_micros, local_of, naive_micros, naive_of,
};
use super::super::udf::{self, Arguments, Invocation, Spec, each, function};
use super::super::{failure, types};
use super::{as_local, dates, instants, is_local, locals};
use crate::plan::datetime_pattern::zone::Zone;

pub(super) const TABLE: &[Spec] = &[
    function("date_add", (2, 2), udf::date, |c| add_days(c, 1)).alias(&["dateadd"]),
    function("date_sub", (2, 2), udf::date, |c| add_days(c, -1)),
    function("datediff", (2, 2), udf::int, datediff).alias(&["date_diff"]),
    function("add_months", (2, 2), udf::date, add_months),
    function("months_between", (2, 3), udf::double, months_between),
    function("timestampadd", (3, 3), shifted_type, timestampadd),
    function("timestampdiff", (3, 3), udf::long, timestampdiff),
    function("from_utc_timestamp", (2, 2), udf::timestamp, |c| between_zones(c, true)),
    function("to_utc_timestamp", (2, 2), udf::timestamp, |c| between_zones(c, false)),
    function("convert_timezone", (2, 3), udf::timestamp_ntz, convert_timezone),
];

fn add_days(call: &Invocation<'_>, sign: i32) -> Result<ArrayRef> {
    let (days, by) = (call.dates(0)?, call.ints(1)?);
    let out: Int32Array = each!(call.rows, (day = days, by = by) => {
        by.checked_mul(sign).and_then(|by| day.checked_add(by)).map(Some).ok_or_else(|| failure::overflow("DATE"))
    })?;
    Ok(dates(out))
}

fn datediff(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (to, from) = (call.dates(0)?, call.dates(1)?);
    let out: Int32Array = each!(call.rows, (to = to, from = from) => Ok(Some(to.wrapping_sub(from))))?;
    Ok(Arc::new(out))
}

/// Moves by months; a day that the month does not have becomes its last.
pub(super) fn month_step(date: NaiveDate, months: i64) -> Option<NaiveDate> {
    let step = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { date.checked_sub_months(step) } else { date.checked_add_months(step) }
}

fn add_months(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (days, months) = (call.dates(0)?, call.ints(1)?);
    let out: Int32Array = each!(call.rows, (day = days, months = months) => {
        month_step(date_of(day), months.into()).map(|date| Some(days_of(date))).ok_or_else(|| failure::overflow("DATE"))
    })?;
    Ok(dates(out))
}

/// Whole months if both are the same day or both the last of their month, else with a fraction of 31 days.
fn months_between(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (later, earlier) = (locals(call, 0)?, locals(call, 1)?);
    let rounds = if call.len() > 2 { call.booleans(2)?.iter().flatten().next().unwrap_or(true) } else { true };
    let out: Float64Array = each!(call.rows, (later = later, earlier = earlier) => {
        let (a, b) = (naive_of(later), naive_of(earlier));
        let months = f64::from((a.year() - b.year()) * 12 + a.month() as i32 - b.month() as i32);
        let is_last = |date: NaiveDate| date.succ_opt().is_some_and(|next| next.day() == 1);
        if a.day() == b.day() || (is_last(a.date()) && is_last(b.date())) {
            return Ok(Some(months));
        }
        let in_day = |us: i64| us.rem_euclid(86_400_000_000) / 1_000_000;
        let seconds = (i64::from(a.day()) - i64::from(b.day())) * 86_400 + in_day(later) - in_day(earlier);
        let exact = months + seconds as f64 / (31.0 * 86_400.0);
        Ok(Some(if rounds { (exact * 1e8).round() / 1e8 } else { exact }))
    })?;
    Ok(Arc::new(out))
}

/// A unit as months or microseconds.
fn unit(name: &str) -> Result<(i64, i64)> {
    Ok(match name.to_uppercase().as_str() {
        "YEAR" => (12, 0),
        "QUARTER" => (3, 0),
        "MONTH" => (1, 0),
        "WEEK" => (0, 7 * 86_400_000_000),
        "DAY" | "DAYOFYEAR" => (0, 86_400_000_000),
        "HOUR" => (0, 3_600_000_000),
        "MINUTE" => (0, 60_000_000),
        "SECOND" => (0, 1_000_000),
        "MILLISECOND" => (0, 1000),
        "MICROSECOND" => (0, 1),
        _ => {
            return Err(failure::data("INVALID_PARAMETER_VALUE.DATETIME_UNIT", format!("'{name}' is no unit of time")));
        }
    })
}

/// The type of a moved time: its own if it is local, else an instant.
pub(super) fn moved_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let data_type = arguments.of(0);
    Ok(if is_local(&data_type) { data_type } else { types::timestamp() })
}

fn shifted_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let data_type = arguments.of(2);
    Ok(if is_local(&data_type) { data_type } else { types::timestamp() })
}

/// Days and longer are steps on the calendar of the session's zone, hours and shorter are lengths of time.
fn timestampadd(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (units, amounts, times) = (call.strings(0)?, call.longs(1)?, locals(call, 2)?);
    let local = is_local(call.return_type());
    let zone = call.zone;
    let out: Int64Array = each!(call.rows, (name = units, amount = amounts, time = times) => {
        let overflow = || failure::data("DATETIME_OVERFLOW", format!("the time moved by {amount} {name} is out of range"));
        let (months, micros) = unit(name)?;
        let calendar = months > 0 || micros >= 86_400_000_000;
        let start = if local || calendar { time } else { instant_micros(time, zone) };
        let moved = if months > 0 {
            let moment = naive_of(start);
            let date = amount.checked_mul(months).and_then(|months| month_step(moment.date(), months));
            date.map(|date| naive_micros(date.and_time(moment.time())))
        } else {
            amount.checked_mul(micros).and_then(|by| start.checked_add(by))
        };
        let moved = moved.ok_or_else(overflow)?;
        Ok(Some(if calendar && !local { instant_micros(moved, zone) } else { moved }))
    })?;
    if local { as_local(out) } else { Ok(instants(out)) }
}

/// Whole units from the first time to the second by what clocks show, cut off toward zero.
fn timestampdiff(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (units, from, to) = (call.strings(0)?, locals(call, 1)?, locals(call, 2)?);
    let out: Int64Array = each!(call.rows, (name = units, from = from, to = to) => {
        let (months, micros) = unit(name)?;
        if months == 0 {
            return Ok(Some((to - from) / micros));
        }
        let (a, b) = (naive_of(from), naive_of(to));
        let mut whole = i64::from(b.year() - a.year()) * 12 + i64::from(b.month()) - i64::from(a.month());
        let rest = |moment: NaiveDateTime| (moment.day(), moment.time());
        if whole > 0 && rest(b) < rest(a) {
            whole -= 1;
        } else if whole < 0 && rest(b) > rest(a) {
            whole += 1;
        }
        Ok(Some(whole / months))
    })?;
    Ok(Arc::new(out))
}

pub(super) fn zone(name: &str) -> Result<Zone> {
    Zone::parse(name).ok_or_else(|| failure::data("INVALID_TIMEZONE", format!("'{name}' is no time zone")))
}

/// `from_utc_timestamp` and back: the instant moved by the zone's offset.
fn between_zones(call: &Invocation<'_>, from_utc: bool) -> Result<ArrayRef> {
    let (times, names) = (call.timestamps(0)?, call.strings(1)?);
    let out: Int64Array = each!(call.rows, (time = times, name = names) => {
        let zone = zone(name)?;
        Ok(Some(if from_utc { local_micros(time, zone) } else { instant_micros(time, zone) }))
    })?;
    Ok(instants(out))
}

/// A local time of one zone as the local time of another.
fn convert_timezone(call: &Invocation<'_>) -> Result<ArrayRef> {
    let last = call.len() - 1;
    let (targets, times) = (call.strings(last - 1)?, locals(call, last)?);
    let sources = if last == 2 { Some(call.strings(0)?) } else { None };
    let row = |(row, (time, target)): (usize, (Option<i64>, Option<&str>))| -> Result<Option<i64>> {
        let (Some(time), Some(target)) = (time, target) else { return Ok(None) };
        let source = match &sources {
            Some(sources) if sources.is_null(row) => return Ok(None),
            Some(sources) => zone(sources.value(row))?,
            None => call.zone,
        };
        Ok(Some(naive_micros(local_of(instant_of(naive_of(time), source), zone(target)?))))
    };
    as_local(times.iter().zip(&targets).enumerate().map(row).collect::<Result<Int64Array>>()?)
}
