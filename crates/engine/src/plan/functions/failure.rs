//! Errors with the name Spark gives their condition, as `[DIVIDE_BY_ZERO] ...`.

use datafusion::common::DataFusionError;

/// Data that the expression cannot take.
pub(crate) fn data(condition: &str, message: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(format!("[{condition}] {message}"))
}

/// An expression that cannot be planned.
pub(crate) fn plan(condition: &str, message: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Plan(format!("[{condition}] {message}"))
}

pub(crate) fn overflow(what: impl std::fmt::Display) -> DataFusionError {
    data("ARITHMETIC_OVERFLOW", format!("{what} overflow; use try_add, try_subtract or try_multiply to get NULL"))
}

pub(crate) fn divide_by_zero() -> DataFusionError {
    data("DIVIDE_BY_ZERO", "division by zero; use try_divide to get NULL")
}

pub(crate) fn invalid_input(value: impl std::fmt::Display, to: &str) -> DataFusionError {
    data("CAST_INVALID_INPUT", format!("the value '{value}' cannot be cast to {to}; use try_cast to get NULL"))
}

pub(crate) fn out_of_range(value: impl std::fmt::Display, precision: u8, scale: i8) -> DataFusionError {
    data(
        "NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION",
        format!("{value} cannot be represented as DECIMAL({precision}, {scale})"),
    )
}
