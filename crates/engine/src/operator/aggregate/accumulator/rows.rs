//! Values of any type as bytes: what lists, sets and comparisons of values are made of.
//!
//! ```text
//!   columns ──Codec──> bytes that compare as the values do ──> RowList [1 2 2]  RowSet {1 2}  RowCounts {1: 1, 2: 2}
//! ```
//!
//! Bytes are Arrow's row format. Where values are compared, doubles are made normal first: `-0.0` is `0.0`, and all
//! NaNs are one, larger than every number.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::{HashMap, HashTable};

use crate::error::{EngineError, Result};
use crate::operator::normal::normalized;

/// Turns some columns into bytes and back.
pub(super) struct Codec {
    converter: RowConverter,
    types: Vec<DataType>,
    null: Box<[u8]>,
}

impl Codec {
    pub(super) fn new(types: &[DataType]) -> Result<Self> {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        Self::with_order(types, fields)
    }

    /// A codec for a single column.
    pub(super) fn of(data_type: &DataType) -> Result<Self> {
        Self::new(std::slice::from_ref(data_type))
    }

    /// Bytes in an order of one's own.
    pub(super) fn with_order(types: &[DataType], fields: Vec<SortField>) -> Result<Self> {
        let converter = RowConverter::new(fields)?;
        let nulls: Vec<ArrayRef> = types.iter().map(|data_type| new_null_array(data_type, 1)).collect();
        let null = converter.convert_columns(&nulls)?.row(0).as_ref().into();
        Ok(Self { converter, types: types.to_vec(), null })
    }

    pub(super) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Rows whose bytes compare as the values do.
    pub(super) fn encode(&self, columns: &[ArrayRef]) -> Result<Rows> {
        Ok(self.converter.convert_columns(&normalized(columns.to_vec())?)?)
    }

    /// Rows that give back the very values.
    pub(super) fn encode_exactly(&self, columns: &[ArrayRef]) -> Result<Rows> {
        Ok(self.converter.convert_columns(columns)?)
    }

    pub(super) fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(rows.into_iter().map(|row| parser.parse(row)))?)
    }

    /// The first column of the rows; where there is no row, NULL.
    pub(super) fn one_or_null<'a>(&self, rows: impl IntoIterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef> {
        let columns = self.decode(rows.into_iter().map(|row| row.unwrap_or(&self.null)))?;
        columns.into_iter().next().ok_or_else(|| EngineError::internal("a row without columns"))
    }

    /// Lists of first columns, one list a group.
    pub(super) fn lists<'a, L>(&self, groups: impl Iterator<Item = L>, validity: Option<NullBuffer>) -> Result<ArrayRef>
    where
        L: IntoIterator<Item = &'a [u8]>,
    {
        let mut lengths = Vec::new();
        let mut rows: Vec<&[u8]> = Vec::new();
        for group in groups {
            let before = rows.len();
            rows.extend(group);
            lengths.push(rows.len() - before);
        }
        let values = self.decode(rows)?.into_iter().next();
        let values = values.ok_or_else(|| EngineError::internal("a row without columns"))?;
        list_of(lengths, values, validity)
    }
}

/// What is the same for all accumulators that keep a [`Sized`] of their groups in `$groups`.
macro_rules! of_groups {
    ($($groups:ident).+) => {
        fn grow(&mut self, slots: usize) {
            self.$($groups).+.grow(slots);
        }

        fn reset(&mut self, slots: &[u32]) {
            self.$($groups).+.reset(slots);
        }

        fn size_bytes(&self) -> usize {
            self.$($groups).+.size_bytes()
        }
    };
}
pub(super) use of_groups;

/// A column of lists.
pub(super) fn list_of(lengths: Vec<usize>, values: ArrayRef, validity: Option<NullBuffer>) -> Result<ArrayRef> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, validity)?))
}

/// The row that comes out best in each slot, if `replaces(old, new)` tells which of two is better.
pub(super) fn winners(
    rows: &Rows,
    nulls: Option<&NullBuffer>,
    slots: &[u32],
    replaces: impl Fn(&[u8], &[u8]) -> bool,
) -> Vec<(usize, usize)> {
    let mut best: HashMap<usize, usize> = HashMap::new();
    super::for_each_valid(nulls, slots, |row, slot| {
        let place = best.entry(slot).or_insert(row);
        if *place != row && replaces(rows.row(*place).as_ref(), rows.row(row).as_ref()) {
            *place = row;
        }
    });
    best.into_iter().collect()
}

/// Rows one after another.
#[derive(Debug, Default, Clone)]
pub(super) struct RowList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RowList {
    pub(super) fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.get(at))
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// Different rows, in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct RowSet {
    list: RowList,
    index: HashTable<u32>,
}

impl RowSet {
    /// The place of a row, and whether it is new.
    pub(super) fn insert(&mut self, row: &[u8]) -> (usize, bool) {
        let hash = xxhash_rust::xxh3::xxh3_64(row);
        let list = &self.list;
        if let Some(at) = self.index.find(hash, |at| list.get(*at as usize) == row) {
            return (*at as usize, false);
        }
        let at = self.list.len();
        self.list.push(row);
        let list = &self.list;
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        self.index.insert_unique(hash, place, |at| xxhash_rust::xxh3::xxh3_64(list.get(*at as usize)));
        (at, true)
    }

    pub(super) fn list(&self) -> &RowList {
        &self.list
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.list.size_bytes() + self.index.allocation_size()
    }
}

/// Different rows, and how often each came.
#[derive(Debug, Default)]
pub(super) struct RowCounts {
    rows: RowSet,
    counts: Vec<i64>,
}

impl RowCounts {
    pub(super) fn add(&mut self, row: &[u8], times: i64) {
        let (at, is_new) = self.rows.insert(row);
        if is_new {
            self.counts.push(0);
        }
        self.counts[at] += times;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.rows.list.iter().zip(self.counts.iter().copied())
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Every row and its count, smallest first.
    pub(super) fn sorted(&self) -> Vec<(&[u8], i64)> {
        let mut all: Vec<(&[u8], i64)> = self.iter().collect();
        all.sort_unstable();
        all
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.rows.size_bytes() + self.counts.capacity() * size_of::<i64>()
    }
}

/// Something of varying size in each slot, with the size of all kept up to date.
#[derive(Debug)]
pub(super) struct Sized<T> {
    items: Vec<T>,
    size: fn(&T) -> usize,
    bytes: usize,
}

impl<T: Default> Sized<T> {
    pub(super) fn new(size: fn(&T) -> usize) -> Self {
        Self { items: Vec::new(), size, bytes: 0 }
    }

    pub(super) fn grow(&mut self, slots: usize) {
        self.items.resize_with(slots.max(self.items.len()), T::default);
    }

    pub(super) fn get(&self, slot: u32) -> &T {
        &self.items[slot as usize]
    }

    /// Changes the item of a slot.
    pub(super) fn change<R>(&mut self, slot: usize, f: impl FnOnce(&mut T) -> R) -> R {
        let item = &mut self.items[slot];
        let before = (self.size)(item);
        let result = f(item);
        self.bytes = self.bytes + (self.size)(item) - before;
        result
    }

    pub(super) fn reset(&mut self, slots: &[u32]) {
        for slot in slots {
            self.change(*slot as usize, |item| *item = T::default());
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes + self.items.capacity() * size_of::<T>()
    }
}
