//! Runs a plan without streams to its end: static sides of joins, `SELECT` outside of streams.

use std::sync::OnceLock;

use arrow::array::RecordBatch;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use tokio::runtime::Runtime;

use crate::error::{EngineError, Result};

/// All rows of a plan.
pub(crate) fn collect(session: &SessionState, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
    runtime()?.block_on(async {
        let plan = session.create_physical_plan(&plan).await?;
        Ok(datafusion::physical_plan::collect(plan, session.task_ctx()).await?)
    })
}

/// The engine's own thread for what DataFusion does asynchronously; streams do not use it.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("highwater-batch")
        .enable_all()
        .build()
        .map_err(|error| EngineError::unavailable("a thread for batch queries cannot be started").caused_by(error))?;
    Ok(RUNTIME.get_or_init(|| runtime))
}
