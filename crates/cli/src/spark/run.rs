//! A run on Spark, from the first call to the last event.
//!
//! ```text
//!   define everything ─> StartRun ─┬─ events ─> failures, in the user's files
//!                                  └─ progress of the session's queries ─> board ─> terminal
//! ```
//!
//! A run of Spark's pipelines takes what is there and ends. Where flows are to run on (`trigger: 1 second`) everything is
//! defined and started again until Ctrl-C; state, offsets and tables stay with Spark.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use highwater_engine::plan::ScriptFile;
use highwater_engine::progress::ProgressListener;

use super::address::Address;
use super::grpc::Status;
use super::problems::Origins;
use super::progress;
use super::session::Session;
use super::told::Told;
use super::translate::{Element, ElementKind, SourceRelation, SparkSink};
use crate::error::{Failure, Result};
use crate::progress::board::Board;
use crate::progress::live::LiveView;
use crate::run::{ABORTED, summarise};
use crate::signals::Interrupt;
use crate::spark_connect::messages::{
    Answer, DataSource, DefineFlow, DefineOutput, ExecutePlanResponse, Expression, ExpressionKind, OutputType, Project,
    Read, ReadKind, Relation, RelationCommon, RelationFlow, RelationKind, SinkDetails, SourceLocation, Sql, Text,
};

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long progress that is still on its way is waited for at the end of a run.
const LAST_PROGRESS: Duration = Duration::from_millis(500);

/// How often queries that were started meanwhile are stopped, too.
const STOP_AGAIN: Duration = Duration::from_millis(250);

/// What is sent to Spark.
pub(crate) struct SparkRun<'a> {
    pub(crate) address: Address,
    pub(crate) files: &'a [ScriptFile],
    pub(crate) elements: &'a [Element],
    /// Names of the flows, for the board.
    pub(crate) flows: Vec<String>,
    /// Where Spark keeps checkpoints.
    pub(crate) storage: String,
    pub(crate) catalog: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) configuration: BTreeMap<String, String>,
    /// The time from one run to the next; none for a single one.
    pub(crate) interval: Option<Duration>,
}

impl SparkRun<'_> {
    /// Lets Spark look at everything, and starts nothing.
    pub(crate) async fn analyse(&self) -> Result<()> {
        let session = Arc::new(Session::open(&self.address).await?);
        let board = Arc::new(Board::default());
        let result = async {
            let graph = self.define(&session).await?;
            let mut update = Update::new(self, &session, &graph, board);
            update.follow(true, &mut |_| Attention::GoOn).await
        };
        let result = result.await;
        session.release().await;
        result.map(|_| ())
    }

    /// Runs until the end, or Ctrl-C; `after` is called after each run that went well.
    pub(crate) async fn run(
        &self,
        quiet: bool,
        interrupt: &Interrupt,
        after: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<ExitCode> {
        let session = Arc::new(Session::open(&self.address).await?);
        let result = self.run_in(&session, quiet, interrupt, after).await;
        session.release().await;
        result
    }

    async fn run_in(
        &self,
        session: &Arc<Session>,
        quiet: bool,
        interrupt: &Interrupt,
        after: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<ExitCode> {
        let mut graph = self.define(session).await?;
        let board = Arc::new(Board::of(self.flows.iter().cloned()));
        let listener = listen(session.clone(), board.clone());
        let mut view = LiveView::new(board.clone(), quiet);
        let began = Instant::now();
        let ended = loop {
            let started = Instant::now();
            let mut update = Update::new(self, session, &graph, board.clone());
            let mut attend = |stopping: bool| {
                view.refresh(Utc::now());
                match (interrupt.insisted(), interrupt.requested() && !stopping) {
                    (true, _) => Attention::Abort,
                    (false, true) => Attention::Stop,
                    _ => Attention::GoOn,
                }
            };
            let ended = match update.follow(false, &mut attend).await {
                Ok(Ended::Aborted) => break Ok(ExitCode::from(ABORTED)),
                Ok(Ended::Finished) => aside(after).map(|()| ExitCode::SUCCESS),
                Err(failure) => Err(failure),
            };
            let Some(interval) = self.interval.filter(|_| ended.is_ok() && !interrupt.requested()) else { break ended };
            while started.elapsed() < interval && !interrupt.requested() {
                view.refresh(Utc::now());
                tokio::time::sleep(LOOK).await;
            }
            if interrupt.requested() {
                break ended;
            }
            // A server runs a graph once in a session. One that it cannot drop costs it memory, and nothing else.
            if let Err(status) = session.drop_graph(&graph).await {
                tracing::debug!("the graph of the last run was not dropped: {}", status.message);
            }
            match self.define(session).await {
                Ok(again) => graph = again,
                Err(failure) => break Err(failure),
            }
        };
        tokio::time::sleep(LAST_PROGRESS).await;
        listener.abort();
        for flow in self.flows.iter().filter(|_| ended.is_ok()) {
            board.on_terminated(flow, None);
        }
        view.finish(Utc::now());
        summarise(&board, began);
        ended
    }

    /// Sends everything, and gives the graph's name.
    async fn define(&self, session: &Session) -> Result<String> {
        let failed = |status: Status| status.failure(&self.address);
        session.configure(&self.configuration).await.map_err(failed)?;
        let (catalog, database) = (self.catalog.as_deref(), self.database.as_deref());
        let graph = session.create_graph(catalog, database, &self.configuration).await.map_err(failed)?;
        let origins = Origins::new(self.files, self.elements);
        for (number, element) in self.elements.iter().enumerate() {
            let sent = self.send(session, &graph, element, i64::try_from(number).unwrap_or_default()).await;
            sent.map_err(|status| match status.is_of_the_connection() {
                true => failed(status),
                false => origins.refusal(element, &status.message),
            })?;
        }
        Ok(graph)
    }

    async fn send(&self, session: &Session, graph: &str, element: &Element, number: i64) -> Result<(), Status> {
        let file = &self.files[element.file].name;
        let location = SourceLocation { file: Some(file.clone()), line: i32::try_from(element.span.line).ok() };
        let output = |name: &str, kind: OutputType, sink| DefineOutput {
            graph: Some(graph.to_owned()),
            name: Some(name.to_owned()),
            kind: Some(kind as i32),
            location: Some(location.clone()),
            sink,
        };
        let flow = |name: &str, target: &str, relation| DefineFlow {
            graph: Some(graph.to_owned()),
            name: Some(name.to_owned()),
            target: Some(target.to_owned()),
            location: Some(location.clone()),
            details: Some(RelationFlow { relation: Some(relation) }),
        };
        match &element.kind {
            ElementKind::Sql { text, .. } => session.define_sql(graph, file, &text.text).await,
            ElementKind::Source { name, relation, is_streaming } => {
                session.define_output(output(name, OutputType::TemporaryView, None)).await?;
                session.define_flow(flow(name, name, reading(relation, *is_streaming, number))).await
            }
            ElementKind::Sink { name, sink } => {
                session.define_output(output(name, OutputType::Sink, Some(details(sink)))).await
            }
            ElementKind::SinkFlow { name, target, query } => {
                let sql = RelationKind::Sql(Sql { query: query.text.clone(), ..Sql::default() });
                session.define_flow(flow(name, target, numbered(number * PLAN_IDS, sql))).await
            }
        }
    }
}

/// Relations of one element are numbered from its own number on.
const PLAN_IDS: i64 = 16;

fn numbered(plan_id: i64, kind: RelationKind) -> Relation {
    Relation { common: Some(RelationCommon { plan_id: Some(plan_id) }), kind: Some(kind) }
}

fn details(sink: &SparkSink) -> SinkDetails {
    SinkDetails { options: sink.options.clone().into_iter().collect(), format: Some(sink.format.clone()) }
}

fn reading(source: &SourceRelation, is_streaming: bool, number: i64) -> Relation {
    let options: HashMap<String, String> = source.options.clone().into_iter().collect();
    let read = DataSource {
        format: Some(source.format.clone()),
        schema: source.schema.clone(),
        options,
        paths: source.paths.clone(),
    };
    let mut plan_id = number * PLAN_IDS;
    let mut relation = numbered(plan_id, RelationKind::Read(Read { kind: Some(ReadKind::Source(read)), is_streaming }));
    for expressions in &source.projections {
        plan_id += 1;
        let text = |text: &String| Expression { kind: Some(ExpressionKind::Text(Text { text: text.clone() })) };
        let project = Project { input: Some(Box::new(relation)), expressions: expressions.iter().map(text).collect() };
        relation = numbered(plan_id, RelationKind::Project(Box::new(project)));
    }
    relation
}

/// Shows the progress of the session's queries until it is aborted.
fn listen(session: Arc<Session>, board: Arc<Board>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut answers = match session.listen().await {
            Ok(answers) => answers,
            Err(status) => return tracing::warn!("Spark gives no progress: {}", status.message),
        };
        while let Ok(Some(answer)) = answers.next().await {
            if let Some(Answer::ListenerEvents(events)) = answer.answer {
                events.events.iter().for_each(|event| progress::show(&event.json, &board));
            }
        }
    })
}

/// What whoever watches wants.
enum Attention {
    GoOn,
    Stop,
    Abort,
}

/// How a run has ended.
enum Ended {
    Finished,
    Aborted,
}

/// One run of the graph.
struct Update<'a> {
    run: &'a SparkRun<'a>,
    session: &'a Arc<Session>,
    graph: &'a str,
    board: Arc<Board>,
    told: Told,
    /// What stops its queries, once that is wanted.
    stopper: Option<tokio::task::JoinHandle<()>>,
}

impl<'a> Update<'a> {
    fn new(run: &'a SparkRun<'a>, session: &'a Arc<Session>, graph: &'a str, board: Arc<Board>) -> Self {
        Self { run, session, graph, board, told: Told::default(), stopper: None }
    }

    /// Follows the events of a run until it ends; `attend` is asked now and then what to do.
    async fn follow(&mut self, dry: bool, attend: &mut (dyn FnMut(bool) -> Attention + Send)) -> Result<Ended> {
        let started = self.session.start_run(self.graph, &self.run.storage, dry).await;
        let mut answers = match started {
            Ok(answers) => answers,
            Err(status) => return self.ended(Err(status)),
        };
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Ok(Some(answer)) => self.see(&answer),
                    Ok(None) => return self.ended(Ok(())),
                    Err(status) => return self.ended(Err(status)),
                },
                _ = look.tick() => match attend(self.told.is_stopping()) {
                    Attention::GoOn => {}
                    Attention::Abort => {
                        tracing::warn!("aborting; Spark ends the run when it finds nobody there");
                        return Ok(Ended::Aborted);
                    }
                    Attention::Stop => self.stop(),
                },
            }
        }
    }

    fn stop(&mut self) {
        self.told.stop();
        tracing::info!("stopping the run on Spark; the next one goes on where this one has committed");
        let session = self.session.clone();
        // Flows that wait for others are started when these have ended: until the run is over, there may be new ones.
        self.stopper = Some(tokio::spawn(async move {
            loop {
                if let Err(status) = session.stop_queries().await {
                    tracing::debug!("a query was not stopped: {}", status.message);
                }
                tokio::time::sleep(STOP_AGAIN).await;
            }
        }));
    }

    fn see(&mut self, answer: &ExecutePlanResponse) {
        let Some(Answer::PipelineEvent(result)) = &answer.answer else { return };
        let Some(text) = result.event.as_ref().and_then(|event| event.message.as_deref()) else { return };
        tracing::debug!("Spark: {text}");
        if let Some(flow) = self.told.hear(text) {
            tracing::warn!(flow, "failed on Spark, which tries it again");
        }
    }

    fn ended(&mut self, result: Result<(), Status>) -> Result<Ended> {
        if let Some(stopper) = self.stopper.take() {
            stopper.abort();
        }
        for (flow, text) in self.told.failures() {
            self.board.on_terminated(super::problems::last_part(flow), Some(text));
        }
        let origins = Origins::new(self.run.files, self.run.elements);
        self.told.verdict(result, &origins, &self.run.address).map(|()| Ended::Finished)
    }
}

/// Runs what waits in calls of its own on a thread of its own: it may have a runtime of its own, too.
fn aside(work: &(dyn Fn() -> Result<()> + Sync)) -> Result<()> {
    let joined = tokio::task::block_in_place(|| std::thread::scope(|scope| scope.spawn(work).join()));
    joined.unwrap_or_else(|_| Err(Failure::runtime("what runs after the run on Spark has panicked")))
}

/// Runs something to its end on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("the connection to Spark cannot start: {error}")))?;
    let result = runtime.block_on(work);
    // A call that hangs must not keep the process.
    runtime.shutdown_background();
    result
}
