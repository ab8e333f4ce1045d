//! What a query tells about each batch, with the JSON keys of Spark's `StreamingQueryProgress`.
//!
//! One [`StreamingQueryProgress`] is made for each batch and handed to the [`ProgressListener`]s; the terminal view,
//! `query show` and the metrics all read it, so that they can never disagree. Keys of our own (in `highwater`) stand
//! beside Spark's, never in their place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sink::BatchId;

/// One batch, as Spark's clients know it. Times in milliseconds, timestamps ISO-8601 in UTC.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamingQueryProgress {
    /// The query's identity over restarts.
    pub id: String,
    /// This run's identity.
    pub run_id: String,
    /// The query's name.
    pub name: String,
    /// When the trigger fired.
    pub timestamp: String,
    /// The batch this is about; the last one when idle.
    pub batch_id: BatchId,
    /// How long the batch took.
    pub batch_duration: u64,
    /// Rows read from all sources.
    pub num_input_rows: u64,
    /// Rows a second since the last trigger.
    pub input_rows_per_second: f64,
    /// Rows a second while the batch ran.
    pub processed_rows_per_second: f64,
    /// Where the time went.
    pub duration_ms: DurationMs,
    /// Event time seen, if there is a watermark.
    #[serde(skip_serializing_if = "EventTimeStats::is_empty")]
    pub event_time: EventTimeStats,
    /// One entry a stateful operator, in plan order.
    pub state_operators: Vec<StateOperatorProgress>,
    /// One entry a source.
    pub sources: Vec<SourceProgress>,
    /// One entry a static side of a join that was read (ours).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub static_tables: Vec<StaticTableProgress>,
    /// The sink.
    pub sink: SinkProgress,
    /// What is kept to restart from, for a query with state (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointProgress>,
    /// How far the rebuild of the query's state is, if the batch was part of one (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildProgress>,
}

/// How far a rebuild of a query's state is; how fast it is say the rows a second of its batches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RebuildProgress {
    /// Its first batch.
    pub first_batch_id: BatchId,
    /// Rows read so far, by earlier runs too.
    pub num_input_rows: u64,
    /// How much of the input is read, from 0 to 1, where the sources can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_share: Option<f64>,
}

impl RebuildProgress {
    /// Whether the state is whole with this batch.
    pub fn is_whole(&self) -> bool {
        self.done_share.is_some_and(|share| share >= 1.0)
    }
}

/// The state a query has in its checkpoint after a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointProgress {
    /// Where it is.
    pub location: String,
    /// Bytes of all its state files, also those kept to go back to.
    pub size_bytes: u64,
    /// Bytes of the changelogs a restart would apply after the newest snapshot.
    pub changelog_size_bytes: u64,
    /// The batch of the newest snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_batch_id: Option<BatchId>,
    /// Bytes of the newest snapshot.
    pub snapshot_size_bytes: u64,
    /// How long ago it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_age_ms: Option<u64>,
    /// Milliseconds the last snapshot of this run took to be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_upload_ms: Option<u64>,
    /// Bytes it wrote: of files that no earlier snapshot had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_upload_size_bytes: Option<u64>,
}

/// Milliseconds spent in each phase of a batch.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DurationMs {
    /// The whole trigger.
    pub trigger_execution: u64,
    /// Planning end offsets.
    pub latest_offset: u64,
    /// Writing the offset log.
    pub wal_commit: u64,
    /// Reading, computing, staging in the sink.
    pub add_batch: u64,
    /// State changelog and snapshot (ours; Spark counts it in addBatch).
    pub state_commit: u64,
    /// Making the sink's rows visible (ours; Spark counts it in addBatch).
    pub sink_commit: u64,
    /// Writing the commit log.
    pub commit_offsets: u64,
}

/// Event time of the batch's rows and the watermark it ran with; ISO-8601.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventTimeStats {
    /// Smallest event time read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Largest event time read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// The watermark the batch ran with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
}

impl EventTimeStats {
    fn is_empty(&self) -> bool {
        self.min.is_none() && self.max.is_none() && self.watermark.is_none()
    }
}

/// A stateful operator's part of a batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateOperatorProgress {
    /// Spark's name for the operator, e.g. `stateStoreSave`.
    pub operator_name: String,
    /// State rows after the batch.
    pub num_rows_total: u64,
    /// State rows the batch changed.
    pub num_rows_updated: u64,
    /// State rows the batch removed.
    pub num_rows_removed: u64,
    /// Rows that came too late and were left out.
    pub num_rows_dropped_by_watermark: u64,
    /// Memory of the state, in bytes.
    pub memory_used_bytes: u64,
    /// Milliseconds to write the changelog and, when due, the snapshot.
    pub commit_time_ms: u64,
    /// Shards the state is divided into.
    pub num_shuffle_partitions: u64,
    /// Keys of groups that the batch looked for on the disk, because memory has no room for all (ours).
    pub num_lookups: u64,
}

/// A source's part of a batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceProgress {
    /// The source's name.
    pub description: String,
    /// First position read.
    pub start_offset: serde_json::Value,
    /// First position not read.
    pub end_offset: serde_json::Value,
    /// Newest position there was; where the source cannot count what it has, the end of the batch.
    pub latest_offset: serde_json::Value,
    /// Rows read.
    pub num_input_rows: u64,
    /// Rows a second since the last trigger.
    pub input_rows_per_second: f64,
    /// Rows a second while the batch ran.
    pub processed_rows_per_second: f64,
    /// Bytes read, as stored in the source (ours).
    pub num_input_bytes: u64,
    /// Records that did not parse (ours).
    pub num_malformed_records: u64,
    /// Records behind the newest position after the batch, where the source can count (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_behind: Option<u64>,
}

/// The static side of a join, as a batch saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StaticTableProgress {
    /// The tables it reads.
    pub tables: Vec<String>,
    /// Rows of it in memory.
    pub num_rows: u64,
    /// Memory of these rows and of what finds them.
    pub size_bytes: u64,
    /// How long before the batch the oldest rows were read that it saw.
    pub age_ms: u64,
    /// Its keys, where they are looked up and it is not read whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<LookupProgress>,
    /// Why it could not be read anew, while older rows are used for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Keys of a static side that is looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LookupProgress {
    /// Keys of which it is known what rows they have, if any.
    pub num_keys: u64,
    /// Keys that were asked for in the batch.
    pub num_keys_asked: u64,
}

/// The sink's part of a batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkProgress {
    /// The sink's name.
    pub description: String,
    /// Rows made visible.
    pub num_output_rows: u64,
}

/// A query that is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Which start in a row without a batch this is, from 1 on.
    pub attempt: u32,
    /// The rest before it.
    pub delay: Duration,
    /// Why it failed.
    pub error: String,
}

/// Hears of every batch. Called on the query's thread: be quick.
///
/// ```text
///   on_started ─> (on_trigger ─> on_progress | on_idle) ... ─> on_terminated
/// ```
pub trait ProgressListener: Send + Sync {
    /// The query is open: its lasting identity, and that of this run.
    fn on_started(&self, id: &str, run_id: &str) {
        let _ = (id, run_id);
    }

    /// It looks for new rows from here on.
    fn on_trigger(&self) {}

    /// It has looked since the last trigger, and found none.
    fn on_idle(&self) {}

    /// A batch is committed. What is told of it comes later, if nothing fails meanwhile.
    fn on_commit(&self) {}

    /// What a batch did that is committed.
    fn on_progress(&self, progress: &StreamingQueryProgress);

    /// The query has failed and is started again.
    fn on_restart(&self, name: &str, restart: &Restart) {
        let _ = (name, restart);
    }

    /// The query has stopped, with its error if it failed.
    fn on_terminated(&self, name: &str, error: Option<&str>) {
        let _ = (name, error);
    }
}
