//! Parts of dates and times: `year`, `hour`, `extract`, `date_trunc`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, Int64Type};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use datafusion::common::Result;

use super::super::cast::{date_of, days_of, instant_micros, local_of, naive_micros, naive_of};
use super::super::udf::{self, Arguments, Invocation, Spec, each, function};
use super::super::{failure, types};
use super::{dates, instants, is_local, locals};
use crate::plan::datetime_pattern::zone::Zone;

pub(super) const TABLE: &[Spec] = &[
    function("year", (1, 1), udf::int, |c| field(c, Field::Year)),
    function("quarter", (1, 1), udf::int, |c| field(c, Field::Quarter)),
    function("month", (1, 1), udf::int, |c| field(c, Field::Month)),
    function("weekofyear", (1, 1), udf::int, |c| field(c, Field::Week)),
    function("day", (1, 1), udf::int, |c| field(c, Field::Day)).alias(&["dayofmonth"]),
    function("dayofweek", (1, 1), udf::int, |c| field(c, Field::DayOfWeek)),
    function("weekday", (1, 1), udf::int, |c| field(c, Field::Weekday)),
    function("dayofyear", (1, 1), udf::int, |c| field(c, Field::DayOfYear)),
    function("hour", (1, 1), udf::int, |c| field(c, Field::Hour)),
    function("minute", (1, 1), udf::int, |c| field(c, Field::Minute)),
    function("second", (1, 1), udf::int, |c| field(c, Field::Second)),
    function("date_part", (2, 2), part_type, part).alias(&["datepart"]),
    function("dayname", (1, 1), udf::string, |c| name(c, "%a")),
    function("monthname", (1, 1), udf::string, |c| name(c, "%b")),
    function("date_trunc", (2, 2), truncated_type, date_trunc),
    function("trunc", (2, 2), udf::date, trunc),
    function("last_day", (1, 1), udf::date, last_day),
    function("next_day", (2, 2), udf::date, next_day),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    YearOfWeek,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    Weekday,
    IsoDayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
}

impl Field {
    fn of(self, local: NaiveDateTime) -> i32 {
        let date = local.date();
        match self {
            Self::Year => date.year(),
            Self::YearOfWeek => date.iso_week().year(),
            Self::Quarter => date.month0() as i32 / 3 + 1,
            Self::Month => date.month() as i32,
            Self::Week => date.iso_week().week() as i32,
            Self::Day => date.day() as i32,
            Self::DayOfWeek => date.weekday().num_days_from_sunday() as i32 + 1,
            Self::Weekday => date.weekday().num_days_from_monday() as i32,
            Self::IsoDayOfWeek => date.weekday().number_from_monday() as i32,
            Self::DayOfYear => date.ordinal() as i32,
            Self::Hour => local.hour() as i32,
            Self::Minute => local.minute() as i32,
            Self::Second => local.second() as i32,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name.to_uppercase().as_str() {
            "YEAR" | "Y" | "YEARS" | "YR" | "YRS" => Self::Year,
            "YEAROFWEEK" => Self::YearOfWeek,
            "QUARTER" | "QTR" => Self::Quarter,
            "MONTH" | "MON" | "MONS" | "MONTHS" => Self::Month,
            "WEEK" | "W" | "WEEKS" => Self::Week,
            "DAY" | "D" | "DAYS" => Self::Day,
            "DAYOFWEEK" | "DOW" => Self::DayOfWeek,
            "DAYOFWEEK_ISO" | "DOW_ISO" => Self::IsoDayOfWeek,
            "DOY" => Self::DayOfYear,
            "HOUR" | "H" | "HOURS" | "HR" | "HRS" => Self::Hour,
            "MINUTE" | "M" | "MIN" | "MINS" | "MINUTES" => Self::Minute,
            "SECOND" | "S" | "SEC" | "SECONDS" | "SECS" => Self::Second,
            _ => return None,
        })
    }
}

fn field(call: &Invocation<'_>, field: Field) -> Result<ArrayRef> {
    Ok(Arc::new(locals(call, 0)?.unary::<_, Int32Type>(|us| field.of(naive_of(us)))))
}

fn part_field(name: Option<&str>) -> Result<Field> {
    let name = name.ok_or_else(|| failure::plan("NON_FOLDABLE_ARGUMENT", "the field to extract is no constant"))?;
    Field::named(name)
        .ok_or_else(|| failure::plan("INVALID_EXTRACT_FIELD", format!("'{name}' cannot be extracted from a time")))
}

fn part_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let is_second = part_field(arguments.text(0))? == Field::Second;
    Ok(if is_second { DataType::Decimal128(8, 6) } else { DataType::Int32 })
}

fn part(call: &Invocation<'_>) -> Result<ArrayRef> {
    let wanted = part_field(call.constant_text(0).flatten().as_deref())?;
    let times = locals(call, 1)?;
    if wanted == Field::Second {
        let micros = times.unary::<_, Decimal128Type>(|us| i128::from(us.rem_euclid(60_000_000)));
        return Ok(Arc::new(micros.with_precision_and_scale(8, 6)?));
    }
    Ok(Arc::new(times.unary::<_, Int32Type>(|us| wanted.of(naive_of(us)))))
}

fn name(call: &Invocation<'_>, format: &str) -> Result<ArrayRef> {
    let days = call.dates(0)?;
    let name = |day: i32| date_of(day).format(format).to_string();
    Ok(Arc::new(days.iter().map(|day| day.map(name)).collect::<StringArray>()))
}

/// The first day of the period a day is in.
fn first_of(date: NaiveDate, unit: &str) -> Option<NaiveDate> {
    Some(match unit {
        "YEAR" | "YYYY" | "YY" => date.with_ordinal(1)?,
        "QUARTER" => NaiveDate::from_ymd_opt(date.year(), date.month0() / 3 * 3 + 1, 1)?,
        "MONTH" | "MM" | "MON" => date.with_day(1)?,
        "WEEK" => date_of(days_of(date) - date.weekday().num_days_from_monday() as i32),
        _ => return None,
    })
}

fn truncated_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let data_type = arguments.of(1);
    Ok(if is_local(&data_type) { data_type } else { types::timestamp() })
}

/// An instant cut off to a unit, by what clocks in the session's zone show; NULL for no unit.
fn date_trunc(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (units, times) = (call.strings(0)?, locals(call, 1)?);
    let local = is_local(call.return_type());
    let zone = call.zone;
    let moments = if local { times.clone() } else { call.timestamps(1)? };
    let out: Int64Array = each!(call.rows, (unit = units, time = times, moment = moments) => {
        let unit = unit.to_uppercase();
        let step = match unit.as_str() {
            "MICROSECOND" => 1,
            "MILLISECOND" => 1000,
            "SECOND" => 1_000_000,
            "MINUTE" => 60_000_000,
            "HOUR" => 3_600_000_000,
            "DAY" | "DD" => 86_400_000_000,
            _ => 0,
        };
        let cut = match step {
            0 => first_of(naive_of(time).date(), &unit).map(|date| naive_micros(date.and_time(NaiveTime::MIN))),
            step => Some(time - time.rem_euclid(step)),
        };
        Ok(cut.map(|cut| if local { cut } else { same_side(cut, time - moment, zone) }))
    })?;
    if local {
        let local: ArrayRef = Arc::new(out);
        return Ok(cast(&local, call.return_type())?);
    }
    Ok(instants(out))
}

/// The instant at which clocks show `cut`: of two, the one at the offset that clocks had before they were cut off.
fn same_side(cut: i64, offset: i64, zone: Zone) -> i64 {
    let instant = cut - offset;
    if naive_micros(local_of(instant, zone)) == cut { instant } else { instant_micros(cut, zone) }
}

fn trunc(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (days, units) = (call.dates(0)?, call.strings(1)?);
    let out: Int32Array = each!(call.rows, (day = days, unit = units) => {
        Ok(first_of(date_of(day), &unit.to_uppercase()).map(days_of))
    })?;
    Ok(dates(out))
}

fn last_day(call: &Invocation<'_>) -> Result<ArrayRef> {
    let last = |day: i32| {
        let next = date_of(day).with_day(1).and_then(|first| first.checked_add_months(Months::new(1)));
        next.and_then(|next| next.pred_opt()).map_or(day, days_of)
    };
    Ok(dates(call.dates(0)?.unary(last)))
}

fn next_day(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (days, names) = (call.dates(0)?, call.strings(1)?);
    let out: Int32Array = each!(call.rows, (day = days, name = names) => {
        let weekday = match name.to_uppercase().as_str() {
            "MO" | "MON" | "MONDAY" => 0,
            "TU" | "TUE" | "TUESDAY" => 1,
            "WE" | "WED" | "WEDNESDAY" => 2,
            "TH" | "THU" | "THURSDAY" => 3,
            "FR" | "FRI" | "FRIDAY" => 4,
            "SA" | "SAT" | "SATURDAY" => 5,
            "SU" | "SUN" | "SUNDAY" => 6,
            _ => return Err(failure::data("ILLEGAL_DAY_OF_WEEK", format!("'{name}' is no day of the week"))),
        };
        let today = date_of(day).weekday().num_days_from_monday() as i32;
        Ok(Some(day + (weekday - today - 1).rem_euclid(7) + 1))
    })?;
    Ok(dates(out))
}

/// Numbers of a kind of instant: seconds, milliseconds or microseconds since 1970, rounded down.
pub(super) fn since_1970(call: &Invocation<'_>, unit: i64) -> Result<ArrayRef> {
    Ok(Arc::new(call.timestamps(0)?.unary::<_, Int64Type>(|us| us.div_euclid(unit))))
}
