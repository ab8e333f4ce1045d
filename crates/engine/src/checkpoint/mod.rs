//! What a query writes down so that a crash changes nothing: the checkpoint location.
//!
//! ```text
//!   <checkpoint location>/
//!     metadata            who the query is                          metadata.rs
//!     run/<n>, run/lock   who may write                             run.rs
//!     offsets/<N>         what batch N reads, before it reads       offset_log.rs   log.rs
//!     state/<N>.*         state after batch N                       crate::state
//!     commits/<N>         batch N is done                           commit_log.rs   log.rs
//!     dead_letters/<N>.*  records of batch N nobody could read      dead_letters.rs
//!     sources/<i>/        what a source must remember itself        (the source's own)
//!
//!   one batch:  offsets/N ─> run, stage in the sink ─> state N ─> sink commit (token N) ─> commits/N ─> prune
//!   one start:  lock, run/<n+1> ─> metadata ─> facts ─> recovery::plan_recovery ─> the step that is missing
//! ```
//!
//! `inspect.rs` reads all of it from outside, for `highwater checkpoint`.
//!
//! Every file appears whole or not at all (`store.rs`), and carries a version and a checksum (`text.rs`). A location is
//! opened for reading by anybody, for writing by the one run that holds it: a [`CheckpointDir`] that has not started
//! a run refuses to write. Nothing else in the engine decides what is replayed.

pub mod commit_log;
pub mod dead_letters;
pub mod inspect;
pub mod location;
pub mod log;
pub mod metadata;
pub mod offset_log;
pub mod recovery;
pub(crate) mod remote;
pub mod retention;
pub mod run;
pub mod store;
mod verify;
#[cfg(test)]
mod inspect_tests;
pub(crate) mod text;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::error::{EngineError, Result};
use crate::plan::catalog::Options;
use crate::source::SourceMetadata;

pub use commit_log::{CommitLog, CommitLogEntry};
pub use dead_letters::DeadLetters;
pub use location::{Location, ObjectStoreRegistry, ObjectStores, RemoteLocation};
pub use log::{LogEntry, MetadataLog};
pub use metadata::{IdentityChanges, Metadata, QueryIdentity};
pub(crate) use offset_log::PART_OF_REBUILD;
pub use offset_log::{OffsetLog, OffsetLogEntry};
pub use recovery::{Facts, RecoveryError, RecoveryPlan, Step, plan_recovery};
pub use remote::RemoteSettings;
pub use retention::Retention;
pub use run::RunGuard;
pub use store::Durability;

pub(crate) use store::Store;

/// The folder of the offset log.
pub const OFFSETS: &str = "offsets";
/// The folder of the commit log.
pub const COMMITS: &str = "commits";
/// The folder of state changelogs and snapshots.
pub const STATE: &str = "state";
/// The folder of the content files that snapshots share.
pub const STATE_FILES: &str = "state/sst";
/// The folder of run files and the lock.
pub const RUN: &str = "run";
/// The folder of dead letters.
pub const DEAD_LETTERS: &str = "dead_letters";
/// The folder whose sub-folders belong to the sources.
pub const SOURCES: &str = "sources";

/// What a location is opened with: components, and settings of the object store it may be in.
pub struct CheckpointContext<'a> {
    /// Object stores by scheme.
    pub object_stores: &'a ObjectStoreRegistry,
    /// Options of the object store.
    pub options: &'a Options,
    /// How patiently it is spoken to.
    pub remote: &'a RemoteSettings,
    /// For a folder of this machine.
    pub durability: Durability,
    /// Tells the age of snapshots, and how long an object store is waited for.
    pub clock: Arc<dyn Clock>,
    /// A folder of this machine that belongs to the query.
    pub work_dir: &'a Path,
}

/// A checkpoint location. Cheap to clone; clones share the run, and the lock is held until the last of them is gone.
#[derive(Clone)]
pub struct CheckpointDir {
    location: String,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    work_dir: Option<PathBuf>,
    run: Option<Arc<RunGuard>>,
}

impl fmt::Debug for CheckpointDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointDir")
            .field("location", &self.location)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl CheckpointDir {
    /// Opens a folder of this machine (a path or `file://PATH`) for reading; it need not exist yet.
    pub fn open(location: &str, durability: Durability) -> Result<Self> {
        Self::open_with(
            location,
            &CheckpointContext {
                object_stores: &ObjectStoreRegistry::default(),
                options: &Options::default(),
                remote: &RemoteSettings::default(),
                durability,
                clock: Arc::new(SystemClock),
                work_dir: Path::new(""),
            },
        )
    }

    /// Opens any location for reading; it need not exist yet, and nothing is asked of an object store before the
    /// first call.
    pub fn open_with(location: &str, context: &CheckpointContext<'_>) -> Result<Self> {
        let clock = Arc::clone(&context.clock);
        let (store, work_dir): (Arc<dyn Store>, _) = match Location::parse(location)? {
            Location::Local(path) => (store::local(path, context.durability), None),
            Location::Remote(remote) => {
                let objects = context.object_stores.open(&remote, context.options)?;
                let work_dir = context.work_dir.to_owned();
                let (settings, clock) = (context.remote.clone(), Arc::clone(&clock));
                let store = remote::RemoteStore::new(objects, remote, settings, clock, work_dir.clone());
                (Arc::new(store), Some(work_dir))
            }
        };
        Ok(Self { location: location.to_owned(), store, clock, work_dir, run: None })
    }

    /// Takes the location for writing: refused while another process of this machine runs the query; ends the right
    /// of any earlier run to write.
    pub fn start_run(&self, query_name: &str, clock: &dyn Clock) -> Result<Self> {
        let run = RunGuard::start(&self.store, self.work_dir.as_deref(), query_name, clock.now_ms())?;
        for folder in [OFFSETS, COMMITS, STATE, STATE_FILES, DEAD_LETTERS] {
            self.store.prepare_folder(folder)?;
        }
        Ok(Self { run: Some(Arc::new(run)), ..self.clone() })
    }

    /// The location as it was given.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The run that may write here, if this is opened for writing.
    pub fn run(&self) -> Option<&RunGuard> {
        self.run.as_deref()
    }

    /// What the source with this index may keep.
    pub fn source_metadata(&self, index: usize) -> SourceMetadata {
        SourceMetadata::new(self.clone(), format!("{SOURCES}/{index}"))
    }

    /// The time, for what is written here.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// For reading.
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// For writing: checked each time, so that a run that lost its right stops at its next write.
    pub(crate) fn writable(&self) -> Result<&dyn Store> {
        match &self.run {
            Some(run) => run.check().map(|()| &*self.store),
            None => Err(EngineError::internal(format!("checkpoint '{}' was opened for reading only", self.location))),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A clock that stands still.
    pub(crate) struct Frozen;

    impl Clock for Frozen {
        fn now_ms(&self) -> i64 {
            1_700_000_000_000
        }

        fn monotonic_ns(&self) -> u64 {
            0
        }

        fn sleep(&self, _: std::time::Duration) {}
    }

    /// An empty checkpoint with a run; the folder goes when the first half is dropped.
    pub(crate) fn checkpoint() -> (tempfile::TempDir, CheckpointDir) {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = open(dir.path());
        (dir, checkpoint)
    }

    /// The checkpoint at `path` with a new run.
    pub(crate) fn open(path: &std::path::Path) -> CheckpointDir {
        reader(path).start_run("q", &Frozen).unwrap()
    }

    /// The checkpoint at `path` for reading.
    pub(crate) fn reader(path: &std::path::Path) -> CheckpointDir {
        CheckpointDir::open(path.to_str().unwrap(), Durability::None).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let reader = testing::reader(dir.path());
        assert!(matches!(reader.writable().unwrap_err(), EngineError::Internal(_)));
        assert!(testing::open(dir.path()).writable().is_ok());
    }

    #[test]
    fn sources_get_folders_of_their_own() {
        let (dir, checkpoint) = testing::checkpoint();
        let metadata = checkpoint.source_metadata(1);
        assert_eq!(metadata.list().unwrap(), [""; 0]);
        assert!(metadata.create("0", b"x").unwrap());
        assert!(!metadata.create("0", b"y").unwrap());
        assert_eq!(metadata.read("0").unwrap().unwrap(), b"x");
        assert_eq!(metadata.list().unwrap(), ["0"]);
        assert_eq!(std::fs::read(dir.path().join("sources/1/0")).unwrap(), b"x");
        assert!(checkpoint.source_metadata(0).read("0").unwrap().is_none());
        metadata.delete("0").unwrap();
        assert_eq!(metadata.read("0").unwrap(), None);
        let read_only = testing::reader(dir.path()).source_metadata(1);
        assert!(matches!(read_only.create("0", b"x").unwrap_err(), EngineError::Internal(_)));
    }
}
