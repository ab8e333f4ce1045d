//! One test, step by step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use highwater_connectors::memory::MemoryStore;
use highwater_connectors::registry::connectors;
use highwater_connectors::stand_in::stand_ins;
use highwater_engine::checkpoint::Durability;
use highwater_engine::clock::{Clock, ManualClock};
use highwater_engine::error::nearest;
use highwater_engine::plan::catalog::ConnectorRegistry;
use highwater_engine::progress::{ProgressListener, StreamingQueryProgress};
use highwater_engine::query::{CheckpointSettings, Pipeline, PipelineSettings, QueryChanges, RetryAttempts};
use tempfile::TempDir;

use super::compare::{Difference, compare};
use super::file::{Step, TableRows, Test, TestFile};
use super::rows::{self, lenient};
use crate::error::{Failure, Result};
use crate::project::Project;
use crate::run::{self, Overrides};

/// How a test ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) problems: Vec<Problem>,
}

/// Something that is not as a test says.
#[derive(Debug)]
pub(crate) enum Problem {
    /// A table has other rows.
    Rows {
        table: String,
        /// `at the end`, `after step 2`, `written by step 2`.
        when: String,
        difference: Difference,
    },
    /// A step failed that should not have.
    Failed { step: usize, failure: Failure },
    /// A step did not fail as it should have.
    DidNotFail { step: usize, expected: String, found: Option<String> },
}

/// Runs a test over a project; fails where the test itself is wrong.
pub(crate) fn run(project: &Project, file: &TestFile, test: &Test) -> Result<Outcome> {
    let mut rehearsal = Rehearsal::new(project, file)?;
    let mut problems = Vec::new();
    for (at, step) in test.steps.iter().enumerate() {
        let goes_on = rehearsal.step(at + 1, step, &mut problems)?;
        if !goes_on {
            return Ok(Outcome { problems });
        }
    }
    for rows in &test.expect {
        rehearsal.expect(rows, "at the end".to_owned(), &mut problems)?;
    }
    Ok(Outcome { problems })
}

struct Rehearsal<'a> {
    project: &'a Project,
    settings: PipelineSettings,
    connectors: ConnectorRegistry,
    store: MemoryStore,
    clock: Arc<ManualClock>,
    /// What was written before the step under way, by table in lower case: a number of batches.
    seen: BTreeMap<String, usize>,
    /// Planned anew for each step; this one answers questions about tables.
    pipeline: Pipeline,
    _storage: TempDir,
}

impl<'a> Rehearsal<'a> {
    fn new(project: &'a Project, file: &TestFile) -> Result<Self> {
        let storage = tempfile::Builder::new()
            .prefix("highwater-test-")
            .tempdir()
            .map_err(|error| Failure::runtime(format!("a folder for the test cannot be made: {error}")))?;
        let overrides = Overrides {
            storage: Some(storage.path().to_owned()),
            trigger: Some("available-now".to_owned()),
            parallelism: Some(1),
            checkpoints: None,
            // What fails is to be seen.
            retries: Some(RetryAttempts::Most(0)),
            changes: QueryChanges::default(),
        };
        let mut settings = run::settings(project, &overrides)?;
        // In the folder of the test, wherever the project keeps its own.
        settings.checkpoints = CheckpointSettings::default();
        settings.query.durability = Durability::None;
        let store = MemoryStore::recording();
        let connectors = stand_ins(&connectors(), &store, &file.columns);
        let clock = Arc::new(ManualClock::new(file.now_ms));
        let pipeline = open(project, &settings, &connectors, &clock)?;
        Ok(Self { project, settings, connectors, store, clock, seen: BTreeMap::new(), pipeline, _storage: storage })
    }

    /// Runs a step; false if the test cannot go on after it.
    fn step(&mut self, number: usize, step: &Step, problems: &mut Vec<Problem>) -> Result<bool> {
        self.clock.advance(step.advance);
        for rows in &step.input {
            self.check_read(rows)?;
            let schema = self.columns(rows)?;
            let given = rows::read(rows, &schema, root(self.project))?;
            self.store.add(&rows.table, "0", given.batch);
        }
        let failed = self.start().err();
        match (&step.fails, failed) {
            (None, Some(failure)) => {
                problems.push(Problem::Failed { step: number, failure });
                return Ok(false);
            }
            (Some(expected), failed) => {
                let found = failed.map(|failure| failure.message().to_owned());
                if !found.as_ref().is_some_and(|found| found.contains(expected)) {
                    problems.push(Problem::DidNotFail { step: number, expected: expected.clone(), found });
                    return Ok(false);
                }
            }
            (None, None) => {}
        }
        for rows in &step.emits {
            let written = self.store.writes(&rows.table);
            let before = self.seen.get(&rows.table.to_lowercase()).copied().unwrap_or(0);
            self.compare(
                rows,
                written.get(before..).unwrap_or_default(),
                format!("written by step {number}"),
                problems,
            )?;
        }
        for rows in &step.expect {
            self.expect(rows, format!("after step {number}"), problems)?;
        }
        for table in self.pipeline.graph().tables {
            self.seen.insert(table.name.to_lowercase(), self.store.writes(&table.name).len());
        }
        Ok(true)
    }

    /// Starts the pipeline and waits until it has taken what there is.
    fn start(&mut self) -> Result<()> {
        let pipeline = open(self.project, &self.settings, &self.connectors, &self.clock)?;
        let running = pipeline.start(Arc::new(Nobody))?;
        let mut failures = running.wait().err().unwrap_or_default().into_iter().map(|failure| {
            let object = format!("query '{}'", failure.query);
            Failure::from(failure.error).within(&object)
        });
        match failures.next() {
            None => Ok(()),
            Some(first) => Err(first.and(failures)),
        }
    }

    fn expect(&self, rows: &TableRows, when: String, problems: &mut Vec<Problem>) -> Result<()> {
        self.compare(rows, &self.store.rows(&rows.table), when, problems)
    }

    fn compare(
        &self,
        rows: &TableRows,
        found: &[RecordBatch],
        when: String,
        problems: &mut Vec<Problem>,
    ) -> Result<()> {
        let schema = match found.first() {
            Some(batch) => batch.schema(),
            None => self.columns(rows)?,
        };
        let schema = lenient(&schema);
        let expected = rows::read(rows, &schema, root(self.project))?;
        let failed = |error: arrow::error::ArrowError| Failure::runtime(error.to_string());
        let found: Vec<RecordBatch> = found
            .iter()
            .map(|batch| RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let found = concat_batches(&schema, &found).map_err(failed)?;
        // Rows that nobody expected are shown whole.
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let named = if expected.named.is_empty() { &all } else { &expected.named };
        if let Some(difference) = compare(&expected.batch, &found, named, rows.ordered) {
            problems.push(Problem::Rows { table: rows.table.clone(), when, difference });
        }
        Ok(())
    }

    /// The columns of a table of the project, or of a query whose rows are shown.
    fn columns(&self, rows: &TableRows) -> Result<SchemaRef> {
        let table = self.pipeline.table(&rows.table)?;
        if let Some(schema) = table.map(|table| table.schema()).filter(|schema| !schema.fields().is_empty()) {
            return Ok(schema);
        }
        // A target without columns of its own has those of the query that fills it.
        let fills = |flow: &highwater_engine::query::FlowDescription| {
            flow.target_table.as_ref().unwrap_or(&flow.name).eq_ignore_ascii_case(&rows.table)
        };
        if let Some(flow) = self.pipeline.flows().into_iter().find(fills) {
            return Ok(flow.columns);
        }
        if self.pipeline.table(&rows.table)?.is_some() {
            let message = format!("table '{}' declares no columns, and a test looks for none outside", rows.table);
            return Err(Failure::invalid(message)
                .at(rows.place.clone())
                .help(format!("give them at the head of the file: columns: {{{}: name TYPE, ...}}", rows.table)));
        }
        Err(self.unknown(rows, "has no table"))
    }

    /// Rows for a table that nobody reads would test nothing.
    fn check_read(&self, rows: &TableRows) -> Result<()> {
        let graph = self.pipeline.graph();
        let mut read = graph.flows.iter().flat_map(|flow| flow.streams.iter().chain(&flow.statics));
        if read.any(|table| table.eq_ignore_ascii_case(&rows.table)) {
            return Ok(());
        }
        let what = if self.pipeline.table(&rows.table)?.is_some() { "does not read table" } else { "has no table" };
        Err(self.unknown(rows, what))
    }

    fn unknown(&self, rows: &TableRows, what: &str) -> Failure {
        let tables = self.pipeline.graph().tables;
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let failure = Failure::invalid(format!("the project {what} '{}'", rows.table)).at(rows.place.clone());
        match nearest(&rows.table, names.iter().copied().filter(|name| !name.eq_ignore_ascii_case(&rows.table))) {
            Some(near) => failure.help(format!("did you mean '{near}'?")),
            None => failure.help(format!("its tables are: {}", names.join(", "))),
        }
    }
}

fn open(
    project: &Project,
    settings: &PipelineSettings,
    connectors: &ConnectorRegistry,
    clock: &Arc<ManualClock>,
) -> Result<Pipeline> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    Ok(Pipeline::open(run::program(project)?, settings.clone(), connectors.clone(), clock)?)
}

fn root(project: &Project) -> &Path {
    if project.root.as_os_str().is_empty() { Path::new(".") } else { &project.root }
}

/// Nobody listens.
struct Nobody;

impl ProgressListener for Nobody {
    fn on_progress(&self, _: &StreamingQueryProgress) {}
}
