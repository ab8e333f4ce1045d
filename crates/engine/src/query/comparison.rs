//! The query of now beside the one its checkpoint was written with: one answer for a start and for `dry-run`.
//!
//! Stateful operators are told apart by their lasting names and by what their state rows are made of. From there:
//!
//! | the operator | its state |
//! |---|---|
//! | is as it was | kept |
//! | has wider types, other functions, other kept columns | kept, each part of it (`operator/layout/evolve.rs`) |
//! | is new | begins empty, with what comes next |
//! | has anything else | does not fit: refused, or all of the query's state is rebuilt from its input |
//! | is gone | would be dropped: refused, or dropped, or rebuilt with the others |
//!
//! Filters, columns and expressions are no operators: they hold from the next batch on. Nothing that is lost for good
//! is lost without being asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::execution::QuerySpec;
use super::state_reader::write_tables;
use crate::checkpoint::metadata::histories_of;
use crate::checkpoint::{CheckpointDir, IdentityChanges, Metadata, OffsetLogEntry, QueryIdentity, Step};
use crate::error::{EngineError, Result};
use crate::operator::layout::History;
use crate::plan::streaming::{OperatorStage, StreamingPlan};
use crate::sink::BatchId;
use crate::source::Offset;

/// The key of an entry's `conf` that says the batch builds all state anew; its value are the operators, as JSON.
pub(super) const REBUILDS: &str = "rebuilds state of";

/// The key of such an entry's `conf` that has the layouts of the operators' rows, as JSON.
const REBUILT_LAYOUTS: &str = "layouts of that state";

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
    /// Whether the newest batch, done or under way, is one that builds all state anew.
    pub(super) is_rebuild: bool,
    /// Whether all state is to be built anew now.
    pub(super) wants_rebuild: bool,
    policy: ChangePolicy,
}

impl Comparison {
    /// `last` is the newest entry of the offset log: if it is a rebuild, it settles what the state is of, because the
    /// process may have ended between the batch and the note of it in the metadata.
    pub(super) fn of(
        spec: &QuerySpec,
        mut metadata: Metadata,
        last: Option<&OffsetLogEntry>,
        last_commit: Option<BatchId>,
    ) -> Result<Self> {
        let identity = identity_of(spec)?;
        let rebuilt = last.filter(|entry| entry.conf.contains_key(REBUILDS));
        if let Some(entry) = rebuilt {
            metadata.take_rebuilt(rebuilt_part(entry, REBUILDS)?, rebuilt_part(entry, REBUILT_LAYOUTS)?);
        }
        let changes = metadata.changes(&identity);
        let wants_rebuild = spec.change.rebuild && !spec.plan.operators.is_empty() && last_commit.is_some();
        let is_rebuild = rebuilt.is_some();
        Ok(Self { metadata, identity, changes, is_rebuild, wants_rebuild, policy: spec.change })
    }

    /// Why the operators of now may not go on from the state there is.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        if self.policy.rebuild {
            return None;
        }
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

    /// Whether the next step is a rebuild that a killed process was in.
    pub(super) fn finishes_rebuild(&self, next: Step) -> bool {
        self.is_rebuild && matches!(next, Step::Replay { .. })
    }

    /// Why the query has to be finished as it was first. A rebuild that is asked for reads what is done, and not the
    /// batch that a killed process was in; one that was begun is written down with the layouts it was begun with.
    pub(super) fn is_under_way(&self, next: Step) -> Option<Refusal> {
        let replays_other = matches!(next, Step::Replay { .. }) && !self.is_rebuild;
        if self.wants_rebuild && replays_other {
            let message = "it cannot be rebuilt while a batch of it is under way".to_owned();
            let help = "start it once as it was before the change, with --trigger once, so that the batch is finished";
            return Some(Refusal::new(message, help));
        }
        let id = self.changes.evolved.keys().next().filter(|_| self.finishes_rebuild(next) && !self.policy.rebuild)?;
        let message = format!("operator '{id}' was changed again while the rebuild of its state is under way");
        let help = "start it once as it was when the rebuild was asked for, or run with --rebuild QUERY again";
        Some(Refusal::new(message, help))
    }

    /// What the query goes on with. `is_emptied` says that no state is kept.
    pub(super) fn standing(self, is_emptied: bool) -> Standing {
        let kept = if is_emptied { BTreeMap::new() } else { self.changes.histories };
        let Self { metadata, identity, wants_rebuild, .. } = self;
        Standing { metadata, identity, kept, wants_rebuild }
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
    wants_rebuild: bool,
}

impl Standing {
    /// The query's lasting id.
    pub(super) fn id(&self) -> &str {
        &self.metadata.id
    }

    /// Whether all state is to be built anew before anything else.
    pub(super) fn wants_rebuild(&self) -> bool {
        self.wants_rebuild
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
        if stages.is_empty() { Ok(()) } else { write_tables(stages, checkpoint) }
    }

    /// Says in an entry of the offset log that its batch builds all state anew.
    pub(super) fn mark_rebuild(&self, entry: &mut OffsetLogEntry) -> Result<()> {
        let written = |error| EngineError::internal("operators as JSON").caused_by(error);
        let operators = serde_json::to_string(&self.identity.operators).map_err(written)?;
        let layouts = serde_json::to_string(&histories_of(&self.identity, &self.kept)).map_err(written)?;
        entry.conf.extend([(REBUILDS.to_owned(), operators), (REBUILT_LAYOUTS.to_owned(), layouts)]);
        Ok(())
    }
}

/// What the query of now says about itself.
pub(super) fn identity_of(spec: &QuerySpec) -> Result<QueryIdentity> {
    let (mut operators, mut layouts) = (BTreeMap::new(), BTreeMap::new());
    for stage in &spec.plan.operators {
        let id = stage.spec.id().to_owned();
        layouts.extend(stage.spec.layout()?.map(|layout| (id.clone(), layout)));
        operators.insert(id, stage.spec.fingerprint());
    }
    let (query_name, target) = (spec.name.clone(), spec.target_description.clone());
    Ok(QueryIdentity { query_name, target, operators, layouts })
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
