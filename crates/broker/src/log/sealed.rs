//! Small files the broker keeps about itself: one line that seals, then JSON a person can read.
//!
//! ```text
//! highwater topics 1 crc32c=5f1d0c7a\n      what it holds, format version, checksum of the rest
//! { "topics": [ ... ] }
//! ```
//!
//! A sealed file is written whole or not at all (temporary file, fsync, rename, fsync of the
//! directory), so a crash leaves the old one or the new one. A file that fails its checksum is an
//! error that names it; it is never half believed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{BrokerError, io_at};

const VERSION: u32 = 1;

/// What a sealed file holds: its name in the first line, and what a user loses without it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) holds: &'static str,
}

/// Replaces the file at `path` by `value`, durably.
pub(crate) fn write<T: Serialize>(path: &Path, kind: Kind, value: &T) -> Result<(), BrokerError> {
    replace(path, kind, value, OpenOptions::new().write(true).create(true).truncate(true))
}

/// As [`write()`], with a file that only its owner can read.
pub(crate) fn write_private<T: Serialize>(path: &Path, kind: Kind, value: &T) -> Result<(), BrokerError> {
    // Left behind by a crash, it would keep its old permissions.
    match fs::remove_file(path.with_extension("tmp")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at("remove", path)(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    replace(path, kind, value, &options)
}

fn replace<T: Serialize>(path: &Path, kind: Kind, value: &T, options: &OpenOptions) -> Result<(), BrokerError> {
    let refuse = |source| BrokerError::Io { action: "write", path: path.to_owned(), source };
    let body = serde_json::to_vec_pretty(value).map_err(|error| refuse(io::Error::other(error)))?;
    let mut content = seal_line(kind, &body).into_bytes();
    content.extend_from_slice(&body);
    let temporary = path.with_extension("tmp");
    let mut file = options.open(&temporary).map_err(io_at("create", &temporary))?;
    file.write_all(&content).and_then(|()| file.sync_all()).map_err(io_at("write", &temporary))?;
    fs::rename(&temporary, path).map_err(refuse)?;
    sync_directory_of(path)
}

/// Reads the file at `path`; `None` when there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, kind: Kind) -> Result<Option<T>, BrokerError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_at("read", path)(error)),
    };
    unseal(&content, kind).map(Some).map_err(|reason| BrokerError::CorruptFile {
        file: path.to_owned(),
        reason,
        holds: kind.holds,
    })
}

/// Makes a created, renamed or removed entry of the directory around `path` durable.
pub(crate) fn sync_directory_of(path: &Path) -> Result<(), BrokerError> {
    let Some(directory) = path.parent() else { return Ok(()) };
    File::open(directory).and_then(|file| file.sync_all()).map_err(io_at("fsync", directory))
}

fn seal_line(kind: Kind, body: &[u8]) -> String {
    format!("highwater {} {VERSION} crc32c={:08x}\n", kind.name, crc32c::crc32c(body))
}

fn unseal<T: DeserializeOwned>(content: &[u8], kind: Kind) -> Result<T, String> {
    let end = content.iter().position(|&byte| byte == b'\n').ok_or("it has no first line")?;
    let (line, body) = content.split_at(end + 1);
    let expected = seal_line(kind, body);
    if line != expected.as_bytes() {
        let found = String::from_utf8_lossy(&line[..end.min(80)]).into_owned();
        return Err(format!("its first line is {found:?}, expected {:?}", expected.trim_end()));
    }
    serde_json::from_slice(body).map_err(|error| format!("its content is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { name: "test", holds: "a test" };

    #[test]
    fn a_sealed_file_reads_back_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("file");
        assert_eq!(read::<Vec<i32>>(&path, KIND).expect("absent is fine"), None);
        write(&path, KIND, &vec![1, 2, 3]).expect("written");
        assert_eq!(read(&path, KIND).expect("read"), Some(vec![1, 2, 3]));

        let whole = fs::read(&path).expect("read");
        for damage in [whole.len() - 2, 3, whole.len() - 5] {
            let mut bytes = whole.clone();
            bytes[damage] ^= 1;
            fs::write(&path, bytes).expect("written");
            let error = read::<Vec<i32>>(&path, KIND).expect_err("damaged").to_string();
            assert!(error.contains("file"), "{error}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).expect("written");
        read::<Vec<i32>>(&path, KIND).expect_err("cut");
    }
}
