//! The methods of the service, each for its session.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use highwater_engine::query::SessionStatement;
use parking_lot::Mutex;

use super::config::Config;
use super::grpc::{Answers, decoded, one, unknown_method};
use super::operations::Operation;
use super::problem::{Problem, Result};
use super::server::Settings;
use super::session::Session;
use super::{analyze, execute};
use crate::spark_connect::messages::{
    AnalyzePlanRequest, AnyRequest, ConfigRequest, ConfigResponse, ExecutePlanRequest, InterruptRequest,
    InterruptResponse, ReattachExecuteRequest, ReleaseExecuteRequest, ReleaseExecuteResponse, ReleaseSessionResponse,
};

/// How many sessions there may be.
const MAX_SESSIONS: usize = 64;

/// How long an execution is kept that no client reads, as in Spark: one that comes back sooner takes it up again.
const LEFT: Duration = Duration::from_secs(300);

/// All sessions, by user and name.
pub(crate) struct Service {
    settings: Settings,
    statements: Vec<(String, String)>,
    sessions: Mutex<BTreeMap<(String, String), Arc<Session>>>,
}

impl Service {
    /// A service without sessions.
    pub(crate) fn new(settings: Settings) -> Self {
        let named = settings.statements.iter().filter_map(|text| match SessionStatement::parse(text) {
            Ok(SessionStatement::Definition(name)) => Some((name.to_lowercase(), text.clone())),
            _ => None,
        });
        let statements = named.collect();
        Self { settings, statements, sessions: Mutex::default() }
    }

    /// Answers a call.
    pub(crate) async fn call(&self, method: &str, message: BytesMut) -> Result<Answers> {
        let any: AnyRequest = decoded(message.clone())?;
        let user = any.user_context.unwrap_or_default().user_id;
        let key = (user, any.session_id);
        match method {
            "ReleaseSession" => {
                let session = self.sessions.lock().remove(&key);
                if let Some(session) = &session {
                    session.end();
                }
                let server_side_session_id = session.map(|session| session.server_side_id.clone()).unwrap_or_default();
                return Ok(one(&ReleaseSessionResponse { session_id: key.1, server_side_session_id }));
            }
            "AddArtifacts" | "ArtifactStatus" => {
                return Err(Problem::unsupported(
                    "addArtifacts (files, packages and Python functions sent to the server)",
                    "put files where the server can read them, and use the functions of pyspark.sql.functions",
                ));
            }
            "ExecutePlan" | "AnalyzePlan" | "Config" | "ReattachExecute" | "ReleaseExecute" | "Interrupt" => {}
            other => return Err(unknown_method(other)),
        }
        let session = self.session(key, matches!(method, "ReattachExecute" | "ReleaseExecute"))?;
        session.touch();
        match method {
            "ExecutePlan" => execute_plan(session, decoded(message)?),
            "AnalyzePlan" => {
                let request: AnalyzePlanRequest = decoded(message)?;
                Ok(one(&blocking(move || analyze::answer(&session, request)).await?))
            }
            "Config" => config(&session, &decoded(message)?),
            "ReattachExecute" => {
                let request: ReattachExecuteRequest = decoded(message)?;
                session.operation(&request.operation_id)?.answers(request.last_response_id.as_deref())
            }
            "ReleaseExecute" => Ok(release(&session, &decoded(message)?)),
            _ => Ok(interrupt(&session, &decoded(message)?)),
        }
    }

    fn session(&self, key: (String, String), must_exist: bool) -> Result<Arc<Session>> {
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions.get(&key) {
            return Ok(Arc::clone(session));
        }
        if must_exist {
            return Err(Problem::handle(
                "INVALID_HANDLE.SESSION_NOT_FOUND",
                format!("The handle {} is invalid. Session not found.", key.1),
            ));
        }
        if sessions.len() >= MAX_SESSIONS {
            return Err(Problem::exhausted(format!(
                "there are {MAX_SESSIONS} sessions, which is the most\nend one with spark.stop()"
            )));
        }
        let config = Config::new(self.settings.configuration.clone());
        let session = Arc::new(Session::new(&key.1, self.settings.storage.clone(), config, &self.statements));
        sessions.insert(key, Arc::clone(&session));
        Ok(session)
    }

    /// Ends what no client asks for any more: executions, and sessions in which nothing runs.
    pub(crate) fn tidy(&self, now: Instant) {
        if let Some(since) = now.checked_sub(LEFT) {
            let sessions: Vec<Arc<Session>> = self.sessions.lock().values().cloned().collect();
            sessions.iter().for_each(|session| session.end_left(since));
        }
        let Some(since) = now.checked_sub(self.settings.session_timeout) else { return };
        self.sessions.lock().retain(|_, session| {
            let is_idle = session.is_idle_since(since);
            if is_idle {
                session.end();
            }
            !is_idle
        });
    }

    /// Ends all sessions.
    pub(crate) fn end_sessions(&self) {
        for (_, session) in std::mem::take(&mut *self.sessions.lock()) {
            session.end();
            session.streams.wait_all();
        }
    }
}

/// Runs what waits for disks and queries where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(Problem::runtime("internal error: a call panicked; this is a bug in Highwater, please report it"))
    })
}

fn execute_plan(session: Arc<Session>, request: ExecutePlanRequest) -> Result<Answers> {
    let id = request.operation_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let operation = Arc::new(Operation::new(id, request.tags.clone(), &session.id, &session.server_side_id));
    session.add_operation(Arc::clone(&operation))?;
    let running = Arc::clone(&operation);
    tokio::spawn(async move {
        let pushing = Arc::clone(&running);
        let outcome = blocking(move || execute::run(&session, &pushing, request.plan)).await;
        running.end(outcome);
    });
    operation.answers(None)
}

fn config(session: &Session, request: &ConfigRequest) -> Result<Answers> {
    let kind = request.operation.as_ref().and_then(|operation| operation.kind.as_ref());
    let kind = kind.ok_or_else(|| Problem::argument("a configuration request says nothing"))?;
    let pairs = session.config.lock().answer(kind)?;
    Ok(one(&ConfigResponse {
        session_id: session.id.clone(),
        pairs,
        server_side_session_id: session.server_side_id.clone(),
    }))
}

fn release(session: &Session, request: &ReleaseExecuteRequest) -> Answers {
    match &request.release_until {
        Some(until) => {
            if let Ok(operation) = session.operation(&request.operation_id) {
                operation.release_until(&until.response_id);
            }
        }
        None => session.release_operation(&request.operation_id),
    }
    one(&ReleaseExecuteResponse {
        session_id: session.id.clone(),
        operation_id: Some(request.operation_id.clone()),
        server_side_session_id: session.server_side_id.clone(),
    })
}

fn interrupt(session: &Session, request: &InterruptRequest) -> Answers {
    let interrupted_ids = session.interrupt(|operation| match (&request.operation_tag, &request.operation_id) {
        (Some(tag), _) => operation.tags.contains(tag),
        (None, Some(id)) => operation.id == *id,
        (None, None) => true,
    });
    one(&InterruptResponse {
        session_id: session.id.clone(),
        interrupted_ids,
        server_side_session_id: session.server_side_id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(3600);

    fn service() -> Service {
        Service::new(Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            storage: "no-such-folder".into(),
            statements: Vec::new(),
            configuration: BTreeMap::new(),
            session_timeout: IDLE,
        })
    }

    fn session(service: &Service, number: usize) -> Result<Arc<Session>> {
        service.session(("user".to_owned(), number.to_string()), false)
    }

    #[test]
    fn there_are_so_many_sessions_and_idle_ones_end() {
        let service = service();
        (0..MAX_SESSIONS).for_each(|number| drop(session(&service, number).unwrap()));
        let problem = session(&service, MAX_SESSIONS).err().unwrap();
        assert!(problem.message().contains("64 sessions"), "{}", problem.message());
        assert!(session(&service, 0).is_ok(), "one that is there is not a new one");
        let busy = session(&service, 1).unwrap();
        let running = Arc::new(Operation::new("o".to_owned(), Vec::new(), &busy.id, "t"));
        busy.add_operation(Arc::clone(&running)).unwrap();
        let _reader = running.answers(None).unwrap();
        service.tidy(Instant::now() + IDLE + Duration::from_secs(1));
        let left: Vec<String> = service.sessions.lock().keys().map(|(_, name)| name.clone()).collect();
        assert_eq!(left, ["1"], "somebody waits for an execution of it");
    }

    #[test]
    fn executions_of_a_client_that_is_gone_end() {
        let service = service();
        let session = session(&service, 0).unwrap();
        let operation = Arc::new(Operation::new("o".to_owned(), Vec::new(), &session.id, "t"));
        session.add_operation(Arc::clone(&operation)).unwrap();
        service.tidy(Instant::now());
        assert!(session.operation("o").is_ok() && !operation.is_ended(), "a client may come back");
        service.tidy(Instant::now() + LEFT + Duration::from_secs(1));
        assert!(session.operation("o").is_err() && operation.is_ended());
    }
}
