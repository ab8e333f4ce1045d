//! Ranges that long lists of values lie in: what statistics of files and row groups can be compared with.
//!
//! ```text
//!   k IN (1, 2, 7, ..., 900)   ─>   k IN (...) AND (k BETWEEN 1 AND 13 OR k BETWEEN 15 AND 40 OR ...)
//! ```
//!
//! DataFusion compares lists of up to twenty values with statistics and lets everything through for longer ones.

use std::cmp::Ordering;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::{Expr, lit};

/// Lists that DataFusion takes as they are.
const SHORT: usize = 20;

/// Ranges of one list: more of them leave out more, and each is compared with all statistics.
const RANGES: usize = 64;

/// The filter with the ranges of its lists.
pub(crate) fn with_ranges(filter: Expr) -> PlanResult<Expr> {
    let with_ranges = filter.transform_up(|expr| match ranges(&expr) {
        Some(ranges) => Ok(Transformed::yes(expr.and(ranges))),
        None => Ok(Transformed::no(expr)),
    });
    Ok(with_ranges?.data)
}

/// The ranges of a long list of constants of one type that have an order.
fn ranges(expr: &Expr) -> Option<Expr> {
    let Expr::InList(list) = expr else { return None };
    if list.negated || list.list.len() <= SHORT {
        return None;
    }
    let constant = |expr: &Expr| match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value.clone()),
        _ => None,
    };
    let mut values: Vec<ScalarValue> = list.list.iter().map(constant).collect::<Option<_>>()?;
    if values.iter().any(|value| value.partial_cmp(&values[0]).is_none()) {
        return None;
    }
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let within = |values: &[ScalarValue]| {
        let (low, high) = (values.first()?.clone(), values.last()?.clone());
        Some(list.expr.as_ref().clone().between(lit(low), lit(high)))
    };
    any_of(values.chunks(values.len().div_ceil(RANGES)).filter_map(within).collect())
}

/// A tree as flat as can be: a chain would be as deep as it is long.
fn any_of(mut exprs: Vec<Expr>) -> Option<Expr> {
    if exprs.len() <= 1 {
        return exprs.pop();
    }
    let rest = exprs.split_off(exprs.len() / 2);
    Some(any_of(exprs)?.or(any_of(rest)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::col;
    use datafusion::prelude::SessionContext;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::contract::{definition, table};

    fn keys(keys: impl IntoIterator<Item = i64>) -> Expr {
        col("id").in_list(keys.into_iter().map(lit).collect(), false)
    }

    #[test]
    fn long_lists_get_ranges() {
        let check = |filter: Expr, expected: &str| {
            let shown = with_ranges(filter).unwrap().human_display().to_string();
            assert!(shown.ends_with(expected), "{shown}");
        };
        check(keys(1..=3), "id IN 1, 2, 3");
        let shown = with_ranges(keys((1..=640).rev())).unwrap().human_display().to_string();
        assert_eq!(shown.matches("BETWEEN").count(), 64, "{shown}");
        assert!(shown.contains("BETWEEN 1 AND 10 ") && shown.contains("BETWEEN 631 AND 640"), "{shown}");
        let mixed = col("id").in_list((0..30).map(|n| if n == 7 { lit("x") } else { lit(n) }).collect(), false);
        assert!(!with_ranges(mixed).unwrap().human_display().to_string().contains("BETWEEN"));
    }

    #[test]
    fn row_groups_without_a_key_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        for file in 0..3_i64 {
            let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
            let path = std::fs::File::create(folder.path().join(format!("{file}.parquet"))).unwrap();
            let mut writer = ArrowWriter::try_new(path, Arc::clone(&schema), Some(properties)).unwrap();
            let ids = Int64Array::from_iter_values(file * 10_000..(file + 1) * 10_000);
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids)]).unwrap()).unwrap();
            writer.close().unwrap();
        }
        let path = folder.path().to_string_lossy().into_owned();
        let provider = table(&definition("parquet", None, &[("path", &path)])).batch().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // How many rows are read, of thirty thousand: whole row groups of a thousand.
        let check = |filter: Expr, expected: usize| {
            let context = SessionContext::new();
            let rows = runtime.block_on(async {
                let scan = provider.scan(&context.state(), None, &[filter], None).await.unwrap();
                datafusion::physical_plan::collect(scan, context.task_ctx()).await.unwrap()
            });
            assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), expected);
        };
        check(keys(0..1000), 1000);
        check(keys((500..600).chain(25_200..25_300)), 2000);
        check(keys(40_000..40_100), 0);
        check(keys((0..100).map(|n| n * 300)), 30_000);
    }
}
