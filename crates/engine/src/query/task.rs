//! A flow on its thread: waits for what it reads, runs, and is started again after errors that may pass.

use std::sync::Arc;
use std::time::Duration;

use super::comparison::ChangePolicy;
use super::completion::Completion;
use super::execution::{Control, StreamingQuery};
use super::pipeline::{Listeners, Pipeline, Work};
use super::retry::Retries;
use super::view::{ViewContext, upstream_failed};
use crate::error::{EngineError, Result};
use crate::progress::ProgressListener;

/// How long a query that rests before its next start looks away.
const LOOK: Duration = Duration::from_millis(50);

/// A flow on its thread.
pub(super) struct Task {
    pub(super) name: String,
    pub(super) waits_for: Vec<Arc<Completion>>,
    /// The flows that fill what it reads.
    pub(super) inputs: Vec<Arc<Completion>>,
    /// To plan the flow anew.
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) listener: Arc<Listeners>,
    pub(super) control: Arc<Control>,
    pub(super) completion: Arc<Completion>,
}

impl Task {
    pub(super) fn run(self, work: Work) -> Result<()> {
        let outcome = self.work(work);
        self.completion.set(outcome.is_ok());
        let error = outcome.as_ref().err().map(ToString::to_string);
        self.listener.on_terminated(&self.name, error.as_deref());
        outcome
    }

    fn work(&self, work: Work) -> Result<()> {
        if !self.waits_for.iter().all(|upstream| upstream.wait()) {
            return Err(upstream_failed(&self.name));
        }
        let mut retries = Retries::new(self.pipeline.settings.retry);
        let mut planned = Some(work);
        loop {
            let before = self.completion.advance().commits;
            let Err(error) = self.attempt(planned.take()) else { return Ok(()) };
            let has_advanced = self.completion.advance().commits > before;
            // What its inputs do not give it will not be there after a rest either.
            let lacks_input = self.inputs.iter().any(|input| input.advance().outcome == Some(false));
            if self.control.should_stop() || lacks_input {
                return Err(error);
            }
            let Some(restart) = retries.after(&error, has_advanced) else { return Err(error) };
            tracing::warn!(
                query = self.name,
                attempt = restart.attempt,
                of = %self.pipeline.settings.retry.attempts,
                in_ms = u64::try_from(restart.delay.as_millis()).unwrap_or(u64::MAX),
                "failed, and is started again: {error}"
            );
            self.listener.on_restart(&self.name, &restart);
            if !self.rest(restart.delay) {
                return Err(error);
            }
        }
    }

    /// Runs the flow once; as it was planned, or planned anew.
    fn attempt(&self, planned: Option<Work>) -> Result<()> {
        let pipeline = &self.pipeline;
        let work = match planned {
            Some(work) => work,
            None => self.plan_anew()?,
        };
        match work {
            Work::Stream(spec) => {
                let (clock, control) = (Arc::clone(&pipeline.clock), Arc::clone(&self.control));
                let listener = Arc::clone(&self.listener) as Arc<dyn ProgressListener>;
                StreamingQuery::open(*spec, clock, listener, control)?.run()
            }
            Work::Whole(query) => query.run(&ViewContext {
                tables: &pipeline.tables,
                storage: &pipeline.storage,
                clock: pipeline.clock.as_ref(),
                control: &self.control,
                inputs: &self.inputs,
                own: &self.completion,
            }),
        }
    }

    /// As a start of the process would. What a start was told to do with the state of a changed query is done once: its
    /// first batch has carried it out.
    fn plan_anew(&self) -> Result<Work> {
        let flows = &self.pipeline.tables.program.flows;
        let flow = flows.iter().find(|flow| flow.name == self.name);
        let flow = flow.ok_or_else(|| EngineError::internal("a flow that is not in its program"))?;
        let mut work = self.pipeline.plan_flow(flow)?.work;
        if let Work::Stream(spec) = &mut work
            && self.completion.advance().commits > 0
        {
            spec.change = ChangePolicy::default();
        }
        Ok(work)
    }

    /// Waits before the next start; false if the query was told to stop meanwhile.
    fn rest(&self, delay: Duration) -> bool {
        let mut left = delay;
        while !left.is_zero() && !self.control.should_stop() {
            let step = left.min(LOOK);
            self.pipeline.clock.sleep(step);
            left = left.saturating_sub(step);
        }
        !self.control.should_stop()
    }
}
