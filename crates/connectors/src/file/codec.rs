//! Lines to rows and rows to lines: the one place where file tables meet the text formats.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use highwater_engine::error::{EngineError, Result};

use super::options::{FileFormat, Mode, RecordOptions};
use super::read::ReadPlan;
use crate::format::{
    Appended, CsvOptions, CsvWriteOptions, FormatError, JsonOptions, JsonWriteOptions, ParseMode, RecordDecoder,
    csv_decoder, csv_encode_header, csv_encode_rows, json_decoder, json_encode_rows,
};

/// The column that takes the text of a record that does not parse, if the table has it.
const CORRUPT_COLUMN: &str = "_corrupt_record";

/// What became of a line.
pub(crate) enum Line {
    /// It gave this many rows: one, or for a JSON array one for each object.
    Rows(usize),
    /// It did not parse; `gave_row` says whether it stands in the batch as a row of nulls.
    Malformed { gave_row: bool, reason: String },
}

/// Decodes the lines of one format.
pub(crate) enum LineDecoder {
    Records(Box<dyn RecordDecoder>),
    Text { schema: SchemaRef, lines: StringBuilder, count: usize },
}

impl LineDecoder {
    /// A decoder for the stored columns of a plan.
    pub(crate) fn new(plan: &ReadPlan) -> Result<Self> {
        let schema = SchemaRef::clone(&plan.layout.stored);
        let record = &plan.options.record;
        let decoder = match plan.format {
            FileFormat::Json => json_decoder(schema, json_options(record)),
            FileFormat::Csv => {
                let corrupt = corrupt_column(record);
                let columns = plan.layout.file_columns.iter().filter(|name| **name != corrupt).cloned().collect();
                csv_decoder(schema, csv_options(record, columns))
            }
            FileFormat::Text | FileFormat::Parquet => {
                refuse_no_text(&schema)?;
                return Ok(Self::Text { schema, lines: StringBuilder::new(), count: 0 });
            }
        };
        decoder.map(Self::Records).map_err(refused)
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Records(decoder) => decoder.len(),
            Self::Text { count, .. } => *count,
        }
    }

    /// Takes a line.
    pub(crate) fn append(&mut self, line: &[u8]) -> Result<Line> {
        match self {
            Self::Records(decoder) => {
                let before = decoder.len();
                Ok(match decoder.append(line).map_err(refused)? {
                    Appended::Malformed { row, reason } => Line::Malformed { gave_row: row, reason },
                    Appended::Row | Appended::Null => Line::Rows(decoder.len() - before),
                })
            }
            Self::Text { lines, count, .. } => {
                lines.append_value(String::from_utf8_lossy(line));
                *count += 1;
                Ok(Line::Rows(1))
            }
        }
    }

    /// The rows so far.
    pub(crate) fn flush(&mut self) -> Result<RecordBatch> {
        match self {
            Self::Records(decoder) => decoder.flush().map_err(refused),
            Self::Text { schema, lines, count } => {
                *count = 0;
                Ok(RecordBatch::try_new(SchemaRef::clone(schema), vec![Arc::new(lines.finish())])?)
            }
        }
    }
}

fn corrupt_column(record: &RecordOptions) -> String {
    record.corrupt_column.clone().unwrap_or_else(|| CORRUPT_COLUMN.to_owned())
}

fn parse_mode(mode: Mode) -> ParseMode {
    match mode {
        Mode::Permissive => ParseMode::Permissive,
        // The reader itself fails, with the file and the line.
        Mode::DropMalformed | Mode::FailFast => ParseMode::DropMalformed,
    }
}

fn json_options(record: &RecordOptions) -> JsonOptions {
    JsonOptions {
        mode: parse_mode(record.mode),
        timestamp_format: record.timestamp_format.clone(),
        timestamp_ntz_format: record.timestamp_ntz_format.clone(),
        date_format: record.date_format.clone(),
        column_name_of_corrupt_record: corrupt_column(record),
        skip_blank_records: true,
        explode_arrays: true,
        ..JsonOptions::default()
    }
}

fn csv_options(record: &RecordOptions, columns: Vec<String>) -> CsvOptions {
    let defaults = CsvOptions::default();
    CsvOptions {
        mode: parse_mode(record.mode),
        sep: separator(record),
        quote: record.quote.as_deref().map_or(defaults.quote, |quote| quote.bytes().next()),
        escape: record.escape.as_deref().and_then(|escape| escape.bytes().next()).unwrap_or(defaults.escape),
        null_value: record.null_value.clone().unwrap_or_default(),
        timestamp_format: record.timestamp_format.clone(),
        timestamp_ntz_format: record.timestamp_ntz_format.clone(),
        date_format: record.date_format.clone(),
        column_name_of_corrupt_record: corrupt_column(record),
        line_columns: Some(columns),
        skip_blank_records: true,
        ..defaults
    }
}

/// Spark writes a tab as `\t`.
pub(super) fn separator(record: &RecordOptions) -> String {
    record.separator.as_deref().unwrap_or(",").replace("\\t", "\t")
}

/// What a format says of an option or a column, as the table's error.
fn refused(error: FormatError) -> EngineError {
    match error {
        FormatError::Type { .. }
        | FormatError::Option { .. }
        | FormatError::Pattern { .. }
        | FormatError::AvroSchema(_) => {
            EngineError::config("the table's options or columns do not fit its format").caused_by(error)
        }
        FormatError::Malformed { .. }
        | FormatError::Value { .. }
        | FormatError::Arrow(_)
        | FormatError::BatchTooLarge { .. } => EngineError::data("the records do not make a batch").caused_by(error),
    }
}

fn refuse_no_text(schema: &SchemaRef) -> Result<()> {
    match schema.fields().iter().find(|field| *field.data_type() != DataType::Utf8) {
        None => Ok(()),
        Some(field) => Err(EngineError::config(format!(
            "USING text has one STRING column, found '{}' of type {}",
            field.name(),
            field.data_type()
        ))
        .help("CAST it AS STRING, or use USING json or csv")),
    }
}

/// Encodes rows as the lines of one format.
pub(crate) enum LineEncoder {
    Json(JsonWriteOptions),
    Csv(CsvWriteOptions),
    Text,
}

impl LineEncoder {
    /// An encoder; what stands before the first row goes into `output`.
    pub(crate) fn new(
        format: FileFormat,
        schema: &SchemaRef,
        record: &RecordOptions,
        output: &mut Vec<u8>,
    ) -> Result<Self> {
        match format {
            FileFormat::Json => Ok(Self::Json(JsonWriteOptions {
                timestamp_format: record.timestamp_format.clone(),
                timestamp_ntz_format: record.timestamp_ntz_format.clone(),
                date_format: record.date_format.clone(),
                row_end: "\n".to_owned(),
                ..JsonWriteOptions::default()
            })),
            FileFormat::Csv => {
                let options = csv_write_options(record);
                if record.header {
                    csv_encode_header(schema.fields().iter().map(|field| field.name().as_str()), &options, output);
                }
                Ok(Self::Csv(options))
            }
            FileFormat::Text | FileFormat::Parquet => {
                refuse_no_text(schema)?;
                Ok(Self::Text)
            }
        }
    }

    /// Adds the lines of `rows` to `output`.
    pub(crate) fn encode(&mut self, rows: &RecordBatch, output: &mut Vec<u8>) -> Result<()> {
        let mut row_ends = Vec::with_capacity(rows.num_rows());
        match self {
            Self::Json(options) => json_encode_rows(rows, options, output, &mut row_ends).map_err(refused),
            Self::Csv(options) => csv_encode_rows(rows, options, output, &mut row_ends).map_err(refused),
            Self::Text => {
                for line in rows.column(0).as_string::<i32>() {
                    output.extend_from_slice(line.unwrap_or_default().as_bytes());
                    output.push(b'\n');
                }
                Ok(())
            }
        }
    }
}

fn csv_write_options(record: &RecordOptions) -> CsvWriteOptions {
    let defaults = CsvWriteOptions::default();
    let byte = |option: &Option<String>, default: u8| {
        option.as_deref().and_then(|text| text.bytes().next()).unwrap_or(default)
    };
    CsvWriteOptions {
        sep: separator(record),
        quote: byte(&record.quote, defaults.quote),
        escape: byte(&record.escape, defaults.escape),
        null_value: record.null_value.clone().unwrap_or_default(),
        timestamp_format: record.timestamp_format.clone(),
        timestamp_ntz_format: record.timestamp_ntz_format.clone(),
        date_format: record.date_format.clone(),
        row_end: "\n".to_owned(),
        ..defaults
    }
}
