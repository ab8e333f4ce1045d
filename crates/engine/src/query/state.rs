//! The state of a query: its operators with what they have in memory, the store below them, and when either is
//! written.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::batch::Operators;
use super::execution::QuerySpec;
use crate::checkpoint::CheckpointDir;
use crate::error::{EngineError, Result};
use crate::operator::{CHANGES_PART, Place};
use crate::progress::CheckpointProgress;
use crate::sink::BatchId;
use crate::state::{ChangeSet, SnapshotReport, StateStore};

/// What the state of a query is restored from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StateFrom {
    /// The batch after which it is wanted; none for the state before the first.
    pub(crate) version: Option<BatchId>,
    /// Whether there is state of that batch, and not a query that kept none so far.
    pub(crate) exists: bool,
    /// Whether all of it is forgotten, with the next commit for good.
    pub(crate) is_emptied: bool,
}

/// The store of a query and the snapshot that may be under way.
pub(crate) struct QueryState {
    store: Arc<StateStore>,
    /// How many tables each operator has.
    tables: Vec<usize>,
    /// Whether the next commit forgets all that was before it.
    forgets: bool,
    /// Memory for a set of changes.
    changes_bytes: usize,
    publishing: Option<JoinHandle<Result<SnapshotReport>>>,
}

/// A query that ends in an error leaves no thread behind that still holds its checkpoint.
impl Drop for QueryState {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::debug!(%error, "the snapshot under way was not written");
        }
    }
}

impl QueryState {
    /// The state, its operators, and the note that was committed with it.
    pub(crate) fn open(
        spec: &QuerySpec,
        checkpoint: &CheckpointDir,
        from: StateFrom,
    ) -> Result<(Self, Operators, serde_json::Value)> {
        let tables: Vec<Vec<String>> = spec.plan.operators.iter().map(|stage| stage.spec.stores()).collect();
        let names = tables.concat();
        let workers = spec.settings.parallelism.max(1);
        let (settings, operators_bytes) = spec.settings.state.within(spec.settings.state_memory_bytes);
        let budget_bytes = operators_bytes / workers / tables.len().max(1);
        let version = from.version.filter(|_| from.exists);
        let (store, report) = StateStore::open(&settings, checkpoint, &spec.local_dir, &names, version)?;
        if let Some(version) = from.version.filter(|_| !from.exists) {
            store.snapshot(version)?;
        }
        if from.is_emptied {
            (0..names.len()).try_for_each(|table| store.apply(table, &ChangeSet::of_everything_gone()))?;
        }
        let store = Arc::new(store);
        let mut operators = Vec::new();
        let mut first_table = 0;
        for (stage, tables) in spec.plan.operators.iter().zip(&tables) {
            let open = |worker| {
                let (store, history) = (Arc::clone(&store), stage.history.clone());
                let ttl = stage.ttl;
                Arc::clone(&stage.spec).open(Place { store, first_table, worker, workers, budget_bytes, history, ttl })
            };
            operators.push((0..workers).map(open).collect::<Result<Vec<_>>>()?);
            first_table += tables.len();
        }
        let tables = tables.iter().map(Vec::len).collect();
        tracing::debug!(query = spec.name, ?version, changelogs = report.changelogs, "state restored");
        let changes_bytes = budget_bytes / CHANGES_PART;
        let state = Self { store, tables, forgets: from.is_emptied, changes_bytes, publishing: None };
        Ok((state, operators, report.note))
    }

    /// Makes the batch's changes durable.
    pub(crate) fn commit(&mut self, batch: BatchId, operators: &mut Operators, note: serde_json::Value) -> Result<()> {
        let mut changes = Vec::new();
        for (workers, tables) in operators.iter_mut().zip(&self.tables) {
            // Ahead of what the operators say.
            let old = if self.forgets { vec![ChangeSet::of_everything_gone()] } else { Vec::new() };
            let mut of_tables: Vec<Vec<ChangeSet>> = vec![old.clone(); *tables];
            for worker in workers {
                let mut of_worker: Vec<_> = (0..*tables).map(|_| self.store.change_set(self.changes_bytes)).collect();
                worker.take_changes(&mut of_worker)?;
                of_tables.iter_mut().zip(of_worker).for_each(|(table, changes)| table.push(changes));
            }
            changes.append(&mut of_tables);
        }
        let changes: Vec<&[ChangeSet]> = changes.iter().map(Vec::as_slice).collect();
        self.store.commit_sets(batch, &changes, note)?;
        self.forgets = false;
        Ok(())
    }

    /// Begins a snapshot when enough has changed since the last; it is written beside the next batches.
    pub(crate) fn snapshot_if_due(&mut self, batch: BatchId, operators: &mut Operators) -> Result<()> {
        if self.publishing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish()?;
        }
        if self.publishing.is_some() || !self.store.snapshot_due() {
            return Ok(());
        }
        let mut first_table = 0;
        for (workers, tables) in operators.iter_mut().zip(&self.tables) {
            for worker in workers {
                let mut unflushed: Vec<ChangeSet> = (0..*tables).map(|_| ChangeSet::new()).collect();
                worker.take_unflushed(&mut unflushed)?;
                for (table, changes) in unflushed.iter().enumerate() {
                    self.store.apply(first_table + table, changes)?;
                }
            }
            first_table += tables;
        }
        let frozen = self.store.freeze(batch)?;
        let store = Arc::clone(&self.store);
        #[expect(clippy::disallowed_methods, reason = "joined by finish")]
        let publishing = std::thread::spawn(move || store.publish(frozen));
        self.publishing = Some(publishing);
        Ok(())
    }

    /// Waits for the snapshot that is under way.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let Some(publishing) = self.publishing.take() else { return Ok(()) };
        let report = publishing.join().map_err(|_| EngineError::internal("writing a snapshot panicked"))??;
        tracing::debug!(size_bytes = report.size_bytes, new_bytes = report.new_bytes, "snapshot written");
        Ok(())
    }

    /// Removes what no restart needs.
    pub(crate) fn prune(&self, keep_from: BatchId) -> Result<()> {
        self.store.prune(keep_from)
    }

    /// What a restart would begin with.
    pub(crate) fn checkpoint_progress(&self) -> CheckpointProgress {
        let metrics = self.store.metrics();
        CheckpointProgress {
            location: self.store.location().to_owned(),
            size_bytes: metrics.checkpoint_bytes,
            changelog_size_bytes: metrics.changelog_bytes,
            snapshot_batch_id: metrics.snapshot_batch,
            snapshot_size_bytes: metrics.snapshot_bytes,
            snapshot_age_ms: metrics.snapshot_age_ms,
            snapshot_upload_ms: metrics.last_snapshot.map(|last| last.upload_ms),
            snapshot_upload_size_bytes: metrics.last_snapshot.map(|last| last.new_bytes),
        }
    }

    /// Memory of the store below the groups, in bytes.
    pub(crate) fn store_memory_bytes(&self) -> u64 {
        self.store.metrics().memory_bytes
    }
}
