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
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout};

use super::{api, shape};
use crate::budget::Charge;

/// First allocation for a frame; it doubles as bytes arrive. Memory the system has not seen written
/// costs nothing, so this may be large enough for most frames.
const FIRST_READ: usize = 1024 * 1024;

/// Why a connection has to be closed.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("a frame of {found} bytes, but max_request_bytes is {limit}")]
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
    #[error("a client id of {found} bytes, but max_client_id_bytes is {limit}")]
    ClientId { found: usize, limit: usize },
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
    /// Bytes of the whole frame.
    pub(crate) size_bytes: usize,
    /// Elements of its arrays and tagged fields.
    pub(crate) elements: usize,
    /// The client asked for a version of `ApiVersions` that is not served. By the protocol it is
    /// told so in version 0, which every client can read, and tries again.
    pub(crate) fall_back: bool,
}

/// How much is read, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) max_bytes: usize,
    /// Until a frame begins.
    pub(crate) idle: Duration,
    /// From its size to its last byte, without the time that is spent waiting for memory.
    pub(crate) whole: Duration,
}

/// Reads the size and the bytes of the next frame; `None` at the end of the connection. The bytes are charged as they
/// arrive.
pub(crate) async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    patience: Patience,
    charge: &mut Charge,
) -> Result<Option<Bytes>, FrameError> {
    let size = match timeout(patience.idle, reader.read_i32()).await.map_err(|_| timed_out("no request came"))? {
        Ok(size) => size,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let refused = FrameError::Size { found: size, limit: patience.max_bytes };
    let Some(size) = usize::try_from(size).ok().filter(|&size| size <= patience.max_bytes) else { return Err(refused) };
    let mut frame = BytesMut::with_capacity(size.min(FIRST_READ));
    let mut time_left = patience.whole;
    while frame.len() < size {
        let left = size - frame.len();
        if frame.capacity() == frame.len() {
            frame.reserve(left.min(frame.len()));
        }
        let started = Instant::now();
        let mut rest = (&mut *reader).take(left as u64);
        let read = timeout(time_left, rest.read_buf(&mut frame)).await;
        let count = read.map_err(|_| timed_out("a request did not arrive whole"))??;
        time_left = time_left.saturating_sub(started.elapsed());
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        charge.grow(count).await;
    }
    Ok(Some(frame.freeze()))
}

pub(crate) fn timed_out(what: &'static str) -> FrameError {
    io::Error::new(io::ErrorKind::TimedOut, what).into()
}

/// What a request may be, beside its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLimits {
    pub(crate) max_elements: usize,
    pub(crate) max_client_id_bytes: usize,
}

/// Understands the header of a frame and checks the shape of its body.
pub(crate) fn parse(mut bytes: Bytes, limits: RequestLimits) -> Result<Frame, FrameError> {
    let size_bytes = bytes.len();
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
    check_header_tags(&bytes, header_version, limits.max_elements)
        .map_err(|reason| FrameError::Header { key, reason })?;
    let header = RequestHeader::decode(&mut bytes, header_version)
        .map_err(|error| FrameError::Header { key, reason: error.to_string() })?;
    let found = header.client_id.as_ref().map_or(0, |id| id.len());
    if found > limits.max_client_id_bytes {
        return Err(FrameError::ClientId { found, limit: limits.max_client_id_bytes });
    }
    let mut elements = header.unknown_tagged_fields.len();
    if served {
        let walked = shape::walk(key, version, &bytes, limits.max_elements);
        elements += walked.map_err(|error| FrameError::Body { key, version, reason: error.to_string() })?.elements;
    }
    Ok(Frame {
        key,
        version: if served { version } else { 0 },
        correlation_id: header.correlation_id,
        client_id: header.client_id.map(|id| id.to_string()).unwrap_or_default(),
        body: bytes,
        size_bytes,
        elements,
        fall_back: !served,
    })
}

/// Refuses a header with more tagged fields than a request may have elements: the decoder keeps each.
fn check_header_tags(bytes: &[u8], header_version: i16, limit: usize) -> Result<(), String> {
    /// Api key, version and correlation id.
    const CLIENT_ID_AT: usize = 8;
    let Some(length) = bytes.get(CLIENT_ID_AT..CLIENT_ID_AT + 2).filter(|_| header_version >= 2) else {
        return Ok(());
    };
    let length = usize::try_from(i16::from_be_bytes([length[0], length[1]])).unwrap_or(0);
    let mut count = 0_u64;
    for (shift, byte) in (0..).step_by(7).zip(bytes.iter().skip(CLIENT_ID_AT + 2 + length).take(5)) {
        count |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if count > limit as u64 {
        return Err(format!("{count} tagged fields, but max_request_elements is {limit}"));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    const LIMITS: RequestLimits = RequestLimits { max_elements: 100, max_client_id_bytes: 10 };
    const PATIENCE: Patience =
        Patience { max_bytes: 1000, idle: Duration::from_secs(60), whole: Duration::from_secs(10) };

    /// A Heartbeat of version 4 with this client id and header tags, and nothing behind.
    fn frame(client_id: &str, tags: &[u8]) -> Bytes {
        let mut frame = [0, 12, 0, 4, 0, 0, 0, 7].to_vec();
        frame.extend((client_id.len() as i16).to_be_bytes());
        frame.extend(client_id.as_bytes());
        frame.extend(tags);
        frame.into()
    }

    #[test]
    fn a_header_is_held_to_its_limits() {
        let check = |bytes: Bytes, expected: &str| {
            let error = parse(bytes, LIMITS).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(frame("eleven char", &[0]), "max_client_id_bytes is 10");
        check(frame("c", &[101, 0, 0]), "101 tagged fields");
        check(frame("c", &[0xff, 0xff, 0xff, 0xff, 0x0f]), "4294967295 tagged fields");
        check(frame("c", &[0]), "body");
        check(frame("c", &[1, 5, 1, 9, 1]), "body");
        let whole = [&frame("c", &[1, 5, 1, 9])[..], &[1, 0, 0, 0, 0, 1, 0, 0]].concat();
        let parsed = parse(whole.clone().into(), LIMITS).expect("whole");
        assert_eq!((parsed.size_bytes, parsed.elements, &*parsed.client_id), (whole.len(), 1, "c"));
    }

    #[tokio::test]
    async fn a_frame_is_charged_as_it_arrives() {
        let budget = Budget::new(1 << 20);
        let (mut near, mut far) = tokio::io::duplex(64);
        let sent = [&900_i32.to_be_bytes()[..], &[1; 900]].concat();
        let sending = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut far, &sent).await });
        let mut charge = budget.charge();
        let frame = read(&mut near, PATIENCE, &mut charge).await.expect("read").expect("a frame");
        assert_eq!((frame.len(), charge.size()), (900, 900));
        sending.await.expect("joined").expect("sent");
        assert!(read(&mut near, PATIENCE, &mut charge).await.expect("the end").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_begin_or_end_is_given_up() {
        let budget = Budget::new(1 << 20);
        let (mut near, mut far) = tokio::io::duplex(64);
        let error = read(&mut near, PATIENCE, &mut budget.charge()).await.expect_err("silence").to_string();
        assert!(error.contains("no request came"), "{error}");
        let trickle = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut far, &500_i32.to_be_bytes()).await.expect("sent");
            while tokio::io::AsyncWriteExt::write_all(&mut far, &[1]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let error = read(&mut near, PATIENCE, &mut budget.charge()).await.expect_err("too slow").to_string();
        assert!(error.contains("did not arrive whole"), "{error}");
        drop(near);
        trickle.await.expect("joined");
    }

    #[tokio::test]
    async fn a_frame_that_is_too_large_is_refused_by_its_size() {
        for size in [1001, i32::MAX, -1, i32::MIN] {
            let bytes = size.to_be_bytes();
            let error = read(&mut &bytes[..], PATIENCE, &mut Budget::new(10).charge()).await.expect_err("refused");
            assert!(error.to_string().contains("max_request_bytes is 1000"), "{error}");
        }
    }
}
