//! Columns as an Avro schema and back, as Spark does both.
//!
//! | SQL | Avro |
//! |---|---|
//! | `TINYINT`, `SMALLINT`, `INT` | `int` |
//! | `BIGINT` | `long` |
//! | `FLOAT`, `DOUBLE`, `BOOLEAN`, `STRING`, `BINARY` | `float`, `double`, `boolean`, `string`, `bytes` |
//! | `DATE` | `int`, `date` |
//! | `TIMESTAMP`, `TIMESTAMP_NTZ` | `long`, `timestamp-micros` and `local-timestamp-micros` |
//! | `DECIMAL(p, s)` | `fixed` of the fewest bytes, `decimal` |
//! | `ARRAY`, `MAP<STRING, T>`, `STRUCT` | `array`, `map`, `record` |
//! | what may be null | a union of the type and `null`, in this order |
//!
//! The other way also `bytes` with `decimal`, `enum` (a `STRING`), milliseconds, and a union of several types as a
//! struct with a member for each. The names of records and of fixed types are Spark's: the names of the columns around.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Value as Json, json};

use super::schema::{AvroSchema, AvroSchemaError, Kind, Logical, MAX_DEPTH, TypeId, check_name};
use crate::format::FormatError;
use crate::format::column::map_sides;

/// What Spark calls the record of a row.
const TOP: &str = "topLevelRecord";

/// The most types that a schema may stand for once its names are written out.
const MAX_TYPES: usize = 10_000;

/// The schema of a record with these columns.
pub fn schema_of_columns(fields: &Fields) -> Result<AvroSchema, FormatError> {
    schema_of_type(&DataType::Struct(fields.clone()), false)
}

/// The schema of values of one type.
pub fn schema_of_type(data_type: &DataType, is_nullable: bool) -> Result<AvroSchema, FormatError> {
    let json = type_json(data_type, is_nullable, TOP, "", "")?;
    Ok(AvroSchema::from_json(json)?)
}

fn type_json(
    data_type: &DataType,
    is_nullable: bool,
    name: &str,
    namespace: &str,
    path: &str,
) -> Result<Json, FormatError> {
    let plain = match data_type {
        DataType::Null => return Ok(json!("null")),
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("bytes"),
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let logical = if zone.is_some() { "timestamp-micros" } else { "local-timestamp-micros" };
            json!({"type": "long", "logicalType": logical})
        }
        DataType::Decimal128(precision, scale) if *scale >= 0 => json!({
            "type": "fixed", "name": "fixed", "namespace": joined(namespace, name), "size": decimal_bytes(*precision),
            "logicalType": "decimal", "precision": precision, "scale": scale,
        }),
        DataType::List(item) => {
            json!({"type": "array", "items": type_json(item.data_type(), item.is_nullable(), name, namespace, path)?})
        }
        DataType::Map(entries, _) => {
            let (key, value) = map_sides(entries, path)?;
            if !matches!(key.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
                return Err(FormatError::unsupported(path, data_type));
            }
            let values = type_json(value.data_type(), value.is_nullable(), name, namespace, path)?;
            json!({"type": "map", "values": values})
        }
        DataType::Struct(fields) => record_json(fields, name, namespace, path)?,
        other => return Err(FormatError::unsupported(path, other)),
    };
    Ok(if is_nullable { json!([plain, "null"]) } else { plain })
}

fn record_json(fields: &Fields, name: &str, namespace: &str, path: &str) -> Result<Json, FormatError> {
    check_name(name, path)?;
    let inside = joined(namespace, name);
    let field = |field: &Arc<Field>| {
        let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
        check_name(field.name(), &path)?;
        let of = type_json(field.data_type(), field.is_nullable(), field.name(), &inside, &path)?;
        Ok(json!({"name": field.name(), "type": of}))
    };
    let fields = fields.iter().map(field).collect::<Result<Vec<Json>, FormatError>>()?;
    let mut record = json!({"type": "record", "name": name});
    if !namespace.is_empty() {
        record["namespace"] = json!(namespace);
    }
    record["fields"] = json!(fields);
    Ok(record)
}

fn joined(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// The fewest bytes that hold every number of so many digits.
fn decimal_bytes(precision: u8) -> usize {
    let largest = 10_u128.pow(u32::from(precision.min(38)));
    (1..16).find(|bytes| 1_u128 << (8 * bytes - 1) >= largest).unwrap_or(16)
}

/// The SQL type of a schema's values, and whether they may be null.
pub(in crate::format) fn type_of_schema(schema: &AvroSchema) -> Result<(DataType, bool), FormatError> {
    let mut left = MAX_TYPES;
    Ok(Typing { schema, left: &mut left }.data_type(schema.root(), "", 0)?)
}

/// The columns of a schema that is a record.
pub fn columns_of_schema(schema: &AvroSchema) -> Result<Fields, FormatError> {
    match type_of_schema(schema)? {
        (DataType::Struct(fields), _) if schema.fields(schema.without_null(schema.root())).is_some() => Ok(fields),
        _ => {
            let found = schema.describe(schema.root());
            Err(AvroSchemaError::new("", found, "a record, whose fields are the columns").into())
        }
    }
}

struct Typing<'a> {
    schema: &'a AvroSchema,
    left: &'a mut usize,
}

impl Typing<'_> {
    fn data_type(&mut self, id: TypeId, path: &str, depth: usize) -> Result<(DataType, bool), AvroSchemaError> {
        if depth > MAX_DEPTH || *self.left == 0 {
            return Err(AvroSchemaError::new(path, "a type that contains itself", "a schema that ends"));
        }
        *self.left -= 1;
        let found = self.schema.get(id);
        let data_type = match (&found.kind, found.logical) {
            (_, Some(logical)) => logical_type(logical),
            (Kind::Null, _) => return Ok((DataType::Null, true)),
            (Kind::Boolean, _) => DataType::Boolean,
            (Kind::Int, _) => DataType::Int32,
            (Kind::Long, _) => DataType::Int64,
            (Kind::Float, _) => DataType::Float32,
            (Kind::Double, _) => DataType::Float64,
            (Kind::Bytes | Kind::Fixed(_), _) => DataType::Binary,
            (Kind::String | Kind::Enum(_), _) => DataType::Utf8,
            (Kind::Array(items), _) => {
                let (item, is_nullable) = self.data_type(*items, path, depth + 1)?;
                DataType::List(Arc::new(Field::new_list_field(item, is_nullable)))
            }
            (Kind::Map(values), _) => {
                let (value, is_nullable) = self.data_type(*values, path, depth + 1)?;
                map_type(value, is_nullable)
            }
            (Kind::Record(fields), _) => {
                let mut members = Vec::with_capacity(fields.len());
                for field in fields {
                    let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                    let (of, is_nullable) = self.data_type(field.type_id, &path, depth + 1)?;
                    members.push(Field::new(&field.name, of, is_nullable));
                }
                DataType::Struct(members.into())
            }
            (Kind::Union(branches), _) => return self.union(branches, path, depth),
        };
        Ok((data_type, false))
    }

    fn union(&mut self, branches: &[TypeId], path: &str, depth: usize) -> Result<(DataType, bool), AvroSchemaError> {
        let others: Vec<TypeId> = branches.iter().copied().filter(|branch| !self.schema.is_null(*branch)).collect();
        let is_nullable = others.len() < branches.len();
        let schema = self.schema;
        let plain = |id: TypeId| (&schema.get(id).kind, schema.get(id).logical);
        let data_type = match others[..] {
            [] => DataType::Null,
            [one] => self.data_type(one, path, depth + 1)?.0,
            [a, b] if is_pair([plain(a), plain(b)], [&Kind::Int, &Kind::Long]) => DataType::Int64,
            [a, b] if is_pair([plain(a), plain(b)], [&Kind::Float, &Kind::Double]) => DataType::Float64,
            _ => {
                let mut members = Vec::with_capacity(others.len());
                for (number, id) in others.iter().enumerate() {
                    members.push(Field::new(format!("member{number}"), self.data_type(*id, path, depth + 1)?.0, true));
                }
                DataType::Struct(members.into())
            }
        };
        Ok((data_type, is_nullable))
    }
}

/// Whether two types are these, in either order.
fn is_pair(types: [(&Kind, Option<Logical>); 2], [one, other]: [&Kind; 2]) -> bool {
    types == [(one, None), (other, None)] || types == [(other, None), (one, None)]
}

fn logical_type(logical: Logical) -> DataType {
    let timestamp = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Arc::from));
    match logical {
        Logical::Date => DataType::Date32,
        Logical::TimestampMillis | Logical::TimestampMicros => timestamp(Some("UTC")),
        Logical::LocalTimestampMillis | Logical::LocalTimestampMicros => timestamp(None),
        Logical::Decimal { precision, scale } => DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(0)),
    }
}

fn map_type(value: DataType, is_nullable: bool) -> DataType {
    let sides = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, is_nullable)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(sides.into()), false)), false)
}

/// The schema that another reader is to be given, to get exactly these columns of records of `writer`: what the writer
/// lacks may be null and is, what nobody asked for is left out, and the rest has the writer's types.
///
/// Spark resolves it against the writer's; what is left to do is a cast of each column.
pub fn reader_schema(writer: &AvroSchema, fields: &Fields) -> Result<AvroSchema, FormatError> {
    let mut shaping = Shaping { writer, defined: Vec::new() };
    let json = shaping.shaped(writer.root(), &DataType::Struct(fields.clone()), "")?;
    Ok(AvroSchema::from_json(json)?)
}

struct Shaping<'a> {
    writer: &'a AvroSchema,
    /// Full names that are defined so far.
    defined: Vec<String>,
}

impl Shaping<'_> {
    fn shaped(&mut self, id: TypeId, data_type: &DataType, path: &str) -> Result<Json, FormatError> {
        let writer = self.writer;
        Ok(match (&writer.get(id).kind, data_type) {
            (Kind::Union(branches), _) => {
                let members = members_of_union(writer, branches, data_type);
                let mut shaped = Vec::with_capacity(branches.len());
                let mut number = 0;
                for branch in branches {
                    let is_null = writer.is_null(*branch);
                    let of = members.filter(|_| !is_null).map_or(data_type, |members| members[number].data_type());
                    number += usize::from(!is_null);
                    shaped.push(self.shaped(*branch, of, path)?);
                }
                Json::Array(shaped)
            }
            (Kind::Record(_), DataType::Struct(fields)) => self.record(id, fields, path)?,
            (Kind::Array(items), DataType::List(item)) => {
                json!({"type": "array", "items": self.shaped(*items, item.data_type(), path)?})
            }
            (Kind::Map(values), DataType::Map(entries, _)) => {
                let (_, value) = map_sides(entries, path)?;
                json!({"type": "map", "values": self.shaped(*values, value.data_type(), path)?})
            }
            _ => self.leaf(id),
        })
    }

    fn record(&mut self, id: TypeId, fields: &Fields, path: &str) -> Result<Json, FormatError> {
        let written = self.writer.fields(id).unwrap_or_default();
        let own = self.writer.get(id).name.clone().unwrap_or_default();
        // Records are matched by what is in them, so that one that is read in two ways may have two names.
        let uses = self.defined.iter().filter(|name| **name == own).count();
        self.defined.push(own.clone());
        let full = if uses == 0 { own } else { format!("{own}_{uses}") };
        let mut members = Vec::with_capacity(fields.len());
        for field in fields {
            let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
            members.push(match written.iter().find(|written| written.name == *field.name()) {
                Some(found) => {
                    let of = self.shaped(found.type_id, field.data_type(), &path)?;
                    json!({"name": field.name(), "type": of})
                }
                None => {
                    check_name(field.name(), &path)?;
                    let of = type_json(field.data_type(), false, field.name(), &format!("{full}.absent"), &path)?;
                    json!({"name": field.name(), "type": ["null", of], "default": null})
                }
            });
        }
        Ok(json!({"type": "record", "name": full, "fields": members}))
    }

    /// A type as the writer has it; a named one by its name once it is defined.
    fn leaf(&mut self, id: TypeId) -> Json {
        let found = self.writer.get(id);
        let mut of = match &found.kind {
            Kind::Fixed(_) | Kind::Enum(_) => {
                let name = found.name.clone().unwrap_or_default();
                if self.defined.contains(&name) {
                    return json!(name);
                }
                self.defined.push(name.clone());
                match &found.kind {
                    Kind::Fixed(size) => json!({"type": "fixed", "name": name, "size": size}),
                    Kind::Enum(symbols) => {
                        let symbols: Vec<&str> = symbols.iter().map(AsRef::as_ref).collect();
                        json!({"type": "enum", "name": name, "symbols": symbols})
                    }
                    _ => Json::Null,
                }
            }
            _ => json!({"type": plain_word(&found.kind)}),
        };
        match found.logical {
            None => {}
            Some(Logical::Decimal { precision, scale }) => {
                of["logicalType"] = json!("decimal");
                of["precision"] = json!(precision);
                of["scale"] = json!(scale);
            }
            Some(_) => of["logicalType"] = json!(self.writer.describe(id)),
        }
        of
    }
}

fn plain_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Boolean => "boolean",
        Kind::Int => "int",
        Kind::Long => "long",
        Kind::Float => "float",
        Kind::Double => "double",
        Kind::String => "string",
        _ => "bytes",
    }
}

/// Whether a column is the struct that stands for a union of several types: it is read with all of its members, or not at
/// all, since the types are told by how many there are.
pub fn is_union_of_several(writer: &AvroSchema, column: &Field) -> bool {
    let fields = writer.fields(writer.root()).unwrap_or_default();
    let Some(field) = fields.iter().find(|field| field.name == *column.name()) else { return false };
    let Kind::Union(branches) = &writer.get(field.type_id).kind else { return false };
    members_of_union(writer, branches, column.data_type()).is_some()
}

/// The members of the struct that stands for a union of several types; none if the union is one type, or null.
pub(super) fn members_of_union<'a>(
    schema: &AvroSchema,
    branches: &[TypeId],
    data_type: &'a DataType,
) -> Option<&'a Fields> {
    let others = branches.iter().filter(|branch| !schema.is_null(**branch)).count();
    let DataType::Struct(members) = data_type else { return None };
    let is_numbered = members.iter().enumerate().all(|(number, member)| *member.name() == format!("member{number}"));
    (others > 1 && members.len() == others && is_numbered).then_some(members)
}
