//! The header of a record batch: all the broker ever needs to know of the records inside.
//!
//! ```text
//!  0         8         12        16  17    21     23        27         35       43       51
//!  | base    | batch   | leader  |ma-| crc | attri| last    | base     | max    |producer|
//!  | offset  | length  | epoch   |gic|     | butes| offset  | time-    | time-  | id     |
//!  | i64     | i32     | i32     |i8 | u32 | i16  | delta32 | stamp 64 | stamp64| i64    |
//!                                                 51       53         57        61
//!                                                 |producer| base     | record  | records ...
//!                                                 | epoch  | sequence | count   |
//!                                                 | i16    | i32      | i32     |
//! ```
//!
//! (<https://kafka.apache.org/documentation/#recordbatch>; every number is big-endian.) The length
//! counts from byte 12. The checksum is CRC-32C of everything from byte 21, so the broker can set
//! the base offset and the leader epoch of a batch without touching its checksum. That is why a
//! batch can be stored as it arrived.
//!
//! Only this format (magic 2) is stored; the older message sets are refused.

use thiserror::Error;

/// Bytes of a batch header: the smallest batch.
pub(crate) const HEADER_SIZE: usize = 61;
/// Bytes up to and including the batch length, which that length does not count.
pub(crate) const LENGTH_PREFIX: usize = 12;

const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

const CODEC_BITS: i16 = 0b0111;
const LOG_APPEND_TIME_BIT: i16 = 0b1000;
pub(crate) const TRANSACTIONAL_BIT: i16 = 0b1_0000;
pub(crate) const CONTROL_BIT: i16 = 0b10_0000;
/// The base timestamp is when tombstones of the batch may go (KIP-534); set by the cleaner alone.
const DELETE_HORIZON_BIT: i16 = 0b100_0000;

/// Leader epoch of every batch: a single node never changes its leader.
pub(crate) const LEADER_EPOCH: i32 = 0;
/// Producer id of a batch whose producer is not idempotent.
pub(crate) const NO_PRODUCER_ID: i64 = -1;

/// A parsed batch header. Says nothing about the checksum; see [`verify_crc`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    pub(crate) size_bytes: usize,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Why bytes are not a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BatchError {
    #[error("{found} bytes are left, fewer than a record batch header of {HEADER_SIZE}")]
    Short { found: usize },
    #[error("the batch says it has {size_bytes} bytes, but {found} are there")]
    Cut { size_bytes: u64, found: u64 },
    #[error("the batch length is {found}, less than a header needs")]
    Length { found: i32 },
    #[error("the format is magic {found}, only magic 2 is stored")]
    Magic { found: i8 },
    #[error("the checksum is {found:#010x}, computed {computed:#010x}")]
    Crc { found: u32, computed: u32 },
    #[error("the batch starts at offset {found}, expected {expected}")]
    Offset { found: i64, expected: i64 },
    #[error("{what} is {found}")]
    Field { what: &'static str, found: i64 },
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; the records need not be there.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_SIZE {
            return Err(BatchError::Short { found: bytes.len() });
        }
        // The magic byte stands at the same place in every format, so it is judged first: the
        // length of an old message set means something else.
        let magic = i8::from_be_bytes(array(bytes, MAGIC_AT));
        if magic != 2 {
            return Err(BatchError::Magic { found: magic });
        }
        let length = i32::from_be_bytes(array(bytes, 8));
        let size_bytes = match usize::try_from(length) {
            Ok(length) if length + LENGTH_PREFIX >= HEADER_SIZE => length + LENGTH_PREFIX,
            _ => return Err(BatchError::Length { found: length }),
        };
        let header = Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            size_bytes,
            crc: u32::from_be_bytes(array(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        };
        if header.last_offset_delta < 0 {
            return Err(BatchError::Field { what: "the last offset delta", found: header.last_offset_delta.into() });
        }
        Ok(header)
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta.into())
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.producer_id != NO_PRODUCER_ID
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// When the tombstones of the batch, or its marker, may be removed.
    pub(crate) fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// The header with this horizon, which its base timestamp becomes.
    pub(crate) fn with_delete_horizon(self, horizon_ms: i64) -> Self {
        Self { attributes: self.attributes | DELETE_HORIZON_BIT, base_timestamp: horizon_ms, ..self }
    }

    /// The header of the same batch with all its records gone: it keeps the offsets and the sequence numbers.
    pub(crate) fn emptied(self) -> Self {
        Self {
            size_bytes: HEADER_SIZE,
            attributes: self.attributes & !(CODEC_BITS | DELETE_HORIZON_BIT),
            base_timestamp: self.max_timestamp,
            record_count: 0,
            ..self
        }
    }

    /// The header of the same batch with its records packed in another way.
    pub(crate) fn with_codec(self, codec: Codec) -> Self {
        Self { attributes: (self.attributes & !CODEC_BITS) | codec as i16, ..self }
    }

    /// Sequence number of the last record; sequence numbers wrap to 0 after `i32::MAX`.
    pub(crate) fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }

    pub(crate) fn codec(&self) -> Result<Codec, BatchError> {
        match self.attributes & CODEC_BITS {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(BatchError::Field { what: "the compression codec", found: other.into() }),
        }
    }

    /// What a producer's batch must satisfy beside its checksum: the offsets it will take are
    /// exactly its records, and nothing in it claims to be written by a broker.
    fn check_produced(&self) -> Result<(), BatchError> {
        let fail = |what, found| Err(BatchError::Field { what, found });
        if self.record_count <= 0 || self.record_count - 1 != self.last_offset_delta {
            return fail("the record count does not fit the last offset delta; it", self.record_count.into());
        }
        if self.is_control() {
            return fail("a control batch from a client; its attributes", self.attributes.into());
        }
        if self.is_transactional() && !self.is_idempotent() {
            return fail("a transactional batch without a producer; its producer id", self.producer_id);
        }
        if self.delete_horizon_ms().is_some() {
            return fail("a delete horizon from a client; its attributes", self.attributes.into());
        }
        if self.is_idempotent() && (self.base_sequence < 0 || self.producer_epoch < 0 || self.producer_id < 0) {
            return fail("an idempotent batch without sequence; its base sequence", self.base_sequence.into());
        }
        self.codec().map(|_| ())
    }
}

/// The sequence number `by` records after `sequence`.
pub(crate) fn add_sequence(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    (sum % (i64::from(i32::MAX) + 1)) as i32
}

/// Checks the stored checksum of the whole batch in `batch`.
pub(crate) fn verify_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c::crc32c(&batch[ATTRIBUTES_AT..header.size_bytes]);
    if computed == header.crc {
        return Ok(());
    }
    Err(BatchError::Crc { found: header.crc, computed })
}

/// Writes `header` at the start of `batch`, whose records are there, with the checksum over both.
pub(crate) fn seal(header: &BatchHeader, batch: &mut [u8]) {
    let length = (header.size_bytes - LENGTH_PREFIX) as i32;
    batch[..8].copy_from_slice(&header.base_offset.to_be_bytes());
    batch[8..LENGTH_PREFIX].copy_from_slice(&length.to_be_bytes());
    batch[LENGTH_PREFIX..MAGIC_AT].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
    batch[MAGIC_AT] = 2;
    batch[ATTRIBUTES_AT..23].copy_from_slice(&header.attributes.to_be_bytes());
    batch[23..27].copy_from_slice(&header.last_offset_delta.to_be_bytes());
    batch[27..MAX_TIMESTAMP_AT].copy_from_slice(&header.base_timestamp.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..43].copy_from_slice(&header.max_timestamp.to_be_bytes());
    batch[43..51].copy_from_slice(&header.producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&header.producer_epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&header.base_sequence.to_be_bytes());
    batch[57..HEADER_SIZE].copy_from_slice(&header.record_count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..header.size_bytes]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// A produced batch that passed every check: exactly one, whole, with the right checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProducedBatch<'a> {
    pub(crate) header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> ProducedBatch<'a> {
    /// Checks the records of one partition in a produce request.
    pub(crate) fn check(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        if header.size_bytes > bytes.len() {
            return Err(BatchError::Cut { size_bytes: header.size_bytes as u64, found: bytes.len() as u64 });
        }
        if header.size_bytes < bytes.len() {
            let extra = (bytes.len() - header.size_bytes) as i64;
            return Err(BatchError::Field { what: "bytes behind the only batch a request may hold", found: extra });
        }
        verify_crc(&header, bytes)?;
        header.check_produced()?;
        Ok(Self { header, bytes })
    }

    /// The whole batch, as it arrived.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A control batch the broker itself has made.
    pub(crate) fn control(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        verify_crc(&header, bytes)?;
        Ok(Self { header, bytes })
    }

    /// The header as it is stored, and the records, which are stored as they arrived.
    ///
    /// With `log_append_time_ms` the broker's time replaces the producer's. The attributes and the
    /// newest timestamp are under the checksum, so only then it is computed again.
    pub(crate) fn stamp(&self, base_offset: i64, log_append_time_ms: Option<i64>) -> ([u8; HEADER_SIZE], &'a [u8]) {
        let (header, records) = self.bytes.split_at(HEADER_SIZE);
        let mut stamped: [u8; HEADER_SIZE] = array(header, 0);
        stamped[..8].copy_from_slice(&base_offset.to_be_bytes());
        stamped[LENGTH_PREFIX..MAGIC_AT].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
        if let Some(now_ms) = log_append_time_ms {
            let attributes = self.header.attributes | LOG_APPEND_TIME_BIT;
            stamped[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
            stamped[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now_ms.to_be_bytes());
            let crc = crc32c::crc32c_append(crc32c::crc32c(&stamped[ATTRIBUTES_AT..]), records);
            stamped[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        }
        (stamped, records)
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod testing {
    //! Batches for tests: opaque records under a true header.

    use super::*;

    /// What a test wants in a header; the rest is filled in.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Spec {
        pub(crate) records: i32,
        pub(crate) timestamp: i64,
        pub(crate) producer: Option<(i64, i16, i32)>,
        pub(crate) attributes: i16,
        pub(crate) payload_bytes: usize,
    }

    impl Default for Spec {
        fn default() -> Self {
            Self { records: 1, timestamp: 1000, producer: None, attributes: 0, payload_bytes: 20 }
        }
    }

    /// The batch as a producer would send it.
    pub(crate) fn batch(spec: Spec) -> Vec<u8> {
        let (producer_id, epoch, sequence) = spec.producer.unwrap_or((-1, -1, -1));
        let mut out = Vec::new();
        out.extend(0i64.to_be_bytes());
        out.extend(((HEADER_SIZE - LENGTH_PREFIX + spec.payload_bytes) as i32).to_be_bytes());
        out.extend((-1i32).to_be_bytes());
        out.push(2);
        out.extend([0; 4]);
        out.extend(spec.attributes.to_be_bytes());
        out.extend((spec.records.wrapping_sub(1)).to_be_bytes());
        out.extend(spec.timestamp.to_be_bytes());
        out.extend(spec.timestamp.to_be_bytes());
        out.extend(producer_id.to_be_bytes());
        out.extend(epoch.to_be_bytes());
        out.extend(sequence.to_be_bytes());
        out.extend(spec.records.to_be_bytes());
        out.extend((0..spec.payload_bytes).map(|at| at as u8));
        let crc = crc32c::crc32c(&out[ATTRIBUTES_AT..]);
        out[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Spec, batch};
    use super::*;

    #[test]
    fn a_batch_is_stored_as_it_came_but_for_offset_and_epoch() {
        let bytes = batch(Spec { records: 3, ..Spec::default() });
        let checked = ProducedBatch::check(&bytes).expect("valid");
        let (header, records) = checked.stamp(77, None);
        let stored = [&header[..], records].concat();
        let parsed = BatchHeader::parse(&stored).expect("valid");
        assert_eq!((parsed.base_offset, parsed.last_offset()), (77, 79));
        assert_eq!(stored[16..], bytes[16..]);
        verify_crc(&parsed, &stored).expect("the checksum still fits");
    }

    #[test]
    fn log_append_time_is_stamped_under_a_new_checksum() {
        let bytes = batch(Spec::default());
        let (header, records) = ProducedBatch::check(&bytes).expect("valid").stamp(0, Some(5555));
        let stored = [&header[..], records].concat();
        let parsed = BatchHeader::parse(&stored).expect("valid");
        assert_eq!((parsed.max_timestamp, parsed.is_log_append_time()), (5555, true));
        verify_crc(&parsed, &stored).expect("the checksum fits");
    }

    #[test]
    fn what_is_not_one_whole_batch_is_refused() {
        let good = batch(Spec { records: 2, producer: Some((1, 0, 0)), ..Spec::default() });
        let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
            let mut bytes = good.clone();
            change(&mut bytes);
            let error = ProducedBatch::check(&bytes).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|b| b.clear(), "0 bytes are left");
        check(&|b| b.truncate(60), "60 bytes are left");
        check(&|b| b.truncate(70), "but 70 are there");
        check(&|b| b.push(0), "bytes behind the only batch");
        check(&|b| b[16] = 1, "magic 1");
        check(&|b| b[8..12].copy_from_slice(&(-5i32).to_be_bytes()), "length is -5");
        check(&|b| b[70] ^= 1, "checksum");
        check(&|b| b[23] = 0x80, "last offset delta");
        let control = batch(Spec { attributes: CONTROL_BIT, ..Spec::default() });
        assert!(ProducedBatch::check(&control).is_err());
        let codec = batch(Spec { attributes: 6, ..Spec::default() });
        assert!(ProducedBatch::check(&codec).is_err());
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(add_sequence(5, 3), 8);
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 1, 3), 1);
    }
}
