//! What a run would find and do: sources and targets looked at, checkpoints compared with the queries of now.
//!
//! ```text
//!   each table of a flow ──probe──> is it there?            changes nothing outside
//!   each checkpoint ──metadata, logs──> next batch, fate of each stateful operator
//! ```
//!
//! `validate` only plans; this also opens what is outside, for reading. Sinks and sources are asked what a start asks of
//! them, and folders whether they could be written to. Nothing is written, no lock is taken, and a sink is not asked for
//! its token: what it would say may still send a start another way.

use serde::Serialize;

use super::comparison::{Comparison, START_OVER, identity_of, other_sources};
use super::execution::QuerySpec;
use super::rebuild::RebuildStep;
use super::view::Upkeep;
use crate::checkpoint::inspect::numbers_of_logs;
use crate::checkpoint::{Facts, IdentityChanges, Metadata, OffsetLog, plan_recovery};
use crate::error::Result;
use crate::plan::catalog::Role;
use crate::plan::streaming::SourceStage;
use crate::sink::{BatchId, SinkToken};
use crate::source::Offset;
use crate::state::StateVersions;

/// A table of a flow as it was found.
#[derive(Debug)]
pub struct TableOutlook {
    /// The table.
    pub table: String,
    /// The word after `USING`.
    pub format: String,
    /// What the flow wants of it.
    pub role: Role,
    /// What was found, in a few words; none where there is nothing outside.
    pub found: Result<Option<String>>,
}

/// A folder that a run would write to.
#[derive(Debug)]
pub struct FolderOutlook {
    /// What is kept in it.
    pub what: &'static str,
    /// Where it is.
    pub location: String,
    /// What was found, in a few words.
    pub found: Result<String>,
}

/// A flow as it would run.
#[derive(Debug)]
pub struct FlowOutlook {
    /// The flow.
    pub flow: String,
    /// How its materialised view is kept up to date, if it fills one.
    pub upkeep: Option<Upkeep>,
    /// Its tables.
    pub tables: Vec<TableOutlook>,
    /// Its checkpoint; none for a query that is computed whole.
    pub checkpoint: Option<Result<CheckpointOutlook>>,
}

/// What a start would make of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointOutlook {
    /// Where it is.
    pub location: String,
    /// The newest batch that is done; none for a new checkpoint.
    pub last_commit: Option<BatchId>,
    /// What the start does first.
    pub next: String,
    /// What becomes of the state of each stateful operator.
    pub operators: Vec<OperatorOutlook>,
    /// Why a run would be refused, if it would, and the way out.
    pub refusal: Option<(String, String)>,
}

/// What becomes of an operator's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorOutlook {
    /// The operator.
    pub id: String,
    /// Its fate.
    pub fate: OperatorFate,
    /// What becomes of the parts of its state.
    pub notes: Vec<String>,
}

/// The fate of an operator's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorFate {
    /// The query goes on with it.
    Kept,
    /// The query goes on with it, and its parts are not all as they were.
    Migrated,
    /// There is none yet.
    New,
    /// It means something else than the query of now needs.
    Changed,
    /// It is computed anew from the input since the query's start.
    Rebuilt,
    /// The query of now has no such operator.
    Dropped,
}

/// Where each source of a query goes on, by the name of its table; nothing for a query that never ran.
pub(super) fn positions(spec: &QuerySpec) -> Result<Vec<(String, Offset)>> {
    let Some((batch, entry)) = OffsetLog::open(&spec.checkpoint)?.latest()? else { return Ok(Vec::new()) };
    let (_, last_commit) = numbers_of_logs(&spec.checkpoint)?;
    let ranges = if Some(batch) <= last_commit { &entry.ends } else { &entry.starts };
    let stages = spec.plan.source_stages.iter().zip(ranges);
    let name = |stage: &SourceStage| spec.plan.sources[stage.source].name.clone();
    Ok(stages.filter_map(|(stage, position)| Some((name(stage), position.clone()?))).collect())
}

/// Reads a checkpoint and compares it with the query of now.
pub(super) fn checkpoint_outlook(spec: &QuerySpec) -> Result<CheckpointOutlook> {
    let (checkpoint, now) = (&spec.checkpoint, identity_of(spec)?);
    let mut outlook = CheckpointOutlook {
        location: checkpoint.location().to_owned(),
        last_commit: None,
        next: "starts over with batch 0".to_owned(),
        operators: now.operators.keys().map(|id| fate(id, OperatorFate::New)).collect(),
        refusal: None,
    };
    let Some(metadata) = Metadata::read(checkpoint)? else { return Ok(outlook) };
    let (last_offsets, last_commit) = numbers_of_logs(checkpoint)?;
    let last = OffsetLog::open(checkpoint)?.latest()?;
    outlook.last_commit = last_commit;
    let comparison = Comparison::of(spec, metadata, last.as_ref(), last_commit)?;
    let keeps_state = !now.operators.is_empty() && !comparison.metadata.operators.is_empty();
    let facts = Facts {
        last_offsets,
        last_commit,
        sink: SinkToken::Unsupported,
        state: if keeps_state { Some(StateVersions::read(checkpoint)?) } else { None },
    };
    let plan = plan_recovery(&facts).map_err(|error| error.explain(&spec.name, checkpoint.location()))?;
    outlook.next = plan.describe();
    let rebuild = comparison.rebuild(plan.next);
    match &rebuild {
        Ok(step @ RebuildStep::GoOn(_)) if step.empties(plan.next) => {
            outlook.next.push_str(", which computes its state anew");
        }
        Ok(RebuildStep::GoOn(_)) => outlook.next.push_str(", which goes on computing its state anew"),
        Ok(RebuildStep::Begin { gives_up: true, .. }) => {
            outlook.next = format!("gives up batch {} and computes its state anew", plan.next.batch());
        }
        _ => {}
    }
    let rebuilds = spec.change.rebuild || !matches!(rebuild, Ok(RebuildStep::None) | Err(_));
    outlook.operators = operator_fates(&comparison.changes, rebuilds, plan.next.batch());
    if let Err(error) = comparison.metadata.refuse_another(checkpoint, &now) {
        outlook.refusal = Some((error.to_string(), error.next_step().unwrap_or(START_OVER).to_owned()));
        return Ok(outlook);
    }
    let refusal = last.as_ref().and_then(|(_, last)| other_sources(&spec.plan, last));
    let refusal = refusal.or_else(|| comparison.refusal()).or_else(|| rebuild.err());
    outlook.refusal = refusal.map(|refusal| (refusal.message, refusal.help));
    Ok(outlook)
}

fn fate(id: &str, fate: OperatorFate) -> OperatorOutlook {
    OperatorOutlook { id: id.to_owned(), fate, notes: Vec::new() }
}

/// The fate of each operator of the query and of the checkpoint, when `batch` is the next.
fn operator_fates(changes: &IdentityChanges, rebuilds: bool, batch: BatchId) -> Vec<OperatorOutlook> {
    let of_now = |fate: OperatorFate| if rebuilds { OperatorFate::Rebuilt } else { fate };
    let each = |ids: &[String], what: OperatorFate| ids.iter().map(|id| fate(id, what)).collect::<Vec<_>>();
    let mut fates = each(&changes.kept, of_now(OperatorFate::Kept));
    for (id, notes) in &changes.evolved {
        let notes = notes.iter().filter(|_| !rebuilds).map(|note| note.describe(batch)).collect();
        fates.push(OperatorOutlook { notes, ..fate(id, of_now(OperatorFate::Migrated)) });
    }
    for (id, why) in &changes.changed {
        let notes = if rebuilds { Vec::new() } else { vec![why.clone()] };
        fates.push(OperatorOutlook { notes, ..fate(id, of_now(OperatorFate::Changed)) });
    }
    fates.extend(each(&changes.added, of_now(OperatorFate::New)));
    fates.extend(each(&changes.removed, OperatorFate::Dropped));
    fates
}
