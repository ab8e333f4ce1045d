//! Time zones as Spark reads them, and the step between local time and instants.
//!
//! A zone in a text is an offset (`Z`, `+1`, `+01:30`, `+013015`), a prefix with an offset (`UTC+1`, `GMT-08:00`), one
//! of Java's short names (`PST`, `EST`) or a region of the time zone database. Names are case-sensitive, offsets go to
//! 18 hours.

use chrono::{DateTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _};
use chrono_tz::Tz;

pub use crate::plan::functions::cast::local_micros;

/// A zone that was read from a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Seconds east of UTC.
    Fixed(i32),
    /// A region with its rules.
    Region(Tz),
}

const MAX_OFFSET_SECONDS: i32 = 18 * 3600;

/// The names of `java.time.ZoneId.SHORT_IDS`, which Spark passes along; three are plain offsets.
const SHORT_IDS: [(&str, &str); 28] = [
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Argentina/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Harare"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("EAT", "Africa/Addis_Ababa"),
    ("ECT", "Europe/Paris"),
    ("IET", "America/Indiana/Indianapolis"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("VST", "Asia/Ho_Chi_Minh"),
    ("EST", "-05:00"),
    ("MST", "-07:00"),
    ("HST", "-10:00"),
];

impl Zone {
    /// Reads the name of a zone, white space around it aside.
    ///
    /// Beyond Java's forms, one digit is enough for the hour and for the minute (`+1:5`), as in Spark.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "Z" {
            return Some(Self::Fixed(0));
        }
        if text.starts_with(['+', '-']) {
            return offset_seconds(text).map(Self::Fixed);
        }
        for prefix in ["UTC", "GMT", "UT"] {
            match text.strip_prefix(prefix) {
                Some("") => return Some(Self::Fixed(0)),
                Some(offset) if offset.starts_with(['+', '-']) => return offset_seconds(offset).map(Self::Fixed),
                _ => {}
            }
        }
        let name = SHORT_IDS.iter().find(|(short, _)| *short == text).map_or(text, |(_, long)| *long);
        if name.starts_with('-') {
            return offset_seconds(name).map(Self::Fixed);
        }
        name.parse().ok().map(Self::Region)
    }

    /// The instant, in microseconds since 1970, at which clocks in this zone show `local`.
    ///
    /// As in Java, a time that clocks skip is moved forward by the length of the gap, and of a time that they show
    /// twice the first is taken.
    pub fn to_micros(self, local: NaiveDateTime) -> i64 {
        let wall = local.and_utc().timestamp_micros();
        match self {
            Self::Fixed(seconds) => wall - i64::from(seconds) * 1_000_000,
            Self::Region(tz) => wall - local_offset_seconds(tz, local) * 1_000_000,
        }
    }
}

fn local_offset_seconds(tz: Tz, local: NaiveDateTime) -> i64 {
    if tz == Tz::UTC {
        return 0;
    }
    let seconds = |offset: <Tz as chrono::TimeZone>::Offset| i64::from(offset.fix().local_minus_utc());
    match tz.offset_from_local_datetime(&local) {
        chrono::MappedLocalTime::Single(offset) => seconds(offset),
        chrono::MappedLocalTime::Ambiguous(first, _) => seconds(first),
        // In a gap the offset from before it moves the time forward. Gaps are shorter than a day.
        chrono::MappedLocalTime::None => {
            let before = local.checked_sub_signed(TimeDelta::days(1)).unwrap_or(local);
            tz.offset_from_local_datetime(&before).earliest().map_or(0, seconds)
        }
    }
}

/// What clocks in `tz` show at an instant; `None` outside the years that `chrono` knows.
pub fn local_time(micros: i64, tz: Tz) -> Option<NaiveDateTime> {
    let utc = DateTime::from_timestamp_micros(micros)?.naive_utc();
    utc.checked_add_signed(TimeDelta::seconds(utc_offset_seconds(micros, tz)))
}

/// How many seconds clocks in `tz` are ahead of UTC at an instant.
pub fn utc_offset_seconds(micros: i64, tz: Tz) -> i64 {
    if tz == Tz::UTC {
        return 0;
    }
    let offset = |utc: DateTime<chrono::Utc>| tz.offset_from_utc_datetime(&utc.naive_utc()).fix();
    DateTime::from_timestamp_micros(micros).map_or(0, |utc| i64::from(offset(utc).local_minus_utc()))
}

/// Reads `+h[h][:m[m][:ss]]` or `+hhmm[ss]`.
fn offset_seconds(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = &text[1..];
    let parts: Vec<&str> = if digits.contains(':') {
        digits.split(':').collect()
    } else {
        match digits.len() {
            1 | 2 => vec![digits],
            4 if digits.is_ascii() => vec![&digits[..2], &digits[2..]],
            6 if digits.is_ascii() => vec![&digits[..2], &digits[2..4], &digits[4..]],
            _ => return None,
        }
    };
    let number = |part: &str, widths: std::ops::RangeInclusive<usize>| -> Option<i32> {
        let valid = widths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if valid { part.parse().ok() } else { None }
    };
    let (hours, minutes, seconds) = match parts.as_slice() {
        [h] => (number(h, 1..=2)?, 0, 0),
        [h, m] => (number(h, 1..=2)?, number(m, 1..=2)?, 0),
        [h, m, s] => (number(h, 1..=2)?, number(m, 2..=2)?, number(s, 2..=2)?),
        _ => return None,
    };
    let total = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && total <= MAX_OFFSET_SECONDS).then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_read_as_spark_reads_them() {
        for (text, expected) in [
            ("Z", Some(0)),
            ("+02:00", Some(7200)),
            ("+0200", Some(7200)),
            ("+02", Some(7200)),
            (" +1 ", Some(3600)),
            ("+1:3", Some(3780)),
            ("+01:30:15", Some(5415)),
            ("+013015", Some(5415)),
            ("UTC+01:00", Some(3600)),
            ("UT+5", Some(18000)),
            ("GMT+1", Some(3600)),
            ("EST", Some(-18000)),
            ("-18:00", Some(-64800)),
            ("+18:01", None),
            ("+130", None),
            ("+01:3015", None),
            ("utc", None),
            ("z", None),
            ("", None),
            ("+", None),
            ("+é", None),
            ("Nowhere/City", None),
        ] {
            assert_eq!(Zone::parse(text), expected.map(Zone::Fixed), "{text}");
        }
        assert_eq!(Zone::parse("PST"), Some(Zone::Region(Tz::America__Los_Angeles)));
        assert_eq!(Zone::parse("Europe/Berlin"), Some(Zone::Region(Tz::Europe__Berlin)));
    }

    #[test]
    fn gaps_move_forward_and_overlaps_take_the_first() {
        let berlin = Zone::Region(Tz::Europe__Berlin);
        let instant = |text: &str| text.parse::<NaiveDateTime>().map(|t| t.and_utc().timestamp_micros());
        for (local, utc) in [
            ("2024-03-31T02:30:00", "2024-03-31T01:30:00"),
            ("2024-10-27T02:30:00", "2024-10-27T00:30:00"),
            ("2024-01-02T03:04:05", "2024-01-02T02:04:05"),
        ] {
            let local = local.parse().expect("a local time");
            assert_eq!(Ok(berlin.to_micros(local)), instant(utc));
        }
    }
}
