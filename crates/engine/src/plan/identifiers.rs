//! Names in queries: found without regard to case, kept in the case they were given.
//!
//! Spark finds `userid` when the column is `userId`, and calls an expression without alias by its text:
//! `SELECT USERID, count(*)` has the columns `USERID` and `count(1)`. DataFusion compares names exactly. So before a
//! query is planned, each reference is rewritten to the spelling of what it refers to, and each select item without
//! an alias gets Spark's name as one:
//!
//! ```text
//!   SELECT USERID, amount + 1      FROM Clicks c  WHERE C.Url IS NOT NULL      Clicks(userId, amount, url)
//!   SELECT userId AS USERID, amount + 1 AS `(amount + 1)`  FROM Clicks c  WHERE c.url IS NOT NULL
//! ```
//!
//! The work is done on the syntax tree with the column names of the tables, scope by scope. What is not found is left
//! as written, so that the planner's own error names it. Fields inside structs are not resolved here: their access
//! is case-insensitive when planned.

mod turned;
mod using;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName, OneOrManyWithParens, OrderByKind, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, Values, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::functions::lower::{call, text_literal};
use super::functions::naming;
use super::relations::{STAR, generator};
use crate::error::{EngineError, Result};
use turned::{renamed, with_alias};
use using::{Merged, Visible};

/// Gives the columns of a table by its name as the query writes it, or nothing if they are not known.
pub type TableColumns<'a> = dyn Fn(&ObjectName) -> Option<Vec<String>> + 'a;

/// Rewrites the names in a query; returns the names of its columns, or nothing if a `*` hides them.
pub fn resolve(query: &mut Query, tables: &TableColumns<'_>) -> Result<Option<Vec<String>>> {
    let columns = Resolver { tables, tables_here: Vec::new() }.query(query, None)?;
    Ok(columns.known.then_some(columns.names))
}

/// Column names; `known` is false when there may be more.
#[derive(Debug, Clone)]
struct Columns {
    names: Vec<String>,
    known: bool,
}

impl Columns {
    fn known(names: Vec<String>) -> Self {
        Self { names, known: true }
    }

    fn unknown() -> Self {
        Self { names: Vec::new(), known: false }
    }

    /// The spelling of `name` here: its own if it is there, else the one that differs in case only.
    fn spelling(&self, name: &str) -> Option<&str> {
        let exact = self.names.iter().find(|known| *known == name);
        exact.or_else(|| self.names.iter().find(|known| same(known, name))).map(String::as_str)
    }

    /// The same for a reference, which must not leave open which of several columns it means.
    fn meant(&self, name: &str) -> Result<Option<&str>> {
        let spelling = self.spelling(name);
        if let Some(spelling) = spelling
            && self.names.iter().filter(|known| *known == spelling).count() > 1
        {
            return Err(EngineError::query(format!(
                "the name `{name}` can mean any of several columns that a subquery calls `{spelling}`"
            ))
            .help(format!("give each of them its own name there: SELECT a.{spelling} AS a_{spelling}, ...")));
        }
        Ok(spelling)
    }
}

/// One item of `FROM`.
#[derive(Debug, Clone)]
struct Relation {
    name: Option<String>,
    columns: Columns,
}

/// What an expression can refer to.
#[derive(Debug, Default)]
struct Scope<'a> {
    relations: Vec<Relation>,
    /// Columns that joins `USING` show once.
    merged: Vec<Merged>,
    /// The columns of `*`, in order; kept where a join `USING` makes the order its own.
    visible: Option<Visible>,
    /// Aliases of the select list, where they can be used.
    aliases: Vec<String>,
    /// Whether an alias hides a column, as in `ORDER BY`.
    aliases_first: bool,
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn relation(&self, name: &str) -> Option<&Relation> {
        let named = |relation: &&Relation| relation.name.as_deref().is_some_and(|known| same(known, name));
        self.relations.iter().find(named).or_else(|| self.outer.and_then(|outer| outer.relation(name)))
    }

    fn column(&self, name: &str) -> Result<Option<String>> {
        if self.aliases_first
            && let Some(alias) = self.aliases.iter().find(|alias| same(alias, name))
        {
            return Ok(Some(alias.clone()));
        }
        let found = self.relations.iter().filter_map(|relation| relation.columns.meant(name).transpose());
        let mut found: Vec<&str> = found.collect::<Result<_>>()?;
        found.dedup();
        if found.is_empty() {
            found.extend(self.aliases.iter().filter(|alias| same(alias, name)).map(String::as_str).take(1));
        }
        match (found.as_slice(), self.outer) {
            ([], Some(outer)) => outer.column(name),
            ([], None) => Ok(None),
            ([one], _) => Ok(Some((*one).to_owned())),
            (many, _) if many.contains(&name) => Ok(Some(name.to_owned())),
            (many, _) => Err(EngineError::query(format!(
                "the name `{name}` can mean any of the columns {}, which differ in case only",
                many.join(", ")
            ))),
        }
    }

    /// How many leading parts of a name are the table's, not the column's.
    fn qualifier_parts(&self, parts: &[Ident]) -> usize {
        let is_column = parts.first().is_some_and(|first| matches!(self.column(&first.value), Ok(Some(_))));
        let is_relation = parts.first().is_some_and(|first| self.relation(&first.value).is_some());
        usize::from(parts.len() > 1 && (is_relation || !is_column))
    }

    /// Whether `name.*` is of a struct and not of a relation.
    fn is_struct(&self, name: &ObjectName) -> bool {
        let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
        let is_column = matches!(self.column(&first.value), Ok(Some(_)));
        let is_qualified = parts.len() > 1 && self.relation(&first.value).is_some();
        is_qualified || (is_column && self.relation(&last.value).is_none())
    }

    /// All columns, as `*` gives them.
    fn all(&self) -> Columns {
        let mut all = Columns::known(Vec::new());
        for relation in &self.relations {
            all.known &= relation.columns.known;
            let again =
                |name: &&String| self.merged.iter().any(|m| same(&m.name, name)) && all.spelling(name).is_some();
            let new: Vec<String> = relation.columns.names.iter().filter(|name| !again(name)).cloned().collect();
            all.names.extend(new);
        }
        all
    }
}

fn same(a: &str, b: &str) -> bool {
    a == b || a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase()
}

struct Resolver<'a> {
    tables: &'a TableColumns<'a>,
    /// `WITH` queries in sight, the innermost last.
    tables_here: Vec<(String, Columns)>,
}

impl Resolver<'_> {
    fn query(&mut self, query: &mut Query, outer: Option<&Scope<'_>>) -> Result<Columns> {
        let before = self.tables_here.len();
        if let Some(with) = &mut query.with {
            for table in &mut with.cte_tables {
                let columns = self.query(&mut table.query, outer)?;
                let columns = renamed(columns, &table.alias);
                self.tables_here.push((table.alias.name.value.clone(), columns));
            }
        }
        let (columns, mut scope) = self.set_expr(&mut query.body, outer)?;
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::Expressions(items) = &mut order_by.kind
        {
            scope.aliases.clone_from(&columns.names);
            scope.aliases_first = true;
            for item in items {
                self.expr(&mut item.expr, &scope)?;
            }
        }
        self.tables_here.truncate(before);
        Ok(columns)
    }

    fn set_expr<'s>(&mut self, body: &mut SetExpr, outer: Option<&'s Scope<'s>>) -> Result<(Columns, Scope<'s>)> {
        let columns = match body {
            SetExpr::Select(select) => return self.select(select, outer),
            SetExpr::Query(query) => self.query(query, outer)?,
            SetExpr::SetOperation { left, right, .. } => {
                let (columns, _) = self.set_expr(left, outer)?;
                self.set_expr(right, outer)?;
                columns
            }
            SetExpr::Values(values) => self.values(values, outer)?,
            _ => Columns::unknown(),
        };
        Ok((columns, Scope { outer, ..Scope::default() }))
    }

    fn values(&mut self, values: &mut Values, outer: Option<&Scope<'_>>) -> Result<Columns> {
        let scope = Scope { outer, ..Scope::default() };
        for expr in values.rows.iter_mut().flat_map(|row| row.content.iter_mut()) {
            self.expr(expr, &scope)?;
        }
        let width = values.rows.first().map_or(0, |row| row.content.len());
        Ok(Columns::known((1..=width).map(|n| format!("col{n}")).collect()))
    }

    fn select<'s>(&mut self, select: &mut Select, outer: Option<&'s Scope<'s>>) -> Result<(Columns, Scope<'s>)> {
        let mut scope = Scope { outer, ..Scope::default() };
        scope.visible = Some(Visible::default());
        for item in &mut select.from {
            self.table_with_joins(item, &mut scope)?;
        }
        for view in &mut select.lateral_views {
            self.expr(&mut view.lateral_view, &scope)?;
            let names: Vec<String> = view.lateral_col_alias.iter().map(|alias| alias.value.clone()).collect();
            let name =
                view.lateral_view_name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone());
            let columns = if names.is_empty() { Columns::unknown() } else { Columns::known(names) };
            scope.show(&Relation { name: name.clone(), columns: columns.clone() });
            scope.relations.push(Relation { name, columns });
        }
        if let Some(selection) = &mut select.selection {
            self.expr(selection, &scope)?;
        }
        let columns = self.projection(&mut select.projection, &scope)?;
        scope.aliases = columns.names.clone();
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            self.exprs(exprs, &scope)?;
        }
        self.exprs(&mut select.having, &scope)?;
        self.exprs(&mut select.qualify, &scope)?;
        Ok((columns, scope))
    }

    fn table_with_joins(&mut self, item: &mut TableWithJoins, scope: &mut Scope<'_>) -> Result<()> {
        using::name_sides(item);
        let first = scope.relations.len();
        self.table_factor(&mut item.relation, scope)?;
        scope.show_from(first);
        for join in &mut item.joins {
            let before = scope.relations.len();
            self.table_factor(&mut join.relation, scope)?;
            if using::merge(join, scope, first..before)? {
                continue;
            }
            if using::is_semi(&join.join_operator) {
                scope.hide(before);
            } else {
                scope.show_from(before);
            }
            match constraint(&mut join.join_operator) {
                Some(JoinConstraint::On(on)) => self.expr(on, scope)?,
                Some(JoinConstraint::Using(names)) => {
                    for name in names {
                        let parts: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                        let [ident] = parts.as_slice() else { continue };
                        let spelled = scope.column(&ident.value)?.unwrap_or_else(|| ident.value.clone());
                        scope.merged.push(Merged { name: spelled.clone(), value: None });
                        scope.visible = None;
                        *name = ObjectName::from(vec![quoted(&spelled)]);
                    }
                }
                _ => {}
            }
            if using::is_semi(&join.join_operator) {
                scope.relations.truncate(before);
            }
        }
        Ok(())
    }

    fn table_factor(&mut self, factor: &mut TableFactor, scope: &mut Scope<'_>) -> Result<()> {
        self.turn(factor, scope)?;
        let (name, columns) = match factor {
            TableFactor::Table { name, alias, args, .. } => {
                let columns = if args.is_some() { Columns::unknown() } else { self.table(name) };
                let last = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone());
                with_alias(last, columns, alias.as_ref())
            }
            TableFactor::Derived { subquery, alias, lateral, .. } => {
                let columns = self.query(subquery, if *lateral { Some(&*scope) } else { scope.outer })?;
                if matches!(*subquery.body, SetExpr::Values(_)) {
                    name_values(alias, &columns);
                }
                with_alias(None, columns, alias.as_ref())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.table_with_joins(table_with_joins, scope)?;
                if alias.is_none() {
                    return Ok(());
                }
                with_alias(None, Columns::unknown(), alias.as_ref())
            }
            TableFactor::TableFunction { expr, alias } => {
                self.expr(expr, scope)?;
                with_alias(None, Columns::unknown(), alias.as_ref())
            }
            TableFactor::UNNEST { alias, .. } | TableFactor::Function { alias, .. } => {
                with_alias(None, Columns::unknown(), alias.as_ref())
            }
            _ => (None, Columns::unknown()),
        };
        scope.relations.push(Relation { name, columns });
        Ok(())
    }

    /// The columns of a table; the name of a `WITH` query is put in its own spelling.
    fn table(&self, name: &mut ObjectName) -> Columns {
        if let [part] = name.0.as_slice()
            && let Some(ident) = part.as_ident()
            && let Some((known, columns)) = self.tables_here.iter().rev().find(|(known, _)| same(known, &ident.value))
        {
            *name = ObjectName::from(vec![quoted(known)]);
            return columns.clone();
        }
        (self.tables)(name).map_or_else(Columns::unknown, Columns::known)
    }

    fn projection(&mut self, items: &mut Vec<SelectItem>, scope: &Scope<'_>) -> Result<Columns> {
        using::spell_out(items, scope);
        let mut columns = Columns::known(Vec::new());
        let mut earlier: Vec<(String, Expr)> = Vec::new();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) if generator(expr).is_some() => {
                    self.select_expr(expr, scope, &earlier)?;
                    columns.known = false;
                }
                SelectItem::UnnamedExpr(expr) => {
                    let name = naming::column_name(expr, &|parts| scope.qualifier_parts(parts));
                    self.select_expr(expr, scope, &earlier)?;
                    columns.names.push(name.clone());
                    if !is_column(expr, &name) {
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: quoted(&name) };
                    }
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.select_expr(expr, scope, &earlier)?;
                    columns.names.push(alias.value.clone());
                    earlier.push((alias.value.clone(), expr.clone()));
                }
                SelectItem::ExprWithAliases { expr, aliases } => {
                    self.select_expr(expr, scope, &earlier)?;
                    columns.names.extend(aliases.iter().map(|alias| alias.value.clone()));
                }
                SelectItem::Wildcard(options) => extend(&mut columns, excluding(scope.all(), options)),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _)
                    if scope.is_struct(name) =>
                {
                    let parts: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                    let mut column = match parts.as_slice() {
                        [one] => Expr::Identifier(one.clone()),
                        _ => Expr::CompoundIdentifier(parts),
                    };
                    self.select_expr(&mut column, scope, &earlier)?;
                    *item = SelectItem::UnnamedExpr(call(STAR, [column]));
                    columns.known = false;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    let relation = name.0.last().and_then(|p| p.as_ident()).and_then(|i| scope.relation(&i.value));
                    let found = relation.map_or_else(Columns::unknown, |relation| relation.columns.clone());
                    if let Some(spelled) = relation.and_then(|relation| relation.name.as_deref()) {
                        *name = ObjectName::from(vec![quoted(spelled)]);
                    }
                    extend(&mut columns, excluding(found, options));
                }
                SelectItem::QualifiedWildcard(..) => columns.known = false,
            }
        }
        Ok(columns)
    }

    fn select_expr(&mut self, expr: &mut Expr, scope: &Scope<'_>, earlier: &[(String, Expr)]) -> Result<()> {
        let mut visitor = Names { resolver: self, scope, earlier, lambda: Vec::new(), depth: 0 };
        finish(VisitMut::visit(expr, &mut visitor))
    }

    fn expr(&mut self, expr: &mut Expr, scope: &Scope<'_>) -> Result<()> {
        self.select_expr(expr, scope, &[])
    }

    fn exprs<'e>(&mut self, exprs: impl IntoIterator<Item = &'e mut Expr>, scope: &Scope<'_>) -> Result<()> {
        exprs.into_iter().try_for_each(|expr| self.expr(expr, scope))
    }
}

fn finish(flow: ControlFlow<EngineError>) -> Result<()> {
    match flow {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn extend(columns: &mut Columns, more: Columns) {
    columns.known &= more.known;
    columns.names.extend(more.names);
}

/// `* EXCEPT (a, b)`: the names are put in the columns' spelling.
fn excluding(mut columns: Columns, options: &mut WildcardAdditionalOptions) -> Columns {
    if let Some(except) = &mut options.opt_except {
        for name in std::iter::once(&mut except.first_element).chain(&mut except.additional_elements) {
            if let Some(spelled) = columns.spelling(&name.value).map(str::to_owned) {
                columns.names.retain(|column| *column != spelled);
                *name = quoted(&spelled);
            }
        }
    }
    columns
}

/// `VALUES` without names have the columns `col1`, `col2`, ... in Spark.
fn name_values(alias: &mut Option<TableAlias>, columns: &Columns) {
    let alias = alias.get_or_insert_with(|| TableAlias {
        explicit: true,
        name: quoted("values"),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() {
        alias.columns =
            columns.names.iter().map(|name| TableAliasColumnDef { name: quoted(name), data_type: None }).collect();
    }
}

fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c)
        | JoinOperator::CrossJoin(c)
        | JoinOperator::Semi(c)
        | JoinOperator::LeftSemi(c)
        | JoinOperator::RightSemi(c)
        | JoinOperator::Anti(c)
        | JoinOperator::LeftAnti(c)
        | JoinOperator::RightAnti(c) => Some(c),
        _ => None,
    }
}

/// Whether the expression is a column whose output name is `name` already.
fn is_column(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Identifier(ident) => ident.value == name,
        _ => false,
    }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('`', name)
}

/// Rewrites the names of one expression; a query inside it opens a scope of its own.
struct Names<'a, 'r, 't> {
    resolver: &'a mut Resolver<'r>,
    scope: &'a Scope<'t>,
    /// Select items that stand before this one and may be used by their alias.
    earlier: &'a [(String, Expr)],
    lambda: Vec<Vec<String>>,
    depth: usize,
}

impl Names<'_, '_, '_> {
    fn identifier(&self, ident: &Ident) -> Result<Option<Expr>> {
        if let Some(parameter) = self.parameter(&ident.value) {
            return Ok(Some(Expr::Identifier(quoted(parameter))));
        }
        if let Some(merged) = self.scope.merged(&ident.value) {
            return Ok(Some(merged));
        }
        if let Some(column) = self.scope.column(&ident.value)? {
            return Ok(Some(Expr::Identifier(quoted(&column))));
        }
        let earlier = self.earlier.iter().rev().find(|(alias, _)| same(alias, &ident.value));
        Ok(earlier.map(|(_, expr)| Expr::Nested(Box::new(expr.clone()))))
    }

    /// The parameter of a lambda around this place by that name.
    fn parameter(&self, name: &str) -> Option<&String> {
        self.lambda.iter().rev().flatten().find(|known| same(known, name))
    }

    /// `x.a.b` of a lambda's parameter `x`: the planner would look for a table `x`.
    fn fields_of_parameter(&self, parts: &[Ident]) -> Option<Expr> {
        let (first, fields) = parts.split_first()?;
        let root = Expr::Identifier(quoted(self.parameter(&first.value)?));
        let field = |base, field: &Ident| call("get_field", [base, text_literal(field.value.clone())]);
        Some(fields.iter().fold(root, field))
    }

    fn compound(&self, parts: &mut [Ident]) -> Result<()> {
        let (Some(first), Some(second)) = (parts.first(), parts.get(1)) else { return Ok(()) };
        let before_column = parts.len().saturating_sub(2);
        if let Some(relation) = self.scope.relation(&first.value)
            && (relation.columns.spelling(&second.value).is_some() || self.scope.column(&first.value)?.is_none())
        {
            let column = relation.columns.meant(&second.value)?.map(quoted);
            let name = relation.name.as_deref().map(quoted);
            parts[0] = name.unwrap_or_else(|| parts[0].clone());
            parts[1] = column.unwrap_or_else(|| parts[1].clone());
        } else if let Some(column) = self.scope.column(&first.value)? {
            parts[0] = quoted(&column);
        } else if let Some(relation) = self.scope.relation(&parts[before_column].value)
            && let Some(column) = relation.columns.meant(&parts[before_column + 1].value)?
        {
            parts[before_column + 1] = quoted(column);
        }
        Ok(())
    }
}

impl VisitorMut for Names<'_, '_, '_> {
    type Break = EngineError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<EngineError> {
        self.depth += 1;
        if self.depth > 1 {
            return ControlFlow::Continue(());
        }
        match self.resolver.query(query, Some(self.scope)) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<EngineError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<EngineError> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        if let Expr::Lambda(lambda) = expr {
            self.lambda.push(lambda.params.iter().map(|parameter| parameter.name.value.clone()).collect());
            // The planner would write them in lower case.
            let params = match &mut lambda.params {
                OneOrManyWithParens::One(parameter) => std::slice::from_mut(parameter),
                OneOrManyWithParens::Many(parameters) => parameters.as_mut_slice(),
            };
            params.iter_mut().for_each(|parameter| parameter.name = quoted(&parameter.name.value));
        }
        let Expr::CompoundIdentifier(parts) = expr else { return ControlFlow::Continue(()) };
        if let Some(field) = self.fields_of_parameter(parts) {
            *expr = field;
            return ControlFlow::Continue(());
        }
        match self.compound(parts) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<EngineError> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Lambda(_) => {
                self.lambda.pop();
            }
            Expr::Identifier(ident) => match self.identifier(ident) {
                Ok(Some(resolved)) => *expr = resolved,
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;
    use crate::plan::dialect::SparkDialect;

    fn columns(table: &ObjectName) -> Option<Vec<String>> {
        let columns: &[&str] = match table.to_string().to_lowercase().as_str() {
            "clicks" => &["userId", "amount", "url", "payload"],
            "users" => &["id", "Name"],
            _ => return None,
        };
        Some(columns.iter().map(|&name| name.to_owned()).collect())
    }

    fn check(sql: &str, rewritten: &str, names: &[&str]) {
        let mut statements = Parser::parse_sql(&SparkDialect, sql).unwrap();
        let Statement::Query(query) = &mut statements[0] else { panic!("not a query") };
        let found = resolve(query, &columns).unwrap();
        assert_eq!(query.to_string().replace('`', ""), rewritten);
        assert_eq!(found.unwrap(), names);
    }

    #[test]
    fn references_take_the_spelling_of_their_columns() {
        check("SELECT USERID FROM clicks", "SELECT userId AS USERID FROM clicks", &["USERID"]);
        check("SELECT userId FROM clicks", "SELECT userId FROM clicks", &["userId"]);
        check("SELECT C.Url FROM clicks c", "SELECT c.url AS Url FROM clicks c", &["Url"]);
        check(
            "SELECT Payload.City FROM clicks WHERE USERID > 1",
            "SELECT payload.City AS City FROM clicks WHERE userId > 1",
            &["City"],
        );
    }

    #[test]
    fn expressions_are_named_as_in_spark() {
        check(
            "SELECT count(*), sum(Amount) FROM clicks GROUP BY UserId",
            "SELECT count(*) AS count(1), sum(amount) AS sum(Amount) FROM clicks GROUP BY userId",
            &["count(1)", "sum(Amount)"],
        );
    }

    #[test]
    fn queries_inside_have_scopes_of_their_own() {
        check(
            "WITH W AS (SELECT userId AS Who FROM clicks) SELECT WHO FROM w ORDER BY who",
            "WITH W AS (SELECT userId AS Who FROM clicks) SELECT Who AS WHO FROM W ORDER BY WHO",
            &["WHO"],
        );
        check(
            "SELECT * FROM (SELECT USERID AS u, amount FROM clicks) x WHERE X.U = 1",
            "SELECT * FROM (SELECT userId AS u, amount FROM clicks) x WHERE x.u = 1",
            &["u", "amount"],
        );
        check(
            "SELECT 1 AS one FROM users WHERE EXISTS (SELECT 1 FROM clicks WHERE USERID = ID)",
            "SELECT 1 AS one FROM users WHERE EXISTS (SELECT 1 AS 1 FROM clicks WHERE userId = id)",
            &["one"],
        );
    }

    #[test]
    fn a_name_that_means_two_columns_of_a_subquery_is_refused() {
        let check = |sql: &str, expected: Result<(), &str>| {
            let mut statements = Parser::parse_sql(&SparkDialect, sql).unwrap();
            let Statement::Query(query) = &mut statements[0] else { panic!("not a query") };
            let found = resolve(query, &columns).map(drop).map_err(|error| error.to_string());
            let message =
                |name: &str| format!("the name `{name}` can mean any of several columns that a subquery calls `url`");
            assert_eq!(found, expected.map_err(message), "{sql}");
        };
        let twice = "(SELECT a.url, b.url, a.amount FROM clicks a JOIN clicks b ON a.userId = b.userId)";
        check(&format!("SELECT url FROM {twice} t"), Err("url"));
        check(&format!("SELECT amount FROM {twice} t WHERE T.URL IS NULL"), Err("URL"));
        check(&format!("SELECT amount FROM {twice} t"), Ok(()));
        check(&format!("SELECT * FROM {twice} t"), Ok(()));
        check("SELECT amount FROM (SELECT url AS amount, amount AS Amount FROM clicks) t", Ok(()));
    }

    #[test]
    fn an_alias_can_be_used_further_right() {
        check(
            "SELECT amount * 2 AS twice, TWICE + 1 AS more FROM clicks",
            "SELECT amount * 2 AS twice, (amount * 2) + 1 AS more FROM clicks",
            &["twice", "more"],
        );
    }
}
