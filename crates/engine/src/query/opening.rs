//! What a query opens when it starts: its checkpoint, its sink, its sources. Whether it may go on from there if it was
//! changed meanwhile is `comparison.rs`.

use std::sync::Arc;

use super::comparison::{Comparison, Refusal, Standing, identity_of, other_sources};
use super::execution::QuerySpec;
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
    let (comparison, is_new) = compare(spec, &checkpoint, offsets.latest()?.as_ref(), commits.latest_id())?;
    let mut sink = spec.target.sink(sink_request(spec, &comparison.metadata.id))?;
    let is_stateful = !spec.plan.operators.is_empty();
    let had_state = !is_new && !comparison.metadata.operators.is_empty();
    let facts = Facts {
        last_offsets: offsets.latest_id(),
        last_commit: commits.latest_id(),
        sink: sink.last_committed()?,
        state: if is_stateful && had_state { Some(StateVersions::read(&checkpoint)?) } else { None },
    };
    let recovery = plan_recovery(&facts).map_err(|error| error.explain(&spec.name, checkpoint.location()))?;
    let rebuild = comparison.rebuild(recovery.next).map_err(|refusal| refused(spec, refusal))?;
    let is_emptied = rebuild.empties(recovery.next);
    if let Some(note) = &recovery.note {
        tracing::warn!(query = spec.name, note, "recovery");
    }
    let state = is_stateful.then(|| StateFrom {
        // Of a query that kept no state so far there is an empty one after each batch.
        version: recovery.state_version.or_else(|| commits.latest_id().filter(|_| !had_state)),
        exists: had_state,
        is_emptied,
    });
    let mut standing = comparison.standing(is_emptied, rebuild);
    if let Step::Replay { batch, .. } = recovery.next {
        standing.give_up(&checkpoint, batch)?;
    }
    Ok(Start { checkpoint, offsets, commits, sink, standing, next: recovery.next, state })
}

/// Reads or makes the query's metadata, and refuses a query whose state would be lost; tells whether it is new.
fn compare(
    spec: &QuerySpec,
    checkpoint: &CheckpointDir,
    last: Option<&(BatchId, OffsetLogEntry)>,
    last_commit: Option<BatchId>,
) -> Result<(Comparison, bool)> {
    let is_new = Metadata::read(checkpoint)?.is_none();
    let metadata = Metadata::create_or_read(checkpoint, &identity_of(spec)?)?.0;
    let comparison = Comparison::of(spec, metadata, last, last_commit)?;
    if is_new {
        return Ok((comparison, true));
    }
    if let Some(refusal) = last.and_then(|(_, entry)| other_sources(&spec.plan, entry)) {
        return Err(refused(spec, refusal));
    }
    if let Some(refusal) = comparison.refusal() {
        let (name, location) = (&spec.name, checkpoint.location());
        let message = format!("query '{name}' was changed: {} (checkpoint '{location}')", refusal.message);
        return Err(EngineError::config(message).help(refusal.help));
    }
    if comparison.is_rebuilt() {
        return Ok((comparison, false));
    }
    for (id, notes) in &comparison.changes.evolved {
        let notes: Vec<String> =
            notes.iter().map(|note| note.describe(last_commit.map_or(0, |batch| batch + 1))).collect();
        tracing::info!(query = spec.name, operator = id, changes = notes.join("; "), "its state is migrated");
    }
    for id in &comparison.changes.added {
        tracing::info!(query = spec.name, operator = id, "a new operator begins without state");
    }
    for id in &comparison.changes.removed {
        tracing::warn!(query = spec.name, operator = id, "its state is dropped, as --drop-state asks");
    }
    Ok((comparison, false))
}

/// A start that has to wait for something else.
fn refused(spec: &QuerySpec, refusal: Refusal) -> EngineError {
    EngineError::config(format!("query '{}': {}", spec.name, refusal.message)).help(refusal.help)
}

/// What the query asks of its target; the id is that of its checkpoint.
pub(super) fn sink_request(spec: &QuerySpec, query_id: &str) -> SinkRequest {
    SinkRequest {
        query_id: query_id.to_owned(),
        query_name: spec.name.clone(),
        schema: Arc::clone(&spec.plan.schema),
        output_mode: spec.plan.output_mode,
        key_columns: spec.plan.key_columns.clone(),
        deletes: spec.plan.deletes,
    }
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
    let mut note =
        serde_json::json!({ "nextBatchWatermarkMs": entry.next_batch_watermark_ms, "watermarks": entry.watermarks });
    if let Some(rows) = entry.rebuilt_rows {
        note["rebuiltRows"] = rows.into();
    }
    Ok(note)
}

pub(super) fn read_note(note: &serde_json::Value) -> Result<CommitLogEntry> {
    let watermarks = note.get("watermarks").and_then(serde_json::Value::as_object).cloned().unwrap_or_default();
    let next_batch_watermark_ms =
        note.get("nextBatchWatermarkMs").and_then(serde_json::Value::as_i64).ok_or_else(|| {
            EngineError::data("the state has no note of its batch").help("restore the checkpoint from a backup")
        })?;
    let rebuilt_rows = note.get("rebuiltRows").and_then(serde_json::Value::as_u64);
    Ok(CommitLogEntry { next_batch_watermark_ms, watermarks, rebuilt_rows })
}
