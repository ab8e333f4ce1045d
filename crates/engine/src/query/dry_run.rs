//! What a run would find and do: sources and targets looked at, checkpoints compared with the queries of now.
//!
//! ```text
//!   each table of a flow ──probe──> is it there?            changes nothing outside
//!   each checkpoint ──metadata, logs──> next batch, fate of each stateful operator
//! ```
//!
//! `validate` only plans; this also opens what is outside, for reading. Nothing is written, no lock is taken, and a sink
//! is not asked for its token: what it would say may still send a start another way.

use serde::Serialize;

use super::opening::{ChangePolicy, refusal_of};
use super::pipeline::FlowDescription;
use super::view::Upkeep;
use crate::checkpoint::inspect::numbers_of_logs;
use crate::checkpoint::{CheckpointDir, Facts, Metadata, OffsetLog, QueryIdentity, plan_recovery};
use crate::error::{EngineError, Result};
use crate::plan::catalog::Role;
use crate::sink::{BatchId, SinkToken};
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
}

/// The fate of an operator's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorFate {
    /// The query goes on with it.
    Kept,
    /// There is none yet.
    New,
    /// It means something else than the query of now needs.
    Changed,
    /// It is computed anew from the input since the query's start.
    Rebuilt,
    /// The query of now has no such operator.
    Dropped,
}

/// What a flow says about itself, for the comparison.
pub(super) struct FlowIdentity<'a> {
    pub(super) description: &'a FlowDescription,
    /// The source of each offset, by name.
    pub(super) sources: Vec<String>,
    /// What may happen to its state.
    pub(super) change: ChangePolicy,
}

/// Reads a checkpoint and compares it with a flow.
pub(super) fn checkpoint_outlook(checkpoint: &CheckpointDir, flow: &FlowIdentity<'_>) -> Result<CheckpointOutlook> {
    let now = &flow.description.operators;
    let mut outlook = CheckpointOutlook {
        location: checkpoint.location().to_owned(),
        last_commit: None,
        next: "starts over with batch 0".to_owned(),
        operators: now.iter().map(|operator| fate(&operator.id, OperatorFate::New)).collect(),
        refusal: None,
    };
    let Some(metadata) = Metadata::read(checkpoint)? else { return Ok(outlook) };
    let identity = QueryIdentity {
        query_name: flow.description.name.clone(),
        target: flow.description.target.clone(),
        operators: now.iter().map(|operator| (operator.id.clone(), operator.fingerprint.clone())).collect(),
    };
    outlook.operators = operator_fates(&metadata, &identity, flow.change);
    let (last_offsets, last_commit) = numbers_of_logs(checkpoint)?;
    outlook.last_commit = last_commit;
    let is_stateful = !now.is_empty();
    let facts = Facts {
        last_offsets,
        last_commit,
        sink: SinkToken::Unsupported,
        state: if is_stateful && !metadata.operators.is_empty() {
            Some(StateVersions::read(checkpoint)?)
        } else {
            None
        },
    };
    let plan = plan_recovery(&facts).map_err(|error| error.explain(&flow.description.name, checkpoint.location()))?;
    outlook.next = plan.describe();
    outlook.refusal = refusal(checkpoint, &metadata, &identity, flow)?;
    Ok(outlook)
}

fn fate(id: &str, fate: OperatorFate) -> OperatorOutlook {
    OperatorOutlook { id: id.to_owned(), fate }
}

/// The fate of each operator of the query and of the checkpoint.
fn operator_fates(metadata: &Metadata, identity: &QueryIdentity, policy: ChangePolicy) -> Vec<OperatorOutlook> {
    let changes = metadata.changes(identity);
    let of_now = |fate: OperatorFate| if policy.rebuild { OperatorFate::Rebuilt } else { fate };
    let each = |ids: &[String], what: OperatorFate| ids.iter().map(|id| fate(id, what)).collect::<Vec<_>>();
    let mut fates = each(&changes.kept, of_now(OperatorFate::Kept));
    fates.extend(each(&changes.changed, of_now(OperatorFate::Changed)));
    fates.extend(each(&changes.added, of_now(OperatorFate::New)));
    fates.extend(each(&changes.removed, OperatorFate::Dropped));
    fates
}

/// Why the query of now may not go on from the checkpoint.
fn refusal(
    checkpoint: &CheckpointDir,
    metadata: &Metadata,
    identity: &QueryIdentity,
    flow: &FlowIdentity<'_>,
) -> Result<Option<(String, String)>> {
    if let Err(error) = metadata.refuse_another(checkpoint, identity) {
        return Ok(Some(parts(&error)));
    }
    if let Some((_, entry)) = OffsetLog::open(checkpoint)?.latest()? {
        for (index, name) in flow.sources.iter().enumerate() {
            let known = entry.conf.get(&format!("source {index}"));
            if let Some(known) = known.filter(|known| *known != name) {
                let message = format!("source {index} is '{name}', but the checkpoint was written with '{known}'");
                return Ok(Some((message, START_OVER.to_owned())));
            }
        }
    }
    Ok(refusal_of(&metadata.changes(identity), flow.change))
}

const START_OVER: &str = "give the query another name or another --storage, so that it starts over";

fn parts(error: &EngineError) -> (String, String) {
    (error.to_string(), error.next_step().unwrap_or(START_OVER).to_owned())
}
