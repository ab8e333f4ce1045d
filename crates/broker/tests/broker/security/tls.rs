//! TLS: handshakes, client certificates, files that change or cannot be used.

use highwater_broker::{Broker, BrokerSettings, ClientAuth, ErrorKind, ListenerProtocol, ListenerSettings};
use kafka_protocol::messages::*;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use super::{Authority, listener};
use crate::batch::Batch;
use crate::client::{Client, topic_name};
use crate::settings;

fn over_tls(dir: &TempDir, authority: &Authority, client_auth: ClientAuth) -> BrokerSettings {
    let listener = ListenerSettings { tls: Some(authority.tls(client_auth)), ..listener(ListenerProtocol::Ssl) };
    let mut settings = BrokerSettings { listeners: vec![listener], ..settings(dir.path()) };
    settings.security.super_users = vec!["User:CN=alice".to_owned(), "User:ANONYMOUS".to_owned()];
    settings
}

async fn start(client_auth: ClientAuth) -> (TempDir, Authority, Broker) {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.sign("broker");
    authority.sign("alice");
    let broker = Broker::start(over_tls(&dir, &authority, client_auth)).await.unwrap();
    (dir, authority, broker)
}

/// The error of producing to a topic `t` that is there: 0, or what the client is not allowed.
async fn produce(client: &mut Client) -> i16 {
    client.produce("t", Batch::of(["v"]).bytes()).await.error_code
}

#[tokio::test]
async fn records_go_through_tls_in_both_versions_and_no_older_client_gets_in() {
    let (_dir, authority, broker) = start(ClientAuth::None).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Client::over(authority.connect_with(&broker, None, &[version]).await.unwrap());
        client.create("t").await;
        let large = "x".repeat(300_000);
        let offset = client.append("t", Batch::of([large.as_str()]).bytes()).await;
        assert_eq!(client.read_all("t", offset).await, [large]);
    }
    let mut plaintext = Client::connect(broker.local_addr()).await;
    plaintext.send(&MetadataRequest::default(), 9).await;
    // An alert of TLS, or the end of the connection; no answer.
    let mut socket = tokio::net::TcpStream::connect(broker.local_addr()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, &[0, 0, 0, 20, 0, 18, 0, 0]).await.unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
}

#[tokio::test]
async fn a_certificate_is_a_name() {
    let (_dir, authority, broker) = start(ClientAuth::Required).await;
    authority.sign("bob");
    let mut alice = Client::over(authority.connect(&broker, Some("alice")).await.unwrap());
    alice.create("t").await;
    assert_eq!(produce(&mut alice).await, 0);
    let mut bob = Client::over(authority.connect(&broker, Some("bob")).await.unwrap());
    assert_eq!(produce(&mut bob).await, 29);
    // Without a certificate, or with one of another authority, there is no connection.
    let others = Authority::new();
    others.sign("mallory");
    std::fs::copy(authority.path("ca.pem"), others.path("ca.pem")).unwrap();
    for (authority, name) in [(&authority, None), (&others, Some("mallory"))] {
        if let Ok(mut stream) = authority.connect(&broker, name).await {
            // In TLS 1.3 the client learns it with its first read.
            stream.read_u8().await.expect_err("no connection");
        }
    }
}

#[tokio::test]
async fn a_requested_certificate_may_be_missing() {
    let (_dir, authority, broker) = start(ClientAuth::Requested).await;
    authority.sign("bob");
    for (name, expected) in [(None, 0), (Some("alice"), 0), (Some("bob"), 29)] {
        let mut client = Client::over(authority.connect(&broker, name).await.unwrap());
        if name.is_none() {
            client.create("t").await;
        }
        assert_eq!(produce(&mut client).await, expected, "{name:?}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_a_broken_one_is_not() {
    let (_dir, authority, broker) = start(ClientAuth::None).await;
    let served = async || {
        let stream = authority.connect(&broker, None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = served().await;
    assert_eq!(served().await, first);
    // Of another length: the clock of a file system may be too coarse to tell them apart.
    authority.sign_as("broker", "the same broker with a longer name");
    let second = served().await;
    assert_ne!(second, first);
    std::fs::write(authority.path("broker.pem"), "not a certificate").unwrap();
    assert_eq!(served().await, second);
    authority.sign("broker");
    let third = served().await;
    assert!(third != first && third != second);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let (dir, authority, others) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    authority.sign("broker");
    others.sign("broker");
    let good = |name: &str| std::fs::read(authority.path(name)).unwrap();
    let (certificate, key, ca) = (good("broker.pem"), good("broker.key"), good("ca.pem"));
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_vec();
    let other_key = std::fs::read(others.path("broker.key")).unwrap();
    for (file, content, reason) in [
        ("broker.pem", None, "it cannot be read"),
        ("broker.pem", Some(b"junk".to_vec()), "BEGIN CERTIFICATE"),
        ("broker.pem", Some(key.clone()), "BEGIN CERTIFICATE"),
        ("broker.key", None, "it cannot be read"),
        ("broker.key", Some(certificate.clone()), "BEGIN PRIVATE KEY"),
        ("broker.key", Some(encrypted), "openssl pkey"),
        ("broker.key", Some(other_key), "not that of the certificate"),
        ("ca.pem", Some(b"junk".to_vec()), "BEGIN CERTIFICATE"),
    ] {
        match content {
            None => std::fs::remove_file(authority.path(file)).unwrap(),
            Some(content) => std::fs::write(authority.path(file), content).unwrap(),
        }
        let error = Broker::start(over_tls(&dir, &authority, ClientAuth::Required)).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FixConfig);
        let message = error.to_string();
        let path = authority.path(file).display().to_string();
        for part in ["listener `test`", path.as_str(), reason] {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        for (name, content) in [("broker.pem", &certificate), ("broker.key", &key), ("ca.pem", &ca)] {
            std::fs::write(authority.path(name), content).unwrap();
        }
    }
    Broker::start(over_tls(&dir, &authority, ClientAuth::Required)).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.sign("broker");
    let mut settings = over_tls(&dir, &authority, ClientAuth::None);
    settings.security.authentication_timeout_ms = 50;
    let broker = Broker::start(settings).await.unwrap();
    let mut silent = Client::connect(broker.local_addr()).await;
    assert!(silent.receive_frame().await.is_none());
}

#[tokio::test]
async fn each_listener_tells_its_own_address() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.sign("broker");
    let mut settings = over_tls(&dir, &authority, ClientAuth::None);
    settings.listeners[0].advertised = Some("kafka.example:9093".parse().unwrap());
    settings.listeners.push(ListenerSettings::plaintext("inside", ([127, 0, 0, 1], 0).into()));
    let broker = Broker::start(settings).await.unwrap();
    let inside = broker.listener_addr("inside").unwrap();
    assert_eq!((broker.listener_addr("test"), broker.listener_addr("none")), (Some(broker.local_addr()), None));
    let from_outside = Client::over(authority.connect(&broker, None).await.unwrap());
    let from_inside = Client::connect(inside).await;
    for (mut client, host, port) in
        [(from_outside, "kafka.example", 9093), (from_inside, "127.0.0.1", i32::from(inside.port()))]
    {
        let metadata = client.call(&MetadataRequest::default().with_topics(Some(vec![])), 9).await;
        assert_eq!((&*metadata.brokers[0].host, metadata.brokers[0].port), (host, port));
        let cluster = client.call(&DescribeClusterRequest::default(), 0).await;
        assert_eq!((&*cluster.brokers[0].host, cluster.brokers[0].port), (host, port));
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![topic_name("g").0]);
        let found = client.call(&request, 4).await;
        assert_eq!((&*found.coordinators[0].host, found.coordinators[0].port), (host, port));
    }
}
