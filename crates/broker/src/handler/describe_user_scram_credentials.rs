//! DescribeUserScramCredentials: who can log in and how, without what it is checked against.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};

use super::{Context, text};

pub(super) fn handle(
    ctx: &Context,
    request: &DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    // Null and empty both ask for everybody.
    let asked = request.users.as_ref().filter(|users| !users.is_empty());
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    match asked {
        Some(users) => users.iter().for_each(|user| *times.entry(user.name.to_string()).or_default() += 1),
        None => times.extend(ctx.users.names().into_iter().map(|name| (name, 1))),
    }
    let results = times.into_iter().map(|(name, times)| describe(ctx, name, times)).collect();
    DescribeUserScramCredentialsResponse::default().with_error_message(None).with_results(results)
}

fn describe(ctx: &Context, name: String, times: usize) -> DescribeUserScramCredentialsResult {
    let refuse = |error: ResponseError, reason: String| {
        DescribeUserScramCredentialsResult::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(reason)))
    };
    let result = match ctx.users.describe(&name) {
        _ if times > 1 => {
            let reason =
                format!("Cannot describe SCRAM credentials for the same user twice in a single request: {name}");
            refuse(ResponseError::DuplicateResource, reason)
        }
        None => {
            let reason = format!("Attempt to describe a user credential that does not exist: {name}");
            refuse(ResponseError::ResourceNotFound, reason)
        }
        Some(credentials) => {
            let infos = credentials.into_iter().map(|(mechanism, iterations)| {
                CredentialInfo::default()
                    .with_mechanism(mechanism.code())
                    .with_iterations(i32::try_from(iterations).unwrap_or(i32::MAX))
            });
            DescribeUserScramCredentialsResult::default()
                .with_error_message(None)
                .with_credential_infos(infos.collect())
        }
    };
    result.with_user(text(name))
}
