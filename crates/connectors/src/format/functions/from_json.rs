//! `from_json(text, schema [, options])`: a column of documents to a column of structs, arrays or maps.
//!
//! What does not parse is a struct of nulls, or null for an array or a map; with mode FAILFAST it is an error. A null
//! and an empty text are null.
//!
//! The optimizer says which fields of the struct a query uses by a last argument, a `LargeUtf8` constant, which no SQL
//! text can give (see `highwater_engine::plan::json_fields`). The others are then not decoded and are null, unless
//! that could change what is seen of malformed documents: with FAILFAST, or if the corrupt-record column is used. In
//! that form the documents may also be binary, as Kafka gives them; bytes that are no UTF-8 are replaced as in a cast.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, NullBufferBuilder, StructArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use highwater_engine::plan::ddl;

use super::options::{self, Given};
use super::{check_count, failed, format_error, is_text, refused};
use crate::format::column::nullable;
use crate::format::json::{corrupt_column, json_value_decoder};
use crate::format::{Appended, JsonOptions, ParseMode, RecordDecoder, json_decoder};

const NAME: &str = "from_json";

/// The function. It is called volatile, which it is not, so that the optimizer leaves it where the query has it: a
/// filter on one of its fields, moved below it, would decode every document twice.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromJson {
    signature: Signature,
}

impl Default for FromJson {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for FromJson {
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
        let is_planned = args.scalar_arguments.last().copied().flatten().is_some_and(is_field_list);
        let given = args.arg_fields.len() - usize::from(is_planned);
        check_count(NAME, given, (2, 3))?;
        let schema = args.scalar_arguments[1].and_then(ScalarValue::try_as_str).flatten();
        let data_type = result_type(schema.ok_or_else(|| {
            let example = "from_json(value, 'id BIGINT, name STRING')";
            refused("INVALID_SCHEMA.NON_STRING_LITERAL", format!("the schema is a literal, for example {example}"))
        })?)?;
        if given == 3 {
            options::check_type(args.arg_fields[2].data_type())?;
        }
        match args.arg_fields[0].data_type() {
            text if is_text(text) => {}
            DataType::Null => {}
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView if is_planned => {}
            other => {
                let found = ddl::type_name(other);
                return Err(refused(
                    "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                    format!("{NAME} reads STRING, found {found}"),
                ));
            }
        }
        Ok(Arc::new(Field::new(NAME, data_type, true)))
    }

    /// Changes nothing, but says what is wrong with the options before anything runs.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let (Some(Expr::Literal(schema, _)), Some(Expr::Literal(given @ ScalarValue::Map(_), _))) =
            (args.get(1), args.get(2))
            && let Some(schema) = schema.try_as_str().flatten()
        {
            let data_type = result_type(schema)?;
            let session = info.config_options().execution.time_zone.as_deref();
            check_corrupt_column(&data_type, &json_options(&Given::of_scalar(given)?, session, &data_type)?)?;
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (given, used) = match args.args.split_last() {
            Some((ColumnarValue::Scalar(last), given)) if is_field_list(last) => (given, field_list(last)),
            _ => (args.args.as_slice(), None),
        };
        let data_type = args.return_field.data_type();
        let session = args.config_options.execution.time_zone.as_deref();
        let options = json_options(&Given::of_argument(given.get(2))?, session, data_type)?;
        check_corrupt_column(data_type, &options)?;
        match &given[0] {
            ColumnarValue::Scalar(text) => {
                let one = decode(&text.to_array()?, data_type, options, used.as_deref())?;
                ScalarValue::try_from_array(&one, 0).map(ColumnarValue::Scalar)
            }
            ColumnarValue::Array(texts) => decode(texts, data_type, options, used.as_deref()).map(ColumnarValue::Array),
        }
    }
}

fn is_field_list(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::LargeUtf8(_))
}

/// The names in the optimizer's argument; none if all fields are used.
fn field_list(value: &ScalarValue) -> Option<Vec<String>> {
    match value {
        ScalarValue::LargeUtf8(Some(names)) => serde_json::from_str(names).ok(),
        _ => None,
    }
}

/// The type that a schema in DDL words stands for: `a INT, b STRING`, `STRUCT<...>`, `ARRAY<...>` or `MAP<STRING, ...>`.
fn result_type(schema: &str) -> Result<DataType> {
    if schema.trim().is_empty() {
        return Err(refused("PARSE_EMPTY_STATEMENT", format!("the schema of {NAME} is empty")));
    }
    let data_type = match ddl::parse_type(schema) {
        Ok(data_type) => data_type,
        Err(_) => {
            let columns = ddl::parse_schema(schema)
                .map_err(|error| refused("PARSE_SYNTAX_ERROR", format!("the schema of {NAME}: {error}")))?;
            DataType::Struct(columns.fields)
        }
    };
    let whole = Fields::from(vec![Field::new("value", data_type, true)]);
    let data_type = nullable(&whole)[0].data_type().clone();
    match &data_type {
        DataType::Struct(_) | DataType::List(_) => {}
        DataType::Map(..) if has_text_keys(&data_type) => {}
        DataType::Map(..) => {
            let found = ddl::type_name(&data_type);
            return Err(refused(
                "DATATYPE_MISMATCH.INVALID_JSON_MAP_KEY_TYPE",
                format!("the keys of {found} are no STRING"),
            ));
        }
        other => {
            let found = ddl::type_name(other);
            let message = format!("the schema of {NAME} is {found}, expected columns, STRUCT, ARRAY or MAP");
            return Err(refused("DATATYPE_MISMATCH.INVALID_JSON_SCHEMA", message));
        }
    }
    json_value_decoder(&data_type, JsonOptions::default()).map_err(format_error)?;
    Ok(data_type)
}

fn has_text_keys(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(sides) => sides.first().is_some_and(|key| is_text(key.data_type())),
            _ => false,
        },
        _ => false,
    }
}

/// What the options say of reading; a mode that Spark does not know is PERMISSIVE, as there.
fn json_options(given: &Given, session: Option<&str>, data_type: &DataType) -> Result<JsonOptions> {
    let mut options = JsonOptions { session_time_zone: given.zone(session, data_type)?, ..JsonOptions::default() };
    options.mode = given.text("mode").and_then(|mode| mode.parse().ok()).unwrap_or_default();
    if options.mode == ParseMode::DropMalformed {
        let message = format!("{NAME} does not support the mode DROPMALFORMED; use PERMISSIVE or FAILFAST");
        return Err(refused("PARSE_MODE_UNSUPPORTED", message));
    }
    options.timestamp_format = given.text("timestampFormat").cloned();
    options.timestamp_ntz_format = given.text("timestampNTZFormat").cloned();
    options.date_format = given.text("dateFormat").cloned();
    if let Some(name) = given.text("columnNameOfCorruptRecord") {
        options.column_name_of_corrupt_record.clone_from(name);
    }
    Ok(options)
}

fn check_corrupt_column(data_type: &DataType, options: &JsonOptions) -> Result<()> {
    let DataType::Struct(fields) = data_type else { return Ok(()) };
    let name = &options.column_name_of_corrupt_record;
    corrupt_column(fields, name).map(drop).map_err(|_| {
        failed("INVALID_CORRUPT_RECORD_TYPE", format!("the column `{name}` for corrupt records is no STRING"))
    })
}

fn decode(texts: &ArrayRef, data_type: &DataType, options: JsonOptions, used: Option<&[String]>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = data_type else {
        let mut decoder = json_value_decoder(data_type, options).map_err(format_error)?;
        append_all(decoder.as_mut(), texts)?;
        return Ok(Arc::clone(decoder.flush().map_err(format_error)?.column(0)));
    };
    let read: Vec<bool> = fields_to_read(fields, &options, used);
    let schema: Fields = fields.iter().zip(&read).filter(|(_, read)| **read).map(|(field, _)| field.clone()).collect();
    let mut decoder = json_decoder(Arc::new(Schema::new(schema)), options).map_err(format_error)?;
    let nulls = append_all(decoder.as_mut(), texts)?;
    let rows = decoder.flush().map_err(format_error)?;
    let mut decoded = rows.columns().iter();
    let column = |(field, read): (&FieldRef, &bool)| match read.then(|| decoded.next()).flatten() {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), texts.len()),
    };
    let columns = fields.iter().zip(&read).map(column).collect();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, texts.len())?))
}

/// Which fields are decoded: those that are used, found by name as field access finds them.
fn fields_to_read(fields: &Fields, options: &JsonOptions, used: Option<&[String]>) -> Vec<bool> {
    let all = vec![true; fields.len()];
    let Some(used) = used.filter(|_| options.mode == ParseMode::Permissive) else { return all };
    let mut read = vec![false; fields.len()];
    for name in used {
        let exact = fields.iter().position(|field| field.name() == name);
        match exact.or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name))) {
            Some(at) if *fields[at].name() != options.column_name_of_corrupt_record => read[at] = true,
            _ => return all,
        }
    }
    read
}

/// Appends a column of documents; which of them are null or empty.
fn append_all(decoder: &mut dyn RecordDecoder, texts: &ArrayRef) -> Result<Option<NullBuffer>> {
    match texts.data_type() {
        DataType::Utf8 => append_each(decoder, texts.as_string::<i32>().iter().map(|text| text.map(str::as_bytes))),
        DataType::Utf8View => append_each(decoder, texts.as_string_view().iter().map(|text| text.map(str::as_bytes))),
        DataType::Binary => {
            let documents = texts.as_binary::<i32>();
            if documents.value_data().is_ascii() {
                return append_each(decoder, documents.iter());
            }
            let documents: Vec<Option<Cow<'_, [u8]>>> = documents.iter().map(|bytes| bytes.map(as_text)).collect();
            append_each(decoder, documents.iter().map(Option::as_deref))
        }
        DataType::LargeBinary | DataType::BinaryView => append_all(decoder, &cast(texts, &DataType::Binary)?),
        _ => append_all(decoder, &cast(texts, &DataType::Utf8)?),
    }
}

fn append_each<'a>(
    decoder: &mut dyn RecordDecoder,
    documents: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
) -> Result<Option<NullBuffer>> {
    let mut nulls = NullBufferBuilder::new(documents.len());
    for document in documents {
        let appended = match document {
            Some(document) => decoder.append(document).map_err(format_error)?,
            None => {
                decoder.append_null();
                Appended::Null
            }
        };
        nulls.append(appended != Appended::Null);
    }
    Ok(nulls.finish())
}

/// The bytes as the text that a cast to STRING makes of them.
fn as_text(bytes: &[u8]) -> Cow<'_, [u8]> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}
