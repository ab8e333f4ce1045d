//! `highwater query list | show | check | stop`: the queries of a storage folder, running or not, from another process.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use chrono::{DateTime, Utc};
use highwater_engine::error::nearest;
use highwater_engine::progress::StreamingQueryProgress;
use highwater_engine::query::{QueryState, StoredQuery, request_stop, stored_queries};

use super::sql::Storage;
use crate::error::{Failure, Result};
use crate::output::{self, Format, stdout_failure};
use crate::progress::board::lag;

/// How long `query stop` waits for a batch to finish.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// The verbs of `query`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the queries of a storage folder
    List(List),
    /// Show a query's state and its last progress as JSON
    Show(Named),
    /// Fail with exit code 4 if a query does not run, or is started again and again: for alarms
    Check(Check),
    /// Let a running query finish its batch and stop
    Stop(Named),
}

/// Arguments of `query list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    storage: Storage,
    /// How the list is printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

/// Arguments of `query check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The queries that must run; all of the storage folder if none is named
    queries: Vec<String>,
    #[command(flatten)]
    storage: Storage,
    /// How long a query that is started again after errors may be without a batch
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::duration::parse)]
    restarting: Duration,
}

/// Arguments of the verbs about one query.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The query's name
    query: String,
    #[command(flatten)]
    storage: Storage,
}

/// Carries one of the verbs out.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::List(arguments) => list(&arguments.storage.folder()?, arguments.output),
        Command::Show(arguments) => show(&arguments.storage.folder()?, &arguments.query),
        Command::Check(arguments) => check(arguments),
        Command::Stop(arguments) => stop(&arguments.storage.folder()?, &arguments.query),
    }
}

fn list(storage: &Path, format: Format) -> Result<()> {
    let queries = stored_queries(storage)?;
    let text = |value: fn(&StoredQuery) -> Option<String>| -> ArrayRef {
        Arc::new(queries.iter().map(value).collect::<StringArray>())
    };
    let number = |value: fn(&StreamingQueryProgress) -> Option<u64>| -> ArrayRef {
        let of = |query: &StoredQuery| query.last_progress.as_ref().and_then(value);
        Arc::new(queries.iter().map(of).collect::<UInt64Array>())
    };
    let rate: Float64Array = queries
        .iter()
        .map(|query| query.last_progress.as_ref().map(|last| last.input_rows_per_second.round()))
        .collect();
    let restarts: UInt64Array = queries.iter().map(|query| Some(query.restarts)).collect();
    let watermark = |query: &StoredQuery| query.last_progress.as_ref()?.event_time.watermark.clone();
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("query", text(|query| Some(query.name.clone())), false),
        ("state", text(|query| Some(state(query).to_owned())), false),
        ("target", text(|query| Some(query.target.clone())), false),
        ("restarts", Arc::new(restarts) as ArrayRef, false),
        ("batch", number(|last| Some(last.batch_id)), true),
        ("rows_in_per_s", Arc::new(rate) as ArrayRef, true),
        ("watermark", text(watermark), true),
        ("lag", number(lag), true),
        ("state_rows", number(|last| Some(last.state_operators.iter().map(|op| op.num_rows_total).sum())), true),
    ])
    .map_err(|error| Failure::runtime(error.to_string()))?;
    output::write_rows(format, &rows.schema(), &[rows], &mut std::io::stdout().lock())
}

fn state(query: &StoredQuery) -> &'static str {
    match query.state {
        QueryState::Running { .. } if query.restarting_since.is_some() => "restarting",
        QueryState::Running { .. } => "running",
        QueryState::Stopped => "stopped",
        QueryState::Gone => "gone",
        QueryState::Failed { .. } => "failed",
    }
}

fn find(storage: &Path, name: &str) -> Result<StoredQuery> {
    let queries = stored_queries(storage)?;
    if let Some(query) = queries.iter().find(|query| query.name.eq_ignore_ascii_case(name)) {
        return Ok(query.clone());
    }
    let failure = Failure::usage(format!("there is no query '{name}' in {}", storage.display()));
    Err(failure.help(match nearest(name, queries.iter().map(|query| query.name.as_str())) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("see 'highwater query list --storage {}'", storage.display()),
    }))
}

fn show(storage: &Path, name: &str) -> Result<()> {
    let query = find(storage, name)?;
    let text = serde_json::to_string_pretty(&query).map_err(|error| Failure::runtime(error.to_string()))?;
    writeln!(std::io::stdout().lock(), "{text}").map_err(stdout_failure)
}

fn check(arguments: &Check) -> Result<()> {
    let storage = &arguments.storage.folder()?;
    let queries = match arguments.queries.as_slice() {
        [] => stored_queries(storage)?,
        names => names.iter().map(|name| find(storage, name)).collect::<Result<_>>()?,
    };
    if queries.is_empty() {
        return Err(Failure::check(format!("there is no query in {}", storage.display())));
    }
    let now = Utc::now();
    let faults = queries.iter().filter_map(|query| fault(query, now, arguments.restarting));
    let mut failures = faults.map(Failure::check);
    match failures.next() {
        Some(first) => Err(first.and(failures)),
        None => Ok(()),
    }
}

/// What is wrong with a query. One that is started again does not give up, and may still write nothing for days.
fn fault(query: &StoredQuery, now: DateTime<Utc>, restarting: Duration) -> Option<String> {
    let name = &query.name;
    match &query.state {
        QueryState::Stopped => Some(format!("query '{name}' is stopped")),
        QueryState::Gone => Some(format!(
            "query '{name}' is gone, its process ended without stopping it: start it again, and it goes on from its checkpoint"
        )),
        QueryState::Failed { error } => Some(format!("query '{name}' has failed: {error}")),
        QueryState::Running { .. } => {
            let since = query.restarting_since.as_ref()?;
            let moment = DateTime::parse_from_rfc3339(since).ok()?;
            let is_long = now.signed_duration_since(moment).to_std().is_ok_and(|passed| passed >= restarting);
            let error = query.last_error.as_deref().unwrap_or("no error is known");
            is_long.then(|| format!("query '{name}' has been started again since {since} without a batch: {error}"))
        }
    }
}

fn stop(storage: &Path, name: &str) -> Result<()> {
    let name = find(storage, name)?.name;
    request_stop(storage, &name)?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < deadline {
        if !matches!(find(storage, &name)?.state, QueryState::Running { .. }) {
            tracing::info!(query = name, "stopped");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::runtime(format!("query '{name}' has not stopped within {} s", STOP_TIMEOUT.as_secs()))
        .help("its batch takes long; it stops when that is done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_at_fault_that_does_not_run_or_is_started_again_for_too_long() {
        let running = QueryState::Running { pid: 1 };
        let check = |state: &QueryState, since: Option<&str>, expected: Option<&str>| {
            let query = StoredQuery {
                name: "q".to_owned(),
                target: "t".to_owned(),
                state: state.clone(),
                restarts: 3,
                last_error: Some("it is away".to_owned()),
                restarting_since: since.map(str::to_owned),
                last_progress: None,
            };
            let now = DateTime::parse_from_rfc3339("2026-01-01T12:05:00Z").unwrap().with_timezone(&Utc);
            assert_eq!(fault(&query, now, Duration::from_secs(300)).as_deref(), expected, "{since:?}");
        };
        check(&running, None, None);
        check(&running, Some("2026-01-01T12:00:00.001Z"), None);
        let long = "query 'q' has been started again since 2026-01-01T12:00:00.000Z without a batch: it is away";
        check(&running, Some("2026-01-01T12:00:00.000Z"), Some(long));
        // The clock of another machine.
        check(&running, Some("2026-01-01T12:06:00.000Z"), None);
        check(&QueryState::Stopped, None, Some("query 'q' is stopped"));
        check(&QueryState::Failed { error: "no".to_owned() }, None, Some("query 'q' has failed: no"));
    }
}
