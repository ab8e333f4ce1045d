//! One group: its members, its epoch, and the assignment they are on their way to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::assignor::{Assignor, Candidate};
use super::member::{Member, MemberState};
use super::message::{Assignment, Heard, Heartbeat, JOIN, LEAVE_FOR_NOW, Limits, Refused};
use super::reconcile::reconcile;
use super::subscription::{Pattern, Resolver};
use super::topics::TopicImage;

/// Epochs a group may go through between two heartbeats: one with the heartbeat, and one when
/// members are gone after it.
const SPARE_EPOCHS: i32 = 2;

/// Where a group stands; the names are Kafka's and are told to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    Empty,
    /// The next heartbeat finds a new target.
    Assigning,
    Reconciling,
    Stable,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A group of the consumer protocol.
#[derive(Debug)]
pub(crate) struct Group {
    /// Rises with every change of members, subscriptions or topics.
    pub(crate) epoch: i32,
    /// The epoch the target is for.
    pub(crate) target_epoch: i32,
    /// Epochs up to here are reserved on the disk.
    reserved_to: i32,
    pub(crate) members: BTreeMap<String, Member>,
    /// Static members: instance id to member id.
    instances: HashMap<String, String>,
    /// What each member should have.
    target: BTreeMap<String, Assignment>,
    assignor: Assignor,
    /// The topics subscriptions were looked up in.
    image_version: Option<u64>,
    /// All topics that are subscribed to, with their partitions.
    partitions: BTreeMap<Uuid, i32>,
}

/// How a member that heartbeats stands to the group.
enum Place {
    Known,
    New,
    /// A static member that has left for now is back under another id.
    InsteadOf(String),
}

impl Group {
    /// A group without members, which has gone through no epoch above `epoch`.
    pub(super) fn new(epoch: i32, reserved_to: i32) -> Self {
        Self {
            epoch,
            target_epoch: epoch,
            reserved_to,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            target: BTreeMap::new(),
            assignor: Assignor::default(),
            image_version: None,
            partitions: BTreeMap::new(),
        }
    }

    pub(super) fn grant(&mut self, reserved_to: i32) {
        self.reserved_to = self.reserved_to.max(reserved_to);
    }

    pub(super) fn needs_epochs(&self) -> bool {
        self.reserved_to - self.epoch < SPARE_EPOCHS
    }

    pub(crate) fn state(&self) -> GroupState {
        let settled = |member: &Member| member.state == MemberState::Stable && member.epoch == self.target_epoch;
        match () {
            () if self.members.is_empty() => GroupState::Empty,
            () if self.epoch > self.target_epoch => GroupState::Assigning,
            () if self.members.values().all(settled) => GroupState::Stable,
            () => GroupState::Reconciling,
        }
    }

    pub(crate) fn assignor(&self) -> Assignor {
        self.assignor
    }

    pub(crate) fn target_of(&self, member: &str) -> Option<&Assignment> {
        self.target.get(member)
    }

    /// Whether a member subscribes to a topic, by its name or its pattern.
    pub(crate) fn may_read(&self, topic: &str, id: Option<Uuid>) -> bool {
        let found = |member: &Member| id.is_some_and(|id| member.subscribed.contains(&id));
        self.members.values().any(|member| member.topics.contains(topic) || found(member))
    }

    /// The expression a member subscribes with.
    pub(super) fn pattern_of(&self, member: &str) -> Option<&Pattern> {
        self.members.get(member)?.pattern.as_ref()
    }

    /// A member that stays in the group, or comes into it. `pattern` is what the heartbeat's
    /// expression compiles to; `None` if it has none.
    pub(super) fn heartbeat(
        &mut self,
        now: i64,
        limits: &Limits,
        image: &TopicImage,
        beat: &Heartbeat,
        pattern: Option<Option<Pattern>>,
    ) -> Result<Heard, Refused> {
        let mut changed = match self.place(beat, limits)? {
            Place::Known => false,
            Place::New => {
                self.members.insert(beat.member.clone(), Member::default());
                true
            }
            Place::InsteadOf(old) => {
                self.replace(&old, &beat.member);
                false
            }
        };
        self.claim_instance(beat);
        if let Some(member) = self.members.get_mut(&beat.member) {
            changed |= member.update(beat, pattern);
            member.session_deadline_ms = now + i64::from(limits.times.session_timeout_ms);
        }
        self.look_up(image, changed.then_some(&beat.member));
        if changed {
            self.epoch += 1;
        }
        if self.epoch > self.target_epoch {
            self.assign();
        }
        let moved = self.reconcile(now, beat);
        let Some(member) = self.members.get(&beat.member) else { return Err(unknown(beat)) };
        Ok(Heard {
            member: beat.member.clone(),
            epoch: member.epoch,
            heartbeat_interval_ms: limits.times.heartbeat_interval_ms,
            assignment: (moved || beat.is_full()).then(|| member.assigned.clone()),
        })
    }

    /// Whether the heartbeat can be taken at all. Changes nothing.
    fn place(&self, beat: &Heartbeat, limits: &Limits) -> Result<Place, Refused> {
        let static_id = beat.instance.as_ref().and_then(|instance| self.instances.get(instance));
        match static_id {
            Some(id) if *id != beat.member => {
                let left = self.members.get(id).is_some_and(|member| member.epoch == LEAVE_FOR_NOW);
                return match beat.epoch {
                    JOIN if left => Ok(Place::InsteadOf(id.clone())),
                    JOIN => Err(unreleased(beat)),
                    _ => Err(fenced(beat)),
                };
            }
            None if beat.instance.is_some() && beat.epoch != JOIN => return Err(unknown(beat)),
            _ => {}
        }
        match self.members.get(&beat.member) {
            Some(member) if member.accepts(beat.epoch, beat.owned.as_ref()) => Ok(Place::Known),
            Some(member) => {
                let size = if beat.epoch > member.epoch { "greater" } else { "smaller" };
                let message = format!(
                    "The consumer group member has a {size} member epoch ({}) than the one known by the group coordinator \
                     ({}). The member must abandon all its partitions and rejoin.",
                    beat.epoch, member.epoch
                );
                Err(Refused::new(ResponseError::FencedMemberEpoch, message))
            }
            None if beat.epoch != JOIN => Err(unknown(beat)),
            None if self.members.len() >= limits.max_members => {
                let message = format!(
                    "The consumer group has reached its maximum capacity of {} members (max_group_members).",
                    limits.max_members
                );
                Err(Refused::new(ResponseError::GroupMaxSizeReached, message))
            }
            None => Ok(Place::New),
        }
    }

    /// A static member goes on under another id with what it had. Who used that id for something
    /// else has nothing any more: it says that it joins.
    fn replace(&mut self, old: &str, new: &str) {
        if self.members.contains_key(new) {
            self.remove(new);
        }
        let Some(member) = self.members.remove(old) else { return };
        let member = Member { epoch: JOIN, previous_epoch: JOIN, state: MemberState::Stable, ..member };
        self.members.insert(new.to_owned(), member);
        if let Some(target) = self.target.remove(old) {
            self.target.insert(new.to_owned(), target);
        }
    }

    fn claim_instance(&mut self, beat: &Heartbeat) {
        let Some(instance) = &beat.instance else { return };
        let before = self.members.get(&beat.member).and_then(|member| member.instance.as_ref());
        if let Some(before) = before.filter(|before| *before != instance) {
            self.instances.remove(before);
        }
        self.instances.insert(instance.clone(), beat.member.clone());
    }

    /// Finds the topics of one member, or of all if the topics are others than before. A change
    /// in what is found is a new epoch, unless the member makes one anyway.
    fn look_up(&mut self, image: &TopicImage, changed: Option<&String>) {
        let all = self.image_version != Some(image.version());
        if !all && changed.is_none() {
            return;
        }
        let mut resolver = Resolver::new(image);
        let found: Vec<Arc<_>> = self
            .members
            .iter()
            .map(|(id, member)| match all || changed == Some(id) {
                true => resolver.resolve(&member.topics, member.pattern.as_ref()),
                false => Arc::clone(&member.subscribed),
            })
            .collect();
        let mut differs = false;
        let mut partitions = BTreeMap::new();
        for (member, found) in self.members.values_mut().zip(found) {
            differs |= member.subscribed != found;
            partitions.extend(found.iter().filter_map(|&id| Some((id, image.partitions(id)?))));
            member.subscribed = found;
        }
        differs |= partitions != self.partitions;
        self.partitions = partitions;
        self.image_version = Some(image.version());
        if differs && changed.is_none() {
            self.epoch += 1;
        }
    }

    /// Finds a new target for everybody.
    fn assign(&mut self) {
        self.assignor = self.preferred_assignor();
        let nothing = Assignment::new();
        let candidates: Vec<Candidate<'_>> = self
            .members
            .iter()
            .map(|(id, member)| Candidate {
                id,
                instance: member.instance.as_deref(),
                topics: &member.subscribed,
                current: self.target.get(id).unwrap_or(&nothing),
            })
            .collect();
        let assigned = self.assignor.assign(&candidates, &self.partitions);
        self.target = self.members.keys().cloned().zip(assigned).collect();
        self.target_epoch = self.epoch;
    }

    /// The assignor most members name; of equals, the first there is.
    fn preferred_assignor(&self) -> Assignor {
        let votes = |assignor: Assignor| self.members.values().filter(|m| m.assignor == Some(assignor)).count();
        let most = Assignor::ALL.into_iter().rev().max_by_key(|assignor| votes(*assignor));
        most.filter(|assignor| votes(*assignor) > 0).unwrap_or_default()
    }

    /// Takes the member a step towards its target; whether it is assigned something else now.
    fn reconcile(&mut self, now: i64, beat: &Heartbeat) -> bool {
        let Some(mut member) = self.members.remove(&beat.member) else { return false };
        let mut moved = false;
        if member.state != MemberState::Stable || member.epoch != self.target_epoch {
            // Every partition has one holder, so this is no larger than the topics are.
            let holders = self.members.values().flat_map(|other| [&other.assigned, &other.revoking]);
            let held: HashSet<(Uuid, i32)> = holders
                .flat_map(|held| held.iter().flat_map(|(topic, of)| of.iter().map(|partition| (*topic, *partition))))
                .collect();
            let nothing = Assignment::new();
            let target = self.target.get(&beat.member).unwrap_or(&nothing);
            let revoking = member.revoking.clone();
            let free = |topic, partition| !held.contains(&(topic, partition));
            moved = reconcile(&mut member, self.target_epoch, target, beat.owned.as_ref(), free);
            match member.state {
                // From the last time it was told to give something up.
                MemberState::Unrevoked if member.rebalance_deadline_ms.is_none() || member.revoking != revoking => {
                    member.rebalance_deadline_ms = Some(now + member.rebalance_timeout_ms);
                }
                MemberState::Unrevoked => {}
                MemberState::Stable | MemberState::Unreleased => member.rebalance_deadline_ms = None,
            }
        }
        self.members.insert(beat.member.clone(), member);
        moved
    }

    /// A member goes, or a static one for now.
    pub(super) fn leave(&mut self, beat: &Heartbeat) -> Result<Heard, Refused> {
        match beat.instance.as_ref().map(|instance| self.instances.get(instance)) {
            Some(Some(id)) if *id != beat.member => return Err(fenced(beat)),
            Some(None) => return Err(unknown(beat)),
            Some(Some(_)) | None => {}
        }
        let Some(member) = self.members.get_mut(&beat.member) else { return Err(unknown(beat)) };
        if beat.epoch == LEAVE_FOR_NOW {
            // It has nothing in its hands now; what it should have waits for it until its session ends.
            member.epoch = LEAVE_FOR_NOW;
            member.previous_epoch = LEAVE_FOR_NOW;
            member.state = MemberState::Stable;
            member.revoking = Assignment::new();
            member.rebalance_deadline_ms = None;
        } else {
            self.remove(&beat.member);
        }
        Ok(Heard { member: beat.member.clone(), epoch: beat.epoch, heartbeat_interval_ms: 0, assignment: None })
    }

    /// A member is taken out by an administrator, who knows its id, or the instance of a static one.
    pub(super) fn expel(&mut self, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        let id = match instance.map(|instance| self.instances.get(instance)) {
            None => member.to_owned(),
            Some(None) => return Err(ResponseError::UnknownMemberId),
            Some(Some(id)) if !member.is_empty() && id != member => return Err(ResponseError::FencedInstanceId),
            Some(Some(id)) => id.clone(),
        };
        if !self.members.contains_key(&id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.remove(&id);
        Ok(())
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        self.target.remove(id);
        // Once until the next target: what is reserved lasts for that.
        if self.epoch == self.target_epoch {
            self.epoch += 1;
        }
    }

    /// Throws out those that are late.
    pub(super) fn tick(&mut self, now: i64) {
        let late: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.next_deadline_ms() <= now)
            .map(|(id, _)| id.clone())
            .collect();
        late.iter().for_each(|id| self.remove(id));
    }

    pub(super) fn next_deadline_ms(&self) -> Option<i64> {
        self.members.values().map(Member::next_deadline_ms).min()
    }

    /// Whether a member is in the group and knows its epoch.
    pub(super) fn check_member(&self, member: &str, epoch: i32) -> Result<(), ResponseError> {
        let member = self.members.get(member).ok_or(ResponseError::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }
}

fn unknown(beat: &Heartbeat) -> Refused {
    let message = match &beat.instance {
        Some(instance) => format!("Instance id {instance} is unknown in group {}.", beat.group),
        None => format!("Member {} is not a member of group {}.", beat.member, beat.group),
    };
    Refused::new(ResponseError::UnknownMemberId, message)
}

fn fenced(beat: &Heartbeat) -> Refused {
    let message = format!(
        "Static member {} with instance id {} was fenced by another member that joined with the same instance id.",
        beat.member,
        beat.instance.as_deref().unwrap_or_default()
    );
    Refused::new(ResponseError::FencedInstanceId, message)
}

fn unreleased(beat: &Heartbeat) -> Refused {
    let message = format!(
        "Static member {} with instance id {} cannot join the group because the instance id is owned by another member.",
        beat.member,
        beat.instance.as_deref().unwrap_or_default()
    );
    Refused::new(ResponseError::UnreleasedInstanceId, message)
}
