//! The Delta sink: data files first, then one commit with the batch's token.
//!
//! ```text
//!   begin    _highwater/<query>/<nonce>.json: all files of this batch carry the nonce
//!   write    append, complete: rows go into data files no version names        update: rows are kept for the merge
//!   prepare  fsync; update: merge against the newest version (copy on write)
//!   commit   loop { look at the newest version v; token there already? done. changed what we built on? build again.
//!                   link v+1: add*, remove*, txn(query id, batch id)   taken by another writer? again }
//! ```
//!
//! | mode | commit |
//! |---|---|
//! | append | `add` the new files |
//! | complete | `remove` all files of version v, `add` the new ones |
//! | update | `remove` the files that hold one of the keys, `add` them without those rows, `add` the new rows, if not gone |
//!
//! An append does not mind what others did; the other two are built on one version and are built again when it is not
//! the newest any more. A killed batch leaves data files no version names: readers never see them, and they are removed
//! by their nonce once the batch is known to be committed by another run (before that a run that was only stopped
//! could still commit them). Update mode keeps the rows of one batch in memory; without keys it appends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use highwater_engine::clock::{Clock, SystemClock};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::sink::{BatchId, CommitReport, OutputMode, Sink, SinkRequest, SinkToken, without_deleted};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::DeltaOptions;
use super::log::{DataFile, DeltaLog, Snapshot};
use super::merge::{DataReader, last_of_each, touches, without};
use super::stats::Collector;
use crate::file::durable::{self, Created, io_error};
use crate::file::listing::partition_values;
use crate::file::options::{FileFormat, FileOptions};
use crate::file::part::PartWriter;
use crate::file::partition::Splitter;
use crate::memory::Keys;

/// A Delta table as the target of a query.
pub(super) struct DeltaSink {
    log: DeltaLog,
    options: DeltaOptions,
    request: SinkRequest,
    partition_columns: Vec<String>,
    /// `_highwater/<query>`.
    private: PathBuf,
    batch: Option<Batch>,
    /// Batches earlier runs began and did not commit.
    orphans: Vec<Intent>,
}

struct Batch {
    id: BatchId,
    intent: Intent,
    writer: DataWriter,
    /// Rows for the merge.
    rows: Vec<RecordBatch>,
    count: u64,
    prepared: Option<Prepared>,
}

/// What will be committed, and the version it was built on.
struct Prepared {
    version: Option<u64>,
    adds: Vec<Value>,
    removes: Vec<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    batch_id: BatchId,
    nonce: String,
}

impl DeltaSink {
    pub(super) fn open(options: DeltaOptions, partition_columns: Vec<String>, request: SinkRequest) -> Result<Self> {
        let log = DeltaLog::new(&options.root);
        let private = options.root.join("_highwater").join(crate::file::sink::escape(&request.query_id));
        check_columns(&request.schema, &partition_columns)?;
        let mut sink = Self { log, options, request, partition_columns, private, batch: None, orphans: Vec::new() };
        if let Some(snapshot) = sink.log.snapshot(None)? {
            snapshot.refuse_unwritable()?;
            if sink.partition_columns.is_empty() {
                sink.partition_columns.clone_from(&snapshot.partition_columns);
            }
            sink.refuse_other_columns(&snapshot)?;
        }
        Ok(sink)
    }

    fn merges(&self) -> bool {
        self.request.output_mode == OutputMode::Update && !self.request.key_columns.is_empty()
    }

    fn refuse_other_columns(&self, snapshot: &Snapshot) -> Result<()> {
        let object = format!("the Delta table '{}'", self.log.root().display());
        for field in self.request.schema.fields() {
            let Ok(known) = snapshot.schema.field_with_name(field.name()) else {
                let columns: Vec<&str> = snapshot.schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(EngineError::config(format!("{object} has no column '{}'", field.name()))
                    .help(format!("its columns are {}", columns.join(", "))));
            };
            if !same_type(known.data_type(), field.data_type()) {
                return Err(EngineError::config(format!(
                    "column '{}' of {object} is a {}, found {} in the query",
                    field.name(),
                    known.data_type(),
                    field.data_type()
                ))
                .help("CAST the column in the query"));
            }
        }
        let missing = snapshot.schema.fields().iter().find(|field| {
            self.request.schema.field_with_name(field.name()).is_err() && (!field.is_nullable() || self.merges())
        });
        if let Some(missing) = missing {
            return Err(EngineError::config(format!(
                "the query gives no column '{}', which {object} needs",
                missing.name()
            ))
            .help("add the column to the query"));
        }
        if snapshot.partition_columns != self.partition_columns {
            return Err(EngineError::config(format!(
                "{object} is partitioned by ({}), found PARTITIONED BY ({})",
                snapshot.partition_columns.join(", "),
                self.partition_columns.join(", ")
            ))
            .help("give the table's own partition columns, or none"));
        }
        if snapshot.append_only && self.request.output_mode != OutputMode::Append {
            return Err(EngineError::config(format!(
                "{object} is append-only, found output mode {}",
                self.request.output_mode
            ))
            .help("use output mode append, or unset delta.appendOnly"));
        }
        Ok(())
    }

    fn batch(&mut self) -> Result<&mut Batch> {
        self.batch.as_mut().ok_or_else(|| EngineError::internal("the Delta sink was called outside of a batch"))
    }

    /// Builds what will be committed on the newest version.
    fn build(&mut self, snapshot: Option<&Snapshot>) -> Result<Prepared> {
        let merges = self.merges();
        let complete = self.request.output_mode == OutputMode::Complete;
        let now_ms = SystemClock.now_ms();
        let (key_columns, deletes) = (self.request.key_columns.clone(), self.request.deletes);
        let root = self.log.root().to_owned();
        let batch = self.batch()?;
        let mut removes = Vec::new();
        if complete {
            removes.extend(snapshot.into_iter().flat_map(|snapshot| &snapshot.files).map(|file| remove(file, now_ms)));
        }
        if merges {
            batch.writer.discard()?;
            let mut keys = Keys::default();
            let rows = last_of_each(&batch.rows, &key_columns, &mut keys)?;
            if let Some(snapshot) = snapshot {
                for file in touched(&root, snapshot, &key_columns, &mut keys, batch.count)? {
                    let mut reader = DataReader::open(&root, &file, &snapshot.schema, &snapshot.partition_columns)?;
                    while let Some(old) = reader.next_batch()? {
                        let kept = without(&old, &key_columns, &mut keys)?;
                        batch.writer.write(&in_order(&kept, &batch.writer.schema)?)?;
                    }
                    removes.push(remove(&file, now_ms));
                }
            }
            for rows in &rows {
                batch.writer.write(&if deletes { without_deleted(rows)? } else { rows.clone() })?;
            }
        }
        let adds = batch.writer.finish()?;
        Ok(Prepared { version: snapshot.map(|snapshot| snapshot.version), adds, removes })
    }

    /// The actions of a commit on top of `snapshot`.
    fn actions(&self, batch_id: BatchId, prepared: &Prepared, snapshot: Option<&Snapshot>) -> Result<Vec<Value>> {
        let now_ms = SystemClock.now_ms();
        let mode = if self.request.output_mode == OutputMode::Complete { "Complete" } else { "Append" };
        let mut actions = vec![json!({"commitInfo": {
            "timestamp": now_ms,
            "operation": if self.merges() { "MERGE" } else { "STREAMING UPDATE" },
            "operationParameters": {"outputMode": mode, "queryId": self.request.query_id, "epochId": batch_id.to_string()},
            "readVersion": snapshot.map(|snapshot| snapshot.version),
            "isBlindAppend": prepared.removes.is_empty() && !self.merges(),
            "engineInfo": concat!("highwater/", env!("CARGO_PKG_VERSION")),
        }})];
        if snapshot.is_none() {
            actions.extend(self.creation(now_ms)?);
        }
        let version = i64::try_from(batch_id)
            .map_err(|error| EngineError::internal("a batch id is too large").caused_by(error))?;
        actions.push(json!({"txn": {"appId": self.request.query_id, "version": version, "lastUpdated": now_ms}}));
        actions.extend(prepared.removes.iter().cloned());
        actions.extend(prepared.adds.iter().cloned());
        Ok(actions)
    }

    /// `protocol` and `metaData` of a new table. All columns may be null: what a query computes can be.
    fn creation(&self, now_ms: i64) -> Result<[Value; 2]> {
        let fields: Vec<Field> = self
            .request
            .schema
            .fields()
            .iter()
            .map(|field| Field::new(field.name(), field.data_type().clone(), true))
            .collect();
        let without_zone = fields.iter().any(|field| has_local_timestamp(field.data_type()));
        let schema_string = serde_json::to_string(&delta_columns(&Schema::new(fields))?)
            .map_err(|error| EngineError::internal("a Delta schema has no JSON").caused_by(error))?;
        let protocol = match without_zone {
            false => json!({"minReaderVersion": 1, "minWriterVersion": 2}),
            true => json!({"minReaderVersion": 3, "minWriterVersion": 7,
                           "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"]}),
        };
        let metadata = json!({
            "id": uuid::Uuid::new_v4().to_string(),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema_string,
            "partitionColumns": self.partition_columns,
            "configuration": {},
            "createdTime": now_ms,
        });
        Ok([json!({"protocol": protocol}), json!({"metaData": metadata})])
    }

    /// Commits the prepared batch; false if another run had committed it before.
    fn publish(&mut self) -> Result<bool> {
        loop {
            let snapshot = self.log.snapshot(None)?;
            let batch_id = self.batch()?.id;
            if let Some(snapshot) = &snapshot {
                if snapshot.token(&self.request.query_id)?.is_some_and(|known| known >= batch_id) {
                    return Ok(false);
                }
                self.refuse_other_columns(snapshot)?;
                snapshot.refuse_unwritable()?;
            }
            let version = snapshot.as_ref().map(|snapshot| snapshot.version);
            let builds_on_version = self.merges() || self.request.output_mode == OutputMode::Complete;
            let stale =
                self.batch()?.prepared.as_ref().is_none_or(|prepared| builds_on_version && prepared.version != version);
            if stale {
                let built = self.build(snapshot.as_ref())?;
                self.batch()?.prepared = Some(built);
            }
            let Some(prepared) = self.batch()?.prepared.take() else { continue };
            let actions = self.actions(batch_id, &prepared, snapshot.as_ref())?;
            let next = version.map_or(0, |version| version + 1);
            if self.log.commit(next, &actions)? == Created::Yes {
                if next > 0 && next % self.options.checkpoint_interval == 0 {
                    self.log.checkpoint(next);
                }
                return Ok(true);
            }
            self.batch()?.prepared = Some(prepared);
        }
    }

    /// Removes the data files of batches up to `committed` that no version names.
    fn remove_orphans(&mut self, committed: BatchId) -> Result<()> {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.orphans).into_iter().partition(|intent| intent.batch_id <= committed);
        self.orphans = later;
        if due.is_empty() {
            return Ok(());
        }
        let named: std::collections::HashSet<PathBuf> = match self.log.snapshot(None)? {
            Some(snapshot) => snapshot.files.iter().map(|file| self.log.root().join(&file.path)).collect(),
            None => Default::default(),
        };
        for intent in due {
            remove_by_nonce(self.log.root(), &intent.nonce, &named)?;
            durable::remove_file(&self.private.join(format!("{}.json", intent.nonce)))?;
        }
        Ok(())
    }

    fn read_intents(&self) -> Result<Vec<Intent>> {
        let mut intents = Vec::new();
        for name in
            durable::file_names(&self.private)?.iter().filter(|name| !name.starts_with('.') && name.ends_with(".json"))
        {
            let path = self.private.join(name);
            let bytes = std::fs::read(&path).map_err(|error| io_error("read", &path, error))?;
            intents.push(serde_json::from_slice(&bytes).map_err(|error| {
                EngineError::data(format!("the sink's intent '{}' is damaged", path.display()))
                    .caused_by(error)
                    .help("remove it: at worst data files that no reader sees stay behind")
            })?);
        }
        Ok(intents)
    }
}

/// Refuses columns that a table could not hold, and a wrong partition column, before anything is written.
pub(super) fn check_columns(schema: &SchemaRef, partition_columns: &[String]) -> Result<()> {
    Splitter::new(schema, partition_columns)?;
    delta_columns(schema).map(drop)
}

fn delta_columns(schema: &Schema) -> Result<StructType> {
    let columns: Result<StructType, _> = schema.try_into_kernel();
    columns.map_err(|error| {
        EngineError::config("the query has a column that a Delta table cannot hold")
            .caused_by(error)
            .help("CAST it to a type Delta has")
    })
}

impl Sink for DeltaSink {
    fn description(&self) -> String {
        format!("DeltaSink[{}]", self.log.root().display())
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        self.orphans = self.read_intents()?;
        let Some(snapshot) = self.log.snapshot(None)? else { return Ok(SinkToken::None) };
        match snapshot.token(&self.request.query_id)? {
            None => Ok(SinkToken::None),
            Some(token) => {
                self.remove_orphans(token)?;
                Ok(SinkToken::Committed(token))
            }
        }
    }

    fn begin(&mut self, batch_id: BatchId) -> Result<()> {
        self.abort()?;
        let intent = Intent { batch_id, nonce: uuid::Uuid::new_v4().simple().to_string() };
        durable::create_dir(&self.private)?;
        let bytes = serde_json::to_vec(&intent)
            .map_err(|error| EngineError::internal("an intent has no JSON").caused_by(error))?;
        durable::replace(&self.private.join(format!("{}.json", intent.nonce)), &bytes)?;
        let writer = DataWriter::new(&self.options, &self.request.schema, &self.partition_columns, &intent.nonce)?;
        self.batch = Some(Batch { id: batch_id, intent, writer, rows: Vec::new(), count: 0, prepared: None });
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let merges = self.merges();
        let batch = self.batch()?;
        batch.count += rows.num_rows() as u64;
        if merges {
            batch.rows.push(rows.clone());
            return Ok(());
        }
        batch.writer.write(rows)
    }

    fn prepare(&mut self) -> Result<()> {
        let needs_snapshot = self.merges() || self.request.output_mode == OutputMode::Complete;
        let snapshot = if needs_snapshot { self.log.snapshot(None)? } else { None };
        let prepared = self.build(snapshot.as_ref())?;
        self.batch()?.prepared = Some(prepared);
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        if self.batch()?.prepared.is_none() {
            self.prepare()?;
        }
        let (id, rows, intent) = {
            let batch = self.batch()?;
            (batch.id, batch.count, batch.intent.clone())
        };
        let ours = self.publish();
        self.batch = None;
        if ours.as_ref().is_ok_and(|ours| *ours) {
            durable::remove_file(&self.private.join(format!("{}.json", intent.nonce)))?;
        } else {
            self.orphans.push(intent);
        }
        if !ours? {
            tracing::warn!(batch_id = id, "the batch was committed by another run of this query: its rows are dropped");
        }
        self.remove_orphans(id)?;
        Ok(CommitReport { rows })
    }

    fn abort(&mut self) -> Result<()> {
        let Some(mut batch) = self.batch.take() else { return Ok(()) };
        batch.writer.discard()?;
        durable::remove_file(&self.private.join(format!("{}.json", batch.intent.nonce)))
    }
}

/// Writes data files below the table, one open file a partition.
struct DataWriter {
    root: PathBuf,
    nonce: String,
    schema: SchemaRef,
    splitter: Splitter,
    options: FileOptions,
    target_rows_check_bytes: u64,
    open: BTreeMap<String, (PartWriter, Collector)>,
    next_file: usize,
    adds: Vec<Value>,
    paths: Vec<PathBuf>,
}

impl DataWriter {
    fn new(options: &DeltaOptions, schema: &SchemaRef, partition_columns: &[String], nonce: &str) -> Result<Self> {
        Ok(Self {
            root: options.root.clone(),
            nonce: nonce.to_owned(),
            schema: Arc::clone(schema),
            splitter: Splitter::new(schema, partition_columns)?,
            options: FileOptions::for_parts(options.compression),
            target_rows_check_bytes: options.target_file_size,
            open: BTreeMap::new(),
            next_file: 0,
            adds: Vec::new(),
            paths: Vec::new(),
        })
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        for (folder, rows) in self.splitter.split(rows)? {
            if !self.open.contains_key(&folder) {
                let part = self.create(&folder)?;
                self.open.insert(folder.clone(), (part, Collector::new(SchemaRef::clone(self.splitter.file_schema()))));
            }
            let Some((part, stats)) = self.open.get_mut(&folder) else { continue };
            part.write(&rows)?;
            stats.add(&rows);
            if part.size_bytes() >= self.target_rows_check_bytes {
                self.close(&folder)?;
            }
        }
        Ok(())
    }

    fn create(&mut self, folder: &str) -> Result<PartWriter> {
        let directory = self.root.join(folder);
        durable::create_dir(&directory)?;
        let path = directory.join(format!("part-{:05}-{}-c000.parquet", self.next_file, self.nonce));
        self.next_file += 1;
        self.paths.push(path.clone());
        PartWriter::create(&path, self.splitter.file_schema(), FileFormat::Parquet, &self.options)
    }

    fn close(&mut self, folder: &str) -> Result<()> {
        let Some((part, stats)) = self.open.remove(folder) else { return Ok(()) };
        let part = part.finish()?;
        let modified = std::fs::metadata(&part.path).and_then(|metadata| metadata.modified());
        let modified = modified.map_err(|error| io_error("look at", &part.path, error))?;
        let relative = part.path.strip_prefix(&self.root).unwrap_or(&part.path).to_string_lossy().into_owned();
        let values: BTreeMap<String, Option<String>> = partition_values(&relative).collect();
        self.adds.push(json!({"add": {
            "path": encode_path(&relative),
            "partitionValues": values,
            "size": part.size_bytes,
            "modificationTime": i64::try_from(modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX),
            "dataChange": true,
            "stats": stats.finish(),
        }}));
        Ok(())
    }

    /// Ends all files and makes them durable; gives their `add` actions.
    fn finish(&mut self) -> Result<Vec<Value>> {
        for folder in self.open.keys().cloned().collect::<Vec<_>>() {
            self.close(&folder)?;
        }
        let mut folders: Vec<&Path> = self.paths.iter().filter_map(|path| path.parent()).collect();
        folders.sort_unstable();
        folders.dedup();
        folders.into_iter().try_for_each(durable::sync_dir)?;
        Ok(self.adds.clone())
    }

    /// Removes all files of this writer.
    fn discard(&mut self) -> Result<()> {
        self.open.clear();
        self.adds.clear();
        self.paths.drain(..).try_for_each(|path| durable::remove_file(&path))
    }
}

/// The files an upsert must rewrite. Without new rows there are none.
fn touched(
    root: &Path,
    snapshot: &Snapshot,
    key_columns: &[String],
    keys: &mut Keys,
    new_rows: u64,
) -> Result<Vec<DataFile>> {
    let mut files = Vec::new();
    if new_rows == 0 {
        return Ok(files);
    }
    for file in &snapshot.files {
        if touches(root, file, &snapshot.schema, &snapshot.partition_columns, key_columns, keys)? {
            files.push(file.clone());
        }
    }
    Ok(files)
}

/// Columns of the table in the order of the query.
fn in_order(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column = rows.column(rows.schema_ref().index_of(field.name())?);
            Ok(arrow::compute::cast(column, field.data_type())?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn remove(file: &DataFile, now_ms: i64) -> Value {
    json!({"remove": {
        "path": encode_path(&file.path),
        "deletionTimestamp": now_ms,
        "dataChange": true,
        "extendedFileMetadata": true,
        "partitionValues": file.partition_values,
        "size": file.size,
    }})
}

/// A path as Delta's log wants it: a relative URI.
fn encode_path(path: &str) -> String {
    crate::file::manifest::encode_uri(path)
}

/// Equal but for names and nullability inside: Delta calls the item of a list `element`, Arrow `item`.
fn same_type(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) => same_type(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && same_type(a.data_type(), b.data_type()))
        }
        (DataType::Map(a, _), DataType::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (DataType::Struct(a), DataType::Struct(b)) => {
                a.iter().zip(b).all(|(a, b)| same_type(a.data_type(), b.data_type()))
            }
            _ => false,
        },
        _ => a == b,
    }
}

fn has_local_timestamp(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) => true,
        DataType::List(item) | DataType::Map(item, _) => has_local_timestamp(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_local_timestamp(field.data_type())),
        _ => false,
    }
}

fn remove_by_nonce(folder: &Path, nonce: &str, named: &std::collections::HashSet<PathBuf>) -> Result<()> {
    for name in durable::file_names(folder)? {
        let path = folder.join(&name);
        if name.contains(nonce) && name.starts_with("part-") && !named.contains(&path) {
            durable::remove_file(&path)?;
        } else if name.contains('=') && path.is_dir() {
            remove_by_nonce(&path, nonce, named)?;
        }
    }
    Ok(())
}
