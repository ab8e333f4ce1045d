//! Executions and their answers, kept until the client has taken them.
//!
//! ```text
//!   ExecutePlan ─> Operation: answers 1, 2, 3 ... end ─> every reader from where it asks
//!   ReattachExecute(last) ──────────────────────┘   ReleaseExecute(until) drops what is in front
//! ```
//!
//! A client that lost its connection takes an execution up again after the last answer it has seen. One that does not come
//! back is gone: its executions are ended, and with them what they keep. What one execution may keep is bounded: a result
//! that is larger is refused and not cut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream;
use highwater_engine::query::Cancellation;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::grpc::Answers;
use super::problem::{Problem, Result};
use crate::spark_connect::framing::framed;
use crate::spark_connect::messages::{Answer, DataType, ExecutePlanResponse, Nothing};

/// What the answers of one execution may take: the default of Spark's `spark.driver.maxResultSize`.
const MAX_RESULT_BYTES: usize = 1 << 30;

/// An execution.
#[derive(Debug)]
pub(crate) struct Operation {
    /// The client's name for it.
    pub(crate) id: String,
    /// The client's words for it.
    pub(crate) tags: Vec<String>,
    session_id: String,
    server_side_session_id: String,
    /// Ends what computes its answers.
    pub(crate) cancellation: Cancellation,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// The number of the first answer that is kept.
    first: u64,
    answers: VecDeque<Bytes>,
    size_bytes: usize,
    end: Option<Result<()>>,
    /// How many read it now.
    readers: usize,
    /// When the last of them left.
    left: Instant,
}

/// Somebody who reads the answers.
struct Reader(Arc<Operation>);

impl Reader {
    fn new(operation: &Arc<Operation>) -> Self {
        operation.state.lock().readers += 1;
        Self(Arc::clone(operation))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.readers -= 1;
        state.left = Instant::now();
    }
}

impl Operation {
    /// An execution that has just begun.
    pub(crate) fn new(id: String, tags: Vec<String>, session_id: &str, server_side_session_id: &str) -> Self {
        Self {
            id,
            tags,
            session_id: session_id.to_owned(),
            server_side_session_id: server_side_session_id.to_owned(),
            cancellation: Cancellation::default(),
            state: Mutex::new(State {
                first: 0,
                answers: VecDeque::new(),
                size_bytes: 0,
                end: None,
                readers: 0,
                left: Instant::now(),
            }),
            changed: Notify::new(),
        }
    }

    /// Adds an answer.
    pub(crate) fn push(&self, answer: Option<Answer>, schema: Option<DataType>) -> Result<()> {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Err(self.cancelled());
        }
        let number = state.first + state.answers.len() as u64;
        let answer = framed(&ExecutePlanResponse {
            session_id: self.session_id.clone(),
            server_side_session_id: self.server_side_session_id.clone(),
            operation_id: self.id.clone(),
            response_id: number.to_string(),
            schema,
            answer,
        });
        if state.size_bytes + answer.len() > MAX_RESULT_BYTES {
            return Err(Problem::exhausted(format!(
                "the result has more than {MAX_RESULT_BYTES} bytes\ntake fewer rows with limit or a filter"
            )));
        }
        state.size_bytes += answer.len();
        state.answers.push_back(answer);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Ends it.
    pub(crate) fn end(&self, outcome: Result<()>) {
        let outcome = match outcome {
            Ok(()) => self.push(Some(Answer::Complete(Nothing {})), None),
            failed => failed,
        };
        self.state.lock().end.get_or_insert(outcome);
        self.changed.notify_waiters();
    }

    /// Ends it in the client's name; false if it has ended.
    pub(crate) fn interrupt(&self) -> bool {
        let mut state = self.state.lock();
        let runs = state.end.is_none();
        if runs {
            state.end = Some(Err(self.cancelled()));
        }
        drop(state);
        self.cancellation.cancel();
        self.changed.notify_waiters();
        runs
    }

    /// Whether nobody has read it since `moment`.
    pub(crate) fn is_left_since(&self, moment: Instant) -> bool {
        let state = self.state.lock();
        state.readers == 0 && state.left < moment
    }

    /// What is answered where it was interrupted.
    pub(crate) fn cancelled(&self) -> Problem {
        Problem::handle("OPERATION_CANCELED", format!("The operation {} was canceled.", self.id))
    }

    /// Whether it has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// Drops the answers up to this one.
    pub(crate) fn release_until(&self, response_id: &str) {
        let Ok(last) = response_id.parse::<u64>() else { return };
        let mut state = self.state.lock();
        while state.first <= last {
            let Some(answer) = state.answers.pop_front() else { break };
            state.size_bytes -= answer.len();
            state.first += 1;
        }
    }

    /// The answers after the one of that name, or all.
    pub(crate) fn answers(self: &Arc<Self>, after: Option<&str>) -> Result<Answers> {
        let number = |id: &str| id.parse::<u64>().ok()?.checked_add(1);
        let next = match after {
            None => 0,
            Some(id) => number(id).ok_or_else(|| Problem::argument(format!("there is no response '{id}'")))?,
        };
        let first = self.state.lock().first;
        if next < first {
            return Err(Problem::handle(
                "INVALID_CURSOR.POSITION_NOT_AVAILABLE",
                format!("answers before {first} were released"),
            ));
        }
        let start = Some((Reader::new(self), next));
        Ok(Box::pin(stream::unfold(start, |at| async move {
            let (reader, next) = at?;
            match reader.0.wait(next).await {
                Ok(Some(answer)) => Some((Ok(answer), Some((reader, next + 1)))),
                Ok(None) => None,
                Err(problem) => Some((Err(problem), None)),
            }
        })))
    }

    async fn wait(&self, number: u64) -> Result<Option<Bytes>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Whoever changes the state from here on is heard.
            changed.as_mut().enable();
            {
                let state = self.state.lock();
                let at = usize::try_from(number.saturating_sub(state.first)).unwrap_or(usize::MAX);
                if let Some(answer) = state.answers.get(at).filter(|_| number >= state.first) {
                    return Ok(Some(answer.clone()));
                }
                match &state.end {
                    Some(Ok(())) => return Ok(None),
                    Some(Err(problem)) => return Err(problem.clone()),
                    None => {}
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn operation() -> Arc<Operation> {
        Arc::new(Operation::new("o".to_owned(), Vec::new(), "s", "t"))
    }

    async fn count(operation: &Arc<Operation>, after: Option<&str>) -> (usize, Option<Problem>) {
        let answers: Vec<Result<Bytes>> = operation.answers(after).unwrap().collect().await;
        let problem = answers.iter().find_map(|answer| answer.clone().err());
        (answers.iter().filter(|answer| answer.is_ok()).count(), problem)
    }

    #[tokio::test]
    async fn answers_are_there_for_whoever_comes_back() {
        let operation = operation();
        operation.push(None, None).unwrap();
        operation.push(None, None).unwrap();
        operation.end(Ok(()));
        assert_eq!(count(&operation, None).await, (3, None));
        assert_eq!(count(&operation, Some("0")).await, (2, None));
        operation.release_until("1");
        assert_eq!(count(&operation, Some("1")).await, (1, None));
        assert!(operation.answers(None).is_err(), "released answers are gone");
        assert!(operation.answers(Some("18446744073709551615")).is_err(), "no answer comes after the last number");
    }

    #[tokio::test]
    async fn an_execution_without_readers_is_left() {
        let operation = operation();
        let reader = operation.answers(None).unwrap();
        assert!(!operation.is_left_since(Instant::now()), "somebody reads it");
        drop(reader);
        let later = Instant::now() + std::time::Duration::from_secs(1);
        assert!(operation.is_left_since(later));
        let _reader = operation.answers(None).unwrap();
        assert!(!operation.is_left_since(later), "the client is back");
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_comes_and_hears_of_an_interrupt() {
        let operation = operation();
        let reader = tokio::spawn({
            let operation = Arc::clone(&operation);
            async move { count(&operation, None).await }
        });
        operation.push(None, None).unwrap();
        assert!(operation.interrupt() && !operation.interrupt());
        let (answers, problem) = reader.await.unwrap();
        assert_eq!(answers, 1);
        assert!(problem.unwrap().message().contains("OPERATION_CANCELED"));
        assert!(operation.push(None, None).is_err(), "an interrupted execution takes no more answers");
    }
}
