//! `min` and `max` of every ordered type: numbers fold, texts are kept as they are, all else as bytes in its order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type};

use super::number::fold;
use super::rows::{Codec, winners};
use super::{Accumulator, for_each_valid};
use crate::error::Result;

/// `min` or `max` of any ordered type.
pub(super) fn extreme(is_max: bool, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    match data_type {
        DataType::Float32 if is_max => Some(fold::<Float32Type>(data_type, |a, b| Ok(if below(a, b) { b } else { a }))),
        DataType::Float32 => Some(fold::<Float32Type>(data_type, |a, b| Ok(if below(b, a) { b } else { a }))),
        DataType::Float64 if is_max => Some(fold::<Float64Type>(data_type, |a, b| Ok(if below(a, b) { b } else { a }))),
        DataType::Float64 => Some(fold::<Float64Type>(data_type, |a, b| Ok(if below(b, a) { b } else { a }))),
        DataType::Boolean => Some(Box::new(ExtremeBool { is_max, values: Vec::new() })),
        DataType::Utf8 if is_max => Some(Box::new(ExtremeText::new(|old, new| new > old))),
        DataType::Utf8 => Some(Box::new(ExtremeText::new(|old, new| new < old))),
        data_type => extreme_number(is_max, data_type).or_else(|| ExtremeRow::boxed(is_max, data_type)),
    }
}

/// Whether a float is smaller, as Spark compares them: NaN is larger than every number, and the zeros are one.
#[expect(clippy::eq_op, reason = "only NaN differs from itself")]
fn below<T: PartialOrd + Copy>(a: T, b: T) -> bool {
    a < b || (b != b && a == a)
}

/// `min` or `max` of a whole number, a decimal or a time.
fn extreme_number(is_max: bool, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    use arrow::array::ArrowNativeTypeOp;
    use arrow::datatypes::{Date32Type, Int8Type, Int16Type, Int32Type, TimeUnit, TimestampMicrosecondType};
    macro_rules! table {
        ($($pattern:pat => $t:ty),+ $(,)?) => {
            match data_type {
                $($pattern => Some(if is_max {
                    fold::<$t>(data_type, |a, b| Ok(if b.is_gt(a) { b } else { a }))
                } else {
                    fold::<$t>(data_type, |a, b| Ok(if b.is_lt(a) { b } else { a }))
                }),)+
                _ => None,
            }
        };
    }
    table! {
        DataType::Int8 => Int8Type,
        DataType::Int16 => Int16Type,
        DataType::Int32 => Int32Type,
        DataType::Int64 => Int64Type,
        DataType::Date32 => Date32Type,
        DataType::Decimal128(..) => Decimal128Type,
        DataType::Timestamp(TimeUnit::Microsecond, _) => TimestampMicrosecondType,
    }
}

/// `min` and `max` of text: the text itself, null until the first row.
pub(super) struct ExtremeText {
    values: Vec<Option<Box<str>>>,
    /// Whether the first is to be replaced by the second.
    replaces: fn(&str, &str) -> bool,
    bytes: usize,
}

impl ExtremeText {
    pub(super) fn new(replaces: fn(&str, &str) -> bool) -> Self {
        Self { values: Vec::new(), replaces, bytes: 0 }
    }
}

impl Accumulator for ExtremeText {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots.max(self.values.len()), None);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let texts = args[0].as_string::<i32>();
        for_each_valid(texts.nulls(), slots, |row, slot| {
            let text = texts.value(row);
            if self.values[slot].as_deref().is_none_or(|old| (self.replaces)(old, text)) {
                self.bytes += text.len();
                self.bytes -= self.values[slot].as_deref().map_or(0, str::len);
                self.values[slot] = Some(text.into());
            }
        });
        Ok(())
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(slots.iter().map(|slot| self.values[*slot as usize].as_deref()).collect::<StringArray>()))
    }

    fn reset(&mut self, slots: &[u32]) {
        for slot in slots {
            if let Some(text) = self.values[*slot as usize].take() {
                self.bytes -= text.len();
            }
        }
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Utf8]
    }

    fn size_bytes(&self) -> usize {
        self.bytes + size_of_val(self.values.as_slice())
    }
}

/// `min` and `max` of booleans, which are `bool_and` and `bool_or`.
struct ExtremeBool {
    is_max: bool,
    values: Vec<Option<bool>>,
}

impl Accumulator for ExtremeBool {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots.max(self.values.len()), None);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let values = args[0].as_boolean();
        for_each_valid(values.nulls(), slots, |row, slot| {
            let value = values.value(row);
            let old = self.values[slot].unwrap_or(value);
            self.values[slot] = Some(if self.is_max { old | value } else { old & value });
        });
        Ok(())
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(slots.iter().map(|slot| self.values[*slot as usize]).collect::<BooleanArray>()))
    }

    fn reset(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.values[*slot as usize] = None);
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Boolean]
    }

    fn size_bytes(&self) -> usize {
        size_of_val(self.values.as_slice())
    }
}

/// `min` and `max` of binaries, arrays, structs and intervals: bytes that compare as the values do.
struct ExtremeRow {
    is_max: bool,
    codec: Codec,
    values: Vec<Option<Box<[u8]>>>,
    bytes: usize,
}

impl ExtremeRow {
    fn boxed(is_max: bool, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
        let codec = Codec::of(data_type).ok()?;
        Some(Box::new(Self { is_max, codec, values: Vec::new(), bytes: 0 }))
    }
}

impl Accumulator for ExtremeRow {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots.max(self.values.len()), None);
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let nulls = args[0].logical_nulls();
        let rows = self.codec.encode(args)?;
        let is_max = self.is_max;
        let replaces = |old: &[u8], new: &[u8]| if is_max { new > old } else { new < old };
        for (slot, row) in winners(&rows, nulls.as_ref(), slots, replaces) {
            let new = rows.row(row);
            let place = &mut self.values[slot];
            if place.as_deref().is_none_or(|old| replaces(old, new.as_ref())) {
                self.bytes -= place.as_deref().map_or(0, <[u8]>::len);
                self.bytes += new.as_ref().len();
                *place = Some(new.as_ref().into());
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        self.codec.one_or_null(slots.iter().map(|slot| self.values[*slot as usize].as_deref()))
    }

    fn reset(&mut self, slots: &[u32]) {
        for slot in slots {
            self.bytes -= self.values[*slot as usize].take().map_or(0, |old| old.len());
        }
    }

    fn state_types(&self) -> Vec<DataType> {
        self.codec.types().to_vec()
    }

    fn size_bytes(&self) -> usize {
        self.bytes + size_of_val(self.values.as_slice())
    }
}
