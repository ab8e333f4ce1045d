//! gRPC as far as Spark Connect needs it: calls with one request and one answer or a stream of answers, over HTTP/2.
//!
//! ```text
//!   request ─framed─> POST /spark.connect.SparkConnectService/NAME
//!   answers <─ framed ...  <─ trailers: grpc-status, grpc-message (percent-encoded)
//! ```
//!
//! One connection serves all calls; pings keep it open while a run says nothing for long, and find out that the server is
//! gone. It compresses nothing and sends no stream: nothing here needs that.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::address::Address;
use crate::error::{Failure, Result};
use crate::spark_connect::framing::{SERVICE, framed, take_message};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(10);

/// How often a connection is looked after.
const PING: Duration = Duration::from_secs(20);

/// Codes of gRPC that are told apart here.
const OK: u32 = 0;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

/// A call that the server, or the way to it, has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// The code of gRPC.
    pub(crate) code: u32,
    /// What it says.
    pub(crate) message: String,
}

impl Status {
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { code: UNAVAILABLE, message: message.into() }
    }

    /// Whether the way to the server is at fault, and not what was asked.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        matches!(self.code, UNAVAILABLE | UNAUTHENTICATED)
    }

    /// Whether the connection broke, and what was asked may still be under way.
    pub(super) fn is_broken_connection(&self) -> bool {
        self.code == UNAVAILABLE
    }

    /// Whether the server knows nothing of the execution or session that was asked for.
    pub(super) fn is_forgotten(&self) -> bool {
        ["INVALID_HANDLE.", "INVALID_CURSOR."].iter().any(|condition| self.message.contains(condition))
    }

    /// As the failure of a command, where the server's words have no place in the user's text.
    pub(crate) fn failure(&self, address: &Address) -> Failure {
        let failure = Failure::runtime(format!("{address}: {}", self.message));
        match self.code {
            UNAVAILABLE => {
                failure.help(
                "look whether the Spark Connect server runs and listens there, then start again: a run goes on where the \
                 last one has committed",
            )
            }
            UNAUTHENTICATED => failure.help("give its token: sc://HOST:PORT/;use_ssl=true;token=..."),
            _ => failure,
        }
    }
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: http2::SendRequest<Full<Bytes>>,
    headers: HeaderMap,
    authority: String,
    scheme: &'static str,
}

impl Channel {
    /// Opens a connection.
    pub(crate) async fn open(address: &Address) -> Result<Self> {
        let headers = headers(address)?;
        let opened = tokio::time::timeout(CONNECT, connect(address)).await;
        let sender = match opened {
            Ok(Ok(sender)) => sender,
            Ok(Err(reason)) => return Err(unreachable(address, &reason)),
            Err(_) => return Err(unreachable(address, &format!("no answer within {} s", CONNECT.as_secs()))),
        };
        let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
        let scheme = if address.use_ssl { "https" } else { "http" };
        Ok(Self { sender, headers, authority: format!("{host}:{}", address.port), scheme })
    }

    /// Asks for one answer.
    pub(crate) async fn unary<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A, Status> {
        let mut answers = self.stream::<A>(method, request).await?;
        let first = answers.next().await?;
        let answer = first.ok_or_else(|| Status::unavailable(format!("{method} ended without an answer")))?;
        // The trailers come after it, and may take the answer back.
        while answers.next().await?.is_some() {}
        Ok(answer)
    }

    /// Asks for a stream of answers.
    pub(crate) async fn stream<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<Answers<A>, Status> {
        let uri = format!("{}://{}{SERVICE}{method}", self.scheme, self.authority);
        let mut http = hyper::Request::post(uri)
            .body(Full::new(framed(request)))
            .map_err(|error| Status::unavailable(error.to_string()))?;
        http.headers_mut().extend(self.headers.clone());
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|error| broken(&error))?;
        let response = sender.send_request(http).await.map_err(|error| broken(&error))?;
        if !response.status().is_success() {
            return Err(Status::unavailable(format!("{method} was answered with HTTP status {}", response.status())));
        }
        // A call that fails at once has its trailers in the place of headers.
        if let Some(status) = status_of(response.headers()) {
            status?;
        }
        Ok(Answers {
            body: response.into_body(),
            buffer: BytesMut::new(),
            is_ended: false,
            kind: std::marker::PhantomData,
        })
    }
}

/// The answers of a call, as they come.
pub(crate) struct Answers<A> {
    body: Incoming,
    buffer: BytesMut,
    is_ended: bool,
    kind: std::marker::PhantomData<fn() -> A>,
}

impl<A: Message + Default> Answers<A> {
    /// The next answer; none at the end. May be dropped while it waits: what has come is kept.
    pub(crate) async fn next(&mut self) -> Result<Option<A>, Status> {
        loop {
            if let Some(message) = take_message(&mut self.buffer).map_err(Status::unavailable)? {
                let answer = A::decode(message);
                return answer
                    .map(Some)
                    .map_err(|error| Status::unavailable(format!("an answer cannot be read: {error}")));
            }
            if self.is_ended {
                return Ok(None);
            }
            let Some(frame) = self.body.frame().await else {
                return Err(Status::unavailable("the connection ended in the middle of an answer"));
            };
            match frame.map_err(|error| broken(&error))?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(status) = frame.trailers_ref().and_then(status_of) {
                        status?;
                        self.is_ended = true;
                    }
                }
            }
        }
    }
}

/// What trailers say of the call; nothing if they are headers.
fn status_of(trailers: &HeaderMap) -> Option<Result<(), Status>> {
    let code = trailers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(2);
    let message = trailers.get("grpc-message").map(|text| percent_decoded(text.as_bytes())).unwrap_or_default();
    Some(if code == OK { Ok(()) } else { Err(Status { code, message }) })
}

fn percent_decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if text[at] == b'%' => {
                bytes.push(byte);
                at += 3;
            }
            _ => {
                bytes.push(text[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn broken(error: &hyper::Error) -> Status {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Status::unavailable(format!("the connection broke: {error}{cause}"))
}

fn headers(address: &Address) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("highwater/", env!("CARGO_PKG_VERSION"))));
    let value = |name: &str, text: &str| {
        HeaderValue::from_str(text).map_err(|_| {
            Failure::usage(format!("'{name}' in the address of the Spark Connect server is no text of a header"))
        })
    };
    if let Some(token) = &address.token {
        let mut bearer = value("token", &format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    for (name, text) in &address.headers {
        let key = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
        let key = key.map_err(|_| {
            Failure::usage(format!("'{name}' in the address of the Spark Connect server is not the name of a header"))
        })?;
        headers.insert(key, value(name, text)?);
    }
    Ok(headers)
}

async fn connect(address: &Address) -> Result<http2::SendRequest<Full<Bytes>>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|error| text(&error))?;
    stream.set_nodelay(true).map_err(|error| text(&error))?;
    if !address.use_ssl {
        return handshake(TokioIo::new(stream)).await;
    }
    let name = ServerName::try_from(address.host.clone()).map_err(|error| text(&error))?;
    let stream = tls()?.connect(name, stream).await.map_err(|error| text(&error))?;
    handshake(TokioIo::new(stream)).await
}

async fn handshake<T>(io: TokioIo<T>) -> Result<http2::SendRequest<Full<Bytes>>, String>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
    let (sender, connection) = builder.handshake(io).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("the connection to Spark Connect ended: {error}");
        }
    });
    Ok(sender)
}

/// TLS by the certificates this system trusts, `SSL_CERT_FILE` among them.
fn tls() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that is not understood makes the others no worse.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err("this system has no certificates to trust; set SSL_CERT_FILE".to_owned());
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn unreachable(address: &Address, reason: &str) -> Failure {
    Failure::runtime(format!("the Spark Connect server {address} cannot be reached: {reason}"))
        .help("look whether it runs and listens there: Spark starts one with sbin/start-connect-server.sh")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_how_a_call_ended() {
        let check = |pairs: &[(&'static str, &'static str)], expected: Option<Result<(), (u32, &str)>>| {
            let mut trailers = HeaderMap::new();
            pairs.iter().for_each(|(name, value)| drop(trailers.insert(*name, HeaderValue::from_static(value))));
            let found = status_of(&trailers);
            let found = found.as_ref().map(|result| result.as_ref().copied().map_err(|s| (s.code, s.message.as_str())));
            assert_eq!(found, expected);
        };
        check(&[("content-type", "application/grpc")], None);
        check(&[("grpc-status", "0")], Some(Ok(())));
        check(&[("grpc-status", "13"), ("grpc-message", "caf%C3%A9%0A100% of")], Some(Err((13, "café\n100% of"))));
    }
}
