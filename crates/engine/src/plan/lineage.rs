//! Where the columns of a relation come from: which of them have a mark that was set somewhere below.
//!
//! A mark stays on a column that is selected, renamed, grouped by or joined. What an expression makes of a marked
//! column is for the mark to say.

use datafusion::logical_expr::{Expr, LogicalPlan};

/// A property of columns.
pub(super) trait Mark {
    /// The marks that a node itself sets on its columns.
    fn of_node(&self, _: &LogicalPlan) -> Option<Vec<bool>> {
        None
    }

    /// Whether an expression that is neither a column nor a name for something has the mark; `is_marked` tells of the
    /// expressions in it.
    fn of_expr(&self, expr: &Expr, is_marked: &dyn Fn(&Expr) -> bool) -> bool;
}

/// For each column of the plan's output whether it has the mark.
pub(super) fn marked_columns(plan: &LogicalPlan, mark: &dyn Mark) -> Vec<bool> {
    if let Some(columns) = mark.of_node(plan) {
        return columns;
    }
    match plan {
        LogicalPlan::Projection(projection) => through(&projection.expr, &projection.input, mark),
        LogicalPlan::Aggregate(aggregate) => {
            let mut columns = through(&aggregate.group_expr, &aggregate.input, mark);
            columns.resize(aggregate.schema.fields().len(), false);
            columns
        }
        LogicalPlan::Join(join) => {
            let mut columns = marked_columns(&join.left, mark);
            columns.extend(marked_columns(&join.right, mark));
            // A semi join gives the columns of one side.
            columns.truncate(join.schema.fields().len());
            columns
        }
        LogicalPlan::TableScan(scan) => vec![false; scan.projected_schema.fields().len()],
        other => {
            let mut columns = other.inputs().first().map(|input| marked_columns(input, mark)).unwrap_or_default();
            columns.resize(other.schema().fields().len(), false);
            columns
        }
    }
}

fn through(exprs: &[Expr], input: &LogicalPlan, mark: &dyn Mark) -> Vec<bool> {
    let columns = marked_columns(input, mark);
    exprs.iter().map(|expr| is_marked(expr, input, &columns, mark)).collect()
}

/// Whether an expression over the columns of `input` has the mark; `columns` are those of its columns that have it.
pub(super) fn is_marked(expr: &Expr, input: &LogicalPlan, columns: &[bool], mark: &dyn Mark) -> bool {
    match expr {
        Expr::Alias(alias) => is_marked(&alias.expr, input, columns, mark),
        Expr::Column(column) => {
            input.schema().maybe_index_of_column(column).is_some_and(|at| columns.get(at).copied().unwrap_or(false))
        }
        expr => mark.of_expr(expr, &|inner| is_marked(inner, input, columns, mark)),
    }
}
