//! Dates and timestamps from text without a pattern: what Spark's `CAST` accepts.
//!
//! ```text
//! [+-]y{4,6}[-M[M][-d[d][(T| )H[H][:m[m][:s[s][.f*][zone]]]]]]
//! ```
//!
//! White space around the text is ignored; digits of the fraction after the sixth are cut off. A missing part is its
//! smallest value. A date may have years of seven digits, and anything after a `T` or a space.
//!
//! It refuses a text that is only a time (`03:04:05`): Spark adds the date of the day it runs, which would make a
//! replay differ from the first run.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;

use super::zone::Zone;

/// The microseconds since 1970 of a timestamp with time zone; a text without a zone is local time in `session`.
pub fn parse_timestamp(text: &str, session: Tz) -> Option<i64> {
    let parts = Parts::read(text)?;
    let zone = match parts.zone {
        Some(name) => Zone::parse(name)?,
        None => Zone::Region(session),
    };
    Some(zone.to_micros(parts.local()?))
}

/// The microseconds of a timestamp without time zone, as if the clock showed UTC; a text with a zone is refused.
pub fn parse_timestamp_ntz(text: &str) -> Option<i64> {
    let parts = Parts::read(text)?;
    match parts.zone {
        Some(_) => None,
        None => Some(parts.local()?.and_utc().timestamp_micros()),
    }
}

/// The days since 1970 of a date.
pub fn parse_date(text: &str) -> Option<i32> {
    let mut rest = Digits { bytes: text.trim_matches(is_trimmed).as_bytes() };
    let negative = rest.sign();
    let year = rest.number(4..=7)?;
    let (mut month, mut day) = (1, 1);
    if rest.take(b'-') {
        month = rest.number(1..=2)?;
        if rest.take(b'-') {
            day = rest.number(1..=2)?;
            if rest.take(b'T') || rest.take(b' ') {
                rest.bytes = &[];
            }
        }
    }
    if !rest.bytes.is_empty() {
        return None;
    }
    days_from_civil(if negative { -year } else { year }, month, day)
}

/// The days since 1970 of a day of the proleptic Gregorian calendar, or `None` if there is no such day.
///
/// Works for years of seven digits, which `chrono` does not hold.
pub fn days_from_civil(year: i32, month: i32, day: i32) -> Option<i32> {
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    // Howard Hinnant's days_from_civil: years begin in March, so that the leap day is the last.
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Spark trims white space and all other control characters.
fn is_trimmed(c: char) -> bool {
    c.is_ascii() && (c <= ' ' || c == '\x7f')
}

/// A timestamp taken apart, not yet checked against the calendar.
struct Parts<'a> {
    date: [i32; 3],
    time: [i32; 3],
    micros: i32,
    zone: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let text = text.trim_matches(is_trimmed);
        let mut rest = Digits { bytes: text.as_bytes() };
        let negative = rest.sign();
        let mut parts = Self { date: [rest.number(4..=6)?, 1, 1], time: [0; 3], micros: 0, zone: None };
        if negative {
            parts.date[0] = -parts.date[0];
        }
        // Each part is there only if the one before it is, behind the mark that belongs to it.
        for part in 1..6 {
            let marked = match part {
                1 | 2 => rest.take(b'-'),
                3 => rest.take(b'T') || rest.take(b' '),
                _ => rest.take(b':'),
            };
            if !marked {
                return rest.bytes.is_empty().then_some(parts);
            }
            let value = rest.number(1..=2)?;
            if part < 3 { parts.date[part] = value } else { parts.time[part - 3] = value }
        }
        if rest.take(b'.') {
            parts.micros = rest.fraction();
        }
        if !rest.bytes.is_empty() {
            parts.zone = Some(&text[text.len() - rest.bytes.len()..]);
        }
        Some(parts)
    }

    fn local(&self) -> Option<NaiveDateTime> {
        let unsigned = |n: i32| u32::try_from(n).ok();
        let [year, month, day] = self.date;
        let [hour, minute, second] = self.time;
        let date = NaiveDate::from_ymd_opt(year, unsigned(month)?, unsigned(day)?)?;
        let (hour, minute, second) = (unsigned(hour)?, unsigned(minute)?, unsigned(second)?);
        Some(date.and_time(NaiveTime::from_hms_micro_opt(hour, minute, second, unsigned(self.micros)?)?))
    }
}

/// The bytes that are not yet read.
struct Digits<'a> {
    bytes: &'a [u8],
}

impl Digits<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let found = self.bytes.first() == Some(&byte);
        self.bytes = &self.bytes[usize::from(found)..];
        found
    }

    fn sign(&mut self) -> bool {
        let negative = self.take(b'-');
        let _ = negative || self.take(b'+');
        negative
    }

    fn number(&mut self, widths: std::ops::RangeInclusive<usize>) -> Option<i32> {
        let width = self.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let value = self.bytes[..width.min(9)].iter().fold(0, |n, b| n * 10 + i32::from(b - b'0'));
        self.bytes = &self.bytes[width..];
        widths.contains(&width).then_some(value)
    }

    fn fraction(&mut self) -> i32 {
        let width = self.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let digits = self.bytes[..width].iter().map(|b| i32::from(b - b'0'));
        let micros = digits.chain(std::iter::repeat(0)).take(6).fold(0, |n, d| n * 10 + d);
        self.bytes = &self.bytes[width..];
        micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        text.parse::<NaiveDateTime>().expect("a timestamp").and_utc().timestamp_micros()
    }

    /// Golden: `from_json` of Spark 4.3 in a session in UTC.
    #[test]
    fn timestamps() {
        for (text, expected) in [
            ("2024-01-02T03:04:05.123Z", Some("2024-01-02T03:04:05.123")),
            ("2024-01-02T03:04:05.123456789Z", Some("2024-01-02T03:04:05.123456")),
            ("2024-01-02 03:04:05", Some("2024-01-02T03:04:05")),
            ("2024-01-02T03:04:05+02:00", Some("2024-01-02T01:04:05")),
            ("2024-01-02T03:04:05 Europe/Berlin", Some("2024-01-02T02:04:05")),
            ("2024-01-02T03:04:05.5[Europe/Berlin]", None),
            ("2024-01-02", Some("2024-01-02T00:00:00")),
            ("2024-01-02 03", Some("2024-01-02T03:00:00")),
            ("2024-01-02 03:04", Some("2024-01-02T03:04:00")),
            ("2024", Some("2024-01-01T00:00:00")),
            ("2024-01", Some("2024-01-01T00:00:00")),
            ("2024-1-2 3:4:5", Some("2024-01-02T03:04:05")),
            (" 2024-01-02 03:04:05 ", Some("2024-01-02T03:04:05")),
            ("2024-01-02T03:04:05.Z", Some("2024-01-02T03:04:05")),
            ("2024-01-02T03:04:05. Z", Some("2024-01-02T03:04:05")),
            ("2024-01-02 03:04:05.1Europe/Berlin", Some("2024-01-02T02:04:05.1")),
            ("2024-01-02T03:04:05PST", Some("2024-01-02T11:04:05")),
            ("2024-01-02t03:04:05z", None),
            ("2024-01-02 03:04:", None),
            ("2024-01-02T", None),
            ("2024-01-02T03:04Z", None),
            ("2024-01-02Z", None),
            ("2024-01-02  03:04:05", None),
            ("2024-02-30T00:00:00Z", None),
            ("2024-01-02T24:00:00Z", None),
            ("2024-01-02T23:59:60Z", None),
            ("2024-01-02 003:04:05", None),
            ("024-01-02 03:04:05", None),
            ("1234567-01-02 00:00:00", None),
            ("1704164645", None),
            ("", None),
            ("x", None),
            ("2024-01-02T03:04:05é", None),
        ] {
            assert_eq!(parse_timestamp(text, Tz::UTC), expected.map(micros), "{text}");
        }
        let far = Some(micros("+12024-01-02T03:04:05"));
        assert_eq!(parse_timestamp("12024-01-02T03:04:05Z", Tz::UTC), far);
        assert_eq!(parse_timestamp_ntz("2024-01-02T03:04:05Z"), None);
        assert_eq!(parse_timestamp_ntz("2024-01-02T03:04:05"), Some(micros("2024-01-02T03:04:05")));
    }

    /// Golden: `from_json` and CSV of Spark 4.3.
    #[test]
    fn dates() {
        let jan_2 = Some(19_724);
        for (text, expected) in [
            ("2024-01-02", jan_2),
            ("2024-1-2", jan_2),
            (" 2024-01-02 ", jan_2),
            ("2024-01-02T10:00:00", jan_2),
            ("2024-01-02 junk", jan_2),
            ("2024-01-02T", jan_2),
            ("+2024-01-02", jan_2),
            ("2024", Some(19_723)),
            ("2024-01", Some(19_723)),
            ("1970-01-01", Some(0)),
            ("2024-01-02Z", None),
            ("2024-02-30", None),
            ("2024-13-01", None),
            ("2024-", None),
            ("2024-001-02", None),
            ("20240102", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text), expected, "{text}");
        }
    }

    #[test]
    fn days_agree_with_chrono() {
        let epoch = NaiveDate::default();
        for days in (-800_000..800_000).step_by(37) {
            let date = epoch + chrono::TimeDelta::days(i64::from(days));
            let (y, m, d) =
                (chrono::Datelike::year(&date), chrono::Datelike::month(&date), chrono::Datelike::day(&date));
            assert_eq!(days_from_civil(y, m as i32, d as i32), Some(days));
        }
    }
}
