//! The sockets: connections through their [`Door`], and each call in a task of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::door::Door;
use super::grpc;
use super::service::Service;
use crate::error::{Failure, Result};

/// How many connections are served at once.
const MAX_CONNECTIONS: usize = 256;

/// The stack of a thread: plans are read and planned with it, and they may be deep.
pub(super) const STACK_BYTES: usize = 64 << 20;

/// How often a connection is looked after.
const PING: Duration = Duration::from_secs(30);

/// How long a client may take to say anything.
const GREETING: Duration = Duration::from_secs(10);

/// How often it is looked for what nobody asks for any more, at the least.
const TIDY: Duration = Duration::from_secs(60);

/// What a server is told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where tables and checkpoints are kept.
    pub(crate) storage: PathBuf,
    /// Statements that every session begins with.
    pub(crate) statements: Vec<String>,
    /// The configuration that every session begins with.
    pub(crate) configuration: std::collections::BTreeMap<String, String>,
    /// How long a session is kept that nobody uses.
    pub(crate) session_timeout: Duration,
}

/// A server that runs.
pub(crate) struct Server {
    runtime: Runtime,
    service: Arc<Service>,
    address: SocketAddr,
}

impl Server {
    /// Listens.
    pub(crate) fn start(settings: Settings, door: Door) -> Result<Self> {
        door.check(settings.listen)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("connect")
            .thread_stack_size(STACK_BYTES)
            .build()
            .map_err(|error| Failure::runtime(format!("the server's threads cannot start: {error}")))?;
        let listen = settings.listen;
        let listener = runtime.block_on(TcpListener::bind(listen)).map_err(|error| {
            Failure::runtime(format!("{listen} cannot be listened on: {error}")).help("choose another with --listen")
        })?;
        let address = listener.local_addr().map_err(|error| Failure::runtime(error.to_string()))?;
        let tidy_every = settings.session_timeout.clamp(Duration::from_secs(1), TIDY);
        let service = Arc::new(Service::new(settings));
        runtime.spawn(accept(listener, Arc::clone(&service), Arc::new(door)));
        runtime.spawn(tidy(Arc::clone(&service), tidy_every));
        Ok(Self { runtime, service, address })
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets streaming queries finish their batch, and ends.
    pub(crate) fn shutdown(self) {
        self.service.end_sessions();
        self.runtime.shutdown_background();
    }
}

async fn accept(listener: TcpListener, service: Arc<Service>, door: Arc<Door>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (service, door) = (Arc::clone(&service), Arc::clone(&door));
                tokio::spawn(async move {
                    enter(stream, service, door).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                // Out of file descriptors, for example: at once would be the same.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A connection; one whose client says nothing takes no place for long.
async fn enter(stream: TcpStream, service: Arc<Service>, door: Arc<Door>) {
    let _ = stream.set_nodelay(true);
    if !matches!(tokio::time::timeout(GREETING, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let Some(tls) = &door.tls else { return serve(stream, service, door).await };
    match tokio::time::timeout(GREETING, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, service, Arc::clone(&door)).await,
        Ok(Err(error)) => tracing::debug!("a connection has no TLS as it is expected: {error}"),
        Err(_) => tracing::debug!("a connection has not ended its TLS handshake in time"),
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, service: Arc<Service>, door: Arc<Door>) {
    let call = service_fn(move |request: Request<Incoming>| {
        let (service, admitted) = (Arc::clone(&service), door.admit(request.headers()));
        async move {
            let read = match admitted {
                // Nothing is read of who is not let in.
                Err(problem) => Err(problem),
                Ok(()) => grpc::read(request).await,
            };
            let answers = match read {
                Ok((method, message)) => service.call(&method, message).await,
                Err(problem) => Err(problem),
            };
            if let Err(problem) = &answers {
                tracing::debug!("a call failed: {}", problem.message());
            }
            Ok::<_, Infallible>(grpc::response(answers))
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING).max_concurrent_streams(256);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), call).await {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn tidy(service: Arc<Service>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        service.tidy(Instant::now());
    }
}
