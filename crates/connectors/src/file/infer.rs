//! Finds the columns of a table of files that were given none, as Spark does for static tables.
//!
//! | format | columns |
//! |---|---|
//! | parquet | the footer of the first file |
//! | json | all fields of all lines in the order of their names; types merged: bigint + double = double, else string |
//! | csv | the header or `_c0`, `_c1`, ...; strings, or with `inferSchema` int, bigint, double, timestamp, boolean |
//! | text | `value` |
//!
//! Partition folders add their columns at the end. Streams must not depend on what happens to lie in a folder when
//! they start, so the source refuses inferred JSON and CSV columns.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use highwater_engine::error::Result;

use super::durable::io_error;
use super::listing::{InputFile, partition_values};
use super::options::{FileFormat, FileOptions, Mode};
use super::parquet;
use crate::format::json::infer::{Kind, kind_of, merge_fields};

/// The columns of `files`, and which of them are partition columns; none if there is nothing to look at.
pub(crate) fn infer(
    format: FileFormat,
    options: &FileOptions,
    files: &[InputFile],
) -> Result<Option<(Schema, Vec<String>)>> {
    let Some(first) = files.first() else { return Ok(None) };
    let schema = match format {
        FileFormat::Parquet => parquet::file_schema(Path::new(&first.path))?,
        FileFormat::Text => Schema::new(vec![Field::new("value", DataType::Utf8, true)]),
        FileFormat::Json => json_schema(options, files)?,
        FileFormat::Csv => csv_schema(options, files)?,
    };
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut partitions = Vec::new();
    for (column, _) in partition_values(&first.path) {
        if fields.iter().all(|field| *field.name() != column) {
            let values = files.iter().flat_map(|file| partition_values(&file.path)).filter(|(name, _)| *name == column);
            let mut guess = Guess::default();
            values.filter_map(|(_, value)| value).for_each(|value| guess.add(&value));
            fields.push(Field::new(&column, guess.data_type(), true));
            partitions.push(column);
        }
    }
    Ok(Some((Schema::new(fields), partitions)))
}

fn json_schema(options: &FileOptions, files: &[InputFile]) -> Result<Schema> {
    let mut kinds = BTreeMap::new();
    let mut malformed = false;
    for file in files {
        each_line(file, |line| match kind_of(line) {
            Ok(Kind::Object(fields)) => merge_fields(&mut kinds, fields),
            _ => malformed |= !line.trim_ascii().is_empty(),
        })?;
    }
    let corrupt = options.record.corrupt_column.as_deref().unwrap_or("_corrupt_record");
    if malformed && options.record.mode == Mode::Permissive {
        kinds.insert(corrupt.to_owned(), Kind::Text);
    }
    let fields: Vec<Field> =
        kinds.into_iter().filter_map(|(name, kind)| Some(Field::new(name, kind.data_type()?, true))).collect();
    Ok(Schema::new(fields))
}

fn csv_schema(options: &FileOptions, files: &[InputFile]) -> Result<Schema> {
    let record = &options.record;
    let separator = super::codec::separator(record);
    let quote = record.quote.as_deref().unwrap_or("\"").chars().next();
    let mut names: Option<Vec<String>> = None;
    let mut guesses: Vec<Guess> = Vec::new();
    for file in files {
        let mut header_due = record.header;
        each_line(file, |line| {
            let text = String::from_utf8_lossy(line);
            let comment = record.comment.as_deref().is_some_and(|comment| text.starts_with(comment));
            if text.trim().is_empty() || comment {
                return;
            }
            let values = csv_values(&text, &separator, quote);
            let known = names.get_or_insert_with(|| match record.header {
                true => values.clone(),
                false => (0..values.len()).map(|column| format!("_c{column}")).collect(),
            });
            guesses.resize(known.len(), Guess::default());
            if header_due {
                header_due = false;
            } else if record.infer_schema {
                let null = record.null_value.as_deref().unwrap_or("");
                guesses
                    .iter_mut()
                    .zip(&values)
                    .filter(|(_, value)| *value != null)
                    .for_each(|(guess, value)| guess.add(value));
            }
        })?;
    }
    let names = names.unwrap_or_default();
    let fields: Vec<Field> = names
        .into_iter()
        .zip(guesses)
        .map(|(name, guess)| {
            Field::new(name, if record.infer_schema { guess.data_type() } else { DataType::Utf8 }, true)
        })
        .collect();
    Ok(Schema::new(fields))
}

/// The values of a CSV line, without quotes.
fn csv_values(line: &str, separator: &str, quote: Option<char>) -> Vec<String> {
    let mut values = vec![String::new()];
    let mut quoted = false;
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        if !quoted && !separator.is_empty() && rest.starts_with(separator) {
            values.push(String::new());
            rest = &rest[separator.len()..];
            continue;
        }
        if Some(letter) == quote {
            quoted = !quoted;
        } else if let Some(value) = values.last_mut() {
            value.push(letter);
        }
        rest = &rest[letter.len_utf8()..];
    }
    values
}

/// The narrowest type that all texts so far fit.
#[derive(Debug, Clone)]
struct Guess {
    seen: bool,
    int: bool,
    bigint: bool,
    double: bool,
    timestamp: bool,
    boolean: bool,
}

impl Default for Guess {
    fn default() -> Self {
        Self { seen: false, int: true, bigint: true, double: true, timestamp: true, boolean: true }
    }
}

impl Guess {
    fn add(&mut self, text: &str) {
        let text = text.trim();
        self.seen = true;
        self.int &= text.parse::<i32>().is_ok();
        self.bigint &= text.parse::<i64>().is_ok();
        self.double &= text.parse::<f64>().is_ok();
        self.timestamp = self.timestamp && looks_like_a_time(text);
        self.boolean &= text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
    }

    fn data_type(&self) -> DataType {
        match self {
            Self { seen: false, .. } => DataType::Utf8,
            Self { int: true, .. } => DataType::Int32,
            Self { bigint: true, .. } => DataType::Int64,
            Self { double: true, .. } => DataType::Float64,
            Self { timestamp: true, .. } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self { boolean: true, .. } => DataType::Boolean,
            _ => DataType::Utf8,
        }
    }
}

fn looks_like_a_time(text: &str) -> bool {
    let shape = text.len() >= 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    shape && arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(text).is_ok()
}

fn each_line(file: &InputFile, mut visit: impl FnMut(&[u8])) -> Result<()> {
    let path = Path::new(&file.path);
    let failed = |error| io_error("read", path, error);
    let input = File::open(path).map_err(failed)?;
    let input: Box<dyn Read> = match file.path.ends_with(".gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(input)),
        false => Box::new(input),
    };
    let mut reader = BufReader::with_capacity(1 << 17, input);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        visit(text.strip_suffix(b"\r").unwrap_or(text));
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_values_may_be_quoted() {
        assert_eq!(csv_values(r#"a,"b,c",d"#, ",", Some('"')), ["a", "b,c", "d"]);
        assert_eq!(csv_values("a||b", "||", None), ["a", "b"]);
    }

    #[test]
    fn a_guess_is_the_narrowest_type() {
        let guess = |texts: &[&str]| {
            let mut guess = Guess::default();
            texts.iter().for_each(|text| guess.add(text));
            guess.data_type()
        };
        assert_eq!(guess(&["1", "2"]), DataType::Int32);
        assert_eq!(guess(&["1", "3000000000"]), DataType::Int64);
        assert_eq!(guess(&["1", "2.5"]), DataType::Float64);
        assert_eq!(guess(&["true", "False"]), DataType::Boolean);
        assert_eq!(guess(&["2025-01-01 10:00:00"]), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        assert_eq!(guess(&["1", "x"]), DataType::Utf8);
        assert_eq!(guess(&[]), DataType::Utf8);
    }
}
