//! `highwater state read`: what the operators of a query keep, as a table, or which tables they have.
//!
//! It reads a checkpoint, also while the query runs: what the newest committed batch left, or an earlier one that the
//! checkpoint still has. How state becomes columns is the engine's ([`highwater_engine::query::StateReader`]).

use std::io::Write;

use highwater_engine::checkpoint::{CheckpointDir, Metadata};
use highwater_engine::query::{StateReader, StateTableSummary};

use super::checkpoint;
use super::sql::Storage;
use crate::error::{Failure, Result};
use crate::output::columns::{counts, texts, write_columns, write_json_lines};
use crate::output::{self, Format};

/// The verbs of `state`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the state of a query's operator as a table; without an operator, the tables there are
    Read(Read),
}

/// Arguments of `state read`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Read {
    /// The query's name
    #[arg(long, value_name = "NAME", required_unless_present = "checkpoint")]
    query: Option<String>,
    /// A checkpoint (a path or a URL), instead of a query and its storage folder
    #[arg(long, value_name = "LOCATION", conflicts_with = "query")]
    checkpoint: Option<String>,
    #[command(flatten)]
    storage: Storage,
    /// The operator, or one of its tables; the list of all of them if not given
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// The state after this batch; after the newest committed one if not given
    #[arg(long, value_name = "N")]
    batch: Option<u64>,
    /// No more rows than this
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How it is printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

const EXAMPLES: &str = "\
Examples:
  highwater state read --query totals                                  # its tables, with rows and bytes
  highwater state read --query totals --operator aggregate-0 --limit 20
  highwater state read --checkpoint s3://bucket/pipelines/totals --operator aggregate-0 --batch 12 --output csv";

/// Carries the verb out.
pub(crate) fn run(command: &Command) -> Result<()> {
    let Command::Read(arguments) = command;
    let (checkpoint, query) = arguments.checkpoint()?;
    let reader = StateReader::open(&checkpoint, &query, arguments.batch)?;
    let out = &mut std::io::stdout().lock();
    match &arguments.operator {
        Some(operator) => {
            let (schema, rows) = reader.read(operator, arguments.limit)?;
            output::write_rows(arguments.output, &schema, &rows, out)
        }
        None => {
            let mut list = reader.list()?;
            list.truncate(arguments.limit.unwrap_or(usize::MAX));
            write_list(&list, reader.batch(), arguments.output, out)
        }
    }
}

impl Read {
    fn checkpoint(&self) -> Result<(CheckpointDir, String)> {
        if let Some(location) = &self.checkpoint {
            let checkpoint = checkpoint::at(location)?;
            let Some(metadata) = Metadata::read(&checkpoint)? else {
                return Err(Failure::usage(format!("there is no checkpoint at {location}"))
                    .help("name the folder or the URL that has the file 'metadata'"));
            };
            return Ok((checkpoint, metadata.query_name));
        }
        let query = self.query.clone().unwrap_or_default();
        Ok((checkpoint::of_query(&self.storage.folder()?, &query)?, query))
    }
}

fn write_list(list: &[StateTableSummary], batch: u64, format: Format, out: &mut impl Write) -> Result<()> {
    if format == Format::Json {
        return write_json_lines(list, out);
    }
    let text = |of: fn(&StateTableSummary) -> &str| texts(list.iter().map(|table| Some(of(table).to_owned())));
    let count = |of: fn(&StateTableSummary) -> u64| counts(list.iter().map(|table| Some(of(table))));
    let columns = [
        ("operatorId", count(|table| table.operator_id)),
        ("operator", text(|table| &table.operator)),
        ("operatorName", text(|table| &table.operator_name)),
        ("stateStoreName", text(|table| &table.state_store_name)),
        ("numPartitions", count(|table| table.num_partitions)),
        ("minBatchId", count(|table| table.min_batch_id)),
        ("maxBatchId", count(|table| table.max_batch_id)),
        ("batchId", counts(list.iter().map(|_| Some(batch)))),
        ("rows", count(|table| table.rows)),
        ("sizeBytes", count(|table| table.size_bytes)),
    ];
    write_columns(format, columns, out)
}
