//! How values of a writer's schema become columns: the steps, found once, that `read` takes for each record.
//!
//! | writer | columns it may become |
//! |---|---|
//! | `int` | `TINYINT`, `SMALLINT`, `INT`, `BIGINT`, `FLOAT`, `DOUBLE` |
//! | `long` | the same; a number that is too large is malformed |
//! | `float`, `double` | `FLOAT`, `DOUBLE` |
//! | `string`, `bytes`, `enum` | `STRING`, `BINARY` (`enum`: `STRING`) |
//! | `fixed` | `BINARY` |
//! | `date`, `timestamp-*`, `local-timestamp-*` | `DATE`, `TIMESTAMP`, `TIMESTAMP_NTZ` |
//! | `decimal` | a `DECIMAL` with as many digits before and behind the point at least |
//! | `array`, `map`, `record` | `ARRAY`, `MAP<STRING, T>`, `STRUCT` |
//! | union | what all of its types may become; null is null |
//!
//! Fields of records are found by name. One that the writer lacks is null, or what a reader's schema says; one that no
//! column wants is passed over.

use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, TimeUnit};
use highwater_engine::plan::ddl::type_name;
use serde_json::Value as Json;

use super::derive::members_of_union;
use super::schema::{AvroField, AvroSchema, AvroSchemaError, Kind, Logical, TypeId};
use crate::format::FormatError;
use crate::format::column::{Value, map_sides};

/// How one value is read into its column.
#[derive(Debug)]
pub(super) enum Read {
    /// No bytes; the column is null.
    Null,
    Boolean,
    /// A number of variable length into a column of numbers, dates or, times a factor, timestamps.
    Integer {
        /// Whether 32 bits hold it.
        is_int: bool,
        factor: i64,
    },
    Float,
    Double,
    Text,
    Binary,
    Fixed(usize),
    Enum(Vec<Arc<str>>),
    Decimal {
        /// The number of bytes, if it is not written.
        fixed: Option<usize>,
        /// What the unscaled number is multiplied with.
        factor: i128,
        /// The first unscaled number, times the factor, that is too large.
        limit: i128,
    },
    Record(RecordRead),
    List(Box<Read>),
    Map(Box<Read>),
    Union(Vec<Read>),
    /// The value into the member of this number of a struct, null into the others.
    Member(usize, Box<Read>),
}

/// How a record is read into the columns of a struct.
#[derive(Debug)]
pub(super) struct RecordRead {
    /// In the order of the writer.
    pub(super) fields: Vec<FieldRead>,
    /// Columns that the writer has nothing for.
    pub(super) absent: Vec<(usize, Value)>,
}

/// How a field is read.
#[derive(Debug)]
pub(super) struct FieldRead {
    pub(super) name: String,
    pub(super) target: FieldTarget,
}

/// Where a field goes.
#[derive(Debug)]
pub(super) enum FieldTarget {
    Column(usize, Read),
    Nowhere(TypeId),
}

/// Who reads: columns alone, or a schema of the reader's own, which has other names and defaults.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    /// The reader's schema and the type in it.
    pub(super) schema: Option<(&'a AvroSchema, TypeId)>,
    /// A column of the whole that is never read from the writer.
    pub(super) own_column: Option<&'a str>,
}

/// Finds the steps from a type of `writer` to a column of `data_type`.
pub(super) fn plan(
    writer: &AvroSchema,
    id: TypeId,
    data_type: &DataType,
    reader: Reader<'_>,
    path: &str,
) -> Result<Read, FormatError> {
    let found = writer.get(id);
    let misfit = || misfit(writer, id, data_type, path);
    Ok(match (&found.kind, found.logical, data_type) {
        (Kind::Union(branches), ..) if is_part(writer, branches, data_type) => return Err(misfit()),
        (Kind::Union(branches), ..) => return union(writer, branches, data_type, reader, path),
        (Kind::Null, ..) => Read::Null,
        (_, Some(logical), _) => logical_read(&found.kind, logical, data_type).ok_or_else(misfit)?,
        (Kind::Boolean, _, DataType::Boolean) => Read::Boolean,
        (Kind::Int | Kind::Long, _, to) if is_number(to) => {
            Read::Integer { is_int: found.kind == Kind::Int, factor: 1 }
        }
        (Kind::Float, _, DataType::Float32 | DataType::Float64) => Read::Float,
        (Kind::Double, _, DataType::Float32 | DataType::Float64) => Read::Double,
        (Kind::String | Kind::Bytes, _, DataType::Utf8 | DataType::Utf8View) => Read::Text,
        (Kind::String | Kind::Bytes, _, DataType::Binary) => Read::Binary,
        (Kind::Fixed(size), _, DataType::Binary) => Read::Fixed(*size),
        (Kind::Enum(symbols), _, DataType::Utf8 | DataType::Utf8View) => Read::Enum(symbols.clone()),
        (Kind::Array(items), _, DataType::List(item)) => {
            let reader = reader.inner(|kind| if let Kind::Array(items) = kind { Some(*items) } else { None });
            Read::List(Box::new(plan(writer, *items, item.data_type(), reader, path)?))
        }
        (Kind::Map(values), _, DataType::Map(entries, _)) => {
            let (key, value) = map_sides(entries, path)?;
            if *key.data_type() != DataType::Utf8 && *key.data_type() != DataType::Utf8View {
                return Err(misfit());
            }
            let reader = reader.inner(|kind| if let Kind::Map(values) = kind { Some(*values) } else { None });
            Read::Map(Box::new(plan(writer, *values, value.data_type(), reader, path)?))
        }
        (Kind::Record(fields), _, DataType::Struct(columns)) => record(writer, fields, columns, reader, path)?,
        _ => return Err(misfit()),
    })
}

fn misfit(writer: &AvroSchema, id: TypeId, data_type: &DataType, path: &str) -> FormatError {
    let expected = format!("a type that a column of {} can be read from", type_name(data_type));
    AvroSchemaError::new(path, writer.describe(id), expected).into()
}

fn is_number(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float32 | DataType::Float64
    )
}

fn logical_read(kind: &Kind, logical: Logical, data_type: &DataType) -> Option<Read> {
    let integer = |factor: i64| Some(Read::Integer { is_int: *kind == Kind::Int, factor });
    match (logical, data_type) {
        (Logical::Date, DataType::Date32) => integer(1),
        (Logical::TimestampMicros, DataType::Timestamp(TimeUnit::Microsecond, Some(_))) => integer(1),
        (Logical::TimestampMillis, DataType::Timestamp(TimeUnit::Microsecond, Some(_))) => integer(1000),
        (Logical::LocalTimestampMicros, DataType::Timestamp(TimeUnit::Microsecond, None)) => integer(1),
        (Logical::LocalTimestampMillis, DataType::Timestamp(TimeUnit::Microsecond, None)) => integer(1000),
        (Logical::Decimal { precision, scale }, DataType::Decimal128(to_precision, to_scale)) => {
            let to_scale = u8::try_from(*to_scale).ok()?;
            let before = to_precision.checked_sub(to_scale)?;
            if to_scale < scale || before < precision - scale {
                return None;
            }
            let factor = 10_i128.pow(u32::from(to_scale - scale));
            let limit = 10_i128.pow(u32::from(precision.min(38))).checked_mul(factor)?;
            let fixed = if let Kind::Fixed(size) = kind { Some(*size) } else { None };
            Some(Read::Decimal { fixed, factor, limit })
        }
        _ => None,
    }
}

/// Whether a struct has only some of the members that stand for the types of a union: each record of it would be taken for
/// the struct itself, and be read as nulls. A struct of fields that a record has is that record.
fn is_part(writer: &AvroSchema, branches: &[TypeId], data_type: &DataType) -> bool {
    let DataType::Struct(columns) = data_type else { return false };
    let has = |name: &String| {
        let mut fields = branches.iter().filter_map(|branch| writer.fields(*branch)).flatten();
        fields.any(|field| field.name == *name)
    };
    let stands_for_a_type = |name: &String| {
        let number = name.strip_prefix("member").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()) && !has(name)
    };
    members_of_union(writer, branches, data_type).is_none()
        && branches.iter().filter(|branch| !writer.is_null(**branch)).count() > 1
        && columns.iter().any(|column| stands_for_a_type(column.name()))
}

fn union(
    writer: &AvroSchema,
    branches: &[TypeId],
    data_type: &DataType,
    reader: Reader<'_>,
    path: &str,
) -> Result<Read, FormatError> {
    let members = members_of_union(writer, branches, data_type);
    let (mut reads, mut number) = (Vec::with_capacity(branches.len()), 0);
    for branch in branches {
        reads.push(match members {
            _ if writer.is_null(*branch) => Read::Null,
            None => plan(writer, *branch, data_type, reader, path)?,
            Some(members) => {
                let no_reader = Reader { schema: None, own_column: None };
                let read = plan(writer, *branch, members[number].data_type(), no_reader, path)?;
                number += 1;
                Read::Member(number - 1, Box::new(read))
            }
        });
    }
    Ok(Read::Union(reads))
}

fn record(
    writer: &AvroSchema,
    written: &[AvroField],
    columns: &Fields,
    reader: Reader<'_>,
    path: &str,
) -> Result<Read, FormatError> {
    let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let mut sources: Vec<Option<usize>> = vec![None; written.len()];
    let mut absent = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let is_own = path.is_empty() && reader.own_column == Some(column.name());
        let own = reader.field(column.name());
        match source_of(column.name(), own, written).filter(|_| !is_own) {
            Some(source) => {
                if let Some(other) = sources[source].replace(at) {
                    let (field, other) = (&written[source].name, columns[other].name());
                    let found = format!("the field `{field}` of the writer, which `{other}` is read from, too");
                    return Err(AvroSchemaError::new(&inside(column.name()), found, "a field of its own").into());
                }
            }
            None => absent.push((at, default(reader, own, column.data_type(), &inside(column.name()))?)),
        }
    }
    let mut fields = Vec::with_capacity(written.len());
    for (field, source) in written.iter().zip(sources) {
        let target = match source {
            None => FieldTarget::Nowhere(field.type_id),
            Some(at) => {
                let of = columns[at].data_type();
                let reader = reader.of_field(columns[at].name());
                FieldTarget::Column(at, plan(writer, field.type_id, of, reader, &inside(&field.name))?)
            }
        };
        fields.push(FieldRead { name: field.name.clone(), target });
    }
    Ok(Read::Record(RecordRead { fields, absent }))
}

/// The writer's field that a column is read from: the one of its name, before those that only an alias names.
fn source_of(name: &str, own: Option<&AvroField>, written: &[AvroField]) -> Option<usize> {
    let is_alias = |field: &AvroField| own.is_some_and(|own| own.aliases.contains(&field.name));
    written.iter().position(|field| field.name == *name).or_else(|| written.iter().position(is_alias))
}

/// What a column is that the writer has nothing for.
fn default(
    reader: Reader<'_>,
    own: Option<&AvroField>,
    data_type: &DataType,
    path: &str,
) -> Result<Value, FormatError> {
    let (Some((schema, _)), Some(own)) = (reader.schema, own) else { return Ok(Value::Null) };
    let Some(json) = &own.default else {
        let found = "no field of this name in the schema of the writer";
        return Err(AvroSchemaError::new(path, found, "one, or a \"default\" in the schema of the reader").into());
    };
    let value = default_value(schema, own.type_id, json, data_type);
    value.ok_or_else(|| AvroSchemaError::new(path, format!("the default {json}"), schema.describe(own.type_id)).into())
}

/// A default of JSON as a value of a column, if it is one.
fn default_value(schema: &AvroSchema, id: TypeId, json: &Json, data_type: &DataType) -> Option<Value> {
    let found = schema.get(id);
    Some(match (&found.kind, json) {
        // A default is of the first type of a union; writers are lenient about it, and so is this.
        (Kind::Union(branches), _) => {
            return branches.iter().find_map(|branch| default_value(schema, *branch, json, data_type));
        }
        (Kind::Null, Json::Null) => Value::Null,
        (Kind::Boolean, Json::Bool(value)) => Value::Boolean(*value),
        (Kind::Int | Kind::Long, Json::Number(number)) => {
            let is_millis = matches!(found.logical, Some(Logical::TimestampMillis | Logical::LocalTimestampMillis));
            match data_type {
                DataType::Float32 => Value::Float32(number.as_f64()? as f32),
                DataType::Float64 => Value::Float(number.as_f64()?),
                _ => Value::Int(number.as_i64()?.checked_mul(if is_millis { 1000 } else { 1 })?),
            }
        }
        (Kind::Float | Kind::Double, Json::Number(number)) => match data_type {
            DataType::Float32 => Value::Float32(number.as_f64()? as f32),
            _ => Value::Float(number.as_f64()?),
        },
        (Kind::String | Kind::Enum(_), Json::String(text)) => Value::Bytes(text.as_bytes().to_vec()),
        (Kind::Bytes | Kind::Fixed(_), Json::String(text)) => {
            let bytes: Vec<u8> =
                text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect::<Option<_>>()?;
            match found.logical {
                Some(Logical::Decimal { .. }) => Value::Decimal(unscaled(&bytes)?),
                _ => Value::Bytes(bytes),
            }
        }
        (Kind::Array(_), Json::Array(items)) if items.is_empty() => Value::List(Vec::new()),
        (Kind::Map(_), Json::Object(entries)) if entries.is_empty() => Value::Map(Vec::new()),
        (Kind::Record(fields), Json::Object(members)) => {
            let DataType::Struct(columns) = data_type else { return None };
            let mut values = Vec::with_capacity(columns.len());
            for column in columns {
                let field = fields.iter().find(|field| field.name == *column.name())?;
                let json = members.get(&field.name).or(field.default.as_ref())?;
                values.push(default_value(schema, field.type_id, json, column.data_type())?);
            }
            Value::Struct(values)
        }
        _ => return None,
    })
}

/// A number of big-endian bytes in two's complement; none if there are none, or 128 bits do not hold it.
pub(super) fn unscaled(bytes: &[u8]) -> Option<i128> {
    if bytes.is_empty() {
        return None;
    }
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let fill = if is_negative { 0xff } else { 0 };
    let spare = bytes.len().saturating_sub(16);
    if bytes[..spare].iter().any(|byte| *byte != fill) {
        return None;
    }
    let kept = &bytes[spare..];
    let mut wide = [fill; 16];
    wide[16 - kept.len()..].copy_from_slice(kept);
    let number = i128::from_be_bytes(wide);
    ((number < 0) == is_negative).then_some(number)
}

impl<'a> Reader<'a> {
    /// The reader of what is in a type; `pick` says where that is.
    fn inner(self, pick: impl Fn(&Kind) -> Option<TypeId>) -> Self {
        let schema = self.schema.and_then(|(schema, id)| {
            let inner = pick(&schema.get(schema.without_null(id)).kind)?;
            Some((schema, inner))
        });
        Self { schema, own_column: None }
    }

    /// The reader's own field for a column.
    fn field(self, name: &str) -> Option<&'a AvroField> {
        let (schema, id) = self.schema?;
        schema.fields(schema.without_null(id))?.iter().find(|field| field.name == name)
    }

    fn of_field(self, name: &str) -> Self {
        let schema = self.field(name).and_then(|field| Some((self.schema?.0, field.type_id)));
        Self { schema, own_column: None }
    }
}
