//! Sizes as people write them: `512`, `10kB`, `1.5GB`, `64MiB`.
//!
//! Units are those of the International System (kB is 1000 bytes); KiB, MiB, GiB and TiB are powers of 1024.

/// Reads a size, in bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let mistake = || format!("'{text}' is not a size such as 512, 10kB, 1.5GB, 64MiB");
    let (number, unit) = number_and_unit(text).ok_or_else(mistake)?;
    let factor = if unit.is_empty() { Some(1.0) } else { unit_bytes(unit) };
    let bytes = number * factor.ok_or_else(mistake)?;
    // Up to here a float is exact for all sizes that disks have.
    if (0.0..9e15).contains(&bytes) { Ok(bytes.round() as u64) } else { Err(mistake()) }
}

/// A number and what follows it.
pub fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let trimmed = text.trim();
    let digits = trimmed.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

/// How many bytes a unit of size is.
pub fn unit_bytes(unit: &str) -> Option<f64> {
    Some(match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" | "kiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_are_bytes() {
        for (text, bytes) in [
            ("512", 512),
            ("10kB", 10_000),
            ("1.5GB", 1_500_000_000),
            ("64MiB", 64 << 20),
            (" 2 TB ", 2_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "5 parsecs", "1.2.3kB", "10mb", "1e300TB", "99999999999999999999TB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
