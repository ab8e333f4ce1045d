//! Lambdas over the entries of maps. Keys that a lambda makes must be there and differ, as in any map.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, UInt64Array};
use arrow::compute::{concat, take};
use datafusion::common::{Result, ScalarValue, internal_err};

use super::super::cast::{self, Mode};
use super::Call;
use super::elements::{Elements, evaluate};
use crate::plan::functions::nested::{map_array, map_types};

fn map(call: &Call, at: usize) -> Result<&MapArray> {
    match call.values[at].as_map_opt() {
        Some(map) => Ok(map),
        None => internal_err!("{} is no map", call.values[at].data_type()),
    }
}

fn elements(map: &MapArray) -> Elements {
    Elements::of(map.value_offsets(), map.nulls())
}

/// The entries' keys and values, and what the lambda makes of them.
fn applied(call: &Call, map: &MapArray, elements: &Elements) -> Result<[ArrayRef; 3]> {
    let (keys, values) = (elements.take(map.keys())?, elements.take(map.values())?);
    let made = evaluate(&call.lambdas[0], &[Arc::clone(&keys), Arc::clone(&values)], &elements.rows)?;
    Ok([keys, values, made])
}

pub(super) fn transform_keys(call: &Call) -> Result<ArrayRef> {
    let map = map(call, 0)?;
    let elements = elements(map);
    let [_, values, made] = applied(call, map, &elements)?;
    map_array(&call.return_type, elements.offsets(), made, values, Some(elements.nulls()))
}

pub(super) fn transform_values(call: &Call) -> Result<ArrayRef> {
    let map = map(call, 0)?;
    let elements = elements(map);
    let [keys, _, made] = applied(call, map, &elements)?;
    map_array(&call.return_type, elements.offsets(), keys, made, Some(elements.nulls()))
}

pub(super) fn filter(call: &Call) -> Result<ArrayRef> {
    let map = map(call, 0)?;
    let elements = elements(map);
    let [_, _, kept] = applied(call, map, &elements)?;
    let rows = elements.kept(&kept)?;
    let places: UInt64Array = rows.iter().flatten().flatten().map(|place| Some(*place as u64)).collect();
    let left = Elements::with_lengths(rows.iter().map(|row| row.as_ref().map(Vec::len)).collect());
    let (keys, values) = (take(map.keys(), &places, None)?, take(map.values(), &places, None)?);
    map_array(&call.return_type, left.offsets(), keys, values, Some(left.nulls()))
}

/// The keys of the first map, then those that only the second has; NULL for the value of a map that has not the key.
pub(super) fn zip_with(call: &Call) -> Result<ArrayRef> {
    let (first, second) = (map(call, 0)?, map(call, 1)?);
    let (key_type, _) = map_types(&call.return_type);
    let keys = [first, second].map(|map| cast::array(map.keys(), &key_type, Mode::Ansi, call.zone));
    let [left, right] = keys;
    let (left, right) = (left?, right?);
    let (mut lengths, mut keys, mut values) = (Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
    for row in 0..call.rows {
        if first.is_null(row) || second.is_null(row) {
            lengths.push(None);
            continue;
        }
        let begin = keys.len();
        let mut known: HashMap<ScalarValue, usize> = HashMap::new();
        for place in range(first, row) {
            known.insert(ScalarValue::try_from_array(&left, place)?, keys.len());
            keys.push(place as u64);
            values.0.push(Some(place as u64));
            values.1.push(None);
        }
        for place in range(second, row) {
            match known.get(&ScalarValue::try_from_array(&right, place)?) {
                Some(at) => values.1[*at] = Some(place as u64),
                None => {
                    keys.push((left.len() + place) as u64);
                    values.0.push(None);
                    values.1.push(Some(place as u64));
                }
            }
        }
        lengths.push(Some(keys.len() - begin));
    }
    let elements = Elements::with_lengths(lengths);
    let keys = take(&concat(&[left.as_ref(), right.as_ref()])?, &UInt64Array::from(keys), None)?;
    let of_first = take(first.values(), &UInt64Array::from(values.0), None)?;
    let of_second = take(second.values(), &UInt64Array::from(values.1), None)?;
    let made = evaluate(&call.lambdas[0], &[Arc::clone(&keys), of_first, of_second], &elements.rows)?;
    map_array(&call.return_type, elements.offsets(), keys, made, Some(elements.nulls()))
}

fn range(map: &MapArray, row: usize) -> std::ops::Range<usize> {
    let offsets = map.value_offsets();
    offsets[row].unsigned_abs() as usize..offsets[row + 1].unsigned_abs() as usize
}
