//! One record of bytes into its columns, by the steps that `plan` found.
//!
//! The bytes may be anyone's: a length is compared with what is left before anything of that length is touched, an
//! array or map has no more items than bytes are left (items that take no bytes: [`EMPTY_ITEMS`] in a record), and what
//! is passed over nests no deeper than a schema may. Columns may hold values past the last row after an error; whoever
//! asked cuts them back.

use super::plan::{FieldTarget, Read, RecordRead, unscaled};
use super::schema::{AvroSchema, Kind, MAX_DEPTH, TypeId};
use crate::format::column::{Column, Values};

/// How many items of a record may take no bytes at all.
const EMPTY_ITEMS: usize = 1024;

/// Why a record is malformed.
#[derive(Debug)]
pub(super) struct Misfit {
    /// The names around the place, the innermost first.
    path: Vec<String>,
    found: String,
    expected: String,
}

impl Misfit {
    fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { path: Vec::new(), found: found.into(), expected: expected.into() }
    }

    #[cold]
    fn within(mut self, name: &str) -> Self {
        self.path.push(name.to_owned());
        self
    }

    /// One sentence for logs and dead letters.
    pub(super) fn reason(mut self) -> String {
        self.path.reverse();
        let place = match self.path.join(".") {
            path if path.is_empty() => "the record".to_owned(),
            path => format!("field `{path}`"),
        };
        format!("{place} is {}, expected {}", self.found, self.expected)
    }
}

/// A record on its way.
pub(super) struct Input<'a> {
    record: &'a [u8],
    at: usize,
    schema: &'a AvroSchema,
    /// Items that may still come.
    items: usize,
}

impl<'a> Input<'a> {
    /// The bytes of a value of `schema`.
    pub(super) fn new(record: &'a [u8], schema: &'a AvroSchema) -> Self {
        Self { record, at: 0, schema, items: record.len().saturating_add(EMPTY_ITEMS) }
    }

    /// Reads the next value into a column.
    pub(super) fn value(&mut self, read: &Read, column: &mut Column) -> Result<(), Misfit> {
        match read {
            Read::Null => {
                column.push_null();
                return Ok(());
            }
            Read::Union(branches) => {
                let branch = self.branch(branches)?;
                return self.value(branch, column);
            }
            Read::Integer { is_int, factor } => {
                let number = if *is_int { self.int()? } else { self.long()? };
                push_integer(column, number, *factor)?;
            }
            Read::Text => return self.text(column),
            Read::Binary => {
                let bytes = self.bytes()?;
                column.push_bytes(bytes);
                return Ok(());
            }
            Read::Fixed(size) => {
                let bytes = self.take(*size)?;
                column.push_bytes(bytes);
                return Ok(());
            }
            Read::Enum(symbols) => {
                let number = self.int()?;
                let symbol = usize::try_from(number).ok().and_then(|number| symbols.get(number));
                let expected = || Misfit::new(format!("symbol {number}"), format!("one of {} symbols", symbols.len()));
                column.push_bytes(symbol.ok_or_else(expected)?.as_bytes());
                return Ok(());
            }
            Read::Boolean => {
                let value = match self.take(1)?[0] {
                    0 => false,
                    1 => true,
                    other => return Err(Misfit::new(format!("the byte {other}"), "a boolean, 0 or 1")),
                };
                if let Values::Boolean(values) = &mut column.values {
                    values.push(value);
                }
            }
            Read::Float => {
                let value = f32::from_le_bytes(self.array()?);
                push_float(column, f64::from(value), value);
            }
            Read::Double => {
                let value = f64::from_le_bytes(self.array()?);
                push_float(column, value, value as f32);
            }
            Read::Decimal { fixed, factor, limit } => self.decimal(*fixed, *factor, *limit, column)?,
            Read::Record(record) => return self.record(record, column),
            Read::List(item) => self.list(item, column)?,
            Read::Map(value) => self.map(value, column)?,
            Read::Member(number, read) => return self.member(*number, read, column),
        }
        column.pushed();
        Ok(())
    }

    #[inline]
    fn record(&mut self, record: &RecordRead, column: &mut Column) -> Result<(), Misfit> {
        if let Values::Struct(columns) = &mut column.values {
            for field in &record.fields {
                let done = match &field.target {
                    FieldTarget::Column(at, read) => self.value(read, &mut columns[*at]),
                    FieldTarget::Nowhere(id) => self.skip(*id, 0),
                };
                done.map_err(|misfit| misfit.within(&field.name))?;
            }
            for (at, value) in &record.absent {
                columns[*at].push(value.clone());
            }
        }
        column.pushed();
        Ok(())
    }

    fn member(&mut self, number: usize, read: &Read, column: &mut Column) -> Result<(), Misfit> {
        if let Values::Struct(columns) = &mut column.values {
            self.value(read, &mut columns[number])?;
            let others = columns.iter_mut().enumerate().filter(|(at, _)| *at != number);
            others.for_each(|(_, column)| column.push_null());
        }
        column.pushed();
        Ok(())
    }

    fn list(&mut self, item: &Read, column: &mut Column) -> Result<(), Misfit> {
        let Values::List { offsets, item: items } = &mut column.values else { return Ok(()) };
        loop {
            let count = self.count()?;
            if count == 0 {
                break;
            }
            for _ in 0..count {
                self.value(item, items)?;
            }
        }
        offsets.push(i32::try_from(items.len()).unwrap_or(i32::MAX));
        Ok(())
    }

    fn map(&mut self, value: &Read, column: &mut Column) -> Result<(), Misfit> {
        let Values::Map { offsets, pair } = &mut column.values else { return Ok(()) };
        loop {
            let count = self.count()?;
            if count == 0 {
                break;
            }
            for _ in 0..count {
                self.text(&mut pair[0])?;
                self.value(value, &mut pair[1])?;
            }
        }
        offsets.push(i32::try_from(pair[0].len()).unwrap_or(i32::MAX));
        Ok(())
    }

    /// The number of items in the next block of an array or map; none at its end.
    fn count(&mut self) -> Result<usize, Misfit> {
        let written = self.long()?;
        if written < 0 {
            // The size of the block in bytes, for who passes it over.
            self.long()?;
        }
        let count = usize::try_from(written.unsigned_abs()).unwrap_or(usize::MAX);
        match self.items.checked_sub(count) {
            Some(left) => self.items = left,
            None => {
                let found = format!("{count} items in {} bytes", self.record.len() - self.at);
                return Err(Misfit::new(found, "no more items than bytes"));
            }
        }
        Ok(count)
    }

    fn branch<'r>(&mut self, branches: &'r [Read]) -> Result<&'r Read, Misfit> {
        let number = self.long()?;
        let branch = usize::try_from(number).ok().and_then(|number| branches.get(number));
        branch.ok_or_else(|| Misfit::new(format!("type {number} of a union"), format!("one of {}", branches.len())))
    }

    #[inline]
    fn text(&mut self, column: &mut Column) -> Result<(), Misfit> {
        let length = self.length()?;
        let start = self.at;
        let bytes = self.take(length)?;
        if let Err(error) = std::str::from_utf8(bytes) {
            let found = format!("bytes that are no UTF-8 from byte {} on", error.valid_up_to());
            return Err(Misfit::new(found, "a string"));
        }
        column.push_text_of(self.record, start, start + length);
        Ok(())
    }

    fn decimal(&mut self, fixed: Option<usize>, factor: i128, limit: i128, column: &mut Column) -> Result<(), Misfit> {
        let bytes = match fixed {
            Some(size) => self.take(size)?,
            None => self.bytes()?,
        };
        let number = unscaled(bytes).and_then(|number| number.checked_mul(factor));
        let number = number.filter(|number| number.unsigned_abs() < limit.unsigned_abs());
        let number = number.ok_or_else(|| Misfit::new("a decimal of more digits", "no more than its schema says"))?;
        if let Values::Decimal(values) = &mut column.values {
            values.push(number);
        }
        Ok(())
    }

    /// Passes over a value.
    fn skip(&mut self, id: TypeId, depth: usize) -> Result<(), Misfit> {
        if depth > MAX_DEPTH {
            return Err(Misfit::new(format!("values in each other, more than {MAX_DEPTH} deep"), "fewer"));
        }
        let schema = self.schema;
        match &schema.get(id).kind {
            Kind::Null => {}
            Kind::Boolean => _ = self.take(1)?,
            Kind::Int | Kind::Long | Kind::Enum(_) => _ = self.long()?,
            Kind::Float => _ = self.take(4)?,
            Kind::Double => _ = self.take(8)?,
            Kind::Bytes | Kind::String => _ = self.bytes()?,
            Kind::Fixed(size) => _ = self.take(*size)?,
            Kind::Record(fields) => {
                for field in fields {
                    self.skip(field.type_id, depth + 1).map_err(|misfit| misfit.within(&field.name))?;
                }
            }
            Kind::Union(branches) => {
                let number = self.long()?;
                let branch = usize::try_from(number).ok().and_then(|number| branches.get(number));
                let misfit = || Misfit::new(format!("type {number} of a union"), format!("one of {}", branches.len()));
                self.skip(*branch.ok_or_else(misfit)?, depth + 1)?;
            }
            Kind::Array(items) => self.skip_blocks(|input| input.skip(*items, depth + 1))?,
            Kind::Map(values) => self.skip_blocks(|input| {
                input.bytes()?;
                input.skip(*values, depth + 1)
            })?,
        }
        Ok(())
    }

    fn skip_blocks(&mut self, item: impl Fn(&mut Self) -> Result<(), Misfit>) -> Result<(), Misfit> {
        loop {
            let count = self.count()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    /// A number of variable length that 32 bits hold.
    #[inline]
    fn int(&mut self) -> Result<i64, Misfit> {
        let number = self.long()?;
        match i32::try_from(number) {
            Ok(_) => Ok(number),
            Err(_) => Err(Misfit::new(number.to_string(), "an int of 32 bits")),
        }
    }

    /// A number of variable length: seven bits a byte, the lowest first, the sign in the lowest bit.
    #[inline]
    fn long(&mut self) -> Result<i64, Misfit> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let Some(byte) = self.record.get(self.at) else { return Err(self.ended(1)) };
            self.at += 1;
            if shift == 63 && *byte > 1 {
                return Err(Misfit::new("a number of more than 64 bits", "a long"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
            shift += 7;
        }
    }

    #[inline]
    fn length(&mut self) -> Result<usize, Misfit> {
        let length = self.long()?;
        usize::try_from(length).map_err(|_| Misfit::new(format!("a length of {length}"), "a length of 0 or more"))
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Misfit> {
        let length = self.length()?;
        self.take(length)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Misfit> {
        let rest = &self.record[self.at..];
        let Some(taken) = rest.get(..length) else { return Err(self.ended(length)) };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        match self.record[self.at..].first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.ended(N)),
        }
    }

    #[cold]
    fn ended(&self, wanted: usize) -> Misfit {
        let left = self.record.len() - self.at;
        Misfit::new(format!("cut off: {left} of its bytes are left"), format!("{wanted}"))
    }
}

#[inline]
fn push_integer(column: &mut Column, number: i64, factor: i64) -> Result<(), Misfit> {
    let large = |expected: &str| Misfit::new(number.to_string(), expected);
    match &mut column.values {
        Values::Int64(values) => values.push(number),
        Values::Int32(values) => values.push(i32::try_from(number).map_err(|_| large("an INT"))?),
        Values::Date(values) => values.push(i32::try_from(number).map_err(|_| large("a DATE"))?),
        Values::Timestamp(values) => {
            values.push(number.checked_mul(factor).ok_or_else(|| large("a TIMESTAMP"))?);
        }
        Values::Int16(values) => values.push(i16::try_from(number).map_err(|_| large("a SMALLINT"))?),
        Values::Int8(values) => values.push(i8::try_from(number).map_err(|_| large("a TINYINT"))?),
        _ => push_float(column, number as f64, number as f32),
    }
    Ok(())
}

#[inline]
fn push_float(column: &mut Column, wide: f64, narrow: f32) {
    match &mut column.values {
        Values::Float64(values) => values.push(wide),
        Values::Float32(values) => values.push(narrow),
        _ => {}
    }
}
