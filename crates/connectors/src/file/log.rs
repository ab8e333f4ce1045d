//! The file source's own log: which files each log offset stands for.
//!
//! An offset of the file source is only a number, `{"logOffset":N}`; the files behind it are written here before the
//! engine hears of the number, so that the same range always gives the same files. One file a log offset:
//!
//! ```text
//!   sources/<i>/0  1  2 ... 8  9.compact  10 ...            every tenth holds all entries up to it
//!
//!   v1
//!   {"path":"/in/a.json","timestamp":1735689600000,"size":120,"batchId":0}      one line a file
//!   {"entries":1,"crc32c":"9a3f01c2"}                                          of all bytes above this line
//! ```
//!
//! A file that does not end in its own checksum is refused by name: guessing would read files twice or never. The log
//! refuses to forget a file before it is older than `maxFileAge`.

use std::collections::BTreeMap;

use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::SourceMetadata;
use serde::{Deserialize, Serialize};

/// Each file whose number plus one divides by this holds all entries before it.
const COMPACT_EVERY: i64 = 10;

/// One file of one log offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileEntry {
    /// Where the file is.
    pub(crate) path: String,
    /// When it was last changed, in milliseconds since 1970.
    pub(crate) timestamp: i64,
    /// Its size when it was listed.
    pub(crate) size: u64,
    /// The log offset that stands for it.
    pub(crate) batch_id: i64,
}

#[derive(Serialize, Deserialize)]
struct Trailer {
    entries: usize,
    crc32c: String,
}

/// The log in the query's checkpoint, with the entries that may still be asked for.
#[derive(Debug)]
pub(crate) struct SourceLog {
    files: SourceMetadata,
    /// Entries by log offset.
    batches: BTreeMap<i64, Vec<FileEntry>>,
    latest: i64,
}

impl SourceLog {
    /// Reads what is there; nothing is a log without entries.
    pub(crate) fn open(files: SourceMetadata) -> Result<Self> {
        let mut log = Self { files, batches: BTreeMap::new(), latest: -1 };
        let ids = log.ids()?;
        let base = ids.iter().filter(|(_, compact)| *compact).map(|(id, _)| *id).max();
        for (id, compact) in ids.into_iter().filter(|(id, _)| base.is_none_or(|base| *id >= base)) {
            if base == Some(id) && !compact {
                continue;
            }
            for entry in log.read_file(id, compact)? {
                log.batches.entry(entry.batch_id).or_default().push(entry);
            }
            log.batches.entry(id).or_default();
            log.latest = log.latest.max(id);
        }
        log.refuse_gaps(base.unwrap_or(-1))?;
        Ok(log)
    }

    /// The newest log offset, -1 before the first.
    pub(crate) fn latest(&self) -> i64 {
        self.latest
    }

    /// All entries that are still known.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &FileEntry> {
        self.batches.values().flatten()
    }

    /// The files of the offsets after `start` up to and with `end`.
    pub(crate) fn range(&self, start: i64, end: i64) -> Result<Vec<FileEntry>> {
        if end > self.latest {
            return Err(EngineError::data(format!(
                "the file source's log '{}' ends at log offset {}, but the checkpoint asks for {end}",
                self.files.address(""),
                self.latest
            ))
            .help("restore the log from the same backup as the checkpoint, or start with a new checkpoint"));
        }
        if start >= end {
            return Ok(Vec::new());
        }
        Ok(self.batches.range(start + 1..=end).flat_map(|(_, files)| files.iter().cloned()).collect())
    }

    /// Writes the files of the next log offset; durable when it returns. Entries whose time is before
    /// `forget_before_ms` are left out when the log is compacted.
    pub(crate) fn append(&mut self, files: Vec<FileEntry>, forget_before_ms: i64) -> Result<i64> {
        let id = self.latest + 1;
        let compact = (id + 1) % COMPACT_EVERY == 0;
        let kept: Vec<FileEntry> = if compact {
            let old = self.entries().filter(|entry| entry.timestamp >= forget_before_ms);
            old.chain(&files).cloned().collect()
        } else {
            files.clone()
        };
        let name = file_name(id, compact);
        if !self.files.create(&name, &encode(&kept)?)? {
            return Err(EngineError::data(format!(
                "the file source's log already has '{}'",
                self.files.address(&name)
            ))
            .help("another run of this query is active on the same checkpoint: stop one of them"));
        }
        self.batches.insert(id, files);
        self.latest = id;
        Ok(id)
    }

    /// Forgets the files of offsets up to `end`, which will not be asked for again, and removes log files that a
    /// compacted one has replaced.
    pub(crate) fn commit(&mut self, end: i64) -> Result<()> {
        let ids = self.ids()?;
        let Some(base) = ids.iter().filter(|(id, compact)| *compact && *id <= end).map(|(id, _)| *id).max() else {
            return Ok(());
        };
        for (id, compact) in ids.into_iter().filter(|(id, _)| *id < base) {
            self.files.delete(&file_name(id, compact))?;
        }
        Ok(())
    }

    /// (log offset, whether it is a compacted file), in order.
    fn ids(&self) -> Result<Vec<(i64, bool)>> {
        let mut ids: Vec<(i64, bool)> = self
            .files
            .list()?
            .iter()
            .filter_map(|name| match name.strip_suffix(".compact") {
                Some(id) => Some((id.parse().ok()?, true)),
                None => Some((name.parse().ok()?, false)),
            })
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn read_file(&self, id: i64, compact: bool) -> Result<Vec<FileEntry>> {
        let name = file_name(id, compact);
        // What was listed a moment ago and cannot be read is damage like any other.
        let bytes = self.files.read(&name)?.unwrap_or_default();
        decode(&bytes).map_err(|found| {
            EngineError::data(format!(
                "the file source's log file '{}' is damaged: {found}, expected 'v1', one JSON line a file and a checksum",
                self.files.address(&name)
            ))
            .help("restore it from a backup; without it Highwater cannot know which files were already read")
        })
    }

    fn refuse_gaps(&self, base: i64) -> Result<()> {
        let expected = base.max(0)..=self.latest;
        match expected.into_iter().find(|id| !self.batches.contains_key(id)) {
            None => Ok(()),
            Some(missing) => Err(EngineError::data(format!(
                "the file source's log '{}' has no file for log offset {missing}, but one for {}",
                self.files.address(""),
                self.latest
            ))
            .help("restore the missing file from a backup, or start with a new checkpoint")),
        }
    }
}

fn file_name(id: i64, compact: bool) -> String {
    if compact { format!("{id}.compact") } else { id.to_string() }
}

fn encode(entries: &[FileEntry]) -> Result<Vec<u8>> {
    let internal = |error: serde_json::Error| EngineError::internal("a file log entry has no JSON").caused_by(error);
    let mut bytes = b"v1\n".to_vec();
    for entry in entries {
        serde_json::to_writer(&mut bytes, entry).map_err(internal)?;
        bytes.push(b'\n');
    }
    let trailer = Trailer { entries: entries.len(), crc32c: format!("{:08x}", crc32c::crc32c(&bytes)) };
    serde_json::to_writer(&mut bytes, &trailer).map_err(internal)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Vec<FileEntry>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let whole = text.strip_suffix('\n').ok_or("its last line has no end")?;
    let body_end = whole.rfind('\n').ok_or("it has no checksum line")? + 1;
    let trailer: Trailer =
        serde_json::from_str(&whole[body_end..]).map_err(|_| "it has no checksum line".to_owned())?;
    let found = format!("{:08x}", crc32c::crc32c(&bytes[..body_end]));
    if found != trailer.crc32c {
        return Err(format!("its checksum is {found} and it says {}", trailer.crc32c));
    }
    let mut lines = text[..body_end].lines();
    match lines.next() {
        Some("v1") => {}
        other => return Err(format!("its first line is '{}'", other.unwrap_or_default())),
    }
    let entries = lines
        .map(|line| serde_json::from_str(line).map_err(|error| format!("a line is not an entry ({error})")))
        .collect::<Result<Vec<FileEntry>, String>>()?;
    if entries.len() != trailer.entries {
        return Err(format!("it has {} entries and says {}", entries.len(), trailer.entries));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::contract::metadata_in;
    use crate::file::durable;

    fn entry(path: &str, batch_id: i64) -> FileEntry {
        FileEntry { path: path.to_owned(), timestamp: 1_000 + batch_id, size: 7, batch_id }
    }

    fn filled(folder: &Path, offsets: i64) -> SourceLog {
        let mut log = SourceLog::open(metadata_in(folder)).expect("opened");
        for id in 0..offsets {
            log.append(vec![entry(&format!("/in/{id}"), id)], 0).expect("appended");
        }
        log
    }

    #[test]
    fn a_reopened_log_gives_the_same_files_over_a_compaction() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = filled(folder.path(), 23);
        let again = SourceLog::open(metadata_in(folder.path())).expect("opened");
        assert_eq!(again.latest(), 22);
        assert_eq!(again.range(20, 22).expect("range"), log.range(20, 22).expect("range"));
        assert_eq!(again.entries().count(), 23);
    }

    #[test]
    fn commit_removes_what_a_compacted_file_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        filled(folder.path(), 23).commit(21).expect("committed");
        let mut names = durable::file_names(&folder.path().join("sources/0")).expect("names");
        names.sort();
        assert_eq!(names, ["19.compact", "20", "21", "22"]);
        assert_eq!(SourceLog::open(metadata_in(folder.path())).expect("opened").entries().count(), 23);
    }

    #[test]
    fn compaction_forgets_what_is_too_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = filled(folder.path(), 9);
        log.append(vec![entry("/in/9", 9)], 1_008).expect("appended");
        let paths: Vec<String> = SourceLog::open(metadata_in(folder.path()))
            .expect("opened")
            .entries()
            .map(|entry| entry.path.clone())
            .collect();
        assert_eq!(paths, ["/in/8", "/in/9"]);
    }

    #[test]
    fn a_torn_file_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        filled(folder.path(), 2);
        let path = folder.path().join("sources/0/1");
        let bytes = std::fs::read(&path).expect("read");
        for cut in [0, 1, 3, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).expect("torn");
            let error = SourceLog::open(metadata_in(folder.path())).expect_err("refused").to_string();
            assert!(error.contains(&path.display().to_string()), "cut at {cut}: {error}");
        }
        let mut flipped = bytes;
        flipped[10] ^= 1;
        std::fs::write(&path, &flipped).expect("flipped");
        assert!(SourceLog::open(metadata_in(folder.path())).expect_err("refused").to_string().contains("checksum"));
    }

    #[test]
    fn a_missing_file_in_the_middle_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        filled(folder.path(), 3);
        std::fs::remove_file(folder.path().join("sources/0/1")).expect("removed");
        let error = SourceLog::open(metadata_in(folder.path())).expect_err("refused").to_string();
        assert!(error.contains("no file for log offset 1"), "{error}");
    }
}
