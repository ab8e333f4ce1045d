//! Who may write to a checkpoint: the newest run, and on one machine only one process.
//!
//! ```text
//!   run/lock     held by the operating system while the process lives; says who holds it (a crash releases it)
//!   run/1        v1 · {"runId":..,"pid":..,"startedMs":..,"query":..} · crc32c     made by create-if-absent
//!   run/2        a higher number ends the right of the lower ones to write
//! ```
//!
//! The lock gives two processes of one machine a clear answer at once. The numbers hold where locks do not: a process
//! that was stopped for an hour, or one on another machine, finds a higher number before its next write and stops.
//! Old run files are removed oldest first, so a run is the newest while its own file is there and the next number's is
//! not: two questions, whatever has become of the runs between. Where the checkpoint is in an object store, the lock
//! guards the folder the query works in. Nothing here waits or takes a lock away.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{Store, io_error};
use super::{RUN, text};
use crate::error::{EngineError, Result};

/// How many run files stay for the record.
const RUNS_KEPT: u64 = 20;

/// A run of a query: what its file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Unlike any other run's.
    pub run_id: String,
    /// The process.
    pub pid: u32,
    /// When it started, in milliseconds since 1970.
    pub started_ms: i64,
    /// The query's name.
    pub query: String,
}

/// The right to write, held until it is dropped or a newer run takes it.
pub struct RunGuard {
    store: Arc<dyn Store>,
    number: u64,
    record: RunRecord,
    /// Held, not read; none if there is nothing on this machine to guard.
    _lock: Option<File>,
}

impl RunGuard {
    /// Takes the lock and the next number. `work_dir` is locked where the store itself cannot be.
    pub(crate) fn start(store: &Arc<dyn Store>, work_dir: Option<&Path>, query: &str, started_ms: i64) -> Result<Self> {
        store.prepare_folder(RUN)?;
        let run_id = uuid::Uuid::new_v4().to_string();
        let record = RunRecord { run_id, pid: std::process::id(), started_ms, query: query.to_owned() };
        let path = store.local_path(&format!("{RUN}/lock")).or_else(|| work_dir.map(|folder| folder.join("lock")));
        let lock = path.map(|path| lock(&path, &record)).transpose()?;
        let number = take_number(&**store, &record)?;
        let mut old = run_numbers(&**store)?;
        old.retain(|old| old + RUNS_KEPT <= number);
        old.sort_unstable();
        old.into_iter().try_for_each(|old| store.delete(&file_name(old)))?;
        Ok(Self { store: Arc::clone(store), number, record, _lock: lock })
    }

    /// The run's number: higher than that of every earlier run.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What the run's file says.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Fails when a newer run owns the checkpoint. Called before every write.
    pub fn check(&self) -> Result<()> {
        let (own, next) = (file_name(self.number), file_name(self.number + 1));
        if self.store.exist(&[&own, &next])? == [true, false] {
            return Ok(());
        }
        let newest = run_numbers(&*self.store)?.into_iter().max().unwrap_or(0);
        if newest <= self.number {
            let (query, address) = (&self.record.query, self.store.address(&own));
            return Err(EngineError::config(format!(
                "query '{query}': {address}, which gives it the right to write, is gone"
            ))
            .help("somebody has removed the checkpoint while the query ran: start it again"));
        }
        let who = match read_record(&*self.store, newest) {
            Ok(record) => format!("run {newest} in process {}", record.pid),
            Err(_) => format!("run {newest}"),
        };
        Err(EngineError::config(format!(
            "query '{}' (run {}): a newer run owns this checkpoint: {who}",
            self.record.query, self.number
        ))
        .help("this run has stopped and wrote nothing more; leave the newer run alone, or stop it first"))
    }
}

impl fmt::Debug for RunGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunGuard").field("number", &self.number).field("record", &self.record).finish()
    }
}

/// The runs whose files are still there, oldest first, each with its record or with what is wrong with its file.
pub(crate) fn runs(store: &dyn Store) -> Result<Vec<(u64, Result<RunRecord>)>> {
    let mut numbers = run_numbers(store)?;
    numbers.sort_unstable();
    Ok(numbers.into_iter().map(|number| (number, read_record(store, number))).collect())
}

fn file_name(number: u64) -> String {
    format!("{RUN}/{number}")
}

fn run_numbers(store: &dyn Store) -> Result<Vec<u64>> {
    Ok(store.list(RUN)?.into_iter().filter_map(|entry| entry.name.parse().ok()).collect())
}

fn read_record(store: &dyn Store, number: u64) -> Result<RunRecord> {
    let name = file_name(number);
    let address = store.address(&name);
    let bytes = store.read(&name)?.ok_or_else(|| text::damaged(&address, "it is missing"))?;
    let lines = text::decode(&address, &bytes)?;
    let line = lines.first().map(String::as_str).unwrap_or_default();
    serde_json::from_str(line).map_err(|error| text::damaged(&address, &error.to_string()))
}

/// Create-if-absent of the number after the highest; whoever loses the race tries the next.
fn take_number(store: &dyn Store, record: &RunRecord) -> Result<u64> {
    let line = serde_json::to_string(record).map_err(|error| EngineError::internal("run file").caused_by(error))?;
    let bytes = text::encode(&[line]);
    let mut number = run_numbers(store)?.into_iter().max().unwrap_or(0) + 1;
    while !store.create(&file_name(number), &bytes)? {
        number += 1;
    }
    // A store that takes conditions and does not keep them would let two runs write.
    if store.local_path(RUN).is_none() && store.create(&file_name(number), b"not again\n")? {
        let address = store.address(&file_name(number));
        return Err(EngineError::config(format!(
            "the object store replaced {address}, expected it to refuse: it was to be created only if absent"
        ))
        .help("use a store that honours If-None-Match: * on PutObject, as Amazon S3 does"));
    }
    Ok(number)
}

/// The operating system's lock on a file, which then says who holds it.
fn lock(path: &Path, record: &RunRecord) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| io_error("create", folder, error))?;
    }
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = opened.map_err(|error| io_error("open", path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(already_running(&mut file, record)),
        Err(TryLockError::Error(error)) => return Err(io_error("lock", path, error)),
    }
    let said = serde_json::to_vec(record).map_err(|error| EngineError::internal("lock file").caused_by(error))?;
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&said));
    written.map_err(|error| io_error("write", path, error))?;
    Ok(file)
}

fn already_running(file: &mut File, wanted: &RunRecord) -> EngineError {
    let mut said = String::new();
    // The holder may be between taking the lock and writing its name: then we know no process id.
    let _ = file.read_to_string(&mut said);
    let (query, process) = match serde_json::from_str::<RunRecord>(&said) {
        Ok(holder) => (holder.query, format!("process {}", holder.pid)),
        Err(_) => (wanted.query.clone(), "another process".to_owned()),
    };
    EngineError::config(format!("query '{query}' is already running as {process}"))
        .help(format!("stop it with `highwater query stop {query}`, with its --storage, then start again"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Frozen, open, reader};
    use super::*;

    #[test]
    fn a_second_process_is_told_who_runs_the_query() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path());
        let error = reader(dir.path()).start_run("q", &Frozen).unwrap_err();
        assert_eq!(error.to_string(), format!("query 'q' is already running as process {}", std::process::id()));
        assert_eq!(
            error.next_step(),
            Some("stop it with `highwater query stop q`, with its --storage, then start again")
        );
        drop(first);
        assert_eq!(open(dir.path()).run().unwrap().number(), 2);
    }

    #[test]
    fn an_older_run_is_fenced_by_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let zombie = open(dir.path());
        assert!(zombie.writable().is_ok());
        // The lock does not reach another machine: without the file, a second run starts beside the first.
        std::fs::remove_file(dir.path().join("run/lock")).unwrap();
        let newer = open(dir.path());
        assert!(newer.writable().is_ok());
        let error = zombie.writable().unwrap_err();
        let expected =
            format!("query 'q' (run 1): a newer run owns this checkpoint: run 2 in process {}", std::process::id());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn old_run_files_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=30 {
            assert_eq!(open(dir.path()).run().unwrap().number(), number);
        }
        assert_eq!(std::fs::read_dir(dir.path().join("run")).unwrap().count() as u64, RUNS_KEPT + 1);
    }

    #[test]
    fn a_damaged_run_file_still_fences() {
        let dir = tempfile::tempdir().unwrap();
        let run = open(dir.path());
        std::fs::write(dir.path().join("run/2"), b"torn").unwrap();
        assert!(run.writable().unwrap_err().to_string().ends_with("a newer run owns this checkpoint: run 2"));
    }

    #[test]
    fn a_run_whose_successor_is_forgotten_is_still_fenced() {
        let dir = tempfile::tempdir().unwrap();
        let zombie = open(dir.path());
        for _ in 0..=RUNS_KEPT {
            std::fs::remove_file(dir.path().join("run/lock")).unwrap();
            drop(open(dir.path()));
        }
        assert!(!dir.path().join("run/2").exists(), "removed with the others");
        let error = zombie.writable().unwrap_err();
        assert!(error.to_string().contains("a newer run owns this checkpoint: run 22"), "{error}");
    }
}
