//! Mathematics: rounding half up, logarithms of what has none are NULL, the rest on doubles.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int8Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type};
use datafusion::common::Result;

use super::cast::number::{divide_half_up, pow10};
use super::cast::{self, Mode};
use super::udf::{self, Arguments, Invocation, Spec, each, function};
use super::{failure, types};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("sqrt", (1, 1), udf::double, |c| map(c, f64::sqrt)),
    function("cbrt", (1, 1), udf::double, |c| map(c, f64::cbrt)),
    function("exp", (1, 1), udf::double, |c| map(c, f64::exp)),
    function("expm1", (1, 1), udf::double, |c| map(c, f64::exp_m1)),
    function("ln", (1, 1), udf::double, |c| logarithm(c, 0.0, f64::ln)),
    function("log10", (1, 1), udf::double, |c| logarithm(c, 0.0, f64::log10)),
    function("log2", (1, 1), udf::double, |c| logarithm(c, 0.0, f64::log2)),
    function("log1p", (1, 1), udf::double, |c| logarithm(c, -1.0, f64::ln_1p)),
    function("log", (1, 2), udf::double, log),
    function("pow", (2, 2), udf::double, |c| pair(c, f64::powf)).alias(&["power"]),
    function("atan2", (2, 2), udf::double, |c| pair(c, f64::atan2)),
    function("hypot", (2, 2), udf::double, |c| pair(c, f64::hypot)),
    function("sin", (1, 1), udf::double, |c| map(c, f64::sin)),
    function("cos", (1, 1), udf::double, |c| map(c, f64::cos)),
    function("tan", (1, 1), udf::double, |c| map(c, f64::tan)),
    function("sec", (1, 1), udf::double, |c| map(c, |v| v.cos().recip())),
    function("csc", (1, 1), udf::double, |c| map(c, |v| v.sin().recip())),
    function("cot", (1, 1), udf::double, |c| map(c, |v| v.tan().recip())),
    function("asin", (1, 1), udf::double, |c| map(c, f64::asin)),
    function("acos", (1, 1), udf::double, |c| map(c, f64::acos)),
    function("atan", (1, 1), udf::double, |c| map(c, f64::atan)),
    function("sinh", (1, 1), udf::double, |c| map(c, f64::sinh)),
    function("cosh", (1, 1), udf::double, |c| map(c, f64::cosh)),
    function("tanh", (1, 1), udf::double, |c| map(c, f64::tanh)),
    function("asinh", (1, 1), udf::double, |c| map(c, f64::asinh)),
    function("acosh", (1, 1), udf::double, |c| map(c, f64::acosh)),
    function("atanh", (1, 1), udf::double, |c| map(c, f64::atanh)),
    function("degrees", (1, 1), udf::double, |c| map(c, f64::to_degrees)),
    function("radians", (1, 1), udf::double, |c| map(c, f64::to_radians)),
    function("rint", (1, 1), udf::double, |c| map(c, f64::round_ties_even)),
    function("signum", (1, 1), udf::double, |c| map(c, sign)).alias(&["sign"]),
    function("pi", (0, 0), udf::double, |c| constant(c, std::f64::consts::PI)),
    function("e", (0, 0), udf::double, |c| constant(c, std::f64::consts::E)),
    function("isnan", (1, 1), udf::boolean, isnan),
    function("nanvl", (2, 2), udf::double, nanvl),
    function("factorial", (1, 1), udf::long, factorial),
    function("round", (1, 2), rounded_type, |c| round(c, Rounding::HalfUp)),
    function("bround", (1, 2), rounded_type, |c| round(c, Rounding::HalfEven)),
    function("ceil", (1, 2), ceiling_type, |c| round(c, Rounding::Up)).alias(&["ceiling"]),
    function("floor", (1, 2), ceiling_type, |c| round(c, Rounding::Down)),
    function("shiftleft", (2, 2), shifted, |c| shift(c, |v, n| v.wrapping_shl(n), |v, n| v.wrapping_shl(n))),
    function("shiftright", (2, 2), shifted, |c| shift(c, |v, n| v.wrapping_shr(n), |v, n| v.wrapping_shr(n))),
    function("shiftrightunsigned", (2, 2), shifted, |c| {
        shift(c, |v, n| (v as u32).wrapping_shr(n) as i32, |v, n| (v as u64).wrapping_shr(n) as i64)
    }),
    function("bitwise_not", (1, 1), udf::first, bitwise_not),
    function("bit_count", (1, 1), udf::int, bit_count),
    function("getbit", (2, 2), |_| Ok(DataType::Int8), getbit).alias(&["bit_get"]),
    function("width_bucket", (4, 4), udf::long, width_bucket),
    function("bitmap_bit_position", (1, 1), udf::long, |c| bitmap_place(c, bit_position)),
    function("bitmap_bucket_number", (1, 1), udf::long, |c| bitmap_place(c, bucket_number)),
    function("bitmap_count", (1, 1), udf::long, bitmap_count),
    function("format_number", (2, 2), udf::string, format_number),
];

fn map(call: &Invocation<'_>, f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    Ok(Arc::new(call.doubles(0)?.unary::<_, Float64Type>(f)))
}

fn pair(call: &Invocation<'_>, f: impl Fn(f64, f64) -> f64) -> Result<ArrayRef> {
    Ok(Arc::new(arrow::compute::binary::<_, _, _, Float64Type>(&call.doubles(0)?, &call.doubles(1)?, f)?))
}

fn constant(call: &Invocation<'_>, value: f64) -> Result<ArrayRef> {
    Ok(Arc::new(Float64Array::from(vec![value; call.rows])))
}

/// NULL at and below the limit.
fn logarithm(call: &Invocation<'_>, limit: f64, f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let values = call.doubles(0)?;
    Ok(Arc::new(values.unary_opt::<_, Float64Type>(|v| (v.is_nan() || v > limit).then(|| f(v)))))
}

/// `log(x)` is natural, `log(base, x)` is not.
fn log(call: &Invocation<'_>) -> Result<ArrayRef> {
    if call.len() == 1 {
        return logarithm(call, 0.0, f64::ln);
    }
    let (bases, values) = (call.doubles(0)?, call.doubles(1)?);
    let out: Float64Array = each!(call.rows, (base = bases, value = values) => {
        Ok((base > 0.0 && value > 0.0).then(|| value.ln() / base.ln()))
    })?;
    Ok(Arc::new(out))
}

fn sign(value: f64) -> f64 {
    if value == 0.0 || value.is_nan() { value } else { value.signum() }
}

fn isnan(call: &Invocation<'_>) -> Result<ArrayRef> {
    Ok(Arc::new(call.doubles(0)?.iter().map(|v| Some(v.is_some_and(f64::is_nan))).collect::<BooleanArray>()))
}

fn nanvl(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (values, others) = (call.doubles(0)?, call.doubles(1)?);
    let row = |(value, other): (Option<f64>, Option<f64>)| value.and_then(|v| if v.is_nan() { other } else { Some(v) });
    Ok(Arc::new(values.iter().zip(&others).map(row).collect::<Float64Array>()))
}

fn factorial(call: &Invocation<'_>) -> Result<ArrayRef> {
    let numbers = call.ints(0)?;
    let product = |n: i32| (0..=20).contains(&n).then(|| (1..=i64::from(n)).product::<i64>());
    Ok(Arc::new(numbers.iter().map(|n| n.and_then(product)).collect::<Int64Array>()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    HalfUp,
    HalfEven,
    Up,
    Down,
}

fn scale_argument(arguments: &Arguments<'_>) -> Result<i32> {
    if arguments.fields.len() < 2 {
        return Ok(0);
    }
    let scale = arguments.int(1).and_then(|scale| i32::try_from(scale).ok());
    scale.ok_or_else(|| failure::plan("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT", "the scale to round to is no constant"))
}

/// The decimal left of one that is rounded to `to` places.
fn rounded_decimal(precision: u8, scale: i8, to: i32) -> DataType {
    let (precision, scale) = (i32::from(precision), i32::from(scale));
    let integral = precision - scale + 1;
    if to < 0 {
        return types::bounded(integral.max(-to + 1), 0);
    }
    let kept = scale.min(to);
    types::bounded(integral + kept, kept)
}

fn rounded_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let data_type = arguments.of(0);
    match &data_type {
        DataType::Decimal128(precision, scale) => Ok(rounded_decimal(*precision, *scale, scale_argument(arguments)?)),
        integer if types::is_integral(integer) => Ok(data_type),
        DataType::Float32 => Ok(data_type),
        _ => Ok(DataType::Float64),
    }
}

fn ceiling_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let data_type = arguments.of(0);
    if arguments.fields.len() == 1 {
        return Ok(match data_type {
            DataType::Decimal128(precision, scale) => {
                types::bounded(i32::from(precision) - i32::from(scale) + i32::from(scale > 0), 0)
            }
            _ => DataType::Int64,
        });
    }
    let (precision, scale) = types::as_decimal(&data_type).unwrap_or((30, 15));
    Ok(rounded_decimal(precision, scale, scale_argument(arguments)?))
}

fn round(call: &Invocation<'_>, rounding: Rounding) -> Result<ArrayRef> {
    let places = if call.len() > 1 { call.ints(1)?.iter().flatten().next().unwrap_or(0) } else { 0 };
    let data_type = call.field(0).data_type().clone();
    match (call.return_type(), &data_type) {
        (DataType::Decimal128(..), _) => round_decimals(call, places, rounding),
        (DataType::Int64, DataType::Float32 | DataType::Float64) => {
            let f = if rounding == Rounding::Up { f64::ceil } else { f64::floor };
            let whole: ArrayRef = Arc::new(call.doubles(0)?.unary::<_, Float64Type>(f));
            cast::array(&whole, &DataType::Int64, Mode::Ansi, call.zone)
        }
        (to, _) if types::is_integral(to) => {
            let longs = call.longs(0)?;
            let rounded = longs.try_unary::<_, Int64Type, _>(|value| {
                let wide = round_to(value.into(), 0, places, rounding).and_then(|v| i64::try_from(v).ok());
                wide.ok_or_else(|| failure::overflow(ddl::type_name(&data_type)))
            })?;
            cast::array(&(Arc::new(rounded) as ArrayRef), call.return_type(), Mode::Ansi, call.zone)
        }
        (DataType::Float32, _) => {
            let values = call.array(0, &DataType::Float32)?;
            let f = |v: f32| round_double(&cast::text::float(v), f64::from(v), places, rounding) as f32;
            Ok(Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(f)))
        }
        _ => map(call, |v| round_double(&cast::text::double(v), v, places, rounding)),
    }
}

/// A double is rounded by its shortest decimal digits.
fn round_double(shown: &str, value: f64, places: i32, rounding: Rounding) -> f64 {
    let Some((unscaled, scale)) = cast::parse::exact_decimal(shown) else { return value };
    if scale <= places {
        return value;
    }
    let Some(rounded) = round_to(unscaled, scale, places, rounding) else { return value };
    format!("{rounded}e{}", -places.max(0)).parse().unwrap_or(value)
}

/// `value` at `scale`, rounded to `places`, at scale `max(places, 0)`.
fn round_to(value: i128, scale: i32, places: i32, rounding: Rounding) -> Option<i128> {
    if places >= scale {
        return Some(value.checked_mul(pow10(places.max(0) - scale)?)?).filter(|_| places >= 0);
    }
    let unit = pow10(scale - places);
    let whole = match (rounding, unit) {
        (_, None) => 0,
        (Rounding::HalfUp, unit) => divide_half_up(value, unit),
        (Rounding::HalfEven, Some(unit)) => {
            let (quotient, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
            let up = rest * 2 > unit || (rest * 2 == unit && quotient % 2 != 0);
            quotient + i128::from(up)
        }
        (Rounding::Up, Some(unit)) => value.div_euclid(unit) + i128::from(value.rem_euclid(unit) != 0),
        (Rounding::Down, Some(unit)) => value.div_euclid(unit),
    };
    if places < 0 { whole.checked_mul(pow10(-places)?) } else { Some(whole) }
}

fn round_decimals(call: &Invocation<'_>, places: i32, rounding: Rounding) -> Result<ArrayRef> {
    let data_type = call.field(0).data_type();
    let (precision, scale) = types::as_decimal(data_type).unwrap_or((30, 15));
    let values = call.array(0, &DataType::Decimal128(precision, scale))?;
    let DataType::Decimal128(to_precision, to_scale) = *call.return_type() else {
        return Err(failure::plan("INTERNAL_ERROR", "a rounded decimal is a decimal"));
    };
    let out_of_range = |v: i128| failure::out_of_range(cast::text::decimal(v, scale), to_precision, to_scale);
    let rounded = values.as_primitive::<Decimal128Type>().try_unary::<_, Decimal128Type, _>(|value| {
        let rounded =
            round_to(value, scale.into(), places.min(scale.into()), rounding).ok_or_else(|| out_of_range(value))?;
        let from = places.clamp(0, scale.into());
        cast::number::rescale(rounded, from, to_precision, to_scale).ok_or_else(|| out_of_range(value))
    })?;
    Ok(Arc::new(rounded.with_precision_and_scale(to_precision, to_scale)?))
}

fn shifted(arguments: &Arguments<'_>) -> Result<DataType> {
    Ok(if arguments.of(0) == DataType::Int64 { DataType::Int64 } else { DataType::Int32 })
}

fn shift(call: &Invocation<'_>, ints: fn(i32, u32) -> i32, longs: fn(i64, u32) -> i64) -> Result<ArrayRef> {
    let by = call.ints(1)?;
    if *call.return_type() == DataType::Int64 {
        let values = call.longs(0)?;
        let out: Int64Array = each!(call.rows, (value = values, by = by) => Ok(Some(longs(value, by as u32))))?;
        return Ok(Arc::new(out));
    }
    let values = call.ints(0)?;
    let out: Int32Array = each!(call.rows, (value = values, by = by) => Ok(Some(ints(value, by as u32))))?;
    Ok(Arc::new(out))
}

fn bitwise_not(call: &Invocation<'_>) -> Result<ArrayRef> {
    let inverted: ArrayRef = Arc::new(call.longs(0)?.unary::<_, Int64Type>(|value| !value));
    cast::array(&inverted, call.return_type(), Mode::Ansi, call.zone)
}

fn bit_count(call: &Invocation<'_>) -> Result<ArrayRef> {
    let values = call.longs(0)?;
    Ok(Arc::new(values.iter().map(|v| v.map(|v| v.count_ones() as i32)).collect::<Int32Array>()))
}

fn getbit(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (values, places) = (call.longs(0)?, call.ints(1)?);
    let out: Int8Array = each!(call.rows, (value = values, place = places) => {
        if !(0..64).contains(&place) {
            return Err(failure::data("INVALID_PARAMETER_VALUE.BIT_POSITION_RANGE", format!("bit {place} of 64")));
        }
        Ok(Some((value >> place & 1) as i8))
    })?;
    Ok(Arc::new(out))
}

/// Bits of a bitmap, which covers that many numbers.
const BITMAP_BITS: i64 = 32_768;

fn bitmap_place(call: &Invocation<'_>, place: fn(i64) -> i64) -> Result<ArrayRef> {
    Ok(Arc::new(call.longs(0)?.unary::<_, Int64Type>(place)))
}

/// Where a number is in its bitmap.
fn bit_position(value: i64) -> i64 {
    if value > 0 { (value - 1) % BITMAP_BITS } else { -value % BITMAP_BITS }
}

/// Which bitmap a number is in.
fn bucket_number(value: i64) -> i64 {
    if value > 0 { 1 + (value - 1) / BITMAP_BITS } else { value / BITMAP_BITS }
}

fn bitmap_count(call: &Invocation<'_>) -> Result<ArrayRef> {
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(byte.count_ones())).sum::<i64>();
    Ok(Arc::new(call.bytes(0)?.iter().map(|bytes| bytes.map(ones)).collect::<Int64Array>()))
}

fn width_bucket(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (values, mins, maxs, counts) = (call.doubles(0)?, call.doubles(1)?, call.doubles(2)?, call.longs(3)?);
    let out: Int64Array = each!(call.rows, (value = values, min = mins, max = maxs, count = counts) => {
        if count <= 0 || min == max || !min.is_finite() || !max.is_finite() || value.is_nan() {
            return Ok(None);
        }
        let (from_min, width) = if min < max { (value - min, max - min) } else { (min - value, min - max) };
        Ok(Some(match from_min {
            before if before < 0.0 => 0,
            after if after >= width => count + 1,
            within => (count as f64 * within / width) as i64 + 1,
        }))
    })?;
    Ok(Arc::new(out))
}

/// `1,234,567.89`: rounded half even, thousands apart.
fn format_number(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, places) = (call.array(0, &DataType::Utf8)?, call.ints(1)?);
    let texts = texts.as_string::<i32>();
    let out: StringArray = each!(call.rows, (text = texts, places = places) => {
        let Ok(kept) = i8::try_from(places) else { return Ok(None) };
        if kept < 0 {
            return Ok(None);
        }
        let Some((unscaled, scale)) = cast::parse::exact_decimal(text) else { return Ok(Some(text.to_owned())) };
        let rounded = round_to(unscaled, scale, places, Rounding::HalfEven);
        let Some(rounded) = rounded else { return Ok(None) };
        let plain = cast::text::decimal(rounded.abs(), kept);
        let (whole, fraction) = plain.split_once('.').map_or((plain.as_str(), None), |(w, f)| (w, Some(f)));
        let mut grouped = String::new();
        for (i, digit) in whole.chars().enumerate() {
            if i > 0 && (whole.len() - i) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        let sign = if rounded < 0 { "-" } else { "" };
        Ok(Some(sign.to_owned() + &grouped + &fraction.map_or_else(String::new, |f| format!(".{f}"))))
    })?;
    Ok(Arc::new(out))
}
