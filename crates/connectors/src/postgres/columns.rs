//! PostgreSQL's types as the engine's, and values from its binary format.
//!
//! | PostgreSQL | engine | PostgreSQL | engine |
//! |---|---|---|---|
//! | `boolean` | BOOLEAN | `numeric(p, s)` | DECIMAL(p, s), up to 38 digits |
//! | `smallint`, `integer`, `bigint` | SMALLINT, INT, BIGINT | `numeric` | DECIMAL(38, 18), as in Spark |
//! | `real`, `double precision` | FLOAT, DOUBLE | `timestamptz` | TIMESTAMP |
//! | `text`, `varchar`, `char`, `name` | STRING | `timestamp` | TIMESTAMP_NTZ |
//! | `uuid`, `json`, `jsonb`, `xml`, enums, `inet`, `cidr`, `macaddr`, `interval`, `time`, `timetz` | STRING, the server's text | `date` | DATE |
//! | domains | what they are made of | `bytea` | BINARY |
//!
//! The others (arrays, ranges, composite and geometric types, `money`, `bit`) are refused by name where a query needs
//! them. `infinity` is the end of the year 9999 and `-infinity` the beginning of year 1, for dates and timestamps.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Float32Builder, Float64Builder, Int16Builder, Int32Builder,
    Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tokio_postgres::types::{FromSql, Kind as TypeKind, Type};
use tokio_postgres::{Column, Row};

use super::quoted;

/// A column of a relation, as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerColumn {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// How the values of a column come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Strings as they are.
    Text,
    /// Strings that the server fills up with spaces.
    PaddedText,
    Uuid,
    Bytea,
    Date,
    Timestamp,
    Timestamptz,
    /// Whether the column has a scale of its own.
    Numeric {
        precision: u8,
        scale: i8,
        is_bounded: bool,
    },
    /// What the server shows as text.
    Shown,
    /// A type there is nothing for, by name.
    Unknown(String),
}

impl ServerColumn {
    pub(super) fn of(column: &Column) -> Self {
        Self { name: column.name().to_owned(), kind: Kind::of(column.type_(), column.type_modifier()) }
    }

    /// The column in a select list, in the form it is read in.
    pub(super) fn selected(&self) -> String {
        let name = quoted(&self.name);
        match self.kind {
            Kind::Numeric { .. } | Kind::Shown | Kind::Uuid => format!("{name}::text"),
            _ => name,
        }
    }
}

impl Kind {
    fn of(data_type: &Type, modifier: i32) -> Self {
        match *data_type {
            Type::BOOL => Self::Bool,
            Type::INT2 => Self::Int2,
            Type::INT4 => Self::Int4,
            Type::INT8 => Self::Int8,
            Type::FLOAT4 => Self::Float4,
            Type::FLOAT8 => Self::Float8,
            Type::TEXT | Type::VARCHAR => Self::Text,
            Type::BPCHAR | Type::NAME => Self::PaddedText,
            Type::UUID => Self::Uuid,
            Type::BYTEA => Self::Bytea,
            Type::DATE => Self::Date,
            Type::TIMESTAMP => Self::Timestamp,
            Type::TIMESTAMPTZ => Self::Timestamptz,
            Type::NUMERIC => Self::numeric(modifier),
            Type::JSON | Type::JSONB | Type::XML | Type::INET | Type::CIDR | Type::MACADDR | Type::MACADDR8 => {
                Self::Shown
            }
            Type::INTERVAL | Type::TIME | Type::TIMETZ => Self::Shown,
            _ => match data_type.kind() {
                TypeKind::Enum(_) => Self::Shown,
                TypeKind::Domain(inner) => Self::of(inner, -1),
                _ => Self::Unknown(data_type.name().to_owned()),
            },
        }
    }

    /// The modifier of `numeric(p, s)` is `(p << 16 | s) + 4`.
    fn numeric(modifier: i32) -> Self {
        let bare = modifier - 4;
        let (precision, scale) = (u8::try_from(bare >> 16), i8::try_from(bare & 0x7ff));
        match (precision, scale) {
            (Ok(precision @ 1..=38), Ok(scale)) if modifier >= 4 && i16::from(scale) <= i16::from(precision) => {
                Self::Numeric { precision, scale, is_bounded: true }
            }
            _ => Self::Numeric { precision: 38, scale: 18, is_bounded: false },
        }
    }

    /// The engine's type.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Numeric { precision, scale, .. } => DataType::Decimal128(*precision, *scale),
            Self::Text | Self::PaddedText | Self::Uuid | Self::Shown | Self::Unknown(_) => DataType::Utf8,
        }
    }
}

/// The engine's type, for messages.
pub(super) fn shown_type(kind: &Kind) -> String {
    highwater_engine::plan::ddl::type_name(&kind.data_type())
}

/// The columns as the engine's. Those of types there is nothing for are left out: a query that needs one is told that it
/// is not there.
pub(super) fn schema(columns: &[ServerColumn]) -> SchemaRef {
    let known = columns.iter().filter(|column| !matches!(column.kind, Kind::Unknown(_)));
    Arc::new(Schema::new(
        known.map(|column| Field::new(&column.name, column.kind.data_type(), true)).collect::<Vec<_>>(),
    ))
}

/// Days from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
const EPOCH_DAYS: i32 = 10_957;
const DAY_US: i64 = 86_400_000_000;
/// The first and the last day that stand for infinity, from 1970-01-01.
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;

fn days(since_2000: i32) -> Option<i32> {
    match since_2000 {
        i32::MIN => Some(FIRST_DAY),
        i32::MAX => Some(LAST_DAY),
        days => days.checked_add(EPOCH_DAYS),
    }
}

fn micros(since_2000: i64) -> Option<i64> {
    match since_2000 {
        i64::MIN => Some(i64::from(FIRST_DAY) * DAY_US),
        i64::MAX => Some((i64::from(LAST_DAY) + 1) * DAY_US - 1),
        micros => micros.checked_add(i64::from(EPOCH_DAYS) * DAY_US),
    }
}

/// A value's bytes, whatever its type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Values of one column, as they come.
pub(super) enum Values {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(TimestampMicrosecondBuilder, DataType),
    Text(StringBuilder),
}

impl Values {
    pub(super) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::new()),
            Kind::Int2 => Self::Int2(Int16Builder::new()),
            Kind::Int4 => Self::Int4(Int32Builder::new()),
            Kind::Int8 => Self::Int8(Int64Builder::new()),
            Kind::Float4 => Self::Float4(Float32Builder::new()),
            Kind::Float8 => Self::Float8(Float64Builder::new()),
            Kind::Bytea => Self::Bytes(BinaryBuilder::new()),
            Kind::Date => Self::Date(Date32Builder::new()),
            Kind::Timestamp | Kind::Timestamptz => Self::Time(TimestampMicrosecondBuilder::new(), kind.data_type()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Adds the value of a row; false if its bytes are none of this type.
    pub(super) fn push(&mut self, row: &Row, column: usize) -> bool {
        let Ok(raw) = row.try_get::<_, Option<Raw<'_>>>(column) else { return false };
        let raw = raw.map(|raw| raw.0);
        match self {
            Self::Bool(out) => fixed(raw, |[byte]: [u8; 1]| Some(byte != 0), |value| out.append_option(value)),
            Self::Int2(out) => fixed(raw, |bytes| Some(i16::from_be_bytes(bytes)), |value| out.append_option(value)),
            Self::Int4(out) => fixed(raw, |bytes| Some(i32::from_be_bytes(bytes)), |value| out.append_option(value)),
            Self::Int8(out) => fixed(raw, |bytes| Some(i64::from_be_bytes(bytes)), |value| out.append_option(value)),
            Self::Float4(out) => fixed(raw, |bytes| Some(f32::from_be_bytes(bytes)), |value| out.append_option(value)),
            Self::Float8(out) => fixed(raw, |bytes| Some(f64::from_be_bytes(bytes)), |value| out.append_option(value)),
            Self::Date(out) => fixed(raw, |bytes| days(i32::from_be_bytes(bytes)), |value| out.append_option(value)),
            Self::Time(out, _) => {
                fixed(raw, |bytes| micros(i64::from_be_bytes(bytes)), |value| out.append_option(value))
            }
            Self::Bytes(out) => {
                out.append_option(raw);
                true
            }
            Self::Text(out) => match raw.map(std::str::from_utf8).transpose() {
                Ok(text) => {
                    out.append_option(text);
                    true
                }
                Err(_) => false,
            },
        }
    }

    /// The values so far, as a column.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(out) => Arc::new(out.finish()),
            Self::Int2(out) => Arc::new(out.finish()),
            Self::Int4(out) => Arc::new(out.finish()),
            Self::Int8(out) => Arc::new(out.finish()),
            Self::Float4(out) => Arc::new(out.finish()),
            Self::Float8(out) => Arc::new(out.finish()),
            Self::Bytes(out) => Arc::new(out.finish()),
            Self::Date(out) => Arc::new(out.finish()),
            Self::Time(out, data_type) => Arc::new(out.finish().with_data_type(data_type.clone())),
            Self::Text(out) => Arc::new(out.finish()),
        }
    }
}

/// A value of so many bytes; false if there are more or fewer, or they mean nothing.
fn fixed<const N: usize, T>(
    raw: Option<&[u8]>,
    value: impl Fn([u8; N]) -> Option<T>,
    mut put: impl FnMut(Option<T>),
) -> bool {
    let Some(raw) = raw else {
        put(None);
        return true;
    };
    let found = <[u8; N]>::try_from(raw).ok().and_then(value);
    let is_fine = found.is_some();
    if is_fine {
        put(found);
    }
    is_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_in_the_modifier() {
        let numeric = |precision, scale, is_bounded| Kind::Numeric { precision, scale, is_bounded };
        assert_eq!(Kind::numeric(((10 << 16) | 2) + 4), numeric(10, 2, true));
        assert_eq!(Kind::numeric(((38 << 16) | 38) + 4), numeric(38, 38, true));
        // Without a scale, with more digits than there are, with a scale below zero.
        for modifier in [-1, ((39 << 16) | 2) + 4, ((3 << 16) | 0x7fd) + 4] {
            assert_eq!(Kind::numeric(modifier), numeric(38, 18, false), "{modifier}");
        }
    }

    #[test]
    fn times_count_from_2000_and_infinity_is_a_day() {
        assert_eq!((days(0), days(i32::MAX), days(i32::MIN)), (Some(10_957), Some(2_932_896), Some(-719_162)));
        assert_eq!(micros(0), Some(946_684_800_000_000));
        assert_eq!(micros(i64::MAX), Some(253_402_300_799_999_999));
        assert_eq!(micros(i64::MAX - 1), None);
    }
}
