//! A partition as the handlers see it: many readers, one writer at a time, and somebody waiting.
//!
//! ```text
//!             write lock                         read lock, then none
//!   produce ──> PartitionLog.append   fetch ──> span (file, from, to) ──> bytes from the file
//!        │                               ▲
//!        └─> high watermark ─> waiters ──┘      the high watermark is the end of the log; when
//!                 ▲                             acks wait for an fsync it is the flushed offset
//!        fsync ───┘
//! ```
//!
//! A record is readable only below the high watermark. When acks wait for an fsync it moves with
//! the fsync: a reader never sees a record that a crash of the machine could take back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::sync::{Notify, watch};

use super::batch::{BatchError, BatchHeader, HEADER_SIZE, ProducedBatch, verify_crc};
use super::config::LogConfig;
use super::control::Marker;
use super::flush::FlushQueue;
use super::partition_log::{AppendError, Appended, PartitionLog};
use super::producer_state::{Described, Ended};
use super::scan::ScanError;
use super::segment::{Span, TimedOffset};
use super::waiters::Waiters;
use crate::buffers::Buffers;
use crate::error::BrokerError;

/// One partition of a topic, shared by everything that uses it.
#[derive(Debug)]
pub(crate) struct Partition {
    topic: Arc<str>,
    index: i32,
    pub(super) log: RwLock<PartitionLog>,
    high_watermark: AtomicI64,
    flushed: watch::Sender<Flushed>,
    flush_queue: Arc<FlushQueue>,
    queued: AtomicBool,
    /// One fsync of a partition at a time, so that its checkpoints follow each other.
    flushing: Mutex<()>,
    waiters: Waiters,
    deleted: AtomicBool,
    /// No more is written to the log.
    closed: AtomicBool,
    /// Compaction has failed.
    uncleanable: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flushed {
    offset: i64,
    failed: bool,
}

/// How much to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    pub(crate) max_bytes: usize,
    /// Read the first batch even if it is larger than that.
    pub(crate) at_least_one: bool,
    pub(crate) verify: bool,
    pub(crate) isolation: Isolation,
}

/// What a reader wants to see of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Every record, also of transactions that are open or were aborted.
    Uncommitted,
    /// Nothing from the oldest open transaction on, and word of those that were aborted.
    Committed,
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) struct Batches {
    pub(crate) bytes: Bytes,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    /// Transactions whose records among these a reader of committed ones leaves out.
    pub(crate) aborted: Vec<Ended>,
}

/// Why a partition could not be read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("offset {offset} is outside the log, which goes from {start} to {end}")]
    OutOfRange { offset: i64, start: i64, end: i64 },
    #[error(
        "{} is damaged at position {position}: {reason}; stop the broker and restore the file from a backup, or start \
         it with `--truncate-corrupt-logs` to give up everything from there on", path.display()
    )]
    Corrupt { path: PathBuf, position: u64, reason: BatchError },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why records were not deleted.
#[derive(Debug, Error)]
pub(crate) enum DeleteError {
    #[error("offset {offset} is outside the log, which can be read up to {end}")]
    OutOfRange { offset: i64, end: i64 },
    #[error(transparent)]
    Failed(#[from] BrokerError),
}

/// The fsync a produce waited for failed.
#[derive(Debug, Error)]
#[error("the fsync failed")]
pub(crate) struct FlushFailed;

impl Partition {
    pub(crate) fn new(topic: Arc<str>, index: i32, log: PartitionLog, flush_queue: Arc<FlushQueue>) -> Arc<Self> {
        // What was recovered was read back from the disk or verified, so it is all readable. Its
        // fsync is made up for by the next one of this partition.
        let end = log.next_offset();
        Arc::new(Self {
            topic,
            index,
            log: RwLock::new(log),
            high_watermark: AtomicI64::new(end),
            flushed: watch::Sender::new(Flushed { offset: end, failed: false }),
            flush_queue,
            queued: AtomicBool::new(false),
            flushing: Mutex::new(()),
            waiters: Waiters::default(),
            deleted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            uncleanable: AtomicBool::new(false),
        })
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn index(&self) -> i32 {
        self.index
    }

    pub(crate) fn start_offset(&self) -> i64 {
        self.log.read().start_offset()
    }

    /// End of what can be read.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn is_uncleanable(&self) -> bool {
        self.uncleanable.load(Ordering::Acquire)
    }

    pub(crate) fn set_uncleanable(&self) {
        self.uncleanable.store(true, Ordering::Release);
    }

    pub(crate) fn config(&self) -> LogConfig {
        self.log.read().config
    }

    pub(crate) fn set_config(&self, config: LogConfig) {
        self.log.write().set_config(config);
    }

    /// Appends a checked batch. It is durable once [`Partition::flushed`] says so.
    ///
    /// `admit` has the last word, when nothing can be appended any more before the batch is: what it
    /// allows in a transaction stands before the marker of that transaction.
    pub(crate) fn append(
        self: &Arc<Self>,
        batch: &ProducedBatch<'_>,
        now_ms: i64,
        admit: impl FnOnce() -> Result<(), ResponseError>,
    ) -> Result<Appended, AppendError> {
        self.write(|log| {
            admit().map_err(AppendError::NotAdmitted)?;
            log.append(batch, now_ms)
        })
    }

    /// Appends the end of a transaction, as durable as a batch.
    pub(crate) fn append_marker(self: &Arc<Self>, marker: Marker, now_ms: i64) -> Result<Appended, AppendError> {
        let high_watermark = self.high_watermark();
        self.write(|log| log.append_marker(marker, high_watermark, now_ms))
    }

    fn write(
        self: &Arc<Self>,
        append: impl FnOnce(&mut PartitionLog) -> Result<Appended, AppendError>,
    ) -> Result<Appended, AppendError> {
        let (appended, queue) = {
            let mut log = self.log.write();
            let appended = append(&mut log)?;
            if !self.flush_queue.acks_wait() {
                self.high_watermark.fetch_max(appended.next_offset, Ordering::AcqRel);
            }
            (appended, self.flush_queue.wants_every_write() || log.has_unsynced_segments())
        };
        if queue {
            self.queue_flush();
        }
        if !self.flush_queue.acks_wait() {
            self.waiters.wake();
        }
        self.flush_many(appended.next_offset)?;
        Ok(appended)
    }

    /// Flushes if `flush.messages` records have come since the last time.
    fn flush_many(&self, end: i64) -> Result<(), AppendError> {
        let limit = self.config().flush_messages;
        if self.flush_queue.acks_wait() || end - self.flushed.borrow().offset < limit {
            return Ok(());
        }
        self.flush();
        if self.flushed.borrow().failed { Err(AppendError::Failed) } else { Ok(()) }
    }

    /// Flushes what has waited for `flush.ms`. Blocks.
    pub(crate) fn flush_overdue(&self, now_ms: i64) {
        let overdue = self.log.read().is_flush_overdue(now_ms);
        if overdue {
            self.flush();
        }
    }

    #[cfg(test)]
    pub(crate) fn flushed_offset(&self) -> i64 {
        self.flushed.borrow().offset
    }

    /// Makes sure that everything below `offset` is on the disk; `false` if it cannot be. Blocks.
    pub(crate) fn flush_to(&self, offset: i64) -> bool {
        if self.flushed.borrow().offset < offset {
            self.flush();
        }
        let flushed = *self.flushed.borrow();
        !flushed.failed && flushed.offset >= offset
    }

    fn queue_flush(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.flush_queue.push(self);
        }
    }

    /// Waits, if acks do, until everything below `offset` is on the disk.
    pub(crate) async fn flushed(&self, offset: i64) -> Result<(), FlushFailed> {
        if !self.flush_queue.acks_wait() {
            return Ok(());
        }
        let mut flushed = self.flushed.subscribe();
        let reached = flushed.wait_for(|flushed| flushed.failed || flushed.offset >= offset).await;
        match reached {
            Ok(state) if !state.failed => Ok(()),
            _ => Err(FlushFailed),
        }
    }

    /// Forces everything appended so far to the disk. Blocks.
    pub(crate) fn flush(&self) {
        let _one_at_a_time = self.flushing.lock();
        self.queued.store(false, Ordering::Release);
        if self.is_deleted() {
            return;
        }
        let (rolled, files) = {
            let mut log = self.log.write();
            (log.has_unsynced_segments(), log.take_unsynced())
        };
        let synced = files.and_then(|(files, offset)| sync_all(&files).map(|()| offset));
        match synced {
            Ok(offset) => self.note_flushed(offset, rolled),
            Err(error) => self.note_flush_failed(&error),
        }
    }

    fn note_flushed(&self, offset: i64, rolled: bool) {
        // Readable before it is acknowledged: whoever was told that a record is stored may read it at once.
        self.high_watermark.fetch_max(offset, Ordering::AcqRel);
        self.flushed.send_modify(|flushed| flushed.offset = flushed.offset.max(offset));
        self.waiters.wake();
        if rolled {
            let mut log = self.log.write();
            // Below the active segment the indexes are on the disk too.
            let closed_end = log.active_base_offset();
            if let Err(error) = log.checkpoint(closed_end.min(offset)) {
                tracing::warn!(topic = %self.topic, partition = self.index, %error, "checkpoint not written");
            }
        }
    }

    /// After a failed fsync the system may have dropped the pages: neither a second try nor a
    /// later append could be trusted, so the partition takes no more records until a restart has
    /// looked at what is really there.
    fn note_flush_failed(&self, error: &io::Error) {
        tracing::error!(topic = %self.topic, partition = self.index, %error, "fsync failed, partition is read-only");
        self.log.write().fail();
        self.flushed.send_modify(|flushed| flushed.failed = true);
    }

    /// Whole batches from the one that holds `offset` on.
    pub(crate) fn read(&self, offset: i64, limits: ReadLimits, buffers: &Arc<Buffers>) -> Result<Batches, ReadError> {
        let log = self.log.read();
        let (start, log_end) = (log.start_offset(), log.next_offset());
        if offset < start || offset > log_end {
            return Err(ReadError::OutOfRange { offset, start, end: log_end });
        }
        let high_watermark = self.high_watermark();
        let last_stable_offset = log.last_stable_offset(high_watermark);
        let end = match limits.isolation {
            Isolation::Uncommitted => high_watermark,
            Isolation::Committed => last_stable_offset,
        };
        let mut batches = Batches { bytes: Bytes::new(), high_watermark, last_stable_offset, aborted: Vec::new() };
        if offset >= end {
            return Ok(batches);
        }
        let span = log.span_from(offset).map_err(|error| named(error, PathBuf::from(&*self.topic)))?;
        let generation = log.aborted_generation();
        // Writers go on while the file is read.
        drop(log);
        let read_to;
        (batches.bytes, read_to) = read_batches(&span, end, limits, buffers)?;
        if limits.isolation == Isolation::Committed {
            let log = self.log.read();
            if log.start_offset() > offset {
                // Deleted meanwhile, and with it perhaps the knowledge that it was aborted.
                return Err(ReadError::OutOfRange { offset, start: log.start_offset(), end: log.next_offset() });
            }
            if log.aborted_generation() != generation {
                // The file that was read may hold records of a transaction that compaction has emptied since.
                drop(log);
                return self.read(offset, limits, buffers);
            }
            batches.aborted = log.aborted_between(offset, read_to);
        }
        Ok(batches)
    }

    fn readable_to(&self, log: &PartitionLog, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::Uncommitted => self.high_watermark(),
            Isolation::Committed => log.last_stable_offset(self.high_watermark()),
        }
    }

    /// End of what such a reader can read.
    pub(crate) fn end_offset(&self, isolation: Isolation) -> i64 {
        self.readable_to(&self.log.read(), isolation)
    }

    /// The producers that are remembered, by id.
    pub(crate) fn describe_producers(&self) -> Vec<Described> {
        self.log.read().describe_producers()
    }

    /// Producers with a transaction open here, and their epochs.
    pub(crate) fn open_transactions(&self) -> Vec<(i64, i16)> {
        self.log.read().open_transactions()
    }

    /// Bytes that can be read from `offset` on, up to an index interval too many; `None` outside the log.
    pub(crate) fn available_bytes(&self, offset: i64, isolation: Isolation) -> Option<u64> {
        let log = self.log.read();
        if offset < log.start_offset() || offset > log.next_offset() {
            return None;
        }
        if offset >= self.readable_to(&log, isolation) {
            return Some(0);
        }
        // A fetch that cannot be estimated must not wait: it has an error to deliver.
        Some(log.bytes_from(offset).unwrap_or(u64::MAX))
    }

    /// Has `waiter` notified once by the next change of the high watermark.
    pub(crate) fn register(&self, waiter: &Arc<Notify>) {
        self.waiters.register(waiter);
    }

    /// The first readable record that is not older than `timestamp`.
    pub(crate) fn find_time(&self, timestamp: i64, isolation: Isolation) -> Result<Option<TimedOffset>, ReadError> {
        let log = self.log.read();
        let found = log.find_time(timestamp).map_err(|error| named(error, PathBuf::from(&*self.topic)))?;
        Ok(found.filter(|found| found.offset < self.readable_to(&log, isolation)))
    }

    /// The newest record by its own time.
    pub(crate) fn newest(&self) -> Result<Option<TimedOffset>, ReadError> {
        let found = self.log.read().newest().map_err(|error| named(error, PathBuf::from(&*self.topic)))?;
        Ok(found.filter(|found| found.offset < self.high_watermark()))
    }

    /// Deletes what has outlived the topic's settings. Blocks.
    pub(crate) fn enforce_retention(self: &Arc<Self>, now_ms: i64, oldest_producer_ms: i64) {
        if self.is_deleted() {
            return;
        }
        let (result, rolled) = {
            let mut log = self.log.write();
            log.expire_producers(oldest_producer_ms);
            (log.enforce_retention(now_ms), log.has_unsynced_segments())
        };
        if rolled {
            self.queue_flush();
        }
        if let Err(error) = result {
            tracing::error!(topic = %self.topic, partition = self.index, %error, "retention failed");
        }
        self.waiters.wake();
    }

    /// Deletes the records before `offset`; answers where the log begins now. Blocks.
    pub(crate) fn delete_before(&self, offset: i64) -> Result<i64, DeleteError> {
        // One writer of the checkpoint at a time.
        let _one_at_a_time = self.flushing.lock();
        let end = self.high_watermark();
        if offset < 0 || offset > end {
            return Err(DeleteError::OutOfRange { offset, end });
        }
        let mut log = self.log.write();
        log.delete_before(offset)?;
        let start = log.start_offset();
        drop(log);
        self.waiters.wake();
        Ok(start)
    }

    /// Bytes of the log.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.log.read().size_bytes()
    }

    /// Ends the partition in good order. Blocks.
    pub(crate) fn close(&self) -> Result<(), BrokerError> {
        self.closed.store(true, Ordering::Release);
        let _one_at_a_time = self.flushing.lock();
        self.log.write().close()
    }

    /// Takes no more records, at once and without a flush: the topic is gone, or the broker is.
    pub(crate) fn abandon(&self) {
        self.deleted.store(true, Ordering::Release);
        self.closed.store(true, Ordering::Release);
        self.log.write().fail();
        self.flushed.send_modify(|flushed| flushed.failed = true);
        self.waiters.wake();
    }
}

fn named(error: ScanError, fallback: PathBuf) -> ReadError {
    match error {
        ScanError::Invalid { position, reason } => ReadError::Corrupt { path: fallback, position, reason },
        ScanError::Io(error) => ReadError::Io(error),
    }
}

fn sync_all(files: &[Arc<File>]) -> io::Result<()> {
    files.iter().try_for_each(|file| file.sync_data())
}

/// Reads the bytes of a span straight into the buffer that is sent, cut to whole batches below `end`;
/// answers the offset behind them too.
fn read_batches(span: &Span, end: i64, limits: ReadLimits, buffers: &Arc<Buffers>) -> Result<(Bytes, i64), ReadError> {
    let available = usize::try_from(span.end - span.position).unwrap_or(usize::MAX);
    let mut buffer = buffers.take(available.min(limits.max_bytes));
    span.file.read_exact_at(buffer.as_mut(), span.position)?;
    let whole = |buffer: &[u8]| whole_batches(buffer, end, limits.verify).map_err(|damage| corrupt(span, damage));
    let (mut length, mut read_to) = whole(buffer.as_ref())?;
    if length == 0 && limits.at_least_one && available > 0 {
        buffer = buffers.take(first_batch_bytes(span, available)?);
        span.file.read_exact_at(buffer.as_mut(), span.position)?;
        (length, read_to) = whole(buffer.as_ref())?;
    }
    Ok((buffer.into_bytes(length), read_to))
}

fn first_batch_bytes(span: &Span, available: usize) -> Result<usize, ReadError> {
    let mut header = [0; HEADER_SIZE];
    span.file.read_exact_at(&mut header, span.position)?;
    let header = BatchHeader::parse(&header).map_err(|reason| corrupt(span, (0, reason)))?;
    Ok(header.size_bytes.min(available))
}

fn corrupt(span: &Span, (at, reason): (usize, BatchError)) -> ReadError {
    ReadError::Corrupt { path: span.path.clone(), position: span.position + at as u64, reason }
}

/// Length of the whole batches below `end` at the start of `buffer`, and the offset behind them.
fn whole_batches(buffer: &[u8], end: i64, verify: bool) -> Result<(usize, i64), (usize, BatchError)> {
    let (mut length, mut read_to) = (0, i64::MIN);
    while buffer.len() - length >= HEADER_SIZE {
        let rest = &buffer[length..];
        let header = BatchHeader::parse(rest).map_err(|reason| (length, reason))?;
        if header.size_bytes > rest.len() || header.last_offset() >= end {
            break;
        }
        if verify {
            verify_crc(&header, rest).map_err(|reason| (length, reason))?;
        }
        length += header.size_bytes;
        read_to = header.next_offset();
    }
    Ok((length, read_to))
}
