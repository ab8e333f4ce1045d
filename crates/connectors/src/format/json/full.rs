//! The full JSON parser: every record that Spark reads, with Spark's reading of it.
//!
//! Beyond standard JSON it takes what Spark takes by default: strings and keys in single quotes, the numbers `NaN`,
//! `Infinity`, `-Infinity`, `+Infinity`, `-INF`, `+INF`, and anything behind the end of the record's object. A value
//! that does not fit its column is null and makes the record malformed, while the other columns keep their values:
//!
//! | place of the misfit | result |
//! |---|---|
//! | column, member of a struct | null there |
//! | element of an array, value of a map | the whole array or map is null, but for misfits inside structs in it |
//!
//! A syntax error anywhere up to the end of the object leaves nothing. A key that comes twice: the last value that
//! fits counts. Bounds: arrays and objects nest at most 1,000 deep, numbers have at most 1,000 characters.
//!
//! It builds a [`Value`] for each column before anything is written: it runs for unusual records, and for nested
//! columns, where the tree costs little beside the rest.

use super::super::column::Value;
use super::super::java;
use super::super::text::{Times, non_finite, parse_base64, parse_decimal};
use super::scan::{MAX_DEPTH, MAX_NUMBER_BYTES, unescape, white_space};
use super::shape::{Members, Shape};

/// How a value fits its shape.
pub(super) enum Fit {
    Good(Value),
    /// Some of it had to become null.
    Partial(Value),
    Bad,
}

/// What a record holds.
pub(super) enum Parsed {
    /// Nothing but white space.
    Blank,
    /// A value for each column, and why some of them are null if they should not be.
    Rows(Vec<Vec<Value>>, Option<String>),
    /// No row can be made of it.
    Malformed(String),
}

/// Where and why reading stopped.
pub(super) struct SyntaxError {
    at: usize,
    expected: &'static str,
}

/// A kind of token that is no punctuation.
pub(super) enum Scalar<'a> {
    Text(Vec<u8>),
    Integer(&'a [u8]),
    Fraction(&'a [u8]),
    NonFinite(f64),
    Boolean(bool),
    Null,
}

pub(super) struct FullParser<'a> {
    record: &'a [u8],
    at: usize,
    depth: usize,
    times: &'a mut Times,
    misfit: Option<String>,
}

/// Reads a record. With `arrays`, an array at its top is a row for each element.
pub(super) fn parse(record: &[u8], members: &Members, times: &mut Times, arrays: bool) -> Parsed {
    with_parser(record, times, |parser| parser.record(members, arrays)).unwrap_or_else(Parsed::Malformed)
}

/// Reads a record that is one value, an array or a map: a row of that value alone.
pub(super) fn parse_value(record: &[u8], shape: &Shape, times: &mut Times) -> Parsed {
    with_parser(record, times, |parser| parser.single(shape)).unwrap_or_else(Parsed::Malformed)
}

/// Hands a parser of a record to `read`; the error says where and why reading stopped.
pub(super) fn with_parser<T>(
    record: &[u8],
    times: &mut Times,
    read: impl FnOnce(&mut FullParser<'_>) -> Result<T, SyntaxError>,
) -> Result<T, String> {
    let valid = match std::str::from_utf8(record) {
        Ok(_) => record.len(),
        Err(error) => error.valid_up_to(),
    };
    let mut parser = FullParser { record: &record[..valid], at: 0, depth: 0, times, misfit: None };
    read(&mut parser).map_err(|error| match error.at {
        // Bytes behind the object do not count, so that they need not be text.
        at if at >= valid && valid < record.len() => format!("byte {valid} is not valid UTF-8"),
        _ => parser.describe(&error),
    })
}

impl<'a> FullParser<'a> {
    /// A parser at a position inside a record, for one nested value inside `depth` objects.
    pub(super) fn inside(record: &'a [u8], at: usize, depth: usize, times: &'a mut Times) -> Self {
        Self { record, at, depth, times, misfit: None }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn record(&mut self, members: &Members, arrays: bool) -> Result<Parsed, SyntaxError> {
        match self.peek() {
            None if self.record.len() == self.at => return Ok(Parsed::Blank),
            Some(b'{') => {
                let row = self.members(members)?;
                return Ok(Parsed::Rows(vec![row], self.misfit.take()));
            }
            Some(b'[') if arrays => return self.rows(members),
            _ => {}
        }
        self.skip()?;
        Ok(Parsed::Malformed("the record is no JSON object".to_owned()))
    }

    fn single(&mut self, shape: &Shape) -> Result<Parsed, SyntaxError> {
        let fit = match (self.peek(), shape) {
            (None, _) if self.record.len() == self.at => return Ok(Parsed::Blank),
            // As in Spark, an object where an array of structs is wanted is an array of one.
            (Some(b'{'), Shape::List(item)) if matches!(**item, Shape::Struct(_)) => match self.value(item)? {
                Fit::Good(value) => Fit::Good(Value::List(vec![value])),
                Fit::Partial(value) => Fit::Partial(Value::List(vec![value])),
                Fit::Bad => Fit::Bad,
            },
            _ => self.value(shape)?,
        };
        let misfit = self.misfit.take();
        let misfit = || misfit.unwrap_or_else(|| format!("the record does not fit, expected {}", shape.expected()));
        Ok(match fit {
            Fit::Good(value) => Parsed::Rows(vec![vec![value]], None),
            Fit::Partial(value) => Parsed::Rows(vec![vec![value]], Some(misfit())),
            Fit::Bad => Parsed::Malformed(misfit()),
        })
    }

    fn rows(&mut self, members: &Members) -> Result<Parsed, SyntaxError> {
        let mut rows = Vec::new();
        let mut strange = false;
        self.elements(|parser| {
            if parser.peek() == Some(b'{') {
                rows.push(parser.members(members)?);
                return Ok(());
            }
            strange = true;
            parser.skip()
        })?;
        if strange {
            return Ok(Parsed::Malformed("an element of the record's array is no JSON object".to_owned()));
        }
        Ok(Parsed::Rows(rows, self.misfit.take()))
    }

    /// The members of an object, in the order of the columns.
    fn members(&mut self, members: &Members) -> Result<Vec<Value>, SyntaxError> {
        let mut row = vec![Value::Null; members.len()];
        self.object(|parser, key| {
            let Some(i) = members.find(&key) else { return parser.skip() };
            let before = parser.at;
            match parser.value(&members.shapes[i])? {
                Fit::Good(value) => row[i] = value,
                Fit::Partial(value) => row[i] = value,
                Fit::Bad => parser.note_misfit(&members.names[i], &members.shapes[i], before),
            }
            Ok(())
        })?;
        Ok(row)
    }

    fn note_misfit(&mut self, name: &str, shape: &Shape, start: usize) {
        if self.misfit.is_none() {
            let found = String::from_utf8_lossy(&self.record[start..self.at]);
            let short: String = found.trim().chars().take(60).collect();
            self.misfit = Some(format!("field `{name}` is {short}, expected {}", shape.expected()));
        }
    }

    /// The next value as `shape` wants it. A misfit is skipped to its end.
    pub(super) fn value(&mut self, shape: &Shape) -> Result<Fit, SyntaxError> {
        match (self.peek(), shape) {
            (Some(b'{'), Shape::Struct(members)) => {
                let misfit_before = self.misfit.take();
                let row = Value::Struct(self.members(members)?);
                let partial = self.misfit.is_some();
                self.misfit = misfit_before.or(self.misfit.take());
                Ok(if partial { Fit::Partial(row) } else { Fit::Good(row) })
            }
            (Some(b'['), Shape::List(item)) => self.list(item),
            (Some(b'{'), Shape::Map(value)) => self.map(value),
            (Some(b'{' | b'['), Shape::Text) => {
                let mut text = Vec::new();
                self.canonical(&mut text)?;
                Ok(Fit::Good(Value::Bytes(text)))
            }
            (Some(b'{' | b'['), _) => {
                self.skip()?;
                Ok(Fit::Bad)
            }
            _ => {
                let scalar = self.scalar()?;
                Ok(self.scalar_value(scalar, shape).map_or(Fit::Bad, Fit::Good))
            }
        }
    }

    fn list(&mut self, item: &Shape) -> Result<Fit, SyntaxError> {
        let (mut values, mut state) = (Vec::new(), State::default());
        self.elements(|parser| {
            let fit = parser.value(item)?;
            values.extend(state.keep(fit));
            Ok(())
        })?;
        Ok(state.fit(Value::List(values)))
    }

    /// Keys that come twice stay twice, as in Spark.
    fn map(&mut self, value: &Shape) -> Result<Fit, SyntaxError> {
        let (mut entries, mut state) = (Vec::new(), State::default());
        self.object(|parser, key| {
            let fit = parser.value(value)?;
            entries.extend(state.keep(fit).map(|value| (Value::Bytes(key), value)));
            Ok(())
        })?;
        Ok(state.fit(Value::Map(entries)))
    }

    fn scalar_value(&mut self, scalar: Scalar<'_>, shape: &Shape) -> Option<Value> {
        Some(match (scalar, shape) {
            (Scalar::Null, _) => Value::Null,
            (Scalar::Boolean(value), Shape::Boolean) => Value::Boolean(value),
            // Spark takes a byte of either sign here.
            (Scalar::Integer(text), Shape::Int8) => Value::Int(i64::from(ranged(text, -128, 255)? as i8)),
            (Scalar::Integer(text), Shape::Int16) => Value::Int(ranged(text, i16::MIN.into(), i16::MAX.into())?),
            (Scalar::Integer(text), Shape::Int32) => Value::Int(ranged(text, i32::MIN.into(), i32::MAX.into())?),
            (Scalar::Integer(text), Shape::Int64) => Value::Int(ranged(text, i64::MIN, i64::MAX)?),
            // Spark multiplies without looking for overflow.
            (Scalar::Integer(text), Shape::Timestamp) => {
                Value::Int(ranged(text, i64::MIN, i64::MAX)?.wrapping_mul(1_000_000))
            }
            (Scalar::Integer(text) | Scalar::Fraction(text), Shape::Float64) => Value::Float(parsed(text)?),
            (Scalar::Integer(text) | Scalar::Fraction(text), Shape::Float32) => Value::Float32(parsed(text)?),
            (Scalar::NonFinite(value), Shape::Float64) => Value::Float(value),
            (Scalar::NonFinite(value), Shape::Float32) => Value::Float32(value as f32),
            (Scalar::Text(text), Shape::Float64) => Value::Float(non_finite(&text)?),
            (Scalar::Text(text), Shape::Float32) => Value::Float32(non_finite(&text)? as f32),
            (Scalar::Integer(text) | Scalar::Fraction(text), Shape::Decimal(p, s)) => {
                Value::Decimal(parse_decimal(text, *p, *s)?)
            }
            (Scalar::Text(text), Shape::Decimal(p, s)) => Value::Decimal(parse_decimal(&text, *p, *s)?),
            (Scalar::Text(text), Shape::Text) => Value::Bytes(text),
            (Scalar::Text(text), Shape::Binary) => Value::Bytes(parse_base64(&text)?),
            (Scalar::Text(text), Shape::Date) => Value::Int(i64::from(date(self.times, &text)?)),
            (Scalar::Text(text), Shape::Timestamp) => Value::Int(self.times.timestamp(&text)?),
            (Scalar::Text(text), Shape::TimestampNtz) => Value::Int(self.times.timestamp_ntz(&text)?),
            (scalar, Shape::Text) => {
                let mut text = Vec::new();
                write_scalar(&scalar, &mut text);
                Value::Bytes(text)
            }
            _ => return None,
        })
    }

    /// Calls `each` at every element of the array that begins here.
    pub(super) fn elements(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), SyntaxError>,
    ) -> Result<(), SyntaxError> {
        self.open()?;
        if self.peek() != Some(b']') {
            loop {
                each(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    _ => return self.error("`,` or `]`"),
                }
            }
        }
        self.close();
        Ok(())
    }

    /// Calls `each` with the key at every value of the object that begins here.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Vec<u8>) -> Result<(), SyntaxError>,
    ) -> Result<(), SyntaxError> {
        self.open()?;
        if self.peek() != Some(b'}') {
            loop {
                let key = match self.peek() {
                    Some(quote @ (b'"' | b'\'')) => self.text(quote)?,
                    _ => return self.error("a key in quotes"),
                };
                if self.peek() != Some(b':') {
                    return self.error("`:`");
                }
                self.at += 1;
                each(self, key)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break,
                    _ => return self.error("`,` or `}`"),
                }
            }
        }
        self.close();
        Ok(())
    }

    fn open(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("arrays and objects nested at most 1000 deep");
        }
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// Checks a value that nobody wants.
    fn skip(&mut self) -> Result<(), SyntaxError> {
        match self.peek() {
            Some(b'{') => self.object(|parser, _| parser.skip()),
            Some(b'[') => self.elements(Self::skip),
            _ => self.scalar().map(|_| ()),
        }
    }

    /// Appends a value as Spark keeps it in a text column: without white space, numbers as Java prints them.
    fn canonical(&mut self, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let bracket = self.peek();
        let mut first = true;
        let mut comma = move |out: &mut Vec<u8>| {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
        };
        match bracket {
            Some(b'{') => {
                out.push(b'{');
                self.object(|parser, key| {
                    comma(out);
                    write_text(&key, out);
                    out.push(b':');
                    parser.canonical(out)
                })?;
                out.push(b'}');
            }
            Some(b'[') => {
                out.push(b'[');
                self.elements(|parser| {
                    comma(out);
                    parser.canonical(out)
                })?;
                out.push(b']');
            }
            _ => match self.scalar()? {
                Scalar::Text(text) => write_text(&text, out),
                scalar => write_scalar(&scalar, out),
            },
        }
        Ok(())
    }

    /// The byte behind white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.at = white_space(self.record, self.at);
        self.record.get(self.at).copied()
    }

    pub(super) fn scalar(&mut self) -> Result<Scalar<'a>, SyntaxError> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => return self.text(quote).map(Scalar::Text),
            Some(b'0'..=b'9' | b'-' | b'+') => return self.number(),
            _ => {}
        }
        let rest = &self.record[self.at..];
        let word_len = rest.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let scalar = match &rest[..word_len] {
            b"true" => Scalar::Boolean(true),
            b"false" => Scalar::Boolean(false),
            b"null" => Scalar::Null,
            word @ (b"NaN" | b"Infinity") => Scalar::NonFinite(non_finite(word).unwrap_or(f64::NAN)),
            _ => return self.error("a value"),
        };
        self.at += word_len;
        Ok(scalar)
    }

    fn number(&mut self) -> Result<Scalar<'a>, SyntaxError> {
        let rest = &self.record[self.at..];
        let in_number = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.' | b'_');
        let len = rest.iter().position(|b| !in_number(b)).unwrap_or(rest.len());
        let text = &rest[..len];
        let scalar = if let Some(value) = non_finite(text) {
            Scalar::NonFinite(value)
        } else if len > MAX_NUMBER_BYTES || super::scan::number(text, 0) != Ok(len) {
            return self.error("a number");
        } else if text.iter().all(|b| b.is_ascii_digit() || *b == b'-') {
            Scalar::Integer(text)
        } else {
            Scalar::Fraction(text)
        };
        self.at += len;
        Ok(scalar)
    }

    /// A string whose opening quote is here.
    fn text(&mut self, quote: u8) -> Result<Vec<u8>, SyntaxError> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.record.get(end) {
                Some(b) if *b == quote => break,
                Some(b'\\') => end += self.escape_len(end)?,
                Some(0x20..) => end += 1,
                _ => {
                    self.at = end;
                    return self.error("the end of the string, without control characters in it");
                }
            }
        }
        let mut text = Vec::with_capacity(end - start);
        unescape(&self.record[start..end], &mut text);
        self.at = end + 1;
        Ok(text)
    }

    fn escape_len(&mut self, at: usize) -> Result<usize, SyntaxError> {
        match self.record.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'\'') => return Ok(2),
            Some(b'u') => {
                if let Some(digits) = self.record.get(at + 2..at + 6)
                    && digits.iter().all(u8::is_ascii_hexdigit)
                {
                    return Ok(6);
                }
            }
            _ => {}
        }
        self.at = at;
        self.error("an escape sequence of JSON")
    }

    fn error<T>(&self, expected: &'static str) -> Result<T, SyntaxError> {
        Err(SyntaxError { at: self.at, expected })
    }

    fn describe(&self, error: &SyntaxError) -> String {
        let rest = String::from_utf8_lossy(&self.record[error.at.min(self.record.len())..]);
        let found: String = rest.chars().take(20).collect();
        let found = if found.is_empty() { "the end of the record".to_owned() } else { format!("`{found}`") };
        format!("at byte {} the record has {found}, expected {}", error.at, error.expected)
    }
}

/// How far the elements of an array or map fit.
#[derive(Default)]
struct State {
    partial: bool,
    bad: bool,
}

impl State {
    fn keep(&mut self, fit: Fit) -> Option<Value> {
        match fit {
            Fit::Good(value) => Some(value),
            Fit::Partial(value) => {
                self.partial = true;
                Some(value)
            }
            Fit::Bad => {
                self.bad = true;
                None
            }
        }
    }

    fn fit(self, value: Value) -> Fit {
        match self {
            Self { bad: true, .. } => Fit::Bad,
            Self { partial: true, .. } => Fit::Partial(value),
            _ => Fit::Good(value),
        }
    }
}

/// A date by pattern or cast; without a pattern Spark takes a text of digits as days since 1970.
pub(super) fn date(times: &Times, text: &[u8]) -> Option<i32> {
    times.date(text).or_else(|| if times.has_date_pattern() { None } else { parsed(text) })
}

pub(super) fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn ranged(text: &[u8], low: i64, high: i64) -> Option<i64> {
    parsed(text).filter(|value| (low..=high).contains(value))
}

fn write_scalar(scalar: &Scalar<'_>, out: &mut Vec<u8>) {
    match scalar {
        Scalar::Text(text) => out.extend_from_slice(text),
        Scalar::Integer(b"-0") => out.push(b'0'),
        Scalar::Integer(text) => out.extend_from_slice(text),
        Scalar::Fraction(text) => write_finite(parsed(text).unwrap_or(f64::NAN), out),
        Scalar::NonFinite(value) => write_finite(*value, out),
        Scalar::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Scalar::Null => out.extend_from_slice(b"null"),
    }
}

/// Numbers that JSON lacks stand in quotes.
fn write_finite(value: f64, out: &mut Vec<u8>) {
    let quote: &[u8] = if value.is_finite() { b"" } else { b"\"" };
    out.extend_from_slice(quote);
    java::write_f64(value, out);
    out.extend_from_slice(quote);
}

/// Appends a string with quotes, escaping what JSON requires and nothing else.
pub(in super::super) fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    for (i, b) in text.iter().enumerate() {
        if *b >= 0x20 && *b != b'"' && *b != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[plain..i]);
        plain = i + 1;
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *b]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
        }
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
}
