//! Regular expressions: Java's syntax as far as linear-time matching has it.
//!
//! Back-references and look-around are refused when the pattern is compiled. A constant pattern is compiled once a
//! batch.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use regex::Regex;

use super::failure;
use super::udf::{self, Invocation, Spec, function};

pub(super) const TABLE: &[Spec] = &[
    function("rlike", (2, 2), udf::boolean, rlike).alias(&["regexp_like", "regexp"]),
    function("regexp_extract", (2, 3), udf::string, extract),
    function("regexp_extract_all", (2, 3), udf::strings, extract_all),
    function("regexp_replace", (3, 4), udf::string, replace),
    function("regexp_count", (2, 2), udf::int, count),
    function("regexp_substr", (2, 2), udf::string, substr),
    function("regexp_instr", (2, 3), udf::int, instr),
    function("split", (2, 3), udf::strings, split),
];

/// Compiled patterns of one batch.
#[derive(Default)]
struct Patterns {
    compiled: HashMap<String, Regex>,
}

impl Patterns {
    fn get(&mut self, pattern: &str) -> Result<&Regex> {
        if !self.compiled.contains_key(pattern) {
            let regex = Regex::new(&rust_syntax(pattern)).map_err(|error| {
                failure::data(
                    "INVALID_PARAMETER_VALUE.PATTERN",
                    format!("the pattern '{pattern}' cannot be used: {error}; back-references and look-around are not supported"),
                )
            })?;
            self.compiled.insert(pattern.to_owned(), regex);
        }
        Ok(&self.compiled[pattern])
    }
}

/// Java's `\d`, `\w` and `\s` are ASCII; `\Q...\E` quotes.
fn rust_syntax(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        if c == '\\' {
            let next = rest[1..].chars().next();
            taken += next.map_or(0, char::len_utf8);
            match next {
                Some('Q') => {
                    let quoted = &rest[2..];
                    let end = quoted.find("\\E").unwrap_or(quoted.len());
                    out.push_str(&regex::escape(&quoted[..end]));
                    taken += (end + 2).min(quoted.len());
                }
                Some('d') => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                Some('D') if !in_class => out.push_str("[^0-9]"),
                Some('w') => out.push_str(if in_class { "a-zA-Z0-9_" } else { "[a-zA-Z0-9_]" }),
                Some('W') if !in_class => out.push_str("[^a-zA-Z0-9_]"),
                Some('s') => out.push_str(if in_class { " \\t\\n\\x0B\\f\\r" } else { "[ \\t\\n\\x0B\\f\\r]" }),
                Some('Z') => out.push_str("\\z"),
                _ => out.push_str(&rest[..taken]),
            }
        } else {
            in_class = (in_class || c == '[') && c != ']';
            out.push(c);
        }
        rest = &rest[taken..];
    }
    out
}

/// Each row's text and compiled pattern; NULL if either is.
fn matching<T>(call: &Invocation<'_>, mut f: impl FnMut(usize, &str, &Regex) -> Result<T>) -> Result<Vec<Option<T>>> {
    let (texts, patterns) = (call.strings(0)?, call.strings(1)?);
    let mut compiled = Patterns::default();
    let mut row = |row: usize| -> Result<Option<T>> {
        if texts.is_null(row) || patterns.is_null(row) {
            return Ok(None);
        }
        let regex = compiled.get(patterns.value(row))?;
        f(row, texts.value(row), regex).map(Some)
    };
    (0..call.rows).map(&mut row).collect()
}

fn rlike(call: &Invocation<'_>) -> Result<ArrayRef> {
    let rows = matching(call, |_, text, regex| Ok(regex.is_match(text)))?;
    Ok(Arc::new(BooleanArray::from(rows)))
}

/// The group to extract: 1 if none is named.
fn group(call: &Invocation<'_>, row: usize, regex: &Regex, name: &str) -> Result<usize> {
    let wanted = if call.len() > 2 { call.ints(2)?.value(row) } else { 1 };
    let groups = regex.captures_len() - 1;
    usize::try_from(wanted).ok().filter(|wanted| *wanted <= groups).ok_or_else(|| {
        failure::data(
            "INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX",
            format!("{name}: the pattern has {groups} groups, asked for group {wanted}"),
        )
    })
}

fn extract(call: &Invocation<'_>) -> Result<ArrayRef> {
    let rows = matching(call, |row, text, regex| {
        let Some(found) = regex.captures(text) else { return Ok(String::new()) };
        let group = group(call, row, regex, "regexp_extract")?;
        Ok(found.get(group).map_or_else(String::new, |part| part.as_str().to_owned()))
    })?;
    Ok(Arc::new(StringArray::from(rows)))
}

fn extract_all(call: &Invocation<'_>) -> Result<ArrayRef> {
    let rows = matching(call, |row, text, regex| {
        let group = group(call, row, regex, "regexp_extract_all")?;
        let part = |found: regex::Captures<'_>| found.get(group).map_or_else(String::new, |p| p.as_str().to_owned());
        Ok(regex.captures_iter(text).map(part).collect::<Vec<String>>())
    })?;
    Ok(string_lists(rows))
}

fn string_lists(rows: Vec<Option<Vec<String>>>) -> ArrayRef {
    let mut out = ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, true));
    for row in rows {
        let valid = row.is_some();
        row.into_iter().flatten().for_each(|part| out.values().append_value(part));
        out.append(valid);
    }
    Arc::new(out.finish())
}

/// Replaces what matches at or after a place; `$1` and `\1`-free escapes in the replacement are Java's.
fn replace(call: &Invocation<'_>) -> Result<ArrayRef> {
    let replacements = call.strings(2)?;
    let places = if call.len() > 3 { Some(call.ints(3)?) } else { None };
    let rows = matching(call, |row, text, regex| {
        if replacements.is_null(row) {
            return Ok(None);
        }
        let place = places.as_ref().map_or(1, |places| places.value(row));
        let skipped = usize::try_from(place - 1).map_err(|_| {
            failure::data(
                "INVALID_PARAMETER_VALUE.START",
                format!("regexp_replace starts at {place}, expected 1 or more"),
            )
        })?;
        let from = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(skipped).unwrap_or(text.len());
        let template = rust_replacement(replacements.value(row));
        Ok(Some(format!("{}{}", &text[..from], regex.replace_all(&text[from..], template.as_str()))))
    })?;
    Ok(Arc::new(rows.into_iter().map(Option::flatten).collect::<StringArray>()))
}

/// `$1` as `${1}`, `\$` as `$$`.
fn rust_replacement(java: &str) -> String {
    let mut out = String::with_capacity(java.len() + 4);
    let mut chars = java.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => {}
            },
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                let digits: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
                out.push_str(&format!("${{{digits}}}"));
            }
            c => out.push(c),
        }
    }
    out
}

fn count(call: &Invocation<'_>) -> Result<ArrayRef> {
    let rows = matching(call, |_, text, regex| Ok(regex.find_iter(text).count() as i32))?;
    Ok(Arc::new(Int32Array::from(rows)))
}

fn substr(call: &Invocation<'_>) -> Result<ArrayRef> {
    let rows = matching(call, |_, text, regex| Ok(regex.find(text).map(|found| found.as_str().to_owned())))?;
    Ok(Arc::new(rows.into_iter().map(Option::flatten).collect::<StringArray>()))
}

fn instr(call: &Invocation<'_>) -> Result<ArrayRef> {
    let rows = matching(call, |_, text, regex| {
        Ok(regex.find(text).map_or(0, |found| text[..found.start()].chars().count() as i32 + 1))
    })?;
    Ok(Arc::new(Int32Array::from(rows)))
}

/// Java's split: an empty match at the start gives no part; a limit keeps the rest together.
fn split(call: &Invocation<'_>) -> Result<ArrayRef> {
    let limits = if call.len() > 2 { Some(call.ints(2)?) } else { None };
    let rows = matching(call, |row, text, regex| {
        let limit = limits.as_ref().map_or(-1, |limits| limits.value(row));
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let mut parts = Vec::new();
        let mut from = 0;
        for found in regex.find_iter(text) {
            if parts.len() + 1 >= limit {
                break;
            }
            let empty_at_an_end = found.is_empty() && (found.start() == 0 || found.start() == text.len());
            if !empty_at_an_end {
                parts.push(text[from..found.start()].to_owned());
                from = found.end();
            }
        }
        parts.push(text[from..].to_owned());
        Ok(parts)
    })?;
    Ok(string_lists(rows))
}
