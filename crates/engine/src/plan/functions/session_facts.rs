//! What a query asks of its surroundings: catalog, database, user, version.
//!
//! There is one catalog and one database here, by Spark's names for those it begins with. User and version may be
//! others when a batch is run again, after a restart or an upgrade; then it would give other rows, so streaming queries
//! may not ask for them ([`check_stream`]).

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::udf::{self, Invocation, Spec, function};
use crate::error::EngineError;

pub(super) const TABLE: &[Spec] = &[
    function("current_catalog", (0, 0), udf::string, |c| Ok(constant(c, "spark_catalog"))),
    function("current_database", (0, 0), udf::string, |c| Ok(constant(c, "default"))).alias(&["current_schema"]),
    function("current_user", (0, 0), udf::string, current_user)
        .alias(&["user", "session_user"])
        .volatility(Volatility::Stable),
    function("version", (0, 0), udf::string, version).volatility(Volatility::Stable),
];

/// Those of which a batch that is run again could get another answer.
const OF_THE_PROCESS: [&str; 4] = ["current_user", "user", "session_user", "version"];

fn constant(call: &Invocation<'_>, text: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![text; call.rows]))
}

/// The account the process runs under, as its environment has it: SQL has no users of its own here.
fn current_user(call: &Invocation<'_>) -> Result<ArrayRef> {
    let name = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    Ok(constant(call, name.as_deref().unwrap_or("highwater")))
}

/// Spark's version whose SQL this is, and ours where Spark has its revision.
fn version(call: &Invocation<'_>) -> Result<ArrayRef> {
    Ok(constant(call, concat!("4.3.0 highwater-", env!("CARGO_PKG_VERSION"))))
}

/// Refuses what could give other rows when a batch of a stream is run again.
pub(crate) fn check_stream(plan: &LogicalPlan) -> crate::error::Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|inner| match inner {
                Expr::ScalarFunction(call) if OF_THE_PROCESS.contains(&call.name()) => {
                    found = Some(call.name().to_owned());
                    Ok(TreeNodeRecursion::Stop)
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    match found {
        None => Ok(()),
        Some(name) => Err(EngineError::query(format!(
            "{name}() is not possible in a streaming query: a batch that is run again, after a restart or an upgrade, could get \
             another answer and give other rows"
        ))
        .help("write the value as a literal, or as a variable of the project")),
    }
}
