//! `array_sort(array, comparator)`: a merge sort of each array, of which all take their next comparison together, so that
//! the comparator is evaluated for one pair of each at a time. Elements that it calls equal stay in their order.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::Int32Type;
use datafusion::common::Result;

use super::Call;
use super::elements::evaluate;
use crate::plan::functions::{failure, nested::gathered};

pub(super) fn sort(call: &Call) -> Result<ArrayRef> {
    let lists = call.list(0)?;
    let offsets = lists.value_offsets();
    let range = |row: usize| offsets[row].unsigned_abs() as usize..offsets[row + 1].unsigned_abs() as usize;
    let mut sorts: Vec<Option<MergeSort>> =
        (0..call.rows).map(|row| lists.is_valid(row).then(|| MergeSort::new(range(row).collect()))).collect();
    loop {
        let (mut rows, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
        for (row, sort) in (0_u32..).zip(&mut sorts) {
            if let Some((first, second)) = sort.as_mut().and_then(MergeSort::next_pair) {
                rows.push(row);
                left.push(first as u64);
                right.push(second as u64);
            }
        }
        if rows.is_empty() {
            break;
        }
        let side = |places: Vec<u64>| take(lists.values(), &UInt64Array::from(places), None);
        let rows = UInt32Array::from(rows);
        let order = evaluate(&call.lambdas[0], &[side(left)?, side(right)?], &rows)?;
        let order = order.as_primitive::<Int32Type>();
        for (at, row) in rows.values().iter().enumerate() {
            if order.is_null(at) {
                let message = "the comparator of array_sort gives NULL; it has to give a number for any two elements";
                return Err(failure::data("COMPARATOR_RETURNS_NULL", message));
            }
            if let Some(sort) = &mut sorts[*row as usize] {
                sort.take(order.value(at) > 0);
            }
        }
    }
    gathered(lists.values(), &sorts.into_iter().map(|sort| sort.map(|sort| sort.items)).collect::<Vec<_>>())
}

/// A merge sort that stops at each comparison.
struct MergeSort {
    items: Vec<usize>,
    merged: Vec<usize>,
    /// How many items the runs have that are being merged.
    width: usize,
    /// The next item of the left and of the right run.
    left: usize,
    right: usize,
    /// Where the right run begins.
    middle: usize,
}

impl MergeSort {
    fn new(items: Vec<usize>) -> Self {
        let mut sort = Self { merged: Vec::with_capacity(items.len()), items, width: 1, left: 0, right: 0, middle: 0 };
        sort.begin_runs(0);
        sort
    }

    fn begin_runs(&mut self, start: usize) {
        self.left = start;
        self.middle = (start + self.width).min(self.items.len());
        self.right = self.middle;
    }

    fn end(&self) -> usize {
        (self.middle + self.width).min(self.items.len())
    }

    /// The two items to be compared next; none if everything is in order.
    fn next_pair(&mut self) -> Option<(usize, usize)> {
        while self.width < self.items.len() {
            if self.left < self.middle && self.right < self.end() {
                return Some((self.items[self.left], self.items[self.right]));
            }
            let end = self.end();
            self.merged.extend_from_slice(&self.items[self.left..self.middle]);
            self.merged.extend_from_slice(&self.items[self.right..end]);
            if end < self.items.len() {
                self.begin_runs(end);
            } else {
                std::mem::swap(&mut self.items, &mut self.merged);
                self.merged.clear();
                self.width *= 2;
                self.begin_runs(0);
            }
        }
        None
    }

    /// Takes the answer for the pair: whether the first is after the second.
    fn take(&mut self, is_after: bool) {
        let next = if is_after { &mut self.right } else { &mut self.left };
        self.merged.push(self.items[*next]);
        *next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_items_is_sorted_and_equal_ones_stay() {
        for count in 0..70_usize {
            // By their tens alone, so that many are equal.
            let items: Vec<usize> = (0..count).map(|n| n * 37 % 71).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|item| item / 10);
            let mut sort = MergeSort::new(items);
            while let Some((first, second)) = sort.next_pair() {
                sort.take(first / 10 > second / 10);
            }
            assert_eq!(sort.items, expected);
        }
    }
}
