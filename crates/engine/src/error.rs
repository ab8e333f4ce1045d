//! Errors of the engine, sorted by what the person who sees one does next.
//!
//! A variant is a kind of next step, not a place in the code: fix the query, fix the configuration, retry later,
//! restore data, report a bug. Every message names the object, what was found and what was expected; the next step
//! stands in `help`, so that the command line can print it on a line of its own.

use std::fmt;

/// The result of everything in the engine that can fail.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// What went wrong, sorted by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The SQL text is wrong or asks for what streams cannot do: change the query.
    #[error("{0}")]
    Query(Box<QueryProblem>),
    /// An option, a path or a setting is wrong: change the configuration.
    #[error("{0}")]
    Config(Box<Problem>),
    /// Something outside does not answer or has no room: the same call may succeed later.
    #[error("{0}")]
    Unavailable(Box<Problem>),
    /// Stored or incoming data is not what it must be: repair, skip or restore it.
    #[error("{0}")]
    Data(Box<Problem>),
    /// A broken promise of our own: please report it.
    #[error("internal error: {0}; this is a bug in Highwater, please report it")]
    Internal(Box<Problem>),
}

/// A problem with its next step and its cause.
#[derive(Debug)]
pub struct Problem {
    /// Object, found, expected: one sentence without a full stop.
    pub message: String,
    /// The next step, one sentence.
    pub help: Option<String>,
    /// The error below, if there was one; shown after the message.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A problem in SQL text with the place it stands at.
#[derive(Debug)]
pub struct QueryProblem {
    /// Object, found, expected: one sentence without a full stop.
    pub message: String,
    /// The next step, one sentence.
    pub help: Option<String>,
    /// Where in the text, if known.
    pub span: Option<Span>,
}

/// A place in SQL text: 1-based line and column, as editors count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// 1-based line.
    pub line: u64,
    /// 1-based column, in characters.
    pub column: u64,
    /// How many characters the caret line underlines, at least 1.
    pub length: u64,
}

impl EngineError {
    /// A query error without a place.
    pub fn query(message: impl Into<String>) -> Self {
        Self::Query(Box::new(QueryProblem { message: message.into(), help: None, span: None }))
    }

    /// A query error at a place in the text.
    pub fn query_at(span: Span, message: impl Into<String>) -> Self {
        Self::Query(Box::new(QueryProblem { message: message.into(), help: None, span: Some(span) }))
    }

    /// A configuration error.
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config(Problem::boxed(message))
    }

    /// An error of something outside that may pass.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable(Problem::boxed(message))
    }

    /// An error in stored or incoming data.
    pub fn data(message: impl Into<String>) -> Self {
        Self::Data(Problem::boxed(message))
    }

    /// A broken promise of our own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(Problem::boxed(message))
    }

    /// The same error with the next step added; a help that is already there stays.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        let slot = match &mut self {
            Self::Query(problem) => &mut problem.help,
            Self::Config(p) | Self::Unavailable(p) | Self::Data(p) | Self::Internal(p) => &mut p.help,
        };
        slot.get_or_insert_with(|| help.into());
        self
    }

    /// The same error with its cause added.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        if let Self::Config(p) | Self::Unavailable(p) | Self::Data(p) | Self::Internal(p) = &mut self {
            p.source = Some(cause.into());
        }
        self
    }

    /// The next step, if the error names one.
    pub fn next_step(&self) -> Option<&str> {
        match self {
            Self::Query(problem) => problem.help.as_deref(),
            Self::Config(p) | Self::Unavailable(p) | Self::Data(p) | Self::Internal(p) => p.help.as_deref(),
        }
    }

    /// The same error, out of another one that carried it and keeps it.
    fn carried(&self) -> Self {
        match self {
            Self::Query(p) => {
                Self::Query(Box::new(QueryProblem { message: p.message.clone(), help: p.help.clone(), span: p.span }))
            }
            Self::Config(p) => Self::Config(p.carried()),
            Self::Unavailable(p) => Self::Unavailable(p.carried()),
            Self::Data(p) => Self::Data(p.carried()),
            Self::Internal(p) => Self::Internal(p.carried()),
        }
    }

    /// The place in the SQL text, if the error has one.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Query(problem) => problem.span,
            _ => None,
        }
    }
}

impl Problem {
    fn boxed(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { message: message.into(), help: None, source: None })
    }

    /// The cause becomes part of the message.
    fn carried(&self) -> Box<Self> {
        Box::new(Self { message: self.to_string(), help: self.help.clone(), source: None })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for QueryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Arrow kernels fail on data (overflow, a cast that does not fit) unless we called them wrongly; the first is what
/// a user can see.
impl From<arrow::error::ArrowError> for EngineError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::data(error.to_string())
    }
}

impl From<datafusion::error::DataFusionError> for EngineError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as E;
        let message = error.strip_backtrace();
        match error.find_root() {
            E::External(inner) if inner.is::<Self>() => {
                inner.downcast_ref().map_or_else(|| Self::data(message), Self::carried)
            }
            E::Plan(text) | E::NotImplemented(text) => Self::query(text.clone()),
            E::SchemaError(inner, _) => Self::query(inner.to_string()),
            E::SQL(inner, _) => Self::query(inner.to_string()),
            E::Internal(_) => Self::internal(message),
            E::IoError(_) | E::ObjectStore(_) | E::ResourcesExhausted(_) => Self::unavailable(message),
            _ => Self::data(message),
        }
    }
}

/// The nearest of `candidates` to `word`, for "did you mean": at most a third of the letters may differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(word.len()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_slip_and_refuses_a_stranger() {
        assert_eq!(nearest("startingOffset", ["startingOffsets", "subscribe"]), Some("startingOffsets"));
        assert_eq!(nearest("amuont", ["amount", "account"]), Some("amount"));
        assert_eq!(nearest("zzz", ["amount", "account"]), None);
    }
}
