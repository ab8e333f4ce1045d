//! Values picked out of JSON text: `get_json_object` and its like. Text that is no JSON gives NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use serde_json::Value;

use super::udf::{self, Invocation, Spec, each, function};

pub(super) const TABLE: &[Spec] = &[
    function("get_json_object", (2, 2), udf::string, get_json_object),
    function("json_array_length", (1, 1), udf::int, array_length),
    function("json_object_keys", (1, 1), udf::strings, object_keys),
];

/// The fields of an object.
pub(super) type Object = serde_json::Map<String, Value>;

/// The object that a text is.
pub(super) fn object(text: &str) -> Option<Object> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// A value as text, a string without its quotes; nothing for null.
pub(super) fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => {
            let mut out = String::new();
            write(other, &mut out);
            Some(out)
        }
    }
}

/// A value as JSON, its numbers in Java's words.
fn write(value: &Value, out: &mut String) {
    let each = |out: &mut String, at: usize| {
        if at > 0 {
            out.push(',')
        }
    };
    match value {
        Value::Number(number) if number.is_f64() => {
            out.push_str(&number.as_f64().map_or_else(|| number.to_string(), super::cast::text::double));
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                each(out, at);
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                each(out, at);
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// A step of a JSON path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    All,
}

/// Reads `$.a.b[1]['c'][*]`; nothing if it is no path.
fn path(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.trim().strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("['") {
            let (name, after) = after.split_once("']")?;
            steps.push(Step::Field(name.to_owned()));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']')?;
            steps.push(if index == "*" { Step::All } else { Step::Index(index.parse().ok()?) });
            rest = after;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            if name.is_empty() {
                return None;
            }
            steps.push(if name == "*" { Step::All } else { Step::Field(name.to_owned()) });
            rest = after;
        }
    }
    Some(steps)
}

/// What the steps lead to: one value, or several behind a `[*]`.
fn follow<'v>(value: &'v Value, steps: &[Step], found: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => {
            if let Some(inner) = fields.get(name) {
                follow(inner, rest, found);
            }
        }
        (Step::Field(_), Value::Array(items)) => items.iter().for_each(|item| follow(item, steps, found)),
        (Step::Index(at), Value::Array(items)) => {
            if let Some(inner) = items.get(*at) {
                follow(inner, rest, found);
            }
        }
        (Step::All, Value::Array(items)) => items.iter().for_each(|item| follow(item, rest, found)),
        _ => {}
    }
}

fn get_json_object(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, paths) = (call.strings(0)?, call.strings(1)?);
    let constant = call.constant_text(1).flatten().map(|text| path(&text));
    let out: StringArray = each!(call.rows, (text = texts, wanted = paths) => {
        let steps = match &constant {
            Some(steps) => steps.clone(),
            None => path(wanted),
        };
        let (Some(steps), Ok(value)) = (steps, serde_json::from_str::<Value>(text)) else { return Ok(None) };
        let mut found = Vec::new();
        follow(&value, &steps, &mut found);
        Ok(match found.as_slice() {
            [] | [Value::Null] => None,
            [Value::String(text)] => Some(text.clone()),
            [one] => Some(one.to_string()),
            many => serde_json::to_string(many).ok(),
        })
    })?;
    Ok(Arc::new(out))
}

fn array_length(call: &Invocation<'_>) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let out: Int32Array = each!(call.rows, (text = texts) => {
        Ok(match serde_json::from_str::<Value>(text) {
            Ok(Value::Array(items)) => Some(items.len() as i32),
            _ => None,
        })
    })?;
    Ok(Arc::new(out))
}

fn object_keys(call: &Invocation<'_>) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let mut out = ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, true));
    for text in &texts {
        match text.map(serde_json::from_str::<Value>) {
            Some(Ok(Value::Object(fields))) => {
                fields.keys().for_each(|key| out.values().append_value(key));
                out.append(true);
            }
            _ => out.append(false),
        }
    }
    Ok(Arc::new(out.finish()))
}
