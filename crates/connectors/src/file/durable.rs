//! Files that are there whole or not at all, and stay there through a power cut.
//!
//! ```text
//!   write_new   tmp ──write──fsync──> link(tmp, name)  fails if `name` is there ──> fsync(folder)
//!   replace     tmp ──write──fsync──> rename(tmp, name)                        ──> fsync(folder)
//! ```
//!
//! The file-source log, the file sink's manifest and Delta's commits all stand on these two. A hard link is the one
//! step of a local file system that both publishes a finished file and fails when another writer was first. This
//! module refuses to know what the files mean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use highwater_engine::error::{EngineError, Result};

/// The way out of a full disk.
pub(crate) const FREE_SPACE: &str =
    "free some space on that disk, then start the query again: no row is lost or written twice";

/// The way out of what else a disk refuses.
pub(crate) const CHECK_DISK: &str =
    "check that disk and its limits, then start the query again: no row is lost or written twice";

/// What [`write_new`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// The file is there now, and it is ours.
    Yes,
    /// Another writer was first; nothing was changed.
    AlreadyThere,
}

/// Publishes `bytes` as `path` unless a file of that name is there already.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<Created> {
    let temporary = write_temporary(path, bytes)?;
    let linked = fs::hard_link(&temporary, path);
    // The name is taken or given by now; the temporary one has no reader.
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {
            sync_parent(path)?;
            Ok(Created::Yes)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::AlreadyThere),
        Err(error) => Err(io_error("publish", path, error)),
    }
}

/// Publishes `bytes` as `path`, over whatever was there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = write_temporary(path, bytes)?;
    fs::rename(&temporary, path).map_err(|error| io_error("publish", path, error))?;
    sync_parent(path)
}

/// Creates a folder with its parents and makes their names durable.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(io_error("create the folder", path, error)),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| io_error("sync the folder", path, error))
}

/// Removes a file; one that is gone is as good as removed.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
}

/// Removes a folder with all in it; one that is gone is as good as removed.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove the folder", path, error)),
        _ => Ok(()),
    }
}

/// The names in a folder; none for a folder that is not there.
pub(crate) fn file_names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", folder, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| io_error("list", folder, error))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

/// An input/output error with the file it happened to, sorted by what to do about it.
pub(crate) fn io_error(action: &str, path: &Path, error: io::Error) -> EngineError {
    let message = format!("cannot {action} '{}'", path.display());
    match error.kind() {
        ErrorKind::NotFound => EngineError::data(message).caused_by(error),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            EngineError::config(message).caused_by(error).help("check the path and its permissions")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            EngineError::unavailable(message).caused_by(error).help(FREE_SPACE)
        }
        _ => EngineError::unavailable(message).caused_by(error).help(CHECK_DISK),
    }
}

fn write_temporary(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", uuid::Uuid::new_v4().simple()));
    let written = OpenOptions::new().write(true).create_new(true).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(io_error("write", &temporary, error));
    }
    Ok(temporary)
}

fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_of_a_name_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("7");
        assert_eq!(write_new(&path, b"first").expect("written"), Created::Yes);
        assert_eq!(write_new(&path, b"second").expect("refused"), Created::AlreadyThere);
        assert_eq!(fs::read(&path).expect("read"), b"first");
        replace(&path, b"third").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"third");
        assert_eq!(file_names(folder.path()).expect("names"), ["7"]);
    }

    #[test]
    fn a_missing_folder_has_no_names() {
        assert!(file_names(Path::new("/nowhere/at/all")).expect("none").is_empty());
    }
}
