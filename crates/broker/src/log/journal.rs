//! A file of small entries that is only appended to: what changes often and must not be lost.
//!
//! ```text
//! 5f1d0c7a {"group":"g","commits":[...],"at_ms":...}\n
//! ^ CRC-32C of the JSON behind the space
//! ```
//!
//! A crash can only tear the last line, which was then never acknowledged and is cut off. A bad
//! line with good ones behind it is an error that names it. When most lines are outdated the file
//! is written anew beside the old one and renamed over it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sealed::sync_directory_of;
use crate::error::{BrokerError, io_at};

/// Outdated entries that are worth a rewrite, at least.
pub(crate) const REWRITE_AT_LEAST: usize = 10_000;

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Mutex<Appender>,
    synced: Mutex<Synced>,
}

/// What is known to be on the disk.
#[derive(Debug, Default)]
struct Synced {
    /// All of the first so many writes.
    written: u64,
    /// An fsync has failed. The system may have dropped what it was to write, so one that succeeds later proves nothing.
    failed: bool,
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

impl Journal {
    /// Opens or creates the journal, which `holds` something, and hands its entries to `apply` in
    /// their order.
    pub(crate) fn open<E: DeserializeOwned>(
        path: PathBuf,
        holds: &'static str,
        apply: impl FnMut(E),
    ) -> Result<Self, BrokerError> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let file = file.map_err(io_at("open", &path))?;
        let (size_bytes, entries) = replay(&path, holds, &file, apply)?;
        file.set_len(size_bytes).map_err(io_at("truncate", &path))?;
        // What was read may be in the system's memory only, where a kill of the process has left it. It counts from here
        // on, and is answered from: a crash of the machine must not take it back.
        file.sync_all().map_err(io_at("fsync", &path))?;
        sync_directory_of(&path)?;
        let appender = Appender { file, size_bytes, entries, written: 0 };
        Ok(Self { path, file: Mutex::new(appender), synced: Mutex::default() })
    }

    /// Takes the journal for writing. Who changes what is in memory while it is held keeps both in
    /// the same order.
    pub(crate) fn write(&self) -> Writing<'_> {
        Writing { path: &self.path, file: self.file.lock() }
    }

    /// Makes everything appended up to now durable; those that come together share an fsync. Once it has failed it fails
    /// until a restart has looked at what is really there. Blocks.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let wanted = self.file.lock().written;
        let mut synced = self.synced.lock();
        if synced.failed {
            let reason = format!("an fsync of {} has failed before; restart the broker", self.path.display());
            return Err(io::Error::other(reason));
        }
        if synced.written >= wanted {
            return Ok(());
        }
        let (file, written) = {
            let appender = self.file.lock();
            (appender.file.try_clone()?, appender.written)
        };
        file.sync_data().inspect_err(|_| synced.failed = true)?;
        synced.written = written;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.file.lock().entries
    }
}

/// A journal that is being written; nobody else does meanwhile.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    path: &'a Path,
    file: MutexGuard<'a, Appender>,
}

impl Writing<'_> {
    /// Appends an entry, whole or not at all. Blocks on the disk.
    pub(crate) fn append(&mut self, entry: &impl Serialize) -> io::Result<()> {
        let line = encode(entry)?;
        let appender = &mut *self.file;
        if let Err(error) = appender.file.write_all(&line) {
            appender.file.set_len(appender.size_bytes)?;
            return Err(error);
        }
        appender.size_bytes += line.len() as u64;
        appender.entries += 1;
        appender.written += 1;
        Ok(())
    }

    /// Writes the journal anew if most of it is outdated: it takes `live` entries, which `all` makes,
    /// to say what it says. Blocks on the disk.
    pub(crate) fn keep_small<E: Serialize>(mut self, live: usize, all: impl FnOnce() -> Vec<E>) {
        if self.file.entries <= REWRITE_AT_LEAST.max(live * 4) {
            return;
        }
        // The old file is as good as ever, only longer.
        if let Err(error) = self.rewrite(&all()) {
            tracing::warn!(file = %self.path.display(), %error, "journal not rewritten");
        }
    }

    fn rewrite<E: Serialize>(&mut self, entries: &[E]) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut content = Vec::new();
        for entry in entries {
            content.extend(encode(entry)?);
        }
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&temporary)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path)?;
        let written = self.file.written;
        *self.file = Appender { file, size_bytes: content.len() as u64, entries: entries.len(), written };
        sync_directory_of(self.path).map_err(io::Error::other)
    }
}

fn encode(entry: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry).map_err(io::Error::other)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn decode<E: DeserializeOwned>(line: &[u8]) -> Option<E> {
    let (crc, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.strip_suffix(' ')?, 16).ok()?;
    if crc != crc32c::crc32c(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Reads every entry; answers the size of the whole lines and how many there are.
fn replay<E: DeserializeOwned>(
    path: &Path,
    holds: &'static str,
    file: &File,
    mut apply: impl FnMut(E),
) -> Result<(u64, usize), BrokerError> {
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
        match (decode(&line), bad) {
            (Some(_), Some(position)) => {
                let reason = format!("the line at position {position} is damaged");
                return Err(BrokerError::CorruptFile { file: path.to_owned(), reason, holds });
            }
            (Some(entry), None) => {
                apply(entry);
                entries += 1;
                size_bytes += count as u64;
            }
            (None, _) => bad = bad.or(Some(size_bytes)),
        }
    }
    if let Some(position) = bad {
        tracing::warn!(file = %path.display(), position, "cutting a torn last line");
    }
    Ok((size_bytes, entries))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn after_a_failed_fsync_no_other_is_believed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let journal = Journal::open(dir.path().join("j.log"), "a test", |_: u32| ()).expect("opened");
        journal.write().append(&1).expect("appended");
        journal.sync().expect("synced");
        // A pipe takes bytes and has no disk.
        let (_reader, pipe) = io::pipe().expect("a pipe");
        let file = std::mem::replace(&mut journal.file.lock().file, File::from(OwnedFd::from(pipe)));
        journal.write().append(&2).expect("appended");
        journal.sync().expect_err("no disk");
        journal.file.lock().file = file;
        journal.write().append(&3).expect("appended");
        let error = journal.sync().expect_err("once is enough").to_string();
        assert!(error.contains("j.log has failed before; restart the broker"), "{error}");
    }
}
