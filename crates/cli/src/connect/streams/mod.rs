//! Streaming queries of a session.
//!
//! ```text
//!   writeStream ──> start ──> Pipeline ─> threads        queries' commands ──> commands ──> answers
//!                                  │ ProgressListener                              ▲
//!                                  └──────> watch ── Signal, status, progress ─────┤
//!                                              └──── events ─> Bus ─> listeners ───┘
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `start` | a query from its plan, target and trigger |
//! | `watch` | what is known of a query while it runs |
//! | `events` | progress and events as clients of Spark read them |
//! | `commands` | what clients ask of one query and of all |
//! | `listeners` | a client's listeners, told for as long as it wants |
//!
//! Who waits, waits for one [`Signal`], which also rings when the execution that waits is interrupted: nobody waits for what
//! no client wants any more.

mod commands;
mod events;
mod listeners;
mod start;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use highwater_engine::query::RunningPipeline;
use parking_lot::{Condvar, Mutex};

pub(crate) use commands::{queries_command, query_command};
pub(crate) use listeners::listener_command;
pub(crate) use start::start;

use self::listeners::Bus;
use self::watch::Watch;
use super::operations::Operation;
use super::problem::{Problem, Result};
use crate::spark_connect::messages::{QueryId, QueryInstance};

/// How many streaming queries a session may run, and how many that have ended are remembered.
const MAX_ACTIVE: usize = 64;
const MAX_ENDED: usize = 64;

/// The streaming queries of a session.
#[derive(Default)]
pub(crate) struct Streams {
    queries: Mutex<Vec<Arc<StreamingQuery>>>,
    shared: Arc<Shared>,
}

/// What the queries of a session have in common with those who wait for them.
#[derive(Default)]
struct Shared {
    signal: Signal,
    bus: Bus,
}

/// A streaming query.
struct StreamingQuery {
    id: QueryId,
    name: Option<String>,
    explain: String,
    /// Whether it waits between its batches also where there are rows.
    waits_for_trigger: bool,
    watch: Arc<Watch>,
    running: Mutex<Option<RunningPipeline>>,
    /// Whether its end counts no more for `awaitAnyTermination`.
    is_reset: AtomicBool,
}

impl StreamingQuery {
    fn is_active(&self) -> bool {
        !self.watch.has_ended()
    }

    fn instance(&self) -> QueryInstance {
        QueryInstance { id: Some(self.id.clone()), name: self.name.clone() }
    }

    /// Its error, if it has failed, as `StreamingQueryException`.
    fn failure(&self) -> Option<String> {
        self.watch.error().map(|error| events::exception(&self.id, &error))
    }

    /// Fails if it has.
    fn check(&self) -> Result<()> {
        self.failure().map_or(Ok(()), |text| Err(Problem::streaming(text)))
    }

    /// Lets it finish its batch, and waits for that.
    fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(running) = running {
            running.stop();
            // Its error, if it has one, was told to the watch.
            let _ = running.wait();
        }
    }
}

impl Streams {
    /// Whether any query runs.
    pub(crate) fn any_active(&self) -> bool {
        self.queries.lock().iter().any(|query| query.is_active())
    }

    /// Asks every query to stop.
    pub(crate) fn stop_all(&self) {
        for query in self.queries.lock().iter() {
            if let Some(running) = query.running.lock().as_ref() {
                running.stop();
            }
        }
    }

    /// Waits for those that were asked to stop.
    pub(crate) fn wait_all(&self) {
        let queries = self.queries.lock().clone();
        queries.iter().for_each(|query| query.stop());
    }

    /// Lets everybody who waits look again.
    pub(crate) fn wake(&self) {
        self.shared.signal.wake();
    }

    fn find(&self, id: &QueryId) -> Result<Arc<StreamingQuery>> {
        let queries = self.queries.lock();
        let found = queries.iter().rev().find(|query| query.id.id == id.id && query.id.run_id == id.run_id);
        found
            .cloned()
            .ok_or_else(|| Problem::argument(format!("there is no streaming query {} of run {}", id.id, id.run_id)))
    }

    /// Takes a query in that was started. Its session may have been ended meanwhile, without this query: then it is told to
    /// stop, since nobody could any more.
    fn take_in(&self, operation: &Operation, query: StreamingQuery) -> Result<()> {
        let query = Arc::new(query);
        self.add(Arc::clone(&query));
        // It may have ended before it was here, when nobody could see that.
        self.wake();
        if operation.is_ended() {
            if let Some(running) = query.running.lock().as_ref() {
                running.stop();
            }
            return Err(operation.cancelled());
        }
        Ok(())
    }

    fn add(&self, query: Arc<StreamingQuery>) {
        let mut queries = self.queries.lock();
        let ended = queries.iter().filter(|query| !query.is_active()).count();
        if ended > MAX_ENDED
            && let Some(oldest) = queries.iter().position(|query| !query.is_active())
        {
            queries.remove(oldest);
        }
        queries.push(query);
    }

    fn check_new(&self, name: &str) -> Result<()> {
        let queries = self.queries.lock();
        let active: Vec<_> = queries.iter().filter(|query| query.is_active()).collect();
        if active.len() >= MAX_ACTIVE {
            return Err(Problem::exhausted(format!("a session runs at most {MAX_ACTIVE} streaming queries\nstop one")));
        }
        if active.iter().any(|query| query.name.as_deref() == Some(name)) {
            return Err(Problem::argument(format!(
                "Cannot start query with name {name} as a query with that name is already active in this SparkSession"
            )));
        }
        Ok(())
    }

    /// Those whose end counts for `awaitAnyTermination`.
    fn counted(&self) -> Vec<Arc<StreamingQuery>> {
        let queries = self.queries.lock();
        queries.iter().filter(|query| !query.is_reset.load(Ordering::Relaxed)).cloned().collect()
    }
}

/// Wakes whoever waits for something of a session's streaming queries.
#[derive(Default)]
struct Signal {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    /// Something is other than it was.
    fn wake(&self) {
        // Whoever has looked and does not wait yet holds the lock.
        drop(self.lock.lock());
        self.changed.notify_all();
    }

    /// Waits until `is_so`: false when the time is over, an error when the execution that waits was interrupted.
    fn wait(&self, operation: &Operation, timeout: Option<Duration>, is_so: impl Fn() -> bool) -> Result<bool> {
        // A time that no clock reaches is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut lock = self.lock.lock();
        loop {
            if is_so() {
                return Ok(true);
            }
            if operation.is_ended() {
                return Err(operation.cancelled());
            }
            match deadline {
                Some(deadline) if self.changed.wait_until(&mut lock, deadline).timed_out() => return Ok(is_so()),
                Some(_) => {}
                None => self.changed.wait(&mut lock),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn query(streams: &Streams) -> StreamingQuery {
        let watch = Watch::new(None, Arc::clone(&streams.shared), None);
        StreamingQuery {
            id: watch.identity(),
            name: None,
            explain: String::new(),
            waits_for_trigger: false,
            watch: Arc::new(watch),
            running: Mutex::new(None),
            is_reset: AtomicBool::new(false),
        }
    }

    fn operation() -> Operation {
        Operation::new("o".to_owned(), Vec::new(), "s", "t")
    }

    #[test]
    fn whoever_waits_for_any_query_sees_one_that_ended_before_it_was_there() {
        let streams = Streams::default();
        let ended = query(&streams);
        highwater_engine::progress::ProgressListener::on_terminated(ended.watch.as_ref(), "q", None);
        let (looked, looks) = mpsc::channel();
        let any_ended = || {
            let _ = looked.send(());
            streams.counted().iter().any(|query| !query.is_active())
        };
        std::thread::scope(|scope| {
            let wait = || streams.shared.signal.wait(&operation(), Some(Duration::from_secs(20)), any_ended);
            let waiting = scope.spawn(wait);
            looks.recv().unwrap();
            let began = Instant::now();
            streams.take_in(&operation(), ended).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(true));
            assert!(began.elapsed() < Duration::from_secs(10), "it was not woken");
        });
    }

    #[test]
    fn a_query_of_a_session_that_has_ended_is_known_and_refused() {
        let streams = Streams::default();
        let operation = operation();
        operation.interrupt();
        let problem = streams.take_in(&operation, query(&streams)).unwrap_err();
        assert!(problem.message().contains("OPERATION_CANCELED"), "{problem:?}");
        assert_eq!(streams.queries.lock().len(), 1);
    }

    #[test]
    fn whoever_waits_hears_of_the_end_of_the_time_and_of_an_interrupt() {
        let signal = Arc::new(Signal::default());
        let operation = Arc::new(Operation::new("o".to_owned(), Vec::new(), "s", "t"));
        assert_eq!(signal.wait(&operation, Some(Duration::ZERO), || false), Ok(false));
        assert_eq!(signal.wait(&operation, None, || true), Ok(true));
        let waiting = std::thread::spawn({
            let (signal, operation) = (Arc::clone(&signal), Arc::clone(&operation));
            move || signal.wait(&operation, Some(Duration::MAX), || false)
        });
        operation.interrupt();
        signal.wake();
        let problem = waiting.join().unwrap().unwrap_err();
        assert!(problem.message().contains("OPERATION_CANCELED"), "{problem:?}");
    }
}
