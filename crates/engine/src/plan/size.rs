//! Sizes as people write them: `512`, `10kB`, `1.5GB`, `64MiB`, `64k`; the one grammar of options, settings and arguments.
//!
//! Units are those of the International System (kB is 1000 bytes); KiB, MiB, GiB and TiB are powers of 1024, and so are
//! those in Spark's letters: `k`, `m`, `g`, `t`, alone or before a small `b`.

/// Reads a size, in bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let mistake = || format!("'{text}' is not a size such as 512, 10kB, 1.5GB, 64MiB, 64m");
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
        "B" | "b" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" | "kiB" | "k" | "K" | "kb" => 1024.0,
        "MiB" | "m" | "M" | "mb" => 1024.0 * 1024.0,
        "GiB" | "g" | "G" | "gb" => 1024.0 * 1024.0 * 1024.0,
        "TiB" | "t" | "T" | "tb" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
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
            ("4GiB", 4 << 30),
            ("64k", 64 << 10),
            ("10m", 10 << 20),
            ("2kb", 2048),
            ("1g", 1 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "5 parsecs", "1.2.3kB", "10mib", "10Mb", "1e300TB", "99999999999999999999TB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
