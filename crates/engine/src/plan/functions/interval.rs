//! `INTERVAL` literals: `INTERVAL 10 SECONDS`, `INTERVAL '1 hour 30 minutes'`, `INTERVAL '1 02:03:04' DAY TO SECOND`.

use std::fmt;

use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator, Value};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A length of time as Spark keeps it, and the fields it was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SparkInterval {
    pub(crate) months: i32,
    pub(crate) micros: i64,
    first: Unit,
    last: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl SparkInterval {
    /// Reads the literal; the error says what was not understood.
    pub(crate) fn from_ast(interval: &Interval) -> Result<Self, String> {
        let text = value_text(&interval.value).ok_or_else(|| format!("{} is no constant", interval.value))?;
        match (&interval.leading_field, &interval.last_field) {
            (None, _) => Self::from_units(&text),
            (Some(field), None) => Self::from_units(&format!("{text} {field}")),
            (Some(first), Some(last)) => Self::from_fields(&text, unit_of(first)?, unit_of(last)?),
        }
    }

    /// `1 hour 30 minutes`.
    pub(crate) fn from_units(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().filter(|word| !word.eq_ignore_ascii_case("interval")).collect();
        let mut total: Option<Self> = None;
        for pair in words.chunks(2) {
            let &[amount, unit] = pair else { return Err(format!("'{text}' is no list of amounts and units")) };
            let part = Self::of(amount, unit)?;
            total = Some(match total {
                None => part,
                Some(sum) => sum.plus(part).ok_or_else(|| format!("'{text}' is too long an interval"))?,
            });
        }
        total.ok_or_else(|| "the interval is empty".to_owned())
    }

    /// `1 02:03:04 DAY` up to a last field: the text, and behind it the first.
    pub(crate) fn from_range(text: &str, last: &str) -> Result<Self, String> {
        let (text, first) = text.rsplit_once(' ').ok_or_else(|| format!("'{text}' has no first field"))?;
        Self::from_fields(text, Self::of("1", first)?.first, Self::of("1", last)?.first)
    }

    fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            months: self.months.checked_add(other.months)?,
            micros: self.micros.checked_add(other.micros)?,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        })
    }

    fn of(amount: &str, unit: &str) -> Result<Self, String> {
        let name = unit.to_lowercase();
        let (scale, unit) = match name.strip_suffix('s').unwrap_or(&name) {
            "year" => (12, Unit::Year),
            "month" => (1, Unit::Month),
            "week" => (7 * MICROS_PER_DAY, Unit::Day),
            "day" => (MICROS_PER_DAY, Unit::Day),
            "hour" => (3600 * MICROS_PER_SECOND, Unit::Hour),
            "minute" => (60 * MICROS_PER_SECOND, Unit::Minute),
            "second" => (MICROS_PER_SECOND, Unit::Second),
            "millisecond" => (1000, Unit::Second),
            "microsecond" => (1, Unit::Second),
            _ => return Err(format!("'{unit}' is no unit of time")),
        };
        let amount = amount_micros(amount).ok_or_else(|| format!("'{amount}' is no amount of {unit:?}s"))?;
        let scaled = i64::try_from(i128::from(scale) * amount / 1_000_000).map_err(|_| "too long".to_owned())?;
        Ok(if unit <= Unit::Month {
            let months = i32::try_from(scaled).map_err(|_| "too many months".to_owned())?;
            Self { months, micros: 0, first: unit, last: unit }
        } else {
            Self { months: 0, micros: scaled, first: unit, last: unit }
        })
    }

    /// `'1-2' YEAR TO MONTH`, `'1 02:03:04.5' DAY TO SECOND` and the ranges in between.
    fn from_fields(text: &str, first: Unit, last: Unit) -> Result<Self, String> {
        let error = || format!("'{text}' does not have the fields {first:?} to {last:?}");
        let (negative, digits) = match text.trim().strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.trim().trim_start_matches('+')),
        };
        let parts: Vec<&str> = digits.split([' ', ':', 'T']).flat_map(|part| part.split('-')).collect();
        let units = [Unit::Year, Unit::Month, Unit::Day, Unit::Hour, Unit::Minute, Unit::Second];
        let expected: Vec<Unit> = units.into_iter().filter(|unit| (first..=last).contains(unit)).collect();
        if parts.len() != expected.len() {
            return Err(error());
        }
        let mut total = Self { months: 0, micros: 0, first, last };
        for (part, unit) in parts.iter().zip(expected) {
            let part = Self::of(part, &format!("{unit:?}"))?;
            total = total.plus(part).ok_or_else(error)?;
        }
        let sign = if negative { -1 } else { 1 };
        Ok(Self { months: total.months * sign, micros: total.micros * i64::from(sign), first, last })
    }

    /// An interval that was computed: nobody wrote its fields, so it has them all.
    pub(crate) fn computed(months: i32, micros: i64) -> Self {
        let (first, last) = if months == 0 { (Unit::Day, Unit::Second) } else { (Unit::Year, Unit::Month) };
        Self { months, micros, first, last }
    }
}

fn unit_of(field: &DateTimeField) -> Result<Unit, String> {
    SparkInterval::of("1", &field.to_string()).map(|interval| interval.first)
}

/// An amount times a million: fractions are kept to the microsecond.
fn amount_micros(text: &str) -> Option<i128> {
    let (unscaled, scale) = super::cast::parse::exact_decimal(text)?;
    match 6 - scale {
        shift @ 0.. => unscaled.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?),
        shift => Some(unscaled / 10_i128.checked_pow(shift.unsigned_abs())?),
    }
}

fn value_text(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) | Value::Number(text, _) => {
                Some(text.clone())
            }
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => value_text(expr).map(|text| match text.strip_prefix('-') {
            Some(positive) => positive.to_owned(),
            None => format!("-{text}"),
        }),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } | Expr::Nested(expr) => value_text(expr),
        _ => None,
    }
}

impl fmt::Display for SparkInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |unit: Unit| format!("{unit:?}").to_uppercase();
        let text = if self.first <= Unit::Month { self.year_month() } else { self.day_time() };
        write!(f, "INTERVAL '{text}' {}", name(self.first))?;
        if self.last > self.first {
            write!(f, " TO {}", name(self.last))?;
        }
        Ok(())
    }
}

impl SparkInterval {
    fn year_month(self) -> String {
        let sign = if self.months < 0 { "-" } else { "" };
        let months = self.months.unsigned_abs();
        match (self.first, self.last) {
            (Unit::Year, Unit::Year) => format!("{sign}{}", months / 12),
            (Unit::Month, _) => format!("{sign}{months}"),
            _ => format!("{sign}{}-{}", months / 12, months % 12),
        }
    }

    fn day_time(self) -> String {
        let sign = if self.micros < 0 { "-" } else { "" };
        let micros = self.micros.unsigned_abs();
        let seconds = micros / 1_000_000;
        let fraction = match micros % 1_000_000 {
            0 => String::new(),
            rest => format!(".{rest:06}").trim_end_matches('0').to_owned(),
        };
        let first = match self.first {
            Unit::Day => (seconds / 86_400).to_string(),
            Unit::Hour => format!("{:02}", seconds / 3600),
            Unit::Minute => format!("{:02}", seconds / 60),
            _ => format!("{seconds:02}{fraction}"),
        };
        let mut text = format!("{sign}{first}");
        let later =
            [(Unit::Hour, seconds / 3600 % 24), (Unit::Minute, seconds / 60 % 60), (Unit::Second, seconds % 60)];
        for (unit, value) in later.into_iter().filter(|(unit, _)| *unit > self.first && *unit <= self.last) {
            text.push(if unit == Unit::Hour { ' ' } else { ':' });
            text += &format!("{value:02}");
            if unit == Unit::Second {
                text += &fraction;
            }
        }
        text
    }
}
