//! The answer to a fetch as a frame in pieces: what is around the records is encoded, the records stay where they are.
//!
//! ```text
//! | size, header, topic, partition, length | records | tags, partition, length | records | tags |
//!   a slice of one small buffer              as read   another slice of it       as read
//! ```
//!
//! In each of the three messages that are nested here, the field that holds what is inside is the last. So each is
//! encoded by the codec with that field empty, which then stands at the end and gives way to the real one. An answer
//! that says something behind its records, in tagged fields, is refused: there is none.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData, SnapshotId,
};
use kafka_protocol::protocol::Encodable;

use super::frame::{AnswerTo, FrameError};
use super::pieces::Pieces;

/// Records below this are copied: a piece of its own would cost more.
const SMALL: usize = 4096;
/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;

/// A whole response frame.
pub(crate) fn encode(to: AnswerTo, response: FetchResponse) -> Result<Pieces, FrameError> {
    let encoder = Encoder { version: to.version, around: BytesMut::new(), records: Vec::new() };
    encoder.frame(to, response).map_err(|reason| FrameError::Encode { key: to.key, version: to.version, reason })
}

struct Encoder {
    version: i16,
    /// Everything but large records.
    around: BytesMut,
    /// Large records, and where in `around` they belong.
    records: Vec<(usize, Bytes)>,
}

impl Encoder {
    fn frame(mut self, to: AnswerTo, mut response: FetchResponse) -> Result<Pieces, String> {
        let topics = std::mem::take(&mut response.responses);
        self.around.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(to.correlation_id);
        header
            .encode(&mut self.around, to.key.response_header_version(to.version))
            .map_err(|error| error.to_string())?;
        let has_tags = !(response.node_endpoints.is_empty() && response.unknown_tagged_fields.is_empty());
        self.begin(&response, has_tags, topics.len())?;
        for topic in topics {
            self.topic(topic)?;
        }
        self.end();
        self.into_pieces()
    }

    fn topic(&mut self, mut topic: FetchableTopicResponse) -> Result<(), String> {
        let partitions = std::mem::take(&mut topic.partitions);
        self.begin(&topic, !topic.unknown_tagged_fields.is_empty(), partitions.len())?;
        for partition in partitions {
            self.partition(partition)?;
        }
        self.end();
        Ok(())
    }

    fn partition(&mut self, mut data: PartitionData) -> Result<(), String> {
        // No records and null are the same to every client, and differ in nothing but this length.
        let records = data.records.replace(Bytes::new()).unwrap_or_default();
        let has_tags = data.diverging_epoch != EpochEndOffset::default()
            || data.current_leader != LeaderIdAndEpoch::default()
            || data.snapshot_id != SnapshotId::default()
            || !data.unknown_tagged_fields.is_empty();
        self.begin(&data, has_tags, records.len())?;
        if records.len() < SMALL {
            self.around.put_slice(&records);
        } else {
            self.records.push((self.around.len(), records));
        }
        self.end();
        Ok(())
    }

    /// Encodes a message up to the length of its last field, which is empty in it and has this length.
    fn begin(&mut self, message: &impl Encodable, has_tags: bool, length: usize) -> Result<(), String> {
        if has_tags {
            return Err("something stands behind its records".to_owned());
        }
        message.encode(&mut self.around, self.version).map_err(|error| error.to_string())?;
        let length = i32::try_from(length).map_err(|error| error.to_string())?;
        // A compact length is one more than what it counts; behind it the number of tagged fields.
        let nothing: &[u8] = if self.version >= FLEXIBLE { &[1, 0] } else { &[0; 4] };
        let Some(rest) = self.around.strip_suffix(nothing) else {
            return Err("its last field is not the one of its records".to_owned());
        };
        self.around.truncate(rest.len());
        if self.version < FLEXIBLE {
            self.around.put_i32(length);
            return Ok(());
        }
        let mut left = length.unsigned_abs() + 1;
        while left >= 0x80 {
            self.around.put_u8((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        self.around.put_u8(left as u8);
        Ok(())
    }

    /// Ends the message that was begun last: it has no tagged fields.
    fn end(&mut self) {
        if self.version >= FLEXIBLE {
            self.around.put_u8(0);
        }
    }

    fn into_pieces(mut self) -> Result<Pieces, String> {
        let large: usize = self.records.iter().map(|(_, records)| records.len()).sum();
        let size = i32::try_from(self.around.len() - 4 + large).map_err(|error| error.to_string())?;
        self.around[..4].copy_from_slice(&size.to_be_bytes());
        let (around, mut from, mut pieces) = (self.around.freeze(), 0, Pieces::default());
        for (at, records) in self.records {
            pieces.push(around.slice(from..at));
            pieces.push(records);
            from = at;
        }
        pieces.push(around.slice(from..));
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::fetch_response::AbortedTransaction;
    use kafka_protocol::messages::{ApiKey, ProducerId, TopicName};
    use kafka_protocol::protocol::StrBytes;
    use uuid::Uuid;

    use super::super::api;
    use super::*;

    fn partition(index: i32, records: usize) -> PartitionData {
        let byte = u8::try_from(index).expect("few");
        PartitionData::default()
            .with_partition_index(index)
            .with_high_watermark(4711 + i64::from(index))
            .with_records(Some(vec![byte; records].into()))
    }

    fn topic(version: i16, name: &'static str, partitions: Vec<PartitionData>) -> FetchableTopicResponse {
        let topic = FetchableTopicResponse::default().with_partitions(partitions);
        match version {
            13.. => topic.with_topic_id(Uuid::from_u128(name.len() as u128)),
            _ => topic.with_topic(TopicName(StrBytes::from_static_str(name))),
        }
    }

    /// Topics with these numbers of records bytes, a partition each.
    fn response(version: i16, topics: &[&[usize]]) -> FetchResponse {
        let topics = topics.iter().map(|sizes| {
            let partitions = (0..).zip(*sizes).map(|(index, &size)| partition(index, size)).collect();
            topic(version, "topic", partitions)
        });
        FetchResponse::default().with_responses(topics.collect())
    }

    fn versions() -> impl Iterator<Item = AnswerTo> {
        let served = api::SERVED.iter().find(|served| served.key == ApiKey::Fetch).expect("served");
        (served.min..=served.max).map(|version| AnswerTo { key: ApiKey::Fetch, version, correlation_id: 0x0102_0304 })
    }

    fn check(to: AnswerTo, response: FetchResponse, what: &str) {
        let joined = to.encode(&response).expect("encoded");
        let mut pieces = encode(to, response).expect("encoded");
        assert_eq!(pieces.remaining(), joined.len(), "{what}, version {}", to.version);
        assert!(pieces.copy_to_bytes(joined.len()) == joined, "{what}, version {}", to.version);
    }

    #[test]
    fn the_pieces_are_what_the_codec_would_join() {
        // Around every length at which something changes: the copy of small records, and a compact length's bytes.
        let edges = [0, 1, 126, 127, 128, SMALL - 1, SMALL, 16_382, 16_383, 16_384, 2_097_150, 2_097_151, 2_097_152];
        for to in versions() {
            check(to, FetchResponse::default(), "nothing");
            check(to, response(to.version, &[&[]]), "a topic without partitions");
            check(to, response(to.version, &[&edges]), "all lengths");
            check(to, response(to.version, &[&[SMALL, SMALL], &[], &[5, SMALL, 5]]), "several topics");
            check(to, response(to.version, &[&vec![3; 200], &[SMALL; 130]]), "many partitions");
            let aborted = AbortedTransaction::default().with_producer_id(ProducerId(7)).with_first_offset(3);
            let full = partition(1, 9000).with_error_code(2).with_aborted_transactions(Some(vec![aborted; 3]));
            let some = topic(to.version, "t", vec![full, partition(2, 0)]);
            let response = FetchResponse::default().with_throttle_time_ms(5).with_responses(vec![some]);
            let in_session = |response: FetchResponse| response.with_session_id(77).with_error_code(3);
            check(to, if to.version >= 7 { in_session(response) } else { response }, "every field");
        }
    }

    #[test]
    fn records_stay_where_they_are_unless_they_are_few() {
        let to = versions().last().expect("some");
        let response = response(to.version, &[&[SMALL - 1, SMALL, 100_000]]);
        let kept: Vec<Bytes> =
            response.responses[0].partitions.iter().filter_map(|data| data.records.clone()).collect();
        let mut pieces = encode(to, response).expect("encoded");
        let mut found = Vec::new();
        while pieces.has_remaining() {
            found.push((pieces.chunk().as_ptr(), pieces.chunk().len()));
            pieces.advance(pieces.chunk().len());
        }
        let place = |at: usize| (kept[at].as_ptr(), kept[at].len());
        assert_eq!((found.len(), found[1], found[3]), (5, place(1), place(2)));
    }

    #[test]
    fn what_would_stand_behind_the_records_is_refused() {
        let to = versions().last().expect("some");
        let diverging = EpochEndOffset::default().with_epoch(1);
        let topic = topic(to.version, "t", vec![partition(0, 10).with_diverging_epoch(diverging)]);
        let error = encode(to, FetchResponse::default().with_responses(vec![topic])).expect_err("refused").to_string();
        assert!(error.contains("something stands behind its records"), "{error}");
    }
}
