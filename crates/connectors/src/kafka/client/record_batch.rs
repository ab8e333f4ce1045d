//! Walks the record batches of a fetch answer without copying or allocating for a record.
//!
//! ```text
//!   batch   0 base offset i64     8 length i32 (of what follows)   12 leader epoch i32   16 magic i8 (2)
//!          17 crc32c u32 (of what follows)   21 attributes i16 (codec 0-2, log append time 3, transactional 4,
//!             control 5)   23 last offset delta i32   27 base timestamp i64   35 max timestamp i64
//!          43 producer id i64    51 producer epoch i16   53 base sequence i32   57 record count i32
//!          61 records, compressed together
//!   record  length varint   attributes i8   timestamp delta varlong   offset delta varint
//!           key length varint, key   value length varint, value   header count varint, headers
//! ```
//!
//! The format is Kafka's, <https://kafka.apache.org/documentation/#recordbatch>. A length that does not fit its bytes
//! is an error and never a panic. Formats before Kafka 0.11 (magic 0 and 1) are refused; Kafka 4 no longer stores them.

use super::compression::Codec;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

const LENGTH_AT: usize = 8;
const LOG_OVERHEAD_BYTES: usize = 12;
const CRC_FROM: usize = 21;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// What was wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// One batch of a fetch answer: its header, and its records as stored.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Offset of the first record the batch was written with.
    pub base_offset: i64,
    /// Offset of the last one; compaction may have removed it, the number stays.
    pub last_offset: i64,
    /// How the records are packed.
    pub codec: Codec,
    /// Whether the broker's clock gave the timestamps (then all are `max_timestamp`).
    pub log_append_time: bool,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether it holds a transaction marker in place of records.
    pub control: bool,
    /// Milliseconds the record timestamps count from.
    pub base_timestamp: i64,
    /// The largest timestamp, in milliseconds.
    pub max_timestamp: i64,
    /// Who wrote it, -1 for a producer without an id.
    pub producer_id: i64,
    /// Records in the batch.
    pub record_count: i32,
    /// The records, packed.
    pub records: &'a [u8],
    crc: u32,
    checked: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The first batch of `bytes` and what follows it; none when `bytes` ends inside a batch, as answers may.
    pub fn split(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Malformed> {
        let Some((batch, rest)) = split_frame(bytes)? else { return Ok(None) };
        let attributes = i16_at(batch, 21);
        let base_offset = i64_at(batch, 0);
        let last_offset_delta = i32_at(batch, 23);
        if base_offset < 0 || last_offset_delta < 0 {
            return Err(Malformed("a batch has a negative offset"));
        }
        let record_count = i32_at(batch, 57);
        if record_count < 0 {
            return Err(Malformed("a batch has a negative number of records"));
        }
        let parsed = Self {
            base_offset,
            last_offset: base_offset
                .checked_add(last_offset_delta.into())
                .ok_or(Malformed("a batch's offsets overflow"))?,
            codec: Codec::from_attributes(attributes).ok_or(Malformed("a batch is packed with an unknown codec"))?,
            log_append_time: attributes & LOG_APPEND_TIME != 0,
            transactional: attributes & TRANSACTIONAL != 0,
            control: attributes & CONTROL != 0,
            base_timestamp: i64_at(batch, 27),
            max_timestamp: i64_at(batch, 35),
            producer_id: i64_at(batch, 43),
            record_count,
            records: &batch[HEADER_BYTES..],
            crc: u32::from_be_bytes(array_at(batch, 17)),
            checked: &batch[CRC_FROM..],
        };
        Ok(Some((parsed, rest)))
    }

    /// Compares the checksum; once a batch is enough.
    pub fn check_crc(&self) -> Result<(), Malformed> {
        if crc32c::crc32c(self.checked) != self.crc {
            return Err(Malformed("a batch's checksum does not match its bytes"));
        }
        Ok(())
    }

    /// The place before the first record.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            position: 0,
            remaining: self.record_count,
            base_offset: self.base_offset,
            base_timestamp: self.base_timestamp,
            append_timestamp: self.log_append_time.then_some(self.max_timestamp),
        }
    }
}

/// Cuts one batch with a known magic off the front.
fn split_frame(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>, Malformed> {
    if bytes.len() < LOG_OVERHEAD_BYTES {
        return Ok(None);
    }
    let length = usize::try_from(i32_at(bytes, LENGTH_AT)).map_err(|_| Malformed("a batch has a negative length"))?;
    if bytes.get(16).is_some_and(|magic| *magic != 2) {
        return Err(Malformed("a batch is in a format older than Kafka 0.11 or newer than this reader knows"));
    }
    if length < HEADER_BYTES - LOG_OVERHEAD_BYTES {
        return Err(Malformed("a batch is shorter than its header"));
    }
    let end = length.saturating_add(LOG_OVERHEAD_BYTES);
    Ok(bytes.split_at_checked(end))
}

/// The offset after the last whole batch of `bytes`, by the headers alone; none if there is no whole batch.
pub fn next_offset(mut bytes: &[u8]) -> Option<i64> {
    let mut next = None;
    while let Ok(Some((batch, rest))) = Batch::split(bytes) {
        next = Some(batch.last_offset.saturating_add(1));
        bytes = rest;
    }
    next
}

/// A record, borrowed from the bytes it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, -1 for none.
    pub timestamp: i64,
    /// Whether the broker's clock gave the timestamp.
    pub log_append_time: bool,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
    /// Bytes of the record, unpacked, with its lengths.
    pub size_bytes: usize,
}

/// A place between two records of a batch. It borrows nothing, so that a reader may stop and go on later.
#[derive(Debug, Clone, Copy)]
pub struct Cursor {
    position: usize,
    remaining: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_timestamp: Option<i64>,
}

impl Cursor {
    /// The next record of `records`, the unpacked bytes of the batch this cursor came from; none after the last.
    #[inline]
    pub fn next<'a>(&mut self, records: &'a [u8]) -> Result<Option<Record<'a>>, Malformed> {
        if self.remaining == 0 {
            return Ok(None);
        }
        let mut bytes = records.get(self.position..).ok_or(TRUNCATED)?;
        let length = usize::try_from(varint(&mut bytes)?).map_err(|_| Malformed("a record has a negative length"))?;
        let body = bytes.get(..length).ok_or(TRUNCATED)?;
        let record_end = records.len() - bytes.len() + length;
        let record = self.record(body, record_end - self.position)?;
        self.position = record_end;
        self.remaining -= 1;
        Ok(Some(record))
    }

    #[inline]
    fn record<'a>(&self, body: &'a [u8], size_bytes: usize) -> Result<Record<'a>, Malformed> {
        let (_attributes, mut rest) = body.split_first().ok_or(TRUNCATED)?;
        let timestamp_delta = varlong(&mut rest)?;
        let offset_delta = varint(&mut rest)?;
        let key = nullable(&mut rest)?;
        let value = nullable(&mut rest)?;
        let header_count =
            u32::try_from(varint(&mut rest)?).map_err(|_| Malformed("a record has a negative number of headers"))?;
        Ok(Record {
            offset: self.base_offset.wrapping_add(offset_delta.into()),
            timestamp: match self.append_timestamp {
                Some(timestamp) => timestamp,
                None => self.base_timestamp.wrapping_add(timestamp_delta),
            },
            log_append_time: self.append_timestamp.is_some(),
            key,
            value,
            headers: Headers { count: header_count, bytes: rest },
            size_bytes,
        })
    }
}

/// The headers of a record, read one by one; what is damaged ends the walk with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<(&'a [u8], Option<&'a [u8]>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut header = || {
            let key = nullable(&mut self.bytes)?.ok_or(Malformed("a header has no key"))?;
            Ok((key, nullable(&mut self.bytes)?))
        };
        let result = header();
        if result.is_err() {
            self.count = 0;
        }
        Some(result)
    }
}

/// Whether the marker in a control batch says that its transaction was given up. The key of its one record is
/// (version i16, type i16), type 0 an abort and 1 a commit.
pub fn is_abort_marker(batch: &Batch<'_>) -> bool {
    let mut cursor = batch.cursor();
    matches!(cursor.next(batch.records), Ok(Some(Record { key: Some([_, _, 0, 0, ..]), .. })))
}

const TRUNCATED: Malformed = Malformed("a record ends before its length says");

/// Bytes after a varint length, -1 for none.
#[inline]
fn nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let length = varint(bytes)?;
    if length < 0 {
        return if length == -1 { Ok(None) } else { Err(Malformed("a field has a negative length")) };
    }
    let (field, rest) = bytes.split_at_checked(length as usize).ok_or(TRUNCATED)?;
    *bytes = rest;
    Ok(Some(field))
}

/// A zigzag varint of 32 bits; most are one or two bytes long.
#[inline]
fn varint(bytes: &mut &[u8]) -> Result<i32, Malformed> {
    let raw = match **bytes {
        [a, ref rest @ ..] if a < 0x80 => {
            *bytes = rest;
            u32::from(a)
        }
        [a, b, ref rest @ ..] if b < 0x80 => {
            *bytes = rest;
            u32::from(a & 0x7f) | u32::from(b) << 7
        }
        _ => u32::try_from(long_varint(bytes, 5)? & 0xffff_ffff).unwrap_or(u32::MAX),
    };
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// A zigzag varint of 64 bits.
#[inline]
fn varlong(bytes: &mut &[u8]) -> Result<i64, Malformed> {
    let raw = match **bytes {
        [a, ref rest @ ..] if a < 0x80 => {
            *bytes = rest;
            u64::from(a)
        }
        _ => long_varint(bytes, 10)?,
    };
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn long_varint(bytes: &mut &[u8], max_bytes: usize) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for index in 0..max_bytes {
        let byte = *bytes.get(index).ok_or(TRUNCATED)?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(Malformed("a number is longer than its type"))
}

/// `N` bytes of a batch header, whose length [`split_frame`] has checked.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(array_at(bytes, at))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array_at(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(array_at(bytes, at))
}
