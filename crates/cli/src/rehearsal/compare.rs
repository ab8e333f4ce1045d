//! Expected rows beside found ones.
//!
//! Rows are compared as sets with repetition unless their order matters, by the columns that the expected rows name.
//! Fractions are equal when they differ by no more than a millionth of a millionth part: the order in which a sum was
//! made is nobody's business.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

use crate::output::{exact_value, shown_value, table_text};

/// How far two fractions may differ, as a part of the larger.
const TOLERANCE: f64 = 1e-12;

/// How two tables differ.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// The columns that were compared.
    pub(crate) columns: Vec<String>,
    right: Vec<bool>,
    /// Expected, and not found.
    pub(crate) missing: Vec<Vec<String>>,
    /// Found, and not expected. The first ones are the nearest of the missing at the same place.
    pub(crate) unexpected: Vec<Vec<String>>,
    /// Expected and found.
    pub(crate) same: usize,
    /// The rows are the same, but in another order.
    pub(crate) only_order: bool,
}

/// What differs between the expected rows and the found ones, in the columns at `named`; none if nothing does.
pub(crate) fn compare(
    expected: &RecordBatch,
    found: &RecordBatch,
    named: &[usize],
    ordered: bool,
) -> Option<Difference> {
    let equal = |a: usize, b: usize| {
        named.iter().all(|column| equal(expected.column(*column).as_ref(), a, found.column(*column).as_ref(), b))
    };
    let mut is_used = vec![false; found.num_rows()];
    let mut missing = Vec::new();
    for row in 0..expected.num_rows() {
        match (0..found.num_rows()).find(|at| !is_used[*at] && equal(row, *at)) {
            Some(at) => is_used[at] = true,
            None => missing.push(row),
        }
    }
    let unexpected: Vec<usize> = (0..found.num_rows()).filter(|at| !is_used[*at]).collect();
    let in_order = !ordered || (0..expected.num_rows().min(found.num_rows())).all(|at| equal(at, at));
    if missing.is_empty() && unexpected.is_empty() && in_order {
        return None;
    }
    // In the wrong order, the rows themselves say most.
    let only_order = missing.is_empty() && unexpected.is_empty();
    let (missing, unexpected) = if only_order {
        ((0..expected.num_rows()).collect(), (0..found.num_rows()).collect())
    } else {
        (missing, unexpected)
    };
    let texts = |batch: &RecordBatch, rows: &[usize]| -> Vec<Vec<String>> {
        rows.iter().map(|row| named.iter().map(|at| shown_value(batch.column(*at).as_ref(), *row)).collect()).collect()
    };
    let same = expected.num_rows() - missing.len();
    let (missing, unexpected) = (texts(expected, &missing), texts(found, &unexpected));
    let unexpected = if only_order { unexpected } else { nearest_first(&missing, unexpected) };
    let field = |at: &usize| expected.schema_ref().field(*at).clone();
    Some(Difference {
        columns: named.iter().map(|at| field(at).name().clone()).collect(),
        right: named.iter().map(|at| field(at).data_type().is_numeric()).collect(),
        missing,
        unexpected,
        same,
        only_order,
    })
}

/// Puts beside each missing row the unexpected one that has most cells in common with it.
fn nearest_first(missing: &[Vec<String>], mut unexpected: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let common = |a: &[String], b: &[String]| a.iter().zip(b).filter(|(a, b)| a == b).count();
    let mut sorted = Vec::new();
    for row in missing {
        let best = (0..unexpected.len()).max_by_key(|at| (common(row, &unexpected[*at]), std::cmp::Reverse(*at)));
        match best {
            Some(at) => sorted.push(unexpected.remove(at)),
            None => break,
        }
    }
    sorted.extend(unexpected);
    sorted
}

fn equal(a: &dyn Array, a_row: usize, b: &dyn Array, b_row: usize) -> bool {
    if a.is_null(a_row) || b.is_null(b_row) {
        return a.is_null(a_row) && b.is_null(b_row);
    }
    match (a.data_type(), b.data_type()) {
        (DataType::Float64, DataType::Float64) => {
            close(a.as_primitive::<Float64Type>().value(a_row), b.as_primitive::<Float64Type>().value(b_row))
        }
        (DataType::Float32, DataType::Float32) => {
            let (a, b) = (a.as_primitive::<Float32Type>().value(a_row), b.as_primitive::<Float32Type>().value(b_row));
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= f32::EPSILON * a.abs().max(b.abs())
        }
        _ => exact_value(a, a_row) == exact_value(b, b_row),
    }
}

fn close(a: f64, b: f64) -> bool {
    // Equal first: an infinity less itself is no number.
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

impl Difference {
    /// How many rows differ, in words.
    pub(crate) fn summary(&self) -> String {
        if self.only_order {
            return format!("the {} rows are in another order", self.missing.len());
        }
        let rows = |count: usize, what: &str| match count {
            1 => format!("1 row is {what}"),
            count => format!("{count} rows are {what}"),
        };
        let mut parts = Vec::new();
        for (count, what) in [(self.missing.len(), "missing"), (self.unexpected.len(), "unexpected")] {
            if count > 0 {
                parts.push(rows(count, what));
            }
        }
        format!("{}, {} as expected", parts.join(", "), self.same)
    }

    /// The rows, `-` what is missing and `+` what is unexpected, near ones beside each other.
    pub(crate) fn rows(&self) -> String {
        let mut marks = Vec::new();
        let mut rows = Vec::new();
        let mut push = |mark: char, row: Option<&Vec<String>>| {
            if let Some(row) = row {
                marks.push(mark);
                rows.push(row.clone());
            }
        };
        for at in 0..self.missing.len().max(self.unexpected.len()) {
            push('-', self.missing.get(at));
            push('+', self.unexpected.get(at));
        }
        let table = table_text(&self.columns, &self.right, &rows);
        // A rule, the header, a rule, the rows, a rule.
        let mark = |line: usize| line.checked_sub(3).and_then(|row| marks.get(row)).copied().unwrap_or(' ');
        table.lines().enumerate().map(|(at, line)| format!("  {} {line}\n", mark(at))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};

    use super::*;

    fn rows(rows: &[(&str, Option<f64>)]) -> RecordBatch {
        let keys: StringArray = rows.iter().map(|(key, _)| Some(*key)).collect();
        let values: Float64Array = rows.iter().map(|(_, value)| *value).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("key", Arc::new(keys) as Arc<dyn Array>, true),
            ("value", Arc::new(values) as Arc<dyn Array>, true),
        ])
        .unwrap()
    }

    fn check(expected: &[(&str, Option<f64>)], found: &[(&str, Option<f64>)], ordered: bool, summary: Option<&str>) {
        let difference = compare(&rows(expected), &rows(found), &[0, 1], ordered);
        assert_eq!(difference.map(|difference| difference.summary()).as_deref(), summary, "{expected:?} {found:?}");
    }

    #[test]
    fn order_repetition_nulls_and_rounding() {
        let (a, b, null) = (("a", Some(0.3)), ("b", Some(f64::NAN)), ("a", None));
        check(&[a, b], &[b, a], false, None);
        check(&[a, b], &[b, a], true, Some("the 2 rows are in another order"));
        check(&[a, b], &[a, b], true, None);
        check(&[a], &[("a", Some(0.1 + 0.2))], false, None);
        check(&[a], &[("a", Some(0.300001))], false, Some("1 row is missing, 1 row is unexpected, 0 as expected"));
        check(&[a, a], &[a], false, Some("1 row is missing, 1 as expected"));
        check(&[a], &[a, a, b], true, Some("2 rows are unexpected, 1 as expected"));
        check(&[null], &[a], false, Some("1 row is missing, 1 row is unexpected, 0 as expected"));
        check(&[null], &[null], false, None);
    }

    #[test]
    fn columns_that_are_not_named_are_not_compared() {
        assert_eq!(compare(&rows(&[("a", None)]), &rows(&[("a", Some(1.0))]), &[0], false), None);
    }

    #[test]
    fn the_nearest_rows_stand_beside_each_other() {
        let expected = rows(&[("a", Some(1.0)), ("b", Some(2.0))]);
        let found = rows(&[("c", Some(9.0)), ("b", Some(2.5)), ("a", Some(1.0))]);
        let difference = compare(&expected, &found, &[0, 1], false).unwrap();
        let expected = "    +---+-----+\n    |key|value|\n    +---+-----+\n  - |b  |  2.0|\n  + |b  |  2.5|\n  + |c  |  \
                        9.0|\n    +---+-----+\n";
        assert_eq!(difference.rows(), expected);
    }
}
