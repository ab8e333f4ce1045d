//! What share groups have read: in memory for members, in a journal for keeping.
//!
//! ```text
//! <data_dir>/share-groups.log, an entry a change (journal.rs):
//! {"highwater":"share-groups","version":1}
//! {"group":"g"}                                                        there is such a group
//! {"group":"g","topic":"<id>","partition":0,"start":42}                begins here, whatever was before
//! {"group":"g","topic":"<id>","partition":0,"changes":[[42,51,"k",1]]} records 42 to 51 are acknowledged
//! {"group":"g","topic":"<id>","removed":true}                          without a topic: all of the group
//! ```
//!
//! A change ends in `a` (available), `k` (acknowledged) or `x` (archived), and how often the records were handed out.
//! Locks are not stored: after a restart nobody has anything.
//!
//! The journal is taken before a partition, everywhere, so that entries stand in the order in which they took effect;
//! who only hands records out does without it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::partition::{Acquired, Change, Order, SharePartition, State, Stretch};
use super::session::At;
use crate::error::BrokerError;
use crate::log::journal::{Journal, Kind};
use crate::log::waiters::Waiters;

const KIND: Kind = Kind { name: "share-groups", version: 1, holds: "what share groups have read" };

/// A partition of a share group, shared by everything that uses it.
#[derive(Debug)]
pub(crate) struct Shared {
    group: String,
    at: At,
    state: Mutex<SharePartition>,
    /// Held from the look at what is next until that is acquired, so that no two members read the same for nothing.
    pub(crate) fetching: Mutex<()>,
    /// Those who wait for records that are given back.
    waiters: Waiters,
    /// Forgotten, while somebody still had it in hand. Changes with the state locked.
    is_gone: AtomicBool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<(i64, i64, Stored, i16)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
}

/// A state that is stored.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Stored {
    #[serde(rename = "a")]
    Available,
    #[serde(rename = "k")]
    Acknowledged,
    #[serde(rename = "x")]
    Archived,
}

/// The limits of share groups over the whole broker, from the settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_partitions: usize,
    pub(crate) max_in_flight_records: usize,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("share groups have read {limit} partitions, the most they may (max_share_partitions)")]
    TooMany { limit: usize },
    #[error("there is no such share group")]
    NoGroup,
    #[error("the acknowledgement is not right")]
    Refused(ResponseError),
    #[error("the disk refused: {0}")]
    Storage(#[from] io::Error),
}

type Groups = BTreeMap<String, BTreeMap<At, Arc<Shared>>>;

/// What every share group has read.
#[derive(Debug)]
pub(crate) struct ShareStore {
    journal: Journal,
    limits: Limits,
    groups: RwLock<Groups>,
    /// Records in flight, of all groups.
    in_flight: AtomicI64,
}

impl ShareStore {
    /// Opens or creates the store in `data_dir`.
    pub(crate) fn open(data_dir: &Path, limits: Limits) -> Result<Self, BrokerError> {
        let mut groups = Groups::new();
        let path = data_dir.join("share-groups.log");
        let journal = Journal::open(path, KIND, |entry| {
            apply(&mut groups, entry);
        })?;
        let in_flight = groups.values().flat_map(BTreeMap::values).map(|shared| shared.state.lock().in_flight()).sum();
        Ok(Self { journal, limits, groups: RwLock::new(groups), in_flight: AtomicI64::new(in_flight) })
    }

    pub(crate) fn group_names(&self) -> Vec<String> {
        self.groups.read().keys().cloned().collect()
    }

    /// Makes everything up to now durable. Blocks.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.journal.sync()
    }

    /// Notes that there is a group. Blocks on the disk.
    pub(crate) fn create(&self, group: &str) -> io::Result<()> {
        if self.groups.read().contains_key(group) {
            return Ok(());
        }
        self.write(Entry { group: group.to_owned(), ..Entry::default() })
    }

    /// Forgets a group, or a topic of it. Blocks on the disk.
    pub(crate) fn remove(&self, group: &str, topic: Option<Uuid>) -> io::Result<()> {
        self.write(Entry { group: group.to_owned(), topic, removed: true, ..Entry::default() })
    }

    /// Forgets topics that are gone. Blocks on the disk.
    pub(crate) fn forget_topics(&self, is_gone: impl Fn(Uuid) -> bool) -> io::Result<()> {
        let groups = self.groups.read();
        let topics = groups.iter().flat_map(|(group, partitions)| partitions.keys().map(|at| (group.clone(), at.0)));
        let mut gone: Vec<(String, Uuid)> = topics.filter(|(_, topic)| is_gone(*topic)).collect();
        drop(groups);
        gone.dedup();
        gone.iter().try_for_each(|(group, topic)| self.remove(group, Some(*topic)))
    }

    /// Partitions a group has begun to read.
    pub(crate) fn of_group(&self, group: &str) -> Vec<(At, Arc<Shared>)> {
        let groups = self.groups.read();
        groups.get(group).into_iter().flatten().map(|(at, shared)| (*at, Arc::clone(shared))).collect()
    }

    pub(crate) fn get(&self, group: &str, at: At) -> Option<Arc<Shared>> {
        self.groups.read().get(group)?.get(&at).cloned()
    }

    /// A partition, which begins at `start` if the group has not read it yet. Blocks on the disk.
    pub(crate) fn begin(&self, group: &str, at: At, start: i64) -> Result<Arc<Shared>, StoreError> {
        match self.get(group, at) {
            Some(shared) => Ok(shared),
            None => self.begin_anew(group, at, start),
        }
    }

    /// A partition that begins at `start`, whatever the group has read of it. Blocks on the disk.
    pub(crate) fn begin_anew(&self, group: &str, at: At, start: i64) -> Result<Arc<Shared>, StoreError> {
        {
            let groups = self.groups.read();
            let found = groups.get(group).ok_or(StoreError::NoGroup)?;
            let count: usize = groups.values().map(BTreeMap::len).sum();
            if !found.contains_key(&at) && count >= self.limits.max_partitions {
                return Err(StoreError::TooMany { limit: self.limits.max_partitions });
            }
        }
        let (topic, partition) = (Some(at.0), Some(at.1));
        self.write(Entry { group: group.to_owned(), topic, partition, start: Some(start), ..Entry::default() })?;
        self.get(group, at).ok_or(StoreError::NoGroup)
    }

    /// Changes a partition as `plan` says of its state, durably if `is_durable`. Blocks on the disk.
    pub(crate) fn change(
        &self,
        shared: &Shared,
        is_durable: bool,
        plan: impl FnOnce(&SharePartition) -> Result<Vec<Change>, ResponseError>,
    ) -> Result<(), StoreError> {
        let mut journal = self.journal.write();
        let mut state = shared.state.lock();
        if shared.is_gone() {
            return Err(StoreError::NoGroup);
        }
        let changes = plan(&state).map_err(StoreError::Refused)?;
        if changes.is_empty() {
            return Ok(());
        }
        let stored = stored(&changes);
        let is_stored = !stored.is_empty();
        if is_stored {
            journal.append(&shared.entry(None, stored))?;
        }
        self.alter(&mut state, |state| state.apply(changes));
        drop(state);
        let groups = self.groups.read();
        journal.keep_small(live(&groups), || everything(&groups));
        drop(groups);
        shared.waiters.wake();
        if is_stored && is_durable { Ok(self.journal.sync()?) } else { Ok(()) }
    }

    /// Gives locks back that have run out. Blocks on the disk.
    pub(crate) fn expire(&self, now_ms: i64, max_deliveries: impl Fn(&str) -> i16) -> io::Result<()> {
        let groups = self.groups.read();
        let all: Vec<Arc<Shared>> = groups.values().flat_map(BTreeMap::values).map(Arc::clone).collect();
        drop(groups);
        for shared in all {
            let is_late = shared.state.lock().next_deadline_ms().is_some_and(|deadline| deadline <= now_ms);
            if !is_late {
                continue;
            }
            let max_deliveries = max_deliveries(&shared.group);
            match self.change(&shared, false, |state| Ok(state.expired(now_ms, max_deliveries))) {
                Err(StoreError::Storage(error)) => return Err(error),
                _ => {
                    tracing::debug!(group = shared.group, topic = %shared.at.0, partition = shared.at.1, "locks ran out")
                }
            }
        }
        Ok(())
    }

    /// Acquires records of what was read from `from` on.
    pub(crate) fn acquire(&self, shared: &Shared, order: Order, from: i64, read: &[Stretch]) -> Vec<Acquired> {
        let most = i64::try_from(self.limits.max_in_flight_records).unwrap_or(i64::MAX);
        // Reserved before it is used, so that many at once do not go over the limit.
        let mut reserved = 0;
        let reserve = |used: i64| {
            reserved = order.max_in_flight.min(most - used).max(0);
            Some(used + reserved)
        };
        let _ = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        let mut state = shared.state.lock();
        let max_in_flight = order.max_in_flight.min(state.in_flight() + reserved);
        let order = Order { max_in_flight, ..order };
        let acquired = match shared.is_gone() {
            true => Vec::new(),
            false => self.alter(&mut state, |state| state.acquire(&order, from, read)),
        };
        self.in_flight.fetch_sub(reserved, Ordering::Relaxed);
        acquired
    }

    /// The log begins and ends here now. What is beyond cannot be read, so nothing is stored of it.
    pub(crate) fn fit(&self, shared: &Shared, log_start: i64, log_end: i64) {
        let mut state = shared.state.lock();
        if !shared.is_gone() && (state.start() < log_start || state.end() > log_end) {
            self.alter(&mut state, |state| {
                state.begin_at(log_start);
                state.end_at(log_end);
            });
        }
    }

    /// Changes a state and counts what is in flight.
    fn alter<T>(&self, state: &mut SharePartition, alter: impl FnOnce(&mut SharePartition) -> T) -> T {
        let before = state.in_flight();
        let result = alter(state);
        self.in_flight.fetch_add(state.in_flight() - before, Ordering::Relaxed);
        result
    }

    fn write(&self, entry: Entry) -> io::Result<()> {
        let mut journal = self.journal.write();
        journal.append(&entry)?;
        let mut groups = self.groups.write();
        self.in_flight.fetch_add(apply(&mut groups, entry), Ordering::Relaxed);
        journal.keep_small(live(&groups), || everything(&groups));
        Ok(())
    }
}

impl Shared {
    fn new(group: &str, at: At, start: i64) -> Self {
        Self {
            group: group.to_owned(),
            at,
            state: Mutex::new(SharePartition::new(start)),
            fetching: Mutex::default(),
            waiters: Waiters::default(),
            is_gone: AtomicBool::new(false),
        }
    }

    /// The first offset that is not finished.
    pub(crate) fn start(&self) -> i64 {
        self.state.lock().start()
    }

    /// The first offset that could be acquired; `None` if there can be none for now.
    pub(crate) fn next_offset(&self, max_in_flight: i64) -> Option<i64> {
        self.state.lock().next_offset(max_in_flight)
    }

    /// Has `waiter` notified once when records are given back, or the start moves.
    pub(crate) fn register(&self, waiter: &Arc<Notify>) {
        self.waiters.register(waiter);
    }

    /// Asked with the state locked.
    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// It is forgotten; answers how many fewer records are in flight, as a number to add.
    fn retire(&self) -> i64 {
        let state = self.state.lock();
        self.is_gone.store(true, Ordering::Relaxed);
        -state.in_flight()
    }

    fn entry(&self, start: Option<i64>, changes: Vec<(i64, i64, Stored, i16)>) -> Entry {
        let (topic, partition) = (Some(self.at.0), Some(self.at.1));
        Entry { group: self.group.clone(), topic, partition, start, changes, removed: false }
    }
}

/// The changes that are stored.
fn stored(changes: &[Change]) -> Vec<(i64, i64, Stored, i16)> {
    let stored = changes.iter().filter_map(|change| {
        let state = match change.state {
            State::Available => Stored::Available,
            State::Acknowledged => Stored::Acknowledged,
            State::Archived => Stored::Archived,
            State::Acquired { .. } => return None,
        };
        Some((change.first, change.last, state, change.deliveries))
    });
    stored.collect()
}

/// Entries it takes to say everything.
fn live(groups: &Groups) -> usize {
    groups.len() + groups.values().map(BTreeMap::len).sum::<usize>()
}

fn everything(groups: &Groups) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (group, partitions) in groups {
        entries.push(Entry { group: group.clone(), ..Entry::default() });
        entries.extend(partitions.values().map(|shared| {
            let state = shared.state.lock();
            shared.entry(Some(state.start()), stored(&state.changes()))
        }));
    }
    entries
}

/// Applies an entry; answers by how much the records in flight change.
fn apply(groups: &mut Groups, entry: Entry) -> i64 {
    let at = entry.topic.zip(entry.partition);
    match (entry.removed, entry.topic, at) {
        (true, None, _) => groups.remove(&entry.group).iter().flatten().map(|(_, shared)| shared.retire()).sum(),
        (true, Some(topic), _) => {
            let partitions = groups.entry(entry.group).or_default();
            partitions.extract_if(.., |at, _| at.0 == topic).map(|(_, shared)| shared.retire()).sum()
        }
        (false, _, None) => {
            groups.entry(entry.group).or_default();
            0
        }
        (false, _, Some(at)) => {
            let partitions = groups.entry(entry.group.clone()).or_default();
            let begin = || Arc::new(Shared::new(&entry.group, at, entry.start.unwrap_or_default()));
            let mut state = partitions.entry(at).or_insert_with(begin).state.lock();
            let before = state.in_flight();
            if let Some(start) = entry.start {
                *state = SharePartition::new(start);
            }
            state.apply(entry.changes.into_iter().map(change));
            state.in_flight() - before
        }
    }
}

fn change((first, last, stored, deliveries): (i64, i64, Stored, i16)) -> Change {
    let state = match stored {
        Stored::Available => State::Available,
        Stored::Acknowledged => State::Acknowledged,
        Stored::Archived => State::Archived,
    };
    Change { first, last, state, deliveries }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
