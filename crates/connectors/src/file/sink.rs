//! The file sink: each batch adds part files, and the manifest makes them visible with the batch's token.
//!
//! ```text
//!   <table>/part-00000-q<query>.b<batch>.<nonce>.c000.snappy.parquet      final names; day=2025-01-01/part-... below
//!           _spark_metadata/                                              what is committed (manifest.rs)
//!           _highwater/<query>/staging/<nonce>/...                        rows of a batch before its commit
//!           _highwater/<query>/intent-<nonce>.json                        final names a commit is about to give
//!           _highwater/<query>/token.json                                 newest batch that had no rows
//!
//!   write ──> staging file      prepare ──> fsync      commit ──> intent, rename, manifest entry, drop the intent
//! ```
//!
//! What a kill leaves behind, and who removes it:
//!
//! | killed after | left | removed |
//! |---|---|---|
//! | write, prepare | staging files | by the next [`Sink::last_committed`] |
//! | intent, some renames | intent, part files no manifest names | after the replayed batch is committed |
//! | manifest entry | the intent | by the next `last_committed`; its files stay, they are committed |
//!
//! Part files that have their final name are not removed before their batch is known to be committed by another run:
//! until then a run that was only stopped, not killed, could still publish them. A staged file may be removed at any
//! time, because that run's rename then fails and it publishes nothing. Several queries may write one table: all names
//! carry the query, and the manifest keeps a token for each. A batch without rows adds no file, so its token stands in
//! `token.json`; the newer of the two tokens counts.
//!
//! Append only, as in Spark: files cannot be changed. Part files written by others into the same folder are not seen
//! by readers of the manifest; a Spark query must not write the same table, since it numbers entries by its batch ids.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::sink::{BatchId, CommitReport, Sink, SinkRequest, SinkToken};
use serde::{Deserialize, Serialize};

use super::durable::{self, io_error};
use super::manifest::{FileStatus, Manifest, Published, Token, to_uri};
use super::options::{FileFormat, FileOptions};
use super::part::PartWriter;
use super::partition::Splitter;

/// A folder as the target of a query.
pub(crate) struct FileSink {
    root: PathBuf,
    format: FileFormat,
    options: Arc<FileOptions>,
    query_id: String,
    /// `_highwater/<query>`.
    private: PathBuf,
    splitter: Splitter,
    manifest: Manifest,
    batch: Option<Batch>,
    /// Final names an earlier run gave and did not publish, by batch: removed once that batch is committed.
    orphans: Vec<Intent>,
}

struct Batch {
    id: BatchId,
    nonce: String,
    staging: PathBuf,
    /// Open files by partition folder.
    open: BTreeMap<String, PartWriter>,
    /// Finished files with the partition folder they belong to.
    finished: Vec<Staged>,
    next_file: usize,
    rows: u64,
    prepared: bool,
}

struct Staged {
    folder: String,
    path: PathBuf,
    size_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    batch_id: BatchId,
    files: Vec<PathBuf>,
    #[serde(skip)]
    path: PathBuf,
}

impl FileSink {
    /// Opens the target.
    pub(crate) fn open(
        format: FileFormat,
        options: Arc<FileOptions>,
        partition_columns: &[String],
        request: SinkRequest,
    ) -> Result<Self> {
        let root = super::listing::absolute(Path::new(&options.path))?;
        if root.is_file() {
            return Err(EngineError::config(format!(
                "'{}' is a file, expected a folder to write part files to",
                root.display()
            ))
            .help("give the path of a folder"));
        }
        let private = root.join("_highwater").join(escape(&request.query_id));
        let splitter = Splitter::new(&request.schema, partition_columns)?;
        let (manifest, _) = Manifest::open(&root)?;
        Ok(Self {
            root,
            format,
            options,
            query_id: request.query_id,
            private,
            splitter,
            manifest,
            batch: None,
            orphans: Vec::new(),
        })
    }

    fn batch(&mut self) -> Result<&mut Batch> {
        self.batch.as_mut().ok_or_else(|| EngineError::internal("the file sink was called outside of a batch"))
    }

    fn token_path(&self) -> PathBuf {
        self.private.join("token.json")
    }

    /// The newest batch without rows.
    fn empty_token(&self) -> Result<Option<BatchId>> {
        let path = self.token_path();
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<Token>(&bytes) {
                Ok(token) => Ok(Some(token.batch_id)),
                Err(error) => Err(EngineError::data(format!("the sink's token '{}' is damaged", path.display()))
                    .caused_by(error)
                    .help("remove it: the manifest's token then counts, and batches without rows are replayed")),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    fn token(&self) -> Result<Option<BatchId>> {
        Ok(self.manifest.token(&self.query_id).max(self.empty_token()?))
    }

    fn write_split(&mut self, folder: &str, rows: &RecordBatch) -> Result<()> {
        let max_rows = self.options.max_records_per_file.unwrap_or(usize::MAX);
        let schema = SchemaRef::clone(self.splitter.file_schema());
        let (format, options) = (self.format, Arc::clone(&self.options));
        let mut written = 0;
        while written < rows.num_rows() {
            let batch = self.batch()?;
            if !batch.open.contains_key(folder) {
                let path = batch.staging.join(batch.next_file.to_string());
                batch.next_file += 1;
                durable::create_dir(&batch.staging)?;
                batch.open.insert(folder.to_owned(), PartWriter::create(&path, &schema, format, &options)?);
            }
            let Some(part) = batch.open.get_mut(folder) else { break };
            let room = max_rows.saturating_sub(usize::try_from(part.rows()).unwrap_or(usize::MAX));
            let count = room.min(rows.num_rows() - written);
            part.write(&rows.slice(written, count))?;
            written += count;
            if room == count {
                batch.finish(folder)?;
            }
        }
        Ok(())
    }

    /// Gives staged files their final names; returns what the manifest says of them.
    fn publish_names(&self, batch: &Batch) -> Result<Vec<FileStatus>> {
        let token = Token { query_id: self.query_id.clone(), batch_id: batch.id };
        let mut statuses = Vec::with_capacity(batch.finished.len());
        let mut folders = HashSet::new();
        for (staged, path) in batch.finished.iter().zip(self.final_paths(batch)) {
            let folder = self.root.join(&staged.folder);
            if folders.insert(folder.clone()) {
                durable::create_dir(&folder)?;
            }
            fs::rename(&staged.path, &path).map_err(|error| {
                io_error("publish", &staged.path, error)
                    .help("another run of this query may be active: stop one of them")
            })?;
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let modified = modified.map_err(|error| io_error("look at", &path, error))?;
            let modified_ms = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let modified_ms = i64::try_from(modified_ms).unwrap_or(i64::MAX);
            statuses.push(FileStatus::added(&path, staged.size_bytes, modified_ms, token.clone()));
        }
        folders.iter().try_for_each(|folder| durable::sync_dir(folder))?;
        Ok(statuses)
    }

    fn final_paths(&self, batch: &Batch) -> Vec<PathBuf> {
        let codec = match (self.format, self.options.compression) {
            (FileFormat::Parquet, parquet::basic::Compression::SNAPPY) => ".snappy",
            (FileFormat::Parquet, parquet::basic::Compression::LZ4_RAW) => ".lz4raw",
            (FileFormat::Parquet, parquet::basic::Compression::ZSTD(_)) => ".zstd",
            _ => "",
        };
        let extension = self.format.extension();
        let query = escape(&self.query_id);
        let names = batch.finished.iter().enumerate().map(|(number, staged)| {
            let name = format!("part-{number:05}-q{query}.b{}.{}.c000{codec}.{extension}", batch.id, batch.nonce);
            self.root.join(&staged.folder).join(name)
        });
        names.collect()
    }

    fn commit_files(&mut self, batch: &Batch) -> Result<()> {
        let intent_path = self.private.join(format!("intent-{}.json", batch.nonce));
        let intent = Intent { batch_id: batch.id, files: self.final_paths(batch), path: intent_path };
        let bytes = serde_json::to_vec(&intent)
            .map_err(|error| EngineError::internal("an intent has no JSON").caused_by(error))?;
        durable::replace(&intent.path, &bytes)?;
        // From here on a failure leaves names behind: they go when the batch is committed after all.
        self.orphans.push(intent.clone());
        let statuses = self.publish_names(batch)?;
        let token = Token { query_id: self.query_id.clone(), batch_id: batch.id };
        if self.manifest.publish(&token, &statuses)? == Published::Before {
            tracing::warn!(
                batch_id = batch.id,
                "the batch was committed by another run of this query: its rows are dropped"
            );
            return Ok(());
        }
        self.orphans.pop();
        durable::remove_file(&intent.path)
    }

    fn commit_empty(&self, batch: &Batch) -> Result<()> {
        durable::create_dir(&self.private)?;
        let token = Token { query_id: self.query_id.clone(), batch_id: batch.id };
        let bytes = serde_json::to_vec(&token)
            .map_err(|error| EngineError::internal("a token has no JSON").caused_by(error))?;
        durable::replace(&self.token_path(), &bytes)
    }

    /// Removes the files of intents up to `committed` that the manifest does not name.
    fn remove_orphans(&mut self, committed: BatchId) -> Result<()> {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.orphans).into_iter().partition(|intent| intent.batch_id <= committed);
        self.orphans = later;
        if due.is_empty() {
            return Ok(());
        }
        let (manifest, statuses) = Manifest::open(&self.root)?;
        self.manifest = manifest;
        let named: HashSet<&str> = statuses.iter().map(FileStatus::uri).collect();
        for intent in due {
            for file in intent.files.iter().filter(|file| !named.contains(to_uri(file).as_str())) {
                durable::remove_file(file)?;
            }
            durable::remove_file(&intent.path)?;
        }
        Ok(())
    }

    /// Reads the intents earlier runs left.
    fn read_intents(&self) -> Result<Vec<Intent>> {
        let mut intents = Vec::new();
        for name in durable::file_names(&self.private)?.iter().filter(|name| name.starts_with("intent-")) {
            let path = self.private.join(name);
            let bytes = fs::read(&path).map_err(|error| io_error("read", &path, error))?;
            let mut intent: Intent = serde_json::from_slice(&bytes).map_err(|error| {
                EngineError::data(format!("the sink's intent '{}' is damaged", path.display()))
                    .caused_by(error)
                    .help("remove it: at worst part files that no reader sees stay behind")
            })?;
            intent.path = path;
            intents.push(intent);
        }
        Ok(intents)
    }
}

impl Batch {
    fn finish(&mut self, folder: &str) -> Result<()> {
        if let Some(part) = self.open.remove(folder) {
            let part = part.finish()?;
            self.finished.push(Staged { folder: folder.to_owned(), path: part.path, size_bytes: part.size_bytes });
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn description(&self) -> String {
        format!("FileSink[{}]", self.root.display())
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        durable::remove_dir(&self.private.join("staging"))?;
        let (manifest, _) = Manifest::open(&self.root)?;
        self.manifest = manifest;
        self.orphans = self.read_intents()?;
        let token = self.token()?;
        if let Some(committed) = token {
            self.remove_orphans(committed)?;
        }
        Ok(token.map_or(SinkToken::None, SinkToken::Committed))
    }

    fn begin(&mut self, batch_id: BatchId) -> Result<()> {
        self.abort()?;
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        self.batch = Some(Batch {
            id: batch_id,
            staging: self.private.join("staging").join(&nonce),
            nonce,
            open: BTreeMap::new(),
            finished: Vec::new(),
            next_file: 0,
            rows: 0,
            prepared: false,
        });
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.batch()?.rows += rows.num_rows() as u64;
        for (folder, rows) in self.splitter.split(rows)? {
            self.write_split(&folder, &rows)?;
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        let batch = self.batch()?;
        for folder in batch.open.keys().cloned().collect::<Vec<_>>() {
            batch.finish(&folder)?;
        }
        if !batch.finished.is_empty() {
            durable::sync_dir(&batch.staging)?;
        }
        batch.prepared = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        if !self.batch()?.prepared {
            self.prepare()?;
        }
        let Some(batch) = self.batch.take() else { return Ok(CommitReport::default()) };
        if batch.finished.is_empty() {
            self.commit_empty(&batch)?;
        } else {
            self.commit_files(&batch)?;
            durable::remove_dir(&batch.staging)?;
        }
        self.remove_orphans(batch.id)?;
        Ok(CommitReport { rows: batch.rows })
    }

    fn abort(&mut self) -> Result<()> {
        match self.batch.take() {
            Some(batch) => durable::remove_dir(&batch.staging),
            None => Ok(()),
        }
    }
}

/// A query id as part of a file name: what is not a letter, a digit or `-` becomes `_XX`.
pub(crate) fn escape(query_id: &str) -> String {
    let mut name = String::new();
    for byte in query_id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("_{byte:02x}"));
        }
    }
    name
}
