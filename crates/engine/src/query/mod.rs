//! Running queries: a pipeline of flows, each making batch after batch.
//!
//! ```text
//!   Program ──Pipeline::open──> planned flows ──start──> a thread each: StreamingQuery (recover, batch, commit)
//! ```

mod batch;
mod changes;
mod completion;
mod dry_run;
mod execution;
mod graph;
mod opening;
mod outlook;
mod pipeline;
mod progress;
mod real_time;
mod state;
mod state_reader;
mod storage;
mod tables;
mod trigger;
mod view;
mod watermark;
#[cfg(test)]
mod aggregate_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod tests;

pub use dry_run::{CheckpointOutlook, FlowOutlook, OperatorFate, OperatorOutlook, TableOutlook};
pub use execution::QuerySettings;
pub use graph::{GraphFlow, GraphTable, GraphTableKind, TableGraph};
pub use opening::QueryChanges;
pub use pipeline::{
    CheckpointSettings, FlowDescription, FlowSettings, Pipeline, PipelineSettings, QueryFailure, RunningPipeline,
};
pub use state_reader::{StateReader, StateTableSummary};
pub use storage::{QueryState, StoredCheckpoint, StoredQuery, request_stop, stored_checkpoints, stored_queries};
pub use tables::{select, select_with_state};
pub use trigger::Trigger;
pub use view::Upkeep;
pub use watermark::{PartitionEffect, PartitionWatermark, WatermarkPolicy, WatermarkReport};
