//! Plans of Spark Connect written out as Spark SQL, for the planner that reads everybody's SQL.
//!
//! ```text
//!   Relation ──relation──> Block (FROM, WHERE, SELECT, rest) ──> SELECT ... FROM ... WHERE ...
//!      └ Expression ──expression──> text      └ read: files, Kafka, tables, local rows ─> names of the session
//! ```
//!
//! What our SQL can say works, and what it cannot say it refuses in its own words. What is Python (functions, pandas, RDDs) is
//! refused here by its name. Columns that PySpark means by the DataFrame they come from (`left.id == right.id`) are found by
//! the numbers of its plans.

mod block;
mod expression;
mod literal;
mod read;
mod relation;
#[cfg(test)]
mod tests;

pub(crate) use literal::quoted_text;
pub(crate) use read::{columns_ddl, format_word, options_text};

use super::problem::Result;
use crate::spark_connect::messages::{LocalRelation, Relation};

/// What the writer asks of the session.
pub(crate) trait Names {
    /// The columns of a query.
    fn columns(&self, query: &str) -> Result<Vec<String>>;

    /// Whether a query reads a stream.
    fn is_streaming(&self, query: &str) -> Result<bool>;

    /// Defines a table that only this session knows, by the rest of `CREATE TABLE name`; gives its name.
    fn define(&self, definition: &str) -> Result<String>;

    /// Keeps rows that came with the plan; gives the name of their table.
    fn keep_rows(&self, rows: &LocalRelation) -> Result<String>;
}

/// The query that gives the rows of a relation.
pub(crate) fn query(relation: &Relation, names: &dyn Names) -> Result<String> {
    let writer = relation::Writer::new(names);
    Ok(writer.block(relation)?.text())
}

/// A name as it stands in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
