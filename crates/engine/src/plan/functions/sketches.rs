//! HyperLogLog sketches as values: asked and put together.
//!
//! The aggregates that make them, and what their bytes are, are in `operator/aggregate/accumulator/sketch/hll.rs`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};

use super::failure;
use super::udf::{Arguments, Invocation, Spec, each, function};
use crate::error::EngineError;
use crate::operator::aggregate::accumulator::{hll_bytes, hll_sketch, hll_unite};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("hll_sketch_estimate", (1, 1), |a| of_sketches(a, 1, DataType::Int64), estimate),
    function("hll_union", (2, 3), |a| of_sketches(a, 2, DataType::Binary), union),
];

/// A type, if the first arguments may be sketches.
fn of_sketches(arguments: &Arguments<'_>, first: usize, data_type: DataType) -> Result<DataType> {
    let is_other = |found: &&DataType| !matches!(found, DataType::Binary | DataType::Null);
    match arguments.types().take(first).find(is_other) {
        None => Ok(data_type),
        Some(other) => Err(failure::plan(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!("a sketch is BINARY, found {}", ddl::type_name(other)),
        )),
    }
}

fn outward(error: EngineError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn estimate(call: &Invocation<'_>) -> Result<ArrayRef> {
    let sketches = call.bytes(0)?;
    let out: Int64Array = each!(call.rows, (bytes = sketches) => {
        Ok(Some(hll_sketch(bytes).map_err(outward)?.estimate().round() as i64))
    })?;
    Ok(Arc::new(out))
}

fn union(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.bytes(0)?, call.bytes(1)?);
    let any_k = if call.len() > 2 { Some(call.booleans(2)?) } else { None };
    let row = |row: usize| -> Result<Option<Vec<u8>>> {
        if left.is_null(row) || right.is_null(row) || any_k.as_ref().is_some_and(|any_k| any_k.is_null(row)) {
            return Ok(None);
        }
        let any_k = any_k.as_ref().is_some_and(|any_k| any_k.value(row));
        let mut union = None;
        for side in [&left, &right] {
            hll_unite(&mut union, &hll_sketch(side.value(row)).map_err(outward)?, any_k).map_err(outward)?;
        }
        Ok(union.as_ref().map(hll_bytes))
    };
    Ok(Arc::new((0..call.rows).map(row).collect::<Result<BinaryArray>>()?))
}
