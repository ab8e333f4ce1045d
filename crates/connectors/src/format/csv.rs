//! Lines of CSV to rows, as Spark's CSV files and `from_csv` read them.
//!
//! ```text
//!  line ──split──> fields by position ──> values ──> columns
//! ```
//!
//! Fields go to columns by position; a header is for the caller to use. Quotes are understood as Spark understands
//! them, after the univocity parser:
//!
//! | line | field |
//! |---|---|
//! | `"a,b"` | `a,b` |
//! | `"a\"b"` | `a"b`: the escape stands before quotes and itself, and is kept before anything else |
//! | `"a"b,` | `"a"b`: a quote that does not end the field makes it a plain one |
//! | `"a""",` | `a""`: of several quotes before the separator the last one ends the field |
//! | `"a` | `a`: the end of the line ends the field |
//!
//! An empty field is null; an empty field in quotes is `empty_value`, and null if that equals `null_value`. A line with
//! too few or too many fields is malformed but keeps the fields it has, as does one with a field that does not fit its
//! column. A record is one line here: line feeds in quotes are for the caller to keep together.
//!
//! It refuses nested columns, and does not read Java's hexadecimal doubles.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono_tz::Tz;

use super::column::{Column, Value, columns, nullable};
use super::json::corrupt_column;
use super::text::{Times, parse_decimal};
use super::{Appended, FormatError, ParseMode, RecordDecoder};

/// How CSV is read; the defaults are Spark's.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    /// What a malformed line becomes.
    pub mode: ParseMode,
    /// What stands between fields, not empty.
    pub sep: String,
    /// What a field with separators in it stands between; none switches quoting off.
    pub quote: Option<u8>,
    /// What stands before a quote that belongs to the field.
    pub escape: u8,
    /// Lines that begin with it are no records.
    pub comment: Option<u8>,
    /// The text that stands for null, besides an empty field.
    pub null_value: String,
    /// What an empty field in quotes stands for.
    pub empty_value: String,
    /// The text that stands for no number.
    pub nan_value: String,
    /// The text that stands for positive infinity.
    pub positive_inf: String,
    /// The text that stands for negative infinity.
    pub negative_inf: String,
    /// Whether white space before a field is dropped.
    pub ignore_leading_white_space: bool,
    /// Whether white space after a field is dropped.
    pub ignore_trailing_white_space: bool,
    /// A Spark pattern for timestamps; without one, what `CAST` accepts.
    pub timestamp_format: Option<String>,
    /// The same for timestamps without time zone.
    pub timestamp_ntz_format: Option<String>,
    /// The same for dates.
    pub date_format: Option<String>,
    /// The text column that takes malformed lines, if the schema has one of this name.
    pub column_name_of_corrupt_record: String,
    /// The zone of timestamps that name none.
    pub session_time_zone: Tz,
    /// The names of all fields of a line by position, when the schema has only some of them. Without it the fields
    /// are the columns of the schema, the one for malformed lines aside.
    pub line_columns: Option<Vec<String>>,
    /// Whether a blank line leaves no row: true for files.
    pub skip_blank_records: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            mode: ParseMode::Permissive,
            sep: ",".to_owned(),
            quote: Some(b'"'),
            escape: b'\\',
            comment: None,
            null_value: String::new(),
            empty_value: String::new(),
            nan_value: "NaN".to_owned(),
            positive_inf: "Inf".to_owned(),
            negative_inf: "-Inf".to_owned(),
            ignore_leading_white_space: false,
            ignore_trailing_white_space: false,
            timestamp_format: None,
            timestamp_ntz_format: None,
            date_format: None,
            column_name_of_corrupt_record: "_corrupt_record".to_owned(),
            session_time_zone: Tz::UTC,
            line_columns: None,
            skip_blank_records: false,
        }
    }
}

/// A decoder of CSV lines for the columns of `schema`.
///
/// Fails on a nested column, a pattern that does not compile, an empty separator, a column that is not in
/// `line_columns`, and a corrupt-record column that is not text.
pub fn csv_decoder(schema: SchemaRef, options: CsvOptions) -> Result<Box<dyn RecordDecoder>, FormatError> {
    Ok(Box::new(CsvDecoder::new(&schema, options)?))
}

struct CsvDecoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// For each field of a line, the column it goes to.
    targets: Vec<Option<usize>>,
    corrupt_column: Option<usize>,
    times: Times,
    rows: usize,
    options: CsvOptions,
}

/// A field of a line: its text, or none if it was empty without quotes.
pub(super) type Field<'a> = Option<Cow<'a, str>>;

impl CsvDecoder {
    fn new(schema: &Schema, options: CsvOptions) -> Result<Self, FormatError> {
        if options.sep.is_empty() {
            let found = options.sep;
            return Err(FormatError::Option { option: "sep", found, expected: "at least one character" });
        }
        let fields = nullable(schema.fields());
        let corrupt_column = corrupt_column(&fields, &options.column_name_of_corrupt_record)?;
        if let Some(field) = fields.iter().find(|field| field.data_type().is_nested()) {
            return Err(FormatError::unsupported(field.name(), field.data_type()));
        }
        let columns_of_data = (0..fields.len()).filter(|i| Some(*i) != corrupt_column);
        let targets = match &options.line_columns {
            None => columns_of_data.map(Some).collect(),
            Some(names) => {
                if let Some(missing) = columns_of_data.map(|i| fields[i].name()).find(|name| !names.contains(name)) {
                    let (option, expected) = ("columns of the file", "a list with every column of the schema");
                    return Err(FormatError::Option { option, found: format!("without `{missing}`"), expected });
                }
                let target = |name| fields.find(name).map(|(i, _)| i).filter(|i| Some(*i) != corrupt_column);
                names.iter().map(|name| target(name.as_str())).collect()
            }
        };
        let times = Times::new(
            options.session_time_zone,
            options.timestamp_format.as_ref(),
            options.timestamp_ntz_format.as_ref(),
            options.date_format.as_ref(),
        )?;
        Ok(Self {
            columns: columns(&fields, "")?,
            schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
            targets,
            corrupt_column,
            times,
            rows: 0,
            options,
        })
    }

    /// Writes what the line has into the columns; why it is malformed, if it is.
    fn fill(&mut self, line: &str) -> Option<String> {
        let fields = split(line, &self.options);
        let mut reason = None;
        if fields.len() != self.targets.len() {
            reason = Some(format!("the line has {} fields, expected {}", fields.len(), self.targets.len()));
        }
        for (field, target) in fields.iter().zip(&self.targets) {
            let Some(i) = target else { continue };
            let column = &mut self.columns[*i];
            match field.as_deref().filter(|text| *text != self.options.null_value) {
                None => column.push_null(),
                Some(text) => match value(text, column.data_type(), &mut self.times, &self.options) {
                    Some(value) => column.push(value),
                    None => {
                        column.push_null();
                        reason.get_or_insert_with(|| misfit(self.schema.field(*i).name(), text, column.data_type()));
                    }
                },
            }
        }
        let rows = self.rows;
        self.columns.iter_mut().filter(|column| column.len() == rows).for_each(Column::push_null);
        reason
    }
}

fn misfit(column: &str, found: &str, data_type: &DataType) -> String {
    let found: String = found.chars().take(60).collect();
    let expected = highwater_engine::plan::ddl::type_name(data_type);
    format!("field `{column}` is `{found}`, expected {expected}")
}

impl RecordDecoder for CsvDecoder {
    fn append(&mut self, record: &[u8]) -> Result<Appended, FormatError> {
        if self.rows.is_multiple_of(1024) {
            super::check_size(&self.columns)?;
        }
        let line = String::from_utf8_lossy(record);
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if self.options.comment.is_some() && line.as_bytes().first() == self.options.comment.as_ref() {
            return Ok(Appended::Null);
        }
        if line.trim().is_empty() {
            if !self.options.skip_blank_records {
                self.append_null();
            }
            return Ok(Appended::Null);
        }
        let Some(reason) = self.fill(line) else {
            self.rows += 1;
            return Ok(Appended::Row);
        };
        if self.options.mode != ParseMode::Permissive {
            self.columns.iter_mut().for_each(|column| column.truncate(self.rows));
            return match self.options.mode {
                ParseMode::FailFast => Err(FormatError::malformed(reason, record)),
                _ => Ok(Appended::Malformed { row: false, reason }),
            };
        }
        if let Some(i) = self.corrupt_column {
            self.columns[i].truncate(self.rows);
            self.columns[i].push_bytes(line.as_bytes());
        }
        self.rows += 1;
        Ok(Appended::Malformed { row: true, reason })
    }

    fn append_null(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
        self.rows += 1;
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn flush(&mut self) -> Result<RecordBatch, FormatError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?)
    }
}

/// The value of a field that is not null, or `None` if it does not fit.
fn value(text: &str, data_type: &DataType, times: &mut Times, options: &CsvOptions) -> Option<Value> {
    Some(match data_type {
        DataType::Boolean if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
        DataType::Boolean if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
        DataType::Int8 => Value::Int(text.parse::<i8>().ok()?.into()),
        DataType::Int16 => Value::Int(text.parse::<i16>().ok()?.into()),
        DataType::Int32 => Value::Int(text.parse::<i32>().ok()?.into()),
        DataType::Int64 => Value::Int(text.parse().ok()?),
        DataType::Float64 => Value::Float(float(text, options)?),
        // Read as a float at once: rounding to double first could round twice.
        DataType::Float32 => match java_float(text).and_then(|plain| plain.parse().ok()) {
            Some(value) => Value::Float32(value),
            None => Value::Float32(float(text, options)? as f32),
        },
        DataType::Decimal128(precision, scale) => Value::Decimal(parse_decimal(text.as_bytes(), *precision, *scale)?),
        DataType::Date32 => Value::Int(times.date(text.as_bytes())?.into()),
        DataType::Timestamp(_, Some(_)) => Value::Int(times.timestamp(text.as_bytes())?),
        DataType::Timestamp(_, None) => Value::Int(times.timestamp_ntz(text.as_bytes())?),
        DataType::Utf8 | DataType::Utf8View | DataType::Binary => Value::Bytes(text.as_bytes().to_vec()),
        _ => return None,
    })
}

fn float(text: &str, options: &CsvOptions) -> Option<f64> {
    if text == options.nan_value {
        return Some(f64::NAN);
    }
    if text == options.positive_inf {
        return Some(f64::INFINITY);
    }
    if text == options.negative_inf {
        return Some(f64::NEG_INFINITY);
    }
    match text.trim() {
        "NaN" | "+NaN" | "-NaN" => Some(f64::NAN),
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => java_float(text)?.parse().ok(),
    }
}

/// The digits of a number that `Double.parseDouble` takes: it may have white space around it and `d` or `f` behind.
fn java_float(text: &str) -> Option<&str> {
    let text = text.trim();
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    plain.then_some(text)
}

/// The fields of a line.
pub(super) fn split<'a>(line: &'a str, options: &CsvOptions) -> Vec<Field<'a>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let start = if options.ignore_leading_white_space { rest.trim_start_matches([' ', '\t']) } else { rest };
        let (field, end) = match options.quote {
            Some(quote) if start.as_bytes().first() == Some(&quote) => quoted_field(start, quote, options),
            _ => plain_field(start, options),
        };
        fields.push(field);
        match end.strip_prefix(options.sep.as_str()) {
            Some(after) => rest = after,
            None => return fields,
        }
    }
}

/// A field up to the next separator, and the text from there on.
fn plain_field<'a>(text: &'a str, options: &CsvOptions) -> (Field<'a>, &'a str) {
    let end = text.find(options.sep.as_str()).unwrap_or(text.len());
    let field = &text[..end];
    let field = if options.ignore_trailing_white_space { field.trim_end_matches([' ', '\t']) } else { field };
    ((!field.is_empty()).then_some(Cow::Borrowed(field)), &text[end..])
}

/// A field that begins with a quote.
fn quoted_field<'a>(text: &'a str, quote: u8, options: &CsvOptions) -> (Field<'a>, &'a str) {
    let bytes = text.as_bytes();
    let mut content: Vec<u8> = Vec::new();
    let mut at = 1;
    while let Some(&b) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        if b == options.escape && (next == Some(quote) || (next == Some(b) && b != quote)) {
            content.extend(next);
            at += 2;
            continue;
        }
        if b != quote {
            content.push(b);
            at += 1;
            continue;
        }
        let run = bytes[at..].iter().take_while(|b| **b == quote).count();
        let after = text[at + run..].trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(options.sep.as_str()) {
            return plain_field(text, options);
        }
        content.resize(content.len() + run - 1, quote);
        return (quoted_text(content, options), after);
    }
    (quoted_text(content, options), "")
}

fn quoted_text<'a>(content: Vec<u8>, options: &CsvOptions) -> Field<'a> {
    if content.is_empty() {
        return Some(Cow::Owned(options.empty_value.clone()));
    }
    // Whole characters were taken out of a text, quotes and escapes being ASCII.
    Some(Cow::Owned(String::from_utf8_lossy(&content).into_owned()))
}

#[cfg(test)]
mod tests;
