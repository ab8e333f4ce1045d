//! Committed offsets: in memory for reading, in one append-only file for keeping.
//!
//! ```text
//! <data_dir>/offsets.log, a line an entry, an entry a whole commit request:
//! 5f1d0c7a {"group":"g","commits":[{"topic":"t","partition":0,"offset":42,...}],"at_ms":...}\n
//! ^ CRC-32C of the JSON behind the space
//! 91ab22c0 {"group":"g","removed":[["t",0]],...}\n        an empty list removes the group
//! ```
//!
//! A crash can only tear the last line, which was then never acknowledged and is cut off. A bad
//! line with good ones behind it is an error that names it. When most lines are outdated the file
//! is written anew beside the old one and renamed over it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::error::{BrokerError, io_at};
use crate::log::sealed::sync_directory_of;

/// Outdated entries that are worth a rewrite, at least.
const REWRITE_AT_LEAST: usize = 10_000;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Last commit, last time members were seen, or start of the broker: retention counts from
    /// here, so a group that is used is never forgotten because it had nothing to commit.
    last_used_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commits: Option<Vec<EntryCommit>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<Vec<At>>,
    at_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct EntryCommit {
    topic: String,
    partition: i32,
    #[serde(flatten)]
    committed: Committed,
}

/// The committed offsets of every group.
#[derive(Debug)]
pub(crate) struct OffsetStore {
    path: PathBuf,
    groups: RwLock<BTreeMap<String, GroupOffsets>>,
    file: Mutex<Appender>,
    synced: Mutex<u64>,
}

#[derive(Debug)]
struct Appender {
    file: File,
    /// Bytes that are whole lines; a failed write is cut back to it.
    size_bytes: u64,
    entries: usize,
    /// Counts writes, so that one fsync can answer for all before it.
    written: u64,
}

impl OffsetStore {
    /// Opens or creates the store in `data_dir`.
    pub(crate) fn open(data_dir: &Path, now_ms: i64) -> Result<Self, BrokerError> {
        let path = data_dir.join("offsets.log");
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let file = file.map_err(io_at("open", &path))?;
        let mut groups = BTreeMap::new();
        let (size_bytes, entries) = replay(&path, &file, &mut groups)?;
        groups.values_mut().for_each(|group| group.last_used_ms = group.last_used_ms.max(now_ms));
        file.set_len(size_bytes).map_err(io_at("truncate", &path))?;
        sync_directory_of(&path)?;
        let appender = Appender { file, size_bytes, entries, written: 0 };
        Ok(Self { path, groups: RwLock::new(groups), file: Mutex::new(appender), synced: Mutex::new(0) })
    }

    /// Commits offsets of one group: all of them or none. Blocks on the disk.
    pub(crate) fn commit(&self, group: &str, commits: Vec<(At, Committed)>, now_ms: i64) -> io::Result<()> {
        let described =
            commits.into_iter().map(|((topic, partition), committed)| EntryCommit { topic, partition, committed });
        self.write(Entry { group: group.to_owned(), commits: Some(described.collect()), removed: None, at_ms: now_ms })
    }

    /// Forgets a group. Blocks on the disk.
    pub(crate) fn remove_group(&self, group: &str, now_ms: i64) -> io::Result<()> {
        self.write(Entry { group: group.to_owned(), commits: None, removed: Some(Vec::new()), at_ms: now_ms })
    }

    /// Forgets some offsets of a group. Blocks on the disk.
    pub(crate) fn remove(&self, group: &str, removed: Vec<At>, now_ms: i64) -> io::Result<()> {
        // An empty list would say: all of the group.
        if removed.is_empty() {
            return Ok(());
        }
        self.write(Entry { group: group.to_owned(), commits: None, removed: Some(removed), at_ms: now_ms })
    }

    /// Forgets every group's offsets of a topic, which is gone. Blocks on the disk.
    pub(crate) fn remove_topic(&self, topic: &str, now_ms: i64) -> io::Result<()> {
        let mut doomed = Vec::new();
        for (group, offsets) in &*self.groups.read() {
            let removed: Vec<At> = offsets.offsets.keys().filter(|(name, _)| name == topic).cloned().collect();
            if !removed.is_empty() {
                doomed.push(Entry { group: group.clone(), commits: None, removed: Some(removed), at_ms: now_ms });
            }
        }
        doomed.into_iter().try_for_each(|entry| self.write(entry))
    }

    fn write(&self, entry: Entry) -> io::Result<()> {
        let line = encode(&entry)?;
        let mut appender = self.file.lock();
        append(&mut appender, &line)?;
        // Under the file's lock, so that memory and file agree on the order.
        let live = {
            let mut groups = self.groups.write();
            apply(&mut groups, entry);
            groups.len()
        };
        if appender.entries > REWRITE_AT_LEAST.max(live * 4) {
            self.rewrite(&mut appender)?;
        }
        Ok(())
    }

    /// Makes every commit up to now durable; those that come together share an fsync. Blocks.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let wanted = self.file.lock().written;
        let mut synced = self.synced.lock();
        if *synced >= wanted {
            return Ok(());
        }
        let (file, written) = {
            let appender = self.file.lock();
            (appender.file.try_clone()?, appender.written)
        };
        file.sync_data()?;
        *synced = written;
        Ok(())
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

    fn rewrite(&self, appender: &mut Appender) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut content = Vec::new();
        let mut entries = 0;
        for (group, offsets) in &*self.groups.read() {
            let commits = offsets.offsets.iter().map(|((topic, partition), committed)| EntryCommit {
                topic: topic.clone(),
                partition: *partition,
                committed: committed.clone(),
            });
            let commits = Some(commits.collect());
            content.extend(encode(&Entry {
                group: group.clone(),
                commits,
                removed: None,
                at_ms: offsets.last_used_ms,
            })?);
            entries += 1;
        }
        let mut file = File::create(&temporary)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        sync_directory_of(&self.path).map_err(io::Error::other)?;
        appender.file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        appender.size_bytes = content.len() as u64;
        appender.entries = entries;
        Ok(())
    }
}

fn append(appender: &mut Appender, line: &[u8]) -> io::Result<()> {
    if let Err(error) = appender.file.write_all(line) {
        appender.file.set_len(appender.size_bytes)?;
        return Err(error);
    }
    appender.size_bytes += line.len() as u64;
    appender.entries += 1;
    appender.written += 1;
    Ok(())
}

fn encode(entry: &Entry) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry).map_err(io::Error::other)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn decode(line: &[u8]) -> Option<Entry> {
    let (crc, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.strip_suffix(' ')?, 16).ok()?;
    if crc != crc32c::crc32c(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn apply(groups: &mut BTreeMap<String, GroupOffsets>, entry: Entry) {
    if let Some(commits) = entry.commits {
        let group = groups.entry(entry.group.clone()).or_default();
        group.last_used_ms = entry.at_ms;
        group.offsets.extend(commits.into_iter().map(|commit| ((commit.topic, commit.partition), commit.committed)));
    }
    match entry.removed {
        Some(removed) if removed.is_empty() => {
            groups.remove(&entry.group);
        }
        Some(removed) => {
            if let Some(group) = groups.get_mut(&entry.group) {
                removed.iter().for_each(|at| {
                    group.offsets.remove(at);
                });
                if group.offsets.is_empty() {
                    groups.remove(&entry.group);
                }
            }
        }
        None => {}
    }
}

/// Reads every entry; answers the size of the whole lines and how many there are.
fn replay(path: &Path, file: &File, groups: &mut BTreeMap<String, GroupOffsets>) -> Result<(u64, usize), BrokerError> {
    let mut reader = BufReader::new(file);
    let (mut size_bytes, mut entries) = (0, 0);
    let mut line = Vec::new();
    let mut bad: Option<u64> = None;
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(io_at("read", path))?;
        if count == 0 {
            break;
        }
        match decode(&line) {
            Some(_) if bad.is_some() => {
                return Err(BrokerError::CorruptFile {
                    file: path.to_owned(),
                    reason: format!("the line at position {} is damaged", bad.unwrap_or_default()),
                    holds: "the committed offsets of consumer groups",
                });
            }
            Some(entry) => {
                apply(groups, entry);
                size_bytes += count as u64;
                entries += 1;
            }
            None => bad = bad.or(Some(size_bytes)),
        }
    }
    if let Some(position) = bad {
        tracing::warn!(file = %path.display(), position, "torn end cut off");
    }
    Ok((size_bytes, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_torn_last_line_is_cut_and_a_bad_line_before_good_ones_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("offsets.log");
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        store.commit("a", vec![(at(0), committed(1))], 0).expect("commit");
        store.commit("a", vec![(at(0), committed(2))], 0).expect("commit");
        drop(store);
        let whole = fs::read(&path).expect("read");
        for cut in 1..whole.len() / 2 {
            fs::write(&path, &whole[..whole.len() - cut]).expect("write");
            let store = OffsetStore::open(dir.path(), 0).expect("a torn end is no error");
            assert_eq!(store.of_group("a"), [(at(0), committed(1))], "cut {cut}");
        }
        let mut damaged = whole.clone();
        damaged[20] ^= 1;
        fs::write(&path, damaged).expect("write");
        let error = OffsetStore::open(dir.path(), 0).expect_err("damaged").to_string();
        assert!(error.contains("offsets.log") && error.contains("position 0"), "{error}");
    }

    #[test]
    fn a_file_of_outdated_entries_is_rewritten() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        for offset in 0..REWRITE_AT_LEAST as i64 + 10 {
            store.commit("a", vec![(at(0), committed(offset))], offset).expect("commit");
        }
        assert!(store.file.lock().entries < 20);
        drop(store);
        let store = OffsetStore::open(dir.path(), 0).expect("open");
        assert_eq!(store.get("a", "orders", 0), Some(committed(REWRITE_AT_LEAST as i64 + 9)));
    }
}
