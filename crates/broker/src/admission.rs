//! From an accepted socket to a connection whose client is known: TLS, then SASL, in limited time.
//!
//! ```text
//! socket ─> [TLS: certificate] ─> [SASL: ApiVersions, SaslHandshake, SaslAuthenticate] ─> server::connection
//! ```
//!
//! A stranger can make the broker do little: frames are small, requests are answered one after the
//! other, nothing but the three requests of an authentication is looked at, what they hold counts for
//! the memory of all requests, and all of it together has a deadline. Anything else closes the connection without an answer, as Kafka does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::budget::Charge;
use crate::handler::{self, Context, Peer};
use crate::protocol::frame::{self, FrameError, Patience, RequestLimits};
use crate::protocol::pieces::Pieces;
use crate::security::principal::Principal;
use crate::security::session::{Endpoint, Session};
use crate::security::tls::Tls;
use crate::server;

/// Array elements in a request of a stranger.
const MAX_ELEMENTS: usize = 64;

/// What connections of a listener go through.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) tls: Option<Tls>,
}

impl Listener {
    /// Serves a connection from its first byte to its last.
    pub(crate) async fn admit(
        &self,
        ctx: Arc<Context>,
        socket: TcpStream,
        address: SocketAddr,
        stop: watch::Receiver<bool>,
    ) {
        let listener = &self.endpoint.name;
        match self.serve(Arc::clone(&ctx), socket, address.ip(), stop).await {
            Ok(()) => {}
            Err(FrameError::Io(error)) => tracing::debug!(%address, listener, %error, "connection lost"),
            // The log has its reason.
            Err(error @ FrameError::AuthenticationFailed) => tracing::debug!(%address, listener, %error),
            Err(error) => ctx.log_limits.closed_connections.log(ctx.clock.monotonic_ms(), |more| {
                tracing::warn!(%address, listener, %error, more, "connection closed");
            }),
        }
    }

    async fn serve(
        &self,
        ctx: Arc<Context>,
        socket: TcpStream,
        address: IpAddr,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), FrameError> {
        let limit = Duration::from_millis(ctx.settings.security.authentication_timeout_ms);
        let deadline = Instant::now() + limit;
        let Some(tls) = &self.tls else {
            let (reader, writer) = socket.into_split();
            return self.authenticate(ctx, reader, writer, Principal::anonymous(), address, deadline, stop).await;
        };
        let shaken = tokio::select! {
            shaken = timeout_at(deadline, tls.accept(socket)) => shaken,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let stream = shaken.map_err(|_| FrameError::Tls(io::ErrorKind::TimedOut.into()))?.map_err(FrameError::Tls)?;
        let principal = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => Principal::of_certificate(certificate).map_err(FrameError::ClientCertificate)?,
            None => Principal::anonymous(),
        };
        let (reader, writer) = tokio::io::split(stream);
        self.authenticate(ctx, reader, writer, principal, address, deadline, stop).await
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one connection")]
    async fn authenticate<R, W>(
        &self,
        ctx: Arc<Context>,
        mut reader: R,
        mut writer: W,
        principal: Principal,
        address: IpAddr,
        deadline: Instant,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), FrameError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let session = Arc::new(Session::new(Arc::clone(&self.endpoint), address, principal));
        let principal = match session.principal() {
            Some(principal) => principal,
            None => {
                let sasl = sasl(&ctx, &mut reader, &mut writer, address, &session);
                let settled = tokio::select! {
                    settled = timeout_at(deadline, sasl) => settled,
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                };
                let late = io::Error::new(io::ErrorKind::TimedOut, "no authentication in time");
                match settled.map_err(|_| late)?? {
                    Some(principal) => principal,
                    None => return Ok(()),
                }
            }
        };
        let peer = Peer::new(address, principal, session);
        server::connection(ctx, reader, writer, peer, stop).await
    }
}

/// Answers requests until the client is known; `None` when it hangs up before.
async fn sasl<R, W>(
    ctx: &Arc<Context>,
    reader: &mut R,
    writer: &mut W,
    address: IpAddr,
    session: &Arc<Session>,
) -> Result<Option<Arc<Principal>>, FrameError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let security = &ctx.settings.security;
    let peer = Peer::new(address, Arc::new(Principal::anonymous()), Arc::clone(session));
    let stalled = Duration::from_millis(ctx.settings.slow_reader_timeout_ms);
    let patience = Patience {
        max_bytes: security.max_unauthenticated_request_bytes,
        idle: Duration::from_millis(ctx.settings.idle_connection_timeout_ms),
        whole: Duration::from_millis(ctx.settings.request_read_timeout_ms),
    };
    loop {
        let mut charge = ctx.request_memory.charge();
        let Some(bytes) = frame::read(reader, patience, &mut charge).await? else {
            return Ok(None);
        };
        let answer = if session.is_bare() {
            bare(ctx, session, bytes).await.map(Pieces::from)
        } else {
            answer(ctx, &peer, bytes, &mut charge).await?
        };
        if session.has_failed() {
            // Guessing takes its time.
            tokio::time::sleep(Duration::from_millis(security.failed_authentication_delay_ms)).await;
        }
        if let Some(answer) = answer {
            server::write_frame(writer, answer, stalled).await?;
        }
        if session.has_failed() {
            return Err(FrameError::AuthenticationFailed);
        }
        if let Some(principal) = session.principal() {
            return Ok(Some(principal));
        }
    }
}

async fn answer(
    ctx: &Arc<Context>,
    peer: &Peer,
    bytes: Bytes,
    charge: &mut Charge,
) -> Result<Option<Pieces>, FrameError> {
    let limits = RequestLimits { max_elements: MAX_ELEMENTS, max_client_id_bytes: ctx.settings.max_client_id_bytes };
    let frame = frame::parse(bytes, limits)?;
    charge.grow(frame.decoded_bytes()).await;
    match frame.key {
        ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => {
            handler::dispatch(ctx, peer, frame).await.map(|answer| Some(answer.frame))
        }
        key => Err(FrameError::NotAuthenticated(key)),
    }
}

/// A message of the mechanism without a header, after a handshake of version 0. There is no way to
/// say that it failed but to close the connection.
async fn bare(ctx: &Arc<Context>, session: &Session, message: Bytes) -> Option<Bytes> {
    let answered = session.proceed(ctx, message).await;
    let size = u32::try_from(answered.message.len()).ok().filter(|_| answered.error.is_none())?;
    Some([&size.to_be_bytes()[..], &answered.message].concat().into())
}
