//! The flow of tables: which query fills which table from which others.
//!
//! A table that is filled from itself by way of others has no beginning. It is refused, as Spark refuses it: queries that
//! wait for each other would wait for ever.

use serde::Serialize;

use crate::error::{EngineError, Result};
use crate::plan::program::Program;
use crate::plan::statement::TableKind;

use super::pipeline::FlowDescription;

/// Tables and the flows between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableGraph {
    /// The tables that are read or written, in the order of their names.
    pub tables: Vec<GraphTable>,
    /// The flows, in the order of the program.
    pub flows: Vec<GraphFlow>,
}

/// A table of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GraphTable {
    /// Its name; of a query whose rows are shown, the query's.
    pub name: String,
    /// What it is.
    pub kind: GraphTableKind,
    /// The word after `USING`.
    pub format: String,
}

/// Who fills a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphTableKind {
    /// Somebody else.
    External,
    /// Flows append to it.
    StreamingTable,
    /// It is computed whole.
    MaterializedView,
    /// Flows write to it, and nothing reads it here.
    Sink,
    /// Rows are shown.
    Console,
}

/// A query and what it reads and writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GraphFlow {
    /// Its name.
    pub name: String,
    /// The table it fills.
    pub target: String,
    /// The tables it reads as streams.
    pub streams: Vec<String>,
    /// The tables it reads as they are.
    pub statics: Vec<String>,
    /// What it emits.
    pub output_mode: String,
    /// Whether it keeps state.
    pub is_stateful: bool,
}

impl TableGraph {
    pub(super) fn of(program: &Program, flows: &[FlowDescription], format_of: impl Fn(&str) -> Option<String>) -> Self {
        let mut graph = Self { tables: Vec::new(), flows: flows.iter().map(GraphFlow::of).collect() };
        let named = |graph: &Self, table: &str| graph.flows.iter().any(|flow| flow.touches(table));
        for (table, _) in program.tables.values() {
            if !named(&graph, &table.name) {
                continue;
            }
            let kind = match table.kind {
                TableKind::External => GraphTableKind::External,
                TableKind::Sink => GraphTableKind::Sink,
                TableKind::Streaming => GraphTableKind::StreamingTable,
                TableKind::Materialized => GraphTableKind::MaterializedView,
            };
            let format = format_of(&table.name).unwrap_or_default();
            graph.tables.push(GraphTable { name: table.name.clone(), kind, format });
        }
        for flow in flows.iter().filter(|flow| flow.target_table.is_none()) {
            let format = "console".to_owned();
            graph.tables.push(GraphTable { name: flow.name.clone(), kind: GraphTableKind::Console, format });
        }
        graph
    }
}

impl GraphFlow {
    fn of(flow: &FlowDescription) -> Self {
        Self {
            name: flow.name.clone(),
            target: flow.target_table.clone().unwrap_or_else(|| flow.name.clone()),
            streams: flow.sources.clone(),
            statics: flow.static_tables.clone(),
            output_mode: flow.output_mode.to_string(),
            is_stateful: !flow.operators.is_empty(),
        }
    }

    fn touches(&self, table: &str) -> bool {
        let mut tables = self.streams.iter().chain(&self.statics).chain([&self.target]);
        tables.any(|known| known.eq_ignore_ascii_case(table))
    }

    /// Whether this flow reads what `other` writes. Reading one's own table as it is, is no wait.
    fn waits_for(&self, other: &Self) -> bool {
        let is_own = self.name == other.name;
        let mut reads = self.streams.iter().chain(self.statics.iter().filter(|_| !is_own));
        reads.any(|table| table.eq_ignore_ascii_case(&other.target))
    }
}

/// Refuses flows that wait for each other.
pub(super) fn refuse_circles(flows: &[GraphFlow]) -> Result<()> {
    let mut done = vec![false; flows.len()];
    for start in 0..flows.len() {
        let mut path = Vec::new();
        if let Some(circle) = circle_from(flows, start, &mut path, &mut done) {
            let names: Vec<String> = circle.iter().map(|at| format!("'{}'", flows[*at].name)).collect();
            let message = match names.as_slice() {
                [own] => format!("flow {own} reads as a stream what it writes itself"),
                [first, ..] => format!("flows read in a circle what they write: {} -> {first}", names.join(" -> ")),
                [] => String::new(),
            };
            return Err(EngineError::query(message)
                .help("let one of them read another table, so that rows have somewhere to begin"));
        }
    }
    Ok(())
}

/// Walks from reader to writer; the flows of the first circle that is met.
fn circle_from(flows: &[GraphFlow], at: usize, path: &mut Vec<usize>, done: &mut [bool]) -> Option<Vec<usize>> {
    if let Some(start) = path.iter().position(|known| *known == at) {
        return Some(path[start..].to_vec());
    }
    if done[at] {
        return None;
    }
    path.push(at);
    let mut writers = (0..flows.len()).filter(|writer| flows[at].waits_for(&flows[*writer]));
    let found = writers.find_map(|writer| circle_from(flows, writer, path, done));
    path.pop();
    done[at] = true;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name target < stream, ... | static, ...`
    fn flow(text: &str) -> GraphFlow {
        let (head, reads) = text.split_once(" < ").unwrap();
        let (name, target) = head.split_once(' ').unwrap();
        let (streams, statics) = reads.split_once('|').unwrap_or((reads, ""));
        let names = |text: &str| text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect();
        GraphFlow {
            name: name.to_owned(),
            target: target.to_owned(),
            streams: names(streams),
            statics: names(statics),
            output_mode: "append".to_owned(),
            is_stateful: false,
        }
    }

    fn check(flows: &[&str], expected: Option<&str>) {
        let flows: Vec<GraphFlow> = flows.iter().map(|text| flow(text)).collect();
        let found = refuse_circles(&flows).err().map(|error| error.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn circles_are_refused_and_diamonds_are_not() {
        check(&["f a < ev", "g b < a", "h b < ev | a", "i c < b | a"], None);
        check(&["f a < ev | a"], None);
        check(&["f a < A"], Some("flow 'f' reads as a stream what it writes itself"));
        check(
            &["z z < a", "f a < ev, c", "g b < a", "h c < ev | b"],
            Some("flows read in a circle what they write: 'f' -> 'h' -> 'g' -> 'f'"),
        );
    }
}
