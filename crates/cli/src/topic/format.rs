//! How `topic consume` prints a record: kcat's `%` escapes, or one JSON object a line (`json_line` reads it).
//!
//! | escape | is | escape | is |
//! |---|---|---|---|
//! | `%s` | value | `%t` | topic |
//! | `%S` | length of the value, -1 if null | `%p` | partition |
//! | `%k` | key | `%o` | offset |
//! | `%K` | length of the key, -1 if null | `%T` | timestamp in milliseconds |
//! | `%R` | length of the value, 4 bytes, big-endian | `%h` | headers, `k=v,k=v` |
//! | `%%` | a percent sign | | |
//!
//! Besides, `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH`. In JSON, what is no text stands in `key_base64` and `value_base64`.

use std::io::{self, Write};
use std::iter::Peekable;
use std::str::Chars;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde_json::{Map, Value, json};

use super::encoding::Encoding;

/// How keys, values and what is null are shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Style {
    /// Stands for a null in text; nothing does if none.
    pub(crate) null: Option<Vec<u8>>,
    /// How keys are written.
    pub(crate) key: Encoding,
    /// How values are written.
    pub(crate) value: Encoding,
}

/// A record's layout on stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Text with parts of the record in it.
    Text(Vec<Part>),
    /// One JSON object a line.
    Json,
}

/// A piece of a text layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Bytes as they are.
    Literal(Vec<u8>),
    /// `%s`.
    Value,
    /// `%S`.
    ValueLength,
    /// `%R`.
    ValueLengthBytes,
    /// `%k`.
    Key,
    /// `%K`.
    KeyLength,
    /// `%h`.
    Headers,
    /// `%t`.
    Topic,
    /// `%p`.
    Partition,
    /// `%o`.
    Offset,
    /// `%T`.
    Timestamp,
}

/// Reads `--format`.
pub(crate) fn parse(text: &str) -> Result<Layout, String> {
    if text == "json" {
        return Ok(Layout::Json);
    }
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '%' => match escape(letters.next())? {
                Some(part) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
                None => literal.push(b'%'),
            },
            '\\' => literal.push(backslash(&mut letters)?),
            other => literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(Layout::Text(parts))
}

/// A separator between records, or between key and value; not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Separator(pub(super) Vec<u8>);

/// A separator as people type it on a command line.
pub(crate) fn separator(text: &str) -> Result<Separator, String> {
    let mut bytes = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => bytes.push(backslash(&mut letters)?),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if bytes.is_empty() { Err("a separator cannot be empty".to_owned()) } else { Ok(Separator(bytes)) }
}

fn escape(letter: Option<char>) -> Result<Option<Part>, String> {
    Ok(Some(match letter {
        Some('%') => return Ok(None),
        Some('s') => Part::Value,
        Some('S') => Part::ValueLength,
        Some('R') => Part::ValueLengthBytes,
        Some('k') => Part::Key,
        Some('K') => Part::KeyLength,
        Some('h') => Part::Headers,
        Some('t') => Part::Topic,
        Some('p') => Part::Partition,
        Some('o') => Part::Offset,
        Some('T') => Part::Timestamp,
        Some(other) => {
            return Err(format!("'%{other}' is not an escape; there are %s %S %R %k %K %h %t %p %o %T and %%"));
        }
        None => return Err("the format ends with a lone '%'; write %% for a percent sign".to_owned()),
    }))
}

fn backslash(letters: &mut Peekable<Chars<'_>>) -> Result<u8, String> {
    match letters.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = letters.by_ref().take(2).collect();
            u8::from_str_radix(&digits, 16).map_err(|_| format!("'\\x{digits}' is not \\xHH with two hex digits"))
        }
        Some(other) => Err(format!("'\\{other}' is not an escape; there are \\n \\r \\t \\0 \\\\ and \\xHH")),
        None => Err("the format ends with a lone '\\'; write \\\\ for a backslash".to_owned()),
    }
}

impl Layout {
    /// Value and newline, or other separators: what `--format` is when it is not given.
    pub(crate) fn lines(key_separator: Option<&Separator>, delimiter: Option<&Separator>) -> Self {
        let literal = |separator: &Separator| Part::Literal(separator.0.clone());
        let key = key_separator.into_iter().flat_map(|separator| [Part::Key, literal(separator)]);
        let end = delimiter.map_or_else(|| Part::Literal(b"\n".to_vec()), literal);
        Self::Text(key.chain([Part::Value, end]).collect())
    }

    /// Writes one record.
    pub(crate) fn write(&self, message: &BorrowedMessage<'_>, style: &Style, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json => writeln!(out, "{}", as_json(message, style)),
            Self::Text(parts) => parts.iter().try_for_each(|part| part.write(message, style, out)),
        }
    }
}

impl Part {
    fn write(&self, message: &BorrowedMessage<'_>, style: &Style, out: &mut impl Write) -> io::Result<()> {
        let bytes = |bytes: Option<&[u8]>, encoding: Encoding, out: &mut dyn Write| match (bytes, &style.null) {
            (Some(bytes), _) => out.write_all(&encoding.encode(bytes)),
            (None, Some(null)) => out.write_all(null),
            (None, None) => Ok(()),
        };
        match self {
            Self::Literal(bytes) => out.write_all(bytes),
            Self::Value => bytes(message.payload(), style.value, out),
            Self::ValueLength => write!(out, "{}", length(message.payload())),
            Self::ValueLengthBytes => {
                let length = i32::try_from(length(message.payload())).unwrap_or(i32::MAX);
                out.write_all(&length.to_be_bytes())
            }
            Self::Key => bytes(message.key(), style.key, out),
            Self::KeyLength => write!(out, "{}", length(message.key())),
            Self::Headers => write_headers(message, style, out),
            Self::Topic => out.write_all(message.topic().as_bytes()),
            Self::Partition => write!(out, "{}", message.partition()),
            Self::Offset => write!(out, "{}", message.offset()),
            Self::Timestamp => write!(out, "{}", message.timestamp().to_millis().unwrap_or(-1)),
        }
    }
}

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX))
}

fn write_headers(message: &BorrowedMessage<'_>, style: &Style, out: &mut impl Write) -> io::Result<()> {
    let Some(headers) = message.headers() else { return Ok(()) };
    for (index, header) in headers.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(header.key.as_bytes())?;
        out.write_all(b"=")?;
        // Without a value, as kcat writes it.
        out.write_all(header.value.or(style.null.as_deref()).unwrap_or(b"NULL"))?;
    }
    Ok(())
}

fn as_json(message: &BorrowedMessage<'_>, style: &Style) -> Value {
    let timestamp = message
        .timestamp()
        .to_millis()
        .and_then(DateTime::from_timestamp_millis)
        .map(|moment| moment.to_rfc3339_opts(SecondsFormat::Millis, true));
    let header = |key: &str, value: Option<&[u8]>| {
        let mut object = Map::new();
        object.insert("key".to_owned(), key.into());
        insert(&mut object, "value", "value_base64", value, Encoding::Text);
        Value::Object(object)
    };
    let headers: Vec<Value> = message
        .headers()
        .map(|headers| headers.iter().map(|one| header(one.key, one.value)).collect())
        .unwrap_or_default();
    let mut object = Map::new();
    object.insert("topic".to_owned(), message.topic().into());
    object.insert("partition".to_owned(), message.partition().into());
    object.insert("offset".to_owned(), message.offset().into());
    object.insert("timestamp".to_owned(), json!(timestamp));
    object.insert("headers".to_owned(), headers.into());
    insert(&mut object, "key", "key_base64", message.key(), style.key);
    insert(&mut object, "value", "value_base64", message.payload(), style.value);
    Value::Object(object)
}

/// Bytes as a text where they are one, else in the field for bytes, so that nothing is lost.
fn insert(object: &mut Map<String, Value>, name: &str, base64: &str, bytes: Option<&[u8]>, encoding: Encoding) {
    let Some(bytes) = bytes else {
        object.insert(name.to_owned(), Value::Null);
        return;
    };
    match std::str::from_utf8(&encoding.encode(bytes)) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(base64.to_owned(), BASE64_STANDARD.encode(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kcats_escapes_are_understood() {
        let literal = |text: &str| Part::Literal(text.as_bytes().to_vec());
        let expected = vec![Part::Key, literal("\t"), Part::Value, literal(" 100% A\n"), Part::Offset];
        assert_eq!(parse(r"%k\t%s 100%% \x41\n%o"), Ok(Layout::Text(expected)));
        assert_eq!(parse("json"), Ok(Layout::Json));
        assert_eq!(parse(r"%s\n"), Ok(Layout::lines(None, None)));
        assert_eq!(parse(r"%k:%s;"), Ok(Layout::lines(separator(":").ok().as_ref(), separator(";").ok().as_ref())));
        assert_eq!(separator(r"\x1f-\t"), Ok(Separator(vec![0x1f, b'-', b'\t'])));
        assert!(separator("").is_err());
    }

    #[test]
    fn other_escapes_are_refused_with_the_list() {
        assert!(parse("%q").unwrap_err().starts_with("'%q' is not an escape"));
        assert!(parse("50%").unwrap_err().contains("%%"));
        assert!(parse("\\xZZ").unwrap_err().contains("two hex digits"));
    }
}
