//! Strict JSON, a token at a time, at a position in a record.
//!
//! The direct path walks with these. Each function takes a position and gives the one behind what it read, or
//! [`Unusual`] for anything that is not plain standard JSON; the full parser then decides what the record is worth.
//! So whatever is accepted here, the full parser must accept with the same meaning, and nothing more is asked.
//!
//! What follows a value is not checked here: the caller requires `,`, `]`, `}` or white space next, which is also what
//! ends a number or a literal.

use super::super::simd::bytes_before_stop;
use super::super::text::exact_f64;

/// The record needs the full parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusual;

/// How deep arrays and objects may nest, the record itself included: the limit of Spark's parser.
pub(super) const MAX_DEPTH: usize = 1000;

/// How long a number may be: the limit of Spark's parser.
pub(super) const MAX_NUMBER_BYTES: usize = 1000;

/// A string as it stands in the record, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a [u8],
    pub(super) escaped: bool,
    pub(super) end: usize,
}

#[inline]
fn is_stop(b: u8) -> bool {
    (b == b'"') | (b == b'\\') | (b < 0x20)
}

/// Whether a record is all ASCII, and so valid UTF-8: in words, the last ones overlapping, where the standard library
/// goes on byte by byte.
#[inline]
pub(super) fn is_ascii(record: &[u8]) -> bool {
    const HIGH_BITS: u128 = u128::from_le_bytes([0x80; 16]);
    let word = |chunk: &[u8; 16]| u128::from_le_bytes(*chunk);
    let (chunks, _) = record.as_chunks::<16>();
    match record.last_chunk::<16>() {
        Some(last) => chunks.iter().fold(word(last), |bits, chunk| bits | word(chunk)) & HIGH_BITS == 0,
        None => record.is_ascii(),
    }
}

/// The position of the next quote, backslash or control character.
#[inline(always)]
fn next_stop(record: &[u8], mut at: usize) -> Option<usize> {
    while let Some((chunk, _)) = record.get(at..).and_then(|rest| rest.split_first_chunk::<16>()) {
        let before = bytes_before_stop(chunk);
        at += before;
        if before < 16 {
            return Some(at);
        }
    }
    let tail = record.get(at..)?;
    tail.iter().position(|b| is_stop(*b)).map(|i| at + i)
}

/// A string; `at` is behind its opening quote.
#[inline(always)]
pub(super) fn string(record: &[u8], at: usize) -> Result<Text<'_>, Unusual> {
    let stop = next_stop(record, at).ok_or(Unusual)?;
    if record[stop] == b'"' {
        return Ok(Text { raw: &record[at..stop], escaped: false, end: stop + 1 });
    }
    escaped_string(record, at, stop)
}

#[cold]
fn escaped_string(record: &[u8], start: usize, mut at: usize) -> Result<Text<'_>, Unusual> {
    loop {
        match record[at] {
            b'"' => return Ok(Text { raw: &record[start..at], escaped: true, end: at + 1 }),
            b'\\' => at = escape(record, at)?,
            _ => return Err(Unusual),
        }
        at = next_stop(record, at).ok_or(Unusual)?;
    }
}

/// Checks one escape sequence.
fn escape(record: &[u8], at: usize) -> Result<usize, Unusual> {
    match record.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match record.get(at + 2..at + 6) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
            _ => Err(Unusual),
        },
        _ => Err(Unusual),
    }
}

/// Appends what a string with escapes stands for. The escapes must be valid. Half a surrogate pair becomes `?`, as
/// when Java writes such a string as UTF-8.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(kind) = rest.get(at + 1) else { return };
        rest = &rest[at + 2..];
        match kind {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => rest = unescape_unicode(rest, out),
            other => out.push(*other),
        }
    }
    out.extend_from_slice(rest);
}

fn unescape_unicode<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (Some(unit), Some(mut rest)) = (hex(rest.get(..4)), rest.get(4..)) else { return &[] };
    let mut code = unit;
    if (0xd800..0xdc00).contains(&unit)
        && rest.starts_with(b"\\u")
        && let Some(low @ 0xdc00..0xe000) = hex(rest.get(2..6))
    {
        code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        rest = &rest[6..];
    }
    let c = char::from_u32(code).unwrap_or('?');
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok()
}

/// The position behind white space.
#[inline]
pub(super) fn white_space(record: &[u8], mut at: usize) -> usize {
    while matches!(record.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The position behind a run of digits, of which there must be one.
#[inline]
fn digits(record: &[u8], at: usize) -> Result<usize, Unusual> {
    let mut end = at;
    while matches!(record.get(end), Some(b'0'..=b'9')) {
        end += 1;
    }
    if end > at { Ok(end) } else { Err(Unusual) }
}

/// Up to seven digits at once: how many there are, and the number they make. Numbers vary in length from record to
/// record, which a loop over digits would pay for with a mispredicted branch each.
struct Run {
    len: usize,
    value: u64,
}

/// The digits at `at`, or `None` if there may be more than seven, or the record ends too soon to look at eight bytes.
#[inline(always)]
fn short_run(record: &[u8], at: usize) -> Option<Run> {
    const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
    const HIGH_NIBBLES: u64 = u64::from_le_bytes([0xf0; 8]);
    const SIXES: u64 = u64::from_le_bytes([6; 8]);
    let word = u64::from_le_bytes(*record.get(at..)?.first_chunk::<8>()?);
    // A digit has the high nibble 3, and still has it after six is added. A carry can only spoil bytes behind one that
    // is no digit.
    let no_digit = ((word & HIGH_NIBBLES) ^ ZEROS) | ((word.wrapping_add(SIXES) & HIGH_NIBBLES) ^ ZEROS);
    let len = no_digit.trailing_zeros() as usize / 8;
    if len == 0 || len == 8 {
        return None;
    }
    // The digits move to the end, zeros before them; then pairs, fours and eights are joined (Lemire 2018).
    let digits = (word ^ ZEROS) << (64 - 8 * len);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let even = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let odd = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    Some(Run { len, value: even.wrapping_add(odd) >> 32 })
}

/// A short number without exponent, which most are: its digits as one integer, how many of them are behind the point,
/// and the position behind it.
#[inline(always)]
fn short_number(record: &[u8], at: usize) -> Option<(u64, usize, usize)> {
    let whole = short_run(record, at)?;
    if whole.len > 1 && record[at] == b'0' {
        return None;
    }
    let end = at + whole.len;
    match record.get(end) {
        Some(b'.') => {}
        Some(b'e' | b'E') => return None,
        _ => return Some((whole.value, 0, end)),
    }
    let fraction = short_run(record, end + 1)?;
    let end = end + 1 + fraction.len;
    if let Some(b'e' | b'E') = record.get(end) {
        return None;
    }
    Some((whole.value * SHORT_POWERS[fraction.len] + fraction.value, fraction.len, end))
}

const SHORT_POWERS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// A number that is skipped.
#[inline]
pub(super) fn number(record: &[u8], at: usize) -> Result<usize, Unusual> {
    let unsigned = at + usize::from(record.get(at) == Some(&b'-'));
    match short_number(record, unsigned) {
        Some((_, _, end)) => Ok(end),
        None => any_number(record, at),
    }
}

fn any_number(record: &[u8], at: usize) -> Result<usize, Unusual> {
    let whole = at + usize::from(record.get(at) == Some(&b'-'));
    let mut end = digits(record, whole)?;
    if record[whole] == b'0' && end > whole + 1 {
        return Err(Unusual);
    }
    if record.get(end) == Some(&b'.') {
        end = digits(record, end + 1)?;
    }
    if let Some(b'e' | b'E') = record.get(end) {
        end += 1 + usize::from(matches!(record.get(end + 1), Some(b'+' | b'-')));
        end = digits(record, end)?;
    }
    if end - at > MAX_NUMBER_BYTES { Err(Unusual) } else { Ok(end) }
}

/// An integer of at most 18 digits, with the position behind it.
#[inline]
pub(super) fn integer(record: &[u8], at: usize) -> Result<(i64, usize), Unusual> {
    let negative = record.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    if let Some((value, 0, end)) = short_number(record, start) {
        let value = value as i64;
        return Ok((if negative { -value } else { value }, end));
    }
    let mut end = start;
    let mut value: i64 = 0;
    while let Some(digit) = record.get(end).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
        end += 1;
    }
    let count = end - start;
    if count == 0 || count > 18 || (count > 1 && record[start] == b'0') {
        return Err(Unusual);
    }
    if let Some(b'.' | b'e' | b'E') = record.get(end) {
        return Err(Unusual);
    }
    Ok((if negative { -value } else { value }, end))
}

/// A number as a double, with the position behind it.
#[inline]
pub(super) fn double(record: &[u8], at: usize) -> Result<(f64, usize), Unusual> {
    let negative = record.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    if let Some((mantissa, places, end)) = short_number(record, start)
        && let Some(value) = exact_f64(mantissa, -(places as i32))
    {
        return Ok((if negative { -value } else { value }, end));
    }
    let (value, end) = long_double(record, at, start)?;
    Ok((if negative { -value } else { value }, end))
}

/// The size of a number of any length; `start` is behind its sign.
fn long_double(record: &[u8], at: usize, start: usize) -> Result<(f64, usize), Unusual> {
    let mut mantissa: u64 = 0;
    let mut take = |from: usize| {
        let mut end = from;
        while let Some(digit) = record.get(end).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            end += 1;
        }
        end
    };
    let mut end = take(start);
    let mut count = end - start;
    if count == 0 || (count > 1 && record[start] == b'0') {
        return Err(Unusual);
    }
    let mut exponent = 0;
    if record.get(end) == Some(&b'.') {
        let point = end + 1;
        end = take(point);
        if end == point {
            return Err(Unusual);
        }
        count += end - point;
        exponent = -((end - point) as i32);
    }
    // 19 digits fit a u64 without wrapping; with an exponent or more digits the standard library is exact too.
    if count <= 19
        && !matches!(record.get(end), Some(b'e' | b'E'))
        && let Some(value) = exact_f64(mantissa, exponent)
    {
        return Ok((value, end));
    }
    let end = any_number(record, at)?;
    let text = std::str::from_utf8(&record[start..end]).map_err(|_| Unusual)?;
    Ok((text.parse().map_err(|_| Unusual)?, end))
}

/// `true`, `false` or `null`.
#[inline]
pub(super) fn literal(record: &[u8], at: usize, word: &[u8]) -> Result<usize, Unusual> {
    let end = at + word.len();
    if record.get(at..end) == Some(word) { Ok(end) } else { Err(Unusual) }
}

/// Any value that is not needed, inside `depth` objects besides the record's own.
#[inline]
pub(super) fn skip(record: &[u8], at: usize, depth: usize) -> Result<usize, Unusual> {
    match record.get(at) {
        Some(b'"') => skip_string(record, at + 1),
        Some(b'-' | b'0'..=b'9') => number(record, at),
        Some(b'{' | b'[') => nested(record, at, depth),
        Some(b't') => literal(record, at, b"true"),
        Some(b'f') => literal(record, at, b"false"),
        Some(b'n') => literal(record, at, b"null"),
        _ => Err(Unusual),
    }
}

/// A string that is not needed; `at` is behind its opening quote.
#[inline(always)]
fn skip_string(record: &[u8], at: usize) -> Result<usize, Unusual> {
    let stop = next_stop(record, at).ok_or(Unusual)?;
    if record[stop] == b'"' { Ok(stop + 1) } else { Ok(escaped_string(record, at, stop)?.end) }
}

/// The open brackets around a position: one bit each, set for an object.
struct Brackets {
    bits: [u64; MAX_DEPTH.div_ceil(64)],
    depth: usize,
    /// Objects that are open beside the record's own, which is not in `bits` either.
    around: usize,
}

impl Brackets {
    fn open(&mut self, object: bool) -> Result<(), Unusual> {
        if self.around + self.depth + 1 >= MAX_DEPTH {
            return Err(Unusual);
        }
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if object {
            self.bits[word] |= bit
        } else {
            self.bits[word] &= !bit
        }
        self.depth += 1;
        Ok(())
    }

    fn in_object(&self) -> bool {
        let last = self.depth - 1;
        self.bits[last / 64] >> (last % 64) & 1 == 1
    }
}

/// An array or object that is not needed, checked to its last byte without recursion.
#[cold]
fn nested(record: &[u8], mut at: usize, around: usize) -> Result<usize, Unusual> {
    let mut open = Brackets { bits: [0; MAX_DEPTH.div_ceil(64)], depth: 0, around };
    loop {
        // At the start of a value.
        let begin = record.get(at).copied();
        if let Some(bracket @ (b'{' | b'[')) = begin {
            open.open(bracket == b'{')?;
            at = white_space(record, at + 1);
            if record.get(at) != Some(&(bracket + 2)) {
                at = if bracket == b'{' { member_key(record, at)? } else { at };
                continue;
            }
        } else {
            at = skip(record, at, open.around)?;
            at = white_space(record, at);
        }
        // Behind a value, or at the closing bracket of an empty one.
        loop {
            let object = open.in_object();
            match record.get(at) {
                Some(b',') => {
                    at = white_space(record, at + 1);
                    at = if object { member_key(record, at)? } else { at };
                    break;
                }
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                _ => return Err(Unusual),
            }
            open.depth -= 1;
            at += 1;
            if open.depth == 0 {
                return Ok(at);
            }
            at = white_space(record, at);
        }
    }
}

/// A key and its colon; the position of the value.
fn member_key(record: &[u8], at: usize) -> Result<usize, Unusual> {
    if record.get(at) != Some(&b'"') {
        return Err(Unusual);
    }
    colon(record, string(record, at + 1)?.end)
}

/// The colon behind a key; the position of the value.
#[inline]
pub(super) fn colon(record: &[u8], at: usize) -> Result<usize, Unusual> {
    let at = white_space(record, at);
    if record.get(at) == Some(&b':') { Ok(white_space(record, at + 1)) } else { Err(Unusual) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `serde_json` accepts as the start of a text, as an independent judge of the grammar.
    fn judged(text: &str) -> Option<usize> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
        values.next()?.ok()?;
        Some(values.byte_offset())
    }

    #[test]
    fn values_are_skipped_as_serde_json_skips_them() {
        for text in [
            "1,",
            "-1,",
            "0 ",
            "-0.5e+10]",
            "1e5,",
            "1E-5}",
            "\"x\",",
            "\"\",",
            "\"a\\n\\u00e9\\\"b\" ",
            "true,",
            "null}",
            "[],",
            "{},",
            "[1,[2,{\"a\":[]}],{}] ",
            "{\"a\":{\"b\":[{}]},\"c\":null}",
            "[ 1 , 2 ]",
            "{ \"a\" : 1 }",
            "01,",
            "1.,",
            ".5,",
            "+1,",
            "-,",
            "1e,",
            "tru,",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "[1}",
            "{\"a\":1]",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a\tb\"",
            "\"a",
            "[1",
            "{\"a\":1",
            "",
            "nul",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "{1:2}",
            "]",
        ] {
            assert_eq!(skip(text.as_bytes(), 0, 0).ok(), judged(text), "{text}");
        }
    }

    #[test]
    fn strings_of_every_length_end_at_their_quote() {
        for len in 0..70 {
            for tail in ["\"", "\",\"k\":1}", "\\\"\"", "\u{1}\""] {
                let text = "x".repeat(len) + tail;
                let end = string(text.as_bytes(), 0).ok().map(|t| t.end);
                let expected = match tail {
                    "\\\"\"" => Some(len + 3),
                    "\u{1}\"" => None,
                    _ => Some(len + 1),
                };
                assert_eq!(end, expected, "{text}");
            }
        }
    }

    #[test]
    fn a_byte_that_is_not_ascii_is_seen_anywhere() {
        for len in 0..70 {
            let mut record = vec![b'x'; len];
            assert!(is_ascii(&record));
            for at in 0..len {
                record[at] = 0x80;
                assert!(!is_ascii(&record), "{at} of {len}");
                record[at] = b'x';
            }
        }
    }

    #[test]
    fn depth_is_bounded_like_sparks() {
        let nest = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(skip(nest(MAX_DEPTH - 1).as_bytes(), 0, 0).is_ok());
        assert_eq!(skip(nest(MAX_DEPTH).as_bytes(), 0, 0), Err(Unusual));
    }

    #[test]
    fn doubles_are_those_of_the_standard_library() {
        for text in [
            "0",
            "-0.0",
            "1",
            "0.1",
            "12.34",
            "1234567890.12345",
            "9007199254740993",
            "12345678901234567890123",
            "1e22",
            "1e23",
            "1.7976931348623157e308",
            "1e400",
            "4.9e-324",
            "0.30000000000000004",
            "123456789012345678",
            "1.0000000000000002",
            "0.000000000000000000000001",
            "8.5e-5",
        ] {
            let (value, end) = double(text.as_bytes(), 0).expect("a number");
            assert_eq!(
                (value.to_bits(), end),
                (text.parse::<f64>().expect("a number").to_bits(), text.len()),
                "{text}"
            );
        }
    }

    #[test]
    fn integers_of_every_length() {
        for len in 1..=19 {
            let text = &"9283746501928374650"[..len];
            for (sign, tail) in [("", ""), ("-", ","), ("", "}        "), ("-", ",\"next\":1}")] {
                let record = format!("{sign}{text}{tail}");
                let expected =
                    if len > 18 { Err(Unusual) } else { Ok((format!("{sign}{text}").parse(), sign.len() + len)) };
                assert_eq!(integer(record.as_bytes(), 0).map(|(value, end)| (Ok(value), end)), expected, "{record}");
            }
        }
        for text in
            ["", "-", "x", "01,       ", "1.5,      ", "1e5,      ", "-01", "1.5", "1e5", "/1234567", ":1234567"]
        {
            assert_eq!(integer(text.as_bytes(), 0), Err(Unusual), "{text}");
        }
    }

    #[test]
    fn escapes_stand_for_their_characters() {
        for (raw, expected) in [
            (r#"a\"\\\/\b\f\n\r\tz"#, "a\"\\/\u{8}\u{c}\n\r\tz"),
            (r"\u00e9\ud83d\ude00", "é😀"),
            (r"\ud800", "?"),
            (r"\ud800\u0041", "?A"),
            (r"\ud800\ud83d\ude00", "?😀"),
            (r"\udc00x", "?x"),
        ] {
            let mut out = Vec::new();
            unescape(raw.as_bytes(), &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(expected), "{raw}");
        }
    }
}
