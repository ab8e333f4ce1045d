//! `highwater run`: runs the queries of a project, a file or a text until they end or the user ends them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;
use clap::parser::ValueSource;
use highwater_engine::error::EngineError;
use highwater_engine::query::{FlowDescription, Pipeline, QueryChanges, RetryAttempts};

use super::dry_run;
use crate::error::{Failure, Result};
use crate::output::Format;
use crate::progress::live::LiveView;
use crate::project::{Project, Target};
use crate::run::{self, OnFailure, Overrides, Run};
use crate::signals::Interrupt;
use crate::spark::{Engine, SparkProject};
use crate::topic::client::key_value;

/// What to run, for the verbs that read a project.
#[derive(Debug, clap::Args)]
pub(crate) struct Subject {
    /// An SQL file or a project folder; the current folder if it is a project
    target: Option<PathBuf>,
    /// SQL text instead of a file
    #[arg(long = "execute", short = 'e', value_name = "SQL", conflicts_with = "target", allow_hyphen_values = true)]
    text: Option<String>,
    /// Replaces ${NAME} in the SQL text
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = key_value)]
    params: Vec<(String, String)>,
}

impl Subject {
    /// Reads the project.
    pub(crate) fn load(&self) -> Result<Project> {
        self.load_with(&BTreeMap::new())
    }

    /// Reads the project for its name and folder: parameters may come later, from its tests.
    pub(crate) fn load_for_tests(&self) -> Result<Project> {
        Project::load_unresolved(&self.target()?)
    }

    /// Reads the project with values for parameters that the command line does not give.
    pub(crate) fn load_with(&self, defaults: &BTreeMap<String, String>) -> Result<Project> {
        let mut params = defaults.clone();
        params.extend(self.params.iter().cloned());
        Project::load(&self.target()?, &params)
    }

    fn target(&self) -> Result<Target> {
        match (&self.text, &self.target) {
            (Some(text), _) => Ok(Target::Text(text.clone())),
            (None, Some(path)) => Ok(Target::Path(path.clone())),
            (None, None) => match Project::around(Path::new(".")) {
                Some(folder) => Ok(Target::Path(folder)),
                None => Err(Failure::usage("nothing to run: this folder has no spark-pipeline.yml").help(
                    "name an SQL file or a project folder, give SQL with -e, or make a project: highwater init NAME",
                )),
            },
        }
    }
}

/// A project to be planned, for the verbs that do not run it.
#[derive(Debug, clap::Args)]
pub(crate) struct Planned {
    #[command(flatten)]
    subject: Subject,
    /// Where tables and checkpoints are kept; the project's storage, else ./highwater-data
    #[arg(long, env = "HIGHWATER_STORAGE", value_name = "DIR")]
    storage: Option<PathBuf>,
    /// Where checkpoints are kept if not in the storage: a path, s3://BUCKET/PREFIX or hdfs://HOST/PATH
    #[arg(long, env = "HIGHWATER_CHECKPOINTS", value_name = "LOCATION")]
    checkpoints: Option<String>,
}

/// What may happen to the state of queries that were changed.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Changes {
    /// Compute the state of this query, or of all, anew from its input since it first ran. Rows of output mode append
    /// that were written stay as they are, others are written anew
    #[arg(long, value_name = "QUERY|all")]
    rebuild: Vec<String>,
    /// Let this query, or all, forget for good the state of operators that it no longer has
    #[arg(long, value_name = "QUERY|all")]
    drop_state: Vec<String>,
}

/// All queries.
const ALL: &str = "all";

impl Changes {
    pub(crate) fn of_queries(&self) -> QueryChanges {
        let each = |name: &String| if name == ALL { "*".to_owned() } else { name.clone() };
        let names = |names: &[String]| names.iter().map(each).collect();
        QueryChanges { rebuild: names(&self.rebuild), drop_state: names(&self.drop_state) }
    }

    /// Refuses the name of a query that there is not.
    pub(crate) fn check(&self, flows: &[FlowDescription]) -> Result<()> {
        let named = self.rebuild.iter().chain(&self.drop_state);
        let unknown = named.into_iter().find(|name| *name != ALL && flows.iter().all(|flow| flow.name != **name));
        let Some(unknown) = unknown else { return Ok(()) };
        let names: Vec<&str> = flows.iter().map(|flow| flow.name.as_str()).collect();
        Err(Failure::usage(format!("there is no query '{unknown}'"))
            .help(format!("its queries are {}", names.join(", "))))
    }
}

impl Planned {
    /// Reads the project and plans its queries.
    pub(crate) fn open(&self) -> Result<Pipeline> {
        self.open_changed(&Changes::default())
    }

    /// Reads the project, plans its queries, and gives both.
    pub(crate) fn open_with_project(&self) -> Result<(Project, Pipeline)> {
        let (storage, checkpoints) = (self.storage.clone(), self.checkpoints.clone());
        let project = self.subject.load()?;
        let pipeline = run::open(&project, &Overrides { storage, checkpoints, ..Overrides::default() })?;
        Ok((project, pipeline))
    }

    /// The same, for queries whose state may be changed.
    pub(crate) fn open_changed(&self, changes: &Changes) -> Result<Pipeline> {
        let (storage, checkpoints) = (self.storage.clone(), self.checkpoints.clone());
        let overrides = Overrides { storage, checkpoints, changes: changes.of_queries(), ..Overrides::default() };
        let pipeline = run::open(&self.subject.load()?, &overrides)?;
        changes.check(&pipeline.flows())?;
        Ok(pipeline)
    }
}

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    subject: Subject,
    /// Where tables and checkpoints are kept; the project's storage, else ./highwater-data
    #[arg(long, env = "HIGHWATER_STORAGE", value_name = "DIR")]
    storage: Option<PathBuf>,
    /// Where checkpoints are kept if not in the storage: a path, s3://BUCKET/PREFIX or hdfs://HOST/PATH
    #[arg(long, env = "HIGHWATER_CHECKPOINTS", value_name = "LOCATION")]
    checkpoints: Option<String>,
    /// When batches start: available-now, once, an interval such as '5 seconds', real-time, or
    /// 'real-time 50 milliseconds'
    #[arg(long, env = "HIGHWATER_TRIGGER", value_name = "TRIGGER")]
    trigger: Option<String>,
    /// Worker threads of one query; the machine's cores if not given
    #[arg(long, env = "HIGHWATER_PARALLELISM", value_name = "N", value_parser = parallelism)]
    parallelism: Option<usize>,
    /// How often a query is started again after an error that may pass, in a row without a batch: a number or unlimited; 5
    /// if not given
    #[arg(long, env = "HIGHWATER_RETRIES", value_name = "N", value_parser = retries)]
    retries: Option<RetryAttempts>,
    /// What happens to the other queries when one has failed for good; they go on if not given
    #[arg(long, env = "HIGHWATER_ON_FAILURE", value_enum)]
    on_failure: Option<OnFailure>,
    #[command(flatten)]
    changes: Changes,
    /// What runs the queries: highwater, or a Spark Connect server, sc://HOST:PORT[/;token=...;use_ssl=true]
    #[arg(long, env = "HIGHWATER_ENGINE", hide_env_values = true, value_name = "ENGINE", default_value = "highwater")]
    engine: Engine,
    /// The Kafka through which Spark hands on rows for sinks it does not have (SQLite); they are drained here
    #[arg(long, value_name = "HOST:PORT")]
    route_through: Option<String>,
    /// Only say what a run would find and do, as `highwater dry-run` does, and change nothing
    #[arg(long, conflicts_with = "route_through")]
    dry_run: bool,
    /// Show no progress
    #[arg(long, short = 'q')]
    quiet: bool,
}

impl Arguments {
    fn overrides(&self) -> Overrides {
        let trigger = self.trigger.clone();
        match self.engine {
            Engine::Server(_) => Overrides { trigger, ..Overrides::default() },
            Engine::Highwater | Engine::Spark => Overrides {
                storage: self.storage.clone(),
                checkpoints: self.checkpoints.clone(),
                trigger,
                parallelism: self.parallelism,
                retries: self.retries,
                changes: self.changes.of_queries(),
            },
        }
    }

    /// Refuses what is said to an engine that has no use for it. What the environment says is for every run of a machine:
    /// a unit or an image sets it, whichever engine its project has.
    fn check_engine(&self, matches: &ArgMatches) -> Result<()> {
        match &self.engine {
            Engine::Highwater => Ok(()),
            Engine::Spark => Err(Failure::usage("--engine spark does not say which Spark")
                .help("name its Spark Connect server: --engine sc://HOST:PORT")),
            Engine::Server(_) => {
                let ours = [
                    "storage",
                    "checkpoints",
                    "parallelism",
                    "retries",
                    "on_failure",
                    "dry_run",
                    "rebuild",
                    "drop_state",
                ];
                let is_said = |name: &&&str| matches.value_source(name) == Some(ValueSource::CommandLine);
                let Some(name) = ours.iter().find(is_said) else { return Ok(()) };
                Err(Failure::usage(format!(
                    "--{} is for Highwater's own engine, and --engine names Spark",
                    name.replace('_', "-")
                ))
                .help("leave it out; the storage of spark-pipeline.yml is Spark's too"))
            }
        }
    }
}

fn retries(text: &str) -> Result<RetryAttempts, String> {
    text.parse().map_err(|error: EngineError| error.to_string())
}

fn parallelism(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err(format!("'{text}' is not a number of threads from 1 to 1024")),
    }
}

/// Runs until every query has ended.
pub(crate) fn run(arguments: &Arguments, matches: &ArgMatches) -> Result<ExitCode> {
    let project = arguments.subject.load()?;
    let interrupt = Interrupt::listen()?;
    arguments.check_engine(matches)?;
    let pipeline = run::open(&project, &arguments.overrides())?;
    let flows = pipeline.flows();
    arguments.changes.check(&flows)?;
    if flows.is_empty() {
        return Err(Failure::invalid(format!("{} has no query to run", project.name))
            .help("add CREATE STREAMING TABLE ... AS SELECT ..., CREATE FLOW ..., or a SELECT"));
    }
    if arguments.dry_run {
        return dry_run::look(&pipeline, Format::Table).map(|()| ExitCode::SUCCESS);
    }
    if let Engine::Server(address) = &arguments.engine {
        let project = SparkProject::new(&project, flows, arguments.route_through.as_deref())?;
        project.tell_notes();
        return project.run(address, arguments.quiet, &interrupt);
    }
    // Rows on the console and a picture that is drawn over them would spoil each other.
    let to_console = flows.iter().any(|flow| flow.target.contains("console"));
    let on_failure = run::on_failure(&project, arguments.on_failure)?;
    let run = Run::start(vec![pipeline])?.on_failure(on_failure);
    let view = LiveView::new(run.board(), arguments.quiet || to_console);
    run.watch(view, &interrupt, |_| {})
}
