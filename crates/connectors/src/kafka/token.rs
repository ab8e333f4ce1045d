//! A sink's token: the id of the newest committed batch, kept as an offset of a group nobody joins.
//!
//! The offset of partition 0 is the batch id, and its metadata says so. Groups keep their offsets for a time after
//! the last commit (`offsets.retention.minutes`, a week by default): a query that rests longer finds no token, and trusts
//! its own commit log unless a batch was only begun.

use highwater_engine::error::Result;
use highwater_engine::sink::{BatchId, SinkToken};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequest;
use kafka_protocol::messages::{GroupId, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;
use rdkafka::error::KafkaError;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::client::cluster::Client;
use super::client::error::{ClientError, ClientResult};

/// The metadata of such an offset, by which it is told from a position.
pub const METADATA: &str = "highwater batch";
const FIND_COORDINATOR_MAX_VERSION: i16 = 3;
const OFFSET_FETCH_MAX_VERSION: i16 = 7;

/// The token of a batch as offsets to commit.
pub fn offsets(topic: &str, batch: BatchId) -> Result<TopicPartitionList, KafkaError> {
    let mut offsets = TopicPartitionList::new();
    let mut element = offsets.add_partition(topic, 0);
    element.set_offset(KafkaOffset::Offset(i64::try_from(batch).unwrap_or(i64::MAX)))?;
    element.set_metadata(METADATA);
    Ok(offsets)
}

/// The newest token of a group.
pub fn read(client: &Client, group: &str) -> Result<SinkToken> {
    let response = client.retrying(|| fetch(client, group))?;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let ours = partitions.filter(|partition| partition.metadata.as_ref().is_some_and(|text| text.as_str() == METADATA));
    let newest = ours.filter_map(|partition| BatchId::try_from(partition.committed_offset).ok()).max();
    Ok(newest.map_or(SinkToken::NoneLeft, SinkToken::Committed))
}

/// Asks the group's coordinator for all its offsets, but not before open transactions are decided.
fn fetch(client: &Client, group: &str) -> ClientResult<OffsetFetchResponse> {
    let what = || format!("the offsets of group '{group}'");
    let checked = |code: i16| match ResponseError::try_from_code(code) {
        Some(code) => Err(ClientError::Refused { what: what(), code }),
        None => Ok(()),
    };
    let name = StrBytes::from_string(group.to_owned());
    let request = FindCoordinatorRequest::default().with_key(name.clone());
    let coordinator = client.call_any(&request, FIND_COORDINATOR_MAX_VERSION)?;
    checked(coordinator.error_code)?;
    let mut connection = client.connection(&format!("{}:{}", coordinator.host.as_str(), coordinator.port))?;
    let request =
        OffsetFetchRequest::default().with_group_id(GroupId(name)).with_topics(None).with_require_stable(true);
    let response = connection.call(&request, OFFSET_FETCH_MAX_VERSION)?;
    client.give_back(connection);
    checked(response.error_code)?;
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        checked(partition.error_code)?;
    }
    Ok(response)
}
