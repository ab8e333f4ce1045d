//! `collect_list`, `collect_set` and `listagg`: every value of a group, or every different one.
//!
//! Their state grows with the rows of a group, and all of it is written anew whenever the group changes: on streams
//! they are for groups that stay small or that a watermark ends.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray, StructArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::SortField;

use super::rows::{Codec, RowList, RowSet, Sized, of_groups};
use super::{Accumulator, for_each_valid, list_type};
use crate::error::Result;

/// `collect_list` and `collect_set`.
pub(crate) struct Collect {
    is_set: bool,
    keep_nulls: bool,
    codec: Codec,
    groups: Sized<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    rows: RowSet,
    all: RowList,
}

impl Collected {
    fn size_bytes(&self) -> usize {
        self.rows.size_bytes() + self.all.size_bytes()
    }
}

impl Collect {
    pub(crate) fn new(is_set: bool, keep_nulls: bool, data_type: &DataType) -> Result<Self> {
        Ok(Self { is_set, keep_nulls, codec: Codec::of(data_type)?, groups: Sized::new(Collected::size_bytes) })
    }

    fn take(&mut self, column: &ArrayRef, slots: &[u32]) -> Result<()> {
        let column = std::slice::from_ref(column);
        let rows = if self.is_set { self.codec.encode(column)? } else { self.codec.encode_exactly(column)? };
        let nulls = column[0].logical_nulls().filter(|_| !self.keep_nulls);
        for_each_valid(nulls.as_ref(), slots, |row, slot| {
            let row = rows.row(row);
            self.groups.change(slot, |group| {
                if self.is_set {
                    group.rows.insert(row.as_ref());
                } else {
                    group.all.push(row.as_ref());
                }
            });
        });
        Ok(())
    }
}

impl Accumulator for Collect {
    of_groups!(groups);

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        self.take(&args[0], slots)
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let lists = state[0].as_list::<i32>();
        for (row, slot) in slots.iter().enumerate() {
            let items = lists.value(row);
            self.take(&items, &vec![*slot; items.len()])?;
        }
        Ok(())
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let group = |slot: &u32| {
            let group = self.groups.get(*slot);
            if self.is_set { group.rows.list() } else { &group.all }
        };
        self.codec.lists(slots.iter().map(|slot| group(slot).iter()), None)
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![list_type(&self.codec.types()[0])]
    }
}

/// `listagg(text, key, ...)`: texts or binaries one after another, in the order of the keys or as they came.
pub(crate) struct ListAgg {
    separator: Vec<u8>,
    /// Text, then keys.
    values: Codec,
    /// The keys as they are to be compared; empty without an order.
    keys: Option<Codec>,
    groups: Sized<RowList>,
}

impl ListAgg {
    /// `order` has one entry for each argument after the first.
    pub(crate) fn new(separator: Vec<u8>, types: &[DataType], order: &[SortOptions]) -> Result<Self> {
        let fields = types[1..].iter().zip(order).map(|(t, options)| SortField::new_with_options(t.clone(), *options));
        let keys = match types.len() {
            1 => None,
            _ => Some(Codec::with_order(&types[1..], fields.collect())?),
        };
        Ok(Self { separator, values: Codec::new(types)?, keys, groups: Sized::new(RowList::size_bytes) })
    }

    fn joined(&self, group: &RowList) -> Result<Option<Vec<u8>>> {
        if group.len() == 0 {
            return Ok(None);
        }
        let columns = self.values.decode(group.iter())?;
        let mut order: Vec<usize> = (0..group.len()).collect();
        if let Some(keys) = &self.keys {
            let rows = keys.encode(&columns[1..])?;
            order.sort_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
        }
        let texts = arrow::compute::cast(&columns[0], &DataType::Binary)?;
        let texts: &BinaryArray = texts.as_binary::<i32>();
        let parts: Vec<&[u8]> = order.into_iter().map(|row| texts.value(row)).collect();
        Ok(Some(parts.join(self.separator.as_slice())))
    }

    fn fields(&self) -> Fields {
        let field = |(at, data_type): (usize, &DataType)| Field::new(format!("{at}"), data_type.clone(), true);
        self.values.types().iter().enumerate().map(field).collect()
    }
}

impl Accumulator for ListAgg {
    of_groups!(groups);

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let rows = self.values.encode_exactly(&args[..self.values.types().len()])?;
        for_each_valid(args[0].logical_nulls().as_ref(), slots, |row, slot| {
            self.groups.change(slot, |group| group.push(rows.row(row).as_ref()));
        });
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let lists = state[0].as_list::<i32>();
        for (row, slot) in slots.iter().enumerate() {
            let items = lists.value(row);
            self.update(items.as_struct().columns(), &vec![*slot; items.len()])?;
        }
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let lengths = slots.iter().map(|slot| self.groups.get(*slot).len()).collect();
        let columns = self.values.decode(slots.iter().flat_map(|slot| self.groups.get(*slot).iter()))?;
        let items = StructArray::try_new(self.fields(), columns, None)?;
        Ok(vec![super::rows::list_of(lengths, Arc::new(items), None)?])
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let joined = slots.iter().map(|slot| self.joined(self.groups.get(*slot))).collect::<Result<Vec<_>>>()?;
        if self.values.types()[0] == DataType::Binary {
            return Ok(Arc::new(joined.iter().map(|bytes| bytes.as_deref()).collect::<BinaryArray>()));
        }
        let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(Arc::new(joined.iter().map(text).collect::<StringArray>()))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![list_type(&DataType::Struct(self.fields()))]
    }
}
