//! What can be said in plainer SQL before any name is resolved: a query that begins with `FROM`, pipes, and generators
//! as relations. Refuses what would otherwise be read over.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, Query, Select, SelectFlavor, SelectItem, TableFactor, VisitMut, VisitorMut,
    WildcardAdditionalOptions,
};

use super::{generator_named, pipe, pivot};
use crate::error::{EngineError, Result};
use crate::plan::functions::lower::plain_call;

/// Says a query in plainer SQL.
pub(crate) fn desugar(query: &mut Query) -> Result<()> {
    match VisitMut::visit(query, &mut Desugar) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Desugar;

fn flow(result: Result<()>) -> ControlFlow<EngineError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl VisitorMut for Desugar {
    type Break = EngineError;

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<EngineError> {
        flow(pipe::unpiped(query))
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<EngineError> {
        if select.flavor != SelectFlavor::Standard {
            if select.flavor == SelectFlavor::FromFirstNoSelect {
                select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            }
            select.flavor = SelectFlavor::Standard;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<EngineError> {
        flow(table_factor(factor))
    }
}

fn table_factor(factor: &mut TableFactor) -> Result<()> {
    pivot::sampled(factor)?;
    let (name, args, alias) = match factor {
        TableFactor::Function { name, args, alias, .. } => (name, std::mem::take(args), alias),
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, std::mem::take(&mut args.args), alias),
        _ => return Ok(()),
    };
    let Some(generator) = generator_named(&name.to_string()) else {
        return Err(EngineError::query(format!(
            "[UNRESOLVABLE_TABLE_VALUED_FUNCTION] there is no table function {name}"
        ))
        .help("there are explode, posexplode, inline and stack, each also as ..._outer"));
    };
    let mut call = plain_call(generator, []);
    if let FunctionArguments::List(list) = &mut call.args {
        list.args = args;
    }
    *factor = TableFactor::TableFunction { expr: Expr::Function(call), alias: alias.take() };
    Ok(())
}
