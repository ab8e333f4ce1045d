//! What an opened pipeline can tell without being started.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::dry_run::{FlowOutlook, FolderOutlook, TableOutlook, checkpoint_outlook, positions};
use super::graph::TableGraph;
use super::opening::sink_request;
use super::pipeline::{Pipeline, PlannedFlow, Work};
use super::watermark::{WatermarkReport, watermark_report};
use crate::checkpoint::location::Location;
use crate::checkpoint::{CommitLog, Metadata};
use crate::error::Result;
use crate::plan::catalog::{Role, Table};
use crate::source::Offset;
use crate::writable::refuse_unwritable;

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

    /// Whether the folders that a run writes to could be written to. What an object store allows shows when it is written.
    pub fn folders(&self) -> Vec<FolderOutlook> {
        let mut folders = vec![self.storage.outlook()];
        if let Some(location) = &self.settings.checkpoints.location
            && let Ok(Location::Local(path)) = Location::parse(location)
        {
            let help = "choose a place that can be written to with --checkpoints";
            let found = folder_found("the place of the checkpoints", &path, help);
            folders.push(FolderOutlook { what: "checkpoints", location: location.clone(), found });
        }
        folders
    }

    fn outlook(&self, flow: &PlannedFlow) -> FlowOutlook {
        let description = &flow.description;
        let positions = match &flow.work {
            Work::Whole(_) => Vec::new(),
            // One that cannot be read is told with the checkpoint.
            Work::Stream(spec) => positions(spec).unwrap_or_default(),
        };
        let sources = description.sources.iter().map(|name| {
            let own = positions.iter().filter(|(table, _)| table.eq_ignore_ascii_case(name));
            self.table_outlook(name, Role::Source, |table| probe_source(table, own.map(|(_, position)| position)))
        });
        let statics = description.static_tables.iter();
        let statics = statics.map(|name| self.table_outlook(name, Role::Static, |table| table.probe(Role::Static)));
        let request = match &flow.work {
            Work::Whole(whole) => whole.sink_request(SchemaRef::clone(&description.columns), &self.storage),
            Work::Stream(spec) => {
                let metadata = Metadata::read(&spec.checkpoint).ok().flatten();
                sink_request(spec, metadata.as_ref().map_or("", |metadata| &metadata.id))
            }
        };
        let target = description.target_table.iter();
        let target = target.map(|name| self.table_outlook(name, Role::Sink, |table| table.probe_sink(&request)));
        let tables = sources.chain(statics).chain(target).collect();
        let checkpoint = match &flow.work {
            Work::Whole(_) => None,
            Work::Stream(spec) => Some(checkpoint_outlook(spec)),
        };
        FlowOutlook { flow: description.name.clone(), upkeep: description.upkeep.clone(), tables, checkpoint }
    }

    fn table_outlook(
        &self,
        name: &str,
        role: Role,
        probe: impl FnOnce(&dyn Table) -> Result<Option<String>>,
    ) -> TableOutlook {
        let known = self.tables.program.tables.get(&name.to_lowercase());
        let format = known.map(|(table, _)| self.tables.format_of(table)).unwrap_or_default();
        let is_filled_here = self.flows.iter().any(|flow| flow.target_key == Some(name.to_lowercase()));
        let found = self.tables.table(name).and_then(|table| match probe(table.as_ref()) {
            // What a flow of the program writes is there once that has run.
            Err(_) if role != Role::Sink && is_filled_here && table.probe(role).is_err() => {
                Ok(Some("nothing was written yet".to_owned()))
            }
            found => found,
        });
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

/// What is there of a source, and what it says of the positions that its query goes on from.
fn probe_source<'a>(table: &dyn Table, positions: impl Iterator<Item = &'a Offset>) -> Result<Option<String>> {
    let mut found: Vec<String> = table.probe(Role::Source)?.into_iter().collect();
    for position in positions {
        found.extend(table.probe_position(position)?.filter(|change| !found.contains(change)));
    }
    Ok((!found.is_empty()).then(|| found.join("; ")))
}

/// Whether a folder could be written to, in a few words.
pub(super) fn folder_found(object: &str, folder: &Path, help: &str) -> Result<String> {
    refuse_unwritable(object, folder, help)?;
    Ok(if folder.exists() { "can be written to" } else { "will be made" }.to_owned())
}
