//! The watermark: how far event time has come, and with it which rows are late and which groups are final.
//!
//! ```text
//!   partition maxima ──> maximum of the source (behind partitions hold it back) ─ delay ──> minimum over watermarks
//! ```
//!
//! Spark takes the largest event time of a source whatever partition it came from. So do we, but for one case: while
//! a backlog is read, a partition that still has unread rows and was read less far than the others holds the
//! watermark back, so that its rows are not late only because another partition was read first. A partition that has
//! nothing to read holds it for `idle_timeout` after its last row (zero unless set).
//!
//! The watermark never goes back; it is fixed for a batch when the batch is planned.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{EngineError, Result};
use crate::operator::stateless::EventTimes;
use crate::plan::streaming::WatermarkSpec;

/// The configuration key of the policy.
pub(crate) const WATERMARK_POLICY: &str = "spark.sql.streaming.multipleWatermarkPolicy";

/// How several watermarks of a query become one (`spark.sql.streaming.multipleWatermarkPolicy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatermarkPolicy {
    /// The slowest stream decides; nothing is late that need not be.
    #[default]
    Min,
    /// The fastest stream decides.
    Max,
}

impl FromStr for WatermarkPolicy {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            _ => Err(EngineError::config(format!("{WATERMARK_POLICY} is '{text}', expected min or max"))),
        }
    }
}

/// What is known of one partition of one watermark's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Partition {
    max_us: i64,
    /// Processing time of its last row.
    seen_ms: i64,
}

/// Follows event time from batch to batch.
#[derive(Debug, Clone)]
pub(crate) struct WatermarkTracker {
    specs: Vec<WatermarkSpec>,
    policy: WatermarkPolicy,
    idle_timeout: Duration,
    /// By watermark id and partition.
    partitions: BTreeMap<usize, BTreeMap<String, Partition>>,
    /// By watermark id.
    watermarks_ms: BTreeMap<usize, i64>,
    global_ms: i64,
}

impl WatermarkTracker {
    pub(crate) fn new(specs: Vec<WatermarkSpec>, policy: WatermarkPolicy, idle_timeout: Duration) -> Self {
        Self { specs, policy, idle_timeout, partitions: BTreeMap::new(), watermarks_ms: BTreeMap::new(), global_ms: 0 }
    }

    /// The watermark for the next batch, in milliseconds since 1970; 0 until a row was seen.
    pub(crate) fn watermark_ms(&self) -> i64 {
        self.global_ms
    }

    /// Whether the query has a watermark.
    pub(crate) fn is_active(&self) -> bool {
        !self.specs.is_empty()
    }

    /// Takes what a batch saw. `behind` are the partitions that still have rows to read.
    pub(crate) fn observe(&mut self, seen: &EventTimes, behind: &BTreeSet<String>, now_ms: i64) {
        for ((id, partition), range) in &seen.ranges {
            let known = self
                .partitions
                .entry(*id)
                .or_default()
                .entry(partition.clone())
                .or_insert(Partition { max_us: range.max_us, seen_ms: now_ms });
            known.max_us = known.max_us.max(range.max_us);
            known.seen_ms = now_ms;
        }
        for spec in &self.specs {
            let Some(partitions) = self.partitions.get(&spec.id) else { continue };
            let Some(max_us) = source_max(partitions, behind, self.idle_timeout, now_ms) else { continue };
            let watermark_ms = max_us.div_euclid(1000) - spec.delay_us / 1000;
            let known = self.watermarks_ms.entry(spec.id).or_insert(watermark_ms);
            *known = watermark_ms.max(*known);
        }
        self.global_ms = self.global_ms.max(self.combined());
    }

    fn combined(&self) -> i64 {
        let each = self.specs.iter().map(|spec| self.watermarks_ms.get(&spec.id).copied().unwrap_or(0));
        match self.policy {
            WatermarkPolicy::Min => each.min(),
            WatermarkPolicy::Max => each.max(),
        }
        .unwrap_or(0)
    }

    /// What a restart needs.
    pub(crate) fn save(&self) -> serde_json::Map<String, Value> {
        let saved = serde_json::json!({ "partitions": self.partitions, "watermarks": self.watermarks_ms });
        match saved {
            Value::Object(map) => map,
            _ => serde_json::Map::new(),
        }
    }

    /// Goes on from what was saved, with the watermark of that batch.
    pub(crate) fn restore(&mut self, saved: &serde_json::Map<String, Value>, watermark_ms: i64) {
        let field = |name: &str| saved.get(name).cloned().unwrap_or_default();
        self.partitions = serde_json::from_value(field("partitions")).unwrap_or_default();
        self.watermarks_ms = serde_json::from_value(field("watermarks")).unwrap_or_default();
        self.global_ms = watermark_ms;
    }
}

/// What decides the watermark of a query, partition by partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatermarkReport {
    /// The query.
    pub query: String,
    /// The watermark of the next batch, in milliseconds since 1970; 0 until a row was seen.
    pub watermark_ms: i64,
    /// One entry a partition; one without a partition for a watermark that has seen no row.
    pub partitions: Vec<PartitionWatermark>,
}

/// What one partition allows the watermark to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionWatermark {
    /// The event time.
    pub column: String,
    /// How late rows may be.
    pub delay_ms: i64,
    /// The source.
    pub source: String,
    /// The partition; empty if none has given a row.
    pub partition: String,
    /// The newest event time of its rows, in milliseconds since 1970.
    pub newest_ms: Option<i64>,
    /// When its last row was read, in milliseconds since 1970.
    pub seen_ms: Option<i64>,
    /// What it does to the watermark.
    pub effect: PartitionEffect,
}

/// What a partition does to the query's watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionEffect {
    /// The watermark would be later without it.
    HoldsBack,
    /// The watermark follows it, and nothing would allow more.
    Leads,
    /// It would allow a later watermark than there is.
    Ahead,
    /// Its newest row is older than the watermark: it has nothing to read, or its rows are late.
    Behind,
}

/// What decides the watermark, from what the tracker has saved. `source_of` names the source of a partition's index.
pub(crate) fn watermark_report(
    query: &str,
    specs: &[WatermarkSpec],
    saved: &serde_json::Map<String, Value>,
    watermark_ms: i64,
    source_of: impl Fn(usize) -> String,
) -> WatermarkReport {
    let field = |name: &str| saved.get(name).cloned().unwrap_or_default();
    let partitions: BTreeMap<usize, BTreeMap<String, Partition>> =
        serde_json::from_value(field("partitions")).unwrap_or_default();
    let mut found = Vec::new();
    for spec in specs {
        let delay_ms = spec.delay_us / 1000;
        let known = partitions.get(&spec.id).cloned().unwrap_or_default();
        let entry = |name: &str, partition: Option<&Partition>| {
            let (source, partition_name) = name.split_once('/').unwrap_or(("", name));
            PartitionWatermark {
                column: spec.column.clone(),
                delay_ms,
                source: source.parse().map(&source_of).unwrap_or_default(),
                partition: partition_name.to_owned(),
                newest_ms: partition.map(|partition| partition.max_us.div_euclid(1000)),
                seen_ms: partition.map(|partition| partition.seen_ms),
                effect: effect_of(partition.map(|p| p.max_us.div_euclid(1000) - delay_ms), watermark_ms),
            }
        };
        if known.is_empty() {
            found.push(entry("", None));
        }
        found.extend(known.iter().map(|(name, partition)| entry(name, Some(partition))));
    }
    // Whoever stands at the watermark leads it if nobody is ahead, and holds it back otherwise.
    if found.iter().any(|entry| entry.effect == PartitionEffect::Ahead) {
        let at_it = found.iter_mut().filter(|entry| entry.effect == PartitionEffect::Leads);
        at_it.for_each(|entry| entry.effect = PartitionEffect::HoldsBack);
    }
    WatermarkReport { query: query.to_owned(), watermark_ms, partitions: found }
}

fn effect_of(allows_ms: Option<i64>, watermark_ms: i64) -> PartitionEffect {
    match allows_ms {
        // No row yet: the watermark stays where it is until there is one.
        None => PartitionEffect::HoldsBack,
        Some(allows) if allows > watermark_ms => PartitionEffect::Ahead,
        Some(allows) if allows == watermark_ms => PartitionEffect::Leads,
        Some(_) => PartitionEffect::Behind,
    }
}

/// The event time a source has come to.
fn source_max(
    partitions: &BTreeMap<String, Partition>,
    behind: &BTreeSet<String>,
    idle_timeout: Duration,
    now_ms: i64,
) -> Option<i64> {
    let idle_ms = i64::try_from(idle_timeout.as_millis()).unwrap_or(i64::MAX);
    let holds = |name: &String, partition: &Partition| {
        behind.contains(name) || (idle_ms > 0 && now_ms.saturating_sub(partition.seen_ms) < idle_ms)
    };
    // A partition that has rows and was not read at all may hold anything.
    let source = |name: &str| name.split('/').next().map(str::to_owned);
    let own = partitions.keys().next().and_then(|name| source(name));
    if behind.iter().any(|name| source(name) == own && !partitions.contains_key(name)) {
        return None;
    }
    let held = partitions.iter().filter(|(name, partition)| holds(name, partition)).map(|(_, p)| p.max_us).min();
    held.or_else(|| partitions.values().map(|partition| partition.max_us).max())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::stateless::TimeRange;

    fn seen(rows: &[(usize, &str, i64)]) -> EventTimes {
        let mut seen = EventTimes::default();
        for (id, partition, second) in rows {
            let us = second * 1_000_000;
            seen.ranges.insert((*id, (*partition).to_owned()), TimeRange { min_us: us, max_us: us });
        }
        seen
    }

    fn tracker(ids: usize, idle_s: u64) -> WatermarkTracker {
        let spec = |id| WatermarkSpec { id, column: "ts".into(), delay_us: 10_000_000 };
        WatermarkTracker::new((0..ids).map(spec).collect(), WatermarkPolicy::Min, Duration::from_secs(idle_s))
    }

    fn behind(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_largest_time_of_a_source_counts_as_in_spark() {
        let mut tracker = tracker(1, 0);
        tracker.observe(&seen(&[(0, "0/t-0", 100), (0, "0/t-1", 30)]), &behind(&[]), 0);
        assert_eq!(tracker.watermark_ms(), 90_000);
        tracker.observe(&seen(&[(0, "0/t-0", 50)]), &behind(&[]), 0);
        assert_eq!(tracker.watermark_ms(), 90_000, "it never goes back");
    }

    #[test]
    fn a_partition_with_a_backlog_holds_it() {
        let mut tracker = tracker(1, 0);
        tracker.observe(&seen(&[(0, "0/t-0", 100), (0, "0/t-1", 30)]), &behind(&["0/t-1"]), 0);
        assert_eq!(tracker.watermark_ms(), 20_000);
        tracker.observe(&seen(&[(0, "0/t-1", 40)]), &behind(&[]), 0);
        assert_eq!(tracker.watermark_ms(), 90_000);
    }

    #[test]
    fn a_partition_that_was_not_read_yet_holds_it_too() {
        let mut tracker = tracker(1, 0);
        tracker.observe(&seen(&[(0, "0/t-0", 100)]), &behind(&["0/t-1"]), 0);
        assert_eq!(tracker.watermark_ms(), 0);
        tracker.observe(&seen(&[(0, "0/t-0", 110)]), &behind(&["1/other"]), 0);
        assert_eq!(tracker.watermark_ms(), 100_000);
    }

    #[test]
    fn a_quiet_partition_holds_it_until_it_counts_as_idle() {
        let mut tracker = tracker(1, 5);
        tracker.observe(&seen(&[(0, "0/t-0", 100), (0, "0/t-1", 30)]), &behind(&[]), 1_000);
        assert_eq!(tracker.watermark_ms(), 20_000);
        tracker.observe(&seen(&[(0, "0/t-0", 110)]), &behind(&[]), 5_999);
        assert_eq!(tracker.watermark_ms(), 20_000);
        tracker.observe(&seen(&[(0, "0/t-0", 120)]), &behind(&[]), 6_000);
        assert_eq!(tracker.watermark_ms(), 110_000);
    }

    #[test]
    fn a_report_names_what_holds_the_watermark_back() {
        let check = |tracker: &WatermarkTracker, expected: &[&str]| {
            let name = |index: usize| format!("source {index}");
            let report = watermark_report("q", &tracker.specs, &tracker.save(), tracker.watermark_ms(), name);
            let line = |entry: &PartitionWatermark| {
                format!("{} {} {:?} {:?}", entry.source, entry.partition, entry.newest_ms, entry.effect)
            };
            assert_eq!(report.partitions.iter().map(line).collect::<Vec<_>>(), expected);
        };
        let mut one = tracker(1, 5);
        check(&one, &["  None HoldsBack"]);
        one.observe(&seen(&[(0, "0/t-0", 100), (0, "0/t-1", 30)]), &behind(&[]), 1_000);
        check(&one, &["source 0 t-0 Some(100000) Ahead", "source 0 t-1 Some(30000) HoldsBack"]);
        one.observe(&seen(&[(0, "0/t-0", 120)]), &behind(&[]), 6_000);
        check(&one, &["source 0 t-0 Some(120000) Leads", "source 0 t-1 Some(30000) Behind"]);
        let mut two = tracker(2, 0);
        two.observe(&seen(&[(0, "0/a-0", 100), (1, "1/b-0", 60)]), &behind(&[]), 0);
        check(&two, &["source 0 a-0 Some(100000) Ahead", "source 1 b-0 Some(60000) HoldsBack"]);
    }

    #[test]
    fn the_slowest_stream_decides_and_one_without_rows_is_at_zero() {
        let mut tracker = tracker(2, 0);
        tracker.observe(&seen(&[(0, "a-0", 100)]), &behind(&[]), 0);
        assert_eq!(tracker.watermark_ms(), 0);
        tracker.observe(&seen(&[(1, "b-0", 60)]), &behind(&[]), 0);
        assert_eq!(tracker.watermark_ms(), 50_000);
        let mut restored = self::tracker(2, 0);
        restored.restore(&tracker.save(), tracker.watermark_ms());
        restored.observe(&seen(&[(1, "b-0", 200)]), &behind(&[]), 0);
        assert_eq!(restored.watermark_ms(), 90_000);
    }
}
