//! Which filters PostgreSQL applies itself: those on columns whose values it compares as the engine does.
//!
//! | column | applied |
//! |---|---|
//! | smallint, integer, bigint, numeric (with a scale that is read whole), date, timestamp, timestamptz | `=`, `IN`, `<`, `<=`, `>`, `>=`, `IS [NOT] NULL` |
//! | text, varchar, uuid | `=`, `IN`, `IS [NOT] NULL`: the order of strings depends on the collation |
//! | others | `IS [NOT] NULL` |
//!
//! Values go over as parameters of type text that the server casts, so that any number of keys is one parameter, and an
//! index on the column is used: `"id" = ANY($1::text[]::bigint[])`.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use super::columns::{Kind, ServerColumn};
use super::quoted;
use crate::condition::{Condition, ConditionSql};

/// A parameter of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Param {
    /// `text`
    One(String),
    /// `text[]`
    Many(Vec<String>),
}

/// Whether the server could apply a filter, as far as can be said before its types are known. It is asked for what it can
/// when the query is made.
pub(super) fn may_heed(filter: &Expr) -> bool {
    Condition::of(filter).is_some()
}

/// What a server makes of filters on a relation.
pub(super) struct ServerFilter<'a> {
    columns: &'a [ServerColumn],
}

impl<'a> ServerFilter<'a> {
    /// For a relation with these columns.
    pub(super) fn new(columns: &'a [ServerColumn]) -> Self {
        Self { columns }
    }

    fn kind(&self, column: &str) -> Option<&Kind> {
        self.columns.iter().find(|known| known.name == column).map(|known| &known.kind)
    }
}

/// The server's type for values that are compared with a column; none where the comparison is not the engine's.
fn compared_as(kind: &Kind, value: &DataType) -> Option<&'static str> {
    match (kind, value) {
        (Kind::Int2 | Kind::Int4 | Kind::Int8, value) if value.is_integer() => Some("bigint"),
        // Where fewer digits are read than there are (the table declares fewer, or the column has no scale of its own),
        // values that are equal here are none there.
        (Kind::Numeric { is_bounded: true, scale, .. }, DataType::Decimal128(_, read)) if read >= scale => {
            Some("numeric")
        }
        (Kind::Text, DataType::Utf8) => Some("text"),
        (Kind::Uuid, DataType::Utf8) => Some("uuid"),
        (Kind::Date, DataType::Date32) => Some("date"),
        (Kind::Timestamp, DataType::Timestamp(_, None)) => Some("timestamp"),
        (Kind::Timestamptz, DataType::Timestamp(_, Some(_))) => Some("timestamptz"),
        _ => None,
    }
}

/// A value as the server reads it; none of times that stand for infinity, or that it writes in another way.
fn text(value: &ScalarValue) -> Option<String> {
    if let ScalarValue::Utf8(text) = value {
        return text.clone();
    }
    let array: ArrayRef = value.to_array().ok().filter(|array| array.len() == 1)?;
    let text = array_value_to_string(&array, 0).ok()?;
    let is_time = value.data_type().is_temporal();
    let is_common =
        text.as_bytes().get(4) == Some(&b'-') && !text.starts_with("9999-12-31") && !text.starts_with("0001-01-01");
    (!is_time || is_common).then_some(text)
}

/// Whether a text is what PostgreSQL shows of a UUID. Others are equal to none.
fn is_shown_uuid(text: &str) -> bool {
    let is_fine = |(at, letter): (usize, char)| match at {
        8 | 13 | 18 | 23 => letter == '-',
        _ => matches!(letter, '0'..='9' | 'a'..='f'),
    };
    text.len() == 36 && text.chars().enumerate().all(is_fine)
}

impl ConditionSql for ServerFilter<'_> {
    type Param = Param;

    fn null(&self, column: &str, is_null: bool) -> Option<String> {
        self.kind(column)?;
        Some(format!("{} IS {}NULL", quoted(column), if is_null { "" } else { "NOT " }))
    }

    fn is_in(&mut self, column: &str, values: &[ScalarValue], before: usize) -> Option<(String, Vec<Param>)> {
        let kind = self.kind(column)?.clone();
        let as_type = compared_as(&kind, &values.first()?.data_type())?;
        let texts = values.iter().map(text).collect::<Option<Vec<_>>>()?;
        // The server has no strings with a zero in them, and takes none.
        let can_be = |text: &String| !text.contains('\0') && (as_type != "uuid" || is_shown_uuid(text));
        let texts = texts.into_iter().filter(can_be).collect();
        let sql = format!("{} = ANY(${}::text[]::{as_type}[])", quoted(column), before + 1);
        Some((sql, vec![Param::Many(texts)]))
    }

    fn compare(
        &mut self,
        column: &str,
        sign: &str,
        value: &ScalarValue,
        before: usize,
    ) -> Option<(String, Vec<Param>)> {
        let kind = self.kind(column)?.clone();
        let as_type = compared_as(&kind, &value.data_type()).filter(|name| !matches!(*name, "text" | "uuid"))?;
        let value = text(value)?;
        let sql = format!("{} {sign} ${}::text::{as_type}", quoted(column), before + 1);
        Some((sql, vec![Param::One(value)]))
    }
}
