//! What a query opens when it starts, and whether it may go on from its checkpoint if it was changed meanwhile.
//!
//! Stateful operators are told apart by their lasting names and by what their state rows are made of. From there:
//!
//! | the operator | its state |
//! |---|---|
//! | is as it was | kept |
//! | is new | begins empty, with what comes next |
//! | has other keys or functions | does not fit: refused, or all of the query's state is rebuilt from its input |
//! | is gone | would be dropped: refused, or dropped, or rebuilt with the others |
//!
//! Filters, columns and expressions are no operators: they hold from the next batch on. Nothing that is lost for good
//! is lost without being asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::execution::{QuerySpec, StreamingQuery};
use super::progress::Timer;
use super::state::StateFrom;
use crate::checkpoint::{
    CheckpointDir, CommitLog, CommitLogEntry, Facts, IdentityChanges, Metadata, OffsetLog, OffsetLogEntry,
    QueryIdentity, Step, plan_recovery,
};
use crate::clock::Clock;
use crate::error::{EngineError, Result};
use crate::plan::streaming::{SourceStage, StreamingPlan};
use crate::sink::{Sink, SinkRequest};
use crate::source::{Source, SourceRequest};
use crate::state::StateVersions;

/// The key of an entry's `conf` that says the batch builds all state anew; its value are the operators, as JSON.
pub(super) const REBUILDS: &str = "rebuilds state of";

/// What may happen to the state of a query that was changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ChangePolicy {
    /// Build all of its state anew, from the query's first offsets on.
    pub rebuild: bool,
    /// Forget the state of operators that are gone.
    pub drop_state: bool,
}

/// What may happen to the state of queries that were changed, by query; `*` stands for all.
#[derive(Debug, Clone, Default)]
pub struct QueryChanges {
    /// Those whose state is built anew.
    pub rebuild: BTreeSet<String>,
    /// Those that may forget the state of operators that are gone.
    pub drop_state: BTreeSet<String>,
}

impl QueryChanges {
    pub(super) fn of(&self, query: &str) -> ChangePolicy {
        let names = |set: &BTreeSet<String>| set.contains(query) || set.contains("*");
        ChangePolicy { rebuild: names(&self.rebuild), drop_state: names(&self.drop_state) }
    }
}

/// Why the query of now may not go on, and the way out; none if it may.
pub(super) fn refusal_of(changes: &IdentityChanges, policy: ChangePolicy) -> Option<(String, String)> {
    if policy.rebuild {
        return None;
    }
    if let Some(id) = changes.changed.first() {
        let message = format!("the state of operator '{id}' does not fit its new keys or functions");
        let help = "run with --rebuild QUERY, which computes all its state anew from the input since its start, or give \
                    the query another name or another --storage, so that it starts over";
        return Some((message, help.to_owned()));
    }
    let id = changes.removed.first().filter(|_| !policy.drop_state)?;
    let message = format!("the checkpoint has state of operator '{id}', which the query no longer has");
    let help = "run with --drop-state QUERY to forget it for good, or go back to the query as it was";
    Some((message, help.to_owned()))
}

/// How a query goes on from its checkpoint.
pub(super) struct Identity {
    pub(super) metadata: Metadata,
    pub(super) identity: QueryIdentity,
    /// Whether the state was kept by operators at all before now.
    pub(super) had_state: bool,
}

/// What a start found, and how it goes on.
pub(super) struct Start {
    pub(super) checkpoint: CheckpointDir,
    pub(super) offsets: OffsetLog,
    pub(super) commits: CommitLog,
    pub(super) sink: Box<dyn Sink>,
    pub(super) identity: Identity,
    pub(super) next: Step,
    /// None for a query without stateful operators.
    pub(super) state: Option<StateFrom>,
    /// Whether all state is to be built anew before anything else.
    pub(super) rebuilds: bool,
}

/// Takes the checkpoint over, opens the sink and decides how to go on.
pub(super) fn start(spec: &QuerySpec, clock: &Arc<dyn Clock>) -> Result<Start> {
    let checkpoint = spec.checkpoint.start_run(&spec.name, clock.as_ref())?;
    let (offsets, commits) = (OffsetLog::open(&checkpoint)?, CommitLog::open(&checkpoint)?);
    let last = offsets.latest()?.map(|(_, entry)| entry);
    let identity = open_metadata(spec, &checkpoint, last.as_ref())?;
    let mut sink = open_sink(spec, &identity.metadata)?;
    let (is_stateful, had_state) = (!spec.plan.operators.is_empty(), identity.had_state);
    let facts = Facts {
        last_offsets: offsets.latest_id(),
        last_commit: commits.latest_id(),
        sink: sink.last_committed()?,
        state: if is_stateful && had_state { Some(StateVersions::read(&checkpoint)?) } else { None },
    };
    let recovery = plan_recovery(&facts).map_err(|error| error.explain(&spec.name, checkpoint.location()))?;
    // What is replayed may be a rebuild, which begins with no state.
    let replays = matches!(recovery.next, Step::Replay { .. });
    let is_rebuilding = replays && last.is_some_and(|entry| entry.conf.contains_key(REBUILDS));
    let rebuilds = spec.change.rebuild && is_stateful && commits.latest_id().is_some();
    if rebuilds && replays && !is_rebuilding {
        return Err(under_way(&spec.name));
    }
    if let Some(note) = &recovery.note {
        tracing::warn!(query = spec.name, note, "recovery");
    }
    let state = is_stateful.then(|| StateFrom {
        // Of a query that kept no state so far there is an empty one after each batch.
        version: recovery.state_version.or_else(|| commits.latest_id().filter(|_| !had_state)),
        exists: had_state,
        is_emptied: is_rebuilding || rebuilds,
    });
    Ok(Start { checkpoint, offsets, commits, sink, identity, next: recovery.next, state, rebuilds })
}

/// Reads or makes the query's metadata, and refuses a query whose state would be lost. `last` is the newest entry of
/// the offset log: if it is a rebuild, done or under way, it settles what the state is of.
fn open_metadata(spec: &QuerySpec, checkpoint: &CheckpointDir, last: Option<&OffsetLogEntry>) -> Result<Identity> {
    let identity = identity_of(spec);
    let is_new = Metadata::read(checkpoint)?.is_none();
    let (mut metadata, mut changes) = Metadata::create_or_read(checkpoint, &identity)?;
    if let Some(rebuilt) = last.and_then(|entry| entry.conf.get(REBUILDS)) {
        // The process ended between the batch and this note of it.
        metadata.operators = serde_json::from_str(rebuilt).map_err(|error| {
            EngineError::data("the offset log has a rebuild of operators that cannot be read").caused_by(error)
        })?;
        changes = metadata.changes(&identity);
    }
    let had_state = !is_new && !metadata.operators.is_empty();
    if is_new {
        return Ok(Identity { metadata, identity, had_state });
    }
    if let Some((message, help)) = refusal_of(&changes, spec.change) {
        let message = format!("query '{}' was changed: {message} (checkpoint '{}')", spec.name, checkpoint.location());
        return Err(EngineError::config(message).help(help));
    }
    for id in &changes.added {
        tracing::info!(query = spec.name, operator = id, "a new operator begins without state");
    }
    for id in changes.removed.iter().filter(|_| !spec.change.rebuild) {
        tracing::warn!(query = spec.name, operator = id, "its state is dropped, as --drop-state asks");
    }
    Ok(Identity { metadata, identity, had_state })
}

/// A rebuild reads what is done, and not the batch that a killed process was in.
fn under_way(query: &str) -> EngineError {
    EngineError::config(format!("query '{query}' cannot be rebuilt while a batch of it is under way"))
        .help("start it once as it was before the change, with --trigger once, so that the batch is finished")
}

fn identity_of(spec: &QuerySpec) -> QueryIdentity {
    let operators = spec.plan.operators.iter().map(|stage| (stage.spec.id().to_owned(), stage.spec.fingerprint()));
    QueryIdentity {
        query_name: spec.name.clone(),
        target: spec.target_description.clone(),
        operators: operators.collect(),
    }
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
        let projection = stage.projection.clone();
        source.table.source(SourceRequest { projection, metadata, may_be_missing: source.may_be_missing })
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
        let first = match (&self.metadata.first_offsets, self.offsets.get(0)?) {
            (Some(first), _) => first.clone(),
            (None, Some(entry)) => entry.starts.into_iter().flatten().collect(),
            (None, None) => {
                let message = format!("query '{}': its checkpoint does not say where its first batch began", self.name);
                return Err(EngineError::config(message)
                    .help("give the query another name or another --storage, so that it starts over"));
            }
        };
        let timer = Timer::start(&self.clock);
        let mut entry = self.new_entry();
        entry.starts = first.into_iter().map(Some).collect();
        entry.ends = self.position.iter().cloned().map(Some).collect();
        let operators = serde_json::to_string(&self.identity.operators);
        let operators = operators.map_err(|error| EngineError::internal("names of operators").caused_by(error))?;
        entry.conf.insert(REBUILDS.to_owned(), operators);
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
