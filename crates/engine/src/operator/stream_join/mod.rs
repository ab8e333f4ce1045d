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
//! ```text
//!   side.rs   the rows of one side: found by key, forgotten by time, in memory or in the state store
//!   pairs.rs  which rows meet, and the columns that come of it
//! ```

mod operator;
mod pairs;
mod side;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};

use super::keyed::InputSpec;
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

/// Up to which time rows of a side meet nothing any more, from the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// From the watermark to the bound.
    pub(crate) offset_us: i64,
    /// Whether a row at the bound may still meet one.
    pub(crate) may_be_equal: bool,
}

impl Expiry {
    /// The bound itself: rows at or before it are forgotten. Spark computes it in milliseconds, and so do we.
    pub(crate) fn of(self, watermark_us: i64) -> i64 {
        let bound_ms = watermark_us.saturating_add(self.offset_us) / 1000;
        (bound_ms - i64::from(self.may_be_equal)).saturating_mul(1000)
    }
}

/// How far the time of a row of the other side can be from that of a row of this one: no bound where none is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) from_us: Option<i64>,
    pub(crate) to_us: Option<i64>,
}

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
        let types = |side: &JoinSideSpec| -> Vec<DataType> {
            side.schema.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        let [left, right] = &self.sides;
        format!(
            "v1 {:?} keys {:?} left {:?} right {:?} bucket {}",
            self.kind,
            left.input.key_types,
            types(left),
            types(right),
            self.bucket_us
        )
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
                    format!("{behind_ms} ms after its event time")
                }
            })
        };
        match (text(&self.sides[LEFT]), text(&self.sides[RIGHT])) {
            (Some(left), Some(right)) => StateBound::Watermark(format!("left rows {left}, right rows {right}")),
            _ => StateBound::None,
        }
    }

    fn open(self: Arc<Self>, place: Place) -> Result<Box<dyn Operator>> {
        Ok(Box::new(operator::StreamJoinOperator::open(self, place)?))
    }
}
