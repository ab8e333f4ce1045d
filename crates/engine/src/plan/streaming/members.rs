//! Which members of its structs a source must read.
//!
//! ```text
//!   TableScan bid, person           ─ steps ─>   Project bid.price, coalesce(bid.at, person.at)
//!   members    {price, at}, {at}
//! ```
//!
//! A topic of mixed events has a struct for each kind of them, and a query wants a few members of one: the others need
//! not be decoded. The columns keep their types, so that nothing else changes; a source may leave null what is not read.
//! The steps are gone through from their end. A step this does not know is taken to read everything, and so is what
//! comes after the last one; of a struct in a struct it is said only whether it is read at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::super::json_fields::Use;
use crate::operator::stateless::Step;

/// For each of so many columns that the steps begin with, the members that are read of it; `None` is all.
pub(super) fn members_read(columns: usize, steps: &[Step]) -> Vec<Option<BTreeSet<String>>> {
    let uses = steps.iter().rev().fold(Uses(None), |after, step| before(step, after));
    (0..columns)
        .map(|column| match uses.of(column) {
            Use::Whole => None,
            Use::Nothing => Some(BTreeSet::new()),
            Use::Fields(names) => Some(names),
        })
        .collect()
}

/// What is used of the columns somewhere between two steps; `None` if all of all.
struct Uses(Option<Vec<Use>>);

impl Uses {
    fn of(&self, column: usize) -> Use {
        match &self.0 {
            None => Use::Whole,
            Some(uses) => uses.get(column).cloned().unwrap_or(Use::Nothing),
        }
    }

    fn add(&mut self, column: usize, more: &Use) {
        let Some(uses) = &mut self.0 else { return };
        if uses.len() <= column {
            uses.resize(column + 1, Use::Nothing);
        }
        uses[column].add(more);
    }

    /// Notes what an expression uses, when so much of its value is used.
    fn collect(&mut self, expr: &Arc<dyn PhysicalExpr>, own: &Use) {
        if let Some(column) = expr.downcast_ref::<Column>() {
            return self.add(column.index(), own);
        }
        match field_access(expr) {
            Some((base, name)) => self.collect(base, &Use::field(name)),
            None => expr.children().into_iter().for_each(|child| self.collect(child, &Use::Whole)),
        }
    }
}

/// What is used before a step, when so much is used after it.
fn before(step: &Step, after: Uses) -> Uses {
    match step {
        Step::Project { exprs, .. } => {
            let mut uses = Uses(Some(Vec::new()));
            for (at, expr) in exprs.iter().enumerate() {
                match after.of(at) {
                    // Computed all the same, by a step that knows nothing of this.
                    Use::Nothing if !expr.is::<Column>() => uses.collect(expr, &Use::Whole),
                    own => uses.collect(expr, &own),
                }
            }
            uses
        }
        // The ids of rows come after all columns there are.
        Step::Rename { .. } | Step::RowIds { .. } => after,
        Step::Filter(predicate) => {
            let mut uses = after;
            uses.collect(predicate, &Use::Whole);
            uses
        }
        Step::Watermark { column, .. } => {
            let mut uses = after;
            uses.add(*column, &Use::Whole);
            uses
        }
        Step::Join(_) | Step::Unnest { .. } | Step::Expand(_) => Uses(None),
    }
}

fn field_access(expr: &Arc<dyn PhysicalExpr>) -> Option<(&Arc<dyn PhysicalExpr>, &str)> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let [base, name, ..] = call.args() else { return None };
    let name = name.downcast_ref::<Literal>()?.value().try_as_str()??;
    (call.fun().name() == "get_field").then_some((base, name))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::functions::core::get_field;
    use datafusion::logical_expr::{Expr, col, lit};
    use datafusion::prelude::SessionContext;

    use super::*;

    fn member(of: Expr, name: &str) -> Expr {
        get_field().call(vec![of, lit(name)])
    }

    /// A projection of columns `k`, `a` and `b`, of which the last two have the members `x`, `y` and `z {p, q}`.
    fn project(exprs: &[Expr]) -> Step {
        let schema = schema();
        let of = DFSchema::try_from(schema.clone()).expect("a schema");
        let physical =
            |expr: &Expr| SessionContext::new().create_physical_expr(expr.clone(), &of).expect("an expression");
        Step::Project { exprs: exprs.iter().map(physical).collect(), schema: Arc::new(schema) }
    }

    fn schema() -> Schema {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let inner = Field::new("z", DataType::Struct(vec![text("p"), text("q")].into()), true);
        let of_members = DataType::Struct(vec![text("x"), text("y"), inner].into());
        Schema::new(vec![text("k"), Field::new("a", of_members.clone(), true), Field::new("b", of_members, true)])
    }

    fn filter(predicate: Expr) -> Step {
        let Step::Project { exprs, .. } = project(&[predicate]) else { unreachable!("a projection was made") };
        Step::Filter(Arc::clone(&exprs[0]))
    }

    /// Each step has three columns before it; the members of the second and third one that are read, `*` for all.
    fn check(steps: &[Step], expected: [&str; 2]) {
        let read = members_read(3, steps);
        let shown: Vec<String> = read[1..]
            .iter()
            .map(|members| {
                members.as_ref().map_or("*".to_owned(), |names| names.iter().cloned().collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn members_are_those_that_any_step_reads() {
        let (k, a, b) = (|| col("k"), || col("a"), || col("b"));
        let to_the_end = [k(), member(a(), "x"), member(member(b(), "z"), "p")];
        check(&[], ["*", "*"]);
        check(&[filter(member(a(), "x").is_not_null())], ["*", "*"]);
        check(&[project(&to_the_end)], ["x", "z"]);
        check(&[project(&[k(), k(), k()])], ["", ""]);
        check(&[project(&[k(), a().is_null(), b()])], ["*", "*"]);
        check(&[filter(member(a(), "y").is_not_null()), project(&to_the_end)], ["x y", "z"]);
        check(&[Step::Watermark { id: 0, column: 1 }, project(&to_the_end)], ["*", "z"]);
        check(&[Step::Rename { schema: Arc::new(schema()) }, project(&to_the_end)], ["x", "z"]);
        // What one projection passes on another one takes apart: the columns change their places.
        let swapped = project(&[k(), b(), a().alias("b")]);
        check(&[swapped, project(&to_the_end)], ["z", "x"]);
        let dropped = project(&[k(), b(), a().is_null()]);
        check(&[dropped, project(&[k(), member(a(), "x"), k()])], ["*", "x"]);
        check(&[Step::Unnest { column: 0, schema: Arc::new(schema()) }, project(&to_the_end)], ["*", "*"]);
    }
}
