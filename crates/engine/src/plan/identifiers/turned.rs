//! Relations that are turned (`PIVOT`, `UNPIVOT`) into queries, which needs the names of the columns below; and the names that
//! an alias gives.

use datafusion::sql::sqlparser::ast::{TableAlias, TableFactor};

use super::{Columns, Resolver, Scope};
use crate::error::{EngineError, Result};
use crate::plan::relations::pivot;

impl Resolver<'_> {
    /// Puts the query that a `PIVOT` or `UNPIVOT` stands for in its place.
    pub(super) fn turn(&mut self, factor: &mut TableFactor, scope: &Scope<'_>) -> Result<()> {
        let Some(below) = pivot::below(factor) else { return Ok(()) };
        let mut inner = Scope { outer: scope.outer, ..Scope::default() };
        // On a copy: the query that takes its place is resolved as a whole.
        self.table_factor(&mut below.clone(), &mut inner)?;
        let columns = inner.all();
        if !columns.known {
            return Err(EngineError::query(
                "the columns of a relation are not known from the query, and PIVOT or UNPIVOT is over them",
            )
            .help("name them in a query below: FROM (SELECT a, b FROM t) PIVOT (...)"));
        }
        if let Some(query) = pivot::as_query(factor, &columns.names)? {
            *factor = query;
        }
        Ok(())
    }
}

pub(super) fn with_alias(
    name: Option<String>,
    columns: Columns,
    alias: Option<&TableAlias>,
) -> (Option<String>, Columns) {
    match alias {
        Some(alias) => (Some(alias.name.value.clone()), renamed(columns, alias)),
        None => (name, columns),
    }
}

pub(super) fn renamed(columns: Columns, alias: &TableAlias) -> Columns {
    if alias.columns.is_empty() {
        return columns;
    }
    Columns::known(alias.columns.iter().map(|column| column.name.value.clone()).collect())
}
