//! The gap of a session: a calendar interval in a text, and a time moved by it.
//!
//! A text is read as Spark casts a string to an interval: `'5 seconds'`, `'interval 1 hour 30 minutes'`, `'- 1 day'`.
//! What cannot be read is no gap, and not an error: whoever asks decides what that means. Unlike the intervals of
//! expressions a gap keeps days apart from hours, because a day is not always 24 hours long.

use chrono::{Days, Months, NaiveDateTime};

use crate::plan::datetime_pattern::zone::Zone;
use crate::plan::functions::cast::{instant_of, local_of};

/// A calendar interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) months: i32,
    pub(super) days: i32,
    pub(super) micros: i64,
}

/// What a unit's amount is counted in.
enum Unit {
    Months(i64),
    Days(i64),
    Micros(i64),
}

/// Digits of a fraction that count; the last three are below a microsecond.
const FRACTION_DIGITS: usize = 9;

impl Gap {
    /// Reads a text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let lower = text.to_lowercase();
        let mut words = lower.split_whitespace().peekable();
        if words.peek() == Some(&"interval") {
            words.next();
        }
        words.peek()?;
        let mut gap = Self::default();
        while let Some(word) = words.next() {
            let (is_negative, number) = match word.strip_prefix('-') {
                Some(number) => (true, number),
                None => (false, word.strip_prefix('+').unwrap_or(word)),
            };
            let was_signed = number.len() < word.len();
            let number = if number.is_empty() && was_signed { words.next()? } else { number };
            gap = gap.plus(number, is_negative, words.next()?)?;
        }
        Some(gap)
    }

    fn plus(self, number: &str, is_negative: bool, unit: &str) -> Option<Self> {
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let is_seconds = matches!(unit, "second" | "seconds");
        if fraction.is_some() && !is_seconds {
            return None;
        }
        let fraction_micros = fraction.map_or(Some(0), |digits| micros_of_fraction(digits, !whole.is_empty()))?;
        let whole = if whole.is_empty() && fraction.is_some() { 0 } else { digits_of(whole)? };
        let sign = if is_negative { -1 } else { 1 };
        let amount = whole * sign;
        Some(match unit_of(unit)? {
            Unit::Months(each) => {
                let months = i32::try_from(amount.checked_mul(each)?).ok()?;
                Self { months: self.months.checked_add(months)?, ..self }
            }
            Unit::Days(each) => {
                let days = i32::try_from(amount.checked_mul(each)?).ok()?;
                Self { days: self.days.checked_add(days)?, ..self }
            }
            Unit::Micros(each) => {
                let micros = amount.checked_mul(each)?.checked_add(fraction_micros * sign)?;
                Self { micros: self.micros.checked_add(micros)?, ..self }
            }
        })
    }

    /// The end of a session that begins at an instant; none if it is out of range, or not after the beginning.
    pub(super) fn end_of(self, start_us: i64, zone: Zone) -> Option<i64> {
        let moved = if self.months == 0 && self.days == 0 {
            start_us
        } else {
            instant_of(self.step(local_of(start_us, zone))?, zone)
        };
        moved.checked_add(self.micros).filter(|end_us| *end_us > start_us)
    }

    /// A local time moved by the months and days: a day that the month does not have becomes its last.
    fn step(self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let months = Months::new(self.months.unsigned_abs());
        let days = Days::new(self.days.unsigned_abs().into());
        let local = if self.months < 0 { local.checked_sub_months(months) } else { local.checked_add_months(months) }?;
        if self.days < 0 { local.checked_sub_days(days) } else { local.checked_add_days(days) }
    }
}

fn digits_of(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `1.` is one second, `.` is nothing at all.
fn micros_of_fraction(digits: &str, may_be_empty: bool) -> Option<i64> {
    if digits.is_empty() {
        return may_be_empty.then_some(0);
    }
    if digits.len() > FRACTION_DIGITS {
        return None;
    }
    digits_of(&format!("{digits:0<FRACTION_DIGITS$}")).map(|nanos| nanos / 1000)
}

fn unit_of(name: &str) -> Option<Unit> {
    Some(match name.strip_suffix('s').unwrap_or(name) {
        "year" => Unit::Months(12),
        "month" => Unit::Months(1),
        "week" => Unit::Days(7),
        "day" => Unit::Days(1),
        "hour" => Unit::Micros(3_600_000_000),
        "minute" => Unit::Micros(60_000_000),
        "second" => Unit::Micros(1_000_000),
        "millisecond" => Unit::Micros(1000),
        "microsecond" => Unit::Micros(1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Months, days and microseconds.
    fn check(text: &str, expected: Option<(i32, i32, i64)>) {
        let found = Gap::parse(text).map(|gap| (gap.months, gap.days, gap.micros));
        assert_eq!(found, expected, "'{text}'");
    }

    #[test]
    fn texts_are_read_as_spark_casts_strings_to_intervals() {
        check("5 seconds", Some((0, 0, 5 * SECOND)));
        check(" INTERVAL 1 hour 30 Minutes ", Some((0, 0, 5400 * SECOND)));
        check("1 year 2 months -1 week 3 days", Some((14, -4, 0)));
        check("- 1 second", Some((0, 0, -SECOND)));
        check("+1.5 seconds", Some((0, 0, 1_500_000)));
        check("-1.5 seconds", Some((0, 0, -1_500_000)));
        check(".000001999 second", Some((0, 0, 1)));
        check("1. second", Some((0, 0, SECOND)));
        check("0 seconds", Some((0, 0, 0)));
        check("10 milliseconds 7 microsecond", Some((0, 0, 10_007)));
        for text in [
            "",
            "  ",
            "interval",
            "rubbish",
            "5",
            "5seconds",
            "five seconds",
            "1.5 minutes",
            ". second",
            "1 fortnight",
            "1 second 2",
            "-- 1 second",
            "0.1234567891 seconds",
            "99999999999999999999 seconds",
            "1 secondss",
            "9999999999 years",
            "9223372036854775807 hours",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn days_and_months_are_steps_on_the_calendar_of_the_zone() {
        let instant = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let end = |text: &str, start: &str, zone| Gap::parse(text).unwrap().end_of(instant(start), zone);
        let utc = Zone::Fixed(0);
        // The clocks went forward on 31 March.
        assert_eq!(end("1 day", "2024-03-30T12:00:00Z", berlin), Some(instant("2024-03-31T11:00:00Z")));
        assert_eq!(end("24 hours", "2024-03-30T12:00:00Z", berlin), Some(instant("2024-03-31T12:00:00Z")));
        assert_eq!(end("1 month", "2024-01-31T00:00:02Z", utc), Some(instant("2024-02-29T00:00:02Z")));
        assert_eq!(end("1 month -30 days", "2024-02-01T00:00:00Z", utc), None);
        for nothing in ["0 seconds", "-1 second", "9000000000000 seconds"] {
            let far = i64::MAX - SECOND;
            assert_eq!(Gap::parse(nothing).unwrap().end_of(far, utc), None, "{nothing}");
        }
    }
}
