//! Whether a query that failed is started again, and when: a pure function of its error and of how often it failed.
//!
//! ```text
//!   failed ── may the error pass? ── failures in a row <= attempts? ──> rests, then starts again from its checkpoint
//!                    │ no                        │ no                    delay, twice that, ... up to max_delay
//!                    └──────────────> failed for good <──────┘
//! ```
//!
//! What may pass is something outside that does not answer or has no room. A wrong query, setting or row, damage and bugs
//! do not mend themselves: waiting would only hide them. A batch that is committed begins the count anew. A start after a
//! failure is like that of a new process: it recovers, fences and replays as after a crash.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{EngineError, Result};
use crate::progress::Restart;

/// How a query is started again after an error that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// How often in a row, without a batch in between.
    pub attempts: RetryAttempts,
    /// The rest before the first of them; each is twice as long as the one before.
    pub delay: Duration,
    /// The longest rest.
    pub max_delay: Duration,
}

impl Default for RetrySettings {
    /// None: whoever embeds a pipeline is told of the first failure.
    fn default() -> Self {
        Self { attempts: RetryAttempts::Most(0), delay: Duration::from_secs(1), max_delay: Duration::from_secs(60) }
    }
}

/// How often a query is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAttempts {
    /// So often at the most.
    Most(u32),
    /// Until it works or somebody ends it.
    Unlimited,
}

impl FromStr for RetryAttempts {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        if text.trim().eq_ignore_ascii_case("unlimited") {
            return Ok(Self::Unlimited);
        }
        text.trim().parse().map(Self::Most).map_err(|_| {
            EngineError::config(format!("the retry attempts are '{text}', expected a whole number or unlimited"))
                .help("write for example 5, 0 for none, or unlimited")
        })
    }
}

impl fmt::Display for RetryAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Most(most) => most.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// The failures of a query in a row.
#[derive(Debug)]
pub(super) struct Retries {
    settings: RetrySettings,
    failures: u32,
}

impl Retries {
    pub(super) fn new(settings: RetrySettings) -> Self {
        Self { settings, failures: 0 }
    }

    /// What is done after a failure; nothing if it was the last. Batches may have been committed since the one before.
    pub(super) fn after(&mut self, error: &EngineError, has_advanced: bool) -> Option<Restart> {
        if has_advanced {
            self.failures = 0;
        }
        let may_pass = matches!(error, EngineError::Unavailable(_));
        let is_left = match self.settings.attempts {
            RetryAttempts::Most(most) => self.failures < most,
            RetryAttempts::Unlimited => true,
        };
        if !may_pass || !is_left {
            return None;
        }
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let delay = self.settings.delay.saturating_mul(factor).min(self.settings.max_delay);
        Some(Restart { attempt: self.failures, delay, error: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rests in seconds after failures, each with whether there were batches before it.
    fn check(attempts: &str, error: &EngineError, failures: &[bool], expected: &[Option<u64>]) {
        let attempts = attempts.parse().expect("attempts");
        let max_delay = Duration::from_secs(5);
        let mut retries = Retries::new(RetrySettings { attempts, max_delay, ..RetrySettings::default() });
        let mut after =
            |has_advanced: &bool| retries.after(error, *has_advanced).map(|restart| restart.delay.as_secs());
        assert_eq!(failures.iter().map(&mut after).collect::<Vec<_>>(), expected, "{attempts}, {failures:?}");
    }

    #[test]
    fn errors_that_may_pass_are_retried_with_growing_rests_until_there_were_enough_in_a_row() {
        let away = EngineError::unavailable("no broker");
        check("0", &away, &[false], &[None]);
        check("2", &away, &[false, false, false], &[Some(1), Some(2), None]);
        check("2", &away, &[true, false, true, false, false], &[Some(1), Some(2), Some(1), Some(2), None]);
        check("Unlimited", &away, &[false; 5], &[Some(1), Some(2), Some(4), Some(5), Some(5)]);
        // Long outages do not overflow.
        check("unlimited", &away, &[false; 100], &[&[Some(1), Some(2), Some(4)][..], &[Some(5); 97]].concat());
        for error in [
            EngineError::query("wrong"),
            EngineError::config("wrong"),
            EngineError::data("wrong"),
            EngineError::internal("wrong"),
        ] {
            check("unlimited", &error, &[false, true], &[None, None]);
        }
    }

    #[test]
    fn spellings() {
        for text in ["", "-1", "many", "1.5"] {
            let error = text.parse::<RetryAttempts>().expect_err("refused").to_string();
            assert_eq!(error, format!("the retry attempts are '{text}', expected a whole number or unlimited"));
        }
    }
}
