//! Join of two streams: each side keeps its rows, each row that comes is looked up among those of the other side.
//!
//! ```text
//!   left rows ──> probe the right side, keep ─┐
//!                                             ├─> pairs that pass the condition ─> RecordBatch
//!   right rows ─> probe the left side, keep ──┘
//!   end of batch: rows the watermark says meet nothing any more are forgotten; those of an outer side
//!                 that met nothing come out with nulls
//! ```
//!
//! It gives what Spark's symmetric hash join gives: a row behind the watermark of the batch before is late and left
//! out; a row that cannot meet any other because of a condition on its own side is not kept, and comes out at once if
//! its side is an outer one. Rows whose key has a null meet nothing.
//!
//! The rows of a side are in [`super::kept_rows`]; which rows meet, and the columns that come of it, in `pairs.rs`.

mod operator;
mod pairs;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::kept_rows::{Expiry, KeptRowsSpec, Reach};
use super::keyed::{Bucketing, InputSpec};
use super::layout::{Layout, Part};
use super::state_table::StateTable;
use super::{Operator, OperatorSpec, PhysicalExprRef, Place, StateBound};
use crate::error::Result;

/// Which rows come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamJoinKind {
    /// One for each match.
    Inner,
    /// Those, and left rows that met nothing.
    Left,
    /// Those, and right rows that met nothing.
    Right,
    /// Those, and rows of both sides that met nothing.
    Full,
    /// Left rows that met one, once.
    Semi,
    /// Left rows that met nothing.
    Anti,
}

impl StreamJoinKind {
    /// Whether a row of this side that met nothing comes out.
    fn keeps(self, side: usize) -> bool {
        match self {
            Self::Inner | Self::Semi => false,
            Self::Left | Self::Anti => side == LEFT,
            Self::Right => side == RIGHT,
            Self::Full => true,
        }
    }

    /// Whether pairs come out, and not only rows of the left side.
    fn gives_pairs(self) -> bool {
        !matches!(self, Self::Semi | Self::Anti)
    }
}

pub(crate) const LEFT: usize = 0;
pub(crate) const RIGHT: usize = 1;

/// One side of a join.
#[derive(Debug)]
pub(crate) struct JoinSideSpec {
    /// Keys, the time rows are kept by, and as columns the whole row and last whether its key has a null.
    pub(crate) input: Arc<InputSpec>,
    /// The columns of a row.
    pub(crate) schema: SchemaRef,
    /// What the condition says about rows of this side alone.
    pub(crate) filter: Option<PhysicalExprRef>,
    /// When its rows are forgotten; never without one.
    pub(crate) expiry: Option<Expiry>,
    /// Which times of the other side its rows can meet.
    pub(crate) reach: Reach,
}

/// What one join of two streams does.
#[derive(Debug)]
pub(crate) struct StreamJoinSpec {
    /// Its lasting name in the checkpoint.
    pub(crate) id: String,
    pub(crate) kind: StreamJoinKind,
    pub(crate) sides: [JoinSideSpec; 2],
    /// What the condition says about pairs, on the columns of both sides.
    pub(crate) filter: Option<PhysicalExprRef>,
    /// The columns of both sides.
    pub(crate) pair_schema: SchemaRef,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
    /// How much event time is kept together.
    pub(crate) bucket_us: i64,
}

impl StreamJoinSpec {
    /// How the rows of a side are kept.
    fn kept(&self, side: usize) -> KeptRowsSpec {
        let JoinSideSpec { schema, expiry, .. } = &self.sides[side];
        let types = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        KeptRowsSpec { owner: self.id.clone(), types, expiry: *expiry, bucket_us: self.bucket_us }
    }

    /// How far the watermark of what comes out is behind that of what goes in.
    pub(crate) fn lag_us(&self) -> i64 {
        let bounds = self.sides.iter().filter_map(|side| side.expiry).map(|expiry| expiry.of(0));
        bounds.min().map_or(0, |bound| bound.min(0).saturating_neg())
    }
}

impl OperatorSpec for StreamJoinSpec {
    fn id(&self) -> &str {
        &self.id
    }

    fn spark_name(&self) -> &'static str {
        "symmetricHashJoin"
    }

    fn fingerprint(&self) -> String {
        let (left, right) = (self.kept(LEFT).types, self.kept(RIGHT).types);
        let keys = &self.sides[LEFT].input.key_types;
        format!("v1 {:?} keys {keys:?} left {left:?} right {right:?} bucket {}", self.kind, self.bucket_us)
    }

    fn layout(&self) -> Result<Option<Layout>> {
        let kind = format!("a {:?} join by {} us", self.kind, self.bucket_us);
        let sides = self.sides.iter().map(|side| Part::columns(&side.schema)).collect();
        Ok(Some(Layout::new(kind, self.sides[LEFT].input.named_keys(), sides)))
    }

    fn stores(&self) -> Vec<String> {
        vec![format!("{}-left", self.id), format!("{}-right", self.id)]
    }

    fn inputs(&self) -> Vec<Arc<InputSpec>> {
        self.sides.iter().map(|side| Arc::clone(&side.input)).collect()
    }

    fn bound(&self) -> StateBound {
        let text = |side: &JoinSideSpec| {
            side.expiry.map(|expiry| {
                let behind_ms = -expiry.of(0) / 1000;
                if behind_ms == 0 {
                    "its event time".to_owned()
                } else {
                    format!("its event time and {behind_ms} ms more")
                }
            })
        };
        match (text(&self.sides[LEFT]), text(&self.sides[RIGHT])) {
            (Some(left), Some(right)) => StateBound::Watermark(format!("{left} (left side) or {right} (right side)")),
            _ => StateBound::None,
        }
    }

    fn heeds_watermark(&self) -> bool {
        self.sides.iter().any(|side| side.expiry.is_some())
    }

    fn takes_ttl(&self) -> bool {
        let is_untimed = |side: &JoinSideSpec| side.expiry.is_none() && matches!(side.input.bucket, Bucketing::None);
        self.kind == StreamJoinKind::Inner && self.sides.iter().all(is_untimed)
    }

    fn state_tables(&self) -> Result<Vec<StateTable>> {
        let sides = self.stores().into_iter().zip(&self.sides);
        Ok(sides
            .map(|(store, side)| StateTable::rows(&store, &side.input, Some(&side.schema), side.expiry, true))
            .collect())
    }

    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>> {
        Ok(Box::new(operator::StreamJoinOperator::open(self, place)?))
    }
}
