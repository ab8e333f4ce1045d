//! Elements of many lists one after another, and the lambda that is evaluated for all of them at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, UInt32Array, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{take, take_arrays};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::LambdaArgument;

/// What a lambda makes of parameters, one column each; `rows` are the rows of the batch they belong to, whose other
/// columns the lambda may read.
pub(super) fn evaluate(lambda: &LambdaArgument, params: &[ArrayRef], rows: &UInt32Array) -> Result<ArrayRef> {
    let given: Vec<_> = params.iter().map(|param| move || -> Result<ArrayRef> { Ok(Arc::clone(param)) }).collect();
    let given: Vec<&dyn Fn() -> Result<ArrayRef>> = given.iter().map(|param| param as _).collect();
    let made = lambda.evaluate(&given, |captured| Ok(take_arrays(captured, rows, None)?))?;
    made.into_array(rows.len())
}

/// The elements of lists, without those of lists that are NULL.
pub(super) struct Elements {
    /// The row each element belongs to.
    pub(super) rows: UInt32Array,
    /// Where each element stands among the values of all lists.
    places: UInt64Array,
    /// How many elements each row has; none if it is NULL.
    lengths: Vec<Option<usize>>,
}

impl Elements {
    pub(super) fn of_lists(lists: &ListArray) -> Self {
        Self::of(lists.value_offsets(), lists.nulls())
    }

    pub(super) fn of(offsets: &[i32], nulls: Option<&NullBuffer>) -> Self {
        let range = |row: usize| offsets[row].unsigned_abs() as usize..offsets[row + 1].unsigned_abs() as usize;
        let is_valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
        let count = offsets.len().saturating_sub(1);
        let lengths = (0..count).map(|row| is_valid(row).then(|| range(row).len())).collect();
        let places = (0..count).filter(|row| is_valid(*row)).flat_map(range).map(|place| place as u64).collect();
        Self { places, ..Self::with_lengths(lengths) }
    }

    /// Elements that stand nowhere yet.
    pub(super) fn with_lengths(lengths: Vec<Option<usize>>) -> Self {
        let of_row = |(row, length): (u32, &Option<usize>)| std::iter::repeat_n(row, length.unwrap_or(0));
        let rows = UInt32Array::from_iter_values((0_u32..).zip(&lengths).flat_map(of_row));
        Self { rows, places: UInt64Array::from(Vec::<u64>::new()), lengths }
    }

    /// The elements out of the values of all lists.
    pub(super) fn take(&self, values: &ArrayRef) -> Result<ArrayRef> {
        Ok(take(values, &self.places, None)?)
    }

    /// The elements of lists that may be shorter than the lengths say: NULL where there is none.
    pub(super) fn take_padded(&self, lists: &ListArray) -> Result<ArrayRef> {
        let offsets = lists.value_offsets();
        let mut places = Vec::with_capacity(self.rows.len());
        for (row, length) in self.lengths.iter().enumerate() {
            let (start, end) = (offsets[row] as u64, offsets[row + 1] as u64);
            places.extend((0..length.unwrap_or(0) as u64).map(|at| Some(start + at).filter(|place| *place < end)));
        }
        Ok(take(lists.values(), &UInt64Array::from(places), None)?)
    }

    /// The place of each element in its list, from 0.
    pub(super) fn indices(&self) -> ArrayRef {
        let of_row = |length: &Option<usize>| 0..i32::try_from(length.unwrap_or(0)).unwrap_or(i32::MAX);
        Arc::new(Int32Array::from_iter_values(self.lengths.iter().flat_map(of_row)))
    }

    /// For each row the places of those elements that are marked.
    pub(super) fn kept(&self, marks: &ArrayRef) -> Result<Vec<Option<Vec<usize>>>> {
        let is_kept: Vec<bool> = match marks.data_type() {
            DataType::Null => vec![false; marks.len()],
            DataType::Boolean => marks.as_boolean().iter().map(|mark| mark == Some(true)).collect(),
            other => return internal_err!("a lambda gives {other} and not BOOLEAN"),
        };
        let mut next = 0;
        let row = |length: &Option<usize>| {
            length.map(|length| {
                let elements = next..next + length;
                next += length;
                elements.filter(|at| is_kept[*at]).map(|at| self.places.value(at) as usize).collect()
            })
        };
        Ok(self.lengths.iter().map(row).collect())
    }

    pub(super) fn offsets(&self) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths(self.lengths.iter().map(|length| length.unwrap_or(0)))
    }

    pub(super) fn nulls(&self) -> NullBuffer {
        NullBuffer::from_iter(self.lengths.iter().map(Option::is_some))
    }

    /// Lists of values, one for each element.
    pub(super) fn list(&self, values: ArrayRef) -> Result<ArrayRef> {
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(field, self.offsets(), values, Some(self.nulls()))?))
    }
}
