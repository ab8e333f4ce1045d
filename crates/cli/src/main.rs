//! `highwater`, the one binary.
//!
//! ```text
//!   args ─> config, project ─> engine (plans, runs) ─> progress on stderr, output on stdout
//!        └> topic, doctor, datagen, broker
//! ```
//!
//! This crate reads the command line, files and signals, and prints. It decides nothing about data: what is read
//! again, what is late and what is written is the engine's.

mod args;
mod broker;
mod commands;
mod config;
mod connect;
mod datagen;
mod demo;
mod doctor;
mod duration;
mod error;
mod graph;
mod logging;
mod output;
mod progress;
mod project;
mod quantity;
mod rate;
mod rehearsal;
mod run;
mod signals;
mod spark;
mod spark_connect;
mod topic;

use std::io::Write;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use args::{Cli, Command};
use error::Result;
use signals::Interrupt;

/// Also RocksDB's and librdkafka's: what one of them has free is there for the others, and is given back to the system.
/// Its settings are in `.cargo/config.toml`; the environment's `MALLOC_CONF` wins.
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(cli, &matches) {
        Ok(code) => code,
        Err(failure) => {
            let text = failure.render(logging::coloured());
            // Nowhere is left to say that stderr is gone.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
            failure.exit_code()
        }
    }
}

fn run(cli: Cli, matches: &ArgMatches) -> Result<ExitCode> {
    logging::start(cli.log.as_deref())?;
    match cli.command {
        Command::Demo(arguments) => return demo::run(&arguments),
        Command::Run(arguments) => {
            let matches = matches.subcommand().map_or(matches, |(_, of_verb)| of_verb);
            return commands::run::run(&arguments, matches);
        }
        Command::Checkpoint(command) => return commands::checkpoint::run(&command),
        Command::Test(arguments) => return commands::test::run(&arguments),
        Command::Init(arguments) => commands::init::run(&arguments)?,
        Command::Sql(arguments) => commands::sql::run(&arguments)?,
        Command::Validate(arguments) => commands::validate::run(&arguments)?,
        Command::DryRun(arguments) => commands::dry_run::run(&arguments)?,
        Command::Explain(arguments) => commands::explain::run(&arguments)?,
        Command::Graph(arguments) => commands::graph::run(&arguments)?,
        Command::Broker(arguments) => commands::broker::run(&arguments)?,
        Command::Topic(command) => commands::topic::run(command)?,
        Command::Datagen(arguments) => datagen::run(&arguments, &Interrupt::listen()?)?,
        Command::Query(command) => commands::query::run(&command)?,
        Command::Migrate(command) => commands::migrate::run(&command)?,
        Command::State(command) => commands::state::run(&command)?,
        Command::Doctor(arguments) => commands::doctor::run(&arguments)?,
        Command::Connect(arguments) => commands::connect::run(&arguments)?,
        Command::Completions(arguments) => commands::completions::run(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}
