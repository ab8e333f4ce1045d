//! What cannot run on a stream, and the way out.

use datafusion::logical_expr::LogicalPlan;

use crate::error::EngineError;

pub(super) fn unsupported(what: &str, help: &str) -> EngineError {
    let error = EngineError::query(format!("{what} is not supported on streams"));
    if help.is_empty() { error } else { error.help(help) }
}

/// Why a node cannot run on a stream.
pub(super) fn refuse(plan: &LogicalPlan) -> EngineError {
    match plan {
        LogicalPlan::Sort(_) => {
            unsupported("ORDER BY", "use it on a GROUP BY in output mode complete, or order when you read the result")
        }
        LogicalPlan::Limit(_) => unsupported("OFFSET", "leave it out, or use it on a GROUP BY in output mode complete"),
        LogicalPlan::Distinct(_) => unsupported("DISTINCT", "group by the columns in output mode update"),
        other => unsupported(&other.display().to_string(), ""),
    }
}
