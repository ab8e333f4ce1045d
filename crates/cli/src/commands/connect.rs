//! `highwater connect`: serves Spark Connect until Ctrl-C.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use highwater_broker::SecretRef;
use highwater_engine::plan::ScriptFile;
use highwater_engine::plan::outline::outline;
use highwater_engine::query::SessionStatement;

use crate::connect::{Door, Server, Settings};
use crate::error::Result;
use crate::project::{DEFAULT_STORAGE, Project, Target};
use crate::signals::Interrupt;

const EXAMPLES: &str = "\
Examples:
  highwater connect
  highwater connect --listen 127.0.0.1:0 --storage /var/lib/highwater
  highwater connect my-project          # its tables by name, its storage
  highwater connect --listen 0.0.0.0:15002 --token-file token --tls-certificate tls.crt --tls-key tls.key
Then, with the plain Python client (pip install pyspark-client):
  SPARK_REMOTE=sc://127.0.0.1:15002 python program.py";

/// Arguments of `connect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A project folder or SQL file whose CREATE TABLE and CREATE VIEW statements every session knows
    project: Option<PathBuf>,
    /// Where clients connect; other machines only with a token and a certificate; port 0 takes a free one
    #[arg(long, env = "HIGHWATER_CONNECT_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:15002")]
    listen: SocketAddr,
    /// Where tables and checkpoints are kept; the project's storage, else ./highwater-data
    #[arg(long, env = "HIGHWATER_STORAGE", value_name = "DIR")]
    storage: Option<PathBuf>,
    /// The environment variable with the token that clients must show (sc://HOST:PORT/;token=...)
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    token_env: Option<String>,
    /// The file with the token that clients must show
    #[arg(long, env = "HIGHWATER_CONNECT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A PEM file: the certificate clients see, followed by those that signed it; read again when it changes
    #[arg(long, env = "HIGHWATER_CONNECT_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The PEM file of its key
    #[arg(long, env = "HIGHWATER_CONNECT_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// How long a session is kept that nobody uses and that runs no streaming query
    #[arg(long, env = "HIGHWATER_CONNECT_SESSION_TIMEOUT", value_name = "TIME", default_value = "1 hour",
        value_parser = crate::duration::parse)]
    session_timeout: Duration,
}

impl Arguments {
    fn door(&self) -> Result<Door> {
        let in_env = self.token_env.clone().map(SecretRef::Env);
        let token = in_env.or_else(|| self.token_file.clone().map(SecretRef::File));
        Door::open(token.as_ref(), self.tls_certificate.clone().zip(self.tls_key.clone()))
    }
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
    let settings = Settings {
        listen: arguments.listen,
        storage: arguments.storage.clone().or(stored).unwrap_or_else(|| DEFAULT_STORAGE.into()),
        statements,
        configuration: project.map(|project| project.configuration).unwrap_or_default(),
        session_timeout: arguments.session_timeout,
    };
    let server = Server::start(settings, arguments.door()?)?;
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
