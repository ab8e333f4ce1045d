//! `highwater dry-run`: what `validate` does, and a look at everything outside that a run would open.
//!
//! | | validate | dry-run |
//! |---|---|---|
//! | files, settings, SQL, plans | checked | checked |
//! | sources, static tables, targets | opened where their columns are asked for | looked at, reading only: would they be opened? |
//! | storage, folders of targets | not looked at | could they be written to? |
//! | checkpoints | not read | next batch, and what becomes of each operator's state |
//!
//! Every problem is told, not only the first.

use highwater_engine::plan::catalog::Role;
use highwater_engine::query::{CheckpointOutlook, FlowOutlook, FolderOutlook, OperatorFate, Pipeline, TableOutlook};

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
#[derive(PartialEq)]
struct Row {
    query: String,
    what: &'static str,
    name: String,
    found: String,
}

/// Prints what a run would find; fails if it would not run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    look(&arguments.project.open_changed(&arguments.changes)?, arguments.output)
}

/// The same, of a pipeline that is planned.
pub(crate) fn look(pipeline: &Pipeline, output: Format) -> Result<()> {
    let (mut rows, mut problems) = (Vec::new(), Problems::default());
    for FolderOutlook { what, location, found } in pipeline.folders() {
        let found = found.unwrap_or_else(|error| problems.note(Failure::from(error), None));
        rows.push(Row { query: String::new(), what, name: location, found });
    }
    for flow in pipeline.dry_run() {
        look_at(flow, &mut rows, &mut problems);
    }
    let text = |value: fn(&Row) -> &str| texts(rows.iter().map(|row| Some(value(row).to_owned())));
    let columns = [
        ("query", text(|row| &row.query)),
        ("what", text(|row| row.what)),
        ("name", text(|row| &row.name)),
        ("found", text(|row| &row.found)),
    ];
    write_columns(output, columns, &mut std::io::stdout().lock())?;
    let mut failures = problems.failures();
    match failures.next() {
        None => Ok(()),
        Some(first) => Err(first.and(failures)),
    }
}

/// What would not let the queries run, each thing once, with the queries it is told of.
#[derive(Default)]
struct Problems(Vec<(Failure, Vec<String>)>);

impl Problems {
    /// Notes one, of a query or of all; gives its words for the table.
    fn note(&mut self, failure: Failure, query: Option<&str>) -> String {
        let shown = format!("error: {}", failure.message());
        let known = self.0.iter_mut().find(|(known, _)| known.render(false) == failure.render(false));
        let query = query.map(str::to_owned);
        match known {
            Some((_, queries)) => queries.extend(query.filter(|query| !queries.contains(query))),
            None => self.0.push((failure, query.into_iter().collect())),
        }
        shown
    }

    fn failures(self) -> impl Iterator<Item = Failure> {
        self.0.into_iter().map(|(failure, queries)| match queries.as_slice() {
            [] => failure,
            [query] => failure.within(&format!("query '{query}'")),
            queries => failure.within(&format!("queries '{}'", queries.join("', '"))),
        })
    }
}

fn look_at(flow: FlowOutlook, rows: &mut Vec<Row>, problems: &mut Problems) {
    let query = flow.flow;
    for TableOutlook { table, format, role, found } in flow.tables {
        let found = match found {
            Ok(found) => found.unwrap_or_else(|| "nothing outside".to_owned()),
            Err(error) => problems.note(Failure::from(error), Some(&query)),
        };
        let row = Row { query: query.clone(), what: word(role), name: format!("{table} ({format})"), found };
        // A stream that is joined with itself is read twice.
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    if let Some(upkeep) = flow.upkeep {
        let found = upkeep.to_string();
        rows.push(Row { query: query.clone(), what: "view", name: "kept up to date".to_owned(), found });
    }
    match flow.checkpoint {
        None => {}
        Some(Ok(outlook)) => checkpoint(&query, outlook, rows, problems),
        Some(Err(error)) => {
            let found = problems.note(Failure::from(error), Some(&query));
            rows.push(Row { query, what: "checkpoint", name: String::new(), found });
        }
    }
}

fn checkpoint(query: &str, outlook: CheckpointOutlook, rows: &mut Vec<Row>, problems: &mut Problems) {
    let row = |what, name: &str, found: String| Row { query: query.to_owned(), what, name: name.to_owned(), found };
    let mut found = match outlook.last_commit {
        Some(batch) => format!("batch {batch} is done: {}", outlook.next),
        None => outlook.next,
    };
    if let Some((message, help)) = outlook.refusal {
        found = format!("refused: {message}");
        problems.note(Failure::invalid(message).help(help), Some(query));
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
