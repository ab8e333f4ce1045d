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
mod columns;
mod expression;
mod layer;
mod literal;
mod read;
mod relation;
mod step;
#[cfg(test)]
mod tests;

pub(crate) use literal::quoted_text;
pub(crate) use read::{columns_ddl, format_word, options_text};

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use super::problem::{Problem, Result};
use crate::spark_connect::messages::{LocalRelation, Relation};

/// What the writer asks of the session.
pub(crate) trait Names {
    /// The columns of a query.
    fn columns(&self, query: &str) -> Result<Vec<Field>>;

    /// Whether a query reads a stream.
    fn is_streaming(&self, query: &str) -> Result<bool>;

    /// The columns of a query that are event time.
    fn event_times(&self, query: &str) -> Result<Vec<String>>;

    /// The definitions that views have now, by the names of the views: under these names they stay what they are, whatever
    /// gets the name of the view.
    fn kept_views(&self) -> BTreeMap<String, String>;

    /// Defines a table that only this session knows, by the rest of `CREATE TABLE name`; gives its name.
    fn define(&self, definition: &str) -> Result<String>;

    /// Keeps rows that came with the plan; gives the name of their table.
    fn keep_rows(&self, rows: &LocalRelation) -> Result<String>;
}

/// The query of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Its text.
    pub(crate) text: String,
    /// Columns that PySpark knows by other names than they have there: several may have one name.
    renamed: BTreeMap<String, String>,
}

impl Query {
    /// The columns as PySpark knows them.
    pub(crate) fn columns(&self, columns: &Schema) -> SchemaRef {
        let field = |field: &FieldRef| match self.renamed.get(field.name()) {
            Some(name) => Arc::new(field.as_ref().clone().with_name(name)),
            None => Arc::clone(field),
        };
        Arc::new(Schema::new(columns.fields().iter().map(field).collect::<Vec<_>>()))
    }
}

/// The query that gives the rows of a relation, whatever its columns are called.
pub(crate) fn shown_query(relation: &Relation, names: &dyn Names) -> Result<Query> {
    finished(relation::Writer::new(names), relation)
}

fn finished(writer: relation::Writer<'_>, relation: &Relation) -> Result<Query> {
    let block = writer.block(relation)?;
    // What is a join and nothing else may have columns of one name; it is planned as it stands.
    if block.select.is_none() && block.scopes.iter().all(|scope| scope.known.is_none()) {
        return Ok(Query { text: writer.steps.with(block.text()), renamed: BTreeMap::new() });
    }
    let (text, known) = writer.distinct_names(&block)?;
    let other = known.into_iter().flatten().filter(|known| known.inner != known.name);
    Ok(Query { text: writer.steps.with(text), renamed: other.map(|known| (known.inner, known.name)).collect() })
}

/// The query of a view: it reads the views that there are now, also when others have got their names.
pub(crate) fn view_query(relation: &Relation, names: &dyn Names) -> Result<String> {
    told_apart(finished(relation::Writer::of_view(names), relation)?)
}

/// The query that gives the rows of a relation to something that tells columns apart by their names.
pub(crate) fn query(relation: &Relation, names: &dyn Names) -> Result<String> {
    told_apart(shown_query(relation, names)?)
}

fn told_apart(query: Query) -> Result<String> {
    match query.renamed.values().next() {
        None => Ok(query.text),
        Some(twin) => Err(Problem::analysis(format!(
            "[COLUMN_ALREADY_EXISTS] The column `{twin}` already exists. Choose another name or rename the existing column."
        ))),
    }
}

/// A name as it stands in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
