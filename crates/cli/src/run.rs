//! From a project to a running pipeline, and from there to its end.
//!
//! ```text
//!   Project ──open──> Pipeline ──start──> RunningPipeline ──watch──> done, stopped (Ctrl-C), aborted (Ctrl-C again)
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use highwater_connectors::registry::connectors;
use highwater_engine::clock::SystemClock;
use highwater_engine::error::EngineError;
use highwater_engine::plan::catalog::Options;
use highwater_engine::plan::{Program, ScriptFile};
use highwater_engine::query::{
    FlowSettings, Period, Pipeline, PipelineSettings, QueryChanges, QueryFailure, RetryAttempts, RetrySettings,
    RunningPipeline, TtlSettings,
};

use crate::config::highwater_yml::{self, HighwaterYml, Setting};
use crate::config::secrets;
use crate::error::{Failure, Result};
use crate::progress::board::{Board, lag};
use crate::progress::live::LiveView;
use crate::project::{DEFAULT_STORAGE, Project};
use crate::signals::Interrupt;

/// How often a watched run is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long queries may take to drop their batch. One that hangs in a call to the outside is then left where it is:
/// whatever it was doing, the next start finds and repairs it.
const GRACE: Duration = Duration::from_secs(2);

/// The exit code of a run that was aborted: the shell's for an interrupt.
pub(crate) const ABORTED: u8 = 130;

/// What the command line says about a run; it wins over the project.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// Where tables and checkpoints are kept.
    pub(crate) storage: Option<PathBuf>,
    /// Where checkpoints are kept instead.
    pub(crate) checkpoints: Option<String>,
    /// The trigger of every flow.
    pub(crate) trigger: Option<String>,
    /// Worker threads of one query.
    pub(crate) parallelism: Option<usize>,
    /// How often a query is started again in a row.
    pub(crate) retries: Option<RetryAttempts>,
    /// What may happen to the state of queries that were changed.
    pub(crate) changes: QueryChanges,
}

/// How often a query is started again unless somebody says otherwise: half a minute of rests, beside what each start waits
/// by itself.
const RETRIES: RetryAttempts = RetryAttempts::Most(5);

/// What a run does when one of its queries has failed for good. Its exit code tells of the failure either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnFailure {
    /// The other queries finish their batch, and the run ends
    Stop,
    /// The other queries go on
    #[default]
    Continue,
}

impl std::str::FromStr for OnFailure {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text.trim() {
            "stop" => Ok(Self::Stop),
            "continue" => Ok(Self::Continue),
            _ => Err(EngineError::config(format!("on_failure is '{text}', expected stop or continue"))),
        }
    }
}

/// Plans every flow of the project; writes nothing.
pub(crate) fn open(project: &Project, overrides: &Overrides) -> Result<Pipeline> {
    let settings = settings(project, overrides)?;
    Ok(Pipeline::open(program(project)?, settings, connectors(), Arc::new(SystemClock))?)
}

/// The statements of a project.
pub(crate) fn program(project: &Project) -> Result<Program> {
    let files: Vec<ScriptFile> =
        project.files.iter().map(|file| ScriptFile { name: file.name.clone(), text: file.text.clone() }).collect();
    Ok(Program::parse(&files)?)
}

/// How a project's queries run: the command line over its `highwater.yml` over the defaults.
pub(crate) fn settings(project: &Project, overrides: &Overrides) -> Result<PipelineSettings> {
    let yml = &project.settings;
    let storage = overrides.storage.clone().or_else(|| project.storage.clone());
    let mut settings = PipelineSettings::new(storage.unwrap_or_else(|| DEFAULT_STORAGE.into()));
    settings.configuration = project.configuration.clone();
    let location = overrides.checkpoints.as_ref().or(yml.checkpoints.location.as_ref());
    settings.checkpoints.location = location.or(project.checkpoints.as_ref()).cloned();
    settings.checkpoints.options = checkpoint_options(yml);
    if let Some(format) = &yml.default_format {
        settings.default_format.clone_from(format);
    }
    if let Some(parallelism) = overrides.parallelism.or(yml.parallelism) {
        settings.query.parallelism = parallelism;
    }
    if let Some(bytes) = yml.state.memory_bytes {
        settings.query.state_memory_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    if let Some(ttl) = &yml.state.ttl {
        settings.ttl = ttl.parse()?;
    }
    let given = overrides.trigger.clone().map(Setting::given);
    if let Some(trigger) = given.as_ref().or(yml.trigger.as_ref()) {
        settings.query.trigger = trigger.parse()?;
    }
    if let Some(timeout) = &yml.idle_timeout {
        settings.query.idle_timeout = timeout.parse::<Period>()?.0;
    }
    on_failure(project, None)?;
    settings.retry = retry_settings(&yml.retry, overrides.retries)?;
    settings.changes = overrides.changes.clone();
    for (name, flow) in &yml.flows {
        settings.flows.insert(name.clone(), flow_settings(flow, given.is_some())?);
    }
    Ok(settings)
}

/// What a run of the project does when a query has failed for good: the command line over its `highwater.yml`.
pub(crate) fn on_failure(project: &Project, given: Option<OnFailure>) -> Result<OnFailure> {
    match (given, &project.settings.on_failure) {
        (Some(given), _) => Ok(given),
        (None, Some(setting)) => setting.parse(),
        (None, None) => Ok(OnFailure::default()),
    }
}

fn retry_settings(yml: &highwater_yml::Retry, attempts: Option<RetryAttempts>) -> Result<RetrySettings> {
    let mut settings = RetrySettings { attempts: RETRIES, ..RetrySettings::default() };
    if let Some(attempts) = &yml.attempts {
        settings.attempts = attempts.parse()?;
    }
    if let Some(attempts) = attempts {
        settings.attempts = attempts;
    }
    if let Some(delay) = &yml.delay {
        settings.delay = delay.parse::<Period>()?.0;
    }
    if let Some(delay) = &yml.max_delay {
        settings.max_delay = delay.parse::<Period>()?.0;
    }
    Ok(settings)
}

/// The options of the object store that checkpoints are kept in.
pub(crate) fn checkpoint_options(yml: &HighwaterYml) -> Options {
    let values = yml.checkpoints.options.iter().map(|(key, value)| (key.as_str(), value.to_string()));
    values.inspect(|(_, value)| secrets::remember_references(value)).collect()
}

/// A trigger that was given for the run is meant for every flow.
fn flow_settings(flow: &highwater_yml::FlowSettings, trigger_given: bool) -> Result<FlowSettings> {
    let trigger = flow.trigger.as_ref().filter(|_| !trigger_given);
    let operators = flow.operator_ttls.iter().map(|(id, ttl)| Ok((id.clone(), ttl.parse()?)));
    Ok(FlowSettings {
        trigger: trigger.map(Setting::parse).transpose()?,
        output_mode: flow.output_mode.as_ref().map(Setting::parse).transpose()?,
        ttl: TtlSettings {
            all: flow.ttl.as_ref().map(Setting::parse).transpose()?,
            operators: operators.collect::<Result<_>>()?,
        },
    })
}

/// Pipelines that run side by side, shown on one board.
pub(crate) struct Run {
    running: Vec<RunningPipeline>,
    board: Arc<Board>,
    began: Instant,
    on_failure: OnFailure,
}

impl Run {
    /// Starts every pipeline. If one does not start, those before it are stopped again.
    pub(crate) fn start(pipelines: Vec<Pipeline>) -> Result<Self> {
        let names = pipelines.iter().flat_map(|pipeline| pipeline.flows().into_iter().map(|flow| flow.name));
        let board = Arc::new(Board::of(names));
        let mut run = Self { running: Vec::new(), board, began: Instant::now(), on_failure: OnFailure::default() };
        for pipeline in pipelines {
            let listener: Arc<Board> = run.board.clone();
            match pipeline.start(listener) {
                Ok(running) => run.running.push(running),
                Err(error) => {
                    run.stop();
                    let _ = run.wait();
                    return Err(error.into());
                }
            }
        }
        Ok(run)
    }

    /// The same, with what it does when a query has failed for good.
    #[must_use]
    pub(crate) fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// The board the queries report to.
    pub(crate) fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    fn stop(&self) {
        self.running.iter().for_each(RunningPipeline::stop);
    }

    fn is_finished(&self) -> bool {
        self.running.iter().all(RunningPipeline::is_finished)
    }

    fn wait(self) -> Vec<QueryFailure> {
        self.running.into_iter().filter_map(|running| running.wait().err()).flatten().collect()
    }

    /// Shows the run until it ends; `each` is called now and then and may ask to stop.
    pub(crate) fn watch(
        self,
        mut view: LiveView,
        interrupt: &Interrupt,
        mut each: impl FnMut(&Board),
    ) -> Result<ExitCode> {
        let mut stopping = false;
        let mut aborting: Option<Instant> = None;
        let mut told = BTreeSet::new();
        while !self.is_finished() && aborting.is_none_or(|since| since.elapsed() < GRACE) {
            view.refresh(Utc::now());
            each(&self.board);
            if tell_failures(&self.board, self.on_failure, &mut told) && self.on_failure == OnFailure::Stop {
                self.stop();
            }
            if interrupt.requested() && !stopping {
                stopping = true;
                tracing::info!("finishing the current batch; Ctrl-C again aborts it");
                self.stop();
            }
            if interrupt.insisted() && aborting.is_none() {
                aborting = Some(Instant::now());
                tracing::warn!("aborting; the next start repeats the unfinished batch");
                self.running.iter().for_each(RunningPipeline::abort);
            }
            std::thread::sleep(LOOK);
        }
        view.finish(Utc::now());
        if aborting.is_some() {
            return Ok(ExitCode::from(ABORTED));
        }
        let (board, began) = (self.board(), self.began);
        let failures = self.wait();
        summarise(&board, began);
        failed(failures)
    }
}

/// Says at once that a query has failed while others run, and whether one has; at the end of the run its error is told in
/// full.
fn tell_failures(board: &Board, on_failure: OnFailure, told: &mut BTreeSet<String>) -> bool {
    let lines = board.lines();
    if lines.iter().all(|(_, line)| line.ended.is_some()) {
        return false;
    }
    let others = match on_failure {
        OnFailure::Stop => "finish their batch and stop",
        OnFailure::Continue => "go on",
    };
    let before = told.len();
    for (query, line) in lines {
        if let Some(Some(error)) = line.ended
            && told.insert(query.clone())
        {
            tracing::error!(query, "failed, the other queries {others}: {error}");
        }
    }
    told.len() > before
}

/// One line a query: what went in, what came out, what was left.
pub(crate) fn summarise(board: &Board, began: Instant) {
    for (query, line) in board.lines() {
        if line.progress.timestamp.is_empty() || matches!(line.ended, Some(Some(_))) {
            continue;
        }
        tracing::info!(
            query,
            rows_in = line.rows_in,
            rows_out = (!line.hides_rows_out).then_some(line.rows_out),
            late = line.late_rows,
            malformed = line.malformed,
            lag = lag(&line.progress),
            seconds = began.elapsed().as_secs(),
            "done"
        );
    }
}

fn failed(failures: Vec<QueryFailure>) -> Result<ExitCode> {
    let failed = |failure: QueryFailure| {
        let object = format!("query '{}'", failure.query);
        Failure::from(failure.error).within(&object)
    };
    let mut failures: Vec<Failure> = failures.into_iter().map(failed).collect();
    // The first one decides the exit code: another start helps those that did not fail by a mistake of the project.
    failures.sort_by_key(|failure| !failure.is_runtime());
    let mut failures = failures.into_iter();
    match failures.next() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => Err(first.and(failures)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::project::Target;

    fn settings_of(yml: &str, overrides: &Overrides) -> PipelineSettings {
        let mut project = Project::load(&Target::Text("SELECT 1".to_owned()), &BTreeMap::new()).unwrap();
        project.settings = HighwaterYml::parse("highwater.yml", yml).unwrap();
        settings(&project, overrides).unwrap()
    }

    #[test]
    fn the_command_line_wins_over_the_project_and_that_over_the_defaults() {
        let none = Overrides::default();
        let yml = "retry:\n  attempts: 7\n  max_delay: 5 minutes\nwatermark:\n  idle_timeout: 10 seconds\n";
        let defaults = settings_of("", &none);
        let secs = Duration::from_secs;
        assert_eq!(defaults.retry, RetrySettings { attempts: RETRIES, delay: secs(1), max_delay: secs(60) });
        assert_eq!(defaults.query.idle_timeout, Duration::ZERO);
        let of_project = settings_of(yml, &none);
        let seven = RetryAttempts::Most(7);
        assert_eq!(of_project.retry, RetrySettings { attempts: seven, delay: secs(1), max_delay: secs(300) });
        assert_eq!(of_project.query.idle_timeout, secs(10));
        let unlimited = Overrides { retries: Some(RetryAttempts::Unlimited), ..Overrides::default() };
        assert_eq!(settings_of(yml, &unlimited).retry.attempts, RetryAttempts::Unlimited);
    }
}
