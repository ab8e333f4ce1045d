//! Structs, arrays and maps: made, and taken apart.
//!
//! Places in arrays count from 0 in brackets and from 1 in `element_at`; a place that is not there is an error, a key
//! that is not there is NULL. Names of fields are compared without case.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, MapArray, MutableArrayData, StructArray, UInt64Array,
    make_array, new_empty_array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue};

use super::udf::{self, ANY, Arguments, Invocation, Spec, function};
use super::{failure, types};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("get_field", (2, 2), field_type, get_field),
    function("get_item", (2, 2), item_type, |c| item(c, Index::Zero)),
    function("get", (2, 2), item_type, |c| item(c, Index::ZeroOrNull)),
    function("element_at", (2, 2), item_type, |c| item(c, Index::One)),
    function("try_element_at", (2, 2), item_type, |c| item(c, Index::OneOrNull)),
    function("named_struct", (2, ANY), named_struct_type, named_struct),
    function("array", (0, ANY), array_type, array),
    function("map_of", (0, ANY), map_type, map),
    function("map_from_arrays", (2, 2), map_of_arrays_type, map_from_arrays),
    function("map_keys", (1, 1), |a| entry_list(a, 0), |c| entries(c, 0)),
    function("map_values", (1, 1), |a| entry_list(a, 1), |c| entries(c, 1)),
    function("map_entries", (1, 1), entries_type, map_entries),
    function("map_contains_key", (2, 2), udf::boolean, map_contains_key),
    function("size", (1, 1), udf::int, size).alias(&["cardinality", "array_size"]),
];

pub(super) fn element(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(field) => Some(field),
        _ => None,
    }
}

/// The key's and the value's field of a map.
fn map_fields(data_type: &DataType) -> Option<(&FieldRef, &FieldRef)> {
    match data_type {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => Some((fields.first()?, fields.get(1)?)),
            _ => None,
        },
        _ => None,
    }
}

fn wrong(what: &str, found: &DataType) -> datafusion::common::DataFusionError {
    failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", format!("{} is no {what}", ddl::type_name(found)))
}

fn find_field<'a>(fields: &'a Fields, name: &str) -> Option<(usize, &'a FieldRef)> {
    let exact = fields.iter().position(|field| field.name() == name);
    let place = exact.or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name)))?;
    Some((place, &fields[place]))
}

fn field_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let name = arguments.text(1).unwrap_or_default();
    match arguments.of(0) {
        DataType::Struct(fields) => find_field(&fields, name).map(|(_, f)| f.data_type().clone()).ok_or_else(|| {
            let known: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            failure::plan("FIELD_NOT_FOUND", format!("no field `{name}` in the struct, it has {}", known.join(", ")))
        }),
        list @ DataType::List(_) => {
            let element = element(&list).map_or(DataType::Null, |field| field.data_type().clone());
            let DataType::Struct(fields) = &element else { return Err(wrong("struct", &list)) };
            let field = find_field(fields, name).ok_or_else(|| failure::plan("FIELD_NOT_FOUND", name))?;
            Ok(types::list(field.1.data_type().clone()))
        }
        map if map_fields(&map).is_some() => item_type(arguments),
        other => Err(wrong("struct", &other)),
    }
}

fn get_field(call: &Invocation<'_>) -> Result<ArrayRef> {
    let base = call.raw(0)?;
    let name = call.constant_text(1).flatten().unwrap_or_default();
    match base.data_type() {
        DataType::Struct(_) => field_of(base.as_struct(), &name),
        DataType::List(_) => {
            let lists = base.as_list::<i32>();
            let values = field_of(lists.values().as_struct(), &name)?;
            let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
            Ok(Arc::new(ListArray::try_new(field, lists.offsets().clone(), values, lists.nulls().cloned())?))
        }
        _ => item(call, Index::Zero),
    }
}

/// A field of a struct, NULL where the struct is.
fn field_of(columns: &StructArray, name: &str) -> Result<ArrayRef> {
    let found = find_field(columns.fields(), name).ok_or_else(|| failure::plan("FIELD_NOT_FOUND", name))?;
    let column = columns.column(found.0);
    match columns.nulls() {
        None => Ok(Arc::clone(column)),
        Some(outer) => {
            let nulls = NullBuffer::union(Some(outer), column.nulls());
            Ok(make_array(column.to_data().into_builder().nulls(nulls).build()?))
        }
    }
}

/// Where places count from, and what becomes of one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    Zero,
    ZeroOrNull,
    One,
    OneOrNull,
}

fn item_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let base = arguments.of(0);
    if let Some(field) = element(&base) {
        return Ok(field.data_type().clone());
    }
    map_fields(&base).map(|(_, value)| value.data_type().clone()).ok_or_else(|| wrong("array or map", &base))
}

fn item(call: &Invocation<'_>, index: Index) -> Result<ArrayRef> {
    let base = call.raw(0)?;
    let Some((key_field, _)) = map_fields(base.data_type()) else { return list_item(call, base.as_list(), index) };
    let map = base.as_map();
    let keys = call.array(1, key_field.data_type())?;
    let find = |row: usize| -> Result<Option<u64>> {
        if map.is_null(row) || keys.is_null(row) {
            return Ok(None);
        }
        let wanted = ScalarValue::try_from_array(&keys, row)?;
        let range = map.value_offsets()[row]..map.value_offsets()[row + 1];
        for entry in range {
            if ScalarValue::try_from_array(map.keys(), entry as usize)? == wanted {
                return Ok(Some(entry as u64));
            }
        }
        Ok(None)
    };
    let places = (0..map.len()).map(find).collect::<Result<UInt64Array>>()?;
    Ok(take(map.values(), &places, None)?)
}

fn list_item(call: &Invocation<'_>, lists: &ListArray, index: Index) -> Result<ArrayRef> {
    let indexes = call.ints(1)?;
    let place = |row: usize| -> Result<Option<u64>> {
        if lists.is_null(row) || indexes.is_null(row) {
            return Ok(None);
        }
        let (start, length) = (lists.value_offsets()[row], lists.value_length(row));
        let wanted = indexes.value(row);
        let from_zero = match (index, wanted) {
            (Index::Zero | Index::ZeroOrNull, place) => place,
            (_, 0) => return Err(failure::data("INVALID_INDEX_OF_ZERO", "places in an array count from 1")),
            (_, place) if place > 0 => place - 1,
            (_, place) => length + place,
        };
        if (0..length).contains(&from_zero) {
            return Ok(Some((start + from_zero) as u64));
        }
        let condition = match index {
            Index::Zero => "INVALID_ARRAY_INDEX",
            Index::One => "INVALID_ARRAY_INDEX_IN_ELEMENT_AT",
            Index::ZeroOrNull | Index::OneOrNull => return Ok(None),
        };
        Err(failure::data(condition, format!("the place {wanted} is outside of an array of {length} elements")))
    };
    let places = (0..lists.len()).map(place).collect::<Result<UInt64Array>>()?;
    Ok(take(lists.values(), &places, None)?)
}

fn named_struct_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let count = arguments.fields.len();
    if count % 2 == 1 {
        return Err(failure::plan("WRONG_NUM_ARGS", "named_struct takes pairs of name and value"));
    }
    let field = |i: usize| {
        let name =
            arguments.text(2 * i).ok_or_else(|| failure::plan("DATATYPE_MISMATCH", "a field's name is a constant"))?;
        Ok(Field::new(name, arguments.of(2 * i + 1), true))
    };
    (0..count / 2).map(field).collect::<Result<Fields>>().map(DataType::Struct)
}

fn named_struct(call: &Invocation<'_>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = call.return_type() else { return Err(wrong("struct", call.return_type())) };
    let columns = (0..fields.len()).map(|i| call.raw(2 * i + 1)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, None)?))
}

fn common_type<'a>(mut all: impl Iterator<Item = &'a DataType>) -> Result<DataType> {
    all.try_fold(DataType::Null, |so_far, next| {
        types::common(&so_far, next)
            .ok_or_else(|| failure::plan("DATATYPE_MISMATCH.DATA_DIFF_TYPES", format!("{so_far} and {next}")))
    })
}

fn array_type(arguments: &Arguments<'_>) -> Result<DataType> {
    common_type(arguments.types()).map(types::list)
}

fn array(call: &Invocation<'_>) -> Result<ArrayRef> {
    let element = element(call.return_type()).map_or(DataType::Null, |field| field.data_type().clone());
    let columns = (0..call.len()).map(|i| call.array(i, &element)).collect::<Result<Vec<_>>>()?;
    let values = interleaved(&columns, call.rows, &element)?;
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(columns.len(), call.rows));
    Ok(Arc::new(ListArray::try_new(Arc::new(Field::new_list_field(element, true)), offsets, values, None)?))
}

/// The first values of all columns, then the second ones, and so on.
fn interleaved(columns: &[ArrayRef], rows: usize, data_type: &DataType) -> Result<ArrayRef> {
    if columns.is_empty() {
        return Ok(new_empty_array(data_type));
    }
    if *data_type == DataType::Null {
        return Ok(new_null_array(data_type, rows * columns.len()));
    }
    let sources: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    let places: Vec<(usize, usize)> = (0..rows).flat_map(|row| (0..columns.len()).map(move |i| (i, row))).collect();
    Ok(interleave(&sources, &places)?)
}

/// `MAP<key, value>`.
pub(super) fn map_data_type(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

fn map_type(arguments: &Arguments<'_>) -> Result<DataType> {
    if arguments.fields.len() % 2 == 1 {
        return Err(failure::plan("WRONG_NUM_ARGS", "map takes pairs of key and value"));
    }
    let side =
        |parity: usize| common_type(arguments.types().enumerate().filter(|(i, _)| i % 2 == parity).map(|(_, t)| t));
    Ok(map_data_type(side(0)?, side(1)?))
}

fn map(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (key, value) = map_types(call.return_type());
    let side = |parity: usize, to: &DataType| -> Result<ArrayRef> {
        let columns =
            (0..call.len()).filter(|i| i % 2 == parity).map(|i| call.array(i, to)).collect::<Result<Vec<_>>>()?;
        interleaved(&columns, call.rows, to)
    };
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(call.len() / 2, call.rows));
    map_array(call.return_type(), offsets, side(0, &key)?, side(1, &value)?, None)
}

/// A map's key and value types.
pub(super) fn map_types(data_type: &DataType) -> (DataType, DataType) {
    map_fields(data_type)
        .map_or((DataType::Null, DataType::Null), |(k, v)| (k.data_type().clone(), v.data_type().clone()))
}

/// A column of maps; a key that is NULL or stands twice is an error.
pub(super) fn map_array(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    keys: ArrayRef,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::Map(entries, _) = data_type else { return Err(wrong("map", data_type)) };
    let DataType::Struct(fields) = entries.data_type() else { return Err(wrong("map", data_type)) };
    if keys.null_count() > 0 {
        return Err(failure::data("NULL_MAP_KEY", "a map's key cannot be NULL"));
    }
    for range in offsets.windows(2) {
        let mut seen = std::collections::HashSet::new();
        for row in range[0] as usize..range[1] as usize {
            if range[1] - range[0] > 1 && !seen.insert(ScalarValue::try_from_array(&keys, row)?) {
                return Err(failure::data("DUPLICATED_MAP_KEY", "a key stands twice in a map"));
            }
        }
    }
    let entry = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, entry, nulls, false)?))
}

fn map_of_arrays_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let (keys, values) = (arguments.of(0), arguments.of(1));
    match (element(&keys), element(&values)) {
        (Some(k), Some(v)) => Ok(map_data_type(k.data_type().clone(), v.data_type().clone())),
        _ => Err(wrong("array", &keys)),
    }
}

fn map_from_arrays(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (keys, values) = (call.raw(0)?, call.raw(1)?);
    let (keys, values) = (compact(keys.as_list())?, compact(values.as_list())?);
    if keys.offsets() != values.offsets() {
        return Err(failure::data("_LEGACY_ERROR_TEMP_2019", "the arrays of keys and values differ in length"));
    }
    let nulls = NullBuffer::union(keys.nulls(), values.nulls());
    let offsets = keys.offsets().clone();
    map_array(call.return_type(), offsets, Arc::clone(keys.values()), Arc::clone(values.values()), nulls)
}

/// The same lists over values that hold nothing else.
pub(super) fn compact(lists: &ListArray) -> Result<ListArray> {
    let pieces: Vec<ArrayRef> =
        (0..lists.len()).filter(|&row| lists.is_valid(row)).map(|row| lists.value(row)).collect();
    let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
    let values = if pieces.is_empty() { new_empty_array(&lists.value_type()) } else { concat(&pieces)? };
    let length = |row: usize| if lists.is_valid(row) { lists.value_length(row) as usize } else { 0 };
    let offsets = OffsetBuffer::from_lengths((0..lists.len()).map(length));
    let field = Arc::new(Field::new_list_field(lists.value_type(), true));
    Ok(ListArray::try_new(field, offsets, values, lists.nulls().cloned())?)
}

fn entry_list(arguments: &Arguments<'_>, side: usize) -> Result<DataType> {
    let map = arguments.of(0);
    let (key, value) = map_fields(&map).ok_or_else(|| wrong("map", &map))?;
    Ok(types::list([key, value][side].data_type().clone()))
}

fn entries(call: &Invocation<'_>, side: usize) -> Result<ArrayRef> {
    let raw = call.raw(0)?;
    let map = raw.as_map();
    let values = if side == 0 { map.keys() } else { map.values() };
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, map.offsets().clone(), Arc::clone(values), map.nulls().cloned())?))
}

fn entries_type(arguments: &Arguments<'_>) -> Result<DataType> {
    match arguments.of(0) {
        DataType::Map(entries, _) => Ok(types::list(entries.data_type().clone())),
        other => Err(wrong("map", &other)),
    }
}

fn map_entries(call: &Invocation<'_>) -> Result<ArrayRef> {
    let raw = call.raw(0)?;
    let map = raw.as_map();
    let values: ArrayRef = Arc::new(map.entries().clone());
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, map.offsets().clone(), values, map.nulls().cloned())?))
}

fn map_contains_key(call: &Invocation<'_>) -> Result<ArrayRef> {
    let raw = call.raw(0)?;
    let map = raw.as_map();
    let keys = call.array(1, map.keys().data_type())?;
    let has = |row: usize| -> Result<Option<bool>> {
        if map.is_null(row) || keys.is_null(row) {
            return Ok(None);
        }
        let wanted = ScalarValue::try_from_array(&keys, row)?;
        for entry in map.value_offsets()[row]..map.value_offsets()[row + 1] {
            if ScalarValue::try_from_array(map.keys(), entry as usize)? == wanted {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    };
    Ok(Arc::new((0..map.len()).map(has).collect::<Result<arrow::array::BooleanArray>>()?))
}

fn size(call: &Invocation<'_>) -> Result<ArrayRef> {
    let base = call.raw(0)?;
    let lengths = |offsets: &[i32], nulls: Option<&NullBuffer>| -> ArrayRef {
        Arc::new(Int32Array::new(offsets.windows(2).map(|pair| pair[1] - pair[0]).collect(), nulls.cloned()))
    };
    match base.data_type() {
        DataType::List(_) => {
            let lists = base.as_list::<i32>();
            Ok(lengths(lists.value_offsets(), lists.nulls()))
        }
        DataType::Map(..) => {
            let map = base.as_map();
            Ok(lengths(map.value_offsets(), map.nulls()))
        }
        DataType::Null => Ok(new_null_array(&DataType::Int32, call.rows)),
        other => Err(wrong("array or map", other)),
    }
}

/// Lists made row by row from the places of their elements in `values`.
pub(super) fn gathered(values: &ArrayRef, rows: &[Option<Vec<usize>>]) -> Result<ArrayRef> {
    let data = values.to_data();
    let mut out = MutableArrayData::new(vec![&data], true, data.len());
    for place in rows.iter().flatten().flatten() {
        out.try_extend(0, *place, place + 1)?;
    }
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.as_ref().map_or(0, Vec::len)));
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, offsets, make_array(out.freeze()), Some(nulls))?))
}

/// Numbers as a column of BIGINT.
pub(super) fn bigints(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}
