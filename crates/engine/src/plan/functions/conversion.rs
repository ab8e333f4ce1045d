//! `cast`, `try_cast`, `typeof` and the literals that are written as calls.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Cast, Expr};

use super::cast::{self, Mode};
use super::literal::NumberLiteral;
use super::udf::{self, Arguments, Invocation, Spec, function};
use super::{failure, types};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("typed_literal", (1, 1), literal_type, literal).simplified_by(literal_of),
    function("cast", (2, 2), target, |call| convert(call, Mode::Ansi)).simplified_by(plain_cast),
    function("try_cast", (2, 2), target, |call| convert(call, Mode::Try)),
    function("typeof", (1, 1), udf::string, type_of).simplified_by(type_without_value),
];

fn number(text: &str) -> Result<ScalarValue> {
    let number = NumberLiteral::parse(text).ok_or_else(|| failure::plan("INVALID_NUMERIC_LITERAL_RANGE", text))?;
    Ok(number.scalar())
}

fn literal_type(arguments: &Arguments<'_>) -> Result<DataType> {
    Ok(number(arguments.text(0).unwrap_or_default())?.data_type())
}

fn literal(call: &Invocation<'_>) -> Result<ArrayRef> {
    let text = call.constant_text(0).flatten().unwrap_or_default();
    number(&text)?.to_array_of_size(call.rows)
}

fn literal_of(args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
    match args.as_slice() {
        [Expr::Literal(text, _)] => {
            let value = number(text.try_as_str().flatten().unwrap_or_default())?;
            Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
        }
        _ => Ok(ExprSimplifyResult::Original(args)),
    }
}

fn target(arguments: &Arguments<'_>) -> Result<DataType> {
    let to = ddl::parse_type(arguments.text(1).unwrap_or_default())
        .map_err(|error| failure::plan("UNSUPPORTED_DATATYPE", error))?;
    let from = arguments.of(0);
    if cast::castable(&from, &to) {
        return Ok(to);
    }
    Err(failure::plan(
        "DATATYPE_MISMATCH.CAST_WITH_FUNC_SUGGESTION",
        format!("{} cannot be cast to {}", ddl::type_name(&from), ddl::type_name(&to)),
    ))
}

fn convert(call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    cast::array(&call.raw(0)?, call.return_type(), mode, call.zone)
}

/// A cast that Arrow does as well becomes DataFusion's, which its optimizer knows.
fn plain_cast(args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let [value, Expr::Literal(text, _)] = args.as_slice() else { return Ok(ExprSimplifyResult::Original(args)) };
    let from = info.get_data_type(value)?;
    match ddl::parse_type(text.try_as_str().flatten().unwrap_or_default()) {
        Ok(to) if from == to => Ok(ExprSimplifyResult::Simplified(value.clone())),
        Ok(to) if cast::is_plain(&from, &to) => {
            Ok(ExprSimplifyResult::Simplified(Expr::Cast(Cast::new(Box::new(value.clone()), to))))
        }
        _ => Ok(ExprSimplifyResult::Original(args)),
    }
}

/// The argument is not evaluated: `typeof(raise_error('x'))` raises none.
fn type_without_value(args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let [value] = args.as_slice() else { return Ok(ExprSimplifyResult::Original(args)) };
    let name = types::simple_string(&info.get_data_type(value)?);
    Ok(ExprSimplifyResult::Simplified(Expr::Literal(ScalarValue::from(name), None)))
}

fn type_of(call: &Invocation<'_>) -> Result<ArrayRef> {
    let name = types::simple_string(call.field(0).data_type());
    Ok(Arc::new(StringArray::from(vec![name; call.rows])))
}
