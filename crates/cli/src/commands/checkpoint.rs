//! `highwater checkpoint list | inspect | verify | prune`: the checkpoints of a storage folder, or one by its location.
//!
//! What is in the files is the engine's to read ([`highwater_engine::checkpoint::inspect`]); here it is asked and printed.
//! All but `prune` only read, also while the query runs. A location may be the URL of an object store; its options are
//! those in the `highwater.yml` of the project in the current folder. `prune` refuses what is not on this machine.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use highwater_connectors::registry::connectors;
use highwater_engine::checkpoint::inspect::{
    self, BatchDetail, CheckpointSummary, Inspection, PrunePlan, Verification,
};
use highwater_engine::checkpoint::location;
use highwater_engine::checkpoint::{CheckpointContext, CheckpointDir, Durability, Location, RemoteSettings, Retention};
use highwater_engine::clock::{Clock, SystemClock};
use highwater_engine::error::{EngineError, nearest};
use highwater_engine::plan::catalog::Options;
use highwater_engine::query::{StoredCheckpoint, stored_checkpoints};

use super::sql::Storage;
use crate::config::highwater_yml::HighwaterYml;
use crate::error::{Failure, Result};
use crate::output::columns::{counts, flags, texts, times, write_columns, write_json, write_json_lines};
use crate::output::{Format, stdout_failure};
use crate::progress::board::bytes;
use crate::project::Project;
use crate::run::checkpoint_options;

/// The verbs of `checkpoint`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the checkpoints of a storage folder: batches, sizes, age
    List(List),
    /// Show the batches, operators, state files and runs of a checkpoint, or what one batch read
    Inspect(Inspect),
    /// Read every file of checkpoints with its checksum, and say what the next start would do
    Verify(Verify),
    /// Remove what going back to the newest batches does not need
    Prune(Prune),
}

/// Which checkpoint.
#[derive(Debug, clap::Args)]
struct Which {
    /// The query's name
    #[arg(required_unless_present = "location")]
    query: Option<String>,
    /// A checkpoint location (a path or a URL), instead of a query and its storage folder
    #[arg(long, value_name = "LOCATION", conflicts_with = "query")]
    location: Option<String>,
    #[command(flatten)]
    storage: Storage,
}

/// Arguments of `checkpoint list`.
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct List {
    #[command(flatten)]
    storage: Storage,
    /// How the list is printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

const LIST_EXAMPLES: &str = "\
Examples:
  highwater checkpoint list --storage data
  highwater checkpoint list --output json | jq 'select(.size_bytes > 1000000000)'";

/// A part of an inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Section {
    /// A row for each batch.
    Batches,
    /// The stateful operators and what their state depends on.
    Operators,
    /// The snapshots of the state.
    Snapshots,
    /// The runs that wrote to it.
    Runs,
}

/// Arguments of `checkpoint inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(crate) struct Inspect {
    #[command(flatten)]
    which: Which,
    /// What this batch read and changed
    #[arg(long, value_name = "N", conflicts_with = "section")]
    batch: Option<u64>,
    /// Show only this part; csv shows the batches if not given
    #[arg(long, value_enum, value_name = "PART")]
    section: Option<Section>,
    /// How it is printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  highwater checkpoint inspect alerts --storage data
  highwater checkpoint inspect alerts --batch 12             # its offsets, watermark and changes of state
  highwater checkpoint inspect --location file:///data/checkpoints/alerts --section batches --output csv";

/// Arguments of `checkpoint verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(crate) struct Verify {
    /// The query's name; all of the storage folder if not given
    query: Option<String>,
    /// A checkpoint location (a path or a URL), instead of a query and its storage folder
    #[arg(long, value_name = "LOCATION", conflicts_with = "query")]
    location: Option<String>,
    #[command(flatten)]
    storage: Storage,
    /// How the result is printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  highwater checkpoint verify --storage data          # exit code 4 if anything is damaged
  highwater checkpoint verify alerts --output json";

/// Arguments of `checkpoint prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = PRUNE_EXAMPLES)]
pub(crate) struct Prune {
    #[command(flatten)]
    which: Which,
    /// How many committed batches stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep: u64,
    /// Say what would go, but remove nothing
    #[arg(long)]
    dry_run: bool,
    /// How the result is printed
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

const PRUNE_EXAMPLES: &str = "\
Examples:
  highwater checkpoint prune alerts --keep 10 --dry-run
  highwater checkpoint prune alerts --keep 10                # refused while the query runs";

/// Carries one of the verbs out.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::List(arguments) => list(&arguments.storage.folder()?, arguments.output)?,
        Command::Inspect(arguments) => inspect(arguments)?,
        Command::Verify(arguments) => return verify(arguments),
        Command::Prune(arguments) => prune(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Which {
    fn checkpoint(&self) -> Result<StoredCheckpoint> {
        match (&self.location, &self.query) {
            (Some(location), _) => Ok(StoredCheckpoint { query: String::new(), location: location.clone() }),
            (None, query) => find(&self.storage.folder()?, query.as_deref().unwrap_or_default()),
        }
    }
}

/// The checkpoint of a query of a storage folder, or elsewhere: where the environment says that runs keep them, or the
/// project in the current folder.
pub(crate) fn of_query(storage: &Path, query: &str) -> highwater_engine::error::Result<CheckpointDir> {
    let known = stored_checkpoints(storage)?;
    let elsewhere = || {
        let of_project = || HighwaterYml::load(&Project::around(Path::new("."))?).ok()?.checkpoints.location;
        let location = std::env::var("HIGHWATER_CHECKPOINTS").ok().filter(|location| !location.is_empty());
        let location = location.or_else(of_project)?;
        Some(StoredCheckpoint { query: query.to_owned(), location: location::below(&location, query) })
    };
    let found = known.iter().find(|checkpoint| checkpoint.query.eq_ignore_ascii_case(query)).cloned();
    if let Some(found) = found.or_else(elsewhere) {
        let options = options_of(&found.location)
            .map_err(|failure| EngineError::config(failure.message()).help("see highwater.yml of the project"))?;
        return open_with(&found.location, &options);
    }
    let names = known.iter().map(|checkpoint| checkpoint.query.as_str());
    let error = EngineError::config(format!("there is no checkpoint of a query '{query}' in {}", storage.display()));
    Err(match nearest(query, names) {
        Some(near) => error.help(format!("did you mean '{near}'?")),
        None => error.help(format!("see 'highwater checkpoint list --storage {}'", storage.display())),
    })
}

fn find(storage: &Path, name: &str) -> Result<StoredCheckpoint> {
    let checkpoints = stored_checkpoints(storage)?;
    if let Some(found) = checkpoints.iter().find(|checkpoint| checkpoint.query.eq_ignore_ascii_case(name)) {
        return Ok(found.clone());
    }
    let failure = Failure::usage(format!("there is no checkpoint of a query '{name}' in {}", storage.display()));
    let names = checkpoints.iter().map(|checkpoint| checkpoint.query.as_str());
    Err(failure.help(match nearest(name, names) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("see 'highwater checkpoint list --storage {}'", storage.display()),
    }))
}

fn open(checkpoint: &StoredCheckpoint) -> Result<CheckpointDir> {
    Ok(open_with(&checkpoint.location, &options_of(&checkpoint.location)?)?)
}

/// The checkpoint at a location, for reading.
pub(crate) fn at(location: &str) -> Result<CheckpointDir> {
    Ok(open_with(location, &options_of(location)?)?)
}

/// The options of the object store that a location is in.
fn options_of(location: &str) -> Result<Options> {
    let is_remote = matches!(Location::parse(location)?, Location::Remote(_));
    Ok(match Project::around(Path::new(".")).filter(|_| is_remote) {
        Some(folder) => checkpoint_options(&HighwaterYml::load(&folder)?),
        None => Options::default(),
    })
}

fn open_with(location: &str, options: &Options) -> highwater_engine::error::Result<CheckpointDir> {
    let context = CheckpointContext {
        object_stores: &connectors().object_stores,
        options,
        remote: &RemoteSettings::default(),
        durability: Durability::Fsync,
        clock: Arc::new(SystemClock),
        // Only reading is done to what is not on this machine: `prune` refuses it.
        work_dir: Path::new(""),
    };
    CheckpointDir::open_with(location, &context)
}

/// On this machine a lock tells whether the query runs. Elsewhere nothing does, and a run of ours would end its own.
fn refuse_remote(location: &str) -> Result<()> {
    match Location::parse(location)? {
        Location::Local(_) => Ok(()),
        Location::Remote(remote) => Err(Failure::usage(format!(
            "checkpoint '{remote}' cannot be pruned from here: it is not on this machine, and if its query runs \
             anywhere, that would end it"
        ))
        .help("--dry-run shows what would go; the query itself removes what its retention does not keep")),
    }
}

/// A line of the list: a checkpoint that cannot be read has its line, too.
struct Listed {
    query: String,
    summary: Option<CheckpointSummary>,
    problem: Option<String>,
}

fn list(storage: &Path, format: Format) -> Result<()> {
    let mut rows = Vec::new();
    for checkpoint in stored_checkpoints(storage)? {
        let found = open(&checkpoint).and_then(|dir| Ok(inspect::summarize(&dir)?));
        let query = checkpoint.query;
        rows.push(match found {
            Ok(summary) => Listed { query, summary: Some(summary), problem: None },
            Err(failure) => Listed { query, summary: None, problem: Some(failure.message().to_owned()) },
        });
    }
    let now_ms = SystemClock.now_ms();
    let count =
        |value: fn(&CheckpointSummary) -> Option<u64>| counts(rows.iter().map(|row| value(row.summary.as_ref()?)));
    let time =
        |value: fn(&CheckpointSummary) -> Option<i64>| times(rows.iter().map(|row| value(row.summary.as_ref()?)));
    let age =
        |summary: &CheckpointSummary| Some(now_ms.saturating_sub(summary.last_batch_ms?).max(0).unsigned_abs() / 1000);
    let columns = [
        ("query", texts(rows.iter().map(|row| Some(row.query.clone())))),
        ("first_batch", count(|summary| summary.first_batch)),
        ("last_batch", count(|summary| summary.last_batch)),
        ("last_commit", count(|summary| summary.last_commit)),
        ("watermark", time(|summary| summary.watermark_ms.filter(|watermark| *watermark > 0))),
        ("last_batch_at", time(|summary| summary.last_batch_ms)),
        ("age_s", counts(rows.iter().map(|row| age(row.summary.as_ref()?)))),
        ("files", count(|summary| Some(summary.sizes.files))),
        ("state_bytes", count(|summary| Some(summary.sizes.changelogs_bytes + summary.sizes.snapshots_bytes))),
        ("size_bytes", count(|summary| Some(summary.sizes.total_bytes()))),
        ("problem", texts(rows.iter().map(|row| row.problem.clone()))),
    ];
    write_columns(format, columns, &mut std::io::stdout().lock())
}

fn inspect(arguments: &Inspect) -> Result<()> {
    let checkpoint = open(&arguments.which.checkpoint()?)?;
    let out = &mut std::io::stdout().lock();
    if let Some(batch) = arguments.batch {
        return write_batch(&inspect::inspect_batch(&checkpoint, batch)?, arguments.output, out);
    }
    let inspection = inspect::inspect(&checkpoint)?;
    match (arguments.output, arguments.section) {
        (Format::Json, None) => write_json(&inspection, out),
        (Format::Json, Some(Section::Batches)) => write_json_lines(&inspection.batches, out),
        (Format::Json, Some(Section::Operators)) => write_json(&inspection.operators, out),
        (Format::Json, Some(Section::Snapshots)) => write_json_lines(&inspection.snapshots, out),
        (Format::Json, Some(Section::Runs)) => write_json_lines(&inspection.runs, out),
        (Format::Table, None) => write_report(&inspection, out),
        (format, section) => write_section(&inspection, section.unwrap_or(Section::Batches), format, out),
    }
}

fn write_section(inspection: &Inspection, section: Section, format: Format, out: &mut impl Write) -> Result<()> {
    match section {
        Section::Batches => write_batches(inspection, format, out),
        Section::Operators => {
            let columns = [
                ("operator", texts(inspection.operators.keys().cloned().map(Some))),
                ("depends_on", texts(inspection.operators.values().cloned().map(Some))),
            ];
            write_columns(format, columns, out)
        }
        Section::Snapshots => {
            let rows = &inspection.snapshots;
            let columns = [
                ("batch", counts(rows.iter().map(|row| Some(row.batch)))),
                ("files", counts(rows.iter().map(|row| Some(row.files)))),
                ("size_bytes", counts(rows.iter().map(|row| Some(row.size_bytes)))),
            ];
            write_columns(format, columns, out)
        }
        Section::Runs => {
            let rows = &inspection.runs;
            let columns = [
                ("run", counts(rows.iter().map(|row| Some(row.number)))),
                ("started", times(rows.iter().map(|row| Some(row.record.started_ms)))),
                ("process", counts(rows.iter().map(|row| Some(u64::from(row.record.pid))))),
                ("run_id", texts(rows.iter().map(|row| Some(row.record.run_id.clone())))),
            ];
            write_columns(format, columns, out)
        }
    }
}

fn write_batches(inspection: &Inspection, format: Format, out: &mut impl Write) -> Result<()> {
    let rows = &inspection.batches;
    let columns = [
        ("batch", counts(rows.iter().map(|row| Some(row.batch)))),
        ("committed", flags(rows.iter().map(|row| Some(row.is_committed)))),
        ("started", times(rows.iter().map(|row| row.started_ms))),
        ("watermark", times(rows.iter().map(|row| row.watermark_ms.filter(|watermark| *watermark > 0)))),
        ("changelog_bytes", counts(rows.iter().map(|row| row.changelog_bytes))),
        ("snapshot", flags(rows.iter().map(|row| Some(row.has_snapshot)))),
        ("restorable", flags(rows.iter().map(|row| row.is_restorable))),
        ("dead_letters", counts(rows.iter().map(|row| Some(row.dead_letters)))),
    ];
    write_columns(format, columns, out)
}

/// All sections, for people.
fn write_report(inspection: &Inspection, out: &mut impl Write) -> Result<()> {
    let CheckpointSummary { query, query_id, target, location, sizes, .. } = &inspection.summary;
    let mut text = format!("query {query} ({query_id}) writing to {target}\nlocation {location}\n");
    text += &format!(
        "size {}: logs {}, changelogs {}, snapshots {}, dead letters {}\n",
        bytes(sizes.total_bytes()),
        bytes(sizes.logs_bytes),
        bytes(sizes.changelogs_bytes),
        bytes(sizes.snapshots_bytes),
        bytes(sizes.dead_letters_bytes)
    );
    let line = |text: &str, out: &mut dyn Write| write!(out, "{text}").map_err(stdout_failure);
    line(&text, out)?;
    write_batches(inspection, Format::Table, out)?;
    if inspection.operators.is_empty() {
        line("\nstate: the query keeps none\n", out)?;
    } else {
        line("\noperators:\n", out)?;
        write_section(inspection, Section::Operators, Format::Table, out)?;
        line("\nsnapshots:\n", out)?;
        write_section(inspection, Section::Snapshots, Format::Table, out)?;
    }
    line("\nruns:\n", out)?;
    write_section(inspection, Section::Runs, Format::Table, out)
}

fn write_batch(detail: &BatchDetail, format: Format, out: &mut impl Write) -> Result<()> {
    if format == Format::Json {
        return write_json(detail, out);
    }
    let rows = &detail.sources;
    let columns = [
        ("source", counts(rows.iter().map(|row| Some(row.source as u64)))),
        ("name", texts(rows.iter().map(|row| row.name.clone()))),
        ("start", texts(rows.iter().map(|row| Some(row.start.as_ref()?.to_string())))),
        ("end", texts(rows.iter().map(|row| Some(row.end.as_ref()?.to_string())))),
    ];
    if format == Format::Table {
        let state = if detail.is_committed { "committed" } else { "not committed" };
        let time =
            |ms: i64| chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default().format("%Y-%m-%d %H:%M:%S%.3f");
        let mut text = format!("batch {}: {state}, began {}\n", detail.batch, time(detail.started_ms));
        if detail.watermark_ms > 0 || detail.next_watermark_ms.is_some_and(|next| next > 0) {
            let next = detail.next_watermark_ms.map(|next| format!(", left {} to the next", time(next)));
            text += &format!("watermark {}{}\n", time(detail.watermark_ms), next.unwrap_or_default());
        }
        for (operator, changes) in detail.state_changes.iter().flatten() {
            text += &format!("operator {operator}: {changes} changes of state\n");
        }
        write!(out, "{text}").map_err(stdout_failure)?;
    }
    write_columns(format, columns, out)
}

fn verify(arguments: &Verify) -> Result<ExitCode> {
    let checkpoints = match (&arguments.location, &arguments.query) {
        (Some(location), _) => vec![StoredCheckpoint { query: String::new(), location: location.clone() }],
        (None, Some(query)) => vec![find(&arguments.storage.folder()?, query)?],
        (None, None) => stored_checkpoints(&arguments.storage.folder()?)?,
    };
    let mut found = Vec::new();
    for checkpoint in &checkpoints {
        found.push(inspect::verify(&open(checkpoint)?)?);
    }
    let out = &mut std::io::stdout().lock();
    match arguments.output {
        Format::Json => write_json_lines(&found, out)?,
        format => write_verifications(&found, format, out)?,
    }
    let mut damage = found.iter().flat_map(|verification| &verification.findings).map(|finding| {
        let failure = Failure::check(finding.found.clone());
        failure.help(finding.help.clone())
    });
    match damage.next() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => Err(first.and(damage)),
    }
}

fn write_verifications(found: &[Verification], format: Format, out: &mut impl Write) -> Result<()> {
    let name = |verification: &Verification| {
        if verification.query.is_empty() { verification.location.clone() } else { verification.query.clone() }
    };
    let columns = [
        ("query", texts(found.iter().map(|verification| Some(name(verification))))),
        ("files", counts(found.iter().map(|verification| Some(verification.files)))),
        ("size_bytes", counts(found.iter().map(|verification| Some(verification.size_bytes)))),
        ("damaged", counts(found.iter().map(|verification| Some(verification.findings.len() as u64)))),
        ("restorable", texts(found.iter().map(|verification| Some(ranges(&verification.restorable))))),
        ("next_start", texts(found.iter().map(|verification| Some(verification.next_start.clone())))),
    ];
    write_columns(format, columns, out)
}

/// `0-4, 7`.
fn ranges(batches: &[u64]) -> String {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for batch in batches {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *batch => *last = *batch,
            _ => parts.push((*batch, *batch)),
        }
    }
    let part = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn prune(arguments: &Prune) -> Result<()> {
    let stored = arguments.which.checkpoint()?;
    if !arguments.dry_run {
        refuse_remote(&stored.location)?;
    }
    let checkpoint = open(&stored)?;
    let retention = Retention { min_batches_to_retain: arguments.keep };
    let query = inspect::summarize(&checkpoint)?.query;
    let plan = if arguments.dry_run {
        inspect::plan_prune(&checkpoint, retention)?
    } else {
        let running = checkpoint.start_run(&query, &SystemClock)?;
        inspect::prune(&running, retention)?
    };
    let out = &mut std::io::stdout().lock();
    match arguments.output {
        Format::Json => write_json(&plan, out)?,
        format => write_plan(&plan, format, out)?,
    }
    let what = if arguments.dry_run { "dry run: would remove" } else { "removed" };
    let why = match what_stays(&plan, retention) {
        Some(why) => format!(": {why}"),
        None => String::new(),
    };
    tracing::info!(query, "{what} {} files, {}{why}", plan.files(), bytes(plan.size_bytes));
    Ok(())
}

/// Why nothing goes, or less than one might expect.
fn what_stays(plan: &PrunePlan, retention: Retention) -> Option<String> {
    let keep = retention.min_batches_to_retain;
    match plan.keep_from {
        None => return Some("no batch is committed yet".to_owned()),
        Some(0) => return Some(format!("it has no more than the {keep} committed batches that stay")),
        Some(_) => {}
    }
    if let Some(newest) = plan.needed_changelogs.last() {
        let count = plan.needed_changelogs.len();
        return Some(format!(
            "{count} changelogs up to batch {newest} stay, the state is restored from them until the next snapshot"
        ));
    }
    (plan.files() == 0).then(|| format!("nothing is left of what was before the {keep} batches that stay"))
}

fn write_plan(plan: &PrunePlan, format: Format, out: &mut impl Write) -> Result<()> {
    let kinds: [(&str, &[u64]); 4] = [
        ("offset log", &plan.offsets),
        ("commit log", &plan.commits),
        ("changelogs", &plan.changelogs),
        ("snapshots", &plan.snapshots),
    ];
    let files = kinds.iter().map(|(_, batches)| batches.len()).chain([plan.content_files.len()]);
    let columns = [
        (
            "removed",
            texts(kinds.iter().map(|(kind, _)| *kind).chain(["content files"]).map(|kind| Some(kind.to_owned()))),
        ),
        ("files", counts(files.map(|files| Some(files as u64)))),
        ("batches", texts(kinds.iter().map(|(_, batches)| Some(ranges(batches))).chain([None]))),
    ];
    write_columns(format, columns, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_why_something_stays() {
        let check = |keep_from: Option<u64>, offsets: &[u64], needed: &[u64], expected: Option<&str>| {
            let plan = PrunePlan {
                keep_from,
                offsets: offsets.to_vec(),
                commits: Vec::new(),
                changelogs: Vec::new(),
                snapshots: Vec::new(),
                content_files: Vec::new(),
                needed_changelogs: needed.to_vec(),
                size_bytes: 0,
            };
            let found = what_stays(&plan, Retention { min_batches_to_retain: 10 });
            assert_eq!(found.as_deref(), expected);
        };
        check(None, &[], &[], Some("no batch is committed yet"));
        check(Some(0), &[], &[], Some("it has no more than the 10 committed batches that stay"));
        check(Some(5), &[3, 4], &[], None);
        let needed = "2 changelogs up to batch 4 stay, the state is restored from them until the next snapshot";
        check(Some(5), &[3, 4], &[3, 4], Some(needed));
        check(Some(5), &[], &[], Some("nothing is left of what was before the 10 batches that stay"));
    }

    #[test]
    fn batches_are_told_as_ranges() {
        for (batches, expected) in [(&[][..], ""), (&[3], "3"), (&[0, 1, 2, 5, 7, 8], "0-2, 5, 7-8")] {
            assert_eq!(ranges(batches), expected);
        }
    }
}
