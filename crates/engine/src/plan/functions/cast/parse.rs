//! Numbers and booleans in text, as Spark's casts from STRING read them; `None` is text that is no such value.
//!
//! Dates and times are read by [`crate::plan::datetime_pattern::cast`].

use std::str::FromStr;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(exact_decimal("1.50"), Some((150, 2)));
        assert_eq!(exact_decimal("-.5"), Some((-5, 1)));
        assert_eq!(exact_decimal("1.5e3"), Some((15, -2)));
        assert_eq!(exact_decimal("abc"), None);
        assert_eq!(exact_decimal("."), None);
    }
}
