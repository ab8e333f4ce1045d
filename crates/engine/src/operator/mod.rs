//! What happens to rows between source and sink.
//!
//! ```text
//!   stateless steps (project, filter, watermark, static join) ──> aggregate (keyed rows, groups, state)
//! ```

pub(crate) mod aggregate;
pub(crate) mod expand;
pub(crate) mod join;
pub(crate) mod normal;
pub(crate) mod stateless;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::physical_expr::PhysicalExpr;

use crate::error::Result;

/// The columns that expressions give for a batch.
pub(crate) fn evaluate(exprs: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|expr| Ok(expr.evaluate(batch)?.into_array(batch.num_rows())?)).collect()
}
