//! Long polls that wait for a partition to grow.
//!
//! A fetch registers one [`Notify`] with every partition it asks for, and is woken by the first
//! that moves. Registering is good for one wake-up, so a partition nobody waits for costs an
//! append nothing but a look at an empty list.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Those who wait for one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    notifies: Vec<Weak<Notify>>,
    /// When the list has grown to this, those who gave up are dropped from it.
    sweep_at: usize,
}

const SMALLEST_SWEEP: usize = 32;

impl Waiters {
    /// Has `waiter` notified by the next [`Waiters::wake`], even if that comes before it waits.
    pub(crate) fn register(&self, waiter: &Arc<Notify>) {
        let mut list = self.waiting.lock();
        if list.notifies.len() >= list.sweep_at {
            list.notifies.retain(|waiter| waiter.strong_count() > 0);
            list.sweep_at = (list.notifies.len() * 2).max(SMALLEST_SWEEP);
        }
        list.notifies.push(Arc::downgrade(waiter));
    }

    /// Wakes everybody who waits.
    pub(crate) fn wake(&self) {
        let woken = std::mem::take(&mut self.waiting.lock().notifies);
        woken.iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_that_gave_up_do_not_pile_up() {
        let waiters = Waiters::default();
        let staying = Arc::new(Notify::new());
        waiters.register(&staying);
        for _ in 0..10_000 {
            waiters.register(&Arc::new(Notify::new()));
        }
        assert!(waiters.waiting.lock().notifies.len() <= 2 * SMALLEST_SWEEP);
    }

    #[tokio::test]
    async fn a_wake_before_the_wait_is_not_lost() {
        let waiters = Waiters::default();
        let waiter = Arc::new(Notify::new());
        waiters.register(&waiter);
        waiters.wake();
        waiter.notified().await;
    }
}
