//! Literals as Spark reads them: `1` is an INT, `2147483648` a BIGINT, `1.5` a DECIMAL(2,1), `1e0` a DOUBLE.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;

use super::cast::{self, text};
use super::types;
use crate::plan::datetime_pattern::cast as datetime;

/// A number with the type its spelling gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NumberLiteral {
    TinyInt(i8),
    SmallInt(i16),
    Int(i32),
    BigInt(i64),
    Float(f32),
    Double(f64),
    Decimal { unscaled: i128, precision: u8, scale: i8 },
}

impl NumberLiteral {
    /// Reads digits with an optional sign, exponent and suffix; nothing if they are no number or do not fit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let digits = |suffix: &str| upper.strip_suffix(suffix);
        if let Some(digits) = digits("BD") {
            return Self::decimal(digits);
        }
        if let Some(digits) = digits("L") {
            return digits.parse().ok().map(Self::BigInt);
        }
        if let Some(digits) = digits("S") {
            return digits.parse().ok().map(Self::SmallInt);
        }
        if let Some(digits) = digits("Y") {
            return digits.parse().ok().map(Self::TinyInt);
        }
        if let Some(digits) = digits("D") {
            return digits.parse().ok().map(Self::Double);
        }
        if let Some(digits) = digits("F") {
            return digits.parse().ok().map(Self::Float);
        }
        if upper.contains('E') {
            return upper.parse().ok().map(Self::Double);
        }
        if upper.contains('.') {
            return Self::decimal(&upper);
        }
        let int = upper.parse().ok().map(Self::Int);
        int.or_else(|| upper.parse().ok().map(Self::BigInt)).or_else(|| Self::decimal(&upper))
    }

    fn decimal(text: &str) -> Option<Self> {
        let (unscaled, scale) = cast::parse::exact_decimal(text)?;
        let (unscaled, scale) = if scale < 0 {
            (unscaled.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?, 0)
        } else {
            (unscaled, scale)
        };
        let digits = i32::try_from(types::digits(unscaled)).ok()?;
        let precision = digits.max(scale).max(1);
        (precision <= 38).then(|| Self::Decimal {
            unscaled,
            precision: precision.unsigned_abs() as u8,
            scale: scale as i8,
        })
    }

    /// The literal's type and value.
    pub(crate) fn scalar(self) -> ScalarValue {
        match self {
            Self::TinyInt(v) => ScalarValue::Int8(Some(v)),
            Self::SmallInt(v) => ScalarValue::Int16(Some(v)),
            Self::Int(v) => ScalarValue::Int32(Some(v)),
            Self::BigInt(v) => ScalarValue::Int64(Some(v)),
            Self::Float(v) => ScalarValue::Float32(Some(v)),
            Self::Double(v) => ScalarValue::Float64(Some(v)),
            Self::Decimal { unscaled, precision, scale } => ScalarValue::Decimal128(Some(unscaled), precision, scale),
        }
    }
}

impl fmt::Display for NumberLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TinyInt(v) => v.fmt(f),
            Self::SmallInt(v) => v.fmt(f),
            Self::Int(v) => v.fmt(f),
            Self::BigInt(v) => v.fmt(f),
            Self::Float(v) => f.write_str(&text::float(*v)),
            Self::Double(v) => f.write_str(&text::double(*v)),
            Self::Decimal { unscaled, scale, .. } => f.write_str(&text::decimal(*unscaled, *scale)),
        }
    }
}

/// The text of `DATE '...'` and its like in Spark's normal form; nothing if it cannot be read.
pub(crate) fn typed_text(data_type: &ast::DataType, value: &str) -> Option<String> {
    let zone = cast::UTC;
    match types::from_ast(data_type).ok()? {
        DataType::Date32 => datetime::parse_date(value).map(text::date),
        DataType::Timestamp(_, Some(_)) => cast::timestamp(value, zone).map(|us| text::timestamp(us, zone)),
        DataType::Timestamp(_, None) => datetime::parse_timestamp_ntz(value).map(text::timestamp_ntz),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_gives_the_type() {
        let check = |text: &str, data_type: &str, shown: &str| {
            let number = NumberLiteral::parse(text).unwrap();
            assert_eq!(crate::plan::ddl::type_name(&number.scalar().data_type()), data_type, "{text}");
            assert_eq!(number.to_string(), shown);
        };
        check("1", "INT", "1");
        check("-2147483648", "INT", "-2147483648");
        check("2147483648", "BIGINT", "2147483648");
        check("9223372036854775808", "DECIMAL(19,0)", "9223372036854775808");
        check("1.5", "DECIMAL(2,1)", "1.5");
        check("-1.50", "DECIMAL(3,2)", "-1.50");
        check(".5", "DECIMAL(1,1)", "0.5");
        check("1.", "DECIMAL(1,0)", "1");
        check("1.5E2", "DOUBLE", "150.0");
        check("1.25BD", "DECIMAL(3,2)", "1.25");
        check("7Y", "TINYINT", "7");
        check("1.5F", "FLOAT", "1.5");
    }
}
