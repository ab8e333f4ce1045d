//! What the keys of stateful operators are made of: a change there gives rows the state of others.
//!
//! ```text
//!   SELECT upper(a) AS k ... GROUP BY k      source column a ─> SELECT upper(a) AS k ─> key k     k is made of upper(a)
//! ```
//!
//! Keys are followed down to what their stage begins with, through what only computes columns, so that conditions may come
//! and go above the same key. Casts are left out: a column that gets a wider type loses or gains one, and the types of keys
//! are compared by themselves. The text is that of DataFusion's expressions; a version that writes it otherwise would refuse
//! queries that are as they were, and has to translate what it finds.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};

use super::{StageOutput, StreamingPlan};
use crate::checkpoint::metadata::MadeOf;
use crate::error::Result;
use crate::operator::PhysicalExprRef;
use crate::operator::keyed::{Bucketing, InputSpec};
use crate::operator::stateless::Step;

impl StreamingPlan {
    /// What the keys of an operator are made of, time included, those of one input after those of another.
    pub(crate) fn keys_of(&self, at: usize) -> Result<MadeOf> {
        let mut made_of = MadeOf::new();
        for (input, spec) in self.operators[at].spec.inputs().iter().enumerate() {
            let keys = keys(spec);
            let mut ways: MadeOf = vec![BTreeSet::new(); keys.len()];
            for steps in self.ways_to(at, input) {
                for (key, way) in keys.iter().zip(&mut ways) {
                    way.insert(made_by(key, steps)?);
                }
            }
            made_of.append(&mut ways);
        }
        Ok(made_of)
    }

    fn ways_to(&self, at: usize, input: usize) -> impl Iterator<Item = &[Step]> {
        let leads_there = move |output: &StageOutput| matches!(output, StageOutput::Operator { at: to, input: into } if (*to, *into) == (at, input));
        let of_sources = self.source_stages.iter().map(|stage| (&stage.output, stage.steps.as_slice()));
        let of_operators = self.operators.iter().map(|stage| (&stage.output, stage.steps.as_slice()));
        of_sources.chain(of_operators).filter(move |(output, _)| leads_there(output)).map(|(_, steps)| steps)
    }
}

fn keys(spec: &InputSpec) -> Vec<PhysicalExprRef> {
    let time = match &spec.bucket {
        Bucketing::None => None,
        Bucketing::Window { time, .. } | Bucketing::Instant { time } => Some(time),
        Bucketing::Session { session } => Some(session),
    };
    spec.keys.iter().chain(time).cloned().collect()
}

/// A key as it is made of the columns before the steps, as far as they only compute columns.
fn made_by(key: &PhysicalExprRef, steps: &[Step]) -> Result<String> {
    let mut made = Arc::clone(key);
    for step in steps.iter().rev() {
        match step {
            Step::Project { exprs, .. } => made = put_in(made, exprs)?,
            Step::Rename { .. } | Step::Filter(_) | Step::Watermark { .. } | Step::RowIds { .. } => {}
            // What comes behind these has columns of other rows.
            Step::Join(_) | Step::Unnest { .. } | Step::Expand(_) => break,
        }
    }
    let plain = made.transform_up(|expr| {
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            return Ok(Transformed::yes(Arc::clone(cast.expr())));
        }
        let call = expr.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.name() == "cast");
        if let Some(value) = call.and_then(|cast| cast.args().first()) {
            return Ok(Transformed::yes(Arc::clone(value)));
        }
        Ok(match expr.downcast_ref::<Column>() {
            // Its place changes with the columns that are read beside it.
            Some(column) => Transformed::yes(Arc::new(Column::new(column.name(), 0))),
            None => Transformed::no(expr),
        })
    })?;
    Ok(plain.data.to_string().replace("@0", ""))
}

/// The expression over what the columns it reads are computed from.
fn put_in(expr: PhysicalExprRef, computed: &[PhysicalExprRef]) -> Result<PhysicalExprRef> {
    let put = expr.transform_up(|expr| {
        let column = expr.downcast_ref::<Column>().and_then(|column| computed.get(column.index()));
        Ok(match column {
            Some(from) => Transformed::yes(Arc::clone(from)),
            None => Transformed::no(expr),
        })
    })?;
    Ok(put.data)
}
