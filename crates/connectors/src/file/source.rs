//! The file source: new files become batches, in the order of their modification time.
//!
//! ```text
//!   list ──not seen──> plan: groups within maxFilesPerTrigger / maxBytesPerTrigger ──one a batch──> SourceLog
//!   {"logOffset":N} stands for the files the log holds for N; before the first batch N is -1
//! ```
//!
//! A plan is made once and used up before the folder is listed again, so that a large backlog is listed once. Which
//! offset a group gets is durable before the engine hears of it. The source refuses to read a file twice for as long
//! as it remembers it; it forgets files older than `maxFileAge` against the newest one, and never reads those.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use highwater_engine::error::{EngineError, Result};
use highwater_engine::source::{Offset, OffsetRange, PartitionReader, Source, SourceMetadata};
use serde_json::json;

use super::durable::{self, io_error};
use super::listing::{self, InputFile};
use super::log::{FileEntry, SourceLog};
use super::options::{CleanSource, FileOptions};
use super::read::{self, ReadPlan};

/// How many files, and bytes of them, one batch reads again if the table sets no limit.
const AGAIN_FILES: usize = 1000;
const AGAIN_BYTES: u64 = 256 << 20;

/// A folder of files as a stream.
pub(crate) struct FileSource {
    plan: ReadPlan,
    options: Arc<FileOptions>,
    log: SourceLog,
    seen: HashSet<String>,
    newest_ms: i64,
    /// Groups of files that are planned and have no log offset yet.
    planned: VecDeque<Vec<InputFile>>,
    /// Up to here the files of committed offsets were cleaned.
    cleaned: Option<i64>,
}

impl FileSource {
    /// Opens the stream with its log in the query's checkpoint.
    pub(crate) fn open(plan: ReadPlan, metadata: SourceMetadata) -> Result<Self> {
        let log = SourceLog::open(metadata)?;
        let options = Arc::clone(&plan.options);
        let seen = log.entries().map(|entry| seen_key(&options, &entry.path)).collect();
        let newest_ms = log.entries().map(|entry| entry.timestamp).max().unwrap_or(i64::MIN);
        Ok(Self { plan, options, log, seen, newest_ms, planned: VecDeque::new(), cleaned: None })
    }

    /// Lists the folder if the last plan is used up, and groups what is new.
    fn fill_plan(&mut self) -> Result<()> {
        // With latestFirst each batch must look for newer files.
        if !self.planned.is_empty() && !self.options.latest_first {
            return Ok(());
        }
        let mut files = listing::list(&self.options)?;
        let forget_before = self.forget_before_ms();
        let mut taken = HashSet::new();
        files.retain(|file| {
            let key = seen_key(&self.options, &file.path);
            file.modified_ms >= forget_before && !self.seen.contains(&key) && taken.insert(key)
        });
        if self.options.latest_first {
            files.reverse();
        }
        self.planned = group(files, &self.options);
        Ok(())
    }

    /// Files changed before this moment are forgotten and ignored. Before the first batch, and with `latestFirst`
    /// under a limit, there is no such moment, as in Spark.
    fn forget_before_ms(&self) -> i64 {
        if self.newest_ms == i64::MIN || (self.options.latest_first && self.options.limited()) {
            return i64::MIN;
        }
        self.newest_ms.saturating_sub(i64::try_from(self.options.max_file_age.as_millis()).unwrap_or(i64::MAX))
    }

    fn record(&mut self, files: Vec<InputFile>) -> Result<i64> {
        let batch_id = self.log.latest() + 1;
        let entries = files
            .into_iter()
            .map(|file| FileEntry { path: file.path, timestamp: file.modified_ms, size: file.size, batch_id })
            .collect::<Vec<_>>();
        let newest = entries.iter().map(|entry| entry.timestamp).max();
        let keys: Vec<String> = entries.iter().map(|entry| seen_key(&self.options, &entry.path)).collect();
        let forget_before = self.forget_before_ms();
        let id = self.log.append(entries, forget_before)?;
        self.seen.extend(keys);
        self.newest_ms = self.newest_ms.max(newest.unwrap_or(i64::MIN));
        Ok(id)
    }

    /// Deletes or archives the files of offsets up to `end`. Best effort: a file that stays is only space.
    fn clean(&mut self, end: i64) -> Result<()> {
        if self.options.clean_source == CleanSource::Off {
            return Ok(());
        }
        let from = self.cleaned.unwrap_or(end - 1);
        for entry in self.log.range(from, end)? {
            let path = Path::new(&entry.path);
            let done = match &self.options.clean_source {
                CleanSource::Off => Ok(()),
                CleanSource::Delete => durable::remove_file(path),
                CleanSource::Archive(folder) => archive(path, Path::new(folder)),
            };
            if let Err(error) = done {
                tracing::warn!(%error, file = entry.path, "a source file could not be cleaned up and stays");
            }
        }
        self.cleaned = Some(end);
        Ok(())
    }
}

impl Source for FileSource {
    fn description(&self) -> String {
        format!("FileStreamSource[{}]", self.options.path)
    }

    fn initial_offset(&mut self) -> Result<Offset> {
        Ok(offset(-1))
    }

    fn latest_offset(&mut self) -> Result<Offset> {
        self.fill_plan()?;
        Ok(offset(self.log.latest() + i64::try_from(self.planned.len()).unwrap_or(i64::MAX)))
    }

    fn plan_batch(&mut self, start: &Offset, until: Option<&Offset>) -> Result<Offset> {
        let start_id = log_offset(start)?;
        let until_id = until.map(log_offset).transpose()?;
        if until_id.is_some_and(|until| until <= start_id) {
            return Ok(start.clone());
        }
        // Planned before a crash that came ahead of the engine's offset log: the same files again.
        if start_id < self.log.latest() {
            return Ok(offset(start_id + 1));
        }
        if start_id > self.log.latest() {
            self.log.range(start_id, start_id)?;
        }
        self.fill_plan()?;
        match self.planned.pop_front() {
            None => Ok(start.clone()),
            Some(files) => Ok(offset(self.record(files)?)),
        }
    }

    /// Groups that were planned are read again several at a time, where they are small.
    fn plan_again(&mut self, start: &Offset, until: &Offset, _: u64) -> Result<Offset> {
        let (start, until) = (log_offset(start)?, log_offset(until)?);
        let max_files = self.options.max_files_per_trigger.unwrap_or(AGAIN_FILES);
        let max_bytes = self.options.max_bytes_per_trigger.unwrap_or(AGAIN_BYTES);
        let (mut end, mut files, mut bytes) = (start, 0, 0u64);
        for group in self.log.range(start, until)?.chunk_by(|a, b| a.batch_id == b.batch_id) {
            let size = group.iter().map(|entry| entry.size).sum();
            if end > start && (files + group.len() > max_files || bytes.saturating_add(size) > max_bytes) {
                return Ok(offset(end));
            }
            (end, files, bytes) = (group[0].batch_id, files + group.len(), bytes.saturating_add(size));
        }
        Ok(offset(until))
    }

    fn amount(&mut self, range: &OffsetRange) -> Result<Option<u64>> {
        Ok(u64::try_from(log_offset(&range.end)? - log_offset(&range.start)?).ok())
    }

    fn read(&mut self, range: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>> {
        let entries = self.log.range(log_offset(&range.start)?, log_offset(&range.end)?)?;
        let files = entries
            .into_iter()
            .map(|entry| InputFile { path: entry.path, modified_ms: entry.timestamp, size: entry.size })
            .collect();
        let parallelism = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(read::readers(&self.plan, files, parallelism))
    }

    fn commit(&mut self, end: &Offset) -> Result<()> {
        let end = log_offset(end)?;
        if end < 0 {
            return Ok(());
        }
        self.clean(end)?;
        self.log.commit(end)
    }
}

fn offset(id: i64) -> Offset {
    Offset(json!({ "logOffset": id }))
}

fn log_offset(offset: &Offset) -> Result<i64> {
    offset.0.get("logOffset").and_then(serde_json::Value::as_i64).ok_or_else(|| {
        EngineError::data(format!("the file source was given the offset {offset}, expected {{\"logOffset\":N}}"))
            .help("the checkpoint belongs to another source: start with a new checkpoint")
    })
}

/// What makes two files the same: the path, or with `fileNameOnly` the name.
fn seen_key(options: &FileOptions, path: &str) -> String {
    match options.file_name_only {
        true => listing::file_name(path).to_owned(),
        false => path.to_owned(),
    }
}

/// Cuts a list of files into batches. A batch has at least one file, however large.
fn group(files: Vec<InputFile>, options: &FileOptions) -> VecDeque<Vec<InputFile>> {
    let max_files = options.max_files_per_trigger.unwrap_or(usize::MAX);
    let max_bytes = options.max_bytes_per_trigger.unwrap_or(u64::MAX);
    let mut groups: VecDeque<Vec<InputFile>> = VecDeque::new();
    let mut bytes = 0u64;
    for file in files {
        let fits =
            groups.back().is_some_and(|group| group.len() < max_files && bytes.saturating_add(file.size) <= max_bytes);
        if !fits {
            groups.push_back(Vec::new());
            bytes = 0;
        }
        bytes = bytes.saturating_add(file.size);
        if let Some(group) = groups.back_mut() {
            group.push(file);
        }
    }
    groups
}

/// Moves a file below the archive folder under its full path, as Spark does.
fn archive(path: &Path, folder: &Path) -> Result<()> {
    let target = folder.join(path.strip_prefix("/").unwrap_or(path));
    if let Some(parent) = target.parent() {
        durable::create_dir(parent)?;
    }
    match fs::rename(path, &target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("archive", path, error)),
        Ok(()) => Ok(()),
    }
}
