//! `highwater validate`: reads a project, plans its queries and says what they would do. Starts nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use super::run::Planned;
use crate::error::{Failure, Result};
use crate::output::{self, Format, stdout_failure};
use crate::spark::{Engine, SparkProject};

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    project: Planned,
    /// How the list of queries is printed
    #[arg(long, value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
    /// Check that it runs on this engine: highwater, spark, or a Spark Connect server that looks at it, too, and starts
    /// nothing: sc://HOST:PORT
    #[arg(long, env = "HIGHWATER_ENGINE", hide_env_values = true, value_name = "ENGINE", default_value = "highwater")]
    engine: Engine,
    /// The Kafka through which Spark hands on rows for sinks it does not have (SQLite); they are drained here
    #[arg(long, value_name = "HOST:PORT")]
    route_through: Option<String>,
    /// Print the plan of each query, too
    #[arg(long)]
    explain: bool,
}

const EXAMPLES: &str = "\
Examples:
  highwater validate shop                    # exit code 3 if a file, a setting or a query is wrong
  highwater validate totals.sql --explain
  highwater validate shop --engine spark     # would it run on Spark?
  highwater dry-run shop                     # looks also at what is outside";

/// Prints the queries there are.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    use std::io::Write;
    let (project, pipeline) = arguments.project.open_with_project()?;
    let flows = pipeline.flows();
    if arguments.engine != Engine::Highwater {
        let project = SparkProject::new(&project, flows.clone(), arguments.route_through.as_deref())?;
        project.tell_notes();
        if let Engine::Server(address) = &arguments.engine {
            project.analyse(address)?;
        }
    }
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
