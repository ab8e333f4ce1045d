//! Looks inside a batch: the only place where records are opened.
//!
//! A broker stores batches opaque, but "the first record not older than t" has to be exact, and
//! in a batch that is a matter of its records. They are read as a stream and skipped as soon as
//! their time and offset are known, so a batch that unpacks to gigabytes costs time, not memory.
//!
//! ```text
//! record: | length varint | attributes i8 | timestamp delta varlong | offset delta varint | rest |
//! ```

use std::io::{self, BufRead, BufReader, Cursor, Read};

use super::batch::{BatchHeader, Codec, HEADER_SIZE};
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
    if header.is_log_append_time() {
        return (header.max_timestamp >= timestamp).then_some(whole);
    }
    search(header, batch, timestamp, from).unwrap_or(Some(whole))
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
