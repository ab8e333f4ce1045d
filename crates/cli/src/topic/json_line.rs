//! A record as a JSON object, as `topic produce --format json` reads it and `topic consume -f json` writes it.
//!
//! ```text
//!   {"key": "a", "value": {"n": 1}, "headers": {"source": "shop"}, "partition": 0, "timestamp": "2026-01-01T00:00:00Z"}
//! ```
//!
//! | field | is |
//! |---|---|
//! | `value` (kcat: `payload`), `key` | a text; null; anything else is sent as the JSON it is, byte for byte |
//! | `value_base64`, `key_base64` | bytes that are no text |
//! | `headers` | an object; or a list of `{"key": ..., "value": ...}`; or kcat's list of names and values |
//! | `timestamp` (kcat: `ts`) | milliseconds, or RFC 3339 |
//! | `topic`, `offset`, `tstype`, `broker` | what was once read with a record; not heeded |

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::DateTime;
use serde_json::{Map, Value};

use super::encoding::{Encoding, shortened};
use super::producer::Record;

/// A field, the bytes it stands for, and whether it was there at all.
type Field = Option<Option<Vec<u8>>>;

const FIELDS: [&str; 9] =
    ["key", "key_base64", "value", "value_base64", "payload", "headers", "partition", "timestamp", "ts"];
const NOT_HEEDED: [&str; 4] = ["topic", "offset", "tstype", "broker"];

/// Reads one line; the sentence of a mistake says what was found.
pub(super) fn parse(line: &[u8], key: Encoding, value: Encoding) -> Result<Record, String> {
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("'{}' is not a JSON object: {error}", shortened(line)))?;
    if let Some(unknown) =
        object.keys().find(|name| !FIELDS.contains(&name.as_str()) && !NOT_HEEDED.contains(&name.as_str()))
    {
        let near = highwater_engine::error::nearest(unknown, FIELDS);
        let help = near.map_or_else(
            || format!("expected some of {}", FIELDS.join(", ")),
            |near| format!("did you mean '{near}'?"),
        );
        return Err(format!("unknown field '{unknown}': {help}"));
    }
    let key = bytes(line, &object, &["key"], "key_base64", key)?.flatten();
    let value = bytes(line, &object, &["value", "payload"], "value_base64", value)?
        .ok_or_else(|| "there is no field 'value'; write \"value\": null for a deletion".to_owned())?;
    let partition = match object.get("partition") {
        None | Some(Value::Null) => None,
        Some(found) => Some(
            found
                .as_i64()
                .and_then(|number| i32::try_from(number).ok())
                .filter(|number| *number >= 0)
                .ok_or_else(|| format!("partition is {found}, expected a number from 0 on"))?,
        ),
    };
    let headers = object.get("headers").map_or_else(|| Ok(Vec::new()), headers)?;
    Ok(Record { key, value, headers, partition, timestamp_ms: timestamp(&object)? })
}

fn bytes(
    line: &[u8],
    object: &Map<String, Value>,
    names: &[&str],
    base64: &str,
    encoding: Encoding,
) -> Result<Field, String> {
    if let Some(found) = object.get(base64) {
        let text = found.as_str().ok_or_else(|| format!("{base64} is {found}, expected a text"))?;
        let decoded = BASE64_STANDARD.decode(text).map_err(|error| format!("{base64} is not base64: {error}"))?;
        return Ok(Some(Some(decoded)));
    }
    let Some((name, found)) = names.iter().find_map(|name| Some((*name, object.get(*name)?))) else { return Ok(None) };
    Ok(Some(match found {
        Value::Null => None,
        Value::String(text) => {
            Some(encoding.decode(text.as_bytes()).map_err(|error| format!("{name}: {error}"))?.into_owned())
        }
        _ => Some(line[raw_field(line, name).ok_or_else(|| format!("{name} cannot be found again"))?].to_vec()),
    }))
}

/// Where the value of the field `name` stands in `object`, which is a valid JSON object. Parsed and printed again, a
/// number would not be the one that came: 1.10 or 12345678901234567890123.
fn raw_field(object: &[u8], name: &str) -> Option<Range<usize>> {
    let mut at = object.iter().position(|byte| *byte == b'{')? + 1;
    let mut found = None;
    loop {
        at += object.get(at..)?.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
        if object[at] != b'"' {
            // The last of several fields with one name counts, as for the parser.
            return found;
        }
        let key = at..skip_value(object, at);
        at = key.end + object.get(key.end..)?.iter().position(|byte| *byte == b':')? + 1;
        at += object.get(at..)?.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let end = skip_value(object, at);
        if serde_json::from_slice::<String>(&object[key]).ok()? == name {
            found = Some(at..end);
        }
        at = end;
    }
}

/// Where the value that begins at `at` ends.
fn skip_value(json: &[u8], at: usize) -> usize {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (index, byte) in json.iter().enumerate().skip(at) {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    in_text = false;
                    if depth == 0 {
                        return index + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return index,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return index + 1;
                }
            }
            byte if depth == 0 && (*byte == b',' || byte.is_ascii_whitespace()) => return index,
            _ => {}
        }
    }
    json.len()
}

fn timestamp(object: &Map<String, Value>) -> Result<Option<i64>, String> {
    match object.get("timestamp").or_else(|| object.get("ts")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => DateTime::parse_from_rfc3339(text)
            .map(|time| Some(time.timestamp_millis()))
            .map_err(|_| format!("timestamp '{text}' is not RFC 3339, such as 2026-01-01T00:00:00Z")),
        Some(found) => found
            .as_i64()
            .filter(|millis| *millis >= 0)
            .map(Some)
            .ok_or_else(|| format!("timestamp is {found}, expected milliseconds since 1970 or RFC 3339")),
    }
}

fn headers(found: &Value) -> Result<Vec<(String, Option<Vec<u8>>)>, String> {
    let text = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone().into_bytes())),
        other => Err(format!("a header is {other}, expected a text or null")),
    };
    match found {
        Value::Null => Ok(Vec::new()),
        Value::Object(object) => object.iter().map(|(key, value)| Ok((key.clone(), text(value)?))).collect(),
        Value::Array(list) if list.iter().all(Value::is_object) => list.iter().map(header).collect(),
        Value::Array(list) if list.len() % 2 == 0 => list
            .chunks_exact(2)
            .map(|pair| match &pair[0] {
                Value::String(key) => Ok((key.clone(), text(&pair[1])?)),
                other => Err(format!("the name of a header is {other}, expected a text")),
            })
            .collect(),
        other => Err(format!("headers are {other}, expected an object or a list")),
    }
}

/// `{"key": ..., "value": ...}` or `{"key": ..., "value_base64": ...}`.
fn header(found: &Value) -> Result<(String, Option<Vec<u8>>), String> {
    let mistake = || format!("a header is {found}, expected {{\"key\": \"...\", \"value\": \"...\"}}");
    let key = found.get("key").and_then(Value::as_str).ok_or_else(mistake)?.to_owned();
    if let Some(encoded) = found.get("value_base64") {
        let decoded = encoded.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
        return decoded.map(|bytes| (key, Some(bytes))).ok_or_else(mistake);
    }
    match found.get("value") {
        None | Some(Value::Null) => Ok((key, None)),
        Some(Value::String(value)) => Ok((key, Some(value.clone().into_bytes()))),
        Some(_) => Err(mistake()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Record, String> {
        parse(line.as_bytes(), Encoding::Text, Encoding::Text)
    }

    #[test]
    fn every_field_is_read() {
        let line = r#"{"key":"k","value":"v","headers":{"a":"1","b":null},"partition":3,"timestamp":"1970-01-01T00:00:01Z","topic":"t","offset":9}"#;
        let headers = vec![("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None)];
        let expected = Record {
            key: Some(b"k".to_vec()),
            value: Some(b"v".to_vec()),
            headers: headers.clone(),
            partition: Some(3),
            timestamp_ms: Some(1000),
        };
        assert_eq!(read(line), Ok(expected));
        for other in [r#"["a","1","b",null]"#, r#"[{"key":"a","value":"1"},{"key":"b"}]"#] {
            assert_eq!(read(&format!(r#"{{"payload":"v","ts":5,"headers":{other}}}"#)).unwrap().headers, headers);
        }
    }

    #[test]
    fn values_that_are_no_text_are_sent_as_they_stand() {
        let value = |json: &str| {
            let record =
                read(&format!("{{ \"a\\u006b\": 0, \"value\" : {json} , \"key\":1}}").replace("\"a\\u006b\": 0,", ""))
                    .unwrap();
            (String::from_utf8(record.value.unwrap()).unwrap(), record.key.unwrap())
        };
        for json in ["1.10", "12345678901234567890123", "{\"b\": [1, \"}\\\"\"], \"a\":2}", "[ ]", "true"] {
            assert_eq!(value(json), (json.to_owned(), b"1".to_vec()));
        }
        let escaped = r#"{"val\u0075e":1.50}"#;
        assert_eq!(read(escaped).unwrap().value.unwrap(), b"1.50");
        assert_eq!(read(r#"{"value":1.0,"value":2.0}"#).unwrap().value.unwrap(), b"2.0");
    }

    #[test]
    fn bytes_and_deletions_have_their_forms() {
        let record = read(r#"{"key_base64":"AP8=","value":null}"#).unwrap();
        assert_eq!((record.key, record.value), (Some(vec![0, 255]), None));
        let record = parse(br#"{"key":"00ff","value":"AP8="}"#, Encoding::Hex, Encoding::Base64).unwrap();
        assert_eq!((record.key, record.value), (Some(vec![0, 255]), Some(vec![0, 255])));
    }

    #[test]
    fn mistakes_say_what_was_found() {
        let check = |line: &str, expected: &str| {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("[1]", "'[1]' is not a JSON object");
        check("{\"value\":", "is not a JSON object");
        check(r#"{"key":"a"}"#, "no field 'value'");
        check(r#"{"valeu":"a"}"#, "did you mean 'value'?");
        check(r#"{"value":"a","partition":-1}"#, "partition is -1");
        check(r#"{"value":"a","timestamp":"today"}"#, "'today' is not RFC 3339");
        check(r#"{"value":"a","headers":["a"]}"#, "expected an object or a list");
        check(r#"{"value_base64":"?"}"#, "not base64");
    }
}
