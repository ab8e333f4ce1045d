//! Calls that are tried again: which failures pass, how long is waited, and what is said in the end.
//!
//! ```text
//!   try ── answer ──────────────────────────────────────────────────────────> Done | Missing | Exists
//!    │                                                                ▲
//!    └─ no answer in time, connection lost, 5xx ── wait 1, 2, 4 .. ───┘ until the deadline, then Unavailable
//!       no right, no credentials, not supported ──────────────────────────────> Config, at once
//! ```
//!
//! Time is the engine's clock; only the limit of a single request is the runtime's timer.

use std::future::Future;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::Error as StoreError;
use tokio::runtime::{Handle, Runtime};

use super::RemoteStore;
use crate::checkpoint::store::Store;
use crate::error::{EngineError, Result};

/// A line that carries less is taken for broken: 64 KB a second for each of the requests under way.
const SLOWEST_BYTES_PER_MS: usize = 64;

/// What a store said that is an answer and no failure.
pub(super) enum Answer<T> {
    /// It did it.
    Done(T),
    /// There is no such object.
    Missing(StoreError),
    /// There is such an object already.
    Exists,
}

impl<T> Answer<T> {
    /// What was asked for, if it is there.
    pub(super) fn found(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Missing(_) | Self::Exists => None,
        }
    }
}

/// The tries of one call.
pub(super) struct Attempts<'a> {
    store: &'a RemoteStore,
    action: &'static str,
    name: &'a str,
    began_ns: u64,
    tries: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(store: &'a RemoteStore, action: &'static str, name: &'a str) -> Self {
        Self { store, action, name, began_ns: store.clock.0.monotonic_ns(), tries: 0 }
    }

    /// Waits before the next try; fails when another would not help or the time is up.
    pub(super) fn failed(&mut self, error: StoreError) -> Result<()> {
        self.tries += 1;
        let settings = &self.store.settings;
        if let Some(refusal) = self.store.refusal(self.action, self.name, &error) {
            return Err(refusal.caused_by(error));
        }
        let waited_ms = self.store.clock.0.monotonic_ns().saturating_sub(self.began_ns) / 1_000_000;
        let has_answered = self.store.has_answered.load(Ordering::Relaxed);
        let timeout_ms = if has_answered { settings.retry_timeout_ms } else { settings.first_retry_timeout_ms };
        let backoff_ms = settings.backoff_ms << (self.tries - 1).min(16);
        let wait_ms = backoff_ms.min(settings.max_backoff_ms);
        if waited_ms + wait_ms > timeout_ms {
            return Err(self.given_up(waited_ms, error));
        }
        let address = self.store.address(self.name);
        tracing::warn!(action = self.action, address, tries = self.tries, wait_ms, %error, "trying again");
        self.store.clock.0.sleep(Duration::from_millis(wait_ms));
        Ok(())
    }

    fn given_up(&self, waited_ms: u64, error: StoreError) -> EngineError {
        let address = self.store.address(self.name);
        #[expect(clippy::cast_precision_loss, reason = "a time for people")]
        let seconds = waited_ms as f64 / 1000.0;
        let (times, location) = (if self.tries == 1 { "try" } else { "tries" }, &self.store.location);
        let message = format!("cannot {} {address}: {} {times} in {seconds:.1} s failed", self.action, self.tries);
        let help = format!(
            "see that {}://{} can be reached from here, then start the query again: it goes on where it stopped",
            location.scheme, location.authority
        );
        EngineError::unavailable(message).caused_by(error).help(help)
    }
}

impl RemoteStore {
    /// Makes the same request, which carries so many bytes, until it is answered.
    pub(super) fn call<T, F>(
        &self,
        action: &'static str,
        name: &str,
        bytes: usize,
        request: impl Fn() -> F,
    ) -> Result<Answer<T>>
    where
        T: Send,
        F: Future<Output = object_store::Result<T>> + Send,
    {
        let mut attempts = Attempts::new(self, action, name);
        loop {
            match self.answer(block_on(self.in_time(bytes, request()))?) {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// Tells answers from failures.
    pub(super) fn answer<T>(&self, result: object_store::Result<T>) -> object_store::Result<Answer<T>> {
        let answer = match result {
            Ok(value) => Answer::Done(value),
            Err(error @ StoreError::NotFound { .. }) => Answer::Missing(error),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Answer::Exists,
            Err(error) => return Err(error),
        };
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    /// A request that carries so many bytes, given up when it takes too long.
    pub(super) async fn in_time<T>(
        &self,
        bytes: usize,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let limit_ms = self.settings.request_timeout_ms + (bytes / SLOWEST_BYTES_PER_MS) as u64;
        match tokio::time::timeout(Duration::from_millis(limit_ms), request).await {
            Ok(result) => result,
            Err(_) => Err(generic(format!("no answer within {limit_ms} ms"))),
        }
    }

    /// The error of what no other try makes better.
    fn refusal(&self, action: &str, name: &str, error: &StoreError) -> Option<EngineError> {
        let address = self.address(name);
        let refuse = |found: &str, help: String| {
            Some(EngineError::config(format!("cannot {action} {address}: {found}")).help(help))
        };
        let forbidden = || {
            let help = format!("allow reading, writing, listing and deleting under {}, or give others", self.location);
            refuse("the user or the credentials are not allowed to", help)
        };
        match error {
            StoreError::PermissionDenied { .. } => forbidden(),
            StoreError::Unauthenticated { .. } => refuse(
                "the store does not know the credentials",
                "give valid ones by environment variables or in the options of the checkpoint location".to_owned(),
            ),
            StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => refuse(
                "the store cannot do what a checkpoint needs",
                "use a store that can create an object only if it is absent (If-None-Match), and multipart uploads"
                    .to_owned(),
            ),
            StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => {
                refuse("the store does not take this name", "choose another checkpoint location".to_owned())
            }
            // Listings, and HDFS, have no errors of their own for these.
            StoreError::Generic { source, .. } => match source.to_string() {
                text if text.contains("NoSuchBucket") => Some(self.no_bucket(action, name)),
                text if text.contains("AccessControlException") || text.contains("403 Forbidden") => forbidden(),
                _ => None,
            },
            _ => None,
        }
    }

    /// The error for an object that can be missing only if what it should be in is.
    pub(super) fn no_bucket(&self, action: &str, name: &str) -> EngineError {
        let (address, authority) = (self.address(name), &self.location.authority);
        EngineError::config(format!("cannot {action} {address}: there is no '{authority}' in the object store"))
            .help("make the bucket, or correct the checkpoint location")
    }
}

/// A failure of ours in the store's words.
pub(super) fn generic(found: String) -> StoreError {
    StoreError::Generic { store: "checkpoint", source: found.into() }
}

/// The threads that carry requests, for all checkpoints of the process.
static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("highwater-objects").enable_all().build()
});

/// Waits for a request; also where the caller is itself a task of some runtime, which must not wait in place.
pub(super) fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> Result<T> {
    let runtime = RUNTIME.as_ref().map_err(|error| {
        EngineError::unavailable(format!("threads for object stores cannot be started: {error}"))
            .help("close other programs on this machine, then start the query again")
    })?;
    if Handle::try_current().is_err() {
        return Ok(runtime.block_on(future));
    }
    let waited = std::thread::scope(|scope| {
        #[expect(clippy::disallowed_methods, reason = "joined at once")]
        let waiting = scope.spawn(|| runtime.block_on(future));
        waiting.join()
    });
    waited.map_err(|_| EngineError::internal("a request to an object store panicked"))
}
