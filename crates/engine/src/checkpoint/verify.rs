//! Every file of a checkpoint read as a restart would read it, and what a restart could do with them.
//!
//! Damage is collected, not thrown: a checkpoint with one bad file may still go on, and whoever restores it from a
//! backup wants to know of all of them. What belongs to the sources (`sources/`) is theirs and not read here.

use std::collections::BTreeSet;

use serde::Serialize;

use super::inspect::{metadata_of, read_entry};
use super::log::LogEntry;
use super::run::runs;
use super::{CheckpointDir, CommitLogEntry, DeadLetters, Facts, Metadata, OffsetLogEntry, STATE, plan_recovery, text};
use crate::error::{EngineError, Result};
use crate::sink::{BatchId, SinkToken};
use crate::state::{StateVersions, inspect as state};

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The object and what was found.
    pub found: String,
    /// The way out.
    pub help: String,
}

/// What reading everything came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Where the checkpoint is.
    pub location: String,
    /// The query's name; empty where that cannot be read.
    pub query: String,
    /// Files read.
    pub files: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// The committed batches whose state can be restored, oldest first; for a query without state, all of them.
    pub restorable: Vec<BatchId>,
    /// What the next start does, as far as the checkpoint alone tells: the sink is asked, too.
    pub next_start: String,
}

/// Reads a checkpoint to its last byte.
pub(super) struct Verifier<'a> {
    checkpoint: &'a CheckpointDir,
    files: u64,
    size_bytes: u64,
    findings: Vec<Finding>,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(checkpoint: &'a CheckpointDir) -> Self {
        Self { checkpoint, files: 0, size_bytes: 0, findings: Vec::new() }
    }

    pub(super) fn run(mut self) -> Result<Verification> {
        let metadata = match metadata_of(self.checkpoint) {
            Ok(metadata) => Some(metadata),
            // Nothing at all is no damage, it is the wrong place.
            Err(error @ EngineError::Config(_)) => return Err(error),
            Err(error) => {
                self.note(error)?;
                None
            }
        };
        self.files += 1;
        let offsets = self.log::<OffsetLogEntry>()?;
        let commits = self.log::<CommitLogEntry>()?;
        let whole_state = self.state()?;
        self.dead_letters()?;
        self.runs()?;
        let is_stateful = metadata.as_ref().is_none_or(|metadata| !metadata.operators.is_empty());
        let restorable: Vec<BatchId> = commits
            .whole
            .iter()
            .filter(|batch| offsets.whole.contains(batch))
            .filter(|batch| !is_stateful || whole_state.restore_path(**batch).is_ok())
            .copied()
            .collect();
        let next_start = self.next_start(metadata.as_ref(), &offsets, &commits, &whole_state)?;
        Ok(Verification {
            location: self.checkpoint.location().to_owned(),
            query: metadata.map(|metadata| metadata.query_name).unwrap_or_default(),
            files: self.files,
            size_bytes: self.size_bytes,
            findings: self.findings,
            restorable,
            next_start,
        })
    }

    /// Damage is noted; a store that does not answer ends the check, because it says nothing about the files.
    fn note(&mut self, error: EngineError) -> Result<()> {
        if !matches!(error, EngineError::Data(_)) {
            return Err(error);
        }
        let help = error.next_step().unwrap_or("restore the checkpoint from a backup").to_owned();
        self.findings.push(Finding { found: error.to_string(), help });
        Ok(())
    }

    /// Reads a log; a missing number and a foreign name are damage, as they are when it is opened.
    fn log<T: LogEntry>(&mut self) -> Result<Log> {
        let mut log = Log::default();
        let before = self.checkpoint.store().list(T::FOLDER)?;
        for entry in &before {
            self.files += 1;
            self.size_bytes += entry.size_bytes;
            let Ok(batch) = entry.name.parse::<BatchId>() else {
                let address = self.checkpoint.store().address(&format!("{}/{}", T::FOLDER, entry.name));
                let found = format!("{address} is not a file of this log, expected a batch id as its name");
                self.note(EngineError::data(found).help("move it out of the checkpoint"))?;
                continue;
            };
            match read_entry::<T>(self.checkpoint, batch) {
                // Retention removes files while they are read.
                Ok(None) => {}
                Ok(Some(_)) => {
                    log.whole.insert(batch);
                    log.all.insert(batch);
                }
                Err(error) => {
                    log.all.insert(batch);
                    self.note(error)?;
                }
            }
        }
        let all: Vec<BatchId> = log.all.iter().copied().collect();
        for pair in all.windows(2).filter(|pair| pair[1] != pair[0] + 1) {
            let address = self.checkpoint.store().address(&format!("{}/{}", T::FOLDER, pair[0] + 1));
            self.note(text::damaged(&address, &format!("it is missing, but {}/{} is there", T::FOLDER, pair[1])))?;
        }
        Ok(log)
    }

    /// Reads all state; gives the versions that are whole.
    fn state(&mut self) -> Result<StateVersions> {
        let mut whole = StateVersions::read(self.checkpoint)?;
        let (changelogs, snapshots) = (whole.changelogs.clone(), whole.snapshots.clone());
        for (batch, size_bytes) in changelogs {
            let error = state::read_changelog(self.checkpoint, batch).err();
            self.state_file(&format!("{batch}.changelog"), size_bytes, error.into_iter().collect(), || {
                whole.changelogs.remove(&batch);
            })?;
        }
        let mut checker = state::SnapshotChecker::default();
        for (batch, size_bytes) in snapshots {
            let errors = checker.check(self.checkpoint, batch);
            self.state_file(&format!("{batch}.snapshot"), size_bytes, errors, || {
                whole.snapshots.remove(&batch);
            })?;
        }
        self.files += checker.files;
        self.size_bytes += checker.size_bytes;
        Ok(whole)
    }

    fn state_file(
        &mut self,
        name: &str,
        size_bytes: u64,
        errors: Vec<EngineError>,
        is_broken: impl FnOnce(),
    ) -> Result<()> {
        if errors.is_empty() {
            self.files += 1;
            self.size_bytes += size_bytes;
            return Ok(());
        }
        is_broken();
        let is_there = self.checkpoint.store().list(STATE)?.iter().any(|entry| entry.name == name);
        if is_there {
            self.files += 1;
            self.size_bytes += size_bytes;
            errors.into_iter().try_for_each(|error| self.note(error))?;
        }
        Ok(())
    }

    fn dead_letters(&mut self) -> Result<()> {
        // Opening reads the newest files; one of those that is damaged is found again below, by its own name.
        let letters = match DeadLetters::open(self.checkpoint) {
            Ok(letters) => letters,
            Err(error) => return self.note(error),
        };
        for batch in letters.batches()? {
            self.files += 1;
            if let Err(error) = letters.read(batch, |_| ()) {
                self.note(error)?;
            }
        }
        for entry in self.checkpoint.store().list(super::DEAD_LETTERS)? {
            self.size_bytes += entry.size_bytes;
        }
        Ok(())
    }

    fn runs(&mut self) -> Result<()> {
        for (_, run) in runs(self.checkpoint.store())? {
            self.files += 1;
            if let Err(error) = run {
                self.note(error)?;
            }
        }
        Ok(())
    }

    /// What recovery would decide over the files that are whole.
    fn next_start(
        &mut self,
        metadata: Option<&Metadata>,
        offsets: &Log,
        commits: &Log,
        whole_state: &StateVersions,
    ) -> Result<String> {
        let Some(metadata) = metadata else { return Ok("is refused: the metadata cannot be read".to_owned()) };
        let needed = offsets.all.last().into_iter().chain(commits.all.last());
        let is_broken = |batch: &BatchId| {
            [offsets, commits].iter().any(|log| log.all.contains(batch) && !log.whole.contains(batch))
        };
        if let Some(batch) = needed.copied().find(is_broken) {
            return Ok(format!("is refused: the logs of batch {batch} cannot be read"));
        }
        let facts = Facts {
            last_offsets: offsets.all.last().copied(),
            last_commit: commits.all.last().copied(),
            sink: SinkToken::Unsupported,
            state: (!metadata.operators.is_empty()).then(|| whole_state.clone()),
        };
        match plan_recovery(&facts) {
            Ok(plan) => Ok(plan.describe()),
            Err(error) => {
                let what = format!("is refused: {error}");
                // Files that are damaged have been named; here is what is wrong although every file is whole.
                if self.findings.is_empty() {
                    self.note(error.explain(&metadata.query_name, self.checkpoint.location()))?;
                }
                Ok(what)
            }
        }
    }
}

/// The entries of a log.
#[derive(Debug, Default)]
struct Log {
    all: BTreeSet<BatchId>,
    whole: BTreeSet<BatchId>,
}
