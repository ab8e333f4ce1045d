//! When events happen, and how much later they arrive.
//!
//! ```text
//!   arrival  ──1/rate──> 1/rate──>  ...            steady, from --start on
//!   event    = arrival - delay                     delay: mostly within the disorder, for a share much more (late)
//! ```
//!
//! Event time is computed, not read from a clock: the same seed, start and rate give the same events.

use super::random::Random;

/// How events are spread in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// When the first event arrives, in milliseconds since 1970.
    pub(crate) start_ms: i64,
    /// Arrivals a second of event time.
    pub(crate) rate: f64,
    /// Most events are at most this much out of order.
    pub(crate) disorder_ms: u64,
    /// The share of events that are late.
    pub(crate) late_share: f64,
    /// A late event is delayed by this much up to four times as much.
    pub(crate) late_ms: u64,
}

/// Event times, one after the other.
#[derive(Debug)]
pub(crate) struct EventClock {
    timing: Timing,
    random: Random,
    events: u64,
}

impl EventClock {
    /// A clock at the start.
    pub(crate) fn new(timing: Timing, seed: u64) -> Self {
        Self { timing, random: Random::new(seed ^ 0x7e57_c10c), events: 0 }
    }

    /// The event time of the next event, in milliseconds since 1970.
    pub(crate) fn next_ms(&mut self) -> i64 {
        let timing = &self.timing;
        let arrival_ms = timing.start_ms + (self.events as f64 * 1000.0 / timing.rate) as i64;
        self.events += 1;
        let delay_ms = if timing.late_share > 0.0 && self.random.chance(timing.late_share) {
            timing.late_ms + self.random.below(3 * timing.late_ms + 1)
        } else {
            // The square of a uniform number: most events come almost at once, a few at the bound.
            let share = self.random.unit();
            (share * share * timing.disorder_ms as f64) as u64
        };
        arrival_ms - delay_ms as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_keep_to_the_disorder_and_the_late_share() {
        let timing = Timing { start_ms: 1_000_000, rate: 1000.0, disorder_ms: 500, late_share: 0.1, late_ms: 5000 };
        let mut clock = EventClock::new(timing, 1);
        let delays: Vec<i64> = (0..10_000).map(|event| 1_000_000 + event - clock.next_ms()).collect();
        let late = delays.iter().filter(|delay| **delay >= 5000).count();
        assert!((900..1100).contains(&late), "{late}");
        assert!(delays.iter().all(|delay| (0..=500).contains(delay) || (5000..=20_000).contains(delay)));
    }

    #[test]
    fn without_disorder_events_come_in_order() {
        let timing = Timing { start_ms: 0, rate: 10.0, disorder_ms: 0, late_share: 0.0, late_ms: 0 };
        let mut clock = EventClock::new(timing, 9);
        assert_eq!([clock.next_ms(), clock.next_ms(), clock.next_ms()], [0, 100, 200]);
    }
}
