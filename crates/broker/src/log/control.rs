//! Control batches: how a transaction's end is written into the logs it wrote to.
//!
//! ```text
//! a batch of one record, with the control and the transactional bit set
//!   key    | version i16 | type i16: 0 abort, 1 commit |
//!   value  | version i16 | coordinator epoch i32 |
//! ```
//!
//! Only the broker writes them; readers skip them, and those that read committed records only use
//! them to know which transactions to leave out.

use serde::{Deserialize, Serialize};

use super::batch::{BatchHeader, CONTROL_BIT, HEADER_SIZE, TRANSACTIONAL_BIT, seal};
use super::records::Unpacked;

const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// Epoch of the only coordinator there ever is.
const COORDINATOR_EPOCH: i32 = 0;
/// Bytes of a control record: every field has one size.
const RECORD_SIZE: usize = 17;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Commit,
    Abort,
}

/// The end of a producer's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) outcome: Outcome,
}

impl Marker {
    /// The control batch, to be appended like a produced one.
    pub(crate) fn batch(self, now_ms: i64) -> [u8; HEADER_SIZE + RECORD_SIZE] {
        let kind = match self.outcome {
            Outcome::Abort => ABORT,
            Outcome::Commit => COMMIT,
        };
        let mut batch = [0; HEADER_SIZE + RECORD_SIZE];
        let header = BatchHeader {
            base_offset: 0,
            size_bytes: batch.len(),
            crc: 0,
            attributes: CONTROL_BIT | TRANSACTIONAL_BIT,
            last_offset_delta: 0,
            base_timestamp: now_ms,
            max_timestamp: now_ms,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: -1,
            record_count: 1,
        };
        let record = &mut batch[HEADER_SIZE..];
        // Lengths are zigzag varints: twice the number.
        record[0] = 2 * (RECORD_SIZE as u8 - 1);
        record[4] = 2 * 4;
        record[5..7].copy_from_slice(&0i16.to_be_bytes());
        record[7..9].copy_from_slice(&kind.to_be_bytes());
        record[9] = 2 * 6;
        record[10..12].copy_from_slice(&0i16.to_be_bytes());
        record[12..16].copy_from_slice(&COORDINATOR_EPOCH.to_be_bytes());
        seal(&header, &mut batch);
        batch
    }

    /// What a control batch says; `None` for a kind that is not known, which ends no transaction.
    pub(crate) fn read(header: &BatchHeader, batch: &[u8]) -> Option<Self> {
        // Compaction writes a marker's record anew, and its lengths may change.
        let unpacked = Unpacked::new(header, batch.get(..header.size_bytes)?, header.size_bytes).ok()?;
        let Some(&[_, _, high, low, ..]) = unpacked.records().next()?.ok()?.key else { return None };
        let kind = i16::from_be_bytes([high, low]);
        let outcome = match kind {
            ABORT => Outcome::Abort,
            COMMIT => Outcome::Commit,
            _ => return None,
        };
        Some(Self { producer_id: header.producer_id, producer_epoch: header.producer_epoch, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::verify_crc;
    use super::*;

    #[test]
    fn a_marker_reads_back() {
        for outcome in [Outcome::Commit, Outcome::Abort] {
            let marker = Marker { producer_id: 7, producer_epoch: 3, outcome };
            let batch = marker.batch(1234);
            let header = BatchHeader::parse(&batch).expect("a batch");
            verify_crc(&header, &batch).expect("sealed");
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.size_bytes, header.record_count, header.max_timestamp), (batch.len(), 1, 1234));
            assert_eq!(Marker::read(&header, &batch), Some(marker));
        }
    }

    #[test]
    fn another_kind_of_control_record_ends_nothing() {
        let mut batch = Marker { producer_id: 7, producer_epoch: 3, outcome: Outcome::Commit }.batch(0);
        let header = BatchHeader::parse(&batch).expect("a batch");
        batch[HEADER_SIZE + 8] = 5;
        assert_eq!(Marker::read(&header, &batch), None);
        assert_eq!(Marker::read(&header, &batch[..HEADER_SIZE + 3]), None);
    }
}
