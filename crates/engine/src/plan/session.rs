//! The session queries are planned in: Spark's expressions with the functions of streams added.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::{DFSchema, TableReference};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ObjectName, Query, visit_expressions_mut, visit_relations_mut};
use datafusion::sql::sqlparser::dialect::Dialect;

use super::dialect::SparkDialect;
pub use super::functions::SessionSettings;
use super::functions::{self, lower_expr};
use super::session_window::SessionWindowFunction;
use super::window::{WindowFunction, WindowTimeFunction, name_windows};
use crate::error::Result;

/// A session with Spark's functions, those of streams and those that connectors bring, and no tables.
pub(crate) fn context(settings: &SessionSettings, more: &[Arc<ScalarUDF>]) -> Result<SessionContext> {
    let context = SessionContext::new_with_state(functions::session_state(settings)?);
    context.register_udf(WindowFunction::udf());
    context.register_udf(WindowTimeFunction::udf());
    context.register_udf(SessionWindowFunction::udf());
    more.iter().for_each(|function| context.register_udf(function.as_ref().clone()));
    Ok(context)
}

/// The dialect queries are written in.
pub(crate) fn dialect() -> Arc<dyn Dialect> {
    Arc::new(SparkDialect)
}

/// Gives a parsed query Spark's meaning: windows and columns found by name, literals and casts as Spark has them.
pub(crate) fn prepare(query: &mut Query, context: &SessionContext) -> Result<()> {
    let _: ControlFlow<()> = visit_relations_mut(query, |name: &mut ObjectName| {
        // One project has one catalog and one database: what stands before the table's name is the same for all.
        name.0.drain(..name.0.len() - 1);
        ControlFlow::Continue(())
    });
    name_windows(query);
    functions::prepare(query, &|name: &ObjectName| {
        let table = name.0.last()?.as_ident()?.value.clone();
        let provider = futures::executor::block_on(context.table_provider(TableReference::bare(table))).ok()?;
        Some(provider.schema().fields().iter().map(|field| field.name().clone()).collect())
    })?;
    Ok(())
}

/// The same for one expression over known columns.
pub(crate) fn prepare_expr(mut expr: SqlExpr, columns: &DFSchema) -> Result<SqlExpr> {
    let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |inner| {
        if let SqlExpr::Identifier(ident) = inner
            && let Some(field) = columns.fields().iter().find(|field| field.name().eq_ignore_ascii_case(&ident.value))
        {
            ident.value.clone_from(field.name());
        }
        ControlFlow::Continue(())
    });
    lower_expr(&mut expr)?;
    Ok(expr)
}
