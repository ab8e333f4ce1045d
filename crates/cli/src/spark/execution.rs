//! One execution on a server that outlives the connection it was started on.
//!
//! ```text
//!   ExecutePlan (reattachable) ─> answers ... ─> result complete ─> ReleaseExecute
//!                                    │ the connection breaks, or the server ends the stream to be asked again
//!                                    └─> [a new connection] ─> ReattachExecute behind the last answer ─> answers ...
//! ```
//!
//! The server keeps an execution, and answers that were not read, for minutes. Taking it up again is a task of its own,
//! since whoever waits here looks up now and then. It gives up after [`PATIENCE`], and at once where the server says that
//! it knows of no such execution: then it was restarted, or has thrown the session away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::grpc::{Answers, Status};
use super::session::Session;
use crate::spark_connect::messages::{Answer, ExecutePlanResponse};

/// How long a connection is tried to be had again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two tries, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// How often in a row an execution is taken up again without an answer: a server that ends each stream at once is broken.
const MAX_IDLE: usize = 1000;

/// An execution and where its answers have been read to.
pub(crate) struct Execution {
    session: Arc<Session>,
    operation: String,
    answers: Option<Answers<ExecutePlanResponse>>,
    reattaching: Option<JoinHandle<Result<Answers<ExecutePlanResponse>, Status>>>,
    last_answer: Option<String>,
    /// How often it was taken up again since the last answer.
    idle: usize,
    is_complete: bool,
}

impl Execution {
    /// An execution that was just started.
    pub(crate) fn new(session: Arc<Session>, operation: String, answers: Answers<ExecutePlanResponse>) -> Self {
        Self {
            session,
            operation,
            answers: Some(answers),
            reattaching: None,
            last_answer: None,
            idle: 0,
            is_complete: false,
        }
    }

    /// The next answer; none at the end. May be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<ExecutePlanResponse>, Status> {
        loop {
            if self.is_complete {
                return Ok(None);
            }
            if let Some(reattaching) = &mut self.reattaching {
                let ended = reattaching.await;
                self.reattaching = None;
                let answers =
                    ended.map_err(|error| Status::unavailable(format!("taking it up again failed: {error}")))?;
                self.answers = Some(answers?);
            }
            let Some(answers) = &mut self.answers else { return Ok(None) };
            match answers.next().await {
                Ok(Some(answer)) => {
                    self.idle = 0;
                    if !answer.response_id.is_empty() {
                        self.last_answer = Some(answer.response_id.clone());
                    }
                    if matches!(answer.answer, Some(Answer::Complete(_))) {
                        self.complete();
                        continue;
                    }
                    return Ok(Some(answer));
                }
                // The server ends a long stream and expects to be asked again.
                Ok(None) => self.reattach(None)?,
                Err(status) if status.is_broken_connection() => self.reattach(Some(status))?,
                Err(status) => return Err(status),
            }
        }
    }

    /// The server may forget it.
    fn complete(&mut self) {
        self.is_complete = true;
        self.answers = None;
        let (session, operation) = (self.session.clone(), self.operation.clone());
        tokio::spawn(async move {
            if let Err(status) = session.release_execution(&operation).await {
                tracing::debug!("an execution was not released: {}", status.message);
            }
        });
    }

    fn reattach(&mut self, broken: Option<Status>) -> Result<(), Status> {
        self.answers = None;
        self.idle += 1;
        if self.idle > MAX_IDLE {
            return Err(Status::unavailable(format!("the server ended {MAX_IDLE} streams without an answer")));
        }
        let (session, operation, last) = (self.session.clone(), self.operation.clone(), self.last_answer.clone());
        self.reattaching =
            Some(tokio::spawn(async move { take_up(&session, &operation, last.as_deref(), broken).await }));
        Ok(())
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if let Some(reattaching) = &self.reattaching {
            reattaching.abort();
        }
    }
}

/// Asks for the answers behind the last one until there is a connection to ask on, or no hope.
async fn take_up(
    session: &Session,
    operation: &str,
    last: Option<&str>,
    broken: Option<Status>,
) -> Result<Answers<ExecutePlanResponse>, Status> {
    let began = Instant::now();
    let (mut pause, longest) = PAUSES;
    if let Some(status) = &broken {
        tracing::warn!("{}; trying for {} s to take the run up again", status.message, PATIENCE.as_secs());
    }
    let mut is_new = broken.is_none();
    loop {
        // Another execution of this session may have opened a new connection already.
        let status = match session.reattach(operation, last).await {
            Ok(answers) => {
                if broken.is_some() {
                    tracing::info!("the run on Spark is taken up again");
                }
                return Ok(answers);
            }
            Err(status) if status.is_forgotten() => {
                return Err(Status::unavailable(format!(
                    "the server does not know of the run any more: it was restarted, or has ended the session ({})",
                    status.message.lines().next().unwrap_or_default()
                )));
            }
            Err(status) if status.is_broken_connection() => status,
            Err(status) => return Err(status),
        };
        if began.elapsed() > PATIENCE {
            let why = broken.as_ref().map_or(&status.message, |broken| &broken.message);
            let waited = PATIENCE.as_secs();
            return Err(Status::unavailable(format!("{why}; no connection could be had again within {waited} s")));
        }
        if is_new {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        is_new = true;
        if let Err(reason) = session.reconnect().await {
            tracing::debug!("no connection yet: {reason}");
        }
    }
}
