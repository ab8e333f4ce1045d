//! What a JSON value must look like to fill an Arrow type.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Fields};

use super::super::FormatError;
use super::super::column::map_sides;
use super::direct::Keys;

/// The target of a value.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Null,
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Decimal(u8, i8),
    Text,
    Binary,
    Date,
    Timestamp,
    TimestampNtz,
    Struct(Members),
    List(Box<Shape>),
    /// The values of a map; its keys are text.
    Map(Box<Shape>),
}

/// The members that are wanted of an object, and where they go.
#[derive(Debug, Clone)]
pub(super) struct Members {
    pub(super) names: Vec<String>,
    pub(super) shapes: Vec<Shape>,
    index: HashMap<Box<[u8]>, usize>,
    /// In which order the direct path expects them.
    pub(super) keys: Keys,
}

impl Members {
    /// Members for fields; the one called `except`, if any, is never filled from the data.
    pub(super) fn new(fields: &Fields, path: &str, except: Option<&str>) -> Result<Self, FormatError> {
        let separator = if path.is_empty() { "" } else { "." };
        let mut members = Self { names: Vec::new(), shapes: Vec::new(), index: HashMap::new(), keys: Keys::default() };
        for (i, field) in fields.iter().enumerate() {
            let path = format!("{path}{separator}{}", field.name());
            members.shapes.push(Shape::new(field.data_type(), &path)?);
            if except != Some(field.name()) {
                members.index.insert(field.name().as_bytes().into(), i);
            }
            members.names.push(path);
        }
        Ok(members)
    }

    /// Where the member called `name` goes, if it is wanted. Names are compared byte by byte, as in Spark.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.shapes.len()
    }
}

impl Shape {
    fn new(data_type: &DataType, path: &str) -> Result<Self, FormatError> {
        Ok(match data_type {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Decimal128(precision, scale) => Self::Decimal(*precision, *scale),
            DataType::Utf8 | DataType::Utf8View => Self::Text,
            DataType::Binary => Self::Binary,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(_, Some(_)) => Self::Timestamp,
            DataType::Timestamp(_, None) => Self::TimestampNtz,
            DataType::Struct(fields) => Self::Struct(Members::new(fields, path, None)?),
            DataType::List(item) => Self::List(Box::new(Self::new(item.data_type(), path)?)),
            DataType::Map(entries, _) => {
                let (key, value) = map_sides(entries, path)?;
                if !matches!(key.data_type(), DataType::Utf8 | DataType::Utf8View) {
                    return Err(FormatError::unsupported(path, data_type));
                }
                Self::Map(Box::new(Self::new(value.data_type(), path)?))
            }
            _ => return Err(FormatError::unsupported(path, data_type)),
        })
    }

    /// What a value of this shape is called in a message.
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "true or false",
            Self::Int8 => "an integer of 8 bits",
            Self::Int16 => "an integer of 16 bits",
            Self::Int32 => "an integer of 32 bits",
            Self::Int64 => "an integer of 64 bits",
            Self::Float32 | Self::Float64 => "a number",
            Self::Decimal(..) => "a decimal number that fits precision and scale",
            Self::Text => "a string",
            Self::Binary => "a string of base64",
            Self::Date => "a string with a date",
            Self::Timestamp => "a string with a timestamp, or seconds since 1970",
            Self::TimestampNtz => "a string with a timestamp without time zone",
            Self::Struct(_) | Self::Map(_) => "an object",
            Self::List(_) => "an array",
        }
    }
}
