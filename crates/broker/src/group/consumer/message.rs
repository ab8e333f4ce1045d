//! What a member of the consumer protocol says and is told, in no protocol version's form.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::assignor::Assignor;
use super::subscription::Reader;
use crate::configs::group::Times;

/// The epoch of a member that joins.
pub(crate) const JOIN: i32 = 0;
/// The epoch of a member that leaves.
pub(crate) const LEAVE: i32 = -1;
/// The epoch of a static member that leaves and will be back.
pub(crate) const LEAVE_FOR_NOW: i32 = -2;

/// Partitions by topic.
pub(crate) type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// The limits of groups, from the settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of groups that have none of their own.
    pub(crate) times: Times,
    pub(crate) max_groups: usize,
    pub(crate) max_members: usize,
    pub(crate) max_regex_bytes: usize,
    pub(crate) max_compiled_regex_bytes: usize,
}

/// A heartbeat. What is absent has not changed since the last one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heartbeat {
    pub(crate) group: String,
    pub(crate) member: String,
    pub(crate) epoch: i32,
    pub(crate) instance: Option<String>,
    pub(crate) rack: Option<String>,
    pub(crate) rebalance_timeout_ms: Option<i32>,
    pub(crate) topics: Option<BTreeSet<String>>,
    /// Empty for none any more.
    pub(crate) regex: Option<String>,
    pub(crate) assignor: Option<String>,
    /// What the member has in its hands.
    pub(crate) owned: Option<Assignment>,
    /// Whose topics the expression finds; `None` where everybody may see everything.
    pub(crate) reader: Option<Reader>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) member: String,
    pub(crate) epoch: i32,
    pub(crate) heartbeat_interval_ms: i32,
    /// Absent when the member knows it.
    pub(crate) assignment: Option<Assignment>,
}

/// What a heartbeat leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Heard(Heard),
    /// Nothing has happened: the group has used up the epochs reserved for it on the disk, or has
    /// none yet. The caller reserves more, grants them, and asks again.
    NeedsEpochs,
}

/// Why a heartbeat was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) error: ResponseError,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

impl Heartbeat {
    /// Whether it makes sense by itself.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let invalid = |message: &str| Err(Refused::new(ResponseError::InvalidRequest, message));
        let is_empty = |text: &Option<String>| text.as_deref() == Some("");
        if self.group.is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if self.member.is_empty() {
            return invalid("MemberId can't be empty.");
        }
        if is_empty(&self.instance) {
            return invalid("InstanceId can't be empty.");
        }
        if is_empty(&self.rack) {
            return invalid("RackId can't be empty.");
        }
        if let Some(assignor) = self.assignor.as_deref().filter(|name| Assignor::named(name).is_none()) {
            let known = Assignor::ALL.map(Assignor::name).join(", ");
            let message = format!("ServerAssignor {assignor} is not supported. Supported assignors: {known}.");
            return Err(Refused::new(ResponseError::UnsupportedAssignor, message));
        }
        match self.epoch {
            JOIN => self.check_join(),
            LEAVE_FOR_NOW if self.instance.is_none() => invalid("InstanceId can't be null."),
            epoch if epoch < LEAVE_FOR_NOW => invalid("MemberEpoch is invalid."),
            _ => Ok(()),
        }
    }

    fn check_join(&self) -> Result<(), Refused> {
        let invalid = |message: &str| Err(Refused::new(ResponseError::InvalidRequest, message));
        if self.rebalance_timeout_ms.is_none() {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        // Empty is fine: a member without topics is a member.
        if self.topics.is_none() && self.regex.is_none() {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
        Ok(())
    }

    /// Whether the member says everything, which it does when it is unsure of what it was told.
    pub(crate) fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.regex.is_some();
        self.epoch == JOIN || (self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some())
    }
}
