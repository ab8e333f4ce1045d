//! What type the values of JSON documents have in common, as Spark infers it for files and `schema_of_json`.
//!
//! | values | type |
//! |---|---|
//! | whole numbers | BIGINT, beyond it DECIMAL of their digits, beyond 38 digits DOUBLE |
//! | other numbers | DOUBLE |
//! | nothing but null, an empty array's elements | STRING |
//! | different kinds | STRING, but for numbers, which are the wider of theirs |
//!
//! Fields stand in the order of their names. An object without fields has no type.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

use super::super::text::Times;
use super::full::{FullParser, Scalar, SyntaxError, parsed, with_parser};

/// What values of JSON have in common.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Integer,
    /// Whole numbers of so many digits at most.
    Decimal(u8),
    Float,
    Text,
    List(Box<Kind>),
    Object(BTreeMap<String, Kind>),
}

/// The digits of every BIGINT.
const BIGINT_DIGITS: u8 = 20;

/// The kind of a document; of an empty one, that of null. The error says what is wrong with the text.
pub(crate) fn kind_of(document: &[u8]) -> Result<Kind, String> {
    with_parser(document, &mut Times::none(), |parser| match parser.peek() {
        None => Ok(Kind::Null),
        Some(_) => parser.kind(),
    })
}

impl FullParser<'_> {
    /// What the next value has in common with others.
    fn kind(&mut self) -> Result<Kind, SyntaxError> {
        match self.peek() {
            Some(b'{') => {
                let mut fields = BTreeMap::new();
                self.object(|parser, key| {
                    fields.insert(String::from_utf8_lossy(&key).into_owned(), parser.kind()?);
                    Ok(())
                })?;
                Ok(Kind::Object(fields))
            }
            Some(b'[') => {
                let mut item = Kind::Null;
                self.elements(|parser| {
                    let next = parser.kind()?;
                    item = std::mem::replace(&mut item, Kind::Null).merge(next);
                    Ok(())
                })?;
                Ok(Kind::List(Box::new(item)))
            }
            _ => Ok(scalar_kind(&self.scalar()?)),
        }
    }
}

/// Whole numbers beyond BIGINT are decimals while they have at most 38 digits.
fn scalar_kind(scalar: &Scalar<'_>) -> Kind {
    match scalar {
        Scalar::Null => Kind::Null,
        Scalar::Boolean(_) => Kind::Boolean,
        Scalar::Text(_) => Kind::Text,
        Scalar::Integer(text) if parsed::<i64>(text).is_some() => Kind::Integer,
        Scalar::Integer(text) => match u8::try_from(text.iter().filter(|byte| byte.is_ascii_digit()).count()) {
            Ok(digits @ ..=38) => Kind::Decimal(digits),
            _ => Kind::Float,
        },
        Scalar::Fraction(_) | Scalar::NonFinite(_) => Kind::Float,
    }
}

impl Kind {
    /// What this and another value have in common.
    pub(crate) fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, kind) | (kind, Self::Null) => kind,
            (Self::Integer | Self::Decimal(_), Self::Float) | (Self::Float, Self::Integer | Self::Decimal(_)) => {
                Self::Float
            }
            (Self::Integer, Self::Decimal(digits)) | (Self::Decimal(digits), Self::Integer) => {
                Self::Decimal(digits.max(BIGINT_DIGITS))
            }
            (Self::Decimal(a), Self::Decimal(b)) => Self::Decimal(a.max(b)),
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merge(*b))),
            (Self::Object(mut a), Self::Object(b)) => {
                merge_fields(&mut a, b);
                Self::Object(a)
            }
            (a, b) if a == b => a,
            _ => Self::Text,
        }
    }

    /// The SQL type; none for an object without fields, which Spark leaves out.
    pub(crate) fn data_type(self) -> Option<DataType> {
        Some(match self {
            Self::Null | Self::Text => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Decimal(digits) => DataType::Decimal128(digits, 0),
            Self::Float => DataType::Float64,
            Self::List(item) => DataType::List(Arc::new(Field::new("item", item.data_type()?, true))),
            Self::Object(fields) => {
                let fields: Vec<Field> = fields
                    .into_iter()
                    .filter_map(|(name, kind)| Some(Field::new(name, kind.data_type()?, true)))
                    .collect();
                if fields.is_empty() {
                    return None;
                }
                DataType::Struct(fields.into())
            }
        })
    }
}

/// Adds the fields of another object.
pub(crate) fn merge_fields(known: &mut BTreeMap<String, Kind>, more: BTreeMap<String, Kind>) {
    for (name, kind) in more {
        let merged = match known.remove(&name) {
            Some(known) => known.merge(kind),
            None => kind,
        };
        known.insert(name, merged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(lines: &[&str]) -> String {
        let mut kinds = BTreeMap::new();
        for line in lines {
            if let Ok(Kind::Object(fields)) = kind_of(line.as_bytes()) {
                merge_fields(&mut kinds, fields);
            }
        }
        let fields: Vec<String> =
            kinds.into_iter().map(|(name, kind)| format!("{name} {:?}", kind.data_type())).collect();
        fields.join(", ")
    }

    #[test]
    fn types_merge_as_in_spark() {
        assert_eq!(kind(&[r#"{"b":1,"a":true}"#, r#"{"b":2.5}"#]), "a Some(Boolean), b Some(Float64)");
        assert_eq!(kind(&[r#"{"a":1}"#, r#"{"a":"x"}"#]), "a Some(Utf8)");
        assert_eq!(kind(&[r#"{"a":null}"#]), "a Some(Utf8)");
        assert_eq!(kind(&[r#"{"a":{}}"#]), "a None");
        assert_eq!(kind(&[r#"{"a":1}"#, r#"{"a":9223372036854775808}"#]), "a Some(Decimal128(20, 0))");
        assert_eq!(kind(&["{'a':NaN}"]), "a Some(Float64)");
        assert!(kind(&[r#"{"a":[]}"#, r#"{"a":[{"x":1}]}"#]).contains("Struct"));
        assert!(kind_of(b"{\"a\":").is_err());
    }
}
