//! What a pattern read from a text, and how a date and a time come of it.

use chrono::{NaiveDate, NaiveTime};

use super::zone::Zone;
use super::{Field, Item, MONTHS, Minutes, OffsetStyle, Text};

/// Spark's default for a year that is not in the text.
const DEFAULT_YEAR: i32 = 1970;

/// The parts that were found. A part found twice must be the same both times.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    year: Option<i64>,
    before_christ: Option<bool>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    hour_of_half: Option<i64>,
    afternoon: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    micros: u32,
    pub(super) zone: Option<Zone>,
}

impl Fields {
    /// The date, or `None` if there is no such day.
    pub(super) fn date(&self) -> Option<NaiveDate> {
        let year = match (self.year, self.before_christ) {
            (None, _) => DEFAULT_YEAR,
            (Some(year), None) => i32::try_from(year).ok()?,
            (Some(year), Some(_)) if year < 1 => return None,
            (Some(year), Some(before)) => i32::try_from(if before { 1 - year } else { year }).ok()?,
        };
        let number = |part: Option<i64>| u32::try_from(part.unwrap_or(1)).ok();
        let date = match self.day_of_year {
            Some(day) if self.year.is_some() => NaiveDate::from_yo_opt(year, u32::try_from(day).ok()?)?,
            _ => NaiveDate::from_ymd_opt(year, number(self.month)?, number(self.day)?)?,
        };
        let agrees = |part: Option<i64>, of_date: u32| part.is_none_or(|part| part == i64::from(of_date));
        let same = agrees(self.month, chrono::Datelike::month(&date)) && agrees(self.day, chrono::Datelike::day(&date));
        same.then_some(date)
    }

    /// The time, or `None` if there is no such time.
    pub(super) fn time(&self) -> Option<NaiveTime> {
        let hour = self.hour_of_day()?;
        let number = |part: i64| u32::try_from(part).ok();
        let (minute, second) = (number(self.minute.unwrap_or(0))?, number(self.second.unwrap_or(0))?);
        NaiveTime::from_hms_micro_opt(number(hour)?, minute, second, self.micros)
    }

    /// Without AM or PM, an hour of the half day is taken as AM; PM alone is noon.
    fn hour_of_day(&self) -> Option<i64> {
        let shift = if self.afternoon == Some(true) { 12 } else { 0 };
        match (self.hour, self.hour_of_half) {
            (Some(hour), half) => {
                let half_agrees = half.is_none_or(|half| half == hour % 12);
                let day_agrees = self.afternoon.is_none_or(|afternoon| afternoon == (hour >= 12));
                (half_agrees && day_agrees).then_some(hour)
            }
            (None, Some(half)) => Some(half + shift),
            (None, None) => Some(shift),
        }
    }

    fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let in_range = |low: i64, high: i64| (low..=high).contains(&value).then_some(value);
        match field {
            Field::Year => put(&mut self.year, value),
            Field::Month => put(&mut self.month, in_range(1, 12)?),
            Field::Day => put(&mut self.day, in_range(1, 31)?),
            Field::DayOfYear => put(&mut self.day_of_year, in_range(1, 366)?),
            Field::Hour => put(&mut self.hour, in_range(0, 23)?),
            Field::ClockHour => put(&mut self.hour, in_range(1, 24)? % 24),
            Field::ClockHourOfAmPm => put(&mut self.hour_of_half, in_range(1, 12)? % 12),
            Field::HourOfAmPm => put(&mut self.hour_of_half, in_range(0, 11)?),
            Field::Minute => put(&mut self.minute, in_range(0, 59)?),
            Field::Second => put(&mut self.second, in_range(0, 59)?),
            Field::Quarter | Field::WeekOfDay => None,
        }
    }
}

fn put<T: PartialEq>(slot: &mut Option<T>, value: T) -> Option<()> {
    if slot.as_ref().is_some_and(|before| *before != value) {
        return None;
    }
    *slot = Some(value);
    Some(())
}

/// Reads the items one after the other; what remains of the text, or `None` where it does not match.
pub(super) fn parse_items<'t>(items: &[Item], mut text: &'t str, fields: &mut Fields) -> Option<&'t str> {
    for (i, item) in items.iter().enumerate() {
        text = match item {
            Item::Literal(c) => parse_literal(text, *c)?,
            Item::Number(field, min, max) => parse_number(text, *field, *min, *max, &items[i + 1..], fields)?,
            Item::ShortYear => {
                let (value, rest) = digits(text, 2, 2)?;
                put(&mut fields.year, 2000 + value)?;
                rest
            }
            Item::Fraction(most) => parse_fraction(text, *most, fields)?,
            Item::Text(kind) => parse_text(text, *kind, fields)?,
            Item::Offset(style) => parse_offset(text, *style, fields)?,
            Item::ZoneId | Item::ZoneName => parse_zone(text, fields)?,
            Item::Optional(inner) => {
                let mut attempt = fields.clone();
                match parse_items(inner, text, &mut attempt) {
                    Some(rest) => {
                        *fields = attempt;
                        rest
                    }
                    None => text,
                }
            }
        };
    }
    Some(text)
}

fn parse_literal(text: &str, literal: char) -> Option<&str> {
    let mut chars = text.chars();
    let found = chars.next()?;
    (found == literal || found.to_lowercase().eq(literal.to_lowercase())).then_some(chars.as_str())
}

fn parse_number<'t>(
    text: &'t str,
    field: Field,
    min: usize,
    max: usize,
    after: &[Item],
    fields: &mut Fields,
) -> Option<&'t str> {
    let (negative, positive) = (text.starts_with('-'), text.starts_with('+'));
    let signed = max > min && (negative || (positive && min >= 4));
    let unsigned = if signed { &text[1..] } else { text };
    // `yyyyMMdd`: a number of open width leaves the digits that the fixed numbers right behind it need.
    let reserved: usize = if max > min { after.iter().map_while(fixed_width).sum() } else { 0 };
    let available = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let width = available.saturating_sub(reserved).clamp(min.min(available), max);
    let (value, rest) = digits(unsigned, min, width)?;
    // Java: more digits than the pattern has need a `+`, and the sign is for nothing else.
    let longer = width > min;
    if field == Field::Year && min >= 4 && !negative && longer != positive {
        return None;
    }
    fields.set(field, if signed && negative { -value } else { value })?;
    Some(rest)
}

fn fixed_width(item: &Item) -> Option<usize> {
    match item {
        Item::Number(_, min, max) if min == max => Some(*min),
        Item::ShortYear => Some(2),
        _ => None,
    }
}

/// From `min` to `max` digits, as many as there are; 18 are enough for any field.
fn digits(text: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let width = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
    if width < min || width > 18 {
        return None;
    }
    Some((text[..width].parse().ok()?, &text[width..]))
}

fn parse_fraction<'t>(text: &'t str, most: usize, fields: &mut Fields) -> Option<&'t str> {
    let (value, rest) = digits(text, 1, most)?;
    let width = text.len() - rest.len();
    let nanos = value * 10_i64.pow(9 - width as u32);
    fields.micros = u32::try_from(nanos / 1000).ok()?;
    Some(rest)
}

fn strip_prefix_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn parse_text<'t>(text: &'t str, kind: Text, fields: &mut Fields) -> Option<&'t str> {
    let choice = |names: &[&str]| {
        let found = names.iter().enumerate().find_map(|(i, name)| Some((i, strip_prefix_ignoring_case(text, name)?)));
        found.map(|(i, rest)| (i as i64, rest))
    };
    match kind {
        Text::ShortMonth | Text::LongMonth => {
            let width = if kind == Text::ShortMonth { 3 } else { usize::MAX };
            let (month, rest) = choice(&MONTHS.map(|name| &name[..name.len().min(width)]))?;
            put(&mut fields.month, month + 1)?;
            Some(rest)
        }
        Text::AmPm => {
            let (half, rest) = choice(&["AM", "PM"])?;
            put(&mut fields.afternoon, half == 1)?;
            Some(rest)
        }
        Text::ShortEra | Text::LongEra => {
            let short = kind == Text::ShortEra;
            let (era, rest) = choice(if short { &["BC", "AD"] } else { &["Before Christ", "Anno Domini"] })?;
            put(&mut fields.before_christ, era == 0)?;
            Some(rest)
        }
        Text::ShortWeekday | Text::LongWeekday | Text::ShortQuarter | Text::LongQuarter => None,
    }
}

fn parse_offset<'t>(text: &'t str, style: OffsetStyle, fields: &mut Fields) -> Option<&'t str> {
    let text = strip_prefix_ignoring_case(text, style.prefix)?;
    let sign = match text.bytes().next() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => {
            // `GMT` alone is its own zero, its prefix being read already.
            let zero = if style.prefix.is_empty() { style.zero } else { "" };
            let rest = strip_prefix_ignoring_case(text, zero)?;
            if style.zero.is_empty() {
                return None;
            }
            put(&mut fields.zone, Zone::Fixed(0))?;
            return Some(rest);
        }
    };
    let (hours, mut rest) = digits(&text[1..], if style.short_hour { 1 } else { 2 }, 2)?;
    let part = |rest: &'t str| -> Option<(i64, &'t str)> {
        digits(if style.colon { rest.strip_prefix(':')? } else { rest }, 2, 2)
    };
    let mut minutes = 0;
    match (part(rest), style.minutes) {
        (Some((value, after)), _) => (minutes, rest) = (value, after),
        (None, Minutes::Always) => return None,
        (None, Minutes::IfNotZero) => {}
    }
    let mut seconds = 0;
    if style.seconds
        && let Some((value, after)) = part(rest)
    {
        (seconds, rest) = (value, after);
    }
    let total = hours * 3600 + minutes * 60 + seconds;
    if minutes > 59 || seconds > 59 || total > 18 * 3600 {
        return None;
    }
    put(&mut fields.zone, Zone::Fixed(i32::try_from(sign * total).ok()?))?;
    Some(rest)
}

/// The longest run of characters that zone names are made of which names a zone.
fn parse_zone<'t>(text: &'t str, fields: &mut Fields) -> Option<&'t str> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+' | ':');
    let longest = text.find(|c| !in_name(c)).unwrap_or(text.len());
    for end in (1..=longest).rev() {
        let name = &text[..end];
        let zone = Zone::parse(name).or_else(|| match name.to_ascii_uppercase().as_str() {
            upper @ ("UTC" | "GMT" | "Z" | "UT") => Zone::parse(upper),
            _ => None,
        });
        if let Some(zone) = zone {
            put(&mut fields.zone, zone)?;
            return Some(&text[end..]);
        }
    }
    None
}
