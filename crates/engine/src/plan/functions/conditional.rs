//! `CASE`, `coalesce`, `IN`, `greatest`, `least`: several values brought to Spark's common type.
//!
//! `case` and `coalesce` evaluate only what is chosen: the optimizer must have replaced them by DataFusion's `CASE`
//! before they run.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow::compute::kernels::cmp;
use arrow::compute::{is_not_null, is_null, kernels::zip::zip};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Case, Cast, Expr};

use super::udf::{ANY, Arguments, Invocation, Spec, function};
use super::{cast, failure, types};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("case", (2, ANY), |a| common(&case_results(a.fields.len()), a), case_rows).lazy().simplified_by(case),
    function("coalesce", (1, ANY), |a| common(&all(a), a), coalesce_rows).lazy().simplified_by(coalesce),
    function("in_list", (2, ANY), in_list_type, in_list_rows).simplified_by(in_list),
    function("greatest", (2, ANY), |a| common(&all(a), a), |c| extreme(c, true)),
    function("least", (2, ANY), |a| common(&all(a), a), |c| extreme(c, false)),
];

fn all(arguments: &Arguments<'_>) -> Vec<usize> {
    (0..arguments.fields.len()).collect()
}

/// The places of the results in `condition, result, condition, result, ..., [otherwise]`.
fn case_results(count: usize) -> Vec<usize> {
    (0..count).filter(|i| i % 2 == 1 || (count % 2 == 1 && i + 1 == count)).collect()
}

/// The common type of some of the arguments.
fn common(places: &[usize], arguments: &Arguments<'_>) -> Result<DataType> {
    places.iter().try_fold(DataType::Null, |so_far, &i| {
        let next = arguments.of(i);
        types::common(&so_far, &next).ok_or_else(|| {
            let (a, b) = (ddl::type_name(&so_far), ddl::type_name(&next));
            failure::plan("DATATYPE_MISMATCH.DATA_DIFF_TYPES", format!("{a} and {b} have no common type"))
        })
    })
}

/// The expression brought to a type.
pub(super) fn coerced(expr: Expr, to: &DataType, info: &SimplifyContext) -> Result<Expr> {
    let from = info.get_data_type(&expr)?;
    if from == *to {
        return Ok(expr);
    }
    if cast::is_plain(&from, to) {
        return Ok(Expr::Cast(Cast::new(Box::new(expr), to.clone())));
    }
    let name = Expr::Literal(ScalarValue::from(ddl::type_name(to)), None);
    Ok(super::table::cast_function().call(vec![expr, name]))
}

fn common_of(exprs: &[Expr], places: &[usize], info: &SimplifyContext) -> Result<DataType> {
    places.iter().try_fold(DataType::Null, |so_far, &i| {
        let next = info.get_data_type(&exprs[i])?;
        Ok(types::common(&so_far, &next).unwrap_or(next))
    })
}

fn case(args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let to = common_of(&args, &case_results(args.len()), info)?;
    let mut branches = Vec::new();
    let mut rest = args.into_iter();
    let mut otherwise = None;
    while let Some(first) = rest.next() {
        match rest.next() {
            Some(result) => {
                let condition = coerced(first, &DataType::Boolean, info)?;
                branches.push((Box::new(condition), Box::new(coerced(result, &to, info)?)));
            }
            None => otherwise = Some(Box::new(coerced(first, &to, info)?)),
        }
    }
    Ok(ExprSimplifyResult::Simplified(Expr::Case(Case::new(None, branches, otherwise))))
}

fn coalesce(args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let places: Vec<usize> = (0..args.len()).collect();
    let to = common_of(&args, &places, info)?;
    let mut values = args.into_iter().map(|arg| coerced(arg, &to, info)).collect::<Result<Vec<_>>>()?;
    let Some(last) = values.pop() else { return internal_err!("coalesce has no arguments") };
    if values.is_empty() {
        return Ok(ExprSimplifyResult::Simplified(last));
    }
    let branches = values.into_iter().map(|v| (Box::new(v.clone().is_not_null()), Box::new(v))).collect();
    Ok(ExprSimplifyResult::Simplified(Expr::Case(Case::new(None, branches, Some(Box::new(last))))))
}

/// All branches are evaluated: for callers that do not simplify.
fn case_rows(call: &Invocation<'_>) -> Result<ArrayRef> {
    let to = call.return_type();
    let count = call.len();
    let mut result = match count % 2 {
        1 => call.array(count - 1, to)?,
        _ => new_null_array(to, call.rows),
    };
    for i in (0..count / 2).rev() {
        let condition = truth(&call.booleans(2 * i)?);
        result = zip(&condition, &call.array(2 * i + 1, to)?, &result)?;
    }
    Ok(result)
}

/// NULL counts as false.
fn truth(condition: &BooleanArray) -> BooleanArray {
    condition.iter().map(|value| Some(value.unwrap_or(false))).collect()
}

fn coalesce_rows(call: &Invocation<'_>) -> Result<ArrayRef> {
    let mut result = call.array(call.len() - 1, call.return_type())?;
    for i in (0..call.len() - 1).rev() {
        let value = call.array(i, call.return_type())?;
        result = zip(&is_not_null(&value)?, &value, &result)?;
    }
    Ok(result)
}

fn in_list_type(arguments: &Arguments<'_>) -> Result<DataType> {
    common(&all(arguments), arguments).map(|_| DataType::Boolean)
}

fn in_list(args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
    let places: Vec<usize> = (0..args.len()).collect();
    let to = common_of(&args, &places, info)?;
    let mut values = args.into_iter().map(|arg| coerced(arg, &to, info)).collect::<Result<Vec<_>>>()?.into_iter();
    let Some(value) = values.next() else { return internal_err!("IN has no arguments") };
    Ok(ExprSimplifyResult::Simplified(Expr::InList(InList::new(Box::new(value), values.collect(), false))))
}

fn in_list_rows(call: &Invocation<'_>) -> Result<ArrayRef> {
    let mut to = DataType::Null;
    for i in 0..call.len() {
        let next = call.raw(i)?;
        to = types::common(&to, next.data_type()).unwrap_or(DataType::Utf8);
    }
    let value = call.array(0, &to)?;
    let mut found = BooleanArray::from(vec![Some(false); call.rows]);
    for i in 1..call.len() {
        found = arrow::compute::or_kleene(&found, &cmp::eq(&value, &call.array(i, &to)?)?)?;
    }
    Ok(Arc::new(found))
}

/// The greatest or least of the values that are not NULL; NaN is greater than any number.
fn extreme(call: &Invocation<'_>, greatest: bool) -> Result<ArrayRef> {
    let mut result = call.array(0, call.return_type())?;
    for i in 1..call.len() {
        let next = call.array(i, call.return_type())?;
        let better = if greatest { cmp::gt(&next, &result)? } else { cmp::lt(&next, &result)? };
        let take =
            arrow::compute::and(&arrow::compute::or(&truth(&better), &is_null(&result)?)?, &is_not_null(&next)?)?;
        result = zip(&take, &next, &result)?;
    }
    Ok(result)
}
