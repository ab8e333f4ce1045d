//! Where `topic consume` begins and ends: kcat's `-o`, and times as people write them.
//!
//! | text | is |
//! |---|---|
//! | `beginning`, `end` | the oldest record; behind the newest |
//! | `stored` | where the group of `--group` stands |
//! | `N`, `-N` | that offset; the last N of each partition |
//! | `s@TIME`, `e@TIME` | begin with, end before the first record of that time |
//!
//! A time is milliseconds since 1970, RFC 3339 (`2026-01-31T12:00:00Z`), a date, or `-15m`: that long ago.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// One `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// Begin there.
    From(Start),
    /// End before the first record of this time or later, in milliseconds.
    Until(i64),
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The oldest record there is.
    Beginning,
    /// After the newest.
    End,
    /// Where the group stands.
    Stored,
    /// An offset.
    At(i64),
    /// So many before the end.
    Last(i64),
    /// The first record of that time or later, in milliseconds.
    Time(i64),
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse::<i64>().ok().filter(|number| *number >= 0);
        let start = match text {
            "beginning" | "earliest" => Some(Start::Beginning),
            "end" | "latest" => Some(Start::End),
            "stored" => Some(Start::Stored),
            _ => {
                if let Some(time) = text.strip_prefix("s@") {
                    return moment(time).map(|time| Self::From(Start::Time(time)));
                }
                if let Some(time) = text.strip_prefix("e@") {
                    return moment(time).map(Self::Until);
                }
                match text.strip_prefix('-') {
                    Some(last) => number(last).map(Start::Last),
                    None => number(text).map(Start::At),
                }
            }
        };
        start.map(Self::From).ok_or_else(|| {
            format!("'{text}' is not one of beginning, end, stored, N, -N, s@TIME (from then on), e@TIME (until then)")
        })
    }
}

/// A time in milliseconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    if let Some(millis) = text.parse::<i64>().ok().filter(|millis| *millis >= 0) {
        return Ok(millis);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis());
    }
    let ago = text.strip_prefix('-').and_then(|text| crate::duration::parse(text).ok());
    match ago.and_then(|ago| i64::try_from(ago.as_millis()).ok()) {
        Some(ago) => Ok(Utc::now().timestamp_millis().saturating_sub(ago).max(0)),
        None => Err(format!("'{text}' is not a time such as 1767225600000, 2026-01-01T00:00:00Z, 2026-01-01 or -15m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_kcat_reads_them() {
        let from = |text: &str| match text.parse() {
            Ok(Where::From(start)) => start,
            other => panic!("{text} is {other:?}"),
        };
        assert_eq!(from("beginning"), Start::Beginning);
        assert_eq!(from("end"), Start::End);
        assert_eq!(from("stored"), Start::Stored);
        assert_eq!(from("42"), Start::At(42));
        assert_eq!(from("-5"), Start::Last(5));
        assert_eq!(from("s@1700000000000"), Start::Time(1_700_000_000_000));
        assert!("--5".parse::<Where>().unwrap_err().starts_with("'--5' is not one of"));
    }

    #[test]
    fn times_are_numbers_dates_or_ago() {
        assert_eq!("e@1700000000000".parse(), Ok(Where::Until(1_700_000_000_000)));
        assert_eq!("s@2026-01-01T01:00:00+01:00".parse(), Ok(Where::From(Start::Time(1_767_225_600_000))));
        assert_eq!("e@2026-01-01".parse(), Ok(Where::Until(1_767_225_600_000)));
        let Ok(Where::From(Start::Time(hour_ago))) = "s@-1h".parse() else { panic!("-1h is a time") };
        let since = Utc::now().timestamp_millis() - hour_ago;
        assert!((3_600_000..3_700_000).contains(&since), "{since}");
        assert!("s@yesterday".parse::<Where>().unwrap_err().starts_with("'yesterday' is not a time"));
    }
}
