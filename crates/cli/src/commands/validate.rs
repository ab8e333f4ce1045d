//! `highwater validate`: reads a project, plans its queries and says what they would do. Starts nothing.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use super::run::Subject;
use crate::error::{Failure, Result};
use crate::output::{self, Format, stdout_failure};
use crate::run::{self, Overrides};

/// Arguments of `validate`.
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
    /// How the list of queries is printed
    #[arg(long, value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
    /// Print the plan of each query, too
    #[arg(long)]
    explain: bool,
}

/// Prints the queries there are.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    use std::io::Write;
    let project = arguments.subject.load()?;
    let overrides = Overrides {
        storage: arguments.storage.clone(),
        checkpoints: arguments.checkpoints.clone(),
        ..Overrides::default()
    };
    let flows = run::open(&project, &overrides)?.flows();
    let column = |texts: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
    let rows = RecordBatch::try_from_iter([
        ("query", column(flows.iter().map(|flow| flow.name.clone()).collect())),
        ("target", column(flows.iter().map(|flow| flow.target.clone()).collect())),
        ("sources", column(flows.iter().map(|flow| flow.sources.join(", ")).collect())),
        ("output_mode", column(flows.iter().map(|flow| flow.output_mode.to_string()).collect())),
        ("trigger", column(flows.iter().map(|flow| flow.trigger.to_string()).collect())),
    ])
    .map_err(|error| Failure::runtime(error.to_string()))?;
    let mut stdout = std::io::stdout().lock();
    output::write_rows(arguments.output, &rows.schema(), &[rows], &mut stdout)?;
    if arguments.explain {
        for flow in &flows {
            writeln!(stdout, "\n-- {}\n{}", flow.name, flow.explain.trim_end()).map_err(stdout_failure)?;
        }
    }
    Ok(())
}
