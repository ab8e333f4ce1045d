//! The query of now beside the one its checkpoint was written with: one answer for a start and for `dry-run`.
//!
//! Stateful operators are told apart by their lasting names and by what their state rows are made of. From there:
//!
//! | the operator | its state |
//! |---|---|
//! | is as it was | kept |
//! | has wider types, other functions, other kept columns | kept, each part of it (`operator/layout/evolve.rs`) |
//! | is new | begins empty, with what comes next, unless it would take back rows of an operator that is not new |
//! | has anything else | does not fit: refused, or all of the query's state is rebuilt from its input |
//! | is gone | would be dropped: refused, or dropped, or rebuilt with the others |
//!
//! Filters, columns and expressions are no operators: they hold from the next batch on, except where rows that are there
//! may be taken back by them. Nothing that is lost for good
//! is lost without being asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::execution::QuerySpec;
use super::rebuild::{Part, Rebuild, RebuildStep};
use super::state_reader::write_tables;
use crate::checkpoint::metadata::histories_of;
use crate::checkpoint::{CheckpointDir, IdentityChanges, Metadata, OffsetLogEntry, QueryIdentity, Step};
use crate::error::{EngineError, Result};
use crate::operator::layout::History;
use crate::plan::streaming::{OperatorStage, StreamingPlan};
use crate::sink::BatchId;
use crate::source::Offset;

/// The key of an entry's `conf` that says the batch is part of a rebuild of all state; its value are the operators, as
/// JSON.
pub(super) const REBUILDS: &str = "rebuilds state of";

/// The key of such an entry's `conf` that has the layouts of the operators' rows, as JSON.
const REBUILT_LAYOUTS: &str = "layouts of that state";

/// The key of such an entry's `conf` that has what the operators' keys are made of, as JSON.
const REBUILT_KEYS: &str = "keys of that state";

/// The way out for a query that is another one now.
pub(super) const START_OVER: &str = "give the query another name or another --storage, so that it starts over";

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

/// Why a query may not go on, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) help: String,
}

impl Refusal {
    fn new(message: String, help: &str) -> Self {
        Self { message, help: help.to_owned() }
    }
}

/// How a query stands to its checkpoint.
pub(super) struct Comparison {
    /// The checkpoint's; its operators are those that its state is of.
    pub(super) metadata: Metadata,
    pub(super) identity: QueryIdentity,
    pub(super) changes: IdentityChanges,
    /// The rebuild that the newest batch is part of, if it is not known to be whole.
    under_way: Option<UnderWay>,
    /// Whether all state is to be built anew now.
    wants_rebuild: bool,
    policy: ChangePolicy,
}

/// A rebuild that was begun.
struct UnderWay {
    rebuild: Rebuild,
    /// Whether nothing but the end of its last batch is missing.
    is_last: bool,
    /// Whether it makes the state of the query of now, and all of it so far.
    is_ours: bool,
}

impl Comparison {
    /// `last` is the newest entry of the offset log: if it is a rebuild, it settles what the state is of, because the
    /// process may have ended between the batch and the note of it in the metadata.
    pub(super) fn of(
        spec: &QuerySpec,
        mut metadata: Metadata,
        last: Option<&(BatchId, OffsetLogEntry)>,
        last_commit: Option<BatchId>,
    ) -> Result<Self> {
        let identity = identity_of(spec)?;
        let void = metadata.void_batch;
        if let Some((_, entry)) = last.filter(|(_, entry)| entry.conf.contains_key(REBUILDS)) {
            let (operators, layouts) = (rebuilt_part(entry, REBUILDS)?, rebuilt_part(entry, REBUILT_LAYOUTS)?);
            metadata.take_rebuilt(operators, layouts, rebuilt_part(entry, REBUILT_KEYS)?);
        }
        let changes = metadata.changes(&identity);
        let wants_rebuild = spec.change.rebuild && !spec.plan.operators.is_empty() && last_commit.is_some();
        let mut under_way = None;
        if let Some((batch, entry)) = last
            && let Some(rebuild) = Rebuild::of(*batch, entry)?
        {
            let is_last = rebuild.part(entry) == Part::Last;
            let is_void = void == Some(*batch);
            let is_ours = changes.is_empty() && rebuild.is_of(&spec.plan) && !is_void;
            let is_whole = is_last && Some(*batch) <= last_commit && !is_void;
            under_way = Some(UnderWay { rebuild, is_last: is_last && !is_void, is_ours }).filter(|_| !is_whole);
        }
        Ok(Self { metadata, identity, changes, under_way, wants_rebuild, policy: spec.change })
    }

    /// Why the operators of now may not go on from the state there is.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        if self.is_rebuilt() { None } else { self.misfit() }
    }

    /// Whether the state there is will not be gone on from; what is under way is certain only with the next step.
    pub(super) fn is_rebuilt(&self) -> bool {
        self.policy.rebuild || self.under_way.is_some()
    }

    fn misfit(&self) -> Option<Refusal> {
        if let Some((id, why)) = self.changes.changed.first() {
            let message = format!("the state of operator '{id}' does not fit: {why}");
            let help = "run with --rebuild QUERY, which computes all its state anew from the input since its start, or \
                        give the query another name or another --storage, so that it starts over";
            return Some(Refusal::new(message, help));
        }
        let id = self.changes.removed.first().filter(|_| !self.policy.drop_state)?;
        let message = format!("the checkpoint has state of operator '{id}', which the query no longer has");
        Some(Refusal::new(
            message,
            "run with --drop-state QUERY to forget it for good, or go back to the query as it was",
        ))
    }

    /// What a start that does `next` first does about rebuilds, or why it has to wait. A rebuild that was begun goes on, and
    /// begins anew for a query that is another one by now; one that is asked for reads what is done, and not the batch that a
    /// killed process was in.
    pub(super) fn rebuild(&self, next: Step) -> Result<RebuildStep, Refusal> {
        let replays = matches!(next, Step::Replay { .. });
        if let Some(under_way) = self.under_way.as_ref().filter(|under_way| replays || !under_way.is_last) {
            if self.identity.operators.is_empty() {
                let message = "it keeps no state any more, while a rebuild of its state is under way".to_owned();
                return Err(Refusal::new(message, START_OVER));
            }
            return Ok(if under_way.is_ours {
                RebuildStep::GoOn(under_way.rebuild.clone())
            } else {
                RebuildStep::Begin { until: Some(under_way.rebuild.until.clone()), gives_up: replays }
            });
        }
        if !self.wants_rebuild {
            let misfit = if self.policy.rebuild { None } else { self.misfit() };
            return misfit.map_or(Ok(RebuildStep::None), Err);
        }
        if replays {
            let message = "it cannot be rebuilt while a batch of it is under way".to_owned();
            let help = "start it once as it was before the change, with --trigger once, so that the batch is finished";
            return Err(Refusal::new(message, help));
        }
        Ok(RebuildStep::Begin { until: None, gives_up: false })
    }

    /// What the query goes on with. `is_emptied` says that no state is kept.
    pub(super) fn standing(self, is_emptied: bool, rebuild: RebuildStep) -> Standing {
        let kept = if is_emptied { BTreeMap::new() } else { self.changes.histories };
        let Self { metadata, identity, .. } = self;
        Standing { metadata, identity, kept, rebuild }
    }
}

/// A value of a rebuild's entry; nothing if an earlier version wrote it, which had none.
fn rebuilt_part<T: DeserializeOwned>(entry: &OffsetLogEntry, key: &str) -> Result<BTreeMap<String, T>> {
    let Some(text) = entry.conf.get(key) else { return Ok(BTreeMap::new()) };
    serde_json::from_str(text).map_err(|error| {
        EngineError::data("the offset log has a rebuild of operators that cannot be read").caused_by(error)
    })
}

/// Who a running query is in its checkpoint, and what is to be written down of it.
pub(super) struct Standing {
    metadata: Metadata,
    identity: QueryIdentity,
    /// The layouts of operators whose state is kept.
    kept: BTreeMap<String, History>,
    rebuild: RebuildStep,
}

impl Standing {
    /// The query's lasting id.
    pub(super) fn id(&self) -> &str {
        &self.metadata.id
    }

    /// What is to be done about rebuilds before anything else; done once.
    pub(super) fn take_rebuild(&mut self) -> RebuildStep {
        std::mem::replace(&mut self.rebuild, RebuildStep::None)
    }

    /// Whether the batch under way is part of a rebuild that nobody wants any more.
    pub(super) fn gives_up(&self) -> bool {
        matches!(self.rebuild, RebuildStep::Begin { gives_up: true, .. })
    }

    /// Writes down that the state after the batch under way is no query's, if it is given up.
    pub(super) fn give_up(&mut self, checkpoint: &CheckpointDir, batch: BatchId) -> Result<()> {
        if self.gives_up() { self.metadata.record_void(checkpoint, batch) } else { Ok(()) }
    }

    /// The layouts that rows of an operator may be in.
    pub(super) fn history(&self, id: &str) -> Option<Arc<History>> {
        histories_of(&self.identity, &self.kept).remove(id).map(Arc::new)
    }

    /// Where the first batch began, by source.
    pub(super) fn first_offsets(&self) -> Option<&Vec<Offset>> {
        self.metadata.first_offsets.as_ref()
    }

    /// Writes down where the first batch begins.
    pub(super) fn record_first_offsets(&mut self, checkpoint: &CheckpointDir, offsets: &[Offset]) -> Result<()> {
        if self.first_offsets().is_some_and(|known| known == offsets) {
            return Ok(());
        }
        self.metadata.record_first_offsets(checkpoint, offsets)
    }

    /// Writes down what the state is of from now on: before the first row of it, or with the end of a rebuild.
    pub(super) fn record(&mut self, stages: &[OperatorStage], checkpoint: &CheckpointDir) -> Result<()> {
        self.metadata.record_operators(checkpoint, &self.identity, &self.kept)?;
        self.describe(stages, None, checkpoint)
    }

    /// Writes down what the tables of the state mean, from a batch on or as it was.
    pub(super) fn describe(
        &self,
        stages: &[OperatorStage],
        since: Option<BatchId>,
        checkpoint: &CheckpointDir,
    ) -> Result<()> {
        let histories = histories_of(&self.identity, &self.kept);
        if stages.is_empty() { Ok(()) } else { write_tables(stages, &histories, since, checkpoint) }
    }

    /// Says in an entry of the offset log that its batch is part of a rebuild of all state.
    pub(super) fn mark_rebuild(&self, entry: &mut OffsetLogEntry) -> Result<()> {
        let written = |error| EngineError::internal("operators as JSON").caused_by(error);
        let operators = serde_json::to_string(&self.identity.operators).map_err(written)?;
        let layouts = serde_json::to_string(&histories_of(&self.identity, &self.kept)).map_err(written)?;
        let keys = serde_json::to_string(&self.identity.keys).map_err(written)?;
        let parts = [(REBUILDS, operators), (REBUILT_LAYOUTS, layouts), (REBUILT_KEYS, keys)];
        entry.conf.extend(parts.map(|(key, value)| (key.to_owned(), value)));
        Ok(())
    }
}

/// What the query of now says about itself.
pub(super) fn identity_of(spec: &QuerySpec) -> Result<QueryIdentity> {
    let (mut operators, mut layouts, mut keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (at, stage) in spec.plan.operators.iter().enumerate() {
        let id = stage.spec.id().to_owned();
        layouts.extend(stage.spec.layout()?.map(|layout| (id.clone(), layout.taking_back(spec.plan.given_to(at)))));
        keys.insert(id.clone(), spec.plan.keys_of(at));
        operators.insert(id, stage.spec.fingerprint());
    }
    let (query_name, target) = (spec.name.clone(), spec.target_description.clone());
    Ok(QueryIdentity { query_name, target, operators, layouts, keys })
}

/// What must stay the same for the life of the checkpoint, as the entries of its offset log have it.
pub(super) fn conf_of(plan: &StreamingPlan) -> BTreeMap<String, String> {
    plan.source_names().into_iter().enumerate().map(|(index, name)| (format!("source {index}"), name)).collect()
}

/// Why a query may not go on after a batch: it reads other sources.
pub(super) fn other_sources(plan: &StreamingPlan, last: &OffsetLogEntry) -> Option<Refusal> {
    let now = conf_of(plan);
    let changed = |(key, name): (&String, &String)| {
        let known = last.conf.get(key).filter(|known| *known != name)?;
        Some(format!("{key} is '{name}', but its checkpoint was written with '{known}'"))
    };
    now.iter().find_map(changed).map(|message| Refusal::new(message, START_OVER))
}
