//! Which static sides can be asked for the rows of single keys, and the plan that asks.
//!
//! Whoever reads the tables is given a filter `key IN (...)` on top of the static side; what it makes of it (a `WHERE`
//! clause, files and row groups left out) is its own business, as long as no row with these keys is missing.

use arrow::array::{Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{EngineError, Result};

/// The rows of `plan` whose keys are among the values, column by column: maybe more than those with these keys.
pub(super) fn with_keys(plan: &LogicalPlan, keys: &[Expr], values: &[Vec<ScalarValue>]) -> Result<LogicalPlan> {
    let mut filtered = LogicalPlanBuilder::from(plan.clone());
    let mut conditions = Vec::new();
    for (key, values) in keys.iter().zip(values) {
        let data_type = key.get_type(plan.schema())?;
        let values = values.iter().map(|value| Ok(lit(value.cast_to(&data_type)?))).collect::<Result<_>>()?;
        conditions.push(key.clone().in_list(values, false));
    }
    if let Some(condition) = conditions.into_iter().reduce(Expr::and) {
        filtered = filtered.filter(condition)?;
    }
    Ok(filtered.build()?)
}

/// Whether a table of the plan heeds a filter on the keys.
pub(super) fn is_possible(plan: &LogicalPlan, keys: &[Expr], session: &SessionState) -> Result<bool> {
    let mut values = Vec::new();
    for key in keys {
        let Some(some) = some_values(&key.get_type(plan.schema())?) else { return Ok(false) };
        values.push(some);
    }
    let heeded = |plan: &LogicalPlan| -> Result<usize> {
        let mut filters = 0;
        session.optimize(plan)?.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                filters += scan.filters.len();
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(filters)
    };
    Ok(!keys.is_empty() && heeded(&with_keys(plan, keys, &values)?)? > heeded(plan)?)
}

/// A few values of a type that is equal where its text is; none of types with values that are equal and differ.
fn some_values(data_type: &DataType) -> Option<Vec<ScalarValue>> {
    if data_type.is_floating() || data_type.is_nested() || *data_type == DataType::Boolean {
        return None;
    }
    let numbers = Int64Array::from_iter_values(1..=5);
    // Dates are made of smaller numbers only.
    let small = cast(&numbers, &DataType::Int32).ok()?;
    let values = cast(&numbers, data_type).or_else(|_| cast(&small, data_type)).ok()?;
    (0..values.len()).map(|row| ScalarValue::try_from_array(&values, row).ok()).collect()
}

/// What is said where `lookup` is `always` and the table cannot be asked.
pub(super) fn impossible(tables: &str) -> EngineError {
    EngineError::query(format!("the static side of a join, {tables}, cannot be asked for the rows of single keys"))
        .help(
            "join it by columns of a postgres, sqlite, delta or parquet table that are equal to the stream's, and neither floats \
             nor booleans, or take 'lookup' out of the table's options",
        )
}
