//! Every group of the consumer protocol: a pure state machine.
//!
//! Heartbeats, the topics there are and the time come in; answers come out, at once. There is no
//! clock, no socket, no disk and no randomness here, so every behaviour is a table of calls in a
//! test.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::group::Group;
use super::message::{Heartbeat, JOIN, LEAVE, LEAVE_FOR_NOW, Limits, Outcome, Refused};
use super::subscription::Pattern;
use super::topics::TopicImage;
use crate::configs::group::Times;

/// Every group of the consumer protocol.
#[derive(Debug)]
pub(crate) struct Coordinator {
    limits: Limits,
    /// Of groups with settings of their own, there or not.
    times: BTreeMap<String, Times>,
    groups: BTreeMap<String, Group>,
}

impl Coordinator {
    /// With groups of the time before, each with an epoch none of its own was above.
    pub(crate) fn new(limits: Limits, known: Vec<(String, i32)>) -> Self {
        let groups = known.into_iter().map(|(name, epoch)| (name, Group::new(epoch, epoch))).collect();
        Self { limits, times: BTreeMap::new(), groups }
    }

    pub(crate) fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = (&String, &Group)> {
        self.groups.iter()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Gives a group times of its own, or takes them away. Each member is told, and held to them, from its next heartbeat
    /// on.
    pub(crate) fn set_times(&mut self, name: &str, times: Option<Times>) {
        match times {
            Some(times) => self.times.insert(name.to_owned(), times),
            None => self.times.remove(name),
        };
    }

    fn limits_of(&self, name: &str) -> Limits {
        match self.times.get(name) {
            Some(times) => Limits { times: *times, ..self.limits },
            None => self.limits,
        }
    }

    /// What the expression of a heartbeat compiles to, if the member has come with it before.
    pub(crate) fn known_pattern(&self, beat: &Heartbeat) -> Option<Pattern> {
        let pattern = self.groups.get(&beat.group)?.pattern_of(&beat.member)?;
        pattern.is(beat.regex.as_deref()?, beat.reader.as_ref()).then(|| pattern.clone())
    }

    /// A member says that it is there, comes or goes. `pattern` is what the heartbeat's expression
    /// compiles to: `None` without one, `Some(None)` if it subscribes with none any more.
    pub(crate) fn heartbeat(
        &mut self,
        now_ms: i64,
        image: &TopicImage,
        beat: &Heartbeat,
        pattern: Option<Option<Pattern>>,
    ) -> Result<Outcome, Refused> {
        let limits = self.limits_of(&beat.group);
        let Some(group) = self.groups.get_mut(&beat.group) else {
            return if beat.epoch == JOIN { self.check_room() } else { Err(not_found(&beat.group)) };
        };
        if matches!(beat.epoch, LEAVE | LEAVE_FOR_NOW) {
            return group.leave(beat).map(Outcome::Heard);
        }
        if group.needs_epochs() {
            return Ok(Outcome::NeedsEpochs);
        }
        group.heartbeat(now_ms, &limits, image, beat, pattern).map(Outcome::Heard)
    }

    fn check_room(&self) -> Result<Outcome, Refused> {
        if self.groups.len() >= self.limits.max_groups {
            let message =
                format!("The broker has {} groups, expected at most that many (max_groups).", self.groups.len());
            return Err(Refused::new(ResponseError::GroupMaxSizeReached, message));
        }
        Ok(Outcome::NeedsEpochs)
    }

    /// A group may go through the epochs above `after`, up to `reserved_to`. One that is not there
    /// begins with the first of them.
    pub(crate) fn grant(&mut self, name: &str, after: i32, reserved_to: i32) {
        let group = self.groups.entry(name.to_owned()).or_insert_with(|| Group::new(after, reserved_to));
        group.grant(reserved_to);
    }

    /// Whether a member may commit or fetch offsets. An epoch below zero is from outside the
    /// group, which may commit only while nobody is in it.
    pub(crate) fn check_commit(&self, group: &str, member: &str, epoch: i32) -> Option<Result<(), ResponseError>> {
        let group = self.groups.get(group)?;
        if epoch < 0 && group.members.is_empty() {
            return Some(Ok(()));
        }
        Some(group.check_member(member, epoch))
    }

    /// Whether a member may see the group's offsets.
    pub(crate) fn check_fetch(&self, group: &str, member: &str, epoch: i32) -> Result<(), ResponseError> {
        self.groups.get(group).map_or(Ok(()), |group| group.check_member(member, epoch))
    }

    /// A member is taken out by its id or its instance; `None` if the group is not of this protocol.
    pub(crate) fn expel(
        &mut self,
        group: &str,
        member: &str,
        instance: Option<&str>,
    ) -> Option<Result<(), ResponseError>> {
        Some(self.groups.get_mut(group)?.expel(member, instance))
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        self.groups.values_mut().for_each(|group| group.tick(now_ms));
    }

    /// When [`Coordinator::tick`] has something to do.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.groups.values().filter_map(Group::next_deadline_ms).min()
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

    /// Forgets groups that nobody is in, except those named by `keep` (they have offsets).
    pub(crate) fn forget_idle(&mut self, keep: impl Fn(&str) -> bool) {
        self.groups.retain(|name, group| !group.members.is_empty() || keep(name));
    }
}

pub(crate) fn not_found(group: &str) -> Refused {
    Refused::new(ResponseError::GroupIdNotFound, format!("Group {group} is not a consumer group."))
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
