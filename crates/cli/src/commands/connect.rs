//! `highwater connect`: serves Spark Connect until Ctrl-C.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use highwater_engine::plan::ScriptFile;
use highwater_engine::plan::outline::outline;
use highwater_engine::query::SessionStatement;

use crate::connect::{Server, Settings};
use crate::error::Result;
use crate::project::{DEFAULT_STORAGE, Project, Target};
use crate::signals::Interrupt;

const EXAMPLES: &str = "\
Examples:
  highwater connect
  highwater connect --listen 127.0.0.1:0 --storage /var/lib/highwater
  highwater connect my-project          # its tables by name, its storage
Then, with the plain Python client (pip install pyspark-client):
  SPARK_REMOTE=sc://127.0.0.1:15002 python program.py";

/// Arguments of `connect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A project folder or SQL file whose CREATE TABLE and CREATE VIEW statements every session knows
    project: Option<PathBuf>,
    /// Where clients connect, on this machine only; port 0 takes a free one
    #[arg(long, env = "HIGHWATER_CONNECT_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:15002")]
    listen: SocketAddr,
    /// Where tables and checkpoints are kept; the project's storage, else ./highwater-data
    #[arg(long, env = "HIGHWATER_STORAGE", value_name = "DIR")]
    storage: Option<PathBuf>,
    /// How long a session is kept that nobody uses and that runs no streaming query
    #[arg(long, env = "HIGHWATER_CONNECT_SESSION_TIMEOUT", value_name = "TIME", default_value = "1 hour",
        value_parser = crate::duration::parse)]
    session_timeout: Duration,
}

/// Serves until the user ends it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let project = match &arguments.project {
        Some(path) => Some(Project::load(&Target::Path(path.clone()), &BTreeMap::new())?),
        None => None,
    };
    let stored = project.as_ref().and_then(|project| project.storage.clone());
    let statements = match &project {
        Some(project) => definitions(project)?,
        None => Vec::new(),
    };
    let server = Server::start(Settings {
        listen: arguments.listen,
        storage: arguments.storage.clone().or(stored).unwrap_or_else(|| DEFAULT_STORAGE.into()),
        statements,
        configuration: project.map(|project| project.configuration).unwrap_or_default(),
        session_timeout: arguments.session_timeout,
    })?;
    tracing::info!("Spark Connect at sc://{}; Ctrl-C ends it", server.address());
    while interrupt.sleep(Duration::from_secs(3600)) {}
    server.shutdown();
    Ok(())
}

/// The tables and views of a project, without what fills them: its flows are run by `highwater run`.
fn definitions(project: &Project) -> Result<Vec<String>> {
    let files: Vec<ScriptFile> =
        project.files.iter().map(|file| ScriptFile { name: file.name.clone(), text: file.text.clone() }).collect();
    let texts = outline(&files)?.into_iter().filter_map(|statement| {
        files.get(statement.file)?.text.get(statement.bytes).map(|text| text.trim().trim_end_matches(';').to_owned())
    });
    let is_definition = |text: &String| matches!(SessionStatement::parse(text), Ok(SessionStatement::Definition(_)));
    Ok(texts.filter(is_definition).collect())
}
