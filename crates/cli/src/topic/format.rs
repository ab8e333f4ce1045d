//! How `topic consume` prints a record: kcat's `%` escapes, or one JSON object a line.
//!
//! | escape | is | escape | is |
//! |---|---|---|---|
//! | `%s` | value | `%t` | topic |
//! | `%S` | length of the value, -1 if null | `%p` | partition |
//! | `%k` | key | `%o` | offset |
//! | `%K` | length of the key, -1 if null | `%T` | timestamp in milliseconds |
//! | `%h` | headers, `k=v,k=v` | `%%` | a percent sign |
//!
//! Besides, `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH`.

use std::io::{self, Write};
use std::iter::Peekable;
use std::str::Chars;

use chrono::{DateTime, SecondsFormat};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde_json::{Value, json};

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

fn escape(letter: Option<char>) -> Result<Option<Part>, String> {
    Ok(Some(match letter {
        Some('%') => return Ok(None),
        Some('s') => Part::Value,
        Some('S') => Part::ValueLength,
        Some('k') => Part::Key,
        Some('K') => Part::KeyLength,
        Some('h') => Part::Headers,
        Some('t') => Part::Topic,
        Some('p') => Part::Partition,
        Some('o') => Part::Offset,
        Some('T') => Part::Timestamp,
        Some(other) => {
            return Err(format!("'%{other}' is not an escape; there are %s %S %k %K %h %t %p %o %T and %%"));
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
    /// Value and newline: what `--format` is when it is not given.
    pub(crate) fn lines() -> Self {
        Self::Text(vec![Part::Value, Part::Literal(b"\n".to_vec())])
    }

    /// Writes one record.
    pub(crate) fn write(&self, message: &BorrowedMessage<'_>, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json => writeln!(out, "{}", as_json(message)),
            Self::Text(parts) => parts.iter().try_for_each(|part| part.write(message, out)),
        }
    }
}

impl Part {
    fn write(&self, message: &BorrowedMessage<'_>, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Literal(bytes) => out.write_all(bytes),
            Self::Value => out.write_all(message.payload().unwrap_or_default()),
            Self::ValueLength => write!(out, "{}", length(message.payload())),
            Self::Key => out.write_all(message.key().unwrap_or_default()),
            Self::KeyLength => write!(out, "{}", length(message.key())),
            Self::Headers => write_headers(message, out),
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

fn write_headers(message: &BorrowedMessage<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(headers) = message.headers() else { return Ok(()) };
    for (index, header) in headers.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(header.key.as_bytes())?;
        out.write_all(b"=")?;
        out.write_all(header.value.unwrap_or_default())?;
    }
    Ok(())
}

fn as_json(message: &BorrowedMessage<'_>) -> Value {
    let timestamp = message
        .timestamp()
        .to_millis()
        .and_then(DateTime::from_timestamp_millis)
        .map(|moment| moment.to_rfc3339_opts(SecondsFormat::Millis, true));
    let headers: Vec<Value> = message
        .headers()
        .map(|headers| headers.iter().map(|h| json!({"key": h.key, "value": text(h.value)})).collect())
        .unwrap_or_default();
    json!({
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": timestamp,
        "headers": headers,
        "key": text(message.key()),
        "value": text(message.payload()),
    })
}

/// Bytes as text; what is not UTF-8 shows U+FFFD, and `--format %s` gives the bytes themselves.
fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
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
        assert_eq!(parse(r"%s\n"), Ok(Layout::lines()));
    }

    #[test]
    fn other_escapes_are_refused_with_the_list() {
        assert!(parse("%q").unwrap_err().starts_with("'%q' is not an escape"));
        assert!(parse("50%").unwrap_err().contains("%%"));
        assert!(parse("\\xZZ").unwrap_err().contains("two hex digits"));
    }
}
