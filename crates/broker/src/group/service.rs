//! Drives the coordinator: gives it the time, holds the requests that wait, and fires its timers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::consumer;
use super::consumer::epochs::EpochStore;
use super::consumer::topics::TopicImage;
use super::coordinator::Coordinator;
use super::message::{Caller, Join, JoinRefused, Joined, Limits, Reply, Sync, Synced, Token};
use super::offsets::{At, OffsetStore};
use super::share;
use super::share::service::Shares;
use crate::clock::Clock;
use crate::configs::group::Times;
use crate::log::config::Overrides;
use crate::settings::BrokerSettings;
use kafka_protocol::ResponseError;

/// The groups of a broker, with their committed offsets.
#[derive(Debug)]
pub(crate) struct Groups {
    clock: Arc<dyn Clock>,
    max_groups: usize,
    offsets: OffsetStore,
    pub(super) epochs: EpochStore,
    shares: Shares,
    /// Held by whoever changes the epochs on the disk and what the coordinator knows of them: for reading by who
    /// reserves, for writing by who forgets.
    pub(super) changing_epochs: RwLock<()>,
    pub(super) inner: Mutex<Inner>,
    /// A deadline may have come nearer.
    deadline_changed: Notify,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) max_groups: usize,
    /// Groups of the classic protocol. None of them is in the other coordinator too.
    pub(super) coordinator: Coordinator,
    /// Groups of the consumer protocol.
    pub(super) consumers: consumer::coordinator::Coordinator,
    /// Share groups.
    pub(super) shares: share::coordinator::Coordinator,
    /// The topics as these saw them last.
    pub(super) image: TopicImage,
    next_token: Token,
    joins: HashMap<Token, oneshot::Sender<Result<Joined, JoinRefused>>>,
    syncs: HashMap<Token, oneshot::Sender<Result<Synced, ResponseError>>>,
}

/// What consumers call the type of their protocols.
const CONSUMER: &str = "consumer";

/// Longest sleep of the timer, so that a clock that is moved by hand is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

impl Groups {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        limits: Limits,
        consumer_limits: consumer::message::Limits,
        offsets: OffsetStore,
        epochs: EpochStore,
        shares: Shares,
    ) -> Self {
        let inner = Inner {
            max_groups: limits.max_groups,
            coordinator: Coordinator::new(limits),
            consumers: consumer::coordinator::Coordinator::new(consumer_limits, epochs.groups()),
            shares: share::coordinator::Coordinator::new(shares.store.group_names()),
            image: TopicImage::default(),
            next_token: 0,
            joins: HashMap::new(),
            syncs: HashMap::new(),
        };
        let max_groups = limits.max_groups;
        let (inner, changing_epochs) = (Mutex::new(inner), RwLock::default());
        Self { clock, max_groups, offsets, epochs, shares, changing_epochs, inner, deadline_changed: Notify::new() }
    }

    pub(crate) fn offsets(&self) -> &OffsetStore {
        &self.offsets
    }

    /// Hands out the settings a group has of its own; whatever kinds of groups there are, each takes what is its.
    pub(crate) fn configure(&self, group: &str, own: &Overrides, settings: &BrokerSettings) {
        let times = (!own.is_empty()).then(|| Times::of(own, settings));
        self.with(|inner, _| inner.consumers.set_times(group, times));
        self.shares.configure(group, own, settings);
    }

    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// An id for a new member, which starts with what its client calls itself.
    pub(crate) fn new_member_id(prefix: &str) -> String {
        format!("{prefix}-{}", Uuid::new_v4())
    }

    pub(crate) async fn join(&self, join: Join) -> Result<Joined, JoinRefused> {
        let (sender, receiver) = oneshot::channel();
        let member = join.member.clone();
        self.with(|inner, now_ms| {
            let token = inner.token();
            inner.joins.insert(token, sender);
            let replies = match inner.make_classic(&join.group) {
                Ok(()) => inner.coordinator.join(now_ms, token, join),
                Err(error) => vec![Reply::Joined(token, Err(JoinRefused { error, member: join.member }))],
            };
            inner.deliver(replies);
        });
        let gone = JoinRefused { error: ResponseError::CoordinatorNotAvailable, member };
        receiver.await.unwrap_or(Err(gone))
    }

    pub(crate) async fn sync(&self, sync: Sync) -> Result<Synced, ResponseError> {
        let (sender, receiver) = oneshot::channel();
        self.with(|inner, now_ms| {
            let token = inner.token();
            inner.syncs.insert(token, sender);
            let replies = inner.coordinator.sync(now_ms, token, sync);
            inner.deliver(replies);
        });
        receiver.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    pub(crate) fn heartbeat(&self, caller: Caller<'_>) -> Result<(), ResponseError> {
        self.inner.lock().coordinator.heartbeat(self.clock.monotonic_ms(), caller)
    }

    /// A member leaves, or is taken out by an administrator: that is how members of the consumer
    /// protocol, who leave by a heartbeat, are taken out too.
    pub(crate) fn leave(&self, group: &str, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        self.with(|inner, now_ms| {
            if let Some(result) = inner.consumers.expel(group, member, instance) {
                return result;
            }
            let (result, replies) = inner.coordinator.leave(now_ms, group, member, instance);
            inner.deliver(replies);
            result
        })
    }

    /// Whether there is room for the offsets of a group.
    pub(crate) fn check_new(&self, group: &str) -> Result<(), ResponseError> {
        if !self.offsets.has_group(group) && self.offsets.group_count() >= self.max_groups {
            return Err(ResponseError::PolicyViolation);
        }
        Ok(())
    }

    /// Whether offsets may be committed. Members of the consumer protocol say that they know it,
    /// by the version of their request.
    pub(crate) fn check_commit(&self, caller: Caller<'_>, knows_epochs: bool) -> Result<(), ResponseError> {
        self.check_new(caller.group)?;
        let mut inner = self.inner.lock();
        if inner.shares.group(caller.group).is_some() {
            return Err(ResponseError::GroupIdNotFound);
        }
        match inner.consumers.check_commit(caller.group, caller.member, caller.generation) {
            Some(Ok(()) | Err(ResponseError::StaleMemberEpoch)) if caller.generation >= 0 && !knows_epochs => {
                Err(ResponseError::UnsupportedVersion)
            }
            Some(checked) => checked,
            None => inner.coordinator.check_commit(self.clock.monotonic_ms(), caller),
        }
    }

    /// Whether offsets may be committed in a transaction. Its versions know no epochs of members.
    pub(crate) fn check_txn_commit(&self, caller: Caller<'_>) -> Result<(), ResponseError> {
        self.check_commit(caller, true).map_err(|error| match error {
            ResponseError::StaleMemberEpoch => ResponseError::IllegalGeneration,
            error => error,
        })
    }

    /// Looks at the coordinator.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Coordinator) -> T) -> T {
        look(&self.inner.lock().coordinator)
    }

    /// Deletes a group and its offsets. Blocks on the disk.
    pub(crate) fn delete(&self, group: &str) -> Result<(), ResponseError> {
        if let Some(deleted) = self.delete_share(group) {
            return deleted;
        }
        let had_offsets = self.offsets.has_group(group);
        let deleted = {
            let mut inner = self.inner.lock();
            match inner.consumers.delete(group) {
                Err(ResponseError::GroupIdNotFound) => inner.coordinator.delete(group),
                other => other,
            }
        };
        match deleted {
            Err(ResponseError::GroupIdNotFound) if had_offsets => {}
            other => other?,
        }
        if had_offsets {
            self.offsets.remove_group(group, self.clock.wall_ms()).map_err(|error| {
                tracing::error!(group, %error, "group not deleted");
                ResponseError::CoordinatorNotAvailable
            })?;
        }
        self.forget_epochs();
        Ok(())
    }

    /// Those of `topics` that members of a group may be reading.
    pub(crate) fn topics_in_use<'a>(
        &self,
        group: &str,
        topics: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeSet<&'a str>, ResponseError> {
        let has_offsets = self.offsets.has_group(group);
        let inner = self.inner.lock();
        if let Some(group) = inner.consumers.group(group) {
            return Ok(topics.filter(|topic| group.may_read(topic, inner.image.id(topic))).collect());
        }
        match inner.coordinator.group(group) {
            None if !has_offsets => Err(ResponseError::GroupIdNotFound),
            Some(group) if !group.is_idle() && group.protocol_type != CONSUMER => Err(ResponseError::NonEmptyGroup),
            Some(group) if !group.is_idle() => Ok(topics.filter(|topic| group.may_read(topic)).collect()),
            _ => Ok(BTreeSet::new()),
        }
    }

    /// Forgets some offsets of a group, durably. Blocks.
    pub(crate) fn forget_offsets(&self, group: &str, doomed: Vec<At>) -> Result<(), ResponseError> {
        let removed = self.offsets.remove(group, doomed, self.clock.wall_ms()).and_then(|()| self.offsets.sync());
        removed.map_err(|error| {
            tracing::error!(group, %error, "offsets not deleted: check the disk of the data folder");
            ResponseError::CoordinatorNotAvailable
        })
    }

    /// Forgets the offsets of groups that were left long ago. Blocks on the disk.
    pub(crate) fn expire(&self, retention_ms: i64) {
        let now_ms = self.clock.wall_ms();
        let in_use: Vec<String> = self.look(|coordinator| {
            coordinator.groups().filter(|(_, group)| !group.is_idle()).map(|(name, _)| name.clone()).collect()
        });
        let consumers: Vec<String> = self.look_consumers(|consumers, _| {
            consumers.groups().filter(|(_, group)| !group.members.is_empty()).map(|(name, _)| name.clone()).collect()
        });
        in_use.iter().chain(&consumers).for_each(|group| self.offsets.touch(group, now_ms));
        for group in self.offsets.last_used_before(now_ms.saturating_sub(retention_ms)) {
            match self.offsets.remove_group(&group, now_ms) {
                Ok(()) => tracing::info!(group, "offsets expired"),
                Err(error) => tracing::error!(group, %error, "offsets not expired"),
            }
        }
        {
            let mut inner = self.inner.lock();
            inner.coordinator.forget_idle(|group| self.offsets.has_group(group));
            inner.consumers.forget_idle(|group| self.offsets.has_group(group));
        }
        self.forget_epochs();
    }

    /// Fires the coordinator's timers, for as long as it is polled.
    pub(crate) async fn run_timers(&self) {
        loop {
            let deadline = {
                let inner = self.inner.lock();
                let consumers = inner.consumers.next_deadline_ms().into_iter().chain(inner.shares.next_deadline_ms());
                inner.coordinator.next_deadline_ms().into_iter().chain(consumers).min()
            };
            let wait = deadline.map_or(LONGEST_SLEEP, |deadline| {
                let left_ms = deadline.saturating_sub(self.clock.monotonic_ms()).max(0);
                Duration::from_millis(left_ms.unsigned_abs()).min(LONGEST_SLEEP)
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.deadline_changed.notified() => {}
            }
            let mut inner = self.inner.lock();
            let now_ms = self.clock.monotonic_ms();
            inner.consumers.tick(now_ms);
            let mut sessions = self.shares.sessions.lock();
            inner.shares.tick(now_ms).iter().for_each(|(group, member)| sessions.forget(group, member));
            drop(sessions);
            let replies = inner.coordinator.tick(now_ms);
            inner.deliver(replies);
        }
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Inner, i64) -> T) -> T {
        let result = act(&mut self.inner.lock(), self.clock.monotonic_ms());
        self.deadline_changed.notify_one();
        result
    }
}

impl Inner {
    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    /// A group of the consumer protocol becomes one of the classic protocol, if nobody is in it.
    fn make_classic(&mut self, group: &str) -> Result<(), ResponseError> {
        let is_other = self.shares.group(group).is_some();
        if is_other || self.consumers.delete(group) == Err(ResponseError::NonEmptyGroup) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if self.coordinator.group(group).is_none() && self.group_count() >= self.max_groups {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// A receiver that is gone (its connection closed) is no error: the member will be missed by
    /// its heartbeats.
    fn deliver(&mut self, replies: Vec<Reply>) {
        for reply in replies {
            match reply {
                Reply::Joined(token, result) => {
                    if let Some(sender) = self.joins.remove(&token) {
                        drop(sender.send(result));
                    }
                }
                Reply::Synced(token, result) => {
                    if let Some(sender) = self.syncs.remove(&token) {
                        drop(sender.send(result));
                    }
                }
            }
        }
    }
}
