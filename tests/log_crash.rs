//! `kill -9` of the broker at any moment, and power cuts: what was acknowledged is there, once, in order, and no reader
//! of committed records ever sees one that was not.
//!
//! ```text
//!   idempotent producer ──────┐                     ┌──> reader of committed records, all the time
//!   transactions, zombies ────┴──> broker ─ kill ───┤
//!        │                           ▲        │     └──> reader at the end
//!        └──> ledger <── compared    └ restart┴ cut what was not synced, append garbage
//! ```
//!
//! The clients, and what they compare, are in `ledger.rs`.
//!
//! A killed process loses nothing that it has written; a machine that stops does. A small library in the broker's
//! process (`shim/fsync.c`) notes what each fsync covered, and after a kill every log is cut to a random length that
//! is not below that, often with garbage behind it. Every [`Fault`] must be found by the same checks, or they would
//! mean nothing.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::broker::own_port;
use crate::ledger::{Ledger, Load, Outcome};
use crate::program::{Running, highwater};
use crate::random::Random;

/// How many kills; more by `HIGHWATER_LOG_KILLS`.
const KILLS: usize = 15;

/// At most so many kills until a fault must have been found.
const KILLS_OF_A_FAULT: usize = 15;

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// No fsync reaches the disk.
    NoFsync,
    /// The broker lets producers that were replaced go on.
    NoFencing,
    /// The broker shows every record to readers of committed ones.
    NoIsolation,
    /// The broker does not recognise a batch that is sent again: the producer gives it no numbers.
    NoIdempotence,
}

/// One run.
struct Harness {
    folder: tempfile::TempDir,
    fault: Fault,
    address: String,
    shim: PathBuf,
}

/// How many logs a power cut left shorter, and longer, than the broker had written them.
#[derive(Debug, Default)]
struct Cuts {
    cut: usize,
    torn: usize,
}

impl Harness {
    fn new(fault: Fault) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shim = folder.path().join("fsync.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/shim/fsync.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).args([source, "-ldl"]).status();
        assert!(built.is_ok_and(|status| status.success()), "cc builds {source}");
        fs::create_dir(folder.path().join("marks")).unwrap();
        let address = format!("127.0.0.1:{}", own_port());
        // Small segments, so that kills fall on the moment a new one begins as well.
        let sabotage = match fault {
            Fault::NoFencing => "no_fencing",
            Fault::NoIsolation => "no_isolation",
            Fault::None | Fault::NoFsync | Fault::NoIdempotence => "",
        };
        // A segment that is cut and has others behind it is found by the broker, which does not start: what the checks
        // find is looked for where that cannot be.
        let segment_bytes = if fault == Fault::NoFsync { 1 << 30 } else { 20_000 };
        let settings = format!(
            "listen: {address}\ndata_dir: data\nfsync: always\nsegment_bytes: {segment_bytes}\nsabotage: [{sabotage}]\n"
        );
        fs::write(folder.path().join("broker.yml"), settings).unwrap();
        Self { folder, fault, address, shim }
    }

    fn start_broker(&self) -> Running {
        let mut command = highwater(self.folder.path(), &["broker", "--config", "broker.yml"]);
        command.env("LD_PRELOAD", &self.shim).env("FSYNC_MARKS", self.folder.path().join("marks"));
        if self.fault == Fault::NoFsync {
            command.env("FSYNC_SKIP", "1");
        }
        let mut broker = Running::spawn(command);
        broker.wait_for("bootstrap address ");
        broker
    }

    /// After a kill: each log as a machine that stopped may have left it.
    fn cut_unsynced(&self, random: &mut Random, cuts: &mut Cuts) {
        let mut logs = Vec::new();
        find_logs(&self.folder.path().join("data"), &mut logs);
        for log in logs {
            let metadata = fs::metadata(&log).unwrap();
            let mark = self.folder.path().join(format!("marks/{}", metadata.ino()));
            let noted = fs::read(&mark).ok().and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
            let synced = noted.unwrap_or(0).min(metadata.len());
            if synced == metadata.len() && random.next(4) > 0 {
                continue;
            }
            let kept = synced + random.next(metadata.len() - synced + 1);
            let mut file = OpenOptions::new().write(true).open(&log).unwrap();
            file.set_len(kept).unwrap();
            cuts.cut += usize::from(kept < metadata.len());
            if noted.is_some() {
                fs::write(&mark, synced.to_ne_bytes()).unwrap();
            }
            // A closed segment is not written to any more, so nothing can be torn behind it.
            if is_active(&log) && random.next(2) == 0 {
                std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
                let garbage: Vec<u8> = (0..1 + random.next(200)).map(|_| random.next(256) as u8).collect();
                file.write_all(&garbage).unwrap();
                cuts.torn += 1;
            }
        }
    }
}

/// All files that are only appended to.
fn find_logs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_logs(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
}

/// Whether a log is the last of its partition; the broker's own journals have no others.
fn is_active(log: &Path) -> bool {
    let segments = |folder: &Path| {
        let mut segments = Vec::new();
        find_logs(folder, &mut segments);
        segments.into_iter().max()
    };
    log.parent().is_some_and(|folder| folder.ends_with("data") || segments(folder).as_deref() == Some(log))
}

/// Runs everything with so many kills; the ledger, with its violations, after it was compared.
fn crash(fault: Fault, kills: usize, seed: u64) -> (Ledger, Cuts) {
    let harness = Harness::new(fault);
    let (mut random, mut cuts) = (Random(seed), Cuts::default());
    let mut broker = harness.start_broker();
    let load = Load::start(harness.folder.path(), &harness.address, fault != Fault::NoIdempotence, seed);
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(100 + random.next(700)));
        broker.signal("KILL");
        broker.wait();
        if random.next(3) > 0 {
            harness.cut_unsynced(&mut random, &mut cuts);
        }
        broker = harness.start_broker();
        if fault != Fault::None && load.has_violations() {
            break;
        }
    }
    let (mut ledger, _) = load.stop();
    assert!(broker.is_running(), "the broker has ended by itself");
    drop(broker);
    if fault == Fault::None && !ledger.violations.is_empty() {
        // For whoever looks for the cause.
        let kept = std::env::temp_dir().join(format!("log-crash-{seed}"));
        let copied = Command::new("cp").arg("-r").args([&harness.folder.path().join("data"), &kept]).status();
        ledger.violations.push(format!("the broker's data is in {}: {copied:?}", kept.display()));
    }
    (ledger, cuts)
}

fn seed() -> u64 {
    let given = std::env::var("HIGHWATER_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or(u64::from(std::process::id()))
}

#[test]
#[expect(clippy::print_stdout, reason = "what a long run has done is told to whoever asked for it")]
fn acknowledged_records_survive_crashes_of_the_broker() {
    let kills = std::env::var("HIGHWATER_LOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let seed = seed();
    let (ledger, Cuts { cut, torn }) = crash(Fault::None, kills, seed);
    let (committed, aborted) = (ledger.count(Outcome::Committed), ledger.count(Outcome::Aborted));
    let (acknowledged, seen) = (ledger.acknowledged.len(), ledger.seen.len());
    println!(
        "{kills} kills, HIGHWATER_SEED={seed}: {acknowledged} records acknowledged, {committed} transactions committed, \
         {aborted} aborted, {seen} records seen; {cut} logs cut, {torn} with garbage behind them"
    );
    let violations = &ledger.violations[..ledger.violations.len().min(20)];
    assert!(violations.is_empty(), "HIGHWATER_SEED={seed}, {kills} kills:\n  {}", violations.join("\n  "));
    for (what, number) in
        [("acknowledged", acknowledged), ("committed", committed), ("aborted", aborted), ("seen", seen), ("torn", torn)]
    {
        assert!(number > kills / 5, "{number} {what} are too few to mean anything, HIGHWATER_SEED={seed}");
    }
}

/// What the checks are worth: each fault must be found, and in the words that fit it.
fn finds(fault: Fault, expected: &[&str]) {
    let seed = seed();
    let found = crash(fault, KILLS_OF_A_FAULT, seed).0.violations;
    let fits = |violation: &String| expected.iter().any(|part| violation.contains(part));
    let shown = found.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(found.iter().any(fits), "{fault:?} was not found, HIGHWATER_SEED={seed}; found:\n  {shown}");
}

#[test]
fn a_crash_check_finds_that_nothing_is_synced() {
    finds(Fault::NoFsync, &["was acknowledged at", "is gone", "was acknowledged twice", "records can be read"]);
}

#[test]
fn a_crash_check_finds_that_zombies_are_not_fenced() {
    finds(Fault::NoFencing, &["has committed"]);
}

#[test]
fn a_crash_check_finds_that_aborted_records_are_read() {
    finds(Fault::NoIsolation, &["Aborted"]);
}

#[test]
fn a_crash_check_finds_that_records_are_stored_twice() {
    finds(Fault::NoIdempotence, &["is there 2 times"]);
}
