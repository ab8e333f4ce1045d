//! What is known of a streaming query while it runs: told by its thread, read by everybody.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_engine::progress::{ProgressListener, StreamingQueryProgress};
use highwater_engine::query::forget_query;
use parking_lot::Mutex;

use super::Shared;
use super::events;
use crate::spark_connect::messages::QueryId;

/// How much progress of a query is kept: Spark's `spark.sql.streaming.numRecentProgressUpdates`.
const RECENT: usize = 100;

/// How often a query without rows says so: Spark's `spark.sql.streaming.noDataProgressEventInterval`.
const IDLE_EVENT: Duration = Duration::from_secs(10);

/// What a query leaves in the storage folder that will not be started again.
#[derive(Clone)]
pub(super) struct Temporary {
    pub(super) storage: PathBuf,
    /// Its name there.
    pub(super) query: String,
    pub(super) checkpoint: PathBuf,
}

impl Temporary {
    fn remove(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.checkpoint) {
            tracing::debug!("{} is left behind: {error}", self.checkpoint.display());
        }
        if let Err(error) = forget_query(&self.storage, &self.query) {
            tracing::debug!("the status of query '{}' is left behind: {error}", self.query);
        }
    }
}

/// A query as it is seen.
pub(super) struct Watch {
    name: Option<String>,
    shared: Arc<Shared>,
    /// What goes with the query when it has ended well.
    temporary: Option<Temporary>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    id: Option<QueryId>,
    recent: VecDeque<StreamingQueryProgress>,
    /// How often it has looked for rows.
    triggers: u64,
    /// The last of these that found none.
    idle: u64,
    is_triggered: bool,
    had_rows: bool,
    told: Option<Instant>,
    ended: Option<Option<String>>,
}

/// What a query does just now.
pub(super) struct Doing {
    pub(super) has_begun: bool,
    pub(super) is_triggered: bool,
    pub(super) had_rows: bool,
}

impl Watch {
    /// A query that is about to be started.
    pub(super) fn new(name: Option<String>, shared: Arc<Shared>, temporary: Option<Temporary>) -> Self {
        Self { name, shared, temporary, seen: Mutex::default() }
    }

    /// Whether its identity is known, or it has ended before that.
    pub(super) fn is_settled(&self) -> bool {
        let seen = self.seen.lock();
        seen.id.is_some() || seen.ended.is_some()
    }

    /// Who it is; one that has ended before it knew has a name of its own.
    pub(super) fn identity(&self) -> QueryId {
        let made = || QueryId { id: uuid::Uuid::new_v4().to_string(), run_id: uuid::Uuid::new_v4().to_string() };
        self.seen.lock().id.get_or_insert_with(made).clone()
    }

    /// Whether it runs no more.
    pub(super) fn has_ended(&self) -> bool {
        self.seen.lock().ended.is_some()
    }

    /// What it ended with, if it failed.
    pub(super) fn error(&self) -> Option<String> {
        self.seen.lock().ended.clone().flatten()
    }

    /// What it does.
    pub(super) fn doing(&self) -> Doing {
        let seen = self.seen.lock();
        Doing { has_begun: seen.triggers > 0, is_triggered: seen.is_triggered, had_rows: seen.had_rows }
    }

    /// Its newest progress, the newest last.
    pub(super) fn recent(&self, count: usize) -> Vec<StreamingQueryProgress> {
        let seen = self.seen.lock();
        seen.recent.iter().skip(seen.recent.len().saturating_sub(count)).cloned().collect()
    }

    /// How often it has looked for rows so far.
    pub(super) fn triggers(&self) -> u64 {
        self.seen.lock().triggers
    }

    /// Whether it has found no more rows in a look that began after so many others.
    pub(super) fn is_idle_after(&self, triggers: u64) -> bool {
        self.seen.lock().idle > triggers
    }
}

impl ProgressListener for Watch {
    fn on_started(&self, id: &str, run_id: &str) {
        self.seen.lock().id = Some(QueryId { id: id.to_owned(), run_id: run_id.to_owned() });
        self.shared.signal.wake();
    }

    fn on_trigger(&self) {
        let mut seen = self.seen.lock();
        seen.triggers += 1;
        seen.is_triggered = true;
    }

    fn on_idle(&self) {
        let mut seen = self.seen.lock();
        seen.idle = seen.triggers;
        (seen.is_triggered, seen.had_rows) = (false, false);
        let now = Instant::now();
        let is_due = now.duration_since(*seen.told.get_or_insert(now)) >= IDLE_EVENT;
        let event = seen.id.as_ref().filter(|_| is_due).map(events::idle);
        if event.is_some() {
            seen.told = Some(now);
        }
        drop(seen);
        event.into_iter().for_each(|event| self.shared.bus.tell(event));
        self.shared.signal.wake();
    }

    fn on_progress(&self, progress: &StreamingQueryProgress) {
        let mut seen = self.seen.lock();
        if seen.recent.len() == RECENT {
            seen.recent.pop_front();
        }
        seen.recent.push_back(progress.clone());
        (seen.is_triggered, seen.had_rows) = (false, progress.num_input_rows > 0);
        seen.told = Some(Instant::now());
        let id = seen.id.clone().unwrap_or_default();
        drop(seen);
        if self.shared.bus.is_heard() {
            self.shared.bus.tell(events::progressed(&id, self.name.as_deref(), progress));
        }
        self.shared.signal.wake();
    }

    fn on_terminated(&self, _name: &str, error: Option<&str>) {
        if let (None, Some(temporary)) = (error, &self.temporary) {
            temporary.remove();
        }
        let id = self.identity();
        self.shared.bus.tell(events::terminated(&id, error));
        self.seen.lock().ended = Some(error.map(str::to_owned));
        self.shared.signal.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_processed_when_a_look_that_began_later_finds_nothing() {
        let watch = Watch::new(None, Arc::default(), None);
        watch.on_trigger();
        let asked = watch.triggers();
        watch.on_idle();
        assert!(!watch.is_idle_after(asked), "it looked before it was asked");
        watch.on_trigger();
        watch.on_progress(&StreamingQueryProgress { num_input_rows: 1, ..StreamingQueryProgress::default() });
        assert!(!watch.is_idle_after(asked) && watch.doing().had_rows);
        watch.on_trigger();
        watch.on_idle();
        assert!(watch.is_idle_after(asked) && !watch.doing().had_rows);
    }

    #[test]
    fn a_checkpoint_that_nobody_needs_goes_with_a_query_that_ended_well() {
        let folder = tempfile::tempdir().unwrap();
        let check = |error: Option<&str>, is_kept: bool| {
            let checkpoint = folder.path().join("checkpoint");
            std::fs::create_dir_all(&checkpoint).unwrap();
            let storage = folder.path().to_owned();
            let temporary = Temporary { storage, query: "q".to_owned(), checkpoint: checkpoint.clone() };
            let watch = Watch::new(None, Arc::default(), Some(temporary));
            watch.on_terminated("q", error);
            assert!(watch.has_ended());
            assert_eq!(checkpoint.exists(), is_kept);
        };
        check(None, false);
        check(Some("no"), true);
    }
}
