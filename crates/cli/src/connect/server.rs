//! The sockets: connections through their [`Door`], and each call in a task of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::door::Door;
use super::grpc;
use super::problem::Problem;
use super::service::Service;
use crate::error::{Failure, Result};

/// How many connections are served at once, and how many more may wait for their first call to be admitted. Apart, so that
/// who says nothing takes no place of those who do.
const MAX_CONNECTIONS: usize = 256;
const MAX_GREETINGS: usize = 256;

/// The stack of a thread: plans are read and planned with it, and they may be deep.
pub(super) const STACK_BYTES: usize = 64 << 20;

/// How often a connection is looked after.
const PING: Duration = Duration::from_secs(30);

/// How long a client may take until a call of it is admitted.
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

/// The place of a connection: among those who wait, and from its first admitted call on among those who are served.
struct Place {
    held: Mutex<Held>,
    served: Arc<Semaphore>,
}

enum Held {
    Greeting(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
    Served(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
}

impl Place {
    fn new(greeting: OwnedSemaphorePermit, served: Arc<Semaphore>) -> Self {
        Self { held: Mutex::new(Held::Greeting(greeting)), served }
    }

    /// A call of the connection is let in: it has a place as long as it lasts, if there is one.
    fn admit(&self) -> Result<(), Problem> {
        let mut held = self.held.lock();
        if matches!(*held, Held::Greeting(_)) {
            let place = Arc::clone(&self.served).try_acquire_owned();
            *held = Held::Served(place.map_err(|_| {
                Problem::exhausted(format!("{MAX_CONNECTIONS} connections are served\nclose one, or try again later"))
            })?);
        }
        Ok(())
    }

    fn is_served(&self) -> bool {
        matches!(*self.held.lock(), Held::Served(_))
    }
}

async fn accept(listener: TcpListener, service: Arc<Service>, door: Arc<Door>) {
    let (greetings, served) = (Arc::new(Semaphore::new(MAX_GREETINGS)), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    loop {
        let Ok(greeting) = Arc::clone(&greetings).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (service, door) = (Arc::clone(&service), Arc::clone(&door));
                let place = Arc::new(Place::new(greeting, Arc::clone(&served)));
                tokio::spawn(enter(stream, service, door, place));
            }
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                // Out of file descriptors, for example: at once would be the same.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A connection; one whose client has no call that is admitted takes no place for long, whatever else it says.
async fn enter(stream: TcpStream, service: Arc<Service>, door: Arc<Door>, place: Arc<Place>) {
    let _ = stream.set_nodelay(true);
    let deadline = tokio::time::Instant::now() + GREETING;
    let Some(tls) = &door.tls else { return serve(stream, service, door, place, deadline).await };
    match tokio::time::timeout_at(deadline, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, service, Arc::clone(&door), place, deadline).await,
        Ok(Err(error)) => tracing::debug!("a connection has no TLS as it is expected: {error}"),
        Err(_) => tracing::debug!("a connection has not ended its TLS handshake in time"),
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    service: Arc<Service>,
    door: Arc<Door>,
    place: Arc<Place>,
    deadline: tokio::time::Instant,
) {
    let entered = Arc::clone(&place);
    let call = service_fn(move |request: Request<Incoming>| {
        let admitted = door.admit(request.headers()).and_then(|()| entered.admit());
        let service = Arc::clone(&service);
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
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), call));
    let ended = match tokio::time::timeout_at(deadline, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) if place.is_served() => connection.await,
        Err(_) => return tracing::debug!("a connection has had no call in time that is admitted"),
    };
    if let Err(error) = ended {
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn place(served: usize) -> (Arc<Semaphore>, Arc<Semaphore>, Place) {
        let (greetings, served) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(served)));
        let place = Place::new(Arc::clone(&greetings).try_acquire_owned().unwrap(), Arc::clone(&served));
        (greetings, served, place)
    }

    #[test]
    fn a_connection_waits_apart_until_a_call_of_it_is_admitted() {
        let free =
            |greetings: &Semaphore, served: &Semaphore| (greetings.available_permits(), served.available_permits());
        let (greetings, served, entered) = place(1);
        assert_eq!((free(&greetings, &served), entered.is_served()), ((0, 1), false));
        entered.admit().unwrap();
        entered.admit().unwrap();
        assert_eq!((free(&greetings, &served), entered.is_served()), ((1, 0), true));
        drop(entered);
        assert_eq!(free(&greetings, &served), (1, 1));
        // Where none is free it is told so.
        let (greetings, served, refused) = place(0);
        assert!(refused.admit().unwrap_err().message().starts_with("256 connections are served"));
        assert_eq!((free(&greetings, &served), refused.is_served()), ((0, 0), false));
    }

    /// Without a call no word of HTTP keeps a connection: not none at all, and not its first.
    #[test]
    fn who_calls_nothing_is_not_served_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            storage: folder.path().to_owned(),
            statements: Vec::new(),
            configuration: std::collections::BTreeMap::new(),
            session_timeout: Duration::from_secs(60),
        };
        let service = Arc::new(Service::new(settings));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for said in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"] {
            let (greetings, _, place) = place(1);
            runtime.block_on(async {
                let (mut client, server) = tokio::io::duplex(1 << 16);
                client.write_all(said.as_bytes()).await.unwrap();
                let deadline = tokio::time::Instant::now() + Duration::from_millis(20);
                let serving = serve(server, Arc::clone(&service), Arc::default(), Arc::new(place), deadline);
                tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it ends");
                drop(client);
            });
            assert_eq!(greetings.available_permits(), 1, "{said:?}");
        }
    }
}
