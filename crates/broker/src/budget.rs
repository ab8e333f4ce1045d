//! Memory budgets of the whole broker: what all connections together may hold.
//!
//! ```text
//!  request bytes    charged as they arrive       until the request is answered
//!  fetched records  charged before they are read until the answer is with the system's sockets
//! ```
//!
//! Both bound what clients can make the broker hold, however many there are and however slow they read. A request that
//! finds no room waits and is not read on; a fetch that finds none is answered without records, and its client asks
//! again.
//!
//! Requests take their room bit by bit, so that a size that is only claimed costs nothing. Two half requests that wait
//! for each other would wait for ever, so one charge at a time may go over the limit: it is used up to the limit and one
//! request more, and the one that goes over ends (whole and answered, or too slow and closed).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// A limit that charges share.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    peak: usize,
    /// A charge is over the limit.
    overdrawn: bool,
}

/// What one request or answer holds of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    size: usize,
    overdrawn: bool,
}

/// Bytes in use, now and at most so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Bytes held now.
    pub now: usize,
    /// The most bytes ever held at once.
    pub peak: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default(), freed: Notify::new() })
    }

    /// A charge of nothing yet.
    pub(crate) fn charge(self: &Arc<Self>) -> Charge {
        Charge { budget: Arc::clone(self), size: 0, overdrawn: false }
    }

    /// A charge of up to `wanted` bytes: not more than a quarter of what is free, so that no few take all of it, but
    /// at least `least`, if that is free. Nothing if that does not come free in time.
    pub(crate) async fn share(self: &Arc<Self>, wanted: usize, least: usize, patience: Duration) -> Charge {
        let mut charge = self.charge();
        let deadline = Instant::now() + patience;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Registered before the look, so that nothing that is freed after it is missed.
            freed.as_mut().enable();
            charge.size = self.try_share(wanted, least);
            if charge.size > 0 || wanted == 0 || timeout_at(deadline, freed).await.is_err() {
                return charge;
            }
        }
    }

    fn try_share(&self, wanted: usize, least: usize) -> usize {
        let mut state = self.state.lock();
        let free = self.limit.saturating_sub(state.used);
        let share = wanted.min((free / 4).max(least));
        // A limit below the least serves one at a time.
        if share > free && state.used > 0 {
            return 0;
        }
        state.take(share);
        share
    }

    pub(crate) fn used(&self) -> Used {
        let state = self.state.lock();
        Used { now: state.used, peak: state.peak }
    }
}

impl State {
    fn take(&mut self, bytes: usize) {
        self.used += bytes;
        self.peak = self.peak.max(self.used);
    }
}

impl Charge {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Takes `bytes` more, as soon as there is room.
    pub(crate) async fn grow(&mut self, bytes: usize) {
        loop {
            let budget = Arc::clone(&self.budget);
            let freed = budget.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.try_grow(bytes) {
                return;
            }
            freed.await;
        }
    }

    fn try_grow(&mut self, bytes: usize) -> bool {
        let mut state = self.budget.state.lock();
        let fits = state.used.saturating_add(bytes) <= self.budget.limit;
        if !fits && !self.overdrawn {
            if state.overdrawn {
                return false;
            }
            state.overdrawn = true;
            self.overdrawn = true;
        }
        state.take(bytes);
        self.size += bytes;
        true
    }

    /// Makes the charge what was really needed, which may be more than there is room for.
    pub(crate) fn settle(&mut self, bytes: usize) {
        let mut state = self.budget.state.lock();
        state.used -= self.size;
        state.take(bytes);
        self.size = bytes;
        drop(state);
        self.budget.freed.notify_waiters();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.size == 0 && !self.overdrawn {
            return;
        }
        let mut state = self.budget.state.lock();
        state.used -= self.size;
        if self.overdrawn {
            state.overdrawn = false;
        }
        drop(state);
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    const NO_PATIENCE: Duration = Duration::ZERO;

    /// Whether a future is done when it is asked once.
    async fn is_ready(future: impl Future<Output = ()>) -> bool {
        tokio::pin!(future);
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn one_charge_at_a_time_goes_over_the_limit() {
        let budget = Budget::new(100);
        let (mut first, mut second, mut third) = (budget.charge(), budget.charge(), budget.charge());
        first.grow(60).await;
        second.grow(40).await;
        assert!(is_ready(first.grow(30)).await, "the first to go over");
        assert!(!is_ready(second.grow(1)).await);
        assert!(!is_ready(third.grow(1)).await);
        assert!(is_ready(first.grow(1000)).await, "it goes on to its end");
        assert_eq!(budget.used(), Used { now: 1130, peak: 1130 });
        drop(first);
        assert!(is_ready(third.grow(60)).await);
        assert!(is_ready(second.grow(10)).await, "now the second goes over");
        drop((second, third));
        assert_eq!(budget.used().now, 0);
    }

    #[tokio::test]
    async fn room_that_is_freed_wakes_those_who_wait() {
        let budget = Budget::new(10);
        let (mut full, mut over) = (budget.charge(), budget.charge());
        full.grow(10).await;
        over.grow(1).await;
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.charge().grow(5).await }
        });
        tokio::task::yield_now().await;
        drop((full, over));
        waiting.await.expect("woken");
        assert_eq!(budget.used().now, 0);
    }

    #[tokio::test]
    async fn shares_shrink_with_what_is_free() {
        let budget = Budget::new(1000);
        let mut held = Vec::new();
        for expected in [250, 187, 140, 105, 100, 100, 100] {
            let share = budget.share(10_000, 100, NO_PATIENCE).await;
            assert_eq!(share.size(), expected);
            held.push(share);
        }
        assert_eq!(budget.share(10_000, 100, NO_PATIENCE).await.size(), 0, "18 are left, fewer than the least");
        assert_eq!(budget.share(18, 100, NO_PATIENCE).await.size(), 18, "enough for who wants little");
        assert_eq!(budget.share(0, 100, NO_PATIENCE).await.size(), 0);
        held.clear();
        assert_eq!(budget.used(), Used { now: 0, peak: 1000 });
    }

    #[tokio::test]
    async fn a_charge_is_settled_for_what_was_read() {
        let budget = Budget::new(1000);
        let mut share = budget.share(200, 100, NO_PATIENCE).await;
        share.settle(30);
        assert_eq!(budget.used().now, 30);
        share.settle(2000);
        assert_eq!(budget.share(200, 100, NO_PATIENCE).await.size(), 0);
        drop(share);
        assert_eq!(budget.used().now, 0);
    }

    #[tokio::test]
    async fn a_budget_below_the_least_serves_one_at_a_time() {
        let budget = Budget::new(10);
        let one = budget.share(500, 100, NO_PATIENCE).await;
        assert_eq!(one.size(), 100);
        assert_eq!(budget.share(500, 100, NO_PATIENCE).await.size(), 0);
        drop(one);
        assert_eq!(budget.share(500, 100, NO_PATIENCE).await.size(), 100);
    }
}
