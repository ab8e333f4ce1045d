//! SASL: who gets in, who does not, and what strangers can do before.

use std::sync::Arc;
use std::time::Instant;

use highwater_broker::{Broker, BrokerSettings, ListenerProtocol, ManualClock};
use kafka_protocol::messages::*;

use super::{
    Authority, handshake, listener, log_in, plain, prove, scram, start_sasl_ssl, start_scram, token, with_users,
};
use crate::batch::Batch;
use crate::client::{Client, produce_request, text};

const AUTHENTICATION_FAILED: i16 = 58;
const ILLEGAL_STATE: i16 = 34;

#[tokio::test]
async fn scram_and_plain_over_tls() {
    let authority = Authority::new();
    let (_dir, broker) = start_sasl_ssl(&authority, &["root"]).await;
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let mut client = Client::over(authority.connect(&broker, None).await.unwrap());
        client.call(&ApiVersionsRequest::default(), 3).await;
        let answer = match mechanism {
            "PLAIN" => plain(&mut client, "root", "root").await,
            _ => scram(&mut client, "root", "root").await,
        };
        assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 0), "{:?}", answer.error_message);
        client.create("t").await;
        client.append("t", Batch::of(["v"]).bytes()).await;
    }
}

/// A try that fails; answers what the client was told, each message of it.
async fn fail(client: &mut Client, mechanism: &str, user: &str, password: &str) -> Vec<(i16, String)> {
    assert_eq!(handshake(client, mechanism).await.error_code, 0);
    let mut told = Vec::new();
    let mut say = |answer: SaslAuthenticateResponse| {
        let message = answer.error_message.map_or(String::new(), |message| message.to_string());
        told.push((answer.error_code, message));
        String::from_utf8(answer.auth_bytes.to_vec()).unwrap()
    };
    if mechanism == "PLAIN" {
        say(token(client, format!("\0{user}\0{password}")).await);
    } else {
        let bare = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
        let first = say(token(client, format!("n,,{bare}")).await);
        say(token(client, prove(&bare, &first, password).0).await);
    }
    assert!(client.receive_frame().await.is_none(), "still connected");
    told
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_told_the_same_and_closed() {
    let authority = Authority::new();
    let (_dir, broker) = start_sasl_ssl(&authority, &["root", "alice"]).await;
    for (mechanism, messages) in [("PLAIN", 1), ("SCRAM-SHA-512", 2)] {
        let mut told = Vec::new();
        for (user, password) in [("alice", "wrong"), ("nobody", "nobody"), ("alice", "root")] {
            let mut client = Client::over(authority.connect(&broker, None).await.unwrap());
            told.push(fail(&mut client, mechanism, user, password).await);
        }
        assert_eq!((told[0].len(), told[0].last().unwrap().0), (messages, AUTHENTICATION_FAILED));
        assert!(told.iter().all(|other| *other == told[0]), "{told:?}");
    }
    for message in ["", "\0", "root", "\0root\0", "\0\0root", "alice\0root\0root", "\0root\0root\0"] {
        let mut client = Client::over(authority.connect(&broker, None).await.unwrap());
        assert_eq!(handshake(&mut client, "PLAIN").await.error_code, 0);
        assert_eq!(token(&mut client, message).await.error_code, AUTHENTICATION_FAILED, "{message:?}");
        assert!(client.receive_frame().await.is_none());
    }
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_answered_with_those_that_are() {
    let (_dir, broker) = start_scram(&["root"]).await;
    for mechanism in ["PLAIN", "GSSAPI", "", "scram-sha-512"] {
        let mut client = Client::connect(broker.local_addr()).await;
        let answer = handshake(&mut client, mechanism).await;
        assert_eq!((answer.error_code, answer.mechanisms), (33, vec![text("SCRAM-SHA-512"), text("SCRAM-SHA-256")]));
        assert!(client.receive_frame().await.is_none());
    }
}

#[tokio::test]
async fn plain_without_tls_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), &["root"]);
    settings.listeners[0].sasl = vec![highwater_broker::SaslMechanism::Plain];
    let message = Broker::start(settings).await.map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("PLAIN over sasl_plaintext"), "{message}");
}

#[tokio::test]
async fn nothing_is_answered_before_authentication_but_its_own_requests() {
    let (_dir, broker) = start_scram(&["root"]).await;
    let connect = async || Client::connect(broker.local_addr()).await;
    let closed = async |mut client: Client, what: &str| {
        assert!(client.receive_frame().await.is_none(), "{what}: still connected");
    };
    let mut client = connect().await;
    client.send(&MetadataRequest::default(), 9).await;
    closed(client, "metadata").await;
    let mut client = connect().await;
    client.send(&produce_request("t", Batch::of(["v"]).bytes(), 1), 9).await;
    closed(client, "produce").await;
    let mut client = connect().await;
    assert_eq!(handshake(&mut client, "SCRAM-SHA-512").await.error_code, 0);
    client.send(&MetadataRequest::default(), 9).await;
    closed(client, "metadata in the middle").await;
    let mut client = connect().await;
    client.send_raw(&(64 * 1024 + 1i32).to_be_bytes()).await;
    closed(client, "a frame beyond the limit of strangers").await;
    let mut client = connect().await;
    assert_eq!(token(&mut client, "n,,n=root,r=abc").await.error_code, ILLEGAL_STATE, "no handshake");
    closed(client, "no handshake").await;
    let mut client = connect().await;
    assert_eq!(handshake(&mut client, "SCRAM-SHA-512").await.error_code, 0);
    assert_eq!(handshake(&mut client, "SCRAM-SHA-512").await.error_code, ILLEGAL_STATE, "twice");
    closed(client, "two handshakes").await;
    // Those who are in are not limited like that.
    let mut root = log_in(&broker, "root").await;
    root.create("t").await;
    root.append("t", Batch::sized(200_000).bytes()).await;
}

#[tokio::test]
async fn an_authentication_that_takes_too_long_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), &["root"]);
    settings.security.authentication_timeout_ms = 100;
    let broker = Broker::start(settings).await.unwrap();
    let mut silent = Client::connect(broker.local_addr()).await;
    let mut slow = Client::connect(broker.local_addr()).await;
    slow.send(&ApiVersionsRequest::default(), 3).await;
    assert!(silent.receive_frame().await.is_none());
    // With or without the answer to its first request.
    while slow.receive_frame().await.is_some() {}
}

#[tokio::test]
async fn the_answer_to_a_failure_is_held_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), &["root"]);
    settings.security.failed_authentication_delay_ms = 200;
    let broker = Broker::start(settings).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    let before = Instant::now();
    assert_eq!(handshake(&mut client, "NONE").await.error_code, 33);
    assert!(before.elapsed().as_millis() >= 200, "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_handshake_of_version_zero_goes_on_without_headers() {
    let (_dir, broker) = start_scram(&["root"]).await;
    for (password, works) in [("root", true), ("wrong", false)] {
        let mut client = Client::connect(broker.local_addr()).await;
        let request = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-512"));
        assert_eq!(client.call(&request, 0).await.error_code, 0);
        let bare = "n=root,r=abcdef";
        client.send_frame(format!("n,,{bare}").as_bytes()).await;
        let first = String::from_utf8(client.receive_frame().await.unwrap().to_vec()).unwrap();
        let (last, signature) = prove(bare, &first, password);
        client.send_frame(last.as_bytes()).await;
        assert_eq!(client.receive_frame().await.map(|frame| frame == signature), works.then_some(true));
        if works {
            client.create("t").await;
        }
    }
}

#[tokio::test]
async fn sasl_requests_mean_nothing_where_there_is_no_sasl_or_no_end_of_the_session() {
    let (_dir, _broker, mut client) = crate::start().await;
    for _ in 0..2 {
        assert_eq!(handshake(&mut client, "PLAIN").await.error_code, ILLEGAL_STATE);
        assert_eq!(token(&mut client, "\0a\0b").await.error_code, ILLEGAL_STATE);
    }
    client.create("t").await;
    let (_dir, broker) = start_scram(&["root"]).await;
    let mut root = log_in(&broker, "root").await;
    assert_eq!(handshake(&mut root, "SCRAM-SHA-512").await.error_code, ILLEGAL_STATE);
    root.create("t").await;
}

async fn start_with_sessions(users: &[&str]) -> (tempfile::TempDir, Broker, Arc<ManualClock>) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings: BrokerSettings = with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), users);
    settings.security.max_reauthentication_ms = 60_000;
    let clock = Arc::new(ManualClock::at(1_000_000));
    let broker = Broker::start_with_clock(settings, clock.clone()).await.unwrap();
    (dir, broker, clock)
}

#[tokio::test]
async fn a_session_ends_unless_it_is_renewed() {
    let (_dir, broker, clock) = start_with_sessions(&["root", "alice"]).await;
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(scram(&mut client, "root", "root").await.session_lifetime_ms, 60_000);
    for _ in 0..3 {
        clock.advance(59_000);
        client.create("t").await;
        assert_eq!(scram(&mut client, "root", "root").await.session_lifetime_ms, 60_000);
    }
    clock.advance(60_001);
    // Renewing is possible after the end, nothing else is.
    assert_eq!(scram(&mut client, "root", "root").await.error_code, 0);
    client.create("t").await;
    clock.advance(60_001);
    client.send(&MetadataRequest::default(), 9).await;
    assert!(client.receive_frame().await.is_none());
}

#[tokio::test]
async fn a_session_is_renewed_by_the_same_user_only() {
    let (_dir, broker, _clock) = start_with_sessions(&["root", "alice"]).await;
    for (user, password) in [("alice", "alice"), ("root", "wrong")] {
        let mut client = log_in(&broker, "root").await;
        let answer = scram(&mut client, user, password).await;
        assert_eq!(answer.error_code, AUTHENTICATION_FAILED, "{user}");
        assert!(client.receive_frame().await.is_none(), "{user}: still connected");
    }
}
