//! ShareFetch and ShareAcknowledge in version 2 (Kafka 4.2), which the codec does not know: it is version 1 with a few
//! bytes more, taken out before the codec reads and put in after it has written.
//!
//! ```text
//! ShareFetch request         | group | member | 6 x i32 | acquire mode i8, is renew i8 | topics ...
//! ShareAcknowledge request   | group | member | epoch i32 | is renew i8 | topics ...
//! ShareAcknowledge response  | throttle i32 | error i16 | message | lock timeout i32 | topics ...
//!                                                                  ^ new in version 2
//! ```
//!
//! The answer to ShareFetch is the same in both. The requests have passed their shapes when they come here.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareFetchRequest};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::frame::{AnswerTo, Frame, FrameError};

/// The version the codec knows.
const KNOWN: i16 = 1;

/// What version 2 says besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extras {
    /// The number of records asked for is a limit, and no hint.
    pub(crate) is_strict: bool,
    /// There are acknowledgements that ask for more time.
    pub(crate) is_renew: bool,
}

/// The version the codec reads and writes a request in that is served in this version.
pub(crate) fn codec_version(key: ApiKey, version: i16) -> i16 {
    if matches!(key, ApiKey::ShareFetch | ApiKey::ShareAcknowledge) { version.min(KNOWN) } else { version }
}

pub(crate) fn decode_fetch(frame: &Frame) -> Result<(ShareFetchRequest, Extras), FrameError> {
    decode(frame)
}

pub(crate) fn decode_acknowledge(frame: &Frame) -> Result<(ShareAcknowledgeRequest, Extras), FrameError> {
    decode(frame)
}

fn decode<T: Decodable>(frame: &Frame) -> Result<(T, Extras), FrameError> {
    let refused = |reason: String| FrameError::Body { key: frame.key, version: frame.version, reason };
    let (mut body, extras) = to_known(frame.key, frame.version, &frame.body)
        .ok_or_else(|| refused("it ends before its topics".to_owned()))?;
    let request = T::decode(&mut body, KNOWN).map_err(|error| refused(error.to_string()))?;
    Ok((request, extras))
}

/// The body of a request in the version the codec knows, and what was taken out; `None` if it is too short.
pub(crate) fn to_known(key: ApiKey, version: i16, body: &Bytes) -> Option<(Bytes, Extras)> {
    if codec_version(key, version) == version {
        return Some((body.clone(), Extras::default()));
    }
    let names = text_end(body, 0).and_then(|end| text_end(body, end))?;
    let (at, count) = if key == ApiKey::ShareFetch { (names + 6 * 4, 2) } else { (names + 4, 1) };
    let taken = body.get(at..at + count)?;
    let extras = match taken {
        [mode, is_renew] => Extras { is_strict: *mode == 1, is_renew: *is_renew != 0 },
        [is_renew] => Extras { is_strict: false, is_renew: *is_renew != 0 },
        _ => return None,
    };
    Some(([&body[..at], &body[at + count..]].concat().into(), extras))
}

/// Where a compact string ends that begins at `at`.
fn text_end(body: &[u8], mut at: usize) -> Option<usize> {
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *body.get(at)?;
        at += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    at.checked_add(length.saturating_sub(1)).filter(|end| *end <= body.len())
}

/// The answer to a ShareAcknowledge.
pub(crate) fn encode_acknowledged(
    to: AnswerTo,
    response: &ShareAcknowledgeResponse,
    lock_timeout_ms: i32,
) -> Result<Bytes, FrameError> {
    let known = AnswerTo { version: codec_version(to.key, to.version), ..to };
    let frame = known.encode(response)?;
    if to.version <= KNOWN {
        return Ok(frame);
    }
    let refused = |reason: String| FrameError::Encode { key: to.key, version: to.version, reason };
    let body = response.compute_size(KNOWN).map_err(|error| refused(error.to_string()))?;
    // Behind the throttle time and the error code of the body.
    let message = frame.len() - body + 6;
    let at = text_end(&frame, message).ok_or_else(|| refused("it ends before its message".to_owned()))?;
    let size = i32::try_from(frame.len()).map_err(|error| refused(error.to_string()))?;
    let mut longer = BytesMut::with_capacity(frame.len() + 4);
    // What follows the size: four bytes fewer than the frame, and four more.
    longer.put_i32(size);
    longer.extend_from_slice(&frame[4..at]);
    longer.put_i32(lock_timeout_ms);
    longer.extend_from_slice(&frame[at..]);
    Ok(longer.freeze())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::GroupId;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn version_2_is_version_1_with_a_few_bytes_more() {
        for name in ["", "g", &"g".repeat(300)] {
            let group = GroupId(StrBytes::from_string(name.to_owned()));
            let request = ShareFetchRequest::default().with_group_id(Some(group)).with_max_records(7);
            let mut known = BytesMut::new();
            request.encode(&mut known, KNOWN).expect("encoded");
            let at = text_end(&known, 0).and_then(|end| text_end(&known, end)).expect("two texts") + 24;
            let body = Bytes::from([&known[..at], &[1, 1], &known[at..]].concat());
            let (taken, extras) = to_known(ApiKey::ShareFetch, 2, &body).expect("whole");
            assert_eq!((taken, extras), (known.freeze(), Extras { is_strict: true, is_renew: true }));
            for length in 0..at + 2 {
                assert_eq!(to_known(ApiKey::ShareFetch, 2, &body.slice(..length)), None, "{length} bytes");
            }
        }
    }

    #[test]
    fn the_lock_timeout_stands_behind_the_message() {
        for message in [None, Some(StrBytes::from_static_str("why"))] {
            let response = ShareAcknowledgeResponse::default().with_error_code(3).with_error_message(message.clone());
            let to = |version| AnswerTo { key: ApiKey::ShareAcknowledge, version, correlation_id: 9 };
            let known = encode_acknowledged(to(1), &response, 0x0102_0304).expect("encoded");
            let longer = encode_acknowledged(to(2), &response, 0x0102_0304).expect("encoded");
            assert_eq!(longer.len(), known.len() + 4);
            assert_eq!(longer[..4], (longer.len() as i32 - 4).to_be_bytes());
            let at = 4 + 5 + 6 + 1 + message.map_or(0, |message| message.len());
            assert_eq!(longer[4..], [&known[4..at], &[1, 2, 3, 4], &known[at..]].concat());
        }
    }
}
