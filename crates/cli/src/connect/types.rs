//! Columns and types: Arrow's to the client, the client's to SQL.

use arrow::datatypes::{DataType as Arrow, Field, Schema};
use highwater_engine::plan::ddl;

use super::problem::{Problem, Result};
use crate::spark_connect::messages::{
    ArrayType, DataType, DecimalType, MapType, Nothing, StringType, StructField, StructType, TypeKind,
};

/// The type of rows with these columns.
pub(crate) fn schema_type(schema: &Schema) -> Result<DataType> {
    Ok(DataType { kind: Some(TypeKind::Struct(struct_type(schema.fields().iter().map(AsRef::as_ref))?)) })
}

fn struct_type<'a>(fields: impl Iterator<Item = &'a Field>) -> Result<StructType> {
    let field = |field: &Field| -> Result<StructField> {
        Ok(StructField {
            name: field.name().clone(),
            data_type: Some(spark_type(field.data_type())?),
            nullable: field.is_nullable(),
        })
    };
    Ok(StructType { fields: fields.map(field).collect::<Result<_>>()? })
}

fn spark_type(arrow: &Arrow) -> Result<DataType> {
    let kind = match arrow {
        Arrow::Null => TypeKind::Null(Nothing {}),
        Arrow::Boolean => TypeKind::Boolean(Nothing {}),
        Arrow::Int8 => TypeKind::Byte(Nothing {}),
        Arrow::Int16 | Arrow::UInt8 => TypeKind::Short(Nothing {}),
        Arrow::Int32 | Arrow::UInt16 => TypeKind::Integer(Nothing {}),
        Arrow::Int64 | Arrow::UInt32 | Arrow::UInt64 => TypeKind::Long(Nothing {}),
        Arrow::Float32 => TypeKind::Float(Nothing {}),
        Arrow::Float64 => TypeKind::Double(Nothing {}),
        Arrow::Decimal32(precision, scale)
        | Arrow::Decimal64(precision, scale)
        | Arrow::Decimal128(precision, scale) => {
            TypeKind::Decimal(DecimalType { scale: Some(i32::from(*scale)), precision: Some(i32::from(*precision)) })
        }
        Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View => {
            TypeKind::String(StringType { collation: "UTF8_BINARY".to_owned() })
        }
        Arrow::Binary | Arrow::LargeBinary | Arrow::BinaryView | Arrow::FixedSizeBinary(_) => {
            TypeKind::Binary(Nothing {})
        }
        Arrow::Date32 | Arrow::Date64 => TypeKind::Date(Nothing {}),
        Arrow::Timestamp(_, Some(_)) => TypeKind::Timestamp(Nothing {}),
        Arrow::Timestamp(_, None) => TypeKind::TimestampNtz(Nothing {}),
        Arrow::Dictionary(_, value) => return spark_type(value),
        Arrow::List(item) | Arrow::LargeList(item) | Arrow::FixedSizeList(item, _) => {
            TypeKind::Array(Box::new(ArrayType {
                element: Some(Box::new(spark_type(item.data_type())?)),
                contains_null: item.is_nullable(),
            }))
        }
        Arrow::Struct(fields) => TypeKind::Struct(struct_type(fields.iter().map(AsRef::as_ref))?),
        Arrow::Map(entries, _) => map_type(entries)?,
        other => return Err(Problem::unsupported(format!("a column of type {other}"), "cast it to another type")),
    };
    Ok(DataType { kind: Some(kind) })
}

fn map_type(entries: &Field) -> Result<TypeKind> {
    let Arrow::Struct(fields) = entries.data_type() else {
        return Err(Problem::runtime("a map has no keys and values"));
    };
    let [key, value] = fields.as_ref() else { return Err(Problem::runtime("a map has no keys and values")) };
    Ok(TypeKind::Map(Box::new(MapType {
        key: Some(Box::new(spark_type(key.data_type())?)),
        value: Some(Box::new(spark_type(value.data_type())?)),
        value_contains_null: value.is_nullable(),
    })))
}

/// A client's type as SQL.
pub(crate) fn type_text(data_type: &DataType) -> Result<String> {
    let boxed = |inner: &Option<Box<DataType>>| inner.as_deref().map_or_else(|| Err(unknown()), type_text);
    Ok(match &data_type.kind {
        None => return Err(unknown()),
        Some(TypeKind::Null(_)) => "VOID".to_owned(),
        Some(TypeKind::Binary(_)) => "BINARY".to_owned(),
        Some(TypeKind::Boolean(_)) => "BOOLEAN".to_owned(),
        Some(TypeKind::Byte(_)) => "TINYINT".to_owned(),
        Some(TypeKind::Short(_)) => "SMALLINT".to_owned(),
        Some(TypeKind::Integer(_)) => "INT".to_owned(),
        Some(TypeKind::Long(_)) => "BIGINT".to_owned(),
        Some(TypeKind::Float(_)) => "FLOAT".to_owned(),
        Some(TypeKind::Double(_)) => "DOUBLE".to_owned(),
        Some(TypeKind::Decimal(decimal)) => {
            format!("DECIMAL({}, {})", decimal.precision.unwrap_or(10), decimal.scale.unwrap_or(0))
        }
        Some(TypeKind::String(_)) => "STRING".to_owned(),
        Some(TypeKind::Date(_)) => "DATE".to_owned(),
        Some(TypeKind::Timestamp(_)) => "TIMESTAMP".to_owned(),
        Some(TypeKind::TimestampNtz(_)) => "TIMESTAMP_NTZ".to_owned(),
        Some(TypeKind::Array(array)) => format!("ARRAY<{}>", boxed(&array.element)?),
        Some(TypeKind::Map(map)) => format!("MAP<{}, {}>", boxed(&map.key)?, boxed(&map.value)?),
        Some(TypeKind::Struct(fields)) => {
            let field = |field: &StructField| -> Result<String> {
                let data_type = field.data_type.as_ref().ok_or_else(unknown)?;
                Ok(format!("{}: {}", super::sql::quoted(&field.name), type_text(data_type)?))
            };
            format!("STRUCT<{}>", fields.fields.iter().map(field).collect::<Result<Vec<_>>>()?.join(", "))
        }
        Some(TypeKind::Unparsed(text)) => {
            let parsed = ddl::parse_type(&text.text).map_err(|error| Problem::analysis(error.to_string()))?;
            ddl::type_name(&parsed)
        }
    })
}

fn unknown() -> Problem {
    Problem::unsupported("a type of this kind", "use a type of SQL that stands in CREATE TABLE")
}

/// `df.printSchema()`.
pub(crate) fn tree(schema: &Schema) -> String {
    let mut text = "root\n".to_owned();
    schema.fields().iter().for_each(|field| branch(field.name(), field, " |", &mut text));
    text
}

fn branch(name: &str, field: &Field, indent: &str, text: &mut String) {
    text.push_str(&format!("{indent}-- {name}: {} (nullable = {})\n", word(field.data_type()), field.is_nullable()));
    inside(field.data_type(), &format!("{indent}    |"), text);
}

fn inside(data_type: &Arrow, indent: &str, text: &mut String) {
    let leaf = |name: &str, field: &Field, flag: &str, text: &mut String| {
        text.push_str(&format!("{indent}-- {name}: {}{flag}\n", word(field.data_type())));
        inside(field.data_type(), &format!("{indent}    |"), text);
    };
    match data_type {
        Arrow::Struct(fields) => fields.iter().for_each(|field| branch(field.name(), field, indent, text)),
        Arrow::List(item) | Arrow::LargeList(item) | Arrow::FixedSizeList(item, _) => {
            leaf("element", item, &format!(" (containsNull = {})", item.is_nullable()), text);
        }
        Arrow::Map(entries, _) => {
            let Arrow::Struct(fields) = entries.data_type() else { return };
            let [key, value] = fields.as_ref() else { return };
            leaf("key", key, "", text);
            leaf("value", value, &format!(" (valueContainsNull = {})", value.is_nullable()), text);
        }
        _ => {}
    }
}

/// The word of `printSchema` for a type.
fn word(data_type: &Arrow) -> String {
    match data_type {
        Arrow::Struct(_) => "struct".to_owned(),
        Arrow::List(_) | Arrow::LargeList(_) | Arrow::FixedSizeList(..) => "array".to_owned(),
        Arrow::Map(..) => "map".to_owned(),
        Arrow::Null => "void".to_owned(),
        other => match ddl::type_name(other).to_lowercase().as_str() {
            "int" => "integer".to_owned(),
            "bigint" => "long".to_owned(),
            "smallint" => "short".to_owned(),
            "tinyint" => "byte".to_owned(),
            plain => plain.replace(", ", ","),
        },
    }
}
