//! What makes rows of one: `explode`, `posexplode`, `inline`, `stack`, `json_tuple` and sliding windows, as arrays of
//! rows.
//!
//! ```text
//!   explode(array(1, 2))   [{col: 1}, {col: 2}]     a struct a row, its fields the columns
//! ```
//!
//! A query does not call these: `plan::relations` puts them in the place of Spark's functions and takes the arrays
//! apart, which is why their names cannot be written in SQL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray, make_array,
    new_empty_array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, interleave};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue};

use super::nested::{compact, element, gathered, map_types};
use super::udf::{ANY, Arguments, Invocation, Spec, function};
use super::{failure, types};
use crate::plan::ddl;
use crate::plan::window::{time_window, window_array, window_type};

/// What stands before the name of a function in its array form.
pub(crate) const ROWS_OF: &str = "rows of ";

/// Gives an array that is null or empty one row of nulls: `explode_outer` and `LATERAL VIEW OUTER`.
pub(crate) const OR_NULLS: &str = "rows or nulls";

pub(super) const TABLE: &[Spec] = &[
    function("rows of explode", (1, 1), |a| exploded_type(a, false), |c| exploded(c, false)),
    function("rows of posexplode", (1, 1), |a| exploded_type(a, true), |c| exploded(c, true)),
    function("rows of inline", (1, 1), inline_type, inline),
    function("rows of stack", (2, ANY), stack_type, stack),
    function("rows of json_tuple", (2, ANY), json_tuple_type, json_tuple),
    function("rows of window", (2, 4), windows_type, windows),
    function(OR_NULLS, (1, 1), super::udf::first, or_nulls),
];

fn mismatch(name: &str, wanted: &str, found: &DataType) -> datafusion::common::DataFusionError {
    let found = ddl::type_name(found);
    failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", format!("{name} takes {wanted}, found {found}"))
}

fn rows_type(fields: Vec<Field>) -> DataType {
    types::list(DataType::Struct(Fields::from(fields)))
}

fn row_fields(rows: &DataType) -> Fields {
    match element(rows).map(|field| field.data_type()) {
        Some(DataType::Struct(fields)) => fields.clone(),
        _ => Fields::empty(),
    }
}

fn exploded_type(arguments: &Arguments<'_>, with_place: bool) -> Result<DataType> {
    let name = if with_place { "posexplode" } else { "explode" };
    let mut fields = Vec::new();
    if with_place {
        fields.push(Field::new("pos", DataType::Int32, true));
    }
    match arguments.of(0) {
        DataType::List(element) => fields.push(Field::new("col", element.data_type().clone(), true)),
        map @ DataType::Map(..) => {
            let (key, value) = map_types(&map);
            fields.extend([Field::new("key", key, true), Field::new("value", value, true)]);
        }
        other => return Err(mismatch(name, "an ARRAY or a MAP", &other)),
    }
    Ok(rows_type(fields))
}

fn exploded(call: &Invocation<'_>, with_place: bool) -> Result<ArrayRef> {
    let raw = call.raw(0)?;
    let (offsets, mut columns) = match raw.data_type() {
        DataType::Map(..) => {
            let map = raw.as_map();
            (map.offsets(), vec![Arc::clone(map.keys()), Arc::clone(map.values())])
        }
        _ => {
            let lists = raw.as_list::<i32>();
            (lists.offsets(), vec![Arc::clone(lists.values())])
        }
    };
    if with_place {
        let length = columns.first().map_or(0, |column| column.len());
        let mut places = vec![0; length];
        for range in offsets.windows(2) {
            let values = places.get_mut(range[0] as usize..range[1] as usize).into_iter().flatten();
            values.zip(0..).for_each(|(place, at)| *place = at);
        }
        columns.insert(0, Arc::new(Int32Array::from(places)));
    }
    rows(call.return_type(), offsets.clone(), columns, raw.nulls().cloned())
}

fn rows(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    columns: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let values = StructArray::try_new(row_fields(data_type), columns, None)?;
    Ok(Arc::new(ListArray::try_new(row_field(data_type), offsets, Arc::new(values), nulls)?))
}

fn row_field(rows: &DataType) -> FieldRef {
    element(rows).map_or_else(|| Arc::new(Field::new_list_field(DataType::Null, true)), Arc::clone)
}

fn inline_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let found = arguments.of(0);
    match element(&found).map(|field| field.data_type()) {
        Some(DataType::Struct(fields)) => {
            Ok(rows_type(fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect()))
        }
        _ => Err(mismatch("inline", "an ARRAY of STRUCT", &found)),
    }
}

/// The rows are there already; one that is null has fields that are.
fn inline(call: &Invocation<'_>) -> Result<ArrayRef> {
    let raw = call.raw(0)?;
    let lists = raw.as_list::<i32>();
    let structs = lists.values().as_struct();
    let column = |column: &ArrayRef| -> Result<ArrayRef> {
        let nulls = NullBuffer::union(structs.nulls(), column.nulls());
        Ok(make_array(column.to_data().into_builder().nulls(nulls).build()?))
    };
    let columns = structs.columns().iter().map(column).collect::<Result<_>>()?;
    rows(call.return_type(), lists.offsets().clone(), columns, lists.nulls().cloned())
}

/// How many rows `stack` makes, and how many columns they have.
fn stack_shape(arguments: &Arguments<'_>) -> Result<(usize, usize)> {
    let rows = arguments.int(0).and_then(|rows| usize::try_from(rows).ok()).filter(|rows| *rows > 0);
    let rows = rows.ok_or_else(|| {
        failure::plan(
            "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
            "the first argument of stack is a number of rows, 1 or more",
        )
    })?;
    Ok((rows, (arguments.fields.len() - 1).div_ceil(rows)))
}

fn stack_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let (_, width) = stack_shape(arguments)?;
    let column = |at: usize| {
        let values = (0..arguments.fields.len() - 1).filter(|i| i % width == at).map(|i| arguments.of(i + 1));
        let wide = values.into_iter().try_fold(DataType::Null, |wide, next| {
            types::common(&wide, &next).ok_or_else(|| {
                let (a, b) = (ddl::type_name(&wide), ddl::type_name(&next));
                failure::plan("DATATYPE_MISMATCH.STACK_COLUMN_DIFF_TYPES", format!("column {at} is {a} and {b}"))
            })
        })?;
        Ok(Field::new(format!("col{at}"), wide, true))
    };
    (0..width).map(column).collect::<Result<Vec<_>>>().map(rows_type)
}

fn stack(call: &Invocation<'_>) -> Result<ArrayRef> {
    let fields = row_fields(call.return_type());
    let (given, width) = (call.len() - 1, fields.len());
    let height = match call.longs(0)? {
        rows if rows.is_empty() => 0,
        rows => usize::try_from(rows.value(0)).unwrap_or(0),
    };
    let column = |(at, field): (usize, &FieldRef)| -> Result<ArrayRef> {
        let value = |row: usize| match row * width + at {
            place if place < given => call.array(place + 1, field.data_type()),
            _ => Ok(new_null_array(field.data_type(), call.rows)),
        };
        let values = (0..height).map(value).collect::<Result<Vec<_>>>()?;
        if *field.data_type() == DataType::Null || values.is_empty() {
            return Ok(new_null_array(field.data_type(), height * call.rows));
        }
        let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
        let places: Vec<(usize, usize)> = (0..call.rows).flat_map(|row| (0..height).map(move |i| (i, row))).collect();
        Ok(interleave(&values, &places)?)
    };
    let columns = fields.iter().enumerate().map(column).collect::<Result<_>>()?;
    rows(call.return_type(), OffsetBuffer::from_lengths(std::iter::repeat_n(height, call.rows)), columns, None)
}

fn json_tuple_type(arguments: &Arguments<'_>) -> Result<DataType> {
    if let Some(other) = arguments.types().find(|found| !types::is_string(found)) {
        return Err(failure::plan(
            "DATATYPE_MISMATCH.NON_STRING_TYPE",
            format!("json_tuple takes strings, found {}", ddl::type_name(other)),
        ));
    }
    let column = |i: usize| Field::new(format!("c{i}"), DataType::Utf8, true);
    Ok(rows_type((0..arguments.fields.len() - 1).map(column).collect()))
}

/// One row, also of a text that is no object: its columns are null.
fn json_tuple(call: &Invocation<'_>) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let documents: Vec<_> = texts.iter().map(|text| super::json::object(text?)).collect();
    let column = |i: usize| -> Result<ArrayRef> {
        let names = call.strings(i)?;
        let value = |(document, name): (&Option<super::json::Object>, Option<&str>)| {
            super::json::shown(document.as_ref()?.get(name?)?)
        };
        Ok(Arc::new(documents.iter().zip(&names).map(value).collect::<StringArray>()))
    };
    let columns = (1..call.len()).map(column).collect::<Result<_>>()?;
    rows(call.return_type(), OffsetBuffer::from_lengths(std::iter::repeat_n(1, call.rows)), columns, None)
}

fn windows_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let time = match arguments.of(0) {
        DataType::Timestamp(_, None) => types::timestamp_ntz(),
        _ => types::timestamp(),
    };
    Ok(rows_type(vec![Field::new("window", window_type(&time), true)]))
}

/// The windows each time is in, the earliest first; none for a time that is null.
fn windows(call: &Invocation<'_>) -> Result<ArrayRef> {
    let lengths: Vec<String> = (1..call.len()).filter_map(|i| call.constant_text(i).flatten()).collect();
    let lengths: Vec<&str> = lengths.iter().map(String::as_str).collect();
    let window = time_window(&lengths).map_err(|error| failure::plan("INVALID_TIME_WINDOW", error))?;
    let fields = row_fields(call.return_type());
    let zone = match fields.first().map(|field| field.data_type()) {
        Some(DataType::Struct(times)) => match times[0].data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        },
        _ => None,
    };
    let times = match zone {
        Some(_) => call.timestamps(0)?,
        None => call.longs_of(0, &types::timestamp_ntz())?,
    };
    let (mut starts, mut lengths) = (Vec::new(), Vec::with_capacity(times.len()));
    for row in 0..times.len() {
        let before = starts.len();
        if times.is_valid(row) {
            starts.extend(window.starts(times.value(row)));
        }
        starts[before..].reverse();
        lengths.push(starts.len() - before);
    }
    let starts = TimestampMicrosecondArray::from(starts).with_timezone_opt(zone);
    let columns = vec![window_array(&starts, window.size_us)];
    rows(call.return_type(), OffsetBuffer::from_lengths(lengths), columns, None)
}

fn or_nulls(call: &Invocation<'_>) -> Result<ArrayRef> {
    let raw = call.raw(0)?;
    let lists = compact(raw.as_list())?;
    let null = lists.values().len();
    let data_type = lists.value_type();
    let one = ScalarValue::try_new_null(&data_type)?.to_array_of_size(1)?;
    let values = if null == 0 { new_empty_array(&data_type) } else { Arc::clone(lists.values()) };
    let values = concat(&[values.as_ref(), one.as_ref()])?;
    let row = |row: usize| match lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize {
        range if range.is_empty() => Some(vec![null]),
        range => Some(range.collect()),
    };
    let rows: Vec<Option<Vec<usize>>> = (0..lists.len()).map(row).collect();
    gathered(&values, &rows)
}
