//! A file of small entries that is only appended to: what changes often and must not be lost.
//!
//! ```text
//! 4f1d9ee6 {"highwater":"offsets","version":1}\n         what it holds, and the version of its entries
//! 5f1d0c7a {"group":"g","commits":[...],"at_ms":...}\n
//! ^ CRC-32C of the JSON behind the space
//! ```
//!
//! A crash can only tear the end, which was then never acknowledged and is cut off. A bad line with
//! good ones behind it is an error that names it, and so is one that is whole and not understood:
//! another version has written it, and what it says must not be lost in silence. A file of a newer
//! version is refused before anything of it counts; one without a first line is of version 0, from
//! before there were versions, and whatever is older is read and begun anew in the version of now.
//! When most lines are outdated the file is written anew beside the old one and renamed over it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::sealed::sync_directory_of;
use crate::error::{BrokerError, io_at};

/// Outdated entries that are worth a rewrite, at least.
pub(crate) const REWRITE_AT_LEAST: usize = 10_000;

/// What a journal holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Its name in the first line.
    pub(crate) name: &'static str,
    /// The version of its entries. It grows with each change that the version before would not understand, be it an
    /// entry, a field or a value.
    pub(crate) version: u32,
    /// What a user loses without it.
    pub(crate) holds: &'static str,
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head<'a> {
    highwater: &'a str,
    version: u32,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    kind: Kind,
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
    /// Opens or creates the journal and hands its entries to `apply` in their order.
    pub(crate) fn open<E: DeserializeOwned>(
        path: PathBuf,
        kind: Kind,
        apply: impl FnMut(E),
    ) -> Result<Self, BrokerError> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let mut file = file.map_err(io_at("open", &path))?;
        let Replayed { version, head_bytes, mut size_bytes, entries } = replay(&path, kind, &file, apply)?;
        file.set_len(size_bytes).map_err(io_at("truncate", &path))?;
        if version != Some(kind.version) {
            let head = encode(&kind.head()).map_err(io_at("write", &path))?;
            let mut old = &file;
            let begun_anew = replace(&path, |new| {
                new.write_all(&head)?;
                old.seek(SeekFrom::Start(head_bytes))?;
                io::copy(&mut old.take(size_bytes - head_bytes), new).map(|_| ())
            });
            file = begun_anew.map_err(io_at("write", &path))?;
            size_bytes += head.len() as u64 - head_bytes;
        }
        // What was read may be in the system's memory only, where a kill of the process has left it. It counts from here
        // on, and is answered from: a crash of the machine must not take it back.
        file.sync_all().map_err(io_at("fsync", &path))?;
        sync_directory_of(&path)?;
        let appender = Appender { file, size_bytes, entries, written: 0 };
        Ok(Self { path, kind, file: Mutex::new(appender), synced: Mutex::default() })
    }

    /// Takes the journal for writing. Who changes what is in memory while it is held keeps both in
    /// the same order.
    pub(crate) fn write(&self) -> Writing<'_> {
        Writing { path: &self.path, kind: self.kind, file: self.file.lock() }
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
    kind: Kind,
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
        let mut content = encode(&self.kind.head())?;
        for entry in entries {
            content.extend(encode(entry)?);
        }
        let file = replace(self.path, |new| new.write_all(&content))?;
        let written = self.file.written;
        *self.file = Appender { file, size_bytes: content.len() as u64, entries: entries.len(), written };
        sync_directory_of(self.path).map_err(io::Error::other)
    }
}

impl Kind {
    fn head(&self) -> Head<'_> {
        Head { highwater: self.name, version: self.version }
    }
}

/// Puts a new file, synced, in the place of the one at `path`. That of the directory is left to the caller.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let temporary = path.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(&temporary)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(file)
}

fn encode(entry: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry).map_err(io::Error::other)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

/// The JSON of a line that is whole.
fn whole(line: &[u8]) -> Option<&[u8]> {
    let (crc, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.strip_suffix(' ')?, 16).ok()?;
    (crc == crc32c::crc32c(json)).then_some(json)
}

/// What was read of a journal.
#[derive(Debug, Default)]
struct Replayed {
    /// `None` if it has no first line, and was written before there were versions.
    version: Option<u32>,
    /// The first line.
    head_bytes: u64,
    /// The lines up to the end, or to where it is torn.
    size_bytes: u64,
    entries: usize,
}

/// Reads every entry up to where the end is torn.
fn replay<E: DeserializeOwned>(
    path: &Path,
    kind: Kind,
    file: &File,
    mut apply: impl FnMut(E),
) -> Result<Replayed, BrokerError> {
    let mut reader = BufReader::new(file);
    let mut read = Replayed::default();
    let mut line = Vec::new();
    let mut is_torn = false;
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(io_at("read", path))? as u64;
        if count == 0 {
            break;
        }
        let position = read.size_bytes;
        let Some(json) = whole(&line) else {
            is_torn = true;
            continue;
        };
        if is_torn {
            let reason = format!("the line at position {position} is damaged");
            return Err(BrokerError::CorruptFile { file: path.to_owned(), reason, holds: kind.holds });
        }
        read.size_bytes += count;
        match serde_json::from_slice::<Head<'_>>(json) {
            Ok(head) if position == 0 => {
                read.version = Some(understood(path, kind, &head)?);
                read.head_bytes = count;
            }
            _ => {
                apply(serde_json::from_slice(json).map_err(|error| BrokerError::OtherVersion {
                    file: path.to_owned(),
                    found: format!("an entry at position {position} that is whole and not understood ({error})"),
                    expected: format!("entries of version {}", kind.version),
                })?);
                read.entries += 1;
            }
        }
    }
    if is_torn {
        tracing::warn!(file = %path.display(), position = read.size_bytes, "cutting a torn last line");
    }
    Ok(read)
}

/// The version of a journal, if it is one that can be read.
fn understood(path: &Path, kind: Kind, head: &Head<'_>) -> Result<u32, BrokerError> {
    if head.highwater != kind.name {
        let reason = format!("it is the journal {:?}, expected {:?}", head.highwater, kind.name);
        return Err(BrokerError::CorruptFile { file: path.to_owned(), reason, holds: kind.holds });
    }
    if head.version > kind.version {
        return Err(BrokerError::OtherVersion {
            file: path.to_owned(),
            found: format!("version {}", head.version),
            expected: format!("version {} or one before it", kind.version),
        });
    }
    Ok(head.version)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
