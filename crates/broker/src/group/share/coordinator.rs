//! Every share group and its members: a pure state machine.
//!
//! Heartbeats, the topics there are and the time come in; answers come out, at once. A partition may be with several
//! members, so a member has its part of the assignment as soon as it is told: there is nothing to reconcile.
//!
//! Epochs start anew with the broker. They order what a member is told; what it may acknowledge is a matter of its
//! session and its locks, which a restart ends.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::assignor::assign;
use crate::group::consumer::message::{Assignment, JOIN, LEAVE, Refused};
use crate::group::consumer::topics::TopicImage;

/// The limits of share groups, from the settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) heartbeat_interval_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) max_members: usize,
}

/// A heartbeat. What is absent has not changed since the last one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heartbeat {
    pub(crate) group: String,
    pub(crate) member: String,
    pub(crate) epoch: i32,
    pub(crate) rack: Option<String>,
    pub(crate) topics: Option<BTreeSet<String>>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) epoch: i32,
    pub(crate) heartbeat_interval_ms: i32,
    /// Absent when the member knows it.
    pub(crate) assignment: Option<Assignment>,
}

/// A member of a share group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) rack: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) epoch: i32,
    /// The epoch before: the answer that named the new one may have been lost.
    previous_epoch: i32,
    pub(crate) assigned: Assignment,
    /// It has not been told of what it is assigned.
    untold: bool,
    session_deadline_ms: i64,
}

/// A share group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Rises with every change of members, subscriptions or topics.
    pub(crate) epoch: i32,
    pub(crate) members: BTreeMap<String, Member>,
    image_version: Option<u64>,
    /// The topics that are subscribed to and there, with their partitions.
    partitions: BTreeMap<Uuid, i32>,
    /// Members came, went, or subscribe otherwise.
    is_stale: bool,
}

/// Every share group.
#[derive(Debug)]
pub(crate) struct Coordinator {
    groups: BTreeMap<String, Group>,
}

impl Heartbeat {
    /// Whether it makes sense by itself.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let invalid = |message: &str| Err(Refused::new(ResponseError::InvalidRequest, message));
        match () {
            () if self.group.is_empty() => invalid("GroupId can't be empty."),
            () if self.member.is_empty() => invalid("MemberId can't be empty."),
            () if self.rack.as_deref() == Some("") => invalid("RackId can't be empty."),
            () if self.epoch < LEAVE => invalid("MemberEpoch is invalid."),
            () if self.epoch == JOIN && self.topics.as_ref().is_none_or(BTreeSet::is_empty) => {
                invalid("SubscribedTopicNames must be set in first request.")
            }
            () => Ok(()),
        }
    }
}

impl Coordinator {
    /// With groups of the time before.
    pub(crate) fn new(known: impl IntoIterator<Item = String>) -> Self {
        Self { groups: known.into_iter().map(|name| (name, Group::default())).collect() }
    }

    pub(crate) fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = (&String, &Group)> {
        self.groups.iter()
    }

    /// A group is there from now on.
    pub(crate) fn create(&mut self, name: &str) {
        self.groups.entry(name.to_owned()).or_default();
    }

    /// A member says that it is there, comes or goes. Its group has been created.
    pub(crate) fn heartbeat(
        &mut self,
        now_ms: i64,
        limits: &Limits,
        image: &TopicImage,
        beat: &Heartbeat,
    ) -> Result<Heard, Refused> {
        let group = self.groups.get_mut(&beat.group).ok_or_else(|| not_found(&beat.group))?;
        if beat.epoch == LEAVE {
            return group.leave(beat);
        }
        group.heartbeat(now_ms, limits, image, beat)
    }

    /// Throws out members that are late; answers the group and id of each.
    pub(crate) fn tick(&mut self, now_ms: i64) -> Vec<(String, String)> {
        let mut gone = Vec::new();
        for (name, group) in &mut self.groups {
            let late = group.members.extract_if(.., |_, member| member.session_deadline_ms <= now_ms);
            let before = gone.len();
            gone.extend(late.map(|(id, _)| (name.clone(), id)));
            group.is_stale |= gone.len() > before;
        }
        gone
    }

    /// When [`Coordinator::tick`] has something to do.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        let members = self.groups.values().flat_map(|group| group.members.values());
        members.map(|member| member.session_deadline_ms).min()
    }

    /// Deletes a group that nobody is in.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), ResponseError> {
        match self.groups.get(name) {
            None => Err(ResponseError::GroupIdNotFound),
            Some(group) if !group.members.is_empty() => Err(ResponseError::NonEmptyGroup),
            Some(_) => {
                self.groups.remove(name);
                Ok(())
            }
        }
    }
}

impl Group {
    /// Where the group stands, in Kafka's words.
    pub(crate) fn state(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    fn leave(&mut self, beat: &Heartbeat) -> Result<Heard, Refused> {
        self.members.remove(&beat.member).ok_or_else(|| unknown(beat))?;
        self.is_stale = true;
        Ok(Heard { epoch: LEAVE, heartbeat_interval_ms: 0, assignment: None })
    }

    fn heartbeat(
        &mut self,
        now_ms: i64,
        limits: &Limits,
        image: &TopicImage,
        beat: &Heartbeat,
    ) -> Result<Heard, Refused> {
        let is_new = self.place(limits, beat)?;
        let member = self.members.entry(beat.member.clone()).or_default();
        member.client_id.clone_from(&beat.client_id);
        member.client_host.clone_from(&beat.client_host);
        member.session_deadline_ms = now_ms + i64::from(limits.session_timeout_ms);
        if beat.rack.is_some() {
            member.rack.clone_from(&beat.rack);
        }
        let subscribes_anew = beat.topics.as_ref().filter(|topics| **topics != member.topics);
        if let Some(topics) = subscribes_anew {
            member.topics.clone_from(topics);
        }
        self.is_stale |= is_new || subscribes_anew.is_some();
        if self.is_stale || self.image_version != Some(image.version()) {
            self.look_up(image);
        }
        let epoch = self.epoch;
        let Some(member) = self.members.get_mut(&beat.member) else { return Err(unknown(beat)) };
        if member.epoch != epoch {
            member.previous_epoch = member.epoch;
            member.epoch = epoch;
        }
        let tell = member.untold || beat.epoch == JOIN || beat.topics.is_some();
        member.untold = false;
        Ok(Heard {
            epoch,
            heartbeat_interval_ms: limits.heartbeat_interval_ms,
            assignment: tell.then(|| member.assigned.clone()),
        })
    }

    /// Whether the heartbeat can be taken, and whether it is that of a new member. Changes nothing.
    fn place(&self, limits: &Limits, beat: &Heartbeat) -> Result<bool, Refused> {
        match self.members.get(&beat.member) {
            Some(member) if [JOIN, member.epoch, member.previous_epoch].contains(&beat.epoch) => Ok(false),
            Some(member) => {
                let message = format!(
                    "Member {} of share group {} says epoch {}, expected {}. The member must rejoin with epoch 0.",
                    beat.member, beat.group, beat.epoch, member.epoch
                );
                Err(Refused::new(ResponseError::FencedMemberEpoch, message))
            }
            None if beat.epoch != JOIN => Err(unknown(beat)),
            None if self.members.len() >= limits.max_members => {
                let message = format!(
                    "The share group has reached its maximum capacity of {} members (max_group_members).",
                    limits.max_members
                );
                Err(Refused::new(ResponseError::GroupMaxSizeReached, message))
            }
            None => Ok(true),
        }
    }

    /// Finds the topics that are subscribed to, and assigns anew if anything is another than before.
    fn look_up(&mut self, image: &TopicImage) {
        let names: BTreeSet<&String> = self.members.values().flat_map(|member| &member.topics).collect();
        let ids = names.into_iter().filter_map(|name| image.id(name));
        let partitions = ids.filter_map(|id| Some((id, image.partitions(id)?))).collect();
        self.image_version = Some(image.version());
        if !self.is_stale && partitions == self.partitions {
            return;
        }
        (self.partitions, self.is_stale) = (partitions, false);
        self.epoch = self.epoch.saturating_add(1);
        let members = self.members.iter().map(|(id, member)| {
            let topics = member.topics.iter().filter_map(|name| image.id(name));
            (id.as_str(), topics.collect())
        });
        let mut assigned = assign(&members.collect(), &self.partitions);
        for (id, member) in &mut self.members {
            let now = assigned.remove(id).unwrap_or_default();
            member.untold |= now != member.assigned;
            member.assigned = now;
        }
    }
}

pub(crate) fn not_found(group: &str) -> Refused {
    Refused::new(ResponseError::GroupIdNotFound, format!("Group {group} is not a share group."))
}

fn unknown(beat: &Heartbeat) -> Refused {
    let message = format!("Member {} is not a member of share group {}.", beat.member, beat.group);
    Refused::new(ResponseError::UnknownMemberId, message)
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
