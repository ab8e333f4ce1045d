//! Frames: from the bytes of a connection to a request header and body, and back.
//!
//! ```text
//! request   | size i32 | api key i16 | version i16 | correlation id i32 | client id | tags? | body |
//! response  | size i32 | correlation id i32 | tags? | body |
//! ```
//!
//! The size is judged before anything is allocated, and the buffer grows with the bytes that
//! really arrive: a connection that claims 100 MiB and sends none costs nothing.

use std::io;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{api, shape};

/// First allocation for a frame; it doubles as bytes arrive. Memory the system has not seen written
/// costs nothing, so this may be large enough for most frames.
const FIRST_READ: usize = 1024 * 1024;

/// Why a connection has to be closed.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("a frame of {found} bytes, but the limit is {limit}")]
    Size { found: i32, limit: usize },
    #[error("api key {0} is unknown")]
    UnknownApi(i16),
    #[error("{key:?} version {version} is not served")]
    Version { key: ApiKey, version: i16 },
    #[error("the header of a {key:?} request cannot be read: {reason}")]
    Header { key: ApiKey, reason: String },
    #[error("the body of a {key:?} request, version {version}, cannot be read: {reason}")]
    Body { key: ApiKey, version: i16, reason: String },
    #[error("the answer to a {key:?} request, version {version}, cannot be encoded: {reason}")]
    Encode { key: ApiKey, version: i16, reason: String },
    #[error("a {0:?} request before authentication")]
    NotAuthenticated(ApiKey),
    #[error("a {0:?} request after the end of the session, which was not renewed")]
    SessionExpired(ApiKey),
    #[error("authentication failed")]
    AuthenticationFailed,
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("the client's certificate cannot be used: {0}")]
    ClientCertificate(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A request whose header is understood and whose body has the right shape.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: String,
    pub(crate) body: Bytes,
    /// The client asked for a version of `ApiVersions` that is not served. By the protocol it is
    /// told so in version 0, which every client can read, and tries again.
    pub(crate) fall_back: bool,
}

/// Reads the size and the bytes of the next frame; `None` at the end of the connection.
pub(crate) async fn read<R: AsyncRead + Unpin>(reader: &mut R, limit: usize) -> Result<Option<Bytes>, FrameError> {
    let size = match reader.read_i32().await {
        Ok(size) => size,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let refused = FrameError::Size { found: size, limit };
    let Some(size) = usize::try_from(size).ok().filter(|&size| size <= limit) else { return Err(refused) };
    let mut frame = BytesMut::with_capacity(size.min(FIRST_READ));
    while frame.len() < size {
        let left = size - frame.len();
        if frame.capacity() == frame.len() {
            frame.reserve(left.min(frame.len()));
        }
        if (&mut *reader).take(left as u64).read_buf(&mut frame).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(Some(frame.freeze()))
}

/// Understands the header of a frame and checks the shape of its body.
pub(crate) fn parse(mut bytes: Bytes, max_elements: usize) -> Result<Frame, FrameError> {
    let (number, version) = match bytes.get(..4) {
        Some(start) => (i16::from_be_bytes([start[0], start[1]]), i16::from_be_bytes([start[2], start[3]])),
        None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    };
    let key = ApiKey::try_from(number).map_err(|_| FrameError::UnknownApi(number))?;
    let served = api::find(key, version).is_some();
    if !served && key != ApiKey::ApiVersions {
        return Err(FrameError::Version { key, version });
    }
    // The parts every header version begins with are enough to refuse a version.
    let header_version = if served { key.request_header_version(version) } else { 1 };
    let header = RequestHeader::decode(&mut bytes, header_version)
        .map_err(|error| FrameError::Header { key, reason: error.to_string() })?;
    if served {
        shape::check(key, version, &bytes, max_elements).map_err(|error| FrameError::Body {
            key,
            version,
            reason: error.to_string(),
        })?;
    }
    Ok(Frame {
        key,
        version: if served { version } else { 0 },
        correlation_id: header.correlation_id,
        client_id: header.client_id.map(|id| id.to_string()).unwrap_or_default(),
        body: bytes,
        fall_back: !served,
    })
}

impl Frame {
    /// Decodes the body, which has passed its shape.
    pub(crate) fn decode<T: Decodable>(&self) -> Result<T, FrameError> {
        T::decode(&mut self.body.clone(), self.version).map_err(|error| FrameError::Body {
            key: self.key,
            version: self.version,
            reason: error.to_string(),
        })
    }
}

/// What an answer has to repeat of its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerTo {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

impl AnswerTo {
    /// A whole response frame.
    pub(crate) fn encode<T: Encodable>(&self, body: &T) -> Result<Bytes, FrameError> {
        self.try_encode(body).map_err(|reason| FrameError::Encode { key: self.key, version: self.version, reason })
    }

    fn try_encode<T: Encodable>(&self, body: &T) -> Result<Bytes, String> {
        let header_version = self.key.response_header_version(self.version);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let size = header.compute_size(header_version).map_err(|error| text(&error))?
            + body.compute_size(self.version).map_err(|error| text(&error))?;
        let prefix = i32::try_from(size).map_err(|error| text(&error))?;
        let mut frame = BytesMut::with_capacity(size + 4);
        frame.extend_from_slice(&prefix.to_be_bytes());
        header.encode(&mut frame, header_version).map_err(|error| text(&error))?;
        body.encode(&mut frame, self.version).map_err(|error| text(&error))?;
        Ok(frame.freeze())
    }
}
