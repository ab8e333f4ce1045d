//! Rows to Avro values, as Spark's `to_avro` writes them: an array or map is one block, a decimal of no fixed size has
//! the fewest bytes.
//!
//! Types are taken as they are, but for those that Avro lacks (`TINYINT` is an `int`); where a schema was given, the
//! columns must be what it says. A field without a column is null if it may be, and an error where rows are opened if it
//! may not.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Fields, TimeUnit};
use arrow::record_batch::RecordBatch;
use highwater_engine::plan::ddl::type_name;

use super::schema::{AvroSchema, AvroSchemaError, Kind, Logical, TypeId};
use super::{Framing, frame};
use crate::format::FormatError;
use crate::format::column::map_sides;
use crate::format::json_encode::{Cell, Cells};

/// Writes values of one type.
#[derive(Debug)]
pub struct AvroEncoder {
    write: Write,
    frame: Vec<u8>,
}

/// How a value is written.
#[derive(Debug)]
enum Write {
    Null,
    Boolean,
    /// Divided by this, downwards, as milliseconds are.
    Integer(i64),
    Float,
    Double,
    Bytes,
    Fixed(usize),
    Enum(Vec<Arc<str>>),
    /// In so many bytes, or the fewest.
    Decimal(Option<usize>),
    Record(Vec<FieldWrite>),
    List(Box<Write>),
    Map(Box<Write>),
    /// The places of null and of the other type in a union.
    Nullable {
        null: i64,
        value: i64,
        write: Box<Write>,
    },
}

#[derive(Debug)]
struct FieldWrite {
    name: String,
    /// The column it is taken from; none for null.
    column: Option<usize>,
    write: Write,
}

impl AvroEncoder {
    /// An encoder of rows with these columns as records of `schema`.
    pub fn of_rows(schema: &AvroSchema, fields: &Fields, framing: Framing) -> Result<Self, FormatError> {
        Self::new(schema, &DataType::Struct(fields.clone()), framing)
    }

    /// An encoder of values of one type.
    pub fn new(schema: &AvroSchema, data_type: &DataType, framing: Framing) -> Result<Self, FormatError> {
        Ok(Self { write: plan(schema, schema.root(), data_type, "")?, frame: frame(framing) })
    }

    /// Appends each row to `out`, and the position behind it to `ends`; one that is not among the `kept` has no bytes.
    pub fn encode_rows(
        &self,
        batch: &RecordBatch,
        kept: Option<NullBuffer>,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) -> Result<(), FormatError> {
        let schema = batch.schema();
        let columns = batch.columns().to_vec();
        let rows = StructArray::try_new_with_length(schema.fields().clone(), columns, kept, batch.num_rows())?;
        self.encode_values(&(Arc::new(rows) as ArrayRef), out, ends)
    }

    /// Appends each value to `out`, and the position behind it to `ends`; a null has no bytes.
    pub fn encode_values(
        &self,
        values: &ArrayRef,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) -> Result<(), FormatError> {
        let source = Source::new(values, "")?;
        for row in 0..values.len() {
            if values.is_valid(row) {
                out.extend_from_slice(&self.frame);
                write(&self.write, &source, row, out).map_err(Unwritable::error)?;
            }
            ends.push(out.len());
        }
        Ok(())
    }
}

fn plan(schema: &AvroSchema, id: TypeId, data_type: &DataType, path: &str) -> Result<Write, FormatError> {
    let found = schema.get(id);
    let misfit = || {
        let expected = format!("a type that a column of {} is written as", type_name(data_type));
        FormatError::from(AvroSchemaError::new(path, schema.describe(id), expected))
    };
    let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_binary = matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    Ok(match (&found.kind, found.logical, data_type) {
        (Kind::Union(branches), ..) => return nullable(schema, branches, data_type, path).ok_or_else(misfit)?,
        (Kind::Null, _, DataType::Null) => Write::Null,
        (kind, Some(logical), _) => logical_write(kind, logical, data_type).ok_or_else(misfit)?,
        (Kind::Boolean, _, DataType::Boolean) => Write::Boolean,
        (Kind::Int, _, DataType::Int8 | DataType::Int16 | DataType::Int32) => Write::Integer(1),
        (Kind::Long, _, DataType::Int64) => Write::Integer(1),
        (Kind::Float, _, DataType::Float32) => Write::Float,
        (Kind::Double, _, DataType::Float64) => Write::Double,
        (Kind::String, ..) if is_text => Write::Bytes,
        (Kind::Bytes, ..) if is_binary => Write::Bytes,
        (Kind::Fixed(size), ..) if is_binary => Write::Fixed(*size),
        (Kind::Enum(symbols), ..) if is_text => Write::Enum(symbols.clone()),
        (Kind::Array(items), _, DataType::List(item)) => {
            Write::List(Box::new(plan(schema, *items, item.data_type(), path)?))
        }
        (Kind::Map(values), _, DataType::Map(entries, _)) => {
            let (key, value) = map_sides(entries, path)?;
            if !matches!(key.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
                return Err(misfit());
            }
            Write::Map(Box::new(plan(schema, *values, value.data_type(), path)?))
        }
        (Kind::Record(_), _, DataType::Struct(columns)) => record(schema, id, columns, path)?,
        _ => return Err(misfit()),
    })
}

/// A union of null and one type.
fn nullable(
    schema: &AvroSchema,
    branches: &[TypeId],
    data_type: &DataType,
    path: &str,
) -> Option<Result<Write, FormatError>> {
    let place = |wanted: bool| branches.iter().position(|branch| schema.is_null(*branch) == wanted);
    let value = place(false)?;
    let number = |at: usize| i64::try_from(at).unwrap_or_default();
    let null = match (branches.len(), place(true)) {
        (2, Some(null)) => number(null),
        // A union of one type takes no null.
        (1, None) => -1,
        _ => return None,
    };
    Some(plan(schema, branches[value], data_type, path).map(|write| Write::Nullable {
        null,
        value: number(value),
        write: Box::new(write),
    }))
}

fn logical_write(kind: &Kind, logical: Logical, data_type: &DataType) -> Option<Write> {
    match (logical, data_type) {
        (Logical::Date, DataType::Date32) => Some(Write::Integer(1)),
        (Logical::TimestampMicros, DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
        | (Logical::LocalTimestampMicros, DataType::Timestamp(TimeUnit::Microsecond, None)) => Some(Write::Integer(1)),
        (Logical::TimestampMillis, DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
        | (Logical::LocalTimestampMillis, DataType::Timestamp(TimeUnit::Microsecond, None)) => {
            Some(Write::Integer(1000))
        }
        (Logical::Decimal { precision, scale }, DataType::Decimal128(of_precision, of_scale))
            if precision == *of_precision && i8::try_from(scale) == Ok(*of_scale) =>
        {
            Some(Write::Decimal(if let Kind::Fixed(size) = kind { Some(*size) } else { None }))
        }
        _ => None,
    }
}

fn record(schema: &AvroSchema, id: TypeId, columns: &Fields, path: &str) -> Result<Write, FormatError> {
    let fields = schema.fields(id).unwrap_or_default();
    let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let stranger = columns.iter().find(|column| !fields.iter().any(|field| field.name == *column.name()));
    if let Some(column) = stranger {
        let found = "no field of this name";
        return Err(AvroSchemaError::new(&inside(column.name()), found, "one for each column that is written").into());
    }
    let mut writes = Vec::with_capacity(fields.len());
    for field in fields {
        let inside = inside(&field.name);
        let found = columns.iter().position(|column| *column.name() == field.name);
        let write = match found {
            Some(at) => plan(schema, field.type_id, columns[at].data_type(), &inside)?,
            None => only_null(schema, field.type_id).ok_or_else(|| {
                let found = format!("a field that is no column ({})", schema.describe(field.type_id));
                AvroSchemaError::new(&inside, found, "a column of this name, or a union with null")
            })?,
        };
        writes.push(FieldWrite { name: field.name.clone(), column: found, write });
    }
    Ok(Write::Record(writes))
}

/// How null is written where no column is.
fn only_null(schema: &AvroSchema, id: TypeId) -> Option<Write> {
    match &schema.get(id).kind {
        Kind::Null => Some(Write::Null),
        Kind::Union(branches) => {
            let null = branches.iter().position(|branch| schema.is_null(*branch))?;
            let null = i64::try_from(null).ok()?;
            Some(Write::Nullable { null, value: null, write: Box::new(Write::Null) })
        }
        _ => None,
    }
}

/// A column, ready to be read by row.
struct Source<'a> {
    array: &'a dyn Array,
    values: Values<'a>,
}

enum Values<'a> {
    Plain(Cells<'a>),
    Struct(Vec<Source<'a>>),
    List(&'a ListArray, Box<Source<'a>>),
    Map(&'a MapArray, Box<(Source<'a>, Source<'a>)>),
}

impl<'a> Source<'a> {
    fn new(array: &'a ArrayRef, path: &str) -> Result<Self, FormatError> {
        let values = match array.data_type() {
            DataType::Struct(_) => {
                let columns = array.as_struct().columns().iter();
                Values::Struct(columns.map(|column| Self::new(column, path)).collect::<Result<_, _>>()?)
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List(list, Box::new(Self::new(list.values(), path)?))
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Values::Map(map, Box::new((Self::new(map.keys(), path)?, Self::new(map.values(), path)?)))
            }
            _ => Values::Plain(Cells::new(array, path)?),
        };
        Ok(Self { array: array.as_ref(), values })
    }
}

/// Why a value cannot be written.
struct Unwritable {
    /// The names around it, the innermost first.
    path: Vec<String>,
    found: String,
    expected: String,
}

impl Unwritable {
    fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { path: Vec::new(), found: found.into(), expected: expected.into() }
    }

    #[cold]
    fn error(mut self) -> FormatError {
        self.path.reverse();
        FormatError::Value { column: self.path.join("."), found: self.found, expected: self.expected }
    }
}

fn write(write: &Write, source: &Source<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    if let Write::Nullable { null, value, write: inner } = write {
        let is_null = source.array.is_null(row);
        if is_null && *null < 0 {
            return Err(Unwritable::new("NULL", "a value, the schema has no null there"));
        }
        write_long(if is_null { *null } else { *value }, out);
        return if is_null { Ok(()) } else { self::write(inner, source, row, out) };
    }
    if matches!(write, Write::Null) {
        return Ok(());
    }
    if source.array.is_null(row) {
        return Err(Unwritable::new("NULL", "a value, the schema has no null there"));
    }
    match (write, &source.values) {
        (Write::Record(fields), Values::Struct(columns)) => {
            for field in fields {
                let done = match field.column {
                    Some(at) => self::write(&field.write, &columns[at], row, out),
                    None => write_absent(&field.write, out),
                };
                done.map_err(|mut unwritable| {
                    unwritable.path.push(field.name.clone());
                    unwritable
                })?;
            }
            Ok(())
        }
        (Write::List(item), Values::List(list, items)) => {
            block(list.value_offsets(), row, out, |at, out| self::write(item, items, at, out))
        }
        (Write::Map(value), Values::Map(map, sides)) => block(map.value_offsets(), row, out, |at, out| {
            self::write(&Write::Bytes, &sides.0, at, out)?;
            self::write(value, &sides.1, at, out)
        }),
        (_, Values::Plain(cells)) => write_cell(write, &cells.get(row), out),
        _ => Err(Unwritable::new("a value of another type", "one of the column's")),
    }
}

fn write_absent(write: &Write, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    if let Write::Nullable { null, .. } = write {
        write_long(*null, out);
    }
    Ok(())
}

/// All items of a row as one block, and the end of blocks.
fn block(
    offsets: &[i32],
    row: usize,
    out: &mut Vec<u8>,
    mut each: impl FnMut(usize, &mut Vec<u8>) -> Result<(), Unwritable>,
) -> Result<(), Unwritable> {
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    if end > start {
        write_long(i64::from(offsets[row + 1] - offsets[row]), out);
        for at in start..end {
            each(at, out)?;
        }
    }
    write_long(0, out);
    Ok(())
}

fn write_cell(write: &Write, cell: &Cell<'_>, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    match (write, cell) {
        (Write::Boolean, Cell::Boolean(value)) => out.push(u8::from(*value)),
        (Write::Integer(divisor), cell) => {
            let number = match cell {
                Cell::Int(number) | Cell::Timestamp(number) | Cell::TimestampNtz(number) => *number,
                Cell::Date(days) => i64::from(*days),
                _ => return Err(Unwritable::new("a value of another type", "a number")),
            };
            write_long(number.div_euclid(*divisor), out);
        }
        (Write::Float, Cell::Float32(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (Write::Double, Cell::Float64(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (Write::Bytes, Cell::Text(text)) => write_bytes(text.as_bytes(), out),
        (Write::Bytes, Cell::Binary(bytes)) => write_bytes(bytes, out),
        (Write::Fixed(size), Cell::Binary(bytes)) => {
            if bytes.len() != *size {
                return Err(Unwritable::new(format!("{} bytes", bytes.len()), format!("{size} bytes")));
            }
            out.extend_from_slice(bytes);
        }
        (Write::Enum(symbols), Cell::Text(text)) => match symbols.iter().position(|symbol| symbol.as_ref() == *text) {
            Some(number) => write_long(i64::try_from(number).unwrap_or_default(), out),
            None => return Err(Unwritable::new(format!("'{text}'"), format!("one of {}", symbols.join(", ")))),
        },
        (Write::Decimal(size), Cell::Decimal(value, _)) => write_decimal(*value, *size, out)?,
        _ => return Err(Unwritable::new("a value of another type", "one of the column's")),
    }
    Ok(())
}

/// Big-endian bytes in two's complement: so many, or the fewest.
fn write_decimal(value: i128, size: Option<usize>, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    let bytes = value.to_be_bytes();
    let fill = if value < 0 { 0xff } else { 0 };
    // A byte goes if it repeats the sign of the one behind it.
    let is_spare = |at: &usize| bytes[*at] == fill && (bytes[at + 1] ^ fill) & 0x80 == 0;
    let spare = (0..15).take_while(is_spare).count();
    let fewest = &bytes[spare..];
    match size {
        None => write_bytes(fewest, out),
        Some(size) if size >= fewest.len() => {
            out.extend(std::iter::repeat_n(fill, size - fewest.len()));
            out.extend_from_slice(fewest);
        }
        Some(size) => return Err(Unwritable::new("a decimal of more digits", format!("one that fits {size} bytes"))),
    }
    Ok(())
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(bytes);
}

/// A number of variable length, as `read` reads it.
#[inline]
fn write_long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
