//! Which type Spark gives to what: common types in ANSI mode, precision of decimals, types in SQL text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::{Result, plan_datafusion_err};
use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef};

use crate::plan::ddl;

/// The most digits a decimal has.
pub(crate) const MAX_PRECISION: u8 = 38;

/// TIMESTAMP: an instant. The zone in the Arrow type only marks it as one; the session's zone shows it.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// TIMESTAMP_NTZ: a local date and time.
pub(crate) fn timestamp_ntz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// `ARRAY<element>`.
pub(crate) fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// A type in SQL text.
pub(crate) fn from_ast(data_type: &ast::DataType) -> Result<DataType> {
    let text = ddl_text(data_type);
    ddl::parse_type(&text).map_err(|error| plan_datafusion_err!("{error}"))
}

/// `sqlparser` prints some types in other dialects' words.
fn ddl_text(data_type: &ast::DataType) -> String {
    match data_type {
        ast::DataType::Array(ArrayElemTypeDef::AngleBracket(element)) => format!("ARRAY<{}>", ddl_text(element)),
        ast::DataType::Map(key, value, ..) => format!("MAP<{}, {}>", ddl_text(key), ddl_text(value)),
        ast::DataType::Struct(fields, _) => {
            let field = |field: &ast::StructField| {
                let name = field.field_name.as_ref().map(|name| name.value.clone()).unwrap_or_default();
                format!("`{name}`: {}", ddl_text(&field.field_type))
            };
            format!("STRUCT<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// `typeof`: the type in Spark's lower-case words.
pub(crate) fn simple_string(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "void".to_owned(),
        DataType::List(field) | DataType::LargeList(field) => format!("array<{}>", simple_string(field.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let types: Vec<String> = fields.iter().map(|field| simple_string(field.data_type())).collect();
                format!("map<{}>", types.join(","))
            }
            _ => "map".to_owned(),
        },
        DataType::Struct(fields) => {
            let field = |field: &Arc<Field>| format!("{}:{}", field.name(), simple_string(field.data_type()));
            format!("struct<{}>", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        other => ddl::type_name(other).to_lowercase(),
    }
}

pub(crate) fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(crate) fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..))
}

pub(crate) fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..))
}

/// Whether there is a map in it: maps have no order and are not hashed.
pub(crate) fn has_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) => true,
        DataType::List(field) => has_map(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_map(field.data_type())),
        _ => false,
    }
}

/// How many decimal digits a number has.
pub(crate) fn digits(value: i128) -> u32 {
    value.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1)
}

/// The decimal that holds every value of an integer type, or the decimal itself.
pub(crate) fn as_decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((20, 0)),
        DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}

/// A decimal of that many digits, made to fit 38 as Spark does: the scale gives way down to 6 digits.
pub(crate) fn bounded(precision: i32, scale: i32) -> DataType {
    let max = i32::from(MAX_PRECISION);
    let (precision, scale) = if precision <= max {
        (precision, scale)
    } else {
        let integral = precision - scale;
        (max, (max - integral).max(scale.min(6)))
    };
    DataType::Decimal128(precision.clamp(1, max) as u8, scale as i8)
}

/// The type two operands are brought to before they are compared or put in one column; ANSI mode's rules.
pub(crate) fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as D;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (D::Null, other) | (other, D::Null) => Some(other.clone()),
        (x, y) if is_string(x) && is_string(y) => Some(D::Utf8),
        (text, other) | (other, text) if is_string(text) => with_string(other),
        (D::Date32, D::Timestamp(_, zone)) | (D::Timestamp(_, zone), D::Date32) => {
            Some(if zone.is_some() { timestamp() } else { timestamp_ntz() })
        }
        (D::Timestamp(_, x), D::Timestamp(_, y)) => {
            Some(if x.is_some() || y.is_some() { timestamp() } else { timestamp_ntz() })
        }
        (D::List(x), D::List(y)) => common(x.data_type(), y.data_type()).map(list),
        (D::Struct(x), D::Struct(y)) if x.len() == y.len() => common_fields(x, y).map(D::Struct),
        (D::Map(x, sorted), D::Map(y, _)) => {
            let entries = common(x.data_type(), y.data_type())?;
            Some(D::Map(Arc::new(x.as_ref().clone().with_data_type(entries)), *sorted))
        }
        _ => numeric(a, b),
    }
}

/// A string beside another type is read as that type: whole numbers as BIGINT, others as DOUBLE.
fn with_string(other: &DataType) -> Option<DataType> {
    match other {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(DataType::Int64),
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => Some(DataType::Float64),
        DataType::Boolean | DataType::Date32 | DataType::Timestamp(..) | DataType::Binary => Some(other.clone()),
        _ => None,
    }
}

fn common_fields(a: &Fields, b: &Fields) -> Option<Fields> {
    let field = |(x, y): (&Arc<Field>, &Arc<Field>)| {
        let data_type = common(x.data_type(), y.data_type())?;
        let nullable = x.is_nullable() || y.is_nullable();
        Some(Arc::new(x.as_ref().clone().with_data_type(data_type).with_nullable(nullable)))
    };
    a.iter().zip(b).map(field).collect()
}

/// The wider of two numeric types.
pub(crate) fn numeric(a: &DataType, b: &DataType) -> Option<DataType> {
    if a == b && (rank(a).is_some() || matches!(a, DataType::Float32 | DataType::Float64)) {
        return Some(a.clone());
    }
    let is_float = |t: &DataType| matches!(t, DataType::Float32 | DataType::Float64);
    if is_float(a) || is_float(b) {
        let numbers = [a, b].into_iter().all(|t| is_float(t) || as_decimal(t).is_some());
        return numbers.then_some(DataType::Float64);
    }
    match (rank(a), rank(b)) {
        (Some(x), Some(y)) => Some(if x >= y { a.clone() } else { b.clone() }),
        _ => {
            let ((p1, s1), (p2, s2)) = (as_decimal(a)?, as_decimal(b)?);
            let scale = i32::from(s1.max(s2));
            let integral = (i32::from(p1) - i32::from(s1)).max(i32::from(p2) - i32::from(s2));
            Some(bounded(integral + scale, scale))
        }
    }
}

fn rank(data_type: &DataType) -> Option<u8> {
    match data_type {
        DataType::Int8 => Some(0),
        DataType::Int16 => Some(1),
        DataType::Int32 => Some(2),
        DataType::Int64 => Some(3),
        _ => None,
    }
}

/// Whether it is TINYINT to BIGINT.
pub(crate) fn is_integral(data_type: &DataType) -> bool {
    rank(data_type).is_some()
}
