//! Running queries: a pipeline of flows, each making batch after batch.
//!
//! ```text
//!   Program ──Pipeline::open──> planned flows ──start──> a thread each: StreamingQuery (recover, batch, commit)
//! ```

mod batch;
mod execution;
mod pipeline;
mod progress;
mod state;
mod storage;
mod tables;
mod trigger;
mod watermark;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod tests;

pub use execution::QuerySettings;
pub use pipeline::{
    CheckpointSettings, FlowDescription, FlowSettings, Pipeline, PipelineSettings, QueryFailure, RunningPipeline,
};
pub use storage::{QueryState, StoredQuery, request_stop, stored_queries};
pub use tables::select;
pub use trigger::Trigger;
pub use watermark::WatermarkPolicy;
