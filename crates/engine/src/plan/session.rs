//! The DataFusion session queries are planned in: Spark's dialect, types and functions.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::execution::context::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Query};
use datafusion::sql::sqlparser::dialect::Dialect;

use super::window::{WindowFunction, WindowTimeFunction, name_windows};
use crate::error::Result;

/// What a query's meaning depends on besides its text.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// `spark.sql.session.timeZone`.
    pub time_zone: String,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { time_zone: "UTC".to_owned() }
    }
}

/// A session with our functions and no tables.
pub(crate) fn context(settings: &SessionSettings) -> SessionContext {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config.options_mut().sql_parser.collect_spans = true;
    config.options_mut().execution.time_zone = Some(settings.time_zone.clone());
    let context = SessionContext::new_with_config(config);
    context.register_udf(WindowFunction::udf());
    context.register_udf(WindowTimeFunction::udf());
    context
}

/// The dialect queries are written in.
pub(crate) fn dialect() -> Arc<dyn Dialect> {
    Arc::new(datafusion::sql::sqlparser::dialect::SparkSqlDialect {})
}

/// Gives a query Spark's meaning where the parser leaves DataFusion's.
pub(crate) fn prepare(query: &mut Query, _context: &SessionContext) -> Result<()> {
    name_windows(query);
    Ok(())
}

/// The same for one expression over known columns.
pub(crate) fn prepare_expr(expr: SqlExpr, _columns: &DFSchema) -> SqlExpr {
    expr
}
