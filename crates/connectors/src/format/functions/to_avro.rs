//! `to_avro(value [, schema])`: a column of values to a column of single Avro values. A null stays null.
//!
//! Without a schema it is the one Spark derives of the value's type. What is computed here counts as nullable, and a
//! struct as a whole as not null, where Spark knows better of some expressions: where the bytes matter, say the schema.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::from_avro::parse;
use super::{check_count, format_error, refused};
use crate::format::avro::{AvroEncoder, Framing, schema_of_type};

const NAME: &str = "to_avro";

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToAvro {
    signature: Signature,
}

impl Default for ToAvro {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToAvro {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check_count(NAME, types.len(), (1, 2))?;
        Ok(types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        check_count(NAME, args.arg_fields.len(), (1, 2))?;
        let schema = match (args.arg_fields.get(1), args.scalar_arguments.get(1).copied().flatten()) {
            (None, _) => None,
            (Some(_), Some(schema)) if schema.is_null() => None,
            (Some(_), schema) => Some(schema.and_then(ScalarValue::try_as_str).flatten().ok_or_else(|| {
                let message = format!("the schema of {NAME} is a constant, the JSON text of an Avro schema");
                refused("DATATYPE_MISMATCH.TYPE_CHECK_FAILURE_WITH_HINT", message)
            })?),
        };
        encoder(&args.arg_fields[0], schema)?;
        Ok(Arc::new(Field::new(NAME, DataType::Binary, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(first), Some(field)) = (args.args.first(), args.arg_fields.first()) else {
            return exec_err!("{NAME} has no argument");
        };
        let schema = match args.args.get(1) {
            Some(ColumnarValue::Scalar(schema)) => schema.try_as_str().flatten(),
            _ => None,
        };
        let encoder = encoder(field, schema)?;
        match first {
            ColumnarValue::Scalar(value) => {
                let one = encode(&value.to_array()?, &encoder)?;
                ScalarValue::try_from_array(&one, 0).map(ColumnarValue::Scalar)
            }
            ColumnarValue::Array(values) => encode(values, &encoder).map(ColumnarValue::Array),
        }
    }
}

fn encoder(field: &Field, schema: Option<&str>) -> Result<AvroEncoder> {
    let data_type = field.data_type();
    let schema = match schema {
        Some(text) => parse(text)?,
        None => {
            let is_nullable = field.is_nullable() && !matches!(data_type, DataType::Struct(_));
            Arc::new(schema_of_type(data_type, is_nullable).map_err(format_error)?)
        }
    };
    AvroEncoder::new(&schema, data_type, Framing::Bare).map_err(format_error)
}

fn encode(values: &ArrayRef, encoder: &AvroEncoder) -> Result<ArrayRef> {
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    encoder.encode_values(values, &mut out, &mut ends).map_err(format_error)?;
    let mut offsets: Vec<i32> = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    for end in ends {
        let Ok(end) = i32::try_from(end) else { return exec_err!("a batch of {NAME} has more than 2 GiB") };
        offsets.push(end);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(out), values.logical_nulls())?))
}
