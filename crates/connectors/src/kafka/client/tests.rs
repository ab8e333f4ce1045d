//! The walk against batches another encoder wrote, and against bytes nobody wrote.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as KafkaRecord, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;

use super::compression::{Codec, Decompressor};
use super::record_batch::{Batch, Malformed, next_offset};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// A record in owned form: offset, timestamp, key, value, headers.
type Owned = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

pub(super) fn record(offset: i64, key: Option<&str>, value: Option<Vec<u8>>) -> KafkaRecord {
    KafkaRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: i32::try_from(offset).unwrap(),
        timestamp: 1_700_000_000_000 + offset,
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(Bytes::from),
        headers: IndexMap::new(),
    }
}

pub(super) fn encode(records: &[KafkaRecord], compression: Compression) -> Bytes {
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, records, &RecordEncodeOptions { version: 2, compression }).unwrap();
    bytes.freeze()
}

fn walk(mut bytes: &[u8]) -> Result<Vec<Owned>, String> {
    let mut decompressor = Decompressor::default();
    let mut found = Vec::new();
    while let Some((batch, rest)) = Batch::split(bytes).map_err(|error| error.to_string())? {
        batch.check_crc().map_err(|error| error.to_string())?;
        found.extend(walk_batch(&batch, &mut decompressor)?);
        bytes = rest;
    }
    Ok(found)
}

fn walk_batch(batch: &Batch<'_>, decompressor: &mut Decompressor) -> Result<Vec<Owned>, String> {
    decompressor.decompress(batch.codec, batch.records).map_err(|error| error.to_string())?;
    let mut cursor = batch.cursor();
    let mut found = Vec::new();
    while let Some(record) = cursor.next(decompressor.bytes()).map_err(|error| error.to_string())? {
        let headers: Result<Vec<_>, Malformed> =
            record.headers.map(|header| header.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))).collect();
        let headers = headers.map_err(|error| error.to_string())?;
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        found.push((record.offset, record.timestamp, key, value, headers));
    }
    Ok(found)
}

fn owned(record: &KafkaRecord) -> Owned {
    let headers = record
        .headers
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_ref().map(|value| value.to_vec())))
        .collect();
    let (key, value) = (record.key.as_ref().map(|key| key.to_vec()), record.value.as_ref().map(|value| value.to_vec()));
    (record.offset, record.timestamp, key, value, headers)
}

/// Records of all shapes: no key, no value, headers, long and empty values, a value larger than an LZ4 block.
fn shapes() -> Vec<KafkaRecord> {
    let mut records: Vec<KafkaRecord> = (0..500)
        .map(|offset| record(40 + offset, (offset % 3 != 0).then_some("key"), Some(format!("value {offset}").into())))
        .collect();
    records.push(record(540, Some(""), None));
    records.push(record(541, None, Some(Vec::new())));
    records.push(record(542, Some("large"), Some((0..300_000u32).map(|i| (i * 7 % 251) as u8).collect())));
    records[7].headers.insert(StrBytes::from_static_str("trace"), Some(Bytes::from_static(b"1")));
    records[7].headers.insert(StrBytes::from_static_str("empty"), None);
    records
}

#[test]
fn every_codec_gives_the_records_that_were_written() {
    let records = shapes();
    let expected: Vec<Owned> = records.iter().map(owned).collect();
    for compression in CODECS {
        assert_eq!(walk(&encode(&records, compression)).unwrap(), expected, "{compression:?}");
    }
}

#[test]
fn raw_snappy_and_linked_lz4_are_read_too() {
    let plain: Vec<u8> = (0..200_000u32).map(|i| (i % 97) as u8).collect();
    let mut decompressor = Decompressor::default();
    let snappy = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    decompressor.decompress(Codec::Snappy, &snappy).unwrap();
    assert_eq!(decompressor.bytes(), plain);

    let mut encoder = lz4::EncoderBuilder::new().block_mode(lz4::BlockMode::Linked).build(Vec::new()).unwrap();
    std::io::Write::write_all(&mut encoder, &plain).unwrap();
    let (linked, result) = encoder.finish();
    result.unwrap();
    decompressor.decompress(Codec::Lz4, &linked).unwrap();
    assert_eq!(decompressor.bytes(), plain);
}

#[test]
fn an_answer_may_end_inside_a_batch() {
    let (first, second) = (shapes(), encode(&[record(543, None, None)], Compression::None));
    let mut bytes = encode(&first, Compression::Lz4).to_vec();
    let first_bytes = bytes.len();
    bytes.extend_from_slice(&second);
    assert_eq!(next_offset(&bytes), Some(544));
    for cut in first_bytes..bytes.len() {
        assert_eq!(next_offset(&bytes[..cut]), Some(543));
        assert_eq!(walk(&bytes[..cut]).unwrap().len(), first.len());
    }
}

#[test]
fn a_flipped_bit_is_seen() {
    let bytes = encode(&shapes()[..3], Compression::None);
    for position in 21..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[position] ^= 4;
        assert!(walk(&damaged).is_err(), "byte {position}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = walk(&bytes);
        let _ = next_offset(&bytes);
    }

    /// Damage behind a checksum that was made to fit, so that it reaches the unpacking and the walk.
    #[test]
    fn hostile_batches_never_panic(
        codec in 0usize..5,
        damage in proptest::collection::vec((23usize..400, any::<u8>()), 1..6),
    ) {
        let mut bytes = encode(&shapes()[..40], CODECS[codec]).to_vec();
        for (position, byte) in damage {
            let position = position % bytes.len();
            if position >= 23 {
                bytes[position] = byte;
            }
        }
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let _ = walk(&bytes);
    }

    #[test]
    fn hostile_compressed_bytes_never_panic(
        codec in 1i16..5,
        magic in any::<bool>(),
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let codec = Codec::from_attributes(codec).unwrap();
        let prefix: &[u8] = match codec {
            Codec::Gzip => b"\x1f\x8b\x08",
            Codec::Snappy => b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01",
            Codec::Lz4 => b"\x04\x22\x4d\x18\x60\x40",
            _ => b"\x28\xb5\x2f\xfd",
        };
        if magic {
            bytes.splice(0..0, prefix.iter().copied());
        }
        let _ = Decompressor::default().decompress(codec, &bytes);
    }
}
