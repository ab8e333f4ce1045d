//! What a client is answered when something is wrong: a status of gRPC with the class of the exception PySpark raises.
//!
//! ```text
//!   Problem ─> grpc-status, grpc-message
//!          └─> grpc-status-details-bin: google.rpc.Status { ErrorInfo { classes, errorClass } } ─> AnalysisException(...)
//! ```
//!
//! The message is ours, with its next step on a line of its own; the class is Spark's, by which programs tell errors apart.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use highwater_engine::error::EngineError;
use highwater_engine::plan::ScriptError;
use prost::Message as _;

use crate::config::secrets::redact;
use crate::spark_connect::messages::{AnyMessage, ErrorInfo, RpcStatus};

/// The result of everything that a client asks.
pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// The longest message: it is sent twice in the trailers of a call, for which clients take 8 KB.
const MAX_MESSAGE_BYTES: usize = 2048;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    kind: Kind,
    message: String,
    class: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The query is wrong.
    Analysis,
    /// Something that is not done here.
    Unsupported,
    /// An argument is wrong.
    Argument,
    /// It failed while it ran.
    Runtime,
    /// A streaming query failed.
    Streaming,
    /// A limit of the server.
    Exhausted,
    /// The call itself is not understood.
    Call(u32),
}

impl Problem {
    /// The query is wrong.
    pub(crate) fn analysis(message: impl Into<String>) -> Self {
        Self::new(Kind::Analysis, message)
    }

    /// Something of PySpark that is not done here: what it is, and the way out.
    pub(crate) fn unsupported(what: impl std::fmt::Display, way_out: &str) -> Self {
        Self::new(Kind::Unsupported, format!("{what} is not supported by Highwater\n{way_out}"))
    }

    /// An argument is wrong.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(Kind::Argument, message)
    }

    /// It failed while it ran.
    pub(crate) fn runtime(message: impl Into<String>) -> Self {
        Self::new(Kind::Runtime, message)
    }

    /// A streaming query failed.
    pub(crate) fn streaming(message: impl Into<String>) -> Self {
        Self { class: Some("STREAM_FAILED"), ..Self::new(Kind::Streaming, message) }
    }

    /// A limit of the server is reached.
    pub(crate) fn exhausted(message: impl Into<String>) -> Self {
        Self::new(Kind::Exhausted, message)
    }

    /// A handle of the protocol that is not known, by the name of Spark's error.
    pub(crate) fn handle(class: &'static str, message: impl Into<String>) -> Self {
        Self { class: Some(class), ..Self::new(Kind::Runtime, format!("[{class}] {}", message.into())) }
    }

    /// A call that cannot be served, by its code of gRPC.
    pub(crate) fn call(code: u32, message: impl Into<String>) -> Self {
        Self::new(Kind::Call(code), message)
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), class: None }
    }

    /// The code of gRPC.
    pub(crate) fn code(&self) -> u32 {
        match self.kind {
            Kind::Call(code) => code,
            Kind::Exhausted => 8,
            _ => 13,
        }
    }

    /// What it says.
    pub(crate) fn message(&self) -> String {
        let text = redact(&self.message);
        if text.len() <= MAX_MESSAGE_BYTES {
            return text.into();
        }
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        format!("{} ...", &text[..end])
    }

    /// `grpc-status-details-bin`.
    pub(crate) fn details(&self) -> String {
        let classes: &[&str] = match self.kind {
            Kind::Analysis => &["org.apache.spark.sql.AnalysisException"],
            Kind::Unsupported => &["java.lang.UnsupportedOperationException"],
            Kind::Argument => &["java.lang.IllegalArgumentException"],
            Kind::Streaming => &["org.apache.spark.sql.streaming.StreamingQueryException"],
            Kind::Runtime | Kind::Exhausted | Kind::Call(_) => &["org.apache.spark.SparkException"],
        };
        let mut metadata = HashMap::from([("classes".to_owned(), serde_json::json!(classes).to_string())]);
        if let Some(class) = self.class {
            metadata.insert("errorClass".to_owned(), class.to_owned());
        }
        let reason = classes.first().copied().unwrap_or_default().to_owned();
        let info = ErrorInfo { reason, domain: "org.apache.spark".to_owned(), metadata };
        let status = RpcStatus {
            code: i32::try_from(self.code()).unwrap_or(2),
            message: self.message(),
            details: vec![AnyMessage {
                type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
                value: info.encode_to_vec(),
            }],
        };
        STANDARD_NO_PAD.encode(status.encode_to_vec())
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::Query(_) => Kind::Analysis,
            EngineError::Config(_) => Kind::Argument,
            EngineError::Unavailable(_) | EngineError::Data(_) | EngineError::Internal(_) => Kind::Runtime,
        };
        let help = error.next_step().map(|help| format!("\n{help}")).unwrap_or_default();
        Self::new(kind, format!("{error}{help}"))
    }
}

impl From<ScriptError> for Problem {
    fn from(script: ScriptError) -> Self {
        script.error.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(problem: &Problem) -> ErrorInfo {
        let bytes = STANDARD_NO_PAD.decode(problem.details()).unwrap();
        let status = RpcStatus::decode(bytes.as_slice()).unwrap();
        ErrorInfo::decode(status.details[0].value.as_slice()).unwrap()
    }

    #[test]
    fn the_class_is_the_one_pyspark_raises() {
        let check = |problem: Problem, code: u32, class: &str| {
            assert_eq!(problem.code(), code);
            assert_eq!(info(&problem).metadata["classes"], format!("[\"{class}\"]"));
        };
        check(EngineError::query("no").into(), 13, "org.apache.spark.sql.AnalysisException");
        check(EngineError::config("no").into(), 13, "java.lang.IllegalArgumentException");
        check(Problem::unsupported("df.rdd", "use columns"), 13, "java.lang.UnsupportedOperationException");
        check(Problem::exhausted("full"), 8, "org.apache.spark.SparkException");
    }

    #[test]
    fn the_next_step_is_told_and_long_texts_are_cut() {
        let problem = Problem::from(EngineError::query("no column x").help("did you mean 'y'?"));
        assert_eq!(problem.message(), "no column x\ndid you mean 'y'?");
        assert!(Problem::runtime("é".repeat(5000)).message().len() < MAX_MESSAGE_BYTES + 8);
    }
}
