//! The access rules of the broker, in memory and in `acls.json`, sealed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::acl::{Acl, Filter};
use crate::error::BrokerError;
use crate::log::sealed::{self, Kind};

const KIND: Kind = Kind { name: "acls", holds: "the access rules" };

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    acls: BTreeSet<Acl>,
}

/// The rules.
#[derive(Debug)]
pub(crate) struct Acls {
    path: PathBuf,
    limit: usize,
    current: RwLock<Arc<BTreeSet<Acl>>>,
    /// Held while the file is written, so that decisions never wait for the disk.
    writing: Mutex<()>,
}

impl Acls {
    pub(crate) fn open(data_dir: &Path, limit: usize) -> Result<Self, BrokerError> {
        let path = data_dir.join("acls.json");
        let stored: Option<Stored> = sealed::read(&path, KIND)?;
        let current = stored.map(|stored| stored.acls).unwrap_or_default();
        Ok(Self { path, limit, current: RwLock::new(Arc::new(current)), writing: Mutex::new(()) })
    }

    /// The rules as they are now.
    pub(crate) fn current(&self) -> Arc<BTreeSet<Acl>> {
        Arc::clone(&self.current.read())
    }

    /// Adds rules, durably. Blocks on the disk. `Ok(false)`: there would be too many.
    pub(crate) fn add(&self, acls: impl IntoIterator<Item = Acl>) -> Result<bool, BrokerError> {
        let _writing = self.writing.lock();
        let before = self.current();
        let mut next = BTreeSet::clone(&before);
        next.extend(acls);
        if next.len() > self.limit && next.len() > before.len() {
            return Ok(false);
        }
        self.replace(&before, next).map(|()| true)
    }

    /// Removes what any of the filters matches, durably, and answers what each did. Blocks on the disk.
    pub(crate) fn remove(&self, filters: &[Filter]) -> Result<Vec<Vec<Acl>>, BrokerError> {
        let _writing = self.writing.lock();
        let before = self.current();
        let matched = |filter: &Filter| before.iter().filter(|acl| filter.matches(acl)).cloned().collect();
        let removed: Vec<Vec<Acl>> = filters.iter().map(matched).collect();
        let mut next = BTreeSet::clone(&before);
        next.retain(|acl| !filters.iter().any(|filter| filter.matches(acl)));
        self.replace(&before, next)?;
        Ok(removed)
    }

    fn replace(&self, before: &BTreeSet<Acl>, next: BTreeSet<Acl>) -> Result<(), BrokerError> {
        if *before == next {
            return Ok(());
        }
        let stored = Stored { acls: next };
        sealed::write(&self.path, KIND, &stored)?;
        *self.current.write() = Arc::new(stored.acls);
        Ok(())
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}
