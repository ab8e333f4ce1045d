//! A Delta table as a stream: the rows it has, then the files each commit adds.
//!
//! ```text
//!   {"reservoirVersion":v,"index":i,"isStartingVersion":true}    file i of the snapshot v is the next
//!   {"reservoirVersion":v,"index":i,"isStartingVersion":false}   file i that commit v added is the next
//! ```
//!
//! The names are Delta's; the index is the first file not read. Files of a snapshot go in the order of their time and
//! path. A commit that removes rows cannot be told as new rows: it is an error, or with `ignoreDeletes` (whole files
//! removed), `ignoreChanges` (rewritten files come again) or `skipChangeCommits` left out, as in Delta. Columns that a
//! later version adds are not seen before the query is changed.
//!
//! A table that another query of the pipeline has yet to write has no version: the stream waits at the start of
//! version 0. Once it was past that, a table that is not there is gone, which is an error.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{Offset, OffsetRange, PartitionReader, ReadReport, Source};
use serde_json::{Value, json};

use super::log::{DataFile, DeltaLog, data_file};
use super::merge::DataReader;
use super::{DeltaOptions, Starting};

/// A position: the first file not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    version: u64,
    index: usize,
    starting: bool,
}

/// Where a table begins that has no version yet.
const BEGINNING: Position = Position { version: 0, index: 0, starting: false };

/// The stream.
pub(super) struct DeltaSource {
    log: DeltaLog,
    options: DeltaOptions,
    schema: SchemaRef,
    partition_columns: Vec<String>,
    /// The files of the version that was looked at last.
    cached: Option<(u64, bool, Vec<DataFile>)>,
}

impl DeltaSource {
    /// The stream of a table; of one that is not there yet, with the columns and partition columns it will have.
    pub(super) fn open(options: DeltaOptions, columns: (&Schema, &[String]), projection: &[usize]) -> Result<Self> {
        let log = DeltaLog::new(&options.root);
        let snapshot = log.snapshot(None)?;
        let partition_columns = snapshot.map_or_else(|| columns.1.to_vec(), |snapshot| snapshot.partition_columns);
        let schema = Arc::new(columns.0.project(projection)?);
        Ok(Self { log, options, schema, partition_columns, cached: None })
    }

    fn gone(&self) -> EngineError {
        EngineError::data(format!("the Delta table '{}' is gone", self.log.root().display()))
            .help("restore the table, or start with a new checkpoint")
    }

    /// Behind the newest version; the beginning, while there is none.
    fn end(&self) -> Result<Position> {
        let latest = self.log.latest_version()?;
        Ok(latest.map_or(BEGINNING, |latest| Position { version: latest + 1, ..BEGINNING }))
    }

    /// The files a position counts.
    fn files(&mut self, version: u64, starting: bool) -> Result<&[DataFile]> {
        let known = self.cached.as_ref().is_some_and(|(v, s, _)| (*v, *s) == (version, starting));
        if !known {
            let files = if starting { self.snapshot_files(version)? } else { self.added_files(version)? };
            self.cached = Some((version, starting, files));
        }
        Ok(self.cached.as_ref().map_or(&[], |(_, _, files)| files))
    }

    fn snapshot_files(&self, version: u64) -> Result<Vec<DataFile>> {
        let mut files = self.log.snapshot(Some(version))?.map(|snapshot| snapshot.files).unwrap_or_default();
        files.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
        Ok(files)
    }

    fn added_files(&self, version: u64) -> Result<Vec<DataFile>> {
        let actions = self.log.actions(version)?;
        let changes_data = |action: &Value| action.get("dataChange").and_then(Value::as_bool).unwrap_or(true);
        let adds: Vec<&Value> =
            actions.iter().filter_map(|action| action.get("add")).filter(|add| changes_data(add)).collect();
        let removes = actions.iter().filter_map(|action| action.get("remove")).any(changes_data);
        if removes && self.options.skip_change_commits {
            return Ok(Vec::new());
        }
        if removes && !self.options.ignore_changes && !(adds.is_empty() && self.options.ignore_deletes) {
            return Err(self.refused(version, adds.is_empty()));
        }
        if adds.iter().any(|add| add.get("deletionVector").is_some_and(|vector| !vector.is_null())) {
            return Err(EngineError::config(format!(
                "version {version} of the Delta table '{}' uses deletion vectors, which Highwater cannot read",
                self.log.root().display()
            ))
            .help("unset delta.enableDeletionVectors, or set 'skipChangeCommits' = 'true'"));
        }
        Ok(adds.into_iter().filter_map(data_file).collect())
    }

    fn refused(&self, version: u64, only_deletes: bool) -> EngineError {
        let (what, option) = match only_deletes {
            true => ("deletes rows", "'ignoreDeletes' or 'skipChangeCommits'"),
            false => ("changes rows", "'skipChangeCommits', or 'ignoreChanges' to read the rewritten files again"),
        };
        EngineError::data(format!(
            "version {version} of the Delta table '{}' {what}, expected commits that only add them",
            self.log.root().display()
        ))
        .help(format!("set {option}, or start with a new checkpoint"))
    }

    fn range(&mut self, range: &OffsetRange) -> Result<Vec<DataFile>> {
        let (mut at, end) = (position(&range.start)?, position(&range.end)?);
        let mut files = Vec::new();
        while (at.version, at.index) < (end.version, end.index) {
            let of_version = self.files(at.version, at.starting)?;
            let until = if at.version == end.version { end.index } else { of_version.len() };
            files.extend(of_version.iter().take(until).skip(at.index).cloned());
            at = if at.version == end.version {
                end
            } else {
                Position { version: at.version + 1, index: 0, starting: false }
            };
        }
        Ok(files)
    }
}

impl Source for DeltaSource {
    fn description(&self) -> String {
        format!("DeltaSource[{}]", self.log.root().display())
    }

    fn initial_offset(&mut self) -> Result<Offset> {
        Ok(offset(match self.options.starting {
            Starting::Snapshot => match self.log.latest_version()? {
                Some(version) => Position { version, index: 0, starting: true },
                None => BEGINNING,
            },
            Starting::Latest => self.end()?,
            Starting::Version(version) => Position { version, ..BEGINNING },
        }))
    }

    fn latest_offset(&mut self) -> Result<Offset> {
        self.end().map(offset)
    }

    fn plan_batch(&mut self, start: &Offset, until: Option<&Offset>) -> Result<Offset> {
        let until = until.map(position).transpose()?;
        let (max_files, max_bytes) = (self.options.max_files_per_trigger, self.options.max_bytes_per_trigger);
        let (mut taken, mut bytes) = (0usize, 0u64);
        let mut at = position(start)?;
        let latest = match self.log.latest_version()? {
            Some(latest) => latest,
            None if at == BEGINNING => return Ok(start.clone()),
            None => return Err(self.gone()),
        };
        while at.version <= latest && until.is_none_or(|until| (at.version, at.index) < (until.version, until.index)) {
            let stop = until.filter(|until| until.version == at.version).map(|until| until.index);
            let files = self.files(at.version, at.starting)?;
            let end = stop.unwrap_or(files.len()).min(files.len());
            while at.index < end {
                let size = files[at.index].size;
                // A batch has at least one file, however large.
                if taken > 0 && (taken >= max_files || bytes.saturating_add(size) > max_bytes) {
                    return Ok(offset(at));
                }
                (taken, bytes, at.index) = (taken + 1, bytes.saturating_add(size), at.index + 1);
            }
            if stop.is_some() {
                break;
            }
            at = Position { version: at.version + 1, index: 0, starting: false };
        }
        Ok(offset(at))
    }

    fn read(&mut self, range: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>> {
        let files = self.range(range)?;
        let parallelism = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut groups: Vec<(u64, VecDeque<DataFile>)> = vec![(0, VecDeque::new()); files.len().min(parallelism)];
        for file in files {
            if let Some((size, group)) = groups.iter_mut().min_by_key(|(size, _)| *size) {
                *size += file.size.max(1);
                group.push_back(file);
            }
        }
        let reader = |(_, files)| DeltaReader {
            log: self.log.clone(),
            schema: Arc::clone(&self.schema),
            partition_columns: self.partition_columns.clone(),
            files,
            current: None,
            stretch: String::new(),
            report: ReadReport::default(),
        };
        Ok(groups.into_iter().map(reader).map(|reader| Box::new(reader) as Box<dyn PartitionReader>).collect())
    }
}

struct DeltaReader {
    log: DeltaLog,
    schema: SchemaRef,
    partition_columns: Vec<String>,
    files: VecDeque<DataFile>,
    current: Option<DataReader>,
    /// The file that the last batch came from.
    stretch: String,
    report: ReadReport,
}

impl PartitionReader for DeltaReader {
    fn partition(&self) -> &str {
        "files"
    }

    fn stretch(&self) -> &str {
        &self.stretch
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(reader) = &mut self.current
                && let Some(batch) = reader.next_batch()?
            {
                self.report.records += batch.num_rows() as u64;
                return Ok(Some(batch));
            }
            let Some(file) = self.files.pop_front() else {
                self.current = None;
                return Ok(None);
            };
            self.report.size_bytes += file.size;
            self.stretch.clone_from(&file.path);
            self.current = Some(DataReader::open(self.log.root(), &file, &self.schema, &self.partition_columns)?);
        }
    }

    fn report(&self) -> ReadReport {
        self.report
    }
}

fn offset(position: Position) -> Offset {
    Offset(json!({
        "reservoirVersion": position.version,
        "index": position.index,
        "isStartingVersion": position.starting,
    }))
}

fn position(offset: &Offset) -> Result<Position> {
    let number = |key: &str| offset.0.get(key).and_then(Value::as_u64);
    let parsed = || {
        Some(Position {
            version: number("reservoirVersion")?,
            index: usize::try_from(number("index")?).ok()?,
            starting: offset.0.get("isStartingVersion")?.as_bool()?,
        })
    };
    parsed().ok_or_else(|| {
        EngineError::data(format!(
            "the Delta source was given the offset {offset}, expected reservoirVersion, index and isStartingVersion"
        ))
        .help("the checkpoint belongs to another source: start with a new checkpoint")
    })
}
