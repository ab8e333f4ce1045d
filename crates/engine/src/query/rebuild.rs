//! A rebuild of a query's state: its input is read again from the first offsets on, in batches like any other.
//!
//! ```text
//!   first offsets ──offsets/N──> . ──offsets/N+1──> . ── ... ──offsets/N+k──> where the query was
//!                   state/N empties what was           watermark, results: with the last part alone
//! ```
//!
//! Each part is an entry of the offset log with its own range, state, token and commit, so that a restart goes on with the
//! part that is next, by the same rules as ever. What may only happen once waits for the last part: rows that the watermark
//! has passed are forgotten then, and operators that take back rows tell all of them then. Until then nothing is late and
//! nothing final. What comes out is what one batch over all input would give.
//!
//! Parts belong to one query. One that was changed meanwhile begins anew: half of its state would be another query's. The
//! part that a killed process was in is given up then: it is committed without rows, and the note in the metadata that the
//! state after it is no query's is written before.

use serde::{Deserialize, Serialize};

use super::comparison::{REBUILDS, START_OVER};
use super::execution::StreamingQuery;
use super::progress::Timer;
use crate::checkpoint::{OffsetLogEntry, PART_OF_REBUILD as PART_OF, Step};
use crate::error::{EngineError, Result};
use crate::plan::streaming::StreamingPlan;
use crate::progress::RebuildProgress;
use crate::sink::BatchId;
use crate::source::{Offset, OffsetRange};

/// How many records a part has where the source knows and the query sets no limit of its own: some seconds of work.
const PART_RECORDS: u64 = 2_000_000;

/// Which part of a rebuild a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Others come after it, so that nothing of its state is final or told.
    Middle,
    /// With it the state is whole.
    Last,
    /// It was begun, and has no rows: another rebuild comes after it.
    GivenUp,
}

impl Part {
    /// Whether others come after it.
    pub(crate) fn has_others(self) -> bool {
        self != Self::Last
    }
}

/// A rebuild that has begun, as each of its entries in the offset log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rebuild {
    /// Its first batch.
    pub(super) first: BatchId,
    /// Where it ends, by source.
    pub(super) until: Vec<Offset>,
    /// The query whose state it makes, as [`query_of`] says.
    query: String,
}

impl Rebuild {
    /// The rebuild that a batch is part of; an earlier version made it in one.
    pub(super) fn of(batch: BatchId, entry: &OffsetLogEntry) -> Result<Option<Self>> {
        if !entry.conf.contains_key(REBUILDS) {
            return Ok(None);
        }
        let Some(text) = entry.conf.get(PART_OF) else {
            let until = entry.ends.iter().flatten().cloned().collect();
            return Ok(Some(Self { first: batch, until, query: String::new() }));
        };
        serde_json::from_str(text).map(Some).map_err(|error| {
            EngineError::data(format!("the offset log's entry {batch} is part of a rebuild that cannot be read"))
                .caused_by(error)
                .help("restore the checkpoint from a backup")
        })
    }

    /// Whether it makes the state of this query.
    pub(super) fn is_of(&self, plan: &StreamingPlan) -> bool {
        self.query.is_empty() || self.query == query_of(plan)
    }

    /// Which part the entry is.
    pub(super) fn part(&self, entry: &OffsetLogEntry) -> Part {
        if entry.ends.iter().flatten().eq(&self.until) { Part::Last } else { Part::Middle }
    }

    fn mark(&self, entry: &mut OffsetLogEntry) -> Result<()> {
        let text =
            serde_json::to_string(self).map_err(|error| EngineError::internal("a rebuild as JSON").caused_by(error))?;
        entry.conf.insert(PART_OF.to_owned(), text);
        Ok(())
    }
}

/// What tells a query from one whose state would be another: its plan, with every filter and expression.
fn query_of(plan: &StreamingPlan) -> String {
    format!("{:08x}", crc32c::crc32c(format!("{} {}", plan.output_mode, plan.explain).as_bytes()))
}

/// What a start does about rebuilds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RebuildStep {
    /// There is none.
    None,
    /// The one that was begun goes on.
    GoOn(Rebuild),
    /// One begins.
    Begin {
        /// Where it ends; none for where the query is.
        until: Option<Vec<Offset>>,
        /// Whether the batch under way is a part of another one, which is given up.
        gives_up: bool,
    },
}

impl RebuildStep {
    /// Whether it starts from no state, when `next` is done first.
    pub(super) fn empties(&self, next: Step) -> bool {
        match self {
            Self::None => false,
            // The first part run again; one whose commit alone is missing has left its state.
            Self::GoOn(rebuild) => matches!(next, Step::Replay { batch, .. } if batch == rebuild.first),
            Self::Begin { .. } => true,
        }
    }
}

impl StreamingQuery {
    /// Makes all state anew if that is asked for or was begun: reads again what was read since the query's first offsets.
    pub(super) fn rebuild(&mut self) -> Result<()> {
        let rebuild = match self.standing.take_rebuild() {
            RebuildStep::None => return Ok(()),
            RebuildStep::GoOn(rebuild) => rebuild,
            RebuildStep::Begin { until, .. } => self.begin_rebuild(until)?,
        };
        let (query, first) = (self.name.clone(), rebuild.first);
        while self.position != rebuild.until && !self.control.should_stop() {
            self.rebuild_part(&rebuild)?;
        }
        if self.position == rebuild.until {
            tracing::info!(query, batches = self.next_batch - first, rows = self.rebuilt_rows, "the state is rebuilt");
        }
        Ok(())
    }

    /// Goes back to the query's first offsets.
    fn begin_rebuild(&mut self, until: Option<Vec<Offset>>) -> Result<Rebuild> {
        let starts = self.first_offsets()?;
        let until = until.unwrap_or_else(|| self.position.clone());
        (self.position, self.rebuilt_rows) = (starts, 0);
        let batch = self.next_batch;
        tracing::info!(
            query = self.name,
            batch,
            "reading the input again from the query's start, to rebuild its state"
        );
        Ok(Rebuild { first: batch, until, query: query_of(&self.plan) })
    }

    fn first_offsets(&self) -> Result<Vec<Offset>> {
        match (self.standing.first_offsets(), self.offsets.get(0)?) {
            (Some(first), _) => Ok(first.clone()),
            (None, Some(entry)) => Ok(entry.starts.into_iter().flatten().collect()),
            (None, None) => {
                let message = format!("query '{}': its checkpoint does not say where its first batch began", self.name);
                Err(EngineError::config(message).help(START_OVER))
            }
        }
    }

    fn rebuild_part(&mut self, rebuild: &Rebuild) -> Result<()> {
        let mut timer = Timer::start(&self.clock);
        let ends = timer.phase(|d| &mut d.latest_offset, || self.part_ends(&rebuild.until))?;
        let mut entry = self.new_entry();
        // All parts have the watermark of the first: what the rows say again must not end groups half way.
        if self.next_batch > rebuild.first {
            entry.batch_watermark_ms = self.last_watermark_ms;
        }
        entry.ends = ends.into_iter().map(Some).collect();
        self.standing.mark_rebuild(&mut entry)?;
        rebuild.mark(&mut entry)?;
        let batch = self.next_batch;
        timer.phase(|d| &mut d.wal_commit, || self.offsets.add(batch, &entry))?;
        self.run_entry(batch, &entry, true, timer)
    }

    /// Where the next part ends. Where no source gets any further the rest is one part.
    fn part_ends(&mut self, until: &[Offset]) -> Result<Vec<Offset>> {
        let plans = self.sources.iter_mut().zip(&self.position).zip(until);
        let ends: Vec<Offset> = plans
            .map(
                |((source, start), until)| {
                    if start == until { Ok(start.clone()) } else { source.plan_again(start, until, PART_RECORDS) }
                },
            )
            .collect::<Result<_>>()?;
        Ok(if ends == self.position { until.to_vec() } else { ends })
    }

    /// Ends the part of a rebuild that nobody wants any more: its range stands in the offset log, so that it has to be a
    /// batch, and it has no rows.
    pub(super) fn give_up_part(&mut self, batch: BatchId, entry: &OffsetLogEntry, write_sink: bool) -> Result<()> {
        let mut timer = Timer::start(&self.clock);
        self.part = Some(Part::GivenUp);
        let outcome = timer.phase(|d| &mut d.add_batch, || self.compute(batch, entry, Vec::new(), write_sink))?;
        self.conclude(batch, entry, &outcome, write_sink, timer)
    }

    /// How far the rebuild is that a batch was part of.
    pub(super) fn rebuild_progress(
        &mut self,
        batch: BatchId,
        entry: &OffsetLogEntry,
    ) -> Result<Option<RebuildProgress>> {
        let Some(rebuild) = Rebuild::of(batch, entry)? else { return Ok(None) };
        let starts = self.first_offsets()?;
        let (mut whole, mut left) = (0, 0);
        for (index, source) in self.sources.iter_mut().enumerate() {
            let (Some(start), Some(until)) = (starts.get(index), rebuild.until.get(index)) else { continue };
            let Some(end) = entry.ends.get(index).cloned().flatten() else { continue };
            let mut amount = |start: &Offset| {
                source.amount(&OffsetRange { start: start.clone(), end: until.clone() }).map(Option::unwrap_or_default)
            };
            whole += amount(start)?;
            left += amount(&end)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = |part: u64| part as f64 / whole as f64;
        let done_share = match rebuild.part(entry) {
            Part::Last => Some(1.0),
            _ => (whole > 0).then(|| share(whole.saturating_sub(left))),
        };
        Ok(Some(RebuildProgress { first_batch_id: rebuild.first, num_input_rows: self.rebuilt_rows, done_share }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(conf: &[(&str, &str)], end: i64) -> OffsetLogEntry {
        let conf = conf.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        OffsetLogEntry { conf, ends: vec![Some(Offset(json!(end)))], ..OffsetLogEntry::default() }
    }

    #[test]
    fn an_entry_knows_its_rebuild() {
        assert_eq!(Rebuild::of(3, &entry(&[], 9)).unwrap(), None);
        // As the version before wrote it: one batch.
        let old = entry(&[(REBUILDS, "{}")], 9);
        let rebuild = Rebuild::of(3, &old).unwrap().unwrap();
        assert_eq!((rebuild.first, rebuild.part(&old)), (3, Part::Last));
        let mut part = entry(&[(REBUILDS, "{}")], 5);
        let rebuild = Rebuild { query: "q".to_owned(), ..rebuild };
        rebuild.mark(&mut part).unwrap();
        assert_eq!(Rebuild::of(4, &part).unwrap(), Some(rebuild.clone()));
        assert_eq!(rebuild.part(&part), Part::Middle);
        let torn = Rebuild::of(4, &entry(&[(REBUILDS, "{}"), (PART_OF, "{")], 5)).unwrap_err();
        assert!(
            torn.to_string().starts_with("the offset log's entry 4 is part of a rebuild that cannot be read"),
            "{torn}"
        );
    }
}
