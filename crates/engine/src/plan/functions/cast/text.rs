//! Values as Spark's cast to STRING writes them.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, IntervalUnit, TimestampMicrosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::common::Result;

use super::local_of;
use crate::plan::datetime_pattern::zone::Zone;
use crate::plan::functions::interval::SparkInterval;

/// Every value of a column as text; NULL stays NULL.
pub(crate) fn strings(array: &ArrayRef, zone: Zone) -> Result<StringArray> {
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 12);
    let writer = Writer::new(array, zone)?;
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) || matches!(writer, Writer::Null) {
            builder.append_null();
            continue;
        }
        text.clear();
        writer.write(row, &mut text)?;
        builder.append_value(&text);
    }
    Ok(builder.finish())
}

/// Writes one value of a column; made once a column, so that nothing is looked up per row.
enum Writer<'a> {
    Text(&'a StringArray),
    Float(&'a arrow::array::Float32Array),
    Double(&'a arrow::array::Float64Array),
    Decimal(&'a arrow::array::Decimal128Array, i8),
    Date(&'a arrow::array::Date32Array),
    Timestamp(&'a arrow::array::TimestampMicrosecondArray, Option<Zone>),
    Bytes(&'a arrow::array::BinaryArray),
    List(&'a arrow::array::ListArray, Zone),
    Struct(&'a arrow::array::StructArray, Vec<Writer<'a>>),
    Map(&'a arrow::array::MapArray, Box<Writer<'a>>, Box<Writer<'a>>),
    Interval(&'a arrow::array::IntervalMonthDayNanoArray),
    /// A column of NULLs, which Arrow does not count as such.
    Null,
    Other(ArrayRef),
}

impl<'a> Writer<'a> {
    fn new(array: &'a ArrayRef, zone: Zone) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Float32 => Self::Float(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>()),
            DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive::<Decimal128Type>(), *scale),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>()),
            DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, tag) => {
                Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>(), tag.as_ref().map(|_| zone))
            }
            DataType::Null => Self::Null,
            DataType::Interval(IntervalUnit::MonthDayNano) => Self::Interval(array.as_primitive()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::List(_) => Self::List(array.as_list(), zone),
            DataType::Struct(_) => {
                let columns = array.as_struct();
                let writers = columns.columns().iter().map(|column| Writer::new(column, zone));
                Self::Struct(columns, writers.collect::<Result<_>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (keys, values) = (Writer::new(map.keys(), zone)?, Writer::new(map.values(), zone)?);
                Self::Map(map, Box::new(keys), Box::new(values))
            }
            _ => Self::Other(cast(array, &DataType::Utf8).or_else(|_| display(array))?),
        })
    }

    fn write(&self, row: usize, out: &mut String) -> Result<()> {
        match self {
            Self::Text(array) => out.push_str(array.value(row)),
            Self::Float(array) => out.push_str(&float(array.value(row))),
            Self::Double(array) => out.push_str(&double(array.value(row))),
            Self::Decimal(array, scale) => out.push_str(&decimal(array.value(row), *scale)),
            Self::Date(array) => out.push_str(&date(array.value(row))),
            Self::Timestamp(array, Some(zone)) => out.push_str(&timestamp(array.value(row), *zone)),
            Self::Timestamp(array, None) => out.push_str(&timestamp_ntz(array.value(row))),
            Self::Null => out.push_str("null"),
            Self::Interval(array) => {
                let interval = array.value(row);
                let days = i64::from(interval.days) * 86_400_000_000;
                let micros = days.saturating_add(interval.nanoseconds / 1000);
                // Of months and of a length of time both are only intervals of the calendar.
                if interval.months != 0 && micros != 0 {
                    calendar_interval(interval.months, micros, out);
                } else {
                    let _ = write!(out, "{}", SparkInterval::computed(interval.months, micros));
                }
            }
            Self::Bytes(array) => out.push_str(&String::from_utf8_lossy(array.value(row))),
            Self::Other(array) => out.push_str(array.as_string::<i32>().value(row)),
            Self::List(lists, zone) => {
                let items = lists.value(row);
                let writer = Writer::new(&items, *zone)?;
                out.push('[');
                for i in 0..items.len() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    writer.write_or_null(items.is_null(i), i, out)?;
                }
                out.push(']');
            }
            Self::Struct(columns, writers) => {
                out.push('{');
                for (i, (column, writer)) in columns.columns().iter().zip(writers).enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    writer.write_or_null(column.is_null(row), row, out)?;
                }
                out.push('}');
            }
            Self::Map(map, keys, values) => {
                let offsets = map.value_offsets();
                out.push('{');
                for i in offsets[row] as usize..offsets[row + 1] as usize {
                    out.push_str(if i > offsets[row] as usize { ", " } else { "" });
                    keys.write_or_null(map.keys().is_null(i), i, out)?;
                    out.push_str(" -> ");
                    values.write_or_null(map.values().is_null(i), i, out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }

    fn write_or_null(&self, null: bool, row: usize, out: &mut String) -> Result<()> {
        if null {
            out.push_str("null");
            return Ok(());
        }
        self.write(row, out)
    }
}

/// `1 years 2 months 3 days 4 hours 5.5 seconds`, without what is zero.
fn calendar_interval(months: i32, micros: i64, out: &mut String) {
    let parts = [
        (i64::from(months / 12), "years"),
        (i64::from(months % 12), "months"),
        (micros / 86_400_000_000, "days"),
        (micros / 3_600_000_000 % 24, "hours"),
        (micros / 60_000_000 % 60, "minutes"),
    ];
    for (amount, unit) in parts.into_iter().filter(|(amount, _)| *amount != 0) {
        let _ = write!(out, "{amount} {unit} ");
    }
    let seconds = micros % 60_000_000;
    if seconds == 0 {
        out.pop();
        return;
    }
    let text = decimal(seconds.into(), 6);
    let _ = write!(out, "{} seconds", text.trim_end_matches('0').trim_end_matches('.'));
}

/// Types Spark does not have, in Arrow's words.
fn display(array: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    Ok(std::sync::Arc::new((0..array.len()).map(|row| Some(formatter.value(row).to_string())).collect::<StringArray>()))
}

/// A DOUBLE: at least one digit after the point, an exponent outside of 10^-3 to 10^7.
pub(crate) fn double(value: f64) -> String {
    java(value, value == 0.0 || (1e-3..1e7).contains(&value.abs()), &format!("{value:e}"))
}

/// A FLOAT, by its own shortest digits.
pub(crate) fn float(value: f32) -> String {
    java(f64::from(value), value == 0.0 || (1e-3..1e7).contains(&value.abs()), &format!("{value:e}"))
}

fn java(value: f64, plain: bool, scientific: &str) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    if !plain {
        let point = if mantissa.contains('.') { "" } else { ".0" };
        return format!("{mantissa}{point}E{exponent}");
    }
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let digits: String = digits.chars().filter(|c| *c != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match usize::try_from(exponent) {
        Err(_) => format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1).unsigned_abs() as usize)),
        Ok(exponent) if digits.len() > exponent + 1 => {
            format!("{sign}{}.{}", &digits[..=exponent], &digits[exponent + 1..])
        }
        Ok(exponent) => format!("{sign}{digits}{}.0", "0".repeat(exponent + 1 - digits.len())),
    }
}

/// A DECIMAL with all its digits after the point.
pub(crate) fn decimal(unscaled: i128, scale: i8) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let sign = if unscaled < 0 { "-" } else { "" };
    let scale = usize::from(scale.max(0).unsigned_abs());
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// A DATE by its days since 1970.
pub(crate) fn date(days: i32) -> String {
    let mut text = String::with_capacity(10);
    write_date(super::date_of(days), &mut text);
    text
}

/// A TIMESTAMP by its microseconds since 1970.
pub(crate) fn timestamp(micros: i64, zone: Zone) -> String {
    datetime(local_of(micros, zone))
}

/// A TIMESTAMP_NTZ by its microseconds since 1970, local.
pub(crate) fn timestamp_ntz(micros: i64) -> String {
    datetime(super::naive_of(micros))
}

fn datetime(local: NaiveDateTime) -> String {
    let mut text = String::with_capacity(26);
    write_date(local.date(), &mut text);
    let _ = write!(text, " {:02}:{:02}:{:02}", local.hour(), local.minute(), local.second());
    let micros = local.nanosecond() / 1000;
    if micros > 0 {
        let _ = write!(text, ".{micros:06}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

fn write_date(date: NaiveDate, out: &mut String) {
    let sign = if date.year() > 9999 { "+" } else { "" };
    let _ = write!(out, "{sign}{:04}-{:02}-{:02}", date.year(), date.month(), date.day());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_java_does() {
        let cases = [
            (1.0, "1.0"),
            (1e7, "1.0E7"),
            (1e10, "1.0E10"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (123456789.123, "1.23456789123E8"),
            (1234567.0, "1234567.0"),
            (-0.0, "-0.0"),
            (0.5, "0.5"),
            (0.012, "0.012"),
            (100.25, "100.25"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, text) in cases {
            assert_eq!(double(value), text);
        }
        assert_eq!(float(0.1), "0.1");
    }

    #[test]
    fn decimals_keep_their_scale() {
        assert_eq!(decimal(-150, 2), "-1.50");
        assert_eq!(decimal(5, 3), "0.005");
        assert_eq!(decimal(7, 0), "7");
    }
}
