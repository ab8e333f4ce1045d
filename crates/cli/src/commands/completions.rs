//! `highwater completions SHELL`: the script that completes verbs and options.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::Result;
use crate::output::stdout_failure;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell, for example: highwater completions bash > /etc/bash_completion.d/highwater
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "highwater", &mut script);
    std::io::stdout().lock().write_all(&script).map_err(stdout_failure)
}
