//! Joins `USING` and `NATURAL` as joins `ON`, with the columns that Spark shows of them.
//!
//! ```text
//!   l JOIN r USING (k)         ON l.k = r.k       k is  l.k
//!   l RIGHT JOIN r USING (k)                      k is  r.k
//!   l FULL JOIN r USING (k)                       k is  coalesce(l.k, r.k)
//!   SELECT *                   k, then what else l has, then what else r has
//! ```
//!
//! That is done where the columns of both sides are known; else the planner's own `USING` stays.

use std::ops::Range;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, SelectItem, TableAlias, TableFactor,
    TableWithJoins,
};

use super::{Relation, Scope, constraint, quoted, same};
use crate::error::Result;
use crate::plan::functions::lower::call;

/// A column that a join shows once for both sides.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) name: String,
    /// What it is; nothing where the planner knows.
    pub(super) value: Option<Expr>,
}

/// The columns of `*`: name and value of each.
#[derive(Debug, Default, Clone)]
pub(super) struct Visible(Vec<(String, Expr)>);

impl Scope<'_> {
    /// The value of a column that a join merged, unless an alias hides it.
    pub(super) fn merged(&self, name: &str) -> Option<Expr> {
        if self.aliases_first && self.aliases.iter().any(|alias| same(alias, name)) {
            return None;
        }
        self.merged.iter().rev().find(|merged| same(&merged.name, name)).and_then(|merged| merged.value.clone())
    }

    /// Shows the columns of a relation behind the others.
    pub(super) fn show(&mut self, relation: &Relation) {
        let (Some(visible), Some(name), true) = (&mut self.visible, &relation.name, relation.columns.known) else {
            self.visible = None;
            return;
        };
        visible.0.extend(columns(name, &relation.columns.names));
    }

    /// Shows the relations from that place on.
    pub(super) fn show_from(&mut self, first: usize) {
        for at in first..self.relations.len() {
            let relation = self.relations[at].clone();
            self.show(&relation);
        }
    }

    /// Whether the relations from that place on are known; they are not shown.
    pub(super) fn hide(&mut self, first: usize) {
        if self.relations[first..].iter().any(|relation| !relation.columns.known) {
            self.visible = None;
        }
    }
}

fn columns<'a>(relation: &'a str, names: &'a [String]) -> impl Iterator<Item = (String, Expr)> + 'a {
    names.iter().map(|name| (name.clone(), Expr::CompoundIdentifier(vec![quoted(relation), quoted(name)])))
}

pub(super) fn is_semi(operator: &JoinOperator) -> bool {
    matches!(
        operator,
        JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::Anti(_) | JoinOperator::LeftAnti(_)
    )
}

/// Gives subqueries without a name one, where a join merges columns and must tell the sides apart.
pub(super) fn name_sides(item: &mut TableWithJoins) {
    let merges = item.joins.iter_mut().any(|join| {
        matches!(constraint(&mut join.join_operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
    });
    if !merges {
        return;
    }
    let sides = std::iter::once(&mut item.relation).chain(item.joins.iter_mut().map(|join| &mut join.relation));
    for (at, side) in sides.enumerate() {
        if let TableFactor::Derived { alias: alias @ None, .. } = side {
            let name = quoted(&format!("(side {at})"));
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
    }
}

/// Makes a join `USING` or `NATURAL` one `ON`, if what its sides have is known; `left` are the relations before it.
pub(super) fn merge(join: &mut Join, scope: &mut Scope<'_>, left: Range<usize>) -> Result<bool> {
    let right = left.end..scope.relations.len();
    let known = |range: Range<usize>| scope.relations[range].iter().all(|r| r.columns.known && r.name.is_some());
    if scope.visible.is_none() || !known(left.clone()) || !known(right.clone()) {
        return Ok(false);
    }
    let names = match constraint(&mut join.join_operator) {
        Some(JoinConstraint::Using(names)) => {
            let last = |name: &datafusion::sql::sqlparser::ast::ObjectName| {
                name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone())
            };
            names.iter().filter_map(last).collect()
        }
        Some(JoinConstraint::Natural) => common_names(scope, &left, &right),
        _ => return Ok(false),
    };
    let mut keys: Vec<(String, Expr, Expr)> = Vec::new();
    for name in names {
        match (side(scope, &left, &name), side(scope, &right, &name)) {
            (Some((spelled, a)), Some((_, b))) => keys.push((spelled, a, b)),
            // The planner says what is missing.
            _ => return Ok(false),
        }
    }
    let on = keys.iter().map(|(_, a, b)| equal(a, b)).reduce(and);
    let value = |a: &Expr, b: &Expr| match &join.join_operator {
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => b.clone(),
        JoinOperator::FullOuter(_) => call("coalesce", [a.clone(), b.clone()]),
        _ => a.clone(),
    };
    let merged: Vec<(String, Expr)> = keys.iter().map(|(name, a, b)| (name.clone(), value(a, b))).collect();
    show_merged(scope, &merged, &left, &right, is_semi(&join.join_operator));
    if let Some(constraint) = constraint(&mut join.join_operator) {
        *constraint = on.map_or(JoinConstraint::None, JoinConstraint::On);
    }
    if is_semi(&join.join_operator) {
        scope.relations.truncate(right.start);
    }
    scope.merged.retain(|old| !merged.iter().any(|(name, _)| same(&old.name, name)));
    scope.merged.extend(merged.into_iter().map(|(name, value)| Merged { name, value: Some(value) }));
    Ok(true)
}

/// The names that both sides have, in the order of the left one.
fn common_names(scope: &Scope<'_>, left: &Range<usize>, right: &Range<usize>) -> Vec<String> {
    let has = |name: &String| scope.relations[right.clone()].iter().any(|r| r.columns.spelling(name).is_some());
    let mut names: Vec<String> = Vec::new();
    for name in scope.relations[left.clone()].iter().flat_map(|relation| &relation.columns.names) {
        if has(name) && !names.iter().any(|known| same(known, name)) {
            names.push(name.clone());
        }
    }
    names
}

/// The column of a name on one side of a join, with its spelling.
fn side(scope: &Scope<'_>, relations: &Range<usize>, name: &str) -> Option<(String, Expr)> {
    let mut found = scope.relations[relations.clone()].iter().filter_map(|relation| {
        let spelled = relation.columns.spelling(name)?.to_owned();
        let parts: Vec<Ident> = vec![quoted(relation.name.as_deref()?), quoted(&spelled)];
        Some((spelled, Expr::CompoundIdentifier(parts)))
    });
    let (spelled, column) = found.next()?;
    let of_left = relations.start == 0 || relations.len() > 1;
    let merged = of_left.then(|| scope.merged.iter().rev().find(|merged| same(&merged.name, name))).flatten();
    Some((spelled, merged.and_then(|merged| merged.value.clone()).unwrap_or(column)))
}

fn equal(a: &Expr, b: &Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(a.clone()), op: BinaryOperator::Eq, right: Box::new(b.clone()) }
}

fn and(a: Expr, b: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(a), op: BinaryOperator::And, right: Box::new(b) }
}

/// The merged columns first, then the others of the left side and of the right one.
fn show_merged(
    scope: &mut Scope<'_>,
    merged: &[(String, Expr)],
    left: &Range<usize>,
    right: &Range<usize>,
    is_semi: bool,
) {
    let is_merged = |name: &str| merged.iter().any(|(known, _)| same(known, name));
    let of_relation = |expr: &Expr, range: &Range<usize>| match expr {
        Expr::CompoundIdentifier(parts) => {
            let names = scope.relations[range.clone()].iter().filter_map(|relation| relation.name.as_deref());
            parts.first().is_some_and(|first| names.into_iter().any(|name| name == first.value))
        }
        _ => true,
    };
    let Some(visible) = &scope.visible else { return };
    let earlier = visible.0.iter().position(|(_, expr)| of_relation(expr, left)).unwrap_or(visible.0.len());
    let (before, own) = visible.0.split_at(earlier);
    let mut shown = before.to_vec();
    shown.extend_from_slice(merged);
    shown.extend(own.iter().filter(|(name, _)| !is_merged(name)).cloned());
    if !is_semi {
        for relation in &scope.relations[right.clone()] {
            let Some(name) = &relation.name else { continue };
            shown.extend(columns(name, &relation.columns.names).filter(|(name, _)| !is_merged(name)));
        }
    }
    scope.visible = Some(Visible(shown));
}

/// Spells out `*` where a join merged columns.
pub(super) fn spell_out(items: &mut Vec<SelectItem>, scope: &Scope<'_>) {
    let Some(visible) = scope.visible.as_ref().filter(|_| scope.merged.iter().any(|merged| merged.value.is_some()))
    else {
        return;
    };
    let spelled = |item: SelectItem| match item {
        SelectItem::Wildcard(options) => {
            let except = options.opt_except.iter();
            let except: Vec<&Ident> =
                except.flat_map(|e| std::iter::once(&e.first_element).chain(&e.additional_elements)).collect();
            let shown = visible.0.iter().filter(|(name, _)| !except.iter().any(|hidden| same(&hidden.value, name)));
            let item = |(name, value): &(String, Expr)| match value {
                Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|last| last.value == *name) => {
                    SelectItem::UnnamedExpr(value.clone())
                }
                _ => SelectItem::ExprWithAlias { expr: value.clone(), alias: quoted(name) },
            };
            shown.map(item).collect()
        }
        other => vec![other],
    };
    *items = std::mem::take(items).into_iter().flat_map(spelled).collect();
}
