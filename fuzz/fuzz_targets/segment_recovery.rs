//! Any files as the log of a partition: opened, read to its end, appended to, and opened again.
//!
//! Files are pieces, valid batches among them, because random bytes alone would never get past the first checksum.

#![no_main]

use std::fs;
use std::path::Path;

use arbitrary::Arbitrary;
use highwater_broker::fuzzing;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Files {
    truncate: bool,
    checkpoint: Option<(i32, i32)>,
    segments: Vec<Segment>,
    snapshot: Option<(u8, Vec<u8>)>,
}

#[derive(Debug, Arbitrary)]
struct Segment {
    base: Base,
    log: Vec<Piece>,
    index: Option<Vec<u8>>,
    timeindex: Option<Vec<u8>>,
}

#[derive(Debug, Arbitrary)]
enum Base {
    /// Where the segment before ends.
    Next,
    Small(u8),
    Any(i64),
}

#[derive(Debug, Arbitrary)]
enum Piece {
    Batch {
        records: u8,
        payload: u8,
        timestamp: i64,
        producer: Option<(u8, i16, i32)>,
        in_transaction: bool,
    },
    Marker {
        producer: u8,
        epoch: i16,
        commit: bool,
    },
    At {
        offset: i64,
        records: i32,
    },
    Raw(Vec<u8>),
    Zeros(u8),
    /// Takes bytes off the end.
    Cut(u8),
    /// Changes a byte of what is there.
    Flip(u16),
}

fuzz_target!(|files: Files| {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), &files);
    fuzzing::recover(dir.path(), files.truncate);
});

fn write(dir: &Path, files: &Files) {
    let mut next = 0_i64;
    for segment in files.segments.iter().take(4) {
        let base = match segment.base {
            Base::Next => next,
            Base::Small(base) => base.into(),
            Base::Any(base) => base,
        };
        next = base;
        let mut log = Vec::new();
        segment.log.iter().take(64).for_each(|piece| add(&mut log, &mut next, piece));
        let stem = format!("{base:020}");
        fs::write(dir.join(format!("{stem}.log")), log).expect("written");
        for (extension, bytes) in [("index", &segment.index), ("timeindex", &segment.timeindex)] {
            if let Some(bytes) = bytes {
                fs::write(dir.join(format!("{stem}.{extension}")), bytes).expect("written");
            }
        }
    }
    if let Some((recovery, start)) = files.checkpoint {
        fuzzing::write_checkpoint(dir, recovery.into(), start.into());
    }
    if let Some((offset, bytes)) = &files.snapshot {
        fs::write(dir.join(format!("{offset:020}.snapshot")), bytes).expect("written");
    }
}

fn add(log: &mut Vec<u8>, next: &mut i64, piece: &Piece) {
    match *piece {
        Piece::Batch { records, payload, timestamp, producer, in_transaction } => {
            let records = i32::from(records % 8) + 1;
            let producer = producer.map(|(id, epoch, sequence)| (id.into(), epoch, sequence));
            log.extend(fuzzing::batch(*next, records, payload.into(), timestamp, producer, in_transaction));
            *next = next.saturating_add(records.into());
        }
        Piece::At { offset, records } => log.extend(fuzzing::batch(offset, records, 3, 0, None, false)),
        Piece::Marker { producer, epoch, commit } => {
            log.extend(fuzzing::marker(*next, producer.into(), epoch, commit));
            *next = next.saturating_add(1);
        }
        Piece::Raw(ref bytes) => log.extend(bytes),
        Piece::Zeros(count) => log.extend(vec![0; count.into()]),
        Piece::Cut(count) => log.truncate(log.len().saturating_sub(count.into())),
        Piece::Flip(at) => {
            let length = log.len().max(1);
            if let Some(byte) = log.get_mut(usize::from(at) % length) {
                *byte ^= 0x55;
            }
        }
    }
}
