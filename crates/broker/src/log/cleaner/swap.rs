//! Puts a compacted segment in the place of those it was made of, so that a crash leaves either.
//!
//! ```text
//!  <first>.<id>.cleaned      being written; of no value after a crash
//!     │ fsync, rename        from here on the new file counts
//!  <first>.<end>.swap        replaces every segment with a base offset from first on and below end
//!     │ checkpoint           where holes are allowed, and how many bytes there are
//!     │ remove the others    and the indexes of the first one
//!     │ rename               over the log of the first
//!  <first>.log
//! ```
//!
//! The name of the `.swap` file says all there is to know, so that [`recover`] goes through the same actions again,
//! whichever of them had been done.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::super::checkpoint::Checkpoint;
use super::super::recovery::base_offsets;
use super::super::segment::file_path;
use crate::error::{BrokerError, io_at};

/// A replacement of segments.
#[derive(Debug, Clone)]
pub(crate) struct Swap {
    pub(super) dir: PathBuf,
    /// Base offset of the first segment, and of the new one.
    pub(super) first: i64,
    /// Where the segment behind the last one begins.
    pub(super) end: i64,
}

/// A step of a replacement. A crash may come between any two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// The file that was written and fsynced becomes the truth.
    Commit {
        cleaned: PathBuf,
    },
    /// The checkpoint learns of it.
    Note,
    Remove(PathBuf),
    Install,
}

impl Swap {
    fn swap_path(&self) -> PathBuf {
        self.dir.join(format!("{:020}.{:020}.swap", self.first, self.end))
    }

    pub(super) fn log_path(&self) -> PathBuf {
        file_path(&self.dir, self.first, "log")
    }

    /// Everything behind the commit, given the base offsets of the segments that are there.
    pub(super) fn actions(&self, bases: &[i64]) -> Vec<Action> {
        let mut actions = vec![Action::Note];
        for &base in bases.iter().filter(|&&base| (self.first..self.end).contains(&base)) {
            // The log goes last, so that what is left of a segment is always found again. That of the first is
            // replaced in one step.
            let extensions: &[&str] =
                if base == self.first { &["index", "timeindex"] } else { &["index", "timeindex", "log"] };
            actions.extend(extensions.iter().map(|extension| Action::Remove(file_path(&self.dir, base, extension))));
        }
        actions.push(Action::Install);
        actions
    }

    /// Does one step.
    pub(super) fn run(&self, action: &Action, checkpoint: &mut Checkpoint) -> Result<(), BrokerError> {
        let swap = self.swap_path();
        match action {
            Action::Commit { cleaned } => {
                fs::rename(cleaned, &swap).map_err(io_at("rename", cleaned))?;
                sync_dir(&self.dir)
            }
            Action::Note => {
                let bytes = fs::metadata(&swap).map_err(io_at("read", &swap))?.len();
                checkpoint.compacted.retain(|base, _| !(self.first..self.end).contains(base));
                checkpoint.compacted.insert(self.first, bytes);
                checkpoint.write(&self.dir)
            }
            Action::Remove(path) => remove(path),
            Action::Install => {
                // The removals first: a log beside the one that replaces it would hold its records twice.
                sync_dir(&self.dir)?;
                fs::rename(&swap, self.log_path()).map_err(io_at("rename", &swap))?;
                sync_dir(&self.dir)
            }
        }
    }

    /// Takes a commit back, if nothing but the commit and the checkpoint was done.
    pub(super) fn undo(&self) -> Result<(), BrokerError> {
        remove(&self.swap_path())?;
        sync_dir(&self.dir)
    }
}

fn remove(path: &Path) -> Result<(), BrokerError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), BrokerError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at("fsync", dir))
}

/// What a file's name says it is to compaction.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// A file that never came to count.
    Unfinished,
    Swap {
        first: i64,
        end: i64,
    },
}

fn left(name: &str) -> Option<Left> {
    let mut parts = name.split('.');
    let (first, middle, extension) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    match extension {
        "swap" => Some(Left::Swap { first, end: middle.parse().ok()? }),
        "cleaned" | "index" | "timeindex" => Some(Left::Unfinished),
        _ => None,
    }
}

/// Finishes what a crash has interrupted in `dir`, and removes what had not got far enough.
pub(crate) fn recover(dir: &Path, checkpoint: &mut Checkpoint) -> Result<(), BrokerError> {
    let mut swaps = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_at("list", dir))? {
        let path = entry.map_err(io_at("list", dir))?.path();
        match path.file_name().and_then(|name| name.to_str()).and_then(left) {
            Some(Left::Unfinished) => remove(&path)?,
            Some(Left::Swap { first, end }) => swaps.push(Swap { dir: dir.to_owned(), first, end }),
            None => {}
        }
    }
    swaps.sort_by_key(|swap| swap.first);
    for swap in swaps {
        tracing::info!(file = %swap.swap_path().display(), "finishing an interrupted compaction");
        for action in swap.actions(&base_offsets(dir)?) {
            swap.run(&action, checkpoint)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_names() {
        for (name, expected) in [
            ("00000000000000000007.log", None),
            ("00000000000000000007.index", None),
            ("00000000000000000007.snapshot", None),
            ("aborted.index", None),
            ("checkpoint.json", None),
            ("00000000000000000007.5f1d.cleaned", Some(Left::Unfinished)),
            ("00000000000000000007.5f1d.index", Some(Left::Unfinished)),
            ("00000000000000000007.5f1d.timeindex", Some(Left::Unfinished)),
            ("00000000000000000007.00000000000000000042.swap", Some(Left::Swap { first: 7, end: 42 })),
            ("00000000000000000007.x.swap", None),
        ] {
            assert_eq!(left(name), expected, "{name}");
        }
    }
}
