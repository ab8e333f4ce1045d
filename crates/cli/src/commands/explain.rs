//! `highwater explain`: what a query keeps, by which keys, and what keeps that from growing for ever; with
//! `--watermark` what decides its watermark, partition by partition.

use std::io::Write;

use highwater_engine::error::nearest;
use highwater_engine::plan::describe::{StateBound, StatefulOperator, WatermarkDescription};
use highwater_engine::query::{FlowDescription, PartitionEffect, PartitionWatermark, Pipeline, WatermarkReport};
use serde::Serialize;

use super::run::Planned;
use crate::error::{Failure, Result};
use crate::output::columns::{texts, times, write_columns, write_json};
use crate::output::{Format, stdout_failure};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    project: Planned,
    /// Only this flow or streaming table
    #[arg(value_name = "FLOW")]
    flow: Option<String>,
    /// Say what holds the watermark back, partition by partition, as the query's checkpoint has it
    #[arg(long)]
    watermark: bool,
    /// How it is printed; csv has the stateful operators without the plans
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, env = "HIGHWATER_OUTPUT")]
    output: Format,
}

const EXAMPLES: &str = "\
Examples:
  highwater explain shop                      # every query's plan and state
  highwater explain shop totals --output json
  highwater explain shop totals --watermark   # while it runs, or after";

/// A query as JSON has it.
#[derive(Serialize)]
struct Explained<'a> {
    query: &'a str,
    target: &'a str,
    streams: &'a [String],
    static_tables: &'a [String],
    output_mode: String,
    trigger: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    upkeep: Option<String>,
    watermarks: &'a [WatermarkDescription],
    operators: &'a [StatefulOperator],
    warnings: Vec<String>,
    plan: &'a str,
}

/// Prints the queries, and warns of state that nothing bounds.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let pipeline = arguments.project.open()?;
    let flows = chosen(&pipeline, arguments.flow.as_deref())?;
    let out = &mut std::io::stdout().lock();
    if arguments.watermark {
        return watermarks(&pipeline, &flows, arguments.output, out);
    }
    match arguments.output {
        Format::Json => flows.iter().try_for_each(|flow| write_json(&Explained::of(flow), out))?,
        Format::Csv => write_operators(&flows, out)?,
        Format::Table => {
            let texts: Vec<String> = flows.iter().map(report).collect();
            write!(out, "{}", texts.join("\n")).and_then(|()| out.flush()).map_err(stdout_failure)?;
        }
    }
    for flow in &flows {
        warnings(flow).iter().for_each(|warning| tracing::warn!(query = flow.name, "{warning}"));
    }
    Ok(())
}

fn chosen(pipeline: &Pipeline, name: Option<&str>) -> Result<Vec<FlowDescription>> {
    let flows = pipeline.flows();
    let Some(name) = name else { return Ok(flows) };
    if let Some(flow) = flows.iter().find(|flow| flow.name.eq_ignore_ascii_case(name)) {
        return Ok(vec![flow.clone()]);
    }
    let names: Vec<&str> = flows.iter().map(|flow| flow.name.as_str()).collect();
    let failure = Failure::usage(format!("the project has no flow '{name}'"));
    Err(match nearest(name, names.iter().copied()) {
        Some(near) => failure.help(format!("did you mean '{near}'?")),
        None => failure.help(format!("its flows are: {}", names.join(", "))),
    })
}

impl<'a> Explained<'a> {
    fn of(flow: &'a FlowDescription) -> Self {
        Self {
            query: &flow.name,
            target: &flow.target,
            streams: &flow.sources,
            static_tables: &flow.static_tables,
            output_mode: flow.output_mode.to_string(),
            trigger: flow.trigger.to_string(),
            upkeep: flow.upkeep.as_ref().map(ToString::to_string),
            watermarks: &flow.watermarks,
            operators: &flow.operators,
            warnings: warnings(flow),
            plan: &flow.explain,
        }
    }
}

/// State that grows for as long as the query lives.
fn warnings(flow: &FlowDescription) -> Vec<String> {
    let unbounded = flow.operators.iter().filter(|operator| operator.bound.is_unbounded());
    unbounded
        .map(|operator| {
            let keys = if operator.keys.is_empty() { "one row".to_owned() } else { operator.keys.join(", ") };
            format!("nothing bounds the state of operator {} ({keys}): {}", operator.id, advice(operator))
        })
        .collect()
}

fn advice(operator: &StatefulOperator) -> &'static str {
    match operator.bound {
        StateBound::NothingInCompleteMode => "output mode complete keeps every group",
        _ if operator.takes_ttl => {
            "it keeps a row for every key there ever was; a watermark and a window of event time let old ones go, or a ttl"
        }
        _ => "it keeps a row for every key there ever was; a watermark and a window of event time let old ones go",
    }
}

/// A query for people.
fn report(flow: &FlowDescription) -> String {
    let mut text = format!("{} -> {}, {}, {}\n", flow.name, flow.target, flow.output_mode, flow.trigger);
    let streams = flow.sources.iter().map(|name| format!("{name} (stream)"));
    let reads = each_once(streams.chain(flow.static_tables.iter().cloned()));
    text += &format!("  reads      {}\n", if reads.is_empty() { "nothing".to_owned() } else { reads.join(", ") });
    if let Some(upkeep) = &flow.upkeep {
        text += &format!("  view       {upkeep}\n");
    }
    let watermark = |watermark: &WatermarkDescription| {
        format!("  watermark  {}, {} behind its newest\n", watermark.column, span(watermark.delay_ms))
    };
    text += &each_once(flow.watermarks.iter().map(watermark)).concat();
    for operator in &flow.operators {
        let keys = if operator.keys.is_empty() { "none".to_owned() } else { operator.keys.join(", ") };
        text += &format!("  state      {} ({}) by {keys}\n", operator.id, operator.name);
        text += &format!("             {}\n", bounded_by(operator));
    }
    if flow.operators.is_empty() {
        text += "  state      none\n";
    }
    text += "  plan\n";
    flow.explain.lines().for_each(|line| text += &format!("    {line}\n"));
    text
}

/// A table that is read twice, or a watermark two streams have alike, is told once.
fn each_once(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    lines.for_each(|line| {
        if !told.contains(&line) {
            told.push(line)
        }
    });
    told
}

fn bounded_by(operator: &StatefulOperator) -> String {
    match &operator.bound {
        StateBound::Watermark { columns, until, .. } => {
            format!("bounded: a row goes when the watermark of {} passes {until}", columns.join(", "))
        }
        StateBound::Ttl { ttl_ms, since } => format!("bounded: a row is kept until {} after {since}", span(*ttl_ms)),
        StateBound::Rows { rows: 1 } => "bounded: it is one row".to_owned(),
        StateBound::Rows { rows } => format!("bounded: there are never more than {rows} rows"),
        StateBound::Target { keeps } => format!("grows with its target: it keeps {keeps}"),
        _ => format!("not bounded: {}", advice(operator)),
    }
}

/// A length of time in the largest unit that needs no fraction.
fn span(ms: i64) -> String {
    let units = [("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000)];
    match units.iter().find(|(_, length)| ms != 0 && ms % length == 0) {
        Some((unit, length)) if ms / length == 1 => format!("1 {unit}"),
        Some((unit, length)) => format!("{} {unit}s", ms / length),
        None => format!("{ms} ms"),
    }
}

fn write_operators(flows: &[FlowDescription], out: &mut impl Write) -> Result<()> {
    let rows: Vec<(&FlowDescription, &StatefulOperator)> =
        flows.iter().flat_map(|flow| flow.operators.iter().map(move |operator| (flow, operator))).collect();
    let columns = [
        ("query", texts(rows.iter().map(|(flow, _)| Some(flow.name.clone())))),
        ("operator", texts(rows.iter().map(|(_, operator)| Some(operator.id.clone())))),
        ("name", texts(rows.iter().map(|(_, operator)| Some(operator.name.clone())))),
        ("keys", texts(rows.iter().map(|(_, operator)| Some(operator.keys.join(", "))))),
        ("bound", texts(rows.iter().map(|(_, operator)| Some(bounded_by(operator))))),
    ];
    write_columns(Format::Csv, columns, out)
}

fn watermarks(pipeline: &Pipeline, flows: &[FlowDescription], format: Format, out: &mut impl Write) -> Result<()> {
    let mut reports = Vec::new();
    for flow in flows {
        match pipeline.watermark_report(&flow.name)? {
            Some(report) => reports.push(report),
            None if flow.watermarks.is_empty() => tracing::info!(query = flow.name, "has no watermark"),
            None => tracing::info!(query = flow.name, "has not committed a batch yet"),
        }
    }
    let rows: Vec<(&WatermarkReport, &PartitionWatermark)> =
        reports.iter().flat_map(|report| report.partitions.iter().map(move |row| (report, row))).collect();
    let text = |value: fn(&PartitionWatermark) -> &str| texts(rows.iter().map(|(_, row)| Some(value(row).to_owned())));
    let columns = [
        ("query", texts(rows.iter().map(|(report, _)| Some(report.query.clone())))),
        ("watermark", times(rows.iter().map(|(report, _)| Some(report.watermark_ms).filter(|ms| *ms > 0)))),
        ("event_time", text(|row| &row.column)),
        ("delay", texts(rows.iter().map(|(_, row)| Some(span(row.delay_ms))))),
        ("source", text(|row| &row.source)),
        ("partition", text(|row| &row.partition)),
        ("newest", times(rows.iter().map(|(_, row)| row.newest_ms))),
        ("last_row_read", times(rows.iter().map(|(_, row)| row.seen_ms))),
        ("effect", text(|row| effect(row))),
    ];
    write_columns(format, columns, out)
}

fn effect(row: &PartitionWatermark) -> &'static str {
    match row.effect {
        PartitionEffect::HoldsBack if row.newest_ms.is_none() => "holds it back: no row yet",
        PartitionEffect::HoldsBack => "holds it back",
        PartitionEffect::Leads => "leads",
        PartitionEffect::Ahead => "is ahead",
        PartitionEffect::Behind => "is behind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let cases =
            [(0, "0 ms"), (1500, "1500 ms"), (1000, "1 second"), (12_000, "12 seconds"), (7_200_000, "2 hours")];
        for (ms, expected) in cases {
            assert_eq!(span(ms), expected);
        }
    }
}
