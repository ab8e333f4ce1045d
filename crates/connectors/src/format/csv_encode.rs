//! Rows to lines of CSV, as Spark's CSV writer and `to_csv` write them.
//!
//! Null is `null_value`, an empty text `""`. White space around a text is dropped, which is Spark's default. A text is
//! quoted if it has a separator, a quote or a line end in it, or begins the line with `#`. Binary is `[61 62 63]`.
//!
//! It refuses nested columns.

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use chrono_tz::Tz;

use super::FormatError;
use super::json_encode::{Cell, Cells, TimeFormats};

/// How CSV is written; the defaults are Spark's.
#[derive(Debug, Clone)]
pub struct CsvWriteOptions {
    /// What stands between fields, not empty.
    pub sep: String,
    /// What stands around a field that needs it.
    pub quote: u8,
    /// What stands before a quote inside a field, and before itself in a quoted one.
    pub escape: u8,
    /// The text for null.
    pub null_value: String,
    /// The text for an empty text, written as it is.
    pub empty_value: String,
    /// Whether all texts are quoted.
    pub quote_all: bool,
    /// Whether white space before a text is dropped.
    pub ignore_leading_white_space: bool,
    /// Whether white space after a text is dropped.
    pub ignore_trailing_white_space: bool,
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

impl Default for CsvWriteOptions {
    fn default() -> Self {
        Self {
            sep: ",".to_owned(),
            quote: b'"',
            escape: b'\\',
            null_value: String::new(),
            empty_value: "\"\"".to_owned(),
            quote_all: false,
            ignore_leading_white_space: true,
            ignore_trailing_white_space: true,
            timestamp_format: None,
            timestamp_ntz_format: None,
            date_format: None,
            session_time_zone: Tz::UTC,
            row_end: String::new(),
        }
    }
}

/// Appends each row of `batch` to `out` and the position behind it to `row_ends`.
pub fn csv_encode_rows(
    batch: &RecordBatch,
    options: &CsvWriteOptions,
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
    if let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
        return Err(FormatError::unsupported(field.name(), field.data_type()));
    }
    let columns = batch.columns().iter().zip(schema.fields());
    let cells = columns.map(|(array, field)| Cells::new(array, field.name())).collect::<Result<Vec<_>, _>>()?;
    // A column without a type has no nulls of its own, and is null.
    let nulls: Vec<_> = batch.columns().iter().map(Array::logical_nulls).collect();
    let mut text = Vec::new();
    for row in 0..batch.num_rows() {
        for (i, cells) in cells.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(options.sep.as_bytes());
            }
            if nulls[i].as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                out.extend_from_slice(options.null_value.as_bytes());
                continue;
            }
            text.clear();
            write_cell(cells.get(row), &formats, &mut text);
            write_field(&text, i == 0, options, out);
        }
        out.extend_from_slice(options.row_end.as_bytes());
        row_ends.push(out.len());
    }
    Ok(())
}

/// Appends the names of the columns as a line.
pub fn csv_encode_header<'a>(names: impl IntoIterator<Item = &'a str>, options: &CsvWriteOptions, out: &mut Vec<u8>) {
    for (i, name) in names.into_iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(options.sep.as_bytes());
        }
        write_field(name.as_bytes(), i == 0, options, out);
    }
    out.extend_from_slice(options.row_end.as_bytes());
}

fn write_cell(cell: Cell<'_>, formats: &TimeFormats, out: &mut Vec<u8>) {
    match cell {
        Cell::Text(text) => out.extend_from_slice(text.as_bytes()),
        Cell::Binary(bytes) => {
            let digits: Vec<String> = bytes.iter().map(|b| format!("{b:02X}")).collect();
            out.extend_from_slice(format!("[{}]", digits.join(" ")).as_bytes());
        }
        cell => {
            cell.write_plain(formats, out);
        }
    }
}

fn write_field(text: &[u8], first: bool, options: &CsvWriteOptions, out: &mut Vec<u8>) {
    let text = if options.ignore_leading_white_space { text.trim_ascii_start() } else { text };
    let text = if options.ignore_trailing_white_space { text.trim_ascii_end() } else { text };
    if text.is_empty() {
        return out.extend_from_slice(options.empty_value.as_bytes());
    }
    let special = |b: &u8| *b == options.quote || *b == b'\n' || *b == b'\r';
    let separator = options.sep.as_bytes();
    let quoted = options.quote_all
        || text.iter().any(special)
        || text.windows(separator.len().max(1)).any(|window| window == separator)
        || (first && text[0] == b'#');
    if !quoted {
        return out.extend_from_slice(text);
    }
    out.push(options.quote);
    for b in text {
        if *b == options.quote || *b == options.escape {
            out.push(options.escape);
        }
        out.push(*b);
    }
    out.push(options.quote);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn line(columns: Vec<ArrayRef>) -> String {
        let named = columns.into_iter().enumerate().map(|(i, array)| (format!("c{i}"), array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(named).expect("a batch");
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        csv_encode_rows(&batch, &CsvWriteOptions::default(), &mut out, &mut ends).expect("lines");
        assert_eq!(ends, [out.len()]);
        String::from_utf8(out).expect("text")
    }

    /// Golden: `to_csv` and CSV files of Spark 4.3.
    #[test]
    fn fields_are_quoted_when_spark_quotes_them() {
        let one = || Arc::new(Int32Array::from(vec![1])) as ArrayRef;
        let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        for (value, expected) in [
            (Some("x"), "1,x"),
            (Some("a,b"), "1,\"a,b\""),
            (Some("a\"b"), "1,\"a\\\"b\""),
            (Some("a\nb"), "1,\"a\nb\""),
            (Some(" x "), "1,x"),
            (Some("a\\b"), "1,a\\b"),
            (Some("#"), "1,#"),
            (Some("a\"\\b,"), "1,\"a\\\"\\\\b,\""),
            (Some(""), "1,\"\""),
            (None, "1,"),
        ] {
            assert_eq!(line(vec![one(), text(value)]), expected);
        }
        assert_eq!(line(vec![text(Some("#a")), one()]), "\"#a\",1");
        let doubles = [1.5, 1e10, f64::NAN, f64::INFINITY].map(|x| Arc::new(Float64Array::from(vec![x])) as ArrayRef);
        assert_eq!(line(doubles.to_vec()), "1.5,1.0E10,NaN,Infinity");
        let time = TimestampMicrosecondArray::from(vec![1_704_164_645_123_456]).with_timezone("UTC");
        let binary = BinaryArray::from_vec(vec![b"abc"]);
        assert_eq!(line(vec![Arc::new(time), Arc::new(binary)]), "2024-01-02T03:04:05.123Z,[61 62 63]");
    }
}
