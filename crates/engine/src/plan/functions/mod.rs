//! Spark's expressions on DataFusion: a session whose functions, operators, literals and casts give what Spark 4.3
//! gives with its default settings (ANSI mode on).
//!
//! ```text
//!  SQL text ─> tokens ─> syntax tree ───────────────> syntax tree ─────────────> logical plan
//!             (dialect)   │ identifiers::resolve       │ lower: literals, casts,  │ planner: operators by
//!                         │ names without case,        │ CASE, intervals become   │ the types of their sides
//!                         │ Spark's column names       │ calls of our functions   │ (SparkPlanner)
//! ```
//!
//! [`prepare`] does the two passes over the tree; [`session_state`] gives the session that plans the result. A plan
//! must go through the session's optimizer before it runs: constants are folded and `case`, `coalesce`, `IN` become
//! DataFusion's own expressions there.
//!
//! Aggregates are in `aggregates`. DataFusion's scalar functions are not there, so that a query that runs here is one that
//! Spark knows. It refuses: legacy (non-ANSI) arithmetic, intervals as columns with Spark's interval types, and collations.
//! `from_json` and its like need the format decoders: connectors bring them.

pub(crate) mod absent;
pub(crate) mod aggregates;
mod arithmetic;
mod array_order;
mod arrays;
pub(crate) mod batch_time;
mod bytes;
mod calls;
pub(crate) mod cast;
mod conditional;
mod conversion;
mod datetime;
mod encoding;
mod encryption;
pub(crate) mod failure;
mod formats;
pub(crate) mod generators;
mod grouping;
mod interval;
mod json;
mod lambda;
mod literal;
pub(crate) mod lower;
mod math;
pub(crate) mod naming;
mod nested;
mod number_pattern;
mod planner;
mod raising;
pub(crate) mod random;
mod regex;
pub(crate) mod session_facts;
mod sketches;
mod strings;
pub(crate) mod sum;
pub(crate) mod table;
pub(crate) mod types;
pub(crate) mod udf;
mod vectors;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::Query;

pub(crate) use arithmetic::average;
pub(crate) use calls::{plain_number, positional};
pub(crate) use cast::Mode;
pub(crate) use encoding::hash_bytes;
pub(crate) use interval::SparkInterval;
pub use lower::lower_expr;
pub use naming::spark_column_name;
#[cfg(test)]
pub(crate) use types::simple_string;

use super::distinct_on::FirstRows;
use super::identifiers::{self, TableColumns};
use super::json_fields::JsonFields;
use super::session_window::MergeSessions;
use super::{physical_rules, relations};
use crate::error::{EngineError, Result};

/// What of Spark's session settings expressions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// `spark.sql.session.timeZone`: a region or an offset.
    pub time_zone: String,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { time_zone: "UTC".to_owned() }
    }
}

/// A session that plans and runs prepared queries as Spark would. Fails if the time zone is not known.
pub fn session_state(settings: &SessionSettings) -> Result<SessionState> {
    let zone = udf::session_zone(Some(&settings.time_zone)).map_err(|_| {
        EngineError::config(format!("spark.sql.session.timeZone is '{}', which is no time zone", settings.time_zone))
            .help("use a region such as 'Europe/Berlin', an offset such as '+02:00', or 'UTC'")
    })?;
    let mut builder = SessionStateBuilder::new()
        .with_config(config(settings))
        .with_default_features()
        .with_physical_optimizer_rules(physical_rules::rules())
        .with_optimizer_rule(Arc::new(JsonFields))
        .with_optimizer_rule(Arc::new(random::GiveGenerators))
        .with_analyzer_rule(Arc::new(MergeSessions))
        .with_analyzer_rule(Arc::new(FirstRows))
        .with_relation_planners(vec![Arc::new(relations::planner::SparkRelations)])
        .with_type_planner(Arc::new(planner::SparkTypes));
    let functions = table::functions();
    let planner = planner::SparkPlanner::new(functions, zone);
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(planner));
    builder.higher_order_functions().get_or_insert_default().extend(lambda::functions());
    *builder.aggregate_functions() = Some(aggregates::functions());
    *builder.scalar_functions() = Some(functions.iter().cloned().chain(random::functions()).collect());
    // One DISTINCT would become two aggregates, one over the other: two states for a stream, and slower than a set.
    let rules =
        Optimizer::new().rules.into_iter().filter(|rule| rule.name() != "single_distinct_aggregation_to_group_by");
    *builder.optimizer() = Some(Optimizer::with_rules(rules.collect()));
    Ok(builder.build())
}

fn config(settings: &SessionSettings) -> SessionConfig {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.execution.time_zone = Some(settings.time_zone.clone());
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.default_null_ordering = "nulls_min".to_owned();
    // A subquery's order is also that of what is selected from it: SQL does not say so, but Spark does it.
    options.sql_parser.enable_subquery_sort_elimination = false;
    options.execution.parquet.schema_force_view_types = false;
    // As in Spark rows whose key is null do not reach a join that they cannot pass.
    options.optimizer.filter_null_join_keys = true;
    config
}

/// Resolves the names in a parsed query and lowers its expressions; returns the names of its columns as Spark gives
/// them, or nothing if a `*` over a table without known columns hides them.
pub fn prepare(query: &mut Query, tables: &TableColumns<'_>) -> Result<Option<Vec<String>>> {
    let columns = identifiers::resolve(query, tables)?;
    lower::lower(query)?;
    relations::rewrite(query)?;
    Ok(columns)
}

/// Every value of a column as Spark's cast to STRING writes it in a time zone, for formats that have texts only.
pub fn text_of(column: &arrow::array::ArrayRef, zone: &str) -> datafusion::common::Result<arrow::array::StringArray> {
    cast::text::strings(column, udf::session_zone(Some(zone))?)
}

/// Every value of a column as Spark's cast to STRING shows it in a time zone, for tests of what queries give.
#[cfg(test)]
pub(crate) fn shown(column: &arrow::array::ArrayRef, zone: &str) -> datafusion::common::Result<Vec<Option<String>>> {
    let texts = cast::text::strings(column, udf::session_zone(Some(zone))?)?;
    Ok(texts.iter().map(|text| text.map(str::to_owned)).collect())
}
