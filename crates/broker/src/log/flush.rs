//! Group fsync: partitions that were written queue up, and each fsync covers all that was written
//! before it.
//!
//! ```text
//!   produce ─ append ─┐                          ┌─> fsync ─> flushed offset ─> acks
//!   produce ─ append ─┼─> queue (a partition ────┤
//!   produce ─ append ─┘    stands in it once)    └─> fsync of another partition
//! ```
//!
//! While one fsync of a partition runs, everything appended to it meanwhile waits for the next
//! one: the slower the disk, the larger the groups. Threads of their own do the waiting, because
//! an fsync may block for as long as the disk likes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::partition::Partition;
use crate::settings::FsyncMode;

/// Threads when every ack waits for an fsync; with fewer acks waiting one is enough.
const THREADS_WHEN_ACKS_WAIT: usize = 4;

/// The partitions that wait for an fsync.
#[derive(Debug)]
pub(crate) struct FlushQueue {
    mode: FsyncMode,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Weak<Partition>>,
    stopping: bool,
}

/// The threads that work the queue; stopped and joined by [`Flusher::stop`].
#[derive(Debug)]
pub(crate) struct Flusher {
    queue: Arc<FlushQueue>,
    threads: Vec<JoinHandle<()>>,
}

impl FlushQueue {
    pub(crate) fn new(mode: FsyncMode) -> Arc<Self> {
        Arc::new(Self { mode, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Whether an ack, and a record's visibility, waits for the fsync.
    pub(crate) fn acks_wait(&self) -> bool {
        self.mode == FsyncMode::Always
    }

    /// Whether a partition that was written has to be queued at all.
    pub(crate) fn wants_every_write(&self) -> bool {
        self.mode != FsyncMode::Os
    }

    /// Queues a partition; it asks only once until its fsync begins.
    pub(crate) fn push(&self, partition: &Arc<Partition>) {
        self.state.lock().waiting.push_back(Arc::downgrade(partition));
        if !matches!(self.mode, FsyncMode::Interval { .. }) {
            self.changed.notify_one();
        }
    }

    /// The next partitions to fsync; `None` when the broker stops.
    fn next(&self) -> Option<VecDeque<Weak<Partition>>> {
        let mut state = self.state.lock();
        if let FsyncMode::Interval { interval_ms } = self.mode {
            if !state.stopping {
                self.changed.wait_for(&mut state, Duration::from_millis(interval_ms));
            }
            return (!state.stopping).then(|| std::mem::take(&mut state.waiting));
        }
        loop {
            if state.stopping {
                return None;
            }
            if let Some(partition) = state.waiting.pop_front() {
                return Some(VecDeque::from([partition]));
            }
            self.changed.wait(&mut state);
        }
    }

    fn work(&self) {
        while let Some(partitions) = self.next() {
            for partition in partitions.iter().filter_map(Weak::upgrade) {
                partition.flush();
            }
        }
    }
}

impl Flusher {
    pub(crate) fn start(queue: &Arc<FlushQueue>) -> io::Result<Self> {
        let count = if queue.acks_wait() { THREADS_WHEN_ACKS_WAIT } else { 1 };
        let mut flusher = Self { queue: Arc::clone(queue), threads: Vec::with_capacity(count) };
        for _ in 0..count {
            let queue = Arc::clone(queue);
            flusher.threads.push(thread::Builder::new().name("broker-fsync".into()).spawn(move || queue.work())?);
        }
        Ok(flusher)
    }

    fn stop(&mut self) {
        self.queue.state.lock().stopping = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an fsync thread panicked");
            }
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::ProducedBatch;
    use super::super::batch::testing::{Spec, batch};
    use super::super::config::LogConfig;
    use super::super::partition_log::PartitionLog;
    use super::super::recovery::Recovery;
    use super::*;
    use crate::settings::CorruptLogPolicy;

    /// A partition nobody flushes unless its topic says so.
    fn open(dir: &std::path::Path, config: LogConfig) -> Arc<Partition> {
        let recovery = Recovery {
            dir,
            topic: "t",
            partition: 0,
            policy: CorruptLogPolicy::Refuse,
            compacts: false,
            index_interval_bytes: config.index_interval_bytes,
            now_ms: 0,
        };
        let log = PartitionLog::open(recovery, config, 10).expect("opened");
        Partition::new("t".into(), 0, log, FlushQueue::new(FsyncMode::Os))
    }

    fn append(partition: &Arc<Partition>, records: i32, now_ms: i64) {
        let bytes = batch(Spec { records, ..Spec::default() });
        partition.append(&ProducedBatch::check(&bytes).expect("valid"), now_ms, || Ok(())).expect("appended");
    }

    #[test]
    fn flush_messages_counts_records_since_the_last_flush() {
        let dir = tempfile::tempdir().expect("tempdir");
        let partition = open(dir.path(), LogConfig { flush_messages: 3, ..LogConfig::default() });
        for (records, flushed) in [(2, 0), (1, 3), (2, 3), (5, 10)] {
            append(&partition, records, 0);
            assert_eq!(partition.flushed_offset(), flushed);
        }
    }

    #[test]
    fn flush_ms_counts_from_the_oldest_record_that_waits() {
        let dir = tempfile::tempdir().expect("tempdir");
        let partition = open(dir.path(), LogConfig { flush_ms: 100, ..LogConfig::default() });
        append(&partition, 1, 50);
        append(&partition, 1, 140);
        for (now_ms, flushed) in [(149, 0), (150, 2), (1000, 2)] {
            partition.flush_overdue(now_ms);
            assert_eq!(partition.flushed_offset(), flushed);
        }
        append(&partition, 1, 1000);
        partition.flush_overdue(1099);
        assert_eq!(partition.flushed_offset(), 2);
    }
}
