//! Opens the log a crash, a clean stop or a bad disk left behind.
//!
//! ```text
//!            checkpoint: everything below is on the disk and was valid
//!                 │
//!  ┌──────────────┴──┬───────────────────┬────────────────────────┐
//!  │ closed segment  │ closed segment    │ active segment         │
//!  └─────────────────┴───────────────────┴────────────────────────┘
//!   checked from its   read whole, every    read whole; a torn end
//!   last index entry   batch verified       is cut off
//! ```
//!
//! What is invalid is torn or corrupt, and [`judge`] decides which. Torn is what a crash does: an
//! end above the checkpoint with nothing valid behind it, in this segment or a later one. It was
//! never acknowledged as durable and is cut off. Everything else is corrupt: cutting there would
//! lose records silently, so the broker refuses to start and says where, unless it was told to
//! give the rest up. A segment that was compacted was on the disk before it counted, so it is never
//! torn; only there may offsets be missing between batches and at the end, and the checkpoint knows
//! how many bytes it must have. A compaction that was interrupted is finished before anything else
//! ([`swap::recover`]). Told so it verifies every batch there is, those below the checkpoint too: what
//! rots on the disk is otherwise only found when somebody reads it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::cleaner::swap;
use super::scan::{ScanError, Scanner, find_valid};
use super::segment::{DOOMED, Segment, file_path};
use crate::error::{BrokerError, io_at};
use crate::settings::CorruptLogPolicy;

/// Names the partition whose log is being recovered, and what may be done about damage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) policy: CorruptLogPolicy,
    /// Whether the topic is compacted.
    pub(crate) compacts: bool,
    pub(crate) index_interval_bytes: u32,
    pub(crate) now_ms: i64,
}

/// An invalid place in a segment, and what is known around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Damage {
    /// The offset expected at the damage was flushed.
    below_checkpoint: bool,
    /// A valid batch stands behind it, in this segment or a later one.
    valid_behind: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Torn,
    Corrupt,
}

fn judge(damage: Damage) -> Verdict {
    if !damage.below_checkpoint && !damage.valid_behind { Verdict::Torn } else { Verdict::Corrupt }
}

/// The base offsets of the segments in `dir`, rising.
pub(super) fn base_offsets(dir: &Path) -> Result<Vec<i64>, BrokerError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_at("list", dir))? {
        let name = entry.map_err(io_at("list", dir))?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".log"));
        // Exactly as the broker names them: two names for one offset would be two segments.
        let named = stem.filter(|stem| stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit()));
        found.extend(named.and_then(|stem| stem.parse::<i64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

impl Recovery<'_> {
    /// The segments of the log, oldest first, the last one active, and what is known of them. Creates
    /// the first of a new log.
    pub(crate) fn open_segments(&self) -> Result<(Vec<Segment>, Checkpoint), BrokerError> {
        let mut checkpoint = Checkpoint::read(self.dir, self.compacts);
        self.remove_doomed()?;
        swap::recover(self.dir, &mut checkpoint)?;
        let bases = base_offsets(self.dir)?;
        let mut segments: Vec<Segment> = Vec::with_capacity(bases.len().max(1));
        for (at, &base) in bases.iter().enumerate() {
            let later = &bases[at + 1..];
            let (segment, cut) = self.open_segment(base, later, &mut checkpoint)?;
            segments.push(segment);
            if cut {
                self.drop_segments(later)?;
                break;
            }
        }
        if segments.is_empty() {
            self.check_nothing_expected(&checkpoint)?;
            let first = Segment::create(self.dir, 0, self.now_ms).map_err(io_at("create a segment in", self.dir))?;
            segments.push(first);
        }
        let closed = segments.len() - 1;
        for segment in &mut segments[..closed] {
            let path = segment.path().to_owned();
            segment.close().map_err(io_at("write the index of", &path))?;
        }
        self.note_compacted(&segments, &mut checkpoint)?;
        Ok((segments, checkpoint))
    }

    /// Removes what a deletion has set aside.
    fn remove_doomed(&self) -> Result<(), BrokerError> {
        for entry in fs::read_dir(self.dir).map_err(io_at("list", self.dir))? {
            let path = entry.map_err(io_at("list", self.dir))?.path();
            if path.extension().is_some_and(|extension| extension == DOOMED) {
                fs::remove_file(&path).map_err(io_at("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Brings what is known of compacted segments in line with what is there.
    fn note_compacted(&self, segments: &[Segment], checkpoint: &mut Checkpoint) -> Result<(), BrokerError> {
        let known = checkpoint.compacted.len();
        let closed = &segments[..segments.len() - 1];
        let guess = std::mem::take(&mut checkpoint.lost) && !closed.is_empty();
        if guess {
            // Any of them may have been compacted. They are whole as far as their checksums tell.
            checkpoint.compacted.extend(closed.iter().map(|segment| (segment.base_offset(), segment.size_bytes())));
        }
        checkpoint.compacted.retain(|base, _| segments.binary_search_by_key(base, Segment::base_offset).is_ok());
        if guess || checkpoint.compacted.len() != known { checkpoint.write(self.dir) } else { Ok(()) }
    }

    /// A log without segments is new, unless a checkpoint knows better.
    fn check_nothing_expected(&self, checkpoint: &Checkpoint) -> Result<(), BrokerError> {
        if checkpoint.recovery_offset == 0 || self.policy == CorruptLogPolicy::Truncate {
            return Ok(());
        }
        Err(BrokerError::CorruptLog {
            topic: self.topic.to_owned(),
            partition: self.partition,
            file: file_path(self.dir, 0, "log"),
            position: 0,
            reason: format!("no segment is there, expected records up to offset {}", checkpoint.recovery_offset),
        })
    }

    /// Opens one segment, behind which the `later` ones follow; `true` if a part of it was cut.
    fn open_segment(
        &self,
        base: i64,
        later: &[i64],
        checkpoint: &mut Checkpoint,
    ) -> Result<(Segment, bool), BrokerError> {
        let next_base = later.first().copied();
        let whole_below = next_base.is_some_and(|next| next <= checkpoint.recovery_offset);
        let path = file_path(self.dir, base, "log");
        let named = |source| BrokerError::Io { action: "read", path: path.clone(), source };
        let quick_from = match self.policy {
            // Whoever gives damage up wants all of it found, also that in what was flushed long ago.
            CorruptLogPolicy::Truncate => base,
            CorruptLogPolicy::Refuse if whole_below || next_base.is_none() => checkpoint.recovery_offset,
            CorruptLogPolicy::Refuse => base,
        };
        let segment = Segment::open_before(self.dir, base, quick_from, checkpoint.holes_until(base), self.now_ms);
        let mut segment = segment.map_err(named)?;
        let invalid = match self.adopt_rest(&mut segment).map_err(named)? {
            None => Self::ends_where_expected(&segment, next_base, checkpoint),
            invalid => invalid,
        };
        if let Some((position, reason)) = invalid {
            self.mend(&segment, position, reason, later, checkpoint)?;
            return Ok((segment, true));
        }
        if segment.next_offset() > checkpoint.recovery_offset {
            // What is about to become readable must not be lost by a second crash.
            segment.file().and_then(|file| file.sync_all()).map_err(io_at("fsync", &path))?;
        }
        Ok((segment, false))
    }

    /// Verifies and adopts everything behind what the segment knows of; answers the first invalid
    /// position.
    fn adopt_rest(&self, segment: &mut Segment) -> io::Result<Option<(u64, String)>> {
        let file = segment.file()?;
        let end = file.metadata()?.len();
        let mut scanner = Scanner::verifying(&file, segment.size_bytes(), end, segment.next_offset())
            .with_holes_until(segment.holes_until());
        loop {
            match scanner.next() {
                Ok(Some(found)) => segment.adopt(found, self.index_interval_bytes)?,
                Ok(None) => return Ok(None),
                Err(ScanError::Invalid { position, reason }) => return Ok(Some((position, reason.to_string()))),
                Err(ScanError::Io(error)) => return Err(error),
            }
        }
    }

    /// A segment whose batches are all valid may still have lost its end.
    fn ends_where_expected(
        segment: &Segment,
        next_base: Option<i64>,
        checkpoint: &Checkpoint,
    ) -> Option<(u64, String)> {
        let (found_bytes, found) = (segment.size_bytes(), segment.next_offset());
        let compacted = checkpoint.compacted.get(&segment.base_offset()).copied();
        if let Some(expected) = compacted.filter(|&expected| found_bytes < expected) {
            return Some((found_bytes, format!("the compacted file has {found_bytes} bytes, expected {expected}")));
        }
        // Compaction may have taken its last records.
        let may_end_early = checkpoint.lost || compacted == Some(found_bytes);
        let expected = next_base.unwrap_or(checkpoint.recovery_offset);
        let lost = match next_base {
            Some(next) if may_end_early => found > next,
            Some(next) => found != next,
            None => found < expected,
        };
        lost.then(|| (found_bytes, format!("the file ends at offset {found}, expected {expected}")))
    }

    /// Cuts a torn end off; refuses corruption unless it may be given up.
    fn mend(
        &self,
        segment: &Segment,
        position: u64,
        reason: String,
        later: &[i64],
        checkpoint: &mut Checkpoint,
    ) -> Result<(), BrokerError> {
        let path = segment.path();
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_at("open", path))?;
        let end = file.metadata().map_err(io_at("read", path))?.len();
        let behind = self.find_behind(segment, &file, position, later)?;
        let damage = Damage {
            below_checkpoint: segment.next_offset() < checkpoint.recovery_offset
                || checkpoint.compacted.contains_key(&segment.base_offset()),
            valid_behind: behind.is_some(),
        };
        let verdict = judge(damage);
        if verdict == Verdict::Corrupt && self.policy == CorruptLogPolicy::Refuse {
            return Err(self.corrupt(segment, position, reason, behind));
        }
        tracing::warn!(
            topic = self.topic, partition = self.partition, file = %path.display(), position, ?verdict, reason,
            dropped_bytes = end - position, next_offset = segment.next_offset(), "cutting the log"
        );
        file.set_len(position).and_then(|()| file.sync_all()).map_err(io_at("truncate", path))?;
        let base = segment.base_offset();
        let known = checkpoint.compacted.len();
        checkpoint.compacted.retain(|&compacted, _| compacted <= base);
        if let Some(bytes) = checkpoint.compacted.get_mut(&base) {
            *bytes = position;
        }
        if verdict == Verdict::Corrupt || checkpoint.compacted.len() != known {
            checkpoint.recovery_offset = checkpoint.recovery_offset.min(segment.next_offset());
            checkpoint.dirty_offset = checkpoint.dirty_offset.min(segment.next_offset());
            checkpoint.write(self.dir)?;
        }
        Ok(())
    }

    /// Where valid data goes on behind the damage: a file and a position.
    fn find_behind(
        &self,
        segment: &Segment,
        file: &File,
        position: u64,
        later: &[i64],
    ) -> Result<Option<(PathBuf, u64)>, BrokerError> {
        let search = |file: &File, path: &Path, start: u64| {
            let end = file.metadata().map_err(io_at("read", path))?.len();
            let found = find_valid(file, start, end, segment.next_offset()).map_err(io_at("read", path))?;
            Ok::<_, BrokerError>(found.map(|position| (path.to_owned(), position)))
        };
        // The batch at the damage itself may be valid but for its offset, so the search starts
        // behind its first byte.
        let here = search(file, segment.path(), position + 1)?;
        for &base in later {
            if here.is_some() {
                break;
            }
            let path = file_path(self.dir, base, "log");
            let file = File::open(&path).map_err(io_at("open", &path))?;
            if let Some(found) = search(&file, &path, 0)? {
                return Ok(Some(found));
            }
        }
        Ok(here)
    }

    fn corrupt(&self, segment: &Segment, position: u64, reason: String, behind: Option<(PathBuf, u64)>) -> BrokerError {
        let offset = segment.next_offset();
        let reason = match behind {
            Some((file, next)) => {
                format!("{reason} (offset {offset}; valid data goes on in {} at position {next})", file.display())
            }
            None => format!("{reason} (offset {offset})"),
        };
        BrokerError::CorruptLog {
            topic: self.topic.to_owned(),
            partition: self.partition,
            file: segment.path().to_owned(),
            position,
            reason,
        }
    }

    fn drop_segments(&self, bases: &[i64]) -> Result<(), BrokerError> {
        for &base in bases {
            let path = file_path(self.dir, base, "log");
            tracing::warn!(topic = self.topic, partition = self.partition, file = %path.display(), "dropping segment");
            for extension in ["log", "index", "timeindex"] {
                let path = file_path(self.dir, base, extension);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at("remove", &path)(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unflushed_end_with_nothing_behind_it_is_torn() {
        let torn = Damage { below_checkpoint: false, valid_behind: false };
        let check = |damage, expected| assert_eq!(judge(damage), expected, "{damage:?}");
        check(torn, Verdict::Torn);
        check(Damage { below_checkpoint: true, ..torn }, Verdict::Corrupt);
        check(Damage { valid_behind: true, ..torn }, Verdict::Corrupt);
    }
}
