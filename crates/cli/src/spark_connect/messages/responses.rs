//! Answers.

use prost::{Message, Oneof};

use super::{DataType, KeyValue, PipelineEventResult, PipelineResult, QueryId, Relation};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecutePlanResponse {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, optional, tag = "7")]
    pub(crate) schema: Option<DataType>,
    #[prost(string, tag = "12")]
    pub(crate) operation_id: String,
    #[prost(string, tag = "13")]
    pub(crate) response_id: String,
    #[prost(string, tag = "15")]
    pub(crate) server_side_session_id: String,
    #[prost(oneof = "Answer", tags = "2, 5, 8, 9, 11, 14, 16, 21, 22")]
    pub(crate) answer: Option<Answer>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Answer {
    #[prost(message, tag = "2")]
    ArrowBatch(ArrowBatch),
    #[prost(message, tag = "5")]
    Sql(SqlResult),
    #[prost(message, tag = "8")]
    StreamStarted(StreamStarted),
    #[prost(message, tag = "9")]
    Query(QueryResult),
    #[prost(message, tag = "11")]
    Queries(QueriesResult),
    #[prost(message, tag = "14")]
    Complete(super::Nothing),
    #[prost(message, tag = "16")]
    ListenerEvents(ListenerEvents),
    #[prost(message, tag = "21")]
    PipelineEvent(PipelineEventResult),
    #[prost(message, tag = "22")]
    Pipeline(PipelineResult),
}

/// What the session's streaming queries tell.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListenerEvents {
    #[prost(message, repeated, tag = "1")]
    pub(crate) events: Vec<ListenerEvent>,
    #[prost(bool, optional, tag = "2")]
    pub(crate) is_added: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListenerEvent {
    #[prost(string, tag = "1")]
    pub(crate) json: String,
    #[prost(enumeration = "ListenerEventType", tag = "2")]
    pub(crate) event_type: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ListenerEventType {
    Unspecified = 0,
    Progress = 1,
    Terminated = 2,
    Idle = 3,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrowBatch {
    #[prost(int64, tag = "1")]
    pub(crate) row_count: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) data: Vec<u8>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) start_offset: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SqlResult {
    #[prost(message, optional, tag = "1")]
    pub(crate) relation: Option<Relation>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamStarted {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<QueryId>,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) started_json: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueryResult {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<QueryId>,
    #[prost(oneof = "QueryResultKind", tags = "2, 3, 4, 5, 6")]
    pub(crate) kind: Option<QueryResultKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum QueryResultKind {
    #[prost(message, tag = "2")]
    Status(StatusResult),
    #[prost(message, tag = "3")]
    Progress(ProgressResult),
    #[prost(message, tag = "4")]
    Explain(super::Text),
    #[prost(message, tag = "5")]
    Exception(ExceptionResult),
    #[prost(message, tag = "6")]
    Terminated(Flag),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatusResult {
    #[prost(string, tag = "1")]
    pub(crate) message: String,
    #[prost(bool, tag = "2")]
    pub(crate) is_data_available: bool,
    #[prost(bool, tag = "3")]
    pub(crate) is_trigger_active: bool,
    #[prost(bool, tag = "4")]
    pub(crate) is_active: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProgressResult {
    #[prost(string, repeated, tag = "5")]
    pub(crate) json: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExceptionResult {
    #[prost(string, optional, tag = "1")]
    pub(crate) message: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) error_class: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) stack_trace: Option<String>,
}

/// A message with a flag at its first place.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Flag {
    #[prost(bool, tag = "1")]
    pub(crate) is_set: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueriesResult {
    #[prost(oneof = "QueriesResultKind", tags = "1, 2, 3, 4")]
    pub(crate) kind: Option<QueriesResultKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum QueriesResultKind {
    #[prost(message, tag = "1")]
    Active(ActiveQueries),
    #[prost(message, tag = "2")]
    Query(QueryInstance),
    #[prost(message, tag = "3")]
    AwaitAny(Flag),
    #[prost(bool, tag = "4")]
    ResetTerminated(bool),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ActiveQueries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) queries: Vec<QueryInstance>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueryInstance {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<QueryId>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigResponse {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) pairs: Vec<KeyValue>,
    #[prost(string, tag = "4")]
    pub(crate) server_side_session_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnalyzePlanResponse {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(string, tag = "15")]
    pub(crate) server_side_session_id: String,
    #[prost(oneof = "Analysis", tags = "2, 3, 4, 5, 6, 8, 9, 12, 13")]
    pub(crate) analysis: Option<Analysis>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Analysis {
    #[prost(message, tag = "2")]
    Schema(TypeResult),
    #[prost(message, tag = "3")]
    Explain(super::Text),
    #[prost(message, tag = "4")]
    TreeString(super::Text),
    #[prost(message, tag = "5")]
    IsLocal(Flag),
    #[prost(message, tag = "6")]
    IsStreaming(Flag),
    #[prost(message, tag = "8")]
    SparkVersion(super::Text),
    #[prost(message, tag = "9")]
    DdlParse(TypeResult),
    #[prost(message, tag = "12")]
    Persist(super::Nothing),
    #[prost(message, tag = "13")]
    Unpersist(super::Nothing),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TypeResult {
    #[prost(message, optional, tag = "1")]
    pub(crate) data_type: Option<DataType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InterruptResponse {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) interrupted_ids: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) server_side_session_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseExecuteResponse {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) operation_id: Option<String>,
    #[prost(string, tag = "3")]
    pub(crate) server_side_session_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseSessionResponse {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(string, tag = "2")]
    pub(crate) server_side_session_id: String,
}

/// `google.rpc.Status`, which gRPC sends in the trailer `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyMessage {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    #[prost(string, tag = "2")]
    pub(crate) domain: String,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) metadata: std::collections::HashMap<String, String>,
}
