//! How many partitions a topic needs for a throughput: arithmetic that is shown with its assumptions.
//!
//! ```text
//!   partitions = throughput x growth / what one partition is planned with
//! ```
//!
//! Growth is in it because adding partitions later sends keys elsewhere. What one partition takes differs with records,
//! disks and readers; the default is a planning figure on the safe side, and not a measurement.

use crate::progress::board::bytes;
use crate::quantity::Throughput;

/// How much more than today's throughput is planned for.
const GROWTH: f64 = 2.0;

/// Bytes a second one partition is planned with: far below what one writer reaches, so that the slowest reader, which
/// is one thread a partition, keeps up while it does something with the records.
pub(crate) const PARTITION_RATE: f64 = 10e6;

/// More partitions cost files, memory and time at each rebalance, and are refused by most clusters.
const MOST: f64 = 1000.0;

/// A suggested number of partitions and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suggestion {
    /// At least 1.
    pub(crate) partitions: i32,
    /// "20.0 MB/s x 2 for growth / 10.0 MB/s a partition".
    pub(crate) arithmetic: String,
}

/// The partitions for `throughput`, with records of `record_bytes` and `partition_rate` bytes a second each.
pub(crate) fn suggest(
    throughput: Throughput,
    record_bytes: Option<u64>,
    partition_rate: f64,
) -> Result<Suggestion, String> {
    let (rate, records) = match (throughput, record_bytes) {
        (Throughput::Bytes(rate), _) => (rate, String::new()),
        (Throughput::Records(records), Some(size)) => {
            let rate = records * size as f64;
            (rate, format!("{records} records/s of {} = ", bytes(size)))
        }
        (Throughput::Records(_), None) => {
            return Err("a throughput in records needs the size of one: add --record-size, such as --record-size 500"
                .to_owned());
        }
    };
    let needed = (rate * GROWTH / partition_rate).ceil().max(1.0);
    if needed > MOST {
        return Err(format!(
            "{}/s would take {needed} partitions, expected at most {MOST}: divide the records among several topics, or \
             raise --partition-rate after measuring",
            bytes(rate as u64)
        ));
    }
    let arithmetic = format!(
        "{records}{}/s x {GROWTH} for growth / {}/s a partition",
        bytes(rate as u64),
        bytes(partition_rate as u64)
    );
    Ok(Suggestion { partitions: needed as i32, arithmetic })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(throughput: Throughput, record_bytes: Option<u64>) -> i32 {
        suggest(throughput, record_bytes, PARTITION_RATE).unwrap().partitions
    }

    #[test]
    fn throughput_is_doubled_and_divided() {
        assert_eq!(partitions(Throughput::Bytes(20e6), None), 4);
        assert_eq!(partitions(Throughput::Bytes(20e6 + 1.0), None), 5);
        assert_eq!(partitions(Throughput::Bytes(1.0), None), 1);
        assert_eq!(partitions(Throughput::Records(50e3), Some(500)), 5);
    }

    #[test]
    fn the_arithmetic_is_told() {
        let told = suggest(Throughput::Records(50e3), Some(500), PARTITION_RATE).unwrap().arithmetic;
        assert_eq!(told, "50000 records/s of 500 B = 25.0 MB/s x 2 for growth / 10.0 MB/s a partition");
    }

    #[test]
    fn what_cannot_be_computed_is_said() {
        assert!(suggest(Throughput::Records(1.0), None, PARTITION_RATE).unwrap_err().contains("--record-size"));
        assert!(suggest(Throughput::Bytes(1e12), None, PARTITION_RATE).unwrap_err().contains("200000 partitions"));
    }
}
