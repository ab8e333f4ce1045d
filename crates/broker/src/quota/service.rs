//! The quotas of a broker: kept in a file, applied to what clients send and read.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::entity::{self, Entity, Filter, Key, Limits};
use super::rate::{Rate, Windows};
use crate::clock::Clock;
use crate::error::BrokerError;
use crate::log::sealed::{self, Kind};

const KIND: Kind = Kind { name: "quotas", holds: "the quotas of users and clients" };

/// Who a request counts for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) user: &'a str,
    pub(crate) id: &'a str,
}

/// Bounds of the quotas themselves, from the settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) windows: Windows,
    /// Entities that have quotas.
    pub(crate) max_entities: usize,
    /// Users and clients whose rate is known.
    pub(crate) max_rates: usize,
}

/// A change of an entity's quotas: a value, or none to remove it.
pub(crate) type Changes = BTreeMap<Key, Option<f64>>;

/// Why quotas were not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AlterError {
    #[error("this broker has quotas for {limit} entities, its limit (max_quota_entities)")]
    TooMany { limit: usize },
    #[error("the disk refused: {0}")]
    Storage(#[from] BrokerError),
}

/// The quotas, and the rates of those they are for.
#[derive(Debug)]
pub(crate) struct Quotas {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    bounds: Bounds,
    /// Held by whoever changes the file, so that changes follow each other.
    changing: Mutex<()>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    limits: Limits,
    rates: HashMap<(Key, Entity), Rate>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    quotas: Vec<StoredEntity>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredEntity {
    entity: Entity,
    limits: BTreeMap<Key, f64>,
}

impl Quotas {
    pub(crate) fn open(data_dir: &Path, clock: Arc<dyn Clock>, bounds: Bounds) -> Result<Self, BrokerError> {
        let path = data_dir.join("quotas.json");
        let stored: Stored = sealed::read(&path, KIND)?.unwrap_or_default();
        let limits = stored.quotas.into_iter().map(|stored| (stored.entity, stored.limits)).collect();
        let inner = Mutex::new(Inner { limits, rates: HashMap::new() });
        Ok(Self { path, clock, bounds, changing: Mutex::new(()), inner })
    }

    /// The quotas a question is about.
    pub(crate) fn describe(&self, filter: &Filter) -> Vec<(Entity, BTreeMap<Key, f64>)> {
        let inner = self.inner.lock();
        let found = inner.limits.iter().filter(|(entity, _)| filter.matches(entity));
        found.map(|(entity, limits)| (entity.clone(), limits.clone())).collect()
    }

    /// Changes the quotas of an entity, durably. Blocks on the disk.
    pub(crate) fn alter(&self, entity: Entity, changes: &Changes, validate_only: bool) -> Result<(), AlterError> {
        let _changing = self.changing.lock();
        let mut limits = self.inner.lock().limits.clone();
        let own = limits.entry(entity.clone()).or_default();
        for (key, value) in changes {
            match value {
                Some(value) => drop(own.insert(*key, *value)),
                None => drop(own.remove(key)),
            }
        }
        if own.is_empty() {
            limits.remove(&entity);
        }
        if limits.len() > self.bounds.max_entities {
            return Err(AlterError::TooMany { limit: self.bounds.max_entities });
        }
        if validate_only || limits == self.inner.lock().limits {
            return Ok(());
        }
        let quotas =
            limits.iter().map(|(entity, limits)| StoredEntity { entity: entity.clone(), limits: limits.clone() });
        sealed::write(&self.path, KIND, &Stored { quotas: quotas.collect() })?;
        tracing::info!(?entity, ?changes, "quotas altered");
        self.inner.lock().limits = limits;
        Ok(())
    }

    /// Counts bytes a client has sent or is about to be sent; how long it is to be throttled, in milliseconds.
    pub(crate) fn count(&self, key: Key, client: Client<'_>, bytes: usize) -> i64 {
        let mut inner = self.inner.lock();
        if inner.limits.is_empty() {
            return 0;
        }
        let Some((counted, bound)) = entity::in_force(&inner.limits, key, client.user, client.id) else { return 0 };
        let now_ms = self.clock.monotonic_ms();
        let counted = (key, counted);
        if !inner.rates.contains_key(&counted) {
            inner.make_room(now_ms, self.bounds);
        }
        let rate = inner.rates.entry(counted).or_default();
        rate.count(bytes as f64, bound, now_ms, self.bounds.windows)
    }

    /// Takes back what was counted but not sent.
    pub(crate) fn uncount(&self, key: Key, client: Client<'_>, bytes: usize) {
        let mut inner = self.inner.lock();
        let found = entity::in_force(&inner.limits, key, client.user, client.id);
        if let Some(rate) = found.and_then(|(counted, _)| inner.rates.get_mut(&(key, counted))) {
            rate.uncount(bytes as f64);
        }
    }

    /// The most a client may be sent at once: what would use up its quota for all windows.
    pub(crate) fn most_at_once(&self, key: Key, client: Client<'_>) -> usize {
        let inner = self.inner.lock();
        let Windows { count, size_ms } = self.bounds.windows;
        let bound = entity::in_force(&inner.limits, key, client.user, client.id).map(|(_, bound)| bound);
        bound.map_or(usize::MAX, |bound| (bound * (count as f64 - 1.0).max(1.0) * size_ms as f64 / 1000.0) as usize)
    }
}

impl Inner {
    /// Client ids are free to choose, so the rates of those who have gone silent are forgotten, and if that is not
    /// enough all of them: a client then starts anew.
    fn make_room(&mut self, now_ms: i64, bounds: Bounds) {
        if self.rates.len() >= bounds.max_rates {
            self.rates.retain(|_, rate| !rate.is_idle(now_ms, bounds.windows));
        }
        if self.rates.len() >= bounds.max_rates {
            self.rates.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const BOUNDS: Bounds = Bounds { windows: Windows { count: 11, size_ms: 1000 }, max_entities: 2, max_rates: 3 };

    fn open(dir: &Path, clock: &Arc<ManualClock>) -> Quotas {
        Quotas::open(dir, Arc::clone(clock) as Arc<dyn Clock>, BOUNDS).expect("opened")
    }

    fn client(name: Option<&'static str>) -> Entity {
        Entity::parse([(entity::CLIENT_ID, name)].into_iter()).expect("valid")
    }

    fn limit(quotas: &Quotas, entity: Entity, value: Option<f64>) -> Result<(), AlterError> {
        quotas.alter(entity, &[(Key::ProducerByteRate, value)].into(), false)
    }

    fn count(quotas: &Quotas, id: &str, bytes: usize) -> i64 {
        quotas.count(Key::ProducerByteRate, Client { user: "u", id }, bytes)
    }

    #[test]
    fn a_client_over_its_quota_waits_and_the_others_do_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let clock = Arc::new(ManualClock::at(0));
        let quotas = open(dir.path(), &clock);
        assert_eq!(count(&quotas, "a", usize::MAX), 0, "no quotas");
        limit(&quotas, client(None), Some(1000.0)).expect("altered");
        assert_eq!(count(&quotas, "a", 10_000), 0);
        assert_eq!(count(&quotas, "a", 1000), 1000);
        assert_eq!(count(&quotas, "b", 10_000), 0, "each client has the default for itself");
        assert_eq!(quotas.count(Key::ConsumerByteRate, Client { user: "u", id: "a" }, 1 << 30), 0);
        clock.advance(20_000);
        assert_eq!(count(&quotas, "a", 10_000), 0);
        assert_eq!(quotas.most_at_once(Key::ProducerByteRate, Client { user: "u", id: "a" }), 10_000);
        limit(&quotas, client(None), None).expect("removed");
        assert_eq!(count(&quotas, "a", usize::MAX), 0);
    }

    #[test]
    fn quotas_are_kept_and_limited() {
        let dir = tempfile::tempdir().expect("tempdir");
        let clock = Arc::new(ManualClock::at(0));
        let quotas = open(dir.path(), &clock);
        limit(&quotas, client(Some("a")), Some(5.0)).expect("altered");
        limit(&quotas, client(None), Some(7.0)).expect("altered");
        let error = limit(&quotas, client(Some("c")), Some(5.0)).expect_err("one too many").to_string();
        assert!(error.contains("max_quota_entities"), "{error}");
        let all = Filter::default();
        let before = quotas.describe(&all);
        assert_eq!(before.len(), 2);
        assert_eq!(open(dir.path(), &clock).describe(&all), before);
        quotas.alter(client(None), &[(Key::ProducerByteRate, None)].into(), true).expect("valid");
        assert_eq!(quotas.describe(&all), before, "only validated");
    }

    #[test]
    fn clients_with_ever_new_ids_are_not_remembered_for_ever() {
        let dir = tempfile::tempdir().expect("tempdir");
        let quotas = open(dir.path(), &Arc::new(ManualClock::at(0)));
        limit(&quotas, client(None), Some(1.0)).expect("altered");
        for at in 0..1000 {
            count(&quotas, &at.to_string(), 1);
            assert!(quotas.inner.lock().rates.len() <= BOUNDS.max_rates);
        }
    }
}
