//! Server-side assignors: who should have which partitions.
//!
//! Pure functions of members, their subscriptions, and what they should have had so far. Every
//! partition of a topic that anybody subscribes to goes to exactly one subscriber.

mod range;
mod uniform;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::message::Assignment;

/// The assignors there are; the first is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Assignor {
    /// Equal shares of all partitions, as few moves as possible.
    #[default]
    Uniform,
    /// Neighbouring partitions of each topic; the same ones of each topic to one member.
    Range,
}

impl Assignor {
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignment of each member, in their order.
    pub(super) fn assign(self, members: &[Candidate<'_>], partitions: &BTreeMap<Uuid, i32>) -> Vec<Assignment> {
        match self {
            Self::Uniform => uniform::assign(members, partitions),
            Self::Range => range::assign(members, partitions),
        }
    }
}

/// A member as an assignor sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) id: &'a str,
    pub(super) instance: Option<&'a str>,
    pub(super) topics: &'a BTreeSet<Uuid>,
    /// What it should have had so far.
    pub(super) current: &'a Assignment,
}

/// The members that subscribe to each topic.
fn subscribers(members: &[Candidate<'_>]) -> BTreeMap<Uuid, Vec<usize>> {
    let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        for topic in member.topics {
            subscribers.entry(*topic).or_default().push(at);
        }
    }
    subscribers
}
