//! What a query opens when it starts: its checkpoint, its sink, its sources. Whether it may go on from there if it was
//! changed meanwhile is `comparison.rs`.

use std::sync::Arc;

use super::comparison::{Comparison, START_OVER, Standing, identity_of};
use super::execution::{QuerySpec, StreamingQuery};
use super::progress::Timer;
use super::state::StateFrom;
use crate::checkpoint::{
    CheckpointDir, CommitLog, CommitLogEntry, Facts, Metadata, OffsetLog, OffsetLogEntry, Step, plan_recovery,
};
use crate::clock::Clock;
use crate::error::{EngineError, Result};
use crate::plan::streaming::{SourceStage, StreamingPlan};
use crate::sink::{BatchId, Sink, SinkRequest};
use crate::source::{Source, SourceRequest};
use crate::state::StateVersions;

/// What a start found, and how it goes on.
pub(super) struct Start {
    pub(super) checkpoint: CheckpointDir,
    pub(super) offsets: OffsetLog,
    pub(super) commits: CommitLog,
    pub(super) sink: Box<dyn Sink>,
    pub(super) standing: Standing,
    pub(super) next: Step,
    /// None for a query without stateful operators.
    pub(super) state: Option<StateFrom>,
}

/// Takes the checkpoint over, opens the sink and decides how to go on.
pub(super) fn start(spec: &QuerySpec, clock: &Arc<dyn Clock>) -> Result<Start> {
    let checkpoint = spec.checkpoint.start_run(&spec.name, clock.as_ref())?;
    let (offsets, commits) = (OffsetLog::open(&checkpoint)?, CommitLog::open(&checkpoint)?);
    let last = offsets.latest()?.map(|(_, entry)| entry);
    let (comparison, is_new) = compare(spec, &checkpoint, last.as_ref(), commits.latest_id())?;
    let mut sink = open_sink(spec, &comparison.metadata)?;
    let is_stateful = !spec.plan.operators.is_empty();
    let had_state = !is_new && !comparison.metadata.operators.is_empty();
    let facts = Facts {
        last_offsets: offsets.latest_id(),
        last_commit: commits.latest_id(),
        sink: sink.last_committed()?,
        state: if is_stateful && had_state { Some(StateVersions::read(&checkpoint)?) } else { None },
    };
    let recovery = plan_recovery(&facts).map_err(|error| error.explain(&spec.name, checkpoint.location()))?;
    if let Some(refusal) = comparison.is_under_way(recovery.next) {
        return Err(EngineError::config(format!("query '{}': {}", spec.name, refusal.message)).help(refusal.help));
    }
    // What is replayed may be a rebuild, which begins with no state.
    let is_emptied = comparison.finishes_rebuild(recovery.next) || comparison.wants_rebuild;
    if let Some(note) = &recovery.note {
        tracing::warn!(query = spec.name, note, "recovery");
    }
    let state = is_stateful.then(|| StateFrom {
        // Of a query that kept no state so far there is an empty one after each batch.
        version: recovery.state_version.or_else(|| commits.latest_id().filter(|_| !had_state)),
        exists: had_state,
        is_emptied,
    });
    let standing = comparison.standing(is_emptied);
    Ok(Start { checkpoint, offsets, commits, sink, standing, next: recovery.next, state })
}

/// Reads or makes the query's metadata, and refuses a query whose state would be lost; tells whether it is new.
fn compare(
    spec: &QuerySpec,
    checkpoint: &CheckpointDir,
    last: Option<&OffsetLogEntry>,
    last_commit: Option<BatchId>,
) -> Result<(Comparison, bool)> {
    let is_new = Metadata::read(checkpoint)?.is_none();
    let metadata = Metadata::create_or_read(checkpoint, &identity_of(spec)?)?.0;
    let comparison = Comparison::of(spec, metadata, last, last_commit)?;
    if is_new {
        return Ok((comparison, true));
    }
    if let Some(refusal) = comparison.refusal() {
        let (name, location) = (&spec.name, checkpoint.location());
        let message = format!("query '{name}' was changed: {} (checkpoint '{location}')", refusal.message);
        return Err(EngineError::config(message).help(refusal.help));
    }
    for (id, notes) in comparison.changes.evolved.iter().filter(|_| !spec.change.rebuild) {
        let notes: Vec<String> =
            notes.iter().map(|note| note.describe(last_commit.map_or(0, |batch| batch + 1))).collect();
        tracing::info!(query = spec.name, operator = id, changes = notes.join("; "), "its state is migrated");
    }
    for id in &comparison.changes.added {
        tracing::info!(query = spec.name, operator = id, "a new operator begins without state");
    }
    for id in comparison.changes.removed.iter().filter(|_| !spec.change.rebuild) {
        tracing::warn!(query = spec.name, operator = id, "its state is dropped, as --drop-state asks");
    }
    Ok((comparison, false))
}

fn open_sink(spec: &QuerySpec, metadata: &Metadata) -> Result<Box<dyn Sink>> {
    spec.target.sink(SinkRequest {
        query_id: metadata.id.clone(),
        query_name: spec.name.clone(),
        schema: Arc::clone(&spec.plan.schema),
        output_mode: spec.plan.output_mode,
        key_columns: spec.plan.key_columns.clone(),
        deletes: spec.plan.deletes,
    })
}

pub(super) fn open_sources(plan: &StreamingPlan, checkpoint: &CheckpointDir) -> Result<Vec<Box<dyn Source>>> {
    let open = |(index, stage): (usize, &SourceStage)| {
        let metadata = checkpoint.source_metadata(index);
        let source = &plan.sources[stage.source];
        let (projection, members) = (stage.projection.clone(), stage.members.clone());
        source.table.source(SourceRequest { projection, members, metadata, may_be_missing: source.may_be_missing })
    };
    plan.source_stages.iter().enumerate().map(open).collect()
}

/// The commit entry travels with the state, so that a commit that was all but done can be finished from it.
pub(super) fn write_note(entry: &CommitLogEntry) -> Result<serde_json::Value> {
    Ok(serde_json::json!({ "nextBatchWatermarkMs": entry.next_batch_watermark_ms, "watermarks": entry.watermarks }))
}

pub(super) fn read_note(note: &serde_json::Value) -> Result<CommitLogEntry> {
    let watermarks = note.get("watermarks").and_then(serde_json::Value::as_object).cloned().unwrap_or_default();
    let next_batch_watermark_ms =
        note.get("nextBatchWatermarkMs").and_then(serde_json::Value::as_i64).ok_or_else(|| {
            EngineError::data("the state has no note of its batch").help("restore the checkpoint from a backup")
        })?;
    Ok(CommitLogEntry { next_batch_watermark_ms, watermarks })
}

impl StreamingQuery {
    /// Builds all state anew: one batch that reads again what was read since the query's first offsets.
    pub(super) fn rebuild(&mut self) -> Result<()> {
        let first = match (self.standing.first_offsets(), self.offsets.get(0)?) {
            (Some(first), _) => first.clone(),
            (None, Some(entry)) => entry.starts.into_iter().flatten().collect(),
            (None, None) => {
                let message = format!("query '{}': its checkpoint does not say where its first batch began", self.name);
                return Err(EngineError::config(message).help(START_OVER));
            }
        };
        let timer = Timer::start(&self.clock);
        let mut entry = self.new_entry();
        entry.starts = first.into_iter().map(Some).collect();
        entry.ends = self.position.iter().cloned().map(Some).collect();
        self.standing.mark_rebuild(&mut entry)?;
        let batch = self.next_batch;
        tracing::info!(
            query = self.name,
            batch,
            "reading the input again from the query's start, to rebuild its state"
        );
        self.offsets.add(batch, &entry)?;
        self.run_entry(batch, &entry, true, timer)
    }
}
