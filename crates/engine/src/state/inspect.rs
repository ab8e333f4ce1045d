//! State files looked at and removed without a database: what each holds, whether it is whole, and what can go.
//!
//! A restore reads the same files with the same checks; here nothing is kept of what is read. Nothing here decides
//! which batches are worth keeping.

use std::collections::{BTreeMap, BTreeSet};

use super::changelog::{self, ChangelogHead, ChangelogVisitor};
use super::changes::{Change, Rows};
use super::key;
use super::snapshot::{self, Snapshot, SnapshotFile};
use super::versions::StateVersions;
use crate::checkpoint::{CheckpointDir, STATE_FILES};
use crate::error::{EngineError, Result};
use crate::sink::BatchId;

/// What a changelog holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChangelogContent {
    /// Changes of each operator, by its id.
    pub(crate) changes: BTreeMap<String, u64>,
}

/// What a snapshot names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SnapshotContent {
    pub(crate) files: u64,
    pub(crate) size_bytes: u64,
}

/// Reads a changelog to its end.
pub(crate) fn read_changelog(checkpoint: &CheckpointDir, batch: BatchId) -> Result<ChangelogContent> {
    let mut counting = Counting { operators: Vec::new(), changes: Vec::new() };
    changelog::read(checkpoint, batch, &mut counting)?;
    Ok(ChangelogContent { changes: counting.operators.into_iter().zip(counting.changes).collect() })
}

struct Counting {
    operators: Vec<String>,
    changes: Vec<u64>,
}

impl ChangelogVisitor for Counting {
    fn head(&mut self, head: &ChangelogHead) -> Result<()> {
        self.operators.clone_from(&head.operators);
        self.changes = vec![0; head.operators.len()];
        Ok(())
    }

    fn rows(&mut self, operator: usize, rows: Rows<'_>) -> Result<()> {
        for row in rows {
            let (Change::RangeDelete(key, _) | Change::Delete(key) | Change::Put(key, _)) = row?;
            // What operators write down beside their rows never expires, and is no row.
            let is_beside = key::decode(key).is_ok_and(|(bucket, ..)| bucket == key::NEVER);
            self.changes[operator] += u64::from(!is_beside);
        }
        Ok(())
    }
}

/// Reads the list of a snapshot.
pub(crate) fn read_snapshot(checkpoint: &CheckpointDir, batch: BatchId) -> Result<SnapshotContent> {
    let snapshot = Snapshot::read(checkpoint, batch)?;
    Ok(SnapshotContent { files: snapshot.files.len() as u64, size_bytes: snapshot.size_bytes() })
}

/// Checks snapshots, reading each content file once however many of them share it.
#[derive(Debug, Default)]
pub(crate) struct SnapshotChecker {
    whole: BTreeSet<SnapshotKey>,
    /// Content files read, and their bytes.
    pub(crate) files: u64,
    pub(crate) size_bytes: u64,
}

/// A content file and what it must hold.
type SnapshotKey = (String, u64, String);

impl SnapshotChecker {
    /// Reads the list of a snapshot and every file in it; gives everything that is wrong.
    pub(crate) fn check(&mut self, checkpoint: &CheckpointDir, batch: BatchId) -> Vec<EngineError> {
        let snapshot = match Snapshot::read(checkpoint, batch) {
            Ok(snapshot) => snapshot,
            Err(error) => return vec![error],
        };
        snapshot.files.iter().filter_map(|file| self.check_file(checkpoint, batch, file).err()).collect()
    }

    fn check_file(&mut self, checkpoint: &CheckpointDir, batch: BatchId, file: &SnapshotFile) -> Result<()> {
        let key = (file.object.clone(), file.size_bytes, file.crc32c.clone());
        if self.whole.contains(&key) {
            return Ok(());
        }
        self.files += 1;
        self.size_bytes += file.size_bytes;
        file.check(checkpoint, batch)?;
        self.whole.insert(key);
        Ok(())
    }
}

/// State files that no restore of a kept batch needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StateSurplus {
    pub(crate) snapshots: Vec<BatchId>,
    pub(crate) changelogs: Vec<BatchId>,
    /// Content files that no snapshot names once the above are gone.
    pub(crate) content_files: Vec<String>,
    pub(crate) size_bytes: u64,
}

/// Finds what is not needed to restore `keep_from` or anything newer.
pub(crate) fn surplus(checkpoint: &CheckpointDir, keep_from: BatchId) -> Result<StateSurplus> {
    let versions = StateVersions::read(checkpoint)?;
    let surplus = versions.surplus(keep_from);
    let mut used = BTreeSet::new();
    for batch in versions.snapshots.keys().filter(|batch| !surplus.snapshots.contains(batch)) {
        used.extend(Snapshot::read(checkpoint, *batch)?.files.into_iter().map(|file| file.object));
    }
    let unused = checkpoint.store().list(STATE_FILES)?.into_iter().filter(|entry| !used.contains(&entry.name));
    let mut found = StateSurplus { snapshots: surplus.snapshots, changelogs: surplus.changelogs, ..Default::default() };
    for entry in unused {
        found.size_bytes += entry.size_bytes;
        found.content_files.push(entry.name);
    }
    found.content_files.sort();
    found.size_bytes += found.snapshots.iter().filter_map(|batch| versions.snapshots.get(batch)).sum::<u64>();
    found.size_bytes += found.changelogs.iter().filter_map(|batch| versions.changelogs.get(batch)).sum::<u64>();
    Ok(found)
}

/// Removes files found by [`surplus`]: lists before what they name, so that a crash leaves nothing that names nothing.
pub(crate) fn remove(checkpoint: &CheckpointDir, surplus: &StateSurplus) -> Result<()> {
    for batch in &surplus.snapshots {
        checkpoint.writable()?.delete(&snapshot::file_name(*batch))?;
    }
    for batch in &surplus.changelogs {
        checkpoint.writable()?.delete(&changelog::file_name(*batch))?;
    }
    for file in &surplus.content_files {
        checkpoint.writable()?.delete(&format!("{STATE_FILES}/{file}"))?;
    }
    Ok(())
}
