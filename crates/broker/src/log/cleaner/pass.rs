//! One pass over one partition: read the keys of the dirty part, write what is left, replace.

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use uuid::Uuid;

use super::super::batch::HEADER_SIZE;
use super::super::partition::Partition;
use super::super::partition_log::PartitionLog;
use super::super::records::Unpacked;
use super::super::scan::{ScanError, Scanner};
use super::super::segment::Segment;
use super::filter::{Filter, Left};
use super::keys::Keys;
use super::plan;
use super::swap::Swap;
use super::transactions::{Role, Transactions};
use super::view::View;
use super::{Candidate, CleanError, Limits, Throttle};
use crate::error::io_at;

/// What a pass has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) dirty_offset: i64,
}

impl Partition {
    /// Whether this partition should be compacted.
    pub(in super::super) fn compaction_candidate(&self, now_ms: i64) -> Option<Candidate> {
        let usable = !self.is_deleted() && !self.is_uncleanable();
        usable.then(|| self.log.read().compaction_candidate(self.high_watermark(), now_ms)).flatten()
    }

    /// Compacts the log once. One that cannot be compacted is told of, and left alone until the next start. Blocks.
    pub(in super::super) fn compact(&self, limits: Limits, throttle: &mut Throttle, now_ms: i64) {
        let (topic, partition) = (self.topic(), self.index());
        match self.try_compact(limits, throttle, now_ms, &mut PartitionLog::replace) {
            Ok(Done { read_bytes, written_bytes, dirty_offset }) => {
                tracing::info!(topic, partition, read_bytes, written_bytes, dirty_offset, "compacted");
            }
            Err(reason @ (CleanError::Stopped | CleanError::Overtaken)) => {
                tracing::debug!(topic, partition, %reason, "compaction given up");
            }
            Err(error) => {
                self.set_uncleanable();
                tracing::error!(
                    topic, partition, %error,
                    "compaction failed; the partition keeps what it has and is not compacted again before a restart"
                );
            }
        }
    }

    pub(super) fn try_compact(
        &self,
        limits: Limits,
        throttle: &mut Throttle,
        now_ms: i64,
        replace: Replace<'_>,
    ) -> Result<Done, CleanError> {
        let view = self.log.read().view(self.high_watermark(), now_ms);
        let Some(view) = view else { return Ok(Done::default()) };
        let mut pass = Pass { partition: self, view: &view, limits, throttle, now_ms, replace, done: Done::default() };
        let (keys, end) = pass.read_keys()?;
        // A record goes because of a later one. That has to be on the disk first, or a crash of the machine could
        // take both.
        if !self.flush_to(end) {
            return Err(CleanError::Stopped);
        }
        let mut met = Transactions::new(&view.aborted);
        let within = view.closed.partition_point(|segment| segment.base_offset < end);
        for group in plan::groups(&view.closed[..within], view.config.segment_bytes.into()) {
            pass.clean_group(group, &keys, end, &mut met)?;
        }
        let done = Done { dirty_offset: end, ..pass.done };
        self.log.write().finish_pass(end, met.without_data())?;
        Ok(done)
    }
}

/// How a new segment takes the place of those it was made of.
pub(super) type Replace<'a> = &'a mut dyn FnMut(&mut PartitionLog, &Swap, &[i64], Segment) -> Result<(), CleanError>;

struct Pass<'a> {
    partition: &'a Partition,
    view: &'a View,
    limits: Limits,
    throttle: &'a mut Throttle,
    now_ms: i64,
    replace: Replace<'a>,
    done: Done,
}

impl Pass<'_> {
    /// The keys of the dirty part, as many as there is room for, and where the pass ends with them.
    fn read_keys(&mut self) -> Result<(Keys, i64), CleanError> {
        let mut keys = Keys::new(self.limits.keys_bytes);
        let mut met = Transactions::new(&self.view.aborted);
        let first = self.view.closed.partition_point(|segment| segment.end_offset <= self.view.dirty_offset);
        let within = self.view.closed.partition_point(|segment| segment.base_offset < self.view.end);
        for at in first..within {
            if let Some(end) = self.read_keys_of(at, &mut keys, &mut met)? {
                return Ok((keys, end));
            }
        }
        Ok((keys, self.view.end))
    }

    /// Reads the keys of one segment; answers the offset for whose key there was no room.
    fn read_keys_of(&mut self, at: usize, keys: &mut Keys, met: &mut Transactions) -> Result<Option<i64>, CleanError> {
        let (path, file) = self.open(at)?;
        let mut scanner = self.scanner(at, &file);
        while let Some(found) = scanner.next().map_err(|error| scan_error(&path, error))? {
            let header = found.header;
            if header.base_offset >= self.view.end {
                break;
            }
            self.count(header.size_bytes)?;
            let unreadable = |error| at_position(&path, found.position, error);
            let batch = scanner.batch(&found);
            let role = met.meet(&header, batch);
            if header.is_control() || role == Role::Aborted || header.next_offset() <= self.view.dirty_offset {
                continue;
            }
            let unpacked = Unpacked::new(&header, batch, self.limits.unpacked_bytes).map_err(unreadable)?;
            for record in unpacked.records() {
                let record = record.map_err(unreadable)?;
                let dirty = (self.view.dirty_offset..self.view.end).contains(&record.offset);
                if let Some(key) = record.key.filter(|_| dirty)
                    && !keys.insert(key, record.offset)
                {
                    return Ok(Some(record.offset));
                }
            }
        }
        Ok(None)
    }

    /// Writes what is left of neighbouring segments into one, and puts that in their place.
    fn clean_group(
        &mut self,
        group: Range<usize>,
        keys: &Keys,
        end: i64,
        met: &mut Transactions,
    ) -> Result<(), CleanError> {
        let segments = &self.view.closed[group.clone()];
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(()) };
        let swap = Swap { dir: self.view.dir.clone(), first: first.base_offset, end: last.end_offset };
        let name = format!("{:020}.{}.cleaned", first.base_offset, Uuid::new_v4().simple());
        let path = self.view.dir.join(name);
        let created_ms = segments.iter().map(|segment| segment.newest_ms).max().unwrap_or(self.now_ms);
        let written = Segment::create_compacted(path.clone(), first.base_offset, created_ms)
            .map_err(|error| CleanError::from(io_at("create", &path)(error)))
            .and_then(|new| self.write_group(group, keys, end, met, new));
        let replaced = written.and_then(|(new, changed)| {
            let bases: Vec<i64> = segments.iter().map(|segment| segment.base_offset).collect();
            if !changed && bases.len() == 1 {
                return Ok(());
            }
            (self.replace)(&mut self.partition.log.write(), &swap, &bases, new)
        });
        // Whatever of it is not in its place has no use.
        for extension in ["cleaned", "index", "timeindex"] {
            let _ = fs::remove_file(path.with_extension(extension));
        }
        replaced
    }

    /// Fills the new segment, and makes it durable; answers whether it differs from the old ones.
    fn write_group(
        &mut self,
        group: Range<usize>,
        keys: &Keys,
        end: i64,
        met: &mut Transactions,
        mut new: Segment,
    ) -> Result<(Segment, bool), CleanError> {
        let config = &self.view.config;
        let filter = Filter {
            keys,
            end,
            last_batches: &self.view.last_batches,
            now_ms: self.now_ms,
            delete_retention_ms: config.delete_retention_ms,
            unpacked_bytes: self.limits.unpacked_bytes,
        };
        let target = new.path().to_owned();
        let unwritten = |error| CleanError::from(io_at("write", &target)(error));
        let mut changed = false;
        for at in group {
            let (path, file) = self.open(at)?;
            let mut scanner = self.scanner(at, &file);
            while let Some(found) = scanner.next().map_err(|error| scan_error(&path, error))? {
                let batch = scanner.batch(&found);
                let left = filter.judge(&found.header, batch, met);
                let left = left.map_err(|error| at_position(&path, found.position, error))?;
                changed |= left != Left::Same;
                let kept = match &left {
                    Left::Nothing => &[],
                    Left::Same => batch,
                    Left::Other(other) => other.as_slice(),
                };
                if let Some((header, records)) = kept.split_first_chunk::<HEADER_SIZE>() {
                    let appended = new.append(header, records, config.index_interval_bytes);
                    appended.map_err(|failure| unwritten(failure.error))?;
                }
                self.done.written_bytes += kept.len() as u64;
                self.count(found.header.size_bytes + kept.len())?;
            }
        }
        if let Some(file) = new.close().map_err(unwritten)? {
            file.sync_all().map_err(unwritten)?;
        }
        Ok((new, changed))
    }

    fn open(&self, at: usize) -> Result<(std::path::PathBuf, File), CleanError> {
        let path = self.view.path(at);
        match File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(CleanError::reading(&path, error)),
        }
    }

    fn scanner<'f>(&self, at: usize, file: &'f File) -> Scanner<'f> {
        let segment = self.view.closed[at];
        Scanner::verifying(file, 0, segment.size_bytes, segment.base_offset).with_holes_until(self.view.holes_until[at])
    }

    /// Counts bytes of a batch, and notices that the broker stops.
    fn count(&mut self, bytes: usize) -> Result<(), CleanError> {
        self.done.read_bytes += bytes as u64;
        let partition = self.partition;
        self.throttle.count(bytes as u64, || partition.is_closed());
        if partition.is_closed() { Err(CleanError::Stopped) } else { Ok(()) }
    }
}

fn at_position(path: &Path, position: u64, error: std::io::Error) -> CleanError {
    CleanError::unreadable(path, format!("the batch at position {position}: {error}"))
}

fn scan_error(path: &Path, error: ScanError) -> CleanError {
    match error {
        ScanError::Io(error) => CleanError::reading(path, error),
        invalid => CleanError::unreadable(path, invalid),
    }
}
