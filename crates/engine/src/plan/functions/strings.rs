//! Strings: cases, ends, places, parts. Lengths and places count characters, the first is 1.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, GenericListArray, Int32Array, ListArray, ListBuilder, StringArray,
    StringBuilder,
};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::udf::{self, ANY, Arguments, Invocation, Spec, each, function};
use super::{failure, types};

pub(super) const TABLE: &[Spec] = &[
    function("upper", (1, 1), udf::string, |c| map(c, |s| s.to_uppercase())).alias(&["ucase"]),
    function("lower", (1, 1), udf::string, |c| map(c, |s| s.to_lowercase())).alias(&["lcase"]),
    function("initcap", (1, 1), udf::string, |c| map(c, initcap)),
    function("reverse", (1, 1), list_or_string, reverse),
    function("length", (1, 1), udf::int, length).alias(&["len", "char_length", "character_length"]),
    function("octet_length", (1, 1), udf::int, |c| bytes(c, 1)),
    function("bit_length", (1, 1), udf::int, |c| bytes(c, 8)),
    function("ascii", (1, 1), udf::int, |c| ints(c, |s| s.chars().next().map_or(0, |c| c as i32))),
    function("chr", (1, 1), udf::string, chr).alias(&["char"]),
    function("trim", (1, 2), udf::string, |c| trim(c, true, true)).alias(&["btrim"]),
    function("ltrim_chars", (1, 2), udf::string, |c| trim(c, true, false)).alias(&["ltrim"]),
    function("rtrim_chars", (1, 2), udf::string, |c| trim(c, false, true)).alias(&["rtrim"]),
    function("concat", (0, ANY), concat_type, concat),
    function("concat_ws", (1, ANY), udf::string, concat_ws),
    function("substring", (2, 3), udf::string, substring).alias(&["substr"]),
    function("left", (2, 2), udf::string, left),
    function("right", (2, 2), udf::string, right),
    function("instr", (2, 2), udf::int, |c| locate(c, 1, 0)),
    function("locate", (2, 3), udf::int, |c| locate(c, 0, 1)).alias(&["position"]),
    function("lpad", (2, 3), udf::string, |c| pad(c, true)),
    function("rpad", (2, 3), udf::string, |c| pad(c, false)),
    function("replace", (2, 3), udf::string, replace),
    function("translate", (3, 3), udf::string, translate),
    function("repeat", (2, 2), udf::string, repeat),
    function("space", (1, 1), udf::string, space),
    function("split_part", (3, 3), udf::string, split_part),
    function("substring_index", (3, 3), udf::string, substring_index),
    function("levenshtein", (2, 2), udf::int, levenshtein),
    function("startswith", (2, 2), udf::boolean, |c| test(c, |s, t| s.starts_with(t))),
    function("endswith", (2, 2), udf::boolean, |c| test(c, |s, t| s.ends_with(t))),
    function("contains", (2, 2), udf::boolean, |c| test(c, |s, t| s.contains(t))),
    function("overlay", (3, 4), udf::string, overlay),
    function("find_in_set", (2, 2), udf::int, find_in_set),
    function("elt", (2, ANY), udf::string, elt),
    function("mask", (1, 5), udf::string, mask),
    function("sentences", (1, 3), |_| Ok(types::list(types::list(DataType::Utf8))), sentences),
];

fn map(call: &Invocation<'_>, f: impl Fn(&str) -> String) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    Ok(Arc::new(texts.iter().map(|text| text.map(&f)).collect::<StringArray>()))
}

fn ints(call: &Invocation<'_>, f: impl Fn(&str) -> i32) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    Ok(Arc::new(texts.iter().map(|text| text.map(&f)).collect::<Int32Array>()))
}

fn test(call: &Invocation<'_>, f: impl Fn(&str, &str) -> bool) -> Result<ArrayRef> {
    let (texts, parts) = (call.strings(0)?, call.strings(1)?);
    let row = |(text, part): (Option<&str>, Option<&str>)| Some(f(text?, part?));
    Ok(Arc::new(texts.iter().zip(&parts).map(row).collect::<BooleanArray>()))
}

/// The first letter after each space is capital, all others are small.
fn initcap(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at_start = true;
    for c in text.chars() {
        if at_start {
            out.extend(c.to_uppercase())
        } else {
            out.extend(c.to_lowercase())
        }
        at_start = c == ' ';
    }
    out
}

fn list_or_string(arguments: &Arguments<'_>) -> Result<DataType> {
    Ok(match arguments.of(0) {
        list @ DataType::List(_) => list,
        _ => DataType::Utf8,
    })
}

fn reverse(call: &Invocation<'_>) -> Result<ArrayRef> {
    if matches!(call.return_type(), DataType::List(_)) {
        let raw = call.raw(0)?;
        let lists: &GenericListArray<i32> = raw.as_list();
        let places = |row: usize| {
            let offsets = lists.value_offsets();
            lists.is_valid(row).then(|| (offsets[row] as usize..offsets[row + 1] as usize).rev().collect())
        };
        let rows: Vec<Option<Vec<usize>>> = (0..lists.len()).map(places).collect();
        return super::nested::gathered(lists.values(), &rows);
    }
    map(call, |text| text.chars().rev().collect())
}

fn length(call: &Invocation<'_>) -> Result<ArrayRef> {
    if matches!(call.field(0).data_type(), DataType::Binary) {
        return bytes(call, 1);
    }
    ints(call, |text| text.chars().count() as i32)
}

fn bytes(call: &Invocation<'_>, factor: i32) -> Result<ArrayRef> {
    let values = call.bytes(0)?;
    Ok(Arc::new(values.iter().map(|v| v.map(|v| v.len() as i32 * factor)).collect::<Int32Array>()))
}

fn chr(call: &Invocation<'_>) -> Result<ArrayRef> {
    let codes = call.longs(0)?;
    let letter = |code: i64| match code {
        ..0 => String::new(),
        code => char::from((code % 256) as u8).to_string(),
    };
    Ok(Arc::new(codes.iter().map(|code| code.map(letter)).collect::<StringArray>()))
}

fn trim(call: &Invocation<'_>, start: bool, end: bool) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let sets = if call.len() > 1 { call.strings(1)? } else { StringArray::from(vec![" "; call.rows]) };
    let out: StringArray = each!(call.rows, (text = texts, set = sets) => {
        let in_set = |c: char| set.contains(c);
        let text = if start { text.trim_start_matches(in_set) } else { text };
        Ok(Some(if end { text.trim_end_matches(in_set) } else { text }.to_owned()))
    })?;
    Ok(Arc::new(out))
}

fn concat_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let mut lists = arguments.types().filter(|data_type| matches!(data_type, DataType::List(_)));
    let Some(first) = lists.next() else {
        let binary = !arguments.fields.is_empty() && arguments.types().all(|t| *t == DataType::Binary);
        return Ok(if binary { DataType::Binary } else { DataType::Utf8 });
    };
    lists.try_fold(first.clone(), |so_far, next| {
        types::common(&so_far, next)
            .ok_or_else(|| failure::plan("DATATYPE_MISMATCH.DATA_DIFF_TYPES", format!("{so_far} and {next}")))
    })
}

fn concat(call: &Invocation<'_>) -> Result<ArrayRef> {
    let columns = (0..call.len()).map(|i| call.array(i, call.return_type())).collect::<Result<Vec<_>>>()?;
    match call.return_type() {
        DataType::List(_) => super::arrays::concat_lists(&columns, call.rows),
        DataType::Binary => {
            let row = |row: usize| {
                columns.iter().try_fold(Vec::new(), |mut out, column| {
                    let column = column.as_binary::<i32>();
                    column.is_valid(row).then(|| out.extend_from_slice(column.value(row)))?;
                    Some(out)
                })
            };
            Ok(Arc::new((0..call.rows).map(row).collect::<arrow::array::BinaryArray>()))
        }
        _ => {
            let columns: Vec<&StringArray> = columns.iter().map(|column| column.as_string()).collect();
            let mut out = StringBuilder::new();
            let mut text = String::new();
            for row in 0..call.rows {
                text.clear();
                if columns.iter().any(|column| column.is_null(row)) {
                    out.append_null();
                    continue;
                }
                columns.iter().for_each(|column| text.push_str(column.value(row)));
                out.append_value(&text);
            }
            Ok(Arc::new(out.finish()))
        }
    }
}

/// Joins strings and arrays of strings; NULLs are left out, a NULL separator makes all NULL.
fn concat_ws(call: &Invocation<'_>) -> Result<ArrayRef> {
    let separators = call.strings(0)?;
    let is_list = |i: usize| matches!(call.field(i).data_type(), DataType::List(_));
    let column = |i: usize| {
        let to = if is_list(i) { types::list(DataType::Utf8) } else { DataType::Utf8 };
        call.array(i, &to)
    };
    let columns = (1..call.len()).map(column).collect::<Result<Vec<_>>>()?;
    let join = |row: usize| -> Option<String> {
        let separator = separators.is_valid(row).then(|| separators.value(row))?;
        let mut parts = Vec::new();
        for column in columns.iter().filter(|column| column.is_valid(row)) {
            match column.as_list_opt::<i32>() {
                Some(lists) => parts.extend(lists.value(row).as_string::<i32>().iter().flatten().map(str::to_owned)),
                None => parts.push(column.as_string::<i32>().value(row).to_owned()),
            }
        }
        Some(parts.join(separator))
    };
    Ok(Arc::new((0..call.rows).map(join).collect::<StringArray>()))
}

/// `length` characters from `start`; a negative start counts from the end, 0 is 1.
fn part(text: &str, start: i32, length: i32) -> &str {
    let count = text.chars().count() as i64;
    let (start, length) = (i64::from(start), i64::from(length));
    let from = match start {
        0 => 0,
        1.. => start - 1,
        _ => count + start,
    };
    let to = (from + length).clamp(0, count);
    let from = from.clamp(0, count);
    if to <= from {
        return "";
    }
    let byte = |at: i64| text.char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    &text[byte(from)..byte(to)]
}

fn substring(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, starts) = (call.strings(0)?, call.ints(1)?);
    let lengths = if call.len() > 2 { call.ints(2)? } else { Int32Array::from(vec![i32::MAX; call.rows]) };
    let out: StringArray = each!(call.rows, (text = texts, start = starts, length = lengths) => {
        Ok(Some(part(text, start, length).to_owned()))
    })?;
    Ok(Arc::new(out))
}

fn left(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, lengths) = (call.strings(0)?, call.ints(1)?);
    let out: StringArray =
        each!(call.rows, (text = texts, length = lengths) => Ok(Some(part(text, 1, length).to_owned())))?;
    Ok(Arc::new(out))
}

fn right(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, lengths) = (call.strings(0)?, call.ints(1)?);
    let out: StringArray = each!(call.rows, (text = texts, length = lengths) => {
        Ok(Some(if length <= 0 { String::new() } else {
            let skipped = text.chars().count().saturating_sub(length.unsigned_abs() as usize);
            text.chars().skip(skipped).collect()
        }))
    })?;
    Ok(Arc::new(out))
}

/// The place of a part in a text at or after a start, 0 if it is not there.
fn locate(call: &Invocation<'_>, part: usize, text: usize) -> Result<ArrayRef> {
    let (parts, texts) = (call.strings(part)?, call.strings(text)?);
    let starts = if call.len() > 2 { call.ints(2)? } else { Int32Array::from(vec![1; call.rows]) };
    let out: Int32Array = each!(call.rows, (part = parts, text = texts, start = starts) => {
        if start < 1 {
            return Ok(Some(0));
        }
        let skipped = start.unsigned_abs() as usize - 1;
        let Some(from) = text.char_indices().map(|(b, _)| b).chain([text.len()]).nth(skipped) else { return Ok(Some(0)) };
        let found = text[from..].find(part).map(|at| text[..from + at].chars().count() as i32 + 1);
        Ok(Some(found.unwrap_or(0)))
    })?;
    Ok(Arc::new(out))
}

fn pad(call: &Invocation<'_>, before: bool) -> Result<ArrayRef> {
    let (texts, lengths) = (call.strings(0)?, call.ints(1)?);
    let pads = if call.len() > 2 { call.strings(2)? } else { StringArray::from(vec![" "; call.rows]) };
    let out: StringArray = each!(call.rows, (text = texts, length = lengths, pad = pads) => {
        let (length, count) = (length.max(0).unsigned_abs() as usize, text.chars().count());
        if count >= length || pad.is_empty() {
            return Ok(Some(text.chars().take(length).collect::<String>()));
        }
        let padding: String = pad.chars().cycle().take(length - count).collect();
        Ok(Some(if before { padding + text } else { text.to_owned() + &padding }))
    })?;
    Ok(Arc::new(out))
}

fn replace(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, from) = (call.strings(0)?, call.strings(1)?);
    let to = if call.len() > 2 { call.strings(2)? } else { StringArray::from(vec![""; call.rows]) };
    let out: StringArray = each!(call.rows, (text = texts, from = from, to = to) => {
        Ok(Some(if from.is_empty() { text.to_owned() } else { text.replace(from, to) }))
    })?;
    Ok(Arc::new(out))
}

fn translate(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, from, to) = (call.strings(0)?, call.strings(1)?, call.strings(2)?);
    let out: StringArray = each!(call.rows, (text = texts, from = from, to = to) => {
        let swap = |c: char| match from.chars().position(|f| f == c) {
            Some(place) => to.chars().nth(place),
            None => Some(c),
        };
        Ok(Some(text.chars().filter_map(swap).collect::<String>()))
    })?;
    Ok(Arc::new(out))
}

fn repeat(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, times) = (call.strings(0)?, call.ints(1)?);
    let out: StringArray = each!(call.rows, (text = texts, times = times) => {
        Ok(Some(text.repeat(times.max(0).unsigned_abs() as usize)))
    })?;
    Ok(Arc::new(out))
}

fn space(call: &Invocation<'_>) -> Result<ArrayRef> {
    let times = call.ints(0)?;
    let out: StringArray =
        each!(call.rows, (times = times) => Ok(Some(" ".repeat(times.max(0).unsigned_abs() as usize))))?;
    Ok(Arc::new(out))
}

fn split_part(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, delimiters, places) = (call.strings(0)?, call.strings(1)?, call.ints(2)?);
    let out: StringArray = each!(call.rows, (text = texts, delimiter = delimiters, place = places) => {
        if place == 0 {
            return Err(failure::data("INVALID_INDEX_OF_ZERO", "parts count from 1"));
        }
        let parts: Vec<&str> = if delimiter.is_empty() { vec![text] } else { text.split(delimiter).collect() };
        let at = if place > 0 { i64::from(place) - 1 } else { parts.len() as i64 + i64::from(place) };
        Ok(Some(usize::try_from(at).ok().and_then(|at| parts.get(at)).copied().unwrap_or_default().to_owned()))
    })?;
    Ok(Arc::new(out))
}

fn substring_index(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, delimiters, counts) = (call.strings(0)?, call.strings(1)?, call.ints(2)?);
    let out: StringArray = each!(call.rows, (text = texts, delimiter = delimiters, count = counts) => {
        if count == 0 || delimiter.is_empty() {
            return Ok(Some(String::new()));
        }
        let wanted = count.unsigned_abs() as usize;
        let places: Vec<usize> = text.match_indices(delimiter).map(|(at, _)| at).collect();
        Ok(Some(match (count > 0, places.len() >= wanted) {
            (_, false) => text,
            (true, true) => &text[..places[wanted - 1]],
            (false, true) => &text[places[places.len() - wanted] + delimiter.len()..],
        }.to_owned()))
    })?;
    Ok(Arc::new(out))
}

fn levenshtein(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.strings(0)?, call.strings(1)?);
    let out: Int32Array = each!(call.rows, (a = left, b = right) => Ok(Some(strsim::levenshtein(a, b) as i32)))?;
    Ok(Arc::new(out))
}

fn overlay(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, news, places) = (call.strings(0)?, call.strings(1)?, call.ints(2)?);
    let lengths = if call.len() > 3 { call.ints(3)? } else { Int32Array::from(vec![-1; call.rows]) };
    let out: StringArray = each!(call.rows, (text = texts, new = news, place = places, length = lengths) => {
        let length = if length >= 0 { length } else { new.chars().count() as i32 };
        let rest = part(text, place.saturating_add(length).max(1), i32::MAX);
        Ok(Some(format!("{}{new}{rest}", part(text, 1, place - 1))))
    })?;
    Ok(Arc::new(out))
}

fn find_in_set(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (words, sets) = (call.strings(0)?, call.strings(1)?);
    let out: Int32Array = each!(call.rows, (word = words, set = sets) => {
        Ok(Some(set.split(',').position(|item| item == word).map_or(0, |at| at as i32 + 1)))
    })?;
    Ok(Arc::new(out))
}

fn elt(call: &Invocation<'_>) -> Result<ArrayRef> {
    let places = call.ints(0)?;
    let columns = (1..call.len()).map(|i| call.strings(i)).collect::<Result<Vec<_>>>()?;
    let out: StringArray = each!(call.rows, (place = places) => Ok(Some(place))).and_then(|places: Int32Array| {
        let pick = |(row, place): (usize, Option<i32>)| -> Result<Option<String>> {
            let Some(place) = place else { return Ok(None) };
            let column = usize::try_from(place - 1).ok().and_then(|at| columns.get(at)).ok_or_else(|| {
                failure::data("INVALID_ARRAY_INDEX", format!("there is no value {place} of {}", columns.len()))
            })?;
            Ok(column.is_valid(row).then(|| column.value(row).to_owned()))
        };
        places.iter().enumerate().map(pick).collect()
    })?;
    Ok(Arc::new(out))
}

/// Letters and digits by stand-ins; NULL as a stand-in keeps the character.
fn mask(call: &Invocation<'_>) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let stand_in = |i: usize, default: Option<char>| -> Result<Option<char>> {
        if call.len() <= i {
            return Ok(default);
        }
        let given = call.strings(i)?;
        Ok((!given.is_empty() && given.is_valid(0)).then(|| given.value(0).chars().next()).flatten())
    };
    let (upper, lower) = (stand_in(1, Some('X'))?, stand_in(2, Some('x'))?);
    let (digit, other) = (stand_in(3, Some('n'))?, stand_in(4, None)?);
    let masked = |c: char| {
        let by = match c {
            c if c.is_uppercase() => upper,
            c if c.is_lowercase() => lower,
            c if c.is_numeric() => digit,
            _ => other,
        };
        by.unwrap_or(c)
    };
    let out = texts.iter().map(|text| text.map(|text| text.chars().map(masked).collect::<String>()));
    Ok(Arc::new(out.collect::<StringArray>()))
}

/// Sentences end at `.`, `!` and `?`; words at what is no letter or digit.
fn sentences(call: &Invocation<'_>) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let mut out = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for text in &texts {
        for sentence in text.unwrap_or_default().split_inclusive(['.', '!', '?']) {
            let words = sentence.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty());
            words.for_each(|word| out.values().values().append_value(word));
            out.values().append(true);
        }
        out.append(text.is_some());
    }
    let lists: ListArray = out.finish();
    super::cast::array(&(Arc::new(lists) as ArrayRef), call.return_type(), super::cast::Mode::Ansi, call.zone)
}
