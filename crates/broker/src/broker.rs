//! Puts the parts together: opens the data directory, starts the threads and tasks, and stops
//! them in an order that loses nothing.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::budget::{Budget, Used};
use crate::clock::{Clock, SystemClock};
use crate::error::{BrokerError, io_at};
use crate::fetch_session::SessionCache;
use crate::group::message::Limits;
use crate::group::offsets::OffsetStore;
use crate::group::published;
use crate::group::service::Groups;
use crate::handler::Context;
use crate::identity::Identity;
use crate::lock::DirectoryLock;
use crate::log::flush::{FlushQueue, Flusher};
use crate::log::topics::Topics;
use crate::quota::rate::Windows;
use crate::quota::service::{Bounds, Quotas};
use crate::server;
use crate::settings::{BrokerSettings, FsyncMode};
use crate::txn::service::Transactions;

/// A running broker.
///
/// [`Broker::shutdown`] ends it in good order. Dropping it without ends it as a crash of the
/// process would: nothing acknowledged is lost, but the next start verifies more.
#[derive(Debug)]
pub struct Broker {
    ctx: Arc<Context>,
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    /// Dropped last but for the lock: its threads may still flush for acks that wait.
    _flusher: Flusher,
    _lock: DirectoryLock,
}

impl Broker {
    /// Starts a broker: recovers its data and listens. Needs a Tokio runtime with I/O and time.
    pub async fn start(settings: BrokerSettings) -> Result<Self, BrokerError> {
        Self::start_with_clock(settings, Arc::new(SystemClock::default())).await
    }

    /// Starts a broker that takes its time from `clock`.
    pub async fn start_with_clock(settings: BrokerSettings, clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        settings.check()?;
        let data_dir = settings.data_dir.clone();
        fs::create_dir_all(&data_dir).map_err(io_at("create", &data_dir))?;
        let lock = DirectoryLock::take(&data_dir)?;
        // Before the recovery, which can take a while: a port in use is told at once.
        let listener = server::bind(settings.listen).await?;
        let bound = |source| BrokerError::Bind { address: settings.listen, source };
        let local_addr = listener.local_addr().map_err(bound)?;
        let queue = FlushQueue::new(settings.fsync);
        let flusher = Flusher::start(&queue).map_err(io_at("start the fsync threads for", &data_dir))?;
        let ctx = Arc::new(open(settings, clock, queue, local_addr)?);
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(server::serve(Arc::clone(&ctx), listener, stopped));
        let tasks = start_tasks(&ctx);
        if !ctx.settings.sabotage.is_empty() {
            tracing::error!(sabotage = ?ctx.settings.sabotage, "this broker is told to work wrongly: for tests only");
        }
        tracing::info!(address = %local_addr, data_dir = %data_dir.display(), fsync = %ctx.settings.fsync, "listening");
        Ok(Self { ctx, local_addr, stop, server: Some(server), tasks, _flusher: flusher, _lock: lock })
    }

    /// Where the broker listens; with port 0 in the settings, the port it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Bytes that requests hold, of at most `max_request_memory_bytes` and one request more.
    pub fn request_memory(&self) -> Used {
        self.ctx.request_memory.used()
    }

    /// Bytes that fetch responses hold, of at most `max_fetch_memory_bytes`.
    pub fn fetch_memory(&self) -> Used {
        self.ctx.fetch_memory.used()
    }

    /// Applies retention now, beside its regular times.
    pub async fn enforce_retention(&self) {
        let ctx = Arc::clone(&self.ctx);
        let swept = tokio::task::spawn_blocking(move || sweep(&ctx)).await;
        if let Err(error) = swept {
            tracing::error!(%error, "retention failed");
        }
    }

    /// Compacts now what would be compacted in the background, beside its regular times.
    pub async fn compact(&self) {
        let ctx = Arc::clone(&self.ctx);
        let compacted = tokio::task::spawn_blocking(move || ctx.topics.compact()).await;
        if let Err(error) = compacted {
            tracing::error!(%error, "compaction failed");
        }
    }

    /// Stops accepting, lets answers under way finish, flushes everything and closes.
    pub async fn shutdown(mut self) -> Result<(), BrokerError> {
        self.stop.send_replace(true);
        if let Some(server) = self.server.take()
            && let Err(error) = server.await
        {
            tracing::error!(%error, "the server's task failed");
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        let ctx = Arc::clone(&self.ctx);
        let closed = tokio::task::spawn_blocking(move || {
            ctx.topics.close().and(sync_journals(&ctx).map_err(io_at("fsync the journals in", &ctx.settings.data_dir)))
        });
        let result = closed.await.unwrap_or_else(|error| {
            let source = std::io::Error::other(error);
            Err(BrokerError::Io { action: "close", path: self.ctx.settings.data_dir.clone(), source })
        });
        tracing::info!(address = %self.local_addr, "stopped");
        result
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.server.iter().chain(&self.tasks).for_each(JoinHandle::abort);
        // Requests that still run must not write into a directory that is no longer ours. After
        // a shutdown the logs are closed and this changes nothing.
        self.ctx.topics.abandon();
    }
}

fn open(
    settings: BrokerSettings,
    clock: Arc<dyn Clock>,
    queue: Arc<FlushQueue>,
    local_addr: SocketAddr,
) -> Result<Context, BrokerError> {
    let (host, port) = settings.advertised.clone().unwrap_or_else(|| (local_addr.ip().to_string(), local_addr.port()));
    let limits = Limits {
        min_session_timeout_ms: settings.group_min_session_timeout_ms,
        max_session_timeout_ms: settings.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: settings.group_initial_rebalance_delay_ms,
        max_groups: settings.max_groups,
        max_members: settings.max_group_members,
    };
    let identity = Arc::new(Identity::open(&settings.data_dir)?);
    let offsets = OffsetStore::open(&settings.data_dir, clock.wall_ms())?;
    let settings = Arc::new(settings);
    let topics = Arc::new(Topics::open(Arc::clone(&settings), Arc::clone(&clock), queue)?);
    let groups = Arc::new(Groups::new(Arc::clone(&clock), limits, offsets));
    let transactions = Arc::new(Transactions::open(
        Arc::clone(&settings),
        Arc::clone(&clock),
        Arc::clone(&topics),
        Arc::clone(&groups),
        Arc::clone(&identity),
    )?);
    let fetch_sessions =
        Mutex::new(SessionCache::new(settings.max_fetch_sessions, settings.max_fetch_session_partitions));
    let bounds = Bounds {
        windows: Windows { count: settings.quota_window_count, size_ms: settings.quota_window_ms },
        max_entities: settings.max_quota_entities,
        max_rates: settings.max_quota_rates,
    };
    let quotas = Quotas::open(&settings.data_dir, Arc::clone(&clock), bounds)?;
    let request_memory = Budget::new(settings.max_request_memory_bytes);
    let fetch_memory = Budget::new(settings.max_fetch_memory_bytes);
    Ok(Context {
        settings,
        clock,
        topics,
        groups,
        transactions,
        identity,
        fetch_sessions,
        quotas,
        request_memory,
        fetch_memory,
        host,
        port,
    })
}

fn start_tasks(ctx: &Arc<Context>) -> Vec<JoinHandle<()>> {
    let timers = Arc::clone(ctx);
    let mut tasks = vec![tokio::spawn(async move { timers.groups.run_timers().await })];
    let every = Duration::from_millis(ctx.settings.retention_check_interval_ms);
    tasks.push(repeat(ctx, every, sweep));
    let every = Duration::from_millis(ctx.settings.flush_check_interval_ms);
    tasks.push(repeat(ctx, every, |ctx| ctx.topics.flush_overdue()));
    if ctx.settings.log_cleaner_enable {
        let every = Duration::from_millis(ctx.settings.log_cleaner_interval_ms);
        tasks.push(repeat(ctx, every, |ctx| ctx.topics.compact()));
    }
    if let FsyncMode::Interval { interval_ms } = ctx.settings.fsync {
        tasks.push(repeat(ctx, Duration::from_millis(interval_ms), sync));
    }
    tasks.push(repeat(ctx, Duration::from_millis(ctx.settings.offsets_publish_interval_ms), |ctx| {
        published::publish(ctx.groups.offsets(), &ctx.topics, ctx.clock.wall_ms());
    }));
    let transactions = Arc::clone(&ctx.transactions);
    let mut ticks = tokio::time::interval(Duration::from_millis(ctx.settings.transaction_check_interval_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, and ends what was decided before a crash.
    tasks.push(tokio::spawn(async move {
        loop {
            ticks.tick().await;
            transactions.tick().await;
        }
    }));
    tasks
}

/// Runs `work`, which blocks, every so often.
fn repeat(ctx: &Arc<Context>, every: Duration, work: fn(&Context)) -> JoinHandle<()> {
    let ctx = Arc::clone(ctx);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let ctx = Arc::clone(&ctx);
            if let Err(error) = tokio::task::spawn_blocking(move || work(&ctx)).await {
                tracing::error!(%error, "a background task failed");
            }
        }
    })
}

fn sweep(ctx: &Context) {
    ctx.topics.enforce_retention();
    ctx.groups.expire(ctx.settings.offsets_retention_ms);
    ctx.transactions.expire();
}

fn sync(ctx: &Context) {
    if let Err(error) = sync_journals(ctx) {
        tracing::error!(%error, "committed offsets or transactions not flushed");
    }
}

fn sync_journals(ctx: &Context) -> io::Result<()> {
    // Both are tried; the first error is the one told.
    ctx.groups.offsets().sync().and(ctx.transactions.sync())
}
