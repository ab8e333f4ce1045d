//! The command line: every verb with its arguments, and nothing that does not work.
//!
//! An argument that has an environment variable names it in its help. What a verb does stands in its own module.

use clap::{Parser, Subcommand};

use crate::output::Format;
use crate::topic::client::Cluster;
use crate::topic::describe::Section;
use crate::topic::plan::{Keeping, Wishes};
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
configuration or SQL, 4 a check of data failed, 130 aborted by a second Ctrl-C.";

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
    /// Check a project's files and plan its queries, opening nothing outside that this does not need
    Validate(commands::validate::Arguments),
    /// Look also at sources, targets and checkpoints, and say what a run would do; writes nothing
    DryRun(commands::dry_run::Arguments),
    /// Run a project's tests: given rows in, expected rows out, nothing outside touched
    Test(commands::test::Arguments),
    /// Show a query's plan, its state and what bounds it, or what holds its watermark back
    Explain(commands::explain::Arguments),
    /// Draw the flow of tables
    Graph(commands::graph::Arguments),
    /// Run the embedded Kafka broker
    Broker(commands::broker::Arguments),
    /// Create, look at, change, fill and read topics of any Kafka
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Generate events that look like real ones
    Datagen(datagen::Arguments),
    /// Look at queries and stop them, from outside
    #[command(subcommand)]
    Query(commands::query::Command),
    /// Look at checkpoints, check them and make them smaller
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::Command),
    /// Move a query between Spark and Highwater by the offsets in its checkpoint
    #[command(subcommand)]
    Migrate(commands::migrate::Command),
    /// Read what the operators of a query keep
    #[command(subcommand)]
    State(commands::state::Command),
    /// Compare a Kafka cluster with good practice and say what to change and why
    Doctor(commands::doctor::Arguments),
    /// Serve Spark Connect, so that unmodified PySpark programs run on this engine
    Connect(commands::connect::Arguments),
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
    /// Show partitions, sizes, settings and readers of a topic
    Describe(TopicDescribe),
    /// Change settings of a topic or add partitions
    Alter(TopicAlter),
    /// Delete a topic and what is in it
    Delete(TopicDelete),
    /// Send lines as records
    Produce(topic::produce::Arguments),
    /// Print records
    Consume(topic::consume::Arguments),
}

/// Arguments of `topic create`.
#[derive(Debug, clap::Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct TopicCreate {
    /// The topic's name, by convention domain.entity.action such as shop.order.created
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) wishes: Wishes,
    /// Copies of each partition; the cluster's default if not given
    #[arg(long, default_value_t = -1, hide_default_value = true, value_name = "N", value_parser = clap::value_parser!(i32).range(-1..))]
    pub(crate) replication: i32,
    /// Do not fail if the topic is already there
    #[arg(long)]
    pub(crate) if_not_exists: bool,
    /// Print what would be created and let the cluster check it, but create nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How --dry-run is printed
    #[arg(long, value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    pub(crate) output: Format,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  highwater topic create shop.order.created --for events
  highwater topic create shop.customer.changed --for state --partitions 8
  highwater topic create shop.order.created.dlq --for dead-letters
  highwater topic create iot.sensor.measured --throughput 50k/s --record-size 200 --retention 3d --dry-run";

/// Arguments of `topic alter`.
#[derive(Debug, clap::Args)]
#[command(after_help = ALTER_EXAMPLES)]
pub(crate) struct TopicAlter {
    /// The topic's name
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// The new number of partitions, which can only grow; records of one key then go to another partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: Option<i32>,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    /// A setting that follows the cluster's default again, by its Kafka name
    #[arg(long, value_name = "KEY")]
    pub(crate) reset: Vec<String>,
    /// Let the cluster check the change, but change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

const ALTER_EXAMPLES: &str = "\
Examples:
  highwater topic alter shop.order.created --retention 30d
  highwater topic alter shop.order.created --partitions 8
  highwater topic alter shop.order.created --reset retention.ms";

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
#[command(after_help = DESCRIBE_EXAMPLES)]
pub(crate) struct TopicDescribe {
    /// The topic's name
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Show only this part; csv shows the partitions if not given
    #[arg(long, value_enum, value_name = "PART")]
    pub(crate) section: Option<Section>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    pub(crate) output: Format,
}

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  highwater topic describe shop.order.created
  highwater topic describe shop.order.created --section groups --output csv
  highwater topic describe shop.order.created --output json | jq .totals";

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

    /// The environment variables of a command and of those below it.
    fn variables(command: &clap::Command) -> Vec<String> {
        let of_arguments = command.get_arguments().filter_map(clap::Arg::get_env);
        let own = of_arguments.map(|name| name.to_string_lossy().into_owned());
        own.chain(command.get_subcommands().flat_map(variables)).collect()
    }

    #[test]
    fn every_variable_is_documented() {
        let page = include_str!("../../../docs/configuration.md");
        let found = variables(&Cli::command());
        assert!(found.iter().any(|name| name == "HIGHWATER_TRIGGER"), "{found:?}");
        for name in found {
            assert!(page.contains(&format!("| `{name}` |")), "docs/configuration.md has no row of {name}");
        }
    }
}
