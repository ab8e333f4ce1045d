//! The types aggregates take: scalar functions that the lowering puts around their arguments.
//!
//! Each checks the argument's type and casts it as Spark does; where there is nothing to cast the optimizer takes it
//! away again, so that a column is read as it is.

use arrow::array::{Array, ArrayRef};
use arrow::compute::{is_null, nullif};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Cast, Expr};

use crate::operator::normal::{has_floats, normalized};
use crate::plan::functions::udf::{Invocation, Spec, first, function};
use crate::plan::functions::{cast, encoding, failure, types};

macro_rules! inputs {
    ($($name:literal => $type_of:ident),+ $(,)?) => {
        &[
            $(function($name, (1, 1), |arguments| $type_of(&arguments.of(0)), convert)
                .simplified_by(|args, info| simplified(args, info, $type_of)),)+
            function("as_normal", (1, 1), first, normal).simplified_by(normal_where_needed),
            function(super::HASH_FOR_COUNT, (1, 1), |_| Ok(DataType::Int64), hash_for_count),
        ]
    };
}

pub(in crate::plan::functions) const TABLE: &[Spec] = inputs! {
    "summand" => summand,
    "addend" => addend,
    "as_double" => double,
    "as_boolean" => boolean,
    "as_integral" => integral,
    "as_long" => long,
    "as_ordered" => ordered,
    "as_hashable" => hashable,
    "as_measure" => measure,
    "as_text" => text,
    "as_counted" => counted,
    "as_binary" => binary,
    "as_sketched" => sketched,
};

fn convert(call: &Invocation<'_>) -> Result<ArrayRef> {
    call.array(0, call.return_type())
}

/// Takes the call away where its argument has the type already, or Arrow's cast does the same.
fn simplified(
    args: Vec<Expr>,
    info: &SimplifyContext,
    type_of: fn(&DataType) -> Result<DataType>,
) -> Result<ExprSimplifyResult> {
    let [value] = args.as_slice() else { return Ok(ExprSimplifyResult::Original(args)) };
    let from = info.get_data_type(value)?;
    let to = type_of(&from)?;
    Ok(match (from == to, cast::is_plain(&from, &to)) {
        (true, _) => ExprSimplifyResult::Simplified(value.clone()),
        (_, true) => ExprSimplifyResult::Simplified(Expr::Cast(Cast::new(Box::new(value.clone()), to))),
        _ => ExprSimplifyResult::Original(args),
    })
}

fn unexpected<T>(found: &DataType, expected: &str) -> Result<T> {
    let found = types::simple_string(found).to_uppercase();
    Err(failure::plan(
        "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
        format!("an aggregate takes {expected} here, found {found}; cast the argument"),
    ))
}

/// What is read as a DOUBLE where a number is asked for.
fn is_like_double(data_type: &DataType) -> bool {
    types::is_string(data_type)
        || matches!(data_type, DataType::Null | DataType::Float32 | DataType::Timestamp(_, Some(_)))
}

/// What `sum` adds up: small integers as BIGINT, floats and strings as DOUBLE.
fn summand(from: &DataType) -> Result<DataType> {
    match from {
        text if is_like_double(text) => Ok(DataType::Float64),
        whole if types::is_integral(whole) => Ok(DataType::Int64),
        DataType::Float64 | DataType::Decimal128(..) | DataType::Interval(_) => Ok(from.clone()),
        other => unexpected(other, "a number or an interval"),
    }
}

/// What `avg` adds up: decimals and intervals stay, all else is a DOUBLE.
fn addend(from: &DataType) -> Result<DataType> {
    match summand(from)? {
        DataType::Int64 => Ok(DataType::Float64),
        other => Ok(other),
    }
}

fn double(from: &DataType) -> Result<DataType> {
    match from {
        text if is_like_double(text) => Ok(DataType::Float64),
        DataType::Float64 | DataType::Decimal128(..) => Ok(DataType::Float64),
        whole if types::is_integral(whole) => Ok(DataType::Float64),
        other => unexpected(other, "a number"),
    }
}

fn boolean(from: &DataType) -> Result<DataType> {
    match from {
        DataType::Boolean | DataType::Null => Ok(DataType::Boolean),
        text if types::is_string(text) => Ok(DataType::Boolean),
        other => unexpected(other, "BOOLEAN"),
    }
}

fn integral(from: &DataType) -> Result<DataType> {
    match from {
        DataType::Null => Ok(DataType::Int32),
        whole if types::is_integral(whole) => Ok(from.clone()),
        other => unexpected(other, "a whole number"),
    }
}

fn long(from: &DataType) -> Result<DataType> {
    match double(from) {
        Ok(_) => Ok(DataType::Int64),
        Err(_) => unexpected(from, "BIGINT"),
    }
}

fn ordered(from: &DataType) -> Result<DataType> {
    if types::has_map(from) {
        let found = types::simple_string(from).to_uppercase();
        return Err(failure::plan("DATATYPE_MISMATCH.INVALID_ORDERING_TYPE", format!("{found} has no order")));
    }
    Ok(from.clone())
}

fn hashable(from: &DataType) -> Result<DataType> {
    if types::has_map(from) {
        let found = types::simple_string(from).to_uppercase();
        return Err(failure::plan(
            "DATATYPE_MISMATCH.UNSUPPORTED_INPUT_TYPE",
            format!("collect_set cannot have {found} elements; use map_entries(m)"),
        ));
    }
    Ok(from.clone())
}

/// What percentiles and histograms are made of; they keep its type.
fn measure(from: &DataType) -> Result<DataType> {
    match from {
        text if types::is_string(text) || matches!(text, DataType::Null) => Ok(DataType::Float64),
        DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Timestamp(..) => Ok(from.clone()),
        whole if types::is_integral(whole) => Ok(from.clone()),
        other => unexpected(other, "a number, a date or a time"),
    }
}

fn text(from: &DataType) -> Result<DataType> {
    match from {
        DataType::Binary => Ok(DataType::Binary),
        DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => unexpected(from, "STRING or BINARY"),
        _ => Ok(DataType::Utf8),
    }
}

fn counted(from: &DataType) -> Result<DataType> {
    match from {
        DataType::Utf8 | DataType::Binary => Ok(from.clone()),
        whole if types::is_integral(whole) => Ok(from.clone()),
        other => unexpected(other, "a whole number, STRING or BINARY"),
    }
}

fn binary(from: &DataType) -> Result<DataType> {
    match from {
        DataType::Binary | DataType::Null => Ok(DataType::Binary),
        other => unexpected(other, "BINARY"),
    }
}

/// What HLL sketches count.
fn sketched(from: &DataType) -> Result<DataType> {
    match from {
        DataType::Int32 | DataType::Int64 | DataType::Utf8 | DataType::Binary => Ok(from.clone()),
        DataType::Null => Ok(DataType::Int64),
        other => unexpected(other, "INT, BIGINT, STRING or BINARY"),
    }
}

/// The values that count as different: `-0.0` is `0.0`.
fn normal(call: &Invocation<'_>) -> Result<ArrayRef> {
    let mut columns = normalized(vec![call.raw(0)?]).map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(columns.remove(0))
}

fn normal_where_needed(args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let has_floats = args.first().map(|value| info.get_data_type(value)).transpose()?.is_none_or(|t| has_floats(&t));
    match <[Expr; 1]>::try_from(args) {
        Ok([value]) if !has_floats => Ok(ExprSimplifyResult::Simplified(value)),
        Ok(args) => Ok(ExprSimplifyResult::Original(args.to_vec())),
        Err(args) => Ok(ExprSimplifyResult::Original(args)),
    }
}

/// The hash `approx_count_distinct` counts; NULL for NULL.
fn hash_for_count(call: &Invocation<'_>) -> Result<ArrayRef> {
    let hashes = encoding::xxhash64(call)?;
    let values = call.raw(0)?;
    if values.logical_null_count() == 0 {
        return Ok(hashes);
    }
    Ok(nullif(&hashes, &is_null(&values)?)?)
}
