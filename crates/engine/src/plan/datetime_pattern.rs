//! Spark's datetime patterns (`yyyy-MM-dd HH:mm:ss`), compiled once, to read and to write timestamps and dates.
//!
//! ```text
//! "yyyy-MM-dd['T'HH]" --compile--> [Number(Year), Literal, ..., Optional([...])] --parse/format--> micros
//! ```
//!
//! `to_timestamp`, `date_format` and the options `timestampFormat` and `dateFormat` come here. Results are those of
//! Spark 4.3 with `spark.sql.legacy.timeParserPolicy=EXCEPTION`, which uses Java's `DateTimeFormatter`:
//!
//! | letter | meaning | letter | meaning |
//! |---|---|---|---|
//! | `y`, `yy`, `yyyy` | year, two digits are 2000 to 2099 | `a` | AM or PM |
//! | `M`, `MM`, `MMM`, `MMMM`, `L` | month | `S` 1 to 9 times | fraction of a second |
//! | `d`, `D` | day of month, of year | `X`, `x`, `Z`, `O` | offset |
//! | `H`, `k`, `h`, `K` | hour 0-23, 1-24, 1-12, 0-11 | `VV`, `z` | zone id, short name |
//! | `m`, `s` | minute, second | `E`, `Q`, `q`, `F` | only to write |
//! | `'text'`, `''` | literal, quote | `[...]`, `G` | optional part, era |
//!
//! Reading: a text must match to its end, letters match in any case, missing parts default to 1970-01-01 00:00:00, and
//! an impossible date is no date. Writing shows the parts in the given time zone.
//!
//! It refuses the letters that Spark refuses (`Y W w u e c A B n N p`) and, unlike Spark, the full names of zones
//! (`zzzz`), which need Java's tables. Digits of the fraction after the sixth are read and cut off.

pub mod cast;
mod fields;
pub mod zone;

use std::fmt::Write as _;

use chrono::{Datelike as _, NaiveDateTime, Timelike as _};
use chrono_tz::Tz;

use fields::Fields;
use zone::{Zone, local_time, utc_offset_seconds};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const QUARTERS: [&str; 4] = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A letter has no meaning here, or not that many times.
    #[error("the datetime pattern `{pattern}` has `{found}`, which is not supported; letters are {LETTERS}")]
    Letter {
        /// The whole pattern.
        pattern: String,
        /// The letter, as often as it stands there.
        found: String,
    },
    /// A quote or bracket without its other half, or a reserved character.
    #[error("the datetime pattern `{pattern}` has an unexpected `{found}`; put literal text in single quotes")]
    Unbalanced {
        /// The whole pattern.
        pattern: String,
        /// The character.
        found: char,
    },
}

const LETTERS: &str = "y(1-6) M(1-4) L(1-4) d(1-2) D(1-3) H(1-2) k(1-2) h(1-2) K(1-2) m(1-2) s(1-2) S(1-9) a E(1-4) \
     Q(1-4) q(1-4) G(1-4) F X(1-5) x(1-5) Z(1-5) O(1,4) VV z(1-3)";

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateTimePattern {
    items: Vec<Item>,
    /// Some letters have no way back; Spark refuses such patterns for reading.
    write_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Literal(char),
    /// At least and at most so many digits; a year of four may grow only with a sign, as in Java.
    Number(Field, usize, usize),
    /// Two digits, 2000 to 2099.
    ShortYear,
    Fraction(usize),
    Text(Text),
    Offset(OffsetStyle),
    ZoneId,
    ZoneName,
    Optional(Vec<Item>),
}

/// The parts of a time that are written as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    Hour,
    ClockHour,
    ClockHourOfAmPm,
    HourOfAmPm,
    Minute,
    Second,
    Quarter,
    WeekOfDay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    ShortMonth,
    LongMonth,
    ShortWeekday,
    LongWeekday,
    ShortQuarter,
    LongQuarter,
    AmPm,
    ShortEra,
    LongEra,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OffsetStyle {
    /// What stands for no offset; nothing means that it is written like any other.
    zero: &'static str,
    prefix: &'static str,
    colon: bool,
    minutes: Minutes,
    seconds: bool,
    short_hour: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Minutes {
    Always,
    IfNotZero,
}

impl DateTimePattern {
    /// Compiles a pattern.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        let mut compiler = Compiler { pattern, chars: pattern.chars().peekable(), write_only: false };
        let items = compiler.items(0)?;
        Ok(Self { items, write_only: compiler.write_only })
    }

    /// Whether [`parse`](Self::parse) can ever succeed: Spark refuses `E`, `F`, `Q` and `q` for reading.
    pub fn can_parse(&self) -> bool {
        !self.write_only
    }

    /// Reads a timestamp as microseconds since 1970; a text without a zone is local time in `tz`.
    pub fn parse(&self, text: &str, tz: Tz) -> Option<i64> {
        self.parse_in(text, Zone::Region(tz))
    }

    /// The same where the session's zone may be an offset.
    pub fn parse_in(&self, text: &str, session: Zone) -> Option<i64> {
        let fields = self.fields(text)?;
        let zone = fields.zone.unwrap_or(session);
        Some(zone.to_micros(fields.date()?.and_time(fields.time()?)))
    }

    /// Reads a timestamp without time zone: what the clock shows, as if it showed UTC. A zone in the text is ignored.
    pub fn parse_local(&self, text: &str) -> Option<i64> {
        let fields = self.fields(text)?;
        Some(fields.date()?.and_time(fields.time()?).and_utc().timestamp_micros())
    }

    /// Reads a date as days since 1970. A time in the text must be possible but is ignored.
    pub fn parse_date(&self, text: &str) -> Option<i32> {
        let fields = self.fields(text)?;
        let date = fields.date()?;
        fields.time()?;
        i32::try_from(date.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()
    }

    /// Appends the instant `micros` as clocks in `tz` show it. Years beyond 262,000 append nothing.
    pub fn format(&self, micros: i64, tz: Tz, out: &mut String) {
        if let Some(local) = local_time(micros, tz) {
            let moment = Moment { local, micros, tz };
            format_items(&self.items, &moment, out);
        }
    }

    /// Appends a date, given in days since 1970, as of its midnight.
    pub fn format_date(&self, days: i32, out: &mut String) {
        self.format(i64::from(days) * 86_400_000_000, Tz::UTC, out);
    }

    fn fields(&self, text: &str) -> Option<Fields> {
        if self.write_only {
            return None;
        }
        let mut fields = Fields::default();
        let rest = fields::parse_items(&self.items, text, &mut fields)?;
        rest.is_empty().then_some(fields)
    }
}

struct Compiler<'a> {
    pattern: &'a str,
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    write_only: bool,
}

/// Brackets nest; nobody needs more than a few, and the compiler is recursive.
const MAX_NESTING: usize = 16;

impl Compiler<'_> {
    /// Items up to the closing bracket of this level, or to the end: Java closes open brackets there by itself.
    fn items(&mut self, depth: usize) -> Result<Vec<Item>, PatternError> {
        let mut items = Vec::new();
        while let Some(c) = self.chars.next() {
            match c {
                '[' if depth < MAX_NESTING => items.push(Item::Optional(self.items(depth + 1)?)),
                ']' if depth > 0 => return Ok(items),
                '\'' => self.quoted(&mut items)?,
                '[' | ']' | '{' | '}' | '#' => return Err(self.unbalanced(c)),
                _ if c.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while self.chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    items.push(self.letter(c, count)?);
                }
                _ => items.push(Item::Literal(c)),
            }
        }
        Ok(items)
    }

    fn quoted(&mut self, items: &mut Vec<Item>) -> Result<(), PatternError> {
        if self.chars.next_if_eq(&'\'').is_some() {
            items.push(Item::Literal('\''));
            return Ok(());
        }
        while let Some(c) = self.chars.next() {
            if c == '\'' && self.chars.next_if_eq(&'\'').is_none() {
                return Ok(());
            }
            items.push(Item::Literal(c));
        }
        Err(self.unbalanced('\''))
    }

    fn unbalanced(&self, found: char) -> PatternError {
        PatternError::Unbalanced { pattern: self.pattern.to_owned(), found }
    }

    fn letter(&mut self, letter: char, count: usize) -> Result<Item, PatternError> {
        self.write_only |= matches!(letter, 'E' | 'F' | 'Q' | 'q');
        let number = |field, max| Item::Number(field, count, if count == 1 { 19 } else { max });
        Ok(match (letter, count) {
            ('y', 2) => Item::ShortYear,
            ('y', 1..=6) => Item::Number(Field::Year, count, 19),
            ('M' | 'L', 1 | 2) => number(Field::Month, 2),
            ('M' | 'L', 3) => Item::Text(Text::ShortMonth),
            ('M' | 'L', 4) => Item::Text(Text::LongMonth),
            ('d', 1 | 2) => number(Field::Day, 2),
            // `DD` is two digits or three, there being days after the 99th.
            ('D', 1..=3) => number(Field::DayOfYear, 3),
            ('H', 1 | 2) => number(Field::Hour, 2),
            ('k', 1 | 2) => number(Field::ClockHour, 2),
            ('h', 1 | 2) => number(Field::ClockHourOfAmPm, 2),
            ('K', 1 | 2) => number(Field::HourOfAmPm, 2),
            ('m', 1 | 2) => number(Field::Minute, 2),
            ('s', 1 | 2) => number(Field::Second, 2),
            ('F', 1) => number(Field::WeekOfDay, 1),
            ('S', 1..=9) => Item::Fraction(count),
            ('Q' | 'q', 1 | 2) => number(Field::Quarter, 2),
            ('Q' | 'q', 3) => Item::Text(Text::ShortQuarter),
            ('Q' | 'q', 4) => Item::Text(Text::LongQuarter),
            ('E', 1..=3) => Item::Text(Text::ShortWeekday),
            ('E', 4) => Item::Text(Text::LongWeekday),
            ('a', 1) => Item::Text(Text::AmPm),
            ('G', 1..=3) => Item::Text(Text::ShortEra),
            ('G', 4) => Item::Text(Text::LongEra),
            ('V', 2) => Item::ZoneId,
            ('z', 1..=3) => Item::ZoneName,
            ('X' | 'x' | 'Z' | 'O', _) => match offset_style(letter, count) {
                Some(style) => Item::Offset(style),
                None => return Err(self.unsupported(letter, count)),
            },
            _ => return Err(self.unsupported(letter, count)),
        })
    }

    fn unsupported(&self, letter: char, count: usize) -> PatternError {
        PatternError::Letter { pattern: self.pattern.to_owned(), found: letter.to_string().repeat(count) }
    }
}

fn offset_style(letter: char, count: usize) -> Option<OffsetStyle> {
    let style =
        |zero, colon, minutes, seconds| OffsetStyle { zero, prefix: "", colon, minutes, seconds, short_hour: false };
    let zero = if letter == 'X' { "Z" } else { "" };
    let long_gmt = OffsetStyle { prefix: "GMT", ..style("GMT", true, Minutes::Always, true) };
    Some(match (letter, count) {
        ('X' | 'x', 1) => style(zero, false, Minutes::IfNotZero, false),
        ('X' | 'x', 2) => style(zero, false, Minutes::Always, false),
        ('X' | 'x', 3) => style(zero, true, Minutes::Always, false),
        ('X' | 'x', 4) => style(zero, false, Minutes::Always, true),
        ('X' | 'x', 5) => style(zero, true, Minutes::Always, true),
        ('Z', 1..=3) => style("", false, Minutes::Always, false),
        ('Z', 4) | ('O', 4) => long_gmt,
        ('Z', 5) => style("Z", true, Minutes::Always, true),
        ('O', 1) => OffsetStyle { minutes: Minutes::IfNotZero, short_hour: true, ..long_gmt },
        _ => return None,
    })
}

/// One instant and what the clock shows then.
struct Moment {
    local: NaiveDateTime,
    micros: i64,
    tz: Tz,
}

impl Moment {
    fn number(&self, field: Field) -> i64 {
        let (hour, date) = (self.local.hour(), self.local.date());
        i64::from(match field {
            Field::Year => return i64::from(date.year()),
            Field::Month => date.month(),
            Field::Day => date.day(),
            Field::DayOfYear => date.ordinal(),
            Field::Hour => hour,
            Field::ClockHour => (hour + 23) % 24 + 1,
            Field::ClockHourOfAmPm => (hour + 11) % 12 + 1,
            Field::HourOfAmPm => hour % 12,
            Field::Minute => self.local.minute(),
            Field::Second => self.local.second(),
            Field::Quarter => date.month0() / 3 + 1,
            Field::WeekOfDay => date.day0() / 7 + 1,
        })
    }

    fn text(&self, text: Text) -> &'static str {
        let month = MONTHS[self.local.month0() as usize];
        let weekday = WEEKDAYS[self.local.weekday().num_days_from_monday() as usize];
        let quarter = self.local.month0() as usize / 3;
        let after_christ = self.local.year() > 0;
        match text {
            Text::ShortMonth => &month[..3],
            Text::LongMonth => month,
            Text::ShortWeekday => &weekday[..3],
            Text::LongWeekday => weekday,
            Text::ShortQuarter => ["Q1", "Q2", "Q3", "Q4"][quarter],
            Text::LongQuarter => QUARTERS[quarter],
            Text::AmPm => ["AM", "PM"][usize::from(self.local.hour() >= 12)],
            Text::ShortEra => ["BC", "AD"][usize::from(after_christ)],
            Text::LongEra => ["Before Christ", "Anno Domini"][usize::from(after_christ)],
        }
    }

    fn zone_name(&self, out: &mut String) {
        use chrono_tz::OffsetName as _;
        let utc = self.local - chrono::TimeDelta::seconds(utc_offset_seconds(self.micros, self.tz));
        let offset = chrono::TimeZone::offset_from_utc_datetime(&self.tz, &utc);
        out.push_str(offset.abbreviation().unwrap_or(self.tz.name()));
    }
}

fn format_items(items: &[Item], moment: &Moment, out: &mut String) {
    for item in items {
        match item {
            Item::Literal(c) => out.push(*c),
            Item::Number(field, min, _) => format_number(moment.number(*field), *field, *min, out),
            Item::ShortYear => {
                let _ = write!(out, "{:02}", moment.local.year().rem_euclid(100));
            }
            Item::Fraction(digits) => {
                let nanos = format!("{:09}", moment.local.nanosecond() % 1_000_000_000);
                out.push_str(&nanos[..*digits]);
            }
            Item::Text(text) => out.push_str(moment.text(*text)),
            Item::Offset(style) => format_offset(utc_offset_seconds(moment.micros, moment.tz), *style, out),
            Item::ZoneId => out.push_str(moment.tz.name()),
            Item::ZoneName => moment.zone_name(out),
            Item::Optional(inner) => format_items(inner, moment, out),
        }
    }
}

fn format_number(number: i64, field: Field, min_digits: usize, out: &mut String) {
    let digits = number.unsigned_abs();
    if number < 0 {
        out.push('-');
    } else if field == Field::Year && min_digits >= 4 && digits >= 10_u64.pow(min_digits as u32) {
        // Java marks a year that is longer than its pattern, so that it can be read back.
        out.push('+');
    }
    let _ = write!(out, "{digits:0min_digits$}");
}

fn format_offset(seconds: i64, style: OffsetStyle, out: &mut String) {
    if seconds == 0 && !style.zero.is_empty() {
        out.push_str(style.zero);
        return;
    }
    let size = seconds.abs();
    let (hours, minutes, rest) = (size / 3600, size / 60 % 60, size % 60);
    out.push_str(style.prefix);
    out.push(if seconds < 0 { '-' } else { '+' });
    let _ = if style.short_hour { write!(out, "{hours}") } else { write!(out, "{hours:02}") };
    let colon = if style.colon { ":" } else { "" };
    if style.minutes == Minutes::Always || minutes != 0 {
        let _ = write!(out, "{colon}{minutes:02}");
    }
    if style.seconds && rest != 0 {
        let _ = write!(out, "{colon}{rest:02}");
    }
}

#[cfg(test)]
mod tests;
