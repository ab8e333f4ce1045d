//! What a streaming plan says about itself, for people: its stateful operators, what bounds their state, and the tables
//! it reads besides its streams.
//!
//! Nothing here changes how a query runs.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use regex::{Captures, Regex};
use serde::Serialize;

use super::logical::StreamScan;
use super::streaming::{OperatorStage, StreamingPlan, WatermarkSpec};
use crate::error::Result;
use crate::operator;
use crate::sink::OutputMode;

/// A stateful operator of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatefulOperator {
    /// Its lasting name in the checkpoint.
    pub id: String,
    /// Spark's name for it, e.g. `stateStoreSave`.
    pub name: String,
    /// What its rows are kept by.
    pub keys: Vec<String>,
    /// What keeps its state from growing for ever.
    pub bound: StateBound,
    /// Whether a time to live could.
    #[serde(skip)]
    pub takes_ttl: bool,
    /// Everything its state rows depend on: with another text, state of a checkpoint is migrated or does not fit.
    pub fingerprint: String,
}

/// What bounds the state of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum StateBound {
    /// A row is forgotten when the watermark passes a moment.
    Watermark {
        /// The event time.
        columns: Vec<String>,
        /// How late rows may be.
        delay_ms: i64,
        /// Which moment, e.g. `the end of its window of 60000 ms`.
        until: String,
    },
    /// There are never more rows.
    Rows {
        /// How many.
        rows: u64,
    },
    /// It grows with the target, whose rows follow from it.
    Target {
        /// What is kept for ever, e.g. `every change of the history`.
        keeps: String,
    },
    /// A row is forgotten so long after it was written last, by the clock.
    Ttl {
        /// How long.
        ttl_ms: i64,
        /// What begins the time anew, e.g. `its last row`.
        since: String,
    },
    /// Nothing: complete mode needs every group for ever.
    NothingInCompleteMode,
    /// Nothing: the operator has no watermark.
    Nothing,
}

impl StateBound {
    /// Whether state grows with the number of keys for as long as the query lives.
    pub fn is_unbounded(&self) -> bool {
        matches!(self, Self::Nothing | Self::NothingInCompleteMode)
    }
}

/// A watermark of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatermarkDescription {
    /// Its number in the query.
    pub id: usize,
    /// The event time.
    pub column: String,
    /// How late rows may be.
    pub delay_ms: i64,
}

impl From<&WatermarkSpec> for WatermarkDescription {
    fn from(spec: &WatermarkSpec) -> Self {
        Self { id: spec.id, column: spec.column.clone(), delay_ms: spec.delay_us / 1000 }
    }
}

/// The stateful operators in the order rows pass them.
pub(crate) fn stateful_operators(plan: &StreamingPlan) -> Vec<StatefulOperator> {
    plan.operators.iter().map(|stage| stateful_operator(stage, plan)).collect()
}

fn stateful_operator(stage: &OperatorStage, plan: &StreamingPlan) -> StatefulOperator {
    let spec = stage.spec.as_ref();
    let bound = match spec.bound() {
        operator::StateBound::None if let Some(ttl) = stage.ttl => {
            let since = if spec.revises() { "its last row" } else { "it came" };
            StateBound::Ttl { ttl_ms: ttl.ms(), since: since.to_owned() }
        }
        operator::StateBound::Watermark(until) => StateBound::Watermark {
            columns: event_time_columns(plan),
            delay_ms: plan.watermarks.iter().map(|watermark| watermark.delay_us / 1000).max().unwrap_or(0),
            until,
        },
        operator::StateBound::Rows(rows) => StateBound::Rows { rows },
        operator::StateBound::Target(keeps) => StateBound::Target { keeps: keeps.to_owned() },
        operator::StateBound::None if plan.output_mode == OutputMode::Complete => StateBound::NothingInCompleteMode,
        operator::StateBound::None => StateBound::Nothing,
    };
    let keys = spec.inputs().first().map(|input| input.key_names.clone()).unwrap_or_default();
    StatefulOperator {
        id: spec.id().to_owned(),
        name: spec.spark_name().to_owned(),
        keys: keys.iter().map(|name| plain(name)).collect(),
        bound,
        takes_ttl: spec.takes_ttl(),
        fingerprint: spec.fingerprint(),
    }
}

/// The columns that watermarks are on, each name once: joined streams often call theirs the same.
fn event_time_columns(plan: &StreamingPlan) -> Vec<String> {
    let mut columns: Vec<String> = plan.watermarks.iter().map(|watermark| watermark.column.clone()).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// An expression's name as a person would write it: `window(ts,Utf8("5 seconds"))` is `window(ts, '5 seconds')`.
pub(crate) fn plain(name: &str) -> String {
    let literal =
        Regex::new(r#"\b(?:Utf8|LargeUtf8|Utf8View)\("([^"]*)"\)|\b(?:U?Int\d+|Float\d+|Boolean)\(([^()]*)\)"#);
    let Ok(literal) = literal else { return name.to_owned() };
    let plain = literal.replace_all(name, |found: &Captures<'_>| match (found.get(1), found.get(2)) {
        (Some(text), _) => format!("'{}'", text.as_str()),
        (_, number) => number.map_or_else(String::new, |number| number.as_str().to_owned()),
    });
    plain.replace(",'", ", '")
}

impl StreamingPlan {
    /// The table of each source of the query, in the order of its offsets.
    pub(crate) fn source_names(&self) -> Vec<String> {
        self.source_stages.iter().map(|stage| self.sources[stage.source].name.clone()).collect()
    }
}

/// The tables a plan reads as they are, each once, by name. Views are theirs already.
pub(crate) fn static_tables(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && StreamScan::of(scan).is_none()
            && !names.iter().any(|known| known.eq_ignore_ascii_case(scan.table_name.table()))
        {
            names.push(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys_are_as_people_write_them() {
        for (name, expected) in [
            ("user_id", "user_id"),
            ("window(c.ts,Utf8(\"5 seconds\"))", "window(c.ts, '5 seconds')"),
            ("remainder(ticks.value,Int32(2))", "remainder(ticks.value,2)"),
            ("CAST(t.a AS Int64)", "CAST(t.a AS Int64)"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }
}
