//! The committed offsets as a topic, `__consumer_offsets`, for those who watch groups by reading it.
//!
//! ```text
//! key    | version i16 = 1 | group | topic | partition i32 |
//! value  | version i16 = 3 | offset i64 | leader epoch i32 | metadata | commit time i64 |     null: forgotten
//! ```
//!
//! A view and not the truth: offsets are kept by `offsets.rs`, and what has changed there is written
//! here a moment later, the newest value of each. What a crash takes from it is written again at the
//! next start. It is compacted, and only the broker writes to it.

use std::io;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::offsets::{At, Committed, OffsetStore};
use crate::log::batch::{BatchHeader, NO_PRODUCER_ID, ProducedBatch};
use crate::log::config::Overrides;
use crate::log::records::{self, Record};
use crate::log::topics::{CONSUMER_OFFSETS, Topic, TopicError, Topics};

/// Records of one batch: with metadata of the largest size allowed it stays below a megabyte.
const BATCH_RECORDS: usize = 200;
const KEY_VERSION: i16 = 1;
const VALUE_VERSION: i16 = 3;

/// Writes what has changed since the last time. Blocks on the disk.
pub(crate) fn publish(offsets: &OffsetStore, topics: &Topics, now_ms: i64) {
    let changed = offsets.take_changed();
    if offsets.take_watched() && changed.is_empty() && topics.get(CONSUMER_OFFSETS).is_none() {
        create(topics).map_or_else(|error| tracing::warn!(topic = CONSUMER_OFFSETS, %error, "not created"), drop);
    }
    for part in changed.chunks(BATCH_RECORDS) {
        if let Err(error) = write(offsets, topics, part, now_ms) {
            // They are written with their next change, or at the next start.
            tracing::warn!(topic = CONSUMER_OFFSETS, %error, offsets = part.len(), "committed offsets not published");
        }
    }
}

fn create(topics: &Topics) -> Result<Arc<Topic>, TopicError> {
    let compacted = Overrides::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    topics.create_internal(CONSUMER_OFFSETS, 1, compacted)
}

fn write(offsets: &OffsetStore, topics: &Topics, changed: &[(String, At)], now_ms: i64) -> Result<(), PublishError> {
    let topic = match topics.get(CONSUMER_OFFSETS) {
        Some(topic) => topic,
        None => create(topics)?,
    };
    let partition = topic.partition(0).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let entries: Vec<(Vec<u8>, Option<Vec<u8>>)> = changed
        .iter()
        .map(|(group, (topic, partition))| {
            let committed = offsets.get(group, topic, *partition);
            (key(group, topic, *partition), committed.map(|committed| value(&committed, now_ms)))
        })
        .collect();
    let header = BatchHeader {
        base_offset: 0,
        size_bytes: 0,
        crc: 0,
        attributes: 0,
        last_offset_delta: entries.len() as i32 - 1,
        base_timestamp: now_ms,
        max_timestamp: now_ms,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };
    let records = entries
        .iter()
        .enumerate()
        .map(|(at, (key, value))| Record::of(at as i64, now_ms, Some(key.as_slice()), value.as_deref()));
    let batch = records::build(&header, records)?;
    let batch = ProducedBatch::check(&batch).map_err(io::Error::other)?;
    partition.append(&batch, now_ms, || Ok(())).map_err(io::Error::other)?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Protocol(#[from] ResponseError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut key = KEY_VERSION.to_be_bytes().to_vec();
    put_text(&mut key, group);
    put_text(&mut key, topic);
    key.extend(partition.to_be_bytes());
    key
}

fn value(committed: &Committed, now_ms: i64) -> Vec<u8> {
    let mut value = VALUE_VERSION.to_be_bytes().to_vec();
    value.extend(committed.offset.to_be_bytes());
    value.extend(committed.leader_epoch.to_be_bytes());
    put_text(&mut value, &committed.metadata);
    value.extend(now_ms.to_be_bytes());
    value
}

/// Names and metadata come in requests, where their length has 16 bits too.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text);
}
