//! One worker's share of a join of two streams.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};

use super::pairs::{Pairs, batch_of, condition, flagged, take_columns};
use super::{LEFT, RIGHT, StreamJoinKind, StreamJoinSpec};
use crate::error::{EngineError, Result};
use crate::operator::kept_rows::KeptRows;
use crate::operator::keyed::KeyedBatch;
use crate::operator::{EMIT_ROWS, Emit, Operator, OperatorCounts, Place};
use crate::state::ChangeSet;

pub(super) struct StreamJoinOperator {
    spec: Arc<StreamJoinSpec>,
    sides: [KeptRows; 2],
    budget_bytes: usize,
    counts: OperatorCounts,
}

/// Rows that came, and which of them met one.
struct Came<'a> {
    input: usize,
    columns: &'a [ArrayRef],
    matched: Vec<bool>,
    /// Kept rows that nobody wants any more.
    spent: Vec<u32>,
}

impl StreamJoinOperator {
    pub(super) fn open(spec: Arc<StreamJoinSpec>, place: Place) -> Result<Self> {
        let budget_bytes = place.budget_bytes;
        let left = KeptRows::open(spec.kept(LEFT), LEFT, place.clone())?;
        let right = KeptRows::open(spec.kept(RIGHT), RIGHT, place)?;
        let mut operator = Self { spec, sides: [left, right], budget_bytes, counts: OperatorCounts::default() };
        operator.count();
        Ok(operator)
    }

    fn count(&mut self) {
        let [left, right] = [self.sides[LEFT].counts(), self.sides[RIGHT].counts()];
        self.counts = left.plus(right);
    }

    /// Rows that can meet one at all: the condition on their own side is true. The others come out at once if their
    /// side is an outer one.
    fn able(&self, came: &Came<'_>, rows: usize, emit: &mut Emit<'_>) -> Result<Vec<u32>> {
        let all = 0..u32::try_from(rows).unwrap_or(u32::MAX);
        let side = &self.spec.sides[came.input];
        let Some(filter) = &side.filter else { return Ok(all.collect()) };
        let keep = condition(filter, &batch_of(&side.schema, came.columns.to_vec(), rows)?)?;
        let (able, unable): (Vec<u32>, Vec<u32>) = all.partition(|row| is_true(&keep, *row));
        if self.spec.kind.keeps(came.input) && !unable.is_empty() {
            emit(self.spec.alone(came.input, take_columns(came.columns, &unable)?, unable.len())?)?;
        }
        Ok(able)
    }

    /// Looks rows up on the other side.
    fn probe(&mut self, rows: &KeyedBatch, candidates: &[u32], came: &mut Came<'_>, emit: &mut Emit<'_>) -> Result<()> {
        let (reach, other) = (self.spec.sides[came.input].reach, 1 - came.input);
        self.sides[other].load_for(rows, candidates, reach)?;
        let mut pairs = Pairs::default();
        for row in candidates {
            let at = *row as usize;
            self.sides[other]
                .find(rows.hashes[at], rows.key(at), rows.buckets[at], reach, |kept| pairs.push(*row, kept));
            if pairs.len() >= EMIT_ROWS {
                self.meet(std::mem::take(&mut pairs), came, emit)?;
            }
        }
        self.meet(pairs, came, emit)
    }

    /// Emits what pairs of equal keys give, and notes who met.
    fn meet(&mut self, pairs: Pairs, came: &mut Came<'_>, emit: &mut Emit<'_>) -> Result<()> {
        for start in (0..pairs.len()).step_by(EMIT_ROWS) {
            let end = pairs.len().min(start + EMIT_ROWS);
            let block = Pairs { came: pairs.came[start..end].to_vec(), kept: pairs.kept[start..end].to_vec() };
            self.meet_block(block, came, emit)?;
        }
        Ok(())
    }

    fn meet_block(&mut self, mut pairs: Pairs, came: &mut Came<'_>, emit: &mut Emit<'_>) -> Result<()> {
        let (spec, input, other) = (Arc::clone(&self.spec), came.input, 1 - came.input);
        if spec.kind.gives_pairs() || spec.filter.is_some() {
            let (own, kept) = (take_columns(came.columns, &pairs.came)?, self.sides[other].columns(&pairs.kept)?);
            let (met, keep) = spec.filtered(input, own, kept, pairs.len())?;
            if spec.kind.gives_pairs() && met.num_rows() > 0 {
                emit(spec.output(&met)?)?;
            }
            if let Some(keep) = keep {
                pairs.retain(&keep);
            }
        }
        pairs.came.iter().for_each(|row| came.matched[*row as usize] = true);
        if spec.kind == StreamJoinKind::Inner {
            return Ok(());
        }
        let first_time: Vec<u32> = pairs.kept.into_iter().filter(|kept| self.sides[other].mark(*kept)).collect();
        if spec.kind == StreamJoinKind::Semi && input == RIGHT && !first_time.is_empty() {
            emit(spec.alone(LEFT, self.sides[LEFT].columns(&first_time)?, first_time.len())?)?;
            came.spent.extend(first_time);
            return Ok(());
        }
        first_time.into_iter().for_each(|kept| self.sides[other].keep_mark(kept));
        Ok(())
    }

    /// Forgets what the watermark has passed on one side.
    fn expire(&mut self, at: usize, watermark_us: Option<i64>, emit: &mut Emit<'_>) -> Result<()> {
        let Some(bound) = self.sides[at].bound(watermark_us) else { return Ok(()) };
        let spec = Arc::clone(&self.spec);
        if !spec.kind.keeps(at) {
            return self.sides[at].expire(bound, None);
        }
        let mut unmatched = |columns, rows| emit(spec.alone(at, columns, rows)?);
        self.sides[at].expire(bound, Some(&mut unmatched))
    }
}

impl Operator for StreamJoinOperator {
    fn begin_batch(&mut self, time_us: i64) -> Result<()> {
        self.sides.iter_mut().try_for_each(|side| side.begin_batch(time_us))
    }

    fn process(&mut self, input: usize, rows: &KeyedBatch, emit: &mut Emit<'_>) -> Result<()> {
        let (key_has_null, columns) =
            rows.columns.split_last().ok_or_else(|| EngineError::internal("rows of a join without columns"))?;
        let key_has_null = flagged(key_has_null)?;
        let mut came = Came { input, columns, matched: vec![false; rows.len()], spent: Vec::new() };
        let mut able = self.able(&came, rows.len(), emit)?;
        let candidates: Vec<u32> = able.iter().copied().filter(|row| !is_true(&key_has_null, *row)).collect();
        self.probe(rows, &candidates, &mut came, emit)?;
        // A row of a semi join comes out once: it is kept until it meets one, whichever side of a batch comes first.
        self.sides[1 - input].drop_rows(&came.spent)?;
        if self.spec.kind == StreamJoinKind::Semi && input == LEFT {
            let (met, others): (Vec<u32>, Vec<u32>) = able.into_iter().partition(|row| came.matched[*row as usize]);
            if !met.is_empty() {
                emit(self.spec.alone(LEFT, take_columns(columns, &met)?, met.len())?)?;
            }
            able = others;
        }
        if !self.spec.kind.keeps(input) {
            able.retain(|row| !is_true(&key_has_null, *row));
        }
        self.sides[input].insert(rows, columns, &able, &came.matched)?;
        for side in [LEFT, RIGHT] {
            let memory: usize = self.sides.iter().map(KeptRows::memory_bytes).sum();
            if memory > self.budget_bytes {
                self.sides[side].spill(self.budget_bytes / 4)?;
            }
        }
        Ok(())
    }

    fn finish_batch(&mut self, watermark_us: Option<i64>, emit: &mut Emit<'_>) -> Result<()> {
        self.expire(LEFT, watermark_us, emit)?;
        self.expire(RIGHT, watermark_us, emit)?;
        self.count();
        Ok(())
    }

    fn take_changes(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        self.sides.iter_mut().zip(changes).try_for_each(|(side, changes)| side.take_changes(changes))
    }

    fn take_unflushed(&mut self, changes: &mut [ChangeSet]) -> Result<()> {
        self.sides.iter_mut().zip(changes).try_for_each(|(side, changes)| side.take_unflushed(changes))
    }

    fn counts(&self) -> OperatorCounts {
        self.counts
    }
}

fn is_true(flags: &BooleanArray, row: u32) -> bool {
    use arrow::array::Array;
    flags.is_valid(row as usize) && flags.value(row as usize)
}
