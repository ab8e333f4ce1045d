//! A running query: recovers, then makes batch after batch until its trigger or its owner ends it.
//!
//! ```text
//!   batch N:  offsets/N ─> run, stage in sink (prepare) ─> dead letters ─> state/N.changelog ─> sink commit ─> commits/N
//! ```
//!
//! What is done after a crash is decided in [`crate::checkpoint::recovery`] alone. A batch that fails leaves nothing
//! behind that a restart would not find and repair.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::batch::{
    BatchOutcome, BatchSettings, BatchWatermarks, Operators, ReadJob, ResultRows, partition_name, run_batch,
};
use super::comparison::{ChangePolicy, Standing, conf_of};
use super::opening::{Start, open_sources, read_note, start, write_note};
use super::progress::{Timer, progress_of};
use super::rebuild::{Part, Rebuild};
use super::settings::QuerySettings;
use super::state::QueryState;
use super::trigger::Trigger;
use super::watermark::WatermarkTracker;
use crate::checkpoint::dead_letters::BatchLetters;
use crate::checkpoint::{CheckpointDir, CommitLog, CommitLogEntry, DeadLetters, OffsetLog, OffsetLogEntry, Step};
use crate::clock::Clock;
use crate::error::{EngineError, Result};
use crate::operator::Operator;
use crate::operator::static_side::{REAL_TIME_REFRESH, Refreshes};
use crate::plan::batch::BatchPlan;
use crate::plan::catalog::Table;
use crate::plan::streaming::{OperatorStage, StreamingPlan};
use crate::progress::{CheckpointProgress, ProgressListener, StaticTableProgress};
use crate::sink::{BatchId, OutputMode, Sink};
use crate::source::{Offset, Source, Unread};

/// A query that is planned and not yet opened.
pub(crate) struct QuerySpec {
    pub(crate) name: String,
    pub(crate) plan: StreamingPlan,
    pub(crate) target: Arc<dyn Table>,
    /// e.g. `table alerts (USING delta)`.
    pub(crate) target_description: String,
    pub(crate) settings: QuerySettings,
    pub(crate) change: ChangePolicy,
    /// Opened for reading.
    pub(crate) checkpoint: CheckpointDir,
    /// Where RocksDB works; emptied at each start.
    pub(crate) local_dir: PathBuf,
}

/// How others stop a query.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Finish the batch, then stop.
    pub(crate) stop: AtomicBool,
    /// Give the batch up.
    pub(crate) abort: AtomicBool,
    /// A file whose presence means `stop`.
    pub(crate) stop_file: Option<PathBuf>,
}

impl Control {
    pub(super) fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
            || self.abort.load(Ordering::Relaxed)
            || self.stop_file.as_ref().is_some_and(|file| file.exists())
    }
}

/// How long an idle query waits before it looks for new rows.
const POLL: Duration = Duration::from_millis(10);

/// How often the logs are pruned, in batches.
const PRUNE_EVERY: BatchId = 10;

/// A query that is open.
pub(crate) struct StreamingQuery {
    pub(super) name: String,
    pub(super) plan: StreamingPlan,
    pub(super) settings: QuerySettings,
    pub(super) standing: Standing,
    pub(super) checkpoint: CheckpointDir,
    pub(super) run_id: String,
    pub(super) sources: Vec<Box<dyn Source>>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) offsets: OffsetLog,
    pub(super) commits: CommitLog,
    pub(super) dead_letters: DeadLetters,
    pub(super) state: Option<QueryState>,
    pub(super) operators: Operators,
    pub(super) tracker: WatermarkTracker,
    /// Static tables that are read beside the batches.
    pub(super) refreshes: Refreshes,
    /// Where the next batch starts, by source.
    pub(super) position: Vec<Offset>,
    pub(super) next_batch: BatchId,
    /// The watermark of the batch before.
    pub(super) last_watermark_ms: i64,
    pub(super) first_step: Step,
    /// The part of a rebuild that the batch under way is, if it is one.
    pub(super) part: Option<Part>,
    /// The dead letters of the batch under way.
    letters: Option<BatchLetters>,
    /// Rows read by the parts so far of the rebuild that is under way.
    pub(super) rebuilt_rows: u64,
    pub(super) last_start_ms: i64,
    /// When the last batch of this run began, by the monotonic clock.
    pub(super) last_start_ns: Option<u64>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) listener: Arc<dyn ProgressListener>,
    pub(super) control: Arc<Control>,
}

impl StreamingQuery {
    /// Opens checkpoint, sink and sources, and decides how to go on.
    pub(crate) fn open(
        mut spec: QuerySpec,
        clock: Arc<dyn Clock>,
        listener: Arc<dyn ProgressListener>,
        control: Arc<Control>,
    ) -> Result<Self> {
        let Start { checkpoint, offsets, commits, sink, standing, next, state: from } = start(&spec, &clock)?;
        for stage in &mut spec.plan.operators {
            stage.history = standing.history(stage.spec.id());
        }
        spec.plan.draws.set_query(standing.id());
        let sources = open_sources(&spec.plan, &checkpoint)?;
        let mut tracker = WatermarkTracker::new(
            spec.plan.watermarks.clone(),
            spec.settings.watermark_policy,
            spec.settings.idle_timeout,
        );
        let mut rebuilt_rows = 0;
        if let Some((_, commit)) = commits.latest()? {
            tracker.restore(&commit.watermarks, commit.next_batch_watermark_ms);
            rebuilt_rows = commit.rebuilt_rows.unwrap_or(0);
        }
        let (state, operators, note) = match from {
            Some(from) => {
                let (state, operators, note) = QueryState::open(&spec, &checkpoint, from)?;
                (Some(state), operators, note)
            }
            None => (None, Vec::new(), serde_json::Value::Null),
        };
        let is_emptied = from.is_some_and(|from| from.is_emptied);
        let run_id = checkpoint.run().map(|run| run.record().run_id.clone()).unwrap_or_default();
        let dead_letters = DeadLetters::open(&checkpoint)?;
        let mut query = Self {
            name: spec.name,
            plan: spec.plan,
            settings: spec.settings,
            standing,
            checkpoint,
            run_id,
            sources,
            sink,
            dead_letters,
            offsets,
            commits,
            state,
            operators,
            tracker,
            refreshes: Refreshes::default(),
            position: Vec::new(),
            next_batch: 0,
            last_watermark_ms: 0,
            first_step: next,
            part: None,
            letters: None,
            rebuilt_rows,
            last_start_ms: clock.now_ms(),
            last_start_ns: None,
            clock,
            listener,
            control,
        };
        query.find_position(&note)?;
        if !is_emptied {
            query.standing.record(&query.plan.operators, &query.checkpoint)?;
        }
        Ok(query)
    }

    /// Finds where to go on, and finishes a commit that was all but done.
    fn find_position(&mut self, note: &serde_json::Value) -> Result<()> {
        if let Step::FinishCommit { batch } = self.first_step {
            let entry = if self.state.is_some() { read_note(note)? } else { CommitLogEntry::default() };
            self.commits.add(batch, &entry)?;
            self.listener.on_commit();
            self.tracker.restore(&entry.watermarks, entry.next_batch_watermark_ms);
            self.rebuilt_rows = entry.rebuilt_rows.unwrap_or(0);
            self.first_step = Step::RunNew { batch: batch + 1 };
        }
        let batch = self.first_step.batch();
        self.next_batch = batch;
        let Some(last) = batch.checked_sub(1) else {
            self.position = match (self.offsets.get(0)?, self.standing.first_offsets()) {
                (Some(entry), _) => entry.starts.into_iter().flatten().collect(),
                (None, Some(first)) if first.len() == self.sources.len() => first.clone(),
                (None, _) => self.sources.iter_mut().map(|source| source.initial_offset()).collect::<Result<_>>()?,
            };
            return self.standing.record_first_offsets(&self.checkpoint, &self.position);
        };
        let entry = self.offsets.get(last)?.ok_or_else(|| {
            EngineError::data(format!("query '{}': the offset log has no entry {last}", self.name))
                .help("restore the checkpoint from a backup")
        })?;
        self.last_watermark_ms = entry.batch_watermark_ms;
        self.position = entry.ends.into_iter().flatten().collect();
        Ok(())
    }

    /// Runs until the trigger or the owner ends the query.
    pub(crate) fn run(mut self) -> Result<()> {
        self.listener.on_started(self.standing.id(), &self.run_id);
        if let Step::Replay { batch, write_sink } = self.first_step {
            let entry = self.offsets.get(batch)?.ok_or_else(|| EngineError::internal("a replay without offsets"))?;
            tracing::info!(query = self.name, batch, "replaying the batch that was under way");
            if self.standing.gives_up() {
                self.give_up_part(batch, &entry, write_sink)?;
            } else {
                let timer = Timer::start(&self.clock);
                self.run_entry(batch, &entry, write_sink, timer)?;
            }
        }
        self.rebuild()?;
        self.sources.iter_mut().zip(&self.position).try_for_each(|(source, position)| source.begin_at(position))?;
        let until = match self.settings.trigger {
            Trigger::AvailableNow => {
                Some(self.sources.iter_mut().map(|source| source.latest_offset()).collect::<Result<Vec<_>>>()?)
            }
            _ => None,
        };
        if let Trigger::RealTime(open_for) = self.settings.trigger {
            self.run_real_time(open_for)?;
        }
        while !self.control.should_stop() {
            let ran = self.next(until.as_deref())?;
            match self.settings.trigger {
                Trigger::Once => break,
                Trigger::AvailableNow if !ran => break,
                Trigger::AvailableNow => {}
                _ => self.wait(ran),
            }
        }
        if let Some(state) = &mut self.state {
            state.finish()?;
        }
        Ok(())
    }

    /// Waits for the next trigger, or a moment if there was nothing to do.
    fn wait(&self, ran: bool) {
        let mut left = self.settings.trigger.wait(self.last_start_ms, self.clock.now_ms());
        if !ran {
            left = left.max(POLL);
        }
        while !left.is_zero() && !self.control.should_stop() {
            let step = left.min(Duration::from_millis(50));
            self.clock.sleep(step);
            left = left.saturating_sub(step);
        }
    }

    /// Plans and runs the next batch, if there is anything to do.
    fn next(&mut self, until: Option<&[Offset]>) -> Result<bool> {
        self.listener.on_trigger();
        let mut timer = Timer::start(&self.clock);
        let ends = timer.phase(
            |d| &mut d.latest_offset,
            || plan_ends(&mut self.sources, &self.position, until, self.settings.trigger),
        )?;
        if ends == self.position && !self.needs_empty_batch(self.tracker.watermark_ms()) {
            self.listener.on_idle();
            return Ok(false);
        }
        self.run_planned(ends, timer)?;
        Ok(true)
    }

    /// Runs the next batch, whose ends are planned.
    pub(super) fn run_planned(&mut self, ends: Vec<Offset>, mut timer: Timer) -> Result<()> {
        let mut entry = self.new_entry();
        entry.ends = ends.into_iter().map(Some).collect();
        let batch = self.next_batch;
        timer.phase(|d| &mut d.wal_commit, || self.offsets.add(batch, &entry))?;
        self.run_entry(batch, &entry, true, timer)
    }

    /// A batch that begins now, without its ends.
    pub(super) fn new_entry(&mut self) -> OffsetLogEntry {
        self.last_start_ms = self.clock.now_ms();
        OffsetLogEntry {
            batch_watermark_ms: self.tracker.watermark_ms(),
            batch_timestamp_ms: self.last_start_ms,
            conf: conf_of(&self.plan),
            watermarks: serde_json::Map::new(),
            starts: self.position.iter().cloned().map(Some).collect(),
            ends: Vec::new(),
        }
    }

    /// Whether the watermark moved and an operator heeds it, so that a batch follows even without rows.
    pub(super) fn needs_empty_batch(&self, watermark_ms: i64) -> bool {
        let moved = self.tracker.is_active() && watermark_ms > self.last_watermark_ms;
        moved && self.plan.operators.iter().any(|stage| stage.spec.heeds_watermark())
    }

    pub(super) fn run_entry(
        &mut self,
        batch: BatchId,
        entry: &OffsetLogEntry,
        write_sink: bool,
        mut timer: Timer,
    ) -> Result<()> {
        let jobs = self.open_readers(entry)?;
        self.part = Rebuild::of(batch, entry)?.map(|rebuild| rebuild.part(entry));
        let outcome = timer.phase(|d| &mut d.add_batch, || self.compute(batch, entry, jobs, write_sink))?;
        self.conclude(batch, entry, &outcome, write_sink, timer)
    }

    /// Commits a batch that is computed, and whose range is written.
    pub(super) fn conclude(
        &mut self,
        batch: BatchId,
        entry: &OffsetLogEntry,
        outcome: &BatchOutcome,
        write_sink: bool,
        mut timer: Timer,
    ) -> Result<()> {
        // Asked ahead of the commit only where the watermark needs it, since whoever reads the sink waits for that.
        let unread = if self.tracker.is_active() { Some(self.unread(entry)?) } else { None };
        let behind = unread.as_deref().map(partitions_of).unwrap_or_default();
        let part = self.part.take();
        let rebuilds = part.is_some();
        if rebuilds {
            self.rebuilt_rows += outcome.reads.iter().map(|reads| reads.records).sum::<u64>();
            // Ahead of the first rows: whoever reads the state of earlier batches finds what it meant.
            let first = Rebuild::of(batch, entry)?.filter(|_| part != Some(Part::GivenUp)).map(|rebuild| rebuild.first);
            self.standing.describe(&self.plan.operators, first.or(Some(batch)), &self.checkpoint)?;
        }
        self.letters.take().map_or(Ok(()), |letters| self.dead_letters.keep(letters))?;
        self.tracker.observe(&outcome.event_times, &behind, entry.batch_timestamp_ms);
        let commit = CommitLogEntry {
            next_batch_watermark_ms: self.tracker.watermark_ms(),
            watermarks: self.tracker.save(),
            rebuilt_rows: rebuilds.then_some(self.rebuilt_rows),
        };
        if let Some(state) = &mut self.state {
            let note = write_note(&commit)?;
            timer.phase(|d| &mut d.state_commit, || state.commit(batch, &mut self.operators, note))?;
        }
        let report = timer
            .phase(|d| &mut d.sink_commit, || if write_sink { self.sink.commit() } else { Ok(Default::default()) })?;
        timer.phase(|d| &mut d.commit_offsets, || self.commits.add(batch, &commit))?;
        self.listener.on_commit();
        if rebuilds {
            self.standing.record(&self.plan.operators, &self.checkpoint)?;
        }
        self.position = entry.ends.iter().flatten().cloned().collect();
        for (source, end) in self.sources.iter_mut().zip(&self.position) {
            source.commit(end)?;
        }
        self.last_watermark_ms = entry.batch_watermark_ms;
        self.next_batch = batch + 1;
        self.maintain(batch, &mut timer)?;
        let unread = unread.map_or_else(|| self.unread(entry), Ok)?;
        let progress = progress_of(self, batch, entry, outcome, report, timer, unread)?;
        self.listener.on_progress(&progress);
        Ok(())
    }

    fn open_readers(&mut self, entry: &OffsetLogEntry) -> Result<Vec<ReadJob>> {
        let mut jobs = Vec::new();
        for stage in 0..self.plan.source_stages.len() {
            let Some(range) = entry.range(stage).filter(|range| range.start != range.end) else { continue };
            let readers = self.sources[stage].read(&range)?;
            jobs.extend(readers.into_iter().map(|reader| ReadJob { stage, reader, waits: false }));
        }
        Ok(jobs)
    }

    /// What there is to read after this batch, by source.
    fn unread(&mut self, entry: &OffsetLogEntry) -> Result<Vec<Unread>> {
        let ends = entry.ends.iter().map(Option::as_ref);
        let unread = |(source, end): (&mut Box<dyn Source>, Option<&Offset>)| match end {
            Some(end) => source.unread(end),
            None => Ok(Unread::default()),
        };
        self.sources.iter_mut().zip(ends).map(unread).collect()
    }

    /// Reads and computes the batch and stages its rows in the sink.
    pub(super) fn compute(
        &mut self,
        batch: BatchId,
        entry: &OffsetLogEntry,
        jobs: Vec<ReadJob>,
        write_sink: bool,
    ) -> Result<BatchOutcome> {
        let (part, watermarks) = (self.part, self.watermarks_of(entry));
        // Rows that never change have been written already; others are written anew, as they are when all is read.
        let mutes = match self.plan.output_mode {
            OutputMode::Append => part.is_some(),
            OutputMode::Update => false,
            OutputMode::Complete => part.is_some_and(Part::has_others),
        };
        self.plan.batch_time.set(entry.batch_timestamp_ms);
        self.plan.draws.begin(batch);
        let unless_told = match self.settings.trigger {
            Trigger::RealTime(_) => REAL_TIME_REFRESH,
            _ => Duration::ZERO,
        };
        self.refreshes.begin_batch(&self.plan.joins, self.clock.now_ms(), unless_told)?;
        if write_sink {
            self.sink.begin(batch)?;
        }
        // Those of rows that are read once more were written when they were read first.
        self.letters = part.is_none().then(|| self.dead_letters.of_batch(batch));
        let settings = BatchSettings {
            workers: self.settings.parallelism.max(1),
            time_us: entry.batch_timestamp_ms.saturating_mul(1000),
            early: write_sink && part.is_none() && self.sink.is_immediate(),
            part,
            letters: self.letters.as_ref(),
            abort: &self.control.abort,
        };
        let relations = self.plan.whole_result.as_ref().map_or(0, BatchPlan::relations);
        let mut whole = vec![Vec::new(); relations];
        let sink = &mut self.sink;
        let mut take = |(relation, rows): ResultRows| match (write_sink && !mutes, whole.get_mut(relation)) {
            (false, _) => Ok(()),
            (true, Some(of_relation)) => {
                of_relation.push(rows);
                Ok(())
            }
            (true, None) => sink.write(&rows),
        };
        let outcome = run_batch(&self.plan, &mut self.operators, jobs, settings, watermarks, &mut take);
        let staged = outcome.and_then(|outcome| {
            if let (true, Some(query)) = (write_sink && !mutes, &self.plan.whole_result) {
                query.run(whole)?.iter().try_for_each(|rows| self.sink.write(rows))?;
            }
            if write_sink {
                self.sink.prepare()?;
            }
            Ok(outcome)
        });
        if staged.is_err() && write_sink {
            // The error of the batch is what matters; what the sink leaves behind is cleaned up at the next start.
            if let Err(error) = self.sink.abort() {
                tracing::warn!(query = self.name, batch, %error, "giving up the batch in the sink failed");
            }
        }
        staged
    }

    /// What is late in a batch, and what is final.
    fn watermarks_of(&self, entry: &OffsetLogEntry) -> BatchWatermarks {
        if !self.tracker.is_active() {
            return BatchWatermarks { late_us: None, evict_us: None };
        }
        let is_whole = !self.part.is_some_and(Part::has_others);
        BatchWatermarks {
            // Rows that are read once more are all on time.
            late_us: Some(self.last_watermark_ms.saturating_mul(1000)).filter(|_| self.part.is_none()),
            evict_us: Some(entry.batch_watermark_ms.saturating_mul(1000)).filter(|_| is_whole),
        }
    }

    /// Snapshots and pruning, when they are due.
    fn maintain(&mut self, batch: BatchId, timer: &mut Timer) -> Result<()> {
        if let Some(state) = &mut self.state {
            timer.phase(|d| &mut d.state_commit, || state.snapshot_if_due(batch, &mut self.operators))?;
        }
        if batch.is_multiple_of(PRUNE_EVERY)
            && let Some(keep_from) = self.settings.retention.prune_logs(&self.offsets, &self.commits)?
            && let Some(state) = &self.state
        {
            state.prune(keep_from)?;
        }
        Ok(())
    }
}

/// The partitions that have rows, of all sources.
fn partitions_of(unread: &[Unread]) -> BTreeSet<String> {
    let of_source = |(index, unread): (usize, &Unread)| {
        unread.partitions.iter().map(|partition| partition_name(index, partition)).collect::<Vec<_>>()
    };
    unread.iter().enumerate().flat_map(of_source).collect()
}

/// The ends of the next batch.
fn plan_ends(
    sources: &mut [Box<dyn Source>],
    starts: &[Offset],
    until: Option<&[Offset]>,
    trigger: Trigger,
) -> Result<Vec<Offset>> {
    let mut ends = Vec::new();
    for (index, (source, start)) in sources.iter_mut().zip(starts).enumerate() {
        // Once takes everything there is now in one batch, whatever the limits: they are asked again until nothing is left.
        let all = if trigger == Trigger::Once { Some(source.latest_offset()?) } else { None };
        let until = all.as_ref().or_else(|| until?.get(index));
        let mut end = source.plan_batch(start, until)?;
        while all.is_some() {
            let further = source.plan_batch(&end, until)?;
            if further == end {
                break;
            }
            end = further;
        }
        ends.push(end);
    }
    Ok(ends)
}

/// What the progress of a batch is made from.
impl StreamingQuery {
    pub(super) fn source_mut(&mut self, index: usize) -> &mut dyn Source {
        self.sources[index].as_mut()
    }

    /// Notes when this batch began, and says when the one before it did.
    pub(super) fn replace_start(&mut self, start_ns: u64) -> Option<u64> {
        self.last_start_ns.replace(start_ns)
    }

    pub(super) fn identity(&self) -> (String, String, String) {
        (self.standing.id().to_owned(), self.run_id.clone(), self.name.clone())
    }

    pub(super) fn sink_description(&self) -> String {
        self.sink.description()
    }

    pub(super) fn has_watermark(&self) -> bool {
        self.tracker.is_active()
    }

    /// The stateful operators with their workers.
    pub(super) fn operators(&self) -> impl Iterator<Item = (&OperatorStage, &Vec<Box<dyn Operator>>)> {
        self.plan.operators.iter().zip(&self.operators)
    }

    /// The static sides of joins that were read, as the last batch saw them.
    pub(super) fn static_tables(&self) -> Vec<StaticTableProgress> {
        self.plan.joins.iter().filter_map(|join| join.side().progress()).collect()
    }

    pub(super) fn checkpoint_progress(&self) -> Option<CheckpointProgress> {
        self.state.as_ref().map(QueryState::checkpoint_progress)
    }

    pub(super) fn store_memory_bytes(&self) -> u64 {
        self.state.as_ref().map_or(0, QueryState::store_memory_bytes)
    }
}
