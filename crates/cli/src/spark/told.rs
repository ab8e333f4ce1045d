//! What Spark says of the flows while they run, and how a run has ended by that.
//!
//! ```text
//!   Flow spark_catalog.default.t is RUNNING.      Flow 'spark_catalog.default.t' has FAILED.
//!   Flow spark_catalog.default.t has COMPLETED.   Error: [DIVIDE_BY_ZERO] ...
//! ```
//!
//! Only what stands behind the name says what has become of a flow: a flow may be called FAILED.

use std::collections::BTreeMap;

use super::address::Address;
use super::grpc::Status;
use super::problems::{Origins, at_flow};
use crate::error::Result;

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The last failure of each flow that has not gone well since.
    failures: BTreeMap<String, String>,
    is_stopping: bool,
}

impl Told {
    /// From now on flows fail because they are stopped, which is no failure; those that failed before stay what they are.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Takes an event. Gives the flow that has failed for the first time.
    pub(super) fn hear<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let (flow, behind) = at_flow(text)?;
        if behind.starts_with(" has COMPLETED") {
            self.failures.remove(flow);
            return None;
        }
        let has_failed = behind.starts_with(" has FAILED");
        let is_failure =
            has_failed || text.starts_with("Run is FAILED") || text.lines().any(|line| line.starts_with("Error: "));
        if !is_failure || self.is_stopping {
            return None;
        }
        let is_first = self.failures.insert(flow.to_owned(), text.to_owned()).is_none();
        (is_first && has_failed).then_some(flow)
    }

    /// The failures, by flow.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failures.iter().map(|(flow, text)| (flow.as_str(), text.as_str()))
    }

    /// How a run has ended whose call has.
    pub(super) fn verdict(&self, result: Result<(), Status>, origins: &Origins<'_>, address: &Address) -> Result<()> {
        let mut failures = self.failures().map(|(flow, text)| origins.failure(Some(flow), text));
        match (failures.next(), result) {
            (Some(first), _) => Err(first.and(failures)),
            (None, Err(status)) if status.is_of_the_connection() => Err(status.failure(address)),
            (None, Err(status)) if !self.is_stopping => {
                Err(origins.failure(at_flow(&status.message).map(|(flow, _)| flow), &status.message))
            }
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: &str = "Ctrl-C";

    #[track_caller]
    fn check(events: &[&str], ended: Result<(), u32>, expected: &str) {
        let mut told = Told::default();
        for event in events {
            if *event == STOP {
                told.stop();
            } else {
                told.hear(event);
            }
        }
        let address = Address::parse("sc://h:1").unwrap();
        let ended = ended.map_err(|code| Status { code, message: "it ended".to_owned() });
        let said = told.verdict(ended, &Origins::new(&[], &[]), &address);
        let said = said.map_or_else(|failure| failure.message().to_owned(), |()| "fine".to_owned());
        assert_eq!(said, expected, "{events:?}");
    }

    /// gRPC's INTERNAL and UNAVAILABLE.
    const REFUSED: Result<(), u32> = Err(13);
    const BROKEN: Result<(), u32> = Err(14);

    #[test]
    fn what_stands_behind_the_name_counts() {
        let failed = "Flow 'c.d.t' has FAILED.\nError: [X] it broke. SQLSTATE: 1";
        check(&["Flow c.d.t is QUEUED.", failed], Ok(()), "flow 't': [X] it broke.");
        check(&[failed, "Flow c.d.t is RUNNING.", "Flow c.d.t has COMPLETED."], Ok(()), "fine");
        check(&["Failed to resolve flow: 'c.d.t'.\nError: [X] no."], REFUSED, "flow 't': [X] no.");
        check(&["Flow c.d.PAYMENTS_FAILED is QUEUED.", "Flow c.d.PAYMENTS_FAILED is RUNNING."], Ok(()), "fine");
        check(
            &["Flow 'c.d.PAYMENTS_FAILED' has FAILED."],
            Ok(()),
            "flow 'PAYMENTS_FAILED': Flow 'c.d.PAYMENTS_FAILED' has FAILED.",
        );
        check(&[failed, "Flow c.d.COMPLETED is RUNNING."], Ok(()), "flow 't': [X] it broke.");
        check(&["Run is COMPLETED."], REFUSED, "it ended");
    }

    #[test]
    fn a_stop_hides_only_what_it_brings_about() {
        let failed = "Flow 't' has FAILED.\nError: [X] it broke.";
        check(&[STOP, failed], REFUSED, "fine");
        check(&[failed, STOP, "Flow 't' has STOPPED."], Ok(()), "flow 't': [X] it broke.");
        check(&[failed, STOP, "Flow 't' has FAILED.\nError: [Y] stopped."], REFUSED, "flow 't': [X] it broke.");
        check(&[STOP], BROKEN, "sc://h:1: it ended");
    }

    #[test]
    fn the_first_failure_is_told() {
        let mut told = Told::default();
        let failed = "Flow 'c.t' has FAILED.\nError: [X] it broke.";
        assert_eq!([told.hear(failed), told.hear(failed)], [Some("c.t"), None]);
    }
}
