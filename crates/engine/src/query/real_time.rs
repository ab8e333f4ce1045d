//! The real-time trigger: rows are computed as they come, and a batch is closed a short time after its first row.
//!
//! ```text
//!   TailReader (a thread a partition, reads ahead) ══TailRows══> source tasks of the open batch ─> operators ─> sink
//!   closed:  offsets/N (where the tails are now) ─> state/N.changelog ─> sink commit ─> commits/N
//! ```
//!
//! It differs from a micro-batch in one step: which range a batch id stands for is known, and written down, when the
//! batch is closed, and not before it runs. Nothing of it can be seen before that, so a batch that a crash has cut off
//! has never been; one whose range is written is replayed as any other. Checkpoint, recovery and committed rows are
//! those of micro-batches, and a query may change its trigger at any start.
//!
//! A query with a source that cannot be followed (files, Delta) runs micro-batches as soon as there are rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::batch::ReadJob;
use super::execution::{Control, StreamingQuery};
use super::progress::Timer;
use crate::clock::Clock;
use crate::error::{EngineError, Result};
use crate::source::{DeadLetter, Offset, PartitionReader, ReadReport, Source, TailReader, TailRows};

/// Answers that may wait for the batch in each partition, so that reading goes on while a batch commits.
const READ_AHEAD: usize = 2;
/// How long is waited at a stretch before somebody looks whether the query should stop.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often new partitions are looked for, between two batches: with those that are open for so long at most, one is found
/// within ten seconds.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// After so many waits in vain a batch is made of positions that moved without rows.
const SETTLE_WAITS: u32 = 20;

impl StreamingQuery {
    /// Makes batches of rows as they come, until the owner ends the query; none if a source cannot be followed.
    pub(super) fn run_real_time(&mut self, open_for: Duration) -> Result<()> {
        let tails = Tails::open(&mut self.sources, &self.position, self.clock.as_ref())?;
        let Some(mut tails) = tails else { return Ok(()) };
        while !self.control.should_stop() {
            if self.needs_empty_batch(self.tracker.watermark_ms()) {
                self.run_planned(self.position.clone(), Timer::start(&self.clock))?;
                continue;
            }
            tails.look(&mut self.sources, &self.position, self.clock.as_ref())?;
            if tails.begins_to_wait() {
                self.listener.on_trigger();
            }
            if !tails.wait() {
                if tails.begins_to_wait() {
                    self.listener.on_idle();
                }
                continue;
            }
            let mut timer = Timer::start(&self.clock);
            let mut entry = self.new_entry();
            let limits: Vec<Option<u64>> = self.sources.iter().map(|source| source.follow_limit()).collect();
            let (batch, jobs) = (self.next_batch, tails.jobs(open_for, &limits, &self.clock, &self.control));
            let outcome = timer.phase(|d| &mut d.add_batch, || self.compute(batch, &entry, jobs, true))?;
            entry.ends = tails.ends(&mut self.sources, &self.position)?.into_iter().map(Some).collect();
            timer.phase(|d| &mut d.wal_commit, || self.offsets.add(batch, &entry))?;
            self.conclude(batch, &entry, &outcome, true, timer)?;
        }
        Ok(())
    }
}

/// All partitions of all sources of a query, being read.
pub(super) struct Tails {
    /// By source.
    sources: Vec<BTreeMap<String, Tail>>,
    bell: (Sender<()>, Receiver<()>),
    looked_ns: u64,
    waits_in_vain: u32,
}

/// One partition, being read.
struct Tail {
    rows: Receiver<Result<TailRows>>,
    /// What a batch had no room for; first in the next one.
    left: Arc<Mutex<Option<TailRows>>>,
    /// How many of them make a batch by themselves: they have rows, or an error.
    waiting: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// Where the rows end that batches took; negative before the first.
    end: Arc<AtomicI64>,
    thread: JoinHandle<()>,
}

impl Tails {
    /// Follows the sources from where the next batch starts; none if one of them cannot be followed.
    pub(super) fn open(sources: &mut [Box<dyn Source>], starts: &[Offset], clock: &dyn Clock) -> Result<Option<Self>> {
        let looked_ns = clock.monotonic_ns();
        let mut tails = Self { sources: Vec::new(), bell: bounded(1), looked_ns, waits_in_vain: 0 };
        for (source, start) in sources.iter_mut().zip(starts) {
            let Some(readers) = source.follow(start, &BTreeSet::new())? else { return Ok(None) };
            tails.sources.push(BTreeMap::new());
            let at = tails.sources.len() - 1;
            tails.add(at, readers)?;
        }
        Ok(Some(tails))
    }

    fn add(&mut self, source: usize, readers: Vec<Box<dyn TailReader>>) -> Result<()> {
        for reader in readers {
            let partition = reader.partition().to_owned();
            self.sources[source].insert(partition, Tail::start(reader, self.bell.0.clone())?);
        }
        Ok(())
    }

    /// Follows partitions that are new, now and then.
    pub(super) fn look(&mut self, sources: &mut [Box<dyn Source>], starts: &[Offset], clock: &dyn Clock) -> Result<()> {
        let now_ns = clock.monotonic_ns();
        if Duration::from_nanos(now_ns.saturating_sub(self.looked_ns)) < LOOK {
            return Ok(());
        }
        self.looked_ns = now_ns;
        for (at, (source, start)) in sources.iter_mut().zip(starts).enumerate() {
            let known = self.sources[at].keys().cloned().collect();
            if let Some(readers) = source.follow(start, &known)? {
                self.add(at, readers)?;
            }
        }
        Ok(())
    }

    /// Waits a moment for rows; false if there are none. Where a position moved without rows, as at the end of a
    /// transaction, that alone makes a batch only after a while, or each transaction would make two.
    pub(super) fn wait(&mut self) -> bool {
        if !self.has_rows() {
            // Rung for rows that the last batch took already, or not rung at all.
            let _ = self.bell.1.recv_timeout(PATIENCE);
        }
        self.waits_in_vain += 1;
        let has_moved = || self.all().any(|tail| !tail.rows.is_empty() || tail.left.lock().is_some());
        let ready = self.has_rows() || (self.waits_in_vain > SETTLE_WAITS && has_moved());
        if ready {
            self.waits_in_vain = 0;
        }
        ready
    }

    /// Whether a stretch of waiting is over, long enough for what a source had at its beginning to have come.
    pub(super) fn begins_to_wait(&self) -> bool {
        self.waits_in_vain.is_multiple_of(SETTLE_WAITS)
    }

    fn all(&self) -> impl Iterator<Item = &Tail> {
        self.sources.iter().flat_map(BTreeMap::values)
    }

    fn has_rows(&self) -> bool {
        self.all().any(|tail| tail.waiting.load(Ordering::Acquire) > 0)
    }

    /// Readers of one batch, which ends when it was open for so long.
    pub(super) fn jobs(
        &self,
        open_for: Duration,
        limits: &[Option<u64>],
        clock: &Arc<dyn Clock>,
        control: &Arc<Control>,
    ) -> Vec<ReadJob> {
        let closes_ns = clock.monotonic_ns() + u64::try_from(open_for.as_nanos()).unwrap_or(u64::MAX);
        let mut jobs = Vec::new();
        for (stage, tails) in self.sources.iter().enumerate() {
            let room = Arc::new(Room::new(limits.get(stage).copied().flatten()));
            jobs.extend(tails.iter().map(|(partition, tail)| {
                let reader = TailJob {
                    partition: partition.clone(),
                    rows: tail.rows.clone(),
                    left_over: Arc::clone(&tail.left),
                    room: Arc::clone(&room),
                    waiting: Arc::clone(&tail.waiting),
                    end: Arc::clone(&tail.end),
                    closes_ns,
                    left: open_for,
                    clock: Arc::clone(clock),
                    control: Arc::clone(control),
                    report: ReadReport::default(),
                    dead_letters: Vec::new(),
                };
                ReadJob { stage, reader: Box::new(reader), waits: true }
            }));
        }
        jobs
    }

    /// Where the batches so far end.
    pub(super) fn ends(&self, sources: &mut [Box<dyn Source>], starts: &[Offset]) -> Result<Vec<Offset>> {
        let end_of = |tail: &Tail| Some(tail.end.load(Ordering::Acquire)).filter(|end| *end >= 0);
        let tails = self.sources.iter().map(|tails| {
            tails.iter().filter_map(|(name, tail)| Some((name.clone(), end_of(tail)?))).collect::<BTreeMap<_, _>>()
        });
        sources.iter_mut().zip(starts).zip(tails).map(|((source, start), ends)| source.followed(start, &ends)).collect()
    }
}

impl Drop for Tails {
    fn drop(&mut self) {
        let tails: Vec<Tail> = self.sources.drain(..).flat_map(BTreeMap::into_values).collect();
        tails.iter().for_each(|tail| tail.stop.store(true, Ordering::Relaxed));
        // A thread that waits for room ends when nobody can take its rows.
        let threads: Vec<JoinHandle<()>> = tails.into_iter().map(|tail| tail.thread).collect();
        for thread in threads {
            // What a panic said was given to the batch.
            let _ = thread.join();
        }
    }
}

impl Tail {
    fn start(mut reader: Box<dyn TailReader>, bell: Sender<()>) -> Result<Self> {
        let (out, rows) = bounded(READ_AHEAD);
        let (waiting, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&waiting), Arc::clone(&stop));
        let name = format!("tail {}", reader.partition());
        let read = move || {
            while !stopped.load(Ordering::Relaxed) {
                let next = match reader.next() {
                    Ok(None) => continue,
                    Ok(Some(rows)) => Ok(rows),
                    Err(error) => Err(error),
                };
                let is_last = next.is_err();
                count.fetch_add(usize::from(makes_a_batch(&next)), Ordering::Release);
                if out.send(next).is_err() || is_last {
                    break;
                }
                let _ = bell.try_send(());
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it is joined when the query ends")]
        let thread = std::thread::Builder::new().name(name).spawn(read);
        let thread = thread.map_err(|error| {
            EngineError::unavailable("a thread for reading a partition could not be started").caused_by(error)
        })?;
        Ok(Self { rows, left: Arc::default(), waiting, stop, end: Arc::new(AtomicI64::new(-1)), thread })
    }
}

fn makes_a_batch(next: &Result<TailRows>) -> bool {
    next.as_ref().map_or(true, |next| next.rows.num_rows() > 0)
}

/// How many records of one source a batch has room for; those of a single answer of a partition it always has.
struct Room {
    /// None for any number.
    limit: Option<u64>,
    taken: AtomicU64,
}

impl Room {
    fn new(limit: Option<u64>) -> Self {
        Self { limit, taken: AtomicU64::new(0) }
    }

    /// Takes room for so many records, if there is. The first always have, or a batch would never be anything.
    fn take(&self, records: u64) -> bool {
        let fits = |taken: u64| taken == 0 || self.limit.is_none_or(|limit| taken.saturating_add(records) <= limit);
        let more = |taken: u64| fits(taken).then(|| taken.saturating_add(records));
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.taken.load(Ordering::Acquire) >= limit)
    }
}

/// One partition's part in one batch.
struct TailJob {
    partition: String,
    rows: Receiver<Result<TailRows>>,
    left_over: Arc<Mutex<Option<TailRows>>>,
    room: Arc<Room>,
    waiting: Arc<AtomicUsize>,
    end: Arc<AtomicI64>,
    closes_ns: u64,
    /// Time that is left by our own waits, for clocks that stand still.
    left: Duration,
    clock: Arc<dyn Clock>,
    control: Arc<Control>,
    report: ReadReport,
    dead_letters: Vec<DeadLetter>,
}

impl TailJob {
    /// What comes next, unless the batch has no room for it: then it waits for the next one, and nothing overtakes it.
    fn take(&mut self, next: Result<TailRows>) -> Result<Taken> {
        if let Ok(next) = &next
            && !self.room.take(next.report.records)
        {
            *self.left_over.lock() = Some(next.clone());
            return Ok(Taken::NoRoom);
        }
        self.waiting.fetch_sub(usize::from(makes_a_batch(&next)), Ordering::AcqRel);
        let TailRows { rows, end, report, dead_letters } = next?;
        self.end.store(end, Ordering::Release);
        self.report.add(&report);
        self.dead_letters.extend(dead_letters);
        // What could not be read is taken away with rows, if there are any.
        let has_something = rows.num_rows() > 0 || !self.dead_letters.is_empty();
        Ok(if has_something { Taken::Rows(rows) } else { Taken::Nothing })
    }
}

/// What became of the next rows of a partition.
enum Taken {
    Rows(RecordBatch),
    /// Only the position moved.
    Nothing,
    NoRoom,
}

impl PartitionReader for TailJob {
    fn partition(&self) -> &str {
        &self.partition
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let left_over = self.left_over.lock().take();
        let mut next = left_over.map(Ok);
        loop {
            if let Some(next) = next.take() {
                match self.take(next)? {
                    Taken::Rows(rows) => return Ok(Some(rows)),
                    Taken::NoRoom => return Ok(None),
                    Taken::Nothing => {}
                }
            }
            let until_close = Duration::from_nanos(self.closes_ns.saturating_sub(self.clock.monotonic_ns()));
            let wait = until_close.min(self.left).min(PATIENCE);
            if wait.is_zero() || self.room.is_full() || self.control.should_stop() {
                return Ok(None);
            }
            match self.rows.recv_timeout(wait) {
                Ok(rows) => next = Some(rows),
                Err(RecvTimeoutError::Timeout) => self.left = self.left.saturating_sub(wait),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(EngineError::internal(format!("the thread that read {} has ended", self.partition)));
                }
            }
        }
    }

    fn report(&self) -> ReadReport {
        self.report
    }

    fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.dead_letters)
    }
}
