//! Answers to fetches as their readers find them: whole, however they are taken, and no larger than was asked for.

use std::net::SocketAddr;

use bytes::Bytes;
use highwater_broker::{Broker, ClientAuth, ListenerProtocol, ListenerSettings};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::batch::{Batch, parse};
use crate::client::{Client, PATIENCE, fetch_request, produce_request, topic_name};
use crate::security::{Authority, listener};
use crate::{settings, start_with};

const MIB: usize = 1024 * 1024;
/// Bytes of the records of each partition, a batch each: none, few (copied), some, many (in a buffer that is used again),
/// and a batch that is larger than such a buffer.
const SIZES: [&[usize]; 7] = [&[], &[10], &[100, 5000, 100], &[70_000], &[900_000, 1], &[1_200_000], &[3]];

/// What no other record of this length has in it.
fn value(partition: usize, at: usize, length: usize) -> String {
    format!("{partition}.{at}.").chars().cycle().take(length).collect()
}

/// The values of every partition.
fn values() -> Vec<Vec<String>> {
    let of = |(partition, sizes): (usize, &&[usize])| {
        sizes.iter().enumerate().map(|(at, &length)| value(partition, at, length)).collect()
    };
    SIZES.iter().enumerate().map(of).collect()
}

/// Makes a topic `t` with these values.
async fn fill(client: &mut Client) {
    assert_eq!(client.create_with("t", SIZES.len() as i32).await.0, 0);
    for (partition, values) in values().into_iter().enumerate() {
        for value in values {
            let mut request = produce_request("t", Batch::of([value]).bytes(), -1);
            request.topic_data[0].partition_data[0].index = partition as i32;
            let response = client.call(&request, 9).await;
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
    }
}

/// A fetch of everything in `t`.
fn everything() -> FetchRequest {
    let partition =
        |index| FetchPartition::default().with_partition(index as i32).with_partition_max_bytes(4 * MIB as i32);
    let topic =
        FetchTopic::default().with_topic(topic_name("t")).with_partitions((0..SIZES.len()).map(partition).collect());
    FetchRequest::default().with_max_bytes(50 * MIB as i32).with_topics(vec![topic])
}

/// Asks for everything many times, so that no buffer of the system holds the answers, and looks at each.
async fn check_everything(mut client: Client) {
    const TIMES: usize = 5;
    for version in [4, 11, 12] {
        for _ in 0..TIMES {
            client.send(&everything(), version).await;
        }
        for _ in 0..TIMES {
            let response = client.receive::<FetchRequest>(version).await;
            let found = response.responses[0].partitions.iter().map(|data| {
                let batches = parse(data.records.as_ref().unwrap());
                batches.into_iter().flat_map(|batch| batch.values).collect::<Vec<_>>()
            });
            assert!(found.eq(values()), "version {version}: other values");
        }
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

/// A stream that hands on what a socket gives in small steps of changing length.
fn in_steps(mut socket: TcpStream) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let (mut from, mut to) = socket.split();
        let (mut asked, mut answered) = tokio::io::split(far);
        let answers = async {
            let mut step = [0; 9000];
            for length in (1..step.len()).step_by(97).cycle() {
                let count = from.read(&mut step[..length]).await.unwrap();
                if count == 0 || answered.write_all(&step[..count]).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = tokio::io::copy(&mut asked, &mut to) => {}
            () = answers => {}
        }
    });
    near
}

#[tokio::test]
async fn answers_of_many_partitions_arrive_whole_through_a_slow_reader() {
    let (_dir, broker, mut client) = start_with(|settings| settings.max_message_bytes = 2 * MIB as i32).await;
    fill(&mut client).await;
    check_everything(client).await;
    check_everything(Client::over(in_steps(connect(broker.local_addr()).await))).await;
}

#[tokio::test]
async fn answers_of_many_partitions_arrive_whole_through_tls() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.sign("broker");
    let tls = Some(authority.tls(ClientAuth::None));
    let mut settings = settings(dir.path());
    settings.listeners = vec![ListenerSettings { tls, ..listener(ListenerProtocol::Ssl) }];
    settings.security.super_users = vec!["User:ANONYMOUS".to_owned()];
    settings.max_message_bytes = 2 * MIB as i32;
    let broker = Broker::start(settings).await.unwrap();
    let mut client = Client::over(authority.connect(&broker, None).await.unwrap());
    fill(&mut client).await;
    check_everything(client).await;
}

#[tokio::test]
async fn readers_that_stop_in_the_middle_cost_no_more_than_the_budget_and_are_closed() {
    let (_dir, broker, mut client) = start_with(|settings| {
        settings.max_fetch_memory_bytes = 8 * MIB;
        settings.max_message_bytes = 2 * MIB as i32;
        settings.slow_reader_timeout_ms = 300;
    })
    .await;
    fill(&mut client).await;
    let mut stopped = Vec::new();
    // Each asks for a good part of the budget: sixteen want several times of it.
    for _ in 0..16 {
        let mut reader = Client::connect(broker.local_addr()).await;
        for _ in 0..8 {
            reader.send(&everything(), 12).await;
        }
        stopped.push(reader);
    }
    let mut left = Vec::new();
    for reader in &mut stopped {
        left.push(reader.receive_beginning().await.expect("closed already"));
    }
    // Others are served when somebody slow has been closed.
    let mut honest = everything();
    honest.topics[0].partitions.drain(..5);
    while client.fetch(&honest).await.responses[0].partitions[0].records.as_ref().is_none_or(Bytes::is_empty) {}
    let used = broker.fetch_memory();
    // The largest batch is always whole, so a share may go over by one for each who reads at once.
    assert!(used.peak > MIB && used.peak <= 8 * MIB + 40 * 1024, "{used:?}");
    let mut closed = 0;
    for (mut reader, left) in stopped.into_iter().zip(left) {
        let mut is_open = reader.receive_some(left).await;
        // A reader whose answers all went into the buffers of its connection never kept the broker waiting.
        for _ in 1..8 {
            is_open = is_open && reader.receive_frame().await.is_some();
        }
        closed += u32::from(!is_open);
    }
    assert!(closed > 0, "nobody was closed");
    while broker.fetch_memory().now > 0 {
        client.fetch(&fetch_request("t", 0, 0, 1)).await;
    }
}

#[tokio::test]
async fn sizes_that_make_no_sense_are_answered_with_whole_batches_within_the_limits() {
    let (_dir, _broker, mut client) = start_with(|settings| {
        settings.max_message_bytes = 2 * MIB as i32;
        settings.max_fetch_bytes = MIB;
    })
    .await;
    fill(&mut client).await;
    let hostile = [i32::MIN, -1, 0, 1, 60, i32::MAX];
    for (partition_bytes, bytes) in hostile.iter().flat_map(|&one| hostile.map(|other| (one, other))) {
        for min_bytes in hostile {
            let mut request = everything().with_max_bytes(bytes).with_min_bytes(min_bytes);
            request.topics[0].partitions.iter_mut().for_each(|asked| asked.partition_max_bytes = partition_bytes);
            let response = tokio::time::timeout(PATIENCE, client.fetch(&request)).await.unwrap();
            let what = format!("{partition_bytes} of a partition, {bytes} in all, at least {min_bytes}");
            let partitions = &response.responses[0].partitions;
            assert!(partitions.iter().all(|data| data.error_code == 0), "{what}");
            let read = partitions.iter().map(|data| data.records.as_ref().unwrap());
            assert_eq!(partitions.len(), SIZES.len(), "{what}");
            // The first batch is whole whatever was asked for; here it has one record of ten bytes.
            let (sizes, counts): (Vec<usize>, Vec<usize>) =
                read.map(|records| (records.len(), parse(records).len())).unzip();
            assert_eq!((sizes[0], counts[1]), (0, 1), "{what}");
            assert!(sizes.iter().sum::<usize>() <= MIB, "{what}: {sizes:?}");
            if partition_bytes.min(bytes) <= 1 {
                assert_eq!(counts.iter().sum::<usize>(), 1, "{what}");
            }
        }
    }
}
