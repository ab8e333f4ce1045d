//! The part of [`Groups`] that serves share groups: heartbeats in, acknowledgements stored, and which groups there are.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};

use super::coordinator::{Coordinator, Heard, Heartbeat, Limits, not_found};
use super::partition::AckBatch;
use super::session::{At, SessionCache};
use super::settings::ShareConfig;
use super::store::{ShareStore, StoreError};
use crate::group::consumer::message::{JOIN, Refused};
use crate::group::consumer::topics::TopicImage;
use crate::group::service::{Groups, Inner};
use crate::log::config::Overrides;
use crate::log::topics::Topics;
use crate::settings::BrokerSettings;

/// What share groups have beside their members.
#[derive(Debug)]
pub(crate) struct Shares {
    pub(crate) store: ShareStore,
    pub(crate) sessions: Mutex<SessionCache>,
    /// Of a group without settings of its own.
    default_config: ShareConfig,
    /// Of those with some.
    configs: RwLock<BTreeMap<String, ShareConfig>>,
    max_members: usize,
    /// Whether an acknowledgement is on the disk before it is answered.
    is_durable: bool,
    /// Held by whoever makes or deletes a group, in memory and on the disk.
    changing: Mutex<()>,
}

impl Shares {
    pub(crate) fn new(
        store: ShareStore,
        sessions: SessionCache,
        default_config: ShareConfig,
        max_members: usize,
        is_durable: bool,
    ) -> Self {
        let sessions = Mutex::new(sessions);
        let (configs, changing) = (RwLock::default(), Mutex::default());
        Self { store, sessions, default_config, configs, max_members, is_durable, changing }
    }

    /// Heeds the settings a group has of its own from now on.
    pub(in crate::group) fn configure(&self, group: &str, own: &Overrides, settings: &BrokerSettings) {
        let mut configs = self.configs.write();
        match own.is_empty() {
            true => configs.remove(group),
            false => configs.insert(group.to_owned(), ShareConfig::of(own, settings)),
        };
    }

    /// The settings in force for a group.
    pub(crate) fn config(&self, group: &str) -> ShareConfig {
        self.configs.read().get(group).copied().unwrap_or(self.default_config)
    }

    /// Takes what a member says of records it has; `is_over` gives back what it has besides. Blocks on the disk.
    pub(crate) fn acknowledge(
        &self,
        group: &str,
        member: &str,
        at: At,
        batches: &[AckBatch],
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        let shared = self.store.get(group, at).ok_or(ResponseError::InvalidRecordState)?;
        let config = self.config(group);
        let renewed_ms = now_ms + i64::from(config.lock_duration_ms);
        let done = self.store.change(&shared, self.is_durable, |state| {
            state.acknowledge(member, batches, renewed_ms, config.max_deliveries)
        });
        done.map_err(|error| refusal(group, &error))
    }

    /// The session of a member is over: others may have what it has. Blocks on the disk.
    pub(crate) fn give_back(&self, group: &str, member: &str) {
        for (_, shared) in self.store.of_group(group) {
            if let Err(error) = self.store.change(&shared, false, |state| Ok(state.returned(member))) {
                // They are given back when their locks run out.
                refusal(group, &error);
            }
        }
    }

    /// Gives locks back that have run out. Blocks on the disk.
    pub(crate) fn expire(&self, now_ms: i64) {
        if let Err(error) = self.store.expire(now_ms, |group| self.config(group).max_deliveries) {
            tracing::error!(%error, "locks of share groups not given back: check the disk of the data folder");
        }
    }

    /// Forgets what was read of topics that are gone. Blocks on the disk.
    pub(crate) fn forget_topics(&self, topics: &Topics) {
        if let Err(error) = self.store.forget_topics(|id| topics.by_id(id).is_none()) {
            tracing::error!(%error, "what share groups have read of deleted topics not forgotten");
        }
    }
}

/// The error as the protocol says it.
pub(crate) fn refusal(group: &str, error: &StoreError) -> ResponseError {
    match error {
        StoreError::Refused(error) => *error,
        StoreError::NoGroup => ResponseError::GroupIdNotFound,
        StoreError::TooMany { .. } => {
            tracing::warn!(group, %error, "a partition is not read");
            ResponseError::PolicyViolation
        }
        StoreError::Storage(_) => {
            tracing::error!(group, %error, "share group not stored: check the disk of the data folder");
            ResponseError::KafkaStorageError
        }
    }
}

impl Groups {
    /// A member of a share group says that it is there. May block on the disk.
    pub(crate) fn share_heartbeat(&self, topics: &Topics, beat: &Heartbeat) -> Result<Heard, Refused> {
        beat.check()?;
        if beat.epoch == JOIN {
            self.make_share_group(&beat.group)?;
        }
        let config = self.shares().config(&beat.group);
        let limits = Limits {
            heartbeat_interval_ms: config.heartbeat_interval_ms,
            session_timeout_ms: config.session_timeout_ms,
            max_members: self.shares().max_members,
        };
        self.with(|inner, now_ms| {
            inner.see(topics);
            inner.shares.heartbeat(now_ms, &limits, &inner.image, beat)
        })
    }

    /// Makes sure that there is a share group of this name. Blocks on the disk.
    pub(crate) fn make_share_group(&self, group: &str) -> Result<(), Refused> {
        if self.look_shares(|shares, _| shares.group(group).is_some()) {
            return Ok(());
        }
        let _changing = self.shares().changing.lock();
        if self.offsets().has_group(group) {
            return Err(not_found(group));
        }
        // In memory first, so that no other kind of group takes the name meanwhile.
        self.with(|inner, _| inner.make_share(group))?;
        self.shares().store.create(group).map_err(|error| {
            self.with(|inner, _| inner.shares.delete(group).ok());
            tracing::error!(group, %error, "share group not made: check the disk of the data folder");
            let message = format!("The broker could not store share group {group}; see its log.");
            Refused::new(ResponseError::CoordinatorNotAvailable, message)
        })
    }

    /// Deletes a share group; `None` if there is none of this name. Blocks on the disk.
    pub(in crate::group) fn delete_share(&self, group: &str) -> Option<Result<(), ResponseError>> {
        let _changing = self.shares().changing.lock();
        let deleted = self.with(|inner, _| inner.shares.delete(group));
        match deleted {
            Err(ResponseError::GroupIdNotFound) => return None,
            Err(error) => return Some(Err(error)),
            Ok(()) => {}
        }
        Some(self.shares().store.remove(group, None).map_err(|error| {
            self.with(|inner, _| inner.shares.create(group));
            tracing::error!(group, %error, "share group not deleted: check the disk of the data folder");
            ResponseError::CoordinatorNotAvailable
        }))
    }

    /// Looks at the share groups, and at the topics as they saw them last.
    pub(crate) fn look_shares<T>(&self, look: impl FnOnce(&Coordinator, &TopicImage) -> T) -> T {
        let inner = self.inner.lock();
        look(&inner.shares, &inner.image)
    }

    /// Runs `work` on the state of a group that is there and that nobody is in.
    pub(crate) fn with_empty_share_group<T>(
        &self,
        group: &str,
        work: impl FnOnce(&ShareStore) -> T,
    ) -> Result<T, Refused> {
        // Nobody deletes it meanwhile. Who joins reads on from where it is then.
        let _changing = self.shares().changing.lock();
        self.look_shares(|shares, _| match shares.group(group) {
            None => Err(not_found(group)),
            Some(found) if !found.members.is_empty() => {
                let message = format!("Share group {group} has members, expected none; stop them first.");
                Err(Refused::new(ResponseError::NonEmptyGroup, message))
            }
            Some(_) => Ok(()),
        })?;
        Ok(work(&self.shares().store))
    }
}

impl Inner {
    fn make_share(&mut self, group: &str) -> Result<(), Refused> {
        if self.shares.group(group).is_some() {
            return Ok(());
        }
        if self.coordinator.group(group).is_some() || self.consumers.group(group).is_some() {
            return Err(not_found(group));
        }
        if self.group_count() >= self.max_groups {
            let message = format!("The broker has {} groups, the most it may have (max_groups).", self.max_groups);
            return Err(Refused::new(ResponseError::GroupMaxSizeReached, message));
        }
        self.shares.create(group);
        Ok(())
    }
}
