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

/// The keys of an earlier record, in its order.
#[derive(Debug, Default)]
pub(super) struct Keys {
    expected: Vec<ExpectedKey>,
    /// How many records to let pass before learning again, so that mixed records do not cost a learning each.
    patience: u32,
    backoff: u32,
}

/// What stands between the value before and the value of a key: `,"user_id":`, with its white space.
#[derive(Debug)]
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
    Key { name: &'a [u8], value: usize },
    End,
}

impl JsonDecoder {
    /// Appends a plain record. After `Unusual` the columns may hold values past the last row.
    #[inline]
    pub(super) fn append_direct(&mut self, record: &[u8]) -> Result<(), Unusual> {
        if !is_ascii(record) && std::str::from_utf8(record).is_err() {
            return Err(Unusual);
        }
        let (mut at, mut key, mut filled, mut guessed) = (0, 0, 0, true);
        loop {
            let column = match self.keys.expected.get(key) {
                Some(expected) if expected.stands_at(record, at) => {
                    at += expected.text.len();
                    key += 1;
                    expected.column
                }
                _ => match next_key(record, at)? {
                    Next::End => break,
                    Next::Key { name, value } => {
                        at = value;
                        guessed = false;
                        key = self.keys.after(key, name);
                        self.members.find(name)
                    }
                },
            };
            at = match column {
                None => skip(record, at)?,
                Some(i) => {
                    let column = &mut self.columns[i];
                    // A key that comes twice.
                    if column.len() != self.rows {
                        return Err(Unusual);
                    }
                    filled += 1;
                    read(column, &self.members.shapes[i], &mut self.times, record, at)?
                }
            };
        }
        if filled < self.columns.len() {
            let rows = self.rows;
            self.columns.iter_mut().filter(|column| column.len() == rows).for_each(Column::push_null);
        }
        if !guessed {
            self.keys.learn(record, &self.members);
        }
        Ok(())
    }
}

/// The next key or the end of the object: from the start of the record if `at` is 0, else from behind a value.
fn next_key(record: &[u8], at: usize) -> Result<Next<'_>, Unusual> {
    let start = white_space(record, at);
    let first = at == 0;
    let at = white_space(record, start + 1);
    match record.get(start) {
        Some(b'{') if first && record.get(at) == Some(&b'}') => return Ok(Next::End),
        Some(b'{') if first => {}
        Some(b'}') if !first => return Ok(Next::End),
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

    /// Remembers the keys of a record that was read to its end.
    #[cold]
    fn learn(&mut self, record: &[u8], members: &Members) {
        if self.patience > 0 {
            self.patience -= 1;
            return;
        }
        self.backoff = (self.backoff * 2 + 1).min(MAX_BACKOFF);
        self.patience = self.backoff;
        self.expected.clear();
        let mut at = 0;
        while let Ok(Next::Key { name, value }) = next_key(record, at) {
            self.expected.push(ExpectedKey::new(&record[at..value], name, members.find(name)));
            match skip(record, value) {
                Ok(end) if self.expected.len() < MAX_KEYS => at = end,
                _ => return,
            }
        }
    }
}

/// Keys beyond so many are found by name, not by guess.
const MAX_KEYS: usize = 1024;
const MAX_BACKOFF: u32 = 255;

/// Reads the value at `at` into its column; the position behind it.
#[inline]
fn read(column: &mut Column, shape: &Shape, times: &mut Times, record: &[u8], at: usize) -> Result<usize, Unusual> {
    let first = *record.get(at).ok_or(Unusual)?;
    if first == b'n' {
        column.push_null();
        return literal(record, at, b"null");
    }
    let end = match (&mut column.values, shape) {
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
        _ => return read_tree(column, shape, times, record, at),
    };
    column.pushed();
    Ok(end)
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

/// Nested values and the rarer types, by way of the full parser.
fn read_tree(
    column: &mut Column,
    shape: &Shape,
    times: &mut Times,
    record: &[u8],
    at: usize,
) -> Result<usize, Unusual> {
    let mut parser = FullParser::inside(record, at, times);
    match parser.value(shape) {
        Ok(Fit::Good(value)) => column.push(value),
        _ => return Err(Unusual),
    }
    Ok(parser.position())
}
