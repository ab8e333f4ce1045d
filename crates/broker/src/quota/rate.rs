//! A rate over a ring of windows, and how long to wait until it is within its bound again.
//!
//! ```text
//!   | w0 | w1 | w2 | ... | w9 | now |      11 windows of a second: what was counted in the last 10 to 11 seconds
//! ```
//!
//! The sum is divided by the time since the oldest window began, or by all but one of the windows if that is longer: a
//! burst after a silence counts as if it were spread over them, and is therefore allowed.

use std::collections::VecDeque;

/// How a rate is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) count: usize,
    pub(crate) size_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    started_ms: i64,
    sum: f64,
}

/// What was counted lately.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    windows: VecDeque<Window>,
}

impl Rate {
    /// Counts `amount`; answers for how long to wait, in milliseconds, until the rate is `bound` a second.
    pub(crate) fn count(&mut self, amount: f64, bound: f64, now_ms: i64, windows: Windows) -> i64 {
        self.forget(now_ms, windows);
        match self.windows.back_mut() {
            Some(last) if now_ms - last.started_ms < windows.size_ms => last.sum += amount,
            _ => {
                if self.windows.len() == windows.count {
                    self.windows.pop_front();
                }
                self.windows.push_back(Window { started_ms: now_ms, sum: amount });
            }
        }
        let elapsed_ms = self.elapsed_ms(now_ms, windows);
        let rate = self.total() / elapsed_ms * 1000.0;
        if rate <= bound {
            return 0;
        }
        // The sum would be within the bound had it taken so much longer.
        ((rate - bound) / bound * elapsed_ms).round().clamp(0.0, i32::MAX.into()) as i64
    }

    /// Takes back what was counted a moment ago.
    pub(crate) fn uncount(&mut self, amount: f64) {
        if let Some(last) = self.windows.back_mut() {
            last.sum = (last.sum - amount).max(0.0);
        }
    }

    /// Whether nothing is remembered at this time.
    pub(crate) fn is_idle(&self, now_ms: i64, windows: Windows) -> bool {
        self.windows.iter().all(|window| is_over(*window, now_ms, windows))
    }

    fn forget(&mut self, now_ms: i64, windows: Windows) {
        while self.windows.front().is_some_and(|window| is_over(*window, now_ms, windows)) {
            self.windows.pop_front();
        }
    }

    fn total(&self) -> f64 {
        self.windows.iter().map(|window| window.sum).sum()
    }

    /// Since the oldest window began; missing windows count as empty ones.
    fn elapsed_ms(&self, now_ms: i64, windows: Windows) -> f64 {
        let since_oldest = self.windows.front().map_or(0, |oldest| now_ms - oldest.started_ms);
        let full = since_oldest / windows.size_ms;
        let missing = (windows.count as i64 - 1 - full).max(0);
        (since_oldest + missing * windows.size_ms).max(1) as f64
    }
}

fn is_over(window: Window, now_ms: i64, windows: Windows) -> bool {
    now_ms.saturating_sub(window.started_ms) >= windows.count as i64 * windows.size_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 11, size_ms: 1000 };

    /// Counts each (time, amount) against 100 a second; the throttle times.
    fn check(counted: &[(i64, f64)], expected: &[i64]) {
        let mut rate = Rate::default();
        let found: Vec<i64> = counted.iter().map(|&(at, amount)| rate.count(amount, 100.0, at, WINDOWS)).collect();
        assert_eq!(found, expected, "{counted:?}");
    }

    #[test]
    fn a_burst_is_allowed_and_what_is_beyond_it_waits() {
        // 100 a second over 10 seconds: 1000 at once are within it.
        check(&[(0, 1000.0)], &[0]);
        check(&[(0, 1000.0), (0, 10.0)], &[0, 100]);
        check(&[(0, 2000.0)], &[10_000]);
        // It counts until its window is the oldest no longer, as in Kafka.
        check(&[(0, 2000.0), (10_000, 0.0)], &[10_000, 10_000]);
        check(&[(0, 2000.0), (11_000, 0.0)], &[10_000, 0]);
        // A steady rate a little below the bound never waits: the windows count one more than fit their time.
        let steady: Vec<_> = (0..100).map(|at| (at * 500, 47.0)).collect();
        check(&steady, &[0; 100]);
    }

    #[test]
    fn what_is_older_than_all_windows_is_forgotten() {
        check(&[(0, 5000.0), (11_000, 1000.0)], &[40_000, 0]);
        let mut rate = Rate::default();
        rate.count(1.0, 100.0, 0, WINDOWS);
        assert!(!rate.is_idle(10_999, WINDOWS));
        assert!(rate.is_idle(11_000, WINDOWS));
    }

    #[test]
    fn what_is_taken_back_does_not_count() {
        let mut rate = Rate::default();
        assert_eq!(rate.count(2000.0, 100.0, 0, WINDOWS), 10_000);
        rate.uncount(2000.0);
        assert_eq!(rate.count(1000.0, 100.0, 0, WINDOWS), 0);
    }

    #[test]
    fn the_longest_wait_can_be_told() {
        let mut rate = Rate::default();
        assert_eq!(rate.count(1e18, 1.0, 0, WINDOWS), i64::from(i32::MAX));
    }

    #[test]
    fn no_more_windows_are_kept_than_asked_for() {
        let mut rate = Rate::default();
        for at in 0..10_000 {
            rate.count(1.0, 100.0, at * 7, WINDOWS);
        }
        assert!(rate.windows.len() <= WINDOWS.count);
    }
}
