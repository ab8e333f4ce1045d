//! Doors for the fuzz targets in `fuzz/`, which see a crate from outside. Built for them alone (`--cfg fuzzing`).
//!
//! Each door states what must hold for any input and panics where it does not: a finding is a panic, an endless loop
//! or an allocation beyond the target's limit.

#![expect(clippy::missing_panics_doc, reason = "to panic is what these are for")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::buffers::Buffers;
use crate::log::batch::{BatchHeader, ProducedBatch, verify_crc};
use crate::log::checkpoint::Checkpoint;
use crate::log::config::{LogConfig, Overrides};
use crate::log::control::{Marker, Outcome};
use crate::log::flush::FlushQueue;
use crate::log::partition::{Isolation, Partition, ReadLimits};
use crate::log::partition_log::PartitionLog;
use crate::log::records;
use crate::log::recovery::Recovery;
use crate::protocol::frame::RequestLimits;
use crate::protocol::shape::ShapeError;
use crate::protocol::{api, frame, shape};
use crate::settings::{BrokerSettings, CorruptLogPolicy, FsyncMode};

/// Elements a fuzzed request may have: few enough that decoding them takes little memory.
const MAX_ELEMENTS: usize = 100_000;
const LIMITS: RequestLimits = RequestLimits { max_elements: MAX_ELEMENTS, max_client_id_bytes: 1024 };
const NOW_MS: i64 = 1_700_000_000_000;
const MAX_PRODUCERS: usize = 100;
const MAX_UNPACKED_BYTES: usize = 16 * 1024 * 1024;

/// A frame that passed everything that stands before the decoder.
#[derive(Debug)]
pub struct Request {
    /// Its api key.
    pub key: i16,
    /// Its version.
    pub version: i16,
    /// What is to be decoded.
    pub body: Bytes,
    /// How many of the body's bytes the walk took.
    pub walked: usize,
}

/// What the walk says of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// It ends after so many bytes.
    Ends(usize),
    /// No decoder can read it.
    Refused,
    /// It is refused, and decoding it to see might allocate too much.
    TooLarge,
}

/// Understands a frame as a connection would.
pub fn frame(bytes: &[u8]) -> Option<Request> {
    let frame = frame::parse(Bytes::copy_from_slice(bytes), LIMITS).ok()?;
    if frame.fall_back {
        return None;
    }
    let walked = shape::walk(frame.key, frame.version, &frame.body, MAX_ELEMENTS).expect("parse has walked it");
    Some(Request { key: frame.key as i16, version: frame.version, body: frame.body, walked: walked.length })
}

/// Walks a body, if the API is served in this version.
pub fn walk(key: i16, version: i16, body: &[u8]) -> Option<Walked> {
    let key = ApiKey::try_from(key).ok()?;
    api::find(key, version)?;
    Some(match shape::walk(key, version, body, MAX_ELEMENTS) {
        Ok(walked) => Walked::Ends(walked.length),
        Err(ShapeError::Short { .. }) => Walked::Refused,
        Err(_) => Walked::TooLarge,
    })
}

/// Takes bytes as the records of a produce request, with the checksum put right if asked for.
pub fn record_batch(mut bytes: Vec<u8>, fix_crc: bool) {
    if fix_crc && bytes.len() > 21 {
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let Ok(batch) = ProducedBatch::check(&bytes) else { return };
    for log_append_time_ms in [None, Some(NOW_MS)] {
        let (header, records) = batch.stamp(4711, log_append_time_ms);
        let stored = [&header[..], records].concat();
        let parsed = BatchHeader::parse(&stored).expect("what is stored can be read");
        verify_crc(&parsed, &stored).expect("what is stored is whole");
        assert_eq!(parsed.base_offset, 4711);
        for timestamp in [i64::MIN, 0, parsed.max_timestamp, i64::MAX] {
            let found = records::first_not_older(&parsed, &stored, timestamp, 0);
            assert!(found.is_none_or(|found| found.offset >= 0));
        }
        rebuild(&parsed, &stored);
    }
}

/// Unpacks a batch as compaction does, and puts the records that can be read together again: they must be the same.
fn rebuild(header: &BatchHeader, batch: &[u8]) {
    let Ok(unpacked) = records::Unpacked::new(header, batch, MAX_UNPACKED_BYTES) else { return };
    let found: Vec<_> = unpacked.records().map_while(Result::ok).collect();
    let Ok(rebuilt) = records::build(header, found.iter().copied()) else { return };
    let parsed = BatchHeader::parse(&rebuilt).expect("what is built can be read");
    verify_crc(&parsed, &rebuilt).expect("what is built is whole");
    let again = records::Unpacked::new(&parsed, &rebuilt, 2 * MAX_UNPACKED_BYTES).expect("what is built unpacks");
    assert!(again.records().map(|record| record.expect("a record that was built")).eq(found), "records were changed");
}

/// A valid batch at this offset, as it stands in a log.
///
/// An idempotent producer's may be in a transaction.
pub fn batch(
    offset: i64,
    records: i32,
    payload_bytes: usize,
    timestamp: i64,
    producer: Option<(i64, i16, i32)>,
    in_transaction: bool,
) -> Vec<u8> {
    use crate::log::batch::testing::{Spec, batch};
    let spec = Spec {
        records: records.max(i32::MIN + 1),
        timestamp,
        producer,
        attributes: i16::from(in_transaction) << 4,
        payload_bytes,
    };
    let mut bytes = batch(spec);
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes
}

/// The end of a transaction at this offset, as it stands in a log.
pub fn marker(offset: i64, producer_id: i64, epoch: i16, commit: bool) -> Vec<u8> {
    let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
    let mut bytes = Marker { producer_id, producer_epoch: epoch, outcome }.batch(NOW_MS).to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes
}

/// Writes a sealed checkpoint.
pub fn write_checkpoint(dir: &Path, recovery_offset: i64, start_offset: i64) {
    Checkpoint { recovery_offset, start_offset, ..Checkpoint::default() }.write(dir).expect("written");
}

/// Opens what is in `dir` as a partition's log and holds it to its promises.
///
/// A log that opens can be read to its end, is the same when it is opened again, takes an append, and has that after a
/// clean stop and after a crash.
pub fn recover(dir: &Path, truncate: bool, compacts: bool) {
    let policy = if truncate { CorruptLogPolicy::Truncate } else { CorruptLogPolicy::Refuse };
    let Some(log) = open(dir, policy, compacts) else { return };
    let first = contents(log, compacts);
    let again = contents(open(dir, policy, compacts).expect("what was recovered opens again"), compacts);
    assert_eq!(first, again, "opening a recovered log changed it");

    let (log, expected) = append(open(dir, policy, compacts).expect("it opens"), &first);
    drop(log);
    let crashed = contents(open(dir, policy, compacts).expect("it opens after a crash"), compacts);
    assert_eq!(crashed, expected, "after a crash");

    let (log, expected) = append(open(dir, policy, compacts).expect("it opens"), &expected);
    log.close().expect("closed");
    let closed =
        contents(open(dir, CorruptLogPolicy::Refuse, compacts).expect("it opens after a clean stop"), compacts);
    assert_eq!(closed, expected, "after a clean stop");
}

/// Where a log begins and ends, and all its bytes.
type Contents = (i64, i64, Vec<u8>);

fn open(dir: &Path, policy: CorruptLogPolicy, compacts: bool) -> Option<Arc<Partition>> {
    let settings = BrokerSettings { segment_bytes: 2048, ..BrokerSettings::new(dir) };
    let config = LogConfig::resolve(&Overrides::new(), &settings);
    let recovery =
        Recovery { dir, topic: "t", partition: 0, policy, index_interval_bytes: 64, compacts, now_ms: NOW_MS };
    let log = PartitionLog::open(recovery, config, MAX_PRODUCERS).ok()?;
    Some(Partition::new("t".into(), 0, log, FlushQueue::new(FsyncMode::Os)))
}

fn contents(partition: Arc<Partition>, compacts: bool) -> Contents {
    let (start, end) = (partition.start_offset(), partition.high_watermark());
    assert!(start <= end, "the log goes from {start} to {end}");
    let limits = ReadLimits { max_bytes: 1000, at_least_one: true, verify: true, isolation: Isolation::Uncommitted };
    let (mut at, mut bytes) = (start, Vec::new());
    while at < end {
        // What is left of a log that was damaged below its checkpoint is only verified when it is read.
        let Ok(read) = partition.read(at, limits, &Buffers::new()) else { break };
        let read = read.bytes;
        if read.is_empty() {
            // Compaction may leave nothing behind an offset but the end.
            assert!(compacts, "nothing at offset {at} of a log that goes from {start} to {end}");
            break;
        }
        let mut rest = &read[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).expect("whole batches");
            assert!(header.next_offset() > at, "a batch that ends at {} for offset {at}", header.next_offset());
            at = header.next_offset();
            rest = &rest[header.size_bytes..];
        }
        bytes.extend_from_slice(&read);
    }
    for timestamp in [i64::MIN, 0, i64::MAX] {
        drop(partition.find_time(timestamp, Isolation::Committed));
    }
    drop(partition.newest());
    (start, end, bytes)
}

fn append(partition: Arc<Partition>, before: &Contents) -> (Arc<Partition>, Contents) {
    let sent = batch(0, 2, 5, NOW_MS, None, false);
    let checked = ProducedBatch::check(&sent).expect("valid");
    let Ok(appended) = partition.append(&checked, NOW_MS, || Ok(())) else { return (partition, before.clone()) };
    assert_eq!(appended.base_offset, before.1);
    let (start, _, mut bytes) = before.clone();
    let mut stored = sent.clone();
    stored[..8].copy_from_slice(&appended.base_offset.to_be_bytes());
    stored[12..16].copy_from_slice(&[0; 4]);
    bytes.extend(stored);
    (partition, (start, appended.next_offset, bytes))
}
