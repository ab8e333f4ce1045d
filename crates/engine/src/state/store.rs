//! The state store of a query: reads and write-back through RocksDB, durability through changelogs and snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::changelog::{self, ChangelogHead, ChangelogVisitor};
use super::changes::{ChangeSet, Rows};
use super::rocks::{Rocks, SortedWriter};
use super::snapshot::{self, Snapshot, SnapshotFile, SnapshotHead};
use super::versions::{RestorePath, SinceSnapshot, StateVersions, Surplus, snapshot_due};
use super::{STATE_FORMAT, StateSettings};
use crate::checkpoint::CheckpointDir;
use crate::checkpoint::store::io_error;
use crate::error::{EngineError, Result};
use crate::sink::BatchId;

/// What opening a store did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RestoreReport {
    /// The snapshot it began with.
    pub snapshot: Option<BatchId>,
    /// Changelogs applied.
    pub changelogs: u64,
    /// Bytes of snapshot and changelogs read.
    pub size_bytes: u64,
    /// The note given to [`StateStore::commit`] with the restored version; null for empty state.
    pub note: serde_json::Value,
    /// Operators the checkpoint has state of and the query does not have: their state is gone.
    pub dropped_operators: Vec<String>,
}

/// What a commit wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCommitReport {
    /// Changes of all operators.
    pub changes: u64,
    /// Size of the changelog.
    pub size_bytes: u64,
}

/// What a snapshot wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// Files no earlier snapshot had.
    pub new_files: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// How long writing them took.
    pub upload_ms: u64,
}

/// Sizes of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateMetrics {
    /// Memory in use: cached blocks and rows not yet in files.
    pub memory_bytes: u64,
    /// Bytes of changelogs since the last snapshot.
    pub changelog_bytes: u64,
    /// Bytes of the last snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of all state files in the checkpoint, also those that are kept to go back to.
    pub checkpoint_bytes: u64,
    /// The batch of the last snapshot.
    pub snapshot_batch: Option<BatchId>,
    /// How long ago it was begun.
    pub snapshot_age_ms: Option<u64>,
    /// What the last snapshot of this run wrote.
    pub last_snapshot: Option<SnapshotReport>,
    /// Per operator, in the order of [`StateStore::open`].
    pub operators: Vec<OperatorMetrics>,
}

/// Sizes of one operator's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorMetrics {
    /// The operator.
    pub operator: String,
    /// Rows, estimated; rows that only an operator's cache has are not in it.
    pub rows_estimate: u64,
    /// Bytes in files.
    pub size_bytes: u64,
}

/// The state at a moment, linked into a folder of its own and not yet in the checkpoint.
#[derive(Debug)]
pub struct FrozenSnapshot {
    folder: PathBuf,
    head: SnapshotHead,
    _pending: Arc<()>,
}

/// The state of one query. Threads share it for reading and write-back; commits come from one of them.
pub struct StateStore {
    settings: StateSettings,
    checkpoint: CheckpointDir,
    local_dir: PathBuf,
    operators: Vec<String>,
    /// Unlike any other store's: part of the names of the content files this one writes.
    id: String,
    rocks: Rocks,
    book: Mutex<Book>,
    /// Held while content files are written that no snapshot names yet, and while unnamed ones are removed.
    content_files: Mutex<()>,
}

/// What the store knows of the checkpoint.
#[derive(Debug, Default)]
struct Book {
    version: Option<BatchId>,
    note: serde_json::Value,
    versions: StateVersions,
    /// Files of the last snapshot by local name: the next one shares what is still in use.
    shareable: BTreeMap<String, SnapshotFile>,
    snapshot_bytes: u64,
    snapshot_created_ms: Option<i64>,
    last_snapshot: Option<SnapshotReport>,
    /// Bytes of the content files, as far as they have been listed.
    content_bytes: u64,
    pending: Weak<()>,
    unused_files: bool,
}

impl StateStore {
    /// Restores the state after batch `version` (empty for none) into `local_dir`, where leftovers are removed. An
    /// earlier store of the same folder must have been dropped.
    ///
    /// Opened for writing, it also removes changelogs and snapshots of later batches: those will be run again, and
    /// must not be taken for what the new run wrote.
    pub fn open(
        settings: &StateSettings,
        checkpoint: &CheckpointDir,
        local_dir: &Path,
        operators: &[String],
        version: Option<BatchId>,
    ) -> Result<(Self, RestoreReport)> {
        let mut versions = StateVersions::read(checkpoint)?;
        let (path, base) = find_base(checkpoint, &mut versions, version)?;
        let database = prepare_local(local_dir)?;
        if let Some(base) = &base {
            base.restore(checkpoint, &database)?;
        }
        let (mut rocks, dropped_operators) = Rocks::open(&database, settings, operators)?;
        let mut report = RestoreReport { dropped_operators, ..RestoreReport::of(base.as_ref()) };
        for batch in path.map(|path| path.changelogs).into_iter().flatten() {
            apply_changelog(checkpoint, batch, &mut rocks, operators, &mut report)?;
            report.size_bytes += versions.changelogs.get(&batch).copied().unwrap_or(0);
        }
        if checkpoint.run().is_some() {
            let newer = versions.newer_than(version);
            remove(checkpoint, &mut versions, &newer)?;
        }
        let book = Book {
            version,
            note: report.note.clone(),
            versions,
            shareable: base.as_ref().map(Snapshot::shareable).unwrap_or_default(),
            snapshot_bytes: base.as_ref().map_or(0, Snapshot::size_bytes),
            snapshot_created_ms: base.as_ref().and_then(|base| base.head.created_ms),
            last_snapshot: None,
            content_bytes: base.as_ref().map_or(0, Snapshot::size_bytes),
            pending: Weak::new(),
            unused_files: true,
        };
        let store = Self {
            settings: settings.clone(),
            checkpoint: checkpoint.clone(),
            local_dir: local_dir.to_owned(),
            operators: operators.to_vec(),
            id: uuid::Uuid::new_v4().simple().to_string(),
            rocks,
            book: Mutex::new(book),
            content_files: Mutex::new(()),
        };
        Ok((store, report))
    }

    /// The values of `keys`, in their order. Sorted keys are read faster.
    pub fn multi_get(&self, operator: usize, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values = Vec::with_capacity(keys.len());
        self.multi_get_with(operator, keys, |_, value| {
            values.push(value.map(<[u8]>::to_vec));
            Ok(())
        })?;
        Ok(values)
    }

    /// The same without copies: `f` gets the position of each key and its value where RocksDB has it.
    pub fn multi_get_with(
        &self,
        operator: usize,
        keys: &[impl AsRef<[u8]>],
        f: impl FnMut(usize, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        self.rocks.multi_get(operator, keys, f)
    }

    /// The rows with keys from the first up to but not with the second, in order.
    pub fn scan(
        &self,
        operator: usize,
        range: (&[u8], &[u8]),
        mut f: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.rocks.scan(operator, range, |key, value| f(key, value).map(|()| true))
    }

    /// The same, until `f` says that it has enough.
    pub fn scan_while(
        &self,
        operator: usize,
        range: (&[u8], &[u8]),
        f: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.rocks.scan(operator, range, f)
    }

    /// Writes what was applied to files, so that their sizes are those of the state.
    pub fn flush(&self) -> Result<()> {
        self.rocks.flush()
    }

    /// The first key from the first of the range up to but not with the second.
    pub fn first_key(&self, operator: usize, range: (&[u8], &[u8])) -> Result<Option<Vec<u8>>> {
        self.rocks.first_key(operator, range)
    }

    /// The last row with a key from the first of the range up to but not with the second.
    pub fn last_row(&self, operator: usize, range: (&[u8], &[u8])) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.rocks.last_row(operator, range)
    }

    /// Writes changes back into the local database: they can be read from now on, and are in the next snapshot. They
    /// are not durable: that is [`StateStore::commit`].
    pub fn apply(&self, operator: usize, changes: &ChangeSet) -> Result<()> {
        let mut writer = self.rocks.writer(operator)?;
        changes.visit(|change| writer.push(change))?;
        writer.finish()
    }

    /// Writes rows back as [`StateStore::apply`] does, faster if they are many: they come in the order of their keys,
    /// each key once, and can be read when the writer is finished. There are about `rows` of them.
    pub(crate) fn sorted_writer(&self, operator: usize, rows: usize) -> Result<SortedWriter<'_>> {
        self.rocks.sorted_writer(operator, &self.local_dir, rows)
    }

    /// Forgets rows that are written again as far as they are there; see [`Rocks::clear_range`].
    pub(crate) fn clear_range(&self, operator: usize, range: (&[u8], &[u8])) -> Result<()> {
        self.rocks.clear_range(operator, range)
    }

    /// A set for the changes of a batch that keeps about `memory_bytes` of each kind in memory and the rest in the local
    /// folder.
    pub fn change_set(&self, memory_bytes: usize) -> ChangeSet {
        ChangeSet::on_disk(&self.local_dir, memory_bytes)
    }

    /// Makes the changes of batch `version` durable: one set an operator, in the order of [`StateStore::open`]. `note`
    /// comes back with the restore of this version. The rows need not have been applied.
    pub fn commit(
        &self,
        version: BatchId,
        changes: &[ChangeSet],
        note: serde_json::Value,
    ) -> Result<StateCommitReport> {
        let sets: Vec<&[ChangeSet]> = changes.iter().map(std::slice::from_ref).collect();
        self.commit_sets(version, &sets, note)
    }

    /// The same, with the changes of an operator in several sets, for different keys.
    pub fn commit_sets(
        &self,
        version: BatchId,
        changes: &[&[ChangeSet]],
        note: serde_json::Value,
    ) -> Result<StateCommitReport> {
        let mut book = self.book.lock();
        let expected = book.version.map_or(0, |last| last + 1);
        if version != expected || changes.len() != self.operators.len() {
            return Err(EngineError::internal(format!(
                "state commit of batch {version} with {} operators, expected batch {expected} with {}",
                changes.len(),
                self.operators.len()
            )));
        }
        let head = ChangelogHead {
            version: STATE_FORMAT,
            batch_id: version,
            operators: self.operators.clone(),
            note: note.clone(),
        };
        let size_bytes = changelog::write(&self.checkpoint, &head, changes)?;
        book.version = Some(version);
        book.note = note;
        book.versions.changelogs.insert(version, size_bytes);
        let changes = changes.iter().copied().flatten().map(|changes| changes.len() as u64).sum();
        Ok(StateCommitReport { changes, size_bytes })
    }

    /// Whether it is time to apply everything and call [`StateStore::snapshot`].
    pub fn snapshot_due(&self) -> bool {
        let book = self.book.lock();
        book.pending.strong_count() == 0 && snapshot_due(&self.settings, book.since_snapshot())
    }

    /// Makes a snapshot of the last committed version, whose rows have all been applied. On a store opened empty,
    /// `version` may be any: a query that had no state up to that batch begins with an empty snapshot.
    pub fn snapshot(&self, version: BatchId) -> Result<SnapshotReport> {
        self.publish(self.freeze(version)?)
    }

    /// The first, short half of a snapshot: when it returns, changes of the next batch may be applied.
    pub fn freeze(&self, version: BatchId) -> Result<FrozenSnapshot> {
        let mut book = self.book.lock();
        if *book.version.get_or_insert(version) != version {
            return Err(EngineError::internal(format!(
                "state snapshot of batch {version}, expected the last committed batch {:?}",
                book.version
            )));
        }
        let folder = self.local_dir.join(FROZEN).join(version.to_string());
        remove_folder(&folder)?;
        make_folder(&self.local_dir.join(FROZEN))?;
        self.rocks.freeze(&folder)?;
        let pending = Arc::new(());
        book.pending = Arc::downgrade(&pending);
        let (operators, note) = (self.operators.clone(), book.note.clone());
        let created_ms = Some(self.checkpoint.clock().now_ms());
        let head = SnapshotHead { version: STATE_FORMAT, batch_id: version, operators, note, created_ms };
        Ok(FrozenSnapshot { folder, head, _pending: pending })
    }

    /// The second, long half of a snapshot: may run on another thread beside batches.
    pub fn publish(&self, frozen: FrozenSnapshot) -> Result<SnapshotReport> {
        let _writing = self.content_files.lock();
        let shareable = self.book.lock().shareable.clone();
        let version = frozen.head.batch_id;
        let began_ns = self.checkpoint.clock().monotonic_ns();
        let published = Snapshot::publish(&self.checkpoint, &frozen.folder, frozen.head.clone(), &self.id, &shareable);
        remove_folder(&frozen.folder)?;
        let (snapshot, published) = published?;
        let report = SnapshotReport {
            size_bytes: snapshot.size_bytes(),
            new_files: published.new_files,
            new_bytes: published.new_bytes,
            upload_ms: self.checkpoint.clock().monotonic_ns().saturating_sub(began_ns) / 1_000_000,
        };
        let mut book = self.book.lock();
        book.versions.snapshots.insert(version, published.manifest_bytes);
        book.shareable = snapshot.shareable();
        book.snapshot_bytes = report.size_bytes;
        book.snapshot_created_ms = snapshot.head.created_ms;
        book.content_bytes += report.new_bytes;
        book.last_snapshot = Some(report);
        Ok(report)
    }

    /// Removes what is not needed to restore `keep_from` or anything newer.
    pub fn prune(&self, keep_from: BatchId) -> Result<()> {
        self.checkpoint.writable()?;
        let mut book = self.book.lock();
        let surplus = book.versions.surplus(keep_from);
        book.unused_files |= !surplus.snapshots.is_empty();
        remove(&self.checkpoint, &mut book.versions, &surplus)?;
        // While a snapshot is being written its files have no name in any list; the next call removes what is unused.
        let Some(_no_writer) = self.content_files.try_lock() else { return Ok(()) };
        if !book.unused_files {
            return Ok(());
        }
        let mut used = BTreeSet::new();
        for version in book.versions.snapshots.keys() {
            let snapshot = Snapshot::read(&self.checkpoint, *version)?;
            used.extend(snapshot.files.into_iter().map(|file| file.object));
        }
        book.content_bytes = snapshot::remove_unused_files(&self.checkpoint, &used)?;
        book.unused_files = false;
        Ok(())
    }

    /// The last committed version.
    pub fn version(&self) -> Option<BatchId> {
        self.book.lock().version
    }

    /// Where its checkpoint is.
    pub fn location(&self) -> &str {
        self.checkpoint.location()
    }

    /// Sizes, as far as they are known.
    pub fn metrics(&self) -> StateMetrics {
        let mut metrics = self.rocks.metrics();
        let book = self.book.lock();
        metrics.changelog_bytes = book.since_snapshot().changelog_bytes;
        metrics.snapshot_bytes = book.snapshot_bytes;
        metrics.checkpoint_bytes = book.checkpoint_bytes();
        metrics.snapshot_batch = book.versions.snapshots.keys().last().copied();
        let now_ms = self.checkpoint.clock().now_ms();
        metrics.snapshot_age_ms = book.snapshot_created_ms.map(|ms| u64::try_from(now_ms - ms).unwrap_or(0));
        metrics.last_snapshot = book.last_snapshot;
        metrics
    }
}

impl RestoreReport {
    fn of(base: Option<&Snapshot>) -> Self {
        Self {
            snapshot: base.map(|base| base.head.batch_id),
            size_bytes: base.map_or(0, Snapshot::size_bytes),
            note: base.map(|base| base.head.note.clone()).unwrap_or_default(),
            ..Default::default()
        }
    }
}

impl Book {
    fn since_snapshot(&self) -> SinceSnapshot {
        let last = self.versions.snapshots.keys().last();
        let changelogs = self.versions.changelogs.range(last.map_or(0, |last| last + 1)..);
        let (batches, changelog_bytes) = changelogs.fold((0, 0), |(n, bytes), (_, size)| (n + 1, bytes + size));
        SinceSnapshot { batches, changelog_bytes, snapshot_bytes: self.snapshot_bytes }
    }

    fn checkpoint_bytes(&self) -> u64 {
        let lists = self.versions.snapshots.values().chain(self.versions.changelogs.values());
        self.content_bytes + lists.sum::<u64>()
    }
}

const FROZEN: &str = "frozen";
const DATABASE: &str = "db";

/// Removes what an earlier store left and makes the folder of the database.
fn prepare_local(local_dir: &Path) -> Result<PathBuf> {
    let database = local_dir.join(DATABASE);
    remove_folder(&database)?;
    remove_folder(&local_dir.join(FROZEN))?;
    make_folder(&database)?;
    Ok(database)
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| io_error("create", folder, error))
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("delete", folder, error)),
        _ => Ok(()),
    }
}

/// Removes files, each in the order given, snapshots first: a list goes before the changelogs that would replace it.
fn remove(checkpoint: &CheckpointDir, versions: &mut StateVersions, surplus: &Surplus) -> Result<()> {
    for version in &surplus.snapshots {
        checkpoint.writable()?.delete(&snapshot::file_name(*version))?;
        versions.snapshots.remove(version);
    }
    for version in &surplus.changelogs {
        checkpoint.writable()?.delete(&changelog::file_name(*version))?;
        versions.changelogs.remove(version);
    }
    Ok(())
}

/// How to restore `version`, and the snapshot to begin with.
///
/// A snapshot that lacks content files is passed over where an older one and its changelogs give the same state: a run
/// that was overtaken while it wrote one can leave its list behind, of files that were removed since.
fn find_base(
    checkpoint: &CheckpointDir,
    versions: &mut StateVersions,
    version: Option<BatchId>,
) -> Result<(Option<RestorePath>, Option<Snapshot>)> {
    let Some(version) = version else { return Ok((None, None)) };
    let mut path = restore_path(checkpoint, versions, version)?;
    while let Some(batch) = path.snapshot {
        let base = Snapshot::read(checkpoint, batch)?;
        let Some(missing) = base.missing_file(checkpoint)? else { return Ok((Some(path), Some(base))) };
        versions.snapshots.remove(&batch);
        path = versions.restore_path(version).map_err(|_| base.incomplete(&missing))?;
        tracing::warn!(
            batch,
            missing,
            older = path.snapshot,
            "a state snapshot is incomplete: restoring from an older one"
        );
        // Left there, retention would take it for a reason to remove what it cannot replace.
        if checkpoint.run().is_some() {
            checkpoint.writable()?.delete(&snapshot::file_name(batch))?;
        }
    }
    Ok((Some(path), None))
}

fn restore_path(checkpoint: &CheckpointDir, versions: &StateVersions, version: BatchId) -> Result<RestorePath> {
    versions.restore_path(version).map_err(|missing| {
        let address = checkpoint.store().address(&changelog::file_name(missing));
        EngineError::data(format!("the state after batch {version} cannot be restored: {address} is missing"))
            .help("restore this file from a backup, or give the query a new checkpoint location to start over")
    })
}

fn apply_changelog(
    checkpoint: &CheckpointDir,
    batch_id: BatchId,
    rocks: &mut Rocks,
    operators: &[String],
    report: &mut RestoreReport,
) -> Result<()> {
    let mut applying = Applying { rocks, operators, targets: Vec::new(), dropped: &mut report.dropped_operators };
    let head = changelog::read(checkpoint, batch_id, &mut applying)?;
    report.note = head.note;
    report.changelogs += 1;
    Ok(())
}

/// Applies a changelog to the operators of the same names.
struct Applying<'a> {
    rocks: &'a mut Rocks,
    operators: &'a [String],
    /// For each operator of the changelog its position in the store, if the store has it.
    targets: Vec<Option<usize>>,
    dropped: &'a mut Vec<String>,
}

impl ChangelogVisitor for Applying<'_> {
    fn head(&mut self, head: &ChangelogHead) -> Result<()> {
        let position = |name: &String| self.operators.iter().position(|operator| operator == name);
        self.targets = head.operators.iter().map(position).collect();
        for (name, target) in head.operators.iter().zip(&self.targets) {
            if target.is_none() && !self.dropped.contains(name) {
                self.dropped.push(name.clone());
            }
        }
        for operator in 0..self.operators.len() {
            // The query of that batch did not have this operator: what it had before is void.
            if !self.targets.contains(&Some(operator)) {
                self.rocks.clear(operator)?;
            }
        }
        Ok(())
    }

    fn rows(&mut self, operator: usize, rows: Rows<'_>) -> Result<()> {
        match self.targets.get(operator).copied().flatten() {
            Some(target) => {
                let mut writer = self.rocks.writer(target)?;
                rows.into_iter().try_for_each(|change| writer.push(change?))?;
                writer.finish()
            }
            None => Ok(()),
        }
    }
}
