//! Looks inside a batch: the only place where records are opened.
//!
//! A broker stores batches opaque, but "the first record not older than t" has to be exact, and
//! in a batch that is a matter of its records. They are read as a stream and skipped as soon as
//! their time and offset are known, so a batch that unpacks to gigabytes costs time, not memory.
//!
//! ```text
//! record: | length varint | attributes i8 | timestamp delta varlong | offset delta varint |
//!         | key length varint | key | value length varint | value | headers |
//! ```
//!
//! Compaction and the checks of a compacted topic need keys and values. They take a batch apart as a
//! whole ([`Unpacked`]), up to a limit that is a setting, and can put it together again.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

use super::batch::{BatchHeader, Codec, HEADER_SIZE, seal};
use super::segment::TimedOffset;

/// Unpacked bytes looked at in one batch before giving up on it.
const MAX_UNPACKED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Unpacked bytes for each packed one before giving up: more than any codec but zstd reaches.
const MAX_UNPACK_RATIO: u64 = 1100;

/// The first record of a batch that is not older than `timestamp` and not before `from`.
///
/// If the records cannot be read the batch itself is answered: it does hold a record that new,
/// so a reader that starts there misses nothing.
pub(crate) fn first_not_older(header: &BatchHeader, batch: &[u8], timestamp: i64, from: i64) -> Option<TimedOffset> {
    let whole = TimedOffset { timestamp: header.max_timestamp, offset: header.base_offset.max(from) };
    if header.record_count == 0 {
        return None;
    }
    if header.is_log_append_time() {
        if header.max_timestamp < timestamp {
            return None;
        }
        // All records have the time of the batch; which of them are left only they can tell.
        let first = search(header, batch, i64::MIN, from).unwrap_or(Some(whole));
        return first.map(|first| TimedOffset { timestamp: header.max_timestamp, ..first });
    }
    search(header, batch, timestamp, from).unwrap_or(Some(whole))
}

/// A record of an unpacked batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) attributes: u8,
    pub(crate) key: Option<&'a [u8]>,
    /// A record without a value is a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// As they are written.
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// A record without headers.
    pub(crate) fn of(offset: i64, timestamp: i64, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { offset, timestamp, attributes: 0, key, value, headers: &[0] }
    }
}

/// The records of a batch, unpacked but not yet read.
#[derive(Debug)]
pub(crate) struct Unpacked<'a> {
    header: BatchHeader,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Unpacked<'a> {
    /// Unpacks a whole batch, unless its records have more than `limit` bytes.
    pub(crate) fn new(header: &BatchHeader, batch: &'a [u8], limit: usize) -> io::Result<Self> {
        let codec = header.codec().map_err(io::Error::other)?;
        let packed = &batch[HEADER_SIZE..header.size_bytes];
        if codec == Codec::None || packed.is_empty() {
            return Ok(Self { header: *header, bytes: Cow::Borrowed(packed) });
        }
        let mut bytes = Vec::new();
        unpack(codec, packed)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::other(format!("its records unpack to more than {limit} bytes")));
        }
        Ok(Self { header: *header, bytes: Cow::Owned(bytes) })
    }

    /// Each record, or why it cannot be read: their offsets rise within those of the batch, and nothing is behind the
    /// last one. An error is the last item.
    pub(crate) fn records(&self) -> Records<'_> {
        Records { header: &self.header, rest: &self.bytes, left: self.header.record_count, least_delta: 0 }
    }

    /// The records as bytes, without compression.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A walk over the records of an unpacked batch.
#[derive(Debug, Clone)]
pub(crate) struct Records<'a> {
    header: &'a BatchHeader,
    rest: &'a [u8],
    left: i32,
    least_delta: i64,
}

impl<'a> Records<'a> {
    fn read(&mut self) -> io::Result<Record<'a>> {
        let length = read_varint(&mut self.rest)?;
        let mut body = take(&mut self.rest, length)?;
        let attributes = take(&mut body, 1)?[0];
        let timestamp = self.header.base_timestamp.wrapping_add(read_varint(&mut body)?);
        let delta = read_varint(&mut body)?;
        let key = take_nullable(&mut body)?;
        let value = take_nullable(&mut body)?;
        if !(self.least_delta..=i64::from(self.header.last_offset_delta)).contains(&delta) {
            return Err(io::Error::other(format!("a record has the offset delta {delta}")));
        }
        self.least_delta = delta + 1;
        let offset = self.header.base_offset.saturating_add(delta);
        Ok(Record { offset, timestamp, attributes, key, value, headers: body })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = io::Result<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left > 0 {
            let record = self.read();
            self.left = if record.is_ok() { self.left - 1 } else { 0 };
            if record.is_err() {
                self.rest = &[];
            }
            return Some(record);
        }
        let behind = std::mem::take(&mut self.rest).len();
        (behind > 0).then(|| Err(io::Error::other(format!("{behind} bytes are behind its last record"))))
    }
}

fn take<'a>(rest: &mut &'a [u8], count: i64) -> io::Result<&'a [u8]> {
    let count = usize::try_from(count).map_err(|_| io::Error::other("a record with a negative length"))?;
    let (taken, left) = rest.split_at_checked(count).ok_or(io::ErrorKind::UnexpectedEof)?;
    *rest = left;
    Ok(taken)
}

fn take_nullable<'a>(rest: &mut &'a [u8]) -> io::Result<Option<&'a [u8]>> {
    match read_varint(rest)? {
        -1 => Ok(None),
        count => take(rest, count).map(Some),
    }
}

/// A batch under `header` with these records, packed by its codec. Its sizes, its record count and its checksum are
/// set here.
pub(crate) fn build<'a>(header: &BatchHeader, records: impl Iterator<Item = Record<'a>>) -> io::Result<Vec<u8>> {
    let (mut plain, mut body) = (Vec::new(), Vec::new());
    let mut record_count = 0;
    for record in records {
        record_count += 1;
        body.clear();
        body.push(record.attributes);
        put_varint(&mut body, record.timestamp.wrapping_sub(header.base_timestamp));
        put_varint(&mut body, record.offset - header.base_offset);
        put_nullable(&mut body, record.key);
        put_nullable(&mut body, record.value);
        body.extend_from_slice(record.headers);
        put_varint(&mut plain, body.len() as i64);
        plain.extend_from_slice(&body);
    }
    build_packed(&BatchHeader { record_count, ..*header }, &plain)
}

/// A batch under `header` with records that are written already.
pub(crate) fn build_packed(header: &BatchHeader, plain: &[u8]) -> io::Result<Vec<u8>> {
    let codec = header.codec().map_err(io::Error::other)?;
    let mut batch = vec![0; HEADER_SIZE];
    pack(codec, plain, &mut batch)?;
    if i32::try_from(batch.len()).is_err() {
        return Err(io::Error::other("a batch of more than 2 GiB"));
    }
    seal(&BatchHeader { size_bytes: batch.len(), ..*header }, &mut batch);
    Ok(batch)
}

/// Appends `plain` packed, in the forms that every Kafka client reads.
fn pack(codec: Codec, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match codec {
        Codec::None => out.extend_from_slice(plain),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
        Codec::Lz4 => {
            // Blocks that depend on each other are refused by Kafka's own clients.
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, out);
            encoder.write_all(plain)?;
            encoder.finish().map_err(io::Error::other)?;
        }
        Codec::Zstd => zstd::stream::copy_encode(plain, out, zstd::DEFAULT_COMPRESSION_LEVEL)?,
        Codec::Snappy => pack_snappy(plain, out)?,
    }
    Ok(())
}

fn pack_snappy(plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    for block in plain.chunks(XERIAL_BLOCK_SIZE) {
        let packed = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn search(header: &BatchHeader, batch: &[u8], timestamp: i64, from: i64) -> io::Result<Option<TimedOffset>> {
    let codec = header.codec().map_err(io::Error::other)?;
    let packed = &batch[HEADER_SIZE..];
    let most = (packed.len() as u64).saturating_mul(MAX_UNPACK_RATIO).min(MAX_UNPACKED_BYTES);
    let mut records = BufReader::new(unpack(codec, packed)?.take(most));
    for _ in 0..header.record_count {
        let length = read_varint(&mut records)?;
        let mut body = (&mut records).take(u64::try_from(length).map_err(io::Error::other)?);
        let mut attributes = [0];
        body.read_exact(&mut attributes)?;
        let time = header.base_timestamp.saturating_add(read_varint(&mut body)?);
        let offset = header.base_offset.saturating_add(read_varint(&mut body)?);
        if time >= timestamp && offset >= from {
            return Ok(Some(TimedOffset { timestamp: time, offset }));
        }
        let rest = body.limit();
        skip(&mut records, rest)?;
    }
    Ok(None)
}

fn unpack(codec: Codec, bytes: &[u8]) -> io::Result<Box<dyn Read + '_>> {
    Ok(match codec {
        Codec::None => Box::new(bytes),
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Codec::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(bytes)),
        Codec::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes)?),
        Codec::Snappy => Box::new(Snappy::new(bytes)),
    })
}

fn skip(reader: &mut impl BufRead, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let available = reader.fill_buf()?.len() as u64;
        if available == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let step = available.min(count);
        reader.consume(step as usize);
        count -= step;
    }
    Ok(())
}

/// A zigzag number of at most ten bytes.
fn read_varint(reader: &mut impl Read) -> io::Result<i64> {
    let mut value: u64 = 0;
    for shift in (0..70).step_by(7) {
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        if shift < 64 {
            value |= u64::from(byte[0] & 0x7f) << shift;
        }
        if byte[0] & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(io::Error::other("a number of more than ten bytes"))
}

/// Snappy as Kafka's clients write it: one raw block, or the blocks of the xerial stream format.
///
/// ```text
/// | 0x82 "SNAPPY" 0 | version i32 | compatible i32 | length i32 | block | length i32 | block | ...
/// ```
struct Snappy<'a> {
    rest: &'a [u8],
    xerial: bool,
    block: Cursor<Vec<u8>>,
}

const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_SIZE: usize = 16;
const XERIAL_BLOCK_SIZE: usize = 32 * 1024;
/// Writers use 32 KiB; a raw block is a whole batch. Beyond this a length is hostile.
const MAX_SNAPPY_BLOCK: usize = 128 * 1024 * 1024;
/// A copy of three bytes stands for 64 at most.
const MAX_SNAPPY_RATIO: usize = 22;

impl<'a> Snappy<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let xerial = bytes.starts_with(XERIAL_MAGIC) && bytes.len() >= XERIAL_HEADER_SIZE;
        let rest = if xerial { &bytes[XERIAL_HEADER_SIZE..] } else { bytes };
        Self { rest, xerial, block: Cursor::default() }
    }

    fn next_block(&mut self) -> io::Result<&'a [u8]> {
        if !self.xerial {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.rest = rest;
        Ok(block)
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.block.read(out)?;
            if count > 0 || self.rest.is_empty() {
                return Ok(count);
            }
            let block = self.next_block()?;
            // The length is claimed by the block itself, and is allocated before the first byte is unpacked.
            let most = block.len().saturating_mul(MAX_SNAPPY_RATIO).min(MAX_SNAPPY_BLOCK);
            if snap::raw::decompress_len(block).map_err(io::Error::other)? > most {
                return Err(io::Error::other("a snappy block that unpacks to too much"));
            }
            let unpacked = snap::raw::Decoder::new().decompress_vec(block).map_err(io::Error::other)?;
            self.block = Cursor::new(unpacked);
        }
    }
}

#[cfg(test)]
mod limit_tests {
    use super::super::batch::testing::{Spec, batch};
    use super::*;

    fn read_all(codec: Codec, packed: &[u8], most: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        unpack(codec, packed)?.take(most).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn a_snappy_block_that_claims_more_than_it_can_hold_is_refused() {
        // 100 MiB as a length, and a byte.
        let error = read_all(Codec::Snappy, &[0x80, 0x80, 0x80, 0x32, 0], u64::MAX).expect_err("refused").to_string();
        assert!(error.contains("unpacks to too much"), "{error}");
        let best = snap::raw::Encoder::new().compress_vec(&vec![7; 1 << 20]).expect("packed");
        assert_eq!(read_all(Codec::Snappy, &best, u64::MAX).expect("unpacked").len(), 1 << 20);
    }

    #[test]
    fn a_batch_that_unpacks_without_end_is_answered_as_a_whole() {
        // One record that is said to have a terabyte, all of it zeros, in a few hundred bytes.
        let mut plain = vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        plain.resize(64 << 20, 0);
        let packed = zstd::stream::encode_all(&plain[..], 3).expect("packed");
        assert!(packed.len() < 64 << 10);
        let mut bytes = batch(Spec { attributes: 4, payload_bytes: 0, records: 2, ..Spec::default() });
        bytes.extend(&packed);
        let header = BatchHeader { size_bytes: bytes.len(), ..BatchHeader::parse(&bytes).expect("valid") };
        let found = first_not_older(&header, &bytes, 500, 0).expect("the batch is new enough");
        assert_eq!((found.timestamp, found.offset), (1000, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::testing::{Spec, batch};
    use super::*;

    fn header() -> BatchHeader {
        let bytes = batch(Spec { records: 50, timestamp: 5000, ..Spec::default() });
        BatchHeader { base_offset: 100, ..BatchHeader::parse(&bytes).expect("a batch") }
    }

    #[test]
    fn records_come_out_of_every_codec_as_they_went_in() {
        let big = vec![7; 100_000];
        let make =
            |offset, timestamp, key, value| Record { offset, timestamp, attributes: 0, key, value, headers: &[0] };
        let records = [
            make(100, 5000, Some(&b"k"[..]), Some(&b"v"[..])),
            make(103, -1, Some(b""), None),
            make(149, i64::MAX, None, Some(&big)),
        ];
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let built = build(&header().with_codec(codec), records.iter().copied()).expect("built");
            let parsed = BatchHeader::parse(&built).expect("a batch");
            super::super::batch::verify_crc(&parsed, &built).expect("sealed");
            assert_eq!((parsed.codec(), parsed.size_bytes, parsed.record_count), (Ok(codec), built.len(), 3));
            let unpacked = Unpacked::new(&parsed, &built, 1 << 20).expect("unpacked");
            let read: Vec<_> = unpacked.records().collect::<io::Result<_>>().expect("read");
            assert_eq!(read, records, "{codec:?}");
            let limited = Unpacked::new(&parsed, &built, 1000);
            assert_eq!(limited.is_err(), codec != Codec::None, "what is not packed has its own size for a limit");
        }
    }

    #[test]
    fn records_that_are_none_are_refused() {
        let good = Record { offset: 100, timestamp: 0, attributes: 0, key: Some(b"k"), value: None, headers: &[0] };
        let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
            let mut batch = build(&header(), [good, Record { offset: 101, ..good }].into_iter()).expect("built");
            change(&mut batch);
            let parsed = BatchHeader { size_bytes: batch.len(), ..BatchHeader::parse(&batch).expect("a batch") };
            let unpacked = Unpacked::new(&parsed, &batch, 1000).expect("unpacked");
            let error = unpacked.records().collect::<io::Result<Vec<_>>>().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|b| b.push(0), "1 bytes are behind");
        check(&|b| b.truncate(b.len() - 1), "end of file");
        check(&|b| b[HEADER_SIZE] = 1, "negative length");
        check(&|b| b[HEADER_SIZE] = 100, "end of file");
        // The second record claims the offset of the first.
        let second = build(&header(), [good].into_iter()).expect("built").len();
        check(&|b| b[second + 4] = 0, "offset delta 0");
    }
}
