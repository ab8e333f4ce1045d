//! Spark's casts in ANSI mode: what does not fit is an error with Spark's condition, or NULL under `try_cast`.
//!
//! Arrow's casts differ in what users see: they write `2024-01-31T10:20:30Z`, refuse ` 12 `, read numbers as
//! microseconds. So every cast a user can see comes here. Zones matter where a text, a date or a local time meets an
//! instant; the session's zone is handed in.
//!
//! Intervals are cast by Arrow and written in its words.

pub(crate) mod number;
pub(crate) mod parse;
pub(crate) mod text;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, ListArray, MapArray, PrimitiveArray, PrimitiveBuilder,
    StringArray, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::FormatOptions;
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime};
use datafusion::common::Result;

use super::{failure, types};
use crate::plan::datetime_pattern::cast as datetime;
use crate::plan::datetime_pattern::zone::{Zone, local_time};
use crate::plan::ddl;

/// What becomes of values that do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The query fails.
    Ansi,
    /// The value becomes NULL.
    Try,
}

const MICROS: i64 = 1_000_000;

/// The zone of zero offset.
pub(crate) const UTC: Zone = Zone::Region(chrono_tz::UTC);

/// What clocks show at an instant, as microseconds since 1970.
pub fn local_micros(micros: i64, zone: Zone) -> i64 {
    if zone == UTC { micros } else { naive_micros(local_of(micros, zone)) }
}

/// The instant at which clocks show that many microseconds since 1970.
pub(crate) fn instant_micros(local: i64, zone: Zone) -> i64 {
    if zone == UTC { local } else { instant_of(naive_of(local), zone) }
}

/// An instant in text; without a zone it is local to the session's.
pub(crate) fn timestamp(text: &str, session: Zone) -> Option<i64> {
    match session {
        Zone::Region(tz) => datetime::parse_timestamp(text, tz),
        Zone::Fixed(_) => match datetime::parse_timestamp_ntz(text) {
            Some(local) => Some(session.to_micros(naive_of(local))),
            None => datetime::parse_timestamp(text, chrono_tz::UTC),
        },
    }
}

/// The local time of an instant.
pub(crate) fn local_of(micros: i64, zone: Zone) -> NaiveDateTime {
    match zone {
        Zone::Fixed(seconds) => naive_of(micros.saturating_add(i64::from(seconds) * MICROS)),
        Zone::Region(tz) => local_time(micros, tz).unwrap_or(NaiveDateTime::MIN),
    }
}

/// The instant of a local time: the earlier of two, and past a gap by as much as the clock jumped.
pub(crate) fn instant_of(local: NaiveDateTime, zone: Zone) -> i64 {
    zone.to_micros(local)
}

pub(crate) fn naive_of(micros: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros).map_or(NaiveDateTime::MIN, |instant| instant.naive_utc())
}

pub(crate) fn naive_micros(local: NaiveDateTime) -> i64 {
    local.and_utc().timestamp_micros()
}

pub(crate) fn date_of(days: i32) -> NaiveDate {
    let step = Days::new(u64::from(days.unsigned_abs()));
    let date = if days < 0 {
        NaiveDate::default().checked_sub_days(step)
    } else {
        NaiveDate::default().checked_add_days(step)
    };
    date.unwrap_or(if days < 0 { NaiveDate::MIN } else { NaiveDate::MAX })
}

pub(crate) fn days_of(date: NaiveDate) -> i32 {
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).unwrap_or(i32::MAX)
}

/// Whether Spark has the cast at all.
pub(crate) fn castable(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    let unsigned = |t: &D| matches!(t, D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64);
    let number = |t: &D| types::as_decimal(t).is_some() || matches!(t, D::Float32 | D::Float64) || unsigned(t);
    match (from, to) {
        (a, b) if a == b => true,
        (D::Null, _) | (_, D::Utf8) => true,
        (a, b) if types::is_string(a) => !matches!(b, D::List(_) | D::Map(..) | D::Struct(_)),
        (D::Boolean, b) => number(b) || types::is_timestamp(b),
        (a, D::Boolean | D::Timestamp(_, Some(_))) if number(a) => true,
        (D::Timestamp(_, Some(_)), b) if number(b) => true,
        (a, b) if number(a) && number(b) => true,
        (a, D::Binary) => types::is_integral(a),
        (D::Date32 | D::Timestamp(..), D::Date32 | D::Timestamp(..)) => true,
        (D::List(a), D::List(b)) => castable(a.data_type(), b.data_type()),
        (D::Map(a, _), D::Map(b, _)) => castable(a.data_type(), b.data_type()),
        (D::Struct(a), D::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| castable(a.data_type(), b.data_type()))
        }
        (a, b) => {
            !types::is_string(a) && !number(a) && !number(b) && !types::is_timestamp(a) && !matches!(a, D::Date32)
        }
    }
}

/// Whether Arrow's cast gives the same, so that the optimizer may see through it.
pub(crate) fn is_plain(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    matches!(
        (from, to),
        (D::Int8, D::Int16 | D::Int32 | D::Int64 | D::Float64)
            | (D::Int16, D::Int32 | D::Int64 | D::Float64)
            | (D::Int32, D::Int64 | D::Float64)
            | (D::Int64 | D::Float32, D::Float64)
            | (D::Null, _)
    ) || from == to
}

/// Casts a column.
pub(crate) fn array(array: &ArrayRef, to: &DataType, mode: Mode, zone: Zone) -> Result<ArrayRef> {
    use DataType as D;
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), to) {
        (D::Null, _) => Ok(new_null_array(to, array.len())),
        (D::Utf8View | D::LargeUtf8, _) => self::array(&arrow_cast(array, &D::Utf8, mode)?, to, mode, zone),
        (D::Dictionary(_, value), _) => self::array(&arrow_cast(array, value, mode)?, to, mode, zone),
        (D::Timestamp(unit, tag), _)
            if *unit != TimeUnit::Microsecond || tag.as_deref().is_some_and(|t| t != "UTC") =>
        {
            let normal = if tag.is_some() { types::timestamp() } else { types::timestamp_ntz() };
            self::array(&arrow_cast(array, &normal, mode)?, to, mode, zone)
        }
        (_, D::Utf8) => Ok(Arc::new(text::strings(array, zone)?)),
        (D::Utf8, _) => from_text(array.as_string(), to, mode, zone),
        (D::Date32 | D::Timestamp(..), D::Date32 | D::Timestamp(..)) => between_times(array, to, zone),
        (D::Timestamp(..), D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Float32 | D::Float64 | D::Decimal128(..)) => {
            from_instant(array, to, mode, zone)
        }
        (_, D::Timestamp(_, Some(_))) => number::to_instant(array, mode),
        (D::List(_), D::List(field)) => list(array.as_list(), field, mode, zone),
        (D::Struct(_), D::Struct(fields)) => structure(array.as_struct(), fields, mode, zone),
        (D::Map(..), D::Map(field, _)) => map(array.as_map(), field, mode, zone),
        (D::Boolean, _) | (_, D::Boolean) => arrow_cast(array, to, mode),
        (from, _) if types::as_decimal(from).is_some() || matches!(from, D::Float32 | D::Float64) => {
            number::cast(array, to, mode)
        }
        _ => arrow_cast(array, to, mode),
    }
}

pub(crate) fn arrow_cast(array: &ArrayRef, to: &DataType, mode: Mode) -> Result<ArrayRef> {
    let options = CastOptions { safe: mode == Mode::Try, format_options: FormatOptions::default() };
    Ok(cast_with_options(array, to, &options)?)
}

/// Maps the values of a primitive column; under `Try` an error becomes NULL.
pub(crate) fn map_values<I: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    array: &PrimitiveArray<I>,
    mode: Mode,
    f: impl Fn(I::Native) -> Result<O::Native>,
) -> Result<PrimitiveArray<O>> {
    if mode == Mode::Ansi {
        return array.try_unary(f);
    }
    Ok(array.unary_opt(|value| f(value).ok()))
}

fn from_text(array: &StringArray, to: &DataType, mode: Mode, zone: Zone) -> Result<ArrayRef> {
    use DataType as D;
    Ok(match to {
        D::Int8 => Arc::new(parsed::<Int8Type>(array, to, mode, parse::integer)?),
        D::Int16 => Arc::new(parsed::<Int16Type>(array, to, mode, parse::integer)?),
        D::Int32 => Arc::new(parsed::<Int32Type>(array, to, mode, parse::integer)?),
        D::Int64 => Arc::new(parsed::<Int64Type>(array, to, mode, parse::integer)?),
        D::Float32 => Arc::new(parsed::<Float32Type>(array, to, mode, |t| parse::double(t).map(|v| v as f32))?),
        D::Float64 => Arc::new(parsed::<Float64Type>(array, to, mode, parse::double)?),
        D::Date32 => Arc::new(parsed::<Date32Type>(array, to, mode, datetime::parse_date)?),
        D::Decimal128(precision, scale) => Arc::new(number::decimals_of_text(array, *precision, *scale, mode)?),
        D::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            let instants = parsed::<TimestampMicrosecondType>(array, to, mode, |t| timestamp(t, zone))?;
            Arc::new(instants.with_timezone("UTC"))
        }
        D::Timestamp(TimeUnit::Microsecond, None) => {
            Arc::new(parsed::<TimestampMicrosecondType>(array, to, mode, datetime::parse_timestamp_ntz)?)
        }
        D::Boolean => {
            let parse = |text: Option<&str>| match text.map(|text| (text, parse::boolean(text))) {
                None => Ok(None),
                Some((text, None)) if mode == Mode::Ansi => Err(failure::invalid_input(text, "BOOLEAN")),
                Some((_, value)) => Ok(value),
            };
            Arc::new(array.iter().map(parse).collect::<Result<BooleanArray>>()?)
        }
        _ => return arrow_cast(&(Arc::new(array.clone()) as ArrayRef), to, mode),
    })
}

fn parsed<T: ArrowPrimitiveType>(
    array: &StringArray,
    to: &DataType,
    mode: Mode,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(array.len());
    for text in array {
        match text.map(|text| (text, parse(text))) {
            Some((_, Some(value))) => builder.append_value(value),
            Some((text, None)) if mode == Mode::Ansi => return Err(failure::invalid_input(text, &ddl::type_name(to))),
            _ => builder.append_null(),
        }
    }
    Ok(builder.finish())
}

/// Dates, instants and local times into each other.
fn between_times(array: &ArrayRef, to: &DataType, zone: Zone) -> Result<ArrayRef> {
    use DataType as D;
    let micros = |f: &dyn Fn(i64) -> i64| -> PrimitiveArray<TimestampMicrosecondType> {
        array.as_primitive::<TimestampMicrosecondType>().unary(f)
    };
    let midnight = |days: i32| date_of(days).and_time(chrono::NaiveTime::MIN);
    let day = |local: NaiveDateTime| days_of(local.date());
    let instants = array.as_primitive_opt::<TimestampMicrosecondType>();
    Ok(match (array.data_type(), to) {
        (D::Date32, D::Timestamp(_, Some(_))) => {
            let dates = array.as_primitive::<Date32Type>();
            let instants: PrimitiveArray<TimestampMicrosecondType> = dates.unary(|d| instant_of(midnight(d), zone));
            Arc::new(instants.with_timezone("UTC"))
        }
        (D::Date32, _) => {
            let dates = array.as_primitive::<Date32Type>();
            Arc::new(dates.unary::<_, TimestampMicrosecondType>(|d| naive_micros(midnight(d))))
        }
        (D::Timestamp(_, Some(_)), D::Date32) => Arc::new(
            array.as_primitive::<TimestampMicrosecondType>().unary::<_, Date32Type>(|us| day(local_of(us, zone))),
        ),
        (D::Timestamp(_, None), D::Date32) => {
            Arc::new(array.as_primitive::<TimestampMicrosecondType>().unary::<_, Date32Type>(|us| day(naive_of(us))))
        }
        (D::Timestamp(_, Some(_)), D::Timestamp(_, None)) => Arc::new(micros(&|us| local_micros(us, zone))),
        (D::Timestamp(_, None), D::Timestamp(_, Some(_))) => {
            Arc::new(micros(&|us| instant_micros(us, zone)).with_timezone("UTC"))
        }
        _ if instants.is_some() => Arc::clone(array),
        _ => return arrow_cast(array, to, Mode::Ansi),
    })
}

/// Instants as seconds since 1970; whole seconds are rounded down.
fn from_instant(array: &ArrayRef, to: &DataType, mode: Mode, zone: Zone) -> Result<ArrayRef> {
    let instants = array.as_primitive::<TimestampMicrosecondType>();
    let seconds: ArrayRef = match to {
        DataType::Float32 | DataType::Float64 => {
            Arc::new(instants.unary::<_, Float64Type>(|us| us as f64 / MICROS as f64))
        }
        DataType::Decimal128(..) => {
            let micros = instants.unary::<_, arrow::datatypes::Decimal128Type>(i128::from);
            Arc::new(micros.with_precision_and_scale(20, 6)?)
        }
        _ => Arc::new(instants.unary::<_, Int64Type>(|us| us.div_euclid(MICROS))),
    };
    self::array(&seconds, to, mode, zone)
}

fn list(lists: &ListArray, field: &FieldRef, mode: Mode, zone: Zone) -> Result<ArrayRef> {
    let values = array(lists.values(), field.data_type(), mode, zone)?;
    let nulls = lists.nulls().cloned();
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), lists.offsets().clone(), values, nulls)?))
}

fn structure(columns: &StructArray, fields: &Fields, mode: Mode, zone: Zone) -> Result<ArrayRef> {
    let cast = |(column, field): (&ArrayRef, &FieldRef)| array(column, field.data_type(), mode, zone);
    let values = columns.columns().iter().zip(fields).map(cast).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), values, columns.nulls().cloned())?))
}

fn map(map: &MapArray, field: &FieldRef, mode: Mode, zone: Zone) -> Result<ArrayRef> {
    let DataType::Struct(fields) = field.data_type() else {
        return arrow_cast(&(Arc::new(map.clone()) as ArrayRef), field.data_type(), mode);
    };
    let entries = structure(map.entries(), fields, mode, zone)?;
    let offsets = map.offsets().clone();
    Ok(Arc::new(MapArray::try_new(
        Arc::clone(field),
        offsets,
        entries.as_struct().clone(),
        map.nulls().cloned(),
        false,
    )?))
}
