//! The consumer groups there are, and an epoch no group has passed, kept across restarts.
//!
//! An epoch that is given a second time would make a commit of the time before the restart look
//! like one of now. So epochs are reserved on the disk in blocks before they are given: giving one
//! is a counter in memory, and a restart goes on above the block.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::BrokerError;
use crate::log::sealed::{self, Kind};

const KIND: Kind = Kind { name: "consumer-groups", holds: "which groups use the consumer protocol, and their epochs" };
const BLOCK: i32 = 1000;

/// The reserved epochs of every group, kept in `consumer-groups.json`.
#[derive(Debug)]
pub(crate) struct EpochStore {
    path: PathBuf,
    stored: Mutex<Stored>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Stored {
    /// A group's epochs are at most this.
    reserved_to: BTreeMap<String, i32>,
}

impl EpochStore {
    pub(crate) fn open(data_dir: &Path) -> Result<Self, BrokerError> {
        let path = data_dir.join("consumer-groups.json");
        let stored = sealed::read(&path, KIND)?.unwrap_or_default();
        Ok(Self { path, stored: Mutex::new(stored) })
    }

    /// Every group with the epoch up to which it may have been.
    pub(crate) fn groups(&self) -> Vec<(String, i32)> {
        self.stored.lock().reserved_to.iter().map(|(group, epoch)| (group.clone(), *epoch)).collect()
    }

    /// Reserves more epochs for a group, above the first answered and up to the second. `None` when
    /// there are no more, after two thousand million. Blocks on the disk.
    pub(crate) fn reserve(&self, group: &str) -> Result<Option<(i32, i32)>, BrokerError> {
        let mut stored = self.stored.lock();
        let reserved = stored.reserved_to.get(group).copied().unwrap_or_default();
        let Some(next) = reserved.checked_add(BLOCK) else { return Ok(None) };
        let mut changed = stored.clone();
        changed.reserved_to.insert(group.to_owned(), next);
        sealed::write(&self.path, KIND, &changed)?;
        *stored = changed;
        Ok(Some((reserved, next)))
    }

    /// Forgets groups. Blocks on the disk.
    pub(crate) fn remove(&self, groups: &[String]) -> Result<(), BrokerError> {
        let mut stored = self.stored.lock();
        let mut changed = stored.clone();
        for group in groups {
            changed.reserved_to.remove(group);
        }
        if changed.reserved_to.len() == stored.reserved_to.len() {
            return Ok(());
        }
        sealed::write(&self.path, KIND, &changed)?;
        *stored = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_epochs_survive_and_are_never_reserved_twice() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = EpochStore::open(dir.path()).expect("open");
        assert_eq!(store.reserve("a").expect("reserve"), Some((0, 1000)));
        assert_eq!(store.reserve("b").expect("reserve"), Some((0, 1000)));
        assert_eq!(store.reserve("a").expect("reserve"), Some((1000, 2000)));
        let store = EpochStore::open(dir.path()).expect("open");
        assert_eq!(store.groups(), [("a".to_owned(), 2000), ("b".to_owned(), 1000)]);
        store.remove(&["a".to_owned(), "nobody".to_owned()]).expect("remove");
        let store = EpochStore::open(dir.path()).expect("open");
        assert_eq!(store.groups(), [("b".to_owned(), 1000)]);
        store.stored.lock().reserved_to.insert("b".into(), i32::MAX - 10);
        assert_eq!(store.reserve("b").expect("reserve"), None);
    }
}
