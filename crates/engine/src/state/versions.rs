//! Which state versions a checkpoint holds, and what can be restored from them: pure decisions.
//!
//! ```text
//!   snapshots    ·  ·  ·  3  ·  ·  ·  ·  8  ·  ·
//!   changelogs   ·  ·  ·  ·  4  5  6  7  8  9  10      restore 10: snapshot 8, changelogs 9 and 10
//!                                                      restore  6: snapshot 3, changelogs 4, 5 and 6
//! ```
//!
//! Version N is the state after batch N. Before batch 0 it is empty, so changelogs from 0 on need no snapshot.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::checkpoint::{CheckpointDir, STATE};
use crate::error::Result;
use crate::sink::BatchId;

use super::StateSettings;

/// The versions there are, with the size of each file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateVersions {
    pub(crate) snapshots: BTreeMap<BatchId, u64>,
    pub(crate) changelogs: BTreeMap<BatchId, u64>,
}

/// How a version is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePath {
    /// The snapshot to begin with, or empty state.
    pub snapshot: Option<BatchId>,
    /// The changelogs to apply, in order; none if the range is empty.
    pub changelogs: RangeInclusive<BatchId>,
}

/// What retention removes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Surplus {
    pub(crate) snapshots: Vec<BatchId>,
    pub(crate) changelogs: Vec<BatchId>,
}

impl StateVersions {
    /// Lists the state files of a checkpoint.
    pub fn read(checkpoint: &CheckpointDir) -> Result<Self> {
        let mut versions = Self::default();
        for entry in checkpoint.store().list(STATE)? {
            let Some((stem, extension)) = entry.name.split_once('.') else { continue };
            let Ok(version) = stem.parse() else { continue };
            match extension {
                "snapshot" => versions.snapshots.insert(version, entry.size_bytes),
                "changelog" => versions.changelogs.insert(version, entry.size_bytes),
                _ => None,
            };
        }
        Ok(versions)
    }

    /// The newest version anything is there of.
    pub fn newest(&self) -> Option<BatchId> {
        self.snapshots.keys().last().max(self.changelogs.keys().last()).copied()
    }

    /// How to restore `version`, or the number of the first changelog that is missing.
    pub fn restore_path(&self, version: BatchId) -> Result<RestorePath, BatchId> {
        let snapshot = self.snapshots.range(..=version).next_back().map(|(snapshot, _)| *snapshot);
        let first = snapshot.map_or(0, |snapshot| snapshot + 1);
        match (first..=version).find(|needed| !self.changelogs.contains_key(needed)) {
            Some(missing) => Err(missing),
            None => Ok(RestorePath { snapshot, changelogs: first..=version }),
        }
    }

    /// What is not needed to restore `keep_from` or anything newer.
    pub(crate) fn surplus(&self, keep_from: BatchId) -> Surplus {
        let Some((base, _)) = self.snapshots.range(..=keep_from).next_back() else { return Surplus::default() };
        Surplus {
            snapshots: self.snapshots.range(..base).map(|(version, _)| *version).collect(),
            changelogs: self.changelogs.range(..=base).map(|(version, _)| *version).collect(),
        }
    }

    /// What was written after `version`: the files of batches that will be run again.
    pub(crate) fn newer_than(&self, version: Option<BatchId>) -> Surplus {
        let newer = |files: &BTreeMap<BatchId, u64>| {
            files.keys().rev().copied().take_while(|file| Some(*file) > version).collect()
        };
        Surplus { snapshots: newer(&self.snapshots), changelogs: newer(&self.changelogs) }
    }

    #[cfg(test)]
    pub(crate) fn of(snapshots: &[BatchId], changelogs: &[BatchId]) -> Self {
        let files = |versions: &[BatchId]| versions.iter().map(|version| (*version, 1)).collect();
        Self { snapshots: files(snapshots), changelogs: files(changelogs) }
    }
}

/// What has been written since the last snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinceSnapshot {
    /// Batches committed.
    pub batches: u64,
    /// Bytes of their changelogs.
    pub changelog_bytes: u64,
    /// Size of the last snapshot, 0 before the first.
    pub snapshot_bytes: u64,
}

/// Changelogs may become so many times as large as the snapshot before them. Of a state that is changed everywhere a row
/// pays for 1 / this of a snapshot, and a restart reads up to this much more than one.
const CHANGELOGS_OF_A_SNAPSHOT: u64 = 2;

/// Whether the next snapshot is due: when reading the changelogs would cost far more than reading a snapshot, and at the
/// latest after a number of batches, so that old changelogs can go.
pub fn snapshot_due(settings: &StateSettings, since: SinceSnapshot) -> bool {
    let enough_bytes = settings.snapshot_min_bytes.max(since.snapshot_bytes.saturating_mul(CHANGELOGS_OF_A_SNAPSHOT));
    since.batches > 0 && (since.batches >= settings.snapshot_every_batches || since.changelog_bytes > enough_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_snapshot_that_is_not_too_new_and_the_changelogs_after_it() {
        let versions = StateVersions::of(&[3, 8], &[4, 5, 6, 7, 8, 9, 10]);
        let path = |snapshot, changelogs| Ok(RestorePath { snapshot, changelogs });
        assert_eq!(versions.restore_path(10), path(Some(8), 9..=10));
        let nothing_to_apply = versions.restore_path(8).unwrap();
        assert!(nothing_to_apply.snapshot == Some(8) && nothing_to_apply.changelogs.is_empty());
        assert_eq!(versions.restore_path(6), path(Some(3), 4..=6));
        assert_eq!(versions.restore_path(2), Err(0));
        assert_eq!(versions.restore_path(12), Err(11));
        assert_eq!(StateVersions::of(&[], &[0, 1]).restore_path(1), path(None, 0..=1));
        assert_eq!(StateVersions::of(&[], &[0, 2]).restore_path(2), Err(1));
        assert_eq!(versions.newest(), Some(10));
        assert_eq!(StateVersions::default().newest(), None);
    }

    #[test]
    fn what_is_kept_can_still_be_restored() {
        let all: Vec<u64> = (0..30).collect();
        for keep_from in 0..30 {
            let mut versions = StateVersions::of(&[5, 10, 20], &all);
            let surplus = versions.surplus(keep_from);
            versions.snapshots.retain(|version, _| !surplus.snapshots.contains(version));
            versions.changelogs.retain(|version, _| !surplus.changelogs.contains(version));
            for version in keep_from..30 {
                assert!(versions.restore_path(version).is_ok(), "{version} from {keep_from}");
            }
        }
        let surplus = StateVersions::of(&[5, 10], &all).surplus(12);
        assert_eq!(surplus, Surplus { snapshots: vec![5], changelogs: (0..=10).collect() });
        assert_eq!(StateVersions::of(&[5], &all).surplus(4), Surplus::default());
    }

    #[test]
    fn files_of_a_future_that_will_not_be_are_found() {
        let versions = StateVersions::of(&[5, 10], &[4, 9, 10, 11]);
        assert_eq!(versions.newer_than(Some(9)), Surplus { snapshots: vec![10], changelogs: vec![11, 10] });
        assert_eq!(versions.newer_than(Some(11)), Surplus::default());
        assert_eq!(versions.newer_than(None).snapshots, [10, 5]);
    }

    #[test]
    fn a_snapshot_is_due_by_bytes_or_by_batches() {
        let settings = StateSettings { snapshot_every_batches: 50, snapshot_min_bytes: 64, ..Default::default() };
        let due = |batches, changelog_bytes, snapshot_bytes| {
            snapshot_due(&settings, SinceSnapshot { batches, changelog_bytes, snapshot_bytes })
        };
        assert_eq!([due(0, 0, 0), due(1, 64, 0), due(1, 65, 0)], [false, false, true]);
        assert_eq!([due(1, 65, 100), due(1, 200, 100), due(1, 201, 100)], [false, false, true]);
        assert_eq!([due(49, 0, 100), due(50, 0, 100)], [false, true]);
    }
}
