//! What the rules said, as a person reads it and as a program does.
//!
//! ```text
//! failure  min-insync: min.insync.replicas is 2 or more where there are three copies
//!          with 1, acks=all is acknowledged by a leader alone, and lost with it
//!   topic shop.order.created
//!     found     min.insync.replicas=1
//!     expected  2 or more
//!     change    set min.insync.replicas=2
//!     run       highwater topic alter ...
//! ```

use std::fmt::Write as _;

use serde::Serialize;

use super::counted;
use super::facts::Facts;
use super::rules::{Finding, Limits, RULES, Rule, Severity, View};

/// A cluster, compared with all rules.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where it was asked.
    pub(crate) address: String,
    /// What was looked at.
    pub(crate) looked_at: LookedAt,
    /// Broken rules of the kind that fails.
    pub(crate) failures: usize,
    /// Broken rules of the other kind.
    pub(crate) warnings: usize,
    /// What each rule said.
    pub(crate) rules: Vec<Verdict>,
    /// What could not be asked.
    pub(crate) unanswered: Vec<String>,
}

/// How much was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct LookedAt {
    brokers: usize,
    topics: usize,
    partitions: usize,
    groups: usize,
}

/// What one rule said.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// Its name.
    pub(crate) rule: &'static str,
    /// How bad it is when it is broken.
    pub(crate) severity: &'static str,
    /// `ok`, `broken`, `unknown` or `skipped`.
    pub(crate) outcome: &'static str,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// What is expected.
    pub(crate) expected: &'static str,
    /// What happens otherwise.
    pub(crate) why: &'static str,
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
}

/// Asks every rule that is not to be skipped.
pub(crate) fn examine(facts: &Facts, limits: &Limits, skip: &[String]) -> Report {
    let view = View { facts, limits };
    let rules: Vec<Verdict> = RULES.iter().map(|rule| verdict(rule, &view, skip)).collect();
    let broken = |severity: Severity| {
        rules.iter().filter(|rule| rule.outcome == "broken" && rule.severity == severity.name()).count()
    };
    Report {
        address: facts.address.clone(),
        looked_at: LookedAt {
            brokers: facts.brokers.len(),
            topics: facts.topics.len(),
            partitions: facts.topics.iter().map(|topic| topic.partitions.len()).sum(),
            groups: facts.groups.len(),
        },
        failures: broken(Severity::Failure),
        warnings: broken(Severity::Warning),
        rules,
        unanswered: facts.unanswered.clone(),
    }
}

fn verdict(rule: &Rule, view: &View<'_>, skip: &[String]) -> Verdict {
    let is_skipped = skip.iter().any(|id| id == rule.id);
    let answer = if is_skipped { Err("by --skip") } else { (rule.check)(view) };
    let (outcome, reason, findings) = match answer {
        Ok(findings) if findings.is_empty() => ("ok", None, findings),
        Ok(findings) => ("broken", None, findings),
        Err(reason) if is_skipped => ("skipped", Some(reason), Vec::new()),
        Err(reason) => ("unknown", Some(reason), Vec::new()),
    };
    let (severity, expected, why) = (rule.severity.name(), rule.what, rule.why);
    Verdict { rule: rule.id, severity, outcome, reason, expected, why, findings }
}

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let LookedAt { brokers, topics, partitions, groups } = &self.looked_at;
        let counts = [(*brokers, "broker"), (*topics, "topic"), (*partitions, "partition"), (*groups, "group")];
        let counts = counts.map(|(number, word)| counted(number, word)).join(", ");
        let _ = writeln!(text, "Kafka at {}: {counts}", self.address);
        for severity in [Severity::Failure, Severity::Warning] {
            for rule in self.rules.iter().filter(|rule| rule.outcome == "broken" && rule.severity == severity.name()) {
                let _ =
                    write!(text, "\n{:7}  {}: {}\n         {}\n", rule.severity, rule.rule, rule.expected, rule.why);
                rule.findings.iter().for_each(|finding| finding.write(&mut text));
            }
        }
        text.push('\n');
        let named = |outcome: &str| {
            self.rules
                .iter()
                .filter(|rule| rule.outcome == outcome)
                .map(|rule| rule.rule)
                .collect::<Vec<_>>()
                .join(", ")
        };
        for (word, outcome) in [("ok", "ok"), ("skipped", "skipped")] {
            let rules = named(outcome);
            if !rules.is_empty() {
                let _ = writeln!(text, "{word:7}  {rules}");
            }
        }
        for rule in self.rules.iter().filter(|rule| rule.outcome == "unknown") {
            let _ = writeln!(text, "unknown  {}: {}", rule.rule, rule.reason.unwrap_or_default());
        }
        for question in &self.unanswered {
            let _ = writeln!(text, "no answer to {question}");
        }
        text
    }

    /// The one line at the end.
    pub(crate) fn summary(&self) -> String {
        let (failures, warnings) = (counted(self.failures, "failure"), counted(self.warnings, "warning"));
        format!("{failures} and {warnings} in {}", counted(self.rules.len(), "rule"))
    }
}

impl Finding {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "  {}", self.object);
        let lines = [("found", &self.found), ("expected", &self.expected), ("change", &self.change)];
        for (word, text) in lines.into_iter().chain(self.command.iter().map(|command| ("run", command))) {
            let _ = writeln!(out, "    {word:8}  {text}");
        }
    }
}
