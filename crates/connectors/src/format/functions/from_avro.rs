//! `from_avro(bytes, schema [, options])`: a column of single Avro values to a column of what the schema says.
//!
//! | option | says |
//! |---|---|
//! | `mode` | `FAILFAST`, the default: a malformed value is an error; `PERMISSIVE`: a struct of nulls, or null |
//! | `avroSchema` | a schema of the reader's, to which values are resolved: other fields, defaults, aliases, wider numbers |
//!
//! Spark's other options are taken where they change nothing and refused where they would. The planner gives them as
//! arguments one by one (`highwater_engine::plan::functions`), because they decide the type of the result.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use highwater_engine::plan::ddl;

use super::options::Given;
use super::{check_count, failed, format_error, refused};
use crate::format::ParseMode;
use crate::format::avro::{AvroOptions, AvroSchema, ValueDecoder, type_of_schema};
use crate::format::column::nullable;

const NAME: &str = "from_avro";

/// Options of Spark that are not here, with the value that is no change.
const FIXED: [(&str, &str); 3] = [
    ("datetimeRebaseMode", "CORRECTED"),
    ("enableStableIdentifiersForUnionType", "false"),
    ("recursiveFieldMaxDepth", "-1"),
];

/// The function. Volatile for the same reason as `from_json`: so that no value is decoded twice.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromAvro {
    signature: Signature,
}

impl Default for FromAvro {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for FromAvro {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        exec_err!("the type of {NAME} follows from its schema")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        // Options are two arguments each.
        check_count(NAME, args.arg_fields.len().min(3), (2, 3))?;
        let given = args.scalar_arguments[2..].iter().copied().map(text_of);
        let (_, data_type) = settings(text_of(args.scalar_arguments[1]), given)?;
        match args.arg_fields[0].data_type() {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null => {}
            other => {
                let message = format!("{NAME} reads BINARY, found {}", ddl::type_name(other));
                return Err(refused("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message));
            }
        }
        Ok(Arc::new(Field::new(NAME, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars: Vec<Option<&ScalarValue>> = args.args.iter().map(constant).collect();
        let [_, schema, given @ ..] = scalars.as_slice() else { return exec_err!("{NAME} has no schema") };
        let (options, data_type) = settings(text_of(*schema), given.iter().copied().map(text_of))?;
        match &args.args[0] {
            ColumnarValue::Scalar(value) => {
                let one = decode(&value.to_array()?, &data_type, &options)?;
                ScalarValue::try_from_array(&one, 0).map(ColumnarValue::Scalar)
            }
            ColumnarValue::Array(values) => decode(values, &data_type, &options).map(ColumnarValue::Array),
        }
    }
}

fn constant(argument: &ColumnarValue) -> Option<&ScalarValue> {
    match argument {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(_) => None,
    }
}

fn text_of(argument: Option<&ScalarValue>) -> Option<&str> {
    argument.and_then(|value| value.try_as_str().flatten())
}

/// A schema in an argument or option.
pub(super) fn parse(text: &str) -> Result<Arc<AvroSchema>> {
    let schema = AvroSchema::parse(text).map_err(|error| format_error(error.into()))?;
    Ok(Arc::new(schema))
}

/// How values are read, and what they become; `given` has names and values of options in turn.
fn settings<'a>(schema: Option<&str>, given: impl Iterator<Item = Option<&'a str>>) -> Result<(AvroOptions, DataType)> {
    let given = Given::of_pairs(given)?;
    let schema = schema.ok_or_else(|| {
        let message = format!("the schema of {NAME} is a constant, the JSON text of an Avro schema");
        refused("DATATYPE_MISMATCH.TYPE_CHECK_FAILURE_WITH_HINT", message)
    })?;
    for (name, fixed) in FIXED {
        if let Some(value) = given.text(name).filter(|value| !value.eq_ignore_ascii_case(fixed)) {
            let message = format!("option '{name}' is '{value}', which is not supported; it is always '{fixed}'");
            return Err(refused("UNSUPPORTED_OPTION", message));
        }
    }
    let mut options = AvroOptions::new(parse(schema)?);
    options.mode = given.text("mode").and_then(|mode| mode.parse().ok()).unwrap_or(ParseMode::FailFast);
    if options.mode == ParseMode::DropMalformed {
        let message = format!("{NAME} does not support the mode DROPMALFORMED; use PERMISSIVE or FAILFAST");
        return Err(refused("PARSE_MODE_UNSUPPORTED", message));
    }
    options.reader = given.text("avroSchema").map(|reader| parse(reader)).transpose()?;
    let seen = options.reader.as_ref().unwrap_or(&options.writer);
    let (data_type, _) = type_of_schema(seen).map_err(format_error)?;
    let data_type = match options.mode {
        ParseMode::Permissive => {
            let whole = Fields::from(vec![Field::new("value", data_type, true)]);
            nullable(&whole)[0].data_type().clone()
        }
        _ => data_type,
    };
    // Says what does not fit before anything runs.
    ValueDecoder::new(&data_type, &options, None).map_err(format_error)?;
    Ok((options, data_type))
}

fn decode(values: &ArrayRef, data_type: &DataType, options: &AvroOptions) -> Result<ArrayRef> {
    let mut decoder = ValueDecoder::new(data_type, options, None).map_err(format_error)?;
    let values = cast(values, &DataType::Binary)?;
    for value in values.as_binary::<i32>() {
        let Some(value) = value else {
            decoder.push_null();
            continue;
        };
        match decoder.append(value) {
            Ok(()) => {}
            Err(_) if options.mode == ParseMode::Permissive => decoder.push_nothing(),
            Err(reason) => {
                let message =
                    format!("malformed Avro value in FAILFAST mode: {reason}; use mode PERMISSIVE to get NULL");
                return Err(failed("MALFORMED_AVRO_MESSAGE", message));
            }
        }
    }
    let decoded = decoder.finish().map_err(format_error)?;
    debug_assert_eq!(decoded.len(), values.len());
    Ok(decoded)
}
