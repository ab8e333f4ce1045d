//! Which filters SQLite applies itself: those it decides as the engine does, whatever rows a table has.
//!
//! | affinity of the column | pushed |
//! |---|---|
//! | INTEGER | `=`, `IN`, `<`, `<=`, `>`, `>=` with whole numbers |
//! | TEXT | `=` and `IN` with strings: the order of strings depends on the column's collation |
//! | others, or a column without a type | nothing: a value can be of any type there, and reads as another |
//!
//! A value stored as a BLOB in a column of affinity TEXT equals no string here.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use rusqlite::types::Value;

use super::quoted;
use crate::condition::{Condition, ConditionSql};

/// SQLite takes 32,766 parameters; a filter with more is the engine's.
const MAX_PARAMS: usize = 30_000;

/// What SQLite makes of filters on one table.
#[derive(Debug, Clone)]
pub(super) struct SqliteFilter {
    /// None while they are not known.
    affinities: Option<HashMap<String, DataType>>,
    params_left: usize,
}

impl SqliteFilter {
    /// For a table whose columns have these affinities.
    pub(super) fn new(affinities: HashMap<String, DataType>) -> Self {
        Self { affinities: Some(affinities), params_left: MAX_PARAMS }
    }

    /// For a table that nobody has looked at: what can be pushed if its columns are as the values are.
    pub(super) fn planned() -> Self {
        Self { affinities: None, params_left: MAX_PARAMS }
    }

    /// Whether it applies the filter.
    pub(super) fn heeds(&mut self, filter: &Expr) -> bool {
        Condition::of(filter).and_then(|condition| condition.sql(self, 0)).is_some()
    }

    fn value(&mut self, column: &str, value: &ScalarValue) -> Option<Value> {
        self.params_left = self.params_left.checked_sub(1)?;
        let data_type = value.data_type();
        let affinity = match &self.affinities {
            Some(affinities) => affinities.get(column)?.clone(),
            None if data_type.is_integer() => DataType::Int64,
            None => data_type.clone(),
        };
        match affinity {
            DataType::Int64 if data_type.is_integer() => match value.cast_to(&DataType::Int64).ok()? {
                ScalarValue::Int64(Some(number)) => Some(Value::Integer(number)),
                _ => None,
            },
            DataType::Utf8 => match value {
                ScalarValue::Utf8(Some(text)) => Some(Value::Text(text.clone())),
                _ => None,
            },
            _ => None,
        }
    }
}

impl ConditionSql for SqliteFilter {
    type Param = Value;

    fn null(&self, column: &str, is_null: bool) -> Option<String> {
        // The engine finds more null than SQLite: numbers that are none.
        (!is_null).then(|| format!("{} IS NOT NULL", quoted(column)))
    }

    fn is_in(&mut self, column: &str, values: &[ScalarValue], _before: usize) -> Option<(String, Vec<Value>)> {
        let params: Vec<Value> = values.iter().map(|value| self.value(column, value)).collect::<Option<_>>()?;
        let marks = vec!["?"; params.len()].join(", ");
        Some((format!("{} IN ({marks})", quoted(column)), params))
    }

    fn compare(
        &mut self,
        column: &str,
        sign: &str,
        value: &ScalarValue,
        _before: usize,
    ) -> Option<(String, Vec<Value>)> {
        let value = self.value(column, value).filter(|value| matches!(value, Value::Integer(_)))?;
        Some((format!("{} {sign} ?", quoted(column)), vec![value]))
    }
}
