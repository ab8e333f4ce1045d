//! Arrays in the order of their elements: sorted, and the smallest and largest of them.
//!
//! Numbers, texts and times are Arrow's to sort. What is nested becomes rows of bytes that compare as the values do. Maps
//! have no order and are refused.

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::{SortOptions, sort_to_indices, take};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;

use super::arrays::{element_type, lists, places};
use super::nested::gathered;
use super::udf::{Arguments, Invocation, Spec, function};
use super::{failure, types};

pub(super) const TABLE: &[Spec] = &[
    function("array_max", (1, 1), extreme_type, |c| extreme(c, true)),
    function("array_min", (1, 1), extreme_type, |c| extreme(c, false)),
    function("array_sort", (1, 1), sorted_type, |c| sort(c, SortOptions { descending: false, nulls_first: false })),
    function("sort_array", (1, 2), sorted_type, sort_array),
];

fn extreme_type(arguments: &Arguments<'_>) -> Result<DataType> {
    sorted_type(arguments)?;
    element_type(arguments)
}

/// An array whose elements have an order.
fn sorted_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let list = arguments.of(0);
    let element = element_type(arguments)?;
    if types::has_map(&element) {
        let found = types::simple_string(&list).to_uppercase();
        return Err(failure::plan("DATATYPE_MISMATCH.INVALID_ORDERING_TYPE", format!("{found} has no order")));
    }
    Ok(list)
}

/// The places of some items in order. Arrow does not sort what is nested: its rows are compared as bytes, inside of which
/// NULL is smaller than all else, as in Spark.
fn order(items: &ArrayRef, options: SortOptions, limit: Option<usize>) -> Result<Vec<u32>> {
    if !matches!(items.data_type(), DataType::List(_) | DataType::Struct(_)) {
        return Ok(sort_to_indices(items, Some(options), limit)?.iter().flatten().collect());
    }
    let converter = RowConverter::new(vec![SortField::new(items.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(items))?;
    let (mut order, nulls): (Vec<u32>, Vec<u32>) =
        (0..items.len() as u32).partition(|place| items.is_valid(*place as usize));
    let row = |place: &u32| rows.row(*place as usize);
    if options.descending {
        order.sort_by(|a, b| row(b).cmp(&row(a)));
    } else {
        order.sort_by(|a, b| row(a).cmp(&row(b)));
    }
    let mut all = if options.nulls_first { [nulls, order] } else { [order, nulls] }.concat();
    all.truncate(limit.unwrap_or(usize::MAX));
    Ok(all)
}

fn sort(call: &Invocation<'_>, options: SortOptions) -> Result<ArrayRef> {
    let lists = lists(call, 0)?;
    let row = |row: usize| -> Result<Option<Vec<usize>>> {
        let Some(places) = places(&lists, row) else { return Ok(None) };
        let order = order(&lists.value(row), options, None)?;
        Ok(Some(order.into_iter().map(|place| places.start + place as usize).collect()))
    };
    gathered(lists.values(), &(0..call.rows).map(row).collect::<Result<Vec<_>>>()?)
}

/// Ascending with NULLs first, or descending with NULLs last.
fn sort_array(call: &Invocation<'_>) -> Result<ArrayRef> {
    let ascending = if call.len() > 1 { call.booleans(1)?.iter().flatten().next().unwrap_or(true) } else { true };
    sort(call, SortOptions { descending: !ascending, nulls_first: ascending })
}

fn extreme(call: &Invocation<'_>, greatest: bool) -> Result<ArrayRef> {
    let lists = lists(call, 0)?;
    let options = SortOptions { descending: greatest, nulls_first: false };
    let row = |row: usize| -> Result<Option<u64>> {
        let Some(places) = places(&lists, row) else { return Ok(None) };
        let items = lists.value(row);
        let first = order(&items, options, Some(1))?.into_iter().next().filter(|first| items.is_valid(*first as usize));
        Ok(first.map(|first| (places.start + first as usize) as u64))
    };
    let found = (0..call.rows).map(row).collect::<Result<UInt64Array>>()?;
    Ok(take(lists.values(), &found, None)?)
}
