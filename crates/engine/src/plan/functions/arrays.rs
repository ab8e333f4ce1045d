//! Arrays: searched, joined, cut. Elements are compared by value, NULL equals NULL. Their order is in [`super::array_order`].

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StringArray, StructArray, UInt64Array,
    new_null_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, ScalarValue};

use super::cast::{self, Mode};
use super::nested::{bigints, compact, element, gathered, map_array, map_data_type, map_types};
use super::udf::{self, ANY, Arguments, Invocation, Spec, each, function};
use super::{failure, types};

pub(super) const TABLE: &[Spec] = &[
    function("array_contains", (2, 2), udf::boolean, contains),
    function("array_position", (2, 2), udf::long, position),
    function("array_distinct", (1, 1), udf::first, distinct),
    function("array_union", (2, 2), both_lists, |c| combine(c, Set::Union)),
    function("array_intersect", (2, 2), both_lists, |c| combine(c, Set::Intersect)),
    function("array_except", (2, 2), both_lists, |c| combine(c, Set::Except)),
    function("arrays_overlap", (2, 2), udf::boolean, overlap),
    function("array_join", (2, 3), udf::string, join),
    function("array_remove", (2, 2), udf::first, remove),
    function("array_compact", (1, 1), udf::first, without_nulls),
    function("array_repeat", (2, 2), |a| Ok(types::list(a.of(0))), repeat),
    function("array_append", (2, 2), with_element, |c| put(c, Place::Last)),
    function("array_prepend", (2, 2), with_element, |c| put(c, Place::First)),
    function("array_insert", (3, 3), inserted_type, insert),
    function("arrays_zip", (1, ANY), zipped_type, zip),
    function("slice", (3, 3), udf::first, slice),
    function("sequence", (2, 3), sequence_type, sequence),
    function("flatten", (1, 1), element_type, flatten),
    function("map_concat", (0, ANY), udf::first, map_concat),
    function("map_from_entries", (1, 1), from_entries_type, map_from_entries),
    function("str_to_map", (1, 3), |_| Ok(map_data_type(DataType::Utf8, DataType::Utf8)), str_to_map),
];

pub(super) fn element_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let list = arguments.of(0);
    element(&list).map(|field| field.data_type().clone()).ok_or_else(|| wrong(&list))
}

fn wrong(found: &DataType) -> datafusion::common::DataFusionError {
    let found = types::simple_string(found);
    failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", format!("{found} is no array"))
}

fn both_lists(arguments: &Arguments<'_>) -> Result<DataType> {
    let (a, b) = (arguments.of(0), arguments.of(1));
    types::common(&a, &b).filter(|common| element(common).is_some()).ok_or_else(|| wrong(&a))
}

pub(super) fn lists(call: &Invocation<'_>, i: usize) -> Result<ListArray> {
    let raw = call.raw(i)?;
    raw.as_list_opt::<i32>().cloned().ok_or_else(|| wrong(raw.data_type()))
}

/// The places of a row's elements, nothing if the row is NULL.
pub(super) fn places(lists: &ListArray, row: usize) -> Option<std::ops::Range<usize>> {
    let offsets = lists.value_offsets();
    lists.is_valid(row).then(|| offsets[row] as usize..offsets[row + 1] as usize)
}

fn scalar(values: &ArrayRef, place: usize) -> Result<ScalarValue> {
    ScalarValue::try_from_array(values, place)
}

/// The list and a value, both brought to one element type.
fn list_and_value(call: &Invocation<'_>, value: usize) -> Result<(ListArray, ArrayRef)> {
    let lists = lists(call, 0)?;
    let value = call.raw(value)?;
    let common = types::common(&lists.value_type(), value.data_type()).ok_or_else(|| wrong(value.data_type()))?;
    let lists = cast::array(&(Arc::new(lists) as ArrayRef), &types::list(common.clone()), Mode::Ansi, call.zone)?;
    Ok((lists.as_list::<i32>().clone(), cast::array(&value, &common, Mode::Ansi, call.zone)?))
}

/// NULL if the value is not found but a NULL is.
fn contains(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (lists, wanted) = list_and_value(call, 1)?;
    let row = |row: usize| -> Result<Option<bool>> {
        let (Some(mut places), true) = (places(&lists, row), wanted.is_valid(row)) else { return Ok(None) };
        let value = scalar(&wanted, row)?;
        let items = places.clone();
        for place in &mut places {
            if scalar(lists.values(), place)? == value {
                return Ok(Some(true));
            }
        }
        Ok(if items.into_iter().any(|place| lists.values().is_null(place)) { None } else { Some(false) })
    };
    Ok(Arc::new((0..call.rows).map(row).collect::<Result<BooleanArray>>()?))
}

fn position(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (lists, wanted) = list_and_value(call, 1)?;
    let row = |row: usize| -> Result<Option<i64>> {
        let (Some(mut places), true) = (places(&lists, row), wanted.is_valid(row)) else { return Ok(None) };
        let value = scalar(&wanted, row)?;
        let start = places.start;
        let found = places.find_map(|place| match scalar(lists.values(), place) {
            Ok(item) => (item == value).then_some(Ok(place)),
            Err(error) => Some(Err(error)),
        });
        Ok(Some(found.transpose()?.map_or(0, |place| (place - start) as i64 + 1)))
    };
    Ok(bigints((0..call.rows).map(row).collect::<Result<Vec<_>>>()?.into_iter()))
}

fn selected(lists: &ListArray, mut keep: impl FnMut(usize, usize) -> Result<bool>) -> Result<ArrayRef> {
    let mut rows = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let Some(places) = places(lists, row) else {
            rows.push(None);
            continue;
        };
        let mut kept = Vec::new();
        for place in places {
            if keep(row, place)? {
                kept.push(place);
            }
        }
        rows.push(Some(kept));
    }
    gathered(lists.values(), &rows)
}

fn distinct(call: &Invocation<'_>) -> Result<ArrayRef> {
    let lists = lists(call, 0)?;
    let mut seen = (usize::MAX, HashSet::new());
    selected(&lists, |row, place| {
        if seen.0 != row {
            seen = (row, HashSet::new());
        }
        Ok(seen.1.insert(scalar(lists.values(), place)?))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Union,
    Intersect,
    Except,
}

/// Both lists with one element type, their elements in one column; the second's begin at the returned place.
fn two_lists(call: &Invocation<'_>) -> Result<(ListArray, ListArray, ArrayRef, usize)> {
    let (a, b) = (call.raw(0)?, call.raw(1)?);
    let common = types::common(a.data_type(), b.data_type()).ok_or_else(|| wrong(b.data_type()))?;
    let list = |array: &ArrayRef| -> Result<ListArray> {
        Ok(cast::array(array, &common, Mode::Ansi, call.zone)?.as_list::<i32>().clone())
    };
    let (a, b) = (list(&a)?, list(&b)?);
    let values = concat(&[a.values().as_ref(), b.values().as_ref()])?;
    let second = a.values().len();
    Ok((a, b, values, second))
}

fn combine(call: &Invocation<'_>, set: Set) -> Result<ArrayRef> {
    let (a, b, values, second) = two_lists(call)?;
    let row = |row: usize| -> Result<Option<Vec<usize>>> {
        let (Some(left), Some(right)) = (places(&a, row), places(&b, row)) else { return Ok(None) };
        let right: Vec<usize> = right.map(|place| place + second).collect();
        let others = right.iter().map(|&place| scalar(&values, place)).collect::<Result<HashSet<_>>>()?;
        let candidates: Vec<usize> = if set == Set::Union { left.chain(right).collect() } else { left.collect() };
        let mut seen = HashSet::new();
        let mut kept = Vec::new();
        for place in candidates {
            let value = scalar(&values, place)?;
            let wanted = match set {
                Set::Union => true,
                Set::Intersect => others.contains(&value),
                Set::Except => !others.contains(&value),
            };
            if wanted && seen.insert(value) {
                kept.push(place);
            }
        }
        Ok(Some(kept))
    };
    gathered(&values, &(0..call.rows).map(row).collect::<Result<Vec<_>>>()?)
}

fn overlap(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (a, b, values, second) = two_lists(call)?;
    let row = |row: usize| -> Result<Option<bool>> {
        let (Some(left), Some(right)) = (places(&a, row), places(&b, row)) else { return Ok(None) };
        let left = left.map(|place| scalar(&values, place)).collect::<Result<HashSet<_>>>()?;
        let right = right.map(|place| scalar(&values, place + second)).collect::<Result<HashSet<_>>>()?;
        if left.intersection(&right).any(|value| !value.is_null()) {
            return Ok(Some(true));
        }
        let has_null = left.iter().chain(&right).any(ScalarValue::is_null);
        Ok(if has_null && !left.is_empty() && !right.is_empty() { None } else { Some(false) })
    };
    Ok(Arc::new((0..call.rows).map(row).collect::<Result<BooleanArray>>()?))
}

/// Elements as text with a separator; NULLs are left out or replaced.
fn join(call: &Invocation<'_>) -> Result<ArrayRef> {
    let lists = call.array(0, &types::list(DataType::Utf8))?;
    let lists = lists.as_list::<i32>();
    let separators = call.strings(1)?;
    let replacements = if call.len() > 2 { Some(call.strings(2)?) } else { None };
    let row = |row: usize| -> Option<String> {
        if lists.is_null(row) || separators.is_null(row) {
            return None;
        }
        let replacement = replacements.as_ref().filter(|r| r.is_valid(row)).map(|r| r.value(row));
        let items = lists.value(row);
        let parts: Vec<&str> = items.as_string::<i32>().iter().filter_map(|item| item.or(replacement)).collect();
        Some(parts.join(separators.value(row)))
    };
    Ok(Arc::new((0..call.rows).map(row).collect::<StringArray>()))
}

fn remove(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (lists, wanted) = list_and_value(call, 1)?;
    let removed = selected(&lists, |row, place| Ok(scalar(lists.values(), place)? != scalar(&wanted, row)?))?;
    cast::array(&removed, call.return_type(), Mode::Ansi, call.zone)
}

fn without_nulls(call: &Invocation<'_>) -> Result<ArrayRef> {
    let lists = lists(call, 0)?;
    selected(&lists, |_, place| Ok(lists.values().is_valid(place)))
}

fn repeat(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (values, times) = (call.raw(0)?, call.ints(1)?);
    let row = |(row, times): (usize, Option<i32>)| times.map(|times| vec![row; times.max(0).unsigned_abs() as usize]);
    gathered(&values, &times.iter().enumerate().map(row).collect::<Vec<_>>())
}

fn with_element(arguments: &Arguments<'_>) -> Result<DataType> {
    let item = element_type(arguments)?;
    types::common(&item, &arguments.of(1)).map(types::list).ok_or_else(|| wrong(&arguments.of(1)))
}

fn inserted_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let item = element_type(arguments)?;
    types::common(&item, &arguments.of(2)).map(types::list).ok_or_else(|| wrong(&arguments.of(2)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Last,
}

fn put(call: &Invocation<'_>, at: Place) -> Result<ArrayRef> {
    let (lists, items) = list_and_value(call, 1)?;
    let values = concat(&[lists.values().as_ref(), items.as_ref()])?;
    let first_item = lists.values().len();
    let row = |row: usize| {
        let mut all: Vec<usize> = places(&lists, row)?.collect();
        all.insert(if at == Place::First { 0 } else { all.len() }, first_item + row);
        Some(all)
    };
    gathered(&values, &(0..call.rows).map(row).collect::<Vec<_>>())
}

/// Inserts before a place counted from 1, or from the end; what lies between is NULL.
fn insert(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (lists, items) = list_and_value(call, 2)?;
    let positions = call.ints(1)?;
    let null = new_null_array(&lists.value_type(), 1);
    let values = concat(&[lists.values().as_ref(), items.as_ref(), null.as_ref()])?;
    let (first_item, null_place) = (lists.values().len(), values.len() - 1);
    let row = |row: usize| -> Result<Option<Vec<usize>>> {
        let (Some(places), true) = (places(&lists, row), positions.is_valid(row)) else { return Ok(None) };
        let mut all: Vec<usize> = places.collect();
        let position = positions.value(row);
        let distance = position.unsigned_abs() as usize;
        match position {
            0 => return Err(failure::data("INVALID_INDEX_OF_ZERO", "places in an array count from 1")),
            1.. => {
                while all.len() + 1 < distance {
                    all.push(null_place);
                }
                all.insert(distance - 1, first_item + row);
            }
            _ => {
                while all.len() + 1 < distance {
                    all.insert(0, null_place);
                }
                all.insert(all.len() + 1 - distance, first_item + row);
            }
        }
        Ok(Some(all))
    };
    gathered(&values, &(0..call.rows).map(row).collect::<Result<Vec<_>>>()?)
}

fn zipped_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let field = |(i, list): (usize, &DataType)| {
        let item = element(list).ok_or_else(|| wrong(list))?;
        Ok(Field::new(i.to_string(), item.data_type().clone(), true))
    };
    arguments
        .types()
        .enumerate()
        .map(field)
        .collect::<Result<Fields>>()
        .map(|fields| types::list(DataType::Struct(fields)))
}

fn zip(call: &Invocation<'_>) -> Result<ArrayRef> {
    let columns = (0..call.len()).map(|i| lists(call, i)).collect::<Result<Vec<_>>>()?;
    let length = |row: usize| {
        let lengths = columns.iter().map(|lists| places(lists, row).map(|places| places.len()));
        lengths.collect::<Option<Vec<_>>>().and_then(|lengths| lengths.into_iter().max())
    };
    let lengths: Vec<Option<usize>> = (0..call.rows).map(length).collect();
    let side = |lists: &ListArray| -> Result<ArrayRef> {
        let item = |(row, length): (usize, &Option<usize>)| {
            let places = places(lists, row).unwrap_or(0..0);
            (0..length.unwrap_or(0))
                .map(move |i| (i < places.len()).then_some((places.start + i) as u64))
                .collect::<Vec<_>>()
        };
        let all: UInt64Array = lengths.iter().enumerate().flat_map(item).collect();
        Ok(take(lists.values(), &all, None)?)
    };
    let sides = columns.iter().map(side).collect::<Result<Vec<_>>>()?;
    let Some(DataType::Struct(fields)) = element(call.return_type()).map(|field| field.data_type()) else {
        return Err(wrong(call.return_type()));
    };
    let items: ArrayRef = Arc::new(StructArray::try_new(fields.clone(), sides, None)?);
    let mut next = 0;
    let row = |length: &Option<usize>| {
        length.map(|length| {
            next += length;
            (next - length..next).collect::<Vec<usize>>()
        })
    };
    let rows: Vec<Option<Vec<usize>>> = lengths.iter().map(row).collect();
    gathered(&items, &rows)
}

fn slice(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (lists, starts, lengths) = (lists(call, 0)?, call.ints(1)?, call.ints(2)?);
    let row = |row: usize| -> Result<Option<Vec<usize>>> {
        let valid = starts.is_valid(row) && lengths.is_valid(row);
        let (Some(places), true) = (places(&lists, row), valid) else { return Ok(None) };
        let (start, length) = (starts.value(row), lengths.value(row));
        if start == 0 {
            return Err(failure::data("INVALID_PARAMETER_VALUE.START", "slice starts at 0, places count from 1"));
        }
        let Ok(length) = usize::try_from(length) else {
            return Err(failure::data("INVALID_PARAMETER_VALUE.LENGTH", format!("slice has a length of {length}")));
        };
        let distance = start.unsigned_abs() as usize;
        let from = if start > 0 { Some(distance - 1) } else { places.len().checked_sub(distance) };
        Ok(Some(from.map_or_else(Vec::new, |from| places.skip(from).take(length).collect())))
    };
    gathered(lists.values(), &(0..call.rows).map(row).collect::<Result<Vec<_>>>()?)
}

fn sequence_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let common = types::common(&arguments.of(0), &arguments.of(1));
    let integral = common.filter(types::is_integral);
    integral.map(types::list).ok_or_else(|| {
        failure::plan("DATATYPE_MISMATCH.SEQUENCE_WRONG_INPUT_TYPES", "sequence takes whole numbers here")
    })
}

/// How many values the sequences of one batch have at most, a gigabyte of them: their ends come with the data.
const MAX_SEQUENCE_VALUES: usize = 1 << 27;

/// From the first number to the second, both included.
fn sequence(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (starts, stops) = (call.longs(0)?, call.longs(1)?);
    let steps = if call.len() > 2 { Some(call.longs(2)?) } else { None };
    let mut values: Vec<i64> = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows);
    let mut is_valid = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        if starts.is_null(row) || stops.is_null(row) || steps.as_ref().is_some_and(|steps| steps.is_null(row)) {
            lengths.push(0);
            is_valid.push(false);
            continue;
        }
        let (start, stop) = (starts.value(row), stops.value(row));
        let step = steps.as_ref().map_or(if start <= stop { 1 } else { -1 }, |steps| steps.value(row));
        let length = sequence_length(start, stop, step)?;
        let left = MAX_SEQUENCE_VALUES - values.len();
        let length = usize::try_from(length).ok().filter(|length| *length <= left).ok_or_else(|| {
            let message = format!(
                "sequence from {start} to {stop} by {step} has {length} values, and the sequences of one batch of rows have \
                 {MAX_SEQUENCE_VALUES} at most"
            );
            failure::data("COLLECTION_SIZE_LIMIT_EXCEEDED.PARAMETER", message)
        })?;
        // What is behind the last one need not be a number of 64 bits.
        values.extend((0..length as i64).map(|place| start.wrapping_add(place.wrapping_mul(step))));
        lengths.push(length);
        is_valid.push(true);
    }
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    let field = Arc::new(Field::new_list_field(DataType::Int64, true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    let lists = ListArray::try_new(field, offsets, values, Some(is_valid.into()))?;
    cast::array(&(Arc::new(lists) as ArrayRef), call.return_type(), Mode::Ansi, call.zone)
}

/// How many numbers there are, counted with more bits than they have.
fn sequence_length(start: i64, stop: i64, step: i64) -> Result<i128> {
    if (step == 0 && start != stop) || (step > 0 && start > stop) || (step < 0 && start < stop) {
        let message = format!("sequence from {start} to {stop} cannot have the step {step}");
        return Err(failure::data("INVALID_PARAMETER_VALUE.SEQUENCE", message));
    }
    let distance = i128::from(stop) - i128::from(start);
    Ok(distance.checked_div(i128::from(step)).unwrap_or(0) + 1)
}

/// NULL if one of the inner arrays is.
fn flatten(call: &Invocation<'_>) -> Result<ArrayRef> {
    let outer = lists(call, 0)?;
    let inner = outer.values().as_list_opt::<i32>().ok_or_else(|| wrong(&outer.value_type()))?;
    let row = |row: usize| {
        let parts: Option<Vec<_>> = places(&outer, row)?.map(|place| places(inner, place)).collect();
        parts.map(|parts| parts.into_iter().flatten().collect())
    };
    gathered(inner.values(), &(0..call.rows).map(row).collect::<Vec<_>>())
}

/// `concat` of arrays: NULL if one of them is.
pub(super) fn concat_lists(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let columns: Vec<&ListArray> = columns.iter().map(|column| column.as_list()).collect();
    let values: Vec<&dyn Array> = columns.iter().map(|lists| lists.values().as_ref()).collect();
    let all = concat(&values)?;
    let row = |row: usize| {
        let mut first = 0;
        columns.iter().try_fold(Vec::new(), |mut out, lists| {
            out.extend(places(lists, row)?.map(|place| place + first));
            first += lists.values().len();
            Some(out)
        })
    };
    gathered(&all, &(0..rows).map(row).collect::<Vec<_>>())
}

fn map_concat(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (key, value) = map_types(call.return_type());
    let raw = (0..call.len()).map(|i| call.array(i, call.return_type())).collect::<Result<Vec<_>>>()?;
    let side = |keys: bool| -> Result<ArrayRef> {
        let lists = raw.iter().map(|map| {
            let map = map.as_map();
            let (values, to) = if keys { (map.keys(), &key) } else { (map.values(), &value) };
            let field = Arc::new(Field::new_list_field(to.clone(), true));
            Ok(Arc::new(ListArray::try_new(field, map.offsets().clone(), Arc::clone(values), map.nulls().cloned())?)
                as _)
        });
        concat_lists(&lists.collect::<Result<Vec<ArrayRef>>>()?, call.rows)
    };
    let (keys, values) = (side(true)?, side(false)?);
    let (keys, values) = (keys.as_list::<i32>(), values.as_list::<i32>());
    let offsets = keys.offsets().clone();
    let nulls = keys.nulls().cloned();
    map_array(call.return_type(), offsets, Arc::clone(keys.values()), Arc::clone(values.values()), nulls)
}

fn from_entries_type(arguments: &Arguments<'_>) -> Result<DataType> {
    match element_type(arguments)? {
        DataType::Struct(fields) if fields.len() == 2 => {
            Ok(map_data_type(fields[0].data_type().clone(), fields[1].data_type().clone()))
        }
        other => Err(wrong(&other)),
    }
}

fn map_from_entries(call: &Invocation<'_>) -> Result<ArrayRef> {
    let lists = compact(&lists(call, 0)?)?;
    let entries = lists.values().as_struct();
    let (keys, values) = (Arc::clone(entries.column(0)), Arc::clone(entries.column(1)));
    map_array(call.return_type(), lists.offsets().clone(), keys, values, lists.nulls().cloned())
}

/// A key and its value, which may be missing.
type Entry = (String, Option<String>);

/// `a:1,b:2` as a map; the separators are plain text here, regular expressions in Spark.
fn str_to_map(call: &Invocation<'_>) -> Result<ArrayRef> {
    let separator = |i: usize, default: &str| -> Result<StringArray> {
        if call.len() > i { call.strings(i) } else { Ok(StringArray::from(vec![default; call.rows])) }
    };
    let (texts, pairs, parts) = (call.strings(0)?, separator(1, ",")?, separator(2, ":")?);
    let rows: Vec<Option<Vec<Entry>>> = each!(call.rows, (text = texts, pair = pairs, part = parts) => {
        let entry = |entry: &str| match entry.split_once(part) {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (entry.to_owned(), None),
        };
        Ok(Some(text.split(pair).map(entry).collect::<Vec<_>>()))
    })?;
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, Vec::len));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    let nulls = arrow::buffer::NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let (keys, values): (Vec<String>, Vec<Option<String>>) = rows.into_iter().flatten().flatten().unzip();
    let (keys, values): (ArrayRef, ArrayRef) = (Arc::new(StringArray::from(keys)), Arc::new(StringArray::from(values)));
    map_array(call.return_type(), offsets, keys, values, Some(nulls))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::super::{SessionSettings, session_state};

    #[tokio::test]
    async fn sequences_have_bounds() {
        let context = SessionContext::new_with_state(session_state(&SessionSettings::default()).unwrap());
        let check = async |arguments: &str, expected: &str| {
            let query = format!("SELECT array_join(sequence({arguments}), ' ')");
            let found = match context.sql(&query).await.unwrap().collect().await {
                Ok(rows) => arrow::util::display::array_value_to_string(rows[0].column(0), 0).unwrap(),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expected), "{arguments}: {found}");
        };
        check("1, 3", "1 2 3").await;
        check("CAST(NULL AS INT), 3", "").await;
        let (least, most) = ("CAST('-9223372036854775808' AS BIGINT)", "CAST('9223372036854775807' AS BIGINT)");
        check(&format!("{least}, {most}, {most}"), "-9223372036854775808 -1 9223372036854775806").await;
        check(
            &format!("{least}, {most}"),
            "[COLLECTION_SIZE_LIMIT_EXCEEDED.PARAMETER] sequence from -9223372036854775808 to 9223372036854775807 by 1 has \
             18446744073709551616 values, and the sequences of one batch of rows have 134217728 at most",
        )
        .await;
        check("1, CAST(1000000000000 AS BIGINT)", "has 1000000000000 values").await;
        check("1, 3, 0", "[INVALID_PARAMETER_VALUE.SEQUENCE]").await;
    }
}
