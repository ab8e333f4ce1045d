//! `schema_of_json(text [, options])`: the schema of one constant document in DDL words, for `from_json`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use highwater_engine::plan::ddl;

use super::options::{self, Given};
use super::{check_count, failed, is_text, refused};
use crate::format::json::infer::kind_of;

const NAME: &str = "schema_of_json";

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SchemaOfJson {
    signature: Signature,
}

impl Default for SchemaOfJson {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SchemaOfJson {
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
            text if is_text(text) => Ok(Arc::new(Field::new(NAME, DataType::Utf8, true))),
            DataType::Null => Err(null_document()),
            other => {
                let message = format!("{NAME} reads STRING, found {}", ddl::type_name(other));
                Err(refused("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message))
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Given::of_argument(args.args.get(1))?;
        let Some(ColumnarValue::Scalar(document)) = args.args.first() else {
            return Err(refused("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT", format!("{NAME} reads a constant document")));
        };
        let Some(document) = document.try_as_str().flatten() else { return Err(null_document()) };
        let schema = schema_of(document)?;
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(schema))))
    }
}

fn null_document() -> datafusion::error::DataFusionError {
    refused("DATATYPE_MISMATCH.UNEXPECTED_NULL", format!("{NAME} reads a document, found NULL"))
}

fn schema_of(document: &str) -> Result<String> {
    let kind = kind_of(document.as_bytes()).map_err(|reason| failed("MALFORMED_RECORD_IN_PARSING", reason))?;
    // An object without fields is no type of ours.
    Ok(kind.data_type().map_or_else(|| "STRUCT<>".to_owned(), |data_type| ddl::type_name(&data_type)))
}
