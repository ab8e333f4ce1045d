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
//! give the rest up. Told so it verifies every batch there is, those below the checkpoint too: what
//! rots on the disk is otherwise only found when somebody reads it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scan::{ScanError, Scanner, find_valid};
use super::sealed::{self, Kind};
use super::segment::{Segment, file_path};
use crate::error::{BrokerError, io_at};
use crate::settings::CorruptLogPolicy;

const CHECKPOINT: Kind = Kind { name: "checkpoint", holds: "up to where the partition was flushed" };

/// What was known of the log, written after a segment is closed, at a clean stop, and when records are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Everything below is on the disk.
    pub(crate) recovery_offset: i64,
    /// Everything below was deleted, also where its segment is still there.
    #[serde(default)]
    pub(crate) start_offset: i64,
}

impl Checkpoint {
    fn path(dir: &Path) -> PathBuf {
        dir.join("checkpoint.json")
    }

    /// The checkpoint in `dir`. A damaged one is as good as none: then everything is verified.
    pub(crate) fn read(dir: &Path) -> Self {
        match sealed::read(&Self::path(dir), CHECKPOINT) {
            Ok(checkpoint) => checkpoint.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "checkpoint not usable, the whole log is verified");
                Self::default()
            }
        }
    }

    pub(crate) fn write(self, dir: &Path) -> Result<(), BrokerError> {
        sealed::write(&Self::path(dir), CHECKPOINT, &self)
    }
}

/// Names the partition whose log is being recovered, and what may be done about damage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) policy: CorruptLogPolicy,
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
fn base_offsets(dir: &Path) -> Result<Vec<i64>, BrokerError> {
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
    /// The segments of the log, oldest first; the last one is active. Creates the first of a new
    /// log.
    pub(crate) fn open_segments(&self) -> Result<Vec<Segment>, BrokerError> {
        let checkpoint = Checkpoint::read(self.dir);
        let bases = base_offsets(self.dir)?;
        let mut segments: Vec<Segment> = Vec::with_capacity(bases.len().max(1));
        for (at, &base) in bases.iter().enumerate() {
            let later = &bases[at + 1..];
            let (segment, cut) = self.open_segment(base, later, checkpoint)?;
            segments.push(segment);
            if cut {
                self.drop_segments(later)?;
                break;
            }
        }
        if segments.is_empty() {
            self.check_nothing_expected(checkpoint)?;
            let first = Segment::create(self.dir, 0, self.now_ms).map_err(io_at("create a segment in", self.dir))?;
            segments.push(first);
        }
        let closed = segments.len() - 1;
        for segment in &mut segments[..closed] {
            let path = segment.path().to_owned();
            segment.close().map_err(io_at("write the index of", &path))?;
        }
        Ok(segments)
    }

    /// A log without segments is new, unless a checkpoint knows better.
    fn check_nothing_expected(&self, checkpoint: Checkpoint) -> Result<(), BrokerError> {
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
    fn open_segment(&self, base: i64, later: &[i64], checkpoint: Checkpoint) -> Result<(Segment, bool), BrokerError> {
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
        let mut segment = Segment::open_before(self.dir, base, quick_from, self.now_ms).map_err(named)?;
        let invalid = match self.adopt_rest(&mut segment).map_err(named)? {
            None => self.ends_where_expected(&segment, next_base, checkpoint),
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
        let mut scanner = Scanner::verifying(&file, segment.size_bytes(), end, segment.next_offset());
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
        &self,
        segment: &Segment,
        next_base: Option<i64>,
        checkpoint: Checkpoint,
    ) -> Option<(u64, String)> {
        let found = segment.next_offset();
        let expected = next_base.unwrap_or(checkpoint.recovery_offset);
        let lost = match next_base {
            Some(next) => found != next,
            None => found < expected,
        };
        lost.then(|| (segment.size_bytes(), format!("the file ends at offset {found}, expected {expected}")))
    }

    /// Cuts a torn end off; refuses corruption unless it may be given up.
    fn mend(
        &self,
        segment: &Segment,
        position: u64,
        reason: String,
        later: &[i64],
        checkpoint: Checkpoint,
    ) -> Result<(), BrokerError> {
        let path = segment.path();
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_at("open", path))?;
        let end = file.metadata().map_err(io_at("read", path))?.len();
        let behind = self.find_behind(segment, &file, position, later)?;
        let damage = Damage {
            below_checkpoint: segment.next_offset() < checkpoint.recovery_offset,
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
        if verdict == Verdict::Corrupt {
            Checkpoint { recovery_offset: segment.next_offset(), ..checkpoint }.write(self.dir)?;
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
