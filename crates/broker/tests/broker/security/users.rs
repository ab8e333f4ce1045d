//! Users, managed over the protocol as `kafka-configs.sh` does.

use bytes::Bytes;
use highwater_broker::{Broker, ListenerProtocol};
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::*;
use sha2::Sha512;

use super::{listener, log_in, scram, start_scram, with_users};
use crate::client::{Client, text};

const SHA_512: i8 = 2;

fn upsertion(name: &str, password: &str) -> ScramCredentialUpsertion {
    let mut salted = vec![0; 64];
    pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), b"some salt", 4096, &mut salted);
    ScramCredentialUpsertion::default()
        .with_name(text(name))
        .with_mechanism(SHA_512)
        .with_iterations(4096)
        .with_salt(Bytes::from_static(b"some salt"))
        .with_salted_password(salted.into())
}

fn deletion(name: &str) -> ScramCredentialDeletion {
    ScramCredentialDeletion::default().with_name(text(name)).with_mechanism(SHA_512)
}

/// Changes users; answers (user, error) for each.
async fn alter(
    client: &mut Client,
    upsertions: Vec<ScramCredentialUpsertion>,
    deletions: Vec<ScramCredentialDeletion>,
) -> Vec<(String, i16)> {
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(upsertions).with_deletions(deletions);
    let results = client.call(&request, 0).await.results.into_iter();
    results.map(|result| (result.user.to_string(), result.error_code)).collect()
}

/// (user, error, its mechanisms and iterations) of users, of all for `None`.
async fn describe(client: &mut Client, users: Option<&[&str]>) -> Vec<(String, i16, Vec<(i8, i32)>)> {
    let named = |users: &[&str]| users.iter().map(|name| UserName::default().with_name(text(name))).collect();
    let request = DescribeUserScramCredentialsRequest::default().with_users(users.map(named));
    let results = client.call(&request, 0).await.results.into_iter();
    results
        .map(|result| {
            let infos = result.credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect();
            (result.user.to_string(), result.error_code, infos)
        })
        .collect()
}

async fn can_log_in(broker: &Broker, user: &str, password: &str) -> bool {
    let mut client = Client::connect(broker.local_addr()).await;
    scram(&mut client, user, password).await.error_code == 0
}

#[tokio::test]
async fn a_user_comes_changes_its_password_survives_a_restart_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), &["root"]);
    let broker = Broker::start(settings()).await.unwrap();
    let mut root = log_in(&broker, "root").await;
    assert!(!can_log_in(&broker, "alice", "one").await);
    assert_eq!(alter(&mut root, vec![upsertion("alice", "one")], vec![]).await, [("alice".to_owned(), 0)]);
    assert!(can_log_in(&broker, "alice", "one").await);
    alter(&mut root, vec![upsertion("alice", "two")], vec![]).await;
    assert!(can_log_in(&broker, "alice", "two").await && !can_log_in(&broker, "alice", "one").await);
    broker.shutdown().await.unwrap();

    let broker = Broker::start(settings()).await.unwrap();
    let mut root = log_in(&broker, "root").await;
    let both = vec![(1, 4096), (2, 4096)];
    assert_eq!(
        describe(&mut root, None).await,
        [("alice".to_owned(), 0, vec![(2, 4096)]), ("root".to_owned(), 0, both)]
    );
    assert!(can_log_in(&broker, "alice", "two").await);
    alter(&mut root, vec![], vec![deletion("alice")]).await;
    assert!(!can_log_in(&broker, "alice", "two").await);
    assert_eq!(describe(&mut root, Some(&["alice"])).await, [("alice".to_owned(), 91, vec![])]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_a_user_at_a_time() {
    let (_dir, broker) = start_scram(&["root"]).await;
    let mut root = log_in(&broker, "root").await;
    let bob = || upsertion("bob", "x");
    let results = alter(
        &mut root,
        vec![
            bob().with_name(text("weak")).with_iterations(4095),
            bob().with_name(text("slow")).with_iterations(16_385),
            bob().with_name(text("negative")).with_iterations(-1),
            bob().with_name(text("short")).with_salted_password(Bytes::from_static(b"short")),
            bob().with_name(text("unknown")).with_mechanism(9),
            bob().with_name(text("")),
            bob().with_name(text("twice")),
            bob().with_name(text("twice")),
            bob(),
        ],
        vec![deletion("nobody")],
    )
    .await;
    let expected = [
        ("", 93),
        ("bob", 0),
        ("negative", 93),
        ("nobody", 91),
        ("short", 93),
        ("slow", 93),
        ("twice", 92),
        ("unknown", 33),
        ("weak", 93),
    ];
    assert_eq!(results, expected.map(|(user, code)| (user.to_owned(), code)));
    assert_eq!(describe(&mut root, Some(&["bob", "bob"])).await, [("bob".to_owned(), 92, vec![])]);
    assert_eq!(describe(&mut root, None).await.len(), 2);
}
