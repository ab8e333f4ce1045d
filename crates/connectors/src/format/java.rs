//! Numbers as Java prints them: Spark's JSON and CSV writers use `Double.toString` and `BigDecimal.toString`, and so
//! does a text column that meets a number with a fraction.

use std::io::Write as _;

/// Appends a double as `Double.toString`: `1.5`, `100.0`, `1.0E10`, `1.0E-5`, `NaN`, `-Infinity`.
pub(super) fn write_f64(value: f64, out: &mut Vec<u8>) {
    // Java gives at least two digits; for the smallest numbers the nearest two differ from the shortest one.
    let text = if value.is_subnormal() && shortest_is_one_digit(value) {
        format!("{value:.1e}")
    } else {
        format!("{value:e}")
    };
    write_scientific(value.is_nan(), value.is_infinite(), &text, out);
}

/// Appends a float as `Float.toString`.
pub(super) fn write_f32(value: f32, out: &mut Vec<u8>) {
    write_scientific(value.is_nan(), value.is_infinite(), &format!("{value:e}"), out);
}

fn shortest_is_one_digit(value: f64) -> bool {
    !format!("{value:e}").contains('.')
}

/// Turns Rust's shortest digits (`-1.2345e4`) into Java's form: plain from 10^-3 to below 10^7, else with an exponent.
fn write_scientific(nan: bool, infinite: bool, text: &str, out: &mut Vec<u8>) {
    if nan {
        return out.extend_from_slice(b"NaN");
    }
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    out.extend_from_slice(sign.as_bytes());
    if infinite {
        return out.extend_from_slice(b"Infinity");
    }
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (head, tail) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if head == "0" {
        return out.extend_from_slice(b"0.0");
    }
    if !(-3..7).contains(&exponent) {
        let tail = if tail.is_empty() { "0" } else { tail };
        let _ = write!(out, "{head}.{tail}E{exponent}");
        return;
    }
    let digits = [head, tail].concat();
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(digits.as_bytes());
        return;
    }
    let whole = exponent as usize + 1;
    for i in 0..whole.max(digits.len()) {
        if i == whole {
            out.push(b'.');
        }
        out.push(digits.as_bytes().get(i).copied().unwrap_or(b'0'));
    }
    if digits.len() <= whole {
        out.extend_from_slice(b".0");
    }
}

/// Appends an unscaled decimal as `BigDecimal.toString`: plain unless it is smaller than 10^-6, then with an exponent.
pub(super) fn write_decimal(unscaled: i128, scale: i8, out: &mut Vec<u8>) {
    let digits = unscaled.unsigned_abs().to_string();
    let scale = usize::from(scale.unsigned_abs());
    if unscaled < 0 {
        out.push(b'-');
    }
    if scale == 0 {
        return out.extend_from_slice(digits.as_bytes());
    }
    let exponent = digits.len() as i64 - 1 - scale as i64;
    if exponent < -6 {
        out.extend_from_slice(&digits.as_bytes()[..1]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits.as_bytes()[1..]);
        }
        let _ = write!(out, "E{exponent}");
        return;
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let _ = write!(out, "{whole}.{fraction}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    /// Golden: `to_json` of Spark 4.3 on Java 17.
    #[test]
    fn doubles() {
        for (value, expected) in [
            (1.5, "1.5"),
            (100.0, "100.0"),
            (1e10, "1.0E10"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (123_456_789.0, "1.23456789E8"),
            (123_456.789, "123456.789"),
            (0.001, "0.001"),
            (0.002, "0.002"),
            (1e-5, "1.0E-5"),
            (-0.0, "-0.0"),
            (0.0, "0.0"),
            (4.9e-324, "4.9E-324"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(|out| write_f64(value, out)), expected);
        }
        for (value, expected) in [(1.1, "1.1"), (1e20, "1.0E20"), (3.402_823_5e38, "3.4028235E38"), (0.1, "0.1")] {
            assert_eq!(text(|out| write_f32(value, out)), expected);
        }
    }

    #[test]
    fn decimals() {
        for (unscaled, scale, expected) in [
            (150, 2, "1.50"),
            (-5, 2, "-0.05"),
            (0, 2, "0.00"),
            (7, 0, "7"),
            (1000, 10, "1.000E-7"),
            (100_000_000, 18, "1.00000000E-10"),
            (1, 7, "1E-7"),
            (1, 6, "0.000001"),
        ] {
            assert_eq!(text(|out| write_decimal(unscaled, scale, out)), expected);
        }
    }
}
