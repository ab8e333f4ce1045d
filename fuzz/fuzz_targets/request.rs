//! Any bytes as a request: the walk and the decoder agree on it, and neither panics or allocates much.
//!
//! The input is tried twice: as a whole frame, header and all, and as an api key, a version and a bare body.

#![no_main]

use bytes::Bytes;
use highwater_broker::fuzzing::{self, Walked};
use kafka_protocol::messages::{ApiKey, RequestKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(request) = fuzzing::frame(data) {
        decode(request.key, request.version, request.body, Walked::Ends(request.walked));
    }
    if let Some(([a, b, c, d], body)) = data.split_first_chunk::<4>().map(|(head, body)| (*head, body)) {
        let (key, version) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
        if let Some(walked) = fuzzing::walk(key, version, body) {
            decode(key, version, Bytes::copy_from_slice(body), walked);
        }
    }
});

fn decode(key: i16, version: i16, body: Bytes, walked: Walked) {
    let key = ApiKey::try_from(key).expect("a key that was walked");
    let mut rest = body.clone();
    match walked {
        Walked::Ends(length) => {
            if RequestKind::decode(key, &mut rest, version).is_ok() {
                assert_eq!(body.len() - rest.len(), length, "{key:?} version {version}: the walk ends elsewhere");
            }
        }
        Walked::Refused => {
            let decoded = RequestKind::decode(key, &mut rest, version);
            assert!(decoded.is_err(), "{key:?} version {version}: refused by the walk, but it decodes");
        }
        // What the decoder would allocate for is what the walk is there to keep from it.
        Walked::TooLarge => {}
    }
}
