//! Where rows come from: a [`Source`] knows offsets, a [`PartitionReader`] turns one range of them into batches.
//!
//! ```text
//!   StreamTable ──open──> Source ──plan_batch──> OffsetRange ──read──> PartitionReader* ──next_batch──> RecordBatch*
//! ```
//!
//! The engine decides which range a batch id stands for and writes it down before anything of it can be seen; a source
//! must give the same rows for the same range for as long as the checkpoint may ask for it. A source never decides what
//! is replayed, and never keeps a position of its own across restarts.
//!
//! With the real-time trigger a source that can be followed gives rows as they come, by a [`TailReader`] a partition;
//! the range of a batch is what was read when it was closed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointDir;
use crate::error::{EngineError, Result};

/// A position in a source. The engine stores, compares and prints it; only the source that made it reads it.
///
/// For Kafka it is Spark's form: `{"topic":{"0":123,"1":456}}`, each number the next offset to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub serde_json::Value);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The half-open range of positions one batch reads from one source: from `start` on, up to but not with `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetRange {
    /// The first position read.
    pub start: Offset,
    /// The first position not read.
    pub end: Offset,
}

/// What the planner asks of a table when it opens it as a source.
#[derive(Debug, Clone)]
pub struct SourceRequest {
    /// Indices into the table's schema of the columns the query needs, in the order the batches must have them.
    pub projection: Vec<usize>,
    /// For each of these columns the members that the query reads of it, if it is a struct and not all of them: the
    /// source may leave the others null. `None` is all.
    pub members: Vec<Option<BTreeSet<String>>>,
    /// What belongs to this source of this query in its checkpoint, for the few sources that must keep a log of their
    /// own (files seen).
    pub metadata: SourceMetadata,
    /// A query of this pipeline fills the table: while it is not there it is a stream without rows, and no mistake.
    pub may_be_missing: bool,
}

/// A few small files of a source in the checkpoint of its query, wherever that lies. Each appears whole or not at all,
/// and a run that is no longer the newest writes none.
#[derive(Debug, Clone)]
pub struct SourceMetadata {
    checkpoint: CheckpointDir,
    folder: String,
}

impl SourceMetadata {
    pub(crate) fn new(checkpoint: CheckpointDir, folder: String) -> Self {
        Self { checkpoint, folder }
    }

    /// The full address of a file, for messages.
    pub fn address(&self, name: &str) -> String {
        self.checkpoint.store().address(&self.name(name))
    }

    /// The names of the files, in no order.
    pub fn list(&self) -> Result<Vec<String>> {
        let entries = self.checkpoint.store().list(&self.folder)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    /// The whole file, or none if there is none.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.checkpoint.store().read(&self.name(name))
    }

    /// Makes the file unless there is one with other content, then false. Durable when it returns.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        self.checkpoint.writable()?.create(&self.name(name), bytes)
    }

    /// Removes the file if it is there.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.checkpoint.writable()?.delete(&self.name(name))
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

/// A stream of rows with positions.
///
/// Calls block; a source that is asynchronous inside brings its own runtime.
pub trait Source: Send {
    /// Name for progress and logs, e.g. `KafkaV2[Subscribe[payments]]`.
    fn description(&self) -> String;

    /// Where a query that has no checkpoint yet begins.
    fn initial_offset(&mut self) -> Result<Offset>;

    /// Tells where the query is, before anything is planned: for sources that make their rows from there on.
    fn begin_at(&mut self, position: &Offset) -> Result<()> {
        let _ = position;
        Ok(())
    }

    /// The newest position there is now, without any limit.
    fn latest_offset(&mut self) -> Result<Offset>;

    /// The end of the next batch that starts at `start`: as far as the source's own limits (`maxOffsetsPerTrigger`,
    /// `maxFilesPerTrigger`, ...) allow, and never past `until`. Equal to `start` when there is nothing to read yet.
    ///
    /// Anything the range needs to be read again after a crash (a file list) must be durable when this returns.
    fn plan_batch(&mut self, start: &Offset, until: Option<&Offset>) -> Result<Offset>;

    /// The end of the next part of a range that was read before and is read again, from `start` on and not past `until`:
    /// as far as the source's limits allow, and about `records` records if it has none and can tell. Plans no batch of
    /// new rows. Fails if it knows that rows of the range are no longer there.
    fn plan_again(&mut self, start: &Offset, until: &Offset, records: u64) -> Result<Offset> {
        let _ = records;
        self.plan_batch(start, Some(until))
    }

    /// How much there is in a range, in a measure of the source's own (records, files), where it can tell without
    /// reading.
    fn amount(&mut self, range: &OffsetRange) -> Result<Option<u64>> {
        let _ = range;
        Ok(None)
    }

    /// Readers that together give each row of `range` exactly once; they are run on several threads.
    fn read(&mut self, range: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>>;

    /// Readers that give rows as they come, one for each partition that is not in `known`: from `start` on, or from the
    /// partition's first row if it is new since. None if the source gives ranges only. Asked again now and then.
    fn follow(&mut self, start: &Offset, known: &BTreeSet<String>) -> Result<Option<Vec<Box<dyn TailReader>>>> {
        let _ = (start, known);
        Ok(None)
    }

    /// The position behind the rows that tails gave, from `start` and where each partition was read up to.
    fn followed(&mut self, start: &Offset, ends: &BTreeMap<String, i64>) -> Result<Offset> {
        let _ = (start, ends);
        Err(EngineError::internal("a source that cannot be followed was asked how far it was"))
    }

    /// `end` is in the commit log: what lies before it will not be asked for again.
    fn commit(&mut self, end: &Offset) -> Result<()> {
        let _ = end;
        Ok(())
    }

    /// How many records a batch may have of what is followed; none for any number. Of a reader that gives more at once
    /// than a batch has left, a batch takes nothing if it has records already.
    fn follow_limit(&self) -> Option<u64> {
        None
    }

    /// What there is to read from `from` on, where the source can tell. Asked once for each batch: it plans nothing.
    fn unread(&mut self, from: &Offset) -> Result<Unread> {
        let _ = from;
        Ok(Unread::default())
    }
}

/// What a source has and was not read yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unread {
    /// The partitions (as [`PartitionReader::partition`] names them) that have rows: they hold the watermark back while a
    /// backlog is read.
    pub partitions: Vec<String>,
    /// How much it is, for the progress, where the source can count it.
    pub backlog: Option<Backlog>,
}

/// How much a source has and was not read yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Backlog {
    /// The newest position.
    pub latest: Offset,
    /// Records up to there.
    pub records: u64,
}

/// Reads one part of one range; used on one thread, dropped when it is exhausted or the batch is given up.
pub trait PartitionReader: Send {
    /// The partition the rows belong to (`payments-3`, a file group), stable over batches: watermarks are kept by it.
    fn partition(&self) -> &str;

    /// The next rows in the projected schema, or none at the end. Batches of a few thousand rows are best.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>>;

    /// The part of the input that the rows of the last batch stand in: they come in one order whenever it is read, and no
    /// other reader gives rows of it. Random numbers are drawn by it and the place in it.
    fn stretch(&self) -> &str {
        self.partition()
    }

    /// What was read so far.
    fn report(&self) -> ReadReport;

    /// Takes the records that could not be read since the last call; asked after each batch. A reader gives a batch, without
    /// rows if need be, before it has so many of them that they do not fit in memory.
    fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        Vec::new()
    }
}

/// Reads one partition for as long as the query runs, on a thread of its own.
pub trait TailReader: Send {
    /// The partition the rows belong to, as [`PartitionReader::partition`] names it.
    fn partition(&self) -> &str;

    /// What came next; none if nothing did for a moment (well under a second), so that the thread can be ended.
    fn next(&mut self) -> Result<Option<TailRows>>;
}

/// Rows a partition gave.
#[derive(Debug, Clone)]
pub struct TailRows {
    /// In the projected schema; without rows where only the position moved (ends of transactions, dead letters).
    pub rows: RecordBatch,
    /// The position behind them.
    pub end: i64,
    /// Counts of these rows.
    pub report: ReadReport,
    /// Records that could not be read.
    pub dead_letters: Vec<DeadLetter>,
}

/// Counts of one reader: `records == rows + dropped`; `malformed` of the records did not parse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Records read from the source.
    pub records: u64,
    /// Bytes of those records as stored.
    pub size_bytes: u64,
    /// Records that did not parse, whether they gave a row of nulls or were dropped.
    pub malformed: u64,
    /// Records that gave no row.
    pub dropped: u64,
}

impl ReadReport {
    /// Adds another reader's counts.
    pub fn add(&mut self, other: &ReadReport) {
        self.records += other.records;
        self.size_bytes += other.size_bytes;
        self.malformed += other.malformed;
        self.dropped += other.dropped;
    }
}

/// A record that could not be read, with where it stood, why, and its bytes as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Topic or file.
    pub origin: String,
    /// Partition of the topic, if there is one.
    pub partition: Option<i32>,
    /// Offset in the partition, or line in the file.
    pub offset: i64,
    /// What the decoder said.
    pub reason: String,
    /// The record's bytes.
    pub value: Vec<u8>,
}
