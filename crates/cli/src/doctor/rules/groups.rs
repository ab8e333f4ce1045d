//! Rules about those who read.

use std::collections::BTreeMap;

use super::super::plural;
use super::{Answer, Finding, View};
use crate::progress::board::number;

pub(super) fn lag(view: &View<'_>) -> Answer {
    let mut found = Vec::new();
    for group in &view.facts.groups {
        let mut by_topic: BTreeMap<&str, (i64, Option<i64>)> = BTreeMap::new();
        for lag in &group.lags {
            let (records, seconds) = by_topic.entry(&lag.topic).or_default();
            *records += lag.records;
            *seconds = (*seconds).max(lag.seconds);
        }
        for (topic, (records, seconds)) in by_topic {
            let too_old = seconds.is_some_and(|seconds| seconds > view.limits.max_lag_s);
            if records <= view.limits.max_lag_records && !too_old {
                continue;
            }
            let old = seconds.map(|seconds| format!(", the oldest {seconds} s old")).unwrap_or_default();
            let nobody = matches!(group.state.to_ascii_lowercase().as_str(), "empty" | "dead");
            let (reader, change) = if nobody {
                (", and nobody reads", "start its readers, or delete the group if it is of no use any more")
            } else {
                ("", "add readers up to the number of partitions, then partitions; see which partitions are behind")
            };
            found.push(Finding {
                object: format!("group {} of topic {topic}", group.name),
                found: format!(
                    "{} {} behind{old}{reader}",
                    number(records as f64),
                    plural(usize::try_from(records).unwrap_or(usize::MAX), "record")
                ),
                expected: format!(
                    "{} records and {} s at most",
                    number(view.limits.max_lag_records as f64),
                    view.limits.max_lag_s
                ),
                change: change.to_owned(),
                command: Some(format!(
                    "highwater topic describe {topic} --section groups --bootstrap {}",
                    view.facts.address
                )),
            });
        }
    }
    Ok(found)
}
