//! Sending at a steady rate.
//!
//! The n-th record is due n/rate after the first, so a sender that was held up catches up instead of falling behind
//! for ever; records go out in groups, since a timer cannot tick a million times a second.

use std::time::{Duration, Instant};

use crate::quantity::Throughput;
use crate::signals::Interrupt;

/// The longest a record waits for others to go out with.
const TICK: Duration = Duration::from_millis(10);

/// Keeps to a rate, or to none.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<f64>,
    in_bytes: bool,
    began: Instant,
    sent: u64,
    next_look: u64,
}

impl Pace {
    /// `rate` records a second; `None` is as fast as it goes.
    pub(crate) fn new(rate: Option<f64>) -> Self {
        Self { rate, in_bytes: false, began: Instant::now(), sent: 0, next_look: 0 }
    }

    /// Records or bytes a second; `None` is as fast as it goes.
    pub(crate) fn of(rate: Option<Throughput>) -> Self {
        match rate {
            None => Self::new(None),
            Some(Throughput::Records(rate)) => Self::new(Some(rate)),
            Some(Throughput::Bytes(rate)) => Self { in_bytes: true, ..Self::new(Some(rate)) },
        }
    }

    /// Counts one record and waits until the next is due; `false` if the user interrupted.
    pub(crate) fn wait(&mut self, interrupt: &Interrupt) -> bool {
        self.advance(1, interrupt)
    }

    /// Counts one record of `size_bytes` and waits until the next is due; `false` if the user interrupted.
    pub(crate) fn spend(&mut self, size_bytes: usize, interrupt: &Interrupt) -> bool {
        self.advance(if self.in_bytes { size_bytes as u64 } else { 1 }, interrupt)
    }

    fn advance(&mut self, by: u64, interrupt: &Interrupt) -> bool {
        self.sent += by;
        let Some(rate) = self.rate else {
            return !self.sent.is_multiple_of(1024) || !interrupt.requested();
        };
        if self.sent < self.next_look {
            return true;
        }
        let due = self.began + Duration::from_secs_f64(self.sent as f64 / rate);
        // A lossless cast: at most a few million records fall into one tick.
        self.next_look = self.sent + (rate * TICK.as_secs_f64()) as u64;
        interrupt.sleep_until(due)
    }
}

/// Reads a rate from the command line.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(format!("'{text}' is not a number above 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_their_share_of_a_second() {
        let interrupt = Interrupt::default();
        let mut pace = Pace::new(Some(1000.0));
        let began = Instant::now();
        for _ in 0..50 {
            assert!(pace.wait(&interrupt));
        }
        assert!(began.elapsed() >= Duration::from_millis(35), "{:?}", began.elapsed());
    }

    #[test]
    fn bytes_are_paced_by_their_number() {
        let interrupt = Interrupt::default();
        let mut pace = Pace::of(Some(Throughput::Bytes(1e6)));
        let began = Instant::now();
        for _ in 0..5 {
            assert!(pace.spend(10_000, &interrupt));
        }
        assert!(began.elapsed() >= Duration::from_millis(35), "{:?}", began.elapsed());
    }

    #[test]
    fn an_interrupt_ends_the_wait() {
        let interrupt = Interrupt::default();
        interrupt.request();
        assert!(!Pace::new(Some(0.001)).wait(&interrupt));
    }

    #[test]
    fn rates_are_above_zero() {
        assert_eq!(positive("2.5"), Ok(2.5));
        assert!(
            positive("0").is_err() && positive("-1").is_err() && positive("inf").is_err() && positive("x").is_err()
        );
    }
}
