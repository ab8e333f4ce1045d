//! What compaction sees of a partition's log, and the one thing it changes there.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::super::batch::{BatchHeader, HEADER_SIZE};
use super::super::config::LogConfig;
use super::super::partition_log::PartitionLog;
use super::super::producer_state::{Ended, LastBatch};
use super::super::segment::{Segment, file_path};
use super::CleanError;
use super::plan::{self, Candidate, Facts};
use super::swap::{Action, Swap};
use crate::error::{BrokerError, io_at};

/// A log as it was when a pass began. Closed segments are changed by nobody but the cleaner, so the pass reads them
/// without a lock.
#[derive(Debug)]
pub(super) struct View {
    pub(super) dir: PathBuf,
    pub(super) config: LogConfig,
    pub(super) closed: Vec<Facts>,
    /// Up to where the file of each was compacted.
    pub(super) holes_until: Vec<u64>,
    pub(super) dirty_offset: i64,
    /// End of what may be compacted.
    pub(super) end: i64,
    pub(super) last_batches: HashMap<i64, LastBatch>,
    pub(super) aborted: Vec<Ended>,
}

impl View {
    pub(super) fn path(&self, at: usize) -> PathBuf {
        file_path(&self.dir, self.closed[at].base_offset, "log")
    }
}

impl PartitionLog {
    fn closed_facts(&self) -> Vec<Facts> {
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        let facts = |(segment, next): (&Segment, &Segment)| Facts {
            base_offset: segment.base_offset(),
            end_offset: next.base_offset(),
            size_bytes: segment.size_bytes(),
            newest_ms: segment.newest_ms(),
        };
        pairs.map(facts).collect()
    }

    /// Where keys begin that no pass has looked at.
    fn dirty_offset(&self) -> i64 {
        self.checkpoint.dirty_offset.max(self.start_offset())
    }

    fn cleanable_end(&self, closed: &[Facts], high_watermark: i64, now_ms: i64) -> i64 {
        let stable_end = self.last_stable_offset(high_watermark);
        plan::cleanable_end(closed, self.dirty_offset(), stable_end, &self.config, now_ms)
    }

    /// Whether the log should be compacted, if everything below `high_watermark` can be read.
    pub(in super::super) fn compaction_candidate(&self, high_watermark: i64, now_ms: i64) -> Option<Candidate> {
        if self.failed || !self.config.compact {
            return None;
        }
        let closed = self.closed_facts();
        let end = self.cleanable_end(&closed, high_watermark, now_ms);
        let oldest_dirty_ms = || self.first_time_from(self.dirty_offset());
        plan::judge(&closed, self.dirty_offset(), end, &self.config, now_ms, oldest_dirty_ms)
    }

    /// The time of the first batch from an offset on.
    fn first_time_from(&self, offset: i64) -> Option<i64> {
        let span = self.span_from(offset).ok()?;
        let mut header = [0; HEADER_SIZE];
        span.file.read_exact_at(&mut header, span.position).ok()?;
        BatchHeader::parse(&header).ok().map(|header| header.max_timestamp)
    }

    /// What a pass has to know; `None` if there is nothing for it.
    pub(super) fn view(&self, high_watermark: i64, now_ms: i64) -> Option<View> {
        let closed = self.closed_facts();
        let end = self.cleanable_end(&closed, high_watermark, now_ms);
        let dirty_offset = self.dirty_offset();
        (!self.failed && end > dirty_offset).then(|| View {
            dir: self.dir.clone(),
            config: self.config,
            holes_until: self.segments.iter().take(closed.len()).map(Segment::holes_until).collect(),
            closed,
            dirty_offset,
            end,
            last_batches: self.producers.last_batches(),
            aborted: self.aborted_between(self.start_offset(), end),
        })
    }

    /// Puts `new` in the place of the segments with these base offsets, the last of which ends where the swap does.
    pub(super) fn replace(&mut self, swap: &Swap, bases: &[i64], new: Segment) -> Result<(), CleanError> {
        let at = self.place_of(swap, bases)?;
        let commit = Action::Commit { cleaned: new.path().to_owned() };
        let mut checkpoint = self.checkpoint.clone();
        swap.run(&commit, &mut checkpoint)?;
        let mut actions = swap.actions(bases).into_iter();
        // Until the first file is removed everything can be taken back.
        if let Some(note) = actions.next()
            && let Err(error) = swap.run(&note, &mut checkpoint)
        {
            self.failed |= swap.undo().and_then(|()| self.checkpoint.write(&self.dir)).is_err();
            return Err(error.into());
        }
        self.checkpoint = checkpoint.clone();
        let installed = actions.try_for_each(|action| swap.run(&action, &mut checkpoint));
        if let Err(error) = installed.and_then(|()| self.adopt(swap, at..at + bases.len(), new)) {
            // Only a start can tell which files are there.
            self.failed = true;
            return Err(error.into());
        }
        Ok(())
    }

    fn adopt(&mut self, swap: &Swap, replaced: std::ops::Range<usize>, mut new: Segment) -> Result<(), BrokerError> {
        let path = swap.log_path();
        new.moved_to(path.clone()).map_err(io_at("write the index of", &path))?;
        let at = replaced.start;
        self.segments.drain(replaced);
        self.segments.insert(at, new);
        Ok(())
    }

    /// Where the segments to be replaced are, if they are what they were when the pass began.
    fn place_of(&self, swap: &Swap, bases: &[i64]) -> Result<usize, CleanError> {
        if self.failed {
            return Err(CleanError::Stopped);
        }
        let at = self.segments.partition_point(|segment| segment.base_offset() < swap.first);
        let found = self.segments.iter().skip(at).map(Segment::base_offset);
        let expected = bases.iter().copied().chain([swap.end]);
        if found.take(bases.len() + 1).eq(expected) { Ok(at) } else { Err(CleanError::Overtaken) }
    }

    /// Ends a pass: everything below `dirty_offset` is clean.
    pub(super) fn finish_pass(&mut self, dirty_offset: i64, without_data: &[Ended]) -> Result<(), CleanError> {
        if self.failed {
            return Err(CleanError::Stopped);
        }
        self.aborted.forget(without_data).map_err(io_at("write the aborted transactions of", &self.dir))?;
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.dirty_offset = dirty_offset;
        self.write_checkpoint(checkpoint)?;
        Ok(())
    }
}
