//! What an opened pipeline can tell without being started.

use std::sync::Arc;

use super::dry_run::{FlowOutlook, TableOutlook, checkpoint_outlook};
use super::graph::TableGraph;
use super::pipeline::{Pipeline, PlannedFlow, Work};
use super::watermark::{WatermarkReport, watermark_report};
use crate::checkpoint::CommitLog;
use crate::error::Result;
use crate::plan::catalog::{Role, Table};

impl Pipeline {
    /// The flow of tables.
    pub fn graph(&self) -> TableGraph {
        let format_of = |name: &str| {
            let (table, _) = self.tables.program.tables.get(&name.to_lowercase())?;
            Some(self.tables.format_of(table))
        };
        TableGraph::of(&self.tables.program, &self.flows(), format_of)
    }

    /// A table of the program: its columns, and what it can be opened as.
    pub fn table(&self, name: &str) -> Result<Option<Arc<dyn Table>>> {
        let is_there = self.tables.program.tables.contains_key(&name.to_lowercase());
        is_there.then(|| self.tables.table(name)).transpose()
    }

    /// Looks at everything a run would open, and says what it would do. Changes nothing.
    pub fn dry_run(&self) -> Vec<FlowOutlook> {
        self.flows.iter().map(|flow| self.outlook(flow)).collect()
    }

    fn outlook(&self, flow: &PlannedFlow) -> FlowOutlook {
        let description = &flow.description;
        let sources = description.sources.iter().map(|name| (name, Role::Source));
        let statics = description.static_tables.iter().map(|name| (name, Role::Static));
        let target = description.target_table.iter().map(|name| (name, Role::Sink));
        let tables = sources.chain(statics).chain(target).map(|(name, role)| self.table_outlook(name, role)).collect();
        let checkpoint = match &flow.work {
            Work::Whole(_) => None,
            Work::Stream(spec) => Some(checkpoint_outlook(spec)),
        };
        FlowOutlook { flow: description.name.clone(), upkeep: description.upkeep.clone(), tables, checkpoint }
    }

    fn table_outlook(&self, name: &str, role: Role) -> TableOutlook {
        let known = self.tables.program.tables.get(&name.to_lowercase());
        let format = known.map(|(table, _)| self.tables.format_of(table)).unwrap_or_default();
        let found = self.tables.table(name).and_then(|table| table.probe(role));
        let is_filled_here = self.flows.iter().any(|flow| flow.target_key == Some(name.to_lowercase()));
        let found = match found {
            // What a flow of the program writes is there once that has run.
            Err(_) if role != Role::Sink && is_filled_here => Ok(Some("nothing was written yet".to_owned())),
            found => found,
        };
        TableOutlook { table: name.to_owned(), format, role, found }
    }

    /// What decides the watermark of a flow, as its checkpoint has it; none for a flow without a watermark, or one that
    /// has not committed a batch.
    pub fn watermark_report(&self, flow: &str) -> Result<Option<WatermarkReport>> {
        let found = self.flows.iter().find(|known| known.description.name.eq_ignore_ascii_case(flow));
        let Some(PlannedFlow { description, work: Work::Stream(spec), .. }) = found else { return Ok(None) };
        let Some((_, commit)) = CommitLog::open(&spec.checkpoint)?.latest()? else { return Ok(None) };
        if spec.plan.watermarks.is_empty() {
            return Ok(None);
        }
        let names = spec.plan.source_names();
        let source_of = |index: usize| names.get(index).cloned().unwrap_or_default();
        let (specs, saved) = (&spec.plan.watermarks, &commit.watermarks);
        let watermark_ms = commit.next_batch_watermark_ms;
        Ok(Some(watermark_report(&description.name, specs, saved, watermark_ms, source_of)))
    }
}
