//! Avro values to rows and back: single values as a Kafka record holds them, not files.
//!
//! ```text
//!  writer's schema, columns ──plan──> steps ─┐
//!  record ─[prefix]─> read: bytes into columns, by the steps ──> batch
//!  columns, schema ──encode──> steps ─┐
//!  batch ────────────────────────> [prefix] bytes
//! ```
//!
//! The bytes of a value do not say what they are: the schema it was written with must be known. It is an option, or it
//! follows from the columns by the rules of Spark's `to_avro` (`derive.rs`), so that what Spark writes of such columns is
//! read here, and the other way round. Columns are the reader's side of Avro's resolution (`plan.rs`).
//!
//! Avro has no way to read on behind an error, so that a malformed value leaves nothing of itself, as in Spark; bytes
//! behind a value are not looked at, as in Spark. With [`Framing`] a value has the five bytes of Confluent's wire
//! format before it; no registry is asked.
//!
//! Neither `arrow-avro` nor `apache-avro` is used. The first reads values with a fingerprint in front alone, and after a
//! malformed one its columns are no longer whole; the second makes a tree of each value. Columns that can be cut back are
//! here already, and the encoding is small.

mod derive;
mod encode;
mod plan;
mod read;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatchOptions};
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

pub(super) use self::derive::type_of_schema;
pub use self::derive::{columns_of_schema, is_union_of_several, reader_schema, schema_of_columns, schema_of_type};
pub use self::encode::AvroEncoder;
use self::plan::{Read, Reader, plan};
use self::read::Input;
pub use self::schema::{AvroSchema, AvroSchemaError};
use super::column::{Column, Values, nullable};
use super::{Appended, FormatError, MAX_BUFFER_BYTES, ParseMode, RecordDecoder};

/// The first byte of a framed value.
const MAGIC: u8 = 0;

/// The bytes before a framed value: the magic byte and the number of its schema.
const FRAME_BYTES: usize = 5;

/// How many bytes of records may come between two looks at the size of the columns.
const BYTES_BETWEEN_CHECKS: usize = 1 << 26;

/// Whether values have Confluent's five bytes in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// They are Avro from their first byte on.
    #[default]
    Bare,
    /// A magic byte and the number of a schema; one that is given must be it, and is what is written.
    Confluent(Option<u32>),
}

/// How Avro is read.
#[derive(Debug, Clone)]
pub struct AvroOptions {
    /// The schema that records were written with.
    pub writer: Arc<AvroSchema>,
    /// A schema of the reader's, for its defaults and aliases.
    pub reader: Option<Arc<AvroSchema>>,
    /// What is in front of a record.
    pub framing: Framing,
    /// What a malformed record becomes.
    pub mode: ParseMode,
    /// The text or binary column that takes malformed records, if the schema has one of this name.
    pub column_name_of_corrupt_record: String,
}

impl AvroOptions {
    /// Bare records of a schema, PERMISSIVE.
    pub fn new(writer: Arc<AvroSchema>) -> Self {
        Self {
            writer,
            reader: None,
            framing: Framing::Bare,
            mode: ParseMode::Permissive,
            column_name_of_corrupt_record: "_corrupt_record".to_owned(),
        }
    }
}

/// A decoder of records for the columns of `schema`.
///
/// Fails on a column that the field of its name cannot fill, and where the writer's schema is no record.
pub fn avro_decoder(schema: SchemaRef, options: AvroOptions) -> Result<Box<dyn RecordDecoder>, FormatError> {
    Ok(Box::new(AvroDecoder::new(&schema, options)?))
}

struct AvroDecoder {
    schema: SchemaRef,
    values: ValueDecoder,
    corrupt_column: Option<usize>,
    mode: ParseMode,
    bytes_since_check: usize,
}

impl AvroDecoder {
    fn new(schema: &Schema, options: AvroOptions) -> Result<Self, FormatError> {
        let fields = nullable(schema.fields());
        let corrupt_column = corrupt_column(&fields, &options.column_name_of_corrupt_record)?;
        let writer = &options.writer;
        if writer.fields(writer.without_null(writer.root())).is_none() {
            let found = writer.describe(writer.root());
            return Err(AvroSchemaError::new("", found, "a record, whose fields are the columns").into());
        }
        let mode = options.mode;
        let own_column = corrupt_column.map(|at| fields[at].name().clone());
        let values = ValueDecoder::new(&DataType::Struct(fields.clone()), &options, own_column.as_deref())?;
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(Self { schema, values, corrupt_column, mode, bytes_since_check: 0 })
    }

    #[cold]
    fn append_malformed(&mut self, record: &[u8], reason: String) -> Result<Appended, FormatError> {
        match self.mode {
            ParseMode::FailFast => Err(FormatError::malformed(reason, record)),
            ParseMode::DropMalformed => Ok(Appended::Malformed { row: false, reason }),
            ParseMode::Permissive => {
                let corrupt_column = self.corrupt_column;
                self.values.push_struct_of(|at, column| match corrupt_column {
                    Some(corrupt) if corrupt == at && *column.data_type() == DataType::Binary => {
                        column.push_bytes(record);
                    }
                    Some(corrupt) if corrupt == at => {
                        column.push_bytes(String::from_utf8_lossy(record).as_bytes());
                    }
                    _ => column.push_null(),
                });
                Ok(Appended::Malformed { row: true, reason })
            }
        }
    }
}

impl RecordDecoder for AvroDecoder {
    fn append(&mut self, record: &[u8]) -> Result<Appended, FormatError> {
        self.bytes_since_check += record.len();
        if self.bytes_since_check > BYTES_BETWEEN_CHECKS {
            self.bytes_since_check = 0;
            self.values.check_size()?;
        }
        match self.values.append(record) {
            Ok(()) => Ok(Appended::Row),
            Err(reason) => self.append_malformed(record, reason),
        }
    }

    fn append_null(&mut self) {
        self.values.column.push_null();
    }

    fn len(&self) -> usize {
        self.values.column.len()
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn flush(&mut self) -> Result<RecordBatch, FormatError> {
        let rows = self.values.column.finish()?;
        self.bytes_since_check = 0;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        // A record that is null, as a whole, has nulls for all of its fields.
        let columns = rows.as_struct().columns().to_vec();
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// A decoder of values of any one type.
pub(super) struct ValueDecoder {
    writer: Arc<AvroSchema>,
    framing: Framing,
    read: Read,
    column: Column,
}

impl ValueDecoder {
    /// A decoder into a column of `data_type`; a column of the whole named `own_column` is never read.
    pub(super) fn new(
        data_type: &DataType,
        options: &AvroOptions,
        own_column: Option<&str>,
    ) -> Result<Self, FormatError> {
        let writer = options.writer.clone();
        let schema = options.reader.as_ref().map(|reader| (reader.as_ref(), reader.root()));
        let read = plan(&writer, writer.root(), data_type, Reader { schema, own_column }, "")?;
        Ok(Self { writer, framing: options.framing, read, column: Column::new(data_type, "")? })
    }

    /// Appends a value; or leaves everything as it was and says what is wrong with it.
    #[inline]
    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), String> {
        let body = match self.framing {
            Framing::Bare => record,
            Framing::Confluent(expected) => unframed(record, expected)?,
        };
        let rows = self.column.len();
        Input::new(body, &self.writer).value(&self.read, &mut self.column).map_err(|misfit| {
            self.column.truncate(rows);
            misfit.reason()
        })
    }

    /// Appends what stands for a malformed value where that is a row: a struct of nulls, or null.
    pub(super) fn push_nothing(&mut self) {
        self.push_struct_of(|_, column| column.push_null());
    }

    /// Appends a struct whose members `push` appends; null where there is no struct.
    fn push_struct_of(&mut self, mut push: impl FnMut(usize, &mut Column)) {
        let Values::Struct(columns) = &mut self.column.values else { return self.column.push_null() };
        columns.iter_mut().enumerate().for_each(|(at, column)| push(at, column));
        self.column.pushed();
    }

    /// Appends null.
    pub(super) fn push_null(&mut self) {
        self.column.push_null();
    }

    /// Takes the values so far.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, FormatError> {
        Ok(self.column.finish()?)
    }

    fn check_size(&self) -> Result<(), FormatError> {
        match self.column.largest_buffer_bytes() {
            bytes if bytes > MAX_BUFFER_BYTES => Err(FormatError::BatchTooLarge { limit_bytes: MAX_BUFFER_BYTES }),
            _ => Ok(()),
        }
    }
}

/// What is behind the five bytes.
fn unframed(record: &[u8], expected: Option<u32>) -> Result<&[u8], String> {
    let Some((frame, body)) = record.split_first_chunk::<FRAME_BYTES>() else {
        return Err(format!("the record has {} bytes, expected {FRAME_BYTES} and a value behind them", record.len()));
    };
    let [magic, id @ ..] = *frame;
    let id = u32::from_be_bytes(id);
    match expected {
        _ if magic != MAGIC => {
            Err(format!("the record begins with the byte {magic}, expected {MAGIC} and the number of a schema"))
        }
        Some(expected) if expected != id => Err(format!("the record is of schema {id}, expected {expected}")),
        _ => Ok(body),
    }
}

/// The bytes in front of what is written.
fn frame(framing: Framing) -> Vec<u8> {
    match framing {
        Framing::Bare => Vec::new(),
        Framing::Confluent(id) => {
            let mut frame = vec![MAGIC];
            frame.extend_from_slice(&id.unwrap_or_default().to_be_bytes());
            frame
        }
    }
}

/// The column for malformed records: text, or bytes as they are.
fn corrupt_column(fields: &Fields, name: &str) -> Result<Option<usize>, FormatError> {
    match fields.find(name) {
        Some((at, field)) if *field.data_type() == DataType::Binary => Ok(Some(at)),
        _ => super::json::corrupt_column(fields, name),
    }
}
