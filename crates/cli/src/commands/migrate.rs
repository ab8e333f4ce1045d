//! `highwater migrate from-spark | to-spark`: where the other engine begins, so that nothing is read twice or missed.
//!
//! Both read a checkpoint, write nothing and print `startingOffsets`, which the other engine's query is given. What
//! stateful operators keep does not move: such a query is refused until somebody says what is to become of it.

use std::io::Write;
use std::path::PathBuf;

use highwater_engine::checkpoint::inspect::{self, BatchDetail};
use highwater_engine::source::Offset;
use serde_json::json;

use super::checkpoint::at;
use crate::error::{Failure, Result};
use crate::output::stdout_failure;
use crate::spark::checkpoint::{Batches, SparkCheckpoint, Uncommitted, last_batch, starting_offsets};

/// The verbs of `migrate`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print where a query of Highwater begins to go on after a Spark query
    FromSpark(FromSpark),
    /// Print where a query of Spark begins to go on after one of Highwater's
    ToSpark(ToSpark),
}

/// What is decided by whoever moves a query.
#[derive(Debug, clap::Args)]
struct Decisions {
    /// What becomes of a last batch that was begun and not committed
    #[arg(long, value_enum, value_name = "WHAT")]
    uncommitted: Option<Uncommitted>,
    /// Go on after this batch, not after the last: rows after it are read again
    #[arg(long, value_name = "N", conflicts_with = "uncommitted")]
    after_batch: Option<u64>,
    /// The state of the query is left behind: what its windows, joins and keys hold so far
    #[arg(long)]
    without_state: bool,
    /// How it is printed: the option as SQL, or JSON
    #[arg(long, short = 'o', value_enum, default_value_t = Form::Sql)]
    output: Form,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// `startingOffsets = '...'`, a line a source.
    Sql,
    /// One JSON object.
    Json,
}

/// Arguments of `migrate from-spark`.
#[derive(Debug, clap::Args)]
#[command(after_help = FROM_EXAMPLES)]
pub(crate) struct FromSpark {
    /// The folder of the Spark query's checkpoint, its checkpointLocation
    checkpoint: PathBuf,
    #[command(flatten)]
    decisions: Decisions,
}

const FROM_EXAMPLES: &str = "\
Examples:
  highwater migrate from-spark /checkpoints/payments                       # stop the Spark query first
  highwater migrate from-spark /checkpoints/payments --uncommitted skip    # its last batch is in the target
  highwater migrate from-spark /checkpoints/totals --after-batch 118 --without-state";

/// Arguments of `migrate to-spark`.
#[derive(Debug, clap::Args)]
#[command(after_help = TO_EXAMPLES)]
pub(crate) struct ToSpark {
    /// The query's checkpoint: a path or the URL of an object store
    checkpoint: String,
    #[command(flatten)]
    decisions: Decisions,
}

const TO_EXAMPLES: &str = "\
Examples:
  highwater migrate to-spark data/checkpoints/alerts
  highwater migrate to-spark s3://bucket/checkpoints/alerts --output json";

/// Carries one of the verbs out.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::FromSpark(arguments) => from_spark(arguments),
        Command::ToSpark(arguments) => to_spark(arguments),
    }
}

fn from_spark(arguments: &FromSpark) -> Result<()> {
    let checkpoint = SparkCheckpoint::open(&arguments.checkpoint)?;
    let operators = checkpoint.operators()?.len();
    let batch =
        arguments.decisions.decide(checkpoint.batches, operators, &arguments.checkpoint.display().to_string())?;
    arguments.decisions.print(batch, &checkpoint.ends(batch)?)
}

fn to_spark(arguments: &ToSpark) -> Result<()> {
    let checkpoint = at(&arguments.checkpoint)?;
    let summary = inspect::summarize(&checkpoint)?;
    let Some(begun) = summary.last_batch else {
        return Err(Failure::check(format!("checkpoint '{}' has no batch yet", summary.location))
            .help("begin on Spark with the startingOffsets of the query's own table"));
    };
    let operators = inspect::inspect(&checkpoint)?.operators.len();
    let batches = Batches { begun, committed: summary.last_commit };
    let batch = arguments.decisions.decide(batches, operators, &summary.location)?;
    let detail = inspect::inspect_batch(&checkpoint, batch)?;
    refuse_unfinished_rebuild(&detail, &summary.location)?;
    let ends: Vec<Option<Offset>> = detail.sources.into_iter().map(|source| source.end).collect();
    arguments.decisions.print(batch, &ends)
}

impl Decisions {
    /// The batch to go on after.
    fn decide(&self, batches: Batches, operators: usize, location: &str) -> Result<u64> {
        if operators > 0 && !self.without_state {
            return Err(Failure::check(format!(
                "the query of {location} keeps state ({operators} stateful operators), which cannot be moved to another \
                 engine"
            ))
            .help(
                "what its open windows hold would be missing: name a batch from before they began with --after-batch N, \
                 and say --without-state; docs/migration-from-spark.md tells how to find it",
            ));
        }
        if let Some(batch) = self.after_batch {
            let is_done = batches.committed.is_some_and(|committed| batch <= committed);
            return if is_done {
                Ok(batch)
            } else {
                Err(Failure::usage(format!(
                    "batch {batch} is not committed; the last one that is: {}",
                    shown(batches.committed)
                )))
            };
        }
        last_batch(batches, self.uncommitted)?.ok_or_else(|| {
            Failure::check("no batch is committed, so there is no offset to go on from")
                .help("begin with the startingOffsets the query itself began with")
        })
    }

    fn print(&self, batch: u64, ends: &[Option<Offset>]) -> Result<()> {
        let offsets: Vec<String> = ends
            .iter()
            .enumerate()
            .map(|(source, end)| starting_offsets(source, end.as_ref()))
            .collect::<Result<_>>()?;
        let mut out = std::io::stdout().lock();
        let written = match self.output {
            Form::Sql => offsets.iter().try_for_each(|offsets| writeln!(out, "startingOffsets = '{offsets}'")),
            Form::Json => {
                let sources: Vec<serde_json::Value> =
                    ends.iter().flatten().map(|end| json!({ "startingOffsets": end.0 })).collect();
                writeln!(out, "{}", json!({ "afterBatch": batch, "sources": sources }))
            }
        };
        written.map_err(stdout_failure)?;
        tracing::info!(
            "the offsets after batch {batch}; give them to the query's table as it is started the first time"
        );
        Ok(())
    }
}

/// The parts of a rebuild read again what the query wrote before, so that in the midst of one there is no place to go on.
fn refuse_unfinished_rebuild(detail: &BatchDetail, location: &str) -> Result<()> {
    let Some(first) = detail.unfinished_rebuild()? else { return Ok(()) };
    let before = first.checked_sub(1);
    let or = before.map(|before| format!(", or go on after the last batch before it: --after-batch {before}"));
    Err(Failure::check(format!(
        "batch {} of {location} is in the midst of a rebuild of the state, which reads again what was written already",
        detail.batch
    ))
    .help(format!("run the query until the rebuild is done{}", or.unwrap_or_default())))
}

fn shown(batch: Option<u64>) -> String {
    batch.map_or_else(|| "none".to_owned(), |batch| batch.to_string())
}

#[cfg(test)]
mod tests {
    use highwater_engine::checkpoint::inspect::SourceRange;

    use super::*;

    #[test]
    fn there_is_no_place_to_go_on_within_a_rebuild() {
        let check = |part: &str, expected: &str| {
            let conf = if part.is_empty() { Vec::new() } else { vec![("part of a rebuild", part)] };
            let end = Some(Offset(json!({"t": {"0": 5}})));
            let detail = BatchDetail {
                batch: 8,
                is_committed: true,
                started_ms: 0,
                watermark_ms: 0,
                next_watermark_ms: Some(0),
                conf: conf.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect(),
                sources: vec![SourceRange { source: 0, name: None, start: None, end }],
                state_changes: None,
            };
            let said =
                refuse_unfinished_rebuild(&detail, "q").map_or_else(|refused| refused.render(false), |()| "".into());
            assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{part}: {said}");
        };
        let midst = "error: batch 8 of q is in the midst of a rebuild of the state, which reads again what was written already\n\
                     help: run the query until the rebuild is done";
        check("", "");
        check(r#"{"first": 7, "until": [{"t": {"0": 5}}], "query": "x"}"#, "");
        let or = format!("{midst}, or go on after the last batch before it: --after-batch 6\n");
        check(r#"{"first": 7, "until": [{"t": {"0": 9}}], "query": "x"}"#, &or);
        check(r#"{"first": 0, "until": [{"t": {"0": 9}}], "query": "x"}"#, &format!("{midst}\n"));
        check(r#"{"first": 7}"#, "error: batch 8 is part of a rebuild that cannot be read");
    }
}
