//! The start of a streaming query: `writeStream` as the statements that `highwater run` would take.
//!
//! ```text
//!   StartStream ─> CREATE TABLE target; CREATE FLOW name AS INSERT INTO target query ─> Pipeline ─> threads
//! ```
//!
//! A query without a name has one made from its checkpoint, so that it goes on there. Python code of a query (`foreach`,
//! `foreachBatch`) is refused by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use highwater_engine::clock::SystemClock;
use highwater_engine::plan::{Program, ScriptFile};
use highwater_engine::progress::ProgressListener;
use highwater_engine::query::{FlowSettings, Pipeline, PipelineSettings, Trigger};
use highwater_engine::sink::OutputMode;
use parking_lot::Mutex;

use super::StreamingQuery;
use super::events;
use super::watch::{Temporary, Watch};
use crate::connect::operations::Operation;
use crate::connect::problem::{Problem, Result};
use crate::connect::session::Session;
use crate::connect::sql::{self, options_text, quoted};
use crate::spark_connect::messages::{Answer, StartStream, StreamStarted, StreamTarget, StreamTrigger};

/// Starts a query.
pub(crate) fn start(session: &Session, operation: &Operation, start: &StartStream) -> Result<()> {
    if start.foreach_batch.is_some() || start.foreach_writer.is_some() {
        return Err(Problem::unsupported(
            "foreachBatch and foreach (Python code in a streaming query)",
            "write to a format that Highwater has: kafka, delta, parquet, json, csv, postgres, sqlite, memory",
        ));
    }
    let name = Some(start.query_name.clone()).filter(|name| !name.is_empty());
    let script = Script::new(session, start, name.as_deref())?;
    session.streams.check_new(name.as_deref().unwrap_or(&script.flow))?;
    let settings = settings(session, start, &script)?;
    let trigger = settings.flows.values().find_map(|flow| flow.trigger).unwrap_or_default();
    let files: Vec<ScriptFile> = script.files(session);
    let program = Program::parse(&files)?;
    let pipeline = Pipeline::open(program, settings, session.connectors.clone(), Arc::new(SystemClock))?;
    let described = pipeline.flows().pop();
    let described = described.ok_or_else(|| Problem::runtime("a streaming query has no flow"))?;
    if described.sources.is_empty() {
        return Err(Problem::analysis("'writeStream' can be called only on streaming Dataset/DataFrame"));
    }
    let replaced = match &script.kept_table {
        Some(table) => session.define_named(table, &script.target_statement(&described.columns))?,
        None => None,
    };
    let watch = Arc::new(Watch::new(name.clone(), session.streams.shared.clone(), script.temporary.clone()));
    let listener: Arc<dyn ProgressListener> = watch.clone();
    // The table of a sink that begins anew begins anew, as in Spark.
    let forgotten = script.is_memory.then(|| session.forget_rows(&script.target));
    let started = {
        let _alone = STARTS.lock();
        pipeline.start(listener)
    };
    if started.is_err() {
        // What had the name has it again.
        if let Some(table) = &script.kept_table {
            session.restore(table, replaced);
        }
        if let Some(rows) = forgotten {
            session.remember_rows(&script.target, rows);
        }
    }
    let running = started?;
    // Who the query is stands in its checkpoint, which its thread opens.
    let opened = session.streams.shared.signal.wait(operation, None, || watch.is_settled());
    if opened.is_err() {
        running.stop();
    }
    let id = watch.identity();
    let started_json = events::started(&id, name.as_deref());
    let query = StreamingQuery {
        id: id.clone(),
        name: name.clone(),
        explain: described.explain,
        waits_for_trigger: matches!(trigger, Trigger::ProcessingTime(interval) if !interval.is_zero()),
        watch,
        running: Mutex::new(Some(running)),
        is_reset: AtomicBool::new(false),
    };
    session.streams.take_in(operation, query)?;
    opened?;
    let started = StreamStarted { id: Some(id), name: name.unwrap_or_default(), started_json: Some(started_json) };
    operation.push(Some(Answer::StreamStarted(started)), None)
}

/// Formats of tables that lie in a folder: without a path in one of their own, where the session finds it again.
const FILES: [&str; 5] = ["csv", "delta", "json", "parquet", "text"];

/// One at a time: the storage folder has one catalog for all sessions.
static STARTS: Mutex<()> = Mutex::new(());

/// The statements a query runs as.
struct Script {
    flow: String,
    target: String,
    definition: String,
    query: String,
    checkpoint: String,
    /// What of a query that begins anew each time nobody needs after it.
    temporary: Option<Temporary>,
    /// The table that the session can read afterwards.
    kept_table: Option<String>,
    /// Whether others can, too.
    is_stored: bool,
    /// Whether its rows are kept in the session's memory.
    is_memory: bool,
}

impl Script {
    fn new(session: &Session, start: &StartStream, name: Option<&str>) -> Result<Self> {
        let input = start.input.as_ref().ok_or_else(|| Problem::argument("a streaming query has no relation"))?;
        let query = sql::query(input, session)?;
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let mut options = start.options.clone();
        let checkpoint = take(&mut options, "checkpointLocation");
        let path = match &start.target {
            Some(StreamTarget::Path(path)) => Some(path.clone()),
            _ => take(&mut options, "path"),
        };
        let table = match &start.target {
            // There is one namespace: of `catalog.database.table` the last part counts.
            Some(StreamTarget::Table(table)) => Some(table.rsplit('.').next().unwrap_or(table).to_owned()),
            _ => None,
        };
        let flow = match &checkpoint {
            // The same checkpoint is the same query, whatever runs it and calls it.
            Some(location) => format!("query_{:016x}", fnv(location)),
            // Sessions do not know each other's names, and queries of one name must not meet.
            None => format!("{}_{unique}", plain(name.unwrap_or("query"))),
        };
        let format = Some(start.format.as_str()).filter(|format| !format.is_empty());
        let format = format.unwrap_or(if table.is_some() { "delta" } else { "parquet" }).to_lowercase();
        let word = sql::format_word(&format)?;
        if let Some(path) = path {
            options.insert("path".to_owned(), path);
        }
        let is_memory = format == "memory";
        let target = match (&table, name) {
            (Some(table), _) => table.clone(),
            (None, Some(name)) if is_memory => name.to_owned(),
            (None, None) if is_memory => {
                return Err(Problem::analysis("queryName must be specified for memory sink"));
            }
            (None, _) => format!("__sink_{flow}"),
        };
        // What Spark's console takes and ours does not need.
        if format == "console" {
            options.retain(|key, _| !matches!(key.to_lowercase().as_str(), "truncate" | "numrows"));
        }
        // Rows are records by Spark's columns (key, value, topic), not objects as those of our own tables.
        if format == "kafka" {
            options.entry("value.format".to_owned()).or_insert_with(|| "raw".to_owned());
        }
        let partitions: Vec<String> = start.partitioning_columns.iter().map(|name| quoted(name)).collect();
        let partitions =
            if partitions.is_empty() { String::new() } else { format!(" PARTITIONED BY ({})", partitions.join(", ")) };
        if let Some(table) = &table
            && !options.contains_key("path")
            && (options.is_empty() || FILES.contains(&format.as_str()))
        {
            let folder = std::path::absolute(&session.storage).unwrap_or_else(|_| session.storage.clone());
            options.insert("path".to_owned(), folder.join("tables").join(table).display().to_string());
        }
        let definition = format!("USING {word}{}{partitions}", options_text(&options));
        let kept_table = if is_memory || table.is_some() { Some(target.clone()) } else { None };
        // Without a location a query begins anew each time, as in Spark: its name is not kept.
        let (checkpoint, temporary) = match checkpoint {
            Some(location) => (location, None),
            None => {
                let folder = session.storage.join("connect").join(&unique);
                let storage = session.storage.clone();
                (folder.display().to_string(), Some(Temporary { storage, query: flow.clone(), checkpoint: folder }))
            }
        };
        let is_stored = table.is_some();
        Ok(Self { flow, target, definition, query, checkpoint, temporary, kept_table, is_stored, is_memory })
    }

    fn files(&self, session: &Session) -> Vec<ScriptFile> {
        let mut texts = session.statements_for(&self.query);
        let target = quoted(&self.target);
        texts.retain(|text| !text.starts_with(&format!("CREATE TABLE {target} ")));
        texts.push(format!("CREATE STREAMING TABLE {target} {}", self.definition));
        texts.push(format!("CREATE FLOW {} AS INSERT INTO {target} BY NAME {}", quoted(&self.flow), self.query));
        texts.into_iter().map(|text| ScriptFile { name: "query".to_owned(), text }).collect()
    }

    /// How the session reads the target.
    fn target_statement(&self, columns: &arrow::datatypes::Schema) -> String {
        let ddl = highwater_engine::plan::ddl::schema_ddl(columns);
        format!("CREATE TABLE {} ({ddl}) {}", quoted(&self.target), self.definition)
    }
}

fn settings(session: &Session, start: &StartStream, script: &Script) -> Result<PipelineSettings> {
    let mut settings = PipelineSettings::new(&session.storage);
    settings.configuration = session.config.lock().given();
    settings.checkpoints.location = Some(script.checkpoint.clone());
    // What a session reads and keeps for itself is no table of the storage folder.
    settings.stored_tables = Some(script.kept_table.iter().filter(|_| script.is_stored).cloned().collect());
    let trigger = match &start.trigger {
        None => Trigger::default(),
        Some(StreamTrigger::AvailableNow(_)) => Trigger::AvailableNow,
        Some(StreamTrigger::Once(_)) => Trigger::Once,
        Some(StreamTrigger::ProcessingTime(interval)) => interval.parse()?,
        Some(StreamTrigger::RealTime(interval)) => format!("real-time {interval}").parse()?,
        Some(StreamTrigger::Continuous(_)) => {
            return Err(Problem::unsupported("the continuous trigger", "use trigger(realTime=...)"));
        }
    };
    let mode = match start.output_mode.to_lowercase().as_str() {
        "" | "append" => OutputMode::Append,
        "update" => OutputMode::Update,
        "complete" => OutputMode::Complete,
        other => {
            return Err(Problem::argument(format!("the output mode '{other}' is none of append, update, complete")));
        }
    };
    let flow = FlowSettings { trigger: Some(trigger), output_mode: Some(mode), ..FlowSettings::default() };
    settings.flows.insert(script.flow.clone(), flow);
    Ok(settings)
}

fn take(options: &mut HashMap<String, String>, key: &str) -> Option<String> {
    let found = options.keys().find(|known| known.eq_ignore_ascii_case(key)).cloned()?;
    options.remove(&found)
}

/// A name that is one of a file, too.
fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_alphanumeric() || letter == '-' { letter } else { '_' }).take(64).collect()
}

/// A number that stays the same for a text from run to run (FNV-1a).
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::config::Config;
    use crate::spark_connect::messages::{DataSource, Read, ReadKind, Relation, RelationKind};

    #[test]
    fn a_start_that_fails_leaves_names_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let session = Session::new("s", folder.path().to_owned(), Config::default(), &[]);
        let table = "CREATE TABLE `t` (n INT) USING memory";
        session.define_named("t", table).unwrap();
        // A file stands where the status of queries goes: the query is planned, and not started.
        std::fs::write(folder.path().join("queries"), "").unwrap();
        let rate = DataSource { format: Some("rate".to_owned()), ..DataSource::default() };
        let read = Read { kind: Some(ReadKind::Source(rate)), is_streaming: true };
        let input = Relation { common: None, kind: Some(RelationKind::Read(read)) };
        let request = StartStream {
            input: Some(input),
            format: "memory".to_owned(),
            query_name: "t".to_owned(),
            ..StartStream::default()
        };
        let operation = Operation::new("o".to_owned(), Vec::new(), "s", "t");
        let problem = start(&session, &operation, &request).unwrap_err();
        assert!(problem.message().contains("queries' cannot be made"), "{problem:?}");
        assert_eq!(session.define_named("t", table).unwrap().as_deref(), Some(table));
        std::fs::remove_file(folder.path().join("queries")).unwrap();
        start(&session, &operation, &request).unwrap();
        assert_ne!(session.define_named("t", table).unwrap().as_deref(), Some(table), "the query's table has the name");
        session.streams.wait_all();
    }
}
