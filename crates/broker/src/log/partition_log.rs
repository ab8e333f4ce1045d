//! The log of one partition: its segments, in order, and its producers.
//!
//! ```text
//! <data_dir>/<topic>-<partition>/
//!   00000000000000000000.log .index .timeindex      closed
//!   00000000000000004711.log .index .timeindex      active: appended to
//!   00000000000000004711.snapshot                   the producers as of offset 4711
//!   aborted.index                                   the transactions that were aborted
//!   checkpoint.json                                 up to where everything is on the disk
//! ```
//!
//! This is the single-threaded heart: it appends, rolls, looks up and deletes, and knows nothing
//! of waiting, fsync or who asks. `partition.rs` wraps it for concurrent use.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use thiserror::Error;

use super::aborted::AbortedIndex;
use super::batch::{BatchHeader, ProducedBatch};
use super::checkpoint::Checkpoint;
use super::config::LogConfig;
use super::control::{Marker, Outcome};
use super::producer_state::{Described, Ended, Judgement, ProducerState, SequenceError};
use super::recovery::Recovery;
use super::retention::{self, SegmentAge};
use super::scan::ScanError;
use super::sealed::{self, Kind};
use super::segment::{Segment, Span, TimedOffset, file_path};
use crate::error::{BrokerError, io_at};

const SNAPSHOT: Kind = Kind { name: "producers", holds: "sequence numbers of idempotent producers" };
/// Snapshots kept: one more than needed, in case the newest is damaged.
const KEPT_SNAPSHOTS: usize = 2;

/// A batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    /// -1 unless the topic stamps its records with the broker's time.
    pub(crate) log_append_time_ms: i64,
}

/// Why a batch is not in the log.
#[derive(Debug, Error)]
pub(crate) enum AppendError {
    #[error("the batch has {found} bytes, but max.message.bytes is {limit}")]
    TooLarge { found: usize, limit: usize },
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    #[error("it belongs to no transaction that may write here: {0}")]
    NotAdmitted(ResponseError),
    #[error("the log is closed after an earlier failure")]
    Failed,
    #[error(transparent)]
    Io(io::Error),
}

/// Segments and producers of one partition.
#[derive(Debug)]
pub(crate) struct PartitionLog {
    pub(super) dir: PathBuf,
    pub(super) config: LogConfig,
    max_producers: usize,
    /// Never empty; the last one is active.
    pub(super) segments: VecDeque<Segment>,
    pub(super) producers: ProducerState,
    pub(super) aborted: AbortedIndex,
    /// Transactions whose marker may not be readable yet, in the order of their markers.
    ending: VecDeque<Ended>,
    /// Closed files whose last bytes may not be on the disk yet.
    unsynced: Vec<Arc<File>>,
    /// When the oldest record came that was not yet handed to an fsync.
    unsynced_since_ms: Option<i64>,
    /// Files of deleted segments, and when they go.
    doomed: Vec<(i64, PathBuf)>,
    pub(super) failed: bool,
    /// As it was last written.
    pub(super) checkpoint: Checkpoint,
}

impl PartitionLog {
    /// Opens or creates the log in the recovery's directory.
    pub(crate) fn open(recovery: Recovery<'_>, config: LogConfig, max_producers: usize) -> Result<Self, BrokerError> {
        let (segments, checkpoint) = recovery.open_segments()?;
        let mut log = Self {
            dir: recovery.dir.to_owned(),
            config,
            max_producers,
            segments: segments.into(),
            producers: ProducerState::default(),
            aborted: AbortedIndex::new(recovery.dir),
            ending: VecDeque::new(),
            unsynced: Vec::new(),
            unsynced_since_ms: None,
            doomed: Vec::new(),
            failed: false,
            checkpoint,
        };
        if log.checkpoint.start_offset > log.next_offset() {
            // A crash took the end of the log, also what was deleted: records that come now must not count as deleted.
            log.write_checkpoint(Checkpoint { start_offset: log.next_offset(), ..log.checkpoint.clone() })?;
        }
        log.restore_producers(recovery.now_ms).map_err(io_at("read the producers of", recovery.dir))?;
        Ok(log)
    }

    pub(crate) fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    pub(crate) fn start_offset(&self) -> i64 {
        self.segments[0].base_offset().max(self.checkpoint.start_offset)
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.active().next_offset()
    }

    pub(crate) fn active_base_offset(&self) -> i64 {
        self.active().base_offset()
    }

    fn active(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn active_mut(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// Stores a checked batch, unless it is stored already.
    pub(crate) fn append(&mut self, batch: &ProducedBatch<'_>, now_ms: i64) -> Result<Appended, AppendError> {
        if self.failed {
            return Err(AppendError::Failed);
        }
        let found = batch.header.size_bytes;
        if found > self.config.max_message_bytes {
            return Err(AppendError::TooLarge { found, limit: self.config.max_message_bytes });
        }
        let log_append_time = self.config.log_append_time.then_some(now_ms);
        if batch.header.is_idempotent()
            && let Judgement::Duplicate { base_offset, timestamp } = self.judge(&batch.header)?
        {
            let next_offset = base_offset + i64::from(batch.header.record_count);
            return Ok(Appended {
                base_offset,
                next_offset,
                log_append_time_ms: log_append_time.map_or(-1, |_| timestamp),
            });
        }
        if self.should_roll(&batch.header, now_ms) {
            self.roll(now_ms).map_err(AppendError::Io)?;
        }
        self.store(batch, log_append_time, now_ms)
    }

    fn judge(&self, batch: &BatchHeader) -> Result<Judgement, SequenceError> {
        match self.producers.judge(batch) {
            Err(_) if !self.config.fences => Ok(Judgement::Append),
            judged => judged,
        }
    }

    /// Writes the end of a producer's transaction. Everything below `high_watermark` can be read.
    pub(crate) fn append_marker(
        &mut self,
        marker: Marker,
        high_watermark: i64,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        if self.failed {
            return Err(AppendError::Failed);
        }
        if self.config.fences {
            self.producers.judge_marker(marker)?;
        }
        while self.ending.front().is_some_and(|ended| ended.marker_offset < high_watermark) {
            self.ending.pop_front();
        }
        let batch = marker.batch(now_ms);
        let batch = ProducedBatch::control(&batch).map_err(|error| AppendError::Io(io::Error::other(error)))?;
        if self.should_roll(&batch.header, now_ms) {
            self.roll(now_ms).map_err(AppendError::Io)?;
        }
        self.store(&batch, self.config.log_append_time.then_some(now_ms), now_ms)
    }

    fn store(
        &mut self,
        batch: &ProducedBatch<'_>,
        log_append_time: Option<i64>,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let base_offset = self.next_offset();
        if base_offset.checked_add(batch.header.record_count.into()).is_none() {
            return Err(AppendError::Io(io::Error::other("the offsets of this log are used up")));
        }
        let (stamped, records) = batch.stamp(base_offset, log_append_time);
        let interval = self.config.index_interval_bytes;
        let header = self.active_mut().append(&stamped, records, interval).map_err(|failure| {
            // With bytes of unknown content at its end the file must not be appended to.
            self.failed |= failure.torn;
            AppendError::Io(failure.error)
        })?;
        self.unsynced_since_ms.get_or_insert(now_ms);
        if header.is_control() {
            // A marker that is in the log but not in the index would be a committed transaction to readers.
            let noted = self.note_marker(&header, batch.bytes(), now_ms);
            self.failed |= noted.is_err();
            self.ending.extend(noted.map_err(AppendError::Io)?);
        } else {
            self.producers.record(&header, base_offset, now_ms);
        }
        if self.producers.len() > self.max_producers {
            self.producers.expire(i64::MIN, self.max_producers - self.max_producers / 10);
        }
        Ok(Appended {
            base_offset,
            next_offset: header.next_offset(),
            log_append_time_ms: log_append_time.unwrap_or(-1),
        })
    }

    /// Takes a control batch into account; answers the transaction it ends.
    fn note_marker(&mut self, header: &BatchHeader, batch: &[u8], now_ms: i64) -> io::Result<Option<Ended>> {
        let Some(marker) = Marker::read(header, batch) else { return Ok(None) };
        let ended = self.producers.end(marker, header.base_offset, now_ms);
        if let Some(ended) = ended
            && marker.outcome == Outcome::Abort
        {
            self.aborted.push(ended)?;
        }
        Ok(ended)
    }

    fn should_roll(&self, batch: &BatchHeader, now_ms: i64) -> bool {
        let active = self.active();
        if active.size_bytes() == 0 {
            return false;
        }
        let full = active.size_bytes() + batch.size_bytes as u64 > self.config.segment_bytes.into();
        let indexed = active.index_is_full(self.config.segment_index_bytes);
        full || indexed || self.active_is_old(now_ms) || active.cannot_hold(batch)
    }

    fn active_is_old(&self, now_ms: i64) -> bool {
        let active = self.active();
        let jitter_ms = jitter_ms(&self.dir, active.base_offset(), &self.config);
        active.size_bytes() > 0
            && now_ms.saturating_sub(active.created_ms()) >= self.config.segment_ms.saturating_sub(jitter_ms)
    }

    /// Closes the active segment and starts the next.
    fn roll(&mut self, now_ms: i64) -> io::Result<()> {
        let next_offset = self.next_offset();
        let closed = self.active_mut().close()?;
        // Where acks wait for the disk little of it is not there yet. A crash of the machine that kept the next segment
        // and lost the end of this one would look like damage, for which a start is refused.
        if self.config.syncs_closed
            && let Some(file) = &closed
        {
            let synced = file.sync_all();
            self.failed |= synced.is_err();
            synced?;
        }
        self.unsynced.extend(closed);
        let segment = Segment::create(&self.dir, next_offset, now_ms)?;
        self.segments.push_back(segment);
        self.snapshot_producers().map_err(io::Error::other)
    }

    #[cfg(test)]
    pub(super) fn roll_now(&mut self, now_ms: i64) -> io::Result<()> {
        if self.active().size_bytes() > 0 { self.roll(now_ms) } else { Ok(()) }
    }

    /// Files that have to be fsynced for everything below the offset to be on the disk.
    pub(crate) fn take_unsynced(&mut self) -> io::Result<(Vec<Arc<File>>, i64)> {
        self.unsynced_since_ms = None;
        let mut files = std::mem::take(&mut self.unsynced);
        files.push(self.active().file()?);
        Ok((files, self.next_offset()))
    }

    /// Whether records have waited for `flush.ms`.
    pub(crate) fn is_flush_overdue(&self, now_ms: i64) -> bool {
        let waited = |since_ms| now_ms.saturating_sub(since_ms) >= self.config.flush_ms;
        !self.failed && self.unsynced_since_ms.is_some_and(waited)
    }

    /// Whether closed segments wait for their fsync.
    pub(crate) fn has_unsynced_segments(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// No batch is taken any more: what is on the disk is not known after a failed fsync.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    /// Where to read from `offset` on; empty at the end of the log.
    pub(crate) fn span_from(&self, offset: i64) -> Result<Span, ScanError> {
        let first = self.segment_of(offset);
        for segment in self.segments.range(first..self.segments.len() - 1) {
            let span = segment.span_from(offset)?;
            // Compaction may have taken everything from the offset to the end of its segment.
            if span.position < span.end {
                return Ok(span);
            }
        }
        self.active().span_from(offset)
    }

    /// Bytes from `offset` to the end, up to an index interval too many.
    pub(crate) fn bytes_from(&self, offset: i64) -> io::Result<u64> {
        let first = self.segment_of(offset);
        let behind: u64 = self.segments.iter().skip(first + 1).map(Segment::size_bytes).sum();
        Ok(behind + self.segments[first].bytes_from(offset)?)
    }

    fn segment_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base_offset() <= offset).saturating_sub(1)
    }

    /// The first record that is not older than `timestamp`.
    pub(crate) fn find_time(&self, timestamp: i64) -> Result<Option<TimedOffset>, ScanError> {
        for segment in &self.segments {
            if segment.newest().is_some_and(|newest| newest.timestamp >= timestamp)
                && let Some(found) = segment.find_time(timestamp, self.start_offset())?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The newest record, by its own time.
    pub(crate) fn newest(&self) -> Result<Option<TimedOffset>, ScanError> {
        let newest = self.segments.iter().filter_map(Segment::newest).map(|newest| newest.timestamp).max();
        match newest {
            Some(timestamp) => self.find_time(timestamp),
            None => Ok(None),
        }
    }

    /// End of what is decided, if everything below `high_watermark` can be read: the first offset of
    /// the oldest transaction that is open, or whose marker cannot be read yet.
    pub(crate) fn last_stable_offset(&self, high_watermark: i64) -> i64 {
        let ending = self.ending.iter().filter(|ended| ended.marker_offset >= high_watermark);
        let undecided = ending.map(|ended| ended.first_offset).chain(self.producers.first_open()).min();
        undecided.map_or(high_watermark, |first| first.max(self.start_offset()).min(high_watermark))
    }

    /// The aborted transactions a reader of the records from `from` to `to` has to know.
    pub(crate) fn aborted_between(&self, from: i64, to: i64) -> Vec<Ended> {
        self.aborted.between(from, to).collect()
    }

    /// Changes whenever compaction has forgotten an aborted transaction.
    pub(crate) fn aborted_generation(&self) -> u64 {
        self.aborted.generation()
    }

    /// Producers with a transaction open here, and their epochs.
    pub(crate) fn open_transactions(&self) -> Vec<(i64, i16)> {
        self.producers.open().collect()
    }

    /// The producers that are remembered, by id.
    pub(crate) fn describe_producers(&self) -> Vec<Described> {
        self.producers.describe()
    }

    /// Rolls and deletes what has outlived the topic's settings; answers the segments that went.
    pub(crate) fn enforce_retention(&mut self, now_ms: i64) -> io::Result<usize> {
        if self.failed {
            return Ok(0);
        }
        let ages: Vec<_> = self.segments.iter().map(age).collect();
        let verdict = retention::judge(&ages, &self.config, now_ms);
        if verdict.roll_active || self.active_is_old(now_ms) {
            self.roll(now_ms)?;
        }
        for _ in 0..verdict.delete {
            if let Some(segment) = self.segments.pop_front() {
                tracing::info!(file = %segment.path().display(), size_bytes = segment.size_bytes(), "segment deleted");
                let due_ms = now_ms.saturating_add(self.config.file_delete_delay_ms);
                self.doomed.extend(segment.doom()?.into_iter().map(|path| (due_ms, path)));
            }
        }
        self.aborted.forget_before(self.start_offset())?;
        self.remove_doomed(now_ms)?;
        Ok(verdict.delete)
    }

    /// Removes the files whose `file.delete.delay.ms` is over.
    fn remove_doomed(&mut self, now_ms: i64) -> io::Result<()> {
        let (due, later) = std::mem::take(&mut self.doomed).into_iter().partition(|(due_ms, _)| *due_ms <= now_ms);
        self.doomed = later;
        let due: Vec<(i64, PathBuf)> = due;
        due.iter().try_for_each(|(_, path)| fs::remove_file(path))
    }

    /// Forgets producers that have been silent since before `oldest_ms`.
    pub(crate) fn expire_producers(&mut self, oldest_ms: i64) {
        self.producers.expire(oldest_ms, self.max_producers);
    }

    /// Writes everything that makes the next start quick. The files are synced already.
    pub(crate) fn checkpoint(&mut self, recovery_offset: i64) -> Result<(), BrokerError> {
        self.write_checkpoint(Checkpoint { recovery_offset, ..self.checkpoint.clone() })
    }

    pub(super) fn write_checkpoint(&mut self, mut checkpoint: Checkpoint) -> Result<(), BrokerError> {
        let start = self.segments[0].base_offset();
        checkpoint.compacted.retain(|&base, _| base >= start);
        checkpoint.write(&self.dir)?;
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// Deletes the records before `offset`, durably. Segments go as wholes: of the one that holds `offset` only the
    /// reading stops.
    pub(crate) fn delete_before(&mut self, offset: i64) -> Result<(), BrokerError> {
        if offset <= self.start_offset() {
            return Ok(());
        }
        self.write_checkpoint(Checkpoint { start_offset: offset, ..self.checkpoint.clone() })?;
        while self.segments.len() > 1 && self.segments[0].next_offset() <= offset {
            if let Some(segment) = self.segments.pop_front() {
                tracing::info!(file = %segment.path().display(), size_bytes = segment.size_bytes(), "segment deleted");
                segment.delete().map_err(io_at("remove a segment in", &self.dir))?;
            }
        }
        self.aborted.forget_before(self.start_offset()).map_err(io_at("write the aborted transactions of", &self.dir))
    }

    /// Bytes of all segments.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::size_bytes).sum()
    }

    /// Ends the log in good order; nothing can be appended after it.
    pub(crate) fn close(&mut self) -> Result<(), BrokerError> {
        if self.failed {
            return Ok(());
        }
        let dir = self.dir.clone();
        self.active_mut().sync_indexes().map_err(io_at("write an index in", &dir))?;
        let (files, next_offset) = self.take_unsynced().map_err(io_at("open a segment in", &dir))?;
        for file in files {
            file.sync_all().map_err(io_at("fsync a segment in", &dir))?;
        }
        self.snapshot_producers()?;
        self.failed = true;
        self.checkpoint(next_offset)
    }

    fn snapshot_producers(&mut self) -> Result<(), BrokerError> {
        // The snapshot stands for the index below it too.
        self.aborted.sync().map_err(io_at("fsync the aborted transactions of", &self.dir))?;
        let mut offsets = self.snapshot_offsets().map_err(io_at("list", &self.dir))?;
        let next_offset = self.next_offset();
        sealed::write(&file_path(&self.dir, next_offset, "snapshot"), SNAPSHOT, &self.producers)?;
        offsets.retain(|&offset| offset != next_offset);
        for offset in offsets.iter().rev().skip(KEPT_SNAPSHOTS - 1) {
            let path = file_path(&self.dir, *offset, "snapshot");
            fs::remove_file(&path).map_err(io_at("remove", &path))?;
        }
        Ok(())
    }

    /// Offsets of the snapshots on the disk, rising.
    fn snapshot_offsets(&self) -> io::Result<Vec<i64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".snapshot"));
            found.extend(stem.and_then(|stem| stem.parse::<i64>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The newest usable snapshot, and the headers of every batch behind it.
    fn restore_producers(&mut self, now_ms: i64) -> io::Result<()> {
        for offset in self.snapshot_offsets()?.into_iter().rev() {
            let path = file_path(&self.dir, offset, "snapshot");
            if offset > self.next_offset() {
                // It describes batches that were cut off; its number would shadow a later one.
                fs::remove_file(&path)?;
                continue;
            }
            match sealed::read(&path, SNAPSHOT) {
                Ok(Some(producers)) => {
                    if self.adopt_snapshot(producers, offset)? {
                        return self.replay_producers(offset, now_ms);
                    }
                    tracing::warn!(dir = %self.dir.display(), "aborted.index not usable, the log is read instead");
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "snapshot not usable, batch headers are read instead"),
            }
        }
        self.aborted = AbortedIndex::create(&self.dir)?;
        self.replay_producers(self.start_offset(), now_ms)
    }

    /// Takes a snapshot, if the index of aborted transactions goes as far as it does.
    fn adopt_snapshot(&mut self, producers: ProducerState, offset: i64) -> io::Result<bool> {
        let Some(aborted) = AbortedIndex::open(&self.dir, offset)? else { return Ok(false) };
        // What ended before the log's start may have been forgotten.
        let expected = producers.last_abort().filter(|&marker| marker >= self.start_offset());
        if expected.is_some_and(|marker| aborted.last_marker() != Some(marker)) {
            return Ok(false);
        }
        (self.producers, self.aborted) = (producers, aborted);
        Ok(true)
    }

    fn replay_producers(&mut self, from: i64, now_ms: i64) -> io::Result<()> {
        for at in 0..self.segments.len() {
            if self.segments[at].next_offset() <= from {
                continue;
            }
            let span = self.segments[at].span_from(from).map_err(io::Error::other)?;
            let mut scanner = self.segments[at].headers(&span.file, span.position);
            while let Some(found) = scanner.next().map_err(io::Error::other)? {
                if found.header.is_control() {
                    let mut batch = vec![0; found.header.size_bytes];
                    span.file.read_exact_at(&mut batch, found.position)?;
                    self.note_marker(&found.header, &batch, now_ms)?;
                } else {
                    self.producers.record(&found.header, found.header.base_offset, now_ms);
                }
            }
        }
        Ok(())
    }
}

/// By how much a segment is closed before `segment.ms`: each by another time, the same whenever it is asked.
fn jitter_ms(dir: &Path, base_offset: i64, config: &LogConfig) -> i64 {
    let most = config.segment_jitter_ms.min(config.segment_ms);
    let mut hasher = DefaultHasher::new();
    (dir, base_offset).hash(&mut hasher);
    if most > 0 { (hasher.finish() % most.unsigned_abs()) as i64 } else { 0 }
}

fn age(segment: &Segment) -> SegmentAge {
    SegmentAge { size_bytes: segment.size_bytes(), newest_ms: segment.newest_ms() }
}

/// The directory of a partition.
pub(crate) fn partition_dir(data_dir: &Path, topic: &str, partition: i32) -> PathBuf {
    data_dir.join(format!("{topic}-{partition}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_closed_early_by_different_times_within_the_jitter() {
        let config = LogConfig { segment_ms: 1000, segment_jitter_ms: 100, ..LogConfig::default() };
        let jitters: Vec<i64> = (0..50).map(|at| jitter_ms(Path::new("t-0"), at * 10, &config)).collect();
        assert!(jitters.iter().all(|jitter| (0..100).contains(jitter)), "{jitters:?}");
        assert!(jitters.iter().any(|jitter| *jitter != jitters[0]));
        assert_eq!(jitter_ms(Path::new("t-0"), 0, &LogConfig { segment_jitter_ms: 0, ..config }), 0);
        assert!(jitter_ms(Path::new("t-0"), 0, &LogConfig { segment_jitter_ms: i64::MAX, ..config }) < 1000);
    }
}
