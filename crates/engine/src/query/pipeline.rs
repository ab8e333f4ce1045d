//! A pipeline: the flows of a program, checked together, then run together.
//!
//! Opening a pipeline plans every flow and changes nothing: it is what `validate` does. Starting it gives each flow a
//! thread. A flow that ends by itself and reads a table that another flow fills starts when that one is done, so that
//! one run carries rows through the whole chain. How views are kept up to date stands in `view.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::scalar::ScalarValue;

use super::changes;
use super::completion::{Completion, NotesCommits, Writer};
use super::execution::{Control, QuerySpec};
use super::graph::refuse_circles;
use super::opening::sink_request;
use super::settings::{PipelineSettings, QuerySettings};
use super::storage::{StatusWriter, Storage};
use super::tables::{OUTPUT_MODE, Tables, nullable};
use super::task::Task;
use super::trigger::Trigger;
use super::ttl::give_ttl;
use super::view::{Upkeep, WholeQuery};
use crate::checkpoint::{CheckpointContext, CheckpointDir, location};
use crate::clock::Clock;
use crate::error::{EngineError, Result, nearest};
use crate::plan::analysis::PlannedQuery;
use crate::plan::catalog::{ConnectorRegistry, Table, TableDefinition};
use crate::plan::describe::{StatefulOperator, WatermarkDescription, stateful_operators, static_tables};
use crate::plan::logical::is_streaming;
use crate::plan::program::{Flow, Program, ScriptError};
use crate::plan::statement::TableKind;
use crate::plan::streaming::{Ages, StreamingPlan, streaming_plan};
use crate::progress::{ProgressListener, Restart, StreamingQueryProgress};
use crate::sink::OutputMode;

/// A flow as it will run.
#[derive(Debug, Clone)]
pub struct FlowDescription {
    /// Its name, by which its checkpoint is kept.
    pub name: String,
    /// What it writes to.
    pub target: String,
    /// The table it fills; none for a query whose rows are shown.
    pub target_table: Option<String>,
    /// Columns of its rows.
    pub columns: SchemaRef,
    /// Which of them its query gives, in the query's order; the target declares the others, and they are null.
    pub given_columns: Vec<String>,
    /// The tables it reads as streams.
    pub sources: Vec<String>,
    /// The tables it reads as they are.
    pub static_tables: Vec<String>,
    /// Its stateful operators, in the order rows pass them.
    pub operators: Vec<StatefulOperator>,
    /// Its watermarks.
    pub watermarks: Vec<WatermarkDescription>,
    /// What it emits; complete for a table that is computed whole.
    pub output_mode: OutputMode,
    /// When its batches start.
    pub trigger: Trigger,
    /// How a materialised view is kept up to date; none for other targets.
    pub upkeep: Option<Upkeep>,
    /// The optimised plan.
    pub explain: String,
}

/// A flow that was planned.
pub(super) struct PlannedFlow {
    pub(super) description: FlowDescription,
    /// The target table in lower case, if it has a name.
    pub(super) target_key: Option<String>,
    /// Tables it reads, in lower case.
    reads: Vec<String>,
    pub(super) work: Work,
}

impl PlannedFlow {
    /// Whether it ends by itself.
    fn ends(&self) -> bool {
        match &self.work {
            Work::Whole(query) => query.rest.is_none(),
            Work::Stream(_) => self.description.trigger.ends(),
        }
    }
}

/// What a flow does.
pub(super) enum Work {
    /// Runs as a stream.
    Stream(Box<QuerySpec>),
    /// Is computed whole.
    Whole(Box<WholeQuery>),
}

/// What a flow writes to.
struct Target {
    table: Arc<dyn Table>,
    /// e.g. `table alerts (USING delta)`.
    description: String,
    /// The columns it declares.
    declared: Option<SchemaRef>,
    /// The output mode it asks for.
    mode: Option<OutputMode>,
}

/// A checked program.
pub struct Pipeline {
    pub(super) tables: Arc<Tables>,
    pub(super) settings: PipelineSettings,
    pub(super) storage: Storage,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) flows: Vec<PlannedFlow>,
}

impl Pipeline {
    /// Plans every flow of a program. Nothing is written.
    pub fn open(
        program: Program,
        mut settings: PipelineSettings,
        connectors: ConnectorRegistry,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ScriptError> {
        settings.configuration.extend(program.configuration.clone());
        settings.follow_configuration()?;
        let storage = Storage::new(&settings.storage);
        let tables = Arc::new(Tables::new(program, &settings, connectors));
        let mut pipeline = Self { tables: Arc::clone(&tables), settings, storage, clock, flows: Vec::new() };
        for name in tables.program.tables.values().map(|(table, _)| table.name.clone()) {
            tables.table(&name).map_err(|error| tables.program.locate(tables.file_of(&name), error))?;
        }
        for flow in &tables.program.flows {
            let planned = pipeline.plan_flow(flow).and_then(|planned| pipeline.checked(planned));
            pipeline.flows.push(planned.map_err(|error| tables.program.locate(flow.file, error))?);
        }
        pipeline.refuse_unknown_flows()?;
        refuse_circles(&pipeline.graph().flows)?;
        Ok(pipeline)
    }

    /// Settings of a flow that there is not would be heeded by none.
    fn refuse_unknown_flows(&self) -> Result<()> {
        let names = || self.flows.iter().map(|flow| flow.description.name.as_str());
        let is_known = |name: &String| names().any(|known| known.eq_ignore_ascii_case(name));
        let Some(unknown) = self.settings.flows.keys().find(|name| !is_known(name)) else { return Ok(()) };
        let error = EngineError::config(format!("there are settings for flow '{unknown}', but no flow of that name"));
        Err(match nearest(unknown, names()) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None => error.help(format!("the flows are {}", names().collect::<Vec<_>>().join(", "))),
        })
    }

    /// The flows, in the order of the program.
    pub fn flows(&self) -> Vec<FlowDescription> {
        self.flows.iter().map(|flow| flow.description.clone()).collect()
    }

    pub(super) fn plan_flow(&self, flow: &Flow) -> Result<PlannedFlow> {
        let own = self.settings.flows.iter().find(|(name, _)| name.eq_ignore_ascii_case(&flow.name));
        let own = own.map(|(_, settings)| settings.clone()).unwrap_or_default();
        changes::check_only_flow(&self.tables.program, flow)?;
        let Target { table: target, description: target_description, declared, mode: table_mode } =
            self.target(flow)?;
        let planned = self.tables.plan(flow)?;
        let static_tables = static_tables(&planned.plan)?;
        let reads = planned.sources.iter().map(|source| &source.name).chain(&static_tables);
        let reads = reads.map(|name| name.to_lowercase()).collect();
        let trigger = own.trigger.unwrap_or(self.settings.query.trigger);
        let mut description = FlowDescription {
            name: flow.name.clone(),
            target: target_description.clone(),
            target_table: flow.target.clone(),
            static_tables,
            columns: nullable(planned.plan.schema().as_arrow()),
            given_columns: given_columns(&planned.plan, declared.as_ref(), flow),
            operators: Vec::new(),
            watermarks: Vec::new(),
            sources: planned.sources.iter().map(|source| source.name.clone()).collect(),
            output_mode: OutputMode::Complete,
            trigger,
            upkeep: self.is_view(flow).then_some(Upkeep::Incremental),
            explain: String::new(),
        };
        let target_key = flow.target.as_ref().map(|target| target.to_lowercase());
        if !is_streaming(&planned.plan) {
            refuse_batch_into_stream(flow, &self.tables)?;
            check_mode(&target_description, target.as_ref(), OutputMode::Complete)?;
            description.explain = planned.plan.display_indent().to_string();
            let upkeep = Upkeep::of(trigger, self.filled(&description.static_tables));
            description.upkeep = self.is_view(flow).then_some(upkeep);
            let rest = description.upkeep.as_ref().and_then(Upkeep::rest);
            let whole = WholeQuery { flow: flow.clone(), target, target_description, rest };
            let work = Work::Whole(Box::new(whole));
            return Ok(PlannedFlow { description, target_key, reads, work });
        }
        let mode = own.output_mode.or(table_mode);
        if flow.cdc.is_some() {
            changes::check_target(flow, &target_description, target.as_ref(), mode)?;
        }
        let ages = own.ttl.ages(self.settings.ttl);
        let mut plan = match mode {
            None if self.is_view(flow) => self.incremental(flow, declared.as_ref(), target.as_ref(), &ages)?,
            mode => self.streaming(flow, planned, declared.as_ref(), mode, &ages)?,
        };
        if plan.deletes && flow.cdc.is_none() {
            changes::check_takes_deletes(&target_description, target.as_ref())?;
        }
        give_ttl(&mut plan, &flow.name, &own.ttl, self.settings.ttl)?;
        check_mode(&target_description, target.as_ref(), plan.output_mode)?;
        description.output_mode = plan.output_mode;
        description.explain.clone_from(&plan.explain);
        description.columns = nullable(&plan.schema);
        description.operators = stateful_operators(&plan);
        description.watermarks = plan.watermarks.iter().map(WatermarkDescription::from).collect();
        let settings = QuerySettings { trigger, ..self.settings.query.clone() };
        let spec = QuerySpec {
            name: flow.name.clone(),
            plan,
            target,
            target_description,
            settings,
            change: self.settings.changes.of(&flow.name),
            checkpoint: self.checkpoint(&flow.name)?,
            local_dir: self.storage.work_path(&flow.name),
        };
        Ok(PlannedFlow { description, target_key, reads, work: Work::Stream(Box::new(spec)) })
    }

    /// Refuses what the tables of a flow would refuse at its start, as far as that is known without a look outside.
    fn checked(&self, planned: PlannedFlow) -> Result<PlannedFlow> {
        match &planned.work {
            Work::Whole(whole) => {
                let columns = SchemaRef::clone(&planned.description.columns);
                whole.target.check_sink(&whole.sink_request(columns, &self.storage))?;
            }
            Work::Stream(spec) => {
                spec.plan.sources.iter().try_for_each(|source| source.table.check_source())?;
                spec.target.check_sink(&sink_request(spec, ""))?;
            }
        }
        Ok(planned)
    }

    /// Whether a flow fills a materialised view.
    fn is_view(&self, flow: &Flow) -> bool {
        let target = flow.target.as_ref().and_then(|target| self.tables.program.tables.get(&target.to_lowercase()));
        target.is_some_and(|(table, _)| table.kind == TableKind::Materialized)
    }

    /// Those of some tables that flows of the program fill.
    fn filled(&self, tables: &[String]) -> Vec<String> {
        let is_filled = |table: &&String| {
            let mut targets = self.tables.program.flows.iter().filter_map(|flow| flow.target.as_ref());
            targets.any(|target| target.eq_ignore_ascii_case(table))
        };
        tables.iter().filter(is_filled).cloned().collect()
    }

    /// The checkpoint of a query, opened for reading.
    fn checkpoint(&self, query: &str) -> Result<CheckpointDir> {
        let settings = &self.settings.checkpoints;
        let location = match &settings.location {
            Some(location) => location::below(location, query),
            None => self.storage.checkpoint_path(query).display().to_string(),
        };
        let context = CheckpointContext {
            object_stores: &self.tables.connectors.object_stores,
            options: &settings.options,
            remote: &settings.remote,
            durability: self.settings.query.durability,
            clock: Arc::clone(&self.clock),
            work_dir: &self.storage.work_path(query),
        };
        CheckpointDir::open_with(&location, &context)
    }

    /// The streaming plan in the wanted output mode; a query whose rows are only shown takes the first that works.
    fn streaming(
        &self,
        flow: &Flow,
        mut planned: PlannedQuery,
        declared: Option<&SchemaRef>,
        mode: Option<OutputMode>,
        ages: &Ages,
    ) -> Result<StreamingPlan> {
        // Changes have their target's columns already.
        let declared = declared.filter(|_| flow.cdc.is_none());
        planned.plan = align(planned.plan, declared, flow.by_name)?;
        if mode.is_some() || flow.target.is_some() {
            return streaming_plan(planned, mode.unwrap_or(OutputMode::Append), ages);
        }
        let first = streaming_plan(planned, OutputMode::Append, ages);
        let Err(error) = first else { return first };
        [OutputMode::Update, OutputMode::Complete]
            .into_iter()
            .find_map(|mode| streaming_plan(self.tables.plan(flow).ok()?, mode, ages).ok())
            .ok_or(error)
    }

    /// The streaming plan of a view that leaves its output mode open: one whose rows are all there after each batch, by
    /// replacing those that changed where that is enough.
    fn incremental(
        &self,
        flow: &Flow,
        declared: Option<&SchemaRef>,
        target: &dyn Table,
        ages: &Ages,
    ) -> Result<StreamingPlan> {
        let plan = |mode: OutputMode| {
            let mut planned = self.tables.plan(flow)?;
            planned.plan = align(planned.plan, declared.filter(|_| flow.cdc.is_none()), flow.by_name)?;
            streaming_plan(planned, mode, ages)
        };
        let takes = target.output_modes();
        for mode in [OutputMode::Update, OutputMode::Complete].into_iter().filter(|mode| takes.contains(mode)) {
            match plan(mode) {
                Ok(plan) if mode == OutputMode::Complete => return Ok(plan),
                Ok(plan) if plan.replaces_by_key && (!plan.deletes || target.takes_deletes()) => return Ok(plan),
                _ => {}
            }
        }
        plan(OutputMode::Append)
    }

    /// The flow's target, its description, the columns it declares and the output mode it asks for.
    fn target(&self, flow: &Flow) -> Result<Target> {
        let Some(name) = &flow.target else {
            let definition = TableDefinition {
                name: flow.name.clone(),
                format: "console".to_owned(),
                schema: None,
                options: crate::plan::catalog::Options::default(),
                partition_columns: Vec::new(),
            };
            let console = self.tables.connectors.get("console")?.table(&definition)?;
            return Ok(Target { table: console, description: "the console".to_owned(), declared: None, mode: None });
        };
        let (table, _) = self.tables.program.tables.get(&name.to_lowercase()).ok_or_else(|| {
            EngineError::query_at(flow.span, format!("flow '{}' writes to '{name}', which is not defined", flow.name))
        })?;
        let format = self.tables.format_of(table);
        let mode = table.options.get(OUTPUT_MODE).map(str::parse).transpose()?;
        let kind = if table.kind == TableKind::Sink { "sink" } else { "table" };
        let description = format!("{kind} {} (USING {format})", table.name);
        Ok(Target { table: self.tables.table(name)?, description, declared: table.columns.clone(), mode })
    }

    /// Starts all flows.
    pub fn start(mut self, listener: Arc<dyn ProgressListener>) -> Result<RunningPipeline, ScriptError> {
        self.storage.create()?;
        let mut definitions = self.tables.definitions()?;
        if let Some(stored) = &self.settings.stored_tables {
            definitions.retain(|table| stored.iter().any(|name| name.eq_ignore_ascii_case(&table.name)));
        }
        self.storage.add_tables(&definitions)?;
        let done: Vec<Arc<Completion>> = self.flows.iter().map(|_| Arc::default()).collect();
        let writer = |(flow, completion): (&PlannedFlow, &Arc<Completion>)| Writer {
            target: flow.target_key.clone(),
            ends: flow.ends(),
            completion: Arc::clone(completion),
        };
        let writers: Vec<Writer> = self.flows.iter().zip(&done).map(writer).collect();
        let mut running = Vec::new();
        let flows = std::mem::take(&mut self.flows);
        let pipeline = Arc::new(self);
        for (flow, completion) in flows.into_iter().zip(done) {
            let waits_for = upstream(&flow, &writers, &completion);
            let inputs = Writer::of(&writers, &flow.reads, &completion);
            let inputs = inputs.map(|writer| Arc::clone(&writer.completion)).collect();
            let PlannedFlow { description, work, .. } = flow;
            let name = description.name;
            let stop_file = Some(pipeline.storage.stop_path(&name));
            let control = Arc::new(Control { stop_file, ..Control::default() });
            let clock = Arc::clone(&pipeline.clock);
            let status = StatusWriter::start(&pipeline.storage, clock, &name, &description.target)?;
            let notes = NotesCommits(Arc::clone(&completion));
            let listener = Arc::new(Listeners(vec![Arc::new(status), Arc::new(notes), Arc::clone(&listener)]));
            let task = Task {
                name: name.clone(),
                waits_for,
                inputs,
                pipeline: Arc::clone(&pipeline),
                listener,
                control: Arc::clone(&control),
                completion,
            };
            running.push(RunningQuery { name, control, thread: spawn(task, work)? });
        }
        Ok(RunningPipeline { running })
    }
}

fn spawn(task: Task, work: Work) -> Result<JoinHandle<Result<()>>> {
    #[expect(clippy::disallowed_methods, reason = "joined by RunningPipeline::wait")]
    let spawned = std::thread::Builder::new().name(task.name.clone()).spawn(move || task.run(work));
    spawned.map_err(|error| EngineError::unavailable("a thread for the query cannot be started").caused_by(error))
}

/// The completions a flow that ends by itself waits for.
fn upstream(flow: &PlannedFlow, writers: &[Writer], own: &Arc<Completion>) -> Vec<Arc<Completion>> {
    let writers = Writer::of(writers, &flow.reads, own).filter(|writer| flow.ends() && writer.ends);
    writers.map(|writer| Arc::clone(&writer.completion)).collect()
}

/// A materialised view or a shown query may be computed whole; a streaming table may not.
fn refuse_batch_into_stream(flow: &Flow, tables: &Tables) -> Result<()> {
    let Some(target) = &flow.target else { return Ok(()) };
    match tables.program.tables.get(&target.to_lowercase()) {
        Some((table, _)) if table.kind == TableKind::Materialized => Ok(()),
        _ => Err(EngineError::query_at(flow.span, format!("flow '{}' reads no stream", flow.name))
            .help("read a table with STREAM: FROM STREAM t; or make the target a MATERIALIZED VIEW")),
    }
}

fn check_mode(description: &str, target: &dyn Table, mode: OutputMode) -> Result<()> {
    let modes = target.output_modes();
    if modes.contains(&mode) {
        return Ok(());
    }
    let known: Vec<String> = modes.iter().map(ToString::to_string).collect();
    let error = EngineError::config(format!("{description} does not take output mode {mode}"));
    Err(if known.is_empty() {
        error.help("it can only be read from; choose another target")
    } else {
        error.help(format!("it takes {}", known.join(", ")))
    })
}

/// The columns of a query by the names that they have in its target.
fn given_columns(plan: &LogicalPlan, declared: Option<&SchemaRef>, flow: &Flow) -> Vec<String> {
    let name = |(place, given): (usize, &String)| {
        let declared = declared.filter(|_| flow.cdc.is_none()).map(|declared| declared.fields());
        let field = declared.and_then(|fields| {
            let is_it = |field: &&FieldRef| field.name().eq_ignore_ascii_case(given);
            if flow.by_name { fields.iter().find(is_it) } else { fields.get(place) }
        });
        field.map_or_else(|| given.clone(), |field| field.name().clone())
    };
    plan.schema().fields().iter().map(|field| field.name()).enumerate().map(name).collect()
}

/// Gives the query the columns that the target declares.
fn align(plan: LogicalPlan, declared: Option<&SchemaRef>, by_name: bool) -> Result<LogicalPlan> {
    let Some(declared) = declared else { return Ok(plan) };
    let schema = plan.schema();
    let found = |at: usize| {
        let (qualifier, field) = schema.qualified_field(at);
        (Expr::Column(Column::new(qualifier.cloned(), field.name())), field.data_type().clone())
    };
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    if by_name {
        let stranger =
            names.iter().find(|name| !declared.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name)));
        if let Some(name) = stranger {
            let columns: Vec<&str> = declared.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(EngineError::query(format!("the query gives column '{name}', which the target does not have"))
                .help(format!("the target has: {}", columns.join(", "))));
        }
    } else if names.len() != declared.fields().len() {
        return Err(EngineError::query(format!(
            "the query gives {} columns, the target has {}",
            names.len(),
            declared.fields().len()
        ))
        .help("select as many columns as the target has, or match them by name: INSERT INTO t BY NAME SELECT ..."));
    }
    let mut columns = Vec::new();
    for (place, field) in declared.fields().iter().enumerate() {
        let at =
            if by_name { names.iter().position(|name| name.eq_ignore_ascii_case(field.name())) } else { Some(place) };
        let expr = match at.map(found) {
            Some((expr, data_type)) if &data_type == field.data_type() => expr,
            Some((expr, _)) => cast(expr, field.data_type().clone()),
            None => cast(lit(ScalarValue::Null), field.data_type().clone()),
        };
        columns.push(expr.alias(field.name()));
    }
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// Tells several listeners.
pub(super) struct Listeners(Vec<Arc<dyn ProgressListener>>);

impl ProgressListener for Listeners {
    fn on_started(&self, id: &str, run_id: &str) {
        self.0.iter().for_each(|listener| listener.on_started(id, run_id));
    }

    fn on_trigger(&self) {
        self.0.iter().for_each(|listener| listener.on_trigger());
    }

    fn on_idle(&self) {
        self.0.iter().for_each(|listener| listener.on_idle());
    }

    fn on_commit(&self) {
        self.0.iter().for_each(|listener| listener.on_commit());
    }

    fn on_progress(&self, progress: &StreamingQueryProgress) {
        self.0.iter().for_each(|listener| listener.on_progress(progress));
    }

    fn on_restart(&self, name: &str, restart: &Restart) {
        self.0.iter().for_each(|listener| listener.on_restart(name, restart));
    }

    fn on_terminated(&self, name: &str, error: Option<&str>) {
        self.0.iter().for_each(|listener| listener.on_terminated(name, error));
    }
}

struct RunningQuery {
    name: String,
    control: Arc<Control>,
    thread: JoinHandle<Result<()>>,
}

/// A query that ended with an error.
#[derive(Debug)]
pub struct QueryFailure {
    /// The query.
    pub query: String,
    /// The error.
    pub error: EngineError,
}

/// A pipeline whose flows are running.
pub struct RunningPipeline {
    running: Vec<RunningQuery>,
}

impl RunningPipeline {
    /// Lets every query finish its batch, then stop.
    pub fn stop(&self) {
        self.running.iter().for_each(|query| query.control.stop.store(true, Ordering::Relaxed));
    }

    /// Makes every query give up its batch.
    pub fn abort(&self) {
        self.running.iter().for_each(|query| query.control.abort.store(true, Ordering::Relaxed));
    }

    /// Whether every query has ended.
    pub fn is_finished(&self) -> bool {
        self.running.iter().all(|query| query.thread.is_finished())
    }

    /// Waits for the end of every query.
    pub fn wait(self) -> Result<(), Vec<QueryFailure>> {
        let mut failures = Vec::new();
        for query in self.running {
            let outcome =
                query.thread.join().unwrap_or_else(|_| Err(EngineError::internal("the query's thread panicked")));
            if let Err(error) = outcome {
                failures.push(QueryFailure { query: query.name, error });
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}
