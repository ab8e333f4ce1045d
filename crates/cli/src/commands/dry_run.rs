//! `highwater dry-run`: what `validate` does, and a look at everything outside that a run would open.
//!
//! | | validate | dry-run |
//! |---|---|---|
//! | files, settings, SQL, plans | checked | checked |
//! | sources, static tables, targets | opened where their columns are asked for | looked at, reading only |
//! | checkpoints | not read | next batch, and what becomes of each operator's state |
//!
//! Every problem is told, not only the first.

use highwater_engine::plan::catalog::Role;
use highwater_engine::query::{CheckpointOutlook, FlowOutlook, OperatorFate, TableOutlook};

use super::run::{Changes, Planned};
use crate::error::{Failure, Result};
use crate::output::Format;
use crate::output::columns::{texts, write_columns};

/// Arguments of `dry-run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    project: Planned,
    #[command(flatten)]
    changes: Changes,
    /// How the findings are printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

const EXAMPLES: &str = "\
Examples:
  highwater dry-run shop                              # are its topics there, and where would it go on?
  highwater dry-run shop --output json | jq -r 'select(.what == \"operator\")'";

/// A line of the result.
struct Row {
    query: String,
    what: &'static str,
    name: String,
    found: String,
}

/// Prints what a run would find; fails if it would not run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let flows = arguments.project.open_changed(&arguments.changes)?.dry_run();
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for flow in flows {
        look_at(flow, &mut rows, &mut failures);
    }
    let text = |value: fn(&Row) -> &str| texts(rows.iter().map(|row| Some(value(row).to_owned())));
    let columns = [
        ("query", text(|row| &row.query)),
        ("what", text(|row| row.what)),
        ("name", text(|row| &row.name)),
        ("found", text(|row| &row.found)),
    ];
    write_columns(arguments.output, columns, &mut std::io::stdout().lock())?;
    let mut failures = failures.into_iter();
    match failures.next() {
        None => Ok(()),
        Some(first) => Err(first.and(failures)),
    }
}

fn look_at(flow: FlowOutlook, rows: &mut Vec<Row>, failures: &mut Vec<Failure>) {
    let query = flow.flow;
    let within = format!("query '{query}'");
    for TableOutlook { table, format, role, found } in flow.tables {
        let found = match found {
            Ok(found) => found.unwrap_or_else(|| "nothing outside".to_owned()),
            Err(error) => {
                let failure = Failure::from(error);
                let message = format!("error: {}", failure.message());
                failures.push(failure.within(&within));
                message
            }
        };
        rows.push(Row { query: query.clone(), what: word(role), name: format!("{table} ({format})"), found });
    }
    if let Some(upkeep) = flow.upkeep {
        let found = upkeep.to_string();
        rows.push(Row { query: query.clone(), what: "view", name: "kept up to date".to_owned(), found });
    }
    match flow.checkpoint {
        None => {}
        Some(Ok(outlook)) => checkpoint(&query, outlook, rows, failures),
        Some(Err(error)) => {
            let failure = Failure::from(error);
            let found = format!("error: {}", failure.message());
            rows.push(Row { query, what: "checkpoint", name: String::new(), found });
            failures.push(failure.within(&within));
        }
    }
}

fn checkpoint(query: &str, outlook: CheckpointOutlook, rows: &mut Vec<Row>, failures: &mut Vec<Failure>) {
    let row = |what, name: &str, found: String| Row { query: query.to_owned(), what, name: name.to_owned(), found };
    let mut found = match outlook.last_commit {
        Some(batch) => format!("batch {batch} is done: {}", outlook.next),
        None => outlook.next,
    };
    if let Some((message, help)) = outlook.refusal {
        found = format!("refused: {message}");
        failures.push(Failure::invalid(message).help(help).within(&format!("query '{query}'")));
    }
    rows.push(row("checkpoint", &outlook.location, found));
    for operator in outlook.operators {
        let fate = match operator.fate {
            OperatorFate::Kept => "its state is kept",
            OperatorFate::Migrated => "its state is migrated",
            OperatorFate::New => "begins without state",
            OperatorFate::Changed => "its state does not fit",
            OperatorFate::Rebuilt => "its state is computed anew from the query's start",
            OperatorFate::Dropped => "its state is not used any more",
        };
        let notes = operator.notes.join("; ");
        let found = if notes.is_empty() { fate.to_owned() } else { format!("{fate}: {notes}") };
        rows.push(row("operator", &operator.id, found));
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Static => "static table",
        Role::Sink => "target",
    }
}
