//! Keys that compare by their bytes as their values do in Spark: `-0.0` is `0.0`, and all NaNs are one.
//!
//! A group shows the normal value, as in Spark. Maps are no keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, ListArray, StructArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

use crate::error::Result;

/// The columns with normal doubles and floats, at every level.
pub(crate) fn normalized(columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    columns.into_iter().map(normal).collect()
}

fn normal(column: ArrayRef) -> Result<ArrayRef> {
    if !has_floats(column.data_type()) {
        return Ok(column);
    }
    Ok(match column.data_type() {
        // Adding zero takes away the sign of zero and nothing else.
        DataType::Float32 => {
            let floats: Float32Array =
                column.as_primitive::<Float32Type>().unary(|value| if value.is_nan() { f32::NAN } else { value + 0.0 });
            Arc::new(floats)
        }
        DataType::Float64 => {
            let doubles: Float64Array =
                column.as_primitive::<Float64Type>().unary(|value| if value.is_nan() { f64::NAN } else { value + 0.0 });
            Arc::new(doubles)
        }
        DataType::Struct(fields) => {
            let structs = column.as_struct();
            let columns = normalized(structs.columns().to_vec())?;
            let (nulls, rows) = (structs.nulls().cloned(), structs.len());
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)?)
        }
        DataType::List(field) => {
            let lists = column.as_list::<i32>();
            let values = normal(Arc::clone(lists.values()))?;
            Arc::new(ListArray::try_new(field.clone(), lists.offsets().clone(), values, lists.nulls().cloned())?)
        }
        _ => column,
    })
}

/// Whether a type has floats at any level.
pub(crate) fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        DataType::List(field) => has_floats(field.data_type()),
        _ => false,
    }
}
