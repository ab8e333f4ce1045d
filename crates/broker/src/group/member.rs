//! One group and its members: the data of the coordinator, and the questions it asks of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use bytes::Bytes;

use super::message::Token;

/// Where a group stands; the names are Kafka's and are told to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum GroupState {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An assignment protocol a member can follow, and its subscription in that protocol's form.
pub(crate) type Protocol = (String, Bytes);

/// A member that has joined.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i64,
    pub(crate) rebalance_timeout_ms: i64,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// When it is thrown out, unless it is heard of or waits for an answer.
    pub(crate) session_deadline_ms: i64,
    /// In its first join phase. A client that gives up waiting in it leaves nothing behind that
    /// would end its session, so it is thrown out though it waits; one that lives joins again.
    pub(crate) is_new: bool,
    pub(crate) join: Option<Token>,
    pub(crate) sync: Option<Token>,
}

impl Member {
    pub(crate) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// A member that waits for the coordinator is not late, but for a new one.
    fn is_waiting(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    pub(crate) fn can_be_late(&self) -> bool {
        self.is_new || !self.is_waiting()
    }

    pub(crate) fn heard_of(&mut self, now_ms: i64) {
        self.session_deadline_ms = now_ms + self.session_timeout_ms;
    }
}

/// The topics of a subscription as consumers write it: a version, then names with their lengths.
fn subscribed_topics(subscription: &[u8]) -> Option<Vec<&[u8]>> {
    let (_version, rest) = subscription.split_at_checked(2)?;
    let (count, mut rest) = rest.split_first_chunk()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (topic, behind) = behind.split_at_checked(length)?;
        topics.push(topic);
        rest = behind;
    }
    Some(topics)
}

/// A consumer group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) state: GroupState,
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Static members: instance id to member id.
    pub(crate) instances: HashMap<String, String>,
    /// Member ids handed out and not yet used, with when they are forgotten.
    pub(crate) pending: BTreeMap<String, i64>,
    /// Members that have not asked for their assignment in this generation.
    pub(crate) unsynced: BTreeSet<String>,
    /// End of the join phase, or of the wait for those that have not asked.
    pub(crate) deadline_ms: Option<i64>,
    /// Latest end of the first join phase of a group; `None` in later ones.
    pub(crate) first_join_until_ms: Option<i64>,
}

impl Group {
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// Whether a member may read a topic: one whose subscription is not understood may read any.
    pub(crate) fn may_read(&self, topic: &str) -> bool {
        let reads = |(_, subscription): &Protocol| {
            subscribed_topics(subscription).is_none_or(|topics| topics.contains(&topic.as_bytes()))
        };
        self.members.values().any(|member| member.protocols.iter().any(reads))
    }

    pub(crate) fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.join.is_some())
    }

    pub(crate) fn longest_rebalance_ms(&self) -> i64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Whether a joiner shares a protocol with every member.
    pub(crate) fn accepts(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return true;
        }
        let shared = |name: &str| self.members.values().all(|member| member.supports(name));
        protocol_type == self.protocol_type && protocols.iter().any(|(name, _)| shared(name))
    }

    /// The protocol every member supports that most members list first; of equals, the first by
    /// name.
    pub(crate) fn elect_protocol(&self) -> Option<String> {
        let shared = |name: &str| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().map(|(name, _)| name.as_str()).find(|name| shared(name));
            *votes.entry(choice?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// The earliest moment at which the passing of time alone changes something.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        let sessions = self.members.values().filter(|member| member.can_be_late());
        let sessions = sessions.map(|member| member.session_deadline_ms);
        sessions.chain(self.pending.values().copied()).chain(self.deadline_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_read_and_broken_ones_are_not() {
        let whole = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(subscribed_topics(whole), Some(vec![&b"a"[..], b"bc"]));
        for cut in 0..13 {
            assert_eq!(subscribed_topics(&whole[..cut]), None, "cut {cut}");
        }
        assert_eq!(subscribed_topics(b"\0\0\x7f\xff\xff\xff\0\0"), None, "a count that nothing stands behind");
        assert_eq!(subscribed_topics(b"\0\0\0\0\0\x01\xff\xff"), None, "a negative length");
    }
}
