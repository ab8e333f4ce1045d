//! Between columns and the bytes that state and order are made of, and the rows that come out.
//!
//! Sequences are compared by their bytes (Arrow's row format keeps their order), with doubles made normal first.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StructArray, new_null_array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows as RowBytes};

use super::CdcSpec;
use crate::error::{EngineError, Result};
use crate::operator::keyed::{KeyedBatch, row_converter};
use crate::operator::normal::normalized;
use crate::plan::auto_cdc::ScdType;

/// Converts the columns of one operator.
pub(super) struct Codec {
    pub(super) spec: Arc<CdcSpec>,
    keys: RowConverter,
    /// None if every column is a key.
    data: Option<RowConverter>,
    /// None if nothing makes a new row of the history.
    tracked: Option<RowConverter>,
    sequence: RowConverter,
    null_sequence: Vec<u8>,
}

/// Byte strings, one after another.
#[derive(Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// Rows on their way out, as bytes.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) keys: Strings,
    pub(super) data: Strings,
    /// Start, end and sequence of each row; an empty one is null.
    pub(super) sequences: [Strings; 3],
    pub(super) deleted: Vec<bool>,
}

impl Codec {
    pub(super) fn new(spec: &Arc<CdcSpec>) -> Result<Self> {
        let some = |types: Vec<DataType>| if types.is_empty() { Ok(None) } else { row_converter(&types).map(Some) };
        let sequence_type = std::slice::from_ref(&spec.sequence_type);
        let sequence = row_converter(sequence_type)?;
        let nulls = sequence.convert_columns(&[new_null_array(&spec.sequence_type, 1)])?;
        Ok(Self {
            spec: Arc::clone(spec),
            keys: row_converter(&spec.input.key_types)?,
            data: some(spec.data_types.clone())?,
            tracked: some(spec.tracked.iter().map(|at| spec.data_types[*at].clone()).collect())?,
            null_sequence: nulls.row(0).as_ref().to_vec(),
            sequence,
        })
    }

    /// The data columns of a batch.
    fn data_of<'a>(&self, rows: &'a KeyedBatch) -> &'a [ArrayRef] {
        &rows.columns[self.spec.input.key_types.len()..self.spec.sequence_at()]
    }

    /// The sequence of each row as a column: of the values that are the same in its order, always the same one.
    pub(super) fn sequence_column(&self, rows: &KeyedBatch) -> Result<ArrayRef> {
        let column = normalized(vec![Arc::clone(&rows.columns[self.spec.sequence_at()])])?;
        column.into_iter().next().ok_or_else(|| EngineError::internal("a column is gone"))
    }

    /// The sequence of each row.
    pub(super) fn sequences(&self, rows: &KeyedBatch) -> Result<RowBytes> {
        Ok(self.sequence.convert_columns(&[self.sequence_column(rows)?])?)
    }

    /// The data of each row; none if every column is a key.
    pub(super) fn data(&self, rows: &KeyedBatch) -> Result<Option<RowBytes>> {
        self.data.as_ref().map(|data| Ok(data.convert_columns(self.data_of(rows))?)).transpose()
    }

    /// What tells rows of one key apart that stand for two rows of the history.
    pub(super) fn tracked(&self, rows: &KeyedBatch) -> Result<Vec<u128>> {
        let Some(tracked) = &self.tracked else { return Ok(vec![0; rows.len()]) };
        let data = self.data_of(rows);
        let columns = self.spec.tracked.iter().map(|at| Arc::clone(&data[*at])).collect();
        let converted = tracked.convert_columns(&normalized(columns)?)?;
        Ok(converted.iter().map(|row| xxhash_rust::xxh3::xxh3_128(row.as_ref())).collect())
    }

    /// Rows of the target from their bytes.
    pub(super) fn rows_out(&self, out: &Outgoing) -> Result<RecordBatch> {
        let mut columns = decode(&self.keys, out.keys.iter())?;
        if let Some(data) = &self.data {
            columns.extend(decode(data, out.data.iter())?);
        }
        let mut sequences = Vec::new();
        for bytes in &out.sequences {
            let or_null = bytes.iter().map(|bytes| if bytes.is_empty() { &self.null_sequence } else { bytes });
            sequences.extend(decode(&self.sequence, or_null)?);
        }
        self.batch(&columns, sequences, BooleanArray::from(out.deleted.clone()))
    }

    /// A batch of the target's columns: `sequences` are what type 1 has in its metadata, or start, end and sequence.
    pub(super) fn batch(
        &self,
        keys_and_data: &[ArrayRef],
        mut sequences: Vec<ArrayRef>,
        deleted: BooleanArray,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = self.spec.layout.iter().map(|at| Arc::clone(&keys_and_data[*at])).collect();
        let inside = match self.spec.scd_type {
            ScdType::One => sequences,
            ScdType::Two => {
                let inside = sequences.split_off(2);
                columns.extend(sequences);
                inside
            }
        };
        let metadata = self.spec.schema.field(columns.len());
        let DataType::Struct(fields) = metadata.data_type() else {
            return Err(EngineError::internal("the metadata of changes is no STRUCT"));
        };
        columns.push(Arc::new(StructArray::try_new(fields.clone(), inside, None)?));
        columns.push(Arc::new(deleted));
        // Types may differ by the nullability of what is inside.
        let columns = columns.iter().zip(self.spec.schema.fields());
        let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
        Ok(RecordBatch::try_new(Arc::clone(&self.spec.schema), columns.collect::<Result<_, _>>()?)?)
    }
}

fn decode<'a>(converter: &RowConverter, bytes: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
    let parser = converter.parser();
    Ok(converter.convert_rows(bytes.map(|bytes| parser.parse(bytes)))?)
}
