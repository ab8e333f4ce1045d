//! One TCP connection to one broker: frames, correlation ids and the versions both sides speak.
//!
//! ```text
//!   request   length i32 | api key i16 | version i16 | correlation i32 | client id | ... | body
//!   answer    length i32 | correlation i32 | ... | body          answers come in the order of the requests
//! ```
//!
//! Calls block, with a time limit on every read and write. Several requests may be under way at once: a reader sends
//! the next one before it looks at the last answer, so that the broker and the network work meanwhile. A connection
//! that failed once is dropped, never mended. What a listener may ask before it serves, TLS and SASL, is done when the
//! connection is opened.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Message, Request, StrBytes, VersionRange, encode_request_header_into_buffer,
};

use super::error::{ClientError, ClientResult};
use super::sasl::{Credentials, Exchange};
use super::tls::{Stream, TlsSettings};

const SASL_HANDSHAKE_MAX_VERSION: i16 = 1;
const SASL_AUTHENTICATE_MAX_VERSION: i16 = 2;

/// No answer we ask for is larger: fetches are limited by their request, the rest is small.
const MAX_ANSWER_BYTES: usize = 512 << 20;

/// How long the parts of a call may take, and what we call ourselves.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// Time for a TCP connection to be made.
    pub connect_timeout: Duration,
    /// Time for an answer to begin, and for each part of it to follow.
    pub request_timeout: Duration,
    /// Our name in the broker's log and quotas.
    pub client_id: String,
    /// What is spoken over TLS, if anything.
    pub tls: Option<TlsSettings>,
    /// Who we are, where the listener wants to know.
    pub credentials: Option<Credentials>,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(30),
            client_id: "highwater".to_owned(),
            tls: None,
            credentials: None,
        }
    }
}

/// A connection that has asked the broker which versions it speaks.
pub struct Connection {
    stream: Stream,
    address: String,
    client_id: StrBytes,
    versions: HashMap<i16, VersionRange>,
    next_correlation: i32,
    under_way: VecDeque<UnderWay>,
    outgoing: BytesMut,
}

/// A request whose answer has not been read.
struct UnderWay {
    correlation: i32,
    version: i16,
}

impl Connection {
    /// Connects to `host:port`, learns its versions, and says who we are.
    pub fn open(address: &str, settings: &ConnectionSettings) -> ClientResult<Self> {
        let tcp = connect(address, settings.connect_timeout)
            .map_err(|source| ClientError::Unreachable { address: address.to_owned(), source })?;
        set_timeouts(&tcp, settings.connect_timeout)
            .map_err(|source| ClientError::Disconnected { address: address.to_owned(), source })?;
        let stream = Stream::over(tcp, address, settings.tls.as_ref())?;
        let mut connection = Self {
            stream,
            address: address.to_owned(),
            client_id: StrBytes::from_string(settings.client_id.clone()),
            versions: HashMap::new(),
            next_correlation: 0,
            under_way: VecDeque::new(),
            outgoing: BytesMut::new(),
        };
        connection.learn_versions()?;
        let set = set_timeouts(connection.stream.tcp(), settings.request_timeout);
        set.map_err(|source| connection.disconnected(source))?;
        if let Some(credentials) = &settings.credentials {
            connection.authenticate(credentials)?;
        }
        Ok(connection)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether no answer is outstanding, so that another caller may take the connection over.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether the broker knows a request at all.
    pub fn supports(&self, api: ApiKey) -> bool {
        self.versions.contains_key(&(api as i16))
    }

    /// Sends a request and waits for its answer; nothing else may be under way.
    pub fn call<R: Request>(&mut self, request: &R, max_version: i16) -> ClientResult<R::Response> {
        self.send(request, max_version)?;
        self.receive::<R>()
    }

    /// Sends a request in the newest version both sides speak, at most `max_version`.
    pub fn send<R: Request>(&mut self, request: &R, max_version: i16) -> ClientResult<()> {
        let version = self.version_of::<R>(max_version)?;
        self.send_as(request, version)
    }

    /// Reads the answer to the oldest request under way, which must have been an `R`.
    pub fn receive<R: Request>(&mut self) -> ClientResult<R::Response> {
        let mut frame = self.read_frame().map_err(|source| self.disconnected(source))?;
        let Some(UnderWay { correlation, version }) = self.under_way.pop_front() else {
            return Err(self.protocol("an answer to no request"));
        };
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version))
            .map_err(|error| self.protocol(error))?;
        if header.correlation_id != correlation {
            return Err(self.protocol("an answer to another request"));
        }
        R::Response::decode(&mut frame, version).map_err(|error| self.protocol(error))
    }

    fn version_of<R: Request>(&self, max_version: i16) -> ClientResult<i16> {
        let ours = VersionRange { min: R::VERSIONS.min, max: R::VERSIONS.max.min(max_version) };
        let both = self.versions.get(&R::KEY).map(|theirs| ours.intersect(theirs));
        match both {
            Some(range) if !range.is_empty() => Ok(range.max),
            _ => Err(ClientError::Unsupported {
                address: self.address.clone(),
                api: ApiKey::try_from(R::KEY).map_or_else(|()| R::KEY.to_string(), |key| format!("{key:?}")),
                min: ours.min,
                max: ours.max,
            }),
        }
    }

    fn send_as<R: Request>(&mut self, request: &R, version: i16) -> ClientResult<()> {
        let correlation = self.next_correlation;
        self.next_correlation = self.next_correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(self.client_id.clone()));
        self.outgoing.clear();
        self.outgoing.put_i32(0);
        encode_request_header_into_buffer(&mut self.outgoing, &header)
            .and_then(|()| request.encode(&mut self.outgoing, version))
            .map_err(|error| self.protocol(error))?;
        let length = i32::try_from(self.outgoing.len() - 4).map_err(|error| self.protocol(error))?;
        self.outgoing[..4].copy_from_slice(&length.to_be_bytes());
        let sent = self.stream.write_all(&self.outgoing).and_then(|()| self.stream.flush());
        sent.map_err(|source| self.disconnected(source))?;
        self.under_way.push_back(UnderWay { correlation, version });
        Ok(())
    }

    /// Asks for versions in the newest form; a broker that does not know it answers in the oldest, as KIP-511 says.
    fn learn_versions(&mut self) -> ClientResult<()> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("highwater"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        self.send_as(&request, ApiVersionsRequest::VERSIONS.max.min(3))?;
        let mut frame = self.read_frame().map_err(|source| self.disconnected(source))?;
        self.under_way.clear();
        let unsupported = ResponseError::UnsupportedVersion.code();
        let response = if frame.get(4..6) == Some(&unsupported.to_be_bytes()) {
            self.send_as(&ApiVersionsRequest::default(), 0)?;
            self.receive::<ApiVersionsRequest>()?
        } else {
            ResponseHeader::decode(&mut frame, ApiVersionsResponse::header_version(3))
                .and_then(|_| ApiVersionsResponse::decode(&mut frame, 3))
                .map_err(|error| self.protocol(error))?
        };
        if let Some(code) = ResponseError::try_from_code(response.error_code) {
            return Err(ClientError::Refused { what: format!("to say its versions ({})", self.address), code });
        }
        let range = |api: &kafka_protocol::messages::api_versions_response::ApiVersion| VersionRange {
            min: api.min_version,
            max: api.max_version,
        };
        self.versions = response.api_keys.iter().map(|api| (api.api_key, range(api))).collect();
        Ok(())
    }

    /// Says who we are, and hears that it is believed.
    fn authenticate(&mut self, credentials: &Credentials) -> ClientResult<()> {
        let mechanism = StrBytes::from_static_str(credentials.mechanism.name());
        let offered =
            self.call(&SaslHandshakeRequest::default().with_mechanism(mechanism), SASL_HANDSHAKE_MAX_VERSION)?;
        if offered.error_code != 0 {
            let offered: Vec<&str> = offered.mechanisms.iter().map(StrBytes::as_str).collect();
            let (asked, offered) = (credentials.mechanism.name(), offered.join(", "));
            return Err(self.not_authenticated(format!("it takes {offered}, not {asked}")));
        }
        let (mut exchange, first) = Exchange::begin(credentials, uuid::Uuid::new_v4().simple().to_string());
        let mut next = Some(first);
        while let Some(message) = next {
            let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
            let answer = self.call(&request, SASL_AUTHENTICATE_MAX_VERSION)?;
            if let Some(code) = ResponseError::try_from_code(answer.error_code) {
                let words = answer.error_message.map_or_else(|| format!("{code:?}"), |words| words.to_string());
                return Err(self.not_authenticated(words));
            }
            next = exchange.answer(&answer.auth_bytes).map_err(|reason| self.not_authenticated(reason))?;
        }
        Ok(())
    }

    fn not_authenticated(&self, reason: String) -> ClientError {
        ClientError::NotAuthenticated { address: self.address.clone(), reason }
    }

    fn read_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = (&length[..]).get_i32();
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_ANSWER_BYTES).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("an answer claims {length} bytes: is this Kafka?"))
        })?;
        let mut frame = Vec::with_capacity(length.min(64 << 20));
        let read = Read::by_ref(&mut self.stream).take(length as u64).read_to_end(&mut frame)?;
        if read < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(frame.into())
    }

    fn disconnected(&self, source: io::Error) -> ClientError {
        let source = match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
            }
            io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the broker"),
            _ => source,
        };
        ClientError::Disconnected { address: self.address.clone(), source }
    }

    fn protocol(&self, reason: impl ToString) -> ClientError {
        ClientError::Protocol { address: self.address.clone(), reason: reason.to_string().trim().to_owned() }
    }
}

fn set_timeouts(tcp: &TcpStream, timeout: Duration) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(timeout))?;
    tcp.set_write_timeout(Some(timeout))
}

/// Connects to the first of the host's addresses that answers.
fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
