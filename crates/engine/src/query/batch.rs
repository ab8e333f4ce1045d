//! Runs one batch: reads the ranges, passes rows through the stages on several threads, hands results to the caller.
//!
//! ```text
//!   readers ──> source tasks ══KeyedBatch══> one task a worker of each operator ══RecordBatch══> caller (the sink)
//!               (steps, keys)   bounded        (state)     ║                       bounded
//!                                              ╚══KeyedBatch══> operators after it
//! ```
//!
//! Tasks are threads that live for the batch. Channels are bounded, so that a slow sink slows the readers. The first
//! error stops all of them; nothing of a failed batch is kept.

use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::rebuild::Part;
use crate::checkpoint::dead_letters::BatchLetters;
use crate::error::{EngineError, Result};
use crate::operator::changes::{Tells, for_deletes, unmarked};
use crate::operator::draws::Lane;
use crate::operator::keyed::{KeyedBatch, Keyer};
use crate::operator::stateless::{EventTimes, Step, run_steps};
use crate::operator::{AtEnd, Operator};
use crate::plan::streaming::{OperatorStage, StageOutput, StreamingPlan};
use crate::sink::OutputMode;
use crate::source::{PartitionReader, ReadReport};

/// Batches that may wait between two tasks.
const QUEUE: usize = 8;

/// The watermarks a batch runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchWatermarks {
    /// Rows at or before it are late; none without a watermark.
    pub(crate) late_us: Option<i64>,
    /// State at or before it is final; none without a watermark.
    pub(crate) evict_us: Option<i64>,
}

impl BatchWatermarks {
    /// Those of an operator whose watermark is `lag_us` behind that of the query.
    fn behind(self, lag_us: i64) -> Self {
        let back = |watermark_us: i64| watermark_us.saturating_sub(lag_us);
        Self { late_us: self.late_us.map(back), evict_us: self.evict_us.map(back) }
    }
}

/// A reader and the stage its rows pass.
pub(crate) struct ReadJob {
    pub(crate) stage: usize,
    pub(crate) reader: Box<dyn PartitionReader>,
    /// Whether it waits for rows that are not there yet, and needs a thread of its own.
    pub(crate) waits: bool,
}

/// How a batch is run; nothing of it changes what is committed.
pub(crate) struct BatchSettings<'a> {
    /// Threads for reading, and workers of each operator.
    pub(crate) workers: usize,
    /// Whether the sink shows rows before the batch is committed, so that operators should not hold them back.
    pub(crate) early: bool,
    /// Which part of a rebuild it is, if it is one.
    pub(crate) part: Option<Part>,
    /// The batch's processing time, as the offset log has it.
    pub(crate) time_us: i64,
    /// Where records go that cannot be read; none if they went there before.
    pub(crate) letters: Option<&'a BatchLetters>,
    /// Set to give the batch up.
    pub(crate) abort: &'a AtomicBool,
}

/// What a batch saw.
#[derive(Debug, Default)]
pub(crate) struct BatchOutcome {
    pub(crate) event_times: EventTimes,
    /// By source stage.
    pub(crate) reads: Vec<ReadReport>,
    /// Late rows, by operator.
    pub(crate) late_rows: Vec<u64>,
}

/// The stateful operators of a query, a worker each.
pub(crate) type Operators = Vec<Vec<Box<dyn Operator>>>;

/// Rows for one worker of an operator, with the input they come in by.
type Delivery = (usize, KeyedBatch);

/// Rows that leave the operators, with the relation of the query over the whole result that they belong to; without such
/// a query there is one.
pub(crate) type ResultRows = (usize, RecordBatch);

/// Runs the stages over what `jobs` read; `sink` takes the results on the calling thread.
pub(crate) fn run_batch(
    plan: &StreamingPlan,
    operators: &mut Operators,
    jobs: Vec<ReadJob>,
    settings: BatchSettings<'_>,
    watermarks: BatchWatermarks,
    sink: &mut dyn FnMut(ResultRows) -> Result<()>,
) -> Result<BatchOutcome> {
    let BatchSettings { workers, early, part, time_us, letters, abort } = settings;
    let readers = if jobs.iter().any(|job| job.waits) { jobs.len() } else { workers.min(jobs.len()) };
    let run = Run {
        plan,
        workers,
        early,
        part,
        time_us,
        letters,
        watermarks,
        abort,
        stopped: AtomicBool::new(false),
        error: Mutex::new(None),
        outcome: Mutex::new(BatchOutcome {
            reads: vec![ReadReport::default(); plan.source_stages.len()],
            late_rows: vec![0; plan.operators.len()],
            ..BatchOutcome::default()
        }),
        jobs: Mutex::new(jobs.into_iter().rev().collect()),
    };
    let (to_sink, results) = bounded::<ResultRows>(QUEUE);
    std::thread::scope(|scope| {
        let mut inboxes: Vec<Vec<Receiver<Delivery>>> = Vec::new();
        let mut to_workers: Vec<Vec<Sender<Delivery>>> = Vec::new();
        for _ in &plan.operators {
            let (senders, receivers) = (0..workers).map(|_| bounded(QUEUE)).unzip();
            to_workers.push(senders);
            inboxes.push(receivers);
        }
        for _ in 0..readers {
            let exits = Exits { to_workers: to_workers.clone(), to_sink: to_sink.clone() };
            let run = &run;
            spawn(scope, move || run.guard(|| run.source_task(&exits)));
        }
        // A stage's senders must be gone before the next one can end: each operator holds only those after it.
        for (at, (inboxes, workers)) in inboxes.into_iter().zip(operators.iter_mut()).enumerate() {
            let mut later = to_workers.clone();
            later.iter_mut().take(at + 1).for_each(Vec::clear);
            for (inbox, operator) in inboxes.into_iter().zip(workers) {
                let exits = Exits { to_workers: later.clone(), to_sink: to_sink.clone() };
                let run = &run;
                spawn(scope, move || run.guard(|| run.operator_task(at, operator.as_mut(), &inbox, &exits)));
            }
        }
        drop(to_workers);
        drop(to_sink);
        for rows in &results {
            if let Err(error) = sink(rows) {
                run.fail(error);
                break;
            }
        }
        drop(results);
    });
    match run.error.into_inner() {
        Some(error) => Err(error),
        None if abort.load(Ordering::Relaxed) => Err(aborted()),
        None => Ok(run.outcome.into_inner()),
    }
}

fn aborted() -> EngineError {
    EngineError::unavailable("the batch was given up, because the query was told to stop at once")
}

#[expect(clippy::disallowed_methods, reason = "tasks of a batch end with the batch's scope")]
fn spawn<'scope>(scope: &'scope std::thread::Scope<'scope, '_>, task: impl FnOnce() + Send + 'scope) {
    scope.spawn(task);
}

/// A partition's name among all sources of the query.
pub(crate) fn partition_name(source: usize, partition: &str) -> String {
    format!("{source}/{partition}")
}

/// The ways out of a task.
struct Exits {
    to_workers: Vec<Vec<Sender<Delivery>>>,
    to_sink: Sender<ResultRows>,
}

/// What the tasks of one batch share.
struct Run<'a> {
    plan: &'a StreamingPlan,
    workers: usize,
    early: bool,
    part: Option<Part>,
    time_us: i64,
    letters: Option<&'a BatchLetters>,
    watermarks: BatchWatermarks,
    abort: &'a AtomicBool,
    stopped: AtomicBool,
    error: Mutex<Option<EngineError>>,
    outcome: Mutex<BatchOutcome>,
    jobs: Mutex<Vec<ReadJob>>,
}

impl Run<'_> {
    /// Runs a task; its error stops the batch.
    fn guard(&self, task: impl FnOnce() -> Result<()>) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown panic");
                self.fail(EngineError::internal(format!("a task of the batch panicked: {text}")));
            }
        }
    }

    fn fail(&self, error: EngineError) {
        self.stopped.store(true, Ordering::Relaxed);
        self.error.lock().get_or_insert(error);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.abort.load(Ordering::Relaxed)
    }

    fn source_task(&self, exits: &Exits) -> Result<()> {
        let mut seen = EventTimes::default();
        loop {
            let Some(mut job) = self.jobs.lock().pop() else { break };
            let stage = &self.plan.source_stages[job.stage];
            let lane = Lane::of_source(&self.plan.draws, job.stage);
            let mut exit = Exit::new(self, exits, (&stage.steps, Tells::Rows), lane, stage.output)?;
            seen.partition = partition_name(job.stage, job.reader.partition());
            while let Some(batch) = job.reader.next_batch()? {
                if self.is_stopped() {
                    return Ok(());
                }
                self.keep_letters(job.reader.as_mut())?;
                exit.lane.enter(job.reader.stretch());
                exit.send(batch, &mut seen)?;
            }
            self.keep_letters(job.reader.as_mut())?;
            self.outcome.lock().reads[job.stage].add(&job.reader.report());
        }
        self.outcome.lock().event_times.merge(seen);
        Ok(())
    }

    /// Writes down what could not be read, batch by batch: a topic in the wrong format has more of it than memory.
    fn keep_letters(&self, reader: &mut dyn PartitionReader) -> Result<()> {
        let letters = reader.take_dead_letters();
        match self.letters {
            Some(file) if !letters.is_empty() => file.add(&letters),
            _ => Ok(()),
        }
    }

    /// What the end of the batch tells of an operator: in a rebuild those that take back rows tell what they have when all
    /// input was read, and nothing before, unless another operator reads it.
    fn at_end(&self, stage: &OperatorStage) -> AtEnd {
        let takes_back = stage.spec.revises() && self.plan.output_mode != OutputMode::Append;
        match self.part.filter(|_| takes_back && stage.spec.tells() != Tells::Changes) {
            None => AtEnd::Changes,
            Some(part) if part.has_others() => AtEnd::Nothing,
            Some(_) => AtEnd::Everything,
        }
    }

    fn operator_task(
        &self,
        at: usize,
        operator: &mut dyn Operator,
        inbox: &Receiver<Delivery>,
        exits: &Exits,
    ) -> Result<()> {
        let stage = &self.plan.operators[at];
        let lane = Lane::of_operator(&self.plan.draws, at);
        let mut exit = Exit::new(self, exits, (&stage.steps, stage.spec.tells()), lane, stage.output)?;
        // Watermarks are on sources, so that no step behind an operator sees event times.
        let mut seen = EventTimes::default();
        let at_end = self.at_end(stage);
        // What is told whole at the end is not told before.
        let is_quiet = at_end != AtEnd::Changes;
        let mut emit = |batch| exit.send(batch, &mut seen);
        let mut keep_back = |_: RecordBatch| Ok(());
        operator.set_at_end(at_end);
        operator.begin_batch(self.time_us)?;
        for (input, batch) in inbox {
            if self.is_stopped() {
                return Ok(());
            }
            operator.process(input, &batch, if is_quiet { &mut keep_back } else { &mut emit })?;
            if self.early {
                operator.emit_early(&batch, &mut emit)?;
            }
        }
        if self.is_stopped() {
            return Ok(());
        }
        operator.finish_batch(self.watermarks.behind(stage.lag_us).evict_us, &mut emit)
    }
}

/// The end of a stage: its steps, then the next stage.
struct Exit<'a> {
    run: &'a Run<'a>,
    exits: &'a Exits,
    steps: &'a [Step],
    /// What the rows say of themselves.
    tells: Tells,
    lane: Lane<'a>,
    next: Next,
}

/// Where the rows of a stage go.
enum Next {
    Sink { relation: usize },
    Operator { at: usize, input: usize, keyer: Keyer, late_us: Option<i64> },
}

impl<'a> Exit<'a> {
    fn new(
        run: &'a Run<'a>,
        exits: &'a Exits,
        (steps, tells): (&'a [Step], Tells),
        lane: Lane<'a>,
        output: StageOutput,
    ) -> Result<Self> {
        let next = match output {
            StageOutput::Sink => Next::Sink { relation: 0 },
            StageOutput::Whole { relation } => Next::Sink { relation },
            StageOutput::Operator { at, input } => {
                let stage = &run.plan.operators[at];
                let spec = stage.spec.inputs().swap_remove(input);
                let late_us = run.watermarks.behind(stage.lag_us).late_us;
                Next::Operator { at, input, keyer: Keyer::new(spec, stage.history.as_deref(), run.workers)?, late_us }
            }
        };
        Ok(Self { run, exits, steps, tells, lane, next })
    }

    fn send(&mut self, batch: RecordBatch, seen: &mut EventTimes) -> Result<()> {
        let (batch, taken_back) = if self.tells.has_mark() { unmarked(batch)? } else { (batch, false) };
        let Some(batch) = run_steps(self.steps, batch, seen, &mut self.lane)? else { return Ok(()) };
        let (at, input, keyer, late_us) = match &mut self.next {
            Next::Operator { at, input, keyer, late_us } => (*at, *input, keyer, late_us),
            Next::Sink { relation } => {
                let batch = if self.tells == Tells::Gone { for_deletes(&batch, taken_back)? } else { batch };
                let delivered = self.exits.to_sink.send((*relation, batch)).is_ok();
                return self.delivered(delivered);
            }
        };
        let keyed = keyer.key(&batch, *late_us)?;
        if keyed.late_rows > 0 {
            self.run.outcome.lock().late_rows[at] += keyed.late_rows;
        }
        for (inbox, mut batch) in self.exits.to_workers[at].iter().zip(keyed.batches) {
            batch.taken_back = taken_back;
            if !batch.is_empty() {
                self.delivered(inbox.send((input, batch)).is_ok())?;
            }
        }
        Ok(())
    }

    /// A receiver is only gone when its task failed or was stopped, and that is what is reported.
    fn delivered(&self, delivered: bool) -> Result<()> {
        if delivered || self.run.is_stopped() {
            return Ok(());
        }
        Err(EngineError::internal("a task of the batch ended before its input did"))
    }
}
