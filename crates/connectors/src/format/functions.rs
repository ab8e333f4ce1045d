//! The SQL functions between columns and text or bytes: `from_json`, `to_json`, `schema_of_json`, the same of CSV, `from_avro`,
//! `to_avro`.
//!
//! ```text
//!   text ──from_json──> struct, array, map      the decoder of topics and files, a column of texts at a time
//!   struct, array, map ──to_json──> text        the encoder of topics and files
//!   text ──schema_of_json──> DDL                what inference finds in one document
//!   bytes ──from_avro──> any type ──to_avro──> bytes      the decoder and encoder of topics
//! ```
//!
//! Types, values, errors and their names are those of Spark 4.3 (`tests/oracle/json_functions.tsv`, which has CSV too). Options come as
//! `map('name', 'value', ...)`; one that Spark knows and this does not is refused, one that nobody knows is ignored, as
//! in Spark.

mod csv;
mod from_avro;
mod from_json;
mod options;
mod pretty;
mod schema_of_json;
#[cfg(test)]
mod tests;
mod to_avro;
mod to_json;

use std::fmt::Display;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;

use super::FormatError;

/// All functions of this module.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    let functions = [
        Arc::new(ScalarUDF::from(from_json::FromJson::default())),
        Arc::new(ScalarUDF::from(to_json::ToJson::default())),
        Arc::new(ScalarUDF::from(schema_of_json::SchemaOfJson::default())),
        Arc::new(ScalarUDF::from(from_avro::FromAvro::default())),
        Arc::new(ScalarUDF::from(to_avro::ToAvro::default())),
    ];
    functions.into_iter().chain(csv::all()).collect()
}

/// A call that cannot be planned, with the name Spark gives the condition.
fn refused(condition: &str, message: impl Display) -> DataFusionError {
    DataFusionError::Plan(format!("[{condition}] {message}"))
}

/// Data that a call cannot take.
fn failed(condition: &str, message: impl Display) -> DataFusionError {
    DataFusionError::Execution(format!("[{condition}] {message}"))
}

/// A decoder's or an encoder's error.
fn format_error(error: FormatError) -> DataFusionError {
    match &error {
        FormatError::Malformed { .. } => failed(
            "MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION",
            format!("{error}; use mode PERMISSIVE to get NULL"),
        ),
        FormatError::Type { .. } => refused("DATATYPE_MISMATCH.INVALID_JSON_SCHEMA", error),
        FormatError::AvroSchema(_) => refused("AVRO_SCHEMA", error),
        FormatError::Value { .. } => failed("AVRO_VALUE", error),
        _ => DataFusionError::External(Box::new(error)),
    }
}

fn check_count(function: &str, given: usize, (min, max): (usize, usize)) -> Result<()> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    let message = format!("`{function}` takes {min} to {max} arguments, found {given}");
    Err(refused("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", message))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
