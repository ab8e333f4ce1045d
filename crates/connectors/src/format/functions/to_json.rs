//! `to_json(struct | array | map [, options])`: a column of values to a column of texts. A null stays null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, new_null_array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use highwater_engine::plan::ddl;

use super::options::{self, Given};
use super::{check_count, format_error, pretty, refused};
use crate::format::JsonWriteOptions;
use crate::format::json_encode::json_encode_values;

const NAME: &str = "to_json";

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToJson {
    signature: Signature,
}

impl Default for ToJson {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToJson {
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
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        check_count(NAME, args.arg_fields.len(), (1, 2))?;
        if let Some(given) = args.arg_fields.get(1) {
            options::check_type(given.data_type())?;
        }
        match args.arg_fields[0].data_type() {
            DataType::Struct(_) | DataType::List(_) | DataType::Map(..) | DataType::Null => {}
            other => {
                let message = format!("{NAME} writes STRUCT, ARRAY and MAP, found {}", ddl::type_name(other));
                return Err(refused("DATATYPE_MISMATCH.INVALID_JSON_SCHEMA", message));
            }
        }
        Ok(Arc::new(Field::new(NAME, DataType::Utf8, true)))
    }

    /// Changes nothing, but says what is wrong with the options before anything runs.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let Some(Expr::Literal(given @ ScalarValue::Map(_), _)) = args.get(1) {
            let session = info.config_options().execution.time_zone.as_deref();
            let given = Given::of_scalar(given)?;
            write_options(&given, session, &info.get_data_type(&args[0])?)?;
            given.flag("pretty", false)?;
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = args.args.first() else { return exec_err!("{NAME} has no argument") };
        let given = Given::of_argument(args.args.get(1))?;
        let session = args.config_options.execution.time_zone.as_deref();
        let options = write_options(&given, session, &first.data_type())?;
        let is_pretty = given.flag("pretty", false)?;
        match first {
            ColumnarValue::Scalar(value) => {
                let one = encode(&value.to_array()?, &options, is_pretty)?;
                ScalarValue::try_from_array(&one, 0).map(ColumnarValue::Scalar)
            }
            ColumnarValue::Array(values) => encode(values, &options, is_pretty).map(ColumnarValue::Array),
        }
    }
}

fn write_options(given: &Given, session: Option<&str>, data_type: &DataType) -> Result<JsonWriteOptions> {
    Ok(JsonWriteOptions {
        ignore_null_fields: given.flag("ignoreNullFields", true)?,
        timestamp_format: given.text("timestampFormat").cloned(),
        timestamp_ntz_format: given.text("timestampNTZFormat").cloned(),
        date_format: given.text("dateFormat").cloned(),
        session_time_zone: given.zone(session, data_type)?,
        ..JsonWriteOptions::default()
    })
}

fn encode(values: &ArrayRef, options: &JsonWriteOptions, is_pretty: bool) -> Result<ArrayRef> {
    if *values.data_type() == DataType::Null {
        return Ok(new_null_array(&DataType::Utf8, values.len()));
    }
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    json_encode_values(values, options, &mut out, &mut ends).map_err(format_error)?;
    if is_pretty {
        (out, ends) = pretty::all(&out, &ends);
    }
    let mut offsets: Vec<i32> = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    for end in ends {
        let Ok(end) = i32::try_from(end) else { return exec_err!("a batch of {NAME} has more than 2 GiB of text") };
        offsets.push(end);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(out), values.nulls().cloned())?))
}
