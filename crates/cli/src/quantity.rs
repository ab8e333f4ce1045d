//! Sizes and rates on the command line: sizes as `plan::size` of the engine reads them; `20MB/s`, `50k/s`, `1000/s`.

pub(crate) use highwater_engine::plan::size::parse_size as size;
use highwater_engine::plan::size::{number_and_unit, unit_bytes};

/// A rate of bytes or of records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Throughput {
    /// Bytes a second.
    Bytes(f64),
    /// Records a second.
    Records(f64),
}

/// Reads a rate of bytes or records from the command line; a plain number is records a second.
pub(crate) fn throughput(text: &str) -> Result<Throughput, String> {
    let mistake = || format!("'{text}' is not a rate above 0 such as 20MB/s, 50k/s, 1000/s");
    let per_second = text.trim().strip_suffix("/s").unwrap_or(text);
    let (number, unit) = number_and_unit(per_second).ok_or_else(mistake)?;
    let rate = match (unit, unit_bytes(unit)) {
        ("", _) => Throughput::Records(number),
        ("k" | "K", _) => Throughput::Records(number * 1e3),
        ("M", _) => Throughput::Records(number * 1e6),
        (unit, Some(factor)) if unit.ends_with('B') => Throughput::Bytes(number * factor),
        _ => return Err(mistake()),
    };
    let (Throughput::Bytes(value) | Throughput::Records(value)) = rate;
    if value > 0.0 && value.is_finite() { Ok(rate) } else { Err(mistake()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_bytes_or_records() {
        assert_eq!(throughput("20MB/s"), Ok(Throughput::Bytes(20e6)));
        assert_eq!(throughput("500 kB/s"), Ok(Throughput::Bytes(500e3)));
        assert_eq!(throughput("50k/s"), Ok(Throughput::Records(50e3)));
        assert_eq!(throughput("2.5"), Ok(Throughput::Records(2.5)));
        assert_eq!(throughput("1M/s"), Ok(Throughput::Records(1e6)));
        for text in ["0", "0MB/s", "-1", "inf", "x", "/s", "20MB/h", "5m/s", "1.2.3/s"] {
            assert!(throughput(text).unwrap_err().contains(text), "{text}");
        }
    }
}
