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
//! longer read: it costs one answer and the bytes of its line, both limited, and is closed in
//! the end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admission::Listener;
use crate::error::BrokerError;
use crate::handler::{self, Context, Peer};
use crate::protocol::frame::{self, AnswerTo, Frame, FrameError};
use crate::security::session::Session;

/// Requests of one connection that wait for their answer.
const LINE_LENGTH: usize = 64;
/// How long answers that are under way may take when the broker stops.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of file descriptors, mostly), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the listening socket.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, BrokerError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BrokerError::AddressInUse { address },
        _ => BrokerError::Bind { address, source },
    })
}

/// Accepts connections of one listener until `stop` says so, then lets answers under way finish.
/// `slots` are the connections of all listeners.
pub(crate) async fn serve(
    ctx: Arc<Context>,
    socket: TcpListener,
    listener: Arc<Listener>,
    slots: Arc<Semaphore>,
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
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(%address, limit = ctx.settings.max_connections, "too many connections, one closed");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "no TCP_NODELAY");
        }
        let (ctx, listener, stop) = (Arc::clone(&ctx), Arc::clone(&listener), stop.clone());
        connections.spawn(async move {
            listener.admit(ctx, stream, address, stop).await;
            drop(slot);
        });
    }
    drop(socket);
    let drained = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::debug!(left = connections.len(), "connections closed with requests under way");
    }
    connections.shutdown().await;
}

/// An answer in the making; `None` where the client expects none.
type Answer = Pin<Box<dyn Future<Output = Result<Option<Bytes>, FrameError>> + Send>>;

/// A request in line.
struct Pending {
    answer: Answer,
    is_produce: bool,
    /// Its bytes, counted until it is answered.
    _bytes: OwnedSemaphorePermit,
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
    let idle = Duration::from_millis(ctx.settings.idle_connection_timeout_ms);
    let read = async {
        let read = read_requests(&ctx, reader, sender, &order, peer, idle);
        tokio::select! {
            result = read => result,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    };
    let write = write_answers(writer, receiver, &order, &session, idle);
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
    peer: Peer,
    idle: Duration,
) -> Result<(), FrameError> {
    let settings = &ctx.settings;
    let in_flight = settings.max_in_flight_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let budget = Arc::new(Semaphore::new(in_flight));
    loop {
        let read = frame::read(&mut reader, settings.max_request_bytes);
        let Some(bytes) = timeout(idle, read).await.map_err(|_| timed_out("no request came"))?? else {
            return Ok(());
        };
        // A request larger than the whole budget takes all of it, and so waits to be alone.
        let cost = bytes.len().clamp(1, in_flight) as u32;
        let Ok(permit) = Arc::clone(&budget).acquire_many_owned(cost).await else { return Ok(()) };
        let frame = frame::parse(bytes, settings.max_request_elements)?;
        peer.session.check_not_expired(ctx.clock.monotonic_ms(), frame.key)?;
        let is_produce = frame.key == ApiKey::Produce;
        let answer = if is_produce {
            order.only_produces().await;
            admit_produce(ctx, &peer, &frame).await?
        } else {
            order.enter();
            let (ctx, peer) = (Arc::clone(ctx), peer.clone());
            Box::pin(async move { handler::dispatch(&ctx, &peer, frame).await.map(Some) })
        };
        if line.send(Pending { answer, is_produce, _bytes: permit }).await.is_err() {
            return Ok(());
        }
    }
}

async fn admit_produce(ctx: &Arc<Context>, peer: &Peer, frame: &Frame) -> Result<Answer, FrameError> {
    let to = AnswerTo { key: frame.key, version: frame.version, correlation_id: frame.correlation_id };
    let admitted = handler::admit_produce(ctx, peer, frame.decode()?, frame.version).await;
    Ok(Box::pin(async move {
        if !admitted.silent {
            return to.encode(&admitted.finish().await).map(Some);
        }
        if admitted.failed {
            // Without an answer, a closed connection is the only way to say that it failed.
            return Err(io::Error::other("a produce without acks failed").into());
        }
        Ok(None)
    }))
}

async fn write_answers<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut line: mpsc::Receiver<Pending>,
    order: &Order,
    session: &Session,
    idle: Duration,
) -> Result<(), FrameError> {
    while let Some(pending) = line.recv().await {
        if let Some(answer) = pending.answer.await? {
            write_frame(&mut writer, &answer, idle).await?;
        }
        if session.has_failed() {
            return Err(FrameError::AuthenticationFailed);
        }
        if !pending.is_produce {
            order.leave();
        }
    }
    Ok(writer.shutdown().await?)
}

/// Writes a frame for as long as its client may take to read it.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    frame: &[u8],
    limit: Duration,
) -> Result<(), FrameError> {
    // TLS keeps what is written until it is flushed.
    let written = timeout(limit, async {
        writer.write_all(frame).await?;
        writer.flush().await
    });
    Ok(written.await.map_err(|_| timed_out("an answer was not taken"))??)
}

fn timed_out(what: &'static str) -> FrameError {
    io::Error::new(io::ErrorKind::TimedOut, what).into()
}
