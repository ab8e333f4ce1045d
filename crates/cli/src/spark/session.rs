//! A session of a Spark Connect server, and the steps of a pipeline in it.
//!
//! ```text
//!   open ─> configuration ─> graph ─> views, sinks, flows, statements ─> run ─> events ─> release
//! ```
//!
//! A run and the progress of its queries are taken up again when the connection breaks (`execution.rs`). Other calls are
//! not: none of them takes long, and what a run has committed is in its checkpoints, so that the next one goes on there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::address::Address;
use super::execution::Execution;
use super::grpc::{Answers, Channel, Status};
use crate::error::{Failure, Result};
use crate::spark_connect::messages::{
    Analysis, AnalyzeKind, AnalyzePlanRequest, AnalyzePlanResponse, Answer, Command, CommandKind, ConfigKind,
    ConfigOperation, ConfigPairs, ConfigRequest, ConfigResponse, CreateGraph, DefineFlow, DefineOutput, DefineSql,
    DropGraph, ExecutePlanRequest, ExecutePlanResponse, KeyValue, ListenerBusCommand, ListenerBusKind, Nothing,
    PipelineCommand, PipelineCommandKind, Plan, PlanKind, QueriesCommand, QueriesCommandKind, QueriesResultKind,
    QueryCommand, QueryCommandKind, ReattachExecuteRequest, ReattachOptions, ReleaseExecuteRequest,
    ReleaseExecuteResponse, ReleaseSessionRequest, ReleaseSessionResponse, RequestOption, StartRun, UserContext,
};

/// What the server's log calls this client.
const CLIENT: &str = concat!("highwater/", env!("CARGO_PKG_VERSION"));

/// How long the end of a session may take: who waits for it has seen the result already.
const FAREWELL: Duration = Duration::from_secs(2);

/// The oldest Spark that reads pipelines with sinks and `AUTO CDC`.
const OLDEST: (u32, u32) = (4, 2);

/// A session.
pub(crate) struct Session {
    /// The connection of now.
    channel: Mutex<Channel>,
    address: Address,
    id: String,
    user: UserContext,
}

impl Session {
    /// Opens a session; the server must be one that knows pipelines.
    pub(crate) async fn open(address: &Address) -> Result<Self> {
        let channel = Channel::open(address).await?;
        let user = address.user_id.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_default();
        let session = Self {
            channel: Mutex::new(channel),
            address: address.clone(),
            id: address.session_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            user: UserContext { user_id: user.clone(), user_name: user },
        };
        let version = session.version().await?;
        if !is_new_enough(&version) {
            return Err(Failure::runtime(format!(
                "{address} is Spark {version}, expected {}.{} or later",
                OLDEST.0, OLDEST.1
            ))
            .help("declarative pipelines with sinks and AUTO CDC came with that version"));
        }
        tracing::info!("{address} is Spark {version}");
        Ok(session)
    }

    fn channel(&self) -> Channel {
        self.channel.lock().clone()
    }

    /// Opens a new connection in the place of one that broke.
    pub(crate) async fn reconnect(&self) -> Result<(), String> {
        let channel = Channel::open(&self.address).await.map_err(|failure| failure.message().to_owned())?;
        *self.channel.lock() = channel;
        Ok(())
    }

    async fn version(&self) -> Result<String> {
        let request = AnalyzePlanRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user.clone()),
            client_type: Some(CLIENT.to_owned()),
            kind: Some(AnalyzeKind::SparkVersion(Nothing {})),
        };
        let answer = self.channel().unary::<AnalyzePlanResponse>("AnalyzePlan", &request).await;
        let answer = answer.map_err(|status| status.failure(&self.address))?;
        match answer.analysis {
            Some(Analysis::SparkVersion(version)) => Ok(version.text),
            _ => Ok(String::new()),
        }
    }

    /// Sets the session's configuration.
    pub(crate) async fn configure(&self, pairs: &BTreeMap<String, String>) -> Result<(), Status> {
        if pairs.is_empty() {
            return Ok(());
        }
        let pairs = pairs.iter().map(|(key, value)| KeyValue { key: key.clone(), value: Some(value.clone()) });
        let request = ConfigRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user.clone()),
            operation: Some(ConfigOperation { kind: Some(ConfigKind::Set(ConfigPairs { pairs: pairs.collect() })) }),
            client_type: Some(CLIENT.to_owned()),
        };
        self.channel().unary::<ConfigResponse>("Config", &request).await.map(|_| ())
    }

    /// Starts a graph, and gives its name.
    pub(crate) async fn create_graph(
        &self,
        catalog: Option<&str>,
        database: Option<&str>,
        configuration: &BTreeMap<String, String>,
    ) -> Result<String, Status> {
        let graph = CreateGraph {
            default_catalog: catalog.map(str::to_owned),
            default_database: database.map(str::to_owned),
            sql_conf: configuration.clone().into_iter().collect(),
        };
        let mut answers = self.start(PipelineCommandKind::CreateGraph(graph)).await?;
        let mut name = None;
        while let Some(answer) = answers.next().await? {
            if let Some(Answer::Pipeline(result)) = answer.answer {
                name = name.or(result.created.and_then(|created| created.graph));
            }
        }
        name.ok_or_else(|| Status { code: 13, message: "the server named no graph".to_owned() })
    }

    /// Lets the server forget a graph; it keeps all of a session until the session ends.
    pub(crate) async fn drop_graph(&self, graph: &str) -> Result<(), Status> {
        self.finish(PipelineCommandKind::DropGraph(DropGraph { graph: Some(graph.to_owned()) })).await
    }

    /// Adds a view or a sink.
    pub(crate) async fn define_output(&self, output: DefineOutput) -> Result<(), Status> {
        self.finish(PipelineCommandKind::DefineOutput(output)).await
    }

    /// Adds a flow.
    pub(crate) async fn define_flow(&self, flow: DefineFlow) -> Result<(), Status> {
        self.finish(PipelineCommandKind::DefineFlow(flow)).await
    }

    /// Adds what a statement says.
    pub(crate) async fn define_sql(&self, graph: &str, file: &str, text: &str) -> Result<(), Status> {
        let sql = DefineSql { graph: Some(graph.to_owned()), file: Some(file.to_owned()), text: Some(text.to_owned()) };
        self.finish(PipelineCommandKind::DefineSql(sql)).await
    }

    /// Starts an update, or only its analysis, and gives what happens in it.
    pub(crate) async fn start_run(
        self: &Arc<Self>,
        graph: &str,
        storage: &str,
        dry: bool,
    ) -> Result<Execution, Status> {
        let run = StartRun { graph: Some(graph.to_owned()), dry: Some(dry), storage: Some(storage.to_owned()) };
        let command = PipelineCommand { kind: Some(PipelineCommandKind::StartRun(run)) };
        self.execute_lasting(CommandKind::Pipeline(Box::new(command))).await
    }

    /// Stops the streaming queries that run now.
    pub(crate) async fn stop_queries(&self) -> Result<(), Status> {
        let mut running = Vec::new();
        let active = QueriesCommand { kind: Some(QueriesCommandKind::Active(true)) };
        let mut answers = self.execute(CommandKind::Queries(active)).await?;
        while let Some(answer) = answers.next().await? {
            let Some(Answer::Queries(result)) = answer.answer else { continue };
            let Some(QueriesResultKind::Active(active)) = result.kind else { continue };
            running.extend(active.queries.into_iter().filter_map(|query| query.id));
        }
        for query in running {
            let stop = QueryCommand { id: Some(query), kind: Some(QueryCommandKind::Stop(true)) };
            let mut answers = self.execute(CommandKind::Query(stop)).await?;
            while answers.next().await?.is_some() {}
        }
        Ok(())
    }

    /// The progress of the session's queries from now on, for as long as somebody reads it.
    pub(crate) async fn listen(self: &Arc<Self>) -> Result<Execution, Status> {
        self.execute_lasting(listener_bus(ListenerBusKind::Add(true))).await
    }

    /// The answers of an execution behind the last one that was read.
    pub(crate) async fn reattach(
        &self,
        operation: &str,
        last: Option<&str>,
    ) -> Result<Answers<ExecutePlanResponse>, Status> {
        let request = ReattachExecuteRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user.clone()),
            operation_id: operation.to_owned(),
            client_type: Some(CLIENT.to_owned()),
            last_response_id: last.map(str::to_owned),
        };
        self.channel().stream("ReattachExecute", &request).await
    }

    /// Lets the server forget an execution whose answers were all read.
    pub(crate) async fn release_execution(&self, operation: &str) -> Result<(), Status> {
        let request = ReleaseExecuteRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user.clone()),
            operation_id: operation.to_owned(),
            client_type: Some(CLIENT.to_owned()),
            release_all: Some(Nothing {}),
            release_until: None,
        };
        self.channel().unary::<ReleaseExecuteResponse>("ReleaseExecute", &request).await.map(|_| ())
    }

    /// Ends the session; what cannot be told to the server it finds out by itself.
    pub(crate) async fn release(&self) {
        let stop = listener_bus(ListenerBusKind::Remove(true));
        let request = ReleaseSessionRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user.clone()),
            client_type: Some(CLIENT.to_owned()),
        };
        let farewell = async {
            if let Ok(mut answers) = self.execute(stop).await {
                while let Ok(Some(_)) = answers.next().await {}
            }
            let _ = self.channel().unary::<ReleaseSessionResponse>("ReleaseSession", &request).await;
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }

    async fn finish(&self, command: PipelineCommandKind) -> Result<(), Status> {
        let mut answers = self.start(command).await?;
        while answers.next().await?.is_some() {}
        Ok(())
    }

    async fn start(&self, kind: PipelineCommandKind) -> Result<Answers<ExecutePlanResponse>, Status> {
        self.execute(CommandKind::Pipeline(Box::new(PipelineCommand { kind: Some(kind) }))).await
    }

    async fn execute(&self, kind: CommandKind) -> Result<Answers<ExecutePlanResponse>, Status> {
        self.channel().stream("ExecutePlan", &self.request(kind, &new_operation(), None)).await
    }

    /// An execution that the server keeps when the connection breaks.
    async fn execute_lasting(self: &Arc<Self>, kind: CommandKind) -> Result<Execution, Status> {
        let operation = new_operation();
        let lasting = RequestOption { reattach: Some(ReattachOptions { reattachable: true }) };
        let request = self.request(kind, &operation, Some(lasting));
        let answers = self.channel().stream("ExecutePlan", &request).await?;
        Ok(Execution::new(self.clone(), operation, answers))
    }

    fn request(&self, kind: CommandKind, operation: &str, option: Option<RequestOption>) -> ExecutePlanRequest {
        ExecutePlanRequest {
            session_id: self.id.clone(),
            user_context: Some(self.user.clone()),
            plan: Some(Plan { kind: Some(PlanKind::Command(Box::new(Command { kind: Some(kind) }))) }),
            client_type: Some(CLIENT.to_owned()),
            request_options: option.into_iter().collect(),
            operation_id: Some(operation.to_owned()),
            tags: Vec::new(),
        }
    }
}

fn new_operation() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn listener_bus(kind: ListenerBusKind) -> CommandKind {
    CommandKind::ListenerBus(ListenerBusCommand { kind: Some(kind) })
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_told_apart() {
        for (version, expected) in [
            ("4.3.0", true),
            ("4.2.0-preview1", true),
            ("5.0.0", true),
            ("4.1.2", false),
            ("3.5.6", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }
}
