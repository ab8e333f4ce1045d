//! One value of a column as text, in the two spellings there are: Spark's `show` and JSON.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::datatypes::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Timelike, Utc};

/// How values are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As Spark's `show`.
    Show,
    /// As JSON.
    Json,
}

/// Appends the value at `row`.
pub(super) fn write(style: Style, array: &dyn Array, row: usize, out: &mut String) {
    if array.is_null(row) {
        out.push_str(if style == Style::Json { "null" } else { "NULL" });
        return;
    }
    match array.data_type() {
        DataType::Null => out.push_str(if style == Style::Json { "null" } else { "NULL" }),
        DataType::Utf8 => string(style, array.as_string::<i32>().value(row), out),
        DataType::LargeUtf8 => string(style, array.as_string::<i64>().value(row), out),
        DataType::Utf8View => string(style, array.as_string_view().value(row), out),
        DataType::Binary => binary(style, array.as_binary::<i32>().value(row), out),
        DataType::LargeBinary => binary(style, array.as_binary::<i64>().value(row), out),
        DataType::BinaryView => binary(style, array.as_binary_view().value(row), out),
        DataType::FixedSizeBinary(_) => binary(style, array.as_fixed_size_binary().value(row), out),
        DataType::Float16 => float(style, f64::from(array.as_primitive::<Float16Type>().value(row)), out),
        DataType::Float32 => float32(style, array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => float(style, array.as_primitive::<Float64Type>().value(row), out),
        DataType::Decimal32(..) => out.push_str(&array.as_primitive::<Decimal32Type>().value_as_string(row)),
        DataType::Decimal64(..) => out.push_str(&array.as_primitive::<Decimal64Type>().value_as_string(row)),
        DataType::Decimal128(..) => out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Decimal256(..) => out.push_str(&array.as_primitive::<Decimal256Type>().value_as_string(row)),
        DataType::Timestamp(unit, _) => timestamp(style, array, *unit, row, out),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            write(style, dictionary.values().as_ref(), dictionary.normalized_keys()[row], out);
        }
        DataType::Struct(_) => structure(style, array, row, out),
        DataType::List(_) => list(style, array.as_list::<i32>().value(row).as_ref(), out),
        DataType::LargeList(_) => list(style, array.as_list::<i64>().value(row).as_ref(), out),
        DataType::FixedSizeList(..) => list(style, array.as_fixed_size_list().value(row).as_ref(), out),
        DataType::Map(..) => map(style, array, row, out),
        other => scalar(style, other, array, row, out),
    }
}

/// Whether values of this type stand to the right in a table.
pub(super) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// Integers, booleans, dates, times and intervals: Arrow's spelling is Spark's.
fn scalar(style: Style, data_type: &DataType, array: &dyn Array, row: usize, out: &mut String) {
    let text = ArrayFormatter::try_new(array, &FormatOptions::default())
        .and_then(|formatter| formatter.value(row).try_to_string())
        .unwrap_or_else(|error| error.to_string());
    let bare = data_type.is_integer() || *data_type == DataType::Boolean;
    if style == Style::Json && !bare { json_string(&text, out) } else { out.push_str(&text) }
}

fn string(style: Style, text: &str, out: &mut String) {
    match style {
        Style::Show => out.push_str(text),
        Style::Json => json_string(text, out),
    }
}

/// Appends `text` as a JSON string.
pub(super) fn json_string(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn binary(style: Style, bytes: &[u8], out: &mut String) {
    match style {
        Style::Json => {
            out.push('"');
            base64(bytes, out);
            out.push('"');
        }
        Style::Show => {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            let _ = write!(out, "[{}]", hex.join(" "));
        }
    }
}

/// Standard base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (word >> (18 - 6 * place)) & 63;
            out.push(if place <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
}

/// Shortest digits that read back as the same number; JSON has no word for what is not finite, so that is a string.
fn float(style: Style, number: f64, out: &mut String) {
    match serde_json::Number::from_f64(number) {
        Some(finite) => {
            let _ = write!(out, "{finite}");
        }
        None => string(style, not_finite(number), out),
    }
}

fn float32(style: Style, number: f32, out: &mut String) {
    // By way of its own shortest digits: widened to 64 bits, 0.1 would become 0.10000000149011612.
    match format!("{number:?}").parse::<f64>() {
        Ok(shortest) if number.is_finite() => float(style, shortest, out),
        _ => string(style, not_finite(f64::from(number)), out),
    }
}

fn not_finite(number: f64) -> &'static str {
    match number {
        n if n.is_nan() => "NaN",
        n if n > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn timestamp(style: Style, array: &dyn Array, unit: TimeUnit, row: usize, out: &mut String) {
    let moment = match unit {
        TimeUnit::Second => DateTime::from_timestamp(array.as_primitive::<TimestampSecondType>().value(row), 0),
        TimeUnit::Millisecond => {
            DateTime::from_timestamp_millis(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        TimeUnit::Microsecond => {
            DateTime::from_timestamp_micros(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        TimeUnit::Nanosecond => {
            Some(DateTime::from_timestamp_nanos(array.as_primitive::<TimestampNanosecondType>().value(row)))
        }
    };
    match moment {
        Some(moment) if style == Style::Json => {
            let _ = write!(out, "\"{}{}Z\"", moment.format("%Y-%m-%dT%H:%M:%S"), fraction(&moment, style));
        }
        Some(moment) => {
            let _ = write!(out, "{}{}", moment.format("%Y-%m-%d %H:%M:%S"), fraction(&moment, style));
        }
        None => string(style, "out of range", out),
    }
}

/// What is left of a second: as many digits as are needed, and in JSON three, six or nine.
fn fraction(moment: &DateTime<Utc>, style: Style) -> String {
    match moment.nanosecond() % 1_000_000_000 {
        0 if style == Style::Show => String::new(),
        nanos if style == Style::Show => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

fn structure(style: Style, array: &dyn Array, row: usize, out: &mut String) {
    let values = array.as_struct();
    out.push('{');
    for (index, (name, column)) in values.column_names().iter().zip(values.columns()).enumerate() {
        separator(style, index, out);
        if style == Style::Json {
            json_string(name, out);
            out.push(':');
        }
        write(style, column.as_ref(), row, out);
    }
    out.push('}');
}

fn list(style: Style, items: &dyn Array, out: &mut String) {
    out.push('[');
    for index in 0..items.len() {
        separator(style, index, out);
        write(style, items, index, out);
    }
    out.push(']');
}

/// `{k -> v}`; in JSON an object, whose keys are strings whatever they were.
fn map(style: Style, array: &dyn Array, row: usize, out: &mut String) {
    let entries = array.as_map().value(row);
    let (keys, values) = (entries.column(0), entries.column(1));
    out.push('{');
    for index in 0..entries.len() {
        separator(style, index, out);
        let mut key = String::new();
        write(Style::Show, keys.as_ref(), index, &mut key);
        match style {
            Style::Show => {
                let _ = write!(out, "{key} -> ");
            }
            Style::Json => {
                json_string(&key, out);
                out.push(':');
            }
        }
        write(style, values.as_ref(), index, out);
    }
    out.push('}');
}

fn separator(style: Style, index: usize, out: &mut String) {
    match (index, style) {
        (0, _) => {}
        (_, Style::Json) => out.push(','),
        (_, Style::Show) => out.push_str(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_standard_vectors() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            let mut out = String::new();
            base64(bytes.as_bytes(), &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn small_floats_keep_their_own_digits() {
        let mut out = String::new();
        float32(Style::Json, 0.1, &mut out);
        float(Style::Show, f64::NEG_INFINITY, &mut out);
        assert_eq!(out, "0.1-Infinity");
    }
}
