//! The API table: which requests this broker serves, and in which versions.
//!
//! One table for `ApiVersions`, for the check of each request, and for the tests. A version is in
//! it when everything the version adds is honoured, and not because the codec can read it:
//!
//! - OffsetFetch and OffsetCommit 10 name topics by id only.
//! - AddPartitionsToTxn from 4 on is spoken between brokers.
//! - ListTransactions 2 selects ids by patterns of RE2.

use kafka_protocol::messages::ApiKey;

/// A request that is served, in these versions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) key: ApiKey,
    pub(crate) min: i16,
    pub(crate) max: i16,
    /// Oldest version told to clients, where that is older than what is served.
    told_min: i16,
}

const fn serve(key: ApiKey, min: i16, max: i16) -> Served {
    Served { key, min, max, told_min: min }
}

/// Every request that is served.
pub(crate) const SERVED: &[Served] = &[
    // librdkafka takes a broker that does not claim Produce 0 for one without modern compression
    // (KAFKA-18659), so it is claimed, as Kafka 4 does, and never used.
    Served { key: ApiKey::Produce, min: 3, max: 13, told_min: 0 },
    serve(ApiKey::Fetch, 4, 17),
    serve(ApiKey::ListOffsets, 1, 10),
    serve(ApiKey::Metadata, 0, 13),
    serve(ApiKey::OffsetCommit, 2, 9),
    serve(ApiKey::OffsetFetch, 1, 9),
    serve(ApiKey::FindCoordinator, 0, 6),
    serve(ApiKey::JoinGroup, 0, 9),
    serve(ApiKey::Heartbeat, 0, 4),
    serve(ApiKey::LeaveGroup, 0, 5),
    serve(ApiKey::SyncGroup, 0, 5),
    serve(ApiKey::DescribeGroups, 0, 6),
    serve(ApiKey::ListGroups, 0, 5),
    serve(ApiKey::ApiVersions, 0, 4),
    serve(ApiKey::CreateTopics, 2, 7),
    serve(ApiKey::DeleteTopics, 1, 6),
    serve(ApiKey::InitProducerId, 0, 5),
    serve(ApiKey::AddPartitionsToTxn, 0, 3),
    serve(ApiKey::AddOffsetsToTxn, 0, 4),
    serve(ApiKey::TxnOffsetCommit, 0, 5),
    serve(ApiKey::EndTxn, 0, 5),
    serve(ApiKey::WriteTxnMarkers, 1, 1),
    serve(ApiKey::ListTransactions, 0, 1),
    serve(ApiKey::DescribeTransactions, 0, 0),
    serve(ApiKey::DescribeProducers, 0, 0),
    serve(ApiKey::OffsetForLeaderEpoch, 2, 4),
    serve(ApiKey::DescribeConfigs, 1, 4),
    serve(ApiKey::CreatePartitions, 0, 3),
    serve(ApiKey::DeleteGroups, 0, 2),
    serve(ApiKey::IncrementalAlterConfigs, 0, 1),
    serve(ApiKey::AlterConfigs, 0, 2),
    serve(ApiKey::DescribeCluster, 0, 2),
    serve(ApiKey::DeleteRecords, 0, 2),
    serve(ApiKey::DescribeLogDirs, 1, 4),
    serve(ApiKey::OffsetDelete, 0, 0),
    serve(ApiKey::DescribeClientQuotas, 0, 1),
    serve(ApiKey::AlterClientQuotas, 0, 1),
    serve(ApiKey::SaslHandshake, 0, 1),
    serve(ApiKey::SaslAuthenticate, 0, 2),
    serve(ApiKey::CreateAcls, 1, 3),
    serve(ApiKey::DescribeAcls, 1, 3),
    serve(ApiKey::DeleteAcls, 1, 3),
    serve(ApiKey::AlterUserScramCredentials, 0, 0),
    serve(ApiKey::DescribeUserScramCredentials, 0, 0),
    serve(ApiKey::DescribeTopicPartitions, 0, 0),
    serve(ApiKey::ElectLeaders, 0, 2),
    serve(ApiKey::AlterPartitionReassignments, 0, 1),
    serve(ApiKey::ListPartitionReassignments, 0, 0),
    serve(ApiKey::AlterReplicaLogDirs, 1, 2),
    serve(ApiKey::ListConfigResources, 0, 1),
    serve(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    serve(ApiKey::ConsumerGroupDescribe, 0, 1),
    serve(ApiKey::ShareGroupHeartbeat, 1, 1),
    serve(ApiKey::ShareGroupDescribe, 1, 1),
    serve(ApiKey::ShareFetch, 1, 2),
    serve(ApiKey::ShareAcknowledge, 1, 2),
    serve(ApiKey::DescribeShareGroupOffsets, 0, 0),
    serve(ApiKey::AlterShareGroupOffsets, 0, 0),
    serve(ApiKey::DeleteShareGroupOffsets, 0, 0),
];

impl Served {
    /// The versions told to clients.
    pub(crate) fn told(&self) -> (i16, i16) {
        (self.told_min, self.max)
    }
}

/// The entry of a request, if it is served in this version.
pub(crate) fn find(key: ApiKey, version: i16) -> Option<&'static Served> {
    SERVED.iter().find(|served| served.key == key && (served.min..=served.max).contains(&version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::share::codec_version;

    #[test]
    fn nothing_is_served_that_the_codec_cannot_read() {
        for served in SERVED {
            let codec = served.key.valid_versions();
            let max = codec_version(served.key, served.max);
            assert!(codec.min <= served.min && max <= codec.max, "{:?}", served.key);
        }
    }
}
