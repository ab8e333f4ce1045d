//! Relations of Spark's SQL that DataFusion's planner does not have, put into a query's tree in a form that a relation
//! planner of ours plans.
//!
//! ```text
//!   FROM a LATERAL VIEW explode(l) t AS e      FROM (generate: a, rows of explode(l), t, e)
//!   SELECT k, explode(m) FROM a                SELECT * FROM (expand: SELECT k, rows of explode(m) FROM a)
//!   SELECT s.* FROM a                          SELECT * FROM (expand: SELECT s FROM a)
//!   a UNION ALL b                              SELECT * FROM (union: a, b)
//! ```
//!
//! How many columns there are and of which types is known when the relation below is planned, not before; so the tree
//! only says what is to be done. `UNPIVOT`, which DataFusion refuses, carries it: a relation with expressions.
//!
//! ```text
//!   desugar.rs    before names are resolved: FROM first, pipes, table functions, samples of rows
//!   pivot.rs      while names are resolved: PIVOT and UNPIVOT, which are over all other columns
//!   rewrite.rs    after expressions are lowered: the relations above       planner.rs   their plans
//! ```

mod desugar;
mod pipe;
pub(crate) mod pivot;
pub(crate) mod planner;
mod rewrite;

use datafusion::sql::sqlparser::ast::{Expr, Ident, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins};
use datafusion::sql::sqlparser::parser::Parser;

use super::dialect::SparkDialect;
use crate::error::{EngineError, Result};

pub(crate) use desugar::desugar;
pub(crate) use rewrite::rewrite;

/// The call that stands for `s.*` of a struct.
pub(super) const STAR: &str = "struct star";

/// The functions that make rows.
const GENERATORS: [&str; 8] =
    ["explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer", "stack", "json_tuple"];

/// The generator that an expression calls: its name in lower case.
pub(super) fn generator(expr: &Expr) -> Option<&'static str> {
    let Expr::Function(function) = expr else { return None };
    generator_named(&function.name.to_string())
}

fn generator_named(name: &str) -> Option<&'static str> {
    GENERATORS.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('`', name)
}

/// `SELECT *`.
fn everything() -> Result<Query> {
    let query = Parser::new(&SparkDialect).try_with_sql("SELECT *").and_then(|mut parser| parser.parse_query());
    query.map(|query| *query).map_err(|error| EngineError::internal(format!("SELECT * is no query: {error}")))
}

/// `SELECT items FROM from`.
fn select_from(items: Option<Vec<SelectItem>>, from: Vec<TableWithJoins>) -> Result<Select> {
    let SetExpr::Select(mut select) = *everything()?.body else {
        return Err(EngineError::internal("SELECT * is no SELECT"));
    };
    if let Some(items) = items {
        select.projection = items;
    }
    select.from = from;
    Ok(*select)
}

/// A `SELECT` as a query.
fn query_of(select: Select) -> Result<Query> {
    let mut query = everything()?;
    query.body = Box::new(SetExpr::Select(Box::new(select)));
    Ok(query)
}

fn alone(relation: TableFactor) -> TableWithJoins {
    TableWithJoins { relation, joins: Vec::new() }
}

fn derived(query: Query) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: None, sample: None }
}
