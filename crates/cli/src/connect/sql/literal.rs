//! Literals as SQL.

use super::super::problem::{Problem, Result};
use super::super::types::type_text;
use crate::spark_connect::messages::{DataType, Literal, LiteralKind, TypeKind};

const DAY_US: u64 = 86_400_000_000;

/// A literal.
pub(super) fn literal(literal: &Literal) -> Result<String> {
    let Some(kind) = &literal.kind else { return Err(refused("of an unknown type")) };
    Ok(match kind {
        LiteralKind::Null(data_type) => null(data_type)?,
        LiteralKind::Binary(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("X'{hex}'")
        }
        LiteralKind::Boolean(value) => value.to_string(),
        LiteralKind::Byte(value) => format!("CAST({value} AS TINYINT)"),
        LiteralKind::Short(value) => format!("CAST({value} AS SMALLINT)"),
        LiteralKind::Integer(value) => number(i64::from(*value)),
        LiteralKind::Long(value) => format!("CAST({value} AS BIGINT)"),
        LiteralKind::Float(value) => format!("CAST('{value}' AS FLOAT)"),
        LiteralKind::Double(value) if value.is_finite() => format!("{value:?}D"),
        LiteralKind::Double(value) => format!("CAST('{value}' AS DOUBLE)"),
        LiteralKind::Decimal(decimal) => {
            let (precision, scale) = (decimal.precision.unwrap_or(10), decimal.scale.unwrap_or(0));
            format!("CAST('{}' AS DECIMAL({precision}, {scale}))", digits(&decimal.value)?)
        }
        LiteralKind::String(text) => quoted_text(text),
        LiteralKind::Date(days) => {
            let date = chrono::DateTime::from_timestamp(i64::from(*days) * 86_400, 0);
            format!("DATE '{}'", date.ok_or_else(|| refused("of a date out of range"))?.format("%Y-%m-%d"))
        }
        LiteralKind::Timestamp(micros) => format!("timestamp_micros({micros})"),
        LiteralKind::TimestampNtz(micros) => {
            let time = chrono::DateTime::from_timestamp_micros(*micros);
            let time = time.ok_or_else(|| refused("of a time out of range"))?;
            format!("TIMESTAMP_NTZ '{}'", time.format("%Y-%m-%d %H:%M:%S%.6f"))
        }
        LiteralKind::DayTimeInterval(micros) => interval(*micros),
        LiteralKind::Array(array) => {
            let elements = array.elements.iter().map(self::literal).collect::<Result<Vec<_>>>()?;
            format!("array({})", elements.join(", "))
        }
        LiteralKind::YearMonthInterval(months) => format!("INTERVAL '{months}' MONTH"),
        LiteralKind::CalendarInterval(_) => return Err(refused("of a calendar interval")),
        LiteralKind::Map(_) | LiteralKind::Struct(_) | LiteralKind::SpecializedArray(_) => {
            return Err(refused("of a map, a struct or a specialised array"));
        }
    })
}

/// A text in quotes.
pub(crate) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn null(data_type: &DataType) -> Result<String> {
    match &data_type.kind {
        None | Some(TypeKind::Null(_)) => Ok("NULL".to_owned()),
        Some(_) => Ok(format!("CAST(NULL AS {})", type_text(data_type)?)),
    }
}

fn number(value: i64) -> String {
    if value < 0 { format!("({value})") } else { value.to_string() }
}

fn interval(micros: i64) -> String {
    // The sign stands in front of each part: there is no -0 seconds that a fraction could take its own from.
    let (sign, magnitude) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
    let (days, rest) = (magnitude / DAY_US, magnitude % DAY_US);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    format!("(INTERVAL '{sign}{days}' DAY + INTERVAL '{sign}{seconds}.{fraction:06}' SECOND)")
}

/// The digits of a decimal, which come as text from anyone.
fn digits(text: &str) -> Result<&str> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'E' | b'e');
    if text.bytes().all(is_digit) { Ok(text) } else { Err(refused("of a decimal that is no number")) }
}

fn refused(what: &str) -> Problem {
    Problem::unsupported(format!("a literal {what}"), "write it as text with expr(...), or cast it from a string")
}
