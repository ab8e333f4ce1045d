//! `highwater graph`: the flow of tables of a project, as a drawing, or for a program that draws.

use std::io::Write;

use crate::error::Result;
use crate::graph::{dot, mermaid, text};
use crate::output::columns::write_json;
use crate::output::stdout_failure;

use super::run::Planned;

/// How the graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum GraphFormat {
    /// A drawing for the terminal.
    Text,
    /// For Graphviz.
    Dot,
    /// For Mermaid, as in Markdown.
    Mermaid,
    /// Tables and flows as one JSON object.
    Json,
}

/// Arguments of `graph`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    project: Planned,
    /// How the graph is drawn
    #[arg(long, short = 'f', value_enum, default_value_t = GraphFormat::Text)]
    format: GraphFormat,
}

const EXAMPLES: &str = "\
Examples:
  highwater graph shop
  highwater graph shop --format dot | dot -Tsvg > shop.svg
  highwater graph shop --format json | jq '.flows[].name'";

/// Draws the tables.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let graph = arguments.project.open()?.graph();
    let out = &mut std::io::stdout().lock();
    let drawing = match arguments.format {
        GraphFormat::Json => return write_json(&graph, out),
        GraphFormat::Text => text(&graph),
        GraphFormat::Dot => dot(&graph),
        GraphFormat::Mermaid => mermaid(&graph),
    };
    write!(out, "{drawing}").and_then(|()| out.flush()).map_err(stdout_failure)
}
