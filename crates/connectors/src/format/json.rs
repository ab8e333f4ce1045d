//! JSON documents to rows, as Spark's `from_json` and JSON files read them.
//!
//! ```text
//!  record ──> direct: walk once, expecting the keys of the last record in its order,
//!    │                writing each needed value into its column on the way
//!    │          │ anything unusual: cut the columns back
//!    │          v
//!    └─────> full: Spark's whole grammar, a tree of values, then the columns
//! ```
//!
//! Machine-written records have the same keys in the same order, record after record. The direct path remembers the
//! bytes between one value and the next (`,"user_id":`), compares them in a few words, and so knows the column without
//! looking at the key; objects that fill a struct are walked like the record itself. Values nobody needs are still checked to the last byte, since Spark gives no row for a record
//! with a syntax error in them. Whatever is not plain, standard, fitting JSON goes to the full parser: escapes aside,
//! the direct path never decides that a record is malformed. `direct_and_full_agree` tests that both say the same.
//!
//! Names of columns are compared byte by byte. Unknown members are ignored, missing ones are null.

mod direct;
mod full;
#[cfg(test)]
mod golden;
pub(crate) mod infer;
mod scan;
mod shape;

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono_tz::Tz;

use self::full::Parsed;
use self::shape::{Members, Shape};
use super::column::{Column, Value, columns, nullable};
use super::text::Times;
use super::{Appended, FormatError, ParseMode, RecordDecoder, check_size};

pub(super) use self::full::write_text;

/// How JSON is read; the defaults are Spark's.
#[derive(Debug, Clone)]
pub struct JsonOptions {
    /// What a malformed record becomes.
    pub mode: ParseMode,
    /// A Spark pattern for timestamps; without one, what `CAST` accepts.
    pub timestamp_format: Option<String>,
    /// The same for timestamps without time zone.
    pub timestamp_ntz_format: Option<String>,
    /// The same for dates.
    pub date_format: Option<String>,
    /// The text column that takes malformed records, if the schema has one of this name.
    pub column_name_of_corrupt_record: String,
    /// The zone of timestamps that name none.
    pub session_time_zone: Tz,
    /// Whether an empty record leaves no row: true for files, whose blank lines do not count.
    pub skip_blank_records: bool,
    /// Whether an array at the top of a record is a row for each of its objects: true for files. `from_json` and
    /// Kafka values take it as malformed.
    pub explode_arrays: bool,
}

impl Default for JsonOptions {
    fn default() -> Self {
        Self {
            mode: ParseMode::Permissive,
            timestamp_format: None,
            timestamp_ntz_format: None,
            date_format: None,
            column_name_of_corrupt_record: "_corrupt_record".to_owned(),
            session_time_zone: Tz::UTC,
            skip_blank_records: false,
            explode_arrays: false,
        }
    }
}

/// A decoder of JSON documents for the columns of `schema`.
///
/// Fails on a column type that JSON cannot fill, on a pattern that does not compile, and on a corrupt-record column
/// that is not text.
pub fn json_decoder(schema: SchemaRef, options: JsonOptions) -> Result<Box<dyn RecordDecoder>, FormatError> {
    Ok(Box::new(JsonDecoder::new(&schema, options)?))
}

/// A decoder of documents that are one value each, an array or a map (or a struct): batches of that column alone.
///
/// There is no corrupt-record column beside it; a document that does not fit is null.
pub(super) fn json_value_decoder(
    data_type: &DataType,
    options: JsonOptions,
) -> Result<Box<dyn RecordDecoder>, FormatError> {
    let schema = Schema::new(vec![Field::new("value", data_type.clone(), true)]);
    let options = JsonOptions { column_name_of_corrupt_record: String::new(), ..options };
    let mut decoder = JsonDecoder::new(&schema, options)?;
    decoder.root = decoder.members.shapes.first().cloned();
    Ok(Box::new(decoder))
}

/// How many bytes of records may come between two looks at the size of the columns.
const BYTES_BETWEEN_CHECKS: usize = 1 << 26;

struct JsonDecoder {
    schema: SchemaRef,
    members: Members,
    /// The record as a whole, if it is not an object with a member for each column.
    root: Option<Shape>,
    columns: Vec<Column>,
    corrupt_column: Option<usize>,
    times: Times,
    rows: usize,
    bytes_since_check: usize,
    options: JsonOptions,
}

impl JsonDecoder {
    fn new(schema: &Schema, options: JsonOptions) -> Result<Self, FormatError> {
        let fields = nullable(schema.fields());
        let corrupt_name = options.column_name_of_corrupt_record.as_str();
        let corrupt_column = corrupt_column(&fields, corrupt_name)?;
        let times = Times::new(
            options.session_time_zone,
            options.timestamp_format.as_ref(),
            options.timestamp_ntz_format.as_ref(),
            options.date_format.as_ref(),
        )?;
        Ok(Self {
            members: Members::new(&fields, "", corrupt_column.map(|_| corrupt_name))?,
            root: None,
            columns: columns(&fields, "")?,
            schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
            corrupt_column,
            times,
            rows: 0,
            bytes_since_check: 0,
            options,
        })
    }

    #[cold]
    fn append_unusual(&mut self, record: &[u8]) -> Result<Appended, FormatError> {
        self.columns.iter_mut().for_each(|column| column.truncate(self.rows));
        let parsed = match &self.root {
            None => full::parse(record, &self.members, &mut self.times, self.options.explode_arrays),
            Some(shape) => full::parse_value(record, shape, &mut self.times),
        };
        match parsed {
            Parsed::Blank => {
                if !self.options.skip_blank_records {
                    self.append_null();
                }
                Ok(Appended::Null)
            }
            Parsed::Rows(rows, None) => {
                rows.into_iter().for_each(|row| self.push_row(row, None));
                Ok(Appended::Row)
            }
            Parsed::Rows(rows, Some(reason)) => self.append_malformed(record, rows, reason),
            Parsed::Malformed(reason) => {
                let nothing = vec![Value::Null; self.columns.len()];
                self.append_malformed(record, vec![nothing], reason)
            }
        }
    }

    fn append_malformed(
        &mut self,
        record: &[u8],
        rows: Vec<Vec<Value>>,
        reason: String,
    ) -> Result<Appended, FormatError> {
        match self.options.mode {
            ParseMode::FailFast => Err(FormatError::malformed(reason, record)),
            ParseMode::DropMalformed => Ok(Appended::Malformed { row: false, reason }),
            ParseMode::Permissive => {
                rows.into_iter().for_each(|row| self.push_row(row, Some(record)));
                Ok(Appended::Malformed { row: true, reason })
            }
        }
    }

    fn push_row(&mut self, row: Vec<Value>, corrupt: Option<&[u8]>) {
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(value);
        }
        if let (Some(record), Some(i)) = (corrupt, self.corrupt_column) {
            self.columns[i].truncate(self.rows);
            self.columns[i].push_bytes(String::from_utf8_lossy(record).as_bytes());
        }
        self.rows += 1;
    }
}

impl RecordDecoder for JsonDecoder {
    fn append(&mut self, record: &[u8]) -> Result<Appended, FormatError> {
        self.bytes_since_check += record.len();
        if self.bytes_since_check > BYTES_BETWEEN_CHECKS {
            self.bytes_since_check = 0;
            check_size(&self.columns)?;
        }
        if self.root.is_some() || self.append_direct(record).is_err() {
            return self.append_unusual(record);
        }
        self.rows += 1;
        Ok(Appended::Row)
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
        self.bytes_since_check = 0;
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?)
    }
}

/// The column for malformed records, which must be text.
pub(super) fn corrupt_column(fields: &arrow::datatypes::Fields, name: &str) -> Result<Option<usize>, FormatError> {
    let Some((i, field)) = fields.find(name) else { return Ok(None) };
    match field.data_type() {
        DataType::Utf8 | DataType::Utf8View => Ok(Some(i)),
        other => Err(FormatError::unsupported(name, other)),
    }
}
