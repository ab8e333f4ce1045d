//! The consumer groups there are, and an epoch no group has passed, kept across restarts.
//!
//! ```text
//! <data_dir>/consumer-groups.log (journal.rs)
//! {"highwater":"consumer-groups","version":1}
//! {"group":"g","reserved_to":2000}      its epochs are at most this
//! {"group":"g","reserved_to":null}      it is gone, or of the classic protocol by now
//! ```
//!
//! An epoch that is given a second time would make a commit of the time before the restart look
//! like one of now. So epochs are reserved on the disk in blocks before they are given: giving one
//! is a counter in memory, and a restart goes on above the block. A reservation is forced to the
//! disk whatever the fsync mode is; those of many new groups share an fsync.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::BrokerError;
use crate::log::journal::{Journal, Kind};

const KIND: Kind =
    Kind { name: "consumer-groups", version: 1, holds: "which groups use the consumer protocol, and their epochs" };
const BLOCK: i32 = 1000;

/// The reserved epochs of every group.
#[derive(Debug)]
pub(crate) struct EpochStore {
    journal: Journal,
    /// A group's epochs are at most this.
    reserved_to: Mutex<BTreeMap<String, i32>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    group: String,
    reserved_to: Option<i32>,
}

impl EpochStore {
    pub(crate) fn open(data_dir: &Path) -> Result<Self, BrokerError> {
        let mut reserved_to = BTreeMap::new();
        let path = data_dir.join("consumer-groups.log");
        let journal = Journal::open(path, KIND, |entry| {
            apply(&mut reserved_to, entry);
        })?;
        Ok(Self { journal, reserved_to: Mutex::new(reserved_to) })
    }

    /// Every group with the epoch up to which it may have been.
    pub(crate) fn groups(&self) -> Vec<(String, i32)> {
        self.reserved_to.lock().iter().map(|(group, epoch)| (group.clone(), *epoch)).collect()
    }

    /// Reserves more epochs for a group, above the first answered and up to the second. `None` when
    /// there are no more, after two thousand million. Blocks on the disk.
    pub(crate) fn reserve(&self, group: &str) -> io::Result<Option<(i32, i32)>> {
        let block = self.write(|reserved_to| {
            let reserved = reserved_to.get(group).copied().unwrap_or_default();
            let block = reserved.checked_add(BLOCK).map(|next| (reserved, next));
            let entry = |(_, next)| Entry { group: group.to_owned(), reserved_to: Some(next) };
            (block.map(entry).into_iter().collect(), block)
        })?;
        // A block that could not be forced to the disk is given to nobody: the next one is above it.
        self.journal.sync().map(|()| block)
    }

    /// Forgets groups. Blocks on the disk.
    pub(crate) fn remove(&self, groups: &[String]) -> io::Result<()> {
        let removed = self.write(|reserved_to| {
            let known = groups.iter().filter(|group| reserved_to.contains_key(*group));
            let entries: Vec<Entry> = known.map(|group| Entry { group: group.clone(), reserved_to: None }).collect();
            let count = entries.len();
            (entries, count)
        })?;
        if removed > 0 { self.journal.sync() } else { Ok(()) }
    }

    /// Stores what `decide` makes of what there is, and lets it count.
    fn write<T>(&self, decide: impl FnOnce(&BTreeMap<String, i32>) -> (Vec<Entry>, T)) -> io::Result<T> {
        let mut journal = self.journal.write();
        let mut reserved_to = self.reserved_to.lock();
        let (entries, answer) = decide(&reserved_to);
        for entry in entries {
            journal.append(&entry)?;
            apply(&mut reserved_to, entry);
        }
        journal.keep_small(reserved_to.len(), || {
            let entry = |(group, to): (&String, &i32)| Entry { group: group.clone(), reserved_to: Some(*to) };
            reserved_to.iter().map(entry).collect()
        });
        Ok(answer)
    }
}

fn apply(reserved_to: &mut BTreeMap<String, i32>, entry: Entry) {
    match entry.reserved_to {
        Some(to) => reserved_to.insert(entry.group, to),
        None => reserved_to.remove(&entry.group),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::journal::REWRITE_AT_LEAST;

    fn open(dir: &Path) -> EpochStore {
        EpochStore::open(dir).expect("open")
    }

    #[test]
    fn reserved_epochs_survive_and_are_never_reserved_twice() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = open(dir.path());
        assert_eq!(store.reserve("a").expect("reserve"), Some((0, 1000)));
        assert_eq!(store.reserve("b").expect("reserve"), Some((0, 1000)));
        assert_eq!(store.reserve("a").expect("reserve"), Some((1000, 2000)));
        let store = open(dir.path());
        assert_eq!(store.groups(), [("a".to_owned(), 2000), ("b".to_owned(), 1000)]);
        store.remove(&["a".to_owned(), "nobody".to_owned()]).expect("remove");
        let store = open(dir.path());
        assert_eq!(store.groups(), [("b".to_owned(), 1000)]);
        store.reserved_to.lock().insert("b".into(), i32::MAX - 10);
        assert_eq!(store.reserve("b").expect("reserve"), None);
    }

    #[test]
    fn the_file_grows_by_a_line_a_group_and_not_without_end() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = open(dir.path());
        let size = || std::fs::metadata(dir.path().join("consumer-groups.log")).expect("there").len();
        let head = size();
        store.reserve("group-100").expect("reserve");
        let line = size() - head;
        store.reserve("group-101").expect("reserve");
        assert_eq!(size(), head + 2 * line, "one group more is one line more");
        // Groups that come and go, as those of tests do.
        let decide = |reserved_to| Entry { group: "short-lived".to_owned(), reserved_to };
        for _ in 0..REWRITE_AT_LEAST / 2 {
            store.write(|_| (vec![decide(Some(1000)), decide(None)], ())).expect("written");
        }
        assert!(store.journal.entries() < 10, "{} entries", store.journal.entries());
        drop(store);
        let names: Vec<String> = open(dir.path()).groups().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["group-100", "group-101"]);
    }
}
