//! Values as text by a pattern, and text as values: `to_char`, `to_number`, `to_binary`.
//!
//! What `to_char` means depends on the type: numbers take a number pattern ([`super::number_pattern`]), dates and
//! times one of theirs, binaries the name of a coding. Patterns of numbers must be constants: they decide the type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Decimal128Builder, StringArray};
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::Result;

use super::cast::Mode;
use super::number_pattern::NumberPattern;
use super::udf::{Arguments, Invocation, Spec, each, function};
use super::{cast, datetime, encoding, failure, types};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("to_number", (2, 2), |a| number_type(a, "to_number"), |c| to_number(c, Mode::Ansi)),
    function("try_to_number", (2, 2), |a| number_type(a, "try_to_number"), |c| to_number(c, Mode::Try)),
    function("to_char", (2, 2), char_type, to_char).alias(&["to_varchar"]),
    function("to_binary", (1, 2), |a| binary_type(a, Mode::Ansi), |c| to_binary(c, Mode::Ansi)),
    function("try_to_binary", (1, 2), |a| binary_type(a, Mode::Try), |c| to_binary(c, Mode::Try)),
];

fn constant<'a>(arguments: &'a Arguments<'_>, i: usize, name: &str) -> Result<&'a str> {
    arguments.text(i).ok_or_else(|| {
        failure::plan("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT", format!("the format of {name} must be a constant string"))
    })
}

fn number_type(arguments: &Arguments<'_>, name: &str) -> Result<DataType> {
    if arguments.of(1) == DataType::Null {
        return Ok(DataType::Decimal128(10, 0));
    }
    let (precision, scale) = NumberPattern::compile(constant(arguments, 1, name)?)?.decimal();
    Ok(DataType::Decimal128(precision, scale))
}

fn to_number(call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let format = call.constant_text(1).flatten();
    let pattern = format.as_deref().map(NumberPattern::compile).transpose()?;
    let (precision, scale) = types::as_decimal(call.return_type()).unwrap_or((10, 0));
    let mut out = Decimal128Builder::with_capacity(texts.len()).with_precision_and_scale(precision, scale)?;
    for text in &texts {
        match (text, &pattern) {
            (Some(text), Some(pattern)) => match pattern.parse(text) {
                None if mode == Mode::Ansi => return Err(mismatch(text, format.as_deref().unwrap_or_default())),
                value => out.append_option(value),
            },
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn mismatch(text: &str, pattern: &str) -> datafusion::common::DataFusionError {
    failure::data(
        "INVALID_FORMAT.MISMATCH_INPUT",
        format!("'{text}' does not match the number pattern '{pattern}'; use try_to_number to get NULL"),
    )
}

fn char_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let value = arguments.of(0);
    match &value {
        DataType::Date32 | DataType::Timestamp(..) => {}
        DataType::Binary => {
            let format = constant(arguments, 1, "to_char")?;
            if !["base64", "hex", "utf-8"].contains(&format.trim().to_lowercase().as_str()) {
                return Err(failure::plan(
                    "INVALID_PARAMETER_VALUE.BINARY_FORMAT",
                    format!("'{format}' is no coding of a BINARY; use base64, hex or utf-8"),
                ));
            }
        }
        DataType::Boolean | DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => {
            return Err(failure::plan(
                "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                format!("to_char takes a number, a time or a BINARY, found {}", ddl::type_name(&value)),
            ));
        }
        _ if arguments.of(1) == DataType::Null => {}
        _ => {
            NumberPattern::compile(constant(arguments, 1, "to_char")?)?;
        }
    }
    Ok(DataType::Utf8)
}

fn to_char(call: &Invocation<'_>) -> Result<ArrayRef> {
    let from = call.field(0).data_type().clone();
    match &from {
        DataType::Date32 | DataType::Timestamp(..) => datetime::date_format(call),
        DataType::Binary => match call.constant_text(1).flatten().unwrap_or_default().trim().to_lowercase().as_str() {
            "base64" => encoding::base64(call),
            "hex" => encoding::hex(call),
            _ => encoding::decode(call),
        },
        _ => {
            let raw = call.raw(0)?;
            let Some(format) = call.constant_text(1).flatten() else {
                return Ok(arrow::array::new_null_array(&DataType::Utf8, call.rows));
            };
            let pattern = NumberPattern::compile(&format)?;
            let (precision, scale) = match &from {
                DataType::Float64 => (30, 15),
                DataType::Float32 => (14, 7),
                other => types::as_decimal(other).unwrap_or((38, 18)),
            };
            let raw = cast::array(&raw, &DataType::Decimal128(precision, scale), Mode::Ansi, call.zone)?;
            let numbers = raw.as_primitive::<Decimal128Type>();
            let out = numbers.iter().map(|number| number.map(|number| pattern.format(number, scale)));
            Ok(Arc::new(out.collect::<StringArray>()))
        }
    }
}

/// The codings of text that `to_binary` undoes.
fn binary_type(arguments: &Arguments<'_>, mode: Mode) -> Result<DataType> {
    if arguments.fields.len() < 2 || arguments.of(1) == DataType::Null {
        return Ok(DataType::Binary);
    }
    let format = constant(arguments, 1, "to_binary")?;
    if mode == Mode::Ansi && !["hex", "utf-8", "utf8", "base64"].contains(&format.to_lowercase().as_str()) {
        return Err(failure::plan(
            "DATATYPE_MISMATCH.INVALID_ARG_VALUE",
            format!("the format of to_binary is '{format}'; use hex, utf-8, utf8 or base64"),
        ));
    }
    Ok(DataType::Binary)
}

fn to_binary(call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let format = if call.len() > 1 { call.constant_text(1).flatten() } else { Some("hex".to_owned()) };
    let Some(format) = format.map(|format| format.to_lowercase()) else {
        return Ok(arrow::array::new_null_array(&DataType::Binary, call.rows));
    };
    let decode: fn(&str) -> Option<Vec<u8>> = match format.as_str() {
        "hex" => encoding::bytes_of_hex,
        "base64" => encoding::bytes_of_base64,
        "utf-8" | "utf8" => |text| Some(text.as_bytes().to_vec()),
        _ => |_| None,
    };
    let out: BinaryArray = each!(call.rows, (text = texts) => match decode(text) {
        None if mode == Mode::Ansi => Err(failure::data(
            "CONVERSION_INVALID_INPUT",
            format!("'{text}' is not in {format}; use try_to_binary to get NULL"),
        )),
        bytes => Ok(bytes),
    })?;
    Ok(Arc::new(out))
}
