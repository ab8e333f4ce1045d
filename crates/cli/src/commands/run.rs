//! `highwater run`: runs the queries of a project, a file or a text until they end or the user ends them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use highwater_engine::query::Pipeline;

use crate::error::{Failure, Result};
use crate::progress::live::LiveView;
use crate::project::{Project, Target};
use crate::run::{self, Overrides, Run};
use crate::signals::Interrupt;
use crate::topic::client::key_value;

/// What to run, for the verbs that read a project.
#[derive(Debug, clap::Args)]
pub(crate) struct Subject {
    /// An SQL file or a project folder; the current folder if it is a project
    target: Option<PathBuf>,
    /// SQL text instead of a file
    #[arg(long = "execute", short = 'e', value_name = "SQL", conflicts_with = "target")]
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

impl Planned {
    /// Reads the project and plans its queries.
    pub(crate) fn open(&self) -> Result<Pipeline> {
        let (storage, checkpoints) = (self.storage.clone(), self.checkpoints.clone());
        let overrides = Overrides { storage, checkpoints, ..Overrides::default() };
        run::open(&self.subject.load()?, &overrides)
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
    /// Show no progress
    #[arg(long, short = 'q')]
    quiet: bool,
}

fn parallelism(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err(format!("'{text}' is not a number of threads from 1 to 1024")),
    }
}

/// Runs until every query has ended.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let project = arguments.subject.load()?;
    let overrides = Overrides {
        storage: arguments.storage.clone(),
        checkpoints: arguments.checkpoints.clone(),
        trigger: arguments.trigger.clone(),
        parallelism: arguments.parallelism,
    };
    let interrupt = Interrupt::listen()?;
    let pipeline = run::open(&project, &overrides)?;
    let flows = pipeline.flows();
    if flows.is_empty() {
        return Err(Failure::invalid(format!("{} has no query to run", project.name))
            .help("add CREATE STREAMING TABLE ... AS SELECT ..., CREATE FLOW ..., or a SELECT"));
    }
    // Rows on the console and a picture that is drawn over them would spoil each other.
    let to_console = flows.iter().any(|flow| flow.target.contains("console"));
    let run = Run::start(vec![pipeline])?;
    let view = LiveView::new(run.board(), arguments.quiet || to_console);
    run.watch(view, &interrupt, |_| {})
}
