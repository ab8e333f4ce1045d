//! The storage folder of a project: what other processes find there.
//!
//! ```text
//!   storage/
//!     catalog.json          the tables, for `highwater sql` and for other programs
//!     tables/<table>/       tables without a path of their own
//!     checkpoints/<query>/  offsets, commits, state: see the checkpoint module
//!     queries/<query>.json  is it running, and its last progress
//!     queries/<query>.lock  locked by the process that runs it
//!     queries/<query>.stop  asks the query to stop; removed at its next start
//!     work/<query>/         RocksDB; emptied at each start
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::dry_run::FolderOutlook;
use super::outlook::folder_found;
use super::progress::iso_ms;
use crate::clock::Clock;
use crate::error::{EngineError, Result, nearest};
use crate::plan::catalog::TableDefinition;
use crate::plan::ddl;
use crate::progress::{ProgressListener, Restart, StreamingQueryProgress};
use crate::writable::refuse_unwritable;

/// The folders that a run makes in it.
const FOLDERS: [&str; 4] = ["tables", "checkpoints", "queries", "work"];

const CHOOSE_ANOTHER: &str = "choose a folder that can be written to with --storage";

/// A storage folder.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    root: PathBuf,
}

/// Whether a query runs, as far as its status file and its process tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum QueryState {
    /// Its process is alive.
    Running {
        /// The process. For people: another one may have its number by now, or in another container.
        pid: u32,
    },
    /// It ended, as it was told to or because there was nothing more to do.
    Stopped,
    /// Its process is gone and did not say that it ended: it was killed, or the machine went down. Never stored.
    Gone,
    /// It ended with an error.
    Failed {
        /// The error.
        error: String,
    },
}

/// A query as its status file describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredQuery {
    /// Its name.
    pub name: String,
    /// What it writes to.
    pub target: String,
    /// Whether it runs.
    #[serde(flatten)]
    pub state: QueryState,
    /// How often it was started again in its last run, after errors that might pass.
    #[serde(default)]
    pub restarts: u64,
    /// The last of these errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Since when it is started again without a batch in between, or a look that found nothing to do; ISO-8601 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarting_since: Option<String>,
    /// Its last batch.
    pub last_progress: Option<StreamingQueryProgress>,
}

/// A table in `catalog.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredTable {
    name: String,
    format: String,
    /// In Spark's DDL words.
    columns: Option<String>,
    options: std::collections::BTreeMap<String, String>,
    partition_columns: Vec<String>,
}

impl Storage {
    /// A folder that may not exist yet.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Makes the folders.
    pub(crate) fn create(&self) -> Result<()> {
        for folder in FOLDERS {
            let path = self.root.join(folder);
            fs::create_dir_all(&path).map_err(|error| {
                EngineError::unavailable(format!("storage folder '{}' cannot be made", path.display()))
                    .caused_by(error)
                    .help(CHOOSE_ANOTHER)
            })?;
        }
        Ok(())
    }

    /// Whether its folders could be made and written to.
    pub(super) fn outlook(&self) -> FolderOutlook {
        let check = || {
            let below = FOLDERS.map(|folder| self.root.join(folder));
            below.iter().try_for_each(|folder| refuse_unwritable("storage folder", folder, CHOOSE_ANOTHER))?;
            folder_found("the storage", &self.root, CHOOSE_ANOTHER)
        };
        FolderOutlook { what: "storage", location: self.root.display().to_string(), found: check() }
    }

    pub(crate) fn table_path(&self, table: &str) -> PathBuf {
        self.absolute().join("tables").join(table)
    }

    pub(crate) fn checkpoint_path(&self, query: &str) -> PathBuf {
        self.absolute().join("checkpoints").join(query)
    }

    pub(crate) fn work_path(&self, query: &str) -> PathBuf {
        self.absolute().join("work").join(query)
    }

    pub(crate) fn stop_path(&self, query: &str) -> PathBuf {
        self.root.join("queries").join(format!("{query}.stop"))
    }

    fn lock_path(&self, query: &str) -> PathBuf {
        self.root.join("queries").join(format!("{query}.lock"))
    }

    fn status_path(&self, query: &str) -> PathBuf {
        self.root.join("queries").join(format!("{query}.json"))
    }

    fn catalog_path(&self) -> PathBuf {
        self.root.join("catalog.json")
    }

    fn absolute(&self) -> PathBuf {
        std::path::absolute(&self.root).unwrap_or_else(|_| self.root.clone())
    }

    /// Adds tables to the catalog; one of the same name is replaced.
    pub(crate) fn add_tables(&self, definitions: &[TableDefinition]) -> Result<()> {
        let mut tables = self.stored_tables()?;
        for definition in definitions {
            tables.retain(|table| !table.name.eq_ignore_ascii_case(&definition.name));
            tables.push(StoredTable {
                name: definition.name.clone(),
                format: definition.format.clone(),
                columns: definition.schema.as_ref().map(|schema| ddl::schema_ddl(schema)),
                options: definition.options.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                partition_columns: definition.partition_columns.clone(),
            });
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        write_json(&self.catalog_path(), &tables)
    }

    fn stored_tables(&self) -> Result<Vec<StoredTable>> {
        let path = self.catalog_path();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                EngineError::data(format!("catalog '{}' is damaged", path.display()))
                    .caused_by(error)
                    .help("delete it: the next run writes it anew")
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => {
                Err(EngineError::unavailable(format!("catalog '{}' cannot be read", path.display())).caused_by(error))
            }
        }
    }

    /// The tables of the catalog.
    pub(crate) fn tables(&self) -> Result<Vec<TableDefinition>> {
        self.stored_tables()?.into_iter().map(StoredTable::definition).collect()
    }

    /// Writes a query's status.
    fn write_status(&self, status: &StoredQuery) -> Result<()> {
        write_json(&self.status_path(&status.name), status)
    }
}

impl StoredTable {
    fn definition(self) -> Result<TableDefinition> {
        let schema = self.columns.map(|columns| ddl::parse_schema(&columns)).transpose();
        let schema: Option<Schema> = schema.map_err(|error| {
            EngineError::data(format!("table '{}' in the catalog has columns that cannot be read", self.name))
                .caused_by(error)
        })?;
        Ok(TableDefinition {
            name: self.name,
            format: self.format,
            schema: schema.map(Into::into),
            options: self.options.into_iter().collect(),
            partition_columns: self.partition_columns,
        })
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed = |error: std::io::Error| {
        EngineError::unavailable(format!("'{}' cannot be written", path.display())).caused_by(error)
    };
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| EngineError::internal("status").caused_by(error))?;
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

/// The queries of a storage folder, by name.
pub fn stored_queries(storage: &Path) -> Result<Vec<StoredQuery>> {
    let folder = storage.join("queries");
    let storage = Storage::new(storage);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(EngineError::unavailable(format!("'{}' cannot be read", folder.display())).caused_by(error));
        }
    };
    let mut queries = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let bytes = fs::read(&path).map_err(|error| {
            EngineError::unavailable(format!("'{}' cannot be read", path.display())).caused_by(error)
        })?;
        let mut query: StoredQuery = serde_json::from_slice(&bytes).map_err(|error| {
            EngineError::data(format!("'{}' is damaged", path.display()))
                .caused_by(error)
                .help("delete it: the query's next batch writes it anew")
        })?;
        if matches!(query.state, QueryState::Running { pid } if !is_alive(&storage.lock_path(&query.name), pid)) {
            query.state = QueryState::Gone;
        }
        queries.push(query);
    }
    queries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(queries)
}

/// A checkpoint of a storage folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// The query's name.
    pub query: String,
    /// Where the checkpoint is.
    pub location: String,
}

/// The checkpoints of a storage folder, by the name of their query.
pub fn stored_checkpoints(storage: &Path) -> Result<Vec<StoredCheckpoint>> {
    let folder = Storage::new(storage).absolute().join("checkpoints");
    let failed = |error: std::io::Error| {
        EngineError::unavailable(format!("'{}' cannot be read", folder.display())).caused_by(error)
    };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut checkpoints = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            let query = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            checkpoints.push(StoredCheckpoint { query, location: path.display().to_string() });
        }
    }
    checkpoints.sort_by(|a, b| a.query.cmp(&b.query));
    Ok(checkpoints)
}

/// Asks a running query to stop after its batch.
pub fn request_stop(storage: &Path, query: &str) -> Result<()> {
    let queries = stored_queries(storage)?;
    let Some(found) = queries.iter().find(|known| known.name.eq_ignore_ascii_case(query)) else {
        let error = EngineError::config(format!("there is no query '{query}' in '{}'", storage.display()));
        return Err(match nearest(query, queries.iter().map(|known| known.name.as_str())) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None => error.help("see highwater query list"),
        });
    };
    if !matches!(found.state, QueryState::Running { .. }) {
        return Err(EngineError::config(format!("query '{}' is not running", found.name)));
    }
    let path = Storage::new(storage).stop_path(&found.name);
    fs::write(&path, b"")
        .map_err(|error| EngineError::unavailable(format!("'{}' cannot be written", path.display())).caused_by(error))
}

/// Forgets a query that has ended and will not be started again: its status, its lock, and the folder it worked in.
pub fn forget_query(storage: &Path, query: &str) -> Result<()> {
    let storage = Storage::new(storage);
    let (status, lock, work) = (storage.status_path(query), storage.lock_path(query), storage.work_path(query));
    let removed =
        [(&status, fs::remove_file(&status)), (&lock, fs::remove_file(&lock)), (&work, fs::remove_dir_all(&work))];
    for (path, removed) in removed {
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let message = format!("'{}' cannot be removed", path.display());
                return Err(EngineError::unavailable(message).caused_by(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a process runs a query: it holds the lock. Only a hint for people: what protects a checkpoint is its own lock.
fn is_alive(lock: &Path, pid: u32) -> bool {
    // Shared, so that two who ask at once do not take each other for the query.
    match File::open(lock).map_err(TryLockError::Error).and_then(|file| file.try_lock_shared()) {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        // Of a version without locks, or on a file system without them.
        Err(TryLockError::Error(_)) => !cfg!(target_os = "linux") || Path::new(&format!("/proc/{pid}")).exists(),
    }
}

/// How often a lock is tried for that somebody who asks for it holds for a moment.
const LOCK_TRIES: usize = 100;

/// Who may write the status of a query.
#[derive(Debug)]
enum Hold {
    /// This process, as long as it keeps the file.
    Ours(#[expect(dead_code, reason = "held, not read")] File),
    /// Another process, which runs the query.
    Elsewhere,
    /// Whoever writes last: the file system has no locks.
    Nobodys,
}

impl Hold {
    fn take(path: &Path) -> Self {
        let Ok(file) = OpenOptions::new().create(true).truncate(false).write(true).open(path) else {
            return Self::Nobodys;
        };
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Self::Ours(file),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                Err(TryLockError::Error(_)) => return Self::Nobodys,
            }
        }
        Self::Elsewhere
    }
}

/// Keeps the status file of a query up to date.
pub(crate) struct StatusWriter {
    storage: Storage,
    clock: Arc<dyn Clock>,
    status: Mutex<StoredQuery>,
    hold: Mutex<Hold>,
}

impl StatusWriter {
    /// Says that the query runs, and takes back an old request to stop. Says nothing if it runs in another process, which
    /// its checkpoint will refuse.
    pub(crate) fn start(storage: &Storage, clock: Arc<dyn Clock>, name: &str, target: &str) -> Result<Self> {
        let known = stored_queries(&storage.root)?.into_iter().find(|query| query.name == name);
        let status = StoredQuery {
            name: name.to_owned(),
            target: target.to_owned(),
            state: QueryState::Running { pid: std::process::id() },
            restarts: 0,
            last_error: None,
            restarting_since: None,
            last_progress: known.and_then(|query| query.last_progress),
        };
        // Ahead of the status, so that nobody finds one without the other.
        let hold = Hold::take(&storage.lock_path(name));
        if !matches!(hold, Hold::Elsewhere) {
            storage.write_status(&status)?;
            let stop = storage.stop_path(name);
            if stop.exists() {
                fs::remove_file(&stop).map_err(|error| {
                    EngineError::unavailable(format!("'{}' cannot be removed", stop.display())).caused_by(error)
                })?;
            }
        }
        Ok(Self { storage: storage.clone(), clock, status: Mutex::new(status), hold: Mutex::new(hold) })
    }

    fn update(&self, change: impl FnOnce(&mut StoredQuery)) {
        let mut status = self.status.lock();
        change(&mut status);
        let mut hold = self.hold.lock();
        // The process that had it may have ended meanwhile.
        if matches!(*hold, Hold::Elsewhere) {
            *hold = Hold::take(&self.storage.lock_path(&status.name));
        }
        if matches!(*hold, Hold::Elsewhere) {
            return;
        }
        // A status that cannot be written must not stop the query: its results do not depend on it.
        if let Err(error) = self.storage.write_status(&status) {
            tracing::warn!(query = status.name, %error, "the status file is out of date");
        }
    }
}

impl ProgressListener for StatusWriter {
    fn on_progress(&self, progress: &StreamingQueryProgress) {
        self.update(|status| {
            status.restarting_since = None;
            status.last_progress = Some(progress.clone());
        });
    }

    fn on_idle(&self) {
        // Most looks that find nothing change nothing.
        if self.status.lock().restarting_since.is_some() {
            self.update(|status| status.restarting_since = None);
        }
    }

    fn on_restart(&self, _: &str, restart: &Restart) {
        self.update(|status| {
            status.restarts += 1;
            status.last_error = Some(restart.error.clone());
            status.restarting_since.get_or_insert_with(|| iso_ms(self.clock.now_ms()));
        });
    }

    fn on_terminated(&self, _: &str, error: Option<&str>) {
        self.update(|status| {
            status.restarting_since = None;
            status.state = match error {
                Some(error) => QueryState::Failed { error: error.to_owned() },
                None => QueryState::Stopped,
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(ManualClock::new(0))
    }

    fn state(storage: &Storage) -> QueryState {
        stored_queries(&storage.root).expect("queries").remove(0).state
    }

    #[test]
    fn a_query_runs_while_its_process_holds_its_lock_whoever_has_its_number_then() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::new(folder.path());
        storage.create().expect("folders");
        let running = QueryState::Running { pid: std::process::id() };
        let writer = StatusWriter::start(&storage, clock(), "q", "a table").expect("a status");
        assert_eq!(state(&storage), running);
        // A second run is refused by the checkpoint, which is not the end of the first.
        let second = StatusWriter::start(&storage, clock(), "q", "a table").expect("a status");
        second.on_terminated("q", Some("it runs already"));
        drop(second);
        assert_eq!(state(&storage), running);
        // Killed: nobody wrote that it ended, and its number belongs to somebody else now, here to this test.
        drop(writer);
        assert_eq!(state(&storage), QueryState::Gone);
        assert!(request_stop(folder.path(), "q").expect_err("it is gone").to_string().contains("is not running"));

        // Who had to wait for another run takes the lock when that is over.
        let first = StatusWriter::start(&storage, clock(), "q", "a table").expect("a status");
        let second = StatusWriter::start(&storage, clock(), "q", "a table").expect("a status");
        drop(first);
        assert_eq!(state(&storage), QueryState::Gone);
        second.on_progress(&StreamingQueryProgress::default());
        assert_eq!(state(&storage), running);
        second.on_terminated("q", None);
        assert_eq!(state(&storage), QueryState::Stopped);
        second.update(|status| status.state = running.clone());

        // A status from before there were locks.
        drop(second);
        fs::remove_file(storage.lock_path("q")).expect("removed");
        assert_eq!(state(&storage), running);
    }

    #[test]
    fn restarts_are_counted_and_their_error_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::new(folder.path());
        storage.create().expect("folders");
        let clock = Arc::new(ManualClock::new(0));
        let writer = StatusWriter::start(&storage, clock.clone(), "q", "a table").expect("a status");
        let restart = |attempt| {
            let delay = Duration::from_secs(1);
            writer.on_restart("q", &Restart { attempt, delay, error: format!("away {attempt}") });
            clock.advance(delay);
        };
        let stored = || stored_queries(folder.path()).expect("queries").remove(0);
        restart(1);
        restart(2);
        let status = stored();
        assert_eq!((status.restarts, status.last_error.as_deref()), (2, Some("away 2")));
        assert!(matches!(status.state, QueryState::Running { .. }));
        assert_eq!(status.restarting_since.as_deref(), Some("1970-01-01T00:00:00.000Z"));
        // A batch ends that, or a look that found nothing to do, or its end.
        let ends: [&dyn Fn(); 3] =
            [&|| writer.on_progress(&StreamingQueryProgress::default()), &|| writer.on_idle(), &|| {
                writer.on_terminated("q", None)
            }];
        for (at, end) in ends.into_iter().enumerate() {
            assert!(stored().restarting_since.is_some(), "{at}");
            end();
            assert_eq!(stored().restarting_since, None, "{at}");
            restart(1);
            assert_eq!(stored().restarting_since, Some(format!("1970-01-01T00:00:0{}.000Z", at + 2)));
        }
        // The next run begins anew.
        drop(writer);
        let _writer = StatusWriter::start(&storage, clock.clone(), "q", "a table").expect("a status");
        let status = stored_queries(folder.path()).expect("queries").remove(0);
        assert_eq!((status.restarts, status.last_error), (0, None));
    }
}
