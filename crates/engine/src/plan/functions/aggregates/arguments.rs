//! What may not stand in the arguments of an aggregate: random numbers and other aggregates.
//!
//! ```text
//!   sum(rand())                  refused: draw below the aggregate, SELECT sum(r) FROM (SELECT rand() AS r ...)
//!   count(*) FILTER (WHERE rand() < 0.5)
//!   sum(count(*))                refused: count in a subquery
//!   sum(count(*)) OVER ()        a function over rows of groups
//! ```
//!
//! What draws is drawn once a row, and what an aggregate is given is asked for again when a state is rebuilt.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Function, Query, Visit, Visitor};

use super::super::naming::spark_column_name;
use super::super::random;
use crate::error::{EngineError, Result};

/// Refuses a call of an aggregate over what it cannot take; arguments are lowered already.
pub(super) fn check(function: &Function, name: &str, args: &[Expr]) -> Result<()> {
    if function.over.is_some() {
        return Ok(());
    }
    let keys = function.within_group.iter().map(|key| &key.expr);
    for arg in args.iter().chain(keys) {
        if let Some(drawn) = find(arg, &|call| random::is_drawn(&name_of(call))) {
            return Err(drawn_below(format!(
                "[AGGREGATE_FUNCTION_WITH_NONDETERMINISTIC_EXPRESSION] {name} is over what is drawn at random, {drawn}"
            )));
        }
        if let Some(inner) = find(arg, &is_over_rows) {
            return Err(EngineError::query(format!(
                "[NESTED_AGGREGATE_FUNCTION] an argument of the aggregate {name} is an aggregate itself, {inner}"
            ))
            .help("compute the inner one in a subquery"));
        }
    }
    function.filter.as_deref().map_or(Ok(()), |filter| check_filter(filter, name))
}

fn check_filter(filter: &Expr, name: &str) -> Result<()> {
    if let Some(drawn) = find(filter, &|call| random::is_drawn(&name_of(call))) {
        return Err(drawn_below(format!(
            "[INVALID_AGGREGATE_FILTER.NON_DETERMINISTIC] the FILTER of {name} is drawn at random, by {drawn}"
        )));
    }
    match find(filter, &is_over_rows) {
        None => Ok(()),
        Some(inner) => Err(EngineError::query(format!(
            "[INVALID_AGGREGATE_FILTER.CONTAINS_AGGREGATE] the FILTER of {name} has an aggregate in it, {inner}"
        ))
        .help("filter groups with HAVING, rows with FILTER")),
    }
}

/// Whether it is an aggregate of the rows of a group.
fn is_over_rows(call: &Function) -> bool {
    call.over.is_none() && super::lower::is_aggregate(&name_of(call))
}

fn drawn_below(message: String) -> EngineError {
    EngineError::query(message)
        .help("draw in a subquery, where each row gets its number: SELECT sum(r) FROM (SELECT rand() AS r FROM t)")
}

fn name_of(call: &Function) -> String {
    call.name.to_string().to_lowercase()
}

/// The first call that is meant, as text; what is in subqueries is theirs.
fn find(expr: &Expr, is_meant: &dyn Fn(&Function) -> bool) -> Option<String> {
    struct Find<'a> {
        is_meant: &'a dyn Fn(&Function) -> bool,
        queries: usize,
    }
    impl Visitor for Find<'_> {
        type Break = String;

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
            self.queries += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
            match expr {
                Expr::Function(call) if self.queries == 0 && (self.is_meant)(call) => {
                    ControlFlow::Break(spark_column_name(expr))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match expr.visit(&mut Find { is_meant, queries: 0 }) {
        ControlFlow::Break(text) => Some(text),
        ControlFlow::Continue(()) => None,
    }
}
