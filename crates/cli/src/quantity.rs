//! Sizes and rates as people write them: `512`, `10kB`, `1.5GB`, `64MiB`; `20MB/s`, `50k/s`, `1000/s`.
//!
//! Units are those of the International System (kB is 1000 bytes); KiB, MiB, GiB and TiB are powers of 1024.

/// A rate of bytes or of records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Throughput {
    /// Bytes a second.
    Bytes(f64),
    /// Records a second.
    Records(f64),
}

/// Reads a size from the command line, in bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let mistake = || format!("'{text}' is not a size such as 512, 10kB, 1.5GB, 64MiB");
    let (number, unit) = split(text).ok_or_else(mistake)?;
    let factor = if unit.is_empty() { Some(1.0) } else { byte_unit(unit) };
    let bytes = number * factor.ok_or_else(mistake)?;
    // Up to here a float is exact for all sizes that disks have.
    if (0.0..9e15).contains(&bytes) { Ok(bytes.round() as u64) } else { Err(mistake()) }
}

/// Reads a rate of bytes or records from the command line; a plain number is records a second.
pub(crate) fn throughput(text: &str) -> Result<Throughput, String> {
    let mistake = || format!("'{text}' is not a rate above 0 such as 20MB/s, 50k/s, 1000/s");
    let per_second = text.trim().strip_suffix("/s").unwrap_or(text);
    let (number, unit) = split(per_second).ok_or_else(mistake)?;
    let rate = match (unit, byte_unit(unit)) {
        ("", _) => Throughput::Records(number),
        ("k" | "K", _) => Throughput::Records(number * 1e3),
        ("M", _) => Throughput::Records(number * 1e6),
        (_, Some(factor)) => Throughput::Bytes(number * factor),
        _ => return Err(mistake()),
    };
    let (Throughput::Bytes(value) | Throughput::Records(value)) = rate;
    if value > 0.0 && value.is_finite() { Ok(rate) } else { Err(mistake()) }
}

/// A number and what follows it.
fn split(text: &str) -> Option<(f64, &str)> {
    let trimmed = text.trim();
    let digits = trimmed.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

fn byte_unit(unit: &str) -> Option<f64> {
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
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "5 parsecs", "1.2.3kB", "10mb", "1e300TB", "99999999999999999999TB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_of_bytes_or_records() {
        assert_eq!(throughput("20MB/s"), Ok(Throughput::Bytes(20e6)));
        assert_eq!(throughput("500 kB/s"), Ok(Throughput::Bytes(500e3)));
        assert_eq!(throughput("50k/s"), Ok(Throughput::Records(50e3)));
        assert_eq!(throughput("2.5"), Ok(Throughput::Records(2.5)));
        assert_eq!(throughput("1M/s"), Ok(Throughput::Records(1e6)));
        for text in ["0", "0MB/s", "-1", "inf", "x", "/s", "20MB/h", "1.2.3/s"] {
            assert!(throughput(text).unwrap_err().contains(text), "{text}");
        }
    }
}
