//! A checkpoint in an object store that was handed in: S3, HDFS, or whatever speaks [`ObjectStore`].
//!
//! ```text
//!   create   conditional put ── exists? ── read it: the same bytes are ours, the answer was lost
//!   replace  put                                                    small objects: one request
//!   writer   memory ── more than a part? ── unnamed local file ┐
//!   upload   local file ───────────────────────────────────────┴─ multipart: visible when complete, aborted if not
//!   open     stream, taken up again where it broke              download  the same, into a local file
//! ```
//!
//! Every call is tried again with growing waits until a deadline (`attempts.rs`), since each is safe to repeat: what
//! is written under a name is the same bytes each time, and a create tells its own object from another's. Nothing is
//! held in memory beyond a few parts a transfer (`transfer.rs`). It refuses stores without conditional puts: two runs
//! could both believe to be the newest there.

mod attempts;
mod transfer;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};

use super::location::RemoteLocation;
use super::store::{Entry, ObjectWriter, Store, io_error};
use crate::clock::Clock;
use crate::error::Result;
use attempts::{Answer, Attempts, generic};

/// How patiently an object store is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RemoteSettings {
    /// No single request waits longer.
    pub request_timeout_ms: u64,
    /// No call is tried again after this time.
    pub retry_timeout_ms: u64,
    /// The same until the store has answered once: a wrong address is said soon.
    pub first_retry_timeout_ms: u64,
    /// The first wait between two tries; each is twice as long as the one before.
    pub backoff_ms: u64,
    /// The longest wait between two tries.
    pub max_backoff_ms: u64,
    /// Larger objects are sent in parts of this size.
    pub part_bytes: u64,
    /// Large objects carried at once.
    pub transfers: usize,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self {
            request_timeout_ms: 30_000,
            retry_timeout_ms: 120_000,
            first_retry_timeout_ms: 10_000,
            backoff_ms: 100,
            max_backoff_ms: 5_000,
            part_bytes: 8 << 20,
            transfers: 4,
        }
    }
}

/// A prefix of an object store.
#[derive(Debug, Clone)]
pub(crate) struct RemoteStore {
    objects: Arc<dyn ObjectStore>,
    location: RemoteLocation,
    settings: RemoteSettings,
    clock: Shared,
    /// Where a large object waits until it is whole.
    spill_dir: PathBuf,
    /// Whether the store has answered anything yet.
    has_answered: Arc<AtomicBool>,
}

/// A clock has nothing to show.
#[derive(Clone)]
struct Shared(Arc<dyn Clock>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl RemoteStore {
    /// Asks nothing of the store yet. `spill_dir` is made when it is needed.
    pub(crate) fn new(
        objects: Arc<dyn ObjectStore>,
        location: RemoteLocation,
        settings: RemoteSettings,
        clock: Arc<dyn Clock>,
        spill_dir: PathBuf,
    ) -> Self {
        let has_answered = Arc::new(AtomicBool::new(false));
        Self { objects, location, settings, clock: Shared(clock), spill_dir, has_answered }
    }

    fn path(&self, name: &str) -> ObjectPath {
        let parts = self.location.path.split('/').chain(name.split('/'));
        ObjectPath::from_iter(parts.filter(|part| !part.is_empty()))
    }

    fn put(&self, action: &'static str, name: &str, bytes: Bytes, mode: PutMode) -> Result<Answer<()>> {
        let (path, bytes_len, payload) = (self.path(name), bytes.len(), PutPayload::from(bytes));
        self.call(action, name, bytes_len, || {
            let options = PutOptions::from(mode.clone());
            let (objects, path, payload) = (Arc::clone(&self.objects), path.clone(), payload.clone());
            async move { objects.put_opts(&path, payload, options).await.map(|_| ()) }
        })
    }

    /// All objects of a folder, also those that are not ours or half written.
    fn list_all(&self, folder: &str) -> Result<Vec<ObjectMeta>> {
        let path = self.path(folder);
        let answer = self.call("list", folder, 0, || {
            let (objects, path) = (Arc::clone(&self.objects), path.clone());
            async move { objects.list_with_delimiter(Some(&path)).await }
        })?;
        match answer {
            Answer::Done(found) => Ok(found.objects),
            Answer::Missing(_) => Err(self.no_bucket("list", folder)),
            Answer::Exists => Ok(Vec::new()),
        }
    }
}

/// What the last part of an object's path is.
fn last_part(meta: &ObjectMeta) -> String {
    meta.location.filename().unwrap_or_default().to_owned()
}

impl Store for RemoteStore {
    fn address(&self, name: &str) -> String {
        format!("{}/{name}", self.location)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.stream(name, 0)? else { return Ok(None) };
        let mut whole = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            whole.extend_from_slice(&chunk);
        }
        Ok(Some(whole))
    }

    fn open_at(&self, name: &str, at: u64) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(self.stream(name, at)?.map(|stream| Box::new(stream) as Box<dyn Read + Send>))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let mut attempts = Attempts::new(self, "create", name);
        loop {
            match self.put("create", name, Bytes::copy_from_slice(bytes), PutMode::Create)? {
                Answer::Done(()) => return Ok(true),
                Answer::Missing(_) => return Err(self.no_bucket("create", name)),
                Answer::Exists => {}
            }
            if let Some(found) = self.read(name)? {
                return Ok(found == bytes);
            }
            // Two creates at once: a store may refuse both before it has decided.
            attempts.failed(generic("it was said to exist and cannot be read".to_owned()))?;
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match self.put("write", name, Bytes::copy_from_slice(bytes), PutMode::Overwrite)? {
            Answer::Done(()) => Ok(()),
            Answer::Missing(_) | Answer::Exists => Err(self.no_bucket("write", name)),
        }
    }

    fn writer(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(transfer::RemoteWriter::new(self.clone(), name)))
    }

    fn upload(&self, local: &Path, name: &str) -> Result<()> {
        let failed = |error| io_error("read", local, error);
        let file = File::open(local).map_err(failed)?;
        let size_bytes = file.metadata().map_err(failed)?.len();
        self.put_file(&file, size_bytes, name)
    }

    fn download(&self, name: &str, local: &Path) -> Result<()> {
        self.fetch(name, local)
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        let entry = |meta: ObjectMeta| Entry { name: last_part(&meta), size_bytes: meta.size };
        let mut entries: Vec<Entry> = self.list_all(folder)?.into_iter().map(entry).collect();
        entries.retain(|entry| !entry.name.starts_with('.'));
        Ok(entries)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        self.call("delete", name, 0, || {
            let (objects, path) = (Arc::clone(&self.objects), path.clone());
            async move { objects.delete(&path).await }
        })?;
        Ok(())
    }

    fn exist(&self, names: &[&str]) -> Result<Vec<bool>> {
        let paths: Vec<ObjectPath> = names.iter().map(|name| self.path(name)).collect();
        let answer = self.call("look for", names.first().copied().unwrap_or_default(), 0, || {
            let heads: Vec<_> = paths.iter().map(|path| head(Arc::clone(&self.objects), path.clone())).collect();
            futures::future::try_join_all(heads)
        })?;
        Ok(answer.found().unwrap_or_default())
    }

    fn transfers(&self) -> usize {
        self.settings.transfers.max(1)
    }

    /// An object store has no folders. What HDFS keeps of a put that a crash cut off begins with a dot.
    fn prepare_folder(&self, folder: &str) -> Result<()> {
        for meta in self.list_all(folder)? {
            let name = last_part(&meta);
            if name.starts_with('.') && name.contains(".tmp") {
                self.delete(&format!("{folder}/{name}"))?;
            }
        }
        Ok(())
    }

    fn local_path(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

async fn head(objects: Arc<dyn ObjectStore>, path: ObjectPath) -> object_store::Result<bool> {
    match objects.head(&path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
