//! Messages as gRPC puts them into the body of a request or an answer:
//!
//! ```text
//!   [0, length (4 bytes, big endian), message] ...
//! ```
//!
//! The first byte would be 1 for a compressed message: none is sent, and none is read.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// The largest message: Spark's own limit.
pub(crate) const MAX_MESSAGE_BYTES: usize = 128 << 20;

/// What stands in front of a message.
pub(crate) const HEAD_BYTES: usize = 5;

/// The path of every method, before its name.
pub(crate) const SERVICE: &str = "/spark.connect.SparkConnectService/";

/// A message as it is sent: not compressed, its length in front.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(encoded.len() + HEAD_BYTES);
    frame.put_u8(0);
    // Whoever makes messages keeps them far below four gigabytes.
    frame.put_u32(u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&encoded);
    frame.freeze()
}

/// The first whole message in `buffer`, taken out; what is wrong with it, in words.
pub(crate) fn take_message(buffer: &mut BytesMut) -> Result<Option<BytesMut>, String> {
    let Some(head) = buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    if head[0] != 0 {
        return Err("a message is compressed, expected one that is not".to_owned());
    }
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(format!("a message has {length} bytes, expected at most {MAX_MESSAGE_BYTES}"));
    }
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    Ok(Some(buffer.split_to(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_out_when_they_are_whole() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 0, 2, 7, 8, 0, 0][..]);
        assert_eq!(take_message(&mut buffer).unwrap().as_deref(), Some(&[7, 8][..]));
        assert_eq!(take_message(&mut buffer).unwrap(), None);
        assert_eq!(buffer.as_ref(), [0, 0]);
        buffer.extend_from_slice(&[0, 0, 1, 9]);
        assert_eq!(take_message(&mut buffer).unwrap().as_deref(), Some(&[9][..]));
        assert!(take_message(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])).is_err(), "compressed");
        assert!(take_message(&mut BytesMut::from(&[0, 255, 0, 0, 0][..])).is_err(), "larger than any message");
    }
}
