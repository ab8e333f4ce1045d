//! When batches start.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{EngineError, Result};
use crate::plan::interval::parse_duration_us;

/// When the batches of a query start, in Spark's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Takes what there is at the start, in batches under the source's limits, and ends.
    AvailableNow,
    /// Takes what there is at the start in one batch, whatever the limits, and ends.
    Once,
    /// Starts a batch at each multiple of the interval, or at once when the one before took longer.
    ProcessingTime(Duration),
    /// Passes rows on as they come, and closes a batch so long after its first row.
    RealTime(Duration),
}

/// How long a batch of the real-time trigger is open unless it is told.
const REAL_TIME_BATCH: Duration = Duration::from_millis(20);
/// The shortest and the longest a batch may be open.
const REAL_TIME_RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(300);

impl Default for Trigger {
    fn default() -> Self {
        Self::ProcessingTime(Duration::ZERO)
    }
}

impl Trigger {
    /// Whether a query with this trigger ends by itself.
    pub fn ends(&self) -> bool {
        matches!(self, Self::AvailableNow | Self::Once)
    }

    /// The wait from `now_ms` to the next start, for a batch that started at `last_start_ms`.
    pub(crate) fn wait(&self, last_start_ms: i64, now_ms: i64) -> Duration {
        let Self::ProcessingTime(interval) = self else { return Duration::ZERO };
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        if interval == 0 {
            return Duration::ZERO;
        }
        let next = last_start_ms - last_start_ms.rem_euclid(interval) + interval;
        Duration::from_millis(u64::try_from(next - now_ms).unwrap_or(0))
    }
}

impl FromStr for Trigger {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "available-now" | "availablenow" => Ok(Self::AvailableNow),
            "once" => Ok(Self::Once),
            "real-time" | "realtime" => Ok(Self::RealTime(REAL_TIME_BATCH)),
            other => {
                let real_time = other.strip_prefix("real-time ").or_else(|| other.strip_prefix("realtime "));
                let interval = parse_duration_us(real_time.unwrap_or(other), "the trigger").map_err(|_| {
                    EngineError::config(format!(
                        "the trigger is '{text}', expected available-now, once, real-time or an interval"
                    ))
                    .help("write for example --trigger '5 seconds', or 'real-time 50 milliseconds'")
                })?;
                let interval = Duration::from_micros(u64::try_from(interval).unwrap_or(0));
                match real_time {
                    None => Ok(Self::ProcessingTime(interval)),
                    Some(_) if REAL_TIME_RANGE.contains(&interval) => Ok(Self::RealTime(interval)),
                    Some(_) => Err(EngineError::config(format!(
                        "the trigger is '{text}', but a real-time batch is open for 1 millisecond to 5 minutes"
                    ))
                    .help("write for example --trigger 'real-time 50 milliseconds'")),
                }
            }
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AvailableNow => f.write_str("available-now"),
            Self::Once => f.write_str("once"),
            Self::RealTime(open) => write!(f, "real-time, batches of {} ms", open.as_millis()),
            Self::ProcessingTime(interval) if interval.is_zero() => f.write_str("as soon as possible"),
            Self::ProcessingTime(interval) => write!(f, "every {} ms", interval.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Trigger>) {
        assert_eq!(text.parse::<Trigger>().ok(), expected, "{text}");
    }

    #[test]
    fn spellings() {
        check("available-now", Some(Trigger::AvailableNow));
        check("once", Some(Trigger::Once));
        check("5 seconds", Some(Trigger::ProcessingTime(Duration::from_secs(5))));
        check("real-time", Some(Trigger::RealTime(REAL_TIME_BATCH)));
        check("Real-Time 10 milliseconds", Some(Trigger::RealTime(Duration::from_millis(10))));
        check("real-time 1 hour", None);
        check("real-time now", None);
        check("sometimes", None);
    }

    #[test]
    fn batches_start_at_multiples_of_the_interval() {
        let trigger = Trigger::ProcessingTime(Duration::from_secs(5));
        assert_eq!(trigger.wait(12_000, 12_300), Duration::from_millis(2_700));
        assert_eq!(trigger.wait(12_000, 16_000), Duration::ZERO);
        assert_eq!(Trigger::default().wait(12_000, 12_000), Duration::ZERO);
    }
}
