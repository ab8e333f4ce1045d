//! Streaming queries of a session: `writeStream` starts one as `highwater run` would, and the rest asks about them.
//!
//! ```text
//!   StartStream ─> CREATE TABLE target; CREATE FLOW name AS INSERT INTO target query ─> Pipeline ─> threads
//!                                             progress, the end <── Watch ──┘
//! ```
//!
//! A query without a name has one made from its checkpoint, so that it goes on there. Python code of a query (`foreach`,
//! `foreachBatch`, listeners) is refused by name.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_engine::clock::SystemClock;
use highwater_engine::plan::{Program, ScriptFile};
use highwater_engine::progress::{ProgressListener, StreamingQueryProgress};
use highwater_engine::query::{FlowSettings, Pipeline, PipelineSettings, RunningPipeline, Trigger};
use highwater_engine::sink::OutputMode;
use parking_lot::{Condvar, Mutex};

use super::operations::Operation;
use super::problem::{Problem, Result};
use super::session::Session;
use super::sql::{self, options_text, quoted};
use crate::spark_connect::messages::{
    ActiveQueries, Answer, ExceptionResult, Flag, ProgressResult, QueriesCommand, QueriesCommandKind, QueriesResult,
    QueriesResultKind, QueryCommand, QueryCommandKind, QueryId, QueryInstance, QueryResult, QueryResultKind,
    StartStream, StatusResult, StreamStarted, StreamTarget, StreamTrigger, Text,
};

/// How many streaming queries a session may run, and how many that have ended are remembered.
const MAX_ACTIVE: usize = 64;
const MAX_ENDED: usize = 64;

/// How much progress of a query is kept: Spark's `spark.sql.streaming.numRecentProgressUpdates`.
const RECENT: usize = 100;

/// The longest that one call waits; a client asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60 * 24);

/// The streaming queries of a session.
#[derive(Default)]
pub(crate) struct Streams {
    queries: Mutex<Vec<Arc<StreamingQuery>>>,
}

/// A streaming query.
struct StreamingQuery {
    id: QueryId,
    name: Option<String>,
    explain: String,
    watch: Arc<Watch>,
    running: Mutex<Option<RunningPipeline>>,
}

/// What is known of a query while it runs.
#[derive(Default)]
struct Watch {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    recent: VecDeque<StreamingQueryProgress>,
    batches: u64,
    ended: Option<Option<String>>,
}

impl ProgressListener for Watch {
    fn on_progress(&self, progress: &StreamingQueryProgress) {
        let mut seen = self.seen.lock();
        if seen.recent.len() == RECENT {
            seen.recent.pop_front();
        }
        seen.recent.push_back(progress.clone());
        seen.batches += 1;
        self.changed.notify_all();
    }

    fn on_terminated(&self, _name: &str, error: Option<&str>) {
        self.seen.lock().ended = Some(error.map(str::to_owned));
        self.changed.notify_all();
    }
}

impl Watch {
    /// Waits until `is_so`; false when the time is over.
    fn wait(&self, timeout: Duration, is_so: impl Fn(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut seen = self.seen.lock();
        while !is_so(&seen) {
            if self.changed.wait_until(&mut seen, deadline).timed_out() {
                return is_so(&seen);
            }
        }
        true
    }
}

impl StreamingQuery {
    fn is_active(&self) -> bool {
        self.watch.seen.lock().ended.is_none()
    }

    fn instance(&self) -> QueryInstance {
        QueryInstance { id: Some(self.id.clone()), name: self.name.clone() }
    }

    /// Lets it finish its batch, and waits for that.
    fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(running) = running {
            running.stop();
            // Its error, if it has one, was told to the watch.
            let _ = running.wait();
        }
    }
}

impl Streams {
    /// Whether any query runs.
    pub(crate) fn any_active(&self) -> bool {
        self.queries.lock().iter().any(|query| query.is_active())
    }

    /// Asks every query to stop.
    pub(crate) fn stop_all(&self) {
        for query in self.queries.lock().iter() {
            if let Some(running) = query.running.lock().as_ref() {
                running.stop();
            }
        }
    }

    /// Waits for those that were asked to stop.
    pub(crate) fn wait_all(&self) {
        let queries = self.queries.lock().clone();
        queries.iter().for_each(|query| query.stop());
    }

    fn find(&self, id: &QueryId) -> Result<Arc<StreamingQuery>> {
        let queries = self.queries.lock();
        let found = queries.iter().rev().find(|query| query.id.id == id.id && query.id.run_id == id.run_id);
        found
            .cloned()
            .ok_or_else(|| Problem::argument(format!("there is no streaming query {} of run {}", id.id, id.run_id)))
    }

    fn add(&self, query: StreamingQuery) {
        let mut queries = self.queries.lock();
        let ended = queries.iter().filter(|query| !query.is_active()).count();
        if ended > MAX_ENDED
            && let Some(oldest) = queries.iter().position(|query| !query.is_active())
        {
            queries.remove(oldest);
        }
        queries.push(Arc::new(query));
    }

    fn check_new(&self, name: &str) -> Result<()> {
        let queries = self.queries.lock();
        let active: Vec<_> = queries.iter().filter(|query| query.is_active()).collect();
        if active.len() >= MAX_ACTIVE {
            return Err(Problem::exhausted(format!("a session runs at most {MAX_ACTIVE} streaming queries\nstop one")));
        }
        if active.iter().any(|query| query.name.as_deref() == Some(name)) {
            return Err(Problem::argument(format!(
                "Cannot start query with name {name} as a query with that name is already active in this SparkSession"
            )));
        }
        Ok(())
    }
}

/// Starts a query.
pub(crate) fn start(session: &Session, operation: &Operation, start: StartStream) -> Result<()> {
    if start.foreach_batch.is_some() || start.foreach_writer.is_some() {
        return Err(Problem::unsupported(
            "foreachBatch and foreach (Python code in a streaming query)",
            "write to a format that Highwater has: kafka, delta, parquet, json, csv, postgres, sqlite, memory",
        ));
    }
    let name = Some(start.query_name.clone()).filter(|name| !name.is_empty());
    let script = Script::new(session, &start, name.as_deref())?;
    session.streams.check_new(name.as_deref().unwrap_or(&script.flow))?;
    let settings = settings(session, &start, &script)?;
    let files: Vec<ScriptFile> = script.files(session);
    let program = Program::parse(&files)?;
    let pipeline = Pipeline::open(program, settings, session.connectors.clone(), Arc::new(SystemClock))?;
    let described = pipeline.flows().pop();
    let described = described.ok_or_else(|| Problem::runtime("a streaming query has no flow"))?;
    if described.sources.is_empty() {
        return Err(Problem::analysis("'writeStream' can be called only on streaming Dataset/DataFrame"));
    }
    if let Some(table) = &script.kept_table {
        session.define_named(table, &script.target_statement(&described.columns))?;
    }
    let watch = Arc::new(Watch::default());
    let listener: Arc<dyn ProgressListener> = watch.clone();
    let running = pipeline.start(listener)?;
    let id = QueryId { id: script.id.clone(), run_id: uuid::Uuid::new_v4().to_string() };
    let query = StreamingQuery {
        id: id.clone(),
        name: name.clone(),
        explain: described.explain,
        watch,
        running: Mutex::new(Some(running)),
    };
    session.streams.add(query);
    let started = StreamStarted { id: Some(id), name: name.unwrap_or_default(), started_json: None };
    operation.push(Some(Answer::StreamStarted(started)), None)
}

/// The statements a query runs as.
struct Script {
    flow: String,
    id: String,
    target: String,
    definition: String,
    query: String,
    checkpoint: Option<String>,
    /// The table that the session can read afterwards.
    kept_table: Option<String>,
}

impl Script {
    fn new(session: &Session, start: &StartStream, name: Option<&str>) -> Result<Self> {
        let input = start.input.as_ref().ok_or_else(|| Problem::argument("a streaming query has no relation"))?;
        let query = sql::query(input, session)?;
        let id = uuid::Uuid::new_v4().to_string();
        let mut options = start.options.clone();
        let checkpoint = take(&mut options, "checkpointLocation");
        let path = match &start.target {
            Some(StreamTarget::Path(path)) => Some(path.clone()),
            _ => take(&mut options, "path"),
        };
        let table = match &start.target {
            Some(StreamTarget::Table(table)) => Some(table.clone()),
            _ => None,
        };
        let flow = match (name, &checkpoint) {
            (Some(name), _) => name.to_owned(),
            // The same checkpoint is the same query, whatever runs it.
            (None, Some(location)) => format!("query_{:016x}", fnv(location)),
            (None, None) => format!("query_{}", id.replace('-', "")),
        };
        let format = Some(start.format.as_str()).filter(|format| !format.is_empty());
        let format = format.unwrap_or(if table.is_some() { "delta" } else { "parquet" }).to_lowercase();
        if let Some(path) = path {
            options.insert("path".to_owned(), path);
        }
        let is_memory = format == "memory";
        if is_memory && name.is_none() {
            return Err(Problem::analysis("queryName must be specified for memory sink"));
        }
        let target = match (&table, is_memory) {
            (Some(table), _) => table.clone(),
            (None, true) => flow.clone(),
            (None, false) => format!("__sink_{flow}"),
        };
        // What Spark's console takes and ours does not need.
        if format == "console" {
            options.retain(|key, _| !matches!(key.to_lowercase().as_str(), "truncate" | "numrows"));
        }
        let partitions: Vec<String> = start.partitioning_columns.iter().map(|name| quoted(name)).collect();
        let partitions =
            if partitions.is_empty() { String::new() } else { format!(" PARTITIONED BY ({})", partitions.join(", ")) };
        if let Some(table) = &table
            && options.is_empty()
        {
            let folder = std::path::absolute(&session.storage).unwrap_or_else(|_| session.storage.clone());
            options.insert("path".to_owned(), folder.join("tables").join(table).display().to_string());
        }
        let definition = format!("USING {format}{}{partitions}", options_text(&options));
        let kept_table = if is_memory || table.is_some() { Some(target.clone()) } else { None };
        Ok(Self { flow, id, target, definition, query, checkpoint, kept_table })
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
    // Without a location a query begins anew each time, as in Spark: its name is not kept.
    let location = script
        .checkpoint
        .clone()
        .unwrap_or_else(|| session.storage.join("connect").join(&script.id).display().to_string());
    settings.checkpoints.location = Some(location);
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

/// A number that stays the same for a text from run to run (FNV-1a).
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Answers what is asked of one query.
pub(crate) fn query_command(session: &Session, operation: &Operation, command: QueryCommand) -> Result<()> {
    let id = command.id.ok_or_else(|| Problem::argument("a command names no streaming query"))?;
    let query = session.streams.find(&id)?;
    let kind = match command.kind {
        Some(QueryCommandKind::Status(_)) => Some(QueryResultKind::Status(status(&query))),
        Some(QueryCommandKind::LastProgress(_)) => Some(progress(&query, 1)?),
        Some(QueryCommandKind::RecentProgress(_)) => Some(progress(&query, RECENT)?),
        Some(QueryCommandKind::Stop(_)) => {
            query.stop();
            None
        }
        Some(QueryCommandKind::ProcessAllAvailable(_)) => {
            process_all(&query)?;
            None
        }
        Some(QueryCommandKind::Explain(_)) => Some(QueryResultKind::Explain(Text { text: query.explain.clone() })),
        Some(QueryCommandKind::Exception(_)) => Some(QueryResultKind::Exception(exception(&query))),
        Some(QueryCommandKind::AwaitTermination(wait)) => {
            let ended = query.watch.wait(timeout(wait.timeout_ms), |seen| seen.ended.is_some());
            failed(&query)?;
            Some(QueryResultKind::Terminated(Flag { is_set: ended }))
        }
        None => return Err(Problem::unsupported("this call of a streaming query", "ask its status or lastProgress")),
    };
    operation.push(Some(Answer::Query(QueryResult { id: Some(id), kind })), None)
}

fn timeout(timeout_ms: Option<i64>) -> Duration {
    let asked = timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    asked.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
}

fn status(query: &StreamingQuery) -> StatusResult {
    let seen = query.watch.seen.lock();
    let is_active = seen.ended.is_none();
    let had_rows = seen.recent.back().is_some_and(|progress| progress.num_input_rows > 0);
    let message = if !is_active {
        "Stopped"
    } else if seen.recent.is_empty() {
        "Initializing sources"
    } else {
        "Waiting for data to arrive"
    };
    StatusResult {
        message: message.to_owned(),
        is_data_available: is_active && had_rows,
        is_trigger_active: false,
        is_active,
    }
}

fn progress(query: &StreamingQuery, count: usize) -> Result<QueryResultKind> {
    let seen = query.watch.seen.lock();
    let newest = seen.recent.iter().skip(seen.recent.len().saturating_sub(count));
    let json = newest.map(|progress| spark_json(query, progress)).collect::<Result<_, _>>();
    Ok(QueryResultKind::Progress(ProgressResult { json: json.map_err(|error| Problem::runtime(error.to_string()))? }))
}

/// What clients of Spark ask of a stateful operator and what is not measured apart here: it is in the times of the batch.
const NOT_MEASURED: [&str; 5] =
    ["allUpdatesTimeMs", "allRemovalsTimeMs", "commitTimeMs", "numShufflePartitions", "numStateStoreInstances"];

/// Progress with the keys that clients of Spark cannot do without, under the names the client knows the query by.
fn spark_json(query: &StreamingQuery, progress: &StreamingQueryProgress) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(progress)?;
    value["id"] = query.id.id.clone().into();
    value["runId"] = query.id.run_id.clone().into();
    value["name"] = query.name.clone().into();
    for operator in value["stateOperators"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = operator.as_object_mut() {
            for key in NOT_MEASURED {
                fields.entry(key).or_insert(0.into());
            }
        }
    }
    for source in value["sources"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = source.as_object_mut() {
            for key in ["startOffset", "endOffset", "latestOffset"] {
                fields.entry(key).or_insert(serde_json::Value::Null);
            }
        }
    }
    serde_json::to_string(&value)
}

fn exception(query: &StreamingQuery) -> ExceptionResult {
    let message = query.watch.seen.lock().ended.clone().flatten();
    let error_class = message.as_ref().map(|_| "STREAM_FAILED".to_owned());
    ExceptionResult { message, error_class, stack_trace: None }
}

fn failed(query: &StreamingQuery) -> Result<()> {
    match query.watch.seen.lock().ended.clone().flatten() {
        Some(error) => Err(Problem::streaming(format!("[STREAM_FAILED] query {} failed: {error}", query.id.id))),
        None => Ok(()),
    }
}

/// Waits until no batch has come for a while, or the query has ended: batches come as long as there is input.
fn process_all(query: &StreamingQuery) -> Result<()> {
    // The first batch may take its time; a query that has no input at all makes none.
    let mut patience = FIRST_BATCH;
    loop {
        let before = query.watch.seen.lock().batches;
        let wait = if before == 0 { patience } else { QUIET };
        let more = query.watch.wait(wait, |seen| seen.batches > before || seen.ended.is_some());
        failed(query)?;
        if !more || !query.is_active() {
            return Ok(());
        }
        patience = QUIET;
    }
}

/// How long the first batch may take to come.
const FIRST_BATCH: Duration = Duration::from_secs(10);

/// How long no batch must come until all input counts as processed.
const QUIET: Duration = Duration::from_millis(500);

/// Answers what is asked of all queries.
pub(crate) fn queries_command(session: &Session, operation: &Operation, command: QueriesCommand) -> Result<()> {
    let queries = session.streams.queries.lock().clone();
    let kind = match command.kind {
        Some(QueriesCommandKind::Active(_)) => {
            let active = queries.iter().filter(|query| query.is_active()).map(|query| query.instance());
            Some(QueriesResultKind::Active(ActiveQueries { queries: active.collect() }))
        }
        Some(QueriesCommandKind::Get(id)) => {
            let found = queries.iter().find(|query| query.id.id == id && query.is_active());
            found.map(|query| QueriesResultKind::Query(query.instance()))
        }
        Some(QueriesCommandKind::AwaitAny(wait)) => {
            let ended = await_any(&queries, timeout(wait.timeout_ms));
            queries.iter().try_for_each(|query| failed(query))?;
            Some(QueriesResultKind::AwaitAny(Flag { is_set: ended }))
        }
        Some(QueriesCommandKind::ResetTerminated(_)) => {
            session.streams.queries.lock().retain(|query| query.is_active());
            Some(QueriesResultKind::ResetTerminated(true))
        }
        Some(_) | None => {
            return Err(Problem::unsupported(
                "a StreamingQueryListener",
                "ask query.lastProgress and query.recentProgress",
            ));
        }
    };
    operation.push(Some(Answer::Queries(QueriesResult { kind })), None)
}

/// Looks at each query in turn: there is no one thing that all of them would wake.
fn await_any(queries: &[Arc<StreamingQuery>], timeout: Duration) -> bool {
    const LOOK: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + timeout;
    loop {
        let is_ended = |query: &Arc<StreamingQuery>| query.watch.wait(LOOK, |seen| seen.ended.is_some());
        if queries.is_empty() || queries.iter().any(is_ended) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
    }
}
