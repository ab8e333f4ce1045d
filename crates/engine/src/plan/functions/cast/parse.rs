//! Text read as Spark's casts from STRING read it; `None` is text that is no such value.

use std::str::FromStr;

use arrow::array::timezone::Tz;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::{days_of, instant_of, naive_micros};

/// A whole number: digits with an optional sign, spaces around them.
pub(crate) fn integer<T: FromStr>(text: &str) -> Option<T> {
    let text = trim(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A floating point number, or one of the words for infinity and NaN; a trailing `d` or `f` is accepted as in Java.
pub(crate) fn double(text: &str) -> Option<f64> {
    let text = trim(text);
    match text.to_ascii_lowercase().as_str() {
        "nan" => return Some(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => return Some(f64::INFINITY),
        "-inf" | "-infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let numeric = number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    (numeric && number.bytes().any(|b| b.is_ascii_digit())).then(|| number.parse().ok())?
}

/// `t`, `true`, `y`, `yes`, `1` and their opposites.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match trim(text).to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A decimal number as unscaled value and scale, exactly; nothing if it has more than 38 digits.
pub(crate) fn exact_decimal(text: &str) -> Option<(i128, i32)> {
    let text = trim(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, integer::<i32>(exponent)?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut unscaled: i128 = 0;
    let mut seen = false;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        seen = true;
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
    }
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    seen.then_some((if negative { -unscaled } else { unscaled }, scale))
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c.is_ascii_control())
}

/// A date as days since 1970: `yyyy[-[m]m[-[d]d]]`, then anything after a space or `T`.
pub(crate) fn date(text: &str) -> Option<i32> {
    let mut reader = Reader::new(trim(text));
    let date = reader.date()?;
    let complete = reader.rest.is_empty() || (date.1 == 3 && reader.rest.starts_with([' ', 'T']));
    complete.then(|| days_of(date.0))
}

/// An instant as microseconds since 1970: a date, a time and a zone, of which the later parts may be missing.
pub(crate) fn timestamp(text: &str, session: Tz) -> Option<i64> {
    let (local, zone) = datetime(text)?;
    let zone = match zone {
        "" => session,
        name => self::zone(name)?,
    };
    Some(instant_of(local, zone))
}

/// A local date and time; a zone is read and ignored.
pub(crate) fn timestamp_ntz(text: &str) -> Option<i64> {
    let (local, zone) = datetime(text)?;
    (zone.is_empty() || self::zone(zone).is_some()).then(|| naive_micros(local))
}

fn datetime(text: &str) -> Option<(NaiveDateTime, &str)> {
    let mut reader = Reader::new(trim(text));
    let (date, parts) = reader.date()?;
    if reader.rest.is_empty() {
        return Some((date.and_time(NaiveTime::MIN), ""));
    }
    if parts < 3 || !(reader.take(' ') || reader.take('T')) {
        return None;
    }
    let time = reader.time()?;
    Some((date.and_time(time), reader.rest.trim()))
}

/// A zone: `Z`, `UTC`, `+02:00`, `+2`, `GMT+2`, `Europe/Berlin`.
pub(crate) fn zone(name: &str) -> Option<Tz> {
    if matches!(name, "Z" | "UTC" | "GMT" | "UT") {
        return Some(super::utc());
    }
    let offset = ["UTC", "GMT", "UT"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let Some(digits) = offset.strip_prefix(['+', '-']) else { return Tz::from_str(name).ok() };
    let sign = &offset[..1];
    let parts: Vec<&str> = digits.split(':').collect();
    let number =
        |text: &str, max: u32| (1..=2).contains(&text.len()).then(|| integer::<u32>(text).filter(|n| *n <= max));
    let (hours, minutes) = match parts.as_slice() {
        [hours] if digits.len() <= 2 => (number(hours, 18)??, 0),
        [joined] if joined.len() == 4 => (number(&joined[..2], 18)??, number(&joined[2..], 59)??),
        [hours, minutes] | [hours, minutes, _] => (number(hours, 18)??, number(minutes, 59)??),
        _ => return None,
    };
    Tz::from_str(&format!("{sign}{hours:02}:{minutes:02}")).ok()
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn new(rest: &'a str) -> Self {
        Self { rest }
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn number(&mut self, (min, max): (usize, usize)) -> Option<u32> {
        let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(min..=max).contains(&length) {
            return None;
        }
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits.parse().ok()
    }

    /// The date and how many of its parts were written.
    fn date(&mut self) -> Option<(NaiveDate, u8)> {
        let sign = if self.take('-') { -1 } else { 1 };
        self.take('+');
        let year = sign * i32::try_from(self.number((4, 7))?).ok()?;
        if !self.take('-') {
            return Some((NaiveDate::from_ymd_opt(year, 1, 1)?, 1));
        }
        let month = self.number((1, 2))?;
        if !self.take('-') {
            return Some((NaiveDate::from_ymd_opt(year, month, 1)?, 2));
        }
        let day = self.number((1, 2))?;
        Some((NaiveDate::from_ymd_opt(year, month, day)?, 3))
    }

    /// `[h]h[:[m]m[:[s]s[.fraction]]]`; digits after the sixth are dropped.
    fn time(&mut self) -> Option<NaiveTime> {
        let hour = self.number((1, 2))?;
        let (mut minute, mut second, mut micros) = (0, 0, 0);
        if self.take(':') {
            minute = self.number((1, 2))?;
            if self.take(':') {
                second = self.number((1, 2))?;
                if self.take('.') {
                    let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
                    let (digits, rest) = self.rest.split_at(length);
                    self.rest = rest;
                    micros = format!("{digits:0<6}").get(..6)?.parse().ok()?;
                }
            }
        }
        NaiveTime::from_hms_micro_opt(hour, minute, second, micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_in_all_their_spellings() {
        let offset = |name: &str| {
            timestamp(&format!("2024-01-31 00:00:00{name}"), super::super::utc()).map(|us| us / 3_600_000_000)
        };
        let utc = offset("Z").unwrap();
        assert_eq!(offset("+02:00"), Some(utc - 2));
        assert_eq!(offset("-2"), Some(utc + 2));
        assert_eq!(offset(" GMT+3"), Some(utc - 3));
        assert_eq!(offset(" Europe/Berlin"), Some(utc - 1));
        assert_eq!(offset(" Nowhere"), None);
    }

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(exact_decimal("1.50"), Some((150, 2)));
        assert_eq!(exact_decimal("-.5"), Some((-5, 1)));
        assert_eq!(exact_decimal("1.5e3"), Some((15, -2)));
        assert_eq!(exact_decimal("abc"), None);
        assert_eq!(exact_decimal("."), None);
    }
}
