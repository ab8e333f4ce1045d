//! One broker a data directory: a lock the system gives back when the process ends, however it
//! ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::{BrokerError, io_at};

/// Held for as long as the directory is used.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(crate) fn take(directory: &Path) -> Result<Self, BrokerError> {
        let path = directory.join("broker.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(io_at("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(BrokerError::DataDirInUse { directory: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(io_at("lock", &path)(error)),
        }
    }
}
