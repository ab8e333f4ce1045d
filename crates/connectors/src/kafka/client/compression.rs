//! Decompresses the records of one batch, with every codec Kafka has, into a buffer that is used again.
//!
//! ```text
//!   attributes & 7 = 0 none   1 gzip   2 snappy          3 lz4                  4 zstd
//!                              RFC 1952  raw block, or     frame of blocks        frame
//!                                        xerial: 16 bytes
//!                                        then (u32 length,
//!                                        raw block)*
//! ```
//!
//! Lengths inside the bytes are claims, not facts: nothing is allocated on their word beyond
//! [`MAX_DECOMPRESSED_BYTES`], and a lie gives an error.

use std::io::{self, Read};

use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// No honest batch is larger when it is unpacked; brokers take 1 MB batches unless told otherwise.
pub const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;

const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const LZ4_STORED_BLOCK: u32 = 1 << 31;
const GROWTH_BYTES: usize = 64 << 10;
/// The most that is allocated on the word of a frame header.
const MAX_TRUSTED_BYTES: usize = 8 << 20;

/// A codec of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Records as they are.
    None,
    /// RFC 1952.
    Gzip,
    /// A raw Snappy block, or the framing of snappy-java.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// A Zstandard frame.
    Zstd,
}

impl Codec {
    /// The codec in the low bits of a batch's attributes.
    pub fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & 7 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Decompresses batches one after the other into one buffer, keeping what is costly to make.
#[derive(Default)]
pub struct Decompressor {
    output: Output,
    zstd: Option<ZstdDecoder<'static>>,
}

impl Decompressor {
    /// Unpacks `data`; [`Decompressor::bytes`] then gives the result until the next call.
    pub fn decompress(&mut self, codec: Codec, data: &[u8]) -> io::Result<()> {
        self.output.len = 0;
        match codec {
            Codec::None => self.output.put(data),
            Codec::Gzip => self.output.read_all(flate2::bufread::MultiGzDecoder::new(data)),
            Codec::Snappy => decompress_snappy(data, &mut self.output),
            Codec::Lz4 => decompress_lz4(data, &mut self.output),
            Codec::Zstd => self.decompress_zstd(data),
        }
    }

    /// What the last call unpacked.
    pub fn bytes(&self) -> &[u8] {
        &self.output.buffer[..self.output.len]
    }

    fn decompress_zstd(&mut self, data: &[u8]) -> io::Result<()> {
        let decoder = match &mut self.zstd {
            Some(decoder) => {
                decoder.reinit()?;
                decoder
            }
            none => none.insert(ZstdDecoder::new()?),
        };
        let mut wanted = match zstd::zstd_safe::get_frame_content_size(data) {
            Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX).clamp(1, MAX_TRUSTED_BYTES),
            _ => data.len().saturating_mul(4).clamp(GROWTH_BYTES, MAX_TRUSTED_BYTES),
        };
        let mut input = InBuffer::around(data);
        loop {
            let mut room = OutBuffer::around(self.output.room(wanted)?);
            let hint = decoder.run(&mut input, &mut room)?;
            let (written, full) = (room.pos(), room.pos() == room.capacity());
            self.output.len += written;
            let consumed = input.pos() == data.len();
            if hint == 0 && consumed {
                return Ok(());
            }
            if consumed && !full {
                return Err(invalid("zstd frame ends early"));
            }
            wanted = self.output.len.clamp(GROWTH_BYTES, MAX_TRUSTED_BYTES);
        }
    }
}

/// A buffer that only grows, so that its bytes are zeroed once and not for every batch.
#[derive(Default)]
struct Output {
    buffer: Vec<u8>,
    len: usize,
}

impl Output {
    /// At least `wanted` writable bytes after what is there.
    fn room(&mut self, wanted: usize) -> io::Result<&mut [u8]> {
        let end = self.len.saturating_add(wanted);
        if end > MAX_DECOMPRESSED_BYTES {
            return Err(invalid("a batch unpacks to more than 256 MiB"));
        }
        if self.buffer.len() < end {
            self.buffer.resize(end.next_power_of_two(), 0);
        }
        Ok(&mut self.buffer[self.len..])
    }

    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        self.room(data.len())?[..data.len()].copy_from_slice(data);
        self.len += data.len();
        Ok(())
    }

    fn read_all(&mut self, mut reader: impl Read) -> io::Result<()> {
        loop {
            let read = reader.read(self.room(GROWTH_BYTES)?)?;
            if read == 0 {
                return Ok(());
            }
            self.len += read;
        }
    }
}

fn decompress_snappy(data: &[u8], output: &mut Output) -> io::Result<()> {
    if !data.starts_with(XERIAL_MAGIC) {
        return snappy_block(data, output);
    }
    let mut rest = data.get(XERIAL_HEADER_BYTES..).ok_or_else(|| invalid("snappy header is cut"))?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("snappy block length is cut"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = tail.get(..length).ok_or_else(|| invalid("snappy block is cut"))?;
        snappy_block(block, output)?;
        rest = &tail[length..];
    }
    Ok(())
}

fn snappy_block(block: &[u8], output: &mut Output) -> io::Result<()> {
    let claimed = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    // Three bytes of Snappy give 64 at the most: a larger claim is a lie not worth an allocation.
    if claimed > block.len().saturating_mul(64) {
        return Err(invalid("snappy block claims an impossible length"));
    }
    let room = output.room(claimed)?;
    output.len += snap::raw::Decoder::new().decompress(block, room).map_err(io::Error::other)?;
    Ok(())
}

/// Walks the frame ourselves where its blocks are independent, as every Kafka client writes them: the block decoder
/// then works straight into the buffer, twice as fast as the frame decoder. Anything unusual goes to the latter.
fn decompress_lz4(data: &[u8], output: &mut Output) -> io::Result<()> {
    let Some(frame) = Lz4Frame::parse(data) else {
        return output.read_all(lz4::Decoder::new(data)?);
    };
    let mut rest = frame.blocks;
    loop {
        let (word, tail) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("lz4 frame ends early"))?;
        let word = u32::from_le_bytes(*word);
        if word == 0 {
            return Ok(());
        }
        let length = (word & !LZ4_STORED_BLOCK) as usize;
        let block = tail.get(..length).ok_or_else(|| invalid("lz4 block is cut"))?;
        if word & LZ4_STORED_BLOCK != 0 {
            output.put(block)?;
        } else {
            let room = &mut output.room(frame.max_block_bytes)?[..frame.max_block_bytes];
            let limit = i32::try_from(frame.max_block_bytes).unwrap_or(i32::MAX);
            output.len += lz4::block::decompress_to_buffer(block, Some(limit), room)?;
        }
        let skip = length + if frame.block_checksums { 4 } else { 0 };
        rest = tail.get(skip..).ok_or_else(|| invalid("lz4 block checksum is cut"))?;
    }
}

/// The parts of an LZ4 frame header that matter here.
struct Lz4Frame<'a> {
    max_block_bytes: usize,
    block_checksums: bool,
    blocks: &'a [u8],
}

impl<'a> Lz4Frame<'a> {
    /// None when the frame is not the plain kind: another version, linked blocks, a dictionary. The checksums are
    /// not looked at, the batch's CRC covers the same bytes.
    fn parse(data: &'a [u8]) -> Option<Self> {
        let (flags, descriptor) = match data {
            [a, b, c, d, flags, descriptor, ..] if [*a, *b, *c, *d] == LZ4_MAGIC => (*flags, *descriptor),
            _ => return None,
        };
        let (version, independent, has_size, has_dictionary) =
            (flags >> 6, flags & 0x20 != 0, flags & 0x08 != 0, flags & 0x01 != 0);
        if version != 1 || !independent || has_dictionary {
            return None;
        }
        let max_block_bytes = match (descriptor >> 4) & 7 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return None,
        };
        let header_bytes = 7 + if has_size { 8 } else { 0 };
        Some(Self { max_block_bytes, block_checksums: flags & 0x10 != 0, blocks: data.get(header_bytes..)? })
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
