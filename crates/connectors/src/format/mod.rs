//! Bytes to Arrow batches and back.
//!
//! ```text
//!  record bytes ──> RecordDecoder ──────────────────────────> RecordBatch
//!                    json: direct into columns ─┐ unusual      (the needed columns only)
//!                          full parser <────────┘
//!                    csv:  split, then the same readers of values
//!                    avro: by steps found from the writer's schema and the columns
//!  RecordBatch ──> json_encode_rows, csv_encode_rows, AvroEncoder ──> one text or value a row
//! ```
//!
//! Kafka values, files of lines, `from_json` and `from_avro` all come through here, so that one text gives one row wherever it
//! stands. The answers are those of Spark 4.3, checked against it case by case (see `json/golden.rs`, `csv.rs`).
//!
//! A decoder gives all columns as nullable at every level: what a record lacks is null. It knows nothing of topics,
//! files or offsets; a malformed record is reported to the caller, who counts it and keeps its bytes.

pub mod avro;
mod column;
pub mod csv;
mod csv_encode;
pub(crate) mod functions;
mod java;
pub mod json;
mod json_encode;
mod simd;
#[cfg(test)]
mod testing;
mod text;
mod widen;

use std::str::FromStr;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_engine::plan::datetime_pattern::PatternError;
use highwater_engine::plan::ddl::type_name;

pub use avro::{AvroEncoder, AvroOptions, AvroSchema, AvroSchemaError, Framing, avro_decoder};
pub(crate) use column::nullable;
pub use csv::{CsvOptions, csv_decoder};
pub use csv_encode::{CsvWriteOptions, csv_encode_header, csv_encode_rows};
pub use json::{JsonOptions, json_decoder};
pub use json_encode::{JsonWriteOptions, json_encode_rows};
pub(crate) use widen::Widened;

/// What to do with a record that does not parse, in Spark's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParseMode {
    /// A row with null where nothing could be read, and the record in the corrupt-record column if there is one.
    #[default]
    Permissive,
    /// The first malformed record is an error.
    FailFast,
    /// No row.
    DropMalformed,
}

impl FromStr for ParseMode {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Self, FormatError> {
        match name.to_ascii_uppercase().as_str() {
            "PERMISSIVE" => Ok(Self::Permissive),
            "FAILFAST" => Ok(Self::FailFast),
            "DROPMALFORMED" => Ok(Self::DropMalformed),
            _ => Err(FormatError::Option {
                option: "mode",
                found: name.to_owned(),
                expected: "PERMISSIVE, FAILFAST or DROPMALFORMED",
            }),
        }
    }
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is a row.
    Row,
    /// It could not be read, or only in parts; `row` says whether it left a row nevertheless.
    Malformed {
        /// Whether there is a row for it, by the parse mode.
        row: bool,
        /// Field, found, expected: one sentence for logs and dead letters.
        reason: String,
    },
    /// It was empty or white space: a row of nulls, or none with `skip_blank_records`.
    Null,
}

/// What goes wrong apart from single records.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A column has a type that the format cannot carry.
    #[error("column `{column}` has type {found}, which this format cannot carry")]
    Type {
        /// The column, with the names of the structs around it.
        column: String,
        /// Its type in Spark's words.
        found: String,
    },
    /// An option has a value it cannot have.
    #[error("option `{option}` is `{found}`, expected {expected}")]
    Option {
        /// The name of the option.
        option: &'static str,
        /// The value given.
        found: String,
        /// The values it may have.
        expected: &'static str,
    },
    /// The pattern in an option cannot be used.
    #[error("option `{option}`: {source}")]
    Pattern {
        /// The name of the option.
        option: &'static str,
        /// What is wrong with the pattern.
        source: PatternError,
    },
    /// A text is no Avro schema, or columns and schema do not fit.
    #[error(transparent)]
    AvroSchema(#[from] AvroSchemaError),
    /// A value cannot be written.
    #[error("column `{column}` is {found}, expected {expected}")]
    Value {
        /// The column, with the names of the structs around it.
        column: String,
        /// The value.
        found: String,
        /// What can be written.
        expected: String,
    },
    /// A record is malformed and the mode is FAILFAST.
    #[error("malformed record in FAILFAST mode: {reason}; the record begins with `{record}`")]
    Malformed {
        /// What is wrong with the record.
        reason: String,
        /// Its first characters.
        record: String,
    },
    /// The columns could not be put together to a batch.
    #[error("cannot build a batch: {0}")]
    Arrow(#[from] ArrowError),
    /// One batch has grown past what offsets of 32 bits can address.
    #[error("a batch has more than {limit_bytes} bytes in one column; take batches more often")]
    BatchTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
}

impl FormatError {
    fn unsupported(path: &str, found: &DataType) -> Self {
        Self::Type { column: path.to_owned(), found: type_name(found) }
    }

    fn malformed(reason: String, record: &[u8]) -> Self {
        let head = String::from_utf8_lossy(&record[..record.len().min(SHOWN_BYTES)]).into_owned();
        Self::Malformed { reason, record: head }
    }
}

/// How much of a malformed record an error shows.
const SHOWN_BYTES: usize = 120;

/// The size of one column's buffer at which a batch must be taken: half of what offsets can address, so that any one
/// record still fits.
const MAX_BUFFER_BYTES: usize = 1 << 30;

/// Refuses to go on once a column is too large for one batch.
fn check_size(columns: &[column::Column]) -> Result<(), FormatError> {
    let largest = columns.iter().map(column::Column::largest_buffer_bytes).max().unwrap_or(0);
    if largest > MAX_BUFFER_BYTES {
        return Err(FormatError::BatchTooLarge { limit_bytes: MAX_BUFFER_BYTES });
    }
    Ok(())
}

/// Turns records into batches of one schema.
pub trait RecordDecoder: Send {
    /// Appends one record: one JSON document, one line of CSV, or one Avro value.
    ///
    /// A malformed record is reported as [`Appended::Malformed`] in every mode but FAILFAST, where it is an error.
    /// Whatever the answer, there is at most one row more, and no row is ever left half written.
    fn append(&mut self, record: &[u8]) -> Result<Appended, FormatError>;

    /// Appends a row of nulls: a Kafka record without a value.
    fn append_null(&mut self);

    /// The rows since the last batch.
    fn len(&self) -> usize;

    /// Whether there is no row since the last batch.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The schema of the batches: the one asked for, with every field nullable.
    fn schema(&self) -> SchemaRef;

    /// Takes the rows so far as a batch.
    fn flush(&mut self) -> Result<RecordBatch, FormatError>;
}
