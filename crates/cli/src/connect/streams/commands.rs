//! What clients ask of one streaming query, and of all of a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{StreamingQuery, events};
use crate::connect::operations::Operation;
use crate::connect::problem::{Problem, Result};
use crate::connect::session::Session;
use crate::spark_connect::messages::{
    ActiveQueries, Answer, ExceptionResult, Flag, ProgressResult, QueriesCommand, QueriesCommandKind, QueriesResult,
    QueriesResultKind, QueryCommand, QueryCommandKind, QueryResult, QueryResultKind, StatusResult, Text,
};

/// Answers what is asked of one query.
pub(crate) fn query_command(session: &Session, operation: &Operation, command: QueryCommand) -> Result<()> {
    let id = command.id.ok_or_else(|| Problem::argument("a command names no streaming query"))?;
    let query = session.streams.find(&id)?;
    let signal = &session.streams.shared.signal;
    let kind = match command.kind {
        Some(QueryCommandKind::Status(_)) => Some(QueryResultKind::Status(status(&query))),
        Some(QueryCommandKind::LastProgress(_)) => Some(progress(&query, 1)),
        Some(QueryCommandKind::RecentProgress(_)) => Some(progress(&query, usize::MAX)),
        Some(QueryCommandKind::Stop(_)) => {
            query.stop();
            None
        }
        Some(QueryCommandKind::ProcessAllAvailable(_)) => {
            let asked = query.watch.triggers();
            signal.wait(operation, None, || query.watch.is_idle_after(asked) || !query.is_active())?;
            query.check()?;
            None
        }
        Some(QueryCommandKind::Explain(_)) => Some(QueryResultKind::Explain(Text { text: query.explain.clone() })),
        Some(QueryCommandKind::Exception(_)) => Some(QueryResultKind::Exception(exception(&query))),
        Some(QueryCommandKind::AwaitTermination(wait)) => {
            let ended = signal.wait(operation, timeout(wait.timeout_ms), || !query.is_active())?;
            query.check()?;
            Some(QueryResultKind::Terminated(Flag { is_set: ended }))
        }
        None => return Err(Problem::unsupported("this call of a streaming query", "ask its status or lastProgress")),
    };
    operation.push(Some(Answer::Query(QueryResult { id: Some(id), kind })), None)
}

/// Without one it is waited as long as it takes.
fn timeout(timeout_ms: Option<i64>) -> Option<Duration> {
    timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

fn status(query: &StreamingQuery) -> StatusResult {
    let (is_active, doing) = (query.is_active(), query.watch.doing());
    let message = match query.watch.error() {
        Some(error) => format!("Terminated with exception: {error}"),
        None if !is_active => "Stopped".to_owned(),
        None if !doing.has_begun => "Initializing sources".to_owned(),
        None if doing.is_triggered => "Processing new data".to_owned(),
        None if query.waits_for_trigger => "Waiting for next trigger".to_owned(),
        None => "Waiting for data to arrive".to_owned(),
    };
    StatusResult {
        message,
        is_data_available: is_active && doing.had_rows,
        is_trigger_active: is_active && doing.is_triggered,
        is_active,
    }
}

fn progress(query: &StreamingQuery, count: usize) -> QueryResultKind {
    let name = query.name.as_deref();
    let json = |progress| events::progress(&query.id, name, &progress).to_string();
    QueryResultKind::Progress(ProgressResult { json: query.watch.recent(count).into_iter().map(json).collect() })
}

/// In the words of a Java exception, whose class a client takes off.
fn exception(query: &StreamingQuery) -> ExceptionResult {
    let text = query.failure();
    ExceptionResult {
        error_class: text.as_ref().map(|_| "STREAM_FAILED".to_owned()),
        message: text.map(|text| format!("org.apache.spark.sql.streaming.StreamingQueryException: {text}")),
        stack_trace: None,
    }
}

/// Answers what is asked of all queries.
pub(crate) fn queries_command(session: &Session, operation: &Operation, command: QueriesCommand) -> Result<()> {
    let streams = &session.streams;
    let active = || {
        let queries = streams.queries.lock();
        queries.iter().filter(|query| query.is_active()).cloned().collect::<Vec<Arc<StreamingQuery>>>()
    };
    let kind = match command.kind {
        Some(QueriesCommandKind::Active(_)) => {
            let queries = active().iter().map(|query| query.instance()).collect();
            Some(QueriesResultKind::Active(ActiveQueries { queries }))
        }
        Some(QueriesCommandKind::Get(id)) => {
            active().iter().find(|query| query.id.id == id).map(|query| QueriesResultKind::Query(query.instance()))
        }
        Some(QueriesCommandKind::AwaitAny(wait)) => {
            let any_ended = || streams.counted().iter().any(|query| !query.is_active());
            let ended = streams.shared.signal.wait(operation, timeout(wait.timeout_ms), any_ended)?;
            streams.counted().iter().try_for_each(|query| query.check())?;
            Some(QueriesResultKind::AwaitAny(Flag { is_set: ended }))
        }
        Some(QueriesCommandKind::ResetTerminated(_)) => {
            let ended = streams.counted().into_iter().filter(|query| !query.is_active());
            ended.for_each(|query| query.is_reset.store(true, Ordering::Relaxed));
            Some(QueriesResultKind::ResetTerminated(true))
        }
        Some(_) | None => {
            return Err(Problem::unsupported(
                "a StreamingQueryListener that runs on the server",
                "use PySpark 4, whose listeners run in the client",
            ));
        }
    };
    operation.push(Some(Answer::Queries(QueriesResult { kind })), None)
}
