//! Which files a path means now: one file, a folder, or a glob; hidden files are never data.
//!
//! ```text
//!   path ──> glob? ──> folder with _spark_metadata?  yes: only the files its manifest names
//!                                                    no:  all files below it that are not hidden
//! ```
//!
//! Names that begin with `_` or `.` are work in progress or metadata by the convention of Hadoop and Spark, except for
//! partition folders such as `_day=1`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use highwater_engine::error::{EngineError, Result};

use super::durable::io_error;
use super::manifest;
use super::options::FileOptions;

/// A file that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputFile {
    pub(crate) path: String,
    /// Milliseconds since 1970.
    pub(crate) modified_ms: i64,
    pub(crate) size: u64,
}

/// The files of a table, oldest first; files of one time in the order of their names.
pub(crate) fn list(options: &FileOptions) -> Result<Vec<InputFile>> {
    let mut files = Vec::new();
    for root in roots(&options.path)? {
        if root.is_dir() && manifest::exists(&root) {
            files.extend(manifest::committed_files(&root)?);
        } else {
            walk(&root, options, 0, &mut files)?;
        }
    }
    if let Some(filter) = &options.path_glob_filter {
        files.retain(|file| filter.matches(file_name(&file.path)));
    }
    files.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `column=value` folders between the table and the file, decoded.
pub(crate) fn partition_values(path: &str) -> impl Iterator<Item = (String, Option<String>)> + '_ {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').filter_map(|part| {
        let (column, value) = part.split_once('=')?;
        let value = unescape(value);
        Some((unescape(column), (value != HIVE_NULL).then_some(value)))
    })
}

/// What Hive writes for a null partition value.
pub(crate) const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A partition folder's name, with the characters a path cannot hold as `%XX`.
pub(crate) fn partition_folder(column: &str, value: Option<&str>) -> String {
    let value = match value {
        None | Some("") => HIVE_NULL.to_owned(),
        Some(value) => escape(value),
    };
    format!("{}={value}", escape(column))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        // Spark's list, ExternalCatalogUtils.charToEscape.
        if letter.is_ascii_control() || "\"#%'*/:=?\\{[]^\u{7f}".contains(letter) {
            escaped.push_str(&format!("%{:02X}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// Turns `%XX` back into bytes; what is not such a sequence stays.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn roots(path: &str) -> Result<Vec<PathBuf>> {
    let plain = absolute(Path::new(path))?;
    if plain.exists() || !path.contains(['*', '?', '[']) {
        return Ok(vec![plain]);
    }
    let pattern = plain.to_string_lossy().into_owned();
    let found = glob::glob(&pattern)
        .map_err(|error| EngineError::config(format!("'{path}' is not a path and not a glob")).caused_by(error))?;
    Ok(found.filter_map(Result::ok).filter(|path| !hidden(path)).collect())
}

/// The path from the root on, without asking the file system what links mean.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| io_error("find", path, error))
}

fn walk(path: &Path, options: &FileOptions, depth: usize, files: &mut Vec<InputFile>) -> Result<()> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // Gone between listing and looking, or not there yet: a stream waits for it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at", path, error)),
    };
    if metadata.is_file() {
        let modified = metadata.modified().map_err(|error| io_error("look at", path, error))?;
        let modified_ms = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        files.push(InputFile {
            path: path.to_string_lossy().into_owned(),
            modified_ms: i64::try_from(modified_ms).unwrap_or(i64::MAX),
            size: metadata.len(),
        });
        return Ok(());
    }
    // Without recursiveFileLookup Spark goes down partition folders only.
    let partition_folder = path.file_name().is_some_and(|name| name.to_string_lossy().contains('='));
    if depth > 0 && !options.recursive && !partition_folder {
        return Ok(());
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("list", path, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| io_error("list", path, error))?.path();
        if !hidden(&entry) {
            walk(&entry, options, depth + 1, files)?;
        }
    }
    Ok(())
}

fn hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_folders_survive_odd_values() {
        for value in [Some("a/b=c d%"), Some("plain"), None] {
            let folder = partition_folder("day", value);
            assert!(!folder.contains('/'), "{folder}");
            let path = format!("/t/{folder}/part-0.json");
            let found: Vec<_> = partition_values(&path).collect();
            assert_eq!(found, [("day".to_owned(), value.map(str::to_owned))]);
        }
    }

    #[test]
    fn hidden_names_are_not_data() {
        assert!(hidden(Path::new("/t/_SUCCESS")));
        assert!(hidden(Path::new("/t/.part.tmp")));
        assert!(!hidden(Path::new("/t/_day=1")));
    }
}
