//! Connections that do not mean well: each is closed, and the broker goes on.

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};
use kafka_protocol::protocol::Decodable;

use crate::batch::Batch;
use crate::client::{Client, fetch_request};
use crate::{start, start_with};

/// Api key, version and a correlation id, then no client id.
fn header(key: i16, version: i16) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), &(-1i16).to_be_bytes()].concat()
}

#[tokio::test]
async fn hostile_frames_close_their_connection_and_nothing_else() {
    let (_dir, broker, mut honest) = start().await;
    let sized = |size: i32| size.to_be_bytes().to_vec();
    let framed = |body: Vec<u8>| [&(body.len() as i32).to_be_bytes()[..], &body].concat();
    let body = |key, version, rest: &[u8]| framed([&header(key, version), rest].concat());
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("a negative size", sized(-1)),
        ("the smallest size", sized(i32::MIN)),
        ("a size beyond the limit", sized(i32::MAX)),
        ("an empty frame", sized(0)),
        ("half a header", framed(vec![0, 3, 0])),
        ("an unknown api", body(9999, 0, &[])),
        ("a negative api", body(-1, 0, &[])),
        ("a version from the future", body(3, 999, &[])),
        ("a version from the past", body(1, 0, &[])),
        ("an api that is not served", body(24, 3, &[0; 30])),
        ("two billion topics", body(3, 4, &i32::MAX.to_be_bytes())),
        ("a negative number of topics", body(3, 4, &(-5i32).to_be_bytes())),
        ("four billion topics, compact", body(3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("a string longer than the frame", body(10, 0, &[0x7f, 0xff, b'a'])),
        ("a string that is not text", body(10, 0, &[0, 2, 0xff, 0xfe])),
        ("a http request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in attacks {
        let mut attacker = Client::connect(broker.local_addr()).await;
        attacker.send_raw(&bytes).await;
        assert!(attacker.receive_frame().await.is_none(), "{what}: still connected");
    }
    honest.call(&MetadataRequest::default(), 9).await;
}

#[tokio::test]
async fn a_claimed_size_alone_costs_nothing_and_a_half_frame_is_dropped() {
    let (_dir, broker, mut honest) = start().await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(broker.local_addr()).await;
        client.send_raw(&(99 * 1024 * 1024i32).to_be_bytes()).await;
        client.send_raw(&header(3, 9)).await;
        idle.push(client);
    }
    honest.call(&MetadataRequest::default(), 9).await;
    drop(idle);
    honest.call(&MetadataRequest::default(), 9).await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_zero() {
    let (_dir, _broker, mut client) = start().await;
    client.send_frame(&[&header(18, 99)[..], &[1, 2, 3]].concat()).await;
    let mut frame = client.receive_frame().await.unwrap();
    assert_eq!(frame.split_to(4), &7i32.to_be_bytes()[..]);
    let response = ApiVersionsResponse::decode(&mut frame, 0).unwrap();
    assert_eq!(response.error_code, 35);
    assert!(response.api_keys.iter().any(|api| api.api_key == 18));
    // The same connection goes on with a version that is served.
    assert_eq!(client.call(&ApiVersionsRequest::default(), 3).await.error_code, 0);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_at_once() {
    let (_dir, broker, mut first) = start_with(|settings| settings.max_connections = 2).await;
    first.call(&MetadataRequest::default(), 9).await;
    let mut second = Client::connect(broker.local_addr()).await;
    second.call(&MetadataRequest::default(), 9).await;
    let mut third = Client::connect(broker.local_addr()).await;
    assert!(third.receive_frame().await.is_none());
    drop(second);
    // The slot comes back once the broker has noticed.
    loop {
        let mut again = Client::connect(broker.local_addr()).await;
        again.send(&MetadataRequest::default(), 9).await;
        if again.receive_frame().await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let (_dir, _broker, mut client) = start_with(|settings| settings.idle_connection_timeout_ms = 20).await;
    assert!(client.receive_frame().await.is_none());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_not_read_from_for_ever() {
    let (_dir, broker, mut client) = start().await;
    client.create("t").await;
    client.append("t", Batch::sized(900_000).bytes()).await;
    // Each answer has 900 kB and none is taken: the line and the sockets fill up, and sending
    // stops. Were the answers built ahead, they would have 9 GB in the end.
    let mut greedy = Client::connect(broker.local_addr()).await;
    let request = fetch_request("t", 0, 0, 1);
    let sending = async {
        for _ in 0..10_000_000 {
            greedy.send(&request, 12).await;
        }
    };
    let stuck = tokio::time::timeout(std::time::Duration::from_secs(5), sending).await;
    assert!(stuck.is_err(), "the broker took every request");
    client.append("t", Batch::of(["others are served"]).bytes()).await;
}
