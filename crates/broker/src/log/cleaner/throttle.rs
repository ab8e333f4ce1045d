//! Keeps compaction below a rate of bytes, so that it leaves the disk to those who wait for it.

use std::thread;
use std::time::{Duration, Instant};

/// Longest sleep at once: a broker that stops does not wait for longer.
const NAP: Duration = Duration::from_millis(50);

/// A rate of bytes read and written, counted from when it was made.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_second: Option<u64>,
    done_bytes: u64,
    started: Instant,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, done_bytes: 0, started: Instant::now() }
    }

    /// Counts bytes, and sleeps for as long as they came too early, or until `stopped`.
    pub(super) fn count(&mut self, bytes: u64, stopped: impl Fn() -> bool) {
        self.done_bytes = self.done_bytes.saturating_add(bytes);
        let due = self.due();
        while let Some(left) = due.checked_sub(self.started.elapsed()).filter(|left| !left.is_zero())
            && !stopped()
        {
            thread::sleep(left.min(NAP));
        }
    }

    /// How long everything up to now should have taken.
    fn due(&self) -> Duration {
        match self.bytes_per_second {
            Some(rate) => Duration::from_secs_f64((self.done_bytes as f64 / rate.max(1) as f64).min(1e9)),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_time_of_their_rate() {
        let due = |rate, bytes| Throttle { done_bytes: bytes, ..Throttle::new(rate) }.due();
        assert_eq!(due(None, u64::MAX), Duration::ZERO);
        assert_eq!(due(Some(1000), 2500), Duration::from_millis(2500));
        assert_eq!(due(Some(0), 2), Duration::from_secs(2));
    }

    #[test]
    fn who_stops_does_not_wait() {
        let mut throttle = Throttle::new(Some(1));
        throttle.count(1_000_000, || true);
        assert_eq!(throttle.due(), Duration::from_secs(1_000_000));
    }
}
