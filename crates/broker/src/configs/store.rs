//! What was altered while the broker ran, kept in `configs.json` (sealed), and the settings that follow from it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, MutexGuard, RwLock};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::broker;
use crate::error::BrokerError;
use crate::log::config::Overrides;
use crate::log::sealed::{self, Kind};
use crate::settings::BrokerSettings;

const KIND: Kind = Kind { name: "configs", holds: "settings of the broker and of groups that were altered" };

/// Longest value of a setting that is kept here: a list of a few words, or a number.
const MAX_VALUE_BYTES: usize = 1024;

/// Whose settings are altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The defaults of every broker of a cluster, which this one heeds.
    AllBrokers,
    /// This one.
    Broker,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    all_brokers: Overrides,
    broker: Overrides,
    groups: BTreeMap<String, Overrides>,
}

/// Why settings are not altered.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("{0}")]
    Invalid(String),
    #[error("this broker keeps settings of {limit} groups, its limit (max_groups)")]
    TooMany { limit: usize },
    #[error("the disk refused: {0}")]
    Storage(#[from] BrokerError),
}

impl ConfigError {
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Invalid(_) => ResponseError::InvalidConfig,
            Self::TooMany { .. } => ResponseError::PolicyViolation,
            Self::Storage(_) => ResponseError::KafkaStorageError,
        }
    }
}

/// The settings of a broker, as they were given and as they are now.
#[derive(Debug)]
pub(crate) struct Configs {
    path: PathBuf,
    start: Arc<BrokerSettings>,
    current: RwLock<Current>,
    /// Held from the look at what there is until its change is made.
    altering: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Current {
    stored: Arc<Stored>,
    in_force: Arc<BrokerSettings>,
}

impl Configs {
    /// Opens what is kept beside the settings the broker was started with.
    pub(crate) fn open(start: Arc<BrokerSettings>) -> Result<Self, BrokerError> {
        let path = start.data_dir.join("configs.json");
        let mut stored: Stored = sealed::read(&path, KIND)?.unwrap_or_default();
        for own in [&mut stored.all_brokers, &mut stored.broker] {
            own.retain(|name, value| match broker::check(name, value) {
                Ok(()) => true,
                Err(reason) => {
                    // It was taken by a version that knew it: to refuse the start would help nobody.
                    tracing::warn!(name, value, reason, "a setting that was altered is not in force any more");
                    false
                }
            });
        }
        let in_force = Arc::new(in_force(&start, &stored));
        in_force.check()?;
        let current = RwLock::new(Current { stored: Arc::new(stored), in_force });
        Ok(Self { path, start, current, altering: Mutex::new(()) })
    }

    /// The settings the broker was started with.
    pub(crate) fn start(&self) -> &Arc<BrokerSettings> {
        &self.start
    }

    /// The settings in force now. What must follow a change asks each time.
    pub(crate) fn in_force(&self) -> Arc<BrokerSettings> {
        Arc::clone(&self.current.read().in_force)
    }

    /// What was altered for brokers.
    pub(crate) fn of(&self, scope: Scope) -> Overrides {
        let stored = self.stored();
        match scope {
            Scope::AllBrokers => stored.all_brokers.clone(),
            Scope::Broker => stored.broker.clone(),
        }
    }

    /// What was altered for a group.
    pub(crate) fn of_group(&self, group: &str) -> Overrides {
        self.stored().groups.get(group).cloned().unwrap_or_default()
    }

    /// Every group with settings of its own.
    pub(crate) fn groups(&self) -> Vec<(String, Overrides)> {
        self.stored().groups.iter().map(|(group, own)| (group.clone(), own.clone())).collect()
    }

    fn stored(&self) -> Arc<Stored> {
        Arc::clone(&self.current.read().stored)
    }

    /// Who alters settings holds this meanwhile, so that no change is made of what another has changed.
    pub(crate) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.altering.lock()
    }

    /// Checks what [`Configs::set`] would refuse.
    pub(crate) fn check(&self, scope: Scope, own: &Overrides) -> Result<(), ConfigError> {
        let mut next = Stored::clone(&self.stored());
        next.replace(scope, own.clone());
        check_lengths(own)?;
        in_force(&self.start, &next).check().map_err(|error| ConfigError::Invalid(error.to_string()))
    }

    /// Replaces what was altered for brokers, each value of which was checked. Blocks on the disk.
    pub(crate) fn set(&self, scope: Scope, own: Overrides) -> Result<(), ConfigError> {
        self.check(scope, &own)?;
        self.change(|stored| stored.replace(scope, own))
    }

    /// Checks what [`Configs::set_group`] would refuse.
    pub(crate) fn check_group(&self, group: &str, own: &Overrides) -> Result<(), ConfigError> {
        check_lengths(own)?;
        let (stored, limit) = (self.stored(), self.start.max_groups);
        if !own.is_empty() && !stored.groups.contains_key(group) && stored.groups.len() >= limit {
            return Err(ConfigError::TooMany { limit });
        }
        Ok(())
    }

    /// Replaces what was altered for a group, each value of which was checked. Blocks on the disk.
    pub(crate) fn set_group(&self, group: &str, own: Overrides) -> Result<(), ConfigError> {
        self.check_group(group, &own)?;
        self.change(|stored| {
            match own.is_empty() {
                true => stored.groups.remove(group),
                false => stored.groups.insert(group.to_owned(), own),
            };
        })
    }

    fn change(&self, change: impl FnOnce(&mut Stored)) -> Result<(), ConfigError> {
        let mut stored = Stored::clone(&self.stored());
        change(&mut stored);
        sealed::write(&self.path, KIND, &stored)?;
        let in_force = Arc::new(in_force(&self.start, &stored));
        *self.current.write() = Current { stored: Arc::new(stored), in_force };
        Ok(())
    }
}

impl Stored {
    fn replace(&mut self, scope: Scope, own: Overrides) {
        match scope {
            Scope::AllBrokers => self.all_brokers = own,
            Scope::Broker => self.broker = own,
        }
    }
}

fn check_lengths(own: &Overrides) -> Result<(), ConfigError> {
    let Some((name, value)) = own.iter().find(|(_, value)| value.len() > MAX_VALUE_BYTES) else { return Ok(()) };
    let found = value.len();
    Err(ConfigError::Invalid(format!("{name} has {found} bytes, expected at most {MAX_VALUE_BYTES}")))
}

/// The settings that follow from what was given and what was altered. Every value has passed its check.
fn in_force(start: &BrokerSettings, stored: &Stored) -> BrokerSettings {
    let mut settings = start.clone();
    for (name, value) in stored.all_brokers.iter().chain(&stored.broker) {
        if let Err(reason) = broker::set(&mut settings, name, value) {
            tracing::error!(name, value, reason, "a setting that was altered is not in force");
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &std::path::Path, change: impl FnOnce(&mut BrokerSettings)) -> Configs {
        let mut settings = BrokerSettings::new(dir);
        change(&mut settings);
        Configs::open(Arc::new(settings)).expect("opened")
    }

    fn own(settings: &[(&str, &str)]) -> Overrides {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_altered_for_one_broker_wins_over_all_brokers_and_that_over_the_start_and_is_kept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let configs = open(dir.path(), |settings| settings.retention_ms = 1);
        let retention = |configs: &Configs| configs.in_force().topic_defaults.get("retention.ms").cloned();
        assert_eq!(retention(&configs), None);
        for (scope, value, expected) in [
            (Scope::AllBrokers, Some("2"), Some("2")),
            (Scope::Broker, Some("3"), Some("3")),
            (Scope::AllBrokers, None, Some("3")),
            (Scope::Broker, None, None),
            (Scope::AllBrokers, Some("4"), Some("4")),
        ] {
            let altered: Vec<_> = value.iter().map(|value| ("log.retention.ms", *value)).collect();
            configs.set(scope, own(&altered)).expect("altered");
            assert_eq!(retention(&configs).as_deref(), expected, "{scope:?} {value:?}");
            let again = open(dir.path(), |_| {});
            assert_eq!(retention(&again).as_deref(), expected, "after a restart");
        }
        assert_eq!(configs.start().retention_ms, 1);
    }

    #[test]
    fn what_cannot_work_or_is_too_much_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let configs = open(dir.path(), |settings| settings.max_groups = 1);
        let long = "1".repeat(MAX_VALUE_BYTES + 1);
        let error = configs.set(Scope::Broker, own(&[("log.cleanup.policy", &long)])).expect_err("long");
        assert_eq!(error.to_string(), "log.cleanup.policy has 1025 bytes, expected at most 1024");
        configs.set_group("a", own(&[("consumer.session.timeout.ms", "50000")])).expect("altered");
        let error = configs.set_group("b", own(&[("consumer.session.timeout.ms", "50000")])).expect_err("full");
        assert_eq!(error.code(), ResponseError::PolicyViolation);
        configs.set_group("b", Overrides::new()).expect("nothing to keep");
        configs.set_group("a", Overrides::new()).expect("forgotten");
        configs.set_group("b", own(&[("consumer.session.timeout.ms", "50000")])).expect("there is room again");
        let names: Vec<String> = open(dir.path(), |_| {}).groups().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn a_setting_no_version_knows_any_more_does_not_stop_the_start() {
        let dir = tempfile::tempdir().expect("tempdir");
        let configs = open(dir.path(), |_| {});
        configs.change(|stored| stored.broker = own(&[("of.old", "1"), ("max.connections", "7")])).expect("written");
        let configs = open(dir.path(), |_| {});
        assert_eq!(configs.of(Scope::Broker), own(&[("max.connections", "7")]));
        assert_eq!(configs.in_force().max_connections, 7);
    }
}
