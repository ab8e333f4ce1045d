//! `+ - * / % DIV` and the sign: Spark's result types, and errors instead of wrapped or infinite numbers.
//!
//! | operands | `+ - *` | `/` | `%` | `DIV` |
//! |---|---|---|---|---|
//! | integers | the wider, checked | DOUBLE | the wider | BIGINT |
//! | decimal and integer or decimal | decimal by Spark's precision rules | decimal | decimal | BIGINT |
//! | with a float | DOUBLE (FLOAT if both are) | DOUBLE | DOUBLE | BIGINT |
//! | with a string | the string is read as BIGINT or DOUBLE first | | | |

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, Int64Array,
    PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{binary, try_binary};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, i256,
};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result};

use super::cast::{Mode, number};
use super::udf::{Arguments, Invocation, Spec, first, function};
use super::{failure, types};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("add", (2, 2), |a| result(Op::Add, a), |c| evaluate(Op::Add, c, Mode::Ansi)),
    function("subtract", (2, 2), |a| result(Op::Subtract, a), |c| evaluate(Op::Subtract, c, Mode::Ansi)),
    function("multiply", (2, 2), |a| result(Op::Multiply, a), |c| evaluate(Op::Multiply, c, Mode::Ansi)),
    function("divide", (2, 2), |a| result(Op::Divide, a), |c| evaluate(Op::Divide, c, Mode::Ansi)),
    function("remainder", (2, 2), |a| result(Op::Remainder, a), |c| evaluate(Op::Remainder, c, Mode::Ansi)),
    function("pmod", (2, 2), |a| result(Op::Modulus, a), |c| evaluate(Op::Modulus, c, Mode::Ansi)),
    function(
        "integral_divide",
        (2, 2),
        |a| result(Op::IntegralDivide, a),
        |c| evaluate(Op::IntegralDivide, c, Mode::Ansi),
    ),
    function("try_add", (2, 2), |a| result(Op::Add, a), |c| evaluate(Op::Add, c, Mode::Try)),
    function("try_subtract", (2, 2), |a| result(Op::Subtract, a), |c| evaluate(Op::Subtract, c, Mode::Try)),
    function("try_multiply", (2, 2), |a| result(Op::Multiply, a), |c| evaluate(Op::Multiply, c, Mode::Try)),
    function("try_divide", (2, 2), |a| result(Op::Divide, a), |c| evaluate(Op::Divide, c, Mode::Try)),
    function("try_mod", (2, 2), |a| result(Op::Remainder, a), |c| evaluate(Op::Remainder, c, Mode::Try)),
    function("average", (2, 2), average_type, average_call),
    function("negative", (1, 1), signed, |c| sign(c, "negative")),
    function("positive", (1, 1), signed, |c| c.array(0, c.return_type())),
    function("abs", (1, 1), signed, |c| sign(c, "abs")),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    /// `pmod`: the remainder with the divisor's range.
    Modulus,
    IntegralDivide,
}

/// The type both sides are read as, before the operator has its say.
fn operands(op: Op, arguments: &Arguments<'_>) -> Result<DataType> {
    let (left, right) = (arguments.of(0), arguments.of(1));
    let wrong = || {
        let (left, right) = (ddl::type_name(&left), ddl::type_name(&right));
        failure::plan(
            "DATATYPE_MISMATCH.BINARY_OP_WRONG_TYPE",
            format!("the operands of {op:?} are {left} and {right}, expected numbers"),
        )
    };
    if types::is_string(&left) && types::is_string(&right) {
        return Err(wrong());
    }
    match types::common(&left, &right) {
        Some(DataType::Null) => Ok(DataType::Float64),
        Some(common) if types::as_decimal(&common).is_some() => Ok(common),
        Some(common @ (DataType::Float32 | DataType::Float64)) => Ok(common),
        _ => Err(wrong()),
    }
}

fn result(op: Op, arguments: &Arguments<'_>) -> Result<DataType> {
    let common = operands(op, arguments)?;
    if op == Op::IntegralDivide {
        return Ok(DataType::Int64);
    }
    if !types::is_decimal(&common) {
        return Ok(if op == Op::Divide { DataType::Float64 } else { common });
    }
    let side = |i: usize| types::as_decimal(&arguments.of(i)).unwrap_or((1, 0));
    Ok(decimal_result(op, side(0), side(1)))
}

fn decimal_result(op: Op, (p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> DataType {
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    let (precision, scale) = match op {
        Op::Add | Op::Subtract => ((p1 - s1).max(p2 - s2) + s1.max(s2) + 1, s1.max(s2)),
        Op::Multiply => (p1 + p2 + 1, s1 + s2),
        Op::Remainder | Op::Modulus => ((p1 - s1).min(p2 - s2) + s1.max(s2), s1.max(s2)),
        Op::Divide | Op::IntegralDivide => {
            let scale = (s1 + p2 + 1).max(6);
            (p1 - s1 + s2 + scale, scale)
        }
    };
    types::bounded(precision, scale)
}

fn evaluate(op: Op, call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    let (left, right) = (call.raw(0)?, call.raw(1)?);
    let common = types::common(left.data_type(), right.data_type()).unwrap_or(DataType::Float64);
    if types::is_decimal(&common) {
        return decimals(op, call, mode);
    }
    let operand = match (&common, op) {
        (_, Op::Divide) | (DataType::Null, _) => DataType::Float64,
        (integral, Op::IntegralDivide) if types::is_integral(integral) => DataType::Int64,
        _ => common,
    };
    let (left, right) = (call.array(0, &operand)?, call.array(1, &operand)?);
    match operand {
        DataType::Int8 => integers::<Int8Type>(op, &left, &right, mode),
        DataType::Int16 => integers::<Int16Type>(op, &left, &right, mode),
        DataType::Int32 => integers::<Int32Type>(op, &left, &right, mode),
        DataType::Int64 => integers::<Int64Type>(op, &left, &right, mode),
        DataType::Float32 => floats::<Float32Type>(op, &left, &right, mode),
        _ => floats::<Float64Type>(op, &left, &right, mode),
    }
}

/// Applies a checked operation where both sides have a value. Arrow's loop is the fast one; ours finds the error, or
/// makes NULLs of it.
fn checked<T: ArrowPrimitiveType>(
    left: &ArrayRef,
    right: &ArrayRef,
    mode: Mode,
    f: impl Fn(T::Native, T::Native) -> Result<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
    let quick = |a, b| f(a, b).map_err(|error| ArrowError::ComputeError(error.to_string()));
    if mode == Mode::Ansi
        && let Ok(array) = try_binary(left, right, quick)
    {
        return Ok(array);
    }
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    let compute = |row: usize| match valid(row).then(|| f(left.value(row), right.value(row))) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) if mode == Mode::Try => Ok(None),
        Some(Err(error)) => Err(error),
    };
    (0..left.len()).map(compute).collect()
}

fn integers<T: ArrowPrimitiveType>(op: Op, left: &ArrayRef, right: &ArrayRef, mode: Mode) -> Result<ArrayRef> {
    let narrow = matches!(T::DATA_TYPE, DataType::Int8 | DataType::Int16);
    let overflow = move |_| {
        let condition = if narrow { "BINARY_ARITHMETIC_OVERFLOW" } else { "ARITHMETIC_OVERFLOW" };
        failure::data(condition, format!("{} overflow", ddl::type_name(&T::DATA_TYPE)))
    };
    let zero = T::Native::ZERO;
    let result = match op {
        Op::Add => checked::<T>(left, right, mode, |a, b| a.add_checked(b).map_err(overflow))?,
        Op::Subtract => checked::<T>(left, right, mode, |a, b| a.sub_checked(b).map_err(overflow))?,
        Op::Multiply => checked::<T>(left, right, mode, |a, b| a.mul_checked(b).map_err(overflow))?,
        Op::Remainder => checked::<T>(left, right, mode, |a, b| match b == zero {
            true => Err(remainder_by_zero()),
            false => Ok(a.mod_wrapping(b)),
        })?,
        Op::Modulus => checked::<T>(left, right, mode, |a, b| match b == zero {
            true => Err(remainder_by_zero()),
            false => {
                let rest = a.mod_wrapping(b);
                Ok(if rest.is_lt(zero) { rest.add_wrapping(b).mod_wrapping(b) } else { rest })
            }
        })?,
        Op::Divide | Op::IntegralDivide => checked::<T>(left, right, mode, |a, b| match b == zero {
            true => Err(failure::divide_by_zero()),
            false => a.div_checked(b).map_err(overflow),
        })?,
    };
    Ok(Arc::new(result))
}

fn remainder_by_zero() -> DataFusionError {
    failure::data("REMAINDER_BY_ZERO", "remainder by zero; use try_mod to get NULL")
}

fn floats<T: ArrowPrimitiveType>(op: Op, left: &ArrayRef, right: &ArrayRef, mode: Mode) -> Result<ArrayRef> {
    let plain = |f: fn(T::Native, T::Native) -> T::Native| -> Result<ArrayRef> {
        Ok(Arc::new(binary::<_, _, _, T>(left.as_primitive::<T>(), right.as_primitive::<T>(), f)?))
    };
    let zero = T::Native::ZERO;
    match op {
        Op::Add => plain(|a, b| a.add_wrapping(b)),
        Op::Subtract => plain(|a, b| a.sub_wrapping(b)),
        Op::Multiply => plain(|a, b| a.mul_wrapping(b)),
        Op::Divide => Ok(Arc::new(checked::<T>(left, right, mode, |a, b| match b == zero {
            true => Err(failure::divide_by_zero()),
            false => Ok(a.div_wrapping(b)),
        })?)),
        Op::Remainder | Op::Modulus => Ok(Arc::new(checked::<T>(left, right, mode, |a, b| {
            if b == zero {
                return Err(remainder_by_zero());
            }
            let rest = a.mod_wrapping(b);
            let wraps = op == Op::Modulus && rest.is_lt(zero);
            Ok(if wraps { rest.add_wrapping(b).mod_wrapping(b) } else { rest })
        })?)),
        Op::IntegralDivide => {
            let quotient: ArrayRef = Arc::new(checked::<T>(left, right, mode, |a, b| match b == zero {
                true => Err(failure::divide_by_zero()),
                false => Ok(a.div_wrapping(b)),
            })?);
            number::cast(&quotient, &DataType::Int64, mode)
        }
    }
}

/// Decimals are computed with 256 bits, then rounded half up to the result's scale.
fn decimals(op: Op, call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    let operand = |i: usize| -> Result<(Decimal128Array, i32)> {
        let raw = call.raw(i)?;
        let (precision, scale) = types::as_decimal(raw.data_type()).unwrap_or((types::MAX_PRECISION, 0));
        let cast = call.array(i, &DataType::Decimal128(precision, scale))?;
        Ok((cast.as_primitive::<Decimal128Type>().clone(), i32::from(scale)))
    };
    let ((left, s1), (right, s2)) = (operand(0)?, operand(1)?);
    let (precision, scale) = match call.return_type() {
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        _ => (types::MAX_PRECISION, 0),
    };
    let exact = |a: i128, b: i128| -> Result<i128> {
        let out_of_range = || failure::out_of_range(format!("the result of {op:?}"), precision, scale);
        let value = exact(op, (a, s1), (b, s2), i32::from(scale))?.and_then(i256::to_i128).ok_or_else(out_of_range)?;
        if types::digits(value) > u32::from(precision) { Err(out_of_range()) } else { Ok(value) }
    };
    let (left, right): (ArrayRef, ArrayRef) = (Arc::new(left), Arc::new(right));
    let values = checked::<Decimal128Type>(&left, &right, mode, exact)?;
    if op == Op::IntegralDivide {
        let whole: ArrayRef = Arc::new(values.with_precision_and_scale(types::MAX_PRECISION, 0)?);
        return number::cast(&whole, &DataType::Int64, mode);
    }
    Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
}

/// The result at `scale`; nothing if it does not fit in 256 bits.
fn exact(op: Op, (a, s1): (i128, i32), (b, s2): (i128, i32), scale: i32) -> Result<Option<i256>> {
    let (wide_a, wide_b) = (i256::from_i128(a), i256::from_i128(b));
    let aligned = s1.max(s2);
    let align = |value: i256, from: i32| wide_pow10(aligned - from).and_then(|unit| value.checked_mul(unit));
    let zero_divisor = b == 0 && matches!(op, Op::Divide | Op::IntegralDivide | Op::Remainder | Op::Modulus);
    if zero_divisor {
        let is_division = matches!(op, Op::Divide | Op::IntegralDivide);
        return Err(if is_division { failure::divide_by_zero() } else { remainder_by_zero() });
    }
    let pair = || Some((align(wide_a, s1)?, align(wide_b, s2)?));
    Ok(match op {
        Op::Add => pair().and_then(|(a, b)| a.checked_add(b)).and_then(|v| wide_rescale(v, aligned, scale)),
        Op::Subtract => pair().and_then(|(a, b)| a.checked_sub(b)).and_then(|v| wide_rescale(v, aligned, scale)),
        Op::Multiply => wide_a.checked_mul(wide_b).and_then(|v| wide_rescale(v, s1 + s2, scale)),
        Op::Remainder => pair().and_then(|(a, b)| a.checked_rem(b)).and_then(|v| wide_rescale(v, aligned, scale)),
        Op::Modulus => pair()
            .and_then(|(a, b)| {
                let rest = a.checked_rem(b)?;
                if rest.is_negative() { rest.checked_add(b)?.checked_rem(b) } else { Some(rest) }
            })
            .and_then(|v| wide_rescale(v, aligned, scale)),
        Op::Divide => {
            let shift = scale + s2 - s1;
            wide_pow10(shift.max(0)).and_then(|unit| wide_a.checked_mul(unit)).and_then(|numerator| {
                let denominator = wide_pow10((-shift).max(0)).and_then(|unit| wide_b.checked_mul(unit))?;
                wide_divide_half_up(numerator, denominator)
            })
        }
        Op::IntegralDivide => pair().and_then(|(a, b)| a.checked_div(b)),
    })
}

fn wide_pow10(exponent: i32) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::try_from(exponent).ok()?)
}

fn wide_rescale(value: i256, from: i32, to: i32) -> Option<i256> {
    if to >= from {
        value.checked_mul(wide_pow10(to - from)?)
    } else {
        wide_divide_half_up(value, wide_pow10(from - to)?)
    }
}

fn wide_divide_half_up(value: i256, unit: i256) -> Option<i256> {
    let (quotient, rest) = (value.checked_div(unit)?, value.checked_rem(unit)?);
    let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
    if twice < unit.wrapping_abs() {
        return Some(quotient);
    }
    let away = if value.is_negative() == unit.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    quotient.checked_add(away)
}

/// The type of `avg` by the type of the sum, which has ten digits more than what was added.
fn average_type(arguments: &Arguments<'_>) -> Result<DataType> {
    Ok(match arguments.of(0) {
        DataType::Decimal128(precision, scale) if precision < types::MAX_PRECISION => {
            average_of(&DataType::Decimal128(precision - 10, scale))
        }
        other => average_of(&other),
    })
}

/// The type of `avg` by the type of what is added.
pub(super) fn average_of(addend: &DataType) -> DataType {
    let most = types::MAX_PRECISION;
    match addend {
        DataType::Decimal128(precision, scale) => {
            DataType::Decimal128((precision + 4).min(most), (scale + 4).min(most.cast_signed()))
        }
        interval @ DataType::Interval(_) => interval.clone(),
        _ => DataType::Float64,
    }
}

/// Sums by their counts, NULL where nothing was counted.
pub(crate) fn average(sums: &ArrayRef, counts: &Int64Array, to: &DataType, mode: Mode) -> Result<ArrayRef> {
    let some: BooleanArray = counts.iter().map(|count| count.map(|count| count == 0)).collect();
    let sums = arrow::compute::nullif(sums, &some)?;
    match to {
        DataType::Decimal128(precision, scale) => {
            let (_, from) = types::as_decimal(sums.data_type()).unwrap_or((types::MAX_PRECISION, 0));
            let counts: ArrayRef = Arc::new(counts.unary::<_, Decimal128Type>(i128::from));
            let averages = checked::<Decimal128Type>(&sums, &counts, mode, |sum, count| {
                let exact = exact(Op::Divide, (sum, from.into()), (count, 0), (*scale).into())?;
                let fits = exact.and_then(i256::to_i128).filter(|value| types::digits(*value) <= u32::from(*precision));
                fits.ok_or_else(|| failure::out_of_range("the average", *precision, *scale))
            })?;
            Ok(Arc::new(averages.with_precision_and_scale(*precision, *scale)?))
        }
        DataType::Interval(_) => {
            let sums = sums.as_primitive::<IntervalMonthDayNanoType>();
            let one = |row: usize| {
                (!sums.is_null(row)).then(|| super::sum::divide_interval(sums.value(row), counts.value(row)))
            };
            Ok(Arc::new((0..sums.len()).map(one).collect::<PrimitiveArray<IntervalMonthDayNanoType>>()))
        }
        _ => {
            let counts: ArrayRef = Arc::new(counts.unary::<_, Float64Type>(|count| count as f64));
            Ok(Arc::new(checked::<Float64Type>(&sums, &counts, Mode::Ansi, |sum, count| Ok(sum / count))?))
        }
    }
}

/// `avg` where it is put together from a sum and a count.
fn average_call(call: &Invocation<'_>) -> Result<ArrayRef> {
    average(&call.raw(0)?, &call.longs(1)?, call.return_type(), Mode::Ansi)
}

/// The type of `-x`, `+x`, `abs(x)`: a string is read as a DOUBLE.
fn signed(arguments: &Arguments<'_>) -> Result<DataType> {
    let data_type = first(arguments)?;
    match &data_type {
        DataType::Null => Ok(DataType::Float64),
        text if types::is_string(text) => Ok(DataType::Float64),
        DataType::Float32 | DataType::Float64 | DataType::Interval(_) | DataType::Duration(_) => Ok(data_type),
        number if types::as_decimal(number).is_some() => Ok(data_type),
        other => Err(failure::plan(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!("the operand is {}, expected a number", ddl::type_name(other)),
        )),
    }
}

fn sign(call: &Invocation<'_>, name: &str) -> Result<ArrayRef> {
    let array = call.array(0, call.return_type())?;
    let absolute = name == "abs";
    macro_rules! integers {
        ($arrow:ty) => {{
            let negate = |v: <$arrow as ArrowPrimitiveType>::Native| match absolute && v >= 0 {
                true => Ok(v),
                false => v.neg_checked().map_err(|_| failure::overflow(ddl::type_name(&<$arrow>::DATA_TYPE))),
            };
            Arc::new(array.as_primitive::<$arrow>().try_unary::<_, $arrow, DataFusionError>(negate)?)
        }};
    }
    macro_rules! plain {
        ($arrow:ty) => {
            Arc::new(array.as_primitive::<$arrow>().unary::<_, $arrow>(|v| if absolute { v.abs() } else { -v }))
        };
    }
    Ok(match array.data_type() {
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::Float32 => plain!(Float32Type),
        DataType::Float64 => plain!(Float64Type),
        DataType::Decimal128(precision, scale) => {
            let values = array.as_primitive::<Decimal128Type>();
            let values = values.unary::<_, Decimal128Type>(|v| if absolute { v.abs() } else { -v });
            Arc::new(values.with_precision_and_scale(*precision, *scale)?)
        }
        _ => arrow::compute::kernels::numeric::neg(&array)?,
    })
}
