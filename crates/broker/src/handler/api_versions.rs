//! ApiVersions: what is served, straight from the API table.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use crate::protocol::api::SERVED;
use crate::protocol::frame::Frame;

pub(super) fn handle(frame: &Frame) -> ApiVersionsResponse {
    let told = SERVED.iter().map(|served| {
        let (min, max) = served.told();
        ApiVersion::default().with_api_key(served.key as i16).with_min_version(min).with_max_version(max)
    });
    let error = if frame.fall_back { ResponseError::UnsupportedVersion.code() } else { 0 };
    ApiVersionsResponse::default().with_error_code(error).with_api_keys(told.collect())
}
