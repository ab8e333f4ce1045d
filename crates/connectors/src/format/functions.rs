//! `from_json(text, 'schema')` as an SQL function: the same decoder that reads topics and files, a row at a time.
//!
//! It is Spark's function in PERMISSIVE mode: what does not parse is a struct of nulls, and a null stays null. The
//! schema is a literal in Spark's DDL words; options as a third argument are refused.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use highwater_engine::plan::ddl;

use super::{JsonOptions, json_decoder};

/// The function `from_json`.
pub(crate) fn from_json() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(FromJson { signature: Signature::any(2, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FromJson {
    signature: Signature,
}

impl ScalarUDFImpl for FromJson {
    fn name(&self) -> &str {
        "from_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("the type of from_json follows from its schema")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let schema = args.scalar_arguments.get(1).copied().flatten().and_then(ScalarValue::try_as_str).flatten();
        let Some(schema) = schema else {
            return plan_err!(
                "from_json takes its schema as a literal, e.g. from_json(value, 'id BIGINT, name STRING')"
            );
        };
        Ok(Arc::new(Field::new(self.name(), DataType::Struct(columns(schema)?), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Struct(fields) = args.return_field.data_type() else {
            return exec_err!("from_json gives {}, expected STRUCT", args.return_field.data_type());
        };
        let texts = cast(&args.args[0].to_array(args.number_rows)?, &DataType::Utf8)?;
        Ok(ColumnarValue::Array(decode(&texts, fields)?))
    }
}

/// The columns of `a INT, b STRING` or of `STRUCT<a: INT, b: STRING>`.
fn columns(schema: &str) -> Result<Fields> {
    let failed = |error: ddl::DdlError| DataFusionError::Plan(format!("the schema of from_json: {error}"));
    if !schema.trim_start().to_ascii_lowercase().starts_with("struct") {
        return Ok(nullable(ddl::parse_schema(schema).map_err(failed)?.fields()));
    }
    match ddl::parse_type(schema).map_err(failed)? {
        DataType::Struct(fields) => Ok(nullable(&fields)),
        other => plan_err!("from_json gives a STRUCT, found the schema {other}"),
    }
}

fn nullable(fields: &Fields) -> Fields {
    fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect()
}

fn decode(texts: &ArrayRef, fields: &Fields) -> Result<ArrayRef> {
    let failed = |error: super::FormatError| DataFusionError::External(Box::new(error));
    let mut decoder = json_decoder(Arc::new(Schema::new(fields.clone())), JsonOptions::default()).map_err(failed)?;
    for text in texts.as_string::<i32>() {
        match text {
            Some(text) => {
                decoder.append(text.as_bytes()).map_err(failed)?;
            }
            None => decoder.append_null(),
        }
    }
    let rows = decoder.flush().map_err(failed)?;
    let columns = rows.columns().iter().zip(fields).map(|(column, field)| Ok(cast(column, field.data_type())?));
    let nulls = texts.nulls().cloned().filter(|nulls: &NullBuffer| nulls.null_count() > 0);
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns.collect::<Result<_>>()?, nulls)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use arrow::util::display::array_value_to_string;

    use super::*;

    #[test]
    fn texts_become_structs() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some(r#"{"a": 1, "b": {"c": "x"}}"#),
            Some("nonsense"),
            None,
            Some(r#"{"a": "one"}"#),
        ]));
        let fields = columns("a BIGINT, b STRUCT<c: STRING>").unwrap();
        let structs = decode(&texts, &fields).unwrap();
        let shown: Vec<String> = (0..4).map(|row| array_value_to_string(&structs, row).unwrap()).collect();
        assert_eq!(shown, ["{a: 1, b: {c: x}}", "{a: , b: }", "", "{a: , b: }"]);
        assert_eq!(columns("STRUCT<a: INT>").unwrap().len(), 1);
        assert!(columns("a INTT").is_err());
    }
}
