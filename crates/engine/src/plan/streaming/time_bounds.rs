//! What the condition of a join says about the times of rows that can still meet.
//!
//! ```text
//!   b.ts BETWEEN a.ts AND a.ts + INTERVAL 5 SECONDS, watermark W on both:
//!     a.ts + 5 s >= b.ts > W      so rows of a at or before  W - 5 s - 1 ms  meet nothing any more
//!     b.ts >= a.ts > W            so rows of b at or before  W - 1 ms        meet nothing any more
//! ```
//!
//! The rule is Spark's, to its millisecond: of each comparison of the two event times that bounds one from below, the
//! bound is computed with the watermark in the place of the other; a bound that may be equal keeps one millisecond
//! more; the smallest bound counts. Anything but sums of event times and constants is no bound.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

use crate::operator::kept_rows::{Expiry, Reach};

/// A comparison `low < high` or `low <= high` of two times.
struct Comparison<'a> {
    low: &'a Expr,
    high: &'a Expr,
    is_strict: bool,
}

/// A time as a sum: the columns it adds, with their signs, and constants.
#[derive(Default)]
struct Terms<'a> {
    columns: Vec<(&'a Column, bool)>,
    constant_us: i64,
}

/// When rows of one side meet nothing any more: `own` and `other` tell the event times of the two sides.
pub(super) fn expiry(
    condition: &Expr,
    own: &dyn Fn(&Column) -> bool,
    other: &dyn Fn(&Column) -> bool,
) -> Option<Expiry> {
    let mut bounds = Vec::new();
    each_comparison(condition, &mut |comparison| {
        // `other + c < own`: with the watermark for other, own > watermark + c for every row still to come.
        if let Some(offset_us) = offset(comparison.low, comparison.high, other, own) {
            bounds.push(Expiry { offset_us, may_be_equal: !comparison.is_strict });
        }
    });
    bounds.into_iter().min_by_key(|bound| bound.of(0))
}

/// How far the event time of a row of the other side can be from that of a row of `own` side.
pub(super) fn reach(condition: &Expr, own: &dyn Fn(&Column) -> bool, other: &dyn Fn(&Column) -> bool) -> Reach {
    let mut reach = Reach::default();
    each_comparison(condition, &mut |comparison| {
        // `own + c < other`: other is at least own + c.
        if let Some(offset_us) = offset(comparison.low, comparison.high, own, other) {
            reach.from_us = reach.from_us.max(Some(offset_us));
        }
        // `other < own + c`, that is `other + (-c) < own`: other is at most own + c.
        if let Some(offset_us) = offset(comparison.low, comparison.high, other, own) {
            let to_us = offset_us.saturating_neg();
            reach.to_us = Some(reach.to_us.map_or(to_us, |known: i64| known.min(to_us)));
        }
    });
    reach
}

/// Whether the condition compares an event time of `own` side, so that it is not true where that is null.
pub(super) fn compares(condition: &Expr, own: &dyn Fn(&Column) -> bool) -> bool {
    let mut is_compared = false;
    each_comparison(condition, &mut |comparison| {
        let mut terms = Terms::default();
        let are_sums =
            collect(comparison.low, false, &mut terms).and_then(|()| collect(comparison.high, true, &mut terms));
        is_compared |= are_sums.is_some() && terms.columns.iter().any(|(column, _)| own(column));
    });
    is_compared
}

/// The `c` of `from + c < to`, where `from` and `to` are the only columns of the comparison.
fn offset(low: &Expr, high: &Expr, from: &dyn Fn(&Column) -> bool, to: &dyn Fn(&Column) -> bool) -> Option<i64> {
    let mut terms = Terms::default();
    collect(low, false, &mut terms)?;
    collect(high, true, &mut terms)?;
    match terms.columns.as_slice() {
        [(a, false), (b, true)] | [(b, true), (a, false)] if from(a) && to(b) => Some(terms.constant_us),
        _ => None,
    }
}

fn each_comparison<'a>(condition: &'a Expr, visit: &mut dyn FnMut(Comparison<'a>)) {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            each_comparison(left, visit);
            each_comparison(right, visit);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Lt => visit(Comparison { low: left, high: right, is_strict: true }),
            Operator::LtEq => visit(Comparison { low: left, high: right, is_strict: false }),
            Operator::Gt => visit(Comparison { low: right, high: left, is_strict: true }),
            Operator::GtEq => visit(Comparison { low: right, high: left, is_strict: false }),
            _ => {}
        },
        Expr::Between(Between { expr, negated: false, low, high }) => {
            visit(Comparison { low, high: expr, is_strict: false });
            visit(Comparison { low: expr, high, is_strict: false });
        }
        Expr::Alias(alias) => each_comparison(&alias.expr, visit),
        _ => {}
    }
}

/// Adds the terms of an expression; nothing if it is more than a sum of times and constants.
fn collect<'a>(expr: &'a Expr, negate: bool, terms: &mut Terms<'a>) -> Option<()> {
    match expr {
        Expr::Column(column) => terms.columns.push((column, negate)),
        Expr::Alias(alias) => collect(&alias.expr, negate, terms)?,
        Expr::Negative(inner) => collect(inner, !negate, terms)?,
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
            collect(left, negate, terms)?;
            collect(right, negate, terms)?;
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            collect(left, negate, terms)?;
            collect(right, !negate, terms)?;
        }
        // A step on the calendar of the session's zone: a constant of days is taken as so many times 24 hours.
        Expr::ScalarFunction(function) if function.func.name() == "move_time" => {
            let [time, interval, rest @ ..] = function.args.as_slice() else { return None };
            let back = matches!(rest, [Expr::Literal(ScalarValue::Boolean(Some(true)), _)]);
            collect(time, negate, terms)?;
            collect(interval, negate != back, terms)?;
        }
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0 => {
            let days_us = i64::from(interval.days).checked_mul(86_400_000_000)?;
            let constant_us = days_us.checked_add(interval.nanoseconds / 1000)?;
            let constant_us = if negate { constant_us.checked_neg()? } else { constant_us };
            terms.constant_us = terms.constant_us.checked_add(constant_us)?;
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn seconds(seconds: i64) -> Expr {
        let interval = arrow::datatypes::IntervalMonthDayNano::new(0, 0, seconds * 1_000_000_000);
        lit(ScalarValue::IntervalMonthDayNano(Some(interval)))
    }

    fn plus(left: Expr, right: Expr) -> Expr {
        datafusion::logical_expr::binary_expr(left, Operator::Plus, right)
    }

    fn is_a(column: &Column) -> bool {
        column.name == "a"
    }

    fn is_b(column: &Column) -> bool {
        column.name == "b"
    }

    /// The bounds of both sides under a watermark of 100 s, in milliseconds, and the reach from a to b in seconds.
    fn check(condition: &Expr, a: Option<i64>, b: Option<i64>, reach_of_a: (Option<i64>, Option<i64>)) {
        let bound = |expiry: Option<Expiry>| expiry.map(|expiry| expiry.of(100_000_000) / 1000);
        assert_eq!(bound(expiry(condition, &is_a, &is_b)), a, "a in {condition}");
        assert_eq!(bound(expiry(condition, &is_b, &is_a)), b, "b in {condition}");
        let reach = reach(condition, &is_a, &is_b);
        let found = (reach.from_us.map(|us| us / 1_000_000), reach.to_us.map(|us| us / 1_000_000));
        assert_eq!(found, reach_of_a, "reach in {condition}");
    }

    #[test]
    fn bounds_are_those_of_spark() {
        let between = col("b").between(col("a"), plus(col("a"), seconds(5)));
        check(&between, Some(94_999), Some(99_999), (Some(0), Some(5)));
        check(&col("a").gt(col("b")), Some(100_000), None, (None, Some(0)));
        check(&plus(col("a"), seconds(3)).lt_eq(col("b")), None, Some(102_999), (Some(3), None));
        let both = col("a").gt_eq(plus(col("b"), seconds(-8))).and(col("a").lt(plus(col("b"), seconds(60))));
        check(&both, Some(91_999), Some(40_000), (Some(-60), Some(8)));
        check(&col("a").eq(col("b")), None, None, (None, None));
        check(&col("a").lt(col("c")), None, None, (None, None));
        check(&col("a").gt(seconds(5)), None, None, (None, None));
    }

    #[test]
    fn what_compares_a_time_is_not_true_of_a_null() {
        let check = |condition: &Expr, expected: bool| assert_eq!(compares(condition, &is_a), expected, "{condition}");
        check(&col("b").between(col("a"), plus(col("a"), seconds(5))), true);
        check(&col("c").lt(col("d")).and(plus(col("c"), seconds(5)).gt(col("a"))), true);
        check(&col("c").lt(col("d")).or(col("c").gt(col("a"))), false);
        check(&col("c").lt(col("b")), false);
        check(&col("a").is_null(), false);
    }
}
