//! `from_csv(text, schema [, options])`, `to_csv(struct [, options])` and `schema_of_csv(text [, options])`, with the
//! decoder and the encoder of files.
//!
//! A line with fields that do not fit is a struct with nulls for them; with mode FAILFAST it is an error. A null stays
//! null. `from_csv` refuses columns that are no single values; all refuse Spark's options that nothing here knows.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, NullBufferBuilder, RecordBatch, RecordBatchOptions, StringArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use highwater_engine::plan::datetime_pattern::cast::{parse_date, parse_timestamp, parse_timestamp_ntz};
use highwater_engine::plan::ddl;
use highwater_engine::plan::functions::text_of;

use super::options::{self, Given};
use super::{check_count, format_error, is_text, refused};
use crate::format::csv::split;
use crate::format::{CsvOptions, CsvWriteOptions, FormatError, ParseMode, csv_decoder, csv_encode_rows};

type Returns = fn(&ReturnFieldArgs<'_>) -> Result<DataType>;
type Evaluate = fn(&ScalarFunctionArgs, &Given) -> Result<ColumnarValue>;

/// The three functions.
pub(super) fn all() -> [Arc<ScalarUDF>; 3] {
    let function = |name: &'static str, counts: (usize, usize), returns: Returns, evaluate: Evaluate| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(CsvFunction { name, counts, returns, evaluate, signature }))
    };
    [
        function("from_csv", (2, 3), read_type, from_csv),
        function("to_csv", (1, 2), written_type, to_csv),
        function("schema_of_csv", (1, 2), schema_type, schema_of_csv),
    ]
}

/// One of them.
struct CsvFunction {
    name: &'static str,
    /// How many arguments there are; the last that may be left out gives the options.
    counts: (usize, usize),
    returns: Returns,
    evaluate: Evaluate,
    signature: Signature,
}

impl std::fmt::Debug for CsvFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for CsvFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for CsvFunction {}

impl Hash for CsvFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for CsvFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check_count(self.name, types.len(), self.counts)?;
        Ok(types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        exec_err!("the type of {} follows from its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        check_count(self.name, args.arg_fields.len(), self.counts)?;
        if let Some(given) = args.arg_fields.get(self.counts.0) {
            options::check_type(given.data_type())?;
        }
        Ok(Arc::new(Field::new(self.name, (self.returns)(&args)?, true)))
    }

    /// Changes nothing, but says what is wrong with the options before anything runs.
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let Some(Expr::Literal(given @ ScalarValue::Map(_), _)) = args.get(self.counts.0) {
            Given::of_csv(given)?;
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = match args.args.get(self.counts.0) {
            None => Given::default(),
            Some(ColumnarValue::Scalar(given)) => Given::of_csv(given)?,
            Some(ColumnarValue::Array(_)) => return Err(options::not_constant()),
        };
        (self.evaluate)(&args, &given)
    }
}

/// Evaluates a function of one column; of a constant as a column of one row.
fn each(value: &ColumnarValue, f: impl FnOnce(&ArrayRef) -> Result<ArrayRef>) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(values) => f(values).map(ColumnarValue::Array),
        ColumnarValue::Scalar(value) => {
            ScalarValue::try_from_array(&f(&value.to_array()?)?, 0).map(ColumnarValue::Scalar)
        }
    }
}

fn check_text(name: &str, found: &DataType) -> Result<()> {
    if is_text(found) || *found == DataType::Null {
        return Ok(());
    }
    let message = format!("{name} reads STRING, found {}", ddl::type_name(found));
    Err(refused("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message))
}

/// The struct that the schema, a literal in DDL words, stands for.
fn read_type(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    check_text("from_csv", args.arg_fields[0].data_type())?;
    let schema = args.scalar_arguments[1].and_then(ScalarValue::try_as_str).flatten().ok_or_else(|| {
        refused(
            "INVALID_SCHEMA.NON_STRING_LITERAL",
            "the schema is a literal, for example from_csv(value, 'id BIGINT')",
        )
    })?;
    if schema.trim().is_empty() {
        return Err(refused("PARSE_EMPTY_STATEMENT", "the schema of from_csv is empty"));
    }
    let fields = match ddl::parse_type(schema) {
        Ok(DataType::Struct(fields)) => fields,
        Ok(other) => {
            let message = format!("the schema of from_csv is {}, expected columns", ddl::type_name(&other));
            return Err(refused("INVALID_SCHEMA.NON_STRUCT_TYPE", message));
        }
        Err(_) => {
            ddl::parse_schema(schema)
                .map_err(|error| refused("PARSE_SYNTAX_ERROR", format!("the schema of from_csv: {error}")))?
                .fields
        }
    };
    let fields: Fields = fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    csv_decoder(Arc::new(Schema::new(fields.clone())), CsvOptions::default()).map_err(csv_error)?;
    Ok(DataType::Struct(fields))
}

fn csv_error(error: FormatError) -> datafusion::error::DataFusionError {
    match &error {
        FormatError::Type { .. } => refused("UNSUPPORTED_DATATYPE", error),
        _ => format_error(error),
    }
}

/// The byte that an option names.
fn byte(given: &Given, name: &str) -> Option<u8> {
    given.text(name).and_then(|text| text.bytes().next())
}

fn separator(given: &Given) -> String {
    given.text("sep").or_else(|| given.text("delimiter")).map_or(",", String::as_str).replace("\\t", "\t")
}

fn read_options(given: &Given, session: Option<&str>, data_type: &DataType) -> Result<CsvOptions> {
    let defaults = CsvOptions::default();
    let mode = given.text("mode").and_then(|mode| mode.parse().ok()).unwrap_or_default();
    if mode == ParseMode::DropMalformed {
        let message = "from_csv does not support the mode DROPMALFORMED; use PERMISSIVE or FAILFAST";
        return Err(refused("PARSE_MODE_UNSUPPORTED", message));
    }
    let text = |name: &str, default: String| given.text(name).cloned().unwrap_or(default);
    Ok(CsvOptions {
        mode,
        sep: separator(given),
        quote: given.text("quote").map_or(defaults.quote, |quote| quote.bytes().next()),
        escape: byte(given, "escape").unwrap_or(defaults.escape),
        comment: byte(given, "comment"),
        null_value: text("nullValue", defaults.null_value),
        empty_value: text("emptyValue", defaults.empty_value),
        nan_value: text("nanValue", defaults.nan_value),
        positive_inf: text("positiveInf", defaults.positive_inf),
        negative_inf: text("negativeInf", defaults.negative_inf),
        ignore_leading_white_space: given.flag("ignoreLeadingWhiteSpace", false)?,
        ignore_trailing_white_space: given.flag("ignoreTrailingWhiteSpace", false)?,
        timestamp_format: given.text("timestampFormat").cloned(),
        timestamp_ntz_format: given.text("timestampNTZFormat").cloned(),
        date_format: given.text("dateFormat").cloned(),
        column_name_of_corrupt_record: text("columnNameOfCorruptRecord", defaults.column_name_of_corrupt_record),
        session_time_zone: given.zone(session, data_type)?,
        line_columns: None,
        skip_blank_records: false,
    })
}

fn from_csv(args: &ScalarFunctionArgs, given: &Given) -> Result<ColumnarValue> {
    let data_type = args.return_field.data_type();
    let DataType::Struct(fields) = data_type else { return exec_err!("from_csv gives structs") };
    let options = read_options(given, args.config_options.execution.time_zone.as_deref(), data_type)?;
    let decoder = csv_decoder(Arc::new(Schema::new(fields.clone())), options).map_err(csv_error);
    let mut decoder = decoder?;
    each(&args.args[0], |texts| {
        let texts = cast(texts, &DataType::Utf8)?;
        let mut nulls = NullBufferBuilder::new(texts.len());
        for text in texts.as_string::<i32>() {
            let before = decoder.len();
            if let Some(text) = text {
                decoder.append(text.as_bytes()).map_err(format_error)?;
            }
            // Nothing is appended of a comment.
            if decoder.len() == before {
                decoder.append_null();
            }
            nulls.append(text.is_some());
        }
        let rows = decoder.flush().map_err(format_error)?;
        Ok(Arc::new(StructArray::try_new_with_length(
            fields.clone(),
            rows.columns().to_vec(),
            nulls.finish(),
            texts.len(),
        )?))
    })
}

fn written_type(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    match args.arg_fields[0].data_type() {
        DataType::Null => Ok(DataType::Utf8),
        DataType::Struct(_) => Ok(DataType::Utf8),
        other => {
            let message = format!("to_csv writes STRUCT, found {}", ddl::type_name(other));
            Err(refused("DATATYPE_MISMATCH.UNSUPPORTED_INPUT_TYPE", message))
        }
    }
}

fn write_options(given: &Given, session: Option<&str>, data_type: &DataType) -> Result<CsvWriteOptions> {
    let defaults = CsvWriteOptions::default();
    let text = |name: &str, default: String| given.text(name).cloned().unwrap_or(default);
    Ok(CsvWriteOptions {
        sep: separator(given),
        quote: byte(given, "quote").unwrap_or(defaults.quote),
        escape: byte(given, "escape").unwrap_or(defaults.escape),
        null_value: text("nullValue", defaults.null_value),
        empty_value: text("emptyValue", defaults.empty_value),
        quote_all: given.flag("quoteAll", false)?,
        ignore_leading_white_space: given.flag("ignoreLeadingWhiteSpace", true)?,
        ignore_trailing_white_space: given.flag("ignoreTrailingWhiteSpace", true)?,
        timestamp_format: given.text("timestampFormat").cloned(),
        timestamp_ntz_format: given.text("timestampNTZFormat").cloned(),
        date_format: given.text("dateFormat").cloned(),
        session_time_zone: given.zone(session, data_type)?,
        row_end: String::new(),
    })
}

/// The columns with those that are nested as text, as a cast writes it.
fn plain(fields: &Fields, columns: &[ArrayRef], session: Option<&str>) -> Result<(Vec<FieldRef>, Vec<ArrayRef>)> {
    let plain = |(field, column): (&FieldRef, &ArrayRef)| -> Result<(FieldRef, ArrayRef)> {
        if !field.data_type().is_nested() {
            return Ok((Arc::clone(field), Arc::clone(column)));
        }
        let texts = text_of(column, session.unwrap_or("UTC"))?;
        Ok((Arc::new(Field::new(field.name(), DataType::Utf8, true)), Arc::new(texts)))
    };
    fields.iter().zip(columns).map(plain).collect()
}

fn to_csv(args: &ScalarFunctionArgs, given: &Given) -> Result<ColumnarValue> {
    let session = args.config_options.execution.time_zone.as_deref();
    let options = write_options(given, session, &args.args[0].data_type())?;
    each(&args.args[0], |values| {
        let DataType::Struct(fields) = values.data_type() else {
            return Ok(arrow::array::new_null_array(&DataType::Utf8, values.len()));
        };
        let (fields, columns) = plain(fields, values.as_struct().columns(), session)?;
        let rows = RecordBatch::try_new_with_options(
            Arc::new(Schema::new(fields)),
            columns,
            &RecordBatchOptions::new().with_row_count(Some(values.len())),
        )?;
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        csv_encode_rows(&rows, &options, &mut out, &mut ends).map_err(format_error)?;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let line = |(row, (start, end)): (usize, (usize, &usize))| {
            values.is_valid(row).then(|| String::from_utf8_lossy(&out[start..*end]))
        };
        Ok(Arc::new(starts.zip(&ends).enumerate().map(line).collect::<StringArray>()))
    })
}

fn schema_type(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    check_text("schema_of_csv", args.arg_fields[0].data_type())?;
    Ok(DataType::Utf8)
}

/// The columns that a constant line has, named by their places, of the narrowest types that its fields fit.
fn schema_of_csv(args: &ScalarFunctionArgs, given: &Given) -> Result<ColumnarValue> {
    let ColumnarValue::Scalar(line) = &args.args[0] else {
        return Err(refused("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT", "schema_of_csv reads a constant line"));
    };
    let Some(line) = line.try_as_str().flatten() else {
        return Err(refused("DATATYPE_MISMATCH.UNEXPECTED_NULL", "schema_of_csv reads a line, found NULL"));
    };
    let session = args.config_options.execution.time_zone.as_deref();
    let options = read_options(given, session, &DataType::Utf8)?;
    let field = |(at, field): (usize, Option<std::borrow::Cow<'_, str>>)| {
        let data_type = field.filter(|text| **text != options.null_value).map_or(DataType::Utf8, |text| kind(&text));
        Field::new(format!("_c{at}"), data_type, true)
    };
    let fields: Fields = split(line, &options).into_iter().enumerate().map(field).collect();
    Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(ddl::type_name(&DataType::Struct(fields))))))
}

/// The narrowest type of a field.
fn kind(text: &str) -> DataType {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // As in Java, spaces around a number with a fraction do not matter.
    let is_number = text.contains(|c: char| c.is_ascii_digit()) && text.trim().parse::<f64>().is_ok();
    match text {
        text if text.parse::<i32>().is_ok() => DataType::Int32,
        text if text.parse::<i64>().is_ok() => DataType::Int64,
        _ if is_whole && digits.len() <= 38 => DataType::Decimal128(digits.len() as u8, 0),
        _ if is_number => DataType::Float64,
        text if text.len() >= 10 && !text.contains([' ', 'T']) && parse_date(text).is_some() => DataType::Date32,
        text if text.len() >= 10 && parse_timestamp_ntz(text).is_some() => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        text if text.len() >= 10 && parse_timestamp(text, Tz::UTC).is_some() => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        text if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => DataType::Boolean,
        _ => DataType::Utf8,
    }
}
