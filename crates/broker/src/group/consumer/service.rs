//! The consumer protocol's part of [`Groups`]: heartbeats in, epochs reserved, and which protocol
//! a group is of.

use kafka_protocol::ResponseError;

use super::coordinator::{Coordinator, not_found};
use super::message::{Heard, Heartbeat, JOIN, Outcome, Refused};
use super::subscription::Pattern;
use super::topics::TopicImage;
use crate::group::service::{Groups, Inner};
use crate::log::topics::Topics;

impl Groups {
    /// A member of the consumer protocol says that it is there. May block on the disk.
    pub(crate) fn consumer_heartbeat(&self, topics: &Topics, beat: &Heartbeat) -> Result<Heard, Refused> {
        beat.check()?;
        let pattern = self.compile(beat)?;
        loop {
            let outcome = self.with(|inner, now_ms| {
                inner.make_room(beat)?;
                inner.see(topics);
                inner.consumers.heartbeat(now_ms, &inner.image, beat, pattern.clone())
            });
            match outcome? {
                Outcome::Heard(heard) => return Ok(heard),
                Outcome::NeedsEpochs => self.reserve_epochs(&beat.group)?,
            }
        }
    }

    /// Compiles an expression outside of the lock, and only one that is new.
    fn compile(&self, beat: &Heartbeat) -> Result<Option<Option<Pattern>>, Refused> {
        let Some(text) = beat.regex.as_deref() else { return Ok(None) };
        if text.is_empty() {
            return Ok(Some(None));
        }
        let (known, limits) = self.look_consumers(|consumers, _| (consumers.known_pattern(beat), *consumers.limits()));
        Ok(Some(Some(match known {
            Some(known) => known,
            None => Pattern::compile(text, beat.reader.clone(), &limits)?,
        })))
    }

    fn reserve_epochs(&self, group: &str) -> Result<(), Refused> {
        // Held until the coordinator knows: who forgets groups does not come between. Others that reserve may, which
        // is how they share an fsync: a group takes no block that is below one it has.
        let _changing = self.changing_epochs.read();
        let gone = |message: String| Refused::new(ResponseError::CoordinatorNotAvailable, message);
        match self.epochs.reserve(group) {
            Ok(Some((after, to))) => {
                self.with(|inner, _| inner.consumers.grant(group, after, to));
                Ok(())
            }
            Ok(None) => Err(gone(format!("Group {group} has used up all epochs there are; use another group."))),
            Err(error) => {
                tracing::error!(group, %error, "no epochs reserved: check the disk of the data folder");
                Err(gone(format!("The broker could not store the epoch of group {group}; see its log.")))
            }
        }
    }

    /// Forgets the epochs of groups that are gone, or of the classic protocol by now: after a restart
    /// they would be of this one again. Blocks on the disk.
    pub(in crate::group) fn forget_epochs(&self) {
        let _changing = self.changing_epochs.write();
        let is_gone = |name: &String| self.look_consumers(|consumers, _| consumers.group(name).is_none());
        let gone: Vec<String> = self.epochs.groups().into_iter().map(|(name, _)| name).filter(is_gone).collect();
        if let Err(error) = self.epochs.remove(&gone) {
            // They are forgotten the next time, or stay as groups without members.
            tracing::error!(%error, "the epochs of groups that are gone not forgotten");
        }
    }

    /// Looks at the groups of the consumer protocol, and at the topics as they saw them last.
    pub(crate) fn look_consumers<T>(&self, look: impl FnOnce(&Coordinator, &TopicImage) -> T) -> T {
        let inner = self.inner.lock();
        look(&inner.consumers, &inner.image)
    }

    /// Whether a member that says which it is may see the group's offsets.
    pub(crate) fn check_fetch(&self, group: &str, member: &str, epoch: i32) -> Result<(), ResponseError> {
        if member.is_empty() && epoch < 0 {
            return Ok(());
        }
        self.look_consumers(|consumers, _| consumers.check_fetch(group, member, epoch))
    }
}

impl Inner {
    /// A member that comes into a group of the classic protocol finds it empty, or cannot come.
    fn make_room(&mut self, beat: &Heartbeat) -> Result<(), Refused> {
        if beat.epoch != JOIN || self.consumers.group(&beat.group).is_some() {
            return Ok(());
        }
        let is_share = self.shares.group(&beat.group).is_some();
        if is_share || self.coordinator.delete(&beat.group) == Err(ResponseError::NonEmptyGroup) {
            return Err(not_found(&beat.group));
        }
        if self.group_count() >= self.max_groups {
            let message = format!("The broker has {} groups, the most it may have (max_groups).", self.max_groups);
            return Err(Refused::new(ResponseError::GroupMaxSizeReached, message));
        }
        Ok(())
    }

    /// Looks again at the topics if they are others than before.
    pub(in crate::group) fn see(&mut self, topics: &Topics) {
        let version = topics.version();
        if self.image.version() != version {
            let all = topics.all();
            let seen = all.iter().map(|topic| (topic.name.to_string(), topic.id, topic.partition_count()));
            self.image = TopicImage::new(version, seen);
        }
    }

    pub(in crate::group) fn group_count(&self) -> usize {
        self.coordinator.groups().len() + self.consumers.groups().len() + self.shares.groups().len()
    }
}
