//! A small client: one connection, one request at a time, every wait bounded.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, FetchRequest, FetchResponse, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    RequestHeader, ResponseHeader, TopicName, create_topics_request, fetch_request, list_offsets_request,
    metadata_request, produce_request, produce_response::PartitionProduceResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any test should take, shorter than anybody's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a broker.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    correlation_id: i32,
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// TCP, or what was made of it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    /// A client over any stream.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), correlation_id: 0 }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.expect("in time").expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        Self::over(stream)
    }

    /// Sends a request without waiting for its answer.
    pub(crate) async fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text("test")));
        let mut body = BytesMut::new();
        header.encode(&mut body, R::header_version(version)).expect("header");
        request.encode(&mut body, version).expect("body");
        self.send_frame(&body).await;
    }

    pub(crate) async fn send_frame(&mut self, body: &[u8]) {
        let size = i32::try_from(body.len()).expect("small");
        self.send_raw(&[&size.to_be_bytes(), body].concat()).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        let send = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, send).await.expect("in time").expect("sent");
    }

    /// The next answer, which must be to a request of this type.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut frame = self.receive_frame().await.expect("an answer, not the end of the connection");
        let key = ApiKey::try_from(R::KEY).expect("known");
        let header = ResponseHeader::decode(&mut frame, key.response_header_version(version)).expect("header");
        assert!(header.correlation_id <= self.correlation_id);
        let response = R::Response::decode(&mut frame, version).expect("body");
        assert!(!frame.has_remaining(), "{key:?} version {version}: bytes behind the answer");
        response
    }

    /// The next frame; `None` when the broker has closed the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        let read = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(size).expect("a size")];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(frame.into())
        };
        timeout(PATIENCE, read).await.expect("in time")
    }

    /// Takes the beginning of an answer; tells how many bytes of it are left, or nothing when the broker has closed the
    /// connection before.
    pub(crate) async fn receive_beginning(&mut self) -> Option<usize> {
        let read = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut beginning = [0; 1000];
            self.stream.read_exact(&mut beginning).await.ok()?;
            Some(usize::try_from(size).expect("a size") - beginning.len())
        };
        timeout(PATIENCE, read).await.expect("in time")
    }

    /// Takes so many bytes of what comes, and leaves the rest; `false` when the broker has closed the connection before.
    pub(crate) async fn receive_some(&mut self, count: usize) -> bool {
        let mut bytes = vec![0; count];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await.expect("in time").is_ok()
    }

    pub(crate) async fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version).await;
        self.receive::<R>(version).await
    }

    /// Asks for a topic, which creates it.
    /// The error code of creating a topic with so many partitions, and the reason.
    pub(crate) async fn create_with(&mut self, topic: &str, partitions: i32) -> (i16, String) {
        let asked = create_topics_request::CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![asked]).with_timeout_ms(10_000);
        let created = self.call(&request, 7).await.topics.remove(0);
        (created.error_code, created.error_message.map(|reason| reason.to_string()).unwrap_or_default())
    }

    /// Whether an answer arrives within a moment: good for what must not be there, and only for that.
    pub(crate) async fn has_answer(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.stream.read_u8()).await.is_ok()
    }

    pub(crate) async fn create(&mut self, topic: &str) {
        let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let response = self.call(&MetadataRequest::default().with_topics(Some(vec![asked])), 9).await;
        assert_eq!(response.topics[0].error_code, 0);
    }

    /// Produces one batch to partition 0.
    pub(crate) async fn produce(&mut self, topic: &str, batch: Bytes) -> PartitionProduceResponse {
        let mut response = self.call(&produce_request(topic, batch, -1), 9).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Produces one batch to partition 0, which must succeed; answers its offset.
    pub(crate) async fn append(&mut self, topic: &str, batch: Bytes) -> i64 {
        let response = self.produce(topic, batch).await;
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        response.base_offset
    }

    pub(crate) async fn fetch(&mut self, request: &FetchRequest) -> FetchResponse {
        self.call(request, 12).await
    }

    /// The values of every record in partition 0 from `offset` on.
    pub(crate) async fn read_all(&mut self, topic: &str, mut offset: i64) -> Vec<String> {
        let mut values = Vec::new();
        loop {
            let response = self.fetch(&fetch_request(topic, offset, 0, 1)).await;
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, 0);
            let records = partition.records.clone().unwrap_or_default();
            if records.is_empty() {
                return values;
            }
            for batch in super::batch::parse(&records) {
                offset = batch.base_offset + i64::from(batch.count);
                values.extend(batch.values);
            }
        }
    }

    /// The offset of a time in partition 0, and its timestamp.
    pub(crate) async fn list_offset(&mut self, topic: &str, timestamp: i64) -> (i64, i64) {
        let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let asked = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let response = self.call(&ListOffsetsRequest::default().with_topics(vec![asked]), 7).await;
        let found = &response.topics[0].partitions[0];
        assert_eq!(found.error_code, 0);
        (found.offset, found.timestamp)
    }
}

pub(crate) fn produce_request(topic: &str, batch: Bytes, acks: i16) -> ProduceRequest {
    let partition = produce_request::PartitionProduceData::default().with_records(Some(batch));
    let topic =
        produce_request::TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

pub(crate) fn fetch_request(topic: &str, offset: i64, max_wait_ms: i32, min_bytes: i32) -> FetchRequest {
    let partition =
        fetch_request::FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = fetch_request::FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(min_bytes)
        .with_max_bytes(50 << 20)
        .with_topics(vec![topic])
}
