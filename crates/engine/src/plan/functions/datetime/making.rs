//! Times and intervals made of numbers, and the buckets that times are in.
//!
//! The years to seconds of an interval become months and nanoseconds: intervals have one type here, and days of 24
//! hours. It refuses the types TIME and TIMESTAMP of nanoseconds, which are not here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, Decimal128Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeDelta};
use datafusion::common::{DataFusionError, Result};

use super::super::cast::{Mode, days_of, instant_micros, instant_of, naive_micros, naive_of};
use super::super::udf::{self, Arguments, Invocation, Spec, each, function};
use super::super::{failure, types};
use super::intervals::interval;
use super::shift::{month_step, zone};
use super::{as_local, dates, instants, is_local, locals};
use crate::plan::ddl;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

pub(super) const TABLE: &[Spec] = &[
    function("make_date", (3, 3), udf::date, make_date),
    function("make_timestamp", (6, 7), udf::timestamp, |c| make_timestamp(c, Mode::Ansi))
        .alias(&["make_timestamp_ltz"]),
    function("make_timestamp_ntz", (6, 6), udf::timestamp_ntz, |c| make_timestamp(c, Mode::Ansi)),
    function("try_make_timestamp", (6, 7), udf::timestamp, |c| make_timestamp(c, Mode::Try))
        .alias(&["try_make_timestamp_ltz"]),
    function("try_make_timestamp_ntz", (6, 6), udf::timestamp_ntz, |c| make_timestamp(c, Mode::Try)),
    function("make_interval", (0, 7), interval, |c| make_interval(c, Mode::Ansi)),
    function("try_make_interval", (0, 7), interval, |c| make_interval(c, Mode::Try)),
    function("make_dt_interval", (0, 4), interval, make_dt_interval),
    function("make_ym_interval", (0, 2), interval, make_ym_interval),
    function("time_bucket", (2, 3), bucket_type, time_bucket),
];

fn no_such(what: &str) -> DataFusionError {
    failure::data("DATETIME_FIELD_OUT_OF_BOUNDS.WITHOUT_SUGGESTION", format!("there is no {what}"))
}

fn ymd(year: i32, month: i32, day: i32) -> Result<NaiveDate> {
    let date = |(month, day)| NaiveDate::from_ymd_opt(year, month, day);
    let parts = u32::try_from(month).ok().zip(u32::try_from(day).ok());
    parts.and_then(date).ok_or_else(|| no_such(&format!("date {year}-{month}-{day}")))
}

fn make_date(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (years, months, days) = (call.ints(0)?, call.ints(1)?, call.ints(2)?);
    let out: Int32Array = each!(call.rows, (year = years, month = months, day = days) => {
        ymd(year, month, day).map(|date| Some(days_of(date)))
    })?;
    Ok(dates(out))
}

/// A date at a time of day; a whole 60th second is the next minute.
fn moment(date: NaiveDate, hour: i32, minute: i32, micros: i128) -> Result<NaiveDateTime> {
    let is_next = micros == i128::from(60 * SECOND);
    if !is_next && micros / i128::from(SECOND) == 60 {
        return Err(failure::data(
            "INVALID_FRACTION_OF_SECOND",
            "the 60th second has no fraction; use try_make_timestamp to get NULL",
        ));
    }
    let parts = || {
        let micros = if is_next { 0 } else { u32::try_from(micros).ok()? };
        let (hour, minute) = (hour.try_into().ok()?, minute.try_into().ok()?);
        let moment = date.and_hms_micro_opt(hour, minute, micros / 1_000_000, micros % 1_000_000)?;
        moment.checked_add_signed(TimeDelta::minutes(is_next.into()))
    };
    parts().ok_or_else(|| no_such(&format!("time {hour}:{minute}:{}", micros as f64 / 1e6)))
}

fn make_timestamp(call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    let local = is_local(call.return_type());
    let (years, months, days) = (call.ints(0)?, call.ints(1)?, call.ints(2)?);
    let (hours, minutes) = (call.ints(3)?, call.ints(4)?);
    let seconds = seconds(call, 5, 16)?;
    let zones = if call.len() > 6 { Some(call.strings(6)?) } else { None };
    let value = |row: usize| -> Result<NaiveDateTime> {
        let date = ymd(years.value(row), months.value(row), days.value(row))?;
        moment(date, hours.value(row), minutes.value(row), seconds.value(row))
    };
    let row = |row: usize| -> Result<Option<i64>> {
        let ints = [&years, &months, &days, &hours, &minutes];
        let is_null = ints.iter().any(|array| array.is_null(row)) || seconds.is_null(row);
        if is_null || zones.as_ref().is_some_and(|zones| zones.is_null(row)) {
            return Ok(None);
        }
        // A zone that is none is an error also where a time that is none would be NULL.
        let zone = zones.as_ref().map_or(Ok(call.zone), |zones| zone(zones.value(row)))?;
        match value(row) {
            Err(_) if mode == Mode::Try => Ok(None),
            value => value.map(|moment| Some(if local { naive_micros(moment) } else { instant_of(moment, zone) })),
        }
    };
    let micros = (0..call.rows).map(row).collect::<Result<Int64Array>>()?;
    if local { as_local(micros) } else { Ok(instants(micros)) }
}

/// Argument `i` as microseconds.
fn seconds(call: &Invocation<'_>, i: usize, precision: u8) -> Result<Decimal128Array> {
    Ok(call.array(i, &DataType::Decimal128(precision, 6))?.as_primitive::<Decimal128Type>().clone())
}

/// The interval of every row: the sums of its whole arguments, each times a unit of months and one of microseconds,
/// and of its last argument of seconds.
fn sums(call: &Invocation<'_>, units: &[(i64, i64)], last: Option<usize>, mode: Mode) -> Result<ArrayRef> {
    let whole = (0..call.len().min(units.len())).map(|i| call.ints(i)).collect::<Result<Vec<_>>>()?;
    let seconds = last.filter(|i| *i < call.len()).map(|i| seconds(call, i, 18)).transpose()?;
    let sum = |row: usize| -> Option<IntervalMonthDayNano> {
        let (mut months, mut micros) = (0_i64, seconds.as_ref().map_or(0, |seconds| seconds.value(row) as i64));
        for (values, (in_months, in_micros)) in whole.iter().zip(units) {
            months = months.checked_add(i64::from(values.value(row)).checked_mul(*in_months)?)?;
            micros = micros.checked_add(i64::from(values.value(row)).checked_mul(*in_micros)?)?;
        }
        Some(IntervalMonthDayNano::new(i32::try_from(months).ok()?, 0, micros.checked_mul(1000)?))
    };
    let row = |row: usize| -> Result<Option<IntervalMonthDayNano>> {
        let is_null = whole.iter().any(|values| values.is_null(row));
        if is_null || seconds.as_ref().is_some_and(|seconds| seconds.is_null(row)) {
            return Ok(None);
        }
        match sum(row) {
            None if mode == Mode::Ansi => Err(failure::data(
                "INTERVAL_ARITHMETIC_OVERFLOW.WITHOUT_SUGGESTION",
                "the parts of an interval add up to more than an interval holds",
            )),
            interval => Ok(interval),
        }
    };
    Ok(Arc::new((0..call.rows).map(row).collect::<Result<IntervalMonthDayNanoArray>>()?))
}

fn make_interval(call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    let units = [(12, 0), (1, 0), (0, 7 * DAY), (0, DAY), (0, 3600 * SECOND), (0, 60 * SECOND)];
    sums(call, &units, Some(6), mode)
}

fn make_dt_interval(call: &Invocation<'_>) -> Result<ArrayRef> {
    sums(call, &[(0, DAY), (0, 3600 * SECOND), (0, 60 * SECOND)], Some(3), Mode::Ansi)
}

fn make_ym_interval(call: &Invocation<'_>) -> Result<ArrayRef> {
    sums(call, &[(12, 0), (1, 0)], None, Mode::Ansi)
}

fn bucket_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let (size, time) = (arguments.of(0), arguments.of(1));
    let mismatch = |place: &str, wanted: &str, found: &DataType| {
        let found = ddl::type_name(found);
        let message = format!("the {place} argument of time_bucket is {found}, expected {wanted}");
        Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message))
    };
    if !matches!(size, DataType::Interval(_) | DataType::Null) {
        return mismatch("first", "an INTERVAL", &size);
    }
    let data_type = match &time {
        DataType::Timestamp(_, None) => types::timestamp_ntz(),
        DataType::Timestamp(..) | DataType::Null => types::timestamp(),
        other => return mismatch("second", "TIMESTAMP or TIMESTAMP_NTZ", other),
    };
    match arguments.of(2) {
        DataType::Null => Ok(data_type),
        origin if origin == data_type => Ok(data_type),
        other => mismatch("third", &ddl::type_name(&data_type), &other),
    }
}

/// The start of the bucket a time is in. Buckets of a day and longer follow the session's clocks, shorter ones are lengths
/// of time from the origin on.
fn time_bucket(call: &Invocation<'_>) -> Result<ArrayRef> {
    let local = is_local(call.return_type());
    let raw = call.raw(0)?;
    if *raw.data_type() == DataType::Null {
        return Ok(arrow::array::new_null_array(call.return_type(), call.rows));
    }
    let sizes = raw.as_primitive::<IntervalMonthDayNanoType>();
    let times = locals(call, 1)?;
    let origins = if call.len() > 2 { locals(call, 2)? } else { Int64Array::from(vec![0; call.rows]) };
    let zone = call.zone;
    let out: Int64Array = each!(call.rows, (size = *sizes, time = times, origin = origins) => {
        let micros = i64::from(size.days) * DAY + size.nanoseconds / 1000;
        if size.months < 0 || micros < 0 || (size.months == 0) == (micros == 0) {
            return Err(failure::plan(
                "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
                "the size of a time_bucket is an interval of months, or of days to seconds, longer than nothing",
            ));
        }
        let by_clock = local || size.months > 0 || micros >= DAY;
        let (time, origin) = if by_clock {
            (time, origin)
        } else {
            (instant_micros(time, zone), instant_micros(origin, zone))
        };
        let start = if size.months > 0 {
            month_bucket(time, origin, size.months.into())
        } else {
            time.checked_sub(origin).and_then(|past| time.checked_sub(past.rem_euclid(micros)))
        };
        let start = start.ok_or_else(|| failure::data("DATETIME_OVERFLOW", "the bucket of a time is out of range"))?;
        Ok(Some(if by_clock && !local { instant_micros(start, zone) } else { start }))
    })?;
    if local { as_local(out) } else { Ok(instants(out)) }
}

fn month_bucket(time: i64, origin: i64, months: i64) -> Option<i64> {
    let (at, from) = (naive_of(time), naive_of(origin));
    let past = i64::from(at.year() - from.year()) * 12 + i64::from(at.month()) - i64::from(from.month());
    let start = |bucket: i64| {
        month_step(from.date(), bucket.checked_mul(months)?).map(|date| naive_micros(date.and_time(from.time())))
    };
    let bucket = past.div_euclid(months);
    let found = start(bucket)?;
    if found <= time { Some(found) } else { start(bucket - 1) }
}
