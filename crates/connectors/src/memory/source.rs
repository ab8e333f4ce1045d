//! A table in memory as a stream of the batches that were appended to it, and as it is now.

use arrow::array::RecordBatch;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{Offset, OffsetRange, PartitionReader, ReadReport, Source, Unread};

use super::store::{MemoryStore, Part};

/// The stream. An offset counts the batches before it.
pub(super) struct MemorySource {
    store: MemoryStore,
    name: String,
    projection: Vec<usize>,
}

impl MemorySource {
    pub(super) fn new(store: &MemoryStore, name: &str, projection: Vec<usize>) -> Self {
        Self { store: store.clone(), name: name.to_owned(), projection }
    }

    fn parts(&self) -> Result<Vec<Part>> {
        let (parts, rewritten_by) =
            self.store.with(&self.name, |stored| (stored.parts.clone(), stored.rewritten_by.clone()));
        match rewritten_by {
            None => Ok(parts),
            Some((query, mode)) => Err(EngineError::config(format!(
                "table {} (USING memory) is rewritten by query '{query}' in output mode {mode}, so it cannot be read as \
                 a stream",
                self.name
            ))
            .help("read it without STREAM, or let the query append")),
        }
    }
}

fn position(offset: &Offset) -> usize {
    offset.0.as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or(0)
}

fn offset(at: usize) -> Offset {
    Offset(at.into())
}

impl Source for MemorySource {
    fn description(&self) -> String {
        format!("MemorySource[{}]", self.name)
    }

    fn initial_offset(&mut self) -> Result<Offset> {
        Ok(offset(0))
    }

    fn latest_offset(&mut self) -> Result<Offset> {
        Ok(offset(self.parts()?.len()))
    }

    fn plan_batch(&mut self, _start: &Offset, until: Option<&Offset>) -> Result<Offset> {
        match until {
            Some(until) => Ok(until.clone()),
            None => self.latest_offset(),
        }
    }

    fn read(&mut self, range: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>> {
        let parts = self.parts()?;
        let wanted = parts.get(position(&range.start)..position(&range.end)).ok_or_else(|| {
            EngineError::data(format!(
                "table {} (USING memory) has the batches 0 to {}, expected {} to {}: its rows were lost with the process \
                 that had them",
                self.name,
                parts.len(),
                range.start,
                range.end
            ))
            .help("start over with another --storage; keep rows that must outlive a process in a table of files")
        })?;
        let mut readers: Vec<MemoryReader> = Vec::new();
        for part in wanted {
            let rows = part.rows.project(&self.projection)?;
            match readers.iter_mut().find(|reader| reader.partition == part.partition) {
                Some(reader) => reader.batches.push(rows),
                None => readers.push(MemoryReader::new(&part.partition, vec![rows])),
            }
        }
        Ok(readers.into_iter().map(MemoryReader::boxed).collect())
    }

    fn unread(&mut self, from: &Offset) -> Result<Unread> {
        let mut names: Vec<String> = Vec::new();
        for part in self.parts()?.into_iter().skip(position(from)) {
            if !names.contains(&part.partition) {
                names.push(part.partition);
            }
        }
        Ok(Unread { partitions: names, backlog: None })
    }
}

/// A reader of a table as it is now.
pub(super) fn all_rows(store: &MemoryStore, name: &str, projection: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>> {
    let rows = store.rows(name);
    let batches = rows.iter().map(|rows| rows.project(projection)).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![MemoryReader::new("memory", batches).boxed()])
}

struct MemoryReader {
    partition: String,
    batches: Vec<RecordBatch>,
    next: usize,
    report: ReadReport,
}

impl MemoryReader {
    fn new(partition: &str, batches: Vec<RecordBatch>) -> Self {
        Self { partition: partition.to_owned(), batches, next: 0, report: ReadReport::default() }
    }

    fn boxed(self) -> Box<dyn PartitionReader> {
        Box::new(self)
    }
}

impl PartitionReader for MemoryReader {
    fn partition(&self) -> &str {
        &self.partition
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.batches.get(self.next) else { return Ok(None) };
        self.next += 1;
        self.report.records += batch.num_rows() as u64;
        Ok(Some(batch.clone()))
    }

    fn report(&self) -> ReadReport {
        self.report
    }
}
