//! Durations as people write them: `250ms`, `5s`, `2 minutes`, `1h`.

use std::time::Duration;

/// Reads a duration from the command line.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    let digits = trimmed.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let seconds = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(mistake(text)),
    };
    let count: f64 = number.parse().map_err(|_| mistake(text))?;
    Duration::try_from_secs_f64(count * seconds).map_err(|_| mistake(text))
}

fn mistake(text: &str) -> String {
    format!("'{text}' is not a duration such as 500ms, 10s, '5 minutes', 1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_short_or_long() {
        for (text, millis) in
            [("250ms", 250), ("5s", 5000), ("2 minutes", 120_000), ("1.5h", 5_400_000), ("1 day", 86_400_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "5 parsecs", "-5s", "1.2.3s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
