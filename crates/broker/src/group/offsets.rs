//! Committed offsets: in memory for reading, in a journal for keeping.
//!
//! ```text
//! <data_dir>/offsets.log, an entry a whole commit request (journal.rs):
//! {"highwater":"offsets","version":1}
//! {"group":"g","commits":[{"topic":"t","partition":0,"offset":42,...}],"at_ms":...}
//! {"group":"g","removed":[["t",0]],...}                     an empty list removes the group
//! {"group":"g","producer":7,"commits":[...],...}            waits for the end of a transaction
//! {"group":"g","producer":7,"outcome":"commit",...}         which is here
//! ```
//!
//! An offset that is committed in a transaction is pending until the transaction ends: it is not
//! told to anybody, and who asks for stable offsets is told to ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::error::BrokerError;
use crate::log::control::Outcome;
use crate::log::journal::{Journal, Kind};

const KIND: Kind = Kind { name: "offsets", version: 1, holds: "the committed offsets of consumer groups" };

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// Topic and partition.
pub(crate) type At = (String, i32);

#[derive(Debug, Clone, Default)]
struct GroupOffsets {
    offsets: BTreeMap<At, Committed>,
    /// By the producer whose transaction they wait for.
    pending: BTreeMap<i64, BTreeMap<At, Committed>>,
    /// Last commit, last time members were seen, or start of the broker: retention counts from
    /// here, so a group that is used is never forgotten because it had nothing to commit.
    last_used_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    producer: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commits: Option<Vec<EntryCommit>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<Vec<At>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    at_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryCommit {
    topic: String,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

impl Entry {
    fn new(group: &str, at_ms: i64) -> Self {
        Self { group: group.to_owned(), producer: None, commits: None, removed: None, outcome: None, at_ms }
    }

    fn with_commits(mut self, commits: impl IntoIterator<Item = (At, Committed)>) -> Self {
        let described = commits.into_iter().map(|((topic, partition), committed)| {
            let Committed { offset, leader_epoch, metadata } = committed;
            EntryCommit { topic, partition, offset, leader_epoch, metadata }
        });
        self.commits = Some(described.collect());
        self
    }
}

/// The committed offsets of every group.
#[derive(Debug)]
pub(crate) struct OffsetStore {
    journal: Journal,
    groups: RwLock<BTreeMap<String, GroupOffsets>>,
    /// What may have changed since it was last asked.
    changed: Mutex<BTreeSet<(String, At)>>,
    /// Somebody has asked where a group is: then there has to be a topic to look at, as in Kafka.
    is_watched: AtomicBool,
}

impl OffsetStore {
    /// Opens or creates the store in `data_dir`.
    pub(crate) fn open(data_dir: &Path, now_ms: i64) -> Result<Self, BrokerError> {
        let mut groups = BTreeMap::new();
        let path = data_dir.join("offsets.log");
        let mut changed = BTreeSet::new();
        let journal = Journal::open(path, KIND, |entry| {
            changed.extend(apply(&mut groups, entry));
        })?;
        groups.values_mut().for_each(|group| group.last_used_ms = group.last_used_ms.max(now_ms));
        Ok(Self {
            journal,
            groups: RwLock::new(groups),
            changed: Mutex::new(changed),
            is_watched: AtomicBool::new(false),
        })
    }

    /// Commits offsets of one group: all of them or none. Blocks on the disk.
    pub(crate) fn commit(&self, group: &str, commits: Vec<(At, Committed)>, now_ms: i64) -> io::Result<()> {
        self.write(Entry::new(group, now_ms).with_commits(commits))
    }

    /// Commits offsets of one group once the transaction of a producer does. Blocks on the disk.
    pub(crate) fn commit_pending(
        &self,
        group: &str,
        producer_id: i64,
        commits: Vec<(At, Committed)>,
        now_ms: i64,
    ) -> io::Result<()> {
        self.write(Entry { producer: Some(producer_id), ..Entry::new(group, now_ms) }.with_commits(commits))
    }

    /// Ends the transaction of a producer for a group: what is pending is committed or forgotten.
    /// Blocks on the disk.
    pub(crate) fn resolve(&self, group: &str, producer_id: i64, outcome: Outcome, now_ms: i64) -> io::Result<()> {
        let pending = self.groups.read().get(group).is_some_and(|found| found.pending.contains_key(&producer_id));
        if !pending {
            return Ok(());
        }
        self.write(Entry { producer: Some(producer_id), outcome: Some(outcome), ..Entry::new(group, now_ms) })
    }

    /// The offsets that were committed or forgotten since this was last asked; at first, all of them.
    pub(crate) fn take_changed(&self) -> Vec<(String, At)> {
        std::mem::take(&mut *self.changed.lock()).into_iter().collect()
    }

    /// Notes that somebody may want to look at the topic of offsets.
    pub(crate) fn watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Whether [`OffsetStore::watch`] was called since this was last asked.
    pub(crate) fn take_watched(&self) -> bool {
        self.is_watched.swap(false, Ordering::Relaxed)
    }

    /// Every group and producer with pending offsets.
    pub(crate) fn pending(&self) -> Vec<(String, i64)> {
        let groups = self.groups.read();
        let of_group = |(name, group): (&String, &GroupOffsets)| {
            group.pending.keys().map(|&producer| (name.clone(), producer)).collect::<Vec<_>>()
        };
        groups.iter().flat_map(of_group).collect()
    }

    /// The partitions of a group with pending offsets.
    pub(crate) fn unstable(&self, group: &str) -> BTreeSet<At> {
        let groups = self.groups.read();
        let pending = groups.get(group).into_iter().flat_map(|group| group.pending.values());
        pending.flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Forgets a group. Blocks on the disk.
    pub(crate) fn remove_group(&self, group: &str, now_ms: i64) -> io::Result<()> {
        self.write(Entry { removed: Some(Vec::new()), ..Entry::new(group, now_ms) })
    }

    /// Forgets some offsets of a group. Blocks on the disk.
    pub(crate) fn remove(&self, group: &str, removed: Vec<At>, now_ms: i64) -> io::Result<()> {
        // An empty list would say: all of the group.
        if removed.is_empty() {
            return Ok(());
        }
        self.write(Entry { removed: Some(removed), ..Entry::new(group, now_ms) })
    }

    /// Forgets every group's offsets of a topic, which is gone. Blocks on the disk.
    pub(crate) fn remove_topic(&self, topic: &str, now_ms: i64) -> io::Result<()> {
        let mut doomed = Vec::new();
        for (group, offsets) in &*self.groups.read() {
            let pending = offsets.pending.values().flat_map(BTreeMap::keys);
            let removed: BTreeSet<At> =
                offsets.offsets.keys().chain(pending).filter(|(name, _)| name == topic).cloned().collect();
            if !removed.is_empty() {
                doomed.push(Entry { removed: Some(removed.into_iter().collect()), ..Entry::new(group, now_ms) });
            }
        }
        doomed.into_iter().try_for_each(|entry| self.write(entry))
    }

    fn write(&self, entry: Entry) -> io::Result<()> {
        let mut journal = self.journal.write();
        journal.append(&entry)?;
        let live = {
            let mut groups = self.groups.write();
            let changed = apply(&mut groups, entry);
            self.changed.lock().extend(changed);
            groups.len()
        };
        journal.keep_small(live, || self.all());
        Ok(())
    }

    /// Everything there is, as entries.
    fn all(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, group) in &*self.groups.read() {
            let entry = || Entry::new(name, group.last_used_ms);
            entries.push(entry().with_commits(group.offsets.clone()));
            entries.extend(group.pending.iter().map(|(&producer, commits)| {
                Entry { producer: Some(producer), ..entry() }.with_commits(commits.clone())
            }));
        }
        entries
    }

    /// Makes every commit up to now durable; those that come together share an fsync. Blocks.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.journal.sync()
    }

    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        self.groups.read().get(group)?.offsets.get(&(topic.to_owned(), partition)).cloned()
    }

    /// Every offset of a group, by topic and partition.
    pub(crate) fn of_group(&self, group: &str) -> Vec<(At, Committed)> {
        let groups = self.groups.read();
        let Some(found) = groups.get(group) else { return Vec::new() };
        found.offsets.iter().map(|(at, committed)| (at.clone(), committed.clone())).collect()
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.groups.read().contains_key(group)
    }

    pub(crate) fn group_names(&self) -> Vec<String> {
        self.groups.read().keys().cloned().collect()
    }

    pub(crate) fn group_count(&self) -> usize {
        self.groups.read().len()
    }

    /// Notes that a group has members.
    pub(crate) fn touch(&self, group: &str, now_ms: i64) {
        if let Some(group) = self.groups.write().get_mut(group) {
            group.last_used_ms = group.last_used_ms.max(now_ms);
        }
    }

    /// Groups that were last used before that.
    pub(crate) fn last_used_before(&self, oldest_ms: i64) -> Vec<String> {
        let groups = self.groups.read();
        groups.iter().filter(|(_, group)| group.last_used_ms < oldest_ms).map(|(name, _)| name.clone()).collect()
    }
}

/// Applies an entry; answers the offsets it may have changed.
fn apply(groups: &mut BTreeMap<String, GroupOffsets>, entry: Entry) -> Vec<(String, At)> {
    let now_ms = entry.at_ms;
    let mut changed: Vec<At> = Vec::new();
    if let Some(commits) = entry.commits {
        let group = groups.entry(entry.group.clone()).or_default();
        group.last_used_ms = now_ms;
        let commits = commits.into_iter().map(|commit| {
            let EntryCommit { topic, partition, offset, leader_epoch, metadata } = commit;
            ((topic, partition), Committed { offset, leader_epoch, metadata })
        });
        match entry.producer {
            Some(producer) => group.pending.entry(producer).or_default().extend(commits),
            None => commits.for_each(|(at, committed)| {
                changed.push(at.clone());
                group.offsets.insert(at, committed);
            }),
        }
    }
    if let Some(group) = groups.get_mut(&entry.group) {
        if let (Some(producer), Some(outcome)) = (entry.producer, entry.outcome) {
            let pending = group.pending.remove(&producer).unwrap_or_default();
            group.last_used_ms = now_ms;
            if outcome == Outcome::Commit {
                changed.extend(pending.keys().cloned());
                group.offsets.extend(pending);
            }
        }
        if let Some(removed) = entry.removed {
            changed.extend(group.remove(&removed));
        }
        group.pending.retain(|_, pending| !pending.is_empty());
        if group.offsets.is_empty() && group.pending.is_empty() {
            groups.remove(&entry.group);
        }
    }
    changed.into_iter().map(|at| (entry.group.clone(), at)).collect()
}

impl GroupOffsets {
    /// Forgets some offsets, or all where none is named; answers those that were committed.
    fn remove(&mut self, removed: &[At]) -> Vec<At> {
        if removed.is_empty() {
            self.pending.clear();
            return std::mem::take(&mut self.offsets).into_keys().collect();
        }
        for pending in self.pending.values_mut() {
            pending.retain(|at, _| !removed.contains(at));
        }
        removed.iter().filter(|at| self.offsets.remove(at).is_some()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::log::journal::REWRITE_AT_LEAST;

    fn at(partition: i32) -> At {
        ("orders".to_owned(), partition)
    }

    fn committed(offset: i64) -> Committed {
        Committed { offset, leader_epoch: 0, metadata: "m \"quoted\"\n".into() }
    }

    #[test]
    fn commits_survive_and_removals_too() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        store.commit("a", vec![(at(0), committed(1)), (at(1), committed(2))], 10).expect("commit");
        store.commit("a", vec![(at(0), committed(5))], 20).expect("commit");
        store.commit("b", vec![(at(0), committed(7))], 30).expect("commit");
        store.commit("c", vec![(("gone".into(), 0), committed(7))], 30).expect("commit");
        store.remove_group("b", 40).expect("remove");
        store.remove_topic("gone", 40).expect("remove");
        store.sync().expect("sync");
        drop(store);
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        assert_eq!(store.of_group("a"), [(at(0), committed(5)), (at(1), committed(2))]);
        assert_eq!(store.group_names(), ["a"]);
        assert_eq!(store.last_used_before(21), ["a"]);
        assert!(store.last_used_before(20).is_empty());
        store.touch("a", 100);
        assert!(store.last_used_before(100).is_empty());
        drop(store);
        // A restart counts as a use: its members may not be back yet.
        let store = OffsetStore::open(dir.path(), 500).expect("open");
        assert!(store.last_used_before(500).is_empty());
    }

    #[test]
    fn pending_offsets_wait_for_their_transaction() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        store.commit("a", vec![(at(0), committed(1))], 10).expect("commit");
        store.commit_pending("a", 7, vec![(at(0), committed(5)), (at(1), committed(6))], 20).expect("commit");
        store.commit_pending("b", 8, vec![(at(0), committed(9))], 20).expect("commit");
        assert_eq!(store.of_group("a"), [(at(0), committed(1))]);
        assert_eq!(store.unstable("a"), [at(0), at(1)].into());
        drop(store);
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        assert_eq!(store.pending(), [("a".to_owned(), 7), ("b".to_owned(), 8)]);
        store.resolve("a", 7, Outcome::Commit, 30).expect("resolved");
        store.resolve("b", 8, Outcome::Abort, 30).expect("resolved");
        store.resolve("b", 8, Outcome::Commit, 30).expect("nothing is left to resolve");
        for _ in 0..2 {
            let store = OffsetStore::open(dir.path(), 0).expect("open");
            assert_eq!(store.of_group("a"), [(at(0), committed(5)), (at(1), committed(6))]);
            assert_eq!((store.group_names(), store.pending()), (vec!["a".to_owned()], Vec::new()));
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_and_a_bad_line_before_good_ones_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("offsets.log");
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        store.commit("a", vec![(at(0), committed(1))], 0).expect("commit");
        store.commit("a", vec![(at(0), committed(2))], 0).expect("commit");
        drop(store);
        let whole = fs::read(&path).expect("read");
        let ends: Vec<usize> =
            whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
        let [head, first, last] = ends[..] else { panic!("{ends:?}, expected a first line and two entries") };
        for cut in 1..=last - first {
            fs::write(&path, &whole[..whole.len() - cut]).expect("write");
            let store = OffsetStore::open(dir.path(), 0).expect("a torn end is no error");
            assert_eq!(store.of_group("a"), [(at(0), committed(1))], "cut {cut}");
        }
        let mut damaged = whole.clone();
        damaged[head + 20] ^= 1;
        fs::write(&path, damaged).expect("write");
        let error = OffsetStore::open(dir.path(), 0).expect_err("damaged").to_string();
        assert!(error.contains("offsets.log") && error.contains(&format!("position {head}")), "{error}");
    }

    #[test]
    fn a_file_of_outdated_entries_is_rewritten() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        for offset in 0..REWRITE_AT_LEAST as i64 + 10 {
            store.commit("a", vec![(at(0), committed(offset))], offset).expect("commit");
        }
        assert!(store.journal.entries() < 20);
        drop(store);
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        assert_eq!(store.get("a", "orders", 0), Some(committed(REWRITE_AT_LEAST as i64 + 9)));
    }
}
