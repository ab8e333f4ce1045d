//! ApiVersions: what is served, straight from the API table.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::protocol::StrBytes;

use crate::protocol::api::SERVED;
use crate::protocol::frame::Frame;

/// What clients may rely on beside the requests, at this level and all below it.
///
/// With `group.version` 1 there is the consumer protocol of groups (KIP-848). With `transaction.version` 2 a producer takes a new epoch with every transaction (KIP-890).
/// With `share.version` 1 there are share groups (KIP-932).
const FEATURES: [(&str, i16); 3] = [("group.version", 1), ("share.version", 1), ("transaction.version", 2)];

pub(super) fn handle(frame: &Frame) -> ApiVersionsResponse {
    let told = SERVED.iter().map(|served| {
        let (min, max) = served.told();
        ApiVersion::default().with_api_key(served.key as i16).with_min_version(min).with_max_version(max)
    });
    let error = if frame.fall_back { ResponseError::UnsupportedVersion.code() } else { 0 };
    let supported = FEATURES.map(|(name, level)| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version(0)
            .with_max_version(level)
    });
    let finalized = FEATURES.map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    ApiVersionsResponse::default()
        .with_error_code(error)
        .with_api_keys(told.collect())
        .with_supported_features(supported.into())
        .with_finalized_features_epoch(0)
        .with_finalized_features(finalized.into())
}
