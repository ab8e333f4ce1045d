//! The consumer-group coordinator: a pure state machine.
//!
//! ```text
//!                 join                     all joined, or time is up
//!   Empty ──────────────> PreparingRebalance ──────────────> CompletingRebalance
//!     ▲                     ▲      ▲                               │
//!     │ last member gone    │      └── join, leave, expiry ────────┤ leader syncs
//!     └─────────────────────┤                                      ▼
//!                           └───── join, leave, expiry ───────── Stable
//! ```
//!
//! (<https://cwiki.apache.org/confluence/display/KAFKA/Kafka+Client-side+Assignment+Proposal>, with
//! static members from KIP-345 and required member ids from KIP-394.) Requests and the time come
//! in, replies go out; there is no clock, no socket and no randomness here. A request that has to
//! wait is known by its [`Token`], and the reply to it may come out of any later call. So every
//! behaviour is a table of calls in a test.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::member::{Group, GroupState, Member};
use super::message::{Caller, Join, JoinRefused, Limits, Replies, Reply, Sync, Token};
use super::rebalance::{answer_syncs, assign, joined, rebalance, remove_member, tick_group, try_complete_join};

/// Every group of the broker.
#[derive(Debug)]
pub(crate) struct Coordinator {
    limits: Limits,
    groups: BTreeMap<String, Group>,
}

impl Coordinator {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, groups: BTreeMap::new() }
    }

    pub(crate) fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = (&String, &Group)> {
        self.groups.iter()
    }

    /// A member joins. The reply comes now or with a later call.
    pub(crate) fn join(&mut self, now_ms: i64, token: Token, join: Join) -> Replies {
        let mut replies = Replies::new();
        let member = join.member.clone();
        if let Err(error) = self.try_join(now_ms, token, join, &mut replies) {
            replies.push(Reply::Joined(token, Err(JoinRefused { error, member })));
        }
        replies
    }

    fn try_join(&mut self, now: i64, token: Token, join: Join, replies: &mut Replies) -> Result<(), ResponseError> {
        self.check_join(&join)?;
        let limits = self.limits;
        let group = self.groups.entry(join.group.clone()).or_default();
        if !group.accepts(&join.protocol_type, &join.protocols) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if !join.member.is_empty() {
            return rejoin(group, &limits, now, token, join, replies);
        }
        if let Some(old) = join.instance.as_ref().and_then(|instance| group.instances.get(instance)).cloned() {
            replace_static(group, &limits, now, token, &old, join, replies);
            return Ok(());
        }
        if group.members.len() + group.pending.len() >= limits.max_members {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        if join.must_know_member && join.instance.is_none() {
            group.pending.insert(join.new_member.clone(), now + i64::from(join.session_timeout_ms));
            let refused = JoinRefused { error: ResponseError::MemberIdRequired, member: join.new_member };
            replies.push(Reply::Joined(token, Err(refused)));
            return Ok(());
        }
        let id = join.new_member.clone();
        add_member(group, &limits, now, token, id, join, replies);
        Ok(())
    }

    fn check_join(&self, join: &Join) -> Result<(), ResponseError> {
        let session = self.limits.min_session_timeout_ms..=self.limits.max_session_timeout_ms;
        if join.group.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if !session.contains(&join.session_timeout_ms) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if self.groups.contains_key(&join.group) {
            return Ok(());
        }
        if !join.member.is_empty() {
            return Err(ResponseError::UnknownMemberId);
        }
        if self.groups.len() >= self.limits.max_groups {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// A member asks for its assignment; the leader brings everybody's.
    pub(crate) fn sync(&mut self, now_ms: i64, token: Token, sync: Sync) -> Replies {
        let mut replies = Replies::new();
        if let Err(error) = self.try_sync(now_ms, token, sync, &mut replies) {
            replies.push(Reply::Synced(token, Err(error)));
        }
        replies
    }

    fn try_sync(&mut self, now: i64, token: Token, sync: Sync, replies: &mut Replies) -> Result<(), ResponseError> {
        let caller = Caller {
            group: &sync.group,
            member: &sync.member,
            instance: sync.instance.as_deref(),
            generation: sync.generation,
        };
        let group = self.checked(caller)?;
        let differs = |asked: &Option<String>, has: &str| asked.as_deref().is_some_and(|asked| asked != has);
        let protocol = group.protocol.clone().unwrap_or_default();
        if differs(&sync.protocol_type, &group.protocol_type) || differs(&sync.protocol, &protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match group.state {
            GroupState::Empty => return Err(ResponseError::UnknownMemberId),
            GroupState::PreparingRebalance => return Err(ResponseError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => {}
        }
        let is_leader = group.leader.as_deref() == Some(&sync.member);
        if let Some(member) = group.members.get_mut(&sync.member) {
            if let Some(older) = member.sync.replace(token) {
                replies.push(Reply::Synced(older, Err(ResponseError::RebalanceInProgress)));
            }
            member.heard_of(now);
        }
        group.unsynced.remove(&sync.member);
        if group.unsynced.is_empty() {
            group.deadline_ms = None;
        }
        if group.state == GroupState::CompletingRebalance && is_leader {
            assign(group, sync.assignments);
        }
        if group.state == GroupState::Stable {
            answer_syncs(group, now, replies);
        }
        Ok(())
    }

    /// A member says it is alive.
    pub(crate) fn heartbeat(&mut self, now_ms: i64, caller: Caller<'_>) -> Result<(), ResponseError> {
        let group = self.checked(caller)?;
        if let Some(member) = group.members.get_mut(caller.member) {
            member.heard_of(now_ms);
        }
        match group.state {
            GroupState::Empty => Err(ResponseError::UnknownMemberId),
            GroupState::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// Whether offsets may be committed. A generation below zero is a commit from outside the
    /// group, which only a group without members takes.
    pub(crate) fn check_commit(&mut self, now_ms: i64, caller: Caller<'_>) -> Result<(), ResponseError> {
        let has_members = self.groups.get(caller.group).map(|group| !group.members.is_empty());
        match has_members {
            None | Some(false) if caller.generation < 0 => return Ok(()),
            None => return Err(ResponseError::IllegalGeneration),
            Some(_) if caller.generation < 0 && caller.member.is_empty() && caller.instance.is_none() => {
                return Err(ResponseError::UnknownMemberId);
            }
            Some(_) => {}
        }
        let group = self.checked(caller)?;
        if group.state == GroupState::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        if let Some(member) = group.members.get_mut(caller.member) {
            member.heard_of(now_ms);
        }
        Ok(())
    }

    /// The group, if the caller is a member of its current generation.
    fn checked(&mut self, caller: Caller<'_>) -> Result<&mut Group, ResponseError> {
        if caller.group.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let group = self.groups.get_mut(caller.group).ok_or(ResponseError::UnknownMemberId)?;
        check_member(group, caller.member, caller.instance)?;
        if caller.generation != group.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(group)
    }

    /// A member leaves, by its id or (a static one) by its instance.
    pub(crate) fn leave(
        &mut self,
        now_ms: i64,
        group: &str,
        member: &str,
        instance: Option<&str>,
    ) -> (Result<(), ResponseError>, Replies) {
        let mut replies = Replies::new();
        let Some(group) = self.groups.get_mut(group) else {
            return (Err(ResponseError::UnknownMemberId), replies);
        };
        if group.pending.remove(member).is_some() {
            try_complete_join(group, now_ms, &mut replies);
            return (Ok(()), replies);
        }
        let by_instance = instance.filter(|_| member.is_empty()).and_then(|instance| group.instances.get(instance));
        let member = by_instance.cloned().unwrap_or_else(|| member.to_owned());
        let checked = check_member(group, &member, instance);
        if checked.is_ok() {
            remove_member(group, now_ms, &member, &mut replies);
        }
        (checked, replies)
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now_ms: i64) -> Replies {
        let mut replies = Replies::new();
        for group in self.groups.values_mut() {
            if group.next_deadline_ms().is_some_and(|deadline| deadline <= now_ms) {
                tick_group(group, now_ms, &mut replies);
            }
        }
        replies
    }

    /// When [`Coordinator::tick`] has something to do.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.groups.values().filter_map(Group::next_deadline_ms).min()
    }

    /// Deletes a group that nobody is in.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), ResponseError> {
        match self.groups.get(name) {
            None => Err(ResponseError::GroupIdNotFound),
            Some(group) if !group.is_idle() => Err(ResponseError::NonEmptyGroup),
            Some(_) => {
                self.groups.remove(name);
                Ok(())
            }
        }
    }

    /// Forgets groups that nobody is in, except those named by `keep` (they have offsets).
    pub(crate) fn forget_idle(&mut self, keep: impl Fn(&str) -> bool) {
        self.groups.retain(|name, group| !group.is_idle() || keep(name));
    }
}

fn check_member(group: &Group, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
    if let Some(instance) = instance {
        let current = group.instances.get(instance).ok_or(ResponseError::UnknownMemberId)?;
        if current != member {
            return Err(ResponseError::FencedInstanceId);
        }
    }
    if group.members.contains_key(member) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
}

fn add_member(
    group: &mut Group,
    limits: &Limits,
    now: i64,
    token: Token,
    id: String,
    join: Join,
    replies: &mut Replies,
) {
    if group.members.is_empty() {
        group.protocol_type = join.protocol_type;
    }
    if let Some(instance) = &join.instance {
        group.instances.insert(instance.clone(), id.clone());
    }
    let member = Member {
        instance: join.instance,
        client_id: join.client_id,
        client_host: join.client_host,
        session_timeout_ms: join.session_timeout_ms.into(),
        rebalance_timeout_ms: join.rebalance_timeout_ms.max(0).into(),
        protocols: join.protocols,
        assignment: Bytes::new(),
        session_deadline_ms: now + i64::from(limits.new_member_join_timeout_ms),
        is_new: true,
        join: Some(token),
        sync: None,
    };
    group.members.insert(id, member);
    // More members of a group that is just starting are likely to follow.
    if let Some(until) = group.first_join_until_ms {
        group.deadline_ms = Some(until.min(now + i64::from(limits.initial_rebalance_delay_ms)));
    }
    rebalance(group, limits, now, replies);
}

/// A member that has an id joins again, or for the first time with the id it was given.
fn rejoin(
    group: &mut Group,
    limits: &Limits,
    now: i64,
    token: Token,
    join: Join,
    replies: &mut Replies,
) -> Result<(), ResponseError> {
    if group.pending.remove(&join.member).is_some() {
        let id = join.member.clone();
        add_member(group, limits, now, token, id, join, replies);
        return Ok(());
    }
    check_member(group, &join.member, join.instance.as_deref())?;
    let is_leader = group.leader.as_deref() == Some(&join.member);
    let id = join.member.clone();
    let Some(member) = group.members.get_mut(&id) else { return Err(ResponseError::UnknownMemberId) };
    let changed = member.protocols != join.protocols;
    member.heard_of(now);
    // An unchanged member that joins a settled generation lost the reply to an earlier join. A
    // leader that joins a stable group wants to assign anew.
    let repeat = match group.state {
        GroupState::CompletingRebalance => !changed,
        GroupState::Stable => !changed && !is_leader,
        GroupState::Empty | GroupState::PreparingRebalance => false,
    };
    if repeat {
        replies.push(Reply::Joined(token, Ok(joined(group, &id))));
        return Ok(());
    }
    wait_for_join(member, token, join, replies);
    rebalance(group, limits, now, replies);
    Ok(())
}

fn wait_for_join(member: &mut Member, token: Token, join: Join, replies: &mut Replies) {
    if let Some(older) = member.join.replace(token) {
        let refused = JoinRefused { error: ResponseError::RebalanceInProgress, member: join.member.clone() };
        replies.push(Reply::Joined(older, Err(refused)));
    }
    member.session_timeout_ms = join.session_timeout_ms.into();
    member.rebalance_timeout_ms = join.rebalance_timeout_ms.max(0).into();
    member.protocols = join.protocols;
    member.client_id = join.client_id;
    member.client_host = join.client_host;
}

/// A static member came back without its id: it takes its old place under a new id, and whoever
/// still uses the old one is fenced.
fn replace_static(
    group: &mut Group,
    limits: &Limits,
    now: i64,
    token: Token,
    old: &str,
    join: Join,
    replies: &mut Replies,
) {
    let id = join.new_member.clone();
    let Some(mut member) = group.members.remove(old) else { return };
    let fenced = JoinRefused { error: ResponseError::FencedInstanceId, member: old.to_owned() };
    replies.extend(member.join.take().map(|older| Reply::Joined(older, Err(fenced))));
    replies.extend(member.sync.take().map(|older| Reply::Synced(older, Err(ResponseError::FencedInstanceId))));
    let was_leader = group.leader.as_deref() == Some(old);
    if was_leader {
        group.leader = Some(id.clone());
    }
    group.instances.extend(join.instance.clone().map(|instance| (instance, id.clone())));
    let skips = join.can_skip_assignment;
    wait_for_join(&mut member, token, join, replies);
    member.heard_of(now);
    group.members.insert(id.clone(), member);
    // A settled group has nothing to settle again while it would choose the same protocol. What
    // stands in the member's subscription does not count: it names what the member owned, and so
    // differs after every restart.
    if group.state != GroupState::Stable || group.elect_protocol() != group.protocol {
        rebalance(group, limits, now, replies);
        return;
    }
    if let Some(member) = group.members.get_mut(&id) {
        member.join = None;
    }
    if group.unsynced.remove(old) {
        group.unsynced.insert(id.clone());
    }
    let mut reply = joined(group, &id);
    if was_leader && skips {
        reply.skip_assignment = true;
    } else if was_leader {
        // An older client that were told it leads would assign; told another leads, it will not.
        reply.leader = old.to_owned();
        reply.members.clear();
    }
    replies.push(Reply::Joined(token, Ok(reply)));
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
