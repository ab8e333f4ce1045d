//! Sockets: connections, their limits, and the order of their answers.
//!
//! ```text
//!             ┌──────────────── one connection ─────────────────┐
//!  socket ──> │ reader ─> frame ─> [produce: append] ─> pending │
//!             │                                            │    │
//!  socket <── │ writer <─ answer <─ one at a time, in order     │
//!             └─────────────────────────────────────────────────┘
//! ```
//!
//! The protocol answers requests in their order. The reader takes frames off the socket and lines
//! them up; the writer works the line from its head, so a connection builds one answer at a time
//! however many requests it has sent. A produce is appended while it is still in line, if only
//! produces stand before it, and its answer waits for the fsync at its turn: that is how the
//! requests of one producer share an fsync.
//!
//! A client that does not take its answers stops the writer, then fills the line, then is no
//! longer read: it costs one answer and the bytes of its line, both limited for itself and, with
//! those of all others, for the broker (`budget.rs`), and is closed in the end.
//!
//! A client over its quota is answered at once, with the time it is throttled for, and then not
//! read for that time (KIP-219).

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Buf;
use kafka_protocol::messages::ApiKey;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admission::Listener;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::error::BrokerError;
use crate::handler::{self, Answer, Context, Peer};
use crate::protocol::frame::{self, AnswerTo, Frame, FrameError, Patience, RequestLimits, timed_out};
use crate::protocol::pieces::Pieces;
use crate::quota::entity::Key;
use crate::security::session::Session;
use crate::settings::BrokerSettings;

/// Requests of one connection that wait for their answer.
const LINE_LENGTH: usize = 64;
/// How long answers that are under way may take when the broker stops.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of file descriptors, mostly), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest sleep of a muted connection, so that a clock that is moved by hand is noticed.
const LONGEST_SLEEP_MS: i64 = 250;

/// Opens the listening socket.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, BrokerError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BrokerError::AddressInUse { address },
        _ => BrokerError::Bind { address, source },
    })
}

/// Accepts connections of one listener until `stop` says so, then lets answers under way finish.
/// `places` are those of the connections of all listeners.
pub(crate) async fn serve(
    ctx: Arc<Context>,
    socket: TcpListener,
    listener: Arc<Listener>,
    places: Arc<Places>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a connection's task panicked");
                }
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = match places.enter(address.ip(), &ctx.configs.in_force()) {
            Ok(place) => place,
            Err(full) => {
                tracing::warn!(%address, %full, "a connection closed");
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "no TCP_NODELAY");
        }
        let (ctx, listener, stop) = (Arc::clone(&ctx), Arc::clone(&listener), stop.clone());
        connections.spawn(async move {
            listener.admit(ctx, stream, address, stop).await;
            drop(place);
        });
    }
    drop(socket);
    let drained = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::debug!(left = connections.len(), "connections closed with requests under way");
    }
    connections.shutdown().await;
}

/// The connections there are, and how many each address has.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_host: HashMap<IpAddr, usize>,
}

/// A connection's place.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq, Error)]
enum Full {
    #[error("{limit} connections are open, the limit (max_connections)")]
    Broker { limit: usize },
    #[error("{limit} connections of its address are open, the limit (max_connections_per_ip)")]
    Host { limit: usize },
}

impl Places {
    /// A place within the limits in force now. Who came before they were lowered stays.
    fn enter(self: &Arc<Self>, address: IpAddr, settings: &BrokerSettings) -> Result<Place, Full> {
        let mut taken = self.taken.lock();
        if taken.all >= settings.max_connections {
            return Err(Full::Broker { limit: settings.max_connections });
        }
        let of_host = taken.by_host.get(&address).copied().unwrap_or_default();
        if of_host >= settings.max_connections_per_ip {
            return Err(Full::Host { limit: settings.max_connections_per_ip });
        }
        taken.all += 1;
        taken.by_host.insert(address, of_host + 1);
        Ok(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.by_host.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_host.remove(&self.address);
            }
        }
    }
}

/// Until when a connection is not read.
#[derive(Debug, Default)]
struct Mute {
    until_ms: AtomicI64,
}

impl Mute {
    fn extend(&self, until_ms: i64) {
        self.until_ms.fetch_max(until_ms, Ordering::AcqRel);
    }

    /// Waits until the connection may be read again.
    async fn over(&self, clock: &dyn Clock) {
        loop {
            let until_ms = self.until_ms.load(Ordering::Acquire);
            if until_ms == 0 {
                return;
            }
            let left_ms = until_ms - clock.monotonic_ms();
            if left_ms <= 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(left_ms.min(LONGEST_SLEEP_MS).unsigned_abs())).await;
        }
    }
}

/// An answer in the making; `None` where the client expects none.
type Answering = Pin<Box<dyn Future<Output = Result<Option<Answer>, FrameError>> + Send>>;

/// A request in line.
struct Pending {
    answer: Answering,
    is_produce: bool,
    /// Its bytes, counted until it is answered: in the connection's line, and in the broker's memory.
    _bytes: (OwnedSemaphorePermit, Charge),
}

/// How many requests in line are not produces; a produce may overtake none of them.
#[derive(Debug, Default)]
struct Order {
    others: AtomicUsize,
    changed: Notify,
}

impl Order {
    fn enter(&self) {
        self.others.fetch_add(1, Ordering::AcqRel);
    }

    fn leave(&self) {
        self.others.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    async fn only_produces(&self) {
        while self.others.load(Ordering::Acquire) > 0 {
            self.changed.notified().await;
        }
    }
}

/// Serves one connection whose client is known to its end, over any stream.
pub(crate) async fn connection<R, W>(
    ctx: Arc<Context>,
    reader: R,
    writer: W,
    peer: Peer,
    mut stop: watch::Receiver<bool>,
) -> Result<(), FrameError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (sender, receiver) = mpsc::channel(LINE_LENGTH);
    let order = Arc::new(Order::default());
    let session = Arc::clone(&peer.session);
    let mute = Mute::default();
    let read = async {
        let read = read_requests(&ctx, reader, sender, &order, &mute, peer);
        tokio::select! {
            result = read => result,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    };
    let write = write_answers(&ctx, writer, receiver, &order, &session, &mute);
    tokio::pin!(read, write);
    // The reader's end lets the writer finish the line; the writer's end is the connection's.
    tokio::select! {
        result = &mut write => result,
        result = &mut read => result.and(write.await),
    }
}

async fn read_requests<R: AsyncRead + Unpin>(
    ctx: &Arc<Context>,
    mut reader: R,
    line: mpsc::Sender<Pending>,
    order: &Order,
    mute: &Mute,
    peer: Peer,
) -> Result<(), FrameError> {
    let settings = &ctx.settings;
    let in_flight = settings.max_in_flight_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let budget = Arc::new(Semaphore::new(in_flight));
    let patience = Patience {
        max_bytes: settings.max_request_bytes,
        idle: Duration::from_millis(settings.idle_connection_timeout_ms),
        whole: Duration::from_millis(settings.request_read_timeout_ms),
    };
    let limits = RequestLimits {
        max_elements: settings.max_request_elements,
        max_client_id_bytes: settings.max_client_id_bytes,
    };
    loop {
        mute.over(&*ctx.clock).await;
        let mut charge = ctx.request_memory.charge();
        let Some(bytes) = frame::read(&mut reader, patience, &mut charge).await? else { return Ok(()) };
        // A request larger than the whole budget takes all of it, and so waits to be alone.
        let cost = bytes.len().clamp(1, in_flight) as u32;
        let Ok(permit) = Arc::clone(&budget).acquire_many_owned(cost).await else { return Ok(()) };
        let frame = frame::parse(bytes, limits)?;
        peer.session.check_not_expired(ctx.clock.monotonic_ms(), frame.key)?;
        charge.grow(frame.decoded_bytes()).await;
        let is_produce = frame.key == ApiKey::Produce;
        let answer = if is_produce {
            order.only_produces().await;
            admit_produce(ctx, mute, &peer, &frame).await?
        } else {
            order.enter();
            let (ctx, peer) = (Arc::clone(ctx), peer.clone());
            Box::pin(async move { handler::dispatch(&ctx, &peer, frame).await.map(Some) })
        };
        if line.send(Pending { answer, is_produce, _bytes: (permit, charge) }).await.is_err() {
            return Ok(());
        }
    }
}

async fn admit_produce(ctx: &Arc<Context>, mute: &Mute, peer: &Peer, frame: &Frame) -> Result<Answering, FrameError> {
    let to = AnswerTo { key: frame.key, version: frame.version, correlation_id: frame.correlation_id };
    let mut admitted = handler::admit_produce(ctx, peer, frame.decode()?, frame.version).await;
    let throttle_ms = ctx.quotas.count(Key::ProducerByteRate, peer.quota_client(&frame.client_id), frame.size_bytes);
    let muted_until_ms = ctx.muted_until_ms(throttle_ms);
    admitted.response.throttle_time_ms = i32::try_from(throttle_ms).unwrap_or(i32::MAX);
    // Its answer may wait for an fsync: what the client sends meanwhile waits too.
    mute.extend(muted_until_ms);
    Ok(Box::pin(async move {
        if !admitted.silent {
            let frame = to.encode(&admitted.finish().await)?;
            return Ok(Some(Answer { frame: frame.into(), muted_until_ms, _memory: None }));
        }
        if admitted.failed {
            // Without an answer, a closed connection is the only way to say that it failed.
            return Err(io::Error::other("a produce without acks failed").into());
        }
        Ok(None)
    }))
}

async fn write_answers<W: AsyncWrite + Unpin>(
    ctx: &Context,
    mut writer: W,
    mut line: mpsc::Receiver<Pending>,
    order: &Order,
    session: &Session,
    mute: &Mute,
) -> Result<(), FrameError> {
    let stalled = Duration::from_millis(ctx.settings.slow_reader_timeout_ms);
    while let Some(pending) = line.recv().await {
        if let Some(answer) = pending.answer.await? {
            write_frame(&mut writer, answer.frame, stalled).await?;
            mute.extend(answer.muted_until_ms);
        }
        if session.has_failed() {
            return Err(FrameError::AuthenticationFailed);
        }
        if !pending.is_produce {
            order.leave();
            // Requests that were read before this one was found to be over its quota wait as well.
            mute.over(&*ctx.clock).await;
        }
    }
    // TLS takes its leave with a message, which has to be taken as well.
    Ok(timeout(stalled, writer.shutdown()).await.map_err(|_| timed_out("the end was not taken"))??)
}

/// Writes a frame, unless the client takes none of it for too long.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut frame: Pieces,
    stalled: Duration,
) -> Result<(), FrameError> {
    while frame.has_remaining() {
        let written = timeout(stalled, writer.write_buf(&mut frame)).await;
        let count = written.map_err(|_| timed_out("an answer was not taken"))??;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
    }
    // TLS keeps the last of what is written until it is flushed.
    Ok(timeout(stalled, writer.flush()).await.map_err(|_| timed_out("an answer was not taken"))??)
}
