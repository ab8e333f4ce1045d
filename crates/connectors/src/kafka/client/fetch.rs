//! Reads one range of one partition: fetches ahead, unpacks, and hands out borrowed records.
//!
//! ```text
//!   send fetch(a) ─> answer a ─> send fetch(b) ─> walk the batches of a ─> answer b (it came meanwhile) ─> ...
//!                                 b = offset after the last whole batch of a, if that is before the end
//! ```
//!
//! The end is reached by offset and not by count: compaction, aborted transactions and transaction markers leave
//! gaps. With `read_committed`, a batch of a producer is skipped from the first offset the answer's list of aborted
//! transactions names until that producer's abort marker. Records that are gone give [`ClientError::Lost`]; whether
//! that ends the query is the caller's to say.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchResponse, PartitionData};

use super::cluster::{Client, Position, Retry, TopicPartition, topic_name};
use super::compression::{Codec, Decompressor};
use super::connection::Connection;
use super::error::{ClientError, ClientResult};
use super::record_batch::{Batch, Cursor, Record, is_abort_marker, next_offset};

/// Newer versions name topics by id.
const FETCH_MAX_VERSION: i16 = 12;
/// Empty answers in a row, from a broker that says it has the range, before the range counts as read.
const EMPTY_ANSWERS_LIMIT: u32 = 3;

/// Reads the offsets `[start, end)` of one partition.
pub struct PartitionFetcher {
    client: Client,
    partition: TopicPartition,
    next: i64,
    end: i64,
    connection: Option<Connection>,
    asked_for: Option<i64>,
    answer: Answer,
    batch: Option<OpenBatch>,
    decompressor: Decompressor,
    empty_answers: u32,
}

/// The records of one answer, and how far they are walked.
#[derive(Default)]
struct Answer {
    records: Bytes,
    position: usize,
    aborted: AbortedTransactions,
}

/// A batch that is being walked.
struct OpenBatch {
    cursor: Cursor,
    last_offset: i64,
    payload: Payload,
}

/// Where the unpacked records of the open batch stand.
enum Payload {
    InAnswer(Range<usize>),
    Unpacked,
}

impl PartitionFetcher {
    /// A reader of `[start, end)`; asks nothing yet.
    pub fn new(client: Client, partition: TopicPartition, start: i64, end: i64) -> Self {
        Self {
            client,
            partition,
            next: start,
            end,
            connection: None,
            asked_for: None,
            answer: Answer::default(),
            batch: None,
            decompressor: Decompressor::default(),
            empty_answers: 0,
        }
    }

    /// A reader from `start` on that has no end; for [`PartitionFetcher::read_ready`].
    pub fn following(client: Client, partition: TopicPartition, start: i64) -> Self {
        Self::new(client, partition, start, i64::MAX)
    }

    /// The partition it reads.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The next offset to be read; the end when everything was.
    pub fn position(&self) -> i64 {
        self.next
    }

    /// Goes on at a later offset, leaving out what is gone.
    pub fn skip_to(&mut self, offset: i64) {
        self.next = offset.clamp(self.next, self.end);
        (self.batch, self.answer) = (None, Answer::default());
        self.hang_up();
    }

    /// Shows the next records to `visit` until it has enough ([`ControlFlow::Break`]) or the range ends.
    pub fn read<E: From<ClientError>>(
        &mut self,
        mut visit: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        while self.batch.is_some() || self.open_batch()? {
            if self.walk(&mut visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Shows the records that are here to `visit`, or else those of the next answer, which may be none. Does not wait
    /// for more when it has shown some.
    pub fn read_ready<E: From<ClientError>>(
        &mut self,
        mut visit: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        if self.batch.is_none() && !self.open_next_of_answer()? {
            self.fetch()?;
        }
        while self.batch.is_some() || self.open_next_of_answer()? {
            if self.walk(&mut visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Opens the next batch of the answer that has records for the reader; false if it has none.
    fn open_next_of_answer(&mut self) -> ClientResult<bool> {
        while self.open_batch_of_answer()? {
            if self.batch.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Walks the open batch until it ends, the range ends or the visitor has enough.
    #[inline]
    fn walk<E: From<ClientError>>(
        &mut self,
        visit: &mut impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, E> {
        let Some(open) = &mut self.batch else { return Ok(ControlFlow::Continue(())) };
        let payload = match &open.payload {
            Payload::InAnswer(range) => &self.answer.records[range.clone()],
            Payload::Unpacked => self.decompressor.bytes(),
        };
        let mut cursor = open.cursor;
        let mut flow = ControlFlow::Continue(());
        let mut batch_ended = false;
        while flow.is_continue() && !batch_ended && self.next < self.end {
            match cursor.next(payload) {
                Ok(Some(record)) if record.offset < self.next => {}
                Ok(Some(record)) if record.offset >= self.end => self.next = self.end,
                Ok(Some(record)) => {
                    flow = visit(&record)?;
                    self.next = record.offset + 1;
                }
                Ok(None) => {
                    self.next = self.next.max(open.last_offset.saturating_add(1)).min(self.end);
                    batch_ended = true;
                }
                Err(malformed) => return Err(self.corrupt(malformed).into()),
            }
        }
        open.cursor = cursor;
        if batch_ended || self.next >= self.end {
            self.batch = None;
        }
        Ok(flow)
    }

    /// Opens the next batch that has records for the reader; false at the end of the range.
    fn open_batch(&mut self) -> ClientResult<bool> {
        loop {
            if self.next >= self.end {
                self.hang_up();
                return Ok(false);
            }
            if !self.open_batch_of_answer()? {
                self.fetch()?;
            } else if self.batch.is_some() {
                return Ok(true);
            }
        }
    }

    /// Looks at the next batch of the answer; false when there is no whole one left. A batch that has nothing for
    /// the reader is passed over.
    fn open_batch_of_answer(&mut self) -> ClientResult<bool> {
        let answer = &mut self.answer;
        let bytes = &answer.records[answer.position..];
        let (batch, rest) = match Batch::split(bytes) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(false),
            Err(malformed) => return Err(self.corrupt(malformed)),
        };
        let records_end = answer.records.len() - rest.len();
        let records = records_end - batch.records.len()..records_end;
        answer.position = records_end;
        let skipped = answer.aborted.skips(&batch) || batch.control || batch.record_count == 0;
        if skipped || batch.last_offset < self.next {
            self.next = self.next.max(batch.last_offset.saturating_add(1)).min(self.end);
            return Ok(true);
        }
        let checked = batch.check_crc();
        let unpacked = match (&checked, batch.codec) {
            (Ok(()), Codec::None) | (Err(_), _) => Ok(Payload::InAnswer(records)),
            (Ok(()), codec) => self.decompressor.decompress(codec, batch.records).map(|()| Payload::Unpacked),
        };
        let (cursor, last_offset) = (batch.cursor(), batch.last_offset);
        checked.map_err(|malformed| self.corrupt(malformed))?;
        let payload = unpacked.map_err(|error| self.corrupt(error))?;
        self.batch = Some(OpenBatch { cursor, last_offset, payload });
        Ok(true)
    }

    /// Gets the next answer, trying again while the trouble is one that passes.
    fn fetch(&mut self) -> ClientResult<()> {
        self.answer = Answer::default();
        let mut retry = Retry::new(&self.client);
        loop {
            match self.fetch_once() {
                Ok(()) => {
                    retry.succeeded();
                    return Ok(());
                }
                Err(error) => {
                    self.asked_for = None;
                    self.connection = None;
                    retry.pause(&self.client, error)?;
                }
            }
        }
    }

    fn fetch_once(&mut self) -> ClientResult<()> {
        if self.asked_for != Some(self.next) {
            self.asked_for = None;
            if self.connection.as_ref().is_none_or(|connection| !connection.is_idle()) {
                self.connection = Some(self.client.leader_connection(&self.partition)?);
            }
            self.ask(self.next)?;
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let response = connection.receive::<FetchRequest>()?;
        self.asked_for = None;
        let data = self.partition_data(response)?;
        self.take_answer(data)
    }

    /// Sends a fetch from `offset` on.
    fn ask(&mut self, offset: i64) -> ClientResult<()> {
        let settings = self.client.settings();
        let partition = FetchPartition::default()
            .with_partition(self.partition.partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(offset)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(settings.fetch_max_bytes);
        let topic =
            FetchTopic::default().with_topic(topic_name(&self.partition.topic)).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(settings.fetch_max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(settings.fetch_max_bytes)
            .with_isolation_level(i8::from(settings.read_committed))
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        if let Some(connection) = &mut self.connection {
            connection.send(&request, FETCH_MAX_VERSION)?;
            self.asked_for = Some(offset);
        }
        Ok(())
    }

    /// Our partition's part of an answer.
    fn partition_data(&self, response: FetchResponse) -> ClientResult<PartitionData> {
        let what = || format!("a fetch of {} from offset {}", self.partition, self.next);
        if let Some(code) = ResponseError::try_from_code(response.error_code) {
            return Err(ClientError::Refused { what: what(), code });
        }
        let data = response.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let data = data.ok_or_else(|| ClientError::Protocol {
            address: self.connection.as_ref().map_or_else(String::new, |connection| connection.address().to_owned()),
            reason: format!("nothing of {}", self.partition),
        })?;
        match ResponseError::try_from_code(data.error_code) {
            None => Ok(data),
            Some(ResponseError::OffsetOutOfRange) => Err(self.out_of_range()),
            // Kafka calls it retriable, for producers; what a broker has damaged on its disk stays damaged.
            Some(ResponseError::CorruptMessage) => Err(self.corrupt("the broker cannot read them from its disk")),
            Some(code) => Err(ClientError::Refused { what: what(), code }),
        }
    }

    /// Keeps the records of an answer and sends the next request.
    fn take_answer(&mut self, data: PartitionData) -> ClientResult<()> {
        let records = data.records.unwrap_or_default();
        match next_offset(&records) {
            Some(next) => {
                self.empty_answers = 0;
                let aborted = data.aborted_transactions.unwrap_or_default();
                let aborted = aborted.iter().map(|transaction| (transaction.first_offset, transaction.producer_id.0));
                let aborted = AbortedTransactions::new(aborted.collect());
                self.answer = Answer { records, position: 0, aborted };
                if next > self.next && next < self.end {
                    self.ask(next)?;
                }
                Ok(())
            }
            None if records.is_empty() => self.empty_answer(if self.client.settings().read_committed {
                data.last_stable_offset
            } else {
                data.high_watermark
            }),
            None => match Batch::split(&records) {
                Err(malformed) => Err(self.corrupt(malformed)),
                Ok(_) => Err(self.corrupt("the answer ends inside its first batch")),
            },
        }
    }

    /// Nothing came although the range is not read to its end: either the broker has less than it had (it may be
    /// catching up after an election), or only removed records are left.
    fn empty_answer(&mut self, readable_end: i64) -> ClientResult<()> {
        if self.end == i64::MAX {
            // Who follows a partition is mostly at its end.
            return Ok(());
        }
        self.empty_answers += 1;
        if self.empty_answers < EMPTY_ANSWERS_LIMIT {
            return Ok(());
        }
        self.empty_answers = 0;
        if readable_end < self.end {
            return Err(self.out_of_range());
        }
        tracing::warn!(partition = %self.partition, from = self.next, to = self.end, "Kafka holds no records in this range");
        self.next = self.end;
        Ok(())
    }

    /// What the broker does hold; if that is the whole range, it has only just caught up and may be asked again.
    fn out_of_range(&self) -> ClientError {
        let bounds = |position| {
            self.client
                .positions([self.partition.clone()], position)
                .map(|offsets| offsets.get(&self.partition).copied().unwrap_or(-1))
        };
        match (bounds(Position::Earliest), bounds(Position::Latest)) {
            (Ok(earliest), Ok(latest)) if earliest <= self.next && self.end <= latest => ClientError::Refused {
                what: format!("a fetch of {} from offset {}", self.partition, self.next),
                code: ResponseError::OffsetNotAvailable,
            },
            (Ok(earliest), Ok(latest)) => {
                ClientError::Lost { partition: self.partition.clone(), wanted: self.next, earliest, latest }
            }
            (Err(error), _) | (_, Err(error)) => error,
        }
    }

    /// Gives the connection back to the others; one with an answer on its way is closed.
    fn hang_up(&mut self) {
        self.asked_for = None;
        if let Some(connection) = self.connection.take() {
            self.client.give_back(connection);
        }
    }

    fn corrupt(&self, reason: impl ToString) -> ClientError {
        ClientError::Corrupt {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition,
            offset: self.next,
            reason: reason.to_string(),
        }
    }
}

impl Drop for PartitionFetcher {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// The aborted transactions of one answer, by the offset each begins at.
#[derive(Default)]
struct AbortedTransactions {
    not_begun: Vec<(i64, i64)>,
    begun: HashSet<i64>,
}

impl AbortedTransactions {
    /// From pairs of (first offset, producer id).
    fn new(mut transactions: Vec<(i64, i64)>) -> Self {
        transactions.sort_unstable_by(|a, b| b.cmp(a));
        Self { not_begun: transactions, begun: HashSet::new() }
    }

    /// Whether the batch was aborted; batches must come in their order.
    fn skips(&mut self, batch: &Batch<'_>) -> bool {
        if !batch.transactional || (self.not_begun.is_empty() && self.begun.is_empty()) {
            return false;
        }
        while let Some((first_offset, producer_id)) = self.not_begun.pop_if(|(first, _)| *first <= batch.last_offset) {
            tracing::trace!(first_offset, producer_id, "an aborted transaction begins");
            self.begun.insert(producer_id);
        }
        if batch.control && is_abort_marker(batch) {
            self.begun.remove(&batch.producer_id);
        }
        self.begun.contains(&batch.producer_id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{encode, record};
    use super::*;
    use kafka_protocol::records::Compression;

    const COMMIT: &[u8] = &[0, 0, 0, 1];
    const ABORT: &[u8] = &[0, 0, 0, 0];

    /// One record of a transaction, or the marker that ends it.
    fn batch(offset: i64, producer_id: i64, marker: Option<&'static [u8]>) -> Bytes {
        let mut record = record(offset, None, Some(b"v".to_vec()));
        (record.transactional, record.producer_id, record.producer_epoch) = (producer_id >= 0, producer_id, 0);
        if let Some(marker) = marker {
            (record.control, record.key) = (true, Some(Bytes::from_static(marker)));
        }
        encode(&[record], Compression::None)
    }

    #[test]
    fn aborted_transactions_are_skipped_and_no_others() {
        // Producer 7 aborts 10 to 12 and commits 14; producer 8 commits 11; 13 is in no transaction.
        let mut aborted = AbortedTransactions::new(vec![(10, 7)]);
        let log = [
            (batch(9, 7, None), false),
            (batch(10, 7, None), true),
            (batch(11, 8, None), false),
            (batch(12, 7, None), true),
            (batch(13, -1, None), false),
            (batch(14, 8, Some(COMMIT)), false),
            (batch(15, 7, Some(ABORT)), false),
            (batch(16, 7, None), false),
        ];
        for (bytes, expected) in &log {
            let (batch, _) = Batch::split(bytes).unwrap().unwrap();
            assert_eq!(aborted.skips(&batch), *expected, "offset {}", batch.base_offset);
        }
    }
}
