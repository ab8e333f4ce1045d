//! A checkpoint looked at from outside: what is in it, whether it is whole, and what can go.
//!
//! ```text
//!   summarize   who, which batches, how large        lists folders, reads the two newest log entries
//!   inspect     every batch, state file and run      reads the logs and the lists of snapshots
//!   verify      every file, checksums and all        reads everything; what the next start would do
//!   plan_prune, prune                                what retention allows
//! ```
//!
//! All but `prune` only read and take no lock, so the checkpoint of a running query can be looked at; a file that
//! retention takes away meanwhile is not called missing. What is replayed is decided in `recovery.rs`, which is asked
//! here without its sink.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::log::LogEntry;
use super::run::{RunRecord, runs};
use super::verify::Verifier;
pub use super::verify::{Finding, Verification};
use super::{
    COMMITS, CheckpointDir, CommitLogEntry, DEAD_LETTERS, DeadLetters, Metadata, OFFSETS, OffsetLogEntry,
    PART_OF_REBUILD, RUN, Retention, STATE, STATE_FILES, text,
};
use crate::error::{EngineError, Result};
use crate::sink::BatchId;
use crate::source::Offset;
use crate::state::{StateVersions, inspect as state};

/// What there is to say about a checkpoint in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointSummary {
    /// Where it is.
    pub location: String,
    /// The query's name.
    pub query: String,
    /// The query's lasting id.
    pub query_id: String,
    /// What it writes to.
    pub target: String,
    /// The oldest batch the offset log has.
    pub first_batch: Option<BatchId>,
    /// The newest batch that was begun.
    pub last_batch: Option<BatchId>,
    /// The newest batch that is done.
    pub last_commit: Option<BatchId>,
    /// The watermark of the next batch, in milliseconds since 1970.
    pub watermark_ms: Option<i64>,
    /// When the newest batch began, in milliseconds since 1970.
    pub last_batch_ms: Option<i64>,
    /// Sizes by kind of file.
    pub sizes: CheckpointSizes,
}

/// How large a checkpoint is. The sources' own folders are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CheckpointSizes {
    /// Files.
    pub files: u64,
    /// Metadata, logs and run files.
    pub logs_bytes: u64,
    /// Changelogs of state.
    pub changelogs_bytes: u64,
    /// Snapshots of state, with the files they share.
    pub snapshots_bytes: u64,
    /// Dead letters.
    pub dead_letters_bytes: u64,
}

impl CheckpointSizes {
    /// All of them together.
    pub fn total_bytes(&self) -> u64 {
        self.logs_bytes + self.changelogs_bytes + self.snapshots_bytes + self.dead_letters_bytes
    }
}

/// Everything that can be told about a checkpoint without reading its state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The checkpoint in one line.
    #[serde(flatten)]
    pub summary: CheckpointSummary,
    /// Its stateful operators: id and what their state rows depend on.
    pub operators: BTreeMap<String, String>,
    /// Its batches, oldest first.
    pub batches: Vec<BatchRecord>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<SnapshotRecord>,
    /// Its runs, oldest first.
    pub runs: Vec<NumberedRun>,
    /// What the watermark tracker goes on from.
    pub watermarks: serde_json::Map<String, serde_json::Value>,
}

/// A batch that a log or a state file knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BatchRecord {
    /// The batch.
    pub batch: BatchId,
    /// Whether it is done.
    pub is_committed: bool,
    /// When it began, in milliseconds since 1970.
    pub started_ms: Option<i64>,
    /// The watermark it ran with, in milliseconds since 1970.
    pub watermark_ms: Option<i64>,
    /// The size of its state changelog.
    pub changelog_bytes: Option<u64>,
    /// Whether there is a snapshot of the state after it.
    pub has_snapshot: bool,
    /// Whether the state after it can be put together from the files there are; none for a query without state.
    pub is_restorable: Option<bool>,
    /// Records of it that became dead letters.
    pub dead_letters: u64,
}

/// What one batch read, and under which settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchDetail {
    /// The batch.
    pub batch: BatchId,
    /// Whether it is done.
    pub is_committed: bool,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// The watermark it ran with, in milliseconds since 1970.
    pub watermark_ms: i64,
    /// The watermark it left to the next batch.
    pub next_watermark_ms: Option<i64>,
    /// What must stay as it is for the life of the checkpoint.
    pub conf: BTreeMap<String, String>,
    /// The range of each source.
    pub sources: Vec<SourceRange>,
    /// Changes of each operator's state; none where there is no changelog.
    pub state_changes: Option<BTreeMap<String, u64>>,
}

impl BatchDetail {
    /// The first batch of the rebuild of the state that this one is a part of, if other parts come after it: it ends where
    /// the query was long before, and what follows has been written already.
    pub fn unfinished_rebuild(&self) -> Result<Option<BatchId>> {
        #[derive(Deserialize)]
        struct Rebuild {
            first: BatchId,
            until: Vec<Offset>,
        }
        let Some(text) = self.conf.get(PART_OF_REBUILD) else { return Ok(None) };
        let rebuild: Rebuild = serde_json::from_str(text).map_err(|error| {
            EngineError::data(format!("batch {} is part of a rebuild that cannot be read", self.batch)).caused_by(error)
        })?;
        let ends = self.sources.iter().filter_map(|source| source.end.as_ref());
        Ok((!ends.eq(&rebuild.until)).then_some(rebuild.first))
    }
}

/// What a batch read of one source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceRange {
    /// The source's place in the query.
    pub source: usize,
    /// The source's name, if the checkpoint has it.
    pub name: Option<String>,
    /// First position read.
    pub start: Option<Offset>,
    /// First position not read.
    pub end: Option<Offset>,
}

/// A snapshot of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotRecord {
    /// The batch after which it was made.
    pub batch: BatchId,
    /// Files it names.
    pub files: u64,
    /// Their bytes, also of those that other snapshots name too.
    pub size_bytes: u64,
}

/// A run and its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NumberedRun {
    /// Higher than that of every earlier run.
    pub number: u64,
    /// What its file says.
    #[serde(flatten)]
    pub record: RunRecord,
}

/// What retention removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunePlan {
    /// The oldest batch that is kept; none if nothing is committed.
    pub keep_from: Option<BatchId>,
    /// Entries of the offset log.
    pub offsets: Vec<BatchId>,
    /// Entries of the commit log.
    pub commits: Vec<BatchId>,
    /// Changelogs.
    pub changelogs: Vec<BatchId>,
    /// Snapshots.
    pub snapshots: Vec<BatchId>,
    /// Files that no snapshot names any more.
    pub content_files: Vec<String>,
    /// Changelogs older than `keep_from` that stay, because no snapshot is so old that the state could be restored
    /// without them.
    pub needed_changelogs: Vec<BatchId>,
    /// Bytes of all that goes.
    pub size_bytes: u64,
}

impl PrunePlan {
    /// How many files go.
    pub fn files(&self) -> usize {
        self.offsets.len()
            + self.commits.len()
            + self.changelogs.len()
            + self.snapshots.len()
            + self.content_files.len()
    }
}

/// The checkpoint in one line.
pub fn summarize(checkpoint: &CheckpointDir) -> Result<CheckpointSummary> {
    let metadata = metadata_of(checkpoint)?;
    let (offsets, commits) = (numbers(checkpoint, OFFSETS)?, numbers(checkpoint, COMMITS)?);
    let (last_batch, last_commit) = (offsets.last().copied(), commits.last().copied());
    let began = |entry: Option<OffsetLogEntry>| entry.map(|entry| entry.batch_timestamp_ms);
    let watermark = |entry: Option<CommitLogEntry>| entry.map(|entry| entry.next_batch_watermark_ms);
    Ok(CheckpointSummary {
        location: checkpoint.location().to_owned(),
        query: metadata.query_name,
        query_id: metadata.id,
        target: metadata.target,
        first_batch: offsets.first().copied(),
        last_batch,
        last_commit,
        watermark_ms: last_commit.map(|batch| read_entry(checkpoint, batch)).transpose()?.and_then(watermark),
        last_batch_ms: last_batch.map(|batch| read_entry(checkpoint, batch)).transpose()?.and_then(began),
        sizes: sizes(checkpoint)?,
    })
}

/// Everything but the content of the state.
pub fn inspect(checkpoint: &CheckpointDir) -> Result<Inspection> {
    let metadata = metadata_of(checkpoint)?;
    let versions = StateVersions::read(checkpoint)?;
    let mut snapshots = Vec::new();
    for batch in versions.snapshots.keys() {
        let content = state::read_snapshot(checkpoint, *batch)?;
        snapshots.push(SnapshotRecord { batch: *batch, files: content.files, size_bytes: content.size_bytes });
    }
    let last_commit = numbers(checkpoint, COMMITS)?.last().copied();
    let commit: Option<CommitLogEntry> = last_commit.map(|batch| read_entry(checkpoint, batch)).transpose()?.flatten();
    let runs = runs(checkpoint.store())?;
    Ok(Inspection {
        summary: summarize(checkpoint)?,
        batches: batches(checkpoint, &versions, !metadata.operators.is_empty())?,
        operators: metadata.operators,
        snapshots,
        runs: runs.into_iter().filter_map(|(number, run)| Some(NumberedRun { number, record: run.ok()? })).collect(),
        watermarks: commit.map(|commit| commit.watermarks).unwrap_or_default(),
    })
}

/// What one batch read and changed.
pub fn inspect_batch(checkpoint: &CheckpointDir, batch: BatchId) -> Result<BatchDetail> {
    metadata_of(checkpoint)?;
    let Some(entry) = read_entry::<OffsetLogEntry>(checkpoint, batch)? else {
        let kept = numbers(checkpoint, OFFSETS)?;
        let error = EngineError::config(format!("checkpoint '{}' has no batch {batch}", checkpoint.location()));
        return Err(match (kept.first(), kept.last()) {
            (Some(first), Some(last)) => error.help(format!("it has the batches {first} to {last}")),
            _ => error.help("it has no batches yet"),
        });
    };
    let commit: Option<CommitLogEntry> = read_entry(checkpoint, batch)?;
    let has_changelog = StateVersions::read(checkpoint)?.changelogs.contains_key(&batch);
    let changes = has_changelog.then(|| state::read_changelog(checkpoint, batch)).transpose()?;
    let range = |source: usize| SourceRange {
        source,
        name: entry.conf.get(&format!("source {source}")).cloned(),
        start: entry.starts.get(source).cloned().flatten(),
        end: entry.ends.get(source).cloned().flatten(),
    };
    Ok(BatchDetail {
        batch,
        is_committed: commit.is_some(),
        started_ms: entry.batch_timestamp_ms,
        watermark_ms: entry.batch_watermark_ms,
        next_watermark_ms: commit.map(|commit| commit.next_batch_watermark_ms),
        sources: (0..entry.ends.len()).map(range).collect(),
        conf: entry.conf,
        state_changes: changes.map(|content| content.changes),
    })
}

/// Reads every file with its checksum, and says what the next start would do.
pub fn verify(checkpoint: &CheckpointDir) -> Result<Verification> {
    Verifier::new(checkpoint).run()
}

/// What goes when this many batches are kept. Changes nothing.
pub fn plan_prune(checkpoint: &CheckpointDir, retention: Retention) -> Result<PrunePlan> {
    metadata_of(checkpoint)?;
    let (offsets, commits) = (numbers(checkpoint, OFFSETS)?, numbers(checkpoint, COMMITS)?);
    let keep_from = commits.last().map(|last| retention.keep_from(*last));
    let mut plan = PrunePlan {
        keep_from,
        offsets: Vec::new(),
        commits: Vec::new(),
        changelogs: Vec::new(),
        snapshots: Vec::new(),
        content_files: Vec::new(),
        needed_changelogs: Vec::new(),
        size_bytes: 0,
    };
    let Some(keep_from) = keep_from else { return Ok(plan) };
    let old = |numbers: Vec<BatchId>| numbers.into_iter().filter(|batch| *batch < keep_from).collect::<Vec<_>>();
    (plan.offsets, plan.commits) = (old(offsets), old(commits));
    for (folder, going) in [(OFFSETS, &plan.offsets), (COMMITS, &plan.commits)] {
        let going: Vec<String> = going.iter().map(ToString::to_string).collect();
        let entries = checkpoint.store().list(folder)?;
        plan.size_bytes +=
            entries.iter().filter(|entry| going.contains(&entry.name)).map(|e| e.size_bytes).sum::<u64>();
    }
    let surplus = state::surplus(checkpoint, keep_from)?;
    plan.size_bytes += surplus.size_bytes;
    plan.changelogs = surplus.changelogs;
    plan.snapshots = surplus.snapshots;
    plan.content_files = surplus.content_files;
    let changelogs = StateVersions::read(checkpoint)?.changelogs;
    let older = changelogs.range(..keep_from).map(|(batch, _)| *batch);
    plan.needed_changelogs = older.filter(|batch| !plan.changelogs.contains(batch)).collect();
    Ok(plan)
}

/// Removes what `plan_prune` finds now, on a checkpoint that is opened for writing. A damaged one is left as it is: an
/// older file may be all that helps.
pub fn prune(checkpoint: &CheckpointDir, retention: Retention) -> Result<PrunePlan> {
    checkpoint.writable()?;
    let verification = verify(checkpoint)?;
    if let Some(finding) = verification.findings.first() {
        return Err(EngineError::data(format!(
            "checkpoint '{}' is damaged, so nothing of it is removed: {}",
            checkpoint.location(),
            finding.found
        ))
        .help(finding.help.clone()));
    }
    let plan = plan_prune(checkpoint, retention)?;
    // From the oldest on, and the offset log first: a crash leaves logs without a gap.
    for (folder, batches) in [(OFFSETS, &plan.offsets), (COMMITS, &plan.commits)] {
        for batch in batches {
            checkpoint.writable()?.delete(&format!("{folder}/{batch}"))?;
        }
    }
    let surplus = state::StateSurplus {
        snapshots: plan.snapshots.clone(),
        changelogs: plan.changelogs.clone(),
        content_files: plan.content_files.clone(),
        size_bytes: 0,
    };
    state::remove(checkpoint, &surplus)?;
    Ok(plan)
}

/// The newest entries of offset and commit log.
pub(crate) fn numbers_of_logs(checkpoint: &CheckpointDir) -> Result<(Option<BatchId>, Option<BatchId>)> {
    Ok((numbers(checkpoint, OFFSETS)?.pop(), numbers(checkpoint, COMMITS)?.pop()))
}

/// The metadata, which a checkpoint must have.
pub(super) fn metadata_of(checkpoint: &CheckpointDir) -> Result<Metadata> {
    Metadata::read(checkpoint)?.ok_or_else(|| {
        let address = checkpoint.store().address("metadata");
        EngineError::config(format!("there is no checkpoint at '{}': {address} does not exist", checkpoint.location()))
            .help("name the checkpoint location of a query, the folder in which its 'metadata' and 'offsets' are")
    })
}

/// The numbers of a log's files, in order; what is no number is left out.
pub(super) fn numbers(checkpoint: &CheckpointDir, folder: &str) -> Result<Vec<BatchId>> {
    let entries = checkpoint.store().list(folder)?;
    let mut numbers: Vec<BatchId> = entries.iter().filter_map(|entry| entry.name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// An entry of a log, without the log being whole.
pub(super) fn read_entry<T: LogEntry>(checkpoint: &CheckpointDir, batch: BatchId) -> Result<Option<T>> {
    let name = format!("{}/{batch}", T::FOLDER);
    let Some(bytes) = checkpoint.store().read(&name)? else { return Ok(None) };
    let address = checkpoint.store().address(&name);
    let lines = text::decode(&address, &bytes)?;
    T::from_lines(batch, &lines).map(Some).map_err(|found| text::damaged(&address, &found))
}

fn batches(checkpoint: &CheckpointDir, versions: &StateVersions, is_stateful: bool) -> Result<Vec<BatchRecord>> {
    let mut records: BTreeMap<BatchId, BatchRecord> = BTreeMap::new();
    let commits = numbers(checkpoint, COMMITS)?;
    let known = numbers(checkpoint, OFFSETS)?;
    for batch in known.iter().chain(&commits).chain(versions.changelogs.keys()).chain(versions.snapshots.keys()) {
        records.entry(*batch).or_insert_with(|| BatchRecord { batch: *batch, ..BatchRecord::default() });
    }
    let letters = DeadLetters::open(checkpoint)?;
    let with_letters = letters.batches()?;
    for record in records.values_mut() {
        let entry: Option<OffsetLogEntry> = read_entry(checkpoint, record.batch)?;
        record.is_committed = commits.binary_search(&record.batch).is_ok();
        record.started_ms = entry.as_ref().map(|entry| entry.batch_timestamp_ms);
        record.watermark_ms = entry.as_ref().map(|entry| entry.batch_watermark_ms);
        record.changelog_bytes = versions.changelogs.get(&record.batch).copied();
        record.has_snapshot = versions.snapshots.contains_key(&record.batch);
        record.is_restorable = is_stateful.then(|| versions.restore_path(record.batch).is_ok());
        if with_letters.contains(&record.batch) {
            record.dead_letters = letters.read(record.batch, |_| ())?;
        }
    }
    Ok(records.into_values().collect())
}

fn sizes(checkpoint: &CheckpointDir) -> Result<CheckpointSizes> {
    let mut sizes = CheckpointSizes::default();
    for folder in ["", OFFSETS, COMMITS, RUN, STATE, STATE_FILES, DEAD_LETTERS] {
        for entry in checkpoint.store().list(folder)? {
            let is_changelog = entry.name.ends_with(".changelog");
            let slot = match folder {
                STATE if is_changelog => &mut sizes.changelogs_bytes,
                STATE | STATE_FILES => &mut sizes.snapshots_bytes,
                DEAD_LETTERS => &mut sizes.dead_letters_bytes,
                _ => &mut sizes.logs_bytes,
            };
            *slot += entry.size_bytes;
            sizes.files += 1;
        }
    }
    Ok(sizes)
}
