//! The messages of Spark Connect that are sent and read here, and no others.
//!
//! The numbers are those of Spark's own definition (`spark/connect/*.proto` of Spark 4.2 and 4.3); a number that is not
//! here is left out by who sends and skipped by who reads, as protocol buffers promise. Why they are written down and
//! not generated: [ADR 4](../../../../docs/adr/0004-spark-connect-without-its-client.md).

use std::collections::HashMap;

use prost::{Message, Oneof};

/// Who asks.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserContext {
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
    #[prost(string, tag = "2")]
    pub(crate) user_name: String,
}

/// `ExecutePlan`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecutePlanRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    #[prost(message, optional, tag = "3")]
    pub(crate) plan: Option<Plan>,
    #[prost(string, optional, tag = "4")]
    pub(crate) client_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) request_options: Vec<RequestOption>,
    #[prost(string, optional, tag = "6")]
    pub(crate) operation_id: Option<String>,
}

/// How an execution is to be done.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestOption {
    #[prost(message, optional, tag = "1")]
    pub(crate) reattach: Option<ReattachOptions>,
}

/// Whether an execution outlives its connection.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReattachOptions {
    #[prost(bool, tag = "1")]
    pub(crate) reattachable: bool,
}

/// `ReattachExecute`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReattachExecuteRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    #[prost(string, tag = "3")]
    pub(crate) operation_id: String,
    #[prost(string, optional, tag = "4")]
    pub(crate) client_type: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) last_response_id: Option<String>,
}

/// `ReleaseExecute`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseExecuteRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    #[prost(string, tag = "3")]
    pub(crate) operation_id: String,
    #[prost(string, optional, tag = "4")]
    pub(crate) client_type: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub(crate) release_all: Option<ReleaseAll>,
}

/// All answers of an execution.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ReleaseAll {}

/// The answer to `ReleaseExecute`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ReleaseExecuteResponse {}

/// What is to be done: here always a command.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Plan {
    #[prost(message, optional, tag = "2")]
    pub(crate) command: Option<Command>,
}

/// A command.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Command {
    #[prost(oneof = "CommandType", tags = "7, 9, 11, 19")]
    pub(crate) command: Option<CommandType>,
}

/// The commands that are sent.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum CommandType {
    /// Something asked of a streaming query.
    #[prost(message, tag = "7")]
    Query(QueryCommand),
    /// Something asked of all streaming queries of the session.
    #[prost(message, tag = "9")]
    Queries(QueriesCommand),
    /// Progress of the session's streaming queries, for as long as one listens.
    #[prost(message, tag = "11")]
    ListenerBus(ListenerBusCommand),
    /// A step of a pipeline.
    #[prost(message, tag = "19")]
    Pipeline(PipelineCommand),
}

/// `StreamingQueryCommand`, to stop a query.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueryCommand {
    #[prost(message, optional, tag = "1")]
    pub(crate) query: Option<QueryId>,
    #[prost(bool, optional, tag = "5")]
    pub(crate) stop: Option<bool>,
}

/// A streaming query and its run.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueryId {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) run_id: String,
}

/// `StreamingQueryManagerCommand`, to ask which queries run.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueriesCommand {
    #[prost(bool, optional, tag = "1")]
    pub(crate) active: Option<bool>,
}

/// Its answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueriesResult {
    #[prost(message, optional, tag = "1")]
    pub(crate) active: Option<ActiveQueries>,
}

/// The queries that run.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ActiveQueries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) queries: Vec<ActiveQuery>,
}

/// One of them.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ActiveQuery {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<QueryId>,
}

/// `StreamingQueryListenerBusCommand`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListenerBusCommand {
    #[prost(bool, optional, tag = "1")]
    pub(crate) add: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(crate) remove: Option<bool>,
}

/// A step of a pipeline.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PipelineCommand {
    #[prost(oneof = "PipelineCommandType", tags = "1, 2, 3, 5, 6")]
    pub(crate) command: Option<PipelineCommandType>,
}

/// The steps of a pipeline.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum PipelineCommandType {
    /// A new, empty graph of tables and flows.
    #[prost(message, tag = "1")]
    CreateGraph(CreateGraph),
    /// A view or sink.
    #[prost(message, tag = "2")]
    DefineOutput(DefineOutput),
    /// A query that fills one.
    #[prost(message, tag = "3")]
    DefineFlow(DefineFlow),
    /// The start of an update.
    #[prost(message, tag = "5")]
    StartRun(StartRun),
    /// Statements as SQL.
    #[prost(message, tag = "6")]
    DefineSql(DefineSql),
}

/// `CreateDataflowGraph`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateGraph {
    #[prost(string, optional, tag = "1")]
    pub(crate) default_catalog: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) default_database: Option<String>,
    #[prost(map = "string, string", tag = "5")]
    pub(crate) sql_conf: HashMap<String, String>,
}

/// `DefineOutput`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DefineOutput {
    #[prost(string, optional, tag = "1")]
    pub(crate) graph: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(enumeration = "OutputType", optional, tag = "3")]
    pub(crate) kind: Option<i32>,
    #[prost(message, optional, tag = "5")]
    pub(crate) location: Option<SourceLocation>,
    #[prost(message, optional, tag = "7")]
    pub(crate) sink: Option<SinkDetails>,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum OutputType {
    /// Not said.
    Unspecified = 0,
    /// A name for a query.
    TemporaryView = 3,
    /// Something outside.
    Sink = 4,
}

/// A sink's format and options.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SinkDetails {
    #[prost(map = "string, string", tag = "1")]
    pub(crate) options: HashMap<String, String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) format: Option<String>,
}

/// Where a definition stands.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SourceLocation {
    #[prost(string, optional, tag = "1")]
    pub(crate) file: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) line: Option<i32>,
}

/// `DefineFlow`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DefineFlow {
    #[prost(string, optional, tag = "1")]
    pub(crate) graph: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) target: Option<String>,
    #[prost(message, optional, tag = "6")]
    pub(crate) location: Option<SourceLocation>,
    #[prost(message, optional, tag = "7")]
    pub(crate) details: Option<RelationFlow>,
}

/// A flow that is a relation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RelationFlow {
    #[prost(message, optional, tag = "1")]
    pub(crate) relation: Option<Relation>,
}

/// `StartRun`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StartRun {
    #[prost(string, optional, tag = "1")]
    pub(crate) graph: Option<String>,
    #[prost(bool, optional, tag = "5")]
    pub(crate) dry: Option<bool>,
    #[prost(string, optional, tag = "6")]
    pub(crate) storage: Option<String>,
}

/// `DefineSqlGraphElements`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DefineSql {
    #[prost(string, optional, tag = "1")]
    pub(crate) graph: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) file: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) text: Option<String>,
}

/// Rows, as they are computed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Relation {
    #[prost(message, optional, tag = "1")]
    pub(crate) common: Option<RelationCommon>,
    #[prost(oneof = "RelationType", tags = "2, 3, 10")]
    pub(crate) relation: Option<RelationType>,
}

/// What a client numbers its relations by.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RelationCommon {
    #[prost(int64, optional, tag = "2")]
    pub(crate) plan_id: Option<i64>,
}

/// The relations that are sent.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum RelationType {
    /// Something outside.
    #[prost(message, tag = "2")]
    Read(Read),
    /// Expressions over rows.
    #[prost(message, boxed, tag = "3")]
    Project(Box<Project>),
    /// A query.
    #[prost(message, tag = "10")]
    Sql(Sql),
}

/// `Read`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Read {
    #[prost(message, optional, tag = "2")]
    pub(crate) source: Option<DataSource>,
    #[prost(bool, tag = "3")]
    pub(crate) is_streaming: bool,
}

/// A format with its options.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DataSource {
    #[prost(string, optional, tag = "1")]
    pub(crate) format: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) schema: Option<String>,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) options: HashMap<String, String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) paths: Vec<String>,
}

/// `Project`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Project {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) expressions: Vec<Expression>,
}

/// An expression as text.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Expression {
    #[prost(message, optional, tag = "4")]
    pub(crate) text: Option<ExpressionText>,
}

/// `Expression.ExpressionString`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExpressionText {
    #[prost(string, tag = "1")]
    pub(crate) expression: String,
}

/// `SQL`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sql {
    #[prost(string, tag = "1")]
    pub(crate) query: String,
}

/// One answer of `ExecutePlan`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecutePlanResponse {
    #[prost(message, optional, tag = "11")]
    pub(crate) queries: Option<QueriesResult>,
    /// The answer's own name, by which one says where to go on.
    #[prost(string, tag = "13")]
    pub(crate) response_id: String,
    /// There, the last answer: nothing comes behind it.
    #[prost(message, optional, tag = "14")]
    pub(crate) result_complete: Option<ResultComplete>,
    #[prost(message, optional, tag = "16")]
    pub(crate) listener_events: Option<ListenerEvents>,
    #[prost(message, optional, tag = "21")]
    pub(crate) pipeline_event: Option<PipelineEventResult>,
    #[prost(message, optional, tag = "22")]
    pub(crate) pipeline_result: Option<PipelineCommandResult>,
}

/// The end of an execution that outlives its connection.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ResultComplete {}

/// What the session's queries tell.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListenerEvents {
    #[prost(message, repeated, tag = "1")]
    pub(crate) events: Vec<ListenerEvent>,
    #[prost(bool, optional, tag = "2")]
    pub(crate) is_added: Option<bool>,
}

/// One of them, as JSON.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListenerEvent {
    #[prost(string, tag = "1")]
    pub(crate) json: String,
}

/// What happens in a pipeline.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PipelineEventResult {
    #[prost(message, optional, tag = "1")]
    pub(crate) event: Option<PipelineEvent>,
}

/// In words.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PipelineEvent {
    #[prost(string, optional, tag = "2")]
    pub(crate) message: Option<String>,
}

/// The answer to a step of a pipeline.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PipelineCommandResult {
    #[prost(message, optional, tag = "1")]
    pub(crate) created: Option<GraphCreated>,
}

/// The new graph's name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphCreated {
    #[prost(string, optional, tag = "1")]
    pub(crate) graph: Option<String>,
}

/// `Config`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    #[prost(message, optional, tag = "3")]
    pub(crate) operation: Option<ConfigOperation>,
    #[prost(string, optional, tag = "4")]
    pub(crate) client_type: Option<String>,
}

/// What is asked of the configuration: here always to set some of it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigOperation {
    #[prost(message, optional, tag = "1")]
    pub(crate) set: Option<ConfigSet>,
}

/// Pairs to set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigSet {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pairs: Vec<KeyValue>,
}

/// A pair.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) value: Option<String>,
}

/// Its answer, of which nothing is used.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigResponse {}

/// `AnalyzePlan`, to ask the server's version.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnalyzePlanRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub(crate) client_type: Option<String>,
    #[prost(message, optional, tag = "10")]
    pub(crate) spark_version: Option<SparkVersionRequest>,
}

/// A question without words.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SparkVersionRequest {}

/// Its answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnalyzePlanResponse {
    #[prost(message, optional, tag = "8")]
    pub(crate) spark_version: Option<SparkVersion>,
}

/// Such as `4.3.0`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SparkVersion {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
}

/// `ReleaseSession`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseSessionRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub(crate) client_type: Option<String>,
}

/// Its answer, of which nothing is used.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseSessionResponse {}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn map(key: &str, value: &str) -> HashMap<String, String> {
        HashMap::from([(key.to_owned(), value.to_owned())])
    }

    fn pipeline(command: PipelineCommandType) -> CommandType {
        CommandType::Pipeline(PipelineCommand { command: Some(command) })
    }

    /// `expected` is what Spark's own Python client (4.3.0) makes of the same plan.
    #[track_caller]
    fn check(command: CommandType, expected: &str) {
        let plan = Plan { command: Some(Command { command: Some(command) }) };
        let hex: String = plan.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn commands_have_the_bytes_that_sparks_client_sends() {
        let sql = DefineSql { graph: text("g"), file: text("a.sql"), text: text("S") };
        check(pipeline(PipelineCommandType::DefineSql(sql)), "12129a010f320d0a01671205612e73716c1a0153");
        let run = StartRun { graph: text("g"), dry: Some(true), storage: text("file:///s") };
        check(pipeline(PipelineCommandType::StartRun(run)), "12159a01122a100a01672801320966696c653a2f2f2f73");
        let graph = CreateGraph { default_catalog: text("c"), default_database: text("d"), sql_conf: map("k", "v") };
        check(pipeline(PipelineCommandType::CreateGraph(graph)), "12139a01100a0e0a01631201642a060a016b120176");
        check(CommandType::ListenerBus(ListenerBusCommand { add: Some(true), remove: None }), "12045a020801");
        check(CommandType::Queries(QueriesCommand { active: Some(true) }), "12044a020801");
        let query = QueryId { id: "i".to_owned(), run_id: "r".to_owned() };
        check(
            CommandType::Query(QueryCommand { query: Some(query), stop: Some(true) }),
            "120c3a0a0a060a01691201722801",
        );
    }

    #[test]
    fn definitions_have_the_bytes_that_sparks_client_sends() {
        let output = DefineOutput {
            graph: text("g"),
            name: text("s"),
            kind: Some(OutputType::Sink as i32),
            location: Some(SourceLocation { file: text("f"), line: Some(3) }),
            sink: Some(SinkDetails { options: map("path", "/x"), format: text("json") }),
        };
        check(
            pipeline(PipelineCommandType::DefineOutput(output)),
            "12289a012512230a016712017318042a050a016610033a120a0a0a047061746812022f7812046a736f6e",
        );
        let source = DataSource {
            format: text("csv"),
            schema: text("a INT"),
            options: map("header", "true"),
            paths: vec!["/p".into()],
        };
        let read = Read { source: Some(source), is_streaming: true };
        let numbered = |plan_id, relation| Relation {
            common: Some(RelationCommon { plan_id: Some(plan_id) }),
            relation: Some(relation),
        };
        let expression = Expression { text: Some(ExpressionText { expression: "a + 1".to_owned() }) };
        let input = Some(Box::new(numbered(1, RelationType::Read(read))));
        let project = numbered(2, RelationType::Project(Box::new(Project { input, expressions: vec![expression] })));
        let flow = DefineFlow {
            graph: text("g"),
            name: text("f"),
            target: text("t"),
            location: None,
            details: Some(RelationFlow { relation: Some(project) }),
        };
        check(
            pipeline(PipelineCommandType::DefineFlow(flow)),
            "124f9a014c1a4a0a01671201661a01743a3f0a3d0a0210021a370a2a0a021001122412200a0363737612056120494e541a0e0a0668\
             656164657212047472756522022f7018011a0922070a0561202b2031",
        );
    }

    #[test]
    fn answers_are_read_and_what_is_not_known_is_skipped() {
        let read = |hex: &str| {
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            ExecutePlanResponse::decode(bytes.as_slice()).unwrap()
        };
        let event = read("aa01090a070a02080112016d").pipeline_event.unwrap().event.unwrap();
        assert_eq!(event.message, text("m"));
        let created = read("0a0173b201050a030a0167").pipeline_result.unwrap().created.unwrap();
        assert_eq!(created.graph, text("g"));
        let queries = read("5a0f0a0d0a0b0a060a016912017212016e").queries.unwrap().active.unwrap().queries;
        assert_eq!(queries[0].id.as_ref().unwrap().run_id, "r");
        assert_eq!(read("8201080a060a027b7d1001").listener_events.unwrap().events[0].json, "{}");
    }
}
