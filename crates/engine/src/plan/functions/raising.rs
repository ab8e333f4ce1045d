//! Errors that a query raises itself: `raise_error` and `assert_true`.
//!
//! They are called volatile, which they are not, so that the optimizer neither evaluates one in a branch that no row
//! takes nor moves it to rows that a condition keeps away from it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, NullArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::Volatility;

use super::failure;
use super::udf::{Arguments, Invocation, Spec, function};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("raise_error", (1, 1), nothing, raise_error).volatility(Volatility::Volatile),
    function("assert_true", (1, 2), asserted, assert_true).volatility(Volatility::Volatile),
];

fn nothing(_: &Arguments<'_>) -> Result<DataType> {
    Ok(DataType::Null)
}

fn asserted(arguments: &Arguments<'_>) -> Result<DataType> {
    match arguments.of(0) {
        DataType::Boolean | DataType::Null => Ok(DataType::Null),
        other => Err(failure::plan(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!("assert_true takes a BOOLEAN, found {}", ddl::type_name(&other)),
        )),
    }
}

fn raised(message: &str) -> DataFusionError {
    failure::data("USER_RAISED_EXCEPTION", message)
}

fn raise_error(call: &Invocation<'_>) -> Result<ArrayRef> {
    let messages = call.strings(0)?;
    if call.is_over_no_rows() || messages.is_empty() {
        return Ok(Arc::new(NullArray::new(call.rows)));
    }
    Err(raised(if messages.is_null(0) { "null" } else { messages.value(0) }))
}

/// The message that was left out is put there while the expression still is as it was written.
fn assert_true(call: &Invocation<'_>) -> Result<ArrayRef> {
    let conditions = call.booleans(0)?;
    let messages = if call.len() > 1 { call.strings(1)? } else { StringArray::new_null(call.rows) };
    let failed = (0..call.rows).find(|row| conditions.is_null(*row) || !conditions.value(*row));
    match failed.filter(|_| !call.is_over_no_rows()) {
        Some(row) => Err(raised(if messages.is_null(row) { "null" } else { messages.value(row) })),
        None => Ok(Arc::new(NullArray::new(call.rows))),
    }
}
