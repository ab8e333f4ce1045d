//! The phases of a rebalance: who is waited for, when it goes on without them, and who is told.
//!
//! ```text
//! rebalance ──> join phase ──> complete_join ──> sync phase ──> assign ──> settled
//!     ▲          ends when all have joined,       ends when the leader has assigned and
//!     │          or at its deadline               all have asked, or at its deadline
//!     └────────── remove_member, tick_group ──────────┘
//! ```
//!
//! Steps of the coordinator's state machine: functions of a group and the time that leave their
//! replies in a list. They decide nothing about who may ask; that is `coordinator.rs`.

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::member::{Group, GroupState, Member};
use super::message::{JoinRefused, Joined, Limits, Replies, Reply, Synced};

/// Starts a join phase, or goes on with the one that runs, and ends it if everybody is there.
pub(super) fn rebalance(group: &mut Group, limits: &Limits, now: i64, replies: &mut Replies) {
    if group.state != GroupState::PreparingRebalance {
        cancel_syncs(group, replies);
        let longest = group.longest_rebalance_ms();
        let first = group.state == GroupState::Empty && limits.initial_rebalance_delay_ms > 0;
        group.first_join_until_ms = first.then_some(now + longest);
        let wait = if first { longest.min(limits.initial_rebalance_delay_ms.into()) } else { longest };
        group.deadline_ms = Some(now + wait);
        group.state = GroupState::PreparingRebalance;
    }
    try_complete_join(group, now, replies);
}

fn cancel_syncs(group: &mut Group, replies: &mut Replies) {
    group.unsynced.clear();
    for member in group.members.values_mut() {
        member.assignment = Bytes::new();
        let waiting = member.sync.take();
        replies.extend(waiting.map(|token| Reply::Synced(token, Err(ResponseError::RebalanceInProgress))));
    }
}

pub(super) fn try_complete_join(group: &mut Group, now: i64, replies: &mut Replies) {
    let joining = group.state == GroupState::PreparingRebalance;
    if joining && group.first_join_until_ms.is_none() && group.all_joined() {
        complete_join(group, now, replies);
    }
}

/// Ends the join phase with those who are there.
fn complete_join(group: &mut Group, now: i64, replies: &mut Replies) {
    group.first_join_until_ms = None;
    // A static member keeps its place until its session ends.
    group.members.retain(|_, member| member.join.is_some() || member.instance.is_some());
    if group.members.is_empty() {
        become_empty(group);
        return;
    }
    let lead = |id: &String| group.members.get(id).is_some_and(|member| member.join.is_some());
    let leader = match &group.leader {
        Some(leader) if lead(leader) => Some(leader.clone()),
        _ => group.members.keys().find(|id| lead(id)).cloned(),
    };
    let (Some(leader), Some(protocol)) = (leader, group.elect_protocol()) else {
        // Only absent static members are left: nobody could assign. Wait for one, or its end.
        group.deadline_ms = Some(now + group.longest_rebalance_ms().max(1));
        return;
    };
    group.leader = Some(leader);
    group.protocol = Some(protocol);
    group.generation = group.generation.checked_add(1).unwrap_or(1);
    group.state = GroupState::CompletingRebalance;
    group.deadline_ms = Some(now + group.longest_rebalance_ms());
    let ids: Vec<String> = group.members.keys().cloned().collect();
    group.unsynced = ids.iter().cloned().collect();
    for id in ids {
        let reply = joined(group, &id);
        let Some(member) = group.members.get_mut(&id) else { continue };
        member.is_new = false;
        member.heard_of(now);
        replies.extend(member.join.take().map(|token| Reply::Joined(token, Ok(reply))));
    }
}

fn become_empty(group: &mut Group) {
    group.state = GroupState::Empty;
    group.generation = group.generation.checked_add(1).unwrap_or(1);
    group.protocol = None;
    group.leader = None;
    group.deadline_ms = None;
    group.unsynced.clear();
}

pub(super) fn joined(group: &Group, id: &str) -> Joined {
    let protocol = group.protocol.clone().unwrap_or_default();
    let leader = group.leader.clone().unwrap_or_default();
    let members = if leader == id {
        let described =
            |(id, member): (&String, &Member)| (id.clone(), member.instance.clone(), member.metadata(&protocol));
        group.members.iter().map(described).collect()
    } else {
        Vec::new()
    };
    Joined {
        generation: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol,
        leader,
        member: id.to_owned(),
        skip_assignment: false,
        members,
    }
}

/// Takes the leader's assignment; a member it leaves out gets nothing.
pub(super) fn assign(group: &mut Group, assignments: Vec<(String, Bytes)>) {
    for (id, assignment) in assignments {
        if let Some(member) = group.members.get_mut(&id) {
            member.assignment = assignment;
        }
    }
    group.state = GroupState::Stable;
}

pub(super) fn answer_syncs(group: &mut Group, now: i64, replies: &mut Replies) {
    let protocol = group.protocol.clone().unwrap_or_default();
    for member in group.members.values_mut() {
        if let Some(token) = member.sync.take() {
            member.heard_of(now);
            let synced = Synced {
                protocol_type: group.protocol_type.clone(),
                protocol: protocol.clone(),
                assignment: member.assignment.clone(),
            };
            replies.push(Reply::Synced(token, Ok(synced)));
        }
    }
}

pub(super) fn remove_member(group: &mut Group, now: i64, id: &str, replies: &mut Replies) {
    let Some(mut member) = group.members.remove(id) else { return };
    let unknown = JoinRefused { error: ResponseError::UnknownMemberId, member: id.to_owned() };
    replies.extend(member.join.take().map(|token| Reply::Joined(token, Err(unknown))));
    replies.extend(member.sync.take().map(|token| Reply::Synced(token, Err(ResponseError::UnknownMemberId))));
    if let Some(instance) = &member.instance {
        group.instances.remove(instance);
    }
    if group.leader.as_deref() == Some(id) {
        group.leader = None;
    }
    group.unsynced.remove(id);
    match group.state {
        GroupState::Stable | GroupState::CompletingRebalance => {
            cancel_syncs(group, replies);
            group.state = GroupState::PreparingRebalance;
            group.deadline_ms = Some(now + group.longest_rebalance_ms());
            try_complete_join(group, now, replies);
        }
        GroupState::PreparingRebalance => try_complete_join(group, now, replies),
        GroupState::Empty => {}
    }
}

pub(super) fn tick_group(group: &mut Group, now: i64, replies: &mut Replies) {
    group.pending.retain(|_, deadline| *deadline > now);
    let late = |member: &Member| member.can_be_late() && member.session_deadline_ms <= now;
    let expired: Vec<String> =
        group.members.iter().filter(|(_, member)| late(member)).map(|(id, _)| id.clone()).collect();
    for id in expired {
        remove_member(group, now, &id, replies);
    }
    try_complete_join(group, now, replies);
    if group.deadline_ms.is_none_or(|deadline| deadline > now) {
        return;
    }
    match group.state {
        GroupState::PreparingRebalance => complete_join(group, now, replies),
        GroupState::CompletingRebalance | GroupState::Stable => expire_syncs(group, now, replies),
        GroupState::Empty => group.deadline_ms = None,
    }
}

/// Whoever has not asked for its assignment in time is thrown out, and the others settle anew.
fn expire_syncs(group: &mut Group, now: i64, replies: &mut Replies) {
    group.deadline_ms = None;
    for id in std::mem::take(&mut group.unsynced) {
        remove_member(group, now, &id, replies);
    }
}
