//! Lengths of time as Spark writes them: `'1 minute'`, `INTERVAL 10 SECONDS`, `INTERVAL '1' HOUR`, `'1 hour 30 minutes'`.
//!
//! Only lengths that are always the same number of microseconds are taken: months and years are refused, because a
//! window cannot be of varying length. In a watermark's delay a month is 31 days, as in Spark.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::functions::SparkInterval;
use super::token::Cursor;
use crate::error::{EngineError, Result, nearest};

const UNITS: [(&str, i64); 7] = [
    ("microsecond", 1),
    ("millisecond", 1_000),
    ("second", 1_000_000),
    ("minute", 60_000_000),
    ("hour", 3_600_000_000),
    ("day", 86_400_000_000),
    ("week", 604_800_000_000),
];

/// Microseconds of a text such as `1 minute` or `interval 1 hour 30 minutes`. `what` names the thing for the message.
pub(crate) fn parse_duration_us(text: &str, what: &str) -> Result<i64> {
    let mut words = text.split_whitespace().peekable();
    if words.peek().is_some_and(|word| word.eq_ignore_ascii_case("interval")) {
        words.next();
    }
    let mut total: i64 = 0;
    let mut pairs = 0;
    while let Some(number) = words.next() {
        let (number, unit) = match number.find(|c: char| c.is_ascii_alphabetic()) {
            Some(at) if at > 0 => number.split_at(at),
            _ => (number, words.next().unwrap_or("")),
        };
        total = total.checked_add(length_us(number, unit, text, what)?).ok_or_else(|| too_long(text, what))?;
        pairs += 1;
    }
    if pairs == 0 { Err(malformed(text, what)) } else { Ok(total) }
}

const MONTH_US: i64 = 31 * 86_400_000_000;

/// Microseconds of the interval at the cursor: `INTERVAL 10 SECONDS`, `INTERVAL '10' SECOND`, `INTERVAL '10 seconds'`,
/// `INTERVAL '0 00:00:05' DAY TO SECOND`, `INTERVAL 1 MONTH`.
pub(crate) fn parse_delay_us(cursor: &mut Cursor, what: &str) -> Result<i64> {
    cursor.eat(&["INTERVAL"]);
    let span = cursor.span();
    let mut text = String::new();
    loop {
        let negative = cursor.eat_token(&Token::Minus);
        let number = match cursor.peek() {
            Some(Token::Number(number, _)) => number.clone(),
            Some(Token::SingleQuotedString(quoted) | Token::DoubleQuotedString(quoted)) => quoted.clone(),
            _ if text.is_empty() => {
                return Err(cursor.expected(&format!("a length of time for {what}, such as INTERVAL 10 SECONDS")));
            }
            _ => break,
        };
        cursor.advance();
        text.push_str(if negative { " -" } else { " " });
        text.push_str(&number);
        if let Some(Token::Word(word)) = cursor.peek()
            && is_unit(&word.value)
        {
            text.push(' ');
            text.push_str(&word.value);
            cursor.advance();
        }
        if cursor.looks_at(&["TO"]) && matches!(cursor.peek_nth(1), Some(Token::Word(word)) if is_unit(&word.value)) {
            cursor.advance();
            let last = cursor.identifier("the last field of the interval")?;
            return delay_of(SparkInterval::from_range(text.trim(), &last), &text, what)
                .map_err(|error| EngineError::query_at(span, error.to_string()));
        }
    }
    let written = text.trim().to_ascii_lowercase();
    if written.contains("month") || written.contains("year") {
        return delay_of(SparkInterval::from_units(text.trim()), &text, what)
            .map_err(|error| EngineError::query_at(span, error.to_string()));
    }
    parse_duration_us(text.trim(), what).map_err(|error| match error.next_step() {
        Some(help) => EngineError::query_at(span, error.to_string()).help(help),
        None => EngineError::query_at(span, error.to_string()),
    })
}

fn delay_of(interval: Result<SparkInterval, String>, text: &str, what: &str) -> Result<i64> {
    let interval = interval.map_err(|error| EngineError::query(format!("{what} cannot be read: {error}")))?;
    let months = i64::from(interval.months).checked_mul(MONTH_US);
    months.and_then(|months| months.checked_add(interval.micros)).ok_or_else(|| too_long(text.trim(), what))
}

fn is_unit(word: &str) -> bool {
    unit_us(word).is_some() || ["month", "months", "year", "years"].iter().any(|unit| word.eq_ignore_ascii_case(unit))
}

fn length_us(number: &str, unit: &str, text: &str, what: &str) -> Result<i64> {
    let Some(unit_us) = unit_us(unit) else {
        let error = malformed(text, what);
        return Err(match nearest(unit, UNITS.iter().map(|(name, _)| *name)) {
            Some(near) if !unit.is_empty() => error.help(format!("'{unit}' is not a unit; did you mean {near}?")),
            _ => error,
        });
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(unit_us).ok_or_else(|| too_long(text, what));
    }
    match number.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked against the range")]
        Ok(part) if (part * unit_us as f64).abs() < i64::MAX as f64 => Ok((part * unit_us as f64).round() as i64),
        _ => Err(malformed(text, what)),
    }
}

fn unit_us(unit: &str) -> Option<i64> {
    let lower = unit.to_ascii_lowercase();
    let singular = lower.strip_suffix('s').unwrap_or(&lower);
    UNITS.iter().find(|(name, _)| *name == singular).map(|(_, us)| *us)
}

fn malformed(text: &str, what: &str) -> EngineError {
    EngineError::query(format!("{what} is '{text}', expected a number and a unit"))
        .help("write for example '10 seconds', '1 minute' or '1 hour 30 minutes'; months and years vary in length")
}

fn too_long(text: &str, what: &str) -> EngineError {
    EngineError::query(format!("{what} is '{text}', which is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(parse_duration_us(text, "the window").ok(), expected, "{text}");
    }

    #[test]
    fn durations() {
        check("1 minute", Some(60_000_000));
        check("interval 10 SECONDS", Some(10_000_000));
        check("1 hour 30 minutes", Some(5_400_000_000));
        check("500 milliseconds", Some(500_000));
        check("10s", None);
        check("0.5 second", Some(500_000));
        check("1 month", None);
        check("", None);
        check("9999999999999 weeks", None);
    }
}
