//! `ROLLUP`, `CUBE` and `GROUPING SETS` of a plan, as sets of grouping expressions.
//!
//! DataFusion numbers a set by which expressions it has not got, first expression in the highest bit, so that
//! `grouping_id()` is the number; a set that is there twice gets another number above those bits. What a stream keeps
//! has the same numbers.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet as Sets};

use crate::error::{EngineError, Result};
use crate::operator::expand::GroupingSet;

/// Most expressions of `CUBE`, which has a set for each of their subsets.
const MOST_OF_CUBE: usize = 12;

/// The grouping expressions of an aggregate, each once, and the sets made of them.
pub(crate) struct Grouping {
    pub(crate) exprs: Vec<Expr>,
    pub(crate) sets: Vec<GroupingSet>,
}

impl Grouping {
    /// None for a plain `GROUP BY`.
    pub(crate) fn of(aggregate: &Aggregate) -> Result<Option<Self>> {
        let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return Ok(None) };
        let exprs: Vec<Expr> = sets.distinct_expr().into_iter().cloned().collect();
        let id_type = aggregate.schema.field(exprs.len()).data_type().clone();
        let mut numbered: Vec<(Vec<bool>, usize)> = Vec::new();
        for has in presence(sets, &exprs)? {
            let before = numbered.iter().filter(|(other, _)| *other == has).count();
            numbered.push((has, before));
        }
        let set = |(has, before): (Vec<bool>, usize)| {
            let missing = has.iter().fold(0_u64, |id, has| id << 1 | u64::from(!has));
            let id = missing | (before as u64) << exprs.len();
            Ok(GroupingSet { has, id: ScalarValue::UInt64(Some(id)).cast_to(&id_type)? })
        };
        let sets = numbered.into_iter().map(set).collect::<Result<_>>()?;
        Ok(Some(Self { exprs, sets }))
    }

    /// The columns of expanded rows: those that come, then the keys and the number under names of their own.
    pub(crate) fn schema(&self, input: &Schema, aggregate: &Aggregate) -> SchemaRef {
        let mut fields: Vec<Arc<Field>> = input.fields().to_vec();
        let added = |at: usize| {
            let data_type: &DataType = aggregate.schema.field(at).data_type();
            Arc::new(Field::new(format!("__grouping_{at}"), data_type.clone(), true))
        };
        fields.extend((0..=self.exprs.len()).map(added));
        Arc::new(Schema::new(fields))
    }

    /// Whether every set has expression `at`.
    pub(crate) fn is_everywhere(&self, at: usize) -> bool {
        self.sets.iter().all(|set| set.has[at])
    }
}

/// For each set, which of the expressions it has.
fn presence(sets: &Sets, exprs: &[Expr]) -> Result<Vec<Vec<bool>>> {
    let count = exprs.len();
    Ok(match sets {
        Sets::Rollup(_) => (0..=count).rev().map(|first| (0..count).map(|at| at < first).collect()).collect(),
        Sets::Cube(_) if count > MOST_OF_CUBE => {
            return Err(EngineError::query(format!("CUBE of {count} expressions would have 2^{count} sets"))
                .help("list the sets that are needed: GROUP BY GROUPING SETS ((a, b), (a), ())"));
        }
        Sets::Cube(_) => {
            (0..1_u32 << count).map(|missing| (0..count).map(|at| missing >> at & 1 == 0).collect()).collect()
        }
        Sets::GroupingSets(sets) => {
            sets.iter().map(|set| exprs.iter().map(|expr| set.contains(expr)).collect()).collect()
        }
    })
}
