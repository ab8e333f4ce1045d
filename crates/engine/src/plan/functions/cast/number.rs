//! Casts between numbers: whole numbers are cut off, decimals are rounded half up, what does not fit fails.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Decimal128Builder, PrimitiveArray, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result};

use super::{MICROS, Mode, arrow_cast, map_values, parse, text};
use crate::plan::ddl;
use crate::plan::functions::{failure, types};

/// Casts a column of numbers to another type of number.
pub(crate) fn cast(array: &ArrayRef, to: &DataType, mode: Mode) -> Result<ArrayRef> {
    use DataType as D;
    match (array.data_type(), to) {
        (_, D::Decimal128(precision, scale)) => Ok(Arc::new(to_decimal(array, *precision, *scale, mode)?)),
        (D::Decimal128(_, scale), D::Int8 | D::Int16 | D::Int32 | D::Int64) => {
            let unit = pow10(i32::from(*scale)).unwrap_or(i128::MAX);
            let scale = *scale;
            let values = array.as_primitive::<Decimal128Type>();
            integers(values, to, mode, |v| Some(v / unit), move |v| text::decimal(v, scale))
        }
        (D::Float32, D::Int8 | D::Int16 | D::Int32 | D::Int64) => {
            let shown = |v: f32| text::float(v);
            integers(array.as_primitive::<Float32Type>(), to, mode, |v| truncated(f64::from(v)), shown)
        }
        (D::Float64, D::Int8 | D::Int16 | D::Int32 | D::Int64) => {
            integers(array.as_primitive::<Float64Type>(), to, mode, truncated, text::double)
        }
        (D::Int16, D::Int8) => {
            integers(array.as_primitive::<Int16Type>(), to, mode, |v| Some(v.into()), |v| v.to_string())
        }
        (D::Int32, D::Int8 | D::Int16) => {
            integers(array.as_primitive::<Int32Type>(), to, mode, |v| Some(v.into()), |v| v.to_string())
        }
        (D::Int64, D::Int8 | D::Int16 | D::Int32) => {
            integers(array.as_primitive::<Int64Type>(), to, mode, |v| Some(v.into()), |v| v.to_string())
        }
        _ => arrow_cast(array, to, mode),
    }
}

/// A double without its fraction; nothing if it is no number.
fn truncated(value: f64) -> Option<i128> {
    value.is_finite().then_some(value as i128)
}

fn integers<I: ArrowPrimitiveType>(
    array: &PrimitiveArray<I>,
    to: &DataType,
    mode: Mode,
    whole: impl Fn(I::Native) -> Option<i128>,
    shown: impl Fn(I::Native) -> String,
) -> Result<ArrayRef> {
    let overflow = |value: I::Native| {
        let (from, to) = (ddl::type_name(&I::DATA_TYPE), ddl::type_name(to));
        failure::data("CAST_OVERFLOW", format!("the value {} of {from} does not fit in {to}", shown(value)))
    };
    macro_rules! fit {
        ($native:ty, $arrow:ty) => {
            Arc::new(map_values::<I, $arrow>(array, mode, |value| {
                let fits = whole(value).and_then(|whole| <$native>::try_from(whole).ok());
                fits.ok_or_else(|| overflow(value))
            })?)
        };
    }
    Ok(match to {
        DataType::Int8 => fit!(i8, Int8Type),
        DataType::Int16 => fit!(i16, Int16Type),
        DataType::Int32 => fit!(i32, Int32Type),
        _ => fit!(i64, Int64Type),
    })
}

/// Any number as a decimal.
pub(crate) fn to_decimal(array: &ArrayRef, precision: u8, scale: i8, mode: Mode) -> Result<Decimal128Array> {
    let out_of_range = |shown: String| failure::out_of_range(shown, precision, scale);
    let decimals = match array.data_type() {
        DataType::Decimal128(_, from) => {
            let from = *from;
            map_values::<Decimal128Type, _>(array.as_primitive(), mode, |value| {
                rescale(value, i32::from(from), precision, scale)
                    .ok_or_else(|| out_of_range(text::decimal(value, from)))
            })?
        }
        DataType::Float32 | DataType::Float64 => {
            let single = matches!(array.data_type(), DataType::Float32);
            let doubles = arrow_cast(array, &DataType::Float64, mode)?;
            map_values::<Float64Type, _>(doubles.as_primitive(), mode, |value| {
                let shown = if single { text::float(value as f32) } else { text::double(value) };
                let exact = parse::exact_decimal(&shown);
                exact.and_then(|(v, s)| rescale(v, s, precision, scale)).ok_or_else(|| out_of_range(shown))
            })?
        }
        _ => {
            let longs = arrow_cast(array, &DataType::Int64, mode)?;
            map_values::<Int64Type, _>(longs.as_primitive(), mode, |value| {
                rescale(value.into(), 0, precision, scale).ok_or_else(|| out_of_range(value.to_string()))
            })?
        }
    };
    Ok(decimals.with_precision_and_scale(precision, scale)?)
}

/// Text as decimals: a number too large is out of range, no number is invalid.
pub(crate) fn decimals_of_text(array: &StringArray, precision: u8, scale: i8, mode: Mode) -> Result<Decimal128Array> {
    let mut builder = Decimal128Builder::with_capacity(array.len()).with_precision_and_scale(precision, scale)?;
    let read = |text: &str| -> Result<i128> {
        let (unscaled, from) = parse::exact_decimal(text)
            .ok_or_else(|| failure::invalid_input(text, &format!("DECIMAL({precision},{scale})")))?;
        rescale(unscaled, from, precision, scale).ok_or_else(|| failure::out_of_range(text, precision, scale))
    };
    for text in array {
        match text.map(read) {
            Some(Ok(value)) => builder.append_value(value),
            Some(Err(error)) if mode == Mode::Ansi => return Err(error),
            _ => builder.append_null(),
        }
    }
    Ok(builder.finish())
}

/// The unscaled value at another scale, rounded half up; nothing if it needs more digits than `precision`.
pub(crate) fn rescale(value: i128, from: i32, precision: u8, scale: i8) -> Option<i128> {
    let shift = i32::from(scale) - from;
    let scaled = if shift >= 0 { value.checked_mul(pow10(shift)?)? } else { divide_half_up(value, pow10(-shift)) };
    (types::digits(scaled) <= u32::from(precision)).then_some(scaled)
}

/// `value / unit` rounded half away from zero; a unit too large for us leaves nothing.
pub(crate) fn divide_half_up(value: i128, unit: Option<i128>) -> i128 {
    let Some(unit) = unit else { return 0 };
    let (quotient, rest) = (value / unit, value % unit);
    if rest.unsigned_abs() >= unit.unsigned_abs().div_ceil(2) {
        quotient + value.signum() * unit.signum()
    } else {
        quotient
    }
}

/// Ten to a power, while it fits.
pub(crate) fn pow10(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

/// Numbers as instants: seconds since 1970.
pub(crate) fn to_instant(array: &ArrayRef, mode: Mode) -> Result<ArrayRef> {
    let overflow = |value: &dyn std::fmt::Display| -> DataFusionError {
        failure::data("CAST_OVERFLOW", format!("the value {value} does not fit in TIMESTAMP"))
    };
    let instants: PrimitiveArray<TimestampMicrosecondType> = match array.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let doubles = arrow_cast(array, &DataType::Float64, mode)?;
            map_values::<Float64Type, _>(doubles.as_primitive(), mode, |seconds| {
                let micros = truncated(seconds * MICROS as f64).and_then(|micros| i64::try_from(micros).ok());
                micros.ok_or_else(|| failure::invalid_input(text::double(seconds), "TIMESTAMP"))
            })?
        }
        DataType::Decimal128(_, scale) => {
            let scale = i32::from(*scale);
            map_values::<Decimal128Type, _>(array.as_primitive(), mode, |value| {
                let micros = if scale >= 6 {
                    pow10(scale - 6).map(|u| value / u)
                } else {
                    pow10(6 - scale).and_then(|u| value.checked_mul(u))
                };
                micros.and_then(|micros| i64::try_from(micros).ok()).ok_or_else(|| overflow(&value))
            })?
        }
        _ => {
            let longs = arrow_cast(array, &DataType::Int64, mode)?;
            map_values::<Int64Type, _>(longs.as_primitive(), mode, |seconds| {
                seconds.checked_mul(MICROS).ok_or_else(|| overflow(&seconds))
            })?
        }
    };
    debug_assert_eq!(instants.len(), array.len());
    Ok(Arc::new(instants.with_timezone("UTC")))
}
