//! What clients can make the broker hold is bounded, whatever they do.

use std::process::{Command, Stdio};

use highwater_broker::Broker;
use kafka_protocol::messages::MetadataRequest;

use crate::batch::Batch;
use crate::client::{Client, fetch_request, produce_request};
use crate::{settings, start_with};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn readers_that_take_nothing_cost_no_more_than_the_budget_and_are_closed() {
    let (_dir, broker, mut client) = start_with(|settings| {
        settings.max_fetch_memory_bytes = 4 * MIB;
        settings.slow_reader_timeout_ms = 300;
    })
    .await;
    client.create("t").await;
    for _ in 0..4 {
        client.append("t", Batch::sized(900_000).bytes()).await;
    }
    // Each asks for 3.6 MB a hundred times and takes none of it.
    let mut greedy = Vec::new();
    for _ in 0..20 {
        let mut reader = Client::connect(broker.local_addr()).await;
        for _ in 0..60 {
            reader.send(&fetch_request("t", 0, 0, 1), 12).await;
        }
        greedy.push(reader);
    }
    // Others are served: their writes at once, their reads when somebody slow has been closed.
    client.append("t", Batch::of(["others write"]).bytes()).await;
    while client.read_all("t", 4).await != ["others write"] {}
    let used = broker.fetch_memory();
    // The records fit; what is around them in a response is little.
    assert!(used.peak > MIB && used.peak <= 4 * MIB + 20 * 1024, "{used:?}");
    drop(greedy);
    while broker.fetch_memory().now > 0 {
        client.call(&MetadataRequest::default(), 9).await;
    }
}

#[tokio::test]
async fn a_fetch_without_memory_is_answered_without_records() {
    let (_dir, broker, mut client) = start_with(|settings| settings.max_fetch_memory_bytes = MIB).await;
    client.create("t").await;
    client.append("t", Batch::sized(700_000).bytes()).await;
    // Fills what the system's sockets take, and then holds memory.
    let mut greedy = Client::connect(broker.local_addr()).await;
    for _ in 0..60 {
        greedy.send(&fetch_request("t", 0, 0, 1), 12).await;
    }
    loop {
        let response = client.fetch(&fetch_request("t", 0, 0, 1)).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 1));
        if partition.records.as_ref().is_none_or(|records| records.is_empty()) {
            break;
        }
    }
    assert!(broker.fetch_memory().peak <= MIB + 4096);
}

#[tokio::test]
async fn requests_that_never_end_cost_no_more_than_the_budget() {
    let (_dir, broker, mut client) = start_with(|settings| {
        settings.max_request_memory_bytes = 2 * MIB;
        settings.max_request_bytes = MIB + 1024;
        settings.request_read_timeout_ms = 300;
    })
    .await;
    client.create("t").await;
    // Each sends all but the last byte of a megabyte, so that none is ever whole. The system's sockets take what the
    // broker does not read.
    let mut halves = Vec::new();
    for _ in 0..8 {
        let mut half = Client::connect(broker.local_addr()).await;
        half.send_raw(&(MIB as i32).to_be_bytes()).await;
        half.send_raw(&vec![0; MIB - 1]).await;
        halves.push(half);
    }
    // Each is closed when its time is over, and then there is room for whoever means it.
    client.append("t", Batch::sized(500_000).bytes()).await;
    for half in &mut halves {
        assert!(half.receive_frame().await.is_none(), "still connected");
    }
    let used = broker.request_memory();
    assert!(used.peak > MIB && used.peak <= 4 * MIB, "{used:?}");
    while broker.request_memory().now > 0 {
        Client::connect(broker.local_addr()).await.call(&MetadataRequest::default(), 9).await;
    }
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let (_dir, broker, mut first) = start_with(|settings| settings.max_connections_per_ip = 1).await;
    first.call(&MetadataRequest::default(), 9).await;
    assert!(Client::connect(broker.local_addr()).await.receive_frame().await.is_none());
    drop(first);
    loop {
        let mut again = Client::connect(broker.local_addr()).await;
        again.send(&MetadataRequest::default(), 9).await;
        if again.receive_frame().await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn a_line_of_requests_is_limited_by_its_bytes() {
    let (_dir, broker, mut client) = start_with(|settings| settings.max_in_flight_bytes = 100_000).await;
    client.create("t").await;
    // A long poll is at the head of the line: what is behind it waits, and no more is read than may be in the line.
    client.send(&fetch_request("t", 0, 60_000, 1), 12).await;
    let behind = produce_request("t", Batch::sized(60_000).bytes(), 1);
    for _ in 0..10 {
        client.send(&behind, 7).await;
    }
    let mut other = Client::connect(broker.local_addr()).await;
    other.append("t", Batch::of(["wakes the poll"]).bytes()).await;
    client.receive::<kafka_protocol::messages::FetchRequest>(12).await;
    for _ in 0..10 {
        client.receive::<kafka_protocol::messages::ProduceRequest>(7).await;
    }
    // One in the line, one that waits to enter it, and the poll.
    assert!(broker.request_memory().peak < 200_000, "{:?}", broker.request_memory());
}

/// Run by the next test in a process of its own, which may open few files.
#[tokio::test]
#[ignore = "a part of another test"]
async fn broker_with_few_files() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(settings(dir.path())).await.unwrap();
    std::fs::write(std::env::var("ADDRESS_FILE").unwrap(), broker.local_addr().to_string()).unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_broker_out_of_file_descriptors_goes_on_when_there_are_some_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, program) = (dir.path().join("address"), std::env::current_exe().unwrap());
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 60; exec \"$0\" --ignored --exact limits::broker_with_few_files"])
        .arg(program)
        .env("ADDRESS_FILE", &file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let address = loop {
        if let Some(address) = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()) {
            break address;
        }
        assert!(child.try_wait().unwrap().is_none(), "the broker did not start");
        tokio::task::yield_now().await;
    };
    let mut first = Client::connect(address).await;
    first.create("t").await;
    let mut many = Vec::new();
    for _ in 0..100 {
        many.push(Client::connect(address).await);
    }
    // No file is left for a new topic, which is said; what is open goes on.
    let answer = first.try_create("another").await;
    assert_eq!(answer, 56, "KAFKA_STORAGE_ERROR");
    first.append("t", Batch::of(["still here"]).bytes()).await;
    drop(many);
    let mut late = Client::connect(address).await;
    assert_eq!(late.read_all("t", 0).await, ["still here"]);
    while late.try_create("another").await != 0 {}
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "the broker ended badly");
}
