//! Puts the parts together: opens the data directory, starts the threads and tasks, and stops
//! them in an order that loses nothing.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::admission::Listener;
use crate::budget::{Budget, Used};
use crate::buffers::Buffers;
use crate::clock::{Clock, SystemClock};
use crate::configs::group::Times;
use crate::configs::store::Configs;
use crate::error::{BrokerError, io_at};
use crate::fetch_session::SessionCache;
use crate::group;
use crate::group::consumer::epochs::EpochStore;
use crate::group::message::Limits;
use crate::group::offsets::OffsetStore;
use crate::group::published;
use crate::group::service::Groups;
use crate::group::share;
use crate::handler::Context;
use crate::identity::Identity;
use crate::lock::DirectoryLock;
use crate::log::config::Overrides;
use crate::log::flush::{FlushQueue, Flusher};
use crate::log::topics::Topics;
use crate::quota::rate::Windows;
use crate::quota::service::{Bounds, Quotas};
use crate::security::acls::Acls;
use crate::security::authorizer::{Authorizer, LogLimits};
use crate::security::session::Endpoint;
use crate::security::settings::{self as security, HostPort, ListenerProtocol};
use crate::security::tls::Tls;
use crate::security::users::Users;
use crate::server::{self, Places};
use crate::settings::{BrokerSettings, FsyncMode};
use crate::txn::service::Transactions;

/// A running broker.
///
/// [`Broker::shutdown`] ends it in good order. Dropping it without ends it as a crash of the
/// process would: nothing acknowledged is lost, but the next start verifies more.
#[derive(Debug)]
pub struct Broker {
    ctx: Arc<Context>,
    /// By the names of their listeners; the first is the broker's own.
    local_addrs: Vec<(String, SocketAddr)>,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
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
        let listeners = open_listeners(&settings).await?;
        let local_addrs: Vec<(String, SocketAddr)> =
            listeners.iter().map(|(_, address, listener)| (listener.endpoint.name.clone(), *address)).collect();
        let queue = FlushQueue::new(settings.fsync);
        let flusher = Flusher::start(&queue).map_err(io_at("start the fsync threads for", &data_dir))?;
        let ctx = Arc::new(open(settings, clock, queue)?);
        let (stop, stopped) = watch::channel(false);
        let places = Arc::new(Places::default());
        let mut servers = Vec::new();
        for (socket, address, listener) in listeners {
            let (data_dir, fsync, name) = (data_dir.display(), ctx.settings.fsync, &listener.endpoint.name);
            tracing::info!(%address, %data_dir, %fsync, listener = name, "listening");
            let (ctx, places) = (Arc::clone(&ctx), Arc::clone(&places));
            servers.push(tokio::spawn(server::serve(ctx, socket, Arc::new(listener), places, stopped.clone())));
        }
        let tasks = start_tasks(&ctx);
        if !ctx.settings.sabotage.is_empty() {
            tracing::error!(sabotage = ?ctx.settings.sabotage, "this broker is told to work wrongly: for tests only");
        }
        Ok(Self { ctx, local_addrs, stop, servers, tasks, _flusher: flusher, _lock: lock })
    }

    /// Where the broker listens, on its first listener; with port 0 in the settings, the port it
    /// got.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs[0].1
    }

    /// Where a listener listens.
    pub fn listener_addr(&self, name: &str) -> Option<SocketAddr> {
        self.local_addrs.iter().find(|(listener, _)| listener == name).map(|(_, address)| *address)
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
        for server in self.servers.drain(..) {
            if let Err(error) = server.await {
                tracing::error!(%error, "the server's task failed");
            }
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
        tracing::info!(address = %self.local_addr(), "stopped");
        result
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.servers.iter().chain(&self.tasks).for_each(JoinHandle::abort);
        // Requests that still run must not write into a directory that is no longer ours. After
        // a shutdown the logs are closed and this changes nothing.
        self.ctx.topics.abandon();
    }
}

/// Opens the sockets and reads the certificates.
async fn open_listeners(settings: &BrokerSettings) -> Result<Vec<(TcpListener, SocketAddr, Listener)>, BrokerError> {
    let mut opened = Vec::new();
    for listener in security::listeners(settings) {
        let tls = listener.tls.as_ref().map(|tls| Tls::open(&listener.name, tls, &[])).transpose()?;
        let socket = server::bind(listener.address).await?;
        let bound = |source| BrokerError::Bind { address: listener.address, source };
        let address = socket.local_addr().map_err(bound)?;
        let itself = || HostPort { host: address.ip().to_string(), port: address.port() };
        let endpoint = Arc::new(Endpoint {
            mechanisms: listener.mechanisms(),
            advertised: listener.advertised.clone().unwrap_or_else(itself),
            name: listener.name,
        });
        if listener.protocol == ListenerProtocol::SaslPlaintext && !address.ip().is_loopback() {
            tracing::warn!(%address, listener = endpoint.name, "not encrypted: what is sent can be read on the way");
        }
        opened.push((socket, address, Listener { endpoint, tls }));
    }
    Ok(opened)
}

/// The users there are, with those of the settings among them.
fn open_users(settings: &BrokerSettings) -> Result<Users, BrokerError> {
    let security = &settings.security;
    let users = Users::open(&settings.data_dir, security.max_users, security.scram_iterations)?;
    for user in &security.users {
        users.ensure(&user.name, &user.password.resolve(&format!("the password of user {}", user.name))?)?;
    }
    Ok(users)
}

fn open_authorizer(settings: &BrokerSettings) -> Result<Option<Authorizer>, BrokerError> {
    if !security::has_authorizer(settings) {
        return Ok(None);
    }
    let security = &settings.security;
    Ok(Some(Authorizer {
        acls: Acls::open(&settings.data_dir, security.max_acls)?,
        // Checked with the settings.
        super_users: security.super_users.iter().filter_map(|principal| principal.parse().ok()).collect(),
        allow_without_acl: security.allow_everyone_if_no_acl_found.unwrap_or(false),
    }))
}

fn open(settings: BrokerSettings, clock: Arc<dyn Clock>, queue: Arc<FlushQueue>) -> Result<Context, BrokerError> {
    let limits = Limits {
        min_session_timeout_ms: settings.group_min_session_timeout_ms,
        max_session_timeout_ms: settings.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: settings.group_initial_rebalance_delay_ms,
        new_member_join_timeout_ms: settings.group_new_member_join_timeout_ms,
        max_groups: settings.max_groups,
        max_members: settings.max_group_members,
    };
    let consumer_limits = group::consumer::message::Limits {
        times: Times::of(&Overrides::new(), &settings),
        max_groups: settings.max_groups,
        max_members: settings.max_group_members,
        max_regex_bytes: settings.max_subscription_regex_bytes,
        max_compiled_regex_bytes: settings.max_compiled_regex_bytes,
    };
    let epochs = EpochStore::open(&settings.data_dir)?;
    let shares = open_shares(&settings)?;
    let identity = Arc::new(Identity::open(&settings.data_dir)?);
    let offsets = OffsetStore::open(&settings.data_dir, clock.wall_ms())?;
    let (users, authorizer) = (open_users(&settings)?, open_authorizer(&settings)?);
    let log_limits = LogLimits::new(settings.security.max_logged_per_minute);
    let settings = Arc::new(settings);
    let configs = Arc::new(Configs::open(Arc::clone(&settings))?);
    let topics = Arc::new(Topics::open(Arc::clone(&configs), Arc::clone(&clock), queue)?);
    let groups = Arc::new(Groups::new(Arc::clone(&clock), limits, consumer_limits, offsets, epochs, shares));
    configs.groups().iter().for_each(|(group, own)| groups.configure(group, own, &settings));
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
        configs,
        clock,
        topics,
        groups,
        transactions,
        identity,
        fetch_sessions,
        quotas,
        request_memory,
        fetch_memory,
        buffers: Buffers::new(),
        users,
        authorizer,
        log_limits,
    })
}

fn open_shares(settings: &BrokerSettings) -> Result<share::service::Shares, BrokerError> {
    let limits = share::store::Limits {
        max_partitions: settings.max_share_partitions,
        max_in_flight_records: settings.max_share_in_flight_records,
    };
    Ok(share::service::Shares::new(
        share::store::ShareStore::open(&settings.data_dir, limits)?,
        share::session::SessionCache::new(settings.max_share_sessions, settings.max_share_session_partitions),
        share::settings::ShareConfig::of(&Overrides::new(), settings),
        settings.max_group_members,
        settings.fsync == FsyncMode::Always,
    ))
}

fn start_tasks(ctx: &Arc<Context>) -> Vec<JoinHandle<()>> {
    let timers = Arc::clone(ctx);
    let mut tasks = vec![tokio::spawn(async move { timers.groups.run_timers().await })];
    tasks.push(repeat(ctx, |settings| settings.retention_check_interval_ms, sweep));
    tasks.push(repeat(ctx, |settings| settings.flush_check_interval_ms, |ctx| ctx.topics.flush_overdue()));
    tasks.push(repeat(
        ctx,
        |settings| settings.share_lock_check_interval_ms,
        |ctx| ctx.groups.shares().expire(ctx.clock.monotonic_ms()),
    ));
    if ctx.settings.log_cleaner_enable {
        tasks.push(repeat(ctx, |settings| settings.log_cleaner_interval_ms, |ctx| ctx.topics.compact()));
    }
    if let FsyncMode::Interval { interval_ms } = ctx.settings.fsync {
        tasks.push(repeat(ctx, move |_| interval_ms, sync));
    }
    tasks.push(repeat(
        ctx,
        |settings| settings.offsets_publish_interval_ms,
        |ctx| published::publish(ctx.groups.offsets(), &ctx.topics, ctx.clock.wall_ms()),
    ));
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

/// Runs `work`, which blocks, as often as the settings in force say: each pause is as long as they say at its beginning.
fn repeat(
    ctx: &Arc<Context>,
    interval_ms: impl Fn(&BrokerSettings) -> u64 + Send + 'static,
    work: fn(&Context),
) -> JoinHandle<()> {
    let ctx = Arc::clone(ctx);
    tokio::spawn(async move {
        loop {
            let pause = Duration::from_millis(interval_ms(&ctx.configs.in_force()));
            tokio::time::sleep(pause).await;
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
    ctx.groups.shares().forget_topics(&ctx.topics);
    ctx.transactions.expire();
}

fn sync(ctx: &Context) {
    if let Err(error) = sync_journals(ctx) {
        tracing::error!(%error, "committed offsets or transactions not flushed");
    }
}

fn sync_journals(ctx: &Context) -> io::Result<()> {
    // All are tried; the first error is the one told.
    let (offsets, shares) = (ctx.groups.offsets().sync(), ctx.groups.shares().store.sync());
    offsets.and(shares).and(ctx.transactions.sync())
}
