//! Drawings of the flow of tables.
//!
//! ```text
//!   ev (kafka)
//!   ├─> raw (delta, streaming table)
//!   │   └─> per_minute (delta, streaming table) [append, keeps state] by per_minute_flow
//!   └─> ...
//! ```
//!
//! The text is a tree from each table that nobody fills here, every flow below each table it reads; what was drawn
//! before is not drawn again but named with an arrow up.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use highwater_engine::query::{GraphFlow, GraphTable, GraphTableKind, TableGraph};

/// A tree for the terminal.
pub(crate) fn text(graph: &TableGraph) -> String {
    let mut drawing = Drawing { graph, drawn: BTreeSet::new(), text: String::new() };
    let is_filled = |table: &GraphTable| graph.flows.iter().any(|flow| same(&flow.target, &table.name));
    let reads_nothing = |table: &GraphTable| {
        let mut writers = graph.flows.iter().filter(|flow| same(&flow.target, &table.name));
        writers.all(|flow| flow.streams.is_empty() && flow.statics.is_empty())
    };
    for table in graph.tables.iter().filter(|table| !is_filled(table) || reads_nothing(table)) {
        let _ = writeln!(drawing.text, "{}", label(table));
        drawing.readers(&table.name, "");
    }
    drawing.text
}

struct Drawing<'a> {
    graph: &'a TableGraph,
    /// Targets whose readers were drawn.
    drawn: BTreeSet<String>,
    text: String,
}

impl Drawing<'_> {
    /// The flows that read a table, each with its target and what comes after.
    fn readers(&mut self, table: &str, indent: &str) {
        let graph = self.graph;
        let readers: Vec<&GraphFlow> = graph.flows.iter().filter(|flow| reads(flow, table)).collect();
        for (at, flow) in readers.iter().enumerate() {
            let is_last = at + 1 == readers.len();
            let (branch, below) = if is_last { ("└", "   ") } else { ("├", "│  ") };
            let arrow = if flow.streams.iter().any(|name| same(name, table)) { "─>" } else { "┄>" };
            let target = graph.tables.iter().find(|known| same(&known.name, &flow.target));
            let name = target.map_or_else(|| flow.target.clone(), label);
            let by = if same(&flow.name, &flow.target) { String::new() } else { format!(" by {}", flow.name) };
            let state = if flow.is_stateful { ", keeps state" } else { "" };
            let _ = write!(self.text, "{indent}{branch}{arrow} {name} [{}{state}]{by}", flow.output_mode);
            let has_readers = graph.flows.iter().any(|other| reads(other, &flow.target));
            let is_new = self.drawn.insert(flow.target.to_lowercase());
            self.text.push_str(if has_readers && !is_new { " (see above)\n" } else { "\n" });
            if is_new {
                self.readers(&flow.target, &format!("{indent}{below} "));
            }
        }
    }
}

fn label(table: &GraphTable) -> String {
    let kind = match table.kind {
        GraphTableKind::External => "",
        GraphTableKind::StreamingTable => ", streaming table",
        GraphTableKind::MaterializedView => ", materialized view",
        GraphTableKind::Sink => ", sink",
        GraphTableKind::Console => "",
    };
    format!("{} ({}{kind})", table.name, table.format)
}

fn reads(flow: &GraphFlow, table: &str) -> bool {
    flow.streams.iter().chain(&flow.statics).any(|name| same(name, table))
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// The edges: from, to, flow, whether rows come as a stream.
fn edges(graph: &TableGraph) -> Vec<(usize, usize, &GraphFlow, bool)> {
    let place = |name: &str| graph.tables.iter().position(|table| same(&table.name, name));
    let mut edges = Vec::new();
    for flow in &graph.flows {
        let Some(target) = place(&flow.target) else { continue };
        let streams = flow.streams.iter().map(|name| (name, true));
        for (name, is_stream) in streams.chain(flow.statics.iter().map(|name| (name, false))) {
            if let Some(source) = place(name) {
                edges.push((source, target, flow, is_stream));
            }
        }
    }
    edges
}

/// The graph in Graphviz's language: tables as boxes, rows read as they are as dashed lines.
pub(crate) fn dot(graph: &TableGraph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = "digraph tables {\n  rankdir = LR;\n  node [shape = box];\n".to_owned();
    for table in &graph.tables {
        let _ = writeln!(text, "  {} [label = {}];", quoted(&table.name), quoted(&label(table)));
    }
    for (from, to, flow, is_stream) in edges(graph) {
        let (from, to) = (quoted(&graph.tables[from].name), quoted(&graph.tables[to].name));
        let style = if is_stream { "" } else { ", style = dashed" };
        let _ = writeln!(text, "  {from} -> {to} [label = {}{style}];", quoted(&flow.name));
    }
    text + "}\n"
}

/// The graph in Mermaid's language.
pub(crate) fn mermaid(graph: &TableGraph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "#quot;"));
    let mut text = "flowchart LR\n".to_owned();
    for (number, table) in graph.tables.iter().enumerate() {
        let _ = writeln!(text, "  t{number}[{}]", quoted(&label(table)));
    }
    for (from, to, flow, is_stream) in edges(graph) {
        let arrow = if is_stream { "-->" } else { "-.->" };
        let _ = writeln!(text, "  t{from} {arrow}|{}| t{to}", quoted(&flow.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, kind: GraphTableKind, format: &str) -> GraphTable {
        GraphTable { name: name.to_owned(), kind, format: format.to_owned() }
    }

    fn flow(name: &str, target: &str, streams: &[&str], statics: &[&str], is_stateful: bool) -> GraphFlow {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (name, target) = (name.to_owned(), target.to_owned());
        let output_mode = "append".to_owned();
        GraphFlow { name, target, streams: names(streams), statics: names(statics), output_mode, is_stateful }
    }

    fn graph() -> TableGraph {
        TableGraph {
            tables: vec![
                table("alerts", GraphTableKind::Sink, "kafka"),
                table("ev", GraphTableKind::External, "kafka"),
                table("pages", GraphTableKind::External, "csv"),
                table("raw", GraphTableKind::StreamingTable, "delta"),
                table("top", GraphTableKind::MaterializedView, "delta"),
            ],
            flows: vec![
                flow("raw", "raw", &["ev"], &[], false),
                flow("f", "alerts", &["raw"], &["pages"], true),
                flow("top", "top", &[], &["raw"], false),
            ],
        }
    }

    #[test]
    fn a_tree_for_the_terminal() {
        let expected = "\
ev (kafka)
└─> raw (delta, streaming table) [append]
    ├─> alerts (kafka, sink) [append, keeps state] by f
    └┄> top (delta, materialized view) [append]
pages (csv)
└┄> alerts (kafka, sink) [append, keeps state] by f
";
        assert_eq!(text(&graph()), expected);
    }

    #[test]
    fn what_was_drawn_is_not_drawn_again() {
        let mut graph = graph();
        graph.flows.push(flow("g", "raw", &["pages"], &[], false));
        let drawn = text(&graph);
        assert!(drawn.ends_with("└─> raw (delta, streaming table) [append] by g (see above)\n"), "{drawn}");
    }

    #[test]
    fn for_programs_that_draw() {
        let graph = graph();
        let dot = dot(&graph);
        assert!(dot.contains("\"pages\" -> \"alerts\" [label = \"f\", style = dashed];"), "{dot}");
        let mermaid = mermaid(&graph);
        assert!(mermaid.contains("t1[\"ev (kafka)\"]") && mermaid.contains("t1 -->|\"raw\"| t3"), "{mermaid}");
    }
}
