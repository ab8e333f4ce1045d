//! The direct path: one walk over a plain record, guided by the record before it.

use super::super::column::{Column, Values};
use super::super::text::Times;
use super::full::{Fit, FullParser, date};
use super::scan::{Unusual, colon, double, integer, is_ascii, literal, skip, string, unescape, white_space};
use super::shape::Shape;
use super::{JsonDecoder, Members};

/// The longest prefix that is compared in words.
const WORDS: usize = 4;
const PREFIX_BYTES: usize = WORDS * 8;

/// The keys of an object of an earlier record, in its order.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    expected: Vec<ExpectedKey>,
    /// How many records to let pass before learning again, so that mixed records do not cost a learning each.
    patience: u32,
    backoff: u32,
}

/// What stands between the value before and the value of a key: `,"user_id":`, with its white space.
#[derive(Debug, Clone)]
struct ExpectedKey {
    /// The text and its mask, if it is short enough to be compared in words.
    words: [u64; WORDS],
    masks: [u64; WORDS],
    text: Box<[u8]>,
    name: Box<[u8]>,
    column: Option<usize>,
}

impl ExpectedKey {
    fn new(text: &[u8], name: &[u8], column: Option<usize>) -> Self {
        let word = |i: usize, byte: &dyn Fn(usize) -> u8| u64::from_le_bytes(std::array::from_fn(|j| byte(i * 8 + j)));
        Self {
            words: std::array::from_fn(|i| word(i, &|at| text.get(at).copied().unwrap_or(0))),
            masks: std::array::from_fn(|i| word(i, &|at| if at < text.len() { 0xff } else { 0 })),
            text: text.into(),
            name: name.into(),
            column,
        }
    }

    #[inline(always)]
    fn stands_at(&self, record: &[u8], at: usize) -> bool {
        let Some(rest) = record.get(at..) else { return false };
        if self.text.len() <= PREFIX_BYTES / 2
            && let Some(bytes) = rest.first_chunk::<{ PREFIX_BYTES / 2 }>()
        {
            return self.differs::<{ WORDS / 2 }>(bytes.as_chunks().0) == 0;
        }
        if self.text.len() <= PREFIX_BYTES
            && let Some(bytes) = rest.first_chunk::<PREFIX_BYTES>()
        {
            return self.differs::<WORDS>(bytes.as_chunks().0) == 0;
        }
        rest.starts_with(&self.text)
    }

    #[inline(always)]
    fn differs<const N: usize>(&self, bytes: &[[u8; 8]]) -> u64 {
        let word = |i: usize| (u64::from_le_bytes(bytes[i]) ^ self.words[i]) & self.masks[i];
        (0..N.min(bytes.len())).fold(0, |difference, i| difference | word(i))
    }
}

/// What the walk finds where a key may stand.
enum Next<'a> {
    Key {
        name: &'a [u8],
        value: usize,
    },
    /// The position behind the object.
    End(usize),
}

impl JsonDecoder {
    /// Appends a plain record. After `Unusual` the columns may hold values past the last row.
    #[inline]
    pub(super) fn append_direct(&mut self, record: &[u8]) -> Result<(), Unusual> {
        if !is_ascii(record) && std::str::from_utf8(record).is_err() {
            return Err(Unusual);
        }
        Walk { record, times: &mut self.times }.object(&mut self.members, &mut self.columns, self.rows, 0, 0)?;
        Ok(())
    }
}

/// One walk over a record.
struct Walk<'a> {
    record: &'a [u8],
    times: &'a mut Times,
}

impl Walk<'_> {
    /// Appends the object at `at`, around which `depth` others are open, to columns of `rows` rows: a value to each. The
    /// position behind the object.
    #[inline]
    fn object(
        &mut self,
        members: &mut Members,
        columns: &mut [Column],
        rows: usize,
        at: usize,
        depth: usize,
    ) -> Result<usize, Unusual> {
        let (record, start) = (self.record, at);
        let (mut at, mut key, mut filled, mut guessed) = (at, 0, 0, true);
        let end = loop {
            let column = match members.keys.expected.get(key) {
                Some(expected) if expected.stands_at(record, at) => {
                    at += expected.text.len();
                    key += 1;
                    expected.column
                }
                _ => match next_key(record, at, at == start)? {
                    Next::End(end) => break end,
                    Next::Key { name, value } => {
                        at = value;
                        guessed = false;
                        key = members.keys.after(key, name);
                        members.find(name)
                    }
                },
            };
            at = match column {
                None => skip(record, at, depth)?,
                Some(i) => {
                    let column = &mut columns[i];
                    // A key that comes twice.
                    if column.len() != rows {
                        return Err(Unusual);
                    }
                    filled += 1;
                    self.value(column, &mut members.shapes[i], at, depth)?
                }
            };
        };
        if filled < columns.len() {
            columns.iter_mut().filter(|column| column.len() == rows).for_each(Column::push_null);
        }
        if !guessed {
            members.learn(record, start, depth);
        }
        Ok(end)
    }
}

/// The next key or the end of the object: from the start of the object if it is the `first`, else from behind a value.
fn next_key(record: &[u8], at: usize, first: bool) -> Result<Next<'_>, Unusual> {
    let start = white_space(record, at);
    let at = white_space(record, start + 1);
    match record.get(start) {
        Some(b'{') if first && record.get(at) == Some(&b'}') => return Ok(Next::End(at + 1)),
        Some(b'{') if first => {}
        Some(b'}') if !first => return Ok(Next::End(start + 1)),
        Some(b',') if !first => {}
        _ => return Err(Unusual),
    }
    if record.get(at) != Some(&b'"') {
        return Err(Unusual);
    }
    let name = string(record, at + 1)?;
    if name.escaped {
        return Err(Unusual);
    }
    Ok(Next::Key { name: name.raw, value: colon(record, name.end)? })
}

impl Keys {
    /// Which key to expect after `name`, when another one than `key` was expected: the ones between them are missing,
    /// or `name` is new. Never the first again, whose text begins with the record's brace.
    #[cold]
    fn after(&self, key: usize, name: &[u8]) -> usize {
        let ahead = self.expected.iter().skip(key).position(|expected| *expected.name == *name);
        ahead.map_or(key.max(1), |ahead| key + ahead + 1)
    }
}

impl Members {
    /// Remembers the keys of the object at `at` of a record that was read to its end.
    #[cold]
    fn learn(&mut self, record: &[u8], mut at: usize, depth: usize) {
        if self.keys.patience > 0 {
            self.keys.patience -= 1;
            return;
        }
        self.keys.backoff = (self.keys.backoff * 2 + 1).min(MAX_BACKOFF);
        self.keys.patience = self.keys.backoff;
        self.keys.expected.clear();
        let start = at;
        while let Ok(Next::Key { name, value }) = next_key(record, at, at == start) {
            let expected = ExpectedKey::new(&record[at..value], name, self.find(name));
            self.keys.expected.push(expected);
            match skip(record, value, depth) {
                Ok(end) if self.keys.expected.len() < MAX_KEYS => at = end,
                _ => return,
            }
        }
    }
}

/// Keys beyond so many are found by name, not by guess.
const MAX_KEYS: usize = 1024;
const MAX_BACKOFF: u32 = 255;

impl Walk<'_> {
    /// Reads the value at `at`, a member of an object around which `depth` others are open, into its column; the position
    /// behind it.
    #[inline]
    fn value(&mut self, column: &mut Column, shape: &mut Shape, at: usize, depth: usize) -> Result<usize, Unusual> {
        let record = self.record;
        let first = *record.get(at).ok_or(Unusual)?;
        if first == b'{'
            && let Shape::Struct(members) = shape
        {
            return self.structure(column, members, at, depth + 1);
        }
        let times = &mut *self.times;
        if first == b'n' {
            column.push_null();
            return literal(record, at, b"null");
        }
        let end = match (&mut column.values, &*shape) {
            (Values::Bytes { .. } | Values::View { .. }, Shape::Text) if first == b'"' => {
                let text = string(record, at + 1)?;
                if text.escaped {
                    let mut plain = Vec::with_capacity(text.raw.len());
                    unescape(text.raw, &mut plain);
                    column.push_bytes(&plain);
                } else {
                    column.push_text_of(record, at + 1, text.end - 1);
                }
                return Ok(text.end);
            }
            (Values::Int64(values), _) => {
                let (value, end) = integer(record, at)?;
                values.push(value);
                end
            }
            (Values::Int32(values), _) => narrow(values, record, at)?,
            (Values::Int16(values), _) => narrow(values, record, at)?,
            (Values::Float64(values), _) if first != b'"' => {
                let (value, end) = double(record, at)?;
                values.push(value);
                end
            }
            (Values::Boolean(values), _) => {
                let value = first == b't';
                let end = literal(record, at, if value { b"true" } else { b"false" })?;
                values.push(value);
                end
            }
            (Values::Timestamp(values), Shape::Timestamp) if first == b'"' => {
                let text = plain_string(record, at)?;
                values.push(times.timestamp(text.0).ok_or(Unusual)?);
                text.1
            }
            (Values::Timestamp(values), Shape::TimestampNtz) if first == b'"' => {
                let text = plain_string(record, at)?;
                values.push(times.timestamp_ntz(text.0).ok_or(Unusual)?);
                text.1
            }
            (Values::Date(values), _) if first == b'"' => {
                let text = plain_string(record, at)?;
                values.push(date(times, text.0).ok_or(Unusual)?);
                text.1
            }
            _ => return read_tree(column, shape, times, record, at, depth + 1),
        };
        column.pushed();
        Ok(end)
    }

    /// Out of line, so that records without structs do not pay for the recursion.
    #[inline(never)]
    fn structure(
        &mut self,
        column: &mut Column,
        members: &mut Members,
        at: usize,
        depth: usize,
    ) -> Result<usize, Unusual> {
        let rows = column.len();
        let Values::Struct(fields) = &mut column.values else { return Err(Unusual) };
        let end = self.object(members, fields, rows, at, depth)?;
        column.pushed();
        Ok(end)
    }
}

#[inline]
fn narrow<T: TryFrom<i64>>(values: &mut Vec<T>, record: &[u8], at: usize) -> Result<usize, Unusual> {
    let (value, end) = integer(record, at)?;
    values.push(T::try_from(value).map_err(|_| Unusual)?);
    Ok(end)
}

#[inline]
fn plain_string(record: &[u8], at: usize) -> Result<(&[u8], usize), Unusual> {
    let text = string(record, at + 1)?;
    if text.escaped { Err(Unusual) } else { Ok((text.raw, text.end)) }
}

/// Arrays, maps and the rarer types, by way of the full parser.
fn read_tree(
    column: &mut Column,
    shape: &Shape,
    times: &mut Times,
    record: &[u8],
    at: usize,
    depth: usize,
) -> Result<usize, Unusual> {
    let mut parser = FullParser::inside(record, at, depth, times);
    match parser.value(shape) {
        Ok(Fit::Good(value)) => column.push(value),
        _ => return Err(Unusual),
    }
    Ok(parser.position())
}
