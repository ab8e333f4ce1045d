//! Which operators forget their rows after a time: what the settings say, given to the operators that nothing else bounds.
//!
//! ```text
//!   an operator's own ttl  over  that of its flow  over  that of all
//! ```
//!
//! What is said of one operator must be possible for it; what is said of more holds for those for which it is.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{EngineError, Result, nearest};
use crate::operator::StateBound;
use crate::operator::ttl::Ttl;
use crate::plan::interval::parse_duration_us;
use crate::plan::streaming::{Ages, StreamingPlan};

/// How long rows of state are kept that nothing else lets go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateTtl(Option<Duration>);

impl StateTtl {
    /// For so long after their last write.
    pub fn of(ttl: Duration) -> Self {
        Self(Some(ttl))
    }
}

impl FromStr for StateTtl {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Self(None));
        }
        let ttl_us = parse_duration_us(text, "the ttl").ok().and_then(|ttl_us| u64::try_from(ttl_us).ok());
        match ttl_us.filter(|ttl_us| *ttl_us > 0) {
            Some(ttl_us) => Ok(Self(Some(Duration::from_micros(ttl_us)))),
            None => Err(EngineError::config(format!("the ttl is '{text}', expected a length of time or none"))
                .help("write for example ttl: 7 days")),
        }
    }
}

/// The ttl of a flow's operators.
#[derive(Debug, Clone, Default)]
pub struct TtlSettings {
    /// Of all that nothing else bounds.
    pub all: Option<StateTtl>,
    /// Of single ones, by their lasting names.
    pub operators: BTreeMap<String, StateTtl>,
}

impl TtlSettings {
    /// Which operators of a flow have a ttl, if they can have one; `of_all` is that of all flows.
    pub(super) fn ages(&self, of_all: StateTtl) -> Ages {
        let of = self.operators.iter().map(|(id, ttl)| (id.clone(), ttl.0.is_some())).collect();
        Ages { of, others: self.all.unwrap_or(of_all).0.is_some() }
    }
}

/// Gives the operators of a flow their ttl.
pub(super) fn give_ttl(plan: &mut StreamingPlan, flow: &str, own: &TtlSettings, of_all: StateTtl) -> Result<()> {
    for (id, ttl) in &own.operators {
        let Some(stage) = plan.operators.iter().find(|stage| stage.spec.id() == id) else {
            return Err(no_such_operator(plan, flow, id));
        };
        if ttl.0.is_some() && !stage.spec.takes_ttl() {
            let message = format!("flow '{flow}': operator '{id}' has a ttl, and it cannot forget rows by their age");
            return Err(EngineError::config(message).help(
                "a ttl is for GROUP BY without a watermark on its window, the first rows of each key, DISTINCT without event time and \
                 joins without bounds on time; highwater explain says what bounds the others",
            ));
        }
    }
    for stage in &mut plan.operators {
        let id = stage.spec.id();
        let ttl = own.operators.get(id).or(own.all.as_ref()).unwrap_or(&of_all);
        if stage.spec.takes_ttl() {
            stage.ttl = ttl.0.map(Ttl::new);
        } else if ttl.0.is_some() && stage.spec.bound() == StateBound::None {
            tracing::warn!(flow, operator = id, "the ttl is not for this operator, and nothing else bounds its state");
        }
    }
    Ok(())
}

fn no_such_operator(plan: &StreamingPlan, flow: &str, id: &str) -> EngineError {
    let names: Vec<&str> = plan.operators.iter().map(|stage| stage.spec.id()).collect();
    let error = EngineError::config(format!("flow '{flow}' has no operator '{id}', which has a ttl"));
    match nearest(id, names.iter().copied()) {
        Some(near) => error.help(format!("did you mean '{near}'?")),
        None if names.is_empty() => error.help("it keeps no state"),
        None => error.help(format!("its operators are: {}", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let check = |text: &str, expected: Option<StateTtl>| assert_eq!(text.parse().ok(), expected, "{text}");
        check("7 days", Some(StateTtl::of(Duration::from_secs(7 * 86_400))));
        check("90 seconds", Some(StateTtl::of(Duration::from_secs(90))));
        check("None", Some(StateTtl(None)));
        for text in ["", "soon", "0 seconds", "-1 day"] {
            check(text, None);
        }
    }
}
