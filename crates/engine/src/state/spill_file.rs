//! A file without a name for what a batch has no room for in memory: blocks of rows, compressed as a changelog stores them.
//!
//! Nothing of it is needed after a crash, because the batch is run again then. It has no checksum: what is read back was
//! written by this process, and goes from here to a changelog that has one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// The file of one set of changes.
#[derive(Debug)]
pub(super) struct SpillFile {
    folder: PathBuf,
    /// Made with the first block.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    end: u64,
    compressed: Vec<u8>,
}

/// Where a block is.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpilledBlock {
    offset: u64,
    stored_bytes: usize,
    pub(super) raw_bytes: usize,
}

impl SpillFile {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: Mutex::new(None) }
    }

    /// Adds a block.
    pub(super) fn write(&self, raw: &[u8]) -> io::Result<SpilledBlock> {
        let mut guard = self.open.lock();
        let open = match guard.take() {
            Some(open) => guard.insert(open),
            None => {
                let file = tempfile::tempfile_in(&self.folder)?;
                guard.insert(Open { file, end: 0, compressed: Vec::new() })
            }
        };
        compress(raw, &mut open.compressed)?;
        open.file.seek(SeekFrom::Start(open.end))?;
        open.file.write_all(&open.compressed)?;
        let block = SpilledBlock { offset: open.end, stored_bytes: open.compressed.len(), raw_bytes: raw.len() };
        open.end += open.compressed.len() as u64;
        Ok(block)
    }

    /// Reads a block as it is stored.
    pub(super) fn read(&self, block: &SpilledBlock, stored: &mut Vec<u8>) -> io::Result<()> {
        let mut guard = self.open.lock();
        let Some(open) = guard.as_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        stored.resize(block.stored_bytes, 0);
        open.file.seek(SeekFrom::Start(block.offset))?;
        open.file.read_exact(stored)
    }

    /// Reads a block as it was written.
    pub(super) fn read_raw(&self, block: &SpilledBlock, raw: &mut Vec<u8>) -> io::Result<()> {
        let mut stored = Vec::new();
        self.read(block, &mut stored)?;
        raw.resize(block.raw_bytes, 0);
        let read = lz4_flex::block::decompress_into(&stored, raw).map_err(io::Error::other)?;
        if read == raw.len() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// Rows as changelogs store them.
pub(super) fn compress(raw: &[u8], stored: &mut Vec<u8>) -> io::Result<()> {
    stored.resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
    let length = lz4_flex::block::compress_into(raw, stored).map_err(io::Error::other)?;
    stored.truncate(length);
    Ok(())
}
