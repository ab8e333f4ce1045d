//! AlterUserScramCredentials: users and passwords, which arrive salted and are stored as verifiers.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use kafka_protocol::messages::alter_user_scram_credentials_response::{
    AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
};

use super::{Context, blocking, text};
use crate::security::scram::{Scram, Verifier};
use crate::security::users::{Change, Refused, Users};

pub(super) async fn handle(
    ctx: &Arc<Context>,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let ctx = Arc::clone(ctx);
    let results = blocking(move || alter(&ctx.users, &request)).await;
    let results = results.into_iter().map(|(user, result)| {
        let answer = AlterUserScramCredentialsResult::default().with_user(text(user));
        match result {
            Ok(()) => answer.with_error_message(None),
            Err((error, reason)) => answer.with_error_code(error.code()).with_error_message(Some(text(reason))),
        }
    });
    AlterUserScramCredentialsResponse::default().with_results(results.collect())
}

fn alter(users: &Users, request: &AlterUserScramCredentialsRequest) -> BTreeMap<String, Result<(), Refused>> {
    let deletions = request.deletions.iter().map(|deletion| {
        let change = mechanism(deletion.mechanism).map(|mechanism| Change::Remove { mechanism });
        (deletion.name.to_string(), change)
    });
    let upsertions = request.upsertions.iter().map(|upsertion| (upsertion.name.to_string(), change(upsertion)));
    let mut changes: BTreeMap<String, Result<Vec<Change>, Refused>> = BTreeMap::new();
    for (user, change) in deletions.chain(upsertions) {
        let all = changes.entry(user).or_insert_with(|| Ok(Vec::new()));
        match (all.as_mut(), change) {
            (Ok(all), Ok(change)) => all.push(change),
            (Ok(_), Err(refused)) => *all = Err(refused),
            (Err(_), _) => {}
        }
    }
    let mut results = BTreeMap::new();
    let mut sound = BTreeMap::new();
    for (user, changes) in changes {
        match changes.and_then(|changes| no_mechanism_twice(&changes).map(|()| changes)) {
            Ok(changes) => drop(sound.insert(user, changes)),
            Err(refused) => drop(results.insert(user, Err(refused))),
        }
    }
    results.extend(users.change(&sound));
    results
}

fn mechanism(code: i8) -> Result<Scram, Refused> {
    let unknown = || (ResponseError::UnsupportedSaslMechanism, "Unknown SCRAM mechanism".to_owned());
    Scram::from_code(code).ok_or_else(unknown)
}

fn change(asked: &ScramCredentialUpsertion) -> Result<Change, Refused> {
    let mechanism = mechanism(asked.mechanism)?;
    let unacceptable = |reason: String| (ResponseError::UnacceptableCredential, reason);
    let iterations = u32::try_from(asked.iterations).map_err(|_| unacceptable("Too few iterations".to_owned()))?;
    if asked.salted_password.len() != mechanism.key_bytes() {
        let (found, expected) = (asked.salted_password.len(), mechanism.key_bytes());
        return Err(unacceptable(format!("a salted password of {found} bytes, expected {expected}")));
    }
    let verifier = Verifier::of_salted_password(mechanism, &asked.salted_password, asked.salt.to_vec(), iterations);
    Ok(Change::Set { mechanism, verifier })
}

fn no_mechanism_twice(changes: &[Change]) -> Result<(), Refused> {
    let count = |wanted: Scram| {
        let of = |change: &&Change| match change {
            Change::Set { mechanism, .. } | Change::Remove { mechanism } => *mechanism == wanted,
        };
        changes.iter().filter(of).count()
    };
    if Scram::ALL.into_iter().any(|mechanism| count(mechanism) > 1) {
        let reason = "A user credential cannot be altered twice in the same request".to_owned();
        return Err((ResponseError::DuplicateResource, reason));
    }
    Ok(())
}
