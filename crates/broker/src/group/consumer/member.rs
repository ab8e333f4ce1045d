//! One member: what it subscribes to, what it has, and how far it is towards what it should have.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::assignor::Assignor;
use super::message::{Assignment, Heartbeat, JOIN};
use super::subscription::Pattern;

/// How far a member is; the states of KIP-848.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum MemberState {
    /// It has what it should have, as of its epoch.
    #[default]
    Stable,
    /// It was told to give something up and has not said that it did.
    Unrevoked,
    /// It waits for partitions that others have not given up.
    Unreleased,
}

/// A member of a consumer group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) instance: Option<String>,
    /// Told to those who ask; assignments take no account of it.
    pub(crate) rack: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i64,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) assignor: Option<Assignor>,
    /// The topics there are of those it subscribes to.
    pub(crate) subscribed: Arc<BTreeSet<Uuid>>,
    pub(crate) epoch: i32,
    /// The epoch before: the answer that named the new one may have been lost.
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    /// What it may have.
    pub(crate) assigned: Assignment,
    /// What it was told to give up, and still has for all that is known.
    pub(crate) revoking: Assignment,
    /// When it is thrown out unless it is heard of.
    pub(crate) session_deadline_ms: i64,
    /// When it is thrown out unless it has given up what it should.
    pub(crate) rebalance_deadline_ms: Option<i64>,
}

impl Member {
    /// Takes over what the heartbeat tells of the member; whether its subscription is another now.
    /// A pattern comes compiled: `None` if the heartbeat says nothing of it.
    pub(super) fn update(&mut self, beat: &Heartbeat, pattern: Option<Option<Pattern>>) -> bool {
        self.client_id.clone_from(&beat.client_id);
        self.client_host.clone_from(&beat.client_host);
        if beat.instance.is_some() {
            self.instance.clone_from(&beat.instance);
        }
        if beat.rack.is_some() {
            self.rack.clone_from(&beat.rack);
        }
        if let Some(timeout_ms) = beat.rebalance_timeout_ms {
            self.rebalance_timeout_ms = timeout_ms.max(0).into();
        }
        if let Some(assignor) = beat.assignor.as_deref() {
            self.assignor = Assignor::named(assignor);
        }
        let mut changed = false;
        if let Some(topics) = beat.topics.as_ref().filter(|topics| **topics != self.topics) {
            self.topics.clone_from(topics);
            changed = true;
        }
        if let Some(pattern) = pattern
            && pattern.as_ref().map(Pattern::identity) != self.pattern.as_ref().map(Pattern::identity)
        {
            self.pattern = pattern;
            changed = true;
        }
        changed
    }

    /// Whether a heartbeat with this epoch may come from the member: the epoch it has, or the one
    /// before if it has nothing it should not; or it starts anew and has nothing at all.
    pub(super) fn accepts(&self, epoch: i32, owned: Option<&Assignment>) -> bool {
        let within = |owned: &Assignment| difference(owned, &self.assigned).is_empty();
        epoch == JOIN || epoch == self.epoch || (epoch == self.previous_epoch && owned.is_some_and(within))
    }

    pub(super) fn next_deadline_ms(&self) -> i64 {
        self.rebalance_deadline_ms.map_or(self.session_deadline_ms, |until| until.min(self.session_deadline_ms))
    }
}

pub(super) fn contains(assignment: &Assignment, topic: Uuid, partition: i32) -> bool {
    assignment.get(&topic).is_some_and(|partitions| partitions.contains(&partition))
}

/// Those of `of` that are not in `without`.
pub(super) fn difference(of: &Assignment, without: &Assignment) -> Assignment {
    filter(of, |topic, partition| !contains(without, topic, partition))
}

/// Those of an assignment that pass.
pub(super) fn filter(of: &Assignment, passes: impl Fn(Uuid, i32) -> bool) -> Assignment {
    let kept = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| {
        let kept: BTreeSet<i32> = partitions.iter().copied().filter(|partition| passes(*topic, *partition)).collect();
        (!kept.is_empty()).then_some((*topic, kept))
    };
    of.iter().filter_map(kept).collect()
}

/// Adds one assignment to another.
pub(super) fn extend(assignment: &mut Assignment, more: Assignment) {
    for (topic, partitions) in more {
        assignment.entry(topic).or_default().extend(partitions);
    }
}
