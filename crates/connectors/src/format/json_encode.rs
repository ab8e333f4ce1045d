//! Rows to JSON objects, as Spark's `to_json` and JSON files write them.
//!
//! Null members are left out (null elements and null values of maps are not), timestamps are ISO 8601 with
//! milliseconds and zone, doubles look as in Java, numbers that JSON lacks are texts, binary is base64. Keys of maps
//! that are no text are written as Spark stores them: a timestamp as microseconds, a date as days.
//!
//! It refuses types that no table here has (unions, intervals) and maps with nested keys.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray as _, MapArray, StructArray};
use arrow::array::{BooleanArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use chrono_tz::Tz;
use highwater_engine::plan::datetime_pattern::DateTimePattern;

use super::json::write_text;
use super::text::{pattern, write_base64};
use super::{FormatError, java};

/// How JSON is written; the defaults are Spark's.
#[derive(Debug, Clone)]
pub struct JsonWriteOptions {
    /// Whether null members of objects are left out.
    pub ignore_null_fields: bool,
    /// A Spark pattern for timestamps instead of `yyyy-MM-dd'T'HH:mm:ss.SSSXXX`.
    pub timestamp_format: Option<String>,
    /// The same for timestamps without time zone, instead of `yyyy-MM-dd'T'HH:mm:ss.SSS`.
    pub timestamp_ntz_format: Option<String>,
    /// The same for dates, instead of `yyyy-MM-dd`.
    pub date_format: Option<String>,
    /// The zone that timestamps are shown in.
    pub session_time_zone: Tz,
    /// What ends each row: nothing for messages, a line feed for files.
    pub row_end: String,
}

impl Default for JsonWriteOptions {
    fn default() -> Self {
        Self {
            ignore_null_fields: true,
            timestamp_format: None,
            timestamp_ntz_format: None,
            date_format: None,
            session_time_zone: Tz::UTC,
            row_end: String::new(),
        }
    }
}

/// Appends each row of `batch` to `out` as an object, and the position behind it to `row_ends`.
pub fn json_encode_rows(
    batch: &RecordBatch,
    options: &JsonWriteOptions,
    out: &mut Vec<u8>,
    row_ends: &mut Vec<usize>,
) -> Result<(), FormatError> {
    let formats = TimeFormats::new(
        options.session_time_zone,
        options.timestamp_format.as_ref(),
        options.timestamp_ntz_format.as_ref(),
        options.date_format.as_ref(),
    )?;
    let schema = batch.schema();
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let members = Members::new(names.zip(batch.columns()), "")?;
    let writer = Writer { formats, ignore_null_fields: options.ignore_null_fields };
    row_ends.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        writer.object(&members, row, out);
        out.extend_from_slice(options.row_end.as_bytes());
        row_ends.push(out.len());
    }
    Ok(())
}

/// Appends each value of a column of structs, arrays or maps to `out`, and the position behind it to `ends`; a null is
/// written as `null`.
pub(super) fn json_encode_values(
    column: &ArrayRef,
    options: &JsonWriteOptions,
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Result<(), FormatError> {
    let formats = TimeFormats::new(
        options.session_time_zone,
        options.timestamp_format.as_ref(),
        options.timestamp_ntz_format.as_ref(),
        options.date_format.as_ref(),
    )?;
    let writer = Writer { formats, ignore_null_fields: options.ignore_null_fields };
    let values = Values::new(column, "value")?;
    for row in 0..column.len() {
        writer.value(column.as_ref(), &values, row, out);
        ends.push(out.len());
    }
    Ok(())
}

/// How dates and times are written.
pub(super) struct TimeFormats {
    session: Tz,
    timestamp: Option<DateTimePattern>,
    timestamp_ntz: Option<DateTimePattern>,
    date: Option<DateTimePattern>,
    default_timestamp: DateTimePattern,
    default_timestamp_ntz: DateTimePattern,
    default_date: DateTimePattern,
}

impl TimeFormats {
    pub(super) fn new(
        session: Tz,
        timestamp: Option<&String>,
        timestamp_ntz: Option<&String>,
        date: Option<&String>,
    ) -> Result<Self, FormatError> {
        let default = |text: &'static str| {
            DateTimePattern::compile(text).map_err(|source| FormatError::Pattern { option: "default", source })
        };
        Ok(Self {
            session,
            timestamp: pattern("timestampFormat", timestamp)?,
            timestamp_ntz: pattern("timestampNTZFormat", timestamp_ntz)?,
            date: pattern("dateFormat", date)?,
            default_timestamp: default("yyyy-MM-dd'T'HH:mm:ss.SSSXXX")?,
            default_timestamp_ntz: default("yyyy-MM-dd'T'HH:mm:ss.SSS")?,
            default_date: default("yyyy-MM-dd")?,
        })
    }

    fn write_timestamp(&self, micros: i64, out: &mut Vec<u8>) {
        if self.timestamp.is_none() && self.session == Tz::UTC && write_iso(micros, out) {
            return out.push(b'Z');
        }
        write_pattern(self.timestamp.as_ref().unwrap_or(&self.default_timestamp), micros, self.session, out);
    }

    fn write_timestamp_ntz(&self, micros: i64, out: &mut Vec<u8>) {
        if self.timestamp_ntz.is_none() && write_iso(micros, out) {
            return;
        }
        write_pattern(self.timestamp_ntz.as_ref().unwrap_or(&self.default_timestamp_ntz), micros, Tz::UTC, out);
    }

    fn write_date(&self, days: i32, out: &mut Vec<u8>) {
        let mut text = String::new();
        self.date.as_ref().unwrap_or(&self.default_date).format_date(days, &mut text);
        out.extend_from_slice(text.as_bytes());
    }
}

fn write_pattern(pattern: &DateTimePattern, micros: i64, tz: Tz, out: &mut Vec<u8>) {
    let mut text = String::new();
    pattern.format(micros, tz, &mut text);
    out.extend_from_slice(text.as_bytes());
}

/// Appends `yyyy-MM-dd'T'HH:mm:ss.SSS` for years of four digits; whether it did.
fn write_iso(micros: i64, out: &mut Vec<u8>) -> bool {
    const MILLIS_PER_DAY: i64 = 86_400_000;
    let millis = micros.div_euclid(1000);
    let (days, time) = (millis.div_euclid(MILLIS_PER_DAY), millis.rem_euclid(MILLIS_PER_DAY));
    // Howard Hinnant's civil_from_days: years begin in March, eras have 400 of them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(0..=9999).contains(&year) {
        return false;
    }
    let mut text = *b"0000-00-00T00:00:00.000";
    let mut put = |at: usize, width: usize, mut number: i64| {
        for digit in text[at..at + width].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, time / 3_600_000);
    put(14, 2, time / 60_000 % 60);
    put(17, 2, time / 1000 % 60);
    put(20, 3, time % 1000);
    out.extend_from_slice(&text);
    true
}

/// A column of values without members, read by row.
pub(super) enum Cells<'a> {
    Boolean(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, i8),
    Date(&'a PrimitiveArray<Date32Type>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>),
    TimestampNtz(&'a PrimitiveArray<TimestampMicrosecondType>),
    Text(&'a arrow::array::StringArray),
    LargeText(&'a arrow::array::LargeStringArray),
    TextView(&'a arrow::array::StringViewArray),
    Binary(&'a arrow::array::BinaryArray),
    BinaryView(&'a arrow::array::BinaryViewArray),
    Null,
}

/// One value that is not null.
pub(super) enum Cell<'a> {
    Boolean(bool),
    Int(i64),
    Float32(f32),
    Float64(f64),
    Decimal(i128, i8),
    Date(i32),
    Timestamp(i64),
    TimestampNtz(i64),
    Text(&'a str),
    Binary(&'a [u8]),
    Null,
}

impl<'a> Cells<'a> {
    pub(super) fn new(array: &'a ArrayRef, path: &str) -> Result<Self, FormatError> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int8 => Self::Int8(array.as_primitive()),
            DataType::Int16 => Self::Int16(array.as_primitive()),
            DataType::Int32 => Self::Int32(array.as_primitive()),
            DataType::Int64 => Self::Int64(array.as_primitive()),
            DataType::Float32 => Self::Float32(array.as_primitive()),
            DataType::Float64 => Self::Float64(array.as_primitive()),
            DataType::Decimal128(_, scale) if *scale >= 0 => Self::Decimal(array.as_primitive(), *scale),
            DataType::Date32 => Self::Date(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Timestamp(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::TimestampNtz(array.as_primitive()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string()),
            DataType::Utf8View => Self::TextView(array.as_string_view()),
            DataType::Binary => Self::Binary(array.as_binary()),
            DataType::BinaryView => Self::BinaryView(array.as_binary_view()),
            other => return Err(FormatError::unsupported(path, other)),
        })
    }

    pub(super) fn get(&self, row: usize) -> Cell<'a> {
        match self {
            Self::Boolean(array) => Cell::Boolean(array.value(row)),
            Self::Int8(array) => Cell::Int(array.value(row).into()),
            Self::Int16(array) => Cell::Int(array.value(row).into()),
            Self::Int32(array) => Cell::Int(array.value(row).into()),
            Self::Int64(array) => Cell::Int(array.value(row)),
            Self::Float32(array) => Cell::Float32(array.value(row)),
            Self::Float64(array) => Cell::Float64(array.value(row)),
            Self::Decimal(array, scale) => Cell::Decimal(array.value(row), *scale),
            Self::Date(array) => Cell::Date(array.value(row)),
            Self::Timestamp(array) => Cell::Timestamp(array.value(row)),
            Self::TimestampNtz(array) => Cell::TimestampNtz(array.value(row)),
            Self::Text(array) => Cell::Text(array.value(row)),
            Self::LargeText(array) => Cell::Text(array.value(row)),
            Self::TextView(array) => Cell::Text(array.value(row)),
            Self::Binary(array) => Cell::Binary(array.value(row)),
            Self::BinaryView(array) => Cell::Binary(array.value(row)),
            Self::Null => Cell::Null,
        }
    }
}

impl Cell<'_> {
    /// Appends the value without quotes; whether JSON wants quotes around it.
    pub(super) fn write_plain(&self, formats: &TimeFormats, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Int(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Float32(value) => {
                java::write_f32(*value, out);
                return !value.is_finite();
            }
            Self::Float64(value) => {
                java::write_f64(*value, out);
                return !value.is_finite();
            }
            Self::Decimal(value, scale) => java::write_decimal(*value, *scale, out),
            Self::Null => out.extend_from_slice(b"null"),
            Self::Date(days) => formats.write_date(*days, out),
            Self::Timestamp(micros) => formats.write_timestamp(*micros, out),
            Self::TimestampNtz(micros) => formats.write_timestamp_ntz(*micros, out),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Binary(bytes) => write_base64(bytes, out),
        }
        matches!(self, Self::Date(_) | Self::Timestamp(_) | Self::TimestampNtz(_) | Self::Text(_) | Self::Binary(_))
    }

    /// Appends the value as the key of a map.
    fn write_key(&self, formats: &TimeFormats, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        match self {
            Self::Date(days) => Cell::Int(i64::from(*days)).write_plain(formats, &mut text),
            Self::Timestamp(micros) | Self::TimestampNtz(micros) => Cell::Int(*micros).write_plain(formats, &mut text),
            cell => cell.write_plain(formats, &mut text),
        };
        write_text(&text, out);
    }
}

/// The members of the objects of a struct, with their keys ready to write.
struct Members<'a> {
    members: Vec<(Vec<u8>, &'a dyn Array, Values<'a>)>,
}

enum Values<'a> {
    Plain(Cells<'a>),
    Struct(Members<'a>),
    List(&'a arrow::array::ListArray, Box<(&'a dyn Array, Values<'a>)>),
    Map(&'a MapArray, Cells<'a>, Box<(&'a dyn Array, Values<'a>)>),
}

impl<'a> Members<'a> {
    fn new<'n>(columns: impl Iterator<Item = (&'n str, &'a ArrayRef)>, path: &str) -> Result<Self, FormatError> {
        let separator = if path.is_empty() { "" } else { "." };
        let member = |(name, array): (&str, &'a ArrayRef)| {
            let mut key = Vec::new();
            write_text(name.as_bytes(), &mut key);
            key.push(b':');
            Ok((key, array.as_ref(), Values::new(array, &format!("{path}{separator}{name}"))?))
        };
        Ok(Self { members: columns.map(member).collect::<Result<_, FormatError>>()? })
    }

    fn of_struct(array: &'a StructArray, path: &str) -> Result<Self, FormatError> {
        Self::new(array.fields().iter().map(|field| field.name().as_str()).zip(array.columns()), path)
    }
}

impl<'a> Values<'a> {
    fn new(array: &'a ArrayRef, path: &str) -> Result<Self, FormatError> {
        Ok(match array.data_type() {
            DataType::Struct(_) => Self::Struct(Members::of_struct(array.as_struct(), path)?),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Self::List(list, Box::new((list.values().as_ref(), Self::new(list.values(), path)?)))
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let values = Box::new((map.values().as_ref(), Self::new(map.values(), path)?));
                Self::Map(map, Cells::new(map.keys(), path)?, values)
            }
            _ => Self::Plain(Cells::new(array, path)?),
        })
    }
}

struct Writer {
    formats: TimeFormats,
    ignore_null_fields: bool,
}

impl Writer {
    fn object(&self, members: &Members<'_>, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let start = out.len();
        for (key, array, values) in &members.members {
            if self.ignore_null_fields && array.is_null(row) {
                continue;
            }
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(key);
            self.value(*array, values, row, out);
        }
        out.push(b'}');
    }

    fn value(&self, array: &dyn Array, values: &Values<'_>, row: usize, out: &mut Vec<u8>) {
        if array.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match values {
            Values::Plain(cells) => self.plain(&cells.get(row), out),
            Values::Struct(members) => self.object(members, row, out),
            Values::List(list, items) => {
                let (array, values) = items.as_ref();
                self.sequence(list.value_offsets(), row, [b'[', b']'], out, |i, out| {
                    self.value(*array, values, i, out);
                });
            }
            Values::Map(map, keys, entries) => {
                let (array, values) = entries.as_ref();
                self.sequence(map.value_offsets(), row, [b'{', b'}'], out, |i, out| {
                    keys.get(i).write_key(&self.formats, out);
                    out.push(b':');
                    self.value(*array, values, i, out);
                });
            }
        }
    }

    fn plain(&self, cell: &Cell<'_>, out: &mut Vec<u8>) {
        if let Cell::Text(text) = cell {
            return write_text(text.as_bytes(), out);
        }
        let start = out.len();
        if cell.write_plain(&self.formats, out) {
            out.insert(start, b'"');
            out.push(b'"');
        }
    }

    fn sequence(
        &self,
        offsets: &[i32],
        row: usize,
        [open, close]: [u8; 2],
        out: &mut Vec<u8>,
        each: impl Fn(usize, &mut Vec<u8>),
    ) {
        out.push(open);
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        for i in start..end {
            if i > start {
                out.push(b',');
            }
            each(i, out);
        }
        out.push(close);
    }
}

#[cfg(test)]
mod tests;
