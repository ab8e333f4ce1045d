//! Large objects: sent in parts from a file, read as a stream that is taken up again where it broke.
//!
//! Memory is bounded by the parts in flight, whatever the size of an object: an upload reads its file part by part,
//! and what is written piece by piece goes to an unnamed local file once it is larger than a part. That file is also
//! what makes a second try possible.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, MultipartUpload, ObjectStoreExt, PutMode, PutPayload};

use super::RemoteStore;
use super::attempts::{Answer, Attempts, block_on, generic};
use crate::checkpoint::store::{ObjectWriter, Store, io_error};
use crate::error::{EngineError, Result};

/// Parts of one object under way at once: one is read while another is sent.
const PARTS_IN_FLIGHT: usize = 2;

impl RemoteStore {
    /// Makes the object from the first `size_bytes` of a file.
    pub(super) fn put_file(&self, file: &File, size_bytes: u64, name: &str) -> Result<()> {
        if size_bytes <= self.settings.part_bytes {
            let bytes = part(file, 0, size_bytes).map_err(|error| io_error("read", &self.spill_dir, error))?;
            return match self.put("write", name, bytes, PutMode::Overwrite)? {
                Answer::Done(()) => Ok(()),
                Answer::Missing(_) | Answer::Exists => Err(self.no_bucket("write", name)),
            };
        }
        let mut attempts = Attempts::new(self, "write", name);
        loop {
            match self.answer(block_on(self.put_parts(file, size_bytes, name))?) {
                Ok(Answer::Done(())) => return Ok(()),
                Ok(Answer::Missing(error)) => attempts.failed(generic(error.to_string()))?,
                Ok(Answer::Exists) => return Err(self.no_bucket("write", name)),
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    async fn put_parts(&self, file: &File, size_bytes: u64, name: &str) -> object_store::Result<()> {
        let path = self.path(name);
        let mut upload = self.in_time(0, self.objects.put_multipart(&path)).await?;
        let sent = self.send_parts(upload.as_mut(), file, size_bytes).await;
        if sent.is_err() {
            // Parts of an upload that was given up cost room until the store drops them: ask it to, at best effort.
            if let Err(error) = self.in_time(0, upload.abort()).await {
                tracing::debug!(address = self.address(name), %error, "parts of a failed upload may be left");
            }
        }
        sent
    }

    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        file: &File,
        size_bytes: u64,
    ) -> object_store::Result<()> {
        let mut sending = FuturesUnordered::new();
        let mut at = 0;
        while at < size_bytes {
            let length = self.settings.part_bytes.min(size_bytes - at);
            let bytes = part(file, at, length).map_err(|error| generic(format!("its local file: {error}")))?;
            sending.push(self.in_time(bytes.len(), upload.put_part(PutPayload::from(bytes))));
            at += length;
            if sending.len() == PARTS_IN_FLIGHT {
                sending.try_next().await?;
            }
        }
        while sending.try_next().await?.is_some() {}
        drop(sending);
        self.in_time(0, upload.complete()).await.map(|_| ())
    }

    /// The object as a stream from a byte on, or none if there is none.
    pub(super) fn stream(&self, name: &str, at: u64) -> Result<Option<RemoteReader>> {
        let mut reader =
            RemoteReader { store: self.clone(), name: name.to_owned(), source: None, at, chunk: Bytes::new() };
        let found = reader.connect(&mut Attempts::new(self, "read", name))?;
        Ok(found.then_some(reader))
    }

    /// Puts the object into a new local file.
    pub(super) fn fetch(&self, name: &str, local: &Path) -> Result<()> {
        let failed = |error| io_error("write", local, error);
        let Some(mut reader) = self.stream(name, 0)? else {
            return Err(EngineError::data(format!("checkpoint file {} is missing", self.address(name)))
                .help("restore this file from a backup, or give the query a new checkpoint location to start over"));
        };
        let mut file = OpenOptions::new().write(true).create_new(true).open(local).map_err(failed)?;
        while let Some(chunk) = reader.next_chunk()? {
            file.write_all(&chunk).map_err(failed)?;
        }
        Ok(())
    }
}

fn part(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

/// An object being read.
pub(super) struct RemoteReader {
    store: RemoteStore,
    name: String,
    source: Option<Incoming>,
    /// Where the next byte stands in the object.
    at: u64,
    chunk: Bytes,
}

/// One answer of the store.
struct Incoming {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    size_bytes: u64,
    e_tag: Option<String>,
}

impl RemoteReader {
    /// Asks for what is left of the object; false if there is no object.
    fn connect(&mut self, attempts: &mut Attempts<'_>) -> Result<bool> {
        let path = self.store.path(&self.name);
        loop {
            // Another object of the same name must not be read as the rest of the first.
            let if_match = self.source.as_ref().and_then(|source| source.e_tag.clone());
            let range = (self.at > 0).then_some(GetRange::Offset(self.at));
            let objects = Arc::clone(&self.store.objects);
            let request = async {
                let options = GetOptions { range, if_match, ..GetOptions::default() };
                let found = objects.get_opts(&path, options).await?;
                let (size_bytes, e_tag) = (found.meta.size, found.meta.e_tag.clone());
                Ok(Incoming { stream: found.into_stream(), size_bytes, e_tag })
            };
            let result = block_on(self.store.in_time(0, request))?;
            match self.store.answer(result) {
                Ok(Answer::Done(source)) => {
                    self.source = Some(source);
                    return Ok(true);
                }
                Ok(Answer::Missing(_)) if self.at == 0 => return Ok(false),
                Ok(Answer::Missing(_) | Answer::Exists) => return Err(self.replaced()),
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// The next bytes, or none at the end of the object.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        let store = self.store.clone();
        let name = self.name.clone();
        let mut attempts = Attempts::new(&store, "read", &name);
        while let Some(source) = &mut self.source {
            if self.at >= source.size_bytes {
                return Ok(None);
            }
            let next = async { source.stream.next().await.transpose() };
            let failure = match block_on(store.in_time(0, next))? {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) => generic(format!("it ended after {} of {} bytes", self.at, source.size_bytes)),
                Err(error) => error,
            };
            attempts.failed(failure)?;
            if !self.connect(&mut attempts)? {
                return Err(self.replaced());
            }
        }
        Ok(None)
    }

    fn replaced(&self) -> EngineError {
        EngineError::data(format!("{} was removed or replaced while it was read", self.store.address(&self.name)))
            .help("another run of the query is at work: leave it alone, or stop it first")
    }
}

impl Read for RemoteReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.next_chunk().map_err(io::Error::other)? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let taken = self.chunk.len().min(out.len());
        self.chunk.copy_to_slice(&mut out[..taken]);
        Ok(taken)
    }
}

/// An object being written piece by piece.
pub(super) struct RemoteWriter {
    store: RemoteStore,
    name: String,
    size_bytes: u64,
    /// What is not in the file yet.
    buffer: Vec<u8>,
    /// Without a name: it is gone when it is closed, also by a crash.
    spilled: Option<File>,
}

impl RemoteWriter {
    pub(super) fn new(store: RemoteStore, name: &str) -> Self {
        Self { store, name: name.to_owned(), size_bytes: 0, buffer: Vec::new(), spilled: None }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.spilled {
            Some(file) => file,
            None => self.spilled.insert(unnamed_file(&self.store.spill_dir)?),
        };
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn unnamed_file(folder: &Path) -> io::Result<File> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(folder)?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".upload.{}-{number}.tmp", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

impl Write for RemoteWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        self.size_bytes += bytes.len() as u64;
        if self.buffer.len() as u64 > self.store.settings.part_bytes {
            self.spill()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for RemoteWriter {
    fn finish(mut self: Box<Self>) -> Result<u64> {
        if self.spilled.is_none() {
            self.store.replace(&self.name, &self.buffer)?;
            return Ok(self.size_bytes);
        }
        self.spill().map_err(|error| io_error("write", &self.store.spill_dir, error))?;
        if let Some(file) = &self.spilled {
            self.store.put_file(file, self.size_bytes, &self.name)?;
        }
        Ok(self.size_bytes)
    }
}
