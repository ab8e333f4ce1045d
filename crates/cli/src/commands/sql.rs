//! `highwater sql`: one query over the tables of a storage folder, while pipelines write to them or after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_connectors::registry::connectors;

use super::checkpoint;
use crate::config::parameters::Parameters;
use crate::error::{Failure, Result};
use crate::output::{self, Format};
use crate::project::{DEFAULT_STORAGE, Project};
use crate::topic::client::key_value;

/// The folder of tables and checkpoints, for the verbs that look into one.
#[derive(Debug, clap::Args)]
pub(crate) struct Storage {
    /// The folder of tables and checkpoints; the storage of the project in the current folder, else ./highwater-data
    #[arg(long, env = "HIGHWATER_STORAGE", value_name = "DIR")]
    storage: Option<PathBuf>,
}

impl Storage {
    /// The folder, which must be there.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        let folder = match &self.storage {
            Some(folder) => folder.clone(),
            None => match Project::around(Path::new(".")) {
                Some(folder) => Project::storage_in(&folder)?,
                None => DEFAULT_STORAGE.into(),
            },
        };
        if folder.is_dir() {
            return Ok(folder);
        }
        Err(Failure::usage(format!("there is no storage folder {}", folder.display()))
            .help("name the one a pipeline was run with: --storage DIR"))
    }
}

const EXAMPLES: &str = "\
Examples:
  highwater sql 'SELECT * FROM totals ORDER BY k LIMIT 10'
  highwater sql \"SELECT * FROM state('totals')\"                       # the tables its operators keep
  highwater sql \"SELECT * FROM state('totals', 'aggregate-0', 12)\"    # one of them, after batch 12";

/// Arguments of `sql`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The query, such as 'SELECT * FROM t LIMIT 10'
    query: String,
    #[command(flatten)]
    storage: Storage,
    /// How rows are printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
    /// Replaces ${NAME} in the query
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = key_value)]
    params: Vec<(String, String)>,
}

/// Prints the query's rows.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let params: BTreeMap<String, String> = arguments.params.iter().cloned().collect();
    let query = Parameters::default().with(params).substitute("query", &arguments.query)?;
    let folder = arguments.storage.folder()?;
    let checkpoint = |query: &str| checkpoint::of_query(&folder, query);
    let (schema, batches) = highwater_engine::query::select_with_state(&query, &folder, &connectors(), &checkpoint)?;
    output::write_rows(arguments.output, &schema, &batches, &mut std::io::stdout().lock())
}
