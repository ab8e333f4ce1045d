//! A snapshot of the state: a list of content files, written last and at once.
//!
//! ```text
//!   state/sst/<version>-<store id>-<local name>     written once, never changed, shared by snapshots
//!   state/<version>.snapshot:
//!       v1
//!       {"version":2,"batchId":N,"operators":[..],"note":..}
//!       {"name":"000012.sst","object":"40-9f1c..-000012.sst","sizeBytes":..,"crc32c":"1a2b3c4d"}
//!       ...                                         one line a file of the RocksDB folder
//!       crc32c ..
//! ```
//!
//! RocksDB numbers its files anew after each restore, so the local name alone would not tell two contents apart; the
//! version and the id of the store that wrote the file do. A file is in use while any snapshot names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::parallel;
use crate::checkpoint::store::io_error;
use crate::checkpoint::{CheckpointDir, STATE, STATE_FILES, text};
use crate::error::{EngineError, Result};
use crate::sink::BatchId;

/// A snapshot as its file describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) head: SnapshotHead,
    pub(crate) files: Vec<SnapshotFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SnapshotHead {
    /// The format of the state rows.
    pub(crate) version: u32,
    pub(crate) batch_id: BatchId,
    /// In no special order; for people who look.
    pub(crate) operators: Vec<String>,
    /// The note of the changelog of this batch.
    pub(crate) note: serde_json::Value,
    /// When the state was linked into a folder of its own, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SnapshotFile {
    /// Its name in the RocksDB folder.
    pub(crate) name: String,
    /// Its name in `state/sst`.
    pub(crate) object: String,
    pub(crate) size_bytes: u64,
    pub(crate) crc32c: String,
}

/// What a publication wrote.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Published {
    pub(crate) new_files: u64,
    pub(crate) new_bytes: u64,
    pub(crate) manifest_bytes: u64,
}

pub(crate) fn file_name(batch_id: BatchId) -> String {
    format!("{STATE}/{batch_id}.snapshot")
}

fn object_name(object: &str) -> String {
    format!("{STATE_FILES}/{object}")
}

impl Snapshot {
    /// Writes what `folder` has and `known` does not, then the list of all. `known` are files of earlier snapshots.
    pub(crate) fn publish(
        checkpoint: &CheckpointDir,
        folder: &Path,
        head: SnapshotHead,
        store_id: &str,
        known: &BTreeMap<String, SnapshotFile>,
    ) -> Result<(Self, Published)> {
        let mut files = Vec::new();
        let mut new = Vec::new();
        for (name, size_bytes) in local_files(folder)? {
            if let Some(file) = known.get(&name).filter(|file| file.size_bytes == size_bytes) {
                files.push(file.clone());
                continue;
            }
            let path = folder.join(&name);
            let crc32c = format!("{:08x}", checksum_of(&path)?.1);
            let object = format!("{}-{store_id}-{name}", head.batch_id);
            new.push(SnapshotFile { name, object, size_bytes, crc32c });
        }
        parallel::for_each(checkpoint.store().transfers(), &new, |file| {
            checkpoint.writable()?.upload(&folder.join(&file.name), &object_name(&file.object))
        })?;
        let mut published = Published {
            new_files: new.len() as u64,
            new_bytes: new.iter().map(|file| file.size_bytes).sum(),
            manifest_bytes: 0,
        };
        files.append(&mut new);
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let snapshot = Self { head, files };
        let bytes = snapshot.encode().map_err(|error| EngineError::internal("snapshot").caused_by(error))?;
        published.manifest_bytes = bytes.len() as u64;
        checkpoint.writable()?.replace(&file_name(snapshot.head.batch_id), &bytes)?;
        Ok((snapshot, published))
    }

    /// Reads the list of a snapshot.
    pub(crate) fn read(checkpoint: &CheckpointDir, batch_id: BatchId) -> Result<Self> {
        let name = file_name(batch_id);
        let address = checkpoint.store().address(&name);
        let bytes = checkpoint.store().read(&name)?.ok_or_else(|| damaged(&address, "it is missing"))?;
        let lines = text::decode(&address, &bytes)?;
        super::refuse_other_format(&address, format_of(&lines))?;
        let snapshot = Self::decode(&lines).map_err(|found| damaged(&address, &found))?;
        if snapshot.head.batch_id != batch_id {
            return Err(damaged(&address, &format!("it is the snapshot of batch {}", snapshot.head.batch_id)));
        }
        Ok(snapshot)
    }

    /// Puts the files into `folder`, each checked against its size and checksum.
    pub(crate) fn restore(&self, checkpoint: &CheckpointDir, folder: &Path) -> Result<()> {
        parallel::for_each(checkpoint.store().transfers(), &self.files, |file| {
            let (name, path) = (object_name(&file.object), folder.join(&file.name));
            checkpoint.store().download(&name, &path)?;
            file.compare(&checkpoint.store().address(&name), checksum_of(&path)?)
        })
    }

    /// The name of a content file the checkpoint does not have, if there is one.
    pub(crate) fn missing_file(&self, checkpoint: &CheckpointDir) -> Result<Option<String>> {
        let entries = checkpoint.store().list(STATE_FILES)?;
        let there: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let missing = self.files.iter().find(|file| !there.contains(file.object.as_str()));
        Ok(missing.map(|file| checkpoint.store().address(&object_name(&file.object))))
    }

    /// The error for a content file that is not there.
    pub(crate) fn incomplete(&self, address: &str) -> EngineError {
        missing(address, self.head.batch_id)
    }

    /// The bytes of all files.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    /// The files a later snapshot can share: content files only, the others change under one name.
    pub(crate) fn shareable(&self) -> BTreeMap<String, SnapshotFile> {
        let content = self.files.iter().filter(|file| file.name.ends_with(".sst"));
        content.map(|file| (file.name.clone(), file.clone())).collect()
    }

    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut lines = vec![serde_json::to_string(&self.head)?];
        for file in &self.files {
            lines.push(serde_json::to_string(file)?);
        }
        Ok(text::encode(&lines))
    }

    fn decode(lines: &[String]) -> Result<Self, String> {
        let (head, files) = lines.split_first().ok_or("its first line is missing")?;
        let head = serde_json::from_str(head).map_err(|error| error.to_string())?;
        let files = files.iter().map(|line| serde_json::from_str(line).map_err(|error| error.to_string()));
        Ok(Self { head, files: files.collect::<Result<_, _>>()? })
    }
}

impl SnapshotFile {
    /// Reads the file in the checkpoint and compares it with its size and checksum; `batch_id` is the snapshot's.
    pub(crate) fn check(&self, checkpoint: &CheckpointDir, batch_id: BatchId) -> Result<()> {
        let name = object_name(&self.object);
        let address = checkpoint.store().address(&name);
        let Some(input) = checkpoint.store().open(&name)? else { return Err(missing(&address, batch_id)) };
        let found = checksum(input).map_err(|error| io_error("read", Path::new(&address), error))?;
        self.compare(&address, found)
    }

    /// Compares size and checksum with those of what was found at `address`.
    fn compare(&self, address: &str, (size_bytes, crc): (u64, u32)) -> Result<()> {
        if size_bytes != self.size_bytes {
            return Err(damaged(address, &format!("it has {size_bytes} bytes, expected {}", self.size_bytes)));
        }
        if format!("{crc:08x}") != self.crc32c {
            return Err(damaged(address, "its content does not match its checksum"));
        }
        Ok(())
    }
}

/// The format that the first line names, which the rest of the line may depend on; the first had no number.
fn format_of(lines: &[String]) -> u32 {
    let head = lines.first().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok()).unwrap_or_default();
    let version = head.get("version").map_or(Some(1), serde_json::Value::as_u64);
    version.and_then(|version| u32::try_from(version).ok()).unwrap_or(u32::MAX)
}

fn missing(address: &str, batch_id: BatchId) -> EngineError {
    damaged(address, &format!("it is missing, but state snapshot {batch_id} needs it"))
}

/// Removes the content files that none of these snapshots names. Gives the bytes of those that stay.
pub(crate) fn remove_unused_files(checkpoint: &CheckpointDir, used: &BTreeSet<String>) -> Result<u64> {
    let mut kept_bytes = 0;
    for entry in checkpoint.store().list(STATE_FILES)? {
        if used.contains(&entry.name) {
            kept_bytes += entry.size_bytes;
        } else {
            checkpoint.writable()?.delete(&object_name(&entry.name))?;
        }
    }
    Ok(kept_bytes)
}

/// The files RocksDB needs to open the folder, in order.
fn local_files(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let failed = |error| io_error("list", folder, error);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // RocksDB's own log of writes is not used and empty; its texts for people and its lock are not state.
        let beside = name == "LOCK" || name.starts_with("LOG") || (name.ends_with(".log") && metadata.len() == 0);
        if metadata.is_file() && !beside {
            files.insert(name, metadata.len());
        }
    }
    Ok(files)
}

/// Size and crc32c of a local file.
fn checksum_of(path: &Path) -> Result<(u64, u32)> {
    let failed = |error| io_error("read", path, error);
    checksum(File::open(path).map_err(failed)?).map_err(failed)
}

/// Size and crc32c of everything the reader gives.
fn checksum(mut input: impl Read) -> std::io::Result<(u64, u32)> {
    let mut buffer = vec![0; 1 << 18];
    let (mut size_bytes, mut crc) = (0, 0);
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok((size_bytes, crc)),
            read => {
                size_bytes += read as u64;
                crc = crc32c::crc32c_append(crc, &buffer[..read]);
            }
        }
    }
}

fn damaged(address: &str, found: &str) -> EngineError {
    EngineError::data(format!("state file {address} is damaged: {found}")).help(
        "restore the checkpoint from a backup, or remove the newest state/*.snapshot to restore from an older one and the \
         changelogs after it",
    )
}
