//! Pipelines: `spark/connect/pipelines.proto`. Only a client sends them here; the server refuses them by name.

use std::collections::HashMap;

use prost::{Message, Oneof};

use super::Relation;

/// A step of a pipeline.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PipelineCommand {
    #[prost(oneof = "PipelineCommandKind", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) kind: Option<PipelineCommandKind>,
}

/// The steps of a pipeline.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum PipelineCommandKind {
    /// A new, empty graph of tables and flows.
    #[prost(message, tag = "1")]
    CreateGraph(CreateGraph),
    /// A view or sink.
    #[prost(message, tag = "2")]
    DefineOutput(DefineOutput),
    /// A query that fills one.
    #[prost(message, tag = "3")]
    DefineFlow(DefineFlow),
    /// The end of a graph.
    #[prost(message, tag = "4")]
    DropGraph(DropGraph),
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

/// `DropDataflowGraph`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DropGraph {
    #[prost(string, optional, tag = "1")]
    pub(crate) graph: Option<String>,
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
pub(crate) struct PipelineResult {
    #[prost(message, optional, tag = "1")]
    pub(crate) created: Option<GraphCreated>,
}

/// The new graph's name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphCreated {
    #[prost(string, optional, tag = "1")]
    pub(crate) graph: Option<String>,
}
