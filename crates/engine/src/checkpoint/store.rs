//! Where the files of a checkpoint lie: named objects that appear whole or not at all.
//!
//! ```text
//!   create / replace / writer      upload
//!        │                           │ (hard link, or a copy across file systems)
//!   .<name>.<pid>-<n>.tmp  ── fsync ── link (create) or rename (replace) ── fsync of the folder
//! ```
//!
//! A reader therefore sees no half-written object under its final name; what a crash leaves behind begins with a dot,
//! is never listed and is removed by the next run. The trait is small on purpose: it asks for nothing an object store
//! cannot do (create-if-absent is its conditional put; `remote/` is that store). It knows nothing of what the objects
//! mean.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};

/// Whether a write waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// File and folder are on the disk when a write returns.
    #[default]
    Fsync,
    /// Files are whole after a crash of the process, but not after a crash of the machine: for tests and benchmarks.
    None,
}

/// An object in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last part of its name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
}

/// Named objects; names are relative and use `/`.
pub trait Store: Send + Sync + fmt::Debug {
    /// The full address of an object, for messages.
    fn address(&self, name: &str) -> String;

    /// The whole object, or none if there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// The object as a stream, or none if there is none.
    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>> {
        self.open_at(name, 0)
    }

    /// The same from a byte on, which the object has.
    fn open_at(&self, name: &str, at: u64) -> Result<Option<Box<dyn Read + Send>>>;

    /// Makes the object unless it exists; false if it did with other bytes, and then it is as it was. Where an answer
    /// can get lost an equal object cannot be told from one's own, so a caller to whom that matters puts something
    /// unique into the bytes.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool>;

    /// Makes the object in place of an older one.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Makes the object in place of an older one, piece by piece; it appears at [`ObjectWriter::finish`].
    fn writer(&self, name: &str) -> Result<Box<dyn ObjectWriter>>;

    /// Makes the object from a finished local file that will never change.
    fn upload(&self, local: &Path, name: &str) -> Result<()>;

    /// Puts the object at a local path that does not exist; the caller never changes the file.
    fn download(&self, name: &str, local: &Path) -> Result<()>;

    /// The objects of a folder in no order; empty if there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<Entry>>;

    /// Removes the object if it is there.
    fn delete(&self, name: &str) -> Result<()>;

    /// Whether each of these objects is there.
    fn exist(&self, names: &[&str]) -> Result<Vec<bool>>;

    /// How many large objects are worth carrying at once.
    fn transfers(&self) -> usize {
        1
    }

    /// Makes the folder and removes what a crash left half written in it.
    fn prepare_folder(&self, folder: &str) -> Result<()>;

    /// Where the object lies on this machine, if it does.
    fn local_path(&self, name: &str) -> Option<PathBuf>;
}

/// An object being written; dropped before [`ObjectWriter::finish`] it leaves nothing.
pub trait ObjectWriter: Write + Send {
    /// Makes the object visible and durable; gives its size.
    fn finish(self: Box<Self>) -> Result<u64>;
}

/// The store in a folder of this machine.
pub fn local(root: impl Into<PathBuf>, durability: Durability) -> Arc<dyn Store> {
    Arc::new(LocalStore { root: root.into(), durability })
}

/// A folder of this machine.
#[derive(Debug)]
struct LocalStore {
    root: PathBuf,
    durability: Durability,
}

impl LocalStore {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Starts a temporary file beside the object's place.
    fn temporary(&self, name: &str) -> Result<Temporary> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let target = self.path(name);
        let parent = target.parent().unwrap_or(&self.root).to_owned();
        self.make_folder(&parent)?;
        let base = target.file_name().unwrap_or_default().to_string_lossy();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!(".{base}.{}-{number}.tmp", std::process::id()));
        Ok(Temporary { path, target, parent, durability: self.durability, in_place: false })
    }

    /// Makes a folder and its parents, each durable in the one above it.
    fn make_folder(&self, folder: &Path) -> Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.make_folder(parent)?;
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io_error("create", folder, error)),
            _ => {}
        }
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(parent, self.durability)
    }
}

impl Store for LocalStore {
    fn address(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        if_found(fs::read(&path)).map_err(|error| io_error("read", &path, error))
    }

    fn open_at(&self, name: &str, at: u64) -> Result<Option<Box<dyn Read + Send>>> {
        let path = self.path(name);
        let opened = File::open(&path).and_then(|mut file| file.seek(io::SeekFrom::Start(at)).map(|_| file));
        let file = if_found(opened).map_err(|error| io_error("open", &path, error))?;
        Ok(file.map(|file| Box::new(io::BufReader::with_capacity(1 << 18, file)) as Box<dyn Read + Send>))
    }

    fn exist(&self, names: &[&str]) -> Result<Vec<bool>> {
        let exists = |name: &&str| {
            let path = self.path(name);
            path.try_exists().map_err(|error| io_error("look for", &path, error))
        };
        names.iter().map(exists).collect()
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let temporary = self.temporary(name)?;
        temporary.fill(bytes)?;
        temporary.link_if_absent()
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = self.temporary(name)?;
        temporary.fill(bytes)?;
        temporary.rename()
    }

    fn writer(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        let temporary = self.temporary(name)?;
        let file = BufWriter::with_capacity(1 << 18, temporary.create()?);
        Ok(Box::new(LocalWriter { file, temporary, size_bytes: 0 }))
    }

    fn upload(&self, local: &Path, name: &str) -> Result<()> {
        let temporary = self.temporary(name)?;
        if fs::hard_link(local, &temporary.path).is_err() {
            fs::copy(local, &temporary.path).map_err(|error| io_error("write", &temporary.path, error))?;
            sync_file(&temporary.path, self.durability)?;
        }
        temporary.rename()
    }

    fn download(&self, name: &str, local: &Path) -> Result<()> {
        let path = self.path(name);
        if fs::hard_link(&path, local).is_err() {
            fs::copy(&path, local).map_err(|error| io_error("copy", &path, error))?;
        }
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        let path = self.path(folder);
        let Some(entries) = if_found(fs::read_dir(&path)).map_err(|error| io_error("list", &path, error))? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| io_error("list", &path, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // An object may be deleted between the listing and this look at it.
            let Some(metadata) = if_found(entry.metadata()).map_err(|error| io_error("read", &entry.path(), error))?
            else {
                continue;
            };
            if metadata.is_file() && !name.starts_with('.') {
                found.push(Entry { name, size_bytes: metadata.len() });
            }
        }
        Ok(found)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        if_found(fs::remove_file(&path)).map_err(|error| io_error("delete", &path, error))?;
        Ok(())
    }

    fn prepare_folder(&self, folder: &str) -> Result<()> {
        let path = self.path(folder);
        self.make_folder(&path)?;
        let entries = fs::read_dir(&path).map_err(|error| io_error("list", &path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| io_error("list", &path, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') && name.ends_with(".tmp") {
                if_found(fs::remove_file(entry.path())).map_err(|error| io_error("delete", &entry.path(), error))?;
            }
        }
        Ok(())
    }

    fn local_path(&self, name: &str) -> Option<PathBuf> {
        Some(self.path(name))
    }
}

/// A file on its way to its final name; removed when dropped before it got there.
struct Temporary {
    path: PathBuf,
    target: PathBuf,
    parent: PathBuf,
    durability: Durability,
    in_place: bool,
}

impl Temporary {
    fn create(&self) -> Result<File> {
        let opened = OpenOptions::new().write(true).create(true).truncate(true).open(&self.path);
        opened.map_err(|error| io_error("create", &self.path, error))
    }

    fn fill(&self, bytes: &[u8]) -> Result<()> {
        let mut file = self.create()?;
        file.write_all(bytes).map_err(|error| io_error("write", &self.path, error))?;
        self.sync(&file)
    }

    fn sync(&self, file: &File) -> Result<()> {
        match self.durability {
            Durability::Fsync => file.sync_all().map_err(|error| io_error("sync", &self.path, error)),
            Durability::None => Ok(()),
        }
    }

    fn rename(mut self) -> Result<()> {
        fs::rename(&self.path, &self.target).map_err(|error| io_error("rename to", &self.target, error))?;
        self.in_place = true;
        sync_folder(&self.parent, self.durability)
    }

    /// A hard link fails where the name is taken, and is atomic: create-if-absent of a whole file.
    fn link_if_absent(self) -> Result<bool> {
        match fs::hard_link(&self.path, &self.target) {
            Ok(()) => sync_folder(&self.parent, self.durability).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(io_error("create", &self.target, error)
                .help("the checkpoint needs a file system with hard links; choose another checkpoint location")),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.in_place {
            // Nothing depends on it: the next run removes what this could not.
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct LocalWriter {
    file: BufWriter<File>,
    temporary: Temporary,
    size_bytes: u64,
}

impl Write for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl ObjectWriter for LocalWriter {
    fn finish(self: Box<Self>) -> Result<u64> {
        let Self { mut file, temporary, size_bytes } = *self;
        file.flush().map_err(|error| io_error("write", &temporary.path, error))?;
        temporary.sync(file.get_ref())?;
        temporary.rename()?;
        Ok(size_bytes)
    }
}

fn sync_file(path: &Path, durability: Durability) -> Result<()> {
    match durability {
        Durability::None => Ok(()),
        Durability::Fsync => {
            File::open(path).and_then(|file| file.sync_all()).map_err(|error| io_error("sync", path, error))
        }
    }
}

fn sync_folder(path: &Path, durability: Durability) -> Result<()> {
    sync_file(path, durability)
}

fn if_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// An error of the file system, sorted by what helps.
pub(crate) fn io_error(action: &str, path: &Path, error: io::Error) -> EngineError {
    let message = format!("cannot {action} {}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            EngineError::config(message)
                .caused_by(error)
                .help("give this user the right to write there, or choose another path")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => EngineError::unavailable(message)
            .caused_by(error)
            .help("free space on that disk, then start the query again"),
        _ => EngineError::unavailable(message).caused_by(error).help("check that disk, then start the query again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
        let dir = tempfile::tempdir().unwrap();
        let store = local(dir.path(), Durability::None);
        (dir, store)
    }

    #[test]
    fn create_never_replaces_and_replace_does() {
        let (_dir, store) = store();
        assert!(store.create("a/1", b"x").unwrap());
        assert!(!store.create("a/1", b"y").unwrap());
        assert_eq!(store.read("a/1").unwrap().unwrap(), b"x");
        store.replace("a/1", b"z").unwrap();
        assert_eq!(store.read("a/1").unwrap().unwrap(), b"z");
        assert_eq!(store.list("a").unwrap(), [Entry { name: "1".into(), size_bytes: 1 }]);
        assert_eq!(store.read("a/2").unwrap(), None);
        assert_eq!(store.list("b").unwrap(), []);
    }

    #[test]
    fn a_crash_before_the_rename_leaves_nothing_to_see() {
        let (dir, store) = store();
        let mut writer = store.writer("a/1").unwrap();
        writer.write_all(b"half").unwrap();
        std::mem::forget(writer); // as a killed process would
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
        assert_eq!(store.read("a/1").unwrap(), None);
        assert_eq!(store.list("a").unwrap(), []);
        store.prepare_folder("a").unwrap();
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 0);
    }

    #[test]
    fn a_dropped_writer_leaves_nothing_and_a_finished_one_replaces() {
        let (dir, store) = store();
        let mut writer = store.writer("a/1").unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 0);
        store.create("a/1", b"old").unwrap();
        let mut writer = store.writer("a/1").unwrap();
        writer.write_all(b"whole").unwrap();
        assert_eq!(writer.finish().unwrap(), 5);
        assert_eq!(store.read("a/1").unwrap().unwrap(), b"whole");
    }

    #[test]
    fn files_go_up_and_down() {
        let (dir, store) = store();
        let local = dir.path().join("local");
        fs::write(&local, b"sst").unwrap();
        store.upload(&local, "state/sst/1").unwrap();
        fs::remove_file(&local).unwrap();
        store.download("state/sst/1", &local).unwrap();
        assert_eq!(fs::read(&local).unwrap(), b"sst");
    }
}
