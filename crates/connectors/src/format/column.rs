//! Columns that grow a value at a time and can be cut back to an earlier length.
//!
//! Arrow's own builders cannot take a value back, and a decoder that writes values as it meets them must: the record
//! may turn out malformed at its last byte. So a column here is plain vectors in Arrow's memory layout, `truncate`
//! shortens them, and `finish` hands them over without a copy.
//!
//! It refuses types that no format produces (unsigned, intervals, dictionaries, unions): see [`Column::new`].

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, NullArray, StringArray, StringViewArray, StructArray,
    TimestampMicrosecondArray, make_view,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

use super::FormatError;

/// A value on its way into a column, for the paths that cannot write it at once.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    /// Integers, days of a date, microseconds of a timestamp.
    Int(i64),
    Float(f64),
    Float32(f32),
    Decimal(i128),
    /// Text (valid UTF-8) and binary.
    Bytes(Vec<u8>),
    Struct(Vec<Value>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

/// One growing column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    nulls: Nulls,
    data_type: DataType,
}

/// The values of a column, null ones included as zero.
#[derive(Debug)]
pub(super) enum Values {
    Null,
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
    /// Text and binary with offsets.
    Bytes {
        offsets: Vec<i32>,
        bytes: Vec<u8>,
    },
    View {
        views: Vec<u128>,
        bytes: Vec<u8>,
    },
    Struct(Vec<Column>),
    List {
        offsets: Vec<i32>,
        item: Box<Column>,
    },
    /// Keys and values.
    Map {
        offsets: Vec<i32>,
        pair: Box<[Column; 2]>,
    },
}

/// Which rows are null; nothing is stored until the first one is.
#[derive(Debug, Default)]
struct Nulls {
    len: usize,
    valid: Option<Vec<bool>>,
}

impl Nulls {
    fn push_valid(&mut self) {
        self.len += 1;
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }

    #[cold]
    fn push_null(&mut self) {
        self.valid.get_or_insert_with(|| vec![true; self.len]).push(false);
        self.len += 1;
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if let Some(valid) = &mut self.valid {
            valid.truncate(len);
        }
    }

    fn take(&mut self) -> Option<NullBuffer> {
        self.len = 0;
        self.valid.take().map(NullBuffer::from)
    }
}

/// Longest text that a view holds in itself.
const INLINE_BYTES: usize = 12;

/// How much is copied at once of a short text.
const CHUNK_BYTES: usize = 16;

impl Column {
    /// An empty column; `path` names it in the error when no format can fill such a type.
    pub(super) fn new(data_type: &DataType, path: &str) -> Result<Self, FormatError> {
        let offsets = vec![0];
        let values = match data_type {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(_, scale) if *scale >= 0 => Values::Decimal(Vec::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Timestamp(Vec::new()),
            DataType::Utf8 | DataType::Binary => Values::Bytes { offsets, bytes: Vec::new() },
            DataType::Utf8View => Values::View { views: Vec::new(), bytes: Vec::new() },
            DataType::Struct(fields) => Values::Struct(columns(fields, path)?),
            DataType::List(item) => Values::List { offsets, item: Box::new(Self::new(item.data_type(), path)?) },
            DataType::Map(entries, _) => {
                let (key, value) = map_sides(entries, path)?;
                let pair = [Self::new(key.data_type(), path)?, Self::new(value.data_type(), path)?];
                Values::Map { offsets, pair: Box::new(pair) }
            }
            _ => return Err(FormatError::unsupported(path, data_type)),
        };
        Ok(Self { values, nulls: Nulls::default(), data_type: data_type.clone() })
    }

    pub(super) fn len(&self) -> usize {
        self.nulls.len
    }

    pub(super) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Notes that a value was pushed to `values` directly.
    #[inline]
    pub(super) fn pushed(&mut self) {
        self.nulls.push_valid();
    }

    pub(super) fn push_null(&mut self) {
        self.nulls.push_null();
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(v) => v.push(false),
            Values::Int8(v) => v.push(0),
            Values::Int16(v) => v.push(0),
            Values::Int32(v) | Values::Date(v) => v.push(0),
            Values::Int64(v) | Values::Timestamp(v) => v.push(0),
            Values::Float32(v) => v.push(0.0),
            Values::Float64(v) => v.push(0.0),
            Values::Decimal(v) => v.push(0),
            Values::View { views, .. } => views.push(0),
            Values::Struct(fields) => fields.iter_mut().for_each(Column::push_null),
            Values::Bytes { offsets, .. } | Values::List { offsets, .. } | Values::Map { offsets, .. } => {
                offsets.push(last(offsets));
            }
        }
    }

    /// Appends text or binary. The bytes of a text column must be valid UTF-8, which `finish` checks again.
    #[inline]
    pub(super) fn push_bytes(&mut self, value: &[u8]) {
        match &mut self.values {
            Values::Bytes { offsets, bytes } => {
                bytes.extend_from_slice(value);
                offsets.push(offset(bytes.len()));
            }
            Values::View { views, bytes } => {
                let start = bytes.len();
                if value.len() > INLINE_BYTES {
                    bytes.extend_from_slice(value);
                }
                views.push(make_view(value, 0, offset(start) as u32));
            }
            _ => return self.push_null(),
        }
        self.nulls.push_valid();
    }

    /// Appends the text `record[start..end]`. A short one is copied as a whole chunk, which takes no call and no loop
    /// when the record goes on behind it.
    #[inline]
    pub(super) fn push_text_of(&mut self, record: &[u8], start: usize, end: usize) {
        let len = end - start;
        let Some(chunk) = record.get(start..).and_then(|rest| rest.first_chunk::<CHUNK_BYTES>()) else {
            return self.push_bytes(&record[start..end]);
        };
        match &mut self.values {
            Values::Bytes { offsets, bytes } if len <= CHUNK_BYTES => {
                let start = bytes.len();
                bytes.extend_from_slice(chunk);
                bytes.truncate(start + len);
                offsets.push(offset(bytes.len()));
            }
            Values::View { views, .. } if len <= INLINE_BYTES => {
                let text = u128::from_le_bytes(*chunk) & ((1 << (8 * len)) - 1);
                views.push(text << 32 | len as u128);
            }
            Values::View { views, bytes } => {
                let prefix = u128::from_le_bytes(*chunk) & 0xffff_ffff;
                views.push((offset(bytes.len()) as u128) << 96 | prefix << 32 | len as u32 as u128);
                bytes.extend_from_slice(&record[start..end]);
            }
            _ => return self.push_bytes(&record[start..end]),
        }
        self.nulls.push_valid();
    }

    /// Appends a value; one of another type than the column's is null, which no caller produces.
    pub(super) fn push(&mut self, value: Value) {
        match (&mut self.values, value) {
            (Values::Boolean(v), Value::Boolean(x)) => v.push(x),
            (Values::Int8(v), Value::Int(x)) => v.push(x as i8),
            (Values::Int16(v), Value::Int(x)) => v.push(x as i16),
            (Values::Int32(v) | Values::Date(v), Value::Int(x)) => v.push(x as i32),
            (Values::Int64(v) | Values::Timestamp(v), Value::Int(x)) => v.push(x),
            (Values::Float32(v), Value::Float32(x)) => v.push(x),
            (Values::Float64(v), Value::Float(x)) => v.push(x),
            (Values::Decimal(v), Value::Decimal(x)) => v.push(x),
            (_, Value::Bytes(x)) => return self.push_bytes(&x),
            (Values::Struct(fields), Value::Struct(values)) => {
                fields.iter_mut().zip(values).for_each(|(field, value)| field.push(value));
            }
            (Values::List { offsets, item }, Value::List(values)) => {
                values.into_iter().for_each(|value| item.push(value));
                offsets.push(offset(item.len()));
            }
            (Values::Map { offsets, pair }, Value::Map(entries)) => {
                for (key, value) in entries {
                    pair[0].push(key);
                    pair[1].push(value);
                }
                offsets.push(offset(pair[0].len()));
            }
            _ => return self.push_null(),
        }
        self.nulls.push_valid();
    }

    /// Forgets all rows from `len` on, and what a struct, list or map that was not finished has begun there.
    pub(super) fn truncate(&mut self, len: usize) {
        // What is in a struct, list or map may be ahead of it.
        match &mut self.values {
            Values::Struct(fields) => fields.iter_mut().for_each(|field| field.truncate(len)),
            Values::List { offsets, item } => item.truncate(last(offsets) as usize),
            Values::Map { offsets, pair } => {
                pair.iter_mut().for_each(|side| side.truncate(last(offsets) as usize));
            }
            _ => {}
        }
        if len >= self.len() {
            return;
        }
        self.nulls.truncate(len);
        match &mut self.values {
            Values::Null | Values::Struct(_) => {}
            Values::Boolean(v) => v.truncate(len),
            Values::Int8(v) => v.truncate(len),
            Values::Int16(v) => v.truncate(len),
            Values::Int32(v) | Values::Date(v) => v.truncate(len),
            Values::Int64(v) | Values::Timestamp(v) => v.truncate(len),
            Values::Float32(v) => v.truncate(len),
            Values::Float64(v) => v.truncate(len),
            Values::Decimal(v) => v.truncate(len),
            Values::Bytes { offsets, bytes } => {
                offsets.truncate(len + 1);
                bytes.truncate(last(offsets) as usize);
            }
            Values::View { views, bytes } => {
                // The bytes of the first long text to go are where the buffer ended before it.
                let long = views[len..].iter().find(|view| **view as u32 as usize > INLINE_BYTES);
                if let Some(view) = long {
                    bytes.truncate((view >> 96) as usize);
                }
                views.truncate(len);
            }
            Values::List { offsets, item } => {
                offsets.truncate(len + 1);
                item.truncate(last(offsets) as usize);
            }
            Values::Map { offsets, pair } => {
                offsets.truncate(len + 1);
                pair.iter_mut().for_each(|side| side.truncate(last(offsets) as usize));
            }
        }
    }

    /// The bytes a batch of this column would take at least, to end a batch before offsets overflow.
    pub(super) fn largest_buffer_bytes(&self) -> usize {
        match &self.values {
            Values::Bytes { bytes, .. } | Values::View { bytes, .. } => bytes.len(),
            Values::Struct(fields) => fields.iter().map(Self::largest_buffer_bytes).max().unwrap_or(0),
            Values::List { item, .. } => item.largest_buffer_bytes(),
            Values::Map { pair, .. } => pair.iter().map(Self::largest_buffer_bytes).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Takes the column as an array and leaves an empty one.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = self.len();
        let nulls = self.nulls.take();
        Ok(match &mut self.values {
            Values::Null => Arc::new(NullArray::new(len)),
            Values::Boolean(v) => Arc::new(BooleanArray::new(take(v).into(), nulls)),
            Values::Int8(v) => Arc::new(Int8Array::try_new(take(v).into(), nulls)?),
            Values::Int16(v) => Arc::new(Int16Array::try_new(take(v).into(), nulls)?),
            Values::Int32(v) => Arc::new(Int32Array::try_new(take(v).into(), nulls)?),
            Values::Int64(v) => Arc::new(Int64Array::try_new(take(v).into(), nulls)?),
            Values::Float32(v) => Arc::new(Float32Array::try_new(take(v).into(), nulls)?),
            Values::Float64(v) => Arc::new(Float64Array::try_new(take(v).into(), nulls)?),
            Values::Date(v) => Arc::new(Date32Array::try_new(take(v).into(), nulls)?),
            Values::Decimal(v) => {
                Arc::new(Decimal128Array::try_new(take(v).into(), nulls)?.with_data_type(self.data_type.clone()))
            }
            Values::Timestamp(v) => Arc::new(
                TimestampMicrosecondArray::try_new(take(v).into(), nulls)?.with_data_type(self.data_type.clone()),
            ),
            Values::Bytes { offsets, bytes } => {
                let (offsets, bytes) = (take_offsets(offsets), Buffer::from_vec(take(bytes)));
                if self.data_type == DataType::Utf8 {
                    Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
                } else {
                    Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
                }
            }
            Values::View { views, bytes } => {
                let (views, bytes) = (ScalarBuffer::from(take(views)), Buffer::from_vec(take(bytes)));
                Arc::new(StringViewArray::try_new(views, vec![bytes], nulls)?)
            }
            Values::Struct(_) | Values::List { .. } | Values::Map { .. } => self.finish_nested(len, nulls)?,
        })
    }

    fn finish_nested(&mut self, len: usize, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        match (&mut self.values, &self.data_type) {
            (Values::Struct(columns), DataType::Struct(fields)) if columns.is_empty() => {
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), Vec::new(), nulls, len)?))
            }
            (Values::Struct(columns), DataType::Struct(fields)) => {
                let arrays = columns.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
                Ok(Arc::new(StructArray::try_new(fields.clone(), arrays, nulls)?))
            }
            (Values::List { offsets, item }, DataType::List(field)) => {
                let array = item.finish()?;
                Ok(Arc::new(ListArray::try_new(field.clone(), take_offsets(offsets), array, nulls)?))
            }
            (Values::Map { offsets, pair }, DataType::Map(field, sorted)) => {
                let DataType::Struct(sides) = field.data_type() else {
                    return Err(ArrowError::SchemaError("a map without a struct of entries".to_owned()));
                };
                let arrays = pair.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
                let entries = StructArray::try_new(sides.clone(), arrays, None)?;
                Ok(Arc::new(MapArray::try_new(field.clone(), take_offsets(offsets), entries, nulls, *sorted)?))
            }
            _ => Err(ArrowError::SchemaError("a column whose values are not of its type".to_owned())),
        }
    }
}

/// One empty column for each field.
pub(super) fn columns(fields: &Fields, path: &str) -> Result<Vec<Column>, FormatError> {
    let separator = if path.is_empty() { "" } else { "." };
    fields.iter().map(|field| Column::new(field.data_type(), &format!("{path}{separator}{}", field.name()))).collect()
}

/// Key and value of a map's entries.
pub(super) fn map_sides<'a>(entries: &'a Field, path: &str) -> Result<(&'a FieldRef, &'a FieldRef), FormatError> {
    match entries.data_type() {
        DataType::Struct(sides) if sides.len() == 2 => Ok((&sides[0], &sides[1])),
        other => Err(FormatError::unsupported(path, other)),
    }
}

/// The same fields, all of them nullable at every level: what is missing from a record is null, whatever its schema
/// says. Keys of maps stay as they are, being never null.
pub(crate) fn nullable(fields: &Fields) -> Fields {
    fields.iter().map(|field| Arc::new(nullable_field(field))).collect()
}

fn nullable_field(field: &FieldRef) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(nullable(fields)),
        DataType::List(item) => DataType::List(Arc::new(nullable_field(item))),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(sides) if sides.len() == 2 => {
                let sides = vec![sides[0].clone(), Arc::new(nullable_field(&sides[1]))];
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(sides.into()));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => field.data_type().clone(),
        },
        other => other.clone(),
    };
    field.as_ref().clone().with_data_type(data_type).with_nullable(true)
}

/// Vectors are taken with room for as many values again: the next batch is likely as long.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len();
    std::mem::replace(values, Vec::with_capacity(room))
}

fn take_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let taken = take(offsets);
    offsets.push(0);
    OffsetBuffer::new(ScalarBuffer::from(taken))
}

fn last(offsets: &[i32]) -> i32 {
    offsets.last().copied().unwrap_or(0)
}

/// Decoders end a batch long before a buffer has 2 GiB; saturation only keeps the arithmetic total.
#[inline]
fn offset(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Bytes(value.as_bytes().to_vec())
    }

    fn map_type() -> DataType {
        let sides = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8View, true)];
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(sides.into()), false)), false)
    }

    /// Filling, cutting back and filling again gives what filling alone gives.
    #[test]
    fn truncate_takes_back_exactly_the_rows_after() {
        let long = "longer than twelve bytes";
        let list = DataType::new_list(DataType::Utf8, true);
        let structure = DataType::Struct(vec![Field::new("x", list.clone(), true)].into());
        let map_of = |values: &[&str]| Value::Map(values.iter().map(|v| (text(v), text(v))).collect());
        let list_of = |values: &[&str]| Value::List(values.iter().map(|v| text(v)).collect());
        for (data_type, rows) in [
            (DataType::Int32, vec![Value::Int(1), Value::Null, Value::Int(3)]),
            (DataType::Boolean, vec![Value::Boolean(true), Value::Null, Value::Boolean(false)]),
            (DataType::Utf8, vec![text(long), Value::Null, text("x")]),
            (DataType::Utf8View, vec![text(long), text("x"), text(long), Value::Null, text(long)]),
            (list.clone(), vec![list_of(&["a", "b"]), Value::Null, list_of(&[]), list_of(&["c"])]),
            (structure, vec![Value::Struct(vec![list_of(&["a"])]), Value::Null, Value::Struct(vec![Value::Null])]),
            (map_type(), vec![map_of(&["a", long]), Value::Null, map_of(&[long])]),
        ] {
            let filled = |rows: &[Value], cut: Option<usize>| {
                let mut column = Column::new(&data_type, "c").expect("a supported type");
                rows.iter().for_each(|row| column.push(row.clone()));
                if let Some(cut) = cut {
                    column.truncate(cut);
                    assert_eq!(column.len(), cut);
                    rows[cut..].iter().for_each(|row| column.push(row.clone()));
                }
                column.finish().expect("an array")
            };
            for cut in 0..=rows.len() {
                assert_eq!(&filled(&rows, Some(cut)), &filled(&rows, None), "{data_type} cut at {cut}");
            }
        }
    }

    /// A text out of the middle of a record is the text by itself, however long and wherever the record ends.
    #[test]
    fn texts_of_every_length_are_copied_whole() {
        let record = b"0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ";
        for data_type in [DataType::Utf8, DataType::Utf8View, DataType::Binary] {
            let mut by_place = Column::new(&data_type, "c").expect("a supported type");
            let mut by_value = Column::new(&data_type, "c").expect("a supported type");
            for len in 0..40 {
                for start in [0, 5, record.len() - len] {
                    by_place.push_text_of(record, start, start + len);
                    by_value.push_bytes(&record[start..start + len]);
                }
            }
            assert_eq!(&by_place.finish().expect("an array"), &by_value.finish().expect("an array"));
        }
    }

    #[test]
    fn a_finished_column_starts_again() {
        let mut column = Column::new(&DataType::Utf8, "c").expect("a supported type");
        for _ in 0..2 {
            column.push(text("x"));
            column.push_null();
            assert_eq!(column.finish().expect("an array").len(), 2);
            assert_eq!(column.len(), 0);
        }
    }
}
