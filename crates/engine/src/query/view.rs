//! Tables that are computed whole: materialised views over tables, and how a view is kept up to date.
//!
//! ```text
//!   FROM STREAM t    a streaming query: what changes of the rows is written       (update, complete or append)
//!   FROM t           an ordinary query, whose rows take the place of those before in one commit:
//!                    once, after the flows that fill t have ended; or, while they go on, after their batches
//! ```
//!
//! The word STREAM says which. A view over tables is what `SELECT` gives for them, late rows, deletes and all, and a reader
//! sees the rows of one computation and never of two. Tables that no flow of the project fills are looked at when something
//! else is computed, not watched.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::completion::{Advance, Completion};
use super::execution::Control;
use super::storage::Storage;
use super::tables::{Tables, nullable};
use super::trigger::Trigger;
use crate::clock::Clock;
use crate::error::{EngineError, Result};
use crate::plan::batch::collect;
use crate::plan::catalog::Table;
use crate::plan::program::Flow;
use crate::sink::{BatchId, OutputMode, Sink, SinkRequest, SinkToken};

/// How long a view whose trigger says nothing rests between two computations.
const REST: Duration = Duration::from_secs(1);

/// How long a view that waits for batches of others looks away.
const POLL: Duration = Duration::from_millis(10);

/// How a materialised view is kept up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// It reads streams: their rows change those of the view.
    Incremental,
    /// It is computed whole once, after the flows that fill its tables.
    Once,
    /// It is computed whole when a flow has changed one of its tables, and not before it has rested so long.
    Recomputed {
        /// The tables.
        after: Vec<String>,
        /// From the start of one computation to that of the next.
        rest: Duration,
    },
}

impl fmt::Display for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incremental => f.write_str("incrementally, because it reads STREAM"),
            Self::Once => f.write_str("computed whole, once in a run, after the flows that fill its tables"),
            Self::Recomputed { after, rest } => write!(
                f,
                "computed whole after batches of {}, at most every {} ms, because it does not read STREAM",
                after.join(", "),
                rest.as_millis()
            ),
        }
    }
}

impl Upkeep {
    /// How long a view that is computed again and again rests.
    pub(super) fn rest(&self) -> Option<Duration> {
        match self {
            Self::Recomputed { rest, .. } => Some(*rest),
            Self::Incremental | Self::Once => None,
        }
    }

    /// That of a view over tables; `filled` are those of them that flows of the program fill.
    pub(super) fn of(trigger: Trigger, filled: Vec<String>) -> Self {
        match trigger {
            _ if filled.is_empty() => Self::Once,
            Trigger::AvailableNow | Trigger::Once => Self::Once,
            Trigger::ProcessingTime(rest) if !rest.is_zero() => Self::Recomputed { after: filled, rest },
            Trigger::ProcessingTime(_) | Trigger::RealTime(_) => Self::Recomputed { after: filled, rest: REST },
        }
    }
}

/// A query over tables whose result replaces the target's rows.
pub(super) struct WholeQuery {
    pub(super) flow: Flow,
    pub(super) target: Arc<dyn Table>,
    pub(super) target_description: String,
    /// From the start of one computation to that of the next; none for one that is computed once.
    pub(super) rest: Option<Duration>,
}

/// What a view needs of the pipeline.
pub(super) struct ViewContext<'a> {
    pub(super) tables: &'a Tables,
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a dyn Clock,
    pub(super) control: &'a Control,
    /// The flows that fill its tables.
    pub(super) inputs: &'a [Arc<Completion>],
    /// Its own, for views that read this one.
    pub(super) own: &'a Completion,
}

impl WholeQuery {
    /// Computes the rows until nothing can change them any more.
    pub(super) fn run(&self, context: &ViewContext<'_>) -> Result<()> {
        let Some(rest) = self.rest else { return self.compute(&mut None, context) };
        let mut open = None;
        loop {
            // Seen before the tables are read: what comes meanwhile is computed once more.
            let seen = advances(context.inputs);
            let started_ms = context.clock.now_ms();
            self.compute(&mut open, context)?;
            context.own.note_commit();
            loop {
                let now = advances(context.inputs);
                if now.iter().any(|input| input.outcome == Some(false)) {
                    return Err(upstream_failed(&self.flow.name));
                }
                let has_changed = now.iter().zip(&seen).any(|(now, seen)| now.commits != seen.commits);
                let is_over = now.iter().all(|input| input.outcome.is_some());
                let control = context.control;
                let is_told = control.should_stop() && !control.stop.load(Ordering::Relaxed);
                if control.abort.load(Ordering::Relaxed) || is_told || (is_over && !has_changed) {
                    return Ok(());
                }
                let rested_ms = context.clock.now_ms().saturating_sub(started_ms);
                let has_rested = u128::try_from(rested_ms).unwrap_or(0) >= rest.as_millis();
                // The last computation waits for nothing but the end of the flows before it.
                if has_changed && (is_over || (has_rested && !control.should_stop())) {
                    break;
                }
                context.clock.sleep(POLL);
            }
        }
    }

    /// Computes the rows and puts them in the place of the target's.
    fn compute(&self, open: &mut Option<(Box<dyn Sink>, BatchId)>, context: &ViewContext<'_>) -> Result<()> {
        let planned = context.tables.plan(&self.flow)?;
        let session = planned.context.state();
        let schema = nullable(planned.plan.schema().as_arrow());
        let rows = collect(&session, planned.plan)?;
        let (mut sink, batch) = match open.take() {
            Some(open) => open,
            None => self.open(schema, context.storage)?,
        };
        sink.begin(batch)?;
        rows.iter().try_for_each(|rows| sink.write(rows))?;
        sink.prepare()?;
        sink.commit()?;
        *open = Some((sink, batch + 1));
        Ok(())
    }

    /// The target, and the number of the next computation.
    fn open(&self, schema: SchemaRef, storage: &Storage) -> Result<(Box<dyn Sink>, BatchId)> {
        let mut sink = self.target.sink(self.sink_request(schema, storage))?;
        let next = match sink.last_committed()? {
            SinkToken::Committed(last) => last + 1,
            SinkToken::None | SinkToken::NoneLeft | SinkToken::Unsupported => 0,
        };
        Ok((sink, next))
    }
}

impl WholeQuery {
    /// What it asks of its target.
    pub(super) fn sink_request(&self, schema: SchemaRef, storage: &Storage) -> SinkRequest {
        SinkRequest {
            query_id: format!("{}/{}", storage.checkpoint_path(&self.flow.name).display(), self.target_description),
            query_name: self.flow.name.clone(),
            schema,
            output_mode: OutputMode::Complete,
            key_columns: Vec::new(),
            deletes: false,
        }
    }
}

fn advances(inputs: &[Arc<Completion>]) -> Vec<Advance> {
    inputs.iter().map(|input| input.advance()).collect()
}

/// The error of a flow whose input is not there, because the flow that makes it failed.
pub(super) fn upstream_failed(name: &str) -> EngineError {
    EngineError::unavailable(format!("query '{name}' did not run, because a query that fills its source failed"))
        .help("see the other query's error")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(trigger: Trigger, filled: &[&str], expected: &str) {
        let filled = filled.iter().map(|table| (*table).to_owned()).collect();
        assert_eq!(Upkeep::of(trigger, filled).to_string(), expected);
    }

    #[test]
    fn what_explain_says_of_a_view() {
        let once = "computed whole, once in a run, after the flows that fill its tables";
        let seconds = |seconds| Trigger::ProcessingTime(Duration::from_secs(seconds));
        check(Trigger::AvailableNow, &["a"], once);
        check(seconds(5), &[], once);
        let after = |ms| {
            format!("computed whole after batches of a, b, at most every {ms} ms, because it does not read STREAM")
        };
        check(seconds(5), &["a", "b"], &after(5000));
        check(seconds(0), &["a", "b"], &after(1000));
        check(Trigger::RealTime(Duration::from_millis(20)), &["a", "b"], &after(1000));
    }
}
