//! The query of now beside the one its checkpoint was written with: one answer for a start and for `dry-run`.
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
//! is lost without being asked for. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet};

use super::execution::QuerySpec;
use crate::checkpoint::{IdentityChanges, Metadata, OffsetLogEntry, QueryIdentity, Step};
use crate::error::{EngineError, Result};
use crate::plan::streaming::StreamingPlan;
use crate::sink::BatchId;

/// The key of an entry's `conf` that says the batch builds all state anew; its value are the operators, as JSON.
pub(super) const REBUILDS: &str = "rebuilds state of";

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
        let rebuilt = last.and_then(|entry| entry.conf.get(REBUILDS));
        if let Some(operators) = rebuilt {
            metadata.operators = serde_json::from_str(operators).map_err(|error| {
                EngineError::data("the offset log has a rebuild of operators that cannot be read").caused_by(error)
            })?;
        }
        let changes = metadata.changes(&identity_of(spec));
        let wants_rebuild = spec.change.rebuild && !spec.plan.operators.is_empty() && last_commit.is_some();
        Ok(Self { metadata, changes, is_rebuild: rebuilt.is_some(), wants_rebuild, policy: spec.change })
    }

    /// Why the operators of now may not go on from the state there is.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        if self.policy.rebuild {
            return None;
        }
        if let Some(id) = self.changes.changed.first() {
            let message = format!("the state of operator '{id}' does not fit its new keys or functions");
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

    /// Why a rebuild that is asked for has to wait: it reads what is done, and not the batch that a killed process was
    /// in.
    pub(super) fn is_under_way(&self, next: Step) -> Option<Refusal> {
        let replays_other = matches!(next, Step::Replay { .. }) && !self.is_rebuild;
        (self.wants_rebuild && replays_other).then(|| {
            let message = "it cannot be rebuilt while a batch of it is under way".to_owned();
            let help = "start it once as it was before the change, with --trigger once, so that the batch is finished";
            Refusal::new(message, help)
        })
    }
}

/// What the query of now says about itself.
pub(super) fn identity_of(spec: &QuerySpec) -> QueryIdentity {
    let operators = spec.plan.operators.iter().map(|stage| (stage.spec.id().to_owned(), stage.spec.fingerprint()));
    QueryIdentity {
        query_name: spec.name.clone(),
        target: spec.target_description.clone(),
        operators: operators.collect(),
    }
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
