//! Compaction as a whole: against a model, with crashes at every step, and beside readers and deletions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::batch::testing::{Spec, batch};
use super::super::batch::{BatchHeader, CONTROL_BIT, Codec, ProducedBatch, TRANSACTIONAL_BIT, verify_crc};
use super::super::config::LogConfig;
use super::super::control::{Marker, Outcome};
use super::super::flush::FlushQueue;
use super::super::partition::{Isolation, Partition, ReadLimits};
use super::super::partition_log::PartitionLog;
use super::super::producer_state::{Ended, LastBatch};
use super::super::records::{Record, Unpacked, build};
use super::super::recovery::Recovery;
use super::filter::{Filter, Left};
use super::keys::Keys;
use super::swap::{Action, Swap};
use super::transactions::Transactions;
use super::{CleanError, Limits, Throttle};
use crate::buffers::Buffers;
use crate::settings::{CorruptLogPolicy, FsyncMode};

const LIMITS: Limits = Limits { keys_bytes: 1 << 20, unpacked_bytes: 1 << 20 };
const RETENTION_MS: i64 = 1000;

/// A partition whose time and crashes are in the test's hands.
struct Bench {
    dir: TempDir,
    config: LogConfig,
    partition: Arc<Partition>,
    now_ms: i64,
}

type Key = Option<String>;
type Kept = BTreeMap<i64, (Key, Option<String>)>;

impl Bench {
    fn new(segment_bytes: u32) -> Self {
        let config = LogConfig {
            segment_bytes,
            compact: true,
            delete: false,
            delete_retention_ms: RETENTION_MS,
            min_cleanable_dirty_ratio: 0.0,
            index_interval_bytes: 100,
            ..LogConfig::default()
        };
        let dir = tempfile::tempdir().expect("tempdir");
        let partition = open(&dir, config, 0, CorruptLogPolicy::Refuse).expect("opened");
        Self { dir, config, partition, now_ms: 0 }
    }

    /// As after a crash of the process.
    fn reopen(&mut self) {
        self.partition.abandon();
        self.partition = open(&self.dir, self.config, self.now_ms, CorruptLogPolicy::Refuse).expect("opened");
    }

    fn produce(&self, records: &[(&str, Option<&str>)]) -> i64 {
        let owned: Vec<_> = records.iter().map(|&(key, value)| (Some(key.into()), value.map(Into::into))).collect();
        self.append(&produced(&owned, Codec::None, None, 0, self.now_ms))
    }

    fn append(&self, bytes: &[u8]) -> i64 {
        let batch = ProducedBatch::check(bytes).expect("valid");
        self.partition.append(&batch, self.now_ms, || Ok(())).expect("appended").base_offset
    }

    fn roll(&self) {
        self.partition.log.write().roll_now(self.now_ms).expect("rolled");
    }

    /// One pass, with the log closed first.
    fn compact(&self) {
        self.roll();
        self.pass(LIMITS).expect("compacted");
    }

    fn pass(&self, limits: Limits) -> Result<super::pass::Done, CleanError> {
        let mut throttle = Throttle::new(None);
        self.partition.try_compact(limits, &mut throttle, self.now_ms, &mut PartitionLog::replace)
    }

    /// A pass that ends like a crash after so many steps of replacing; `false` if it came to its end before.
    fn crash_in_pass(&self, limits: Limits, mut steps: usize) -> bool {
        let mut replace = |log: &mut PartitionLog, swap: &Swap, bases: &[i64], new: super::Segment| {
            let cleaned = new.path().to_owned();
            let mut actions = vec![Action::Commit { cleaned: cleaned.clone() }];
            actions.extend(swap.actions(bases));
            if steps >= actions.len() {
                steps -= actions.len();
                return log.replace(swap, bases, new);
            }
            let mut checkpoint = log.checkpoint.clone();
            actions[..steps].iter().for_each(|action| swap.run(action, &mut checkpoint).expect("done"));
            if steps == 0 {
                // The pass would tidy up behind itself; a crash does not.
                fs::copy(&cleaned, swap.log_path().with_extension("crashed.cleaned")).expect("copied");
            }
            log.fail();
            Err(CleanError::Stopped)
        };
        let mut throttle = Throttle::new(None);
        match self.partition.try_compact(limits, &mut throttle, self.now_ms, &mut replace) {
            Ok(_) => false,
            Err(CleanError::Stopped) => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Every record there is, read as a consumer does.
    fn read(&self) -> Kept {
        let mut kept = Kept::new();
        self.walk(self.partition.start_offset(), |header, batch| {
            for (offset, found) in records_of(header, batch) {
                assert!(kept.last_key_value().is_none_or(|(&last, _)| last < offset), "offsets rise");
                kept.insert(offset, found);
            }
        });
        kept
    }

    /// What a reader of committed records is left with, by the rules every client follows.
    fn read_committed(&self) -> Kept {
        let mut kept = Kept::new();
        let mut offset = self.partition.start_offset();
        while offset < self.partition.end_offset(Isolation::Committed) {
            let limits =
                ReadLimits { max_bytes: 300, at_least_one: true, verify: true, isolation: Isolation::Committed };
            let batches = self.partition.read(offset, limits, &Buffers::new()).expect("readable");
            let mut to_come = batches.aborted.clone();
            let mut aborting = HashSet::new();
            let mut rest = &batches.bytes[..];
            while !rest.is_empty() {
                let header = BatchHeader::parse(rest).expect("a batch");
                let (batch, behind) = rest.split_at(header.size_bytes);
                to_come.retain(|aborted| {
                    let begun = aborted.first_offset <= header.last_offset();
                    begun.then(|| aborting.insert(aborted.producer_id));
                    !begun
                });
                if header.is_control() {
                    let marker = Marker::read(&header, batch);
                    if marker.is_some_and(|marker| marker.outcome == Outcome::Abort) {
                        aborting.remove(&header.producer_id);
                    }
                } else if !(header.is_transactional() && aborting.contains(&header.producer_id)) {
                    kept.extend(records_of(&header, batch));
                }
                offset = header.next_offset();
                rest = behind;
            }
        }
        kept
    }

    fn walk(&self, mut offset: i64, mut visit: impl FnMut(&BatchHeader, &[u8])) {
        let limits = ReadLimits { max_bytes: 300, at_least_one: true, verify: true, isolation: Isolation::Uncommitted };
        while offset < self.partition.high_watermark() {
            let bytes = self.partition.read(offset, limits, &Buffers::new()).expect("readable").bytes;
            assert!(!bytes.is_empty(), "something is behind offset {offset}");
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let header = BatchHeader::parse(rest).expect("a batch");
                assert!(header.last_offset() >= offset, "a batch below offset {offset}");
                visit(&header, &rest[..header.size_bytes]);
                offset = header.next_offset();
                rest = &rest[header.size_bytes..];
            }
        }
    }

    fn values(&self) -> Vec<(i64, String)> {
        self.read().into_iter().map(|(offset, (_, value))| (offset, value.unwrap_or("-".into()))).collect()
    }

    fn check(&self, expected: &[(i64, &str)]) {
        let expected: Vec<_> = expected.iter().map(|&(offset, value)| (offset, value.to_owned())).collect();
        assert_eq!(self.values(), expected);
    }

    fn logs(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).expect("listed").map(|entry| entry.expect("entry").file_name());
        let mut logs: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        logs.retain(|name| name.ends_with(".log"));
        logs.sort();
        logs
    }
}

fn open(
    dir: &TempDir,
    config: LogConfig,
    now_ms: i64,
    policy: CorruptLogPolicy,
) -> Result<Arc<Partition>, crate::error::BrokerError> {
    let recovery = Recovery {
        dir: dir.path(),
        topic: "t",
        partition: 0,
        policy,
        compacts: config.compact,
        index_interval_bytes: config.index_interval_bytes,
        now_ms,
    };
    let log = PartitionLog::open(recovery, config, 100)?;
    Ok(Partition::new("t".into(), 0, log, FlushQueue::new(FsyncMode::Os)))
}

/// The records of a batch that is no marker.
fn records_of(header: &BatchHeader, batch: &[u8]) -> Vec<(i64, (Key, Option<String>))> {
    if header.is_control() {
        return Vec::new();
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let unpacked = Unpacked::new(header, batch, 1 << 20).expect("unpacked");
    let records = unpacked.records().map(|record| record.expect("a record"));
    records.map(|record| (record.offset, (record.key.map(text), record.value.map(text)))).collect()
}

fn produced(
    records: &[(Key, Option<String>)],
    codec: Codec,
    producer: Option<(i64, i16, i32)>,
    attributes: i16,
    now_ms: i64,
) -> Vec<u8> {
    let spec = Spec { records: records.len() as i32, timestamp: now_ms, producer, attributes, ..Spec::default() };
    let header = BatchHeader::parse(&batch(spec)).expect("a header").with_codec(codec);
    let record = |(at, (key, value)): (usize, &'_ (Key, Option<String>))| (at as i64, key.clone(), value.clone());
    let owned: Vec<_> = records.iter().enumerate().map(record).collect();
    let records = owned.iter().map(|(offset, key, value)| {
        Record::of(*offset, now_ms, key.as_ref().map(String::as_bytes), value.as_ref().map(String::as_bytes))
    });
    build(&header, records).expect("built")
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset() {
    let mut bench = Bench::new(1 << 20);
    bench.produce(&[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))]);
    bench.produce(&[("c", Some("4"))]);
    bench.roll();
    bench.produce(&[("b", Some("5"))]);
    bench.compact();
    bench.check(&[(2, "3"), (3, "4"), (4, "5")]);
    assert_eq!(bench.logs().len(), 2, "small segments became one");
    bench.reopen();
    bench.check(&[(2, "3"), (3, "4"), (4, "5")]);
    assert_eq!(bench.produce(&[("c", Some("6"))]), 5);
    bench.check(&[(2, "3"), (3, "4"), (4, "5"), (5, "6")]);
    bench.compact();
    bench.check(&[(2, "3"), (4, "5"), (5, "6")]);
}

#[test]
fn a_tombstone_stays_for_its_time_and_the_end_of_the_log_can_be_read() {
    let mut bench = Bench::new(1 << 20);
    bench.produce(&[("a", Some("1"))]);
    bench.produce(&[("a", None)]);
    bench.compact();
    bench.check(&[(1, "-")]);
    bench.now_ms += RETENTION_MS - 1;
    bench.produce(&[("b", Some("2"))]);
    bench.compact();
    bench.check(&[(1, "-"), (2, "2")]);
    bench.now_ms += 1;
    bench.produce(&[("b", Some("3"))]);
    bench.compact();
    bench.check(&[(3, "3")]);
    // The last batch of all becomes empty, but its offset does not go.
    bench.now_ms += 1;
    bench.produce(&[("b", None)]);
    bench.compact();
    bench.now_ms += RETENTION_MS;
    bench.roll();
    bench.pass(LIMITS).expect("nothing is dirty");
    bench.check(&[(4, "-")]);
    bench.reopen();
    let mut last = None;
    bench.walk(0, |header, _| last = Some(header.last_offset()));
    assert_eq!((last, bench.partition.high_watermark()), (Some(4), 5));
}

#[test]
fn a_crash_at_any_step_leaves_a_log_with_every_newest_value() {
    for limits in [LIMITS, Limits { keys_bytes: 400, ..LIMITS }] {
        let mut crashes = 0;
        for steps in 0.. {
            let mut bench = Bench::new(400);
            for round in 0..12 {
                bench.produce(&[("a", Some("x")), ("b", Some("y")), (&format!("k{round}"), Some("z"))]);
            }
            bench.produce(&[("a", Some("last")), ("b", None)]);
            bench.roll();
            let expected = newest(&bench.read());
            let crashed = bench.crash_in_pass(limits, steps);
            bench.reopen();
            assert_eq!(newest(&bench.read()), expected, "after {steps} steps");
            let left = fs::read_dir(bench.dir.path()).expect("listed").filter(|entry| {
                let path = entry.as_ref().expect("entry").path();
                path.extension().is_some_and(|extension| extension == "swap" || extension == "cleaned")
            });
            assert_eq!(left.count(), 0);
            while bench.partition.compaction_candidate(0).is_some() {
                bench.pass(limits).expect("compacted");
            }
            let compacted = bench.read();
            assert_eq!(newest(&compacted), expected);
            let keys: Vec<_> = compacted.values().map(|(key, _)| key).collect();
            assert_eq!(keys.len(), expected.len(), "one record a key: {keys:?}");
            bench.reopen();
            assert_eq!(bench.read(), compacted);
            if !crashed {
                break;
            }
            crashes += 1;
        }
        assert!(crashes > 4, "{crashes}");
    }
}

fn newest(kept: &Kept) -> HashMap<Key, (i64, Option<String>)> {
    kept.iter().map(|(&offset, (key, value))| (key.clone(), (offset, value.clone()))).collect()
}

#[test]
fn a_pass_that_was_overtaken_changes_nothing() {
    let bench = Bench::new(200);
    for round in 0..6 {
        bench.produce(&[("a", Some("x")), (&format!("k{round}"), Some("z"))]);
    }
    bench.roll();
    let partition = Arc::clone(&bench.partition);
    let mut throttle = Throttle::new(None);
    let mut replace = |log: &mut PartitionLog, swap: &Swap, bases: &[i64], new: super::Segment| {
        log.delete_before(5).expect("deleted");
        log.replace(swap, bases, new)
    };
    let overtaken = partition.try_compact(LIMITS, &mut throttle, 0, &mut replace);
    assert!(matches!(overtaken, Err(CleanError::Overtaken)), "{overtaken:?}");
    assert_eq!(bench.partition.start_offset(), 5);
    bench.pass(LIMITS).expect("the next one is not");
    let values = bench.values();
    assert_eq!(values.iter().filter(|(_, value)| value == "x").count(), 1, "{values:?}");
}

#[test]
fn damage_in_a_compacted_segment_is_found() {
    let bench = Bench::new(1 << 20);
    for round in 0..20 {
        bench.produce(&[("a", Some("x")), (&format!("k{}", round / 2), Some("zzzz"))]);
    }
    bench.compact();
    bench.partition.close().expect("closed");
    let path = bench.dir.path().join(&bench.logs()[0]);
    let whole = fs::read(&path).expect("read");
    let first = BatchHeader::parse(&whole).expect("a batch").size_bytes;
    let check = |damaged: &[u8], expected: &str| {
        fs::write(&path, damaged).expect("written");
        for extension in ["index", "timeindex"] {
            let _ = fs::remove_file(path.with_extension(extension));
        }
        let error = open(&bench.dir, bench.config, 0, CorruptLogPolicy::Refuse).map(|_| ()).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(&whole[..whole.len() - 1], "but");
    check(&whole[..first], &format!("has {first} bytes, expected {}", whole.len()));
    let mut flipped = whole.clone();
    flipped[first + 70] ^= 1;
    check(&flipped, "checksum");
    // Given up, the rest is a log like any other, with its holes.
    let partition = open(&bench.dir, bench.config, 0, CorruptLogPolicy::Truncate).expect("opened");
    let end = partition.high_watermark();
    partition.abandon();
    let bench =
        Bench { partition: open(&bench.dir, bench.config, 0, CorruptLogPolicy::Refuse).expect("opened"), ..bench };
    assert_eq!(bench.produce(&[("n", Some("1"))]), end);
    bench.compact();
    assert_eq!(bench.values().last(), Some(&(end, "1".to_owned())));
}

#[test]
fn a_lost_checkpoint_costs_time_and_no_data() {
    for damaged in [None, Some("nonsense")] {
        let mut bench = Bench::new(300);
        for round in 0..20 {
            bench.produce(&[("a", Some("x")), (&format!("k{}", round / 2), Some("z"))]);
        }
        bench.compact();
        let expected = bench.read();
        let path = bench.dir.path().join("checkpoint.json");
        match damaged {
            Some(content) => fs::write(&path, content).expect("written"),
            None => fs::remove_file(&path).expect("removed"),
        }
        bench.reopen();
        assert_eq!(bench.read(), expected);
        bench.reopen();
        assert_eq!(bench.read(), expected);
    }
}

#[test]
fn a_hole_in_a_segment_that_was_never_compacted_is_damage() {
    let bench = Bench::new(1 << 20);
    for _ in 0..3 {
        bench.produce(&[("a", Some("x"))]);
    }
    bench.partition.close().expect("closed");
    let path = bench.dir.path().join(&bench.logs()[0]);
    let mut bytes = fs::read(&path).expect("read");
    let size = bytes.len() / 3;
    bytes.drain(size..2 * size);
    fs::write(&path, bytes).expect("written");
    let error = open(&bench.dir, bench.config, 0, CorruptLogPolicy::Refuse).map(|_| ()).expect_err("a hole");
    assert!(error.to_string().contains("offset 2, expected 1"), "{error}");
}

#[test]
fn a_batch_that_cannot_be_read_makes_its_partition_uncleanable_and_nothing_else() {
    let bench = Bench::new(1 << 20);
    bench.append(&batch(Spec { records: 2, ..Spec::default() }));
    bench.roll();
    assert!(bench.partition.compaction_candidate(0).is_some());
    let error = bench.pass(LIMITS).expect_err("opaque").to_string();
    assert!(error.contains(".log") && error.contains("position 0"), "{error}");
    bench.partition.compact(LIMITS, &mut Throttle::new(None), 0);
    assert!(bench.partition.compaction_candidate(0).is_none());
    assert_eq!(bench.produce(&[("a", Some("1"))]), 2);
    // A batch that unpacks to too much is one that cannot be read.
    let packed = Bench::new(1 << 20);
    let big = vec![(Some("k".to_owned()), Some("v".repeat(5000)))];
    packed.append(&produced(&big, Codec::Zstd, None, 0, 0));
    packed.roll();
    let error = packed.pass(Limits { unpacked_bytes: 1000, ..LIMITS }).expect_err("too much").to_string();
    assert!(error.contains("more than 1000 bytes"), "{error}");
}

#[test]
fn a_reader_of_the_old_file_finishes() {
    let bench = Bench::new(1 << 20);
    for _ in 0..5 {
        bench.produce(&[("a", Some("x"))]);
    }
    bench.roll();
    let span = bench.partition.log.read().span_from(0).expect("span");
    bench.pass(LIMITS).expect("compacted");
    let mut bytes = vec![0; (span.end - span.position) as usize];
    std::os::unix::fs::FileExt::read_exact_at(&*span.file, &mut bytes, span.position).expect("still there");
    assert_eq!(BatchHeader::parse(&bytes).expect("a batch").base_offset, 0);
    bench.check(&[(4, "x")]);
}

#[test]
fn records_are_found_by_time_across_holes() {
    let mut bench = Bench::new(300);
    for at in 0..20i64 {
        bench.now_ms = at * 10;
        bench.produce(&[(if at % 5 == 0 { "rare" } else { "often" }, Some("x"))]);
    }
    bench.compact();
    bench.check(&[(15, "x"), (19, "x")]);
    for (time, expected) in [(0, Some(15)), (150, Some(15)), (151, Some(19)), (191, None)] {
        let found = bench.partition.find_time(time, Isolation::Uncommitted).expect("searched");
        assert_eq!(found.map(|found| found.offset), expected, "time {time}");
    }
    assert_eq!(bench.partition.newest().expect("searched").map(|found| found.offset), Some(19));
    assert_eq!(bench.partition.delete_before(17).expect("deleted"), 17);
    bench.check(&[(19, "x")]);
    bench.reopen();
    bench.check(&[(19, "x")]);
}

/// Judges batches one after the other with what is known of transactions; answers which offsets are left of each.
fn judge_all(batches: &[Vec<u8>], aborted: &[Ended], now_ms: i64) -> Vec<Option<(i32, Option<i64>)>> {
    let (keys, last_batches) = (Keys::new(1000), HashMap::from([(9, LastBatch { offset: Some(6), epoch: 0 })]));
    let filter = Filter {
        keys: &keys,
        end: 1000,
        last_batches: &last_batches,
        now_ms,
        delete_retention_ms: RETENTION_MS,
        unpacked_bytes: 1000,
    };
    let mut met = Transactions::new(aborted);
    let judge = |bytes: &Vec<u8>| {
        let header = BatchHeader::parse(bytes).expect("a batch");
        let left = match filter.judge(&header, bytes, &mut met).expect("judged") {
            Left::Nothing => return None,
            Left::Same => bytes.clone(),
            Left::Other(other) => other,
        };
        let header = BatchHeader::parse(&left).expect("a batch");
        verify_crc(&header, &left).expect("sealed");
        Some((header.record_count, header.delete_horizon_ms()))
    };
    batches.iter().map(judge).collect()
}

fn transactional(base_offset: i64, producer_id: i64, marker: Option<i16>) -> Vec<u8> {
    let spec = Spec {
        producer: Some((producer_id, 0, if marker.is_some() { -1 } else { 0 })),
        attributes: TRANSACTIONAL_BIT | if marker.is_some() { CONTROL_BIT } else { 0 },
        ..Spec::default()
    };
    let header = BatchHeader { base_offset, ..BatchHeader::parse(&batch(spec)).expect("a header") };
    let kind = [&[0, 0][..], &marker.unwrap_or(0).to_be_bytes()].concat();
    let key = if marker.is_some() { kind } else { base_offset.to_string().into_bytes() };
    build(&header, [Record::of(base_offset, 1000, Some(&key), Some(b"v"))].into_iter()).expect("built")
}

#[test]
fn records_of_aborted_transactions_go_and_markers_stay_as_long_as_they_are_needed() {
    let (abort, commit) = (Some(0), Some(1));
    let batches = vec![
        transactional(0, 7, None),
        transactional(1, 8, None),
        transactional(2, 7, abort),
        transactional(3, 8, commit),
        transactional(4, 7, None),
        transactional(5, 7, commit),
        transactional(6, 9, None),
        transactional(7, 9, abort),
        // Nothing is left of what these ended.
        transactional(8, 7, abort),
        transactional(9, 8, commit),
    ];
    let of = |producer_id, first_offset, marker_offset| Ended { producer_id, first_offset, marker_offset };
    let aborted = [of(7, 0, 2), of(9, 6, 7)];
    let (kept, empty, aging) = (Some((1, None)), Some((0, None)), Some((1, Some(RETENTION_MS))));
    assert_eq!(
        judge_all(&batches, &aborted, 0),
        [
            None, kept, kept, kept, kept,
            kept, // an empty batch holds the last sequence of producer 9, and so keeps its marker
            empty, kept, aging, aging,
        ]
    );
}

#[test]
fn a_marker_without_data_goes_after_its_time_but_never_before_its_entry_in_the_list() {
    let header = |bytes: &[u8]| BatchHeader::parse(bytes).expect("a batch");
    for (marker, listed, expected) in [
        (Some(1), false, [Some((1, Some(500))), None]),
        (Some(0), false, [Some((1, Some(500))), None]),
        (Some(0), true, [Some((1, Some(500))), Some((1, Some(500)))]),
    ] {
        let bytes = transactional(5, 7, marker);
        let aged = header(&bytes).with_delete_horizon(500);
        let record = Unpacked::new(&header(&bytes), &bytes, 1000).expect("unpacked");
        let aged = build(&aged, record.records().map(|record| record.expect("a record"))).expect("built");
        let list = [Ended { producer_id: 7, first_offset: 3, marker_offset: 5 }];
        let list = if listed { &list[..] } else { &[] };
        for (now_ms, expected) in [499, 500].into_iter().zip(expected) {
            assert_eq!(judge_all(std::slice::from_ref(&aged), list, now_ms), [expected]);
        }
    }
}

#[test]
fn transactions_in_which_no_batch_was_met_are_told() {
    let list = [
        Ended { producer_id: 7, first_offset: 0, marker_offset: 2 },
        Ended { producer_id: 7, first_offset: 3, marker_offset: 4 },
    ];
    let mut met = Transactions::new(&list);
    for bytes in [transactional(0, 7, None), transactional(2, 7, Some(0)), transactional(4, 7, Some(0))] {
        met.meet(&BatchHeader::parse(&bytes).expect("a batch"), &bytes);
    }
    assert_eq!(met.without_data(), &list[1..]);
}

#[derive(Debug, Clone)]
enum Step {
    Produce { records: Vec<(u8, Option<u8>)>, codec: u8, producer: Option<i64> },
    End { producer: i64, outcome: Outcome },
    Compact { keys_bytes: usize },
    CrashInPass { steps: usize, keys_bytes: usize },
    Crash,
    Close,
    Wait { ms: i64 },
}

/// Producers from here on write in transactions.
const TRANSACTIONAL_FROM: i64 = 2;

fn step() -> impl Strategy<Value = Step> {
    let record = (0..6u8, prop_oneof![3 => any::<u8>().prop_map(Some), 1 => Just(None)]);
    let keys_bytes = || prop_oneof![Just(1 << 20), Just(0), 200..600usize];
    let outcome = prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)];
    prop_oneof![
        8 => (prop::collection::vec(record, 1..6), 0..5u8, prop::option::of(0..4i64))
            .prop_map(|(records, codec, producer)| Step::Produce { records, codec, producer }),
        4 => (TRANSACTIONAL_FROM..4, outcome).prop_map(|(producer, outcome)| Step::End { producer, outcome }),
        4 => keys_bytes().prop_map(|keys_bytes| Step::Compact { keys_bytes }),
        2 => (0..40usize, keys_bytes()).prop_map(|(steps, keys_bytes)| Step::CrashInPass { steps, keys_bytes }),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
        2 => (1..RETENTION_MS).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Open { producer: i64 },
    Aborted,
    Marker,
}

#[derive(Debug)]
struct Produced {
    key: Key,
    value: Option<String>,
    at_ms: i64,
    fate: Fate,
}

/// Everything that was ever produced, by its offset.
#[derive(Default)]
struct Model {
    produced: Vec<Produced>,
    sequences: HashMap<i64, i32>,
}

impl Model {
    fn check(&self, bench: &Bench) {
        let all = bench.read();
        let committed = bench.read_committed();
        for (view, hidden) in [(&all, &[Fate::Marker][..]), (&committed, &[Fate::Marker, Fate::Aborted])] {
            for (&offset, found) in view {
                let Produced { key, value, fate, .. } = &self.produced[offset as usize];
                assert_eq!((key, value), (&found.0, &found.1), "offset {offset}");
                assert!(!hidden.contains(fate), "offset {offset} is {fate:?}");
            }
        }
        let stable_end = bench.partition.end_offset(Isolation::Committed);
        let mut newest: HashMap<&Key, i64> = HashMap::new();
        for (offset, produced) in (0..).zip(&self.produced) {
            if matches!(produced.fate, Fate::Open { .. }) {
                assert!(offset >= stable_end && all.contains_key(&offset), "offset {offset} is open");
            }
            if produced.fate == Fate::Committed && offset < stable_end {
                newest.insert(&produced.key, offset);
            }
        }
        for (key, offset) in newest {
            let Produced { value, at_ms, .. } = &self.produced[offset as usize];
            let last = committed.iter().rev().find(|(_, found)| found.0 == *key).map(|(&offset, _)| offset);
            if value.is_none() && bench.now_ms >= at_ms + RETENTION_MS {
                assert!(last.is_none_or(|last| last == offset), "an older value of {key:?} came back");
            } else {
                assert_eq!(last, Some(offset), "the newest record of {key:?}");
            }
        }
        for offset in 0..self.produced.len() as i64 {
            bench.walk(offset, |_, _| {});
        }
    }

    fn end(&mut self, bench: &Bench, producer: i64, outcome: Outcome) {
        let open = Fate::Open { producer };
        let ended = if outcome == Outcome::Commit { Fate::Committed } else { Fate::Aborted };
        self.produced.iter_mut().filter(|record| record.fate == open).for_each(|record| record.fate = ended);
        let marker = Marker { producer_id: producer, producer_epoch: 0, outcome };
        let offset = bench.partition.append_marker(marker, bench.now_ms).expect("appended").base_offset;
        assert_eq!(offset, self.produced.len() as i64);
        self.produced.push(Produced { key: None, value: None, at_ms: bench.now_ms, fate: Fate::Marker });
    }
}

fn run(bench: &mut Bench, model: &mut Model, step: &Step) {
    match step {
        Step::Produce { records, codec, producer } => {
            let codec = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][usize::from(*codec)];
            let records: Vec<_> = records
                .iter()
                .map(|(key, value)| (Some(format!("key-{key}")), value.map(|value| format!("value-{value}"))))
                .collect();
            let fate = match *producer {
                Some(producer) if producer >= TRANSACTIONAL_FROM => Fate::Open { producer },
                _ => Fate::Committed,
            };
            let producer = producer.map(|id| {
                let next = model.sequences.entry(id).or_default();
                let sequence = *next;
                *next += records.len() as i32;
                (id, 0, sequence)
            });
            let attributes = if fate == Fate::Committed { 0 } else { TRANSACTIONAL_BIT };
            let offset = bench.append(&produced(&records, codec, producer, attributes, bench.now_ms));
            assert_eq!(offset, model.produced.len() as i64);
            let at_ms = bench.now_ms;
            model.produced.extend(records.into_iter().map(|(key, value)| Produced { key, value, at_ms, fate }));
        }
        Step::End { producer, outcome } => model.end(bench, *producer, *outcome),
        Step::Compact { keys_bytes } => {
            bench.pass(Limits { keys_bytes: *keys_bytes, ..LIMITS }).expect("compacted");
        }
        Step::CrashInPass { steps, keys_bytes } => {
            bench.crash_in_pass(Limits { keys_bytes: *keys_bytes, ..LIMITS }, *steps);
            bench.reopen();
        }
        Step::Crash => bench.reopen(),
        Step::Close => {
            bench.partition.close().expect("closed");
            // The state of producers must be readable from the log alone.
            for entry in fs::read_dir(bench.dir.path()).expect("listed") {
                let path = entry.expect("entry").path();
                if path.extension().is_some_and(|extension| extension == "snapshot") {
                    fs::remove_file(path).expect("removed");
                }
            }
            bench.reopen();
        }
        Step::Wait { ms } => bench.now_ms += ms,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_newest_value_of_each_key_can_be_read(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new(350);
        let mut model = Model::default();
        for step in &steps {
            run(&mut bench, &mut model, step);
            model.check(&bench);
        }
    }
}
