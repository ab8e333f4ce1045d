//! Running queries: a pipeline of flows, each making batch after batch.
//!
//! ```text
//!   Program ──Pipeline::open──> planned flows ──start──> a thread each: StreamingQuery (recover, batch, commit)
//! ```

mod batch;
mod changes;
mod comparison;
mod completion;
mod dry_run;
mod execution;
mod graph;
mod opening;
mod outlook;
mod pipeline;
mod progress;
mod real_time;
mod rebuild;
mod retry;
mod session;
mod settings;
mod state;
mod state_reader;
mod storage;
mod tables;
mod task;
mod trigger;
mod ttl;
mod view;
mod watermark;
#[cfg(test)]
mod aggregate_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod real_time_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod tests;

pub use crate::plan::batch::Cancellation;
pub use comparison::QueryChanges;
pub use dry_run::{CheckpointOutlook, FlowOutlook, FolderOutlook, OperatorFate, OperatorOutlook, TableOutlook};
pub use graph::{GraphFlow, GraphTable, GraphTableKind, TableGraph};
pub use pipeline::{FlowDescription, Pipeline, QueryFailure, RunningPipeline};
pub use retry::{RetryAttempts, RetrySettings};
pub use session::{SessionQuery, SessionScope, SessionStatement};
pub use settings::{CheckpointSettings, FlowSettings, Period, PipelineSettings, QuerySettings};
pub use state_reader::{StateReader, StateTableSummary};
pub use storage::{
    QueryState, StoredCheckpoint, StoredQuery, forget_query, request_stop, stored_checkpoints, stored_queries,
};
pub use tables::{select, select_with_state};
pub use trigger::Trigger;
pub use ttl::{StateTtl, TtlSettings};
pub use view::Upkeep;
pub use watermark::{PartitionEffect, PartitionWatermark, WatermarkPolicy, WatermarkReport};
