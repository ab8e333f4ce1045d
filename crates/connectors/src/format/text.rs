//! Values from text, with Spark's rules, shared by JSON and CSV: numbers, decimals, base64, dates and timestamps.

use chrono_tz::Tz;
use highwater_engine::plan::datetime_pattern::DateTimePattern;
use highwater_engine::plan::datetime_pattern::cast::{
    days_from_civil, parse_date, parse_timestamp, parse_timestamp_ntz,
};

use super::FormatError;

/// Compiles the pattern in an option, if there is one.
pub(super) fn pattern(option: &'static str, pattern: Option<&String>) -> Result<Option<DateTimePattern>, FormatError> {
    let compile = |text: &String| DateTimePattern::compile(text);
    pattern.map(compile).transpose().map_err(|source| FormatError::Pattern { option, source })
}

/// A double from at most 19 digits of mantissa and a power of ten, when that can be done in one exact step.
///
/// Both factors are then exact doubles and one correctly rounded operation gives the correctly rounded result
/// (Clinger 1990). `None` means: use the full algorithm.
#[inline]
pub(super) fn exact_f64(mantissa: u64, exponent: i32) -> Option<f64> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ];
    if mantissa > 1 << 53 {
        return None;
    }
    let power = POWERS.get(exponent.unsigned_abs() as usize)?;
    Some(if exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power })
}

/// The words that stand for numbers that are none, as Spark takes them in quotes.
pub(super) fn non_finite(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Infinity" | b"+Infinity" | b"+INF" => Some(f64::INFINITY),
        b"-Infinity" | b"-INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

const POWERS_OF_TEN: [i128; 39] = {
    let mut powers = [1; 39];
    let mut i = 1;
    while i < 39 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// The unscaled value of a decimal number in text, rounded half up to `scale`, or `None` if it is no number or has
/// more digits than `precision` allows. Commas are ignored, as Spark does for thousands.
pub(super) fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mantissa_len = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
    let exponent = match &text[mantissa_len..] {
        [] => 0,
        [_, digits @ ..] => parse_exponent(digits)?,
    };
    let (digits, point) = significant_digits(&text[..mantissa_len])?;
    // The number is 0.DIGITS * 10^magnitude; so many of its digits stand before the end of the scale.
    let kept = i64::from(point) + exponent + i64::from(scale);
    let mut unscaled: i128 = 0;
    for i in 0..kept.clamp(0, 40) {
        let digit = digits.get(i as usize).copied().unwrap_or(0);
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    let zero = digits.iter().all(|d| *d == 0);
    if kept > 40 && !zero {
        return None;
    }
    let next = if kept < 0 { 0 } else { digits.get(kept as usize).copied().unwrap_or(0) };
    unscaled += i128::from(next >= 5);
    let limit = POWERS_OF_TEN.get(usize::from(precision))?;
    (unscaled < *limit).then_some(if negative { -unscaled } else { unscaled })
}

fn parse_exponent(digits: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.parse::<i32>().ok().map(i64::from)
}

/// The digits without leading zeros, and how many of them stand before the point (negative: zeros after it).
fn significant_digits(mantissa: &[u8]) -> Option<(Vec<u8>, i32)> {
    let mut digits = Vec::with_capacity(mantissa.len());
    let (mut seen, mut point, mut leading) = (false, None, 0);
    for b in mantissa {
        match b {
            b'0' if digits.is_empty() => {
                seen = true;
                leading -= i32::from(point.is_some());
            }
            b'0'..=b'9' => {
                seen = true;
                digits.push(b - b'0');
            }
            b'.' if point.is_none() => point = Some(digits.len() as i32),
            b',' => {}
            _ => return None,
        }
    }
    let whole = match point {
        Some(0) => leading,
        Some(count) => count,
        None => digits.len() as i32,
    };
    seen.then_some((digits, whole))
}

/// Standard base64 with padding, each group of four by itself (`AQI=AQI=` is four bytes), as Java's Jackson reads it.
pub(super) fn parse_base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks_exact(4) {
        let padding = group.iter().rev().take_while(|b| **b == b'=').count();
        if padding > 2 {
            return None;
        }
        let mut bits: u32 = 0;
        for b in &group[..4 - padding] {
            bits = bits << 6 | u32::from(base64_digit(*b)?);
        }
        bits <<= 6 * padding;
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(out)
}

fn base64_digit(b: u8) -> Option<u8> {
    match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Appends bytes as base64 with padding.
pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { digit } else { b'=' });
        }
    }
}

/// Reads dates and timestamps by the options of a decoder.
#[derive(Debug, Clone)]
pub(super) struct Times {
    session: Tz,
    timestamp: Option<DateTimePattern>,
    timestamp_ntz: Option<DateTimePattern>,
    date: Option<DateTimePattern>,
    /// The text and number of the day that was read last: events come in the order of time.
    last_day: ([u8; 10], i64),
}

const FIRST_DAY: ([u8; 10], i64) = (*b"1970-01-01", 0);
const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl Times {
    pub(super) fn new(
        session: Tz,
        timestamp: Option<&String>,
        timestamp_ntz: Option<&String>,
        date: Option<&String>,
    ) -> Result<Self, FormatError> {
        Ok(Self {
            session,
            timestamp: pattern("timestampFormat", timestamp)?,
            timestamp_ntz: pattern("timestampNTZFormat", timestamp_ntz)?,
            date: pattern("dateFormat", date)?,
            last_day: FIRST_DAY,
        })
    }

    /// For texts in which nothing is read as a time.
    pub(super) fn none() -> Self {
        Self { session: Tz::UTC, timestamp: None, timestamp_ntz: None, date: None, last_day: FIRST_DAY }
    }

    /// Microseconds of a timestamp with time zone.
    #[inline]
    pub(super) fn timestamp(&mut self, text: &[u8]) -> Option<i64> {
        if self.timestamp.is_none() {
            if let [rest @ .., b'Z'] = text {
                if let Some(micros) = self.plain(rest) {
                    return Some(micros);
                }
            } else if self.session == Tz::UTC
                && let Some(micros) = self.plain(text)
            {
                return Some(micros);
            }
        }
        let text = std::str::from_utf8(text).ok()?;
        match &self.timestamp {
            Some(pattern) => pattern.parse(text, self.session),
            None => parse_timestamp(text, self.session),
        }
    }

    /// Microseconds of a timestamp without time zone.
    pub(super) fn timestamp_ntz(&mut self, text: &[u8]) -> Option<i64> {
        if self.timestamp_ntz.is_none()
            && let Some(micros) = self.plain(text)
        {
            return Some(micros);
        }
        let text = std::str::from_utf8(text).ok()?;
        match &self.timestamp_ntz {
            Some(pattern) => pattern.parse_local(text),
            None => parse_timestamp_ntz(text),
        }
    }

    /// Days of a date; by pattern if one is set.
    pub(super) fn date(&self, text: &[u8]) -> Option<i32> {
        let text = std::str::from_utf8(text).ok()?;
        match &self.date {
            Some(pattern) => pattern.parse_date(text),
            None => parse_date(text),
        }
    }

    /// Whether dates are read by a pattern.
    pub(super) fn has_date_pattern(&self) -> bool {
        self.date.is_some()
    }

    /// The common form, `yyyy-MM-dd(T| )HH:mm:ss[.f{1,9}]` in UTC; `None` for anything else.
    #[inline]
    fn plain(&mut self, text: &[u8]) -> Option<i64> {
        let (head, fraction) = text.split_first_chunk::<19>()?;
        let separators = (head[10] == b'T' || head[10] == b' ') && head[13] == b':' && head[16] == b':';
        let hour = two_digits(head[11], head[12])?;
        let minute = two_digits(head[14], head[15])?;
        let second = two_digits(head[17], head[18])?;
        if !separators || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (day, _) = head.split_first_chunk::<10>()?;
        let days = if *day == self.last_day.0 { self.last_day.1 } else { self.day(day)? };
        let seconds = days * SECONDS_PER_DAY + (hour * 60 + minute) * 60 + second;
        Some(seconds * MICROS_PER_SECOND + fraction_micros(fraction)?)
    }

    #[cold]
    fn day(&mut self, text: &[u8; 10]) -> Option<i64> {
        if text[4] != b'-' || text[7] != b'-' {
            return None;
        }
        let year = two_digits(text[0], text[1])? * 100 + two_digits(text[2], text[3])?;
        let (month, day) = (two_digits(text[5], text[6])?, two_digits(text[8], text[9])?);
        let days = i64::from(days_from_civil(year as i32, month as i32, day as i32)?);
        self.last_day = (*text, days);
        Some(days)
    }
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then_some(i64::from(tens) * 10 + i64::from(ones))
}

#[inline]
fn fraction_micros(text: &[u8]) -> Option<i64> {
    let digits = match text {
        [] => return Some(0),
        [b'.', digits @ ..] if !digits.is_empty() && digits.len() <= 9 => digits,
        _ => return None,
    };
    let mut micros = 0;
    for i in 0..digits.len().max(6) {
        let digit = digits.get(i).copied().unwrap_or(b'0').wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        if i < 6 {
            micros = micros * 10 + i64::from(digit);
        }
    }
    Some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: `from_json` of Spark 4.3.
    #[test]
    fn decimals_are_rounded_half_up_and_bounded() {
        for (text, precision, scale, expected) in [
            ("1", 5, 2, Some(100)),
            ("1.234", 5, 2, Some(123)),
            ("1.235", 5, 2, Some(124)),
            ("-1.235", 5, 2, Some(-124)),
            ("999.99", 5, 2, Some(99_999)),
            ("1000", 5, 2, None),
            ("999.995", 5, 2, None),
            ("1e2", 5, 2, Some(10_000)),
            ("1e-3", 5, 2, Some(0)),
            ("5e-3", 5, 2, Some(1)),
            ("1e30", 10, 2, None),
            ("0e30", 10, 2, Some(0)),
            ("1e-30", 10, 2, Some(0)),
            ("1,000.5", 10, 2, Some(100_050)),
            ("+1.5", 10, 2, Some(150)),
            (".5", 10, 2, Some(50)),
            ("5.", 10, 2, Some(500)),
            ("0.005", 10, 2, Some(1)),
            ("0.0049", 10, 2, Some(0)),
            ("00012.5", 10, 1, Some(125)),
            ("12345678901234567890123456789012345678", 38, 0, Some(12_345_678_901_234_567_890_123_456_789_012_345_678)),
            ("123456789012345678901234567890123456789", 38, 0, None),
            (" 1.5", 10, 2, None),
            ("1_0", 10, 2, None),
            ("0x1", 10, 2, None),
            ("", 10, 2, None),
            (".", 10, 2, None),
            ("e5", 10, 2, None),
            ("1e", 10, 2, None),
        ] {
            assert_eq!(parse_decimal(text.as_bytes(), precision, scale), expected, "{text}");
        }
    }

    #[test]
    fn base64_both_ways() {
        for (text, expected) in [
            ("AQID", Some(&[1_u8, 2, 3][..])),
            ("AQI=", Some(&[1, 2])),
            ("AQ==", Some(&[1])),
            ("", Some(&[])),
            ("AQI=AQI=", Some(&[1, 2, 1, 2])),
            ("AQI", None),
            ("AQ ID", None),
            ("_-8=", None),
            ("A===", None),
            ("A=BC", None),
        ] {
            assert_eq!(parse_base64(text.as_bytes()).as_deref(), expected, "{text}");
        }
        let mut out = Vec::new();
        for bytes in [&b"abc"[..], b"ab", b"a", b""] {
            out.clear();
            write_base64(bytes, &mut out);
            assert_eq!(parse_base64(&out).as_deref(), Some(bytes));
        }
    }

    /// The quick way must say the same as the general one, or nothing.
    #[test]
    fn plain_timestamps_agree_with_casts() {
        let mut times = Times::new(Tz::UTC, None, None, None).expect("no patterns");
        for text in [
            "2024-01-02T03:04:05",
            "2024-01-02 03:04:05.1",
            "2024-02-29T23:59:59.999999999",
            "2023-02-29T23:59:59",
            "2024-01-02T24:00:00",
            "2024-01-02T03:04:60",
            "2024-01-02T03:04:05.",
            "2024-01-02T03-04-05",
            "0000-01-01T00:00:00",
            "2024-01-02T03:04:0x",
            "2024/01/02T03:04:05",
            "2024-01-02T03:04:05.12x",
        ] {
            assert_eq!(times.timestamp_ntz(text.as_bytes()), parse_timestamp_ntz(text), "{text}");
            let zoned = format!("{text}Z");
            assert_eq!(times.timestamp(zoned.as_bytes()), parse_timestamp(&zoned, Tz::UTC), "{zoned}");
            assert_eq!(times.timestamp(text.as_bytes()), parse_timestamp(text, Tz::UTC), "{text}");
        }
    }
}
