//! Lines to rows and rows to lines: the one place where this connector meets a text format.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StringBuilder, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use highwater_engine::error::{EngineError, Result};

use super::options::{FileFormat, Mode, RecordOptions};
use super::read::ReadPlan;

/// The column that takes the text of a record that does not parse, if the table has it.
const CORRUPT_COLUMN: &str = "_corrupt_record";

/// What became of a line.
pub(crate) enum Line {
    Row,
    /// It did not parse; `gave_row` says whether it stands in the batch as a row of nulls.
    Malformed {
        gave_row: bool,
        reason: String,
    },
}

/// Decodes the lines of one format.
pub(crate) struct LineDecoder {
    schema: SchemaRef,
    /// The columns that are parsed: all but the corrupt-record column.
    parsed: SchemaRef,
    corrupt: Option<usize>,
    format: FileFormat,
    options: RecordOptions,
    rows: Vec<RecordBatch>,
}

impl LineDecoder {
    /// A decoder for the stored columns of a plan.
    pub(crate) fn new(plan: &ReadPlan) -> Result<Self> {
        let schema = SchemaRef::clone(&plan.layout.stored);
        let options = plan.options.record.clone();
        let name = options.corrupt_column.as_deref().unwrap_or(CORRUPT_COLUMN);
        let corrupt = schema.index_of(name).ok();
        let fields: Vec<_> = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != corrupt)
            .map(|(_, field)| Arc::clone(field))
            .collect();
        Ok(Self {
            schema,
            parsed: Arc::new(Schema::new(fields)),
            corrupt,
            format: plan.format,
            options,
            rows: Vec::new(),
        })
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes a line.
    pub(crate) fn append(&mut self, line: &[u8]) -> Result<Line> {
        match self.parse(line) {
            Ok(row) => {
                self.push(row, None)?;
                Ok(Line::Row)
            }
            Err(reason) => {
                let gave_row = self.options.mode == Mode::Permissive;
                if gave_row {
                    let nulls = self.parsed.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
                    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
                    let nulls = RecordBatch::try_new_with_options(SchemaRef::clone(&self.parsed), nulls, &options)?;
                    self.push(nulls, Some(String::from_utf8_lossy(line).into_owned()))?;
                }
                Ok(Line::Malformed { gave_row, reason })
            }
        }
    }

    /// The rows so far.
    pub(crate) fn flush(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        Ok(concat_batches(&self.schema, &rows)?)
    }

    fn push(&mut self, row: RecordBatch, corrupt: Option<String>) -> Result<()> {
        let mut columns = row.columns().to_vec();
        if let Some(index) = self.corrupt {
            columns.insert(index, Arc::new(StringArray::from(vec![corrupt])) as ArrayRef);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
        self.rows.push(RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)?);
        Ok(())
    }

    fn parse(&self, line: &[u8]) -> Result<RecordBatch, String> {
        match self.format {
            FileFormat::Json => self.parse_json(line),
            FileFormat::Csv => self.parse_csv(line),
            FileFormat::Text | FileFormat::Parquet => {
                let mut text = StringBuilder::new();
                text.append_value(String::from_utf8_lossy(line));
                RecordBatch::try_new(SchemaRef::clone(&self.parsed), vec![Arc::new(text.finish())])
                    .map_err(|e| e.to_string())
            }
        }
    }

    fn parse_json(&self, line: &[u8]) -> Result<RecordBatch, String> {
        match serde_json::from_slice::<serde::de::IgnoredAny>(line) {
            Ok(_) if line.trim_ascii_start().starts_with(b"{") => {}
            Ok(_) => return Err("the line is JSON but no object".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        let builder = arrow::json::ReaderBuilder::new(SchemaRef::clone(&self.parsed)).with_batch_size(2);
        let mut decoder = builder.build_decoder().map_err(|error| error.to_string())?;
        decoder.decode(line).map_err(|error| error.to_string())?;
        decoder.flush().map_err(|error| error.to_string())?.ok_or_else(|| "the line has no record".to_owned())
    }

    fn parse_csv(&self, line: &[u8]) -> Result<RecordBatch, String> {
        let options = &self.options;
        let mut builder = arrow::csv::ReaderBuilder::new(SchemaRef::clone(&self.parsed))
            .with_batch_size(2)
            .with_truncated_rows(false)
            .with_delimiter(one_byte(options.separator.as_deref(), b','))
            .with_quote(one_byte(options.quote.as_deref(), b'"'));
        if let Some(escape) = &options.escape {
            builder = builder.with_escape(one_byte(Some(escape), b'\\'));
        }
        if let Some(null) = &options.null_value {
            let pattern =
                regex::Regex::new(&format!("^{}$", regex::escape(null))).map_err(|error| error.to_string())?;
            builder = builder.with_null_regex(pattern);
        }
        let mut decoder = builder.build_decoder();
        let mut whole = line.to_vec();
        whole.push(b'\n');
        decoder.decode(&whole).map_err(|error| error.to_string())?;
        decoder.decode(&[]).map_err(|error| error.to_string())?;
        decoder.flush().map_err(|error| error.to_string())?.ok_or_else(|| "the line has no record".to_owned())
    }
}

/// Encodes rows as the lines of one format.
pub(crate) struct LineEncoder {
    format: FileFormat,
    options: RecordOptions,
}

impl LineEncoder {
    /// An encoder; what stands before the first row goes into `output`.
    pub(crate) fn new(
        format: FileFormat,
        schema: &SchemaRef,
        options: &RecordOptions,
        output: &mut Vec<u8>,
    ) -> Result<Self> {
        if format == FileFormat::Text && schema.fields().iter().any(|field| *field.data_type() != DataType::Utf8) {
            return Err(EngineError::config("USING text writes a column that is not a string")
                .help("CAST it AS STRING, or use USING json or csv"));
        }
        if format == FileFormat::Csv
            && let Some(nested) = schema.fields().iter().find(|field| field.data_type().is_nested())
        {
            return Err(EngineError::config(format!(
                "USING csv cannot hold column '{}', a {}",
                nested.name(),
                nested.data_type()
            ))
            .help("select its fields, or use USING json or parquet"));
        }
        if format == FileFormat::Csv && options.header {
            csv_writer(options, true, output).write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
        }
        Ok(Self { format, options: options.clone() })
    }

    /// Adds the lines of `rows` to `output`.
    pub(crate) fn encode(&mut self, rows: &RecordBatch, output: &mut Vec<u8>) -> Result<()> {
        match self.format {
            FileFormat::Json => {
                let mut writer = arrow::json::LineDelimitedWriter::new(&mut *output);
                writer.write(rows)?;
                Ok(writer.finish()?)
            }
            FileFormat::Csv => Ok(csv_writer(&self.options, false, output).write(rows)?),
            FileFormat::Text | FileFormat::Parquet => {
                use arrow::array::AsArray;
                for line in rows.column(0).as_string::<i32>() {
                    output.extend_from_slice(line.unwrap_or_default().as_bytes());
                    output.push(b'\n');
                }
                Ok(())
            }
        }
    }
}

fn csv_writer<'a>(
    options: &RecordOptions,
    header: bool,
    output: &'a mut Vec<u8>,
) -> arrow::csv::Writer<&'a mut Vec<u8>> {
    arrow::csv::WriterBuilder::new()
        .with_header(header)
        .with_delimiter(one_byte(options.separator.as_deref(), b','))
        .with_quote(one_byte(options.quote.as_deref(), b'"'))
        .with_null(options.null_value.clone().unwrap_or_default())
        .build(output)
}

fn one_byte(option: Option<&str>, default: u8) -> u8 {
    match option {
        Some("\\t") => b'\t',
        Some(text) => text.bytes().next().unwrap_or(default),
        None => default,
    }
}
