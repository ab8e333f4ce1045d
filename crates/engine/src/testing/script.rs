//! A script of actions over one pipeline.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parking_lot::{Condvar, Mutex};

use super::{ManualClock, MemoryConnector, MemoryTable};
use crate::checkpoint::{CheckpointDir, Durability, ObjectStores};
use crate::plan::catalog::ConnectorRegistry;
use crate::plan::{Program, ScriptError, ScriptFile};
use crate::progress::{ProgressListener, StreamingQueryProgress};
use crate::query::{Pipeline, PipelineSettings, RunningPipeline, Trigger, select_with_state};

/// Runs a pipeline step by step. Methods panic with the position in the script when something is not as expected:
/// they are assertions.
pub struct StreamScript {
    sql: String,
    memory: MemoryConnector,
    clock: Arc<ManualClock>,
    storage: tempfile::TempDir,
    /// Changed freely between steps.
    pub settings: PipelineSettings,
    progress: Arc<Recorder>,
    objects: Option<Arc<dyn ObjectStores>>,
    steps: usize,
}

#[derive(Default)]
struct Recorder {
    heard: Mutex<Heard>,
    changed: Condvar,
    /// A clock that goes on with each batch, and how far.
    moves: Mutex<Option<(Arc<ManualClock>, Duration)>>,
}

#[derive(Default)]
struct Heard {
    progress: Vec<StreamingQueryProgress>,
    /// Whether the last run of a query has ended.
    ended: bool,
}

impl ProgressListener for Recorder {
    fn on_progress(&self, progress: &StreamingQueryProgress) {
        if let Some((clock, by)) = &*self.moves.lock() {
            clock.advance(*by);
        }
        self.heard.lock().progress.push(progress.clone());
        self.changed.notify_all();
    }

    fn on_terminated(&self, _: &str, _: Option<&str>) {
        self.heard.lock().ended = true;
        self.changed.notify_all();
    }
}

#[expect(clippy::panic, clippy::expect_used, reason = "a test kit asserts")]
impl StreamScript {
    /// A script over the tables and flows of `sql`; tables use the connector `test`.
    pub fn new(sql: &str) -> Self {
        let storage = tempfile::tempdir().expect("a folder for the test");
        let mut settings = PipelineSettings::new(storage.path());
        settings.default_format = "test".to_owned();
        settings.query.trigger = Trigger::AvailableNow;
        settings.query.durability = Durability::None;
        settings.query.parallelism = 2;
        let script = Self {
            sql: sql.to_owned(),
            memory: MemoryConnector::default(),
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            storage,
            settings,
            progress: Arc::default(),
            objects: None,
            steps: 0,
        };
        if let Err(error) = script.open() {
            panic!("{error}; help: {}", error.error.next_step().unwrap_or("none"));
        }
        script
    }

    /// What planning says of `sql`: message and help, or nothing if it is fine.
    pub fn refusal(sql: &str) -> Option<String> {
        let mut script = Self::new("SELECT 1");
        script.sql = sql.to_owned();
        let error = script.open().err()?;
        let help = error.error.next_step().map(|help| format!("; help: {help}")).unwrap_or_default();
        Some(format!("{}{help}", error.to_string().trim_start_matches("test.sql:").trim_start()))
    }

    /// Goes on with other SQL on the same checkpoint.
    #[must_use]
    pub fn change(mut self, sql: &str) -> Self {
        self.steps += 1;
        sql.clone_into(&mut self.sql);
        self
    }

    /// Keeps the checkpoints under `location` in these object stores.
    #[must_use]
    pub fn checkpoints_in(mut self, location: &str, objects: Arc<dyn ObjectStores>) -> Self {
        self.settings.checkpoints.location = Some(location.to_owned());
        self.objects = Some(objects);
        self
    }

    fn open(&self) -> Result<Pipeline, ScriptError> {
        let file = ScriptFile { name: "test.sql".to_owned(), text: self.sql.clone() };
        let mut connectors = ConnectorRegistry::default();
        connectors.register(Arc::new(self.memory.clone()));
        connectors.register(Arc::new(super::memory::Console(self.memory.clone())));
        if let Some(objects) = &self.objects {
            connectors.object_stores.register(Arc::clone(objects));
        }
        let clock = Arc::clone(&self.clock);
        Pipeline::open(Program::parse(&[file])?, self.settings.clone(), connectors, clock)
    }

    /// A table, to add rows to and to read from as they are.
    pub fn table(&self, name: &str) -> MemoryTable {
        self.memory.get(name).unwrap_or_else(|| panic!("step {}: no table {name}", self.steps))
    }

    /// Adds rows to a table, one JSON object a line.
    pub fn add(self, table: &str, json: &str) -> Self {
        self.add_to(table, "0", json)
    }

    /// Adds rows to a partition of a table.
    pub fn add_to(mut self, table: &str, partition: &str, json: &str) -> Self {
        self.steps += 1;
        let memory = self.table(table);
        let reader = arrow::json::ReaderBuilder::new(memory.columns()).build(Cursor::new(json.as_bytes()));
        for rows in reader.expect("rows in JSON") {
            memory.add(partition, rows.unwrap_or_else(|error| panic!("step {}: {error}", self.steps)));
        }
        self
    }

    /// Adds rows to a table.
    pub fn add_rows(mut self, table: &str, rows: RecordBatch) -> Self {
        self.steps += 1;
        self.table(table).add("0", rows);
        self
    }

    /// Moves the clock on.
    pub fn advance(self, duration: Duration) -> Self {
        self.clock.advance(duration);
        self
    }

    /// Moves the clock on by so much at the end of each batch from now on.
    pub fn advance_with_each_batch(self, by: Duration) -> Self {
        *self.progress.moves.lock() = Some((Arc::clone(&self.clock), by));
        self
    }

    /// Starts the pipeline, lets it process all there is, and stops it.
    pub fn process(mut self) -> Self {
        self.steps += 1;
        if let Err(error) = self.run() {
            panic!("step {}: {error}", self.steps);
        }
        self
    }

    /// The same, expecting a failure whose message contains `part`.
    pub fn process_fails(mut self, part: &str) -> Self {
        self.steps += 1;
        match self.run() {
            Ok(()) => panic!("step {}: expected a failure with '{part}'", self.steps),
            Err(error) => assert!(error.contains(part), "step {}: '{error}' lacks '{part}'", self.steps),
        }
        self
    }

    /// The same, and it may fail: whatever it leaves behind, the next start must find and repair.
    pub fn process_if_it_can(mut self) -> Self {
        if let Err(error) = self.try_process() {
            tracing::debug!(error, "a run that was cut off");
        }
        self
    }

    /// The same, with the failures if there are any.
    pub fn try_process(&mut self) -> Result<(), String> {
        self.steps += 1;
        self.run()
    }

    /// Starts the pipeline with a trigger that does not end, and stops it when `is_done` says so of the progress.
    pub fn process_until(&mut self, is_done: impl Fn(&[StreamingQueryProgress]) -> bool) -> Result<(), String> {
        self.steps += 1;
        self.progress.heard.lock().ended = false;
        let running = self.start()?;
        let mut heard = self.progress.heard.lock();
        while !heard.ended && !is_done(&heard.progress) {
            self.progress.changed.wait(&mut heard);
        }
        drop(heard);
        running.stop();
        finish(running)
    }

    fn start(&self) -> Result<RunningPipeline, String> {
        let pipeline = self.open().map_err(|error| error.to_string())?;
        pipeline.start(Arc::clone(&self.progress) as Arc<dyn ProgressListener>).map_err(|error| error.to_string())
    }

    fn run(&self) -> Result<(), String> {
        finish(self.start()?)
    }

    /// What `dry-run` says of a flow's checkpoint, a line each: what comes next, the fate of each operator's state with
    /// its notes, and why a start would be refused.
    pub fn outlook(&self, flow: &str) -> Vec<String> {
        let pipeline = self.open().expect("a pipeline that can be planned");
        let found = pipeline.dry_run().into_iter().find(|outlook| outlook.flow == flow).expect("a flow of that name");
        let outlook = found.checkpoint.expect("a flow with a checkpoint").expect("a checkpoint that can be read");
        let operator = |operator: crate::query::OperatorOutlook| {
            format!("{} {:?} {}", operator.id, operator.fate, operator.notes.join("; ")).trim_end().to_owned()
        };
        let lines = std::iter::once(outlook.next).chain(outlook.operators.into_iter().map(operator));
        lines.chain(outlook.refusal.map(|(message, _)| message)).collect()
    }

    /// Compares all rows of a sink so far, in any order, columns separated by spaces.
    pub fn check(mut self, table: &str, expected: &[&str]) -> Self {
        self.steps += 1;
        let found = self.rows(table);
        let mut expected: Vec<String> = expected.iter().map(|row| (*row).to_owned()).collect();
        expected.sort();
        assert_eq!(found, expected, "step {}: rows of {table}", self.steps);
        self
    }

    /// What was written to a sink, batch by batch.
    pub fn written(&self, table: &str) -> Vec<RecordBatch> {
        self.table(table).written().into_iter().map(|(_, rows)| rows).collect()
    }

    /// Compares how many rows a sink has so far.
    pub fn check_count(mut self, table: &str, expected: usize) -> Self {
        self.steps += 1;
        let found = self.rows(table);
        assert_eq!(found.len(), expected, "step {}: rows of {table}: {found:?}", self.steps);
        self
    }

    /// All rows of a sink so far, sorted.
    pub fn rows(&self, table: &str) -> Vec<String> {
        let mut rows = self.rows_as_written(table);
        rows.sort();
        rows
    }

    /// All rows of a sink so far, in the order they came.
    pub fn rows_as_written(&self, table: &str) -> Vec<String> {
        self.table(table).written().iter().flat_map(|(_, rows)| texts(rows)).collect()
    }

    /// The rows of a query outside of streams, state included, sorted; or the message and the help of its refusal.
    pub fn select(&self, sql: &str) -> Result<Vec<String>, String> {
        let checkpoint = |query: &str| {
            let folder = self.storage.path().join("checkpoints").join(query);
            CheckpointDir::open(&folder.display().to_string(), Durability::None)
        };
        let rows = select_with_state(sql, self.storage.path(), &ConnectorRegistry::default(), &checkpoint);
        let (_, rows) = rows.map_err(|error| {
            let help = error.error.next_step().unwrap_or("none");
            format!("{}; help: {help}", error.to_string().trim_start_matches("query:"))
        })?;
        let mut rows: Vec<String> = rows.iter().flat_map(texts).collect();
        rows.sort();
        Ok(rows)
    }

    /// The progress of all batches so far.
    pub fn progress(&self) -> Vec<StreamingQueryProgress> {
        self.progress.heard.lock().progress.clone()
    }

    /// Forgets the progress of earlier batches.
    pub fn forget_progress(self) -> Self {
        self.progress.heard.lock().progress.clear();
        self
    }

    /// The storage folder.
    pub fn storage(&self) -> &std::path::Path {
        self.storage.path()
    }
}

fn finish(running: RunningPipeline) -> Result<(), String> {
    running.wait().map_err(|failures| {
        let failures: Vec<String> =
            failures.iter().map(|failure| format!("{}: {}", failure.query, failure.error)).collect();
        failures.join("; ")
    })
}

/// The rows as text: columns separated by spaces, timestamps without the date they all share.
#[expect(clippy::expect_used, reason = "a test kit asserts")]
fn texts(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default()
        .with_null("null")
        .with_timestamp_format(Some("%H:%M:%S"))
        .with_timestamp_tz_format(Some("%H:%M:%S"));
    let columns: Vec<ArrayFormatter<'_>> = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a column that can be shown"))
        .collect();
    (0..rows.num_rows())
        .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" "))
        .collect()
}
