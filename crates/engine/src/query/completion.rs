//! What flows of a pipeline know of each other: whether those that fill a table go on, and whether they did something.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::progress::{ProgressListener, StreamingQueryProgress};

/// How far a flow is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Advance {
    /// Batches it has committed in this run.
    pub(super) commits: u64,
    /// Whether it ended well; none while it runs.
    pub(super) outcome: Option<bool>,
}

/// A running flow, as others see it.
#[derive(Default)]
pub(super) struct Completion {
    advance: Mutex<Advance>,
    changed: Condvar,
}

impl Completion {
    pub(super) fn set(&self, is_ok: bool) {
        self.advance.lock().outcome = Some(is_ok);
        self.changed.notify_all();
    }

    pub(super) fn note_commit(&self) {
        self.advance.lock().commits += 1;
    }

    pub(super) fn advance(&self) -> Advance {
        *self.advance.lock()
    }

    /// Waits for the end; tells whether it was a good one.
    pub(super) fn wait(&self) -> bool {
        let mut advance = self.advance.lock();
        loop {
            if let Some(is_ok) = advance.outcome {
                return is_ok;
            }
            self.changed.wait(&mut advance);
        }
    }
}

/// Notes the batches of a flow.
pub(super) struct NotesCommits(pub(super) Arc<Completion>);

impl ProgressListener for NotesCommits {
    fn on_commit(&self) {
        self.0.note_commit();
    }

    fn on_progress(&self, _: &StreamingQueryProgress) {}
}

/// A flow as those see it that read what it writes.
pub(super) struct Writer {
    /// What it writes to, in lower case.
    pub(super) target: Option<String>,
    /// Whether it ends by itself: a flow that ends too waits for it.
    pub(super) ends: bool,
    pub(super) completion: Arc<Completion>,
}

impl Writer {
    /// Those that fill one of the tables `reads`, but for the reader itself.
    pub(super) fn of<'a>(
        writers: &'a [Self],
        reads: &'a [String],
        own: &'a Arc<Completion>,
    ) -> impl Iterator<Item = &'a Self> {
        let others = writers.iter().filter(|writer| !Arc::ptr_eq(&writer.completion, own));
        others.filter(|writer| writer.target.as_ref().is_some_and(|target| reads.contains(target)))
    }
}
