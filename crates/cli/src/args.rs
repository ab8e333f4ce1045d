//! The command line: every verb with its arguments, and nothing that does not work.
//!
//! An argument that has an environment variable names it in its help. What a verb does stands in its own module.

use clap::{Parser, Subcommand};

use crate::output::Format;
use crate::topic::client::{Cluster, key_value};
use crate::{commands, datagen, demo, topic};

/// Real-time analytics in one binary: Kafka on one side, tables on the other, Spark's streaming SQL in between.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// What is logged on stderr: error, warn, info, debug, trace, or a filter such as warn,highwater_broker=debug
    #[arg(long, global = true, env = "HIGHWATER_LOG", value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed while running, 2 wrong command line, 3 wrong project, \
configuration or SQL, 130 aborted by a second Ctrl-C.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run broker, producers and three pipelines in this terminal, to see what it does
    Demo(demo::Arguments),
    /// Make a project folder with a pipeline that runs
    Init(commands::init::Arguments),
    /// Run the queries of a project, an SQL file or a text
    Run(commands::run::Arguments),
    /// Query the tables that pipelines write
    Sql(commands::sql::Arguments),
    /// Check a project and show what its queries would do, without starting them
    Validate(commands::validate::Arguments),
    /// Run the embedded Kafka broker
    Broker(commands::broker::Arguments),
    /// Create, look at, fill and read topics of any Kafka
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Generate events that look like real ones
    Datagen(datagen::Arguments),
    /// Look at queries and stop them, from outside
    #[command(subcommand)]
    Query(commands::query::Command),
    /// Print the completion script of a shell
    Completions(commands::completions::Arguments),
}

/// The verbs of `topic`.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic
    Create(TopicCreate),
    /// List topics
    List(TopicList),
    /// Show the partitions of a topic
    Describe(TopicDescribe),
    /// Delete a topic and what is in it
    Delete(TopicDelete),
    /// Send lines as records
    Produce(topic::produce::Arguments),
    /// Print records
    Consume(topic::consume::Arguments),
}

/// Arguments of `topic create`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopicCreate {
    /// The topic's name
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// How many partitions
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: i32,
    /// Copies of each partition; the cluster's default if not given
    #[arg(long, default_value_t = -1, hide_default_value = true, value_name = "N", value_parser = clap::value_parser!(i32).range(-1..))]
    pub(crate) replication: i32,
    /// A setting of the topic, such as retention.ms=86400000
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) configs: Vec<(String, String)>,
    /// Do not fail if the topic is already there
    #[arg(long)]
    pub(crate) if_not_exists: bool,
}

/// Arguments of `topic list`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopicList {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Also list Kafka's own topics
    #[arg(long)]
    pub(crate) internal: bool,
    /// How the list is printed
    #[arg(long, value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    pub(crate) output: Format,
}

/// Arguments of `topic describe`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopicDescribe {
    /// The topic's name
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// How the partitions are printed
    #[arg(long, value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    pub(crate) output: Format,
}

/// Arguments of `topic delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopicDelete {
    /// The topic's name
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
