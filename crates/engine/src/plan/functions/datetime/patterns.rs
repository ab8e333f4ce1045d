//! Text to times and back, by Spark's patterns or without one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use datafusion::common::Result;

use super::super::cast::{self as spark_cast, Mode};
use super::super::udf::{self, Invocation, Spec, each, function};
use super::super::{failure, types};
use super::fields::since_1970;
use super::{dates, instants, texts};
use crate::plan::datetime_pattern::DateTimePattern;
use crate::plan::datetime_pattern::zone::Zone;

pub(super) const TABLE: &[Spec] = &[
    function("to_timestamp", (1, 2), udf::timestamp, |c| to_timestamp(c, Mode::Ansi)).alias(&["to_timestamp_ltz"]),
    function("try_to_timestamp", (1, 2), udf::timestamp, |c| to_timestamp(c, Mode::Try)),
    function("to_timestamp_ntz", (1, 2), udf::timestamp_ntz, to_timestamp_ntz),
    function("to_date", (1, 2), udf::date, |c| to_date(c, Mode::Ansi)),
    function("try_to_date", (1, 2), udf::date, |c| to_date(c, Mode::Try)),
    function("date_format", (2, 2), udf::string, date_format),
    function("unix_timestamp", (1, 2), udf::long, unix_timestamp).alias(&["to_unix_timestamp"]),
    function("from_unixtime", (1, 2), udf::string, from_unixtime),
    function("timestamp_seconds", (1, 1), udf::timestamp, timestamp_seconds),
    function("timestamp_millis", (1, 1), udf::timestamp, |c| from_long(c, 1000)),
    function("timestamp_micros", (1, 1), udf::timestamp, |c| from_long(c, 1)),
    function("unix_seconds", (1, 1), udf::long, |c| since_1970(c, 1_000_000)),
    function("unix_millis", (1, 1), udf::long, |c| since_1970(c, 1000)),
    function("unix_micros", (1, 1), udf::long, |c| since_1970(c, 1)),
];

/// Compiled patterns of one batch.
#[derive(Default)]
struct Patterns {
    compiled: HashMap<String, DateTimePattern>,
}

impl Patterns {
    fn get(&mut self, text: &str) -> Result<&DateTimePattern> {
        if !self.compiled.contains_key(text) {
            let pattern = DateTimePattern::compile(text)
                .map_err(|error| failure::data("INVALID_DATETIME_PATTERN.ILLEGAL_CHARACTER", error))?;
            self.compiled.insert(text.to_owned(), pattern);
        }
        Ok(&self.compiled[text])
    }
}

fn read(pattern: &DateTimePattern, text: &str, zone: Zone) -> Option<i64> {
    pattern.parse_in(text, zone)
}

fn write(pattern: &DateTimePattern, micros: i64, zone: Zone) -> String {
    let mut out = String::new();
    match zone {
        Zone::Region(tz) => pattern.format(micros, tz, &mut out),
        Zone::Fixed(seconds) => pattern.format(micros + i64::from(seconds) * 1_000_000, chrono_tz::UTC, &mut out),
    }
    out
}

fn unreadable(text: &str, pattern: &str) -> datafusion::common::DataFusionError {
    failure::data(
        "CANNOT_PARSE_TIMESTAMP",
        format!("'{text}' does not match the pattern '{pattern}'; use try_to_timestamp to get NULL"),
    )
}

/// Reads texts by a pattern each.
fn by_pattern<T>(
    call: &Invocation<'_>,
    mode: Mode,
    f: impl Fn(&DateTimePattern, &str) -> Option<T>,
) -> Result<Vec<Option<T>>> {
    let (texts, patterns) = (call.strings(0)?, call.strings(1)?);
    let mut compiled = Patterns::default();
    let mut row = |row: usize| -> Result<Option<T>> {
        if texts.is_null(row) || patterns.is_null(row) {
            return Ok(None);
        }
        let (text, pattern) = (texts.value(row), patterns.value(row));
        match f(compiled.get(pattern)?, text) {
            None if mode == Mode::Ansi => Err(unreadable(text, pattern)),
            value => Ok(value),
        }
    };
    (0..call.rows).map(&mut row).collect()
}

/// Whether the pattern is left out, or has nothing to do since the argument is a time already.
fn without_pattern(call: &Invocation<'_>) -> bool {
    call.len() == 1 || !types::is_string(call.field(0).data_type())
}

fn to_timestamp(call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    if without_pattern(call) {
        return spark_cast::array(&call.raw(0)?, &types::timestamp(), mode, call.zone);
    }
    Ok(instants(Int64Array::from(by_pattern(call, mode, |pattern, text| read(pattern, text, call.zone))?)))
}

fn to_timestamp_ntz(call: &Invocation<'_>) -> Result<ArrayRef> {
    if without_pattern(call) {
        return call.array(0, &types::timestamp_ntz());
    }
    let locals = by_pattern(call, Mode::Ansi, |pattern, text| pattern.parse_local(text))?;
    let locals: ArrayRef = Arc::new(Int64Array::from(locals));
    Ok(cast(&locals, &types::timestamp_ntz())?)
}

fn to_date(call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    if without_pattern(call) {
        return spark_cast::array(&call.raw(0)?, &DataType::Date32, mode, call.zone);
    }
    Ok(dates(Int32Array::from(by_pattern(call, mode, |pattern, text| pattern.parse_date(text))?)))
}

pub(in super::super) fn date_format(call: &Invocation<'_>) -> Result<ArrayRef> {
    written(&call.timestamps(0)?, &call.strings(1)?, call.zone)
}

fn written(times: &Int64Array, patterns: &StringArray, zone: Zone) -> Result<ArrayRef> {
    let mut compiled = Patterns::default();
    let mut row = |(time, pattern): (Option<i64>, Option<&str>)| -> Result<Option<String>> {
        let (Some(time), Some(pattern)) = (time, pattern) else { return Ok(None) };
        Ok(Some(write(compiled.get(pattern)?, time, zone)))
    };
    Ok(Arc::new(times.iter().zip(patterns).map(&mut row).collect::<Result<StringArray>>()?))
}

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

fn unix_timestamp(call: &Invocation<'_>) -> Result<ArrayRef> {
    if !types::is_string(call.field(0).data_type()) {
        // Towards zero, unlike unix_seconds.
        return Ok(Arc::new(call.timestamps(0)?.unary::<_, Int64Type>(|us| us / 1_000_000)));
    }
    let (inputs, patterns) = (call.strings(0)?, texts(call, 1, DEFAULT_PATTERN)?);
    let mut compiled = Patterns::default();
    let mut row = |(text, pattern): (Option<&str>, Option<&str>)| -> Result<Option<i64>> {
        let (Some(text), Some(pattern)) = (text, pattern) else { return Ok(None) };
        let micros = read(compiled.get(pattern)?, text, call.zone).ok_or_else(|| unreadable(text, pattern))?;
        Ok(Some(micros / 1_000_000))
    };
    Ok(Arc::new(inputs.iter().zip(&patterns).map(&mut row).collect::<Result<Int64Array>>()?))
}

fn from_unixtime(call: &Invocation<'_>) -> Result<ArrayRef> {
    let micros = call.longs(0)?.unary(|seconds: i64| seconds.saturating_mul(1_000_000));
    written(&micros, &texts(call, 1, DEFAULT_PATTERN)?, call.zone)
}

fn timestamp_seconds(call: &Invocation<'_>) -> Result<ArrayRef> {
    let raw = call.raw(0)?;
    if let DataType::Decimal128(_, scale) = raw.data_type() {
        let at_micros = spark_cast::number::to_decimal(&raw, 38, 6.max(*scale), Mode::Ansi)?;
        let unit = spark_cast::number::pow10(i32::from(6.max(*scale)) - 6).unwrap_or(1);
        let at_micros: ArrayRef = Arc::new(at_micros);
        let micros = at_micros.as_primitive::<Decimal128Type>();
        let micros: Int64Array = each!(micros.len(), (value = *micros) => {
            i64::try_from(value / unit).map(Some).map_err(|_| failure::overflow("TIMESTAMP"))
        })?;
        return Ok(instants(micros));
    }
    call.array(0, &types::timestamp())
}

fn from_long(call: &Invocation<'_>, unit: i64) -> Result<ArrayRef> {
    let overflow = || failure::overflow("TIMESTAMP");
    Ok(instants(call.longs(0)?.try_unary(|value| value.checked_mul(unit).ok_or_else(overflow))?))
}
