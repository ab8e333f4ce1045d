//! `hll_sketch_agg` and `hll_union_agg`: HyperLogLog sketches of Apache DataSketches, which can be kept, put together and
//! asked later.
//!
//! ```text
//!   rows ──hash──> HllSketch of 2^k registers ──> bytes in DataSketches' compact form, HLL_8
//!   bytes ───────> HllUnion ────────────────────> the same
//! ```
//!
//! Hashes and estimates are those of DataSketches, and so Spark's. The bytes are its compact form, where Spark writes the
//! updatable one, with empty places: each reads the other's.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray};
use datasketches::hash::value::raw_bytes;
use datasketches::hll::{HllSketch, HllType, HllUnion};

use super::Values;
use crate::error::{EngineError, Result};
use crate::operator::aggregate::accumulator::summary::Summary;

/// As many registers as Spark's sketches have where nothing is said: 2 to the power of this.
const USUAL_LG_K: u8 = 12;

/// An empty sketch of 2 to the power of `lg_k` registers.
fn empty(lg_k: u8) -> Result<HllSketch> {
    HllSketch::new(lg_k, HllType::Hll8).map_err(|error| {
        EngineError::query(format!("[HLL_INVALID_LG_K] an HLL sketch has 2^4 to 2^21 registers: {error}"))
            .help("give lgConfigK as a number from 4 to 21")
    })
}

/// The sketch that bytes are.
pub(crate) fn hll_sketch(bytes: &[u8]) -> Result<HllSketch> {
    HllSketch::deserialize(bytes).map_err(|error| {
        EngineError::data(format!("[HLL_INVALID_INPUT_SKETCH_BUFFER] the bytes are no HLL sketch: {error}"))
            .help("give what hll_sketch_agg, hll_union or hll_union_agg made")
    })
}

/// Puts a sketch to others; of another number of registers only if that is allowed.
pub(crate) fn hll_unite(union: &mut Option<HllUnion>, sketch: &HllSketch, any_k: bool) -> Result<()> {
    let (found, union) = match union {
        Some(union) => (union.lg_config_k(), union),
        none => {
            let new = HllUnion::new(sketch.lg_config_k());
            let new = new.map_err(|error| EngineError::internal(format!("a union of HLL sketches: {error}")))?;
            (sketch.lg_config_k(), none.insert(new))
        }
    };
    if found != sketch.lg_config_k() && !any_k {
        return Err(EngineError::data(format!(
            "[HLL_UNION_DIFFERENT_LG_K] HLL sketches of 2^{found} and of 2^{} registers are put together",
            sketch.lg_config_k()
        ))
        .help("give true as the last argument: the union has as few registers as the smallest of them"));
    }
    union.update(sketch);
    Ok(())
}

/// The bytes of a union.
pub(crate) fn hll_bytes(union: &HllUnion) -> Vec<u8> {
    union.to_sketch(HllType::Hll8).serialize()
}

/// Sketches of values.
pub(crate) struct HllValues {
    lg_k: u8,
}

impl HllValues {
    pub(crate) fn new(lg_k: u8) -> Result<Self> {
        empty(lg_k)?;
        Ok(Self { lg_k })
    }
}

impl Summary for HllValues {
    type State = Option<HllSketch>;
    type Rows = Values;

    fn prepare(&self, args: &[ArrayRef]) -> Result<Values> {
        Values::of(&args[0])
    }

    /// An empty text is no value, as in DataSketches.
    fn add(&self, state: &mut Self::State, rows: &Values, row: usize) -> Result<()> {
        let sketch = match state {
            Some(sketch) => sketch,
            none => none.insert(empty(self.lg_k)?),
        };
        match rows {
            Values::Longs(longs) => sketch.update(longs.value(row)),
            Values::Bytes(bytes) if bytes.value(row).is_empty() => {}
            Values::Bytes(bytes) => sketch.update(raw_bytes::from_slice(bytes.value(row))),
        }
        Ok(())
    }

    fn merge(&self, state: &mut Self::State, bytes: &[u8]) -> Result<()> {
        let stored = hll_sketch(bytes)?;
        *state = Some(match state.take() {
            None => stored,
            Some(sketch) => {
                let mut union = None;
                hll_unite(&mut union, &sketch, false)?;
                hll_unite(&mut union, &stored, false)?;
                union.map_or(stored, |union| union.to_sketch(HllType::Hll8))
            }
        });
        Ok(())
    }

    fn bytes(&self, state: &Self::State) -> Vec<u8> {
        state.as_ref().map_or_else(Vec::new, HllSketch::serialize)
    }

    fn size_bytes(state: &Self::State) -> usize {
        state.as_ref().map_or(0, HllSketch::estimated_size)
    }

    fn answers(&self, states: &[Option<&Self::State>]) -> Result<ArrayRef> {
        let nothing = empty(self.lg_k)?.serialize();
        let bytes = |state: &Option<&Self::State>| match state {
            Some(Some(sketch)) => sketch.serialize(),
            _ => nothing.clone(),
        };
        Ok(Arc::new(BinaryArray::from_iter_values(states.iter().map(bytes))))
    }
}

/// Unions of sketches.
pub(crate) struct HllUnions {
    /// Whether sketches of several numbers of registers are put together.
    any_k: bool,
}

impl HllUnions {
    pub(crate) fn new(any_k: bool) -> Self {
        Self { any_k }
    }
}

impl Summary for HllUnions {
    type State = Option<HllUnion>;
    type Rows = BinaryArray;

    fn prepare(&self, args: &[ArrayRef]) -> Result<BinaryArray> {
        Ok(args[0].as_binary::<i32>().clone())
    }

    fn add(&self, state: &mut Self::State, rows: &BinaryArray, row: usize) -> Result<()> {
        hll_unite(state, &hll_sketch(rows.value(row))?, self.any_k)
    }

    fn merge(&self, state: &mut Self::State, bytes: &[u8]) -> Result<()> {
        hll_unite(state, &hll_sketch(bytes)?, self.any_k)
    }

    fn bytes(&self, state: &Self::State) -> Vec<u8> {
        state.as_ref().map_or_else(Vec::new, hll_bytes)
    }

    fn size_bytes(state: &Self::State) -> usize {
        state.as_ref().map_or(0, HllUnion::estimated_size)
    }

    fn answers(&self, states: &[Option<&Self::State>]) -> Result<ArrayRef> {
        let nothing = empty(USUAL_LG_K)?.serialize();
        let bytes = |state: &Option<&Self::State>| match state {
            Some(Some(union)) => hll_bytes(union),
            _ => nothing.clone(),
        };
        Ok(Arc::new(BinaryArray::from_iter_values(states.iter().map(bytes))))
    }
}
