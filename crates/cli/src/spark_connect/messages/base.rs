//! Requests: `spark/connect/base.proto` and the commands.

use std::collections::HashMap;

use prost::{Message, Oneof};

use super::{Expression, Literal, PipelineCommand, Relation};

/// Who asks.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserContext {
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
    #[prost(string, tag = "2")]
    pub(crate) user_name: String,
}

/// A key of the configuration and its value.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) value: Option<String>,
}

/// What all requests have at the same place; read first, to find the session.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Plan {
    #[prost(oneof = "PlanKind", tags = "1, 2, 3")]
    pub(crate) kind: Option<PlanKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum PlanKind {
    #[prost(message, tag = "1")]
    Root(Box<Relation>),
    #[prost(message, tag = "2")]
    Command(Box<Command>),
    #[prost(bytes, tag = "3")]
    Compressed(Vec<u8>),
}

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
    #[prost(string, repeated, tag = "7")]
    pub(crate) tags: Vec<String>,
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
    /// All answers may go.
    #[prost(message, optional, tag = "5")]
    pub(crate) release_all: Option<Nothing>,
    #[prost(message, optional, tag = "6")]
    pub(crate) release_until: Option<ReleaseUntil>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseUntil {
    #[prost(string, tag = "1")]
    pub(crate) response_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InterruptRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(int32, tag = "4")]
    pub(crate) interrupt_type: i32,
    #[prost(string, optional, tag = "5")]
    pub(crate) operation_tag: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub(crate) operation_id: Option<String>,
}

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

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigOperation {
    #[prost(oneof = "ConfigKind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) kind: Option<ConfigKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ConfigKind {
    #[prost(message, tag = "1")]
    Set(ConfigPairs),
    #[prost(message, tag = "2")]
    Get(ConfigKeys),
    #[prost(message, tag = "3")]
    GetWithDefault(ConfigPairs),
    #[prost(message, tag = "4")]
    GetOption(ConfigKeys),
    #[prost(message, tag = "5")]
    GetAll(ConfigPrefix),
    #[prost(message, tag = "6")]
    Unset(ConfigKeys),
    #[prost(message, tag = "7")]
    IsModifiable(ConfigKeys),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigPairs {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pairs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigKeys {
    #[prost(string, repeated, tag = "1")]
    pub(crate) keys: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigPrefix {
    #[prost(string, optional, tag = "1")]
    pub(crate) prefix: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnalyzePlanRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub(crate) client_type: Option<String>,
    #[prost(oneof = "AnalyzeKind", tags = "4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18")]
    pub(crate) kind: Option<AnalyzeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum AnalyzeKind {
    #[prost(message, tag = "4")]
    Schema(OfPlan),
    #[prost(message, tag = "5")]
    Explain(OfPlan),
    #[prost(message, tag = "6")]
    TreeString(OfPlan),
    #[prost(message, tag = "7")]
    IsLocal(OfPlan),
    #[prost(message, tag = "8")]
    IsStreaming(OfPlan),
    #[prost(message, tag = "9")]
    InputFiles(OfPlan),
    #[prost(message, tag = "10")]
    SparkVersion(Nothing),
    #[prost(message, tag = "11")]
    DdlParse(Text),
    #[prost(bytes, tag = "12")]
    SameSemantics(Vec<u8>),
    #[prost(bytes, tag = "13")]
    SemanticHash(Vec<u8>),
    #[prost(message, tag = "14")]
    Persist(Nothing),
    #[prost(message, tag = "15")]
    Unpersist(Nothing),
    #[prost(bytes, tag = "16")]
    GetStorageLevel(Vec<u8>),
    #[prost(bytes, tag = "18")]
    JsonToDdl(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseSessionRequest {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub(crate) client_type: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OfPlan {
    #[prost(message, optional, tag = "1")]
    pub(crate) plan: Option<Plan>,
}

/// A message of which nothing is used.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nothing {}

/// A message with a text at its first place.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Command {
    #[prost(oneof = "CommandKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19")]
    pub(crate) kind: Option<CommandKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum CommandKind {
    #[prost(bytes, tag = "1")]
    RegisterFunction(Vec<u8>),
    #[prost(bytes, tag = "2")]
    Write(Vec<u8>),
    #[prost(message, tag = "3")]
    CreateView(CreateView),
    #[prost(bytes, tag = "4")]
    WriteTo(Vec<u8>),
    #[prost(message, tag = "5")]
    Sql(SqlCommand),
    #[prost(message, tag = "6")]
    StartStream(Box<StartStream>),
    #[prost(message, tag = "7")]
    Query(QueryCommand),
    #[prost(message, tag = "8")]
    Resources(Nothing),
    #[prost(message, tag = "9")]
    Queries(QueriesCommand),
    #[prost(bytes, tag = "10")]
    RegisterTableFunction(Vec<u8>),
    #[prost(message, tag = "11")]
    ListenerBus(ListenerBusCommand),
    #[prost(bytes, tag = "12")]
    RegisterDataSource(Vec<u8>),
    #[prost(bytes, tag = "13")]
    ResourceProfile(Vec<u8>),
    #[prost(bytes, tag = "14")]
    Checkpoint(Vec<u8>),
    #[prost(bytes, tag = "15")]
    RemoveCached(Vec<u8>),
    #[prost(bytes, tag = "16")]
    Merge(Vec<u8>),
    #[prost(bytes, tag = "17")]
    Ml(Vec<u8>),
    #[prost(bytes, tag = "18")]
    External(Vec<u8>),
    #[prost(message, tag = "19")]
    Pipeline(Box<PipelineCommand>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SqlCommand {
    #[prost(string, tag = "1")]
    pub(crate) sql: String,
    #[prost(message, optional, tag = "6")]
    pub(crate) input: Option<Relation>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateView {
    #[prost(message, optional, tag = "1")]
    pub(crate) input: Option<Relation>,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(bool, tag = "3")]
    pub(crate) is_global: bool,
    #[prost(bool, tag = "4")]
    pub(crate) replace: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StartStream {
    #[prost(message, optional, tag = "1")]
    pub(crate) input: Option<Relation>,
    #[prost(string, tag = "2")]
    pub(crate) format: String,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) options: HashMap<String, String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) partitioning_columns: Vec<String>,
    #[prost(oneof = "StreamTrigger", tags = "5, 6, 7, 8, 100")]
    pub(crate) trigger: Option<StreamTrigger>,
    #[prost(string, tag = "9")]
    pub(crate) output_mode: String,
    #[prost(string, tag = "10")]
    pub(crate) query_name: String,
    #[prost(oneof = "StreamTarget", tags = "11, 12")]
    pub(crate) target: Option<StreamTarget>,
    #[prost(bytes, optional, tag = "13")]
    pub(crate) foreach_writer: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "14")]
    pub(crate) foreach_batch: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum StreamTrigger {
    #[prost(string, tag = "5")]
    ProcessingTime(String),
    #[prost(bool, tag = "6")]
    AvailableNow(bool),
    #[prost(bool, tag = "7")]
    Once(bool),
    #[prost(string, tag = "8")]
    Continuous(String),
    #[prost(string, tag = "100")]
    RealTime(String),
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum StreamTarget {
    #[prost(string, tag = "11")]
    Path(String),
    #[prost(string, tag = "12")]
    Table(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueryId {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) run_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueryCommand {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<QueryId>,
    #[prost(oneof = "QueryCommandKind", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub(crate) kind: Option<QueryCommandKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum QueryCommandKind {
    #[prost(bool, tag = "2")]
    Status(bool),
    #[prost(bool, tag = "3")]
    LastProgress(bool),
    #[prost(bool, tag = "4")]
    RecentProgress(bool),
    #[prost(bool, tag = "5")]
    Stop(bool),
    #[prost(bool, tag = "6")]
    ProcessAllAvailable(bool),
    #[prost(message, tag = "7")]
    Explain(Nothing),
    #[prost(bool, tag = "8")]
    Exception(bool),
    #[prost(message, tag = "9")]
    AwaitTermination(AwaitTermination),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AwaitTermination {
    #[prost(int64, optional, tag = "2")]
    pub(crate) timeout_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueriesCommand {
    #[prost(oneof = "QueriesCommandKind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) kind: Option<QueriesCommandKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum QueriesCommandKind {
    #[prost(bool, tag = "1")]
    Active(bool),
    #[prost(string, tag = "2")]
    Get(String),
    #[prost(message, tag = "3")]
    AwaitAny(AwaitAny),
    #[prost(bool, tag = "4")]
    ResetTerminated(bool),
    #[prost(bytes, tag = "5")]
    AddListener(Vec<u8>),
    #[prost(bytes, tag = "6")]
    RemoveListener(Vec<u8>),
    #[prost(bool, tag = "7")]
    ListListeners(bool),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AwaitAny {
    #[prost(int64, optional, tag = "1")]
    pub(crate) timeout_ms: Option<i64>,
}

/// `StreamingQueryListenerBusCommand`: a client's listeners are told from here on, or no more.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListenerBusCommand {
    #[prost(oneof = "ListenerBusKind", tags = "1, 2")]
    pub(crate) kind: Option<ListenerBusKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ListenerBusKind {
    #[prost(bool, tag = "1")]
    Add(bool),
    #[prost(bool, tag = "2")]
    Remove(bool),
}

/// Arguments of `spark.sql`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sql {
    #[prost(string, tag = "1")]
    pub(crate) query: String,
    #[prost(map = "string, message", tag = "2")]
    pub(crate) args: HashMap<String, Literal>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) pos_args: Vec<Literal>,
    #[prost(map = "string, message", tag = "4")]
    pub(crate) named_arguments: HashMap<String, Expression>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) pos_arguments: Vec<Expression>,
}
